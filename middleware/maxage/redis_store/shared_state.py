"""The state of one Redis store in this process: its servers, its owed purges, and its lease.

The asynchronous and the synchronous store share one `RedisState`: a purge that one of them owes
stops the other from trusting its reads. A `Node` has the state of one server.
"""

import atexit
import logging
import os
import weakref
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, final

from maxage.clock import monotonic_clock
from maxage.observe.counters import PROCESS
from maxage.observe.words import PurgeCause
from maxage.redis_options import RedisCredentials
from maxage.redis_store.leases.lease_manager import LeaseManager
from maxage.redis_store.owed_purges import OwedPurges
from maxage.redis_store.recovery import Recovery
from maxage.redis_store.servers.circuit_breaker import PROBE_INTERVAL
from maxage.redis_store.servers.commands import Command, token_command
from maxage.redis_store.servers.node import Node
from maxage.redis_store.servers.topology import Single, topology_for
from maxage.redis_store.token_lifetimes import TokenLifetimes, WriteRounds
from maxage.store.base import StoreWrite, TokenAuthority
from maxage.store.fork_safe import fork_safe_lock
from maxage.store.tokens import NAMESPACE_GROUP, purged_token

logger = logging.getLogger("maxage")


class PurgeWatcher(Protocol):
    """Is told of this process's purges before the server is."""

    def purging(self, groups: Iterable[str]) -> None:
        """Drop the groups' copies; may be called from any thread."""
        ...


@final
class RedisState(TokenAuthority):
    """The state of one store and one namespace in this process."""

    def __init__(
        self, url: str, namespace: str, credentials: RedisCredentials | None = None
    ) -> None:
        self.credentials: Final = credentials
        self.namespace: Final = namespace
        self.owed_purges: Final = OwedPurges()
        self.topology: Final = topology_for(url, self, credentials)
        self.lifetimes: Final = TokenLifetimes(namespace)
        self.replica_lag = 0.0
        """Seconds for which no response of a purged group is stored."""
        self.recovery: Final = Recovery(
            namespace,
            self.topology,
            self.owed_purges,
            self.purge_command,
            attempted=self._wake_heartbeat,
        )
        self.lease_manager: Final = LeaseManager(
            namespace,
            topology=self.topology,
            owed_purges=self.owed_purges,
            pay=self.pay,
            purge=self._purge_everything,
        )
        self.unwatched_purges = 0
        """Owed purges whose loss no other worker would have noticed."""
        self._watchers: tuple[weakref.ref[PurgeWatcher], ...] = ()
        self._first_join_ends: float | None = None

    @property
    def trusted(self) -> bool:
        """Whether hits may be served: `trustworthy`, and no server is away."""
        return self.trustworthy and self.recovery.all_answer

    @property
    def trustworthy(self) -> bool:
        """Whether a server's answer may be served; to ask keeps the looks at the leases going.

        This process owes no purge, and a recent look at the leases found no other worker that may.
        """
        self.lease_manager.pace.asked = True
        return self.owed_purges.empty and self.lease_manager.lease.trusts

    @property
    def works(self) -> bool:
        """Whether hits are served, as far as is known; to ask changes nothing.

        A process that rests looks at the leases before it serves the next one.
        """
        leases = self.lease_manager
        may_trust = self.owed_purges.empty and (leases.lease.trusts or leases.pace.rests)
        return may_trust and self.recovery.all_answer

    def watch_purges(self, watcher: PurgeWatcher) -> None:
        """Tell the watcher of every purge, for as long as it lives."""
        living = (ref for ref in self._watchers if ref() is not None)
        self._watchers = (*living, weakref.ref(watcher))

    def purging(self, groups: Sequence[str]) -> None:
        """Announce a purge: before it is sent, and again when its answer has come."""
        for ref in self._watchers:
            watcher = ref()
            if watcher is not None:
                watcher.purging(groups)

    def patience(self, seconds: float) -> float:
        """Return the seconds to wait where any server may be asked; see `Node.patience`."""
        return min((node.patience(seconds) for node in self.nodes), default=seconds)

    @property
    def nodes(self) -> Sequence[Node]:
        """All known servers that take writes."""
        return self.topology.nodes

    @property
    def node(self) -> Node | None:
        """The server, if there is only one; None: several share the keys."""
        return self.topology.nodes[0] if isinstance(self.topology, Single) else None

    def patience_to_join(self, seconds: float, connect_seconds: float) -> float:
        """Return the seconds to wait for the first look at the leases.

        Args:
            seconds: the budget.
            connect_seconds: the seconds that connecting may take; all requests that come before the
                first connection share them.
        """
        if self._is_untried:
            if self._first_join_ends is None:
                self._first_join_ends = monotonic_clock() + connect_seconds
            seconds = max(seconds, self._first_join_ends - monotonic_clock())
        return self.patience(seconds)

    @property
    def _is_untried(self) -> bool:
        """Whether no connection to a server was made, and none failed."""
        nodes = self.nodes
        return all(node.is_untried for node in nodes) if nodes else self.topology.is_untried

    def purge_command(self, key: bytes, history: bytes) -> tuple[Command, bytes]:
        """Return the command that purges a group, and the token that it writes."""
        token = purged_token(history, self.replica_lag)
        # A quarantined token ends by itself, and no response is stored under it.
        seconds = 0 if self.replica_lag else self.lifetimes.beginning((key,), (token,))
        return token_command(key, token, self.replica_lag, seconds=seconds), token

    def writing(self, writes: Iterable[StoreWrite]) -> WriteRounds:
        """Store values, and extend the tokens of their groups; see `TokenLifetimes.writing`."""
        if self.replica_lag:
            # A token may have become a quarantined one meanwhile, which must not be extended.
            writes = [write._replace(tokens={}) for write in writes]
        return self.lifetimes.writing(writes)

    def owe(self, groups: Iterable[str]) -> None:
        """Owe purges that were not confirmed, and start the background probe that makes them."""
        groups = tuple(groups)
        self.purging(groups)
        is_first = self.owed_purges.empty and not self.recovery.was_told
        # Before the warning: a filter of the user's that raises loses no purge.
        self.owed_purges.add(groups)
        if is_first:
            self.recovery.was_told = True
            logger.warning(
                "A purge was not confirmed by Redis: serving uncached until it is; retrying every "
                "%s s.",
                PROBE_INTERVAL,
            )
        # Again, for copies that were kept just before the purge was owed.
        self.purging(groups)
        lease = self.lease_manager.lease
        if lease.wanted and not lease.watched:
            self.unwatched_purges += 1
            if self.unwatched_purges == 1:
                logger.warning(
                    "This worker acknowledged a write while it could not reach Redis, and held no "
                    "lease. Until it reaches Redis, other workers may serve responses that the "
                    "write made stale. CACHE_ON_LOST_PURGE=refuse refuses such writes."
                )
        self.recover()

    def rotate(self) -> None:
        """Owe a purge of everything: a server of another history answered."""
        PROCESS.count_purge(PurgeCause.RECOVERY, confirmed=False)
        self.owe([NAMESPACE_GROUP])

    def pay(self) -> bool:
        """Try once to make all owed purges; return whether none is owed."""
        return self.recovery.attempt() or self.owed_purges.empty

    def _wake_heartbeat(self) -> None:
        self.lease_manager.heartbeat.wake()

    def _purge_everything(self) -> bool:
        """Purge the namespace now; return whether that was confirmed."""
        self.purging([NAMESPACE_GROUP])
        self.owed_purges.add([NAMESPACE_GROUP])
        confirmed = self.pay()
        if not confirmed:
            self.recover()
        return PROCESS.count_purge(PurgeCause.RECOVERY, confirmed=confirmed)

    def recover(self) -> None:
        """Start the background probe unless it runs."""
        self.recovery.start()

    def close(self) -> None:
        """Sign off and stop the background probe; `reopen` permits it again."""
        if not self.owed_purges.empty:
            self.pay()
        self.lease_manager.sign_off()
        self.recovery.stop()

    def reopen(self) -> None:
        """Permit the background probe after `close`."""
        self.recovery.allow()

    def after_fork(self) -> None:
        """Start anew in a forked process: it inherits this object, but no threads."""
        self.recovery.after_fork()
        self.lease_manager.after_fork()


_States = weakref.WeakValueDictionary[tuple[str, str, RedisCredentials | None], RedisState]
_redis_states: Final[_States] = weakref.WeakValueDictionary()
"""Each state lives as long as a store or client has it, or a thread must make its owed purges."""
_lock: Final = fork_safe_lock()


def redis_state_for(
    url: str, namespace: str, credentials: RedisCredentials | None = None
) -> RedisState:
    """Return the one `RedisState` of this process for a server and a namespace.

    Args:
        url: as in `REDIS_URL`.
        namespace: the prefix of all keys.
        credentials: returns the password, in place of the URL's.
    """
    with _lock:
        key = (url, namespace, credentials)
        state = _redis_states.get(key)
        if state is None:
            state = _redis_states[key] = RedisState(url, namespace, credentials)
        return state


def redis_states() -> tuple[RedisState, ...]:
    """Return the state of every server and namespace that this process uses."""
    return tuple(_redis_states.values())


def _close() -> None:
    for redis_state in tuple(_redis_states.values()):
        redis_state.close()


def _after_fork() -> None:
    for redis_state in tuple(_redis_states.values()):
        redis_state.after_fork()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
