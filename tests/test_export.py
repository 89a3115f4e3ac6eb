"""Export to EDF+ and BIDS, read back by readers that know nothing of the writer.

Every test of numbers names the planted bugs that it was seen to catch.
"""

import datetime
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import mne
import numpy as np
import pytest
from mne.utils import check_version

from mne_neuroflow import export_edf, make_contacts, write_bids
from mne_neuroflow.cli import main
from mne_neuroflow.export import edf_labels
from mne_neuroflow.head.contacts import contact_labels, contact_positions
from mne_neuroflow.scalp.montages import template_name
from mne_neuroflow.virtual import (
    RawVirtual,
    describe,
    make_virtual_info,
    provenance,
)

pytest.importorskip("edfio")

STEP = 1e-7  # volts
DESCRIPTION = describe("mtl-v2", "0123456789abcdef", 7, "sample")
POINTS = contact_positions(make_contacts("mtl-core"))[1][:5]
PRIVATE = dict(
    his_id="H12345", first_name="Ada", last_name="Secret", sex=2, birthday=None
)


@pytest.fixture
def virtual(raw):
    """Twelve seconds at five contacts, dated, of a patient, computed when read."""
    return _virtual(raw)


def _virtual(raw, names=None, size=1e-4, preload=False):
    raw.set_meas_date(datetime.datetime(2021, 3, 4, 5, 6, 7, tzinfo=datetime.UTC))
    raw.info["subject_info"] = PRIVATE
    raw.info["line_freq"] = 50.0
    raw.set_annotations(mne.Annotations([1.0, 4.25], [0.5, 0.0], ["BAD_x", "go"]))
    raw.crop(0.5)
    names = names or [f"vAL{k}" for k in range(1, 6)]
    montage = make_contacts(
        mne.channels.make_dig_montage(
            dict(zip(names, POINTS, strict=True)), coord_frame="mni_tal"
        )
    )
    data = size * np.random.default_rng(0).standard_normal((5, raw.n_times))
    info = make_virtual_info(raw, montage, DESCRIPTION)
    return RawVirtual(raw, info, lambda start, stop: data[:, start:stop], preload)


def _read(fname):
    return mne.io.read_raw_edf(fname, preload=True, verbose="error")


# EDF ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-4, 3e-3])
def test_round_trip(virtual, raw, tmp_path, size):
    """Within half a step of 0.1 µV, or of 1 µV for what exceeds 3.2 mV. Seen to fail
    with truncation for rounding, with clipping, and with the wrong scale.
    """
    virtual = _virtual(raw.copy().crop(0), size=size)
    fname = export_edf(virtual, tmp_path / "v.edf")
    again = _read(fname)
    step = STEP if size == 1e-4 else 10 * STEP
    assert again.ch_names == virtual.ch_names
    assert again.info["sfreq"] == virtual.info["sfreq"]
    error = np.abs(again.get_data()[:, : virtual.n_times] - virtual.get_data())
    assert error.max() <= 0.5001 * step
    assert error.max() > 0.4 * step  # no finer than it says


@pytest.mark.skipif(
    not check_version("mne", "1.13"), reason="1.12 makes all times at each read"
)
def test_memory_does_not_grow_with_length(tmp_path):
    """Seen to fail with all samples in memory: 21 MB for a file of 9."""
    names = ["Fp1", "Cz", "Pz", "Oz", "Fz"]
    info = mne.create_info(names, 256.0, "eeg")
    montage = make_contacts("mtl-core")
    few = dict(list(montage.get_positions()["ch_pos"].items())[:5])
    montage = mne.channels.make_dig_montage(few, coord_frame="mni_tal")
    peaks = []
    for n_minutes in (10, 60):
        raw = mne.io.RawArray(np.zeros((5, n_minutes * 15360)), info, verbose=False)
        raw.set_montage(template_name(), verbose=False)
        virtual = RawVirtual(
            raw,
            make_virtual_info(raw, montage, DESCRIPTION),
            lambda start, stop: 1e-5 * np.sin(np.arange(start, stop) + np.c_[:5]),
            preload=False,
        )
        tracemalloc.start()
        file = export_edf(virtual, tmp_path / f"{n_minutes}.edf", verbose="error")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert file.stat().st_size > 9e6
    assert peaks[1] < 1.5 * peaks[0]


def test_readers_of_others(virtual, tmp_path):
    """EDFlib is stricter than edfio and MNE-Python; both read the same samples."""
    pyedflib = pytest.importorskip("pyedflib")
    fname = export_edf(virtual, tmp_path / "v.edf")
    with pyedflib.EdfReader(str(fname)) as file:
        samples = np.array([file.readSignal(k) for k in range(file.signals_in_file)])
        assert "not recorded" in file.readAnnotations()[2][0]
    again = _read(fname)
    np.testing.assert_allclose(1e-6 * samples, again.get_data(), atol=1e-12)


def test_annotations_and_words(virtual, tmp_path):
    """Seen to fail with onsets from the first sample of a recording that was cropped,
    and without the note at the first sample.
    """
    again = _read(export_edf(virtual, tmp_path / "v.edf"))
    found = list(
        zip(again.annotations.onset, again.annotations.description, strict=True)
    )
    assert found[0] == (0.0, DESCRIPTION)
    assert found[1:3] == [(0.5, "BAD_x"), (3.75, "go")]
    np.testing.assert_allclose(again.annotations.duration[1:3], [0.5, 0])
    header = (tmp_path / "v.edf").read_bytes()[: 256 * 7].decode("ascii")
    assert "virtual_iEEG predicted_not_recorded" in header[88:168]
    assert header[256 + 16 * 6 :].count("not recorded") == 5
    assert header[192:197] == "EDF+C"


def test_last_second_is_filled_up(virtual, tmp_path):
    """Seen to fail with zeros for the last sample and without the annotation."""
    virtual.crop(0, 5.25, include_tmax=False)
    again = _read(export_edf(virtual, tmp_path / "v.edf"))
    assert again.n_times == 6 * 256
    tail = again.get_data()[:, virtual.n_times :]
    np.testing.assert_array_equal(tail.T, np.tile(tail[:, 0], (tail.shape[1], 1)))
    error = np.abs(tail[:, 0] - virtual.get_data()[:, -1])
    assert error.max() <= 0.5001 * STEP
    last = again.annotations[-1]
    assert (last["onset"], last["duration"]) == (5.25, 0.75)
    assert last["description"] == "BAD_padding"


def test_rates_that_are_not_whole(raw, tmp_path):
    """Seen to fail with the sampling rate rounded."""
    raw.resample(200.5, verbose=False)
    again = _read(export_edf(_virtual(raw), tmp_path / "v.edf"))
    np.testing.assert_allclose(again.info["sfreq"], 200.5, rtol=1e-5)


def test_annotations_that_edf_would_break(virtual, tmp_path):
    """Any text, and the channels that it is about.

    Seen to fail with control characters, which cut a text in two, and without
    channels.
    """
    found = mne.Annotations(
        [1.0, 2.0, 3.0],
        [0.5, 0.5, 0.5],
        ["a, b; c", "Anfall \x14 ü", "日本"],
        ch_names=[(), (), ["vAL2"]],
        orig_time=virtual.annotations.orig_time,
    )
    virtual.set_annotations(found)
    again = _read(export_edf(virtual, tmp_path / "v.edf")).annotations
    assert list(again.description[1:4]) == ["a, b; c", "Anfall ü", "日本"]
    assert list(again.ch_names[1:4]) == [(), (), ("vAL2",)]


def test_privacy(virtual, tmp_path):
    """Seen to fail with the date, and with the name, left in."""
    header = export_edf(virtual, tmp_path / "v.edf").read_bytes()[:256].decode()
    assert header[8:88].split() == ["X", "X", "X", "X"]
    assert "Startdate X" in header and "04.03.21" not in header
    assert "05.06.07" in header
    fname = export_edf(virtual, tmp_path / "known.edf", anonymize=False)
    header = fname.read_bytes()[:256].decode()
    assert header[8:88].split() == ["H12345", "F", "X", "Ada_Secret"]
    assert "04-MAR-2021" in header


def test_clock(virtual, tmp_path):
    """The first sample's time of day, and dates that EDF has.

    Seen to fail with the time of the first sample before the crop, and without the
    check of the year.
    """
    shifted = virtual.copy().crop(3.5)  # half a second is lost already
    again = _read(export_edf(shifted, tmp_path / "v.edf", anonymize=False))
    start = virtual.info["meas_date"] + datetime.timedelta(seconds=4)
    assert again.info["meas_date"] == start
    np.testing.assert_allclose(again.annotations.onset[1], 0.25)
    shifted.set_meas_date(datetime.datetime(1984, 12, 31, tzinfo=datetime.UTC))
    with pytest.raises(ValueError, match="from 1985 to 2084, .* anonymize=True"):
        export_edf(shifted, tmp_path / "old.edf", anonymize=False)
    export_edf(shifted, tmp_path / "old.edf")


def test_labels(raw, tmp_path):
    """Seen to fail with labels that are cut and not numbered, with letters lost for
    their accents, and with a tab, which edfio refuses.
    """
    names = ["left hippocampus 1", "left hippocampus 2", "Büchse 右", "vAL\t1", "vAL2"]
    labels = edf_labels(names)
    expected = ["left hippocampus", "left hippocamp~2", "Buchse ?", "vAL 1", "vAL2"]
    assert labels == expected
    again = _read(export_edf(_virtual(raw, names), tmp_path / "v.edf"))
    assert again.ch_names == expected
    many = edf_labels([f"the same beginning {k}" for k in range(120)])
    assert len(set(many)) == 120 and max(map(len, many)) == 16


def test_what_cannot_be_exported(virtual, raw, epochs, tmp_path):
    with pytest.raises(TypeError, match="got Epochs, which EDF cannot hold"):
        export_edf(epochs, tmp_path / "v.edf")
    with pytest.raises(ValueError, match="export_raw.. writes others"):
        export_edf(raw, tmp_path / "v.edf")
    with pytest.raises(ValueError, match="end with .edf, but got v.bdf"):
        export_edf(virtual, tmp_path / "v.bdf")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_edf(virtual, tmp_path / "no" / "v.edf")
    with pytest.raises(OSError, match="Cannot write to /proc"):
        export_edf(virtual, "/proc/v.edf")
    (tmp_path / "folder.edf").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export_edf(virtual, tmp_path / "folder.edf", overwrite=True)
    with pytest.raises(TypeError, match="fname must be"):
        export_edf(virtual, 3)
    fname = export_edf(virtual, tmp_path / "v.edf")
    before = fname.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_edf(virtual, fname)
    assert export_edf(virtual, fname, overwrite=True).read_bytes() == before


def test_recorded_channels_are_not_called_virtual(virtual, raw, tmp_path):
    """Seen to fail without the check: the scalp EEG is exported as predicted."""
    both = virtual.load_data().add_channels([raw], force_update_info=True)
    both.info["description"] = DESCRIPTION
    with pytest.raises(ValueError, match="got also eeg. Use raw.pick"):
        export_edf(both, tmp_path / "v.edf")


def test_nothing_is_left_of_a_failure(virtual, tmp_path, monkeypatch):
    """Seen to fail with edfio writing to the final name."""
    import edfio

    fname = export_edf(virtual, tmp_path / "v.edf")
    before = fname.read_bytes()

    def fail(edf, target):
        target.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(edfio.Edf, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        export_edf(virtual, fname, overwrite=True)
    assert fname.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["v.edf"]


def test_samples_that_are_no_numbers(virtual, tmp_path):
    virtual.load_data()
    virtual._data[2, 100] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        export_edf(virtual, tmp_path / "v.edf")
    virtual._data[2, 100] = 9.0
    with pytest.raises(ValueError, match="exceeds 3.3 V"):
        export_edf(virtual, tmp_path / "v.edf")


# BIDS ---------------------------------------------------------------------------------


@pytest.fixture
def bids(virtual, tmp_path):
    """A derivative dataset with one recording."""
    pytest.importorskip("mne_bids")
    root = tmp_path / "derivatives" / "mne_neuroflow"
    return write_bids(virtual, root, subject="01", task="rest")


def _text(path):
    return path.read_text(encoding="utf-8")


def test_bids_derivative(bids, virtual):
    """Seen to fail with contacts in head coordinates and without GeneratedBy."""
    import mne_bids

    root = bids.root
    assert bids.fpath.is_file() and "_desc-virtual_ieeg.edf" in bids.fpath.name
    about = json.loads(_text(root / "dataset_description.json"))
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "mne_neuroflow"
    assert "not recorded" in about["Name"]
    assert "Unspecified" not in str(about)
    assert "not be used for diagnosis" in _text(root / "README")
    (channels,) = bids.fpath.parent.glob("*_channels.tsv")
    assert _text(channels).count("not recorded") == 5
    sidecar = json.loads(_text(bids.fpath.with_suffix(".json")))
    assert sidecar["Description"] == DESCRIPTION
    (system,) = bids.fpath.parent.glob("*_coordsystem.json")
    system = json.loads(_text(system))
    assert system["iEEGCoordinateSystem"] == "fsaverage"
    assert system["iEEGCoordinateUnits"] == "m"
    (electrodes,) = bids.fpath.parent.glob("*_electrodes.tsv")
    names, places = contact_positions(make_contacts(electrodes))
    assert names == virtual.ch_names
    np.testing.assert_allclose(places, POINTS, atol=1e-6)
    header, *rows = _text(electrodes).splitlines()
    assert header.split("\t")[-2:] == ["labels_3mm", "labels_5mm"]
    expected = contact_labels(np.array(POINTS))["labels_3mm"]
    assert [row.split("\t")[-2] for row in rows] == expected
    assert "5 mm" in _text(electrodes.with_suffix(".json"))
    again = mne_bids.read_raw_bids(bids, verbose="error")
    assert set(again.get_channel_types()) == {"seeg"}
    assert "not recorded" in provenance(again)
    error = np.abs(again.get_data()[:, : virtual.n_times] - virtual.get_data())
    assert error.max() <= 0.5001 * STEP
    everything = "".join(_text(f) for f in root.rglob("*.[jt]s*"))
    assert "Secret" not in everything and "2021" not in everything


def test_bids_names_all_that_generated_it(bids, virtual):
    """Seen to fail with the provenance of the first recording alone."""
    other = virtual.copy()
    other.info["description"] = DESCRIPTION.replace("seed", "another seed")
    for subject, each in (("02", virtual), ("03", other), ("04", other)):
        write_bids(each, bids.root, subject=subject)
    about = json.loads(_text(bids.root / "dataset_description.json"))
    assert [each["Description"] for each in about["GeneratedBy"]] == [
        DESCRIPTION,
        other.info["description"],
    ]
    assert {each["Name"] for each in about["GeneratedBy"]} == {"mne_neuroflow"}


def test_bids_anonymized_by_others(bids, tmp_path):
    """Seen to fail with padding that is annotated as a pause, which is read twice."""
    import mne_bids

    root = tmp_path / "anonymized"
    mne_bids.anonymize_dataset(
        bids.root, root, subject_mapping={"01": "7"}, verbose="error"
    )
    again = mne_bids.get_bids_path_from_fname(next(root.rglob("*_ieeg.edf")))
    raw = mne_bids.read_raw_bids(again, verbose="error")
    assert "not recorded" in provenance(raw)
    assert "not recorded" in _text(root / "dataset_description.json")
    assert "not be used for diagnosis" in _text(root / "README")


@pytest.mark.parametrize(
    "labels",
    [dict(subject="sub-01"), dict(task="rest state"), dict(session=""), dict(run="_")],
)
def test_bids_labels(virtual, tmp_path, labels):
    """Seen to fail without the check: a file name with a blank is no BIDS."""
    pytest.importorskip("mne_bids")
    (name,) = labels
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        write_bids(virtual, tmp_path / "d", **{"subject": "01", **labels})
    with pytest.raises(TypeError, match="subject must be"):
        write_bids(virtual, tmp_path / "d", subject=None)
    assert not list(tmp_path.iterdir())


def test_bids_recordings_are_added(bids, virtual):
    """Seen to fail with participants.tsv replaced by the newest one's."""
    write_bids(virtual, bids.root, subject="02")
    write_bids(virtual, bids.root, subject="01", run="2")
    rows = _text(bids.root / "participants.tsv").splitlines()
    assert [row.split("\t")[0] for row in rows] == [
        "participant_id",
        "sub-01",
        "sub-02",
    ]
    scans = _text(bids.root / "sub-01" / "sub-01_scans.tsv")
    assert scans.count("desc-virtual_ieeg.edf") == 2
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_bids(virtual, bids.root, subject="01")
    write_bids(virtual, bids.root, subject="01", overwrite=True)
    scans = _text(bids.root / "sub-01" / "sub-01_scans.tsv")
    assert scans.count("desc-virtual_ieeg.edf") == 2


def test_bids_sessions_keep_their_contacts(bids, virtual, raw):
    """Seen to fail without the check, and with a check of what is not replaced only."""
    (electrodes,) = bids.fpath.parent.glob("*_electrodes.tsv")
    before = electrodes.read_bytes()
    other = _virtual(raw, [f"vHR{k}" for k in range(1, 6)])
    with pytest.raises(ValueError, match="holds other contacts"):
        write_bids(other, bids.root, subject="01", run="2")
    write_bids(virtual, bids.root, subject="01", run="2")
    with pytest.raises(ValueError, match="already: sub-01_task-rest_desc-virtual"):
        write_bids(other, bids.root, subject="01", run="2", overwrite=True)
    assert electrodes.read_bytes() == before
    write_bids(other, bids.root, subject="01", session="2")
    write_bids(virtual, bids.root, subject="01", session="2", overwrite=True)


def test_bids_fails_whole(bids, virtual, raw, monkeypatch):
    """Seen to fail with files written where they belong from the start."""
    import mne_bids

    before = {f: f.read_bytes() for f in bids.root.rglob("*") if f.is_file()}

    def fail(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(mne_bids, "update_sidecar_json", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_bids(virtual, bids.root, subject="02")
    after = {f: f.read_bytes() for f in bids.root.rglob("*") if f.is_file()}
    assert after == before
    assert [f.name for f in bids.root.parent.iterdir()] == [bids.root.name]


def test_predictions_are_kept_from_recordings(virtual, tmp_path):
    pytest.importorskip("mne_bids")
    (tmp_path / "dataset_description.json").write_text('{"DatasetType": "raw"}')
    with pytest.raises(ValueError, match="dataset of recordings"):
        write_bids(virtual, tmp_path, subject="01")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="neither empty nor a BIDS dataset"):
        write_bids(virtual, tmp_path / "other", subject="01")


def test_bids_validator_accepts_it(bids):
    """With the official validator, where it is installed."""
    beside = Path(sys.executable).parent, *os.get_exec_path()
    path = os.pathsep.join(map(str, beside))  # also where no environment is activated
    validator = shutil.which("bids-validator-deno", path=path)
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run(
        [validator, str(bids.root), "--json"], capture_output=True, text=True
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue["severity"] == "error"]


# The command line ---------------------------------------------------------------------


def test_command(virtual, raw, tmp_path, capsys):
    virtual.save(tmp_path / "v_raw.fif", verbose=False)
    raw.save(tmp_path / "scalp_raw.fif", verbose=False)
    command = ["export", str(tmp_path / "v_raw.fif")]
    assert main([*command, str(tmp_path / "v.edf")]) == 0
    assert str(tmp_path / "v.edf") in capsys.readouterr().out
    assert _read(tmp_path / "v.edf").ch_names == virtual.ch_names
    assert main([*command, str(tmp_path / "v.edf")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "v.edf"), "--overwrite"]) == 0
    scalp = ["export", str(tmp_path / "scalp_raw.fif"), str(tmp_path / "s.edf")]
    assert main(scalp) == 2
    assert "not recorded" not in capsys.readouterr().out
    assert main([*command, str(tmp_path / "bids")]) == 2
    assert "--subject" in capsys.readouterr().err
    pytest.importorskip("mne_bids")
    command = [*command, str(tmp_path / "bids"), "--subject", "01", "--run", "2"]
    assert main(command) == 0
    (written,) = (tmp_path / "bids").rglob("*.edf")
    assert str(written) in capsys.readouterr().out and "run-2" in written.name
    assert main(command) == 2
    assert "use --overwrite to" in capsys.readouterr().err
