"""Recordings as they come: units, kinds of data, epochs of all kinds, lasting signs."""

import os
import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mne
import numpy as np
import pytest

import mne_neuroflow
from mne_neuroflow import predict_ieeg
from mne_neuroflow.cli import main
from mne_neuroflow.contract import TRAINED
from mne_neuroflow.export import export_edf
from mne_neuroflow.scalp import Scalp, check_scalp
from mne_neuroflow.virtual import SAYS_SO, _Source, provenance

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]


def predict(inst, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The recording has|The scalp's amplitude")
        return predict_ieeg(inst, contacts=POINTS, random_state=0, **options)


# Units of single channels -------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1e3, "millivolts"), (1e6, "microvolts"), (1e9, "nanovolts"), (3e4, "broken")],
)
@pytest.mark.parametrize("n", [1, 2, 10, 20])
def test_single_channels_in_another_unit(raw, factor, unit, n):
    """Seen to fail when amplitudes are compared after the average reference."""
    raw._data[3 : 3 + n] *= factor
    with pytest.raises(ValueError, match=f"F3.*{unit}") as error:
        check_scalp(raw)
    told = str(error.value)
    assert f"{n} of 32 EEG channels" in told and "apply_function" in told
    assert "Fp1" not in told and "O2" not in told


def test_loose_electrodes_are_no_unit(raw):
    raw._data[3] *= 30
    with pytest.warns(RuntimeWarning, match="times as large as the others: F3"):
        check_scalp(raw)


def test_offsets_and_drifts_are_no_unit(raw):
    """Hundreds of millivolts on some channels of a direct-coupled amplifier."""
    raw._data[:5] += 0.2 + np.linspace(0, 0.01, raw.n_times)
    assert len(check_scalp(raw).ch_names) == 32


# Data of another kind -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ch_type", "match"),
    [
        ("csd", "'csd'.*before mne.preprocessing.compute_current_source_density"),
        ("seeg", "'seeg'.*contacts=ieeg.info"),
        ("ecog", "'ecog'.*contacts=ieeg.info"),
        ("mag", "'mag'.*no MEG"),
        ("misc", "'misc'.*set_channel_types"),
    ],
)
def test_other_types(ch_type, match):
    info = mne.create_info([f"X{k}" for k in range(9)], 200.0, ch_type)
    raw = mne.io.RawArray(np.zeros((9, 900)), info, verbose=False)
    with pytest.raises(ValueError, match=match):
        check_scalp(raw)


def test_quantity(raw):
    for ch in raw.info["chs"][:2]:
        ch["unit"] = 202  # volts per metre
    with pytest.raises(ValueError, match="not in volts: Fp1, Fp2"):
        check_scalp(raw)


# Ranges of training -------------------------------------------------------------------


def test_ranges_are_told_as_they_are():
    """README, docstring and check have one table; seen to fail with 129 in it."""
    low, high = TRAINED["electrodes"]
    for text in (predict_ieeg.__doc__, Path("README.rst").read_text("utf-8")):
        assert f"{low} to {high} electrodes" in " ".join(text.split())
    low, high = TRAINED["gain"]
    far = 1e3 * TRAINED["from_temporal_lobes"][1]
    told = " ".join(predict_ieeg.__doc__.split())
    assert f"{low:g} to {high:g} times" in told and f"within {far:g} mm" in told


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("n", "told"), [(5, True), (8, False), (128, False), (129, True)]
)
def test_number_of_electrodes(make_raw, n, told):
    names = mne.channels.make_standard_montage("GSN-HydroCel-256").ch_names
    names = [*names[5:250:2], *names[:n]]
    raw = make_raw(2.0, names=list(dict.fromkeys(names))[:n], montage=False)
    raw.set_montage("GSN-HydroCel-256")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predict_ieeg(raw, contacts=POINTS, random_state=0)
    said = [str(each.message) for each in caught]
    assert any("trained on 8 to 128" in text for text in said) == told
    if told:
        with pytest.raises(ValueError, match=f"has {n} usable"):
            predict_ieeg(raw, contacts=POINTS, random_state=0, on_mismatch="raise")


# Epochs of all kinds ------------------------------------------------------------------


def _recoded(epochs):
    epochs.events[:, 2] = 99
    return epochs


def _shifted(epochs):
    return epochs.shift_time(0.3, relative=True)


EPOCHS = {
    "drawn with replacement": lambda e: e[[0, 0, 3]],
    "out of order": lambda e: e[[3, 0, 2]],
    "event codes rewritten": _recoded,
    "shifted": _shifted,
    "after the event": lambda e: e.copy().crop(0.25, 1.5),
    "concatenated": lambda e: mne.concatenate_epochs([e, e], verbose="error"),
    "one": lambda e: e[2],
    "decimated": lambda e: e.decimate(2, verbose="error"),
    "array": lambda e: mne.EpochsArray(
        e.get_data(copy=True), e.info, tmin=-0.5, verbose=False
    ),
    "no metadata": lambda e: e.reset_drop_log_selection() or e,
}


@pytest.mark.usefixtures("small_model")
@pytest.mark.filterwarnings("error:.*(chronolog|unique|event)")
@pytest.mark.parametrize("kind", EPOCHS)
def test_epochs_of_all_kinds(epochs, kind):
    """What tells epochs apart is kept; seen to fail with `events=inst.events`."""
    inst = EPOCHS[kind](epochs)
    virtual = predict(inst)
    np.testing.assert_array_equal(virtual.events, inst.events)
    np.testing.assert_array_equal(virtual.times, inst.times)
    np.testing.assert_array_equal(virtual.selection, inst.selection)
    assert virtual.event_id == inst.event_id
    assert virtual.drop_log == inst.drop_log
    if inst.metadata is not None:
        assert virtual.metadata.equals(inst.metadata)
    assert virtual.get_data(copy=False).shape == (len(inst), 2, len(inst.times))
    assert np.isfinite(virtual.get_data(copy=False)).all()


@pytest.mark.usefixtures("small_model")
def test_decimated_too_far(epochs):
    low = epochs.copy().decimate(4, verbose="error")
    with pytest.raises(ValueError, match="got 64 Hz.*decimated from 256 Hz.*'decim'"):
        predict(low)


# The sign of a prediction -------------------------------------------------------------


@pytest.mark.usefixtures("small_model")
def test_the_sign_lasts(raw, tmp_path):
    """Seen to fail with the description alone."""
    raw.crop(0, 3)
    raw.set_meas_date(1e9)
    virtual = predict(raw).load_data()
    told = provenance(virtual.info)
    assert SAYS_SO in told and "seed 0" in told and provenance(raw.info) == ""
    saved = tmp_path / "a_raw.fif"
    hidden = virtual.copy().anonymize()
    assert SAYS_SO not in hidden.info["description"]
    hidden.save(saved, verbose=False)
    both = raw.copy().load_data().add_channels([virtual])
    both.save(tmp_path / "b_raw.fif", verbose=False)
    kept = {
        "anonymized": hidden,
        "without a date": virtual.copy().anonymize(daysback=None),
        "saved": mne.io.read_raw(saved, verbose=False),
        "beside the scalp": mne.io.read_raw(tmp_path / "b_raw.fif", verbose=False),
        "anonymized beside the scalp": both.copy().anonymize(),
        "picked": both.copy().anonymize().pick("seeg"),
        "one after the other": mne.concatenate_raws([hidden.copy(), hidden.copy()]),
        "resampled": hidden.copy().resample(128, verbose=False),
        "cut into epochs": mne.make_fixed_length_epochs(hidden, 1.0, verbose=False),
    }
    for what, each in kept.items():
        assert SAYS_SO in provenance(each.info), what
    for what in ("anonymized", "saved", "picked"):
        pytest.importorskip("edfio")
        file = export_edf(kept[what], tmp_path / f"{what}.edf")
        back = mne.io.read_raw_edf(file, verbose=False)
        assert SAYS_SO in back.annotations.description[0]
    # MNE's own functions are not surprised by the record.
    mne.compute_rank(both, rank="info", verbose=False)
    assert repr(both.info)


@pytest.mark.usefixtures("small_model")
def test_epochs_keep_the_sign(epochs, tmp_path):
    virtual = predict(epochs).anonymize()
    virtual.save(tmp_path / "v-epo.fif", verbose=False)
    assert SAYS_SO in provenance(mne.read_epochs(tmp_path / "v-epo.fif").info)
    assert SAYS_SO in provenance(virtual.average(picks="seeg").info)


# Processes and threads ----------------------------------------------------------------

FORK = """
import sys, multiprocessing
sys.path.insert(0, "tests")
import numpy as np
from conftest import build_raw
from mne_neuroflow import predict_ieeg

raw, model = build_raw(3.0), sys.argv[1]

def predict(_):
    options = dict(contacts=[[-0.025, -0.02, -0.018]], model=model, random_state=0)
    options |= dict(on_mismatch="ignore", verbose="error")
    return predict_ieeg(raw, **options).get_data()

if __name__ == "__main__":
    here = predict(0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for there in pool.map_async(predict, range(2)).get(50):
            np.testing.assert_allclose(there, here, atol=1e-9)
    print("answered")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_forked_children_answer(model_file):
    """Seen to hang without the hook after a fork, where there are two processors."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(model_file)],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        timeout=90,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout == b"answered\n", done.stderr.decode()


@pytest.mark.usefixtures("small_model")
def test_threads_do_not_mix(make_raw):
    """Two predictions at once, and one that two threads read."""
    raws = [make_raw(3.0, seed=seed) for seed in range(2)]
    alone = [predict(raw).get_data() for raw in raws]
    level = mne.utils.logger.level  # MNE sets and resets it for all threads at once
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(predict, raws))
    mne.set_log_level(level)
    for one, both in zip(alone, together, strict=True):
        np.testing.assert_array_equal(both.get_data(), one)


def test_one_source_and_two_threads(raw):
    """Seen to fail when a chunk is looked up again after it was computed."""
    meet = threading.Barrier(2, timeout=20)

    def compute(start, stop):
        meet.wait()
        return np.full((1, stop - start), float(start))

    source = _Source(compute, {"sfreq": 1.0, "nchan": 1}, raw)
    source._length = 100
    with ThreadPoolExecutor(2) as pool:
        chunks = list(pool.map(source._chunk, range(16)))
    assert [chunk[0, 0] for chunk in chunks] == [100.0 * k for k in range(16)]


@pytest.mark.usefixtures("small_model")
def test_interrupted_and_used_again(raw, monkeypatch):
    right = predict(raw).get_data()
    for moment in range(1, 4):
        calls = iter(range(moment))

        def interrupted(*args, read=Scalp.to_model, calls=calls):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return read(*args)

        with monkeypatch.context() as patch:
            patch.setattr(Scalp, "to_model", interrupted)
            with pytest.raises(KeyboardInterrupt):
                predict(raw, output="mean", n_draws=4)
                predict(raw, output="mean", n_draws=4)
        np.testing.assert_array_equal(predict(raw).get_data(), right)


# Consoles and pipes -------------------------------------------------------------------

RUN = "import sys; from mne_neuroflow.cli import main; sys.exit(main())"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_console_that_lacks_letters(tmp_path, encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", RUN, "export", "no\u982d_raw.fif", "x.edf"]
    done = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path)
    assert done.returncode == 2
    told = done.stderr.decode(encoding)
    assert "does not exist" in told and "Traceback" not in told
    assert ("\u982d" if encoding == "utf-8" else "\\u982d") in told


def test_closed_pipe(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "sys-info"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait() == 0, told
    assert not re.search("Traceback|BrokenPipe", told)
    assert mne_neuroflow.__version__


@pytest.mark.usefixtures("small_model")
def test_epochs_of_eeglab_on_the_command_line(epochs, tmp_path, capsys):
    pytest.importorskip("eeglabio")
    epochs.export(tmp_path / "scalp.set", verbose="error")
    command = ["--quiet", "predict", str(tmp_path / "scalp.set"), "--seed", "0"]
    command += ["--contacts", "mtl-core"]
    assert main([*command, str(tmp_path / "v_raw.fif")]) == 2
    assert "must end with -epo.fif" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "v-epo.fif")]) == 0, capsys.readouterr().err
    virtual = mne.read_epochs(tmp_path / "v-epo.fif", verbose=False)
    np.testing.assert_array_equal(len(virtual), len(epochs))
