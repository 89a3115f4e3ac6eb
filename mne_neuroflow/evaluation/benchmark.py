"""Compare methods that predict intracranial from scalp EEG on paired recordings.

A run is a folder::

    run.json             the settings
    split.json           training and test data
    parts/               finished rows of each method and patient
    examples/            a part of their draws, for the page
    results.csv          all rows, with versions
    leaderboard.csv      the main scores of each method, averaged over patients
    crps_by_patient.csv  the CRPS of each method and patient
    report.html          a page that opens offline

A run that was interrupted, or killed, can be continued.
"""

import json
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from .. import __version__
from .._compat import ProgressBar, logger
from .._files import draft_folder, written_whole
from ..contract import SFREQ
from .methods import CsvDraws, Method, find_method
from .protocols import make_split, read_pieces, split_hash, split_to_json
from .results import leaderboard, read_rows
from .scoring import score

_PACKAGES = ("mne", "torch", "numpy", "scipy", "scoringrules", "mne_connectivity")


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Parameters
    ----------
    protocol : str
        One of :data:`~mne_neuroflow.evaluation.protocols.PROTOCOLS`.
    n_draws : int
        The number of draws of each method.
    test_seconds : float
        The maximum time of each patient that is scored.
    train_seconds : float | None
        The maximum training time of every earlier session. None takes all.
    minutes : float
        The training time: of the patient's own recordings for ``'loso+k'``, and of
        those of each other patient for ``'loso'``.
    n_steps : int
        The number of training steps of every network.
    patients : tuple of str | None
        The patients who are tested. None takes all.
    n_patients : int | None
        The maximum number of patients, evenly spaced in the list, if ``patients`` is
        None. None takes all.
    seed : int
        The seed of splits, training and draws.

    Examples
    --------
    >>> Settings.quick(seed=1).n_draws
    12
    """

    protocol: str = "session"
    n_draws: int = 24
    test_seconds: float = 30.0
    train_seconds: float | None = None
    minutes: float = 2.0
    n_steps: int = 300
    patients: tuple | None = None
    n_patients: int | None = None
    seed: int = 0

    @classmethod
    def quick(cls, **changes):
        """Make settings for a first look: two patients, little of everything.

        Parameters
        ----------
        **changes : dict
            Settings that differ.

        Returns
        -------
        settings : Settings
            For a run of seconds to minutes.
        """
        few = {"n_draws": 12, "test_seconds": 10.0, "train_seconds": 60.0}
        few |= {"minutes": 0.5, "n_steps": 40, "n_patients": 2}
        return cls(**(few | changes))


def run_benchmark(dataset, methods, out, settings=None, *, n_jobs=1):
    """Run methods on recordings, or continue a run.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    methods : list of str
        Names that :func:`find_method` knows. Methods that the run in ``out`` lacks are
        added to it.
    out : path-like
        The folder of the run.
    settings : Settings | None
        The settings. Those of an earlier run in ``out`` must be the same.
    n_jobs : int
        The number of processes, with one thread each.

    Returns
    -------
    rows : pandas.DataFrame
        The rows of :func:`~mne_neuroflow.evaluation.scoring.score`, with ``method``,
        ``group``, ``patient``, protocol, split, seeds and versions.
    failures : dict of str to str
        The errors of methods that failed. They have no rows for the patient.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.evaluation.protocols import Dataset
    >>> def load(patient, session):
    ...     contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
    ...     return mne_neuroflow.simulate_pair(
    ...         "10", contacts, duration=10, session=int(session), random_state=1
    ...     )
    >>> dataset = Dataset("mine", {"1": ["1", "2"]}, load)
    >>> settings = Settings(n_draws=4, test_seconds=8.0)
    >>> rows, failures = run_benchmark(dataset, ["prior"], "run", settings)
    >>> list(rows["method"].unique()), failures
    (['prior'], {})
    """
    settings = Settings() if settings is None else settings
    found = [find_method(name) for name in methods]
    chosen = dict(found)
    twice = [label for label, method in found if chosen[label] != method]
    if twice:
        raise ValueError(f"Two of the methods have the name {twice[0]!r}.")
    for method in chosen.values():
        # Find misspelt names before an hour of work, not after it.
        if method.group == "other":
            method.find()
    out = Path(out).expanduser()
    # Check the settings before writing to the folder.
    asked = _same_run(out / "run.json", dataset, settings)
    # Beside the folder of the run, which may not exist yet or be used by another run.
    place = next(each for each in out.absolute().parents if each.is_dir())
    with draft_folder(place) as cache:
        dataset = replace(dataset, cache=cache)
        return _run(dataset, chosen, out, settings, asked, n_jobs)


def _run(dataset, chosen, out, settings, asked, n_jobs):
    folds = make_split(
        dataset,
        settings.protocol,
        minutes=settings.minutes,
        train_seconds=settings.train_seconds,
        test_seconds=settings.test_seconds,
        patients=_tested(dataset, settings),
        seed=settings.seed,
    )
    _check_same_split(out / "split.json", folds)
    (out / "parts").mkdir(parents=True, exist_ok=True)
    _write(out / "run.json", json.dumps(asked, indent=1))
    _write(out / "split.json", split_to_json(folds))
    stamp = provenance(dataset, settings, split_hash(folds))
    tasks = [
        _Task(dataset, fold, name, method, settings, stamp, out)
        for fold in folds
        for name, method in chosen.items()
    ]
    todo = [task for task in tasks if not task.fname.exists()]
    logger.info(
        f"{len(tasks)} pairs of method and patient, {len(tasks) - len(todo)} of them "
        f"done before."
    )
    failures = _work(todo, n_jobs)
    if failures and not any((out / "parts").glob("*.csv")):
        label, failure = next(iter(failures.items()))
        raise ValueError(f"All methods failed. The first: {label}, {failure}")
    rows = read_rows(out)
    _write(out / "results.csv", rows.to_csv(index=False))
    _write_tables(rows, out)
    return rows, failures


def _write_tables(rows, out):
    """Write the tables of the run."""
    table, low, high = leaderboard(rows)
    table.insert(1, "CRPS from", low["CRPS"])
    table.insert(2, "CRPS to", high["CRPS"])
    commits = rows.groupby("method")["git"].unique()
    table["made with"] = commits.map(" ".join)
    _write(out / "leaderboard.csv", table.to_csv(float_format="%.3f"))
    broad = rows[rows["band"] == "broad"].dropna(subset=["crps_relative"])
    each = broad.groupby(["method", "patient"])["crps_relative"].mean().unstack()
    # Numbers are names here, and 10 comes after 9.
    each = each.loc[table.index, sorted(each, key=lambda name: (len(name), name))]
    _write(out / "crps_by_patient.csv", each.to_csv(float_format="%.3f"))


def _write(fname, text):
    with written_whole(fname) as part:
        part.write_text(text, encoding="utf-8")


def _same_run(fname, dataset, settings):
    """Return the settings, which must be those of an earlier run."""
    asked = json.loads(json.dumps({"dataset": dataset.name, **asdict(settings)}))
    if not fname.exists():
        return asked
    earlier = json.loads(fname.read_text(encoding="utf-8"))
    wrong = [key for key in asked if earlier.get(key) != asked[key]]
    if wrong:
        raise ValueError(
            f"{fname.parent} holds a run with other settings: "
            + ", ".join(f"{k} was {earlier.get(k)}, not {asked[k]}" for k in wrong)
            + ". Choose another folder."
        )
    return asked


def _check_same_split(fname, folds):
    """Refuse recordings that differ from those of an earlier run."""
    if not fname.exists():
        return
    if fname.read_text(encoding="utf-8") != split_to_json(folds):
        raise ValueError(
            f"{fname.parent} holds a run with another split: there are other patients "
            "or sessions now. Choose another folder."
        )


def _tested(dataset, settings):
    if settings.patients or settings.n_patients is None:
        return settings.patients
    known = list(dataset.sessions)
    number = min(settings.n_patients, len(known))
    picks = np.linspace(0, len(known) - 1, number).round().astype(int)
    return [known[k] for k in picks]


def provenance(dataset, settings, split):
    """Return the provenance of rows.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    settings : Settings
        The settings.
    split : str
        The hash of the split.

    Returns
    -------
    stamp : dict
        Further columns of every row.

    Examples
    --------
    >>> from mne_neuroflow.datasets import simulated_cohort
    >>> from mne_neuroflow.evaluation.protocols import Dataset
    >>> cohort = Dataset.of("simulated", simulated_cohort)
    >>> stamp = provenance(cohort, Settings(), "9d73bf28")
    >>> stamp["dataset"], stamp["split"]
    ('simulated', '9d73bf28')
    """
    stamp = {
        "dataset": dataset.name,
        "protocol": settings.protocol,
        "leaky": settings.protocol == "paper",
        "split": split,
        "seed": settings.seed,
        "n_draws": settings.n_draws,
        "n_steps": settings.n_steps,
        "mne_neuroflow": __version__,
        "git": _git_hash(),
    }
    return stamp | {name: version(name) for name in _PACKAGES}


def _git_hash():
    """Return the commit of the package's folder, or '' if it is not a checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    # Ignore the commit of a checkout that only surrounds an installed package.
    inside = ["git", "-C", str(folder), "ls-files", "--error-unmatch", __file__]
    try:
        subprocess.run(inside, capture_output=True, check=True)
        done = subprocess.run(command, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


@dataclass(frozen=True)
class _Task:
    """One method on one patient."""

    dataset: object
    fold: object
    name: str
    method: Method
    settings: Settings
    stamp: dict
    out: Path

    @property
    def label(self):
        return f"{self.name} on {self.fold.patient}"

    @property
    def fname(self):
        return self.out / "parts" / f"{self.fold.patient}__{self.name}.csv"

    def __call__(self):
        """Fit, draw, score and write."""
        settings = self.settings
        test = read_pieces(self.dataset, self.fold.test)
        train = read_pieces(self.dataset, self.fold.train)
        method = self.method.make(settings.seed, n_steps=settings.n_steps)
        begin = time.perf_counter()
        method.fit([recording.pair for recording in train])
        fitted = time.perf_counter()
        draws = [_draw(method, recording, settings) for recording in test]
        done = time.perf_counter()
        rows = score(draws, test, [log_density(method, part) for part in test])
        columns = {
            "method": self.name,
            "group": self.method.group,
            "patient": self.fold.patient,
            "train_seconds": sum(recording.seconds for recording in train),
            "test_seconds": sum(recording.seconds for recording in test),
            "fit_time": round(fitted - begin, 2),
            "sample_time": round(done - fitted, 2),
        }
        rows = rows.assign(**columns, **self.stamp)
        save_example(self.out / "examples", self.name, draws[0], test[0])
        _write(self.fname, rows.to_csv(index=False, float_format="%.6g"))


def _draw(method, recording, settings):
    if isinstance(method, CsvDraws):
        draws = method.draws_of(recording)[: settings.n_draws]
    else:
        draws = method.sample(
            recording.scalp, recording.contacts, settings.n_draws, settings.seed
        )
    draws = np.asarray(draws, np.float32)
    # A method with one estimate and no distribution may return it as a single draw.
    if draws.ndim != 3 or draws.shape[1:] != recording.ieeg.shape or not len(draws):
        wanted = (settings.n_draws, *recording.ieeg.shape)
        raise ValueError(
            f"sample() must return an array of shape {wanted}, but got {draws.shape}."
        )
    if not np.isfinite(draws).all():
        raise ValueError("The draws hold NaN or infinite values.")
    return draws


def log_density(method, recording):
    """Compute the log-density of the recorded signals under a method.

    Parameters
    ----------
    method : object
        The method, with or without ``log_density``.
    recording : PairedRecording
        The truth.

    Returns
    -------
    log_density : float
        See :mod:`~mne_neuroflow.evaluation.pairs`. NaN if the method has none.
    """
    if not hasattr(method, "log_density"):
        return np.nan
    return float(method.log_density(*recording.pair))


def save_example(folder, name, draws, recording, seconds=4.0, n_contacts=3):
    """Save a part of the draws for the figure of the report.

    Parameters
    ----------
    folder : Path
        The folder.
    name : str
        The name of the method.
    draws : array of shape (n_draws, n_contacts, n_times)
        The draws in volts.
    recording : PairedRecording
        The truth.
    seconds, n_contacts : float, int
        The duration, from the middle, and the number of evenly spaced contacts.
    """
    folder.mkdir(exist_ok=True)
    fname = folder / f"{recording.patient}__{name}.npz"
    size = min(int(seconds * SFREQ), recording.ieeg.shape[1])
    start = (recording.ieeg.shape[1] - size) // 2
    last = len(recording.contacts) - 1
    picks = np.unique(np.linspace(0, last, n_contacts).round().astype(int))
    part = draws[:, picks, start : start + size]
    with written_whole(fname) as whole:
        np.savez(
            whole,
            quantiles=np.quantile(part, [0.05, 0.5, 0.95], axis=0).astype(np.float32),
            draw=part[0],
            truth=recording.ieeg[picks, start : start + size].astype(np.float32),
            ch_names=[recording.ch_names[k] for k in picks],
            structures=[recording.structures[k] for k in picks],
        )


def _attempt(task):
    """Run a task, and return its error if it fails."""
    try:
        task()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _one_thread():
    import torch

    torch.set_num_threads(1)


def _work(tasks, n_jobs):
    failures = {}
    progress = ProgressBar(tasks, mesg="Benchmark")
    if n_jobs == 1:
        results = ((task, _attempt(task)) for task in tasks)
        _collect(results, failures, progress)
        return failures
    context = get_context("spawn")
    with ProcessPoolExecutor(n_jobs, context, _one_thread) as pool:
        futures = {pool.submit(_attempt, task): task for task in tasks}
        results = ((futures[done], done.result()) for done in as_completed(futures))
        _collect(results, failures, progress)
    return failures


def _collect(results, failures, progress):
    for number, (task, failure) in enumerate(results, 1):
        progress.update(number)
        if failure:
            failures[task.label] = failure
            logger.warning(f"{task.label} failed: {failure}")
