"""Private functions of MNE-Python that this package uses.

They are all imported here, so that changes in a new release concern only this module.
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
    """An ``info['description']`` that MNE-Python can merge with that of a recording.

    ``raw.add_channels([virtual])`` merges two descriptions in a set and uses its first
    element. If the recording has none, the order of ``{None, text}`` depends on the
    hash of the text, and MNE-Python (1.13) sometimes raises a ``RuntimeError``. This
    class equals None, so that the set has one element and the recording keeps its
    description.
    """

    def __eq__(self, other):
        return other is None or str(self) == other

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash(None)


def set_band(info, highpass, lowpass):
    """Set the band in an Info, which has no public setter.

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
    """Write the provenance to an Info, where MNE-Python keeps it.

    ``anonymize()`` replaces ``info['description']``, and combining recordings removes
    it. Both keep the processing history, and so do FIF files.

    Parameters
    ----------
    info : Info
        Changed in place.
    text : str
        The provenance.
    device : str
        A text for the field of the device.
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
    """Return which samples of a Raw are annotated as bad.

    Parameters
    ----------
    raw : Raw
        The recording.

    Returns
    -------
    bad : ndarray of bool, shape (n_times,)
        Whether an annotation that begins with ``bad`` or ``edge`` covers the sample.
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


def files_of(inst):
    """Return the files that a recording or epochs will still be read from.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording.

    Returns
    -------
    files : list of str
        Empty if everything is in memory.
    """
    if inst.preload:
        return []
    # Epochs read from a file keep it open in parts; others keep their recording.
    sources = getattr(inst, "_raw", inst)
    sources = sources if isinstance(sources, list) else [sources]
    files = []
    for source in sources:
        if hasattr(source, "fid"):
            files.append(source.fid.name)
        elif source is not None and not source.preload:
            files += [fname for fname in source.filenames if fname is not None]
    return list(map(str, files))
