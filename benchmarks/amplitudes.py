"""How large simulated spikes are on the scalp for what they are inside the head.

Run ``python benchmarks/amplitudes.py``; the figures stand beside published ones in
``doc/decisions/prior.md``. Some seconds a virtual patient. Spikes of a mesial focus are
averaged at their known peaks: the largest potential of any scalp electrode (against the
average reference, without artefacts) and of any contact within 50 ms.
"""

import argparse

import mne
import numpy as np
import pandas as pd
from machine import print_machine

import mne_neuroflow

AROUND = 0.05  # seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--montage", default="64")
    options = parser.parse_args()
    rows = []
    for seed in range(options.patients):
        scalp, ieeg = mne_neuroflow.simulate_pair(
            "mtl",
            options.montage,
            60 * options.minutes,
            scenario="spikes",
            artifacts=False,
            random_state=seed,
            verbose="error",
        )
        times = spike_times(ieeg)
        if len(times) >= 5:
            rows.append(measure(scalp, ieeg, times))
    print_machine()
    report(pd.DataFrame(rows))


def spike_times(raw):
    """Seconds of all spikes far enough from both ends."""
    told = raw.annotations
    spikes = [text.startswith("spike") for text in told.description]
    times = told.onset[np.array(spikes, bool)] - raw.first_time
    return times[(times > 1) & (times < raw.times[-1] - 1)]


def measure(scalp, ieeg, times):
    """Largest averaged potential on the scalp and inside, microvolts."""
    peaks = {}
    for name, raw in (("scalp", scalp), ("inside", ieeg)):
        events = np.c_[raw.time_as_index(times), np.zeros((len(times), 2), int)]
        epochs = mne.Epochs(
            raw,
            events,
            tmin=-0.3,
            tmax=AROUND,
            baseline=(-0.3, -0.15),
            event_repeated="drop",
            picks="data",
            verbose="error",
        )
        mean = epochs.average(picks="data").crop(-AROUND, AROUND).data
        peaks[name] = 1e6 * np.abs(mean).max()
    return {"n": len(times), **peaks, "ratio": peaks["inside"] / peaks["scalp"]}


def report(table):
    """Print the 5th, 50th and 95th percentile over patients."""
    print(f"{len(table)} virtual patients, {table['n'].sum()} spikes")
    shares = table[["scalp", "inside", "ratio"]].quantile([0.05, 0.5, 0.95])
    print(shares.round(1).to_string())


if __name__ == "__main__":
    main()
