"""The embedded store: one process, bounded in bytes, least recently used out first."""

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import final

from maxage.clock import Clock, monotonic_clock
from maxage.errors import StoreUnavailableError
from maxage.store import Reading
from maxage.store.tokens import fresh_token

_OVERHEAD = 200
"""Bytes that a value costs besides itself and its key: objects and table slots, rounded up."""
_HISTORY = b"embedded"


@final
class MemoryStore:
    """Keeps responses and tokens in this process; safe to use from several threads.

    Args:
        max_bytes: what all keys and values together may take.
        clock: monotonic seconds.
    """

    def __init__(
        self, max_bytes: int = 64 * 1024 * 1024, *, clock: Clock = monotonic_clock
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._tokens: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._token_bytes = 0
        self._off = False

    @property
    def trusted(self) -> bool:
        """Whether it is in use: nothing can come between a process and its own memory."""
        return not self._off

    @property
    def shared(self) -> bool:
        """Never: each process has its own."""
        return False

    @property
    def authority(self) -> object:
        """This store itself."""
        return self

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

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Return values and tokens; missing tokens are created."""
        return self.read_now(keys, groups)

    async def write(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        groups: Iterable[str] = (),
    ) -> bool:
        """Keep the values, dropping the least recently used where there is no room."""
        return self.write_now(values, keep_for=keep_for, groups=groups)

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; like any store, say True also where there was none."""
        self.delete_now(keys)
        return True

    @asynccontextmanager
    async def mutating(self) -> AsyncGenerator[bool]:
        """Enclose a request that may change something; its purge cannot fail."""
        yield self.trusted

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Give each group a fresh token."""
        return self.renew_now(groups)

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Do what `read` does, without awaiting."""
        if self._off:
            raise StoreUnavailableError("the embedded store is switched off")
        with self._lock:
            return Reading(
                [self._value(key) for key in keys], [self._token(group) for group in groups]
            )

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        groups: Iterable[str] = (),
    ) -> bool:
        """Do what `write` does, without awaiting. Tokens live as long as there is room for them."""
        del groups
        if self._off:
            return False
        with self._lock:
            # Lists, since all() and any() alone would stop at the first answer.
            return all([self._put(key, value, keep_for) for key, value in values])  # noqa: C419

    def delete_now(self, keys: Iterable[bytes]) -> bool:
        """Do what `delete` does, without awaiting."""
        with self._lock:
            return any([self._drop(key) for key in keys])  # noqa: C419 - all of them

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Do what `renew` does, without awaiting."""
        with self._lock:
            for group in groups:
                self._forget_token(group)
            return [self._token(group) for group in groups]

    def switch_off(self) -> None:
        """Give up for good: several processes have such a store, and none can purge another's."""
        self._off = True
        self.clear()

    def clear(self) -> None:
        """Forget everything, tokens included."""
        with self._lock:
            self._values.clear()
            self._tokens.clear()
            self._bytes = self._token_bytes = 0

    def _value(self, key: bytes) -> bytes | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, ends = found
        if ends <= self._clock():
            self._drop(key)
            return None
        self._values.move_to_end(key)
        return value

    def _put(self, key: bytes, value: bytes, keep_for: float) -> bool:
        self._drop(key)
        cost = len(key) + len(value) + _OVERHEAD
        if cost > self._max_bytes or keep_for <= 0:
            return False
        self._values[key] = (value, self._clock() + keep_for)
        self._bytes += cost
        self._make_room()
        return key in self._values

    def _forget_token(self, group: str) -> None:
        token = self._tokens.pop(group, None)
        if token is not None:
            cost = len(group) + len(token) + _OVERHEAD
            self._bytes -= cost
            self._token_bytes -= cost

    def _token(self, group: str) -> bytes:
        token = self._tokens.get(group)
        if token is None:
            token = self._tokens[group] = fresh_token(_HISTORY)
            cost = len(group) + len(token) + _OVERHEAD
            self._bytes += cost
            self._token_bytes += cost
            self._make_room()
        else:
            self._tokens.move_to_end(group)
        return token

    def _drop(self, key: bytes) -> bool:
        found = self._values.pop(key, None)
        if found is None:
            return False
        self._bytes -= len(key) + len(found[0]) + _OVERHEAD
        return True

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes and self._token_bytes > self._max_bytes // 2:
            # Tokens of paths that nothing is stored for must not starve the values.
            self._forget_token(next(iter(self._tokens)))
        while self._bytes > self._max_bytes and self._values:
            key, (value, _) = self._values.popitem(last=False)
            self._bytes -= len(key) + len(value) + _OVERHEAD
        while self._bytes > self._max_bytes and len(self._tokens) > 1:
            # Losing a token costs a miss, never a wrong answer.
            self._forget_token(next(iter(self._tokens)))
