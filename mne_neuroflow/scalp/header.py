"""What the header of a scalp recording must say: kind, rate, length, filters, units.

This module knows MNE objects and their ``info``. It must never know positions or
samples.
"""

import mne
import numpy as np
from mne.io.constants import FIFF

from .._compat import _validate_type, logger, make_projector
from .._text import listed
from ..contract import BAND
from ..virtual import provenance
from .mismatch import report_mismatch

MIN_SFREQ = 100.0
_CLOCK = 1e-3  # tolerance of a sampling rate, as a share
MIN_DURATION = 1.0


def check_container(inst):
    """Refuse objects other than Raw and Epochs."""
    if isinstance(inst, mne.Evoked):
        raise TypeError(
            "inst must be an instance of Raw or Epochs, got Evoked. The model is not "
            "linear, so that its prediction for an average is not the average of its "
            "predictions: predict the epochs and average the result."
        )
    _validate_type(inst, (mne.io.BaseRaw, mne.BaseEpochs), "inst", "Raw or Epochs")


def check_recorded(inst):
    """Refuse recordings that were predicted themselves."""
    text = provenance(inst)
    # Virtual channels can be in one recording with the scalp EEG.
    if text and not {"seeg", "ecog", "dbs"}.intersection(inst.get_channel_types()):
        raise ValueError(
            f"The EEG was predicted, not recorded, as the recording says: {text!r}. A "
            "prediction from a prediction tells nothing of a brain: give the scalp "
            "recording itself."
        )


def check_rate(sfreq, remedy=""):
    """Refuse sampling rates that are too low for the model's band.

    Parameters
    ----------
    sfreq : float
        Sampling rate in hertz.
    remedy : str
        A remedy for the error message.
    """
    # Clocks are not exact, so accept 99.99 Hz as 100 Hz.
    if sfreq < (1 - _CLOCK) * MIN_SFREQ:
        raise ValueError(
            f"The sampling rate must be at least {MIN_SFREQ:g} Hz, because the model "
            f"needs {BAND[0]:g}-{BAND[1]:g} Hz, but got {sfreq:.6g} Hz.{remedy}"
        )


def check_rate_and_length(inst):
    """Refuse recordings and epochs that are too slow or too short."""
    sfreq = inst.info["sfreq"]
    check_rate(sfreq, _if_decimated(inst))
    # A second has 1000 samples at 1000.01 Hz too.
    if len(inst.times) + 1 < MIN_DURATION * sfreq:
        what = "recording" if isinstance(inst, mne.io.BaseRaw) else "epochs"
        raise ValueError(
            f"The {what} must last for at least {MIN_DURATION:g} s, but got "
            f"{len(inst.times) / sfreq:.6g} s, {len(inst.times)} samples at "
            f"{sfreq:.6g} Hz."
        )


def _if_decimated(inst):
    """Return a remedy for decimated epochs: a smaller decimation."""
    raw_sfreq = getattr(inst, "_raw_sfreq", None)
    if raw_sfreq is None or raw_sfreq < MIN_SFREQ or raw_sfreq <= inst.info["sfreq"]:
        return ""
    return (
        f" These epochs were decimated from {raw_sfreq:g} Hz: make them with a smaller "
        "'decim', or predict before decimating."
    )


def check_band(info, on_mismatch):
    """Warn or raise if filters have removed part of the model's band.

    Parameters
    ----------
    info : Info
        Info of the recording.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    low, high = info["highpass"] or 0.0, info["lowpass"] or np.inf
    wrong = []
    if low > 1.0:
        wrong.append(f"is high-passed at {low:g} Hz")
    if high < 30.0:
        wrong.append(f"is low-passed at {high:g} Hz")
    if wrong:
        report_mismatch(
            f"The recording {' and '.join(wrong)}, but the model was built for "
            f"{BAND[0]:g}-{BAND[1]:g} Hz: what was filtered away cannot be predicted. "
            "Filter less, with inst.filter() of the original recording.",
            on_mismatch,
        )


def check_quantity(info, chs):
    """Refuse EEG channels that do not contain potentials."""
    if info["custom_ref_applied"] == FIFF.FIFFV_MNE_CUSTOM_REF_CSD:
        raise ValueError(
            "The EEG channels hold a current source density, whatever their type: "
            "MNE-Python has noted it in inst.info['custom_ref_applied']. The model "
            "needs potentials: give the recording before "
            "mne.preprocessing.compute_current_source_density()."
        )
    other = [ch["ch_name"] for ch in chs if ch["unit"] != FIFF.FIFF_UNIT_V]
    if other:
        raise ValueError(
            f"EEG channels that are not in volts: {listed(other)}. The model reads "
            "potentials: give the recording before it was filtered over space, or set "
            "the type of these channels with inst.set_channel_types()."
        )


def why_no_eeg(info, every):
    """Describe which channels a recording has instead of EEG, and what to do."""
    if len(every):
        return f"all {len(every)} are in inst.info['bads']."
    types = sorted(set(info.get_channel_types()))
    found = f"it has none, only channels of type {listed(map(repr, types))}."
    if "csd" in types:
        return (
            f"{found} A current source density has lost what the model reads: give the "
            "recording before mne.preprocessing.compute_current_source_density()."
        )
    if {"seeg", "ecog", "dbs"}.intersection(types):
        return (
            f"{found} Intracranial recordings are what is predicted: give their places "
            "with contacts=ieeg.info, and the scalp EEG of the same patient as inst."
        )
    if {"mag", "grad"}.intersection(types):
        return f"{found} The model is for scalp EEG and knows no MEG."
    return (
        f"{found} If some are scalp electrodes, set their type with "
        "inst.set_channel_types()."
    )


def reference_operator(info, ch_names):
    """Return the linear map of the recording's projectors and the average reference.

    Parameters
    ----------
    info : Info
        Info of the recording.
    ch_names : list of str
        The channels that are used.

    Returns
    -------
    operator : ndarray, shape (n_channels, n_channels)
        The map: projectors first, then the average reference.
    """
    projector, n_projectors, _ = make_projector(info["projs"], ch_names)
    if n_projectors:
        logger.info("Applied %d projectors of the recording.", n_projectors)
    return projector - projector.mean(axis=0)


def describe_reference(info):
    """Say in words which reference was found, and which one is used."""
    average = [p for p in info["projs"] if "average" in p["desc"].lower()]
    if average:
        found = "an average-reference projector"
    elif info["custom_ref_applied"]:
        found = "a reference set in MNE (an average or an electrode)"
    else:
        found = "that of the recording"
    return f"found {found}; re-referenced to the average of the channels used"
