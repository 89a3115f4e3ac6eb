"""The benchmark of sources whose place is known."""

from pathlib import Path

import numpy as np
import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import real_truth

SITE = np.array([0.030, -0.020, -0.015])


@pytest.fixture(scope="module")
def grid():
    return real_truth.make_grid(0.018)


def play(grid, loudest, course):
    """Draws in which one contact of each follows the course."""
    draws = 1e-6 * np.random.default_rng(0).standard_normal(
        (len(loudest), len(grid), len(course))
    )
    draws[np.arange(len(loudest)), loudest] += 1e-4 * course
    return draws


def test_draws_at_the_site_and_elsewhere(grid):
    """Nine draws at the site and one on the other side.

    Seen to fail with the side of the mean and with a region of all loudest contacts.
    """
    course = real_truth.pulses(np.arange(768) / 128, np.random.default_rng(0))
    right = np.linalg.norm(grid - SITE, axis=1).argmin()
    wrong = np.linalg.norm(grid - SITE * [-1, 1, 1], axis=1).argmin()
    told = real_truth.judge(
        play(grid, [right] * 9 + [wrong], course), course, grid, SITE
    )
    assert told["structure"] == "hippocampus"
    assert told["error"] == pytest.approx(told["best"]) and told["best"] < 16
    assert told["rank"] == 1 and told["side"] == 0.9
    assert told["region holds"] == 1 and told["region size"] == 1
    told = real_truth.judge(play(grid, [wrong] * 10, course), course, grid, SITE)
    assert told["error"] > 50 and told["region holds"] == 0 and told["side"] == 0


def test_the_fewest_contacts_that_hold_a_share():
    loudest = np.array([3] * 5 + [7] * 4 + [1])
    assert real_truth.smallest_region(loudest, 0.9) == {3, 7}
    assert real_truth.smallest_region(loudest, 0.5) == {3}
    assert real_truth.smallest_region(loudest, 1.0) == {1, 3, 7}


def test_the_grid_is_in_grey_matter(grid):
    """All over both hemispheres, evenly spaced."""
    assert 100 < len(grid) < 500
    assert 0.3 < np.mean(grid[:, 0] < 0) < 0.7
    steps = np.unique(np.diff(np.unique(grid[:, 1].round(6))).round(6))
    assert set(steps) == {0.018}
