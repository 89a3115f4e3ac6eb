"""The command ``mne-neuroflow cohort``."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from test_predict_cohort import COARSE, make_dataset

import mne_neuroflow.cohort.run as cohort_run
from mne_neuroflow import cli
from mne_neuroflow._files import DRAFT
from mne_neuroflow.cohort.folder import Folder

CPU_COUNT = pytest.importorskip("dask.system").CPU_COUNT
pytest.importorskip("pyarrow")
pytest.importorskip("mne_bids")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("bids"), 1, 12.0)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Note how `predict_cohort` is called; ``calls.result`` comes back."""

    class Calls(list):
        result = pd.DataFrame(dict(state=["done", "done"]))

    noted = Calls()

    def predict_cohort(root, out, **options):
        noted.append((root, out, options))
        out.mkdir(exist_ok=True)
        (out / "status.tsv").touch()
        if isinstance(noted.result, BaseException):
            raise noted.result
        return noted.result

    monkeypatch.setattr(cohort_run, "predict_cohort", predict_cohort)
    return noted


def run(*argv):
    return cli.main(["cohort", *map(str, argv)])


def test_flags_come_before_the_file(calls, tmp_path, capsys):
    """Seen to fail with the file's options before those of the command line."""
    config = tmp_path / "options.toml"
    config.write_text('contacts = "mtl-core"\nn_draws = 30\ncontrol = false\n')
    code = run(
        "root", tmp_path / "out", "participant", "--config", config, "--draws", 25,
        "--participant-label", "01", "sub-02", "--seed", 3, "--skip-bids-validation",
    )  # fmt: skip
    assert code == 0
    (_, out, options) = calls[0]
    assert options == dict(
        contacts="mtl-core",
        n_draws=25,
        control=False,
        subjects=["01", "sub-02"],
        random_state=3,
        validate=False,
    )
    assert (out / "options.toml").read_text() == config.read_text()
    assert "Recordings: 2 done" in capsys.readouterr().out


def test_files_of_contacts_have_their_options(calls, tmp_path):
    """Seen to fail with the file handed on without its space and unit."""
    file = tmp_path / "electrodes.tsv"
    file.write_text("name\tx\ty\tz\nA1\t-25\t-20\t-18\n")
    given = ("--contacts", file, "--space", "MNI152")
    assert run("root", tmp_path / "out", "participant", *given, "--units", "mm") == 0
    contacts = calls[-1][2]["contacts"].get_positions()["ch_pos"]
    assert contacts["A1"].round(4).tolist() == [-0.025, -0.02, -0.018]
    assert set(calls[-1][2]) == {"contacts"}
    file.write_text("name\tx\ty\tz\nA1\t-0.026\t-0.02\t-0.018\n")
    config = tmp_path / "options.toml"
    config.write_text(f"contacts = '{file}'\nspace = 'MNI152'\nunits = 'm'\n")
    assert run("root", tmp_path / "out", "participant", "--config", config) == 0
    contacts = calls[-1][2]["contacts"].get_positions()["ch_pos"]
    assert contacts["A1"].round(4).tolist() == [-0.026, -0.02, -0.018]


def test_wrong_file_of_options(calls, tmp_path, capsys):
    config = tmp_path / "options.toml"
    config.write_text("draws = 30\n")
    assert run("root", tmp_path, "participant", "--config", config) == 2
    assert "Invalid options" in capsys.readouterr().err
    config.write_text("draws")
    assert run("root", tmp_path, "participant", "--config", config) == 2
    capsys.readouterr()
    missing = tmp_path / "none.toml"
    assert run("root", tmp_path, "participant", "--config", missing) == 2
    assert f"The file {missing} does not exist" in capsys.readouterr().err


def test_exit_codes(calls, tmp_path, capsys):
    calls.result = pd.DataFrame(dict(state=["done", "failed"]))
    assert run("root", tmp_path / "out", "participant") == 1
    assert "1 recordings failed" in capsys.readouterr().err
    calls.result = KeyboardInterrupt()
    assert run("root", tmp_path / "out", "participant") == 130
    assert "the same command goes on" in capsys.readouterr().err.splitlines()[-1]
    assert run("root", tmp_path / "out", "session") == 2


def test_options_are_kept_also_when_interrupted(calls, tmp_path):
    """Seen to fail with the copy made after the end; the copy itself can be given."""
    config, out = tmp_path / "mine.toml", tmp_path / "out"
    config.write_text("n_draws = 30\n")
    calls.result = KeyboardInterrupt()
    assert run("root", out, "participant", "--config", config) == 130
    assert (out / "options.toml").read_text() == "n_draws = 30\n"
    calls.result = pd.DataFrame(dict(state=["done"]))
    assert run("root", out, "participant", "--config", out / "options.toml") == 0
    assert calls[-1][2]["n_draws"] == 30


# Programs that a shell starts in the background ignore the key.
_INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from mne_neuroflow.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupted_at_the_keyboard(tmp_path, model_file):
    """Ctrl+C reaches the workers too; the same command then does what is missing."""
    root, out = make_dataset(tmp_path / "bids", 4), tmp_path / "out"
    contacts = tmp_path / "contacts.tsv"
    contacts.write_text("name\tx\ty\tz\nA1\t-0.025\t-0.02\t-0.018\n")
    command = [
        sys.executable, "-c", _INTERRUPTIBLE, "cohort", root, out, "participant",
        "--contacts", contacts, "--space", "MNI152", "--units", "m", "--n-jobs", "1",
        "--model", model_file, "--draws", "19", "--no-control", "--no-specparam",
    ]  # fmt: skip
    known = dict(start_new_session=True, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(list(map(str, command)), **known) as running:
        while running.poll() is None and not any((out / "status").glob("*.json")):
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130
    assert said.splitlines()[-1].endswith("the same command goes on")
    rows = Folder(out).all_recorded()
    assert 1 <= len(rows) < 4
    kept = {file: file.stat().st_mtime_ns for file in out.glob("sub-*/**/*.parquet")}
    assert subprocess.run(list(map(str, command))).returncode == 0
    rows = Folder(out).all_recorded().values()
    assert [row["state"] for row in rows] == ["done"] * 4
    assert all(kept[file] == file.stat().st_mtime_ns for file in kept)
    assert not [file for file in out.rglob("*") if file.name.startswith(DRAFT)]


def test_options_that_were_refused_are_not_kept(calls, tmp_path):
    """Seen to fail with those of a refused run beside the results of another."""
    config, out = tmp_path / "mine.toml", tmp_path / "out"
    config.write_text("n_draws = 30\n")
    assert run("root", out, "participant", "--config", config) == 0
    config.write_text("n_draws = 5\n")
    calls.result = ValueError("too few")
    assert run("root", out, "participant", "--config", config) == 2
    assert (out / "options.toml").read_text() == "n_draws = 30\n"


def test_wrong_use(tmp_path, capsys):
    assert run(tmp_path / "none", tmp_path / "out", "participant") == 2
    assert "does not exist" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "out", "participant") == 2
    assert "Use --pattern '*.edf'" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "out", "group") == 1
    assert "Run the participant level" in capsys.readouterr().err


def test_options_of_the_other_level(calls, tmp_path, capsys):
    """Seen to fail with options that had no effect. A file of options has both."""
    labels = ("--participant-label", "01")
    for given in (labels, ("--dry-run",), ("--no-control",), ("--draws", 30)):
        assert run(tmp_path, tmp_path, "group", *given) == 2
        assert "belong to the participant level" in capsys.readouterr().err
    config = tmp_path / "options.toml"
    config.write_text("n_draws = 30\nformula = 'power ~ 1'\n")
    common = ("--config", config, "--n-jobs", 1)
    assert run(tmp_path, tmp_path / "out", "group", *common) == 1
    assert "Run the participant level first" in capsys.readouterr().err
    assert run("root", tmp_path / "out", "participant", *common) == 0
    assert run("root", tmp_path, "participant", "--formula", "power ~ 1") == 2
    assert "--formula belongs to the group level" in capsys.readouterr().err


def test_dry_run_writes_nothing(dataset, tmp_path, model_file, capsys):
    config = tmp_path / "options.toml"
    config.write_text(f"contacts = {COARSE['contacts']}\n")
    code = run(
        dataset, tmp_path / "out", "participant", "--dry-run", "--config", config,
        "--model", model_file, "--draws", 19, "--window", 10,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0
    assert "sub-01_task-rest_eeg.edf" in printed
    assert "1 to do, 0 done; about 0.00 h" in printed and "MB" in printed
    assert f"with {CPU_COUNT} worker" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_from_a_folder_to_a_report(dataset, tmp_path, model_file, capsys):
    """Both levels with worker processes, as a user would; columns can be added later.

    Seen to fail with the copy of participants.tsv that the first level made.
    """
    options = tmp_path / "options.toml"
    options.write_text(
        f"contacts = {COARSE['contacts']}\nn_draws = 19\nmodel = '{model_file}'\n"
    )
    out = tmp_path / "out"
    common = ("--config", options, "--n-jobs", 1)
    shutil.copytree(dataset, tmp_path / "bids")
    empty = tmp_path / "bids" / "sub-02" / "eeg" / "sub-02_task-rest_eeg.edf"
    empty.parent.mkdir(parents=True)
    empty.touch()
    assert run(tmp_path / "bids", out, "participant", *common) == 1
    assert run(tmp_path / "bids", out, "group", "--formula", "power ~ 1") == 2
    assert "fewer terms than there are recordings (1)" in capsys.readouterr().err
    people = tmp_path / "bids" / "participants.tsv"
    lines = people.read_text().splitlines()
    people.write_text(f"{lines[0]}\tadded\n{lines[1]}\t1\n")
    assert run(tmp_path / "bids", out, "group") == 0
    assert "added" in (out / "participants.tsv").read_text()
    assert (out / "group" / "report.html").is_file()
