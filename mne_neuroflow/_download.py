"""Downloads of listed files, which are checked and complete."""

import logging
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from mne import get_config

from ._compat import logger
from ._files import draft_folder, file_hash, locked

TIMEOUT = 30  # seconds without a byte after which a download fails


@dataclass(frozen=True)
class ListedFile:
    """A file that a registry of this package lists.

    Attributes
    ----------
    name : str
        The path relative to the local folder and to the web address, with forward
        slashes.
    sha256 : str | None
        The hash of its content. ``None`` if it is not published; then only the size is
        checked.
    n_bytes : int
        The size in bytes.
    """

    name: str
    sha256: str | None
    n_bytes: int

    def matches(self, fname):
        """Return whether a file on disk is this file, complete and unchanged."""
        if fname.stat().st_size != self.n_bytes:
            return False
        return self.sha256 in (None, file_hash(fname))

    def difference(self, fname):
        """Describe how a file on disk differs from this file."""
        n_bytes = fname.stat().st_size
        if n_bytes != self.n_bytes:
            return f"it has {n_bytes} bytes instead of {self.n_bytes}"
        found = file_hash(fname)
        return f"its sha256 is {found} instead of {self.sha256}"

    def is_kept(self, folder):
        """Return whether a folder has this file, and log if it has a different one."""
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
        The folder of the MNE-Python config key ``MNE_DATA``, or else ``~/mne_data``.
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
    """Download a file into a folder, completely or not at all.

    It is written under a temporary name, and renamed only when it is complete and its
    hash is right. A failure therefore leaves no incomplete file, and several processes
    can download the same file at once.

    Parameters
    ----------
    file : ListedFile
        The file.
    folder : pathlib.Path
        The folder.
    base_url : str
        The web address that contains it.
    source : str
        The setting of the address, for messages.
    resume : bool
        Whether to keep an interrupted download and continue it the next time.
    """
    target = folder / file.name
    url = f"{base_url}/{file.name}"
    logger.info(f"Downloading {url} ({file.n_bytes / 1e6:.1f} MB) to {target}")
    with (
        _explained(file, url, target, source, resume),
        _part_file(target, file.n_bytes, resume) as part,
    ):
        resumed = part.is_file() and part.stat().st_size > 0
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
    """Append the missing part of a remote file to a local one."""
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
    """Return a temporary name beside the target that no other process uses.

    With ``resume``, this file contains the result of an interrupted download and is
    kept after a failure, unless another process is downloading it at the moment.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        part = target.with_name(f".{target.name}.part")
        if not resume or not stack.enter_context(_alone_with(part, n_bytes)):
            part = stack.enter_context(draft_folder(target.parent)) / target.name
        yield part


@contextmanager
def _alone_with(part, n_bytes):
    """Tell whether nobody else writes a file, which is the beginning of another."""
    part.touch()
    with locked(part, wait=False) as alone:
        if part.stat().st_size >= n_bytes:  # not the beginning of this file
            part.write_bytes(b"")
        try:
            yield alone is not False
        finally:
            if part.is_file() and not part.stat().st_size:
                part.unlink()


@contextmanager
def _explained(file, url, target, source, resume):
    """Replace errors of downloading and writing by ones that name cause and remedy."""
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
