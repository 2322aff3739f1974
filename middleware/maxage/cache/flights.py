"""Flights: the fills under way in this process; the requests for the same response wait for one.

A request joins a fill only if its own tokens, read after it began, equal the ones that the fill
captured: without that rule, a read that began after an acknowledged write could be
answered from before it.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Generic, TypeVar, final

from msgspec import Struct

from maxage.store.claims import Claim

Result = TypeVar("Result")


@final
class Flights(Generic[Result]):
    """The fills under way in this process."""

    def __init__(self) -> None:
        self._by_key: Final[dict[bytes, Flight[Result]]] = {}
        self.find: Final = self._by_key.get
        """Returns the newest fill of a key, if there is one."""

    def lead(self, key: bytes, tokens: Mapping[str, bytes | None]) -> "Flight[Result]":
        """Begin a fill. `finish` must follow."""
        # `Flight[Result](...)` would raise and catch an error, for want of a `__dict__`.
        flight: Flight[Result] = Flight(key, dict(tokens), asyncio.get_running_loop())
        self._by_key[key] = flight
        return flight

    def finish(self, flight: "Flight[Result]", result: Result | None = None) -> None:
        """End a fill: waiting requests get the result, and a later request begins a new fill."""
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
        flight.land(result)
        if flight.claim is not None:
            flight.claim.end(written=result is not None)


@final
class Flight(Struct, Generic[Result], eq=False):
    """A fill under way: its key, the tokens that it captured, and its result."""

    key: bytes
    tokens: Mapping[str, bytes | None]
    _loop: asyncio.AbstractEventLoop
    claim: Claim | None = None
    """Tells other processes of the fill."""
    _ended: bool = False
    _result: Result | None = None
    _done: "asyncio.Future[Result | None] | None" = None
    """What the waiting requests wait for; None: there are none."""

    def may_be_joined(self, tokens: Mapping[str, bytes | None]) -> bool:
        """Return whether a request that read these tokens after it began may take the response."""
        return (
            self._loop is asyncio.get_running_loop()
            and not self._ended
            and self.tokens == tokens
            and None not in self.tokens.values()
        )

    def land(self, result: Result | None) -> None:
        """Give the waiting requests the response; None: it cannot be shared, or failed."""
        if self._ended:
            return
        self._ended, self._result = True, result
        if self._done is not None and not self._done.done():
            self._done.set_result(result)

    @property
    def in_vain(self) -> bool:
        """Whether it has ended without a response to share."""
        return self._ended and self._result is None

    @property
    def under_way(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended

    async def wait(self, seconds: float) -> Result | None:
        """Return the response, or None when it does not come in time or cannot be shared."""
        if self._ended:
            return self._result
        if self._done is None:
            self._done = self._loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._done)
        except TimeoutError:
            return None
