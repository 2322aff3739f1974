"""Leases: who is a suspect, how long, and what a process may trust, over values and a clock."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.redis_store.leases.lease import (
    IDLE_SECONDS,
    LEASE_SECONDS,
    LOOK_INTERVAL,
    SUSPICION_SECONDS,
    TOMBSTONE_SECONDS,
    Findings,
    Lease,
    Record,
    Standing,
    leased,
    tombstone,
)
from maxage.redis_store.leases.process_identity import process_identity, surely_ended
from tests.support.clock import ManualClock

NOW = 1_700_000_000_000
"""The server's clock when a test begins, in milliseconds."""


class Looking:
    """A process that looks at a registry, with its own clock and the server's."""

    def __init__(self) -> None:
        self.clock = ManualClock(50.0)
        self.lease = Lease(clock=self.clock)
        self.server_now = NOW

    def advance(self, seconds: float) -> None:
        """Let time pass for all processes."""
        self.clock.advance(seconds)
        self.server_now += round(seconds * 1000)

    def look(self, registry: Mapping[str, Record], *, done: bool = True) -> Findings:
        """Look; `done`: what the look asked for was done."""
        asked_at = self.clock()
        found = self.lease.look(registry, server_now=self.server_now, asked_at=asked_at)
        if done:
            self.lease.looked(found, asked_at=asked_at, server_now=self.server_now)
        return found


@pytest.fixture
def me() -> Looking:
    """The process under test."""
    return Looking()


def suspect(*, due: int, suspicion: float = SUSPICION_SECONDS) -> Record:
    return Record(standing=Standing.SUSPECT, due=due, suspicion=round(suspicion * 1000))


def test_a_lease_that_runs_asks_for_nothing(me: Looking) -> None:
    """The usual case, until the moment before it lapses."""
    registry = {"a": leased(NOW)}
    assert me.look(registry) == Findings(purge=False, records={}, removed=())
    me.advance(LEASE_SECONDS - 0.001)
    assert not me.look(registry).purge


def test_a_lease_that_lapsed_makes_a_suspect(me: Looking) -> None:
    """The namespace is purged, and the suspicion is written where all see it."""
    me.look({"a": leased(NOW)})
    me.advance(LEASE_SECONDS)
    found = me.look({"a": leased(NOW)})
    assert found.purge
    assert found.records == {"a": suspect(due=me.server_now + 4000)}


def test_a_process_that_has_just_started_knows_a_lapsed_lease_by_the_servers_clock(
    me: Looking,
) -> None:
    """It has seen no peer yet, and must not wait a lease before it suspects."""
    assert me.look({"a": leased(NOW - 4000)}).purge
    assert not Looking().look({"a": leased(NOW - 3999)}).purge


def test_a_suspect_is_purged_after_once_per_lease_by_the_peer_that_looks_first(me: Looking) -> None:
    """What one process has done need not be done again by all the others."""
    registry = {"a": suspect(due=NOW + 4000)}
    assert not me.look(registry).purge
    me.advance(3.9)
    assert not me.look(registry).purge
    me.advance(0.1)
    found = me.look(registry)
    assert found.purge
    assert found.records["a"].due == me.server_now + 4000
    assert found.records["a"].suspicion == round(SUSPICION_SECONDS * 1000) - 4000


def test_a_suspect_that_does_not_come_back_is_given_up_with_one_more_purge(me: Looking) -> None:
    """So that a dead worker does not cost the cache for ever."""
    registry = {"a": leased(NOW - 4000)}
    purges = 0
    while registry["a"].standing != Standing.LEFT:
        found = me.look(registry)
        purges += found.purge
        registry.update(found.records)
        me.advance(LOOK_INTERVAL)
    assert purges == 1 + SUSPICION_SECONDS / LEASE_SECONDS
    assert me.server_now - NOW == pytest.approx(1000 * (SUSPICION_SECONDS + 1))


def test_a_suspect_that_renews_its_lease_is_none_any_more(me: Looking) -> None:
    """It has paid what it owed before it renewed."""
    me.look({"a": suspect(due=NOW + 1000)})
    me.advance(1)
    assert not me.look({"a": leased(me.server_now)}).purge


def test_one_purge_serves_all_suspects(me: Looking) -> None:
    """Ten workers that die together cost no more purges than one."""
    registry = {f"w{n}": suspect(due=NOW + 300 * n) for n in range(10)}
    found = me.look(registry)
    assert found.purge
    assert {record.due for record in found.records.values()} == {NOW + 4000}


def test_a_suspicion_cannot_be_worn_out_by_frequent_purges(me: Looking) -> None:
    """Each takes from it the time that has passed, not a whole lease."""
    registry = {"a": leased(NOW - 4000)}
    registry.update(me.look(registry).records)
    for n in range(20):
        me.advance(0.5)
        found = me.look({**registry, f"w{n}": leased(NOW - 9000)})
        registry["a"] = found.records["a"]
    assert registry["a"].suspicion == round(SUSPICION_SECONDS * 1000) - 10_000


@pytest.mark.parametrize("registry", [{}, {"b": leased(NOW)}], ids=["flushed", "only it"])
def test_a_peer_whose_record_vanished_counts_as_it_was(
    me: Looking, registry: dict[str, Record]
) -> None:
    """Evicted, flushed, or lost with a failover: the records are only data."""
    me.look({"a": leased(NOW)})
    me.advance(2)
    assert not me.look(registry).purge
    me.advance(2)
    found = me.look(registry)
    assert found.purge
    assert found.records["a"].standing == Standing.SUSPECT


def test_who_signed_off_is_no_suspect_and_is_forgotten(me: Looking) -> None:
    """The tombstone outlives the looks of the others, and is removed in the end."""
    me.look({"a": leased(NOW)})
    me.advance(1)
    gone = {"a": tombstone(me.server_now)}
    assert not me.look(gone).purge
    me.advance(TOMBSTONE_SECONDS - 1)
    assert me.look(gone) == Findings(purge=False, records={}, removed=())
    me.advance(1)
    assert me.look(gone) == Findings(purge=False, records={}, removed=("a",))
    assert me.look({}) == Findings(purge=False, records={}, removed=())


def test_who_was_given_up_by_another_process_is_not_suspected_again(me: Looking) -> None:
    """Giving up leaves a tombstone: a record that just vanished would begin all anew."""
    me.look({"a": suspect(due=NOW + 4000, suspicion=4)})
    me.advance(4)
    assert not me.look({"a": tombstone(me.server_now)}).purge


@pytest.mark.parametrize("step", [-3600, -5, 5, 3600])
def test_a_server_clock_that_is_set_never_hides_a_dead_worker(me: Looking, step: int) -> None:
    """It is seen within a lease and a look by the clock of the peer that looks."""
    registry = {"a": leased(NOW)}
    me.look(registry)
    me.advance(1)
    me.server_now += step * 1000
    purged = me.look(registry).purge
    me.advance(LEASE_SECONDS - 1)
    assert purged or me.look(registry).purge


def test_a_process_that_starts_after_the_clock_was_set_back_waits_a_lease_at_most(
    me: Looking,
) -> None:
    """A lease that seems to run for an hour runs for four seconds."""
    registry = {"a": leased(NOW + 3_600_000)}
    assert not me.look(registry).purge
    me.advance(LEASE_SECONDS)
    assert me.look(registry).purge


@pytest.mark.parametrize("value", [b"", b"x", b"leased", b"leased 1 2 3", b"leased x 0", b"\xff"])
def test_a_record_that_is_none_counts_as_a_lease_that_lapsed(me: Looking, value: bytes) -> None:
    """Whatever it was, its worker has not said that it owes nothing."""
    assert me.look({"a": Record.decode(value)}).purge


@given(st.sampled_from(Standing), st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
def test_a_record_is_read_as_it_was_written(standing: Standing, due: int, left: int) -> None:
    """All there is to a record."""
    record = Record(standing=standing, due=due, suspicion=left)
    assert Record.decode(record.encode()) == record


# what may be trusted, and what is held


def test_hits_are_trusted_for_one_lease_after_a_look(me: Looking) -> None:
    """A process that cannot look does not know which peers are gone."""
    assert not me.lease.trusts
    me.look({})
    me.advance(LEASE_SECONDS - 0.001)
    assert me.lease.trusts
    me.advance(0.001)
    assert not me.lease.trusts


def test_a_look_whose_purge_was_not_done_makes_nothing_trusted(me: Looking) -> None:
    """First the purge, then the hits."""
    me.look({"a": leased(NOW - 5000)}, done=False)
    assert not me.lease.trusts


def test_hits_are_not_trusted_longer_than_a_look_beyond_the_end_of_a_peers_lease(
    me: Looking,
) -> None:
    """That is the bound: a lease and a look after the peer's last renewal."""
    me.look({"a": leased(NOW - 3000), "b": leased(NOW)})
    me.advance(1 + LOOK_INTERVAL - 0.001)
    assert me.lease.trusts
    me.advance(0.001)
    assert not me.lease.trusts


def test_a_tombstone_limits_no_trust(me: Looking) -> None:
    """Its worker acknowledges nothing any more."""
    me.look({"a": Record(standing=Standing.LEFT, due=NOW + 1)})
    me.advance(LEASE_SECONDS - 0.001)
    assert me.lease.trusts


def test_a_lease_is_held_from_when_the_server_was_asked(me: Looking) -> None:
    """By the own clock it ends no later than by the server's."""
    assert not me.lease.valid
    asked_at = me.clock()
    me.advance(1)
    me.lease.renewed(asked_at=asked_at)
    me.advance(LEASE_SECONDS - 1.001)
    assert me.lease.valid
    me.advance(0.001)
    assert not me.lease.valid


def test_who_has_lapsed_is_watched_until_it_is_given_up(me: Looking) -> None:
    """Then no peer makes up any more for what it cannot purge."""
    assert not me.lease.watched
    me.lease.renewed(asked_at=me.clock())
    me.advance(LEASE_SECONDS + SUSPICION_SECONDS - 0.001)
    assert me.lease.watched
    me.advance(0.001)
    assert not me.lease.watched


def test_a_process_ignores_its_own_record(me: Looking) -> None:
    """Lapsed or suspected, it is renewed and not purged after."""
    assert not me.look({me.lease.identity: suspect(due=0)}).purge


def test_leaving_trusts_nothing_and_comes_back_as_another(me: Looking) -> None:
    """The tombstone of the old name, which may still be on its way, stays true."""
    me.look({"a": leased(NOW)})
    before = me.lease.sign_on()
    me.lease.renewed(asked_at=me.clock())
    me.lease.leave()
    assert (me.lease.trusts, me.lease.valid, me.lease.watched) == (False, False, False)
    assert me.lease.identity != before
    assert me.lease.former == {before}


def test_a_name_is_used_again_when_its_tombstone_is_confirmed(me: Looking) -> None:
    """And no more when that tombstone is so old that a peer may be removing it."""
    name = me.lease.sign_on()
    me.lease.retire()
    me.lease.signed_off((name,), asked_at=me.clock())
    assert me.lease.sign_on() == name
    me.lease.retire()
    me.lease.signed_off((name,), asked_at=me.clock())
    me.advance(TOMBSTONE_SECONDS / 2 + 1)
    assert me.lease.sign_on() != name


def test_a_former_name_is_no_peer(me: Looking) -> None:
    """Its lease lapses while its tombstone is on its way; it owes nothing."""
    name = me.lease.sign_on()
    me.lease.retire()
    assert not me.look({name: leased(NOW - 4000)}).purge


def test_a_lease_is_wanted_during_mutating_requests_and_some_seconds_longer(me: Looking) -> None:
    """A process that writes now and then does not sign off between its writes."""
    assert not me.lease.wanted
    me.lease.begin_mutation()
    me.advance(2 * IDLE_SECONDS)
    assert not me.lease.give_up()
    me.lease.end_mutation()
    me.advance(IDLE_SECONDS - 0.001)
    assert not me.lease.give_up()
    me.advance(0.001)
    assert not me.lease.wanted


def test_a_lease_that_is_given_up_is_not_valid_for_the_next_request(me: Looking) -> None:
    """Though its tombstone is not written yet: that request takes a lease anew."""
    me.lease.renewed(asked_at=me.clock())
    assert me.lease.give_up()
    me.lease.begin_mutation()
    assert not me.lease.valid


def test_mutating_requests_are_counted(me: Looking) -> None:
    """No process signs off in the middle of one."""
    assert me.lease.idle
    me.lease.begin_mutation()
    me.lease.begin_mutation()
    me.lease.end_mutation()
    assert not me.lease.idle
    me.lease.end_mutation()
    assert me.lease.idle


# processes of this machine

SCRIPT = (
    "from maxage.redis_store.leases.process_identity import process_identity as p;"
    " print(p(), flush=True); input()"
)
SHOWS_PROCESSES = Path("/proc/self/stat").exists()


@pytest.mark.skipif(not SHOWS_PROCESSES, reason="the system does not show its processes")
def test_a_process_of_this_machine_that_was_killed_has_surely_ended() -> None:
    """Collected by its parent or not; and while it lives it has not."""
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "middleware")},
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert not surely_ended(name)
    process.kill()
    ends = time.monotonic() + 10
    while not surely_ended(name):
        assert time.monotonic() < ends
    process.communicate()
    assert surely_ended(name)


@pytest.mark.skipif(not SHOWS_PROCESSES, reason="the system does not show its processes")
def test_a_number_that_was_given_to_another_process_is_another_process() -> None:
    """The time of the start tells them apart."""
    machine, pid, started, random = process_identity().split(".")
    assert surely_ended(f"{machine}.{pid}.{int(started) - 1}.{random}")


@pytest.mark.parametrize("name", ["", "a", "-.1.1.x", "elsewhere.999999.1.x", "a.b.c.d"])
def test_of_a_process_elsewhere_nothing_is_sure(name: str) -> None:
    """Then only its lease counts."""
    assert not surely_ended(name)


def test_a_process_never_has_the_name_of_another() -> None:
    """Nor its own of before."""
    assert process_identity() != process_identity()


@pytest.mark.skipif(not SHOWS_PROCESSES, reason="the system does not show its processes")
def test_a_killed_worker_of_this_machine_costs_one_purge(me: Looking) -> None:
    """It is purged after as soon as it is silent for longer than a look, and given up at once."""
    machine, _, started, random = process_identity().split(".")
    dead = f"{machine}.{2**22 + 1}.{started}.{random}"
    registry = {dead: leased(NOW)}
    me.look(registry)
    me.advance(1.5 * LOOK_INTERVAL + 0.1)
    found = me.look(registry)
    assert found.purge
    assert found.records[dead].standing == Standing.LEFT
