"""The conditional flow: spatial posterior, wavelet levels, coupling steps.

``log_prob`` maps data to noise, and ``sample`` maps noise to data. Both are methods of
:class:`ConditionedFlow`, which encodes the context once.
"""

from dataclasses import asdict, dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..contract import BLOCK
from .amplitude import Amplitude, level_sizes
from .context import N_RELATIONS, Conditions, ScalpContext
from .coupling import Coupling, Mixer, Standardize, by_second, magnitudes
from .marginal import Calibration
from .pointwise import (
    PointwiseDistribution,
    PointwiseHead,
    between_points,
    expected_scale,
)
from .slabs import cut_in_slabs
from .wavelet import LEVEL_SIZES, WaveletTransform

_SPLITS = {"s": "seconds", "c": "contacts", "f": "frequencies"}


@dataclass(frozen=True)
class FlowConfig:
    """Shape of a flow.

    Attributes
    ----------
    width : int
        Channels of a token.
    n_heads : int
        Attention heads.
    n_moments : int
        Vanishing moments of the wavelet.
    steps : tuple of str
        The coupling steps of each level, coarse to fine: ``s`` splits the seconds,
        ``c`` the contacts, ``f`` the frequencies. Each letter stands for two steps, so
        that every coefficient moves.
    """

    width: int = 96
    n_heads: int = 4
    n_moments: int = 8
    steps: tuple[str, ...] = ("scfsc", "scf", "cf", "cf")

    def to_dict(self) -> dict:
        """Convert to plain types, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "FlowConfig":
        """Make a configuration from :meth:`to_dict`; unknown names are errors."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Unknown fields of the flow's configuration: {unknown}.")
        values = dict(values)
        if "steps" in values:
            values["steps"] = tuple(values["steps"])
        return cls(**values)


class LevelFlow(nn.Module):
    """The flow of one wavelet level given the context and all coarser levels.

    Parameters
    ----------
    index : int
        Index of the level; 0 is the coarsest.
    config : FlowConfig
        Shape of the flow.
    """

    def __init__(self, index: int, config: FlowConfig):
        super().__init__()
        size = LEVEL_SIZES[index]
        shape = (config.width, config.n_heads, N_RELATIONS)
        self.read = None
        if index:
            self.read = nn.Linear(2 * LEVEL_SIZES[index - 1], config.width)
        self.trunk = Mixer(*shape, seconds=True)
        self.standardize = Standardize(config.width, size)
        self.steps = nn.ModuleList(
            Coupling(_SPLITS[letter], turn, size, *shape)
            for letter in config.steps[index]
            for turn in (0, 1)
        )
        self.reach = sum(step.reach for step in self.steps)

    def state(self, state: Tensor, coarser: Tensor | None, relations: Tensor) -> Tensor:
        """Add features of the next coarser level to the running state."""
        if coarser is not None:
            state = state + self.read(magnitudes(coarser))
        return self.trunk(state, relations)

    def forward(self, data, state, mean, relations, start):
        """Map data to noise, with the log-determinant of each coefficient."""
        noise, log_det = self.standardize(data, state, mean)
        for step in self.steps:
            noise, change = step(noise, state, relations, start)
            log_det = log_det + change
        return noise, log_det

    def inverse(self, noise, state, coarser, mean, relations, start, margin=0):
        """Map noise to data, except for the seconds in the margins.

        Parameters
        ----------
        noise, mean : Tensor of shape (batch, contact, block, size)
            Noise, and the whitened posterior mean.
        state : Tensor of shape (batch, contact, block, width)
            Running state without the next coarser level.
        coarser : Tensor of shape (batch, contact, block, coarser size) | None
            Data of the next coarser level.
        relations : Tensor of shape (batch, contact, contact, n_relations)
            Features of each pair of contacts.
        start : int
            Absolute second of the first block.
        margin : int
            Seconds at either end that are not needed.

        Returns
        -------
        data, state : Tensor
            The level's data, and the running state with the next coarser level.
        """
        begin, *others = self._runs()
        reach = self.reach

        def enter(first, wanted, state, noise, mean, coarser=None):
            state = self.state(state, coarser, relations)[:, :, wanted]
            parts = noise[:, :, wanted], state, mean[:, :, wanted]
            return undo(begin, first + wanted.start, *parts), state

        def go_on(first, wanted, state, noise, mean, run):
            noise = run[0].inverse(noise, state, relations, start + first)
            parts = (part[:, :, wanted] for part in (noise, state, mean))
            return (undo(run[1:], first + wanted.start, *parts, run),)

        def undo(steps, first, noise, state, mean, run=begin):
            for step in steps:
                noise = step.inverse(noise, state, relations, start + first)
            if run is last:
                return self.standardize.inverse(noise, state, mean)
            return noise

        last = others[-1] if others else begin
        series = (
            (state, noise, mean) if coarser is None else (state, noise, mean, coarser)
        )
        noise, state = cut_in_slabs(
            enter, series, self.trunk.reach, max(margin - reach, 0)
        )
        for run in others:
            reach -= run[0].reach
            (noise,) = cut_in_slabs(
                partial(go_on, run=run),
                (state, noise, mean),
                run[0].reach,
                max(margin - reach, 0),
            )
        return noise, state

    def _runs(self):
        """Group the steps in sampling order, with cuts before steps over seconds."""
        runs = [[]]
        for step in reversed(self.steps):
            if step.reach:
                runs.append([])
            runs[-1].append(step)
        return runs


def _product(matrix: Tensor, level: Tensor) -> Tensor:
    """Multiply over contacts in float64; whitening nearly cancels neighbours."""
    product = matrix.double() @ level.double().flatten(2)
    return product.to(level.dtype).unflatten(2, level.shape[2:])


class ConditionedFlow:
    """The distribution of contact potentials given a batch of scalp recordings.

    It is made by :meth:`ConditionalFlow.condition`.
    """

    def __init__(self, flow, conditions: Conditions, first_block: int):
        self._flow, self._conditions = flow, conditions
        self._start = first_block
        # Steps process one half of the contacts after the other.
        self._order = conditions.half.argsort(dim=1, stable=True)
        self._marginal = flow.calibration(conditions)
        #: Distribution of each contact's amplitude.
        self.amplitudes = flow.amplitude(conditions)
        self._context = flow.context(conditions)
        self._mean = self._by_level(conditions.inverse_root, conditions.mean)

        self._sorted_mean = [self._in_halves(level) for level in self._mean]
        self._sorted_state = self._in_halves(self._context)
        by_row = self._in_halves(conditions.relations)
        self._relations = by_second(self._in_halves(by_second(by_row)))

    def _in_halves(self, tensor: Tensor, back: bool = False) -> Tensor:
        """Sort contacts by half, or restore their order.

        Series, (batch, contact, block, channel), then lie in memory second by second.
        """
        order = self._order.argsort(dim=1) if back else self._order
        if len(order) == 1:
            tensor = tensor.index_select(1, order[0])
        else:
            order = order[(...,) + (None,) * (tensor.ndim - 2)]
            tensor = torch.take_along_dim(tensor, order, dim=1)
        return by_second(by_second(tensor).contiguous()) if tensor.ndim == 4 else tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the noise: batch, contacts, seconds and coefficients."""
        n_batch, n_contacts, n_times = self._conditions.mean.shape
        return n_batch, n_contacts, n_times // BLOCK, BLOCK

    def _by_level(self, roots: Tensor, signals: Tensor) -> list[Tensor]:
        """Compute wavelet coefficients, and multiply each level by its root."""
        levels = self._flow.wavelet(signals)
        return [
            _product(root, level)
            for root, level in zip(roots.unbind(1), levels, strict=True)
        ]

    def whiten(self, potentials: Tensor) -> list[Tensor]:
        """Convert volts to whitened residuals of the spatial posterior, by level.

        Each level has unit covariance over contacts if the spectrum is typical.
        """
        conditions = self._conditions
        unit = potentials / conditions.gain[:, None, None]
        return self._by_level(conditions.inverse_root, unit - conditions.mean)

    def colour(self, levels: list[Tensor]) -> Tensor:
        """Invert :meth:`whiten`."""
        conditions = self._conditions
        levels = [
            _product(root, level)
            for root, level in zip(conditions.root.unbind(1), levels, strict=True)
        ]
        unit = self._flow.wavelet.inverse(levels) + conditions.mean
        return unit * conditions.gain[:, None, None]

    def coefficients(self, potentials: Tensor) -> tuple[Tensor, ...]:
        """Compute whitened wavelet coefficients of contact potentials, by level.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Volts. If there is one scalp recording, the batch can have any size.

        Returns
        -------
        levels : tuple of Tensor of shape (batch, contact, block, coefficient)
            Coarse to fine.
        """
        return self.whiten(self._marginal.undo(potentials)[0])

    def to_noise(self, potentials: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Map contact potentials to noise.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Volts.

        Returns
        -------
        levels : list of tuple of Tensor of shape (batch, contact, block, coefficient)
            Noise and log-determinant of each level, coarse to fine, without
            :meth:`log_volume` and without the calibration's derivative.
        """
        state, coarser, parts = self._sorted_state, None, []
        coefficients = map(self._in_halves, self.coefficients(potentials))
        each = zip(self._flow.levels, coefficients, self._sorted_mean, strict=True)
        for level, data, mean in each:
            state = level.state(state, coarser, self._relations)
            both = level(data, state, mean, self._relations, self._start)
            parts.append(tuple(self._in_halves(part, back=True) for part in both))
            coarser = data
        return parts

    def log_prob_levels(self, potentials: Tensor, margin: int = 0) -> Tensor:
        """Return the log-density of whitened coefficients, by level.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Contact potentials in volts.
        margin : int
            Seconds at either end that are not scored.

        Returns
        -------
        log_probs : Tensor of shape (batch, level)
            Joint log-density of all contacts in nats per coefficient, of each level
            given the coarser levels, coarse to fine, without :meth:`log_volume` and
            without the calibration's derivative.
        """
        levels = self.to_noise(potentials)
        n_blocks = levels[0][0].shape[2] - 2 * margin
        inner = slice(margin, margin + n_blocks)
        energy = [noise[:, :, inner].square().sum((2, 3)) for noise, _ in levels]
        energy = torch.stack(energy, -1)
        density = self.amplitudes.log_prob_jointly(energy, n_blocks)
        change = [part[:, :, inner].mean((1, 2, 3)) for _, part in levels]
        sizes = level_sizes(density.device)
        n_coefficients = energy.shape[1] * n_blocks * sizes
        return torch.stack(change, -1) + (density / n_coefficients).to(energy.dtype)

    def log_volume(self) -> Tensor:
        """Return the log-determinant of whitening per sample of all contacts."""
        conditions = self._conditions
        n_contacts = conditions.root.shape[-1]
        share = level_sizes(conditions.gain.device) / BLOCK
        whitening = (
            torch.linalg.slogdet(conditions.inverse_root.double())[1] @ share.double()
        )
        return whitening.to(conditions.gain) - n_contacts * torch.log(conditions.gain)

    def log_prob(self, potentials: Tensor) -> Tensor:
        """Return the log-density of contact potentials per contact and second, in nats.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Contact potentials in volts.

        Returns
        -------
        log_prob : Tensor of shape (batch, contact, block)
            Log-density of each second given the seconds before it. The sum is the joint
            log-density of the potentials in volts. The volume of the whitening is
            divided evenly between contacts.
        """
        change, energy = self.log_prob_parts(potentials)
        return change + self.amplitudes.log_prob(energy).to(change.dtype)

    def log_prob_parts(self, potentials: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts from which :func:`.sampler.score_blocks` adds up a density.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Contact potentials in volts.

        Returns
        -------
        change : Tensor of shape (batch, contact, block)
            Log-determinant of the map to noise, per contact and second.
        energy : Tensor of shape (batch, contact, block, level)
            Sum of squares of the noise, see :meth:`~.amplitude.Amplitudes.log_prob`.
        """
        levels = self.to_noise(potentials)
        change = torch.stack([part.sum(-1) for _, part in levels]).sum(0)
        energy = torch.stack([noise.square().sum(-1) for noise, _ in levels], -1)
        _, log_slope = self._marginal.undo(potentials)
        change = change + log_slope.unflatten(-1, (-1, BLOCK)).sum(-1)
        volume = self.log_volume() * BLOCK / potentials.shape[1]
        return change + volume[:, None, None], energy

    def sample(
        self, noise: Tensor, amplitude: Tensor | None = None, margin: int = 0
    ) -> Tensor:
        """Turn standard normal noise into contact potentials.

        Parameters
        ----------
        noise : Tensor of shape (batch, contact, block, 128)
            Coefficients of the four levels, coarse to fine. If there is one scalp
            recording, the batch can have any number of draws.
        amplitude : Tensor of shape (batch, contact, 6) | None
            Standard normal variates behind each contact's amplitudes, see
            :meth:`~.amplitude.Amplitudes.scale`. None leaves the noise as it is.
        margin : int
            Seconds at either end that are not needed. Their values are meaningless,
            because not everything that they depend on is computed.

        Returns
        -------
        potentials : Tensor of shape (batch, contact, time)
            Volts.
        """
        state, coarser, coefficients = self._sorted_state, None, []
        if amplitude is not None:
            scale = self.amplitudes.scale(amplitude).to(noise.dtype)
            sizes = level_sizes(scale.device)
            scale = scale.repeat_interleave(sizes, -1, output_size=BLOCK)
            noise = noise * scale[:, :, None]
        each = zip(
            self._flow.levels,
            self._in_halves(noise).split(LEVEL_SIZES, dim=-1),
            self._sorted_mean,
            self._flow.margins(margin),
            strict=True,
        )
        for level, part, mean, wanted in each:
            coarser, state = level.inverse(
                part, state, coarser, mean, self._relations, self._start, wanted
            )
            coefficients.append(self._in_halves(coarser, back=True))
        return self._marginal.apply(self.colour(coefficients))

    def pointwise(self) -> PointwiseDistribution:
        """Return the distribution of each sample by itself, without draws.

        Returns
        -------
        distribution : PointwiseDistribution
            The distribution of draws at each contact and sample. It does not describe
            the dependence between contacts and samples.
        """
        conditions, gain = self._conditions, self._conditions.gain[:, None, None]
        expected, shape = self._flow.pointwise(
            self._context, self._mean, self.amplitudes, conditions
        )
        log_scale, skew, tail = (part.flatten(2) for part in shape.chunk(3, -1))
        unit = expected_scale(self.amplitudes, conditions.root)[..., None]
        return PointwiseDistribution(
            self.colour(expected),
            gain * unit * torch.exp(between_points(log_scale)),
            skew,
            tail,
            self._layers(),
        )

    def _layers(self):
        """Return the flow's last layer and the contacts' own, if they differ."""
        calibration = self._conditions.calibration
        if calibration is None or not calibration.any():
            return None
        plain = replace(self._conditions, calibration=None)
        return self._flow.calibration(plain), self._marginal


class ConditionalFlow(nn.Module):
    """Conditional multi-scale normalizing flow over intracranial contacts.

    Parameters
    ----------
    config : FlowConfig | None
        Shape of the flow. None takes the default.
    """

    def __init__(self, config: FlowConfig | None = None):
        super().__init__()
        self.config = FlowConfig() if config is None else config
        _check_levels(self.config)
        self.wavelet = WaveletTransform(self.config.n_moments)
        self.context = ScalpContext(
            self.config.width, self.config.n_heads, self.wavelet
        )
        self.levels = nn.ModuleList(
            LevelFlow(index, self.config) for index in range(len(LEVEL_SIZES))
        )
        self.calibration = Calibration()
        self.amplitude = Amplitude()
        self.pointwise = PointwiseHead(self.config.width, self.config.n_heads)

    @property
    def reach(self) -> int:
        """Number of seconds to either side on which a sampled second can depend."""
        steps = sum(level.reach + level.trunk.reach for level in self.levels)
        return self.context.reach + steps + self.wavelet.reach

    @property
    def pointwise_reach(self) -> int:
        """Number of seconds to either side on which pointwise distributions depend."""
        return self.context.reach + self.pointwise.reach + self.wavelet.reach

    def margins(self, margin: int) -> list[int]:
        """Return the seconds that each level can omit if the signal omits some.

        Parameters
        ----------
        margin : int
            Seconds at either end of a window of the signal.

        Returns
        -------
        margins : list of int
            Seconds at either end of each level, coarse to fine. They are fewer, because
            finer levels and the wavelet need a few seconds more.
        """
        reach, margins = self.wavelet.reach, []
        for level in reversed(self.levels):
            margins.append(max(margin - reach, 0))
            reach += level.reach + level.trunk.reach
        return margins[::-1]

    def condition(
        self, conditions: Conditions, first_block: int = 0
    ) -> ConditionedFlow:
        """Encode the conditioning inputs once, for densities and any number of draws.

        Parameters
        ----------
        conditions : Conditions
            Windows of whole seconds.
        first_block : int
            Absolute second at which the windows start. It determines which seconds are
            even and which are odd for the steps over seconds.

        Returns
        -------
        flow : ConditionedFlow
            The distribution, with ``log_prob`` and ``sample``.
        """
        return ConditionedFlow(self, conditions, first_block)


def _check_levels(config: FlowConfig) -> None:
    if len(config.steps) != len(LEVEL_SIZES):
        raise ValueError(
            "Invalid value for the 'steps' parameter. Allowed values have one entry "
            f"for each of the {len(LEVEL_SIZES)} wavelet levels, but got "
            f"{config.steps}. "
            "Weights that were trained with another number of levels cannot be used."
        )
