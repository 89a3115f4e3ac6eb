"""How large simulated spikes are on the scalp for what they are inside the head.

Run ``python benchmarks/amplitudes.py``; the figures stand beside published ones in
``doc/decisions/prior.md``. Some seconds a virtual patient. Spikes of a mesial focus are
averaged at their known peaks: the largest potential of any scalp electrode (against the
average reference, without artefacts) and of any contact within 50 ms, and what is left
of the background in such an average.
"""

import argparse

import mne
import numpy as np
import pandas as pd
from machine import print_machine

import mne_neuroflow

AROUND = 0.05  # seconds


def main():
    mne.set_log_level("error")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--montage", default="64")
    options = parser.parse_args()
    rows = []
    for seed in range(options.patients):
        scalp, ieeg = mne_neuroflow.simulate_pair(
            contacts="mtl",
            montage=options.montage,
            duration=60 * options.minutes,
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
            tmax=2 * AROUND,
            baseline=(-0.3, -0.15),
            event_repeated="drop",
            preload=True,
            picks="data",
            verbose="error",
        )
        data = epochs.get_data(tmin=-AROUND, tmax=AROUND)
        # With every other spike turned over, what is left is background.
        signs = (-1.0) ** np.arange(len(data))
        peaks[name] = 1e6 * np.abs(data.mean(axis=0)).max()
        left = np.tensordot(signs, data, 1) / len(data)
        peaks[f"{name} background"] = 1e6 * np.abs(left).max()
    return {"n": len(times), **peaks, "ratio": peaks["inside"] / peaks["scalp"]}


def report(table):
    """Print the 5th, 50th and 95th percentile over patients."""
    print(f"{len(table)} virtual patients, {table['n'].sum()} spikes")
    shares = table.quantile([0.05, 0.5, 0.95])
    print(shares.round(1).to_string())


if __name__ == "__main__":
    main()
