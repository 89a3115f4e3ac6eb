"""Tables of contacts as other tools write them: read rightly, or refused by name."""

import json
import os
import warnings

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
        (ROWS.replace("\t", "  "), "parted by ' '"),
        (ROWS.replace("-31", "3_1"), "line 3, column x: .*'3_1'"),  # 31 for Python
        (ROWS.replace("A1", '"A1') + '"A3\t-35\t-20\t-18\n', "line 4: .*not closed"),
        (ROWS.replace("A2", "n/a"), "without a name: number 2"),
        ("", "is empty"),
        (ROWS.replace("-31\t-20\t-18", "-31"), "without coordinates: A2"),
    ],
)
def test_tables_that_are_refused(tmp_path, table, match):
    with pytest.raises(ValueError, match=f"sub-01_electrodes.tsv.*{match}"):
        read_contacts(write(tmp_path, table))


@pytest.mark.parametrize(
    "table",
    [
        ROWS.replace("name\tx", "Name\tX"),
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("A1", " A1 "),
        ROWS + "\n\n",
        ROWS.replace("-", "\u2212"),
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
        (dict(MNI, iEEGCoordinateUnits="m"), "is 31, so they seem .* units='mm'"),
        (dict(MNI, iEEGCoordinateUnits="cm"), "is cm, .* units='mm'"),
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
    assert main([*command, "--contacts", str(file.with_suffix(".not.tsv"))]) == 2
    assert "There is no file of contacts" in capsys.readouterr().err
    for implant in ("mtl", "mtl-core"):  # seen to have no effect
        options = ["--contacts", implant, "--on-missing", "warn", "--units", "mm"]
        assert main([*command, *options]) == 2
        assert "--units, --on-missing need a file of" in capsys.readouterr().err
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
        ("A1_A2", "A2"),
        ("A1/A2", "A2"),
        ("A1>A2", "A2"),
        ("A1 A2", "A2"),
        ("A'1A'2", "A'2"),
        ("POL A1-POL A2", "POL A2"),
        ("EEG A1-A2-Ref", "A2"),
        ("A2-lap", "lap"),
        ("A1_bipolar", "bipolar"),
        ("A1-avg", ""),
        ("A_1", ""),
        ("P01_A2", ""),
        ("L A 1", ""),
        ("left hippocampus 1", ""),
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


@pytest.mark.parametrize(
    ("names", "derived"),
    [
        (["A1-B1", "A2-B1", "A3-B1", "B2-B1"], 0),  # one reference
        (["A1-A3", "A2-A3", "A4-A3", "B1-A3", "B2-A3"], 0),
        (["A1-A2", "A3-A2", "B1-B2", "B3-B2"], 4),  # half of them have A2
        (["A1-A2", "A3-A2", "B1"], 2),
        (["A1-lap", "A2-lap", "A3-lap"], 3),
        (["A1-B1", "A2-B2", "A3-B3"], 3),  # from shaft to shaft
    ],
)
def test_reference_or_derivation(names, derived):
    assert sum(bool(derived_from(name, names)) for name in names) == derived


@pytest.mark.parametrize("form", ["{0}1-{0}2", "{0}1/{0}2", "{0}1-lap"])
def test_derivations_in_a_file(tmp_path, form):
    """Seen to be taken for single contacts."""
    table = ROWS.replace("A1", form.format("A")).replace("A2", form.format("B"))
    for read in (read_contacts, make_contacts):
        with pytest.raises(ValueError, match="electrodes.tsv: Bipolar intracranial ch"):
            read(write(tmp_path, table))


# Positions that contacts do not have --------------------------------------------------


def placed(names, rr, frame="mni_tal"):
    """Info and montage of contacts, coordinates in millimetres."""
    montage = mne.channels.make_dig_montage(
        dict(zip(names, 1e-3 * np.array(rr, float), strict=True)), coord_frame=frame
    )
    info = mne.create_info(names, 500.0, "seeg")
    return info.set_montage(montage.add_mni_fiducials()), montage


def test_zeros_are_no_position(tmp_path):
    """Seen to be taken for the anterior commissure."""
    file = write(tmp_path, ROWS + "A3\t0\t0.0\t0\n")
    with pytest.raises(ValueError, match="tsv: Contacts without coordinates: A3"):
        read_contacts(file)
    check_found(file, on_missing="ignore")
    for contacts in placed(["A1", "A2"], [[-27, -20, -18], [0, 0, 0]]):
        with pytest.raises(ValueError, match="^Contacts without coordinates: A2"):
            make_contacts(contacts)


def test_positions_beyond_a_head(tmp_path):
    with pytest.raises(ValueError, match=r"tsv: .* than a head: A3 \(999 mm\)\. Write"):
        read_contacts(write(tmp_path, ROWS + "A3\t-999\t-999\t-999\n"))


def test_contacts_that_are_too_close(tmp_path):
    """Centimetres that are called millimetres; seen to be predicted from."""
    rr = [[side * (27 + 4 * k), -20, -18] for side in (-1, 1) for k in range(3)]
    table = "name\tx\ty\tz\n" + "".join(
        f"{'LR'[n > 2]}A{n % 3}\t{x / 10}\t{y / 10}\t{z / 10}\n"
        for n, (x, y, z) in enumerate(rr)
    )
    with pytest.warns(RuntimeWarning, match="0.4 mm apart in the median.*another unit"):
        read_contacts(write(tmp_path, table))


@pytest.mark.parametrize(
    "shafts", [("LA", "RA"), ("A'", "A"), ("AHL", "AHR"), ("mAHL", "mAHR"), ("L", "R")]
)
def test_contacts_on_the_other_side(shafts):
    """Coordinates to the left (LPS); seen to be predicted from without a word."""
    names = [f"{shaft}{k}" for shaft in shafts for k in (1, 2)]
    rr = np.array([[x, -20, -18] for x in (-27, -31, 27, 31)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_contacts(placed(names, rr)[0])
    if shafts == ("L", "R"):  # of shafts that are called by the alphabet
        make_contacts(placed(names, -rr)[0])
        return
    with pytest.warns(RuntimeWarning, match=r"of the right on the left: .* \(LPS\)"):
        make_contacts(placed(names, rr * [-1, 1, 1])[1])


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
