"""Writes: recent requests that may have changed something, and those under way."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, final

import msgspec

from maxage.cache.cache import Cache
from maxage.observe.counters import UNKNOWN_ROUTE

_REMEMBERED: Final = 256
"""Writes of all workers that are remembered."""
_KEEP_SECONDS: Final = 3600.0
_WAIT_SECONDS: Final = 2.0
"""Longest wait for writes that are under way."""
_POLL_SECONDS: Final = 0.01
_OTHERS_SECONDS: Final = 0.25
"""Seconds within which a write of another worker usually purges after its change."""


class Write(msgspec.Struct, frozen=True, array_like=True):
    """One request that may have changed something."""

    at: float
    """When it ended; POSIX seconds."""
    route: str
    """Its method and template."""


@final
class Writes:
    """The recent writes that reach one cache, those of other workers included."""

    def __init__(self, cache: Cache) -> None:
        self._cache: Final = cache
        self._name: Final = f"{cache.settings.cache_namespace}:shadow:writes".encode()
        self._recent: Final[deque[Write]] = deque(maxlen=_REMEMBERED)
        self._under_way: Final[dict[object, None]] = {}

    def begin(self) -> object:
        """Note that a write begins; `end` must follow."""
        mark = object()
        self._under_way[mark] = None
        return mark

    def end(self, mark: object, method: str, route: str | None, status: int) -> None:
        """Note that a write has ended, by its status."""
        del self._under_way[mark]
        if 400 <= status < 500:
            return
        write = Write(self._cache.clock(), f"{method} {route or UNKNOWN_ROUTE}")
        self._recent.append(write)
        store = self._cache.store
        if store.shared:
            told = [msgspec.json.encode(write)]
            self._cache.background.spawn(
                store.enlist(self._name, told, most=_REMEMBERED, keep_for=_KEEP_SECONDS)
            )

    async def pass_by(self) -> None:
        """Wait until the purges of writes that have changed something by now are made."""
        waiting, passed = [*self._under_way], 0.0
        while passed < _WAIT_SECONDS and any(mark in self._under_way for mark in waiting):
            await asyncio.sleep(_POLL_SECONDS)
            passed += _POLL_SECONDS
        if self._cache.store.shared:
            await asyncio.sleep(_OTHERS_SECONDS)

    async def since(self, began: float) -> Sequence[Write]:
        """Return the writes that ended after an instant (POSIX seconds), the last one first."""
        found = list(self._recent)
        if self._cache.store.shared:
            listed = await self._cache.store.enlisted(self._name)
            found += [msgspec.json.decode(one, type=Write) for one in listed]
        late = {write for write in found if write.at >= began}
        return sorted(late, key=lambda write: -write.at)
