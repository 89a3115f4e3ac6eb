"""Names of scalp electrodes, as the systems of this world write them.

A name is read in three steps: what is around it goes (``'EEG 001-Fp1-Ref'``), the
reference that it tells is set apart (``'Fp1-CPz'``), and the rest is looked up among
the positions of the 10-05 system. But ``'C3'`` is also the third contact of a depth
electrode and an input of a BioSemi box, so that no name is looked up alone:
:func:`read_names` looks at all of a recording's names first, and says of which series
they cannot be positions on a scalp.
"""

import re
import unicodedata
from dataclasses import dataclass

_PREFIX = re.compile(r"^(eeg|pol|chan(nel)?|ch)[ _-]*(?=\S)", re.IGNORECASE)
_NUMBERED = re.compile(r"^\d+[ _-]+(?=[a-z])", re.IGNORECASE)  # 'EEG 001-Fp1'
_DUPLICATE = re.compile(r"-0$")  # MNE's for the first of several of one name
# References that are no position of 10-05, or none on top of the head.
_REFERENCE = re.compile(
    r"[ _:-]+\(?(ref|refe?rence|le|lm|rm|avg|average|ave|av|ar|aa|car|org|lin|g2|gnd|"
    r"mast|masto?ids?|linked|nose|[am][12]([+/]?[am][12])?)\)?(/2)?$",
    re.IGNORECASE,
)
_OLD = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
# Ears and mastoids, which are references wherever they stand second.
_EARS = {"a1", "a2", "m1", "m2"}
_SERIES = re.compile(r"^([a-z]+'*)(\d+)$")
# Inputs that are numbered and are no electrodes.
_OTHERS = set("x dc exg emg ecg ekg eog aux ch chan eeg misc trig ext in e".split())
_LEAST = 4  # numbers in a row that make a series


@dataclass(frozen=True)
class Name:
    """A channel's name, read alone.

    Attributes
    ----------
    place : str
        In lower case, with nothing around it: ``'fp1'``.
    reference : str
        What the name tells of the reference, in lower case, or ``''``.
    """

    place: str
    reference: str


@dataclass(frozen=True)
class Names:
    """All names of a recording.

    Attributes
    ----------
    places : list of str | None
        The 10-05 position of each, in lower case; ``None`` where there is none, or
        where the name is one of ``doubtful``.
    references : list of str
        What each tells of its reference, ``''`` for nothing.
    bipolar : list of bool
        Which are derivations of two electrodes, as in ``'Fp1-F7'``.
    doubtful : dict of str to list of str
        Series of names that look like 10-05 but are not: letters to channel names.
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
        As the recording has it.
    known : container of str
        The 10-05 positions in lower case.

    Returns
    -------
    read : Name
        Place and reference.

    Examples
    --------
    >>> from mne_neuroflow.electrode_names import read_name
    >>> read_name("EEG 001-Fp1-Ref", {"fp1"})
    Name(place='fp1', reference='ref')
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).split()).strip(". ")
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
        As the recording has them.
    known : container of str
        The 10-05 positions in lower case.

    Returns
    -------
    read : Names
        Places, references and what is doubtful.
    """
    read = [read_name(name, known) for name in names]
    places = [each.place for each in read]
    primed = [p.endswith("'") and p.rstrip("'") in known for p in places]
    # F3' beside F3 is another place; alone it is a way to write F3.
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


def _are_bipolar(read, known):
    """Tell names whose second electrode is on the scalp and not what most share."""
    seconds = [each.reference for each in read]
    n_read = sum(each.place in known for each in read)
    shared = {s for s in seconds if seconds.count(s) >= max(2, n_read / 2)} | _EARS
    return [s in known and s not in shared for s in seconds]


def _split(text, known):
    """Tell the place from the reference."""
    match = _REFERENCE.search(text)
    if match and match.start():
        return _now(text[: match.start()]), re.sub(r"[()\s]|/2$", "", match[1])
    place, dash, reference = text.partition("-")
    if dash and _now(reference.rstrip("'")) in known:
        return _now(place), _now(reference.rstrip("'"))
    return _now(text), ""


def _now(place):
    """Today's name of a place that had another one before."""
    place = place.strip(". _-")
    return _OLD.get(place, place)


def _doubtful(places, known):
    """Find series that 10-05 does not have: letters -> which names."""
    # Old names are looked at as they were written.
    series = {}
    for k, place in enumerate(places):
        match = _SERIES.match(place)
        if match:
            series.setdefault(match[1], {}).setdefault(int(match[2]), []).append(k)
    longest = {letters: _longest_run(numbers) for letters, numbers in series.items()}
    runs = {letters for letters, n in longest.items() if n >= _LEAST and letters != "t"}
    strange = {
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
        of_a_cap = f"{letters}z" in places and (dense or not strange)
        wrong = letters in strange or not of_a_cap and (strange or not others)
        if hits and wrong:
            found[letters.upper()] = sorted(hits)
    return found


def _longest_run(numbers):
    """Length of the longest run of numbers without a gap."""
    longest = run = 0
    for number in sorted(numbers):
        run = run + 1 if number - 1 in numbers else 1
        longest = max(longest, run)
    return longest
