"""Every figure in the pages comes from a file that a command has written."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "doc").is_dir():
    pytest.skip("needs the files of the repository", allow_module_level=True)
pytest.importorskip("sphinx")


def load(fname):
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(f"file_{fname.stem}", fname)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures = load(ROOT / "doc" / "sphinxext" / "figures.py")
PAGES = sorted((ROOT / "doc").glob("[!_]*.rst")) + sorted(
    (ROOT / "doc" / "explanations").glob("*.rst")
)


def test_readme_says_what_the_card_says():
    """PyPI shows the README as it is, so that its figures are typed.

    Seen to fail with 88.9 for 88.8 %.
    """
    readme = " ".join((ROOT / "README.rst").read_text("utf-8").split())
    card = figures.of_card
    for expected in (
        f"90 % intervals covered {card('coverage 0.90')} of the samples "
        f"({card('coverage of 0.90, ictal')} during seizures)",
        f"50 % intervals {card('coverage 0.50')};",
        f"CRPS was {card('crps flow < crps posterior')} below that of the spatial",
        f"only {card('crps flow < crps prior')} below that of a prior",
        f"correlated {card('r mean')} with the truth",
    ):
        assert expected in readme, f"README.rst should say: {expected}"


@pytest.mark.parametrize("page", ["index.rst", "explanations/limits.rst"])
def test_no_figure_is_typed(page):
    """What was measured stands in the pages by its name.

    Seen to fail with 88.4 % in place of the name of that figure.
    """
    text = (ROOT / "doc" / page).read_text("utf-8")
    assert not re.findall(r"\d+\.\d+\s%", text)


def test_counts_have_no_decimals():
    """Seen to fail with 31.00 samples."""
    known = {"samples": 31.0, "r": 0.2, "coverage 0.90": 0.888}
    assert figures.written("samples", known) == "31"
    assert figures.written("r", known) == "0.20"
    assert figures.written("coverage 0.90", known) == "88.8 %"


def test_figures_are_there_and_of_the_default_model():
    """Seen to fail with a name misspelt, and with the hash of other weights."""
    used = set()
    for page in PAGES:
        for role, text in re.findall(
            r":(card|figure):`([^`]+)`", page.read_text("utf-8")
        ):
            name = " ".join(text.split())
            assert {"card": figures.of_card, "figure": figures.of_benchmark}[role](name)
            used |= {name.partition(": ")[0]} if role == "figure" else set()
        for prefix in re.findall(
            r"\.\. recorded-figures:: (.+)", page.read_text("utf-8")
        ):
            used |= {
                name for name in figures.read_sections() if name.startswith(prefix)
            }
    sections = figures.read_sections()
    assert used == set(sections)
    for name, section in sections.items():
        assert section["weights"] in (None, figures.default_card()["sha256"]), (
            f"{name} was measured with other weights. Run {section['command']} again, "
            f"with --record {name!r}"
        )


def test_a_benchmark_writes_its_own_section(tmp_path, monkeypatch):
    """Seen to fail when the other sections are lost, and with counts of 10.00."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["some/where.py", "--quick"])
    record = load(ROOT / "benchmarks" / "figures.py").record
    fname = tmp_path / "figures.json"
    record("one", {"r": 0.123456}, fname)
    record("two", {"coverage 0.90": (0.9, 0.01)}, fname, weights="abc")
    record("one", {"r": (0.2, float("nan")), "right": 10, "more, %": 8.0}, fname)
    monkeypatch.setattr(figures, "_FIGURES", fname)
    one, two = figures.read_sections().values()
    assert one["figures"]["r"] == {"value": 0.2, "standard error": None}
    assert two["figures"]["coverage 0.90"]["standard error"] == 0.01
    assert two["weights"] == "abc"
    assert one["command"] == "python benchmarks/where.py --quick"
    assert figures.of_benchmark("two: coverage 0.90") == "90.0 %"
    assert figures.of_benchmark("one: right") == "10"
    assert figures.of_benchmark("one: more, %") == "8.0 %"
    lines = list(figures._table("two", two))
    assert lines[-2:] == [
        "   * - coverage 0.90",
        "     - 90.0 % \N{PLUS-MINUS SIGN} 1.0 %",
    ]


def test_the_two_sample_test_names_its_figures_as_pages_do(monkeypatch):
    """Seen to fail with other names, with which the next run would break the pages."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    detectors = load(ROOT / "benchmarks" / "detectors.py")
    signals = np.random.default_rng(0).standard_normal((2, 1, 1, 4 * 256))
    parts = [
        detectors.features({"truth": one, "draws": other}, ["amygdala"])
        for one, other in (signals, signals[::-1])
    ]
    windows = pd.concat([part.assign(recording=k) for k, part in enumerate(parts)])
    found = detectors.report_classifier(windows.reset_index(drop=True))
    kept = figures.read_sections()["detectors"]["figures"]
    assert found.keys() <= kept.keys()
