"""Time-outs: how long a server may take to answer, and to be connected to.

A server that hangs costs a request one budget. Three such failures in a row open its circuit
breaker (`circuit_breaker.py`): then no request asks it, until the background probe
(`redis_store/recovery.py`) has reached it again. A request that gets no answer is passed on
uncached (`GetResponder.bypass` in `reads/get.py`).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, final

from msgspec import Struct

_LATE_LOOK: Final = 0.9
"""The part of a budget after which the event loop is checked for delays of its own."""
_GRACE: Final = 0.002
"""Seconds for the event loop to read answers that have arrived already when a budget is over."""
_PROGRESS: Final = 64 * 1024
"""Bytes that have to arrive within a budget for a large answer to get another budget."""
_MOST_LOOKS: Final = 5
"""Budgets that a large answer gets."""
_TOO_MUCH: Final = 8 * 1024 * 1024
"""Bytes of an unfinished answer after which the connection is closed: the request was too large."""


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


class Receiver(Protocol):
    """Takes the answers to commands; a future does, and then calls its callbacks a turn later."""

    def done(self) -> bool:
        """Return whether it wants no answers any more."""
        ...

    def set_result(self, result: list[Any], /) -> None:
        """Take all answers."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """Take the failure of the server: it is unknown which commands it ran."""
        ...


@final
class PendingCommands(Struct, eq=False):
    """Commands that were sent together, and the answers that have come."""

    receiver: Receiver
    count: int
    due: float
    """When the answers must have arrived, by the event loop's clock."""
    within: float
    """The budget, in seconds, that ends then."""
    answers: list[Any] = []
    looks: int = 0
    """How often they were overdue."""
    arrived: int = 0
    """Bytes that had arrived when they got their last budget."""

    def fail(self, error: Exception) -> None:
        """Tell the receiver of a failure, unless it has had its answers."""
        if not self.receiver.done():
            self.receiver.set_exception(error)

    def wait_until(self, now: float, received: int) -> float | None:
        """Return until when the answers may still come; None: their server is too slow.

        First the event loop reads the bytes that have arrived: where the loop was busy, an answer
        in time is no failure of the server. A large answer gets further budgets while it keeps
        arriving.

        Args:
            now: by the event loop's clock.
            received: bytes that came since the last complete answer.
        """
        if now < self.due:
            return self.due
        self.looks += 1
        if self.looks == 1:
            return now + _GRACE
        if self.looks > _MOST_LOOKS or not self._is_arriving(received):
            return None
        self.arrived = received
        return now + self.within

    def asked_too_much(self, received: int) -> bool:
        """Return whether the answer was too large for all its budgets."""
        return self._is_arriving(received) and received >= _TOO_MUCH

    def _is_arriving(self, received: int) -> bool:
        return received - self.arrived >= _PROGRESS
