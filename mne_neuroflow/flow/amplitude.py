"""What a contact keeps for a whole recording: its amplitude.

A contact is quiet or loud for as long as a recording lasts, by a factor that the scalp
does not reveal. Noise that is drawn anew every second cannot carry that, so the noise
of the flow is a scale mixture: ``z = s e``, with ``e`` standard normal and one ``s``
for each draw, contact and wavelet level. The logarithm of ``s`` is normal, on a grid,
which makes the density of any stretch of a recording a finite sum, and that of a second
given the seconds before it the ratio of two (scale mixtures of normals: Andrews &
Mallows 1974, J. R. Stat. Soc. B 36:99).
"""

from dataclasses import dataclass
from math import log, pi, sqrt

import torch
from torch import Tensor, nn

from .context import N_STATIC, Conditions
from .wavelet import LEVEL_SIZES

#: Grid of the standard normal variate behind a log-amplitude: its step and its end.
STEP, END = 0.05, 4.0
# Seconds whose densities are summed up at once: bounds memory on long recordings.
_AT_ONCE = 256


def _nodes(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes of the grid and the logarithm of the normal mass that each stands for."""
    count = 2 * round(END / STEP) + 1
    nodes = torch.linspace(-END, END, count, dtype=torch.float64, device=like.device)
    # From the middle outwards, so that the small masses keep their digits.
    edges = (nodes.abs() - STEP / 2) / sqrt(2)
    tail = 0.5 * torch.erfc(edges)
    beyond = 0.5 * torch.erfc(edges + STEP / sqrt(2))
    beyond[[0, -1]] = 0
    return nodes, torch.log(tail - beyond)


@dataclass(frozen=True)
class Amplitudes:
    """Distribution of each contact's log-amplitude in one batch of recordings.

    Attributes
    ----------
    centre, spread : Tensor of shape (batch, contact, level)
        Mean and standard deviation of ``log s``. A spread of zero with a centre of
        zero is Gaussian noise.
    """

    centre: Tensor
    spread: Tensor

    def scale(self, normal: Tensor) -> Tensor:
        """Turn standard normals into amplitudes, both (batch, contact, level)."""
        on_grid = (normal / STEP).round().mul(STEP).clamp(-END, END)
        return torch.exp(self.centre + self.spread * on_grid)

    def log_prob(self, energy: Tensor) -> Tensor:
        """Log-density of noise, second by second.

        Parameters
        ----------
        energy : Tensor of shape (batch, contact, patch, level)
            Sum of squares of the noise's coefficients.

        Returns
        -------
        log_prob : Tensor of shape (batch, contact, patch, level)
            Nats of each second given those before it. The sum over seconds is the
            joint log-density of the stretch.
        """
        total = energy.double().cumsum(2)
        joint = [torch.zeros_like(total[:, :, :1])]
        for start in range(0, total.shape[2], _AT_ONCE):
            part = total[:, :, start : start + _AT_ONCE]
            joint.append(self.log_prob_jointly(part, start + 1))
        return torch.diff(torch.cat(joint, 2), dim=2)

    def log_prob_jointly(self, energy: Tensor, n_patches: int) -> Tensor:
        """Log-density of stretches of noise, each with one amplitude throughout.

        Parameters
        ----------
        energy : Tensor of shape (batch, contact, stretch, level)
            Sum of squares of a stretch's coefficients.
        n_patches : int
            Seconds in the first stretch; every other has one more than the one
            before it.

        Returns
        -------
        log_prob : Tensor of shape (batch, contact, stretch, level)
            Nats.
        """
        sizes = torch.tensor(LEVEL_SIZES, device=energy.device)
        seconds = torch.arange(energy.shape[2], device=energy.device) + n_patches
        count = (seconds[:, None] * sizes)[..., None]
        log_scale = self.log_scales()[:, :, None]
        terms = -0.5 * torch.exp(-2 * log_scale) * energy.double()[..., None]
        terms = terms - count * (log_scale + 0.5 * log(2 * pi))
        return torch.logsumexp(terms + _nodes(energy)[1], -1)

    def log_scales(self) -> Tensor:
        """Log-amplitudes on the grid, (batch, contact, level, node)."""
        nodes = _nodes(self.centre)[0]
        return self.centre[..., None].double() + self.spread[..., None] * nodes


class Amplitude(nn.Module):
    """Distribution of amplitudes as a function of what is known of a contact.

    Linear in the static features; zeros are Gaussian noise.
    """

    def __init__(self):
        super().__init__()
        shape = (1 + N_STATIC, 2 * len(LEVEL_SIZES))
        self.weight = nn.Parameter(torch.zeros(shape))

    def start(self, spread: float):
        """Give all contacts this spread: at zero, gradients do not say which way."""
        with torch.no_grad():
            self.weight.zero_()
            self.weight[0, len(LEVEL_SIZES) :] = spread

    def forward(self, conditions: Conditions) -> Amplitudes:
        """Return the amplitudes' distribution in a batch of recordings."""
        values = self.weight[0] + conditions.static @ self.weight[1:]
        centre, spread = values.chunk(2, -1)
        spread = spread.abs()
        if conditions.amplitude is not None:
            # What pairs have shown is a normal likelihood: precisions add up.
            seen, precision = conditions.amplitude.unbind(-1)
            share = 1 / (1 + spread.square() * precision)
            centre = share * centre + (1 - share) * seen
            spread = spread * share.sqrt()
        return Amplitudes(centre, spread)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # Weights saved before there were amplitudes have none.
        state_dict.setdefault(prefix + "weight", torch.zeros_like(self.weight))
        super()._load_from_state_dict(state_dict, prefix, *args)


def seen_amplitudes(energy: Tensor, count: Tensor) -> Tensor:
    """Tell the amplitudes of contacts from the noise of several stretches.

    Parameters
    ----------
    energy : Tensor of shape (stretch, contact, level)
        Sum of squares of the noise's coefficients.
    count : Tensor of shape (stretch, 1, level)
        How many they are.

    Returns
    -------
    amplitude : Tensor of shape (contact, level, 2)
        Log-amplitude and its precision, as :class:`~.context.Conditions` have it. A
        log-amplitude is known from n coefficients to a variance of ``1 / (2 n)``; what
        stretches differ by beyond that may be different again in the next one.
    """
    log_scale = 0.5 * torch.log(energy / count)
    chance = 1 / (2 * count)
    mean = 0.5 * torch.log(energy.sum(0) / count.sum(0))
    n_stretches = len(energy)
    excess = (log_scale - mean).square() - chance
    # Pooled over contacts: a few stretches say little about the spread of one.
    drift = excess.mean((0, 1)) * n_stretches / max(n_stretches - 1, 1)
    drift = drift.clamp_min(0)
    variance = chance.reciprocal().sum(0).reciprocal() + drift * (1 + 1 / n_stretches)
    return torch.stack([mean, variance.reciprocal().expand_as(mean)], -1)
