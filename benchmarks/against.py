"""Compare this package with another version of it, in turns on the same recordings.

Run ``python benchmarks/against.py FOLDER``, where the folder has a checkout of another
commit. Patients are simulated once, with new signals of every scenario. Both versions
predict them from files, in processes of their own with one thread. Processor times are
compared, which other programs affect little.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.head.contacts import contact_positions, make_contacts
from mne_neuroflow.scores import ensemble, signals

SCENARIOS = ("rest", "theta", "slowing", "spikes", "uncoupled", "ictal")
MONTAGES = ("19", "32", "64", "10")
VERSIONS = ("this version", "the other")
COLUMNS = ("r", "CRPS", "90 %", "r bip.", "CRPS bip.", "seconds")
STRIDE = 4  # every fourth sample is scored

# The first prediction warms up.
_PREDICT = """
import sys, time
from pathlib import Path
import mne, numpy, torch
import mne_neuroflow

torch.set_num_threads(1)
mne.set_log_level("error")
folder, name, n_draws, *numbers = sys.argv[1:]
for k, number in enumerate([numbers[0], *numbers]):
    files = [Path(folder) / f"{number}-{part}_raw.fif" for part in ("scalp", "ieeg")]
    raw, ieeg = (mne.io.read_raw_fif(fname, preload=True) for fname in files)
    options = dict(contacts=ieeg.info, random_state=0)
    begin = time.process_time()
    mne_neuroflow.predict_ieeg(raw, **options)
    taken = time.process_time() - begin
    if k:
        draws = mne_neuroflow.sample_ieeg(raw, int(n_draws), **options)
        fname = Path(folder) / f"{number}-{name}.npz"
        numpy.savez(fname, draws=numpy.asarray(draws, "float32"), seconds=taken)
print(mne_neuroflow.__file__)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=48)
    parser.add_argument("--first", type=int, default=9000, help="number of the first")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--contacts", default="mtl-core")
    options = parser.parse_args()
    mne.set_log_level("warning")
    folders = Path(__file__).parents[1], options.other.expanduser().resolve()
    rows, at_once = [], len(SCENARIOS)
    numbers = range(options.first, options.first + options.patients)
    print_machine()
    for begin in range(0, len(numbers), at_once):
        with tempfile.TemporaryDirectory() as scratch:
            some = numbers[begin : begin + at_once]
            pairs = {number: simulate(number, options, scratch) for number in some}
            turn = begin // at_once % 2
            for k in (0, 1) if turn else (1, 0):
                predict(folders[k], scratch, str(k), options.draws, some)
            for number, ieeg in pairs.items():
                for k, version in enumerate(VERSIONS):
                    fname = Path(scratch) / f"{number}-{k}.npz"
                    rows.append(
                        {
                            "patient": number,
                            "scenario": SCENARIOS[number % len(SCENARIOS)],
                            "version": version,
                            **score(fname, ieeg),
                        }
                    )
        print(f"{begin + len(some)} of {len(numbers)} patients", flush=True)
    figures = summarize(pd.DataFrame(rows))
    for name, (mean, error) in figures.items():
        print(f"{name:48s}{mean:9.4f} ± {error:.4f}")


def simulate(number, options, folder):
    """Simulate a patient, whose number determines scenario and electrodes."""
    scalp, ieeg = mne_neuroflow.simulate_pair(
        MONTAGES[number // len(SCENARIOS) % len(MONTAGES)],
        options.contacts,
        options.seconds,
        scenario=SCENARIOS[number % len(SCENARIOS)],
        random_state=number,
        verbose="error",
    )
    for part, raw in (("scalp", scalp), ("ieeg", ieeg)):
        raw.save(Path(folder) / f"{number}-{part}_raw.fif", fmt="double")
    return ieeg


def predict(package, scratch, name, n_draws, numbers):
    """Predict patients with the package in a folder, in a process of its own."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    more = dict.fromkeys(threads, "1") | {"PYTHONPATH": str(package)}
    words = [scratch, name, n_draws, *numbers]
    ran = subprocess.run(
        [sys.executable, "-c", _PREDICT, *map(str, words)],
        cwd=package,
        env=os.environ | more,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    module = ran.stdout.splitlines()[-1]
    if not Path(module).is_relative_to(package):
        raise RuntimeError(f"{module} was used, which is not in {package}.")


def score(fname, ieeg):
    """Score the draws of a patient, means over contacts and bipolar derivations."""
    with np.load(fname) as found:
        draws, seconds = found["draws"], float(found["seconds"])
    truth = ieeg.get_data()[:, : draws.shape[-1]]
    one, other = signals.near_contacts(contact_positions(make_contacts(ieeg.info))[1]).T
    bipolar = (x[..., one, :] - x[..., other, :] for x in (draws, truth))
    r, crps, covered = waveform(draws, truth)
    r_bipolar, crps_bipolar, _ = waveform(*bipolar)
    values = (r, crps, covered, r_bipolar, crps_bipolar, seconds)
    return dict(zip(COLUMNS, values, strict=True))


def waveform(draws, truth):
    r = signals.pearson_r(draws.mean(0), truth).mean()
    draws, truth = draws[..., ::STRIDE], truth[..., ::STRIDE]
    crps = ensemble.crps(draws, truth).mean(1) / truth.std(1)
    return r, crps.mean(), ensemble.coverage(draws, truth, 0.9).mean()


def summarize(rows):
    """Average over patients, and compare versions patient by patient."""
    figures = {}
    for scenario in ("all", *rows["scenario"].unique()):
        some = rows if scenario == "all" else rows[rows["scenario"] == scenario]
        table = some.pivot(index="patient", columns="version", values=list(COLUMNS))
        for column in COLUMNS:
            one, other = (table[column][version] for version in VERSIONS)
            pairs = [(one, VERSIONS[0]), (other, VERSIONS[1]), (one - other, "change")]
            if column == "seconds":
                pairs = [(one / other, "ratio")]
            for values, name in pairs:
                error = values.std() / len(values) ** 0.5
                figures[f"{scenario}, {column}, {name}"] = values.mean(), error
    return figures


if __name__ == "__main__":
    main()
