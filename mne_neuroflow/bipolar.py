"""Derivations along the shafts of depth electrodes, as clinicians read them.

A derivation is linear in the potentials: one matrix gives its signals and one its
positions. Draws can therefore be derived, but their intervals cannot.
"""

import re
from typing import TypeVar

import mne
import numpy as np
from mne.io.constants import FIFF

from ._compat import _check_option, _validate_type, logger, verbose
from ._docs import fill_doc
from ._text import listed
from .head.contact_names import read_contact_name
from .head.contacts import contact_positions
from .virtual import provenance

# Contacts of one shaft that a derivation needs.
_NEEDED = {
    "bipolar": "two contacts with consecutive numbers",
    "laplacian": "three contacts with consecutive numbers",
    "average": "two contacts",
}
# Depth electrodes have 2 to 10 mm between contacts; consecutive numbers farther apart
# (metres) are two electrodes, or the end of one row of a grid and the start of another.
_FARTHEST = 0.02
_SUMMARY = re.compile(r"output (std|median|quantile [\d.e-]+)")

_Same = TypeVar("_Same")


@verbose
@fill_doc
def make_bipolar(inst: _Same, kind="bipolar", *, verbose=None) -> _Same:
    """Derive bipolar or similar signals along each electrode shaft.

    Parameters
    ----------
    inst : Raw | Epochs | DataArray | DigMontage
        A recording or prediction with ``'seeg'``, ``'ecog'`` or ``'dbs'`` channels,
        draws from :func:`sample_ieeg`, or a montage. It is not changed.
    kind : str
        ``'bipolar'`` subtracts the next contact of the shaft, ``'laplacian'`` the mean
        of both neighbours, and ``'average'`` the mean of all contacts of the shaft.
    %(verbose)s

    Returns
    -------
    derived : Raw | Epochs | DataArray | DigMontage
        An object of the type of ``inst``, in memory, which has only the derivations:
        ``'A1-A2'``, in the middle between both contacts, or ``'A2-lap'`` or
        ``'A2-avg'``, at the position of the contact.

    See Also
    --------
    sample_ieeg
    mne.set_bipolar_reference : Derives pairs of channels that you name.

    Notes
    -----
    Shaft and number are read from names of all common styles, such as ``A'1``,
    ``LA01``, ``mAHL1``, ``_AHL1``, ``POL A1`` and ``EEG A1-Ref``. Missing and bad
    contacts have no derivations, and the ends of a shaft no Laplacian. Nothing is
    derived across a gap in the numbers, or between contacts more than 20 mm apart, such
    as the end of one row of a grid and the beginning of the next. Draws have no
    positions: select what their montage allows with
    ``draws.sel(channel=make_bipolar(montage).ch_names)`` after deriving. Contacts that
    are in no derivation are named in the log.

    The interval of a difference is not the difference of intervals, because
    neighbouring contacts are correlated. Derive the draws first, and then compute
    quantiles. Medians, standard deviations and quantiles are refused.

    Derived draws have the structure of their contact, or both structures, as in
    ``'amygdala/hippocampus'``. They have no ``observability``, which is defined for
    single contacts.

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
    _check_option("kind", kind, list(_NEEDED))
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
    """The derivations of a set of contacts.

    Attributes
    ----------
    names : list of str
        The names of the derivations.
    first : list of int
        The first contact of each.
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
            near = "" if kind == "average" else ", at most 20 mm from each other"
            raise ValueError(
                f"No {kind} derivation can be made of {listed(names)}: it needs "
                f"{_NEEDED[kind]} on one shaft{near}."
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


def _derive(weights, values):
    """Derive an array, shape (..., n_contacts, n), from contacts with a weight alone.

    A product of matrices would spread one contact's NaN over all derivations.
    """
    used = [np.flatnonzero(row) for row in weights]
    rows = zip(weights, used, strict=True)
    return np.stack([row[k] @ values[..., k, :] for row, k in rows], axis=-2)


def _derive_montage(montage, kind):
    names, positions = contact_positions(montage)
    derivations = _Derivations(names, kind, positions)
    known = montage.get_positions()
    places = _derive(derivations.places, positions)
    return mne.channels.make_dig_montage(
        dict(zip(derivations.names, places, strict=True)),
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
        draws.attrs | {"description": _describe(draws.attrs.get("description"), kind)}
    )


def _derive_recording(inst, kind):
    summary = _SUMMARY.search(provenance(inst))
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
    positions[(positions == 0).all(axis=1)] = np.nan  # as MNE may write unknown ones
    derivations = _Derivations(names, kind, positions)

    def derive(data):
        # Each derivation takes the place of its first contact, so that MNE keeps
        # events, annotations and metadata.
        result = data.copy()
        result[..., derivations.first, :] = _derive(derivations.signals, data)
        return result

    derived = inst.copy().load_data().pick(names, verbose=False)
    derived.apply_function(derive, channel_wise=False)
    kept = [names[k] for k in derivations.first]
    derived.pick(kept, verbose=False)
    derived.rename_channels(dict(zip(kept, derivations.names, strict=True)))
    places = _derive(derivations.places, positions)
    for ch, place in zip(derived.info["chs"], places, strict=True):
        ch["loc"][:3] = place
        ch["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    derived.info["description"] = _describe(inst.info["description"], kind)
    return derived


def _describe(description, kind):
    return f"{description or ''} Derivation: {kind}.".strip()
