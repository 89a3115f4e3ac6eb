"""Names of scalp electrodes in the styles of different systems.

A name is read in three steps. Prefixes and suffixes are removed
(``'EEG 001-Fp1-Ref'``), the reference is separated (``'Fp1-CPz'``), and the rest is
looked up among the positions of the 10-05 system. However, ``'C3'`` can also be the
third contact of a depth electrode, or an input of a BioSemi amplifier.
:func:`read_names` therefore looks at all names of a recording, and finds series of
names that cannot be positions on the scalp.
"""

import re
import unicodedata
from dataclasses import dataclass

_PREFIX = re.compile(r"^(eeg|pol|chan(nel)?|ch)[ _-]*(?=\S)", re.IGNORECASE)
_NUMBERED = re.compile(r"^\d+[ _:.-]+(?=[a-z])", re.IGNORECASE)  # 'EEG 001-Fp1'
_UNIT = re.compile(r" ?[\[(]([munµμ]?v|(micro|milli)?volts?)[\])]$", re.IGNORECASE)
# Parts that all names of a recording can share, before and after the position.
_BEFORE = re.compile(r"^([a-z]+[ _:.-]+)(?=[a-z]+\d*'?)", re.IGNORECASE)
_AFTER = re.compile(
    r"(?<=[\dz'])( ?[-_:./>|] ?[^-_:/>|\d][^-:/>|]*| [a-z]+|[*#])$", re.IGNORECASE
)
_SHARED = 0.5  # a part that more than this share of names has is not a position
_INTRACRANIAL = re.compile("s?i?eeg|ecog|dbs|depth|grid|strip")
_DUPLICATE = re.compile(r"-0$")  # MNE's for the first of several of one name
# References that are not positions of the 10-05 system, or not on top of the head.
_REFERENCE = re.compile(
    r"[ _:-]+\(?(ref|refe?rence|le|lm|rm|avg|average|ave|av|ar|aa|car|org|lin|g2|gnd|"
    r"mast|masto?ids?|linked|nose|[am][12]([+/]?[am][12])?)\)?(/2)?$",
    re.IGNORECASE,
)
# Between two electrodes, whatever a system writes there.
_BETWEEN = re.compile(r" *[-\u2010-\u2015\u2212:/\\|_>,.] *| +")
_OLD = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
# Ears and mastoids, which are always references in the second place.
_EARS = {"a1", "a2", "m1", "m2"}
_SERIES = re.compile(r"^([a-z]+'*)(\d+)$")
# Numbered inputs that are not electrodes.
_OTHERS = set("x dc exg emg ecg ekg eog aux ch chan eeg misc trig ext in e".split())
_MIN_SERIES = 4  # numbers in a row that make a series
_MIN_STRIP = 6  # of a row of 10-20 beside a cap without its middle


@dataclass(frozen=True)
class Name:
    """The parts of a channel's name.

    Attributes
    ----------
    place : str
        The position in lower case, such as ``'fp1'``.
    reference : str
        The reference in lower case, or ``''``.
    """

    place: str
    reference: str


@dataclass(frozen=True)
class Names:
    """The parts of all names of a recording.

    Attributes
    ----------
    places : list of str | None
        The 10-05 position of each channel in lower case. ``None`` if it has none, or if
        its name is in ``doubtful``.
    references : list of str
        The reference of each channel, or ``''``.
    bipolar : list of bool
        Whether each channel is a derivation of two electrodes, as ``'Fp1-F7'``.
    doubtful : dict of str to list of str
        Series of names that look like 10-05 but are not: channel names by letters.
    """

    places: list
    references: list
    bipolar: list
    doubtful: dict


def read_name(name, known):
    """Read one name.

    Parameters
    ----------
    name : str
        The name in the recording.
    known : container of str
        The 10-05 positions in lower case.

    Returns
    -------
    read : Name
        Position and reference.

    Examples
    --------
    >>> from mne_neuroflow.scalp.names import read_name
    >>> read_name("EEG 001-Fp1-Ref", {"fp1"})
    Name(place='fp1', reference='ref')
    """
    plain = _UNIT.sub("", _visible(name)).strip(". ")
    bare = _NUMBERED.sub("", _PREFIX.sub("", plain))
    if re.match("[aip][A-Z][A-Za-z]?[0-9z]", bare):  # halfway to the next row
        return Name(bare.lower() + "*", "")
    plain = bare.lower()
    for text in (plain, _DUPLICATE.sub("", plain)):
        place, reference = _split(text, known)
        if place in known:
            return Name(place, reference)
    return Name(*_split(plain, known))


def read_names(names, known):
    """Read all names of a recording.

    Parameters
    ----------
    names : list of str
        The names in the recording.
    known : container of str
        The 10-05 positions in lower case.

    Returns
    -------
    read : Names
        Positions, references and doubtful names.
    """
    read = _read_alike(names, known)
    places = [each.place for each in read]
    primed = [p.endswith("'") and p.rstrip("'") in known for p in places]
    # F3' is another position if there is F3 too. Otherwise it is a spelling of F3.
    places = [
        p.rstrip("'") if prime and p.rstrip("'") not in places else p
        for p, prime in zip(places, primed, strict=True)
    ]
    doubtful = _doubtful(places, known)
    bipolar = _are_bipolar(read, known)
    suspects = {k for members in doubtful.values() for k in members}
    return Names(
        [
            place if place in known and k not in suspects else None
            for k, place in enumerate(places)
        ],
        [each.reference for each in read],
        bipolar,
        {key: [names[k] for k in members] for key, members in doubtful.items()},
    )


def _visible(name):
    """Normalize letters, and remove invisible characters."""
    name = unicodedata.normalize("NFKC", name)
    name = "".join(c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(name.split())


def _read_alike(names, known):
    """Read names that can share a prefix and a reference of any kind."""
    read = [read_name(name, known) for name in names]
    if sum(each.place in known for each in read) >= _SHARED * len(names):
        return read
    bare = [_UNIT.sub("", _visible(name)) for name in names]
    before = _most([_BEFORE.match(name) for name in bare])
    bare = [name.removeprefix(before) for name in bare]
    after = _most([_AFTER.search(name) for name in bare])
    if _INTRACRANIAL.search(before.lower()) and not before.lower().startswith("eeg"):
        return read
    reference = after.strip(" -_:./>|").lower()
    again = [
        Name(read_name(name.removesuffix(after), known).place, reference)
        if name.endswith(after)
        else read_name(name, known)
        for name in bare
    ]
    return [
        old if old.place in known or new.place not in known else new
        for old, new in zip(read, again, strict=True)
    ]


def _most(matches):
    """Return a text that at least half of all names share, or ''."""
    texts = [match[1] for match in matches if match]
    text = max(set(texts), key=texts.count, default="")
    return text if texts.count(text) >= max(2, _SHARED * len(matches)) else ""


def _are_bipolar(read, known):
    """Find names whose second electrode is on the scalp and not a common reference."""
    seconds = [each.reference for each in read]
    n_read = sum(each.place in known for each in read)
    shared = {s for s in seconds if seconds.count(s) >= max(2, n_read / 2)} | _EARS
    return [s in known and s not in shared for s in seconds]


def _split(text, known):
    """Separate the position from the reference."""
    match = _REFERENCE.search(text)
    if match and match.start():
        return _now(text[: match.start()]), re.sub(r"[()\s]|/2$", "", match[1])
    for match in _BETWEEN.finditer(text):
        place = _now(text[: match.start()])
        reference = _now(text[match.end() :].rstrip("'"))
        if reference in known and (place in known or match[0] == "-"):
            return place, reference
    return _now(text), ""


def _now(place):
    """Return the present name of a position that had another name before."""
    place = place.strip(". _-")
    return _OLD.get(place, place)


def _doubtful(places, known):
    """Find series of names that no cap of 10-05 has: indices of names by letters."""
    # Use old names as they were written.
    series = {}
    for k, place in enumerate(places):
        match = _SERIES.match(place)
        if match:
            series.setdefault(match[1], {}).setdefault(int(match[2]), []).append(k)
    longest = {letters: _longest_run(numbers) for letters, numbers in series.items()}
    runs = {
        letters for letters, n in longest.items() if n >= _MIN_SERIES and letters != "t"
    }
    impossible = {
        letters
        for letters in runs
        if letters not in _OTHERS
        and any(f"{letters}{number}" not in known for number in series[letters])
    }
    members = {k for letters in runs for ks in series[letters].values() for k in ks}
    others = [p for k, p in enumerate(places) if p in known and k not in members]
    # A cap with as many electrodes in a row has rows between the rows as well.
    dense = any(re.match("(?!fp)[a-z]{2,}[0-9z]", place) for place in others)
    found = {}
    for letters in runs:
        ks = [k for number in series[letters].values() for k in number]
        hits = [k for k in ks if places[k] in known]
        of_a_cap = f"{letters}z" in places and (dense or not impossible)
        # A strip in addition to a cap: a whole row without other rows of its kind.
        shortest = _MIN_SERIES if len(letters) > 1 else _MIN_STRIP
        alone = not dense and longest[letters] >= shortest
        wrong = letters in impossible
        wrong |= not of_a_cap and bool(impossible or not others or alone)
        if hits and wrong:
            found[letters.upper()] = sorted(hits)
    return found


def _longest_run(numbers):
    """Return the length of the longest run of consecutive numbers."""
    longest = run = 0
    for number in sorted(numbers):
        run = run + 1 if number - 1 in numbers else 1
        longest = max(longest, run)
    return longest
