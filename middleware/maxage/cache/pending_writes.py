"""Where responses lie: in the store, and until they are written in this process."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Final, final
from weakref import WeakKeyDictionary, WeakValueDictionary

from maxage.cache.claims import Claim
from maxage.cache.fill import Fill
from maxage.cache.lookup_result import LookupResult
from maxage.counters import Counters
from maxage.settings import CacheSettings
from maxage.store.base import Store, StoreReply, StoreWrite, Value
from maxage.store.codec import Codec
from maxage.store.entry import Entry, VariantIndex

logger = logging.getLogger("maxage")

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
_Turn = list[tuple[Entry, float, Claim | None]]
"""Entries that are written together: for how long, and which claim ends with it."""


@final
class PendingWrites:
    """The store, and before it the entries that wait to be written to it.

    An entry is found here before the last byte of its response leaves, so that the client's next
    request does not race the write.
    """

    def __init__(
        self, settings: CacheSettings, store: Store, counters: Counters, spawn: Spawn
    ) -> None:
        self._settings: Final = settings
        self._counters: Final = counters
        self._spawn: Final = spawn
        self.store: Final = store
        secret = settings.cache_secret
        self._codec: Final = Codec(secret.get_secret_value().encode() if secret else None)
        self._held: dict[bytes, Entry] = {}
        self.held_bytes = 0
        """Bodies that are being copied or wait to be written, together."""
        self._turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn]] = (
            WeakKeyDictionary()
        )
        """What is written next in each event loop."""
        self._index_locks: WeakValueDictionary[tuple[int, bytes], asyncio.Lock] = (
            WeakValueDictionary()
        )

    def __len__(self) -> int:
        """Return the number of entries that wait to be written."""
        return len(self._held)

    def held(self, key: bytes) -> Entry | None:
        """Return the entry that waits to be written under a key."""
        return self._held.get(key)

    def variants_held(self, key: bytes) -> Iterator[Entry]:
        """Yield the variants of a primary key that wait to be written, the newest first."""
        prefix = key + b":v:"
        return (entry for name, entry in reversed(self._held.items()) if name.startswith(prefix))

    def take(self, size: int) -> bool:
        """Count bytes that are held until they are written; False: there is no room for them."""
        if self.held_bytes + size > self._settings.cache_pending_bytes:
            return False
        self.held_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Count bytes that are no longer held."""
        self.held_bytes -= size

    def value(
        self, key: bytes, value: Value | None, pending: Entry | None
    ) -> "Entry | VariantIndex | None":
        """Return what lies under the key: what waits to be written, or what was read.

        `pending` waited when the read was sent; it may have been written and let go since, too late
        for that read to see it.
        """
        pending = self._held.get(key, pending)
        if pending is not None:
            return pending
        if not isinstance(value, bytes):
            return value
        decoded = self._codec.decode(value, key)
        if decoded is None:
            self._counters.unreadable += 1
        return decoded

    def hold(self, entry: Entry) -> None:
        """Let an entry be found from now on."""
        self.release(self._held.get(entry.key))
        self._held[entry.key] = entry
        self.held_bytes += len(entry.stored.body)

    def release(self, entry: Entry | None) -> None:
        """Let an entry go that was written, or is of no more use."""
        if entry is not None and self._held.get(entry.key) is entry:
            del self._held[entry.key]
            self.held_bytes -= len(entry.stored.body)

    def write(self, entry: Entry, fill: Fill, claim: Claim | None) -> None:
        """Write an entry that is held, soon, and let it go; the claim ends with it.

        All that is written in one turn of the event loop is written together.
        """
        if entry.stored.vary_names:
            self._spawn(self._write_variant(entry, fill, claim))
            return
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(loop, [])
        turn.append((entry, fill.verdict.keep_for, claim))
        if len(turn) == 1:
            # Only now: there are event loops whose tasks begin at once.
            written = self._spawn(self._write_together(loop, turn))
            written.add_done_callback(partial(self._written, loop, turn))

    async def _write_together(self, loop: asyncio.AbstractEventLoop, turn: "_Turn") -> None:
        """Write what was gathered; what comes from now on is too late for it."""
        del self._turns[loop]
        await self.store.write_all(
            [
                StoreWrite(values, keep_for, dict(entry.tokens), claim and claim.key)
                for entry, keep_for, claim in turn
                if (values := self._encoded(entry))
            ]
        )

    def _written(
        self, loop: asyncio.AbstractEventLoop, turn: "_Turn", task: "asyncio.Task[None]"
    ) -> None:
        if task.cancelled() and self._turns.get(loop) is turn:
            # It was cancelled before it began.
            del self._turns[loop]
        for entry, _, _ in turn:
            self.release(entry)

    def _encoded(self, entry: Entry) -> list[tuple[bytes, Value]]:
        """Return the entry as it is written, with its key; nothing where it cannot be."""
        try:
            return [(entry.key, self._framed(entry))]
        except Exception:
            # Such as a group whose name is no text. The others are written all the same.
            logger.exception("A response could not be encoded.")
            return []

    async def _write_variant(self, entry: Entry, fill: Fill, claim: Claim | None) -> None:
        """Write an entry that is held, and the index of its URL with it; let it go."""
        try:
            async with self._index_lock(fill.found.key):
                index, surplus = await self._index_with(entry, fill.found)
                values = [(it.key, self._framed(it)) for it in (entry, index)]
                keep_for, ended = fill.verdict.keep_for, claim and claim.key
                await self.store.write_all(
                    [StoreWrite(values, keep_for, dict(entry.tokens), ended)]
                )
                await self.store.delete(surplus)
        finally:
            self.release(entry)

    def _framed(self, value: Entry | VariantIndex) -> Value:
        return value if self.store.keeps_objects else self._codec.encode(value)

    def _index_lock(self, key: bytes) -> asyncio.Lock:
        """Return what lets the variants of a URL be written one after the other.

        Two that read the same index would each write it without the other's variant, which nothing
        would remove any more before it expires.
        """
        name = (id(asyncio.get_running_loop()), key)
        lock = self._index_locks.get(name)
        if lock is None:
            lock = self._index_locks[name] = asyncio.Lock()
        return lock

    async def _index_with(
        self, entry: Entry, found: LookupResult
    ) -> tuple[VariantIndex, Sequence[bytes]]:
        """Return the URL's index with this variant in it, and those that make room for it."""
        # Read anew: others may have been written while the handler ran.
        reading = await self._read_quietly(found.key)
        value = self.value(found.key, reading.values[0], None) if reading else None
        names = entry.stored.vary_names
        known: dict[bytes, None] = {}
        for index in (found.index, value):
            if isinstance(index, VariantIndex) and index.names == names:
                known |= dict.fromkeys(index.variants)
        known.pop(entry.key, None)
        older = list(known)
        surplus = older[: max(0, len(older) + 1 - self._settings.cache_max_variants)]
        variants = (*older[len(surplus) :], entry.key)
        return VariantIndex(key=found.key, names=names, variants=variants), surplus

    async def _read_quietly(self, key: bytes) -> StoreReply | None:
        try:
            return await self.store.read((key,), ())
        except Exception:  # noqa: BLE001 - without the index the variant is written all the same
            return None
