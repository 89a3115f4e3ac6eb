"""Fitting to pairs: maps, calibration, splits, round trips, and what is refused."""

import copy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import mne
import numpy as np
import pytest
import torch
from flow_cases import make_conditions_of, make_flow, mixture_density
from small_model import one_thread, save_small_model, use_model

from mne_neuroflow import (
    NeuroFlow,
    estimator,
    predict_ieeg,
    score_ieeg,
    sessions,
    spatial,
)
from mne_neuroflow.estimator import _Patient
from mne_neuroflow.flow.marginal import Marginal, fit_marginal
from mne_neuroflow.head.contacts import make_contacts
from mne_neuroflow.head.ridge import N_LAGS, fit_lagged_map
from mne_neuroflow.predictor import Predictor
from mne_neuroflow.scores.tensors import inside
from mne_neuroflow.sessions import pair_up, shifted_coherence
from mne_neuroflow.training import pairs as training_on_pairs
from mne_neuroflow.training.pairs import (
    estimate_amplitudes,
    fine_tune,
    level_errors,
    remove_location,
)
from mne_neuroflow.weights.model import empty_contact_fit

POINTS = np.array(
    [
        [-0.027, -0.020, -0.018],
        [0.027, -0.020, -0.018],
        [-0.023, -0.004, -0.022],
        [0.055, -0.020, -0.015],
    ]
)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    with one_thread():
        yield save_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def small_model(monkeypatch, model_file):
    use_model(monkeypatch, model_file)
    monkeypatch.setattr(estimator, "_N_DRAWS", 12)
    monkeypatch.setattr(training_on_pairs, "_HEAD_STEPS", 2)


@pytest.fixture
def make_raw(make_raw):
    """Channels of which none can be predicted from the others, so that maps differ."""
    return partial(make_raw, smooth=False)


@pytest.fixture
def pair(make_raw):
    return make_pair(make_raw)


def make_pair(make_raw, n_seconds=36.0, points=POINTS, seed=0, delay=0):
    """Scalp, and contacts that follow two electrodes each, under noise, volts."""
    scalp = make_raw(n_seconds, 128.0, seed=seed)
    scalp.pick(scalp.ch_names[:10])
    rng = np.random.default_rng(5)
    # As smooth over the head as what sources make: neighbours share most of it.
    places = np.array([ch["loc"][:3] for ch in scalp.info["chs"]])
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    shared = np.exp(-0.5 * (distance / 0.06) ** 2)
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    scalp.apply_function(lambda x: shared @ x, channel_wise=False, verbose=False)
    mixing = np.zeros((len(points), len(scalp.ch_names)))
    for row in mixing:
        row[rng.choice(len(row), 2, replace=False)] = (3, -2)
    noise = make_raw(n_seconds, 128.0, seed=seed + 100).get_data()[: len(points)]
    data = np.roll(mixing @ scalp.get_data(), 3 + delay, axis=1) + noise
    montage = make_contacts(points, verbose="error")
    info = mne.create_info(montage.ch_names, 128.0, "seeg", verbose=False)
    ieeg = mne.io.RawArray(data, info, verbose=False)
    return scalp, ieeg.set_montage(montage, verbose=False)


def fit(model, pair, **options):
    given = dict(n_steps=2, random_state=0, verbose="error")
    return model.fit(*pair, **{**given, **options})


# The map ------------------------------------------------------------------------------


def make_blocks(n_blocks=4, n_times=1500, n_electrodes=5, n_contacts=3, signal=1.0):
    """Blocks of white scalp, and contacts that follow it three samples later."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((n_contacts, n_electrodes))
    blocks = []
    for _ in range(n_blocks):
        scalp = rng.standard_normal((n_electrodes, n_times + 2 * N_LAGS))
        deep = signal * true @ scalp[:, N_LAGS - 3 : N_LAGS - 3 + n_times]
        noise = rng.standard_normal((n_contacts, n_times))
        blocks.append([(scalp, deep + noise)])
    return blocks, true


def test_lagged_map_finds_what_there_is():
    """Weights within 0.1 of the truth at its lag, none elsewhere; unit residuals.

    Seen to fail with the lags the other way round.
    """
    blocks, true = make_blocks()
    nothing = np.zeros_like(true)
    lagged, others = fit_lagged_map(blocks, nothing, np.eye(3))
    expected = np.zeros((*true.shape, 2 * N_LAGS + 1))
    expected[..., N_LAGS - 3] = true
    np.testing.assert_allclose(lagged.weights, expected, atol=0.1)
    np.testing.assert_allclose(lagged.covariance, np.eye(3), atol=0.1)
    share = (true**2).sum(1) / ((true**2).sum(1) + 1)
    np.testing.assert_allclose(lagged.explained, share, atol=0.03)
    assert len(others) == len(blocks)
    scalp, deep = blocks[0][0]
    left = deep - replace(lagged, weights=others[0]).mean(scalp)
    np.testing.assert_allclose(left.var(axis=1), 1, atol=0.15)


def test_lagged_map_falls_back():
    """Without anything to learn it is the physics, or nothing if that is better.

    Seen to fail when the parts left out are not left out, and without the physics.
    """
    blocks, true = make_blocks(n_times=60, signal=0.0)
    lagged, _ = fit_lagged_map(blocks, 5 * true, np.eye(3))
    assert np.abs(lagged.weights).max() < 0.1
    assert (lagged.explained < 0.05).all()
    rng = np.random.default_rng(1)
    physics = [
        [(scalp, true @ scalp[:, N_LAGS:-N_LAGS] + rng.standard_normal(deep.shape))]
        for ((scalp, deep),) in blocks
    ]
    lagged, _ = fit_lagged_map(physics, true, np.eye(3))
    np.testing.assert_allclose(lagged.weights[..., N_LAGS], true, atol=0.05)


# The calibration ----------------------------------------------------------------------


def make_departures(log_scale, n_seconds=40):
    """Draws of unit variance, and truth of these scales, one sample per second."""
    rng = np.random.default_rng(0)
    shape = len(log_scale), n_seconds
    truth = np.exp(log_scale)[:, None] * rng.standard_normal(shape)
    found = estimator._Departures.__new__(estimator._Departures)
    found.truth = torch.as_tensor(truth)
    found.draws = torch.as_tensor(rng.standard_normal((100, *shape)))
    zero = torch.zeros_like(found.truth[:, :1])
    found.start = Marginal(zero, zero + 1, zero, zero)
    found.chance = 1 / (2 * n_seconds)
    return found


def test_calibration_shrinks_what_may_be_chance():
    """Scales that differ by no more than chance are one, others keep their own.

    Seen to fail without the shrinkage of the differences and without that of the
    common scale.
    """
    alike = estimator._calibrate(make_departures(np.zeros(60)))[:, 0]
    assert alike.std() < 0.05
    assert abs(alike.mean()) < 0.08
    own = np.random.default_rng(1).normal(0, 0.6, 60)
    found = estimator._calibrate(make_departures(own))[:, 0]
    assert np.polyfit(own, found, 1)[0] == pytest.approx(1, abs=0.15)


def test_intervals_that_are_too_narrow_are_widened():
    """Draws are far too wide, and the truth is rarely large.

    Seen to fail without the widening (90-percent intervals held 85 percent). Intervals
    that are wide enough, or too narrow by chance, stay as they are.
    """
    rng = np.random.default_rng(2)
    large = 4 * np.sign(rng.standard_normal((30, 240)))
    small = 0.5 * rng.standard_normal((30, 240))
    truth = torch.as_tensor(np.where(rng.random((30, 240)) < 0.15, large, small))
    found = make_departures(np.zeros(30), n_seconds=120)
    found.draws = 6 * found.draws * found.draws.abs().sqrt()
    found.truth = truth[:, :120]
    calibration = estimator._calibrate(found)
    change = torch.as_tensor(estimator._widened(found, calibration))
    share = inside(found.calibrated(change), truth[:, 120:], 0.9).double().mean()
    assert share == pytest.approx(0.9, abs=0.02)
    wide = calibration + [0.7, 0]
    np.testing.assert_array_equal(estimator._widened(found, wide), wide)
    alike = make_departures(np.zeros(60))
    kept = estimator._widened(alike, np.full((60, 2), [-0.05, 0]))
    np.testing.assert_allclose(kept, np.full((60, 2), [-0.05, 0]), atol=0.02)


def calibrated(conditions, log_scale=0.4, tail=-0.3):
    values = conditions.calibration.new_tensor([log_scale, tail])
    per_contact = torch.linspace(0.5, 1.5, conditions.mean.shape[1])[:, None]
    return replace(conditions, calibration=(per_contact.double() * values)[None])


@pytest.mark.slow
def test_calibrated_density_is_exact():
    """Sampling inverts scoring, and the log-determinant is that of autograd.

    Seen to fail without the log-slope, and with its sign turned.
    """
    conditions = calibrated(make_conditions_of(2, 1))
    flow = make_flow(scale=0.05)
    distribution = flow.condition(conditions)
    noise = torch.randn(
        1, 2, 1, 128, generator=torch.Generator().manual_seed(0)
    ).double()

    def sample(flat):
        return distribution.sample(flat.view_as(noise)).flatten()

    with torch.enable_grad():
        jacobian = torch.autograd.functional.jacobian(sample, noise.flatten())
    base = mixture_density(noise, distribution.amplitudes)
    expected = base - torch.linalg.slogdet(jacobian)[1]
    found = distribution.log_prob(distribution.sample(noise)).sum()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_calibration_widens_about_the_mean():
    """With a scale of two, departures from the posterior mean double exactly.

    Seen to fail with a scale of the exponential of twice the logarithm.
    """
    conditions = make_conditions_of(3, 2)
    flow = make_flow(scale=0.05)
    noise = torch.randn(
        4, 3, 2, 128, generator=torch.Generator().manual_seed(0)
    ).double()
    plain = flow.condition(conditions).sample(noise)
    double = torch.zeros_like(conditions.calibration)
    double[..., 0] = np.log(2)
    wide = flow.condition(replace(conditions, calibration=double)).sample(noise)
    centre = conditions.gain[:, None, None] * conditions.mean
    torch.testing.assert_close(wide - centre, 2 * (plain - centre))


def test_marginal_fit_finds_scale_and_tail():
    """Draws too narrow and too light-tailed come to cover what they should.

    To 2 points of 50 and of 90 per cent. Seen to fail when the share of sorted draws
    is left out of the score.
    """
    rng = torch.Generator().manual_seed(0)
    true = Marginal(*(torch.full((6, 1), v) for v in (0.0, 1.0, 0.5, -0.4)))
    draws = torch.randn(60, 6, 4000, generator=rng)
    truth = true.apply(torch.randn(6, 4000, generator=rng))
    plain = Marginal(*(torch.full((6, 1), v) for v in (0.0, 1.0, 0.0, 0.0)))
    weight = fit_marginal(draws, truth, plain, torch.ones(6, 1))
    found = replace(
        plain,
        log_scale=plain.log_scale + weight[0, 0],
        tail=plain.tail + weight[0, 1],
    )
    for level in (0.5, 0.9):
        assert abs(inside(draws, truth, level).mean() - level) > 0.1
        covered = inside(found.apply(draws), truth, level).mean()
        assert covered.item() == pytest.approx(level, abs=0.02)


# Fine-tuning --------------------------------------------------------------------------


def test_flow_without_location_keeps_the_mean():
    """It is that of the spatial stage: exactly without noise, else to 0.1 s.d.

    Seen to fail when the trust, the shift of a level or that of a coupling step is
    left.
    """
    conditions = make_conditions_of(3, 4)
    flow = make_flow(scale=0.1)
    remove_location(flow)
    with torch.no_grad():
        quiet = flow.condition(conditions).sample(torch.zeros(1, 3, 4, 128).double())
    mean = conditions.gain[:, None, None] * conditions.mean
    torch.testing.assert_close(quiet, mean)
    noise = torch.randn(200, 3, 4, 128, generator=torch.Generator().manual_seed(0))
    noise = torch.cat([noise, -noise]).double()
    with torch.no_grad():
        draws = flow.condition(conditions).sample(noise)
    centre = conditions.gain[:, None, None] * conditions.mean
    drift = ((draws.mean(0) - centre[0]) / draws.std(0)).square().mean().sqrt()
    assert drift < 0.1


@pytest.mark.slow
def test_fine_tuning_stops_and_keeps_the_best(pair):
    """The weights that come back are those of the lowest held-out loss.

    Seen to fail when the last weights are kept.
    """
    model = NeuroFlow.load()
    ((session,),) = pair_up(*pair, model, "fsaverage", "ignore")
    patient = _Patient([session], "fitted")
    train, held_out = patient.stretches(False), patient.stretches(True)
    before = copy.deepcopy(model.flow.state_dict())
    options = dict(evaluate_every=1, patience=2, located=False)
    flow, history = fine_tune(model.flow, train, held_out, n_steps=8, **options)
    least = min(range(len(history)), key=lambda k: history[k]["held_out"])
    _, same = fine_tune(flow, train, held_out, n_steps=0, **options)
    assert same[0]["held_out"] == pytest.approx(history[least]["held_out"], abs=1e-5)
    for name, value in model.flow.state_dict().items():
        assert torch.equal(value, before[name])
    worse, history = fine_tune(flow, train, held_out, n_steps=8, peak=30.0, **options)
    assert len(history) == 3  # the start and two that were worse
    for name, value in worse.state_dict().items():
        assert torch.equal(value, flow.state_dict()[name])


def test_last_layer_is_for_the_head_model_alone(pair):
    """A map from pairs has residuals of its own, which the pairs calibrate.

    Seen to fail when the last layer is kept with a map, and when it is lost without.
    """
    model = NeuroFlow.load()
    model.flow.calibration.weight += 0.1
    ((session,),) = pair_up(*pair, model, "fsaverage", "ignore")
    for located in (False, True):
        patient = _Patient([session], "physics" if located else "fitted")
        stretches = patient.stretches(True)
        flow, _ = fine_tune(
            model.flow, stretches, stretches, n_steps=0, located=located
        )
        expected = located * model.flow.calibration.weight
        assert torch.equal(flow.calibration.weight, expected)


# The estimator ------------------------------------------------------------------------


@pytest.mark.slow
def test_fit_predicts_what_follows(make_raw):
    """It follows contacts that the physics cannot know; intervals cover 90 % to 8.

    Seen to fail when each part is predicted by a map that has seen it.
    """
    model = NeuroFlow.load()
    whole = make_pair(make_raw, 90.0)
    history = fit(model, [raw.copy().crop(0, 45) for raw in whole])
    assert list(history.columns) == ["step", "train", "held_out"]
    scalp, ieeg = (raw.copy().crop(47) for raw in whole)
    known = dict(contacts=ieeg.info, model=model, random_state=0, verbose="error")
    mean = predict_ieeg(scalp, output="mean", n_draws=10, **known).get_data()
    r = [np.corrcoef(*rows)[0, 1] for rows in zip(mean, ieeg.get_data(), strict=True)]
    assert min(r) > 0.75
    draws = model.sample(scalp, 40, random_state=0, verbose="error")
    assert list(draws.channel.values) == ieeg.ch_names
    truth = torch.as_tensor(ieeg.get_data()[..., 128:-128], dtype=torch.float32)
    covered = inside(torch.as_tensor(draws.values[..., 128:-128]), truth, 0.9)
    assert covered.mean().item() == pytest.approx(0.9, abs=0.08)
    fitted, plain = (
        score_ieeg(scalp, ieeg, model=which, verbose="error").mean().item()
        for which in (model, "mtl-v2")
    )
    assert fitted > plain


@pytest.mark.slow
def test_fit_is_reproducible_and_survives_saving(pair, tmp_path):
    """Seen to fail when the map is saved with float16's digits.

    The pointwise head follows the flow: seen to fail where it is left as it was.
    """
    model, again = NeuroFlow.load(), NeuroFlow.load()
    before = copy.deepcopy(model.flow.pointwise.state_dict())
    fit(model, pair)
    fit(again, pair)
    assert model.sha256 == again.sha256
    after = model.flow.pointwise.state_dict()
    assert not any(torch.equal(after[name], value) for name, value in before.items())
    fname = model.save(tmp_path / "mine.safetensors")
    loaded = NeuroFlow.load(fname)
    assert loaded.sha256 == model.sha256
    assert loaded.card["pairs"][0]["seconds"] == 36
    known = dict(contacts=pair[1].info, random_state=0, verbose="error")
    one, other = (
        predict_ieeg(pair[0], model=which, **known) for which in (model, fname)
    )
    np.testing.assert_array_equal(one.get_data(), other.get_data())
    assert f"model mine (sha256 {model.sha256[:12]})" in other.info["description"]


@pytest.mark.slow
def test_some_contacts_and_more_electrodes(pair):
    """Contacts may be left out and reordered; other EEG channels change nothing.

    Seen to fail when the map's rows keep the order of the fit.
    """
    model = NeuroFlow.load()
    scalp, ieeg = pair
    fewer = scalp.copy().pick(scalp.ch_names[:9])
    fit(model, (fewer, ieeg))
    known = dict(model=model, output="mean", n_draws=2, random_state=0, verbose="error")
    some = ieeg.copy().pick(ieeg.ch_names[::-2])
    one = predict_ieeg(scalp, contacts=some.info, **known)
    other = predict_ieeg(fewer, contacts=some.info, **known)
    np.testing.assert_allclose(one.get_data(), other.get_data(), atol=1e-12)
    assert one.ch_names == ieeg.ch_names[::-2]
    for rows in zip(one.get_data(), some.get_data(), strict=True):
        assert np.corrcoef(*rows)[0, 1] > 0.75


@pytest.mark.slow
def test_bad_electrodes_are_filled_in(pair):
    """One that is missing, bad, noisy or silent costs little, whichever it is.

    Seen to fail when only names are looked at, not how strong a channel is or how
    silent.
    """
    model = NeuroFlow.load()
    scalp, ieeg = pair
    fit(model, pair)
    known = dict(contacts=ieeg.info, model=model, output="mean", n_draws=2)

    def predicted(inst):
        return predict_ieeg(inst, **known, random_state=0, verbose="error").get_data()

    marked, noisy, silent = (scalp.copy() for _ in range(3))
    marked.info["bads"] = [scalp.ch_names[4]]
    silent._data[4] = silent._data.mean(0) + 0.01 * silent._data[4]
    rng = np.random.default_rng(0)
    noisy._data[4] += 1e-4 * rng.standard_normal(noisy.n_times)
    missing = predicted(scalp.copy().drop_channels([scalp.ch_names[4]]))
    np.testing.assert_allclose(predicted(marked), missing, atol=1e-12)
    for other in (marked, noisy, silent):
        np.testing.assert_allclose(predicted(other), missing, atol=1e-12)
    for rows in zip(missing, predicted(scalp), strict=True):
        assert np.corrcoef(*rows)[0, 1] > 0.5


@pytest.mark.slow
def test_noisier_electrodes_mislead_little(pair):
    """An electrode three times as strong costs less than half of what it would.

    And the intervals know of it. Seen to fail without the filter, and without its
    error in the covariance.
    """
    model = NeuroFlow.load()
    scalp, ieeg = pair
    fit(model, pair)
    noisy = scalp.copy()
    rng = np.random.default_rng(0)
    spread = noisy._data[4].std()
    noisy._data[4] += 3 * spread * rng.standard_normal(noisy.n_times)
    contacts, (contact_fit,) = ieeg.info, model.contact_fits

    def seen(inst):
        predictor = Predictor(
            inst, contacts=contacts, model=model, random_state=0, on_mismatch="ignore"
        )
        mean = predictor.conditions(1, 30).mean[0].numpy()
        return mean, predictor.scalp.to_model(1, 30) / contact_fit.gain, predictor

    calm, usual, before = seen(scalp)
    strong, unusual, after = seen(noisy)
    unfiltered = contact_fit.lagged.mean(unusual - usual).std()
    assert (strong - calm).std() < 0.5 * unfiltered
    assert (after.observability < before.observability).all()
    wider = after._posterior["covariance"] - before._posterior["covariance"]
    assert (wider[0].diagonal() > 0).all()


@pytest.mark.slow
def test_several_sessions_and_patients(make_raw):
    """Each patient gets a map of its own; parts are whole sessions.

    Seen to fail when sessions are cut although there are several.
    """
    elsewhere = POINTS + [0, 0.004, 0.004]
    pairs = [
        make_pair(make_raw, 20.0, seed=1),
        make_pair(make_raw, 20.0, seed=2),
        make_pair(make_raw, 20.0, points=elsewhere, seed=3),
    ]
    scalps, ieegs = (list(each) for each in zip(*pairs, strict=True))
    model = NeuroFlow.load()
    groups = pair_up(scalps, ieegs, model, "fsaverage", "ignore")
    assert [len(group) for group in groups] == [2, 1]
    held_out = _Patient(groups[0], "physics").stretches(True)
    assert [(s.first_block, s.n_blocks) for s in held_out] == [(0, 20)]
    fit(model, (scalps, ieegs))
    assert len(model.contact_fits) == 2
    for (_, ieeg), mine in zip(pairs[1:], model.contact_fits, strict=True):
        places = _places(ieeg)
        assert [i for i in model.contact_fits if i.find(places) is not None] == [mine]
    with pytest.raises(ValueError, match="fitted to 2 implants"):
        model.sample(scalps[0], 1)


def _places(ieeg):
    from mne_neuroflow.head.contacts import contact_positions

    return contact_positions(make_contacts(ieeg.info, verbose="error"))[1]


def test_sessions_of_one_patient_share_a_gain():
    """The geometric mean, in which ten times as strong and a tenth go out.

    Seen to fail with the arithmetic mean and with the gain of the first session.
    """
    sessions = [SimpleNamespace(gain=gain) for gain in (0.3, 1.0, 90.0)]
    assert estimator._common_gain(sessions) == pytest.approx(3)


def test_what_was_fitted_last_counts():
    """Of two fits with the same contacts the later one is used, and recalibrated.

    Seen to fail with the first in their place, in either.
    """
    nothing = empty_contact_fit([f"VC{k}" for k in range(4)], POINTS)
    blocks, _ = make_blocks(n_contacts=4)
    lagged, _ = fit_lagged_map(blocks, np.zeros((4, 5)), np.eye(4))
    model = NeuroFlow.load()
    model.contact_fits = [
        replace(nothing, lagged=lagged, gain=gain) for gain in (1.0, 2.0)
    ]
    names = ["VC3", "VC1"]
    last = model.contact_fit_at(POINTS[[3, 1]], names)
    assert last.gain == 2 and last.ch_names == names
    known = replace(last, calibration=np.ones((2, 2)))
    estimator._remember(model.contact_fits, known)
    first, last = (each.calibration for each in model.contact_fits)
    assert not first.any()
    np.testing.assert_array_equal(last, [[0, 0], [1, 1], [0, 0], [1, 1]])


@pytest.mark.slow
def test_epochs(pair):
    """Whole trials make the parts."""
    epochs = [
        mne.make_fixed_length_epochs(raw, 4.0, preload=True, verbose=False)
        for raw in pair
    ]
    ((session,),) = pair_up(*epochs, NeuroFlow.load(), "fsaverage", "ignore")
    parts = session.cut()
    assert sorted(epoch for part in parts for epoch, *_ in part) == list(range(9))
    assert all(piece[1:] == (0, 4) for part in parts for piece in part)
    model = NeuroFlow.load()
    fit(model, epochs, n_steps=1)
    draws = model.sample(epochs[0][:2], 2, random_state=0, verbose="error")
    assert draws.sizes["epoch"] == 2


def test_physics_alone_predicts_other_contacts(pair):
    model = NeuroFlow.load()
    fit(model, pair, spatial="physics", n_steps=1)
    assert model.contact_fits == []
    other = predict_ieeg(
        pair[0], contacts=POINTS + 0.003, model=model, random_state=0, verbose="error"
    )
    assert np.isfinite(other.get_data()).all()


@pytest.mark.slow
def test_amplitudes_are_kept_with_a_patient(pair):
    """Strong contacts are heard to be strong, as surely as another session allows.

    Seen to fail without the spread between sessions, and with amplitudes that the flow
    is not amplitude.
    """
    scalp, ieeg = pair
    model = NeuroFlow.untrained(random_state=0)
    model.flow.amplitude.start(1.0)
    model.recalibrate(scalp, ieeg, verbose="error")
    quiet = model.contact_fits[0].amplitude
    strong = ieeg.copy().apply_function(lambda x: 3 * x, picks="all")
    model.recalibrate(scalp, strong, verbose="error")
    seen, precision = np.moveaxis(model.contact_fits[0].amplitude, -1, 0)
    assert seen.shape == (len(ieeg.ch_names), 4)
    assert (seen > quiet[..., 0] + 0.1).all()
    # Of 30 s and 6 s, whose slow parts differ by chance: 3.3 in the lowest level, 1.9
    # with the electrodes of the template that MNE-Python had before 1.13.
    assert (precision <= 100).all() and (precision > 2).all()
    assert (precision[:, 2:] > 50).all()
    ((session,),) = pair_up(*pair, model, "fsaverage", "ignore")
    amplitude = model.flow.amplitude(session.predictor.conditions(0, 4))
    part = precision / (1 + precision)
    np.testing.assert_allclose(amplitude.centre[0].detach(), part * seen, rtol=1e-4)
    np.testing.assert_allclose(amplitude.spread[0].detach() ** 2, 1 - part, rtol=1e-4)


def test_recalibration(pair):
    """Intervals that were far off come to cover 90 % to 5 points; the log says so.

    Seen to fail when the change is added twice, and when it is measured against draws
    that were calibrated already.
    """
    scalp, ieeg = pair
    ieeg = ieeg.copy().apply_function(lambda x: 6 * x, picks="all")
    model = NeuroFlow.load()
    with mne.utils.catch_logging(verbose="info") as log:
        changes = model.recalibrate(scalp, ieeg, verbose="info")
    assert "Intervals of 4 contacts" in log.getvalue()
    assert list(changes.index) == ieeg.ch_names
    assert (changes["scale"] > 1.5).all()
    assert changes["before 0.9"].mean() < 0.7
    assert changes["after 0.9"].mean() == pytest.approx(0.9, abs=0.05)
    again = model.recalibrate(scalp, ieeg, verbose="error")
    np.testing.assert_allclose(again["scale"], 1, atol=0.02)
    assert len(model.contact_fits) == 1


def test_recalibrated_contacts_are_as_strong_under_another_cap(pair):
    """How strong they are is known of the contacts, whatever the scalp's amplitude.

    Seen to fail without the gain of the recordings that were recalibrated with: draws
    are a third as strong then.
    """
    scalp, ieeg = pair
    model = NeuroFlow.load()
    model.recalibrate(scalp, ieeg, verbose="error")
    quiet = scalp.copy().apply_function(lambda x: x / 3)
    known = dict(tmax=20, random_state=0, on_mismatch="ignore", verbose="error")
    draws, quieter = (model.sample(x, 6, **known) for x in (scalp, quiet))
    assert float(quieter.std() / draws.std()) == pytest.approx(1, abs=0.25)


def test_draws_are_made_as_strong_as_the_pairs(pair):
    """In every band, as strong as what each part's map has not seen, to 3 %.

    Seen to fail with amplitudes that are heard and not corrected (up to 0.32).
    """
    model = NeuroFlow.load()
    patient = _Patient(*pair_up(*pair, model, "fsaverage", "warn"), "fitted")
    flow = copy.deepcopy(model.flow)
    remove_location(flow)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(0.5)
    patient.estimate_amplitudes(flow)
    errors = level_errors(flow, patient.everything())
    assert errors.abs().max() < 0.03


# Errors and warnings ------------------------------------------------------------------


def test_other_contacts_are_refused(pair):
    model = NeuroFlow.load()
    fit(model, pair, n_steps=0)
    with pytest.raises(ValueError, match="fitted to other contacts.*VC001"):
        predict_ieeg(pair[0], contacts=POINTS + 0.003, model=model)
    pair[0].info["bads"] = pair[0].ch_names[:6]
    with pytest.raises(ValueError, match="More than half .* fitted with are missing"):
        model.sample(pair[0], 1)


def test_shifted_pairs_warn(make_raw):
    """A shift of 0.5 s is found to a sample; the other tests' 23 ms are not reported.

    Seen to fail with the sign of the shift turned.
    """
    scalp, ieeg = make_pair(make_raw, delay=64)
    model = NeuroFlow.load()
    with pytest.warns(RuntimeWarning, match=r"moved by -0\.52 s"):
        pair_up(scalp, ieeg, model, "fsaverage", "ignore")
    shifts, strength = shifted_coherence(scalp.get_data(), ieeg.get_data())
    assert shifts[strength.argmax()] == pytest.approx(67 / 128)


def test_active_reference_warns(make_raw):
    points = np.concatenate([POINTS, POINTS + [0, 0.012, 0.003]])
    scalp, ieeg = make_pair(make_raw, points=points)
    ieeg._data += 5 * ieeg.get_data()[:1]
    with pytest.warns(RuntimeWarning, match="common to all contacts"):
        pair_up(scalp, ieeg, NeuroFlow.load(), "fsaverage", "ignore")


def test_wrong_pairs(pair, make_raw):
    model = NeuroFlow.load()
    with pytest.raises(ValueError, match="same sessions, but got 1 and 2"):
        model.fit(pair[0], [pair[1], pair[1]])
    short = [raw.copy().crop(0, 10) for raw in pair]
    with pytest.raises(ValueError, match="At least 30 s of pairs.*got 10 s"):
        model.fit(*short)
    with pytest.raises(ValueError, match="last equally long"):
        model.fit(pair[0], short[1])
    with pytest.raises(ValueError, match="'spatial' parameter"):
        model.fit(*pair, spatial="kriging")
    microvolts = pair[1].copy().apply_function(lambda x: 1e6 * x, picks="all")
    with pytest.raises(ValueError, match="MNE wants volts"):
        model.fit(pair[0], microvolts)


def test_untrained_model_is_the_spatial_posterior():
    model = NeuroFlow.untrained(random_state=3)
    again = NeuroFlow.untrained(random_state=3)
    assert model.sha256 == again.sha256
    assert model.card["name"] == "untrained"


# Contacts that come and go, and recordings that are not all good ----------------------


def _reordered(ieeg, names):
    return ieeg.copy().reorder_channels(names)


def test_recalibration_of_some_contacts(pair):
    """What is known of a contact is used beside others of which nothing is.

    Seen to fail when a contact fit counts only if it has all contacts: draws of the
    known ones are then those of the weights.
    """
    scalp, ieeg = pair
    known, model = ieeg.ch_names[:3], NeuroFlow.load()
    strong = ieeg.copy().apply_function(lambda x: 10 * x, picks="all")
    model.recalibrate(scalp, _reordered(strong, known), verbose="error")
    options = dict(contacts=ieeg.info, random_state=0, verbose="warning", tmax=10)
    plain = NeuroFlow.load().sample(scalp, 6, **options).std(("draw", "time"))
    with pytest.warns(RuntimeWarning, match="not recalibrated for 1 .*VC004"):
        some = model.sample(scalp, 6, **options).std(("draw", "time"))
    assert (some[:3] > 1.5 * plain[:3]).all()
    # What was learned last counts, contact by contact.
    model.recalibrate(scalp, _reordered(ieeg, known[1:]), verbose="error")
    with pytest.warns(RuntimeWarning, match="not recalibrated"):
        again = model.sample(scalp, 6, **options).std(("draw", "time"))
    assert (again[1:3] < 0.6 * some[1:3]).all()
    assert again[0] > 1.5 * plain[0]


@pytest.mark.slow
def test_recalibration_of_a_fitted_model_keeps_its_contacts(pair):
    """Contacts that are bad in the new pairs keep their map and their calibration.

    Seen to fail when the contact fit is replaced by the contacts that were given.
    """
    scalp, ieeg = pair
    model = NeuroFlow.load()
    fit(model, pair)
    (before,) = model.contact_fits
    model.recalibrate(scalp, _reordered(ieeg, ieeg.ch_names[:3]), verbose="error")
    (after,) = model.contact_fits
    assert after.ch_names == before.ch_names
    np.testing.assert_array_equal(after.calibration[3], before.calibration[3])
    assert (after.amplitude[:3] != before.amplitude[:3]).any()
    assert model.sample(scalp, 1, tmax=2, verbose="error").sizes["channel"] == 4


def test_sessions_with_other_order_and_bad_contacts(make_raw):
    """Sessions of one patient are one, and the contacts that all of them have.

    Seen to fail when contacts are compared in their order.
    """
    pairs = [make_pair(make_raw, 36.0, seed=k) for k in (1, 2)]
    scalps, ieegs = (list(each) for each in zip(*pairs, strict=True))
    ieegs[1] = _reordered(ieegs[1], ieegs[1].ch_names[::-1])
    ieegs[1].info["bads"] = [ieegs[0].ch_names[1]]
    model = NeuroFlow.load()
    with pytest.warns(RuntimeWarning, match="left out: VC002"):
        fit(model, (scalps, ieegs), verbose="warning")
    (contact_fit,) = model.contact_fits
    assert contact_fit.ch_names == ["VC001", "VC003", "VC004"]
    assert contact_fit.lagged.explained.min() > 0.5


def test_each_pair_is_read_once(make_raw, monkeypatch):
    """Also where contacts and EEG channels are bad in some sessions; one warning.

    Seen to fail when sessions are made first and then made again with what they share.
    """
    pairs = [make_pair(make_raw, 20.0, seed=k) for k in (1, 2)]
    scalps, ieegs = (list(each) for each in zip(*pairs, strict=True))
    scalps[0].info["bads"] = [scalps[0].ch_names[3]]
    ieegs[1].info["bads"] = [ieegs[1].ch_names[1]]
    read = []
    for module, name in ((sessions, "check_ieeg"), (spatial, "check_scalp")):
        check = getattr(module, name)

        def counted(inst, check=check, name=name, **options):
            read.append(name)
            return check(inst, **options)

        monkeypatch.setattr(module, name, counted)
    model = NeuroFlow.load()
    with pytest.warns(RuntimeWarning, match="left out: VC002") as warned:
        fit(model, (scalps, ieegs), verbose="warning")
    assert sorted(read) == 2 * ["check_ieeg"] + 2 * ["check_scalp"]
    assert len([one for one in warned if "left out" in str(one.message)]) == 1
    (contact_fit,) = model.contact_fits
    assert scalps[0].ch_names[3] not in contact_fit.electrodes


def test_dead_channels_of_one_session_are_left_out_of_all(make_raw):
    """Only reading shows that a channel is dead. Seen to fail without a second look."""
    pairs = [make_pair(make_raw, 20.0, seed=k) for k in (1, 2)]
    scalps, ieegs = (list(each) for each in zip(*pairs, strict=True))
    scalps[1]._data[3] = 0
    model = NeuroFlow.load()
    fit(model, (scalps, ieegs))
    (contact_fit,) = model.contact_fits
    assert contact_fit.electrodes == scalps[0].ch_names[:3] + scalps[0].ch_names[4:]


def test_two_contacts_in_one_place():
    """Each is found once, in their order."""
    places = POINTS[[0, 0, 1]]
    contact_fit = empty_contact_fit(["A", "B", "C"], places)
    assert contact_fit.find(places).tolist() == [0, 1, 2]
    assert contact_fit.match(POINTS[[1, 0, 0, 0, 2]]).tolist() == [2, 0, 1, -1, -1]


def test_bad_seconds_are_not_learned_from(pair):
    """Artifacts of the contacts that are annotated change nothing.

    Seen to fail when annotations are ignored: the map then explains nothing.
    """
    scalp, ieeg = pair
    torn = ieeg.copy()
    torn.set_meas_date(1e9).crop(0.5).set_meas_date(None)
    scalp = scalp.copy().crop(0.5)
    torn._data[:, 10 * 128 : 12 * 128] *= 30
    bad = mne.Annotations(9.5, 3, "BAD_torn")
    torn.set_annotations(bad)
    model = NeuroFlow.load()
    # Files of two systems differ by a few samples.
    scalp.crop(0, scalp.times[-5])
    ((session,),) = pair_up(scalp, torn, model, "fsaverage", "ignore")
    assert session.pieces() == [(None, 0, 9), (None, 13, 22)]
    assert session.n_seconds == 31
    # One of six parts has no good stretch left.
    lengths = [len(part) for part in session.cut()]
    assert lengths == [1, 1, 0, 1, 1, 1]
    fit(model, (scalp, torn))
    assert model.contact_fits[0].lagged.explained.min() > 0.5


@pytest.mark.slow
def test_stopped_fit_changes_nothing(pair, monkeypatch):
    """A model is fitted, or it is what it was."""
    model = NeuroFlow.load()
    before = copy.deepcopy(model.flow.state_dict())

    def stop(*_):
        raise KeyboardInterrupt

    for name, learn in (
        ("_calibrate", lambda: fit(model, pair)),
        ("_what_changed", lambda: model.recalibrate(*pair)),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(estimator, name, stop)
            learn()
        assert model.contact_fits == [] and model.name == "mtl-v2"
        for name, value in model.flow.state_dict().items():
            assert torch.equal(value, before[name])


@pytest.mark.slow
def test_short_epochs(make_raw):
    """Epochs of one second are enough; the shift is looked for inside of them."""
    pair = make_pair(make_raw, 32.0, delay=64)
    epochs = [
        mne.make_fixed_length_epochs(raw, 1.0, preload=True, verbose=False)
        for raw in pair
    ]
    with pytest.warns(RuntimeWarning, match="moved by -0.5"):
        fit(NeuroFlow.load(), epochs, verbose="warning")


def test_amplitudes_of_trials_are_as_certain_as_of_a_recording(pair):
    """Trials of two seconds are no sessions of two seconds.

    Seen to fail when each trial counts for itself.
    """
    epochs = [
        mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose=False)
        for raw in pair
    ]
    # An untrained flow: what is heard is the spatial stage's residual itself.
    flow = NeuroFlow.untrained(random_state=0).flow
    precisions = []
    for given in (pair, epochs):
        ((session,),) = pair_up(*given, NeuroFlow.load(), "fsaverage", "ignore")
        heard = estimate_amplitudes(flow, session.stretches())
        # Between levels of few coefficients and those that the edges of trials change.
        precisions.append(heard[:, 1:3, 1].mean().item())
    assert precisions[1] == pytest.approx(precisions[0], rel=0.1)


@pytest.mark.slow
def test_one_long_epoch_is_cut(pair):
    epochs = [
        mne.make_fixed_length_epochs(raw, 36.0, preload=True, verbose=False)
        for raw in pair
    ]
    model = NeuroFlow.load()
    fit(model, epochs)
    assert model.contact_fits[0].lagged.explained.min() > 0.5


def test_too_short_a_patient_is_refused(make_raw):
    pairs = [
        make_pair(make_raw, 36.0),
        make_pair(make_raw, 9.0, points=POINTS + [0, 0.004, 0.004]),
    ]
    with pytest.raises(ValueError, match="two of which must have 3"):
        fit(NeuroFlow.load(), [list(each) for each in zip(*pairs, strict=True)])


def test_flat_contacts_are_refused(pair):
    pair[1]._data[2] = 1e-4
    for learn in (fit, lambda model, pair: model.recalibrate(*pair)):
        with pytest.raises(ValueError, match="without a signal .*VC003"):
            learn(NeuroFlow.load(), pair)


def test_other_epochs_warn(pair):
    """Epochs that were dropped differently are as many, but of other moments."""
    epochs = [
        mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose=False)
        for raw in pair
    ]
    for each, dropped in zip(epochs, (3, 9), strict=True):
        each.drop(dropped, verbose=False)
    with pytest.warns(RuntimeWarning, match="different moments"):
        pair_up(*epochs, NeuroFlow.load(), "fsaverage", "ignore")


def test_sessions_without_common_electrodes_are_refused(make_raw):
    pairs = [make_pair(make_raw, 20.0, seed=k) for k in (1, 2)]
    scalp = make_raw(20.0, 128.0, seed=3)
    pairs[1] = (scalp.pick(scalp.ch_names[10:20]), pairs[1][1])
    with pytest.raises(ValueError, match="EEG channels in common"):
        fit(NeuroFlow.load(), [list(each) for each in zip(*pairs, strict=True)])
