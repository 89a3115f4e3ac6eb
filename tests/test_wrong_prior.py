"""Recordings from outside the prior: what is taken from it, and what is not.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from numpy.testing import assert_allclose

from mne_neuroflow.head.posterior import CORTEX_SCALES, VOLUME_SCALES
from mne_neuroflow.simulation.setups import electrode_positions
from mne_neuroflow.simulation.sources import SCENARIOS, Batched

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import wrong_prior

SHARES = torch.tensor([share for _, share in (*CORTEX_SCALES, *VOLUME_SCALES)])


@dataclass(frozen=True)
class _Traits(Batched):
    index: torch.Tensor
    amplitude: torch.Tensor


def test_one_scale():
    """Two length scales play in each patient, as strong as all of them together.

    The variance of a scale is its share. Catches a scale that keeps its own share, and
    deep structures that are drawn with cortex.
    """
    n = 3000
    traits = _Traits(torch.arange(5).expand(n, -1), SHARES.sqrt().expand(n, -1))
    rng = torch.Generator().manual_seed(0)
    all_generators = SimpleNamespace(group=torch.arange(5))
    power = wrong_prior.one_scale(traits, all_generators, rng).amplitude.square()
    cortex, deep = power[:, :3], power[:, 3:]
    assert ((cortex > 0).sum(1) == 1).all() and ((deep > 0).sum(1) == 1).all()
    assert_allclose(cortex.sum(1), 1, rtol=1e-5)
    assert_allclose(deep.sum(1), 1, rtol=1e-5)
    assert_allclose((power > 0).float().mean(0), [1 / 3] * 3 + [1 / 2] * 2, atol=0.04)


def test_scenarios_are_those_that_neural_masses_know():
    """Catches a rhythm of the prior that is reported and not there."""
    drawn = wrong_prior.known_scenarios(500, torch.Generator().manual_seed(0))
    names = {SCENARIOS[k] for k in drawn.tolist()}
    assert names == set(wrong_prior.SHOWN)


def test_heads_are_named_by_their_skull(monkeypatch):
    """Worlds take turns with the tables. Catches the world of another patient."""
    skulls = {None: 0.006, "a": 0.002, "b": 0.03}
    monkeypatch.setattr(
        wrong_prior,
        "load_head",
        lambda name: SimpleNamespace(conductivity=(0.3, skulls[name], 0.3)),
    )
    rows = torch.tensor([[5, 0], [3, 0], [7, 0], [1, 0]])
    rows[:, 0] += torch.tensor([0, 2, 1, 3]) * len(electrode_positions())
    found = wrong_prior.heads_of(SimpleNamespace(scalp_rows=rows), ["a", "b"])
    assert found == [f"skull {s} S/m" for s in (0.006, 0.03, 0.002, 0.006)]
