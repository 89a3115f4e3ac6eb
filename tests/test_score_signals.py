"""Measures of likeness between signals, against cases with a known answer.

Each test names the planted bugs that it was seen to catch.
"""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import signal, stats

from mne_neuroflow.scores import signals
from mne_neuroflow.scores.tables import summarize

SFREQ = 128


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def _sine(frequency, n_seconds=20, phase=0.0):
    return np.sin(2 * np.pi * frequency * np.arange(n_seconds * SFREQ) / SFREQ + phase)


def _aperiodic(exponent, n_seconds=120, seed=0):
    frequency = np.fft.rfftfreq(n_seconds * SFREQ, 1 / SFREQ)
    shape = np.maximum(frequency, 0.5) ** (-exponent / 2)
    parts = _normal(2, len(frequency), seed=seed)
    return 1e-5 * np.fft.irfft((parts[0] + 1j * parts[1]) * shape)


def test_correlation_cosine_and_error():
    """Against scipy, in volts, and where the answer is plain.

    Catches a correlation that is not centred, an error relative to the r.m.s. of the
    truth and zeros that become NaN.
    """
    truth = 1e-5 * (_normal(3, 500) + 2)
    estimate = truth + 1e-5 * _normal(3, 500, seed=1)
    expected = [stats.pearsonr(a, b)[0] for a, b in zip(estimate, truth, strict=True)]
    assert_allclose(signals.pearson_r(estimate, truth), expected)
    assert_allclose(signals.cosine_similarity(3 * truth, truth), 1)
    assert (signals.cosine_similarity(estimate, truth) > expected).all()
    assert_allclose(signals.pearson_r(np.full((3, 500), 2e-5), truth), 0)
    mean = truth.mean(-1, keepdims=True)
    assert_allclose(signals.nrmse(np.broadcast_to(mean, truth.shape), truth), 1)
    assert_allclose(signals.nrmse(mean + 3 * (truth - mean), truth), 2)


def test_log_spectral_distance():
    """Twice the amplitude is 6 dB away, or none when levels do not count.

    Catches decibels of amplitude and the mean in place of the root mean square.
    """
    series = _aperiodic(1.0)
    freqs, density = signals.power_spectrum(series, SFREQ)
    assert_allclose(freqs, np.arange(1, 46))
    twice = signals.power_spectrum(2 * series, SFREQ)[1]
    distance = signals.log_spectral_distance
    assert_allclose(distance(twice, density), 20 * np.log10(2))
    assert_allclose(distance(twice, density, level=False), 0, atol=1e-9)
    tilted = density * 10 ** (np.linspace(-1, 1, 45) / 10)
    assert_allclose(distance(tilted, density), np.sqrt(46 / 132))


def test_power_spectrum_keeps_the_variance():
    """In V²/Hz. Catches a spectrum in V² (factor 1.5)."""
    series = signals.in_band(_aperiodic(0.0), SFREQ, "beta")
    _, density = signals.power_spectrum(series, SFREQ)
    assert_allclose(density.sum(), series.var(), rtol=0.02)


@pytest.mark.parametrize("shape", ((6000,), (3, 6000), (2, 3, 6000)))
def test_power_spectrum_is_welch(shape, monkeypatch):
    """Also where only some rows are in memory at once. Seen to fail without detrend."""
    series = 3 + np.random.default_rng(0).normal(size=shape).cumsum(-1)
    welch = signal.welch(series, 250.5, nperseg=250)[1][..., 1:45]
    for at_once in (1, 10_000, 10**9):
        monkeypatch.setattr(signals, "_AT_ONCE", at_once)
        density = signals.power_spectrum(series, 250.5)[1]
        np.testing.assert_allclose(density, welch, rtol=1e-9)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_aperiodic_exponent(exponent):
    """Also beside a rhythm. Catches base-10 against natural logarithms, least squares
    (error 0.3 with the rhythm) and the wrong sign.
    """
    series = _aperiodic(exponent)
    found = signals.aperiodic_exponent(*signals.power_spectrum(series, SFREQ))
    assert_allclose(found, exponent, atol=0.1)
    series = series + 2 * series.std() * _sine(10, 120)
    found = signals.aperiodic_exponent(*signals.power_spectrum(series, SFREQ))
    assert_allclose(found, exponent, atol=0.2)


@pytest.mark.parametrize("band", list(signals.BANDS)[1:])
def test_bands_tell_frequencies_apart(band):
    """A tone in the band passes without delay, others do not.

    Catches filtering in one direction (delay) and edges as shares of the rate.
    """
    for other, (low, high) in list(signals.BANDS.items())[1:]:
        tone = _sine(np.sqrt(max(low, 1) * high))
        inner = signals.in_band(tone, SFREQ, band)[..., 512:-512]
        if other == band:
            assert_allclose(inner, tone[512:-512], atol=0.1)
        elif (
            abs(list(signals.BANDS).index(other) - list(signals.BANDS).index(band)) > 1
        ):
            assert np.abs(inner).max() < 0.05


def test_log_band_power():
    """In decibels, windows of two seconds. Catches windows of another length and
    decibels of amplitude.
    """
    stronger = np.repeat([1.0, 10.0, 0.1], 256)
    power = signals.log_band_power(stronger * _sine(10, 6), SFREQ)
    assert_allclose(power, np.array([0, 20, -20]) + 10 * np.log10(0.5), atol=1e-6)


def test_lateralization():
    """Catches a sign that is turned round."""
    assert_allclose(signals.lateralization([2, 1, 0], [0, 1, 2]), [1, 0, -1])


def test_connectivity_of_known_signals():
    """One source with and without a lag of a quarter of a cycle, and noise.

    Catches an imaginary part that keeps its sign and halves left empty.
    """
    source = signals.in_band(_normal(60 * SFREQ + 3), SFREQ, "alpha")
    other = _normal(60 * SFREQ, seed=2)
    series = np.stack([source[3:], source[:-3], -source[3:], other])
    series = series + 0.05 * source.std() * _normal(*series.shape, seed=1)
    found = signals.spectral_connectivity(series, SFREQ, ["alpha", "beta"])
    for name in ("coh", "plv"):
        alpha = found[name][0]
        assert alpha[0, 1] > 0.9 and alpha[0, 2] > 0.9 and alpha[0, 3] < 0.5
        assert_allclose(found[name], found[name].swapaxes(1, 2))
    imaginary = found["imcoh"][0]
    # 3 samples at 128 Hz are a quarter of a cycle of 10.7 Hz
    assert abs(imaginary[0, 1]) > 0.8 and abs(imaginary[0, 2]) < 0.1
    assert_allclose(imaginary, -imaginary.T)
    correlation = signals.correlation_matrix(signals.in_band(series, SFREQ, "alpha"))
    assert_allclose(np.diag(correlation), 1)
    assert correlation[0, 2] < -0.9 and abs(correlation[0, 1]) < 0.3


def test_connectivity_of_many_sets():
    """Sets of channels in one call are like each by itself, to the last bit."""
    series = np.random.default_rng(0).normal(size=(2, 3, 4, 10 * SFREQ))
    bands = ["alpha", "beta"]
    together = signals.spectral_connectivity(series, SFREQ, bands)
    for index in np.ndindex(2, 3):
        alone = signals.spectral_connectivity(series[index], SFREQ, bands)
        for method, values in alone.items():
            np.testing.assert_array_equal(together[method][index], values)
    flipped = together["imcoh"].swapaxes(-1, -2)
    np.testing.assert_array_equal(together["imcoh"], -flipped)


def test_matrix_errors():
    """The diagonal does not count; scale and shift count for the error alone.

    Catches a norm over the diagonal too, and one relative to the estimate.
    """
    truth = _normal(5, 5)
    other = truth + 100 * np.eye(5)
    assert_allclose(signals.relative_frobenius(other, truth), 0)
    assert_allclose(signals.relative_frobenius(3 * truth, truth), 2)
    assert_allclose(signals.matrix_similarity(3 * other + 1, truth), 1)
    assert_allclose(signals.matrix_similarity(-other, truth), -1)


@pytest.mark.filterwarnings("error")
def test_nothing_to_be_relative_to():
    """A truth without signal makes no infinite error, not even by rounding.

    Seen to fail with a plain division, and with zero in place of rounding.
    """
    truth = 3e-5 + 1e-21 * np.array([[0.0, 1.0] * 20, [0.0, 1e17] * 20])
    error = signals.nrmse(truth + 1e-5, truth)
    assert np.isnan(error[0]) and np.isfinite(error[1])
    assert np.isnan(signals.relative_frobenius(np.ones((2, 2)), np.eye(2)))


def test_spikes_are_found():
    """Spikes that stand out, spikes that are not there, and none.

    Catches false alarms per second, sensitivity as the share of detections, and an
    area that is turned round.
    """
    times = np.array([0.05, 5.0, 10.0, 15.0, 25.0, 40.0])
    series = _aperiodic(1.5, 60)
    clock = np.arange(len(series)) / SFREQ
    bump = np.exp(-0.5 * ((clock - times[:, None]) / 0.015) ** 2).sum(0)
    score = signals.spike_score(series + 15 * series.std() * bump, SFREQ)
    sensitivity, false, area = signals.spike_detection(score, times, SFREQ, 8.0)
    assert sensitivity > 0.8 and false <= 2 and area > 0.97
    more = np.append(times, [20.0, 30, 50, 55, 35, 45])
    assert signals.spike_detection(score, more, SFREQ, 8.0)[0] == sensitivity / 2
    wrong = times + 1.5
    sensitivity, false, area = signals.spike_detection(score, wrong, SFREQ, 8.0)
    assert sensitivity == 0 and 4 <= false <= 8 and area < 0.7
    sensitivity, false, area = signals.spike_detection(score, [], SFREQ, 8.0)
    assert np.isnan([sensitivity, area]).all() and 4 <= false <= 8


@pytest.mark.parametrize("width", [0.012, 0.035])
def test_sharp_waves_are_found(width):
    """Events of 30 and 80 ms at half their height, four times the background.

    Catches a band from 10 Hz on, which loses sharp waves.
    """
    spikes = np.arange(2, 118, 4.0)
    series = _aperiodic(1.5, 120)
    clock = np.arange(len(series)) / SFREQ
    bumps = np.exp(-0.5 * ((clock - spikes[:, None]) / width) ** 2).sum(0)
    score = signals.spike_score(series + 4 * series.std() * bumps, SFREQ)
    assert signals.spike_detection(score, spikes, SFREQ)[2] > 0.95


def test_spikes_at_the_ends():
    """The last sample is the nearest one; what is outside is no spike to be found.

    Seen to fail where a spike in the last half of a sample leaves none to compare.
    """
    score = np.ones(10 * SFREQ)
    score[-2] = 9
    found = signals.spike_detection(score, [10 - 0.4 / SFREQ], SFREQ)
    assert found[0] == 1 and found[2] > 0.9
    assert np.isnan(signals.spike_detection(score, [12.0], SFREQ)[2])


def test_spike_area_of_chance():
    """Catches windows around spikes that are longer than the others (0.75)."""
    spikes = np.arange(2, 598, 4.0)
    score = signals.spike_score(_normal(600 * SFREQ), SFREQ)
    area = signals.spike_detection(score, spikes, SFREQ)[2]
    assert_allclose(area, 0.5, atol=0.1)


def test_seizures_are_found():
    """A seizure that stands out, one that does not, and none.

    Catches alarms that are counted by seconds or inside seizures, and seconds that
    belong to a seizure by their beginning.
    """
    series = _aperiodic(1.5, 60)
    rhythm = np.sin(2 * np.pi * 6 * np.arange(len(series)) / SFREQ)
    series[20 * SFREQ : 40 * SFREQ] += 20 * series.std() * rhythm[: 20 * SFREQ]
    score = signals.seizure_score(series, SFREQ)
    assert score.shape == (60,)
    assert signals.seizure_detection(score, [(20, 40)]) == (1, 0, 1)
    # 20 and 39 lie in the seizure for less than half of their second.
    sensitivity, false, area = signals.seizure_detection(score, [(20.6, 39.4)])
    assert sensitivity == 1 and round(false * 42 / 60) == 2 and 0.9 < area < 1
    sensitivity, false, area = signals.seizure_detection(score, [(0, 20), (40, 50)])
    assert (sensitivity, false) == (0, 2) and area < 0.5
    sensitivity, false, area = signals.seizure_detection(score, np.zeros((0, 2)))
    assert np.isnan([sensitivity, area]).all() and false == 1
    sensitivity, false, area = signals.seizure_detection(score, [(0, 60)])
    assert np.isnan([false, area]).all() and round(sensitivity, 3) == 0.333


def test_a_subject_counts_by_its_mean():
    """Seen to fail with the median of a subject's rows in place of their mean."""
    rows = pd.DataFrame(
        {"patient": [*"pppq"], "method": "a", "r": [0.0, 0.0, 3.0, 5.0]}
    )
    table = summarize(rows, ["method"], ["r"])
    assert table["mean"].item() == 3


def test_subjects_count_alike():
    """Means over subjects, with an interval as wide as theory says.

    Catches means over rows and a bootstrap over rows.
    """
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(20), rng.integers(1, 60, 20))
    own = rng.normal(size=20)
    rows = pd.DataFrame({"patient": subject, "method": "a", "r": own[subject]})
    rows.loc[len(rows)] = [0, "b", np.nan]
    table = summarize(rows, ["method"], ["r"]).set_index("method")
    assert_allclose(table.loc["a", "mean"], own.mean())
    half = 1.96 * own.std() / np.sqrt(20)
    assert_allclose(table.loc["a", "high"] - own.mean(), half, rtol=0.15)
    assert_allclose(own.mean() - table.loc["a", "low"], half, rtol=0.15)
    assert table.loc["b", "n_subjects"] == 0 and np.isnan(table.loc["b", "mean"])


def test_near_contacts():
    """Each couple once; whose nearest neighbour is too far has none."""
    along = np.array([0.0, 3.5, 7.5, 30.0])[:, None]
    assert signals.near_contacts(along * [1e-3, 0, 0]).tolist() == [[0, 1], [1, 2]]
    assert signals.near_contacts(along[:1] * [1e-3, 0, 0]).shape == (0, 2)
