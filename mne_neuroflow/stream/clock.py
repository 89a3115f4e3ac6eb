"""Time stamps of samples, and the detection of lost samples."""

from collections import deque

import numpy as np

# Tolerance of time stamps in seconds. Sources stamp samples in chunks, and wait for
# other programs.
_TOLERANCE = 0.1
# Time constant in seconds with which deviations from the nominal rate are followed.
_DRIFT = 30.0
# Seconds of time stamps that are kept.
_KEPT = 60.0


class SampleClock:
    """Number samples by their time stamps.

    Consecutive samples get consecutive numbers. If there is a gap between their time
    stamps, the numbers in between belong to samples that were lost.

    Parameters
    ----------
    sfreq : float
        Nominal rate in hertz.
    """

    def __init__(self, sfreq):
        self._sfreq, self._next, self._zero = sfreq, 0, None
        self._tolerance = max(_TOLERANCE, 1.5 / sfreq)
        self._numbers, self._times = deque(), deque()

    def place(self, times):
        """Compute the numbers of new samples.

        Parameters
        ----------
        times : ndarray, shape (n,)
            Time stamps in seconds.

        Returns
        -------
        runs : list of tuple of (int, slice)
            Number of the first sample of each contiguous run, and the slice of
            ``times`` with the run.
        """
        runs, start = [], 0
        if self._zero is None and len(times):
            self._zero = times[0]
        while start < len(times):
            numbers = self._next + np.arange(len(times) - start)
            late = times[start:] - self._time_of(numbers)
            far = np.flatnonzero(np.abs(late) > self._tolerance)
            n = int(far[0]) if len(far) else len(late)
            if n:
                runs.append((self._next, slice(start, start + n)))
                self._keep(numbers[:n], times[start : start + n])
                share = min(0.5, n / (_DRIFT * self._sfreq))
                self._zero += share * late[:n].mean()
                self._next, start = self._next + n, start + n
            elif late[0] > 0:
                self._next += round(late[0] * self._sfreq)
            else:  # the source's clock was set back
                self._zero += late[0]
        return runs

    def times(self, first_sample, n_samples):
        """Return the time stamps of samples, including lost ones.

        Parameters
        ----------
        first_sample, n_samples : int
            First sample and number of samples.

        Returns
        -------
        times : ndarray, shape (n_samples,)
            Time stamps as received. Those of lost samples are interpolated linearly.
        """
        numbers = np.arange(first_sample, first_sample + n_samples)
        if not self._numbers:
            return self._time_of(numbers)
        known = np.concatenate(self._numbers)
        found = np.interp(numbers, known, np.concatenate(self._times))
        outside = (numbers < known[0]) | (numbers > known[-1])
        return np.where(outside, self._time_of(numbers), found)

    def _time_of(self, numbers):
        """Return the expected times of samples."""
        return (self._zero or 0.0) + numbers / self._sfreq

    def _keep(self, numbers, times):
        if self._numbers and len(self._numbers[-1]) < self._sfreq:
            # Few arrays, because all of them are read at every step.
            numbers = np.concatenate([self._numbers.pop(), numbers])
            times = np.concatenate([self._times.pop(), times])
        self._numbers.append(numbers)
        self._times.append(times)
        while self._numbers[0][-1] < numbers[-1] - _KEPT * self._sfreq:
            self._numbers.popleft()
            self._times.popleft()
