"""Comparison of virtual contacts with source localization."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import mne
import numpy as np
import pandas
import xarray

from . import __version__
from ._compat import ProgressBar, _check_option, _validate_type, verbose, warn
from ._docs import fill_doc
from ._text import listed
from .arguments import check_n_draws
from .contract import BLOCK, MODEL
from .evaluation.inverse import INVERSE_METHODS, SourceImaging
from .evaluation.pairs import ScalpData
from .head.contacts import (
    contact_positions,
    make_contacts,
    values_by_contact,
)
from .predictor import Predictor
from .scores.ensemble import interval
from .scores.signals import BANDS, in_band, log_band_power, pearson_r
from .virtual import RawVirtual, make_virtual_epochs, make_virtual_info

_LEVEL = 0.9
# Minimum number of draws for a 90 % interval, whose ends are within their range.
_FEWEST_DRAWS = 19
_SHORTEST = 0.5  # seconds, below which bands cannot be separated
_LONG = 10**7  # with more samples of draws, there is a progress bar
# A sphere that contains the whole template head: its centre and radius in millimetres.
_AROUND_HEAD = (0.0, -15.0, 15.0, 130.0)


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`mne_neuroflow.compare_sources`.

    Attributes
    ----------
    table : pandas.DataFrame
        The agreement, with one row per method, contact and band.
    estimates : dict of str -> Raw | Epochs
        The contacts as each method of source localization estimates them, in volts,
        with the type and times of the scalp recording and one ``'seeg'`` channel per
        contact.
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The draws of the flow, in volts.
    """

    table: pandas.DataFrame
    estimates: dict
    draws: xarray.DataArray


@verbose
@fill_doc
def compare_sources(
    inst,
    *,
    methods=("eLORETA", "sLORETA", "dSPM", "LCMV"),
    contacts="mtl",
    snr=1.0,
    n_draws=50,
    tmin=None,
    tmax=None,
    model=MODEL,
    random_state=None,
    device="auto",
    trans="fsaverage",
    on_mismatch="warn",
    verbose=None,
) -> Comparison:
    """Compare virtual contacts with those of source localization.

    MNE-Python's inverse methods estimate the sources of the template head. The
    intracranial lead field of the same head projects them to the contacts. Both results
    are estimates: even where they agree, neither is a recording.

    Parameters
    ----------
    %(inst)s
    methods : tuple of str
        One or more of ``'eLORETA'``, ``'sLORETA'``, ``'dSPM'``, ``'MNE'`` and
        ``'LCMV'``.
    %(contacts)s
    snr : float
        The amplitude signal-to-noise ratio that regularizes minimum-norm methods,
        ``lambda2 = 1 / snr ** 2``. 1 is usual for recordings that are not averaged.
    n_draws : int
        The number of draws, at least 19, which 90-percent intervals need. All are kept
        in memory.
    tmin, tmax : float | None
        First and last time that is drawn and compared, in seconds, half a second or
        more apart. ``None`` takes all. The source estimates are those of the whole
        recording.
    %(model)s
    %(random_state)s
    %(device)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    comparison : Comparison
        An object with three attributes. ``table`` is a DataFrame with one row per
        ``method``, ``channel`` (with its ``structure`` and ``observability``) and
        ``band``. ``estimates`` has the source estimate of each method, and ``draws``
        has the draws, in volts and between 0.5 and 50 Hz.

        In the table, ``r`` is the correlation of the source estimate with the mean of
        the draws, and ``inside`` the share of its samples that lie in the 90-percent
        interval of the draws. ``power_difference`` is the difference, in decibels,
        between its log-power in windows of two seconds and the mean log-power of the
        draws. ``power_r`` and ``power_inside`` are like ``r`` and ``inside``, for the
        time course of log-power.

    See Also
    --------
    predict_ieeg
    mne_neuroflow.viz.plot_comparison

    Notes
    -----
    dSPM, sLORETA and LCMV are statistics without a physical unit. One number per method
    scales them so that the sources explain the scalp EEG best, see
    :class:`mne_neuroflow.evaluation.inverse.SourceImaging`. This changes
    ``power_difference`` and ``inside``, but not the sign and shape of the time course.

    A time course of zeros nearly always lies inside the interval. A low ``inside``
    therefore shows that an estimate contradicts the draws, but a high one does not show
    that it is good.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> hippocampi = [[-0.027, -0.02, -0.018], [0.027, -0.02, -0.018]]  # metres
    >>> comparison = mne_neuroflow.compare_sources(
    ...     raw, contacts=hippocampi, n_draws=19, random_state=0, verbose=False
    ... )
    >>> table = comparison.table
    >>> alpha = table[table.band == "alpha"].groupby(["method", "structure"])["r"]
    >>> alpha.median().index.names
    FrozenList(['method', 'structure'])
    """
    methods = _check_methods(methods)
    _validate_type(snr, "numeric", "snr")
    n_draws = check_n_draws(n_draws, _FEWEST_DRAWS)
    montage = make_contacts(contacts, trans=trans)
    predictor = Predictor(
        inst,
        contacts=montage,
        model=model,
        random_state=random_state,
        device=device,
        trans=trans,
        on_mismatch=on_mismatch,
    )
    draws = predictor.sample(n_draws, tmin, tmax)
    lasts = float(np.ptp(draws["time"].values))
    if lasts < _SHORTEST - 1e-6:
        raise ValueError(
            "Invalid value for the 'tmin' and 'tmax' parameters. Allowed values are "
            f"{_SHORTEST:g} s or more apart, but got {lasts:.3g} s."
        )
    estimates = {
        method: _localize(predictor.scalp, montage, method, snr, trans)
        for method in methods
    }
    return Comparison(_agreement(estimates, draws, inst.times), estimates, draws)


def _check_methods(methods):
    _validate_type(methods, (str, list, tuple), "methods", "str, list or tuple")
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    if not methods:
        raise ValueError("The 'methods' parameter must name at least one method.")
    for method in methods:
        _check_option("methods", method, INVERSE_METHODS)
    return methods


def _localize(scalp, montage, method, snr, trans):
    """Estimate the signals at the contacts by source localization."""
    imaging = SourceImaging(method, snr=snr, projs=scalp.inst.info["projs"])
    operator = imaging.operator(_whole(scalp), contact_positions(montage)[1])
    description = (
        f"Source localization by {method} at virtual contacts: estimated, not "
        f"recorded. mne_neuroflow {__version__}, SNR {snr:g}."
    )
    if scalp.kind == "raw":
        info = make_virtual_info(scalp.inst, montage, description, trans)
        compute = partial(_read_out, scalp, operator, None)
        return RawVirtual(scalp.inst, info, compute, preload=True)
    data = [
        _read_out(scalp, operator, epoch, 0, scalp.n_times)
        for epoch in range(scalp.n_epochs)
    ]
    return make_virtual_epochs(scalp.inst, np.array(data), montage, description, trans)


def _whole(scalp):
    """Return a whole recording at the model's rate, with epochs concatenated."""
    n_model = scalp.resampler.n_model(scalp.n_times)
    n_blocks = scalp.resampler.n_blocks(scalp.n_times)
    epochs = [None] if scalp.kind == "raw" else range(scalp.n_epochs)
    parts = [scalp.to_model(0, n_blocks, epoch)[:, :n_model] for epoch in epochs]
    data = np.hstack(parts).astype(float)
    return ScalpData(data, scalp.electrodes, tuple(scalp.ch_names))


def _read_out(scalp, operator, epoch, start, stop):
    """Apply a linear map to samples, through the model's rate and band."""
    first, last = scalp.resampler.model_range(start, stop)
    block, end = first // BLOCK, -(-last // BLOCK)
    data = operator @ scalp.to_model(block, end - block, epoch)
    return scalp.resampler.from_model(data, block * BLOCK, start, stop)


def _agreement(estimates, draws, times):
    """Score every method against the draws, by contact and band."""
    if "epoch" not in draws.dims:
        draws = draws.expand_dims("epoch", 1)
    rows, channels = [], draws["channel"].values
    sfreq = (len(times) - 1) / (times[-1] - times[0])
    first = int(np.searchsorted(times, draws["time"].values[0]))
    span = slice(first, first + draws.sizes["time"])
    long = draws.size > _LONG
    for name in ProgressBar(channels, mesg="Comparing") if long else channels:
        one = draws.sel(channel=name)
        about = dict(
            channel=str(name),
            structure=str(one["structure"].values),
            observability=float(one["observability"]),
        )
        for band in BANDS:
            drawn = in_band(one.values, sfreq, band)
            power = log_band_power(drawn, sfreq)
            for method, estimate in estimates.items():
                data = estimate.get_data([name], verbose=False)[..., span]
                data = in_band(data.reshape(drawn.shape[1:]), sfreq, band)
                scores = _scores(data, drawn, log_band_power(data, sfreq), power)
                rows.append(dict(method=method, **about, band=band, **scores))
    return pandas.DataFrame(rows)


def _scores(estimate, draws, power, draws_power):
    """Score one contact, band and method, with epochs concatenated."""
    n_draws = len(draws)
    r, inside = _r_and_inside(estimate.ravel(), draws.reshape(n_draws, -1))
    power, draws_power = power.ravel(), draws_power.reshape(n_draws, -1)
    difference = power_r = power_inside = np.nan
    if power.size:
        difference = float(np.mean(power - draws_power.mean(axis=0)))
        power_r, power_inside = _r_and_inside(power, draws_power)
    if power.size < 3:  # two windows always correlate perfectly
        power_r = np.nan
    return dict(
        r=r,
        inside=inside,
        power_difference=difference,
        power_r=power_r,
        power_inside=power_inside,
    )


def _r_and_inside(estimate, draws):
    low, high = interval(draws, _LEVEL)
    inside = np.mean((low <= estimate) & (estimate <= high))
    return float(pearson_r(estimate, draws.mean(axis=0))), float(inside)


@verbose
@fill_doc
def contacts_to_stc(
    values,
    contacts="mtl",
    *,
    spacing=0.005,
    radius=0.005,
    tmin=0.0,
    tstep=1.0,
    trans="fsaverage",
    verbose=None,
) -> mne.VolSourceEstimate:
    """Write values of contacts to a volume source estimate on the template.

    With it, power, observability or other values of contacts can be compared with
    maps of source localization.

    Parameters
    ----------
    values : array_like, shape (n_contacts,) | (n_contacts, n_times) | Series | dict
        One value or time course per contact, in any unit, in the order of
        ``contacts``. In a Series or dict they are found by the names of the contacts.
        Contacts without a number, or with NaN alone, are left out of the map.
    %(contacts)s
    spacing : float
        The spacing of the grid in metres.
    radius : float
        The distance from a contact, in metres, up to which its value is written.
    tmin : float
        The time of the first value in seconds.
    tstep : float
        The time between values in seconds.
    %(trans)s
    %(verbose)s

    Returns
    -------
    stc : VolSourceEstimate
        The values, for the subject ``'fsaverage'``.
    src : SourceSpaces
        The grid points that have a value, in the MRI frame of fsaverage.

    See Also
    --------
    compare_sources
    observability

    Notes
    -----
    The value of a contact is written to the grid points that are nearest to
    this contact and not farther than ``radius``. All other points are left out, because
    nothing is known of them. Nothing is interpolated.

    ``stc.as_volume(src).to_filename("map.nii.gz")``, which needs NiBabel, writes an
    image in MNI coordinates that Brainstorm, FSLeyes or Nilearn can open.
    ``src.save("contacts-src.fif")`` and ``stc.save("contacts", ftype="h5")``, which
    needs h5io, save both for MNE-Python.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> info = load_demo(verbose=False).info
    >>> table = mne_neuroflow.observability(info, verbose=False)
    >>> stc, src = mne_neuroflow.contacts_to_stc(table["observability"])
    >>> stc.subject, stc.data.shape[0] == src[0]["nuse"]
    ('fsaverage', True)
    """
    names, positions = contact_positions(make_contacts(contacts, trans=trans))
    values = values_by_contact(values, names)
    if values.ndim not in (1, 2) or len(values) != len(names):
        raise ValueError(
            "Invalid value for the 'values' parameter. Allowed values are arrays of "
            f"shape ({len(names)},) or ({len(names)}, n_times), one row per contact, "
            f"but got one of shape {values.shape}."
        )
    known = np.isfinite(values.reshape(len(names), -1)).any(axis=1)
    if not known.any():
        raise ValueError(
            "Invalid value for the 'values' parameter. Allowed values are numbers for "
            f"the contacts {names[0]} to {names[-1]}, but none of them has one."
        )
    for name, value in (("spacing", spacing), ("radius", radius)):
        _validate_type(value, "numeric", name)
        if not 0 < value <= 0.05:
            raise ValueError(
                f"Invalid value for the '{name}' parameter. Allowed values are "
                f"distances in metres above 0 and up to 0.05, but got {value}."
            )
    src = _grid(spacing)
    contact = _nearest_contact(src[0]["rr"], positions, radius)
    contact[(contact >= 0) & ~known[contact]] = -1
    _use(src[0], np.flatnonzero(contact >= 0))
    lost = sorted(set(np.flatnonzero(known)) - set(contact))
    if lost:
        warn(
            f"{len(lost)} of {len(names)} contacts are nearest to no grid point and "
            f"not in the map: {listed(names[k] for k in lost)}. Use a finer 'spacing' "
            "or a larger 'radius'."
        )
    vertices = src[0]["vertno"]
    data = values.reshape(len(names), -1)[contact[vertices]]
    return mne.VolSourceEstimate(data, [vertices], tmin, tstep, "fsaverage"), src


def _grid(spacing):
    """Make a volume source space over the template head, as an image of its own."""
    src = mne.setup_volume_source_space(
        pos=1e3 * spacing,
        sphere=_AROUND_HEAD,
        sphere_units="mm",
        mindist=0.0,
        add_interpolator=False,
        verbose="error",
    )
    space = src[0]
    # Without an MRI, MNE calls it discrete and cannot make an image of it. The MRI
    # is then the grid itself, whose surface RAS are MNI coordinates.
    space["type"] = "vol"
    space["vox_mri_t"] = space["src_mri_t"].copy()
    space["mri_ras_t"] = mne.transforms.Transform("mri", "ras")
    space["mri_width"], space["mri_depth"], space["mri_height"] = space["shape"]
    space["mri_volume_name"] = ""
    space["subject_his_id"] = "fsaverage"
    return mne.SourceSpaces([space])


def _nearest_contact(points, positions, radius):
    """Return the index of each point's nearest contact, -1 beyond the radius."""
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(positions).query(points)
    return np.where(distance <= radius, nearest, -1)


def _use(space, vertices):
    space["inuse"] = np.isin(np.arange(space["np"]), vertices).astype(int)
    space["vertno"], space["nuse"] = vertices, len(vertices)
