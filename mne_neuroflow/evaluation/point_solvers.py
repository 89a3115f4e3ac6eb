"""Source localization by other programs, for sources that are few and small.

``invertmeeg`` (TRAP-MUSIC, FLEX-MUSIC, alternating projections) and ``sesameeg`` (a
posterior over dipoles) look for few sources, which is what a stimulated site is. They
get the package's own head, so that only the methods differ. Neither is among the
package's requirements: ``pip install invertmeeg sesameeg``.
"""

import importlib
import importlib.util
import logging
import random
import sys
import warnings
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

import mne
import numpy as np

from ..contract import SFREQ
from ..head.geometry import load_head
from ..head.posterior import farthest_points
from .inverse import make_template_forward

#: Methods of invertmeeg by their names in results.
INVERT_METHODS = {
    # Subspace scanning source by source (Mäkelä et al. 2018, NeuroImage 167:73).
    "TRAP-MUSIC": "trap-music",
    # Subspace scanning with flexible extent (Hecker et al. 2025, Sci. Rep.).
    "FLEX-MUSIC": "flex-music",
    # Maximum likelihood of few dipoles (Adler et al. 2022, NeuroImage 247:118790).
    "alternating projections": "ap",
}
# Points of SESAME's grid, evenly spread over the head's patches, and metres between
# neighbours: its own particles need no denser one.
_SESAME_POINTS, _SESAME_RADIUS = 1000, 0.016
_SESAME_DIPOLES = 3
_SESAME_SAMPLES = 2  # before and after the peak


def invert_moments(method, average, electrodes):
    """Estimate moments of the head's patches with a method of invertmeeg.

    Parameters
    ----------
    method : str
        One of :data:`INVERT_METHODS`.
    average : ndarray, shape (n_electrodes, n_times)
        The average of a response in volts at 128 Hz, average reference; the peak is in
        the middle.
    electrodes : ndarray, shape (n_electrodes, 3)
        Metres, fsaverage surface RAS.

    Returns
    -------
    moments : ndarray, shape (n_patches,)
        At the peak, in any unit.
    """
    invert = _imported("invert", "invertmeeg")
    forward, info = make_template_forward(electrodes)
    field = forward["sol"]["data"]
    forward["sol"]["data"] = field - field.mean(axis=0)
    rated = mne.create_info(info["ch_names"], SFREQ, "eeg", verbose=False)
    for ch, placed in zip(rated["chs"], info["chs"], strict=True):
        ch["loc"] = placed["loc"].copy()
    evoked = mne.EvokedArray(average, rated, verbose=False)
    with _own_chance(0), _silence():
        solver = invert.Solver(INVERT_METHODS[method])
        solver.make_inverse_operator(forward, evoked)
        found = solver.apply_inverse_operator(evoked).data
    return found[:, average.shape[1] // 2]


def sesame_moments(average, electrodes, n_draws, seed=0):
    """Draw moments of the head's patches with SESAME.

    Parameters
    ----------
    average : ndarray, shape (n_electrodes, n_times)
        As for :func:`invert_moments`.
    electrodes : ndarray, shape (n_electrodes, 3)
        As for :func:`invert_moments`.
    n_draws : int
        Draws from its posterior.
    seed : int
        Of its particles, and of the draws.

    Returns
    -------
    moments : ndarray, shape (n_draws, n_patches)
        At the peak, in ampere metres.
    """
    head = load_head()
    points = np.sort(farthest_points(head.patch_centres, _SESAME_POINTS))
    forward, _ = make_template_forward(electrodes)
    field = forward["sol"]["data"][:, points]
    field = field - field.mean(axis=0)
    peak = average.shape[1] // 2
    around = average[:, peak - _SESAME_SAMPLES : peak + _SESAME_SAMPLES + 1]
    with _sesame(seed) as sesame, np.errstate(all="ignore"):
        run = sesame.Sesame(
            head.patch_centres[points],
            field,
            around,
            fixed_ori=True,
            max_n_dips=_SESAME_DIPOLES,
            radius=_SESAME_RADIUS,
        )
        run.apply_sesame()
        weights = np.exp(run.posterior.logweights - run.posterior.logweights.max())
        particles = run.posterior.particles
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(particles), n_draws, p=weights / weights.sum())
    moments = np.zeros((n_draws, len(head.patch_centres)))
    for draw, particle in zip(moments, particles[chosen], strict=True):
        places = [dipole.loc for dipole in particle.dipoles]
        if places:
            fitted = np.linalg.lstsq(field[:, places], average[:, peak], rcond=None)[0]
            draw[points[places]] = fitted
    return moments


@contextmanager
def _sesame(seed):
    """Import sesameeg 0.0.3 where no window can be opened, and NumPy is of today.

    Its plots need a Qt window when they are imported; it calls a function that NumPy
    2.4 no longer has, draws from NumPy's global state, and prints.
    """
    plots = ModuleType("sesameeg.viz")
    plots.__getattr__ = lambda name: None
    modules = {} if "sesameeg" in sys.modules else {"sesameeg.viz": plots}
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch.object(np, "in1d", np.isin, create=True),
        mock.patch("builtins.print"),
        _own_chance(seed),
        _silence(),
    ):
        yield _imported("sesameeg", "sesameeg")


@contextmanager
def _own_chance(seed):
    """Seed the global states that others draw from, and leave them as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def _silence():
    """Leave out what others warn of and log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def is_installed(method):
    """Tell whether a method's program is there.

    Parameters
    ----------
    method : str
        ``'SESAME'``, one of :data:`INVERT_METHODS`, or any other, which is.

    Returns
    -------
    installed : bool
        Whether it is.
    """
    if method == "SESAME":
        return importlib.util.find_spec("sesameeg") is not None
    return method not in INVERT_METHODS or (
        importlib.util.find_spec("invert") is not None
    )


def _imported(name, package):
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise ImportError(
            f"This method needs {package}, which could not be imported: {err}. Install "
            f"it with pip install {package}, or leave the method out."
        ) from err
