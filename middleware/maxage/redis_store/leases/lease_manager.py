"""What a process does about leases: look, purge after suspects, renew its own, sign off."""

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
from maxage.redis_store.servers.node import Node, describe
from maxage.redis_store.servers.sync_connections import SyncLink

LOOK_TIMEOUT: Final = 0.4
"""Seconds that each step of a look may take."""

logger = logging.getLogger("maxage")


@final
class LeaseManager:
    """Keeps the lease of this process, and looks after those of the others.

    Args:
        namespace: whose workers these are.
        survey: learns which servers there are, within so many seconds for each one asked.
        node_for: returns the server that a key lies on now; None: nobody knows.
        journal: what this process owes.
        pay: pays what is owed, all of it; returns whether that was confirmed.
        purge: purges the whole namespace; returns whether that was confirmed.
    """

    def __init__(
        self,
        namespace: str,
        *,
        survey: Callable[[float], None],
        node_for: Callable[[bytes], Node | None],
        owed_purges: OwedPurges,
        pay: Callable[[], bool],
        purge: Callable[[], bool],
        clock: Clock = monotonic_clock,
    ) -> None:
        self.lease: Final = Lease(clock=clock)
        self.heartbeat: Final = Heartbeat(self._look, self._leave)
        self._survey: Final = survey
        self._node_for: Final = node_for
        self._owed_purges: Final = owed_purges
        self._pay: Final = pay
        self._purge: Final = purge
        self._clock: Final = clock
        self._registry: Final = Registry(namespace, self._ask)
        self._pipelined: SyncLink | None = None

    def join(self) -> Future[bool]:
        """Take part from now on; return what comes of the first look."""
        return self.heartbeat.start()

    def sign_off(self) -> None:
        """Leave, so that nobody suspects this process; blocks for a second or so at most.

        A process that owes a purge, or is in the middle of a mutating request, leaves nothing but
        a lease that will lapse. Use begins all anew.
        """
        self.heartbeat.stop(LOOK_TIMEOUT * 3)

    def after_fork(self) -> None:
        """Begin anew in a forked process: thread, connections and lease are the parent's."""
        self._pipelined = None
        self.heartbeat.after_fork()
        self.lease.after_fork()

    def _look(self) -> bool:
        try:
            return self._look_once()
        except Exception as error:  # noqa: BLE001 - garbage makes redis-py raise anything
            if self._pipelined is not None:
                self._pipelined.node.failed(error)
            self._hang_up()
            return False

    def _look_once(self) -> bool:
        """Look at the peers' leases, purge after suspects, renew; return whether all went well."""
        self._survey(LOOK_TIMEOUT)
        asked_at = self._clock()
        seen = self._registry.read()
        if self._pipelined is None or not self._pipelined.node.is_still(seen.info):
            raise RedisConnectionError("another server history on an old connection")
        found = self.lease.look(seen.records, server_now=seen.server_now, asked_at=asked_at)
        if found.purge:
            logger.warning("A worker went away without signing off: the cache is emptied.")
            if not self._purge():
                return False
            self._registry.write(found.records)
        self.lease.looked(found, asked_at=asked_at, server_now=seen.server_now)
        return self._renew(found.removed, asked_at, seen.server_now)

    def _renew(self, removed: Iterable[str], asked_at: float, server_now: int) -> bool:
        """Renew the lease, but not while a purge is owed: the others must notice if it is lost."""
        if not self._owed_purges.empty:
            return False
        try:
            self._registry.write({self.lease.identity: leased(server_now)}, removed)
        except ResponseError as error:
            # A server that is full still serves what it has.
            logger.debug("The lease could not be renewed: %s", describe(error))
            return False
        self.lease.renewed(asked_at=asked_at)
        return True

    def _leave(self) -> None:
        """Sign off where nothing is owed and nothing under way; end what `_look` began."""
        identity, was_held = self.lease.identity, self.lease.held
        self.lease.leave()
        try:
            if was_held and self.lease.idle and (self._owed_purges.empty or self._pay()):
                now = self._registry.read().server_now
                if self.lease.idle and self._owed_purges.empty:
                    self._registry.write({identity: tombstone(now)})
        except Exception as error:  # noqa: BLE001 - garbage makes redis-py raise anything
            logger.debug("The lease is left to lapse: %s", describe(error))
        finally:
            self._hang_up()

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        node, pipelined = self._node_for(self._registry.key), self._pipelined
        if node is None:
            raise RedisConnectionError("nobody keeps the registry")
        if pipelined is None or pipelined.node is not node:
            self._hang_up()
            pipelined = self._pipelined = SyncLink(node, LOOK_TIMEOUT)
        return pipelined.exchange(lambda _: commands)

    def _hang_up(self) -> None:
        if self._pipelined is not None:
            self._pipelined.close()
            self._pipelined = None
