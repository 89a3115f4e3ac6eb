"""Units and amplitudes: what the samples of EEG channels can and cannot be.

This module knows numbers: extremes, steps and amplitudes of channels. It must never
know positions, or where the samples came from.
"""

import numpy as np

from .._compat import warn
from .._text import listed
from .mismatch import report_mismatch

# Scalp EEG between 0.5 and 50 Hz has an rms of 3 to 100 uV. Values outside these limits
# (volts) are in a wrong unit. In millivolts that are read as volts, EEG of the smallest
# amplitude has 3e-3, and no scalp EEG has a median rms of 1 mV.
RMS_LIMITS = (5e-8, 1e-3)
# If the steps of a channel exceed those of a typical channel by this factor, it is in
# another unit or broken. The factor of a loose electrode is up to a few tens.
_OTHER_UNIT = 100.0
_SMOOTH = 0.1  # steps of rounding, as a share of the range; 10 s of EEG have 0.03
_MOVES = 0.5  # share of samples that differ from the one before
_ROUNDING = 1e-8  # volts between samples: EEG has more, a rounded constant has less
_SOME_GOOD = 0.1  # if this share of seconds is ordinary, the others are artifacts
_NO_POTENTIAL = (
    " If it is a current source density, or spatially filtered in another way, scaling "
    "does not help: give the recording before this filter."
)
_FACTORS = {"millivolts": 1e-3, "microvolts": 1e-6, "nanovolts": 1e-9}
_UNITS = tuple(_FACTORS.values())
#: Units of EEG that is too large, from these rms on in supposed volts.
LARGER = (
    (1e3, "nanovolts", "1e-9"),
    (0.5, "microvolts", "1e-6"),
    (0.0, "millivolts", "1e-3"),
)
_LEAST_SCALED = 1e-6  # volts; in ten seconds or more, typical rms are 5 uV or more
_STANDARD = 1e-3  # digits by which standard deviations may differ from one
# Share of samples at a channel's lowest or highest value. Ten seconds of EEG have
# 0.0013 or less, channels that are clipped a few hundredths.
_AT_LIMIT = 0.01
_FEWEST_AT_LIMIT = 20  # samples; short recordings have a few at their extremes
_OUTLIER = 5.0  # times the median rms over channels
#: Maximum range of a channel without a signal, relative to the median over channels.
DEAD = 1e-3
_IDENTICAL = 1e-3  # times the rms before referencing
# Amplifiers alone have 0.3 uV. Suppressed seconds of burst suppression have 1 uV or
# more.
_QUIET = 3e-7  # volts
_LOUDER = 30.0  # times a quiet second, of others beside it


#: What a user can do about time that has no signal of the brain. Epochs may have no
#: annotations to append to.
MARK_TIME = (
    "annotate the time as BAD with inst.annotations.append(), or drop its epochs with "
    "inst.drop()"
)


class Tally:
    """Statistics of the samples of each channel from one reading."""

    def __init__(self, n_channels):
        self.low = np.full(n_channels, np.inf)
        self.high = np.full(n_channels, -np.inf)
        self.where, self._still, self._stuck = {}, {}, {}
        self._steps, self._moves = [], []
        self._until, self._n_seen = {}, 0
        self._n_low, self._n_high = np.zeros((2, n_channels), int)
        self._offset, self._sums = 0.0, np.zeros((2, n_channels))

    def note_still(self, spans, epoch):
        """Record where no channel changes."""
        self._still.setdefault(epoch, []).extend(spans)

    def note_stuck(self, spans, start, epoch):
        """Record where single channels do not change."""
        of_epoch = self._stuck.setdefault(epoch, {})
        for channel, each in spans.items():
            of_epoch.setdefault(channel, []).extend(start + each)

    def note(self, data, start, epoch, good=None):
        """Record the samples, and return them with zeros for nan and infinity.

        Extremes and moments are those of good samples.
        """
        finite = np.isfinite(data)
        if not finite.all():
            for channel in np.flatnonzero(~finite.all(axis=1)):
                sample = start + int(finite[channel].argmin())
                self.where.setdefault(int(channel), (epoch, sample))
            data = np.where(finite, data, 0.0)
        if data.shape[1] > 1:
            steps = np.abs(np.diff(data))
            self._steps.append(steps.mean(axis=1))
            self._moves.append((steps > 0).mean(axis=1))
        new = np.arange(data.shape[1]) >= self._until.get(epoch, 0) - start
        self._until[epoch] = max(start + data.shape[1], self._until.get(epoch, 0))
        if good is not None:
            new &= good
        self._note_values(data if new.all() else data[:, new])
        return data

    def _note_values(self, new):
        """Record extremes and moments of samples."""
        if not new.size:
            return
        low, high = new.min(axis=1), new.max(axis=1)
        n_low = (new == low[:, np.newaxis]).sum(axis=1)
        n_high = (new == high[:, np.newaxis]).sum(axis=1)
        self._n_low = self._n_low * (self.low <= low) + n_low * (low <= self.low)
        self._n_high = self._n_high * (self.high >= high) + n_high * (high >= self.high)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        if not self._n_seen:
            self._offset = new[:, :1]
        self._n_seen += new.shape[1]
        moved = new - self._offset
        self._sums += moved.sum(axis=1), (moved**2).sum(axis=1)

    def at_limit(self):
        """Return the share of samples at each channel's lowest or highest value.

        It is zero for a few samples.
        """
        n = np.maximum(self._n_low, self._n_high)
        return np.where(n < _FEWEST_AT_LIMIT, 0, n) / max(self._n_seen, 1)

    def copies(self):
        """Return which channels have the samples of another one."""
        statistics = np.vstack([self.low, self.high, *self._sums])
        _, which, n = np.unique(
            statistics, axis=1, return_inverse=True, return_counts=True
        )
        return n[which.ravel()] > 1

    def divisor(self):
        """Tell by what every channel was divided, or return ''.

        All have a standard deviation of one, in some unit, or all have one range. An
        amplifier's range is reached more than once.
        """
        total, squares = self._sums / max(self._n_seen, 1)
        digits = np.log10(np.sqrt(np.maximum(squares - total**2, 1e-60)))
        if np.abs(digits - np.round(digits[0])).max() < _STANDARD:
            return "standard deviation"
        extent = np.log10(np.maximum(self.high - self.low, 1e-30))
        once = np.median(self._n_low + self._n_high) == 2
        return "range" if once and np.ptp(extent) < _STANDARD else ""

    def still_spans(self, n_epochs):
        """Return where no channel changed, for each epoch."""
        return [self._still.get(epoch, []) for epoch in range(n_epochs)]

    def stuck_spans(self, n_epochs):
        """Return where single channels did not change, for each epoch."""
        return [self._stuck.get(epoch, {}) for epoch in range(n_epochs)]

    def check_finite(self, ch_names, sfreq):
        """Refuse samples that are not finite numbers."""
        if not self.where:
            return
        described = [
            f"{ch_names[channel]} ({'' if epoch is None else f'epoch {epoch}, '}"
            f"first at sample {sample}, {sample / sfreq:.3f} s)"
            for channel, (epoch, sample) in sorted(self.where.items())
        ]
        raise ValueError(
            f"The EEG holds NaN or infinite values in {len(described)} channels: "
            f"{listed(described)}. Mark the channels in inst.info['bads'], crop this "
            f"time away, or {MARK_TIME}."
        )

    def check_alike(self, ch_names):
        """Refuse channels in another unit, which the average reference would spread.

        Steps from sample to sample measure a channel's amplitude without its offset and
        drift.
        """
        steps = np.array(self._steps)
        steps = steps[np.median(steps, axis=1) > 0]  # not of gaps alone
        if not len(steps):
            return
        steps = np.median(steps, axis=0)
        alive = steps[steps > _ROUNDING]
        usual = np.percentile(alive, 25) if len(alive) else np.inf
        large = steps > _OTHER_UNIT * usual
        if not large.any():
            self._check_quiet(ch_names, steps)
            return
        times = np.median(steps[large]) / usual
        unit = next((u for u, f in _FACTORS.items() if 0.2 < times * f < 5), None)
        cause = f"they seem to be in {unit}" if unit else "they seem to be broken"
        factor = _FACTORS.get(unit, 1 / times)
        names = np.array(ch_names)[large]
        scale = (
            f"Scale these alone with inst.apply_function(lambda x: x * {factor:.0e}, "
            "picks=names), or mark"
        )
        raise ValueError(
            f"{len(names)} of {len(ch_names)} EEG channels are about {times:.1g} times "
            f"as large as the others: {listed(names)}; {cause}, while MNE keeps EEG in "
            f"volts. {scale if unit else 'Mark'} them in inst.info['bads']."
        )

    def _check_quiet(self, ch_names, steps):
        """Refuse channels whose signal is a thousand times smaller than in others."""
        quiet = (_OTHER_UNIT * steps < np.percentile(steps, 90)) & ~self.dead()
        if quiet.any():
            times = np.percentile(steps, 90) / np.median(steps[quiet])
            factor = next((1 / f for f in _UNITS if 0.2 < times * f < 5), None)
            scale = (
                "If they were divided once too often, scale these alone with inst."
                f"apply_function(lambda x: x * {factor:.0e}, picks=names), or mark"
            )
            raise ValueError(
                f"{quiet.sum()} of {len(quiet)} EEG channels hold a signal about "
                f"{times:.1g} times as small as the others: "
                f"{listed(np.array(ch_names)[quiet])}. {scale if factor else 'Mark'} "
                "them in inst.info['bads']."
            )

    def dead(self):
        """Return which channels contain only a constant or its rounding errors.

        Rounding errors either stay constant or change by much of their range from one
        sample to the next. EEG does neither, even if it is a thousand or a million
        times smaller than in other channels.
        """
        extent = self.high - self.low
        small = extent <= DEAD * np.median(extent)
        if not self._steps:
            return small
        smooth = np.median(self._steps, axis=0) < _SMOOTH * extent
        signal = smooth & (np.median(self._moves, axis=0) > _MOVES)
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.median(extent) / extent
        scaled = np.any([(0.2 < f * times) & (f * times < 5) for f in _UNITS], axis=0)
        return small & ~(signal & scaled)


def check_distinct(rms, before):
    """Refuse identical channels, which are zero after the average reference.

    Parameters
    ----------
    rms, before : ndarray, shape (n_channels, n_seconds)
        The rms with and without the average reference, volts.
    """
    if np.median(rms) < _IDENTICAL * np.median(before):
        raise ValueError(
            "All EEG channels hold identical signals: they have a typical rms of "
            f"{np.median(before):.3g} V, of which the average reference leaves "
            f"{np.median(rms):.3g} V. Check how the channels were read or copied."
        )


def check_unit(
    rms, advice="Scale it with inst.apply_function(lambda x: x * {}, picks='eeg')."
):
    """Refuse amplitudes that scalp EEG cannot have, and name the likely unit.

    Parameters
    ----------
    rms : ndarray
        The rms of channels, or of seconds of channels, in supposed volts.
    advice : str
        How to scale, with braces in place of the factor.
    """
    typical = np.median(rms)
    low, high = RMS_LIMITS
    if low <= typical <= high:
        return
    seconds = np.median(rms, axis=0)
    if typical > high and (seconds < high).mean() > _SOME_GOOD:
        raise ValueError(
            f"{100 * (seconds > high).mean():.0f} % of the seconds of this EEG have an "
            f"rms above {1e3 * high:g} mV, the others are ordinary: artifacts. "
            f"Crop this time away, or {MARK_TIME}."
        )
    if typical > high:
        unit, factor = next(each for least, *each in LARGER if typical > least)
        cause = f"it seems to be in {unit}"
    else:
        factor = "1e6" if 1e6 * typical < high else "1e3"
        cause = f"it seems to have been divided by {factor} once too often"
    if typical * float(factor) < _LEAST_SCALED:
        raise ValueError(
            f"MNE keeps EEG in volts, and this EEG has a typical rms of {typical:.3g} "
            "V, which no scaling turns into EEG. Magnetometers in tesla that were read "
            "as EEG have such values: check what the channels are, and set their type "
            "with inst.set_channel_types()."
        )
    raise ValueError(
        f"MNE keeps EEG in volts, and this EEG has a typical rms of {typical:.3g} V: "
        f"{cause}. {advice.format(factor)}{_NO_POTENTIAL if typical > high else ''}"
    )


def quiet_seconds(rms):
    """Find seconds that are too quiet for EEG, beside others that are not.

    Parameters
    ----------
    rms : ndarray, shape (n_channels, n_seconds)
        The rms of each second, volts.

    Returns
    -------
    quiet : ndarray of bool, shape (n_seconds,)
        All are ``False`` if nearly all are quiet, as in a recording in another unit.
    """
    seconds = np.percentile(rms, 90, axis=0)
    quiet = seconds < _QUIET
    if quiet.any() and quiet.mean() < 1 - _SOME_GOOD:
        if np.median(seconds[~quiet]) > _LOUDER * np.median(seconds[quiet]):
            return quiet
    return np.zeros(len(quiet), bool)


def warn_of_artifacts(rms):
    """Warn of seconds in which the EEG is too large for a signal of the brain.

    Parameters
    ----------
    rms : ndarray, shape (n_channels, n_seconds)
        The rms of each good second, volts.
    """
    large = np.median(rms, axis=0) > RMS_LIMITS[1]
    if large.any():
        warn(
            f"{large.sum()} of {len(large)} good seconds of the EEG have an rms above "
            f"{1e3 * RMS_LIMITS[1]:g} mV: artifacts, and so is what is predicted "
            f"there. To leave it out, {MARK_TIME}."
        )


def warn_of_copies(ch_names, copies):
    """Warn of channels that have the samples of another one.

    Parameters
    ----------
    ch_names : list of str
        The channels.
    copies : ndarray of bool, shape (n_channels,)
        Which of them do.
    """
    if copies.any():
        warn(
            "EEG channels with the same samples as another one: "
            f"{listed(np.array(ch_names)[copies])}. No two electrodes record the same: "
            "check how they were read, or mark them in inst.info['bads']."
        )


def tell_of_normalized(divisor, rms, on_mismatch):
    """Refuse channels that were divided by their own amplitudes, or warn.

    Parameters
    ----------
    divisor : str
        By what they were divided, from :meth:`Tally.divisor`.
    rms : ndarray
        Amplitudes in supposed volts. With those of EEG a warning is enough.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    low, high = RMS_LIMITS
    report_mismatch(
        f"Every EEG channel was divided by its {divisor}. The model reads how "
        "amplitudes differ over the scalp, and no scaling restores this: give the "
        "recording as it was before this step.",
        on_mismatch if low <= np.median(rms) <= high else "raise",
    )


def warn_of_limits(ch_names, at_limit):
    """Warn of channels that an amplifier or a file clips.

    Parameters
    ----------
    ch_names : list of str
        The channels.
    at_limit : ndarray, shape (n_channels,)
        Share of samples at the lowest or highest value of each.
    """
    clipped = at_limit > _AT_LIMIT
    if clipped.any():
        described = [
            f"{name} ({100 * share:.0f} %)"
            for name, share in zip(ch_names, at_limit, strict=True)
            if share > _AT_LIMIT
        ]
        warn(
            f"EEG channels that are at the limit of their range in more than "
            f"{100 * _AT_LIMIT:g} % of the samples, as when an amplifier or a file "
            f"clips them: {listed(described)}. Mark them in inst.info['bads'], or "
            f"{MARK_TIME}."
        )


def warn_of_outliers(ch_names, rms):
    """Warn of channels that are much larger than the others.

    Parameters
    ----------
    ch_names : list of str
        The channels.
    rms : ndarray, shape (n_channels, n_seconds)
        Their amplitude in each good second, volts.
    """
    typical = np.median(rms, axis=1)
    noisy = typical > _OUTLIER * np.median(typical)
    if noisy.any():
        names = listed(np.array(ch_names)[noisy])
        warn(
            f"EEG channels more than {_OUTLIER:g} times as large as the others: "
            f"{names}. Mark them in inst.info['bads'] if they are noise."
        )
