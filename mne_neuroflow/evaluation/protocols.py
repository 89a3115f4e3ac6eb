"""Splits of recordings into training and test data.

Splits are made before anything is cut into windows, and are written beside the results.
"""

import hashlib
import json
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
from ..scalp.check import check_scalp
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
        The name for the results.
    sessions : dict of str to list of str
        The sessions of each patient, in the order of time.
    load : callable
        ``load(patient, session)`` returns scalp and iEEG as Raw or Epochs, and
        possibly more, which is not used. It must be picklable.
    cache : path-like | None
        A folder for sessions that were resampled to the benchmark's rate. None reads
        them again each time.

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
            The name for the results.
        module : module
            The module.
        key : callable
            Converts names of patients and sessions to arguments of ``load``.
        load_options : dict | None
            Further options of ``load``.

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
            The folder of the files. Names may end with ``-epo.fif`` for Epochs.
            Sessions are sorted by their names, with 2 before 10.

        Returns
        -------
        dataset : Dataset
            The pairs.
        """
        folder = Path(folder).expanduser()
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
    """Find recordings, each by the first of its files."""
    found = folder.glob(f"{begin}*.fif")
    return sorted(f for f in found if not re.search(r"-\d+\.fif$", f.name))


def _by_number(fname):
    """Return a sort key in which 2 comes before 10."""
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
        The patient and the session.

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
    fname = Path(dataset.cache) / f"{patient}_ses-{session}.npz"
    if not fname.exists():
        recordings = _read_anew(dataset, patient, session)
        # Several processes may read the same session at once.
        with written_whole(fname) as part:
            np.savez(part, **_as_arrays(recordings))
    with np.load(fname, allow_pickle=False) as kept:
        return _from_arrays(patient, session, dict(kept))


def _as_arrays(recordings):
    """Take apart the recordings of a session, which have their channels in common."""
    first = recordings[0]
    events = {"spikes": first.spikes, "seizures": first.seizures}
    return {
        "scalp": [recording.scalp.data for recording in recordings],
        "ieeg": [recording.ieeg for recording in recordings],
        "start": [recording.start for recording in recordings],
        "electrodes": first.scalp.electrodes,
        "electrode_names": first.scalp.ch_names,
        "contacts": first.contacts,
        "ch_names": first.ch_names,
        "structures": first.structures,
        **{name: times for name, times in events.items() if times is not None},
    }


def _from_arrays(patient, session, kept):
    """Put the recordings of a session together again."""

    def names(which):
        return tuple(map(str, kept[which]))

    return [
        PairedRecording(
            patient=patient,
            session=session,
            scalp=ScalpData(data, kept["electrodes"], names("electrode_names")),
            contacts=kept["contacts"],
            ch_names=names("ch_names"),
            structures=names("structures"),
            ieeg=ieeg,
            spikes=kept.get("spikes"),
            seizures=kept.get("seizures"),
            start=float(start),
        )
        for data, ieeg, start in zip(
            kept["scalp"], kept["ieeg"], kept["start"], strict=True
        )
    ]


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
    """Read annotated spikes and seizures, if there are any."""
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
    """A part of a session: some seconds of it, or of some trials.

    Attributes
    ----------
    patient, session : str
        The patient and the session.
    trials : tuple of int | None
        The trials. None takes the whole session.
    start, stop : float | None
        Start and end in seconds from the first sample. None takes all.
    """

    patient: str
    session: str
    trials: tuple | None = None
    start: float | None = None
    stop: float | None = None

    def of(self, recordings):
        """Return the piece of a session.

        Parameters
        ----------
        recordings : list of PairedRecording
            The result of :func:`read_session`.

        Returns
        -------
        recordings : list of PairedRecording
            The recordings of the piece.
        """
        if self.trials is not None:
            recordings = as_trials(recordings)
            return [recordings[k] for k in self.trials]
        if self.stop is None:
            return recordings
        return [recordings[0].crop(self.start, min(self.stop, recordings[0].seconds))]


def as_trials(recordings):
    """Cut a continuous recording into trials of eight seconds, and keep trials."""
    if len(recordings) > 1:
        return recordings
    n_trials = int(recordings[0].seconds // _TRIAL)
    starts = _TRIAL * np.arange(n_trials)
    return [recordings[0].crop(start, start + _TRIAL) for start in starts]


@dataclass(frozen=True)
class Fold:
    """The training and test data for one patient.

    Attributes
    ----------
    patient : str
        The patient who is tested.
    train, test : tuple of Piece
        The data.
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
    """Split recordings into training and test data.

    Parameters
    ----------
    dataset : Dataset
        The recordings.
    protocol : str
        One of :data:`PROTOCOLS`.
    minutes : float
        The training time: of the patient's own recording for ``'loso+k'``, and of each
        other patient for ``'loso'``.
    train_seconds : float | None
        The maximum training time of every earlier session for ``'session'``. None takes
        all.
    test_seconds : float
        The maximum time of each patient that is predicted and scored.
    patients : list of str | None
        The patients who are tested. None takes all, or for ``'paper'`` patients 1, 6
        and 9 if all of them exist.
    seed : int
        The seed of random splits.

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
    """Return the first seconds of a session, or its first trials.

    ``extents`` caches the number and the duration of recordings.
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
        n_tested = max(1, int(test_seconds / len(sessions) // trials[0].seconds))
        tested = sorted(int(k) for k in order[:n_test][:n_tested])
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
        The pieces.

    Returns
    -------
    recordings : list of PairedRecording
        Their recordings.
    """
    recordings = []
    for piece in pieces:
        recordings += piece.of(read_session(dataset, piece.patient, piece.session))
    return recordings


def split_to_json(folds):
    """Convert a split to text, which is the same for the same split."""
    return json.dumps([asdict(fold) for fold in folds], indent=1)


def split_hash(folds):
    """Hash a split: eight hexadecimal digits."""
    return hashlib.sha256(split_to_json(folds).encode()).hexdigest()[:8]
