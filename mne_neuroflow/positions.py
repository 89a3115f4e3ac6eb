"""Positions of scalp electrodes against their names and against the template's scalp.

A reader that mistakes an axis, a unit or an origin gives positions that look like those
of a head and are not. Where names are known, a similarity transform is fitted from the
places that the template has for them to the positions: what it turns, mirrors, scales
and shifts is wrong, and what it leaves is noise. The limits stand in ``LIMITS``;
``doc/decisions/interface.md`` says what montages measure.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from .head.geometry import load_head

#: Above the first a warning, above the second an error.
LIMITS = {
    "pitch": (15.0, 30.0),  # degrees: nose up or down
    "tilt": (4.0, 20.0),  # degrees: to one side, or turned to it
    "sideways": (8e-3, 20e-3),  # metres to the left or right
    "shift": (28e-3, 35e-3),  # metres to the front, back, top or bottom
    "size": (1.2, 1.35),  # times as large, or as small
    "residual": (15e-3, 25e-3),  # metres in the median
}
_FEWEST, _FEWEST_UNNAMED = 4, 16
_FLAT = 0.05  # share of the first singular value from which points span a plane
_OUTLIER, _NOISE = 3.0, 10e-3  # medians, and metres that are never an outlier
# Metres between the middles of two spheres: MNE's montages on a sphere have 45.
_SPHERE_SHIFT = 0.055
# Metres of the middle of all electrodes: MNE's montages have 2 mm and -5 mm.
_ASKEW, _UPSIDE_DOWN = 0.015, 0.03


@dataclass(frozen=True)
class Placement:
    """What brings electrodes from where the template has them to where they are.

    Attributes
    ----------
    turned : ndarray, shape (3,)
        Rotation vector in degrees about the axes to the right, front and top.
    mirrored : bool
        Whether left and right are exchanged.
    scale : float
        How many times as large they are.
    shift : ndarray, shape (3,)
        Of their middle to the right, front and top, in metres.
    residual : float
        Median distance that is left, in metres.
    """

    turned: np.ndarray
    mirrored: bool
    scale: float
    shift: np.ndarray
    residual: float

    def __str__(self):
        turned = ", ".join(f"{angle:.0f}" for angle in self.turned)
        shift = ", ".join(f"{1e3 * length:.0f}" for length in self.shift)
        return (
            f"{'mirrored, ' if self.mirrored else ''}turned by {turned} degrees about "
            f"the axes to the right, front and top, {self.scale:.2f} times as large, "
            f"shifted by {shift} mm along them; {1e3 * self.residual:.0f} mm are left "
            "in the median"
        )

    def findings(self, level):
        """Name what is beyond its limits.

        Parameters
        ----------
        level : int
            0 for the limits of a warning, 1 for those of an error.

        Returns
        -------
        found : list of str
            In words.
        """
        limit = {name: limits[level] for name, limits in LIMITS.items()}
        pitch, *tilt = self.turned
        angle = np.linalg.norm(self.turned)
        found = []
        if self.mirrored:
            found.append("mirrored left to right")
        if abs(pitch) > limit["pitch"] or np.abs(tilt).max() > limit["tilt"]:
            found.append(f"turned by {angle:.0f}°{self._about()}")
        if not 1 / limit["size"] < self.scale < limit["size"]:
            found.append(f"{self.scale:.2f} times as large as the head")
        right, front, top = 1e3 * self.shift
        if abs(right) > 1e3 * limit["sideways"]:
            found.append(
                f"{abs(right):.0f} mm too far {'right' if right > 0 else 'left'}"
            )
        if np.hypot(front, top) > 1e3 * limit["shift"]:
            found.append(_in_words(front, top))
        if self.residual > limit["residual"]:
            found.append(f"{1e3 * self.residual:.0f} mm off in the median")
        return found

    def _about(self):
        axis = np.abs(self.turned) / np.linalg.norm(self.turned)
        if axis.max() < 0.9:
            return ""
        names = ("from ear to ear", "from back to front", "the vertical axis")
        about = f" about {'' if axis[2] > 0.9 else 'the axis '}{names[axis.argmax()]}"
        nose = {-90: " (nose along +X, as EEGLAB writes them)", 90: " (nose along -X)"}
        turn = next((k for k in nose if abs(self.turned[2] - k) < 20), None)
        return about + (nose[turn] if axis[2] > 0.9 and turn else "")


def fit_placement(positions, expected):
    """Fit a similarity transform from expected to found positions.

    Parameters
    ----------
    positions, expected : ndarray, shape (n_electrodes, 3)
        Where electrodes are and where the template has them, in metres.

    Returns
    -------
    placement : Placement | None
        The transform; None for fewer than four electrodes, or in one line.

    Notes
    -----
    Least squares (Umeyama 1991, IEEE Trans Pattern Anal Mach Intell 13:376) without
    electrodes that are three times as far off as the median: a name can be wrong.
    """
    if len(positions) < _FEWEST:
        return None
    spread = np.linalg.svd(expected - expected.mean(axis=0), compute_uv=False)
    if spread[1] < _FLAT * spread[0]:
        return None
    mirror = np.array([-1.0, 1.0, 1.0])
    plain = _fit(positions, expected, False)
    other = _fit(positions * mirror, expected, True)
    # Points of a plane can be mirrored by turning it over.
    return other if other.residual < 0.5 * plain.residual - 1e-3 else plain


def unnamed_findings(positions):
    """Name what is wrong with electrodes of unknown names.

    Parameters
    ----------
    positions : ndarray, shape (n_electrodes, 3)
        In metres, fsaverage surface RAS.

    Returns
    -------
    found : list of str
        In words. A sphere through them is held against one through the template's
        scalp. Few electrodes tell nothing.
    """
    if len(positions) < _FEWEST_UNNAMED:
        return []
    above = load_head().scalp.rr
    above = above[above[:, 2] > positions[:, 2].min()]
    middle, radius = _sphere(above)
    here, size = _sphere(positions)
    right, front, top = here - middle
    found = []
    if not 1 / LIMITS["size"][0] < size / radius < LIMITS["size"][0]:
        found.append(f"{size / radius:.2f} times as large as the head")
    if abs(right) > LIMITS["sideways"][0]:
        found.append(
            f"{1e3 * abs(right):.0f} mm too far {'right' if right > 0 else 'left'}"
        )
    if np.hypot(front, top) > _SPHERE_SHIFT:
        found.append(_in_words(1e3 * front, 1e3 * top))
    centre = positions.mean(axis=0)
    if abs(centre[0]) > _ASKEW:
        found.append(
            "turned, since they cover one side of the head more than the other"
        )
    if centre[2] < middle[2] - _UPSIDE_DOWN:
        found.append("upside down")
    return found


def _sideways(right):
    return f"{abs(right):.0f} mm too far {'right' if right > 0 else 'left'}"


def _in_words(front, top):
    parts = []
    if abs(top) >= 5:
        parts.append(f"{abs(top):.0f} mm too {'high' if top > 0 else 'low'}")
    if abs(front) >= 5:
        where = "in front" if front > 0 else "back"
        parts.append(f"{abs(front):.0f} mm too far {where}")
    return " and ".join(parts)


def _fit(positions, expected, mirrored):
    kept = np.ones(len(positions), bool)
    for _ in range(5):
        middles = expected[kept].mean(axis=0), positions[kept].mean(axis=0)
        model, found = expected - middles[0], positions - middles[1]
        rotation, _ = Rotation.align_vectors(found[kept], model[kept])
        turned = rotation.apply(model)
        scale = (turned[kept] * found[kept]).sum() / (turned[kept] ** 2).sum()
        left = np.linalg.norm(found - scale * turned, axis=1)
        kept = left <= max(_OUTLIER * np.median(left), _NOISE)
    shift = middles[1] - middles[0]
    if mirrored:
        shift = shift * [-1, 1, 1]
    return Placement(
        np.degrees(rotation.as_rotvec()), mirrored, scale, shift, np.median(left)
    )


def _sphere(points):
    """Fit a sphere: its middle and radius in metres."""
    columns = np.column_stack([2 * points, np.ones(len(points))])
    *middle, rest = np.linalg.lstsq(columns, (points**2).sum(axis=1), rcond=None)[0]
    return np.array(middle), np.sqrt(rest + np.dot(middle, middle))
