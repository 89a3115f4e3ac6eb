"""Good time: the part of a recording that contains brain signals.

Some parts of a recording do not contain brain signals: an annotated movement, a pause
that a reader filled with zeros, a gap of NaN. Everything that is estimated from a
recording (its gain, filter, units, dead channels and active sources) must come from the
other parts. The following time is bad:

- time in annotations that begin with ``BAD``, for all channels or for a channel that is
  used, with any samples, including NaN;
- time without a signal, in which no channel changes for a tenth of a second;
- seconds that are too quiet for EEG beside others that are not: a pause that was
  filtered or resampled, or recorded with the inputs switched off;
- time in which some channels hold one value for a second, as when a headbox is not
  connected. If these channels are a smaller share of all channels than this time is of
  the recording, the channels are left out instead.

:meth:`Gaps.fill` replaces bad samples by a straight line from the last good sample to
the next good one. No filter then spreads them, or the edge of a pause, to good samples.
``Scalp.good`` contains which seconds of a recording are good, and
``Scalp.good_stretches()`` returns stretches of good seconds. All estimates use these.
Without bad time, they are the whole recording.
"""

import numpy as np

from .contract import BLOCK

# If no channel changes for this many seconds, the time is a pause.
_STILL = 0.1
#: If a single channel does not change for this many seconds, it is not connected.
STUCK = 1.0
_RAMP = BLOCK // 4  # model samples of the transition between good and bad time
_ROUNDED = 3  # samples by which an annotation and a gap of NaN may differ


def with_missing(spans, fetch, n_times):
    """Extend bad time by neighbouring samples that are NaN.

    Parameters
    ----------
    spans : list of ndarray of int, shape (n_spans, 2)
        For each epoch, the time in BAD annotations.
    fetch : callable
        ``fetch(start, stop, epoch)`` returns samples as recorded.
    n_times : int
        Samples in the recording, or in one epoch.

    Returns
    -------
    spans : list of ndarray of int, shape (n_spans, 2)
        The extended spans. If times were rounded, a gap of NaN begins a few samples
        before its annotation and ends a few samples after it.
    """

    def n_missing(start, stop, epoch, step):
        if start >= stop:
            return 0
        there = np.isfinite(fetch(start, stop, epoch)).all(axis=0)[::step]
        return int(there.argmax()) if there.any() else stop - start

    wider = []
    for epoch, each in enumerate(spans):
        ranges = [
            (
                first - n_missing(max(first - _ROUNDED, 0), first, epoch, -1),
                last + n_missing(last, min(last + _ROUNDED, n_times), epoch, 1),
            )
            for first, last in each.tolist()
        ]
        wider.append(joined(ranges, n_times))
    return wider


class Gaps:
    """Bad samples of a recording, and straight lines that replace them.

    Parameters
    ----------
    spans : list of ndarray of int, shape (n_spans, 2)
        For each epoch, half-open ranges of samples, sorted and disjoint.
    n_times : int
        Samples in the recording, or in one epoch.
    fetch : callable
        ``fetch(start, stop, epoch)`` returns samples as recorded.
    """

    def __init__(self, spans, n_times, fetch):
        self.spans, self.n_times = spans, n_times
        self._ends = [
            [_ends(fetch, epoch, n_times, *span) for span in each]
            for epoch, each in enumerate(spans)
        ]

    def __bool__(self):
        return any(len(each) for each in self.spans)

    def fill(self, data, start, epoch=None):
        """Replace bad samples by straight lines.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n)
            Samples. They are not changed.
        start : int
            Index of the first sample in the recording or epoch.
        epoch : int | None
            Index of the epoch. ``None`` for a continuous recording.

        Returns
        -------
        data : ndarray, shape (n_channels, n)
            The samples. It is the same array if no sample is bad.
        """
        epoch, stop = epoch or 0, start + data.shape[1]
        spans = self.spans[epoch]
        met = np.flatnonzero((spans[:, 0] < stop) & (spans[:, 1] > start))
        if not len(met):
            return data
        data = data.copy()
        for k in met:
            first, last = spans[k]
            index = np.arange(max(first, start), min(last, stop))
            # A ratio of integers does not depend on where a chunk begins.
            share = (index - first + 1) / (last - first + 1)
            left, right = self._ends[epoch][k]
            data[:, index - start] = left + share * (right - left)
        return data

    def good_blocks(self, length, n_blocks):
        """Return which blocks contain no bad sample.

        Parameters
        ----------
        length : float
            Samples in a block.
        n_blocks : int
            Blocks in an epoch.

        Returns
        -------
        good : ndarray of bool, shape (n_epochs, n_blocks)
            Whether all samples of a block are good.
        """
        good = np.ones((len(self.spans), n_blocks), bool)
        for here, spans in zip(good, self.spans, strict=True):
            for first, last in spans:
                here[int(first / length) : int(np.ceil(last / length))] = False
        return good


def annotated_spans(inst, ch_names):
    """Find the time in annotations that begin with ``BAD``.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording.
    ch_names : list of str
        The channels that are used. Annotations of only other channels are ignored.

    Returns
    -------
    spans : list of ndarray of int, shape (n_spans, 2)
        For each epoch, half-open ranges of samples, sorted and disjoint.
    """
    used, sfreq, n_times = set(ch_names), inst.info["sfreq"], len(inst.times)
    spans = []
    for each in (
        [notes_of_raw(inst)] if hasattr(inst, "first_samp") else _of_epochs(inst)
    ):
        ranges = []
        for onset, duration, text, names in each:
            if text.lower().startswith("bad") and (not names or used & set(names)):
                first, last = round(onset * sfreq), round((onset + duration) * sfreq)
                ranges.append((first, last))  # without points, such as boundaries
        spans.append(joined(ranges, n_times))
    return spans


def still_spans(data, sfreq):
    """Find where no channel changes.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times)
        Samples as recorded.
    sfreq : float
        Their rate in hertz.

    Returns
    -------
    spans : ndarray of int, shape (n_spans, 2)
        Half-open ranges of samples in ``data``.
    """
    # Begin with one channel, which excludes nearly all samples.
    same = data[0, 1:] == data[0, :-1]
    here = np.flatnonzero(same)
    same[here] = (data[:, here + 1] == data[:, here]).all(axis=0)
    return _held(same, max(2, _STILL * sfreq))


def stuck_spans(data, sfreq):
    """Find where single channels hold one value.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times)
        Samples as recorded.
    sfreq : float
        Their rate in hertz.

    Returns
    -------
    spans : dict of int to ndarray of int, shape (n_spans, 2)
        Half-open ranges of samples in ``data``, for channels that have any.
    """
    same = (data[:, 1:] == data[:, :-1]) & np.isfinite(data[:, 1:])
    found = {}
    for channel in np.flatnonzero(same.sum(axis=1) >= max(2, STUCK * sfreq) - 1):
        spans = _held(same[channel], STUCK * sfreq)
        if len(spans):
            found[int(channel)] = spans
    return found


def _held(same, shortest):
    """Find runs of equal samples, from whether each sample equals the one before."""
    edges = np.diff(same.astype(np.int8), prepend=0, append=0)
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 1
    long = last - first >= shortest
    return np.stack([first[long], last[long]], axis=1)


def outside(spans, others):
    """Remove ranges of samples from other ranges.

    Parameters
    ----------
    spans, others : array_like of int, shape (n_spans, 2)
        Half-open ranges of samples, those of ``others`` sorted and apart.

    Returns
    -------
    spans : list of tuple of int
        The parts of the first that are in none of the second.
    """
    left = []
    for first, last in spans:
        for low, high in others:
            if low >= last or high <= first:
                continue
            left.append((first, low))
            first = high
        left.append((first, last))
    return [(first, last) for first, last in left if first < last]


def joined(spans, n_times, apart=1):
    """Sort ranges, and merge those that overlap or touch.

    Parameters
    ----------
    spans : array_like of int, shape (n_spans, 2)
        Half-open ranges of samples, in any order.
    n_times : int
        Samples in the recording.
    apart : int
        Ranges with fewer samples than this between them are merged.

    Returns
    -------
    spans : ndarray of int, shape (n_joined, 2)
        Ranges that are sorted, disjoint and inside the recording.
    """
    out = []
    for first, last in sorted(map(tuple, spans)):
        first, last = max(first, 0), min(last, n_times)
        if first >= last:
            continue
        if out and first < out[-1][1] + apart:
            out[-1][1] = max(out[-1][1], last)
        else:
            out.append([first, last])
    return np.array(out, int).reshape(-1, 2)


def bad_share(at, spans):
    """Return the share of bad time at each model sample.

    Parameters
    ----------
    at : ndarray
        Model samples.
    spans : iterable of tuple of float
        First model sample of each bad time and the sample after its last one, which is
        infinite if the bad time has no end.

    Returns
    -------
    share : ndarray
        Zero in good time and one in bad time. It rises and falls over a quarter of a
        second at the ends of bad time.
    """
    share = np.zeros(len(at))
    for first, last in spans:
        inside = np.minimum(at - first, last - at) / _RAMP
        share = np.maximum(share, np.clip(inside, 0, 1))
    return share


def _ends(fetch, epoch, n_times, first, last):
    """Return the values at both ends of a bad range, the same if one is missing."""
    ends = [
        np.nan_to_num(fetch(at, at + 1, epoch), posinf=0, neginf=0) if inside else None
        for at, inside in ((first - 1, first > 0), (last, last < n_times))
    ]
    left, right = ends
    if left is None and right is None:
        return 0.0, 0.0
    return (right if left is None else left), (left if right is None else right)


def notes_of_raw(raw):
    """Read the annotations of a Raw.

    Parameters
    ----------
    raw : Raw
        The recording.

    Returns
    -------
    notes : iterable of tuple
        Onset from the first sample and duration in seconds, text and channels of each.
    """
    found = raw.annotations
    onsets = found.onset - raw.first_time
    return zip(onsets, found.duration, found.description, found.ch_names, strict=True)


def _of_epochs(epochs):
    if not epochs.annotations:
        return [[] for _ in range(len(epochs))]
    return [
        [
            (onset - epochs.tmin, duration, text, ())
            for onset, duration, text, *_ in each
        ]
        for each in epochs.get_annotations_per_epoch()
    ]
