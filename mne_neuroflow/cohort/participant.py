"""One recording, from its file to its tables: what a worker does."""

import hashlib
import json
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from .. import __version__
from .._files import draft_folder, move_into, written_whole
from ..head.contacts import contact_positions
from ..head.geometry import load_head, project_to_scalp
from ..predict import predict_ieeg
from ..predictor import Predictor
from ..weights.model import find_model
from .control import RawShifted
from .features import (
    SHORTEST,
    Places,
    Window,
    combine,
    cut_windows,
    measure,
    tabulate,
    tabulate_known,
    typical_line_length,
)
from .find import fingerprint, read_recording
from .folder import Folder, write_json

_WINDOW = 60.0  # seconds, unless courses are asked for
_MOSTLY = 0.5  # share of a window that is good, below which it is left out


@dataclass(frozen=True)
class Settings:
    """How recordings are predicted, and where to."""

    out: str  #: the folder of results
    work: str  #: the folder of what is measured in parts of long recordings
    montage: mne.channels.DigMontage  #: contacts
    model: str  #: name of the weights, or their file
    n_draws: int  #: behind each interval
    seed: int  #: of the cohort
    window: float | None  #: seconds of the windows of courses; None for no courses
    control: bool  #: whether to do the same with a shifted scalp
    keep_recordings: str | None  #: 'fif' or 'edf' to write a draw of the signals
    tsv: bool  #: whether to write tables as TSV too
    stretch: float  #: seconds of a long recording that one task measures

    def digest(self):
        """Hash what a change of must change results.

        Returns
        -------
        digest : str
            Of all but folders and how the work is cut.
        """
        told = {
            name: value
            for name, value in vars(self).items()
            if name not in ("out", "work", "stretch", "montage")
        }
        names, positions = contact_positions(self.montage)
        told |= dict(names=list(names), positions=positions.round(6).tolist())
        told |= dict(weights=find_model(self.model).sha256, version=__version__)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def seed_of(self, found):
        """Return the seed of a recording, which follows from its name alone.

        Parameters
        ----------
        found : Found
            The recording.

        Returns
        -------
        seed : int
            Below 2**63.
        """
        digest = hashlib.sha256(f"{self.seed} {found.name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


class Measured(NamedTuple):
    """What a stretch says beside what is measured in its windows."""

    known: list  #: feature, value and place of what has no draws
    warnings: list  #: what was found unlike what the model was built for
    description: str  #: provenance
    seconds: float  #: that it took


def expected_fingerprint(found, settings):
    """Hash all that the results of a recording follow from.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        How it is predicted.

    Returns
    -------
    digest : str
        Results with this fingerprint need not be made again.
    """
    both = fingerprint(found) + settings.digest()
    return hashlib.sha256(both.encode()).hexdigest()[:16]


def begin(found, settings):
    """Predict a recording, or say into how many stretches it is to be cut.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        How it is predicted.

    Returns
    -------
    row : dict | None
        What became of it, see :data:`mne_neuroflow.cohort.folder.STATUS`.
    n_stretches : int
        More than one where :func:`measure_stretch` and :func:`finish` are to follow.
    """
    with _as_a_row(found) as outcome:
        if found.problem:
            raise ValueError(found.problem)
        raw = read_recording(found)
        windows = _windows(raw, settings)
        size = _windows_of_a_stretch(settings)
        if len(windows) > size:
            return None, -(-len(windows) // size)
        measured, parts = _measure(found, settings, raw, windows)
        outcome.update(_finish(found, settings, raw, [measured], parts))
    Folder(settings.out).record(outcome)
    return outcome, 1


def measure_stretch(found, settings, number):
    """Measure the windows of one stretch of a long recording, into the work folder.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        How it is predicted.
    number : int
        Which stretch.

    Returns
    -------
    measured : Measured
        What it says beside. A stretch that is there is not measured again.
    """
    folder = _work_folder(found, settings)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"stretch-{number:05d}.json"
    if done.is_file():
        return Measured(**json.loads(done.read_text("utf-8")))
    raw = read_recording(found)
    windows, size = _windows(raw, settings), _windows_of_a_stretch(settings)
    first = number * size
    measured, parts = _measure(found, settings, raw, windows[first : first + size])
    for scalp, some in parts.items():
        for k, window in enumerate(some):
            fname = folder / f"{scalp}-{first + k:06d}.npz"
            with written_whole(fname) as fname:
                np.savez(fname, **window._asdict())
    write_json(done, measured._asdict())
    return measured


def finish(found, settings, measured):
    """Put the stretches of a long recording together.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        How it is predicted.
    measured : list of Measured
        Of all stretches.

    Returns
    -------
    row : dict
        What became of the recording.
    """
    with _as_a_row(found) as outcome:
        raw = read_recording(found)
        folder = _work_folder(found, settings)
        parts = {
            scalp: _Saved(sorted(folder.glob(f"{scalp}-*.npz")))
            for scalp in _scalps(settings)
        }
        outcome.update(_finish(found, settings, raw, measured, parts))
    Folder(settings.out).record(outcome)
    if outcome["state"] == "done":
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    return outcome


# Measuring ----------------------------------------------------------------------------


def _measure(found, settings, raw, windows):
    """Measure some windows with the recorded scalp and, as a control, the shifted."""
    begun, sfreq = time.perf_counter(), raw.info["sfreq"]
    places, parts = Places(settings.montage), {}
    with one_thread(), mne.use_log_level("error"):
        recorded, warned = _prepared(found, settings, raw, "recorded")
        shares = [_good_share(recorded.scalp, first, last) for first, last in windows]
        for scalp in _scalps(settings):
            predictor, _ = _prepared(found, settings, raw, scalp)
            parts[scalp] = [
                measure(
                    predictor.draws(first, last, range(settings.n_draws)),
                    sfreq,
                    places,
                )._replace(start=first / sfreq, good=share)
                for (first, last), share in zip(windows, shares, strict=True)
                if share >= _MOSTLY
            ]
    measured = Measured(
        _known(recorded, raw, places),
        warned,
        recorded.describe("draws"),
        time.perf_counter() - begun,
    )
    return measured, parts


def _good_share(scalp, first, last):
    """Return the share of good seconds in a window."""
    start, stop = first / scalp.sfreq, last / scalp.sfreq
    return float(scalp.good[0, int(start) : int(np.ceil(stop))].mean())


def _scalps(settings):
    return ("recorded", "shifted") if settings.control else ("recorded",)


_LAST = {}  # the predictors of the last recording of this process


def _prepared(found, settings, raw, scalp):
    """Go through a recording once for all its stretches in this process."""
    recording = (found, settings.digest())
    if _LAST.get("recording") != recording:
        _LAST.clear()
        _LAST["recording"] = recording
    if scalp not in _LAST:
        inst = raw
        if scalp == "shifted":
            recorded, _ = _prepared(found, settings, raw, "recorded")
            inst = RawShifted(recorded.scalp, settings.seed_of(found))
        _LAST[scalp] = prepare(found, settings, inst)
    return _LAST[scalp]


def prepare(found, settings, raw):
    """Estimate what a prediction needs to know of a whole recording.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        How it is predicted.
    raw : Raw
        Its scalp.

    Returns
    -------
    predictor : Predictor
        Ready to draw.
    warned : list of str
        What was found unlike what the model was built for.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor = Predictor(
            raw,
            contacts=settings.montage,
            model=settings.model,
            random_state=settings.seed_of(found),
        )
    return predictor, [" ".join(str(one.message).split()) for one in caught]


@contextmanager
def one_thread():
    """Let torch work with one thread: workers that share cores wait for each other.

    It also makes the result the same for any number of workers.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _known(predictor, raw, places):
    """List what has no draws: the observability, and the quality of the scalp."""
    known = [
        (
            "observability",
            float(value),
            dict(level="contact", contact=name, structure=structure, side=side),
        )
        for value, name, structure, side in zip(
            predictor.observability,
            places.names,
            places.structure.tolist(),
            places.side.tolist(),
            strict=True,
        )
    ]
    for (structure, side), index in places.groups.items():
        value = float(predictor.observability[index].mean())
        where = dict(level="structure", structure=str(structure), side=str(side))
        known.append(("observability", value, where))
    scalp = predictor.scalp
    eeg = mne.pick_types(raw.info, meg=False, eeg=True, exclude=())
    misfit = np.median(project_to_scalp(load_head(), scalp.electrodes)[3])
    for feature, value in (
        ("channels_used", len(scalp.ch_names)),
        ("channels_left_out", len(eeg) - len(scalp.ch_names)),
        ("good_time", scalp.good.mean()),
        ("gain", predictor.gain),
        ("head_misfit", 1e3 * misfit),
    ):
        known.append((feature, float(value), dict(level="recording")))
    return known


def _windows(raw, settings):
    seconds = raw.n_times / raw.info["sfreq"]
    if seconds < SHORTEST:
        raise ValueError(
            f"Recordings must last for at least {SHORTEST:g} s, but this one lasts for "
            f"{seconds:.3g} s."
        )
    window = settings.window or _WINDOW
    return cut_windows(raw.n_times, raw.info["sfreq"], window)


def _windows_of_a_stretch(settings):
    return max(1, round(settings.stretch / (settings.window or _WINDOW)))


def _work_folder(found, settings):
    name = f"{found.name}-{expected_fingerprint(found, settings)}"
    return Path(settings.work) / name


class _Saved:
    """Windows that lie on disk, read one at a time."""

    def __init__(self, files):
        self._files = files

    def __len__(self):
        return len(self._files)

    def __getitem__(self, number):
        with np.load(self._files[number]) as saved:
            return Window(**saved)


# Writing ------------------------------------------------------------------------------


def _finish(found, settings, raw, measured, parts):
    """Write the tables of a recording; return what its row of the status says."""
    folder, places = Folder(settings.out), Places(settings.montage)
    if not len(parts["recorded"]):
        raise ValueError("No window of the recording is good for half of its time.")
    tables, courses = [tabulate_known(measured[0].known)], []
    scalps = ["recorded"]
    for scalp, windows in parts.items():
        typical = typical_line_length(windows)
        tables.append(tabulate(combine(windows, typical), places))
        scalps.append(scalp)
        if settings.window is not None:
            courses += [_course(window, typical, places, scalp) for window in windows]
    table = pd.concat(tables, keys=scalps, names=["scalp", None]).reset_index("scalp")
    _write_table(table, found, folder, "features", settings)
    if courses:
        _write_table(pd.concat(courses), found, folder, "courses", settings)
    if settings.keep_recordings is not None:
        _write_recording(found, settings, raw, folder)
    said = list(dict.fromkeys(line for one in measured for line in one.warnings))
    write_json(
        folder.table(found, ending=".json"),
        {
            "Description": measured[0].description,
            "Sources": [found.file],
            "Seed": settings.seed_of(found),
            "Draws": settings.n_draws,
            "Warnings": said,
        },
    )
    return dict(
        state="done",
        reason=" ".join(said),
        duration=round(raw.n_times / raw.info["sfreq"], 3),
        seconds=round(sum(one.seconds for one in measured), 1),
        fingerprint=expected_fingerprint(found, settings),
    )


def _course(window, typical, places, scalp):
    table = tabulate(combine([window], typical), places, contacts=False)
    table.insert(0, "scalp", scalp)
    start = float(window.start)
    table.insert(1, "start", start)
    table.insert(2, "stop", start + float(window.seconds))
    return table


def _write_table(table, found, folder, what, settings):
    for which in ("run", "task", "session", "subject"):
        name = "participant" if which == "subject" else which
        table.insert(0, name, found.entity(which))
    table.insert(0, "recording", found.name)
    table = table.reset_index(drop=True)
    fname = folder.table(found, what)
    fname.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(fname) as fname:
        table.to_parquet(fname, index=False)
    if settings.tsv:
        with written_whole(folder.table(found, what, ".tsv")) as fname:
            table.drop(columns="draws").to_csv(fname, sep="\t", index=False)


def _write_recording(found, settings, raw, folder):
    from ..export import export_edf

    with one_thread(), mne.use_log_level("error"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when the recording was measured
        virtual = predict_ieeg(
            raw,
            contacts=settings.montage,
            model=settings.model,
            random_state=settings.seed_of(found),
        )
        fname = folder.table(found, "ieeg", f".{settings.keep_recordings}")
        with draft_folder(fname.parent) as draft:
            if fname.suffix == ".fif":
                virtual.save(draft / fname.name)
            else:
                export_edf(virtual, draft / fname.name)
            move_into(draft, fname.parent)


@contextmanager
def _as_a_row(found):
    """Make a row of the status of what happens.

    Errors of the disk, of the network and of memory are left to be tried again.
    """
    row = new_row(found)
    try:
        yield row
    except (OSError, MemoryError):
        raise
    except Exception as err:  # readers raise many kinds
        row.update(state="failed", reason=one_line(err))
    row["peak_memory"] = _peak_memory()
    row["finished"] = datetime.now(UTC).isoformat(timespec="seconds")


def new_row(found, **known):
    """Make a row of the status table.

    Parameters
    ----------
    found : Found
        The recording.
    **known : dict
        What is known of it.

    Returns
    -------
    row : dict
        See :data:`mne_neuroflow.cohort.folder.STATUS`.
    """
    return (
        dict(
            recording=found.name,
            participant=found.entity("subject"),
            session=found.entity("session"),
            task=found.entity("task"),
            run=found.entity("run"),
            file=found.file,
            state="waiting",
            reason="",
        )
        | known
    )


def one_line(err):
    """Write an error as one line.

    Parameters
    ----------
    err : Exception
        What was raised.

    Returns
    -------
    reason : str
        With the kind of error where users are not spoken to.
    """
    message = " ".join(str(err).split())
    spoken = (OSError, RuntimeError, TypeError, ValueError)
    return (
        message
        if isinstance(err, spoken) and message
        else (f"{type(err).__name__}: {message}")
    )


def _peak_memory():
    """Return the peak memory of this process in megabytes."""
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**20)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
