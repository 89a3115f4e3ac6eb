"""Processes, threads and interruptions: the same bits, however a prediction is run."""

import _thread
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import mne
import numpy as np
import pytest
import torch
from torch.autograd import grad_mode
from torch.utils import _contextlib

from mne_neuroflow import NeuroFlow, _threads, estimator, predict_ieeg
from mne_neuroflow.flow import slabs
from mne_neuroflow.virtual import _Source

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
TESTS = Path(__file__).parent


def predict(inst, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The recording has|The scalp's amplitude")
        return predict_ieeg(inst, contacts=POINTS, random_state=0, **options)


# Processes ----------------------------------------------------------------------------

# Run as a program of its own: spawned children import it again.
PROGRAM = """
import asyncio, multiprocessing, os, sys, warnings
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {tests!r})
import mne
import numpy as np
from mne_neuroflow import predict_ieeg

def predict(fname):
    warnings.simplefilter("ignore")
    raw = mne.io.read_raw(fname, verbose="error")
    options = dict(contacts=[[-0.025, -0.02, -0.018]], model={model!r}, random_state=0)
    return predict_ieeg(raw, **options, verbose="error")

def processes(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map_async(predict, {fnames!r}).get(100)

def jobs(backend):
    from joblib import Parallel, delayed
    with_backend = Parallel(n_jobs=2, backend=backend)
    return with_backend(delayed(predict)(fname) for fname in {fnames!r})

def threads():
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(predict, {fnames!r}))

def thread_that_forks():
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(predict, {fnames!r}[0])
        forked = pool.submit(processes, "fork").result(100)
        busy.result(100)
    return forked

async def cell():
    # As in a notebook, whose cells run inside an event loop.
    inside = predict({fnames!r}[0])
    return [inside, await asyncio.to_thread(predict, {fnames!r}[1])]

WAYS = dict(
    fork=lambda: processes("fork"),
    forkserver=lambda: processes("forkserver"),
    spawn=lambda: processes("spawn"),
    loky=lambda: jobs("loky"),
    threading=lambda: jobs("threading"),
    multiprocessing=lambda: jobs("multiprocessing"),
    threads=threads,
    thread_that_forks=thread_that_forks,
    event_loop=lambda: asyncio.run(cell()),
)

if __name__ == "__main__":
    here = [predict(fname).get_data() for fname in {fnames!r}]
    for expected, virtual in zip(here, WAYS[sys.argv[1]](), strict=True):
        # A forked child has one thread, and the last bits go with their number.
        np.testing.assert_allclose(virtual.get_data(), expected, atol=1e-9)
    print("answered", flush=True)
"""
WAYS = (
    "fork forkserver spawn loky threading multiprocessing threads thread_that_forks "
    "event_loop"
).split()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_run(make_raw, model_file, tmp_path, way):
    """In each, lazily read recordings are predicted and come back.

    Seen to hang without the hooks after a fork (fork, multiprocessing and
    thread_that_forks), and to fail where what is computed when it is read cannot be
    pickled.
    """
    if way in ("loky", "threading", "multiprocessing"):
        pytest.importorskip("joblib")
    method = "fork" if "fork" in way else way
    if method in ("fork", "forkserver", "spawn"):
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"there is no {method} here")
    fnames = [str(tmp_path / f"scalp{seed}_raw.fif") for seed in range(2)]
    for seed, fname in enumerate(fnames):
        make_raw(3.0, seed=seed).save(fname, verbose=False)
    program = tmp_path / "program.py"
    places = dict(tests=str(TESTS), model=str(model_file), fnames=fnames)
    program.write_text(PROGRAM.format(**places), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), way],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        timeout=150,
        cwd=TESTS.parent,
    )
    # Threads share MNE-Python's level of the log, and may print it.
    assert done.stdout.endswith(b"answered\n"), done.stderr.decode()


@pytest.mark.usefixtures("small_model")
def test_what_is_not_loaded_is_sent(lazy_raw):
    """Seen to fail with the function that computes: local ones are not pickled."""
    virtual = predict(lazy_raw).crop(1, 4)
    there = pickle.loads(pickle.dumps(virtual))
    assert not there.preload and not there.copy().preload
    np.testing.assert_array_equal(there.times, virtual.times)
    np.testing.assert_array_equal(there.get_data(), virtual.get_data())
    np.testing.assert_array_equal(there.get_data(1, 10, 20), virtual[1, 10:20][0])
    assert there.load_data().annotations == virtual.annotations


# Threads ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_model")
def test_threads_do_not_mix(make_raw):
    """Two predictions at once give what they give one after the other."""
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


# Interruptions ------------------------------------------------------------------------


@contextmanager
def interrupted_after(seconds):
    """Press Ctrl+C after so much processor time, which no other program takes."""
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _interrupt(work, n_moments):
    """Interrupt work at evenly spaced moments; then it must give the same again."""
    right, start = work(), os.times().user
    work()
    length = os.times().user - start
    before, n_interrupted = _left_behind(), 0
    level = mne.utils.logger.level
    for moment in range(n_moments):
        begun = os.times().user
        try:
            with interrupted_after(length * (moment + 0.5) / n_moments):
                work()
            # Without other programs the same work may take half of the time.
            length = min(length, os.times().user - begun)
        except KeyboardInterrupt:
            n_interrupted += 1
        mne.set_log_level(level)  # MNE's own functions may have left theirs
        assert _left_behind(before) == before, moment
    np.testing.assert_array_equal(work(), right)
    assert n_interrupted > n_moments / 2


@_threads.one_blas_thread
def _next_caller():
    """Set right what one left behind that was interrupted on its way out."""


def _left_behind(wanted=None):
    """Return what there is once threads have ended that work on a last slab."""
    if wanted is None:
        time.sleep(0.5)  # threads of the work before may be about to end
    for _ in range(100):
        _next_caller()
        blas = [one["num_threads"] for one in _threads._blas().info()]
        found = blas, torch.get_num_threads(), _thread._count()
        if wanted in (None, found):
            break
        time.sleep(0.05)
    return found


needs_timer = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no timer of processor time"
)


@needs_timer
@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("output", "n_moments"),
    [("sample", 12), pytest.param("sample", 150, marks=pytest.mark.slow), ("mean", 12)],
)
def test_predictions_interrupted(lazy_raw, output, n_moments):
    """Seen to leave linear algebra on one thread, and a thread that never ended."""

    def work():
        return predict(lazy_raw, output=output).get_data()

    _interrupt(work, n_moments)


@needs_timer
@pytest.mark.slow
@pytest.mark.usefixtures("small_model")
def test_fits_interrupted(make_raw, model_file, monkeypatch):
    """The model stays what it was; seen to fail with one that is changed step by step.

    It can be fitted afterwards, to the same bits.
    """
    monkeypatch.setattr(estimator, "_N_DRAWS", 12)
    scalp = make_raw(36.0, 128.0).pick(["F7", "T7", "P7", "Fz", "Cz", "F8", "T8", "P8"])
    info = mne.create_info(["L1", "R1"], 128.0, "seeg", verbose=False)
    data = 3 * scalp.get_data(["T7", "T8"]) + scalp.get_data(["Cz", "F7"])
    ieeg = mne.io.RawArray(data, info, verbose=False)
    places = dict(zip(["L1", "R1"], POINTS, strict=True))
    montage = mne.channels.make_dig_montage(places, coord_frame="mni_tal")
    ieeg.set_montage(montage.add_mni_fiducials(verbose=False), verbose=False)
    model = NeuroFlow.load(model_file)
    untouched = {name: t.clone() for name, t in model.flow.state_dict().items()}

    def work():
        model = NeuroFlow.load(model_file)
        try:
            model.fit(scalp, ieeg, n_steps=2, random_state=0, verbose="error")
        except KeyboardInterrupt:
            assert model.name == "small" and model.contact_fits == []
            for name, tensor in model.flow.state_dict().items():
                assert torch.equal(tensor, untouched[name])
            raise
        return [model.sha256]

    _interrupt(work, 8)


def _interrupted_at(moment, work, is_ours):
    """Press Ctrl+C where Python looks for it; tell whether work had so many places.

    It looks where functions begin and where calls have returned.
    """
    calls = iter(range(moment))

    def profile(frame, event, arg):
        inside = frame.f_back if event == "return" else frame
        here = event in ("call", "c_return", "return") and is_ours(inside)
        # What is called when a reference dies cannot raise.
        here = here and frame.f_code.co_name != "_remove"
        if here and next(calls, None) is None:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_the_last_caller_is_interrupted():
    """After any call on its way in or out: the setting comes back with the next caller.

    Seen to fail when callers are counted: one that is interrupted is inside for ever.
    Seen to wait for ever with an event of `threading`, set but without waking the
    thread.
    """
    ours = {_threads.__file__, threading.__file__}

    @_threads.one_blas_thread
    def work():
        return {one["num_threads"] for one in _threads._blas().info()}

    def is_ours(frame):
        if frame.f_code.co_filename not in ours:
            return False
        while frame is not None and frame.f_code.co_filename != _threads.__file__:
            # A thread that is interrupted while Python starts it may never run.
            if frame.f_code is threading.Thread.start.__code__:
                return False
            frame = frame.f_back
        return frame is not None

    def run():
        before = _left_behind()
        moment = 0
        while _interrupted_at(moment, work, is_ours):
            moment += 1
            assert work() == {1}, moment
            assert _left_behind(before) == before, moment
        return moment

    # A thread has profile functions of its own, and does not keep the test when stuck.
    answers = SimpleQueue()
    threading.Thread(target=lambda: answers.put(run()), daemon=True).start()
    assert answers.get(timeout=60) > 20


@pytest.fixture(params=[1, 2])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_modes_after_an_interruption(n_threads):
    """Seen to leave gradients off for good, where modes were set twice in a thread.

    Seen to leave slabs to threads that had ended, and threads that nobody told to end.
    """
    ours = {slabs.__file__, _contextlib.__file__, grad_mode.__file__}

    def double():
        slabs.in_slabs(lambda first, x: 2 * x, (torch.ones(1, 80, 200, 4),), 0)

    @torch.inference_mode()
    def work():
        with slabs.slab_workers(torch.device("cpu")):
            double()

    def modes():
        n_threads = torch.get_num_threads()
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), n_threads

    def threads_end():
        stop = time.monotonic() + 10
        while _thread._count() > before and time.monotonic() < stop:
            time.sleep(0.001)
        return _thread._count() <= before

    moment, before = 0, _thread._count()
    while _interrupted_at(moment, work, lambda frame: frame.f_code.co_filename in ours):
        assert modes() == (True, False, n_threads), moment
        assert threads_end(), moment
        torch.no_grad()(double)()
        moment += 1
    assert moment > 30


@pytest.mark.usefixtures("small_model")
def test_interrupted_and_used_again(raw, monkeypatch):
    from mne_neuroflow.scalp.check import Scalp

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
