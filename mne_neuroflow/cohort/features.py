"""Features of virtual signals, computed in windows, with intervals over draws.

A recording is divided into windows at fixed times, and each window is computed
independently. The result therefore does not depend on the number of workers or on how a
long recording is divided between them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import signal

from ..contract import SFREQ
from ..head.contacts import contact_positions, contact_structures
from ..scores.ensemble import interval, widen_sides
from ..scores.signals import (
    BANDS,
    aperiodic_exponent,
    decibels,
    lateralization,
    power_spectrum,
    spectral_connectivity,
    spike_score,
)

#: Description and unit of each feature.
FEATURES = {
    "power": ("mean power in the band", "dB re 1 µV²"),
    "relative_power": ("share of the power between 0.5 and 45 Hz", "1"),
    "aperiodic_exponent": ("exponent of the spectrum between 2 and 40 Hz", "1"),
    "specparam_exponent": (
        "the same by specparam, with rhythms as peaks, if specparam is installed",
        "1",
    ),
    "spike_rate": ("sharp waves that a detector finds in draws", "1/min"),
    "rhythmic_discharge": (
        "share of seconds whose line length is more than twice the median",
        "1",
    ),
    "connectivity": (
        "absolute imaginary coherence between the middle contacts of two structures, "
        "in windows; chance makes it larger in recordings of less than a minute",
        "1",
    ),
    "lateralization": ("(left - right) / (left + right) of power", "1"),
    "observability": ("share of prior variance that scalp EEG explains", "1"),
    "channels_used": ("scalp EEG channels that are used", "1"),
    "channels_left_out": ("scalp EEG channels bad, flat or without position", "1"),
    "good_time": ("share of seconds that are not bad", "1"),
    "gain": ("ratio of scalp EEG amplitude to its expected value", "1"),
    "head_misfit": ("median distance of the electrodes to the template's scalp", "mm"),
}
_LEVELS = {"50": 0.5, "90": 0.9}
_ALMOST = 1 - 1e-12
_SPIKE, _APART = 4.0, 0.3  # of the background; seconds between two spikes
_DISCHARGE = 2.0  # times the median second's line length
_SIDES = {-1: "left", 0: "midline", 1: "right"}
_AT_ONCE = 2**24  # line lengths in memory
_TOGETHER = 2**22  # samples of draws whose connectivity is computed together
_EXPONENT_RANGE = (2.0, 40.0)  # hertz
_PEAK_WIDTHS = (2.0, 12.0)  # hertz: at least twice the resolution, for specparam
SHORTEST = 4.0  # seconds that connectivity needs, two of its windows


class Window(NamedTuple):
    """Measurements in one window of one recording."""

    density: np.ndarray  #: (n_draws, n_contacts, n_freqs), V²/Hz
    n_spikes: np.ndarray  #: (n_draws, n_contacts)
    line_length: np.ndarray  #: (n_draws, n_contacts, n_seconds), volts a sample
    connectivity: np.ndarray  #: (n_draws, n_pairs, n_bands)
    seconds: np.ndarray  #: (), duration
    start: np.ndarray = 0.0  #: (), seconds from the first sample
    good: np.ndarray = 1.0  #: (), share of its time that is good


class Places:
    """Structures and sides of contacts, and one contact that represents a structure.

    Parameters
    ----------
    montage : DigMontage
        Contacts from :func:`mne_neuroflow.make_contacts`.
    """

    def __init__(self, montage):
        self.names, positions = contact_positions(montage)
        self.structure = contact_structures(montage)[0].astype(str)
        self.side = np.array([_SIDES[int(x)] for x in np.sign(positions[:, 0])])
        self.groups = {
            (structure, side): np.flatnonzero(
                (self.structure == structure) & (self.side == side)
            )
            for structure, side in dict.fromkeys(
                zip(self.structure, self.side, strict=True)
            )
        }
        self.middle = [_most_central(positions, i) for i in self.groups.values()]
        self.pairs = np.triu_indices(len(self.groups), 1)


def _most_central(positions, index):
    """Find the contact nearest to the others of its structure."""
    apart = positions[index] - positions[index].mean(axis=0)
    return int(index[np.linalg.norm(apart, axis=1).argmin()])


def cut_windows(n_times, sfreq, seconds):
    """Cut a recording into windows.

    Parameters
    ----------
    n_times : int
        Samples of the recording.
    sfreq : float
        Sampling rate in hertz.
    seconds : float
        Duration of a window.

    Returns
    -------
    windows : list of tuple of int
        Half-open ranges of samples. The rest at the end is a separate window if it has
        at least half of the duration. Otherwise it belongs to the last window.
    """
    size = round(seconds * sfreq)
    n_windows = max(1, (n_times + size // 2) // size)
    starts = [k * size for k in range(n_windows)]
    return list(zip(starts, [*starts[1:], n_times], strict=True))


def measure(draws, sfreq, places):
    """Measure the draws of a window.

    Virtual signals end at 50 Hz. Of fast recordings every :func:`sample_step`-th sample
    is enough.

    Parameters
    ----------
    draws : iterable of ndarray, shape (n_contacts, n_times)
        Potentials in volts, one draw at a time.
    sfreq : float
        Sampling rate in hertz.
    places : Places
        Of the contacts.

    Returns
    -------
    window : Window
        Measurements from which all features are computed.
    """
    step = sample_step(sfreq)
    rate, measured, middle, connectivity = sfreq / step, [], [], []
    for draw in draws:
        seconds = draw.shape[1] / sfreq
        draw = np.ascontiguousarray(draw[:, ::step])
        measured.append(_measure_draw(draw, rate))
        if middle and (len(middle) + 1) * middle[0].size > _TOGETHER:
            connectivity.append(_connectivity(np.stack(middle), rate, places.pairs))
            middle = []
        middle.append(draw[places.middle])
    connectivity.append(_connectivity(np.stack(middle), rate, places.pairs))
    density, n_spikes, line_length = map(np.stack, zip(*measured, strict=True))
    return Window(
        density, n_spikes, line_length, np.concatenate(connectivity), np.array(seconds)
    )


def sample_step(sfreq):
    """Find which samples are enough, because virtual signals end at 50 Hz.

    Parameters
    ----------
    sfreq : float
        Sampling rate in hertz.

    Returns
    -------
    step : int
        Every ``step``-th sample is measured. It leaves 128 Hz or more, and whole hertz,
        so that windows of a second have no rest.
    """
    steps = range(1, int(sfreq / SFREQ) + 1)
    return max((k for k in steps if (sfreq / k).is_integer()), default=1)


def _measure_draw(draw, sfreq):
    score, apart = spike_score(draw, sfreq), int(_APART * sfreq)
    n_spikes = [len(signal.find_peaks(row, _SPIKE, distance=apart)[0]) for row in score]
    return (
        power_spectrum(draw, sfreq)[1],
        np.array(n_spikes),
        _line_length(draw, sfreq),
    )


def _line_length(series, sfreq):
    size = round(sfreq)
    n_seconds = series.shape[-1] // size
    seconds = series[..., : n_seconds * size].reshape(len(series), n_seconds, size)
    return np.abs(np.diff(seconds, axis=-1)).mean(-1)


def _connectivity(draws, sfreq, pairs):
    """Return absolute imaginary coherence, shape (n_draws, n_pairs, n_bands)."""
    if draws.shape[1] < 2:
        return np.empty((len(draws), 0, len(BANDS)))
    found = spectral_connectivity(draws, sfreq, list(BANDS), ("imcoh",))["imcoh"]
    return np.abs(found[..., pairs[0], pairs[1]]).swapaxes(1, 2)


# From windows to values of draws ------------------------------------------------------


class Values(NamedTuple):
    """Features of every draw."""

    power: np.ndarray  #: (n_draws, n_contacts, n_bands), V²
    exponent: np.ndarray  #: (n_draws, n_contacts)
    spike_rate: np.ndarray  #: (n_draws, n_contacts), a minute
    discharge: np.ndarray  #: (n_draws, n_contacts)
    connectivity: np.ndarray  #: (n_draws, n_pairs, n_bands)
    specparam_exponent: np.ndarray | None = None  #: (n_draws, n_contacts)


def typical_line_length(windows):
    """Compute the median line length of seconds in a whole recording, by contact.

    Parameters
    ----------
    windows : list of Window
        All windows in order. Their line lengths may be on disk.

    Returns
    -------
    middle : ndarray, shape (n_draws, n_contacts)
        Volts per sample.
    """
    n_draws, n_contacts, _ = windows[0].line_length.shape
    n_seconds = sum(float(window.seconds) for window in windows)
    # Process a few contacts at a time, so that a day needs no more memory than an hour.
    step = max(1, int(_AT_ONCE / (n_draws * n_seconds)))
    parts = []
    for first in range(0, n_contacts, step):
        some = [w.line_length[:, first : first + step] for w in windows]
        parts.append(np.median(np.concatenate(some, axis=-1), axis=-1))
    return np.concatenate(parts, axis=1)


def combine(windows, typical, specparam=False):
    """Compute features from the measurements in all windows.

    Parameters
    ----------
    windows : iterable of Window
        Windows in order, because rounding errors of sums depend on it.
    typical : ndarray, shape (n_draws, n_contacts)
        Result of :func:`typical_line_length` for the whole recording.
    specparam : bool
        Whether specparam fits the exponents as well.

    Returns
    -------
    values : Values
        Spectra and connectivity are means over windows, weighted by their good time.
    """
    total = seconds = density = connectivity = n_spikes = n_strong = n_seconds = 0
    for window in windows:
        weight = float(window.seconds) * float(window.good)
        total, seconds = total + weight, seconds + float(window.seconds)
        density = density + weight * np.asarray(window.density, float)
        connectivity = connectivity + weight * np.asarray(window.connectivity, float)
        n_spikes = n_spikes + np.asarray(window.n_spikes)
        length = np.asarray(window.line_length)
        n_strong = n_strong + (length > _DISCHARGE * typical[..., None]).sum(-1)
        n_seconds = n_seconds + length.shape[-1]
    density = density / total
    freqs = np.arange(1.0, 1 + density.shape[-1])  # of `power_spectrum`
    return Values(
        _band_power(freqs, density),
        aperiodic_exponent(freqs, density, *_EXPONENT_RANGE),
        60 * n_spikes / seconds,
        n_strong / n_seconds,
        connectivity / total,
        _specparam_exponent(freqs, density) if specparam else None,
    )


def _specparam_exponent(freqs, density):
    """Fit exponents together with the peaks of rhythms (Donoghue et al. 2020)."""
    from specparam import SpectralGroupModel

    model = SpectralGroupModel(peak_width_limits=_PEAK_WIDTHS, verbose=False)
    spectra = np.maximum(density.reshape(-1, density.shape[-1]), 1e-30)
    model.fit(freqs, spectra, _EXPONENT_RANGE)
    exponents = model.results.get_params("aperiodic", "exponent")
    return exponents.reshape(density.shape[:-1])


def _band_power(freqs, density):
    step = freqs[1] - freqs[0]
    inside = [(freqs >= low) & (freqs < high) for low, high in BANDS.values()]
    return np.stack([step * density[..., one].sum(-1) for one in inside], axis=-1)


# From values of draws to a table ------------------------------------------------------


def tabulate(values, places, contacts=True):
    """Write features with their intervals over draws.

    Parameters
    ----------
    values : Values
        Result of :func:`combine`.
    places : Places
        The contacts.
    contacts : bool
        Whether to write rows of single contacts in addition to structures.

    Returns
    -------
    table : DataFrame
        One row per feature, place and band, see :data:`COLUMNS`.
    """
    rows = _Rows()
    for name, value, bands in _by_contact(values):
        if contacts:
            for k, contact in enumerate(places.names):
                where = dict(
                    level="contact",
                    contact=contact,
                    structure=places.structure[k],
                    side=places.side[k],
                )
                rows.add(name, value[:, k], bands, where)
        for (structure, side), index in places.groups.items():
            where = dict(level="structure", structure=structure, side=side)
            rows.add(name, value[:, index].mean(axis=1), bands, where)
    _add_sides(rows, values, places)
    _add_pairs(rows, values, places)
    return rows.table()


def _by_contact(values):
    """Yield each feature and its bands, with axes draws, contacts and bands."""
    level = decibels(1e12 * values.power)
    yield "power", level, list(BANDS)
    share = values.power / np.maximum(values.power[..., :1], 1e-30)
    yield "relative_power", share[..., 1:], list(BANDS)[1:]
    for name, value in (
        ("aperiodic_exponent", values.exponent),
        ("specparam_exponent", values.specparam_exponent),
        ("spike_rate", values.spike_rate),
        ("rhythmic_discharge", values.discharge),
    ):
        if value is not None:
            yield name, value[..., None], [""]


def _add_sides(rows, values, places):
    for structure in dict.fromkeys(places.structure):
        sides = [places.groups.get((structure, side)) for side in ("left", "right")]
        if all(index is not None for index in sides):
            left, right = (values.power[:, index].mean(axis=1) for index in sides)
            where = dict(level="sides", structure=structure)
            # The index is the hyperbolic tangent of half of the logarithm of the ratio.
            value = np.clip(lateralization(left, right), -_ALMOST, _ALMOST)
            value = np.tanh(widen_sides(np.arctanh(value)))
            rows.add("lateralization", value, list(BANDS), where)


def _add_pairs(rows, values, places):
    groups = list(places.groups)
    for k, (one, other) in enumerate(zip(*places.pairs, strict=True)):
        (structure, side), (other_structure, other_side) = groups[one], groups[other]
        where = dict(
            level="pair",
            structure=structure,
            side=side,
            other_structure=other_structure,
            other_side=other_side,
        )
        rows.add("connectivity", values.connectivity[:, k], list(BANDS), where)


def tabulate_known(known):
    """Write features without draws, such as the observability.

    Parameters
    ----------
    known : list of tuple
        Feature, value, and a dict with columns of its place.

    Returns
    -------
    table : DataFrame
        A table as from :func:`tabulate`, without limits.
    """
    rows = _Rows()
    for feature, value, where in known:
        rows.add(feature, np.array([[value]], float), [""], where)
    return rows.table()


#: Description of each column of the tables.
COLUMNS = {
    "recording": "name of the recording, as in status.tsv",
    "participant": "label of the participant",
    "session": "label of the session, empty if there is none",
    "task": "label of the task, empty if there is none",
    "run": "label of the run, empty if there is none",
    "scalp": "'recorded', or 'shifted' for the control in which every scalp channel is "
    "shifted in time by a different amount",
    "start": "start of the window in seconds from the first sample (courses only)",
    "stop": "end of the window in seconds from the first sample (courses only)",
    "level": "'contact', 'structure' (mean over its contacts on one side), 'sides' "
    "(left against right), 'pair' (between two structures) or 'recording'",
    "contact": "name of the virtual contact",
    "structure": "anatomical structure of the template head",
    "side": "'left', 'right' or 'midline'",
    "other_structure": "the second structure of a pair",
    "other_side": "the side of the second structure of a pair",
    "feature": "name of the feature, see 'Features'",
    "band": "frequency band, see 'Bands'; empty if the feature has none",
    "unit": "unit of the value and its limits",
    "median": "median over draws",
    "low_50": "lower limit of the central 50 % of draws",
    "high_50": "upper limit of the central 50 % of draws",
    "low_90": "lower limit of the central 90 % of draws",
    "high_90": "upper limit of the central 90 % of draws",
    "draws": "the values of all draws; not in TSV files",
}
#: Units of numeric columns. The unit of a feature is in its row.
UNITS = {"start": "s", "stop": "s"} | dict.fromkeys(
    ("median", "low_50", "high_50", "low_90", "high_90", "draws"), "see column 'unit'"
)
_TEXT = ("level", "contact", "structure", "side", "other_structure", "other_side")


class _Rows:
    """Rows of a table, collected feature by feature."""

    def __init__(self):
        self._where, self._draws = [], []

    def add(self, feature, draws, bands, where):
        """Add one row per band of draws of shape (n_draws, n_bands)."""
        unit = FEATURES[feature][1]
        for k, band in enumerate(bands):
            self._where.append(where | dict(feature=feature, band=band, unit=unit))
            self._draws.append(draws[:, k])

    def table(self):
        table = pd.DataFrame(self._where)
        for column in _TEXT:
            table[column] = table[column].fillna("") if column in table else ""
        draws = np.array(self._draws, float)
        table["median"] = np.median(draws, axis=1)
        for name, level in _LEVELS.items():
            limits = interval(draws.T, level) if draws.shape[1] > 1 else [np.nan] * 2
            table[f"low_{name}"], table[f"high_{name}"] = limits
        table["draws"] = list(draws.astype(np.float32))
        return table[[column for column in COLUMNS if column in table]]
