"""The figure of the demonstration."""

from matplotlib.figure import Figure

_INTERVAL = (0.05, 0.95)
_COLOR = "#1f5a96"
_TITLE = "Virtual intracranial EEG: a prediction from the scalp, not a recording"


def plot_virtual(draws):
    """Plot virtual contacts: one draw, the median and the 90 % interval.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws, n_channels, n_times)
        Draws in volts with the dimensions ``draw``, ``channel`` and ``time`` (in
        seconds). Where the channels have the coordinates ``structure`` and
        ``observability`` (share of the prior variance that the scalp explains, 0 to
        1), these become part of their labels.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The figure, one row a channel.

    Examples
    --------
    >>> draws = mne_neuroflow.sample_ieeg(raw, n_draws=100)  # doctest: +SKIP
    >>> contacts = draws.sel(channel=["vAL1", "vAR1"])  # doctest: +SKIP
    >>> plot_virtual(contacts).savefig("virtual.png")  # doctest: +SKIP
    """
    microvolts = draws * 1e6
    low, median, high = microvolts.quantile([_INTERVAL[0], 0.5, _INTERVAL[1]], "draw")
    time = draws["time"].values
    n_channels = draws.sizes["channel"]
    # Not pyplot: this figure goes to a file, also where there is no display.
    fig = Figure(figsize=(10, 1.2 + 1.3 * n_channels), layout="constrained")
    axes = fig.subplots(n_channels, 1, sharex=True, sharey=True, squeeze=False)
    for row, ax in enumerate(axes[:, 0]):
        here = {"channel": row}
        ax.fill_between(
            time,
            low[here],
            high[here],
            color=_COLOR,
            alpha=0.2,
            linewidth=0,
            label="90 % interval",
        )
        ax.plot(time, microvolts[here][0], color="0.25", linewidth=0.7, label="a draw")
        ax.plot(time, median[here], color=_COLOR, linewidth=1.6, label="median")
        ax.set_ylabel(
            _label(draws[here]), rotation=0, ha="right", va="center", fontsize=9
        )
        ax.margins(x=0)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("Time (s)")
    fig.suptitle(_TITLE)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False)
    return fig


def _label(channel):
    """Name a channel, its structure and how much the scalp says about it."""
    lines = [f"{channel['channel'].values} (µV)"]
    if "structure" in channel.coords:
        lines.append(str(channel["structure"].values))
    if "observability" in channel.coords:
        lines.append(f"observability {float(channel['observability']):.2f}")
    return "\n".join(lines)
