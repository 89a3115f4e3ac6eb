"""Calibration of the intervals of virtual contacts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import mne
import numpy as np

from .._compat import _validate_type
from ..scores.ensemble import (
    coverage,
    crps,
    interval_width,
    pit,
    risk_coverage,
)
from ._style import (
    CAVEAT,
    LARGE,
    MEDIUM,
    NO_STRUCTURE,
    SMALL,
    STRUCTURES,
    VIRTUAL,
    WIDTH,
    add_legend,
    epochs_data,
    finish,
    groups,
    highest_level,
    sampling_rate,
    tidy,
    with_epochs,
)

_NOMINAL = np.linspace(0.05, 0.95, 19)
_BINS = 20
_WINDOW = 1.0  # seconds whose mean width and error are one point of the risk
_MAX_SAMPLES = 200_000  # of the truth, beyond which a regular part is taken


def plot_calibration(draws, truth, *, show=True) -> plt.Figure:
    """Plot whether the intervals of draws are calibrated.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts, with 3 draws or more.
        The widest interval of n draws covers ``(n - 1) / (n + 1)``, so that 19 draws
        are needed for 90 %, and 39 for 95 %.
    truth : Raw | Epochs | array_like of shape ([n_epochs, ]n_channels, n_times)
        The recorded or simulated signals in volts, with the same time, rate and
        reference, between 0.5 and 50 Hz. From a Raw or Epochs, the channels of the
        draws are taken. An array has them in the same order.
    show : bool
        Show the figure.

    Returns
    -------
    fig : matplotlib.figure.Figure
        Three panels. *Coverage* is the share of samples inside central intervals
        against their nominal coverage, for all contacts and for each structure. Below
        the diagonal, intervals are too narrow. *PIT* is the distribution of the truth's
        rank among the draws. It is flat if the draws are calibrated, U-shaped if
        intervals are too narrow, and hump-shaped if they are too wide. *Risk* is the
        mean CRPS (in µV) of the seconds that remain when those with the widest 90 %
        intervals are left out. The lower curve is that of an oracle that knows the
        error, the horizontal line that of chance.

    Notes
    -----
    Neighbouring samples are correlated, so that the coverage of a few seconds may
    deviate by chance. The coverage of a calibrated model holds on average over
    recordings, not for each recording.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray
    >>> from mne_neuroflow.viz import plot_calibration
    >>> data = np.random.default_rng(0).normal(scale=5e-5, size=(21, 3, 640))
    >>> coords = {"channel": ["a", "b", "c"], "time": np.arange(640) / 128}
    >>> draws = xarray.DataArray(data[1:], coords, ("draw", "channel", "time"))
    >>> fig = plot_calibration(draws, data[0], show=False)
    """
    draws = with_epochs(draws, n_min=3)
    truth = _truth(draws, truth)
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.0), layout="constrained")
    thinned = slice(None, None, -(-truth.size // _MAX_SAMPLES))
    some, true = draws.values[..., thinned], truth[..., thinned]
    _plot_coverage(axes[0], some, true, groups(draws))
    _plot_pit(axes[1], some, true)
    _plot_risk(axes[2], draws.values, truth, sampling_rate(draws))
    for ax in axes:
        tidy(ax)
    add_legend(fig, axes[:1])
    fig.suptitle(f"Calibration of virtual iEEG: {CAVEAT}", fontsize=LARGE)
    return finish(fig, show)


def _truth(draws, truth):
    """Return the truth as an array, shape (n_epochs, n_channels, n_times)."""
    if isinstance(truth, (mne.io.BaseRaw, mne.BaseEpochs)):
        names = [str(name) for name in draws["channel"].values]
        missing = [name for name in names if name not in truth.ch_names]
        if missing:
            raise ValueError(
                f"Invalid value for the 'truth' parameter. It lacks {len(missing)} of "
                f"{len(names)} channels of the draws, the first one {missing[0]!r}."
            )
        truth = epochs_data(truth, names)
    else:
        _validate_type(truth, ("array-like",), "truth", "Raw, Epochs or array")
    truth = np.asarray(truth, draws.dtype)
    truth = truth if truth.ndim == 3 else truth[np.newaxis]
    if truth.shape != draws.shape[1:]:
        raise ValueError(
            "Invalid value for the 'truth' parameter. Allowed values have the shape "
            f"{draws.shape[1:]} of a draw (epochs, channels, samples), but got "
            f"{truth.shape}. Crop and resample it as the scalp EEG was."
        )
    if not np.isfinite(truth).all():
        raise ValueError(
            "Invalid value for the 'truth' parameter. Allowed values are finite."
        )
    return truth


def _plot_coverage(ax, draws, truth, structures):
    levels = _NOMINAL[_NOMINAL <= highest_level(len(draws)) + 1e-9]
    inside = np.stack([coverage(draws, truth, level) for level in levels])
    ax.plot([0, 100], [0, 100], color="0.5", linestyle="--", linewidth=1)
    for name, channels in structures.items():
        if name != NO_STRUCTURE:
            share = inside[:, :, channels].mean(axis=(1, 2, 3))
            color = STRUCTURES.get(name)
            ax.plot(100 * levels, 100 * share, color=color, lw=1, label=name)
    share = inside.mean(axis=(1, 2, 3))
    ax.plot(100 * levels, 100 * share, color=VIRTUAL, lw=2.2, label="all contacts")
    nominal = np.flatnonzero(levels < 0.9 + 1e-9)[-1]  # 90 %, or what comes nearest
    ax.set_title(
        f"{100 * levels[nominal]:.0f} % intervals cover {100 * share[nominal]:.1f} %",
        fontsize=MEDIUM,
    )
    ax.set_xlabel("Nominal coverage (%)")
    ax.set_ylabel("Samples inside (%)")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect("equal")


def _plot_pit(ax, draws, truth):
    """Plot the histogram of ranks, relative to a uniform one."""
    values = pit(draws, truth).ravel()
    # As many bins as share the ranks out evenly, else bins of unequal expectation
    # would look like a wrong calibration.
    n_ranks = len(draws) + 1
    edges = np.unique(np.round(np.linspace(0, n_ranks, min(_BINS, n_ranks) + 1)))
    edges = edges / n_ranks
    counts, _ = np.histogram(values, edges)
    density = counts / counts.sum() / np.diff(edges)
    ax.stairs(density, edges, fill=True, color=VIRTUAL, alpha=0.5)
    ax.axhline(1, color="0.5", linestyle="--", linewidth=1)
    ax.set_title("Rank of the truth among the draws", fontsize=MEDIUM)
    ax.set_xlabel("Probability integral transform")
    ax.set_ylabel("Density (uniform = 1)")
    ax.set_xlim(0, 1)


def _plot_risk(ax, draws, truth, sfreq):
    width = _by_window(interval_width(draws, 0.9), sfreq)
    error = 1e6 * _by_window(crps(draws, truth), sfreq)
    kept, risk, area = risk_coverage(width, error)
    _, best, _ = risk_coverage(error, error)
    ax.plot(100 * kept, risk, color=VIRTUAL, lw=2, label="by interval width")
    ax.plot(100 * kept, best, color="0.35", lw=1, ls=":", label="oracle")
    ax.axhline(risk[-1], color="0.5", ls="--", lw=1, label="chance")
    ax.set_title(f"Risk: area {area:.2f} of chance", fontsize=MEDIUM)
    ax.set_xlabel("Contacts × seconds kept (%)")
    ax.set_ylabel("Mean CRPS of these (µV)")
    ax.set_xlim(0, 100)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=SMALL, handlelength=1, borderpad=0)


def _by_window(values, sfreq):
    """Average over windows of one second, and flatten."""
    size = min(round(_WINDOW * sfreq), values.shape[-1])
    n_windows = values.shape[-1] // size
    windows = values[..., : n_windows * size].reshape(*values.shape[:-1], -1, size)
    return windows.mean(axis=-1).ravel()
