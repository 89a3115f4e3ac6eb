"""Coupling steps: part of a level is transformed given the rest of it.

A step splits the coefficients ``(batch, contact, block, coefficient)`` of one
level by a mask over blocks, contacts or coefficients. A network that sees the
fixed part, the context and the other contacts sets location, scale and tail of
the moving part, which makes the map invertible and its log-determinant a sum.
"""

from math import log, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

LOG_2 = log(2.0)
#: What a step may do to a coefficient: e-folds of a level's own scale, of scale
#: in a coupling step, and of tail weight.
MAX_LEVEL_SCALE = 5.0
MAX_LOG_SCALE = 3.0
MAX_TAIL = 0.7
#: How far the trust in the posterior mean may depart from one.
MAX_TRUST = 2.0


def bounded(value: Tensor, limit: float) -> Tensor:
    """Squash to (-limit, limit), with unit slope at zero."""
    return limit * torch.tanh(value / limit)


def asinh(value: Tensor) -> Tensor:
    """Inverse hyperbolic sine; torch's own is not vectorized on CPUs (2.13).

    Without gradients it is ``log1p(x + x² / (1 + sqrt(1 + x²)))`` for positive x,
    the same to rounding.
    """
    if torch.is_grad_enabled() or value.is_cuda:
        return torch.asinh(value)
    size = value.abs()
    square = size * size
    grown = size + square / (1 + torch.sqrt(square + 1))
    return torch.copysign(torch.log1p(grown), value)


def _log_cosh(value: Tensor) -> Tensor:
    return value.abs() + functional.softplus(-2 * value.abs()) - LOG_2


def to_noise(
    data: Tensor, shift: Tensor, log_scale: Tensor, tail: Tensor
) -> tuple[Tensor, Tensor]:
    """Standardize coefficients and give tails the Gaussian's weight.

    The tail map is the sinh-arcsinh transformation of Jones & Pewsey (2009,
    Biometrika 96:761) without its skewness.

    Parameters
    ----------
    data, shift, log_scale, tail : Tensor
        Coefficients and their parameters, of one shape. A negative tail means
        that the data are heavier-tailed than a Gaussian.

    Returns
    -------
    noise, log_det : Tensor
        Transformed coefficients and the logarithm of the derivative.
    """
    centred = (data - shift) * torch.exp(-log_scale)
    angle = asinh(centred)
    bent = torch.exp(tail) * angle
    log_det = tail + _log_cosh(bent) - _log_cosh(angle) - log_scale
    return torch.sinh(bent), log_det


def to_data(noise: Tensor, shift: Tensor, log_scale: Tensor, tail: Tensor) -> Tensor:
    """Invert :func:`to_noise`."""
    centred = torch.sinh(torch.exp(-tail) * asinh(noise))
    return centred * torch.exp(log_scale) + shift


def magnitudes(coefficients: Tensor) -> Tensor:
    """Features of coefficients for a network: compressed value and log power.

    Both grow slowly, so that a spike or an artifact cannot saturate a step.
    """
    power = torch.log(coefficients.square() + 0.1)
    return torch.cat([asinh(coefficients), power], dim=-1)


def neighbours(tokens: Tensor) -> Tensor:
    """Concatenate the blocks before and after along the last axis.

    Beyond the window there is nothing: zeros.
    """
    before = functional.pad(tokens[..., :-1, :], (0, 0, 1, 0))
    after = functional.pad(tokens[..., 1:, :], (0, 0, 0, 1))
    return torch.cat([before, after], dim=-1)


class ContactAttention(nn.Module):
    """Self-attention over the contacts of one block, biased by their relation.

    Parameters
    ----------
    width : int
        Channels of a token.
    n_heads : int
        Attention heads.
    n_relations : int
        Features of a pair of contacts.
    """

    def __init__(self, width: int, n_heads: int, n_relations: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.bias = nn.Linear(n_relations, n_heads)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, relations: Tensor, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix tokens over contacts.

        Parameters
        ----------
        tokens : Tensor of shape (batch, contact, block, width)
            One token a contact and block.
        relations : Tensor of shape (batch, contact, contact, n_relations)
            Features of each pair.
        keys : Tensor of shape (batch, contact) | None
            1 for contacts that may be attended to, 0 for others.

        Returns
        -------
        update : Tensor of shape (batch, contact, block, width)
            What attention adds to the tokens.
        weights : Tensor of shape (batch, block, head, contact, contact)
            The attention weights.
        """
        batch, contacts, blocks, width = tokens.shape
        split = self.project(self.norm(tokens)).view(
            batch, contacts, blocks, 3, self.n_heads, width // self.n_heads
        )
        query, key, value = split.permute(3, 0, 2, 4, 1, 5)
        bias = self.bias(relations).permute(0, 3, 1, 2)[:, None]
        if keys is not None:
            bias = bias - 1e4 * (1 - keys[:, None, None, None, :])
        logits = query @ key.transpose(-1, -2) / sqrt(query.shape[-1]) + bias
        weights = torch.softmax(logits, dim=-1)
        mixed = (weights @ value).permute(0, 3, 1, 2, 4).flatten(-2)
        return self.out(mixed), weights


class Mixer(nn.Module):
    """A layer that mixes over neighbouring seconds, contacts and channels.

    Parameters
    ----------
    width, n_heads, n_relations : int
        As in :class:`ContactAttention`.
    seconds : bool
        Whether to look at the block before and after.
    """

    def __init__(self, width: int, n_heads: int, n_relations: int, seconds: bool):
        super().__init__()
        self.reach = int(seconds)
        if seconds:
            self.seconds = nn.Linear(2 * width, width)
        self.contacts = ContactAttention(width, n_heads, n_relations)
        self.channels = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )

    def forward(
        self, tokens: Tensor, relations: Tensor, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mixed tokens and the attention weights over contacts."""
        if self.reach:
            tokens = tokens + self.seconds(neighbours(tokens))
        update, weights = self.contacts(tokens, relations, keys)
        tokens = tokens + update
        return tokens + self.channels(tokens), weights


def _quiet(layer: nn.Linear) -> nn.Linear:
    """Start a layer at zero, so that an untrained step changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Standardize(nn.Module):
    """Location, scale and tail of a whole level from what is coarser.

    Parameters
    ----------
    width : int
        Channels of a token.
    size : int
        Coefficients a block.
    """

    reach = 0

    def __init__(self, width: int, size: int):
        super().__init__()
        self.head = nn.Sequential(
            nn.LayerNorm(width), _quiet(nn.Linear(width, 3 * size))
        )
        self.trust = _quiet(nn.Linear(width, size))

    def parameters_of(
        self, state: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, log-scale and tail, each (batch, contact, block, size)."""
        shift, log_scale, tail = self.head(state).chunk(3, dim=-1)
        log_scale = bounded(log_scale, MAX_LEVEL_SCALE)
        # The shift is in units of the scale: a quiet contact stays quiet.
        shift = shift * torch.exp(log_scale)
        # The spatial posterior trusts all frequencies alike; muscle and drift do
        # not deserve it. Zero keeps its mean, minus one takes it away.
        trust = bounded(self.trust(self.head[0](state)), MAX_TRUST)
        return shift + trust * mean, log_scale, bounded(tail, MAX_TAIL)

    def forward(
        self, data: Tensor, state: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map data to noise, with the log-determinant of each coefficient."""
        return to_noise(data, *self.parameters_of(state, mean))

    def inverse(self, noise: Tensor, state: Tensor, mean: Tensor) -> Tensor:
        """Map noise to data."""
        return to_data(noise, *self.parameters_of(state, mean))


class Coupling(nn.Module):
    """One coupling step.

    Parameters
    ----------
    split : {'seconds', 'contacts', 'frequencies'}
        What the mask alternates over.
    turn : int
        0 or 1, which half moves.
    size : int
        Coefficients a block.
    width, n_heads, n_relations : int
        As in :class:`ContactAttention`.
    """

    def __init__(
        self,
        split: str,
        turn: int,
        size: int,
        width: int,
        n_heads: int,
        n_relations: int,
    ):
        super().__init__()
        self.split, self.turn = split, turn
        self.read = nn.Linear(2 * size, width)
        self.mixer = Mixer(width, n_heads, n_relations, seconds=split == "seconds")
        self.reach = self.mixer.reach
        self.head = nn.Sequential(
            nn.LayerNorm(width), _quiet(nn.Linear(width, (3 + n_heads) * size))
        )
        if split == "seconds":
            self.linear = _quiet(nn.Linear(2 * size, size, bias=False))
        elif split == "frequencies":
            self.linear = _quiet(nn.Linear(size, size, bias=False))

    def moving(self, data: Tensor, half: Tensor, first_block: int) -> Tensor:
        """Mask of the moving coefficients, broadcastable to ``data``."""
        if self.split == "contacts":
            mask = (half == self.turn)[:, :, None, None]
        else:
            axis = 2 if self.split == "seconds" else 3
            start = first_block if axis == 2 else 0
            index = torch.arange(start, start + data.shape[axis], device=data.device)
            index = index if axis == 2 else index // max(data.shape[3] // 2, 1)
            mask = index % 2 == self.turn
            mask = mask[:, None] if axis == 2 else mask
            mask = mask.expand(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        return mask.to(data.dtype)

    def parameters_of(
        self, data: Tensor, state: Tensor, relations: Tensor, half: Tensor, start: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Mask, and shift, log-scale and tail from the coefficients that stay."""
        moving = self.moving(data, half, start)
        fixed = data * (1 - moving)
        keys = None
        if self.split == "contacts":
            keys = (half != self.turn).to(data.dtype)
        tokens = state + self.read(magnitudes(fixed))
        tokens, weights = self.mixer(tokens, relations, keys)
        n_heads = weights.shape[2]
        shift, log_scale, tail, gates = self.head(tokens).split(
            [data.shape[-1]] * 3 + [n_heads * data.shape[-1]], dim=-1
        )
        # What neighbours predict linearly: contacts that share a generator,
        # the oscillation that goes on, the other half of the level.
        seen = (weights @ fixed.transpose(1, 2)[:, :, None]).permute(0, 3, 1, 2, 4)
        shift = shift + (gates.unflatten(-1, (n_heads, -1)) * seen).sum(-2)
        if self.split == "seconds":
            shift = shift + self.linear(neighbours(fixed))
        elif self.split == "frequencies":
            shift = shift + self.linear(fixed)
        parameters = (
            shift * moving,
            bounded(log_scale, MAX_LOG_SCALE) * moving,
            bounded(tail, MAX_TAIL) * moving,
        )
        return moving, parameters

    def forward(
        self, data: Tensor, state: Tensor, relations: Tensor, half: Tensor, start: int
    ) -> tuple[Tensor, Tensor]:
        """Map data to noise, with the log-determinant of each coefficient."""
        moving, parameters = self.parameters_of(data, state, relations, half, start)
        moved, log_det = to_noise(data, *parameters)
        return torch.where(moving > 0, moved, data), log_det * moving

    def inverse(
        self, noise: Tensor, state: Tensor, relations: Tensor, half: Tensor, start: int
    ) -> Tensor:
        """Map noise to data."""
        moving, parameters = self.parameters_of(noise, state, relations, half, start)
        return torch.where(moving > 0, to_data(noise, *parameters), noise)
