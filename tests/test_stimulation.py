"""Recordings with a known place: files in the layout of their authors' code.

``derivatives/epochs`` is written here as the published ``fx_bids.py`` of both datasets
writes it: names, columns, units, keys and rounding.
"""

import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import mne
import numpy as np
import pandas as pd
import pytest
from mne.io.constants import FIFF

from mne_neuroflow.datasets import ccepcoreg, localize_mi
from mne_neuroflow.datasets._stimulation import (
    read_derivation,
    read_site,
    template_affine,
)
from mne_neuroflow.head.geometry import load_head, project_to_scalp
from mne_neuroflow.ieeg import check_ieeg

# A patient's head frame, seen from the template: turned, moved, and 8 % smaller.
TURN = mne.transforms.rotation(0.1, -0.05, 0.15)
PATIENT = TURN @ np.diag([0.92, 0.95, 0.9, 1.0])
PATIENT[:3, 3] = [0.002, -0.015, -0.04]
CONTACTS = {"G'7": (-0.03, -0.02, -0.018), "G'8": (-0.034, -0.02, -0.018)}


def cortex():
    head = load_head()
    return head.vertices[np.isfinite(head.patch_area[head.vertex_patch])][::3]


def to_patient(rr):
    return mne.transforms.apply_trans(PATIENT, np.asarray(rr))


def test_affine_is_found_again():
    """Of a turned, moved and shrunk cortex, to a millimetre everywhere on the head.

    Seen to fail with the box alone, without iterations.
    """
    found = template_affine(to_patient(cortex()))
    scalp = load_head().scalp.rr
    back = mne.transforms.apply_trans(found, to_patient(scalp))
    assert np.linalg.norm(back - scalp, axis=1).max() < 1e-3


def test_what_is_no_cortex():
    """Millimetres, and half a brain."""
    left = cortex()[cortex()[:, 0] < 0]
    for wrong in (1e3 * cortex(), left):
        with pytest.raises(RuntimeError, match="does not fit"):
            template_affine(wrong)


@pytest.mark.parametrize(
    ("text", "contacts", "how"),
    [
        ("Stimulation of channel K13-14 1mA", (("K", 13), ("K", 14)), "1mA"),
        ("Stimulation of channel A'1-2 0.5mA", (("A'", 1), ("A'", 2)), "0.5mA"),
        ("Stimulation of X’3-X’4 5mA 1.0ms", (("X'", 3), ("X'", 4)), "5mA 1.0ms"),
        ("Stimulation of channel G'07-08 1mA", (("G'", 7), ("G'", 8)), "1mA"),
    ],
)
def test_stimulated_contacts(text, contacts, how):
    assert read_site(text) == (contacts, how)
    with pytest.raises(RuntimeError, match="No stimulated contacts"):
        read_site("rest")
    assert read_derivation("A'1-A'2") == read_derivation("A'1-2")
    assert read_derivation("A'1") is None


def write_run(folder, stem, names, data, kind, sfreq, tmin, description, bads=()):
    folder.mkdir(parents=True, exist_ok=True)
    channels = pd.DataFrame({"name": names, "type": kind, "units": "V"})
    channels = channels.assign(
        low_cutoff="0.5",
        high_cutoff="n/a",
        sampling_frequency=sfreq,
        status=["bad" if name in bads else "good" for name in names],
    )
    channels.to_csv(folder / f"{stem}_channels.tsv", sep="\t", index=False)
    n_times = data.shape[2]
    events = dict(
        duration=(n_times - 1) / sfreq, zero_time=-tmin, trial_type=description[23:]
    )
    pd.DataFrame([events] * len(data)).to_csv(
        folder / f"{stem}_epochs.tsv", sep="\t", index=False
    )
    about = {"Description": description, "BaselineCorrection": True}
    (folder / f"{stem}_epochs.json").write_text(json.dumps(about))
    np.save(folder / f"{stem}_epochs.npy", data)


def write_electrodes(file, positions, decimals=5):
    rows = pd.DataFrame(positions, index=list("xyz")).T.round(decimals)
    rows.rename_axis("name").assign(material="PtIr").to_csv(file, sep="\t")


NAMES = [f"E{k}" for k in range(1, 21)]


def patient_forward(electrodes):
    """A forward solution in a sphere: electrodes and cortex of a patient."""
    info = mne.create_info(NAMES, 8000.0, "eeg")
    montage = mne.channels.make_dig_montage(
        dict(zip(NAMES, electrodes, strict=True)), coord_frame="head"
    )
    info.set_montage(montage, verbose=False)
    rr = to_patient(cortex())
    src = mne.setup_volume_source_space(
        pos=dict(rr=rr, nn=np.tile([0.0, 0, 1], (len(rr), 1))), verbose=False
    )
    src[0]["coord_frame"] = FIFF.FIFFV_COORD_HEAD
    sphere = mne.make_sphere_model((0, 0, 0), 0.2, verbose=False)
    return mne.make_forward_solution(
        info, None, src, sphere, meg=False, verbose="error"
    )


@pytest.fixture(scope="module")
def localize(tmp_path_factory):
    """A folder of Localize-MI with one session, and the electrodes' true places."""
    root = tmp_path_factory.mktemp("localize_mi")
    epochs = root / "derivatives" / "epochs" / "sub-01"
    data = 1e-5 * np.random.default_rng(0).standard_normal((3, 20, 2081))
    write_run(
        epochs / "eeg",
        "sub-01_task-seegstim_run-07",
        NAMES,
        data,
        "EEG",
        8000,
        -0.25,
        "Stimulation of channel G'7-8 0.5mA",
        bads=["E3"],
    )
    (epochs / "ieeg").mkdir()
    space = "sub-01_task-seegstim_space-MNI152NLin2009aSym_electrodes.tsv"
    write_electrodes(epochs / "ieeg" / space, CONTACTS)
    electrodes = load_head().scalp.rr[::33]
    forward = patient_forward(to_patient(electrodes))
    folder = root / "derivatives" / "sourcemodelling" / "sub-01" / "fwd"
    folder.mkdir(parents=True)
    mne.write_forward_solution(folder / "sub-01_fwd.fif", forward, verbose=False)
    return root, electrodes, data


def test_localize_mi(localize):
    """Times, volts, bads, the site, and electrodes on the template.

    Seen to fail with the box alone, without iterations.
    """
    root, electrodes, data = localize
    scalp, site, about = localize_mi.load(1, 7, root)
    assert (scalp.info["sfreq"], scalp.tmin, scalp.tmax) == (8000, -0.25, 0.01)
    np.testing.assert_array_equal(scalp.get_data(copy=False), data)
    assert scalp.info["bads"] == ["E3"]
    np.testing.assert_allclose(site, [-0.032, -0.02, -0.018], rtol=0, atol=1e-9)
    assert about == "G'7-G'8 0.5mA"
    in_head = np.array([ch["loc"][:3] for ch in scalp.info["chs"]])
    found = mne.transforms.apply_trans(load_head().head_to_mri, in_head)
    assert np.linalg.norm(found - electrodes, axis=1).max() < 2e-3


def change_table(pattern, **columns):
    """Return a function that changes these columns in the tables of a dataset."""

    def change(root):
        for fname in root.rglob(pattern):
            table = pd.read_csv(fname, sep="\t")
            for name in table.columns.intersection(list(columns)):
                values = columns[name]
                table[name] = values(table[name]) if callable(values) else values
            table.to_csv(fname, sep="\t", index=False, na_rep="n/a")

    return change


def change_json(pattern, **entries):
    def change(root):
        for fname in root.rglob(pattern):
            about = json.loads(fname.read_text()) | entries
            kept = {name: value for name, value in about.items() if value is not None}
            fname.write_text(json.dumps(kept))

    return change


def change_array(change):
    def apply(root):
        (fname,) = root.rglob("*.npy")
        np.save(fname, change(np.load(fname)))

    return apply


def cut(root):
    for fname in root.rglob("*.npy"):
        fname.write_bytes(fname.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_array(lambda data: data[:, :19]), "20 channels"),
        (change_array(lambda data: 1e6 * data), "cannot be in volts"),
        (change_array(lambda data: data.astype(int)), "type int64"),
        (change_array(lambda data: np.where(data > 0, data, np.nan)), "NaN .* E1, E2"),
        (cut, "no readable array"),
        (change_table("*_channels.tsv", units="uV"), "units uV instead of V"),
        (change_table("*_channels.tsv", name="E1"), "same name: E1"),
        (change_table("*_channels.tsv", status="noisy"), "status noisy"),
        (change_table("*_channels.tsv", sampling_frequency=8), "rate of 8 Hz"),
        (change_table("*_channels.tsv", sampling_frequency=np.nan), "different rates"),
        (change_table("*_channels.tsv", name=lambda x: x.str.lower()), "electrodes E1"),
        (change_table("*_epochs.tsv", zero_time=-0.25), "no pulse in the epochs"),
        (change_table("*_epochs.tsv", zero_time=250), "no pulse in the epochs"),
        (change_json("*_epochs.json", Description=None), "no entry Description"),
        (
            change_json("*_epochs.json", Description="Stimulation of B1-2 1mA"),
            "no coordinates of the stimulated contacts B1 and B2",
        ),
    ],
)
def test_localize_mi_in_another_layout(localize, tmp_path, change, message):
    """Every difference is an error that names it.

    Seen to be read without one before each check: a pulse after the epochs, NaN, one
    channel's name for all, kilohertz, an unknown status, electrodes of other names.
    """
    root = tmp_path / "dataset"
    shutil.copytree(localize[0], root)
    change(root)
    with pytest.raises(RuntimeError, match=message) as info:
        localize_mi.load(1, 7, root)
    assert "Delete it and get it again" in str(info.value)


def test_other_spellings_of_the_same(localize, tmp_path):
    """``BAD``, and contacts with a leading zero and a typographic prime."""
    root = tmp_path / "dataset"
    shutil.copytree(localize[0], root)
    change_table("*_channels.tsv", status=lambda x: x.str.upper())(root)
    change_table("*_space-*_electrodes.tsv", name=["G’07", "G’08"])(root)
    scalp, site, about = localize_mi.load(1, 7, root)
    assert scalp.info["bads"] == ["E3"] and about == "G'7-G'8 0.5mA"
    np.testing.assert_allclose(site, [-0.032, -0.02, -0.018], rtol=0, atol=1e-9)


def test_localize_mi_is_fetched(localize, tmp_path):
    """From a server that has the same files; what is there is not asked for again."""
    root, *_ = localize
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = HTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        localize_mi.fetch(1, 7, tmp_path, url, verbose="error")
        with pytest.raises(ConnectionError, match="Could not ask for"):
            localize_mi.fetch(2, 1, tmp_path, url)
    finally:
        server.shutdown()
        server.server_close()
    localize_mi.fetch(1, 7, tmp_path, url)
    scalp, *_ = localize_mi.load(1, 7, tmp_path)
    assert len(scalp) == 3


def test_bad_numbers():
    with pytest.raises(ValueError, match="subjects 1 to 7"):
        localize_mi.load(8, 1)
    with pytest.raises(ValueError, match="1 to 36"):
        ccepcoreg.load(37, 1, ".")
    with pytest.raises(TypeError, match="run must be an instance of int"):
        ccepcoreg.load(1, "1", ".")


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """The source archive of sesameeg, by pip, where it can be had."""
    folder = tmp_path_factory.mktemp("sesameeg")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    pip += ["--timeout", "10", "--retries", "0", "--no-binary", ":all:"]
    try:
        done = subprocess.run(
            [*pip, "--no-build-isolation", "--dest", folder, "sesameeg==0.0.3"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        why = done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired:
        why = ["no answer within two minutes"]
    files = list(folder.glob("*.tar.gz"))
    if not files:
        pytest.skip(f"sesameeg 0.0.3 cannot be had from the package index: {why}")
    return files[0]


def test_real_session(archive, tmp_path):
    """The electrodes and the place of a person, on the template.

    The place is in the right insula and the strongest electrodes are on the right. A
    mirror image, or electrodes in another order, would break this.
    """
    evoked, site, _ = localize_mi.load_example(archive)
    assert evoked.data.shape == (234, 33)
    np.testing.assert_allclose(evoked.times[[0, -1]], [-0.002, 0.002], atol=1e-9)
    in_head = np.array([ch["loc"][:3] for ch in evoked.info["chs"]])
    places = mne.transforms.apply_trans(load_head().head_to_mri, in_head)
    away = project_to_scalp(load_head(), places)[3]
    assert np.median(away) < 0.02
    np.testing.assert_allclose(site, [0.038, -0.016, 0.014], rtol=0, atol=2e-3)
    strongest = np.argsort(-np.abs(evoked.data).max(axis=1))[:8]
    assert places[strongest, 0].min() > 0.07
    other = tmp_path / "sesameeg-0.0.3.tar.gz"
    other.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is not the source archive"):
        localize_mi.load_example(other)


def test_example_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """The message has a command that gets it elsewhere."""
    monkeypatch.setattr(localize_mi, "_EXAMPLE_URL", "http://127.0.0.1:9/nothing")
    monkeypatch.setattr(localize_mi, "data_folder", lambda: tmp_path)
    with pytest.raises(ConnectionError, match=r"pip download .* --dest .*localize_mi"):
        localize_mi.load_example()


@pytest.fixture
def ccep(tmp_path):
    """A folder of CCEPCOREG with one run: bipolar contacts, electrodes in mm."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "derivatives" / "epochs" / "sub-05"
    text = "Stimulation of A'1-A'2 5mA 0.5ms 0.5Hz (channel, intensity)"
    stem = "sub-05_task-ccepcoreg"
    scalp = 1e-5 * rng.standard_normal((4, 20, 1001))
    ieeg = 1e-4 * rng.standard_normal((4, 4, 1001))
    names = ["A'1-A'2", "A'2-A'3", "B1-B2", "B2-B3"]
    for kind, channels, data in (("eeg", NAMES, scalp), ("ieeg", names, ieeg)):
        write_run(
            folder / kind, f"{stem}_run-03", channels, data, kind, 1000, -0.3, text
        )
    head = load_head()
    electrodes = 1e3 * head.scalp.rr[::33]
    # in another order than the channels, as the authors' own reader assumes not
    rows = dict(reversed(list(zip(NAMES, electrodes, strict=True))))
    write_electrodes(folder / "eeg" / f"{stem}_electrodes.tsv", rows, 2)
    fiducials = mne.coreg.get_mni_fiducials
    marks = {
        f["ident"]._name.rpartition("_")[2]: 1e3 * f["r"]
        for f in fiducials("fsaverage")
    }
    about = {
        "EEGCoordinateUnits": "mm",
        "AnatomicalLandmarkCoordinateUnits": "mm",
        "AnatomicalLandmarkCoordinates": {
            short: [float(x) for x in marks[long]]
            for short, long in (("NAS", "NASION"), ("LPA", "LPA"), ("RPA", "RPA"))
        },
    }
    (folder / "eeg" / f"{stem}_coordsystem.json").write_text(json.dumps(about))
    places = {
        "A'1-A'2": (-0.03, -0.02, -0.018),
        "A'2-A'3": (-0.034, -0.02, -0.018),
        "B1-B2": (0.03, -0.02, -0.018),
    }
    space = f"{stem}_space-MNI152NLin2009aSym_electrodes.tsv"
    write_electrodes(folder / "ieeg" / space, places)
    return tmp_path, scalp, ieeg, places


def test_ccepcoreg(ccep):
    """Both sides with positions by name; derivations are known as such.

    Seen to fail with positions in the order of the file.
    """
    root, data, bipolar, places = ccep
    scalp, ieeg, contacts = ccepcoreg.load(5, 3, root)
    np.testing.assert_array_equal(scalp.get_data(copy=False), data)
    np.testing.assert_array_equal(ieeg.get_data(copy=False), bipolar[:, :3])
    np.testing.assert_allclose(scalp.times, ieeg.times)
    assert (scalp.tmin, scalp.tmax) == (-0.3, 0.7)
    np.testing.assert_allclose(contacts[["x", "y", "z"]], list(places.values()))
    assert contacts["hemisphere"].tolist() == ["L", "L", "R"]
    assert contacts["stimulated"].tolist() == [True, True, False]
    in_head = np.array([ch["loc"][:3] for ch in scalp.info["chs"]])
    found = mne.transforms.apply_trans(load_head().head_to_mri, in_head)
    assert np.abs(found - load_head().scalp.rr[::33]).max() < 1e-3
    with pytest.raises(ValueError, match="Bipolar intracranial channels"):
        check_ieeg(ieeg)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_table(
                "*ccepcoreg_electrodes.tsv", name=[f"V{k}" for k in range(20)]
            ),
            "no position of E1, E2",
        ),
        (change_table("*ccepcoreg_electrodes.tsv", name="E1"), "the same name"),
        (
            change_json("*coordsystem.json", EEGCoordinateUnits="n/a"),
            "units n/a, not m",
        ),
        (change_json("*coordsystem.json", EEGCoordinateUnits="m"), "which is no head"),
        (
            change_json("*coordsystem.json", AnatomicalLandmarkCoordinates={"NAS": 0}),
            "no fiducial LPA, RPA",
        ),
        (change_table("ieeg/*_epochs.tsv", zero_time=0.1), "different epochs"),
        (change_table("ieeg/*_channels.tsv", sampling_frequency=500), "500 Hz"),
        (
            change_table("ieeg/*.tsv", name=lambda x: x.str.partition("-")[0]),
            "no bipolar derivations",
        ),
    ],
)
def test_ccepcoreg_in_another_layout(ccep, change, message):
    """Whatever the loader says that it assumes.

    Seen to be read without an error: other times and rates of the contacts, electrodes
    at 89 m, and single contacts, which it called bipolar.
    """
    root, *_ = ccep
    change(root)
    with pytest.raises(RuntimeError, match=message):
        ccepcoreg.load(5, 3, root)


def test_ccepcoreg_with_short_names(ccep):
    """``K13-14`` for ``K13-K14``: both derivations with a stimulated contact are told.

    Seen to fail with names split at the hyphen, of which the second has no shaft.
    """
    root, *_ = ccep
    long = ["A'1-A'2", "A'2-A'3", "B1-B2", "B2-B3"]
    names = dict(zip(long, ["A'0-1", "A'2-3", "B1-2", "B2-3"], strict=True))
    change_table("ieeg/*_channels.tsv", name=lambda x: x.replace(names))(root)
    change_table("ieeg/*_electrodes.tsv", name=lambda x: x.replace(names))(root)
    _, ieeg, contacts = ccepcoreg.load(5, 3, root)
    assert ieeg.ch_names == ["A'0-1", "A'2-3", "B1-2"]
    assert contacts["stimulated"].tolist() == [True, True, False]
