"""From LSL to LSL, on this machine alone."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import build_raw
from numpy.testing import assert_allclose, assert_array_equal

from mne_neuroflow.stream import StreamPredictor
from mne_neuroflow.stream.clock import SampleClock

CONTACTS = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
# Nothing is looked for beyond this machine.
CONFIG = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {127.0.0.1}
"""


# Numbers of samples -------------------------------------------------------------------


def test_clock_numbers_what_comes():
    """Gaps take numbers, jitter and slow drift take none.

    Seen to fail without following the drift.
    """
    clock = SampleClock(100.0)
    times = 5.0 + np.arange(3000) / 100.05  # a tenth of a second in three minutes
    times += 0.01 * np.sin(np.arange(3000))
    runs = [run for k in range(0, 3000, 30) for run in clock.place(times[k : k + 30])]
    assert [first for first, _ in runs] == list(range(0, 3000, 30))
    lost = times[-1] + 0.5 + np.arange(1, 21) / 100
    ((first, where),) = clock.place(lost)
    assert first == pytest.approx(3050, abs=2) and where == slice(0, 20)
    assert_allclose(clock.times(2990, 10), times[-10:])
    between = clock.times(3000, 50)
    assert np.all(np.diff(between) > 0)
    assert times[-1] < between[0] and between[-1] < lost[0]


def test_clock_keeps_few_arrays():
    """Samples that come one by one are not kept one by one, and not for ever.

    Seen to fail with an array for each.
    """
    clock = SampleClock(100.0)
    for k in range(9000):
        clock.place(np.array([k / 100]))
    assert len(clock._numbers) < 70
    assert sum(map(len, clock._numbers)) < 6200
    assert_allclose(clock.times(8000, 5), 80 + np.arange(5) / 100)


def test_clock_that_is_set_back():
    clock = SampleClock(256.0)
    clock.place(100 + np.arange(256) / 256)
    ((first, _),) = clock.place(3 + np.arange(10) / 256)
    assert first == 256
    two = clock.place(3 + np.r_[np.arange(10, 20), np.arange(1000, 1010)] / 256)
    assert [first for first, _ in two] == [266, 266 + 990]


# Streams ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lsl(tmp_path_factory):
    """The library, confined to this machine."""
    config = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    config.write_text(CONFIG, "utf-8")
    before = os.environ.get("LSLAPICFG")
    os.environ["LSLAPICFG"] = str(config)  # read when liblsl is loaded
    yield pytest.importorskip("mne_lsl.lsl")
    if before is None:
        del os.environ["LSLAPICFG"]
    else:
        os.environ["LSLAPICFG"] = before


class Source:
    """A scalp whose time stamps run faster than the clock."""

    def __init__(self, lsl, raw, name):
        self.raw, self.lsl, self.sfreq = raw, lsl, raw.info["sfreq"]
        self.name, self.start = name, lsl.local_clock()
        self.open()

    def open(self, source_id=None):
        kinds = (self.name, "EEG", len(self.raw.ch_names), self.sfreq, "float64")
        sinfo = self.lsl.StreamInfo(*kinds, source_id=source_id or self.name)
        sinfo.set_channel_info(self.raw.info)
        self.outlet = self.lsl.StreamOutlet(sinfo)

    def send(self, data, first):
        times = self.start + np.arange(first, first + data.shape[1]) / self.sfreq
        self.outlet.push_chunk(np.ascontiguousarray(data.T), times)
        return times


def run_until(relay, n_received, seconds=30):
    stop = time.monotonic() + seconds
    while relay.n_received < n_received:
        assert time.monotonic() < stop, f"{relay.n_received} of {n_received}"
        if not relay.step():
            time.sleep(0.002)


def open_inlet(lsl, name):
    (found,) = lsl.resolve_streams(timeout=10, name=name)
    inlet = lsl.StreamInlet(found)
    inlet.open_stream(timeout=10)
    return inlet


def pull(inlet, n_samples, seconds=20):
    data, times, stop = [], [], time.monotonic() + seconds
    while sum(map(len, times)) < n_samples and time.monotonic() < stop:
        one, at = inlet.pull_chunk(timeout=0.1, max_samples=100_000)
        data.append(one.copy())  # the inlet uses its buffer again
        times.append(at.copy())
    return np.concatenate(data).T, np.concatenate(times)


@pytest.mark.slow
def test_samples_that_arrive_during_a_search(lsl, small_model, monkeypatch):
    """After a pause, liblsl finds a source that has restarted while the relay searches.

    Seen to fail when the relay connects again without looking for these samples.
    """
    from mne_neuroflow.stream.lsl import Relay

    raw = build_raw(2.0, 128.0)
    source, data = Source(lsl, raw, "test search"), raw.get_data()
    options = dict(contacts=CONTACTS, wait=10, verbose="error")
    with Relay("test search", "test searched", **options) as relay:

        def search(name, seconds):
            source.send(data[:, 128:], 128)
            time.sleep(0.5)
            return [SimpleNamespace(uid="of another source")]

        source.send(data[:, :128], 0)
        run_until(relay, 128)
        monkeypatch.setattr(relay, "_find", search)
        relay._look_for_restart()
        run_until(relay, 256, seconds=5)


@pytest.mark.slow
def test_names_that_are_taken(lsl, small_model):
    """Nobody could know which of two streams of the same name is read.

    Seen to fail without the checks.
    """
    from mne_neuroflow.stream.lsl import Relay

    raw = build_raw(1.0, 128.0)
    source, other = (Source(lsl, raw, f"test {name}") for name in ("one", "taken"))
    options = dict(contacts=CONTACTS, wait=10, verbose="error")
    for taken in ("test taken", "test one"):
        with pytest.raises(ValueError, match=f"called '{taken}' already"):
            Relay("test one", taken, **options)
    other.name = "test one"
    other.open("second")
    with pytest.raises(ValueError, match="2 LSL streams called 'test one'"):
        Relay("test one", "test free", **options)
    del source


@pytest.mark.slow
def test_streams_that_cannot_be_read(lsl, small_model):
    """There is none, or it is one of texts.

    Seen to fail with what mne-lsl says of arguments that the user has not given.
    """
    from mne_neuroflow.stream.lsl import Relay

    with pytest.raises(RuntimeError, match="is no LSL stream called 'test absent'."):
        Relay("test absent", "test free", wait=0)
    sinfo = lsl.StreamInfo("test text", "Markers", 1, 0, "string", "test text")
    outlet = lsl.StreamOutlet(sinfo)
    with pytest.raises(RuntimeError, match="'test text' cannot be read: .* string"):
        Relay("test text", "test free", wait=0)
    del outlet


@pytest.mark.slow
def test_stream_that_says_little(lsl, small_model, tmp_path):
    """Numbered channels in microvolts, a trigger and no positions.

    Seen to fail with the unit of the stream.
    """
    from mne_neuroflow.stream.lsl import Relay

    raw = build_raw(4.0, 128.0)
    labels = [f"my {name}" for name in raw.ch_names]
    own = raw.copy().rename_channels(dict(zip(raw.ch_names, labels, strict=True)))
    own.get_montage().save(tmp_path / "cap_dig.fif")
    kinds = ("test bare", "EEG", 33, 128.0, "float32", "test bare")
    outlet = lsl.StreamOutlet(lsl.StreamInfo(*kinds))
    options = dict(contacts=CONTACTS, random_state=0, device="cpu", verbose="error")
    with pytest.raises(ValueError, match="has 33 channels, but 40 names"):
        Relay("test bare", "test v", ch_names=[str(k) for k in range(40)], **options)
    with pytest.raises(ValueError, match="'V', 'mV', 'uV', and 'nV', but got 'kV'"):
        Relay("test bare", "test v", unit="kV", **options)
    with pytest.raises(ValueError, match="does not have: Oz2"):
        Relay("test bare", "test v", bads=["Oz2"], ch_names=labels, **options)
    known = dict(unit="uV", montage=tmp_path / "cap_dig.fif", ch_names=labels)
    data = np.concatenate([1e6 * raw.get_data(), np.ones((1, 512))]).astype("float32")
    with Relay("test bare", "test v", bads=[labels[3]], **known, **options) as relay:
        assert relay.predictor.ch_names == labels[:3] + labels[4:]
        outlet.push_chunk(data.T.copy(), lsl.local_clock() + np.arange(512) / 128)
        run_until(relay, 512)
        learned = relay.predictor._listener.intake.data
    expected = raw.copy().drop_channels(raw.ch_names[3])
    direct = StreamPredictor(expected.info, **options)
    direct.push(expected.get_data())
    assert_allclose(learned, direct._listener.intake.data, atol=1e-9)
    places = (relay.predictor._sampler.inputs, direct._sampler.inputs)
    distances = [each._geometry[1].numpy() for each in places]
    assert_allclose(*distances, atol=2e-3)


@pytest.mark.slow
def test_source_that_comes_back_with_other_channels(lsl, small_model):
    """Its channels would be taken for those that were there before.

    Seen to fail without the check.
    """
    from mne_neuroflow.stream.lsl import Relay

    raw = build_raw(1.0, 128.0)
    source = Source(lsl, raw, "test change")
    options = dict(contacts=CONTACTS, device="cpu", verbose="error")
    with Relay("test change", "test changed", **options) as relay:
        del source.outlet
        source.raw = raw.copy().reorder_channels(raw.ch_names[::-1])
        source.open()
        stop = time.monotonic() + 30
        with pytest.raises(RuntimeError, match="come back with other channels"):
            while time.monotonic() < stop:
                relay.step()


@pytest.mark.slow
def test_from_lsl_to_lsl(lsl, small_model):
    """What is published is what the predictor gives, at the times of the scalp.

    Seen to fail with times one sample late, and with volts in microvolts.
    """
    from mne_neuroflow.stream.lsl import Relay

    raw = build_raw(8.0, 256.0)
    source = Source(lsl, raw, "test scalp")
    options = dict(contacts=CONTACTS, random_state=0, device="cpu")
    options["output"] = ["mean", ("quantile", 0.1)]
    options["n_draws"] = 4
    with Relay("test scalp", "test virtual", **options) as relay:
        inlet = open_inlet(lsl, "test virtual")
        sinfo = inlet.get_sinfo()
        info = sinfo.get_channel_info()
        assert "predicted, not recorded" in sinfo.as_xml
        times = []
        for first in range(0, 2048, 200):
            times.append(source.send(raw.get_data()[:, first : first + 200], first))
            run_until(relay, min(first + 200, 2048))
        relay.finish()
        data, at = pull(inlet, 2048)
    direct = StreamPredictor(raw.info, verbose="error", **options)
    virtual = direct.push(raw.get_data(direct.ch_names))[0]
    virtual = np.concatenate([virtual, direct.finish()[0]], -1)
    assert_array_equal(data[:-1], virtual.reshape(4, -1).astype(np.float32))
    assert not data[-1].any()
    assert_allclose(at, np.concatenate(times), atol=1e-3)
    names = direct.info["ch_names"]
    assert info["ch_names"][:2] == [f"{name} mean" for name in names]
    assert info.get_channel_types() == ["seeg"] * 4 + ["misc"]
    for k in range(4):
        loc = direct.info["chs"][k % 2]["loc"][:3]
        assert_allclose(info["chs"][k]["loc"][:3], loc, atol=1e-6)


@pytest.mark.slow
def test_faults(lsl, small_model):
    """Gaps, a restart, a dead channel: what arrived comes out, what did not is marked.

    Seen to fail with gaps closed up.
    """
    from mne_neuroflow.stream.lsl import NO_SCALP, Relay

    raw = build_raw(40.0, 128.0)
    data = raw.get_data()
    data[5, 1000:2000] = 0.0
    source = Source(lsl, raw, "test faults")
    rng = np.random.default_rng(0)
    options = dict(contacts=CONTACTS, random_state=0, device="cpu", verbose="error")
    with Relay("test faults", "test faulty", **options) as relay:
        inlet = open_inlet(lsl, "test faulty")
        number, sent, n_sent = 0, [], 0
        for turn in range(24):
            piece = int(rng.integers(40, 220))
            if turn == 12:
                del source.outlet
                source.open()
                stop = time.monotonic() + 30
                while not source.outlet.has_consumers and time.monotonic() < stop:
                    relay.step()
            if turn in (4, 8, 13):
                number += 70  # lost
            if turn == 17:
                number += 30 * 128  # too long to be filled
            part = data[:, n_sent : n_sent + piece]
            source.send(part, number)
            sent.append(np.arange(number, number + part.shape[1]))
            number, n_sent = number + part.shape[1], n_sent + part.shape[1]
            run_until(relay, n_sent)
        relay.finish()
        virtual, at = pull(inlet, relay.n_published)
    got = np.round((at - source.start) * 128).astype(int)
    sent = np.concatenate(sent)
    assert len(np.unique(got)) == len(got)
    assert np.all(np.isin(sent, got))
    invented = ~np.isin(got, sent)
    assert 180 < invented.sum() < 240
    assert_array_equal(virtual[-1].astype(int) & NO_SCALP, invented)
    assert np.isfinite(virtual).all()


@pytest.mark.slow
def test_too_slow_a_machine(lsl, small_model, caplog):
    """Draws are given up before samples, and that is said and marked."""
    from mne_neuroflow.stream.lsl import FEWER_DRAWS, Relay

    raw = build_raw(12.0, 128.0)
    source = Source(lsl, raw, "test slow")
    source.start -= 1000.0  # all of it is long overdue
    options = dict(contacts=CONTACTS, random_state=0, device="cpu", output="std")
    with Relay("test slow", "test slower", n_draws=16, **options) as relay:
        inlet = open_inlet(lsl, "test slower")
        step = relay.predictor._step

        def slow(*args):
            step(*args)
            time.sleep(0.05 * relay.predictor.n_draws)  # 16: 3.2 times as long

        relay.predictor._step = slow
        for first in range(0, len(raw.times), 64):
            source.send(raw.get_data()[:, first : first + 64], first)
            run_until(relay, first + 64)
        relay.finish()
        virtual, _ = pull(inlet, len(raw.times))
    assert relay.predictor.n_draws < 8
    assert virtual.shape[1] == len(raw.times)
    assert (virtual[-1] == FEWER_DRAWS).mean() > 0.5
    assert "times the duration of the signal" in caplog.text


@pytest.mark.slow
def test_commands(lsl, tmp_path):
    """Play a file, predict it, and read what is published."""
    raw = build_raw(20.0, 128.0)
    raw.save(tmp_path / "scalp_raw.fif", verbose="error")
    cli = [sys.executable, "-m", "mne_neuroflow.cli"]
    player = subprocess.Popen(
        [*cli, "play", tmp_path / "scalp_raw.fif", "--name", "test play"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    options = ["--contacts", "mtl-core", "--seed", "0", "--seconds", "25"]
    streamer = subprocess.Popen(
        [*cli, "stream", "test play", "--out", "test played", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = []
        stop = time.monotonic() + 90
        while not found and time.monotonic() < stop and streamer.poll() is None:
            found = lsl.resolve_streams(timeout=1, name="test played")
        assert found, streamer.communicate()[1]
        inlet = lsl.StreamInlet(found[0])
        inlet.open_stream(timeout=10)
        virtual, times = pull(inlet, 256, seconds=40)
        out, err = streamer.communicate(timeout=120)
    finally:
        for process in (player, streamer):
            process.kill()
            process.wait()
    assert streamer.returncode == 0, err
    assert "samples of" in out
    assert virtual.shape[1] >= 256 and np.isfinite(virtual).all()
    assert np.median(np.diff(times)) == pytest.approx(1 / 128, abs=1e-3)
