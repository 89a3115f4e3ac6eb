"""What a cohort would take, from a trial of ten seconds."""

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
_HEADERS = 20  # recordings whose duration stands for all


class Plan(NamedTuple):
    """What would be done, and what it would take."""

    missing: list  #: recordings to be predicted
    n_done: int  #: recordings that are done already
    hours: float  #: of scalp EEG in them
    work: float  #: hours of one core
    disk: float  #: bytes


def plan_cohort(root, settings, **chosen):
    """Tell what :func:`mne_neuroflow.predict_cohort` would do and take.

    Parameters
    ----------
    root : path-like
        The dataset.
    settings : Settings
        How recordings are predicted.
    **chosen : dict
        Which recordings, see :func:`mne_neuroflow.cohort.find.find_recordings`.

    Returns
    -------
    plan : Plan
        Hours and disk are estimated from the durations of up to twenty recordings and
        a trial with the first that can be read. Nothing is written.
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
    disk = n_scalps * len(missing) * bytes_once + seconds * bytes_a_second
    n_done = len(found) - len(missing)
    return Plan(missing, n_done, seconds / 3600, work / 3600, disk)


def _try(found, settings, raw):
    """Return seconds to begin, seconds and bytes of a second, bytes of a recording."""
    stop = min(raw.n_times, round(_TRIAL * raw.info["sfreq"]))
    sfreq, places = raw.info["sfreq"], Places(settings.montage)
    with one_thread(), mne.use_log_level("error"):
        prepare(found, settings, raw)  # not counted: it loads torch and the weights
        begun = time.perf_counter()
        predictor, _ = prepare(found, settings, raw)
        ready = time.perf_counter()
        draws = predictor.draws(0, stop, range(settings.n_draws))
        window = measure(draws, sfreq, places)
        done = time.perf_counter()
    values = combine([window], typical_line_length([window]))
    n_bytes = 0.0
    if settings.window is not None:
        n_bytes += _size(tabulate(values, places, contacts=False)) / settings.window
        n_bytes *= 1 + settings.control
    if settings.keep_recordings is not None:
        width = 4 if settings.keep_recordings == "fif" else 2
        n_bytes += width * sfreq * len(places.names)
    pace = (done - ready) / (stop / sfreq)
    return ready - begun, pace, _size(tabulate(values, places)), n_bytes


def _size(table):
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.tell()
