"""Entries that wait to be written to the store, and the bytes that bodies may take until then."""

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, final

from msgspec.structs import replace

from maxage.background import Background
from maxage.cache.fill import Fill
from maxage.cache.key import entry_prefix
from maxage.observe.counters import Tally
from maxage.rfc9111.content_coding import compressed
from maxage.store.base import Store, StoreWrite, Value
from maxage.store.claims import Claim
from maxage.store.codec import Codec
from maxage.store.entry import Entry, VariantIndex
from maxage.store.memory import MemoryStore

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

logger = logging.getLogger("maxage")

_COMPRESSED_AT_ONCE: Final = 65_536
"""Bytes of a body that is compressed in the event loop; a thread does it for a longer one."""

_Turn = list[tuple[Entry, Fill, Claim | None]]
"""Entries that are written together: each with its fill and the claim it ends."""


class Parked(Protocol):
    """A copy of a whole body that waits for the end of its application call."""

    @property
    def size(self) -> int:
        """The bytes of the copy."""
        ...

    def drop(self) -> None:
        """Empty the copy."""
        ...


@final
class PendingWrites:
    """The entries that wait to be written to a store; a lookup finds them as if they were written.

    An entry is added before the last byte of its response leaves, so that the client's next request
    does not race the write.
    """

    def __init__(
        self,
        settings: "CacheSettings",
        store: Store,
        tally: Tally,
        background: Background,
    ) -> None:
        self._settings: Final = settings
        self._most_bytes: Final = settings.cache_pending_bytes
        self._tally: Final = tally
        self._background: Final = background
        self.store: Final = store
        compresses = settings.cache_compress
        self._memory: Final = store if isinstance(store, MemoryStore) and not compresses else None
        """The embedded store, if it takes each entry at once: compressing may take long."""
        secret = settings.cache_secret
        self._codec: Final = Codec(
            secret.get_secret_value().encode() if secret else None,
            keeps_compressed=settings.cache_compress,
            longest=settings.cache_max_body_bytes,
        )
        self._entries: Final[dict[bytes, Entry]] = {}
        self.find: Final = self._entries.get
        """Returns the entry that waits to be written under a key, if there is one."""
        self.reserved_bytes = 0
        """Bytes of bodies that are being copied or wait to be written."""
        self._parked: Final[dict[Parked, None]] = {}
        self._parked_bytes = 0
        self._turn: tuple[asyncio.AbstractEventLoop, _Turn] | None = None
        """The entries that are written next, and their event loop. Where loops of several threads
        take turns, each begins another turn, and less is written together."""

    def __len__(self) -> int:
        """Return the number of entries that wait to be written."""
        return len(self._entries)

    def variants(self, key: bytes) -> Iterator[Entry]:
        """Yield the variants of a primary key that wait to be written, the newest first."""
        prefix = key + b":v:"
        return (entry for name, entry in reversed(self._entries.items()) if name.startswith(prefix))

    def reserve(self, size: int) -> bool:
        """Reserve bytes for a body until `free`; False: all together may take no more."""
        has_room = self.has_room(size)
        if has_room:
            self.reserved_bytes += size
        return has_room

    def has_room(self, size: int) -> bool:
        """Return whether there is room for a body. Parked copies make room, the oldest first."""
        most = self._most_bytes - size
        while self._parked and self.reserved_bytes + self._parked_bytes > most:
            next(iter(self._parked)).drop()
            logger.debug(
                "A response is not stored: CACHE_PENDING_BYTES is used up, and its application "
                "call has not returned yet."
            )
        return self.reserved_bytes <= most

    def park(self, copy: "Parked") -> None:
        """Let a copy make room for others: its body is whole, and may never be stored."""
        self._parked[copy] = None
        self._parked_bytes += copy.size
        self.free(copy.size)

    def release(self, copy: "Parked") -> None:
        """Free the bytes of a copy, parked or not; nothing else happens to it."""
        if copy in self._parked:
            del self._parked[copy]
            self._parked_bytes -= copy.size
        else:
            self.reserved_bytes -= copy.size

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

    def drop(self, entry: Entry) -> None:
        """Remove an entry from the store too, written or not.

        The embedded store loses it at once, since it takes the next one at once.
        """
        if self._memory is not None:
            self._memory.delete_now((entry.key,))
            return
        self.remove(entry)
        self._background.spawn(self.store.delete((entry.key,)))

    def write(self, entry: Entry, fill: Fill, claim: Claim | None) -> None:
        """Write an entry soon, and let lookups find it from now on; the claim ends with the write.

        All entries of one turn of the event loop are written together. The embedded store takes
        each at once.
        """
        if self._memory is not None:
            for value in fill.values(entry):
                self._memory.keep_now(value, keep_for=fill.verdict.keep_for)
            if fill.listed_under is not None:
                self._background.spawn(self._enlist(entry, fill))
            return
        self.remove(self._entries.get(entry.key))
        self._entries[entry.key] = entry
        self.reserved_bytes += len(entry.stored.body)
        loop, last = asyncio.get_running_loop(), self._turn
        if last is not None and last[0] is loop:
            last[1].append((entry, fill, claim))
            return
        turn: _Turn = [(entry, fill, claim)]
        self._turn = (loop, turn)
        # Only now: there are event loops whose tasks begin at once.
        written = self._background.spawn(self._write_together(turn))
        written.add_done_callback(partial(self._written, turn))

    def remove(self, entry: Entry | None) -> None:
        """Remove an entry that was written, or is of no more use."""
        if entry is not None and self._waits(entry):
            del self._entries[entry.key]
            self.free(len(entry.stored.body))

    async def _write_together(self, turn: _Turn) -> None:
        """Write the entries of one turn."""
        self._close(turn)
        kept = [entry for entry, _, _ in turn]
        if self._settings.cache_compress:
            kept = [await _as_kept(entry) for entry in kept]
        keys: list[bytes] = []
        writes: list[StoreWrite] = []
        listed: list[tuple[Entry, Fill]] = []
        for (entry, fill, claim), it in zip(turn, kept, strict=True):
            if fill.listed_under is not None:
                listed.append((entry, fill))
            if self._waits(entry):
                keys.append(entry.key)
                if values := self._encoded(it, fill):
                    ended = None if claim is None else claim.key
                    tokens = dict(entry.tokens)
                    writes.append(StoreWrite(values, fill.verdict.keep_for, tokens, ended))
        await self.store.write_all(writes)
        # One that was dropped meanwhile goes. One that was replaced while it was compressed has a
        # successor there, which stays.
        if dropped := [key for key in keys if key not in self._entries]:
            await self.store.delete(dropped)
        if listed:
            await asyncio.gather(*(self._enlist(entry, fill) for entry, fill in listed))

    def _close(self, turn: _Turn) -> None:
        """Let later entries begin another turn."""
        last = self._turn
        if last is not None and last[1] is turn:
            self._turn = None

    def _waits(self, entry: Entry) -> bool:
        """Return whether an entry is still to be written: it was neither dropped nor replaced."""
        return self._entries.get(entry.key) is entry

    def _encoded(self, entry: Entry, fill: Fill) -> list[tuple[bytes, Value]]:
        """Return what is written, each with its key; nothing where it cannot be encoded."""
        try:
            if self.store.keeps_objects:
                return [(value.key, value) for value in fill.values(entry)]
            return [(value.key, self._codec.encode(value)) for value in fill.values(entry)]
        except Exception:
            # Such as a group whose name is no text. The others are written all the same.
            logger.exception("A response is not stored: it could not be encoded.")
            return []

    def _written(self, turn: _Turn, task: "asyncio.Task[None]") -> None:
        del task
        # It may have been cancelled before it began.
        self._close(turn)
        entries = self._entries
        for entry, _, _ in turn:
            if entries.get(entry.key) is entry:
                del entries[entry.key]
                self.reserved_bytes -= len(entry.stored.body)

    async def _enlist(self, entry: Entry, fill: Fill) -> None:
        """Count an entry among those of its URL, and remove the ones beyond the bound.

        The store keeps the list, so that the bound holds for all processes together. The entry was
        written before: one that falls out of the list is removed afterwards.
        """
        name, keys = fill.listed_under, [entry.key]
        if name is None:
            return
        if entry.stored.vary_names and fill.request.declared:
            # There is an index for each value of a declared field.
            keys.insert(0, fill.found.key)
        # An entry is not found without its index.
        most = max(self._settings.cache_max_variants, len(keys))
        keep_for = fill.verdict.keep_for
        surplus = await self.store.enlist(name, keys, most=most, keep_for=keep_for)
        prefix = entry_prefix(self._settings.cache_namespace)
        # A damaged list removes nothing else.
        await self.store.delete([key for key in surplus if key.startswith(prefix)])


async def _as_kept(entry: Entry) -> Entry:
    """Return an entry as it lies in the store: with its body compressed, where it is marked."""
    stored = entry.stored
    if stored.plain_length is None or stored.is_compressed:
        return entry
    if stored.plain_length > _COMPRESSED_AT_ONCE:
        return replace(entry, stored=await asyncio.to_thread(compressed, stored))
    return replace(entry, stored=compressed(stored))
