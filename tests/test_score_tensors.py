"""Scores and coverage: proper, fair and exact.

Each test names the planted bugs that it was seen to catch.
"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mne_neuroflow.scores.tensors import LEVELS, crps_ensemble, crps_normal, inside


def _normal(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("n_draws", [2, 3, 50])
def test_crps_of_draws(n_draws):
    """Against the definition and against scoringrules' fair estimator.

    Catches the spread of the plain estimator, which divides by the square of the
    number of draws, and draws that are not sorted.
    """
    draws, truth = 2 * _normal(n_draws, 4, 5), _normal(4, 5, seed=1)
    found = crps_ensemble(draws, truth)
    apart = (draws[:, None] - draws[None]).abs().sum((0, 1))
    expected = (draws - truth).abs().mean(0) - apart / (2 * n_draws * (n_draws - 1))
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    scoringrules = pytest.importorskip("scoringrules")
    expected = scoringrules.crps_ensemble(
        truth.numpy(), draws.numpy(), m_axis=0, estimator="fair"
    )
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_crps_does_not_depend_on_the_number_of_draws():
    """The fair estimator is unbiased: three draws score as many draws do.

    Standard errors are 0.003. Catches the plain estimator, which is 0.28 higher
    with two draws.
    """
    truth = _normal(100_000, seed=1)
    exact = float(crps_normal(torch.zeros(()), torch.ones(()), truth).mean())
    for n_draws in (2, 3, 20):
        score = crps_ensemble(_normal(n_draws, 100_000, seed=2), truth).mean()
        assert_allclose(score, exact, atol=0.015)


def test_crps_of_a_gaussian():
    """Against scoringrules, and against many draws.

    Catches a cumulative distribution without the root of two.
    """
    mean, std = _normal(50, seed=3), _normal(50, seed=4).abs() + 0.2
    truth = 2 * _normal(50, seed=5)
    found = crps_normal(mean, std, truth)
    draws = mean + std * _normal(20_000, 50, seed=6)
    assert_allclose(found, crps_ensemble(draws, truth), atol=0.04)
    scoringrules = pytest.importorskip("scoringrules")
    expected = scoringrules.crps_normal(truth.numpy(), mean.numpy(), std.numpy())
    assert_allclose(found, expected, rtol=1e-9)


def test_crps_is_proper():
    """The truth's own spread scores best, in units of the truth.

    Catches a score that is not scaled by the spread.
    """
    truth = 3 * _normal(100_000, seed=7)
    zero = torch.zeros((), dtype=torch.float64)
    scores = [crps_normal(zero, zero + std, truth).mean() for std in (2, 3, 4)]
    assert scores[1] < min(scores[0], scores[2])
    # E|X - X'| / 2 of a Gaussian
    assert_allclose(scores[1], 3 / np.sqrt(np.pi), rtol=0.02)


@pytest.mark.parametrize("n_draws", [7, 19, 100])
@pytest.mark.parametrize("level", LEVELS)
def test_inside_is_exact_over_ranks(level, n_draws):
    """Over equally likely ranks the mean is the nominal coverage to rounding.

    Catches quantiles of the draws, whose intervals are too narrow by a term of one
    over their number, and ranks that are off by one.
    """
    draws = torch.arange(n_draws, dtype=torch.float64)[:, None]
    draws = draws.expand(-1, n_draws + 1)
    truth = torch.arange(n_draws + 1, dtype=torch.float64) - 0.5
    hits = inside(draws, truth, level)
    assert_allclose(hits.mean(), level, rtol=1e-12)
    assert_allclose(hits, hits.flip(0), atol=1e-9)
    assert hits.min() >= 0 and hits.max() <= 1 + 1e-12


@pytest.mark.parametrize("level", LEVELS)
def test_inside_tells_calibration(level):
    """Calibrated draws cover what they should, narrow and wide ones do not.

    The standard error is 0.2 % or less. Catches an interval on one side.
    """
    truth = _normal(60_000, seed=8)
    draws = _normal(40, 60_000, seed=9)
    assert_allclose(inside(draws, truth, level).mean(), level, atol=0.008)
    assert inside(0.6 * draws, truth, level).mean() < level - 0.05
    assert inside(1.6 * draws, truth, level).mean() > level + 0.02
    assert inside(draws + 1, truth, level).mean() < level - 0.03
