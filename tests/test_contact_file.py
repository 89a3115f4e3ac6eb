"""Tables of contacts as other tools write them: read rightly, or refused by name."""

import json
import os

import mne
import numpy as np
import pytest

from mne_neuroflow.cli import main
from mne_neuroflow.head.contact_file import is_mni
from mne_neuroflow.head.contact_names import derived_from
from mne_neuroflow.head.contacts import (
    contact_positions,
    make_contacts,
    read_contacts,
)
from mne_neuroflow.ieeg import check_ieeg

ROWS = "name\tx\ty\tz\nA1\t-27\t-20\t-18\nA2\t-31\t-20\t-18\n"
MNI = {"iEEGCoordinateSystem": "MNI152Lin", "iEEGCoordinateUnits": "mm"}
FOUND = 1e-3 * np.array([[-27, -20, -18], [-31, -20, -18]])


def write(folder, table=ROWS, system=MNI, name="sub-01_electrodes.tsv", beside=None):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(table if isinstance(table, bytes) else table.encode())
    if system is not None:
        beside = beside or name.replace("electrodes.tsv", "coordsystem.json")
        content = system if isinstance(system, bytes) else json.dumps(system).encode()
        (folder / beside).write_bytes(content)
    return file


def check_found(file, **options):
    montage = read_contacts(file, **options)
    names, rr = contact_positions(montage)
    assert names == ["A1", "A2"]
    np.testing.assert_allclose(rr, FOUND, atol=1e-9)


@pytest.mark.parametrize(
    ("space", "agrees"),
    [
        ("MNI152NLin2009cAsym", True),
        ("MNI152Lin", True),
        ("MNI305", True),
        ("mni_tal", True),
        ("IXI549Space", True),
        ("ICBM452AirSpace", True),
        ("MNIColin27", True),
        ("fsaverage", True),
        ("fsaverage5", True),
        ("MNI", True),
        ("Talairach", False),
        ("MNIInfant", False),
        ("MNIPediatricAsym", False),
        ("NIHPD", False),
        ("ACPC", False),
        ("ScanRAS", False),
        ("Pixels", False),
        ("individual", False),
        ("CapTrak", False),
        ("Other", False),
        ("n/a", False),
        ("not MNI152", False),
    ],
)
def test_spaces(space, agrees, tmp_path):
    assert is_mni(space) == agrees
    file = write(tmp_path, system=dict(MNI, iEEGCoordinateSystem=space))
    if agrees:
        with mne.utils.catch_logging(verbose=True) as log:
            check_found(file, verbose=True)
        assert f"space {space}" in log.getvalue()
        return
    with pytest.raises(ValueError, match="coordsystem.json says.*space='MNI152'"):
        read_contacts(file)
    if space in ("Other", "n/a"):
        check_found(file, space="MNI152")
    else:
        with pytest.warns(RuntimeWarning, match=f"says that its space is '{space}'"):
            check_found(file, space="MNI152")


def test_description_of_another_space_is_quoted(tmp_path):
    system = dict(MNI, iEEGCoordinateSystem="Other")
    system["iEEGCoordinateSystemDescription"] = "native T1w - acpc"
    with pytest.raises(ValueError, match="'Other' .native T1w - acpc"):
        make_contacts(write(tmp_path, system=system))


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (ROWS.replace("-31", "-30,5"), "line 3, column x: .*'A2'.*'-30,5'.*points"),
        (ROWS.replace("-31", "left"), "line 3, column x: .*'A2'.*'left'"),
        (ROWS.replace("-31", "inf"), "line 3, column x: .*'A2'.*'inf'"),
        (ROWS.replace("\t", ","), "parted by ','"),
        (ROWS.replace("\t", ";"), "parted by ';'"),
        (ROWS.replace("z\n", "x\n"), "lacks columns: z"),
        (ROWS.replace("z\n", "z\tx\n"), "two columns with the name x"),
        (ROWS.replace("-18\nA2", "-18\t4\nA2"), "line 2: 5 values"),
        ("", "is empty"),
        (ROWS.replace("-31\t-20\t-18", "-31"), "without coordinates: A2"),
    ],
)
def test_tables_that_are_refused(tmp_path, table, match):
    with pytest.raises(ValueError, match=match) as error:
        read_contacts(write(tmp_path, table))
    if "without" not in match:
        assert "sub-01_electrodes.tsv" in str(error.value)


@pytest.mark.parametrize(
    "table",
    [
        ROWS.replace("name\tx", "Name\tX"),
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("A1", " A1 "),
        ROWS + "\n\n",
        b"\xef\xbb\xbf" + ROWS.encode(),
        ROWS.encode("utf-16"),
        (ROWS.replace("z\n", "z\tPlatz\n") + "")
        .replace("18\n", "18\tSch\u00e4del\n")
        .encode("latin-1"),
    ],
)
def test_tables_that_are_read(tmp_path, table):
    check_found(write(tmp_path, table))


@pytest.mark.parametrize("missing", ["N/A", "n/a", "NaN", "", "null", "None"])
def test_missing_coordinates(tmp_path, missing):
    file = write(tmp_path, ROWS + f"A3\t{missing}\t{missing}\t{missing}\n")
    with pytest.raises(ValueError, match="without coordinates: A3"):
        read_contacts(file)
    check_found(file, on_missing="ignore")


@pytest.mark.parametrize(
    ("system", "match"),
    [
        (None, "no coordsystem.json fits.*space='MNI152'"),
        ({}, "coordsystem.json says 'n/a'"),
        ({"iEEGCoordinateSystem": None}, "coordsystem.json says 'n/a'"),
        ({"iEEGCoordinateSystem": "MNI152Lin"}, "unit .*says None.*units='mm'"),
        (dict(MNI, iEEGCoordinateUnits="pixels"), "unit .*says 'pixels'"),
        (dict(MNI, iEEGCoordinateUnits="n/a"), "unit .*says 'n/a'"),
        (dict(MNI, iEEGCoordinateUnits="m"), "looks like millimetres"),
        (b"{", "coordsystem.json is no JSON"),
        (b"[]", "must hold an object"),
    ],
)
def test_systems_that_are_refused(tmp_path, system, match):
    with pytest.raises(ValueError, match=match):
        read_contacts(write(tmp_path, system=system))
    if "units" in match:
        check_found(tmp_path / "sub-01_electrodes.tsv", units="mm")


def test_metres_called_millimetres(tmp_path):
    table = "name\tx\ty\tz\nA1\t-.027\t-.02\t-.018\nA2\t-.031\t-.02\t-.018\n"
    with pytest.raises(ValueError, match="seem to be in metres"):
        read_contacts(write(tmp_path, table))
    check_found(tmp_path / "sub-01_electrodes.tsv", units="m")


def test_byte_order_mark_of_a_sidecar(tmp_path):
    check_found(write(tmp_path, system=b"\xef\xbb\xbf" + json.dumps(MNI).encode()))


def test_inheritance(tmp_path):
    """The sidecar of a session is also that of a task, and that of the dataset."""
    (tmp_path / "dataset_description.json").write_text("{}")
    folder = tmp_path / "sub-01" / "ses-01" / "ieeg"
    name = "sub-01_ses-01_task-rest_electrodes.tsv"
    check_found(write(folder, name=name, beside="sub-01_ses-01_coordsystem.json"))
    for other in folder.glob("*.json"):
        other.unlink()
    with pytest.raises(ValueError, match="no coordsystem.json"):
        read_contacts(folder / name)
    (tmp_path / "coordsystem.json").write_text(json.dumps(MNI))
    check_found(folder / name)
    # That of another task or subject is not this table's.
    wrong = json.dumps(dict(MNI, iEEGCoordinateSystem="ACPC"))
    (folder / "sub-01_ses-01_task-other_coordsystem.json").write_text(wrong)
    check_found(folder / name)
    (folder / "sub-01_ses-01_coordsystem.json").write_text(wrong)
    with pytest.raises(ValueError, match="ACPC"):
        read_contacts(folder / name)


def test_space_in_the_name(tmp_path):
    name = "sub-01_space-{}_electrodes.tsv"
    file = write(tmp_path / "a", system=None, name=name.format("MNI152NLin2009aSym"))
    check_found(file, units="mm")
    file = write(tmp_path / "b", system=None, name=name.format("ACPC"))
    with pytest.raises(ValueError, match="its name says 'ACPC'"):
        read_contacts(file, units="mm")
    file = write(tmp_path / "c", name=name.format("ACPC"))
    with pytest.raises(ValueError, match="'ACPC' in its name, but .*'MNI152Lin'"):
        read_contacts(file)


def test_options(tmp_path):
    file = write(tmp_path)
    with pytest.raises(ValueError, match="'space' parameter.*'ACPC'"):
        read_contacts(file, space="ACPC")
    with pytest.raises(ValueError, match="'units' parameter.*'inch'"):
        read_contacts(file, units="inch")


class Somewhere(os.PathLike):
    def __init__(self, file):
        self._file = file

    def __fspath__(self):
        return str(self._file)


def test_any_path(tmp_path, monkeypatch):
    file = write(tmp_path)
    check_found(Somewhere(file))
    assert len(make_contacts(Somewhere(file)).ch_names) == 2
    monkeypatch.setenv("HOME", str(tmp_path))
    check_found("~/sub-01_electrodes.tsv")


def test_command_line_has_the_same_ways_out(tmp_path, capsys, raw, small_model):
    raw.crop(0, 2).save(tmp_path / "scalp_raw.fif", verbose=False)
    file = write(tmp_path, ROWS + "A3\tn/a\tn/a\tn/a\n", system=None)
    command = ["predict", str(tmp_path / "scalp_raw.fif"), str(tmp_path / "v_raw.fif")]
    command += ["--quiet", "--seed", "0", "--contacts", str(file)]
    for option in (["--space", "MNI152"], ["--units", "mm"], ["--on-missing", "warn"]):
        assert main(command) == 2
        assert " ".join(option) in capsys.readouterr().err
        command += option
    assert main(command) == 0
    virtual = mne.io.read_raw(tmp_path / "v_raw.fif", verbose=False)
    assert virtual.ch_names == ["A1", "A2"]


# Derivations of two contacts ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("A'1-A'2", "A'2"),
        ("LH1-LH2", "LH2"),
        ("LH1-2", "2"),
        ("POL A1-A2", "A2"),
        ("EEG LA3-LA4-0", "LA4"),
        ("G12 - G13", "G13"),
        ("A1-Ref", ""),
        ("A1-B1", ""),
        ("A'1", ""),
        ("A1-0", ""),
        ("VC001", ""),
        ("sub-01", ""),
    ],
)
def test_derivation_names(name, second):
    assert derived_from(name, [name, "other1"]) == second


def test_one_contact_as_reference():
    names = [f"G{k}-G64" for k in range(1, 20)]
    assert not any(derived_from(name, names) for name in names)


def test_bipolar_ieeg_is_refused(make_raw):
    raw = make_raw(2.0, names=["A1", "A2", "A3", "B1"], montage=False)
    raw.set_channel_types(dict.fromkeys(raw.ch_names, "seeg"), on_unit_change="ignore")
    check_ieeg(raw)
    bipolar = mne.set_bipolar_reference(raw, ["A1", "A2"], ["A2", "A3"], verbose=False)
    renamed = raw.copy().rename_channels({"A1": "A1-A2"})
    for each in (bipolar, renamed):
        with pytest.raises(ValueError, match="Bipolar intracranial channels: A1-A2"):
            check_ieeg(each)
        with pytest.raises(ValueError, match="Bipolar intracranial channels: A1-A2"):
            make_contacts(each.info)
