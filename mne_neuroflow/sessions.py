"""Pairs of recordings to learn from: checked, grouped by patient, cut into parts."""

import copy
import itertools
from functools import partial

import numpy as np

from ._compat import bad_samples, warn
from ._text import listed
from .contract import BLOCK, SAME_PLACE
from .ieeg import check_ieeg
from .predict import _Predictor

# Parts into which pairs are cut where there is only one session, if it is long enough.
N_PARTS = 6
# Seconds left out between parts of a continuous recording.
GAP = 2
# Least seconds of pairs, in all and in one part.
_LEAST, LEAST_PART = 30, 3
# Seconds to either side in which the scalp is compared with the contacts, the shift
# from which it is told, and how much better than unshifted it must be (simulated pairs:
# at most 0.4 times as well where aligned, 20 times where not).
_MOST_SHIFT, _LEAST_SHIFT, _CLEARLY = 2.0, 0.06, 1.5
# Share of all contacts' variance in their mean from which an active reference is
# suspected (simulated implants: 0.12 to 0.38), and contacts from which it is computed.
_COMMON, _LEAST_CONTACTS = 0.5, 8
# Most seconds in which the two are compared.
_MOST_COMPARED = 180


class Session:
    """Two checked recordings of the same moments."""

    def __init__(self, scalp, ieeg, model, trans, on_unlike):
        truth = check_ieeg(ieeg)
        if truth.flat:
            raise ValueError(
                f"Contacts without a signal cannot be learned: {listed(truth.flat)}. "
                "Mark them in ieeg.info['bads']."
            )
        self.predictor = _Predictor(
            scalp, truth.info, model, 0, "cpu", 1, trans, on_unlike
        )
        self._again = partial(Session, model=model, trans=trans, on_unlike="ignore")
        self._given, self._ieeg, self.truth = scalp, ieeg, truth
        truth.check_against(self.predictor.scalp)
        # Whole seconds of the recording or of each epoch.
        self._length = int(truth.n_times / truth.sfreq + 1e-6)
        self._epochs = [None] if truth.kind == "raw" else list(range(truth.n_epochs))
        self._good = np.ones(self._length, bool)
        if truth.kind == "raw":
            for raw in (scalp, ieeg):
                self._good &= _good_seconds(raw, self._length)
        self.n_seconds = sum(n_seconds for *_, n_seconds in self.pieces())

    @property
    def ch_names(self):
        """Names of the contacts."""
        return self.predictor.ch_names

    def restricted(self, electrodes, contacts):
        """Return the same pair with some EEG channels and contacts, in this order."""
        same = self.predictor.scalp.ch_names == electrodes and self.ch_names == contacts
        if same:
            return self
        scalp = self._given.copy().pick(electrodes, verbose=False)
        return self._again(scalp, self._ieeg.copy().reorder_channels(contacts))

    @property
    def gain(self):
        """The recording's gain."""
        return self.predictor.conditions(0, 1, self._epochs[0]).gain.item()

    def pieces(self):
        """Epoch, first second and number of seconds of everything that is good."""
        return [
            piece
            for epoch in self._epochs
            for piece in self._runs(epoch, 0, self._length)
        ]

    def cut(self):
        """Pieces in parts: groups of whole trials, or contiguous seconds."""
        if len(self._epochs) > 1:
            n_parts = min(N_PARTS, len(self._epochs))
            groups = np.array_split(np.arange(len(self._epochs)), n_parts)
            return [[(int(k), 0, self._length) for k in group] for group in groups]
        # A short one is cut into fewer.
        n_parts = max(2, min(N_PARTS, self._length // (LEAST_PART + GAP)))
        step = self._length // n_parts
        return [
            self._runs(self._epochs[0], k * step, (k + 1) * step - GAP)
            for k in range(n_parts)
        ]

    def _runs(self, epoch, first, stop):
        """Pieces without a bad second in them."""
        if epoch is not None and len(self._epochs) > 1:
            return [(epoch, first, stop - first)]
        good = np.concatenate([[False], self._good[first : max(stop, first)], [False]])
        (edges,) = np.nonzero(np.diff(good))
        return [
            (epoch, int(first + begin), int(end - begin))
            for begin, end in edges.reshape(-1, 2)
            if end - begin >= LEAST_PART
        ]

    def read(self, epoch, first, n_seconds, halo=0):
        """Scalp, with a halo of samples, and contacts in volts at 128 Hz."""
        scalp = self.predictor.scalp.to_model(first - 1, n_seconds + 2, epoch)
        deep = self.truth.to_model(first, n_seconds, epoch)
        return scalp[:, BLOCK - halo : -BLOCK + halo], deep

    def stretches(self, pieces=None, implant=None):
        """Return pieces for training, as an implant sees the scalp."""
        from .training.pairs import Stretch

        predictor = copy.copy(self.predictor)
        if implant is not None:
            predictor.use(implant)

        def potentials(first_block, n_blocks, epoch):
            data = self.truth.to_model(first_block, n_blocks, epoch)
            return predictor._tensor(data)[None]

        return [
            Stretch(
                partial(predictor.conditions, epoch=epoch),
                partial(potentials, epoch=epoch),
                first,
                n_seconds,
            )
            for epoch, first, n_seconds in (pieces or self.pieces())
        ]


def _good_seconds(raw, n_seconds):
    """Whether seconds of a Raw are free of bad annotations."""
    bad = bad_samples(raw)
    edges = np.round(np.arange(n_seconds + 1) * raw.info["sfreq"]).astype(int)
    return np.array([not bad[a:b].any() for a, b in itertools.pairwise(edges)], bool)


def pair_up(scalp, ieeg, model, trans, on_unlike):
    """Check every pair of recordings.

    Parameters
    ----------
    scalp, ieeg : Raw | Epochs | list of Raw | list of Epochs
        Recordings of the same moments.
    model : Model
        What predictions of them are made by.
    trans, on_unlike : object
        As for :func:`mne_neuroflow.predict_ieeg`.

    Returns
    -------
    sessions : list of Session
        One for each pair.
    """
    scalps, ieegs = (
        list(each) if isinstance(each, (list, tuple)) else [each]
        for each in (scalp, ieeg)
    )
    if len(scalps) != len(ieegs) or not scalps:
        raise ValueError(
            "scalp and ieeg must hold the same sessions, but got "
            f"{len(scalps)} and {len(ieegs)}."
        )
    sessions = [
        Session(*pair, model, trans, on_unlike)
        for pair in zip(scalps, ieegs, strict=True)
    ]
    total = sum(session.n_seconds for session in sessions)
    if total < _LEAST:
        raise ValueError(f"At least {_LEAST} s of pairs are needed, but got {total} s.")
    for session in sessions:
        _check_shift(session)
        _check_reference(session)
    return sessions


def by_patient(sessions):
    """Group sessions by patient, with the contacts that all of a group have.

    One patient's are those of which more than half of the contacts are those of the
    first, by name and place; some may be bad in one session.

    Parameters
    ----------
    sessions : list of Session
        Of any number of patients.

    Returns
    -------
    groups : list of list of Session
        One for each patient, with the same contacts in the same order.
    """
    groups = []
    for session in sessions:
        mine = _places(session)
        for group in groups:
            theirs = _places(group[0])
            same = [name for name in theirs if _same_place(mine, theirs, name)]
            if 2 * len(same) > max(len(mine), len(theirs)):
                group.append(session)
                break
        else:
            groups.append([session])
    return [_with_common_contacts(group) for group in groups]


def _places(session):
    return dict(zip(session.ch_names, session.predictor.positions, strict=True))


def _same_place(mine, theirs, name):
    return name in mine and np.linalg.norm(mine[name] - theirs[name]) < SAME_PLACE


def _with_common_contacts(group):
    """Leave out contacts that are missing or bad in some sessions, in one order."""
    places = [_places(session) for session in group]
    common = [
        name
        for name in places[0]
        if all(_same_place(other, places[0], name) for other in places)
    ]
    missing = sorted({name for each in places for name in each}.difference(common))
    if missing:
        warn(
            "Contacts that are bad, missing or elsewhere in some of a patient's "
            f"sessions are left out: {listed(missing)}."
        )
    return [
        session.restricted(session.predictor.scalp.ch_names, common)
        for session in group
    ]


def _check_shift(session):
    """Warn when scalp and contacts go together best at another moment."""
    strength, n_seconds = 0, 0
    for epoch, first, length in session.pieces():
        shifts, found = shifted_coherence(*session.read(epoch, first, length))
        strength, n_seconds = strength + length * found, n_seconds + length
        if n_seconds > _MOST_COMPARED:
            break
    far = np.abs(shifts) > _LEAST_SHIFT
    best = strength[far].max()
    if best > _CLEARLY * strength[~far].max():
        shift = shifts[far][strength[far].argmax()]
        warn(
            f"Scalp and intracranial EEG fit best when the latter is moved by "
            f"{-shift:+.2f} s: the two recordings seem to be shifted. Align them, with "
            "inst.crop() or inst.shift_time(), before fitting."
        )


def shifted_coherence(scalp, deep):
    """Mean squared cross-correlation of all pairs, at shifts of the contacts.

    Signals are differentiated, which makes peaks narrow.

    Parameters
    ----------
    scalp, deep : array of shape (n_electrodes | n_contacts, n_times)
        At the model's rate.

    Returns
    -------
    shifts : array of shape (n_shifts,)
        Seconds.
    strength : array of shape (n_shifts,)
        Sum over pairs; zero at shifts that are longer than the signals.
    """
    n_times = 2 * scalp.shape[1]
    spectra = []
    for data in (scalp, deep):
        slope = np.diff(data, axis=1)
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-30)
        spectra.append(np.fft.rfft(slope, n_times))
    most = int(_MOST_SHIFT * BLOCK)
    strength = np.zeros(2 * most + 1)
    # A short epoch has no signal at long shifts.
    known = min(most, scalp.shape[1] - 2)
    inner = slice(most - known, most + known + 1)
    for row in spectra[1]:
        each = np.fft.irfft(row * spectra[0].conj(), n_times)
        each = np.concatenate([each[:, -known:], each[:, : known + 1]], axis=1)
        strength[inner] += (each**2).sum(axis=0)
    return np.arange(-most, most + 1) / BLOCK, strength


def _check_reference(session):
    """Tell when all contacts share most of their signal."""
    _, deep = session.read(*session.pieces()[0])
    share = len(deep) * deep.mean(axis=0).var() / deep.var(axis=1).sum()
    if len(deep) >= _LEAST_CONTACTS and share > _COMMON:
        warn(
            f"{100 * share:.0f} % of the intracranial variance is common to all "
            "contacts: their reference seems to be active. The model's potentials "
            "have a silent one: set another with ieeg.set_eeg_reference(ch_type="
            "'seeg') before fitting."
        )
