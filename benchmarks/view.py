"""Measure the size of the page of ten minutes of 30 contacts, and its loading time.

Run ``python benchmarks/view.py``, which takes six minutes on one core. ``--keep
view.html`` keeps the page. Headless Chromium opens it five times, and its own clock
measures the time from the start of loading to the first picture.
"""

import argparse
import tempfile
import time
from pathlib import Path

import mne
import numpy as np
from chromium import Page, find_chromium
from figures import record
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.viz import make_view

N_LOADS = 5


def main():
    mne.set_log_level("error")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--keep", type=Path, metavar="HTML")
    parser.add_argument("--record", metavar="SECTION")
    options = parser.parse_args()
    scalp, _ = mne_neuroflow.simulate_pair(
        contacts="mtl-core", duration=options.seconds, montage="64", random_state=0
    )
    start = time.process_time()
    view = make_view(
        scalp,
        contacts="mtl-core",
        n_draws=options.draws,
        tmin=0,
        tmax=options.seconds,
        random_state=0,
        on_mismatch="ignore",
    )
    figures = {
        "seconds shown": options.seconds,
        "draws": options.draws,
        "CPU seconds to make": round(time.process_time() - start),
        "megabytes": round(len(view.html.encode()) / 1e6, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        fname = view.save(options.keep or Path(folder) / "view.html", overwrite=True)
        if find_chromium():
            loads = [first_picture(fname) for _ in range(N_LOADS)]
            figures["first picture, median"] = round(float(np.median(loads)), 2)
            figures["first picture, slowest"] = round(max(loads), 2)
    print_machine()
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.record:
        record(options.record, figures)


def first_picture(fname):
    """Return the seconds from the start of loading to the first picture."""
    with Page(fname) as page:
        waited = page.wait_for("document.documentElement.dataset.firstPicture", 60)
        return int(waited) / 1e3


if __name__ == "__main__":
    main()
