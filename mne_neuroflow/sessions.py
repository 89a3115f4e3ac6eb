"""Pairs of recordings for fitting: checked, grouped by patient and divided into parts.

This module handles both recordings of a pair and their predictor. It does not depend on
what is fitted to them.
"""

import copy
import itertools
from functools import partial

import numpy as np
from mne.utils import use_log_level

from ._compat import bad_samples, warn
from ._text import listed
from .contract import BLOCK, SAME_PLACE
from .head.contacts import contact_positions, make_contacts
from .ieeg import check_ieeg
from .predictor import Predictor
from .scalp.electrodes import find_electrodes
from .scalp.header import check_container

# Parts into which pairs are cut where there is only one session, if it is long enough.
N_PARTS = 6
# Seconds left out between parts of a continuous recording.
GAP = 2
# Least seconds of pairs, in all and in one part.
_MIN_SECONDS, MIN_PART = 30, 3
# Seconds to either side in which scalp EEG is compared with the contacts, the shift
# from which a warning is given, and how much better than unshifted it must be
# (simulated pairs: at most 0.4 times as well where aligned, 20 times where not).
_MAX_SHIFT, _MIN_SHIFT, _CLEARLY = 2.0, 0.06, 1.5
# Share of all contacts' variance in their mean from which an active reference is
# suspected (simulated implants: 0.12 to 0.38), and contacts from which it is computed.
_COMMON, _MIN_CONTACTS = 0.5, 8
# Maximum seconds in which the two are compared.
_MAX_COMPARED = 180


class Session:
    """Two checked recordings of the same time.

    Parameters
    ----------
    scalp : Raw | Epochs
        The scalp EEG.
    truth : Ieeg
        The intracranial EEG of the contacts that are used.
    model : Model
        The model.
    trans, on_mismatch : object
        As for :func:`mne_neuroflow.predict_ieeg`.
    """

    def __init__(self, scalp, truth, model, trans, on_mismatch):
        self.predictor = Predictor(
            scalp,
            contacts=truth.info,
            model=model,
            random_state=0,
            device="cpu",
            trans=trans,
            on_mismatch=on_mismatch,
        )
        self._stage = self.predictor.stage
        self.truth = truth
        truth.check_against(self.predictor.scalp)
        # Whole seconds of the recording or of each epoch.
        self._length = int(truth.n_times / truth.sfreq + 1e-6)
        self._epochs = [None] if truth.kind == "raw" else list(range(truth.n_epochs))
        self._good = np.ones(self._length, bool)
        if truth.kind == "raw":
            for raw in (scalp, truth.inst):
                self._good &= _good_seconds(raw, self._length)
        self.n_seconds = sum(n_seconds for *_, n_seconds in self.pieces())

    @property
    def ch_names(self):
        """Names of the contacts."""
        return self.predictor.ch_names

    @property
    def gain(self):
        """The recording's gain."""
        return self.predictor.gain

    def pieces(self):
        """Return epoch, first second and number of seconds of all good pieces."""
        return [
            piece
            for epoch in self._epochs
            for piece in self._runs(epoch, 0, self._length)
        ]

    def cut(self):
        """Divide pieces into parts: groups of trials, or contiguous seconds."""
        if len(self._epochs) > 1:
            n_parts = min(N_PARTS, len(self._epochs))
            groups = np.array_split(np.arange(len(self._epochs)), n_parts)
            return [[(int(k), 0, self._length) for k in group] for group in groups]
        # Short recordings have fewer parts.
        n_parts = max(2, min(N_PARTS, self._length // (MIN_PART + GAP)))
        step = self._length // n_parts
        return [
            self._runs(self._epochs[0], k * step, (k + 1) * step - GAP)
            for k in range(n_parts)
        ]

    def _runs(self, epoch, first, stop):
        """Return pieces without bad seconds."""
        if epoch is not None and len(self._epochs) > 1:
            return [(epoch, first, stop - first)]
        good = np.concatenate([[False], self._good[first : max(stop, first)], [False]])
        (edges,) = np.nonzero(np.diff(good))
        return [
            (epoch, int(first + begin), int(end - begin))
            for begin, end in edges.reshape(-1, 2)
            if end - begin >= MIN_PART
        ]

    def read(self, epoch, first, n_seconds, halo=0):
        """Read scalp EEG with a halo, and contacts, in volts at 128 Hz."""
        scalp = self.predictor.scalp.to_model(first - 1, n_seconds + 2, epoch)
        deep = self.truth.to_model(first, n_seconds, epoch)
        return scalp[:, BLOCK - halo : -BLOCK + halo], deep

    def stretches(self, pieces=None, contact_fit=None):
        """Return pieces for training, with the spatial stage of a contact fit."""
        from .training.pairs import Stretch

        predictor = copy.copy(self.predictor)
        if contact_fit is not None:
            # The maps of a fit have the same filter, which is computed once.
            predictor.stage = self._stage
            predictor.use(contact_fit)
            self._stage = predictor.stage
        return [
            Stretch(
                partial(predictor.conditions, epoch=epoch),
                partial(predictor.recorded, self.truth, epoch=epoch),
                first,
                n_seconds,
            )
            for epoch, first, n_seconds in (pieces or self.pieces())
        ]


def _good_seconds(raw, n_seconds):
    """Return which seconds of a Raw have no bad annotations."""
    bad = bad_samples(raw)
    edges = np.round(np.arange(n_seconds + 1) * raw.info["sfreq"]).astype(int)
    return np.array([not bad[a:b].any() for a, b in itertools.pairwise(edges)], bool)


def pair_up(scalp, ieeg, model, trans, on_mismatch, *, same_electrodes=False):
    """Check every pair of recordings, and group them by patient.

    Sessions belong to one patient if more than half of their contacts have the names
    and positions of those of the first session. The contacts that are good in all
    sessions of a patient are used. Each pair is read and checked once.

    Parameters
    ----------
    scalp, ieeg : Raw | Epochs | list of Raw | list of Epochs
        Recordings of the same time.
    model : Model
        The model.
    trans, on_mismatch : object
        As for :func:`mne_neuroflow.predict_ieeg`.
    same_electrodes : bool
        Whether all sessions of a patient must have the same EEG channels as well.

    Returns
    -------
    groups : list of list of Session
        One list for each patient, with the same contacts in the same order.
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
    for each in scalps:
        check_container(each)
    pairs = list(zip(scalps, map(_checked, ieegs), strict=True))
    make = partial(Session, model=model, trans=trans)
    groups = []
    for group in _by_patient(pairs, trans):
        if same_electrodes:
            group = _with_common_electrodes(group, make, trans, on_mismatch)
        else:
            group = [make(*pair, on_mismatch=on_mismatch) for pair in group]
        groups.append(group)
    sessions = list(itertools.chain(*groups))
    total = sum(session.n_seconds for session in sessions)
    if total < _MIN_SECONDS:
        raise ValueError(
            f"At least {_MIN_SECONDS} s of pairs are needed, but got {total} s."
        )
    for session in sessions:
        _check_shift(session)
        _check_reference(session)
    return groups


def _checked(ieeg):
    truth = check_ieeg(ieeg)
    if truth.flat:
        raise ValueError(
            f"Contacts without a signal cannot be learned: {listed(truth.flat)}. "
            "Mark them in ieeg.info['bads']."
        )
    return truth


def _by_patient(pairs, trans):
    """Group pairs by patient, with their common contacts."""
    groups = []
    for scalp, truth in pairs:
        names, positions = contact_positions(make_contacts(truth.info, trans=trans))
        places = dict(zip(names, positions, strict=True))
        mine = (scalp, truth, places)
        for group in groups:
            theirs = group[0][-1]
            same = [name for name in theirs if _same_place(places, theirs, name)]
            if 2 * len(same) > max(len(places), len(theirs)):
                group.append(mine)
                break
        else:
            groups.append([mine])
    return [_with_common_contacts(group) for group in groups]


def _same_place(mine, theirs, name):
    return name in mine and np.linalg.norm(mine[name] - theirs[name]) < SAME_PLACE


def _with_common_contacts(group):
    """Select the contacts that are good in all sessions, in the same order."""
    places = [each for _, _, each in group]
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
    return [(scalp, truth.pick(common)) for scalp, truth, _ in group]


def _with_common_electrodes(group, make, trans, on_mismatch):
    """Make sessions with the EEG channels that are good in all of them."""
    scalps, truths = zip(*group, strict=True)
    if len(group) > 1:
        scalps = _pick_common(scalps, [_usable(scalp, trans) for scalp in scalps])
    pairs = zip(scalps, truths, strict=True)
    sessions = [make(*pair, on_mismatch=on_mismatch) for pair in pairs]
    # Dead channels are detected only when the recording is read.
    same = _pick_common(scalps, [each.predictor.scalp.ch_names for each in sessions])
    return [
        session if scalp is before else make(scalp, truth, on_mismatch="ignore")
        for session, scalp, before, truth in zip(
            sessions, same, scalps, truths, strict=True
        )
    ]


def _usable(scalp, trans):
    with use_log_level("error"):
        picks, _ = find_electrodes(scalp.info, trans=trans, on_mismatch="ignore")
    return [scalp.ch_names[pick] for pick in picks]


def _pick_common(scalps, names):
    """Return the names that are in all lists, in the order of the first."""
    common = [name for name in names[0] if all(name in other for other in names)]
    if not common:
        raise ValueError(
            "The sessions of a patient must have EEG channels in common, but have "
            f"none: {'; '.join(map(listed, names))}."
        )
    return [
        scalp if own == common else scalp.copy().pick(common, verbose=False)
        for scalp, own in zip(scalps, names, strict=True)
    ]


def _check_shift(session):
    """Warn if scalp and contacts agree best with a shift in time."""
    strength, n_seconds = 0, 0
    for epoch, first, length in session.pieces():
        shifts, found = shifted_coherence(*session.read(epoch, first, length))
        strength, n_seconds = strength + length * found, n_seconds + length
        if n_seconds > _MAX_COMPARED:
            break
    far = np.abs(shifts) > _MIN_SHIFT
    best = strength[far].max()
    if best > _CLEARLY * strength[~far].max():
        shift = shifts[far][strength[far].argmax()]
        warn(
            f"Scalp and intracranial EEG fit best when the latter is moved by "
            f"{-shift:+.2f} s: the two recordings seem to be shifted. Align them, with "
            "inst.crop() or inst.shift_time(), before fitting."
        )


def shifted_coherence(scalp, deep):
    """Compute the squared cross-correlation of scalp and contacts at time shifts.

    Signals are differentiated, which makes peaks narrower.

    Parameters
    ----------
    scalp, deep : array of shape (n_electrodes | n_contacts, n_times)
        Signals at the model's rate.

    Returns
    -------
    shifts : array of shape (n_shifts,)
        The shifts of the contacts in seconds.
    strength : array of shape (n_shifts,)
        The sum over pairs. It is zero at shifts longer than the signals.
    """
    n_times = 2 * scalp.shape[1]
    spectra = []
    for data in (scalp, deep):
        slope = np.diff(data, axis=1)
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-30)
        spectra.append(np.fft.rfft(slope, n_times))
    max_shift = int(_MAX_SHIFT * BLOCK)
    strength = np.zeros(2 * max_shift + 1)
    # A short epoch has no signal at long shifts.
    known = min(max_shift, scalp.shape[1] - 2)
    inner = slice(max_shift - known, max_shift + known + 1)
    for row in spectra[1]:
        each = np.fft.irfft(row * spectra[0].conj(), n_times)
        each = np.concatenate([each[:, -known:], each[:, : known + 1]], axis=1)
        strength[inner] += (each**2).sum(axis=0)
    return np.arange(-max_shift, max_shift + 1) / BLOCK, strength


def _check_reference(session):
    """Warn if most of the intracranial variance is common to all contacts."""
    _, deep = session.read(*session.pieces()[0])
    share = len(deep) * deep.mean(axis=0).var() / deep.var(axis=1).sum()
    if len(deep) >= _MIN_CONTACTS and share > _COMMON:
        warn(
            f"{100 * share:.0f} % of the intracranial variance is common to all "
            "contacts: their reference seems to be active. The model's potentials "
            "have a silent one: set another with ieeg.set_eeg_reference(ch_type="
            "'seeg') before fitting."
        )
