"""Listed files from the web: whole and unchanged on disk, or not there at all."""

import logging
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from mne import get_config

from ._compat import logger
from ._files import file_hash

TIMEOUT = 30  # seconds without a byte before a server counts as silent


@dataclass(frozen=True)
class ListedFile:
    """A file that a registry of this package lists.

    Attributes
    ----------
    name : str
        Its path below the folder that keeps it and below the web address, with
        forward slashes.
    sha256 : str | None
        Hash of its content; ``None`` where nobody has published it, so that the size
        alone is checked.
    n_bytes : int
        Its size.
    """

    name: str
    sha256: str | None
    n_bytes: int

    def matches(self, fname):
        """Tell whether a file on disk is this file, whole and unchanged."""
        if fname.stat().st_size != self.n_bytes:
            return False
        return self.sha256 in (None, file_hash(fname))

    def difference(self, fname):
        """Say in what a file on disk differs from this file."""
        n_bytes = fname.stat().st_size
        if n_bytes != self.n_bytes:
            return f"it has {n_bytes} bytes instead of {self.n_bytes}"
        found = file_hash(fname)
        return f"its sha256 is {found} instead of {self.sha256}"

    def is_kept(self, folder):
        """Tell whether a folder holds this file, and log if it is another one."""
        fname = folder / self.name
        if not fname.is_file():
            return False
        if self.matches(fname):
            return True
        logger.info(
            f"{fname} is damaged or of another version ({self.difference(fname)}); it "
            "will be downloaded again."
        )
        return False


def data_folder():
    """Return the folder where MNE-Python keeps data.

    Returns
    -------
    folder : pathlib.Path
        What the MNE-Python config key ``MNE_DATA`` names, or else ``~/mne_data``.
    """
    path = get_config("MNE_DATA")
    if path is None:
        return Path("~/mne_data").expanduser()
    # MNE-Python refuses a configured folder that is not there, for example on a drive
    # that is not mounted, rather than making one in its place.
    path = Path(path).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(
            f"The folder {path}, which the MNE-Python config key MNE_DATA names, does "
            "not exist. Create it, or set MNE_DATA to a folder that exists."
        )
    return path


def checked_base_url(base_url):
    """Return a web address without the slash at its end, or refuse it."""
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(
            "Invalid value for the 'base_url' parameter. It must be a web address "
            f"beginning with 'http://' or 'https://', but got {base_url!r}."
        )
    return base_url.rstrip("/")


def download(file, folder, base_url, *, source="base_url", resume=False):
    """Download one file into a folder, whole or not at all.

    It is written under a temporary name and renamed only when it is whole and its
    hash is right, so that a failure leaves no half file under its name, and processes
    that download the same file at once all end with a good one.

    Parameters
    ----------
    file : ListedFile
        What to download.
    folder : pathlib.Path
        Where to put it.
    base_url : str
        The web address below which it lies.
    source : str
        Where the user can change the address, for messages.
    resume : bool
        If True, keep what has arrived when the download breaks off, and go on from
        there the next time.
    """
    target = folder / file.name
    url = f"{base_url}/{file.name}"
    logger.info(f"Downloading {url} ({file.n_bytes / 1e6:.1f} MB) to {target}")
    with (
        _explained(file, url, target, source, resume),
        _part_file(target, file.n_bytes, resume) as part,
    ):
        resumed = part.is_file()
        _transfer(url, part)
        if resumed and not file.matches(part):
            logger.info("It does not continue what was there; starting afresh.")
            part.unlink()
            _transfer(url, part)
        if not file.matches(part):
            difference = file.difference(part)
            part.unlink()
            raise RuntimeError(
                f"{file.name} from {url} is not the file that mne_neuroflow lists: "
                f"{difference}. The server, or something on the way to it, sent other "
                "content. Nothing was kept; check the address, or try again later."
            )
        os.replace(part, target)


def _transfer(url, part):
    """Append to a file what it lacks of the one at an address."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    downloader = pooch.HTTPDownloader(
        progressbar=logger.level <= logging.INFO,
        chunk_size=2**16,
        timeout=TIMEOUT,
        **(dict(headers=headers) if start else {}),
    )
    if start:
        with open(part, "ab") as stream:
            downloader(url, stream, None)
    else:
        downloader(url, str(part), None)


@contextmanager
def _part_file(target, n_bytes, resume):
    """Give a name beside the target that nobody else writes to.

    With ``resume`` the file under that name holds what an earlier download left, and
    what is there in the end is left for a later one; otherwise it is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    left = target.with_name(f".{target.name}.part")
    # Not from tempfile, whose files only their owner may read: data folders are shared.
    name = f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    part = target.with_name(name)
    if resume and left.is_file():
        os.replace(left, part)
        if part.stat().st_size >= n_bytes:  # not the beginning of this file
            part.unlink()
    try:
        yield part
    finally:
        if resume and part.is_file():
            os.replace(part, left)
        part.unlink(missing_ok=True)


@contextmanager
def _explained(file, url, target, source, resume):
    """Turn failures to download or to write into ones that name cause and remedy."""
    kept = "What has arrived is kept" if resume else "Nothing was kept"
    try:
        yield
    except requests.exceptions.RequestException as err:
        raise ConnectionError(
            f"Could not download {file.name} from {url}: {_network_cause(err)}. "
            f"{kept}; try again later, check the address ({source}), or put the file "
            f"into {target.parent} yourself."
        ) from err
    except OSError as err:
        raise type(err)(
            f"Could not write {target}: {err.strerror or err}. {kept}; free some space "
            "or make the folder writable, or choose another folder by path or by the "
            "MNE-Python config key MNE_DATA."
        ) from err


def _network_cause(err):
    exceptions = requests.exceptions
    if isinstance(err, exceptions.HTTPError):
        return f"the server answered {err.response.status_code} {err.response.reason}"
    if isinstance(err, exceptions.Timeout):
        return f"the server was silent for {TIMEOUT} s"
    if isinstance(err, exceptions.ChunkedEncodingError):
        return "the connection broke before the file was whole"
    if isinstance(err, exceptions.ConnectionError):
        return "the server cannot be reached, or fell silent"
    return f"{type(err).__name__}: {err}"
