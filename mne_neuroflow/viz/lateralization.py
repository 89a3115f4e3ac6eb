"""Lateralization of power, with its uncertainty."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import welch

from ..head.contacts import contact_positions, make_contacts
from ..scores.ensemble import interval, widen_sides
from ..scores.signals import BANDS
from ._style import (
    CAVEAT,
    LARGE,
    MEDIUM,
    VIRTUAL,
    WIDTH,
    add_legend,
    central_intervals,
    finish,
    groups,
    highest_level,
    sampling_rate,
    tidy,
    with_epochs,
)

_SHOWN = ("delta", "theta", "alpha", "beta", "broad")
_BARS = (dict(linewidth=1.2), dict(linewidth=4, alpha=0.5))  # wide, narrow interval
_LEVEL = 0.9  # of the interval that leaves out zero or does not


def left_minus_right(draws, contacts="mtl"):
    """Compute the difference in power between left and right for each draw.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts, with at least 2 draws
        and 1 s.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts that were predicted, as they were given to
        :func:`mne_neuroflow.sample_ieeg`. Their positions define the sides.

    Returns
    -------
    difference : xarray.DataArray, shape (n_draws, n_structures, n_bands)
        Left minus right, in decibels, of the mean log power of the contacts of a
        structure. Draws are 1.5 times as far from their median as the predicted ones,
        whose sides are too alike. Structures with contacts on one side only are left
        out.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz.lateralization import left_minus_right
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 10, contacts="mtl-core", random_state=0)
    >>> left_minus_right(draws, "mtl-core").quantile([0.05, 0.95], "draw").dims
    ('quantile', 'structure', 'band')
    """
    import xarray

    draws = with_epochs(draws, n_min=2, seconds=1.0)
    side = sides_of(draws, contacts)
    power = _band_power(draws.values, sampling_rate(draws))
    differences = {}
    for structure, channels in groups(draws).items():
        left, right = (channels[side[channels] == sign] for sign in (-1, 1))
        if len(left) and len(right):
            difference = power[:, left].mean(1) - power[:, right].mean(1)
            differences[structure] = widen_sides(difference)
    if not differences:
        raise ValueError("No structure has contacts on both sides.")
    return xarray.DataArray(
        np.stack(list(differences.values()), axis=1),
        {"structure": list(differences), "band": list(_SHOWN)},
        ("draw", "structure", "band"),
        attrs={"units": "dB"},
    )


def leaves_out_zero(difference):
    """Find where the 90 % interval over draws does not contain zero.

    Parameters
    ----------
    difference : array_like, shape (n_draws, ...)
        Left minus right.

    Returns
    -------
    sure : ndarray of bool, shape (...)
        False everywhere if there are too few draws for such an interval.
    """
    difference = np.asarray(difference)
    if highest_level(len(difference)) < _LEVEL - 1e-9:
        return np.zeros(difference.shape[1:], bool)
    low, high = interval(difference, _LEVEL)
    return (low > 0) | (high < 0)


def plot_lateralization(draws, contacts="mtl", *, show=True) -> plt.Figure:
    """Plot the difference in power between left and right.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts, with at least 2 draws
        and 1 s.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts that were predicted, as they were given to
        :func:`mne_neuroflow.sample_ieeg`. Their positions define the sides.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        A panel for each frequency band, with a row for each structure: the median over
        draws of left minus right in decibels, with the central 50 % and 90 % of draws.
        Symbols are filled where the 90 % interval, which needs 19 draws, does not
        contain zero.

    See Also
    --------
    plot_spectra

    Notes
    -----
    If contacts are not mirror images of each other, different tissue is compared. An
    interval that does not contain zero says that the model is certain about a side in
    this part of the recording. It does not say that anything is abnormal. If both sides
    are equal, three of thirty intervals do not contain zero.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import plot_lateralization
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 10, contacts="mtl-core", random_state=0)
    >>> fig = plot_lateralization(draws, "mtl-core", show=False)
    """
    difference = left_minus_right(draws, contacts)
    structures = difference["structure"].values
    fig, axes = plt.subplots(
        1,
        len(_SHOWN),
        figsize=(WIDTH, 1.3 + 0.3 * len(structures)),
        sharey=True,
        sharex=True,
        layout="constrained",
    )
    for ax, band in zip(axes, _SHOWN, strict=True):
        _plot_band(ax, difference.sel(band=band).values)
        low, high = BANDS[band]
        ax.set_title(f"{band} ({low:g}–{high:g} Hz)", fontsize=MEDIUM)
        tidy(ax)
    axes[0].set_yticks(np.arange(len(structures)), structures)
    axes[0].invert_yaxis()
    axes[len(axes) // 2].set_xlabel(
        "← right stronger     Left minus right (dB)     left stronger →",
        fontsize=MEDIUM,
    )
    fig.suptitle(f"Lateralization of virtual iEEG: {CAVEAT}", fontsize=LARGE)
    add_legend(fig, axes)
    return finish(fig, show)


def _plot_band(ax, difference):
    """Draw the intervals of each structure.

    Parameters
    ----------
    ax : Axes
        The axes.
    difference : ndarray, shape (n_draws, n_structures)
        Left minus right in decibels.
    """
    rows = np.arange(difference.shape[1])
    ax.axvline(0, color="0.5", linestyle="--", linewidth=1)
    bars = zip(central_intervals(difference), _BARS, strict=False)
    for (low, high, label), bar in bars:
        ax.hlines(rows, low, high, color=VIRTUAL, label=label, **bar)
    ax.scatter(
        np.median(difference, axis=0),
        rows,
        s=24,
        facecolors=np.where(leaves_out_zero(difference), VIRTUAL, "white"),
        edgecolors=VIRTUAL,
        zorder=3,
        label="median (filled: 90 % interval without zero)",
    )
    ax.margins(y=0.15)


def sides_of(draws, contacts):
    """Find the side of each channel.

    Parameters
    ----------
    draws : xarray.DataArray
        Draws with the dimension ``channel``.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts that were predicted.

    Returns
    -------
    sides : ndarray, shape (n_channels,)
        -1 for left, 1 for right, 0 for the midline.
    """
    names, positions = contact_positions(make_contacts(contacts))
    side = dict(zip(names, np.sign(positions[:, 0]), strict=True))
    missing = [name for name in draws["channel"].values if name not in side]
    if missing:
        raise ValueError(
            "Invalid value for the 'contacts' parameter. Allowed values hold all "
            f"channels of the draws, but there is no '{missing[0]}'."
        )
    return np.array([side[name] for name in draws["channel"].values])


def _band_power(data, sfreq):
    """Return log power in decibels, shape (n_draws, n_channels, n_bands).

    Parameters
    ----------
    data : ndarray, shape (n_draws, n_epochs, n_channels, n_times)
        Volts.
    sfreq : float
        Sampling rate in hertz.
    """
    freqs, density = welch(data, sfreq, nperseg=min(int(2 * sfreq), data.shape[-1]))
    density = density.mean(axis=1)
    bands = [(freqs >= BANDS[b][0]) & (freqs < BANDS[b][1]) for b in _SHOWN]
    power = np.stack([density[..., band].mean(axis=-1) for band in bands], axis=-1)
    return 10 * np.log10(power)
