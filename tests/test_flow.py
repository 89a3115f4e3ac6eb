"""The flow: orthonormal levels, exact densities, equal contacts, finite reach.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import fields, replace

import flow_cases
import numpy as np
import pytest
import torch
from flow_cases import BLOCK, CONFIG, make_conditions_of, make_flow
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from mne_neuroflow.flow.amplitude import N_VARIATES
from mne_neuroflow.flow.context import Conditions
from mne_neuroflow.flow.coupling import (
    MAX_LOG_SCALE,
    MAX_TAIL,
    Coupling,
    asinh,
    to_data,
    to_noise,
)
from mne_neuroflow.flow.model import FlowConfig
from mne_neuroflow.flow.sampler import Noise, contact_keys
from mne_neuroflow.flow.wavelet import (
    LEVEL_BANDS,
    LEVEL_SIZES,
    WaveletTransform,
    cosine_matrix,
    daubechies,
)
from mne_neuroflow.weights.checkpoint import load_checkpoint, save_checkpoint

SPLITS = ("seconds", "contacts", "frequencies")
N_CONTACTS, N_BLOCKS, SIZE, WIDTH, N_HEADS, N_RELATIONS = 3, 4, 6, 16, 2, 2


def _normal(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products are slower on several threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


# ---------------------------------------------------------------- wavelet


@pytest.mark.parametrize("n_moments", range(1, 11))
def test_daubechies_filter(n_moments):
    """Norm, sum, orthogonal shifts and vanishing moments.

    Catches a half-band polynomial of too low an order, and another norm.
    """
    taps = daubechies(n_moments)
    assert len(taps) == 2 * n_moments
    assert_allclose(taps.sum(), np.sqrt(2), rtol=1e-12)
    for shift in range(n_moments):
        overlap = taps[: len(taps) - 2 * shift] @ taps[2 * shift :]
        assert_allclose(overlap, float(shift == 0), atol=1e-8)
    # Moments of the high-pass filter, on a unit interval.
    place = np.linspace(-1, 1, len(taps))
    sign = (-1.0) ** np.arange(len(taps))
    for power in range(n_moments):
        assert_allclose((sign * taps) @ place**power, 0, atol=1e-8)
    assert abs((sign * taps) @ place**n_moments) > 1e-7


def test_daubechies_known():
    """The four taps in closed form, Daubechies 1992, section 6.4.

    Catches roots that are not inside of the circle.
    """
    root = np.sqrt(3)
    expected = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    assert_allclose(daubechies(2), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 16, 64])
def test_cosine_matrix(size):
    """Catches a first row that is not scaled down."""
    matrix = cosine_matrix(size)
    assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)


@pytest.mark.parametrize("n_moments, n_blocks", [(2, 1), (8, 1), (8, 3)])
def test_wavelet_is_orthonormal(n_moments, n_blocks):
    """Transform and inverse as matrices: transposes and inverses of each other.

    Catches a high-pass filter without its alternating sign, and a roll that the
    inverse does not undo.
    """
    wavelet = WaveletTransform(n_moments)
    eye = torch.eye(n_blocks * BLOCK, dtype=torch.float64)
    there = torch.cat([level.flatten(1) for level in wavelet(eye)], dim=1)
    assert_allclose(there @ there.T, eye, atol=1e-10)
    levels, start = [], 0
    for size in LEVEL_SIZES:
        part = eye[:, start : start + n_blocks * size]
        levels.append(part.unflatten(-1, (n_blocks, size)))
        start += n_blocks * size
    assert_allclose(wavelet.inverse(levels), there.T, atol=1e-10)
    signal = _normal(2, 3, n_blocks * BLOCK)
    assert_allclose(wavelet.inverse(wavelet(signal)), signal, atol=1e-10)


@pytest.mark.parametrize("level", range(4))
def test_levels_are_bands(level):
    """A sinusoid in the middle third of a level's band has its energy there.

    Measured: at least 84.6 % (98 % in the outer levels). Catches levels in the order
    fine to coarse, and a wavelet with four vanishing moments (75.8 %).
    """
    low, high = LEVEL_BANDS[level]
    margin = (high - low) / 3
    time = torch.arange(8 * BLOCK, dtype=torch.float64) / BLOCK
    for frequency in np.linspace(low + margin, high - margin, 5):
        # whole periods: the transform is periodic
        signal = torch.sin(2 * np.pi * round(frequency * 8) / 8 * time + 0.3)
        energy = torch.stack(
            [part.square().sum() for part in WaveletTransform()(signal)]
        )
        assert energy[level] / energy.sum() > 0.82


def test_coarsest_coefficients_are_frequencies():
    """Coefficient k of the coarsest level is k / 2 Hz, and a constant is k = 0.

    Catches a cosine transform that is transposed.
    """
    wavelet = WaveletTransform()
    time = torch.arange(8 * BLOCK, dtype=torch.float64) / BLOCK
    for frequency in (1, 3, 6):
        signal = torch.sin(2 * np.pi * frequency * time + 0.7)
        spectrum = wavelet(signal)[0].square().mean(0)
        assert abs(int(spectrum.argmax()) - 2 * frequency) <= 1
    constant = wavelet(torch.ones_like(time))[0]
    assert_allclose(constant[:, 0], np.sqrt(BLOCK), rtol=1e-10)
    assert_allclose(constant[:, 1:], 0, atol=1e-9)


def test_wavelet_reach():
    """A second's coefficients see it and its neighbours, and the other way round.

    Catches a roll of a whole block, in each direction.
    """
    wavelet, n_blocks, middle = WaveletTransform(), 7, 3
    eye = torch.eye(n_blocks * BLOCK, dtype=torch.float64)
    eye = eye.unflatten(0, (n_blocks, BLOCK))[middle]
    levels = wavelet(eye)
    seen = sum(level.abs().amax((0, 2)) for level in levels)
    # Quiet where nothing reaches, and something in every second that is reached.
    touched = (seen > 1e-13).nonzero().flatten() - middle
    assert set(touched.tolist()) <= set(range(-wavelet.reach, wavelet.reach + 1))
    assert len(touched) > 1
    for k, size in enumerate(LEVEL_SIZES):
        levels = [torch.zeros(size, n_blocks, s).double() for s in LEVEL_SIZES]
        levels[k][:, middle] = torch.eye(size)
        signal = wavelet.inverse(levels).unflatten(-1, (n_blocks, BLOCK))
        touched = (signal.abs().amax((0, 2)) > 1e-13).nonzero().flatten() - middle
        assert set(touched.tolist()) <= set(range(-wavelet.reach, wavelet.reach + 1))


# ----------------------------------------------------- elementwise transform


@pytest.mark.parametrize(
    "shift, log_scale, tail", [(0, 0, 0), (2, 1, 0.6), (-1, -2, -0.6)]
)
def test_scalar_density_integrates_to_one(shift, log_scale, tail):
    """Integral over a coefficient by quadrature.

    Catches a log-determinant without the tail, without the scale, and with the two
    hyperbolic cosines exchanged.
    """
    numbers = [torch.tensor(float(v)).double() for v in (shift, log_scale, tail)]

    def density(u):
        # sinh makes the heavy tails light for the quadrature
        x = torch.tensor(shift + np.exp(log_scale) * np.sinh(u)).double()
        noise, log_det = to_noise(x, *numbers)
        log_density = -0.5 * noise**2 - 0.5 * np.log(2 * np.pi) + log_det
        return float(torch.exp(log_density)) * np.exp(log_scale) * np.cosh(u)

    assert_allclose(quad(density, -12, 12, limit=200)[0], 1, atol=1e-7)


def test_scalar_transform():
    """Round trip, derivative, and the direction in which tails bend.

    Catches an inverse with the sign of the tail exchanged.
    """
    shift, log_scale, tail = 0.3 * _normal(3, 50)
    data = (30 * _normal(50, seed=1)).requires_grad_()
    noise, log_det = to_noise(data, shift, log_scale, tail)
    assert_allclose(to_data(noise, shift, log_scale, tail).detach(), data.detach())
    (slope,) = torch.autograd.grad(noise.sum(), data)
    assert_allclose(log_det.detach(), slope.log(), rtol=1e-9, atol=1e-9)
    # A negative tail: the same noise becomes a larger excursion.
    zero = torch.zeros(())
    far = to_data(torch.tensor(4.0), zero, zero, torch.tensor([-0.5, 0.0, 0.5]))
    assert far[0] > far[1] > far[2]
    assert_allclose(far[1], 4.0, rtol=1e-6)


def test_inverse_hyperbolic_sine():
    """The one without gradients is the one with them.

    Catches a logarithm that loses what is small.
    """
    data = torch.cat([torch.logspace(-12, 8, 100), torch.zeros(1)]).double()
    data = torch.cat([data, -data]).requires_grad_()
    expected = asinh(data).detach()
    with torch.no_grad():
        assert_allclose(asinh(data), expected, rtol=1e-13)
        assert_allclose(expected, np.arcsinh(data.numpy()), rtol=1e-13)


# ----------------------------------------------------------- coupling steps


@pytest.fixture
def step_inputs():
    """State and relations of three contacts and four seconds."""
    state = _normal(1, N_CONTACTS, N_BLOCKS, WIDTH, seed=2)
    relations = _normal(1, N_CONTACTS, N_CONTACTS, N_RELATIONS, seed=3)
    return state, relations


def _step(split, turn, scale):
    with flow_cases.seeded(5):
        step = Coupling(split, turn, SIZE, WIDTH, N_HEADS, N_RELATIONS).double()
        for parameter in step.parameters():
            parameter.data += scale * torch.randn_like(parameter)
    return step


def _log_abs_det(jacobian):
    jacobian = torch.as_tensor(jacobian)
    n = int(np.sqrt(jacobian.numel()))
    return float(torch.linalg.slogdet(jacobian.reshape(n, n))[1])


def _difference_quotients(function, data, width=1e-5):
    """Jacobian by central differences, column by column."""
    columns = []
    for k in range(data.numel()):
        nudge = torch.zeros(data.numel(), dtype=data.dtype)
        nudge[k] = width
        nudge = nudge.view_as(data)
        rise = function(data + nudge) - function(data - nudge)
        columns.append(rise.flatten() / (2 * width))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("n_blocks, start", [(N_BLOCKS, 0), (N_BLOCKS, 1), (3, 0)])
@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("split", SPLITS)
def test_step_is_exact(split, turn, n_blocks, start, step_inputs):
    """Inverse, and the log-determinant by autograd, differences and the inverse.

    Catches what stays being moved, a log-determinant that is a mean, an inverse that
    takes its parameters from the other half, and seconds that look at the wrong
    neighbours where as many move as stay or one more.
    """
    state, relations = step_inputs
    arguments = (state[:, :, :n_blocks], relations, start)
    step = _step(split, turn, 0.15)
    data = 2 * _normal(1, N_CONTACTS, n_blocks, SIZE, seed=6)
    with torch.no_grad():
        noise, log_det = step(data, *arguments)
        assert (noise - data).abs().max() > 0.1
        assert_allclose(step.inverse(noise, *arguments), data, atol=1e-10)
        back = step.inverse(data, *arguments)
        assert_allclose(step(back, *arguments)[0], data, atol=1e-10)
    expected = float(log_det.sum())
    assert abs(expected) > 0.1

    def forward(x):
        return step(x, *arguments)[0]

    def inverse(x):
        return step.inverse(x, *arguments)

    jacobian = torch.autograd.functional.jacobian(forward, data, vectorize=True)
    assert_allclose(_log_abs_det(jacobian), expected, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(inverse, noise, vectorize=True)
    assert_allclose(_log_abs_det(jacobian), -expected, atol=1e-9)
    with torch.no_grad():
        jacobian = _difference_quotients(forward, data)
    assert_allclose(_log_abs_det(jacobian), expected, atol=1e-5)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("split", SPLITS)
def test_step_does_not_leak(split, turn, step_inputs):
    """What moves has no part in how it moves; all that stays may have.

    Catches networks and linear predictions that see the whole level.
    """
    step = _step(split, turn, 0.15)
    data = _normal(1, N_CONTACTS, N_BLOCKS, SIZE, seed=7)
    other = _normal(1, N_CONTACTS, N_BLOCKS, SIZE, seed=8)
    with torch.no_grad():
        moving, before = step.parameters_of(data, *step_inputs, 0)
        changed = data.clone()
        changed[moving] = other[moving]
        again, after = step.parameters_of(changed, *step_inputs, 0)
        assert again == moving
        assert torch.equal(torch.stack(before), torch.stack(after))
        changed = other.clone()
        changed[moving] = data[moving]
        _, after = step.parameters_of(changed, *step_inputs, 0)
        # Location, scale and tail of all that moves.
        for old, new in zip(before, after, strict=True):
            assert old.shape == data[moving].shape
            assert torch.all(old != new)


@pytest.mark.parametrize("split", SPLITS)
def test_two_turns_move_everything(split):
    """Catches a part that forgets whose turn it is or the absolute second."""
    shape = (1, N_CONTACTS, N_BLOCKS, SIZE)
    for start in (-3, 0, 5):
        moved = torch.zeros(shape)
        for turn in (0, 1):
            moving, fixed = _step(split, turn, 0).parts(shape, start)
            moved[moving] += 1
            both = torch.zeros(shape)
            both[moving], both[fixed] = 1, both[fixed] + 1
            assert torch.all(both == 1)
        assert torch.all(moved == 1)
    step = _step(split, 1, 0)
    longer, shorter = (torch.zeros(1, N_CONTACTS, n, SIZE) for n in (12, N_BLOCKS))
    for moved, start in ((longer, -3), (shorter, 2)):
        moved[step.parts(moved.shape, start)[0]] = 1
    assert torch.equal(longer[:, :, 5 : 5 + N_BLOCKS], shorter)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("split", SPLITS)
def test_untrained_step_is_the_identity(split, turn, step_inputs):
    """Catches a head that does not start at zero."""
    data = 5 * _normal(1, N_CONTACTS, N_BLOCKS, SIZE, seed=9)
    with torch.no_grad():
        noise, log_det = _step(split, turn, 0)(data, *step_inputs, 0)
    assert_allclose(noise, data, rtol=1e-14)
    assert torch.equal(log_det, torch.zeros_like(log_det))


def test_limits_hold(step_inputs):
    """However wild the weights, scale and tail stay within their limits.

    Catches a scale that is not bounded.
    """
    step = _step("contacts", 0, 100)
    data = 1e3 * _normal(1, N_CONTACTS, N_BLOCKS, SIZE, seed=13)
    with torch.no_grad():
        _, (_, log_scale, tail) = step.parameters_of(data, *step_inputs, 0)
        assert 2 < log_scale.abs().max() <= MAX_LOG_SCALE
        assert 0.6 < tail.abs().max() <= MAX_TAIL


# ------------------------------------------------------------------ the flow


@pytest.fixture(scope="module")
def flow():
    """A flow far from untrained, float64."""
    return make_flow(scale=0.1)


@pytest.fixture(scope="module")
def conditions():
    """Three contacts, four seconds."""
    return make_conditions_of(3, 4)


def _noise_like(conditions, seed=0, n_draws=1):
    _, n_contacts, n_times = conditions.mean.shape
    return _normal(n_draws, n_contacts, n_times // BLOCK, BLOCK, seed=seed)


def _recover(conditioned, potentials):
    """Noise under potentials."""
    return torch.cat([noise for noise, _ in conditioned.to_noise(potentials)], dim=-1)


@torch.no_grad()
def test_round_trip(flow, conditions):
    """Noise to volts to noise, and volts to noise to volts.

    Catches levels that are conditioned on noise in one direction, and potentials
    that are not divided by the gain.
    """
    conditioned = flow.condition(conditions)
    noise = _noise_like(conditions, n_draws=3)
    potentials = conditioned.sample(noise)
    assert_allclose(_recover(conditioned, potentials), noise, atol=1e-9)
    given = 1e-4 * _normal(*potentials.shape, seed=1)
    again = conditioned.sample(_recover(conditioned, given))
    assert_allclose(again, given, atol=1e-8 * 1e-4)
    assert_allclose(
        conditioned.colour(conditioned.whiten(given)), given, atol=1e-10 * 1e-4
    )


@pytest.mark.parametrize("n_contacts, n_blocks", [(1, 1), (2, 1), (2, 2)])
def test_density_against_the_jacobian_of_sampling(flow, n_contacts, n_blocks):
    """The change of variables, through autograd of the sampler.

    Catches a log-volume without the gain, one that is not shared out over all
    samples, a step's log-determinant that is left out, an amplitude for each second,
    and masses of the grid that are densities.
    """
    conditions = make_conditions_of(n_contacts, n_blocks)
    conditioned = flow.condition(conditions)
    noise = _noise_like(conditions, seed=2)
    # One copy of the noise for each row of the Jacobian: draws do not mix.
    copies = noise.repeat(noise.numel(), 1, 1, 1).requires_grad_()
    samples = conditioned.sample(copies)
    (jacobian,) = torch.autograd.grad(samples.flatten(1).diagonal().sum(), copies)
    potentials = samples[:1].detach()
    base = flow_cases.mixture_density(noise, conditioned.amplitudes)
    log_prob = conditioned.log_prob(potentials)
    assert log_prob.shape == (1, n_contacts, n_blocks)
    assert_allclose(
        float(log_prob.sum().detach()), base - _log_abs_det(jacobian), rtol=1e-9
    )


@torch.no_grad()
@pytest.mark.slow
def test_density_integrates_to_one():
    """By importance, both ways, in 128 dimensions.

    With g the spatial posterior and p a flow near it, the mean of p/g over draws
    from g is one: the density integrates to one. So is the mean of g/p over draws
    from p: the sampler draws from that density. Catches the log-determinant of the
    steps or of the levels left out, a sampler that skips the levels, and one whose
    amplitudes are too wide.
    """
    conditions = make_conditions_of(1, 1)
    flow = make_flow(scale=0.006, seed=3)
    near, plain = flow.condition(conditions), make_flow().condition(conditions)

    def log_ratio(potentials):
        sums = [c.log_prob(potentials).sum((1, 2)) for c in (near, plain)]
        return sums[0] - sums[1]

    noise = _noise_like(conditions, seed=4, n_draws=2000)
    from_plain = log_ratio(plain.sample(noise))
    amplitude = _normal(2000, 1, N_VARIATES, seed=5)
    from_near = -log_ratio(near.sample(noise, amplitude))
    # The flow is not the posterior, or the test would say nothing.
    assert from_plain.std() > 0.5
    for weights in (torch.exp(from_plain), torch.exp(from_near)):
        error = float(weights.std()) / np.sqrt(len(weights))
        assert error < 0.1
        assert abs(float(weights.mean()) - 1) < 4 * error


@torch.no_grad()
def test_untrained_flow_is_the_spatial_posterior():
    """Samples are its samples, and the density is scipy's.

    Catches a posterior mean that is not multiplied by the gain, a root in place of
    its inverse, and a log-volume with the wrong sign.
    """
    n_contacts, n_blocks = 4, 2
    posterior = flow_cases.make_posterior(n_contacts)
    scalp = 3 * flow_cases.make_scalp(posterior, n_blocks)
    positions = flow_cases.make_positions(n_contacts)
    conditions = flow_cases.conditions_from(posterior, positions, scalp)
    flow = make_flow()
    conditioned = flow.condition(conditions)
    gain = float(conditions.gain)
    assert gain > 2
    mean = posterior.operator @ scalp

    noise = _noise_like(conditions, n_draws=2)
    samples = conditioned.sample(noise)
    residuals = flow.wavelet((samples - torch.as_tensor(mean)) / gain)
    log_prob, expected = conditioned.log_prob(samples), 0.0
    parts = noise.split(LEVEL_SIZES, dim=-1)
    factors = flow_cases.level_factors(n_contacts)
    for residual, white, factor in zip(residuals, parts, factors, strict=True):
        covariance = factor[:, None] * posterior.covariance * factor
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(values)) @ vectors.T
        want = np.einsum("cd,ndsk->ncsk", root, white.numpy())
        assert_allclose(residual, want, rtol=1e-8, atol=1e-13)
        # In microvolts, where scipy's check of the rank is at ease.
        gaussian = multivariate_normal(cov=covariance * gain**2 * 1e12)
        values = 1e6 * gain * residual[0].flatten(1).numpy().T
        expected += (gaussian.logpdf(values) + n_contacts * np.log(1e6)).sum()
    assert_allclose(log_prob[0].sum(), expected, rtol=1e-10)


@torch.no_grad()
def test_recordings_do_not_mix(flow):
    """A batch of recordings is each recording by itself.

    Catches attention and volumes that reach across the batch, and draws that are
    repeated recording by recording.
    """
    singles = [make_conditions_of(3, 4, seed=seed) for seed in (0, 1)]
    both = Conditions(
        *(
            torch.cat([getattr(single, field.name) for single in singles])
            for field in fields(Conditions)
        )
    )
    noise = _noise_like(singles[0], n_draws=2)
    samples = flow.condition(both).sample(noise)
    log_prob = flow.condition(both).log_prob(samples)
    for k, single in enumerate(singles):
        alone = flow.condition(single)
        one = alone.sample(noise[k : k + 1])
        assert_allclose(samples[k : k + 1], one, rtol=1e-10, atol=1e-18)
        assert_allclose(log_prob[k : k + 1], alone.log_prob(one), rtol=1e-10)
    # Several draws a scalp: draw 0 of each recording, then draw 1 of each.
    noise = _noise_like(singles[0], n_draws=4, seed=1)
    repeated = flow.condition(both.repeat(2)).sample(noise)
    one = flow.condition(singles[1]).sample(noise[[1, 3]])
    assert_allclose(repeated[[1, 3]], one, rtol=1e-10, atol=1e-18)


def test_gradient_reaches_every_parameter(flow):
    """Through the density, in a flow that is away from zero.

    The one exception has no effect by its nature: a constant that is added to all
    attention logits of a head. Catches a context that is detached from the density
    and a coarser level that finer ones do not listen to.
    """
    conditions = make_conditions_of(5, 4)
    potentials = 1e-4 * _normal(*conditions.mean.shape, seed=5)
    # The pointwise head is no part of the density.
    parameters = {
        name: parameter
        for name, parameter in flow.named_parameters()
        if not name.startswith("pointwise.")
    }
    loss = flow.condition(conditions).log_prob(potentials).sum()
    gradients = torch.autograd.grad(loss, parameters.values())
    for name, gradient in zip(parameters, gradients, strict=True):
        assert torch.isfinite(gradient).all(), name
        if not name.endswith("contacts.bias.bias"):
            assert gradient.abs().max() > 1e-6, name
    # Every step of an untrained flow has a way to leave zero.
    untrained = make_flow()
    heads = {
        name: parameter
        for name, parameter in untrained.named_parameters()
        if name.endswith(("head.1.weight", "linear.weight"))
    }
    loss = untrained.condition(conditions).log_prob(potentials).sum()
    gradients = torch.autograd.grad(loss, heads.values())
    assert len(heads) > len(CONFIG.steps)
    for name, gradient in zip(heads, gradients, strict=True):
        assert gradient.abs().max() > 1e-6, name


@torch.no_grad()
@pytest.mark.parametrize("n_contacts", [4, 7])
def test_contacts_are_equal(flow, n_contacts):
    """Permuting contacts permutes samples and densities, halves and keys included.

    Catches halves that go by the order of contacts, noise that goes by their
    order, and a step that treats the first contact specially.
    """
    n_blocks = 3
    posterior = flow_cases.make_posterior(n_contacts)
    scalp = flow_cases.make_scalp(posterior, n_blocks)
    positions = flow_cases.make_positions(n_contacts)
    order = np.random.default_rng(0).permutation(n_contacts)
    shuffled = replace(
        posterior,
        operator=posterior.operator[order],
        covariance=posterior.covariance[np.ix_(order, order)],
        **{
            name: getattr(posterior, name)[order]
            for name in ("mean_std", "prior_std", "observability")
        },
    )
    found = []
    plain = np.arange(n_contacts)
    for given, which in ((posterior, plain), (shuffled, order)):
        places = positions[which]
        conditions = flow_cases.conditions_from(given, places, scalp, which)
        conditioned = flow.condition(conditions)
        noise = Noise(1, contact_keys(places), dtype=torch.float64)
        samples = conditioned.sample(noise([0], 0, n_blocks))
        found.append((samples, conditioned.log_prob(samples)))
    (samples, log_prob), (other, other_log_prob) = found
    scale = float(samples.abs().max())
    assert_allclose(other, samples[:, order], atol=1e-10 * scale)
    assert_allclose(other_log_prob, log_prob[:, order], rtol=1e-9)
    assert not np.allclose(samples, samples[:, order], atol=1e-2 * scale)


@torch.no_grad()
def test_contacts_talk_to_each_other(flow, conditions):
    """At every level, beyond what the covariance mixes.

    Catches coupling steps over contacts whose attention is cut off.
    """
    eye = torch.eye(3, dtype=torch.float64).expand(1, len(LEVEL_SIZES), 3, 3)
    apart = replace(conditions, root=eye, inverse_root=eye)
    conditioned = flow.condition(apart)
    noise = _noise_like(apart)
    before = flow.wavelet(conditioned.sample(noise))
    start = 0
    for k, size in enumerate(LEVEL_SIZES):
        changed = noise.clone()
        changed[:, 0, :, start : start + size] += 1
        after = flow.wavelet(conditioned.sample(changed))
        assert (after[k] - before[k])[:, 1:].abs().max() > 1e-3
        start += size


@torch.no_grad()
def test_coarse_before_fine(flow, conditions):
    """A level depends on coarser noise and never on finer noise.

    Catches coarse levels that hear of the finest noise.
    """
    conditioned = flow.condition(conditions)
    noise = _noise_like(conditions)

    def levels(noise):
        return conditioned.whiten(conditioned.sample(noise))

    before, start = levels(noise), 0
    for k, size in enumerate(LEVEL_SIZES):
        changed = noise.clone()
        changed[..., start : start + size] += 0.5
        after = levels(changed)
        for j in range(4):
            difference = (after[j] - before[j]).abs().max()
            # whitening and colouring lose a few digits
            assert difference < 1e-9 if j < k else difference > 1e-4
        start += size


def _touched(before, after, middle, axis):
    """Seconds, relative to the middle one, in which two arrays differ."""
    axes = tuple(k for k in range(before.ndim) if k != axis)
    difference = (after - before).abs().amax(axes)
    return (difference > 0).nonzero().flatten() - middle


@torch.no_grad()
@pytest.mark.parametrize("what", ["scalp", "noise", "recording"])
def test_reach(what):
    """Beyond ``reach`` nothing changes; not far within it something does.

    Every bit counts, since what is too far away has no part in the sums. Catches a
    reach without the context's blocks, and an attention over seconds that sees
    further than it says.
    """
    config = replace(CONFIG, steps=("sc", "c", "", ""))
    flow = make_flow(config, seed=2, scale=0.25)
    n_blocks = 2 * flow.reach + 9
    middle = n_blocks // 2
    conditions = make_conditions_of(2, n_blocks)
    noise = _noise_like(conditions)
    second = slice(middle * BLOCK, (middle + 1) * BLOCK)
    conditioned = flow.condition(conditions)
    samples = conditioned.sample(noise)
    if what == "scalp":
        mean = conditions.mean.clone()
        mean[..., second] *= -3
        other = flow.condition(replace(conditions, mean=mean))
        before, after = samples, other.sample(noise)
    elif what == "noise":
        changed = noise.clone()
        changed[:, :, middle] *= -2
        before, after = samples, conditioned.sample(changed)
    else:
        changed = samples.clone()
        changed[..., second] *= -2
        # The density of a second given all before it has no end; its parts have.
        before, after = (
            torch.cat([change[..., None], energy], -1)
            for change, energy in map(conditioned.log_prob_parts, (samples, changed))
        )
    if what != "recording":
        before, after = (x.unflatten(-1, (-1, BLOCK)) for x in (before, after))
    touched = _touched(before, after, middle, 2).abs().max()
    assert touched <= flow.reach
    # of 10 seconds; noise does not pass through the encoder of the context
    assert touched == {"scalp": 10, "noise": 6, "recording": 4}[what]


@torch.no_grad()
def test_absolute_seconds(flow, conditions):
    """Steps alternate on the absolute second: two seconds later is the same.

    Catches a first second that is ignored.
    """
    noise = _noise_like(conditions)
    samples = [
        flow.condition(conditions, start).sample(noise) for start in (-2, -1, 0, 1, 2)
    ]
    assert torch.equal(samples[0], samples[2])
    assert torch.equal(samples[4], samples[2])
    assert torch.equal(samples[1], samples[3])
    assert not torch.allclose(samples[1], samples[2], rtol=1e-3)


# ------------------------------------------------------------------ conditions


def _condition_arrays(n_electrodes=6, n_blocks=2):
    posterior = flow_cases.make_posterior(3)
    scalp = flow_cases.make_scalp(posterior, n_blocks)
    return posterior, scalp, flow_cases.make_positions(3)


def test_gain_scales_the_answer(flow):
    """A scalp twice as large gives potentials twice as large, all else equal.

    The gain among the flow's inputs is taken away for the comparison. Catches a
    mean at the scalp's scale where unit gain is due.
    """
    posterior, scalp, positions = _condition_arrays()
    one = flow_cases.conditions_from(posterior, positions, scalp)
    two = flow_cases.conditions_from(posterior, positions, 2 * scalp)
    assert_allclose(two.mean, one.mean, rtol=1e-10)
    assert_allclose(two.gain, 2 * one.gain)
    changed = (two.static != one.static).any(1).flatten()
    assert changed.sum() == 1
    noise = _noise_like(one)
    with torch.no_grad():
        expected = 2 * flow.condition(one).sample(noise)
        found = flow.condition(replace(two, static=one.static)).sample(noise)
    assert_allclose(found, expected, rtol=1e-10)


# ------------------------------------------------------------------ the rest


def test_checkpoint_gives_the_same_samples(tmp_path):
    """Catches a configuration that comes back as the default."""
    flow = make_flow(scale=0.1, dtype=torch.float32)
    names = "name version prior training_budget licence provenance".split()
    card = {"calibration": None, **dict.fromkeys(names, "a test")}
    fname = save_checkpoint(tmp_path / "flow.safetensors", flow, card)
    loaded, _ = load_checkpoint(fname)
    assert loaded.config == CONFIG
    conditions = make_conditions_of(3, 4, dtype=torch.float32)
    noise = _noise_like(conditions).float()
    with torch.no_grad():
        expected = flow.condition(conditions).sample(noise)
        assert torch.equal(loaded.condition(conditions).sample(noise), expected)


def test_configuration_round_trip():
    """Catches steps that come back as a list, and unknown names let through."""
    assert FlowConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert FlowConfig.from_dict({"steps": ["s", "c", "c", "c"]}).steps[0] == "s"
    with pytest.raises(ValueError, match="depth"):
        FlowConfig.from_dict({"depth": 3})
