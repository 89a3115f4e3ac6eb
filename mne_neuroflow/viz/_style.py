"""What all figures share: colours, labels, and checks of draws."""

import mne
import numpy as np
from mne.viz.utils import plt_show

from .._compat import _validate_type
from ..head.geometry import ELSEWHERE
from ..scores.ensemble import interval

CAVEAT = "predicted from scalp EEG, not recorded"
# Inches: 180 mm, the full width of a page in two columns. Figures are made in the size
# in which they are printed, so that letters keep theirs, in points.
WIDTH = 7.1
SMALL, MEDIUM, LARGE = 7, 8, 9
# Okabe & Ito, Color Universal Design (2008): distinguishable with any colour vision.
VIRTUAL = "#0072B2"
OTHERS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
# The same in every figure. Theirs, without the blue of what is virtual, and four more.
STRUCTURES = {
    "hippocampus": "#D55E00",
    "amygdala": "#009E73",
    "parahippocampal": "#CC79A7",
    "temporal-lateral": "#56B4E9",
    "insula": "#E69F00",
    "frontal": "#8C564B",
    "parietal": "#000000",
    "occipital": "#882255",
    ELSEWHERE: "#7F7F7F",
}
DRAW = "0.2"
_LEVELS = (0.9, 0.5)  # of central intervals
_OPACITY = (0.18, 0.40)
NO_STRUCTURE = "contacts"
_LONGEST_NAME = 16  # characters, as many as EDF has


def check_draws(draws, dims=("draw", "channel", "time"), *, n_min=1, seconds=0.0):
    """Refuse objects that are not draws, have other dimensions or are too small.

    Parameters
    ----------
    draws : xarray.DataArray
        What :func:`mne_neuroflow.sample_ieeg` returns.
    dims : tuple of str
        The dimensions needed.
    n_min : int
        The minimum number of draws.
    seconds : float
        The minimum duration.

    Returns
    -------
    draws : xarray.DataArray
        The same draws, with their dimensions in this order.
    """
    import xarray

    _validate_type(draws, xarray.DataArray, "draws", "xarray.DataArray")
    wrong = "Invalid value for the 'draws' parameter. Allowed values are draws"
    if set(draws.dims) != set(dims):
        hint = " Select one epoch with draws.isel(epoch=0)." * ("epoch" in draws.dims)
        hint += " Select one channel with draws.sel(channel=[name])." * (
            "channel" not in draws.dims
        )
        raise ValueError(
            f"{wrong} with the dimensions {dims}, but got {draws.dims}.{hint}"
        )
    for coordinate in ("channel", "time"):
        if coordinate not in draws.coords:
            raise ValueError(
                f"{wrong} with the coordinate {coordinate!r}, as sample_ieeg() gives "
                f"it, but got {list(draws.coords)}."
            )
    if 0 in draws.shape or draws.sizes["time"] < 2 or draws.sizes["draw"] < n_min:
        raise ValueError(
            f"{wrong} with sizes of at least {n_min} (draw), 1 (channel) and 2 (time), "
            f"but got {dict(draws.sizes)}."
        )
    lasts = draws.sizes["time"] / sampling_rate(draws)
    if lasts < seconds - 1e-6:
        raise ValueError(f"{wrong} of {seconds:g} s or more, but got {lasts:.3g} s.")
    if not np.isfinite(draws.values).all():
        raise ValueError(f"{wrong} without NaN and infinite values.")
    return draws.transpose(*dims)


def with_epochs(draws, *, n_min=1, seconds=0.0):
    """Return draws with a dimension for epochs, which is added to those of a Raw.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        What :func:`mne_neuroflow.sample_ieeg` returns.
    n_min : int
        The minimum number of draws.
    seconds : float
        The minimum duration, of each epoch if there are epochs.

    Returns
    -------
    draws : xarray.DataArray, shape (n_draws, n_epochs, n_channels, n_times)
        The same, with the dimension ``epoch``.
    """
    if "epoch" not in getattr(draws, "dims", ("epoch",)):
        draws = draws.expand_dims("epoch", axis=1)
    dims = ("draw", "epoch", "channel", "time")
    return check_draws(draws, dims, n_min=n_min, seconds=seconds)


def sampling_rate(draws):
    """Compute the sampling rate of draws.

    Parameters
    ----------
    draws : xarray.DataArray
        With the coordinate ``time`` in seconds.

    Returns
    -------
    sfreq : float
        The sampling rate in hertz.
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
        The channels of each structure, in the order in which structures appear.
    """
    if "structure" not in draws.coords:
        return {NO_STRUCTURE: np.arange(draws.sizes["channel"])}
    names = draws["structure"].values.astype(str)
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(names)}


def check_others(
    others, types=(mne.io.BaseRaw, mne.BaseEpochs), type_name="Raw or Epochs"
):
    """Check recordings that are compared with the draws.

    Parameters
    ----------
    others : dict of str -> Raw | Epochs | None
        The recordings by name.
    types : type | tuple of type
        The allowed types.
    type_name : str
        The allowed types in words.

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
    """Find the channels of the draws that another recording has as well.

    Parameters
    ----------
    draws : xarray.DataArray
        With the dimension ``channel``.
    name : str
        The name of the other recording.
    inst : Raw | Epochs
        The other recording.

    Returns
    -------
    names : list of str
        The names of the channels, in the order of the draws.
    """
    names = [str(ch) for ch in draws["channel"].values if ch in inst.ch_names]
    if not names:
        raise ValueError(
            f"others[{name!r}] has none of the channels of the draws. Predict at its "
            "contacts, with contacts=inst.info, or rename its channels."
        )
    return names


def short_name(name):
    """Shorten a name that is too long for a figure.

    Parameters
    ----------
    name : str
        The name of a contact.

    Returns
    -------
    name : str
        At most 16 characters: the beginning, and the end with the number.
    """
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"


def other_data(name, inst, names, *, seconds=0.0):
    """Read a recording that is compared with draws, and refuse unsuitable data.

    Parameters
    ----------
    name : str
        The name of the other recording.
    inst : Raw | Epochs
        The other recording.
    names : list of str
        Its channels to read.
    seconds : float
        The minimum duration, of each epoch if there are epochs.

    Returns
    -------
    data : ndarray, shape (n_epochs, n_channels, n_times)
        Volts, finite.
    """
    data = epochs_data(inst, names)
    lasts = data.shape[-1] / inst.info["sfreq"]
    if lasts < seconds - 1e-6:
        raise ValueError(
            "Invalid value for the 'others' parameter. Allowed values are recordings "
            f"of {seconds:g} s or more, but others[{name!r}] has {lasts:.3g} s."
        )
    finite = np.isfinite(data).all(axis=(0, 2))
    if not finite.all():
        raise ValueError(
            "Invalid value for the 'others' parameter. Allowed values are recordings "
            f"without NaN and infinite values, but others[{name!r}] has some in "
            f"{names[np.argmin(finite)]}. Crop them away, or drop the channel."
        )
    return data


def epochs_data(inst, names):
    """Read channels of Raw or Epochs. A Raw has one epoch.

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


def highest_level(n_draws):
    """Compute the widest central interval that a number of draws can have.

    An interval cannot extend beyond the outermost draws. A further value from the same
    distribution lies between them with this probability.

    Parameters
    ----------
    n_draws : int
        Number of draws.

    Returns
    -------
    level : float
        The nominal coverage of this interval.
    """
    return (n_draws - 1) / (n_draws + 1)


def central_intervals(values):
    """Compute the central 90 % and 50 % of draws, if there are enough draws.

    Parameters
    ----------
    values : ndarray, shape (n_draws, ...)
        Draws.

    Returns
    -------
    intervals : list of tuple
        Lower end, upper end and label, the widest first. With fewer than 19 draws the
        range replaces the 90 % interval, with another label. A single draw has no
        interval.
    """
    n_draws, found = len(values), []
    for level in _LEVELS:
        if level <= highest_level(n_draws) + 1e-9:
            label = f"{100 * level:.0f} % of draws"
            found.append((*interval(values, level), label))
        elif n_draws > 1 and not found:
            label = f"range of {n_draws} draws"
            found.append((values.min(axis=0), values.max(axis=0), label))
    return found


def fill_intervals(ax, x, values):
    """Shade the central 50 and 90 % of draws.

    Parameters
    ----------
    ax : Axes
        The axes.
    x : ndarray, shape (n,)
        The abscissa.
    values : ndarray, shape (n_draws, n)
        Draws.
    """
    shaded = zip(central_intervals(values), _OPACITY, strict=False)
    for (low, high, label), alpha in shaded:
        ax.fill_between(x, low, high, color=VIRTUAL, alpha=alpha, lw=0, label=label)


def add_legend(fig, axes, n_columns=5):
    """Add one legend for all axes below the figure.

    Parameters
    ----------
    fig : Figure | SubFigure
        The figure of the axes. Matplotlib before 3.11 refuses that of a subfigure.
    axes : iterable of Axes
        The axes whose labels are collected. Each label is listed once.
    n_columns : int
        The maximum number of columns. There are fewer if names are long.
    """
    entries = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for n in range(min(len(entries), n_columns), 0, -1):
        legend = fig.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=n,
            frameon=False,
            fontsize=MEDIUM,
        )
        if n == 1 or legend.get_window_extent().width <= fig.bbox.width:
            break
        legend.remove()


def tidy(ax):
    """Remove the upper and right spines and set the size of labels.

    Parameters
    ----------
    ax : Axes
        The axes.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_fontsize(MEDIUM)


def finish(fig, show):
    """Show the figure if requested, and return it.

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
