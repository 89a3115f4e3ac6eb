"""Estimates of time and disk space for a cohort, from a trial of ten seconds."""

import io
import time
from typing import NamedTuple

import mne
import numpy as np

from .features import Places, combine, measure, tabulate, typical_line_length
from .find import find_recordings, read_recording
from .participant import one_line, one_thread, prepare
from .run import not_done

_TRIAL = 10.0  # seconds
_HEADERS = 20  # recordings from whose duration the total is estimated


class Plan(NamedTuple):
    """The recordings to predict, and estimates of time and disk space."""

    missing: list  #: recordings to be predicted
    n_done: int  #: recordings that are done already
    hours: float  #: of scalp EEG in them
    work: float  #: hours of one core
    disk: float  #: bytes


def plan_cohort(root, settings, **chosen):
    """Estimate the work of :func:`mne_neuroflow.predict_cohort`.

    Parameters
    ----------
    root : path-like
        The dataset.
    settings : Settings
        How recordings are predicted.
    **chosen : dict
        Parameters of :func:`mne_neuroflow.cohort.find.find_recordings`.

    Returns
    -------
    plan : Plan
        The estimates. They use the durations of up to twenty recordings, and a trial
        with the first that can be read. Nothing is written.
    """
    found = find_recordings(root, settings.out, **chosen)
    missing = not_done(found, settings)
    if not missing:
        return Plan([], len(found), 0.0, 0.0, 0.0)
    step = -(-len(missing) // _HEADERS)
    durations, reasons, trial = [], [], None
    for one in missing[::step]:
        try:
            raw = read_recording(one)
            durations.append(raw.n_times / raw.info["sfreq"])
            trial = trial or _try(one, settings, raw)
        except Exception as err:  # readers raise many kinds
            reasons.append(f"{one.name}: {one_line(err)}")
    if trial is None:
        raise RuntimeError(f"No recording of the trial could be read. {reasons[0]}")
    seconds = np.mean(durations) * len(missing)
    setup, pace, bytes_once, bytes_a_second = trial
    n_scalps = 1 + settings.control
    work = n_scalps * (len(missing) * setup + seconds * pace)
    if settings.keep_recordings is not None:  # one further prediction of one draw
        work += len(missing) * setup + seconds * pace / settings.n_draws
    disk = n_scalps * len(missing) * bytes_once + seconds * bytes_a_second
    n_done = len(found) - len(missing)
    return Plan(missing, n_done, seconds / 3600, work / 3600, disk)


def _try(found, settings, raw):
    """Return seconds per recording and per second, then bytes of both."""
    stop = min(raw.n_times, round(_TRIAL * raw.info["sfreq"]))
    sfreq, places = raw.info["sfreq"], Places(settings.montage)
    with one_thread(), mne.use_log_level("error"):
        prepare(found, settings, raw)  # not counted: it loads torch and the weights
        begun = time.perf_counter()
        predictor, _ = prepare(found, settings, raw)
        ready = time.perf_counter()
        draws = predictor.draws(0, stop, range(settings.n_draws))
        window = measure(draws, sfreq, places)
        measured = time.perf_counter()
    typical = typical_line_length([window])
    values = combine([window], typical, settings.specparam)
    setup = ready - begun + time.perf_counter() - measured
    n_bytes = 0.0
    if settings.window is not None:
        n_bytes += _size(tabulate(values, places, contacts=False)) / settings.window
        n_bytes *= 1 + settings.control
    if settings.keep_recordings is not None:
        width = 4 if settings.keep_recordings == "fif" else 2
        n_bytes += width * sfreq * len(places.names)
    pace = (measured - ready) / (stop / sfreq)
    return setup, pace, _size(tabulate(values, places)), n_bytes


def _size(table):
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.tell()
