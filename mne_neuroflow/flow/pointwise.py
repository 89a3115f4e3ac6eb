"""The distribution of each contact at each sample, in one pass and without draws.

Draws describe each contact at each time, and also the dependence between contacts and
times. A mean, a standard deviation or a quantile of a sample needs no draws: a head on
the flow's context predicts the distribution of each sample by itself. It predicts the
expected wavelet coefficients, whose inverse transform is the expected signal, and,
eight times per second, the scale, skewness and tail of departures from this signal.

The inputs of the head are the flow's context and the spatial stage. Draws are used only
to train the head. The head does not change the density or the draws of the flow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contract import BLOCK
from .amplitude import N_LEVELS, Amplitudes, level_sizes
from .context import N_RELATIONS, Conditions
from .coupling import Mixer, asinh, bounded, by_second, magnitudes
from .marginal import Marginal
from .slabs import in_slabs
from .wavelet import LEVEL_SIZES

#: Points per second at which scale, skewness and tail are given; linear in between.
N_POINTS = 8
# Limits of the log-scale (e-folds), the skewness and the tail that the head returns.
_MAX_LOG_SCALE, _MAX_SKEW, _MAX_TAIL = 3.0, 1.5, 0.9
# Number of Gauss-Hermite nodes for means and standard deviations. With 16 the error is
# below 1e-4 for all allowed shapes (tests/test_pointwise.py).
_N_NODES = 16
# The calibration is nearly linear, and is needed at every sample, so few nodes suffice.
_N_NODES_LAST = 12
_N_MIXERS = 2


def normal_nodes(n_nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes and weights that integrate over a standard normal variate.

    Gauss-Hermite quadrature by the eigenvalues of the Jacobi matrix (Golub & Welsch
    1969, Math. Comput. 23:221).

    Parameters
    ----------
    n_nodes : int
        Polynomials of degree up to ``2 * n_nodes - 1`` are integrated exactly.
    like : Tensor
        A tensor with the type and device of the result.

    Returns
    -------
    nodes, weights : Tensor of shape (n_nodes,)
        The weights sum to one.
    """
    beside = torch.sqrt(torch.arange(1, n_nodes, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return values.to(like), vectors[0].square().to(like)


def bend(normal: Tensor, skew: Tensor, tail: Tensor) -> Tensor:
    """Give standard normal values skewness and tails.

    This is the sinh-arcsinh map of Jones & Pewsey 2009, Biometrika 96:761. It increases
    with the normal value. If skewness and tail are zero, it changes nothing.

    Parameters
    ----------
    normal, skew, tail : Tensor
        Broadcastable tensors. A negative tail means heavier tails than a Gaussian.

    Returns
    -------
    bent : Tensor
        Values that are not centred or scaled.
    """
    return torch.sinh((asinh(normal) + skew) * torch.exp(-tail))


@dataclass(frozen=True)
class PointwiseDistribution:
    """The distribution of each contact at each sample.

    Attributes
    ----------
    mean, std : Tensor of shape (batch, contact, time)
        Volts.
    skew, tail : Tensor of shape (batch, contact, point)
        Skewness and tail of the departures in units of ``std``, :data:`N_POINTS` per
        second.
    layers : tuple of Marginal | None
        The flow's last layer, and the layer of contacts whose calibration is known from
        pairs. Both are increasing in each sample, so quantiles are corrected by undoing
        the first and applying the second. None if no calibration is known.
    """

    mean: Tensor
    std: Tensor
    skew: Tensor
    tail: Tensor
    layers: tuple[Marginal, Marginal] | None = None

    def quantiles(self, shares: Sequence[float]) -> Tensor:
        """Compute quantiles of each sample.

        Parameters
        ----------
        shares : sequence of float
            Levels between 0 and 1.

        Returns
        -------
        quantiles : Tensor of shape (n_quantiles, batch, contact, time)
            Volts.
        """
        shares = torch.tensor(shares, dtype=torch.float64)
        normal = torch.special.ndtri(shares).to(self.mean)
        return torch.stack(list(self._at(normal)))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation in volts, each (batch, contact, time)."""
        if self.layers is None:
            return self.mean, self.std
        nodes, weights = normal_nodes(_N_NODES_LAST, self.mean)
        mean, square = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        # Moments about the mean without the layers, for small rounding errors.
        for value, weight in zip(self._at(nodes), weights, strict=True):
            departure = value - self.mean
            mean += weight * departure
            square += weight * departure.square()
        return self.mean + mean, (square - mean.square()).clamp_min(0).sqrt()

    def _at(self, normal: Tensor) -> Iterator[Tensor]:
        """Yield the quantile for each quantile of a standard normal variate."""
        for point in standard_quantiles(normal, self.skew, self.tail):
            value = self.mean + self.std * between_points(point)
            if self.layers is not None:
                own, known = self.layers
                value = known.apply(own.undo(value)[0])
            yield value


def standard_moments(skew: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of a normal variate after :func:`bend`.

    Parameters
    ----------
    skew, tail : Tensor
        Parameters of :func:`bend`, of the same shape.

    Returns
    -------
    mean, std : Tensor
        Moments, of the same shape.
    """
    nodes, weights = (each[:, None] for each in normal_nodes(_N_NODES, skew))
    bent = bend(nodes, skew.flatten(), tail.flatten())
    mean = (weights * bent).sum(0)
    std = (weights * (bent - mean).square()).sum(0).sqrt()
    return mean.view_as(skew), std.view_as(skew)


def standard_quantiles(normal: Tensor, skew: Tensor, tail: Tensor) -> Iterator[Tensor]:
    """Yield quantiles of departures that have mean zero and variance one.

    Parameters
    ----------
    normal : Tensor of shape (n_quantiles,)
        The same quantiles of a standard normal variate.
    skew, tail : Tensor
        Parameters of :func:`bend`, of the same shape.

    Yields
    ------
    quantile : Tensor
        One quantile, of the same shape.
    """
    mean, std = standard_moments(skew, tail)
    for value in normal:
        yield (bend(value, skew, tail) - mean) / std


def between_points(values: Tensor) -> Tensor:
    """Interpolate :data:`N_POINTS` values per second linearly at each sample.

    Parameters
    ----------
    values : Tensor of shape (..., point)
        Values in the middle of each part of a second.

    Returns
    -------
    series : Tensor of shape (..., time)
        Values at the model's rate, constant before the first and after the last point.
    """
    flat = values.reshape(1, -1, values.shape[-1])
    fine = functional.interpolate(
        flat, scale_factor=BLOCK // N_POINTS, mode="linear", align_corners=False
    )
    return fine.reshape(*values.shape[:-1], -1)


def expected_scale(amplitudes: Amplitudes, root: Tensor) -> Tensor:
    """Compute the standard deviation of contacts if draws were scaled, coloured noise.

    Parameters
    ----------
    amplitudes : Amplitudes
        Amplitudes of each contact and level.
    root : Tensor of shape (batch, level, contact, contact)
        Square roots of the spatial posterior's covariance by level.

    Returns
    -------
    scale : Tensor of shape (batch, contact)
        Standard deviation over draws, in the units of the roots.
    """
    power = torch.exp(2 * (amplitudes.centre + amplitudes.spread.square()))
    sizes = level_sizes(root.device).to(root) / BLOCK
    mixed = torch.einsum("blij,bjl->bi", root.square(), power * sizes)
    return mixed.sqrt()


class PointwiseHead(nn.Module):
    """Predict the distribution of each sample from the flow's context.

    Parameters
    ----------
    width, n_heads : int
        Channels of a token and attention heads, as in the flow.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.amplitudes = nn.Linear(2 * N_LEVELS, width)
        self.read = nn.Linear(2 * BLOCK, width)
        self.mixers = nn.ModuleList(
            Mixer(width, n_heads, N_RELATIONS, seconds=True) for _ in range(_N_MIXERS)
        )
        self.norm = nn.LayerNorm(width)
        # Weights of the contact's own posterior mean, a gate for the other contacts'
        # means in each attention head, and a shift.
        self.location = nn.Linear(width, (2 + n_heads) * BLOCK)
        self.shape = nn.Linear(width, 3 * N_POINTS)
        for layer in (self.location, self.shape):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def reach(self) -> int:
        """Number of seconds to either side of the context on which a sample depends."""
        return sum(mixer.reach for mixer in self.mixers) + 1

    def forward(
        self,
        context: Tensor,
        mean: list[Tensor],
        amplitudes: Amplitudes,
        conditions: Conditions,
    ) -> tuple[list[Tensor], Tensor]:
        """Return the expected coefficients and the shape of departures.

        Parameters
        ----------
        context : Tensor of shape (batch, contact, block, width)
            Context of the flow.
        mean : list of Tensor of shape (batch, contact, block, size)
            Whitened coefficients of the spatial posterior's mean, by level.
        amplitudes : Amplitudes
            Amplitudes of each contact and level.
        conditions : Conditions
            The conditioning inputs of the context.

        Returns
        -------
        expected : list of Tensor of shape (batch, contact, block, size)
            Whitened coefficients of the expected signal minus the spatial posterior's
            mean, by level.
        shape : Tensor of shape (batch, contact, block, 24)
            Log of the scale relative to :func:`expected_scale`, skewness and tail.
        """
        known = torch.cat([amplitudes.centre, amplitudes.spread], -1)
        own = self.amplitudes(known)[:, :, None]

        def read(_, state, mean):
            return state + own + self.read(magnitudes(mean))

        mean = torch.cat(mean, -1)
        state = in_slabs(read, (context, mean), 0)
        for mixer in self.mixers[:-1]:

            def mix(_, state, mixer=mixer):
                return mixer(state, conditions.relations)

            state = in_slabs(mix, (state,), mixer.reach)

        def finish(_, state, mean):
            mixed, seen = self.mixers[-1].mix(
                by_second(state), conditions.relations, also=by_second(mean)
            )
            state, seen = self.norm(by_second(mixed)), map(by_second, seen)
            return torch.cat(self._answer(state, seen, mean), -1)

        answer = in_slabs(finish, (state, mean), self.mixers[-1].reach)
        expected, shape = answer.split([BLOCK, 3 * N_POINTS], -1)
        return list(expected.split(LEVEL_SIZES, -1)), shape

    def _answer(self, state, seen, mean):
        shift, trust, *gates = self.location(state).split(BLOCK, -1)
        expected = shift + trust * mean
        for gate, other in zip(gates, seen, strict=True):
            expected = expected + gate * other
        scale, skew, tail = self.shape(state).chunk(3, -1)
        shape = (
            bounded(scale, _MAX_LOG_SCALE),
            bounded(skew, _MAX_SKEW),
            bounded(tail, _MAX_TAIL),
        )
        return expected, *shape
