"""Copies of stored responses in this process, bounded in bytes, evicted by S3-FIFO.

S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP
2023) has a small queue, a main queue, and the names of copies that left the small queue lately. A
copy that is used once at most passes through the small queue only, however long a scan of one-time
keys lasts. A hit only counts: it needs no lock and moves nothing.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, final

from maxage.observe.counters import PROCESS
from maxage.observe.words import Kept
from maxage.store.fork_safe import fork_safe_lock
from maxage.store.near_copy import Copy

_SMALL_PART: Final = 10
"""The small queue may take one part in so many of all bytes."""
_LARGEST_PART: Final = 4
"""A copy may take at most one part in so many of all bytes."""
_MOST_USES: Final = 3
"""Uses that are counted; the main queue spares a copy as often."""
_GHOST_BYTES: Final = 160
"""Bytes of the name of an evicted copy: an integer and its place in the queue."""
_SET_BYTES: Final = 320
"""Bytes of a token that copies depend on: its key, a set, and the place of both."""
_MARKS: Final = 512
"""Changed tokens that are remembered."""


@final
class Copies:
    """Keeps copies, finds them by key, and drops those whose tokens changed.

    It may be changed from several threads. `find` takes no lock.

    Args:
        max_bytes: the size limit of all copies together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes
        self._lock = fork_safe_lock()
        self._by_key: dict[bytes, Copy] = {}
        self._by_token: dict[bytes, set[bytes]] = {}
        self._small: OrderedDict[bytes, Copy] = OrderedDict()
        self._main: OrderedDict[bytes, Copy] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._bytes = 0
        self._small_bytes = 0
        self._serial = 0
        self._changed: dict[bytes, int] = {}
        self._all_changed = 0

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def used_bytes(self) -> int:
        """The bytes that the copies take now."""
        return self._bytes + len(self._ghosts) * _GHOST_BYTES

    @property
    def serial(self) -> int:
        """The number of the last change. A lookup notes it when it begins, for `put`."""
        return self._serial

    def find(self, key: bytes) -> Copy | None:
        """Return the copy of a key, and count its use."""
        copy = self._by_key.get(key)
        if copy is not None and copy.uses < _MOST_USES:
            copy.uses += 1
        return copy

    def put(self, copy: Copy, *, since: int) -> bool:
        """Keep a copy, unless its key or one of its tokens changed since that serial."""
        key = copy.entry.key
        if copy.size > self._max_bytes // _LARGEST_PART:
            return False
        with self._lock:
            changed = self._changed
            if self._all_changed > since or any(
                changed.get(name, 0) > since for name in (key, *copy.tokens)
            ):
                return False
            self._remove(key)
            self._insert(key, copy)
            self._make_room()
            return copy.kept

    def purge(self, tokens: Iterable[bytes]) -> None:
        """Drop every copy that depends on one of these tokens, and void lookups under way."""
        with self._lock:
            self._serial += 1
            for token in tokens:
                self._mark(token)
                for key in tuple(self._by_token.get(token, ())):
                    self._remove(key)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Drop copies whose entries were replaced or removed."""
        with self._lock:
            self._serial += 1
            for key in keys:
                self._mark(key)
                self._remove(key)

    def clear(self) -> None:
        """Drop all copies, and void lookups under way."""
        with self._lock:
            self._serial += 1
            self._all_changed = self._serial
            self._changed.clear()
            for copy in self._by_key.values():
                copy.kept = False
            for table in (self._by_key, self._by_token, self._small, self._main, self._ghosts):
                table.clear()
            self._bytes = self._small_bytes = 0

    def _mark(self, name: bytes) -> None:
        if len(self._changed) >= _MARKS:
            # Older changes are forgotten, so all lookups under way are voided.
            self._changed.clear()
            self._all_changed = self._serial
        self._changed[name] = self._serial

    def _insert(self, key: bytes, copy: Copy) -> None:
        self._by_key[key] = copy
        for token in copy.tokens:
            keys = self._by_token.get(token)
            if keys is None:
                keys = self._by_token[token] = set()
                self._bytes += _SET_BYTES
            keys.add(key)
        self._bytes += copy.size
        ghost = hash(key)
        if ghost in self._ghosts:
            # It was evicted too early.
            del self._ghosts[ghost]
            copy.in_main = True
            self._main[key] = copy
        else:
            self._small[key] = copy
            self._small_bytes += copy.size

    def _remove(self, key: bytes) -> None:
        copy = self._by_key.pop(key, None)
        if copy is None:
            return
        copy.kept = False
        copy.prepared = {}
        for token in copy.tokens:
            keys = self._by_token.get(token)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._by_token[token]
                    self._bytes -= _SET_BYTES
        self._bytes -= copy.size
        if copy.in_main:
            del self._main[key]
        else:
            del self._small[key]
            self._small_bytes -= copy.size

    def _make_room(self) -> None:
        while self.used_bytes > self._max_bytes and self._by_key:
            if self._small_bytes > self._max_bytes // _SMALL_PART or not self._main:
                self._leave_small()
            else:
                self._leave_main()
            while len(self._ghosts) > len(self._by_key):
                self._ghosts.popitem(last=False)

    def _leave_small(self) -> None:
        key, copy = next(iter(self._small.items()))
        if copy.uses > 1:
            del self._small[key]
            self._small_bytes -= copy.size
            copy.in_main, copy.uses = True, 0
            self._main[key] = copy
        else:
            self._evict(key)
            self._ghosts[hash(key)] = None

    def _leave_main(self) -> None:
        key, copy = next(iter(self._main.items()))
        if copy.uses:
            copy.uses -= 1
            self._main.move_to_end(key)
        else:
            self._evict(key)

    def _evict(self, key: bytes) -> None:
        self._remove(key)
        PROCESS.evictions[Kept.NEAR] += 1
