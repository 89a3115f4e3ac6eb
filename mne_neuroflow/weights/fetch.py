"""Model weights by name: shipped with the package, stored on disk, or downloaded."""

from __future__ import annotations

from pathlib import Path

from mne import get_config

from .._compat import _check_option, verbose
from .._docs import fill_doc
from .._download import ListedFile, checked_base_url, data_folder, download
from ..contract import MODEL

BASE_URL_KEY = "MNE_NEUROFLOW_BASE_URL"

_REGISTRY = Path(__file__).with_name("registry.txt")
_EMBEDDED = Path(__file__).with_name("data")


@verbose
@fill_doc
def fetch_model(
    name=MODEL, path=None, base_url=None, force=False, *, verbose=None
) -> Path:
    """Return the weights of a model, and download them if necessary.

    Weights that ship with the package are used first, and then those in the MNE data
    folder. Others are downloaded. Every file is checked against the sha256 that this
    version of the package lists.

    Parameters
    ----------
    name : str
        The name of the model.
    path : path-like | None
        The folder whose subfolder ``mne_neuroflow`` keeps downloaded models. If None,
        the MNE-Python config key ``MNE_DATA`` is used, or else ``~/mne_data``.
    base_url : str | None
        The web address of the folder to download from. If None, the MNE-Python config
        key (or environment variable) ``MNE_NEUROFLOW_BASE_URL`` is used.
    force : bool
        Whether to download the files even if valid ones are present.
    %(verbose)s

    Returns
    -------
    fname : pathlib.Path
        The weights, a ``.safetensors`` file. The model card is beside it, with the
        ending ``.json``.

    Notes
    -----
    A download is written under a temporary name, and renamed only when it
    is complete and its hash is right. A failure therefore leaves no incomplete file,
    and several processes can fetch the same model at once.

    .. versionadded:: 0.1.0

    Examples
    --------
    >>> from mne_neuroflow import fetch_model
    >>> fname = fetch_model("mtl-v2")
    >>> fname.name
    'mtl-v2.safetensors'
    """
    models = _read_registry(_REGISTRY)
    _check_option("name", name, sorted(models))
    files = models[name]
    if not force and _is_embedded(files):
        return _weights_file(_EMBEDDED, files)
    parent = data_folder() if path is None else Path(path).expanduser()
    folder = parent / "mne_neuroflow"
    wanted = [file for file in files if force or not file.is_kept(folder)]
    if wanted:
        base_url = _known_base_url(base_url, name, folder, wanted)
    for file in wanted:
        download(file, folder, base_url, source=f"{BASE_URL_KEY} or base_url")
    return _weights_file(folder, files)


def model_names():
    """Return the names of the models that this version knows.

    Returns
    -------
    names : list of str
        In alphabetical order.
    """
    return sorted(_read_registry(_REGISTRY))


def _read_registry(fname):
    """Read the registry as a dict of model name to its files."""
    models = {}
    for line in Path(fname).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            model, name, sha256, n_bytes = line.split()
            file = ListedFile(name, sha256, int(n_bytes))
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
                f"({file.difference(fname)}). Install mne_neuroflow again."
            )
    return len(present) == len(files)


def _known_base_url(base_url, model, folder, wanted):
    base_url = base_url or get_config(BASE_URL_KEY)
    if base_url is None:
        names = " and ".join(file.name for file in wanted)
        raise RuntimeError(
            f"The model {model!r} needs {names}, which neither this version "
            f"of mne_neuroflow nor {folder} has, and no address to download from is "
            "known. Pass base_url='https://…', or set the MNE-Python config key or "
            f"environment variable {BASE_URL_KEY}, or put the files into that folder."
        )
    return checked_base_url(base_url)
