"""The synchronous half of the store on Redis, for the typed cache in plain functions.

It shares breaker, journal and history with the asynchronous half, and blocks its thread for at most
the budget.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from typing import Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.cluster_connections import sync_connections_to
from maxage.redis_store.servers.commands import (
    Command,
    as_written,
    created_before,
    is_marked,
    marking,
    twice,
)
from maxage.redis_store.shared_state import RedisState, redis_state_for
from maxage.settings import CacheSettings
from maxage.store.base import StoreReply, StoreWrite
from maxage.store.tokens import token_key


@final
class SyncRedisStore:
    """Reads and writes without awaiting; safe to use from several threads."""

    def __init__(self, url: str, settings: CacheSettings) -> None:
        self.redis_state: Final[RedisState] = redis_state_for(url, settings.cache_namespace)
        self.redis_state.replica_lag = settings.cache_replica_lag
        self._settings: Final = settings
        self._connections = sync_connections_to(self.redis_state.topology, settings)

    @property
    def authority(self) -> RedisState:
        """The server and namespace as this process knows them."""
        return self.redis_state

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens; missing tokens are created.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        if self._joined(self._settings.cache_read_budget):
            token_keys = [token_key(self.redis_state.namespace, group) for group in groups]
            values, tokens = self._connections.fetch(
                keys, token_keys, self.redis_state.lifetimes.beginning
            )
            if self.redis_state.trustworthy:
                return StoreReply(values, tokens)
        raise StoreUnavailableError("a purge is owed")

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Keep the values, and extend the tokens of their groups where they would end before."""
        return self.write_all_now([StoreWrite(values, keep_for, tokens)])

    def write_all_now(self, writings: Sequence[StoreWrite]) -> bool:
        """Do several writes in the same round trips."""
        if not self._joined(self._settings.cache_write_budget):
            return False
        rounds = self.redis_state.writing(writings)
        try:
            commands = next(rounds)
            while True:
                keys = [command[1] for command in commands]
                commands = rounds.send(self._connections.run(keys, as_written(commands)))
        except StopIteration as end:
            kept: bool = end.value
            return kept

    def claim_now(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value unless one lies there, and read what does, in one round trip."""
        if not self.redis_state.trustworthy:
            return None
        commands = [("SET", key, value, "NX", "PX", int(keep_for * 1000)), ("GET", key)]
        _, lies = self._connections.run([key, key], as_written(commands))
        return lies if isinstance(lies, bytes) else None

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; return whether there was one."""
        commands = [("UNLINK", key) for key in keys]
        answers = self._connections.run(keys, as_written(commands))
        return any(isinstance(answer, int) and answer > 0 for answer in answers)

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group; owe what was not confirmed."""
        keys = [token_key(self.redis_state.namespace, group) for group in groups]
        tokens: list[bytes | None] = [None] * len(groups)
        self.redis_state.purging(groups)

        def plan(position: int, history: bytes) -> Command:
            command, tokens[position] = self.redis_state.purge_command(keys[position], history)
            return command

        unpaid: Sequence[str] = groups
        replicated = self._settings.cache_on_lost_purge == "refuse"
        try:
            if not self.redis_state.lease_manager.lease.held:
                self._joined(self._settings.cache_write_budget)
            answers = self._connections.run(keys, plan, replicated=replicated)
            unpaid = self.redis_state.unconfirmed(groups, answers)
        finally:
            self.redis_state.purging(groups)
            # Interrupted or failed in whatever way: what is not known to be written is owed.
            if unpaid:
                self.redis_state.owe(unpaid)
        owed = frozenset(unpaid)
        return [None if group in owed else tokens[i] for i, group in enumerate(groups)]

    def _joined(self, patience: float) -> bool:
        """Take part in the leases; return whether, after a first look, the store is settled."""
        if not self.redis_state.trustworthy:
            wait(
                [self.redis_state.lease_manager.join()], timeout=self.redis_state.patience(patience)
            )
        return self.redis_state.trustworthy

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Mark the token of each group; owe whole purges where that failed."""
        keys = [token_key(self.redis_state.namespace, group) for group in groups]
        commands = created_before(keys, marking(keys), self.redis_state.lifetimes.beginning)
        self.redis_state.purging(groups)
        confirmed = [False] * len(groups)
        try:
            if not self.redis_state.lease_manager.lease.held:
                self._joined(self._settings.cache_write_budget)
            answers = self._connections.run(twice(keys), commands)
            confirmed = [is_marked(length) for length in answers[1::2]]
        finally:
            self.redis_state.purging(groups)
            self.redis_state.owe_unless(groups, confirmed)
        return all(confirmed)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
