"""The spatial stage that adapts to the recording."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import threadpoolctl
from numpy.testing import assert_allclose
from scipy.integrate import trapezoid

from mne_neuroflow._threads import one_blas_thread
from mne_neuroflow.head import source_powers
from mne_neuroflow.head.adaptive import (
    POSTERIOR_FIELDS,
    adapt,
    between,
    posterior_by_band,
)
from mne_neuroflow.head.bands import (
    N_BANDS,
    N_HALO,
    N_LEVELS,
    band_covariance,
    band_responses,
)
from mne_neuroflow.head.geometry import STRUCTURES, load_head
from mne_neuroflow.head.leadfield import contact_lead_field, scalp_lead_field
from mne_neuroflow.head.posterior import (
    LOCAL_STD,
    SENSOR_STD,
    posterior_from_fields,
    source_generators,
    spatial_posterior,
)
from mne_neuroflow.head.scalp_model import (
    N_REGIONS,
    _artifact_shapes,
    scalp_model,
    source_parcels,
)
from mne_neuroflow.head.source_powers import (
    SourcePrior,
    estimate_sources,
    load_source_prior,
)
from mne_neuroflow.simulation.setups import MONTAGES, electrode_positions

CONTACTS = np.array(
    [[-0.025, -0.02, -0.018], [-0.045, -0.02, -0.018], [0.025, -0.02, -0.018]]
    + [[0.05, -0.01, -0.02], [-0.022, -0.004, -0.02]]
)


def montage(names="19"):
    known = electrode_positions()
    names = MONTAGES[names].split() if isinstance(names, str) else names
    return np.array([known[name] for name in names])


def fields_of(electrodes):
    factor = source_generators(load_head()).factor
    return scalp_lead_field(load_head(), electrodes).astype(np.float32) @ factor


@pytest.fixture(scope="module")
def nineteen():
    electrodes = montage()
    fields = fields_of(electrodes)
    return electrodes, fields, scalp_model(fields, electrodes)


@pytest.fixture(scope="module")
def deep():
    factor = source_generators(load_head()).factor
    return contact_lead_field(load_head(), CONTACTS).astype(np.float32) @ factor


def referenced(n):
    return np.eye(n) - 1 / n


def covariance_with(fields, power, noise=None):
    """Exact covariance of a referenced montage whose parcels have these powers."""
    centring = referenced(len(fields))
    fields = fields.astype(float)
    plain = centring @ fields
    own = SENSOR_STD**2 + 0.04 * (plain**2).sum(1)
    own = own if noise is None else own + noise
    index = source_parcels().index
    return np.stack(
        [
            centring @ ((fields * row[index]) @ fields.T + np.diag(own)) @ centring.T
            for row in power
        ]
    )


def flat_power(value=1.0):
    return np.full((N_BANDS, len(source_parcels().region)), value)


def free_prior():
    """A prior about no change at all, wide and without correlations."""
    size = N_BANDS * N_REGIONS
    shape = (N_BANDS, N_REGIONS)
    return SourcePrior(np.zeros(shape), np.eye(size), np.full(N_BANDS, 1 / N_BANDS))


# ------------------------------------------------------------------ parcels, prior


def test_every_generator_has_a_parcel_of_its_own_side_and_structure():
    """Catches a left parcel with right generators, and scales that share one."""
    parcels, generators = source_parcels(), source_generators(load_head())
    assert 100 < len(parcels.region) < 140
    assert set(parcels.index) == set(range(len(parcels.region)))
    region = parcels.region[parcels.index]
    assert np.array_equal(region >= N_REGIONS // 2, generators.hemisphere > 0)
    names = np.array(STRUCTURES)[region % (N_REGIONS // 2)]
    assert np.array_equal(names, generators.structure)
    short = np.isin(generators.group, (0, 3))
    shares = np.bincount(parcels.index, short) / np.bincount(parcels.index)
    assert set(shares) == {0.0, 1.0}


def test_shipped_prior_is_symmetric_and_proper():
    """Both sides are alike, and powers scatter by factors, not by orders.

    Catches a table whose regions are in another order than the parcels'.
    """
    prior = load_source_prior()
    half = N_REGIONS // 2
    assert_allclose(prior.mean[:, :half], prior.mean[:, half:], atol=1e-5)
    assert np.linalg.eigvalsh(prior.covariance).min() > 1e-3
    spread = np.sqrt(np.diag(prior.covariance))
    assert np.all((spread > 0.8) & (spread < 2.2))
    assert prior.spectrum.sum() == pytest.approx(1, abs=1e-5)
    # Alpha is at home in the back of the head.
    alpha = prior.mean[3]
    back = alpha[STRUCTURES.index("occipital")]
    assert back > alpha[STRUCTURES.index("frontal")] + 0.5


# ------------------------------------------------------------------ bands


def test_bands_sum_to_the_signal():
    """Catches a band that is left out, and filters with a delay."""
    n_times = 20 * 128
    responses = band_responses(n_times)
    assert_allclose(responses.sum(0), 1, atol=1e-12)
    freqs = np.fft.rfftfreq(n_times, 1 / 128)
    for band, freq in enumerate((1.0, 3.5, 6.0, 9.5, 13.5, 19.0, 27.0, 40.0)):
        assert responses[band, np.argmin(abs(freqs - freq))] > 0.7
    pulse = np.zeros(n_times)
    pulse[n_times // 2] = 1
    parts = np.fft.irfft(np.fft.rfft(pulse) * responses, n_times)
    reach = np.flatnonzero(abs(parts).max(0) > 1e-12)
    assert 0 <= reach.min() - (n_times // 2 - N_HALO) < 3
    assert 0 <= n_times // 2 + N_HALO - reach.max() < 3


def test_covariance_does_not_see_the_halo():
    """Catches samples of the halo that are counted."""
    rng = np.random.default_rng(0)
    piece = rng.standard_normal((8, 60 * 128 + 2 * N_HALO))
    whole = band_covariance([piece])
    freqs = np.fft.rfftfreq(8192, 1 / 128)
    share = band_responses(8192)[3] ** 2
    expected = trapezoid(share, freqs) / 64
    assert np.trace(whole[3]) / 8 == pytest.approx(expected, rel=0.15)
    halves = [piece[:, : 30 * 128 + 2 * N_HALO], piece[:, 30 * 128 :]]
    assert_allclose(band_covariance(halves), whole, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------ the estimate


def some_covariance(model, seed=0):
    """A covariance unlike the expected one, in volts."""
    rng = np.random.default_rng(seed)
    rank = len(model.noise)
    mix = rng.standard_normal((N_BANDS, rank, 3 * rank))
    unwhiten = np.linalg.pinv(model.whitener)
    return np.stack([unwhiten @ (m @ m.T / (3 * rank)) @ unwhiten.T for m in mix])


def test_gradient_against_finite_differences(nineteen):
    """Every kind of parameter, by central differences.

    Seen to fail with a factor of one half left out of the likelihood's gradient, with
    a prior's precision for its covariance, and with regions that are summed over bands.
    """
    _, _, model = nineteen
    white = model.whitener @ some_covariance(model) @ model.whitener.T
    problem = source_powers._Problem(model, white, load_source_prior(), 50.0)
    rng = np.random.default_rng(1)
    state = problem.start()
    state = state.moved([0.3 * rng.standard_normal(part.shape) for part in state], 1.0)
    _, *known = problem.evaluate(state)
    gradients = problem.gradients(state, problem.traces(*known))
    for name, gradient in zip(state._fields, gradients, strict=True):
        for place in rng.integers(0, gradient.size, 4):
            unit = np.zeros(gradient.size)
            unit[place] = 1e-5
            step = [np.zeros_like(part) for part in state]
            step[state._fields.index(name)] = unit.reshape(gradient.shape)
            above, below = (
                problem.evaluate(state.moved(step, sign))[0] for sign in (1, -1)
            )
            slope = (above - below) / 2e-5
            assert slope == pytest.approx(gradient.flat[place], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_density_never_falls(nineteen, seed):
    """Every round makes the powers more probable. Catches steps without a check."""
    _, _, model = nineteen
    estimate = estimate_sources(model, some_covariance(model, seed))
    trail = np.array(estimate.objective)
    assert len(trail) > 5
    assert np.all(np.diff(trail) <= 0)
    assert trail[0] - trail[-1] > 10


def test_known_powers_are_found(nineteen):
    """From the exact covariance of scalps with one strong region, band by band.

    With little weight on the prior the strong region is found in its band, and no other
    is taken for it. Seen to fail with bands that are shifted by one and with regions
    of the other side.
    """
    _, fields, model = nineteen
    region = source_parcels().region
    occipital, frontal = (STRUCTURES.index(n) for n in ("occipital", "frontal"))
    power = flat_power()
    power[3, region == occipital] = 12.0
    power[5, region == frontal + N_REGIONS // 2] = 9.0
    observed = covariance_with(fields, power)
    estimate = estimate_sources(model, observed, free_prior(), 2000.0, rounds=60)
    relative = estimate.power * estimate.gain[:, None]
    found = np.stack([relative[:, region == r].mean(1) for r in range(N_REGIONS)], 1)
    cortex = [r for r in range(N_REGIONS) if r % 8 in (3, 4, 5, 6)]
    strongest = np.array(cortex)[found[:, cortex].argmax(1)]
    assert strongest[3] == occipital and strongest[5] == frontal + 8
    assert found[3, occipital] == pytest.approx(12, rel=0.35)
    assert found[5, frontal + 8] == pytest.approx(9, rel=0.35)
    quiet = found[[0, 1, 2, 7]][:, cortex]
    assert np.all((quiet > 0.4) & (quiet < 2.5))


def test_without_samples_it_is_the_fixed_posterior(nineteen, deep):
    """With a prior about no change and a recording that counts as nothing.

    Seen to fail with a noise that is not referenced and with a missing root of the
    gain.
    """
    electrodes, fields, model = nineteen
    fixed = spatial_posterior(electrodes, CONTACTS)
    observed = 4 * covariance_with(fields, flat_power())
    share = load_source_prior().spectrum
    observed *= share[:, None, None]
    estimate = estimate_sources(model, observed, free_prior(), 0)
    assert_allclose(estimate.gain, 4 * share, rtol=1e-6)
    rms = 2 * np.sqrt(model.variance)
    posterior = adapt(model, deep, observed, rms, estimate)
    centring = referenced(len(electrodes))
    # The fixed posterior takes the average reference for no reference at all.
    noise = centring @ np.diag(np.diag(fixed.scalp_covariance - _signal(fields)))
    total = _signal(fields) + noise @ centring.T
    cross = deep.astype(float) @ (centring @ fields.astype(float)).T
    operator = cross @ np.linalg.pinv(total, rcond=1e-9)
    for band in range(N_BANDS):
        assert_allclose(posterior.operator[band] @ centring, operator, atol=1e-6)
    left = (deep.astype(float) ** 2).sum(1) - np.einsum("ce,ce->c", operator, cross)
    assert_allclose(np.diag(posterior.covariance), left + LOCAL_STD**2, rtol=1e-4)
    assert_allclose(np.diag(posterior.covariance), np.diag(fixed.covariance), rtol=0.05)
    assert posterior.gain == pytest.approx(2, rel=1e-6)


def _signal(fields):
    plain = referenced(len(fields)) @ fields.astype(float)
    return plain @ plain.T


def test_order_of_electrodes_does_not_matter(deep):
    """Catches an electrode whose noise is another's."""
    electrodes = montage()
    rng = np.random.default_rng(3)
    order = rng.permutation(len(electrodes))
    fields = fields_of(electrodes)
    noise = np.zeros(len(electrodes))
    noise[4] = 1e-9
    power = flat_power() * rng.uniform(0.3, 3, flat_power().shape[1])
    observed = covariance_with(fields, power, noise)
    rms = np.sqrt(np.diagonal(observed, axis1=1, axis2=2).sum(0))
    one = adapt(scalp_model(fields, electrodes), deep, observed, rms)
    two = adapt(
        scalp_model(fields[order], electrodes[order]),
        deep,
        observed[:, order][:, :, order],
        rms[order],
    )
    scale = abs(one.operator).max()
    assert_allclose(two.operator, one.operator[..., order], atol=1e-6 * scale)
    assert_allclose(two.covariance, one.covariance, rtol=1e-6, atol=1e-16)
    found = one.sources.electrode_noise.mean(0)
    assert found.argmax() == 4 and found[4] > 5 * np.median(found)
    assert two.sources.electrode_noise.mean(0).argmax() == np.flatnonzero(order == 4)


@pytest.mark.parametrize(("number", "strength"), [(0, 10), (1, 10), (2, 10), (3, 1)])
def test_eyes_and_drift_are_not_brain(nineteen, deep, number, strength):
    """Strong ones hardly change what is said of contacts.

    Eyes in three directions with ten times the power of the scalp, and a drift with as
    much as the scalp. Seen to fail when the model knows neither.
    """
    electrodes, fields, model = nineteen
    power = flat_power()
    calm = covariance_with(fields, power)
    shape = referenced(len(electrodes)) @ _artifact_shapes(electrodes)[number]
    shape = shape @ shape.T
    blinks = calm.copy()
    blinks[0] += strength * np.trace(calm[0]) / np.trace(shape) * shape
    stds = []
    for observed in (calm, blinks):
        estimate = estimate_sources(model, observed)
        # In volts: the power beside the gain is relative to the recording.
        estimate = replace(estimate, power=estimate.power * estimate.gain[:, None])
        _, field, _ = posterior_by_band(model, estimate, deep)
        stds.append(np.sqrt(np.diagonal(field[0])))
    assert np.all(stds[1] < 1.3 * stds[0])
    assert np.all(stds[1] > 0.6 * stds[0])


@pytest.mark.parametrize(
    "case", ["dead", "step", "strong", "eight", "rank", "many", "second", "artifacts"]
)
def test_odd_recordings_get_a_sober_answer(case, deep):
    """Finite, no stronger than the prior's strongest patients, never sure of itself.

    Catches a dead electrode that is divided by, and a bound that is not applied.
    """
    electrodes = montage("8" if case == "eight" else "19")
    if case == "many":
        places = load_head().scalp.rr
        electrodes = places[places[:, 2] > np.percentile(places[:, 2], 40)][:256]
        assert len(electrodes) == 256
    fields = fields_of(electrodes)
    observed = covariance_with(fields, flat_power())
    if case == "dead":
        observed[:, 2] *= 1e-8
        observed[:, :, 2] *= 1e-8
    if case == "step":
        one = np.zeros(len(electrodes))
        one[5] = 1e-3
        observed[0] += np.outer(one, one)
    if case == "strong":
        observed[3] += 1e4 * np.outer(fields[:, 10], fields[:, 10])
    if case == "second":
        # Of a second, a band has about two samples a hertz.
        rng, roots = np.random.default_rng(0), np.linalg.cholesky(observed + 1e-18)
        samples = roots @ rng.standard_normal((len(observed), len(electrodes), 5))
        observed = samples @ samples.transpose(0, 2, 1) / 5
    if case == "artifacts":
        noisy = np.arange(len(electrodes)) % 2 * np.diagonal(observed[0])
        observed = observed + 100 * np.diag(noisy)
    if case == "rank":
        observed = observed * 0 + np.outer(fields[:, 50], fields[:, 50])
    rms = np.sqrt(np.diagonal(observed, axis1=1, axis2=2).sum(0))
    posterior = adapt(scalp_model(fields, electrodes), deep, observed, rms)
    for name in POSTERIOR_FIELDS:
        assert np.isfinite(getattr(posterior, name)).all(), name
    prior = load_source_prior()
    variance = np.diag(prior.covariance).reshape(prior.mean.shape)
    spread = np.sqrt(variance + source_powers.PARCEL_STD**2)
    limit = np.exp(prior.mean + source_powers._BOUND * spread)
    assert np.all(posterior.sources.power <= limit[:, source_parcels().region] * 1.0001)
    assert np.all((posterior.observability >= 0) & (posterior.observability < 0.95))


def test_mean_of_a_recording(nineteen, deep):
    """The mean is the sum over bands of each band's operator, and clips pops.

    Catches operators in another order than the bands.
    """
    electrodes, fields, model = nineteen
    observed = covariance_with(fields, flat_power())
    rms = np.sqrt(np.diagonal(observed, axis1=1, axis2=2).sum(0))
    posterior = adapt(model, deep, observed, rms)
    tests = {1: 3.5, 3: 9.5, 6: 27.0}
    time = np.arange(6 * 128 + 2 * N_HALO) / 128
    for band, freq in tests.items():
        scalp = np.outer(rms, np.sin(2 * np.pi * freq * time))
        mean = posterior.apply(scalp)
        want = np.outer(posterior.operator[band] @ rms, np.sin(2 * np.pi * freq * time))
        want = want[:, N_HALO:-N_HALO]
        assert abs(mean - want).max() < 0.15 * abs(want).max()
    popping = scalp.copy()
    popping[3, 500] = 1.0
    clipped = scalp.copy()
    clipped[3, 500] = 6 * rms[3]
    assert_allclose(posterior.apply(popping), posterior.apply(clipped), rtol=1e-12)


def test_levels_have_their_own_power(nineteen, deep):
    """A recording with much alpha has a stronger second level, also in its features."""
    _, fields, model = nineteen
    share = load_source_prior().spectrum[:, None, None]
    observed = covariance_with(fields, flat_power()) * share
    alpha = observed.copy()
    alpha[3:5] *= 8
    found = []
    for each in (observed, alpha):
        rms = np.sqrt(np.diagonal(observed.sum(0)))
        posterior = adapt(model, deep, each, rms)
        levels = posterior.root @ posterior.root
        found.append(np.sqrt(np.einsum("lcc->lc", levels)))
        eye = posterior.root @ posterior.inverse_root
        assert_allclose(eye, np.broadcast_to(np.eye(5), eye.shape), atol=1e-8)
    ratio = found[1] / found[0]
    assert_allclose(ratio[1], 8**0.5, rtol=0.25)
    assert np.all(abs(ratio[[0, 2, 3]] - 1) < 0.25)
    features = posterior.level_features.reshape(5, N_LEVELS, 3)
    assert np.all(features[:, 1, 0] > features[:, 0, 0] + 0.3)


def test_fixed_posterior_is_still_what_a_montage_could_say():
    """Two ways to the same number, for the montage alone."""
    electrodes = montage()
    fields = fields_of(electrodes)
    factor = source_generators(load_head()).factor
    deep = contact_lead_field(load_head(), CONTACTS).astype(np.float32) @ factor
    centred = fields - fields.mean(0)
    direct = posterior_from_fields(centred, deep, np.ones((1, fields.shape[1])))
    fixed = spatial_posterior(electrodes, CONTACTS)
    assert_allclose(direct.observability, fixed.observability, rtol=1e-5)


def test_wideband_operator(nineteen, deep):
    """Where bands are alike it is the operator of each; catches gains left out."""
    _, fields, model = nineteen
    observed = covariance_with(fields, flat_power())
    estimate = estimate_sources(model, observed)
    same = replace(
        estimate,
        power=np.tile(estimate.power[2], (N_BANDS, 1)),
        inverse=np.tile(estimate.inverse[2], (N_BANDS, 1, 1)),
    )
    rms = np.sqrt(np.diagonal(observed.sum(0)))
    posterior = adapt(model, deep, observed, rms, same)
    scale = abs(posterior.operator[0]).max()
    assert_allclose(
        posterior.wideband_operator, posterior.operator[0], atol=1e-9 * scale
    )
    # Of two bands the stronger one decides.
    strong = np.where(np.arange(N_BANDS) == 3, 1e6, 1.0)
    posterior = adapt(
        model, deep, observed, rms, replace(estimate, gain=estimate.gain * strong)
    )
    assert_allclose(
        posterior.wideband_operator, posterior.operator[3], atol=1e-3 * scale
    )


def test_between_two_posteriors(nineteen, deep):
    """Its ends are the two, in the middle operators and covariances are averages.

    Seen to fail with roots instead of covariances on a straight line.
    """
    _, fields, model = nineteen
    expected = fields @ fields.T
    expected = referenced(len(expected)) @ expected @ referenced(len(expected)).T
    share = load_source_prior().spectrum[:, None, None]
    rms = np.sqrt(model.variance)
    one, other = (
        adapt(model, deep, share * tilt[:, None, None] * expected, rms * gain)
        for tilt, gain in ((np.ones(N_BANDS), 1), (np.linspace(2, 0.5, N_BANDS), 2))
    )
    for end, share in ((one, 0), (other, 1)):
        same = between(one, other, share)
        for name in ("operator", "root", "inverse_root", "covariance", "mean_std"):
            assert_allclose(getattr(same, name), getattr(end, name), rtol=1e-6)
    middle = between(one, other, 0.5)
    square = (one.root @ one.root + other.root @ other.root) / 2
    assert_allclose(middle.root @ middle.root, square, rtol=1e-6, atol=1e-20)
    eye = np.broadcast_to(np.eye(len(deep)), square.shape)
    assert_allclose(middle.root @ middle.inverse_root, eye, atol=1e-6)
    assert_allclose(middle.operator, (one.operator + other.operator) / 2, rtol=1e-9)
    assert_allclose(middle.gain, np.sqrt(one.gain * other.gain), rtol=1e-9)


# ------------------------------------------------------------------ threads


def _blas_threads():
    return [
        one["num_threads"]
        for one in threadpoolctl.threadpool_info()
        if one["user_api"] == "blas"
    ]


def test_threads_of_linear_algebra_do_not_matter(nineteen, deep):
    """To the last bit, for a worker with one thread and a process with two.

    Seen to fail without one_blas_thread in head/source_powers.py (4e-15 of a power).
    """
    electrodes, fields, model = nineteen
    rng = np.random.default_rng(0)
    wide = 1e-5 * rng.standard_normal((len(electrodes), 2000))
    rms, found = np.sqrt((wide**2).mean(1)), []
    for n_threads in (1, 2):
        with threadpoolctl.threadpool_limits(n_threads, user_api="blas"):
            before = _blas_threads()
            posterior = adapt(model, deep, band_covariance([wide]), rms)
            found.append((posterior.sources.power, posterior.apply(wide)))
            assert _blas_threads() == before
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_setting_of_threads_comes_back():
    """When the last of several callers leaves, and after an error.

    Catches a second caller that takes the first one's single thread for the user's
    setting.
    """
    inside, leave = threading.Barrier(2), threading.Event()

    @one_blas_thread
    def wait(event):
        inside.wait(10)
        assert set(_blas_threads()) == {1}
        event.wait(10)

    @one_blas_thread
    def fail():
        raise ValueError("as planned")

    def run():
        before = _blas_threads()
        at_once = threading.Event()
        at_once.set()
        with ThreadPoolExecutor(2) as pool:
            first, last = pool.submit(wait, at_once), pool.submit(wait, leave)
            first.result(10)
            assert set(_blas_threads()) == {1}
            leave.set()
            last.result(10)
        assert _blas_threads() == before
        with pytest.raises(ValueError, match="as planned"):
            fail()
        assert _blas_threads() == before

    # In a thread that ends: what it sets is taken back by it alone.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result(30)
