"""The spatial stage of one recording: from its scalp to the mean at the contacts.

A stage is made once for a recording, from the whole of it, and then splits any stretch.
This room knows the recording, the head and what pairs have taught, in numpy alone; of
the flow and of who asks it never knows. Every stage has

- ``posterior``, a :class:`~mne_neuroflow.head.posterior.SpatialPosterior` at unit gain:
  covariance, spreads and observability of the contacts;
- ``halo``, the samples at 128 Hz that it needs on either side of a stretch;
- ``split(wide)``, which takes a stretch with its halo, (n_channels, n_times + 2 * halo)
  in volts, and returns the scalp that the flow looks at, (n_channels, n_times), and the
  mean at the contacts, (n_contacts, n_times) in volts, or None where that is no more
  than the posterior's operator on this scalp, which the flow applies by itself.

Another stage is another class of these three names, chosen in :func:`find_stage`.
"""

import numpy as np

from ._compat import logger
from ._text import listed
from .contract import BLOCK
from .head.ridge import N_LAGS
from .head.wiener import (
    N_HALO,
    band_covariance,
    clip,
    find_scalp_filter,
    loudest,
    scaled_to,
)
from .scalp import check_scalp

# Times an electrode's amplitude in the pairs, or one over it, from which it is taken
# for bad.
_FAR = 6.0
# Seconds of one stretch that the scalp's covariance is computed from, and their number.
_STRETCH, _N_STRETCHES = 10, 18


class PhysicsStage:
    """The head model's posterior, after electrodes are freed of excess noise.

    Parameters
    ----------
    scalp : Scalp
        The recording.
    physics : SpatialPosterior
        Of the contacts given its electrodes.
    """

    halo = N_HALO

    def __init__(self, scalp, physics):
        self.posterior = physics
        self._filter = filter_as_expected(scalp, physics.scalp_covariance)

    def split(self, wide):
        """Split a stretch with its halo into scalp and mean; see the module."""
        return self._filter(wide), None


class PairsStage:
    """A map from pairs of recordings, after the scalp is made like theirs.

    Parameters
    ----------
    scalp_filter : ScalpFilter
        From the recording's channels to the scalp of the pairs.
    physics : SpatialPosterior
        Of the contacts given the recording's electrodes.
    implant : Implant
        What pairs have taught, with a map.
    """

    halo = N_HALO + N_LAGS

    def __init__(self, scalp_filter, physics, implant):
        self._gain, self._map = implant.gain, implant.lagged
        self.scalp_filter = scalp_filter
        error = scalp_filter.error(self._map.weights)
        self.posterior = self._map.update(physics, error)

    def is_for(self, lagged):
        """Tell whether another map is from the same pairs, so that the filter holds."""
        return self._map.scalp_covariance is lagged.scalp_covariance

    def split(self, wide):
        """Split a stretch with its halo into scalp and mean; see the module."""
        clean = self.scalp_filter(wide / self._gain)
        inner = wide[:, self.halo : wide.shape[1] - self.halo]
        return inner, self._gain * self._map.mean(clean)


def find_stage(scalp, physics, implant, before=None):
    """Choose the spatial stage of a recording.

    Parameters
    ----------
    scalp : Scalp
        The recording, from :func:`check_as_fitted`.
    physics : SpatialPosterior
        Of the contacts given its electrodes.
    implant : Implant
        What pairs have taught of the contacts.
    before : PhysicsStage | PairsStage | None
        The stage of the same recording under another implant, whose filter is kept
        where it is the same.

    Returns
    -------
    stage : PhysicsStage | PairsStage
        As the module describes.
    """
    if implant.lagged is None:
        return before if type(before) is PhysicsStage else PhysicsStage(scalp, physics)
    if type(before) is PairsStage and before.is_for(implant.lagged):
        return PairsStage(before.scalp_filter, physics, implant)
    return PairsStage(filter_as_fitted(scalp, implant), physics, implant)


def check_as_fitted(inst, implant, trans, on_mismatch):
    """Check a scalp recording, without EEG channels that the fit does not know.

    One that is far louder or far more silent than it was in the pairs is left out as
    well; the most unlike first, because the average reference spreads what it holds
    over the others.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG.
    implant : Implant
        What pairs have taught of the contacts.
    trans : str | path-like | Transform
        As for :func:`mne_neuroflow.predict_ieeg`.
    on_mismatch : str
        As for :func:`mne_neuroflow.predict_ieeg`.

    Returns
    -------
    scalp : Scalp
        The recording, checked.
    """
    if implant.lagged is None or not hasattr(inst, "info"):
        return check_scalp(inst, trans=trans, on_mismatch=on_mismatch)
    bads = inst.info["bads"]
    kept = [e for e in implant.electrodes if e in inst.ch_names and e not in bads]
    if 2 * len(kept) < len(implant.electrodes):
        absent = sorted(set(implant.electrodes).difference(kept))
        raise ValueError(
            "More than half of the EEG channels that the model was fitted with are "
            f"missing, bad, or more than {_FAR:g} times as loud as they were or as "
            f"silent: {listed(absent)}. Fit again without them."
        )
    inst = inst.copy().pick(kept, verbose=False)
    scalp = check_scalp(inst, trans=trans, on_mismatch=on_mismatch)
    place = [implant.electrodes.index(name) for name in scalp.ch_names]
    amplitude = scalp.robust_rms() / (implant.gain * implant.lagged.scalp_rms[place])
    unlike = np.maximum(amplitude, 1 / amplitude)
    if unlike.max() < _FAR:
        return scalp
    inst.info["bads"] = [scalp.ch_names[unlike.argmax()]]
    return check_as_fitted(inst, implant, trans, on_mismatch)


def filter_as_fitted(scalp, implant):
    """Compute the filter from a recording to the scalp of the pairs.

    Parameters
    ----------
    scalp : Scalp
        The recording, from :func:`check_as_fitted`.
    implant : Implant
        What pairs have taught.

    Returns
    -------
    scalp_filter : ScalpFilter
        From the channels at hand to those of the pairs.
    """
    lagged, names = implant.lagged, scalp.ch_names
    heard = np.array([implant.electrodes.index(name) for name in names])
    absent = sorted(set(implant.electrodes).difference(names))
    if absent:
        logger.info(
            "Estimated from the other EEG channels, because they are missing, bad or "
            "unlike what they were in the pairs that the model was fitted to: %s.",
            listed(absent),
        )
    limit = loudest(lagged.scalp_rms[heard])
    observed = _covariance(scalp, implant.gain, limit)
    return find_scalp_filter(lagged.scalp_covariance, limit, heard, observed)


def filter_as_expected(scalp, expected):
    """Compute the filter from a recording to what the head model expects.

    Parameters
    ----------
    scalp : Scalp
        The recording.
    expected : array of shape (n_electrodes, n_electrodes)
        Covariance of the electrodes, in any unit.

    Returns
    -------
    scalp_filter : ScalpFilter
        For volts.
    """
    limit = loudest(scalp.robust_rms())
    observed = _covariance(scalp, 1.0, limit)
    everything = np.arange(len(expected))
    usual = scaled_to(observed, expected)
    return find_scalp_filter(usual, limit, everything, observed)


def _covariance(scalp, gain, limit):
    """Covariance in each band of what is seen of a recording, over a gain squared."""
    return band_covariance(clip(piece / gain, limit) for piece in _stretches(scalp))


def _stretches(scalp):
    """Yield stretches of good time, with the halo of the filter."""
    for epoch, first, length in scalp.good_stretches(_STRETCH, _N_STRETCHES):
        wide = scalp.to_model(first - 1, length + 2, epoch)
        yield wide[:, BLOCK - N_HALO : N_HALO - BLOCK]
