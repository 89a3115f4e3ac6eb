"""A Wiener filter for electrodes that are noisier than expected.

The expected covariance of the electrodes comes from the head model or, better, from
recorded pairs. In a recording, some electrodes have additional noise, because they dry
or because of muscle activity. This excess is estimated from the recording for each
electrode and frequency band. The filter returns the conditional mean of the signals
without it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import firwin

from .._threads import one_blas_thread
from ..contract import SFREQ

#: Samples at 128 Hz by which filters shorten a signal at either end.
N_HALO = 32
# Hz, between the bands.
_EDGES = (4.0, 8.0, 16.0, 32.0)
# Multiple of an electrode's typical amplitude at which its signal is clipped.
_MAX_RMS = 6.0
# Noise of every electrode, as a share of the power of the scalp EEG.
_FLOOR = 1e-3
# Power of an unknown reference, relative to that of an electrode.
_REFERENCE = 1e4
_ITERATIONS = 50
# Number of frequencies in the sum of the error of a map.
_N_FREQS = 128


@dataclass(frozen=True)
class ScalpFilter:
    """A filter that removes the excess noise of electrodes.

    Attributes
    ----------
    limit : array of shape (n_present, 1)
        Amplitude at which each of these electrodes is clipped, volts.
    operator : array of shape (n_bands, n_electrodes, n_present)
        Expected potentials in each band, given those of the present electrodes.
    lost : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the error, V².
    """

    limit: np.ndarray
    operator: np.ndarray
    lost: np.ndarray

    @one_blas_thread
    def __call__(self, scalp):
        """Filter a recording.

        Parameters
        ----------
        scalp : array of shape (n_present, n_times + 2 * N_HALO)
            Volts at 128 Hz against any common reference.

        Returns
        -------
        clean : array of shape (n_electrodes, n_times)
            Volts against the average of all electrodes.
        """
        n_times, n_fft = scalp.shape[-1], next_fast_len(scalp.shape[-1], real=True)
        # The operators are real: apply them to real and imaginary parts in turn.
        spectrum = rfft(np.asarray(clip(scalp, self.limit), float), n_fft).view(float)
        clean = np.zeros((self.operator.shape[1], spectrum.shape[1]))
        responses = np.repeat(band_responses(n_fft), 2, axis=1)
        for operator, response in zip(self.operator, responses, strict=True):
            clean += operator @ (spectrum * response)
        return irfft(clean.view(complex), n_fft)[:, N_HALO : n_times - N_HALO]

    def between(self, other, share):
        """Interpolate to a filter of the same electrodes, whose weight is 0 to 1."""
        return replace(
            self,
            operator=(1 - share) * self.operator + share * other.operator,
            lost=(1 - share) * self.lost + share * other.lost,
        )

    def error(self, weights):
        """Compute the covariance of the error after a map.

        Parameters
        ----------
        weights : array of shape (n_contacts, n_electrodes, n_lags)
            The map.

        Returns
        -------
        covariance : array of shape (n_contacts, n_contacts)
            In V², assuming that the spectrum of the error is flat within each band.
        """
        shape = band_responses(_N_FREQS) ** 2
        shape /= _over_freqs(shape)[:, None]
        response = np.moveaxis(np.fft.rfft(weights, _N_FREQS), -1, 0)
        passed = 0.0
        for lost, share in zip(self.lost, shape, strict=True):
            products = response @ lost @ response.conj().transpose(0, 2, 1)
            passed = passed + _over_freqs(np.moveaxis(products.real, 0, -1) * share)
        return passed


def clip(scalp, limit):
    """Clip samples far above an electrode's typical amplitude, such as pops."""
    return np.clip(scalp, -limit, limit)


def clip_limit(rms):
    """Return the amplitudes at which to clip electrodes, (..., n_electrodes, 1)."""
    return _MAX_RMS * rms[..., None]


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
        The responses for below 4 Hz, 4 to 8, 8 to 16, 16 to 32 Hz and above. Their sum
        is one. The filters have zero phase and a length of N_HALO samples to each side.
    """
    lags = 2 * np.pi * np.arange(n_times // 2 + 1)[:, None] / n_times
    waves = np.cos(lags * np.arange(1, N_HALO + 1)).T
    low = [np.zeros(waves.shape[1])]
    for edge in _EDGES:
        taps = firwin(2 * N_HALO + 1, edge, fs=SFREQ)[N_HALO:]
        low.append(taps[0] + 2 * taps[1:] @ waves)
    return np.diff([*low, np.ones(waves.shape[1])], axis=0)


def split(data):
    """Split signals into bands that add up to them.

    Parameters
    ----------
    data : array of shape (n_channels, n_times + 2 * N_HALO)
        Signals at 128 Hz.

    Returns
    -------
    bands : array of shape (n_bands, n_channels, n_times)
        See :func:`band_responses`.
    """
    n_times = data.shape[-1]
    n_fft = next_fast_len(n_times, real=True)
    spectrum = rfft(np.asarray(data, float), n_fft)
    bands = irfft(spectrum * band_responses(n_fft)[:, None], n_fft)
    return bands[..., N_HALO : n_times - N_HALO]


@one_blas_thread
def band_covariance(pieces):
    """Compute the covariance of electrodes in each band.

    Parameters
    ----------
    pieces : iterable of array, shape (n_electrodes, n_times + 2 * N_HALO)
        Stretches of scalp EEG at 128 Hz.

    Returns
    -------
    covariance : array of shape (n_bands, n_electrodes, n_electrodes)
        The second moments, without subtracting the mean.
    """
    total, count = 0.0, 0
    for piece in pieces:
        bands = split(piece)
        total = total + bands @ bands.transpose(0, 2, 1)
        count += bands.shape[-1]
    return total / count


@one_blas_thread
def find_scalp_filter(usual, limit, present, observed):
    """Compute the filter for a recording.

    Parameters
    ----------
    usual : array of shape (n_bands, n_electrodes, n_electrodes)
        The expected covariance of the electrodes with average reference, V².
    limit : array of shape (n_present, 1)
        The result of :func:`clip_limit`.
    present : array of int, shape (n_present,)
        The indices of the electrodes that the recording has.
    observed : array of shape (n_bands, n_present, n_present)
        The covariance of these in the recording, with average reference.

    Returns
    -------
    scalp_filter : ScalpFilter
        The filter.

    Notes
    -----
    The model is scalp EEG with the expected covariance plus independent noise of every
    electrode, against an unknown reference. The variances of this noise are
    maximum-likelihood estimates, see :func:`inverse_with_excess`. The filter is the
    Gaussian conditional mean, which is the Wiener filter.
    """
    signal = usual + noise_floor(usual)[:, None, None] * np.eye(usual.shape[1])
    cross = signal[:, :, present]
    inverse = inverse_with_excess(cross[:, present], observed, np.linalg.inv)
    operator = cross @ inverse
    centring = np.eye(usual.shape[1]) - 1 / usual.shape[1]
    lost = signal - operator @ cross.transpose(0, 2, 1)
    return ScalpFilter(limit, centring @ operator, centring @ lost @ centring)


def noise_floor(covariance):
    """Return the variance of the noise of all electrodes, (...,)."""
    place = list(range(covariance.shape[-1]))
    return _FLOOR * covariance[..., place, place].mean(-1)


def inverse_with_excess(signal, observed, inv):
    """Estimate the excess noise of each electrode by maximum likelihood.

    It works with NumPy arrays and with tensors.

    Parameters
    ----------
    signal : array of shape (n_bands, n_electrodes, n_electrodes)
        The covariance without the noise, positive definite.
    observed : array of shape (n_bands, n_electrodes, n_electrodes)
        The covariance with the noise, against any reference.
    inv : callable
        A function that inverts stacks of matrices.

    Returns
    -------
    inverse : array of shape (n_bands, n_electrodes, n_electrodes)
        The inverse of the covariance with the noise and an arbitrary reference.

    Notes
    -----
    The multiplicative updates of Zhou et al. 2019 (MM algorithms for variance
    components models, J Comput Graph Stat 28:350) increase the likelihood with every
    step.
    """
    place = list(range(signal.shape[-1]))
    power = signal[..., place, place].mean(-1)
    total = signal + _REFERENCE * power[:, None, None]
    variance = noise_floor(signal)[:, None] + 0 * signal[:, 0]
    for _ in range(_ITERATIONS):
        noisy = total + 0.0
        noisy[..., place, place] += variance
        inverse = inv(noisy)
        seen = ((inverse @ observed) * inverse).sum(-1)
        # Rounding can make a flat electrode's value negative.
        variance = variance * (abs(seen) / inverse[..., place, place]) ** 0.5
    return inverse


def _over_freqs(values):
    """Average over all frequencies, given values at non-negative ones."""
    weight = np.full(values.shape[-1], 2.0)
    weight[[0, -1]] = 1.0
    return values @ (weight / weight.sum())
