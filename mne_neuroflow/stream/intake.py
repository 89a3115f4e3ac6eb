"""Incoming samples of scalp EEG, resampled to the model's rate.

This module handles channels that are lost and return, gaps and late packets. Its memory
does not grow. Its results depend on the samples that arrived until a time of the
model's clock, and not on how they were divided into chunks.
"""

import numpy as np

from ..contract import BLOCK
from ..scalp.electrodes import MIN_CHANNELS
from ..scalp.samples import DEAD

# A channel that does not change for this many seconds has no signal.
_STILL = 0.1
# A channel with a range above this multiple of the typical range is broken.
_BROKEN = 100.0
# Model samples at either end of bad samples that the low-pass filter affects.
_SPREAD = 4
# Seconds of raw samples that are kept in addition to the latency, for late packets.
_KEPT = 2.0
_ARRAYS = ("_raw", "_raw_bad", "data", "bad")


class Intake:
    """The last seconds of scalp EEG at its own rate and at the model's rate.

    Samples are counted from the first one that arrived. The time of model sample ``k``
    is defined by :class:`~mne_neuroflow.resampling.Resampler`.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    resampler : Resampler
        Resampler from their rate.
    latency : int
        Latency of predictions in model samples.
    n_past : int
        Number of past model samples to keep.

    Attributes
    ----------
    received : int
        Index of the next sample.
    begin : int
        First model sample since the last start.
    known : int
        Model samples before this one are known.
    data : ndarray, shape (n_channels, n_kept)
        The last model samples before ``known``, below 50 Hz, as recorded.
    bad : ndarray of bool, shape (n_channels, n_kept)
        Which of these depend on samples that are missing or have no signal.
    """

    def __init__(self, n_channels, resampler, latency, n_past):
        self.resampler, self._n_past = resampler, n_past
        self._n_raw = int((latency / BLOCK + _KEPT) * resampler.sfreq)
        self.restart(0, n_channels)

    def restart(self, sample, n_channels=None):
        """Discard all samples; the next sample has this index."""
        n_channels = len(self._raw) if n_channels is None else n_channels
        rate = self.resampler
        self.received = self._raw_start = sample
        self._raw = np.empty((n_channels, 0))
        self._raw_bad = np.empty((n_channels, 0), bool)
        self._pending = []
        self.begin = self.known = -(-sample * rate.up // rate.down)
        self.data = np.empty((n_channels, 0))
        self.bad = np.empty((n_channels, 0), bool)
        self._decided = sample
        self._stale = self.begin

    def first_sample(self, model_sample):
        """Return the first sample at or after a model sample."""
        return -(-model_sample * self.resampler.down // self.resampler.up)

    def add(self, samples):
        """Add new samples, with NaN for missing ones."""
        self._pending.append(np.array(samples))
        self.received += samples.shape[1]

    def _gather(self):
        """Append new samples, once per step and not at each push, for speed."""
        samples = np.concatenate([self._raw, *self._pending], axis=1)
        new = samples[:, self._raw.shape[1] :]
        missing = ~np.isfinite(new)
        new[missing] = np.nan
        self._raw, self._pending = samples, []
        self._raw_bad = np.concatenate([self._raw_bad, missing], axis=1)

    def add_late(self, samples, first_sample):
        """Fill in late samples where they were missing and are still kept.

        Parameters
        ----------
        samples : ndarray, shape (n_channels, n)
            The late samples. Samples that have already arrived do not change.
        first_sample : int
            Index of the first late sample.
        """
        self._gather()
        at = np.arange(first_sample, first_sample + samples.shape[1])
        kept = (at >= self._raw_start) & (at < self.received)
        at, samples = at[kept], samples[:, kept]
        place = at - self._raw_start
        fills = np.isnan(self._raw[:, place]) & np.isfinite(samples)
        if not fills.any():
            return
        self._raw[:, place] = np.where(fills, samples, self._raw[:, place])
        self._raw_bad[:, place] &= ~fills
        rate = self.resampler
        first = at[0] * rate.up // rate.down - rate.halo_model
        self._stale = min(self._stale, max(first, self.begin))

    def advance(self, known):
        """Resample everything before a model sample to the model's rate.

        Parameters
        ----------
        known : int
            Model sample before which all samples have arrived.
        """
        self._gather()
        rate = self.resampler
        stop = min(self.first_sample(known), self.received)
        self._mark_bad(stop)
        first = max(self._stale, self.known - self.data.shape[1])
        start, last = self._raw_start, stop - 1 - self._raw_start
        filled = _bridged(self._raw[:, : last + 1], self._raw_bad[:, : last + 1])

        def read(low, high):
            # Reflect about the first and the last sample, as at the ends of recordings.
            index = abs(np.arange(low - start, high - start))
            return filled[:, np.clip(np.minimum(index, 2 * last - index), 0, last)]

        fresh = rate.decimate(read, first, known)
        touched = np.arange(first, known)
        bad = self._bad_at(touched, stop)
        kept = first - (self.known - self.data.shape[1])
        self.data = np.concatenate([self.data[:, :kept], fresh], axis=1)
        self.bad = np.concatenate([self.bad[:, :kept], bad], axis=1)
        self.data, self.bad = (
            self.data[:, -self._n_past :],
            self.bad[:, -self._n_past :],
        )
        self.known = known
        # Compute the last samples again, whose future the low-pass filter lacked.
        self._stale = max(known - rate.halo_model, self.begin)
        drop = max(0, stop - self._n_raw - self._raw_start)
        self._raw, self._raw_bad = self._raw[:, drop:], self._raw_bad[:, drop:]
        self._raw_start += drop

    def window(self, first, last, future):
        """Return a stretch of model samples, which may extend into the future.

        Parameters
        ----------
        first, last : int
            Half-open range of model samples.
        future : Future
            The extrapolation of channels.

        Returns
        -------
        data : ndarray, shape (n_channels, last - first)
            Volts below 50 Hz, with straight lines instead of bad samples. Before the
            start, the signal is reflected about its first sample.
        bad : ndarray of bool, same shape
            Which samples are bad. Future samples are bad if the last known one is.
        """
        oldest = self.known - self.data.shape[1]
        data = future.extend(_bridged(self.data, self.bad), max(0, last - self.known))
        at = abs(np.arange(first, last) - oldest)
        here = np.minimum(at, self.data.shape[1] - 1)
        return data[:, np.minimum(at, data.shape[1] - 1)], self.bad[:, here]

    def missing(self, start, stop):
        """Return which samples are missing in too many channels for a prediction.

        Parameters
        ----------
        start, stop : int
            Half-open range of samples that have arrived.

        Returns
        -------
        missing : ndarray of bool, shape (stop - start,)
            Whether samples are missing.
        """
        first = self._raw_start
        return too_few(self._raw_bad[:, start - first : stop - first])

    def gaps(self):
        """Find where too few channels are good for a prediction.

        Returns
        -------
        spans : ndarray, shape (n_spans, 2)
            First model sample of each gap and the sample after its last one, which is
            infinite if the gap has not ended.
        """
        known = self._decided - self._raw_start
        gone = too_few(self._raw_bad[:, :known])
        edges = np.flatnonzero(np.diff(gone, prepend=False, append=False))
        spans = edges.reshape(-1, 2).astype(float)
        rate = self.resampler.up / self.resampler.down
        found = rate * (spans + self._raw_start)
        found[spans[:, 0] == 0, 0] = -np.inf
        found[spans[:, 1] == known, 1] = np.inf
        return found

    def state(self):
        """Return the state as arrays."""
        self._gather()
        names = ("received", "_raw_start", "begin", "known", "_decided", "_stale")
        arrays = {name.strip("_"): getattr(self, name) for name in _ARRAYS}
        return {**arrays, "numbers": np.array([getattr(self, n) for n in names])}

    def restore(self, state):
        """Continue from a saved state."""
        for name in _ARRAYS:
            setattr(self, name, np.array(state[name.strip("_")]))
        self._pending = []
        self.received, self._raw_start, self.begin = map(int, state["numbers"][:3])
        self.known, self._decided, self._stale = map(int, state["numbers"][3:])

    def _mark_bad(self, stop):
        """Mark channels without a signal in the samples since the last call."""
        first = max(self._decided - int(_STILL * self.resampler.sfreq), self._raw_start)
        low, high = first - self._raw_start, stop - self._raw_start
        part, bad = self._raw[:, low:high], self._raw_bad[:, low:high]
        bad |= _still(part, max(2, int(_STILL * self.resampler.sfreq)))
        new = slice(self._decided - first, None)
        part, here = part[:, new], bad[:, new]
        extent = np.where(here, -np.inf, part).max(axis=1, initial=-np.inf)
        extent = extent - np.where(here, np.inf, part).min(axis=1, initial=np.inf)
        alive = extent > 0
        if alive.any():
            usual = np.median(extent[alive])
            odd = (extent <= DEAD * usual) | (extent >= _BROKEN * usual)
            here[odd] = True
        self._decided = stop

    def _bad_at(self, model_samples, stop):
        """Return which model samples depend on bad samples."""
        low = self._place(model_samples - _SPREAD, stop)
        high = self._place(model_samples + _SPREAD, stop)
        count = np.pad(np.cumsum(self._raw_bad, axis=1), ((0, 0), (1, 0)))
        return count[:, high + 1] > count[:, low]

    def _place(self, model_samples, stop):
        """Return the indices of samples among the kept ones, clipped at the ends."""
        sample = self.first_sample(model_samples) - self._raw_start
        return np.clip(sample, 0, stop - 1 - self._raw_start)


def too_few(bad):
    """Return where too few channels are good for a prediction."""
    return (~bad).sum(axis=0) < MIN_CHANNELS


def _bridged(data, bad):
    """Replace bad samples by straight lines between good ones."""
    hurt = np.flatnonzero(bad.any(axis=1))
    if not len(hurt):
        return data
    data = data.copy()
    for channel in hurt:
        good = np.flatnonzero(~bad[channel])
        gone = np.flatnonzero(bad[channel])
        data[channel, gone] = (
            np.interp(gone, good, data[channel, good]) if len(good) else 0.0
        )
    return data


def _still(data, least):
    """Return where a channel does not change for at least this many samples."""
    if data.shape[1] < least:
        return np.zeros(data.shape, bool)
    steps = np.pad(np.cumsum(np.diff(data, axis=1) == 0, axis=1), ((0, 0), (1, 0)))
    # A run of n samples has n - 1 steps.
    begins = steps[:, least - 1 :] - steps[:, : 1 - least] == least - 1
    runs = np.zeros((len(data), data.shape[1] + 1), int)
    runs[:, : begins.shape[1]] += begins
    runs[:, least : least + begins.shape[1]] -= begins
    return np.cumsum(runs, axis=1)[:, :-1] > 0
