"""Whether draws say what they do not know: intervals, ranks and joint scores.

Draws are arrays of shape ``(n_draws, ...)`` and truths of shape ``(...)``, in volts or
any other one unit. Here are the scores of arrays; those that training needs as well are
in :mod:`~mne_neuroflow.scores.tensors`.
"""

import numpy as np
from scipy import stats


def crps(draws, truth):
    """Compute the continuous ranked probability score, lower is better.

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    truth : array of shape (...)
        The recorded value.

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth; zero is best. The fair estimator (Ferro 2014, Q. J.
        R. Meteorol. Soc. 140:1917) of
        :func:`~mne_neuroflow.scores.tensors.crps_ensemble`, which may fall below
        zero for single values. One draw gets its absolute error, as does any
        prediction without spread.

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


def coverage(draws, truth, level):
    """Share of truths in the central interval of the draws.

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    truth : array of shape (...)
        The recorded value.
    level : float
        Nominal coverage, between 0 and 1.

    Returns
    -------
    share : array of shape (...)
        Each truth's part of the coverage, 0 to 1; its mean equals ``level`` for
        calibrated draws. Nearer to ``level`` is better. Few draws cannot show that
        intervals are too narrow: with ``n`` the share is never below
        ``1 - (n + 1) * (1 - level) / 2``. A single draw has no interval but a point,
        which covers what equals it.

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


def interval(draws, level):
    """Find the ends of the central interval of the draws.

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    level : float
        Nominal coverage, between 0 and 1.

    Returns
    -------
    low, high : array of shape (...)
        Quantiles without bias for the coverage of a further draw (Weibull's
        definition, number 6 of Hyndman & Fan 1996, Am. Stat. 50:361). With fewer than
        ``2 / (1 - level) - 1`` draws, 39 for 95 %, they are the lowest and the highest
        draw, which cover less.

    Examples
    --------
    >>> import numpy as np
    >>> [float(end) for end in interval(np.arange(1.0, 20.0), 0.9)]
    [1.0, 19.0]
    """
    edge = (1 - level) / 2
    return np.quantile(draws, [edge, 1 - edge], axis=0, method="weibull")


def interval_width(draws, level):
    """Width of the central interval of the draws, lower is sharper.

    Sharpness counts only where the coverage is right (Gneiting, Balabdaoui & Raftery
    2007, J. R. Stat. Soc. B 69:243).

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    level : float
        Nominal coverage, between 0 and 1.

    Returns
    -------
    width : array of shape (...)
        In the unit of the draws, from zero up.

    Examples
    --------
    >>> import numpy as np
    >>> float(interval_width(np.arange(1.0, 20.0), 0.9))
    18.0
    """
    low, high = interval(draws, level)
    return high - low


def interval_score(draws, truth, level):
    """Width of an interval and a fine for each truth outside, lower is better.

    The proper score of an interval: Gneiting & Raftery 2007, J. Am. Stat. Assoc.
    102:359, section 6.2, as scoringrules has it.

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    truth : array of shape (...)
        The recorded value.
    level : float
        Nominal coverage, between 0 and 1.

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth, from zero up.

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
    """Score of the joint distribution over channels, lower is better.

    The fair estimator of scoringrules: Gneiting & Raftery 2007, section 4.3. With one
    channel it is the CRPS.

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
    """Score of the dependence between channels, lower is better.

    Mean over pairs of channels of the squared difference between true and expected
    root of the absolute difference, Scheuerer & Hamill 2015, Mon. Weather Rev.
    143:1321, order 0.5, as scoringrules has it. It sees wrong correlations that the
    energy score hardly notices.

    Parameters
    ----------
    draws : array of shape (n_draws, n_channels, ...)
        Draws of the prediction.
    truth : array of shape (n_channels, ...)
        The recorded value, at two channels or more.

    Returns
    -------
    score : array of shape (...)
        In the unit of the truth, from zero up.

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


def ranks(draws, truth):
    """Rank of each truth among its draws, for simulation-based calibration.

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    truth : array of shape (...)
        The recorded value.

    Returns
    -------
    ranks : array of int, shape (...)
        0 to ``n_draws``; all equally likely if the draws are calibrated (Talts et al.
        2018, arXiv:1804.06788).

    Examples
    --------
    >>> import numpy as np
    >>> int(ranks(np.array([1.0, 2.0, 3.0]), np.array(2.5)))
    2
    """
    return (np.asarray(draws) < truth).sum(0)


def pit(draws, truth):
    """Probability integral transform: where among its draws each truth lies.

    ``(rank + 1 / 2) / (n_draws + 1)`` (Dawid 1984, J. R. Stat. Soc. A 147:278).

    Parameters
    ----------
    draws : array of shape (n_draws, ...)
        Draws of the prediction.
    truth : array of shape (...)
        The recorded value.

    Returns
    -------
    value : array of shape (...)
        Middle of the rank's share of the unit interval, uniform between 0 and 1 if
        the draws are calibrated. A histogram like a U means intervals that are too
        narrow, one like a hill intervals that are too wide.

    Examples
    --------
    >>> import numpy as np
    >>> float(pit(np.array([1.0, 2.0, 3.0]), np.array(2.5)))
    0.625
    """
    return (ranks(draws, truth) + 0.5) / (len(draws) + 1)


def pit_distance(draws, truth):
    """Largest distance of the PIT's distribution from the uniform, lower is better.

    Parameters
    ----------
    draws : array of shape (n_draws, n_values)
        Draws of the prediction.
    truth : array of shape (n_values,)
        The recorded value.

    Returns
    -------
    distance : float
        Statistic of Kolmogorov and Smirnov (:func:`scipy.stats.kstest`), 0 to 1. With
        ``n`` draws it cannot fall below ``1 / (2 * (n + 1))``.

    Examples
    --------
    >>> import numpy as np
    >>> pit_distance(np.zeros((9, 5)), np.ones(5)) > 0.9
    True
    """
    return float(stats.kstest(pit(draws, truth).ravel(), "uniform").statistic)


def risk_coverage(uncertainty, error):
    """Mean error of what is kept when the least certain is left out.

    Parameters
    ----------
    uncertainty : array of shape (n,)
        What the method says of each prediction, for example its interval's width.
    error : array of shape (n,)
        How wrong each was, from zero up.

    Returns
    -------
    kept : array of shape (n,)
        Share of predictions kept, up to 1, the most certain first.
    risk : array of shape (n,)
        Their mean error, in the error's unit. It rises with the share kept if the
        uncertainty is worth something, and is flat if it is not.
    area : float
        Mean of the risk over shares (Geifman & El-Yaniv 2017, NeurIPS 30) relative to
        the error of all: lower is better, 1 is no better than chance.

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
