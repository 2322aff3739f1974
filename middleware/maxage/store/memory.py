"""The embedded store: one process, bounded in bytes, least recently used out first."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import final

from maxage.clock import Clock, monotonic_clock
from maxage.errors import StoreUnavailableError
from maxage.store.base import (
    CLAIM_ENDED,
    CLAIM_ENDED_SECONDS,
    StoreReply,
    StoreWrite,
    TokenAuthority,
    Value,
)
from maxage.store.entry import Entry, VariantIndex
from maxage.store.near_copy import Copy
from maxage.store.tokens import fresh_mark, fresh_token, mark_place, purged_token

_OVERHEAD = 200
"""Bytes that a value costs besides itself and its key: objects and table slots, rounded up."""
_PART = 50
"""Bytes that each part of an index of variants costs besides its characters."""
_HISTORY = b"embedded"
_CHECKED_SECONDS = 1.0
"""How long a token that a copy needs may go without being noticed as used."""

Slot = tuple[bytes | VariantIndex | Copy, float, int]
"""A value, until when it may be used, and what it takes."""


@final
class MemoryStore(TokenAuthority):
    """Keeps responses and tokens in this process; safe to use from several threads.

    It keeps the responses as objects, ready to be sent, and so is its own near cache (`Near`).

    Args:
        max_bytes: what all keys and values together may take.
        replica_lag: seconds for which nothing is stored in a group that was purged.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_bytes: int = 64 * 1024 * 1024,
        *,
        replica_lag: float = 0.0,
        clock: Clock = monotonic_clock,
    ) -> None:
        self._max_bytes = max_bytes
        self._replica_lag = replica_lag
        self._quarantined_until: dict[str, float] = {}
        """Until when nothing is to be stored in groups that were purged lately."""
        self._clock = clock
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, Slot] = OrderedDict()
        self._tokens: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._token_bytes = 0
        self._off = False
        self._state = object()
        """Another one whenever a token has changed or was lost."""

    @property
    def trusted(self) -> bool:
        """Whether it is in use: nothing can come between a process and its own memory."""
        return not self._off

    @property
    def shared(self) -> bool:
        """Never: each process has its own."""
        return False

    @property
    def authority(self) -> "MemoryStore":
        """This store itself."""
        return self

    @property
    def keeps_objects(self) -> bool:
        """Always: nothing leaves the process."""
        return True

    @property
    def near(self) -> "MemoryStore":
        """This store itself: what it keeps is in this process."""
        return self

    @property
    def exact(self) -> bool:
        """Never: nothing can come between a process and its own memory, so all is confirmed."""
        return False

    @property
    def used_bytes(self) -> int:
        """What keys, values and tokens take now."""
        return self._bytes

    async def open(self) -> None:
        """Do nothing: memory is always there."""

    async def close(self) -> None:
        """Do nothing: the values stay for whoever opens the store again in this process."""

    async def ping(self) -> bool:
        """Return True: memory is always there."""
        return True

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens; missing tokens are created."""
        return self.read_now(keys, groups)

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Keep the values, dropping the least recently used where there is no room."""
        return self.write_now(values, keep_for=keep_for, tokens=tokens)

    async def write_all(self, writings: Sequence[StoreWrite]) -> bool:
        """Keep the values of each."""
        return self.write_all_now(writings)

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value unless one lies there; return what lies there now."""
        return self.claim_now(key, value, keep_for=keep_for)

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; like any store, say True also where there was none."""
        self.delete_now(keys)
        return True

    def mutating(self) -> "_Mutating":
        """Enclose a request that may change something; its purge cannot fail."""
        return _Mutating(self)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Give each group a fresh token."""
        return self.renew_now(groups)

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Give each group a fresh token, and return those that it had as well."""
        with self._lock:
            return [self._tokens.get(group) for group in groups], self._renewed(groups)

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

    def find(self, key: bytes) -> Copy | None:
        """Return the response under a key, if all its tokens are the current ones."""
        with self._lock:
            found = self._values.get(key)
            if found is None or not isinstance(found[0], Copy):
                return None
            copy, now = found[0], self._clock()
            if found[1] <= now or self._off:
                return None
            if copy.checked is not self._state or copy.checked_until <= now:
                if not self._current(copy.entry):
                    return None
                copy.checked, copy.checked_until = self._state, now + _CHECKED_SECONDS
            self._values.move_to_end(key)
            return copy

    async def confirm(self) -> bool:
        """Return True: a purge is in effect as soon as it is made."""
        return True

    def begin(self) -> int:
        """Return 0: `keep` does nothing."""
        return 0

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        """Do nothing: what a lookup brought is here already."""

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove the values."""
        self.delete_now(keys)

    # without awaiting

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Do what `read` does, without awaiting."""
        if self._off:
            raise StoreUnavailableError("the embedded store is switched off")
        with self._lock:
            return StoreReply(
                [self._value(key) for key in keys], [self._token(group) for group in groups]
            )

    def write_now(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Do what `write` does, without awaiting. Tokens live as long as there is room for them."""
        del tokens
        if self._off:
            return False
        with self._lock:
            # Lists, since all() and any() alone would stop at the first answer.
            return all([self._put(key, value, keep_for) for key, value in values])  # noqa: C419

    def write_all_now(self, writings: Sequence[StoreWrite]) -> bool:
        """Do what `write_all` does, without awaiting."""
        kept = True
        for values, keep_for, tokens, ended in writings:
            kept &= self.write_now(values, keep_for=keep_for, tokens=tokens)
            if ended is not None:
                self.write_now([(ended, CLAIM_ENDED)], keep_for=CLAIM_ENDED_SECONDS, tokens={})
        return kept

    def claim_now(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Do what `claim` does, without awaiting."""
        with self._lock:
            if self._value(key) is None and not self._off:
                self._put(key, value, keep_for)
            lies = self._value(key)
            return lies if isinstance(lies, bytes) else None

    def delete_now(self, keys: Iterable[bytes]) -> bool:
        """Do what `delete` does, without awaiting."""
        with self._lock:
            return any([self._drop(key) for key in keys])  # noqa: C419 - all of them

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Do what `renew` does, without awaiting."""
        with self._lock:
            return self._renewed(groups)

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Do what `soften` does, without awaiting."""
        with self._lock:
            for group in groups:
                token, quarantined = self._token(group), self._quarantined_until.get(group)
                self._forget_token(group)
                self._keep_token(group, token[: mark_place(_HISTORY)] + fresh_mark())
                if quarantined is not None:
                    self._quarantined_until[group] = quarantined
        return True

    def switch_off(self) -> None:
        """Give up for good: several processes have such a store, and none can purge another's."""
        self._off = True
        self.clear()

    def clear(self) -> None:
        """Forget everything, tokens included."""
        with self._lock:
            self._state = object()
            self._values.clear()
            self._tokens.clear()
            self._quarantined_until.clear()
            self._bytes = self._token_bytes = 0

    def _value(self, key: bytes) -> Value | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, ends, _ = found
        if ends <= self._clock():
            self._drop(key)
            return None
        self._values.move_to_end(key)
        return value.entry if isinstance(value, Copy) else value

    def _current(self, entry: Entry) -> bool:
        for group, token in entry.tokens:
            if self._tokens.get(group) != token:
                return False
            self._tokens.move_to_end(group)
        return True

    def _put(self, key: bytes, value: Value, keep_for: float) -> bool:
        self._drop(key)
        ends = self._clock() + keep_for
        kept = Copy(value, ends=ends) if isinstance(value, Entry) else value
        cost = len(key) + _OVERHEAD + _size(kept)
        if cost > self._max_bytes or keep_for <= 0:
            return False
        self._values[key] = (kept, ends, cost)
        self._bytes += cost
        self._make_room()
        return key in self._values

    def _renewed(self, groups: Sequence[str]) -> list[bytes | None]:
        return [self._purged_token(group) for group in groups]

    def _purged_token(self, group: str) -> bytes:
        token, before = purged_token(_HISTORY, self._replica_lag), self._tokens.get(group)
        if before is None or len(before) != len(token):
            self._forget_token(group)
            self._keep_token(group, token)
        else:
            # It takes the same room.
            self._state = object()
            self._tokens[group] = token
            self._tokens.move_to_end(group)
        if self._replica_lag:
            self._quarantined_until[group] = self._clock() + self._replica_lag
        return token

    def _forget_token(self, group: str) -> None:
        token = self._tokens.pop(group, None)
        self._quarantined_until.pop(group, None)
        if token is not None:
            cost = len(group) + len(token) + _OVERHEAD
            self._state = object()
            self._bytes -= cost
            self._token_bytes -= cost

    def _token(self, group: str) -> bytes:
        token = self._tokens.get(group)
        if (
            token is not None
            and self._quarantined_until
            and self._quarantined_until.get(group, inf) <= self._clock()
        ):
            self._forget_token(group)
            token = None
        if token is not None:
            self._tokens.move_to_end(group)
            return token
        return self._keep_token(group, fresh_token(_HISTORY))

    def _keep_token(self, group: str, token: bytes) -> bytes:
        self._tokens[group] = token
        cost = len(group) + len(token) + _OVERHEAD
        self._bytes += cost
        self._token_bytes += cost
        self._make_room()
        return token

    def _drop(self, key: bytes) -> bool:
        found = self._values.pop(key, None)
        if found is None:
            return False
        self._release(found)
        return True

    def _release(self, slot: Slot) -> None:
        self._bytes -= slot[2]
        if isinstance(slot[0], Copy):
            slot[0].kept = False
            slot[0].prepared = {}

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes and self._token_bytes > self._max_bytes // 2:
            # Tokens of paths that nothing is stored for must not starve the values.
            self._forget_token(next(iter(self._tokens)))
        while self._bytes > self._max_bytes and self._values:
            self._release(self._values.popitem(last=False)[1])
        while self._bytes > self._max_bytes and len(self._tokens) > 1:
            # Losing a token costs a miss, never a wrong answer.
            self._forget_token(next(iter(self._tokens)))


@final
class _Mutating:
    """Encloses one request that may change something."""

    __slots__ = ("_store",)

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def __aenter__(self) -> bool:
        return self._store.trusted

    async def __aexit__(self, *_: object) -> None:
        pass


def _size(value: bytes | VariantIndex | Copy) -> int:
    """Return the bytes that a value takes in memory."""
    if isinstance(value, Copy):
        return value.size
    if isinstance(value, VariantIndex):
        return sum(len(part) + _PART for part in (*value.names, *value.variants))
    return len(value)
