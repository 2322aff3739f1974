"""The store on Redis for plain functions: it blocks its thread, for the budgets at most.

It shares its `RedisState` (circuit breakers, server histories, owed purges, lease) with the
asynchronous store.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from typing import TYPE_CHECKING, Final, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import as_written
from maxage.redis_store.servers.sync_connections import SyncConnections
from maxage.redis_store.shared_state import RedisState, redis_state_for
from maxage.redis_store.token_purge import P, Renewal, Softening
from maxage.store.base import StoreReply, StoreWrite
from maxage.store.tokens import token_key

if TYPE_CHECKING:
    from maxage.settings import CacheSettings


@final
class SyncRedisStore:
    """Reads and writes without awaiting; safe to use from several threads."""

    def __init__(self, url: str, settings: "CacheSettings") -> None:
        self.redis_state: Final[RedisState] = redis_state_for(
            url, settings.cache_namespace, settings.redis_credentials
        )
        self.authority: Final = self.redis_state
        """The state of the server and namespace in this process."""
        self.redis_state.replica_lag = settings.cache_replica_lag
        self.redis_state.recovery.answers_within = settings.cache_read_budget
        self._settings: Final = settings
        self._refuses: Final = settings.cache_on_lost_purge == "refuse"
        self._connections: Final = SyncConnections(self.redis_state.topology, settings)

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> StoreReply:
        """Return values and tokens; missing tokens are created.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        if self._joined(self._settings.cache_read_budget):
            state = self.redis_state
            token_keys = [token_key(state.namespace, group) for group in groups]
            fetched = self._connections.fetch(keys, token_keys, state.lifetimes.beginning)
            if state.trustworthy:
                return StoreReply(*fetched)
        raise StoreUnavailableError("a purge is owed")

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Store values, and extend the tokens of their groups that would end before them."""
        return self.write_all_now([StoreWrite(values, keep_for, tokens)])

    def write_all_now(self, writes: Sequence[StoreWrite]) -> bool:
        """Do several writes in the same round trips."""
        if not self._joined(self._settings.cache_write_budget):
            return False
        rounds = self.redis_state.writing(writes)
        try:
            commands = next(rounds)
            while True:
                keys = [command[1] for command in commands]
                commands = rounds.send(self._connections.run(keys, as_written(commands)))
        except StopIteration as end:
            stored: bool = end.value
            return stored

    def claim_now(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Write the value unless the key has one, and read the key, in one round trip."""
        if not self.redis_state.trustworthy:
            return None
        commands = [("SET", key, value, "NX", "PX", int(keep_for * 1000)), ("GET", key)]
        _, present = self._connections.run([key, key], as_written(commands))
        return present if isinstance(present, bytes) else None

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; return whether there was one."""
        answers = self._connections.run(keys, as_written([("UNLINK", key) for key in keys]))
        return any(isinstance(answer, int) and answer > 0 for answer in answers)

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group; owe each purge not confirmed."""
        return self._purged(Renewal(self.redis_state, groups)).tokens

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Mark the token of each group; owe a whole purge where that failed."""
        return all(self._purged(Softening(self.redis_state, groups)).confirmed)

    def _purged(self, purge: P) -> P:
        """Send a purge; owe each group that is not confirmed."""
        with purge:
            replicated = purge.is_confirmed_by_replica and self._refuses
            run = self._connections.run
            purge.take(run(purge.keys, purge.command, replicated=replicated))
        return purge

    def _joined(self, seconds: float) -> bool:
        """Take part in the leases; return whether answers may be trusted after the first look."""
        if not self.redis_state.trustworthy:
            first = self.redis_state.lease_manager.join()
            timeout = self.redis_state.patience_to_join(
                seconds, self._settings.cache_connect_budget
            )
            wait([first], timeout=timeout)
        return self.redis_state.trustworthy

    def close(self) -> None:
        """Close the connections; use makes new ones."""
        self._connections.close()
