"""Writing files completely, or not at all.

This module uses only the standard library. It does not depend on the content of files.
"""

import hashlib
import os
import platform
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Beginning of the names of temporary folders.
DRAFT = ".mne-neuroflow-"


def file_hash(fname):
    """Compute the sha256 of a file, and cache it until the file changes.

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
def written_whole(fname):
    """Return a temporary file name, and rename this file at the end.

    Parameters
    ----------
    fname : path-like
        The file. An existing file is kept until the new one is written.

    Yields
    ------
    part : Path
        A name with the same ending on the same disk, which no other process uses.
    """
    fname = Path(fname).expanduser()
    with draft_folder(fname.parent) as draft:
        yield draft / fname.name
        (draft / fname.name).replace(fname)


@contextmanager
def draft_folder(parent):
    """Make a temporary folder on the same disk, so that files can be moved.

    Temporary folders that killed processes of this machine left are removed.

    Parameters
    ----------
    parent : path-like
        The folder that contains it.

    Yields
    ------
    folder : Path
        A hidden folder, which is removed at the end.
    """
    parent = Path(parent)
    if not parent.is_dir():
        raise FileNotFoundError(f"The folder {parent} does not exist.")
    prefix = f"{DRAFT}{re.sub('[^0-9A-Za-z]', '', platform.node())}-"
    for name in os.listdir(parent):
        if name.startswith(prefix):
            with locked(parent / name, wait=False) as left_behind:
                if left_behind:
                    shutil.rmtree(parent / name, ignore_errors=True)
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as err:
            raise type(err)(f"Cannot write to {parent}: {err.strerror}.") from err
        with locked(folder):
            if not folder.exists():  # taken for one that was left behind
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def move_into(draft, folder, last=lambda fname: False):
    """Move all files of a draft to the same paths in a folder, sorted by name.

    Other processes wait meanwhile. The last of several files is deleted first and
    moved last, so that it never exists together with files of another result.

    Parameters
    ----------
    draft, folder : Path
        The source and the target.
    last : callable
        Returns whether a file is moved after all others, because it marks completion.
    """
    files = sorted(fname for fname in draft.rglob("*") if fname.is_file())
    files = sorted(files, key=last)
    with locked(folder):
        if len(files) > 1:
            (folder / files[-1].relative_to(draft)).unlink(missing_ok=True)
        for fname in files:
            target = folder / fname.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            fname.replace(target)


@contextmanager
def locked(folder, wait=True):
    """Lock a folder or file, if possible, until the end of the block or process.

    Parameters
    ----------
    folder : Path
        The folder, or a file.
    wait : bool
        Whether to wait for another process or thread that has locked it.

    Yields
    ------
    locked : bool | None
        Whether it was free. ``None`` if the system or disk has no locks.
    """
    try:
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError:
        handle = None
    if handle is None:
        yield None
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        except OSError:  # a file system without locks
            yield None
        else:
            yield True
    finally:
        # Also for children that were forked meanwhile and share the handle.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)
