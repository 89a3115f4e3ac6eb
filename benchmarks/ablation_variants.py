"""Flows that differ from the shipped flow in one choice.

Some variants are options of :class:`~mne_neuroflow.flow.model.FlowConfig`. The others
are needed only for this comparison and are defined here: other transformations in the
coupling steps, less attention over contacts and less context. The wavelet levels are
the same in all variants, because the spatial stage has a covariance for each level.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import e, log

import torch
from torch import Tensor, nn
from torch.nn import functional

from mne_neuroflow.flow.context import N_RELATIONS, N_STATIC, ScalpContext
from mne_neuroflow.flow.coupling import (
    MAX_LEVEL_SCALE,
    MAX_LOG_SCALE,
    MAX_TAIL,
    MAX_TRUST,
    Coupling,
    Mixer,
    Standardize,
    bounded,
    to_data,
    to_noise,
)
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig, LevelFlow
from mne_neuroflow.flow.wavelet import LEVEL_SIZES, WaveletTransform

SPLITS = {"s": "seconds", "c": "contacts", "f": "frequencies"}
#: Bins of a spline, the interval it acts on and the least share of a bin; the values
#: of Durkan et al. 2019, appendix B, but for a wider interval.
N_BINS, BOUND, MIN_SHARE = 8, 5.0, 1e-3


@dataclass(frozen=True)
class Bend:
    """The transformation of a coefficient in a step, in addition to location and scale.

    Attributes
    ----------
    n_shape : int
        Parameters of a coefficient.
    to_noise : callable
        ``to_noise(data, shift, log_scale, shape)`` returns noise and log-determinant.
    to_data : callable
        ``to_data(noise, shift, log_scale, shape)`` returns data.
    """

    n_shape: int
    to_noise: Callable
    to_data: Callable


def _sinh_to_noise(data, shift, log_scale, shape):
    return to_noise(data, shift, log_scale, bounded(shape[..., 0], MAX_TAIL))


def _sinh_to_data(noise, shift, log_scale, shape):
    return to_data(noise, shift, log_scale, bounded(shape[..., 0], MAX_TAIL))


def _affine_to_noise(data, shift, log_scale, shape):
    return (data - shift) * torch.exp(-log_scale), -log_scale


def _affine_to_data(noise, shift, log_scale, shape):
    return noise * torch.exp(log_scale) + shift


def _spline_to_noise(data, shift, log_scale, shape):
    noise, log_det = spline((data - shift) * torch.exp(-log_scale), shape)
    return noise, log_det - log_scale


def _spline_to_data(noise, shift, log_scale, shape):
    return inverse_spline(noise, shape) * torch.exp(log_scale) + shift


SINH = Bend(1, _sinh_to_noise, _sinh_to_data)
AFFINE = Bend(0, _affine_to_noise, _affine_to_data)
SPLINE = Bend(3 * N_BINS - 1, _spline_to_noise, _spline_to_data)


def _knots(logits: Tensor) -> Tensor:
    share = MIN_SHARE + (1 - N_BINS * MIN_SHARE) * torch.softmax(logits, dim=-1)
    return 2 * BOUND * functional.pad(share.cumsum(-1), (1, 0)) - BOUND


def _bin(value: Tensor, shape: Tensor, of_noise: bool):
    """Corner, width, height and slopes at both ends of the bin of each value."""
    widths, heights, slopes = shape.split([N_BINS, N_BINS, N_BINS - 1], dim=-1)
    x, y = _knots(widths), _knots(heights)
    # All logits at zero: the identity.
    slopes = functional.pad(functional.softplus(slopes + log(e - 1)), (1, 1), value=1.0)
    edges = (y if of_noise else x)[..., 1:-1].detach()
    index = (value[..., None] >= edges).sum(-1, keepdim=True)

    def pick(series):
        return series.gather(-1, index)[..., 0]

    left, bottom = pick(x), pick(y)
    width, height = pick(x[..., 1:]) - left, pick(y[..., 1:]) - bottom
    return left, bottom, width, height, pick(slopes), pick(slopes[..., 1:])


def spline(data: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Monotone rational-quadratic spline inside an interval, identity outside.

    Durkan, Bekasov, Murray & Papamakarios 2019, *Neural spline flows*, equations
    4 and 5.

    Parameters
    ----------
    data : Tensor of shape (...)
        Coefficients.
    shape : Tensor of shape (..., 3 * N_BINS - 1)
        Logits of widths and heights, and slopes at inner knots; zeros make it the
        identity.

    Returns
    -------
    noise, log_det : Tensor of shape (...)
        Transformed coefficients and the logarithm of the derivative.
    """
    inside = data.abs() < BOUND
    value = data.clamp(-BOUND, BOUND)
    left, bottom, width, height, first, last = _bin(value, shape, of_noise=False)
    steep = height / width
    place = (value - left) / width
    rest = place * (1 - place)
    below = steep + (first + last - 2 * steep) * rest
    noise = bottom + height * (steep * place.square() + first * rest) / below
    slope = last * place.square() + 2 * steep * rest + first * (1 - place).square()
    log_det = 2 * torch.log(steep) + torch.log(slope) - 2 * torch.log(below)
    return torch.where(inside, noise, data), torch.where(inside, log_det, 0.0)


def inverse_spline(noise: Tensor, shape: Tensor) -> Tensor:
    """Invert :func:`spline` (equations 6 to 8 of the same paper)."""
    inside = noise.abs() < BOUND
    value = noise.clamp(-BOUND, BOUND)
    left, bottom, width, height, first, last = _bin(value, shape, of_noise=True)
    steep, rise = height / width, value - bottom
    curve = rise * (first + last - 2 * steep)
    a, b, c = height * (steep - first) + curve, height * first - curve, -steep * rise
    root = torch.sqrt((b.square() - 4 * a * c).clamp_min(0))
    data = left + width * 2 * c / (-b - root)
    return torch.where(inside, data, noise)


def _quiet(layer: nn.Linear) -> nn.Linear:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class OtherStandardize(Standardize):
    """A level's location and scale, with another bend.

    Parameters
    ----------
    width, size : int
        As in the parent.
    bend : Bend
        Further transformation of a coefficient.
    """

    def __init__(self, width: int, size: int, bend: Bend):
        super().__init__(width, size)
        self.bend = bend
        self.head[1] = _quiet(nn.Linear(width, (2 + bend.n_shape) * size))

    def parameters_of(self, state, mean):
        """Shift, log-scale and shape of each coefficient."""
        size = mean.shape[-1]
        shift, log_scale, shape = self.head(state).split(
            [size, size, self.bend.n_shape * size], dim=-1
        )
        log_scale = bounded(log_scale, MAX_LEVEL_SCALE)
        trust = bounded(self.trust(self.head[0](state)), MAX_TRUST)
        shift = shift * torch.exp(log_scale) + trust * mean
        return shift, log_scale, shape.unflatten(-1, (size, self.bend.n_shape))

    def forward(self, data, state, mean):
        """Map data to noise, with the log-determinant of each coefficient."""
        return self.bend.to_noise(data, *self.parameters_of(state, mean))

    def inverse(self, noise, state, mean):
        """Map noise to data."""
        return self.bend.to_data(noise, *self.parameters_of(state, mean))


class OtherCoupling(Coupling):
    """A coupling step with another bend, with or without attention over contacts.

    Parameters
    ----------
    split, turn, size, width, n_heads, n_relations
        As in the parent.
    bend : Bend
        Transformation of a coefficient in addition to location and scale.
    attention : bool
        Whether there is attention over contacts.
    """

    def __init__(
        self,
        split: str,
        turn: int,
        size: int,
        width: int,
        n_heads: int,
        n_relations: int,
        bend: Bend,
        attention: bool,
    ):
        super().__init__(split, turn, size, width, n_heads, n_relations)
        self.n_parameters = 2 + bend.n_shape
        self.n_outputs = self.n_parameters + (n_heads if attention else 0)
        self.head[1] = _quiet(nn.Linear(width, self.n_outputs * size))
        self.to_noise, self.to_data = bend.to_noise, bend.to_data
        if not attention:
            isolate(self.mixer)

    def parameters_of(self, data, state, relations, start):
        """Index of what moves, and its shift, log-scale and shape."""
        moving, *values = self.from_fixed(data, state, relations, start)
        shift, log_scale, *shape = values
        shape = torch.stack(shape, -1) if shape else shift.new_empty(*shift.shape, 0)
        return moving, (shift, bounded(log_scale, MAX_LOG_SCALE), shape)


class Alone(nn.Module):
    """A replacement of attention that does not mix contacts."""

    def forward(self, tokens, relations, keys=None, also=None):
        """Return the tokens unchanged, and no mixed values."""
        return tokens, []


def isolate(mixer: Mixer):
    """Remove attention over contacts from a mixer."""
    mixer.contacts = Alone()


class StaticContext(nn.Module):
    """A context without the time course of the scalp EEG.

    The scalp EEG affects the flow only by the posterior mean and its weight, and by
    features that are constant over a recording (position, gain, the spatial stage's).
    """

    def __init__(self, width: int, wavelet: WaveletTransform):
        super().__init__()
        self.static = nn.Sequential(
            nn.Linear(N_STATIC, width), nn.GELU(), nn.Linear(width, width)
        )
        self.reach = wavelet.reach  # of the posterior mean

    def forward(self, conditions):
        """Return the state, (batch, contact, block, width)."""
        n_blocks = conditions.mean.shape[-1] // 128
        state = self.static(conditions.static)[:, :, None]
        return state.expand(-1, -1, n_blocks, -1).contiguous()


class Summaries(nn.Module):
    """Attention of each contact and second to one summary of each second of all.

    The summary is the mean over contacts, so that the cost grows with the square of the
    seconds but not with the contacts. Untrained, it adds nothing.

    Parameters
    ----------
    width, n_heads : int
        Channels of a token and attention heads.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        _quiet(self.attention.out_proj)

    def forward(self, state):
        """Return what is added to the state, (batch, contact, block, width)."""
        tokens = self.norm(state)
        keys = tokens.mean(dim=1)
        mixed = self.attention(tokens.flatten(1, 2), keys, keys, need_weights=False)[0]
        return mixed.view(state.shape)


class StateSpace(nn.Module):
    """A diagonal linear state-space layer over seconds, in both directions.

    Each channel has several decaying memories, as S4D with real states (Gu, Goel, Gupta
    & Re 2022, *On the parameterization and initialization of diagonal state space
    models*), with half-lives from one second to two minutes. Untrained, it adds
    nothing.

    Parameters
    ----------
    width : int
        Channels of a token.
    n_memories : int
        Memories of a channel and direction.
    """

    def __init__(self, width: int, n_memories: int = 4):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        rates = log(2) / torch.logspace(0, log(120, 10), n_memories)
        self.log_rate = nn.Parameter(torch.log(rates).expand(width, -1).clone())
        self.weight = nn.Parameter(torch.randn(2, width, n_memories) / n_memories)
        self.out = nn.Sequential(nn.GELU(), _quiet(nn.Linear(width, width)))

    def forward(self, state):
        """Return what is added to the state, (batch, contact, block, width)."""
        second = torch.arange(state.shape[2], device=state.device)
        lag = (second[:, None] - second)[..., None, None]
        rate = torch.exp(self.log_rate)
        memory = torch.exp(-rate * lag.abs()) * rate  # block, block, width, memory
        before, after = ((memory * weight).sum(-1) for weight in self.weight)
        kernel = torch.where(lag[..., 0] > 0, before, after)
        kernel = kernel * (lag[..., 0] != 0)
        return self.out(torch.einsum("stw,bctw->bcsw", kernel, self.norm(state)))


class LongContext(ScalpContext):
    """A context that depends on all seconds of a recording.

    Parameters
    ----------
    width, n_heads, wavelet
        As in the parent.
    layer : nn.Module
        Computes what is added to the state.
    """

    def __init__(self, width, n_heads, wavelet, layer: nn.Module):
        super().__init__(width, n_heads, wavelet)
        self.layer = layer

    def forward(self, conditions):
        """Return the state, (batch, contact, block, width)."""
        state = super().forward(conditions)
        return state + self.layer(state)


LAYERS = {
    "summaries": Summaries,
    "state-space": lambda width, n_heads: StateSpace(width),
}


@dataclass(frozen=True)
class Variant:
    """One row of the comparison.

    Attributes
    ----------
    question, name : str
        The question, and the variant.
    config : dict
        Fields of :class:`~mne_neuroflow.flow.model.FlowConfig` that differ.
    bend : Bend
        The transformation in coupling steps beside location and scale.
    attentive : int
        The number of coarse levels with attention over contacts. With zero, the context
        has no attention either.
    static : bool
        Whether the context ignores the time course, see :class:`StaticContext`.
    long : str | None
        The layer of :data:`LAYERS` by which the context depends on all seconds.
    by_samples : bool
        Whether levels are weighted in the loss by their number of samples.
    seed : int
        The seed of the initial weights.
    """

    question: str
    name: str
    config: dict = field(default_factory=dict)
    bend: Bend = SINH
    attentive: int = len(LEVEL_SIZES)
    static: bool = False
    long: str | None = None
    by_samples: bool = False
    seed: int = 0

    def flow(self, width: int, n_heads: int) -> ConditionalFlow:
        """Build the untrained flow, which equals the spatial posterior."""
        torch.manual_seed(self.seed)
        config = FlowConfig(width=width, n_heads=n_heads, **self.config)
        composed = ("bend", "attentive", "static", "long")
        if all(getattr(self, name) == getattr(Variant, name) for name in composed):
            return ConditionalFlow(config)
        return OtherFlow(config, self)

    def weights(self) -> Tensor:
        """Weight of each level in the loss, (level,)."""
        sizes = torch.tensor(LEVEL_SIZES, dtype=torch.float32)
        return sizes / sizes.sum() if self.by_samples else sizes**0 / len(sizes)


class OtherLevel(LevelFlow):
    """One wavelet level of a variant."""

    def __init__(self, index: int, config: FlowConfig, variant: Variant):
        nn.Module.__init__(self)
        size, width = LEVEL_SIZES[index], config.width
        shape = (width, config.n_heads, N_RELATIONS)
        attention = index < variant.attentive
        self.read = None
        if index:
            self.read = nn.Linear(2 * LEVEL_SIZES[index - 1], width)
        self.trunk = Mixer(*shape, seconds=True)
        if not attention:
            isolate(self.trunk)
        self.standardize = OtherStandardize(width, size, variant.bend)
        self.steps = nn.ModuleList(
            OtherCoupling(SPLITS[letter], turn, size, *shape, variant.bend, attention)
            for letter in config.steps[index]
            for turn in (0, 1)
        )
        self.reach = sum(step.reach for step in self.steps)


class OtherFlow(ConditionalFlow):
    """A flow with other steps, less attention or less context.

    Parameters
    ----------
    config : FlowConfig
        Shape.
    variant : Variant
        Further differences.
    """

    def __init__(self, config: FlowConfig, variant: Variant):
        super().__init__(config)
        if variant.static:
            self.context = StaticContext(config.width, self.wavelet)
        elif variant.long:
            shape = (config.width, config.n_heads)
            layer = LAYERS[variant.long](*shape)
            self.context = LongContext(*shape, self.wavelet, layer)
        elif not variant.attentive:
            for mixer in self.context.blocks:
                isolate(mixer)
        self.levels = nn.ModuleList(
            OtherLevel(index, config, variant) for index in range(len(LEVEL_SIZES))
        )


STEPS = FlowConfig().steps
WITHOUT_CONTACTS = tuple(level.replace("c", "f") for level in STEPS)


#: The shipped choices are first. The others are compared with them.
VARIANTS = (
    Variant("shipped choices", "seed 0"),
    Variant("shipped choices", "seed 1", seed=1),
    Variant("wavelet", "Haar", config=dict(n_moments=1)),
    Variant("wavelet", "Daubechies, 2 moments", config=dict(n_moments=2)),
    Variant("wavelet", "Daubechies, 4 moments", config=dict(n_moments=4)),
    Variant("steps", "half", config=dict(steps=("scf", "c", "c", "c"))),
    Variant("steps", "double", config=dict(steps=tuple(2 * s for s in STEPS))),
    Variant("couplings", "affine", bend=AFFINE),
    Variant("couplings", "rational-quadratic spline", bend=SPLINE),
    Variant(
        "attention over contacts",
        "two coarse levels",
        config=dict(steps=(*STEPS[:2], *WITHOUT_CONTACTS[2:])),
        attentive=2,
    ),
    Variant(
        "attention over contacts",
        "none",
        config=dict(steps=WITHOUT_CONTACTS),
        attentive=0,
    ),
    Variant("context", "static", static=True),
    Variant("context", "all seconds, attention to summaries", long="summaries"),
    Variant("context", "all seconds, state-space layer", long="state-space"),
    Variant("weight of levels", "by samples", by_samples=True),
    Variant("shipped choices", "seed 2", seed=2),
)
