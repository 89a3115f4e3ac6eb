"""The benchmark of sources whose place is known."""

import sys

import mne
import numpy as np
import pandas as pd
import pytest

from mne_neuroflow import cli
from mne_neuroflow.datasets import localize_mi
from mne_neuroflow.datasets.localize_mi import StimulationSession
from mne_neuroflow.evaluation import known_sites as sites
from mne_neuroflow.evaluation import point_solvers
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.leadfield import scalp_lead_field

SITE = np.array([0.030, -0.020, -0.015])


@pytest.fixture(scope="module")
def grid():
    return sites.make_grid(0.018)


def play(grid, strongest, course):
    """Draws in which one contact of each follows the course."""
    draws = 1e-6 * np.random.default_rng(0).standard_normal(
        (len(strongest), len(grid), len(course))
    )
    draws[np.arange(len(strongest)), strongest] += 1e-4 * course
    return draws


def test_draws_at_the_site_and_elsewhere(grid):
    """Nine draws at the site and one on the other side.

    Seen to fail with the side of the mean and with a region of all strongest contacts.
    """
    course = sites.waves(np.arange(768) / 128, np.arange(8) * 0.6 + 0.7)
    right = np.linalg.norm(grid - SITE, axis=1).argmin()
    wrong = np.linalg.norm(grid - SITE * [-1, 1, 1], axis=1).argmin()
    case = sites.Case("x", None, None, SITE)
    draws = play(grid, [right] * 9 + [wrong], course)
    result = sites.evaluate(sites.responses(draws, course), grid, case)
    assert result["structure"] == "hippocampus"
    assert result["error"] == pytest.approx(result["best"]) and result["best"] < 16
    assert result["rank"] == 1 and result["side"] == 0.9
    assert result["region holds"] == 1 and result["region size"] == 1
    draws = play(grid, [wrong] * 10, course)
    result = sites.evaluate(sites.responses(draws, course), grid, case)
    assert result["error"] > 50 and result["region holds"] == 0 and result["side"] == 0


def test_the_fewest_contacts_that_hold_a_share():
    strongest = np.array([3] * 5 + [7] * 4 + [1])
    assert sites.smallest_region(strongest, 0.9) == {3, 7}
    assert sites.smallest_region(strongest, 0.5) == {3}
    assert sites.smallest_region(strongest, 1.0) == {1, 3, 7}


def test_the_grid_is_in_grey_matter(grid):
    """All over both hemispheres, evenly spaced."""
    assert 100 < len(grid) < 500
    assert 0.3 < np.mean(grid[:, 0] < 0) < 0.7
    steps = np.unique(np.diff(np.unique(grid[:, 1].round(6))).round(6))
    assert set(steps) == {0.018}


def at_patch(patch):
    return sites.Case("x", None, None, load_head().patch_centres[patch], patch)


@pytest.mark.slow
def test_which_contact_should_be_the_strongest(grid):
    """The contact with the largest potential of the source, not the nearest one.

    Seen to fail with the nearest one.
    """
    case = next(
        case
        for case in map(at_patch, range(0, 3978, 50))
        if sites.own_potentials(grid, case).argmax()
        != np.linalg.norm(grid - case.site, axis=1).argmin()
    )
    own = sites.own_potentials(grid, case)
    result = sites.evaluate(np.vstack([own, own]), grid, case)
    assert result["rank"] == 1 and result["region holds"] == 1
    assert result["region of draws holds"] == 1
    alone = sites.evaluate(own, grid, case)
    assert np.isnan(alone["region holds"]) and alone["error"] == result["error"]


def test_region_of_the_other_draws(grid):
    """Of ten draws six have one strongest contact and four another each.

    The region of nine draws that hold the six is at least the six and more: a draw of
    the four is never in the others' region, since its contact is in no other draw. Seen
    to fail with the draw left in.
    """
    strongest = [0] * 6 + [1, 2, 3, 4]
    found = np.zeros((10, len(grid)))
    found[np.arange(10), strongest] = 1.0
    result = sites.evaluate(found, grid, sites.Case("x", None, None, SITE))
    assert result["region of draws holds"] == 0.6


def test_regions_that_other_sites_calibrate():
    """Of exchangeable sites nine in ten are held, or a little more.

    Ranks are whole numbers, so that ties hold more; to 0.02 of 4000 sites, four
    standard errors. Seen to fail with the rank's median, and where
    sites choose for themselves.
    """
    rng = np.random.default_rng(0)
    ranks = rng.geometric(0.02, 4000)
    table = pd.DataFrame(dict(method="a", rank=ranks))
    region = sites.calibrated_region(table).loc["a"]
    assert region["holds"] == pytest.approx(0.9, abs=0.02)
    assert region["contacts"] == pytest.approx(np.log(0.1) / np.log(0.98), rel=0.1)
    few = sites.calibrated_region(table[:10]).loc["a"]
    assert few["contacts"] == np.inf and few["holds"] == 1.0
    # The half that is evaluated does not choose.
    apart = pd.DataFrame(dict(method="a", rank=[1, 50] * 50))
    assert sites.calibrated_region(apart).loc["a", "holds"] == 0.5


@pytest.mark.slow
def test_sites_do_not_depend_on_how_many_there_are():
    """So that a run can go on; each has its own patient, patch and electrodes."""
    two, three = (list(sites.simulated_cases(range(n))) for n in (2, 3))
    assert two[1].patch == three[1].patch and two[1].seed == three[1].seed
    assert (two[1].topography == three[1].topography).all()
    assert len({case.seed for case in three}) == 3


@pytest.mark.slow
def test_source_in_the_background():
    """It has three times the amplitude of the background at its peaks."""
    case = next(sites.simulated_cases([0]))
    played = sites.play(case)
    average, electrodes = played.average()
    middle = average[:, average.shape[1] // 2]
    about = sites.single_patches(case._replace(topography=middle))
    assert 0.7 < about["within 10 mm"] <= about["one patch explains"] < 1
    r = np.corrcoef(middle, case.topography)[0, 1]
    assert r > 0.95 and len(electrodes) == len(middle)
    assert played.course.max() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", [*point_solvers.INVERT_METHODS, "SESAME"])
def test_other_programs_find_a_lone_source(method):
    """Within 20 mm, with a tenth of noise."""
    needed = "sesameeg" if method == "SESAME" else "invert"
    if needed == "invert":
        pytest.importorskip("invert")
    elif not point_solvers.is_installed(method):
        pytest.skip("needs sesameeg")
    head = load_head()
    patch = np.linalg.norm(head.patch_centres - SITE, axis=1).argmin()
    electrodes = head.scalp.rr[::13][:48]
    topography = scalp_lead_field(head, electrodes)[:, patch]
    topography = 1e-5 * (topography - topography.mean()) / topography.std()
    times = np.arange(-25, 26) / 128
    rng = np.random.default_rng(0)
    noise = 1e-6 * rng.standard_normal((len(electrodes), len(times)))
    average = np.outer(topography, np.exp(-((times / 0.06) ** 2))) + noise
    average -= average.mean(axis=0)
    if method == "SESAME":
        moments = np.abs(point_solvers.sesame_moments(average, electrodes, 9)).mean(0)
    else:
        moments = np.abs(point_solvers.invert_moments(method, average, electrodes))
    found = head.patch_centres[moments.argmax()]
    assert np.linalg.norm(found - head.patch_centres[patch]) < 0.02


def test_a_program_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "invert", None)
    with pytest.raises(ImportError, match="pip install invertmeeg"):
        point_solvers.invert_moments("TRAP-MUSIC", np.zeros((4, 5)), np.zeros((4, 3)))


@pytest.mark.slow
def test_sites_from_the_command_line(tmp_path, monkeypatch, capsys):
    """Sessions that are there, one after the other; a second run adds what is missing.

    Two sessions of simulated topographies stand for recorded ones. Seen to fail when a
    session with scores of some methods counted as done for all, as after the
    installation of another program.
    """
    cases = list(sites.simulated_cases([0, 1], montage="21"))
    sessions = [StimulationSession(_evoked(case), case.site, "x") for case in cases]
    monkeypatch.setattr(localize_mi, "find_sessions", lambda: [(1, 2), (3, 4)])
    asked = []

    def load(subject, run):
        asked.append((subject, run))
        session = sessions[len(asked) % 2]
        return session._replace(scalp=_Averaged(session.scalp))

    monkeypatch.setattr(localize_mi, "load", load)
    out = tmp_path / "run"
    argv = ["benchmark", "--data", "localize_mi", "--out", str(out), "--draws", "3"]
    assert cli.main([*argv, "--methods", "MNE", "dSPM"]) == 0
    said = capsys.readouterr().out
    assert "n = 2: a demonstration" in said and f"Scores: {out / 'sites.csv'}" in said
    table = pd.read_csv(out / "sites.csv")
    assert sorted(table["case"]) == ["1-2", "1-2", "3-4", "3-4"]
    grid = sites.make_grid(0.018)
    nearest = [1e3 * np.linalg.norm(grid - c.site, axis=1).min() for c in cases]
    assert table["best"].tolist() == pytest.approx(np.repeat(nearest[::-1], 2))
    assert cli.main([*argv, "--methods", "MNE"]) == 0 and len(asked) == 2
    said = capsys.readouterr().out
    assert "MNE" in said and "dSPM" not in said
    assert cli.main([*argv, "--methods", "MNE", "LCMV"]) == 0 and len(asked) == 4
    table = pd.read_csv(out / "sites.csv")
    assert sorted(table["method"]) == sorted(["MNE", "dSPM", "LCMV"] * 2)
    assert cli.main([*argv, "--methods", "MNE", "--draws", "2"]) == 0
    assert len(asked) == 6 and len(pd.read_csv(out / "sites.csv")) == 8
    assert cli.main([*argv, "--methods", "guess"]) == 2
    assert "Unknown methods: guess. Allowed are all" in capsys.readouterr().err
    (out / "sites.csv").write_text("a,b\n1,2\n")
    assert cli.main([*argv, "--methods", "MNE"]) == 2
    assert "another folder with --out" in capsys.readouterr().err


class _Averaged:
    """Epochs whose average is known."""

    def __init__(self, evoked):
        self.average = lambda: evoked


def _evoked(case):
    rise = np.array([0, 0.5, 1, 0.2])
    data = np.outer(case.topography, rise)
    return mne.EvokedArray(data, case.info, verbose=False)
