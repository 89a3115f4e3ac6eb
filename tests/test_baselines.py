"""Methods of the benchmark on pairs whose answer is known.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from paired_cases import CONTACTS, make_recording
from scipy import signal, stats
from small_model import one_thread, save_small_model, use_model

from mne_neuroflow.evaluation import baselines, networks, ours
from mne_neuroflow.head.posterior import spatial_posterior
from mne_neuroflow.scores import ensemble, signals

TRAIN, TEST = make_recording(40, 0), make_recording(12, 1)
OTHER = make_recording(20, 2, "p2", turn=3)
STEPS = 30
NETWORKS = {
    "U-Net": networks.UNetRegression,
    "VAE": networks.ConditionalVAE,
    "GAN": networks.ConditionalGAN,
    "flow matching": networks.FlowMatching,
    "patient flow": networks.PatientFlow,
}


@pytest.fixture(autouse=True)
def quick():
    with one_thread():
        yield


@cache
def _trained(name):
    """A network after few steps, the same for all tests that look at it."""
    return NETWORKS[name](STEPS, width=16).fit([TRAIN.pair])


def _draws(method, recording=TEST, n_draws=20, seed=0):
    return method.sample(recording.scalp, recording.contacts, n_draws, seed)


def _skill(draws, recording=TEST):
    """Correlation of the mean and CRPS in units of the truth."""
    r = signals.pearson_r(draws.mean(0), recording.ieeg)
    score = ensemble.crps(draws, recording.ieeg).mean(1) / recording.ieeg.std(1)
    return r.mean(), score.mean()


def test_noise_like_examples():
    """Standard deviation, correlation and spectra of examples come back.

    Catches spectra that are not scaled to the variance, amplitude in place of power
    and channels drawn apart.
    """
    rng = np.random.default_rng(0)
    slow = signal.lfilter([1], [1, -0.9], rng.standard_normal((2, 20_000)))
    example = np.array([[3.0], [0.5]]) * (slow + 0.8 * slow[::-1])
    noise = baselines.ResidualNoise.like([example], 128.0)
    drawn = noise.draw(1, 20_001, rng)[0]
    assert_allclose(drawn.std(1), example.std(1), rtol=0.1)
    assert_allclose(np.corrcoef(drawn)[0, 1], np.corrcoef(example)[0, 1], atol=0.05)
    spectra = [signal.welch(x, 128.0, nperseg=256)[1] for x in (drawn, example)]
    ratio = np.log(spectra[0] / spectra[1])[:, 1:]
    assert_allclose(ratio, 0, atol=0.5)


def _autoregressive(n_channels, n_times, phi, rng):
    """Processes of unit variance with correlation 0.6 between neighbours."""
    white = rng.standard_normal((n_channels, n_times + 500))
    correlation = 0.6 ** np.abs(np.subtract.outer(*[np.arange(n_channels)] * 2))
    series = signal.lfilter([1], [1, -phi], np.linalg.cholesky(correlation) @ white)
    return (series * np.sqrt(1 - phi**2))[:, 500:], correlation


def test_density_of_noise():
    """Against the multivariate normal, and the entropy of its own draws.

    An autoregressive spectrum has an autocorrelation of ``phi ** lag``. Catches
    innovations of an order too low at the beginning (2e-2), the determinant of the
    correlation left out (0.27), units that are not counted and weights in the order of
    time.
    """
    phi, std = 0.8, np.array([3.0, 0.5, 1.0])
    freqs = np.linspace(0, 64, 129)
    power = 1 / np.abs(1 - phi * np.exp(-2j * np.pi * freqs / 128)) ** 2
    series, correlation = _autoregressive(3, 150, phi, np.random.default_rng(0))
    covariance = correlation * np.outer(std, std)
    noise = baselines.ResidualNoise(covariance, freqs, power, 128.0)
    lags = np.abs(np.subtract.outer(np.arange(150), np.arange(150)))
    expected = stats.multivariate_normal.logpdf(
        (std[:, None] * series).ravel(), np.zeros(450), np.kron(covariance, phi**lags)
    )
    found = noise.log_density(std[:, None] * series)
    assert_allclose(found, expected / 450, atol=1e-3)
    drawn = noise.draw(1, 6000, np.random.default_rng(1))[0]
    innovation = correlation * (1 - phi**2)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * innovation)[1] / 3
    entropy += np.log(std).mean()
    assert_allclose(-noise.log_density(drawn), entropy, atol=0.02)
    for factor in (0.8, 1.25):
        other = baselines.ResidualNoise(factor**2 * covariance, freqs, power, 128.0)
        assert other.log_density(drawn) < noise.log_density(drawn)


def test_density_of_channels_with_spectra_of_their_own():
    """Each channel by itself has the density of its own process.

    Catches the spectrum of the first channel used for all.
    """
    rng = np.random.default_rng(0)
    parts = [_autoregressive(1, 2000, phi, rng)[0] for phi in (0.9, 0.2)]
    both = baselines.ResidualNoise.like([np.concatenate(parts)], 128.0)
    alone = [
        baselines.ResidualNoise.like([part], 128.0).log_density(part) for part in parts
    ]
    found = both.log_density(np.concatenate(parts))
    assert_allclose(found, np.mean(alone), atol=0.01)
    assert abs(alone[0] - alone[1]) > 0.5


def test_what_is_left_above_the_band_does_not_decide():
    """A tenth of a microvolt of white noise hardly changes a density.

    Catches a density without a floor, and a floor in another unit than the noise's.
    """
    rng = np.random.default_rng(0)
    extra = 1e-7 * rng.standard_normal(TEST.ieeg.shape)
    for kind in (baselines.Prior, baselines.LaggedRidge):
        method = kind().fit([TRAIN.pair])
        density = method.log_density(*TEST.pair)
        noisy = method.log_density(TEST.scalp, TEST.contacts, TEST.ieeg + extra)
        assert_allclose(noisy, density, atol=0.05)


@pytest.mark.parametrize("name", ["prior", "ridge", "U-Net", "patient flow"])
def test_methods_know_their_density(name):
    """They find their own draws as likely as the truth; another moment's less so.

    Catches a shifted control that is shown the right scalp, and windows of a flow
    whose channels and times are exchanged.
    """
    linear = {"prior": baselines.Prior, "ridge": baselines.LaggedRidge}
    method = linear[name]().fit([TRAIN.pair]) if name in linear else _trained(name)
    own = _draws(method, n_draws=1)[0]
    truth = method.log_density(*TEST.pair)
    drawn = method.log_density(TEST.scalp, TEST.contacts, own)
    assert_allclose(drawn, truth, atol=0.4)
    other = baselines.OtherScalp(method, "shifted").log_density(*TEST.pair)
    assert other < truth - 0.05 if name != "prior" else other == truth


@pytest.mark.parametrize(
    ("kind", "off"),
    [(baselines.LaggedRidge, 0.7), (partial(networks.PatientFlow, 2, width=8), 0.01)],
)
def test_densities_are_for_volts(kind, off):
    """Ten times as large contacts are log 10 nats less dense.

    Save that the floor of the ridge is in volts too, and matters less then. Catches
    densities in the unit of the training.
    """
    densities = []
    for factor in (1, 10):
        train, test = (replace(r, ieeg=factor * r.ieeg) for r in (TRAIN, TEST))
        densities.append(kind().fit([train.pair]).log_density(*test.pair))
    assert_allclose(densities[0] - densities[1], np.log(10), atol=off)


def test_density_of_physics():
    """That of a Gaussian with the posterior's mean, at the recording's gain.

    Catches a gain that is left out, and the prior in the posterior's place.
    """
    physics = baselines.HeadModel()
    posterior, gain = baselines.posterior_of(TEST.scalp, CONTACTS)
    freqs, density = baselines.mean_spectrum([TEST.scalp.data], 128.0)
    density = (density / density.sum(1, keepdims=True)).mean(0)
    noise = baselines.ResidualNoise(
        gain**2 * posterior.covariance, freqs, density, 128.0
    )
    residual = TEST.ieeg - posterior.operator @ TEST.scalp.data
    assert_allclose(physics.log_density(*TEST.pair), noise.log_density(residual))


def test_physics_is_the_spatial_posterior():
    """The mean is the package's, the spread its covariance at the recording's gain.

    Catches a gain that is left out and a prior in the posterior's place.
    """
    physics = baselines.HeadModel()
    draws = _draws(physics, n_draws=50)
    posterior = spatial_posterior(TEST.scalp.electrodes, CONTACTS)
    mean = posterior.operator @ TEST.scalp.data
    assert_allclose(draws.mean(0), mean, atol=5 * draws.std() / np.sqrt(50))
    gain = np.median(TEST.scalp.robust_rms() / posterior.scalp_std)
    spread = np.sqrt(np.mean((draws - mean) ** 2, axis=(0, 2)))
    expected = gain * np.sqrt(np.diag(posterior.covariance))
    assert_allclose(spread, expected, rtol=0.05)
    prior = _draws(baselines.Prior(), n_draws=50)
    assert_allclose(
        np.sqrt(np.mean(prior**2, axis=(0, 2))), gain * posterior.prior_std, rtol=0.05
    )


def test_prior_of_known_contacts():
    """With pairs the prior is the contacts' own, calibrated and without skill.

    Catches a prior that keeps the physics where it knows the contacts.
    """
    draws = _draws(baselines.Prior().fit([TRAIN.pair]), n_draws=40)
    assert_allclose(draws.std((0, 2)), TRAIN.ieeg.std(1), rtol=0.1)
    r, crps = _skill(draws)
    assert abs(r) < 0.1
    # E|X - X'| / 2 of a Gaussian, not less
    assert_allclose(crps, 1 / np.sqrt(np.pi), atol=0.03)


def test_ridge_finds_a_lagged_map():
    """Half of the contacts' variance follows the scalp by 16 ms.

    The best correlation is 0.71. Catches lags in one direction, residuals of the
    training (coverage 0.8) and the least penalty throughout.
    """
    ridge = baselines.LaggedRidge().fit([TRAIN.pair])
    draws = _draws(ridge, n_draws=40)
    r, crps = _skill(draws)
    assert r > 0.6 and crps < 0.46
    covered = ensemble.coverage(draws, TEST.ieeg, 0.9).mean()
    assert_allclose(covered, 0.9, atol=0.03)
    little = baselines.LaggedRidge().fit([TRAIN.crop(0, 6).pair])
    assert _skill(_draws(little))[1] < 0.58
    shifted = _skill(_draws(baselines.OtherScalp(ridge, "shifted")))
    assert abs(shifted[0]) < 0.15 and shifted[1] > 0.6
    with pytest.raises(ValueError, match="cannot predict others"):
        _draws(ridge, OTHER)


def test_ridge_regression_is_exact():
    """Against its normal equations, for each target with its own penalty.

    Catches penalties that are mixed up between targets.
    """
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 60)), rng.standard_normal((3, 60))
    ridge = baselines._Ridge(x @ x.T, x @ y.T)
    choice = np.array([0, 4, 7])
    for k, penalty in enumerate(ridge.penalties[choice] * np.trace(x @ x.T) / 5):
        expected = np.linalg.solve(x @ x.T + penalty * np.eye(5), x @ y[k])
        assert_allclose(ridge.weights(choice)[:, k], expected)
    error = np.square(y).sum(1) - ridge.gain(x @ x.T, x @ y.T)
    weights = ridge.weights(choice)
    expected = np.square(y - weights.T @ x).sum(1)
    assert_allclose(error[choice, np.arange(3)], expected)


def test_other_scalps():
    """The shifted scalp is the same one half of the length later; the shuffled one
    another's. Catches a shuffled control that shows the right scalp.
    """

    class Mirror:
        def fit(self, pairs):
            return self

        def sample(self, scalp, contacts, n_draws, random_state=0):
            return scalp.data[None]

    half = TEST.scalp.data.shape[1] // 2
    shifted = _draws(baselines.OtherScalp(Mirror(), "shifted").fit([TRAIN.pair]))[0]
    assert_allclose(shifted[:, half:], TEST.scalp.data[:, :half])
    pairs = [TRAIN.crop(0, 5).pair, OTHER.crop(0, 10).pair]
    shuffled = _draws(baselines.OtherScalp(Mirror(), "shuffled").fit(pairs))[0]
    assert_allclose(shuffled[:, :1280], OTHER.scalp.data[:, :1280])
    assert shuffled.shape[1] == TEST.ieeg.shape[1]
    with pytest.raises(ValueError, match="'how' parameter"):
        baselines.OtherScalp(Mirror(), "turned")


def test_encoding():
    """One patient's channels, or what several patients have in common.

    Catches outputs in another contact's unit and inputs in volts.
    """
    for pairs, shape in (([TRAIN.pair], (1, 4)), ([TRAIN.pair, OTHER.pair], (4, 1))):
        encoding = baselines.Encoding(pairs)
        assert encoding.fixed == (len(pairs) == 1)
        outputs = encoding.outputs(*TRAIN.pair)
        assert outputs.shape[:2] == shape
        back = encoding.decode(outputs[None], TRAIN.scalp, TRAIN.contacts)
        assert_allclose(back[0], TRAIN.ieeg, rtol=1e-4)
        inputs = encoding.inputs(TRAIN.scalp, TRAIN.contacts)
        assert len(inputs) == shape[0] and 0.2 < inputs.std() < 3


def test_bad_electrodes_do_not_ruin_everything():
    """One that was dead in the training and is not, one that was good and is strong.

    Catches components of no variance that are brought to one, bad electrodes that
    are heard and components that are not clipped.
    """

    def scaled(recording, **factors):
        data = recording.scalp.data.copy()
        for name, factor in factors.items():
            data[recording.scalp.ch_names.index(name)] *= factor
        return replace(recording, scalp=replace(recording.scalp, data=data))

    train = scaled(TRAIN, ch3=1e-4)
    encoding = baselines.Encoding([train.pair])
    usual = encoding.inputs(train.scalp, train.contacts)
    popped = scaled(TEST, ch3=1e-4)
    popped.scalp.data[5, 300] = 1.0
    quiet = scaled(TEST, ch3=0.01)
    for test in (TEST, quiet, popped, scaled(TEST, ch3=1e-4, ch5=100)):
        found = encoding.inputs(test.scalp, test.contacts)
        assert np.abs(found).max() < 6.1
        assert np.square(found).mean() < 3 * np.square(usual).mean()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_networks_learn(name):
    """After few steps every peer knows something of the scalp, the same every time.

    Catches a network without scalp EEG among its inputs, draws in the wrong unit
    and seeds that do not reach the training.
    """
    method = _trained(name)
    draws = _draws(method, n_draws=10)
    assert draws.shape == (10, *TEST.ieeg.shape)
    assert 0.3 < draws.std() / TEST.ieeg.std() < 2
    assert _skill(draws)[0] > 0.2
    # Training again takes no more than a few steps to differ.
    first, other = (NETWORKS[name](3, width=16) for _ in range(2))
    first.fit([TRAIN.pair])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        other.fit([TRAIN.pair])
    drawn = _draws(first, n_draws=1)
    assert_allclose(_draws(other, n_draws=1), drawn, rtol=1e-3, atol=1e-8)
    assert np.abs(_draws(first, n_draws=1, seed=1) - drawn).max() > 1e-8


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_reach_other_patients(name):
    """Trained on two patients, asked for one with other electrodes, 3.3 s long."""
    pairs = [TRAIN.crop(0, 9).pair, OTHER.crop(0, 9).pair]
    method = NETWORKS[name](n_steps=2, width=8).fit(pairs)
    new = make_recording(3.3, 5, "p3", turn=7)
    draws = _draws(method, new, n_draws=3)
    assert draws.shape == (3, *new.ieeg.shape) and np.isfinite(draws).all()


def test_collapse_is_seen():
    """The GAN's draws hardly differ: the spread is a fraction of the error.

    Catches intervals that are blown up to hide it.
    """
    draws = _draws(_trained("GAN"))
    error = np.sqrt(np.mean((draws.mean(0) - TEST.ieeg) ** 2))
    assert draws.std(0).mean() < 0.5 * error
    assert ensemble.coverage(draws, TEST.ieeg, 0.9).mean() < 0.6


def test_patient_flow_is_exact():
    """Its inverse undoes it, and its log-determinant is that of the Jacobian.

    Catches a rotation that is not turned back and a scale that is not counted.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = networks.PatientFlow(width=8)
        flow._n_couplings = 3
        flow._build(2, 1)
        flow.nets.double()
        for parameter in flow.nets.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        inputs = torch.randn(1, 2, 8).double()
        targets = torch.randn(1, 1, 8).double()
    context, state = flow._fold(inputs), flow._fold(targets)
    assert_allclose(flow._unfold(state), targets)

    def whole(state):
        for coupling in flow.nets:
            state, _ = coupling(state.reshape(1, 4, 2), context)
        return state.flatten()

    jacobian = torch.autograd.functional.jacobian(whole, state.flatten())
    noise = whole(state.flatten())
    expected = torch.linalg.slogdet(jacobian)[1] - 0.5 * (
        noise.square().sum() + 8 * np.log(2 * np.pi)
    )
    assert_allclose(flow.log_prob(inputs, targets)[0].item(), expected.item())
    state = noise.reshape(1, 4, 2)
    for coupling in reversed(flow.nets):
        state = coupling.inverse(state, context)
    # the rotation is orthogonal to single precision
    assert_allclose(flow._unfold(state).detach(), targets, atol=1e-5)


def test_unconditional_flow_ignores_the_scalp():
    """Catches an unconditional control that is shown the scalp when it draws."""
    method = networks.PatientFlow(n_steps=2, width=8, uses_scalp=False)
    method.fit([TRAIN.pair])
    other = replace(TEST, scalp=replace(TEST.scalp, data=TEST.scalp.data[:, ::-1]))
    assert_allclose(_draws(method, other, 2), _draws(method, TEST, 2))


@pytest.mark.slow
def test_our_own_methods(monkeypatch, tmp_path):
    """As shipped, and with intervals corrected by pairs of the same contacts only.

    Catches contacts in another order and a correction by other patients' contacts.
    """
    use_model(monkeypatch, save_small_model(tmp_path))
    draws = _draws(ours.Pretrained(), n_draws=6)
    assert draws.shape == (6, *TEST.ieeg.shape)
    turned = TEST.contacts[::-1]
    other = ours.Pretrained().sample(TEST.scalp, turned, 1)[0]
    assert_allclose(other[::-1], draws[0], atol=1e-3 * draws.std())
    scalp, contacts, ieeg = TRAIN.pair
    strong = [(scalp, contacts, 3 * ieeg)]
    corrected = _draws(ours.Recalibrated().fit(strong), n_draws=6)
    # Scored as if the truth were three times as strong as well.
    assert _skill(corrected / 3)[1] < _skill(draws / 3)[1] - 0.05
    assert corrected.std(0).mean() > 1.5 * draws.std(0).mean()
    density = ours.Pretrained().log_density(*TEST.pair)
    own = ours.Pretrained().log_density(TEST.scalp, TEST.contacts, draws[0])
    assert own > density
    pairs = [TRAIN.pair, (OTHER.scalp, OTHER.contacts + 0.002, OTHER.ieeg)]
    kept = _draws(ours.Recalibrated().fit(pairs), n_draws=6)
    assert_allclose(kept, draws)
