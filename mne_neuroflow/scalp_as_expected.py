"""A scalp recording without what is noisier in it than a model expects.

A model expects of the scalp what the head model tells or, where it was fitted to
pairs, what it was like in these: the same EEG channels, as noisy as they were there.
Here a recording is brought to that.
"""

import numpy as np

from ._compat import logger
from ._text import listed
from .contract import BLOCK
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


def check_as_fitted(inst, implant, trans, on_unlike):
    """Check a scalp recording, without EEG channels that the fit does not know.

    One that is far louder or far more silent than it was in the pairs is left out as
    well; the most unlike first, because the average reference spreads what it holds
    over the others.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG.
    implant : Implant | None
        What pairs have taught, if anything.
    trans : str | path-like | Transform
        As for :func:`mne_neuroflow.predict_ieeg`.
    on_unlike : str
        As for :func:`mne_neuroflow.predict_ieeg`.

    Returns
    -------
    scalp : Scalp
        The recording, checked.
    """
    if implant is None or implant.lagged is None or not hasattr(inst, "info"):
        return check_scalp(inst, trans=trans, on_unlike=on_unlike)
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
    scalp = check_scalp(inst, trans=trans, on_unlike=on_unlike)
    place = [implant.electrodes.index(name) for name in scalp.ch_names]
    loudness = scalp.robust_rms() / (implant.gain * implant.lagged.scalp_rms[place])
    unlike = np.maximum(loudness, 1 / loudness)
    if unlike.max() < _FAR:
        return scalp
    inst.info["bads"] = [scalp.ch_names[unlike.argmax()]]
    return check_as_fitted(inst, implant, trans, on_unlike)


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
