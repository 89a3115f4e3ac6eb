"""Working through a recording a few seconds at a time, on several threads."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.nn import functional

# Contacts times seconds in a slab: what is computed for them on the way is a few
# megabytes, which stay in the processor's cache and need no fresh memory.
_TOKENS = 1536
# How slabs are gone through, as the built-in map does unless there are workers.
_MAP = ContextVar("map", default=map)


def _one_thread_after_fork() -> None:
    """Let a forked child compute on one thread.

    Torch's threads stay with the parent, and a child that waits for them waits for ever
    (pytorch/pytorch issue 17199).
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)


@contextmanager
def slab_workers(device: torch.device) -> Iterator[None]:
    """Let :func:`in_slabs` share slabs between as many threads as torch may use.

    Torch's own threads meet after every operation, a few thousand times a minute of
    recording, and when another program holds one of the cores they all wait for it
    each time. Slabs need not wait for each other.

    Parameters
    ----------
    device : torch.device
        Where the work is done; there are workers for a CPU only.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield
        return
    torch.set_num_threads(1)  # in this thread, and in those that begin now
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            token = _MAP.set(pool.map)
            try:
                yield
            finally:
                _MAP.reset(token)
    finally:
        torch.set_num_threads(n_threads)


def in_slabs(
    step: Callable[..., Tensor],
    series: tuple[Tensor, ...],
    reach: int,
    margin: int = 0,
) -> Tensor:
    """Run a step on the seconds that are wanted, a few at a time.

    With gradients, or on a GPU, all of them are run at once.

    Parameters
    ----------
    step : callable
        ``step(first, *parts)`` takes the same seconds of every series, which start
        at second ``first``, and returns these seconds of its result.
    series : tuple of Tensor of shape (batch, contact, block, channels)
        What it works on.
    reach : int
        Seconds to either side that a second of the result depends on.
    margin : int
        Seconds at either end that nobody wants.

    Returns
    -------
    result : Tensor of shape (batch, contact, block, channels)
        As long as the series, zero in the margins.
    """
    n_blocks = series[0].shape[2]
    slab = n_blocks
    if series[0].device.type == "cpu" and not torch.is_grad_enabled():
        streams = max(one.shape[0] for one in series) * series[0].shape[1]
        slab = max(1, _TOKENS // streams)
    if not margin and slab >= n_blocks:
        return step(0, *series)
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(first: int) -> Tensor:
        last = min(first + slab, n_blocks - margin)
        low, high = max(first - reach, 0), min(last + reach, n_blocks)
        # Modes belong to a thread; a worker starts without them.
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            part = step(low, *[one[:, :, low:high] for one in series])
            return part[:, :, first - low : last - low]

    parts = list(_MAP.get()(run, range(margin, n_blocks - margin, slab)))
    return functional.pad(torch.cat(parts, dim=2), (0, 0, margin, margin))
