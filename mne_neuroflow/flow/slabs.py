"""Processing of a recording in slabs of a few seconds, on several threads."""

import os
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from queue import SimpleQueue

import torch
from torch import Tensor

# Maximum contacts times seconds in a slab. Intermediate results then take a few
# megabytes, stay in the processor's cache and need no new memory.
_TOKENS = 3072
# Contacts times seconds in the smallest slab. Matrix products compute small numbers of
# rows differently (measured with MKL: up to 8), and half of a slab has more.
_FEWEST_TOKENS = 48
_WORKERS = ContextVar("workers", default=None)


class _Workers:
    """Threads that take slabs from a queue while they are wanted.

    Ctrl+C can be pressed at any time. A step of a queue written in C is then either
    done or not. The pools of `concurrent.futures` use locks that Python functions take,
    and such a lock stays taken if Ctrl+C occurs just before its function returns. A
    thread that needs it, and whoever waits for this thread, would wait forever.
    """

    def __init__(self, n_threads: int):
        self.slabs = SimpleQueue()
        self.n_threads, self.are_wanted = n_threads, True

    def begin(self) -> None:
        for _ in range(self.n_threads):
            start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            slab = self.slabs.get()
            if not self.are_wanted:
                self.slabs.put(None)  # for the next thread
                return
            function, number, arguments, answers = slab
            try:
                answer = number, function(*arguments), None
            except BaseException as error:
                answer = number, None, error
            answers.put(answer)
            # While it waits, a thread does not keep what it has computed.
            del slab, function, arguments, answers, answer

    def map(self, function: Callable, *series) -> list:
        """Apply a function as `map` does, to several slabs at a time."""
        answers, slabs = SimpleQueue(), list(zip(*series, strict=True))
        for number, arguments in enumerate(slabs):
            self.slabs.put((function, number, arguments, answers))
        results = [None] * len(slabs)
        for _ in slabs:
            number, results[number], error = answers.get()
            if error is not None:
                raise error
        return results


def _slab_map() -> tuple[Callable, int]:
    """Return the function that maps over slabs, and the number of its threads."""
    workers = _WORKERS.get()
    if workers is None or not workers.are_wanted:
        return map, 1
    return workers.map, workers.n_threads


def _one_thread_after_fork() -> None:
    """Make a forked child process compute on one thread.

    Torch's threads do not exist in the child, which would wait for them forever
    (pytorch/pytorch issue 17199).
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)


@contextmanager
def slab_workers(device: torch.device) -> Iterator[None]:
    """Distribute the slabs of this module over as many threads as torch may use.

    Torch's own threads synchronize after every operation, a few thousand times per
    minute of recording. If another program uses one of the cores, all threads wait each
    time. Slabs are independent and do not wait for each other.

    Parameters
    ----------
    device : torch.device
        Device of the computation. There are workers only on a CPU.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield
        return
    before, workers = _WORKERS.get(), _Workers(n_threads)
    try:
        torch.set_num_threads(1)  # in this thread, and in threads that start now
        workers.begin()
        _WORKERS.set(workers)
        yield
    finally:
        # Ctrl+C can occur when functions begin and when calls have returned. The first
        # call here is therefore made in any case, and the others nevertheless.
        workers.are_wanted = False
        try:
            workers.slabs.put(None)
        finally:
            torch.set_num_threads(n_threads)
            _WORKERS.set(before)


def in_slabs(
    step: Callable[..., Tensor],
    series: tuple[Tensor, ...],
    reach: int,
    margin: int = 0,
) -> Tensor:
    """Run a step on the seconds that are needed, a few at a time.

    Parameters
    ----------
    step : callable
        ``step(first, *parts)`` receives the same seconds of each series, starting at
        second ``first``, and returns these seconds of its result.
    series, reach, margin
        As for :func:`cut_in_slabs`.

    Returns
    -------
    result : Tensor of shape (batch, contact, block, channels)
        As long as the series, zero in the margins.
    """

    def inner(first, wanted, *parts):
        return (step(first, *parts)[:, :, wanted],)

    return cut_in_slabs(inner, series, reach, margin)[0]


def cut_in_slabs(
    step: Callable[..., tuple[Tensor, ...]],
    series: tuple[Tensor, ...],
    reach: int,
    margin: int = 0,
) -> tuple[Tensor, ...]:
    """Run several steps in sequence on a few seconds at a time.

    With gradients, or on a GPU, all seconds are computed at once.

    Parameters
    ----------
    step : callable
        ``step(first, wanted, *parts)`` receives the same seconds of each series,
        starting at second ``first``, and returns results for the seconds in the slice
        ``wanted`` of these parts.
    series : tuple of Tensor of shape (batch, contact, block, channels)
        The inputs.
    reach : int
        Number of seconds to either side on which a second of the results depends.
    margin : int
        Seconds at either end that are not needed.

    Returns
    -------
    results : tuple of Tensor of shape (batch, contact, block, channels)
        Results as long as the series. Their values in the margins are meaningless. They
        lie in memory second by second.
    """
    n_blocks, streams = series[0].shape[2], series[0].shape[1]
    # Products of a few rows are summed in another order. No slab has so few, so that
    # the last bits do not depend on the number of seconds.
    least = -(-_FEWEST_TOKENS // max(streams, 1))
    margin = max(0, min(margin, (n_blocks - least) // 2))
    (slab_map, n_threads), needed, n_slabs = _slab_map(), n_blocks - 2 * margin, 1
    if not (series[0].is_cuda or torch.is_grad_enabled()):
        n_tokens = max(one.shape[0] for one in series) * streams * needed
        n_slabs = -(-n_tokens // _TOKENS)
        if n_slabs > 1:
            # Each thread has equally many slabs of one size, so that none waits.
            n_slabs = n_threads * -(-n_slabs // n_threads)
        n_slabs = max(1, min(n_slabs, needed // least))
    starts = [margin + k * needed // n_slabs for k in range(n_slabs)]
    if not margin and len(starts) == 1:
        return step(0, slice(0, n_blocks), *series)
    modes = _modes()

    def run(first: int, last: int) -> tuple[Tensor, ...]:
        low, high = max(first - reach, 0), min(last + reach, n_blocks)
        parts = [one[:, :, low:high] for one in series]
        # Modes are set per thread, and a new worker has the default modes. In the
        # caller's thread Ctrl+C could occur while they are set back.
        with ExitStack() as stack:
            if _modes() != modes:
                stack.enter_context(torch.inference_mode(modes[0]))
                stack.enter_context(torch.set_grad_enabled(modes[1]))
            return step(low, slice(first - low, last - low), *parts)

    parts = slab_map(run, starts, [*starts[1:], n_blocks - margin])
    return tuple(_joined(each, margin) for each in zip(*parts, strict=True))


def _modes() -> tuple[bool, bool]:
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled()


def _joined(parts: tuple[Tensor, ...], margin: int) -> Tensor:
    """Concatenate slabs, in memory second by second."""
    parts = [part.transpose(1, 2) for part in parts]
    if margin:
        first = parts[0]
        ends = first.new_zeros(len(first), margin, *first.shape[2:])
        parts = [ends, *parts, ends]
    return torch.cat(parts, dim=1).transpose(1, 2)
