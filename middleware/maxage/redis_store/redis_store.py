"""The store on Redis or Valkey."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from math import ceil
from time import monotonic
from typing import Any, Final, cast, final

from maxage import settings_in_force
from maxage.errors import StoreUnavailableError
from maxage.redis_store.batching import CommandBatcher, LookupBatcher
from maxage.redis_store.leases.lease_manager import LOOK_TIMEOUT
from maxage.redis_store.leases.leased_write import LeasedWrite
from maxage.redis_store.near.near_cache import NearCache
from maxage.redis_store.sent_renewal import SentRenewal
from maxage.redis_store.servers.commands import (
    Claim,
    Claims,
    Command,
    Created,
    Lacking,
    Read,
)
from maxage.redis_store.servers.connections import Connections
from maxage.redis_store.servers.per_loop import PerLoop
from maxage.redis_store.shared_state import RedisState, redis_state_for
from maxage.redis_store.token_purge import P, Renewal, Softening
from maxage.store.base import StoreReply, StoreWrite, Value
from maxage.store.tokens import token_key
from maxage.store.wanted_claim import WantedClaim


@final
class _LoopSide:
    """The connections of one event loop, and the batches that each of its turns sends on them."""

    __slots__ = ("commands", "connections", "lookups")

    def __init__(self, connections: Connections, lookups: LookupBatcher) -> None:
        self.connections: Final = connections
        self.lookups: Final = lookups
        self.commands: Final = CommandBatcher(connections.run_written)


@final
class RedisStore:
    """Stores responses and tokens on Redis (6.2 upward) or Valkey (7.2 upward).

    Args:
        url: the server's URL, as in `REDIS_URL`.
        settings: namespace, budgets and limits; read from the environment by default.
    """

    def __init__(self, url: str, settings: "settings_in_force.CacheSettings | None" = None) -> None:
        self.shared: Final = True
        """Other processes see the same values."""
        self.keeps_objects: Final = False
        """Values are sent to the server."""
        self.url: Final = url
        self.settings: Final = settings or settings_in_force.read_settings()
        self._namespace: Final = self.settings.cache_namespace
        self._token_key: Final = partial(token_key, self._namespace)
        self._refuses: Final = self.settings.cache_on_lost_purge == "refuse"
        self.redis_state: Final[RedisState] = redis_state_for(
            url, self._namespace, self.settings.redis_credentials
        )
        self.authority: Final = self.redis_state
        """The state of the server and namespace in this process."""
        self.redis_state.replica_lag = self.settings.cache_replica_lag
        self.redis_state.recovery.answers_within = self.settings.cache_read_budget
        self._leased: Final = LeasedWrite(self.redis_state.lease_manager)
        self._sides: Final = PerLoop(self._new_side, self._close_side, _abandon)
        self.near: NearCache | None = None
        """The near cache, if any. It belongs to the first event loop that used the store."""

    def __repr__(self) -> str:
        return f"RedisStore(namespace={self._namespace!r})"

    async def open(self) -> None:
        """Take part in the leases, and connect, if the server answers."""
        self.redis_state.reopen()
        await self._joined(LOOK_TIMEOUT)
        await self._sides.get().connections.connect()

    async def close(self) -> None:
        """Sign off, and close the connections of this event loop; use opens the store again."""
        await asyncio.to_thread(self.redis_state.lease_manager.sign_off)
        await self._sides.close()

    def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: WantedClaim | None = None
    ) -> "asyncio.Future[StoreReply]":
        """Return values and tokens; all reads of this turn of the loop share one round trip.

        A second one creates the tokens that are missing, and makes the claim if nothing was found.
        The future fails with `StoreUnavailableError` if there is no trustworthy answer within the
        read budget.
        """
        return self._sides.get().lookups.read(keys, groups, wanted)

    async def _fetch(
        self, keys: Sequence[bytes], groups: Sequence[str], claims: Sequence[Claim]
    ) -> Read:
        """Read what all lookups of a turn need."""
        state = self.redis_state
        connections = self._sides.get().connections
        if not state.trustworthy:
            if not await self._joined(self.settings.cache_read_budget):
                raise StoreUnavailableError("a purge is owed")
            connections.ready_at = monotonic()
        token_keys = list(map(self._token_key, groups))
        read = await connections.read(keys, token_keys, claims)
        if not state.trustworthy:
            # A purge came to be owed before the answer arrived.
            raise StoreUnavailableError("a purge is owed")
        return read

    async def _joined(self, seconds: float) -> bool:
        """Take part in the leases; return whether answers may be trusted after the first look."""
        first = self.redis_state.lease_manager.join()
        if not first.done():
            timeout = self.redis_state.patience_to_join(seconds, self.settings.cache_connect_budget)
            await asyncio.wait([asyncio.wrap_future(first)], timeout=timeout)
        return self.redis_state.trustworthy

    async def _create(self, lacking: Sequence[Lacking], claims: Claims, began: float) -> Created:
        """Create the tokens that all lookups of a turn lack, and make the claims that they want.

        The lookups began at `began` (monotonic seconds).
        """
        state = self.redis_state
        if not state.trustworthy:
            raise StoreUnavailableError("a purge is owed")
        connections = self._sides.get().connections
        due = max(began, connections.ready_at) + self.settings.cache_read_budget
        created = await connections.create(lacking, state.lifetimes.beginning, claims, due)
        if not state.trustworthy:
            raise StoreUnavailableError("a purge is owed")
        return created

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Store values, and extend the tokens of their groups that would end before them."""
        return await self.write_all((StoreWrite(values, keep_for, tokens),))

    async def write_all(self, writes: Sequence[StoreWrite]) -> bool:
        """Do several writes in the same round trips."""
        if not self.redis_state.trustworthy and not await self._joined(
            self.settings.cache_write_budget
        ):
            return False
        rounds = self.redis_state.writing(writes)
        try:
            commands = next(rounds)
            while True:
                commands = rounds.send(await self._sides.get().commands.send(commands))
        except StopIteration as end:
            stored: bool = end.value
            return stored

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value unless the key has one, and read the key, in one round trip."""
        if not self.redis_state.trustworthy:
            return None
        commands = [("SET", key, value, "NX", "PX", int(keep_for * 1000)), ("GET", key)]
        _, present = await self._sides.get().commands.send(commands)
        return present if isinstance(present, bytes) else None

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values without blocking the server (UNLINK)."""
        answers = await self._sides.get().commands.send([("UNLINK", key) for key in keys])
        return bool(answers) and all(isinstance(answer, int) for answer in answers)

    async def enlist(
        self, name: bytes, keys: Sequence[bytes], *, most: int, keep_for: float
    ) -> Sequence[bytes]:
        """Move keys to the end of a list; return those that fell out of it."""
        send = self._sides.get().commands.send
        (left,) = await send([("PTTL", name)])
        lasting = max(ceil(keep_for), left // 1000 if isinstance(left, int) else 0)
        commands: list[Command] = []
        for key in keys:
            commands += [("LREM", name, 0, key), ("RPUSH", name, key)]
        commands += [("EXPIRE", name, lasting), ("LRANGE", name, 0, -most - 1)]
        surplus = _keys_in((await send(commands))[-1])
        removed = await send([("LREM", name, 0, key) for key in surplus]) if surplus else ()
        # Others may see the same surplus. Each key falls out once.
        return [key for key, gone in zip(surplus, removed, strict=True) if gone == 1]

    async def enlisted(self, name: bytes) -> Sequence[bytes]:
        """Read a list."""
        (answer,) = await self._sides.get().commands.send([("LRANGE", name, 0, -1)])
        return _keys_in(answer)

    def mutating(self) -> AbstractAsyncContextManager[bool]:
        """Enclose a mutating request; see `Store.mutating`.

        With `CACHE_ON_LOST_PURGE=refuse` no request is acknowledged without its purge, so that no
        lease is needed.
        """
        return self._refusing() if self._refuses else self._leased

    @asynccontextmanager
    async def _refusing(self) -> AsyncGenerator[bool]:
        """Look at the leases, if that was not done, within the write budget."""
        if not self.redis_state.trusted:
            await self._joined(self.settings.cache_write_budget)
        yield self.redis_state.trusted

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group in one round trip; owe each purge not confirmed."""
        return (await self._purged(Renewal(self.redis_state, groups))).tokens

    def renew_at_once(
        self, groups: Sequence[str]
    ) -> "asyncio.Future[Sequence[bytes | None]] | None":
        """Do `renew` without a task; None: something has to be awaited before a byte is sent."""
        state = self.redis_state
        if self._refuses or state.replica_lag or state.lease_manager.lacks_lease:
            return None
        return SentRenewal(state, groups).send(self._sides.get().connections)

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Write a fresh token for each group, and return the replaced ones too (SET with GET)."""
        purge = await self._purged(Renewal(self.redis_state, groups, swapping=True))
        return purge.replaced, purge.tokens

    async def soften(self, groups: Sequence[str]) -> bool:
        """Mark the token of each group in one round trip; owe a whole purge where that failed."""
        return all((await self._purged(Softening(self.redis_state, groups))).confirmed)

    async def _purged(self, purge: P) -> P:
        """Send a purge; owe each group that is not confirmed."""
        with purge:
            taking = self.redis_state.lease_manager.take()
            ends = monotonic() + self.redis_state.patience(self.settings.cache_write_budget)
            replicated = purge.is_confirmed_by_replica and self._refuses
            run = self._sides.get().connections.run
            purge.take(await run(purge.keys, purge.command, replicated=replicated))
            if taking is not None and not taking.done():
                # The answer must not leave before others notice the loss of a later purge.
                left = max(0.0, ends - monotonic())
                await asyncio.wait([asyncio.wrap_future(taking)], timeout=left)
        return purge

    def _listen(self, connections: Connections) -> None:
        """Start a near cache, unless there is one whose event loop still runs."""
        settings = self.settings
        if not settings.cache_near_bytes or (self.near and self.near.listeners.alive):
            return
        self.near = NearCache(
            self.redis_state,
            mode=settings.cache_near,
            max_bytes=settings.cache_near_bytes,
            confirm_within=settings.cache_read_budget,
        )
        self.near.listeners.start(connections.connection_to)

    def _new_side(self) -> _LoopSide:
        connections = Connections(self.redis_state.topology, self.settings)
        self._listen(connections)
        return _LoopSide(connections, LookupBatcher(self._namespace, self._fetch, self._create))

    async def _close_side(self, side: _LoopSide) -> None:
        near = self.near
        if near is not None and near.listeners.belong_to(asyncio.get_running_loop()):
            self.near = None
            await near.listeners.stop()
        await side.connections.close()


def _abandon(side: _LoopSide) -> None:
    side.connections.abandon()


def _keys_in(answer: Any) -> list[bytes]:
    """Return the keys in the answer to LRANGE; none where there was no answer."""
    keys = cast("Sequence[object]", answer) if isinstance(answer, list) else ()
    return [key for key in keys if isinstance(key, bytes)]
