"""Compare methods that predict intracranial from scalp EEG on paired recordings.

A run is a folder::

    run.json             what was asked for
    split.json           who was trained and tested on what
    parts/               rows of each method and patient, as they are finished
    examples/            a stretch of their draws, for the page
    sessions/            recordings as methods see them, until the run is done
    results.csv          all rows, each with the versions that made it
    leaderboard.csv      the main measures of each method, means over patients
    crps_by_patient.csv  the CRPS of each method and patient
    report.html          one page, opens offline

A run that was stopped goes on where it was.
"""

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from .. import __version__
from .._compat import ProgressBar, logger
from .._files import written_whole
from ..contract import SFREQ
from ..scores.signals import relative
from ..scores.tables import summarize
from .protocols import (
    make_split,
    read_pieces,
    split_hash,
    split_to_json,
)
from .scoring import score

_PACKAGES = ("mne", "torch", "numpy", "scipy", "scoringrules", "mne_connectivity")


@dataclass(frozen=True)
class Method:
    """How to make a method, and what to call it.

    Parameters
    ----------
    group : str
        ``'control'``, ``'physics'``, ``'regression'``, ``'generative'``, ``'ours'`` or
        ``'other'``.
    module, name : str
        Where its class is.
    options : dict
        For the class.
    wrapped : str | None
        For a control around another method: which scalp it is shown, see
        :class:`~mne_neuroflow.evaluation.baselines.OtherScalp`.

    Examples
    --------
    >>> module = "mne_neuroflow.evaluation.baselines"
    >>> ridge = Method("regression", module, "LaggedRidge")
    >>> ridge.make(seed=0, reach=0.05).reach
    0.05
    """

    group: str
    module: str
    name: str
    options: dict = field(default_factory=dict)
    wrapped: str | None = None

    def find(self):
        """Import the class.

        Returns
        -------
        kind : type
            The class.
        """
        try:
            return getattr(importlib.import_module(self.module), self.name)
        except (ImportError, AttributeError) as err:
            raise ValueError(
                f"The method {self.module}:{self.name} cannot be used: {err}."
            ) from err

    def make(self, seed, **changes):
        """Make the method.

        Parameters
        ----------
        seed : int
            For classes with a ``random_state``.
        **changes
            Further options, where the class has them.

        Returns
        -------
        method : object
            With ``fit`` and ``sample``.
        """
        options = dict(self.options)
        kind = self.find()
        accepted = inspect.signature(kind).parameters
        changes["random_state"] = seed
        options |= {k: v for k, v in changes.items() if k in accepted}
        method = kind(**options)
        if self.wrapped:
            method = _our("baselines", "OtherScalp")(method, self.wrapped)
        return method


def _our(module, name):
    return getattr(importlib.import_module(f".{module}", __package__), name)


def _ours(group, module, name, wrapped=None, **options):
    return Method(group, f"{__package__}.{module}", name, options, wrapped)


#: All methods that the package brings along, by their names on the command line.
METHODS = {
    "prior": _ours("control", "baselines", "Prior"),
    "unconditional-flow": _ours("control", "networks", "PatientFlow", uses_scalp=False),
    "shuffled-scalp": _ours("control", "ours", "Pretrained", "shuffled"),
    "shifted-scalp": _ours("control", "ours", "Pretrained", "shifted"),
    "spatial-posterior": _ours("physics", "baselines", "HeadModel"),
    **{
        name.lower(): _ours("physics", "inverse", "SourceImaging", method=name)
        for name in ("eLORETA", "sLORETA", "dSPM", "MNE", "LCMV")
    },
    "lagged-ridge": _ours("regression", "baselines", "LaggedRidge"),
    "u-net": _ours("regression", "networks", "UNetRegression"),
    "vae": _ours("generative", "networks", "ConditionalVAE"),
    "gan": _ours("generative", "networks", "ConditionalGAN"),
    "flow-matching": _ours("generative", "networks", "FlowMatching"),
    "patient-flow": _ours("generative", "networks", "PatientFlow"),
    "pretrained": _ours("ours", "ours", "Pretrained"),
    "recalibrated": _ours("ours", "ours", "Recalibrated"),
    "fitted": _ours("ours", "ours", "Fitted"),
}


class CsvDraws:
    """Draws that another program made, read from files.

    Parameters
    ----------
    folder : path-like
        With one file ``PATIENT_ses-SESSION_START.csv`` for each tested stretch
        (``START`` as in ``split.json``: seconds or the number of the trial), columns
        ``draw``, ``time`` (seconds from the first sample of the stretch) and one for
        each contact, in volts.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import PairedRecording, ScalpData
    >>> scalp = ScalpData(np.zeros((8, 256)), np.zeros((8, 3)))
    >>> names, structures = ("HL1",), ("hippocampus",)
    >>> recording = PairedRecording(
    ...     "1", "2", scalp, np.zeros((1, 3)), names, structures, np.zeros((1, 256))
    ... )
    >>> table = pd.DataFrame({"draw": 0, "time": [0.0, 2.0], "HL1": [0.0, 2e-5]})
    >>> table.to_csv("1_ses-2_0.csv", index=False)
    >>> CsvDraws(".").draws_of(recording).shape
    (1, 1, 256)
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def fit(self, pairs):
        """Learn nothing: the draws are there.

        Parameters
        ----------
        pairs : list of tuple
            Not used.

        Returns
        -------
        self : CsvDraws
            The same object.
        """
        return self

    def draws_of(self, recording):
        """Read the draws of a recording, brought to its samples.

        Parameters
        ----------
        recording : PairedRecording
            The tested stretch.

        Returns
        -------
        draws : array of shape (n_draws, n_contacts, n_times)
            Volts.
        """
        fname = self.folder / (
            f"{recording.patient}_ses-{recording.session}_{recording.start:g}.csv"
        )
        table = pd.read_csv(fname)
        missing = [name for name in recording.ch_names if name not in table]
        if missing:
            raise ValueError(f"{fname} lacks the contacts {', '.join(missing)}.")
        if not {"draw", "time"} <= set(table):
            raise ValueError(f"{fname} must have the columns 'draw' and 'time'.")
        if not len(table):
            raise ValueError(f"{fname} holds no draws.")
        times = np.arange(recording.ieeg.shape[1]) / recording.scalp.sfreq
        draws = []
        for _, part in table.groupby("draw"):
            part = part.sort_values("time")
            _check_times(fname, part["time"].to_numpy(), times)
            columns = [part[name] for name in recording.ch_names]
            draws.append([np.interp(times, part["time"], column) for column in columns])
        return np.array(draws, np.float32)


def _check_times(fname, given, wanted):
    """Refuse times that are not those of the tested stretch."""
    step = (given[-1] - given[0]) / max(len(given) - 1, 1)
    ends = np.abs([given[0], given[-1] - wanted[-1]])
    if (ends > 1.5 * step).any() or (np.diff(given) <= 0).any():
        raise ValueError(
            f"The times of each draw in {fname} must rise from 0 to {wanted[-1]:.3f}, "
            f"seconds from the first sample of the tested stretch, but {len(given)} "
            f"from {given[0]:g} to {given[-1]:g} were found."
        )


def find_method(name):
    """Find a method by its name on the command line.

    Parameters
    ----------
    name : str
        One of :data:`METHODS`; ``NAME=module:Class`` for a class of your own; or
        ``NAME=FOLDER`` for draws in files, see :class:`CsvDraws`.

    Returns
    -------
    name : str
        What to call it in results.
    method : Method
        How to make it.

    Examples
    --------
    >>> name, method = find_method("silence=my_methods:Silence")
    >>> name, method.module, method.name
    ('silence', 'my_methods', 'Silence')
    """
    if name in METHODS:
        return name, METHODS[name]
    label, _, place = name.partition("=")
    module, _, attribute = place.partition(":")
    # It becomes part of file names, and must not pass for another method's.
    if label in METHODS or not re.fullmatch(r"[\w.+-]*", label):
        raise ValueError(
            "Invalid value for the 'methods' parameter. A NAME of your own has "
            "letters, digits, '.', '_', '+' and '-' and is not that of a method that "
            f"comes with the package, but got {label!r}."
        )
    if label and module and attribute:
        return label, Method("other", module, attribute)
    if label and place and Path(place).is_dir():
        options = {"folder": os.path.abspath(place)}
        return label, Method("other", __name__, "CsvDraws", options)
    raise ValueError(
        f"Invalid value for the 'methods' parameter. Allowed values are "
        f"{', '.join(METHODS)}, NAME=module:Class and NAME=FOLDER, but got {name!r}."
    )


@dataclass(frozen=True)
class Settings:
    """What a run does.

    Parameters
    ----------
    protocol : str
        One of :data:`~mne_neuroflow.evaluation.protocols.PROTOCOLS`.
    n_draws : int
        Draws of each method.
    test_seconds : float
        At most so much of every patient is scored.
    train_seconds : float | None
        At most so much of every earlier session is trained on; None takes all.
    minutes : float
        Of own recordings that ``'loso+k'`` trains on, and of others that ``'loso'``
        does.
    n_steps : int
        Training steps of every network.
    patients : tuple of str | None
        Who is tested; None takes everybody.
    n_patients : int | None
        At most so many are tested, evenly over the list, where no ``patients`` are
        named; None takes all.
    seed : int
        Of splits, training and draws.

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
    """Run methods on recordings, or go on with a run.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    methods : list of str
        See :func:`find_method`. Methods that a run in ``out`` lacks are added to it.
    out : path-like
        Folder of the run.
    settings : Settings | None
        What to do; those of an earlier run in ``out`` must be the same.
    n_jobs : int
        Processes, with one thread each.

    Returns
    -------
    rows : pandas.DataFrame
        See :func:`~mne_neuroflow.evaluation.scoring.score`; every row also says
        ``method``, ``group``, ``patient``, protocol, split, seeds and versions.
    failures : dict of str to str
        Methods that failed, and how; they have no rows for the patient.

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
        # What is misspelt shows before an hour of work, not after it.
        if method.group == "other":
            method.find()
    out = Path(out)
    # What is wrong with the settings shows before the folder is theirs.
    asked = _same_run(out / "run.json", dataset, settings)
    with _fresh_folder(out / "sessions") as cache:
        dataset = replace(dataset, cache=cache)
        return _run(dataset, chosen, out, settings, asked, n_jobs)


@contextmanager
def _fresh_folder(folder):
    """Keep a folder while it is used; what an earlier run left there may be old."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    (out / "run.json").write_text(json.dumps(asked, indent=1), encoding="utf-8")
    (out / "split.json").write_text(split_to_json(folds), encoding="utf-8")
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
    rows.to_csv(out / "results.csv", index=False)
    _write_tables(rows, out)
    return rows, failures


def _write_tables(rows, out):
    """Write what a page about the run shows."""
    table, low, high = leaderboard(rows)
    table.insert(1, "CRPS from", low["CRPS"])
    table.insert(2, "CRPS to", high["CRPS"])
    table.to_csv(out / "leaderboard.csv", float_format="%.3f")
    broad = rows[rows["band"] == "broad"].dropna(subset=["crps_relative"])
    each = broad.groupby(["method", "patient"])["crps_relative"].mean().unstack()
    # Numbers are names here, and 10 comes after 9.
    each = each.loc[table.index, sorted(each, key=lambda name: (len(name), name))]
    each.to_csv(out / "crps_by_patient.csv", float_format="%.3f")


def _same_run(fname, dataset, settings):
    """Return what is asked for, which must be what an earlier run was asked for."""
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
    """Refuse recordings that came or went since an earlier run."""
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
    """Say where rows come from.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    settings : Settings
        What was asked for.
    split : str
        Hash of the split.

    Returns
    -------
    stamp : dict
        Columns that every row gets.

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
    """Commit of the package's folder where it is a checkout, else nothing."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    # The commit of some other checkout around an installed package says nothing.
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
        with written_whole(self.fname) as part:
            rows.to_csv(part, index=False, float_format="%.6g")


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
    """Ask a method how likely it finds what was recorded.

    Parameters
    ----------
    method : object
        With or without a function ``log_density``.
    recording : PairedRecording
        The truth.

    Returns
    -------
    log_density : float
        See :mod:`~mne_neuroflow.evaluation.pairs`; NaN where the method has none.
    """
    if not hasattr(method, "log_density"):
        return np.nan
    return float(method.log_density(*recording.pair))


def save_example(folder, name, draws, recording, seconds=4.0, n_contacts=3):
    """Keep a stretch of draws for the figure of the report.

    Parameters
    ----------
    folder : Path
        Where to.
    name : str
        The method.
    draws : array of shape (n_draws, n_contacts, n_times)
        Volts.
    recording : PairedRecording
        The truth.
    seconds, n_contacts : float, int
        How much of it, from the middle and evenly over contacts.
    """
    folder.mkdir(exist_ok=True)
    fname = folder / f"{recording.patient}__{name}.npz"
    size = min(int(seconds * SFREQ), recording.ieeg.shape[1])
    start = (recording.ieeg.shape[1] - size) // 2
    last = len(recording.contacts) - 1
    picks = np.unique(np.linspace(0, last, n_contacts).round().astype(int))
    part = draws[:, picks, start : start + size]
    np.savez(
        fname,
        quantiles=np.quantile(part, [0.05, 0.5, 0.95], axis=0).astype(np.float32),
        draw=part[0],
        truth=recording.ieeg[picks, start : start + size].astype(np.float32),
        ch_names=[recording.ch_names[k] for k in picks],
        structures=[recording.structures[k] for k in picks],
    )


def _attempt(task):
    """Run a task; one that fails must not end the others."""
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


def read_rows(out):
    """Read all rows of a run.

    Parameters
    ----------
    out : path-like
        Folder of the run.

    Returns
    -------
    rows : pandas.DataFrame
        With ``crps_skill`` where the run has the prior: one minus the CRPS over that
        of the prior at the same contact and band; 0 is worthless, 1 perfect.

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
    >>> len(read_rows("run")) == len(rows)
    True
    """
    parts = sorted((Path(out) / "parts").glob("*.csv"))
    if not parts:
        raise ValueError(f"{out} holds no results.")
    options = {"dtype": {"patient": str, "git": str, "split": str}}
    # A patient may have the initials NA.
    options |= {"keep_default_na": False, "na_values": [""]}
    rows = pd.concat([pd.read_csv(part, **options) for part in parts])
    rows["git"] = rows["git"].fillna("")
    order = {name: k for k, name in enumerate(METHODS)}
    rows = rows.sort_values(
        "method", key=lambda names: names.map(order).fillna(len(order)), kind="stable"
    )
    return _with_skill(rows.reset_index(drop=True))


def _with_skill(rows):
    keys = ["patient", "contact", "band"]
    prior = rows[rows["method"] == "prior"].drop_duplicates(keys).set_index(keys)
    if not len(prior):
        return rows
    base = prior["crps"].reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy()
    return rows.assign(crps_skill=1 - relative(rows["crps"], base))


#: Columns of the leaderboard: measure, band, name, and which direction is better.
LEADERBOARD = (
    ("crps_relative", "broad", "CRPS", "lower"),
    ("crps_skill", "broad", "CRPS skill", "higher"),
    ("coverage_90", "broad", "90 % covers", "0.9"),
    ("spread", "broad", "spread/error", "1"),
    ("nll", "broad", "NLL", "lower"),
    ("r", "broad", "r", "higher"),
    ("lsd", "broad", "LSD dB", "lower"),
    ("exponent_error", "broad", "exponent err.", "lower"),
    ("log_power_r", "theta", "theta power r", "higher"),
    ("log_power_r", "alpha", "alpha power r", "higher"),
    ("log_power_r", "beta", "beta power r", "higher"),
    ("correlation_error", "alpha", "alpha conn. err.", "lower"),
    ("variogram", "broad", "variogram", "lower"),
    ("lateralization_error", "alpha", "alpha lat. err.", "lower"),
    ("spike_auc", "broad", "spike AUC", "higher"),
    ("seizure_auc", "broad", "seizure AUC", "higher"),
)


def leaderboard(rows):
    """Average the main measures over patients.

    Parameters
    ----------
    rows : pandas.DataFrame
        From :func:`read_rows`.

    Returns
    -------
    table : pandas.DataFrame
        One row for each method, best CRPS first, columns by :data:`LEADERBOARD`.
    low, high : pandas.DataFrame
        Ends of 95 % intervals from a bootstrap over patients, same shape.

    Examples
    --------
    >>> rows = pd.DataFrame(
    ...     {
    ...         "method": ["prior", "prior", "mine", "mine"],
    ...         "patient": ["1", "2", "1", "2"],
    ...         "band": "broad",
    ...         "crps_relative": [0.5, 0.6, 0.4, 0.5],
    ...     }
    ... )
    >>> leaderboard(rows)[0]["CRPS"].round(2).to_dict()
    {'mine': 0.45, 'prior': 0.55}
    """
    parts = {"mean": {}, "low": {}, "high": {}}
    for measure, band, name, _ in LEADERBOARD:
        if measure not in rows:
            continue
        some = rows[rows["band"] == band].dropna(subset=[measure])
        if not len(some):
            continue
        table = summarize(some, ["method"], [measure]).set_index("method")
        for key, columns in parts.items():
            columns[name] = table[key]
    mean, low, high = (pd.DataFrame(columns) for columns in parts.values())
    order = mean.sort_values("CRPS").index
    return mean.loc[order], low.loc[order], high.loc[order]
