"""Scores of draws: intervals, ranks and joint scores.

Draws are arrays of shape ``(n_draws, ...)`` and truths of shape ``(...)``, in the same
unit. Scores of tensors, which training also uses, are in
:mod:`~mne_neuroflow.scores.tensors`.
"""

import numpy as np
from scipy import stats

from .._docs import fill_doc

# Without it, 90 % intervals of differences between left and right held the truth in
# 73 % of comparisons (benchmarks/sides.py, doc/decisions/adaptive-stage.md).
_SIDES = 1.5


@fill_doc
def crps(draws, truth):
    """Compute the continuous ranked probability score, lower is better.

    Parameters
    ----------
    %(draws)s
    %(truth)s

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth. Zero is best. The fair estimator (Ferro 2014, Q. J. R.
        Meteorol. Soc. 140:1917) of :func:`~mne_neuroflow.scores.tensors.crps_ensemble`
        can be negative for single values. The score of a single draw, or of draws
        without spread, is the absolute error.

    Examples
    --------
    >>> import numpy as np
    >>> float(crps(np.array([[-1.0], [1.0]]), np.zeros(1))[0])
    0.0
    """
    if len(draws) == 1:
        return np.abs(draws[0] - truth)
    from .tensors import crps_ensemble  # which imports torch

    return crps_ensemble(*_tensors(draws, truth)).numpy()


@fill_doc
def coverage(draws, truth, level):
    """Compute the share of truths in the central interval of the draws.

    Parameters
    ----------
    %(draws)s
    %(truth)s
    %(level)s

    Returns
    -------
    share : array of shape (...)
        The contribution of each truth to the coverage, 0 to 1. Its mean equals
        ``level`` for calibrated draws. Nearer to ``level`` is better. Few draws cannot
        show that intervals are too narrow: with ``n`` draws the share is never below
        ``1 - (n + 1) * (1 - level) / 2``. A single draw is a point, which covers only
        an equal truth.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> share = coverage(rng.normal(size=(20, 5000)), rng.normal(size=5000), 0.9)
    >>> print(f"{share.mean():.2f}")
    0.90
    """
    if len(draws) == 1:
        return np.equal(draws[0], truth).astype(float)
    from .tensors import inside

    return inside(*_tensors(draws, truth), level).numpy()


def _tensors(draws, truth):
    import torch

    draws = torch.as_tensor(np.require(draws, requirements="CW"))
    return draws, torch.as_tensor(np.require(truth, requirements="CW")).to(draws.dtype)


@fill_doc
def interval(draws, level):
    """Compute the ends of the central interval of the draws.

    Parameters
    ----------
    %(draws)s
    %(level)s

    Returns
    -------
    low, high : array of shape (...)
        Quantiles that cover a further draw without bias (Weibull's definition, number 6
        of Hyndman & Fan 1996, Am. Stat. 50:361). With fewer than
        ``2 / (1 - level) - 1`` draws, which is 39 for 95 %, they are the lowest and the
        highest draw and cover less.

    Examples
    --------
    >>> import numpy as np
    >>> [float(end) for end in interval(np.arange(1.0, 20.0), 0.9)]
    [1.0, 19.0]
    """
    edge = (1 - level) / 2
    return np.quantile(draws, [edge, 1 - edge], axis=0, method="weibull")


def widen_sides(draws):
    """Widen draws of a difference between left and right.

    Draws of the amplitudes of both sides are more alike than the true amplitudes, so
    that their difference varies too little from draw to draw. The factor of 1.5 was
    chosen on simulated patients, such that intervals have their nominal coverage.

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Differences of log power.

    Returns
    -------
    wide : ndarray, shape (n_draws, ...)
        The draws, 1.5 times as far from their median.

    Examples
    --------
    >>> import numpy as np
    >>> widen_sides(np.array([-1.0, 0.0, 1.0])).tolist()
    [-1.5, 0.0, 1.5]
    """
    draws = np.asarray(draws)
    middle = np.median(draws, axis=0)
    return middle + _SIDES * (draws - middle)


@fill_doc
def interval_width(draws, level):
    """Compute the width of the central interval of the draws, lower is sharper.

    Sharpness is useful only if the coverage is right (Gneiting, Balabdaoui & Raftery
    2007, J. R. Stat. Soc. B 69:243).

    Parameters
    ----------
    %(draws)s
    %(level)s

    Returns
    -------
    width : array of shape (...)
        In the unit of the draws, zero or more.

    Examples
    --------
    >>> import numpy as np
    >>> float(interval_width(np.arange(1.0, 20.0), 0.9))
    18.0
    """
    low, high = interval(draws, level)
    return high - low


@fill_doc
def interval_score(draws, truth, level):
    """Compute the interval score, lower is better.

    It is the width of the interval plus a penalty for truths outside: Gneiting &
    Raftery 2007, J. Am. Stat. Assoc. 102:359, section 6.2, as implemented in
    scoringrules.

    Parameters
    ----------
    %(draws)s
    %(truth)s
    %(level)s

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth, zero or more.

    Examples
    --------
    >>> import numpy as np
    >>> print(f"{interval_score(np.arange(1.0, 20.0), np.array(20.0), 0.9):.1f}")
    38.0
    """
    import scoringrules

    low, high = interval(draws, level)
    score = scoringrules.interval_score(truth, low, high, 1 - level)
    # It comes back without axes of length one.
    return np.reshape(score, np.shape(truth))


def energy_score(draws, truth):
    """Compute the energy score of all channels jointly, lower is better.

    This is the fair estimator of scoringrules: Gneiting & Raftery 2007, section 4.3.
    With one channel it is the CRPS.

    Parameters
    ----------
    draws : array of shape (n_draws, n_channels, ...)
        Draws of the prediction, two or more.
    truth : array of shape (n_channels, ...)
        The recorded value.

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth; zero is best.

    Examples
    --------
    >>> import numpy as np
    >>> float(energy_score(np.zeros((2, 2, 1)), np.array([[3.0], [4.0]]))[0])
    5.0
    """
    import scoringrules

    draws, truth = np.moveaxis(draws, [0, 1], [-2, -1]), np.moveaxis(truth, 0, -1)
    return scoringrules.es_ensemble(truth, draws, estimator="fair")


def variogram_score(draws, truth):
    """Compute the variogram score of the dependence between channels, lower is better.

    For each pair of channels, the square root of the absolute difference is compared
    with its expected value; the score is the mean squared deviation (order 0.5 of
    Scheuerer & Hamill 2015, Mon. Weather Rev. 143:1321, as implemented in
    scoringrules). It is more sensitive to wrong correlations than the energy score.

    Parameters
    ----------
    draws : array of shape (n_draws, n_channels, ...)
        Draws of the prediction.
    truth : array of shape (n_channels, ...)
        The recorded value, at two channels or more.

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth, zero or more.

    Examples
    --------
    >>> import numpy as np
    >>> float(variogram_score(np.zeros((3, 2)), np.array([0.0, 4.0])))
    4.0
    """
    import scoringrules

    n_channels = len(truth)
    draws, truth = np.moveaxis(draws, [0, 1], [-2, -1]), np.moveaxis(truth, 0, -1)
    score = scoringrules.vs_ensemble(truth, draws, p=0.5, estimator="nrg")
    return score / (n_channels * (n_channels - 1))


@fill_doc
def ranks(draws, truth):
    """Compute the rank of each truth among its draws.

    Parameters
    ----------
    %(draws)s
    %(truth)s

    Returns
    -------
    ranks : array of int, shape (...)
        0 to ``n_draws``. All ranks are equally likely if the draws are calibrated
        (Talts et al. 2018, arXiv:1804.06788).

    Examples
    --------
    >>> import numpy as np
    >>> int(ranks(np.array([1.0, 2.0, 3.0]), np.array(2.5)))
    2
    """
    return (np.asarray(draws) < truth).sum(0)


@fill_doc
def pit(draws, truth):
    """Compute the probability integral transform of each truth.

    It is ``(rank + 1 / 2) / (n_draws + 1)`` (Dawid 1984, J. R. Stat. Soc. A 147:278).

    Parameters
    ----------
    %(draws)s
    %(truth)s

    Returns
    -------
    value : array of shape (...)
        Values between 0 and 1, which are uniform if the draws are calibrated. A
        U-shaped histogram means that intervals are too narrow, a hump-shaped one that
        they are too wide.

    Examples
    --------
    >>> import numpy as np
    >>> float(pit(np.array([1.0, 2.0, 3.0]), np.array(2.5)))
    0.625
    """
    return (ranks(draws, truth) + 0.5) / (len(draws) + 1)


def pit_distance(draws, truth):
    """Compute the distance of the PIT from a uniform distribution, lower is better.

    Parameters
    ----------
    draws : array of shape (n_draws, n_values)
        Draws of the prediction.
    truth : array of shape (n_values,)
        The recorded value.

    Returns
    -------
    distance : float
        The Kolmogorov-Smirnov statistic (:func:`scipy.stats.kstest`), 0 to 1. With
        ``n`` draws it is at least ``1 / (2 * (n + 1))``.

    Examples
    --------
    >>> import numpy as np
    >>> pit_distance(np.zeros((9, 5)), np.ones(5)) > 0.9
    True
    """
    return float(stats.kstest(pit(draws, truth).ravel(), "uniform").statistic)


def risk_coverage(uncertainty, error):
    """Compute the mean error after leaving out the most uncertain predictions.

    Parameters
    ----------
    uncertainty : array of shape (n,)
        The uncertainty of each prediction, such as the width of its interval.
    error : array of shape (n,)
        The error of each prediction, zero or more.

    Returns
    -------
    kept : array of shape (n,)
        The share of predictions that are kept, up to 1, the most certain first.
    risk : array of shape (n,)
        Their mean error, in the unit of the error. It increases with the share if the
        uncertainty predicts the error, and is constant otherwise.
    area : float
        The mean of the risk over shares (Geifman & El-Yaniv 2017, NeurIPS 30), relative
        to the error of all predictions. Lower is better; 1 is chance.

    Examples
    --------
    >>> kept, risk, area = risk_coverage([1, 2], [0, 4])
    >>> risk.tolist(), float(area)
    ([0.0, 2.0], 0.5)
    """
    order = np.argsort(uncertainty, kind="stable")
    n = np.arange(1, len(order) + 1)
    risk = np.cumsum(np.asarray(error, float)[order]) / n
    return n / len(order), risk, risk.mean() / risk[-1]
