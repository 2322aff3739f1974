"""The circuit breaker of a server, and the time budget of a piece of work on it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, final

from maxage.store.fork_safe import fork_safe_lock

FAILURES_TO_OPEN: Final = 3
PROBE_INTERVAL: Final = 0.2
"""Seconds between two attempts of the background probe to reach a server."""
_LATE_LOOK: Final = 0.9
"""The part of a budget after which the event loop is checked for delays of its own."""


@asynccontextmanager
async def budget(seconds: float) -> AsyncGenerator[None]:
    """Bound a piece of work on a server; time in which the event loop was blocked does not count.

    While other work blocks the loop, the server's answer waits unread and the timer is due as well.
    That is no failure of the server, so the budget is extended by the loop's delay.

    Raises:
        TimeoutError: the work took longer.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds * _LATE_LOOK
    async with asyncio.timeout(seconds) as limit:

        def extend() -> None:
            late = loop.time() - due
            when = limit.when()
            if late > seconds * (1 - _LATE_LOOK) / 2 and when is not None and not limit.expired():
                limit.reschedule(when + late)

        timer = loop.call_at(due, extend)
        try:
            yield
        finally:
            timer.cancel()


@final
class CircuitBreaker:
    """Opens after three failures in a row; only the background probe closes it, never a request."""

    __slots__ = ("_failures", "_lock", "_open")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._failures = 0
        self._open = False

    @property
    def suspicious(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def open(self) -> bool:
        """Whether requests must not use the server."""
        return self._open

    def succeeded(self) -> None:
        """Count an answer; an open breaker stays open until `close`."""
        self._failures = 0

    def failed(self) -> bool:
        """Count a failure; return whether the breaker is open now."""
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._open = True
            return self._open

    def close(self) -> None:
        """Let requests through again."""
        with self._lock:
            self._failures = 0
            self._open = False
