"""What a process knows of one store on Redis: its servers, the purges it owes, the way back.

The asynchronous and the synchronous store share one `RedisState`: a purge that one of them owes
stops the other from trusting what it reads. A `Node` holds what is known of one server.
"""

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, final

from redis.exceptions import RedisError

from maxage.redis_store.leases.lease_manager import LeaseManager
from maxage.redis_store.owed_purges import OwedPurges
from maxage.redis_store.servers.commands import CONFIRMED, Command, token_command
from maxage.redis_store.servers.node import Node, describe
from maxage.redis_store.servers.topology import Single, topology_for
from maxage.redis_store.token_lifetimes import Rounds, TokenLifetimes
from maxage.store.base import StoreWrite, TokenAuthority
from maxage.store.tokens import NAMESPACE_GROUP, purged_token, token_key

logger = logging.getLogger("maxage")

PROBE_INTERVAL: Final = 0.2
"""Seconds between two looks at a server that was away."""
PROBE_TIMEOUT: Final = 0.4
"""Seconds that one look may take."""


class PurgeWatcher(Protocol):
    """Who has to know of the purges of this process before the server does."""

    def purging(self, groups: Iterable[str]) -> None:
        """Take note; called from any thread."""
        ...


@final
class RedisState(TokenAuthority):
    """What the process knows about one store and one namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        self.namespace: Final = namespace
        self.owed_purges: Final = OwedPurges()
        self.topology: Final = topology_for(url, self)
        self.lifetimes: Final = TokenLifetimes(namespace)
        self._lock = threading.Lock()
        self._recovery: threading.Thread | None = None
        self._closing = threading.Event()
        self.lease_manager: Final = LeaseManager(
            namespace,
            survey=self.topology.learn,
            node_for=self.topology.node_for,
            owed_purges=self.owed_purges,
            pay=lambda: self._recovered() or self.owed_purges.empty,
            purge=self._purge_everything,
        )
        self.replica_lag = 0.0
        """Seconds for which nothing is stored in a group that was purged."""
        self.unwatched_purges = 0
        """Purges that came to be owed while no other worker would have noticed their loss."""
        self._watchers: weakref.WeakSet[PurgeWatcher] = weakref.WeakSet()

    @property
    def node(self) -> Node | None:
        """The server, where there is one by itself; None: several share the keys."""
        return self.topology.nodes[0] if isinstance(self.topology, Single) else None

    @property
    def nodes(self) -> Sequence[Node]:
        """The servers that take writes, as far as they are known; all of them together."""
        return self.topology.nodes

    @property
    def trustworthy(self) -> bool:
        """Whether what a server answers may be served.

        This process owes no purge, and has looked lately whether others may.
        """
        return self.owed_purges.empty and self.lease_manager.lease.trusts

    @property
    def trusted(self) -> bool:
        """Whether hits may be served: every server answers, and what it answers is settled."""
        return self.trustworthy and self._all_answer

    @property
    def _all_answer(self) -> bool:
        nodes = self.nodes
        for node in nodes:
            if node.breaker.open:
                return False
        return bool(nodes)

    @property
    def _is_well(self) -> bool:
        """Whether the background probe has nothing to do."""
        return self.owed_purges.empty and self.topology.is_current and self._all_answer

    def patience(self, seconds: float) -> float:
        """Return how long to wait where any of the servers may be asked; see `Node.patience`."""
        return min((node.patience(seconds) for node in self.nodes), default=seconds)

    def purge_command(self, key: bytes, history: bytes) -> tuple[Command, bytes]:
        """Return the command which purges a group, and the token that it writes."""
        token = purged_token(history, self.replica_lag)
        # One that is to settle ends by itself, and nothing is stored under it.
        seconds = 0 if self.replica_lag else self.lifetimes.beginning(key, token)
        return token_command(key, token, self.replica_lag, seconds=seconds), token

    def unconfirmed(self, groups: Sequence[str], answers: Sequence[Any]) -> list[str]:
        """Return the groups whose new token was not confirmed."""
        return [g for g, said in zip(groups, answers, strict=True) if said not in CONFIRMED]

    def owe_unless(self, groups: Sequence[str], confirmed: Sequence[bool]) -> None:
        """Owe the groups of which no purge of another kind was confirmed."""
        unpaid = [group for group, sure in zip(groups, confirmed, strict=True) if not sure]
        if unpaid:
            self.owe(unpaid)

    def writing(self, writings: Iterable[StoreWrite]) -> Rounds:
        """Keep values, and the tokens of their groups as long; see `TokenLifetimes.writing`."""
        if self.replica_lag:
            # One may have become a token that is to settle, which is not to be kept alive.
            writings = [writing._replace(tokens={}) for writing in writings]
        return self.lifetimes.writing(writings)

    def watch_purges(self, watcher: PurgeWatcher) -> None:
        """Tell the watcher of every purge, for as long as it lives."""
        self._watchers.add(watcher)

    def purging(self, groups: Sequence[str]) -> None:
        """Say that groups are purged: before a purge is sent, and when its answer is there."""
        for watcher in tuple(self._watchers):
            watcher.purging(groups)

    def owe(self, groups: Iterable[str]) -> None:
        """Put purges that are not confirmed into the journal and begin to make up for them."""
        groups = tuple(groups)
        self.purging(groups)
        if self.owed_purges.empty:
            logger.warning(
                "A purge could not be confirmed: nothing is served from Redis until it is."
            )
        self.owed_purges.add(groups)
        # Once more, for what was looked up and kept before the journal said that it is not empty.
        self.purging(groups)
        if not self.lease_manager.lease.watched:
            self.unwatched_purges += 1
            if self.unwatched_purges == 1:
                logger.warning(
                    "A write is acknowledged by a process that no other watches, since it has not "
                    "reached Redis yet: others may serve what it made untrue until it has."
                )
        self.recover()

    def rotate(self) -> None:
        """Owe a purge of everything: a server of another history answered."""
        self.owe([NAMESPACE_GROUP])

    def _purge_everything(self) -> bool:
        """Purge the namespace now; return whether that was confirmed."""
        self.purging([NAMESPACE_GROUP])
        self.owed_purges.add([NAMESPACE_GROUP])
        confirmed = self._recovered() or self.owed_purges.empty
        if not confirmed:
            self.recover()
        return confirmed

    def recover(self) -> None:
        """Start the background probe unless it runs."""
        with self._lock:
            if self._recovery is None and not self._closing.is_set():
                self._recovery = threading.Thread(
                    target=self._probe, name="maxage-recovery", daemon=True
                )
                self._recovery.start()

    def close(self) -> None:
        """Sign off and stop the background probe; `reopen` allows it again."""
        self.lease_manager.sign_off()
        self._closing.set()
        recovery = self._recovery
        if recovery is not None and recovery is not threading.current_thread():
            recovery.join(PROBE_TIMEOUT * 2)

    def reopen(self) -> None:
        """Allow the background probe after `close`."""
        self._closing.clear()
        if not self._is_well:
            self.recover()

    def after_fork(self) -> None:
        """Begin anew in a forked process: it inherits the object, not the threads."""
        self._lock = threading.Lock()
        self._recovery = None
        self.topology.after_fork()
        self.lease_manager.after_fork()

    def _probe(self) -> None:
        while not self._closing.is_set():
            if self._recovered():
                with self._lock:
                    # Under the lock, so that a purge owed just now finds either this thread going
                    # on or none at all.
                    if self._is_well or self._closing.is_set():
                        self._recovery = None
                        return
            self._closing.wait(PROBE_INTERVAL)
        with self._lock:
            self._recovery = None

    def _recovered(self) -> bool:
        """Ask which servers there are and each of them once; pay what is owed to those that answer.

        Returns:
            Whether all of them answered.
        """
        try:
            self.topology.learn(PROBE_TIMEOUT)
        except (RedisError, OSError) as error:
            logger.debug("Redis is still away: %s", describe(error))
        nodes = self.nodes
        met = [node for node in nodes if self._reached(node, self._meet)]
        # Only now: whoever is met may be another server, which is one more purge.
        paid = [node for node in met if self._reached(node, self._pay)]
        self.lease_manager.heartbeat.wake()
        return 0 < len(nodes) == len(paid)

    def _reached(self, node: Node, use: Callable[[Node], None]) -> bool:
        """Use the server; return whether that went well."""
        try:
            use(node)
        except Exception as error:  # noqa: BLE001 - garbage makes redis-py raise anything
            # The thread must outlive it, or nothing would ever close the breaker.
            logger.debug("Redis is still away: %s", describe(error))
            return False
        return True

    def _meet(self, node: Node) -> None:
        """See that the server works, and whether it is another one than before."""
        state = [("CLUSTER", "INFO")] if node.is_in_cluster else []
        info, *answers = node.ask([("INFO", "replication"), ("PING",), *state], PROBE_TIMEOUT)
        if node.changed(node.history_in(info)):
            self.owed_purges.add([NAMESPACE_GROUP])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if state and b"cluster_state:ok" not in answers[-1]:
            raise RedisError("the cluster is down")

    def _pay(self, node: Node) -> None:
        """Make the purges that are owed to the server, then let requests through to it."""
        owed, mark = self.owed_purges.snapshot()
        keys = {group: token_key(self.namespace, group) for group in owed}
        groups = [group for group, key in keys.items() if self.topology.node_for(key) is node]
        if groups:
            # A fresh value at every attempt: a delayed write of an earlier one must never bring
            # back a token under which something was stored.
            history = node.history or b""
            commands = [self.purge_command(keys[group], history)[0] for group in groups]
            for answer in node.ask(commands, PROBE_TIMEOUT):
                if answer not in CONFIRMED:
                    raise answer if isinstance(answer, Exception) else RedisError("not written")
            self.owed_purges.strike(groups, mark)
        if node.breaker.open:
            node.breaker.close()
            logger.warning("The cache is in use again: Redis answers.")
        # What follows has its whole budget again.
        node.succeeded()


_redis_states: dict[tuple[str, str], RedisState] = {}
_upstreams_lock = threading.Lock()


def redis_state_for(url: str, namespace: str) -> RedisState:
    """Return the one `RedisState` of this process for a server and a namespace."""
    with _upstreams_lock:
        return _redis_states.setdefault((url, namespace), RedisState(url, namespace))


def _sign_off() -> None:
    for redis_state in tuple(_redis_states.values()):
        redis_state.lease_manager.sign_off()


def _after_fork() -> None:
    for redis_state in tuple(_redis_states.values()):
        redis_state.after_fork()


atexit.register(_sign_off)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@final
class _Nobody:
    """Cares about nothing: for servers that are only asked once."""

    def rotate(self) -> None:
        """Do nothing."""

    def recover(self) -> None:
        """Do nothing."""


def ping_server(url: str, timeout: float) -> bool:
    """Return whether every server answers a PING on a new connection.

    Args:
        url: as in `REDIS_URL`.
        timeout: seconds that each of them may take.
    """
    topology = topology_for(url, _Nobody())
    try:
        topology.learn(timeout)
        pongs = [node.ask([("PING",)], timeout) for node in topology.nodes]
        return all(pong in ([b"PONG"], ["PONG"]) for pong in pongs)
    except Exception:  # noqa: BLE001 - garbage makes redis-py raise anything
        return False
