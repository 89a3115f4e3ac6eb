"""The participant level of a cohort: prediction of many recordings with dask."""

from __future__ import annotations

import logging
import os
import random
import time
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from .._compat import _check_option, _validate_type, logger, verbose
from .._docs import fill_doc
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
    outputs,
)

if TYPE_CHECKING:
    import pandas

# Maximum number of tasks in the scheduler: enough for large clusters, and few enough
# for its memory.
_IN_FLIGHT = 2000
_WRITE_EVERY = 2.0  # seconds between two versions of the status table, at least
_MIN_DRAWS = 19  # minimum for a 90 % interval


@verbose
@fill_doc
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
    device="auto",
    trans="fsaverage",
    window=None,
    control=True,
    specparam=None,
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
        The folder of results, a BIDS derivative dataset. Results that are present and
        up to date are not computed again.
    pattern : str | None
        The files of a folder that is not a BIDS dataset, such as ``'*.edf'``.
    subjects, sessions, tasks, runs : list of str | str | None
        The labels to predict. ``None`` takes all.
    derivatives : str | None
        The name of a pipeline in ``derivatives/`` whose recordings are read instead.
    validate : bool
        Refuse a folder without ``dataset_description.json``.
    %(contacts)s
    model : str | path-like
        The name of the weights, see :func:`mne_neuroflow.fetch_model`, or a file that
        :meth:`mne_neuroflow.NeuroFlow.save` has written.
    n_draws : int
        The number of draws, 19 or more, which 90-percent intervals need.
    random_state : int
        A seed. The seed of each recording depends on it and on the recording's name.
    device : str
        The device of every worker: ``'cpu'``, ``'cuda'``, or ``'auto'``, which uses a
        GPU if there is one. Results of a GPU differ from those of a CPU by rounding.
    trans : str | path-like
        ``'fsaverage'`` for template positions, or the file of the transform from head
        coordinates to the fsaverage MRI. In its name, ``{participant}`` and
        ``{session}`` stand for the labels of a recording.
    window : float | None
        The length of the windows of time courses in seconds. ``None`` writes no time
        courses.
    control : bool
        Whether to repeat everything with each scalp channel shifted in time by a
        different amount.
    specparam : bool | None
        Whether specparam :cite:p:`donoghue2020` fits the aperiodic exponents as well.
        ``None`` uses it if it is installed.
    keep_recordings : str | None
        ``'fif'`` or ``'edf'`` also writes one draw of the signals.
    tsv : bool
        Whether to write tables as TSV files as well.
    n_jobs : int | None
        The number of worker processes on this machine. ``None`` takes one per core.
        Each works with one thread.
    scheduler : str | path-like | distributed.Client | None
        A dask cluster to use instead: ``'tcp://host:port'``, a scheduler file, or a
        client.
    retries : int
        How often a recording is tried again after errors of the disk, the network or
        memory. Recordings whose workers are killed more often are tried once more, one
        after the other.
    stretch : float
        The length in seconds of the tasks into which long recordings are divided.
        Results do not depend on it.
    work_dir : path-like | None
        A folder for parts of long recordings, which all workers can access. ``None`` is
        ``out/work``.
    %(verbose)s

    Returns
    -------
    status : pandas.DataFrame
        One row per recording: ``state`` (``'done'``, ``'failed'``, ``'skipped'`` or
        ``'waiting'``), ``reason``, ``duration`` of the recording and ``seconds`` of
        work, ``peak_memory`` of the worker in megabytes, and more. Recordings outside
        the chosen labels are skipped; results that they have already are kept.
        Recordings that the dataset no longer has are skipped too, and left out of the
        group level. During the computation, ``out/status.tsv`` has the same table.

    See Also
    --------
    analyze_cohort
    predict_ieeg

    Notes
    -----
    Needs ``pip install mne-neuroflow[cohort]``.

    Each recording gets a table ``*_desc-virtual_features.parquet`` of power, relative
    power, aperiodic exponent, rate of spikes, rhythmic discharge, connectivity,
    lateralization, observability and quality of the scalp EEG. It has the median and
    the limits of the central half and nine tenths of draws.
    ``desc-virtual_features.json`` describes its columns.

    Windows are at fixed times of a recording. Each is computed independently, with
    estimates from the whole recording. Results are therefore the same to the last bit
    for any number of workers and any ``stretch``. A recording that fails does not stop
    the others. Files are complete, because they are written elsewhere and renamed.

    Worker processes import the script that started them. Call this function under ``if
    __name__ == "__main__":``, as always with dask.

    .. versionadded:: 0.1.0

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 5)
    >>> fname = raw.save("demo_raw.fif", verbose=False)
    >>> status = mne_neuroflow.predict_cohort(
    ...     ".",
    ...     "results",
    ...     pattern="*_raw.fif",
    ...     contacts="mtl-core",
    ...     specparam=False,
    ...     n_jobs=1,
    ... )
    >>> status["state"].tolist()
    ['done']
    """
    options = dict(
        contacts=contacts,
        model=model,
        n_draws=n_draws,
        random_state=random_state,
        device=device,
        trans=trans,
        window=window,
        control=control,
        specparam=specparam,
        keep_recordings=keep_recordings,
        tsv=tsv,
        stretch=stretch,
    )
    # Workers of a cluster may have been started in other folders.
    root, out = _absolute(root), _absolute(out)
    settings = check_settings(out, **options, work_dir=work_dir)
    # Refuse wrong numbers before the work begins.
    count_workers(n_jobs)
    _validate_type(retries, ("int-like",), "retries", "int")
    if retries < 0:
        raise ValueError(
            "Invalid value for the 'retries' parameter. Allowed values are integers "
            f"from 0, but got {retries}."
        )
    where = dict(pattern=pattern, derivatives=derivatives, validate=validate)
    labels = dict(subjects=subjects, sessions=sessions, tasks=tasks, runs=runs)
    everything = found = find_recordings(root, out, **where, **labels)
    if any(chosen is not None for chosen in labels.values()):
        everything = find_recordings(root, out, **where)
    names = {one.name for one in found}
    skipped = [one for one in everything if one.name not in names]
    folder = Folder(settings.out)
    options |= dict(specparam=settings.specparam)
    folder.create(root, options, settings.montage)
    follow_dataset(folder, everything, in_bids=pattern is None)
    missing = not_done(found, settings)
    logger.info(
        "Recordings: %d, of which %d are done already.",
        len(found),
        len(found) - len(missing),
    )
    with _Status(folder, found, missing, skipped) as status:
        if missing:
            with _client(scheduler, n_jobs, retries) as client:
                _predict(client, missing, settings, retries, status)
    return status.table


def check_settings(
    out,
    *,
    contacts,
    model,
    n_draws,
    random_state,
    device,
    trans,
    window,
    control,
    specparam,
    keep_recordings,
    tsv,
    stretch,
    work_dir,
):
    """Check the settings of the prediction.

    Parameters
    ----------
    out, contacts, model, n_draws, random_state, device, trans : object
        As for :func:`mne_neuroflow.predict_cohort`.
    window, control, specparam, keep_recordings, tsv, stretch, work_dir : object
        As for :func:`mne_neuroflow.predict_cohort`.

    Returns
    -------
    settings : Settings
        The settings for the workers.
    """
    _validate_type(n_draws, ("int-like",), "n_draws")
    if n_draws < _MIN_DRAWS:
        raise ValueError(
            "Invalid value for the 'n_draws' parameter. Allowed values are integers "
            f"from {_MIN_DRAWS}, which a 90 % interval needs, but got {n_draws}."
        )
    _validate_type(random_state, ("int-like",), "random_state", "int")
    _check_option("keep_recordings", keep_recordings, (None, "fif", "edf"))
    for name, value in (("window", window), ("stretch", stretch)):
        _validate_type(value, ("numeric", None), name)
        if value is not None and not 10 <= value < np.inf:
            raise ValueError(
                f"Invalid value for the '{name}' parameter. Allowed values are 10 s "
                f"and more, but got {value:g}."
            )
    _check_option("device", str(device).split(":")[0], ("auto", "cpu", "cuda"))
    find_model(model)  # refuse a wrong name before the work begins
    model = model if isinstance(model, str) else str(Path(model).absolute())
    out = _absolute(out)
    return Settings(
        out,
        os.path.join(out, "work") if work_dir is None else _absolute(work_dir),
        make_contacts(contacts, verbose="error"),
        model,
        int(n_draws),
        int(random_state),
        None if window is None else float(window),  # one digest for 60 and 60.0
        bool(control),
        keep_recordings,
        bool(tsv),
        float(stretch),
        _check_trans(trans),
        device,
        _check_specparam(specparam),
    )


def _check_trans(trans):
    _validate_type(trans, ("path-like",), "trans")
    trans = str(trans)
    try:
        trans.format(participant="", session="")
    except (IndexError, KeyError, ValueError) as err:
        raise ValueError(
            "Invalid value for the 'trans' parameter. Allowed values are 'fsaverage' "
            "and names of files with {participant} and {session} where labels belong, "
            f"but got {trans!r}."
        ) from err
    return trans if trans == "fsaverage" else _absolute(trans)


def _absolute(path):
    return os.path.abspath(os.path.expanduser(path))


def _check_specparam(specparam):
    """Decide whether to use specparam, so that all workers do the same."""
    found = find_spec("specparam") is not None
    if specparam and not found:
        raise ImportError(
            "To fit exponents with specparam, install it: pip install 'specparam>=2rc'"
        )
    return found if specparam is None else bool(specparam)


# The cluster --------------------------------------------------------------------------


def count_workers(n_jobs):
    """Return the number of workers on this machine.

    Parameters
    ----------
    n_jobs : int | None
        As for :func:`mne_neuroflow.predict_cohort`.

    Returns
    -------
    n_workers : int
        By default the number of cores that this process may use.
    """
    if find_spec("distributed") is None:
        raise ImportError(
            "To predict cohorts, install dask: pip install mne-neuroflow[cohort]"
        )
    _validate_type(n_jobs, ("int-like", None), "n_jobs")
    if n_jobs is None:
        from dask.system import CPU_COUNT

        return CPU_COUNT
    if n_jobs < 1:
        raise ValueError(
            "Invalid value for the 'n_jobs' parameter. Allowed values are integers "
            f"from 1 and None, which takes one worker per core, but got {n_jobs}."
        )
    return int(n_jobs)


@contextmanager
def _client(scheduler, n_jobs, retries):
    """Connect to a cluster, or start one on this machine."""
    import dask
    from distributed import Client, LocalCluster

    if isinstance(scheduler, Client):
        yield scheduler
        return
    settings = {
        "distributed.scheduler.allowed-failures": retries,
        # By default, dask profiles its workers a hundred times a second, and keeps a
        # tree of calls for each of the last thousand seconds.
        "distributed.worker.profile.enabled": False,
        # Scheduler, nanny and worker wake 50 times a second to see whether they are
        # late, and ten times to see their memory (doc/decisions/cohorts.md).
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "5s",
        "distributed.worker.memory.monitor-interval": "1s",
    }
    with dask.config.set(settings):
        if scheduler is None:
            n_workers = count_workers(n_jobs)
            place = LocalCluster(
                n_workers=n_workers, threads_per_worker=1, dashboard_address=":0"
            )
            logger.info("Workers: %d.", n_workers)
            with _own_random_numbers(), place as cluster, Client(cluster) as client:
                logger.info("Dask dashboard: %s", client.dashboard_link)
                yield client
        else:
            with _connect(str(scheduler)) as client:
                logger.info("Dask dashboard: %s", client.dashboard_link)
                yield client


def _connect(scheduler):
    """Connect to a scheduler by its address or its file."""
    from distributed import Client

    if Path(scheduler).is_file():
        return Client(scheduler_file=scheduler)
    if "://" not in scheduler:
        raise ValueError(
            "Invalid value for the 'scheduler' parameter. Allowed values are "
            "addresses such as tcp://host:port and files that exist, but got "
            f"{scheduler!r}."
        )
    try:
        return Client(scheduler)
    except OSError as err:
        raise ConnectionError(
            f"No dask scheduler answers at {scheduler}: {one_line(err)}"
        ) from err


@contextmanager
def _own_random_numbers():
    """Restore the state of `random`, which dask's scheduler uses."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _predict(client, missing, settings, retries, status):
    """Predict recordings, at last those alone whose workers were killed."""
    submit = partial(_submit, client, settings, retries)
    killed = _work_through(submit, missing, status, _IN_FLIGHT)
    # dask blames a killed worker's end on all tasks that wait for it. Alone, a
    # recording shows whether it was the one.
    _work_through(submit, killed, status, 1)


def _submit(client, settings, retries, task, found, *args):
    name = f"{task.__name__}-{found.name}-{time.time_ns()}"
    return client.submit(
        task, found, settings, *args, key=name, retries=retries, pure=False
    )


def _work_through(submit, missing, status, at_once):
    """Submit recordings to the workers, and record their states.

    Returns
    -------
    killed : list of Found
        The recordings whose workers were killed, if there were others at the time.
    """
    from distributed import KilledWorker, as_completed

    waiting, futures, killed = iter(missing), {}, []
    running = as_completed()

    def follow(future, found):
        futures[future.key] = found
        running.add(future)

    def begin_next():
        found = next(waiting, None)
        if found is not None:
            follow(submit(begin, found), found)

    for _ in range(at_once):
        begin_next()
    for future in running:
        found = futures.pop(future.key)
        n_stretches = 1
        try:
            row = future.result()
            if isinstance(row, tuple):
                row, n_stretches = row
        except Exception as err:
            if isinstance(err, KilledWorker) and at_once > 1:
                killed.append(found)
                begin_next()
                continue
            row = _failed(found, err)
            status.folder.record(row)
        if n_stretches > 1:
            parts = [submit(measure_stretch, found, k) for k in range(n_stretches)]
            follow(submit(finish, found, parts), found)
        else:
            status.note(row)
            begin_next()
    return killed


def _failed(found, err):
    """Describe why no worker could finish a recording."""
    from distributed import CancelledError, KilledWorker

    if isinstance(err, CancelledError):
        raise RuntimeError(
            "The connection to dask's scheduler was lost. Finished recordings are "
            "kept. Run the same again to continue."
        ) from err
    if isinstance(err, KilledWorker):
        return new_row(
            found,
            state="failed",
            reason="Its worker was killed again and again, or ran out of memory.",
        )
    return new_row(found, state="failed", reason=one_line(err))


# The status ---------------------------------------------------------------------------


def follow_dataset(folder, everything, in_bids):
    """Skip recordings that a dataset no longer has, until it has them again.

    The group level leaves them out. Their tables are kept.

    Parameters
    ----------
    folder : Folder
        The folder of results.
    everything : list of Found
        All recordings of the dataset.
    in_bids : bool
        Whether these are all that belong to the results. Otherwise a recording of
        another pattern is kept as long as its file exists.
    """
    names = {one.name for one in everything}
    for name, row in folder.all_recorded().items():
        if name in names:
            if "before" in row:
                folder.record(row["before"])
        elif "before" not in row and (in_bids or not Path(row["file"]).exists()):
            reason = "No longer in the dataset."
            folder.record(row | dict(state="skipped", reason=reason, before=row))


def not_done(found, settings):
    """Find the recordings without results or with outdated results.

    Parameters
    ----------
    found : list of Found
        Recordings.
    settings : Settings
        The settings of the prediction.

    Returns
    -------
    missing : list of Found
        The recordings to predict.
    """
    folder = Folder(settings.out)
    missing = []
    for one in found:
        row = folder.recorded(one.name)
        kept = row.get("state") == "done" and all(
            file.is_file() for file in outputs(one, settings)
        )
        kept = kept and folder.source(one) == Path(one.file).name
        if not kept or row["fingerprint"] != expected_fingerprint(one, settings):
            missing.append(one)
    return missing


class _Status:
    """The states of recordings: a progress bar, and a table that is always complete."""

    def __init__(self, folder, found, missing, skipped):
        self.folder, self._missing = folder, missing
        self._rows = folder.all_recorded()
        for one in skipped:
            row = new_row(one, state="skipped", reason="Not among the chosen labels.")
            self._rows.setdefault(one.name, row)
        for one in found:
            self._rows.setdefault(one.name, new_row(one))
        self._rows |= {one.name: new_row(one) for one in missing}

    def __enter__(self):
        self._begun, self._hours = time.monotonic(), 0.0
        self._bar = tqdm(
            total=len(self._missing),
            desc="Recordings",
            unit="recording",
            disable=logger.level > logging.INFO or not self._missing,
        )
        self._write()
        return self

    def __exit__(self, *error):
        self._bar.close()
        self._rows |= self.folder.all_recorded()  # including those of other runs
        self._write()

    def note(self, row):
        """Add the state of a recording."""
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
