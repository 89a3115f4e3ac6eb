"""Derivations along a shaft, of recordings, draws and montages."""

import csv
from pathlib import Path

import mne
import numpy as np
import pytest
import xarray

from mne_neuroflow import make_bipolar, make_contacts
from mne_neuroflow.head.contact_names import read_contact_name
from mne_neuroflow.head.contacts import contact_positions, implant_names
from mne_neuroflow.ieeg import check_ieeg
from mne_neuroflow.virtual import describe


@pytest.mark.parametrize(
    ("name", "shaft", "number"),
    [
        ("A'1", "A'", 1),
        ("A’12", "A'", 12),
        ("LA1", "LA", 1),
        ("LA01", "LA", 1),
        ("mAHL1", "AHL", 1),
        ("_AHL1", "AHL", 1),
        ("_GL_A8", "GL_A", 8),
        ("POL A1", "A", 1),
        ("POL A'1", "A'", 1),
        ("EEG A1-Ref", "A", 1),
        ("EEG LA3-0", "LA", 3),
        ("ECoG G1", "G", 1),
        ("RH_2", "RH", 2),
        ("A-3", "A", 3),
        ("left hippocampus 1", "left hippocampus", 1),
        ("VC001", "VC", 1),
    ],
)
def test_names_of_all_styles(name, shaft, number):
    """Seen to fail for POL without the prefixes, for mAHL1 without the macro mark."""
    assert read_contact_name(name) == (shaft, number)


@pytest.mark.parametrize("name", ["A1-A2", "A'1-2", "", "12", "Cz", "EKG"])
def test_what_names_no_contact(name):
    assert read_contact_name(name) is None


def test_names_of_real_implants():
    """All 860 contacts of 15 patients: shafts of 4 to 8 contacts, from 1 on."""
    for implant in implant_names():
        names, _ = contact_positions(make_contacts(implant, verbose="error"))
        shafts = {}
        for name in names:
            shaft, number = read_contact_name(name)
            shafts.setdefault(shaft, []).append(number)
        for numbers in shafts.values():
            assert len(set(numbers)) == len(numbers) and max(numbers) <= 8


NAMES = ["POL A'1", "POL A'2", "POL A'3", "POL A'5", "B1", "B2"]
PLACES = 1e-3 * np.array(
    [[-20, 0, 0], [-25, 0, 0], [-30, 0, 0], [-40, 0, 0], [20, 0, 0], [25, 0, 0]]
)


@pytest.fixture(scope="module")
def data():
    return 1e-5 * np.random.default_rng(0).standard_normal((5, 6, 300))


@pytest.fixture
def raw(data):
    raw = mne.io.RawArray(
        data[0], mne.create_info(NAMES, 100.0, "seeg"), first_samp=70, verbose=False
    )
    montage = mne.channels.make_dig_montage(
        dict(zip(NAMES, PLACES, strict=True)), coord_frame="mni_tal"
    )
    raw.set_montage(montage.add_mni_fiducials(verbose=False), verbose=False)
    return raw.set_annotations(mne.Annotations(1.0, 0.5, "spike"))


def test_bipolar_of_a_raw(raw, data):
    """Signals, middle positions and events; not across the gap at A'4."""
    before = raw.copy()
    derived = make_bipolar(raw)
    assert derived.ch_names == ["A'1-A'2", "A'2-A'3", "B1-B2"]
    expected = data[0][[0, 1, 4]] - data[0][[1, 2, 5]]
    np.testing.assert_allclose(derived.get_data(), expected, rtol=0, atol=1e-18)
    was, now = (contact_positions(each.get_montage())[1] for each in (before, derived))
    np.testing.assert_allclose(
        now, (was[[0, 1, 4]] + was[[1, 2, 5]]) / 2, rtol=0, atol=1e-9
    )
    assert derived.first_samp == 70
    assert derived.annotations == before.annotations
    np.testing.assert_array_equal(raw.get_data(), before.get_data())
    with pytest.raises(ValueError, match="Bipolar intracranial channels"):
        check_ieeg(derived)


def test_saved_and_read(raw, tmp_path):
    derived = make_bipolar(raw)
    derived.save(tmp_path / "bipolar_raw.fif", verbose=False)
    read = mne.io.read_raw(tmp_path / "bipolar_raw.fif", verbose=False)
    for one, other in zip(derived.info["chs"], read.info["chs"], strict=True):
        np.testing.assert_allclose(one["loc"], other["loc"], rtol=0, atol=1e-7)


def test_laplacian_and_average(raw, data):
    derived = make_bipolar(raw, "laplacian")
    assert derived.ch_names == ["A'2-lap"]
    expected = data[0, 1] - (data[0, 0] + data[0, 2]) / 2
    np.testing.assert_allclose(derived.get_data()[0], expected, rtol=0, atol=1e-18)
    derived = make_bipolar(raw, "average")
    assert derived.ch_names[:4] == ["A'1-avg", "A'2-avg", "A'3-avg", "A'5-avg"]
    expected = data[0, :4] - data[0, :4].mean(axis=0)
    np.testing.assert_allclose(derived.get_data()[:4], expected, rtol=0, atol=1e-18)


@pytest.mark.parametrize("unknown", [np.nan, 0.0])
def test_one_contact_is_unknown(raw, data, unknown):
    """A contact without a position or signal spoils its own derivations alone.

    Seen to fail with a product of matrices, in which NaN times zero is NaN.
    """
    where = [ch["loc"][:3].copy() for ch in raw.info["chs"]]
    raw.info["chs"][5]["loc"][:3] = unknown
    raw._data[5] = np.nan
    derived = make_bipolar(raw)
    assert derived.ch_names == ["A'1-A'2", "A'2-A'3", "B1-B2"]
    expected = data[0][[0, 1]] - data[0][[1, 2]]
    np.testing.assert_allclose(derived.get_data()[:2], expected, rtol=0, atol=1e-18)
    places = np.array([ch["loc"][:3] for ch in derived.info["chs"]])
    np.testing.assert_allclose(places[0], (where[0] + where[1]) / 2, atol=1e-9)
    assert np.isnan(places[2]).all() and np.isnan(derived.get_data()[2]).all()
    montage = mne.channels.make_dig_montage(
        {"A1": [0, 0, 0.01], "A2": [0, 0, 0.02], "A3": [np.nan] * 3}
    )
    _, places = contact_positions(make_bipolar(montage))
    np.testing.assert_allclose(places[0], [0, 0, 0.015])


def test_bads_take_their_derivations_along(raw):
    raw.info["bads"] = ["POL A'2"]
    assert make_bipolar(raw).ch_names == ["B1-B2"]


def test_epochs(raw, data):
    epochs = mne.EpochsArray(data, raw.info, tmin=-0.5, verbose=False)
    derived = make_bipolar(epochs)
    np.testing.assert_allclose(
        derived.get_data(copy=False)[:, 2], data[:, 4] - data[:, 5], atol=1e-18
    )
    assert derived.tmin == -0.5


def draws_of(data):
    structure = ["amygdala", "amygdala", "hippocampus", "hippocampus", "x", "x"]
    return xarray.DataArray(
        data.astype(np.float32),
        {
            "channel": NAMES,
            "time": np.arange(300) / 100,
            "structure": ("channel", structure),
            "observability": ("channel", np.zeros(6)),
        },
        ("draw", "channel", "time"),
        "virtual iEEG",
        {"units": "V", "description": describe("m", "0" * 12, 1, "draws")},
    )


def test_intervals_are_those_of_derived_draws(data):
    """Two contacts that go up and down together have a narrow difference.

    Seen to fail with quantiles of contacts subtracted from each other.
    """
    together = np.repeat(data[:, :1], 6, axis=1) + 1e-3 * data
    derived = make_bipolar(draws_of(together))
    assert derived.dims == ("draw", "channel", "time")
    np.testing.assert_allclose(
        derived.sel(channel="B1-B2"), together[:, 4] - together[:, 5], atol=1e-11
    )
    low, high = derived.quantile([0.1, 0.9], "draw").mean(("channel", "time"))
    assert 0 < high - low < 1e-7
    assert list(derived["structure"].values) == [
        "amygdala",
        "amygdala/hippocampus",
        "x",
    ]
    assert "observability" not in derived.coords
    assert "not recorded" in derived.attrs["description"]
    assert derived.dtype == np.float32


def test_summaries_are_refused(raw, data):
    with pytest.raises(ValueError, match="summarize them afterwards"):
        make_bipolar(draws_of(data).quantile(0.5, "draw"))
    raw.info["description"] = describe("m", "0" * 12, 1, "quantile 0.05")
    with pytest.raises(ValueError, match=r"quantile 0\.05 over draws"):
        make_bipolar(raw)
    raw.info["description"] = describe("m", "0" * 12, 1, "mean")
    assert "mean" in make_bipolar(raw).info["description"]


def test_montage_is_for_plots_not_for_prediction():
    montage = make_bipolar(make_contacts("mtl"))
    names, positions = contact_positions(montage)
    assert len(names) == 70 and names[0] == "vAL1-vAL2"
    _, contacts = contact_positions(make_contacts("mtl"))
    np.testing.assert_allclose(positions[0], contacts[:2].mean(axis=0), atol=1e-12)
    with pytest.raises(ValueError, match="Bipolar intracranial channels"):
        make_contacts(montage)


def test_what_cannot_be_derived(raw):
    with pytest.raises(ValueError, match="'kind' parameter"):
        make_bipolar(raw, "double banana")
    with pytest.raises(TypeError, match="inst must be an instance of"):
        make_bipolar([1, 2])
    with pytest.raises(ValueError, match="without shaft and number: EKG"):
        make_bipolar(raw.copy().rename_channels({"B1": "EKG"}))
    with pytest.raises(ValueError, match="are the same contact"):
        make_bipolar(raw.copy().rename_channels({"B1": "A'2"}))
    apart = raw.copy().pick(["POL A'1", "B1"])
    for kind, needed in [
        ("bipolar", "two contacts with consecutive numbers"),
        ("laplacian", "three contacts with consecutive numbers"),
        ("average", "two contacts on one shaft"),
    ]:
        with pytest.raises(ValueError, match=f"No {kind} derivation .* {needed}"):
            make_bipolar(apart, kind)
    far = make_contacts([[-0.02, 0, 0], [0.02, 0, 0]])
    with pytest.raises(ValueError, match="No bipolar derivation"):
        make_bipolar(far)


def test_real_electrodes_files():
    """Derivations of every patient of ds004752 that is shipped, 2 to 12 mm apart."""
    file = Path(__file__).parents[1] / "mne_neuroflow/head/implants/contacts.csv"
    with file.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["x"] not in ("", "n/a")]
    assert len(rows) > 857
    for implant in implant_names():
        if implant.startswith("ds004752"):
            montage = make_contacts(implant, verbose="error")
            n_contacts = len(montage.ch_names)
            assert n_contacts > len(make_bipolar(montage).ch_names) > 0.8 * n_contacts
