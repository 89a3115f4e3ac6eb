"""Measure predictions of power, sides, spikes and seizures in new patients.

Run ``python benchmarks/transfer.py``. Simulated patients have the contacts of one
implant, and their recordings have bouts of theta, spikes or a seizure. Methods that
need pairs are trained on half a minute of each of the other patients. The same command
continues a run that was stopped.
"""

import argparse
from functools import partial
from pathlib import Path

from machine import print_machine

import mne_neuroflow
from mne_neuroflow.evaluation.benchmark import Settings, run_benchmark
from mne_neuroflow.evaluation.protocols import Dataset
from mne_neuroflow.scores.tables import summarize

SCENARIOS = ("spikes", "ictal", "theta")
MONTAGES = ("19", "32", "64", "10")
METHODS = "pretrained,shifted-scalp,prior,spatial-posterior,eloreta,lcmv".split(",")
MEASURES = (
    ("log_power_r", "theta"),
    ("log_power_r", "alpha"),
    ("log_power_r", "beta"),
    ("lateralization_error", "theta"),
    ("lateralization_error", "alpha"),
    ("lateralization_error", "beta"),
    ("spike_auc", "broad"),
    ("spike_sensitivity", "broad"),
    ("spike_false_alarms", "broad"),
    ("seizure_auc", "broad"),
    ("seizure_sensitivity", "broad"),
    ("seizure_false_alarms", "broad"),
    ("r", "broad"),
    ("bipolar_r", "broad"),
    ("bipolar_log_power_r", "theta"),
    ("bipolar_log_power_r", "alpha"),
    ("bipolar_log_power_r", "beta"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--contacts", default="mtl-core")
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS)
    parser.add_argument("--seed", type=int, default=3000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    options = parser.parse_args()
    print_machine()
    patients = {str(k): ["1"] for k in range(options.patients)}
    load = partial(
        simulate,
        options.contacts,
        options.seconds,
        tuple(options.scenarios),
        options.seed,
    )
    settings = Settings(
        protocol="loso",
        n_draws=options.draws,
        test_seconds=options.seconds,
        minutes=0.5,
    )
    # The name distinguishes runs of other patients in the same folder.
    name = "-".join([options.contacts, *options.scenarios, str(options.seed)])
    dataset = Dataset(f"transfer-{name}", patients, load)
    rows, failures = run_benchmark(
        dataset, METHODS, options.out, settings, n_jobs=options.jobs
    )
    report(rows)
    if failures:
        raise SystemExit(f"these failed: {failures}")


def simulate(contacts, seconds, scenarios, seed, patient, session):
    """Simulate a patient, whose number determines scenario and electrodes."""
    number = int(patient)
    return mne_neuroflow.simulate_pair(
        MONTAGES[number // len(scenarios) % len(MONTAGES)],
        contacts,
        seconds,
        scenario=scenarios[number % len(scenarios)],
        random_state=seed + number,
        verbose="error",
    )


def report(rows):
    """Print means over patients, with 95 % bootstrap intervals over patients."""
    for measure, band in MEASURES:
        if measure not in rows:
            continue
        some = rows[rows["band"] == band].dropna(subset=[measure])
        if not len(some):
            print(f"\n{measure}, {band}: no such event shows at any contact")
            continue
        table = summarize(some, ["method"], [measure]).set_index("method")
        n_patients = int(table["n_subjects"].max())
        print(f"\n{measure}, {band} ({n_patients} patients)")
        for method in METHODS:
            mean, low, high = table.loc[method, ["mean", "low", "high"]]
            print(f"  {method:20s}{mean:8.3f}  [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
