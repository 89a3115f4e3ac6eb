"""Seam-free sampling: chunks with halos, and noise that belongs to its place.

Windows that are computed apart and faded into each other would lose variance
where they overlap. Here every chunk is computed with halos as wide as the flow
can see, and the noise of a second, contact and draw is a function of the seed
and of nothing else, so that chunks, batches and draws cannot change the answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..contract import BLOCK
from .context import Conditions
from .model import ConditionalFlow
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
        # Products wrap in signed 64 bits, which leaves both halves as they are.
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
    """Name contacts by where they are, so that their order does not matter.

    Parameters
    ----------
    positions : array of shape (n_contacts, 3)
        Metres; contacts are told apart to a hundredth of a millimetre.

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
        Where to make it.
    dtype : torch.dtype
        What to make of it.
    """

    def __init__(self, seed: int, keys, device="cpu", dtype=torch.float32):
        self._key = (int(seed) & _MASK, (int(seed) >> 32) & _MASK)
        self._contacts = torch.as_tensor(np.asarray(keys), device=device)
        self._device, self._dtype = torch.device(device), dtype

    def __call__(self, draws, first_block: int, n_blocks: int, epoch: int = 0):
        """Make the noise of some seconds.

        Parameters
        ----------
        draws : sequence of int
            Which draws. ``~k``, which is negative, is the mirror image of draw ``k``:
            the same noise with the other sign. The mean of a draw and its mirror image
            is free of all noise that the flow passes on linearly (antithetic variates:
            Hammersley & Morton 1956, Math. Proc. Camb. Phil. Soc. 52, 449-475).
        first_block, n_blocks : int
            Which seconds, counted from the start of the recording; they may be
            negative.
        epoch : int
            Which epoch.

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
        """Make the variates behind amplitudes, which last for a whole recording.

        Parameters
        ----------
        draws : sequence of int
            Which draws; a mirror image is as loud as its draw.

        Returns
        -------
        amplitude : Tensor of shape (n_draws, n_contacts, 6)
            Standard normal: of the recording, of the contact, of each level. Epochs
            share them: they are of one recording.
        """
        draws = torch.as_tensor(list(draws), device=self._device, dtype=torch.int64)
        draws = torch.where(draws < 0, ~draws, draws)[:, None]
        nothing = torch.zeros_like(self._contacts)

        def make(number, contacts):
            # From the last counters of a second, which no epoch's noise comes to.
            counter = [nothing + (_MASK - number), nothing, contacts, draws]
            return normals(philox(counter, self._key))

        variates = [make(0, nothing)[..., :1], make(1, self._contacts)[..., :1]]
        return torch.cat([*variates, make(2, self._contacts)], -1).to(self._dtype)


@contextmanager
def exact_convolutions():
    """Keep convolutions in full float32: they must not mix slow into fast."""
    if not torch.cuda.is_available():
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


@contextmanager
def _sampling_on(device: torch.device):
    """Hold what sampling sets, never while a caller has the control."""
    with exact_convolutions(), slab_workers(device):
        yield


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
        The seconds that are wanted.
    draws : sequence of int
        Which draws.
    batch_size : int
        Draws that are computed at once.
    epoch : int
        Which epoch.

    Yields
    ------
    potentials : Tensor of shape (n_contacts, n_blocks * 128)
        One draw in volts.
    """
    halo = flow.reach
    window = (first_block - halo, n_blocks + 2 * halo)
    inner = slice(halo * BLOCK, (halo + n_blocks) * BLOCK)
    draws = list(draws)
    device = next(flow.parameters()).device
    conditions = conditions_of(*window)
    with _sampling_on(device):
        conditioned = flow.condition(conditions, window[0])
    for k in range(0, len(draws), batch_size):
        with _sampling_on(device):
            some = draws[k : k + batch_size]
            batch = noise(some, *window, epoch)
            potentials = conditioned.sample(batch, noise.amplitude(some), halo)
            potentials = potentials[..., inner]
        yield from potentials


@torch.inference_mode()
def score_blocks(
    flow: ConditionalFlow,
    conditions_of: Callable[[int, int], Conditions],
    potentials_of: Callable[[int, int], Tensor],
    first_block: int,
    n_blocks: int,
    at_once: int = 60,
) -> Tensor:
    """Log-density of recorded contacts in some seconds of a recording.

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
        The seconds that are wanted.
    at_once : int
        Seconds that are computed at once.

    Returns
    -------
    log_prob : Tensor of shape (n_contacts, n_blocks)
        Nats per second of a contact, each second given those from the first on.
    """
    parts = []
    for start in range(first_block, first_block + n_blocks, at_once):
        length = min(at_once, first_block + n_blocks - start)
        window = (start - flow.reach, length + 2 * flow.reach)
        with exact_convolutions():
            conditioned = flow.condition(conditions_of(*window), window[0])
            change, energy = conditioned.log_prob_parts(potentials_of(*window))
        inner = slice(flow.reach, flow.reach + length)
        parts.append((change[:, :, inner], energy[:, :, inner]))
    # A contact's amplitude lasts: its seconds are scored one after the other.
    change, energy = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
    return (change + conditioned.amplitudes.log_prob(energy))[0]
