"""Small flows and conditions that the tests of the mathematics share."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from mne_neuroflow.contract import BLOCK
from mne_neuroflow.flow.context import make_conditions
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.flow.sampler import Noise, contact_keys
from mne_neuroflow.flow.wavelet import LEVEL_SIZES
from mne_neuroflow.head.posterior import (
    farthest_points,
    posterior_from_fields,
    symmetric_roots,
)

N_LEVELS = len(LEVEL_SIZES)
CONFIG = FlowConfig(width=16, n_heads=2, steps=("sf", "c", "cf", "c"))


@contextmanager
def seeded(seed):
    """Draw from torch's global generator as if nothing had happened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def make_flow(config=CONFIG, seed=0, scale=0.0, dtype=torch.float64):
    """Build a flow; a positive scale moves it away from the untrained one."""
    with seeded(seed):
        flow = ConditionalFlow(config).to(dtype)
        torch.manual_seed(seed + 1)  # whatever the layers have drawn
        for parameter in flow.parameters():
            parameter.data += scale * torch.randn_like(parameter)
    return flow


def make_positions(n_contacts, seed=0):
    """Contacts in both temporal lobes, metres."""
    rng = np.random.default_rng(seed)
    side = np.where(np.arange(n_contacts) % 2, 1.0, -1.0)
    box = rng.uniform([0.02, -0.035, -0.03], [0.05, 0.005, 0.0], (n_contacts, 3))
    return box * np.stack([side, *np.ones((2, n_contacts))], axis=1)


def make_fields(n_contacts, n_electrodes=6, n_generators=40, seed=0):
    """Scalp (volts), contacts (volts) and virtual sensors of random generators."""
    rng = np.random.default_rng(seed)
    scalp = 3e-6 * rng.standard_normal((n_electrodes, n_generators))
    scalp -= scalp.mean(0)
    contacts = 1e-5 * rng.standard_normal((n_contacts, n_generators))
    return scalp, contacts, rng.standard_normal((4, n_generators))


def make_posterior(n_contacts, seed=0):
    """Spatial posterior of the random generators."""
    return posterior_from_fields(*make_fields(n_contacts, seed=seed))


def make_scalp(posterior, n_blocks, seed=0):
    """Average-referenced scalp of white noise as large as the prior's, volts."""
    rng = np.random.default_rng(seed)
    shape = (len(posterior.scalp_std), BLOCK * n_blocks)
    scalp = rng.standard_normal(shape) * posterior.scalp_std[:, np.newaxis]
    return scalp - scalp.mean(0)


def halves(positions):
    """The two halves of the contacts, as for predictions."""
    half = np.ones(len(positions))
    half[farthest_points(positions, (len(positions) + 1) // 2)] = 0
    return half


def level_factors(n_contacts):
    """Factors by which the levels' covariances differ from that of all, diagonal."""
    rng = np.random.default_rng(5)
    return np.exp(0.1 * rng.standard_normal((N_LEVELS, n_contacts)))


def conditions_from(
    posterior, positions, scalp, order=None, gain=None, dtype=torch.float64
):
    """Conditions of one recording, a batch of one, with a covariance for each level.

    The factors belong to contacts: ``order`` says which of them the contacts are.
    """

    def batch_of_one(array):
        return torch.as_tensor(np.asarray(array), dtype=dtype)[None]

    n_contacts = len(positions)
    order = np.arange(n_contacts) if order is None else order
    factors = level_factors(n_contacts)[:, order]
    roots = [
        symmetric_roots(f[:, None] * posterior.covariance * f[None]) for f in factors
    ]
    if gain is None:
        gain = np.median(np.sqrt((scalp**2).mean(-1)) / posterior.scalp_std)
    known = {
        "covariance": posterior.covariance,
        "root": np.stack([root for root, _ in roots]),
        "inverse_root": np.stack([inverse for _, inverse in roots]),
        "mean_std": posterior.mean_std,
        "prior_std": posterior.prior_std,
        "observability": posterior.observability,
        "level_features": np.tile(factors.T, 3),
    }
    distance = 0.02 + 0.5 * np.abs(positions[:, 0])
    arrays = (positions, distance, halves(positions), len(scalp), gain, 0.3)
    return make_conditions(
        batch_of_one(posterior.operator @ scalp),
        {name: batch_of_one(array) for name, array in known.items()},
        *map(batch_of_one, arrays),
    )


def make_conditions_of(n_contacts, n_blocks, seed=0, dtype=torch.float64):
    """Conditions of random generators and a random scalp, a batch of one."""
    posterior = make_posterior(n_contacts, seed)
    scalp = make_scalp(posterior, n_blocks, seed)
    positions = make_positions(n_contacts, seed)
    return conditions_from(posterior, positions, scalp, dtype=dtype)


def mixture_density(noise, amplitudes):
    """Log-density of noise by the definition of its amplitudes, term by term.

    Each variate is rounded to its grid: that of the recording, that of a contact given
    the recording's, and that of each level.
    """

    def masses(nodes, mean, std):
        edges = np.concatenate([[-np.inf], (nodes[1:] + nodes[:-1]) / 2, [np.inf]])
        return np.diff(norm.cdf(edges, mean, std))

    recording, contact, level = (
        np.linspace(-4, 4, round(8 / step) + 1) for step in (0.2, 0.1, 0.25)
    )
    share, common = amplitudes.share.detach().numpy(), float(amplitudes.common.detach())
    total = np.log(masses(recording, 0, 1))
    for k in range(noise.shape[1]):
        centre, spread = (
            x[0, k].detach().numpy() for x in (amplitudes.centre, amplitudes.spread)
        )
        assert (spread > 0.001).all()
        terms = np.zeros(len(contact))
        parts = noise[0, k].detach().split(LEVEL_SIZES, dim=-1)
        for number, part in enumerate(parts):
            place = share[number] * contact[:, None]
            place = place + np.sqrt(1 - share[number] ** 2) * level
            scale = np.exp(centre[number] + spread[number] * place)
            values = part.flatten().numpy()[:, None, None]
            density = norm.logpdf(values, scale=scale).sum(0)
            terms += logsumexp(density, b=masses(level, 0, 1), axis=1)
        own = np.sqrt(1 - common**2)
        for j, value in enumerate(recording):
            mass = masses(contact, common * value, own)
            total[j] += logsumexp(terms, b=mass)
    return logsumexp(total)


class Recording:
    """A recording without end: conditions and potentials of any stretch of it."""

    N_BEFORE, N_BLOCKS = 30, 90

    def __init__(self, n_contacts, dtype):
        self.dtype = dtype
        self.posterior = make_posterior(n_contacts)
        self.positions = make_positions(n_contacts)
        self.scalp = make_scalp(self.posterior, self.N_BLOCKS)
        rms = np.sqrt((self.scalp**2).mean(-1))
        self.gain = np.median(rms / self.posterior.scalp_std)
        self.whole = conditions_from(
            self.posterior, self.positions, self.scalp, gain=self.gain, dtype=dtype
        )
        rng = np.random.default_rng(1)
        shape = (1, n_contacts, BLOCK * self.N_BLOCKS)
        self.potentials = torch.as_tensor(
            6e-5 * rng.standard_normal(shape), dtype=dtype
        )
        self.noise = Noise(3, contact_keys(self.positions), dtype=dtype)

    def _slice(self, first, n):
        start = first + self.N_BEFORE
        assert 0 <= start <= self.N_BLOCKS - n
        return slice(start * BLOCK, (start + n) * BLOCK)

    def conditions_of(self, first, n):
        mean = self.whole.mean[..., self._slice(first, n)]
        return replace(self.whole, mean=mean.contiguous())

    def potentials_of(self, first, n):
        return self.potentials[..., self._slice(first, n)]
