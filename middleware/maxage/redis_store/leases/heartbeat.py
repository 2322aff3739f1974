"""The thread that renews the lease: the application may block the event loop, but not a thread."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, final

from maxage.redis_store.leases.lease import LOOK_INTERVAL

RETRY_INTERVAL: Final = 0.2
"""Seconds from a failed look to the next one, and from one whose result does not last."""


@final
class Heartbeat:
    """Looks at the leases again and again, from `start` to `stop`, in a thread of its own.

    Between two looks the thread keeps nothing alive, unless it must: it ends when the store that it
    works for is garbage.

    Args:
        look: looks once and renews the lease; returns whether that succeeded, and raises nothing.
        leave: signs off when the thread stops.
        must_go_on: returns whether a record in the registry has to be renewed or ended.
        hurries: returns whether to look again before the interval is over.
    """

    def __init__(
        self,
        look: Callable[[], bool],
        leave: Callable[[], None],
        *,
        must_go_on: Callable[[], bool],
        hurries: Callable[[], bool],
    ) -> None:
        self._look: Final = look
        self._leave: Final = leave
        self.must_go_on: Final = must_go_on
        self._hurries: Final = hurries
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew in a forked process: the thread is the parent's."""
        self._lock = threading.Lock()
        self.woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._first: Future[bool] = Future()

    def start(self) -> Future[bool]:
        """Start the thread unless it runs; return the future result of its first look."""
        with self._lock:
            if self._thread is None or self._stopping:
                self._stopping = False
                self._first = Future()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self),), name="maxage-lease", daemon=True
                )
                self._thread.start()
            return self._first

    def wake(self) -> None:
        """Look at once; a purge that a look itself tries wakes nothing, or it would never rest."""
        if threading.current_thread() is not self._thread:
            self.woken.set()

    def stop(self, timeout: float) -> None:
        """Stop the thread after it has signed off; wait for `timeout` seconds at most."""
        with self._lock:
            thread, self._stopping = self._thread, True
        self.woken.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def beat(self) -> float | None:
        """Look once, or sign off.

        Returns:
            The seconds until the next time; None: the thread ends.
        """
        if self._stopping:
            self._leave()
            with self._lock:
                # Under the lock: `start` finds either this thread at work or no thread.
                if self._stopping:
                    self._thread = None
                    _resolve(self._first, succeeded=False)
                    return None
        first, succeeded = self._first, self._look()
        _resolve(first, succeeded=succeeded)
        return LOOK_INTERVAL if succeeded and not self._hurries() else RETRY_INTERVAL


def _run(reference: "weakref.ref[Heartbeat]") -> None:
    """Let the heart beat, in its thread, for as long as there is one."""
    while (heartbeat := reference()) is not None:
        seconds = heartbeat.beat()
        if seconds is None:
            return
        woken = heartbeat.woken
        kept = heartbeat if heartbeat.must_go_on() else None
        del heartbeat
        woken.wait(seconds)
        woken.clear()
        del kept


def _resolve(first: Future[bool], *, succeeded: bool) -> None:
    if not first.done():
        first.set_result(succeeded)
