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
_DERIVATION = re.compile(r"(?P<first>.*\d) ?[-–] ?(?P<second>.*\d)")


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
        Names of all channels. A second part that half of them share is a reference.

    Returns
    -------
    second : str
        The second contact, or an empty string if the name is not that of a derivation.
    """
    second = _second(name)
    shared = sum(_second(each) == second for each in names)
    common = len(names) > 2 and 2 * shared >= len(names)
    return "" if common else second


def _second(name):
    """Return the second contact of a derivation within one shaft, or ''."""
    match = _DERIVATION.fullmatch(re.sub(r"-0$", "", name))
    first = match and read_contact_name(match["first"])
    if not first:
        return ""
    if match["second"].isdecimal():
        return match["second"] if int(match["second"]) else ""
    second = read_contact_name(match["second"])
    return match["second"] if second and second.shaft == first.shaft else ""


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
