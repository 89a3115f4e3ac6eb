"""Many recordings on dask: the participant level of a cohort."""

from __future__ import annotations

import logging
import os
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from .._compat import _check_option, _validate_type, logger, verbose
from ..head.contacts import make_contacts
from ..weights.model import find_model
from .find import find_recordings
from .folder import Folder
from .participant import (
    Settings,
    begin,
    expected_fingerprint,
    finish,
    measure_stretch,
    new_row,
    one_line,
)

if TYPE_CHECKING:
    import pandas

# Tasks that the scheduler knows of at a time: enough for large clusters to grow, few
# enough that a corpus does not fill its memory.
_IN_FLIGHT = 2000
_WRITE_EVERY = 2.0  # seconds between two versions of the status table, at least
_LEAST_DRAWS = 19  # that have a 90 % interval


@verbose
def predict_cohort(
    root,
    out,
    *,
    pattern=None,
    subjects=None,
    sessions=None,
    tasks=None,
    runs=None,
    derivatives=None,
    validate=True,
    contacts="mtl",
    model="mtl-v2",
    n_draws=20,
    random_state=0,
    window=None,
    control=True,
    keep_recordings=None,
    tsv=False,
    n_jobs=None,
    scheduler=None,
    retries=1,
    stretch=3600.0,
    work_dir=None,
    verbose=None,
) -> pandas.DataFrame:
    """Predict features of virtual contacts for all recordings of a dataset.

    Parameters
    ----------
    root : path-like
        A BIDS dataset with scalp EEG, or any folder if there is a ``pattern``.
    out : path-like
        The folder of results, a BIDS derivative dataset. What is there already and
        has not changed is not made again.
    pattern : str | None
        Which files of a folder that is not BIDS, for example ``'*.edf'``.
    subjects, sessions, tasks, runs : list of str | None
        Labels; ``None`` for all.
    derivatives : str | None
        Name of a pipeline in ``derivatives/`` whose cleaned recordings are read.
    validate : bool
        Refuse a folder without ``dataset_description.json``.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        As for :func:`predict_ieeg`, the same for all recordings.
    model : str | path-like
        As for :func:`predict_ieeg`.
    n_draws : int
        Draws behind every interval, 19 or more.
    random_state : int
        The seed of a recording follows from this number and the recording's name.
    window : float | None
        Seconds of the windows of courses over time; ``None`` writes no courses.
    control : bool
        Do the same with every scalp channel shifted in time by a different amount.
    keep_recordings : str | None
        ``'fif'`` or ``'edf'`` also writes a draw of the signals.
    tsv : bool
        Write tables as TSV too.
    n_jobs : int | None
        Worker processes of this machine; ``None`` for one per core. Each works with
        one thread.
    scheduler : str | path-like | distributed.Client | None
        A dask cluster to use instead: ``'tcp://host:port'``, a scheduler file, or a
        client.
    retries : int
        How often a recording is tried again after errors of the disk, the network or
        memory.
    stretch : float
        Seconds of a long recording that are one task. Results do not depend on it.
    work_dir : path-like | None
        Folder for parts of long recordings, which all workers see; ``None`` for
        ``out/work``.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    status : pandas.DataFrame
        One row per recording: ``state`` (``'done'``, ``'failed'`` or ``'waiting'``),
        ``reason``, ``duration`` of the recording and ``seconds`` of work,
        ``peak_memory`` of the worker in megabytes, and more. ``out/status.tsv`` holds
        it while the work goes on.

    See Also
    --------
    analyze_cohort
    predict_ieeg

    Notes
    -----
    Needs ``pip install mne-neuroflow[cohort]``.

    Every recording gets a table ``*_desc-virtual_features.parquet`` of power, relative
    power, aperiodic exponent, rate of spikes, rhythmic discharge, connectivity,
    lateralization, observability and quality of the scalp, with the median and the
    limits between which half and nine tenths of draws lie;
    ``desc-virtual_features.json`` says what its columns are.

    Windows lie at fixed places of a recording, and each is computed for itself with
    what was estimated from all of the recording: results are the same to the last bit
    for any number of workers and any ``stretch``. A recording that fails does not stop
    the others. Files are written beside and renamed.

    Workers are processes that import the script that started them: call this function
    under ``if __name__ == "__main__":``, as everywhere with dask.

    .. versionadded:: 0.1.0

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 5)
    >>> fname = raw.save("demo_raw.fif", verbose=False)
    >>> status = mne_neuroflow.predict_cohort(
    ...     ".", "results", pattern="*_raw.fif", contacts="mtl-core", n_jobs=1
    ... )
    >>> status["state"].tolist()
    ['done']
    """
    settings = check_settings(
        out, contacts, model, n_draws, random_state, window, control,
        keep_recordings, tsv, stretch, work_dir,
    )  # fmt: skip
    found = find_recordings(
        root,
        out,
        pattern=pattern,
        subjects=subjects,
        sessions=sessions,
        tasks=tasks,
        runs=runs,
        derivatives=derivatives,
        validate=validate,
    )
    folder = Folder(settings.out)
    options = dict(contacts=str(contacts), model=str(model), n_draws=n_draws)
    folder.create(root, options | dict(random_state=random_state, window=window))
    missing = not_done(found, settings)
    logger.info(
        "Recordings: %d, of which %d are done already.",
        len(found),
        len(found) - len(missing),
    )
    with _Status(folder, found, missing) as status:
        if missing:
            with _client(scheduler, n_jobs, retries) as client:
                _predict(client, missing, settings, retries, status)
    return status.table


def check_settings(
    out, contacts, model, n_draws, random_state, window, control, keep_recordings,
    tsv, stretch, work_dir,
):  # fmt: skip
    """Check how recordings are to be predicted.

    Parameters
    ----------
    out, contacts, model, n_draws, random_state : object
        As for :func:`mne_neuroflow.predict_cohort`.
    window, control, keep_recordings, tsv, stretch, work_dir : object
        As for :func:`mne_neuroflow.predict_cohort`.

    Returns
    -------
    settings : Settings
        The same, as workers need it.
    """
    _validate_type(n_draws, ("int-like",), "n_draws")
    if n_draws < _LEAST_DRAWS:
        raise ValueError(
            "Invalid value for the 'n_draws' parameter. Allowed values are integers "
            f"from {_LEAST_DRAWS}, which a 90 % interval needs, but got {n_draws}."
        )
    _validate_type(random_state, ("int-like",), "random_state", "int")
    _check_option("keep_recordings", keep_recordings, (None, "fif", "edf"))
    for name, value in (("window", window), ("stretch", stretch)):
        if value is not None and value < 10:
            raise ValueError(
                f"Invalid value for the '{name}' parameter. Allowed values are 10 s "
                f"and more, but got {value:g}."
            )
    find_model(model)  # refuses a wrong name before there is any work
    model = model if isinstance(model, str) else str(Path(model).absolute())
    out = os.path.abspath(out)
    return Settings(
        out,
        os.path.join(out, "work") if work_dir is None else os.path.abspath(work_dir),
        make_contacts(contacts, verbose="error"),
        model,
        int(n_draws),
        int(random_state),
        window,
        bool(control),
        keep_recordings,
        bool(tsv),
        float(stretch),
    )


# The cluster --------------------------------------------------------------------------


@contextmanager
def _client(scheduler, n_jobs, retries):
    """Connect with a cluster, or start one on this machine."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as err:
        raise ImportError(
            "To predict cohorts, install dask: pip install mne-neuroflow[cohort]"
        ) from err
    if isinstance(scheduler, Client):
        yield scheduler
        return
    with dask.config.set({"distributed.scheduler.allowed-failures": retries}):
        if scheduler is None:
            n_workers = n_jobs or len(os.sched_getaffinity(0))
            place = LocalCluster(
                n_workers=n_workers, threads_per_worker=1, dashboard_address=":0"
            )
            logger.info("Workers: %d.", n_workers)
            with _own_random_numbers(), place as cluster, Client(cluster) as client:
                logger.info("Dask dashboard: %s", client.dashboard_link)
                yield client
        else:
            is_file = Path(str(scheduler)).is_file()
            where = dict(scheduler_file=str(scheduler)) if is_file else {}
            with Client(None if is_file else str(scheduler), **where) as client:
                logger.info("Dask dashboard: %s", client.dashboard_link)
                yield client


@contextmanager
def _own_random_numbers():
    """Leave the state of `random` as it is, from which dask's scheduler draws."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _predict(client, missing, settings, retries, status):
    """Hand recordings to the workers, and note what becomes of them."""
    from distributed import as_completed

    waiting, futures = iter(missing), {}
    running = as_completed()

    def submit(task, found, *args):
        name = f"{task.__name__}-{found.name}-{time.time_ns()}"
        return client.submit(
            task, found, settings, *args, key=name, retries=retries, pure=False
        )

    def follow(future, found):
        futures[future.key] = found
        running.add(future)

    def begin_next():
        found = next(waiting, None)
        if found is not None:
            follow(submit(begin, found), found)

    for _ in range(_IN_FLIGHT):
        begin_next()
    for future in running:
        found = futures.pop(future.key)
        n_stretches = 1
        try:
            row = future.result()
            if isinstance(row, tuple):
                row, n_stretches = row
        except Exception as err:
            row = _failed(found, err)
            status.folder.record(row)
        if n_stretches > 1:
            parts = [submit(measure_stretch, found, k) for k in range(n_stretches)]
            follow(submit(finish, found, parts), found)
        else:
            status.note(row)
            begin_next()


def _failed(found, err):
    """Tell why a recording failed that no worker could finish."""
    from distributed import CancelledError, KilledWorker

    if isinstance(err, CancelledError):
        raise RuntimeError(
            "The connection with dask's scheduler was lost. What is done is kept: run "
            "the same again to go on."
        ) from err
    if isinstance(err, KilledWorker):
        return new_row(
            found,
            state="failed",
            reason="Its worker was killed again and again, or ran out of memory.",
        )
    return new_row(found, state="failed", reason=one_line(err))


# The status ---------------------------------------------------------------------------


def not_done(found, settings):
    """Find the recordings without results, or whose results have become old.

    Parameters
    ----------
    found : list of Found
        Recordings.
    settings : Settings
        How they are predicted.

    Returns
    -------
    missing : list of Found
        Those to be predicted.
    """
    folder = Folder(settings.out)
    missing = []
    for one in found:
        row = folder.recorded(one.name)
        kept = row.get("state") == "done" and folder.table(one).is_file()
        if not kept or row["fingerprint"] != expected_fingerprint(one, settings):
            missing.append(one)
    return missing


class _Status:
    """What became of each recording: a bar, and a table that is always whole."""

    def __init__(self, folder, found, missing):
        self.folder, self._missing = folder, missing
        self._rows = folder.all_recorded()
        for one in found:
            self._rows.setdefault(one.name, new_row(one))
        self._rows |= {one.name: new_row(one) for one in missing}

    def __enter__(self):
        self._begun, self._hours = time.monotonic(), 0.0
        self._bar = tqdm(
            total=len(self._missing),
            desc="Recordings",
            disable=logger.level > logging.INFO or not self._missing,
        )
        self._write()
        return self

    def __exit__(self, *error):
        self._bar.close()
        self._rows |= self.folder.all_recorded()  # what other runs have done as well
        self._write()

    def note(self, row):
        """Take in what became of a recording."""
        self._rows[row["recording"]] = row
        if row["state"] == "failed":
            logger.info("%s failed: %s", row["recording"], row["reason"])
        self._hours += row.get("duration", 0) / 3600
        elapsed = (time.monotonic() - self._begun) / 3600
        self._bar.set_postfix_str(f"{self._hours / elapsed:.1f} h/h")
        self._bar.update()
        if time.monotonic() - self._written > _WRITE_EVERY:
            self._write()

    def _write(self):
        self._written = time.monotonic()
        self.table = self.folder.write_status(self._rows)
