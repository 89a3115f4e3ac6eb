"""The control: a scalp whose channels do not belong to one moment."""

import mne
import numpy as np

# Seconds between the shifts of two channels: several cycles of alpha, and little
# enough that a stretch is read without most of the recording around it.
_STEP = 2.0


class RawShifted(mne.io.BaseRaw):
    """A recording with every EEG channel shifted in time by a different amount.

    Channels keep their amplitudes and spectra, and lose what they share at a moment.
    To shift all of them together would not do: power, slopes and connectivity of a
    whole recording are the same wherever it begins.

    Parameters
    ----------
    scalp : Scalp
        The recording, checked: its bad time is bridged, and its bad channels left out.
    seed : int
        Of the order in which channels are shifted.

    Notes
    -----
    Shifts are multiples of 2 s, or of a channel's share of a shorter recording, and
    circular: what is shifted out at the end comes in at the beginning.
    """

    def __init__(self, scalp, seed):
        raw, n_channels = scalp.inst, len(scalp.ch_names)
        step = int(min(_STEP * scalp.sfreq, scalp.n_times / (n_channels + 1)))
        shifts = step * np.random.default_rng(seed).permutation(n_channels)
        picks = [raw.ch_names.index(name) for name in scalp.ch_names]
        super().__init__(
            mne.pick_info(raw.info, picks),
            preload=False,
            first_samps=[raw.first_samp],
            last_samps=[raw.last_samp],
            raw_extras=[dict(scalp=scalp, shifts=shifts, first=raw.first_samp)],
            verbose=False,
        )

    def _read_segment_file(self, data, idx, fi, start, stop, cals, mult):
        extra = self._raw_extras[fi]
        start, stop = int(start - extra["first"]), int(stop - extra["first"])
        shifts = extra["shifts"]
        wide = _read_around(extra["scalp"], start, stop + shifts.max())
        block = np.stack(
            [row[s : s + stop - start] for row, s in zip(wide, shifts, strict=True)]
        )
        data[:] = block[idx] * cals if mult is None else mult @ block[idx]


def _read_around(scalp, start, stop):
    """Read samples, beyond the end those of the beginning."""
    end = scalp.n_times
    parts = [scalp.fetch(start, min(stop, end))] if start < end else []
    if stop > end:
        parts.append(scalp.fetch(max(start - end, 0), stop - end))
    return np.concatenate(parts, axis=1)
