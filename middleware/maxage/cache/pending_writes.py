"""Entries that wait to be written to the store, and the bytes that bodies may take until then."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, final
from weakref import WeakKeyDictionary, WeakValueDictionary

from maxage.background import Background
from maxage.cache.fill import Fill
from maxage.observe.counters import Tally
from maxage.settings import CacheSettings
from maxage.store.base import Store, StoreReply, StoreWrite, Value
from maxage.store.claims import Claim
from maxage.store.codec import Codec
from maxage.store.entry import Entry, VariantIndex
from maxage.store.lookup_result import LookupResult

logger = logging.getLogger("maxage")

_Turn = list[tuple[Entry, float, Claim | None]]
"""Entries that are written together: each with its lifetime (seconds) and the claim it ends."""


@final
class PendingWrites:
    """The entries that wait to be written to a store; a lookup finds them as if they were written.

    An entry is added before the last byte of its response leaves, so that the client's next request
    does not race the write.
    """

    def __init__(
        self,
        settings: CacheSettings,
        store: Store,
        tally: Tally,
        background: Background,
    ) -> None:
        self._settings: Final = settings
        self._tally: Final = tally
        self._background: Final = background
        self.store: Final = store
        secret = settings.cache_secret
        self._codec: Final = Codec(secret.get_secret_value().encode() if secret else None)
        self._entries: dict[bytes, Entry] = {}
        self.reserved_bytes = 0
        """Bytes of bodies that are being copied or wait to be written."""
        self._turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn]] = (
            WeakKeyDictionary()
        )
        """The entries that are written next, by event loop."""
        self._index_locks: WeakValueDictionary[tuple[int, bytes], asyncio.Lock] = (
            WeakValueDictionary()
        )

    def __len__(self) -> int:
        """Return the number of entries that wait to be written."""
        return len(self._entries)

    def find(self, key: bytes) -> Entry | None:
        """Return the entry that waits to be written under a key."""
        return self._entries.get(key)

    def variants(self, key: bytes) -> Iterator[Entry]:
        """Yield the variants of a primary key that wait to be written, the newest first."""
        prefix = key + b":v:"
        return (entry for name, entry in reversed(self._entries.items()) if name.startswith(prefix))

    def reserve(self, size: int) -> bool:
        """Reserve bytes for a body until `free`; False: all together may take no more."""
        if self.reserved_bytes + size > self._settings.cache_pending_bytes:
            return False
        self.reserved_bytes += size
        return True

    def free(self, size: int) -> None:
        """Free reserved bytes."""
        self.reserved_bytes -= size

    def value(
        self, key: bytes, value: Value | None, pending: Entry | None
    ) -> "Entry | VariantIndex | None":
        """Return the value under the key: the entry that waits to be written, or the one read.

        Args:
            key: of the value.
            value: the value that was read.
            pending: the entry that waited when the read was sent. It may have been written and
                removed since, too late for that read to see it.
        """
        pending = self._entries.get(key, pending)
        if pending is not None:
            return pending
        if not isinstance(value, bytes):
            return value
        decoded = self._codec.decode(value, key)
        if decoded is None:
            self._tally.unreadable += 1
        return decoded

    def add(self, entry: Entry) -> None:
        """Let lookups find an entry from now on."""
        self.remove(self._entries.get(entry.key))
        self._entries[entry.key] = entry
        self.reserved_bytes += len(entry.stored.body)

    def remove(self, entry: Entry | None) -> None:
        """Remove an entry that was written, or is of no more use."""
        if entry is not None and self._waits(entry):
            del self._entries[entry.key]
            self.free(len(entry.stored.body))

    def write(self, entry: Entry, fill: Fill, claim: Claim | None) -> None:
        """Write an entry soon, and remove it; the claim ends with the write.

        All entries of one turn of the event loop are written together.
        """
        if entry.stored.vary_names:
            self._background.spawn(self._write_variant(entry, fill, claim))
            return
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(loop, [])
        turn.append((entry, fill.verdict.keep_for, claim))
        if len(turn) == 1:
            # Only now: there are event loops whose tasks begin at once.
            written = self._background.spawn(self._write_together(loop, turn))
            written.add_done_callback(partial(self._written, loop, turn))

    async def _write_together(self, loop: asyncio.AbstractEventLoop, turn: "_Turn") -> None:
        """Write the entries of one turn; later entries begin another turn."""
        del self._turns[loop]
        writes = [
            StoreWrite(values, keep_for, dict(entry.tokens), claim and claim.key)
            for entry, keep_for, claim in turn
            if self._waits(entry) and (values := self._encoded(entry))
        ]
        await self.store.write_all(writes)
        await self._delete_dropped([key for write in writes for key, _ in write.values])

    def _waits(self, entry: Entry) -> bool:
        """Return whether an entry is still to be written: it was neither dropped nor replaced."""
        return self._entries.get(entry.key) is entry

    async def _delete_dropped(self, keys: Sequence[bytes]) -> None:
        """Delete entries that were dropped while they were being written."""
        dropped = [key for key in keys if key not in self._entries]
        if dropped:
            await self.store.delete(dropped)

    def _written(
        self, loop: asyncio.AbstractEventLoop, turn: "_Turn", task: "asyncio.Task[None]"
    ) -> None:
        if task.cancelled() and self._turns.get(loop) is turn:
            # It was cancelled before it began.
            del self._turns[loop]
        for entry, _, _ in turn:
            self.remove(entry)

    def _encoded(self, entry: Entry) -> list[tuple[bytes, Value]]:
        """Return the entry's key and value, or nothing where it cannot be encoded."""
        try:
            return [(entry.key, self._framed(entry))]
        except Exception:
            # Such as a group whose name is no text. The others are written all the same.
            logger.exception("A response is not stored: it could not be encoded.")
            return []

    async def _write_variant(self, entry: Entry, fill: Fill, claim: Claim | None) -> None:
        """Write a variant with the index of its URL, and remove it."""
        try:
            async with self._index_lock(fill.found.key):
                if not self._waits(entry):
                    return
                index, surplus = await self._index_with(entry, fill.found)
                values = [(it.key, self._framed(it)) for it in (entry, index)]
                keep_for, ended = fill.verdict.keep_for, claim and claim.key
                await self.store.write_all(
                    [StoreWrite(values, keep_for, dict(entry.tokens), ended)]
                )
                await self.store.delete(surplus)
                await self._delete_dropped([entry.key])
        finally:
            self.remove(entry)

    def _framed(self, value: Entry | VariantIndex) -> Value:
        return value if self.store.keeps_objects else self._codec.encode(value)

    def _index_lock(self, key: bytes) -> asyncio.Lock:
        """Return the lock by which the variants of a URL are written one after the other.

        Two writes that read the same index would each write it without the other's variant, which
        nothing would remove any more before it expires.
        """
        name = (id(asyncio.get_running_loop()), key)
        lock = self._index_locks.get(name)
        if lock is None:
            lock = self._index_locks[name] = asyncio.Lock()
        return lock

    async def _index_with(
        self, entry: Entry, found: LookupResult
    ) -> tuple[VariantIndex, Sequence[bytes]]:
        """Return the URL's index with this variant, and the keys of the variants it replaces."""
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
