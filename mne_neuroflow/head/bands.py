"""Frequency bands of the spatial stage, and the covariance of electrodes in each.

This module knows filters and arrays of samples. It does not know heads, sources or
recordings.
"""

from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import firwin

from .._threads import one_blas_thread
from ..contract import SFREQ

#: Samples at 128 Hz by which the filters of the bands shorten a signal at either end.
N_HALO = 128
#: Frequencies in hertz between the bands; they fall on the borders of wavelet levels.
EDGES = (2.5, 4.5, 8.0, 11.0, 16.0, 22.0, 32.0)
N_BANDS = len(EDGES) + 1
#: Wavelet level, coarse to fine, that contains each band.
LEVEL_OF_BAND = np.array([0, 0, 0, 1, 1, 2, 2, 3])
N_LEVELS = LEVEL_OF_BAND[-1] + 1


@lru_cache(maxsize=16)
def band_responses(n_times):
    """Compute the frequency responses of the filters of the bands.

    Parameters
    ----------
    n_times : int
        Samples at 128 Hz, at least ``2 * N_HALO + 1``.

    Returns
    -------
    responses : array of shape (n_bands, n_times // 2 + 1)
        The responses sum to one. The filters have zero phase and a length of N_HALO
        samples to each side.
    """
    low = [np.zeros(n_times // 2 + 1)]
    for edge in EDGES:
        taps = np.zeros(n_times)
        taps[: 2 * N_HALO + 1] = firwin(2 * N_HALO + 1, edge, fs=SFREQ)
        low.append(rfft(np.roll(taps, -N_HALO)).real)
    return np.diff([*low, np.ones(n_times // 2 + 1)], axis=0)


@one_blas_thread
def band_covariance(pieces):
    """Compute the covariance of electrodes in each band.

    Parameters
    ----------
    pieces : iterable of array, shape (n_electrodes, n_times + 2 * N_HALO)
        Stretches of scalp EEG at 128 Hz, volts.

    Returns
    -------
    covariance : array of shape (n_bands, n_electrodes, n_electrodes)
        Second moments, without subtracting the mean, V².
    """
    total, count = 0.0, 0
    for piece in pieces:
        n_times = piece.shape[-1]
        n_fft = next_fast_len(n_times, real=True)
        spectrum = rfft(np.asarray(piece, float), n_fft)
        for_band = irfft(spectrum * band_responses(n_fft)[:, None], n_fft)
        inside = for_band[..., N_HALO : n_times - N_HALO]
        total = total + inside @ inside.transpose(0, 2, 1)
        count += inside.shape[-1]
    return total / count
