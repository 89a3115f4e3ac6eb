"""The sampler: noise that belongs to its place, and answers without seams.

Each test names the planted bugs that it was seen to catch.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import flow_cases
import numpy as np
import pytest
import torch
from flow_cases import BLOCK, CONFIG, make_flow
from numpy.testing import assert_array_equal
from scipy.stats import chi2, kstest

from mne_neuroflow.flow import slabs
from mne_neuroflow.flow.sampler import (
    Noise,
    contact_keys,
    normals,
    philox,
    sample_blocks,
    score_blocks,
)

N_CONTACTS = 4
FLOW = replace(CONFIG, steps=("sc", "cf", "c", "f"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products are slower on several threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


# ------------------------------------------------------------------ random words

# Known answers of the authors' library Random123 (kat_vectors, philox4x32 10).
ONES = 0xFFFFFFFF
KNOWN = [
    ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([ONES] * 4, (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_philox_known_answers(counter, key, expected):
    """Catches nine rounds, exchanged multipliers, and an arithmetic right shift."""
    words = philox([torch.tensor(word) for word in counter], key)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_normals():
    """Moments, distribution and independence of a million normals.

    Standard errors: 0.001 for the mean, 0.0014 for variance and correlations, 0.0024
    and 0.005 for the third and fourth moment. Catches a cosine in place of the sine
    (correlations), a radius without its factor of two, and words that are not
    scaled to the whole unit interval.
    """
    counter = [torch.arange(250_000), *[torch.tensor(word) for word in (1, 2, 3)]]
    draws = normals(philox(counter, (4, 5)))
    assert draws.shape == (250_000, 4) and draws.dtype == torch.float64
    flat = draws.flatten().numpy()
    for power, moment, error in (
        (1, 0, 1e-3),
        (2, 1, 1.4e-3),
        (3, 0, 4e-3),
        (4, 3, 1e-2),
    ):
        assert abs((flat**power).mean() - moment) < 5 * error
    assert kstest(flat[:200_000], "norm").pvalue > 1e-3
    assert np.abs(flat).max() < 7
    for columns in (draws, draws.square()):
        correlation = np.corrcoef(columns.T.numpy()) - np.eye(4)
        assert np.abs(correlation).max() < 5 * 2e-3
    # neighbouring counters
    assert abs(np.corrcoef(flat[:-4], flat[4:])[0, 1]) < 5e-3


# ------------------------------------------------------------------ noise


@pytest.fixture
def keys():
    return contact_keys(flow_cases.make_positions(N_CONTACTS))


def test_noise_belongs_to_its_place(keys):
    """Any block of draws, contacts, seconds and epochs is that of the whole.

    Catches seconds that are counted from the block's start, draws that are counted
    from the batch's, and contacts that are counted by their order.
    """
    noise = Noise(7, keys, dtype=torch.float64)
    whole = noise(range(6), -5, 20, epoch=2)
    assert whole.shape == (6, N_CONTACTS, 20, BLOCK)
    for first, n in ((-5, 1), (-1, 3), (0, 4), (14, 1)):
        block = whole[:, :, first + 5 : first + 5 + n]
        assert torch.equal(noise(range(6), first, n, epoch=2), block)
    assert torch.equal(noise([5, 2], -5, 20, epoch=2), whole[[5, 2]])
    order = [2, 0, 3, 1]
    shuffled = Noise(7, keys[order], dtype=torch.float64)
    assert torch.equal(shuffled(range(6), -5, 20, epoch=2), whole[:, order])
    single = Noise(7, keys, dtype=torch.float32)(range(6), -5, 20, epoch=2)
    assert torch.equal(single, whole.float())


def test_noise_differs_everywhere_else(keys):
    """Seeds, draws, contacts, seconds and epochs have their own.

    Catches an epoch that shifts into the next, and a seed of which the upper half
    is lost.
    """
    noise = Noise(7, keys, dtype=torch.float64)
    blocks = [
        noise(range(5), -3, 8, epoch=0),
        noise(range(5), -3, 8, epoch=1),
        Noise(8, keys, dtype=torch.float64)(range(5), -3, 8),
        Noise(7 + 2**32, keys, dtype=torch.float64)(range(5), -3, 8),
        Noise(7 + 2**62, keys, dtype=torch.float64)(range(5), -3, 8),
    ]
    values = torch.cat([block.flatten() for block in blocks])
    assert len(values.unique()) == len(values)


def test_noise_is_white_and_normal(keys):
    """Over each axis in turn.

    Catches two draws that share their words.
    """
    block = Noise(1, keys, dtype=torch.float64)(range(40), 0, 40)
    n = block.numel()
    assert abs(float(block.mean())) < 5 / np.sqrt(n)
    assert abs(float(block.var()) - 1) < 5 * np.sqrt(2 / n)
    for axis in range(4):
        shorter = block.shape[axis] - 1
        lagged = block.narrow(axis, 1, shorter) * block.narrow(axis, 0, shorter)
        assert abs(float(lagged.mean())) < 5 / np.sqrt(lagged.numel())
    # Sums over a draw have the variance of independent normals.
    sums = block.flatten(1).sum(1).numpy() / np.sqrt(n / 40)
    assert chi2.sf((sums**2).sum(), 40) > 1e-3


def test_mirrored_draws(keys):
    """``~k`` is draw ``k`` with the other sign, in any order and beside any others.

    Catches mirror images of the neighbouring draw.
    """
    noise = Noise(5, keys)
    both = noise([3, ~3, ~0, 0], -2, 4, epoch=1)
    assert torch.equal(both[1], -both[0]) and torch.equal(both[2], -both[3])
    assert torch.equal(both[[0, 3]], noise([3, 0], -2, 4, epoch=1))
    assert not torch.equal(both[0], both[3])


def test_contact_keys():
    """A contact's key is where it is, whatever its neighbours and its order.

    Catches keys that are row numbers, and coordinates in millimetres that are cut
    off.
    """
    rng = np.random.default_rng(0)
    positions = rng.uniform(-0.08, 0.08, (3000, 3))
    keys = contact_keys(positions)
    assert len(set(keys)) == 3000
    assert keys.min() >= 0 and keys.max() < 2**32
    order = rng.permutation(3000)
    assert_array_equal(contact_keys(positions[order]), keys[order])
    assert_array_equal(contact_keys(positions[:5]), keys[:5])
    moved = positions[:5] + [2e-5, 0, 0]
    assert not set(contact_keys(moved)) & set(keys[:5])
    same = contact_keys(positions[[0, 0, 1]])
    assert len(set(same)) == 3


# ------------------------------------------------------------------ seams


@pytest.fixture(scope="module", params=["float64", "float32"])
def case(request):
    """A flow far from untrained, a recording and the tolerance of its precision.

    In float32, in which it works, samples are the same to the last bit.
    """
    dtype = getattr(torch, request.param)
    tolerance = {"float64": 1e-10, "float32": 0}[request.param]
    recording = flow_cases.Recording(N_CONTACTS, dtype)
    return make_flow(FLOW, scale=0.1, dtype=dtype), recording, tolerance


def _sample(flow, recording, n_blocks, chunk, draws, batch_size, epoch=0):
    """Samples of seconds 0 to n_blocks, chunk by chunk, (draw, contact, time)."""
    chunks = []
    for first in range(0, n_blocks, chunk):
        n = min(chunk, n_blocks - first)
        samples = sample_blocks(
            flow,
            recording.conditions_of,
            recording.noise,
            first,
            n,
            draws,
            batch_size,
            epoch,
        )
        chunks.append(torch.stack(list(samples)))
    return torch.cat(chunks, dim=-1)


def _relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def test_samples_have_no_seams(case):
    """Chunks, batches and numbers of draws do not matter.

    Relative to the largest sample. Catches halos that are one second too narrow
    (1.7e-7 in float64), steps that alternate on the chunk's seconds, noise that goes
    with the batch, a scale that is taken from the chunk, and in float32 products of a
    few rows and torch's own hyperbolic sine.
    """
    flow, recording, tolerance = case
    n = 24
    whole = _sample(flow, recording, n, n, [0, 1, 2], 3)
    assert whole.shape == (3, N_CONTACTS, n * BLOCK)
    for chunk, batch_size in ((8, 1), (5, 2), (1, 3)):
        chunked = _sample(flow, recording, n, chunk, [0, 1, 2], batch_size)
        assert _relative(chunked, whole) <= tolerance
    alone = _sample(flow, recording, n, n, [2], 16)
    assert _relative(alone[0], whole[2]) <= tolerance
    assert _relative(whole[1], whole[2]) > 0.1
    assert _relative(_sample(flow, recording, n, n, [2], 1, 1), alone) > 0.1


@pytest.mark.parametrize("n_tokens", [1, 12, 45])
def test_slabs_have_no_seams(case, n_tokens, monkeypatch):
    """However few seconds are worked on at a time.

    Catches slabs without the seconds that a step reaches, steps that alternate on
    the slab's seconds, and margins that are a second too wide.
    """
    flow, recording, tolerance = case
    monkeypatch.setattr(slabs, "_TOKENS", 10**9)
    whole = _sample(flow, recording, 6, 6, [0, 1], 2)
    monkeypatch.setattr(slabs, "_TOKENS", n_tokens)
    parts = _sample(flow, recording, 6, 6, [0, 1], 2)
    assert _relative(parts, whole) <= tolerance


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_do_not_matter(case, n_threads, monkeypatch):
    """Slabs on several threads: the same samples, and torch is left as it was.

    Catches slabs put together in another order, and one thread that stays after the
    samples are there.
    """
    flow, recording, tolerance = case
    monkeypatch.setattr(slabs, "_TOKENS", 12)
    whole = _sample(flow, recording, 6, 6, [0, 1], 2)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        shared = _sample(flow, recording, 6, 6, [0, 1], 2)
        assert torch.get_num_threads() == n_threads
        with ThreadPoolExecutor(1) as pool:  # threads to come
            assert pool.submit(torch.get_num_threads).result() == n_threads
    finally:
        torch.set_num_threads(before)
    assert _relative(shared, whole) <= tolerance


def test_errors_on_other_threads():
    """They are raised where the slabs are wanted, and later slabs are computed."""

    def halved(first, x):
        if (x < 0).any():
            raise ValueError(f"second {first}")
        return x / 2

    def halve(x):
        return slabs.in_slabs(halved, (x.expand(1, 80, -1, 4),), 0)

    series = torch.arange(200.0)[None, None, :, None]
    wrong = series.clone()
    wrong[..., 190:, :] = -1
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch.no_grad(), slabs.slab_workers(torch.device("cpu")):
            with pytest.raises(ValueError, match="second 1[5-9]"):
                halve(wrong)
            torch.testing.assert_close(halve(series), series.expand(1, 80, -1, 4) / 2)
    finally:
        torch.set_num_threads(before)


def test_margins_are_not_computed_in_vain(case):
    """What the samples of the inner seconds need is computed, with any margin.

    Against a window without margins. Catches margins that are a second too wide.
    """
    flow, recording, tolerance = case
    window = (-flow.reach, 4 + 2 * flow.reach)
    with torch.no_grad():
        conditioned = flow.condition(recording.conditions_of(*window), window[0])
        noise = recording.noise([0], *window)
        whole = conditioned.sample(noise).unflatten(-1, (-1, BLOCK))
        for margin in (1, 3, flow.reach):
            part = conditioned.sample(noise, margin=margin).unflatten(-1, (-1, BLOCK))
            inner = slice(margin, -margin)
            assert _relative(part[:, :, inner], whole[:, :, inner]) <= tolerance


def test_start_does_not_matter(case):
    """A stretch in the middle is the middle of the whole, from before its start too.

    Catches a window that starts at zero.
    """
    flow, recording, tolerance = case

    def stretch(first, n):
        samples = sample_blocks(
            flow, recording.conditions_of, recording.noise, first, n, [4], 1
        )
        return next(iter(samples))

    whole = stretch(-6, 12)
    middle = stretch(-3, 5)
    expected = whole[:, 3 * BLOCK : 8 * BLOCK]
    assert _relative(middle, expected) <= tolerance


def test_scores_have_no_seams(case):
    """Log-densities by chunks are those of the whole.

    Measured 0 in both precisions. Catches halos that are four seconds too narrow,
    steps that alternate on the chunk's seconds, and chunks that forget how strong the
    contacts were before.
    """
    flow, recording, tolerance = case
    arguments = (recording.conditions_of, recording.potentials_of, 0, 24)
    whole = score_blocks(flow, *arguments)
    assert whole.shape == (N_CONTACTS, 24)
    for chunk in (8, 5):
        parts = score_blocks(flow, *arguments, at_once=chunk)
        assert _relative(parts, whole) <= tolerance


def test_score_is_the_density(case):
    """The sum over contacts and seconds is the flow's own log-density.

    Up to what lies in the halos, which a score must leave out. Catches a score
    that keeps a halo.
    """
    flow, recording, tolerance = case
    halo = flow.reach
    window = (-halo, 6 + 2 * halo)
    with torch.no_grad():
        conditioned = flow.condition(recording.conditions_of(*window), window[0])
        parts = conditioned.log_prob_parts(recording.potentials_of(*window))
        change, energy = (part[:, :, halo:-halo] for part in parts)
        expected = (change + conditioned.amplitudes.log_prob(energy))[0]
    arguments = (recording.conditions_of, recording.potentials_of)
    assert _relative(score_blocks(flow, *arguments, 0, 6), expected) <= tolerance


def test_global_state_is_untouched(case):
    """Gradient mode and random numbers are as they were, while sampling too.

    Catches a generator that leaves inference mode on between draws or keeps the
    graph of gradients, and noise from torch's own generator.
    """
    flow, recording, _ = case
    state = torch.get_rng_state()
    arguments = (recording.conditions_of, recording.noise, 0, 2, [0, 1], 1)
    samples = sample_blocks(flow, *arguments)
    assert not next(samples).requires_grad
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    list(samples)
    score_blocks(flow, recording.conditions_of, recording.potentials_of, 0, 2)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_come_one_at_a_time(case):
    """Batches are computed when they are asked for: memory does not grow.

    Catches draws that are all computed before the first is handed out.
    """
    flow, recording, _ = case
    asked = []

    class Watched(Noise):
        def __call__(self, draws, *where):
            asked.append(list(draws))
            return recording.noise(draws, *where)

    noise = Watched(3, np.arange(N_CONTACTS), dtype=recording.dtype)
    samples = sample_blocks(flow, recording.conditions_of, noise, 0, 2, range(5), 2)
    next(samples)
    assert asked == [[0, 1]]
    assert len(list(samples)) == 4
    assert asked == [[0, 1], [2, 3], [4]]
