"""Extrapolation of scalp EEG into the future.

Filters and flow need a few seconds of future samples. Samples that have not arrived are
replaced by their conditional mean given the past, under a linear autoregression with
the same coefficients for all channels. An oscillation continues and decays, and the
unpredictable part is zero. Because channels share the coefficients, the result does not
depend on whether the reference is changed before or after.
"""

import numpy as np
from scipy.linalg import solve_toeplitz

from ..contract import SFREQ

#: Order of the autoregression in samples: half a second.
ORDER = SFREQ // 2
#: Number of samples after which nothing can be predicted.
HORIZON = 2 * SFREQ
# Number of samples whose mean is the offset of a channel, which continues unchanged.
_LEVEL = 2 * SFREQ
# Autocorrelation before any data: that of a first-order process of some hertz.
_MEMORY = 0.1 * SFREQ
# Share of white noise, so that the regression does not depend on rounding errors.
_WHITE = 1e-4


def autocovariance(data):
    """Compute the mean autocovariance of channels.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_times)
        Channels with zero mean.

    Returns
    -------
    autocovariance : ndarray, shape (ORDER + 1,)
        Values from lag zero.
    """
    n_times = data.shape[1]
    spectrum = np.fft.rfft(data, 2 * n_times)
    power = (spectrum.real**2 + spectrum.imag**2).sum(0)
    return np.fft.irfft(power)[: ORDER + 1] / n_times


def expected_correlation():
    """Return the expected autocorrelation, for use before there are data."""
    return np.exp(-np.arange(ORDER + 1) / _MEMORY)


class Future:
    """The conditional mean of channels given their past.

    Parameters
    ----------
    correlation : ndarray, shape (ORDER + 1,)
        Autocorrelation from lag zero, with any scale.
    """

    def __init__(self, correlation):
        self.correlation = correlation
        first = correlation[:-1].copy()
        first[0] *= 1 + _WHITE
        coefficients = solve_toeplitz(first, correlation[1:])[::-1]
        weights = np.zeros((ORDER + HORIZON, ORDER))
        weights[:ORDER] = np.eye(ORDER)
        for k in range(HORIZON):
            weights[ORDER + k] = coefficients @ weights[k : ORDER + k]
        self._weights = weights[ORDER:].T

    def extend(self, data, n_times):
        """Continue channels.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_past)
            The past.
        n_times : int
            Number of future samples.

        Returns
        -------
        data : ndarray, shape (n_channels, n_past + n_times)
            The past and the expected future.
        """
        level = data[:, -_LEVEL:].mean(axis=1, keepdims=True)
        past = data[:, -ORDER:] - level
        ahead = np.zeros((len(data), n_times))
        n = min(n_times, HORIZON)
        ahead[:, :n] = past @ self._weights[-past.shape[1] :, :n]
        return np.concatenate([data, level + ahead], axis=1)
