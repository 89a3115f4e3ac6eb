"""Powers of sources by region and band, estimated from the scalp covariance.

The fixed prior has the same source powers for every person. Here, the power of each
parcel of sources in each frequency band is estimated from the covariance of the scalp
EEG, together with the noise of each electrode and with artifacts.

This module knows whitened montages and covariances. It does not know contacts,
recordings or tensors.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._threads import one_blas_thread
from .scalp_model import source_parcels

_PRIOR = Path(__file__).parent / "data" / "source_prior.npz"
# Standard deviation of a parcel's log-power about that of its region. Values from 0.7
# to 2 give similar estimates.
PARCEL_STD = 0.7
# Effective number of independent samples of a band's covariance, for any length of the
# recording, because the head model limits accuracy. 20 to 640 give similar results.
EFFECTIVE_SAMPLES = 50.0
# Limit of log-powers in standard deviations of the prior: about the largest value in a
# thousand patients.
_BOUND = 3.2
_ROUNDS = 25
_LONGEST_STEP = 1.5  # maximum change of a log-power in one round
# Log-normal priors of an electrode's excess noise, and of eyes and drift, relative to
# the expected power of an electrode: median and standard deviation of the logarithm.
_NOISE, _NOISE_STD = 0.05, 2.0
_ARTIFACT, _ARTIFACT_STD = 0.5, 2.0


@dataclass(frozen=True)
class SourcePrior:
    """Prior distribution of the log-power of each region in each band.

    Attributes
    ----------
    mean : array of shape (n_bands, n_regions)
        Relative to the fixed prior and to the recording's gain in that band.
    covariance : array of shape (n_bands * n_regions, n_bands * n_regions)
        Bands outer, regions inner.
    spectrum : array of shape (n_bands,)
        Share of each band in the power of typical scalp EEG.
    """

    mean: np.ndarray
    covariance: np.ndarray
    spectrum: np.ndarray


@lru_cache(maxsize=1)
def load_source_prior():
    """Read the prior from the file that ``tools/build_source_prior.py`` writes."""
    with np.load(_PRIOR) as table:
        return SourcePrior(**{name: table[name].astype(float) for name in table.files})


@dataclass(frozen=True)
class SourceEstimate:
    """Estimated powers of one recording.

    Attributes
    ----------
    gain : array of shape (n_bands,)
        Ratio of the power of the recording to the expected power, by band.
    power : array of shape (n_bands, n_parcels)
        Ratio of the power of each parcel to its expected power, divided by the gain.
    electrode_noise : array of shape (n_bands, n_electrodes)
        Ratio of excess noise variance to expected variance, divided by the gain.
    artifact : array of shape (n_bands, n_artifacts)
        Ratio of the power of eyes in three directions, and of drift, to that of an
        electrode.
    inverse : array of shape (n_bands, rank, rank)
        Inverse of the whitened covariance with these powers.
    objective : list of float
        Negative log posterior density after each round, up to a constant.
    """

    gain: np.ndarray
    power: np.ndarray
    electrode_noise: np.ndarray
    artifact: np.ndarray
    inverse: np.ndarray
    objective: list


class _State(NamedTuple):
    """Logarithms of the estimates; levels and parcels relative to the prior's mean."""

    level: np.ndarray
    parcel: np.ndarray
    noise: np.ndarray
    artifact: np.ndarray

    def moved(self, step, size):
        """Return the state after a fraction of a step."""
        return _State(*(p + size * s for p, s in zip(self, step, strict=True)))


class _Traces(NamedTuple):
    """Traces from which derivatives by powers are computed, each (band, power).

    ``expected`` is ``tr(C^-1 B)`` of each power's covariance ``B``, ``seen`` is
    ``tr(C^-1 O C^-1 B)``.
    """

    expected: np.ndarray
    seen: np.ndarray


class _Problem:
    """The negative log-posterior of the powers, given whitened covariances."""

    def __init__(self, model, observed, prior, effective_samples):
        self.model, self.observed = model, observed
        self.half = effective_samples / 2
        self.region = source_parcels().region
        self.products = model.products.reshape(len(model.products), -1)
        self.artifacts = model.artifacts.reshape(len(model.artifacts), -1)
        self.mean = prior.mean[:, self.region]
        self.precision = np.linalg.inv(prior.covariance)
        self.bound = self.mean + _BOUND * _spread(prior)[:, self.region]
        self.shape = prior.mean.shape
        self.noise_prior = np.log(_NOISE * model.variance), _NOISE_STD
        self.artifact_prior = np.log(_ARTIFACT), _ARTIFACT_STD

    def start(self):
        """Return the median of the prior."""
        n_bands = self.shape[0]
        return _State(
            np.zeros(self.shape),
            np.zeros(len(self.products)),
            np.tile(self.noise_prior[0], (n_bands, 1)),
            np.full((n_bands, len(self.artifacts)), self.artifact_prior[0]),
        )

    def power(self, state):
        """Return the power of each parcel within its bound, (band, parcel)."""
        raw = self.mean + state.level[:, self.region] + state.parcel
        return np.exp(np.minimum(raw, self.bound))

    def evaluate(self, state):
        """Return the objective, and the inverse and ``C^-1 O C^-1`` of each band."""
        model, rank = self.model, len(self.model.noise)
        flat = self.power(state) @ self.products
        flat += np.exp(state.artifact) @ self.artifacts
        covariance = flat.reshape(-1, rank, rank) + model.noise
        for band, noise in enumerate(np.exp(state.noise)):
            covariance[band] += (model.electrodes * noise) @ model.electrodes.T
        inverse = np.linalg.inv(covariance)
        seen = inverse @ self.observed
        log_det = np.linalg.slogdet(covariance)[1]
        value = self.half * (log_det + np.trace(seen, axis1=1, axis2=2)).sum()
        level = state.level.ravel()
        value += 0.5 * level @ self.precision @ level
        value += 0.5 * (state.parcel**2).sum() / PARCEL_STD**2
        value += _log_normal(state.noise, self.noise_prior)
        value += _log_normal(state.artifact, self.artifact_prior)
        return value, inverse, seen @ inverse

    def traces(self, inverse, seen):
        """Return the traces of parcels, of electrode noise and of artifacts."""
        columns = self.model.electrodes

        def of(products):
            return _Traces(
                *(m.reshape(len(m), -1) @ products.T for m in (inverse, seen))
            )

        by_electrode = (((m @ columns) * columns).sum(1) for m in (inverse, seen))
        return of(self.products), _Traces(*by_electrode), of(self.artifacts)

    def gradients(self, state, traces):
        """Return the derivatives of the objective by each part of the state."""
        parcels, electrodes, artifacts = traces
        slope = self._slope(self._free(state), parcels)
        by_level = self._by_region(slope)
        by_level += (self.precision @ state.level.ravel()).reshape(self.shape)
        return _State(
            by_level,
            slope.sum(0) + state.parcel / PARCEL_STD**2,
            self._slope(np.exp(state.noise), electrodes)
            + _pull(state.noise, self.noise_prior),
            self._slope(np.exp(state.artifact), artifacts)
            + _pull(state.artifact, self.artifact_prior),
        )

    def step(self, state, inverse, seen):
        """Return Newton steps with non-negative curvatures."""
        parcels, electrodes, artifacts = traces = self.traces(inverse, seen)
        gradient = self.gradients(state, traces)
        noise = self._curvature(np.exp(state.noise), electrodes) + _NOISE_STD**-2
        artifact = self._curvature(np.exp(state.artifact), artifacts)
        artifact += _ARTIFACT_STD**-2
        curvature = self._curvature(self._free(state), parcels)
        step = _State(
            *self._source_step(gradient, curvature),
            -gradient.noise / noise,
            -gradient.artifact / artifact,
        )
        return [part * min(1, _LONGEST_STEP / abs(part).max()) for part in step]

    def _source_step(self, gradient, curvature):
        """Solve for levels and parcels together."""
        n_levels, n_parcels = gradient.level.size, gradient.parcel.size
        levels, parcels = np.arange(n_levels), n_levels + np.arange(n_parcels)
        hessian = np.zeros((n_levels + n_parcels,) * 2)
        hessian[:n_levels, :n_levels] = self.precision
        hessian[levels, levels] += self._by_region(curvature).ravel()
        for band, row in enumerate(curvature):
            own = band * self.shape[1] + self.region
            hessian[own, parcels] = hessian[parcels, own] = row
        hessian[parcels, parcels] = curvature.sum(0) + PARCEL_STD**-2
        slope = np.concatenate([gradient.level.ravel(), gradient.parcel])
        step = -np.linalg.solve(hessian, slope)
        return step[:n_levels].reshape(self.shape), step[n_levels:]

    def _free(self, state):
        """Return which powers are within their bounds, and so change with the state."""
        power = self.power(state)
        return power * (np.log(power) < self.bound - 1e-9)

    def _slope(self, power, traces):
        return self.half * power * (traces.expected - traces.seen)

    def _curvature(self, power, traces):
        return self.half * power * (traces.expected + traces.seen)

    def _by_region(self, values):
        """Sum parcels within regions, (band, parcel) to (band, region)."""
        summed = np.zeros(self.shape)
        np.add.at(summed.T, self.region, values.T)
        return summed


def _spread(prior):
    """Compute the standard deviation of a log-power, (band, region)."""
    variance = np.diag(prior.covariance).reshape(prior.mean.shape)
    return np.sqrt(variance + PARCEL_STD**2)


def _log_normal(log_power, prior):
    mean, std = prior
    return 0.5 * ((log_power - mean) ** 2).sum() / std**2


def _pull(log_power, prior):
    mean, std = prior
    return (log_power - mean) / std**2


@one_blas_thread
def estimate_sources(
    model, observed, prior=None, effective_samples=EFFECTIVE_SAMPLES, rounds=_ROUNDS
):
    """Estimate the powers of sources, noise and artifacts from the scalp covariance.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    observed : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the referenced recording in each band, V².
    prior : SourcePrior | None
        The prior. None takes the one that ships with the package.
    effective_samples : float
        Effective number of independent samples of each covariance. 0 gives the prior's
        mean.
    rounds : int
        Number of Newton steps.

    Returns
    -------
    estimate : SourceEstimate
        The maximum of the posterior density.

    Notes
    -----
    The whitened covariance of a band has a Wishart distribution with mean ``sum_p w_p
    B_p + R + sum_e d_e t_e t_e' + sum_k a_k A_k``, where ``B`` are the products of
    parcels, ``R`` the noise, ``t`` the electrodes and ``A`` the artifacts. ``log w`` is
    the sum of a level of the region and band, with the prior distribution from the
    simulation, and of an amplitude of the parcel that is common to all bands. ``log d``
    and ``log a`` are normal. All of them are updated together in Newton steps whose
    curvature omits the negative part. A step is halved as long as it would lower the
    density.
    """
    prior = load_source_prior() if prior is None else prior
    power = np.diagonal(observed, axis1=1, axis2=2) / model.variance
    gain = np.maximum(np.median(power, axis=1), 1e-30)
    if effective_samples == 0:
        return _as_expected(model, gain, prior)
    white = model.whitener @ (observed / gain[:, None, None]) @ model.whitener.T
    problem = _Problem(model, white, prior, effective_samples)
    state = problem.start()
    value, *known = problem.evaluate(state)
    trail = [value]
    for _ in range(rounds):
        found = _descend(problem, state, value, problem.step(state, *known))
        if found is None:
            break
        state, value, known = found
        trail.append(value)
    return SourceEstimate(
        gain=gain,
        power=problem.power(state),
        electrode_noise=np.exp(state.noise) / model.variance,
        artifact=np.exp(state.artifact),
        inverse=known[0],
        objective=trail,
    )


def _descend(problem, state, value, step):
    """Halve a step until it lowers the objective; return None if none does."""
    for halvings in range(10):
        new = state.moved(step, 0.5**halvings)
        found, *known = problem.evaluate(new)
        if found < value:
            return new, found, known
    return None


def _as_expected(model, gain, prior):
    """Return the powers of the prior's mean, without excess noise and artifacts."""
    power = np.exp(prior.mean[:, source_parcels().region])
    rank = len(model.noise)
    flat = power @ model.products.reshape(len(model.products), -1)
    covariance = flat.reshape(-1, rank, rank) + model.noise
    n_bands = len(power)
    return SourceEstimate(
        gain=gain,
        power=power,
        electrode_noise=np.zeros((n_bands, model.electrodes.shape[1])),
        artifact=np.zeros((n_bands, len(model.artifacts))),
        inverse=np.linalg.inv(covariance),
        objective=[],
    )
