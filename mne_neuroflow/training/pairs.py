"""Fine-tuning a flow on recorded pairs.

A few dozen steps teach a trained flow the spectra and the amplitudes of one patient.
What the flow adds to the mean of a fitted spatial stage is taken away before: the mean
is what the stage has learned from the same pairs, with a penalty that was chosen on
data it had not seen, and a network of some hundred thousand weights would spoil it.
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
from ..flow.sampler import Noise, exact_convolutions, sample_blocks
from .fit import learning_rate

# Contacts times seconds in a step, which takes about a gigabyte.
_TOKENS = 1000
# Seconds read before and after a window, which are not scored.
_HALO = 3
# Seconds in which a contact's amplitude is compared with that in others, and the least
# that its logarithm may differ by in another session (simulated patients: 0.02 to 0.05,
# 0.2 where a quarter of the electrodes is missing there).
_PIECE, _BETWEEN = 30, 0.1
# Draws of each stretch whose power is compared with that of the pairs.
_N_DRAWS = 4
# Least power of whitened coefficients, whose variance is one: a contact may be silent.
_LEAST_POWER = 1e-6
# Precision of an amplitude that draws do not differ by.
_CERTAIN = 1e8
_WARM_UP = 5
_CLIP = 1.0


@dataclass(frozen=True)
class Stretch:
    """Some contiguous seconds of a pair of recordings.

    Attributes
    ----------
    conditions_of : callable
        ``conditions_of(first_block, n_blocks)`` returns the conditions of these
        seconds, which may lie beyond the recording's ends, as a batch of one.
    potentials_of : callable
        Returns the recorded contacts of the same seconds in volts, a tensor of shape
        (1, n_contacts, n_blocks * 128).
    first_block, n_blocks : int
        Which seconds belong to the stretch.
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
    """Set to zero what moves draws as a whole, in place.

    What is left scales, bends and mixes noise that has mean zero, so that the mean of
    the draws is that of the spatial stage.

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


def fine_tune(
    flow: ConditionalFlow,
    stretches: list[Stretch],
    held_out: list[Stretch],
    *,
    n_steps: int,
    peak: float = 1e-3,
    judge_every: int = 10,
    patience: int = 3,
    seed: int = 0,
    located: bool = True,
    tell=lambda step: None,
) -> tuple[ConditionalFlow, list[dict]]:
    """Go on training a flow on pairs, with early stopping on held-out pairs.

    Parameters
    ----------
    flow : ConditionalFlow
        What to start from; it is not changed.
    stretches, held_out : list of Stretch
        Pairs to learn from and pairs to judge by.
    n_steps : int
        Maximum number of steps; 0 returns the flow as it is, but for its location.
    peak : float
        Highest learning rate.
    judge_every, patience : int
        Steps between judgements, and how many of them in a row may be worse than the
        best before training stops.
    seed : int
        Everything follows from it.
    located : bool
        False takes the flow's location away, see :func:`remove_location`, and shows
        every second window with the departures from the mean turned over, which keeps
        the mean where it is.
    tell : callable
        Called with the number of each step.

    Returns
    -------
    flow : ConditionalFlow
        With the weights that made the held-out pairs likeliest, in evaluation mode.
    history : list of dict
        ``step``, ``train`` and ``held_out``: negative log-density of whitened
        coefficients, averaged over levels, in nats.
    """
    flow = copy.deepcopy(flow).eval()
    if not located:
        remove_location(flow)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(flow.parameters(), lr=peak, betas=(0.9, 0.99))
    best, recent, worse = copy.deepcopy(flow.state_dict()), [], 0
    history = [{"step": 0, "train": math.nan, "held_out": _judged(flow, held_out)}]
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps, peak, _WARM_UP)
        turned = not located and step % 2 == 1
        with torch.enable_grad(), exact_convolutions():
            loss = _loss(flow, _window(stretches, rng), turned)
            optimizer.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), _CLIP)
        optimizer.step()
        if not located:
            remove_location(flow)
        recent.append(loss.item())
        tell(step)
        if (step + 1) % judge_every == 0 or step + 1 == n_steps:
            judged, least = _judged(flow, held_out), min(h["held_out"] for h in history)
            history.append(
                {"step": step + 1, "train": np.mean(recent), "held_out": judged}
            )
            recent, worse = [], 0 if judged < least else worse + 1
            if worse == 0:
                best = copy.deepcopy(flow.state_dict())
            elif worse == patience:
                break
    flow.load_state_dict(best)
    return flow, history


@torch.inference_mode()
def hear_amplitudes(flow: ConditionalFlow, stretches: list[Stretch]) -> torch.Tensor:
    """Tell how loud each contact's noise is in pairs.

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
            with exact_convolutions():
                conditioned = flow.condition(conditions, start)
                _, energy = conditioned.log_prob_parts(potentials)
            energy = energy[0, :, _HALO : _HALO + length].sum(1)
            if lengths and lengths[-1] + length <= _PIECE:
                # Short trials count together: what amplitudes differ by from one
                # trial to the next says little about another session.
                energies[-1], lengths[-1] = energies[-1] + energy, lengths[-1] + length
            else:
                energies.append(energy)
                lengths.append(length)
    energy = torch.stack(energies).double()
    seconds = torch.tensor(lengths, device=energy.device)
    count = seconds[:, None, None] * level_sizes(energy.device)
    seen, precision = seen_amplitudes(energy, count).unbind(-1)
    return torch.stack([seen, 1 / (1 / precision + _BETWEEN**2)], -1)


@torch.inference_mode()
def level_errors(flow: ConditionalFlow, stretches: list[Stretch]) -> torch.Tensor:
    """Compare the power of draws with that of pairs.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    stretches : list of Stretch
        Pairs of one patient, in whose conditions the amplitudes are that were heard.

    Returns
    -------
    error : Tensor of shape (contact, level)
        How much louder draws are: half the difference of the logarithm of the power of
        whitened coefficients, averaged over seconds.
    """
    powers, lengths = [], []
    for number, stretch in enumerate(stretches):
        where = stretch.first_block, stretch.n_blocks

        def conditions_of(*window, stretch=stretch):
            # As loud as was heard, while draws differ by what is not known of it.
            conditions = stretch.conditions_of(*window)
            known = conditions.amplitude.clone()
            known[..., 1] = _CERTAIN
            return replace(conditions, amplitude=known)

        conditions = conditions_of(*where)
        with exact_convolutions():
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
    """Of a typical second, which one artifact does not change: (contact, level)."""
    levels = conditioned.coefficients(potentials)
    powers = [level[0].square().mean(-1).clamp_min(_LEAST_POWER) for level in levels]
    return torch.stack([power.log().mean(-1) for power in powers], -1).double().numpy()


def _window(stretches, rng):
    """Draw a window, every second of the pairs being as likely."""
    lengths = np.array([stretch.n_blocks for stretch in stretches])
    stretch = stretches[rng.choice(len(lengths), p=lengths / lengths.sum())]
    return stretch, *_place(stretch, rng)


def _place(stretch, rng):
    n_contacts = stretch.potentials_of(stretch.first_block, 1).shape[1]
    n_blocks = min(stretch.n_blocks, max(4, _TOKENS // n_contacts))
    first = stretch.first_block + rng.integers(stretch.n_blocks - n_blocks + 1)
    return int(first), n_blocks


def _loss(flow, window, turned=False):
    """Negative log-density of whitened coefficients, the mean over levels."""
    stretch, first_block, n_blocks = window
    conditions, potentials, start = stretch.read(first_block, n_blocks)
    if turned:
        centre = conditions.gain[:, None, None] * conditions.mean
        potentials = 2 * centre - potentials
    return -flow.condition(conditions, start).log_prob_levels(potentials, _HALO).mean()


def _judged(flow, held_out):
    """Loss over all of the held-out seconds, weighed by length."""
    total = 0.0
    with torch.no_grad(), exact_convolutions():
        for stretch in held_out:
            window = (stretch, stretch.first_block, stretch.n_blocks)
            total += stretch.n_blocks * _loss(flow, window).item()
    return total / sum(stretch.n_blocks for stretch in held_out)
