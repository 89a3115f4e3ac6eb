"""A Wiener filter that brings a scalp recording to what a map was learned from.

A map from scalp to contacts that was learned from pairs knows how noisy each electrode
was there. In another session other electrodes are noisy: one dries, a jaw is tense.
Their excess is estimated from the recording alone, by electrode and frequency band,
and what the electrodes would have shown without it is its conditional mean. What this
leaves open widens the intervals.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import firwin, oaconvolve

#: Samples at 128 Hz by which :meth:`ScalpFilter.__call__` shortens either end.
N_HALO = 32
_SFREQ = 128.0
# Hz, between the bands.
_EDGES = (4.0, 8.0, 16.0, 32.0)
# Times an electrode's typical amplitude at which its signal is cut off.
_LOUDEST = 6.0
# Share of the scalp's power that counts as noise of every electrode.
_FLOOR = 1e-3
_ITERATIONS = 50
# Frequencies at which the error of a map is summed.
_N_FREQS = 128


@dataclass(frozen=True)
class ScalpFilter:
    """What the electrodes of the pairs would have shown in another recording.

    Attributes
    ----------
    limit : array of shape (n_heard, 1)
        Amplitude at which each electrode at hand is cut off, volts at unit gain.
    operator : array of shape (n_bands, n_electrodes, n_heard)
        Expected potentials in each band, given those of the electrodes at hand.
    lost : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the error, V² at unit gain.
    """

    limit: np.ndarray
    operator: np.ndarray
    lost: np.ndarray

    def __call__(self, scalp):
        """Filter a recording.

        Parameters
        ----------
        scalp : array of shape (n_heard, n_times + 2 * N_HALO)
            Average-referenced volts at 128 Hz at unit gain.

        Returns
        -------
        clean : array of shape (n_electrodes, n_times)
            Volts at unit gain against the average of all electrodes.
        """
        return np.einsum("beh,bht->et", self.operator, split(clip(scalp, self.limit)))

    def error(self, weights):
        """Compute the covariance with which the error passes through a map.

        Parameters
        ----------
        weights : array of shape (n_contacts, n_electrodes, n_lags)
            The map.

        Returns
        -------
        covariance : array of shape (n_contacts, n_contacts)
            V² at unit gain, if the error's spectrum is flat within each band.
        """
        shape = np.abs(np.fft.rfft(_bank(), _N_FREQS)) ** 2
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
    """Amplitude at which electrodes are cut off, (n, 1), given their typical ones."""
    return _LOUDEST * np.asarray(rms)[:, None]


def split(data):
    """Split signals into bands whose sum they are.

    Parameters
    ----------
    data : array of shape (n_channels, n_times + 2 * N_HALO)
        Signals at 128 Hz.

    Returns
    -------
    bands : array of shape (n_bands, n_channels, n_times)
        Below 4 Hz, 4 to 8, 8 to 16, 16 to 32 and above, by symmetric filters.
    """
    return np.stack([oaconvolve(data, band[None], "valid", 1) for band in _bank()])


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


def find_scalp_filter(usual, rms, heard, observed):
    """Compute the filter for a recording.

    Parameters
    ----------
    usual : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the electrodes in the pairs, V² at unit gain.
    rms : array of shape (n_electrodes,)
        Their typical amplitudes there, volts at unit gain.
    heard : array of int, shape (n_heard,)
        Which of them the recording has.
    observed : array of shape (n_bands, n_heard, n_heard)
        Covariance of these in the recording, at unit gain, average-referenced.

    Returns
    -------
    scalp_filter : ScalpFilter
        The filter.

    Notes
    -----
    The model is a scalp with the covariance of the pairs, to which every electrode
    adds independent noise, seen against the average of those at hand. The variances of
    this noise are those of most likelihood, by the updates of Zhou et al. 2019
    (MM algorithms for variance components models, J Comput Graph Stat 28:350), and the
    filter is the Gaussian conditional mean, that is, Wiener's.
    """
    # Signals against the average reference have one dimension less than electrodes.
    view = np.linalg.svd(np.eye(len(heard)) - 1 / len(heard))[0][:, :-1].T
    operator, lost = [], []
    for before, now in zip(usual, observed, strict=True):
        floor = _FLOOR * np.trace(before) / len(before)
        signal = before + floor * np.eye(len(before))
        cross = signal[:, heard] @ view.T
        expected = view @ cross[heard]
        excess = _excess(view @ now @ view.T, expected, view, floor)
        gain = np.linalg.solve(expected + view * excess @ view.T, cross.T).T
        operator.append(gain @ view)
        # What the pairs' own noise floor hides is in the map's residuals already.
        lost.append(signal - gain @ cross.T)
    centring = np.eye(usual.shape[1]) - 1 / usual.shape[1]
    return ScalpFilter(
        loudest(rms[heard]), centring @ np.array(operator), centring @ lost @ centring
    )


def _excess(seen, expected, view, start):
    """Variance of each electrode's noise that makes what is seen likeliest."""
    variance = np.full(view.shape[1], start)
    for _ in range(_ITERATIONS):
        inverse = np.linalg.inv(expected + view * variance @ view.T)
        expects = np.einsum("ke,kl,le->e", view, inverse, view, optimize=True)
        finds = inverse @ view
        power = np.einsum("ke,kl,le->e", finds, seen, finds, optimize=True)
        variance = variance * np.sqrt(power / expects)
    return variance


def _bank():
    """Make filters that sum to the identity, (n_bands, 2 * N_HALO + 1)."""
    n_taps = 2 * N_HALO + 1
    low = [firwin(n_taps, edge, fs=_SFREQ) for edge in _EDGES]
    low = [np.zeros(n_taps), *low, np.eye(n_taps)[N_HALO]]
    return np.diff(low, axis=0)


def _over_freqs(values):
    """Average over all frequencies of what is given for those that are not negative."""
    weight = np.full(values.shape[-1], 2.0)
    weight[[0, -1]] = 1.0
    return values @ (weight / weight.sum())
