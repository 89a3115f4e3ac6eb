"""Linear algebra on one thread, so that its last digits depend only on the data."""

import os
from contextlib import contextmanager
from functools import lru_cache, wraps
from threading import Event, Lock, Thread
from weakref import WeakSet


@lru_cache(maxsize=1)
def _blas():
    """Find the libraries of linear algebra that numpy and scipy have loaded."""
    import scipy.linalg  # noqa: F401  # loads its own library
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


class _Visit:
    """A marker of an active caller, which exists as long as its frame."""


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
        self._lock, self._visits = Lock(), WeakSet()
        self._thread, self._ready, self._over = None, Event(), Event()

    def enter(self, visit):
        with self._lock:
            self._visits.add(visit)
            if self._over.is_set():  # an exit that did not wait for it to end
                self._end()
            if self._thread is None:
                self._ready, self._over = Event(), Event()
                events = self._ready, self._over
                self._thread = Thread(target=self._hold, args=events, daemon=True)
                self._thread.start()
            ready = self._ready
        ready.wait()

    def leave(self, visit):
        with self._lock:
            self._visits.discard(visit)
            if not self._visits:
                self._over.set()
                self._end()

    def _end(self):
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._thread = None

    @staticmethod
    def _hold(ready, over):
        try:
            with _blas().limit(limits=1):
                ready.set()
                over.wait()
        finally:
            ready.set()


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
