"""The control: scalp EEG whose channels are shifted in time relative to each other."""

import mne
import numpy as np

# Seconds between the shifts of two channels: several cycles of alpha, and so few that
# reading a stretch does not require most of the recording.
_STEP = 2.0


class RawShifted(mne.io.BaseRaw):
    """A recording with every EEG channel shifted in time by a different amount.

    Channels keep their amplitudes and spectra, but are no longer simultaneous. A common
    shift of all channels would not be a control, because it does not change power,
    spectral slopes or connectivity of the whole recording.

    Parameters
    ----------
    scalp : Scalp
        The checked recording, with lines in bad time and without bad channels.
    seed : int
        The seed of the order in which channels are shifted.

    Notes
    -----
    Shifts are multiples of 2 s. In short recordings they are multiples of the duration
    of good time divided by the number of channels. They are circular: samples beyond
    the end move to the beginning. Only good time is shifted, as if it were continuous.
    Bad time stays where it is, and is annotated. Otherwise the lines in bad time would
    be at other times in each channel, and no time would be good in all of them.
    """

    def __init__(self, scalp, seed):
        raw, n_channels = scalp.inst, len(scalp.ch_names)
        bad = scalp.bad_samples(0, scalp.n_times)
        good = _GoodTime(scalp, bad)
        step = int(min(_STEP * scalp.sfreq, good.n_times / (n_channels + 1)))
        shifts = step * np.random.default_rng(seed).permutation(n_channels)
        picks = [raw.ch_names.index(name) for name in scalp.ch_names]
        info = mne.pick_info(raw.info, picks)
        for ch in info["chs"]:  # samples are in volts, not in numbers of the file
            ch.update(cal=1.0, range=1.0)
        super().__init__(
            info,
            preload=False,
            first_samps=[raw.first_samp],
            last_samps=[raw.last_samp],
            raw_extras=[
                dict(
                    scalp=scalp,
                    good=good,
                    shifts=shifts,
                    bad=bad,
                    first=raw.first_samp,
                )
            ],
            verbose=False,
        )
        spans = _runs(bad) / scalp.sfreq
        self.set_annotations(
            mne.Annotations(spans[:, 0], np.diff(spans)[:, 0], "BAD_recorded")
        )

    def _read_segment_file(self, data, idx, fi, start, stop, cals, mult):
        extra = self._raw_extras[fi]
        start, stop = int(start - extra["first"]), int(stop - extra["first"])
        bad, shifts = extra["bad"], extra["shifts"]
        block = extra["scalp"].fetch(start, stop)
        first = start - np.count_nonzero(bad[:start])
        good = ~bad[start:stop]
        n_good = np.count_nonzero(good)
        wide = extra["good"].read(first, first + n_good + shifts.max())
        block[:, good] = [
            row[shift : shift + n_good] for row, shift in zip(wide, shifts, strict=True)
        ]
        data[:] = block[idx] * cals if mult is None else mult @ block[idx]


class _GoodTime:
    """Good time of a recording, as if it were continuous and circular."""

    def __init__(self, scalp, bad):
        self._scalp, self._runs = scalp, _runs(~bad)
        ends = np.cumsum(np.diff(self._runs))
        self._begins, self.n_times = ends - np.diff(self._runs)[:, 0], int(ends[-1])

    def read(self, start, stop):
        """Read good samples, and continue at the beginning after the end."""
        parts = []
        while start < stop:
            at = start % self.n_times
            run = np.searchsorted(self._begins, at, side="right") - 1
            first = self._runs[run, 0] + at - self._begins[run]
            last = min(self._runs[run, 1], first + stop - start)
            parts.append(self._scalp.fetch(int(first), int(last)))
            start += last - first
        return np.concatenate(parts, axis=1)


def _runs(mask):
    """Find the half-open ranges in which a mask is true, shape (n, 2)."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return edges.reshape(-1, 2)
