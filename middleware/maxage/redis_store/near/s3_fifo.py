"""Copies of stored responses in this process, bounded in bytes, evicted by S3-FIFO.

S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP
2023) has a small queue, a main queue, and the names of copies that left the small queue lately. A
copy that is used once at most passes through the small queue only, however long a scan of one-time
keys lasts. A hit only counts: it needs no lock and moves nothing.

The queues hold keys. A key whose copy was dropped stays in its queue until its turn comes.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final, final

from maxage.observe.counters import PROCESS
from maxage.observe.words import Kept
from maxage.redis_store.near.compact_copy import CompactCopy
from maxage.redis_store.near.ghosts import Ghosts
from maxage.redis_store.near.kinds import Kinds
from maxage.store.entry import Entry
from maxage.store.fork_safe import fork_safe_lock
from maxage.store.prepared import MOST_FORMS, Form, Owner, PreparedResponse

_SMALL_PART: Final = 10
"""The small queue may take one part in so many of all bytes."""
_LARGEST_PART: Final = 4
"""A copy may take at most one part in so many of all bytes."""
_MOST_USES: Final = 3
"""Uses that are counted; the main queue spares a copy as often."""
_MARKS: Final = 512
"""Changed tokens that are remembered."""
_PREPARED: Final = 64
"""Copies that have prepared responses at the same time, in addition to one in `_PREPARED_PART`."""
_PREPARED_PART: Final = 64
_HEX_DIGITS: Final = 40
"""Of the digest in a key."""
_QUEUED_BYTES: Final = 90
"""Bytes of a key in a queue whose copy was dropped."""


@final
class Copies:
    """Keeps copies, finds them by key, and drops those whose tokens changed.

    It may be changed from several threads. `find` takes no lock.

    Args:
        max_bytes: the size limit of all copies together.
        token_key: returns the key of a group's token.
    """

    def __init__(self, max_bytes: int, token_key: Callable[[str], bytes]) -> None:
        self._max_bytes: Final = max_bytes
        self._lock = fork_safe_lock()
        self._by_key: dict[bytes, CompactCopy] = {}
        self._kinds: Final = Kinds(token_key)
        self._small: deque[bytes] = deque()
        self._main: deque[bytes] = deque()
        self._ghosts: Final = Ghosts()
        self._prepared: OrderedDict[CompactCopy, None] = OrderedDict()
        """The copies that have prepared responses, the latest last."""
        self._bytes = 0
        self._small_bytes = 0
        self._prepared_bytes = 0
        self.serial = 0
        """The number of the last change. A lookup notes it when it begins, for `put`."""
        self._changed: dict[bytes, int] = {}
        self._all_changed = 0

    def find(self, key: bytes) -> CompactCopy | None:
        """Return the copy of a key, and count its use."""
        copy = self._by_key.get(key) or self._by_key.get(short_key(key))
        if copy is None or not copy.kind.kept:
            return None
        if copy.uses < _MOST_USES:
            copy.uses += 1
        return copy

    def put(self, entry: Entry, *, ends: float, since: int) -> bool:
        """Keep a copy until `ends` (monotonic), unless it may be outdated.

        It may be if its key or one of its tokens changed since that serial.
        """
        if len(entry.stored.body) > self._max_bytes // _LARGEST_PART:
            return False
        key = short_key(entry.key)
        with self._lock:
            changed, names = self._changed, self._kinds.names(entry.tokens)
            if self._all_changed > since or any(
                changed.get(name, 0) > since for name in (key, *names)
            ):
                return False
            before = self._by_key.get(key)
            self._remove(key)
            copy = self._kinds.copy_of(entry, key, ends=ends)
            self._insert(key, copy, before)
            self._make_room()
            return copy.kept

    def _remove(self, key: bytes) -> None:
        copy = self._by_key.pop(key, None)
        if copy is None:
            return
        copy.is_current = False
        if copy in self._prepared:
            self._forget_prepared(copy)
        self._kinds.leave(copy, key)
        self._bytes -= copy.size
        if not copy.in_main:
            self._small_bytes -= copy.size

    def _forget_prepared(self, copy: CompactCopy) -> None:
        copy.prepared = None
        del self._prepared[copy]
        self._prepared_bytes -= copy.prepared_size

    def _insert(self, key: bytes, copy: CompactCopy, before: CompactCopy | None) -> None:
        self._by_key[key] = copy
        self._bytes += copy.size
        # A key that lately left was evicted too early.
        copy.in_main = self._ghosts.take(key) if before is None else before.in_main
        if not copy.in_main:
            self._small_bytes += copy.size
        if before is None:
            (self._main if copy.in_main else self._small).append(key)
        for queue in (self._small, self._main):
            if len(queue) > 2 * len(self._by_key) + _MARKS:
                self._compact(queue)

    def _compact(self, queue: deque[bytes]) -> None:
        """Remove keys from a queue whose copies were dropped."""
        living = dict.fromkeys(key for key in queue if self._is_queued(key, queue))
        queue.clear()
        queue.extend(living)

    def _is_queued(self, key: bytes, queue: deque[bytes]) -> bool:
        copy = self._by_key.get(key)
        return copy is not None and copy.in_main == (queue is self._main)

    def _make_room(self) -> None:
        while self.used_bytes > self._max_bytes and self._by_key:
            if self._small_bytes > self._max_bytes // _SMALL_PART or not self._main:
                self._leave_small()
            else:
                self._leave_main()

    @property
    def used_bytes(self) -> int:
        """The bytes that the copies take now."""
        queued = len(self._small) + len(self._main) - len(self._by_key)
        return (
            self._bytes
            + self._kinds.used_bytes
            + self._ghosts.used_bytes
            + queued * _QUEUED_BYTES
            + self._prepared_bytes
        )

    def _leave_small(self) -> None:
        key = self._small.popleft()
        copy = self._by_key.get(key)
        if copy is None or copy.in_main:
            return
        if copy.uses > 1 and copy.kept:
            self._small_bytes -= copy.size
            copy.in_main, copy.uses = True, 0
            self._main.append(key)
        else:
            self._evict(key)
            self._ghosts.add(key, len(self._by_key))

    def _leave_main(self) -> None:
        key = self._main.popleft()
        copy = self._by_key.get(key)
        if copy is None or not copy.in_main:
            return
        if copy.uses and copy.kept:
            copy.uses -= 1
            self._main.append(key)
        else:
            self._evict(key)

    def _evict(self, key: bytes) -> None:
        self._remove(key)
        PROCESS.evictions[Kept.NEAR] += 1

    def introduce(self, key: bytes, owner: Owner) -> bytes | None:
        """Note what may ask for the copy of a key; return a shorter key of it, if there is one."""
        key = short_key(key)
        copy = self._by_key.get(key)
        if copy is None:
            return None
        copy.owner = owner
        return key

    def __len__(self) -> int:
        """Return the number of copies that may be used."""
        return len(self._by_key) - self._kinds.outdated

    def keep_prepared(self, copy: CompactCopy, form: Form, prepared: PreparedResponse) -> None:
        """Keep a response that was prepared from a copy, while few others are prepared."""
        with self._lock:
            if not copy.kept or copy.prepared_size > self._max_bytes // _LARGEST_PART:
                return
            if copy.prepared is None or len(copy.prepared) >= MOST_FORMS:
                copy.prepared = {}
            copy.prepared[form] = prepared
            if copy not in self._prepared:
                self._prepared[copy] = None
                self._prepared_bytes += copy.prepared_size
            if len(self._prepared) > _PREPARED + len(self._by_key) // _PREPARED_PART:
                self._forget_prepared(next(iter(self._prepared)))

    def purge(self, tokens: Iterable[bytes]) -> None:
        """Drop every copy that depends on one of these tokens, and void lookups under way."""
        with self._lock:
            self.serial += 1
            for token in tokens:
                self._mark(token)
                for key in self._kinds.purge(token):
                    self._remove(key)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Drop copies whose entries were replaced or removed."""
        with self._lock:
            self.serial += 1
            for key in map(short_key, keys):
                self._mark(key)
                self._remove(key)

    def clear(self) -> None:
        """Drop all copies, and void lookups under way."""
        with self._lock:
            self.serial += 1
            self._all_changed = self.serial
            self._changed.clear()
            for copy in self._by_key.values():
                copy.is_current, copy.prepared = False, None
            for table in (self._by_key, self._small, self._main, self._prepared):
                table.clear()
            self._kinds.clear()
            self._ghosts.clear()
            self._bytes = self._small_bytes = self._prepared_bytes = 0

    def _mark(self, name: bytes) -> None:
        if len(self._changed) >= _MARKS:
            # Older changes are forgotten, so all lookups under way are voided.
            self._changed.clear()
            self._all_changed = self.serial
        self._changed[name] = self.serial


def short_key(key: bytes) -> bytes:
    """Return the digests at the end of a key, which alone tell keys of one namespace apart.

    A digest is the short key of itself, and so is any other key that ends with none.
    """
    if len(key) < _HEX_DIGITS:
        return key
    try:
        if key[-35:-32] == b":v:":
            return bytes.fromhex((key[-75:-35] + key[-32:]).decode())
        return bytes.fromhex(key[-_HEX_DIGITS:].decode())
    except ValueError:
        return key
