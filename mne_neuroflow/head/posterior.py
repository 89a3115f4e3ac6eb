"""The Gaussian prior of the sources and the spatial posterior.

Scalp potentials ``y = G_y s + n`` and contact potentials ``x = G_x s + e`` depend on
the same patch moments ``s ~ N(0, Q)``. Therefore ``x`` given ``y`` is Gaussian. Its
mean is a linear map of the scalp potentials, and its covariance is the remaining
uncertainty.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .geometry import load_head
from .leadfield import contact_lead_field, scalp_lead_field

# Dipole-moment density of the cortex at unit gain, A·m per m². The value puts
# the average-referenced scalp at 15 to 19 µV r.m.s. between 0.5 and 50 Hz, an
# ordinary resting recording. Synchronous peaks reach 1e-3 A·m/m² (1-2 nA·m/mm²,
# Murakami & Okada 2015, NeuroImage 111:49); ongoing activity is a fraction.
CORTEX_DENSITY = 3.7e-5
# Dipole-moment density of the amygdala and hippocampus, A·m per m³, for each
# of three orthogonal orientations; puts hippocampal contacts near 80 µV r.m.s.
VOLUME_DENSITY = 0.9e-2
# Length scales (metres) of the generators and the share of variance of each.
CORTEX_SCALES = ((0.010, 0.50), (0.020, 0.35), (0.040, 0.15))
VOLUME_SCALES = ((0.005, 0.60), (0.010, 0.40))
# Amplitude of a cortical generator in its homotopic partner, relative to its own, for
# the short length scale and for the two long ones.
HOMOTOPIC = {0.010: 0.0, 0.020: 0.35, 0.040: 0.5}
# Contact potential that does not come from patches: tissue at its own surface, volts.
LOCAL_STD = 10e-6
# Scalp noise: of the sensor (volts), and the error of a template head as a share of
# each electrode's expected amplitude.
SENSOR_STD = 2e-6
HEAD_ERROR = 0.2
N_ROIS = 32


@dataclass(frozen=True)
class Generators:
    """A square root of the source covariance, ``Q = factor @ factor.T``.

    Each column is the spatial pattern of one generator: a smooth piece of cortex with
    its homotopic partner, or a small volume of amygdala or hippocampus.

    Attributes
    ----------
    factor : array of shape (n_patches, n_generators)
        Patch moments (A·m) per unit activity of each generator.
    centre : array of shape (n_generators, 3)
        Generator centres in metres.
    structure : array of str, shape (n_generators,)
        The structure of the patch at the centre.
    hemisphere : array of int, shape (n_generators,)
        -1 left, 1 right.
    group : array of int, shape (n_generators,)
        The index of the length scale, beginning with cortical scales.
    """

    factor: np.ndarray
    centre: np.ndarray
    structure: np.ndarray
    hemisphere: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class SpatialPosterior:
    """The distribution of contact potentials given scalp EEG, at unit gain.

    Attributes
    ----------
    operator : array of shape (n_contacts, n_electrodes)
        Posterior mean per volt of average-referenced scalp.
    covariance : array of shape (n_contacts, n_contacts)
        Posterior covariance in V².
    root, inverse_root : array of shape (n_contacts, n_contacts)
        Symmetric square root of the covariance and its inverse.
    mean_std : array of shape (n_contacts,)
        Standard deviation of the posterior mean over recordings, volts.
    prior_std : array of shape (n_contacts,)
        Standard deviation of the contact potential without scalp EEG, volts.
    observability : array of shape (n_contacts,)
        Share of the prior variance that the scalp EEG explains, 0 to 1.
    roi_operator : array of shape (n_rois, n_electrodes)
        Posterior mean of cortical virtual sensors, in units of its own spread.
    scalp_std : array of shape (n_electrodes,)
        Expected standard deviation of each electrode at unit gain, volts.
    scalp_covariance : array of shape (n_electrodes, n_electrodes)
        Expected covariance of the electrodes at unit gain, V².
    """

    operator: np.ndarray
    covariance: np.ndarray
    root: np.ndarray
    inverse_root: np.ndarray
    mean_std: np.ndarray
    prior_std: np.ndarray
    observability: np.ndarray
    roi_operator: np.ndarray
    scalp_std: np.ndarray
    scalp_covariance: np.ndarray


def is_volume(head):
    """Return which sources are volume sources, bool (n_patches,)."""
    return np.isfinite(head.patch_volume)


def farthest_points(points, n_points):
    """Select points that cover a set of points evenly.

    In case of ties, as in a symmetric set, the first point is selected.

    Parameters
    ----------
    points : array of shape (n, 3)
        The points.
    n_points : int
        The number of points to select.

    Returns
    -------
    picks : array of int, shape (min(n, n_points),)
        Indices of ``points``. The first is the point nearest to the centroid.
    """
    points = np.asarray(points, float)
    picks = [int(np.argmin(((points - points.mean(0)) ** 2).sum(1)))]
    nearest = ((points - points[picks[0]]) ** 2).sum(1)
    while len(picks) < min(n_points, len(points)):
        picks.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((points - points[picks[-1]]) ** 2).sum(1))
    return np.array(picks)


def contact_halves(contacts):
    """Split contacts into two halves, so that each has a neighbour in the other half.

    Parameters
    ----------
    contacts : array of shape (n_contacts, 3)
        Positions in metres.

    Returns
    -------
    half : array of shape (n_contacts,)
        0.0 or 1.0. It depends on the positions of the contacts and not on their order.
    """
    contacts = np.asarray(contacts, float)
    order = np.lexsort(np.round(contacts * 1e5).T)
    half = np.ones(len(contacts))
    half[order[farthest_points(contacts[order], (len(contacts) + 1) // 2)]] = 0
    return half


def _bump(points, hemisphere, centres, centre_hemisphere, scale):
    """Return Gaussian patterns within a hemisphere, (n_points, n_centres)."""
    square = (
        (points**2).sum(1)[:, None] + (centres**2).sum(1)[None] - 2 * points @ centres.T
    )
    bump = np.exp(-np.maximum(square, 0) / (2 * scale**2))
    return bump * (hemisphere[:, None] == centre_hemisphere[None])


def _unit_rows(bump):
    """Scale rows so that independent unit generators give unit variance."""
    return bump / np.sqrt((bump**2).sum(1, keepdims=True))


@lru_cache(maxsize=4)
def _cortex_generators(head, scale, share):
    """Return the patterns of one cortical length scale."""
    cortex = ~is_volume(head)
    points, hemisphere = head.patch_centres[cortex], head.patch_hemisphere[cortex]
    # Centres one length scale apart are as good as a continuum of centres.
    area = head.patch_area[cortex].sum()
    picks = farthest_points(points, int(np.ceil(area / scale**2)))
    centres, side = points[picks], hemisphere[picks]
    bump = _bump(points, hemisphere, centres, side, scale)
    partner = HOMOTOPIC[scale]
    if partner:
        mirrored = centres * [-1, 1, 1]
        bump = bump + partner * _bump(points, hemisphere, mirrored, -side, scale)
    moments = CORTEX_DENSITY * head.patch_area[cortex, None] * np.sqrt(share)
    factor = np.zeros((len(cortex), len(picks)), np.float32)
    factor[cortex] = moments * _unit_rows(bump)
    where = np.flatnonzero(cortex)[picks]
    return factor, where


@lru_cache(maxsize=4)
def _volume_generators(head, scale, share):
    """Return the patterns of one length scale in amygdala and hippocampus."""
    volume = np.flatnonzero(is_volume(head))
    points, side = head.patch_centres[volume], head.patch_hemisphere[volume]
    bump = _bump(points, side, points, side, scale)
    # A generator has one orientation, and three independent ones are at each place.
    aligned = np.abs(head.patch_normals[volume] @ head.patch_normals[volume].T) > 0.5
    bump = _unit_rows(bump * aligned)
    moments = VOLUME_DENSITY * head.patch_volume[volume, None] * np.sqrt(share)
    factor = np.zeros((head.n_patches, len(volume)), np.float32)
    factor[volume] = moments * bump
    return factor, volume


@lru_cache(maxsize=4)
def source_generators(head):
    """Build the generators of the template prior.

    Parameters
    ----------
    head : Head
        The head whose patches carry the sources.

    Returns
    -------
    generators : Generators
        The generators, whose ``factor @ factor.T`` is the source covariance.
    """
    parts = [_cortex_generators(head, *pair) for pair in CORTEX_SCALES]
    parts += [_volume_generators(head, *pair) for pair in VOLUME_SCALES]
    where = np.concatenate([part[1] for part in parts])
    return Generators(
        factor=np.concatenate([part[0] for part in parts], axis=1),
        centre=head.patch_centres[where],
        structure=head.patch_structure[where],
        hemisphere=head.patch_hemisphere[where],
        group=np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts]),
    )


def average_reference(lead_field):
    """Subtract the mean over electrodes (the first axis)."""
    return lead_field - lead_field.mean(axis=0, keepdims=True)


def symmetric_roots(covariance):
    """Compute the symmetric square root of a covariance and its inverse.

    Parameters
    ----------
    covariance : array of shape (n, n)
        Symmetric, positive definite.

    Returns
    -------
    root, inverse_root : array of shape (n, n)
        ``root @ root`` is the covariance.
    """
    values, vectors = np.linalg.eigh(covariance)
    if values.min() <= 0:
        raise ValueError("The covariance must be positive definite.")
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse_root = (vectors / np.sqrt(values)) @ vectors.T
    return root, inverse_root


@lru_cache(maxsize=4)
def roi_centres(head):
    """Select the patches of cortical virtual sensors, which cover the cortex.

    Parameters
    ----------
    head : Head
        The head.

    Returns
    -------
    patches : array of int, shape (n_rois,)
        Indices of cortical patches.
    """
    cortex = np.flatnonzero(~is_volume(head))
    return cortex[farthest_points(head.patch_centres[cortex], N_ROIS)]


def _roi_weights(head):
    """Return weights for the outward moment around each virtual sensor."""
    picks = roi_centres(head)
    bump = _bump(
        head.patch_centres,
        head.patch_hemisphere,
        head.patch_centres[picks],
        head.patch_hemisphere[picks],
        0.02,
    )
    bump[is_volume(head)] = 0
    # The walls of a sulcus have opposite orientations. Take the component away from the
    # middle of the head, because scalp EEG shows the sign of this component.
    outward = head.patch_centres - head.patch_centres.mean(0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return (bump * (outward * head.patch_normals).sum(1)[:, None]).T


@lru_cache(maxsize=4)
def roi_gains(head):
    """Compute the gain of every unit generator at each virtual sensor.

    Parameters
    ----------
    head : Head
        The head.

    Returns
    -------
    gains : array of shape (n_rois, n_generators)
        Outward cortical moment around each virtual sensor, A·m.
    """
    return _roi_weights(head).astype(np.float32) @ source_generators(head).factor


def prior_spreads(scalp, contacts):
    """Compute the standard deviations that the fixed prior expects at unit gain.

    Parameters
    ----------
    scalp : array of shape (n_electrodes, n_generators)
        Average-referenced scalp potential of each unit generator, volts.
    contacts : array of shape (n_contacts, n_generators)
        Contact potential of each unit generator, volts.

    Returns
    -------
    prior_std : array of shape (n_contacts,)
        Standard deviation of the contact potentials in volts.
    scalp_std : array of shape (n_electrodes,)
        Standard deviation of the scalp potentials with noise of sensors and head model,
        in volts.
    """
    field, signal = ((part.astype(float) ** 2).sum(1) for part in (contacts, scalp))
    return (
        np.sqrt(field + LOCAL_STD**2),
        np.sqrt((1 + HEAD_ERROR**2) * signal + SENSOR_STD**2),
    )


def posterior_from_fields(scalp, contacts, rois, noise=None):
    """Condition contact potentials on scalp potentials.

    Parameters
    ----------
    scalp : array of shape (n_electrodes, n_generators)
        Average-referenced scalp potential of each unit generator, volts.
    contacts : array of shape (n_contacts, n_generators)
        Contact potential of each unit generator, volts.
    rois : array of shape (n_rois, n_generators)
        Cortical virtual sensors of each unit generator.
    noise : array of shape (n_electrodes,) | None
        The standard deviation of the scalp noise at unit gain in volts. None takes that
        of sensor noise and of the error of a template head.

    Returns
    -------
    posterior : SpatialPosterior
        The exact Gaussian posterior.
    """
    scalp, contacts, rois = (np.asarray(a, float) for a in (scalp, contacts, rois))
    signal = scalp @ scalp.T
    if noise is None:
        noise = np.sqrt(SENSOR_STD**2 + HEAD_ERROR**2 * np.diag(signal))
    total = signal + np.diag(np.asarray(noise) ** 2)
    cross = contacts @ scalp.T
    operator = np.linalg.solve(total, cross.T).T
    explained = operator @ cross.T
    field = contacts @ contacts.T
    covariance = field - explained + LOCAL_STD**2 * np.eye(len(contacts))
    covariance = (covariance + covariance.T) / 2
    root, inverse_root = symmetric_roots(covariance)
    prior = np.diag(field) + LOCAL_STD**2
    roi_operator = np.linalg.solve(total, (rois @ scalp.T).T).T
    roi_spread = np.sqrt(np.einsum("re,ef,rf->r", roi_operator, total, roi_operator))
    return SpatialPosterior(
        operator=operator,
        covariance=covariance,
        root=root,
        inverse_root=inverse_root,
        mean_std=np.sqrt(np.maximum(np.diag(explained), 1e-18)),
        prior_std=np.sqrt(prior),
        observability=np.clip(np.diag(explained) / prior, 0, 1),
        roi_operator=roi_operator / roi_spread[:, None],
        scalp_std=np.sqrt(np.diag(total)),
        scalp_covariance=total,
    )


def spatial_posterior(electrodes, contacts, head=None, reference=None):
    """Compute the spatial posterior of contacts given scalp electrodes.

    Parameters
    ----------
    electrodes : array of shape (n_electrodes, 3)
        Electrode positions in metres, fsaverage surface RAS.
    contacts : array of shape (n_contacts, 3)
        Contact positions in metres, fsaverage surface RAS.
    head : Head | None
        None takes the template head.
    reference : array of shape (n_electrodes, n_electrodes) | None
        The linear map of the recording's reference and projectors. None is the average
        reference.

    Returns
    -------
    posterior : SpatialPosterior
        The posterior at unit gain. Multiply by the gain of the recording.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.head.geometry import load_head
    >>> head = load_head()
    >>> electrodes = head.scalp.rr[::20]
    >>> posterior = spatial_posterior(electrodes, [[-0.025, -0.02, -0.018]])
    >>> bool(0 <= posterior.observability[0] < 1)
    True
    """
    head = load_head() if head is None else head
    factor = source_generators(head).factor
    contacts = np.asarray(contacts, float)
    scalp = scalp_lead_field(head, electrodes)
    scalp = average_reference(scalp) if reference is None else reference @ scalp
    deep = contact_lead_field(head, contacts)
    scalp, deep = (field.astype(np.float32) @ factor for field in (scalp, deep))
    return posterior_from_fields(scalp, deep, roi_gains(head))
