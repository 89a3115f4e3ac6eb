"""Faults: processes that are killed, disks that are full, two processes at once.

Each command is run in a process that is killed at evenly spaced moments, with and
without an earlier result. The files must then be the earlier ones, the new ones or
none, never half of one, and the next run must give the same bits. The same holds for
files that may not grow beyond a limit, as on a full disk, and for two processes that
write to the same place at the same time.

    python benchmarks/faults.py --out doc/decisions/faults.md

The model is a small one with random weights. About fifteen minutes on one core.
"""

import argparse
import collections
import functools
import hashlib
import http.server
import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import mne
import numpy as np
import pandas
from machine import machine

from mne_neuroflow import NeuroFlow, estimator, simulate_pair
from mne_neuroflow.cli import main
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.weights import fetch
from mne_neuroflow.weights.checkpoint import load_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
OLD, NEW = 1, 2  # seeds of the earlier result and of the one that takes its place


# What is done -------------------------------------------------------------------------


def predict(place):
    """Prepare the command predict, which writes a FIF file."""
    scalp, model = place / "scalp_raw.fif", small_model(place)
    raw = load_demo(verbose="error").crop(0, 20)
    raw.save(scalp, verbose="error")

    def work(folder, seed):
        words = ["predict", scalp, folder / "virtual_raw.fif", "--overwrite"]
        words += ["--contacts", "mtl-core", "--model", model, "--seed", seed]
        return main(["--quiet", *map(str, words)])

    return work


def export(place, out, *options):
    """Prepare the command export, which writes an EDF file or a BIDS dataset."""
    predicting, folders = predict(place), {}
    for seed in (OLD, NEW):
        folders[seed] = place / str(seed)
        folders[seed].mkdir()
        predicting(folders[seed], seed)

    def work(folder, seed):
        virtual = folders[seed] / "virtual_raw.fif"
        words = ["export", virtual, folder / out, "--overwrite", *options]
        return main(["--quiet", *map(str, words)])

    return work


def fit(place):
    """Prepare a fit to pairs whose model is saved."""
    fname = small_model(place)
    pair = simulate_pair("10", POINTS, duration=31, random_state=1, verbose="error")
    estimator._N_DRAWS = 8

    def work(folder, seed):
        model = NeuroFlow.load(fname)
        options = dict(n_steps=1, on_mismatch="ignore", verbose="error")
        model.fit(*pair, random_state=seed, **options)
        model.save(folder / "fitted.safetensors")
        return 0

    return work


def benchmark(place):
    """Prepare the command benchmark, which goes on where it was stopped."""
    pairs = place / "pairs"
    pairs.mkdir()
    for session in (1, 2):
        scalp, ieeg, *_ = simulate_pair(
            "10", POINTS, duration=12, session=session, random_state=1
        )
        scalp.save(pairs / f"A_ses-{session}_eeg.fif", verbose="error")
        ieeg.save(pairs / f"A_ses-{session}_ieeg.fif", verbose="error")

    def work(folder, seed):
        # An earlier run in the folder must have the same settings, and so seed.
        words = ["benchmark", "--data", pairs, "--out", folder / "run"]
        words += ["--methods", "prior", "spatial-posterior", "--draws", "8"]
        return main(["--quiet", *map(str, words)])

    return work


def download(place):
    """Prepare the command fetch, from a server on this machine."""
    served = place / "served"
    served.mkdir()
    lines = []
    for name, size in (("tiny.safetensors", 30_000_000), ("tiny.json", 3000)):
        body = np.random.default_rng(size).bytes(size)
        (served / name).write_bytes(body)
        lines.append(f"tiny {name} {hashlib.sha256(body).hexdigest()} {size}\n")
    registry, url = place / "registry.txt", serve(served)
    registry.write_text("".join(lines), "utf-8")

    def work(folder, seed):
        fetch._REGISTRY = registry
        os.environ |= {"MNE_DATA": str(folder), fetch.BASE_URL_KEY: url}
        return main(["--quiet", "fetch", "tiny"])

    return work


CASES = {
    "`predict`": predict,
    "`export` to EDF": functools.partial(export, out="virtual.edf"),
    "`export` to BIDS": lambda place: export(place, "dataset", "--subject", "01"),
    "`fit` and `save`": fit,
    "`benchmark`": benchmark,
    "`fetch`": download,
}
# In which a whole result is not replaced by another one.
_KEPT = ("`benchmark`", "`fetch`")


def small_model(place):
    """Save a small flow with random weights, once."""
    from small_model import save_small_model

    fname = place / "small.safetensors"
    return fname if fname.is_file() else save_small_model(place)


def serve(folder):
    """Serve a folder in a process of its own, which ends with this one."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *args: None  # of clients that were killed
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            server.timeout = 1
            server.handle_request()
        os._exit(0)
    server.server_close()
    return f"http://127.0.0.1:{server.server_address[1]}"


# What is there ------------------------------------------------------------------------


def contents(folder):
    """Return what visible files hold, by name; reading half of one is an error."""
    return {
        str(fname.relative_to(folder)): content(fname)
        for fname in sorted(folder.rglob("*"))
        if fname.is_file() and not is_hidden(fname, folder)
    }


def is_hidden(fname, folder):
    return any(part.startswith(".") for part in fname.relative_to(folder).parts)


def content(fname):
    """Hash what a file holds, without the times at which it was written."""
    if fname.suffix == ".fif":
        return digest(mne.io.read_raw(fname, verbose="error").get_data().tobytes())
    if fname.name == "fitted.safetensors":
        card = fname.with_suffix(".json")
        return load_checkpoint(fname)[1]["sha256"] if card.is_file() else None
    if fname.name == "fitted.json":
        return None  # checked with the weights
    if fname.suffix == ".csv":
        table = pandas.read_csv(fname)
        table = table.drop(columns=["fit_time", "sample_time"], errors="ignore")
        return digest(table.to_csv().encode())
    if fname.suffix == ".npz":
        with np.load(fname) as arrays:
            return digest(*(arrays[name].tobytes() for name in arrays))
    if fname.suffix == ".html":
        return fname.read_text("utf-8").rstrip().endswith("</html>")
    if fname.name == "dataset_description.json":
        # Tells of the first recording that was written.
        about = json.loads(fname.read_text("utf-8"))
        del about["GeneratedBy"]
        return about
    return digest(fname.read_bytes())


def digest(*parts):
    return hashlib.sha256(b"".join(parts)).hexdigest()


def state_of(folder, old, new):
    """Tell whether the old or the new result is there, or none, or half of one."""
    try:
        found = contents(folder)
    except Exception as err:
        return f"half-written: {type(err).__name__} {err}"
    if found == new:
        return "new"
    wrong = [name for name in found if found[name] not in (old.get(name), new[name])]
    if wrong:
        return f"half-written: {', '.join(wrong)}"
    return "old or none"


# What goes wrong ----------------------------------------------------------------------


def start(work, *args, limit=None):
    """Run in a process of its own, which says nothing."""
    child = os.fork()
    if child:
        return child
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1), os.dup2(nothing, 2)
        warnings.simplefilter("ignore")
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        code = work(*args)
    except BaseException:
        code = 1
    os._exit(code)


def finish(child):
    """Wait for a process and return its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Trial:
    """One case with what it gives when nothing goes wrong.

    Parameters
    ----------
    name : str
        Of :data:`CASES`.
    place : Path
        A folder for what it needs.
    """

    def __init__(self, name, place):
        self.name, self.work, self.place = name, CASES[name](place), place
        self.counts, self.found, self.expected = collections.Counter(), [], {}
        for seed in (OLD, NEW):
            with fresh_folder(place) as folder:
                begin = time.perf_counter()
                code = finish(start(self.work, folder, seed))
                self.seconds = time.perf_counter() - begin
                if code:
                    raise RuntimeError(f"{name} fails by itself, with code {code}.")
                self.expected[seed] = contents(folder)
                sizes = [f.stat().st_size for f in folder.rglob("*") if f.is_file()]
        self.largest = max(sizes)

    def kill(self, share, earlier):
        """Kill it after a share of its time; then let it run."""
        with self._over(earlier) as folder:
            child = start(self.work, folder, NEW)
            time.sleep(share * self.seconds)
            os.kill(child, signal.SIGKILL)
            finish(child)
            self._note("killed", folder, earlier)

    def fill(self, share, earlier):
        """Let no file grow beyond a share of the largest one; then let it run."""
        with self._over(earlier) as folder:
            limit = int(share * self.largest)
            code = finish(start(self.work, folder, NEW, limit=limit))
            if code not in (0, 1):
                self.found.append(f"full disk: exit code {code}")
            self._note("full disk", folder, earlier)

    def meet(self):
        """Let two processes write to the same place."""
        with fresh_folder(self.place) as folder:
            children = [start(self.work, folder, seed) for seed in (OLD, NEW)]
            codes = [finish(child) for child in children]
            came = [state_of(folder, {}, each) for each in self.expected.values()]
            whole = "new" in came and codes == [0, 0]
            self.counts["two at once", "whole" if whole else "wrong"] += 1
            if not whole:
                self.found.append(f"two at once: {came}, exit codes {codes}")

    @contextmanager
    def _over(self, earlier):
        with fresh_folder(self.place) as folder:
            if earlier:
                finish(start(self.work, folder, OLD))
            yield folder

    def _note(self, fault, folder, earlier):
        """Count what is there, and what the next run makes of it."""
        old = self.expected[OLD] if earlier else {}
        came = state_of(folder, old, self.expected[NEW])
        self.counts[fault, came.partition(":")[0]] += 1
        if came.startswith("half"):
            self.found.append(f"{fault}: {came}")
        code = finish(start(self.work, folder, NEW))
        again = state_of(folder, {}, self.expected[NEW])
        hidden = [f.name for f in folder.rglob("*") if is_hidden(f, folder)]
        left = [name for name in hidden if name not in _OF_BIDS]
        if (code, again, left) == (0, "new", []):
            self.counts[fault, "same bits"] += 1
        else:
            self.found.append(f"{fault}, then code {code}, {again}, left {left}")


_OF_BIDS = (".bidsignore",)


@contextmanager
def fresh_folder(place):
    """Make a folder for a trial."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def run(names, n_moments, n_limits, n_meetings):
    """Try all faults.

    Parameters
    ----------
    names : sequence of str
        Of :data:`CASES`.
    n_moments : int
        Number of moments at which it is killed.
    n_limits : int
        Number of limits of the size of files.
    n_meetings : int
        How often two processes work at once.

    Yields
    ------
    trial : Trial
        Of each case.
    """
    for name in names:
        with fresh_folder(None) as place:
            trial = Trial(name, place)
            for n_trials, fault in ((n_moments, trial.kill), (n_limits, trial.fill)):
                for number in range(n_trials):
                    earlier = number % 2 == 0 and name not in _KEPT
                    fault((number + 0.5) / n_trials, earlier)
            for _ in range(n_meetings):
                trial.meet()
        yield trial


# The page -----------------------------------------------------------------------------


def page(trials, n_moments, n_limits):
    """Write what was tried and what came."""
    facts = machine()
    lines = [
        "# Faults",
        "",
        f"Every command was killed (`kill -9`) at {n_moments} evenly spaced moments,",
        f"run with {n_limits} limits of the size of files, as on a full disk, and run",
        "twice at the same time with the same output. Where a command can replace an",
        "earlier result, half of the trials did. *Half-written* counts outputs with a",
        "file that is neither the earlier nor the new one. *Same bits* counts runs",
        "after the fault that gave the same result as without it and left nothing.",
        "",
        f"`{facts['command']}`; {facts['machine']}; {facts['versions']}.",
        "",
        "| Command | Fault | old or none | new | half-written | same bits |",
        "|---|---|---|---|---|---|",
    ]
    for trial in trials:
        for fault in ("killed", "full disk"):
            columns = ("old or none", "new", "half-written", "same bits")
            row = " | ".join(str(trial.counts[fault, column]) for column in columns)
            lines.append(f"| {trial.name} | {fault} | {row} |")
    lines += ["", "| Command | two at once | whole |", "|---|---|---|"]
    for trial in trials:
        whole, wrong = (trial.counts["two at once", w] for w in ("whole", "wrong"))
        lines.append(f"| {trial.name} | {whole + wrong} | {whole} |")
    found = [f"- {trial.name}, {what}" for trial in trials for what in trial.found]
    lines += ["", "What went wrong:", *found] if found else ["", "Nothing went wrong."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--limits", type=int, default=10, help="of the size of files")
    parser.add_argument("--meetings", type=int, default=5, help="of two processes")
    parser.add_argument("--out", type=Path, help="the page to write")
    options = parser.parse_args()
    mne.set_log_level("ERROR")
    trials = []
    for trial in run(CASES, options.moments, options.limits, options.meetings):
        trials.append(trial)
        print(trial.name, dict(trial.counts), *trial.found, sep="\n", flush=True)
    text = page(trials, options.moments, options.limits)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)
