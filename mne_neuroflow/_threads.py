"""Linear algebra on one thread, so that its last digits depend only on the data."""

import os
from contextlib import contextmanager
from functools import lru_cache, wraps
from queue import SimpleQueue
from threading import Lock, Thread
from weakref import WeakSet


@lru_cache(maxsize=1)
def _blas():
    """Find the libraries of linear algebra that numpy and scipy have loaded."""
    import scipy.linalg  # noqa: F401  # loads its own library
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


class _Visit:
    """A marker of an active caller, which exists as long as its frame."""


class _Setting(Thread):
    """Keeps linear algebra on one thread until it is told to end.

    What it waits for, and what waits for it, are a queue and locks written in C: a step
    of theirs is either done or not when Ctrl+C is pressed. An event of `threading` can
    be set without the threads that wait for it being woken.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self._end, self._made, self._ended = SimpleQueue(), Lock(), Lock()
        self._made.acquire()
        self._ended.acquire()
        self._has_begun, self._is_ending = False, False

    @property
    def is_usable(self):
        return self._has_begun and not self._is_ending

    def run(self):
        is_made = False
        try:
            with _blas().limit(limits=1):
                is_made = True
                self._made.release()
                self._end.get()
        finally:
            if not is_made:
                self._made.release()
            self._ended.release()

    def begin(self):
        self.start()
        self._has_begun = True

    def wait(self):
        """Wait until the setting is made."""
        with self._made:
            pass

    def end(self):
        """Take the setting back, and wait until that is done."""
        self._is_ending = True
        self._end.put(None)
        if self._has_begun:
            with self._ended:
                pass
            self.join()
        else:
            # It may be about to run, or never run: Python's start was interrupted.
            self._ended.acquire(timeout=1.0)


class _Holder:
    """Keeps the setting of the process while there are active callers.

    Since threadpoolctl 3.7, the first thread that makes a setting is the only one that
    can, as long as it exists. A separate thread therefore makes this setting and ends
    with it. The setting then does not depend on the caller's thread, and does not
    prevent later settings.

    Ctrl+C can occur between any two steps. Callers are therefore not counted, but kept
    as weak references. A caller that is interrupted while it exits then disappears too,
    and the thread does not prevent the interpreter from ending.
    """

    def __init__(self):
        self._lock, self._visits, self._setting = Lock(), WeakSet(), None

    def enter(self, visit):
        with self._lock:
            self._visits.add(visit)
            if self._setting is not None and not self._setting.is_usable:
                self._setting.end()  # its beginning or its end was interrupted
                self._setting = None
            if self._setting is None:
                self._setting = _Setting()
                self._setting.begin()
            setting = self._setting
        setting.wait()

    def leave(self, visit):
        with self._lock:
            self._visits.discard(visit)
            if not self._visits and self._setting is not None:
                self._setting.end()
                self._setting = None


_HOLDER = _Holder()
if hasattr(os, "register_at_fork"):
    # The thread and the holder of the lock do not exist in a forked child.
    os.register_at_fork(after_in_child=_HOLDER.__init__)


@contextmanager
def _on_one_thread():
    visit = _Visit()
    try:
        _HOLDER.enter(visit)
        if all(one["num_threads"] == 1 for one in _blas().info()):
            yield
        else:
            # Another thread has made a setting, possibly the caller's own.
            with _blas().limit(limits=1):
                yield
    finally:
        _HOLDER.leave(visit)


def one_blas_thread(function):
    """Decorate a function so that its linear algebra uses one thread.

    With two threads, sums have another order than with one (OpenBLAS 0.3.31), and a
    worker of a cohort may have another number of threads than its client. The setting
    applies to the process, and is restored when the last caller returns.

    Parameters
    ----------
    function : callable
        The function.

    Returns
    -------
    function : callable
        The decorated function.
    """

    @wraps(function)
    def on_one_thread(*args, **kwargs):
        with _on_one_thread():
            return function(*args, **kwargs)

    return on_one_thread
