"""Contacts in the brain: projections, and a 3-D scene."""

from __future__ import annotations

from functools import lru_cache

import matplotlib.pyplot as plt
import mne
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize, to_rgba
from matplotlib.ticker import MultipleLocator
from scipy.ndimage import gaussian_filter

from .._docs import fill_doc
from ..head.contacts import (
    contact_positions,
    contact_structures,
    make_contacts,
    values_by_contact,
)
from ..head.geometry import load_head
from ._style import LARGE, MEDIUM, SMALL, STRUCTURES, WIDTH, finish, tidy

# Horizontal and vertical axis, side that is shown (sign of x, 0 for both), direction
# towards the eye, title; row by row.
_VIEWS = (
    ((1, 2), -1, (-1, 0, 0), "left side"),
    ((0, 2), 0, (0, -1, 0), "from behind"),
    ((1, 2), 1, (1, 0, 0), "right side"),
    ((0, 1), 0, (0, 0, 1), "from above"),
)
# Inches: left of each view, above and below it; above all.
_LEFT, _ABOVE, _BELOW, _TITLE = 0.6, 0.3, 0.4, 0.2
# The lower left corner holds what colours mean: its middle and half its width.
_CORNER, _HALF = 2.1, 1.3
# The outline is where the blurred shadow of the cortex falls to half: sources lie
# at half the depth of the cortex, 3 mm apart.
_PIXEL, _BLUR, _MARGIN = 1.0, 2.5, 12.0  # mm
_DEEP = ("hippocampus", "amygdala")
_MISSING, _RING = "0.75", "0.4"  # a sphere, and a ring on the grey of what is deep
_SPHERE = 5e-3  # metres, larger than a contact so that it is seen from afar
_SCENE = "Virtual contacts in a template head: predicted, not recorded"
# From the left and in front, a little above; metres and degrees.
_EYE = dict(azimuth=135, elevation=75, distance=0.56, focalpoint=(0, 0, -0.005))


@fill_doc
def plot_contacts(
    contacts, values=None, *, label=None, cmap=None, vlim=None, show=True
) -> plt.Figure:
    """Plot contacts on a glass brain.

    Parameters
    ----------
    %(contacts)s
    %(values)s
    %(label)s
    %(cmap)s
    %(vlim)s
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        Projections on the fsaverage template in millimetres (MNI Talairach). Each
        lateral view shows only the contacts of its side.

    See Also
    --------
    plot_contacts_3d

    Notes
    -----
    The outlines are those of the template's cortex, hippocampus and amygdala, not those
    of the patient's brain.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import plot_contacts
    >>> table = mne_neuroflow.observability(load_demo(verbose=False).info)
    >>> fig = plot_contacts(
    ...     "mtl", table["observability"], label="Observability", show=False
    ... )
    """
    montage = make_contacts(contacts)
    ch_names, positions = contact_positions(montage)
    positions = 1e3 * positions
    if values is None:
        colors, key = _structure_colors(montage)
    else:
        values = _values(values, ch_names)
        colors, key = _value_colors(values, cmap, vlim)
    fig, axes = _make_axes()
    for ax, view in zip(axes, _VIEWS, strict=True):
        _plot_view(ax, view)
        _plot_markers(ax, view, positions, colors)
    if values is None:
        _structure_legend(fig, key)
    else:
        _color_bar(fig, key, label)
    title = "Virtual contacts on the template brain (fsaverage)"
    fig.suptitle(title, y=1 - 0.05 / fig.get_figheight(), va="top", fontsize=LARGE)
    return finish(fig, show)


@fill_doc
def plot_contacts_3d(
    contacts, values=None, *, label=None, cmap=None, vlim=None
) -> mne.viz.Figure3D:
    """Plot contacts inside the template head in 3-D.

    Parameters
    ----------
    %(contacts)s
    %(values)s
    %(label)s
    %(cmap)s
    %(vlim)s

    Returns
    -------
    fig : mne.viz.Figure3D
        The scene of :func:`mne.viz.plot_alignment`, with the template's scalp and
        inner skull around the contacts. Rotate it with the mouse or with
        :func:`mne.viz.set_3d_view`. ``fig.plotter.screenshot("a.png")`` saves it.

    See Also
    --------
    plot_contacts

    Notes
    -----
    The requirements are those of MNE-Python's 3-D figures: PyVistaQt with a Qt binding
    and a display, which may be a virtual one (``xvfb-run python script.py``), or a
    notebook with MNE-Python's notebook backend. :func:`plot_contacts` works without
    them.

    Spheres are larger than contacts. Head and skull are those of fsaverage, not those
    of the patient.

    Examples
    --------
    >>> from mne_neuroflow.viz import plot_contacts_3d
    >>> plot_contacts_3d("mtl")  # doctest: +SKIP
    """
    montage = make_contacts(contacts)
    ch_names = contact_positions(montage)[0]
    if values is None:
        colors, key = _structure_colors(montage)
    else:
        values = _values(values, ch_names)
        colors, mappable = _value_colors(values, cmap, vlim)
        colors[~np.isfinite(values)] = to_rgba(_MISSING)  # a sphere has no ring
        key = _value_key(mappable)
    info = mne.create_info(ch_names, 1.0, "seeg", verbose=False)
    info.set_montage(montage, verbose=False)
    fig = mne.viz.plot_alignment(
        info,
        trans=mne.transforms.Transform("head", "mri", load_head().head_to_mri),
        coord_frame="mri",
        surfaces={"head": 0.1, "inner_skull": 0.15},
        bem=_template_surfaces(),
        seeg=True,
        sensor_colors={"seeg": colors},
        sensor_scales={"seeg": _SPHERE},
        verbose=False,
    )
    mne.viz.set_3d_view(fig, **_EYE)
    about = "" if values is None or label is None else f"\n{label}"
    mne.viz.set_3d_title(fig, _SCENE + about, size=12)
    fig.plotter.add_legend(
        [[f" {name}", color[:3]] for name, color in key.items()],
        bcolor=None,
        face="circle",
        loc="lower left",
        size=(0.02 * max(map(len, key)), 0.045 * len(key)),
    )
    return fig


def _value_key(mappable):
    """Return example values of a colour bar with their colours, the largest first."""
    some = np.linspace(mappable.norm.vmax, mappable.norm.vmin, 5)
    return {f"{value:.3g}": tuple(mappable.to_rgba(value)) for value in some}


def _values(values, ch_names):
    """Sort numbers in the order of the contacts, with NaN where there is none."""
    values = values_by_contact(values, ch_names)
    if values.shape != (len(ch_names),):
        raise ValueError(
            "Invalid value for the 'values' parameter. Allowed values are "
            f"{len(ch_names)} numbers, one a contact, but got shape {values.shape}."
        )
    if not np.isfinite(values).any():
        raise ValueError(
            "Invalid value for the 'values' parameter. Allowed values are numbers for "
            f"the contacts {ch_names[0]} to {ch_names[-1]}, but none of them has one."
        )
    return values


def _value_colors(values, cmap, vlim):
    """Return colours, shape (n_contacts, 4), and the mapping for a colour bar."""
    known = values[np.isfinite(values)]
    vlim = (known.min(), known.max()) if vlim is None else tuple(vlim)
    if len(vlim) != 2 or not vlim[0] <= vlim[1]:
        raise ValueError(
            "Invalid value for the 'vlim' parameter. Allowed values are the smallest "
            f"and the largest number, in this order, but got {vlim}."
        )
    low, high = vlim
    if low == high:  # a bar has the colour of a single value in its middle
        low, high = (low + 0.1 * (abs(low) or 1) * sign for sign in (-1, 1))
    both_signs = low < 0 < high
    norm = CenteredNorm(0, max(-low, high)) if both_signs else Normalize(low, high)
    mappable = ScalarMappable(norm, cmap or ("RdBu_r" if both_signs else "viridis"))
    colors = mappable.to_rgba(values)
    colors[~np.isfinite(values)] = 0.0  # transparent: a ring remains
    return colors, mappable


def _structure_colors(montage):
    """Return colours, shape (n_contacts, 4), and structure -> colour."""
    structures = contact_structures(montage)[0]
    there = set(structures)
    key = {name: to_rgba(color) for name, color in STRUCTURES.items() if name in there}
    return np.array([key[name] for name in structures]), key


def _structure_legend(fig, key):
    handles = [
        plt.Line2D([], [], ls="", marker="o", color=color, label=name)
        for name, color in key.items()
    ]
    fig.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(_CORNER / WIDTH, 0),
        ncols=2,
        frameon=False,
        fontsize=MEDIUM,
    )


def _color_bar(fig, key, label):
    place = np.array([_CORNER - _HALF, 0.45, 2 * _HALF, 0.12])
    cax = fig.add_axes(tuple(place / np.tile(fig.get_size_inches(), 2)))
    bar = fig.colorbar(key, cax=cax, orientation="horizontal")
    bar.set_label(label, fontsize=MEDIUM)
    cax.tick_params(labelsize=SMALL)


def _plot_markers(ax, view, positions, colors):
    """Draw contacts, the nearest to the viewer last."""
    (across, up), side, towards, *_ = view
    order = np.argsort(positions @ towards)
    shown = order[side * positions[order, 0] >= 0]
    ax.scatter(
        positions[shown, across],
        positions[shown, up],
        s=16,
        c=colors[shown],
        edgecolors=np.where(colors[shown, 3:] > 0, "0.15", _RING)[:, 0],
        linewidths=0.5,
        zorder=3,
    )


def _plot_view(ax, view):
    """Draw the outlines of the brain and of deep structures."""
    (across, up), side, _, title = view
    for shadow, (left, bottom), deep in _shadows(across, up, side):
        x = left + _PIXEL * np.arange(shadow.shape[1])
        y = bottom + _PIXEL * np.arange(shadow.shape[0])
        color = "0.82" if deep else "0.95"
        ax.contourf(x, y, shadow, [0.5, 2], colors=[color])
        ax.contour(x, y, shadow, [0.5], colors=["0.6"], linewidths=0.6)
    ax.set_title(title, fontsize=MEDIUM)
    ax.set_xlabel(f"{'xyz'[across]} (mm)")
    ax.set_ylabel(f"{'xyz'[up]} (mm)")
    if across == 0:
        corner = dict(transform=ax.transAxes, ha="center", va="top", fontsize=MEDIUM)
        for x, name in ((0.06, "L"), (0.94, "R")):
            ax.text(x, 0.97, name, **corner)
    low, high = _extent()
    ax.set_xlim(low[across], high[across])
    ax.set_ylim(low[up], high[up])
    if side < 0:
        ax.invert_xaxis()  # seen from the left, the front is on the left
    ax.xaxis.set_major_locator(MultipleLocator(50))
    ax.yaxis.set_major_locator(MultipleLocator(50))
    tidy(ax)


@lru_cache(maxsize=8)
def _shadows(across, up, side):
    """Project both hemispheres and the deep structures as shadows.

    Returns
    -------
    shadows : list of tuple
        The blurred shadow, between 0 and 1, its lower left corner in mm, and whether it
        belongs to a deep structure.
    """
    head = load_head()
    structure = head.patch_structure[head.vertex_patch]
    hemisphere = head.patch_hemisphere[head.vertex_patch]
    sides = (-1, 1) if side == 0 else (side,)
    shadows = []
    for name in (None, *_DEEP):
        of_kind = ~np.isin(structure, _DEEP) if name is None else structure == name
        for one in sides:
            points = 1e3 * head.vertices[of_kind & (hemisphere == one)]
            shadows.append((*_shadow(points[:, [across, up]]), name is not None))
    return shadows


def _shadow(points):
    corner = points.min(axis=0) - _MARGIN
    size = np.ceil((points.max(axis=0) + _MARGIN - corner) / _PIXEL).astype(int)
    index = np.round((points - corner) / _PIXEL).astype(int)
    shadow = np.zeros(size[::-1])
    shadow[index[:, 1], index[:, 0]] = 1.0
    covered = gaussian_filter(shadow, 1.5 / _PIXEL) > 0.02  # closes the gaps
    return gaussian_filter(covered.astype(float), _BLUR / _PIXEL), tuple(corner)


def _make_axes():
    """Make two rows of two views, all on the same scale."""
    low, high = _extent()
    size = np.array([(high - low)[list(view[0])] for view in _VIEWS])
    size *= (WIDTH - 2.3 * _LEFT) / size[:2, 0].sum()
    rows = size[:2, 1].max(), size[2:, 1].max()
    height = _TITLE + 2 * (_ABOVE + _BELOW) + sum(rows)
    fig, axes = plt.figure(figsize=(WIDTH, height)), []
    for k, (width, tall) in enumerate(size):
        row, column = divmod(k, 2)
        left = _LEFT + column * (size[0, 0] + _LEFT)
        top = height - _TITLE - _ABOVE - row * (rows[0] + _ABOVE + _BELOW)
        place = np.array([left, top - tall, width, tall])
        axes.append(fig.add_axes(tuple(place / [WIDTH, height, WIDTH, height])))
    return fig, axes


@lru_cache(maxsize=1)
def _extent():
    """Return the lowest and highest coordinates that are shown, in mm."""
    points = 1e3 * load_head().vertices
    return points.min(axis=0) - _MARGIN, points.max(axis=0) + _MARGIN


def _template_surfaces():
    """Return scalp and inner skull as surfaces of MNE-Python."""
    from mne.io.constants import FIFF

    head = load_head()
    ids = (FIFF.FIFFV_BEM_SURF_ID_HEAD, FIFF.FIFFV_BEM_SURF_ID_BRAIN)
    return [
        mne.surface.complete_surface_info(
            dict(
                rr=surface.rr.astype(float),
                tris=surface.tris,
                ntri=len(surface.tris),
                np=len(surface.rr),
                id=surface_id,
                coord_frame=FIFF.FIFFV_COORD_MRI,
            ),
            verbose=False,
        )
        for surface, surface_id in zip((head.scalp, head.inner_skull), ids, strict=True)
    ]
