"""Chooses among what is stored for a URL: the variant that fits, with all its tokens current."""

from typing import Final, final

from maxage.cache.key import variant_key
from maxage.cache.lookup_result import LookupResult, is_current, is_softened
from maxage.cache.pending_writes import PendingWrites
from maxage.cache.target import Target
from maxage.rfc9111.message import Headers
from maxage.rfc9111.vary import selecting_values
from maxage.settings import CacheSettings
from maxage.store.base import StoreReply
from maxage.store.entry import Entry, VariantIndex

_MOST_RECENT: Final = 64
"""Values of which it is remembered what was made of them."""
_LARGEST_RECENT: Final = 16_384
"""Bytes of such a value."""


@final
class Lookup:
    """Reads the shelf, in one round trip where the last answer was a good guess."""

    def __init__(self, settings: CacheSettings, pending_writes: PendingWrites) -> None:
        self._settings: Final = settings
        self._pending_writes: Final = pending_writes
        self._recent: Final[dict[bytes, tuple[tuple[str, ...], StoreReply]]] = {}
        """The last readings, with the groups that were asked for: often the next one is the same,
        byte for byte, and need not be decoded and decided about again."""

    async def read(self, target: Target, key: bytes, headers: Headers) -> LookupResult:
        """Return what is stored for the request, with the tokens of now."""
        pending_writes, groups = self._pending_writes, target.all_groups
        names = target.vary_names
        index: Entry | VariantIndex | None = None
        if names:
            guess = variant_key(key, names, self.selecting(names, headers, target))
            pending = pending_writes.held(guess)
            reading = await self._pending_writes.store.read((guess, key), groups)
            value = self._pending_writes.value(guess, reading.values[0], pending)
            index = self._pending_writes.value(key, reading.values[1], None)
        else:
            pending = pending_writes.held(key)
            reading = await self._pending_writes.store.read((key,), groups)
            if pending is None and pending_writes.held(key) is None:
                found = reading.found or self._same(key, groups, reading)
                if isinstance(found, LookupResult):
                    return found
                return await self._found(reading, groups, target, key, headers)
            value = self._pending_writes.value(key, reading.values[0], pending)
        tokens = dict(zip(groups, reading.tokens, strict=True))
        return await self._chosen(tokens, target, key, headers, value, index)

    async def _found(
        self,
        reading: StoreReply,
        groups: tuple[str, ...],
        target: Target,
        key: bytes,
        headers: Headers,
    ) -> LookupResult:
        """Make of a reading what was found where nothing varies, for all who share it."""
        value = self._pending_writes.value(key, reading.values[0], None)
        tokens = dict(zip(groups, reading.tokens, strict=True))
        found = await self._chosen(tokens, target, key, headers, value, None)
        if isinstance(value, Entry) and found.entry is value and not value.stored.vary_names:
            reading.found = found
            if tokens.keys() <= set(groups):
                # What was asked besides, a reading that is the same says nothing of.
                self._remember(key, groups, reading)
        return found

    def _same(self, key: bytes, groups: tuple[str, ...], reading: StoreReply) -> object:
        """Return what was made of the last reading, if this one is the same."""
        recent = self._recent.get(key)
        if recent is None or recent[0] != groups:
            return None
        last = recent[1]
        same = last.values == reading.values and last.tokens == reading.tokens
        reading.found = last.found if same else None
        return reading.found

    def _remember(self, key: bytes, groups: tuple[str, ...], reading: StoreReply) -> None:
        value = reading.values[0]
        if not isinstance(value, bytes) or len(value) > _LARGEST_RECENT:
            return
        if key not in self._recent and len(self._recent) >= _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[key] = (groups, reading)

    async def _chosen(  # noqa: PLR0917 - what a lookup knows so far
        self,
        tokens: dict[str, bytes | None],
        target: Target,
        key: bytes,
        headers: Headers,
        value: "Entry | VariantIndex | None",
        index: "Entry | VariantIndex | None",
    ) -> LookupResult:
        """Return what of that which was read fits the request, after a second read if need be."""
        if not isinstance(value, Entry):
            found_index = value if isinstance(value, VariantIndex) else index
            if isinstance(found_index, Entry):
                # The URL does not vary any more.
                value = found_index
            elif found_index is not None:
                return await self._lookup_variant(target, key, headers, found_index, tokens)
        if isinstance(value, Entry) and value.key == key:
            target.vary_names = ()
        return await self.checked(target, key, headers, value, tokens, None)

    async def _lookup_variant(
        self,
        target: Target,
        key: bytes,
        headers: Headers,
        index: VariantIndex,
        tokens: dict[str, bytes | None],
    ) -> LookupResult:
        if index.names == target.vary_names:
            return LookupResult(key=key, entry=None, tokens=tokens, index=index, vary_miss=True)
        target.vary_names = index.names
        chosen = variant_key(key, index.names, self.selecting(index.names, headers, target))
        pending = self._pending_writes.held(chosen)
        reading = await self._pending_writes.store.read((chosen,), ())
        value = self._pending_writes.value(chosen, reading.values[0], pending)
        return await self.checked(target, key, headers, value, tokens, index)

    async def checked(  # noqa: PLR0917 - what a lookup knows so far
        self,
        target: Target,
        key: bytes,
        headers: Headers,
        value: "Entry | VariantIndex | None",
        tokens: dict[str, bytes | None],
        index: VariantIndex | None,
    ) -> LookupResult:
        """Compare the entry's tokens and selecting fields with those of now."""
        if not isinstance(value, Entry):
            return LookupResult(
                key=key, entry=None, tokens=tokens, index=index, vary_miss=index is not None
            )
        unread = [group for group, _ in value.tokens if group not in tokens]
        if unread:
            # The response named groups that were not foreseen; the next lookup asks at once.
            target.remember_groups(unread, self._settings.cache_max_tags)
            reading = await self._pending_writes.store.read((), unread)
            tokens.update(zip(unread, reading.tokens, strict=True))
        stored = value.stored
        if stored.selecting != self.selecting(stored.vary_names, headers, target):
            return LookupResult(key=key, entry=None, tokens=tokens, index=index, vary_miss=True)
        valid = is_current(value, tokens, target.groups)
        soft = not valid and is_softened(value, tokens, target.groups)
        entry = value if valid or soft else None
        return LookupResult(key=key, entry=entry, tokens=tokens, index=index, softened=soft)

    def selecting(
        self, names: tuple[bytes, ...], headers: Headers, target: Target
    ) -> tuple[bytes | None, ...]:
        """Return the values of the request's selecting fields."""
        return selecting_values(names, headers, target.rules)

    async def variants(self, found: LookupResult, most: int) -> list[Entry]:
        """Return variants of the URL, the newest first: those that wait to be written, and `most`.

        Raises:
            StoreUnavailableError: nothing that the store says may be relied upon now.
        """
        waiting = list(self._pending_writes.variants_held(found.key))
        keys = found.index.variants[-most:][::-1] if found.index is not None else ()
        if not keys:
            return waiting
        reading = await self._pending_writes.store.read(keys, ())
        values = (
            self._pending_writes.value(k, v, None)
            for k, v in zip(keys, reading.values, strict=True)
        )
        return [*waiting, *(value for value in values if isinstance(value, Entry))]
