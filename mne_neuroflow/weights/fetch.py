"""Model weights by name: shipped with the package, kept on disk, or downloaded."""

import logging
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from mne import get_config

from .._compat import _check_option, logger, verbose

BASE_URL_KEY = "MNE_NEUROFLOW_BASE_URL"
TIMEOUT = 30  # seconds without a byte before a server counts as silent

_REGISTRY = Path(__file__).with_name("registry.txt")
_EMBEDDED = Path(__file__).with_name("data")


@dataclass(frozen=True)
class _ModelFile:
    """One line of the registry."""

    model: str
    name: str
    sha256: str
    n_bytes: int

    def matches(self, fname):
        """Tell whether a file on disk is this file, whole and unchanged."""
        return (
            fname.stat().st_size == self.n_bytes
            and pooch.file_hash(str(fname)) == self.sha256
        )


@verbose
def fetch_model(name="mtl-v1", path=None, base_url=None, force=False, *, verbose=None):
    """Get a model's weights by name, downloading them only if need be.

    The weights that ship with the package are taken first, then those in the MNE data
    folder, and only then are they downloaded. Every file is checked against the sha256
    that this version of the package lists.

    Parameters
    ----------
    name : str
        The model's name.
    path : path-like | None
        The folder whose subfolder ``mne_neuroflow`` keeps downloaded models. If None,
        the MNE-Python config key ``MNE_DATA`` is used, or else ``~/mne_data``.
    base_url : str | None
        The web address of the folder to download from. If None, the MNE-Python config
        key (or environment variable) ``MNE_NEUROFLOW_BASE_URL`` is used.
    force : bool
        If True, download the files even if good ones are at hand.
    verbose : bool | str | int | None
        Control verbosity of the logging output, as in MNE-Python. A download shows a
        progress bar at the level ``INFO``.

    Returns
    -------
    fname : pathlib.Path
        The weights, a ``.safetensors`` file. The model card is beside it, with the
        ending ``.json``.

    Notes
    -----
    A download is written under a temporary name and renamed only when it is whole and
    its hash is right, so that a failure leaves no half file, and processes that fetch
    the same model at once all end with a good one.

    .. versionadded:: 0.1

    Examples
    --------
    >>> from mne_neuroflow import fetch_model
    >>> fname = fetch_model("mtl-v1")
    >>> fname.name
    'mtl-v1.safetensors'
    """
    models = _read_registry(_REGISTRY)
    _check_option("name", name, sorted(models))
    files = models[name]
    if not force and _is_embedded(files):
        return _weights_file(_EMBEDDED, files)
    folder = _data_folder(path) / "mne_neuroflow"
    wanted = [file for file in files if force or not _is_kept(folder, file)]
    if wanted:
        base_url = _checked_base_url(base_url, folder, wanted)
    for file in wanted:
        _download(file, folder, base_url)
    return _weights_file(folder, files)


def _read_registry(fname):
    """Read the registry as a dict of model name to its files."""
    models = {}
    for line in Path(fname).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            model, name, sha256, n_bytes = line.split()
            file = _ModelFile(model, name, sha256, int(n_bytes))
            models.setdefault(model, []).append(file)
    return models


def _weights_file(folder, files):
    (fname,) = (folder / f.name for f in files if f.name.endswith(".safetensors"))
    return fname


def _is_embedded(files):
    present = [file for file in files if (_EMBEDDED / file.name).is_file()]
    for file in present:
        fname = _EMBEDDED / file.name
        if not file.matches(fname):
            raise RuntimeError(
                f"{fname}, which ships with mne_neuroflow, is damaged "
                f"({_difference(file, fname)}). Install mne_neuroflow again."
            )
    return len(present) == len(files)


def _is_kept(folder, file):
    fname = folder / file.name
    if not fname.is_file():
        return False
    if file.matches(fname):
        return True
    logger.info(
        f"{fname} is damaged or of another version ({_difference(file, fname)}); it "
        "will be downloaded again."
    )
    return False


def _difference(file, fname):
    """Say in what a file differs from what the registry lists."""
    n_bytes = fname.stat().st_size
    if n_bytes != file.n_bytes:
        return f"it has {n_bytes} bytes instead of {file.n_bytes}"
    found = pooch.file_hash(str(fname))
    return f"its sha256 is {found} instead of {file.sha256}"


def _data_folder(path):
    if path is not None:
        return Path(path).expanduser()
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


def _checked_base_url(base_url, folder, wanted):
    base_url = base_url or get_config(BASE_URL_KEY)
    names = " and ".join(file.name for file in wanted)
    if base_url is None:
        raise RuntimeError(
            f"The model {wanted[0].model!r} needs {names}, which neither this version "
            f"of mne_neuroflow nor {folder} has, and no address to download from is "
            "known. Pass base_url='https://…', or set the MNE-Python config key or "
            f"environment variable {BASE_URL_KEY}, or put the files into that folder."
        )
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(
            "Invalid value for the 'base_url' parameter. It must be a web address "
            f"beginning with 'http://' or 'https://', but got {base_url!r}."
        )
    return base_url.rstrip("/")


def _download(file, folder, base_url):
    """Download one file into the folder, whole or not at all."""
    target = folder / file.name
    url = f"{base_url}/{file.name}"
    logger.info(f"Downloading {url} ({file.n_bytes / 1e6:.1f} MB) to {target}")
    with _explained(file, url, target), _part_file(target) as part:
        pooch.HTTPDownloader(
            progressbar=logger.level <= logging.INFO,
            chunk_size=2**16,
            timeout=TIMEOUT,
        )(url, str(part), None)
        if not file.matches(part):
            raise RuntimeError(
                f"{file.name} from {url} is not the file that mne_neuroflow lists: "
                f"{_difference(file, part)}. The server, or something on the way to "
                "it, sent other content. Nothing was kept; check the address, or try "
                "again later."
            )
        os.replace(part, target)


@contextmanager
def _part_file(target):
    """Give a fresh name beside the target, and remove what is left under it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not from tempfile, whose files only their owner may read: data folders are shared.
    name = f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    part = target.with_name(name)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _explained(file, url, target):
    """Turn failures to download or to write into ones that name cause and remedy."""
    try:
        yield
    except requests.exceptions.RequestException as err:
        raise ConnectionError(
            f"Could not download {file.name} from {url}: {_network_cause(err)}. "
            f"Nothing was kept; try again later, check the address ({BASE_URL_KEY} or "
            f"base_url), or put the file into {target.parent} yourself."
        ) from err
    except OSError as err:
        raise type(err)(
            f"Could not write {target}: {err.strerror or err}. Nothing was kept; free "
            "some space or make the folder writable, or choose another folder by "
            "path or by the MNE-Python config key MNE_DATA."
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
