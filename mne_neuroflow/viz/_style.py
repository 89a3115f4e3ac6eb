"""What all figures share: colours, words, and how draws are looked at."""

import mne
import numpy as np
from mne.viz.utils import plt_show

from .._compat import _validate_type
from ..evaluation.calibration import interval

CAVEAT = "predicted from scalp EEG, not recorded"
# Okabe & Ito, Color Universal Design (2008): told apart with any colour vision.
VIRTUAL = "#0072B2"
OTHERS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C564B",
    "#7F7F7F",
    "#000000",
)
DRAW = "0.2"
_LEVELS = ((0.9, 0.18), (0.5, 0.40))  # central intervals and how opaque they are
NO_STRUCTURE = "contacts"


def check_draws(draws, dims=("draw", "channel", "time")):
    """Refuse what is not draws with these dimensions.

    Parameters
    ----------
    draws : xarray.DataArray
        What :func:`mne_neuroflow.sample_ieeg` returns.
    dims : tuple of str
        The dimensions needed.

    Returns
    -------
    draws : xarray.DataArray
        The same, its dimensions in this order.
    """
    import xarray

    _validate_type(draws, xarray.DataArray, "draws", "xarray.DataArray")
    if set(draws.dims) != set(dims):
        hint = " Select one epoch with draws.isel(epoch=0)." * ("epoch" in draws.dims)
        raise ValueError(
            f"Invalid value for the 'draws' parameter. Allowed values are draws with "
            f"the dimensions {dims}, but got {draws.dims}.{hint}"
        )
    return draws.transpose(*dims)


def with_epochs(draws):
    """Give draws of a Raw one epoch.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        What :func:`mne_neuroflow.sample_ieeg` returns.

    Returns
    -------
    draws : xarray.DataArray, shape (n_draws, n_epochs, n_channels, n_times)
        The same, with the dimension ``epoch``.
    """
    if "epoch" not in getattr(draws, "dims", ("epoch",)):
        draws = draws.expand_dims("epoch", axis=1)
    return check_draws(draws, ("draw", "epoch", "channel", "time"))


def sampling_rate(draws):
    """Compute the sampling rate of draws.

    Parameters
    ----------
    draws : xarray.DataArray
        With the coordinate ``time`` in seconds.

    Returns
    -------
    sfreq : float
        In hertz.
    """
    time = draws["time"].values
    return (len(time) - 1) / (time[-1] - time[0])


def groups(draws):
    """Group channels by structure.

    Parameters
    ----------
    draws : xarray.DataArray
        Its channels may have the coordinate ``structure``.

    Returns
    -------
    groups : dict of str -> ndarray of int
        Channels of each structure, in the order in which structures appear.
    """
    if "structure" not in draws.coords:
        return {NO_STRUCTURE: np.arange(draws.sizes["channel"])}
    names = draws["structure"].values.astype(str)
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}


def check_others(
    others, types=(mne.io.BaseRaw, mne.BaseEpochs), type_name="Raw or Epochs"
):
    """Check what is laid beside the draws.

    Parameters
    ----------
    others : dict of str -> Raw | Epochs | None
        What each is called, and its data.
    types : type | tuple of type
        What the data may be.
    type_name : str
        The same in words.

    Returns
    -------
    others : dict of str -> Raw | Epochs
        The same, empty for ``None``.
    """
    _validate_type(others, (dict, None), "others", "dict or None")
    others = others or {}
    for name, inst in others.items():
        _validate_type(inst, types, f"others[{name!r}]", type_name)
    if len(others) > len(OTHERS):
        raise ValueError(
            f"Invalid value for the 'others' parameter. Allowed values are at most "
            f"{len(OTHERS)} recordings, but got {len(others)}."
        )
    return others


def common_channels(draws, name, inst):
    """Find the channels of the draws that another recording has too.

    Parameters
    ----------
    draws : xarray.DataArray
        With the dimension ``channel``.
    name : str
        What the other recording is called.
    inst : Raw | Epochs
        The other recording.

    Returns
    -------
    names : list of str
        In the order of the draws.
    """
    names = [str(ch) for ch in draws["channel"].values if ch in inst.ch_names]
    if not names:
        raise ValueError(
            f"others[{name!r}] has none of the channels of the draws. Predict at its "
            "contacts, with contacts=inst.info, or rename its channels."
        )
    return names


def epochs_data(inst, names):
    """Read channels; a Raw has one epoch.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording.
    names : list of str
        Its channels to read.

    Returns
    -------
    data : ndarray, shape (n_epochs, n_channels, n_times)
        Volts.
    """
    data = inst.get_data(picks=names, verbose=False)
    return data if data.ndim == 3 else data[np.newaxis]


def fill_intervals(ax, x, values, color=VIRTUAL):
    """Shade the central 50 and 90 % of draws.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    x : ndarray, shape (n,)
        Abscissa.
    values : ndarray, shape (n_draws, n)
        Draws.
    color : str
        Colour of both intervals.
    """
    for level, alpha in _LEVELS:
        low, high = interval(values, level)
        label = f"{level:.0%} of draws".replace("%", " %")
        ax.fill_between(x, low, high, color=color, alpha=alpha, lw=0, label=label)


def add_legend(fig, axes, n_columns=6):
    """Put one legend for all axes under the figure.

    Parameters
    ----------
    fig : Figure
        The figure.
    axes : iterable of Axes
        Where labels are looked for; each is listed once.
    n_columns : int
        Most columns of the legend.
    """
    entries = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    fig.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=min(len(entries), n_columns),
        frameon=False,
        fontsize=9,
    )


def tidy(ax):
    """Take away what says nothing.

    Parameters
    ----------
    ax : Axes
        The axes.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)


def finish(fig, show):
    """Show the figure if it is wanted, and return it.

    Parameters
    ----------
    fig : Figure
        The figure.
    show : bool
        Whether to show it.

    Returns
    -------
    fig : Figure
        The same.
    """
    plt_show(show)
    return fig
