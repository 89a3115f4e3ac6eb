"""Prediction from one LSL stream to another.

LSL is the lab streaming layer, which most EEG amplifiers support. The package mne-lsl
(extra ``stream``) makes it available in MNE-Python.
"""

import time
from collections import deque
from pathlib import Path

import mne
import numpy as np

from .._compat import _check_option, logger
from .._text import listed
from ..virtual import SAYS_SO
from .clock import SampleClock
from .predictor import StreamPredictor

#: Values in the channel of marks. They are added if both apply.
NO_SCALP, FEWER_DRAWS = 1, 2
# Seconds of scalp EEG that are buffered while predictions are late. More is lost.
_BUFFER = 15.0
# Seconds between checks for new samples, and to wait for a stream to appear.
_LOOK, _WAIT = 0.002, 2.0
# Seconds without a sample after which to search for a new source, and of searches.
# liblsl asks for streams twice a second.
_SILENT, _LOOK_AROUND = 2.0, 1.0
# Units of streams, as powers of ten of a volt.
UNITS = {"V": 0, "mV": -3, "uV": -6, "nV": -9}
# Seconds over which computing time is averaged, and tolerated delay in hops.
_PACE, _BEHIND = 2.0, 2
# If computing takes less than this share of the time, the draws may be doubled again.
_EASY = 0.4
# Number of delays that are kept.
_N_DELAYS = 100_000


def relay(in_name, out_name, *, seconds=None, **options):
    """Read scalp EEG from LSL, and publish virtual contacts until stopped.

    Parameters
    ----------
    in_name, out_name : str
        Names of the streams.
    seconds : float | None
        Seconds after which to stop. ``None`` does not stop.
    **options : dict
        Further parameters of :class:`Relay`.

    Returns
    -------
    relay : Relay
        The relay, with its counts and delays.
    """
    with Relay(in_name, out_name, **options) as each:
        stop = np.inf if seconds is None else time.monotonic() + seconds
        try:
            while time.monotonic() < stop:
                if not each.step():
                    time.sleep(_LOOK)
        except KeyboardInterrupt:
            logger.info("Stopped.")
        each.finish()
    return each


class Relay:
    """A stream of scalp EEG, its predictor and the stream of virtual contacts.

    Parameters
    ----------
    in_name, out_name : str
        Names of the streams.
    wait : float
        Seconds to wait for the scalp EEG stream to appear.
    baseline : Raw | None
        An earlier recording, for :meth:`StreamPredictor.warm_up`.
    ch_names : list of str | None
        Names of the first channels of the stream, which are EEG channels. Further
        channels are not used. ``None`` takes names and types from the description of
        the stream.
    unit : str | None
        Unit of the EEG channels: ``'V'``, ``'mV'``, ``'uV'`` or ``'nV'``. ``None``
        takes it from the description of the stream, or volts.
    montage : str | path-like | None
        Positions of the electrodes: a name for
        :func:`mne.channels.make_standard_montage`, or a file for
        :func:`mne.channels.read_custom_montage` or
        :func:`mne.channels.read_dig_fif`.
    bads : list of str
        EEG channels that are not used.
    **options : dict
        Parameters of :class:`StreamPredictor`.

    Attributes
    ----------
    predictor : StreamPredictor
        The predictor.
    delays : deque of float
        Seconds between receiving samples and publishing the virtual ones.
    n_received, n_published : int
        Number of samples so far.
    factor : float
        Recent ratio of computing time to the duration of the signal.
    """

    def __init__(
        self,
        in_name,
        out_name,
        *,
        wait=30.0,
        baseline=None,
        ch_names=None,
        unit=None,
        montage=None,
        bads=(),
        **options,
    ):
        if unit is not None:
            _check_option("unit", unit, list(UNITS))
        self._lsl, self._name, self._stream = _import_lsl(), in_name, None
        self._check_free(out_name)
        self._stream = self._connect(wait)
        self._check_unique()
        described = self._stream.info
        info = _in_volts(described, ch_names, montage, bads)
        self.predictor = StreamPredictor(info, **options)
        if baseline is not None:
            self.predictor.warm_up(baseline)
        self._picks = [info["ch_names"].index(n) for n in self.predictor.ch_names]
        mul = [described["chs"][pick]["unit_mul"] for pick in self._picks]
        mul = mul if unit is None else [UNITS[unit]] * len(mul)
        self._to_volts = 10.0 ** np.array(mul, float)[:, None]
        self._kind = _kind_of(described)
        self._clock = SampleClock(info["sfreq"])
        self._outlet = self._publish(out_name)
        self._n_requested = self.predictor.n_draws
        self.delays = deque(maxlen=_N_DELAYS)
        self.n_received = self.n_published = 0
        self._last = time.monotonic()
        self.factor, self._is_slow = 0.0, False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._stream is not None and self._stream.connected:
            self._stream.disconnect()
        self._outlet = None  # liblsl closes it

    def step(self):
        """Process new samples and publish what is due; return False without any."""
        data, times = self._receive()
        if not len(times):
            return False
        received = time.perf_counter()
        for number, where in self._clock.place(times):
            virtual, first = self.predictor.push(data[:, where], number)
            self._send(virtual, first, received)
        spent = time.perf_counter() - received
        self.n_received += len(times)
        self._keep_pace(spent, len(times) / self._sfreq, times[-1])
        self._last = time.monotonic()  # computing is not silence of the source
        return True

    def finish(self):
        """Publish the samples that still wait for the latency."""
        self._send(*self.predictor.finish(), time.perf_counter())

    @property
    def _sfreq(self):
        return self.predictor.info["sfreq"]

    def _receive(self):
        """Return new samples in volts and their time stamps."""
        nothing = np.empty((len(self._picks), 0)), np.empty(0)
        if self._stream is None or not self._stream.connected:
            self._reconnect()
            return nothing
        self._stream.acquire()
        if not self._stream.connected:
            logger.info("The stream %s is lost; waiting for it.", self._name)
            return nothing
        n = self._stream.n_new_samples
        if not n:
            if time.monotonic() - self._last > _SILENT:
                self._look_for_restart()
            return nothing
        seconds = min(n / self._stream.info["sfreq"], _BUFFER)
        data, times = self._stream.get_data(seconds, exclude=())
        n = min(n, len(times))
        return self._to_volts * data[self._picks, -n:], times[-n:]

    def _connect(self, wait):
        stream = self._lsl.stream.StreamLSL(_BUFFER, name=self._name)
        stop = time.monotonic() + wait
        while True:
            try:
                return stream.connect(
                    acquisition_delay=None,
                    processing_flags=["clocksync"],
                    timeout=_WAIT,
                )
            except RuntimeError as err:
                if time.monotonic() < stop:
                    continue
                if not self._find(self._name, 1):
                    raise RuntimeError(
                        f"There is no LSL stream called {self._name!r}."
                    ) from err
                raise RuntimeError(
                    f"The LSL stream {self._name!r} cannot be read: {err}"
                ) from err

    def _check_free(self, out_name):
        """Refuse the name of a stream that exists, of which readers would get one."""
        if out_name == self._name or self._find(out_name, 1):
            raise ValueError(
                f"There is an LSL stream called {out_name!r} already. Give the stream "
                "of virtual contacts another name."
            )

    def _check_unique(self):
        """Refuse a name that several streams have."""
        found = self._find(self._name, 2)
        if len(found) > 1:
            sources = listed(sorted(each.source_id for each in found))
            raise ValueError(
                f"There are {len(found)} LSL streams called {self._name!r}, with the "
                f"sources {sources}. Rename one of them or end it."
            )

    def _find(self, name, minimum):
        """Return the streams of a name, waiting for this number of them."""
        return self._lsl.lsl.resolve_streams(_LOOK_AROUND, name=name, minimum=minimum)

    def _look_for_restart(self):
        """Connect to a new source of the same name, if there is one."""
        self._last = time.monotonic()
        found = self._find(self._name, 1)
        # liblsl may have found the new source by itself meanwhile.
        self._stream.acquire()
        if not self._stream.connected or self._stream.n_new_samples:
            return
        if found and self._stream.sinfo.uid not in {each.uid for each in found}:
            self._stream.disconnect()
            self._reconnect()

    def _reconnect(self):
        try:
            self._stream = self._connect(0.0)
        except RuntimeError:
            return  # not yet
        if _kind_of(self._stream.info) != self._kind:
            raise RuntimeError(
                f"The LSL stream {self._name!r} has come back with other channels, "
                "units or another rate. Start again."
            )
        logger.info("The stream %s is back.", self._name)

    def _publish(self, out_name):
        """Open the stream of virtual contacts."""
        info = _outlet_info(self.predictor)
        lsl = self._lsl.lsl
        sinfo = lsl.StreamInfo(
            out_name,
            "iEEG",
            len(info["chs"]),
            info["sfreq"],
            "float32",
            f"mne-neuroflow {out_name}",
        )
        sinfo.set_channel_info(info)
        sinfo.desc.append_child_value("description", self.predictor.info["description"])
        sinfo.desc.append_child_value("kind", f"virtual contacts, {SAYS_SO}")
        return lsl.StreamOutlet(sinfo, max_buffered=360)

    def _send(self, virtual, first, received):
        n = virtual.shape[-1]
        if not n:
            return
        marks = np.zeros(n)
        values = {"no scalp": NO_SCALP, "fewer draws": FEWER_DRAWS}
        for mark in self.predictor.marks:
            if mark.text in values:
                start = mark.first_sample - first
                marks[start : start + mark.n_samples] += values[mark.text]
        data = np.concatenate([virtual.reshape(-1, n), marks[None]])
        self._outlet.push_chunk(
            np.ascontiguousarray(data.T, np.float32), self._clock.times(first, n)
        )
        self.n_published += n
        self.delays.append(time.perf_counter() - received)

    def _keep_pace(self, spent, seconds, newest):
        """Use fewer draws if predictions are late, and more again later."""
        share = min(1.0, seconds / _PACE)
        self.factor += share * (spent / seconds - self.factor)
        behind = self._lsl.lsl.local_clock() - newest
        now = self.predictor.n_draws
        if behind > _BEHIND * self.predictor.hop and self.factor > 1:
            if now > 2 and self.predictor.draws_matter:
                self._use_draws(max(2, int(now / self.factor)))
            elif not self._is_slow:
                self._is_slow = True
                logger.warning(
                    "Prediction takes %.2f times the duration of the signal, which is "
                    "too long. Scalp EEG that waits for more than %g s is lost.",
                    self.factor,
                    _BUFFER,
                )
        elif self.factor < _EASY:
            self._is_slow = False
            if now < self._n_requested:
                self._use_draws(min(self._n_requested, 2 * now))

    def _use_draws(self, n_draws):
        logger.warning(
            "Prediction takes %.2f times the duration of the signal. Using %d draws "
            "from now on instead of %d.",
            self.factor,
            n_draws,
            self._n_requested,
        )
        self.predictor.n_draws = n_draws


def play(raw, name, *, chunk_size=16, n_repeat=None, seconds=None):
    """Play a recording as an LSL stream.

    Parameters
    ----------
    raw : Raw
        The recording.
    name : str
        Name of the stream.
    chunk_size : int
        Number of samples that are sent at once.
    n_repeat : int | None
        How often to play the recording. ``None`` repeats it until stopped.
    seconds : float | None
        Seconds after which to stop at the latest.
    """
    player = _import_lsl().player.PlayerLSL(
        raw.copy().load_data(),
        chunk_size,
        np.inf if n_repeat is None else n_repeat,
        name=name,
        source_id=name,
        annotations=False,
    )
    stop = np.inf if seconds is None else time.monotonic() + seconds
    with player:
        while player.running and time.monotonic() < stop:
            time.sleep(0.05)


def _import_lsl():
    try:
        import mne_lsl.lsl
        import mne_lsl.player
        import mne_lsl.stream
    except ImportError as err:
        raise ImportError(
            "LSL streams need mne-lsl: pip install 'mne-neuroflow[stream]'"
        ) from err
    return mne_lsl


def _in_volts(info, ch_names, montage, bads):
    """Return an Info of the same channels in volts, with what is known beside it."""
    info = info.copy()
    for ch in info["chs"]:
        ch["unit_mul"] = 0
    if ch_names is not None:
        here = info["ch_names"][: len(ch_names)]
        if len(here) < len(ch_names):
            raise ValueError(
                f"The stream has {len(here)} channels, but {len(ch_names)} names were "
                "given."
            )
        # The names that channels have may be among those that they get.
        for names in ([f"channel {k}" for k in range(len(here))], list(ch_names)):
            info.rename_channels(dict(zip(here, names, strict=True)), verbose=False)
            here = names
        others = dict.fromkeys(info["ch_names"][len(here) :], "misc")
        types = others | dict.fromkeys(here, "eeg")
        info.set_channel_types(types, on_unit_change="ignore", verbose=False)
    if montage is not None:
        info.set_montage(_find_montage(montage), match_case=False, on_missing="warn")
    absent = sorted(set(bads).difference(info["ch_names"]))
    if absent:
        raise ValueError(
            f"Bad channels that the stream does not have: {listed(absent)}. It has "
            f"{listed(info['ch_names'])}."
        )
    info["bads"] = sorted({*info["bads"], *bads})
    return info


def _find_montage(montage):
    """Return the name of a standard montage, or read a file."""
    if not Path(montage).exists():
        return str(montage)
    if str(montage).endswith((".fif", ".fif.gz")):
        return mne.channels.read_dig_fif(montage, verbose=False)
    return mne.channels.read_custom_montage(montage, verbose=False)


def _kind_of(info):
    """Return what must not change when a stream comes back."""
    return info["sfreq"], [(ch["ch_name"], ch["unit_mul"]) for ch in info["chs"]]


def _outlet_info(predictor):
    """Make the Info of the outlet: contacts for each output, and the marks."""
    contacts = predictor.info
    names = [
        f"{name} {output}" if len(predictor.outputs) > 1 else name
        for output in predictor.outputs
        for name in contacts["ch_names"]
    ]
    types = ["seeg"] * len(names) + ["misc"]
    info = mne.create_info([*names, "marks"], contacts["sfreq"], types, verbose=False)
    for k in range(len(names)):
        contact = contacts["chs"][k % len(contacts["chs"])]
        info["chs"][k]["loc"][:] = contact["loc"]
        info["chs"][k]["coord_frame"] = contact["coord_frame"]
    return info
