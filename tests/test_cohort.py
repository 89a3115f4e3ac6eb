"""The simulated cohort, with sessions of some seconds.

Each test names the planted bugs that it was seen to catch.
"""

import tomllib
from pathlib import Path

import mne
import numpy as np
import pytest
from small_model import one_thread

from mne_neuroflow import make_contacts, training
from mne_neuroflow.datasets import simulated_cohort as cohort
from mne_neuroflow.head.contacts import contact_positions, contact_structures
from mne_neuroflow.head.geometry import STRUCTURES
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.simulation.setups import HELD_OUT, MONTAGES
from mne_neuroflow.simulation.sources import MESIAL, SCENARIOS


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A folder for sessions of 8 s."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(cohort, "DURATION", 8.0)
        yield tmp_path_factory.mktemp("data")


def test_table():
    """Twelve patients, two sessions each, every scenario and usual montages.

    Catches a scenario that is in no session and one that nobody can simulate.
    """
    table = cohort.table()
    assert (len(table), table["subject"].nunique()) == (24, 12)
    assert set(table["scenario"]) == set(SCENARIOS)
    assert set(table["montage"]) <= set(MONTAGES)
    found = table.groupby("subject")["session"].apply(list).to_dict()
    assert cohort.sessions() == found
    assert table.groupby("subject")["seed"].nunique().eq(1).all()
    assert table["seed"].nunique() == 12


def test_training_never_saw_it():
    """Catches an implant of a patient that training uses, and the seed of a recipe."""
    table = cohort.table()
    real = table["implant"][table["implant"].str.startswith("ds004752")]
    assert set(real.str[9:15]) == set(HELD_OUT)
    seeds = set(table["seed"])
    for seed in tuple(seeds):
        seeds.update(np.random.SeedSequence(seed).generate_state(2).tolist())
        for session in (1, 2):
            seeds.update(np.random.SeedSequence([seed, session]).generate_state(1))
    recipes = (Path(training.__file__).parent / "recipes").glob("*.toml")
    used = [tomllib.loads(fname.read_text(encoding="utf-8")) for fname in recipes]
    assert used
    for recipe in used:
        data = recipe.get("data", {})
        parts = (recipe, data.get("patients", {}), data.get("held_out", {}))
        assert not seeds & {part["seed"] for part in parts if "seed" in part}


def test_implants():
    """Everybody has another one, and real ones are where they were.

    Catches random electrodes that all patients share, electrodes of which little is
    inside the brain, and real contacts in another order.
    """
    montages = {subject: cohort._implant(subject) for subject in cohort.sessions()}
    first = [contact_positions(m)[1][0].round(4).tolist() for m in montages.values()]
    assert len({tuple(rr) for rr in first}) == 12
    sizes = [len(montage.ch_names) for montage in montages.values()]
    assert min(sizes) >= 18 and max(sizes) == 32
    for montage in montages.values():
        assert np.isin(contact_structures(montage)[0], STRUCTURES[:MESIAL]).any()
    names, rr = contact_positions(montages[1])
    assert names[:9] == [f"mAHL{k}" for k in range(1, 9)] + ["mAL1"]
    whole = make_contacts("ds004752-sub-01").get_positions()["ch_pos"]
    np.testing.assert_allclose(rr, [whole[name] for name in names], atol=1e-12)


def test_session(short):
    """Ready to be predicted from and compared with, and it says what it is.

    Catches contacts that are described in another order.
    """
    scalp, ieeg, contacts = cohort.load(8, 1, short)
    assert np.array_equal(scalp.times, ieeg.times)
    assert (scalp.info["sfreq"], scalp.n_times) == (128, 8 * 128)
    assert len(scalp.ch_names) == 32
    for raw in (scalp, ieeg):
        assert raw.info["subject_info"]["his_id"] == "sim-08"
        assert "not a recording" in raw.info["description"]
        assert "session 1, scenario slowing, seed 7528." in raw.info["description"]
    assert check_scalp(scalp, on_mismatch="raise").ch_names == scalp.ch_names
    names, rr = contact_positions(make_contacts(ieeg.info))
    assert list(contacts.index) == names == ieeg.ch_names
    np.testing.assert_allclose(contacts[["x", "y", "z"]], rr, atol=1e-7)
    assert set(contacts["group"]) == {"SA", "SB", "SC"}
    assert set(contacts["hemisphere"]) <= {"L", "R"}


def _log_std(raw):
    return np.log(raw.get_data().std(axis=1))


def test_patients_come_back(short):
    """Contacts keep their amplitudes from session to session, signals are new.

    Catches sessions that are the same, and patients that are new in every session.
    """
    (_, first, _), (_, second, _) = (cohort.load(1, k, short) for k in (1, 2))
    assert first.ch_names == second.ch_names
    together = np.corrcoef(_log_std(first), _log_std(second))[0, 1]
    assert together > 0.85
    same = [
        np.corrcoef(x, y)[0, 1]
        for x, y in zip(first.get_data(), second.get_data(), strict=True)
    ]
    assert np.abs(same).max() < 0.9


def test_made_once_and_again_alike(short, tmp_path, monkeypatch):
    """Catches a session that is simulated although it is kept, and a random seed."""
    first = cohort.load(8, 1, short)
    again = cohort.load(8, 1, tmp_path)
    for one, other in zip(first[:2], again[:2], strict=True):
        np.testing.assert_array_equal(one.get_data(), other.get_data())
        assert one.annotations == other.annotations

    def simulated(*args):
        raise RuntimeError("simulated again")

    monkeypatch.setattr(cohort, "_simulate", simulated)
    cohort.load(8, 1, short)
    with pytest.raises(RuntimeError, match="simulated again"):
        cohort.load(8, 2, tmp_path)
    monkeypatch.setattr(cohort, "_version", lambda: "other")
    with pytest.raises(RuntimeError, match="simulated again"):
        cohort.load(8, 1, short)


def test_interruption_leaves_nothing(short, tmp_path, monkeypatch):
    """Catches a first file that is there when the second could not be written."""
    pair = cohort.load(8, 1, short)[:2]
    fnames = [tmp_path / "kept" / name for name in ("a_eeg.fif", "a_ieeg.fif")]
    whole = mne.io.Raw.save

    def save(raw, fname, **kwargs):
        if fname.name == "a_ieeg.fif":
            raise KeyboardInterrupt
        return whole(raw, fname, **kwargs)

    monkeypatch.setattr(type(pair[1]), "save", save)
    with pytest.raises(KeyboardInterrupt):
        cohort._save(pair, fnames)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(("subject", "session"), [(13, 1), (1, 3), ("1", 1)])
def test_who_is_not_there(subject, session, tmp_path):
    with pytest.raises(ValueError, match="Invalid value for the '(subject|session)'"):
        cohort.load(subject, session, tmp_path)
