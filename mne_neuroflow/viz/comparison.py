"""Figures of the comparison with source localization."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from .._compat import _validate_type
from ._style import (
    CAVEAT,
    LARGE,
    MEDIUM,
    OTHERS,
    SMALL,
    VIRTUAL,
    WIDTH,
    add_legend,
    fill_intervals,
    finish,
    short_name,
    tidy,
)

_SECONDS = 2.0  # shown of the traces, unless the user asks otherwise
_ROWS = 4  # contacts shown
# What is summarized: column of the table, title, axis label, value of full agreement.
_SUMMARIES = (
    ("r", "Waveform", "Correlation with the\nmean of the draws", 0.0),
    ("inside", "Samples", "Share inside the 90 %\ninterval of the draws", 0.9),
    ("power_difference", "Power", "Level above the\nmean of the draws (dB)", 0.0),
)
_COLORS = (*OTHERS, "black")  # none of them near the blue of the draws


def plot_comparison(
    comparison, *, contacts=None, tmin=None, tmax=None, show=True
) -> plt.Figure:
    """Plot source localization and the flow's intervals at the same contacts.

    Parameters
    ----------
    comparison : Comparison
        The result of :func:`mne_neuroflow.compare_sources`.
    contacts : str | list of str | None
        The contacts whose traces are shown. ``None`` takes the contact with the highest
        observability in each of four structures.
    tmin, tmax : float | None
        First and last time of the traces in seconds. ``None`` takes two seconds in the
        middle. Of epochs, the first one is shown.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The traces, and below them the agreement for each structure: the median over
        contacts and the interquartile range.

    See Also
    --------
    mne_neuroflow.compare_sources

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import plot_comparison
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> hippocampi = [[-0.027, -0.02, -0.018], [0.027, -0.02, -0.018]]  # metres
    >>> comparison = mne_neuroflow.compare_sources(
    ...     raw, contacts=hippocampi, n_draws=19, random_state=0, verbose=False
    ... )
    >>> fig = plot_comparison(comparison, show=False)
    """
    from ..compare import Comparison

    _validate_type(comparison, Comparison, "comparison")
    names = _check_contacts(comparison, contacts)
    shown = _check_times(comparison.draws["time"].values, tmin, tmax)
    heights = (0.6 + 0.9 * len(names), 2.6)  # inches
    fig = plt.figure(figsize=(WIDTH, sum(heights) + 0.5), layout="constrained")
    upper, lower = fig.subfigures(2, 1, height_ratios=heights)
    traces = upper.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for ax, name in zip(traces, names, strict=True):
        _plot_contact(ax, comparison, name, shown)
    traces[-1].set_xlabel("Time (s)", fontsize=MEDIUM)
    upper.supylabel("Potential (µV)", fontsize=MEDIUM)
    upper.suptitle(f"Source localization and virtual iEEG: {CAVEAT}", fontsize=LARGE)
    lower.suptitle(
        "0.5–45 Hz, median and middle half of each structure's contacts",
        fontsize=MEDIUM,
    )
    for ax, summary in zip(lower.subplots(1, 3), _SUMMARIES, strict=True):
        _plot_summary(ax, comparison.table, *summary)
    add_legend(upper, traces, n_columns=4)
    return finish(fig, show)


def _check_contacts(comparison, contacts):
    names = [str(name) for name in comparison.draws["channel"].values]
    if contacts is None:
        table = comparison.table.drop_duplicates("channel")
        table = table.sort_values("observability", ascending=False, kind="stable")
        return list(table.drop_duplicates("structure")["channel"][:_ROWS])
    contacts = [contacts] if isinstance(contacts, str) else list(contacts)
    unknown = [name for name in contacts if name not in names]
    if unknown or not contacts:
        raise ValueError(
            "Invalid value for the 'contacts' parameter. Allowed values are lists of "
            f"contacts of the comparison, but got {unknown or contacts}."
        )
    return contacts


def _check_times(time, tmin, tmax):
    if tmin is None:
        tmin = max(time[0], (time[0] + time[-1] - _SECONDS) / 2)
    tmax = tmin + _SECONDS if tmax is None else tmax
    shown = (time >= tmin) & (time <= tmax)
    if shown.sum() < 2:
        raise ValueError(
            f"There is nothing from {tmin:g} to {tmax:g} s: the comparison lasts from "
            f"{time[0]:g} to {time[-1]:g} s."
        )
    return shown


def _colors(methods):
    return dict(zip(methods, _COLORS, strict=False))


def _plot_contact(ax, comparison, name, shown):
    draws = comparison.draws.sel(channel=name)
    if "epoch" in draws.dims:
        draws = draws.isel(epoch=0)
    time = draws["time"].values[shown]
    fill_intervals(ax, time, 1e6 * draws.values[:, shown])
    mean = draws.values[:, shown].mean(axis=0)
    ax.plot(time, 1e6 * mean, color=VIRTUAL, linewidth=1.0, label="mean of the draws")
    for method, color in _colors(comparison.estimates).items():
        estimate = comparison.estimates[method]
        same = (estimate.times >= time[0]) & (estimate.times <= time[-1])
        data = estimate.get_data([name], verbose=False).reshape(-1, len(same))[0, same]
        ax.plot(time, 1e6 * data, color=color, linewidth=1.0, label=method)
    ax.set_xlim(time[0], time[-1])
    ax.locator_params(axis="y", nbins=3)
    ax.text(
        1.01,
        0.5,
        f"{short_name(name)}\n{draws['structure'].values}\n"
        f"observability {float(draws['observability']):.2f}",
        transform=ax.transAxes,
        va="center",
        fontsize=SMALL,
    )
    tidy(ax)


def _plot_summary(ax, table, column, title, label, reference):
    """Plot median and interquartile range over the contacts of each structure."""
    table = table[table["band"] == "broad"]
    structures = list(dict.fromkeys(table["structure"]))
    methods = _colors(dict.fromkeys(table["method"]))
    ax.axhline(reference, color="0.6", linewidth=0.8)
    for k, (method, color) in enumerate(methods.items()):
        grouped = table[table["method"] == method].groupby("structure")[column]
        low, middle, high = (
            grouped.quantile(q)[structures].to_numpy() for q in (0.25, 0.5, 0.75)
        )
        x = np.arange(len(structures)) + 0.16 * (k - (len(methods) - 1) / 2)
        ax.errorbar(
            x,
            middle,
            yerr=[middle - low, high - middle],
            fmt="o",
            markersize=3,
            linewidth=1.2,
            color=color,
        )
    ax.set_xticks(range(len(structures)), structures, rotation=30, ha="right")
    ax.set_title(title, fontsize=MEDIUM)
    ax.set_ylabel(label)
    tidy(ax)
