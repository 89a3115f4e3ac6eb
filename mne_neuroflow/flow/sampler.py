"""Sampling without seams: chunks with halos, and noise that depends on its place.

Windows that are computed independently and cross-faded would lose variance where they
overlap. Here, each chunk is computed with a halo on both sides that is as wide as the
reach of the flow. The noise depends only on the seed, second, contact and number of the
draw. The result therefore does not depend on chunks, batches or the number of draws.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..contract import BLOCK
from .amplitude import N_LEVELS, N_VARIATES
from .context import Conditions
from .model import ConditionalFlow
from .pointwise import PointwiseDistribution
from .slabs import slab_workers

# Philox4x32-10: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as
# easy as 1, 2, 3", SC11; multipliers and Weyl increments of its table 2.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF


def philox(counter: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Generate four random 32-bit words per counter.

    Parameters
    ----------
    counter : list of four Tensor of int64
        Counter words below 2**32, broadcastable.
    key : tuple of int
        Two words below 2**32.

    Returns
    -------
    words : list of four Tensor of int64
        Uniform on 0 ... 2**32 - 1.
    """
    words = list(torch.broadcast_tensors(*counter))
    key_0, key_1 = key
    for _ in range(_ROUNDS):
        # Products wrap in signed 64 bits, which does not change their two halves.
        product_0 = words[0] * _MULTIPLIERS[0]
        product_1 = words[2] * _MULTIPLIERS[1]
        words = [
            ((product_1 >> 32) & _MASK) ^ words[1] ^ key_0,
            product_1 & _MASK,
            ((product_0 >> 32) & _MASK) ^ words[3] ^ key_1,
            product_0 & _MASK,
        ]
        key_0 = (key_0 + _WEYL[0]) & _MASK
        key_1 = (key_1 + _WEYL[1]) & _MASK
    return words


def normals(words: list[Tensor]) -> Tensor:
    """Turn four uniform words into four standard normals (Box & Muller 1958).

    Returns
    -------
    normals : Tensor of shape (..., 4)
        Float64.
    """
    unit = [(word.double() + 0.5) / 2**32 for word in words]
    pairs = []
    for radius, angle in (unit[:2], unit[2:]):
        length = torch.sqrt(-2 * torch.log(radius))
        pairs += [
            length * torch.cos(2 * torch.pi * angle),
            length * torch.sin(2 * torch.pi * angle),
        ]
    return torch.stack(pairs, dim=-1)


def contact_keys(positions) -> np.ndarray:
    """Identify contacts by their positions, so that their order does not matter.

    Parameters
    ----------
    positions : array of shape (n_contacts, 3)
        Metres. Positions are rounded to a hundredth of a millimetre.

    Returns
    -------
    keys : array of int64, shape (n_contacts,)
        Below 2**32, all different.
    """
    grid = np.round(np.asarray(positions, float) * 1e5).astype(np.int64)
    keys = grid @ np.array([73856093, 19349663, 83492791]) & _MASK
    taken = set()
    for k in np.lexsort(grid.T):
        while int(keys[k]) in taken:
            keys[k] = (keys[k] + 1) & _MASK
        taken.add(int(keys[k]))
    return keys


class Noise:
    """Standard normal noise for every second, contact and draw of a recording.

    Parameters
    ----------
    seed : int
        Below 2**63.
    keys : array of int, shape (n_contacts,)
        From :func:`contact_keys`.
    device : str | torch.device
        Device of the noise.
    dtype : torch.dtype
        Type of the noise.
    """

    def __init__(self, seed: int, keys, device="cpu", dtype=torch.float32):
        self._key = (int(seed) & _MASK, (int(seed) >> 32) & _MASK)
        self._contacts = torch.as_tensor(np.asarray(keys), device=device)
        self._device, self._dtype = torch.device(device), dtype
        self._last_amplitude = None, None

    def __call__(self, draws, first_block: int, n_blocks: int, epoch: int = 0):
        """Draw the noise of some seconds.

        Parameters
        ----------
        draws : sequence of int
            Numbers of the draws. ``~k``, which is negative, is the mirror image of draw
            ``k``: the same noise with the opposite sign. All noise that the flow
            transforms linearly cancels in the mean of a draw and its mirror image
            (antithetic variates: Hammersley & Morton 1956, Math. Proc. Camb. Phil. Soc.
            52, 449-475).
        first_block, n_blocks : int
            First second and number of seconds, counted from the start of the recording.
            The first second may be negative.
        epoch : int
            Index of the epoch.

        Returns
        -------
        noise : Tensor of shape (n_draws, n_contacts, n_blocks, 128)
            Coefficients of the four levels.
        """

        def index(values):
            return torch.as_tensor(values, device=self._device, dtype=torch.int64)

        quads = index(range(BLOCK // 4)) + (BLOCK // 4) * epoch
        blocks = index(range(first_block, first_block + n_blocks)) & _MASK
        draws = index(list(draws))[:, None, None, None]
        counter = [
            quads & _MASK,
            blocks[:, None],
            self._contacts[:, None, None],
            torch.where(draws < 0, ~draws, draws),
        ]
        noise = normals(philox(counter, self._key)).flatten(-2)
        return torch.where(draws < 0, -noise, noise).to(self._dtype)

    def amplitude(self, draws) -> Tensor:
        """Draw the variates of amplitudes, which are constant over a recording.

        Parameters
        ----------
        draws : sequence of int
            The numbers of the draws. A mirror image has the amplitude of its draw.

        Returns
        -------
        amplitude : Tensor of shape (n_draws, n_contacts, N_VARIATES)
            Standard normal variates of the recording, of the contact and of each level.
            All epochs of a recording share them.
        """
        draws = tuple(draws)
        # Successive windows of a recording mostly ask for the same draws.
        last, variates = self._last_amplitude
        if draws != last:
            variates = self._make_amplitude(draws)
            self._last_amplitude = draws, variates
        return variates

    def _make_amplitude(self, draws):
        draws = torch.as_tensor(draws, device=self._device, dtype=torch.int64)
        draws = torch.where(draws < 0, ~draws, draws)[:, None]
        nothing = torch.zeros_like(self._contacts)

        def make(number, contacts):
            # Counters at the end of the range, which the noise of epochs never reaches.
            counter = [nothing + (_MASK - number), nothing, contacts, draws]
            return normals(philox(counter, self._key))

        variates = [make(0, nothing)[..., :1], make(1, self._contacts)[..., :1]]
        variates += [make(2 + k, self._contacts) for k in range(-(-N_LEVELS // 4))]
        return torch.cat(variates, -1)[..., :N_VARIATES].to(self._dtype)


@torch.inference_mode()
def sample_blocks(
    flow: ConditionalFlow,
    conditions_of: Callable[[int, int], Conditions],
    noise: Noise,
    first_block: int,
    n_blocks: int,
    draws,
    batch_size: int,
    epoch: int = 0,
    halo: int | None = None,
) -> Iterator[Tensor]:
    """Sample some seconds of a recording, draw by draw.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    conditions_of : callable
        ``conditions_of(first_block, n_blocks)`` returns the conditions of a
        window, which may lie beyond the recording's ends, as a batch of one.
    noise : Noise
        The noise of the recording.
    first_block, n_blocks : int
        First second and number of seconds.
    draws : sequence of int
        Numbers of the draws.
    batch_size : int
        Number of draws that are computed at once.
    epoch : int
        Index of the epoch.
    halo : int | None
        Seconds to either side that are computed in addition. ``None`` takes the reach
        of the flow. With fewer, the result depends slightly on where chunks begin.

    Yields
    ------
    potentials : Tensor of shape (n_contacts, n_blocks * 128)
        One draw in volts.
    """
    halo = flow.reach if halo is None else halo
    window = (first_block - halo, n_blocks + 2 * halo)
    inner = slice(halo * BLOCK, (halo + n_blocks) * BLOCK)
    draws = list(draws)
    device = next(flow.parameters()).device
    conditions = conditions_of(*window)
    # Threads are as the caller has set them whenever control returns to the caller.
    with slab_workers(device):
        conditioned = flow.condition(conditions, window[0])
    for k in range(0, len(draws), batch_size):
        with slab_workers(device):
            some = draws[k : k + batch_size]
            batch = noise(some, *window, epoch)
            potentials = conditioned.sample(batch, noise.amplitude(some), halo)
            potentials = potentials[..., inner]
        yield from potentials


@torch.inference_mode()
def pointwise_blocks(
    flow: ConditionalFlow,
    conditions_of: Callable[[int, int], Conditions],
    first_block: int,
    n_blocks: int,
    reduce: Callable[[PointwiseDistribution], Tensor],
) -> Tensor:
    """Summarize the distribution of each sample in some seconds, without draws.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    conditions_of : callable
        As in :func:`sample_blocks`.
    first_block, n_blocks : int
        First second and number of seconds.
    reduce : callable
        Converts the distribution to an array of shape (n, 1, n_contacts, n_times).

    Returns
    -------
    numbers : Tensor of shape (n, n_contacts, n_blocks * 128)
        Result of ``reduce`` for these seconds.
    """
    halo = flow.pointwise_reach
    window = (first_block - halo, n_blocks + 2 * halo)
    conditions = conditions_of(*window)
    with slab_workers(next(flow.parameters()).device):
        numbers = reduce(flow.condition(conditions, window[0]).pointwise())
    return numbers[:, 0, :, halo * BLOCK : (halo + n_blocks) * BLOCK]


@torch.inference_mode()
def score_blocks(
    flow: ConditionalFlow,
    conditions_of: Callable[[int, int], Conditions],
    potentials_of: Callable[[int, int], Tensor],
    first_block: int,
    n_blocks: int,
    at_once: int = 60,
    good: Tensor | None = None,
) -> Tensor:
    """Compute the log-density of recorded contacts in some seconds of a recording.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    conditions_of : callable
        As in :func:`sample_blocks`.
    potentials_of : callable
        ``potentials_of(first_block, n_blocks)`` returns the recorded potentials
        in volts, shape (1, n_contacts, n_blocks * 128).
    first_block, n_blocks : int
        First second and number of seconds.
    at_once : int
        Number of seconds that are computed at once.
    good : Tensor of bool, shape (n_blocks,) | None
        Seconds to score. None scores all of them.

    Returns
    -------
    log_prob : Tensor of shape (n_contacts, n_blocks)
        Nats per contact and second, given the scored seconds before it. It is nan for
        seconds that are not scored; later seconds do not depend on them.
    """
    parts = []
    for start in range(first_block, first_block + n_blocks, at_once):
        length = min(at_once, first_block + n_blocks - start)
        window = (start - flow.reach, length + 2 * flow.reach)
        conditioned = flow.condition(conditions_of(*window), window[0])
        change, energy = conditioned.log_prob_parts(potentials_of(*window))
        inner = slice(flow.reach, flow.reach + length)
        parts.append((change[:, :, inner], energy[:, :, inner]))
    # A contact's amplitude is constant: each second is scored given those before it.
    change, energy = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
    if good is None or good.all():
        return (change + conditioned.amplitudes.log_prob(energy))[0]
    seen = change[:, :, good] + conditioned.amplitudes.log_prob(energy[:, :, good])
    log_prob = torch.full_like(change, torch.nan, dtype=seen.dtype)
    log_prob[:, :, good] = seen
    return log_prob[0]
