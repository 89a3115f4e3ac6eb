"""Intracranial contacts: shipped implants, and the user's own.

Contacts in any form are converted to a :class:`mne.channels.DigMontage` in MNE's
``'mni_tal'`` frame, in metres, with fiducials. Contacts are checked only here.
"""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import mne
import numpy as np
from mne.io.constants import FIFF

from .._compat import _check_option, _validate_type, logger, verbose, warn
from .._docs import fill_doc
from .._text import listed
from ..contract import SAME_PLACE
from .contact_file import as_path, read_contact_file
from .contact_names import derived_from, opposite_sides, read_contact_name
from .geometry import (
    inside_brain,
    load_head,
    nearest_structure,
    project_to_scalp,
    structure_shares,
)

IMPLANTS = Path(__file__).parent / "implants" / "contacts.csv"
# Registration to a template is good to a few millimetres: of the 857 located
# contacts of OpenNeuro ds004752, 9 lie outside the template's inner skull, the
# farthest by 3.5 mm (make_contacts() of those implants says so in the log).
MAX_OUTSIDE = 5e-3
# Radii in millimetres of the balls around contacts whose structures are listed.
LABEL_RADII = (3, 5)
# Coordinates larger than this are not in metres, because no brain is so large.
_MILLIMETRES = 0.5
_CENTIMETRES = 11.0  # no brain is larger, from its origin, in centimetres
_ORIGIN = 1e-6  # metres; programs write zeros for unknown positions
# Contacts have 2 mm or more between them. Wires of one tip share a position.
_CLOSE, _FEWEST_CLOSE = 1e-3, 4
_TYPES = dict(seeg=True, ecog=True, dbs=True)


@verbose
@fill_doc
def make_contacts(
    spec="mtl", *, trans="fsaverage", verbose=None
) -> mne.channels.DigMontage:
    """Make a montage of intracranial contacts.

    Parameters
    ----------
    spec : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts:

        - the name of a shipped implant: ``'mtl'`` (80 contacts on both sides, on depth
          electrodes with eight contacts each through amygdala, anterior and posterior
          hippocampus, entorhinal and parahippocampal cortex), ``'mtl-core'`` (those of
          its contacts that lie in the medial temporal lobe), or ``'ds004752-sub-01'``
          to ``'ds004752-sub-15'`` (implants of patients);
        - a BIDS ``electrodes.tsv``, see :func:`read_contacts`;
        - a montage in ``'mni_tal'``, ``'mri'`` (of fsaverage) or ``'head'``
          coordinates;
        - an ``Info`` with ``'seeg'``, ``'ecog'`` or ``'dbs'`` channels, including bad
          ones, whose names and order are kept;
        - positions in metres, in fsaverage surface RAS (MNI Talairach in MNE-Python).
          The contacts are then named ``'VC001'`` and so on.
    %(trans)s
    %(verbose)s

    Returns
    -------
    montage : DigMontage
        Positions in the ``'mni_tal'`` frame, in metres, with the MNI fiducials. With
        them, ``raw.set_montage(montage)`` sets the right positions.

    See Also
    --------
    read_contacts

    Notes
    -----
    Contacts up to 5 mm outside the template's inner skull are accepted and named in the
    log, because registration to a template is not more accurate. Contacts farther
    outside are an error. No contact is moved.

    Two contacts at the same position are an error in an array. Elsewhere they were
    measured, and are named in the log.

    Examples
    --------
    >>> import mne_neuroflow
    >>> montage = mne_neuroflow.make_contacts("mtl")
    >>> len(montage.ch_names), montage.ch_names[0]
    (80, 'vAL1')
    """
    measured, hint, file = True, "", ""
    if isinstance(spec, mne.Info):
        names, rr = _from_info(spec, trans)
    elif isinstance(spec, mne.channels.DigMontage):
        names, rr = _from_montage(spec, trans)
    elif isinstance(spec, str) and spec in implant_names():
        names, rr = _implants()[spec]
    elif isinstance(spec, (str, os.PathLike)) or hasattr(spec, "fpath"):
        names, rr = _from_file(spec)
        file = f"{as_path(spec)}: "
        hint = ' or leave them out with read_contacts(fname, on_missing="warn")'
    else:
        names, rr = _from_array(spec)
        measured = False
    check_contacts(names, rr, measured=measured, hint=hint, file=file)
    return _montage(names, rr)


@verbose
@fill_doc
def read_contacts(
    fname, *, space=None, units=None, on_missing="raise", verbose=None
) -> mne.channels.DigMontage:
    r"""Read contacts from a BIDS ``electrodes.tsv``.

    Parameters
    ----------
    fname : path-like
        A tab-separated file with the columns ``name``, ``x``, ``y`` and ``z``, in MNI
        or fsaverage coordinates.
    space : str | None
        The space of the coordinates, such as ``'MNI152'``, if the files do not name it
        or name a wrong one. ``None`` takes it from ``iEEGCoordinateSystem`` in the
        ``coordsystem.json``, or from ``space-`` in the file name.
    units : str | None
        ``'m'``, ``'cm'`` or ``'mm'``, if the files do not name the unit. ``None`` takes
        it from ``iEEGCoordinateUnits`` in the ``coordsystem.json``.
    on_missing : str
        What to do with contacts without coordinates (``n/a``): ``'raise'`` an error, or
        leave them out with a warning (``'warn'``) or without one (``'ignore'``).
    %(verbose)s

    Returns
    -------
    montage : DigMontage
        Positions in the ``'mni_tal'`` frame, in metres, with the MNI fiducials.

    See Also
    --------
    make_contacts

    Notes
    -----
    The ``coordsystem.json`` is found by the rules of BIDS: beside the file
    or in a folder above, without entities in its name that the file's name lacks.
    Spaces that agree with MNI to a few millimetres are used without a transform and
    named in the log: those of MNI and ICBM, Colin 27, SPM's IXI549Space and fsaverage.
    Other spaces, such as Talairach and children's templates, and unknown spaces are
    refused. Units are never guessed. Coordinates that are all zero are missing.

    Examples
    --------
    >>> from mne_neuroflow import read_contacts
    >>> from pathlib import Path
    >>> rows = ["name x y z", "HL1 -27 -20 -18", "HR1 27 -20 -18"]  # millimetres
    >>> table = "".join("\t".join(row.split()) + "\n" for row in rows)
    >>> _ = Path("sub-01_ses-01_electrodes.tsv").write_text(table)
    >>> montage = read_contacts(
    ...     "sub-01_ses-01_electrodes.tsv", space="MNI152", units="mm"
    ... )
    >>> montage.ch_names
    ['HL1', 'HR1']
    """
    _check_option("on_missing", on_missing, ("raise", "warn", "ignore"))
    return read_places(as_path(fname), space, units, on_missing)


def read_places(path, space=None, units=None, on_missing="raise", derived=False):
    """Read contacts, or derivations that have positions of their own.

    Parameters
    ----------
    path : Path
        The file.
    space, units, on_missing
        As for :func:`read_contacts`.
    derived : bool
        Whether names may be those of derivations.

    Returns
    -------
    montage : DigMontage
        As from :func:`read_contacts`.
    """
    names, rr = read_contact_file(path, space, units)
    known = np.isfinite(rr).all(axis=1)
    if not known.all() and on_missing != "raise":
        missing = [name for name, ok in zip(names, known, strict=True) if not ok]
        if on_missing == "warn":
            warn(f"Left out contacts without coordinates: {listed(missing)}.")
        names = [name for name, ok in zip(names, known, strict=True) if ok]
        rr = rr[known]
    hint = ' or leave them out with on_missing="warn"'
    file = f"{path}: "
    check_contacts(names, rr, measured=True, hint=hint, file=file, derived=derived)
    return _montage(names, rr)


def implant_names():
    """Return the names of the shipped implants.

    Returns
    -------
    names : list of str
        The names that :func:`make_contacts` accepts.
    """
    return list(_implants())


def contact_positions(montage):
    """Return names and positions of contacts.

    Parameters
    ----------
    montage : DigMontage
        A montage from :func:`make_contacts`.

    Returns
    -------
    names : list of str
        Contact names.
    rr : ndarray, shape (n_contacts, 3)
        Positions in metres, ``'mni_tal'`` frame, which is the frame of the head model.
    """
    positions = montage.get_positions()["ch_pos"]
    return list(positions), np.array(list(positions.values())).reshape(-1, 3)


def contact_structures(montage):
    """Name the anatomical structure of each contact.

    Parameters
    ----------
    montage : DigMontage
        A montage from :func:`make_contacts`.

    Returns
    -------
    structures : ndarray of str, shape (n_contacts,)
        The structure of the nearest source of the template head, see
        :func:`mne_neuroflow.head.geometry.nearest_structure`.
    distances : ndarray, shape (n_contacts,)
        Distance to that source in metres.
    """
    return nearest_structure(load_head(), contact_positions(montage)[1])


def contact_labels(positions):
    """Name the structures around each contact, with their shares.

    Parameters
    ----------
    positions : ndarray, shape (n_contacts, 3)
        Positions in metres, as from :func:`contact_positions`.

    Returns
    -------
    labels : dict of str to list of str
        ``'labels_3mm'`` and ``'labels_5mm'``: for each contact, the structures in a
        ball of this radius in descending order, such as ``'hippocampus 0.83, amygdala
        0.17'``; see :func:`mne_neuroflow.head.geometry.structure_shares`. Shares
        below 0.01 are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.head.contacts import contact_labels
    >>> contact_labels(np.array([[0.027, -0.02, -0.015]]))["labels_3mm"]
    ['hippocampus 1.00']
    """
    return {
        f"labels_{radius}mm": _shares_as_text(
            *structure_shares(load_head(), positions, 1e-3 * radius)
        )
        for radius in LABEL_RADII
    }


def _shares_as_text(names, shares):
    return [
        ", ".join(
            f"{names[k]} {row[k]:.2f}" for k in np.argsort(-row) if row[k] >= 0.01
        )
        for row in shares
    ]


def values_by_contact(values, names):
    """Sort numbers in the order of contacts.

    Parameters
    ----------
    values : array_like of shape (n_contacts, ...) | Series | dict
        One or more numbers for each contact. The keys of a Series or dict are the names
        of the contacts.
    names : list of str
        The contacts.

    Returns
    -------
    values : ndarray of float
        One row per contact, NaN for contacts that a Series or dict lacks.
    """
    if hasattr(values, "get") and getattr(values, "ndim", 1) == 1:
        values = [values.get(name, np.nan) for name in names]
    try:
        return np.array(values, dtype=float)
    except (TypeError, ValueError) as err:
        raise ValueError(
            "Invalid value for the 'values' parameter. Allowed values are numbers, one "
            "or several a contact, or a Series or dict of them by contact name, but "
            f"got {type(values).__name__}: {err}."
        ) from err


def get_head_to_mri(trans="fsaverage"):
    """Return the transform from head coordinates to the fsaverage MRI.

    Parameters
    ----------
    trans : str | path-like | Transform
        ``'fsaverage'`` for the head frame of fsaverage, which is that of all template
        montages, or a transform between head and MRI, or the file of a transform.

    Returns
    -------
    head_to_mri : ndarray, shape (4, 4)
        Affine transform in metres.
    """
    if isinstance(trans, str) and trans == "fsaverage":
        return load_head().head_to_mri
    _validate_type(trans, (str, Path, mne.transforms.Transform), "trans")
    if not isinstance(trans, mne.transforms.Transform):
        if not Path(trans).is_file():
            raise ValueError(
                "Invalid value for the 'trans' parameter. Allowed values are "
                f"'fsaverage', a Transform and an existing file, but got {trans}."
            )
        trans = mne.read_trans(trans)
    frames = {trans.from_str.split()[0].lower(), trans.to_str.split()[0].lower()}
    if frames != {"head", "mri"}:
        raise ValueError(
            "Invalid value for the 'trans' parameter. Allowed values are transforms "
            f"between head and MRI, but got {trans.from_str} to {trans.to_str}."
        )
    if trans.from_str.lower() != "head":
        trans = mne.transforms.invert_transform(trans)
    return trans["trans"]


def get_info_to_mri(info, trans="fsaverage"):
    """Return the transform from the positions in an Info to the fsaverage MRI.

    Parameters
    ----------
    info : Info
        Info of a recording.
    trans : str | path-like | Transform
        As for :func:`get_head_to_mri`.

    Returns
    -------
    to_mri : ndarray, shape (4, 4)
        Affine transform in metres. It is that of ``trans`` if positions are in head
        coordinates. It is the identity if they are in MRI or MNI coordinates, which MNE
        keeps if the montage has no fiducials.
    """
    frames = {int(point["coord_frame"]) for point in info["dig"] or ()}
    if frames and frames <= {FIFF.FIFFV_COORD_MRI, FIFF.FIFFV_MNE_COORD_MNI_TAL}:
        return np.eye(4)
    return get_head_to_mri(trans)


def check_contacts(names, rr, *, measured=False, hint="", file="", derived=False):
    """Refuse contacts with impossible names or positions.

    Parameters
    ----------
    names : list of str
        Contact names.
    rr : ndarray, shape (n_contacts, 3)
        Positions in metres, fsaverage surface RAS.
    measured : bool
        Whether these are a patient's contacts. Electrodes that cross can be located in
        the same voxel, as one pair in ds004752. Two such contacts at the same position
        are therefore named in the log and are not an error.
    hint : str
        A further remedy for missing coordinates, for the error message.
    file : str
        The file of the contacts, with which the message begins.
    derived : bool
        Whether names may be those of derivations.
    """
    try:
        if not derived:
            _refuse_derivations(name for name in names if derived_from(name, names))
        _check_contacts(names, rr, measured, hint)
    except ValueError as err:
        raise ValueError(f"{file}{err}") from err


def _check_contacts(names, rr, measured, hint):
    if not names:
        raise ValueError("No contacts: the list of positions is empty.")
    nameless = [
        str(k) for k, name in enumerate(names, 1) if name.strip().lower() in ("", "n/a")
    ]
    if nameless:
        raise ValueError(f"Contacts without a name: number {listed(nameless)}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Contact names must be unique, but got {listed(twice)} twice."
        )
    missing = np.flatnonzero(~np.isfinite(rr).all(axis=1))
    if len(missing):
        raise ValueError(
            f"Contacts without coordinates: {listed(names[i] for i in missing)}. "
            f"Give their positions{hint}."
        )
    if np.abs(rr).max() > _MILLIMETRES:
        largest = np.abs(rr).max()
        unit = "millimetres: divide by 1000"
        if largest < _CENTIMETRES:
            unit = f"centimetres: divide by 100, or {unit}"
        raise ValueError(
            "Contact positions must be in metres, but got coordinates up to "
            f"{largest:.4g}, which looks like {unit}."
        )
    _check_places(names, rr, measured)
    _check_inside(names, rr)
    _check_distances(rr)
    _check_sides(names, rr)


def _check_places(names, rr, measured):
    distance = np.linalg.norm(rr[:, np.newaxis] - rr, axis=-1)
    first, second = np.nonzero(np.triu(distance < SAME_PLACE, k=1))
    if len(first):
        pairs = [f"{names[i]} = {names[j]}" for i, j in zip(first, second, strict=True)]
        message = f"Contacts at the same position: {listed(pairs)}."
        if not measured:
            raise ValueError(f"{message} Leave one of each out.")
        logger.info(message)


def _check_distances(rr):
    """Warn of contacts that are too close together for their unit to be right."""
    if len(rr) < _FEWEST_CLOSE:
        return
    apart = np.linalg.norm(rr[:, np.newaxis] - rr, axis=-1)
    np.fill_diagonal(apart, np.inf)
    typical = np.median(apart.min(axis=1))
    if typical < _CLOSE:
        warn(
            f"Contacts are {1e3 * typical:.2g} mm apart in the median, and those of "
            "electrodes are 2 mm or more. Are their coordinates in another unit?"
        )


def _check_sides(names, rr):
    """Warn of contacts that are on the other side than their names."""
    read = [read_contact_name(name) for name in names]
    shafts = np.array([each.shaft if each else "" for each in read])
    pairs = opposite_sides(shafts)
    middle = {shaft: rr[shafts == shaft, 0].mean() for pair in pairs for shaft in pair}
    if pairs and all(middle[left] > 0 > middle[right] for left, right in pairs):
        warn(
            "Contacts on the left by their names are on the right, and those of the "
            f"right on the left: {listed(f'{a} and {b}' for a, b in pairs)}. The first "
            "coordinate must increase to the right; 3D Slicer and ITK write it, and "
            "the second one, with the opposite sign (LPS)."
        )


def _check_inside(names, rr):
    head = load_head()
    outside = np.flatnonzero(~inside_brain(head, rr))
    if not len(outside):
        return
    # Measure the distance to the inner skull, as the scalp of a modified head.
    bare = replace(head, scalp=head.inner_skull)
    distance = project_to_scalp(bare, rr[outside])[3]
    described = [
        f"{names[i]} ({1e3 * d:.1f} mm)" for i, d in zip(outside, distance, strict=True)
    ]
    if distance.max() <= MAX_OUTSIDE:
        logger.info(
            "%d of %d contacts lie just outside the template's inner skull, which "
            "is within the accuracy of template coordinates: %s.",
            len(outside),
            len(names),
            listed(described),
        )
        return
    far = [t for t, d in zip(described, distance, strict=True) if d > MAX_OUTSIDE]
    raise ValueError(
        f"{len(far)} of {len(names)} contacts lie outside the brain of the template "
        f"(more than {1e3 * MAX_OUTSIDE:.0f} mm outside the inner skull): "
        f"{listed(far)}. Contacts must be in MNI (fsaverage) coordinates; channels "
        "with positions from a montage need montage.add_mni_fiducials() before "
        "set_montage(montage), or the right 'trans'."
    )


def _montage(names, rr):
    montage = mne.channels.make_dig_montage(
        dict(zip(names, rr, strict=True)), coord_frame="mni_tal"
    )
    return montage.add_mni_fiducials(verbose=False)


@lru_cache(maxsize=1)
def _implants():
    """Read the shipped implants: name -> (contact names, positions in metres)."""
    rows = {}
    with open(IMPLANTS, newline="", encoding="utf-8") as fid:
        for row in csv.DictReader(fid):
            rows.setdefault(row["implant"], []).append(row)
    return {
        implant: ([row["name"] for row in contacts], 1e-3 * _coordinates(contacts))
        for implant, contacts in rows.items()
    }


def _coordinates(rows):
    return np.array([[_number(row[axis]) for axis in "xyz"] for row in rows])


def _number(text):
    return np.nan if text in ("n/a", "", None) else float(text)


def _from_info(info, trans):
    picks = mne.pick_types(info, meg=False, exclude=(), **_TYPES)
    if not len(picks):
        raise ValueError(
            "The Info given as contacts has no 'seeg', 'ecog' or 'dbs' channels. Set "
            "the channel types with raw.set_channel_types()."
        )
    names = [info["ch_names"][pick] for pick in picks]
    check_monopolar([info["chs"][pick] for pick in picks])
    rr = np.array([info["chs"][pick]["loc"][:3] for pick in picks], float)
    rr[(rr == 0).all(axis=1)] = np.nan  # MNE writes zeros for unknown positions
    montage = info.get_montage()
    # Without fiducials MNE keeps MNI coordinates as they are.
    frame = "head" if montage is None else montage.get_positions()["coord_frame"]
    default = isinstance(trans, str) and trans == "fsaverage" and frame == "head"
    if default and np.isfinite(rr).any() and not _has_fiducials(info):
        warn(
            "Positions of contacts without fiducials are taken for fsaverage's head "
            "coordinates. MNE stores those of a montage without a frame in the same "
            "way: if they are MNI coordinates, give coord_frame='mni_tal' to "
            "mne.channels.make_dig_montage(), and set the montage again."
        )
    return names, _known(_to_mni(rr, frame, trans))


def _has_fiducials(info):
    """Return whether fiducials were measured; MNE adds some on a sphere if not."""
    from_middle = [
        np.linalg.norm(point["r"])
        for point in info["dig"] or ()
        if point["kind"] == FIFF.FIFFV_POINT_CARDINAL
    ]
    return bool(from_middle) and np.ptp(from_middle) > _ORIGIN


def check_monopolar(chs):
    """Refuse derivations of two contacts, for which MNE stores only one position.

    Parameters
    ----------
    chs : list of dict
        Channels of an Info.
    """
    names = [ch["ch_name"] for ch in chs]
    _refuse_derivations(
        ch["ch_name"]
        for ch in chs
        if ch["coil_type"] == FIFF.FIFFV_COIL_EEG_BIPOLAR
        or derived_from(ch["ch_name"], names)
    )


def _refuse_derivations(bipolar):
    bipolar = list(bipolar)
    if bipolar:
        raise ValueError(
            f"Bipolar intracranial channels: {listed(bipolar)}. Potentials of single "
            "contacts are predicted, and a derivation has a position of its own and "
            "another amplitude. Give the contacts before they were derived from each "
            "other, and derive the prediction in the same way with make_bipolar()."
        )


def _from_montage(montage, trans):
    names, rr = contact_positions(montage)
    return names, _known(_to_mni(rr, montage.get_positions()["coord_frame"], trans))


def _known(rr):
    """Return positions in MNI coordinates, NaN for those at the origin."""
    return np.where((np.abs(rr) < _ORIGIN).all(axis=1, keepdims=True), np.nan, rr)


def _to_mni(rr, frame, trans):
    if frame in ("mni_tal", "mri"):
        return rr
    if frame != "head":
        raise ValueError(
            "Invalid coordinate frame of the contacts. Allowed values are 'mni_tal', "
            f"'mri' and 'head', but got {frame!r}. If they are MNI coordinates, give "
            "coord_frame='mni_tal' to mne.channels.make_dig_montage(). If not, "
            "transform them first, for instance with mne.transforms.apply_trans()."
        )
    return mne.transforms.apply_trans(get_head_to_mri(trans), rr)


def _from_file(spec):
    path = as_path(spec)
    if path.suffix.lower() != ".tsv":
        real = [name for name in implant_names() if name.startswith("ds004752")]
        others = [repr(name) for name in implant_names() if name not in real]
        raise ValueError(
            "Invalid value for the 'contacts' parameter. Allowed values are "
            f"{listed(others)}, {real[0]!r} to {real[-1]!r}, the "
            "path of a BIDS electrodes.tsv, a DigMontage, an Info and an array, but "
            f"got {str(spec)!r}."
        )
    return read_contact_file(path)


def _from_array(spec):
    try:  # a table's columns have names, which need not be x, y and z
        rr = None if hasattr(spec, "columns") else np.array(spec, dtype=float)
    except (TypeError, ValueError):
        rr = None
    if rr is None or rr.ndim != 2 or rr.shape[1] != 3:
        got = type(spec).__name__ if rr is None else f"an array of shape {rr.shape}"
        raise TypeError(
            "Contacts must be an implant name, the path of a BIDS electrodes.tsv, a "
            "DigMontage, an Info or an array of shape (n_contacts, 3), but got "
            f"{got}. From a table, take table[['x', 'y', 'z']].to_numpy() in metres. "
            "With names, make mne.channels.make_dig_montage(dict(zip(names, "
            "positions)), coord_frame='mni_tal')."
        )
    return [f"VC{k:03d}" for k in range(1, len(rr) + 1)], rr
