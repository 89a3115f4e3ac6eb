"""The spatial stage of one recording: from its scalp to the mean at the contacts.

A stage is made once for a recording, from the whole of it, and then takes any stretch.
Without pairs it is the head model with the recording's own sources, with pairs the map
that they have taught. This room knows the recording, the head and what pairs have
taught, in numpy alone; of the flow and of who asks it never knows. Every stage has

- ``posterior``, an :class:`~mne_neuroflow.head.adaptive.AdaptedPosterior` at unit gain:
  covariances, spreads and observability of the contacts;
- ``mean(wide)``, which takes a stretch with :data:`HALO` samples at 128 Hz on either
  side, (n_channels, n_times + 2 * HALO) in volts, and returns the mean at the contacts,
  (n_contacts, n_times) in volts.

Another stage is another class with these two names, chosen in :func:`find_stage`.
"""

import numpy as np

from ._compat import logger
from ._text import listed
from .contract import BLOCK
from .head import wiener
from .head.adaptive import CLIP, adapt, band_covariance, scalp_model
from .head.adaptive import N_HALO as HALO
from .head.geometry import load_head
from .head.leadfield import contact_lead_field, scalp_lead_field
from .head.posterior import source_generators
from .head.ridge import N_LAGS
from .scalp import check_scalp

# Times an electrode's amplitude in the pairs, or one over it, from which it is taken
# for bad.
_FAR = 6.0
# Seconds of one stretch that the scalp's covariance is computed from, and their number.
_STRETCH, _N_STRETCHES = 10, 18


class AdaptedStage:
    """The head model with the sources of one recording.

    Parameters
    ----------
    scalp : Scalp
        The recording.
    contacts : array of shape (n_contacts, 3)
        Positions in metres, fsaverage surface RAS.

    Attributes
    ----------
    posterior : AdaptedPosterior
        What the scalp says of the contacts and what it leaves open.
    """

    def __init__(self, scalp, contacts):
        head = load_head()
        factor = source_generators(head).factor
        fields = scalp_lead_field(head, scalp.electrodes).astype(np.float32) @ factor
        deep = contact_lead_field(head, contacts).astype(np.float32) @ factor
        model = scalp_model(fields, scalp.electrodes, scalp.operator)
        rms = scalp.robust_rms()
        limit = CLIP * rms[:, None]
        pieces = (np.clip(p, -limit, limit) for p in stretches(scalp, HALO))
        self.posterior = adapt(model, deep, band_covariance(pieces), rms)

    def mean(self, wide):
        """Compute the posterior mean of a stretch with its halo; see the module."""
        return self.posterior.apply(wide)


class PairsStage:
    """A map from pairs of recordings, after the scalp is made like theirs.

    Parameters
    ----------
    scalp_filter : ScalpFilter
        From the recording's channels to the scalp of the pairs.
    physics : AdaptedPosterior
        Of the contacts given the recording.
    implant : Implant
        What pairs have taught, with a map.
    """

    def __init__(self, scalp_filter, physics, implant):
        self._gain, self._map = implant.gain, implant.lagged
        self.scalp_filter = scalp_filter
        error = scalp_filter.error(self._map.weights)
        self.posterior = self._map.update(physics, error)

    def is_for(self, lagged):
        """Tell whether another map is from the same pairs, so that the filter holds."""
        return self._map.scalp_covariance is lagged.scalp_covariance

    def mean(self, wide):
        """Apply the map to a stretch with its halo; see the module."""
        spare = HALO - wiener.N_HALO - N_LAGS
        clean = self.scalp_filter(wide[:, spare:-spare] / self._gain)
        return self._gain * self._map.mean(clean)


def find_stage(scalp, adapted, implant, before=None):
    """Choose the spatial stage of a recording.

    Parameters
    ----------
    scalp : Scalp
        The recording, from :func:`check_as_fitted`.
    adapted : AdaptedStage
        The head model's stage of the recording and its contacts.
    implant : Implant
        What pairs have taught of the contacts.
    before : AdaptedStage | PairsStage | None
        The stage of the same recording under another implant, whose filter is kept
        where it is the same.

    Returns
    -------
    stage : AdaptedStage | PairsStage
        As the module describes.
    """
    if implant.lagged is None:
        return adapted
    if type(before) is PairsStage and before.is_for(implant.lagged):
        return PairsStage(before.scalp_filter, adapted.posterior, implant)
    return PairsStage(filter_as_fitted(scalp, implant), adapted.posterior, implant)


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
    limit = wiener.loudest(lagged.scalp_rms[heard])
    observed = _covariance(scalp, implant.gain, limit)
    return wiener.find_scalp_filter(lagged.scalp_covariance, limit, heard, observed)


def _covariance(scalp, gain, limit):
    """Covariance in each band of what is seen of a recording, over a gain squared."""
    pieces = stretches(scalp, wiener.N_HALO)
    return wiener.band_covariance(wiener.clip(p / gain, limit) for p in pieces)


def stretches(scalp, halo):
    """Yield stretches of good time from all over a recording.

    Parameters
    ----------
    scalp : Scalp
        The recording.
    halo : int
        Samples before and after each stretch, at most a second.

    Yields
    ------
    stretch : array of shape (n_electrodes, n_times + 2 * halo)
        Referenced volts at 128 Hz.
    """
    for epoch, first, length in scalp.good_stretches(_STRETCH, _N_STRETCHES):
        wide = scalp.to_model(first - 1, length + 2, epoch)
        yield wide[:, BLOCK - halo : wide.shape[1] - BLOCK + halo]
