"""A simulated cohort: paired recordings of twelve virtual patients.

Each has two sessions of three minutes, with the same head, implant, montage and
couplings but new signals. Implants and seeds were not used to train the weights. The
cohort shows how methods perform when their prior is correct. It shows nothing about
real patients.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from .. import head, simulate, simulation
from .._compat import _check_option, logger, verbose
from .._docs import fill_doc
from .._download import data_folder
from .._files import draft_folder, move_into
from ..head.contacts import contact_positions, make_contacts
from ..head.geometry import load_head
from ._paired import PairedSession, describe_contacts

DURATION = 180.0  # seconds of a session
_SEED = 7520  # the training's are 1, 2 and 20261
_MIN_CONTACTS = 6  # inside the brain, of the eight of a random electrode


class _Patient(NamedTuple):
    """The seed, implant, montage and scenarios of a virtual patient."""

    implant: str  # a held-out implant and its electrodes, or a number of random ones
    montage: str
    scenarios: tuple


_PATIENTS = {
    1: _Patient("ds004752-sub-01 AHL AL ECL PHL", "19", ("rest", "rest")),
    2: _Patient("ds004752-sub-06 AHL AHR PHL PHR", "10", ("rest", "theta")),
    3: _Patient("ds004752-sub-09 AL AR ECL ECR", "8", ("theta", "theta")),
    4: _Patient("4", "32", ("rest", "spikes")),
    5: _Patient("3", "19", ("spikes", "spikes")),
    6: _Patient("3", "64", ("rest", "ictal")),
    7: _Patient("4", "21", ("spikes", "ictal")),
    8: _Patient("3", "32", ("slowing", "slowing")),
    9: _Patient("3", "25", ("rest", "slowing")),
    10: _Patient("4", "19", ("uncoupled", "uncoupled")),
    11: _Patient("3", "64", ("rest", "theta")),
    12: _Patient("3", "32", ("spikes", "rest")),
}


def table():
    """Describe the cohort.

    Returns
    -------
    table : DataFrame
        One row per session: ``subject``, ``session``, ``scenario`` (see
        :func:`mne_neuroflow.simulate_pair`), ``implant`` (that of a patient, with its
        depth electrodes, or the number of random depth electrodes), ``montage`` (the
        number of scalp electrodes) and ``seed``.

    See Also
    --------
    load

    Examples
    --------
    >>> from mne_neuroflow.datasets import simulated_cohort
    >>> simulated_cohort.table().query("scenario == 'ictal'")["subject"].tolist()
    [6, 7]
    """
    return pd.DataFrame(
        dict(
            subject=subject,
            session=session,
            scenario=scenario,
            implant=patient.implant,
            montage=patient.montage,
            seed=_seed(subject),
        )
        for subject, patient in _PATIENTS.items()
        for session, scenario in enumerate(patient.scenarios, 1)
    )


def sessions():
    """List the sessions of every subject.

    Returns
    -------
    sessions : dict of int to list of int
        The sessions of each subject.

    See Also
    --------
    load

    Examples
    --------
    >>> from mne_neuroflow.datasets import simulated_cohort
    >>> simulated_cohort.sessions()[12]
    [1, 2]
    """
    return {subject: [1, 2] for subject in _PATIENTS}


@verbose
@fill_doc
def load(subject, session, path=None, *, verbose=None):
    """Load one session, and simulate it at the first call.

    Parameters
    ----------
    subject : int
        The virtual patient, 1 to 12.
    session : int
        The session, 1 or 2.
    path : path-like | None
        The folder whose subfolder ``mne_neuroflow`` keeps the sessions. If None, that
        of the MNE-Python config key ``MNE_DATA``, or else ``~/mne_data``.
    %(verbose)s

    Returns
    -------
    scalp : Raw
        180 s of scalp EEG at 128 Hz, in volts, with average reference and template
        positions.
    ieeg : Raw
        The potentials of the contacts against infinity, in volts, with positions in MNI
        coordinates. Annotations mark spikes, seizures and bouts of theta.
    contacts : DataFrame
        One row per contact, by name: ``x``, ``y``, ``z`` (metres, MNI),
        ``hemisphere``, ``group`` (the depth electrode of the contact) and ``structure``
        (that of the nearest source of the template head).

    See Also
    --------
    table, sessions, mne_neuroflow.simulate_pair

    Notes
    -----
    The signals depend only on :func:`table` and on the simulation of this
    version of the package. Sessions from another version are kept, and simulated again
    beside them. The cohort takes about 120 MB on disk.

    Examples
    --------
    >>> from mne_neuroflow.datasets import simulated_cohort
    >>> scalp, ieeg, contacts = simulated_cohort.load(3, 1, path=".", verbose=False)
    >>> scalp.info["subject_info"]["his_id"]
    'sim-03'
    """
    _check_option("subject", subject, list(_PATIENTS))
    _check_option("session", session, sessions()[subject])
    parent = data_folder() if path is None else Path(path).expanduser()
    folder = parent / "mne_neuroflow" / f"simulated-cohort-{_version()}"
    fnames = [
        folder / f"sim-{subject:02d}_ses-{session:02d}_{kind}.fif"
        for kind in ("eeg", "ieeg")
    ]
    if not all(fname.is_file() for fname in fnames):
        logger.info(f"Simulating patient {subject}, session {session}, to {folder}")
        _save(_simulate(subject, session), fnames)
    scalp, ieeg = (mne.io.read_raw_fif(f, preload=True, verbose=False) for f in fnames)
    montage = make_contacts(ieeg.info, verbose=False)
    return PairedSession(scalp, ieeg, describe_contacts(montage))


def _seed(subject):
    return _SEED + subject


@cache
def _version():
    """Hash the code and the tables that the signals depend on."""
    fnames = [Path(__file__), Path(simulate.__file__)]
    for room in (simulation, head):
        fnames += Path(room.__file__).parent.rglob("*")
    digest = hashlib.sha256()
    for fname in sorted(fnames):
        if fname.suffix in (".py", ".csv", ".npz"):
            digest.update(fname.read_bytes())
    return digest.hexdigest()[:8]


def _simulate(subject, session):
    """Simulate one session as two Raw."""
    patient = _PATIENTS[subject]
    pair = simulate.simulate_pair(
        patient.montage,
        _implant(subject),
        DURATION,
        scenario=patient.scenarios[session - 1],
        random_state=_seed(subject),
        session=session,
        verbose=False,
    )
    for raw in pair:
        raw.info["subject_info"] = dict(his_id=f"sim-{subject:02d}")
    return pair


def _implant(subject):
    """Return the contacts of a patient as a montage."""
    name, *groups = _PATIENTS[subject].implant.split()
    if groups:
        montage = make_contacts(name, verbose=False)
        positions = dict(zip(*contact_positions(montage), strict=True))
        known = describe_contacts(montage)["group"].isin(groups)
        positions = {name: positions[name] for name in known.index[known]}
    else:
        positions = _random_electrodes(int(name), _seed(subject))
    montage = mne.channels.make_dig_montage(positions, coord_frame="mni_tal")
    return make_contacts(montage.add_mni_fiducials(verbose=False), verbose=False)


def _random_electrodes(n_electrodes, seed):
    """Draw depth electrodes 'SA', 'SB' and so on: positions in metres by name."""
    from ..simulation.setups import random_shaft

    rng = np.random.default_rng(seed)
    positions = {}
    for letter in "ABCD"[:n_electrodes]:
        shaft = []
        while len(shaft) < _MIN_CONTACTS:
            shaft = random_shaft(load_head(), rng)
        positions |= {f"S{letter}{k}": rr for k, rr in enumerate(shaft, 1)}
    return positions


def _save(pair, fnames):
    """Write both files completely, or none of them."""
    folder = fnames[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    with draft_folder(folder) as draft:
        for raw, fname in zip(pair, fnames, strict=True):
            raw.save(draft / fname.name, verbose=False)
        move_into(draft, folder)
