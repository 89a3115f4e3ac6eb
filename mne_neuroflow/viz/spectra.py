"""Spectra of virtual contacts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter

from ..scores.signals import power_spectrum
from ._style import (
    CAVEAT,
    DRAW,
    LARGE,
    MEDIUM,
    OTHERS,
    WIDTH,
    add_legend,
    check_others,
    common_channels,
    fill_intervals,
    finish,
    groups,
    other_data,
    sampling_rate,
    tidy,
    with_epochs,
)

_COLUMNS = 4
_SHORTEST = 1.0  # seconds, the windows of the spectra
_TICKS = (1, 2, 4, 8, 16, 32)


def plot_spectra(draws, others=None, *, show=True) -> plt.Figure:
    """Plot power spectra of virtual contacts, in one panel per structure.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts, with at least 1 s.
    others : dict of str -> Raw | Epochs | None
        Recorded iEEG or source estimates of at least 1 s to compare with, by the name
        for the legend, at the contacts that they share with the draws.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        Power between 1 and 45 Hz in decibels relative to 1 µV²/Hz, averaged (in
        decibels) over the contacts of a structure.

    See Also
    --------
    plot_virtual
    plot_connectivity

    Notes
    -----
    The spectrum of each draw is computed separately (Welch's method, with
    Hann windows of one second). Shaded intervals are over draws. The spectrum of the
    mean over draws would have far too little power.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import plot_spectra
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 10, contacts="mtl-core", random_state=0)
    >>> fig = plot_spectra(draws, show=False)
    """
    draws = with_epochs(draws, seconds=_SHORTEST)
    others = check_others(others)
    freqs, decibels = _decibels(draws.values, sampling_rate(draws))
    panels = groups(draws)
    fig, axes = _grid(len(panels))
    for ax, (structure, channels) in zip(axes, panels.items(), strict=True):
        mean = decibels[:, channels].mean(axis=1)
        fill_intervals(ax, freqs, mean)
        ax.plot(freqs, mean[0], color=DRAW, linewidth=0.9, label="one draw")
        ax.set_title(f"{structure} (n = {len(channels)})", fontsize=MEDIUM)
    for color, (name, inst) in zip(OTHERS, others.items(), strict=False):
        shared = common_channels(draws, name, inst)
        for ax, channels in zip(axes, panels.values(), strict=True):
            here = draws["channel"].values[channels].astype(str)
            _plot_other(ax, name, inst, [ch for ch in here if ch in shared], color)
    _label(fig, axes)
    return finish(fig, show)


def _decibels(data, sfreq):
    """Return frequencies and decibels relative to 1 µV²/Hz.

    Parameters
    ----------
    data : ndarray, shape (..., n_epochs, n_channels, n_times)
        Volts.
    sfreq : float
        Sampling rate in hertz.
    """
    freqs, density = power_spectrum(data, sfreq)
    return freqs, 10 * np.log10(1e12 * density.mean(axis=-3) + 1e-30)


def _plot_other(ax, name, inst, names, color):
    if not names:
        return
    data = other_data(name, inst, names, seconds=_SHORTEST)
    freqs, decibels = _decibels(data, inst.info["sfreq"])
    ax.plot(freqs, decibels.mean(axis=0), color=color, linewidth=1.3, label=name)


def _grid(n_panels):
    n_rows = -(-n_panels // _COLUMNS)
    n_columns = min(n_panels, _COLUMNS)
    fig, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(WIDTH * max(n_columns, 3) / _COLUMNS, 1.0 + 1.7 * n_rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[n_panels:]:
        ax.remove()
    return fig, axes.flat[:n_panels]


def _label(fig, axes):
    axes[0].set_xscale("log")
    axes[0].set_xlim(1, 45)
    for ax in axes:
        ax.set_xticks(_TICKS)
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("Frequency (Hz)")
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        tidy(ax)
    fig.supylabel("Power (dB re 1 µV²/Hz)", fontsize=MEDIUM)
    fig.suptitle(f"Spectra of virtual iEEG: {CAVEAT}", fontsize=LARGE)
    add_legend(fig, axes)
