"""Proper scores and coverage of draws, for tensors."""

from math import pi, sqrt

import torch
from torch import Tensor

LEVELS = (0.5, 0.8, 0.9, 0.95)


def crps_ensemble(draws: Tensor, truth: Tensor) -> Tensor:
    """Compute the continuous ranked probability score of draws, lower is better.

    This is the fair estimator, whose expected value does not depend on the number of
    draws (Ferro 2014, Q. J. R. Meteorol. Soc. 140:1917), in the sorted form of Jordan,
    Krüger & Lerch 2019, J. Stat. Softw. 90(12).

    Parameters
    ----------
    draws : Tensor of shape (n_draws, ...)
        Draws of the prediction, two or more.
    truth : Tensor of shape (...)
        The recorded value.

    Returns
    -------
    score : Tensor of shape (...)
        In the unit of the truth. Its expected value is zero or more, but the score of a
        single truth can be negative, because it is unbiased.
    """
    n_draws = len(draws)
    error = (draws - truth).abs().mean(0)
    rank = torch.arange(n_draws, device=draws.device, dtype=draws.dtype)
    weight = (2 * rank - n_draws + 1).view(-1, *[1] * truth.ndim)
    spread = (draws.sort(0).values * weight).sum(0) / (n_draws * (n_draws - 1))
    return error - spread


def crps_normal(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """Compute the continuous ranked probability score of a Gaussian, lower is better.

    Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102:359, section 4.2.

    Parameters
    ----------
    mean, std, truth : Tensor
        Mean and standard deviation of the Gaussian, and the recorded value. They are
        broadcast.

    Returns
    -------
    score : Tensor
        In the unit of the truth, zero or more.
    """
    z = (truth - mean) / std
    density = torch.exp(-0.5 * z.square()) / sqrt(2 * pi)
    cumulative = 0.5 * (1 + torch.erf(z / sqrt(2)))
    return std * (z * (2 * cumulative - 1) + 2 * density - 1 / sqrt(pi))


def inside(draws: Tensor, truth: Tensor, level: float) -> Tensor:
    """Compute whether the truth lies in the central interval of the draws.

    It uses the rank of the truth, which needs no interpolation of quantiles. If the
    draws are calibrated, all ranks are equally likely.

    Parameters
    ----------
    draws : Tensor of shape (n_draws, ...)
        Draws of the prediction.
    truth : Tensor of shape (...)
        The recorded value.
    level : float
        Nominal coverage, between 0 and 1.

    Returns
    -------
    inside : Tensor of shape (...)
        The share of the truth's rank that lies in the interval, 0 to 1. Its mean is the
        coverage, which equals ``level`` for calibrated draws.
    """
    n_draws = len(draws)
    below = (draws < truth).sum(0).to(draws.dtype)
    # The rank covers [below, below + 1) / (n + 1) of the unit interval.
    low, high = below / (n_draws + 1), (below + 1) / (n_draws + 1)
    edge = (1 - level) / 2
    overlap = high.clamp(max=1 - edge) - low.clamp(min=edge)
    return overlap.clamp(min=0) * (n_draws + 1)
