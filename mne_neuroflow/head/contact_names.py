"""Names of intracranial contacts, as hospitals and file formats write them.

The name of a contact consists of its electrode shaft and its number on the shaft, where
1 is the tip. Recording systems add prefixes and references (``'POL A1'``,
``'EEG A1-Ref'``), and some laboratories mark macro contacts (``'mAHL1'``, ``'_AHL1'``).
"""

import re
import unicodedata
from typing import NamedTuple

_PREFIX = re.compile(r"(eeg|pol|seeg|ieeg|ecog)[ _-]+", re.IGNORECASE)
_REFERENCE = re.compile(r"([ _-]+ref|[ -]+(g2|avg?|car)|-0)$", re.IGNORECASE)
_MACRO = re.compile(r"m(?=[A-Z])|_+")
_PRIMES = str.maketrans({prime: "'" for prime in "’‘′ʹ`´"})
# Begins with a letter, and may contain blanks and underscores ('left hippocampus').
_CONTACT = re.compile(r"(?P<shaft>[^\W\d_](?:[^\W\d]|[ ])*?'*)[ _-]?(?P<number>\d+)")
# What can stand between two contacts of a shaft. Between two shafts, it is a minus.
_BETWEEN = re.compile(r"(?<=\d) ?[-\u2010-\u2015\u2212:/\\|_>,.~] ?| ")
_MINUS = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_TWICE = re.compile(r"(?P<shaft>[^\W\d_]+'*)\d+(?P<second>(?P=shaft)\d+)")
_DERIVED = re.compile(r"\d[ _-](lap(?:lacian)?|bip(?:olar)?|csd|scd)$", re.IGNORECASE)
_FEWEST_SHARED = 3  # names that share a second part


class ContactName(NamedTuple):
    """The parts of a contact's name.

    Attributes
    ----------
    shaft : str
        The electrode shaft, such as ``"A'"`` where a prime means the left side.
    number : int
        The contact's number on the shaft.
    """

    shaft: str
    number: int


def read_contact_name(name):
    """Read the name of a contact.

    Parameters
    ----------
    name : str
        The name in the recording.

    Returns
    -------
    read : ContactName | None
        Shaft and number, or ``None`` if the name has another form, such as the name of
        a derivation of two contacts.

    Examples
    --------
    >>> from mne_neuroflow.head.contact_names import read_contact_name
    >>> for name in ("A'1", "LA01", "mAHL1", "_AHL1", "POL A1"):
    ...     print(*read_contact_name(name))
    A' 1
    LA 1
    AHL 1
    AHL 1
    A 1
    """
    match = _CONTACT.fullmatch(bare_name(name))
    return None if match is None else ContactName(match["shaft"], int(match["number"]))


def derived_from(name, names):
    """Return the second contact of a derivation such as ``"A'1-A'2"`` or ``'LH1-2'``.

    Parameters
    ----------
    name : str
        Name of a channel.
    names : list of str
        Names of all channels. A second part that most of them share is a reference.

    Returns
    -------
    second : str
        The second contact, or the kind of a derivation as in ``'A2-lap'``. An empty
        string if the name is not that of a derivation.
    """
    kind = _DERIVED.search(name)
    if kind:
        return kind[1]
    second, of_shaft = _second(name)
    if not second:
        return ""
    others = [each for each, _ in map(_second, names) if each]
    shared = others.count(second)
    if shared >= _FEWEST_SHARED and 2 * shared > len(others):
        return ""
    # One channel alone against a contact of another shaft can have it as reference.
    return second if of_shaft or len(set(others)) > 1 else ""


def _second(name):
    """Return the second contact of a name, and whether it is on the same shaft."""
    name = bare_name(name)
    twice = _TWICE.fullmatch(name)
    if twice:
        return twice["second"], True
    for between in _BETWEEN.finditer(name):
        first = read_contact_name(name[: between.start()])
        rest, is_minus = name[between.end() :], between[0].strip() in _MINUS
        if not first:
            continue
        if rest.isdecimal() and is_minus and between[0].strip():
            return (rest, True) if int(rest) else ("", False)
        second = read_contact_name(rest)
        if second and (second.shaft == first.shaft or (is_minus and between[0] != " ")):
            return rest, second.shaft == first.shaft
    return "", False


def opposite_sides(shafts):
    """Find electrode shafts whose names differ only in the side of the head.

    Parameters
    ----------
    shafts : iterable of str
        The shafts.

    Returns
    -------
    pairs : list of tuple of str
        Left and right shafts, such as ``("A'", "A")``, ``('LA', 'RA')`` and
        ``('AHL', 'AHR')``.

    Examples
    --------
    >>> from mne_neuroflow.head.contact_names import opposite_sides
    >>> opposite_sides(["A'", "A", "AHL", "AHR", "B"])
    [("A'", 'A'), ('AHL', 'AHR')]
    """
    shafts = list(dict.fromkeys(shafts))
    pairs = []
    for left in shafts:
        rights = [left[:-1]] if left.endswith("'") else []
        rights += ["R" + left[1:]] if left.startswith("L") and left[1:] else []
        rights += [left[:-1] + "R"] if left.endswith("L") and left[:-1] else []
        pairs += [(left, right) for right in rights if right in shafts]
    return pairs


def bare_name(name):
    """Strip prefix, reference and marks from the name of a contact or an electrode.

    Parameters
    ----------
    name : str
        The name in the recording.

    Returns
    -------
    bare : str
        The name without prefix, reference and mark of a macro contact.

    Examples
    --------
    >>> from mne_neuroflow.head.contact_names import bare_name
    >>> bare_name("EEG mAHL1-Ref")
    'AHL1'
    """
    plain = unicodedata.normalize("NFKC", name.translate(_PRIMES)).strip()
    plain = _REFERENCE.sub("", _PREFIX.sub("", plain, count=1))
    macro = _MACRO.match(plain)
    return plain[macro.end() :] if macro else plain
