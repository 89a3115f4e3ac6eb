"""Lead fields of scalp electrodes and of intracranial contacts.

Both are computed from the surface potentials in the head table. New electrodes and
contacts need no new forward solution.
"""

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from .geometry import TriangleGeometry, project_to_scalp, ray_lengths

# A depth electrode's contact is a cylinder, 1.3 mm thick and 1.6 mm long. It averages
# the potential over its surface, and its distance from a neuron is at least its radius
# plus the insulated rim. Dipoles nearer than this are spread over a ball of this
# radius.
CONTACT_MINIMUM_DISTANCE = 2.5e-3

# Nearer than this to the inner skull, the potential depends on the individual triangles
# of the surface.
CONTACT_MINIMUM_DEPTH = 1e-3

# At an insulating wall, a dipole and its mirror image contribute equally. The skull is
# nearly insulating, so the potential on the inner skull is about twice that in an
# infinite brain. The head table contains the difference.
IMAGE_FACTOR = 2.0

_CHUNK = 32


def scalp_lead_field(head, electrodes):
    """Compute the scalp potential of every source patch.

    Parameters
    ----------
    head : Head
        The head.
    electrodes : array_like, shape (n_electrodes, 3)
        Positions in metres in the frame of the head. They are projected to the
        nearest points of the scalp.

    Returns
    -------
    lead_field : ndarray, shape (n_electrodes, n_patches)
        Volts per ampere metre, against a reference at infinity.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import load_head
    >>> from mne_neuroflow.head.leadfield import scalp_lead_field
    >>> head = load_head()
    >>> lead_field = scalp_lead_field(head, [[0.0, -0.02, 0.11]])
    >>> lead_field.shape == (1, head.n_patches)
    True
    """
    triangle, weights, _, _ = project_to_scalp(head, electrodes)
    corners = head.scalp.tris[triangle]
    at_electrodes = np.einsum(
        "ek,ekr->er", weights, head.phi_nodes[corners].astype(float)
    )
    return at_electrodes @ head.phi_patches.astype(float)


def contact_lead_field(head, contacts):
    """Compute the potential of every source patch inside the brain.

    Parameters
    ----------
    head : Head
        The head.
    contacts : array_like, shape (n_contacts, 3)
        Positions in metres in the frame of the head, inside the inner skull. Contacts
        outside, or less than 1 mm inside, are moved to 1 mm inside, along the ray from
        the centre of the head, because a template's skull is not more accurate.

    Returns
    -------
    lead_field : ndarray, shape (n_contacts, n_patches)
        Volts per ampere metre, against a reference at infinity.

    Notes
    -----
    This is the integral equation of Geselowitz, On bioelectric potentials in an
    inhomogeneous volume conductor, Biophys. J. 7 (1967) 1-11, equation 18: the
    potential in an infinite brain, plus the surface potentials weighted by the solid
    angles of the surfaces seen from the contact.

    Examples
    --------
    >>> from mne_neuroflow.head.geometry import load_head
    >>> from mne_neuroflow.head.leadfield import contact_lead_field
    >>> head = load_head()
    >>> lead_field = contact_lead_field(head, [[0.03, -0.02, -0.01]])
    >>> lead_field.shape == (1, head.n_patches)
    True
    """
    contacts = _pulled_inside(head.inner_skull, np.asarray(contacts, float))
    weights = surface_weights(contacts, head.surfaces, head.conductivity)
    lead_field = (weights @ head.phi_nodes) @ head.phi_patches.astype(float)
    on_inner_skull = weights[:, -len(head.inner_skull.rr) :]
    lead_field += on_inner_skull @ _inner_skull_images(head)
    lead_field += _patch_potential(head, contacts, CONTACT_MINIMUM_DISTANCE)
    return lead_field


def _pulled_inside(inner_skull, contacts):
    """Move contacts inside, by a continuous function of their positions."""
    centre = inner_skull.rr.mean(axis=0)
    rays = contacts - centre
    radii = np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-9)
    reach = ray_lengths(inner_skull, centre, rays / radii)[:, np.newaxis]
    return centre + rays * np.minimum(1, (reach - CONTACT_MINIMUM_DEPTH) / radii)


# enough for the template and the variants used in training
@lru_cache(maxsize=8)
def _inner_skull_images(head):
    """Compute the part of the inner skull's potential that the table leaves out."""
    images = IMAGE_FACTOR * _patch_potential(head, head.inner_skull.rr, 0.0)
    return images.astype(np.float32)


def _patch_potential(head, points, minimum_distance):
    return patch_potential(
        points,
        head.vertices,
        head.vertex_normals,
        head.vertex_weight,
        head.vertex_patch,
        conductivity=head.conductivity[-1],
        minimum_distance=minimum_distance,
    )


def patch_potential(
    points,
    vertices,
    vertex_normals,
    vertex_weight,
    vertex_patch,
    *,
    conductivity,
    minimum_distance=0.0,
):
    """Compute potentials of source patches in an infinite homogeneous conductor.

    Parameters
    ----------
    points : ndarray, shape (n_points, 3)
        The positions at which the potential is computed, in metres.
    vertices, vertex_normals : ndarray, shape (n_rows, 3)
        Positions in metres and orientations of the dipoles of all patches.
    vertex_weight, vertex_patch : ndarray, shape (n_rows,)
        The share of the patch moment and the patch of each dipole, in ascending order.
        Every patch has at least one dipole.
    conductivity : float
        Siemens per metre.
    minimum_distance : float
        See `infinite_medium_potential`.

    Returns
    -------
    potential : ndarray, shape (n_points, n_patches)
        Volts per ampere metre.
    """
    moments = vertex_normals * vertex_weight[:, np.newaxis]
    n_patches = vertex_patch[-1] + 1
    first_rows = np.searchsorted(vertex_patch, np.arange(n_patches))
    potential = np.empty((len(points), n_patches))
    for chunk in _chunks(len(points)):
        rows = infinite_medium_potential(
            points[chunk],
            vertices,
            moments,
            conductivity=conductivity,
            minimum_distance=minimum_distance,
        )
        potential[chunk] = np.add.reduceat(rows, first_rows, axis=1)
    return potential


def infinite_medium_potential(
    points, dipoles, moments, *, conductivity, minimum_distance=0.0
):
    """Compute potentials of dipoles in an infinite homogeneous conductor.

    Parameters
    ----------
    points : ndarray, shape (n_points, 3)
        The positions at which the potential is computed, in metres.
    dipoles : ndarray, shape (n_dipoles, 3)
        Dipole positions in metres.
    moments : ndarray, shape (n_dipoles, 3)
        Dipole moments in ampere metres.
    conductivity : float
        Siemens per metre.
    minimum_distance : float
        Dipoles closer than this act as if their moment were spread evenly over a ball
        of this radius, inside which the potential is linear. The potential thus remains
        finite and continuous.

    Returns
    -------
    potential : ndarray, shape (n_points, n_dipoles)
        Volts. Zero on a dipole, by symmetry.

    Notes
    -----
    ``p . d / (4 pi sigma |d|^3)`` with ``d`` from the dipole to the point (Malmivuo
    & Plonsey, Bioelectromagnetism, 1995, equation 8.12).
    """
    # Squared distances from dot products have an error of 1e-16 of 1e-2 square metres.
    # This is small compared with the squares of the distances that matter
    # (millimetres).
    squared = (
        np.sum(points**2, axis=1)[:, np.newaxis]
        + np.sum(dipoles**2, axis=1)
        - 2 * points @ dipoles.T
    )
    np.maximum(squared, max(minimum_distance**2, 1e-12), out=squared)
    potential = points @ moments.T
    potential -= np.sum(dipoles * moments, axis=1)
    potential /= squared
    potential /= np.sqrt(squared, out=squared)
    potential /= 4 * np.pi * conductivity
    return potential


def surface_weights(points, surfaces, conductivity):
    """Compute the weights of surface potentials for the potential inside the brain.

    Parameters
    ----------
    points : ndarray, shape (n_points, 3)
        Positions inside the innermost surface, in metres.
    surfaces : sequence of Surface
        Nested surfaces from the outside in.
    conductivity : array_like, shape (n_surfaces,)
        Conductivity just inside each surface in siemens per metre.

    Returns
    -------
    weights : ndarray, shape (n_points, n_nodes)
        Dimensionless weights of the node potentials of all surfaces. The sum of each
        row is one.
    """
    conductivity = np.asarray(conductivity, float)
    steps = np.diff(conductivity, prepend=0.0)
    factors = steps / (4 * np.pi * conductivity[-1])
    return np.hstack(
        [
            factor * node_solid_angles(points, surface)
            for factor, surface in zip(factors, surfaces, strict=True)
        ]
    )


def node_solid_angles(points, surface):
    """Compute solid angles weighted by the linear basis functions of the nodes.

    Parameters
    ----------
    points : ndarray, shape (n_points, 3)
        Positions in metres.
    surface : Surface
        The surface.

    Returns
    -------
    angles : ndarray, shape (n_points, n_nodes)
        In steradians. For a closed surface, the sum of each row is 4 pi inside.

    Notes
    -----
    de Munck, A linear discretization of the volume conductor boundary integral
    equation using analytically integrated elements, IEEE Trans. Biomed. Eng. 39
    (1992) 986-990: the weight of a corner is its barycentric weight at the foot of
    the perpendicular times the solid angle, plus line integrals along the edges.
    """
    triangles = TriangleGeometry(surface)
    nodes = surface.tris.ravel()
    gather = _incidence(nodes, len(surface.rr))
    angles = np.empty((len(points), len(surface.rr)))
    for chunk in _chunks(len(points)):
        corners = _corner_solid_angles(points[chunk], triangles)
        angles[chunk] = corners.reshape(len(corners), -1) @ gather
    return angles


def _corner_solid_angles(points, triangles):
    """Compute solid angles of the three linear basis functions of every triangle."""
    heights, distances = triangles.seen_from(points)
    whole = triangles.solid_angles(heights, distances)
    corners = triangles.barycentric(points) * whole[..., np.newaxis]
    edge_products = np.einsum("tix,tkx->tik", triangles.edges, triangles.edges)
    line_integrals = _edge_integrals(distances, triangles.edge_lengths)
    slopes = heights / triangles.double_areas
    corners += slopes[..., np.newaxis] * np.einsum(
        "pti,tik->ptk", line_integrals, edge_products
    )
    return corners


def _edge_integrals(distances, lengths):
    """Integrate the inverse distance along each edge, divided by the edge length."""
    ends = np.roll(distances, -1, axis=-1) + np.roll(distances, -2, axis=-1)
    # zero on the edge itself, where the height that multiplies the logarithm
    # vanishes as well
    gap = np.maximum(ends - lengths, 1e-12 * lengths)
    return np.log((ends + lengths) / gap) / lengths


def _incidence(nodes, n_nodes):
    """Return the matrix that sums corners of triangles at nodes."""
    index = np.arange(len(nodes))
    return csr_array((np.ones(len(nodes)), (index, nodes)), (len(nodes), n_nodes))


def _chunks(n_points):
    for start in range(0, n_points, _CHUNK):
        yield slice(start, start + _CHUNK)
