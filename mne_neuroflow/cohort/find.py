"""Finding and reading the recordings of a dataset."""

import hashlib
import os
import re
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
_CLEAN = re.compile(r"_(desc|proc)-clean(_|$)")
_ENTITIES = {"subject": "sub", "session": "ses", "task": "task", "run": "run"}
# Ends of names of BIDS files on which a recording depends. Events may be bad time.
_TABLES = ("channels.tsv", "events.tsv", "electrodes.tsv", "coordsystem.json")
_TABLES += ("eeg.json",)
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
        return dict(part.split("-", 1) for part in self.name.split("_")).get(
            _ENTITIES[which], ""
        )


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
            if out is None or Path(out).absolute() not in file.absolute().parents
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
    try:
        return _read(found)
    except OSError:
        raise  # errors of the disk or the network
    except Exception as err:  # readers raise many kinds
        reason = " ".join(f"{type(err).__name__}: {err}".split())
        raise ValueError(f"{Path(found.file).name} cannot be read: {reason}") from err


def _read(found):
    if not found.in_bids:
        return mne.io.read_raw(found.file, verbose="error")
    from mne_bids import get_bids_path_from_fname, read_raw_bids

    path = get_bids_path_from_fname(found.file, check=False, verbose="error")
    return read_raw_bids(path, verbose="error")


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
    return file.parent.glob(f"{escape(file.stem)}.*")


def _find_in_bids(root, is_derivative):
    found = []
    for file in sorted(root.glob("sub-*/**/eeg/*")):
        match = _BIDS_NAME.fullmatch(file.name)
        if match and not _LATER_PART.search(match[1]):
            name = re.sub("_split-0*1(?=_|$)", "", match[1])
            found.append(Found(name, str(file), not is_derivative))
    clean = [one for one in found if _CLEAN.search(one.name)]
    return clean if is_derivative and clean else found


def _plain_name(path):
    """Make a BIDS name for a file outside of BIDS, as a separate subject."""
    label = re.sub("[^0-9A-Za-z]", "", "".join(path.with_suffix("").parts))
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
