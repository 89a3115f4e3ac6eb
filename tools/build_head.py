"""Build the template head table that ships with mne_neuroflow.

Needs MNE and nilearn, whose wheels contain fsaverage's surfaces. Nothing is
downloaded. The shipped table is the output of ``python tools/build_head.py``.
doc/decisions/head-model.md describes the choices and their reasons.
"""

import argparse
import csv
import itertools
from importlib.metadata import version
from pathlib import Path

import mne
import nilearn
import numpy as np
from mne.io.constants import FIFF
from nilearn.surface import load_surf_data, load_surf_mesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from mne_neuroflow.head.geometry import (
    SURFACES,
    TABLE,
    Surface,
    ray_lengths,
    solid_angles,
)
from mne_neuroflow.head.leadfield import (
    IMAGE_FACTOR,
    patch_potential,
    surface_weights,
)

MTL_POINTS = Path(__file__).parent / "fsaverage_mtl_points.csv"
FSAVERAGE = Path(mne.__file__).parent / "data" / "fsaverage"
FSAVERAGE5 = Path(nilearn.__file__).parent / "datasets" / "data" / "fsaverage5"

# Inside the head of fsaverage; both skull and scalp are star-shaped around it.
CENTRE = np.array([0.0, -0.015, 0.015])
ICO_GRADE = 3
MINIMUM_SCALP_THICKNESS = 2e-3
BRAIN_AND_SCALP_CONDUCTIVITY = 0.3
SKULL_CONDUCTIVITY = 0.006
OUTER_SKULL_GAP = 5e-3

# Number of cortical patches in both hemispheres, and how much smaller their diameter is
# in the temporal lobe, where the contacts are.
N_CORTICAL_PATCHES = 2400
TEMPORAL_DENSITY = 1.6
# fsaverage's average thickness falls to zero over the medial wall, and nowhere
# in cortex below 1.2 mm over such a large connected area.
MEDIAL_WALL_THICKNESS = 1.2e-3

VOXEL = 3e-3  # spacing of the hippocampus and amygdala points

# Singular vectors kept, and the spacing of the points inside the brain for which
# they are chosen: see doc/decisions/head-model.md for the accuracy.
RANK = 300
BRAIN_GRID = 8e-3
# Scales the factors, in volts per ampere metre, to the range of half precision.
NARROW_SCALE = 100.0
# Weight of an electrode's error relative to that of a point inside the brain.
SCALP_EMPHASIS = 3.0


# ---------------------------------------------------------------------------
# surfaces


def build_surfaces(outer_skull_gap):
    """Make scalp, outer skull and inner skull as nested 642-node surfaces."""
    inner = _read_surface("fsaverage-inner_skull-bem.fif")
    scalp = _read_surface("fsaverage-head.fif")
    sphere = unit_sphere()
    tris = sphere.tris
    inner_radii = ray_lengths(inner, CENTRE, sphere.rr)
    inner_rr = CENTRE + sphere.rr * inner_radii[:, np.newaxis]
    normals = _node_normals(inner_rr, tris)
    outer_rr = inner_rr + outer_skull_gap * normals
    rays = outer_rr - CENTRE
    outer_radii = np.linalg.norm(rays, axis=1)
    rays /= outer_radii[:, np.newaxis]
    scalp_radii = np.maximum(
        ray_lengths(scalp, CENTRE, rays), outer_radii + MINIMUM_SCALP_THICKNESS
    )
    scalp_rr = CENTRE + rays * scalp_radii[:, np.newaxis]
    return [Surface(rr, tris) for rr in (scalp_rr, outer_rr, inner_rr)]


def unit_sphere():
    """Make an icosahedron with each edge halved three times."""
    surface = mne.surface._get_ico_surface(ICO_GRADE)
    return Surface(surface["rr"], surface["tris"])


def _read_surface(fname):
    surface = mne.read_bem_surfaces(FSAVERAGE / fname, verbose="error")[0]
    return Surface(surface["rr"].astype(float), surface["tris"])


def _node_normals(rr, tris):
    corners = rr[tris]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros_like(rr)
    np.add.at(sums, tris.ravel(), np.repeat(normals, 3, axis=0))
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


# ---------------------------------------------------------------------------
# sources


def build_cortex(side, mtl_points):
    """Return mid-surface vertices of one hemisphere, without the medial wall."""
    pia = load_surf_mesh(FSAVERAGE5 / f"pial_{side}.gii.gz")
    white = load_surf_mesh(FSAVERAGE5 / f"white_{side}.gii.gz")
    thickness = load_surf_data(FSAVERAGE5 / f"thick_{side}.gii.gz") * 1e-3
    tris = pia.faces.astype(int)
    rr = (pia.coordinates + white.coordinates).astype(float) / 2 * 1e-3
    edges = np.unique(
        np.sort(np.vstack([tris[:, [0, 1]], tris[:, [1, 2]], tris[:, [2, 0]]]), axis=1),
        axis=0,
    )
    keep = ~_medial_wall(thickness, edges) & ~_inside_voxels(rr, mtl_points)
    return {
        "rr": rr,
        "nn": _node_normals(rr, tris),
        "area": _node_areas(rr, tris),
        "edges": edges[keep[edges].all(axis=1)],
        "keep": keep,
        "structure": label_cortex(rr),
    }


def _node_areas(rr, tris):
    corners = rr[tris]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    return np.bincount(tris.ravel(), np.repeat(areas / 6, 3), minlength=len(rr))


def _medial_wall(thickness, edges):
    """Find the largest connected area of vanishing thickness, and its rim."""
    thin = thickness < MEDIAL_WALL_THICKNESS
    inside = edges[thin[edges].all(axis=1)]
    _, label = connected_components(_graph(inside, len(thin)), directed=False)
    wall = label == np.bincount(label[thin]).argmax()
    touching = edges[wall[edges].any(axis=1)]
    wall[touching.ravel()] = True
    return wall


def _graph(edges, n_nodes, lengths=None):
    lengths = np.ones(len(edges)) if lengths is None else lengths
    return coo_array((lengths, edges.T), (n_nodes, n_nodes)).tocsr()


def _inside_voxels(rr, points):
    """Leave out cortex inside hippocampus and amygdala voxels, to count it once."""
    nearest, _ = cKDTree(points).query(rr, p=np.inf)
    return nearest <= VOXEL / 2


def label_cortex(rr):
    """Name the lobe of each cortical position by coordinate rules."""
    x, y, z = np.abs(rr[:, 0]) * 1e3, rr[:, 1] * 1e3, rr[:, 2] * 1e3
    # central sulcus: from the midline back to the opercula in front
    central = np.interp(x, [0, 38, 65], [-32, -22, -8])
    # parieto-occipital sulcus on the medial, preoccipital notch on the lateral side
    parieto_occipital = -62 - 0.6 * np.clip(z - 10, 0, None)
    # Sylvian fissure, from its stem below the frontal lobe to the parietal operculum
    sylvian = np.interp(y, [-60, -40, -20, 0, 12, 24], [24, 20, 8, -3, -14, -21])
    labels = np.where(y > central, "frontal", "parietal").astype("U16")
    # posterior orbital cortex lies as low as the Sylvian fissure's stem
    orbital = (y > -2) & (x < 33) & (z > -22)
    temporal = (z < sylvian) & (x > 16) & ~orbital
    labels[temporal] = "temporal-lateral"
    insula = (x > 27) & (x < 43) & (y > -22) & (y < 22) & (z > -12) & (z < 18)
    labels[insula & ((x < 39) | (z > sylvian))] = "insula"
    labels[y < parieto_occipital] = "occipital"
    labels[is_parahippocampal(rr)] = "parahippocampal"
    return labels


def is_parahippocampal(rr):
    """Entorhinal, perirhinal and parahippocampal cortex."""
    x, y, z = np.abs(rr[:, 0]) * 1e3, rr[:, 1] * 1e3, rr[:, 2] * 1e3
    lateral = np.interp(y, [-42, -20, 2], [31, 34, 36])
    top = np.interp(y, [-42, -20, 2], [-2, -14, -20])
    bottom = np.interp(y, [-42, -20, 2], [-18, -32, -42])
    return (y > -42) & (y < 3) & (x > 10) & (x < lateral) & (z < top) & (z > bottom)


def assign_patches(cortex, n_patches):
    """Split kept vertices into patches of about equal geodesic size.

    Seeds are selected by farthest-point sampling along edges, whose lengths are
    increased in the temporal lobe. Each vertex then belongs to its nearest seed.
    """
    rr, edges = cortex["rr"], cortex["edges"]
    temporal = np.isin(cortex["structure"], ["temporal-lateral", "parahippocampal"])
    lengths = np.linalg.norm(rr[edges[:, 0]] - rr[edges[:, 1]], axis=1)
    lengths = lengths * np.where(temporal[edges].any(axis=1), TEMPORAL_DENSITY, 1.0)
    graph = _graph(edges, len(rr), lengths)
    kept = np.flatnonzero(cortex["keep"])
    seed = kept[0]
    reach = np.full(len(rr), np.inf)
    patch = np.full(len(rr), -1)
    for index in range(n_patches):
        farthest = reach[kept].max()
        distance = dijkstra(graph, directed=False, indices=seed, limit=farthest)
        closer = distance < reach
        reach[closer] = distance[closer]
        patch[closer] = index
        seed = kept[reach[kept].argmax()]
    return patch


def build_sources(mtl_points, mtl_structures, mtl_hemisphere):
    """Collect the rows of all patches."""
    hemispheres = [build_cortex(side, mtl_points) for side in ("left", "right")]
    kept = np.array([h["keep"].sum() for h in hemispheres])
    counts = np.round(N_CORTICAL_PATCHES * kept / kept.sum()).astype(int)
    parts = []
    for sign, cortex, count in zip((-1, 1), hemispheres, counts, strict=True):
        parts.append(_cortical_rows(cortex, assign_patches(cortex, count), sign))
    parts.append(_volume_rows(mtl_points, mtl_structures, mtl_hemisphere))
    first = np.cumsum([0] + [len(part["patch_structure"]) for part in parts])
    for part, offset in zip(parts, first[:-1], strict=True):
        part["vertex_patch"] = part["vertex_patch"] + offset
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _cortical_rows(cortex, patch, sign):
    rows = np.flatnonzero(patch >= 0)
    rows = rows[np.argsort(patch[rows], kind="stable")]
    patch = np.unique(patch[rows], return_inverse=True)[1]
    area = cortex["area"][rows]
    patch_area = np.bincount(patch, area)
    weight = area / patch_area[patch]
    centres = _sum_by(patch, cortex["rr"][rows] * weight[:, np.newaxis])
    normals = _sum_by(patch, cortex["nn"][rows] * weight[:, np.newaxis])
    return {
        "vertices": cortex["rr"][rows],
        "vertex_normals": cortex["nn"][rows],
        "vertex_weight": weight,
        "vertex_patch": patch,
        "patch_centres": centres,
        "patch_normals": normals / np.linalg.norm(normals, axis=1, keepdims=True),
        "patch_area": patch_area,
        "patch_volume": np.full(len(patch_area), np.nan),
        "patch_hemisphere": np.full(len(patch_area), sign),
        "patch_structure": _majority(patch, cortex["structure"][rows]),
    }


def _sum_by(group, values):
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return sums


def _majority(group, names):
    kinds, index = np.unique(names, return_inverse=True)
    counts = np.zeros((group.max() + 1, len(kinds)))
    np.add.at(counts, (group, index), 1)
    return kinds[counts.argmax(axis=1)]


def _volume_rows(points, structures, hemisphere):
    """Make three orthogonal patches per voxel, each spread over eight sub-voxels."""
    corners = np.array(list(itertools.product((-0.25, 0.25), repeat=3))) * VOXEL
    n_patches = 3 * len(points)
    vertices = np.repeat(points[:, np.newaxis] + corners, 3, axis=0).reshape(-1, 3)
    normals = np.tile(np.eye(3), (len(points), 1))
    return {
        "vertices": vertices,
        "vertex_normals": np.repeat(normals, len(corners), axis=0),
        "vertex_weight": np.full(len(vertices), 1 / len(corners)),
        "vertex_patch": np.repeat(np.arange(n_patches), len(corners)),
        "patch_centres": np.repeat(points, 3, axis=0),
        "patch_normals": normals,
        "patch_area": np.full(n_patches, np.nan),
        "patch_volume": np.full(n_patches, VOXEL**3),
        "patch_hemisphere": np.repeat(hemisphere, 3),
        "patch_structure": np.repeat(structures, 3),
    }


def read_mtl_points(fname=MTL_POINTS):
    """Return hippocampus and amygdala points: metres, structures, hemispheres."""
    with open(fname, newline="") as file:
        rows = list(csv.DictReader(file))
    points = np.array([[float(row[axis]) for axis in "xyz"] for row in rows]) * 1e-3
    names = [row["structure"].split("-") for row in rows]
    structures = np.array([name for name, _ in names])
    return points, structures, np.array([-1 if s == "lh" else 1 for _, s in names])


# ---------------------------------------------------------------------------
# surface potentials


def surface_potentials(bem, surfaces, sources):
    """Compute the potential at each node for a unit moment of each patch."""
    nodes = np.vstack([surface.rr for surface in surfaces])
    infinite = patch_potential(nodes, **_rows(sources), conductivity=1.0)
    source_mult = np.repeat(bem["source_mult"], [len(s.rr) for s in surfaces])
    return bem["solution"] @ (source_mult[:, np.newaxis] * infinite)


def _rows(sources):
    names = ("vertices", "vertex_normals", "vertex_weight", "vertex_patch")
    return {name: sources[name] for name in names}


def solve_bem(surfaces, conductivity):
    """Solve the surfaces' model: linear collocation, isolated-problem approach."""
    ids = (
        FIFF.FIFFV_BEM_SURF_ID_HEAD,
        FIFF.FIFFV_BEM_SURF_ID_SKULL,
        FIFF.FIFFV_BEM_SURF_ID_BRAIN,
    )
    model = [
        mne.surface.complete_surface_info(
            {
                "id": surface_id,
                "sigma": sigma,
                "coord_frame": FIFF.FIFFV_COORD_MRI,
                "rr": surface.rr.copy(),
                "tris": surface.tris.copy(),
                "np": len(surface.rr),
                "ntri": len(surface.tris),
            },
            copy=False,
            verbose="error",
        )
        for surface_id, sigma, surface in zip(
            ids[-len(surfaces) :], conductivity, surfaces, strict=True
        )
    ]
    return mne.make_bem_solution(model, verbose="error")


def factorise(phi, surfaces, conductivity, sources):
    """Compute low-rank factors of the potentials, which are small enough to ship.

    The potential of superficial patches on the inner skull near them does not have low
    rank. It is nearly twice their potential in an infinite brain, because the skull is
    almost an insulator and acts as a mirror. Only the remainder, which is smooth, is
    factorised. The mirror term is added again when the table is read.

    The subspace is optimal for the quantities that are computed from it: the potential
    on the scalp, and the contribution of the surfaces to the potential on a grid of
    points inside the brain.
    """
    smooth = phi.copy()
    inner = surfaces[-1].rr
    smooth[-len(inner) :] -= IMAGE_FACTOR * patch_potential(
        inner, **_rows(sources), conductivity=conductivity[-1]
    )
    uses = _uses(phi, smooth, surfaces, conductivity)
    patch_scale = np.sqrt(np.linalg.norm(uses, axis=0))
    _, _, basis = np.linalg.svd(uses / patch_scale, full_matrices=False)
    basis = basis[:RANK] * np.sign(basis[:RANK].sum(axis=1, keepdims=True))
    nodes = (smooth / patch_scale) @ basis.T
    balance = np.sqrt(np.linalg.norm(nodes, axis=0))
    return {
        "phi_nodes": (nodes / balance / NARROW_SCALE).astype(np.float16),
        "phi_patches": (basis * balance[:, np.newaxis]).astype(np.float16),
        "phi_patch_scale": (patch_scale * NARROW_SCALE).astype(np.float32),
    }


def _uses(phi, smooth, surfaces, conductivity):
    """Return rows for which the factors must be accurate, in units of their size."""
    n_scalp = len(surfaces[0].rr)
    scalp = phi[:n_scalp] / np.linalg.norm(phi[:n_scalp], axis=1).mean()
    weights = surface_weights(_brain_grid(surfaces[-1]), surfaces, conductivity)
    size = np.linalg.norm(weights @ phi, axis=1, keepdims=True)
    return np.vstack([SCALP_EMPHASIS * scalp, (weights @ smooth) / size])


def _brain_grid(inner_skull):
    low, high = inner_skull.rr.min(axis=0), inner_skull.rr.max(axis=0)
    axes = [np.arange(a, b, BRAIN_GRID) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    # shrunk a little, so that no point touches the surface
    shrunk = Surface(CENTRE + 0.98 * (inner_skull.rr - CENTRE), inner_skull.tris)
    parts = np.array_split(grid, 100)
    seen = [solid_angles(part, shrunk).sum(axis=1) for part in parts]
    return grid[np.concatenate(seen) > 2 * np.pi]


# ---------------------------------------------------------------------------
# table


def build_head(skull_conductivity=SKULL_CONDUCTIVITY, outer_skull_gap=OUTER_SKULL_GAP):
    """Build the table, and the full surface potentials to check it with."""
    conductivity = np.array(
        [BRAIN_AND_SCALP_CONDUCTIVITY, skull_conductivity, BRAIN_AND_SCALP_CONDUCTIVITY]
    )
    surfaces = build_surfaces(outer_skull_gap)
    sources = build_sources(*read_mtl_points())
    phi = surface_potentials(solve_bem(surfaces, conductivity), surfaces, sources)
    table = {
        "conductivity": conductivity,
        "head_to_mri": mne.read_trans(FSAVERAGE / "fsaverage-trans.fif")["trans"],
        "outer_skull_gap": np.array(outer_skull_gap),
        "built_with": np.array([f"{p} {version(p)}" for p in ("mne", "nilearn")]),
    }
    for name, surface in zip(SURFACES, surfaces, strict=True):
        table[f"{name}_rr"] = surface.rr.astype(np.float32)
        table[f"{name}_tris"] = surface.tris.astype(np.uint16)
    factors = factorise(phi, surfaces, conductivity, sources)
    return table | _narrow(sources) | factors, phi


def _narrow(sources):
    """Convert to single precision, which is 8 nm at 0.1 m."""
    types = {"f": np.float32, "i": np.int16}
    return {
        name: array.astype(types.get(array.dtype.kind, array.dtype))
        for name, array in sources.items()
    }


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skull-conductivity", type=float, default=SKULL_CONDUCTIVITY)
    parser.add_argument(
        "--outer-skull-gap",
        type=float,
        default=OUTER_SKULL_GAP * 1e3,
        help="millimetres between inner and outer skull",
    )
    parser.add_argument("--out", type=Path, default=TABLE)
    args = parser.parse_args()
    table, _ = build_head(args.skull_conductivity, args.outer_skull_gap * 1e-3)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **table)
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {table['phi_patches'].shape[1]} patches, {size:.1f} MB")


if __name__ == "__main__":
    main()
