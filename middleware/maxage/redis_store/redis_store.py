"""The store on Redis or Valkey: what is trusted, what is owed, what is asked together."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.batching import CommandBatcher, LookupBatcher
from maxage.redis_store.leases.lease_manager import LOOK_TIMEOUT
from maxage.redis_store.near.near_cache import NearCache
from maxage.redis_store.servers.cluster_connections import connections_to
from maxage.redis_store.servers.commands import (
    Command,
    Fetched,
    as_written,
    created_before,
    is_marked,
    marking,
    twice,
)
from maxage.redis_store.servers.connections import Connections
from maxage.redis_store.shared_state import RedisState, redis_state_for
from maxage.settings import CacheSettings
from maxage.store.base import StoreReply, StoreWrite, Value
from maxage.store.tokens import token_key


@final
class _LoopSide:
    """The connections of one event loop, and what is asked on them in one turn of it."""

    __slots__ = ("commands", "connections", "lookups", "loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connections: Connections, lookups: LookupBatcher
    ) -> None:
        self.loop: Final = weakref.ref(loop)
        self.connections: Final = connections
        self.lookups: Final = lookups
        self.commands: Final = CommandBatcher(self._run)

    async def _run(self, commands: Sequence[Command]) -> Sequence[Any]:
        keys = [command[1] for command in commands]
        return await self.connections.run(keys, as_written(commands))


@final
class _Mutating:
    """Encloses one request that may change something."""

    __slots__ = ("_join", "_redis_state")

    def __init__(self, redis_state: RedisState, join: Callable[[], Awaitable[bool]]) -> None:
        self._redis_state: Final = redis_state
        self._join: Final = join

    async def __aenter__(self) -> bool:
        lease = self._redis_state.lease_manager.lease
        if not (held := lease.held):
            await self._join()
            held = lease.held
        lease.begin_mutation()
        return held and self._redis_state.trusted

    async def __aexit__(self, *_: object) -> None:
        self._redis_state.lease_manager.lease.end_mutation()


@final
class RedisStore:
    """Keeps responses and tokens on Redis (6.2 upward) or Valkey (7.2 upward).

    Args:
        url: where the server is, as in `REDIS_URL`.
        settings: namespace, budgets and limits; read from the environment by default.
    """

    def __init__(self, url: str, settings: CacheSettings | None = None) -> None:
        settings = settings or CacheSettings()
        self.url: Final = url
        self.settings: Final = settings
        self._settings = settings
        self._namespace: Final = settings.cache_namespace
        self.redis_state: Final[RedisState] = redis_state_for(url, settings.cache_namespace)
        self.redis_state.replica_lag = settings.cache_replica_lag
        self._sides: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSide] = (
            weakref.WeakKeyDictionary()
        )
        self._last_side: _LoopSide | None = None
        """The one that was used last, which is mostly the only one."""
        self._near: NearCache | None = None

    def __repr__(self) -> str:
        return f"RedisStore(namespace={self._namespace!r})"

    @property
    def trusted(self) -> bool:
        """Whether the server answers and no purge is owed to it."""
        return self.redis_state.trusted

    @property
    def shared(self) -> bool:
        """Always: other processes see the same values."""
        return True

    @property
    def authority(self) -> RedisState:
        """The server and namespace as this process knows them."""
        return self.redis_state

    @property
    def keeps_objects(self) -> bool:
        """Never: values are sent to the server."""
        return False

    @property
    def near(self) -> NearCache | None:
        """The near cache, where there is one. It belongs to the event loop that was first here."""
        return self._near

    async def open(self) -> None:
        """Take part in the leases, and connect, if the server answers."""
        self.redis_state.reopen()
        await self._joined(LOOK_TIMEOUT)
        await self.ping()

    async def close(self) -> None:
        """Sign off, and close the connections of this event loop; use begins all anew."""
        near = self._near
        if near is not None and near.listeners.belong_to(asyncio.get_running_loop()):
            self._near = None
            await near.listeners.stop()
        await asyncio.to_thread(self.redis_state.lease_manager.sign_off)
        side, self._last_side = self._sides.pop(asyncio.get_running_loop(), None), None
        if side is not None:
            await side.connections.close()

    async def ping(self) -> bool:
        """Ask the server itself, within the read budget, an open breaker notwithstanding."""
        return await self._side().connections.ping()

    async def read(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens; every read of this turn of the loop shares one round trip.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        return await self._side().lookups.read(keys, groups)

    async def write(
        self,
        values: Sequence[tuple[bytes, Value]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Keep the values, and extend the tokens of their groups where they would end before."""
        return await self.write_all((StoreWrite(values, keep_for, tokens),))

    async def write_all(self, writings: Sequence[StoreWrite]) -> bool:
        """Do several writes in the same round trips."""
        if not self.redis_state.trustworthy and not await self._joined(
            self._settings.cache_write_budget
        ):
            return False
        rounds = self.redis_state.writing(writings)
        try:
            commands = next(rounds)
            while True:
                commands = rounds.send(await self._side().commands.ask(commands))
        except StopIteration as end:
            kept: bool = end.value
            return kept

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value unless one lies there, and read what does, in one round trip."""
        if not self.redis_state.trustworthy:
            return None
        commands = [("SET", key, value, "NX", "PX", int(keep_for * 1000)), ("GET", key)]
        _, lies = await self._side().commands.ask(commands)
        return lies if isinstance(lies, bytes) else None

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """Remove the values without blocking the server (UNLINK)."""
        answers = await self._side().commands.ask([("UNLINK", key) for key in keys])
        return bool(answers) and all(isinstance(answer, int) for answer in answers)

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group in one round trip; owe what was not confirmed."""
        _, tokens = await self._renew(groups)
        return tokens

    async def swap(
        self, groups: Sequence[str]
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Write a fresh token for each group, and return the replaced ones (SET with GET)."""
        answers, tokens = await self._renew(groups, "GET")
        return [a if isinstance(a, bytes) else None for a in answers], tokens

    async def _renew(
        self, groups: Sequence[str], *options: str
    ) -> tuple[Sequence[Any], Sequence[bytes | None]]:
        """Purge the groups; return the server's answers, and the tokens."""
        keys = [token_key(self._namespace, group) for group in groups]
        tokens: list[bytes | None] = [None] * len(groups)
        self.redis_state.purging(groups)

        def plan(position: int, history: bytes) -> Command:
            # Drawn when it is sent: no attempt ever uses another one's value.
            command, tokens[position] = self.redis_state.purge_command(keys[position], history)
            return (*command, *options)

        unpaid: Sequence[str] = groups
        replicated = self._settings.cache_on_lost_purge == "refuse"
        try:
            if not self.redis_state.lease_manager.lease.held:
                await self._joined(self._settings.cache_write_budget)
            answers = await self._side().connections.run(keys, plan, replicated=replicated)
            # With GET the answer to a SET that was done is what it replaced.
            told = [b"OK" if options and isinstance(a, bytes) else a for a in answers]
            unpaid = self.redis_state.unconfirmed(groups, told)
        finally:
            self.redis_state.purging(groups)
            # Cancelled or failed in whatever way: what is not known to be written is owed.
            if unpaid:
                self.redis_state.owe(unpaid)
        owed = frozenset(unpaid)
        known = [None if group in owed else tokens[i] for i, group in enumerate(groups)]
        return answers, known

    async def soften(self, groups: Sequence[str]) -> bool:
        """Mark the token of each group in one round trip; owe whole purges where that failed."""
        keys = [token_key(self._namespace, group) for group in groups]
        self.redis_state.purging(groups)
        confirmed = [False] * len(groups)
        try:
            if not self.redis_state.lease_manager.lease.held:
                await self._joined(self._settings.cache_write_budget)
            commands = created_before(keys, marking(keys), self.redis_state.lifetimes.beginning)
            answers = await self._side().connections.run(twice(keys), commands)
            confirmed = [is_marked(length) for length in answers[1::2]]
        finally:
            self.redis_state.purging(groups)
            self.redis_state.owe_unless(groups, confirmed)
        return all(confirmed)

    def mutating(self) -> "_Mutating":
        """Enclose a request that may change something; see `Store.mutating`."""
        return _Mutating(self.redis_state, self._joined_in_time)

    async def _joined_in_time(self) -> bool:
        return await self._joined(self._settings.cache_write_budget)

    async def _joined(self, patience: float) -> bool:
        """Take part in the leases; return whether, after a first look, the store is settled."""
        first = self.redis_state.lease_manager.join()
        if not first.done():
            patience = self.redis_state.patience(patience)
            await asyncio.wait([asyncio.wrap_future(first)], timeout=patience)
        return self.redis_state.trustworthy

    async def _fetch(self, keys: list[bytes], groups: list[str]) -> Fetched:
        """Ask once for the whole batch."""
        if not self.redis_state.trustworthy and not await self._joined(
            self._settings.cache_read_budget
        ):
            raise StoreUnavailableError("a purge is owed")
        token_keys = [token_key(self._namespace, group) for group in groups]
        found = await self._side().connections.fetch(
            keys, token_keys, self.redis_state.lifetimes.beginning
        )
        if not self.redis_state.trustworthy:
            # A purge came to be owed while the answer was under way.
            raise StoreUnavailableError("a purge is owed")
        return found

    def _listen(self, connections: Connections) -> None:
        """Begin a near cache, unless there is one whose event loop still runs."""
        settings = self._settings
        if not settings.cache_near_bytes or (self._near and self._near.listeners.alive):
            return
        self._near = NearCache(
            self.redis_state,
            mode=settings.cache_near,
            max_bytes=settings.cache_near_bytes,
            confirm_within=settings.cache_read_budget,
        )
        self._near.listeners.start(connections.connector_to)

    def _side(self) -> _LoopSide:
        loop, side = asyncio.get_running_loop(), self._last_side
        if side is not None and side.loop() is loop:
            return side
        side = self._sides.get(loop)
        if side is None:
            connections = connections_to(self.redis_state.topology, self._settings)
            side = self._sides[loop] = _LoopSide(loop, connections, LookupBatcher(self._fetch))
            self._listen(connections)
        self._last_side = side
        return side
