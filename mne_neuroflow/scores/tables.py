"""Tables of scores: means over subjects with their uncertainty."""

import numpy as np
import pandas as pd
from scipy import stats

_N_RESAMPLES = 2000


def summarize(rows, by, values, subject="patient", level=0.95, random_state=0):
    """Average over subjects, with intervals from a bootstrap over subjects.

    Contacts of one subject are not independent. They are averaged first, so that all
    subjects have the same weight.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per contact, band or other unit that was scored.
    by : list of str
        The columns that define strata, such as ``["method", "structure"]``.
    values : list of str
        The columns to average. NaN are left out.
    subject : str
        The column with the subject.
    level : float
        The nominal coverage of the intervals.
    random_state : int
        The seed of the bootstrap.

    Returns
    -------
    table : pandas.DataFrame
        One row per stratum and value, in the order of their first appearance, with the
        columns of the strata, ``metric``, ``mean``, ``low`` and ``high`` (percentile
        bootstrap, Efron & Tibshirani 1993, chapter 13; NaN with fewer than two
        subjects) and ``n_subjects``.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame(
    ...     {"method": "a", "patient": ["p", "p", "q"], "r": [0.0, 0.2, 0.5]}
    ... )
    >>> summarize(rows, ["method"], ["r"])[["mean", "low", "high"]].round(2)
       mean  low  high
    0   0.3  0.1   0.5
    """
    each = rows.groupby([*by, subject], sort=False, dropna=False)[values].mean()
    table = []
    for key, part in each.groupby(level=by, sort=False, dropna=False):
        key = key if isinstance(key, tuple) else (key,)
        for value in values:
            numbers = part[value].dropna().to_numpy()
            low, high = _bootstrap(numbers, level, random_state)
            mean = numbers.mean() if len(numbers) else np.nan
            line = dict(zip(by, key, strict=True))
            line |= {"metric": value, "mean": mean, "low": low, "high": high}
            table.append(line | {"n_subjects": len(numbers)})
    return pd.DataFrame(table)


def _bootstrap(numbers, level, seed):
    if len(numbers) < 2:
        return np.nan, np.nan
    return stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=_N_RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
