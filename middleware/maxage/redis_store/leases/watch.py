"""The watch: one process looks at all leases, and the others read what it found.

A look at the whole registry costs more with each worker that holds a lease. So one process, the
watcher, makes it for all: once a second it writes the watch beside the leases. All others read the
watch alone, and trust their answers for as long as it says. The watch is old after two looks: the
process that notices it first looks at all leases itself and is the watcher from then on.

The watch names the registry's epoch, which ends when the registry is lost: by an eviction, a
flush, a restart, or a failover, which may lose the last records. Only the watcher remembers the
leases that such a loss hides. All others remember the term, which is the epoch and its watcher, as
if it were a worker: if its epoch ended and the watcher does not vouch for the term, a worker may be
missing, and the term is a suspect.

These are rules over values and a clock that is passed; `lease_manager` carries them out.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from secrets import token_hex
from typing import Final, Self, final

from msgspec import Struct

from maxage.clock import Clock, monotonic_clock
from maxage.redis_store.leases.lease import (
    LEASE_SECONDS,
    LOOK_INTERVAL,
    SUSPICION_SECONDS,
    Record,
    Standing,
    tombstone,
)

WATCH_SECONDS: Final = 2 * LOOK_INTERVAL
"""Age of a watch from which on another process takes it over."""
MOST_SUSPECTS: Final = 16
"""Suspects that a watch names. A suspect that it does not name is one for longer, at most."""

_UNCERTAIN_SECONDS: Final = 0.05
_UNCERTAIN_SHARE: Final = 0.001
"""By how much the server's clock may run slow without counting as set back."""


class Watch(Struct, frozen=True, kw_only=True):
    """The result of a look at all leases. Times are milliseconds of the server's clock."""

    epoch: str
    """The name of the registry: the server's history, and a random part."""
    began: int
    """When the epoch began."""
    watcher: str
    looked: int
    """When the watcher looked."""
    until: int
    """Until when answers may be trusted, as far as the leases that it saw are concerned."""
    suspects: tuple[str, ...] = ()

    @property
    def term(self) -> str:
        """The name of the time in which this watcher watches this epoch."""
        return f"{self.epoch}:{self.watcher}"

    def encode(self) -> bytes:
        """Return the watch's bytes in the registry."""
        numbers = f"{self.began} {self.looked} {self.until}"
        return " ".join((self.epoch, self.watcher, numbers, *self.suspects)).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self | None:
        """Return the watch in these bytes; None: it is none."""
        try:
            epoch, watcher, began, looked, until, *suspects = value.decode("ascii").split(" ")
            times = {"began": int(began), "looked": int(looked), "until": int(until)}
        except ValueError:
            return None
        return cls(epoch=epoch, watcher=watcher, suspects=tuple(suspects), **times)

    def is_of(self, history: bytes) -> bool:
        """Return whether the watcher met the server under this history."""
        return self.epoch.rpartition("-")[0].encode() == history

    def is_fresh(self, server_now: int) -> bool:
        """Return whether its watcher is at work, and answers may be trusted."""
        age = server_now - self.looked
        return 0 <= age <= WATCH_SECONDS * 1000 and server_now < self.until


def is_term(name: str) -> bool:
    """Return whether the name of a suspect is that of a term, and not of a worker."""
    return ":" in name


@final
class Watching:
    """What this process knows of the watch and of the registry's epoch.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Clock = monotonic_clock) -> None:
        self._clock: Final = clock
        self.leave()

    def leave(self) -> None:
        """Know nothing, as a process that has just started."""
        self.watcher = token_hex(6)
        """The name of this process in its watches."""
        self.epoch: str | None = None
        """The last known epoch; None: none was met."""
        self.term: str | None = None
        """The term of the last known watch."""
        self.rest()

    def rest(self) -> None:
        """Stop looking: a lease may begin unseen."""
        self.watches = False
        """Whether the last watch was written by this process."""
        self.remembered: str | None = None
        """The own term, while this process remembers all leases that began in it."""
        self.doubts = False
        """Whether the server's clock was set back since leases were seen."""
        self._last: tuple[float, int] | None = None
        """The clock of this process after the last look, and the server's during it."""

    def accepts(self, watch: Watch, history: bytes, *, server_now: int, asked_at: float) -> bool:
        """Return whether the watch may stand for a look of this process.

        Args:
            watch: the watch as it was read.
            history: the server's history, as it was met.
            server_now: the server's clock after the watch was read, in milliseconds.
            asked_at: the clock of this process before it was read.
        """
        self.compare_clocks(server_now=server_now, asked_at=asked_at)
        is_own = watch.watcher == self.watcher
        return (
            not self.doubts and not is_own and watch.is_of(history) and watch.is_fresh(server_now)
        )

    def compare_clocks(self, *, server_now: int, asked_at: float) -> None:
        """Note whether the server's clock was set back since the last look, or that was long ago.

        The ends of leases in the registry are then too late. A process that remembers all of them
        has their ends by its own clock; any other one has to purge.
        """
        last, self._last = self._last, (self._clock(), server_now)
        if last is not None:
            elapsed = asked_at - last[0]
            least = elapsed - _UNCERTAIN_SECONDS - _UNCERTAIN_SHARE * abs(elapsed)
            self.doubts = self.doubts or server_now - last[1] < least * 1000
            self._note_pause(elapsed)

    def _note_pause(self, seconds: float) -> None:
        """Remember not all leases after a long pause: one may have begun and been lost in it."""
        if seconds > WATCH_SECONDS:
            self.remembered = None

    def follow(self, watch: Watch) -> None:
        """Note that the watch stands for a look of this process."""
        self.watches, self.remembered = False, None
        self.epoch, self.term = watch.epoch, watch.term

    def lost(
        self, watch: Watch | None, registry: Mapping[str, Record], history: bytes, server_now: int
    ) -> str | None:
        """Return the term whose epoch ended, with leases that are not remembered; None: none did.

        After a lease and a suspicion it does not matter any more: each worker that was on record in
        it is given up.
        """
        if self.term is None or self.remembered == self.term or self.term in registry:
            return None
        if watch is None or not watch.is_of(history):
            return self.term
        age = server_now - watch.began
        is_recent = age < (LEASE_SECONDS + SUSPICION_SECONDS) * 1000
        return self.term if is_recent and watch.epoch != self.epoch else None

    def vouched(
        self, watch: Watch | None, registry: Mapping[str, Record], history: bytes, server_now: int
    ) -> dict[str, Record]:
        """Return the tombstone of the own term if its epoch ended: all leases are remembered.

        The caller writes it together with the leases that the new epoch has not.
        """
        known = self.term
        if known is None or self.remembered != known:
            return {}
        if watch is not None and watch.is_of(history) and watch.epoch == self.epoch:
            return {}
        found = registry.get(known)
        is_settled = found is not None and found.standing == Standing.LEFT
        return {} if is_settled else {known: tombstone(server_now)}

    def next_watch(
        self,
        found: Watch | None,
        history: bytes,
        suspects: Iterable[str],
        *,
        server_now: int,
        trusted_for: float,
    ) -> Watch | None:
        """Return the watch to write after a look at all leases; None: another process watches.

        Args:
            found: the watch that was found.
            history: the server's history.
            suspects: the workers that are suspects after the look.
            server_now: the server's clock at the look, in milliseconds.
            trusted_for: seconds from the look for which answers may be trusted.
        """
        if found is not None and not found.is_of(history):
            found = None
        if found is not None and found.watcher != self.watcher and found.is_fresh(server_now):
            return None
        epoch, began = f"{history.decode()}-{token_hex(6)}", server_now
        if found is not None:
            epoch, began = found.epoch, found.began
        until = server_now + int(min(trusted_for, LEASE_SECONDS) * 1000)
        return Watch(
            epoch=epoch,
            began=began,
            watcher=self.watcher,
            looked=server_now,
            until=until,
            suspects=tuple(islice(suspects, MOST_SUSPECTS)),
        )

    def looked(self, found: Watch | None, written: Watch | None) -> None:
        """Note which watch was found, and which was written, after a look at all leases."""
        self.watches = written is not None
        current = written or found
        if current is not None:
            self.epoch, self.term = current.epoch, current.term
        self.remembered = written.term if written is not None else None
