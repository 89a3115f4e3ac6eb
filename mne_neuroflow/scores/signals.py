"""Scores of signals: waveforms, spectra, band power, connectivity and events.

Signals are arrays with time as the last axis, in volts. The docstring of each score
says whether higher or lower is better.
"""

import numpy as np
from scipy import signal, stats
from scipy.spatial.distance import cdist

from .._docs import fill_doc

#: Hz. The package predicts between 0.5 and 50 Hz.
BANDS = {
    "broad": (0.5, 45.0),
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
#: Hz over which spectra are compared.
SPECTRUM = (1.0, 45.0)
#: Seconds of a window of band power.
POWER_WINDOW = 2.0
#: Metres between contacts whose difference is a bipolar derivation.
NEAR = 8e-3
_AT_ONCE = 2**17  # samples whose spectra are in memory
# Values in volts, or entries of a matrix, that are zero up to rounding.
_ROUNDING = 1e-15


# Contacts -----------------------------------------------------------------------------


def near_contacts(contacts):
    """Pair each contact with its nearest neighbour if that is near enough.

    Parameters
    ----------
    contacts : array of shape (n_contacts, 3)
        Positions, metres.

    Returns
    -------
    couples : array of int, shape (n_couples, 2)
        Each couple once; none where neighbours are :data:`NEAR` or further apart.

    Examples
    --------
    >>> near_contacts([[0, 0, 0], [0.005, 0, 0], [0.04, 0, 0]]).tolist()
    [[0, 1]]
    """
    contacts = np.asarray(contacts, float)
    if len(contacts) < 2:
        return np.empty((0, 2), int)
    distance = cdist(contacts, contacts)
    np.fill_diagonal(distance, np.inf)
    couples = np.stack([np.arange(len(contacts)), distance.argmin(1)], 1)
    couples = np.sort(couples[distance.min(1) < NEAR], axis=1)
    return np.unique(couples, axis=0)


# Waveforms ----------------------------------------------------------------------------


def pearson_r(estimate, truth):
    """Compute the correlation over time, higher is better.

    The covariance divided by the product of the standard deviations (Pearson 1896,
    Phil. Trans. R. Soc. A 187:253).

    Parameters
    ----------
    estimate, truth : array of shape (..., n_times)
        The signals, in the same unit.

    Returns
    -------
    r : array of shape (...)
        -1 to 1, and 0 where a signal is constant.

    Examples
    --------
    >>> float(pearson_r([0.0, 1.0, 0.0], [1.0, 3.0, 1.0]))
    1.0
    """
    return cosine_similarity(_centred(estimate), _centred(truth))


def cosine_similarity(estimate, truth):
    """Compute the cosine of the angle between signals, higher is better.

    ``sum(a * b) / sqrt(sum(a**2) * sum(b**2))``.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_times)
        The signals, in the same unit.

    Returns
    -------
    cosine : array of shape (...)
        -1 to 1, and 0 where a signal is zero throughout.

    Examples
    --------
    >>> float(cosine_similarity([1.0, 0.0], [0.0, 1.0]))
    0.0
    """
    estimate, truth = _unit(estimate), _unit(truth)
    return np.clip((estimate * truth).sum(-1), -1, 1)


def nrmse(estimate, truth):
    """Compute the normalized root-mean-square error, lower is better.

    ``sqrt(mean((estimate - truth)**2)) / std(truth)``.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_times)
        The signals, in the same unit.

    Returns
    -------
    error : array of shape (...)
        In standard deviations of the truth, zero or more. A constant estimate at the
        mean of the truth has 1. NaN where the truth is constant.

    Examples
    --------
    >>> float(nrmse([0.0, 0.0], [-1.0, 1.0]))
    1.0
    """
    estimate, truth = np.asarray(estimate, float), np.asarray(truth, float)
    error = np.sqrt(np.square(estimate - truth).mean(-1))
    return relative(error, truth.std(-1))


def relative(value, scale):
    """Divide by a scale that may be zero, such as that of a contact without signal.

    Parameters
    ----------
    value, scale : array of shape (...)
        Both in the same unit.

    Returns
    -------
    ratio : array of shape (...)
        NaN where the scale is zero up to rounding (1e-15).

    Examples
    --------
    >>> relative([2.0, 2.0], [4.0, 0.0]).tolist()
    [0.5, nan]
    """
    scale = np.asarray(scale, float)
    return value / np.where(scale > _ROUNDING, scale, np.nan)


def _centred(series):
    series = np.asarray(series, float)
    return series - series.mean(-1, keepdims=True)


def _unit(series):
    """Scale to unit length. Signals that are zero up to rounding become zero."""
    series = np.asarray(series, float)
    peak = np.abs(series).max(-1, keepdims=True)
    some = peak > _ROUNDING
    series = np.where(some, series, 0) / np.where(some, peak, 1)
    length = np.linalg.norm(series, axis=-1, keepdims=True)
    return series / np.where(length > 0, length, 1)


# Spectra ------------------------------------------------------------------------------


@fill_doc
def power_spectrum(series, sfreq):
    """Compute power spectral densities by Welch's method.

    Hann windows of one second overlap by half (Welch 1967, IEEE Trans. Audio
    Electroacoust. 15:70).

    Parameters
    ----------
    %(series)s
    %(sfreq)s

    Returns
    -------
    freqs : array of shape (n_freqs,)
        1 to 45 Hz in steps of 1 Hz.
    density : array of shape (..., n_freqs)
        Power spectral densities in V²/Hz.

    Examples
    --------
    >>> import numpy as np
    >>> times = np.arange(1280) / 128
    >>> freqs, density = power_spectrum(np.sin(2 * np.pi * 10 * times), 128)
    >>> float(freqs[density.argmax()])
    10.0
    """
    series = np.asarray(series)
    size, rows = int(sfreq), series.reshape(-1, series.shape[-1])
    step = max(1, _AT_ONCE // rows.shape[-1])
    density = []
    for first in range(0, len(rows), step):
        # As scipy.signal.welch, which takes windows one by one and so up to three times
        # as long.
        freqs, _, power = signal.spectrogram(
            rows[first : first + step], sfreq, "hann", size, size // 2
        )
        kept = (freqs >= SPECTRUM[0] - 0.01) & (freqs <= SPECTRUM[1] + 0.01)
        density.append(power[:, kept].mean(-1))
    return freqs[kept], np.concatenate(density).reshape(*series.shape[:-1], -1)


def log_spectral_distance(estimate, truth, level=True):
    """Compute the root-mean-square difference of log spectra, lower is better.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_freqs)
        Power spectral densities in V²/Hz.
    level : bool
        Whether to include differences in overall level. If False, the mean difference
        is subtracted first.

    Returns
    -------
    distance : array of shape (...)
        In decibels, zero or more (Gray & Markel 1976, IEEE Trans. ASSP 24:380).

    Examples
    --------
    >>> float(log_spectral_distance([10.0, 10.0], [1.0, 1.0]))
    10.0
    >>> float(log_spectral_distance([10.0, 10.0], [1.0, 1.0], level=False))
    0.0
    """
    shift = decibels(estimate) - decibels(truth)
    if not level:
        shift = shift - shift.mean(-1, keepdims=True)
    return np.sqrt(np.square(shift).mean(-1))


def aperiodic_exponent(freqs, density, fmin=2.0, fmax=40.0):
    """Compute the exponent with which a spectrum falls with frequency.

    The slope of log power against log frequency is the Theil-Sen estimator (Sen 1968,
    J. Am. Stat. Assoc. 63:1379). It is the median over pairs of frequencies, which
    spectral peaks hardly change.

    Parameters
    ----------
    freqs : array of shape (n_freqs,)
        The frequencies in Hz.
    density : array of shape (..., n_freqs)
        Power spectral density in V²/Hz.
    fmin, fmax : float
        The limits of the fit in Hz.

    Returns
    -------
    exponent : array of shape (...)
        0 for white noise, 2 for ``1 / f²``. The error of an estimate is the difference
        of exponents.

    Examples
    --------
    >>> import numpy as np
    >>> freqs = np.arange(1.0, 46)
    >>> print(f"{aperiodic_exponent(freqs, freqs**-2.0):.1f}")
    2.0
    """
    kept = (freqs >= fmin) & (freqs <= fmax)
    x = np.log(freqs[kept])
    y = np.log(np.maximum(density[..., kept], 1e-30))
    first, second = np.triu_indices(len(x), 1)
    slopes = (y[..., second] - y[..., first]) / (x[second] - x[first])
    return -np.median(slopes, axis=-1)


# Bands --------------------------------------------------------------------------------


@fill_doc
def in_band(series, sfreq, band):
    """Filter signals to a band, without delay.

    Parameters
    ----------
    %(series)s
    %(sfreq)s
    band : str
        One of :data:`BANDS`; ``'broad'`` returns the signals as they are.

    Returns
    -------
    filtered : array of shape (..., n_times)
        The signals after a Butterworth filter of order 4, forwards and backwards
        (:func:`scipy.signal.sosfiltfilt`).

    Examples
    --------
    >>> import numpy as np
    >>> times = np.arange(512) / 128
    >>> slow = in_band(np.sin(2 * np.pi * 2 * times), 128, "alpha")
    >>> bool(np.abs(slow[128:-128]).max() < 0.01)
    True
    """
    if band == "broad":
        return np.asarray(series)
    sos = signal.butter(4, BANDS[band], "bandpass", fs=sfreq, output="sos")
    return signal.sosfiltfilt(sos, series).astype(np.asarray(series).dtype)


@fill_doc
def log_band_power(filtered, sfreq):
    """Compute the logarithm of power in windows of two seconds.

    It is ``10 * log10(mean(filtered**2))`` in each window.

    Parameters
    ----------
    filtered : array of shape (..., n_times)
        Signals of one band in volts, see :func:`in_band`.
    %(sfreq)s

    Returns
    -------
    power : array of shape (..., n_windows)
        Decibels relative to 1 V². Samples after the last whole window are left out.

    Examples
    --------
    >>> import numpy as np
    >>> log_band_power(np.full(512, 10.0), 128).tolist()
    [20.0, 20.0]
    """
    size = int(POWER_WINDOW * sfreq)
    n_windows = filtered.shape[-1] // size
    pieces = filtered[..., : n_windows * size]
    pieces = pieces.reshape(*filtered.shape[:-1], n_windows, size)
    return decibels(np.square(pieces).mean(-1))


def decibels(power):
    """Convert power to decibels.

    Parameters
    ----------
    power : array of shape (...)
        The power in V² or V²/Hz.

    Returns
    -------
    level : array of shape (...)
        Decibels relative to one unit. Zero power has -300.

    Examples
    --------
    >>> decibels([100.0, 0.0]).tolist()
    [20.0, -300.0]
    """
    return 10 * np.log10(np.maximum(power, 1e-30))


def lateralization(left, right):
    """Compute the lateralization index of power.

    This is the laterality index of imaging (Seghier 2008, Magnetic Resonance Imaging
    26:594).

    Parameters
    ----------
    left, right : array of shape (...)
        The power of each side in V².

    Returns
    -------
    index : array of shape (...)
        ``(left - right) / (left + right)``, from -1 (right only) to 1 (left only), and
        0 if both are zero. The error of an estimate is the absolute difference of
        indices, 0 to 2.

    Examples
    --------
    >>> float(lateralization(3.0, 1.0))
    0.5
    """
    left, right = np.asarray(left, float), np.asarray(right, float)
    return (left - right) / np.maximum(left + right, 1e-30)


# Connectivity -------------------------------------------------------------------------


def correlation_matrix(filtered):
    """Compute Pearson's correlation between channels, see :func:`pearson_r`.

    Parameters
    ----------
    filtered : array of shape (n_channels, n_times)
        The signals of one band.

    Returns
    -------
    matrix : array of shape (n_channels, n_channels)
        -1 to 1.

    Examples
    --------
    >>> bool(correlation_matrix([[0.0, 1, 0], [0.0, -1, 0]])[0, 1] < -0.99)
    True
    """
    unit = _unit(_centred(filtered))
    return unit @ unit.T


@fill_doc
def spectral_connectivity(series, sfreq, bands, methods=("coh", "imcoh", "plv")):
    """Compute coherence, imaginary coherence and phase-locking between channels.

    mne-connectivity computes them in windows of two seconds. Imaginary coherence: Nolte
    et al. 2004, Clin. Neurophysiol. 115:2292. Phase-locking: Lachaux et al. 1999, Human
    Brain Mapping 8:194.

    Parameters
    ----------
    series : array of shape (..., n_channels, n_times)
        Signals in volts, four seconds or more.
    %(sfreq)s
    bands : list of str
        Names in :data:`BANDS`.
    methods : tuple of str
        One or more of ``'coh'`` and ``'plv'``, 0 to 1, and ``'imcoh'``, -1 to 1.

    Returns
    -------
    matrices : dict of array, shape (..., n_bands, n_channels, n_channels)
        One array per method, zero on the diagonal. Matrices of ``'imcoh'`` are
        antisymmetric, the others symmetric. A channel that is zero has zeros.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.random.default_rng(0).normal(size=(2, 1280))
    >>> both = spectral_connectivity(series, 128, ["alpha"], ("coh", "plv"))
    >>> both["coh"].shape
    (1, 2, 2)
    """
    from mne_connectivity import spectral_connectivity_epochs

    series = np.asarray(series, float)
    size, n_channels = int(POWER_WINDOW * sfreq), series.shape[-2]
    n_windows = series.shape[-1] // size
    windows = series[..., : n_windows * size].reshape(-1, n_windows, size)
    sets = np.arange(0, len(windows), n_channels)
    low, high = zip(*(BANDS[band] for band in bands), strict=True)
    # One call for all sets of channels, whose start may take longer than its work.
    row, column = np.tril_indices(n_channels, -1)
    pairs = [(sets[:, None] + index).ravel() for index in (row, column)]
    # Channels that are zero have no phase, and coherence is undefined.
    with np.errstate(invalid="ignore"):
        found = spectral_connectivity_epochs(
            windows.swapaxes(0, 1),
            method=list(methods),
            indices=tuple(pairs),
            mode="fourier",
            sfreq=sfreq,
            fmin=low,
            fmax=high,
            faverage=True,
            verbose="error",
        )
    found = found if isinstance(found, list) else [found]
    matrices = {}
    for method, one in zip(methods, found, strict=True):
        values = np.nan_to_num(one.get_data()).reshape(len(sets), len(row), len(bands))
        matrix = np.zeros((len(sets), len(bands), n_channels, n_channels))
        matrix[..., row, column] = values.swapaxes(1, 2)
        sign = -1 if method == "imcoh" else 1
        matrix[..., column, row] = sign * matrix[..., row, column]
        matrices[method] = matrix.reshape(*series.shape[:-2], *matrix.shape[1:])
    return matrices


def relative_frobenius(estimate, truth):
    """Compute the relative error of a connectivity matrix, lower is better.

    It is the Frobenius norm of the difference divided by that of the truth, without the
    diagonal.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_channels, n_channels)
        Matrices.

    Returns
    -------
    error : array of shape (...)
        Zero or more. A matrix of zeros has 1. NaN where the truth is zero throughout.

    Examples
    --------
    >>> import numpy as np
    >>> float(relative_frobenius(np.zeros((2, 2)), np.ones((2, 2))))
    1.0
    """
    estimate, truth = _off_diagonal(estimate), _off_diagonal(truth)
    return relative(*(np.linalg.norm(m, axis=-1) for m in (estimate - truth, truth)))


def matrix_similarity(estimate, truth):
    """Compute the correlation between the entries of two matrices, higher is better.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_channels, n_channels)
        The matrices, of which the diagonal is ignored.

    Returns
    -------
    r : array of shape (...)
        -1 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.arange(9.0).reshape(3, 3)
    >>> print(f"{matrix_similarity(2 * truth + 1, truth):.1f}")
    1.0
    """
    return pearson_r(_off_diagonal(estimate), _off_diagonal(truth))


def _off_diagonal(matrix):
    matrix = np.asarray(matrix)
    return matrix[..., ~np.eye(matrix.shape[-1], dtype=bool)]


# Spikes -------------------------------------------------------------------------------


@fill_doc
def spike_score(series, sfreq):
    """Compute how much a signal exceeds its background at each time, for spikes.

    It is the envelope between 4 and 25 Hz divided by its median, as Janca et al. 2015,
    Brain Topogr. 28:172, do with 10 to 60 Hz. Spikes and sharp waves of 20 to 200 ms
    (Kane et al. 2017, Clin. Neurophysiol. Pract. 2:170) have most of their energy in
    this band.

    Parameters
    ----------
    %(series)s
    %(sfreq)s

    Returns
    -------
    score : array of shape (..., n_times)
        About one in the background.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.random.default_rng(0).normal(size=1280)
    >>> series[640] += 50
    >>> bool(abs(spike_score(series, 128).argmax() - 640) < 3)
    True
    """
    series = np.asarray(series)
    sos = signal.butter(2, (4, 25), "bandpass", fs=sfreq, output="sos")
    filtered = signal.sosfiltfilt(sos, series)
    if series.dtype == np.float32:  # half of the time
        filtered = filtered.astype(np.float32)
    envelope = np.abs(signal.hilbert(filtered))
    middle = np.median(envelope, axis=-1, keepdims=True)
    return envelope / np.maximum(middle, 1e-30)


@fill_doc
def spike_detection(score, spikes, sfreq, threshold=4.0, tolerance=0.15):
    """Compare detected spikes with known ones.

    Parameters
    ----------
    score : array of shape (n_times,)
        The result of :func:`spike_score`, for one contact or averaged over draws.
    spikes : array of shape (n_spikes,)
        The times of the peaks of known spikes, in seconds from the first sample.
    %(sfreq)s
    threshold : float
        Peaks of the score above this value, 0.3 s or more apart, are detections.
    tolerance : float
        The maximum time between a spike and its detection in seconds.

    Returns
    -------
    sensitivity : float
        The share of spikes that are detected, 0 to 1, higher is better. NaN without
        spikes.
    false_alarms : float
        The number of other detections per minute, lower is better.
    auc : float
        The area under the receiver operating characteristic (Hanley & McNeil 1982,
        Radiology 143:29) of the maximum score around spikes against that in other
        windows of the same length, 0 to 1. Higher is better; 0.5 is chance. It does not
        depend on the threshold. NaN without spikes.

    Examples
    --------
    >>> import numpy as np
    >>> score = np.ones(1280)
    >>> score[[300, 900]] = 9
    >>> [round(value, 2) for value in spike_detection(score, [300 / 128], 128)]
    [1.0, 6.0, 0.98]
    """
    score, spikes = np.asarray(score), np.asarray(spikes, float)
    peaks, _ = signal.find_peaks(score, threshold, distance=int(0.3 * sfreq))
    apart = np.abs(peaks[:, None] / sfreq - spikes)
    near = apart <= tolerance
    minutes = len(score) / sfreq / 60
    false_alarms = float((~near.any(1)).sum() / minutes)
    if not len(spikes):
        return np.nan, false_alarms, np.nan
    sensitivity = float(near.any(0).mean())
    return sensitivity, false_alarms, _auc(*_windows(score, spikes, sfreq, tolerance))


@fill_doc
def seizure_score(series, sfreq):
    """Compute the line length of each second relative to the median second.

    The line length is the mean absolute difference of neighbouring samples (Esteller et
    al. 2001, Proc. 23rd IEEE EMBS, 1707).

    Parameters
    ----------
    %(series)s
    %(sfreq)s

    Returns
    -------
    score : array of shape (..., n_seconds)
        One in the median second. Samples after the last whole second are left out.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.random.default_rng(0).normal(size=1280)
    >>> series[640:768] *= 4
    >>> seizure_score(series, 128).round().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0]
    """
    size = round(sfreq)
    n_seconds = series.shape[-1] // size
    whole = series[..., : n_seconds * size]
    seconds = whole.reshape(*series.shape[:-1], n_seconds, size)
    length = np.abs(np.diff(seconds, axis=-1)).mean(-1)
    middle = np.median(length, axis=-1, keepdims=True)
    return length / np.maximum(middle, 1e-30)


def seizure_detection(score, seizures, threshold=2.0):
    """Compare detected seconds with known seizures.

    Parameters
    ----------
    score : array of shape (n_seconds,)
        The result of :func:`seizure_score`, for one contact or averaged over draws.
    seizures : array of shape (n_seizures, 2)
        Start and end of known seizures, in seconds from the first sample.
    threshold : float
        Seconds with a score above this value are detections.

    Returns
    -------
    sensitivity : float
        The share of ictal seconds that are detected, 0 to 1, higher is better. NaN
        without seizures.
    false_alarms : float
        The number of runs of detected seconds outside of seizures, per minute outside
        of seizures, lower is better. NaN if there are no such seconds.
    auc : float
        The area under the receiver operating characteristic of ictal against other
        seconds, see :func:`spike_detection`.

    Examples
    --------
    >>> import numpy as np
    >>> score = np.array([1, 1, 4, 3, 1, 1, 3, 1, 1, 1])
    >>> [round(value, 2) for value in seizure_detection(score, [(2, 5)])]
    [0.67, 8.57, 0.79]
    """
    score = np.asarray(score)
    middle = np.arange(len(score)) + 0.5
    spans = np.reshape(np.asarray(seizures, float), (-1, 2))
    inside = ((middle[:, None] > spans[:, 0]) & (middle[:, None] < spans[:, 1])).any(1)
    found = score > threshold
    alarms = found & ~inside
    runs = np.diff(alarms.astype(int), prepend=0) == 1
    outside = (~inside).sum()
    false_alarms = float(60 * runs.sum() / outside) if outside else np.nan
    sensitivity = float(found[inside].mean()) if inside.any() else np.nan
    return sensitivity, false_alarms, _auc(score[inside], score[~inside])


def _windows(score, spikes, sfreq, tolerance):
    """Return maxima of the score around spikes, and in windows without spikes."""
    half, size = round(tolerance * sfreq), 2 * round(tolerance * sfreq) + 1
    spikes = spikes[(spikes >= 0) & (spikes * sfreq < len(score))]
    if not len(spikes):
        return [], []
    # In the last half of a sample the nearest one is beyond the end.
    centres = np.minimum(np.round(spikes * sfreq).astype(int), len(score) - 1)
    around = [score[max(c - half, 0) : c + half + 1].max() for c in centres]
    starts = np.arange(0, len(score) - size + 1, size)
    free = np.abs(starts[:, None] + half - centres).min(1) > size
    return around, [score[start : start + size].max() for start in starts[free]]


def _auc(positive, negative):
    """Return the probability that a positive scores above a negative."""
    if not len(positive) or not len(negative):
        return np.nan
    u = stats.mannwhitneyu(positive, negative).statistic
    return float(u / (len(positive) * len(negative)))
