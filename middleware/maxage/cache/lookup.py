"""Lookups: choose the stored response that fits a request and whose tokens are all current."""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, final

from msgspec.structs import replace

from maxage.cache.key import is_variant, list_key, variant_key
from maxage.cache.pending_writes import PendingWrites
from maxage.cache.target import Target
from maxage.rfc9111.language import ACCEPT_LANGUAGE, is_in_language, preferred_language
from maxage.rfc9111.message import Headers
from maxage.rfc9111.vary import selecting_values, selects
from maxage.store.base import Near, Store, StoreReply
from maxage.store.entry import Entry, VariantIndex
from maxage.store.lookup_result import LookupResult
from maxage.store.memory import MemoryStore
from maxage.store.near_copy import Copy
from maxage.store.prepared import Confirm
from maxage.store.wanted_claim import WantedClaim

if TYPE_CHECKING:
    from maxage.settings import CacheSettings

_MOST_RECENT: Final = 64
"""Replies of which the result is remembered."""
_LARGEST_RECENT: Final = 16_384
"""Bytes of the value in such a reply."""
_LONGEST_RECENT: Final = 65_536
"""Bytes of the body before compression: a prepared response may hold it."""
_MOST_IN_LANGUAGE: Final = 8
"""Stored variants of one URL whose language is compared, the newest first."""


@final
class Lookup:
    """Looks responses up, in one round trip where the last response of the URL is a good guess."""

    def __init__(
        self, settings: "CacheSettings", store: Store, pending_writes: PendingWrites
    ) -> None:
        self._settings: Final = settings
        self._store: Final = store
        self._memory: Final = store if isinstance(store, MemoryStore) else None
        self._pending_writes: Final = pending_writes
        self._recent: Final[dict[bytes, tuple[tuple[str, ...], StoreReply]]] = {}
        """The last replies by key, with the groups that were asked for. The next reply is often the
        same, byte for byte, and need not be decoded again."""

    def begin(
        self, target: Target, key: bytes, headers: Headers, wanted: WantedClaim | None
    ) -> LookupResult | Awaitable[LookupResult]:
        """Do `read`; return its result at once where nothing has to be awaited."""
        memory = self._memory
        if memory is None or target.vary_names or self._pending_writes.find(key) is not None:
            return self.read(target, key, headers, wanted)
        groups = target.all_groups
        reply = memory.read_now((key,), groups)
        if reply.values[0] is None:
            tokens = dict(zip(groups, reply.tokens, strict=True))
            return LookupResult(key=key, entry=None, tokens=tokens)
        return self._shared_result(reply, groups, target, key, headers)

    async def read(
        self,
        target: Target,
        key: bytes,
        headers: Headers,
        wanted: WantedClaim | None = None,
    ) -> LookupResult:
        """Return the stored response for the request, with the tokens of now.

        `wanted` is the claim to make if nothing is found.
        """
        if target.vary_names:
            return await self._read_guess(target, key, headers, wanted)
        pending_writes, groups = self._pending_writes, target.all_groups
        pending = pending_writes.find(key)
        if wanted is None or pending is not None:
            reply = await self._store.read((key,), groups)
        else:
            reply = await self._store.read((key,), groups, wanted)
        if pending is None and pending_writes.find(key) is None:
            if reply.values[0] is None:
                tokens = dict(zip(groups, reply.tokens, strict=True))
                return LookupResult(key=key, entry=None, tokens=tokens)
            result = reply.result or self._result_of_same(key, groups, reply)
            return result or await self._shared_result(reply, groups, target, key, headers)
        value = pending_writes.value(key, reply.values[0], pending)
        tokens = dict(zip(groups, reply.tokens, strict=True))
        return await self._chosen(tokens, target, key, headers, value, None)

    def _result_of_same(
        self, key: bytes, groups: tuple[str, ...], reply: StoreReply
    ) -> LookupResult | None:
        """Return the result of the last reply, if this one is the same."""
        recent = self._recent.get(key)
        if recent is None or recent[0] != groups:
            return None
        last = recent[1]
        same = last.values == reply.values and last.tokens == reply.tokens
        reply.result = last.result if same else None
        return reply.result

    async def _shared_result(
        self,
        reply: StoreReply,
        groups: tuple[str, ...],
        target: Target,
        key: bytes,
        headers: Headers,
    ) -> LookupResult:
        """Return the result of a reply; where nothing varies, the reply's sharers share it."""
        value = self._pending_writes.value(key, reply.values[0], None)
        tokens = dict(zip(groups, reply.tokens, strict=True))
        result = await self._chosen(tokens, target, key, headers, value, None)
        if isinstance(value, Entry) and result.entry is value and not value.stored.vary_names:
            reply.result = result
            if self._store.near is None and tokens.keys() <= set(groups):
                # A near copy would answer instead. Only if no other group was read: a later equal
                # reply does not cover those.
                self._remember(key, groups, reply)
        return result

    async def _read_guess(
        self, target: Target, key: bytes, headers: Headers, wanted: WantedClaim | None
    ) -> LookupResult:
        """Read the variant that the last response's selecting fields choose, and the index."""
        pending_writes, groups = self._pending_writes, target.all_groups
        guess = selected_key(key, target, headers)
        pending = pending_writes.find(guess)
        reply = await self._read_wanting((guess, key), groups, wanted)
        value = pending_writes.value(guess, reply.values[0], pending)
        index = pending_writes.value(key, reply.values[1], None)
        tokens = dict(zip(groups, reply.tokens, strict=True))
        return await self._chosen(tokens, target, key, headers, value, index)

    def _read_wanting(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None
    ) -> Awaitable[StoreReply]:
        if wanted is None or any(map(self._pending_writes.find, keys)):
            return self._store.read(keys, groups)
        return self._store.read(keys, groups, wanted)

    async def _chosen(  # noqa: PLR0917 - what a lookup knows so far
        self,
        tokens: dict[str, bytes | None],
        target: Target,
        key: bytes,
        headers: Headers,
        value: Entry | VariantIndex | None,
        index: Entry | VariantIndex | None,
    ) -> LookupResult:
        """Return the value that fits the request, after a second read if need be."""
        if not isinstance(value, Entry):
            read_index = value if isinstance(value, VariantIndex) else index
            if isinstance(read_index, Entry):
                # The URL does not vary any more.
                value = read_index
            elif read_index is not None:
                return await self._read_variant(target, key, headers, read_index, tokens)
        if isinstance(value, Entry) and value.key == key:
            target.vary_names = ()
        return await self.checked(target, key, headers, value, tokens, None)

    async def _read_variant(
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
        chosen = selected_key(key, target, headers)
        pending = self._pending_writes.find(chosen)
        reply = await self._store.read((chosen,), ())
        value = self._pending_writes.value(chosen, reply.values[0], pending)
        return await self.checked(target, key, headers, value, tokens, index)

    async def checked(  # noqa: PLR0917 - what a lookup knows so far
        self,
        target: Target,
        key: bytes,
        headers: Headers,
        value: Entry | VariantIndex | None,
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
            reply = await self._store.read((), unread)
            tokens.update(zip(unread, reply.tokens, strict=True))
        stored = value.stored
        if not selects(headers, stored, target.rules):
            return LookupResult(key=key, entry=None, tokens=tokens, index=index, vary_miss=True)
        valid = value.is_current(tokens, target.groups)
        soft = not valid and value.is_softened(tokens, target.groups)
        entry = value if valid or soft else None
        return LookupResult(key=key, entry=entry, tokens=tokens, index=index, softened=soft)

    def _remember(self, key: bytes, groups: tuple[str, ...], reply: StoreReply) -> None:
        value = reply.values[0]
        entry = None if reply.result is None else reply.result.entry
        if not isinstance(value, bytes) or len(value) > _LARGEST_RECENT:
            return
        if entry is not None and entry.stored.length > _LONGEST_RECENT:
            return
        if key not in self._recent and len(self._recent) >= _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[key] = (groups, reply)

    async def in_language(
        self, target: Target, headers: Headers, result: LookupResult
    ) -> LookupResult:
        """Return the result of a miss with a variant in the language that the request prefers.

        Raises:
            StoreUnavailableError: the store gives no trustworthy answer.
        """
        if ACCEPT_LANGUAGE not in target.vary_names:
            return result
        language = preferred_language(headers)
        if language is None:
            return result
        for entry in await self._variants(result):
            wanted = selecting_values(entry.stored.vary_names, headers, target.rules)
            fits = is_in_language(entry.stored, wanted, language)
            if fits and entry.is_current(result.tokens, target.groups):
                return replace(result, entry=entry, vary_miss=False, prepared={})
        return result

    async def _variants(self, result: LookupResult) -> list[Entry]:
        """Return variants of the URL, the newest first."""
        pending_writes = self._pending_writes
        waiting = list(pending_writes.variants(result.key))
        listed = await self._store.enlisted(list_key(result.key))
        keys = [key for key in listed if is_variant(key, result.key)][: -_MOST_IN_LANGUAGE - 1 : -1]
        if not keys:
            return waiting
        reply = await self._store.read(keys, ())
        values = (pending_writes.value(k, v, None) for k, v in zip(keys, reply.values, strict=True))
        return [*waiting, *(value for value in values if isinstance(value, Entry))]


def result_of_copy(  # noqa: PLR0917 - what a lookup knows so far
    near: Near, copy: Copy, chosen: bytes, target: Target, key: bytes, headers: Headers
) -> LookupResult | None:
    """Return a near copy as the result of a lookup; None: a lookup would not choose it.

    `chosen` is the key that it was found by, which may be that of a variant.
    """
    entry = copy.entry(chosen)
    tokens = dict(entry.tokens)
    stored, names = entry.stored, target.vary_names
    if (
        stored.vary_names != names
        or not selects(headers, stored, target.rules)
        or not tokens.keys() >= set(target.groups)
    ):
        return None
    return LookupResult(key=key, entry=entry, tokens=tokens, confirm=confirm_of(near, copy))


def result_of_own_copy(near: Near, copy: Copy, key: bytes) -> LookupResult | None:
    """Return a near copy as the result of a lookup by its owner (`Near.introduce`)."""
    entry = copy.entry(key)
    if entry.stored.vary_names:
        return None
    return LookupResult(
        key=key, entry=entry, tokens=dict(entry.tokens), confirm=confirm_of(near, copy)
    )


def confirm_of(near: Near, copy: Copy) -> Confirm | None:
    """Return what must be awaited before the copy answers; None: it may answer at once."""
    return partial(near.confirm, copy) if near.exact else None


def selected_key(key: bytes, target: Target, headers: Headers) -> bytes:
    """Return the key of the response that the request's selecting fields choose."""
    names = target.vary_names
    if not names:
        return key
    return variant_key(key, names, selecting_values(names, headers, target.rules))


def is_of(entry: Entry, key: bytes) -> bool:
    """Return whether the entry is the response of this primary key, or a variant of it."""
    return entry.key == key or is_variant(entry.key, key)
