"""Connectivity between virtual contacts."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from .._compat import _check_option
from ..evaluation.calibration import coverage, interval, interval_width
from ..evaluation.signals import (
    BANDS,
    POWER_WINDOW,
    relative_frobenius,
    spectral_connectivity,
)
from ._style import (
    CAVEAT,
    NO_STRUCTURE,
    OTHERS,
    check_others,
    common_channels,
    epochs_data,
    finish,
    groups,
    sampling_rate,
    with_epochs,
)

_METHODS = {
    "coh": "Coherence",
    "imcoh": "Imaginary coherence",
    "plv": "Phase-locking value",
}
_MOST_NAMES = 20  # contacts named at a matrix; beyond, structures are


def plot_connectivity(draws, others=None, *, band="alpha", method="coh", show=True):
    """Plot connectivity between virtual contacts, and compare it.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        What :func:`mne_neuroflow.sample_ieeg` returns, in volts: at least 4 s, epochs
        of at least 2 s.
    others : dict of str -> Raw | Epochs | None
        What to compare with at the contacts that it shares, by its name: recorded
        iEEG, or a source estimate. It must have the length of the draws: connectivity
        from little data is biased upwards.
    band : str
        ``'delta'``, ``'theta'``, ``'alpha'``, ``'beta'``, ``'gamma'`` or
        ``'broad'``.
    method : str
        ``'coh'``, ``'imcoh'`` (the absolute value is shown) or ``'plv'``, as
        mne-connectivity has them.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The mean over draws of their connectivity. Alone, the width of the 90 %
        interval over draws stands beside it; for each of ``others`` its matrix, and a
        panel with a point for each pair of contacts, its interval over draws and the
        relative Frobenius error.

    See Also
    --------
    plot_spectra

    Notes
    -----
    It needs mne-connectivity, which works in windows of two seconds. Each draw is
    measured apart: the connectivity of the mean over draws would be that of the few
    patterns that the scalp sees.

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
    draws = with_epochs(draws)
    others = check_others(others)
    order = np.concatenate(list(groups(draws).values()))
    draws = draws.isel(channel=order)
    sfreq = sampling_rate(draws)
    measure = partial(_connectivity, band=band, method=method)
    drawn = np.stack([measure(draw, sfreq) for draw in draws.values])
    mean = drawn.mean(axis=0)
    paint = partial(_plot_matrix, vmax=_largest(mean))
    fig, axes = _panels(len(others))
    image = paint(axes[0, 0], mean, draws, "Virtual, mean of draws")
    if not others:
        width = interval_width(drawn, 0.9)
        paint(axes[0, 1], width, draws, "Width of the 90 % interval over draws")
    for row, color, (name, inst) in zip(axes, OTHERS, others.items(), strict=False):
        names = common_channels(draws, name, inst)
        kept = np.flatnonzero(np.isin(draws["channel"].values.astype(str), names))
        other = measure(epochs_data(inst, names), inst.info["sfreq"])
        paint(row[1], other, draws.isel(channel=kept), name)
        _plot_pairs(row[2], drawn[:, kept][:, :, kept], other, color)
        row[2].set_xlabel(f"{_METHODS[method]}, {name}", fontsize=8)
        row[2].set_ylabel(f"{_METHODS[method]}, virtual", fontsize=8)
    fig.colorbar(
        image,
        ax=axes[0, 0],
        label=_METHODS[method],
        shrink=0.7,
        location="left",
        extend="max",
    )
    low, high = BANDS[band]
    fig.suptitle(f"{low:g}–{high:g} Hz. Virtual iEEG: {CAVEAT}", fontsize=11)
    return finish(fig, show)


def _connectivity(data, sfreq, band, method):
    """Return the absolute connectivity, shape (n_channels, n_channels).

    Parameters
    ----------
    data : ndarray, shape (n_epochs, n_channels, n_times)
        Volts.
    sfreq : float
        Sampling rate in hertz.
    band, method : str
        What of.
    """
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


def _plot_pairs(ax, virtual, other, color):
    """Draw a point for each pair of contacts, with its interval over draws."""
    error = relative_frobenius(virtual.mean(axis=0), other)
    ax.set_title(f"Relative Frobenius error of the mean: {error:.2f}", fontsize=8)
    first, second = np.tril_indices(len(other), -1)
    virtual, other = virtual[:, first, second], other[first, second]
    low, high = interval(virtual, 0.9)
    ax.vlines(other, low, high, color=color, alpha=0.15, linewidth=0.8)
    ax.plot(other, virtual.mean(axis=0), ".", color=color, markersize=3)
    end = 1.05 * max(high.max(), other.max())
    ax.plot([0, end], [0, end], color="0.5", linestyle="--", linewidth=1)
    inside = 100 * coverage(virtual, other, 0.9).mean()
    ax.text(
        0.03,
        0.97,
        f"{inside:.0f} % of pairs\nin the 90 % interval",
        transform=ax.transAxes,
        va="top",
        fontsize=8,
    )
    ax.set_xlim(0, end)
    ax.set_ylim(0, end)
    ax.set_aspect("equal")
    ax.tick_params(labelsize=8)


def _plot_matrix(ax, matrix, draws, title, vmax):
    """Draw a matrix without its diagonal, contacts grouped by structure."""
    shown = matrix.astype(float)
    np.fill_diagonal(shown, np.nan)
    image = ax.imshow(shown, vmin=0, vmax=vmax, cmap="viridis")
    ax.set_title(title, fontsize=9)
    structures = groups(draws)
    ends = np.cumsum([0, *map(len, structures.values())]) - 0.5
    for end in ends[1:-1]:
        ax.axhline(end, color="white", linewidth=0.8)
        ax.axvline(end, color="white", linewidth=0.8)
    n_channels = len(matrix)
    if n_channels <= _MOST_NAMES or NO_STRUCTURE in structures:
        ticks, names = np.arange(n_channels), draws["channel"].values
    else:
        ticks, names = (ends[1:] + ends[:-1]) / 2, list(structures)
    ax.set_yticks(ticks, names, fontsize=7)
    ax.set_xticks(ticks, names, fontsize=7, rotation=90)
    return image


def _largest(matrix):
    """Largest entry off the diagonal."""
    return matrix[np.tril_indices(len(matrix), -1)].max()


def _panels(n_others):
    """Make three panels for each comparison; the first one in the first row only."""
    n_rows, n_columns = max(1, n_others), 3 if n_others else 2
    fig, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(1 + 3.4 * n_columns, 0.5 + 3.6 * n_rows),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes[1:, 0]:
        ax.remove()
    return fig, axes
