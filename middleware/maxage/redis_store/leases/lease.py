"""The rules of leases: workers notice that another worker can no longer purge.

Each process that acknowledges writes has a record in a registry, one hash for a namespace: the end
of its lease, by the server's clock. It renews the lease only while it owes no purge. A worker with
a lapsed lease is a suspect: it may be acknowledging writes without purging, or may have died with
purges owed. A process that finds a suspect purges the namespace, and again once per lease until the
suspect is back or is given up.

A process that owes nothing and acknowledges nothing holds no lease: it may end or stand still at
any moment. So readers and scripts hold none, and a worker signs off some seconds after its last
mutating request, and takes a lease again before the answer of the next one leaves.

These are rules over values and a clock that is passed; `lease_manager` carries them out.
"""

import threading
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, Self, final

from msgspec import Struct
from msgspec.structs import replace

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.leases.process_identity import process_identity, surely_ended

LEASE_SECONDS: Final = 4.0
LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks. Lease and interval together bound the staleness of a lost purge."""
SUSPICION_SECONDS: Final = 60.0
"""Seconds after which a suspect that does not come back is given up."""
IDLE_SECONDS: Final = 5.0
"""Seconds for which a process holds its lease after its last mutating request."""
TOMBSTONE_SECONDS: Final = 600.0
"""Seconds for which the registry says that a worker signed off, or was given up."""

_MILLISECOND: Final = 0.001


class Standing(StrEnum):
    """The state of a worker in its record."""

    LEASED = "leased"
    SUSPECT = "suspect"
    LEFT = "left"


_LONGEST: Final = {
    Standing.LEASED: LEASE_SECONDS,
    Standing.SUSPECT: LEASE_SECONDS,
    Standing.LEFT: TOMBSTONE_SECONDS,
}


class Record(Struct, frozen=True, kw_only=True):
    """One worker's record in the registry."""

    standing: Standing
    due: int
    """The end of the lease, the time of a suspect's next purge, or the end of a tombstone, in
    milliseconds of the server's clock."""
    suspicion: int = 0
    """Milliseconds until a suspect is given up."""

    def encode(self) -> bytes:
        """Return the record's bytes in the registry."""
        return b"%b %d %d" % (self.standing.encode(), self.due, self.suspicion)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Return the record in these bytes; invalid bytes count as a lapsed lease."""
        try:
            standing, due, suspicion = value.decode("ascii").split(" ")
            return cls(standing=Standing(standing), due=int(due), suspicion=int(suspicion))
        except ValueError:
            return cls(standing=Standing.LEASED, due=0)

    def purged(self, server_now: int) -> "Record":
        """Return the next record of a lapsed lease or a suspect, after a purge of the namespace."""
        due = server_now + _milliseconds(LEASE_SECONDS)
        if self.standing == Standing.LEASED:
            suspicion = _milliseconds(SUSPICION_SECONDS)
            return Record(standing=Standing.SUSPECT, due=due, suspicion=suspicion)
        # The time since the last purge: one lease at most, in case the server's clock was set.
        since = server_now - self.due + _milliseconds(LEASE_SECONDS)
        suspicion = self.suspicion - max(0, min(since, _milliseconds(LEASE_SECONDS)))
        if suspicion > 0:
            return Record(standing=Standing.SUSPECT, due=due, suspicion=suspicion)
        return tombstone(server_now)


def lapsed(server_now: int) -> Record:
    """Return the record of a worker that owes purges and holds no lease: peers purge at once."""
    return Record(standing=Standing.LEASED, due=server_now)


def leased(server_now: int) -> Record:
    """Return the record of a worker that renews its lease."""
    return Record(standing=Standing.LEASED, due=server_now + _milliseconds(LEASE_SECONDS))


def tombstone(server_now: int) -> Record:
    """Return the record of a worker that signs off."""
    return Record(standing=Standing.LEFT, due=server_now + _milliseconds(TOMBSTONE_SECONDS))


class Findings(Struct, frozen=True, kw_only=True):
    """The result of a look at the registry: what has to be done."""

    purge: bool
    """Whether the namespace has to be purged before answers are trusted."""
    records: Mapping[str, Record]
    """Records of other workers to write after the purge is confirmed."""
    removed: tuple[str, ...]
    """Workers whose tombstones have ended."""


class _Peer(Struct, frozen=True):
    """The remembered record of another worker; the server may have lost it since."""

    record: Record
    due: float
    """The time of `Record.due` by the clock of this process."""


@final
class Lease:
    """This process's own lease, and the leases of its peers as far as it knows them.

    Peers are remembered: a record that was evicted, flushed or lost in a failover still counts, so
    its worker becomes a suspect unless it writes a new record.
    """

    def __init__(self, *, clock: Clock = monotonic_clock) -> None:
        self._clock: Final = clock
        self._lock = threading.Lock()
        self.identity = process_identity()
        self.looked_at: float | None = None
        """The time (monotonic) of the last look that was carried out; None: there was none."""
        self.is_on_record = False
        """Whether the registry may have a record of the identity that is no tombstone."""
        self.former: set[str] = set()
        """Identities that were given up, and whose tombstones are not confirmed."""
        self._signed_off_at = float("inf")
        """The time of the tombstone of the identity."""
        self._peers: dict[str, _Peer] = {}
        self.trusted_until = float("-inf")
        """The end (monotonic) of `trusts`."""
        self._valid_until = float("-inf")
        self._wanted_until = float("-inf")
        self._mutations = 0

    @property
    def trusts(self) -> bool:
        """Whether the last look at the registry is recent enough to trust hits.

        It is for one lease at most, and for at most one interval after the first lease of a peer
        lapses. The next look tells whether the peer renewed it.
        """
        return self._clock() < self.trusted_until

    def begin_mutation(self) -> None:
        """Count a mutating request; `end_mutation` follows when its purge is confirmed or owed."""
        with self._lock:
            self._mutations += 1

    @property
    def valid(self) -> bool:
        """Whether peers would notice if this process died now."""
        return self._clock() < self._valid_until

    @property
    def watched(self) -> bool:
        """Whether peers, if there are any, purge on behalf of this process while it cannot."""
        return self._clock() < self._valid_until + SUSPICION_SECONDS

    @property
    def idle(self) -> bool:
        """Whether no mutating request is under way."""
        return self._mutations == 0

    def end_mutation(self) -> None:
        """Stop counting a mutating request."""
        with self._lock:
            self._mutations -= 1
            self._wanted_until = self._clock() + IDLE_SECONDS

    @property
    def wanted(self) -> bool:
        """Whether this process acknowledges writes, or did so a moment ago."""
        return self._mutations > 0 or self._clock() < self._wanted_until

    def give_up(self) -> bool:
        """Hold the lease no longer, unless it is wanted; return whether it is given up.

        One step: a mutating request that begins afterwards does not find the lease valid.
        """
        with self._lock:
            if self.wanted:
                return False
            self._valid_until = float("-inf")
            return True

    def look(self, registry: Mapping[str, Record], *, server_now: int, asked_at: float) -> Findings:
        """Compare the registry with the remembered peers.

        Args:
            registry: the record of each worker.
            server_now: the server's clock at the read, in milliseconds.
            asked_at: the clock of this process before the read.
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
        """Return the next records of all suspects: one purge covers all of them."""
        return {
            name: tombstone(server_now) if surely_ended(name) else peer.record.purged(server_now)
            for name, peer in self._peers.items()
            if name in lapsed or peer.record.standing == Standing.SUSPECT
        }

    def _remember(self, registry: Mapping[str, Record], server_now: int, asked_at: float) -> None:
        for name, record in registry.items():
            known = self._peers.get(name)
            is_own = name == self.identity or name in self.former
            if not is_own and (known is None or known.record != record):
                # An unchanged record keeps its end: setting the server's clock back makes no lease
                # longer.
                left = (record.due - server_now) * _MILLISECOND
                due = asked_at + max(0.0, min(left, _LONGEST[record.standing]))
                self._peers[name] = _Peer(record, due)

    def miss(self, name: str, *, asked_at: float) -> None:
        """Note that a worker, or an epoch, vanished at an unknown time: its lease has lapsed."""
        self._peers[name] = _Peer(Record(standing=Standing.LEASED, due=0), asked_at)

    def missing(self, registry: Mapping[str, Record], *, server_now: int) -> dict[str, Record]:
        """Return the records of remembered peers that the registry has lost."""
        now = self._clock()
        return {
            name: replace(peer.record, due=server_now + _milliseconds(peer.due - now))
            for name, peer in self._peers.items()
            if name not in registry
        }

    @property
    def suspects(self) -> tuple[str, ...]:
        """The remembered peers that are suspects."""
        peers = self._peers.items()
        return tuple(name for name, peer in peers if peer.record.standing == Standing.SUSPECT)

    def follow(self, *, asked_at: float, seconds: float) -> None:
        """Trust hits for some seconds, as another process says that looked at all leases."""
        self.looked_at = asked_at
        self.forget()
        self.trusted_until = asked_at + min(seconds, LEASE_SECONDS)

    def forget(self) -> None:
        """Remember no peers, since leases are no longer looked at."""
        self._peers = {}

    def looked(self, findings: Findings, *, asked_at: float, server_now: int) -> None:
        """Note that the findings of a look were carried out: hits may be trusted again."""
        self.looked_at = asked_at
        self._remember(findings.records, server_now, asked_at)
        ends = [p.due for p in self._peers.values() if p.record.standing != Standing.LEFT]
        self.trusted_until = min(
            asked_at + LEASE_SECONDS, min(ends, default=asked_at + LEASE_SECONDS) + LOOK_INTERVAL
        )

    def sign_on(self) -> str:
        """Return the name under which a lease is written now.

        A tombstone that may be about to end is not taken back: a peer may be removing it.
        """
        is_old = self._clock() > self._signed_off_at + TOMBSTONE_SECONDS / 2
        if is_old and not self.is_on_record:
            self.identity = process_identity()
        self.is_on_record = True
        return self.identity

    def renewed(self, *, asked_at: float) -> None:
        """Note that the lease was renewed; it counts from before the server was asked."""
        self._valid_until = asked_at + LEASE_SECONDS

    def lapses(self, *, asked_at: float) -> None:
        """Note that the registry has a lapsed lease of this process."""
        self._valid_until = asked_at

    def retire(self) -> None:
        """Give up the identity until its tombstone is confirmed.

        A tombstone that was sent and not confirmed may arrive at any time. Under the same name it
        would hide a later lease.
        """
        self.former.add(self.identity)
        self.identity = process_identity()
        self.is_on_record = False

    def signed_off(self, names: Collection[str], *, asked_at: float) -> None:
        """Note that these former names have tombstones; the last one is used again.

        So a worker has one record however often it signs off.
        """
        self.former.difference_update(names)
        for name in names:
            if not self.is_on_record:
                self.identity, self._signed_off_at = name, asked_at

    def leave(self) -> None:
        """Trust no hits and give up the lease; the process takes part again under a new name."""
        self.trusted_until = self._valid_until = self._wanted_until = float("-inf")
        self._peers = {}
        if self.is_on_record:
            self.retire()

    def after_fork(self) -> None:
        """Start anew in a forked process: the lease is the parent's."""
        self._lock = threading.Lock()
        self._mutations = 0
        self._signed_off_at = float("inf")
        self.leave()
        self.identity = process_identity()
        self.former.clear()


def _is_over(name: str, peer: _Peer, now: float) -> bool:
    """Return whether the record has ended, or its worker has surely ended."""
    if peer.due <= now:
        return True
    if peer.record.standing == Standing.SUSPECT:
        return surely_ended(name)
    is_silent = peer.due - now < LEASE_SECONDS - 1.5 * LOOK_INTERVAL
    return peer.record.standing == Standing.LEASED and is_silent and surely_ended(name)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
