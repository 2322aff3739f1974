"""The lease manager of a process: looks at the leases, purges for suspects, renews, signs off.

All of this is done in one thread, the heartbeat, so that a sign-off and a renewal never overlap.
It looks once a second while the process is asked for something, less often when it is not, and not
at all after a while: then the next request waits for a look.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final, final

from msgspec.structs import replace
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.leases.heartbeat import Heartbeat
from maxage.redis_store.leases.lease import (
    LOOK_INTERVAL,
    Findings,
    Lease,
    Record,
    Standing,
    lapsed,
    leased,
    tombstone,
)
from maxage.redis_store.leases.pace import Pace
from maxage.redis_store.leases.process_identity import surely_ended
from maxage.redis_store.leases.registry import Glance, Registry
from maxage.redis_store.leases.watch import Watch, Watching, is_term
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
        self.heartbeat: Final = Heartbeat(
            self._beat, self._leave, must_go_on=self._is_on_record, hurries=self._hurries
        )
        self.pace: Final = Pace()
        self._topology: Final = topology
        self._owed_purges: Final = owed_purges
        self._pay: Final = pay
        self._purge: Final = purge
        self._clock: Final = clock
        self._watching: Final = Watching(clock=clock)
        self._registry: Final = Registry(namespace, self._send)
        self._pool: NodePool | None = None
        self._has_failed = False
        self._is_emptying = False
        """Whether the log was told of a purge for a peer that is not confirmed yet."""
        self._lock = threading.Lock()
        self._awaited: Future[bool] | None = None

    def join(self) -> Future[bool]:
        """Look at the leases from now on.

        Returns:
            The future result of the first look, or of the next one if the process rests.
        """
        self.pace.asked = True
        first = self.heartbeat.start()
        return self._next_look() if self.pace.rests and first.done() else first

    @property
    def lacks_lease(self) -> bool:
        """Whether a mutating request is under way, and no lease is held."""
        return not (self.lease.idle or self.lease.valid)

    def take(self) -> Future[bool] | None:
        """Take a lease, if a mutating request is under way and none is held.

        Returns:
            The future of whether peers will notice if this process cannot purge; None: there is
            nothing to wait for.
        """
        if not self.lacks_lease:
            return None
        node = self._topology.node_for(self._registry.key)
        if node is None or node.breaker.open:
            return None
        return self._next_look()

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
        self._awaited = None
        self.pace.rests = False
        self.heartbeat.after_fork()
        self.lease.after_fork()
        self._watching.leave()

    def _is_on_record(self) -> bool:
        return self.lease.is_on_record or bool(self.lease.former)

    def _next_look(self) -> Future[bool]:
        """Look at once; return the future of whether peers notice if this process cannot purge."""
        with self._lock:
            # One look serves all requests that began before it.
            awaited = self._awaited = self._awaited or _shared_future()
        self.heartbeat.start()
        self.heartbeat.wake()
        return awaited

    def _beat(self) -> bool:
        """Look, unless nothing has been asked for; return whether the look succeeded."""
        now = self._clock()
        if self.pace.beat(now, looked_at=self.lease.looked_at, must_look=self._must_look):
            self._has_failed = not self._look()
            return not self._has_failed
        if self.pace.is_asleep(now):
            self._rest()
        return True

    @property
    def _must_look(self) -> bool:
        """Whether a request waits for a look, the last one failed, or others rely on the next."""
        relied_on = self.lease.wanted or self._is_on_record() or not self._owed_purges.empty
        return relied_on or self._has_failed or self._awaited is not None

    def _hurries(self) -> bool:
        """Return whether the watch ends before the next look: its watcher is about to purge."""
        left = self.lease.trusted_until - self._clock()
        return not (self.pace.rests or self._watching.watches) and left < LOOK_INTERVAL

    def _rest(self) -> None:
        """Forget the leases: from now on they change unseen."""
        self._watching.rest()
        self.lease.forget()

    def _look(self) -> bool:
        # A request that begins later is not seen by this look: its future is the next one's.
        awaited = self._awaited
        try:
            succeeded = self._look_once()
        except Exception as error:  # noqa: BLE001 - an invalid reply makes redis-py raise anything
            if self._pool is not None:
                self._pool.node.failed(error)
            self._hang_up()
            return False
        else:
            if self._has_failed and self._pool is not None:
                # The failure of the last look is over: requests wait as long as ever.
                self._pool.node.succeeded()
            return succeeded
        finally:
            if awaited is not None:
                with self._lock:
                    self._awaited = None
                awaited.set_result(self.lease.watched)

    def _look_once(self) -> bool:
        """Look at the peers' leases, or at the watch in their place, and write the own record.

        Returns:
            Whether all succeeded.
        """
        self._topology.learn(LOOK_TIMEOUT)
        asked_at = self._clock()
        if self._owed_purges.empty and not self._watching.watches:
            seen = self._registry.glance()
            if self._followed(seen, asked_at):
                return self._written(seen.server_now, None, asked_at)
            asked_at = self._clock()
        return self._look_at_all(asked_at)

    def _followed(self, seen: Glance, asked_at: float) -> bool:
        """Let the watch stand for a look; return False where the process has to look itself."""
        watching, watch = self._watching, seen.watch
        if watch is None or self._pool is None:
            return False
        history, now = self._pool.node.history or b"", seen.server_now
        if not watching.accepts(watch, history, server_now=now, asked_at=asked_at):
            return False
        if any(name == self.lease.identity or surely_ended(name) for name in watch.suspects):
            return False
        if watching.term is not None and watching.epoch != watch.epoch:
            info, is_settled = self._registry.knows(watching.term)
            if not is_settled or not self._pool.node.is_still(info):
                return False
        watching.follow(watch)
        self.lease.follow(asked_at=asked_at, seconds=(watch.until - now) / 1000)
        return True

    def _look_at_all(self, asked_at: float) -> bool:
        """Purge for suspects, write the own record, and write the watch for the others."""
        lease, watching = self.lease, self._watching
        seen = self._registry.read()
        if self._pool is None or not self._pool.node.is_still(seen.info):
            raise RedisConnectionError("another server history on an old connection")
        history, now = self._pool.node.history or b"", seen.server_now
        watching.compare_clocks(server_now=now, asked_at=asked_at)
        lost = watching.lost(seen.watch, seen.records, history, now)
        if lost is not None:
            lease.miss(lost, asked_at=asked_at)
        findings = lease.look(seen.records, server_now=now, asked_at=asked_at)
        is_register = bool(findings.records) and all(map(is_term, findings.records))
        vouched = watching.vouched(seen.watch, seen.records, history, now)
        if vouched:
            vouched = {**lease.missing(seen.records, server_now=now), **findings.records, **vouched}
            findings = replace(findings, records=vouched)
        if not self._carried_out(findings, is_register=is_register):
            return False
        lease.looked(findings, asked_at=asked_at, server_now=now)
        trusted_for = lease.trusted_until - asked_at
        watch = watching.next_watch(
            seen.watch, history, lease.suspects, server_now=now, trusted_for=trusted_for
        )
        found = seen.records.get(lease.identity)
        if not self._written(now, found, asked_at, removed=findings.removed, watch=watch):
            return False
        watching.looked(seen.watch, watch)
        return True

    def _carried_out(self, findings: Findings, *, is_register: bool) -> bool:
        """Purge if the findings ask for it, then write their records; return whether it is done.

        `is_register`: all suspects stand for a register that was lost.
        """
        watching = self._watching
        is_doubtful = watching.doubts and watching.remembered is None
        must_purge = findings.purge or is_doubtful
        if must_purge and not self._is_emptying:
            logger.warning(
                "%s: the cache is emptied, since a worker may owe purges; this ends when it is "
                "back, or within a minute.",
                "Redis lost the register of workers, and the one that knew them is not back yet"
                if is_register
                else "A worker was killed, or could not renew its lease in Redis"
                if findings.purge
                else "The clock of Redis was set back",
            )
        self._is_emptying = must_purge and not self._purge()
        if self._is_emptying:
            return False
        if findings.records:
            self._registry.write(findings.records)
        watching.doubts = False
        return True

    def _written(
        self,
        now: int,
        found: Record | None,
        asked_at: float,
        *,
        removed: Iterable[str] = (),
        watch: Watch | None = None,
    ) -> bool:
        """Renew the lease if it is wanted, else sign off; return whether nothing is owed.

        While a purge is owed neither the lease is renewed nor the watch: peers must notice if that
        purge is lost. False too where the server is full, which still answers reads.

        Args:
            now: the server's clock, in milliseconds.
            found: the own record in the registry.
            asked_at: the clock of this process before the look.
            removed: workers whose tombstones have ended.
            watch: what this process found at all leases, for the others.
        """
        lease = self.lease
        try:
            if not self._owed_purges.empty:
                if lease.wanted and not (lease.is_on_record and found):
                    self._registry.write({lease.sign_on(): lapsed(now)})
                    lease.lapses(asked_at=asked_at)
                return False
            was_valid, is_given_up, own = lease.valid, lease.give_up(), {}
            if not is_given_up:
                own = {lease.sign_on(): leased(now)}
            elif lease.is_on_record or (found and found.standing != Standing.LEFT):
                lease.retire()
            former = tuple(lease.former)
            begins = (own and not was_valid) or (watch is not None and watch.began == watch.looked)
            records = {**own, **dict.fromkeys(former, tombstone(now))}
            self._registry.write(records, removed, watch=watch, extends=bool(begins))
            lease.signed_off(former, asked_at=asked_at)
            if not is_given_up:
                lease.renewed(asked_at=asked_at)
        except ResponseError as error:
            logger.debug("The lease could not be written: %s", describe(error))
            return False
        return True

    def _leave(self) -> None:
        """Sign off if no purge is owed and no mutating request is under way; disconnect."""
        lease, was_valid = self.lease, self.lease.valid
        lease.leave()
        self._watching.leave()
        self.pace.rests = False
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
