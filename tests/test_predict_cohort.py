"""Cohorts: which recordings are found, what is measured, and that nothing is lost."""

import inspect
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import NAMES, _global_state, build_raw
from scipy.signal import resample, welch

from mne_neuroflow import predict_cohort, predict_ieeg, sample_ieeg
from mne_neuroflow._files import DRAFT
from mne_neuroflow.cohort.control import RawShifted
from mne_neuroflow.cohort.features import (
    Places,
    _specparam_exponent,
    combine,
    cut_windows,
    measure,
    sample_step,
    tabulate,
    typical_line_length,
)
from mne_neuroflow.cohort.find import (
    Found,
    find_recordings,
    fingerprint,
    read_recording,
)
from mne_neuroflow.cohort.folder import Folder
from mne_neuroflow.cohort.participant import (
    begin,
    expected_fingerprint,
    finish,
    keep_memory,
    measure_stretch,
    new_row,
    outputs,
)
from mne_neuroflow.cohort.run import _client as start_client
from mne_neuroflow.cohort.run import (
    _connect,
    check_settings,
    follow_dataset,
    not_done,
)
from mne_neuroflow.head.contacts import make_contacts
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scores.signals import decibels
from mne_neuroflow.weights.model import _keep

pytest.importorskip("pyarrow")
dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
mne_bids = pytest.importorskip("mne_bids")

CONTACTS = [
    [-0.025, -0.02, -0.018],
    [-0.027, -0.01, -0.02],
    [-0.045, -0.02, -0.018],
    [0.025, -0.02, -0.018],
]  # metres: left and right of the medial temporal lobe
COARSE = dict(contacts=CONTACTS, n_draws=19, specparam=False)


@pytest.fixture(autouse=True)
def global_state_untouched():
    """Guard all but `random`: dask's scheduler in this process draws from it."""
    before = _global_state()
    yield
    after = _global_state()
    changed = [key for key in before if before[key] != after[key]]
    assert not set(changed) - {"random"}, f"the test changed global state: {changed}"


def write_bids(root, subject, raw, session=None, task="rest"):
    path = mne_bids.BIDSPath(
        root=root,
        subject=subject,
        session=session,
        task=task,
        datatype="eeg",
        extension=".edf",
    )
    mne_bids.write_raw_bids(
        raw, path, allow_preload=True, format="EDF", verbose="error", overwrite=True
    )
    return path.fpath


def make_dataset(root, n_subjects=2, n_seconds=12.0):
    for k in range(n_subjects):
        raw = build_raw(n_seconds, 128.0, NAMES[:19], montage=False, seed=k)
        write_bids(root, f"{k + 1:02d}", raw)
    return root


@pytest.fixture(scope="module")
def _dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("bids"))


@pytest.fixture
def dataset(_dataset, tmp_path):
    """Two recordings of 12 s in BIDS, to be changed as a test likes."""
    return Path(shutil.copytree(_dataset, tmp_path / "dataset"))


@pytest.fixture(scope="module")
def _client():
    """A cluster in this process."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def predict(_client, model_file):
    """Predict a cohort with a small model in this process."""

    def run(root, out, **options):
        options = COARSE | dict(model=model_file, scheduler=_client) | options
        return predict_cohort(root, out, verbose="error", **options)

    return run


def settings_of(out, model, **options):
    """Make the settings that `predict` hands to workers."""
    parameters = inspect.signature(predict_cohort).parameters
    names = inspect.signature(check_settings).parameters
    common = {name: parameters[name].default for name in names if name != "out"}
    return check_settings(out, **common | COARSE | dict(model=model) | options)


def read(out, subject="01", what="features"):
    return pd.read_parquet(next(Path(out).glob(f"sub-{subject}/**/*_{what}.parquet")))


# Finding ------------------------------------------------------------------------------


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_find_labels_and_parts(tmp_path):
    _touch(
        tmp_path,
        "dataset_description.json",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.vhdr",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.eeg",
        "sub-01/ses-b/eeg/sub-01_ses-b_task-rest_eeg.edf",
        "sub-02/eeg/sub-02_task-rest_split-01_eeg.fif",
        "sub-02/eeg/sub-02_task-rest_split-02_eeg.fif",
        "sub-02/eeg/sub-02_task-rest_channels.tsv",
        "sub-02/meg/sub-02_task-rest_meg.fif",
    )
    names = [one.name for one in find_recordings(tmp_path)]
    assert names == [
        "sub-01_ses-a_task-rest_run-1",
        "sub-01_ses-b_task-rest",
        "sub-02_task-rest",
    ]
    (one,) = find_recordings(tmp_path, subjects=["sub-01"], sessions=["b"])
    assert one.entity("session") == "b" and one.entity("run") == ""
    assert len(find_recordings(tmp_path, sessions="a")) == 1
    assert len(find_recordings(tmp_path, runs=1)) == 1
    with pytest.raises(ValueError, match="None of the 3 EEG .* is sub-01_ses-a_task-"):
        find_recordings(tmp_path, tasks=["other"])


def test_absent_labels_are_named(tmp_path):
    """Seen to fail with a mistyped label that is left out without notice."""
    _touch(tmp_path, *(f"sub-{k}/eeg/sub-{k}_task-x_eeg.edf" for k in (1, 2)))
    with pytest.warns(RuntimeWarning, match="of the subject 02, 3"):
        (one,) = find_recordings(tmp_path, subjects=[1, "02", "3"], validate=False)
    assert one.name == "sub-1_task-x"


def test_find_cleaned_derivatives(tmp_path):
    clean = "derivatives/pipe/sub-01/eeg/sub-01_task-rest_proc-clean_raw.fif"
    _touch(
        tmp_path,
        "derivatives/pipe/dataset_description.json",
        clean,
        "derivatives/pipe/sub-01/eeg/sub-01_task-rest_proc-filt_raw.fif",
    )
    (one,) = find_recordings(tmp_path, derivatives="pipe")
    assert one.file == str(tmp_path / clean) and not one.in_bids


def test_tables_of_derivatives_are_read(tmp_path):
    """Seen to fail with the bad channel used, and the eye channel taken for EEG."""
    folder = tmp_path / "derivatives/pipe/sub-01/eeg"
    folder.mkdir(parents=True)
    raw = build_raw(4.0, 128.0, [*NAMES[:18], "Eye"], montage=False)
    stem = "sub-01_task-rest_desc-clean"
    mne.export.export_raw(folder / f"{stem}_eeg.edf", raw, verbose="error")
    table = pd.DataFrame({"name": raw.ch_names, "type": "EEG", "units": "µV"})
    table["status"] = "good"
    table.loc[3, "status"], table.loc[18, "type"] = "bad", "EOG"
    table.to_csv(folder / f"{stem}_channels.tsv", sep="\t", index=False)
    (one,) = find_recordings(tmp_path, derivatives="pipe", validate=False)
    read = read_recording(one)
    assert read.info["bads"] == [NAMES[3]]
    assert read.get_channel_types()[-1] == "eog"
    before = fingerprint(one)
    table.to_csv(folder / f"{stem}_channels.tsv", sep="\t", index=False, quoting=1)
    assert fingerprint(one) != before


def test_parts_of_one_recording(tmp_path):
    """Later files are not recordings of their own; a change of one is noticed.

    Seen to fail with each part predicted as a recording.
    """
    raw = build_raw(160.0, 500.0, NAMES[:19], montage=False)
    raw.save(tmp_path / "a_raw.fif", split_size="3MB", verbose="error")
    raw.crop(0, 4).save(tmp_path / "b_raw.fif", verbose="error")
    raw.save(tmp_path / "b_raw-1.fif", verbose="error")
    assert (tmp_path / "a_raw-1.fif").is_file()
    found = find_recordings(tmp_path, pattern="*.fif")
    assert [one.name for one in found] == ["sub-araw", "sub-braw", "sub-braw1"]
    before = fingerprint(found[0])
    _touch(tmp_path, "a_raw-1.fif")
    assert fingerprint(found[0]) != before


def test_names_of_any_alphabet(tmp_path):
    """Seen to fail with one name, or an empty one, for different files."""
    _touch(tmp_path, "müller.edf", "möller.edf", "дом.edf", "李.edf")
    found = find_recordings(tmp_path, pattern="*.edf")
    assert len({one.name for one in found}) == 4
    assert not any(one.problem for one in found)
    assert all(one.entity("subject").isascii() for one in found)


def test_find_by_pattern(tmp_path):
    _touch(tmp_path, "ward a/x_1.edf", "ward-b/y.edf", "ward-b/y.txt")
    _touch(tmp_path, "results/sub-x/ieeg/z.edf")
    found = find_recordings(tmp_path, tmp_path / "results", pattern="*.edf")
    names = [one.name for one in found]
    assert names == ["sub-wardax1", "sub-wardby"]
    with pytest.raises(FileNotFoundError, match="dataset_description.json"):
        find_recordings(tmp_path)


def test_one_name_twice_is_named(tmp_path):
    _touch(tmp_path, "dataset_description.json")
    _touch(tmp_path, *(f"sub-1/eeg/sub-1_task-x_eeg.{end}" for end in ("edf", "bdf")))
    (one,) = find_recordings(tmp_path)
    assert "sub-1_task-x_eeg.bdf, sub-1_task-x_eeg.edf" in one.problem


def test_recordings_that_differ_in_desc_only_are_named(tmp_path):
    """Seen to fail with the results of one written over those of the other."""
    folder = "derivatives/prep/sub-1/eeg"
    names = [f"sub-1_task-x_desc-{desc}_eeg.fif" for desc in ("filt", "ica")]
    _touch(tmp_path, *(f"{folder}/{name}" for name in names))
    (one,) = find_recordings(tmp_path, derivatives="prep", validate=False)
    assert ", ".join(names) in one.problem
    _touch(tmp_path, f"{folder}/sub-1_task-x_desc-clean_eeg.fif")
    (one,) = find_recordings(tmp_path, derivatives="prep", validate=False)
    assert one.file.endswith("desc-clean_eeg.fif") and not one.problem


def test_fingerprint_follows_what_belongs_to_a_recording(tmp_path):
    """Seen to fail without the events, which may be bad time, and without tables in
    folders above the recording, which it inherits.
    """
    name = "sub-1/eeg/sub-1_task-x"
    _touch(tmp_path, f"{name}_eeg.edf", f"{name}_channels.tsv", f"{name}y_eeg.edf")
    found = Found("sub-1_task-x", str(tmp_path / f"{name}_eeg.edf"), True)
    before = fingerprint(found)
    for other in ("other_eeg.edf", "xy_events.tsv", "x_run-2_channels.tsv"):
        _touch(tmp_path, f"sub-1/eeg/sub-1_task-{other}")
    _touch(tmp_path, "task-y_channels.tsv", "participants.tsv")
    assert fingerprint(found) == before
    for table in (
        f"{name}_channels.tsv",
        f"{name}_events.tsv",
        f"{name.removesuffix('_task-x')}_events.tsv",
        f"{name.removesuffix('_task-x')}_space-CapTrak_electrodes.tsv",
        "sub-1/sub-1_task-x_events.tsv",
        "task-x_channels.tsv",
    ):
        (tmp_path / table).write_text(70_000 * " " + "good")
        one = fingerprint(found)
        (tmp_path / table).write_text(70_000 * " " + "bad ")
        assert before != one != fingerprint(found)
        before = fingerprint(found)


# The control --------------------------------------------------------------------------


@pytest.mark.parametrize("n_seconds", [12.0, 60.0])
def test_shifted_channels_are_the_same_at_other_times(n_seconds):
    """Seen to fail with one shift for all channels, and with reading that stops at
    the end instead of going on at the beginning.
    """
    raw = build_raw(n_seconds, 128.0, NAMES[:6])
    shifted = RawShifted(check_scalp(raw, verbose="error"), seed=3)
    data, whole = raw.get_data(), shifted.get_data()
    spectrum, changed = np.abs(np.fft.rfft(data)), np.abs(np.fft.rfft(whole))
    np.testing.assert_allclose(changed, spectrum, atol=1e-12 * spectrum.max())
    shifts = []
    for row, moved in zip(data, whole, strict=True):
        product = np.fft.irfft(np.fft.rfft(row) * np.fft.rfft(moved).conj())
        shifts.append(int(product.argmax()))
        np.testing.assert_array_equal(moved, np.roll(row, -shifts[-1]))
    assert len(set(shifts)) == 6
    np.testing.assert_array_equal(
        shifted.get_data(start=700, stop=1000), whole[:, 700:1000]
    )


def test_only_good_time_is_shifted():
    """Bad time stays where it is, and other time holds each channel's good samples.

    Seen to fail with the lines of bad time shifted like signals.
    """
    raw = build_raw(13.0, 128.0, NAMES[:12])
    raw._data[:, -100:] = 0.0  # as at the end of EDF files
    raw.set_annotations(mne.Annotations([3.0], [2.0], ["BAD movement"]))
    scalp = check_scalp(raw, verbose="error")
    shifted = RawShifted(scalp, seed=3)
    again = check_scalp(shifted, verbose="error")
    bad = scalp.bad_samples(0, scalp.n_times)
    assert 2 * 128 + 100 <= bad.sum() < 2 * 128 + 110
    np.testing.assert_array_equal(again.bad_samples(0, scalp.n_times), bad)
    data, moved = raw.get_data()[:, ~bad], shifted.get_data()
    np.testing.assert_array_equal(np.sort(moved[:, ~bad]), np.sort(data))
    np.testing.assert_array_equal(
        shifted.get_data(start=300, stop=900), moved[:, 300:900]
    )
    together = [
        (row == other).all() for row, other in zip(moved[:, ~bad], data, strict=True)
    ]
    assert sum(together) == 1  # the channel that is shifted by nothing


def test_files_with_calibrations_are_shifted_in_volts(tmp_path):
    """Of BrainVision, EEGLAB and others, MNE multiplies what it reads by calibrations.

    Seen to fail with the calibrations of the file applied a second time.
    """
    fname = tmp_path / "scalp_raw.fif"
    raw = build_raw(12.0, 128.0, NAMES[:6])
    for ch in raw.info["chs"]:
        ch["cal"] = 2.0**-20
    raw.save(fname, verbose=False)
    raw = mne.io.read_raw_fif(fname, verbose=False)
    shifted = RawShifted(check_scalp(raw, verbose="error"), seed=3)
    data, moved = raw.get_data(), shifted.get_data()
    np.testing.assert_array_equal(np.sort(moved), np.sort(data))
    assert {ch["cal"] for ch in raw.info["chs"]} == {2.0**-20}


# Features -----------------------------------------------------------------------------


def test_windows_cover_everything_once():
    for n_times in (500, 1000, 1499, 1500, 2999, 30_001):
        windows = cut_windows(n_times, 100.0, 10.0)
        samples = np.concatenate([np.arange(*window) for window in windows])
        np.testing.assert_array_equal(samples, np.arange(n_times))
        assert n_times < 1000 or min(b - a for a, b in windows) >= 500


def test_features_of_known_signals():
    """Seen to fail with sides exchanged, and with a rate of spikes a second."""
    sfreq, seconds = 128.0, 60
    times = np.arange(int(seconds * sfreq)) / sfreq
    rng = np.random.default_rng(0)
    draws = 1e-6 * rng.normal(size=(3, 4, len(times)))
    draws[:, 0] += 20e-6 * np.sin(2 * np.pi * 10 * times)  # alpha, left
    draws[:, 1, 300 + (np.arange(20) * 300)] += 60e-6  # 20 sharp waves
    draws[:, 3, : int(6 * sfreq)] *= 4  # a tenth of the time
    places = Places(make_contacts(CONTACTS, verbose=False))
    window = measure(draws, sfreq, places)
    typical = typical_line_length([window])
    values = combine([window], typical)
    table = tabulate(values, places).set_index(["feature", "band", "contact"])
    first, second, _, fourth = places.names
    median = table["median"].to_dict()
    # 20² / 2 in µV²
    assert abs(median["power", "alpha", first] - 10 * np.log10(200)) < 0.5
    assert median["spike_rate", "", second] == 20
    assert abs(median["rhythmic_discharge", "", fourth] - 0.1) < 0.01
    sides = table.xs("lateralization").xs("alpha")
    sides = sides[sides["structure"] == places.structure[0]]
    assert len(sides) == 1 and (sides["median"] > 0.95).all()
    share = table.xs("relative_power").xs(first, level="contact")["median"]
    assert abs(share.sum() - 1) < 0.02


def test_sides_are_widened():
    """Structures are not. Seen to fail with sides as they were drawn."""
    places = Places(make_contacts(CONTACTS, verbose=False))
    rng = np.random.default_rng(0)
    window = measure(1e-5 * rng.normal(size=(20, 4, 1280)), 128.0, places)
    values = combine([window], typical_line_length([window]))
    table = tabulate(values, places, contacts=False)
    table = table[table["band"] == "broad"].set_index(["feature", "structure", "side"])
    sides = [
        values.power[:, places.groups["hippocampus", side], 0].mean(1)
        for side in ("left", "right")
    ]
    for power, side in zip(sides, ("left", "right"), strict=True):
        drawn = table.loc[("power", "hippocampus", side), "draws"]
        np.testing.assert_allclose(np.std(drawn), np.std(decibels(power)), rtol=0.05)
    index = (sides[0] - sides[1]) / (sides[0] + sides[1])
    (drawn,) = table.xs("lateralization").xs("hippocampus")["draws"]
    np.testing.assert_allclose(np.std(drawn), 1.5 * np.std(index), rtol=0.05)


@pytest.mark.parametrize("sfreq", (256.0, 512.0, 1024.0))
def test_features_of_fast_recordings(sfreq):
    """They are those of the signal, whatever the sampling rate.

    Seen to fail where all samples are measured.
    """
    rng = np.random.default_rng(0)
    places = Places(make_contacts(CONTACTS, verbose=False))
    draws = 1e-6 * rng.normal(size=(2, 4, 128 * 20)).cumsum(-1)
    draws -= draws.mean(-1, keepdims=True)
    slow = measure(draws, 128.0, places)
    fast = resample(draws, round(20 * sfreq), axis=-1)  # exact at the old samples
    fast = measure(fast, sfreq, places)
    for name, values in slow._asdict().items():
        np.testing.assert_allclose(getattr(fast, name), values, rtol=1e-6)


def test_connectivity_of_some_draws_at_a_time(monkeypatch):
    """Memory of long windows is bounded. Seen to fail with one draw lost."""
    places = Places(make_contacts(CONTACTS, verbose=False))
    draws = 1e-6 * np.random.default_rng(0).normal(size=(5, 4, 128 * 10))
    together = measure(draws, 128.0, places).connectivity
    for n_draws in (1, 2, 5):
        size = n_draws * len(places.middle) * draws.shape[-1]
        monkeypatch.setattr("mne_neuroflow.cohort.features._TOGETHER", size)
        found = measure(draws, 128.0, places).connectivity
        np.testing.assert_array_equal(found, together)


def test_samples_that_are_enough():
    """Whole hertz, 128 or more. Seen to fail without the one and without the other."""
    steps = {100.0: 1, 128.0: 1, 250.0: 1, 500.0: 2, 1000.0: 5, 5000.0: 25, 499.5: 1}
    assert {sfreq: sample_step(sfreq) for sfreq in steps} == steps


def test_typical_line_length_in_parts(monkeypatch):
    """Seen to fail with medians of windows instead of one of everything."""
    rng = np.random.default_rng(0)
    places = Places(make_contacts(CONTACTS, verbose=False))
    draws = 1e-6 * rng.normal(size=(2, 4, 128 * 12)).cumsum(-1)
    parts = [measure(draws[..., a : a + 768], 128.0, places) for a in (0, 768)]
    whole = typical_line_length(parts)
    monkeypatch.setattr("mne_neuroflow.cohort.features._AT_ONCE", 1)
    np.testing.assert_array_equal(typical_line_length(parts), whole)
    both = np.concatenate([part.line_length for part in parts], axis=-1)
    np.testing.assert_array_equal(whole, np.median(both, axis=-1))


def test_specparam_is_not_moved_by_a_rhythm():
    """Exponents of spectra with a peak, in the places of their draws and contacts.

    Seen to fail with exponents that are transposed, and with a fit without peaks.
    """
    pytest.importorskip("specparam")
    freqs = np.arange(1.0, 65)
    exponents = np.array([[1.0, 1.5, 2.0], [0.8, 1.2, 1.8]])
    peak = 6 * np.exp(-0.5 * np.square((freqs - 10) / 1.5))
    density = 1e-10 * freqs ** -exponents[..., None] * (1 + peak)
    found = _specparam_exponent(freqs, density)
    np.testing.assert_allclose(found, exponents, atol=0.05)


# One cohort ---------------------------------------------------------------------------


@pytest.mark.slow
def test_features_are_those_of_the_draws(dataset, predict, tmp_path, model_file):
    """Every number follows from the draws that `sample_ieeg` makes.

    Seen to fail with the seed of another recording.
    """
    status = predict(dataset, tmp_path / "out")
    assert list(status["state"]) == ["done", "done"]
    table = read(tmp_path / "out").query("scalp == 'recorded' and level == 'contact'")
    settings = settings_of(tmp_path, model_file)
    found = find_recordings(dataset)[0]
    raw = mne_bids.read_raw_bids(
        mne_bids.get_bids_path_from_fname(found.file), verbose="error"
    )
    draws = sample_ieeg(
        raw,
        19,
        contacts=CONTACTS,
        model=model_file,
        random_state=settings.seed_of(found),
        verbose="error",
    )
    _, density = welch(draws.values, 128.0, nperseg=128)
    alpha = decibels(1e12 * density[..., 8:13].astype(float).sum(-1))
    rows = table.query("feature == 'power' and band == 'alpha'")
    np.testing.assert_allclose(np.stack(rows["draws"]), alpha.T, atol=1e-5)
    np.testing.assert_allclose(rows["median"], np.median(alpha, axis=0), atol=1e-9)
    known = table.query("feature == 'observability'")["median"]
    np.testing.assert_array_equal(known, draws["observability"].values)


@pytest.mark.slow
def test_any_cut_gives_the_same_bits(tmp_path, predict):
    """Seen to fail with sums over windows of a stretch added to each other."""
    raw = build_raw(34.0, 128.0, NAMES[:19], montage=False)
    write_bids(tmp_path / "bids", "01", raw)
    tables = []
    for k, stretch in enumerate((3600.0, 10.0, 20.0)):
        out = tmp_path / f"out{k}"
        predict(tmp_path / "bids", out, window=10.0, stretch=stretch)
        tables.append([read(out, what=what) for what in ("features", "courses")])
        assert not any((out / "work").glob("*"))
    for features, courses in tables[1:]:
        pd.testing.assert_frame_equal(features, tables[0][0], check_exact=True)
        pd.testing.assert_frame_equal(courses, tables[0][1], check_exact=True)
    assert sorted(courses["start"].unique()) == [0, 10, 20]
    assert courses["stop"].max() == 34


@pytest.mark.slow
def test_recordings_that_fail_do_not_stop_others(dataset, predict, tmp_path):
    """Each is described in one line; no row of another recording changes."""
    alone = tmp_path / "alone"
    predict(dataset, alone, subjects=["01"])
    good = build_raw(12.0, 128.0, NAMES[:19], montage=False)
    file = write_bids(dataset, "header", good)
    file.write_bytes(file.read_bytes()[:3000])
    file = write_bids(dataset, "truncated", good)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 5])
    shutil.copy(file, dataset / "sub-02" / "eeg" / "sub-02_old_eeg.edf")
    write_bids(dataset, "empty", good).write_bytes(b"")
    names = [f"X{k}" for k in range(6)]
    write_bids(dataset, "placeless", build_raw(12.0, 128.0, names, montage=False))
    ecg = mne.io.RawArray(
        1e-4 * np.ones((2, 1536)), mne.create_info(["a", "b"], 128.0, "ecg")
    )
    folder = dataset / "sub-noteeg" / "eeg"
    folder.mkdir(parents=True)
    ecg.save(folder / "sub-noteeg_task-rest_eeg.fif", verbose=False)
    good._data[0, 500:600] = np.nan
    folder = dataset / "sub-nan" / "eeg"
    folder.mkdir(parents=True)
    good.save(folder / "sub-nan_task-rest_eeg.fif", verbose=False)
    shutil.copy(
        folder / "sub-nan_task-rest_eeg.fif",
        dataset / "sub-02" / "eeg" / "sub-02_task-rest_eeg.fif",
    )
    everything = predict(dataset, tmp_path / "out")
    odd = everything.set_index("recording").loc["sub-02_old"]
    assert odd["state"] == "failed" and "old has no key" in odd["reason"]
    status = everything[everything["recording"] != "sub-02_old"]
    status = status.set_index("participant")
    assert status.loc["01", "state"] == "done"
    assert (status["seconds"] >= 0).all()
    reasons = status.drop("01")["reason"]
    assert (status.drop("01")["state"] == "failed").all()
    for who, why in {
        "02": "Several recordings have this name",
        "placeless": "without a position",
        "nan": "NaN",
        "noteeg": "needs good EEG channels",
        "header": "cannot be read",
        "truncated": "is cut off or damaged",
        "empty": "cannot be read",
    }.items():
        assert why in reasons[who] and reasons[who]
        assert "\n" not in reasons[who]
    pd.testing.assert_frame_equal(read(tmp_path / "out"), read(alone))
    on_disk = pd.read_csv(tmp_path / "out" / "status.tsv", sep="\t")
    assert list(on_disk["state"]) == list(everything["state"])


@pytest.mark.slow
def test_only_what_changed_is_done_again(dataset, predict, tmp_path):
    out = tmp_path / "out"
    predict(dataset, out)
    files = [next(out.glob(f"sub-0{k}/**/*_features.parquet")) for k in (1, 2)]
    times = [file.stat().st_mtime_ns for file in files]
    predict(dataset, out)
    assert [file.stat().st_mtime_ns for file in files] == times
    raw = build_raw(12.5, 128.0, NAMES[:19], montage=False, seed=5)
    write_bids(dataset, "02", raw)
    predict(dataset, out)
    changed = [file.stat().st_mtime_ns for file in files]
    assert changed[0] == times[0] and changed[1] > times[1]
    predict(dataset, out, random_state=1)
    assert files[0].stat().st_mtime_ns > times[0]


def test_recordings_outside_the_labels_are_skipped(dataset, predict, tmp_path):
    """They stand in the table, and results that they have already stay.

    Seen to fail without their rows, and with rows that replace finished ones.
    """
    status = predict(dataset, tmp_path / "out", subjects=["02"])
    assert list(status["state"]) == ["skipped", "done"]
    assert list(status["reason"]) == ["Not among the chosen labels.", ""]
    status = predict(dataset, tmp_path / "out", subjects=["01"])
    assert list(status["state"]) == ["done", "done"]


def test_recordings_that_were_deleted_are_skipped(tmp_path):
    """Until they are back. Seen to fail with rows that stay as they were."""
    folder = Folder(tmp_path)
    found = [Found(f"sub-{k}_task-x", str(tmp_path / f"{k}.edf"), True) for k in "ab"]
    rows = [new_row(one, state="done", reason="Few channels.") for one in found]
    (tmp_path / "status").mkdir()
    _touch(tmp_path, "b.edf")
    for row in rows:
        folder.record(row)

    def states():
        return [row["state"] for row in folder.all_recorded().values()]

    for _ in range(2):
        follow_dataset(folder, [], in_bids=False)
        assert states() == ["skipped", "done"]
    follow_dataset(folder, found[:1], in_bids=True)
    assert states() == ["done", "skipped"]
    follow_dataset(folder, found, in_bids=True)
    assert list(folder.all_recorded().values()) == rows


def test_results_of_another_recording_are_not_kept(tmp_path, model_file):
    """A cleaned recording has replaced them. Seen to fail with those of the cleaned."""
    _touch(tmp_path, "bids/sub-1/eeg/sub-1_task-x_eeg.edf")
    (one,) = find_recordings(tmp_path / "bids", validate=False)
    settings = settings_of(tmp_path / "out", model_file)
    digest = expected_fingerprint(one, settings)
    folder = Folder(settings.out)
    for file in outputs(one, settings):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dict(Sources=[one.file])))
    (folder.root / "status").mkdir()
    folder.record(new_row(one, state="done", fingerprint=digest))
    assert not_done([one], settings) == []
    cleaned = one.file.replace("_eeg", "_desc-clean_eeg")
    folder.table(one, ending=".json").write_text(json.dumps(dict(Sources=[cleaned])))
    assert not_done([one], settings) == [one]


def test_equal_windows_have_equal_results(tmp_path, model_file):
    """Seen to fail with other results for 60 in a script than for 60.0 in a command."""
    windows = (60, 60.0, np.float32(60), np.int64(60))
    settings = [settings_of(tmp_path, model_file, window=window) for window in windows]
    assert len({one.digest() for one in settings}) == 1


def test_workers_get_absolute_paths(predict, tmp_path, monkeypatch):
    """Seen to fail with paths that are relative to the folder of the caller."""
    monkeypatch.chdir(tmp_path)
    for file in ("dataset_description.json", "sub-1/eeg/sub-1_task-x_eeg.edf"):
        _touch(tmp_path / "dataset", file)
    status = predict("dataset", "out")
    assert [Path(file) for file in status["file"]] == [tmp_path / "dataset" / file]
    assert list(status["state"]) == ["failed"]  # it is empty


def test_home_folder(model_file, monkeypatch, tmp_path):
    """Seen to fail with a folder called ~, as shells leave it in --work-dir=~/work."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    out, trans = "~/out", "~/sub-{participant}-trans.fif"
    settings = settings_of(out, model_file, work_dir="~/work", trans=trans)
    home = Path("~").expanduser()
    assert [Path(settings.out), Path(settings.work)] == [home / "out", home / "work"]
    assert Path(settings.trans) == home / "sub-{participant}-trans.fif"
    assert Folder(out).root == home / "out"


def test_results_follow_the_transform_of_each_person(dataset, tmp_path, model_file):
    """Seen to fail with the name of the file alone in the fingerprint."""
    settings = settings_of(
        tmp_path / "out", model_file, trans=tmp_path / "sub-{participant}-trans.fif"
    )
    first, second = find_recordings(dataset)
    file = tmp_path / "sub-01-trans.fif"
    assert settings.trans_of(first) == str(file)
    file.write_bytes(b"first")
    before = [expected_fingerprint(one, settings) for one in (first, second)]
    file.write_bytes(b"second")
    after = [expected_fingerprint(one, settings) for one in (first, second)]
    assert before[0] != after[0] and before[1] == after[1]


@pytest.mark.slow
def test_transform_moves_the_electrodes(predict, tmp_path):
    """Seen to fail with every recording predicted at template positions."""
    for name in ("a", "b"):
        raw = build_raw(12.0, 128.0, NAMES[:19])
        (tmp_path / "files").mkdir(exist_ok=True)
        raw.save(tmp_path / "files" / f"{name}.fif", verbose="error")
    higher = load_head().head_to_mri.copy()
    higher[2, 3] += 0.02  # metres
    higher = mne.transforms.Transform("head", "mri", higher)
    mne.write_trans(tmp_path / "a-trans.fif", higher)
    common = dict(root=tmp_path / "files", pattern="*.fif")
    status = predict(
        out=tmp_path / "out", trans=tmp_path / "{participant}-trans.fif", **common
    )
    assert list(status["state"]) == ["done", "failed"]
    assert "b-trans.fif" in status["reason"][1]
    predict(out=tmp_path / "template", **common)
    where = "feature == 'head_misfit'"
    moved, template = (
        read(tmp_path / name, "a").query(where)["median"].item()
        for name in ("out", "template")
    )
    assert moved > template + 3  # millimetres


@pytest.mark.slow
def test_files_are_those_that_were_asked_for(dataset, predict, tmp_path):
    """Courses go when no longer asked for; what is not there is made.

    Seen to fail with results of another window left beside new ones.
    """
    out, one = tmp_path / "out", dict(subjects=["01"])
    folder = out / "sub-01" / "ieeg"
    predict(dataset, out, window=10.0, **one)
    assert [f.name for f in folder.glob("*_courses.parquet")]
    predict(dataset, out, **one)
    assert not list(folder.glob("*_courses.parquet"))
    features = next(folder.glob("*_features.parquet"))
    time_before = features.stat().st_mtime_ns
    predict(dataset, out, tsv=True, **one)
    assert list(folder.glob("*_features.tsv"))
    assert features.stat().st_mtime_ns > time_before
    time_before = features.stat().st_mtime_ns
    predict(dataset, out, **one)
    assert list(folder.glob("*_features.tsv"))
    assert features.stat().st_mtime_ns == time_before


def test_columns_are_described_with_units(dataset, predict, tmp_path):
    out = tmp_path / "out"
    predict(dataset, out, subjects=["01"], window=10.0, specparam=None)
    described = json.loads((out / "desc-virtual_features.json").read_text("utf-8"))
    tables = [read(out, what=what) for what in ("features", "courses")]
    assert set().union(*tables) <= set(described)
    assert described["start"]["Units"] == "s"
    assert "unit" in described["median"]["Units"]
    assert set(tables[0]["feature"]) <= set(described["Features"])
    contacts = pd.read_csv(out / "desc-virtual_contacts.tsv", sep="\t")
    np.testing.assert_allclose(contacts[["x", "y", "z"]], CONTACTS, atol=1e-6)
    described = json.loads((out / "desc-virtual_contacts.json").read_text("utf-8"))
    assert list(contacts) == list(described)
    status = pd.read_csv(out / "status.tsv", sep="\t")
    described = json.loads((out / "status.json").read_text("utf-8"))
    assert list(status) == list(described)


@pytest.mark.timeout(120)
def test_kept_recordings_are_those_of_predict_ieeg(
    dataset, predict, tmp_path, model_file
):
    """As FIF and as EDF.

    Seen to fail, by waiting without end, with EDF files written to a folder that was
    locked already.
    """
    out = tmp_path / "out"
    predict(dataset, out, subjects=["01"], keep_recordings="edf")
    rounded = mne.io.read_raw(next(out.glob("sub-01/**/*_ieeg.edf")), verbose="error")
    predict(dataset, out, subjects=["01"], keep_recordings="fif", tsv=True)
    kept = mne.io.read_raw(next(out.glob("sub-01/**/*_ieeg.fif")))
    seed = int(kept.info["description"].split("seed ")[1].strip("."))
    raw = mne_bids.read_raw_bids(
        mne_bids.get_bids_path_from_fname(find_recordings(dataset)[0].file),
        verbose="error",
    )
    again = predict_ieeg(
        raw, contacts=CONTACTS, model=model_file, random_state=seed, verbose="error"
    )
    np.testing.assert_allclose(kept.get_data(), again.get_data(), rtol=1e-6)
    rounded = rounded.get_data()[:, : kept.n_times]
    np.testing.assert_allclose(rounded, again.get_data(), atol=1e-7)  # steps of 0.1 µV
    for file in (next(out.glob("sub-01/**/*_features.tsv")), out / "status.tsv"):
        lines = [line.split("\t") for line in file.read_text().splitlines()]
        assert "draws" not in lines[0] and not any("" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n_draws=5), "integers from 19"),
        (dict(window=1.0), "10 s and more"),
        (dict(window=float("nan")), "10 s and more"),
        (dict(stretch=float("inf")), "10 s and more"),
        (dict(keep_recordings="mat"), "keep_recordings"),
        (dict(model="mtl-v0"), "model"),
        (dict(trans="{who}-trans.fif"), r"\{participant\} and \{session\}"),
        (dict(device="tpu"), "'auto', 'cpu', and 'cuda'"),
        (dict(n_jobs=0), "integers from 1"),
        (dict(retries=-1), "integers from 0"),
    ],
)
def test_wrong_options_are_refused_at_once(
    dataset, predict, tmp_path, options, message
):
    with pytest.raises(ValueError, match=message):
        predict(dataset, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("scheduler", "error", "message"),
    [
        ("none.json", ValueError, "files that exist, but got 'none.json'"),
        (
            "tcp://127.0.0.1:9",
            OSError,
            "No dask scheduler answers at tcp://127.0.0.1:9",
        ),
    ],
)
def test_scheduler_that_is_not_there(scheduler, error, message):
    """Seen to fail with a missing file taken for an address."""
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(error, match=message),
    ):
        _connect(scheduler)


def test_results_are_not_put_among_recordings(dataset, predict):
    with pytest.raises(ValueError, match="README is a file, not a folder"):
        predict(dataset, dataset / "README")
    with pytest.raises(TypeError, match="window must be an instance of numeric"):
        predict(dataset, dataset, window="60")
    with pytest.raises(ValueError, match="a dataset of recordings"):
        predict(dataset, dataset)


def test_results_are_not_put_among_those_of_other_programs(dataset, predict):
    """Seen to fail with the description and README of the other program replaced."""
    other = dataset / "derivatives" / "prep"
    other.mkdir(parents=True)
    about = json.dumps({"Name": "prep", "DatasetType": "derivative"})
    (other / "dataset_description.json").write_text(about)
    with pytest.raises(ValueError, match="of another program"):
        predict(dataset, other)
    assert [file.name for file in other.iterdir()] == ["dataset_description.json"]
    assert (other / "dataset_description.json").read_text() == about


def test_many_runs_begin_at_once(tmp_path):
    """In a new folder, and in one where a run was killed as it began.

    Seen to fail with the temporary folder of one run in the way of another.
    """
    montage, out = make_contacts(CONTACTS), tmp_path / "out"
    (out / f"{DRAFT}elsewhere-x").mkdir(parents=True)
    Folder(out).create(tmp_path, {}, montage)
    shutil.rmtree(out)
    together, errors = threading.Barrier(8), []

    def create():
        together.wait()
        try:
            Folder(out).create(tmp_path, {}, montage)
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    (tmp_path / "letters").mkdir()
    _touch(tmp_path, "letters/a.txt")
    with pytest.raises(ValueError, match="neither empty"):
        Folder(tmp_path / "letters").create(tmp_path, {}, montage)


# Workers ------------------------------------------------------------------------------


def test_threads_of_a_worker_take_turns(dataset, tmp_path, model_file):
    """Two threads of a worker never work on recordings at the same time.

    Seen to fail with both threads at work at once.
    """
    settings = settings_of(tmp_path / "out", model_file, control=False)
    found, inside, seen = find_recordings(dataset), [], []

    def slow(one):
        inside.append(one)
        time.sleep(0.2)
        seen.append(len(inside))
        inside.remove(one)
        raise ValueError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mne_neuroflow.cohort.participant.read_recording", slow)
        threads = [
            threading.Thread(target=task, args=(one, settings, *rest), daemon=True)
            for one in found
            for task, rest in ((begin, ()), (finish, ([],)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [1, 1, 1, 1]


@pytest.mark.slow
def test_recording_that_kills_its_workers(tmp_path, model_file):
    """It alone fails, and is named; all others are done.

    Seen to fail with others blamed, which waited for the same worker.
    """
    root = make_dataset(tmp_path / "bids", 5)

    class Deadly(distributed.WorkerPlugin):
        def setup(self, worker):
            from mne_neuroflow.cohort import participant

            read = participant.read_recording

            def deadly(found):
                if found.name.startswith("sub-03"):
                    os._exit(1)
                return read(found)

            participant.read_recording = deadly

    options = COARSE | dict(model=model_file, control=False, verbose="error")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(Deadly())
        status = predict_cohort(root, tmp_path / "out", scheduler=client, **options)
    assert status["state"].tolist() == ["done", "done", "failed", "done", "done"]
    assert "was killed again and again" in status["reason"][2]


def _kill_one(pids, out):
    """Kill a worker as soon as something is done."""
    while not any((out / "status").glob("*.json")):
        time.sleep(0.05)
    os.kill(pids[0], signal.SIGKILL)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bits(tmp_path, predict, model_file):
    """Three, of which one is killed and replaced, two and one."""
    root = make_dataset(tmp_path / "bids", 3, 16.0)
    options = COARSE | dict(window=10.0, stretch=10.0)
    predict(root, tmp_path / "here", **options)
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        out = tmp_path / "out3"
        pids = list(client.run(os.getpid).values())
        killer = threading.Thread(target=_kill_one, args=(pids, out))
        killer.start()
        predict(root, out, scheduler=client, **options)
        killer.join()
        for n_workers in (2, 1):
            cluster.scale(n_workers)
            predict(root, tmp_path / f"out{n_workers}", scheduler=client, **options)
        # Each worker has adapted its memory and read its weights, once.
        for once in (keep_memory, _keep):
            assert set(client.run(lambda f=once: f.cache_info().misses).values()) == {1}
    for n_workers in (3, 2, 1):
        out = tmp_path / f"out{n_workers}"
        assert [row["state"] for row in Folder(out).all_recorded().values()] == [
            "done"
        ] * 3
        for k in range(1, 4):
            for what in ("features", "courses"):
                pd.testing.assert_frame_equal(
                    read(out, f"0{k}", what),
                    read(tmp_path / "here", f"0{k}", what),
                    check_exact=True,
                )


def test_worker_that_is_killed_when_it_has_finished(tmp_path, model_file):
    """Its last steps are done again. Seen to combine the stretches that were its own.

    Files of the others were deleted after they had been combined.
    """
    (found,) = find_recordings(make_dataset(tmp_path / "bids", 1, 16.0))
    settings = settings_of(
        tmp_path / "out", model_file, window=10.0, stretch=10.0, control=False
    )
    measured = [measure_stretch(found, settings, k) for k in range(2)]
    assert finish(found, settings, measured)["state"] == "done"
    right = read(settings.out)
    assert list(Path(settings.work).iterdir()) == []
    measure_stretch(found, settings, 1)
    assert finish(found, settings, measured)["state"] == "done"
    pd.testing.assert_frame_equal(read(settings.out), right, check_exact=True)


_FAULTS = """
import resource
import threading
import numpy as np
from mne_neuroflow.cohort.participant import keep_memory

assert keep_memory()

def count():
    np.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(60):
        np.ones(2**18)  # two MB, deleted at once
        arrays = [np.ones(2**21) for _ in range(4)]  # more than a heap of a thread
        del arrays
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

count()
thread = threading.Thread(target=count)  # dask's workers compute in one
thread.start()
thread.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("environ", ({}, {"MALLOC_TRIM_THRESHOLD_": "65536"}))
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="thresholds of glibc")
def test_workers_keep_memory(environ):
    """Arrays are not made of new memory each time, whatever dask has set.

    Page faults in the main thread and in another one: 2600 each; without
    :func:`keep_memory` 150 000 and 120 000; without its padding, 33 000 in the other.
    """
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS],
        env=os.environ | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(int(line) < 4000 for line in done.stdout.split())


@pytest.mark.slow
def test_workers_keep_no_profile():
    """Memory of workers is flat. Seen to fail with dask's profile of each second."""

    def n_kept(dask_worker):
        return len(dask_worker.profile_history)

    with start_client(None, n_jobs=1, retries=0) as client:
        client.submit(time.sleep, 2.5).result()
        assert list(client.run(n_kept).values()) == [0]
