"""Files are there whole or not at all, whenever a process is killed."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from small_model import CARD_FIELDS

from mne_neuroflow import _files, predict_ieeg, write_bids
from mne_neuroflow._files import draft_folder, locked, move_into, written_whole
from mne_neuroflow.cli import main
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.predictor import Predictor
from mne_neuroflow.weights.checkpoint import load_checkpoint, save_checkpoint

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
needs_locks = pytest.mark.skipif(_files.fcntl is None, reason="no locks here")


class Killed(BaseException):
    """Ends the work where a signal would, which nothing catches."""


KILLED = """
import os, sys
from mne_neuroflow._files import draft_folder, written_whole
with written_whole(sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), 9)
"""


@needs_locks
def test_what_a_killed_process_left_is_removed(tmp_path):
    """By the next one, and nothing of one that still works.

    Seen to fail without the lock: the folder of the living one goes, too.
    """
    fname = tmp_path / "result.txt"
    fname.write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(fname)])
    assert fname.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    with draft_folder(tmp_path) as living:
        with written_whole(fname) as part:
            assert {living, part.parent, fname} == set(tmp_path.iterdir())
            part.write_text("new")
        assert {living, fname} == set(tmp_path.iterdir())
    assert fname.read_text() == "new" and [fname] == list(tmp_path.iterdir())


def test_failures_keep_the_old(tmp_path):
    fname = tmp_path / "result.txt"
    for error in (ValueError, KeyboardInterrupt, Killed):
        fname.write_text("old")
        with pytest.raises(error), written_whole(fname) as part:
            part.write_text("half")
            raise error
        assert fname.read_text() == "old" and [fname] == list(tmp_path.iterdir())


def test_read_only(monkeypatch, tmp_path):
    def refuse(**kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files.tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(PermissionError, match="Cannot write to .*: Permission denied"),
        draft_folder(tmp_path),
    ):
        pass
    with (
        pytest.raises(FileNotFoundError, match="nowhere does not exist"),
        draft_folder(tmp_path / "nowhere"),
    ):
        pass


@pytest.mark.parametrize("n_moved", range(4))
def test_parts_of_two_results_are_never_together(tmp_path, monkeypatch, n_moved):
    """Seen to fail without taking the last one away first."""
    names = ["v_raw-1.fif", "v_raw-2.fif", "v_raw.fif"]
    for name in names:
        (tmp_path / name).write_text("old")
    replace, moved = Path.replace, iter(range(n_moved))

    def killed(self, target):
        if next(moved, None) is None:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    try:
        with draft_folder(tmp_path) as draft:
            for name in names:
                (draft / name).write_text("new")
            move_into(draft, tmp_path)
    except Killed:
        assert n_moved < 3 and not (tmp_path / "v_raw.fif").exists()
    else:
        assert {(tmp_path / name).read_text() for name in names} == {"new"}


@needs_locks
def test_locks(tmp_path):
    """Seen to hang where a child that was forked meanwhile keeps the lock."""
    with locked(tmp_path) as mine, locked(tmp_path, wait=False) as yours:
        assert mine and yours is False
        if hasattr(os, "fork"):
            child = multiprocessing.get_context("fork").Process(
                target=threading.Event().wait, args=(20,)
            )
            child.start()
    with locked(tmp_path, wait=False) as mine:
        assert mine
    if hasattr(os, "fork"):
        child.kill()
        child.join()
    with locked(tmp_path / "nowhere") as nothing:
        assert nothing is None


# Weights and their card ---------------------------------------------------------------


def _model(value):
    with torch.random.fork_rng(devices=[]):
        model = ConditionalFlow(FlowConfig(width=8, n_heads=2, steps=("s",) * 4))
    next(model.parameters()).data.fill_(value)
    return model


def _save(fname, value, model=None):
    card = dict.fromkeys(CARD_FIELDS, str(value))
    return save_checkpoint(fname, model or _model(value), card)


def _loaded(fname):
    """Return the value in the card, which must be that of the weights."""
    model, card = load_checkpoint(fname)
    value = float(card["name"])
    assert (next(model.parameters()) == value).all()
    return value


@pytest.mark.parametrize("earlier", [True, False])
def test_weights_and_card_fit_at_every_moment(tmp_path, monkeypatch, earlier):
    """Seen to fail with weights moved first, then their card."""
    fname = tmp_path / "tiny.safetensors"
    replace, seen = Path.replace, set()
    for n_moved in range(4):
        moved = iter(range(n_moved))

        def killed(self, target, moved=moved):
            if next(moved, None) is None:
                raise Killed
            return replace(self, target)

        if earlier:
            _save(fname, 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            try:
                _save(fname, 2.0)
            except Killed:
                assert n_moved < (3 if earlier else 2)
        if earlier or n_moved == 2:
            seen.add(_loaded(fname))
        else:
            with pytest.raises(FileNotFoundError, match="two files"):
                _loaded(fname)
        if not earlier and n_moved == 2:
            break
        _save(fname, 3.0)
        assert _loaded(fname) == 3.0
        assert "replaces" not in json.loads(fname.with_suffix(".json").read_text())
        if not earlier:
            fname.unlink(), fname.with_suffix(".json").unlink()
    assert seen == ({1.0, 2.0} if earlier else {2.0})


@needs_locks
def test_two_save_at_once(tmp_path):
    """Seen to fail without the lock, within ten rounds."""
    fname, meet = tmp_path / "tiny.safetensors", threading.Barrier(4, timeout=30)

    def save(value, model):
        for _ in range(6):
            meet.wait()
            _save(fname, value, model)

    values = (1.0, 2.0, 3.0, 4.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, values, [_model(value) for value in values]))
    assert _loaded(fname) in values


# Recordings ---------------------------------------------------------------------------


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("kind", ["of a recording", "of their own"])
def test_epochs_whose_file_changes(lazy_raw, kind, monkeypatch):
    """Seen to fail with epochs of two recordings in one prediction."""
    fname = lazy_raw.filenames[0]
    events = mne.make_fixed_length_events(lazy_raw, duration=1.5)
    epochs = mne.Epochs(lazy_raw, events, tmin=0, tmax=1.4, baseline=None)
    if kind == "of their own":
        fname = fname.with_name("scalp-epo.fif")
        epochs.save(fname, verbose=False)
        epochs = mne.read_epochs(fname, preload=False, verbose=False)
    adapt = Predictor.use

    def use(self, contact_fit):
        adapt(self, contact_fit)
        with open(fname, "r+b") as file:
            file.seek(100_000)
            file.write(bytes(100))

    monkeypatch.setattr(Predictor, "use", use)
    with pytest.raises(RuntimeError, match=f"{fname.name} was replaced or changed"):
        predict_ieeg(epochs, contacts=POINTS, on_mismatch="ignore")


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("how", ["replaced", "written to", "removed"])
def test_scalp_that_changes_while_it_is_read(lazy_raw, make_raw, how, monkeypatch):
    """Seen to fail with samples of two recordings in one prediction."""
    fname = lazy_raw.filenames[0]

    def change():
        if how == "replaced":
            other = fname.with_name("other_raw.fif")
            make_raw(12.0, seed=5).save(other, fmt="double", verbose=False)
            other.replace(fname)
        elif how == "written to":
            with open(fname, "r+b") as file:
                file.seek(100_000)
                file.write(bytes(100))
        else:
            fname.unlink()

    virtual = predict_ieeg(lazy_raw, contacts=POINTS, on_mismatch="ignore")
    content = fname.read_bytes()
    change()
    with pytest.raises(RuntimeError, match="scalp_raw.fif was replaced or changed"):
        virtual.get_data()
    # On the command line, between the checks and the prediction.
    fname.write_bytes(content)
    adapt = Predictor.use

    def use(self, contact_fit):
        adapt(self, contact_fit)
        change()

    monkeypatch.setattr(Predictor, "use", use)
    out = fname.with_name("v_raw.fif")
    command = ["--quiet", "predict", str(fname), str(out), "--seed", "0"]
    assert main([*command, "--contacts", "mtl-core"]) == 1
    assert not out.exists() and not list(fname.parent.glob(".mne*"))


@pytest.mark.usefixtures("small_model")
def test_parts_of_a_recording(make_raw, tmp_path):
    """Of a recording in several files, read as they are; seen with one missing."""
    raw = make_raw(60.0, 512.0)
    whole, split = tmp_path / "whole_raw.fif", tmp_path / "split_raw.fif"
    raw.save(whole, fmt="double", verbose=False)
    raw.save(split, fmt="double", split_size="2MB", buffer_size_sec=1, verbose=False)
    parts = sorted(tmp_path.glob("split_raw-*.fif"))
    assert len(parts) > 2
    found = []
    for fname in (whole, split):
        out = fname.with_name(f"v{fname.name}")
        command = ["--quiet", "predict", str(fname), str(out), "--seed", "0"]
        assert main([*command, "--contacts", "mtl-core"]) == 0
        found.append(mne.io.read_raw(out, verbose=False).get_data())
    np.testing.assert_array_equal(*found)
    parts[1].unlink()
    out = tmp_path / "again_raw.fif"
    assert main(["--quiet", "predict", str(split), str(out), "--seed", "0"]) == 2
    assert not out.exists()


@needs_locks
@pytest.mark.usefixtures("small_model")
def test_two_subjects_are_written_at_once(raw, tmp_path):
    """Seen to lose a row of participants.tsv without the lock."""
    pytest.importorskip("mne_bids")
    pytest.importorskip("edfio")
    virtual = predict_ieeg(raw.crop(0, 3), contacts=POINTS, on_mismatch="ignore")
    root, meet = tmp_path / "derivative", threading.Barrier(3, timeout=60)
    level = mne.utils.logger.level
    write_bids(virtual, root, subject="00")

    def write(subject):
        meet.wait()
        write_bids(virtual.copy(), root, subject=subject)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, ("01", "02", "03")))
    mne.set_log_level(level)
    rows = (root / "participants.tsv").read_text("utf-8").splitlines()[1:]
    expected = [f"sub-0{k}" for k in range(4)]
    assert sorted(row.split("\t")[0] for row in rows) == expected
    assert sorted(f.name for f in tmp_path.iterdir()) == ["derivative"]


RUN = "import sys; from mne_neuroflow.cli import main; sys.exit(main())"


@pytest.mark.skipif(sys.platform == "win32", reason="folders have POSIX permissions")
@pytest.mark.slow
def test_without_a_home_in_a_folder_that_is_read_only(make_raw, model_file, tmp_path):
    """What can be written is; what cannot is an error before anything is computed.

    Seen to fail when the files of a command are written into another folder first.
    """
    scalp, locked_up = tmp_path / "scalp_raw.fif", tmp_path / "read-only"
    make_raw(3.0).save(scalp, verbose=False)
    locked_up.mkdir()
    locked_up.chmod(0o555)
    prefix = []
    if os.geteuid() == 0:  # who may write anywhere, without this capability
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("the superuser can write anywhere, and there is no setpriv")
        prefix = [setpriv, "--bounding-set=-dac_override"]
    env = {k: v for k, v in os.environ.items() if k not in ("MNE_DATA", "HOME")}
    env |= {"HOME": str(tmp_path / "nobody")}

    def predict(out):
        command = [*prefix, sys.executable, "-c", RUN, "--quiet", "predict", scalp, out]
        command += ["--contacts", "mtl-core", "--model", model_file, "--seed", "0"]
        return subprocess.run(
            list(map(str, command)), capture_output=True, cwd=locked_up, env=env
        )

    done = predict(tmp_path / "v_raw.fif")
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "v_raw.fif").is_file() and not list(locked_up.iterdir())
    done = predict("v_raw.fif")
    assert done.returncode == 2
    assert "Cannot write to" in done.stderr.decode().splitlines()[-1]


@pytest.mark.usefixtures("small_model")
def test_samples_that_cannot_be_read(lazy_raw, monkeypatch):
    """A damaged file is an error that names the file, whatever the reader raises.

    Seen to fail without the conversion, with the reader's KeyError: 25.
    """

    def damaged(*args, **kwargs):
        raise KeyError(25)

    monkeypatch.setattr(type(lazy_raw), "_read_segment_file", damaged)
    with pytest.raises(ValueError, match="scalp_raw.fif cannot be read.*KeyError: 25"):
        predict_ieeg(lazy_raw, contacts=POINTS, on_mismatch="ignore")


@pytest.mark.usefixtures("small_model")
def test_channel_of_no_type(lazy_raw):
    """Seen to fail with MNE's KeyError: 25."""
    with lazy_raw.info._unlock():
        lazy_raw.info["chs"][3]["coil_type"] = 25
    with pytest.raises(ValueError, match="does not know its kind, unit or coil 25"):
        predict_ieeg(lazy_raw, contacts=POINTS, on_mismatch="ignore")
