"""Methods of the benchmark by their names, and draws of other programs.

This module knows classes and their options. It does not know recordings, protocols or
scores.
"""

import importlib
import inspect
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Method:
    """The description of a method.

    Parameters
    ----------
    group : str
        ``'control'``, ``'physics'``, ``'regression'``, ``'generative'``, ``'ours'`` or
        ``'other'``.
    module, name : str
        The module and the name of its class.
    options : dict
        Options of the class.
    wrapped : str | None
        For a control that wraps another method: the kind of mismatched scalp EEG, see
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
    """Draws from another program, read from files.

    Parameters
    ----------
    folder : path-like
        A folder with a file ``PATIENT_ses-SESSION_START.csv`` for each tested part
        (``START`` is as in ``split.json``: seconds, or the number of the trial). Its
        columns are ``draw``, ``time`` (seconds from the first sample of the part) and
        one for each contact, in volts.

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
        self.folder = Path(folder).expanduser()

    def fit(self, pairs):
        """Do nothing, because the draws are in files.

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
    """Refuse times that differ from those of the tested part."""
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
        The name for the results.
    method : Method
        The description of the method.

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
