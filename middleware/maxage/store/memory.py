"""The embedded store: in one process, bounded in bytes, least recently used out first."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, final

from maxage.clock import Clock, monotonic_clock
from maxage.errors import StoreUnavailableError
from maxage.observe.counters import PROCESS
from maxage.observe.words import Kept
from maxage.store.base import (
    CLAIM_ENDED,
    CLAIM_ENDED_SECONDS,
    Near,
    StoreReply,
    StoreWrite,
    TokenAuthority,
    Value,
)
from maxage.store.entry import Entry, VariantIndex
from maxage.store.fork_safe import fork_safe_lock
from maxage.store.memory_tokens import OVERHEAD, MemoryTokens
from maxage.store.near_copy import Copy, KeptEntry, size_of
from maxage.store.prepared import MOST_FORMS, Form, Owner, PreparedResponse
from maxage.store.wanted_claim import WantedClaim

_PART: Final = 50
"""Bytes of each part of a variant index, or of a list, besides its characters."""
_CHECKED_SECONDS: Final = 1.0
"""Seconds for which a copy's tokens are not moved to the most recently used ones again."""
_KNOWN: Final = 2048
"""Requests that are remembered, in addition to one for each value."""

_List = tuple[bytes, ...]
"""Keys of values, the oldest first."""
_Kept = bytes | VariantIndex | KeptEntry | _List
Slot = tuple[_Kept, float, int]
"""A value, its end (monotonic), and its bytes."""


@final
class MemoryStore(TokenAuthority):
    """Keeps responses and tokens in this process; safe to use from several threads.

    Responses stay objects, ready to be sent, so the store is its own near cache (`Near`).

    Args:
        max_bytes: the size limit of all keys, values and tokens together.
        replica_lag: seconds for which no response of a purged group is stored.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_bytes: int = 64 * 1024 * 1024,
        *,
        replica_lag: float = 0.0,
        clock: Clock = monotonic_clock,
    ) -> None:
        self.shared: Final = False
        """Each process has its own store."""
        self.keeps_objects: Final = True
        """No value leaves the process."""
        self.near: Near | None = self
        """This store itself."""
        self.authority: Final[TokenAuthority] = self
        """This store itself."""
        self.exact: Final = False
        """A purge takes effect at once, so that a copy needs no confirmation."""
        self._max_bytes: Final = max_bytes
        self._clock: Final = clock
        self._lock: Final = fork_safe_lock()
        self._values: Final[OrderedDict[bytes, Slot]] = OrderedDict()
        self._tokens: Final = MemoryTokens(replica_lag, clock)
        self._value_bytes = 0
        self.is_off = False
        """Whether it was switched off."""

    @property
    def used_bytes(self) -> int:
        """The bytes of all keys, values and tokens."""
        return self._value_bytes + self._tokens.used_bytes

    async def open(self) -> None:
        """Do nothing: memory is always there."""

    async def close(self) -> None:
        """Do nothing: the values stay for the next use in this process."""

    async def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> StoreReply:
        """Return values and tokens; missing tokens are created. A claim saves no round trip."""
        del wanted
        return self.read_now(keys, groups)

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Store values; the least recently used ones make room."""
        return self.write_now(values, keep_for=keep_for, tokens=tokens)

    async def write_all(self, writes: Sequence[StoreWrite]) -> bool:
        """Do several writes."""
        return self.write_all_now(writes)

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value unless the key has one; return the key's value."""
        return self.claim_now(key, value, keep_for=keep_for)

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; return True, also if there was none."""
        self.delete_now(keys)
        return True

    async def enlist(
        self, name: bytes, keys: Sequence[bytes], *, most: int, keep_for: float
    ) -> Sequence[bytes]:
        """Move keys to the end of a list; return those that fell out of it."""
        if self.is_off:
            return ()
        with self._lock:
            before, ends = self._list(name)
            listed = (*(key for key in before if key not in keys), *keys)
            self._put(name, listed[-most:], max(keep_for, ends - self._clock()))
            return listed[:-most]

    async def enlisted(self, name: bytes) -> Sequence[bytes]:
        """Return the keys of a list, the oldest first."""
        with self._lock:
            return self._list(name)[0]

    def mutating(self) -> AbstractAsyncContextManager[bool]:
        """Enclose a mutating request; its purge cannot fail."""
        return nullcontext(not self.is_off)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Give each group a fresh token."""
        return self.renew_now(groups)

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Give each group a fresh token, and return the replaced ones too."""
        with self._lock:
            present = self._tokens.present()
            return [present.get(group) for group in groups], self._renewed(groups)

    async def soften(self, groups: Sequence[str]) -> bool:
        """Put a mark behind each group's token."""
        return self.soften_now(groups)

    # the near cache

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._values)

    def __bool__(self) -> bool:
        """Return True: an empty store is a store."""
        return True

    @property
    def known_requests(self) -> int:
        """The number of requests that may be remembered: each response counts one as its own."""
        return _KNOWN + len(self._values)

    def find(self, key: bytes) -> KeptEntry | None:
        """Return the response of a key, if all its tokens are the current ones."""
        with self._lock:
            slot = self._values.get(key)
            if slot is None or not isinstance(slot[0], KeptEntry):
                return None
            copy, now = slot[0], self._clock()
            if slot[1] <= now or self.is_off:
                return None
            if copy.checked != self._tokens.serial or copy.checked_until <= now:
                if not self._tokens.are_current(copy.value):
                    return None
                copy.checked, copy.checked_until = self._tokens.serial, now + _CHECKED_SECONDS
            self._values.move_to_end(key)
            return copy

    async def confirm(self, copy: Copy) -> bool:
        """Return whether the copy is kept: a purge takes effect at once."""
        return copy.kept

    def introduce(self, key: bytes, owner: Owner) -> bytes | None:
        """Return None: nothing is remembered of it."""
        del key, owner
        return None

    def begin(self) -> int:
        """Return 0: `keep` does nothing."""
        return 0

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        """Do nothing: the looked up entry is in this store."""

    def keep_prepared(self, copy: Copy, form: Form, prepared: PreparedResponse) -> None:
        """Keep a response that was prepared from a copy, for the next request of that form."""
        if isinstance(copy, KeptEntry) and len(prepared.body) > len(copy.value.stored.body):
            # A body that was decompressed would take room that is not counted.
            return
        with self._lock:
            if copy.kept:
                if copy.prepared is None or len(copy.prepared) >= MOST_FORMS:
                    copy.prepared = {}
                copy.prepared[form] = prepared

    # without awaiting

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Do `read` without awaiting."""
        if self.is_off:
            raise StoreUnavailableError("the embedded store is switched off")
        with self._lock:
            values = [self._value(key) for key in keys]
            before = self._tokens.used_bytes
            tokens = self._tokens.of(groups)
            if self._tokens.used_bytes > before:
                self._make_room()
            return StoreReply(values, tokens)

    def _value(self, key: bytes) -> Value | None:
        slot = self._values.get(key)
        if slot is None:
            return None
        value, ends, _ = slot
        if ends <= self._clock():
            self._remove(key)
            return None
        self._values.move_to_end(key)
        return _as_read(value)

    def forget(self, keys: Collection[bytes]) -> None:
        """Remove the values."""
        if self._values.keys().isdisjoint(keys):
            return
        with self._lock:
            for key in keys:
                self._remove(key)

    def keep_now(self, value: Entry | VariantIndex, *, keep_for: float) -> bool:
        """Store one value that stays an object; return whether it is stored."""
        if self.is_off:
            return False
        with self._lock:
            return self._put(value.key, value, keep_for)

    def _put(self, key: bytes, value: Value | _List, keep_for: float) -> bool:
        values = self._values
        if key in values:
            self._remove(key)
        stored: _Kept
        if isinstance(value, Entry):
            stored, size = KeptEntry(value), size_of(value)
        else:
            stored, size = value, _size(value)
        size += len(key) + OVERHEAD
        if size > self._max_bytes or keep_for <= 0:
            return False
        values[key] = (stored, self._clock() + keep_for, size)
        self._value_bytes += size
        self._make_room()
        return key in values

    def peek(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens as they are: none is created, and none counts as used.

        Raises:
            StoreUnavailableError: the store is switched off.
        """
        if self.is_off:
            raise StoreUnavailableError("the embedded store is switched off")
        with self._lock:
            now, present = self._clock(), self._tokens.present()
            values = [slot[0] if (slot := self._values.get(key)) and slot[1] > now else None
                      for key in keys]  # fmt: skip
            return StoreReply(list(map(_as_read, values)), [present.get(group) for group in groups])

    def all_keys(self) -> list[bytes]:
        """Return the keys of all values."""
        with self._lock:
            return list(self._values)

    def write_now(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Do `write` without awaiting. Tokens live as long as there is room for them."""
        del tokens
        if self.is_off:
            return False
        with self._lock:
            stored = True
            for key, value in values:
                stored &= self._put(key, value, keep_for)
            return stored

    def write_all_now(self, writes: Sequence[StoreWrite]) -> bool:
        """Do `write_all` without awaiting."""
        stored = True
        for values, keep_for, tokens, ended in writes:
            stored &= self.write_now(values, keep_for=keep_for, tokens=tokens)
            if ended is not None:
                self.write_now([(ended, CLAIM_ENDED)], keep_for=CLAIM_ENDED_SECONDS, tokens={})
        return stored

    def claim_now(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Do `claim` without awaiting."""
        with self._lock:
            if self._value(key) is None and not self.is_off:
                self._put(key, value, keep_for)
            present = self._value(key)
            return present if isinstance(present, bytes) else None

    def delete_now(self, keys: Iterable[bytes]) -> bool:
        """Remove the values; return whether there was one."""
        with self._lock:
            return any([self._remove(key) for key in keys])  # noqa: C419 - all of them

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Do `renew` without awaiting."""
        if self.is_off:
            return [None] * len(groups)
        with self._lock:
            return self._renewed(groups)

    def owe(self, groups: Iterable[str]) -> None:
        """Purge groups, which takes effect at once."""
        self.renew_now(tuple(groups))

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Do `soften` without awaiting."""
        if self.is_off:
            return False
        with self._lock:
            for group in groups:
                self._tokens.soften(group)
            self._make_room()
        return True

    def switch_off(self) -> None:
        """Stop for good: several processes have such a store, and cannot purge each other's."""
        self.is_off = True
        self.clear()

    def clear(self) -> None:
        """Remove all values and tokens."""
        with self._lock:
            self._values.clear()
            self._tokens.clear()
            self._value_bytes = 0

    def _list(self, name: bytes) -> tuple[_List, float]:
        """Return a list and its end (monotonic)."""
        value, ends, _ = self._values.get(name, ((), 0.0, 0))
        return (value, ends) if isinstance(value, tuple) and ends > self._clock() else ((), 0.0)

    def _renewed(self, groups: Sequence[str]) -> list[bytes | None]:
        tokens: list[bytes | None] = [self._tokens.renew(group) for group in groups]
        self._make_room()
        return tokens

    def _remove(self, key: bytes) -> bool:
        slot = self._values.pop(key, None)
        if slot is None:
            return False
        self._release(slot)
        return True

    def _release(self, slot: Slot) -> None:
        self._value_bytes -= slot[2]
        if isinstance(slot[0], KeptEntry):
            slot[0].kept = False
            slot[0].prepared = None

    def _make_room(self) -> None:
        tokens, limit = self._tokens, self._max_bytes
        if self._value_bytes + tokens.used_bytes <= limit:
            return
        while self.used_bytes > limit and tokens.used_bytes > limit // 2:
            # Tokens of paths without stored responses must not displace the values.
            tokens.evict()
        while self.used_bytes > limit and self._values:
            self._release(self._values.popitem(last=False)[1])
            PROCESS.evictions[Kept.EMBEDDED] += 1
        while self.used_bytes > limit and len(tokens) > 1:
            tokens.evict()


def _as_read(value: _Kept | None) -> Value | None:
    """Return a stored value as a read gives it; a list is none."""
    if isinstance(value, tuple):
        return None
    return value.value if isinstance(value, KeptEntry) else value


def _size(value: bytes | VariantIndex | _List) -> int:
    """Return the bytes that a value takes in memory."""
    if isinstance(value, VariantIndex):
        value = value.names
    if isinstance(value, tuple):
        return sum(len(part) + _PART for part in value)
    return len(value)
