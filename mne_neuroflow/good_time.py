"""Good time: what of a recording may be taken for brain.

A recording holds time that is not brain: a movement that somebody annotated, a pause
that a reader filled with zeros, a gap of NaN. Whatever is measured of a recording (its
gain, its filter, its units, dead channels, the sources that are active in it) must come
from the rest of it. Bad are

- what an annotation covers that begins with ``BAD``, for all channels or for one that
  is used, whatever its samples hold, NaN included;
- what is still: no channel changes from one sample to the next for a tenth of a second.

Bad samples are never seen: :meth:`Gaps.fill` puts a straight line from the last good
sample to the next good one in their place, so that no filter spreads them, nor the edge
of a pause, over their neighbours. A scalp tells which of its seconds are good
(``Scalp.good``), and ``Scalp.good_stretches()`` yields stretches of them; every stage
that measures something takes it from these. Without bad time both are all of the
recording.
"""

import numpy as np

# Seconds for which no channel changes before this is a pause rather than chance.
_STILL = 0.1


class Gaps:
    """Bad samples of a recording, and straight lines to put in their place.

    Parameters
    ----------
    spans : list of ndarray of int, shape (n_spans, 2)
        For each epoch, half-open ranges of samples, sorted and apart.
    n_times : int
        Samples in the recording, or in one epoch.
    fetch : callable
        ``fetch(start, stop, epoch)`` returns samples as the recording holds them.
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
        """Put straight lines in the place of bad samples.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n)
            Samples; not changed.
        start : int
            Which sample of the recording or epoch is the first of them.
        epoch : int | None
            Which epoch; ``None`` for a continuous recording.

        Returns
        -------
        data : ndarray, shape (n_channels, n)
            The same array where nothing is bad in it.
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
            # Whole numbers over whole numbers: the same wherever a chunk begins.
            share = (index - first + 1) / (last - first + 1)
            left, right = self._ends[epoch][k]
            data[:, index - start] = left + share * (right - left)
        return data

    def good_blocks(self, length, n_blocks):
        """Tell which blocks hold no bad sample.

        Parameters
        ----------
        length : float
            Samples in a block.
        n_blocks : int
            Their number in an epoch.

        Returns
        -------
        good : ndarray of bool, shape (n_epochs, n_blocks)
            Whether all of a block is good.
        """
        good = np.ones((len(self.spans), n_blocks), bool)
        for here, spans in zip(good, self.spans, strict=True):
            for first, last in spans:
                here[int(first / length) : int(np.ceil(last / length))] = False
        return good


def annotated_spans(inst, ch_names):
    """Find what annotations call bad.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording.
    ch_names : list of str
        The channels that are used. An annotation of other channels alone is not
        counted.

    Returns
    -------
    spans : list of ndarray of int, shape (n_spans, 2)
        For each epoch, half-open ranges of samples, sorted and apart.
    """
    used, sfreq, n_times = set(ch_names), inst.info["sfreq"], len(inst.times)
    spans = []
    for each in [_of_raw(inst)] if hasattr(inst, "first_samp") else _of_epochs(inst):
        ranges = []
        for onset, duration, text, names in each:
            if text.lower().startswith("bad") and (not names or used & set(names)):
                first, last = round(onset * sfreq), round((onset + duration) * sfreq)
                ranges.append((first, last))  # a point, as of a join, is no time
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
    still = np.zeros(data.shape[1] + 1, np.int8)
    # One channel says for nearly all samples that they are not still.
    same = np.flatnonzero(data[0, 1:] == data[0, :-1])
    same = same[(data[:, same + 1] == data[:, same]).all(axis=0)]
    still[same + 1] = 1
    edges = np.diff(still, prepend=0)
    first, last = np.flatnonzero(edges == 1) - 1, np.flatnonzero(edges == -1)
    long = last - first >= max(2, _STILL * sfreq)
    return np.stack([first[long], last[long]], axis=1)


def joined(spans, n_times, apart=1):
    """Sort ranges and join those that overlap or touch.

    Parameters
    ----------
    spans : array_like of int, shape (n_spans, 2)
        Half-open ranges of samples, in any order.
    n_times : int
        Where the recording ends.
    apart : int
        Ranges with fewer samples than this between them become one.

    Returns
    -------
    spans : ndarray of int, shape (n_joined, 2)
        Sorted, apart, and inside the recording.
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


def _ends(fetch, epoch, n_times, first, last):
    """Values at both ends of a bad range; that of the other end where it has one."""
    ends = [
        np.nan_to_num(fetch(at, at + 1, epoch), posinf=0, neginf=0) if inside else None
        for at, inside in ((first - 1, first > 0), (last, last < n_times))
    ]
    left, right = ends
    if left is None and right is None:
        return 0.0, 0.0
    return (right if left is None else left), (left if right is None else right)


def _of_raw(raw):
    """Onset from the first sample, duration, text and channels of annotations."""
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
