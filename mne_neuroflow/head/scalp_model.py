"""A montage in whitened coordinates: covariances from parcels, noise and artifacts.

This module knows the head's sources and the lead fields of electrodes. It does not know
how strong sources are in a recording, and no recordings.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial.distance import cdist

from .._threads import one_blas_thread
from .geometry import EYES, STRUCTURES, load_head
from .posterior import (
    HEAD_ERROR,
    SENSOR_STD,
    farthest_points,
    source_generators,
)

#: Structures on either side.
N_REGIONS = 2 * len(STRUCTURES)
# Generators of each length scale that share a parcel, cortical scales first.
_PER_PARCEL = {"short": 20, "long": 12, "volume": 280}
_NEAREST_EYE = 0.03
# Spatial scale of slow drift in metres.
_DRIFT_LENGTH = 0.06
# Directions of scalp EEG with less than this share of the maximum expected power are
# left out, such as the reference and projectors.
_RANK = 1e-9


@dataclass(frozen=True)
class Parcels:
    """Groups of generators with a common power.

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

    In each structure of each hemisphere, generators of the shortest length scale and
    those of the longer scales belong to different parcels.

    Parameters
    ----------
    head : Head | None
        The head. None takes the template head.

    Returns
    -------
    parcels : Parcels
        About 120 parcels.
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
                nearest = cdist(centre, centre[seeds]).argmin(1)
                index[here] = len(regions) + nearest
                regions += [region] * len(seeds)
    return Parcels(index, np.array(regions))


@dataclass(frozen=True)
class ScalpModel:
    """The model of scalp EEG with a montage, in whitened coordinates.

    Attributes
    ----------
    whitener : array of shape (rank, n_electrodes)
        Maps referenced potentials (volts) to unit expected covariance.
    sources : array of shape (rank, n_generators)
        Potential of each unit generator.
    products : array of shape (n_parcels, rank, rank)
        Covariance from each parcel at its expected power.
    noise : array of shape (rank, rank)
        Covariance of sensors and of the head model's error.
    electrodes : array of shape (rank, n_electrodes)
        Pattern of each electrode's own noise.
    artifacts : array of shape (n_artifacts, rank, rank)
        Covariance from eyes and from drift, with unit mean power.
    variance : array of shape (n_electrodes,)
        Expected variance of electrodes at unit gain, V².
    """

    whitener: np.ndarray
    sources: np.ndarray
    products: np.ndarray
    noise: np.ndarray
    electrodes: np.ndarray
    artifacts: np.ndarray
    variance: np.ndarray


@one_blas_thread
def scalp_model(fields, electrodes, reference=None):
    """Whiten a montage.

    Parameters
    ----------
    fields : array of shape (n_electrodes, n_generators)
        Potential of each unit generator at each electrode against infinity, volts.
    electrodes : array of shape (n_electrodes, 3)
        Positions in metres, fsaverage surface RAS.
    reference : array of shape (n_electrodes, n_electrodes) | None
        The linear map of the recording's reference and projectors. None is the average
        reference.

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
    """Return the covariance of eyes in three directions and of drift, (4, n, n)."""
    away = electrodes[:, None] - np.array(EYES)
    distance = np.linalg.norm(away, axis=-1, keepdims=True).clip(_NEAREST_EYE)
    # Berg & Scherg 1991, Electroencephalogr Clin Neurophysiol 79:36: a dipole in each
    # eye, both in the same direction.
    eyes = (away / distance**3).sum(1)
    shapes = np.zeros((4, len(electrodes), len(electrodes)))
    shapes[:3, :, 0] = eyes.T
    squares = cdist(electrodes, electrodes, "sqeuclidean")
    smooth = np.exp(-squares / (2 * _DRIFT_LENGTH**2))
    shapes[3] = np.linalg.cholesky(smooth + 1e-6 * np.eye(len(electrodes)))
    return shapes
