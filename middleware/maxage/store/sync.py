"""The synchronous half of the store on Redis, for the typed cache in plain functions.

It shares breaker, journal and history with the asynchronous half, and blocks its thread for at most
the budget.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from typing import Final, final

from maxage.errors import StoreUnavailableError
from maxage.settings import CacheSettings
from maxage.store.base import Reading, Writing
from maxage.store.cluster import sync_connections_to
from maxage.store.commands import (
    Command,
    as_written,
    created_before,
    is_marked,
    marking,
    twice,
)
from maxage.store.tokens import token_key
from maxage.store.upstream import Upstream, upstream_for


@final
class SyncRedisStore:
    """Reads and writes without awaiting; safe to use from several threads."""

    def __init__(self, url: str, settings: CacheSettings) -> None:
        self.upstream: Final[Upstream] = upstream_for(url, settings.cache_namespace)
        self.upstream.replica_lag = settings.replica_lag
        self._settings: Final = settings
        self._connections = sync_connections_to(self.upstream.topology, settings)

    @property
    def authority(self) -> object:
        """The server and namespace as this process knows them."""
        return self.upstream

    def read_now(self, keys: Sequence[bytes], groups: Sequence[str]) -> Reading:
        """Return values and tokens; missing tokens are created.

        Raises:
            StoreUnavailableError: no trustworthy answer within the read budget.
        """
        if self._joined(self._settings.cache_read_budget):
            token_keys = [token_key(self.upstream.namespace, group) for group in groups]
            values, tokens = self._connections.fetch(
                keys, token_keys, self.upstream.lifetimes.beginning
            )
            if self.upstream.settled:
                return Reading(values, tokens)
        raise StoreUnavailableError("a purge is owed")

    def write_now(
        self,
        values: Sequence[tuple[bytes, bytes]],
        *,
        keep_for: float,
        tokens: Mapping[str, bytes],
    ) -> bool:
        """Keep the values, and extend the tokens of their groups where they would end before."""
        if not self._joined(self._settings.cache_write_budget):
            return False
        rounds = self.upstream.writing([Writing(values, keep_for, tokens)])
        try:
            commands = next(rounds)
            while True:
                keys = [command[1] for command in commands]
                commands = rounds.send(self._connections.run(keys, as_written(commands)))
        except StopIteration as end:
            kept: bool = end.value
            return kept

    def delete_now(self, keys: Sequence[bytes]) -> bool:
        """Remove the values; return whether there was one."""
        commands = [("UNLINK", key) for key in keys]
        answers = self._connections.run(keys, as_written(commands))
        return any(isinstance(answer, int) and answer > 0 for answer in answers)

    def renew_now(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Write a fresh token for each group; owe what was not confirmed."""
        keys = [token_key(self.upstream.namespace, group) for group in groups]
        tokens: list[bytes | None] = [None] * len(groups)
        self.upstream.purging(groups)

        def plan(position: int, history: bytes) -> Command:
            command, tokens[position] = self.upstream.purge_command(keys[position], history)
            return command

        unpaid: Sequence[str] = groups
        replicated = self._settings.on_lost_purge == "refuse"
        try:
            if not self.upstream.leasing.lease.held:
                self._joined(self._settings.cache_write_budget)
            answers = self._connections.run(keys, plan, replicated=replicated)
            unpaid = self.upstream.unconfirmed(groups, answers)
        finally:
            self.upstream.purging(groups)
            # Interrupted or failed in whatever way: what is not known to be written is owed.
            if unpaid:
                self.upstream.owe(unpaid)
        owed = frozenset(unpaid)
        return [None if group in owed else tokens[i] for i, group in enumerate(groups)]

    def _joined(self, patience: float) -> bool:
        """Take part in the leases; return whether, after a first look, the store is settled."""
        if not self.upstream.settled:
            wait([self.upstream.leasing.join()], timeout=self.upstream.patience(patience))
        return self.upstream.settled

    def soften_now(self, groups: Sequence[str]) -> bool:
        """Mark the token of each group; owe whole purges where that failed."""
        keys = [token_key(self.upstream.namespace, group) for group in groups]
        commands = created_before(keys, marking(keys), self.upstream.lifetimes.beginning)
        self.upstream.purging(groups)
        confirmed = [False] * len(groups)
        try:
            if not self.upstream.leasing.lease.held:
                self._joined(self._settings.cache_write_budget)
            answers = self._connections.run(twice(keys), commands)
            confirmed = [is_marked(length) for length in answers[1::2]]
        finally:
            self.upstream.purging(groups)
            self.upstream.owe_unless(groups, confirmed)
        return all(confirmed)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
