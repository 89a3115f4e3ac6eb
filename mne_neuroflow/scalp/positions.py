"""Checks of electrode positions against their names and the template's scalp.

If a reader confuses axes, units or origins, the positions look plausible and are wrong.
If the names of electrodes are known, a similarity transform is fitted from the template
positions of these names to the positions. Its rotation, reflection, scale and shift are
errors of the positions, and its residual is noise. The limits are in ``LIMITS``, and
``doc/decisions/interface.md`` has the values of common montages.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ..head.geometry import load_head, project_to_scalp

#: Limits above which there is a warning (first) or an error (second).
LIMITS = {
    "pitch": (15.0, 30.0),  # degrees: nose up or down
    "tilt": (4.0, 20.0),  # degrees: tilted or turned to one side
    "sideways": (8e-3, 20e-3),  # metres to the left or right
    "shift": (28e-3, 35e-3),  # metres to the front, back, top or bottom
    "size": (1.2, 1.35),  # times as large, or as small
    "residual": (15e-3, 25e-3),  # metres in the median
}
#: Metres of one electrode from the position of its name. MNE's montages have 27 mm.
ELSEWHERE = 45e-3
_FEWEST, _FEWEST_UNNAMED = 4, 16
_FLAT = 0.05  # minimum ratio of singular values of points that are not on a line
_OUTLIER, _NOISE = 3.0, 10e-3  # an outlier exceeds 3 medians and 10 mm
# The same without names. On average, MNE's montages are at most 1.4 mm to one side, 46
# mm low, 21 mm to the back and 5 mm to the front, and never below the middle of the
# head.
_UNNAMED = {
    "shift": (55e-3, 75e-3),  # metres between the middles of two spheres
    "askew": (15e-3, 22e-3),  # metres to one side, of the mean of all electrodes
    "below": (30e-3, 50e-3),  # metres of that mean below the middle of the head
    "ahead": (25e-3, np.inf),  # and in front or back of it
    "behind": (40e-3, np.inf),
}
_WHOLE_HEAD = 1.3  # minimum width and length of a whole-head cap, in radii
# How much better electrodes must fit when turned: ratio of their distances from the
# scalp, and difference in metres. Electrodes on a sphere fit equally well in any
# direction.
_FITS_BETTER = 0.6, 3e-3


@dataclass(frozen=True)
class Placement:
    """The transform from template positions to positions of electrodes.

    Attributes
    ----------
    turned : ndarray, shape (3,)
        Rotation vector in degrees about the axes to the right, front and top.
    mirrored : bool
        Whether left and right are exchanged.
    scale : float
        Scale factor.
    shift : ndarray, shape (3,)
        Shift of the centre to the right, front and top, in metres.
    distances : ndarray, shape (n_electrodes,)
        Remaining distance of each electrode in metres.
    """

    turned: np.ndarray
    mirrored: bool
    scale: float
    shift: np.ndarray
    distances: np.ndarray

    @property
    def residual(self):
        """Median remaining distance in metres."""
        return np.median(self.distances)

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
        """Describe the parts of the transform that exceed their limits.

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
            found.append(_sideways(right))
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
        return about + (_nose(self.turned[2]) if axis[2] > 0.9 else "")


def fit_placement(positions, expected):
    """Fit a similarity transform from expected to found positions.

    Parameters
    ----------
    positions, expected : ndarray, shape (n_electrodes, 3)
        Positions of electrodes and their template positions, in metres.

    Returns
    -------
    placement : Placement | None
        The transform. None for fewer than four electrodes, or electrodes on a line.

    Notes
    -----
    The fit is by least squares (Umeyama 1991, IEEE Trans Pattern Anal Mach Intell
    13:376). Electrodes whose distance exceeds three times the median are left out,
    because a name can be wrong.
    """
    if len(positions) < _FEWEST:
        return None
    spread = np.linalg.svd(expected - expected.mean(axis=0), compute_uv=False)
    if spread[1] < _FLAT * spread[0]:
        return None
    mirror = np.array([-1.0, 1.0, 1.0])
    plain = _fit(positions, expected, False)
    other = _fit(positions * mirror, expected, True)
    # A rotation can mirror points in a plane, so reflections are not distinguishable.
    return other if other.residual < 0.5 * plain.residual - 1e-3 else plain


class _Cap(NamedTuple):
    """Electrodes with unknown names, compared with the scalp of the template."""

    size: float  # ratio of the radii of spheres through electrodes and scalp
    shift: np.ndarray  # metres between the centres of these spheres
    mean: np.ndarray  # mean of the electrodes from the centre of the scalp, metres
    turned: int  # degrees about the vertical axis
    is_whole: bool  # whether it is as wide and long as a head


def unnamed_findings(positions):
    """Describe errors in the positions of electrodes with unknown names.

    Parameters
    ----------
    positions : ndarray, shape (n_electrodes, 3)
        In metres, fsaverage surface RAS.

    Returns
    -------
    odd, wrong : list of str
        Descriptions, with the limits of a warning and with those of an error. A sphere
        through the electrodes is compared with a sphere through the template's scalp.
        The electrodes are also turned in steps of 90 degrees about the vertical axis,
        to see whether they fit the scalp better. The result is empty for few
        electrodes. The check cannot detect exchanged left and right, or a rotation of
        electrodes on a sphere about its centre.
    """
    if len(positions) < _FEWEST_UNNAMED:
        return [], []
    above = load_head().scalp.rr
    above = above[above[:, 2] > positions[:, 2].min()]
    middle, radius = _sphere(above)
    here, size = _sphere(positions)
    cap = _Cap(
        size=size / radius,
        shift=here - middle,
        mean=positions.mean(axis=0) - middle,
        turned=_turned(middle + radius / size * (positions - here), middle),
        is_whole=np.ptp(positions, axis=0)[:2].min() > _WHOLE_HEAD * radius,
    )
    return _cap_findings(cap, 0), _cap_findings(cap, 1)


def _cap_findings(cap, level):
    """Describe what exceeds the limits of a warning (0) or of an error (1)."""
    limit = {name: both[level] for name, both in (LIMITS | _UNNAMED).items()}
    right, front, top = cap.shift
    found = []
    if not 1 / limit["size"] < cap.size < limit["size"]:
        found.append(f"{cap.size:.2f} times as large as the head")
    if abs(right) > limit["sideways"]:
        found.append(_sideways(1e3 * right))
    if np.hypot(front, top) > limit["shift"]:
        found.append(_in_words(1e3 * front, 1e3 * top))
    to_side, ahead, up = cap.mean
    if up < -limit["below"]:
        found.append("upside down")
    elif abs(to_side) > limit["askew"]:
        found.append(
            "turned, since they cover one side of the head more than the other"
        )
    elif cap.turned and (
        level == 0 or abs(cap.turned) == 90  # half a turn fits a head nearly as well
    ):
        found.append(
            f"turned by {abs(cap.turned)}° about the vertical axis{_nose(cap.turned)}"
        )
    elif cap.is_whole and not -limit["behind"] < ahead < limit["ahead"]:
        found.append(
            "turned about the axis from ear to ear, since they cover the "
            f"{'front' if ahead > 0 else 'back'} of the head more than the rest"
        )
    return found


def _turned(positions, middle):
    """Return the turn about the vertical axis, in degrees, that fits better, or 0."""
    positions = positions[:: max(1, len(positions) // 64)]  # enough for the shape
    misfit = {
        turned: _misfit(
            middle
            + Rotation.from_euler("z", -turned, degrees=True).apply(positions - middle)
        )
        for turned in (0, 90, -90, 180)
    }
    best = min(misfit, key=misfit.get)
    share, least = _FITS_BETTER
    least = least if abs(best) == 90 else least / 2
    better = misfit[best] < min(share * misfit[0], misfit[0] - least)
    return best if better else 0


def _misfit(positions):
    """Return the r.m.s. distance from the scalp after shift and scaling, metres."""
    head = load_head()
    for _ in range(3):
        scalp = project_to_scalp(head, positions)[2]
        from_middle = positions - positions.mean(axis=0)
        scale = ((scalp - scalp.mean(axis=0)) * from_middle).sum()
        scale /= (from_middle**2).sum()
        positions = scalp.mean(axis=0) + scale * from_middle
    return np.sqrt((project_to_scalp(head, positions)[3] ** 2).mean())


def _sideways(right):
    return f"{abs(right):.0f} mm too far {'right' if right > 0 else 'left'}"


def _nose(turned):
    noses = {-90: " (nose along +X, as EEGLAB writes them)", 90: " (nose along -X)"}
    return next((noses[k] for k in noses if abs(turned - k) < 20), "")


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
    return Placement(np.degrees(rotation.as_rotvec()), mirrored, scale, shift, left)


def _sphere(points):
    """Fit a sphere, and return its centre and radius in metres."""
    columns = np.column_stack([2 * points, np.ones(len(points))])
    *middle, rest = np.linalg.lstsq(columns, (points**2).sum(axis=1), rcond=None)[0]
    return np.array(middle), np.sqrt(rest + np.dot(middle, middle))
