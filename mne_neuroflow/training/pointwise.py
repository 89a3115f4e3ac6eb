"""Training of the head that predicts the distribution of each sample in one pass.

The flow is frozen. The loss of the head consists of proper scores, which are minimal
for the distribution of the targets. The targets are first the intracranial recordings
of simulated pairs, which need no sampling, and then draws of the flow, so that the head
agrees with the draws.
"""

from dataclasses import replace

import torch

from ..contract import BLOCK
from ..flow.amplitude import N_VARIATES
from ..flow.model import ConditionalFlow
from ..flow.pointwise import PointwiseDistribution, between_points, standard_quantiles
from .data import SimulatedData
from .fit import learning_rate

# Levels of the quantiles in the score of the shape, and the step between its samples.
_SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
_STRIDE = 4
# Seconds at either end of a window that the border affects.
_MARGIN = 3
_WARM_UP, _CLIP = 20, 1.0
#: Number of draws of a recording in a training step, including mirror images.
HEAD_DRAWS = 4
# Numbers of batches begin here, beyond those of training and calibration.
_FIRST_BATCH = 3 * 10**6


def pointwise_loss(
    distribution: PointwiseDistribution, targets: torch.Tensor, margin: int = 0
) -> torch.Tensor:
    """Score a distribution by values from the true distribution.

    Mean and scale are scored as in Dawid & Sebastiani 1999, Ann. Stat. 27:65, by the
    first two moments. The shape of the standardized departures is scored by the
    quantile score (Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102:359).

    Parameters
    ----------
    distribution : PointwiseDistribution
        The distribution.
    targets : Tensor of shape (n_targets, batch, contact, time)
        Volts.
    margin : int
        Samples at either end that are not scored.

    Returns
    -------
    loss : Tensor
        The score, without unit, up to a constant.
    """
    inner = slice(margin, targets.shape[-1] - margin)
    log_std = distribution.std.log()
    departure = (targets - distribution.mean) / distribution.std
    moments = log_std + 0.5 * departure.square().mean(0)
    loss = moments[..., inner].mean()
    thin = slice(margin, targets.shape[-1] - margin, _STRIDE)
    departure = departure.detach()[..., thin]
    shares = torch.tensor(_SHARES, dtype=torch.float64)
    normal = torch.special.ndtri(shares).to(departure)
    points = standard_quantiles(normal, distribution.skew, distribution.tail)
    for share, point in zip(_SHARES, points, strict=True):
        excess = departure - between_points(point)[..., thin]
        score = torch.maximum(share * excess, (share - 1) * excess)
        loss = loss + 2 / len(_SHARES) * score.mean()
    return loss


def _known_in_part(flow, conditions, rng):
    """Give half of the recordings known amplitudes, as after recalibration."""
    nothing = replace(conditions, amplitude=None)
    amplitudes = flow.amplitude(nothing)
    shape = amplitudes.centre.shape

    def random(*shape, make=torch.rand):
        return make(*shape, generator=rng, device=rng.device)

    seen = amplitudes.centre + amplitudes.spread * random(*shape, make=torch.randn)
    precision = 10 ** (4 * random(*shape[:2], 1)) * (random(shape[0], 1, 1) < 0.5)
    known = torch.stack([seen, precision.expand(shape)], -1)
    return replace(conditions, amplitude=known)


@torch.no_grad()
def draws_and_mirrors(flow, conditions, n_draws, rng, first_block=0):
    """Draw for a batch of scalp recordings; half of the draws are mirror images.

    Returns
    -------
    draws : Tensor of shape (n_draws, batch, contact, time)
        Volts.
    """
    half = n_draws // 2
    conditioned = flow.condition(conditions.repeat(half), first_block)
    shape = conditioned.shape
    noise = torch.randn(shape, generator=rng, device=rng.device)
    amplitude = torch.randn(*shape[:2], N_VARIATES, generator=rng, device=rng.device)
    draws = [conditioned.sample(sign * noise, amplitude) for sign in (1, -1)]
    return torch.cat(draws).unflatten(0, (2 * half, -1))


def head_step(flow, optimizer, conditions, targets, first_block=0, margin=_MARGIN):
    """Take one step of the head, and return the loss."""
    with torch.no_grad():
        conditioned = flow.condition(conditions, first_block)
    with torch.enable_grad():
        loss = pointwise_loss(conditioned.pointwise(), targets, margin * BLOCK)
        optimizer.zero_grad()
        loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.pointwise.parameters(), _CLIP)
    optimizer.step()
    return loss.item()


def learn_pointwise(
    flow: ConditionalFlow,
    data: SimulatedData,
    n_steps: int,
    n_draws: int = 0,
    peak: float = 2e-3,
    log_every: int = 25,
) -> list[float]:
    """Train the head on simulated pairs, or on draws for their scalp EEG.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device. Only its head is changed.
    data : SimulatedData
        Recordings of the training patients, not of the held-out ones.
    n_steps : int
        Number of steps of one batch each.
    n_draws : int
        Number of draws of each recording, half of them mirror images. With 0, the
        targets are the simulated intracranial recordings.
    peak : float
        Maximum learning rate.
    log_every : int
        Number of steps between printed losses.

    Returns
    -------
    losses : list of float
        Loss of each step.
    """
    head = list(flow.pointwise.parameters())
    optimizer = torch.optim.Adam(head, betas=(0.9, 0.99))
    rng = torch.Generator(data.device).manual_seed(data.seed)
    losses = []
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps, peak, _WARM_UP)
        with torch.no_grad():
            batch = data.batch(_FIRST_BATCH + (10**6 if n_draws else 0) + step)
            conditions = batch.conditions
            if n_draws:
                conditions = _known_in_part(flow, conditions, rng)
                targets = draws_and_mirrors(flow, conditions, n_draws, rng)
            else:
                targets = batch.pairs.deep[None]
        losses.append(head_step(flow, optimizer, conditions, targets))
        if (step + 1) % log_every == 0:
            recent = losses[-log_every:]
            print(step + 1, round(sum(recent) / len(recent), 4), flush=True)
    return losses
