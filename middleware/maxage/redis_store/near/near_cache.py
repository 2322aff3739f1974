"""The near cache: copies of stored responses in this process, while their tokens are watched.

No purge is missed: a message about its token drops a copy, and this process drops copies itself
before it sends a purge. The near cache is not used without a listening connection, while the server
does not answer, after another server took over, or while a purge is owed.
"""

from collections.abc import Iterable
from functools import partial
from math import floor, log2
from typing import Final, Literal, final

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.near.compact_copy import CompactCopy
from maxage.redis_store.near.listeners import Listeners
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.shared_state import RedisState
from maxage.store.entry import Entry
from maxage.store.near_copy import Copy
from maxage.store.prepared import Form, Owner, PreparedResponse
from maxage.store.tokens import token_key

SILENCE: Final = 0.1
"""Seconds by which a `prompt` hit may lag: an answered PING is no older."""

_LOOK_INTERVAL: Final = 0.01
"""Seconds between two checks of whether copies may be used. An owed purge forces a check at once,
and a lost connection leaves no copy."""

_KNOWN: Final = 128
"""Requests that are remembered, in addition to one for so many copies."""
_COPIES_OF_A_KNOWN: Final = 32
_PARTS_OF_A_LIFE: Final = 64
"""A copy ends too early by at most one part in so many, so that many end together."""
_SHORTEST_PART: Final = 2.0**-7
_MOST_ENDS: Final = 64


@final
class NearCache:
    """The near cache in front of a Redis server, or of the masters of a cluster.

    Args:
        redis_state: the store whose purges are watched.
        mode: `exact` or `prompt`, as in `CACHE_NEAR`.
        max_bytes: the size limit of all copies, as in `CACHE_NEAR_BYTES`.
        confirm_within: seconds that an `exact` hit waits for the server.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        redis_state: RedisState,
        *,
        mode: Literal["exact", "prompt"],
        max_bytes: int,
        confirm_within: float,
        clock: Clock = monotonic_clock,
    ) -> None:
        self.exact: Final = mode == "exact"
        self.copies: Final = Copies(max_bytes, partial(token_key, redis_state.namespace))
        self.listeners: Final = Listeners(
            redis_state.topology, redis_state.namespace, self.copies, clock=clock
        )
        self._redis_state: Final = redis_state
        self._confirm_within: Final = confirm_within
        self._clock: Final = clock
        self._good_until = float("-inf")
        """The end (monotonic) of the last check's result."""
        self._ends: Final[dict[float, float]] = {}
        redis_state.watch_purges(self)

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self.copies)

    def find(self, key: bytes) -> CompactCopy | None:
        """Return the copy of a key, if copies may be used now and it has not ended."""
        now = self._clock()
        if now >= self._good_until and not self._usable(now):
            return None
        copy = self.copies.find(key)
        return copy if copy is not None and copy.ends > now else None

    def _usable(self, now: float) -> bool:
        """Check whether copies may be used, and remember a positive result for a moment."""
        self._good_until = float("-inf")
        listeners, redis_state = self.listeners, self._redis_state
        if not listeners.hear() or not redis_state.trusted:
            return False
        until = min(now + _LOOK_INTERVAL, redis_state.lease_manager.lease.trusted_until)
        if not self.exact:
            until = min(until, listeners.heard_at() + SILENCE)
        self._good_until = until
        return now < until

    async def confirm(self, copy: Copy) -> bool:
        """Return whether a copy may answer: all that was purged before this call was dropped.

        The PINGs are sent after this call, once for all callers in this turn of the loop.
        """
        if not self.exact:
            return copy.kept
        answers = self.listeners.ask(self._patience)
        for answer in answers:
            if answer is None or not await answer:
                return False
        now = self._clock()
        return bool(answers) and copy.kept and (now < self._good_until or self._usable(now))

    def _patience(self) -> float:
        return self._redis_state.patience(self._confirm_within)

    def begin(self) -> int:
        """Return the serial for `keep`; call it before the first byte of a lookup is sent."""
        return self.copies.serial

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        """Keep a copy of a looked up entry until `ends` (monotonic), unless it may be outdated.

        It may be if since the first byte of the lookup a message about its tokens came, listening
        began or ended, or this process purged: the answer may have overtaken any of them.
        """
        now = self._clock()
        if self._usable(now):
            self.copies.put(entry, ends=self._shared(ends, now), since=since)

    def _shared(self, ends: float, now: float) -> float:
        """Return an end, rounded down, as one object for all copies that end then."""
        part = 2.0 ** floor(log2(max(_SHORTEST_PART, (ends - now) / _PARTS_OF_A_LIFE)))
        ends = floor(ends / part) * part
        if len(self._ends) >= _MOST_ENDS:
            self._ends.clear()
        return self._ends.setdefault(ends, ends)

    def introduce(self, key: bytes, owner: Owner) -> bytes | None:
        """Note what may ask for the copy of a key; return a shorter key of it, if there is one."""
        return self.copies.introduce(key, owner)

    @property
    def known_requests(self) -> int:
        """The number of requests that may be remembered for its copies: those most often asked."""
        return _KNOWN + len(self.copies) // _COPIES_OF_A_KNOWN

    def keep_prepared(self, copy: Copy, form: Form, prepared: PreparedResponse) -> None:
        """Keep a response that was prepared from a copy, while few others are prepared."""
        if isinstance(copy, CompactCopy):
            self.copies.keep_prepared(copy, form, prepared)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop copies whose entries were replaced or removed."""
        self.copies.drop(keys)

    def purging(self, groups: Iterable[str]) -> None:
        """Drop the copies that this process is about to purge; may be called from any thread."""
        self._good_until = float("-inf")
        self.copies.purge(token_key(self._redis_state.namespace, group) for group in groups)
