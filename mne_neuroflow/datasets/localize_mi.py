"""Localize-MI: high-density EEG during intracranial stimulation.

The dataset has 61 sessions of seven patients with 256 electrodes. In each session one
pair of contacts is stimulated, so that the position of the source is known to the
millimetre. Please cite

- Mikulan E, Russo S, Parmigiani S, et al. Simultaneous human intracerebral stimulation
  and HD-EEG, ground-truth for source localization methods. Scientific Data 7:127, 2020.
  doi:10.1038/s41597-020-0467-x. Data: doi:10.12751/g-node.1cc1ae

The stimulation artefact lasts a few milliseconds, and its frequencies are far above the
band of this package. Only its *topography* can be used, with another time course.
"""

import io
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

import mne
import numpy as np
import requests
from scipy.io import loadmat

from .._compat import logger, verbose
from .._docs import fill_doc
from .._download import TIMEOUT, ListedFile, checked_base_url, data_folder, download
from .._files import file_hash
from .._text import listed
from ..head.contact_names import read_contact_name
from ..head.contacts import contact_positions, read_contacts
from ._stimulation import (
    check_numbers,
    other_layout,
    read_run,
    read_site,
    run_files,
    set_template_positions,
    template_affine,
)

BASE_URL = "https://gin.g-node.org/ezemikulan/Localize-MI/raw/master"
_TASK = "seegstim"
_N_SUBJECTS = 7
_SPACE = "space-MNI152NLin2009aSym"
# The source archive of sesameeg on PyPI (its code is BSD-3; it names no licence of the
# data), and the session of Localize-MI inside. Its example gives the position.
_EXAMPLE = ListedFile(
    "sesameeg-0.0.3.tar.gz",
    "8a8fa1de16ebd72e4db0ca94363e81e6a2ebaa24c6888fa28260b905f4c28f45",
    23_690_757,
)
_EXAMPLE_URL = "https://files.pythonhosted.org/packages/source/s/sesameeg"
_EXAMPLE_DATA = "sesameeg-0.0.3/examples/data/sub-01_run-07_data.mat"
_EXAMPLE_SITE = (0.034775, -0.00336, 0.039735)


class StimulationSession(NamedTuple):
    """Scalp EEG during the stimulation of one site.

    Attributes
    ----------
    scalp : Epochs | Evoked
        The scalp EEG in volts, with electrodes in template coordinates.
    site : ndarray, shape (3,)
        The middle between the two stimulated contacts in metres, fsaverage surface RAS.
    about : str
        A description of the stimulation.
    """

    scalp: mne.BaseEpochs | mne.Evoked
    site: np.ndarray
    about: str


@verbose
@fill_doc
def fetch(subject, run, path=None, base_url=None, *, verbose=None):
    """Download the missing files of one session.

    The dataset has no published hashes. Downloaded files are compared with their size
    on the server, and their sha256 is logged. Interrupted downloads are continued.
    Files that are there are not checked.

    Parameters
    ----------
    subject : int
        The subject, 1 to 7.
    run : int
        The number of the session.
    path : path-like | None
        The folder of the dataset. If None, ``localize_mi`` in the folder of the
        MNE-Python config key ``MNE_DATA``, or else in ``~/mne_data``.
    base_url : str | None
        The web address of the dataset. If None, its address at G-Node.
    %(verbose)s

    Returns
    -------
    path : pathlib.Path
        The folder of the dataset.

    See Also
    --------
    load

    Examples
    --------
    >>> from mne_neuroflow.datasets import localize_mi
    >>> path = localize_mi.fetch(1, 7)  # doctest: +SKIP
    """
    folder = _folder(path)
    check_numbers(subject, run, _N_SUBJECTS)
    base_url = checked_base_url(BASE_URL if base_url is None else base_url)
    missing = [f for f in _files(subject, run).values() if not (folder / f).is_file()]
    files = [ListedFile(name, None, _size(base_url, name)) for name in missing]
    if files:
        logger.info(
            "Downloading %d files, %.0f MB in all, of Localize-MI to %s",
            len(files),
            sum(file.n_bytes for file in files) / 1e6,
            folder,
        )
    for file in files:
        download(file, folder, base_url, resume=True)
        logger.info("%s: sha256 %s", file.name, file_hash(folder / file.name))
    return folder


@verbose
@fill_doc
def load(subject, run, path=None, *, verbose=None):
    """Load one session, with the stimulated site in template coordinates.

    Parameters
    ----------
    subject : int
        The subject, 1 to 7.
    run : int
        The number of the session.
    path : path-like | None
        The folder of the dataset; what it lacks is downloaded. If None,
        ``localize_mi`` in the folder of the MNE-Python config key ``MNE_DATA``, or else
        in ``~/mne_data``.
    %(verbose)s

    Returns
    -------
    scalp : Epochs
        Epochs from -250 to 10 ms around each pulse at 8 kHz, in volts. Bad channels are
        marked.
    site : ndarray, shape (3,)
        The middle between the two stimulated contacts in metres, from their MNI
        coordinates in the dataset.
    about : str
        A description of the stimulation.

    See Also
    --------
    fetch, load_example

    Notes
    -----
    Electrode positions are those of the forward solution of each patient (the tables of
    electrodes are said to be the same for all patients). The affine map that fits the
    patient's cortex to that of the template transforms them.

    The layout was taken from the code that the authors published with the data. No file
    of the dataset was available when this function was written. Files with another
    layout are an error.

    Examples
    --------
    >>> from mne_neuroflow.datasets import localize_mi
    >>> scalp, site, about = localize_mi.load(1, 7)  # doctest: +SKIP
    """
    folder = _folder(path)
    check_numbers(subject, run, _N_SUBJECTS)
    files = _files(subject, run)
    if not all((folder / file).is_file() for file in files.values()):
        fetch(subject, run, folder)
    scalp = read_run(folder, files, "eeg")
    forward = mne.read_forward_solution(folder / files["forward"], verbose=False)
    affine = template_affine(np.vstack([s["rr"][s["vertno"]] for s in forward["src"]]))
    places = {
        ch["ch_name"]: mne.transforms.apply_trans(affine, ch["loc"][:3])
        for ch in forward["info"]["chs"]
    }
    if not set(places).intersection(scalp.ch_names):
        raise other_layout(
            folder / files["forward"],
            f"the electrodes {listed(places)}, but the epochs {listed(scalp.ch_names)}",
        )
    set_template_positions(scalp, places)
    montage = read_contacts(
        folder / files["contacts"], space="MNI152", units="m", on_missing="ignore"
    )
    contacts, how = read_site(scalp.info["description"])
    names = [f"{shaft}{number}" for shaft, number in contacts]
    known = {
        read_contact_name(name): place
        for name, place in zip(*contact_positions(montage), strict=True)
    }
    if not known.keys() >= set(contacts):
        raise other_layout(
            folder / files["contacts"],
            f"no coordinates of the stimulated contacts {' and '.join(names)}",
        )
    site = np.mean([known[contact] for contact in contacts], axis=0)
    return StimulationSession(scalp, site, f"{'-'.join(names)} {how}")


@verbose
@fill_doc
def load_example(path=None, *, verbose=None):
    """Load the session that the source archive of sesameeg 0.0.3 contains.

    Parameters
    ----------
    path : path-like | None
        The archive from ``pip download sesameeg==0.0.3 --no-deps --no-binary :all:``.
        If None, it is downloaded (24 MB) into the folder of :func:`fetch`.
    %(verbose)s

    Returns
    -------
    scalp : Evoked
        The average over the pulses of subject 1, session 7, from -2 to 2 ms at 8 kHz,
        at 234 good electrodes, in volts.
    site : ndarray, shape (3,)
        The middle between the two stimulated contacts in metres, transformed to the
        template by the affine map of the patient's cortex.
    about : str
        A description of the recording.

    See Also
    --------
    load

    Examples
    --------
    >>> from mne_neuroflow.datasets import localize_mi
    >>> evoked, site, about = localize_mi.load_example()  # doctest: +SKIP
    """
    if path is None:
        path = _fetch_example(_folder(None))
    path = Path(path).expanduser()
    if not _EXAMPLE.matches(path):
        raise ValueError(
            f"{path} is not the source archive of sesameeg 0.0.3: "
            f"{_EXAMPLE.difference(path)}."
        )
    with tarfile.open(path) as archive:
        content = archive.extractfile(_EXAMPLE_DATA).read()
    contents = loadmat(io.BytesIO(content))
    affine = template_affine(contents["src_coo"])
    good = contents["good_chs"][0] - 1  # they count from 1
    names = [f"E{k + 1}" for k in good]
    times = contents["times"][0]
    info = mne.create_info(names, (len(times) - 1) / np.ptp(times), "eeg")
    info["description"] = "Localize-MI, subject 1, session 7, from sesameeg 0.0.3"
    evoked = mne.EvokedArray(contents["evoked"], info, times[0], verbose=False)
    places = mne.transforms.apply_trans(affine, contents["ch_coo"][good])
    set_template_positions(evoked, dict(zip(names, places, strict=True)))
    site = mne.transforms.apply_trans(affine, np.array([_EXAMPLE_SITE]))[0]
    return StimulationSession(evoked, site, info["description"])


def _fetch_example(folder):
    if not _EXAMPLE.is_kept(folder):
        try:
            download(_EXAMPLE, folder, _EXAMPLE_URL, resume=True)
        except ConnectionError as err:
            raise ConnectionError(
                f"{_EXAMPLE.name} cannot be downloaded from {_EXAMPLE_URL} "
                f"({err.__cause__}). Get it with pip download sesameeg==0.0.3 "
                f"--no-deps --no-binary :all: --dest {folder}"
            ) from err
    return folder / _EXAMPLE.name


def find_sessions(path=None):
    """Find the sessions that a folder holds.

    Parameters
    ----------
    path : path-like | None
        As for :func:`fetch`, which is not called.

    Returns
    -------
    sessions : list of tuple of int
        Subject and run of each session with epochs of the scalp.

    See Also
    --------
    fetch, load

    Examples
    --------
    >>> from mne_neuroflow.datasets import localize_mi
    >>> localize_mi.find_sessions("no such folder")
    []
    """
    pattern = re.compile(rf"sub-(\d+)_task-{_TASK}_run-(\d+)_epochs")
    names = (file.name for file in _folder(path).rglob("*_epochs.npy"))
    found = filter(None, map(pattern.match, names))
    return sorted((int(one[1]), int(one[2])) for one in found)


def _folder(path):
    return data_folder() / "localize_mi" if path is None else Path(path).expanduser()


def _files(subject, run):
    """Return the files of a session, small files first."""
    who = f"sub-{subject:02d}"
    contacts = (
        f"derivatives/epochs/{who}/ieeg/{who}_task-{_TASK}_{_SPACE}_electrodes.tsv"
    )
    forward = f"derivatives/sourcemodelling/{who}/fwd/{who}_fwd.fif"
    files = {"contacts": contacts} | run_files(subject, _TASK, run, "eeg")
    return files | {"forward": forward}


def _size(base_url, name):
    """Ask the server for the size of a file."""
    url = f"{base_url}/{name}"
    try:
        answer = requests.head(url, timeout=TIMEOUT, allow_redirects=True)
        answer.raise_for_status()
        return int(answer.headers["Content-Length"])
    except (requests.exceptions.RequestException, KeyError) as err:
        raise ConnectionError(
            f"Could not ask for {url}: {err}. Try again later, check the address "
            "(base_url), or download the dataset yourself and give its folder as path."
        ) from err
