"""A spatial stage estimated from pairs: a lagged map from scalp EEG to contacts.

The sign and the lag of the coupling between deep structures and cortex differ between
patients. A head model does not contain them, but recorded pairs show them. The map
shrinks towards the head model or towards zero, whichever predicts held-out data better.
With few pairs it therefore stays close to its target.
"""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.linalg import eigh

from .._threads import one_blas_thread
from ..contract import BLOCK, SAME_PLACE, SFREQ
from .posterior import symmetric_roots
from .wiener import band_covariance, clip, clip_limit

#: Samples at 128 Hz to either side of a sample that the map uses (117 ms).
N_LAGS = 15
# Candidate widths in seconds for the decay of weights with the lag.
_DECAYS = (0.03, 0.06)
# Penalties in units of the features' mean power. The last leaves the target unchanged.
_PENALTIES = 10.0 ** np.append(np.arange(-3.5, 2.1, 0.5), 9)
# Maximum number of principal components of a montage.
_N_COMPONENTS = 48
# Candidate shrinkages of the residual covariance towards that of the head model.
_SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
# Minimum share of a contact's variance that the map explains, so that a map without
# information has a scale too.
_MIN_POWER = 1e-6
_PIECE = 10 * BLOCK  # samples whose lagged features are in memory at once


@dataclass(frozen=True)
class LaggedMap:
    """A linear map from scalp EEG around a sample to contacts, at unit gain.

    Attributes
    ----------
    weights : array of shape (n_contacts, n_electrodes, 2 * N_LAGS + 1)
        Volts per volt of average-referenced scalp EEG. The last axis are lags from
        N_LAGS samples before to N_LAGS after the sample.
    covariance : array of shape (n_contacts, n_contacts)
        The covariance of the residuals in held-out data, V².
    explained : array of shape (n_contacts,)
        The share of variance that is explained there, 0 to 1.
    mean_std, prior_std : array of shape (n_contacts,)
        The standard deviation of the output of the map and of the contacts, volts.
    scalp_rms : array of shape (n_electrodes,)
        The typical amplitude of each electrode, volts.
    scalp_covariance : array of shape (n_bands, n_electrodes, n_electrodes)
        The covariance of the scalp EEG in the bands of
        :func:`~mne_neuroflow.head.wiener.split`, V².
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

    @one_blas_thread
    def update(self, posterior, error):
        """Update a spatial posterior of the same contacts with this map.

        Parameters
        ----------
        posterior : AdaptedPosterior
            The posterior of the head model, whose operator is not used.
        error : array of shape (n_contacts, n_contacts)
            The additional covariance of this recording, V² at unit gain, see
            :meth:`~mne_neuroflow.head.wiener.ScalpFilter.error`.

        Returns
        -------
        posterior : AdaptedPosterior
            The posterior with the covariance, spreads and explained shares of the map.
        """
        covariance, added = self.covariance + error, np.diag(error)
        roots = symmetric_roots(covariance)
        # The same for all wavelet levels.
        root, inverse_root = (np.stack([one] * len(posterior.root)) for one in roots)
        # The part of the signal that this recording does not show is not in the mean.
        power = np.maximum(self.mean_std**2 - added, _MIN_POWER * self.prior_std**2)
        # The correlations of contacts in the mean are those of the head model.
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

    @one_blas_thread
    def mean(self, scalp):
        """Apply the map.

        Parameters
        ----------
        scalp : array of shape (n_electrodes, n_times + 2 * N_LAGS)
            Average-referenced volts at 128 Hz at unit gain, with the samples before and
            after the stretch, from :class:`~mne_neuroflow.head.wiener.ScalpFilter`.

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


@one_blas_thread
def fit_lagged_map(blocks, operator, covariance):
    """Estimate a lagged map by ridge regression with blocked cross-validation.

    Parameters
    ----------
    blocks : list of list of tuple
        The parts of the data that are held out in turn (sessions, groups of trials or
        contiguous blocks, at least two). Each has a list of stretches: scalp EEG of
        shape ``(n_electrodes, n_times + 2 * N_LAGS)``, see :meth:`LaggedMap.mean`, and
        contacts of shape ``(n_contacts, n_times)``, both in volts at unit gain.
    operator : array of shape (n_contacts, n_electrodes)
        The map of the head model. The map of a contact shrinks towards it, if that
        predicts better than shrinking towards zero.
    covariance : array of shape (n_contacts, n_contacts)
        The covariance of the head model. That of the residuals shrinks towards its
        correlations, by the amount for which held-out residuals are most likely.

    Returns
    -------
    lagged : LaggedMap
        The map from all parts.
    others : list of array, shape (n_contacts, n_electrodes, 2 * N_LAGS + 1)
        The weights for each part, estimated from all other parts.

    Notes
    -----
    Ridge regression (Hoerl & Kennard 1970, Technometrics 12:55) shrinks towards a
    target, with a prior width of the weights that decreases exponentially with the lag.
    Penalty, decay and target are chosen for each contact by the error in held-out
    parts.
    """
    rms = _typical_rms(blocks)
    limit = clip_limit(rms)
    blocks = [[(clip(scalp, limit), deep) for scalp, deep in b] for b in blocks]
    scalp = [scalp for block in blocks for scalp, _ in block]
    components = _principal(scalp)
    parts = [_moments(block, components) for block in blocks]
    total = sum(parts[1:], parts[0])
    starts = (np.zeros_like(total.cross), _at_lag_zero(operator @ components.T))
    lowest = np.full(len(operator), np.inf)
    best = np.empty((len(parts) + 1, *total.cross.shape))
    for decay in _DECAYS:
        # The last solver uses all parts.
        solvers = [_Solver(total - part, decay) for part in parts]
        solvers.append(_Solver(total, decay))
        paths = [
            zip(*[solve(start) for solve in solvers], strict=True) for start in starts
        ]
        for weights in map(np.stack, chain(*paths)):
            residuals = map(_Moments.residuals, parts, weights)
            error = sum(np.diag(residual) for residual in residuals)
            better = error < lowest
            lowest[better] = error[better]
            best[..., better] = weights[..., better]
    residuals = list(map(_Moments.residuals, parts, best))
    power, fitted = np.diag(total.deep), np.diag(best[-1].T @ total.gram @ best[-1])
    lagged = LaggedMap(
        weights=_unfolded(best[-1], components),
        covariance=_shrunk(residuals, [part.count for part in parts], covariance),
        explained=np.clip(1 - lowest / power, 0, 1),
        mean_std=np.sqrt(np.maximum(fitted, _MIN_POWER * power) / total.count),
        prior_std=np.sqrt(power / total.count),
        scalp_rms=rms,
        scalp_covariance=band_covariance(scalp),
    )
    return lagged, [_unfolded(weights, components) for weights in best[:-1]]


@dataclass(frozen=True)
class _Moments:
    """Sums of products of lagged features and contacts over a part of the data."""

    gram: np.ndarray
    cross: np.ndarray
    deep: np.ndarray
    count: int

    def __add__(self, other):
        return _Moments(*(getattr(self, f) + getattr(other, f) for f in _SUMS))

    def __sub__(self, other):
        return _Moments(*(getattr(self, f) - getattr(other, f) for f in _SUMS))

    def residuals(self, weights):
        """Return the sum of products of residuals, contacts by contacts."""
        both = weights.T @ self.cross
        return self.deep - both - both.T + weights.T @ self.gram @ weights


_SUMS = ("gram", "cross", "deep", "count")


class _Solver:
    """Ridge regression for all targets and penalties from one decomposition."""

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
    """Return the median over seconds of the r.m.s. of each electrode, volts."""
    step = SFREQ
    seconds = [
        np.sqrt((scalp[:, k : k + step] ** 2).mean(axis=1))
        for block in blocks
        for scalp, _ in block
        for k in range(0, max(1, scalp.shape[1] - step + 1), step)
    ]
    return np.median(np.array(seconds, float), axis=0)


def _principal(pieces):
    """Return principal components of scalp EEG, (n_components, n_electrodes)."""
    covariance = sum(piece @ piece.T for piece in pieces)
    return eigh(covariance)[1][:, ::-1][:, :_N_COMPONENTS].T


def _moments(block, components):
    """Compute second moments over the stretches of one part of the data."""
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
    """Return the weights of a map without lags, (n_features, n_contacts)."""
    weights = np.zeros((operator.shape[1], 2 * N_LAGS + 1, operator.shape[0]))
    weights[:, N_LAGS] = operator.T
    return weights.reshape(-1, operator.shape[0])


def _unfolded(weights, components):
    """Return the weights of electrodes, (n_contacts, n_electrodes, n_lags)."""
    folded = weights.reshape(len(components), 2 * N_LAGS + 1, -1)
    # In the memory order of a file, so that results are the same after saving.
    return np.einsum("ke,klc->cel", components, folded, order="C")


def _shrunk(residuals, counts, covariance):
    """Shrink the covariance of residuals towards the head model, by likelihood."""
    std = np.sqrt(np.diag(covariance))
    shape = covariance / np.outer(std, std)

    def shrink(sums, count, share):
        observed = sums / count
        std = np.sqrt(np.diag(observed))
        return (1 - share) * observed + share * shape * np.outer(std, std)

    def surprise(share):
        """Return the negative log-density of each part given the others."""
        total = 0.0
        for own, count in zip(residuals, counts, strict=True):
            rest = shrink(sum(residuals) - own, sum(counts) - count, share)
            total += count * np.linalg.slogdet(rest)[1]
            total += np.trace(np.linalg.solve(rest, own))
        return total

    return shrink(sum(residuals), sum(counts), min(_SHRINKAGES, key=surprise))


@dataclass(frozen=True, repr=False)
class ContactFit:
    """What recorded pairs have shown about the contacts of one patient.

    Attributes
    ----------
    ch_names : list of str
        Names of the contacts in the recordings.
    positions : array of shape (n_contacts, 3)
        Metres, fsaverage surface RAS.
    electrodes : list of str
        The EEG channels of the map, in its order, or empty without a map.
    lagged : LaggedMap | None
        The map from scalp EEG. None if the head model is used.
    calibration : array of shape (n_contacts, 2)
        The log-scale and tail of each contact.
    amplitude : array of shape (n_contacts, n_levels, 2)
        The log-amplitude of each contact's noise and its precision, by wavelet level.
    gain : float | None
        The gain of the fitted recordings. None takes that of a new recording.
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
        return f"<ContactFit | {kind}, {len(self.ch_names)} contacts>"

    def match(self, positions):
        """Find contacts by position, where they are known.

        Parameters
        ----------
        positions : array of shape (n, 3)
            Metres.

        Returns
        -------
        index : array of int, shape (n,)
            The indices of the contacts, -1 for unknown ones. If several contacts have
            the same position, each is found once, in their order.
        """
        distance = np.linalg.norm(positions[:, None] - self.positions, axis=-1)
        index = np.full(len(positions), -1)
        for contact, same in enumerate(distance < SAME_PLACE):
            free = np.setdiff1d(np.flatnonzero(same), index)
            if len(free):
                index[contact] = free[0]
        return index

    def find(self, positions):
        """Find contacts by position, if all of them are known.

        Parameters
        ----------
        positions : array of shape (n, 3)
            Metres.

        Returns
        -------
        index : array of int, shape (n,) | None
            The indices of the contacts, or None if any of them is unknown.
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
        """Return a fit with new calibration and amplitudes of some contacts.

        Parameters
        ----------
        contacts : array of int
            The indices of these contacts.
        known : ContactFit
            The fit of these contacts, in this order.

        Returns
        -------
        contact_fit : ContactFit
            The new fit.
        """
        calibration, amplitude = self.calibration.copy(), self.amplitude.copy()
        calibration[contacts] = known.calibration
        amplitude[contacts] = known.amplitude
        gain = self.gain if known.gain is None else known.gain
        return replace(self, calibration=calibration, amplitude=amplitude, gain=gain)
