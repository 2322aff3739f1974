"""The purges of one middleware.

A purge writes a new token after it was requested and before its caller continues. One write serves
every purge that was requested before it was sent: the purges of one turn of the event loop share
one round trip, in which each group is purged once.
"""

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, final

from maxage.background import Background
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.purge_turn import PurgeTurn
from maxage.observe.counters import Tally
from maxage.observe.words import PurgeCause
from maxage.redis_store.redis_store import RedisStore
from maxage.store.base import Store
from maxage.store.memory import MemoryStore
from maxage.store.seal import SealedValue

_REMEMBERED: Final = 4096
"""Groups whose last own token is remembered."""
_NEVER: Final = (b"", 0)

KnownTokens = dict[str, bytes | None]
"""The token of each group as one request knows it; None: another request may have purged it."""


@final
class Purger:
    """Makes the purges of one middleware; a purge goes on when its caller is cancelled.

    Args:
        store: keeps the tokens.
        background: runs each purge to its end.
        tally: counts the purges.
    """

    def __init__(self, store: Store, background: Background, tally: Tally) -> None:
        self._store: Final = store
        self._embedded: Final = store if isinstance(store, MemoryStore) else None
        self._redis: Final = store if isinstance(store, RedisStore) else None
        self._background: Final = background
        self._tally: Final = tally
        self._turn: PurgeTurn | None = None
        """The purges that are not sent yet. Two event loops that run at once may replace each
        other's; that makes their turns shorter and has no other effect."""
        self.serial = 0
        """Changes with each turn of purges."""
        self._renewed: dict[str, tuple[bytes | None, int]] = {}
        """The last tokens that were written, and the serial after that; None: not confirmed."""

    def purge(
        self, groups: Collection[str], known: KnownTokens | None = None
    ) -> "asyncio.Future[bool]":
        """Purge the groups; return a future of whether the store confirmed it.

        Args:
            groups: the names of the groups.
            known: tokens that the caller has read. The token of each purged group becomes the one
                that this purge wrote, or None if another purge came between.
        """
        if not groups:
            return _resolved(confirmed=True)
        if known is not None:
            return self._shielded(groups, self._swap(groups, known))
        if self._embedded is not None:
            # The embedded store answers at once: there is no round trip to share.
            tokens = self._embedded.renew_now(tuple(groups))
            return _resolved(confirmed=self._count(confirmed=None not in tokens))
        return self._purge_with_turn(groups)

    def _shielded(
        self, groups: Collection[str], work: Coroutine[Any, Any, bool]
    ) -> "asyncio.Future[bool]":
        """Run a purge to its end, even if its caller is cancelled."""
        task = self._background.spawn(work)
        task.add_done_callback(partial(self._owe_if_cancelled, groups))
        return asyncio.shield(task)

    def _owe_if_cancelled(self, groups: Collection[str], task: "asyncio.Task[Any]") -> None:
        """Owe a purge whose task was cancelled, perhaps before its first step.

        The cache was closed, or the event loop ends.
        """
        if task.cancelled():
            self._store.authority.owe(groups)

    def _count(self, *, confirmed: bool) -> bool:
        return self._tally.count_purge(PurgeCause.WRITE, confirmed=confirmed)

    # shared round trips

    def _purge_with_turn(self, groups: Collection[str]) -> "asyncio.Future[bool]":
        loop, turn = asyncio.get_running_loop(), self._turn
        if turn is None or turn.loop is not loop or turn.ended.cancelled():
            turn = self._turn = PurgeTurn(loop)
            self._background.await_at_close(turn.ended)
            turn.ended.add_done_callback(partial(self._ended, turn))
            loop.call_soon(self._send, turn)
        future: asyncio.Future[bool] = loop.create_future()
        turn.waiting[future] = groups
        return future

    def purge_again(
        self,
        noted: Dependencies,
        groups: Collection[str],
        known: KnownTokens | None = None,
        first: "asyncio.Future[bool] | None" = None,
    ) -> "asyncio.Future[bool]":
        """Purge what a request made stale, now that its application call has returned.

        Args:
            noted: the notes of the request. Its soft purges are made again, and the responses that
                were built from its typed values are purged.
            groups: the groups to purge.
            known: see `purge`.
            first: the request's purge before its answer. If it is not sent yet, one write is both.

        Returns:
            A future of whether the store confirmed all of it.
        """
        turn = self._turn
        if first is None or turn is None or not turn.serves_again(first, groups):
            first = self.purge(groups, known)
        if not noted.typed_writes and not noted.softened:
            return first
        values = {g: value for g, value in noted.typed_writes.items() if g not in groups}
        softened = tuple(noted.softened)
        work = self._purge_noted(first, values, softened)
        return self._shielded((*values, *softened), work)

    def _send(self, turn: PurgeTurn) -> None:
        """Purge what the turn has gathered."""
        if self._turn is turn:
            # Purges that are requested from now on belong to another turn.
            self._turn = None
        if turn.ended.done():
            return
        groups = turn.groups()
        try:
            renewal = None if self._redis is None else self._redis.renew_at_once(groups)
            renewal = renewal or self._background.spawn(self._store.renew(groups))
        except Exception as error:  # noqa: BLE001 - raised where the purges are awaited
            self._store.authority.owe(groups)
            turn.fail(error)
        else:
            renewal.add_done_callback(partial(self._answered, turn, groups))

    def _answered(
        self,
        turn: PurgeTurn,
        groups: Sequence[str],
        renewal: "asyncio.Future[Sequence[bytes | None]]",
    ) -> None:
        """Tell each caller of the turn whether its purge is confirmed."""
        if renewal.cancelled():
            self._abandon(turn)
        elif (error := renewal.exception()) is not None:
            turn.fail(error)
        else:
            tokens = renewal.result()
            self._remember(groups, tokens)
            lost = frozenset[str]()
            if not all(tokens):
                lost = frozenset(g for g, token in zip(groups, tokens, strict=True) if not token)
            self._confirm(turn, lost)

    def _remember(self, groups: Sequence[str], tokens: Sequence[bytes | None]) -> None:
        self.serial += 1
        if len(self._renewed) >= _REMEMBERED:
            self._renewed.clear()
        self._renewed.update(zip(groups, zip(tokens, repeat(self.serial)), strict=True))

    def _confirm(self, turn: PurgeTurn, lost: frozenset[str]) -> None:
        """Tell each caller whether none of its groups is among those that are not confirmed."""
        for future, groups in turn.waiting.items():
            if not future.done():
                future.set_result(not lost or lost.isdisjoint(groups))
        purges = (*turn.waiting.values(), *turn.again)
        unconfirmed = sum(not lost.isdisjoint(groups) for groups in purges) if lost else 0
        self._tally.count_purges(PurgeCause.WRITE, len(purges), unconfirmed=unconfirmed)
        turn.end()

    def _ended(self, turn: PurgeTurn, ended: "asyncio.Future[None]") -> None:
        if ended.cancelled():
            # The cache is closed.
            self._abandon(turn)

    def _abandon(self, turn: PurgeTurn) -> None:
        """Owe the purges of a turn that was cancelled, perhaps before it was sent."""
        self._store.authority.owe(turn.groups())
        for future in turn.waiting:
            future.cancel()
        turn.end()

    def renewed(self, group: str, since: int) -> bytes | None:
        """Return the token that this process has written after a serial; None: it wrote none."""
        token, serial = self._renewed.get(group, _NEVER)
        return token if serial > since else None

    # purges that tell which tokens they replaced

    async def _swap(self, groups: Collection[str], known: KnownTokens) -> bool:
        """Purge the groups, and update the known tokens among them."""
        unknown = self.purge([group for group in groups if group not in known])
        swapped = tuple(group for group in groups if group in known)
        replaced, written = await self._store.swap(swapped)
        for group, before, after in zip(swapped, replaced, written, strict=True):
            known[group] = after if known[group] == before else None
        confirmed = self._count(confirmed=None not in written)
        return await unknown and confirmed

    async def _purge_noted(
        self,
        purged: "asyncio.Future[bool]",
        values: Mapping[str, SealedValue | None],
        softened: Sequence[str],
    ) -> bool:
        confirmed, again = await purged, True
        if softened:
            again = await self._store.soften(softened)
        if values:
            again &= await self._purge_around(values)
        return self._count(confirmed=again) and confirmed

    async def _purge_around(self, values: Mapping[str, SealedValue | None]) -> bool:
        """Purge what was built from typed values that the request set, but not the values.

        A response that was made between the `set` and a later commit shows the old state. A value
        that no other request has purged since the `set` is sealed under the new token.
        """
        replaced, written = await self._store.swap(tuple(values))
        for (group, value), before, after in zip(values.items(), replaced, written, strict=True):
            if value is not None and after is not None and before == value.token:
                await self._store.write(
                    [(value.key, value.seal(after))],
                    keep_for=value.keep_for,
                    tokens={group: after},
                )
        return None not in written


def _resolved(*, confirmed: bool) -> "asyncio.Future[bool]":
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    future.set_result(confirmed)
    return future
