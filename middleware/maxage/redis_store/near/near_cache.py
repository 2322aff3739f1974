"""The near cache: responses ready to be sent, in this process, while their tokens are watched.

It keeps nothing from whoever purges: a copy is dropped by the message about its token, or by this
process itself before its own purge is sent. It is not used while nobody listens, while the server
does not answer, while another server took over, or while a purge is owed.
"""

from collections.abc import Iterable
from typing import Final, Literal, final

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.near.listeners import Listeners
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.shared_state import RedisState
from maxage.store.entry import Entry
from maxage.store.near_copy import Copy
from maxage.store.tokens import token_key

SILENCE: Final = 0.1
"""Seconds by which a `prompt` hit may lag: a question sent no longer ago was answered."""

_LOOK_INTERVAL: Final = 0.01
"""Seconds for which it is remembered that copies may be used. A purge that comes to be owed ends it
at once, and a lost connection leaves no copy."""


@final
class NearCache:
    """The near cache in front of a Redis server, or of the masters of a cluster.

    Args:
        upstream: the store whose purges are watched.
        mode: `exact` or `prompt`, as in `CACHE_NEAR`.
        max_bytes: what the copies may take, as in `CACHE_NEAR_BYTES`.
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
        self.copies: Final = Copies(max_bytes)
        self.listeners: Final = Listeners(
            redis_state.topology, redis_state.namespace, self.copies, clock=clock
        )
        self._redis_state: Final = redis_state
        self._confirm_within: Final = confirm_within
        self._clock: Final = clock
        self._good_until = float("-inf")
        """Until when it need not be looked again whether copies may be used."""
        redis_state.watch_purges(self)

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self.copies)

    def find(self, key: bytes) -> Copy | None:
        """Return the copy kept under a key, if copies may be used now and it has not ended."""
        now = self._clock()
        if now >= self._good_until and not self._usable(now):
            return None
        copy = self.copies.find(key)
        return copy if copy is not None and copy.ends > now else None

    def _usable(self, now: float) -> bool:
        """Look at all on which it depends, and remember for a moment that copies may be used."""
        self._good_until = float("-inf")
        listeners, redis_state = self.listeners, self._redis_state
        if not listeners.hear() or not redis_state.trusted:
            return False
        until = min(now + _LOOK_INTERVAL, redis_state.lease_manager.lease.trusted_until)
        if not self.exact:
            until = min(until, listeners.heard_at() + SILENCE)
        self._good_until = until
        return now < until

    async def confirm(self) -> bool:
        """Return whether all that was purged before this call has been dropped.

        The questions are sent after this call began, once for all who ask in this turn of the loop.
        """
        if not self.exact:
            return True
        answers = self.listeners.ask(self._patience)
        for answer in answers:
            if answer is None or not await answer:
                return False
        now = self._clock()
        return bool(answers) and (now < self._good_until or self._usable(now))

    def _patience(self) -> float:
        return self._redis_state.patience(self._confirm_within)

    def begin(self) -> int:
        """Return what `keep` takes; to be called before the first byte of a lookup is sent."""
        return self.copies.serial

    def keep(self, entry: Entry, *, since: int, ends: float) -> None:
        """Keep what a lookup brought.

        From the first byte of the lookup until now there must have been no message about its
        tokens, no loss or begin of listening and no purge of our own; any of them could have been
        overtaken by the answer.
        """
        if self._usable(self._clock()):
            names = (token_key(self._redis_state.namespace, group) for group, _ in entry.tokens)
            self.copies.put(Copy(entry, ends=ends, tokens=tuple(names)), since=since)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop copies in whose place something newer is stored, or nothing."""
        self.copies.drop(keys)

    def purging(self, groups: Iterable[str]) -> None:
        """Drop what this process is about to purge; may be called from any thread."""
        self._good_until = float("-inf")
        self.copies.purge(token_key(self._redis_state.namespace, group) for group in groups)
