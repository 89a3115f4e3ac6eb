"""Whether a recording and its contacts are like those of the model's training.

These checks know the bounds of the training data. They do not know how a recording was
read, or what is predicted from it.
"""

import numpy as np

from .._compat import logger
from .._text import listed
from ..contract import BAND, TRAINED, TRAINED_STRUCTURES
from ..head.bands import EDGES
from ..head.geometry import load_head, nearest_distance
from ..head.source_powers import load_source_prior
from .mismatch import report_mismatch

# Power of a band over the expected one. Simulations have 0.15 or more, two real
# recordings 0.4, white noise 0.05, and what filters have taken away 0.003 or less.
_EMPTY_BAND = 0.01
_NEARLY_ALL = 0.9  # share of independent signals from which none is said to be missing


def check_gain(gain, on_mismatch):
    """Warn or raise if the amplitude differs from that of the training.

    Parameters
    ----------
    gain : float
        Ratio of the amplitude of the scalp EEG to the expected one.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    low, high = TRAINED["gain"]
    if not low < gain < high:
        report_mismatch(
            f"The scalp's amplitude is {gain:.2g} times what the model "
            f"expects; the training recordings lie between {low:g} and {high:g} "
            "times: do not trust the intervals. Check the units, and mark bad "
            "channels in inst.info['bads'].",
            on_mismatch,
        )


def check_spectrum(posterior, info, on_mismatch):
    """Warn if the recording was filtered and does not say so.

    Parameters
    ----------
    posterior : AdaptedPosterior
        The head model with the recording's sources.
    info : Info
        Of the recording.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    edges = np.array([BAND[0], *EDGES, BAND[1]])
    power = posterior.sources.gain / posterior.gain**2 / load_source_prior().spectrum
    empty = power < _EMPTY_BAND
    empty[-1] = False  # as after a low-pass at 30 Hz, which does no harm
    empty[edges[1:] <= info["highpass"]] = False  # check_band() has warned
    empty[edges[:-1] >= info["lowpass"]] = False
    if empty.any():
        low, high = edges[:-1][empty].min(), edges[1:][empty].max()
        report_mismatch(
            f"The EEG has hardly any power in bands between {low:g} and {high:g} Hz, "
            "as after a filter that inst.info does not mention. The model was built "
            f"for {BAND[0]:g}-{BAND[1]:g} Hz: what was filtered away cannot be "
            "predicted. Give the recording as it was before the filter.",
            on_mismatch,
        )


def check_independent(n_independent, n_possible, on_mismatch):
    """Warn if most channels are sums of others.

    Parameters
    ----------
    n_independent, n_possible : int
        How many independent signals the scalp EEG holds, and how many it could.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    if n_independent >= _NEARLY_ALL * n_possible:
        return
    found = (
        f"The EEG holds {n_independent} independent signals, where its electrodes "
        f"could record {n_possible}: the others are sums of these, as after a filter "
        "over space, a removal of components (ICA) or an interpolation of channels."
    )
    if n_independent >= TRAINED["independent"][0] * n_possible:
        logger.info("%s", found)
        return
    report_mismatch(
        f"{found} The model was built for EEG with more than "
        f"{100 * TRAINED['independent'][0]:g} % of them: do not trust the intervals. "
        "Give the recording as it was before this step, or mark channels that were "
        "interpolated in inst.info['bads'].",
        on_mismatch,
    )


def check_likeness(electrodes, ch_names, positions, on_mismatch):
    """Warn or raise if electrodes or contacts differ from those of the training.

    Parameters
    ----------
    electrodes : list of str
        EEG channels that are used.
    ch_names : list of str
        Contacts.
    positions : ndarray, shape (n_contacts, 3)
        Where they are, metres, fsaverage surface RAS.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    n_electrodes = len(electrodes)
    low, high = TRAINED["electrodes"]
    if not low <= n_electrodes <= high:
        remedy = (
            "Interpolate or rename channels, or expect wide intervals to be too narrow."
            if n_electrodes < low
            else f"Use inst.pick() to keep {high} or fewer that cover the head, or "
            "do not trust the intervals."
        )
        report_mismatch(
            f"The recording has {n_electrodes} usable EEG channels, but the model "
            f"was trained on {low} to {high}. {remedy}",
            on_mismatch,
        )
    head = load_head()
    near = head.patch_centres[np.isin(head.patch_structure, TRAINED_STRUCTURES)]
    farthest = TRAINED["from_temporal_lobes"][1]
    far = nearest_distance(positions, near) > farthest
    if far.any():
        names = listed(np.array(ch_names)[far])
        report_mismatch(
            f"{far.sum()} of {len(far)} contacts are more than "
            f"{1e3 * farthest:.0f} mm from the temporal lobes, around which the "
            f"model was trained: {names}. Leave them out with make_contacts(), or "
            "do not trust their intervals.",
            on_mismatch,
        )
