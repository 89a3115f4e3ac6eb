"""Make the table of the page "Will it read my recording?".

    python tools/read_formats.py doc/explanations/formats.csv

Writes ten seconds of the recording that ships with the package in every format that the
installed packages write, opens each file as a user would, and predicts from it. Formats
that nobody here can write are not in the table.
"""

import argparse
import csv
import tempfile
import warnings
from pathlib import Path

import mne
import numpy as np

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]


def bare(raw):
    """Leave names and samples, as formats without positions do."""
    info = mne.create_info(raw.ch_names, raw.info["sfreq"], "eeg")
    return mne.io.RawArray(raw.get_data(), info, verbose=False)


def write_all(raw, folder):
    """Yield what was written: format, file and reader."""
    read = mne.io.read_raw
    for ending, name in (("edf", "EDF+"), ("bdf", "BDF+")):
        file = folder / f"a.{ending}"
        mne.export.export_raw(file, bare(raw), verbose="error")
        yield name, file, read
    file = folder / "a.vhdr"
    mne.export.export_raw(file, bare(raw), verbose="error")
    yield "BrainVision, without positions", file, read
    file = folder / "b.vhdr"
    mne.export.export_raw(file, raw, verbose="error")
    yield "BrainVision, with positions", file, read
    file = folder / "a.set"
    mne.export.export_raw(file, raw, verbose="error")
    yield "EEGLAB, continuous", file, read
    file = folder / "b.set"
    mne.export.export_raw(file, bare(raw), verbose="error")
    yield "EEGLAB, without positions", file, read
    epochs = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose="error")
    epochs.export(folder / "c.set", verbose="error")
    yield "EEGLAB, epochs", folder / "c.set", mne.read_epochs_eeglab
    raw.save(folder / "a_raw.fif", verbose="error")
    yield "FIF", folder / "a_raw.fif", read
    raw.save(folder / "b_raw.fif", split_size="2MB", verbose="error")
    yield "FIF, split", folder / "b_raw.fif", read
    epochs.save(folder / "a-epo.fif", verbose="error")
    yield "FIF, epochs", folder / "a-epo.fif", mne.read_epochs


def try_one(file, read, right):
    """Return channels used, how far positions are off by name, what came, likeness."""
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            inst = read(file, verbose="error")
            virtual = mne_neuroflow.predict_ieeg(
                inst, contacts=POINTS, output="mean", n_draws=20, random_state=0
            )
            data = virtual.get_data()
        except Exception as err:
            return "", f"{type(err).__name__}: {err}", ""
        said += [str(each.message) for each in caught]
    data = np.concatenate(data, axis=-1) if data.ndim == 3 else data
    n = min(data.shape[1], right.shape[1])
    likeness = [
        np.corrcoef(a[:n], b[:n])[0, 1] for a, b in zip(data, right, strict=True)
    ]
    came = "predicted" + "".join(f"; warned: {text}" for text in said)
    return len(inst.ch_names), came, f"{np.median(likeness):.2f}"


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    mne.set_log_level("error")
    raw = load_demo().crop(0, 10, include_tmax=False).load_data()
    right = mne_neuroflow.predict_ieeg(
        raw, contacts=POINTS, output="mean", n_draws=20, random_state=0
    ).get_data()
    rows = [("Format", "Channels", "What came", "Correlation with the original")]
    with tempfile.TemporaryDirectory() as folder:
        for name, file, read in write_all(raw, Path(folder)):
            rows.append((name, *try_one(file, read, right)))
            print(rows[-1], flush=True)
    with open(options.out, "w", newline="", encoding="utf-8") as fid:
        csv.writer(fid, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
