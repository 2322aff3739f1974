"""The PINGs on a listening connection: for `exact` hits, and to notice a dead connection."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final, final

from msgspec import Struct
from redis.exceptions import InvalidResponse

from maxage.clock import Clock

_BUSY_INTERVAL: Final = 0.03
"""Seconds between two PINGs while `prompt` copies are used."""
_ASKED_INTERVAL: Final = 0.5
"""Seconds between two PINGs while each use of a copy sends its own."""
_IDLE_INTERVAL: Final = 10.0
_REST_SECONDS: Final = 50.0
"""Seconds without a use of copies after which no PING is sent; the next use begins anew."""
_DEAD_AFTER: Final = 2.0
"""Seconds without an answer after which the connection is closed."""


class Ping(Struct, frozen=True, kw_only=True):
    """A command, and the only answer to it from a server that still takes writes."""

    command: tuple[bytes, ...]
    pong: bytes | None


PING: Final = Ping(command=(b"PING",), pong=b"PONG")
Waiters = list["asyncio.Future[bool]"]


class PendingPing(Struct):
    """A PING under way."""

    sent_at: float
    """Monotonic seconds."""
    waiters: Waiters
    due: float
    """When the waiting ends, by the event loop's clock."""
    within: float
    """The seconds that its answer may take."""


@final
class Pinger:
    """Pings the server of one listening connection.

    `heard_at` may be called from any thread, all else only from the connection's event loop.

    Args:
        failed: is called when an `exact` hit got no answer in time.
        clock: monotonic seconds.
    """

    def __init__(self, failed: Callable[[Exception], None], clock: Clock) -> None:
        self._failed: Final = failed
        self._clock: Final = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: asyncio.Transport | None = None
        self._ping = PING
        self._packed = b""
        self._pending: Final[deque[PendingPing]] = deque()
        self._turn: Waiters | None = None
        """The waiters of this turn of the event loop; one PING answers all of them."""
        self._heard_at = float("-inf")
        self._used = False
        self._asked = False
        """Whether an `exact` hit was confirmed since the last tick."""
        self._used_at = float("-inf")
        self._idle = False
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        """The next look whether an answer is overdue; None: none is waited for."""

    def begin(self, transport: asyncio.Transport, ping: Ping, packed: bytes) -> None:
        """Ping over a new connection from now on; `packed` are the bytes of the ping."""
        self._loop = asyncio.get_running_loop()
        self._transport, self._ping, self._packed = transport, ping, packed
        self._pending.clear()
        self._used_at = self._clock()
        self._tick()

    def end(self) -> None:
        """Close the connection; tell all waiters that there is no answer."""
        self._heard_at = float("-inf")
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        self._look = None
        self.abort()
        self._transport = None
        while self._pending:
            _resolve(self._pending.popleft().waiters, answered=False)

    def abort(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def heard_at(self) -> float:
        """Return when (monotonic) the last answered PING was sent."""
        self._used = True
        self._wake()
        return self._heard_at

    def ask(self, patience: Callable[[], float]) -> "asyncio.Future[bool] | None":
        """Ping at the end of this turn, once for all callers of the turn.

        Args:
            patience: returns how many seconds the answer may take; it is called when the PING is
                sent.

        Returns:
            Whether the answer came in time; None: there is no connection in this event loop.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._transport is None:
            return None
        if self._turn is None:
            self._turn = []
            self._asked = True
            self._wake()
            loop.call_soon(self._send, patience)
        # Each caller has a future of its own, so that a cancelled request takes none from another.
        future: asyncio.Future[bool] = loop.create_future()
        self._turn.append(future)
        return future

    def _wake(self) -> None:
        """Ping often again; may be called from any thread."""
        if self._idle and self._loop is not None and not self._loop.is_closed():
            self._idle = False
            self._loop.call_soon_threadsafe(self._tick)

    def _send(self, patience: Callable[[], float]) -> None:
        waiters, self._turn = self._turn or [], None
        seconds = patience()
        if self._transport is None or self._loop is None:
            _resolve(waiters, answered=False)
            return
        due = self._loop.time() + seconds
        self._write(waiters, due, seconds)
        if self._look is None or due < self._look.when():
            self._look_at(due)

    def _write(self, waiters: Waiters, due: float = inf, within: float = inf) -> None:
        if self._transport is not None:
            self._pending.append(PendingPing(self._clock(), waiters, due, within))
            # uvloop raises it on a closed transport. The loss of the connection ends the waiting.
            with suppress(RuntimeError):
                self._transport.write(self._packed)

    def _look_at(self, due: float) -> None:
        """Look for overdue answers then; one timer serves all PINGs."""
        if self._look is not None:
            self._look.cancel()
        self._look = None
        if self._loop is not None and due < inf:
            self._look = self._loop.call_at(due, self._give_up)

    def answered(self, answer: bytes | None) -> None:
        """Resolve the oldest PING.

        Raises:
            InvalidResponse: this is not its answer.
        """
        if answer != self._ping.pong or not self._pending:
            raise InvalidResponse("the answer is not that to the PING")
        ping = self._pending.popleft()
        self._heard_at = ping.sent_at
        _resolve(ping.waiters, answered=True)

    def _give_up(self) -> None:
        """End the waiting for overdue answers, unless the event loop itself was late."""
        self._look = None
        now = inf if self._loop is None else self._loop.time()
        for ping in tuple(self._pending):
            if ping.due > now:
                continue
            if now - ping.due > ping.within / 2:
                ping.due = now + ping.within
                continue
            ping.due = inf
            if not all(future.done() for future in ping.waiters):
                self._failed(TimeoutError("no answer on the listening connection"))
                _resolve(ping.waiters, answered=False)
        if self._look is None:
            self._look_at(min((ping.due for ping in self._pending), default=inf))

    def _tick(self) -> None:
        """Ping from time to time, more often while copies are used."""
        if self._transport is None or self._loop is None:
            return
        if self._pending and self._clock() - self._pending[0].sent_at > _DEAD_AFTER:
            self.abort()
            return
        if self._timer is not None:
            self._timer.cancel()
        interval = _IDLE_INTERVAL
        if self._used or self._asked:
            interval = _BUSY_INTERVAL if self._used else _ASKED_INTERVAL
            self._used_at = self._clock()
        self._idle, self._used, self._asked = interval == _IDLE_INTERVAL, False, False
        if self._clock() - self._used_at <= _REST_SECONDS:
            self._write([])
            self._timer = self._loop.call_later(interval, self._tick)


def _resolve(waiters: Waiters, *, answered: bool) -> None:
    for future in waiters:
        if not future.done():
            future.set_result(answered)
