"""Leases: how workers notice that another one can no longer purge (design section 5).

Every process that may acknowledge writes keeps a record in a registry, one hash for a namespace:
until when, by the server's clock, its lease runs. It renews the lease only while it owes no purge.
Who looks at the registry and finds a lease that has lapsed takes its owner for a suspect, who may
be acknowledging writes whose purges nobody sees, or may have died with such purges unpaid: the
namespace is purged, and again once per lease until the suspect is back or is given up.

Here are the rules, over values and a clock that is passed; `lease_manager` carries them out.
"""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, final

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.leases.process_identity import process_identity, surely_ended

LEASE_SECONDS: Final = 4.0
LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks; with the lease, the bound on what a lost purge leaves stale."""
SUSPICION_SECONDS: Final = 60.0
"""Seconds for which a suspect that does not come back is purged after."""
TOMBSTONE_SECONDS: Final = 600.0
"""Seconds for which it can be read that a worker left in good order, or was given up."""

_MILLISECOND: Final = 0.001


class Standing(StrEnum):
    """What a record says about its worker."""

    LEASED = "leased"
    SUSPECT = "suspect"
    LEFT = "left"


_LONGEST: Final = {
    Standing.LEASED: LEASE_SECONDS,
    Standing.SUSPECT: LEASE_SECONDS,
    Standing.LEFT: TOMBSTONE_SECONDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One worker's line in the registry."""

    standing: Standing
    due: int
    """When the lease lapses, the suspect's next purge is due, or the tombstone may be removed:
    milliseconds of the server's clock."""
    suspicion: int = 0
    """For how many milliseconds more a suspect is purged after."""

    def encode(self) -> bytes:
        """Return the record as it lies in the registry."""
        return b"%b %d %d" % (self.standing.encode(), self.due, self.suspicion)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Return the record that was encoded; what is none counts as a lease that has lapsed."""
        try:
            standing, due, suspicion = value.decode("ascii").split(" ")
            return cls(standing=Standing(standing), due=int(due), suspicion=int(suspicion))
        except ValueError:
            return cls(standing=Standing.LEASED, due=0)

    def purged(self, server_now: int) -> "Record":
        """Return what becomes of a lapsed lease, or a suspect, once the namespace is purged."""
        due = server_now + _milliseconds(LEASE_SECONDS)
        if self.standing == Standing.LEASED:
            suspicion = _milliseconds(SUSPICION_SECONDS)
            return Record(standing=Standing.SUSPECT, due=due, suspicion=suspicion)
        # The time since the last purge; a clock that was set counts as one lease at most.
        since = server_now - self.due + _milliseconds(LEASE_SECONDS)
        suspicion = self.suspicion - max(0, min(since, _milliseconds(LEASE_SECONDS)))
        if suspicion > 0:
            return Record(standing=Standing.SUSPECT, due=due, suspicion=suspicion)
        return tombstone(server_now)


def leased(server_now: int) -> Record:
    """Return the record of a worker that renews its lease."""
    return Record(standing=Standing.LEASED, due=server_now + _milliseconds(LEASE_SECONDS))


def tombstone(server_now: int) -> Record:
    """Return the record of a worker that leaves in good order."""
    return Record(standing=Standing.LEFT, due=server_now + _milliseconds(TOMBSTONE_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a look at the registry asks for."""

    purge: bool
    """Whether the namespace is to be purged before anything that was read is trusted."""
    records: Mapping[str, Record]
    """What to write about other workers, after that purge was confirmed."""
    removed: tuple[str, ...]
    """Workers whose tombstones have served their time."""


@dataclass(frozen=True, slots=True)
class _Peer:
    """Another worker, as it is remembered; its record may since have vanished from the server."""

    record: Record
    due: float
    """The moment of `Record.due` by the clock of this process."""


@final
class Lease:
    """What this process knows of its own lease and of its peers.

    Peers are remembered: a record that was evicted, flushed or lost with a failover goes on
    counting as it was, so that its worker is suspected unless it writes it anew.
    """

    def __init__(self, *, clock: Clock = monotonic_clock) -> None:
        self._clock: Final = clock
        self._lock = threading.Lock()
        self.identity = process_identity()
        self._peers: dict[str, _Peer] = {}
        self._trusted_until = float("-inf")
        self._held_until = float("-inf")
        self._mutations = 0

    @property
    def trusts(self) -> bool:
        """Whether a look at the registry is so new that hits may be trusted.

        That is no longer than a lease, and no longer than one interval after the first of the
        peers' leases lapses unless it was looked whether it has been renewed.
        """
        return self._clock() < self._trusted_until

    @property
    def trusted_until(self) -> float:
        """Until when (monotonic) `trusts` stays true, unless something happens before."""
        return self._trusted_until

    @property
    def held(self) -> bool:
        """Whether peers would notice if this process went away now."""
        return self._clock() < self._held_until

    @property
    def watched(self) -> bool:
        """Whether peers, if there are any, purge after this process while it cannot."""
        return self._clock() < self._held_until + SUSPICION_SECONDS

    @property
    def idle(self) -> bool:
        """Whether no mutating request is under way."""
        return self._mutations == 0

    def begin_mutation(self) -> None:
        """Count a mutating request; `end_mutation` follows when its purge is done or owed."""
        with self._lock:
            self._mutations += 1

    def end_mutation(self) -> None:
        """Count a mutating request no longer."""
        with self._lock:
            self._mutations -= 1

    def look(self, registry: Mapping[str, Record], *, server_now: int, asked_at: float) -> Findings:
        """Compare the registry with what is remembered of the peers.

        Args:
            registry: the record of each worker.
            server_now: the server's clock when it was read, in milliseconds.
            asked_at: the clock of this process when it was asked for.
        """
        self._remember(registry, server_now, asked_at)
        over = {n: p.record for n, p in self._peers.items() if _is_over(n, p, asked_at)}
        left = tuple(n for n, record in over.items() if record.standing == Standing.LEFT)
        lapsed = over.keys() - set(left)
        for name in left:
            del self._peers[name]
        return Findings(
            purge=bool(lapsed),
            records=self._after_purge(lapsed, server_now) if lapsed else {},
            removed=left,
        )

    def _after_purge(self, lapsed: Collection[str], server_now: int) -> dict[str, Record]:
        """Return what to write about all suspects: one purge serves them all."""
        return {
            name: tombstone(server_now) if surely_ended(name) else peer.record.purged(server_now)
            for name, peer in self._peers.items()
            if name in lapsed or peer.record.standing == Standing.SUSPECT
        }

    def _remember(self, registry: Mapping[str, Record], server_now: int, asked_at: float) -> None:
        for name, record in registry.items():
            known = self._peers.get(name)
            if name != self.identity and (known is None or known.record != record):
                # A record that does not change is not looked at again: a server whose clock is set
                # back does not make a lease longer.
                left = (record.due - server_now) * _MILLISECOND
                due = asked_at + max(0.0, min(left, _LONGEST[record.standing]))
                self._peers[name] = _Peer(record, due)

    def looked(self, findings: Findings, *, asked_at: float, server_now: int) -> None:
        """Note that what a look asked for was done: hits may be trusted again."""
        self._remember(findings.records, server_now, asked_at)
        ends = [p.due for p in self._peers.values() if p.record.standing != Standing.LEFT]
        self._trusted_until = min(
            asked_at + LEASE_SECONDS, min(ends, default=asked_at + LEASE_SECONDS) + LOOK_INTERVAL
        )

    def renewed(self, *, asked_at: float) -> None:
        """Note that the lease was renewed, its time counted from before the server was asked."""
        self._held_until = asked_at + LEASE_SECONDS

    def leave(self) -> None:
        """Trust nothing and hold nothing until the process takes part again, as another one."""
        self._trusted_until = self._held_until = float("-inf")
        self._peers = {}
        self.identity = process_identity()

    def after_fork(self) -> None:
        """Begin anew in a process that was forked: the lease is the parent's."""
        self._lock = threading.Lock()
        self._mutations = 0
        self.leave()


def _is_over(name: str, peer: _Peer, now: float) -> bool:
    """Return whether the time of the record is over, or its worker has surely ended."""
    if peer.due <= now:
        return True
    is_silent = peer.due - now < LEASE_SECONDS - 1.5 * LOOK_INTERVAL
    return peer.record.standing == Standing.LEASED and is_silent and surely_ended(name)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
