"""The last layer: each contact's amplitude and tails around the posterior mean.

The layer stretches draws about the posterior mean, sample by sample, by a scale and a
tail that are constant over a recording. The map is monotone, its derivative has a
closed form, and it depends on no other sample or contact. The density therefore stays
exact, draws have no seams, and the order of contacts does not matter. If scale and tail
are zero, the layer changes nothing.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .context import Conditions
from .coupling import MAX_LOG_SCALE, MAX_TAIL, to_data, to_noise

#: Columns of the static features that the calibration depends on: the root of the
#: observability, log posterior s.d., log number of electrodes, log gain, and how far
#: the scalp EEG departs from the prior.
FEATURES = (19, 22, 25, 26, 27)


@dataclass(frozen=True)
class Marginal:
    """The map of draws, ``x = m + u s sinh(asinh((x' - m) / u) / t)``.

    This is the sinh-arcsinh map of Jones & Pewsey 2009, Biometrika 96:761, without
    skewness. ``log s`` is the scale and ``log t`` the tail.

    Attributes
    ----------
    centre : Tensor of shape (batch, contact, time)
        Posterior mean ``m`` in volts.
    unit : Tensor of shape (batch, contact, 1)
        Posterior standard deviation ``u`` in volts.
    log_scale, tail : Tensor of shape (batch, contact, 1)
        A negative tail makes both large and small departures more frequent.
    """

    centre: Tensor
    unit: Tensor
    log_scale: Tensor
    tail: Tensor

    def apply(self, potentials: Tensor) -> Tensor:
        """Apply the map to draws, (batch, contact, time) in volts."""
        departure = (potentials - self.centre) / self.unit
        zero = torch.zeros_like(self.tail)
        bent = to_data(departure, zero, self.log_scale, self.tail)
        return self.centre + self.unit * bent

    def changed(self, change: Tensor) -> "Marginal":
        """Add to log-scale and tail, (batch, contact, 1, 2), within their bounds."""
        return replace(
            self,
            log_scale=_within(self.log_scale + change[..., 0], MAX_LOG_SCALE),
            tail=_within(self.tail + change[..., 1], MAX_TAIL),
        )

    def undo(self, potentials: Tensor) -> tuple[Tensor, Tensor]:
        """Invert :meth:`apply`, and return the log of the inverse's derivative too."""
        departure = (potentials - self.centre) / self.unit
        zero = torch.zeros_like(self.tail)
        straight, log_slope = to_noise(departure, zero, self.log_scale, self.tail)
        return self.centre + self.unit * straight, log_slope


def _within(value: Tensor, limit: float) -> Tensor:
    """Limit parameters of the map; within the limits, changes add exactly."""
    return value.clamp(-limit, limit)


class Calibration(nn.Module):
    """Compute scale and tail of every contact from its features.

    The coefficients are a buffer that :func:`fit_marginal` sets. Training by gradients
    does not change them.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.zeros(1 + len(FEATURES), 2))

    def design(self, conditions: Conditions) -> Tensor:
        """Return one and the features of each contact, (batch, contact, feature)."""
        features = conditions.static[..., FEATURES]
        return torch.cat([torch.ones_like(features[..., :1]), features], dim=-1)

    def forward(self, conditions: Conditions) -> Marginal:
        """Return the map for a batch of recordings."""
        values = self.design(conditions) @ self.weight
        if conditions.calibration is not None:
            values = values + conditions.calibration
        log_scale, tail = values[..., None, :].unbind(-1)
        gain = conditions.gain[:, None, None]
        unit = conditions.posterior_std[..., None]
        return Marginal(
            gain * conditions.mean,
            gain * unit,
            _within(log_scale, MAX_LOG_SCALE),
            _within(tail, MAX_TAIL),
        )


def fit_marginal(
    draws: Tensor, truth: Tensor, marginal: Marginal, design: Tensor
) -> Tensor:
    """Choose the scales and tails for which draws have the best score.

    Parameters
    ----------
    draws : Tensor of shape (n_draws, row, time)
        Uncalibrated draws in volts. A row is one contact of one recording.
    truth : Tensor of shape (row, time)
        The recorded value, volts.
    marginal : Marginal
        Centre (row, time) and unit (row, 1) of the same rows. The search starts from
        its scale and tail.
    design : Tensor of shape (row, n_features)
        Features on which scale and tail depend linearly. A column of ones gives a
        common change.

    Returns
    -------
    weight : Tensor of shape (n_features, 2)
        ``design @ weight`` is the change of log-scale and of tail. It minimizes the
        mean over rows of the continuous ranked probability score (fair estimator:
        Ferro 2014, Q. J. R. Meteorol. Soc. 140:1917) in units of each row's own
        truth.
    """
    # The map is monotone, so it is enough to sort draws once.
    draws = draws.sort(0).values
    n_draws = len(draws)
    rank = torch.arange(n_draws, device=draws.device, dtype=draws.dtype)
    share = ((2 * rank - n_draws + 1) / (n_draws * (n_draws - 1)))[:, None, None]
    size = truth.std(-1, keepdim=True).clamp_min(1e-12)
    weight = draws.new_zeros(design.shape[-1], 2, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight], max_iter=40, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def loss():
        search.zero_grad()
        change = (design @ weight)[:, None]
        moved = marginal.changed(change).apply(draws)
        score = (moved - truth).abs().mean(0) - (moved * share).sum(0)
        score = (score / size).mean()
        score.backward()
        return score

    with torch.enable_grad():
        search.step(loss)
    return weight.detach()
