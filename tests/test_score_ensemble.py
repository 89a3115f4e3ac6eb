"""Intervals, ranks and joint scores of draws, against cases with a known answer.

Each test names the planted bugs that it was seen to catch.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mne_neuroflow.scores import ensemble
from mne_neuroflow.scores.tensors import LEVELS

scoringrules = pytest.importorskip("scoringrules")


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_one_draw_scores_its_absolute_error():
    """Catches the fair estimator's division by zero."""
    draws, truth = _normal(1, 50), _normal(50, seed=1)
    assert_allclose(ensemble.crps(draws, truth), np.abs(draws[0] - truth))
    same = np.repeat(draws, 4, axis=0)
    assert_allclose(ensemble.crps(same, truth), np.abs(draws[0] - truth))


@pytest.mark.parametrize("level", LEVELS)
def test_interval_of_a_gaussian(level):
    """Ends, width and score against those of the Gaussian itself.

    Standard errors are below 0.01. Catches one edge taken for both, a score whose fine
    is that of the coverage instead of its complement, and the median for the truth.
    """
    truth = _normal(4000)
    draws = _normal(20_000, 1, seed=1)
    end = stats.norm.ppf(0.5 + level / 2)
    low, high = ensemble.interval(draws, level)
    assert_allclose([low[0], high[0]], [-end, end], atol=0.05)
    assert_allclose(ensemble.interval_width(draws, level), 2 * end, atol=0.08)
    found = ensemble.interval_score(draws, truth, level).mean()
    # Gneiting & Raftery 2007, eq. 43, for a calibrated Gaussian: 4 φ(end) / α.
    assert_allclose(found, 4 * stats.norm.pdf(end) / (1 - level), atol=0.15)
    for scale in (0.5, 2):
        assert ensemble.interval_score(scale * draws, truth, level).mean() > found


@pytest.mark.parametrize("level", LEVELS)
def test_intervals_of_few_draws_cover(level):
    """With 39 draws, where ends are draws for every level but one.

    Catches quantiles by linear interpolation, which cover 2 to 5 % less.
    """
    draws, truth = _normal(39, 40_000), _normal(40_000, seed=1)
    low, high = ensemble.interval(draws, level)
    assert_allclose(np.mean((low < truth) & (truth < high)), level, atol=0.01)
    assert_allclose(ensemble.coverage(draws, truth, level).mean(), level, atol=0.01)


def test_energy_score():
    """With one channel the CRPS; with all, the fair estimator by its definition.

    Catches the estimator that is not fair and swapped axes.
    """
    draws, truth = _normal(6, 3, 5), _normal(3, 5, seed=1)
    assert_allclose(
        ensemble.energy_score(draws[:, :1], truth[:1]),
        ensemble.crps(draws[:, 0], truth[0]),
        atol=1e-12,
    )
    error = np.linalg.norm(draws - truth, axis=1).mean(0)
    apart = np.linalg.norm(draws[:, None] - draws[None], axis=2).sum((0, 1)) / 60
    assert_allclose(ensemble.energy_score(draws, truth), error - apart)


def test_variogram_score_sees_wrong_correlation():
    """Against its definition, and lower for the true correlation than for others.

    Catches a sum over pairs in place of the mean and the order 1.
    """
    draws, truth = _normal(6, 3, 5), _normal(3, 5, seed=1)
    expected = 0
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        root = np.sqrt(np.abs(draws[:, i] - draws[:, j])).mean(0)
        expected = expected + (np.sqrt(np.abs(truth[i] - truth[j])) - root) ** 2 / 3
    assert_allclose(ensemble.variogram_score(draws, truth), expected)

    def correlated(r, *shape, seed):
        first, second = _normal(2, *shape, seed=seed)
        return np.stack([first, r * first + np.sqrt(1 - r**2) * second], axis=-2)

    truth = correlated(0.8, 2000, seed=2)
    scores = [
        ensemble.variogram_score(correlated(r, 40, 2000, seed=3), truth).mean()
        for r in (0, 0.8, 0.99)
    ]
    assert scores[1] < min(scores[0], scores[2])


def test_ranks_and_pit():
    """Uniform for calibrated draws; a U for narrow ones.

    Catches ranks of the draws among truths and a PIT that is off by half a rank.
    """
    draws, truth = _normal(9, 20_000), _normal(20_000, seed=1)
    counts = np.bincount(ensemble.ranks(draws, truth), minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert_allclose(ensemble.pit(draws, truth).mean(), 0.5, atol=0.01)
    assert_allclose(np.unique(ensemble.pit(draws, truth)), np.arange(0.05, 1, 0.1))
    # what ten steps cannot help, and not much more
    assert ensemble.pit_distance(draws, truth) < 0.06
    assert ensemble.pit_distance(0.5 * draws, truth) > 0.1
    assert ensemble.pit_distance(draws + 1, truth) > 0.2


def test_risk_coverage():
    """Known order, reversed order, and an uncertainty that knows nothing.

    Catches an order that keeps the least certain first and a risk that is a sum.
    """
    error = np.arange(1.0, 5)
    kept, risk, area = ensemble.risk_coverage(error, error)
    assert_allclose(kept, [0.25, 0.5, 0.75, 1])
    assert_allclose(risk, [1, 1.5, 2, 2.5])
    assert_allclose(area, 1.75 / 2.5)
    assert ensemble.risk_coverage(-error, error)[2] > 1
    errors = np.abs(_normal(4000))
    area = ensemble.risk_coverage(_normal(4000, seed=1), errors)[2]
    assert_allclose(area, 1, atol=0.1)
