"""Mean and standard deviation of draws, one draw at a time.

This module works on arrays and does not depend on where draws come from.
"""

import numpy as np


def mirrored(n_draws):
    """Return the numbers of half of the draws and of their mirror images.

    The mean of a draw and its mirror image has little noise. In held-out simulations,
    the mean of 20 such draws has a slightly higher correlation with the truth than that
    of 40 draws without mirror images.

    Parameters
    ----------
    n_draws : int
        The number of draws, two or more.

    Returns
    -------
    draws : list of int
        Numbers of draws for :class:`~mne_neuroflow.flow.sampler.Noise`.
    """
    half = range(n_draws // 2)
    return [*half, *(~k for k in half)]


def running_mean(draws):
    """Average over an iterable of arrays."""
    total = count = 0
    for draw in draws:
        total, count = total + draw, count + 1
    return total / count


def running_std(draws):
    """Compute the standard deviation over two or more arrays by Welford's method."""
    mean = spread = 0.0
    for k, draw in enumerate(draws):
        step = draw.astype(float) - mean
        mean = mean + step / (k + 1)
        spread = spread + step * (draw - mean)
    return np.sqrt(spread / k)
