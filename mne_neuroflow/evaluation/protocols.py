"""Which recordings methods learn from, and on which they are tested.

Splits are lists of stretches of recordings, made before anything is cut into windows
and written next to the results.
"""

import hashlib
import json
import pickle
import re
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import mne
import numpy as np

from .._compat import _check_option, logger
from .._files import written_whole
from ..head.contacts import contact_positions, contact_structures, make_contacts
from ..ieeg import check_ieeg
from ..scalp import check_scalp
from .pairs import PairedRecording, ScalpData

#: What is trained and tested on what.
PROTOCOLS = {
    "paper": "random tenth of the trials of each patient, trained on the rest; leaky: "
    "neighbouring trials are alike",
    "session": "last session of each patient, trained on the earlier ones",
    "loso": "last session of each patient, trained on the other patients",
    "loso+k": "last session of each patient, trained on the first minutes of the first",
}
# The patients of the paper whose way of splitting 'paper' is.
_PAPER = ("1", "6", "9")
# Seconds of a trial where a recording has none, and share of trials for the test.
_TRIAL, _TESTED = 8.0, 0.1


@dataclass(frozen=True)
class Dataset:
    """Simultaneous recordings by patient and session.

    Parameters
    ----------
    name : str
        What to call it in results.
    sessions : dict of str to list of str
        Patient to its sessions, in their order in time.
    load : callable
        ``load(patient, session)`` returns scalp and iEEG as Raw or Epochs, and
        possibly more, which is not used. It must be picklable.
    cache : path-like | None
        Folder where sessions are kept at the benchmark's rate once they were read;
        None reads them anew each time.

    Examples
    --------
    >>> import mne_neuroflow
    >>> def load(patient, session):
    ...     contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
    ...     return mne_neuroflow.simulate_pair(
    ...         "10", contacts, duration=10, session=int(session), random_state=1
    ...     )
    >>> dataset = Dataset("mine", {"1": ["1", "2"]}, load)
    >>> scalp, ieeg = dataset.load("1", "2")
    >>> len(scalp.ch_names), len(ieeg.ch_names)
    (10, 2)
    """

    name: str
    sessions: dict
    load: object
    cache: object = None

    @classmethod
    def of(cls, name, module, key=int, load_options=None):
        """Wrap a module with functions ``sessions()`` and ``load(subject, session)``.

        Parameters
        ----------
        name : str
            What to call it in results.
        module : module
            The module.
        key : callable
            Turns names of patients and sessions into what ``load`` takes.
        load_options : dict | None
            Passed on to ``load``.

        Returns
        -------
        dataset : Dataset
            The dataset.
        """
        load = partial(_load_from, module.load, key, load_options or {})
        sessions = module.sessions().items()
        found = {str(k): [str(s) for s in v] for k, v in sessions}
        return cls(name, found, load)

    @classmethod
    def from_folder(cls, folder):
        """Find pairs of files ``PATIENT_ses-SESSION_eeg.fif`` and ``..._ieeg.fif``.

        Parameters
        ----------
        folder : path-like
            Where they lie. Names may end with ``-epo.fif`` for Epochs. Sessions follow
            each other by their names, 2 before 10.

        Returns
        -------
        dataset : Dataset
            The pairs.
        """
        folder = Path(folder)
        sessions = {}
        for fname in sorted(_files(folder, "*_ses-*_ieeg"), key=_by_number):
            patient, _, rest = fname.name.partition("_ses-")
            sessions.setdefault(patient, []).append(rest.partition("_")[0])
        if not sessions:
            raise ValueError(
                f"{folder} holds no pairs of recordings. Their names must be like "
                "sub-01_ses-01_eeg.fif and sub-01_ses-01_ieeg.fif."
            )
        return cls(folder.resolve().name, sessions, partial(_load_files, folder))


def _files(folder, begin):
    """Find recordings, each by the first of the files that it may be split into."""
    found = folder.glob(f"{begin}*.fif")
    return sorted(f for f in found if not re.search(r"-\d+\.fif$", f.name))


def _by_number(fname):
    """Sort key in which 2 comes before 10."""
    parts = re.split(r"(\d+)", fname.name)
    return [int(part) if part.isdecimal() else part for part in parts]


def _load_from(load, key, options, patient, session):
    return load(key(patient), key(session), **options)


def _load_files(folder, patient, session):
    pair = []
    for kind in ("eeg", "ieeg"):
        found = _files(folder, f"{patient}_ses-{session}_{kind}")
        if len(found) != 1:
            raise ValueError(
                f"{folder} must hold one file {patient}_ses-{session}_{kind}*.fif, "
                f"but holds {len(found)}."
            )
        epochs = found[0].name.endswith("epo.fif")
        read = mne.read_epochs if epochs else mne.io.read_raw_fif
        pair.append(read(found[0], preload=True, verbose="error"))
    return pair


def read_session(dataset, patient, session):
    """Read one session at the benchmark's rate.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    patient, session : str
        Which.

    Returns
    -------
    recordings : list of PairedRecording
        One for a continuous recording, or one for each trial.

    Examples
    --------
    >>> import mne_neuroflow
    >>> def load(patient, session):
    ...     contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
    ...     return mne_neuroflow.simulate_pair(
    ...         "10", contacts, duration=10, session=int(session), random_state=1
    ...     )
    >>> dataset = Dataset("mine", {"1": ["1", "2"]}, load)
    >>> (recording,) = read_session(dataset, "1", "2")
    >>> recording.ieeg.shape, recording.scalp.sfreq
    ((2, 1280), 128)
    """
    if dataset.cache is None:
        return _read_anew(dataset, patient, session)
    fname = Path(dataset.cache) / f"{patient}_ses-{session}.pickle"
    if not fname.exists():
        recordings = _read_anew(dataset, patient, session)
        fname.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may read the same session at once.
        with written_whole(fname) as part:
            part.write_bytes(pickle.dumps(recordings))
    return pickle.loads(fname.read_bytes())


def _read_anew(dataset, patient, session):
    raw_scalp, raw_ieeg, *_ = dataset.load(patient, session)
    scalp = check_scalp(raw_scalp, on_mismatch="ignore", verbose="error")
    ieeg = check_ieeg(raw_ieeg)
    ieeg.check_against(scalp)
    montage = make_contacts(ieeg.info, verbose="error")
    names, positions = contact_positions(montage)
    seconds = int(min(r.n_times / r.sfreq for r in (scalp, ieeg)))
    whole = PairedRecording(
        patient=patient,
        session=session,
        scalp=ScalpData(None, scalp.electrodes, tuple(scalp.ch_names)),
        contacts=positions,
        ch_names=tuple(names),
        structures=tuple(str(s) for s in contact_structures(montage)[0]),
        ieeg=None,
    )
    known = _events(raw_ieeg) if scalp.kind == "raw" else {}
    recordings = []
    for epoch in range(scalp.n_epochs):
        data, truth = (r.to_model(0, seconds, epoch) for r in (scalp, ieeg))
        recordings.append(
            replace(
                whole,
                scalp=replace(whole.scalp, data=np.asarray(data, float)),
                ieeg=np.asarray(truth, float),
                start=float(epoch),
                **known,
            )
        )
    return recordings


def _events(raw):
    """Read annotated spikes and seizures, nothing where nothing is annotated."""
    if not len(raw.annotations):
        return {}
    begins = raw.annotations.onset - raw.first_time
    spans = np.stack([begins, begins + raw.annotations.duration], axis=1)

    def marked(what):
        named = [text.startswith(what) for text in raw.annotations.description]
        return np.array(spans[named], float)

    return {"spikes": marked("spike")[:, 0], "seizures": marked("seizure")}


@dataclass(frozen=True)
class Piece:
    """A stretch of a session: seconds of a continuous one, or of some trials.

    Attributes
    ----------
    patient, session : str
        Whose.
    trials : tuple of int | None
        Which trials; None takes the whole session.
    start, stop : float | None
        Seconds from the session's first sample, None for all.
    """

    patient: str
    session: str
    trials: tuple | None = None
    start: float | None = None
    stop: float | None = None

    def of(self, recordings):
        """Take the piece out of its session.

        Parameters
        ----------
        recordings : list of PairedRecording
            From :func:`read_session`.

        Returns
        -------
        recordings : list of PairedRecording
            What belongs to the piece.
        """
        if self.trials is not None:
            recordings = as_trials(recordings)
            return [recordings[k] for k in self.trials]
        if self.stop is None:
            return recordings
        return [recordings[0].crop(self.start, min(self.stop, recordings[0].seconds))]


def as_trials(recordings):
    """Cut a continuous recording into trials of eight seconds; leave trials as is."""
    if len(recordings) > 1:
        return recordings
    n_trials = int(recordings[0].seconds // _TRIAL)
    starts = _TRIAL * np.arange(n_trials)
    return [recordings[0].crop(start, start + _TRIAL) for start in starts]


@dataclass(frozen=True)
class Fold:
    """One training and one test.

    Attributes
    ----------
    patient : str
        Who is tested.
    train, test : tuple of Piece
        On what.
    """

    patient: str
    train: tuple
    test: tuple


def make_split(
    dataset,
    protocol,
    *,
    minutes=2.0,
    train_seconds=None,
    test_seconds=60.0,
    patients=None,
    seed=0,
):
    """Decide who is trained and tested on what.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    protocol : str
        One of :data:`PROTOCOLS`.
    minutes : float
        Of the patient's own recording that ``'loso+k'`` trains on, and of each other
        patient's for ``'loso'``.
    train_seconds : float | None
        At most so much of every earlier session for ``'session'``; None takes all.
    test_seconds : float
        At most so much of every patient is predicted and scored.
    patients : list of str | None
        Who is tested; None takes everybody, and for ``'paper'`` patients 1, 6 and 9
        where all of them exist.
    seed : int
        Of random splits.

    Returns
    -------
    folds : list of Fold
        One for each patient.

    Examples
    --------
    >>> import mne_neuroflow
    >>> def load(patient, session):
    ...     contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
    ...     return mne_neuroflow.simulate_pair(
    ...         "10", contacts, duration=10, session=int(session), random_state=1
    ...     )
    >>> dataset = Dataset("mine", {"1": ["1", "2"]}, load)
    >>> (fold,) = make_split(dataset, "session", test_seconds=8)
    >>> fold.patient
    '1'
    """
    _check_option("protocol", protocol, list(PROTOCOLS))
    known = list(dataset.sessions)
    if patients is None:
        paper = protocol == "paper" and set(_PAPER) <= set(known)
        patients = _PAPER if paper else known
    for patient in patients:
        _check_option("patients", patient, known)
    rng = np.random.default_rng(seed)
    begin = partial(_begin, dataset, {})
    folds = []
    for patient in patients:
        if protocol == "paper":
            folds.append(_random_trials(dataset, patient, test_seconds, rng))
            continue
        *earlier, last = dataset.sessions[patient]
        if not earlier and protocol != "loso":
            logger.warning(f"Patient {patient} is left out, who has one session only.")
            continue
        if protocol == "session":
            train = [begin(patient, s, train_seconds) for s in earlier]
        elif protocol == "loso+k":
            train = [begin(patient, earlier[0], 60 * minutes)]
        else:
            train = [
                begin(other, dataset.sessions[other][0], 60 * minutes)
                for other in known
                if other != patient
            ]
        test = begin(patient, last, test_seconds)
        folds.append(Fold(patient, tuple(train), (test,)))
    if not folds:
        raise ValueError(
            f"The protocol {protocol!r} needs patients with two sessions or more, and "
            f"{dataset.name} has none."
        )
    return folds


def _begin(dataset, extents, patient, session, seconds):
    """Begin of a session: its first seconds, or trials that last so long together.

    ``extents`` keeps what was read: number of recordings, seconds of each.
    """
    if seconds is None:
        return Piece(patient, session)
    if (patient, session) not in extents:
        recordings = read_session(dataset, patient, session)
        extents[patient, session] = len(recordings), recordings[0].seconds
    n_recordings, length = extents[patient, session]
    if n_recordings == 1:
        return Piece(patient, session, None, 0.0, float(seconds))
    n_trials = max(1, int(seconds // length))
    return Piece(patient, session, tuple(range(min(n_trials, n_recordings))))


def _random_trials(dataset, patient, test_seconds, rng):
    train, test = [], []
    sessions = dataset.sessions[patient]
    for session in sessions:
        trials = as_trials(read_session(dataset, patient, session))
        if not trials:
            raise ValueError(
                f"The protocol 'paper' needs trials, or {_TRIAL:g} s, and session "
                f"{session} of patient {patient} is shorter."
            )
        order = rng.permutation(len(trials))
        n_test = max(1, round(_TESTED * len(trials)))
        most = max(1, int(test_seconds / len(sessions) // trials[0].seconds))
        tested = sorted(int(k) for k in order[:n_test][:most])
        train.append(Piece(patient, session, _sorted(order[n_test:])))
        test.append(Piece(patient, session, tuple(tested)))
    return Fold(patient, tuple(train), tuple(test))


def _sorted(order):
    return tuple(sorted(int(k) for k in order))


def read_pieces(dataset, pieces):
    """Read pieces of sessions.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    pieces : tuple of Piece
        Which.

    Returns
    -------
    recordings : list of PairedRecording
        All that belongs to them.
    """
    recordings = []
    for piece in pieces:
        recordings += piece.of(read_session(dataset, piece.patient, piece.session))
    return recordings


def split_to_json(folds):
    """Write a split as text, the same text for the same split."""
    return json.dumps([asdict(fold) for fold in folds], indent=1)


def split_hash(folds):
    """Name a split by what is in it: eight hexadecimal digits."""
    return hashlib.sha256(split_to_json(folds).encode()).hexdigest()[:8]
