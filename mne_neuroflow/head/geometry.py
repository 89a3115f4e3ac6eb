"""The template head: surfaces, source patches and solved surface potentials.

All coordinates are in metres, in fsaverage surface RAS. For fsaverage, this is the same
as MNE's ``'mri'`` and ``'mni_tal'`` frames.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

TABLE = Path(__file__).parent / "data" / "fsaverage_head.npz"

# A contact farther than this from every source is in white matter, in a ventricle or in
# a structure without sources. Cortex is 2-4 mm thick, and its sources are at half depth
# and about 3 mm apart, so 8 mm leaves a margin.
NEAREST_STRUCTURE_LIMIT = 8e-3
ELSEWHERE = "white matter/other"
#: Structures with sources, the medial temporal lobe first.
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
#: Positions of the eyes in metres, fsaverage surface RAS. Two vertical dipoles here
#: explain the mean blink of the bundled recording with a residual of 17 µV r.m.s., of
#: 211 µV at Fp1.
EYES = ((-0.03, 0.055, -0.04), (0.03, 0.055, -0.04))

SURFACES = ("scalp", "outer_skull", "inner_skull")
_STORED_AS_THEY_ARE = (
    "vertices",
    "vertex_normals",
    "vertex_weight",
    "vertex_patch",
    "patch_centres",
    "patch_normals",
    "patch_area",
    "patch_volume",
    "patch_hemisphere",
    "patch_structure",
    "head_to_mri",
    "conductivity",
)

# Number of points computed at once. With 1280 triangles per surface, temporary arrays
# are smaller than 50 MB.
_CHUNK = 128


@dataclass(frozen=True)
class Surface:
    """A closed triangulated surface.

    Attributes
    ----------
    rr : ndarray, shape (n_nodes, 3)
        Node positions in metres.
    tris : ndarray of int, shape (n_triangles, 3)
        Nodes of each triangle, anticlockwise seen from outside.
    """

    rr: np.ndarray
    tris: np.ndarray


# Compared and hashed by identity, so that results for a head can be cached.
@dataclass(frozen=True, eq=False)
class Head:
    """Geometry, sources and solved surface potentials of a three-layer head.

    Each row is an elementary dipole with a position, a unit orientation and a weight. A
    patch is a set of rows with a common moment. The weights of a patch sum to one, so
    that lead fields are in volts per ampere metre of patch moment.

    Attributes
    ----------
    scalp, outer_skull, inner_skull : Surface
        The three surfaces, 642 nodes each in the shipped table.
    vertices : ndarray, shape (n_rows, 3)
        Dipole positions in metres, sorted by patch.
    vertex_normals : ndarray, shape (n_rows, 3)
        Unit dipole orientations: the cortical normal (white matter to pia), or x,
        y or z for volume sources.
    vertex_weight : ndarray, shape (n_rows,)
        Share of the patch moment that the row carries.
    vertex_patch : ndarray of int, shape (n_rows,)
        Patch of each row, ascending.
    patch_centres : ndarray, shape (n_patches, 3)
        Weighted mean position in metres.
    patch_normals : ndarray, shape (n_patches, 3)
        Unit mean orientation.
    patch_area : ndarray, shape (n_patches,)
        Cortical area in square metres; ``nan`` for volume sources.
    patch_volume : ndarray, shape (n_patches,)
        Grey-matter volume in cubic metres of a volume source's voxel; ``nan`` for
        cortex.
    patch_hemisphere : ndarray of int, shape (n_patches,)
        -1 left, +1 right.
    patch_structure : ndarray of str, shape (n_patches,)
        ``'hippocampus'``, ``'amygdala'``, ``'parahippocampal'``,
        ``'temporal-lateral'``, ``'frontal'``, ``'parietal'``, ``'occipital'`` or
        ``'insula'``.
    phi_nodes : ndarray, shape (n_nodes, rank)
        Left factor of the smooth part of the surface potentials, nodes of scalp,
        outer skull and inner skull in this order.
    phi_patches : ndarray, shape (rank, n_patches)
        Right factor: ``phi_nodes @ phi_patches`` is in volts per ampere metre. On the
        inner skull, ``leadfield.IMAGE_FACTOR`` times the potential in an infinite brain
        must be added.
    head_to_mri : ndarray, shape (4, 4)
        From fsaverage's head frame to this frame.
    conductivity : ndarray, shape (3,)
        Scalp, skull and brain, in siemens per metre.
    """

    scalp: Surface
    outer_skull: Surface
    inner_skull: Surface
    vertices: np.ndarray
    vertex_normals: np.ndarray
    vertex_weight: np.ndarray
    vertex_patch: np.ndarray
    patch_centres: np.ndarray
    patch_normals: np.ndarray
    patch_area: np.ndarray
    patch_volume: np.ndarray
    patch_hemisphere: np.ndarray
    patch_structure: np.ndarray
    phi_nodes: np.ndarray
    phi_patches: np.ndarray
    head_to_mri: np.ndarray
    conductivity: np.ndarray

    @property
    def surfaces(self):
        """The surfaces from the outside in, the order of ``phi_nodes``.

        Returns
        -------
        surfaces : tuple of Surface
            Scalp, outer skull and inner skull.
        """
        return self.scalp, self.outer_skull, self.inner_skull

    @property
    def n_patches(self):
        """Number of source patches.

        Returns
        -------
        n_patches : int
            Cortical patches plus three for each voxel of the volume sources.
        """
        return len(self.patch_centres)


def load_head(fname=None):
    """Read a head table.

    Parameters
    ----------
    fname : path-like | None
        A table made by ``tools/build_head.py``. ``None`` is the template head that
        ships with the package. It is read once and shared between callers.

    Returns
    -------
    head : Head
        The head.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import load_head
    >>> load_head().conductivity
    array([0.3  , 0.006, 0.3  ])
    """
    return _read_table(TABLE if fname is None else Path(fname))


# enough for the template and the variants used in training
@lru_cache(maxsize=8)
def _read_table(fname):
    with np.load(fname, allow_pickle=False) as table:
        stored = {name: table[name] for name in table.files}
    phi_nodes = stored["phi_nodes"].astype(np.float32)
    phi_patches = stored["phi_patches"].astype(np.float32)
    head = Head(
        **{name: _read_surface(stored, name) for name in SURFACES},
        **{name: _widen(stored[name]) for name in _STORED_AS_THEY_ARE},
        phi_nodes=phi_nodes,
        phi_patches=phi_patches * stored["phi_patch_scale"],
    )
    _forbid_writing(head)
    return head


def _read_surface(stored, name):
    return Surface(_widen(stored[f"{name}_rr"]), _widen(stored[f"{name}_tris"]))


def _widen(array):
    """Convert the small types of the file to float64 and int64."""
    wide = {"f": np.float64, "i": np.int64, "u": np.int64, "U": array.dtype}
    return array.astype(wide[array.dtype.kind])


def _forbid_writing(head):
    # The head is shared between callers, so none of them may change it.
    for value in vars(head).values():
        arrays = vars(value).values() if isinstance(value, Surface) else [value]
        for array in arrays:
            array.flags.writeable = False


def solid_angles(points, surface):
    """Compute the solid angles of the triangles of a surface, seen from points.

    Parameters
    ----------
    points : ndarray, shape (n_points, 3)
        Positions in metres.
    surface : Surface
        The surface.

    Returns
    -------
    angles : ndarray, shape (n_points, n_triangles)
        Signed solid angles in steradians, positive for a point on the inner side. Over
        a closed surface they sum to 4 pi inside and to 0 outside.

    Notes
    -----
    van Oosterom & Strackee, The solid angle of a plane triangle, IEEE Trans.
    Biomed. Eng. 30 (1983) 125-126, equation 8. The dot products are written with
    squared edge lengths, which needs only the distances to the nodes.
    """
    triangles = TriangleGeometry(surface)
    return triangles.solid_angles(*triangles.seen_from(points))


class TriangleGeometry:
    """Geometry of the triangles of one surface, for integrals over them.

    Parameters
    ----------
    surface : Surface
        The surface.
    """

    def __init__(self, surface):
        self.surface = surface
        corners = surface.rr[surface.tris]
        # edge k lies opposite corner k and runs from corner k+1 to corner k+2
        self.edges = np.roll(corners, -2, axis=1) - np.roll(corners, -1, axis=1)
        self.edge_lengths = np.linalg.norm(self.edges, axis=-1)
        normals = np.cross(self.edges[:, 2], -self.edges[:, 1])
        self.double_areas = np.linalg.norm(normals, axis=-1)
        self.normals = normals / self.double_areas[:, np.newaxis]
        self.offsets = np.sum(corners[:, 0] * self.normals, axis=-1)
        # gradient of the linear function that is one at corner k, zero on edge k
        self.gradients = np.cross(self.normals[:, np.newaxis], self.edges)
        self.gradients /= self.double_areas[:, np.newaxis, np.newaxis]
        self.constants = -np.sum(self.gradients * np.roll(corners, -1, axis=1), axis=-1)

    def barycentric(self, points):
        """Compute the barycentric weights of the feet of the perpendiculars.

        Parameters
        ----------
        points : ndarray, shape (n_points, 3)
            Positions in metres.

        Returns
        -------
        weights : ndarray, shape (n_points, n_triangles, 3)
            They sum to one. Some are negative if a foot is outside its triangle.
        """
        return np.tensordot(points, self.gradients, (1, 2)) + self.constants

    def seen_from(self, points):
        """Compute the distances of points from triangles.

        Parameters
        ----------
        points : ndarray, shape (n_points, 3)
            Positions in metres.

        Returns
        -------
        heights : ndarray, shape (n_points, n_triangles)
            Distance from the point to the plane of the triangle along the outward
            normal, in metres. It is positive for a point on the inner side.
        distances : ndarray, shape (n_points, n_triangles, 3)
            Distances to the corners in metres.
        """
        heights = self.offsets - points @ self.normals.T
        to_nodes = np.linalg.norm(
            self.surface.rr[np.newaxis] - points[:, np.newaxis], axis=-1
        )
        return heights, to_nodes[:, self.surface.tris]

    def solid_angles(self, heights, distances):
        """Compute the solid angle of each triangle.

        Parameters
        ----------
        heights, distances : ndarray
            Results of `seen_from`.

        Returns
        -------
        angles : ndarray, shape (n_points, n_triangles)
            See the function `solid_angles`.
        """
        squared = distances**2
        # twice the dot product of the rays to the two ends of each edge
        dots = np.roll(squared, -1, axis=-1) + np.roll(squared, -2, axis=-1)
        dots -= self.edge_lengths**2
        denominator = np.prod(distances, axis=-1)
        denominator += np.einsum("ptk,ptk->pt", distances, dots) / 2
        return 2 * np.arctan2(heights * self.double_areas, denominator)


def encloses(surface, rr):
    """Return which points a closed surface encloses.

    Parameters
    ----------
    surface : Surface
        The surface.
    rr : array_like, shape (n_points, 3)
        Positions in metres.

    Returns
    -------
    inside : ndarray of bool, shape (n_points,)
        ``True`` inside. A point that is not finite is not inside.
    """
    rr = np.asarray(rr, float)
    inside = np.zeros(len(rr), bool)
    finite = np.flatnonzero(np.isfinite(rr).all(axis=1))
    for chunk in np.array_split(finite, 1 + len(rr) // _CHUNK):
        inside[chunk] = solid_angles(rr[chunk], surface).sum(axis=1) > 2 * np.pi
    return inside


def ray_lengths(surface, centre, rays):
    """Compute the distance of a surface from a point inside, along rays.

    Parameters
    ----------
    surface : Surface
        A closed surface.
    centre : ndarray, shape (3,)
        A point inside, in metres.
    rays : ndarray, shape (n_rays, 3)
        Unit vectors.

    Returns
    -------
    lengths : ndarray, shape (n_rays,)
        Distance in metres at which each ray leaves the surface for the last time.
    """
    # a ray crosses a triangle if the barycentric weights of all corners are positive
    inverse = np.linalg.inv(surface.rr[surface.tris] - centre)
    lengths = np.empty(len(rays))
    for start in range(0, len(rays), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        weights = np.einsum("px,txk->ptk", rays[chunk], inverse)
        sums = weights.sum(axis=-1)
        crossing = (weights > -1e-9).all(axis=-1) & (sums > 0)
        lengths[chunk] = 1 / np.where(crossing, sums, np.inf).min(axis=1)
    return lengths


def inside_brain(head, rr):
    """Return which points are inside the inner skull.

    Parameters
    ----------
    head : Head
        The head.
    rr : array_like, shape (n_points, 3)
        Positions in metres, in the frame of the head.

    Returns
    -------
    inside : ndarray of bool, shape (n_points,)
        ``True`` where the inner skull encloses the point. A point that is not
        finite is not inside.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import inside_brain, load_head
    >>> inside_brain(load_head(), [[0.03, -0.02, -0.01], [0.0, 0.0, 0.2]])
    array([ True, False])
    """
    return encloses(head.inner_skull, rr)


def project_to_scalp(head, rr):
    """Find the nearest points of the scalp.

    Parameters
    ----------
    head : Head
        The head.
    rr : array_like, shape (n_points, 3)
        Positions in metres, in the frame of the head.

    Returns
    -------
    triangle : ndarray of int, shape (n_points,)
        Scalp triangle that contains the nearest point.
    weights : ndarray, shape (n_points, 3)
        Barycentric weights of its corners, not negative, with sum one.
    projected : ndarray, shape (n_points, 3)
        The nearest points in metres.
    distance : ndarray, shape (n_points,)
        Distance of the points from the scalp in metres.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import load_head, project_to_scalp
    >>> triangle, weights, projected, distance = project_to_scalp(
    ...     load_head(), [[0.0, -0.02, 0.11]]
    ... )
    >>> weights.shape
    (1, 3)
    """
    rr = np.ascontiguousarray(rr, float)
    return tuple(array.copy() for array in _projected(head, rr.tobytes()))


@lru_cache(maxsize=8)
def _projected(head, places):
    """Cache the last results, because the same montage is projected repeatedly."""
    rr = np.frombuffer(places).reshape(-1, 3)
    parts = [
        _nearest_on_triangles(chunk, head.scalp)
        for chunk in np.array_split(rr, 1 + len(rr) // _CHUNK)
    ]
    triangle = np.concatenate([part[0] for part in parts])
    weights = np.concatenate([part[1] for part in parts])
    corners = head.scalp.rr[head.scalp.tris[triangle]]
    projected = np.einsum("pk,pkx->px", weights, corners)
    return triangle, weights, projected, np.linalg.norm(projected - rr, axis=-1)


def _nearest_on_triangles(points, surface):
    """Find the nearest triangle of each point, and weights of the nearest point in it.

    The nearest point of a triangle is the foot of the perpendicular if that is inside,
    and otherwise the nearest point of an edge.
    """
    triangles = TriangleGeometry(surface)
    corners = surface.rr[surface.tris]
    nearest = np.full(len(points), np.inf)
    best = np.zeros(len(points), int)
    best_weights = np.zeros((len(points), 3))
    index = np.arange(len(points))
    for weights in _candidate_weights(points, triangles):
        feet = np.einsum("ptk,tkx->ptx", weights, corners)
        squared = np.sum((feet - points[:, np.newaxis]) ** 2, axis=-1)
        squared[(weights < 0).any(axis=-1)] = np.inf
        triangle = squared.argmin(axis=1)
        closer = squared[index, triangle] < nearest
        nearest[closer] = squared[index, triangle][closer]
        best[closer] = triangle[closer]
        best_weights[closer] = weights[index, triangle][closer]
    return best, best_weights


def _candidate_weights(points, triangles):
    """Yield weights of the perpendicular's foot and of the nearest edge points."""
    yield triangles.barycentric(points)
    corners = triangles.surface.rr[triangles.surface.tris]
    for edge in range(3):
        start, stop = (edge + 1) % 3, (edge + 2) % 3
        along = triangles.edges[:, edge] / triangles.edge_lengths[:, [edge]] ** 2
        share = points @ along.T - np.sum(corners[:, start] * along, axis=-1)
        share = np.clip(share, 0, 1)
        weights = np.zeros((*share.shape, 3))
        weights[..., start] = 1 - share
        weights[..., stop] = share
        yield weights


def nearest_distance(points, others):
    """Return the distance of each point to the nearest of the others, (n_points,)."""
    return cdist(points, others).min(axis=1)


def nearest_structure(head, rr):
    """Name the structure with the nearest source.

    Parameters
    ----------
    head : Head
        The head.
    rr : array_like, shape (n_points, 3)
        Positions in metres, in the frame of the head.

    Returns
    -------
    names : ndarray of str, shape (n_points,)
        A structure of ``head.patch_structure``, or ``'white matter/other'`` where
        no source lies within 8 mm.
    distance : ndarray, shape (n_points,)
        Distance to the nearest source in metres.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import load_head, nearest_structure
    >>> names, distance = nearest_structure(load_head(), [[0.027, -0.02, -0.015]])
    >>> str(names[0])
    'hippocampus'
    """
    distance, row = cKDTree(head.vertices).query(np.asarray(rr, float))
    names = head.patch_structure[head.vertex_patch[row]]
    return np.where(distance <= NEAREST_STRUCTURE_LIMIT, names, ELSEWHERE), distance


def structure_shares(head, rr, radius):
    """Compute the share of each structure in balls around points.

    Parameters
    ----------
    head : Head
        The head.
    rr : array_like, shape (n_points, 3)
        Positions in metres, in the frame of the head.
    radius : float
        Radius of the balls in metres.

    Returns
    -------
    names : list of str
        The structures of the head, and ``'white matter/other'``.
    shares : ndarray, shape (n_points, n_structures)
        Share of the ball in each structure, as given by :func:`nearest_structure` on a
        grid of points 1 mm apart. Each row sums to one. If the true position is equally
        likely everywhere in the ball, the shares are the probabilities of the labels.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import load_head, structure_shares
    >>> names, shares = structure_shares(load_head(), [[0.027, -0.02, -0.015]], 3e-3)
    >>> bool(shares[0, names.index("hippocampus")] > 0.5)
    True
    """
    n = round(1e3 * radius)
    steps = np.arange(-n, n) + 0.5
    offsets = 1e-3 * np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets, axis=1) <= radius]
    points = np.asarray(rr, float)[:, np.newaxis] + offsets
    labels, _ = nearest_structure(head, points.reshape(-1, 3))
    labels = labels.reshape(points.shape[:2])
    names = [*map(str, np.unique(head.patch_structure)), ELSEWHERE]
    return names, np.stack([(labels == name).mean(axis=1) for name in names], axis=1)
