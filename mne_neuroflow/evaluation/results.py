"""Results of a run of the benchmark: its rows, and the leaderboard.

This module knows the tables that a run has written. It does not know how they were
computed.
"""

from pathlib import Path

import pandas as pd

from ..scores.signals import relative
from ..scores.tables import summarize
from .methods import METHODS


def read_rows(out):
    """Read all rows of a run.

    Parameters
    ----------
    out : path-like
        The folder of the run.

    Returns
    -------
    rows : pandas.DataFrame
        The rows. If the run includes the prior, they have ``crps_skill``: one minus the
        ratio of the CRPS to that of the prior at the same contact and band. 0 means no
        skill, 1 is perfect.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.evaluation.benchmark import Settings, run_benchmark
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
    parts = sorted((Path(out).expanduser() / "parts").glob("*.csv"))
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
    ("bipolar_crps_relative", "broad", "bipolar CRPS", "lower"),
    ("bipolar_coverage_90", "broad", "bipolar 90 % covers", "0.9"),
    ("bipolar_r", "broad", "bipolar r", "higher"),
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
    """Average the main scores over patients.

    Parameters
    ----------
    rows : pandas.DataFrame
        The result of :func:`read_rows`.

    Returns
    -------
    table : pandas.DataFrame
        One row for each method, sorted by CRPS, with the columns of
        :data:`LEADERBOARD`.
    low, high : pandas.DataFrame
        The limits of 95 % intervals from a bootstrap over patients.

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
