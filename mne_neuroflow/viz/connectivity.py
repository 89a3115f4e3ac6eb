"""Connectivity between virtual contacts."""

from __future__ import annotations

from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

from .._compat import _check_option
from ..scores.signals import (
    BANDS,
    POWER_WINDOW,
    relative_frobenius,
    spectral_connectivity,
)
from ._style import (
    CAVEAT,
    LARGE,
    MEDIUM,
    NO_STRUCTURE,
    OTHERS,
    SMALL,
    WIDTH,
    central_intervals,
    check_others,
    common_channels,
    finish,
    groups,
    other_data,
    sampling_rate,
    short_name,
    tidy,
    with_epochs,
)

_METHODS = {
    "coh": "Coherence",
    "imcoh": "Imaginary coherence",
    "plv": "Phase-locking value",
}
_MAX_NAMES = 15  # contacts named at a matrix; beyond, structures are
_LINE = 24  # characters of a name above and below a panel


def plot_connectivity(
    draws, others=None, *, band="alpha", method="coh", show=True
) -> plt.Figure:
    """Plot the connectivity between virtual contacts.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts: at least 2 draws of at
        least 2 contacts and 4 s, with epochs of at least 2 s.
    others : dict of str -> Raw | Epochs | None
        Recorded iEEG or source estimates to compare with, by name, at the contacts that
        they share with the draws. They must have the duration of the draws, because
        connectivity from short recordings is biased upwards.
    band : str
        The frequency band: ``'delta'``, ``'theta'``, ``'alpha'``, ``'beta'``,
        ``'gamma'`` or ``'broad'``.
    method : str
        A method of mne-connectivity: ``'coh'``, ``'imcoh'`` (of which the absolute
        value is shown) or ``'plv'``.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The mean connectivity over draws. Without ``others``, a second matrix shows the
        width of the 90 % interval over draws (the range, for fewer than 19 draws). For
        each of ``others`` there is its matrix on the same scale, and a panel with a
        point for each pair of contacts, its interval over draws and the relative
        Frobenius error.

    See Also
    --------
    plot_spectra

    Notes
    -----
    mne-connectivity computes the connectivity in windows of two seconds, for each draw
    separately. The connectivity of the mean over draws would be that of the few spatial
    patterns that scalp EEG shows.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import plot_connectivity
    >>> raw = load_demo(verbose=False).crop(0, 6)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 10, contacts="mtl-core", random_state=0)
    >>> fig = plot_connectivity(draws, show=False)
    """
    _check_option("band", band, tuple(BANDS))
    _check_option("method", method, tuple(_METHODS))
    draws = with_epochs(draws, n_min=2)
    others = check_others(others)
    draws = draws.isel(channel=np.concatenate(list(groups(draws).values())))
    measure = partial(_connectivity, band=band, method=method)
    drawn = np.stack([measure(draw, sampling_rate(draws)) for draw in draws.values])
    compared = [_shared(draws, name, inst, measure) for name, inst in others.items()]
    top = max(map(_largest, [drawn.mean(axis=0), *(found for _, found in compared)]))
    fig, axes = _panels(len(others))
    mean, title = drawn.mean(axis=0), "Virtual, mean of draws"
    _plot_matrix(axes[0, 0], mean, draws, title, top, bar=not others)
    if not others:
        low, high, label = central_intervals(drawn)[0]
        title, widest = f"Virtual, width of {label}", _largest(high - low)
        _plot_matrix(axes[0, 1], high - low, draws, title, widest)
    rows = zip(axes, OTHERS, others, compared, strict=False)
    for row, color, name, (kept, found) in rows:
        _plot_matrix(row[1], found, draws.isel(channel=kept), fill(name, _LINE), top)
        _plot_pairs(row[2], drawn[:, kept][:, :, kept], found, name, color)
    low, high = BANDS[band]
    fig.suptitle(
        f"{_METHODS[method]}, {low:g}–{high:g} Hz. Virtual iEEG: {CAVEAT}",
        fontsize=LARGE,
    )
    return finish(fig, show)


def _shared(draws, name, inst, measure):
    """Return the shared channels of another recording, and their connectivity."""
    names = common_channels(draws, name, inst)
    kept = np.flatnonzero(np.isin(draws["channel"].values.astype(str), names))
    return kept, measure(other_data(name, inst, names), inst.info["sfreq"])


def _connectivity(data, sfreq, band, method):
    """Return the absolute connectivity, shape (n_channels, n_channels).

    Parameters
    ----------
    data : ndarray, shape (n_epochs, n_channels, n_times)
        Volts.
    sfreq : float
        Sampling rate in hertz.
    band, method : str
        The frequency band and the method.
    """
    if data.shape[1] < 2:
        raise ValueError("Connectivity needs two contacts or more, but got one.")
    size = int(POWER_WINDOW * sfreq)
    n_windows = data.shape[-1] // size
    if n_windows * len(data) < 2:
        raise ValueError(
            f"Connectivity needs two windows of {POWER_WINDOW:g} s or more, but got "
            f"{len(data)} epochs of {data.shape[-1] / sfreq:.3g} s."
        )
    # Windows of an epoch are never glued to those of the next one: each epoch gives
    # whole windows.
    whole = data[..., : n_windows * size].swapaxes(0, 1).reshape(data.shape[1], -1)
    return np.abs(spectral_connectivity(whole, sfreq, [band], (method,))[method][0])


def _plot_pairs(ax, virtual, other, name, color):
    """Draw a point for each pair of contacts, with its interval over draws."""
    error = relative_frobenius(virtual.mean(axis=0), other)
    first, second = np.tril_indices(len(other), -1)
    virtual, other = virtual[:, first, second], other[first, second]
    low, high, label = central_intervals(virtual)[0]
    faint = min(1.0, 10 / np.sqrt(len(other)))  # thousands must not be one blot
    ax.vlines(other, low, high, color=color, alpha=faint / 6, linewidth=0.8)
    ax.plot(other, virtual.mean(axis=0), ".", color=color, markersize=3, alpha=faint)
    end = 1.05 * max(high.max(), other.max())
    ax.plot([0, end], [0, end], color="0.5", linestyle="--", linewidth=1)
    inside = 100 * np.mean((low <= other) & (other <= high))
    ax.set_title(f"{inside:.0f} % within the\n{label}", fontsize=MEDIUM)
    ax.set_xlabel(f"{fill(name, _LINE)}\nrelative Frobenius\nerror {error:.2f}")
    ax.set_ylabel("Virtual")
    ax.set_xlim(0, end)
    ax.set_ylim(0, end)
    ax.set_aspect("equal")
    tidy(ax)


def _plot_matrix(ax, matrix, draws, title, vmax, bar=True):
    """Draw a matrix without its diagonal, contacts grouped by structure."""
    shown = matrix.astype(float)
    np.fill_diagonal(shown, np.nan)
    image = ax.imshow(shown, vmin=0, vmax=vmax, cmap="viridis")
    ax.set_title(title, fontsize=MEDIUM)
    if bar:
        ax.figure.colorbar(image, ax=ax, shrink=0.8).ax.tick_params(labelsize=SMALL)
    structures = groups(draws)
    ends = np.cumsum([0, *map(len, structures.values())]) - 0.5
    for end in ends[1:-1]:
        ax.axhline(end, color="white", linewidth=0.8)
        ax.axvline(end, color="white", linewidth=0.8)
    n_channels = len(matrix)
    if n_channels <= _MAX_NAMES or NO_STRUCTURE in structures:
        ticks = np.arange(0, n_channels, -(-n_channels // _MAX_NAMES))
        names = [short_name(str(name)) for name in draws["channel"].values[ticks]]
    else:
        ticks, names = (ends[1:] + ends[:-1]) / 2, list(structures)
    ax.set_yticks(ticks, names, fontsize=SMALL)
    ax.set_xticks(ticks, names, fontsize=SMALL, rotation=90)


def _largest(matrix):
    """Return the largest entry off the diagonal."""
    return matrix[np.tril_indices(len(matrix), -1)].max()


def _panels(n_others):
    """Make three panels for each comparison, the first one in the first row only."""
    n_rows, n_columns = max(1, n_others), 3 if n_others else 2
    fig, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(WIDTH, 0.5 + (2.4 if n_others else 3.0) * n_rows),
        squeeze=False,
        layout="compressed",
    )
    for ax in axes[1:, 0]:
        ax.remove()
    return fig, axes
