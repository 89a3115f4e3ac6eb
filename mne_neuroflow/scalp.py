"""The scalp side: from an MNE recording to checked numbers at the model's rate.

Everything before physics happens here: which channels are used, where their
electrodes are, what is wrong with the recording, its reference, band and rate.
MNE comes in, numpy goes out.
"""

import re
from functools import lru_cache, partial

import mne
import numpy as np
from mne.io.constants import FIFF

from ._compat import (
    ProgressBar,
    _check_option,
    _validate_type,
    logger,
    make_projector,
    verbose,
    warn,
)
from ._text import listed
from .contract import BAND, BLOCK
from .electrode_names import read_names
from .good_time import Gaps, annotated_spans, joined, still_spans
from .head.contacts import get_head_to_mri
from .head.geometry import inside_brain, load_head, project_to_scalp
from .positions import fit_placement, unnamed_findings
from .recording import Recording

MIN_CHANNELS = 4
MIN_SFREQ = 100.0
_CLOCK = 1e-3  # share by which a sampling rate may be off
MIN_DURATION = 1.0
# Seconds of good time from which the amplitude of a recording with bad time is known.
_LITTLE_TIME = 10.0
_RAMP = BLOCK // 4  # model samples over which good time passes into bad
_MOST_INSIDE = 0.75  # share of electrodes: MNE's montages on a sphere have 0.57
MAX_OFF_HEAD = 0.06  # spherical template montages are up to 46 mm off the head
# Scalp EEG between 0.5 and 50 Hz has an rms of 3 to 100 uV. Anything outside
# these limits (volts) is a wrong unit, not a strange brain: in millivolts, read as
# volts, the quietest EEG has 3e-3, and no scalp has a median rms of 1 mV.
_RMS_LIMITS = (5e-8, 1e-3)
# Times the steps of a usual channel from which one is in another unit or broken: a
# loose electrode has up to a few tens.
_OTHER_UNIT = 100.0
_ROUNDING = 1e-8  # volts from sample to sample: any EEG has more, a constant has less
_FACTORS = {"millivolts": 1e-3, "microvolts": 1e-6, "nanovolts": 1e-9}
_OUTLIER = 5.0  # times the median rms over channels
#: Range of a channel that is no signal, times the median over channels.
DEAD = 1e-3
_IDENTICAL = 1e-3  # times the rms before referencing
_CHUNK = 30  # blocks read at a time
_LONG = 600  # blocks, above which a progress bar shows
# Values at the model's rate that are kept from the first way through: 64 MB, half an
# hour of 64 channels. Longer recordings are read again.
_KEPT = 2**24

_TEMPLATES = ("fsaverage_1005", "colin27_1005", "standard_1005")
# Montages of MNE with names of their own, that is, not those of 10-05.
_OTHER_MONTAGES = re.compile(r"biosemi(128|160|256)|GSN-|EGI|easycap-M(10|43)|mgh")


class Scalp(Recording):
    """A checked scalp recording, read as average-referenced volts.

    Made by :func:`check_scalp`.

    Attributes
    ----------
    inst : Raw | Epochs
        What is read: the input, or a copy of its header where the input is not
        preloaded. Bad epochs are dropped.
    ch_names : list of str
        The EEG channels that are used, names as in the recording.
    electrodes : ndarray, shape (n_channels, 3)
        Their positions in metres, fsaverage surface RAS.
    operator : ndarray, shape (n_channels, n_channels)
        What :meth:`read` applies to the potentials: the recording's projectors and
        the average reference. Apply it to the scalp lead field as well.
    rms : ndarray, shape (n_channels, n_seconds)
        Root mean square of every second after the 0.5-50 Hz band, in volts; for
        epochs the seconds of all epochs one after the other.
    good : ndarray of bool, shape (n_epochs, n_seconds)
        Which seconds hold no bad sample, see :mod:`~mne_neuroflow.good_time`.
    """

    def __init__(self, inst, picks, electrodes, on_mismatch="warn"):
        super().__init__(inst, picks)
        self._use(self._picks, electrodes)
        self._kept = None
        self._find_gaps(annotated_spans(inst, self.ch_names))
        self.rms = self._survey(on_mismatch)

    def fetch(self, start, stop, epoch=None):
        """Return samples as the recording holds them, straight lines where it is bad.

        Parameters
        ----------
        start, stop : int
            As for :meth:`Recording.fetch`.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray, shape (n_channels, stop - start)
            Potentials in volts.
        """
        data = super().fetch(start, stop, epoch)
        return self._gaps.fill(data, start, epoch) if self._gaps else data

    def is_bad(self, start_block, n_blocks, epoch=None):
        """Tell how far each model sample lies in bad time.

        Parameters
        ----------
        start_block, n_blocks : int
            As for :meth:`to_model`. Beyond an end it is as at the end.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        share : ndarray, shape (128 * n_blocks,)
            Zero in good time, one in bad time but for a quarter of a second at its
            ends, over which it rises.
        """
        at = np.arange(start_block * BLOCK, (start_block + n_blocks) * BLOCK)
        share, rate = np.zeros(len(at)), self.resampler.up / self.resampler.down
        for first, last in self._gaps.spans[epoch or 0]:
            first = rate * first if first else -np.inf
            last = rate * last if last < self.n_times else np.inf
            inside = np.minimum(at - first, last - at) / _RAMP
            share = np.maximum(share, np.clip(inside, 0, 1))
        return share

    def bad_samples(self, start, stop, epoch=None):
        """Tell which samples of a recording or epoch are bad.

        Parameters
        ----------
        start, stop : int
            Half-open range of samples.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        bad : ndarray of bool, shape (stop - start,)
            Whether they are, see :mod:`~mne_neuroflow.good_time`.
        """
        bad = np.zeros(stop - start, bool)
        for first, last in self._gaps.spans[epoch or 0]:
            bad[max(first - start, 0) : max(last - start, 0)] = True
        return bad

    def good_stretches(self, n_seconds, at_most):
        """Find stretches of good time from all over the recording.

        Parameters
        ----------
        n_seconds : int
            Their length in seconds. Good time between bad times that is shorter than
            this is a stretch as well.
        at_most : int
            How many, evenly spread over those that there are.

        Returns
        -------
        stretches : list of tuple of int
            Epoch, first second and number of seconds of each: what
            ``to_model(first, n, epoch)`` reads.
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
        # Every block is the same wherever the stretch begins that holds it.
        low, high = max(start_block, first), min(stop_block, last)
        parts = [kept[:, low * BLOCK : max(low, high) * BLOCK]]
        if start_block < first:
            n_before = min(stop_block, first) - start_block
            parts.insert(0, super().to_model(start_block, n_before, epoch))
        if stop_block > last:
            after = max(start_block, last)
            parts.append(super().to_model(after, stop_block - after, epoch))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def robust_rms(self):
        """Return the typical amplitude of every channel.

        Returns
        -------
        rms : ndarray, shape (n_channels,)
            Median over good seconds of the rms, in volts. Artifacts that last for
            less than half of them do not move it far.
        """
        return np.median(self._good_rms(self.rms), axis=1)

    def _good_rms(self, rms):
        return rms if self.good.all() else rms[:, self.good.ravel()]

    @property
    def _n_whole(self):
        """Seconds without the last one where the recording ends within it."""
        return max(1, int(self.n_times / self.sfreq))

    def _find_gaps(self, spans):
        self._gaps = Gaps(spans, self.n_times, super().fetch)
        length = BLOCK * self.resampler.down / self.resampler.up
        n_blocks = self.resampler.n_blocks(self.n_times)
        self.good = self._gaps.good_blocks(length, n_blocks)
        if not self.good[:, : self._n_whole].any():
            raise ValueError(
                "No second of the EEG is good: all of it is annotated as BAD or holds "
                "no signal that changes. Look at inst.plot(), and remove annotations "
                "that are wrong with inst.annotations.delete()."
            )

    def _tell_of_gaps(self, on_mismatch):
        if self.good.all():
            return
        seconds = self.good.sum() * BLOCK / self.resampler.model_sfreq
        logger.info(
            "Bad time: %.0f %% of the seconds are annotated as BAD or without a signal "
            "that changes. What is measured of the recording comes from the others.",
            100 * (1 - self.good.mean()),
        )
        if seconds < _LITTLE_TIME:
            tell_mismatch(
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
        return data - data.mean(axis=0)  # the same, and quicker

    def _survey(self, on_mismatch):
        """Go through the recording once; drop dead channels and refuse bad ones."""
        while True:
            tally = _Tally(self._picks.size)
            rms = self._stream(tally)
            dead = tally.dead()
            if not dead.all() and self._found_still(tally):
                continue
            tally.check_finite(self.ch_names, self.sfreq)
            tally.check_alike(self.ch_names)
            if not dead.any():
                break
            self._drop(dead)  # and go again: the average reference has changed
        self._tell_of_gaps(on_mismatch)
        seconds = rms
        rms = self._good_rms(rms)
        if np.median(rms) < _RMS_LIMITS[0]:
            kept = self._kept
            before = self._stream(_Tally(self._picks.size), referenced=False)
            self._kept = kept
            _check_distinct(rms, self._good_rms(before))
        _check_unit(rms)
        _warn_of_outliers(self.ch_names, rms)
        return seconds

    def _found_still(self, tally):
        """Add time without a signal to the gaps; False if there is no more of it."""
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
        self._use(self._picks[alive], self.electrodes[alive])
        self._find_gaps(self._gaps.spans)  # whose ends are of fewer channels now

    def _stream(self, tally, referenced=True):
        """Return the rms of every second, noting samples in the tally."""
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
            data = super(Scalp, self).fetch(first, last, epoch)
            tally.note_still(first + still_spans(data, self.sfreq), epoch)
            data = self._gaps.fill(data, first, epoch)
            data = tally.note(data, first, epoch if self.kind == "epochs" else None)
            return self._reference(data) if referenced else data

        return self._reflect(fetch, start, stop, epoch)


class _Tally:
    """What the samples of each channel looked like on one way through."""

    def __init__(self, n_channels):
        self.low = np.full(n_channels, np.inf)
        self.high = np.full(n_channels, -np.inf)
        self.where, self._still = {}, {}
        self._steps = []

    def note_still(self, spans, epoch):
        """Note where no channel changes."""
        self._still.setdefault(epoch, []).extend(spans)

    def note(self, data, start, epoch):
        """Note the samples and return them with nan and infinity replaced by zero."""
        finite = np.isfinite(data)
        if not finite.all():
            for channel in np.flatnonzero(~finite.all(axis=1)):
                sample = start + int(finite[channel].argmin())
                self.where.setdefault(int(channel), (epoch, sample))
            data = np.where(finite, data, 0.0)
        if data.shape[1] > 1:
            self._steps.append(np.abs(np.diff(data)).mean(axis=1))
        self.low = np.minimum(self.low, data.min(axis=1))
        self.high = np.maximum(self.high, data.max(axis=1))
        return data

    def still_spans(self, n_epochs):
        """Return for each epoch where no channel changed."""
        return [self._still.get(epoch, []) for epoch in range(n_epochs)]

    def check_finite(self, ch_names, sfreq):
        """Refuse samples that are no numbers."""
        if not self.where:
            return
        told = [
            f"{ch_names[channel]} ({'' if epoch is None else f'epoch {epoch}, '}"
            f"first at sample {sample}, {sample / sfreq:.3f} s)"
            for channel, (epoch, sample) in sorted(self.where.items())
        ]
        raise ValueError(
            f"The EEG holds NaN or infinite values in {len(told)} channels: "
            f"{listed(told)}. Annotate the time as BAD with inst.annotations.append(), "
            "crop it away, or mark the channels in inst.info['bads']."
        )

    def check_alike(self, ch_names):
        """Refuse channels in another unit, which the average reference would spread.

        Steps from sample to sample tell a channel's amplitude whatever its offset and
        drift are.
        """
        steps = np.array(self._steps)
        steps = steps[np.median(steps, axis=1) > 0]  # not of gaps alone
        if not len(steps):
            return
        steps = np.median(steps, axis=0)
        alive = steps[steps > _ROUNDING]
        usual = np.percentile(alive, 25) if len(alive) else np.inf
        loud = steps > _OTHER_UNIT * usual
        if not loud.any():
            return
        times = np.median(steps[loud]) / usual
        unit = next((u for u, f in _FACTORS.items() if 0.2 < times * f < 5), None)
        cause = f"they seem to be in {unit}" if unit else "they seem to be broken"
        factor = _FACTORS.get(unit, 1 / times)
        names = np.array(ch_names)[loud]
        raise ValueError(
            f"{loud.sum()} of {len(loud)} EEG channels are about {times:.1g} times as "
            f"large as the others: {listed(names)}; {cause}, while MNE keeps EEG in "
            f"volts. Scale these alone with inst.apply_function(lambda x: x * "
            f"{factor:.0e}, picks=names), or mark them in inst.info['bads']."
        )

    def dead(self):
        """Return which channels hold nothing but a constant or its rounding."""
        extent = self.high - self.low
        return extent <= DEAD * np.median(extent)


@verbose
def check_scalp(inst, *, trans="fsaverage", on_mismatch="warn", verbose=None):
    """Check a scalp recording and make it readable for the model.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording, of any MNE reader, preloaded or not. It is not changed.
    trans : str | path-like | Transform
        From the recording's head coordinates to the fsaverage MRI, as for
        :func:`mne_neuroflow.make_contacts`.
    on_mismatch : str
        What to do when the recording is unlike what the model was built for:
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    scalp : Scalp
        The recording, checked from the first sample to the last.
    """
    _check_option("on_mismatch", on_mismatch, ("warn", "raise", "ignore"))
    check_container(inst)
    _check_rate_and_length(inst)
    _check_band(inst.info, on_mismatch)
    inst = _own(inst)
    picks, electrodes = find_electrodes(inst.info, trans=trans, on_mismatch=on_mismatch)
    logger.info("Scalp reference: %s.", _describe_reference(inst.info))
    return Scalp(inst, picks, electrodes, on_mismatch)


def find_electrodes(info, *, trans="fsaverage", on_mismatch="warn"):
    """Find the usable EEG channels and where their electrodes are.

    Parameters
    ----------
    info : Info
        Of the recording. Channels in ``info['bads']`` are left out.
    trans : str | path-like | Transform
        From head coordinates to the fsaverage MRI.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'`` channels whose position is unknown
        and bipolar ones, neither of which can be used.

    Returns
    -------
    picks : ndarray of int, shape (n_channels,)
        Channels in ``info``.
    electrodes : ndarray, shape (n_channels, 3)
        Positions in metres, fsaverage surface RAS. Channels without one get that of
        the 10-05 template with the same name, if ``trans`` is ``'fsaverage'`` or no
        channel has one.
    """
    picks = mne.pick_types(info, meg=False, eeg=True, exclude="bads")
    every = mne.pick_types(info, meg=False, eeg=True, exclude=())
    if not len(picks):
        raise ValueError(
            f"The recording needs good EEG channels, but {_why_no_eeg(info, every)}"
        )
    chs = [info["chs"][pick] for pick in picks]
    _check_quantity(chs)
    # Bad channels are no less part of the cap whose names these are.
    read = read_names([info["ch_names"][pick] for pick in every], _template())
    here = np.searchsorted(every, picks)
    places = [read.places[k] for k in here]
    names = np.array([ch["ch_name"] for ch in chs])
    # MNE keeps the position of the anode alone.
    bipolar = np.array([ch["coil_type"] == FIFF.FIFFV_COIL_EEG_BIPOLAR for ch in chs])
    bipolar |= np.array([read.bipolar[k] for k in here])
    loc = np.array([ch["loc"][:3] for ch in chs], float)
    known = np.isfinite(loc).all(axis=1) & (loc != 0).any(axis=1) & ~bipolar
    measured = known
    names_tell = not known.any() or (isinstance(trans, str) and trans == "fsaverage")
    head_to_mri = get_head_to_mri(trans if known.any() else "fsaverage")
    if names_tell:  # only then the template's head coordinates are the recording's
        _check_series(read, names[~known & ~bipolar])
        loc, known = _fill_in(names, places, loc, known, bipolar)
    _check_usable(names, known, bipolar, names_tell, on_mismatch)
    _check_one_reference([read.references[k] for k in here[known]], on_mismatch)
    electrodes = mne.transforms.apply_trans(head_to_mri, loc[known])
    _check_on_head(names[known], electrodes)
    placed = measured[known]
    _check_placement(
        names[measured],
        [place for place, ok in zip(places, measured, strict=True) if ok],
        electrodes[placed],
        on_mismatch,
    )
    return picks[known], electrodes


def _why_no_eeg(info, every):
    """Say what a recording has instead of good EEG channels, and what to do."""
    if len(every):
        return f"all {len(every)} are in inst.info['bads']."
    types = sorted(set(info.get_channel_types()))
    found = f"it has none, only channels of type {listed(map(repr, types))}."
    if "csd" in types:
        return (
            f"{found} A current source density has lost what the model reads: give the "
            "recording before mne.preprocessing.compute_current_source_density()."
        )
    if {"seeg", "ecog", "dbs"}.intersection(types):
        return (
            f"{found} Intracranial recordings are what is predicted: give their places "
            "with contacts=ieeg.info, and the scalp EEG of the same patient as inst."
        )
    if {"mag", "grad"}.intersection(types):
        return f"{found} The model is for scalp EEG and knows no MEG."
    return (
        f"{found} If some are scalp electrodes, set their type with "
        "inst.set_channel_types()."
    )


def _check_quantity(chs):
    """Refuse EEG channels that hold another quantity than a potential."""
    other = [ch["ch_name"] for ch in chs if ch["unit"] != FIFF.FIFF_UNIT_V]
    if other:
        raise ValueError(
            f"EEG channels that are not in volts: {listed(other)}. The model reads "
            "potentials: give the recording before it was filtered over space, or set "
            "the type of these channels with inst.set_channel_types()."
        )


def check_container(inst):
    """Refuse what is neither Raw nor Epochs."""
    if isinstance(inst, mne.Evoked):
        raise TypeError(
            "inst must be an instance of Raw or Epochs, got Evoked. The model is not "
            "linear, so that its prediction for an average is not the average of its "
            "predictions: predict the epochs and average the result."
        )
    _validate_type(inst, (mne.io.BaseRaw, mne.BaseEpochs), "inst", "Raw or Epochs")


def _check_rate_and_length(inst):
    sfreq = inst.info["sfreq"]
    # Clocks are not exact: a rate of 99.99 Hz is one of 100 Hz.
    if sfreq < (1 - _CLOCK) * MIN_SFREQ:
        raise ValueError(
            f"The sampling rate must be at least {MIN_SFREQ:g} Hz, because the model "
            f"needs {BAND[0]:g}-{BAND[1]:g} Hz, but got {sfreq:.6g} Hz."
            f"{_if_decimated(inst)}"
        )
    # A second holds 1000 samples also where the rate is 1000.01 Hz.
    if len(inst.times) + 1 < MIN_DURATION * sfreq:
        what = "recording" if isinstance(inst, mne.io.BaseRaw) else "epochs"
        raise ValueError(
            f"The {what} must last for at least {MIN_DURATION:g} s, but got "
            f"{len(inst.times) / sfreq:.6g} s, {len(inst.times)} samples at "
            f"{sfreq:.6g} Hz."
        )


def _if_decimated(inst):
    """Tell the way back to a higher rate where epochs were decimated."""
    raw_sfreq = getattr(inst, "_raw_sfreq", None)
    if raw_sfreq is None or raw_sfreq < MIN_SFREQ or raw_sfreq <= inst.info["sfreq"]:
        return ""
    return (
        f" These epochs were decimated from {raw_sfreq:g} Hz: make them with a smaller "
        "'decim', or predict before decimating."
    )


def _check_band(info, on_mismatch):
    low, high = info["highpass"] or 0.0, info["lowpass"] or np.inf
    wrong = []
    if low > 1.0:
        wrong.append(f"is high-passed at {low:g} Hz")
    if high < 30.0:
        wrong.append(f"is low-passed at {high:g} Hz")
    if wrong:
        tell_mismatch(
            f"The recording {' and '.join(wrong)}, but the model was built for "
            f"{BAND[0]:g}-{BAND[1]:g} Hz: what was filtered away cannot be predicted. "
            "Filter less, with inst.filter() of the original recording.",
            on_mismatch,
        )


def tell_mismatch(message, on_mismatch):
    """Tell that a recording is unlike what the model was built for.

    Parameters
    ----------
    message : str
        What was found, what was expected, and the remedy.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    if on_mismatch == "raise":
        raise ValueError(message)
    if on_mismatch == "warn":
        warn(message)


def _own(inst):
    """Return what may be read later, whatever the user does with ``inst``."""
    if isinstance(inst, mne.io.BaseRaw):
        return inst if inst.preload else inst.copy()
    if not inst.preload:
        inst = inst.copy().drop_bad(verbose=False)
    if not len(inst):
        raise ValueError("There are no epochs: all of them were dropped.")
    return inst


def _check_usable(names, known, bipolar, names_tell, on_mismatch):
    unknown = names[~known & ~bipolar]
    told = []
    if len(unknown):
        lack = "a position and without a 10-05 name" if names_tell else "a position"
        told.append(f"EEG channels without {lack}: {listed(unknown)}.")
    if bipolar.any():
        told.append(f"Bipolar EEG channels: {listed(names[bipolar])}.")
    if not told:
        return
    message = " ".join(told)
    remedy = (
        "Set positions with inst.set_montage(), rename channels with "
        "inst.rename_channels(), or mark them in inst.info['bads']. Bipolar "
        "derivations cannot be used."
    )
    if known.sum() < MIN_CHANNELS:
        raise ValueError(
            f"{message} At least {MIN_CHANNELS} EEG channels with positions are "
            f"needed, but got {known.sum()}. {_montage_hint(unknown)}{remedy}"
        )
    kept = f"They are left out, and these are used: {listed(names[known])}."
    tell_mismatch(f"{message} {kept} {remedy}", on_mismatch)


def _montage_hint(names):
    """Name the montage of MNE that has these names, if there is one."""
    fitting = [] if all(map(str.isdigit, names)) else montages_with(names)
    if not fitting:
        return ""
    return (
        f"These are names of MNE's montage {fitting[0]}: set it with "
        f"inst.set_montage({fitting[0]!r}). "
    )


def _check_one_reference(references, on_mismatch):
    """Tell of channels with different references, as in ``'C3-A2'`` and ``'C4-A1'``.

    The average reference takes away a reference that all channels share, no other.
    """
    references = {reference.upper() for reference in references if reference}
    if len(references) > 1:
        tell_mismatch(
            "The names of the EEG channels tell of different references: "
            f"{listed(sorted(references))}. The model was built for channels that "
            "share one, whichever it is. Export the recording with one reference, "
            "or mark the channels of the others in inst.info['bads'].",
            on_mismatch,
        )


def _check_series(read, names):
    """Refuse names that would be looked up and mean something else."""
    series = {
        letters: [name for name in members if name in names]
        for letters, members in read.doubtful.items()
    }
    doubtful = [name for members in series.values() for name in members]
    if not doubtful:
        return
    raise ValueError(
        f"EEG channels whose names are those of 10-05 positions, but which are part of "
        f"a series that 10-05 does not have: {listed(doubtful)}. "
        f"{_montage_hint(names)}Contacts of depth electrodes are called so as well: "
        "set their type with inst.set_channel_types(dict.fromkeys(names, 'seeg')). If "
        "these are electrodes on the scalp, give their positions with "
        "inst.set_montage()."
    )


def _check_placement(names, places, electrodes, on_mismatch):
    """Hold measured positions against names, or against the scalp.

    Parameters
    ----------
    names : ndarray of str, shape (n_electrodes,)
        Channels that have a position of their own.
    places : list of str | None
        Their 10-05 positions by name.
    electrodes : ndarray, shape (n_electrodes, 3)
        Where they are, in metres, fsaverage surface RAS.
    on_mismatch : str
        As for :func:`find_electrodes`.
    """
    placements = _placements(names, places, electrodes)
    if placements:
        best = min(placements, key=lambda each: each.residual)
        logger.info("Positions against the names' on the template: %s.", best)
        wrong, odd = best.findings(1), best.findings(0)
    else:
        _check_outside(names, electrodes)
        wrong, odd = [], unnamed_findings(electrodes)
    remedy = (
        "Were axes, unit and fiducials read rightly? Set measured positions with "
        "inst.set_montage(mne.channels.make_dig_montage(ch_pos, nasion, lpa, rpa)), or "
        f"those of the template with inst.set_montage({template_name()!r}, "
        "match_case=False, on_missing='ignore')."
    )
    if wrong:
        raise ValueError(
            "The positions of the EEG electrodes contradict their names: they look "
            f"{', '.join(wrong)}. {remedy}"
        )
    if odd:
        tell_mismatch(
            f"The positions of the EEG electrodes look {', '.join(odd)}, more than "
            f"measured positions on a head do. {remedy}",
            on_mismatch,
        )


def _check_outside(names, electrodes):
    """Refuse what lies in the brain and does not have the name of a scalp electrode."""
    inside = inside_brain(load_head(), electrodes)
    if len(inside) and inside.mean() > _MOST_INSIDE:
        raise ValueError(
            f"{inside.sum()} of {len(inside)} EEG channels lie inside the brain of the "
            f"template: {listed(names[inside])}. If they are contacts of intracranial "
            "electrodes, set their type with inst.set_channel_types(dict.fromkeys("
            "names, 'seeg')); if not, set the positions of the scalp electrodes with "
            "inst.set_montage()."
        )


def _placements(names, places, electrodes):
    """Fit the positions to those that any montage has for the names."""
    template = {
        place: mne.transforms.apply_trans(load_head().head_to_mri, rr)
        for place, rr in _template().items()
    }
    tables = [(template, places)]
    if sum(place is not None for place in places) < len(places) / 2:
        tables += [(_montage_positions(m), names) for m in montages_with(names)]
    found = []
    for table, keys in tables:
        has = [key in table for key in keys]
        expected = [table[key] for key, ok in zip(keys, has, strict=True) if ok]
        found.append(fit_placement(electrodes[has], np.array(expected).reshape(-1, 3)))
    return [each for each in found if each is not None]


def _check_on_head(names, electrodes):
    if len(names) < MIN_CHANNELS:
        raise ValueError(
            f"At least {MIN_CHANNELS} good EEG channels with positions are needed, but "
            f"got {len(names)}."
        )
    distance = project_to_scalp(load_head(), electrodes)[3]
    logger.info(
        "Scalp electrodes: %d, in the median %.0f mm off the template head's scalp.",
        len(names),
        1e3 * np.median(distance),
    )
    far = distance > MAX_OFF_HEAD
    if far.any():
        told = [
            f"{name} ({1e3 * d:.0f} mm)"
            for name, d in zip(names[far], distance[far], strict=True)
        ]
        raise ValueError(
            f"{far.sum()} electrodes are more than {1e3 * MAX_OFF_HEAD:.0f} mm off the "
            f"scalp of the template head: {listed(told)}. Positions must be in metres "
            "and in head coordinates: see inst.set_montage(), or give 'trans'."
        )


def _fill_in(names, places, loc, known, bipolar):
    """Give channels without a position that of the template, where names tell it.

    Returns
    -------
    loc : ndarray, shape (n_channels, 3)
        Positions in head coordinates, metres.
    known : ndarray of bool, shape (n_channels,)
        Which channels have one.
    """
    missing = np.flatnonzero(~known & ~bipolar)
    template = _template()
    found = [k for k in missing if places[k] in template]
    taken = [places[k] for k in [*np.flatnonzero(known), *found]]
    same = {places[k] for k in found if taken.count(places[k]) > 1}
    if same:
        clash = [name for name, p in zip(names, places, strict=True) if p in same]
        raise ValueError(
            f"EEG channels that are the same 10-05 position: {listed(clash)}. Mark "
            "all but one of each in inst.info['bads'], or give positions with "
            "inst.set_montage()."
        )
    if not found:
        return loc, known
    logger.info(
        "%d of %d channels have no position; %d of them get that of the template %s "
        "by name: %s.",
        len(missing),
        len(names),
        len(found),
        template_name(),
        listed(names[k] for k in found),
    )
    loc, known = loc.copy(), known.copy()
    loc[found] = [template[places[k]] for k in found]
    known[found] = True
    return loc, known


def template_name():
    """Return the name of the template montage in the MNE that is installed.

    Returns
    -------
    name : str
        For :func:`mne.channels.make_standard_montage`; no release of MNE warns of it.
    """
    builtin = mne.channels.get_builtin_montages()
    return next(name for name in _TEMPLATES if name in builtin)


@lru_cache(maxsize=1)
def _template():
    """Return plain name -> position in fsaverage's head frame, metres."""
    montage = mne.channels.make_standard_montage(template_name())
    info = mne.create_info(montage.ch_names, 1.0, "eeg").set_montage(montage)
    return {ch["ch_name"].lower(): ch["loc"][:3].copy() for ch in info["chs"]}


def montages_with(names):
    """Find MNE's montages whose names are these and are not those of 10-05.

    Parameters
    ----------
    names : list of str
        Channel names.

    Returns
    -------
    montages : list of str
        For :meth:`mne.io.Raw.set_montage`, the best first, of those as good the
        smallest; empty where less than nine tenths of the names are in any.
    """
    names, sizes = set(names), {}
    if not names:
        return []
    for montage in mne.channels.get_builtin_montages():
        if _OTHER_MONTAGES.match(montage):
            table = _montage_positions(montage)
            missing = len(names - set(table))
            if missing <= 0.1 * len(names):
                sizes[montage] = missing, len(table)
    return sorted(sizes, key=sizes.get)


@lru_cache(maxsize=32)
def _montage_positions(name):
    """Return name -> position of one of MNE's montages, metres, fsaverage's MRI."""
    montage = mne.channels.make_standard_montage(name)
    info = mne.create_info(montage.ch_names, 1.0, "eeg").set_montage(montage)
    loc = np.array([ch["loc"][:3] for ch in info["chs"]])
    loc = mne.transforms.apply_trans(load_head().head_to_mri, loc)
    return dict(zip(info["ch_names"], loc, strict=True))


def reference_operator(info, ch_names):
    """Return what is applied to the potentials before anything else.

    Parameters
    ----------
    info : Info
        Of the recording.
    ch_names : list of str
        The channels that are used.

    Returns
    -------
    operator : ndarray, shape (n_channels, n_channels)
        The recording's projectors, then the average reference.
    """
    projector, n_projectors, _ = make_projector(info["projs"], ch_names)
    if n_projectors:
        logger.info("Applied %d projectors of the recording.", n_projectors)
    return projector - projector.mean(axis=0)


def _describe_reference(info):
    average = [p for p in info["projs"] if "average" in p["desc"].lower()]
    if average:
        found = "an average-reference projector"
    elif info["custom_ref_applied"]:
        found = "a reference set in MNE (an average or an electrode)"
    else:
        found = "that of the recording"
    return f"found {found}; re-referenced to the average of the channels used"


def _check_distinct(rms, before):
    """Refuse channels of which the average reference leaves nothing.

    Parameters
    ----------
    rms, before : ndarray, shape (n_channels, n_seconds)
        With the average reference and without any, volts.
    """
    if np.median(rms) < _IDENTICAL * np.median(before):
        raise ValueError(
            "All EEG channels hold identical signals: they have a typical rms of "
            f"{np.median(before):.3g} V, of which the average reference leaves "
            f"{np.median(rms):.3g} V. Check how the channels were read or copied."
        )


def _check_unit(rms):
    typical = np.median(rms)
    low, high = _RMS_LIMITS
    if low <= typical <= high:
        return
    if typical > high:
        unit, factor = (
            ("microvolts", "1e-6") if typical > 0.5 else ("millivolts", "1e-3")
        )
        cause = f"it seems to be in {unit}"
    else:
        factor, cause = "1e6", "it seems to have been divided by 1e6 once too often"
    raise ValueError(
        f"MNE keeps EEG in volts, and this EEG has a typical rms of {typical:.3g} V: "
        f"{cause}. Scale it with inst.apply_function(lambda x: x * {factor}, "
        "picks='eeg')."
    )


def _warn_of_outliers(ch_names, rms):
    typical = np.median(rms, axis=1)
    noisy = typical > _OUTLIER * np.median(typical)
    if noisy.any():
        names = listed(np.array(ch_names)[noisy])
        warn(
            f"EEG channels more than {_OUTLIER:g} times as large as the others: "
            f"{names}. Mark them in inst.info['bads'] if they are noise."
        )
