"""The lease manager of a process: looks at the leases, purges for suspects, renews, signs off.

All of this is done in one thread, the heartbeat, so that a sign-off and a renewal never overlap.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final, final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.leases.heartbeat import Heartbeat
from maxage.redis_store.leases.lease import Lease, Standing, lapsed, leased, tombstone
from maxage.redis_store.leases.registry import Reading, Registry
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
        self.heartbeat: Final = Heartbeat(self._look, self._leave, must_go_on=self._is_on_record)
        self._topology: Final = topology
        self._owed_purges: Final = owed_purges
        self._pay: Final = pay
        self._purge: Final = purge
        self._clock: Final = clock
        self._registry: Final = Registry(namespace, self._send)
        self._pool: NodePool | None = None
        self._lock = threading.Lock()
        self._taking: Future[bool] | None = None

    def join(self) -> Future[bool]:
        """Look at the leases from now on; return the future result of the first look."""
        return self.heartbeat.start()

    def take(self) -> Future[bool] | None:
        """Take a lease, if a mutating request is under way and none is held.

        Returns:
            The future of whether peers will notice if this process cannot purge; None: there is
            nothing to wait for.
        """
        if self.lease.idle or self.lease.valid:
            return None
        node = self._topology.node_for(self._registry.key)
        if node is None or node.breaker.open:
            return None
        with self._lock:
            # One look serves all requests that began before it.
            taking = self._taking = self._taking or _shared_future()
        self.heartbeat.start()
        self.heartbeat.wake()
        return taking

    def sign_off(self) -> None:
        """Leave without becoming a suspect; blocks for about a second at most.

        A process that holds a lease and owes a purge, or has a mutating request under way, leaves
        only the lease, which will lapse. Use takes part again.
        """
        self.heartbeat.stop(LOOK_TIMEOUT * 3)

    def after_fork(self) -> None:
        """Start anew in a forked process: thread, connections and lease are the parent's."""
        self._pool = None
        self._lock = threading.Lock()
        self._taking = None
        self.heartbeat.after_fork()
        self.lease.after_fork()

    def _is_on_record(self) -> bool:
        return self.lease.is_on_record or bool(self.lease.former)

    def _look(self) -> bool:
        # A request that begins later is not seen by this look: its future is the next one's.
        taking = self._taking
        try:
            return self._look_once()
        except Exception as error:  # noqa: BLE001 - an invalid reply makes redis-py raise anything
            if self._pool is not None:
                self._pool.node.failed(error)
            self._hang_up()
            return False
        finally:
            if taking is not None:
                with self._lock:
                    self._taking = None
                taking.set_result(self.lease.watched)

    def _look_once(self) -> bool:
        """Look at the peers' leases, purge for suspects, write the own record.

        Returns:
            Whether all succeeded.
        """
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
        try:
            return self._write_own(seen, findings.removed, asked_at)
        except ResponseError as error:
            # A server that is full still answers reads.
            logger.debug("The lease could not be written: %s", describe(error))
            return False

    def _write_own(self, seen: Reading, removed: Iterable[str], asked_at: float) -> bool:
        """Renew the lease if it is wanted, else sign off; return whether nothing is owed.

        While a purge is owed the lease is not renewed: peers must notice if that purge is lost.
        """
        lease, now = self.lease, seen.server_now
        found = seen.records.get(lease.identity)
        if not self._owed_purges.empty:
            if lease.wanted and not (lease.is_on_record and found):
                self._registry.write({lease.sign_on(): lapsed(now)})
                lease.lapses(asked_at=asked_at)
            return False
        is_given_up, own = lease.give_up(), {}
        if not is_given_up:
            own = {lease.sign_on(): leased(now)}
        elif lease.is_on_record or (found and found.standing != Standing.LEFT):
            lease.retire()
        former = tuple(lease.former)
        self._registry.write({**own, **dict.fromkeys(former, tombstone(now))}, removed)
        lease.signed_off(former, asked_at=asked_at)
        if not is_given_up:
            lease.renewed(asked_at=asked_at)
        return True

    def _leave(self) -> None:
        """Sign off if no purge is owed and no mutating request is under way; disconnect."""
        lease, was_valid = self.lease, self.lease.valid
        lease.leave()
        try:
            if lease.idle and (self._owed_purges.empty or (was_valid and self._pay())):
                asked_at, names = self._clock(), tuple(lease.former)
                now = self._registry.read().server_now if names else 0
                if names and lease.idle and self._owed_purges.empty:
                    self._registry.write(dict.fromkeys(names, tombstone(now)))
                    lease.signed_off(names, asked_at=asked_at)
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


def _shared_future() -> Future[bool]:
    """Return a future that one caller's cancellation does not cancel for the others."""
    future: Future[bool] = Future()
    future.set_running_or_notify_cancel()
    return future
