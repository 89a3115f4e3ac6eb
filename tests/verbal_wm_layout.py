"""Recordings in the layout of OpenNeuro ds004752: real side-cars, made-up signals.

``data/ds004752-side-cars.tar.xz`` holds every side-car of version 1.0.1, byte by byte
(CC0, doi:10.18112/openneuro.ds004752.v1.0.1). The signals are not there; these are
noise and known waveforms in EDF files that are laid out as the real ones, whose sizes
(256 bytes of header per channel and 256 more, then two bytes a sample) imply that they
have neither annotations nor padding.
"""

import io
import tarfile
from functools import cache
from pathlib import Path

import edfio
import numpy as np
import pandas as pd

SIDE_CARS = Path(__file__).parent / "data" / "ds004752-side-cars.tar.xz"


@cache
def side_cars():
    """Read the side-cars: path in the dataset to content."""
    with tarfile.open(SIDE_CARS) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def stem(subject, session, kind):
    """Begin the path of the files of one side of one session."""
    who = f"sub-{subject:02d}_ses-{session:02d}"
    return f"{who.replace('_', '/')}/{kind}/{who}_task-verbalWM_run-01_"


def table(name):
    """Read a side-car that is a table, as it is."""
    return pd.read_csv(io.BytesIO(side_cars()[name]), sep="\t")


def noise(channels, n_times, seed=0):
    """Made-up signals, microvolts: channels by time."""
    rng = np.random.default_rng(seed)
    return 20 * rng.standard_normal((channels, n_times)).astype(np.float32)


def write_session(
    folder, subject, session, n_trials=2, signals=noise, unit="", names=str
):
    """Write one session with its first trials.

    Parameters
    ----------
    folder : Path
        The dataset.
    subject, session, n_trials : int
        What to write; the rows of the other trials are cut from the ``events.tsv``.
    signals : callable
        ``signals(n_channels, n_times)`` in microvolts.
    unit : str
        Physical dimension in the EDF header; FieldTrip's writer leaves it blank.
    names : callable
        Changes the channels' names in the EDF header.
    """
    first = f"sub-{subject:02d}/ses-{session:02d}/"
    for name, content in side_cars().items():
        if (
            name.count("/") == 0
            or name.startswith(first)
            or (name == f"sub-{subject:02d}/sub-{subject:02d}_sessions.tsv")
        ):
            if name.endswith("_events.tsv"):
                content = b"".join(content.splitlines(keepends=True)[: n_trials + 1])
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    for kind in ("eeg", "ieeg"):
        start = stem(subject, session, kind)
        channels = table(f"{start}channels.tsv")
        last = table(f"{start}events.tsv")["endSample"][n_trials - 1]
        labels = list(map(names, channels["name"]))
        data = signals(len(channels), last)
        write_edf(
            folder / f"{start}{kind}.edf",
            labels,
            data,
            int(channels["sampling_frequency"][0]),
            unit,
        )


def write_edf(fname, labels, data, sfreq, unit):
    """Write an EDF file with records of one second and no annotations."""
    signals = [
        edfio.EdfSignal(row, sfreq, label=label, physical_dimension=unit)
        for label, row in zip(labels, data, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=1).write(fname)
    assert fname.stat().st_size == 256 * (1 + len(labels)) + 2 * data.size
