"""Measure peak memory while predicting and saving a recording that is not preloaded.

Run ``python benchmarks/memory.py``, which takes several minutes and 2 GB of disk space.
``--minutes 2 6`` is a quick look. It predicts 10 and 60 minutes of 64 channels at 512
Hz, each in its own process: a draw, and the median in one pass. The limits are 1.5 GB,
and a difference of 10 %.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import record
from machine import print_machine

SFREQ = 512
CONTACTS = "ds004752-sub-04"
WANTED_GB, WANTED_SHARE = 1.5, 0.1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60])
    parser.add_argument("--outputs", nargs="+", default=["sample", "median"])
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json for the figures that pages quote",
    )
    options = parser.parse_args()
    if options.worker:
        predict_and_save(options.worker, *options.outputs)
        return
    print_machine()
    figures = {}
    for output in options.outputs:
        print(f"\n{output}")
        print(f"{'minutes':>8s}{'file, MB':>10s}{'peak, GB':>10s}{'seconds':>9s}")
        peaks = [measure(minutes, output) for minutes in options.minutes]
        spread = max(peaks) / min(peaks) - 1
        print(
            f"largest {max(peaks):.2f} GB (wanted {WANTED_GB}), {spread:.1%} more than "
            f"the smallest (wanted {WANTED_SHARE:.0%})"
        )
        for minutes, peak in zip(options.minutes, peaks, strict=True):
            figures[f"{output}, {minutes:g} minutes, GB"] = peak
    if options.record:
        record(options.record, figures, weights=None)


def measure(minutes, output):
    """Write a recording, predict it in a new process, and return its peak in GB."""
    with tempfile.TemporaryDirectory() as folder:
        header = write_recording(Path(folder), minutes)
        size = header.with_suffix(".eeg").stat().st_size
        start = time.perf_counter()
        command = [
            sys.executable,
            __file__,
            "--outputs",
            output,
            "--worker",
            str(header),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        taken = time.perf_counter() - start
    peak = float(done.stdout.split()[-1])
    print(f"{minutes:8g}{size / 1e6:10.0f}{peak:10.2f}{taken:9.0f}", flush=True)
    return peak


def write_recording(folder, minutes):
    """Write noise as BrainVision, multiplexed float32 in microvolts, by the minute."""
    from mne_neuroflow.datasets import load_demo

    names = load_demo(verbose=False).ch_names
    rng = np.random.default_rng(0)
    header = folder / "scalp.vhdr"
    with open(header.with_suffix(".eeg"), "wb") as fid:
        left = round(minutes * 60 * SFREQ)
        while left:
            n = min(left, 60 * SFREQ)
            noise = rng.standard_normal((n, len(names)), dtype=np.float32)
            smooth = np.cumsum(noise, axis=0)
            smooth[32:] -= smooth[:-32].copy()  # a sum over 1/16 s: mostly below 16 Hz
            fid.write((3 * smooth).astype("<f4").tobytes())
            left -= n
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "[Common Infos]",
        "Codepage=UTF-8",
        "DataFile=scalp.eeg",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={len(names)}",
        f"SamplingInterval={1e6 / SFREQ}",
        "[Binary Infos]",
        "BinaryFormat=IEEE_FLOAT_32",
        "[Channel Infos]",
        *[f"Ch{k}={name},,1,µV" for k, name in enumerate(names, 1)],
    ]
    header.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return header


def predict_and_save(header, output):
    """Predict, and print the peak resident memory of this process in GB."""
    import mne

    from mne_neuroflow import predict_ieeg

    mne.set_log_level("error")
    raw = mne.io.read_raw_brainvision(header)
    known = dict(contacts=CONTACTS, random_state=0, device="cpu")
    virtual = predict_ieeg(raw, output=output, **known)
    virtual.save(header.with_name("virtual_ieeg.fif"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak * (1 if sys.platform == "darwin" else 1024) / 1e9)


if __name__ == "__main__":
    main()
