"""Whether channels are at the positions of their names, as far as their signals tell.

Neighbouring electrodes record nearly the same, so that each channel can be predicted
from the others. If labels are shifted by one place, or inputs are exchanged, other
orders of the channels are predicted better. This module knows covariances. It must
never know MNE objects, or where the samples came from.
"""

from dataclasses import dataclass

import numpy as np

# Ratios of squared errors of prediction, between what ``python benchmarks/fields.py``
# finds in recordings and in those whose channels were exchanged.
# Real recordings have 0.87 or more for another order, and shifted ones up to 0.52.
_BETTER = 0.7
_ABOUT = 1.3  # times the best ratio, that an order may have which is simpler
_EXCHANGED = 0.15  # of two channels, which finds 17 of 25
_AGREES = 0.7  # correlation of a channel with its prediction after the exchange
_N_RANDOM = 200  # orders
# Share of random orders that may fit as well. Real recordings have none, simulated ones
# that are mostly noise up to 0.045.
_BY_CHANCE = 0.05
_FEWEST = 8  # electrodes; four have 24 orders, of which one is the right one


@dataclass(frozen=True)
class Order:
    """How well channels fit their positions in comparison with other orders.

    Attributes
    ----------
    better : array of int, shape (n_electrodes,)
        Which channel belongs to each position, if channels are shifted or reversed so
        that they fit best.
    ratio : float
        The squared error of prediction in this order, relative to the present one.
    by_chance : float
        Share of random orders in which the channels fit as well. NaN for few channels.
    exchanged : list of tuple of int
        Pairs of channels that fit far better when they are exchanged.
    """

    better: np.ndarray
    ratio: float
    by_chance: float
    exchanged: list

    @property
    def is_shifted(self):
        """Whether channels fit far better if they are shifted or reversed."""
        return self.ratio < _BETTER

    @property
    def is_random(self):
        """Whether channels fit no better than in a random order."""
        return self.by_chance > _BY_CHANCE


def find_order(total, precision, sign):
    """Compare the order of channels with others.

    Parameters
    ----------
    total : array of shape (n_electrodes, n_electrodes)
        Second moments of the channels, in the order of the positions.
    precision : array of shape (n_electrodes, n_electrodes)
        Inverse of the covariance that potentials at these positions have.
    sign : array of shape (n_electrodes,)
        The sign of each channel, -1 if it is reversed.

    Returns
    -------
    order : Order
        The comparison.
    """
    total = total * np.outer(sign, sign)
    n = len(total)
    orders, present = list(_shifted(n)), (precision * total).sum()
    errors = [_error(total, precision, order) for order in orders]
    ratio = np.array(errors) / present
    # Exchanging the sides of the head fits as well, so take the simplest of the best.
    best = np.flatnonzero(ratio <= _ABOUT * ratio.min())[0]
    rng = np.random.default_rng(0)
    by_chance = [
        _error(total, precision, rng.permutation(n)) <= present
        for _ in range(_N_RANDOM if n >= _FEWEST else 0)
    ]
    return Order(
        better=orders[best],
        ratio=ratio[best],
        by_chance=np.mean(by_chance) if by_chance else np.nan,
        exchanged=_exchanged(total, precision),
    )


def _shifted(n):
    """Yield all orders that are shifted or reversed, the simplest first."""
    forwards = np.arange(n)
    places = sorted(range(n), key=lambda shift: min(shift, n - shift))
    yield from (np.roll(forwards, shift) for shift in places[1:])
    yield from (np.roll(forwards[::-1], shift) for shift in places)


def _error(total, precision, order):
    """Return the squared error of prediction with the channels in another order."""
    return (precision * total[np.ix_(order, order)]).sum()


def _exchanged(total, precision):
    """Find pairs of channels that fit far better when they are exchanged."""
    own, weight = np.diag(total), np.diag(precision)
    # The error of the best prediction of x from the others is precision @ x / weight.
    # After the exchange of i and j, row i of precision @ x has changed by
    # step[i, j] * (x[j] - x[i]).
    with_error = precision @ total
    error = np.einsum("ij,ij->i", with_error, precision)
    step = weight[:, np.newaxis] - precision
    apart = own[:, np.newaxis] + own - 2 * total
    after = error[:, np.newaxis] + step**2 * apart
    after += 2 * step * (with_error - np.diag(with_error)[:, np.newaxis])
    after = np.maximum(after, 0)
    shared = (with_error + step * (own - total)) / weight[:, np.newaxis]
    predicted = np.maximum(own - 2 * shared + after / weight[:, np.newaxis] ** 2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        agreement = (own - shared) / np.sqrt(own * predicted)
        ratio = np.sqrt(after * after.T / np.outer(error, error))
    found = (ratio < _EXCHANGED) & (np.minimum(agreement, agreement.T) > _AGREES)
    pairs = np.argwhere(np.triu(found, 1))
    pairs = pairs[np.argsort(ratio[tuple(pairs.T)])].tolist()
    kept, taken = [], set()
    for first, second in pairs:
        if not taken & {first, second}:
            kept.append((first, second))
            taken |= {first, second}
    return kept
