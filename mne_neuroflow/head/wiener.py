"""A Wiener filter for electrodes that are noisier than they should be.

What electrodes show together is known beforehand: from the head model or, better, from
recorded pairs. In a recording some electrodes add to that: one dries, a jaw is tense.
Their excess is estimated from the recording alone, by electrode and frequency band,
and what the electrodes would have shown without it is its conditional mean.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import firwin

from ..contract import SFREQ

#: Samples at 128 Hz by which filters shorten a signal at either end.
N_HALO = 32
# Hz, between the bands.
_EDGES = (4.0, 8.0, 16.0, 32.0)
# Times an electrode's typical amplitude at which its signal is cut off.
_LOUDEST = 6.0
# Share of the scalp's power that counts as noise of every electrode.
_FLOOR = 1e-3
# Power of a reference that may be anything, over that of an electrode.
_REFERENCE = 1e4
_ITERATIONS = 50
# Frequencies at which the error of a map is summed.
_N_FREQS = 128


@dataclass(frozen=True)
class ScalpFilter:
    """What electrodes would show without their excess of noise.

    Attributes
    ----------
    limit : array of shape (n_heard, 1)
        Amplitude at which each electrode at hand is cut off, volts.
    operator : array of shape (n_bands, n_electrodes, n_heard)
        Expected potentials in each band, given those of the electrodes at hand.
    lost : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the error, V².
    """

    limit: np.ndarray
    operator: np.ndarray
    lost: np.ndarray

    def __call__(self, scalp):
        """Filter a recording.

        Parameters
        ----------
        scalp : array of shape (n_heard, n_times + 2 * N_HALO)
            Volts at 128 Hz against any common reference.

        Returns
        -------
        clean : array of shape (n_electrodes, n_times)
            Volts against the average of all electrodes.
        """
        n_times, n_fft = scalp.shape[-1], next_fast_len(scalp.shape[-1], real=True)
        # Real operators, which take real and imaginary parts in turn.
        spectrum = rfft(np.asarray(clip(scalp, self.limit), float), n_fft).view(float)
        clean = np.zeros((self.operator.shape[1], spectrum.shape[1]))
        responses = np.repeat(band_responses(n_fft), 2, axis=1)
        for operator, response in zip(self.operator, responses, strict=True):
            clean += operator @ (spectrum * response)
        return irfft(clean.view(complex), n_fft)[:, N_HALO : n_times - N_HALO]

    def error(self, weights):
        """Compute the covariance with which the error passes through a map.

        Parameters
        ----------
        weights : array of shape (n_contacts, n_electrodes, n_lags)
            The map.

        Returns
        -------
        covariance : array of shape (n_contacts, n_contacts)
            V², if the error's spectrum is flat within each band.
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
    """Take the top off what is far louder than an electrode is, such as pops."""
    return np.clip(scalp, -limit, limit)


def loudest(rms):
    """Amplitude at which electrodes are cut off, with one more axis than theirs."""
    return _LOUDEST * rms[..., None]


def band_responses(n_times):
    """Compute what filters of the bands do to each frequency.

    Parameters
    ----------
    n_times : int
        Samples at 128 Hz, at least ``2 * N_HALO + 1``.

    Returns
    -------
    responses : array of shape (n_bands, n_times // 2 + 1)
        Below 4 Hz, 4 to 8, 8 to 16, 16 to 32 and above; they sum to one. The filters
        have no phase and reach N_HALO samples to either side.
    """
    lags = 2 * np.pi * np.arange(n_times // 2 + 1)[:, None] / n_times
    waves = np.cos(lags * np.arange(1, N_HALO + 1)).T
    low = [np.zeros(waves.shape[1])]
    for edge in _EDGES:
        taps = firwin(2 * N_HALO + 1, edge, fs=SFREQ)[N_HALO:]
        low.append(taps[0] + 2 * taps[1:] @ waves)
    return np.diff([*low, np.ones(waves.shape[1])], axis=0)


def split(data):
    """Split signals into bands whose sum they are.

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


def band_covariance(pieces):
    """Compute the covariance of electrodes in each band.

    Parameters
    ----------
    pieces : iterable of array, shape (n_electrodes, n_times + 2 * N_HALO)
        Stretches of scalp at 128 Hz.

    Returns
    -------
    covariance : array of shape (n_bands, n_electrodes, n_electrodes)
        About zero.
    """
    total, count = 0.0, 0
    for piece in pieces:
        bands = split(piece)
        total = total + bands @ bands.transpose(0, 2, 1)
        count += bands.shape[-1]
    return total / count


def find_scalp_filter(usual, limit, heard, observed):
    """Compute the filter for a recording.

    Parameters
    ----------
    usual : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the electrodes as it should be, average-referenced, V².
    limit : array of shape (n_heard, 1)
        From :func:`loudest`.
    heard : array of int, shape (n_heard,)
        Which of the electrodes the recording has.
    observed : array of shape (n_bands, n_heard, n_heard)
        Covariance of these in the recording, average-referenced.

    Returns
    -------
    scalp_filter : ScalpFilter
        The filter.

    Notes
    -----
    The model is a scalp with the usual covariance, to which every electrode adds
    independent noise, seen against an unknown reference. The variances of this noise
    are those of most likelihood, see :func:`inverse_with_excess`, and the filter is
    the Gaussian conditional mean, that is, Wiener's.
    """
    signal = usual + noise_floor(usual)[:, None, None] * np.eye(usual.shape[1])
    cross = signal[:, :, heard]
    inverse = inverse_with_excess(cross[:, heard], observed, np.linalg.inv)
    operator = cross @ inverse
    centring = np.eye(usual.shape[1]) - 1 / usual.shape[1]
    lost = signal - operator @ cross.transpose(0, 2, 1)
    return ScalpFilter(limit, centring @ operator, centring @ lost @ centring)


def noise_floor(covariance):
    """Variance of the noise that all electrodes have, (...,)."""
    place = list(range(covariance.shape[-1]))
    return _FLOOR * covariance[..., place, place].mean(-1)


def inverse_with_excess(signal, observed, inv):
    """Find the noise of each electrode that makes a recording likeliest.

    NumPy arrays and torch tensors alike.

    Parameters
    ----------
    signal : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance without the noise, positive definite.
    observed : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance with it, against any reference.
    inv : callable
        Inverts stacks of matrices.

    Returns
    -------
    inverse : array of shape (n_bands, n_electrodes, n_electrodes)
        Of the covariance with the noise and a reference that may be anything.

    Notes
    -----
    The multiplicative updates of Zhou et al. 2019 (MM algorithms for variance
    components models, J Comput Graph Stat 28:350), which raise the likelihood with
    every step.
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
        # Rounding can leave a silent electrode below zero.
        variance = variance * (abs(seen) / inverse[..., place, place]) ** 0.5
    return inverse


def _over_freqs(values):
    """Average over all frequencies of what is given for those that are not negative."""
    weight = np.full(values.shape[-1], 2.0)
    weight[[0, -1]] = 1.0
    return values @ (weight / weight.sum())
