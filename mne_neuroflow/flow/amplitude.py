"""The amplitude of each contact, which is constant over a recording.

The amplitude of a contact differs from its expected value by a factor that lasts for
the whole recording and that the scalp EEG does not show. Noise that is independent in
each second cannot represent such a factor. The noise of the flow is therefore a scale
mixture: ``z = s e``, with ``e`` standard normal and one ``s`` for each draw, contact
and wavelet level (scale mixtures of normals: Andrews & Mallows 1974, J. R. Stat. Soc.
B 36:99).

The logarithm of ``s`` is normal and has three parts. All contacts of a recording share
the first, because an error in the gain of the scalp EEG affects all of them. All levels
of a contact share the second. The third belongs to one level. Each part lies on a grid.
The density of a stretch of a recording is then a finite sum over this tree, and the
density of a second given the seconds before it is a ratio of two such sums.
"""

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor, nn

from .context import N_STATIC, Conditions
from .wavelet import LEVEL_SIZES

N_LEVELS = len(LEVEL_SIZES)
#: Number of standard normal variates that determine the amplitudes of a contact: one of
#: the recording, one of the contact, and one for each level.
N_VARIATES = 2 + N_LEVELS
# Step sizes of the grids (recording, contact, level), and where the grids end. Log
# amplitudes have a standard deviation of about 0.3, so a step is a few per cent.
_STEPS, _END = (0.2, 0.1, 0.25), 4.0
# Largest correlation of the contacts of a recording.
_MAX_COMMON = 0.95
# Numbers that are summed at once. This limits memory on long recordings.
_AT_ONCE = 8_000_000


def level_sizes(device) -> Tensor:
    """Return the number of coefficients of each level in a second.

    The tensor is made on the device, because a copy from the host would end the capture
    of a CUDA graph.
    """
    return torch.cat([torch.full((1,), size, device=device) for size in LEVEL_SIZES])


def _on_grid(value: Tensor, step: float) -> Tensor:
    return (value / step).round().mul(step).clamp(-_END, _END)


def _nodes(step: float, device) -> Tensor:
    count = 2 * round(_END / step) + 1
    return torch.linspace(-_END, _END, count, dtype=torch.float64, device=device)


def _masses(nodes: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the probability that a normal variate rounds to each node, (..., node)."""
    edges = (nodes[1:] + nodes[:-1]) / 2
    below = torch.special.ndtr((edges - mean[..., None]) / std[..., None])
    ends = torch.zeros_like(below[..., :1])
    return torch.diff(below, dim=-1, prepend=ends, append=ends + 1).clamp_min(1e-200)


def _standard(step: float, device) -> tuple[Tensor, Tensor]:
    """Return the grid of a standard normal variate and the log of its probabilities."""
    nodes = _nodes(step, device)
    zero = torch.zeros_like(nodes[0])
    return nodes, torch.log(_masses(nodes, zero, zero + 1))


@dataclass(frozen=True)
class Amplitudes:
    """Distribution of each contact's log-amplitude in one batch of recordings.

    Attributes
    ----------
    centre, spread : Tensor of shape (batch, contact, level)
        Mean and standard deviation of ``log s``. If both are zero, the noise is
        Gaussian.
    share : Tensor of shape (level,)
        Correlation of each level's log-amplitude with the part that all levels of the
        contact share.
    common : Tensor
        Correlation of this part with the part that all contacts of the recording share.
    """

    centre: Tensor
    spread: Tensor
    share: Tensor
    common: Tensor

    def scale(self, variates: Tensor) -> Tensor:
        """Turn standard normal variates into amplitudes.

        Parameters
        ----------
        variates : Tensor of shape (batch, contact, N_VARIATES)
            The first variate belongs to the recording and is the same for all contacts.

        Returns
        -------
        scale : Tensor of shape (batch, contact, level)
            Amplitudes.
        """
        recording = _on_grid(variates[:, :1, :1], _STEPS[0])
        own = torch.sqrt(1 - self.common**2) * variates[..., 1:2]
        contact = _on_grid(self.common * recording + own, _STEPS[1])
        level = _on_grid(variates[..., 2:], _STEPS[2])
        rest = torch.sqrt(1 - self.share**2)
        return torch.exp(
            self.centre + self.spread * (self.share * contact + rest * level)
        )

    def log_prob(self, energy: Tensor) -> Tensor:
        """Return the log-density of the noise of each second.

        Parameters
        ----------
        energy : Tensor of shape (batch, contact, block, level)
            Sum of squares of the noise's coefficients.

        Returns
        -------
        log_prob : Tensor of shape (batch, contact, block)
            Nats of each second given the seconds before it. The sum over contacts and
            seconds is the joint log-density of the stretch. The information that
            contacts have about each other in the same second is divided evenly between
            them.
        """
        total = energy.double().cumsum(2)
        _, log_mass = _standard(_STEPS[0], total.device)
        given = [total.new_zeros(*total.shape[:2], 1, len(log_mass))]
        length = max(1, _AT_ONCE // (total[:, :, 0].numel() * self._n_terms))
        for start in range(0, total.shape[2], length):
            part = total[:, :, start : start + length]
            given.append(self._given_recording(part, start + 1)[..., -1, :])
        given = torch.cat(given, 2)
        joint = given.sum(1) + log_mass
        later = given[:, :, 1:] - given[:, :, :-1]
        known = torch.log_softmax(joint[:, None, :-1], -1)
        rows = torch.logsumexp(known + later, -1)
        whole = torch.diff(torch.logsumexp(joint, -1), dim=-1)[:, None]
        return rows + (whole - rows.sum(1, keepdim=True)) / rows.shape[1]

    def log_prob_jointly(self, energy: Tensor, n_blocks: int) -> Tensor:
        """Return the log-density of a stretch of noise for each level.

        Parameters
        ----------
        energy : Tensor of shape (batch, contact, level)
            Sum of squares of the stretch's coefficients.
        n_blocks : int
            Seconds in the stretch.

        Returns
        -------
        log_prob : Tensor of shape (batch, level)
            Nats of all contacts together, for each level given the coarser levels.
        """
        given = self._given_recording(energy.double()[:, :, None], n_blocks)
        joint = given[:, :, 0].sum(1) + _standard(_STEPS[0], given.device)[1]
        joint = torch.logsumexp(joint, -1)
        return torch.diff(joint, dim=-1, prepend=torch.zeros_like(joint[:, :1]))

    @property
    def _n_terms(self):
        return round(2 * _END / _STEPS[1]) * round(2 * _END / _STEPS[2])

    def _given_recording(self, energy: Tensor, n_blocks: int) -> Tensor:
        """Return the log-density of stretches given the recording's variate.

        Parameters
        ----------
        energy : Tensor of shape (batch, contact, stretch, level)
            Sum of squares in each stretch. Each stretch is one second longer than the
            one before.
        n_blocks : int
            Seconds in the first stretch.

        Returns
        -------
        log_prob : Tensor of shape (batch, contact, stretch, level, node)
            Joint log-density of each level and the coarser levels.
        """
        device = energy.device
        seconds = torch.arange(energy.shape[2], device=device) + n_blocks
        count = (seconds[:, None] * level_sizes(device))[..., None, None]
        recording, _ = _standard(_STEPS[0], device)
        contact = _nodes(_STEPS[1], device)
        level, log_mass = _standard(_STEPS[2], device)
        share = self.share.double()[:, None, None]
        place = share * contact[:, None] + torch.sqrt(1 - share**2) * level
        log_scale = self.centre.double()[..., None, None] + (
            self.spread.double()[..., None, None] * place
        )
        log_scale = log_scale[:, :, None]
        terms = -0.5 * torch.exp(-2 * log_scale) * energy[..., None, None]
        terms = terms - count * (log_scale + 0.5 * log(2 * pi))
        given_contact = torch.logsumexp(terms + log_mass, -1).cumsum(-2)
        # Sum over the contact's variate by a matrix product.
        common = self.common.double()
        own = torch.sqrt(1 - common**2).expand_as(recording)
        turn = _masses(contact, common * recording, own)
        largest = given_contact.amax(-1, keepdim=True).detach()
        sums = torch.exp(given_contact - largest) @ turn.T
        return largest + torch.log(sums.clamp_min(1e-280))


class Amplitude(nn.Module):
    """Predict the distribution of amplitudes from the features of each contact.

    Centres and spreads are linear in the static features. If all weights are zero, the
    noise is Gaussian.
    """

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1 + N_STATIC, 2 * N_LEVELS))
        # Logits of the correlations: of each level with its contact, and of contacts.
        self.shared = nn.Parameter(torch.tensor([1.0] * N_LEVELS + [0.0]))

    def start(self, spread: float):
        """Give all contacts this spread, because its gradient is zero at zero."""
        with torch.no_grad():
            self.weight.zero_()
            self.weight[0, N_LEVELS:] = spread

    def forward(self, conditions: Conditions) -> Amplitudes:
        """Return the distribution of amplitudes in a batch of recordings."""
        values = self.weight[0] + conditions.static @ self.weight[1:]
        centre, spread = values.chunk(2, -1)
        spread = spread.abs()
        if conditions.amplitude is not None:
            # Amplitudes measured in pairs are a normal likelihood: precisions add.
            seen, precision = conditions.amplitude.unbind(-1)
            part = 1 / (1 + spread.square() * precision)
            centre = part * centre + (1 - part) * seen
            spread = spread * part.sqrt()
        share = torch.sigmoid(self.shared)
        return Amplitudes(centre, spread, share[:-1], _MAX_COMMON * share[-1])


def seen_amplitudes(energy: Tensor, count: Tensor) -> Tensor:
    """Estimate the amplitudes of contacts from the noise of several stretches.

    Parameters
    ----------
    energy : Tensor of shape (stretch, contact, level)
        Sum of squares of the noise's coefficients.
    count : Tensor of shape (stretch, 1, level)
        Number of coefficients.

    Returns
    -------
    amplitude : Tensor of shape (contact, level, 2)
        Log-amplitude and its precision, as in :class:`~.context.Conditions`. An
        estimate from n coefficients has a variance of ``1 / (2 n)``. If stretches
        differ by more than that, the excess is added to the variance, because the next
        stretch may differ as much.
    """
    log_scale = 0.5 * torch.log(energy / count)
    chance = 1 / (2 * count)
    mean = 0.5 * torch.log(energy.sum(0) / count.sum(0))
    n_stretches = len(energy)
    excess = (log_scale - mean).square() - chance
    # Pool over contacts: a few stretches determine the spread of one contact poorly.
    drift = excess.mean((0, 1)) * n_stretches / max(n_stretches - 1, 1)
    drift = drift.clamp_min(0)
    variance = chance.reciprocal().sum(0).reciprocal() + drift * (1 + 1 / n_stretches)
    return torch.stack([mean, variance.reciprocal().expand_as(mean)], -1)
