"""Scalp recordings: from an MNE object to checked arrays at the model's rate.

The checks are elsewhere in this room: of the header, of names and positions
(:mod:`~mne_neuroflow.scalp.electrodes`), of units and amplitudes
(:mod:`~mne_neuroflow.scalp.samples`). :mod:`mne_neuroflow.good_time` checks time. This
module reads the recording once for all of them, and leaves out channels and time that
have no signal. It must never know the head model or the flow.
"""

from functools import partial

import mne
import numpy as np

from .._compat import ProgressBar, _check_option, logger, verbose, warn
from .._docs import fill_doc
from .._text import listed
from ..contract import BLOCK
from ..good_time import STUCK, bad_share, joined, outside, still_spans, stuck_spans
from ..recording import Recording
from .electrodes import MIN_CHANNELS, find_electrodes
from .header import (
    check_band,
    check_container,
    check_rate_and_length,
    check_recorded,
    describe_reference,
    reference_operator,
)
from .mismatch import report_mismatch
from .samples import (
    MARK_TIME,
    RMS_LIMITS,
    Tally,
    check_distinct,
    check_unit,
    quiet_seconds,
    tell_of_normalized,
    warn_of_artifacts,
    warn_of_copies,
    warn_of_limits,
    warn_of_outliers,
)

# With less good time than this, in seconds, the amplitude of a recording is uncertain.
_LITTLE_TIME = 10.0
_CHUNK = 30  # blocks read at a time
_LONG = 600  # blocks; longer recordings have a progress bar
# Maximum number of values at the model's rate that are kept from the first reading:
# 64 MB, half an hour of 64 channels. Longer recordings are read again.
_KEPT = 2**24


class Scalp(Recording):
    """A checked scalp recording, read in volts against the average reference.

    It is made by :func:`check_scalp`.

    Attributes
    ----------
    inst : Raw | Epochs
        The recording that is read: the input, or a copy of its header if the input is
        not preloaded. Bad epochs are dropped.
    ch_names : list of str
        The names of the EEG channels that are used.
    electrodes : ndarray, shape (n_channels, 3)
        Their positions in metres, fsaverage surface RAS.
    operator : ndarray, shape (n_channels, n_channels)
        The linear map that :meth:`read` applies to the potentials: the recording's
        projectors and the average reference. Apply it to the scalp lead field too.
    rms : ndarray, shape (n_channels, n_seconds)
        Root mean square of each second in the band of 0.5-50 Hz, in volts. For epochs,
        the seconds of all epochs are concatenated.
    """

    def __init__(self, inst, picks, electrodes, on_mismatch="warn"):
        super().__init__(inst, picks)
        self._use(self._picks, electrodes)
        self._kept = None
        self.rms = self._survey(on_mismatch)

    def is_bad(self, start_block, n_blocks, epoch=None):
        """Return the share of bad time at each model sample.

        Parameters
        ----------
        start_block, n_blocks : int
            As for :meth:`to_model`. Samples beyond an end have the value at the end.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        share : ndarray, shape (128 * n_blocks,)
            Zero in good time and one in bad time. It rises and falls over a quarter of
            a second at the ends of bad time.
        """
        at = np.arange(start_block * BLOCK, (start_block + n_blocks) * BLOCK)
        rate = self.resampler.up / self.resampler.down
        spans = [
            (
                rate * first if first else -np.inf,
                rate * last if last < self.n_times else np.inf,
            )
            for first, last in self._gaps.spans[epoch or 0]
        ]
        return bad_share(at, spans)

    def bad_samples(self, start, stop, epoch=None):
        """Return which samples of a recording or epoch are bad.

        Parameters
        ----------
        start, stop : int
            Half-open range of samples.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        bad : ndarray of bool, shape (stop - start,)
            Whether samples are bad, see :mod:`~mne_neuroflow.good_time`.
        """
        bad = np.zeros(stop - start, bool)
        for first, last in self._gaps.spans[epoch or 0]:
            bad[max(first - start, 0) : max(last - start, 0)] = True
        return bad

    def good_stretches(self, n_seconds, at_most):
        """Find stretches of good time that are spread over the recording.

        Parameters
        ----------
        n_seconds : int
            Length in seconds. Shorter intervals of good time are stretches too.
        at_most : int
            Maximum number of stretches, evenly selected from all.

        Returns
        -------
        stretches : list of tuple of int
            Epoch, first second and number of seconds of each, to read with
            ``to_model(first, n, epoch)``.
        """
        found = []
        for epoch, good in enumerate(self.good[:, : self._n_whole]):
            edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
            for first, last in edges.reshape(-1, 2):
                length = min(n_seconds, last - first)
                starts = range(first, last - length + 1, length)
                found += [(epoch, int(start), int(length)) for start in starts]
        some = np.linspace(0, len(found) - 1, at_most).astype(int)
        return [found[k] for k in np.unique(some)]

    def read(self, start, stop, epoch=None):
        """Read samples, in volts against the average reference.

        Parameters
        ----------
        start, stop : int
            As for :meth:`Recording.read`.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray, shape (n_channels, stop - start)
            Potentials in volts.
        """

        def fetch(first, last, epoch):
            return self._reference(self.fetch(first, last, epoch))

        return self._reflect(fetch, start, stop, epoch)

    def to_model(self, start_block, n_blocks, epoch=None):
        """Read one-second blocks at the model's rate and band.

        Parameters
        ----------
        start_block, n_blocks : int
            As for :meth:`Recording.to_model`.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray of float32, shape (n_channels, 128 * n_blocks)
            Potentials in volts against the average reference.
        """
        if self._kept is None:
            return super().to_model(start_block, n_blocks, epoch).astype(np.float32)
        kept = self._kept[epoch or 0]
        first, last = 0, kept.shape[1] // BLOCK
        stop_block = start_block + n_blocks
        # A block does not depend on where the stretch that contains it begins.
        low, high = max(start_block, first), min(stop_block, last)
        parts = [kept[:, low * BLOCK : max(low, high) * BLOCK]]
        if start_block < first:
            n_before = min(stop_block, first) - start_block
            parts.insert(0, super().to_model(start_block, n_before, epoch))
        if stop_block > last:
            after = max(start_block, last)
            parts.append(super().to_model(after, stop_block - after, epoch))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def as_recorded(self, start_block, n_blocks, epoch=None):
        """Read blocks at the model's rate and band, against the recorded reference.

        Parameters
        ----------
        start_block, n_blocks, epoch : int
            As for :meth:`to_model`.

        Returns
        -------
        data : ndarray, shape (n_channels, 128 * n_blocks)
            Potentials in volts, without projectors and without the average reference.
        """

        def read(start, stop):
            return self._reflect(self.fetch, start, stop, epoch)

        return self.resampler.to_model(read, start_block, n_blocks)

    def robust_rms(self):
        """Return the typical amplitude of every channel.

        Returns
        -------
        rms : ndarray, shape (n_channels,)
            Median over good seconds of the rms, in volts. Artifacts in less than half
            of the seconds change it little.
        """
        return np.median(self._good_rms(self.rms), axis=1)

    def _good_rms(self, rms):
        return rms if self.good.all() else rms[:, self.good.ravel()]

    @property
    def _n_whole(self):
        """Return the number of complete seconds."""
        return max(1, int(self.n_times / self.sfreq))

    def _find_gaps(self, spans):
        super()._find_gaps(spans)
        if not self.good[:, : self._n_whole].any():
            raise ValueError(
                "No second of the EEG is good: each holds time that is annotated as "
                "BAD, or no signal that changes. Look at inst.plot(), and remove "
                "annotations that are wrong with inst.annotations.delete()."
            )

    def _tell_of_gaps(self, on_mismatch):
        if self.good.all():
            return
        seconds = self.good.sum() * BLOCK / self.resampler.model_sfreq
        logger.info(
            "Bad time: %.0f %% of the seconds are annotated as BAD or have no signal "
            "that changes. Estimates from the recording use the other seconds.",
            100 * (1 - self.good.mean()),
        )
        if seconds < _LITTLE_TIME:
            report_mismatch(
                f"Only {seconds:.0f} s of the EEG are good; the rest is annotated as "
                f"BAD or holds no signal that changes. With less than "
                f"{_LITTLE_TIME:g} s the recording's amplitude is poorly known. "
                "Give a longer part of the recording, or remove annotations that are "
                "wrong with inst.annotations.delete().",
                on_mismatch,
            )

    def _use(self, picks, electrodes):
        self._picks = picks
        self.electrodes = electrodes
        self.ch_names = [self.inst.ch_names[pick] for pick in picks]
        self.operator = reference_operator(self.inst.info, self.ch_names)

    def _reference(self, data):
        if self.inst.info["projs"]:
            return self.operator @ data
        return data - data.mean(axis=0)  # the same as the operator, and faster

    def _survey(self, on_mismatch):
        """Read the recording once; drop dead channels and refuse bad ones."""
        while True:
            tally = Tally(self._picks.size)
            rms = self._stream(tally)
            dead = tally.dead()
            if not dead.all() and (
                self._found_still(tally)
                or (not tally.where and self._found_quiet(rms))
                or self._found_stuck(tally, dead)
            ):
                continue
            tally.check_finite(self.ch_names, self.sfreq)
            tally.check_alike(self.ch_names)
            if not dead.any():
                break
            self._drop(dead)  # and read again, because the average has changed
        self._tell_of_gaps(on_mismatch)
        seconds = rms
        rms = self._good_rms(rms)
        if np.median(rms) < RMS_LIMITS[0]:
            kept = self._kept
            before = self._stream(Tally(self._picks.size), referenced=False)
            self._kept = kept
            check_distinct(rms, self._good_rms(before))
        if tally.divisor():
            tell_of_normalized(tally.divisor(), rms, on_mismatch)
        check_unit(rms)
        warn_of_artifacts(rms)
        warn_of_copies(self.ch_names, tally.copies())
        warn_of_outliers(self.ch_names, rms)
        warn_of_limits(self.ch_names, tally.at_limit())
        return seconds

    def _found_still(self, tally):
        """Add time without a signal to the gaps; return False if there is none."""
        spans = [
            joined([*known, *still], self.n_times, apart=2)
            for known, still in zip(
                self._gaps.spans, tally.still_spans(self.n_epochs), strict=True
            )
        ]
        if all(map(np.array_equal, spans, self._gaps.spans)):
            return False
        self._find_gaps(spans)
        return True

    def _found_quiet(self, rms):
        """Add seconds that are too quiet for EEG to the gaps; False if none are."""
        quiet = np.zeros(self.good.size, bool)
        quiet[self.good.ravel()] = quiet_seconds(self._good_rms(rms))
        if not quiet.any():
            return False
        warn(
            f"In {100 * quiet.sum() / self.good.sum():.2g} % of the good seconds the "
            "EEG is too quiet for a signal of the brain, as in a pause that was "
            f"filtered. This time is taken for bad. To say so, {MARK_TIME}."
        )
        length = BLOCK * self.resampler.down / self.resampler.up  # samples
        self._add_gaps(
            [
                [(int(k * length), int(np.ceil((k + 1) * length))) for k in seconds]
                for seconds in map(np.flatnonzero, quiet.reshape(self.good.shape))
            ]
        )
        return True

    def _add_gaps(self, spans):
        both = zip(self._gaps.spans, spans, strict=True)
        self._find_gaps(
            [joined([*one, *other], self.n_times, apart=2) for one, other in both]
        )

    def _found_stuck(self, tally, dead):
        """Handle channels that hold one value for a second; False if there are none.

        Leave out these channels or this time, whichever is the smaller share.
        """
        spans = [
            {
                channel: [
                    (first, last)
                    for first, last in outside(joined(each, self.n_times, 2), known)
                    if last - first >= STUCK * self.sfreq
                ]
                for channel, each in stuck.items()
                if not dead[channel]
            }
            for stuck, known in zip(
                tally.stuck_spans(self.n_epochs), self._gaps.spans, strict=True
            )
        ]
        stuck = np.zeros(len(dead), bool)
        stuck[[channel for each in spans for channel, some in each.items() if some]] = 1
        if not stuck.any():
            return False
        together = [
            joined([span for some in each.values() for span in some], self.n_times)
            for each in spans
        ]
        known = sum(np.diff(each).sum() for each in self._gaps.spans)
        n_stuck = sum(np.diff(each).sum() for each in together)
        share = n_stuck / (self.n_epochs * self.n_times - known)
        names = listed(np.array(self.ch_names)[stuck])
        found = (
            f"{stuck.sum()} EEG channels hold one value for a second or more, as when "
            f"they are not connected, together in {100 * share:.2g} % of the time: "
            f"{names}."
        )
        if stuck.mean() < share and (~stuck & ~dead).sum() >= MIN_CHANNELS:
            warn(f"{found} They are left out. Mark them in inst.info['bads'].")
            self._leave_out(stuck)
            return True
        warn(
            f"{found} This time is taken for bad. Mark the channels in "
            f"inst.info['bads'], or {MARK_TIME}."
        )
        self._add_gaps(together)
        return True

    def _drop(self, dead):
        names = listed(np.array(self.ch_names)[dead])
        alive = ~dead
        if alive.sum() < MIN_CHANNELS:
            raise ValueError(
                f"Only {alive.sum()} EEG channels carry a signal and at least "
                f"{MIN_CHANNELS} are needed; zero or constant: {names}."
            )
        warn(
            f"Left out EEG channels that are zero or constant: {names}. Mark them in "
            "inst.info['bads'] to say so beforehand."
        )
        self._leave_out(dead)

    def _leave_out(self, channels):
        kept = ~channels
        self._use(self._picks[kept], self.electrodes[kept])
        self._find_gaps(self._gaps.spans)  # whose ends are of fewer channels now

    def _stream(self, tally, referenced=True):
        """Return the rms of each second, and update the tally."""
        n_blocks = self.resampler.n_blocks(self.n_times)
        n_model = self.resampler.n_model(self.n_times)
        jobs = [
            (epoch, block, min(_CHUNK, n_blocks - block))
            for epoch in range(self.n_epochs)
            for block in range(0, n_blocks, _CHUNK)
        ]
        long = sum(n for *_, n in jobs) > _LONG
        shape = (self.n_epochs, self._picks.size, n_blocks * BLOCK)
        keeps = referenced and np.prod(shape) <= _KEPT
        self._kept = np.empty(shape, np.float32) if keeps else None
        rms = []
        for epoch, block, n in ProgressBar(jobs, mesg="Checking") if long else jobs:
            read = partial(self._checked_read, tally, referenced, epoch)
            data = self.resampler.to_model(read, block, n).astype(np.float32)
            if keeps:
                self._kept[epoch, :, block * BLOCK : (block + n) * BLOCK] = data
            data = data[:, : n_model - block * BLOCK]
            starts = np.arange(0, data.shape[1], BLOCK)
            power = np.add.reduceat(np.square(data, dtype=float), starts, axis=1)
            counts = np.diff(np.append(starts, data.shape[1]))
            rms.append(np.sqrt(power / counts))
        return np.concatenate(rms, axis=1)

    def _checked_read(self, tally, referenced, epoch, start, stop):
        def fetch(first, last, epoch):
            data = self._as_recorded(first, last, epoch)
            tally.note_still(first + still_spans(data, self.sfreq), epoch)
            tally.note_stuck(stuck_spans(data, self.sfreq), first, epoch)
            data = self._gaps.fill(data, first, epoch)
            good = ~self.bad_samples(first, last, epoch)
            data = tally.note(
                data, first, epoch if self.kind == "epochs" else None, good
            )
            return self._reference(data) if referenced else data

        return self._reflect(fetch, start, stop, epoch)


@verbose
@fill_doc
def check_scalp(inst, *, trans="fsaverage", on_mismatch="warn", verbose=None):
    """Check a scalp recording and make it readable for the model.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording, of any MNE reader, preloaded or not. It is not changed.
    trans : str | path-like | Transform
        Transform from the recording's head coordinates to the fsaverage MRI, as for
        :func:`mne_neuroflow.make_contacts`.
    on_mismatch : str
        What to do if the recording differs from what the model was built for:
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    %(verbose)s

    Returns
    -------
    scalp : Scalp
        The recording, checked from the first sample to the last.
    """
    _check_option("on_mismatch", on_mismatch, ("warn", "raise", "ignore"))
    check_container(inst)
    check_recorded(inst)
    check_rate_and_length(inst)
    check_band(inst.info, on_mismatch)
    inst = _own(inst)
    picks, electrodes = find_electrodes(inst.info, trans=trans, on_mismatch=on_mismatch)
    logger.info("Scalp reference: %s.", describe_reference(inst.info))
    return Scalp(inst, picks, electrodes, on_mismatch)


def _own(inst):
    """Return an object to read later, independent of later changes to ``inst``."""
    if isinstance(inst, mne.io.BaseRaw):
        return inst if inst.preload else inst.copy()
    if not inst.preload:
        inst = inst.copy()
        inst.drop_bad(verbose=False)  # MNE-Python 1.12 may return None
    if not len(inst):
        raise ValueError("There are no epochs: all of them were dropped.")
    return inst
