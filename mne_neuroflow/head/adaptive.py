"""Sources that adapt to the recording: which regions are loud in which band.

The fixed prior gives every person the same sources. A recording has its own, and its
scalp covariance tells about them: here the power of each parcel of sources is estimated
in each frequency band, together with the noise of each electrode and with what is not
brain, and the spatial posterior is formed with these powers. One operator per band then
takes the scalp to the contacts.

This room knows covariances of electrodes and lead fields. It never knows recordings,
files or tensors.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import firwin

from .geometry import load_head
from .posterior import (
    HEAD_ERROR,
    LOCAL_STD,
    SENSOR_STD,
    farthest_points,
    source_generators,
    symmetric_roots,
)

_PRIOR = Path(__file__).parent / "data" / "source_prior.npz"
#: Samples at 128 Hz by which the filters of the bands shorten a signal at either end.
N_HALO = 128
_SFREQ = 128.0
#: Frequencies in hertz between the bands; they fall on the borders of wavelet levels.
EDGES = (2.5, 4.5, 8.0, 11.0, 16.0, 22.0, 32.0)
N_BANDS = len(EDGES) + 1
#: Octave of the wavelets, coarse to fine, that each band lies in.
LEVEL_OF_BAND = np.array([0, 0, 0, 1, 1, 2, 2, 3])
N_LEVELS = LEVEL_OF_BAND[-1] + 1
STRUCTURES = (
    "hippocampus",
    "amygdala",
    "parahippocampal",
    "temporal-lateral",
    "frontal",
    "parietal",
    "occipital",
    "insula",
)
#: Structures on either side.
N_REGIONS = 2 * len(STRUCTURES)
# Generators of each length scale that share a parcel, cortical scales first.
_PER_PARCEL = {"short": 20, "long": 12, "volume": 280}
# Standard deviation of the logarithm of a parcel's power about its region's. From 0.7
# to 2 the estimates are alike.
PARCEL_STD = 0.7
# Independent samples that a band's covariance counts as, however long the recording:
# what limits it is the head model. From 20 to 640 the result is alike.
EFFECTIVE_SAMPLES = 50.0
# Standard deviations of the prior beyond which no log-power goes: about the largest of
# a thousand patients.
_BOUND = 3.2
_ROUNDS = 25
_LONGEST_STEP = 1.5  # of a log-power, in one round
# Log-normal prior of an electrode's excess noise, and of eyes and drift, over the
# expected power of an electrode: a middle value and the deviation of the logarithm.
_NOISE, _NOISE_STD = 0.05, 2.0
_ARTIFACT, _ARTIFACT_STD = 0.5, 2.0
# Eyes in metres, fsaverage surface RAS, as the simulation has them.
_EYES = ((-0.03, 0.055, -0.04), (0.03, 0.055, -0.04))
_NEAREST_EYE = 0.03
# Metres over which slow drift is alike.
_DRIFT_LENGTH = 0.06
#: What the flow reads of an :class:`AdaptedPosterior`.
POSTERIOR_FIELDS = (
    "covariance",
    "root",
    "inverse_root",
    "mean_std",
    "prior_std",
    "observability",
    "level_features",
)
#: Times an electrode's typical amplitude at which its signal is clipped.
CLIP = 6.0
# Directions of the scalp whose expected power is below this share of the largest carry
# nothing: the reference, projectors.
_RANK = 1e-9


@lru_cache(maxsize=16)
def band_responses(n_times):
    """Compute what the filters of the bands do to each frequency.

    Parameters
    ----------
    n_times : int
        Samples at 128 Hz, at least ``2 * N_HALO + 1``.

    Returns
    -------
    responses : array of shape (n_bands, n_times // 2 + 1)
        They sum to one, have no phase and reach N_HALO samples to either side.
    """
    low = [np.zeros(n_times // 2 + 1)]
    for edge in EDGES:
        taps = np.zeros(n_times)
        taps[: 2 * N_HALO + 1] = firwin(2 * N_HALO + 1, edge, fs=_SFREQ)
        low.append(rfft(np.roll(taps, -N_HALO)).real)
    return np.diff([*low, np.ones(n_times // 2 + 1)], axis=0)


def band_covariance(pieces):
    """Compute the covariance of electrodes in each band.

    Parameters
    ----------
    pieces : iterable of array, shape (n_electrodes, n_times + 2 * N_HALO)
        Stretches of scalp at 128 Hz, volts.

    Returns
    -------
    covariance : array of shape (n_bands, n_electrodes, n_electrodes)
        About zero, V².
    """
    total, count = 0.0, 0
    for piece in pieces:
        n_times = piece.shape[-1]
        n_fft = next_fast_len(n_times, real=True)
        spectrum = rfft(np.asarray(piece, float), n_fft)
        for_band = irfft(spectrum * band_responses(n_fft)[:, None], n_fft)
        inside = for_band[..., N_HALO : n_times - N_HALO]
        total = total + inside @ inside.transpose(0, 2, 1)
        count += inside.shape[-1]
    return total / count


@dataclass(frozen=True)
class Parcels:
    """Generators that share one power.

    Attributes
    ----------
    index : array of int, shape (n_generators,)
        Parcel of each generator.
    region : array of int, shape (n_parcels,)
        Region of each parcel: the index of its structure, plus the number of
        structures on the right.
    """

    index: np.ndarray
    region: np.ndarray


@lru_cache(maxsize=2)
def source_parcels(head=None):
    """Divide the generators into parcels.

    Within each structure of each hemisphere, generators of the shortest scale lie in
    other parcels than those of the long ones.

    Parameters
    ----------
    head : Head | None
        None takes the template head.

    Returns
    -------
    parcels : Parcels
        Some 120 parcels.
    """
    generators = source_generators(load_head() if head is None else head)
    kind = np.array(["short", "long", "long", "short", "long"])[generators.group]
    index = np.empty(len(kind), int)
    regions = []
    for side in (-1, 1):
        for structure in STRUCTURES:
            region = STRUCTURES.index(structure) + len(STRUCTURES) * (side > 0)
            for scale in ("short", "long"):
                here = np.flatnonzero(
                    (generators.structure == structure)
                    & (generators.hemisphere == side)
                    & (kind == scale)
                )
                volume = generators.group[here].max() > 2
                size = _PER_PARCEL["volume" if volume else scale]
                centre = generators.centre[here]
                seeds = farthest_points(centre, max(1, round(len(here) / size)))
                nearest = _squares(centre, centre[seeds]).argmin(1)
                index[here] = len(regions) + nearest
                regions += [region] * len(seeds)
    return Parcels(index, np.array(regions))


def _squares(a, b):
    return ((a[:, None] - b[None]) ** 2).sum(-1)


@dataclass(frozen=True)
class SourcePrior:
    """Distribution of the logarithm of each region's relative power in each band.

    Attributes
    ----------
    mean : array of shape (n_bands, n_regions)
        Relative to the fixed prior and to the recording's gain in that band.
    covariance : array of shape (n_bands * n_regions, n_bands * n_regions)
        Bands outer, regions inner.
    spectrum : array of shape (n_bands,)
        Share of each band in the power of a typical scalp.
    """

    mean: np.ndarray
    covariance: np.ndarray
    spectrum: np.ndarray


@lru_cache(maxsize=1)
def load_source_prior():
    """Read the prior that ``tools/build_source_prior.py`` has made."""
    with np.load(_PRIOR) as table:
        return SourcePrior(**{name: table[name].astype(float) for name in table.files})


@dataclass(frozen=True)
class ScalpModel:
    """What a montage can show, in whitened coordinates.

    Attributes
    ----------
    whitener : array of shape (rank, n_electrodes)
        Takes referenced potentials (volts) to unit expected covariance.
    sources : array of shape (rank, n_generators)
        Potential of each unit generator.
    products : array of shape (n_parcels, rank, rank)
        Covariance that each parcel makes at its expected power.
    noise : array of shape (rank, rank)
        Covariance of sensors and of the head model's error.
    electrodes : array of shape (rank, n_electrodes)
        What an electrode's own noise makes.
    artifacts : array of shape (n_artifacts, rank, rank)
        Covariance that eyes and drift make, of unit mean power.
    variance : array of shape (n_electrodes,)
        Expected at unit gain, V².
    """

    whitener: np.ndarray
    sources: np.ndarray
    products: np.ndarray
    noise: np.ndarray
    electrodes: np.ndarray
    artifacts: np.ndarray
    variance: np.ndarray


def scalp_model(fields, electrodes, reference=None):
    """Whiten a montage.

    Parameters
    ----------
    fields : array of shape (n_electrodes, n_generators)
        Potential of each unit generator at each electrode against infinity, volts.
    electrodes : array of shape (n_electrodes, 3)
        Positions in metres, fsaverage surface RAS.
    reference : array of shape (n_electrodes, n_electrodes) | None
        What the recording's reference and projectors make of the potentials; None is
        the average reference.

    Returns
    -------
    model : ScalpModel
        The montage, whitened.
    """
    n_electrodes = len(electrodes)
    if reference is None:
        reference = np.eye(n_electrodes) - 1 / n_electrodes
    fields = reference @ np.asarray(fields, float)
    signal = fields @ fields.T
    noise = np.diag(SENSOR_STD**2 + HEAD_ERROR**2 * np.diag(signal))
    noise = reference @ noise @ reference.T
    values, vectors = np.linalg.eigh(signal + noise)
    kept = values > _RANK * values[-1]
    whitener = (vectors[:, kept] / np.sqrt(values[kept])).T
    sources = whitener @ fields
    parcels = source_parcels()
    products = np.empty((len(parcels.region), len(whitener), len(whitener)))
    for parcel in range(len(products)):
        own = sources[:, parcels.index == parcel]
        products[parcel] = own @ own.T
    shapes = whitener @ reference @ _artifact_shapes(np.asarray(electrodes))
    artifacts = np.stack([shape @ shape.T for shape in shapes])
    power = np.trace(artifacts, axis1=1, axis2=2) / len(whitener)
    return ScalpModel(
        whitener=whitener,
        sources=sources,
        products=products,
        noise=whitener @ noise @ whitener.T,
        electrodes=whitener @ reference,
        artifacts=artifacts / power[:, None, None],
        variance=np.diag(signal + noise),
    )


def _artifact_shapes(electrodes):
    """Potentials of the eyes in three directions and of drift, (4, n, n)."""
    away = electrodes[:, None] - np.array(_EYES)
    distance = np.linalg.norm(away, axis=-1, keepdims=True).clip(_NEAREST_EYE)
    # Berg & Scherg 1991, Electroencephalogr Clin Neurophysiol 79:36: a dipole in each
    # eye, both in the same direction.
    eyes = (away / distance**3).sum(1)
    shapes = np.zeros((4, len(electrodes), len(electrodes)))
    shapes[:3, :, 0] = eyes.T
    smooth = np.exp(-_squares(electrodes, electrodes) / (2 * _DRIFT_LENGTH**2))
    shapes[3] = np.linalg.cholesky(smooth + 1e-6 * np.eye(len(electrodes)))
    return shapes


@dataclass(frozen=True)
class SourceEstimate:
    """Powers behind one recording.

    Attributes
    ----------
    gain : array of shape (n_bands,)
        Power of the recording over the expected one, by band.
    power : array of shape (n_bands, n_parcels)
        Power of each parcel over the expected one, beside the gain.
    electrode_noise : array of shape (n_bands, n_electrodes)
        Excess noise variance over the expected variance, beside the gain.
    artifact : array of shape (n_bands, n_artifacts)
        Power of eyes in three directions and of drift over that of an electrode.
    inverse : array of shape (n_bands, rank, rank)
        Of the whitened covariance that these make.
    objective : list of float
        Negative logarithm of the posterior density after each round, but for a
        constant.
    """

    gain: np.ndarray
    power: np.ndarray
    electrode_noise: np.ndarray
    artifact: np.ndarray
    inverse: np.ndarray
    objective: list


class _State(NamedTuple):
    """Logarithms of what is estimated; levels and parcels beside the prior's mean."""

    level: np.ndarray
    parcel: np.ndarray
    noise: np.ndarray
    artifact: np.ndarray

    def moved(self, step, size):
        """Return the state after a part of a step."""
        return _State(*(p + size * s for p, s in zip(self, step, strict=True)))


class _Traces(NamedTuple):
    """What derivatives by a group of powers are made of, each (band, power).

    ``expected`` is ``tr(C^-1 B)`` of each power's covariance ``B``, ``seen`` is
    ``tr(C^-1 O C^-1 B)``.
    """

    expected: np.ndarray
    seen: np.ndarray


class _Problem:
    """The negative log-posterior of the powers behind whitened covariances."""

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
        """Return the prior's middle."""
        n_bands = self.shape[0]
        return _State(
            np.zeros(self.shape),
            np.zeros(len(self.products)),
            np.tile(self.noise_prior[0], (n_bands, 1)),
            np.full((n_bands, len(self.artifacts)), self.artifact_prior[0]),
        )

    def power(self, state):
        """Power of each parcel, within its bound, (band, parcel)."""
        raw = self.mean + state.level[:, self.region] + state.parcel
        return np.exp(np.minimum(raw, self.bound))

    def evaluate(self, state):
        """Return the objective, and inverse and ``C^-1 O C^-1`` of each band."""
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

    def gradients(self, state, inverse, seen):
        """Return the derivative of the objective by each part of the state."""
        parcels, electrodes, artifacts = self.traces(inverse, seen)
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
        """Return Newton steps with curvatures that are never negative."""
        gradient = self.gradients(state, inverse, seen)
        parcels, electrodes, artifacts = self.traces(inverse, seen)
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
        """Powers that move with the state; none at its bound does."""
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


def estimate_sources(
    model, observed, prior=None, effective_samples=EFFECTIVE_SAMPLES, rounds=_ROUNDS
):
    """Estimate the powers behind a recording from its scalp covariance.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    observed : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the referenced recording in each band, V².
    prior : SourcePrior | None
        None takes the shipped one.
    effective_samples : float
        Independent samples that each covariance counts as; 0 gives the prior's mean.
    rounds : int
        Newton steps.

    Returns
    -------
    estimate : SourceEstimate
        The maximum of the posterior density.

    Notes
    -----
    The whitened covariance of a band is Wishart about ``sum_p w_p B_p + R + sum_e d_e
    t_e t_e' + sum_k a_k A_k`` with the parcels' products ``B``, the noise ``R``,
    electrodes ``t`` and artifacts ``A``. ``log w`` is the sum of the level of its
    region and band, which has the simulation's distribution, and of an amplitude of
    the parcel for all bands; ``log d`` and ``log a`` are normal. A Newton step whose
    curvature leaves out the negative part is taken in all of them at once, and halved
    while it would lower the density.
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
    """Take as much of a step as lowers the objective; None if nothing does."""
    for halvings in range(10):
        new = state.moved(step, 0.5**halvings)
        found, *known = problem.evaluate(new)
        if found < value:
            return new, found, known
    return None


def _as_expected(model, gain, prior):
    """Powers as the prior's mean has them, no excess noise and no artifacts."""
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


def posterior_by_band(model, estimate, targets):
    """Condition what depends linearly on the sources on the scalp, band by band.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    estimate : SourceEstimate
        The recording's powers.
    targets : array of shape (n_targets, n_generators)
        What each unit generator makes there: volts at contacts.

    Returns
    -------
    operator : array of shape (n_bands, n_targets, n_electrodes)
        Posterior mean per volt of referenced scalp.
    field : array of shape (n_bands, n_targets, n_targets)
        Prior covariance with the recording's powers, at unit gain of the band.
    explained : array of shape (n_bands, n_targets, n_targets)
        What the scalp takes away from it.
    """
    index = source_parcels().index
    targets = np.asarray(targets, float)
    shape = (len(estimate.power), len(targets))
    operator = np.empty((*shape, model.whitener.shape[1]))
    field, explained = np.empty((*shape, shape[1])), np.empty((*shape, shape[1]))
    for band, power in enumerate(estimate.power):
        weighted = targets * power[index]
        cross = weighted @ model.sources.T
        gain = cross @ estimate.inverse[band]
        operator[band] = gain @ model.whitener
        field[band] = weighted @ targets.T
        explained[band] = gain @ cross.T
    return operator, field, explained


@dataclass(frozen=True)
class AdaptedPosterior:
    """Contact potentials given one recording, at unit gain.

    Attributes
    ----------
    limit : array of shape (n_electrodes, 1)
        Amplitude at which each electrode is clipped, volts.
    operator : array of shape (n_bands, n_contacts, n_electrodes)
        Posterior mean per volt of referenced scalp.
    wideband_operator : array of shape (n_contacts, n_electrodes)
        The same of all bands at once, for maps that do not tell them apart.
    covariance : array of shape (n_contacts, n_contacts)
        Posterior covariance of all bands together, V².
    root, inverse_root : array of shape (n_levels, n_contacts, n_contacts)
        Symmetric square root of each wavelet level's posterior covariance, and its
        inverse. Levels are scaled so that a recording with a typical spectrum has a
        covariance like that of all bands in each.
    explained : array of shape (n_contacts, n_contacts)
        What the scalp takes away from the covariance of all bands, V².
    level_explained : array of shape (n_levels, n_contacts, n_contacts)
        The same of each wavelet level, scaled as they are.
    mean_std, prior_std : array of shape (n_contacts,)
        Standard deviation of the posterior mean and of the contact potential with the
        recording's own sources, volts.
    observability : array of shape (n_contacts,)
        Share of that variance which the scalp explains, 0 to 1.
    level_features : array of shape (n_contacts, 3 * n_levels)
        By level: logarithm of the contact's amplitude over the fixed prior's, root of
        the share explained, logarithm of the electrodes' typical excess noise.
    gain : float
        Amplitude of the recording over the expected one.
    spread : float
        Standard deviation over electrodes of the logarithm of measured to expected
        amplitude.
    sources : SourceEstimate
        The powers behind the recording.
    """

    limit: np.ndarray
    operator: np.ndarray
    wideband_operator: np.ndarray
    covariance: np.ndarray
    root: np.ndarray
    inverse_root: np.ndarray
    explained: np.ndarray
    level_explained: np.ndarray
    mean_std: np.ndarray
    prior_std: np.ndarray
    observability: np.ndarray
    level_features: np.ndarray
    gain: float
    spread: float
    sources: SourceEstimate

    def apply(self, scalp):
        """Compute the posterior mean of contacts.

        Parameters
        ----------
        scalp : array of shape (n_electrodes, n_times + 2 * N_HALO)
            Referenced volts at 128 Hz.

        Returns
        -------
        mean : array of shape (n_contacts, n_times)
            Volts.
        """
        n_times, n_fft = scalp.shape[-1], next_fast_len(scalp.shape[-1], real=True)
        clipped = np.clip(scalp, -self.limit, self.limit)
        # Real operators, which take real and imaginary parts in turn.
        spectrum = rfft(np.asarray(clipped, float), n_fft).view(float)
        mean = np.zeros((self.operator.shape[1], spectrum.shape[1]))
        responses = np.repeat(band_responses(n_fft), 2, axis=1)
        for operator, response in zip(self.operator, responses, strict=True):
            mean += operator @ (spectrum * response)
        return irfft(mean.view(complex), n_fft)[:, N_HALO : n_times - N_HALO]


def adapt(model, contacts, observed, rms, estimate=None):
    """Form the spatial posterior of one recording.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    contacts : array of shape (n_contacts, n_generators)
        Potential of each unit generator at each contact, volts.
    observed : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the referenced recording in each band, V².
    rms : array of shape (n_electrodes,)
        Robust r.m.s. of each electrode, volts.
    estimate : SourceEstimate | None
        None estimates the sources from ``observed``.

    Returns
    -------
    posterior : AdaptedPosterior
        Contacts given this recording.
    """
    estimate = estimate_sources(model, observed) if estimate is None else estimate
    contacts = np.asarray(contacts, float)
    operator, field, explained = posterior_by_band(model, estimate, contacts)
    ratio = rms / np.sqrt(model.variance)
    gain = max(np.median(ratio), 1e-3)
    # Power of each band over that of the recording: sums to about one.
    share = estimate.gain / gain**2
    local = LOCAL_STD**2 * np.eye(len(contacts))
    residual = field - explained + local
    residual = (residual + residual.transpose(0, 2, 1)) / 2
    covariance = np.tensordot(share, residual, 1)
    prior = np.tensordot(share, field + local, 1)
    explained = (explained + explained.transpose(0, 2, 1)) / 2
    all_explained = np.tensordot(share, explained, 1)
    shown = np.diag(all_explained)
    expected = np.bincount(LEVEL_OF_BAND, load_source_prior().spectrum)
    roots, features, level_explained = [], [], []
    fixed = (contacts**2).sum(1) + LOCAL_STD**2
    noise = np.log(np.median(estimate.electrode_noise, axis=1) + 1e-3)
    for level, typical in enumerate(expected):
        here = LEVEL_OF_BAND == level
        weight = share[here] / typical
        roots.append(symmetric_roots(np.tensordot(weight, residual[here], 1)))
        power = np.tensordot(weight, np.einsum("bcc->bc", field[here] + local), 1)
        level_explained.append(np.tensordot(weight, explained[here], 1))
        seen = np.diag(level_explained[-1])
        features += [
            0.5 * np.log(power / fixed),
            np.sqrt(np.clip(seen / power, 0, 1)),
            np.full(len(contacts), noise[here].mean() / 4),
        ]
    spread = np.sqrt((np.log(np.maximum(ratio / gain, 1e-3)) ** 2).mean())
    return AdaptedPosterior(
        limit=CLIP * rms[:, None],
        operator=operator,
        wideband_operator=_wideband_operator(model, estimate, contacts),
        covariance=covariance,
        root=np.stack([root for root, _ in roots]),
        inverse_root=np.stack([inverse for _, inverse in roots]),
        explained=all_explained,
        level_explained=np.stack(level_explained),
        mean_std=np.sqrt(np.maximum(shown, 1e-18)),
        prior_std=np.sqrt(np.diag(prior)),
        observability=np.clip(shown / np.diag(prior), 0, 1),
        level_features=np.stack(features, axis=1),
        gain=float(gain),
        spread=float(spread),
        sources=estimate,
    )


def without_scalp(posterior):
    """Take back what the scalp says: the prior of the same contacts.

    Parameters
    ----------
    posterior : AdaptedPosterior
        Of the contacts given a recording.

    Returns
    -------
    prior : AdaptedPosterior
        Its covariances are those of the contacts before the scalp is seen, its
        operators are zero. What describes contacts and recording stays.
    """
    levels = posterior.root @ posterior.root + posterior.level_explained
    roots = [symmetric_roots(level) for level in levels]
    return replace(
        posterior,
        operator=np.zeros_like(posterior.operator),
        wideband_operator=np.zeros_like(posterior.wideband_operator),
        covariance=posterior.covariance + posterior.explained,
        root=np.stack([root for root, _ in roots]),
        inverse_root=np.stack([inverse for _, inverse in roots]),
    )


def _wideband_operator(model, estimate, contacts):
    """Condition contacts on the scalp without telling bands apart."""
    power = (estimate.gain @ estimate.power)[source_parcels().index]
    covariance = np.tensordot(estimate.gain, np.linalg.inv(estimate.inverse), 1)
    cross = (contacts * power) @ model.sources.T
    return np.linalg.solve(covariance, cross.T).T @ model.whitener
