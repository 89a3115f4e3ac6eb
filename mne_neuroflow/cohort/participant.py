"""The work of a worker: one recording, from its file to its tables."""

import ctypes
import hashlib
import json
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, wraps
from glob import escape
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
from .folder import Folder, write_json, write_tsv

_WINDOW = 60.0  # seconds, without time courses
_CHANGES_NO_NUMBER = ("out", "work", "stretch", "device", "keep_recordings", "tsv")
# M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD of glibc's malloc.h, in bytes.
_MALLOC_OPTIONS = {-1: 64 * 2**20, -2: 160 * 2**20, -3: 32 * 2**20}
_MIN_GOOD = 0.5  # windows with a smaller share of good time are left out


@dataclass(frozen=True)
class Settings:
    """Settings of the prediction, and the folders of its results."""

    out: str  #: the folder of results
    work: str  #: the folder for parts of long recordings
    montage: mne.channels.DigMontage  #: contacts
    model: str  #: name of the weights, or their file
    n_draws: int  #: number of draws for each interval
    seed: int  #: seed of the cohort
    window: float | None  #: seconds of windows of time courses; None for no courses
    control: bool  #: whether to repeat everything with shifted scalp EEG
    keep_recordings: str | None  #: 'fif' or 'edf' to write a draw of the signals
    tsv: bool  #: whether to write tables as TSV too
    stretch: float  #: seconds of a long recording in one task
    trans: str  #: 'fsaverage', or the file name of the transforms of participants
    device: str  #: device of the flow
    specparam: bool  #: whether specparam fits the exponents too

    def digest(self):
        """Compute a hash of the settings that change the numbers of results.

        Returns
        -------
        digest : str
            Hash of all settings except folders, the division of the work, the device
            and additional files.
        """
        settings = {
            name: value
            for name, value in vars(self).items()
            if name not in _CHANGES_NO_NUMBER + ("montage",)
        }
        names, positions = contact_positions(self.montage)
        settings |= dict(names=list(names), positions=positions.round(6).tolist())
        settings |= dict(weights=find_model(self.model).sha256, version=__version__)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def seed_of(self, found):
        """Return the seed of a recording, which depends on its name.

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

    def trans_of(self, found):
        """Return the transform from head coordinates to the fsaverage MRI.

        Parameters
        ----------
        found : Found
            The recording.

        Returns
        -------
        trans : str
            ``'fsaverage'`` or a file.
        """
        return self.trans.format(
            participant=found.entity("subject"), session=found.entity("session")
        )


class Measured(NamedTuple):
    """Results for a stretch in addition to the measurements in its windows."""

    known: list  #: feature, value and place of features without draws
    warnings: list  #: differences from what the model was built for
    description: str  #: provenance
    seconds: float  #: computing time


def expected_fingerprint(found, settings):
    """Compute a hash of everything on which the results of a recording depend.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        The settings of the prediction.

    Returns
    -------
    digest : str
        The fingerprint. Results with this fingerprint need not be computed again.
    """
    digest = hashlib.sha256((fingerprint(found) + settings.digest()).encode())
    trans = Path(settings.trans_of(found))
    if trans.is_file():
        digest.update(trans.read_bytes())
    return digest.hexdigest()[:16]


# Workers of a user's own cluster may have several threads, for which the predictors of
# the last recording, torch's threads and the levels of messages are common.
_ALONE = threading.RLock()


def _one_at_a_time(task):
    """Let the threads of a process do a task in turns."""

    @wraps(task)
    def in_turn(*args):
        with _ALONE:
            return task(*args)

    return in_turn


@_one_at_a_time
def begin(found, settings):
    """Predict a recording, or return into how many stretches to divide it.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        The settings of the prediction.

    Returns
    -------
    row : dict | None
        The row of the status table, see :data:`mne_neuroflow.cohort.folder.STATUS`.
    n_stretches : int
        The number of stretches. If there are several, call :func:`measure_stretch` for
        each, and then :func:`finish`.
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


@_one_at_a_time
def measure_stretch(found, settings, number):
    """Measure the windows of one stretch, and save them to the work folder.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        The settings of the prediction.
    number : int
        Index of the stretch.

    Returns
    -------
    measured : Measured
        The other results. A stretch that was saved before is not measured again.
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


@_one_at_a_time
def finish(found, settings, measured):
    """Combine the stretches of a long recording.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        The settings of the prediction.
    measured : list of Measured
        Results for all stretches.

    Returns
    -------
    row : dict
        The row of the status table.
    """
    with _as_a_row(found) as outcome:
        # A worker that was killed after this step may have deleted the files of other
        # workers, whose stretches dask does not measure again.
        for number in range(len(measured)):
            measure_stretch(found, settings, number)
        raw = read_recording(found)
        folder = _work_folder(found, settings)
        parts = {
            scalp: _Saved(sorted(folder.glob(f"{scalp}-*.npz")))
            for scalp in _scalps(settings)
        }
        outcome.update(_finish(found, settings, raw, measured, parts))
    Folder(settings.out).record(outcome)
    if outcome["state"] == "done":
        # All files at once, so that some of them are never taken for all. Another run
        # may have removed them.
        with draft_folder(folder.parent) as draft, suppress(FileNotFoundError):
            folder.rename(draft / folder.name)
    return outcome


# Measuring ----------------------------------------------------------------------------


def _measure(found, settings, raw, windows):
    """Measure some windows with recorded and, as a control, shifted scalp EEG."""
    keep_memory()
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
                if share >= _MIN_GOOD
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
    """Prepare a recording once for all its stretches in this process."""
    # A worker may live on while files of the recording are replaced.
    recording = (found, expected_fingerprint(found, settings))
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
    """Make the predictor, with estimates from the whole recording.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        The settings of the prediction.
    raw : Raw
        The scalp EEG.

    Returns
    -------
    predictor : Predictor
        The predictor.
    warned : list of str
        Differences from what the model was built for.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor = Predictor(
            raw,
            contacts=settings.montage,
            model=settings.model,
            random_state=settings.seed_of(found),
            device=settings.device,
            trans=settings.trans_of(found),
        )
    return predictor, [" ".join(str(one.message).split()) for one in caught]


@contextmanager
def one_thread():
    """Make torch use one thread, because workers that share cores wait for each other.

    The result is then also the same for any number of workers.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def keep_memory():
    """Let glibc keep the memory of deleted arrays for the next ones.

    By default, dask starts its workers with ``MALLOC_TRIM_THRESHOLD_``. glibc then no
    longer adapts its thresholds, and asks the system for each large array anew, which
    doubles the processor time of predictions. With or without it, glibc also returns
    the memory of threads other than the main one, and workers compute in such a
    thread. These are the largest thresholds that glibc would choose by itself on 64
    bit, and a padding larger than a thread's heap of 64 MB (mallopt(3)).

    Returns
    -------
    changed : bool
        Whether the thresholds were set, which only glibc has.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return set_option is not None and all(
        [set_option(option, size) for option, size in _MALLOC_OPTIONS.items()]
    )


def _known(predictor, raw, places):
    """List features without draws: observability, and quality of the scalp EEG."""
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
    """Windows on disk, which are read one at a time."""

    def __init__(self, files):
        self._files = files

    def __len__(self):
        return len(self._files)

    def __getitem__(self, number):
        with np.load(self._files[number]) as saved:
            return Window(**saved)


# Writing ------------------------------------------------------------------------------


def _finish(found, settings, raw, measured, parts):
    """Write the tables of a recording, and return its row of the status table."""
    folder, places = Folder(settings.out), Places(settings.montage)
    if not len(parts["recorded"]):
        raise ValueError("No window of the recording is good for half of its time.")
    tables, courses = [tabulate_known(measured[0].known)], []
    scalps = ["recorded"]
    for scalp, windows in parts.items():
        typical = typical_line_length(windows)
        values = combine(windows, typical, settings.specparam)
        tables.append(tabulate(values, places))
        scalps.append(scalp)
        if settings.window is not None:
            courses += [_course(window, typical, places, scalp) for window in windows]
    table = pd.concat(tables, keys=scalps, names=["scalp", None]).reset_index("scalp")
    _remove_old(found, folder, settings)
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
        options=settings.digest()[:16],
        fingerprint=expected_fingerprint(found, settings),
    )


def outputs(found, settings):
    """List the files with the results of a recording.

    Parameters
    ----------
    found : Found
        The recording.
    settings : Settings
        The settings of the prediction.

    Returns
    -------
    fnames : list of Path
        Tables, the virtual recording if it is kept, and their description, which is
        written last.
    """
    endings = (".parquet", ".tsv") if settings.tsv else (".parquet",)
    tables = ("features",) if settings.window is None else ("features", "courses")
    kinds = [(what, ending) for what in tables for ending in endings]
    if settings.keep_recordings is not None:
        kinds.append(("ieeg", f".{settings.keep_recordings}"))
    kinds.append(("features", ".json"))
    return [Folder(settings.out).table(found, *kind) for kind in kinds]


def _remove_old(found, folder, settings):
    """Remove results of other options or of another recording with this name."""
    row = folder.recorded(found.name)
    if row.get("fingerprint") != expected_fingerprint(found, settings):
        features = folder.table(found)
        stem = features.stem.removesuffix("features")
        for file in features.parent.glob(f"{escape(stem)}*"):
            file.unlink(missing_ok=True)


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
        write_tsv(table.drop(columns="draws"), folder.table(found, what, ".tsv"))


def _write_recording(found, settings, raw, folder):
    from ..export import export_edf

    with one_thread(), mne.use_log_level("error"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # already recorded by the measurement
        virtual = predict_ieeg(
            raw,
            contacts=settings.montage,
            model=settings.model,
            random_state=settings.seed_of(found),
            device=settings.device,
            trans=settings.trans_of(found),
        )
        fname = folder.table(found, "ieeg", f".{settings.keep_recordings}")
        if fname.suffix == ".edf":
            export_edf(virtual, fname, overwrite=True)  # completely or not at all
            return
        with draft_folder(fname.parent) as draft:
            virtual.save(draft / fname.name)
            move_into(draft, fname.parent)


@contextmanager
def _as_a_row(found):
    """Catch errors, and add them to the row of the status table.

    Errors of the disk, of the network and of memory are raised, for another attempt.
    """
    row, begun = new_row(found), time.perf_counter()
    try:
        yield row
    except (OSError, MemoryError):
        raise
    except Exception as err:  # readers raise many kinds
        seconds = round(time.perf_counter() - begun, 1)
        row.update(state="failed", reason=one_line(err), seconds=seconds)
    row["peak_memory"] = _peak_memory()
    row["finished"] = datetime.now(UTC).isoformat(timespec="seconds")


def new_row(found, **known):
    """Make a row of the status table.

    Parameters
    ----------
    found : Found
        The recording.
    **known : dict
        Values of columns.

    Returns
    -------
    row : dict
        The row, see :data:`mne_neuroflow.cohort.folder.STATUS`.
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
    """Format an error as one line.

    Parameters
    ----------
    err : Exception
        The error.

    Returns
    -------
    reason : str
        The message, with the type of the error if it is not an error for users.
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
