"""Measure the speed of draws and intervals, alone and beside other processes.

Run ``python benchmarks/sampling_speed.py``, which takes five minutes: 64 contacts (the
implant of subject 4 of ds004752), 64 electrodes, two CPU threads. Two processes that
compute all the time should at most make a prediction take 2.5 times as long.
"""

import argparse
import subprocess
import sys
import time
from contextlib import contextmanager

import mne
import numpy as np
import torch
from machine import print_machine
from scipy.signal import butter, sosfilt

from mne_neuroflow import (
    make_contacts,
    predict_ieeg,
    predict_quantiles,
    sample_ieeg,
)
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.flow.sampler import sample_blocks
from mne_neuroflow.predictor import Predictor

CONTACTS = "ds004752-sub-04"
WANTED = {"draw": 150, "quantiles": 60, "hundred": 1.5, "busy": 2.5}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--neighbours", type=int, default=2, help="busy processes")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mne.set_log_level("warning")
    raw = make_recording(options.minutes)
    seconds = raw.n_times / raw.info["sfreq"]
    short = raw.copy().crop(20, 30, include_tmax=False)
    minute = raw.copy().crop(20, 80, include_tmax=False)
    # The noise is none of a head, which does not matter to the speed.
    where = dict(contacts=CONTACTS, device=options.device, on_mismatch="ignore")
    common = where | dict(random_state=0)

    def predict():
        predict_ieeg(raw, **common)

    def quantiles():
        predict_quantiles(raw, [0.05, 0.5, 0.95], **where)

    def draw_hundred():
        sample_ieeg(minute, 100, **common)

    predictor = Predictor(raw, **common)
    model_rate = model_rate_only(predictor, int(seconds))
    predict_ieeg(short, **common)  # warms up
    print_machine()
    n_contacts = len(make_contacts(CONTACTS).ch_names)
    print(
        f"{n_contacts} contacts, {len(raw.ch_names)} electrodes, {seconds:.0f} s at "
        f"{raw.info['sfreq']:g} Hz, {options.device}, {options.threads} threads; best "
        f"and median of {options.repeats}"
    )
    rows = (
        ("predict_ieeg", predict, seconds, WANTED["draw"]),
        ("flow alone", model_rate, int(seconds), None),
        ("predict_quantiles, three", quantiles, seconds, WANTED["quantiles"]),
        ("sample_ieeg, 100 draws of a minute", draw_hundred, 60, WANTED["hundred"]),
    )
    print("times real time")
    for name, work, amount, wanted in rows:
        taken = [clock(work) for _ in range(options.repeats)]
        best, median = amount / min(taken), amount / np.median(taken)
        print(f"{name:48s}{best:8.2f}{median:8.2f}", end="")
        print(f"  (wanted {wanted})" if wanted else "")
    alone, beside = [], []
    for _ in range(options.repeats):  # alternately, in the same minutes
        alone.append(clock(predict))
        with busy(options.neighbours):
            beside.append(clock(predict))
    longer = np.median(beside) / np.median(alone)
    print(
        f"predict_ieeg beside {options.neighbours} busy processes: {longer:.2f} times "
        f"as long  (wanted at most {WANTED['busy']})"
    )


def make_recording(minutes):
    """Make 64 channels of roughly pink noise at 512 Hz, in memory."""
    info = mne.create_info(load_demo().ch_names, 512.0, "eeg")
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, round(minutes * 60 * 512)))
    data = sosfilt(butter(1, [1, 12], "bandpass", fs=512, output="sos"), noise)
    return mne.io.RawArray(15e-6 * data / data.std(), info)


def model_rate_only(predictor, n_seconds):
    """Return a function that samples one draw in minutes, from given conditions."""
    conditions = {}

    def conditions_of(first, n):
        if first not in conditions:
            conditions[first] = predictor.conditions(first, n)
        return conditions[first]

    def work():
        for first in range(0, n_seconds, 60):
            n = min(60, n_seconds - first)
            args = (predictor.flow, conditions_of, predictor.noise, first, n, [0], 1)
            list(sample_blocks(*args))
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return work


@contextmanager
def busy(n_processes):
    """Keep other processes computing."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(n_processes)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def clock(work):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
