"""Contacts: what goes in, in which frame it comes out, and what is refused."""

import json
import warnings

import mne
import numpy as np
import pytest

import mne_neuroflow
from mne_neuroflow.head import contacts
from mne_neuroflow.head.contacts import (
    check_contacts,
    contact_positions,
    contact_structures,
    get_head_to_mri,
    implant_names,
    make_contacts,
    read_contacts,
)
from mne_neuroflow.head.geometry import inside_brain, load_head

# 0.0001 mm: what single precision in MNE's montages leaves. Seen to catch a montage
# without the MNI fiducials (54 mm) and head_to_mri applied twice.
SAME_PLACE = 1e-7
POINTS = np.array([[-25.0, -12, -20], [-30, -12, -19], [26, -28, -9]]) / 1e3


def info_with(montage, names=None):
    names = montage.ch_names if names is None else names
    return mne.create_info(names, 512.0, "seeg", verbose=False).set_montage(montage)


@pytest.mark.parametrize("name", implant_names())
def test_shipped_implants_load(name):
    names, rr = contact_positions(make_contacts(name))
    assert len(set(names)) == len(names) > 0
    assert max(map(len, names)) <= 15
    assert np.abs(rr).max() < 0.1


def test_counts_are_those_of_the_dataset():
    counts = {name: len(make_contacts(name).ch_names) for name in implant_names()}
    assert (counts["mtl"], counts["mtl-core"]) == (80, 30)
    # less the three unlocated contacts of sub-12
    real = [48, 64, 40, 64, 32, 64, 64, 62, 64, 80, 36, 43, 68, 64, 64]
    assert [counts[f"ds004752-sub-{k:02d}"] for k in range(1, 16)] == real


def test_mtl_is_symmetric_and_mesial_first():
    montage = make_contacts("mtl")
    names, rr = contact_positions(montage)
    left = {n: r for n, r in zip(names, rr, strict=True) if n[:-1].endswith("L")}
    assert len(left) == 40
    for name, position in left.items():
        mirrored = rr[names.index(name[:-2] + "R" + name[-1])]
        np.testing.assert_allclose(mirrored, position * [-1, 1, 1], atol=1e-9)
    for family in ("A", "AH", "PH", "EC", "PHG"):
        x = [left[f"v{family}L{k}"][0] for k in range(1, 9)]
        assert (np.diff(x) < 0).all()  # contact 1 is the mesial one
    spacing = np.linalg.norm(np.diff(rr.reshape(10, 8, 3), axis=1), axis=-1)
    np.testing.assert_allclose(spacing, 5e-3, atol=2e-5)
    assert inside_brain(load_head(), rr).all()


def test_first_contacts_lie_in_their_structure():
    montage = make_contacts("mtl")
    structures, distances = contact_structures(montage)
    found = dict(zip(montage.ch_names, structures, strict=True))
    for side in "LR":
        assert found[f"vA{side}1"] == "amygdala"
        assert found[f"vAH{side}1"] == found[f"vPH{side}1"] == "hippocampus"
        assert found[f"vEC{side}1"] == found[f"vPHG{side}1"] == "parahippocampal"
    firsts = [n.endswith("1") for n in montage.ch_names]
    assert distances[firsts].max() < 3e-3


def test_core_is_part_of_mtl_and_mesial():
    whole = dict(zip(*contact_positions(make_contacts("mtl")), strict=True))
    core = dict(zip(*contact_positions(make_contacts("mtl-core")), strict=True))
    assert all(np.array_equal(whole[n], r) for n, r in core.items())
    assert all(int(name[-1]) <= 4 for name in core)


def test_public_name_and_ready_for_set_montage(recwarn):
    montage = mne_neuroflow.make_contacts("mtl")
    info = info_with(montage)
    head = np.array([ch["loc"][:3] for ch in info["chs"]])
    mri = mne.transforms.apply_trans(get_head_to_mri(), head)
    assert np.abs(mri - contact_positions(montage)[1]).max() < SAME_PLACE
    assert not recwarn


def test_info_comes_back_with_names_order_and_bads():
    order = ["mPHL3", "mAHL1", "EEG noise", "mAL2"]
    montage = make_contacts("ds004752-sub-01")
    info = mne.create_info(order, 512.0, ["seeg", "ecog", "eeg", "seeg"])
    info.set_montage(montage, on_missing="ignore")
    info["bads"] = ["mAHL1"]
    names, rr = contact_positions(make_contacts(info))
    assert names == ["mPHL3", "mAHL1", "mAL2"]
    want = dict(zip(*contact_positions(montage), strict=True))
    assert np.abs(rr - [want[name] for name in names]).max() < SAME_PLACE


def test_info_with_mni_coordinates_that_mne_did_not_transform():
    bare = mne.channels.make_dig_montage(
        dict(zip("abc", POINTS, strict=True)), coord_frame="mni_tal"
    )
    with pytest.warns(RuntimeWarning, match="nasion not found"):
        info = info_with(bare)
    rr = contact_positions(make_contacts(info))[1]
    assert np.abs(rr - POINTS).max() < SAME_PLACE


@pytest.mark.parametrize("frame", ["unknown", "head"])
def test_info_without_frame(frame):
    """MNI coordinates, called head coordinates; seen to be used without a word."""
    above = dict(zip("abc", POINTS + [0, 0, 0.03], strict=True))
    montage = mne.channels.make_dig_montage(above, coord_frame=frame)
    info = mne.create_info(list("abc"), 512.0, "seeg")
    info.set_montage(montage, verbose="error")
    with pytest.warns(RuntimeWarning, match="without fiducials.*='mni_tal'"):
        make_contacts(info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_contacts(info, trans=mne.transforms.Transform("head", "mri", np.eye(4)))
        make_contacts(info_with(make_contacts("mtl-core")))


def test_info_in_another_head_frame(tmp_path):
    shift = np.eye(4)
    shift[:3, 3] = [0.002, -0.003, 0.01]
    other = get_head_to_mri() @ shift
    trans = mne.transforms.Transform("head", "mri", other)
    info = mne.create_info(list("abc"), 512.0, "seeg")
    head = mne.transforms.apply_trans(np.linalg.inv(other), POINTS)
    montage = mne.channels.make_dig_montage(
        dict(zip("abc", head, strict=True)), coord_frame="head"
    )
    info.set_montage(montage)
    fname = tmp_path / "x-trans.fif"
    mne.write_trans(fname, mne.transforms.invert_transform(trans))
    for given in (trans, mne.transforms.invert_transform(trans), fname, str(fname)):
        rr = contact_positions(make_contacts(info, trans=given))[1]
        assert np.abs(rr - POINTS).max() < SAME_PLACE
    rr = contact_positions(make_contacts(montage, trans=trans))[1]
    assert np.abs(rr - POINTS).max() < SAME_PLACE


def test_bad_trans():
    with pytest.raises(ValueError, match="'trans'.*Allowed values"):
        get_head_to_mri("no-such-file")
    with pytest.raises(ValueError, match="between head and MRI"):
        get_head_to_mri(mne.transforms.Transform("meg", "head", np.eye(4)))
    with pytest.raises(TypeError, match="trans must be"):
        get_head_to_mri(3)


def test_array_and_montage():
    names, rr = contact_positions(make_contacts(POINTS))
    assert names == ["VC001", "VC002", "VC003"]
    np.testing.assert_allclose(rr, POINTS, atol=SAME_PLACE)
    montage = make_contacts("mtl-core")
    again = make_contacts(montage)
    assert again.ch_names == montage.ch_names
    np.testing.assert_array_equal(
        contact_positions(again)[1], contact_positions(montage)[1]
    )


MNI = dict(iEEGCoordinateSystem="MNI152Lin", iEEGCoordinateUnits="mm")


def write_electrodes(path, rows, system=None):
    lines = ["name\tx\ty\tz\tsize", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if system is not None:
        json_path = path.with_name(path.name.replace("electrodes", "coordsystem"))
        json_path.with_suffix(".json").write_text(json.dumps(system))
    return path


@pytest.mark.parametrize("scale, unit", [(1e3, "mm"), (1, "m"), (100, "cm")])
def test_electrodes_tsv_units(tmp_path, scale, unit):
    rows = [(f"A{k}", *(scale * p), 1.3) for k, p in enumerate(POINTS)]
    system = dict(MNI, iEEGCoordinateUnits=unit)
    fname = write_electrodes(tmp_path / "sub-1_electrodes.tsv", rows, system)
    for made in (read_contacts(fname), make_contacts(fname), make_contacts(str(fname))):
        names, rr = contact_positions(made)
        assert names == ["A0", "A1", "A2"]
        np.testing.assert_allclose(rr, POINTS, atol=SAME_PLACE)


def test_electrodes_tsv_trouble(tmp_path):
    rows = [("A1", -25, -12, -20, 1), ("A2", "n/a", "n/a", "n/a", 1)]
    fname = write_electrodes(tmp_path / "sub-1_electrodes.tsv", rows, MNI)
    with pytest.raises(ValueError, match='A2.* leave them out with on_missing="warn"'):
        read_contacts(fname)
    # seen to fail when nothing says how a file with n/a gets in
    match = r'A2.* leave them out with read_contacts\(fname, on_missing="warn"\)'
    with pytest.raises(ValueError, match=match):
        make_contacts(fname)
    with pytest.warns(RuntimeWarning, match="Left out.*A2"):
        assert read_contacts(fname, on_missing="warn").ch_names == ["A1"]
    assert read_contacts(fname, on_missing="ignore").ch_names == ["A1"]
    with pytest.raises(ValueError, match="'on_missing'"):
        read_contacts(fname, on_missing="drop")

    write_electrodes(fname, rows[:1], dict(iEEGCoordinateSystem="ScanRAS"))
    with pytest.raises(ValueError, match="MNI or fsaverage.*ScanRAS"):
        read_contacts(fname)
    fname.write_text("label\tx\ty\tz\nA1\t1\t2\t3\n")
    with pytest.raises(ValueError, match="lacks columns: name"):
        read_contacts(fname)
    with pytest.raises(FileNotFoundError, match="no file of contacts"):
        make_contacts(tmp_path / "none_electrodes.tsv")


def test_contacts_of_a_file_at_one_place(tmp_path):
    """A patient's electrodes that cross are named in the log, as those of an Info.

    Seen to fail for both functions when a file does not count as measured.
    """
    rows = [(f"A{k}", *(1e3 * POINTS[i]), 1.3) for k, i in enumerate([0, 1, 1])]
    fname = write_electrodes(tmp_path / "sub-1_electrodes.tsv", rows, MNI)
    for read in (read_contacts, make_contacts):
        with mne.utils.catch_logging(verbose=True) as log:
            montage = read(fname, verbose=True)
            assert "same position: A1 = A2" in log.getvalue()
        assert montage.ch_names == ["A0", "A1", "A2"]


def test_unknown_name_lists_the_valid_ones(monkeypatch):
    """Seen to fail when the last name of all ends the list of the dataset's."""
    shipped = [name for name in implant_names() if name.startswith(("mtl", "ds"))]
    known = [*shipped, "mine"]
    monkeypatch.setattr("mne_neuroflow.head.contacts.implant_names", lambda: known)
    names = "'mtl', 'mtl-core', 'mine', 'ds004752-sub-01' to 'ds004752-sub-15'"
    with pytest.raises(ValueError, match=f"{names}, the path of .* but got 'mlt'"):
        make_contacts("mlt")


@pytest.mark.parametrize(
    "rr, message",
    [
        (POINTS * 1e3, "like millimetres: divide by 1000"),
        (POINTS * 1e2, "like centimetres: divide by 100, or millimetres: divide by 1"),
        (POINTS[[0, 1, 1]], "same position: VC002 = VC003"),
        (np.where(np.eye(3)[1:2] > 0, np.nan, POINTS), "without coordinates: VC001"),
        (POINTS + [[0, 0, 0], [0, 0, 0.12], [0, 0, 0]], "1 of 3 .* outside.*VC002"),
        (np.zeros((0, 3)), "empty"),
    ],
)
def test_bad_positions(rr, message):
    with pytest.raises(ValueError, match=message):
        make_contacts(rr)


@pytest.mark.parametrize("bad", [3.0, None, POINTS[:, :2], object(), [["a", "b", "c"]]])
def test_bad_types(bad):
    with pytest.raises(TypeError, match="Contacts must be an implant name"):
        make_contacts(bad)


@pytest.mark.parametrize("columns", ["xyz", "zyx"])
def test_tables_in_memory(columns):
    """Seen to be read in the order of their columns, and without their names."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(POINTS, ["A1", "A2", "A3"], list("xyz"))[list(columns)]
    with pytest.raises(TypeError, match="but got DataFrame.*table.*make_dig_montage"):
        make_contacts(table)
    right = table[["x", "y", "z"]].to_numpy()
    np.testing.assert_array_equal(contact_positions(make_contacts(right))[1], POINTS)
    with pytest.raises(TypeError, match="but got dict.*make_dig_montage"):
        make_contacts(dict(zip(table.index, POINTS, strict=True)))


def test_more_bad_input():
    with pytest.raises(ValueError, match="unique.*A1"):
        check_contacts(["A1", "A1"], POINTS[:2])
    with pytest.raises(ValueError, match="without a name: number 2"):
        check_contacts(["A1", " "], POINTS[:2])
    with pytest.raises(ValueError, match="no 'seeg', 'ecog' or 'dbs'"):
        make_contacts(mne.create_info(3, 512.0, "eeg"))
    with pytest.raises(ValueError, match="without coordinates: 0, 1"):
        make_contacts(mne.create_info(["0", "1"], 512.0, "seeg"))
    unknown = mne.channels.make_dig_montage(dict(a=POINTS[0]), coord_frame="unknown")
    with pytest.raises(
        ValueError, match="'mni_tal', 'mri' and 'head'.*'unknown'.*If not, tr"
    ):
        make_contacts(unknown)


def test_just_outside_is_kept_and_logged():
    """Real contacts up to 5 mm outside stay where they are; farther ones do not."""
    with mne.utils.catch_logging(verbose=True) as log:
        montage = make_contacts("ds004752-sub-04", verbose=True)
    log = log.getvalue()
    assert "just outside" in log and "mECR8" in log
    assert "same position: mAL4 = mECL4" in log
    rr = dict(zip(*contact_positions(montage), strict=True))["mECR8"]
    np.testing.assert_allclose(rr, [0.06184, 0.01906, -0.02091], atol=1e-5)
    outward = rr / np.linalg.norm(rr)
    with pytest.raises(ValueError, match="outside the brain"):
        make_contacts([rr + (contacts.MAX_OUTSIDE + 1e-3) * outward])
