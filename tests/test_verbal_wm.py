"""The loader of ds004752, on its real side-cars and made-up signals.

Every test of a trap says which planted bug it was seen to catch.
"""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mne
import numpy as np
import pandas as pd
import pytest
from verbal_wm_layout import side_cars, stem, table, write_session

from mne_neuroflow import _download, make_contacts
from mne_neuroflow.datasets import verbal_wm
from mne_neuroflow.ieeg import check_ieeg
from mne_neuroflow.scalp.check import check_scalp

SESSIONS = [
    (subject, session)
    for subject, numbers in verbal_wm.sessions().items()
    for session in numbers
]


def waves(n_channels, n_times, sfreq=None):
    """20 Hz, of another amplitude in every channel, that begins anew every 8 s."""
    # The longer of the two recordings of a trial has the higher rate.
    t = np.arange(n_times) % (8 * sfreq) / sfreq
    return 10.0 * (1 + np.arange(n_channels))[:, None] * np.sin(2 * np.pi * 20 * t)


def _at_rates(subject):
    """Waves at the rates of a subject, as the number of samples implies."""

    def signals(n_channels, n_times):
        rates = {
            int(table(f"{stem(subject, 1, kind)}channels.tsv").sampling_frequency[0])
            for kind in ("eeg", "ieeg")
        }
        (sfreq,) = [rate for rate in rates if n_times == 8 * rate]
        return waves(n_channels, n_times, sfreq)

    return signals


# The dataset itself


def test_registry_lists_the_dataset():
    """Side-cars by hash, signals by the size that their side-cars imply.

    Seen to fail with one digit of a hash or of a size changed.
    """
    lines = verbal_wm._REGISTRY.read_text().splitlines()
    listed = {
        name: (sha256, int(n_bytes))
        for name, sha256, n_bytes in (x.split() for x in lines if x[0] != "#")
    }
    for name, content in side_cars().items():
        assert listed.pop(name) == (hashlib.sha256(content).hexdigest(), len(content))
    for subject, session in SESSIONS:
        for kind in ("eeg", "ieeg"):
            start = stem(subject, session, kind)
            n_channels = len(table(f"{start}channels.tsv"))
            last = table(f"{start}events.tsv")["endSample"].max()
            n_bytes = 256 * (1 + n_channels) + 2 * n_channels * last
            assert listed.pop(f"{start}{kind}.edf")[1] == n_bytes
    assert not listed


def test_sessions():
    n_trials = [len(table(f"{stem(*who, 'eeg')}events.tsv")) for who in SESSIONS]
    assert (len(verbal_wm.sessions()), len(SESSIONS), sum(n_trials)) == (15, 68, 3353)


# Loading


@pytest.mark.parametrize("subject", verbal_wm.sessions())
def test_every_subject(subject, tmp_path):
    """Names, types, places, times, volts of one trial of every subject.

    Seen to fail when samples come one later, when the sampling rate is taken for twice
    what it is, when a missing unit is read as volts, when contacts are in another
    order, without fiducials and with millimetres for metres.
    """
    write_session(tmp_path, subject, 1, n_trials=1, signals=_at_rates(subject))
    scalp, ieeg, contacts = verbal_wm.load(subject, 1, tmp_path)
    assert scalp.info["sfreq"] == ieeg.info["sfreq"] == 200
    assert np.array_equal(scalp.times, ieeg.times)
    assert (scalp.tmin, len(scalp.times)) == (-6, 1600)
    pd.testing.assert_frame_equal(scalp.metadata, ieeg.metadata)
    assert np.array_equal(scalp.events, ieeg.events)
    for epochs, kind in ((scalp, "eeg"), (ieeg, "ieeg")):
        channels = table(f"{stem(subject, 1, kind)}channels.tsv")
        kept = channels["name"].isin(epochs.ch_names).to_numpy()
        assert epochs.ch_names == channels["name"][kept].tolist()
        types = channels["type"].str.lower()[kept].tolist()
        assert epochs.get_channel_types() == types
        truth = 1e-6 * waves(len(channels), 1600, 200)[kept]
        error = np.abs(epochs.get_data()[0] - truth)[:, 40:-40]
        assert (error.max(1) < 0.01 * truth.max(1)).all()

    places = table(f"{stem(subject, 1, 'ieeg')}electrodes.tsv").set_index("name")
    places = 1e-3 * places.dropna(subset="x")[["x", "y", "z"]]
    assert list(contacts.index) == ieeg.ch_names == list(places.index)
    assert ieeg.get_montage().get_positions()["coord_frame"] == "head"
    found = make_contacts(ieeg.info).get_positions()["ch_pos"]
    np.testing.assert_allclose(np.array(list(found.values())), places, atol=1e-7)
    np.testing.assert_array_equal(contacts[["x", "y", "z"]], places)
    # Every scalp channel has a place on the head, none of them twice.
    checked = check_scalp(scalp, on_mismatch="raise")
    assert checked.ch_names == scalp.ch_names
    check_ieeg(ieeg).check_against(checked)
    assert len(np.unique(checked.electrodes.round(4), axis=0)) == len(scalp.ch_names)


def test_metadata(tmp_path):
    write_session(tmp_path, 1, 2, n_trials=3)
    scalp, ieeg, _ = verbal_wm.load(1, 2, tmp_path)
    events = table(f"{stem(1, 2, 'eeg')}events.tsv")[:3]
    metadata = scalp.metadata
    assert (metadata[["subject", "session"]] == [1, 2]).all(axis=None)
    assert metadata["trial"].tolist() == [1, 2, 3]
    for name, column in dict(
        set_size="SetSize",
        probe_letter="ProbeLetter",
        match="Match",
        correct="Correct",
        response_time="ResponseTime",
        artifact="Artifact",
    ).items():
        assert metadata[name].tolist() == events[column].tolist()
    before = [np.nan, *events["Correct"][:2]]
    np.testing.assert_array_equal(metadata["previous_correct"], before)
    # The probe of trial k is 6 s after its beginning.
    assert ieeg.events[:, 0].tolist() == [1200, 2800, 4400]
    size = metadata["set_size"][0]
    assert len(ieeg[f"not artifact and set_size == {size}"]) == sum(
        (events["SetSize"] == size) & (events["Artifact"] == 0)
    )
    fname = tmp_path / "ieeg-epo.fif"
    ieeg.save(fname, verbose=False)
    again = mne.read_epochs(fname, verbose=False)
    assert again.metadata["probe_letter"].tolist() == events["ProbeLetter"].tolist()
    assert again.info["description"] == "OpenNeuro ds004752 v1.0.1 (CC0), session 2"
    assert again.info["subject_info"]["his_id"] == "sub-01"


# Trap 1: trials of 8 s one after the other


def _beside_strong_trials(level):
    def signals(n_channels, n_times):
        rng = np.random.default_rng(3)
        data = rng.uniform(-50, 50, (n_channels, n_times))
        data[:, : n_times // 3] += level
        data[:, 2 * n_times // 3 :] -= level
        # The same quantization, whatever the level.
        data[:, 0], data[:, -1] = 3000, -3000
        return data

    return signals


def test_trials_do_not_reach_into_each_other(tmp_path):
    """A trial is the same whatever is before and after it in the file.

    Seen to fail by 1 mV when the recording is resampled before it is cut.
    """
    read = []
    for level in (0, 2000):
        write_session(tmp_path, 1, 1, 3, _beside_strong_trials(level))
        _, ieeg, _ = verbal_wm.load(1, 1, tmp_path)
        read.append(ieeg.get_data()[1])
    np.testing.assert_allclose(read[0], read[1], rtol=0, atol=1e-12)


# Trap 2: onsets are counted from 1


def _sample_numbers(n_channels, n_times):
    return np.tile(np.arange(n_times) % 1600, (n_channels, 1))


def test_trials_begin_with_their_first_sample(tmp_path):
    """Seen to fail when trials are cut from begSample or by onset, and when they come
    one sample later.
    """
    onset = table(f"{stem(1, 1, 'eeg')}events.tsv")["onset"]
    assert onset[0] == 1 / 200  # what makes it a trap
    write_session(tmp_path, 1, 1, 3, _sample_numbers)
    scalp, _, _ = verbal_wm.load(1, 1, tmp_path)
    samples = np.round(1e6 * scalp.get_data())
    assert (samples == np.arange(1600)).all()


# Traps 3 and 5: what the dataset does not say


def test_nothing_needs_a_coordsystem_or_scans_tsv():
    """Both sides of every session are fetched, although scans.tsv omits one.

    Seen to fail when the files are those that scans.tsv lists.
    """
    assert not [name for name in side_cars() if "coordsystem" in name]
    for subject, session in SESSIONS:
        who = f"sub-{subject:02d}/ses-{session:02d}"
        scans = side_cars()[f"{who}/{who.replace('/', '_')}_scans.tsv"].decode()
        assert "ieeg" not in scans
        names = {file.name for file in verbal_wm._files(subject, session)}
        for kind in ("eeg", "ieeg"):
            assert f"{stem(subject, session, kind)}{kind}.edf" in names


# Traps 4 and 10: the band


def test_band(tmp_path):
    """Seen to fail with the cut-offs as channels.tsv names them, and with a low-pass
    of 1000 Hz at 200 Hz.
    """
    cutoffs = table(f"{stem(10, 1, 'eeg')}channels.tsv")[["low_cutoff", "high_cutoff"]]
    assert cutoffs.to_numpy()[0].tolist() == [1000, 0.5]
    write_session(tmp_path, 10, 1, 1)
    for sfreq, lowpass in ((200, 100), (500, 250), (2000, 1000)):
        scalp, ieeg, _ = verbal_wm.load(10, 1, tmp_path, sfreq)
        for epochs in (scalp, ieeg):
            assert epochs.info["sfreq"] == sfreq
            assert len(epochs.times) == 8 * sfreq
            assert epochs.info["highpass"] == 0.5
            assert epochs.info["lowpass"] == lowpass
            assert epochs.info["line_freq"] == 50


@pytest.mark.parametrize(("subject", "sfreq"), [(1, 256), (10, 2048), (1, 0), (1, -1)])
def test_no_more_than_the_scalp_holds(subject, sfreq, tmp_path):
    """Seen to fail when only the rate of the contacts is looked at."""
    write_session(tmp_path, subject, 1, 1)
    with pytest.raises(ValueError, match=f"'sfreq' parameter.*Hz.*got {sfreq}"):
        verbal_wm.load(subject, 1, tmp_path, sfreq)


# Trap 6: labels of the wrong side


def test_hemisphere_is_that_of_x(tmp_path, caplog):
    """Seen to fail when the side of the label is taken."""
    write_session(tmp_path, 1, 1, 1)
    _, _, contacts = verbal_wm.load(1, 1, tmp_path, verbose=True)
    assert ((contacts["hemisphere"] == "L") == (contacts["x"] < 0)).all()
    labels = table(f"{stem(1, 1, 'ieeg')}electrodes.tsv")["AnatomicalLocation"]
    side = labels.str.extract("(Left|Right)")[0]
    wrong = side.notna() & (side.str[0].to_numpy() != contacts["hemisphere"].to_numpy())
    assert (wrong.sum(), side.notna().sum()) == (12, 30)
    assert "12 of 30 atlas labels name the other hemisphere" in caplog.text
    known = contacts["label"].notna()
    assert known.sum() == 30
    assert not contacts["label"][known].str.contains("Left|Right").any()
    first = contacts.loc["mAHL1"]
    assert (first.group, first.region) == ("AHL", "Hipp")
    assert first.label == "Hippocampus rHipp, rostral hippocampus"


def test_every_label_is_understood():
    """Seen to fail with a pattern that knows no digits in region names."""
    for subject in verbal_wm.sessions():
        texts = table(f"{stem(subject, 1, 'ieeg')}electrodes.tsv")
        texts = texts["AnatomicalLocation"].dropna()
        texts = texts[texts != "no_label_found"]
        assert texts.str.fullmatch(verbal_wm._LABEL).all()


# Trap 7: contacts without coordinates


def test_contacts_without_coordinates_are_left_out(tmp_path, caplog):
    """Seen to fail when they are kept at the origin."""
    write_session(tmp_path, 12, 1, 1)
    _, ieeg, contacts = verbal_wm.load(12, 1, tmp_path, verbose=True)
    assert len(ieeg.ch_names) == len(contacts) == 43
    assert not {"mLL6", "mLL7", "mLL8"} & set(ieeg.ch_names)
    assert "without coordinates: mLL6, mLL7, mLL8." in caplog.text
    assert contacts[["x", "y", "z"]].notna().all(axis=None)


# Trap 8: trials with set size 0


def test_trials_of_unknown_set_size(tmp_path, caplog):
    """Seen to fail with the zeros of events.tsv left in."""
    events = [table(f"{stem(*who, 'eeg')}events.tsv") for who in SESSIONS]
    unknown = pd.concat(events).query("SetSize == 0")
    assert len(unknown) == 17 and (unknown["Artifact"] == 1).all()
    write_session(tmp_path, 14, 3, 3)
    scalp, _, _ = verbal_wm.load(14, 3, tmp_path, verbose=True)
    blank = ["set_size", "probe_letter", "match", "correct", "response_time"]
    assert scalp.metadata.loc[2, blank].isna().all()
    assert scalp.metadata.loc[:1, ["set_size", "correct"]].notna().all(axis=None)
    assert scalp.metadata["artifact"].tolist()[2]
    assert "what was shown in 1 of 3 trials: 3." in caplog.text


# Trap 9: styles of contact names


def _without_m(name):
    return re.sub("^m(?=[A-Z])", "", name)


@pytest.mark.parametrize("subject", [1, 10, 15])
def test_names_in_any_style(subject, tmp_path):
    """Channels are found by name also where the EDF file has another style.

    Seen to fail when names must be the same, and when channels are taken in the
    order of the file.
    """
    read = []
    for names in (str, lambda name: f"_{_without_m(name).lstrip('_')}"):
        write_session(tmp_path, subject, 1, 1, names=names)
        _, ieeg, contacts = verbal_wm.load(subject, 1, tmp_path)
        read.append(ieeg.get_data())
        listed = table(f"{stem(subject, 1, 'ieeg')}channels.tsv")["name"].tolist()
        assert ieeg.ch_names == listed
        assert {"AHL", "PHL"} <= set(contacts["group"])
        assert not contacts["group"].str.contains("[0-9_]$").any()
    np.testing.assert_array_equal(*read)
    if subject == 10:
        assert contacts.loc["_GL_A1", "group"] == "GL_A"


# Units


def test_units(tmp_path):
    """Blank, as FieldTrip writes them, or microvolts: the same volts.

    Seen to fail when a missing unit is left to MNE-Python.
    """
    read = []
    for unit in ("", "uV"):
        write_session(tmp_path, 1, 1, 1, unit=unit)
        scalp, ieeg, _ = verbal_wm.load(1, 1, tmp_path)
        read.append([scalp.get_data(), ieeg.get_data()])
        assert 15e-6 < scalp.get_data().std() < 25e-6
    for blank, named in zip(*read, strict=True):
        np.testing.assert_allclose(blank, named, rtol=1e-12)


# What cannot be loaded


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="'subject' parameter.*got 16"):
        verbal_wm.load(16, 1, tmp_path)
    with pytest.raises(ValueError, match="'session' parameter.*got 5"):
        verbal_wm.load(1, 5, tmp_path)


def _list_trials(folder, kind, n_trials):
    """List more trials in events.tsv than the EDF file holds."""
    name = f"{stem(1, 1, kind)}events.tsv"
    lines = side_cars()[name].splitlines(keepends=True)
    (folder / name).write_bytes(b"".join(lines[: n_trials + 1]))


def test_files_that_do_not_fit(tmp_path):
    """Seen to fail without the checks of trials, of length and of names."""
    write_session(tmp_path, 1, 1, 2)
    _list_trials(tmp_path, "ieeg", 3)
    with pytest.raises(RuntimeError, match="hold different trials"):
        verbal_wm.load(1, 1, tmp_path)
    _list_trials(tmp_path, "eeg", 3)
    with pytest.raises(
        RuntimeError, match=r"ieeg\.edf does not hold the trials of 8 s"
    ):
        verbal_wm.load(1, 1, tmp_path)
    write_session(tmp_path, 1, 1, 1, names=lambda name: name.replace("mAL", "XY"))
    with pytest.raises(RuntimeError, match="lacks channels.*mAL1, mAL2"):
        verbal_wm.load(1, 1, tmp_path)


# Fetching

_FIRST = "sub-02/ses-01/eeg/sub-02_ses-01_eeg.edf"
_BODIES = {
    "README": b"about the dataset",
    "sub-02/sub-02_sessions.tsv": b"session_id\n",
    _FIRST: bytes(range(256)) * 1024,
    "sub-02/ses-02/eeg/sub-02_ses-02_eeg.edf": b"second session",
    "sub-03/ses-01/eeg/sub-03_ses-01_eeg.edf": b"another subject",
}


class _Handler(BaseHTTPRequestHandler):
    """A bucket, with the fault that the server is set to have."""

    def do_GET(self):  # the name that http.server looks for
        server, name = self.server, self.path.lstrip("/")
        start = 0
        if "Range" in self.headers and server.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        server.requests.append((name, start))
        body = _BODIES[name][start:]
        if not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with a small dataset, and what it was asked for."""
    lines = [
        f"{name} {hashlib.sha256(body).hexdigest()} {len(body)}\n"
        for name, body in _BODIES.items()
    ]
    registry = tmp_path / "registry.txt"
    registry.write_text("# a comment\n" + "".join(lines))
    monkeypatch.setattr(verbal_wm, "_REGISTRY", registry)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.requests, server.breaks_after, server.knows_ranges = [], None, True
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _kept(folder):
    files = [fname for fname in folder.rglob("*") if fname.is_file()]
    return {fname.relative_to(folder).as_posix(): fname.read_bytes() for fname in files}


def test_fetch_what_is_asked_for(server, tmp_path):
    """One session, then the whole subject, each file once.

    Seen to fail when files that are there are downloaded again, and when all
    sessions are taken for one.
    """
    folder = tmp_path / "ds004752"
    assert verbal_wm.fetch(2, 1, folder, server.url + "/") == folder
    names = list(_BODIES)
    assert _kept(folder) == {name: _BODIES[name] for name in names[:3]}
    verbal_wm.fetch(2, None, folder, server.url)
    assert _kept(folder) == {name: _BODIES[name] for name in names[:4]}
    assert server.requests == [(name, 0) for name in names[:4]]


def test_fetch_tells_the_size_first(server, tmp_path, caplog):
    verbal_wm.fetch(2, 1, tmp_path / "ds004752", server.url, verbose=True)
    first, *_ = [r.message for r in caplog.records if "Downloading" in r.message]
    assert re.match(r"Downloading 3 files, 0 MB in all, of OpenNeuro ds004752", first)


def _break_off(server, folder):
    server.breaks_after = 100_000
    with pytest.raises(ConnectionError, match="What has arrived is kept; try again"):
        verbal_wm.fetch(2, 1, folder, server.url)
    server.breaks_after = None
    server.requests.clear()
    (left,) = folder.rglob("*.part")
    return left


def test_fetch_goes_on_where_it_broke_off(server, tmp_path):
    """Seen to fail when nothing is kept, and when the rest is taken for the whole."""
    folder = tmp_path / "ds004752"
    left = _break_off(server, folder)
    n_bytes = left.stat().st_size
    assert 0 < n_bytes <= 100_000
    verbal_wm.fetch(2, 1, folder, server.url)
    assert server.requests == [(_FIRST, n_bytes)]
    assert _kept(folder) == {name: _BODIES[name] for name in list(_BODIES)[:3]}


@pytest.mark.parametrize("fault", ["no ranges", "other content", "too long"])
def test_fetch_starts_afresh(server, tmp_path, fault):
    """Where what is left does not continue.

    Seen to fail when a failed continuation is final, and when more is asked for
    although too much is there.
    """
    folder = tmp_path / "ds004752"
    left = _break_off(server, folder)
    if fault == "no ranges":
        server.knows_ranges = False
    else:
        left.write_bytes(bytes(300_000 if fault == "too long" else 1000))
    verbal_wm.fetch(2, 1, folder, server.url)
    assert server.requests[-1] == (_FIRST, 0)
    assert _kept(folder) == {name: _BODIES[name] for name in list(_BODIES)[:3]}


def test_fetch_refuses_other_content(server, tmp_path, monkeypatch):
    """Seen to fail when the hash is not compared."""
    folder = tmp_path / "ds004752"
    monkeypatch.setitem(_BODIES, _FIRST, bytes(len(_BODIES[_FIRST])))
    with pytest.raises(RuntimeError, match=f"{_FIRST}.*sha256 is .* instead of"):
        verbal_wm.fetch(2, 1, folder, server.url)
    assert sorted(_kept(folder)) == sorted(list(_BODIES)[:2])


def test_fetch_from_a_bad_address(server, tmp_path):
    with pytest.raises(ValueError, match="'base_url' parameter.*got 's3://bucket'"):
        verbal_wm.fetch(2, 1, tmp_path, "s3://bucket")


def test_load_fetches_what_is_missing(server, tmp_path, monkeypatch):
    monkeypatch.setattr(verbal_wm, "BASE_URL", server.url)
    monkeypatch.setattr(_download, "TIMEOUT", 5)
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="channels.tsv"):
        verbal_wm.load(2, 1)  # the small dataset has no side-cars
    assert sorted(_kept(tmp_path / "ds004752")) == sorted(list(_BODIES)[:3])
