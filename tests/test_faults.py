"""A few moments of what benchmarks/faults.py tries at many."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not hasattr(os, "fork"):
    pytest.skip("needs os.fork()", allow_module_level=True)


@pytest.fixture
def faults(monkeypatch):
    """The benchmark, whose changes of the package are taken back."""
    from mne_neuroflow import estimator
    from mne_neuroflow.weights import fetch

    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(estimator, "_N_DRAWS", estimator._N_DRAWS)
    monkeypatch.setattr(fetch, "_REGISTRY", fetch._REGISTRY)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("faults", BENCHMARKS / "faults.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "`export` to EDF",
        "`predict`",
        "`export` to BIDS",
        "`benchmark`",
        "`fetch`",
    ],
)
@pytest.mark.slow
def test_faults(faults, name):
    """Seen to fail with an EDF file that is written under its final name."""
    pytest.importorskip("edfio")
    pytest.importorskip("mne_bids")
    (trial,) = faults.run([name], 3, 3, 1)
    assert not trial.found
    assert trial.counts["killed", "same bits"] == 3
    assert trial.counts["full disk", "same bits"] == 3
    assert trial.counts["two at once", "whole"] == 1
