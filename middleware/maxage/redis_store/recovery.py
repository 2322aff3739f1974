"""The background probe: reaches every server again after a failure, and makes the owed purges."""

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Final, final

from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from maxage.redis_store.owed_purges import OwedPurges
from maxage.redis_store.servers.circuit_breaker import PROBE_INTERVAL
from maxage.redis_store.servers.commands import CONFIRMED, Command
from maxage.redis_store.servers.node import INFO, Node, describe
from maxage.redis_store.servers.topology import Topology
from maxage.store.tokens import NAMESPACE_GROUP, token_key

logger = logging.getLogger("maxage")

PROBE_TIMEOUT: Final = 0.4
"""Seconds that one attempt to reach a server may take."""


@final
class Recovery:
    """Runs the background probe while a server is away or a purge is owed.

    Args:
        namespace: the prefix of all keys.
        topology: the servers.
        owed_purges: the purges to make.
        purge_command: returns the command that purges a group, given its token's key and the
            server's history.
        attempted: is called after each attempt.
    """

    def __init__(
        self,
        namespace: str,
        topology: Topology,
        owed_purges: OwedPurges,
        purge_command: Callable[[bytes, bytes], tuple[Command, bytes]],
        *,
        attempted: Callable[[], None],
    ) -> None:
        self._namespace: Final = namespace
        self._probed: Final = f"{namespace}:probe"
        """A key that is never written, in any slot."""
        self._topology: Final = topology
        self._owed_purges: Final = owed_purges
        self._purge_command: Final = purge_command
        self._attempted: Final = attempted
        self.answers_within = PROBE_TIMEOUT
        """Seconds within which requests need an answer."""
        self.was_told = False
        """Whether the log was told that a purge is owed, and not yet that it is made."""
        self._refusal_was_told = False
        """Whether the log was told why a server refuses a purge, and not all are made yet."""
        self.stopped: Final = threading.Event()
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew in a forked process: the thread is the parent's."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def all_answer(self) -> bool:
        """Whether no server is away, as far as is known."""
        nodes = self._topology.nodes
        for node in nodes:
            if node.breaker.open:
                return False
        return bool(nodes)

    @property
    def _is_done(self) -> bool:
        return self._owed_purges.empty and self._topology.is_current and self.all_answer

    def start(self) -> None:
        """Start the probe unless it runs or was stopped."""
        with self._lock:
            if not self._owed_purges.empty:
                _owing.add(self)
            if self._thread is None and not self.stopped.is_set():
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self),), name="maxage-recovery", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Stop the probe; `allow` permits it again."""
        self.stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(PROBE_TIMEOUT * 2)

    def allow(self) -> None:
        """Permit the probe, and start it if there is work for it."""
        self.stopped.clear()
        if not self._is_done:
            self.start()

    def probe(self) -> bool:
        """Try once; return whether the thread goes on."""
        if self.stopped.is_set() or self.attempt():
            with self._lock:
                # Under the lock: a purge that is owed from now on finds either this thread at work
                # or no thread.
                if self._owed_purges.empty:
                    _owing.discard(self)
                if self._is_done or self.stopped.is_set():
                    self._thread = None
                    return False
        return True

    def attempt(self) -> bool:
        """Learn the servers, reach each once, and make the purges owed to those that answer.

        Returns:
            Whether all of them answered.
        """
        try:
            self._topology.learn(PROBE_TIMEOUT)
        except (RedisError, OSError) as error:
            logger.debug("Redis is still away: %s", describe(error))
        nodes = self._topology.nodes
        met = [node for node in nodes if self._reached(node, self._meet)]
        # Only after all were met: a server of another history adds a purge of the namespace.
        paid = [node for node in met if self._reached(node, self._pay)]
        self._attempted()
        return 0 < len(nodes) == len(paid)

    def _reached(self, node: Node, use: Callable[[Node], None]) -> bool:
        """Use the server; return whether that succeeded."""
        try:
            use(node)
        except Exception as error:  # noqa: BLE001 - an invalid reply makes redis-py raise anything
            # The thread must survive it: only this thread closes the breaker.
            logger.debug("Redis is still away: %s", describe(error))
            if node.breaker.open:
                node.tell(error)
            return False
        return True

    def _meet(self, node: Node) -> None:
        """Check that the server works; owe a purge of the namespace if its history changed."""
        state: list[Command] = [("CLUSTER", "INFO")] if node.is_in_cluster else []
        asked: list[Command] = [INFO, ("PING",), *state]
        try:
            info, *answers = node.send(asked, PROBE_TIMEOUT)
        except RedisConnectionError:
            if not node.learn_without_info(PROBE_TIMEOUT):
                raise
            info, *answers = node.send(asked, PROBE_TIMEOUT)
        if node.changed(node.history_in(info)):
            self._owed_purges.add([NAMESPACE_GROUP])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if state and b"cluster_state:ok" not in answers[-1]:
            raise RedisError("the cluster is down")

    def _pay(self, node: Node) -> None:
        """Make the purges owed to the server, then let requests through to it."""
        owed, mark = self._owed_purges.snapshot()
        keys = {group: token_key(self._namespace, group) for group in owed}
        groups = [group for group, key in keys.items() if self._topology.node_for(key) is node]
        if groups:
            # Each attempt draws fresh tokens: a delayed write of an earlier attempt must never
            # bring back a token that a response was stored under.
            history = node.history or b""
            commands = [self._purge_command(keys[group], history)[0] for group in groups]
            for answer in node.send(commands, PROBE_TIMEOUT):
                if answer not in CONFIRMED:
                    error = answer if isinstance(answer, Exception) else RedisError("not written")
                    # A slot that has moved is found by the next attempt.
                    if not isinstance(error, MovedError):
                        self._tell_of_refusal(node, error)
                    raise error
            self._owed_purges.paid(groups, mark)
        if node.breaker.open:
            self._ask_as_requests(node)
        is_over = self.was_told and self._owed_purges.empty
        if is_over:
            self.was_told = self._refusal_was_told = False
        if node.breaker.open:
            node.breaker.close()
            logger.warning("Redis is available again: serving cached responses.")
        elif is_over:
            logger.warning("Redis has confirmed all purges: serving cached responses.")
        node.works()
        # The next requests get their whole budgets again.
        node.succeeded()

    def _ask_as_requests(self, node: Node) -> None:
        """Ask within their time, and what was refused: else they open the breaker again at once."""
        reads: list[Command] = [("TIME",), ("MGET", self._probed), ("HGETALL", self._probed)]
        within = min(self.answers_within, PROBE_TIMEOUT)
        # A program that uses `get_redis` alone may have fewer rights than the cache.
        asked = reads if node.refused else []
        for answer in node.send(asked, PROBE_TIMEOUT, ping_within=within):
            # What is said of the key's slot is nothing said of the node.
            if isinstance(answer, Exception) and not isinstance(
                answer, ClusterDownError | AskError
            ):
                raise answer

    def _tell_of_refusal(self, node: Node, error: Exception) -> None:
        """Tell the log once why a server that answers takes no purge: it is full, or a replica."""
        node.note(error)
        if not self._refusal_was_told:
            self._refusal_was_told = self.was_told = True
            logger.warning(
                "Redis refuses a purge (%s): serving uncached until it takes it; retrying every "
                "%s s.",
                describe(error),
                PROBE_INTERVAL,
            )


_owing: Final[set[Recovery]] = set()
"""Those that owe purges, which must not be forgotten with their stores."""


def _run(reference: "weakref.ref[Recovery]") -> None:
    """Probe, in a thread, until there is nothing to do or the store is garbage."""
    while (recovery := reference()) is not None and recovery.probe():
        stopped = recovery.stopped
        del recovery
        stopped.wait(PROBE_INTERVAL)
