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
from dataclasses import dataclass, field, replace

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
    r"(?:[ _:-]+\(?|\()(ref|refe?rence|le|lm|rm|avg|average|ave|av|ar|aa|car|org|lin|"
    r"g2|gnd|mast|masto?ids?|linked|nose|lap(?:lacian)?|hjorth|csd|scd|"
    r"[am][12](?:[+/]?[am][12])?)\)?(/2)?$",
    re.IGNORECASE,
)
#: What stands in the place of a reference after a filter over space.
FILTERED = {"lap", "laplacian", "hjorth", "csd", "scd"}
# Between two electrodes, whatever a system writes there.
_BETWEEN = re.compile(r" *[-\u2010-\u2015\u2212:/\\|_>,.] *| +")
_OLD = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
# Letters of Cyrillic and Greek that look like those of 10-05 names.
_LOOKALIKES = str.maketrans(
    "\u0410\u0421\u041e\u0420\u0422\u0430\u0441\u043e\u0440"
    "\u0391\u039f\u03a1\u03a4\u0396\u0399\u039d\u03bf",
    "ACOPTacopAOPTZINo",
)
# Ears and mastoids, which are always references in the second place.
_EARS = {"a1", "a2", "m1", "m2"}
_MARKS = ". _-"
_SERIES = re.compile(r"^([a-z]+'*)(\d+)$")
# Numbered inputs that are not electrodes.
_OTHERS = set("x dc exg emg ecg ekg eog aux ch chan eeg misc trig ext in e".split())
_MIN_SERIES = 4  # numbers in a row that make a series
_MIN_STRIP = 6  # of a row of 10-20 beside a cap without its middle
_MIN_TEMPORAL = 5  # of T1 to T6, the row of 10-20 that had other names before


@dataclass(frozen=True)
class Name:
    """The parts of a channel's name.

    Attributes
    ----------
    place : str
        The position in lower case, such as ``'fp1'``.
    reference : str
        The reference in lower case, or ``''``.
    written : str
        The position as it is written, which can be a name that it had before: ``'t3'``.
    """

    place: str
    reference: str
    written: str = field(default="", repr=False)


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
        return Name(bare.lower() + "*", "", bare.lower() + "*")
    plain = bare.lower()
    for text in (plain, _DUPLICATE.sub("", plain)):
        read = _split(text, known)
        if read.place in known:
            return read
    return _split(plain, known)


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
    written = [
        each.written if each.written != each.place else place
        for each, place in zip(read, places, strict=True)
    ]
    doubtful = _doubtful(written, places, known)
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
    name = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES)
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
    again = [read_name(name.removesuffix(after), known) for name in bare]
    # A derivation, as in 'Fp1-F7-Ref', keeps its second electrode.
    again = [
        replace(each, reference=each.reference or reference)
        if name.endswith(after)
        else read_name(name, known)
        for each, name in zip(again, bare, strict=True)
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
        return _name(text[: match.start()], match[1])
    for match in _BETWEEN.finditer(text):
        read = _name(text[: match.start()], _now(text[match.end() :].rstrip("'")))
        if read.reference in known and (read.place in known or match[0] == "-"):
            return read
    return _name(text, "")


def _name(written, reference):
    written = written.strip(_MARKS)
    return Name(_now(written), reference, written)


def _now(place):
    """Return the present name of a position that had another name before."""
    place = place.strip(_MARKS)
    return _OLD.get(place, place)


def _doubtful(written, places, known):
    """Find series of names that no cap of 10-05 has: indices of names by letters."""
    series = {}
    for k, place in enumerate(written):
        match = _SERIES.match(place)
        if match:
            series.setdefault(match[1], {}).setdefault(int(match[2]), []).append(k)
    longest = {letters: _longest_run(numbers) for letters, numbers in series.items()}
    runs = {
        letters
        for letters, n in longest.items()
        if n >= (_MIN_TEMPORAL if letters == "t" else _MIN_SERIES)
    }
    impossible = {
        letters
        for letters in runs
        if letters not in _OTHERS and not _has_row(letters, series[letters], known)
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
        if letters == "t":  # a row without a middle, at both ends of others
            aside = [p for p in others if not p.endswith("z")]
            of_a_cap = "t" not in impossible and bool(aside)
        # A strip in addition to a cap: a whole row without other rows of its kind.
        shortest = _MIN_SERIES if len(letters) > 1 else _MIN_STRIP
        alone = not dense and longest[letters] >= shortest
        wrong = letters in impossible
        wrong |= not of_a_cap and bool(impossible or not others or alone)
        if hits and wrong:
            found[letters.upper()] = sorted(hits)
    return found


def _has_row(letters, numbers, known):
    """Return whether all names of a series are in one row of the 10-05 system."""
    if letters == "t":  # T3 and T7 are the same position
        return max(numbers) <= 10 and not (
            {3, 4} & set(numbers) and {7, 8} & set(numbers)
        )
    return all(f"{letters}{number}" in known for number in numbers)


def _longest_run(numbers):
    """Return the length of the longest run of consecutive numbers."""
    longest = run = 0
    for number in sorted(numbers):
        run = run + 1 if number - 1 in numbers else 1
        longest = max(longest, run)
    return longest
