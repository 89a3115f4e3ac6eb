"""Whether signals are alike: waveforms, spectra, band power, connectivity.

Signals are arrays with time as the last axis, in volts. Every function compares an
estimate with the truth, and says which direction is better.
"""

import numpy as np
from scipy import signal, stats

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
# Volts, or entries of a matrix: what is not larger is zero but for rounding.
_ROUNDING = 1e-15


# Waveforms ----------------------------------------------------------------------------


def pearson_r(estimate, truth):
    """Correlation over time, higher is better.

    The covariance over the product of standard deviations (Pearson 1896, Phil. Trans.
    R. Soc. A 187:253).

    Parameters
    ----------
    estimate, truth : array of shape (..., n_times)
        Signals, both in one unit.

    Returns
    -------
    r : array of shape (...)
        -1 to 1; 0 where a signal is constant, which says nothing about the other.

    Examples
    --------
    >>> float(pearson_r([0.0, 1.0, 0.0], [1.0, 3.0, 1.0]))
    1.0
    """
    return cosine_similarity(_centred(estimate), _centred(truth))


def cosine_similarity(estimate, truth):
    """Cosine of the angle between signals, higher is better.

    ``sum(a * b) / sqrt(sum(a**2) * sum(b**2))``.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_times)
        Signals, both in one unit.

    Returns
    -------
    cosine : array of shape (...)
        -1 to 1; 0 where a signal is zero throughout.

    Examples
    --------
    >>> float(cosine_similarity([1.0, 0.0], [0.0, 1.0]))
    0.0
    """
    estimate, truth = _unit(estimate), _unit(truth)
    return np.clip((estimate * truth).sum(-1), -1, 1)


def nrmse(estimate, truth):
    """Root-mean-square error in standard deviations of the truth, lower is better.

    ``sqrt(mean((estimate - truth)**2)) / std(truth)``.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_times)
        Signals, both in one unit.

    Returns
    -------
    error : array of shape (...)
        From zero up; a constant at the truth's mean has 1. NaN where the truth is
        constant.

    Examples
    --------
    >>> float(nrmse([0.0, 0.0], [-1.0, 1.0]))
    1.0
    """
    estimate, truth = np.asarray(estimate, float), np.asarray(truth, float)
    error = np.sqrt(np.square(estimate - truth).mean(-1))
    return relative(error, truth.std(-1))


def relative(value, scale):
    """Divide by a scale that may be nothing, such as that of a contact without signal.

    Parameters
    ----------
    value, scale : array of shape (...)
        Both in volts or any other one unit.

    Returns
    -------
    ratio : array of shape (...)
        NaN where the scale is zero but for rounding (1e-15).

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
    """Scale to unit length; what is only rounding is zero."""
    series = np.asarray(series, float)
    peak = np.abs(series).max(-1, keepdims=True)
    some = peak > _ROUNDING
    series = np.where(some, series, 0) / np.where(some, peak, 1)
    length = np.linalg.norm(series, axis=-1, keepdims=True)
    return series / np.where(length > 0, length, 1)


# Spectra ------------------------------------------------------------------------------


def power_spectrum(series, sfreq):
    """Power spectral density by Welch's method: Hann windows of one second.

    They overlap by half (Welch 1967, IEEE Trans. Audio Electroacoust. 15:70).

    Parameters
    ----------
    series : array of shape (..., n_times)
        Signals in volts.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    freqs : array of shape (n_freqs,)
        1 to 45 Hz in steps of 1 Hz.
    density : array of shape (..., n_freqs)
        V²/Hz.

    Examples
    --------
    >>> import numpy as np
    >>> times = np.arange(1280) / 128
    >>> freqs, density = power_spectrum(np.sin(2 * np.pi * 10 * times), 128)
    >>> float(freqs[density.argmax()])
    10.0
    """
    freqs, density = signal.welch(series, sfreq, nperseg=int(sfreq))
    kept = (freqs >= SPECTRUM[0] - 0.01) & (freqs <= SPECTRUM[1] + 0.01)
    return freqs[kept], density[..., kept]


def log_spectral_distance(estimate, truth, level=True):
    """Root-mean-square difference of log spectra, lower is better.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_freqs)
        Power spectral densities in V²/Hz.
    level : bool
        Whether a difference of overall level counts; if not, the mean difference is
        taken away first and only the shape counts.

    Returns
    -------
    distance : array of shape (...)
        Decibels, from zero up (Gray & Markel 1976, IEEE Trans. ASSP 24:380).

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
    """Exponent of a spectrum's fall with frequency.

    The slope of log power on log frequency by Theil and Sen's estimator (Sen 1968, J.
    Am. Stat. Assoc. 63:1379), the median over pairs of frequencies, which a rhythm's
    peak hardly moves.

    Parameters
    ----------
    freqs : array of shape (n_freqs,)
        Hz.
    density : array of shape (..., n_freqs)
        Power spectral density in V²/Hz.
    fmin, fmax : float
        Hz, between which the exponent is fitted.

    Returns
    -------
    exponent : array of shape (...)
        0 for white noise, 2 for ``1 / f²``. The error of an estimate is the
        difference of exponents; nearer to zero is better.

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


def in_band(series, sfreq, band):
    """Filter to a band, without delay.

    By :func:`scipy.signal.sosfiltfilt`.

    Parameters
    ----------
    series : array of shape (..., n_times)
        Signals in volts.
    sfreq : float
        Sampling rate in Hz.
    band : str
        One of :data:`BANDS`; ``'broad'`` returns the signals as they are.

    Returns
    -------
    filtered : array of shape (..., n_times)
        Butterworth of order 4 forwards and backwards.

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


def log_band_power(filtered, sfreq):
    """Logarithm of power in windows of two seconds.

    ``10 * log10(mean(filtered**2))`` over each window.

    Parameters
    ----------
    filtered : array of shape (..., n_times)
        Signals of one band in volts, see :func:`in_band`.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    power : array of shape (..., n_windows)
        Decibels relative to 1 V²; a rest shorter than a window is left out.

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
    """Take ten times the decimal logarithm of power.

    Parameters
    ----------
    power : array of shape (...)
        In V² or V²/Hz.

    Returns
    -------
    level : array of shape (...)
        Decibels relative to one unit; silence has -300.

    Examples
    --------
    >>> decibels([100.0, 0.0]).tolist()
    [20.0, -300.0]
    """
    return 10 * np.log10(np.maximum(power, 1e-30))


def lateralization(left, right):
    """Lateralization index of power.

    The laterality index of imaging (Seghier 2008, Magnetic Resonance Imaging 26:594).

    Parameters
    ----------
    left, right : array of shape (...)
        Power of either side, V².

    Returns
    -------
    index : array of shape (...)
        ``(left - right) / (left + right)``, -1 (right only) to 1 (left only); 0 where
        both sides are silent. The error of an estimate is the absolute difference of
        indices, 0 to 2, lower is better.

    Examples
    --------
    >>> float(lateralization(3.0, 1.0))
    0.5
    """
    left, right = np.asarray(left, float), np.asarray(right, float)
    return (left - right) / np.maximum(left + right, 1e-30)


# Connectivity -------------------------------------------------------------------------


def correlation_matrix(filtered):
    """Correlation between channels.

    Pearson's, as for :func:`pearson_r`.

    Parameters
    ----------
    filtered : array of shape (n_channels, n_times)
        Signals of one band.

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


def spectral_connectivity(series, sfreq, bands, methods=("coh", "imcoh", "plv")):
    """Coherence, imaginary coherence and phase-locking between channels.

    By mne-connectivity over windows of two seconds. Imaginary coherence: Nolte et al.
    2004, Clin. Neurophysiol. 115:2292; phase-locking: Lachaux et al. 1999, Human Brain
    Mapping 8:194.

    Parameters
    ----------
    series : array of shape (n_channels, n_times)
        Signals in volts, four seconds or more.
    sfreq : float
        Sampling rate in Hz.
    bands : list of str
        Names in :data:`BANDS`.
    methods : tuple of str
        ``'coh'`` and ``'plv'``, 0 to 1, and ``'imcoh'``, -1 to 1.

    Returns
    -------
    matrices : dict of array, shape (n_bands, n_channels, n_channels)
        One per method, zero on the diagonal; those of ``'imcoh'`` change sign when
        channels change places, the others are symmetric. A silent channel goes with
        none.

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
    size, n_channels = int(POWER_WINDOW * sfreq), len(series)
    n_windows = series.shape[-1] // size
    windows = series[:, : n_windows * size].reshape(n_channels, n_windows, size)
    low, high = zip(*(BANDS[band] for band in bands), strict=True)
    # Silent channels have no phase: zero over zero.
    with np.errstate(invalid="ignore"):
        found = spectral_connectivity_epochs(
            windows.swapaxes(0, 1),
            method=list(methods),
            mode="fourier",
            sfreq=sfreq,
            fmin=low,
            fmax=high,
            faverage=True,
            verbose="error",
        )
    found = found if isinstance(found, list) else [found]
    return {
        method: _both_halves(one.get_data("dense"), -1 if method == "imcoh" else 1)
        for method, one in zip(methods, found, strict=True)
    }


def _both_halves(lower, sign):
    """Fill the upper triangle that mne-connectivity leaves empty."""
    lower = np.nan_to_num(np.moveaxis(lower, -1, 0))
    return lower + sign * lower.swapaxes(-1, -2)


def relative_frobenius(estimate, truth):
    """Relative error of a connectivity matrix, lower is better.

    Frobenius norm of the difference over that of the truth, without the diagonal.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_channels, n_channels)
        Matrices.

    Returns
    -------
    error : array of shape (...)
        From zero up; a matrix of zeros has 1. NaN where the truth is zero throughout.

    Examples
    --------
    >>> import numpy as np
    >>> float(relative_frobenius(np.zeros((2, 2)), np.ones((2, 2))))
    1.0
    """
    estimate, truth = _off_diagonal(estimate), _off_diagonal(truth)
    return relative(*(np.linalg.norm(m, axis=-1) for m in (estimate - truth, truth)))


def matrix_similarity(estimate, truth):
    """Correlation between the entries of two matrices, higher is better.

    Pearson's, as for :func:`pearson_r`.

    Parameters
    ----------
    estimate, truth : array of shape (..., n_channels, n_channels)
        Matrices; the diagonal does not count.

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


def spike_score(series, sfreq):
    """How sharp a signal is at each moment against its own background.

    The envelope over its median (as Janca et al. 2015, Brain Topogr. 28:172, do with
    10 to 60 Hz) between 4 and 25 Hz, where spikes and sharp waves of 20 to 200 ms
    (Kane et al. 2017, Clin. Neurophysiol. Pract. 2:170) have most of their energy.

    Parameters
    ----------
    series : array of shape (..., n_times)
        Signals in volts.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    score : array of shape (..., n_times)
        Around one in the background.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.random.default_rng(0).normal(size=1280)
    >>> series[640] += 50
    >>> bool(abs(spike_score(series, 128).argmax() - 640) < 3)
    True
    """
    sos = signal.butter(2, (4, 25), "bandpass", fs=sfreq, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfiltfilt(sos, series)))
    middle = np.median(envelope, axis=-1, keepdims=True)
    return envelope / np.maximum(middle, 1e-30)


def spike_detection(score, spikes, sfreq, threshold=4.0, tolerance=0.15):
    """Compare what a detector finds with known spikes.

    Parameters
    ----------
    score : array of shape (n_times,)
        From :func:`spike_score`, of one contact or the mean over draws.
    spikes : array of shape (n_spikes,)
        Times of the peaks of known spikes in seconds from the first sample.
    sfreq : float
        Sampling rate in Hz.
    threshold : float
        Peaks of the score above it, 0.3 s or more apart, are detections.
    tolerance : float
        Seconds between a spike and its detection.

    Returns
    -------
    sensitivity : float
        Share of spikes found, 0 to 1, higher is better; NaN without spikes.
    false_alarms : float
        Detections per minute that are no spike, from zero up, lower is better.
    auc : float
        Area under the receiver operating characteristic (Hanley & McNeil 1982,
        Radiology 143:29) of the score's maximum around spikes against that in other
        windows of the same length: 0 to 1, higher is better, 0.5 is chance. It needs
        no threshold. NaN without spikes.

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


def seizure_score(series, sfreq):
    """How much a signal moves in each second, against its own median second.

    Line length (Esteller et al. 2001, Proc. 23rd IEEE EMBS, 1707): the mean distance
    between neighbouring samples.

    Parameters
    ----------
    series : array of shape (..., n_times)
        Signals in volts.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    score : array of shape (..., n_seconds)
        One in an ordinary second; what is left after the last whole second does not
        count.

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
    """Compare the seconds that a detector finds with known seizures.

    Parameters
    ----------
    score : array of shape (n_seconds,)
        From :func:`seizure_score`, of one contact or the mean over draws.
    seizures : array of shape (n_seizures, 2)
        Begin and end of known seizures in seconds from the first sample.
    threshold : float
        Seconds with a score above it are detections.

    Returns
    -------
    sensitivity : float
        Share of the seizures' seconds that are found, 0 to 1, higher is better; NaN
        without seizures.
    false_alarms : float
        Runs of detected seconds outside of seizures per minute outside, from zero up,
        lower is better; NaN where there is nothing outside.
    auc : float
        Area under the receiver operating characteristic of seconds in seizures
        against those outside, as for :func:`spike_detection`.

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
    """Maxima of the score around spikes, and in windows that touch no spike."""
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
    """Probability that a positive scores above a negative, by Mann and Whitney."""
    if not len(positive) or not len(negative):
        return np.nan
    u = stats.mannwhitneyu(positive, negative).statistic
    return float(u / (len(positive) * len(negative)))
