"""Summaries of draws for the page: one draw, its interval, and values per second."""

from typing import NamedTuple

import numpy as np

from ...contract import SFREQ
from ...scores.ensemble import interval
from ...scores.signals import in_band, power_spectrum, spike_score
from .._style import groups

# Model samples per sample of an interval: intervals have 32 values per second.
POOL = 4
#: The score above which a second counts as holding a spike, as spike_detection() has it
SHARP = 4.0
SHOWN = ("broad", "delta", "theta", "alpha", "beta", "gamma")
_LEVEL = 0.9


class Summary(NamedTuple):
    """Summary of the contacts, or of their derivations.

    Attributes
    ----------
    draw : ndarray, shape (n_channels, n_times)
        The first draw in microvolts.
    low, high : ndarray, shape (n_channels, n_times / 4)
        Ends of the central 90 % of draws in microvolts, the extremes of four samples.
    power : ndarray, shape (n_bands, 3, n_channels, n_seconds)
        Median and ends of the central 90 % of draws, in decibels relative to 1 µV².
    left : ndarray, shape (n_bands, n_channels, n_seconds)
        Share of draws in which the left contacts of the structure have more power. NaN
        if a structure has contacts only on one side.
    spikes : ndarray, shape (n_channels, n_seconds)
        Share of draws with a sharp transient in this second.
    spectrum : ndarray, shape (3, n_channels, n_freqs)
        Median and ends of the central 90 % of draws, in decibels relative to 1 µV²/Hz.
    freqs : ndarray, shape (n_freqs,)
        Frequencies in hertz.
    """

    draw: np.ndarray
    low: np.ndarray
    high: np.ndarray
    power: np.ndarray
    left: np.ndarray
    spikes: np.ndarray
    spectrum: np.ndarray
    freqs: np.ndarray


def summarize(draws, sides):
    """Summarize draws for the page.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws, n_channels, n_times)
        In volts at the model's rate, whole seconds.
    sides : ndarray, shape (n_channels,)
        -1 left, 1 right, 0 in the midline.

    Returns
    -------
    summary : Summary
        The summary.
    """
    values = 1e6 * draws.values
    low, high = _pooled_interval(values)
    power = np.stack([_power(values, band) for band in SHOWN])
    left = np.stack([_left_share(each, sides, groups(draws)) for each in power])
    freqs, density = power_spectrum(values, SFREQ)
    return Summary(
        values[0],
        low,
        high,
        np.stack([_middle_and_ends(each) for each in power]),
        left,
        _spike_share(values),
        _middle_and_ends(10 * np.log10(density + 1e-30)),
        freqs,
    )


def _pooled_interval(values):
    """Widen the interval of each sample to that of its neighbours in a pool."""
    low, high = np.empty((2, values.shape[1], values.shape[2] // POOL))
    for channel in range(values.shape[1]):
        ends = interval(values[:, channel], _LEVEL)
        below, above = (end.reshape(-1, POOL) for end in ends)
        low[channel], high[channel] = below.min(axis=1), above.max(axis=1)
    return low, high


def _power(values, band):
    """Return the power of each second in decibels, (n_draws, n_channels, n_seconds)."""
    # Draw by draw, because filtered draws take twice the memory.
    seconds = [
        np.square(in_band(draw, SFREQ, band))
        .reshape(len(draw), -1, SFREQ)
        .mean(axis=-1)
        for draw in values
    ]
    return 10 * np.log10(np.stack(seconds) + 1e-30)


def _left_share(power, sides, structures):
    """Return the share of draws in which a structure has more power on the left."""
    share = np.full(power.shape[1:], np.nan)
    for channels in structures.values():
        left, right = (channels[sides[channels] == sign] for sign in (-1, 1))
        if len(left) and len(right):
            more = power[:, left].mean(axis=1) > power[:, right].mean(axis=1)
            share[channels] = more.mean(axis=0)
    return share


def _spike_share(values):
    sharp = [
        (spike_score(draw, SFREQ) > SHARP).reshape(len(draw), -1, SFREQ).any(axis=-1)
        for draw in values
    ]
    return np.mean(sharp, axis=0)


def _middle_and_ends(values):
    low, high = interval(values, _LEVEL)
    return np.stack([np.median(values, axis=0), low, high])
