"""Cohorts: overhead, workers, memory, long recordings, the group level, and faults.

Run ``python benchmarks/cohort.py``: a thousand recordings of a minute, a day of 64
channels and every fault ten times, which takes days on two cores. Parts and sizes are
options: ``python benchmarks/cohort.py speed group --recordings 12 --seconds 20``.
The part ``disk`` mounts a small disk, which only root may do.
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
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from machine import print_machine

PARTS = (
    "speed",
    "day",
    "group",
    "worker",
    "client",
    "scheduler",
    "disk",
    "files",
    "two",
)
NAMES = (
    "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 AF3 AF4 F1 F2 F5 F6 "
    "FC1 FC2 FC3 FC4 FC5 FC6 FT7 FT8 C1 C2 C5 C6 CP1 CP2 CP3 CP4 CP5 CP6 TP7 TP8 P1 P2 "
    "P5 P6 PO3 PO4 PO7 PO8 POz Oz CPz FCz Fpz AFz AF7 AF8 F9 F10 P9"
).split()
SFREQ = 128.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART")
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--contacts", default="mtl")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            print(f"\n{part}", flush=True)
            place = Path(folder) / part
            place.mkdir()
            globals()[f"measure_{part}"](place, options)
            shutil.rmtree(place)


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
    mne.export.export_raw(fname, raw, verbose="error")


RUN = """
import json, resource, sys, time
import mne_neuroflow
if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    start = time.perf_counter()
    status = mne_neuroflow.predict_cohort(verbose="error", **options)
    seconds = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps(dict(seconds=seconds, cpu=children.ru_utime + children.ru_stime,
                          states=status["state"].tolist(),
                          memory=status["peak_memory"].tolist(),
                          duration=status["duration"].tolist())))
"""


def start(folder, root, out, **options):
    """Start a cohort in a process of its own, which writes into a log."""
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


def run(*args, **options):
    """Run a cohort in a process of its own; tell how it went."""
    process = start(*args, **options)
    process.wait()
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
    """Count tables that are not the same to the last bit."""
    names = set(one) | set(other)
    return sum(
        name not in one or name not in other or not one[name].equals(other[name])
        for name in names
    )


# Speed and memory ---------------------------------------------------------------------

BARE = """
import json, resource, sys, time
import mne, torch
import mne_neuroflow
from mne_neuroflow.cohort.control import RawShifted
from mne_neuroflow.scalp import check_scalp
torch.set_num_threads(1)
mne.set_log_level("error")
start = time.process_time()
for fname in sys.argv[2:]:
    raw = mne.io.read_raw(fname)
    for inst in (raw, RawShifted(check_scalp(raw), 0)):
        mne_neuroflow.sample_ieeg(inst, 20, contacts=sys.argv[1], random_state=0)
print(time.process_time() - start)
"""


def measure_speed(folder, options):
    """Compare cohorts with the bare sum of predictions, and workers with each other."""
    root = write_dataset(folder / "bids", options.recordings, options.seconds)
    print(f"{options.recordings} recordings of {options.seconds:g} s, 19 channels, "
          f"{options.contacts}, 20 draws, with the control")  # fmt: skip
    # What starts once, whatever the number of recordings.
    tiny = run(folder, root, folder / "start", subjects=["00000"], sessions=["0"],
               contacts=options.contacts, n_jobs=1)  # fmt: skip
    files = sorted(map(str, root.glob("sub-*/**/*.edf")))
    command = [sys.executable, "-c", BARE, options.contacts, *files]
    bare = float(subprocess.run(command, capture_output=True, text=True).stdout)
    one, results = bare / len(files), {}
    for n_jobs in options.workers:
        out = folder / f"out{n_jobs}"
        results[n_jobs] = run(folder, root, out, contacts=options.contacts,
                              n_jobs=n_jobs)  # fmt: skip
        told, memory = results[n_jobs], results[n_jobs]["memory"]
        print(
            f"{n_jobs} workers: {told['seconds']:.0f} s, {told['cpu']:.0f} s of "
            f"processors, peak memory {max(memory)} MB after all and {min(memory)} MB "
            f"after the first, {told['states'].count('done')} done"
        )
    first = results[options.workers[0]]
    extra = (first["cpu"] - tiny["cpu"]) / (len(files) - 1) / one - 1
    print(f"bare predictions {one:.2f} s of processors each; the cohort takes "
          f"{extra:+.1%} for each further recording (wanted 10 %)")  # fmt: skip
    base = tables(folder / f"out{options.workers[0]}")
    for n_jobs in options.workers[1:]:
        gain = first["seconds"] / results[n_jobs]["seconds"]
        bits = differing(base, tables(folder / f"out{n_jobs}"))
        print(f"{n_jobs} workers are {gain:.2f} times one (wanted 1.8 for two on two "
              f"free cores); {bits} tables differ")  # fmt: skip


def measure_day(folder, options):
    """Cut a long recording for one worker and two: memory and bits."""
    root = write_dataset(folder / "bids", 0, 0)
    peaks = []
    for hours in (options.hours / 4, options.hours):
        name = f"sub-{hours:g}".replace(".", "p")
        path = root / name / "eeg"
        path.mkdir(parents=True)
        write_recording(path / f"{name}_task-rest_eeg.edf", 3600 * hours, 64, 0)
        told = {}
        for n_jobs in options.workers:
            out = folder / f"{name}-{n_jobs}"
            told[n_jobs] = run(
                folder, root, out, subjects=[name], contacts=options.contacts,
                n_jobs=n_jobs, control=False, stretch=900 * hours,
            )  # fmt: skip
            peaks.append(max(told[n_jobs]["memory"]))
            print(f"{hours:g} h, {n_jobs} workers: {told[n_jobs]['seconds']:.0f} s, "
                  f"peak {peaks[-1]} MB")  # fmt: skip
        several = [tables(folder / f"{name}-{n_jobs}") for n_jobs in options.workers]
        print(f"tables that differ: {sum(differing(several[0], t) for t in several)}")
    print(f"largest peak over smallest: {max(peaks) / min(peaks):.2f}")


GROUP = """
import resource, sys, time
import mne_neuroflow
start = time.perf_counter()
effects = mne_neuroflow.analyze_cohort(sys.argv[1], sys.argv[2], verbose="error")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{time.perf_counter() - start:.1f} s, {peak:.2f} GB, {len(effects)} effects")
"""


def measure_group(folder, options):
    """Put many recordings of 80 contacts together, copies of one with noise."""
    from mne_neuroflow.cohort.find import find_recordings
    from mne_neuroflow.cohort.folder import Folder
    from mne_neuroflow.cohort.participant import new_row

    root = write_dataset(folder / "bids", 1, 12.0)
    run(folder, root, folder / "one", n_jobs=1)
    (table,) = tables(folder / "one").values()
    out, rng = Folder(folder / "out"), np.random.default_rng(0)
    out.create(root, {})
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
    print(f"{options.recordings} recordings x 80 contacts (wanted 60 s and 2 GB):")
    print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# Faults -------------------------------------------------------------------------------

FEW = [[-0.025, -0.02, -0.018], [-0.03, -0.01, -0.02], [0.025, -0.02, -0.018]]
FAST = dict(contacts=FEW, n_draws=19)


def _small(folder, n=6, seconds=12.0):
    root = write_dataset(folder / "bids", n, seconds)
    run(folder, root, folder / "right", n_jobs=1, **FAST)
    return root, tables(folder / "right")


def _when_some_are_done(out, process=None):
    while not any((Path(out) / "status").glob("[!.]*.json")):
        time.sleep(0.02)
        if process is not None and process.poll() is not None:
            return


def _tell(what, outcomes):
    print(f"{what}: {outcomes.count(True)} of {len(outcomes)} right", flush=True)


def _is_right(out, right):
    rows = pd.read_csv(Path(out) / "status.tsv", sep="\t")
    return differing(tables(out), right) == 0 and (rows["state"] == "done").all()


def measure_worker(folder, options):
    """Kill a worker while it works; the run goes on."""
    import psutil

    root, right = _small(folder)
    outcomes = []
    for k in range(options.repeats):
        out = folder / f"out{k}"
        process = start(folder, root, out, n_jobs=1, **FAST)
        _when_some_are_done(out, process)
        for child in psutil.Process(process.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                break
        process.wait()
        outcomes.append(process.returncode == 0 and _is_right(out, right))
    _tell("worker killed", outcomes)


def measure_client(folder, options):
    """Kill the client, and with it its scheduler; run again."""
    root, right = _small(folder)
    outcomes = []
    for k in range(options.repeats):
        out = folder / f"out{k}"
        process = start(folder, root, out, n_jobs=1, **FAST)
        _when_some_are_done(out, process)
        process.kill()
        process.wait()
        partial = tables(out)
        kept = all(partial[name].equals(right[name]) for name in partial)
        whole = len(pd.read_csv(out / "status.tsv", sep="\t")) == len(right)
        run(folder, root, out, n_jobs=1, **FAST)
        outcomes.append(kept and whole and _is_right(out, right))
    _tell("client killed, run again", outcomes)


def measure_scheduler(folder, options):
    """Kill a scheduler of its own; the client says so; run again."""
    root, right = _small(folder)
    outcomes = []
    for k in range(options.repeats):
        out, file = folder / f"out{k}", folder / f"scheduler{k}.json"
        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        common = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        scheduler = subprocess.Popen(
            [*dask, "--scheduler-file", file, "--port", "0", "--dashboard-address",
             ":0"], **common,
        )  # fmt: skip
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file",
             file, "--nthreads", "1", "--death-timeout", "20"], **common,
        )  # fmt: skip
        while not file.exists():
            time.sleep(0.1)
        process = start(folder, root, out, scheduler=str(file), **FAST)
        _when_some_are_done(out, process)
        scheduler.kill()
        process.wait()
        worker.terminate()
        worker.wait()
        said = "scheduler was lost" in process.log.read_text()
        run(folder, root, out, n_jobs=1, **FAST)
        outcomes.append(said and _is_right(out, right))
    _tell("scheduler killed, run again", outcomes)


def measure_disk(folder, options):
    """Fill the disk; run again when there is room."""
    root, right = _small(folder)
    outcomes = []
    for k in range(options.repeats):
        out = folder / f"out{k}"
        out.mkdir()
        size = 100 + 20 * k
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(out)]
        subprocess.run(mount, check=True)
        try:
            process = start(folder, root, out, n_jobs=1, **FAST)
            process.wait()
            partial = tables(out)
            kept = all(partial[name].equals(right[name]) for name in partial)
            remount = ["mount", "-o", "remount,size=100m", str(out)]
            subprocess.run(remount, check=True)
            run(folder, root, out, n_jobs=1, **FAST)
            outcomes.append(kept and len(partial) < 6 and _is_right(out, right))
        finally:
            subprocess.run(["umount", str(out)], check=True)
    _tell("disk full, run again", outcomes)


def measure_files(folder, options):
    """Put bad files beside good ones; each is told, no row of another changes."""
    root, right = _small(folder, 2)
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
    beside("truncated", lambda f: f.write_bytes(good.read_bytes()[:9000]))
    beside("empty", lambda f: f.write_bytes(b""))
    beside("placeless", lambda f: save(some, "eeg", noise, f))
    beside("nan", lambda f: save(NAMES[:19], "eeg", holes, f))
    beside("ecg", lambda f: save(some, "ecg", noise, f))
    beside("twice", lambda f: (save(NAMES[:19], "eeg", noise, f), shutil.copy(good, f)))
    outcomes = []
    for k in range(options.repeats):
        told = run(folder, root, folder / f"out{k}", n_jobs=1, **FAST)
        bits = differing(tables(folder / f"out{k}"), right)
        outcomes.append(told["states"].count("failed") == 6 and bits == 0)
    _tell("six bad files among eight", outcomes)
    rows = pd.read_csv(folder / "out0" / "status.tsv", sep="\t")
    for row in rows[rows["state"] == "failed"].itertuples():
        print(f"  {row.participant}: {row.reason[:90]}")


def measure_two(folder, options):
    """Run twice into one folder at once."""
    root, right = _small(folder)
    outcomes = []
    for k in range(options.repeats):
        out = folder / f"out{k}"
        both = [start(folder, root, out, n_jobs=1, **FAST) for _ in range(2)]
        for process in both:
            process.wait()
        codes = [process.returncode for process in both]
        outcomes.append(codes == [0, 0] and _is_right(out, right))
    _tell("two runs at once", outcomes)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
