"""The lease manager of a process: looks at the leases, purges for suspects, renews, signs off."""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final, final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.leases.heartbeat import Heartbeat
from maxage.redis_store.leases.lease import Lease, leased, tombstone
from maxage.redis_store.leases.registry import Registry
from maxage.redis_store.owed_purges import OwedPurges
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.node import describe
from maxage.redis_store.servers.sync_connections import NodePool
from maxage.redis_store.servers.topology import Topology

LOOK_TIMEOUT: Final = 0.4
"""Seconds that each step of a look may take."""

logger = logging.getLogger("maxage")


@final
class LeaseManager:
    """Renews the lease of this process, and purges for peers whose leases lapsed.

    Args:
        namespace: the workers' namespace.
        topology: the servers.
        owed_purges: the purges that this process owes.
        pay: makes all owed purges; returns whether they were confirmed.
        purge: purges the whole namespace; returns whether that was confirmed.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        namespace: str,
        *,
        topology: Topology,
        owed_purges: OwedPurges,
        pay: Callable[[], bool],
        purge: Callable[[], bool],
        clock: Clock = monotonic_clock,
    ) -> None:
        self.lease: Final = Lease(clock=clock)
        self.heartbeat: Final = Heartbeat(self._look, self._leave)
        self._topology: Final = topology
        self._owed_purges: Final = owed_purges
        self._pay: Final = pay
        self._purge: Final = purge
        self._clock: Final = clock
        self._registry: Final = Registry(namespace, self._send)
        self._pool: NodePool | None = None

    def join(self) -> Future[bool]:
        """Take part from now on; return the future result of the first look."""
        return self.heartbeat.start()

    def sign_off(self) -> None:
        """Leave without becoming a suspect; blocks for about a second at most.

        A process that owes a purge, or has a mutating request under way, leaves only a lease that
        will lapse. Use takes part again.
        """
        self.heartbeat.stop(LOOK_TIMEOUT * 3)

    def after_fork(self) -> None:
        """Start anew in a forked process: thread, connections and lease are the parent's."""
        self._pool = None
        self.heartbeat.after_fork()
        self.lease.after_fork()

    def _look(self) -> bool:
        try:
            return self._look_once()
        except Exception as error:  # noqa: BLE001 - an invalid reply makes redis-py raise anything
            if self._pool is not None:
                self._pool.node.failed(error)
            self._hang_up()
            return False

    def _look_once(self) -> bool:
        """Look at the peers' leases, purge for suspects, renew; return whether all succeeded."""
        self._topology.learn(LOOK_TIMEOUT)
        asked_at = self._clock()
        seen = self._registry.read()
        if self._pool is None or not self._pool.node.is_still(seen.info):
            raise RedisConnectionError("another server history on an old connection")
        findings = self.lease.look(seen.records, server_now=seen.server_now, asked_at=asked_at)
        if findings.purge:
            logger.warning(
                "A worker vanished without signing off: the cache is emptied, since the worker may "
                "owe purges; this ends when it is back, or within a minute."
            )
            if not self._purge():
                return False
            self._registry.write(findings.records)
        self.lease.looked(findings, asked_at=asked_at, server_now=seen.server_now)
        return self._renew(findings.removed, asked_at, seen.server_now)

    def _renew(self, removed: Iterable[str], asked_at: float, server_now: int) -> bool:
        """Renew the lease, unless a purge is owed: peers must notice if that purge is lost."""
        if not self._owed_purges.empty:
            return False
        try:
            self._registry.write({self.lease.identity: leased(server_now)}, removed)
        except ResponseError as error:
            # A server that is full still answers reads.
            logger.debug("The lease could not be renewed: %s", describe(error))
            return False
        self.lease.renewed(asked_at=asked_at)
        return True

    def _leave(self) -> None:
        """Sign off if no purge is owed and no mutating request is under way; disconnect."""
        identity, was_valid = self.lease.identity, self.lease.valid
        self.lease.leave()
        try:
            if was_valid and self.lease.idle and (self._owed_purges.empty or self._pay()):
                now = self._registry.read().server_now
                if self.lease.idle and self._owed_purges.empty:
                    self._registry.write({identity: tombstone(now)})
        except Exception as error:  # noqa: BLE001 - an invalid reply makes redis-py raise anything
            logger.debug("The lease is left to lapse: %s", describe(error))
        finally:
            self._hang_up()

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        node, pool = self._topology.node_for(self._registry.key), self._pool
        if node is None:
            raise RedisConnectionError("no known server stores the registry")
        if pool is None or pool.node is not node:
            self._hang_up()
            pool = self._pool = NodePool(node, LOOK_TIMEOUT)
        return pool.send(lambda _: commands)

    def _hang_up(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
