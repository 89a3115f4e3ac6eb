"""The conditional flow: spatial posterior, wavelet levels, coupling steps.

``log_prob`` runs from data to noise, ``sample`` from noise to data; both use
the same :class:`ConditionedFlow`, in which the context is encoded once.
"""

from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn

from ..contract import BLOCK
from .amplitude import Amplitude, level_sizes
from .calibration import Calibration
from .context import N_RELATIONS, Conditions, ScalpContext
from .coupling import Coupling, Mixer, Standardize, magnitudes
from .slabs import in_slabs
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
        For each level, coarse to fine, its coupling steps: ``s`` alternates
        over seconds, ``c`` over contacts, ``f`` over frequencies. Each letter
        stands for two steps, so that every coefficient moves.
    """

    width: int = 96
    n_heads: int = 4
    n_moments: int = 8
    steps: tuple[str, ...] = ("scfsc", "scf", "cf", "cf")

    def to_dict(self) -> dict:
        """Return plain types, for a checkpoint."""
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
    """One wavelet level given the context and all coarser levels.

    Parameters
    ----------
    index : int
        Which level, 0 being the coarsest.
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

    def state(
        self,
        state: Tensor,
        coarser: Tensor | None,
        relations: Tensor,
        margin: int = 0,
    ) -> Tensor:
        """Add what the next coarser level says to the running state."""

        def mix(_, state, coarser=None):
            if coarser is not None:
                state = state + self.read(magnitudes(coarser))
            return self.trunk(state, relations)[0]

        series = (state,) if self.read is None else (state, coarser)
        return in_slabs(mix, series, self.trunk.reach, margin)

    def forward(self, data, state, mean, relations, half, start):
        """Map data to noise, with the log-determinant of each coefficient."""
        noise, log_det = self.standardize(data, state, mean)
        for step in self.steps:
            noise, change = step(noise, state, relations, half, start)
            log_det = log_det + change
        return noise, log_det

    def inverse(self, noise, state, mean, relations, half, start, margin=0):
        """Map noise to data, but for the seconds in the margins."""
        reach = self.reach
        for step in reversed(self.steps):
            reach -= step.reach

            def undo(first, noise, state, step=step):
                return step.inverse(noise, state, relations, half, start + first)

            wanted = max(margin - reach, 0)
            noise = in_slabs(undo, (noise, state), step.reach, wanted)

        def scale(_, noise, state, mean):
            return self.standardize.inverse(noise, state, mean)

        return in_slabs(scale, (noise, state, mean), 0, margin)


def _product(matrix: Tensor, level: Tensor) -> Tensor:
    """Multiply over contacts in float64: neighbours nearly cancel in whitening."""
    product = matrix.double() @ level.double().flatten(2)
    return product.to(level.dtype).unflatten(2, level.shape[2:])


class ConditionedFlow:
    """The distribution of contact potentials given one batch of scalps.

    Made by :meth:`ConditionalFlow.condition`.
    """

    def __init__(self, flow, conditions: Conditions, first_block: int):
        self._flow, self._conditions = flow, conditions
        self._start = first_block
        self._marginal = flow.calibration(conditions)
        #: Distribution of each contact's amplitude.
        self.amplitudes = flow.amplitude(conditions)
        self._context = flow.context(conditions)
        self._mean = self._by_level(conditions.inverse_root, conditions.mean)

    def _levels(self):
        conditions = self._conditions
        return self._flow.levels, (conditions.relations, conditions.half, self._start)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Batch, contacts, seconds and coefficients of the noise."""
        n_batch, n_contacts, n_times = self._conditions.mean.shape
        return n_batch, n_contacts, n_times // BLOCK, BLOCK

    def _by_level(self, roots: Tensor, signals: Tensor) -> list[Tensor]:
        """Wavelet coefficients, each level times its own root."""
        levels = self._flow.wavelet(signals)
        return [
            _product(root, level)
            for root, level in zip(roots.unbind(1), levels, strict=True)
        ]

    def whiten(self, potentials: Tensor) -> list[Tensor]:
        """Volts to residuals of the spatial posterior, by level.

        Each level has unit covariance over contacts where the spectrum is a typical
        one.
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
        """Whitened wavelet coefficients of contact potentials in volts, by level.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Volts; a batch of one scalp takes any number of them.

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
        levels, arguments = self._levels()
        state, coarser, parts = self._context, None, []
        coefficients = self.coefficients(potentials)
        for level, data, mean in zip(levels, coefficients, self._mean, strict=True):
            state = level.state(state, coarser, arguments[0])
            parts.append(level(data, state, mean, *arguments))
            coarser = data
        return parts

    def log_prob_levels(self, potentials: Tensor, margin: int = 0) -> Tensor:
        """Log-density of whitened coefficients, by level.

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
            given the coarser ones, coarse to fine, without :meth:`log_volume` and
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
        """Log-determinant of whitening per sample of all contacts, (batch,)."""
        conditions = self._conditions
        n_contacts = conditions.root.shape[-1]
        share = level_sizes(conditions.gain.device) / BLOCK
        whitening = (
            torch.linalg.slogdet(conditions.inverse_root.double())[1] @ share.double()
        )
        return whitening.to(conditions.gain) - n_contacts * torch.log(conditions.gain)

    def log_prob(self, potentials: Tensor) -> Tensor:
        """Log-density of contact potentials per contact and second, in nats.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Contact potentials in volts.

        Returns
        -------
        log_prob : Tensor of shape (batch, contact, block)
            That of each second given the seconds before it. It sums to the joint
            log-density in nats of volts; the volume of the whitening is shared evenly
            between contacts.
        """
        change, energy = self.log_prob_parts(potentials)
        return change + self.amplitudes.log_prob(energy).to(change.dtype)

    def log_prob_parts(self, potentials: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the log-density of a longer recording is made of.

        Parameters
        ----------
        potentials : Tensor of shape (batch, contact, time)
            Contact potentials in volts.

        Returns
        -------
        change : Tensor of shape (batch, contact, block)
            Logarithm of the volume that the map to noise takes, per contact and second.
        energy : Tensor of shape (batch, contact, block, level)
            What the density of the noise depends on, see
            :meth:`~.amplitude.Amplitudes.log_prob`.
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
            Coefficients of the four levels, coarse to fine. A batch of one
            scalp takes any number of draws.
        amplitude : Tensor of shape (batch, contact, 6) | None
            Standard normal variates behind each contact's amplitudes, see
            :meth:`~.amplitude.Amplitudes.scale`. None takes the noise as it is.
        margin : int
            Seconds at either end that are not wanted, and come back without
            meaning: what only they depend on is not computed.

        Returns
        -------
        potentials : Tensor of shape (batch, contact, time)
            Volts.
        """
        levels, arguments = self._levels()
        state, coarser, coefficients = self._context, None, []
        parts = noise.split(LEVEL_SIZES, dim=-1)
        if amplitude is not None:
            scales = self.amplitudes.scale(amplitude).to(noise.dtype).unbind(-1)
            parts = [
                p * s[:, :, None, None] for p, s in zip(parts, scales, strict=True)
            ]
        each = zip(levels, parts, self._mean, self._flow.margins(margin), strict=True)
        for level, part, mean, margin in each:
            wanted = max(margin - level.reach, 0)
            state = level.state(state, coarser, arguments[0], wanted)
            coarser = level.inverse(part, state, mean, *arguments, margin)
            coefficients.append(coarser)
        return self._marginal.apply(self.colour(coefficients))


class ConditionalFlow(nn.Module):
    """Conditional multi-scale normalizing flow over intracranial contacts.

    Parameters
    ----------
    config : FlowConfig | None
        Shape; None takes the default.
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

    @property
    def reach(self) -> int:
        """Seconds to either side that a sampled second can depend on."""
        steps = sum(level.reach + level.trunk.reach for level in self.levels)
        return self.context.reach + steps + self.wavelet.reach

    def margins(self, margin: int) -> list[int]:
        """Seconds that each level can leave out when the signal leaves out some.

        Parameters
        ----------
        margin : int
            Seconds at either end of a window of the signal.

        Returns
        -------
        margins : list of int
            The same of each level's coefficients, coarse to fine: finer levels
            and the wavelet need a few seconds more.
        """
        reach, margins = self.wavelet.reach, []
        for level in reversed(self.levels):
            margins.append(max(margin - reach, 0))
            reach += level.reach + level.trunk.reach
        return margins[::-1]

    def condition(
        self, conditions: Conditions, first_block: int = 0
    ) -> ConditionedFlow:
        """Encode conditions once, for densities and any number of draws.

        Parameters
        ----------
        conditions : Conditions
            Windows of whole seconds.
        first_block : int
            Absolute second at which the windows start; steps alternate on it.

        Returns
        -------
        flow : ConditionedFlow
            With ``log_prob`` and ``sample``.
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
