"""Connections of each event loop, closed when their loop ends.

asyncio tells of the end of a loop in one way: before `asyncio.run` and servers close it, they close
its asynchronous generators. Where a loop was closed without that, the next loop closes what is
left.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast, final

T = TypeVar("T")


@final
class _Side(Generic[T]):
    """The value of one event loop, and the generator that the loop closes at its end."""

    __slots__ = ("end", "loop", "value")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, value: T, end: AsyncGenerator[None, None]
    ) -> None:
        self.loop: Final = loop
        self.value: Final = value
        self.end: Final = end


@final
class PerLoop(Generic[T]):
    """One value for each event loop that runs.

    Args:
        make: makes the value of the running event loop.
        close: closes a value in its event loop.
        abandon: closes a value whose event loop has ended, without awaiting.
    """

    def __init__(
        self,
        make: Callable[[], T],
        close: Callable[[T], Awaitable[object]],
        abandon: Callable[[T], object],
    ) -> None:
        self._make: Final = make
        self._close: Final = close
        self._abandon: Final = abandon
        self._sides: Final[dict[asyncio.AbstractEventLoop, _Side[T]]] = {}
        self._last: _Side[T] | None = None
        """The side that was used last; most processes have only one."""

    def get(self) -> T:
        """Return the value of the running event loop; make it if there is none."""
        loop, side = asyncio.get_running_loop(), self._last
        if side is not None and side.loop is loop:
            return side.value
        side = self._sides.get(loop)
        if side is None:
            self._close_ended()
            side = self._sides[loop] = _Side(loop, self._make(), self._until_end(loop))
            # The first step registers the generator with the loop; it ends at once at the `yield`.
            with suppress(StopIteration):
                side.end.__anext__().__await__().__next__()
        self._last = side
        return side.value

    async def close(self) -> None:
        """Close the value of the running event loop; use makes a new one."""
        side = self._take(asyncio.get_running_loop())
        if side is not None:
            await self._close(side.value)
            await side.end.aclose()

    async def _until_end(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            side = self._take(loop)
            if side is not None:
                await self._close(side.value)
                # A transport closes its socket in the next turn of its loop.
                await asyncio.sleep(0)

    def _take(self, loop: asyncio.AbstractEventLoop) -> _Side[T] | None:
        if self._last is not None and self._last.loop is loop:
            self._last = None
        return self._sides.pop(loop, None)

    def _close_ended(self) -> None:
        """Close the values of loops that were closed without an end to their generators."""
        for loop in tuple(self._sides):
            if loop.is_closed() and (side := self._take(loop)) is not None:
                self._abandon(side.value)


def abandon(transport: asyncio.BaseTransport) -> None:
    """Close the socket of a transport whose event loop has ended.

    asyncio closes it in a callback, for which there is no loop any more. Loops that close their
    sockets by themselves, as uvloop does, have left nothing to do.
    """
    made: Any = transport
    # TLS lies over the transport that has the socket.
    made = getattr(getattr(made, "_ssl_protocol", None), "_transport", None) or made
    with suppress(RuntimeError):
        # It is marked as closed; then its loop takes no callback.
        made.abort()
    end = getattr(made, "_call_connection_lost", None)
    if end is not None and getattr(made, "_sock", None) is not None:
        cast("Callable[[Exception | None], object]", end)(None)
