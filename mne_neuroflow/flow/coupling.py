"""Coupling steps: part of a level is transformed given the rest of it.

A step splits the coefficients ``(batch, contact, block, coefficient)`` of one
level into two halves of the blocks, contacts or coefficients. The fixed half stays as
it is. A network computes location, scale and tail of the moving half from the fixed
half, the context and the other contacts. The map is therefore invertible, and its
log-determinant is a sum. For the fixed half, only the values that the moving half needs
are computed.

Steps work on tensors ``(batch, block, contact, channel)`` and are fastest if these lie
in memory in that order, see :func:`by_second`. Without gradients, sums are computed in
place.
"""

from math import log, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

LOG_2 = log(2.0)
#: Limits of the changes that a step can make, in e-folds: of a whole level's scale, of
#: the scale in a coupling step, and of the weight of tails.
MAX_LEVEL_SCALE = 5.0
MAX_LOG_SCALE = 3.0
MAX_TAIL = 0.7
#: How far the weight of the posterior mean may depart from one.
MAX_TRUST = 2.0
# Power below which a network cannot distinguish a coefficient from zero.
_LEAST_POWER = 0.1


def bounded(value: Tensor, limit: float) -> Tensor:
    """Limit values smoothly to (-limit, limit), with unit slope at zero."""
    return limit * torch.tanh(value / limit)


def asinh(value: Tensor) -> Tensor:
    """Compute the inverse hyperbolic sine; torch's is not vectorized on CPUs (2.13).

    Without gradients it is ``log1p(x + x² / (1 + sqrt(1 + x²)))`` for positive x, which
    differs from torch's result only by rounding.
    """
    if torch.is_grad_enabled() or value.is_cuda:
        return torch.asinh(value)
    size = value.abs()
    square = size * size
    grown = square.div_((square + 1).sqrt_().add_(1)).add_(size)
    return grown.log1p_().copysign_(value)


def sinh(value: Tensor) -> Tensor:
    """Compute the hyperbolic sine with the same last bits at every place of a tensor.

    Torch's own has not, on CPUs (2.13). Without gradients it is
    ``(e + e / (e + 1)) / 2`` with ``e = expm1(x)`` for positive x, which differs from
    torch's result only by rounding.
    """
    if torch.is_grad_enabled() or value.is_cuda:
        return torch.sinh(value)
    largest = log(torch.finfo(value.dtype).max)
    grown = value.abs().clamp_max_(largest).expm1_()
    return grown.add_(grown / (grown + 1)).mul_(0.5).copysign_(value)


def _log_cosh(value: Tensor) -> Tensor:
    # The last bits of softplus depend on the place in a tensor on CPUs (torch 2.13).
    size = value.abs()
    return size + torch.log1p(torch.exp(-2 * size)) - LOG_2


def to_noise(
    data: Tensor, shift: Tensor, log_scale: Tensor, tail: Tensor
) -> tuple[Tensor, Tensor]:
    """Standardize coefficients and make their tails Gaussian.

    The tail map is the sinh-arcsinh transformation of Jones & Pewsey (2009,
    Biometrika 96:761) without its skewness.

    Parameters
    ----------
    data, shift, log_scale, tail : Tensor
        Coefficients and their parameters, all of the same shape. A negative tail means
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
    return sinh(bent), log_det


def to_data(noise: Tensor, shift: Tensor, log_scale: Tensor, tail: Tensor) -> Tensor:
    """Invert :func:`to_noise`."""
    centred = sinh(torch.exp(-tail) * asinh(noise))
    return torch.addcmul(shift, centred, torch.exp(log_scale))


def magnitudes(coefficients: Tensor) -> Tensor:
    """Compute features of coefficients for a network: compressed value and log power.

    Both grow slowly, so that spikes and artifacts do not saturate a step.
    """
    power = torch.log(coefficients.square() + _LEAST_POWER)
    return torch.cat([asinh(coefficients), power], dim=-1)


def by_second(tensor: Tensor) -> Tensor:
    """Exchange contacts and blocks, (batch, contact, block, channel) or back."""
    return tensor.transpose(1, 2)


def neighbours(
    tokens: Tensor, before: int = 1, after: int = 1, apart: int = 2
) -> tuple[Tensor, Tensor]:
    """Return the tokens before and after each block, and zeros beyond the window.

    Parameters
    ----------
    tokens : Tensor of shape (batch, block, contact, channel)
        The tokens of the blocks.
    before, after : int
        Blocks of zeros at either end.
    apart : int
        Distance from the block before to the block after: 2 for the neighbours of these
        blocks, 1 for the neighbours of blocks that lie between these blocks.

    Returns
    -------
    before, after : Tensor of shape (batch, block, contact, channel)
        Views of the same blocks.
    """
    padded = functional.pad(tokens, (0, 0, 0, 0, before, after))
    return padded[:, :-apart], padded[:, apart:]


def add_linear(total: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """Add ``inputs @ weight.T``, in place if no gradient is needed.

    Parameters
    ----------
    total : Tensor of shape (..., n_out)
        The sum so far. It must be contiguous and is overwritten.
    inputs : Tensor of shape (..., n_in)
        Inputs, with the same number of rows.
    weight : Tensor of shape (n_out, n_in)
        Weight as in :class:`torch.nn.Linear`.
    """
    if torch.is_grad_enabled():
        return total + functional.linear(inputs, weight)
    rows = inputs.reshape(-1, inputs.shape[-1])
    total.view(-1, total.shape[-1]).addmm_(rows, weight.t())
    return total


def _add_layer(total: Tensor, inputs: Tensor, layer: nn.Linear) -> Tensor:
    """Add a layer's output as :func:`add_linear` does."""
    if torch.is_grad_enabled():
        return total + layer(inputs)
    return add_linear(total.add_(layer.bias), inputs, layer.weight)


class ContactAttention(nn.Module):
    """Attention over the contacts of one block, with a bias for each pair of contacts.

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
        self,
        tokens: Tensor,
        relations: Tensor,
        keys: Tensor | None = None,
        also: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Mix tokens over contacts.

        Parameters
        ----------
        tokens : Tensor of shape (batch, block, contact, width)
            One token for each contact and block. The update is added to them, in place
            if no gradient is needed.
        relations : Tensor of shape (batch, contact, key, n_relations)
            Features of each pair.
        keys : Tensor of shape (batch, block, key, width) | None
            Tokens that are attended to. None takes the tokens themselves.
        also : Tensor of shape (batch, block, key, channel) | None
            Further values that are mixed with the same attention weights.

        Returns
        -------
        tokens : Tensor of shape (batch, block, contact, width)
            Tokens with the update of the attention.
        seen : list of Tensor of shape (batch, block, contact, channel)
            ``also``, mixed with the weights of each head.
        """
        width = tokens.shape[-1]
        if keys is None:
            parts = self.project(self.norm(tokens)).chunk(3, dim=-1)
        else:
            # Keys need no queries of their own.
            weight, bias = self.project.weight, self.project.bias
            query = functional.linear(self.norm(tokens), weight[:width], bias[:width])
            both = functional.linear(self.norm(keys), weight[width:], bias[width:])
            parts = [query, *both.chunk(2, dim=-1)]
        bias = self.bias(relations).movedim(-1, 1)
        if also is None:
            mixed, seen = self._mix(parts, bias), []
        else:
            mixed, seen = self._mix_both(parts, bias, also)
        return _add_layer(tokens, mixed, self.out), seen

    def _mix(self, parts, bias):
        """Mix the tokens' values: (batch, block, contact, width)."""
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).flatten(0, 1).transpose(1, 2)
            for part in parts
        )
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=_of_blocks(bias, parts[0])
        )
        return mixed.transpose(1, 2).reshape(parts[0].shape)

    def _mix_both(self, parts, bias, also):
        """Mix the tokens' values and further values, head by head."""
        also = also.flatten(0, 1)
        mixed, seen = [], []
        heads = (part.flatten(0, 1).chunk(self.n_heads, dim=-1) for part in parts)
        for number, (query, key, value) in enumerate(zip(*heads, strict=True)):
            weights = torch.softmax(
                torch.baddbmm(
                    _of_blocks(bias[:, number], parts[0]),
                    query,
                    key.transpose(1, 2),
                    alpha=1 / sqrt(query.shape[-1]),
                ),
                dim=-1,
            )
            mixed.append(weights @ value)
            seen.append((weights @ also).unflatten(0, parts[0].shape[:2]))
        return torch.cat(mixed, dim=-1).view(parts[0].shape), seen


def _of_blocks(bias: Tensor, tokens: Tensor) -> Tensor:
    """Repeat the values of a recording for each of its blocks."""
    n_batch, n_blocks = tokens.shape[:2]
    return bias[:, None].expand(n_batch, n_blocks, *bias.shape[1:]).flatten(0, 1)


class Mixer(nn.Module):
    """A layer that mixes over neighbouring seconds, contacts and channels.

    Parameters
    ----------
    width, n_heads, n_relations : int
        As in :class:`ContactAttention`.
    seconds : bool
        Whether to use the block before and the block after.
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

    def forward(self, tokens: Tensor, relations: Tensor) -> Tensor:
        """Mix tokens, (batch, contact, block, width), without changing the input."""
        return by_second(self.mix(by_second(tokens), relations)[0])

    def mix(
        self,
        tokens: Tensor,
        relations: Tensor,
        beside: tuple[Tensor, Tensor] | None = None,
        keys: Tensor | None = None,
        also: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Mix tokens second by second.

        Parameters
        ----------
        tokens : Tensor of shape (batch, block, contact, width)
            They are overwritten if ``seconds`` is False.
        relations, keys, also : Tensor
            As in :class:`ContactAttention`.
        beside : tuple of Tensor of shape (batch, block, contact, width) | None
            Tokens before and after these. None takes them from the tokens themselves.

        Returns
        -------
        tokens, seen : Tensor, list of Tensor
            As in :class:`ContactAttention`.
        """
        if self.reach:
            beside = neighbours(tokens) if beside is None else beside
            weights = self.seconds.weight.chunk(2, dim=-1)
            tokens = (tokens + self.seconds.bias).contiguous()
            for other, weight in zip(beside, weights, strict=True):
                tokens = add_linear(tokens, other, weight)
        tokens, seen = self.contacts(tokens, relations, keys, also)
        hidden = self.channels[:-1](tokens)
        return _add_layer(tokens, hidden, self.channels[-1]), seen


def _quiet(layer: nn.Linear) -> nn.Linear:
    """Set a layer to zero, so that an untrained step changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Standardize(nn.Module):
    """Standardize a whole level, given the coarser levels.

    Parameters
    ----------
    width : int
        Channels of a token.
    size : int
        Coefficients in a block.
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
        """Return shift, log-scale and tail, each (batch, contact, block, size)."""
        state = self.head[0](state)
        shift, log_scale, tail = self.head[1](state).chunk(3, dim=-1)
        log_scale = bounded(log_scale, MAX_LEVEL_SCALE)
        # The shift is in units of the scale, so that it is small where the scale is.
        shift = shift * torch.exp(log_scale)
        # The spatial posterior gives all frequencies the same weight, but muscle and
        # drift deserve less. Zero keeps its mean, minus one removes it.
        trust = bounded(self.trust(state), MAX_TRUST)
        return torch.addcmul(shift, trust, mean), log_scale, bounded(tail, MAX_TAIL)

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
        The axis that is split into a moving and a fixed half.
    turn : int
        0 or 1: the half that moves.
    size : int
        Coefficients in a block.
    width, n_heads, n_relations : int
        As in :class:`ContactAttention`.
    """

    #: Parameters of a coefficient, without the gates: shift, log-scale and tail.
    n_parameters = 3
    to_noise, to_data = staticmethod(to_noise), staticmethod(to_data)

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
        #: Outputs for each coefficient: its parameters, and a gate per attention head.
        self.n_outputs = self.n_parameters + n_heads
        self.head = nn.Sequential(
            nn.LayerNorm(width), _quiet(nn.Linear(width, self.n_outputs * size))
        )
        if split == "seconds":
            self.linear = _quiet(nn.Linear(2 * size, size, bias=False))
        elif split == "frequencies":
            self.linear = _quiet(nn.Linear(size, size, bias=False))

    def parts(self, shape, first_block: int) -> tuple[tuple, tuple]:
        """Return the indices of the moving and of the fixed half.

        Parameters
        ----------
        shape : tuple of int
            Batch, contacts, blocks and coefficients of a level.
        first_block : int
            Absolute second of the first block.

        Returns
        -------
        moving, fixed : tuple of slice
            Indices of the level.
        """
        whole = slice(None)
        if self.split == "seconds":
            start = (self.turn - first_block) % 2
            return tuple((whole, whole, slice(s, None, 2)) for s in (start, 1 - start))
        size = shape[1] if self.split == "contacts" else shape[3]
        # If the number of contacts is odd, the first half has one more.
        middle = (size + 1) // 2
        halves = slice(middle), slice(middle, None)
        moving, fixed = halves if self.turn == 0 else halves[::-1]
        before = (whole,) if self.split == "contacts" else (whole,) * 3
        return (*before, moving), (*before, fixed)

    def parameters_of(
        self, data: Tensor, state: Tensor, relations: Tensor, start: int
    ) -> tuple[tuple, tuple[Tensor, ...]]:
        """Compute the parameters of the moving half from the fixed half.

        Parameters
        ----------
        data : Tensor of shape (batch, contact, block, size)
            The level.
        state : Tensor of shape (batch, contact, block, width)
            State of each contact and second. A batch of one is used for all rows.
        relations : Tensor of shape (batch, contact, contact, n_relations)
            Features of each pair of contacts.
        start : int
            Absolute second of the first block.

        Returns
        -------
        moving : tuple of slice
            Index of the moving half.
        parameters : tuple of Tensor
            Shift, log-scale and tail of the moving half.
        """
        moving, shift, log_scale, tail = self.from_fixed(data, state, relations, start)
        log_scale = bounded(log_scale, MAX_LOG_SCALE)
        return moving, (shift, log_scale, bounded(tail, MAX_TAIL))

    def from_fixed(self, data, state, relations, start):
        """Return the moving index, its shift, and its other parameters unbounded."""
        moving, fixed = self.parts(data.shape, start)
        given = by_second(data[fixed])
        see = getattr(self, f"_over_{self.split}")
        tokens, seen, inputs = see(given, state, relations, moving, fixed)
        columns = moving[3] if self.split == "frequencies" else slice(None)
        shift, *values = self._values(tokens, columns, gated=bool(seen))
        # Linear prediction from neighbours: from contacts that share a generator, from
        # an oscillation that continues, from the other half of the level.
        for gate, mixed in zip(values[self.n_parameters - 1 :], seen, strict=True):
            shift = torch.addcmul(shift, gate, mixed)
        if inputs is not None:
            weight = self.linear.weight
            if self.split == "frequencies":
                weight = weight[moving[3], fixed[3]]
            shift = shift + functional.linear(inputs, weight)
        return moving, *map(by_second, (shift, *values[: self.n_parameters - 1]))

    def _over_seconds(self, given, state, relations, moving, fixed):
        """Predict every other second from the seconds before and after it."""
        queries = self._tokens(state[moving], None, len(given))
        keys = self._tokens(state[fixed], given)
        before = 1 - moving[2].start
        after = queries.shape[1] + 1 - before - keys.shape[1]
        beside = neighbours(keys, before, after, apart=1)
        tokens, _ = self.mixer.mix(queries, relations, beside)
        return tokens, [], torch.cat(neighbours(given, before, after, 1), dim=-1)

    def _over_contacts(self, given, state, relations, moving, fixed):
        """Predict one half of the contacts from the other."""
        queries = self._tokens(state[moving], None, len(given))
        if not given.shape[2]:  # a single contact has no fixed half
            return self.mixer.mix(queries, relations)[0], [], None
        keys = self._tokens(state[fixed], given)
        relations = relations[:, moving[1], fixed[1]]
        return *self.mixer.mix(queries, relations, keys=keys, also=given), None

    def _over_frequencies(self, given, state, relations, moving, fixed):
        """Predict one half of the frequencies from the other."""
        tokens = self._tokens(state, given, columns=fixed[3], unknown=moving[3])
        return self.mixer.mix(tokens, relations)[0], [], given

    def _tokens(
        self, state, given, n_batch=None, columns=slice(None), unknown=slice(0)
    ):
        """Add the given coefficients to the state, and zeros for the others."""
        weight = self.read.weight.unflatten(1, (2, -1))
        if given is None:
            unknown = slice(None)
        else:
            n_batch = len(given)
        silence = log(_LEAST_POWER) * weight[:, 1, unknown].sum(-1)
        tokens = by_second(state) + (self.read.bias + silence)
        tokens = tokens.expand(n_batch, *tokens.shape[1:]).contiguous()
        if given is None:
            return tokens
        weight = weight[:, :, columns].flatten(1)
        return add_linear(tokens, magnitudes(given), weight)

    def _values(self, tokens, columns, gated):
        """Return the moving coefficients' parameters and gates, (batch, block, ...)."""
        norm, last = self.head
        size = last.out_features // self.n_outputs
        n = self.n_outputs if gated else self.n_parameters
        weight = last.weight.unflatten(0, (-1, size))[:n, columns].flatten(0, 1)
        bias = last.bias.unflatten(0, (-1, size))[:n, columns].flatten()
        values = functional.linear(norm(tokens), weight, bias)
        return values.unflatten(-1, (n, -1)).unbind(-2)

    def forward(
        self, data: Tensor, state: Tensor, relations: Tensor, start: int
    ) -> tuple[Tensor, Tensor]:
        """Map data to noise, with the log-determinant of each coefficient."""
        noise, log_det = data.clone(), torch.zeros_like(data)
        if not data[self.parts(data.shape, start)[0]].numel():
            return noise, log_det  # a single contact or second
        moving, parameters = self.parameters_of(data, state, relations, start)
        noise[moving], log_det[moving] = self.to_noise(data[moving], *parameters)
        return noise, log_det

    def inverse(
        self, noise: Tensor, state: Tensor, relations: Tensor, start: int
    ) -> Tensor:
        """Map noise to data."""
        data = noise.clone()
        if not noise[self.parts(noise.shape, start)[0]].numel():
            return data  # a single contact or second
        moving, parameters = self.parameters_of(noise, state, relations, start)
        data[moving] = self.to_data(noise[moving], *parameters)
        return data
