"""The thread that looks after the leases: not the event loop, which the application may block."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, final

from maxage.redis_store.leases.lease import LOOK_INTERVAL

RETRY_INTERVAL: Final = 0.2
"""Seconds after a look that failed."""


@final
class Heartbeat:
    """Runs one look after the other, from `start` to `stop`, in a thread of its own.

    Args:
        look: looks once and renews the lease; returns whether that went well, and raises nothing.
        leave: ends what `look` began.
    """

    def __init__(self, look: Callable[[], bool], leave: Callable[[], None]) -> None:
        self._look: Final = look
        self._leave: Final = leave
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a process that was forked: the thread is the parent's."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._first: Future[bool] = Future()

    def start(self) -> Future[bool]:
        """Start the thread unless it runs; return what comes of its first look."""
        with self._lock:
            if self._thread is None or self._stopping:
                self._stopping = False
                self._first = Future()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="maxage-lease", daemon=True)
                self._thread.start()
            return self._first

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """End the thread, after it has left."""
        with self._lock:
            thread, self._stopping = self._thread, True
        self._wake.set()
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            if self._stopping:
                self._leave()
                with self._lock:
                    # Under the lock, so that `start` finds either this thread going on or none.
                    if self._stopping:
                        self._thread = None
                        _resolve(self._first, good=False)
                        return
            first, good = self._first, self._look()
            _resolve(first, good=good)
            self._wake.wait(LOOK_INTERVAL if good else RETRY_INTERVAL)
            self._wake.clear()


def _resolve(first: Future[bool], *, good: bool) -> None:
    if not first.done():
        first.set_result(good)
