"""Recorded intracranial EEG, checked and at the model's rate."""

import copy

import mne
import numpy as np

from ._compat import _validate_type, warn
from ._text import listed
from .head.contacts import check_monopolar
from .recording import Recording
from .scalp.header import MIN_SFREQ
from .scalp.mismatch import report_mismatch
from .scalp.samples import DEAD, LARGER
from .virtual import provenance

# Typical standard deviations (volts) outside these limits are a wrong unit: iEEG has
# 20 to 300 uV, and a bad channel among many does not move the median.
_STD_LIMITS = (1e-7, 1e-2)
_CHUNK_SECONDS = 60
# Seconds by which two recordings of the same moments may differ in length: a few
# samples at the ordinary rates.
_LENGTH_TOLERANCE = 0.05
_START_TOLERANCE = 1.0  # dates in many files have whole seconds


class Ieeg(Recording):
    """A checked recording of stereo-EEG or ECoG contacts.

    Made by :func:`check_ieeg`.

    Attributes
    ----------
    info : Info
        The Info of the contacts that are used.
    flat : list of str
        The contacts with constant signals.
    """

    def __init__(self, inst, picks):
        super().__init__(inst, picks)
        self.info = mne.pick_info(inst.info, picks)
        self.flat = _check_samples(self)

    def pick(self, ch_names):
        """Select contacts, in the given order.

        Parameters
        ----------
        ch_names : list of str
            The names of the contacts.

        Returns
        -------
        ieeg : Ieeg
            The same recording, which is not checked again.
        """
        if ch_names == self.ch_names:
            return self
        some = copy.copy(self)
        some._picks = self._picks[[self.ch_names.index(name) for name in ch_names]]
        some.ch_names = list(ch_names)
        some.info = mne.pick_info(self.inst.info, some._picks)
        some._find_gaps(self._gaps.spans)
        return some

    def check_against(self, scalp):
        """Refuse recordings that cannot be of the same time.

        Parameters
        ----------
        scalp : Scalp
            The scalp recording.
        """
        if self.kind != scalp.kind:
            raise TypeError("inst and ieeg must both be Raw or both be Epochs.")
        if self.n_epochs != scalp.n_epochs:
            raise ValueError(
                "inst and ieeg must hold the same epochs, but got "
                f"{scalp.n_epochs} and {self.n_epochs}."
            )
        lengths = scalp.n_times / scalp.sfreq, self.n_times / self.sfreq
        if abs(lengths[0] - lengths[1]) > _LENGTH_TOLERANCE:
            raise ValueError(
                "inst and ieeg must last equally long, but got "
                f"{lengths[0]:.3f} s and {lengths[1]:.3f} s."
            )
        apart = _start(self.inst) - _start(scalp.inst) if self.kind == "raw" else 0.0
        if abs(apart) > _START_TOLERANCE:
            warn(
                f"By inst.info['meas_date'] and what was cropped, ieeg begins "
                f"{apart:.6g} s after inst. Crop both to the same time. If the date of "
                "one is wrong, give it that of the other with set_meas_date()."
            )
        if self.kind == "epochs" and not _same_moments(scalp.inst, self.inst):
            warn(
                "The epochs of inst and ieeg seem to be of different moments: their "
                "tmin differs, or neither their selection nor their events agree. Drop "
                "the same epochs from both."
            )


def _start(raw):
    """Return when a recording begins, in seconds since 1970, or NaN."""
    date = raw.info["meas_date"]
    return np.nan if date is None else date.timestamp() + raw.first_time


def _same_moments(*both):
    """Return whether two Epochs have the same events, as far as it is known."""
    first, second = both
    if abs(first.tmin - second.tmin) > _LENGTH_TOLERANCE:
        return False
    events = [epochs.events[:, 0] for epochs in both]
    if np.array_equal(*events) or np.array_equal(first.selection, second.selection):
        return True
    apart = events[0] / first.info["sfreq"] - events[1] / second.info["sfreq"]
    return np.ptp(apart) < _LENGTH_TOLERANCE


def check_ieeg(ieeg, on_mismatch="raise"):
    """Check a recording of intracranial EEG.

    Parameters
    ----------
    ieeg : Raw | Epochs
        A recording with ``'seeg'``, ``'ecog'`` or ``'dbs'`` channels, of which bad ones
        are left out. It is not changed.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'`` if it was predicted, not recorded.

    Returns
    -------
    ieeg : Ieeg
        The recording, of which all samples were checked.
    """
    _validate_type(ieeg, (mne.io.BaseRaw, mne.BaseEpochs), "ieeg", "Raw or Epochs")
    picks = mne.pick_types(
        ieeg.info, meg=False, seeg=True, ecog=True, dbs=True, exclude="bads"
    )
    if not len(picks):
        raise ValueError(
            "ieeg needs good 'seeg', 'ecog' or 'dbs' channels, but has none. Set "
            "channel types with ieeg.set_channel_types()."
        )
    check_monopolar([ieeg.info["chs"][pick] for pick in picks])
    text = provenance(ieeg)
    if text:
        report_mismatch(
            f"ieeg was predicted, not recorded, as it says: {text!r}. What fits it "
            "tells nothing of a brain: give recorded contacts.",
            on_mismatch,
        )
    if ieeg.info["sfreq"] < MIN_SFREQ:
        raise ValueError(
            f"The sampling rate of ieeg must be at least {MIN_SFREQ:g} Hz, but got "
            f"{ieeg.info['sfreq']:g} Hz."
        )
    return Ieeg(ieeg, picks)


def _check_samples(ieeg):
    """Refuse samples that are not finite or not in volts, and find flat contacts."""
    step = int(_CHUNK_SECONDS * ieeg.sfreq)
    spread, lows, highs = [], [], []
    for epoch in range(ieeg.n_epochs):
        for start in range(0, ieeg.n_times, step):
            data = ieeg.fetch(start, min(start + step, ieeg.n_times), epoch)
            wrong = ~np.isfinite(data).all(axis=1)
            if wrong.any():
                names = np.array(ieeg.ch_names)[wrong]
                raise ValueError(
                    f"ieeg holds NaN or infinite values in {listed(names)}. Mark the "
                    "channels in ieeg.info['bads'], crop this time away, annotate it "
                    "as BAD with ieeg.annotations.append(), or drop its epochs with "
                    "ieeg.drop()."
                )
            # Of seconds, so that artifacts in some of them are no unit.
            n_seconds = max(1, round(data.shape[1] / ieeg.sfreq))
            spread += [s.std(axis=1) for s in np.array_split(data, n_seconds, axis=1)]
            lows.append(data.min(axis=1))
            highs.append(data.max(axis=1))
    low, high = _STD_LIMITS
    each = np.median(spread, axis=0)
    large = each > high  # contacts are whitened together, so that one ruins all
    if large.any() and not large.all():
        amplitude = np.median(each[large])
        raise ValueError(
            f"Contacts of ieeg with a typical amplitude of {amplitude:.2g} V, which no "
            f"iEEG has: {listed(np.array(ieeg.ch_names)[large])}. "
            f"{_how_to_scale(amplitude, 'names')}, or mark them in ieeg.info['bads']."
        )
    typical = float(np.median(spread))
    if not low < typical < high:
        raise ValueError(
            f"ieeg has a typical amplitude of {typical:.2g} V, which no iEEG has. "
            f"{_how_to_scale(typical, repr('seeg'))}."
        )
    extent = np.max(highs, axis=0) - np.min(lows, axis=0)
    dead = extent <= DEAD * np.median(extent)
    return [str(name) for name in np.array(ieeg.ch_names)[dead]]


def _how_to_scale(amplitude, picks):
    """Name the unit of an amplitude in supposed volts, and how to scale it."""
    if 1e6 * amplitude < _STD_LIMITS[0]:
        return "No scaling makes iEEG of it: check how it was read"
    factor, unit = "1e6", "it seems to have been divided by 1e6 once too often"
    if amplitude > _STD_LIMITS[1]:
        unit, factor = next(rest for least, *rest in LARGER if amplitude > least)
        unit = f"it seems to be in {unit}"
    return (
        f"MNE wants volts, and {unit}: scale it with ieeg.apply_function(lambda x: x * "
        f"{factor}, picks={picks})"
    )
