"""A spatial stage estimated from pairs: from the scalp around a moment to contacts.

The sign and the lag with which deep structures go together with cortex differ between
patients, and no head model knows them. Recorded pairs do. The map from pairs starts at
the physics or at nothing, whichever predicts better what it has not seen, so that with
few pairs it falls back to what is known without any.
"""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.linalg import eigh

from ..contract import BLOCK, SAME_PLACE, SFREQ
from .posterior import symmetric_roots
from .wiener import band_covariance, clip, loudest

#: Samples at 128 Hz to either side of a moment that the map sees (117 ms).
N_LAGS = 15
# Widths in seconds with which weights may fade away from the moment itself.
_DECAYS = (0.03, 0.06)
# Penalties in units of the features' mean power. With the last nothing is learned.
_PENALTIES = 10.0 ** np.append(np.arange(-3.5, 2.1, 0.5), 9)
# Independent signals of a montage that are kept, those of most variance first.
_N_COMPONENTS = 48
# Shrinkage of the covariance of residuals towards that of the physics.
_SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
# Least share of a contact's variance that counts as the map's: even a map that says
# nothing has a scale.
_LEAST_POWER = 1e-6
_PIECE = 10 * BLOCK  # samples whose lagged features are held at once


@dataclass(frozen=True)
class LaggedMap:
    """Contact potentials from the scalp around the same moment, at unit gain.

    Attributes
    ----------
    weights : array of shape (n_contacts, n_electrodes, 2 * N_LAGS + 1)
        Volts per volt of average-referenced scalp; the last axis is the scalp's time
        from N_LAGS samples before the moment to N_LAGS after it.
    covariance : array of shape (n_contacts, n_contacts)
        Of what the map does not explain in data that it was not estimated from, V².
    explained : array of shape (n_contacts,)
        Share of the variance that it explains there, 0 to 1.
    mean_std, prior_std : array of shape (n_contacts,)
        Standard deviation of the map's output and of the contacts, volts.
    scalp_rms : array of shape (n_electrodes,)
        Typical amplitude of each electrode, volts.
    scalp_covariance : array of shape (n_bands, n_electrodes, n_electrodes)
        Of the scalp in the bands of :func:`~mne_neuroflow.head.wiener.split`, V².
    """

    weights: np.ndarray
    covariance: np.ndarray
    explained: np.ndarray
    mean_std: np.ndarray
    prior_std: np.ndarray
    scalp_rms: np.ndarray
    scalp_covariance: np.ndarray

    def pick(self, contacts):
        """Keep some of the contacts, an index array."""
        return replace(
            self,
            weights=self.weights[contacts],
            covariance=self.covariance[np.ix_(contacts, contacts)],
            explained=self.explained[contacts],
            mean_std=self.mean_std[contacts],
            prior_std=self.prior_std[contacts],
        )

    def update(self, posterior, error):
        """Put what is known from pairs into a spatial posterior of the same contacts.

        Parameters
        ----------
        posterior : AdaptedPosterior
            From the physics. Its operator is not used with a lagged map.
        error : array of shape (n_contacts, n_contacts)
            Covariance that the recording at hand adds, V² at unit gain; see
            :meth:`~mne_neuroflow.head.wiener.ScalpFilter.error`.

        Returns
        -------
        posterior : AdaptedPosterior
            With the map's covariance, spreads and explained shares.
        """
        covariance, added = self.covariance + error, np.diag(error)
        roots = symmetric_roots(covariance)
        # The same for all wavelet levels.
        root, inverse_root = (np.stack([one] * len(posterior.root)) for one in roots)
        # What the recording does not show is missing in the mean.
        power = np.maximum(self.mean_std**2 - added, _LEAST_POWER * self.prior_std**2)
        # How contacts go together in the mean is the head model's word.
        size = np.sqrt(power / np.maximum(np.diag(posterior.explained), 1e-30))
        explained = posterior.explained * np.outer(size, size)
        return replace(
            posterior,
            covariance=covariance,
            root=root,
            inverse_root=inverse_root,
            explained=explained,
            level_explained=np.stack([explained] * len(root)),
            mean_std=np.sqrt(power),
            prior_std=self.prior_std,
            observability=np.maximum(self.explained - added / self.prior_std**2, 0),
        )

    def mean(self, scalp):
        """Apply the map.

        Parameters
        ----------
        scalp : array of shape (n_electrodes, n_times + 2 * N_LAGS)
            Average-referenced volts at 128 Hz at unit gain, with the samples before
            and after the stretch that is wanted; what a
            :class:`~mne_neuroflow.head.wiener.ScalpFilter` returns.

        Returns
        -------
        mean : array of shape (n_contacts, n_times)
            Volts at unit gain.
        """
        n_times = scalp.shape[1] - 2 * N_LAGS
        return sum(
            self.weights[..., lag] @ scalp[:, lag : lag + n_times]
            for lag in range(2 * N_LAGS + 1)
        )


def fit_lagged_map(blocks, operator, covariance):
    """Estimate a lagged map by ridge regression with blocked cross-validation.

    Parameters
    ----------
    blocks : list of list of tuple
        For each part of the data that is left out in turn (sessions, groups of trials
        or contiguous blocks, at least two) its stretches: scalp of shape
        ``(n_electrodes, n_times + 2 * N_LAGS)`` as for :meth:`LaggedMap.mean`, and
        contacts of shape ``(n_contacts, n_times)``, both in volts at unit gain.
    operator : array of shape (n_contacts, n_electrodes)
        The physics: what the map of a contact starts from, if that predicts better
        than to start from nothing.
    covariance : array of shape (n_contacts, n_contacts)
        The physics' covariance, to whose correlations that of the residuals is shrunk.
        The shrinkage is the one under which held-out residuals are likeliest.

    Returns
    -------
    lagged : LaggedMap
        The map from all parts.
    others : list of array, shape (n_contacts, n_electrodes, 2 * N_LAGS + 1)
        For each part the weights from all other parts: what a map says of data that
        it has not seen.

    Notes
    -----
    Ridge regression (Hoerl & Kennard 1970, Technometrics 12:55) towards a start, with
    a prior width of the weights that fades exponentially with the lag. Penalty, fading
    and start are chosen per contact by the error in the parts left out.
    """
    rms = _typical_rms(blocks)
    limit = loudest(rms)
    blocks = [[(clip(scalp, limit), deep) for scalp, deep in b] for b in blocks]
    scalp = [scalp for block in blocks for scalp, _ in block]
    components = _principal(scalp)
    parts = [_moments(block, components) for block in blocks]
    total = sum(parts[1:], parts[0])
    starts = (np.zeros_like(total.cross), _at_lag_zero(operator @ components.T))
    least = np.full(len(operator), np.inf)
    best = np.empty((len(parts) + 1, *total.cross.shape))
    for decay in _DECAYS:
        # The last of the solvers has seen all parts.
        solvers = [_Solver(total - part, decay) for part in parts]
        solvers.append(_Solver(total, decay))
        paths = [
            zip(*[solve(start) for solve in solvers], strict=True) for start in starts
        ]
        for weights in map(np.stack, chain(*paths)):
            residuals = map(_Moments.residuals, parts, weights)
            error = sum(np.diag(residual) for residual in residuals)
            better = error < least
            least[better] = error[better]
            best[..., better] = weights[..., better]
    residuals = list(map(_Moments.residuals, parts, best))
    power, fitted = np.diag(total.deep), np.diag(best[-1].T @ total.gram @ best[-1])
    lagged = LaggedMap(
        weights=_unfolded(best[-1], components),
        covariance=_shrunk(residuals, [part.count for part in parts], covariance),
        explained=np.clip(1 - least / power, 0, 1),
        mean_std=np.sqrt(np.maximum(fitted, _LEAST_POWER * power) / total.count),
        prior_std=np.sqrt(power / total.count),
        scalp_rms=rms,
        scalp_covariance=band_covariance(scalp),
    )
    return lagged, [_unfolded(weights, components) for weights in best[:-1]]


@dataclass(frozen=True)
class _Moments:
    """Sums of products of lagged features and contacts over some of the data."""

    gram: np.ndarray
    cross: np.ndarray
    deep: np.ndarray
    count: int

    def __add__(self, other):
        return _Moments(*(getattr(self, f) + getattr(other, f) for f in _SUMS))

    def __sub__(self, other):
        return _Moments(*(getattr(self, f) - getattr(other, f) for f in _SUMS))

    def residuals(self, weights):
        """Sum of products of what weights leave unexplained, contacts by contacts."""
        both = weights.T @ self.cross
        return self.deep - both - both.T + weights.T @ self.gram @ weights


_SUMS = ("gram", "cross", "deep", "count")


class _Solver:
    """Ridge regression for all starts and penalties from one decomposition."""

    def __init__(self, moments, decay):
        lags = np.arange(-N_LAGS, N_LAGS + 1) / SFREQ
        n_components = len(moments.gram) // len(lags)
        self._fade = np.tile(np.exp(-np.abs(lags) / decay), n_components)[:, None]
        self._moments = moments
        gram = self._fade * moments.gram * self._fade.T
        self._values, self._vectors = eigh(gram, driver="evd")
        self._unit = self._values.mean()

    def __call__(self, start):
        """Yield weights of shape (n_features, n_contacts), one per penalty."""
        unexplained = self._moments.cross - self._moments.gram @ start
        rotated = self._vectors.T @ (self._fade * unexplained)
        for penalty in _PENALTIES:
            scale = np.maximum(self._values, 0) + penalty * self._unit
            yield start + self._fade * (self._vectors @ (rotated / scale[:, None]))


def _typical_rms(blocks):
    """Median over seconds of the r.m.s. of each electrode, volts."""
    step = SFREQ
    seconds = [
        np.sqrt((scalp[:, k : k + step] ** 2).mean(axis=1))
        for block in blocks
        for scalp, _ in block
        for k in range(0, max(1, scalp.shape[1] - step + 1), step)
    ]
    return np.median(np.array(seconds, float), axis=0)


def _principal(pieces):
    """Principal components of the scalp, (n_components, n_electrodes)."""
    covariance = sum(piece @ piece.T for piece in pieces)
    return eigh(covariance)[1][:, ::-1][:, :_N_COMPONENTS].T


def _moments(block, components):
    """Second moments over the stretches of one part of the data."""
    parts = []
    for scalp, deep in block:
        signals = components @ scalp
        for first in range(0, deep.shape[1], _PIECE):
            piece = deep[:, first : first + _PIECE]
            around = signals[:, first : first + piece.shape[1] + 2 * N_LAGS]
            windows = sliding_window_view(around, 2 * N_LAGS + 1, axis=1)
            features = windows.transpose(0, 2, 1).reshape(-1, piece.shape[1])
            products = (features @ features.T, features @ piece.T, piece @ piece.T)
            parts.append(_Moments(*products, piece.shape[1]))
    return sum(parts[1:], parts[0])


def _at_lag_zero(operator):
    """Weights of a map without lags, (n_features, n_contacts)."""
    weights = np.zeros((operator.shape[1], 2 * N_LAGS + 1, operator.shape[0]))
    weights[:, N_LAGS] = operator.T
    return weights.reshape(-1, operator.shape[0])


def _unfolded(weights, components):
    """Weights of electrodes, (n_contacts, n_electrodes, n_lags)."""
    folded = weights.reshape(len(components), 2 * N_LAGS + 1, -1)
    # In the order of a file, so that what is computed from both is the same.
    return np.einsum("ke,klc->cel", components, folded, order="C")


def _shrunk(residuals, counts, covariance):
    """Covariance of residuals, shrunk towards the physics by what is likeliest."""
    std = np.sqrt(np.diag(covariance))
    shape = covariance / np.outer(std, std)

    def shrink(sums, count, share):
        observed = sums / count
        std = np.sqrt(np.diag(observed))
        return (1 - share) * observed + share * shape * np.outer(std, std)

    def surprise(share):
        """Negative log-density of each part under the covariance of the others."""
        total = 0.0
        for own, count in zip(residuals, counts, strict=True):
            rest = shrink(sum(residuals) - own, sum(counts) - count, share)
            total += count * np.linalg.slogdet(rest)[1]
            total += np.trace(np.linalg.solve(rest, own))
        return total

    return shrink(sum(residuals), sum(counts), min(_SHRINKAGES, key=surprise))


@dataclass(frozen=True, repr=False)
class Implant:
    """What pairs of recordings have told about the contacts of one patient.

    Attributes
    ----------
    ch_names : list of str
        Names of the contacts in the recordings.
    positions : array of shape (n_contacts, 3)
        Metres, fsaverage surface RAS.
    electrodes : list of str
        The EEG channels that the map reads, in its order; empty without one.
    lagged : LaggedMap | None
        The map from the scalp; None where the physics is kept.
    calibration : array of shape (n_contacts, 2)
        Log-scale and tail of each contact.
    amplitude : array of shape (n_contacts, 4, 2)
        Log-amplitude of each contact's noise and its precision, by wavelet level.
    gain : float | None
        That of the recordings that this was learned from; None takes the new one's.
    """

    ch_names: list
    positions: np.ndarray
    electrodes: list
    lagged: LaggedMap | None
    calibration: np.ndarray
    amplitude: np.ndarray
    gain: float | None = None

    def __repr__(self):
        kind = "recalibrated" if self.lagged is None else "fitted"
        return f"<Implant | {kind}, {len(self.ch_names)} contacts>"

    def match(self, positions):
        """Look for contacts among these by place.

        Parameters
        ----------
        positions : array of shape (n, 3)
            Metres.

        Returns
        -------
        index : array of int, shape (n,)
            Which contacts they are, -1 for none. Of several contacts in one place each
            is found once, in their order.
        """
        distance = np.linalg.norm(positions[:, None] - self.positions, axis=-1)
        index = np.full(len(positions), -1)
        for contact, same in enumerate(distance < SAME_PLACE):
            free = np.setdiff1d(np.flatnonzero(same), index)
            if len(free):
                index[contact] = free[0]
        return index

    def find(self, positions):
        """Find contacts among these by place.

        Parameters
        ----------
        positions : array of shape (n, 3)
            Metres.

        Returns
        -------
        index : array of int, shape (n,) | None
            Which contacts they are; None if any is no contact of this implant.
        """
        index = self.match(positions)
        return None if (index < 0).any() else index

    def pick(self, contacts):
        """Keep some of the contacts, an index array."""
        return replace(
            self,
            ch_names=[self.ch_names[contact] for contact in contacts],
            positions=self.positions[contacts],
            lagged=None if self.lagged is None else self.lagged.pick(contacts),
            calibration=self.calibration[contacts],
            amplitude=self.amplitude[contacts],
        )

    def updated(self, contacts, known):
        """Take over the calibration and amplitudes of some contacts, an index array.

        Parameters
        ----------
        contacts : array of int
            Rows of this implant.
        known : Implant
            Of these contacts, in this order.

        Returns
        -------
        implant : Implant
            Changed in these rows alone.
        """
        calibration, amplitude = self.calibration.copy(), self.amplitude.copy()
        calibration[contacts] = known.calibration
        amplitude[contacts] = known.amplitude
        gain = self.gain if known.gain is None else known.gain
        return replace(self, calibration=calibration, amplitude=amplitude, gain=gain)
