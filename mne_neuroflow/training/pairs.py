"""Fine-tuning a flow on recorded pairs.

A few dozen steps adapt a trained flow to the spectra and amplitudes of one patient. If
the spatial stage was fitted to the same pairs, the flow's own contribution to the mean
is removed first. The fitted stage already has the mean, with a penalty that was chosen
on held-out data, and a network of some hundred thousand weights would make it worse.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..flow.amplitude import level_sizes, seen_amplitudes
from ..flow.context import Conditions
from ..flow.model import ConditionalFlow
from ..flow.sampler import Noise, sample_blocks
from ..flow.slabs import slab_workers
from .fit import learning_rate
from .pointwise import draws_and_mirrors, head_step

# Contacts times seconds in a step. A step takes about a gigabyte.
_TOKENS = 1000
# Seconds before and after a window that are read but not scored.
_HALO = 3
# Length in seconds of the pieces between which a contact's amplitude is compared, and
# the minimum standard deviation of its logarithm between sessions (simulated patients:
# 0.02 to 0.05, and 0.2 if a quarter of the electrodes is missing in another session).
_PIECE, _BETWEEN = 30, 0.1
# Number of draws of each stretch for the comparison of their power with the pairs'.
_N_DRAWS = 4
# Minimum power of whitened coefficients (their variance is one), for flat contacts.
_MIN_POWER = 1e-6
# Precision of an amplitude that is the same in all draws.
_CERTAIN = 1e8
_WARM_UP = 5
# Steps of the pointwise head, of one window each, and their learning rate.
_HEAD_STEPS, _HEAD_RATE = 40, 1e-3
_CLIP = 1.0
# With torch's own threads, fits take twice as long beside other programs.
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stretch:
    """Some contiguous seconds of a pair of recordings.

    Attributes
    ----------
    conditions_of : callable
        ``conditions_of(first_block, n_blocks)`` returns the conditions of these
        seconds as a batch of one. They may lie beyond the recording's ends.
    potentials_of : callable
        Returns the recorded contacts of the same seconds in volts, a tensor of shape
        (1, n_contacts, n_blocks * 128).
    first_block, n_blocks : int
        First second and number of seconds.
    """

    conditions_of: Callable[[int, int], Conditions]
    potentials_of: Callable[[int, int], torch.Tensor]
    first_block: int
    n_blocks: int

    def read(self, first_block: int, n_blocks: int):
        """Read conditions and potentials with the seconds around them."""
        window = (first_block - _HALO, n_blocks + 2 * _HALO)
        return self.conditions_of(*window), self.potentials_of(*window), window[0]


def remove_location(flow: ConditionalFlow) -> None:
    """Remove the parts of a flow that change the mean of draws, in place.

    The other parts scale, transform and mix noise that has mean zero. The mean of draws
    is then that of the spatial stage.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    """
    with torch.no_grad():
        for level in flow.levels:
            for parameter in level.standardize.trust.parameters():
                parameter.zero_()
            for part in (level.standardize, *level.steps):
                n_kinds = 3 if part is level.standardize else 3 + flow.config.n_heads
                for parameter in part.head[-1].parameters():
                    parameter[: len(parameter) // n_kinds] = 0
        for parameter in flow.pointwise.location.parameters():
            parameter.zero_()


@slab_workers(_CPU)
def fine_tune(
    flow: ConditionalFlow,
    stretches: list[Stretch],
    held_out: list[Stretch],
    *,
    n_steps: int,
    peak: float = 1e-3,
    evaluate_every: int = 10,
    patience: int = 3,
    seed: int = 0,
    located: bool = True,
    on_step=lambda step: None,
) -> tuple[ConditionalFlow, list[dict]]:
    """Train a flow further on pairs, with early stopping on held-out pairs.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow to start from. It is not changed.
    stretches, held_out : list of Stretch
        Training pairs and held-out pairs.
    n_steps : int
        Maximum number of steps. With 0, weights other than the location do not change.
    peak : float
        Maximum learning rate.
    evaluate_every, patience : int
        Number of steps between evaluations, and number of consecutive evaluations
        without improvement after which training stops.
    seed : int
        Seed of all random numbers.
    located : bool
        False removes the flow's location, see :func:`remove_location`, and its last
        layer, so that only pairs calibrate the intervals. Every second window is then
        trained with the opposite sign of the departures from the mean, which keeps the
        mean unchanged.
    on_step : callable
        Called with the number of each step.

    Returns
    -------
    flow : ConditionalFlow
        The flow with the highest held-out log-density, in evaluation mode.
    history : list of dict
        ``step``, ``train`` and ``held_out``: negative log-density of whitened
        coefficients, averaged over levels, in nats.
    """
    flow = copy.deepcopy(flow).eval()
    if not located:
        remove_location(flow)
        # The last layer corrects intervals of the head model. If it is kept, a fit to
        # 30 s has a lower density than one without pretraining.
        flow.calibration.weight.zero_()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(flow.parameters(), lr=peak, betas=(0.9, 0.99))
    best, recent, worse = copy.deepcopy(flow.state_dict()), [], 0
    history = [
        {"step": 0, "train": math.nan, "held_out": _held_out_loss(flow, held_out)}
    ]
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps, peak, _WARM_UP)
        turned = not located and step % 2 == 1
        with torch.enable_grad():
            loss = _loss(flow, _window(stretches, rng), turned)
            optimizer.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), _CLIP)
        optimizer.step()
        if not located:
            remove_location(flow)
        recent.append(loss.item())
        on_step(step)
        if (step + 1) % evaluate_every == 0 or step + 1 == n_steps:
            loss = _held_out_loss(flow, held_out)
            lowest = min(h["held_out"] for h in history)
            history.append(
                {"step": step + 1, "train": np.mean(recent), "held_out": loss}
            )
            recent, worse = [], 0 if loss < lowest else worse + 1
            if worse == 0:
                best = copy.deepcopy(flow.state_dict())
            elif worse == patience:
                break
    flow.load_state_dict(best)
    return flow, history


@slab_workers(_CPU)
def follow_draws(
    flow: ConditionalFlow, stretches: list[Stretch], seed: int = 0
) -> None:
    """Adapt the pointwise head to the draws of a fine-tuned flow, in place.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow. Only its pointwise head is changed.
    stretches : list of Stretch
        Stretches for whose scalp EEG the flow is sampled.
    seed : int
        Seed of all random numbers.
    """
    optimizer = torch.optim.Adam(flow.pointwise.parameters(), betas=(0.9, 0.99))
    rng = np.random.default_rng(seed)
    numbers = torch.Generator(next(flow.parameters()).device).manual_seed(seed)
    for step in range(_HEAD_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, _HEAD_STEPS, _HEAD_RATE, _WARM_UP)
        stretch, first_block, n_blocks = _window(stretches, rng)
        conditions, _, start = stretch.read(first_block, n_blocks)
        conditions = replace(conditions, calibration=None)
        draws = draws_and_mirrors(flow, conditions, _N_DRAWS, numbers, start)
        head_step(flow, optimizer, conditions, draws, start, _HALO)


@slab_workers(_CPU)
@torch.inference_mode()
def estimate_amplitudes(
    flow: ConditionalFlow, stretches: list[Stretch]
) -> torch.Tensor:
    """Estimate the amplitude of each contact's noise in pairs.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    stretches : list of Stretch
        Pairs of one patient.

    Returns
    -------
    amplitude : Tensor of shape (contact, level, 2)
        Log-amplitude and its precision, see
        :func:`~mne_neuroflow.flow.amplitude.seen_amplitudes`, for other sessions.
    """
    energies, lengths = [], []
    for stretch in stretches:
        stop = stretch.first_block + stretch.n_blocks
        for first in range(stretch.first_block, stop, _PIECE):
            length = min(_PIECE, stop - first)
            conditions, potentials, start = stretch.read(first, length)
            conditioned = flow.condition(conditions, start)
            _, energy = conditioned.log_prob_parts(potentials)
            energy = energy[0, :, _HALO : _HALO + length].sum(1)
            if lengths and lengths[-1] + length <= _PIECE:
                # Pool short trials: differences of amplitudes between trials say
                # little about another session.
                energies[-1], lengths[-1] = energies[-1] + energy, lengths[-1] + length
            else:
                energies.append(energy)
                lengths.append(length)
    energy = torch.stack(energies).double()
    seconds = torch.tensor(lengths, device=energy.device)
    count = seconds[:, None, None] * level_sizes(energy.device)
    seen, precision = seen_amplitudes(energy, count).unbind(-1)
    return torch.stack([seen, 1 / (1 / precision + _BETWEEN**2)], -1)


@slab_workers(_CPU)
@torch.inference_mode()
def level_errors(flow: ConditionalFlow, stretches: list[Stretch]) -> torch.Tensor:
    """Compare the power of draws with that of pairs.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    stretches : list of Stretch
        Pairs of one patient, with estimated amplitudes in their conditions.

    Returns
    -------
    error : Tensor of shape (contact, level)
        Log ratio of the amplitude of draws to the amplitude of pairs: half the
        difference of the log power of whitened coefficients, averaged over seconds.
    """
    powers, lengths = [], []
    for number, stretch in enumerate(stretches):
        where = stretch.first_block, stretch.n_blocks

        def conditions_of(*window, stretch=stretch):
            # Fix the amplitude at its estimate; otherwise draws differ in amplitude.
            conditions = stretch.conditions_of(*window)
            known = conditions.amplitude.clone()
            known[..., 1] = _CERTAIN
            return replace(conditions, amplitude=known)

        conditions = conditions_of(*where)
        conditioned = flow.condition(conditions, where[0])
        noise = Noise(0, np.arange(conditions.mean.shape[1]))
        how = (*where, range(_N_DRAWS), _N_DRAWS, number)
        draws = sample_blocks(flow, conditions_of, noise, *how)
        both = [stretch.potentials_of(*where), *(draw[None] for draw in draws)]
        powers.append([_log_power(conditioned, potentials) for potentials in both])
        lengths.append(stretch.n_blocks)
    truth, *drawn = np.average(powers, axis=0, weights=lengths)
    return torch.as_tensor(np.mean(drawn, axis=0) - truth) / 2


def _log_power(conditioned, potentials):
    """Return the log power of a typical second, (contact, level), despite artifacts."""
    levels = conditioned.coefficients(potentials)
    powers = [level[0].square().mean(-1).clamp_min(_MIN_POWER) for level in levels]
    return torch.stack([power.log().mean(-1) for power in powers], -1).double().numpy()


def _window(stretches, rng):
    """Draw a window; all seconds of the pairs are equally likely."""
    lengths = np.array([stretch.n_blocks for stretch in stretches])
    stretch = stretches[rng.choice(len(lengths), p=lengths / lengths.sum())]
    return stretch, *_place(stretch, rng)


def _place(stretch, rng):
    n_contacts = stretch.potentials_of(stretch.first_block, 1).shape[1]
    n_blocks = min(stretch.n_blocks, max(4, _TOKENS // n_contacts))
    first = stretch.first_block + rng.integers(stretch.n_blocks - n_blocks + 1)
    return int(first), n_blocks


def _loss(flow, window, turned=False):
    """Return the mean over levels of the coefficients' negative log-density."""
    stretch, first_block, n_blocks = window
    conditions, potentials, start = stretch.read(first_block, n_blocks)
    if turned:
        centre = conditions.gain[:, None, None] * conditions.mean
        potentials = 2 * centre - potentials
    return -flow.condition(conditions, start).log_prob_levels(potentials, _HALO).mean()


def _held_out_loss(flow, held_out):
    """Return the loss over all held-out seconds, weighted by length."""
    total = 0.0
    with torch.no_grad():
        for stretch in held_out:
            window = (stretch, stretch.first_block, stretch.n_blocks)
            total += stretch.n_blocks * _loss(flow, window).item()
    return total / sum(stretch.n_blocks for stretch in held_out)
