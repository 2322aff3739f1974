"""Where responses lie: in the store, and until they are written in this process."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, final
from weakref import WeakValueDictionary

from maxage.claim import Claim
from maxage.counting import Counters
from maxage.fill import Fill
from maxage.found import Found
from maxage.settings import CacheSettings
from maxage.store import Reading, Store, Value
from maxage.store.codec import Codec, Entry, VariantIndex


@final
class Shelf:
    """The store, and before it the entries that wait to be written to it.

    An entry is found here before the last byte of its response leaves, so that the client's next
    request does not race the write.
    """

    def __init__(self, settings: CacheSettings, store: Store, counters: Counters) -> None:
        self._settings: Final = settings
        self._counters: Final = counters
        self.store: Final = store
        secret = settings.cache_secret
        self._codec: Final = Codec(secret.get_secret_value().encode() if secret else None)
        self._held: dict[bytes, Entry] = {}
        self.held_bytes = 0
        """Bodies that are being copied or wait to be written, together."""
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

    async def write(self, entry: Entry, fill: Fill, claim: Claim | None) -> None:
        """Write an entry that is held, and let it go; the claim ends with it."""
        try:
            values = [(entry.key, self._framed(entry))]
            tokens = dict(entry.tokens)
            keep_for, ended = fill.verdict.keep_for, None if claim is None else claim.key
            if not entry.stored.vary_names:
                await self.store.write(values, keep_for=keep_for, tokens=tokens, ended=ended)
                return
            async with self._index_lock(fill.found.key):
                index, surplus = await self._index_with(entry, fill.found)
                values.append((index.key, self._framed(index)))
                await self.store.write(values, keep_for=keep_for, tokens=tokens, ended=ended)
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

    async def _index_with(self, entry: Entry, found: Found) -> tuple[VariantIndex, Sequence[bytes]]:
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

    async def _read_quietly(self, key: bytes) -> Reading | None:
        try:
            return await self.store.read((key,), ())
        except Exception:  # noqa: BLE001 - without the index the variant is written all the same
            return None
