"""Shaft-wise derivations, as clinicians read depth electrodes.

Everything here is linear in the potentials: one matrix for the signals and one for the
positions. That is why draws can be derived and their intervals cannot.
"""

import re
from typing import TypeVar

import mne
import numpy as np
from mne.io.constants import FIFF

from ._compat import _check_option, _validate_type, logger, verbose
from ._text import listed
from .head.contact_names import read_contact_name
from .head.contacts import contact_positions
from .virtual import provenance

KINDS = ("bipolar", "laplacian", "average")
# Depth electrodes have 2 to 10 mm between contacts; consecutive numbers farther apart
# (metres) are two electrodes, or the end of one row of a grid and the start of another.
_FARTHEST = 0.02
_SUMMARY = re.compile(r"output (std|median|quantile [\d.e-]+)")

_Same = TypeVar("_Same")


@verbose
def make_bipolar(inst: _Same, kind="bipolar", *, verbose=None) -> _Same:
    """Derive neighbouring contacts of each electrode shaft from one another.

    Parameters
    ----------
    inst : Raw | Epochs | DataArray | DigMontage
        A recording or prediction with ``'seeg'``, ``'ecog'`` or ``'dbs'`` channels,
        the draws of :func:`sample_ieeg`, or a montage. It is not changed.
    kind : str
        ``'bipolar'`` subtracts the next contact of the shaft, ``'laplacian'`` the mean
        of both neighbours, ``'average'`` the mean of all contacts of the shaft.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    derived : Raw | Epochs | DataArray | DigMontage
        Same type as ``inst``, in memory, with the derivations alone: ``'A1-A2'`` at the
        middle between both contacts, ``'A2-lap'`` and ``'A2-avg'`` at the contact.

    See Also
    --------
    sample_ieeg
    mne.set_bipolar_reference : Derives pairs of channels that you name.

    Notes
    -----
    Shaft and number are read from names of all usual styles, such as ``A'1``, ``LA01``,
    ``mAHL1``, ``_AHL1``, ``POL A1`` and ``EEG A1-Ref``. A contact that is missing or
    bad takes its derivations with it: nothing is derived across a gap, nor between
    contacts more than 20 mm apart (draws have no positions, so that only names count).
    Contacts that are in no derivation are named in the log.

    The interval of a difference is not the difference of intervals, because
    neighbouring contacts go up and down together. Derive the draws, then take their
    quantiles; medians, standard deviations and quantiles are refused.

    Derived draws have the structure of their contacts, or both of them, as in
    ``'amygdala/hippocampus'``. They lose ``observability``, which is that of single
    contacts.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(
    ...     raw, 10, contacts="mtl-core", random_state=0, verbose=False
    ... )
    >>> bipolar = mne_neuroflow.make_bipolar(draws)
    >>> print(*bipolar["channel"].values[:2])
    vAL1-vAL2 vAL2-vAL3
    >>> low, high = bipolar.quantile([0.05, 0.95], "draw")
    """
    _check_option("kind", kind, KINDS)
    if isinstance(inst, mne.channels.DigMontage):
        return _derive_montage(inst, kind)
    if type(inst).__module__.partition(".")[0] == "xarray":
        return _derive_draws(inst, kind)
    _validate_type(
        inst,
        (mne.io.BaseRaw, mne.BaseEpochs),
        "inst",
        "Raw, Epochs, DataArray or DigMontage",
    )
    return _derive_recording(inst, kind)


class _Derivations:
    """Which derivations there are, and what they are made of.

    Attributes
    ----------
    names : list of str
        The derivations.
    first : list of int
        The contact that each is of.
    signals : ndarray, shape (n_derivations, n_contacts)
        From potentials to derivations.
    places : ndarray, shape (n_derivations, n_contacts)
        From positions of contacts to those of derivations.
    """

    def __init__(self, names, kind, positions=None):
        self.names, self.first, signals, places = [], [], [], []
        shafts = _read_shafts(names)
        add = dict(bipolar=_bipolar, laplacian=_laplacian, average=_average)[kind]
        for shaft, contacts in shafts.items():
            for suffix, number, weights, where in add(shaft, contacts):
                used = list(weights)
                if positions is None or _is_dense(positions[used], kind):
                    self.names.append(f"{shaft}{number}-{suffix}")
                    self.first.append(contacts[number])
                    signals.append(_row(weights, len(names)))
                    places.append(_row(where, len(names)))
        if not self.names:
            raise ValueError(
                f"No {kind} derivation can be made: no two contacts with consecutive "
                f"numbers lie on one shaft of {listed(names)}."
            )
        self.signals, self.places = np.array(signals), np.array(places)
        unused = np.flatnonzero(~self.signals.any(axis=0))
        if len(unused):
            logger.info("Without a neighbour: %s.", listed(names[k] for k in unused))


def _read_shafts(names):
    """Sort contacts: shaft -> number -> index, numbers ascending."""
    shafts, unread = {}, []
    for k, name in enumerate(names):
        read = read_contact_name(name)
        if read is None:
            unread.append(name)
            continue
        contacts = shafts.setdefault(read.shaft, {})
        if read.number in contacts:
            raise ValueError(
                f"Channels {names[contacts[read.number]]!r} and {name!r} are the same "
                "contact by their names. Leave one out with inst.drop_channels()."
            )
        contacts[read.number] = k
    if unread:
        raise ValueError(
            f"Channel names without shaft and number: {listed(unread)}. Rename them "
            "with inst.rename_channels(), or leave them out with inst.drop_channels()."
        )
    return {shaft: dict(sorted(found.items())) for shaft, found in shafts.items()}


def _bipolar(shaft, contacts):
    for number, here in contacts.items():
        if number + 1 in contacts:
            other = contacts[number + 1]
            where = {here: 0.5, other: 0.5}
            yield f"{shaft}{number + 1}", number, {here: 1.0, other: -1.0}, where


def _laplacian(shaft, contacts):
    for number, here in contacts.items():
        if number - 1 in contacts and number + 1 in contacts:
            around = contacts[number - 1], contacts[number + 1]
            weights = {here: 1.0, **dict.fromkeys(around, -0.5)}
            yield "lap", number, weights, {here: 1.0}


def _average(shaft, contacts):
    if len(contacts) > 1:
        share = 1 / len(contacts)
        for number, here in contacts.items():
            weights = dict.fromkeys(contacts.values(), -share)
            yield "avg", number, weights | {here: 1 - share}, {here: 1.0}


def _is_dense(positions, kind):
    """Whether contacts are neighbours, as far as their positions are known."""
    apart = np.linalg.norm(positions[1:] - positions[0], axis=1)
    return kind == "average" or not (apart > _FARTHEST).any()


def _row(weights, n):
    row = np.zeros(n)
    row[list(weights)] = list(weights.values())
    return row


def _derive_montage(montage, kind):
    names, positions = contact_positions(montage)
    derivations = _Derivations(names, kind, positions)
    known = montage.get_positions()
    return mne.channels.make_dig_montage(
        dict(zip(derivations.names, derivations.places @ positions, strict=True)),
        **{name: known[name] for name in ("nasion", "lpa", "rpa", "coord_frame")},
    )


def _derive_draws(draws, kind):
    if not {"draw", "channel", "time"} <= set(draws.dims):
        raise ValueError(
            "Invalid dimensions of the draws. Allowed values are those of "
            "sample_ieeg(), with 'draw', 'channel' and 'time', but got "
            f"{', '.join(draws.dims)}. Derive the draws first, and summarize them "
            "afterwards."
        )
    names = [str(name) for name in draws["channel"].values]
    derivations = _Derivations(names, kind)
    # One after the other: a derivation has two or three contacts out of a hundred.
    rows = [
        sum(row[k] * draws.isel(channel=k, drop=True) for k in np.flatnonzero(row))
        for row in derivations.signals.astype(draws.dtype)
    ]
    import xarray

    derived = xarray.concat(rows, "channel").transpose(*draws.dims)
    derived = derived.assign_coords(channel=derivations.names)
    if "structure" in draws.coords:
        structures = draws["structure"].values
        label = [
            "/".join(dict.fromkeys(structures[np.flatnonzero(row)]))
            for row in derivations.places
        ]
        derived = derived.assign_coords(structure=("channel", label))
    return derived.rename(draws.name).assign_attrs(
        draws.attrs | {"description": _told(draws.attrs.get("description"), kind)}
    )


def _derive_recording(inst, kind):
    summary = _SUMMARY.search(provenance(inst.info))
    if summary:
        raise ValueError(
            f"inst is the {summary[1]} over draws, from which that of a derivation "
            "does not follow. Derive the draws of sample_ieeg() first, and summarize "
            "them afterwards."
        )
    picks = mne.pick_types(
        inst.info, meg=False, seeg=True, ecog=True, dbs=True, exclude="bads"
    )
    if not len(picks):
        raise ValueError(
            "inst needs good 'seeg', 'ecog' or 'dbs' channels, but has none. Set "
            "channel types with inst.set_channel_types()."
        )
    names = [inst.ch_names[pick] for pick in picks]
    positions = np.array([inst.info["chs"][pick]["loc"][:3] for pick in picks])
    derivations = _Derivations(names, kind, positions)
    # Each derivation takes the place of its first contact, so that MNE keeps events,
    # annotations and metadata.
    matrix = np.eye(len(names))
    matrix[derivations.first] = derivations.signals
    derived = inst.copy().load_data().pick(names, verbose=False)
    derived.apply_function(lambda data: matrix @ data, channel_wise=False)
    kept = [names[k] for k in derivations.first]
    derived.pick(kept, verbose=False)
    derived.rename_channels(dict(zip(kept, derivations.names, strict=True)))
    for ch, place in zip(
        derived.info["chs"], derivations.places @ positions, strict=True
    ):
        ch["loc"][:3] = place
        ch["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    derived.info["description"] = _told(inst.info["description"], kind)
    return derived


def _told(description, kind):
    return f"{description or ''} Derivation: {kind}.".strip()
