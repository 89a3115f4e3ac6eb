"""Measure cohorts: overhead, workers, memory, long recordings, group level and faults.

Run ``python benchmarks/cohort.py``: a thousand recordings of a minute, a day of 64
channels and each fault ten times. This takes a day on two cores, most of it for the
part ``speed``, which needs free cores. Parts can be run alone: ``python
benchmarks/cohort.py speed --recordings 8`` takes 15 minutes. The parts ``many``,
``day`` and those of faults predict three contacts, with 19 draws and without the
control. The part ``disk`` mounts a small disk, for which it must run as root. The part
``corpus`` estimates the time for a large corpus from a few recordings. A run that takes
longer than ``--limit`` seconds is killed and counted as wrong. ``--record`` writes the
figures of each part to a section of ``doc/figures.json``.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import psutil
from figures import record
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.cohort.run import _client as start_client
from mne_neuroflow.weights.model import find_model

# Parts, and the names of their sections in doc/figures.json.
PARTS = {
    "speed": "overhead and number of workers",
    "many": "many recordings",
    "day": "a long recording",
    "group": "group level",
    "worker": "a worker is killed",
    "client": "the client is killed",
    "scheduler": "the scheduler is killed",
    "disk": "the disk is full",
    "files": "files that cannot be predicted",
    "two": "two runs into one folder",
    "corpus": "a large corpus",
    "truth": "truth",
}
NAMES = (
    "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 AF3 AF4 F1 F2 F5 F6 "
    "FC1 FC2 FC3 FC4 FC5 FC6 FT7 FT8 C1 C2 C5 C6 CP1 CP2 CP3 CP4 CP5 CP6 TP7 TP8 P1 P2 "
    "P5 P6 PO3 PO4 PO7 PO8 POz Oz CPz FCz Fpz AFz AF7 AF8 F9 F10 P9"
).split()
SFREQ = 128.0
LIMIT = 7 * 86400.0  # maximum duration of a run in seconds
ENDED = 60.0  # seconds for workers to end after their client was killed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--contacts", default="mtl")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--limit", type=float, default=7 * 86400.0, metavar="S")
    parser.add_argument("--device", default="cpu", help="for the part corpus")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    global LIMIT
    LIMIT = options.limit
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            print(f"\n{part}", flush=True)
            place = Path(folder) / part
            place.mkdir()
            figures = globals()[f"measure_{part}"](place, options)
            shutil.rmtree(place)
            if options.record:
                section, weights = f"cohorts, {PARTS[part]}", find_model("mtl-v2")
                record(section, figures, weights=weights.sha256)


# Recordings ---------------------------------------------------------------------------


def write_dataset(root, n_recordings, seconds, n_channels=19):
    """Write noise as BIDS EDF: two sessions a person."""
    root.mkdir(parents=True)
    about = dict(Name="noise", BIDSVersion="1.10.0", DatasetType="raw")
    (root / "dataset_description.json").write_text(json.dumps(about))
    for k in range(n_recordings):
        name = f"sub-{k // 2:05d}_ses-{k % 2}"
        folder = root / name.replace("_", "/") / "eeg"
        folder.mkdir(parents=True)
        write_recording(folder / f"{name}_task-rest_eeg.edf", seconds, n_channels, k)
    table = pd.DataFrame({"participant_id": [f"sub-{k:05d}" for k in range(10_000)]})
    table["group"], table["age"] = np.arange(10_000) % 2, 20 + np.arange(10_000) % 50
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    return root


def write_recording(fname, seconds, n_channels, seed):
    """Write noise that falls with frequency."""
    rng = np.random.default_rng(seed)
    n_times = int(seconds * SFREQ)
    data = rng.standard_normal((n_channels, n_times), np.float32).cumsum(axis=1)
    slow = data - mne.filter.filter_data(
        data.astype(float), SFREQ, 0.5, None, verbose="error"
    )
    data = data - slow
    data *= 2e-5 / data.std(axis=1, keepdims=True)
    info = mne.create_info(NAMES[:n_channels], SFREQ, "eeg")
    raw = mne.io.RawArray(data, info, verbose="error")
    mne.export.export_raw(fname, raw, physical_range=(-400, 400), verbose="error")


def write_long_recording(fname, hours, n_channels):
    """Write hours of noise, with one part at a time in memory."""
    part, n_parts, n_records = fname.with_name("part.edf"), max(1, round(hours)), 0
    with fname.open("w+b") as file:
        for k in range(n_parts):
            write_recording(part, 3600 * hours / n_parts, n_channels, k)
            content = part.read_bytes()
            part.unlink()
            n_records += int(content[236:244])
            file.write(content[int(content[184:192]) if k else 0 :])
        file.seek(236)
        file.write(f"{n_records:<8}".encode())


RUN = """
import json, resource, sys, time
import mne_neuroflow
if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    start = time.perf_counter()
    status = mne_neuroflow.predict_cohort(verbose="error", **options)
    seconds = time.perf_counter() - start
    client, workers = map(resource.getrusage,
                          (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = [one.ru_utime + one.ru_stime for one in (client, workers)]
    print(json.dumps(dict(seconds=seconds, cpu=sum(cpu), client=cpu[0],
                          largest=workers.ru_maxrss / 2**10,
                          states=status["state"].tolist(),
                          memory=status["peak_memory"].tolist(),
                          duration=status["duration"].tolist())))
"""


def start(folder, root, out, **options):
    """Start a cohort in a separate process, which writes to a log."""
    script, log = folder / "run.py", folder / f"{time.time_ns()}.log"
    script.write_text(RUN)
    options = dict(root=str(root), out=str(out)) | options
    # Not a pipe: workers of a killed process would keep it open.
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, script, json.dumps(options)], stdout=file, stderr=file
        )
    process.log = log
    return process


def wait(process):
    """Wait for a process, and return whether it ended by itself."""
    try:
        process.wait(LIMIT)
        return True
    except subprocess.TimeoutExpired:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.wait()
        return False


def run(*args, **options):
    """Run a cohort in a separate process, and return its results."""
    process = start(*args, **options)
    wait(process)
    text = process.log.read_text()
    found = [line for line in text.splitlines() if line.startswith('{"seconds"')]
    if not found:
        raise RuntimeError(text[-2000:])
    return json.loads(found[-1])


def tables(out):
    """Read all tables, by name."""
    files = sorted(Path(out).glob("sub-*/**/[!.]*.parquet"))
    return {file.name: pd.read_parquet(file) for file in files}


def differing(one, other):
    """Count tables that are not identical to the last bit."""
    names = set(one) | set(other)
    return sum(
        name not in one or name not in other or not one[name].equals(other[name])
        for name in names
    )


# Speed and memory ---------------------------------------------------------------------

BARE = """
import sys, time
import mne, torch
import mne_neuroflow
from mne_neuroflow.cohort.control import RawShifted
from mne_neuroflow.scalp.check import check_scalp
torch.set_num_threads(1)
mne.set_log_level("error")
for fname in map(str.strip, sys.stdin):
    start = time.process_time()
    raw = mne.io.read_raw(fname)
    for inst in (raw, RawShifted(check_scalp(raw), 0)):
        mne_neuroflow.sample_ieeg(inst, 20, contacts=sys.argv[1], random_state=0)
    print(time.process_time() - start, flush=True)
"""


def measure_speed(folder, options):
    """Compare cohorts with the same predictions alone, and numbers of workers."""
    root = write_dataset(folder / "bids", options.recordings, options.seconds)
    print(f"{options.recordings} recordings of {options.seconds:g} s, 19 channels, "
          f"{options.contacts}, 20 draws, with the control")  # fmt: skip
    common = dict(contacts=options.contacts, specparam=False)
    alone, together = np.transpose(measure_in_turns(root, folder / "turns", common))
    ratio = together / alone
    overhead = 100 * (ratio.mean() - 1)
    error = 100 * ratio.std(ddof=1) / np.sqrt(len(ratio))
    one, one_error = alone.mean(), alone.std(ddof=1) / np.sqrt(len(alone))
    print(f"bare predictions {one:.2f} ± {one_error:.2f} s of processors each; the "
          f"cohort takes {overhead:+.1f} ± {error:.1f} % (wanted 10 %)")  # fmt: skip
    figures = {
        "recordings": options.recordings,
        "bare prediction, s": (one, one_error),
        "recording of a cohort, s": together.mean(),
        "overhead, %": (overhead, error),
    }
    return figures | compare_workers(folder, root, options.workers, common)


def measure_in_turns(root, out, common):
    """Predict each person alone and in a cohort, in turns.

    The speed of a machine that others share changes within minutes. Neighbouring
    predictions are compared, so that this is not taken for overhead.

    Returns
    -------
    seconds : list of tuple of float
        Seconds of processors for a recording, alone and in a cohort: of client,
        scheduler and worker, less those of a call that finds everything done. The first
        person, for whom all of them start, is left out.
    """
    command = [sys.executable, "-c", BARE, common["contacts"]]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found = []
    with (
        subprocess.Popen(command, **pipes) as bare,
        start_client(None, n_jobs=1, retries=0) as client,
    ):

        def alone(fname):
            bare.stdin.write(f"{fname}\n")
            bare.stdin.flush()
            return float(bare.stdout.readline())

        def together(subject):
            before = _seconds_of_all(bare.pid)
            mne_neuroflow.predict_cohort(
                root, out, subjects=[subject], scheduler=client, verbose="error",
                **common
            )  # fmt: skip
            return _seconds_of_all(bare.pid) - before

        for person in sorted(root.glob("sub-*")):
            files, subject = sorted(person.rglob("*.edf")), person.name[4:]
            # One of two sessions before the cohort, and the other one after it.
            seconds = [alone(files[0])]
            taken = together(subject)
            seconds += [alone(fname) for fname in files[1:]]
            taken = (taken - together(subject)) / len(files)
            found.append((np.mean(seconds), taken))
            print(f"  {found[-1][0]:.2f} s alone, {found[-1][1]:.2f} s in a cohort",
                  flush=True)  # fmt: skip
        bare.stdin.close()
    return found[1:]


def _seconds_of_all(but):
    """Return the seconds of processors of this process and its children but one."""
    here = psutil.Process()
    family = [here, *here.children(recursive=True)]
    times = [one.cpu_times() for one in family if one.pid != but]
    return sum(time.user + time.system for time in times)


def compare_workers(folder, root, n_workers, common):
    """Predict one session of four people with different numbers of workers."""
    labels = [f"{k:05d}" for k in range(4)]
    results = {}
    for n_jobs in n_workers:
        some = dict(subjects=labels, sessions=["0"], n_jobs=n_jobs)
        results[n_jobs] = result = run(folder, root, folder / f"out{n_jobs}", **some,
                                       **common)  # fmt: skip
        print(
            f"{n_jobs} workers: {result['seconds']:.0f} s, {result['cpu']:.0f} s of "
            f"processors ({result['client']:.0f} s client and scheduler), largest "
            f"worker {result['largest']:.0f} MB, {result['states'].count('done')} done",
            flush=True,
        )
    first = n_workers[0]
    # A cohort of a person has the same startup.
    some = dict(subjects=labels[:1], sessions=["0"], n_jobs=first)
    start = run(folder, root, folder / "start", **some, **common)["seconds"]
    further = (results[first]["seconds"] - start) / (len(labels) - 1)
    figures = {"worker, GB": max(each["largest"] for each in results.values()) / 1024}
    for n_jobs in n_workers[1:]:
        one, more = (results[n]["seconds"] - (start - further) for n in (first, n_jobs))
        bits = differing(*(tables(folder / f"out{n}") for n in (first, n_jobs)))
        figures |= {f"{n_jobs} workers, times one": one / more,
                    f"{n_jobs} workers, tables that differ": bits}  # fmt: skip
        print(f"{n_jobs} workers are {one / more:.2f} times one (wanted 1.8 for two on "
              f"two free cores); {bits} tables differ")  # fmt: skip
    return figures


def measure_many(folder, options):
    """Follow the memory of one worker over many recordings."""
    root = write_dataset(folder / "bids", options.recordings, options.seconds)
    result = run(folder, root, folder / "out", n_jobs=1, **FAST)
    # One worker takes the recordings in their order.
    memory = result["memory"]
    early, late = memory[len(memory) // 10], memory[-1]
    n_done = result["states"].count("done")
    print(f"{options.recordings} recordings of {options.seconds:g} s: {n_done} done in "
          f"{result['seconds']:.0f} s, {result['cpu']:.0f} s of processors, of which "
          f"{result['client']:.0f} s client and scheduler; peak memory of the worker "
          f"{early} MB after a tenth, {late} MB after all")  # fmt: skip
    return {
        "recordings": len(memory),
        "done": n_done,
        "processors, s a recording": result["cpu"] / len(memory),
        "client and scheduler, s a recording": result["client"] / len(memory),
        "worker after a tenth, GB": early / 1024,
        "worker after all, GB": late / 1024,
    }


def measure_day(folder, options):
    """Divide a long recording between one and two workers: memory and identity."""
    root = write_dataset(folder / "bids", 0, 0)
    figures, all_tables = {"hours": round(options.hours)}, []
    quarter, whole = options.hours / 4, options.hours
    runs = [(quarter, options.workers[0]), *((whole, n) for n in options.workers)]
    for hours, n_jobs in runs:
        name = f"sub-{hours:g}".replace(".", "p")
        fname = root / name / "eeg" / f"{name}_task-rest_eeg.edf"
        if not fname.exists():
            fname.parent.mkdir(parents=True)
            write_long_recording(fname, hours, 64)
        out = folder / f"{name}-{n_jobs}"
        result = run(folder, root, out, subjects=[name], n_jobs=n_jobs, **FAST)
        if hours == whole:
            all_tables.append(tables(out))
        print(f"{hours:g} h of 64 channels, {n_jobs} workers: "
              f"{result['states'].count('done')} done, {result['seconds']:.0f} s, "
              f"largest worker {result['largest']:.0f} MB", flush=True)  # fmt: skip
        length = "a quarter" if hours == quarter else "all"
        workers = f"{n_jobs} worker{'s' * (n_jobs > 1)}"
        figures[f"{length}, {workers}, GB"] = result["largest"] / 1024
        figures[f"{length}, {workers}, s"] = round(result["seconds"])
    bits = sum(differing(all_tables[0], one) for one in all_tables[1:])
    print(f"tables that differ: {bits} of {len(all_tables[0])}")
    return figures | {"tables that differ": bits}


GROUP = """
import resource, sys, time
import mne_neuroflow
start = time.perf_counter()
effects = mne_neuroflow.analyze_cohort(sys.argv[1], sys.argv[2], verbose="error")
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, len(effects))
"""


def measure_group(folder, options):
    """Analyze many recordings of 80 contacts, which are copies of one with noise."""
    from mne_neuroflow.cohort.find import find_recordings
    from mne_neuroflow.cohort.folder import Folder
    from mne_neuroflow.cohort.participant import new_row
    from mne_neuroflow.head.contacts import make_contacts

    root = write_dataset(folder / "bids", 1, 12.0)
    run(folder, root, folder / "one", n_jobs=1)
    (table,) = tables(folder / "one").values()
    out, rng = Folder(folder / "out"), np.random.default_rng(0)
    out.create(root, {}, make_contacts("mtl"))
    (found,) = find_recordings(root)
    draws = np.stack(table["draws"][table["draws"].str.len() > 1])
    for k in range(options.recordings):
        who, session = f"{k // 2:05d}", str(k % 2)
        one = found._replace(name=f"sub-{who}_ses-{session}_task-rest")
        new = table.assign(recording=one.name, participant=who, session=session)
        noisy = (draws + rng.normal(size=draws.shape)).astype(np.float32)
        rows = new.index[new["draws"].str.len() > 1]
        new.loc[rows, "draws"] = pd.Series(list(noisy), rows)
        out.table(one).parent.mkdir(parents=True)
        new.to_parquet(out.table(one), index=False)
        out.record(new_row(one, state="done", duration=60.0))
    formula = "power ~ group + age + (1|participant)"
    command = [sys.executable, "-c", GROUP, str(out.root), formula]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, cpu, peak, n_effects = map(float, done.stdout.split())
    print(f"{options.recordings} recordings x 80 contacts: {seconds:.1f} s, {cpu:.1f} "
          f"s of processors, {peak:.2f} GB (wanted 60 s and 2 GB), {n_effects:.0f} "
          "effects")  # fmt: skip
    return {
        "recordings": options.recordings,
        "elapsed, s": round(seconds),
        "processors, s": round(cpu),
        "memory, GB": peak,
    }


# Faults -------------------------------------------------------------------------------

FEW = [[-0.025, -0.02, -0.018], [-0.03, -0.01, -0.02], [0.025, -0.02, -0.018]]
FAST = dict(contacts=FEW, n_draws=19, control=False, specparam=False)


def _small(folder, n=6, seconds=12.0):
    root = write_dataset(folder / "bids", n, seconds)
    run_here(root, folder / "right")
    return root, tables(folder / "right")


@cache
def _worker_here():
    """Start a worker that lasts for the whole benchmark, because starts take long."""
    from distributed import Client

    return Client(n_workers=1, threads_per_worker=1, dashboard_address=":0")


def run_here(root, out):
    """Run a cohort from this process, and return its status."""
    return mne_neuroflow.predict_cohort(
        root, out, scheduler=_worker_here(), verbose="error", **FAST
    )


def _when_some_are_done(out, process):
    """Wait for the first result, or for the process to end."""
    end = time.monotonic() + LIMIT
    while not any((Path(out) / "status").glob("[!.]*.json")):
        time.sleep(0.02)
        if process.poll() is not None or time.monotonic() > end:
            return


def _repeat(what, options, once):
    """Count repetitions in which everything was right; errors are wrong."""
    n_right = 0
    for k in range(options.repeats):
        try:
            result = once(k)
        except Exception as err:
            result = {str(err)[-500:]: False}
        n_right += all(result.values())
        for name in [name for name, right in result.items() if not right]:
            print(f"  {k}: not so: {name}", flush=True)
    print(f"{what}: {n_right} of {options.repeats} right", flush=True)
    return {"runs": options.repeats, "runs in which everything was right": n_right}


def _is_right(out, right):
    rows = pd.read_csv(Path(out) / "status.tsv", sep="\t")
    return {
        "tables are those of a run without faults": not differing(tables(out), right),
        "all are done": bool((rows["state"] == "done").all()),
        "nothing is left half written": not _drafts(out),
    }


def _drafts(out):
    """List files with temporary names."""
    return [file for file in Path(out).rglob(".*") if file.name != ".bidsignore"]


def _is_kept(out, right):
    """Check whether the files before the end are complete and right."""
    partial = tables(out)
    rows = pd.read_csv(Path(out) / "status.tsv", sep="\t")
    return {
        "what is there is whole": all(partial[n].equals(right[n]) for n in partial),
        "the status has all recordings": len(rows) == len(right),
    }


def measure_worker(folder, options):
    """Kill a worker during the run, which must continue."""
    root, right = _small(folder)

    def once(k):
        out = folder / f"out{k}"
        process = start(folder, root, out, n_jobs=1, **FAST)
        _when_some_are_done(out, process)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        for worker in workers[:1]:
            worker.kill()
        return {
            "a worker was killed": bool(workers),
            "the run ends": wait(process),
            "without an error": process.returncode == 0,
        } | _is_right(out, right)

    return _repeat("worker killed", options, once)


def measure_client(folder, options):
    """Kill the client with its scheduler, and run again."""
    root, right = _small(folder)

    def once(k):
        out = folder / f"out{k}"
        process = start(folder, root, out, n_jobs=1, **FAST)
        _when_some_are_done(out, process)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, left = psutil.wait_procs(workers, ENDED)
        for one in left:
            one.kill()
        result = {"workers end": not left} | _is_kept(out, right)
        run_here(root, out)
        return result | _is_right(out, right)

    return _repeat("client killed, run again", options, once)


def measure_scheduler(folder, options):
    """Kill a separate scheduler; the client must report it; run again."""
    root, right = _small(folder)

    def once(k):
        out, file = folder / f"out{k}", folder / f"scheduler{k}.json"
        process, worker, scheduler = _with_scheduler(folder, root, out, file)
        _when_some_are_done(out, process)
        scheduler.kill()
        scheduler.wait()
        ended = wait(process)
        worker.terminate()
        wait(worker)
        result = {
            "the run ends": ended,
            "it says why": "scheduler was lost" in process.log.read_text(),
        } | _is_kept(out, right)
        run_here(root, out)
        return result | _is_right(out, right)

    return _repeat("scheduler killed, run again", options, once)


def _with_scheduler(folder, root, out, file):
    """Start a scheduler, a worker and a run in separate processes."""
    common = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    dask = [sys.executable, "-m"]
    where = ["--scheduler-file", str(file)]
    scheduler = subprocess.Popen(
        [*dask, "distributed.cli.dask_scheduler", *where, "--port", "0",
         "--dashboard-address", ":0"], **common,
    )  # fmt: skip
    worker = subprocess.Popen(
        [*dask, "distributed.cli.dask_worker", *where, "--nthreads", "1",
         "--death-timeout", "20"], **common,
    )  # fmt: skip
    while not file.exists() and scheduler.poll() is None:
        time.sleep(0.1)
    return start(folder, root, out, scheduler=str(file), **FAST), worker, scheduler


def measure_disk(folder, options):
    """Fill the disk, and run again with free space."""
    root, right = _small(folder)

    def once(k):
        out = folder / f"out{k}"
        out.mkdir()
        size = f"size={100 + 20 * k}k"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(out)]
        subprocess.run(mount, check=True)
        try:
            process = start(folder, root, out, n_jobs=1, **FAST)
            result = {"the run ends": wait(process)}
            partial = tables(out)
            result |= {
                "not all fit": len(partial) < len(right),
                "what is there is whole": all(
                    partial[name].equals(right[name]) for name in partial
                ),
            }
            remount = ["mount", "-o", "remount,size=100m", str(out)]
            subprocess.run(remount, check=True)
            run_here(root, out)
            return result | _is_right(out, right)
        finally:
            subprocess.run(["umount", str(out)], check=True)

    return _repeat("disk full, run again", options, once)


def measure_files(folder, options):
    """Add bad files to good ones: each has a result, and other rows do not change."""
    root, right = _small(folder, 2)
    _write_bad_files(root)

    def once(k):
        status = run_here(root, folder / f"out{k}")
        bits = differing(tables(folder / f"out{k}"), right)
        return {
            "six failed, two are done": sorted(status["state"])
            == ["done"] * 2 + ["failed"] * 6,
            "tables of the good ones": bits == 0,
        }

    figures = _repeat("six bad files among eight", options, once)
    rows = pd.read_csv(folder / "out0" / "status.tsv", sep="\t")
    for row in rows[rows["state"] == "failed"].itertuples():
        print(f"  {row.participant}: {row.reason[:90]}")
    return figures


def _write_bad_files(root):
    good = next(root.glob("sub-*/**/*.edf"))

    def beside(who, write):
        fname = root / f"sub-{who}" / "eeg" / f"sub-{who}_task-rest_eeg.edf"
        fname.parent.mkdir(parents=True)
        write(fname)

    def save(names, kind, data, fname):
        raw = mne.io.RawArray(data, mne.create_info(names, SFREQ, kind), verbose=False)
        raw.save(fname.with_suffix(".fif"), verbose="error")

    noise = 2e-5 * np.random.default_rng(0).normal(size=(19, 1536))
    holes = noise.copy()
    holes[0, 500:600] = np.nan
    some = [f"X{k}" for k in range(19)]
    part = good.read_bytes()[: good.stat().st_size * 3 // 5]  # some whole records
    beside("truncated", lambda f: f.write_bytes(part))
    beside("empty", lambda f: f.write_bytes(b""))
    beside("placeless", lambda f: save(some, "eeg", noise, f))
    beside("nan", lambda f: save(NAMES[:19], "eeg", holes, f))
    beside("ecg", lambda f: save(some, "ecg", noise, f))
    beside("twice", lambda f: (save(NAMES[:19], "eeg", noise, f), shutil.copy(good, f)))


def measure_two(folder, options):
    """Run twice into one folder at the same time."""
    root, right = _small(folder)

    def once(k):
        out = folder / f"out{k}"
        both = [start(folder, root, out, n_jobs=1, **FAST) for _ in range(2)]
        return {
            "both end": all([wait(process) for process in both]),
            "without an error": not any(process.returncode for process in both),
        } | _is_right(out, right)

    return _repeat("two runs at once", options, once)


# Effects ------------------------------------------------------------------------------


def measure_truth(folder, options):
    """Estimate a known difference of groups from draws that do not depend on groups."""
    from mne_neuroflow.cohort.mixed import combine_draws, fit_random_intercept

    rng, n, n_draws, n_repeats = np.random.default_rng(0), 40, 20, 1000
    exog, figures = np.column_stack([np.ones(n), np.arange(n) % 2]), {}
    print(f"{n} people in two groups, {n_draws} draws, {n_repeats} repetitions; "
          "explained, truth: mean estimate, intervals that hold it, found")  # fmt: skip
    for explained in (0.1, 0.3, 0.6, 0.9):
        for effect in (0, 1):
            truth = effect * exog[:, 1:] + rng.normal(size=(n, n_repeats))
            noise = np.sqrt((1 - explained) / explained) * rng.normal(size=truth.shape)
            own = np.sqrt(1 - explained) * rng.normal(size=(*truth.shape, n_draws))
            draws = (explained * (truth + noise))[..., None] + own
            fits = fit_random_intercept(draws.reshape(n, -1), exog, np.arange(n))
            fits = [part.reshape(n_repeats, n_draws, 2) for part in fits]
            result = pd.DataFrame(
                combine_draws(*fit, n - 2)[1] for fit in zip(*fits, strict=True)
            )
            held = (result["low_95"] <= effect) & (effect <= result["high_95"])
            found = result["p"] < 0.05
            print(f"{explained}, {effect}: {result['estimate'].mean():.2f}, "
                  f"{held.mean():.1%}, {found.mean():.1%}")  # fmt: skip
            where = f"explained {explained}, effect {effect}"
            error = result["estimate"].std() / np.sqrt(n_repeats)
            figures[f"estimate, {where}"] = result["estimate"].mean(), error
            for name, share in (("held", held.mean()), ("found", found.mean())):
                error = np.sqrt(share * (1 - share) / n_repeats)
                figures[f"{name}, {where}, %"] = 100 * share, 100 * error
    return figures


# On paper -----------------------------------------------------------------------------

TEMPLE = dict(recordings=70_000, hours=27_000)  # EEG corpus of Temple University
CORES, CORE_HOUR = 64, 0.04  # number of cores, and rent of one in dollars per hour


def measure_corpus(folder, options):
    """Estimate the time for a corpus from cohorts of short and of long recordings."""
    cpu, size = [], []
    for k, seconds in enumerate((10.0, 40.0)):
        root = write_dataset(folder / f"bids{k}", 4, seconds)
        result = [
            run(folder, root, folder / f"out{k}{n}", contacts=options.contacts,
                device=options.device, n_jobs=1, specparam=False,
                subjects=[f"{j:05d}" for j in range(n)])["cpu"]
            for n in (1, 2)
        ]  # fmt: skip
        cpu.append((result[1] - result[0]) / 2)
        files = [*(folder / f"out{k}2").glob("sub-*/**/*.*")]
        size.append(sum(file.stat().st_size for file in files) / 4)
    a_second = (cpu[1] - cpu[0]) / 30
    once = cpu[0] - 10 * a_second
    hours = (TEMPLE["recordings"] * once / 3600) + TEMPLE["hours"] * a_second
    gigabytes = TEMPLE["recordings"] * max(size) / 1e9
    print(f"{options.contacts}, 19 channels, 20 draws, with the control, "
          f"{options.device}: {once:.1f} s of a processor for a recording, and "
          f"{a_second:.3f} s for each of its seconds")  # fmt: skip
    print(f"{TEMPLE['recordings']} recordings, {TEMPLE['hours']} hours: {hours:.0f} "
          f"hours of a core, {hours / CORES / 24:.1f} days on {CORES} cores, "
          f"{CORE_HOUR * hours:.0f} dollars at {CORE_HOUR} for a core and hour; "
          f"{gigabytes:.0f} GB of tables")  # fmt: skip
    return {
        "s a recording": once,
        "s a second": a_second,
        "hours of a core": round(hours),
        "days on 64 cores": hours / CORES / 24,
        "dollars": round(CORE_HOUR * hours),
        "GB of tables": round(gigabytes),
    } | _measure_bookkeeping(folder)


def _measure_bookkeeping(folder):
    """Measure the work for many recordings beside their predictions."""
    from mne_neuroflow.cohort.find import Found
    from mne_neuroflow.cohort.folder import Folder
    from mne_neuroflow.cohort.participant import new_row

    kept, n = Folder(folder / "book"), TEMPLE["recordings"]
    kept.root.mkdir()
    found = [Found(f"sub-{k:06d}_task-rest", f"{k}.edf", True) for k in range(n)]
    rows = {one.name: new_row(one, state="done") for one in found}
    kept.record(rows[found[0].name])
    text = next((kept.root / "status").glob("*.json")).read_bytes()
    for name in rows:  # faster than `record`
        (kept.root / "status" / f"{name}.json").write_bytes(text)

    def seconds(work, n_repeats=1):
        begun = time.process_time()
        for _ in range(n_repeats):
            work()
        return (time.process_time() - begun) / n_repeats

    table = seconds(lambda: kept.write_status(rows))
    reading = seconds(kept.all_recorded)
    saving = seconds(lambda: kept.record(rows[found[0].name]), 20)
    print(f"for {n} recordings: {table:.1f} s of the client for each writing of the "
          f"table of all, {reading:.0f} s to read all rows first, and {saving:.3f} s "
          "of a worker to save the row of a recording")  # fmt: skip
    return {
        "table of all, s": table,
        "reading all rows, s": reading,
        "saving a row, s": saving,
    }


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
