"""Amplitudes: one for each draw, contact and level, and a density to match.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import replace

import flow_cases
import numpy as np
import pytest
import torch
from flow_cases import BLOCK, make_conditions_of, make_flow
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import chi2, kstest, norm

from mne_neuroflow.flow.amplitude import (
    N_LEVELS,
    N_VARIATES,
    Amplitude,
    Amplitudes,
    seen_amplitudes,
)
from mne_neuroflow.flow.sampler import Noise
from mne_neuroflow.flow.wavelet import LEVEL_SIZES

SIZES = torch.tensor(LEVEL_SIZES, dtype=torch.float64)
SHARE, COMMON = (0.5, 0.8, 0.9, 0.7), 0.6


def _normal(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def _variates(*shape, seed=0):
    variates = _normal(*shape, N_VARIATES, seed=seed)
    variates[..., 0] = variates[..., :1, 0]
    return variates


def _amplitudes(spread, *shape, centre=0.0, share=SHARE, common=COMMON):
    whole = torch.ones(*shape, N_LEVELS, dtype=torch.float64)
    share, common = (torch.tensor(x, dtype=torch.float64) for x in (share, common))
    return Amplitudes(centre * whole, spread * whole, share, common)


def _energy(amplitudes, n_blocks, seed=0):
    """Energies of noise of these amplitudes, (batch, contact, block, level)."""
    shape = amplitudes.centre.shape[:2]
    scale = amplitudes.scale(_variates(*shape, seed=seed))
    rng = np.random.default_rng(seed)
    energy = rng.chisquare(LEVEL_SIZES, (*shape, n_blocks, N_LEVELS))
    return torch.as_tensor(energy) * scale[:, :, None].square()


def test_without_spread_noise_is_gaussian():
    """Every second is by itself, and densities are the normal's.

    Catches masses of a grid that do not sum to one.
    """
    energy = _energy(_amplitudes(0.3, 2, 3), 5)
    expected = (-0.5 * energy - 0.5 * SIZES * np.log(2 * np.pi)).sum(-1)
    assert_allclose(_amplitudes(0, 2, 3).log_prob(energy), expected, rtol=1e-12)


def test_density_by_its_definition():
    """Every term of the sum, in plain loops.

    Catches contacts that do not share the recording's variate, levels that do not
    share the contact's, and a share of its square.
    """
    amplitudes = _amplitudes(0.7, 1, 3, centre=-0.2)
    noise = torch.cat(
        [
            scale * _normal(3, 2, size, seed=size)
            for scale, size in zip((0.5, 0.8, 2.0, 1.5), LEVEL_SIZES, strict=True)
        ],
        -1,
    )[None]
    energy = [part.square().sum(-1) for part in noise.split(LEVEL_SIZES, dim=-1)]
    found = amplitudes.log_prob(torch.stack(energy, -1)).sum()
    assert_allclose(found, flow_cases.mixture_density(noise, amplitudes), rtol=1e-12)


@pytest.mark.parametrize("spread", [0.2, 0.8])
def test_density_against_quadrature(spread):
    """A level's density is the integral over a log-normal amplitude.

    On the grids they agree to 3e-3 nats. Catches nodes without their mass, and a grid
    that ends at one standard deviation.
    """
    amplitudes = _amplitudes(spread, 1, 1, centre=-0.4)
    energy = _energy(amplitudes, 1)[:, :, 0]
    found = float(amplitudes.log_prob_jointly(energy, 1)[0, 0])
    size, power = LEVEL_SIZES[0], float(energy[0, 0, 0])

    def log_likelihood(g):
        log_scale = -0.4 + spread * g
        normal = size * (log_scale + 0.5 * np.log(2 * np.pi))
        return -normal - 0.5 * power * np.exp(-2 * log_scale)

    peak = max(log_likelihood(g) for g in np.linspace(-5, 5, 1001))

    def likelihood(g):
        return np.exp(log_likelihood(g) - peak) * norm.pdf(g)

    expected = np.log(quad(likelihood, -8, 8, limit=400)[0]) + peak
    assert_allclose(found, expected, atol=3e-3)


def test_seconds_sum_to_the_stretch(monkeypatch):
    """Whatever number of seconds is summed at once.

    Catches a first second of every block that forgets the blocks before, and what
    contacts say about each other left out.
    """
    amplitudes = _amplitudes(0.7, 2, 3)
    energy = _energy(amplitudes, 20)
    whole = amplitudes.log_prob(energy)
    for n_blocks in (1, 13, 20):
        joint = amplitudes.log_prob_jointly(energy[:, :, :n_blocks].sum(2), n_blocks)
        found = whole[:, :, :n_blocks].sum((1, 2))
        assert_allclose(found, joint.sum(-1), rtol=1e-10)
    monkeypatch.setattr("mne_neuroflow.flow.amplitude._AT_ONCE", 500_000)
    assert_allclose(amplitudes.log_prob(energy), whole, rtol=1e-9)


def test_later_seconds_know_how_strong_a_contact_is():
    """A contact that was strong is expected to be strong: the mixture's whole point.

    After half a minute the density is within 0.01 nats per coefficient of that of
    somebody who knows the amplitudes. Catches amplitudes that are drawn each second.
    """
    amplitudes = _amplitudes(0.8, 20, 3)
    energy = _energy(amplitudes, 30, seed=3)
    scale = amplitudes.scale(_variates(20, 3, seed=3))[:, :, None]
    known = -0.5 * energy / scale**2 - SIZES * torch.log(scale * (2 * np.pi) ** 0.5)
    lost = (known.sum(-1) - amplitudes.log_prob(energy)).mean((0, 1)) / SIZES.sum()
    assert lost[0] > 0.03
    assert abs(float(lost[-5:].mean())) < 0.01


@pytest.mark.slow
def test_amplitudes_are_drawn_from_their_density():
    """The mean of another density over this one, over draws, is one.

    Catches draws without the centre, with the square of the spread, and contacts that
    have each their own recording.
    """
    n = 4_000
    amplitudes = _amplitudes(0.3, n, 2, centre=0.3)
    energy = _energy(amplitudes, 1, seed=1)
    own = _density(amplitudes, energy)
    for other in (
        _amplitudes(0.25, n, 2, centre=0.25),
        _amplitudes(0.3, n, 2, centre=0.3, common=0.2),
        _amplitudes(0.3, n, 2, centre=0.3, share=(0.7, 0.7, 0.7, 0.8)),
    ):
        ratio = torch.exp((_density(other, energy) - own).sum((1, 2)))
        error = float(ratio.std() / np.sqrt(n))
        assert error < 0.03
        assert abs(float(ratio.mean()) - 1) < 4 * error
    log_scale = torch.log(amplitudes.scale(_variates(n, 2, seed=5)))
    assert kstest((log_scale[:, 0, 0].numpy() - 0.3) / 0.3, norm.cdf).statistic < 0.02


def _density(amplitudes, energy, length=500):
    """Log-density of energies, some recordings at a time: memory stays small."""
    found = []
    for start in range(0, len(energy), length):
        part = slice(start, start + length)
        centre, spread = amplitudes.centre[part], amplitudes.spread[part]
        some = replace(amplitudes, centre=centre, spread=spread)
        found.append(some.log_prob(energy[part]))
    return torch.cat(found)


def test_amplitudes_are_correlated():
    """Over levels of a contact and over contacts of a recording, as they should be.

    Catches a share of its square, and a contact's variate that forgets its recording.
    """
    log_scale = torch.log(_amplitudes(0.5, 20_000, 2).scale(_variates(20_000, 2)))
    found = np.corrcoef(log_scale.flatten(1).T.numpy())
    share = np.array(SHARE)
    within = np.outer(share, share)
    expected = np.block([[within, COMMON**2 * within], [COMMON**2 * within, within]])
    np.fill_diagonal(expected, 1)
    assert_allclose(found, expected, atol=0.03)


def test_what_pairs_have_shown():
    """A normal likelihood and a normal prior: Bayes' rule, by quadrature.

    Catches variances in place of precisions, and a likelihood that the prior's
    centre is left out of.
    """
    conditions = make_conditions_of(1, 1)
    layer = Amplitude().double()
    layer.start(0.5)
    layer.weight.data[0, :N_LEVELS] = -0.2
    seen = torch.tensor([0.7, 9.0], dtype=torch.float64)
    known = replace(conditions, amplitude=seen.expand(1, 1, N_LEVELS, 2))
    grid = np.linspace(-4, 4, 4001)
    weight = norm.pdf(grid, -0.2, 0.5) * norm.pdf(grid, 0.7, 1 / 3)
    mean = np.average(grid, weights=weight)
    spread = np.sqrt(np.average((grid - mean) ** 2, weights=weight))
    found = layer(known)
    assert_allclose(found.centre[0, 0].detach(), mean, rtol=1e-6)
    assert_allclose(found.spread[0, 0].detach(), spread, rtol=1e-6)
    nothing = layer(replace(conditions, amplitude=0 * known.amplitude))
    assert_allclose(nothing.centre[0, 0].detach(), -0.2)
    assert_allclose(nothing.spread[0, 0].detach(), 0.5)


@pytest.mark.parametrize("n_stretches", [2, 8])
def test_amplitudes_are_found_in_pairs(n_stretches):
    """To their standard error, and with the spread between stretches.

    Catches a precision that counts seconds in place of coefficients, stretches
    whose differences are taken for chance, and a mean of two stretches that is taken
    for that of all (``1 + 1 / n``).
    """
    rng = np.random.default_rng(0)
    n_contacts, seconds = 300, 20
    count = torch.full((n_stretches, 1, 1), seconds) * SIZES
    truth = rng.normal(0, 0.5, (1, n_contacts, N_LEVELS))
    for drift in (0.0, 0.2):
        here = truth + drift * rng.standard_normal((n_stretches, n_contacts, N_LEVELS))
        energy = np.exp(2 * here) * rng.chisquare(count.numpy(), here.shape)
        found = seen_amplitudes(torch.as_tensor(energy), count)
        later = truth[0] + drift * rng.standard_normal((n_contacts, N_LEVELS))
        error = (found[..., 0].numpy() - later) * found[..., 1].sqrt().numpy()
        assert_allclose((error**2).mean(0), 1, atol=0.35)


def test_variates_of_amplitudes_belong_to_draw_and_contact():
    """Standard normal, alike for mirror images, and no part of the noise itself.

    Catches variates that are those of the first second, contacts that are counted by
    their order, and a recording's variate that differs between contacts.
    """
    keys = np.arange(50) * 7
    noise = Noise(5, keys, dtype=torch.float64)
    found = noise.amplitude(range(400))
    assert found.shape == (400, 50, N_VARIATES)
    recording, own = found[..., 0], found[..., 1:]
    assert torch.equal(recording, recording[:, :1].expand(-1, 50))
    for values in (recording[:, 0], own):
        assert kstest(values.flatten().numpy(), norm.cdf).pvalue > 1e-3
    sums = own.sum((1, 2)).numpy() / np.sqrt(own[0].numel())
    assert chi2.sf((sums**2).sum(), 400) > 1e-3
    assert torch.equal(noise.amplitude([~3, 7]), found[[3, 7]])
    turned = Noise(5, keys[[4, 1]], dtype=torch.float64)
    assert torch.equal(turned.amplitude([0]), found[:1, [4, 1]])
    other = Noise(6, keys, dtype=torch.float64)
    assert not (other.amplitude([0]) == found[:1]).any()
    values = torch.cat([noise(range(40), -1, 3).flatten(), own.flatten()])
    assert len(values.unique()) == len(values)


@torch.no_grad()
def test_a_draw_keeps_its_amplitude():
    """Halves of a recording are alike strong in a draw, and draws differ.

    With an untrained flow a draw is the noise in whitened units, so that the ratio of
    its halves is that of two chi-square variates. Catches amplitudes that are drawn
    per second, and that are forgotten.
    """
    flow = make_flow()
    flow.amplitude.start(0.6)
    conditions = make_conditions_of(2, 16)
    conditioned = flow.condition(conditions)
    noise = _normal(60, 2, 16, BLOCK, seed=1)
    draws = conditioned.sample(noise, _variates(60, 2, seed=2))
    levels = conditioned.whiten(draws)
    for level in levels:
        halves = level.unflatten(2, (2, 8)).square().mean((3, 4)).log() / 2
        assert abs(float(halves.std()) - 0.6) < 0.15
        n = 8 * level.shape[-1]
        assert abs(float((halves[..., 0] - halves[..., 1]).std() * n**0.5) - 1) < 0.3
