"""Finding and reading the recordings of a dataset."""

import hashlib
import os
import re
import warnings
from collections import defaultdict
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import NamedTuple

import mne

from .._compat import warn
from .._text import listed

#: Endings of names of recordings in BIDS and in derivatives of MNE-BIDS-Pipeline.
_BIDS_NAME = re.compile(r"(sub-[^/]+?)_(?:eeg|raw)\.(?:edf|bdf|vhdr|set|fif)", re.I)
_LATER_PART = re.compile(r"_split-(?!0*1(_|$))")
_FIRST_PART = re.compile(r"_split-(0*1)(?=_|$)")
_CLEAN = re.compile(r"_(desc|proc)-clean(_|$)")
_ENTITIES = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
# Ends of names of BIDS files on which a recording depends. Events may be bad time.
_TABLES = ("channels.tsv", "events.tsv", "electrodes.tsv", "coordsystem.json")
_TABLES += ("eeg.json",)
# Of MNE's warning about EDF and BDF files.
_CUT_OFF = "Number of records from the header does not match"
# Bytes at the beginning of a file that contain its header, with channels, rate and
# calibration in the formats of BIDS.
_HEADER = 2**16


class Found(NamedTuple):
    """A recording of a dataset."""

    name: str  #: name in the results, such as ``sub-01_task-rest``
    file: str  #: path of the file
    in_bids: bool  #: whether it belongs to a BIDS dataset with further tables
    problem: str = ""  #: reason if it cannot be used

    @property
    def result_name(self):
        """The name without the description, which results replace by their own."""
        return re.sub("_desc-[^_]+", "", self.name)

    def entity(self, which):
        """Return the label of an entity of BIDS.

        Parameters
        ----------
        which : str
            ``'subject'``, ``'session'``, ``'task'`` or ``'run'``.

        Returns
        -------
        label : str
            The label, or an empty string.
        """
        parts = (part.partition("-") for part in self.name.split("_"))
        return {key: label for key, _, label in parts}.get(_ENTITIES[which], "")


def find_recordings(
    root,
    out=None,
    *,
    pattern=None,
    subjects=None,
    sessions=None,
    tasks=None,
    runs=None,
    derivatives=None,
    validate=True,
):
    """Find the EEG recordings of a dataset.

    Parameters
    ----------
    root : path-like
        The dataset, or any folder if there is a pattern.
    out : path-like | None
        A folder of results inside ``root``, which is not searched.
    pattern : str | None
        The files in a folder that is not BIDS, for example ``'*.edf'``. Its subfolders
        are searched too.
    subjects, sessions, tasks, runs : list of str | str | None
        Labels, with or without a prefix such as ``sub-``. ``None`` takes all.
    derivatives : str | None
        Name of a pipeline in ``derivatives/`` whose recordings are used. If there are
        recordings with ``desc-clean`` or ``proc-clean``, only these are used.
    validate : bool
        Refuse a folder without ``dataset_description.json``.

    Returns
    -------
    found : list of Found
        The recordings, sorted by their unique names.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"The folder {root} does not exist.")
    if pattern is not None:
        found = [
            Found(_plain_name(file.relative_to(root)), str(file), False)
            for file in sorted(root.rglob(pattern))
            if not _is_later_part(file)
            and (out is None or Path(out).absolute() not in file.absolute().parents)
        ]
    else:
        root = root if derivatives is None else root / "derivatives" / derivatives
        if validate and not (root / "dataset_description.json").is_file():
            raise FileNotFoundError(
                f"{root} is not a BIDS dataset: it has no dataset_description.json. "
                "Use pattern='*.edf' for a folder of recordings."
            )
        found = _find_in_bids(root, derivatives is not None)
    everything = found
    chosen = [
        _labels(labels, _ENTITIES[which])
        for which, labels in zip(
            _ENTITIES, (subjects, sessions, tasks, runs), strict=True
        )
    ]
    found = [
        one
        for one in found
        if all(
            labels is None or one.entity(which) in labels
            for which, labels in zip(_ENTITIES, chosen, strict=True)
        )
    ]
    if not found:
        what = "EEG recordings" if pattern is None else f"files {pattern}"
        if not everything:
            raise ValueError(f"There are no {what} in {root}.")
        raise ValueError(
            f"None of the {len(everything)} {what} in {root} has these labels. The "
            f"first is {everything[0].name}."
        )
    for which, labels in zip(_ENTITIES, chosen, strict=True):
        absent = sorted((labels or set()) - {one.entity(which) for one in everything})
        if absent:
            warn(f"There are no recordings of the {which} {listed(absent)}.")
    return _with_unique_names(sorted(found))


def read_recording(found):
    """Open a recording without loading its samples.

    Parameters
    ----------
    found : Found
        A result of :func:`find_recordings`.

    Returns
    -------
    raw : Raw
        The recording. In a BIDS dataset, types of channels, bad channels and positions
        are taken from its tables.
    """
    name = Path(found.file).name
    # MNE only warns if records are missing, and a part would pass for the whole.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            raw = _read(found)
        except OSError:
            raise  # errors of the disk or the network
        except Exception as err:  # readers raise many kinds
            reason = " ".join(f"{type(err).__name__}: {err}".split())
            raise ValueError(f"{name} cannot be read: {reason}") from err
    differs = any(_CUT_OFF in str(one.message) for one in caught)
    if differs and _expected_records(found.file) >= 0:
        raise ValueError(
            f"{name} is cut off or damaged: its size is not that of its header."
        )
    return raw


def _read(found):
    if not found.in_bids:
        return mne.io.read_raw(found.file, verbose="warning")
    from mne_bids import get_bids_path_from_fname, read_raw_bids

    path = get_bids_path_from_fname(found.file, check=False, verbose="warning")
    return read_raw_bids(path, verbose="warning")


def _expected_records(fname):
    """Return the number of records in the header of EDF or BDF, -1 if unknown."""
    with open(fname, "rb") as file:
        file.seek(236)
        return int(file.read(8))


def fingerprint(found):
    """Compute a hash that shows whether a recording has changed.

    Parameters
    ----------
    found : Found
        A result of :func:`find_recordings`.

    Returns
    -------
    digest : str
        Hash of its BIDS tables, which may be in folders above it, and of the names,
        sizes and first 64 KiB of its files.
    """
    file, digest = Path(found.file), hashlib.sha256()
    files = [*file.rglob("*")] if file.is_dir() else [*_same_stem(file)]
    if found.in_bids:
        files += _tables_of(found)
    for one in sorted({each for each in files if each.is_file()}):
        digest.update(f"{one.name} {one.stat().st_size}\n".encode())
        with one.open("rb") as opened:
            digest.update(opened.read(None if one.suffix == ".tsv" else _HEADER))
    return digest.hexdigest()


def _tables_of(found):
    """Find the tables of a recording, and those that it shares with others."""
    labels = set(found.name.split("_"))
    n_folders = 4 if found.entity("session") else 3  # up to that of the dataset
    for folder in list(Path(found.file).parents)[:n_folders]:
        for name in _tables_in(folder, folder.stat().st_mtime_ns):
            own = {label for label in name.split("_")[:-1] if label[:6] != "space-"}
            if own <= labels:
                yield folder / name


@lru_cache(maxsize=8)
def _tables_in(folder, changed):
    """Find all tables in a folder, which may have those of thousands of people."""
    return [name for name in os.listdir(folder) if name.split("_")[-1] in _TABLES]


def _same_stem(file):
    """Find the files of a recording, with later parts of one that is split."""
    yield from file.parent.glob(f"{escape(file.stem)}.*")
    first = _FIRST_PART.search(file.stem)
    if first is not None:
        before, after = file.stem[: first.start(1)], file.stem[first.end(1) :]
        yield from file.parent.glob(f"{escape(before)}*{escape(after)}.*")
    if file.suffix == ".fif":
        yield from file.parent.glob(f"{escape(file.stem)}-[0-9]*.fif")


def _is_later_part(file):
    """Return whether MNE reads a file after another: x_raw-1.fif, x_split-02_raw.fif.

    A recording may have a name like that of a part. Only the first file tells.
    """
    if file.suffix != ".fif":
        return False
    if _LATER_PART.search(file.stem):
        return True
    before, _, number = file.stem.rpartition("-")
    first = file.with_name(f"{before}.fif")
    if not number.isdigit() or not first.is_file():
        return False
    try:
        parts = mne.io.read_raw_fif(first, verbose="error").filenames
    except Exception:  # readers raise many kinds
        return False
    return file.absolute() in map(Path, parts)


def _find_in_bids(root, is_derivative):
    found = []
    for file in sorted(root.glob("sub-*/**/eeg/*")):
        match = _BIDS_NAME.fullmatch(file.name)
        if match and not _LATER_PART.search(match[1]):
            name = _FIRST_PART.sub("", match[1])
            # FIF files of derivatives have everything inside, and may end with raw.
            has_tables = not is_derivative or file.suffix.lower() != ".fif"
            parts = [part for part in name.split("_") if "-" not in part]
            problem = parts and f"{file.name} is no BIDS name: {parts[0]} has no key."
            found.append(Found(name, str(file), has_tables, problem or ""))
    clean = [one for one in found if _CLEAN.search(one.name)]
    return clean if is_derivative and clean else found


def _plain_name(path):
    """Make a BIDS name for a file outside of BIDS, as a separate subject.

    Labels of BIDS have letters and digits of ASCII. A hash distinguishes names that
    have others.
    """
    name = "".join(path.with_suffix("").parts)
    label = re.sub("[^0-9A-Za-z]", "", name)
    if any(each.isalnum() and not each.isascii() for each in name):
        label += hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"sub-{label}"


def _labels(labels, prefix):
    if labels is None:
        return None
    labels = [labels] if isinstance(labels, str | int) else labels
    return {str(label).removeprefix(f"{prefix}-") for label in labels}


def _with_unique_names(found):
    """Keep one of several recordings with the same name, marked as unusable.

    Recordings that differ only in ``desc`` would have the same files of results.
    """
    by_name = defaultdict(list)
    for one in found:
        by_name[one.result_name.lower()].append(one)
    unique = []
    for same in by_name.values():
        first, *others = same
        if others:
            files = ", ".join(Path(one.file).name for one in same)
            first = first._replace(
                problem="Several recordings have this name, or differ only in desc, of "
                f"which only desc-clean is preferred: {files}."
            )
        unique.append(first)
    return unique
