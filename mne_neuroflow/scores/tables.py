"""From rows of scores to tables: means over subjects with their uncertainty."""

import numpy as np
import pandas as pd
from scipy import stats

_N_RESAMPLES = 2000


def summarize(rows, by, values, subject="patient", level=0.95, random_state=0):
    """Average over subjects, with intervals from a bootstrap over subjects.

    Contacts of one subject are not independent of each other: they are averaged
    first, so that each subject counts alike.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per contact, band or whatever was scored.
    by : list of str
        Columns that tell strata apart, for example ``["method", "structure"]``.
    values : list of str
        Columns to average. NaN are left out.
    subject : str
        The column that tells subjects apart.
    level : float
        Nominal coverage of the intervals.
    random_state : int
        Seed of the bootstrap.

    Returns
    -------
    table : pandas.DataFrame
        One row per stratum and value, in the order of their first appearance: the
        strata, ``metric``, ``mean``, ``low`` and ``high`` (percentile bootstrap,
        Efron & Tibshirani 1993, chapter 13; NaN with fewer than two subjects) and
        ``n_subjects``.

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
