"""What keeps a store that misbehaves out of the way: the time budget and the circuit breaker."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, final

FAILURES_TO_OPEN: Final = 3


_LATE_LOOK: Final = 0.9
"""The part of a budget after which it is looked whether the event loop itself was late."""


@asynccontextmanager
async def budget(seconds: float) -> AsyncGenerator[None]:
    """Bound a piece of work on the store; time for which the event loop stood still is not counted.

    When something else blocks the loop, the store's answer lies there unread and the timer is due
    as well. That is no failure of the store: the budget is extended by as much as the loop was
    late.

    Raises:
        TimeoutError: the work took longer.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds * _LATE_LOOK
    async with asyncio.timeout(seconds) as limit:

        def look() -> None:
            late = loop.time() - due
            when = limit.when()
            if late > seconds * (1 - _LATE_LOOK) / 2 and when is not None and not limit.expired():
                limit.reschedule(when + late)

        timer = loop.call_at(due, look)
        try:
            yield
        finally:
            timer.cancel()


@final
class CircuitBreaker:
    """Opens after three failures in a row; only a background probe closes it, never a request."""

    __slots__ = ("_failures", "_lock", "_open")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._open = False

    @property
    def suspicious(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def open(self) -> bool:
        """Whether requests must not ask the store."""
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
