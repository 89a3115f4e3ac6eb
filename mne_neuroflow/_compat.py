"""Everything borrowed from MNE that MNE does not promise to keep.

One place to look when a new MNE release moves something.
"""

from functools import partial

import numpy as np
from mne._fiff.write import DATE_NONE
from mne.annotations import _annotations_starts_stops
from mne.proj import make_projector
from mne.utils import ProgressBar, _check_option, _validate_type, logger, verbose
from mne.utils import warn as _mne_warn

# Warnings point at the line of the user, not at a line of this package.
warn = partial(_mne_warn, ignore_namespaces=("mne", "mne_neuroflow"))


class Description(str):
    """An ``info['description']`` that MNE can merge with that of a recording.

    ``raw.add_channels([virtual])`` merges the two descriptions through a set and
    looks at its first element. When the recording has none, ``{None, text}`` is in
    an order that changes with the hash of the text, and about every fifth time MNE
    (1.13) gives up with a ``RuntimeError``. Counting as equal to None, the set
    has one element and the recording keeps what it had.
    """

    def __eq__(self, other):
        return other is None or str(self) == other

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash(None)


def set_band(info, highpass, lowpass):
    """Say in an Info which band its data hold, which MNE lets no user do.

    Parameters
    ----------
    info : Info
        Changed in place.
    highpass, lowpass : float
        Edges in hertz.
    """
    with info._unlock():
        info["highpass"], info["lowpass"] = float(highpass), float(lowpass)


def sign(info, text, device):
    """Write into an Info where its data come from, in places that MNE keeps.

    ``info['description']`` is rewritten by ``anonymize()`` and lost where recordings
    are put together. A record of processing is kept by both, and by FIF files.

    Parameters
    ----------
    info : Info
        Changed in place.
    text : str
        What to write.
    device : str
        What stands in the place of a device.
    """
    nothing = dict(sss_info={}, max_st={}, sss_ctc={}, sss_cal={})
    block = dict(machid=np.zeros(2, np.int32), version=0)
    block |= dict(zip(("secs", "usecs"), DATE_NONE, strict=True))
    record = dict(block_id=block, date=DATE_NONE, experimenter="", creator=text)
    with info._unlock():
        info["description"] = Description(text)
        info["proc_history"] = [*info["proc_history"], dict(record, max_info=nothing)]
        info["device_info"] = dict(type=device, model="mne_neuroflow")


def bad_samples(raw):
    """Tell which samples of a Raw are annotated as bad.

    Parameters
    ----------
    raw : Raw
        With annotations.

    Returns
    -------
    bad : ndarray of bool, shape (n_times,)
        Whether an annotation covers them that begins with ``bad`` or ``edge``.
    """
    bad = np.zeros(raw.n_times, bool)
    starts, stops = _annotations_starts_stops(raw, ("bad", "edge"))
    for start, stop in zip(starts, stops, strict=True):
        bad[start : max(stop, start + 1)] = True
    return bad


__all__ = [
    "Description",
    "ProgressBar",
    "_check_option",
    "_validate_type",
    "bad_samples",
    "logger",
    "make_projector",
    "set_band",
    "sign",
    "verbose",
    "warn",
]
