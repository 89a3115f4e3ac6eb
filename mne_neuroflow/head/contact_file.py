"""Files of contacts: BIDS ``electrodes.tsv`` and the ``coordsystem.json`` beside it.

Coordinates are used as MNI coordinates only if the ``coordsystem.json``, the name of
the table or the user says so. Units are never guessed. Every error names the file and,
if possible, the line and the column.
"""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np

from .._compat import logger, warn
from .._text import listed

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
_SPELLINGS = {
    "m": "m meter meters metre metres".split(),
    "cm": "cm centimeter centimeters centimetre centimetres".split(),
    "mm": "mm millimeter millimeters millimetre millimetres".split(),
}
_MISSING = {"", "n/a", "na", "nan", "none", "null", "-"}
# Spaces of adult brains that agree with MNI to a few millimetres, as BIDS and MNE spell
# them, in lower-case letters and digits.
_MNI = re.compile(
    r"mni(152.*|305.*|colin27|tal)?|colin27|ixi549space|icbm(152|452).*|fsaverage.*"
)
_CHILDREN = re.compile("infant|pediatric|nihpd|uncinfant|child|neonat|dhcp")
# If no coordinate exceeds this many millimetres, the coordinates must be in metres.
_TOO_SMALL = 1.0
_TOO_LARGE = 0.25  # metres; no head is so large


def read_contact_file(path, space=None, units=None):
    """Read names and positions of contacts.

    Parameters
    ----------
    path : Path
        The table.
    space : str | None
        The space of the coordinates, if the user gives it.
    units : str | None
        ``'m'``, ``'cm'`` or ``'mm'``, if the user gives it.

    Returns
    -------
    names : list of str
        The contacts.
    rr : ndarray, shape (n_contacts, 3)
        Positions in metres, MNI; nan where the file has none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of contacts {path}.")
    names, values = _read_table(path)
    system, entries = _find_system(path)
    space = _check_space(path, system, entries, space)
    units = _check_units(path, system, entries, units)
    logger.info("%s: coordinates in %s, space %s.", path, units, space)
    largest = np.nanmax(np.abs(values), initial=0.0)
    if units == "mm" and len(names) > 1 and 0 < largest < _TOO_SMALL:
        raise ValueError(
            f"{path}: the unit of the coordinates is millimetres, but the largest "
            f"is {largest:.3g}, so they seem to be in metres. Correct "
            "iEEGCoordinateUnits, or give units='m'."
        )
    _check_size(path, names, values, units)
    values[(values == 0).all(axis=1)] = np.nan  # what programs write for unknown ones
    return names, values * UNITS[units]


def _check_size(path, names, values, units):
    """Refuse coordinates that are larger than a head."""
    largest = np.abs(values).max(axis=1)
    large = largest * UNITS[units] > _TOO_LARGE
    if not large.any():
        return
    if large.mean() > 0.5 and units != "mm":
        raise ValueError(
            f"{path}: the unit of the coordinates is {units}, but the largest is "
            f"{np.nanmax(largest):.4g}, so they seem to be in millimetres. Correct "
            "iEEGCoordinateUnits, or give units='mm'."
        )
    described = [f"{names[k]} ({largest[k]:g} {units})" for k in np.flatnonzero(large)]
    raise ValueError(
        f"{path}: coordinates that are larger than a head: {listed(described)}. Write "
        "n/a for contacts whose position is unknown."
    )


# The table ----------------------------------------------------------------------------


def _read_table(path):
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter="\t")
    rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    if not rows:
        raise ValueError(f"{path} is empty.")
    header = [column.strip().lower() for column in rows[0][1]]
    needed = ("name", "x", "y", "z")
    lacking = [column for column in needed if column not in header]
    if lacking:
        other = next((c for c in (",", ";", " ") if c in rows[0][1][0]), None)
        why = f" Its columns are parted by {other!r}, not by tabs." if other else ""
        raise ValueError(
            f"{path} is not a BIDS electrodes.tsv: it lacks columns: {listed(lacking)}."
            f"{why}"
        )
    twice = [column for column in needed if header.count(column) > 1]
    if twice:
        raise ValueError(f"{path} has two columns with the name {listed(twice)}.")
    where = {column: header.index(column) for column in needed}
    names, values = [], np.full((len(rows) - 1, 3), np.nan)
    for k, (line, row) in enumerate(rows[1:]):
        if len(row) > len(header):
            raise ValueError(
                f"{path}, line {line}: {len(row)} values, but the header has "
                f"{len(header)} columns."
            )
        row = row + [""] * (len(header) - len(row))
        names.append(row[where["name"]].strip())
        if "\n" in names[-1] or "\t" in names[-1]:
            raise ValueError(f"{path}, line {line}: a quotation mark is not closed.")
        for axis, column in enumerate("xyz"):
            values[k, axis] = _number(path, line, column, names[-1], row[where[column]])
    return names, values


def _text(path):
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        logger.info("%s is not UTF-8, as BIDS requires, and is read as Latin-1.", path)
        return data.decode("latin-1")


def _number(path, line, column, name, text):
    text = text.strip().replace("\u2212", "-")  # a minus sign that is no hyphen
    if text.lower() in _MISSING:
        return np.nan
    try:
        value = np.nan if "_" in text else float(text)  # Python reads 3_1 as 31
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        hint = " Write decimal points." if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise ValueError(
            f"{path}, line {line}, column {column}: the coordinate of contact {name!r} "
            f"must be a number or n/a, but got {text!r}.{hint}"
        )
    return value


# Its space and unit -------------------------------------------------------------------


def _entities(path):
    """Split a BIDS name: ``sub-01_space-X_electrodes.tsv`` to its pairs."""
    return dict(part.split("-", 1) for part in path.stem.split("_") if "-" in part)


def _find_system(path):
    """Find the coordsystem.json of a table and its content, or (None, {}).

    BIDS' inheritance principle applies: the file is beside the table or in a folder
    above it, and has no entity that the table lacks. The nearest folder takes
    precedence, and in it the most specific name.
    """
    own = _entities(path)
    folder = path.absolute().parent
    top = next((i for i, p in enumerate([folder, *folder.parents]) if _is_root(p)), 0)
    for place in [folder, *folder.parents][: top + 1]:
        found = [
            file
            for file in sorted(place.glob("*coordsystem.json"))
            if _entities(file).items() <= own.items()
        ]
        longest = max((len(_entities(file)) for file in found), default=0)
        found = [file for file in found if len(_entities(file)) == longest]
        if len(found) > 1:
            raise ValueError(
                f"{path}: more than one coordsystem.json fits it: "
                f"{listed(file.name for file in found)}. Give space= and units=."
            )
        if found:
            return found[0], _read_system(found[0])
    return None, {}


def _is_root(folder):
    return (folder / "dataset_description.json").is_file()


def _read_system(file):
    try:
        entries = json.loads(_text(file))
    except json.JSONDecodeError as err:
        raise ValueError(f"{file} is no JSON: {err}.") from err
    if not isinstance(entries, dict):
        raise ValueError(
            f"{file} must hold an object, but got {type(entries).__name__}."
        )
    return entries


def _plain(text):
    return re.sub("[^0-9a-z]", "", str(text).lower())


def is_mni(space):
    """Return whether a space is MNI or agrees with it to a few millimetres.

    Parameters
    ----------
    space : str
        Name of the space in BIDS.

    Returns
    -------
    agrees : bool
        True for MNI templates of adults, Colin 27, ICBM, SPM's IXI549Space and
        fsaverage. False for Talairach space, children's templates and the individual
        space of a patient.
    """
    plain = _plain(space)
    return bool(_MNI.fullmatch(plain)) and not _CHILDREN.search(plain)


def _check_space(path, system, entries, space):
    inside = entries.get("iEEGCoordinateSystem") or "n/a"
    in_name = _entities(path).get("space")
    if space is not None:
        if not is_mni(space):
            raise ValueError(
                "Invalid value for the 'space' parameter. Allowed values are MNI "
                f"spaces such as 'MNI152' and 'fsaverage', but got {space!r}."
            )
        known = [each for each in (inside, in_name) if each and _is_named(each)]
        other = [each for each in known if not is_mni(each)]
        if other:
            warn(f"{path} says that its space is {other[0]!r}; using {space!r}.")
        return space
    if in_name and _is_named(inside) and is_mni(in_name) != is_mni(inside):
        raise ValueError(
            f"{path} says {in_name!r} in its name, but {system} says {inside!r}."
        )
    found = inside if _is_named(inside) else in_name or "n/a"
    if is_mni(found):
        return found
    about = entries.get("iEEGCoordinateSystemDescription")
    about = f" ({about})" if about and str(about).lower() != "n/a" else ""
    where = f"{system} says {inside!r}{about}" if system else "no coordsystem.json fits"
    if not _is_named(inside) and in_name:
        where = f"its name says {in_name!r}"
    raise ValueError(
        f"Contacts must be in MNI or fsaverage coordinates, but {path} is not known to "
        f"be: {where}. If it is, use read_contacts(fname, space='MNI152'). If not, "
        "transform the positions first, for instance with mne.transforms.apply_trans()."
    )


def _is_named(space):
    """Return whether a space is given; ``'Other'`` and ``'n/a'`` are not spaces."""
    return str(space).strip().lower() not in ("other", "n/a", "", "none", "unknown")


def _check_units(path, system, entries, units):
    if units is not None:
        if units not in UNITS:
            raise ValueError(
                "Invalid value for the 'units' parameter. Allowed values are 'm', 'cm' "
                f"and 'mm', but got {units!r}."
            )
        return units
    inside = entries.get("iEEGCoordinateUnits")
    for unit, spellings in _SPELLINGS.items():
        if str(inside).strip().lower() in spellings:
            return unit
    where = f"{system} says {inside!r}" if system else "no coordsystem.json fits it"
    raise ValueError(
        f"The unit of the coordinates in {path} is not known: {where}. Give "
        "units='mm', 'cm' or 'm' to read_contacts()."
    )


def as_path(spec):
    """Convert a path-like to a Path, and expand ``~``.

    Parameters
    ----------
    spec : path-like
        A str, Path, BIDSPath or other path-like.

    Returns
    -------
    path : Path
        The path.
    """
    return Path(getattr(spec, "fpath", spec)).expanduser()
