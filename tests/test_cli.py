"""The command line, with a stand-in for the prediction itself."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import types
import warnings

import mne
import numpy as np
import pytest
import xarray as xr

import mne_neuroflow
from mne_neuroflow import cli

SFREQ = 160.0
CONTACTS = ["vAL1", "vAL2", "vHR1"]


class _Lazy(mne.io.RawArray):
    """A recording that is computed when it is saved, and says so."""

    @mne.verbose
    def save(self, fname, *, verbose=None):
        mne.utils.logger.info("computed while writing")
        return super().save(fname)


def _virtual_raw(raw):
    """Virtual channels as long as the recording."""
    info = mne.create_info(CONTACTS, raw.info["sfreq"], "seeg")
    data = 1e-5 * np.tile(np.arange(raw.n_times) % 97, (len(CONTACTS), 1))
    return _Lazy(data, info, verbose="error")


def _virtual_epochs(epochs):
    info = mne.create_info(CONTACTS, epochs.info["sfreq"], "seeg")
    data = np.full((len(epochs), len(CONTACTS), len(epochs.times)), 1e-5)
    return mne.EpochsArray(data, info, epochs.events, epochs.tmin, verbose="error")


class Predict(types.ModuleType):
    """Stands in for mne_neuroflow.predict and notes how it was called."""

    def __init__(self):
        super().__init__("mne_neuroflow.predict")
        self.calls = []
        self.error = None

    def predict_ieeg(self, inst, **options):
        """Note the call; give a result or the error wanted."""
        self.calls.append((inst, options))
        if self.error is not None:
            raise self.error
        mne.utils.logger.info("decided for the user")
        is_epochs = isinstance(inst, mne.BaseEpochs)
        return (_virtual_epochs if is_epochs else _virtual_raw)(inst)


class Predictor:
    """Stands in for a predictor: what it predicts is the stand-in's above."""

    made = ()

    def __init__(self, inst, **options):
        self.inst, self.options, self.spans = inst, options, []
        Predictor.made += (self,)

    def predict(self):
        """Predict all of it."""
        return sys.modules["mne_neuroflow.predict"].predict_ieeg(self.inst)

    def sample(self, n_draws, tmin, tmax):
        """Draw white noise: two contacts in one structure, one in another."""
        self.spans.append((tmin, tmax))
        rng = np.random.default_rng(0)
        times = self.inst.times
        time = times[(times >= tmin) & (times <= tmax)]
        data = 1e-5 * rng.standard_normal((n_draws, len(CONTACTS), len(time)))
        coords = {
            "channel": CONTACTS,
            "time": time,
            "structure": ("channel", ["amygdala", "amygdala", "hippocampus"]),
            "observability": ("channel", [0.1, 0.3, 0.2]),
        }
        return xr.DataArray(data, coords, ("draw", "channel", "time"), "virtual iEEG")


@pytest.fixture
def predict(monkeypatch):
    """The stand-in, in place."""
    module = Predict()
    monkeypatch.setitem(sys.modules, "mne_neuroflow.predict", module)
    predictor = types.ModuleType("mne_neuroflow.predictor")
    predictor.Predictor = Predictor
    monkeypatch.setattr(Predictor, "made", ())
    monkeypatch.setitem(sys.modules, "mne_neuroflow.predictor", predictor)
    return module


@pytest.fixture
def raw():
    """Twenty seconds of four scalp channels."""
    names = ["Fp1", "Fp2", "T7", "T8"]
    data = 1e-5 * np.random.default_rng(0).standard_normal((4, int(20 * SFREQ)))
    info = mne.create_info(names, SFREQ, "eeg")
    return mne.io.RawArray(data, info, verbose="error")


@pytest.fixture
def scalp(raw, tmp_path):
    """The recording on disk."""
    fname = tmp_path / "scalp_raw.fif"
    raw.save(fname, verbose="error")
    return fname


@pytest.fixture
def out(tmp_path):
    """Where the result goes: a folder that holds nothing else."""
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "virtual_ieeg.fif"


def _run(*argv):
    return cli.main([str(arg) for arg in argv])


def _assert_error(capsys, code, *said):
    """The error is one line on standard error, and says this."""
    stdout, stderr = capsys.readouterr()
    lines = [
        line for line in stderr.splitlines() if line.startswith("mne-neuroflow: e")
    ]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    for part in said:
        assert str(part) in lines[0]
    assert stdout == ""


def test_predict_raw(predict, scalp, out, capsys):
    """Defaults reach predict_ieeg; only the result goes to standard output.

    Seen to fail when MNE-Python's own lines are not left out, and when what is said
    while writing is.
    """
    assert _run("predict", scalp, out) == 0
    ((inst, options),) = predict.calls
    assert isinstance(inst, mne.io.BaseRaw)
    assert not inst.preload
    assert options == {
        "contacts": "mtl",
        "model": "mtl-v2",
        "output": "sample",
        "n_draws": None,
        "bad_time": "prior",
        "random_state": None,
        "device": "auto",
    }
    virtual = mne.io.read_raw_fif(out, preload=True, verbose="error")
    assert virtual.ch_names == CONTACTS
    expected = _virtual_raw(inst).get_data()
    np.testing.assert_allclose(virtual.get_data(), expected, rtol=1e-6)  # float32
    assert [f.name for f in out.parent.iterdir()] == [out.name]
    stdout, stderr = capsys.readouterr()
    assert stdout == f"Virtual iEEG: {out}\n"
    assert stderr == "decided for the user\ncomputed while writing\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mean", "mean"),
        ("std", "std"),
        ("median", "median"),
        ("quantile:0.05", ("quantile", 0.05)),
    ],
)
def test_options_reach_the_prediction(predict, scalp, out, text, value):
    """Seen to fail when any one of them is dropped on the way."""
    options = ["--contacts", "mtl-core", "--model", "other", "--output", text]
    options += ["--draws", "7", "--seed", "3", "--device", "cpu"]
    assert _run("predict", scalp, out, *options) == 0
    assert predict.calls[0][1] == {
        "contacts": "mtl-core",
        "model": "other",
        "bad_time": "prior",
        "output": value,
        "n_draws": 7,
        "random_state": 3,
        "device": "cpu",
    }


def test_predict_epochs(predict, raw, tmp_path, out):
    epochs = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose="error")
    fname = tmp_path / "scalp-epo.fif"
    epochs.save(fname, verbose="error")
    out = out.with_name("virtual-epo.fif")
    assert _run("predict", fname, out) == 0
    virtual = mne.read_epochs(out, verbose="error")
    assert virtual.ch_names == CONTACTS
    np.testing.assert_array_equal(virtual.events, epochs.events)


@pytest.mark.parametrize("flag", [["--overwrite"], ["--overwrite", "--quiet"]])
def test_overwrite(predict, scalp, out, flag):
    out.write_bytes(b"earlier")
    assert _run("predict", scalp, out, *flag) == 0
    assert mne.io.read_raw_fif(out, verbose="error").ch_names == CONTACTS
    assert [f.name for f in out.parent.iterdir()] == [out.name]


def test_bad_paths_are_found_before_computing(predict, scalp, out, capsys):
    """Seen to fail when the output is looked at only after the prediction."""
    existing = out.with_name("old_ieeg.fif")
    existing.write_bytes(b"earlier")
    part = out.with_name("long_raw-1.fif")
    part.write_bytes(b"second part of an earlier, split recording")
    folder = out.with_name("folder_raw.fif")
    folder.mkdir()
    before = sorted(out.parent.iterdir())
    for in_, bad, said in [
        (scalp.with_name("none_raw.fif"), out, "none_raw.fif does not exist"),
        (scalp, existing, "old_ieeg.fif"),
        (scalp, existing, "use --overwrite"),
        (scalp, part.with_name("long_raw.fif"), "long_raw-1.fif"),
        (scalp, folder, "is a folder"),
        (scalp, out.parent / "none" / out.name, "does not exist"),
        (scalp, out.with_suffix(".edf"), "must end with _raw.fif"),
        (scalp, out.with_name("virtual-epo.fif"), "must end with _raw.fif"),
        (scalp, scalp, "is the input itself"),
    ]:
        assert _run("predict", in_, bad) == 2
        _assert_error(capsys, 2, said)
    assert _run("predict", scalp, scalp, "--overwrite") == 2
    _assert_error(capsys, 2, "is the input itself")
    assert _run("predict", scalp, folder, "--overwrite") == 2
    _assert_error(capsys, 2, "is a folder")
    assert predict.calls == []
    assert sorted(out.parent.iterdir()) == before
    assert existing.read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "COMMAND"),
        (["forecast"], "'forecast'"),
        (["predict", "a.fif"], "OUT"),
        (["predict", "a.fif", "b_raw.fif", "--output", "mode"], "got 'mode'"),
        (["predict", "a.fif", "b_raw.fif", "--output", "quantile:1"], "quantile:1"),
        (["predict", "a.fif", "b_raw.fif", "--output", "quantile:x"], "quantile:x"),
        (["predict", "a.fif", "b_raw.fif", "--draws", "0"], "got '0'"),
        (["predict", "a.fif", "b_raw.fif", "--seed", "x"], "'x'"),
        (["predict", "a.fif", "b_raw.fif", "--quiet", "--verbose"], "not allowed with"),
    ],
)
def test_wrong_usage(capsys, argv, said):
    assert _run(*argv) == 2
    _assert_error(capsys, 2, said, "--help")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("No EEG\n channels."), 2, "error: No EEG channels."),
        (TypeError("Evoked"), 2, "error: Evoked"),
        (RuntimeError("no address"), 1, "error: no address"),
        (ConnectionError("server down"), 1, "error: server down"),
        (KeyError("gain"), 1, "KeyError: 'gain' (--debug"),
        (MemoryError(), 1, "MemoryError"),
    ],
)
def test_failing_prediction(predict, scalp, out, capsys, error, code, said):
    predict.error = error
    assert _run("predict", scalp, out) == code
    _assert_error(capsys, code, said)
    assert list(out.parent.iterdir()) == []


def test_unknown_contacts(predict, scalp, out, capsys, monkeypatch):
    """Seen to fail (474 characters) when every shipped implant is named."""
    from mne_neuroflow import make_contacts

    monkeypatch.setattr(
        predict, "predict_ieeg", lambda inst, contacts, **_: make_contacts(contacts)
    )
    assert _run("predict", scalp, out, "--contacts", "mlt") == 2
    stderr = capsys.readouterr().err
    assert "'mtl', 'mtl-core', 'ds004752-sub-01' to 'ds004752-sub-15'" in stderr
    assert stderr.endswith("but got 'mlt'.\n") and len(stderr) < 240


def test_unreadable_input(predict, scalp, out, capsys):
    """Seen to fail without the name of the file, which readers leave out."""
    scalp.write_bytes(b"no recording at all")
    assert _run("predict", scalp, out) == 2
    _assert_error(capsys, 2, f"Cannot read {scalp}")
    unknown = scalp.with_suffix(".docx")
    unknown.write_bytes(b"")
    assert _run("predict", unknown, out) == 2
    _assert_error(capsys, 2, "docx")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("before_command", [True, False])
def test_debug_shows_where(predict, scalp, out, capsys, before_command):
    predict.error = ValueError("bad contacts")
    argv = ["predict", scalp, out]
    argv.insert(0 if before_command else 3, "--debug")
    assert _run(*argv) == 2
    stderr = capsys.readouterr().err
    assert "Traceback" in stderr
    assert "in predict_ieeg" in stderr
    assert stderr.splitlines()[-1] == "mne-neuroflow: error: bad contacts"


def test_how_much_is_said(predict, scalp, out, capsys, monkeypatch):
    def warn(inst, **options):
        warnings.warn("Unlike input:\n check it.", RuntimeWarning, stacklevel=1)
        return Predict().predict_ieeg(inst)

    monkeypatch.setattr(predict, "predict_ieeg", warn)
    said = {}
    for flag in ("--quiet", None, "--verbose"):
        _run("predict", scalp, out, "--overwrite", *filter(None, [flag]))
        said[flag] = capsys.readouterr().err
    assert said["--quiet"] == ""
    assert said[None].splitlines() == [
        "mne-neuroflow: warning: Unlike input: check it.",
        "decided for the user",
        "computed while writing",
    ]
    assert "Opening raw data file" in said["--verbose"]


@contextlib.contextmanager
def _disk_of(n_bytes):
    """Let no file grow beyond this, as on a disk that is full."""
    import resource  # POSIX only

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_names_that_fif_cannot_hold(predict, scalp, out, capsys, monkeypatch):
    """Seen to fail with MNE's own error, of a codec and a position."""
    monkeypatch.setattr(sys.modules[__name__], "CONTACTS", ["A\u20321", "vAL2"])
    assert cli.main(["predict", str(scalp), str(out)]) == 2
    assert "rename the contacts A\u20321." in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("earlier", [False, True])
def test_full_disk(predict, scalp, out, capsys, earlier):
    """Nothing half-written is left, and an earlier result stays.

    Seen to fail when the result is saved under its final name.
    """
    if earlier:
        out.write_bytes(b"earlier")
    with _disk_of(20_000):
        assert _run("predict", scalp, out, "--overwrite") == 1
    _assert_error(capsys, 1, f"Could not write {out}: File too large. Nothing was kept")
    assert [f.read_bytes() for f in out.parent.iterdir()] == [b"earlier"] * earlier


def test_split_recording(predict, scalp, out, monkeypatch):
    """Parts find each other, and the first appears last.

    Seen to fail when the parts are saved under temporary names and then renamed, and
    when they are moved in the opposite order.
    """

    class Long(mne.io.RawArray):
        def save(self, fname, **options):
            return super().save(
                fname, split_size="2MB", buffer_size_sec=1, drop_small_buffer=False
            )

    def predict_ieeg(inst, **options):
        info = mne.create_info([f"v{i}" for i in range(200)], SFREQ, "seeg")
        data = np.tile(np.arange(inst.n_times) * 1e-9, (200, 1))
        return Long(data, info, verbose="error")

    monkeypatch.setattr(predict, "predict_ieeg", predict_ieeg)
    moved = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (moved.append(b.name), replace(a, b))
    )
    assert _run("predict", scalp, out) == 0
    assert moved == ["virtual_ieeg-1.fif", "virtual_ieeg-2.fif", "virtual_ieeg.fif"]
    virtual = mne.io.read_raw_fif(out, preload=True, verbose="error")
    np.testing.assert_allclose(
        virtual.get_data()[-1], np.arange(20 * SFREQ) * 1e-9, rtol=1e-6
    )
    assert len(list(out.parent.iterdir())) == 3


_SLOW = """
import signal, sys, time, types
import mne, numpy as np
from mne_neuroflow import cli

# A shell that runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Slow(mne.io.RawArray):
    def save(self, fname, **options):
        with open(fname, "wb") as fid:
            fid.write(b"half")
        print("saving", flush=True)
        time.sleep(60)

predict = types.ModuleType("mne_neuroflow.predict")
predict.predict_ieeg = lambda inst, **options: Slow(inst.get_data(), inst.info)
sys.modules["mne_neuroflow.predict"] = predict
sys.exit(cli.main(["predict", *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_interruption_leaves_nothing(scalp, out, sent, code):
    """Seen to fail when the temporary folder is removed only after a success."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, scalp, out],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any(out.parent.rglob("*.fif")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, sent))
    stderr = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert list(out.parent.iterdir()) == []
    assert "Traceback" not in stderr
    if sent == "SIGINT":
        assert stderr.splitlines()[-1] == "mne-neuroflow: error: interrupted"


def test_demo(predict, raw, tmp_path, capsys, monkeypatch):
    datasets = types.ModuleType("mne_neuroflow.datasets")
    datasets.load_demo = lambda: raw
    monkeypatch.setitem(sys.modules, "mne_neuroflow.datasets", datasets)
    folder = tmp_path / "new" / "folder"
    assert _run("demo", "--out-dir", folder) == 0
    stdout = capsys.readouterr().out.splitlines()
    fif, png = folder / "virtual_ieeg_raw.fif", folder / "virtual_ieeg.png"
    assert stdout[0] == f"Virtual iEEG: {fif}"
    assert stdout[1] == f"Figure:       {png}"
    assert stdout[2].startswith("Time taken: ")
    assert "20 s of 3 virtual contacts" in stdout[2]
    assert "times real time" in stdout[2]
    assert sorted(folder.iterdir()) == [png, fif]
    assert mne.io.read_raw_fif(fif, verbose="error").n_times == raw.n_times
    assert png.read_bytes().startswith(b"\x89PNG")
    # A second run says so before it computes anything.
    assert _run("demo", "--out-dir", folder) == 2
    _assert_error(capsys, 2, "virtual_ieeg_raw.fif", "--overwrite")
    assert len(predict.calls) == 1
    assert _run("demo", "--out-dir", folder, "--overwrite") == 0


def test_figure_of_the_demo(predict, raw, tmp_path, monkeypatch):
    """It shows a part of the draw that is saved: one predictor makes both.

    Seen to fail with a cropped recording, and with a predictor for each.
    """
    datasets = types.ModuleType("mne_neuroflow.datasets")
    datasets.load_demo = lambda: raw
    monkeypatch.setitem(sys.modules, "mne_neuroflow.datasets", datasets)
    assert _run("demo", "--out-dir", tmp_path) == 0
    (one,) = Predictor.made
    assert one.inst is raw and one.options == dict(contacts="mtl", random_state=0)
    assert one.spans == [(10.0, 14.0)]
    assert len(predict.calls) == 1


def test_fetch(tmp_path, capsys, monkeypatch):
    from mne_neuroflow.weights import fetch

    monkeypatch.setattr(fetch, "fetch_model", lambda name: tmp_path / name)
    assert _run("fetch", "mtl-v2") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mtl-v2'}\n"


def test_fetch_unknown(capsys, tmp_path, monkeypatch):
    from mne_neuroflow.weights import fetch

    registry = tmp_path / "registry.txt"
    registry.write_text("tiny tiny.safetensors 00 1\n")
    monkeypatch.setattr(fetch, "_REGISTRY", registry)
    assert _run("fetch", "huge") == 2
    _assert_error(capsys, 2, "'tiny'", "'huge'")


def test_version_and_help_are_quick():
    """Neither imports MNE-Python or torch. Seen to fail with an import at the top."""
    code = (
        "import sys; from mne_neuroflow import cli; code = cli.main(sys.argv[1:]);"
        "print(sorted({'mne', 'torch'} & set(sys.modules)), code)"
    )
    for argv in (["--version"], ["--help"], ["predict", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], capture_output=True, text=True
        )
        lines = done.stdout.splitlines()
        assert lines[-1] == "[] 0", done
    version = subprocess.run(
        [sys.executable, "-m", "mne_neuroflow.cli", "--version"],
        capture_output=True,
        text=True,
    )
    assert version.stdout == f"mne-neuroflow {mne_neuroflow.__version__}\n"
