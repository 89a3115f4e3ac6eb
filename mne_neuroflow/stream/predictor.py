"""Prediction of virtual contacts during a recording, from any source.

At each step of the model's clock, the scalp EEG is extrapolated into the future, and a
few seconds around the time that is due are predicted. The noise of the flow depends on
its place. Two predictions of the same time therefore differ only because of the scalp
EEG that arrived in between. Successive predictions are cross-faded. Samples that were
returned do not change afterwards.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mne
import numpy as np

from .._compat import _validate_type, logger, verbose
from .._docs import fill_doc
from .._files import written_whole
from .._text import listed
from .._threads import one_blas_thread
from ..arguments import check_n_draws, find_seed
from ..contract import BLOCK, MODEL, SFREQ
from ..good_time import annotated_spans
from ..head.bands import N_HALO as STAGE_HALO
from ..head.contacts import contact_positions, make_contacts
from ..moments import mirrored
from ..resampling import HIGHPASS_HALF, Resampler
from ..scalp.electrodes import find_electrodes
from ..scalp.header import check_band, check_rate, reference_operator
from ..scalp.likeness import check_gain, check_likeness
from ..scalp.mismatch import report_mismatch
from ..scalp.samples import check_unit
from ..spatial import (
    FAR,
    amplitude_as_fitted,
    head_model,
    log_absent,
    names_as_fitted,
)
from ..virtual import describe, make_virtual_info
from .intake import too_few
from .learner import Learner, PairsFilter
from .listener import Listener, part_of
from .outgoing import Outgoing
from .window import HALO, WindowSampler

#: Seconds between predictions.
HOP = 0.25
_HOPS = (1 / 16, 1.0)
_LONGEST_LATENCY = 30.0
#: After a gap longer than this, in seconds, the stream starts again.
LONGEST_GAP = 10.0
# Model samples of the cross-fade between predictions.
_FADE = SFREQ // 8
# Minimum amplitude of a channel in volts, to prevent division by zero.
_LEAST = 1e-8


@fill_doc
class StreamPredictor:
    """Predict virtual contacts during a recording.

    The result is a prediction, not a recording. Where the scalp EEG says little, it is
    mostly the prior.

    Parameters
    ----------
    info : Info
        The Info of the scalp EEG, with its rate, EEG channels and positions.
    %(contacts)s
    latency : float
        The latency in seconds, at least ``hop``. The virtual sample at time ``t`` is
        returned when the scalp EEG up to ``t + latency`` has arrived, at the latest. It
        never changes afterwards.
    output : str | tuple | list
        ``'sample'``, ``'mean'``, ``'std'``, ``'median'`` or ``('quantile', q)``, see
        :func:`mne_neuroflow.predict_ieeg`, a list of several, or ``'draws'`` for all
        draws.
    n_draws : int
        The number of draws for every output but ``'sample'``, 2 or more.
    hop : float
        The time between predictions in seconds: 1/16 to 1, a multiple of 1/128. A
        sample depends on scalp EEG up to a time between ``latency - hop`` and
        ``latency`` after it.
    half_life : float
        The time in seconds after which estimates from the scalp EEG have half of their
        weight.
    model : str | path-like | NeuroFlow
        The name of the weights, a file of weights, or a model. A model that was fitted
        to pairs uses the EEG channels of its pairs.
    %(random_state)s
    %(device)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Attributes
    ----------
    info : Info
        The Info of the virtual channels.
    ch_names : list of str
        The scalp channels that :meth:`push` takes, in this order.
    bads : list of str
        Scalp channels that have no signal at present. They are estimated from the
        others until they return.
    marks : list of Mark
        Remarks on the samples that the last call returned.

    See Also
    --------
    mne_neuroflow.predict_ieeg

    Notes
    -----
    The model's filters need future samples: resampling 0.18 s, the high-pass of 0.5 Hz
    2 s, the bands of the spatial stage 1 s and the flow 14 s. Beyond the latency, these
    are the conditional mean of the scalp EEG given its past, from an autoregression.
    :ref:`live` says what this costs.

    Nothing is returned before one second of scalp EEG has arrived. Gaps up to 10 s are
    filled with draws of the prior and marked. After a longer gap the stream starts
    again, with the estimates from before.

    .. versionadded:: 0.1.0

    Examples
    --------
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.stream import StreamPredictor
    >>> raw = load_demo(verbose=False)
    >>> live = StreamPredictor(
    ...     raw.info, contacts="mtl-core", random_state=0, verbose=False
    ... )
    >>> scalp = raw.get_data(live.ch_names, stop=400)  # 2.5 s
    >>> virtual, first_sample = live.push(scalp)
    >>> virtual.shape, first_sample  # all but what the last second waits for
    ((30, 280), 0)
    """

    @verbose
    def __init__(
        self,
        info,
        *,
        contacts="mtl",
        latency=1.0,
        output="sample",
        n_draws=20,
        hop=HOP,
        half_life=60.0,
        model=MODEL,
        random_state=None,
        device="auto",
        trans="fsaverage",
        on_mismatch="warn",
        verbose=None,
    ):
        from ..weights.model import find_model

        _validate_type(info, mne.Info, "info")
        check_rate(info["sfreq"])
        check_band(info, on_mismatch)
        self._hop, self._latency = _check_times(hop, latency)
        self._half_life = _check_half_life(half_life)
        self._n_draws = self._n_requested = check_n_draws(n_draws, 2)
        self._on_mismatch = on_mismatch
        montage = make_contacts(contacts, trans=trans)
        names, positions = contact_positions(montage)
        self.seed = find_seed(random_state)
        self._model = find_model(model)
        self._fit = self._model.contact_fit_at(positions, names)
        self._outgoing = Outgoing(output, self._n_requested, len(names))
        used = info
        if self._fit.lagged is not None:
            fitted = names_as_fitted(info, self._fit)
            used = mne.pick_info(info, [info["ch_names"].index(n) for n in fitted])
        picks, electrodes = find_electrodes(used, trans=trans, on_mismatch=on_mismatch)
        self.ch_names = [used["ch_names"][pick] for pick in picks]
        check_likeness(self.ch_names, names, positions, on_mismatch)
        kinds = (self._model, self._fit, positions, electrodes, self.seed, device)
        self._sampler = WindowSampler(*kinds)
        self._operator = reference_operator(info, self.ch_names)
        self._scalp_model, self._deep = head_model(
            electrodes, positions, self._operator
        )
        if self._fit.lagged is not None:
            log_absent(self.ch_names, self._fit)
            self._expected = PairsFilter(self._fit, self.ch_names).expected
        else:
            unprojected = self._scalp_model
            if info["projs"]:  # which would mix missing channels into the others
                unprojected = head_model(electrodes, positions, None)[0]
            root = np.linalg.pinv(unprojected.whitener)
            self._expected = root @ root.T
        self._montage_sum = _fingerprint(electrodes, self._operator)
        self._rate = Resampler(info["sfreq"])
        # From the first model sample that a prediction reads to the last known one.
        n_past = self._latency + 2 * self._rate.halo_model + (2 + HALO) * BLOCK
        n_past += STAGE_HALO + HIGHPASS_HALF
        self._listener = self._make_listener(
            self._make_learner(), self._rate, self._latency, n_past
        )
        scalp = mne.io.RawArray(np.zeros((len(info["chs"]), 1)), info, verbose=False)
        description = describe(
            self._model.name,
            self._model.sha256,
            self.seed,
            ", ".join(self.outputs),
        )
        self.info = make_virtual_info(scalp, montage, description, trans)
        self.bads, self.marks = [], []
        self._amplitude_checked = False
        self._restart(0)

    def _make_learner(self):
        pairs = None
        if self._fit.lagged is not None:
            pairs = PairsFilter(self._fit, self.ch_names)
        return Learner(self._scalp_model, self._deep, self._half_life, pairs)

    def _make_listener(self, learner, rate, latency=0, n_past=0):
        kinds = (self._operator, self._expected, rate)
        return Listener(learner, *kinds, latency, n_past)

    # Samples in, samples out ----------------------------------------------------------

    def push(self, samples, first_sample=None):
        """Add new samples of the scalp EEG, and return the virtual ones that are due.

        Parameters
        ----------
        samples : ndarray, shape (n_channels, n)
            Any number of samples in volts, with the channels in ``ch_names``, against
            any reference. NaN for missing channels or samples.
        first_sample : int | None
            Index of the first sample in the stream, if samples may be lost or late.
            ``None`` is the sample after the last one. Lost samples are missing until
            they arrive. Virtual samples that were returned before do not change.

        Returns
        -------
        virtual : ndarray, shape ([n_outputs, ]n_contacts, m)
            Volts, with a first axis for several outputs or for draws, and NaN for draws
            that are no longer computed. ``m`` may be 0.
        first_sample : int
            Index of the sample of the scalp EEG at the first virtual sample. Virtual
            samples are contiguous between calls, except for gaps that were too long to
            be filled.
        """
        samples = self._check_samples(samples)
        _validate_type(first_sample, ("int-like", None), "first_sample")
        intake = self._listener.intake
        at = intake.received if first_sample is None else int(first_sample)
        lost = at - intake.received
        if lost > LONGEST_GAP * self._rate.sfreq:
            self._skip_gap(at)
        elif lost > 0:
            intake.add(np.full((len(samples), lost), np.nan))
        elif lost < 0:
            intake.add_late(samples[:, :-lost], at)
            samples = samples[:, -lost:]
        # Process pieces, so that a long push needs no more memory than short ones.
        piece = max(1, intake.first_sample(self._hop))
        for first in range(0, max(samples.shape[1], 1), piece):
            intake.add(samples[:, first : first + piece])
            while intake.received >= intake.first_sample(self._due):
                self._step(self._due)
        return self._collect()

    def finish(self):
        """Return the samples that still wait for the latency, with extrapolated EEG.

        Returns
        -------
        virtual : ndarray, shape ([n_outputs, ]n_contacts, m)
            As from :meth:`push`, up to the last sample that has arrived. The next
            :meth:`push` starts again after it.
        first_sample : int
            Index of the sample of the scalp EEG at the first virtual sample.
        """
        self._drain()
        self._restart(self._listener.intake.received)
        return self._collect()

    def _skip_gap(self, sample):
        """Return the waiting samples, and start again at the sample after a gap."""
        self._drain()
        received = self._listener.intake.received
        self._outgoing.mark(received, sample - received, "gap")
        logger.info(
            "%.1f s of the scalp EEG are missing, more than can be filled. The virtual "
            "contacts continue after this gap.",
            (sample - received) / self._rate.sfreq,
        )
        self._restart(sample)

    def _drain(self):
        received = self._listener.intake.received
        while self._next < received:
            self._step(self._due, received)

    def _restart(self, sample):
        self._listener.restart(sample)
        self._next, self._before = sample, None
        begin = self._listener.intake.begin
        self._due = (begin // self._hop + 1) * self._hop
        self._last_second = begin // BLOCK

    def _collect(self):
        """Return the first contiguous run of finished samples, and its marks."""
        virtual, first, self.marks = self._outgoing.collect(self._next)
        return virtual, first

    # One step of the clock ------------------------------------------------------------

    # A second thread of linear algebra would wait for the next step and take a core.
    @one_blas_thread
    def _step(self, due, limit=np.inf):
        """Predict what is due at a model sample, up to a limit."""
        intake = self._listener.intake
        self._due = due + self._hop
        self._listener.advance(min(due, self._arrived()))
        self._log_bads()
        begin = intake.begin
        if due - begin < BLOCK:
            return
        self._learn(due)
        ready = intake.first_sample(due - self._latency + self._hop)
        later = intake.first_sample(due - self._latency + 2 * self._hop)
        start, stop = self._next, int(min(ready, limit))
        if stop <= start:
            return
        draws = self._draws()
        first, last = self._rate.model_range(start, later)
        stage = self._stage()
        drawn = self._sampler.draw(stage, self._listener, first, last, draws)
        potentials, first = drawn
        fine = self._rate.from_model(potentials, first, start, stop)
        self._crossfade(fine, draws, start, due)
        low, high = self._rate.model_range(stop, later) if stop < later else (0, 0)
        rest = potentials[..., low - first : high - first].copy()
        self._before = (draws, rest, low)
        self._emit(fine, start, stop)

    def _arrived(self):
        """Return the number of model samples before the last sample that arrived."""
        return self._rate.n_model(self._listener.intake.received)

    def _learn(self, due):
        """Check once a second whether a new estimate of the spatial stage is due."""
        second, learner = due // BLOCK, self._listener.learner
        if second == self._last_second and learner.is_ready:
            return
        self._last_second = second
        recent, bad = self._listener.scalp(due - BLOCK, due)
        good = recent[:, ~bad]
        if not good.size:
            if learner.is_ready:
                return
            good = np.sqrt(self._scalp_model.variance)[:, None]  # as expected
        provisional = np.sqrt((good**2).mean(axis=1))
        if not learner.is_ready:
            check_unit(provisional, "Multiply the samples by {}.")
        if learner.observe(second, np.maximum(provisional, _LEAST)):
            self._listener.future = learner.future()
            self._check_amplitude()

    def _stage(self):
        """Return the current spatial stage."""
        known = self._listener.intake.known
        return self._listener.learner.stage(known / BLOCK)

    def _draws(self):
        """Return the numbers of the draws for the requested outputs."""
        if not self.draws_matter:
            return [0]
        if self._outgoing.only_means:
            return mirrored(self._n_draws)
        return list(range(self._n_draws))

    def _crossfade(self, fine, draws, start, due):
        """Cross-fade the draws of the last step into these, in place."""
        if self._before is None or not self._before[1].shape[-1]:
            return
        names, potentials, first = self._before
        common = [draw for draw in draws if draw in names]
        old = potentials[[names.index(draw) for draw in common]]
        stop = start + fine.shape[-1]
        old = self._rate.from_model(old, first, start, stop)
        rate = self._rate.up / self._rate.down
        since = np.arange(start, stop) * rate - (due - self._latency)
        share = 0.5 - 0.5 * np.cos(np.pi * np.clip((since + 1) / (_FADE + 1), 0, 1))
        new = [draws.index(draw) for draw in common]
        fine[new] = old + share.astype(np.float32) * (fine[new] - old)

    def _emit(self, fine, start, stop):
        """Reduce draws to the requested outputs, and add marks."""
        self._outgoing.add(fine, start)
        self._next = stop
        missing = self._listener.intake.missing(start, stop)
        edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
        for low, high in edges.reshape(-1, 2):
            self._outgoing.mark(start + low, high - low, "no scalp")
        if self._n_draws < self._n_requested and self.draws_matter:
            self._outgoing.mark(start, stop - start, "fewer draws")

    def _log_bads(self):
        bad = self._listener.intake.bad[:, -1:].any(axis=1)
        if too_few(bad[:, None])[0]:
            return  # a gap, which is marked
        bads = [name for name, is_bad in zip(self.ch_names, bad, strict=True) if is_bad]
        gone, back = set(bads) - set(self.bads), set(self.bads) - set(bads)
        self.bads = bads
        if gone:
            logger.info("EEG channels without a signal: %s.", listed(sorted(gone)))
        if back:
            logger.info("EEG channels that are back: %s.", listed(sorted(back)))

    def _check_amplitude(self):
        """Check once whether the amplitude of the scalp EEG is plausible."""
        learner = self._listener.learner
        if self._amplitude_checked or not learner.weight:
            return
        self._amplitude_checked = True
        check_gain(self._stage().posterior.gain, self._on_mismatch)
        if self._fit.lagged is None:
            return
        factor = amplitude_as_fitted(learner.rms(), self.ch_names, self._fit)
        if (factor >= FAR).any():
            names = np.array(self.ch_names)[factor >= FAR]
            report_mismatch(
                "The amplitude of these EEG channels differs from that in the pairs "
                f"that the model was fitted with by a factor of {FAR:g} or more: "
                f"{listed(names)}. Mark them in info['bads'] and make the "
                "StreamPredictor again.",
                self._on_mismatch,
            )

    # What is known --------------------------------------------------------------------

    @property
    def n_draws(self):
        """Number of draws for all outputs but ``'sample'``.

        It can be reduced if the computer is too slow. Samples are then marked until it
        is restored.
        """
        return self._n_draws

    @n_draws.setter
    def n_draws(self, n_draws):
        self._n_draws = check_n_draws(n_draws, 2)

    @property
    def draws_matter(self):
        """Whether the outputs depend on ``n_draws``."""
        return self._outgoing.draws_matter

    @property
    def outputs(self):
        """The names of the outputs."""
        return self._outgoing.names

    @property
    def hop(self):
        """Seconds between predictions."""
        return self._hop / SFREQ

    @property
    def latency(self):
        """The latency in seconds."""
        return self._latency / SFREQ

    @property
    def observability(self):
        """Current share of each contact's variance that the scalp EEG explains.

        ``None`` before a second of scalp EEG has arrived.
        """
        if not self._listener.learner.is_ready:
            return None
        return self._stage().posterior.observability.copy()

    @verbose
    def warm_up(self, raw, *, verbose=None):
        """Start with estimates from an earlier recording of the same person.

        Parameters
        ----------
        raw : Raw
            A recording with the same EEG channels, at any rate. Time with ``BAD``
            annotations is left out. Previous estimates are discarded.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        predictor : StreamPredictor
            The same object.

        Examples
        --------
        >>> from mne_neuroflow.datasets import load_demo
        >>> from mne_neuroflow.stream import StreamPredictor
        >>> raw = load_demo(verbose=False)
        >>> live = StreamPredictor(
        ...     raw.info, contacts="mtl-core", random_state=0, verbose=False
        ... )
        >>> live = live.warm_up(raw, verbose=False)
        """
        _validate_type(raw, mne.io.BaseRaw, "raw", "Raw")
        absent = sorted(set(self.ch_names).difference(raw.ch_names))
        if absent:
            raise ValueError(
                "The recording to learn from lacks EEG channels of the stream: "
                f"{listed(absent)}. Mark them in info['bads'] of the stream and make "
                "the StreamPredictor again."
            )
        check_rate(raw.info["sfreq"])
        learner = self._make_learner()
        listener = self._make_listener(learner, Resampler(raw.info["sfreq"]))
        intake, second = listener.intake, int(raw.info["sfreq"])
        order = [raw.ch_names.index(name) for name in self.ch_names]
        bad = _bad_samples(raw, self.ch_names)
        for start in range(0, len(raw.times), second):
            stop = min(start + second, len(raw.times))
            data = raw.get_data(order, start, stop, verbose=False)
            data[:, bad[start:stop]] = np.nan
            intake.add(data)
            listener.advance(intake.resampler.n_model(stop) - 1)
        if not learner.weight:
            raise ValueError(
                f"The recording to learn from is too short: got "
                f"{len(raw.times) / raw.info['sfreq']:.1f} s, of which no second is "
                "good with the 3 s to either side that the filters need."
            )
        check_unit(learner.rms())
        self._listener.learner, self._listener.ordinary = learner, listener.ordinary
        self._listener.future = learner.future()
        return self

    # State ----------------------------------------------------------------------------

    def save_state(self, fname):
        """Save the state on which later samples depend.

        Parameters
        ----------
        fname : path-like
            The file to write, ``*.npz``. An existing file is replaced.

        See Also
        --------
        StreamPredictor.load_state
        """
        draws, potentials, first = self._before or ([], np.zeros((0, 0, 0)), -1)
        state = {
            "settings": np.array(json.dumps(self._settings())),
            "next": np.array([self._next, self._due, self._last_second, self._n_draws]),
            "before_draws": np.array(draws, int),
            "before": potentials,
            "before_first": np.array(first),
            "amplitude_checked": np.array(self._amplitude_checked),
            **{f"outgoing_{k}": v for k, v in self._outgoing.state().items()},
            **{f"scalp_{k}": v for k, v in self._listener.state().items()},
        }
        with written_whole(fname) as part, open(part, "wb") as file:
            np.savez(file, **state)

    def load_state(self, fname):
        """Continue where another predictor stopped.

        Parameters
        ----------
        fname : path-like
            A file from :meth:`save_state` of a predictor with the same arguments.
            ``random_state`` must be the ``seed`` of that predictor.

        Returns
        -------
        predictor : StreamPredictor
            The same object. It returns bit for bit the samples that the other predictor
            would have returned.
        """
        state = _read_state(fname)
        now, then = self._settings(), json.loads(str(state["settings"]))
        other = [name for name in now if now[name] != then.get(name)]
        if other:
            raise ValueError(
                f"{fname} was saved by a StreamPredictor with other values: "
                f"{listed(other)}. Make this one with the same."
            )
        self._next, self._due, self._last_second, self._n_draws = map(
            int, state["next"]
        )
        draws, first = list(map(int, state["before_draws"])), int(state["before_first"])
        self._before = (draws, state["before"], first) if draws else None
        self._amplitude_checked = bool(state["amplitude_checked"])
        self._outgoing.restore(part_of(state, "outgoing_"))
        self._listener.restore(part_of(state, "scalp_"))
        self._log_bads()
        return self

    def _settings(self):
        """Return all on which the samples depend, beside the scalp EEG."""
        from .. import __version__

        locations = [ch["loc"][:3].round(5).tolist() for ch in self.info["chs"]]
        return {
            "info['sfreq']": self._rate.sfreq,
            "info['ch_names']": self.ch_names,
            "positions or projectors of info": self._montage_sum,
            "contacts": [self.info["ch_names"], locations],
            "latency": self._latency,
            "output": self.outputs,
            "n_draws": self._n_requested,
            "hop": self._hop,
            "half_life": self._half_life,
            "model": self._model.sha256,
            "random_state": self.seed,
            "version of mne_neuroflow": __version__,
        }

    def _check_samples(self, samples):
        samples = np.asarray(samples)
        if samples.dtype.kind not in "fiu":
            raise TypeError(
                "samples must be an array of real numbers in volts, got "
                f"{samples.dtype} instead."
            )
        if samples.ndim != 2 or len(samples) != len(self.ch_names):
            raise ValueError(
                "Invalid value for the 'samples' parameter. Allowed values are arrays "
                f"of shape ({len(self.ch_names)}, n), a row for each of ch_names, but "
                f"got shape {samples.shape}."
            )
        return samples.astype(float)


def _bad_samples(raw, ch_names):
    """Return which samples are in BAD annotations."""
    bad = np.zeros(len(raw.times), bool)
    for first, last in annotated_spans(raw, ch_names)[0]:
        bad[first:last] = True
    return bad


def _fingerprint(*arrays):
    """Return a hash of arrays, independent of their last digits."""
    rounded = [np.round(array, 5) + 0.0 for array in arrays]  # no negative zeros
    return hashlib.sha256(b"".join(array.tobytes() for array in rounded)).hexdigest()


def _read_state(fname):
    """Read the arrays of a saved state."""
    with open(Path(fname).expanduser(), "rb") as file:
        try:
            with np.load(file) as arrays:
                state = dict(arrays)
            state["settings"]
        except Exception as err:  # a file with other contents can raise any kind
            raise ValueError(
                f"{fname} is not a file from StreamPredictor.save_state(), or it is "
                "damaged."
            ) from err
    return state


def _check_times(hop, latency):
    """Return hop and latency in model samples."""
    _validate_type(hop, "numeric", "hop")
    _validate_type(latency, "numeric", "latency")
    low, high = _HOPS
    if not low <= hop <= high or hop * SFREQ != round(hop * SFREQ):
        raise ValueError(
            f"Invalid value for the 'hop' parameter. Allowed values are multiples of "
            f"1/{SFREQ} s from {low:g} to {high:g} s, but got {hop:g} s."
        )
    if not hop <= latency <= _LONGEST_LATENCY:
        raise ValueError(
            "Invalid value for the 'latency' parameter. Allowed values are seconds "
            f"from hop, {hop:g}, to {_LONGEST_LATENCY:g}, but got {latency:g}."
        )
    return round(hop * SFREQ), round(latency * SFREQ)


def _check_half_life(half_life):
    _validate_type(half_life, "numeric", "half_life")
    if not 1 <= half_life < np.inf:
        raise ValueError(
            "Invalid value for the 'half_life' parameter. Allowed values are seconds "
            f"from 1 on, but got {half_life:g}."
        )
    return float(half_life)
