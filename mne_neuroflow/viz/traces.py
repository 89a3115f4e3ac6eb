"""Traces of virtual contacts with their intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import mne
import numpy as np

from ._style import (
    CAVEAT,
    DRAW,
    LARGE,
    MEDIUM,
    NO_STRUCTURE,
    OTHERS,
    SMALL,
    WIDTH,
    add_legend,
    check_draws,
    check_others,
    common_channels,
    fill_intervals,
    finish,
    groups,
    short_name,
    tidy,
)


def plot_virtual(draws, others=None, *, show=True) -> plt.Figure:
    """Plot traces of virtual contacts: one draw, and the intervals over draws.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws, n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts. Select contacts and
        time with its ``sel`` method. About twenty contacts fit on a page.
    others : dict of str -> Raw | None
        Recorded iEEG or source estimates to plot as well, by the name for the legend,
        at the contacts that they share with the draws. Their time zero is that of the
        draws. Filter them to the model's band of 0.5-50 Hz beforehand.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        One row per contact, grouped by structure, each on its own scale, with the share
        of its prior variance that the scalp EEG explains.

    See Also
    --------
    plot_spectra

    Notes
    -----
    The shaded intervals hold for each sample separately: if the model is
    calibrated, the truth is outside a 90 % interval in one of ten samples. The line is
    the first draw, one of many signals that fit the scalp EEG. Neither is a recording.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import plot_virtual
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 10, contacts="mtl-core", random_state=0)
    >>> fig = plot_virtual(draws[:, :6], show=False)
    """
    draws = check_draws(draws)
    others = check_others(others, mne.io.BaseRaw, "Raw")
    rows = [(name, ch) for name, chs in groups(draws).items() for ch in chs]
    fig, axes = plt.subplots(
        len(rows),
        1,
        figsize=(WIDTH, 1.0 + 0.62 * len(rows)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    axes = axes[:, 0]
    above = None
    for ax, (structure, channel) in zip(axes, rows, strict=True):
        _plot_row(ax, draws.isel(channel=channel))
        if structure not in (above, NO_STRUCTURE):
            ax.set_title(structure, loc="left", fontsize=MEDIUM, weight="bold", pad=2)
        above = structure
    for color, (name, inst) in zip(OTHERS, others.items(), strict=False):
        names = [str(draws["channel"].values[channel]) for _, channel in rows]
        _overlay(dict(zip(names, axes, strict=True)), draws, name, inst, color)
    axes[0].set_xlim(*draws["time"].values[[0, -1]])
    axes[-1].set_xlabel("Time (s)", fontsize=MEDIUM)
    fig.supylabel("Potential (µV)", fontsize=MEDIUM)
    fig.suptitle(f"Virtual iEEG: {CAVEAT}", fontsize=LARGE)
    add_legend(fig, axes)
    return finish(fig, show)


def _plot_row(ax, channel):
    """Draw one contact and write its name beside it."""
    time, microvolts = channel["time"].values, 1e6 * channel.values
    fill_intervals(ax, time, microvolts)
    ax.plot(time, microvolts[0], color=DRAW, linewidth=0.7, label="one draw")
    ax.locator_params(axis="y", nbins=3)
    ax.text(
        1.01,
        0.5,
        _label(channel),
        transform=ax.transAxes,
        va="center",
        fontsize=SMALL,
        linespacing=1.2,
    )
    tidy(ax)


def _label(channel):
    """Name a contact and the share of its variance that the scalp EEG explains."""
    name = short_name(str(channel["channel"].values))
    if "observability" not in channel.coords:
        return name
    return f"{name}\nobservability {float(channel['observability']):.2f}"


def _overlay(axes, draws, name, inst, color):
    """Draw another recording of the same contacts."""
    names = common_channels(draws, name, inst)
    start, stop = draws["time"].values[[0, -1]]
    shown = (inst.times >= start - 1e-6) & (inst.times <= stop + 1e-6)
    if not shown.any():
        raise ValueError(
            f"others[{name!r}] lasts from {inst.times[0]:g} to {inst.times[-1]:g} s, "
            f"but the draws from {start:g} to {stop:g} s."
        )
    first, last = np.flatnonzero(shown)[[0, -1]]
    data = inst.get_data(picks=names, start=first, stop=last + 1, verbose=False)
    for ch_name, trace in zip(names, data, strict=True):
        axes[ch_name].plot(
            inst.times[shown], 1e6 * trace, color=color, linewidth=1.1, label=name
        )
