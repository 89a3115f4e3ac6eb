"""Virtual contacts while the recording runs."""

from dataclasses import replace

import mne
import numpy as np
import pytest
from conftest import build_raw
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import welch

import mne_neuroflow
from mne_neuroflow import _threads
from mne_neuroflow.contract import SFREQ
from mne_neuroflow.flow.sampler import Noise, contact_keys
from mne_neuroflow.head.contacts import contact_positions, make_contacts
from mne_neuroflow.predictor import Predictor
from mne_neuroflow.stream import LONGEST_GAP, Mark, StreamPredictor
from mne_neuroflow.stream.future import HORIZON, ORDER, Future, autocovariance

CONTACTS = np.array(
    [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018], [-0.05, -0.01, -0.02]]
)


def make_live(raw, **changes):
    kinds = dict(contacts=CONTACTS, random_state=3, device="cpu", verbose="error")
    return StreamPredictor(raw.info, **(kinds | changes))


def in_pieces(live, data, sizes, finish=True):
    """Push data in pieces of these sizes, in turn; return all that came out."""
    parts, first, k = [], 0, 0
    while first < data.shape[1]:
        part, at = live.push(data[:, first : first + sizes[k % len(sizes)]])
        assert at == sum(p.shape[-1] for p in parts)
        parts.append(part)
        first, k = first + sizes[k % len(sizes)], k + 1
    if finish:
        parts.append(live.finish()[0])
    return np.concatenate(parts, axis=-1)


def fit_map(model_file, smooth):
    """The small model with a map from pairs, in which contacts follow the scalp EEG."""
    scalp = build_raw(40.0, 128.0, seed=5, smooth=smooth)
    mixing = np.random.default_rng(1).standard_normal((len(CONTACTS), 32))
    noise = build_raw(40.0, 128.0, seed=6, smooth=smooth).get_data()[: len(CONTACTS)]
    data = 0.5 * np.roll(mixing @ scalp.get_data(), 3, axis=1) + noise
    montage = make_contacts(CONTACTS, verbose="error")
    info = mne.create_info(montage.ch_names, 128.0, "seeg", verbose=False)
    ieeg = mne.io.RawArray(data, info, verbose=False).set_montage(montage)
    model = mne_neuroflow.NeuroFlow(model_file)
    model.fit(scalp, ieeg, n_steps=0, verbose="error")
    return model


@pytest.fixture(scope="module")
def fitted_model(model_file):
    """A map from pairs whose channels are those of a head."""
    return fit_map(model_file, smooth=True)


@pytest.fixture(params=["weights", pytest.param("fitted", marks=pytest.mark.slow)])
def model(request, small_model):
    """The weights, and the same with a map from pairs."""
    if request.param == "weights":
        return "mtl-v2"
    return request.getfixturevalue("fitted_model")


@pytest.fixture
def live(raw, small_model):
    return make_live(raw)


@pytest.fixture
def scalp(raw, live):
    return raw.get_data(live.ch_names)


# Clock --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sfreq, model",
    [
        (100.0, "weights"),
        pytest.param(160.0, "fitted", marks=pytest.mark.slow),
        (999.9, "weights"),
        (2048.0, "weights"),
    ],
    indirect=["model"],
)
@pytest.mark.slow
def test_pieces_do_not_matter(sfreq, model):
    """The same bits for any pieces, one sample for each of the scalp.

    Seen to fail when a step took all samples that had arrived.
    """
    raw = build_raw(6.0, sfreq)
    found = []
    for sizes in ([len(raw.times)], [1 + int(sfreq / 90)], [3, 700, 1, 40]):
        live = make_live(raw, model=model)
        found.append(in_pieces(live, raw.get_data(live.ch_names), sizes))
    assert found[0].shape == (len(CONTACTS), len(raw.times))
    for other in found[1:]:
        assert_array_equal(found[0], other)


def test_twenty_kilohertz(small_model):
    raw = build_raw(3.0, 20_000.0, montage=True)
    live = make_live(raw)
    virtual = in_pieces(live, raw.get_data(live.ch_names), [5000, 333])
    assert virtual.shape == (len(CONTACTS), len(raw.times))
    assert 1e-6 < virtual.std() < 1e-3


@pytest.mark.parametrize("latency, hop", [(0.25, 0.25), (1.0, 0.25), (0.5, 0.125)])
def test_latency_is_kept(latency, hop, raw, small_model):
    """What waits is never older than the latency, nor younger than it less a hop.

    Seen to fail with one hop less given out.
    """
    live = make_live(raw, latency=latency, hop=hop)
    data, out = raw.get_data(live.ch_names), 0
    for stop in range(16, 1500, 16):
        part, _ = live.push(data[:, stop - 16 : stop])
        out += part.shape[-1]
        waits = (stop - out) / 256
        if stop >= 256:
            assert latency - hop - 1 / 256 <= waits <= latency
        else:
            assert out == 0


@pytest.mark.slow
def test_what_was_given_out_knew_no_more_than_its_latency(raw, model):
    """A scalp that changes after a moment changes nothing given out before.

    What comes later differs, so that the test can fail.
    """
    found = []
    for k in range(2):
        live = make_live(raw, latency=0.5, model=model)
        data = raw.get_data(live.ch_names)
        data[:, 1200:] *= 1 - k
        data[0, 1200:] += 1e-5 * k * np.sin(np.arange(data.shape[1] - 1200))
        before = in_pieces(live, data[:, :1200], [50], finish=False)
        found.append((before, live.push(data[:, 1200:])[0]))
    assert_array_equal(found[0][0], found[1][0])
    assert np.abs(found[0][1] - found[1][1]).max() > 1e-6


@pytest.mark.slow
def test_seed_makes_the_bits(raw, scalp, small_model):
    one, same, other = (
        make_live(raw, random_state=seed).push(scalp)[0] for seed in (1, 1, 2)
    )
    assert_array_equal(one, same)
    assert np.corrcoef(one[0], other[0])[0, 1] < 0.9


@pytest.mark.slow
def test_outputs(raw, scalp, small_model):
    """Several outputs at once are those that are asked for one by one."""
    several = ["sample", "median", ("quantile", 0.1), "std"]
    live = make_live(raw, output=several, n_draws=6)
    together, _ = live.push(scalp[:, :800])
    assert together.shape[:2] == (4, len(CONTACTS))
    for output, one in zip(several, together, strict=True):
        alone, _ = make_live(raw, output=output, n_draws=6).push(scalp[:, :800])
        assert_allclose(alone, one, rtol=1e-4, atol=1e-10)
    assert np.all(together[2] <= together[1])
    draws, _ = make_live(raw, output="draws", n_draws=6).push(scalp[:, :800])
    assert_allclose(draws.std(0, ddof=1), together[3], rtol=1e-4, atol=1e-10)
    assert_array_equal(draws[0], together[0])
    mean, _ = make_live(raw, output="mean", n_draws=6).push(scalp[:, :800])
    assert mean.std() < together[0].std()


# State --------------------------------------------------------------------------------


@pytest.mark.slow
def test_state_is_taken_up(raw, model, tmp_path):
    """Saved at any moment, also in a gap, the same bits follow.

    Seen to fail without each of the learner, its covariance for pairs, the samples and
    the last prediction.
    """
    kinds = dict(output=["sample", "std"], n_draws=4, model=model)
    one = make_live(raw, **kinds).warm_up(raw, verbose="error")
    data = raw.get_data(one.ch_names)
    data[:, 1000:1100] = np.nan
    data[4, 1500:] = 0
    for stop in (701, 1050, 2001):
        before = one._listener.intake.received
        one.push(data[:, before:stop])
        one.save_state(tmp_path / "state.npz")
        other = make_live(raw, **kinds).load_state(tmp_path / "state.npz")
        ahead = data[:, stop : stop + 700]
        assert other.bads == one.bads
        there, first = other.push(ahead)
        other_marks = other.marks
        here, at = one.push(ahead)
        assert (first, other_marks) == (at, one.marks)
        assert_array_equal(here, there)


def test_steps_use_one_thread_of_linear_algebra(live, scalp, monkeypatch):
    """A second one would wait actively between steps; seen to fail without the setting.

    Threads are as before afterwards.
    """

    def threads():
        return {one["num_threads"] for one in _threads._blas().info()}

    draw, seen = live._sampler.draw, []

    def listen(*args):
        seen.append(threads())
        return draw(*args)

    monkeypatch.setattr(live._sampler, "draw", listen)
    with _threads._blas().limit(limits=2):
        live.push(scalp[:, :600])
        assert threads() == {2}
    assert seen and all(each == {1} for each in seen)


def test_state_in_the_home_folder(live, raw, tmp_path, monkeypatch):
    """Seen to fail where ~ was taken for the name of a folder."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    live.save_state("~/state.npz")
    assert (tmp_path / "state.npz").is_file()
    make_live(raw).load_state("~/state.npz")


def test_state_replaces_what_came_before(raw, live, scalp, small_model, tmp_path):
    """Seen to fail with samples that had not yet been taken in before loading."""
    live.push(scalp[:, :901])
    live.save_state(tmp_path / "state.npz")
    used = make_live(raw)
    used.push(scalp[:, :777])
    used.load_state(tmp_path / "state.npz")
    ahead = scalp[:, 901:1800]
    assert_array_equal(used.push(ahead)[0], live.push(ahead)[0])


def test_estimates_may_be_of_any_age(raw, scalp, small_model):
    """Seen to fail with memory for the amplitudes of 4e9 seconds."""
    steady, common = (make_live(raw, half_life=each) for each in (1e9, 1e4))
    new = [each.push(scalp[:, :1200])[0] for each in (steady, common)]
    assert_allclose(*new, atol=1e-3 * new[0].std())


def test_state_of_another_is_refused(raw, live, small_model, tmp_path):
    """Other arguments, and other positions of the same electrodes.

    Seen to fail without the positions.
    """
    live.save_state(tmp_path / "state.npz")
    other = make_live(raw, random_state=4, latency=0.5)
    with pytest.raises(ValueError, match="other values: .*latency.*random_state"):
        other.load_state(tmp_path / "state.npz")
    moved = raw.copy()
    moved.info["chs"][3]["loc"][:3] *= 0.97
    with pytest.raises(ValueError, match="other values: positions"):
        make_live(moved).load_state(tmp_path / "state.npz")


def test_state_before_the_first_sample(raw, scalp, small_model, tmp_path):
    """What was learned from a baseline is kept for later.

    Seen to fail when the last sample was looked for among none.
    """
    live = make_live(raw, hop=1.0).warm_up(raw, verbose="error")
    live.save_state(tmp_path / "state.npz")
    other = make_live(raw, hop=1.0).load_state(tmp_path / "state.npz")
    assert_array_equal(other.push(scalp[:, :900])[0], live.push(scalp[:, :900])[0])


def test_files_without_a_state(live, tmp_path):
    """Seen to fail with the error of a missing key."""
    np.savez(tmp_path / "other.npz", x=1)
    np.save(tmp_path / "array.npy", np.zeros(3))
    live.save_state(tmp_path / "state.npz")
    whole = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("other.npz", "array.npy", "half.npz", "empty.npz"):
        with pytest.raises(ValueError, match=f"{name} is not a file from Stream"):
            live.load_state(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        live.load_state(tmp_path / "absent.npz")


def test_memory_does_not_grow(raw, scalp):
    """What is kept after half a minute is as large as after ten seconds.

    Seen to fail without dropping raw samples.
    """
    live = make_live(raw, hop=1.0)

    def size(thing, seen):
        if id(thing) in seen:
            return 0
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            return thing.nbytes
        if isinstance(thing, (list, tuple)):
            return sum(size(each, seen) for each in thing)
        if isinstance(thing, dict):
            return sum(size(each, seen) for each in thing.values())
        if type(thing).__module__.startswith("mne_neuroflow.stream"):
            return size(vars(thing), seen)
        return 0

    sizes = []
    for _ in range(3):
        live.push(scalp)
        sizes.append(size(live, set()))
    assert sizes[0] > 1e6
    assert max(sizes[1:]) <= 1.02 * sizes[0]


# Learning -----------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_what_the_whole_recording_tells(small_model):
    """After a while the stage is that of a recording which is known as a whole."""
    scalp, _ = mne_neuroflow.simulate_pair(
        "19", CONTACTS, 100, scenario="rest", artifacts=False, random_state=5
    )
    live = make_live(scalp, hop=1.0)
    assert live.observability is None
    data = scalp.get_data(live.ch_names)
    live.push(data[:, : 2 * SFREQ])
    first = live.observability
    live.push(data[:, 2 * SFREQ :])
    whole = mne_neuroflow.observability(scalp, CONTACTS)["observability"].to_numpy()
    montage = mne_neuroflow.observability(scalp.info, CONTACTS)
    assert np.all(first > 0.3 * montage["observability"])
    assert_allclose(live.observability, whole, atol=0.08)
    assert abs(first - whole).max() > 0.02


@pytest.mark.slow
def test_fitted_map_is_that_of_the_whole_recording(model_file):
    """The mean of the map, and what it explains, in a recording with a noisy electrode.

    Channels differ, so that the map does not depend on a few of them. Seen to fail with
    the covariance of the pairs in place of the running one.
    """
    fitted_model = fit_map(model_file, smooth=False)
    raw = build_raw(24.0, 128.0, seed=7, smooth=False)
    raw._data[3] += 5e-5 * np.random.default_rng(2).standard_normal(len(raw.times))
    live = make_live(raw, model=fitted_model, hop=1.0)
    data = raw.get_data(live.ch_names)
    live.push(data)
    whole = Predictor(raw, contacts=CONTACTS, model=fitted_model, random_state=3)
    assert live.ch_names == whole.scalp.ch_names
    wide = whole.scalp.to_model(9, 12)
    expected = whole.stage.mean(wide)
    found = live._stage().mean(wide)
    pairs = zip(found, expected, strict=True)
    assert min(np.corrcoef(*pair)[0, 1] for pair in pairs) > 0.95  # 0.70 without it
    assert_allclose(found.std(1), expected.std(1), rtol=0.25)
    assert_allclose(live.observability, whole.observability, atol=0.06)
    assert np.all(live.observability > 0.3)


@pytest.mark.slow
def test_fitted_map_keeps_to_its_electrodes(raw, fitted_model):
    """Absent channels are estimated, as offline; without half of them it is refused.

    An amplitude that is unlike that in the pairs is a warning that names the channel.
    Seen to fail without the check.
    """
    fewer = raw.copy().drop_channels(["Fz", "Pz"])
    live = make_live(fewer, model=fitted_model, hop=1.0)
    assert len(live.ch_names) == 30
    data = fewer.get_data(live.ch_names)
    data[live.ch_names.index("Oz")] *= 20
    with pytest.warns(RuntimeWarning, match="factor of 6 or more: Oz"):
        virtual, _ = live.push(data)
    assert np.isfinite(virtual).all()
    with pytest.raises(ValueError, match="More than half of the EEG channels"):
        make_live(raw.copy().pick(raw.ch_names[:15]), model=fitted_model)


@pytest.mark.slow
def test_recalibrated_contacts_keep_their_gain(raw, scalp, small_model, model_file):
    """Amplitudes are those of the pairs, even if the scalp EEG is twice as large.

    Seen to fail with the gain of the stream.
    """
    model = mne_neuroflow.NeuroFlow(model_file)
    fit = model.contact_fit_at(CONTACTS, ["a", "b", "c"])
    sizes = []
    for gain in (1.0, None):
        model.contact_fits = [replace(fit, gain=gain)]
        one, two = (
            make_live(raw, model=model, output="std", n_draws=6, hop=1.0).push(each)[0]
            for each in (scalp, 2 * scalp)
        )
        sizes.append(two.mean() / one.mean())
    assert sizes[0] < 1.3 and sizes[1] > 1.7


def test_warm_up(small_model):
    """A baseline, at another rate and with bad time, teaches what the stream would."""
    scalp, _ = mne_neuroflow.simulate_pair(
        "19", CONTACTS, 60, scenario="rest", artifacts=False, random_state=5
    )
    whole = mne_neuroflow.observability(scalp, CONTACTS)["observability"].to_numpy()
    baseline = scalp.copy().resample(200)
    baseline.set_annotations(mne.Annotations(10.0, 5.0, "BAD_moved"))
    start, stop = 2000, 3000
    baseline._data[:, start:stop] *= 50
    live = make_live(scalp).warm_up(baseline, verbose="error")
    live.push(scalp.get_data(live.ch_names, stop=2 * SFREQ))
    assert_allclose(live.observability, whole, atol=0.08)
    with pytest.raises(ValueError, match="lacks EEG channels of the stream: Fz"):
        live.warm_up(baseline.copy().drop_channels(["Fz"]))
    with pytest.raises(ValueError, match="too short: got 3.0 s"):
        live.warm_up(baseline.copy().crop(0, 3, include_tmax=False))


@pytest.mark.slow
def test_amplitude_is_followed(small_model):
    """Three times the amplitude: the virtual contacts follow without a jump.

    The same noise with and without the change, since a draw by itself may be twice as
    large in one quarter of a minute as in the next.
    """
    raw = build_raw(64.0, 128.0)
    changed, calm = 32 * SFREQ, 52 * SFREQ
    usual, larger = (
        in_pieces(make_live(raw, half_life=5.0, hop=0.5), data, [320])
        for data in (raw.get_data(), raw.get_data() * np.repeat([1, 3], changed))
    )
    before = slice(0, changed - 4 * SFREQ)
    assert_allclose(larger[:, before], usual[:, before], rtol=1e-4, atol=1e-9)
    assert_allclose(larger[:, calm:].std(1) / usual[:, calm:].std(1), 3.0, rtol=0.2)
    steps = np.abs(np.diff(larger))
    later = steps[:, calm:].max(1)
    assert np.all(steps[:, changed:calm].max(1) < 1.5 * later)


def test_warm_up_while_it_runs(raw, scalp, small_model):
    """Estimates of a baseline are used from the next step on, in mid-second too.

    Seen to fail when they were looked for at the next full second.
    """
    live = make_live(raw)
    first = live.push(scalp[:, :1100])[0]
    live.warm_up(raw, verbose="error")
    rest, at = live.push(scalp[:, 1100:1700])
    assert at == first.shape[-1] and np.isfinite(rest).all()


def test_microvolts_are_refused(raw, live, scalp):
    match = "seems to be in microvolts. Multiply the samples by 1e-6"
    with pytest.raises(ValueError, match=match):
        live.push(1e6 * scalp)


# What goes wrong ----------------------------------------------------------------------


@pytest.mark.slow
def test_gap_is_filled_and_marked(raw, scalp, model):
    """Draws of the prior stand in the gap, which the scalp around it does not move.

    Seen to fail without the prior, with the gap closed up, and for the map without the
    ordinary seconds of the baseline, of which the stream has none so early.
    """

    def begin():
        live = make_live(raw, model=model)
        return live if model == "mtl-v2" else live.warm_up(raw, verbose="error")

    whole = begin().push(scalp)[0]
    gap = slice(1300, 1812)
    broken = scalp.copy()
    broken[:, gap] = np.nan
    other = begin()
    virtual = other.push(broken)[0]
    assert other.marks == [Mark(1300, 512, "no scalp")]
    assert virtual.shape == whole.shape
    assert np.isfinite(virtual).all()
    # In the middle, nothing is left of the scalp: neither of this one nor of another.
    middle = slice(1300 + 90, 1812 - 90)
    lost = broken.copy()
    lost[:, 1000:1300] = lost[::-1, 1000:1300]
    third = begin().push(lost)[0]
    for where, alike in ((middle, True), (slice(1100, 1250), False)):
        pairs = zip(third[:, where], virtual[:, where], strict=True)
        r = [np.corrcoef(one, other)[0, 1] for one, other in pairs]
        assert np.all(np.array(r) > 0.98) == alike
    inside = np.abs(np.diff(virtual[:, 1200:1900])).max()
    assert inside < 2 * np.abs(np.diff(whole)).max()


@pytest.mark.slow
def test_lost_and_late_packets(raw, live, scalp):
    """What comes late but before it is due is as if it had never been late.

    Seen to fail without computing again what rests on it.
    """
    whole = live.push(scalp)[0]
    late = make_live(raw)
    parts = [late.push(scalp[:, :1030])[0]]
    parts.append(late.push(scalp[:, 1050:1070], first_sample=1050)[0])
    parts.append(late.push(scalp[:, 1030:1050], first_sample=1030)[0])
    parts.append(late.push(scalp[:, 1060:], first_sample=1060)[0])
    assert_array_equal(np.concatenate(parts, -1), whole)
    lost = make_live(raw)
    parts = [lost.push(scalp[:, :1000])[0]]
    parts.append(lost.push(scalp[:, 1100:], first_sample=1100)[0])
    assert lost.marks == [Mark(1000, 100, "no scalp")]
    assert sum(part.shape[-1] for part in parts) == whole.shape[-1]


@pytest.mark.slow
def test_bad_time_is_predicted_from_ordinary_seconds(small_model, monkeypatch):
    """The flow would take a mean of zeros for a quiet moment.

    Seen to fail with zeros.
    """
    raw = build_raw(22.0, SFREQ)
    live = make_live(raw)
    shown, conditions = [], live._sampler.inputs.conditions

    def noted(mean, *kinds):
        shown.append(mean)
        return conditions(mean, *kinds)

    monkeypatch.setattr(live._sampler.inputs, "conditions", noted)
    broken = raw.get_data(live.ch_names)
    live.push(broken[:, :2000])
    wide, seen = live._listener.ordinary, live._stage()
    assert wide.shape[1] == 4 * SFREQ
    shown.clear()
    broken[:, 2000:2600] = np.nan
    live.push(broken[:, 2000:2600])
    ordinary = seen.mean(wide)
    # Every second window is one of bad time; the others fade out in the gap.
    sizes = np.array([mean.std() for mean in shown]) / ordinary.std()
    assert (np.abs(sizes - 1) < 0.3).mean() > 0.4


def test_long_gap_is_left_out(raw, live, scalp):
    """Nothing of what arrived is lost, and both ends are where they belong."""
    first = live.push(scalp[:, :1000])[0]
    behind = 1000 + int((LONGEST_GAP + 1) * 256)
    rest, at = live.push(scalp, first_sample=behind)
    assert at == first.shape[-1] and at + rest.shape[-1] == 1000
    assert Mark(1000, behind - 1000, "gap") in live.marks
    more, at = live.push(np.empty((len(scalp), 0)))
    assert at == behind
    last, at = live.finish()
    assert at == behind + more.shape[-1]
    assert more.shape[-1] + last.shape[-1] == scalp.shape[1]


@pytest.mark.slow
def test_channel_that_dies_and_comes_back(model):
    """It is estimated from the others, whatever its offset is.

    Seen to fail with the dead channel left in the average, and with the step of its
    offset in the high-pass.
    """
    raw = build_raw(24.0, 256.0)
    kinds = dict(output="mean", n_draws=2, hop=0.5, model=model)
    live = make_live(raw, **kinds)
    data = raw.get_data(live.ch_names)
    whole = live.push(data)[0]
    broken = data + 0.02 * np.arange(len(data))[:, None] / len(data)
    broken[7, 2560:4096] = 0.0
    broken[9, 3000:3600] = np.nan
    broken[11, 2800:3300] *= 1e4
    other = make_live(raw, **kinds)
    parts, seen = [], set()
    for first in range(0, data.shape[1], 64):
        parts.append(other.push(broken[:, first : first + 64])[0])
        seen |= set(other.bads)
        assert not other.marks
    assert seen == {live.ch_names[k] for k in (7, 9, 11)}
    assert other.bads == []
    virtual = np.concatenate(parts, -1)
    during = slice(2816, 4096)
    error = virtual[:, during] - whole[:, during]
    assert np.all(error.std(1) < 0.6 * whole[:, during].std(1))
    steps = np.abs(np.diff(virtual)).max(1)
    assert np.all(steps < 1.5 * np.abs(np.diff(whole)).max(1))


def test_estimated_channels_leave_the_posterior_as_it_is(raw, live):
    """The mean of the contacts given the others, by the law of total expectation."""
    listener = live._listener
    pattern = np.zeros(len(live.ch_names), bool)
    pattern[[2, 9]] = True
    filling = listener._make_filling(pattern.tobytes())
    model, deep = live._scalp_model, live._deep
    cross = deep @ model.sources.T @ np.linalg.pinv(model.whitener).T
    covariance = listener._expected
    seen = (np.eye(len(pattern)) - 1 / (~pattern).sum())[~pattern]
    seen[:, pattern] = 0
    alone = cross @ seen.T @ np.linalg.pinv(seen @ covariance @ seen.T, hermitian=True)
    filled = cross @ np.linalg.pinv(covariance, hermitian=True) @ filling
    assert_allclose(filled, alone @ seen, atol=1e-6 * abs(filled).max())


def test_fewer_draws_are_marked(raw, scalp, small_model):
    live = make_live(raw, output="std", n_draws=8)
    live.push(scalp[:, :1000])
    live.n_draws = 2
    virtual, first = live.push(scalp[:, 1000:1500])
    assert live.marks == [Mark(first, virtual.shape[-1], "fewer draws")]
    live.n_draws = 8
    live.push(scalp[:, 1500:])
    assert live.marks == []


@pytest.mark.parametrize(
    "changes, match",
    [
        (dict(latency=0.1), "'latency' parameter. .* from hop, 0.25, to 30, but got"),
        (dict(hop=0.3), "'hop' parameter. Allowed values are multiples of 1/128 s"),
        (dict(hop=2.0, latency=4.0), "from 0.0625 to 1 s, but got 2 s"),
        (dict(half_life=0.0), "'half_life' parameter. .* from 1 on, but got 0"),
        (dict(output=["mean", "mode"]), "'output' parameter"),
        (dict(n_draws=1), "'n_draws' parameter"),
    ],
)
def test_wrong_values(changes, match, raw, small_model):
    with pytest.raises(ValueError, match=match):
        make_live(raw, **changes)


def test_wrong_samples(live, scalp):
    with pytest.raises(ValueError, match=r"shape \(32, n\), .* got shape \(31, 3072\)"):
        live.push(scalp[:31])
    with pytest.raises(TypeError, match="real numbers in volts, got complex128"):
        live.push(scalp.astype(complex))
    with pytest.raises(TypeError, match="first_sample must be an instance of int"):
        live.push(scalp, first_sample=0.5)
    with pytest.raises(ValueError, match="at least 100 Hz"):
        make_live(build_raw(2.0, 64.0))


def test_info_says_that_it_is_predicted(raw, live):
    assert live.info["sfreq"] == raw.info["sfreq"]
    assert set(live.info.get_channel_types()) == {"seeg"}
    assert "predicted, not recorded" in live.info["description"]
    assert "seed 3" in live.info["description"]


# The missing future -------------------------------------------------------------------


def test_future_of_an_oscillation():
    """A damped oscillation goes on, and its level stays.

    Seen to fail with the coefficients in the other order.
    """
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, 60 * SFREQ))
    coefficients = np.array([2 * 0.98 * np.cos(2 * np.pi * 10 / SFREQ), -(0.98**2)])
    data = np.zeros_like(noise)
    for k in range(2, noise.shape[1]):
        data[:, k] = coefficients @ data[:, [k - 1, k - 2]].T + noise[:, k]
    future = Future(autocovariance(data))
    known = data[:, : 50 * SFREQ]
    extended = future.extend(known + 1e3, HORIZON + 10)
    assert_array_equal(extended[:, : known.shape[1]], known + 1e3)
    expected = [known[:, -2], known[:, -1]]
    for _ in range(20):
        expected.append(coefficients[0] * expected[-1] + coefficients[1] * expected[-2])
    ahead = extended[:, known.shape[1] :] - 1e3
    assert_allclose(ahead[:, :20], np.stack(expected[2:], 1), atol=1.5)
    assert np.abs(ahead[:, HORIZON - 20 :]).max() < 1.0
    assert future.extend(known[:, :ORDER], 0).shape[1] == ORDER


# The signal stays whole ---------------------------------------------------------------


def border_measures(virtual, border):
    """Compare what lies across borders, every 32 samples, with what lies inside.

    Returns the ratios of curvature, of fast power and of the correlation of
    neighbouring samples.
    """
    curved = np.abs(np.diff(virtual, 2)) / virtual.std(1, keepdims=True)
    at = np.arange(curved.shape[1]) + 2  # the last of three samples
    phase = (at - border) % 32
    across, inside = (phase == 0) | (phase == 1), (phase > 4) & (phase < 29)
    jump = np.sqrt((curved[:, across] ** 2).mean() / (curved[:, inside] ** 2).mean())

    def pieces(offset):
        start = np.arange(32 + (border + offset) % 32, virtual.shape[1] - 32, 32)
        return virtual[:, start[:, None] + np.arange(-16, 16)]

    def fast(offset):
        freqs, power = welch(pieces(offset), SFREQ, nperseg=32)
        return power[..., (freqs >= 24) & (freqs <= 48)].mean()

    power = fast(0) / np.mean([fast(offset) for offset in (8, 16, 24)])
    steps = np.diff(virtual) ** 2
    phase = (np.arange(steps.shape[1]) + 1 - border) % 32
    decorrelation = steps[:, phase == 0].mean()
    decorrelation /= steps[:, (phase > 4) & (phase < 29)].mean()
    return jump, power, decorrelation


class PlainCuts(StreamPredictor):
    """Predicts every window for itself and puts the pieces end to end."""

    def _step(self, due, *args):
        contacts = [ch["loc"][:3] for ch in self.info["chs"]]
        self._sampler.noise = Noise(due, contact_keys(contacts), "cpu")
        self._before = None
        super()._step(due, *args)


@pytest.mark.slow
def test_borders_are_as_the_inside():
    """Jumps, fast power and correlation, with the shipped weights.

    They are compared with those of the whole recording, in which there are no borders
    and the noise is the same. The same test finds the borders where windows are
    predicted apart: 1.9 to 2.4 times the jumps, 5 to 7.5 times the squared steps.
    """
    positions = contact_positions(make_contacts("mtl-core"))[1]
    contacts = positions[np.random.default_rng(0).permutation(len(positions))[:12]]
    scalp, _ = mne_neuroflow.simulate_pair("32", contacts, 20, random_state=11)
    options = dict(contacts=contacts, random_state=0, verbose="error")
    whole = mne_neuroflow.predict_ieeg(scalp, **options).get_data()
    found = []
    for kind in (StreamPredictor, PlainCuts):
        live = kind(scalp.info, **options).warm_up(scalp, verbose="error")
        virtual = live.push(scalp.get_data(live.ch_names))[0]
        both = (each[:, 3 * SFREQ : virtual.shape[1]] for each in (virtual, whole))
        here, there = (np.array(border_measures(each, border=0)) for each in both)
        found.append(here / there)
    assert_allclose(found[0], 1.0, atol=0.04)
    jump, _, decorrelation = found[1]
    assert jump > 1.4 and decorrelation > 2
