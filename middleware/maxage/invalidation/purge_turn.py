"""The purges of one turn of an event loop: one round trip serves all of them."""

import asyncio
from collections.abc import Collection
from itertools import chain
from typing import Final, final


@final
class PurgeTurn:
    """The purges of one turn of an event loop, and the callers that wait for them."""

    __slots__ = ("again", "ended", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.waiting: Final[dict[asyncio.Future[bool], Collection[str]]] = {}
        """The future of each caller, with the groups that it purges."""
        self.again: Final[list[Collection[str]]] = []
        """The groups of each caller whose second purge joined its first one."""
        self.ended: Final[asyncio.Future[None]] = loop.create_future()
        """Its end, when all callers are told. If it is cancelled, the turn may never be sent."""

    def serves_again(self, first: "asyncio.Future[bool]", groups: Collection[str]) -> bool:
        """Return whether a purge of this turn is also the second one of its request."""
        if self.waiting.get(first) is not groups or first.done():
            return False
        self.again.append(groups)
        return True

    def groups(self) -> tuple[str, ...]:
        """Return the groups that are purged, each once."""
        purged = self.waiting.values()
        # Requests of one route have the same ones.
        distinct = dict(zip(map(id, purged), purged, strict=True)).values()
        return tuple(dict.fromkeys(chain.from_iterable(distinct)))

    def fail(self, error: BaseException) -> None:
        """Tell each caller that its purge failed unexpectedly."""
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)
        self.end()

    def end(self) -> None:
        """Note that all callers are told."""
        if not self.ended.done():
            self.ended.set_result(None)
