"""Files that appear whole under their names, or not at all.

This room knows the standard library alone, and never what is in a file.
"""

import hashlib
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path


def file_hash(fname):
    """Compute the sha256 of a file, once as long as it does not change.

    Parameters
    ----------
    fname : path-like
        The file.

    Returns
    -------
    sha256 : str
        The hash as 64 hexadecimal digits.
    """
    stat = os.stat(fname)
    stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return _hash_of(os.path.abspath(fname), stamp)


@lru_cache(maxsize=64)
def _hash_of(fname, stamp):
    with open(fname, "rb") as fid:
        return hashlib.file_digest(fid, "sha256").hexdigest()


@contextmanager
def written_whole(*fnames):
    """Give names to write to, and move what was written there in the end.

    Parameters
    ----------
    *fnames : path-like
        The files. What was there before stays until all of them are written.

    Yields
    ------
    parts : Path | list of Path
        As many names in the same folders, which no other process writes to. They end
        as ``fnames`` do, for writers that look at that.
    """
    fnames = [Path(fname) for fname in fnames]
    # Not from tempfile, whose files only their owner may read: folders are shared.
    mark = f".{os.getpid()}-{secrets.token_hex(4)}."
    parts = [fname.with_name(mark + fname.name) for fname in fnames]
    try:
        yield parts if len(parts) > 1 else parts[0]
        for part, fname in zip(parts, fnames, strict=True):
            part.replace(fname)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


@contextmanager
def draft_folder(parent):
    """Give a temporary folder on the same disk, so that files can be moved.

    Parameters
    ----------
    parent : path-like
        The folder that holds it.

    Yields
    ------
    folder : Path
        Hidden; it is removed in the end.
    """
    parent = Path(parent)
    if not parent.is_dir():
        raise FileNotFoundError(f"The folder {parent} does not exist.")
    try:
        folder = Path(tempfile.mkdtemp(prefix=".mne-neuroflow-", dir=parent))
    except OSError as err:
        raise OSError(f"Cannot write to {parent}: {err.strerror}.") from err
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into(draft, folder, last=lambda fname: False):
    """Move all files of a draft to the same places in a folder, in order of names.

    Parameters
    ----------
    draft, folder : Path
        From where and to where.
    last : callable
        Which files go after all others, because they stand for the whole.
    """
    files = sorted(fname for fname in draft.rglob("*") if fname.is_file())
    for fname in sorted(files, key=last):
        target = folder / fname.relative_to(draft)
        target.parent.mkdir(parents=True, exist_ok=True)
        fname.replace(target)
