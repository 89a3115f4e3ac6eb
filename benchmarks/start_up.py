"""Measure the time of the import and of the first prediction in a new process.

Run ``python benchmarks/start_up.py``, which takes about a minute. ``import
mne_neuroflow`` should take at most 10 % longer than ``import mne``, and
``predict_ieeg`` on the bundled recording at most 15 s.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
from machine import print_machine

WANTED_SHARE, WANTED_SECONDS = 0.1, 15
PREDICT = """
from time import perf_counter
marks = [("", perf_counter())]
def mark(name): marks.append((name, perf_counter()))
import mne, mne_neuroflow
mne.set_log_level("error")
mark("import of MNE")
import torch
mark("import of torch")
from mne_neuroflow.datasets import load_demo
raw = load_demo()
mark("opening the recording")
virtual = mne_neuroflow.predict_ieeg(raw, random_state=0)
mark("predict_ieeg: checks, posterior, weights")
virtual.load_data()
mark("predict_ieeg: samples")
for (_, before), (name, after) in zip(marks, marks[1:]):
    print(f"{name}\\t{after - before}")
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11, help="of each import")
    parser.add_argument("--predictions", type=int, default=3)
    options = parser.parse_args()
    print_machine()
    names = ("mne", "mne_neuroflow")
    taken = {name: [] for name in names}
    run("import mne_neuroflow, mne")  # reads the files into the system's cache
    for _ in range(options.repeats):
        for name in names:  # alternate, so that a busy machine affects both equally
            taken[name].append(run(f"import {name}")[0])
    for name in names:
        print(f"{'import ' + name:44s}{np.median(taken[name]):7.2f} s")
    share = np.median(taken["mne_neuroflow"]) / np.median(taken["mne"]) - 1
    print(f"{'difference':44s}{share:7.0%}  (wanted at most {WANTED_SHARE:.0%})")
    report_predictions([run(PREDICT) for _ in range(options.predictions)])


def report_predictions(results):
    """Print the median of each part and of the whole process."""
    parts = [
        dict(line.split("\t") for line in text.splitlines()) for _, text in results
    ]
    print("the bundled recording from a cold start:")
    for name in parts[0]:
        median = np.median([float(part[name]) for part in parts])
        print(f"  {name:42s}{median:7.2f} s")
    whole = np.median([seconds for seconds, _ in results])
    print(
        f"{'  the whole process':44s}{whole:7.2f} s  (wanted at most {WANTED_SECONDS})"
    )


def run(code):
    """Run code in a new process, and return its time in seconds and its output."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    main()
