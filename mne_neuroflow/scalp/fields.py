"""What the potentials of one head have in common, and a recording may lack.

Currents in a head reach all electrodes at the same time, with one sign and one scale,
and neighbouring electrodes record nearly the same. A recording without these properties
was changed after it was recorded, or does not come from a head. This module knows
positions of electrodes, lead fields and samples. It must never know MNE objects, or
how a prediction is made.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from .._text import listed
from ..contract import SFREQ
from ..head.bands import N_HALO, band_covariance
from ..head.posterior import HEAD_ERROR, SENSOR_STD
from .mismatch import report_mismatch
from .order import Order, find_order

# The limits are between what ``python benchmarks/fields.py`` finds in recordings, real
# ones and simulated ones with artifacts, before and after each change
# (doc/decisions/fields.md).
_SMOOTH = 0.3  # recordings have 0.31 or more, current source densities 0.18 (median)
_COMMON = 0.05  # recordings have 0.04 or more, and usually 0.8; noise 0.02 or less
_REVERSED = 0.7  # recordings have up to 0.68; one reversed channel has 0.97 in EEG
_LATE = 0.012  # seconds; recordings have up to 0.0105
_UNEVEN = 0.25  # recordings have up to 0.19; a factor of two makes 0.34
_FEWEST_EVEN = 16  # electrodes; the neighbours of fewer are too far away
# The smoothest patterns that an average-referenced montage can have, front-back,
# left-right and up-down, and those that are next.
_SMOOTHEST, _NEXT = 3, 8
# Electrodes from which the next patterns are more than the rest.
_FEWEST = 10
_LOUD = 2.5  # times the median amplitude, to which larger channels are scaled
_OPPOSED = -0.3  # correlation below which the sign of a channel is tried
#: Longest delay that is looked for, in samples.
LONGEST = 16
_NEIGHBOURS = 6  # of each electrode, for delays
_NEAREST = 4  # of each electrode, for amplitudes
_ALIKE = 0.5  # correlation of neighbours whose delay is measured


@dataclass(frozen=True)
class Fields:
    """How far a recording has the properties of potentials on one head.

    Attributes
    ----------
    smoothness : float
        Power of the smoothest patterns relative to the next smoothest, as a share of
        what the head model expects, in the band where it is largest. NaN for few
        electrodes.
    agreement : array of shape (n_electrodes,)
        Correlation of each electrode with its prediction from the others, after
        reversing those in ``reversed``.
    reversed : array of bool, shape (n_electrodes,)
        Electrodes that fit the others with the opposite sign.
    delay : array of shape (n_electrodes,)
        Seconds by which each electrode lags behind the median one.
    uneven : array of shape (n_electrodes,)
        Logarithm of the ratio of each electrode's amplitude to that of its neighbours.
    order : Order
        How well channels fit their positions in comparison with other orders.
    """

    smoothness: float
    agreement: np.ndarray
    reversed: np.ndarray
    delay: np.ndarray
    uneven: np.ndarray
    order: Order

    def late(self):
        """Divide the electrodes into two groups of different delay.

        Returns
        -------
        group : array of bool, shape (n_electrodes,)
            The smaller of the two groups between which delays differ most. Each has
            two electrodes or more.
        difference : float
            Seconds between the typical delays of the groups.
        """
        order = np.argsort(self.delay)
        delay, n = self.delay[order], len(order)
        before = np.cumsum(delay)[1:-2]
        n_before = np.arange(2, n - 1)
        n_after = n - n_before
        apart = before / n_before - (delay.sum() - before) / n_after
        best = (n_before * n_after * apart**2).argmax() + 2
        first = np.zeros(n, bool)
        first[order[:best]] = True
        difference = np.median(self.delay[~first]) - np.median(self.delay[first])
        return (first if best <= n - best else ~first), difference


def check_fields(fields, ch_names, on_mismatch):
    """Warn or raise if a recording lacks what the potentials of a head have in common.

    Parameters
    ----------
    fields : Fields
        The comparison.
    ch_names : list of str
        The channels.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    names = np.array(ch_names)
    if np.median(fields.agreement) < _COMMON:
        report_mismatch(
            "The EEG channels have hardly anything in common with their neighbours, as "
            "if they held noise and no EEG. Check what the channels are, how they were "
            "read, and whether their positions are right.",
            on_mismatch,
        )
        return
    if fields.order.is_shifted or fields.order.is_random:
        _tell_of_order(fields.order, names, on_mismatch)
        return
    if fields.smoothness < _SMOOTH:
        report_mismatch(
            "The EEG varies more from electrode to electrode than potentials on a head "
            "do, as after a spatial filter: a current source density, a Laplacian, or "
            "differences of neighbours. The model reads potentials: give the recording "
            "as it was before this step.",
            on_mismatch,
        )
        return
    exchanged = fields.order.exchanged
    if exchanged:
        pairs = [f"{names[i]} and {names[j]}" for i, j in exchanged]
        report_mismatch(
            "EEG channels that fit their positions far better when they are exchanged: "
            f"{listed(pairs)}. Were electrodes, inputs or names exchanged? Rename them "
            "with inst.rename_channels(), or mark them in inst.info['bads'].",
            on_mismatch,
        )
    opposed = fields.reversed & (fields.agreement > _REVERSED)
    opposed[[k for pair in exchanged for k in pair]] = False
    if opposed.any():
        report_mismatch(
            f"EEG channels with the opposite sign of their neighbours: "
            f"{listed(names[opposed])}. Were inputs exchanged? Reverse them with "
            "inst.apply_function(lambda x: -x, picks=names), or mark them in "
            "inst.info['bads'].",
            on_mismatch,
        )
    late, difference = fields.late()
    if difference > _LATE:
        report_mismatch(
            f"Two groups of EEG channels are {1e3 * difference:.0f} ms apart in time, "
            "as when two amplifiers do not start together, while potentials reach all "
            f"electrodes at once. One group is: {listed(names[late])}. Align them, or "
            "mark one group in inst.info['bads'].",
            on_mismatch,
        )
    if len(names) >= _FEWEST_EVEN and np.median(np.abs(fields.uneven)) > _UNEVEN:
        larger = fields.uneven > _UNEVEN
        report_mismatch(
            "Amplitudes of neighbouring EEG channels differ more than on a head, as "
            "when amplifiers have different gains or units. Larger than their "
            f"neighbours: {listed(names[larger])}. Scale all channels to one unit with "
            "inst.apply_function(lambda x: x * factor, picks=names).",
            on_mismatch,
        )


def _tell_of_order(order, names, on_mismatch):
    """Report channels that are not at the positions of their names."""
    found = "the channels do not fit these positions better than in a random order"
    if order.is_shifted:
        better = order.better
        moved = np.abs(better - np.arange(len(better)))
        k = np.where(moved == 0, len(better), moved).argmin()
        found = (
            "the channels fit these positions far better when they are shifted or "
            f"reversed, as if {names[better[k]]} held what was recorded at {names[k]}"
        )
    report_mismatch(
        "EEG channels that seem not to be where their names or positions say: "
        f"neighbours record nearly the same, and {found}. Were labels or inputs "
        "shifted? Check the order of the channels, and of the positions, and rename "
        "channels with inst.rename_channels().",
        on_mismatch,
    )


def measure_fields(pieces, electrodes, lead_field):
    """Compare a recording with potentials on one head.

    Parameters
    ----------
    pieces : list of array, shape (n_electrodes, n_times + 2 * N_HALO)
        Stretches of the recording at 128 Hz against the reference that it was recorded
        with, volts.
    electrodes : array of shape (n_electrodes, 3)
        Positions in metres, fsaverage surface RAS.
    lead_field : array of shape (n_electrodes, n_generators)
        Potential of each unit generator at each electrode against infinity, volts.

    Returns
    -------
    fields : Fields
        The comparison.
    """
    lead_field = np.asarray(lead_field, float)
    signal = lead_field @ lead_field.T
    expected = signal + np.diag(SENSOR_STD**2 + HEAD_ERROR**2 * np.diag(signal))
    inside = [piece[:, N_HALO : piece.shape[1] - N_HALO] for piece in pieces]
    total = sum(piece @ piece.T for piece in inside)
    rms = np.sqrt(np.diag(total))
    scale = np.minimum(1, _LOUD * np.median(rms) / rms)
    even, precision = total * np.outer(scale, scale), _without_common(expected)
    turned, agreement = _signs(even, precision)
    # Reversed channels are no spatial filter.
    sign = np.where(turned & (agreement > _REVERSED), -1.0, 1.0)
    nearest = cdist(electrodes, electrodes).argsort(axis=1)[:, 1 : _NEIGHBOURS + 1]
    return Fields(
        smoothness=_smoothness(
            [sign[:, np.newaxis] * piece for piece in pieces], expected
        ),
        agreement=agreement,
        reversed=turned,
        delay=_delays(inside, nearest) / SFREQ,
        uneven=_unevenness(total, nearest[:, :_NEAREST]),
        order=find_order(even, precision, sign),
    )


def _smoothness(pieces, expected):
    n = len(expected)
    if n < _FEWEST:
        return np.nan
    average = np.eye(n) - 1 / n
    power, patterns = np.linalg.eigh(average @ expected @ average)
    patterns, power = patterns[:, : -_NEXT - 1 : -1], power[::-1]

    def ratio(power):
        return power[..., :_SMOOTHEST].sum(-1) / power[..., _SMOOTHEST:_NEXT].sum(-1)

    # The patterns are orthogonal to the average.
    found = band_covariance(patterns.T @ piece for piece in pieces)
    return (ratio(np.einsum("bpp->bp", found)) / ratio(power)).max()


def _without_common(expected):
    """Return the precision of potentials whose reference can be any signal."""
    precision = np.linalg.inv(expected)
    common = precision.sum(axis=1)
    return precision - np.outer(common, common) / common.sum()


def _signs(total, precision):
    """Find electrodes with the opposite sign, one by one, the clearest first."""
    n = len(total)
    weight, sign = np.diag(precision), np.ones(n)
    for _ in range(n // 2):
        found = total * np.outer(sign, sign)
        product = precision @ found
        # The error of the best prediction from the others is precision @ x / weight.
        error = np.einsum("ij,ij->i", product, precision) / weight**2
        shared = np.diag(product) / weight
        own = np.diag(found)
        with_prediction = own - shared
        predicted = np.maximum(own - 2 * shared + error, 1e-12 * own)
        agreement = with_prediction / np.sqrt(own * predicted)
        worst = (weight * with_prediction).argmin()
        if agreement[worst] > _OPPOSED:
            break
        sign[worst] *= -1
    if sign.sum() < 0:
        sign = -sign
    return sign < 0, agreement


def _delays(pieces, nearest):
    """Fit a delay of each electrode to the delays between neighbours, in samples."""
    n = len(nearest)
    first = np.repeat(np.arange(n), nearest.shape[1])
    second = nearest.ravel()
    lagged, energy = 0.0, 0.0
    for piece in pieces:
        size = piece.shape[1] + LONGEST
        spectrum = np.fft.rfft(piece, size)
        both = np.fft.irfft(spectrum[first] * spectrum[second].conj(), size)
        lagged = lagged + np.concatenate(
            [both[:, -LONGEST:], both[:, : LONGEST + 1]], axis=1
        )
        energy = energy + (piece**2).sum(axis=1)
    correlation = lagged / np.sqrt(energy[first] * energy[second])[:, np.newaxis]
    peak = correlation.argmax(axis=1)
    rows = np.arange(len(peak))
    top = correlation[rows, peak]
    used = (peak > 0) & (peak < 2 * LONGEST) & (top > _ALIKE)
    if not used.any():
        return np.zeros(n)
    rows, peak, top = rows[used], peak[used], top[used]
    before, after = correlation[rows, peak - 1], correlation[rows, peak + 1]
    lag = peak - LONGEST + (before - after) / (2 * (before - 2 * top + after))
    pairs = np.zeros((len(rows), n))
    pairs[np.arange(len(rows)), first[used]] = top**2
    pairs[np.arange(len(rows)), second[used]] = -(top**2)
    # Groups that are not connected keep a delay of zero.
    delay = np.linalg.lstsq(pairs, lag * top**2, rcond=1e-9)[0]
    return delay - np.median(delay)


def _unevenness(total, nearest):
    size = np.log(np.sqrt(np.diag(total)))
    return size - np.median(size[nearest], axis=1)
