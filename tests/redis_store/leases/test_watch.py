"""The watch: who looks at all leases, who may follow, what a lost registry does, over values."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.redis_store.leases.lease import (
    LEASE_SECONDS,
    SUSPICION_SECONDS,
    Record,
    Standing,
    leased,
    tombstone,
)
from maxage.redis_store.leases.watch import MOST_SUSPECTS, WATCH_SECONDS, Watch, Watching
from tests.support.clock import ManualClock

NOW = 1_700_000_000_000
"""The server's clock when a test begins, in milliseconds."""
HISTORY = b"0123456789ab"
ANOTHER = b"ba9876543210"


class Looking:
    """A process that looks, with its own clock and the server's."""

    def __init__(self, server_now: int = NOW) -> None:
        self.clock = ManualClock(50.0)
        self.watching = Watching(clock=self.clock)
        self.server_now = server_now

    def advance(self, seconds: float) -> None:
        """Let time pass for all processes."""
        self.clock.advance(seconds)
        self.server_now += round(seconds * 1000)

    def accepts(self, watch: Watch, history: bytes = HISTORY) -> bool:
        """Whether the watch may stand for a look."""
        return self.watching.accepts(
            watch, history, server_now=self.server_now, asked_at=self.clock()
        )

    def look(
        self, found: Watch | None, history: bytes = HISTORY, suspects: tuple[str, ...] = ()
    ) -> Watch | None:
        """Look at all leases; return the watch that is written."""
        written = self.watching.next_watch(
            found, history, suspects, server_now=self.server_now, trusted_for=LEASE_SECONDS
        )
        self.watching.looked(found, written)
        return written

    def lost(
        self,
        found: Watch | None,
        registry: Mapping[str, Record] | None = None,
        history: bytes = HISTORY,
    ) -> str | None:
        """The epoch whose leases nobody remembers."""
        return self.watching.lost(found, registry or {}, history, self.server_now)

    def vouched(
        self, found: Watch | None, registry: Mapping[str, Record] | None = None
    ) -> dict[str, Record]:
        """What it vouches for."""
        return self.watching.vouched(found, registry or {}, HISTORY, self.server_now)


@pytest.fixture
def me() -> Looking:
    """The process under test."""
    return Looking()


@pytest.fixture
def watch() -> Watch:
    """What another process wrote just now."""
    written = Looking().look(None)
    assert written is not None
    return written


@given(st.lists(st.text("abc.-019", min_size=1), max_size=3), st.integers(), st.integers())
def test_a_watch_is_read_as_it_was_written(names: list[str], looked: int, until: int) -> None:
    """All there is to a watch."""
    watch = Watch(
        epoch="h-1",
        began=looked,
        watcher="a.1.2.3",
        looked=looked,
        until=until,
        suspects=tuple(names),
    )
    assert Watch.decode(watch.encode()) == watch


@pytest.mark.parametrize("value", [b"", b"x", b"e w 1 2", b"e w 1 2 x", b"\xff w 1 2 3"])
def test_bytes_that_are_no_watch_are_none(value: bytes) -> None:
    """Another process looks at all leases and writes one."""
    assert Watch.decode(value) is None


def test_a_watch_is_followed_for_two_looks(me: Looking, watch: Watch) -> None:
    """Until the moment after; then its process may have ended."""
    assert me.accepts(watch)
    me.advance(WATCH_SECONDS)
    assert me.accepts(watch)
    me.advance(0.001)
    assert not me.accepts(watch)


def test_a_watch_is_not_followed_beyond_what_it_says(me: Looking) -> None:
    """A lease that it saw is about to lapse."""
    watch = Watch(epoch=f"{HISTORY.decode()}-1", began=0, watcher="w", looked=NOW, until=NOW + 500)
    me.advance(0.499)
    assert me.accepts(watch)
    me.advance(0.001)
    assert not me.accepts(watch)


def test_the_watch_of_another_history_is_not_followed(me: Looking, watch: Watch) -> None:
    """Its watcher has not met this server."""
    assert not me.accepts(watch, ANOTHER)


def test_a_watch_of_the_future_is_not_followed(me: Looking, watch: Watch) -> None:
    """The server's clock was set back after it was written."""
    me.server_now -= 1
    assert not me.accepts(watch)


@pytest.mark.parametrize(("step", "accepted"), [(-0.04, True), (-0.06, False)])
def test_no_watch_is_followed_once_the_clock_was_set_back(
    me: Looking, watch: Watch, step: float, accepted: bool
) -> None:
    """Leases seem to last longer; what clocks differ by in a second is no step."""
    assert me.accepts(watch)
    me.advance(1)
    me.server_now += round(step * 1000)
    assert me.accepts(watch) == accepted
    assert me.watching.doubts != accepted


def test_a_process_does_not_follow_itself(me: Looking) -> None:
    """Its watch is of its own last look."""
    written = me.look(None)
    assert written is not None
    assert not me.accepts(written)


def test_the_watcher_goes_on_and_others_step_back(me: Looking) -> None:
    """One process looks at all leases for all."""
    first = me.look(None)
    me.advance(1)
    second = me.look(first)
    assert first is not None
    assert second is not None
    assert (second.epoch, second.began, second.looked) == (first.epoch, NOW, NOW + 1000)
    assert Looking(me.server_now).look(second) is None
    assert me.watching.watches


def test_an_old_watch_is_taken_over_with_its_epoch(me: Looking, watch: Watch) -> None:
    """The registry is the same."""
    me.advance(WATCH_SECONDS + 0.001)
    taken = me.look(watch)
    assert taken is not None
    assert taken.epoch == watch.epoch
    assert taken.term != watch.term


def test_a_watch_names_some_suspects(me: Looking) -> None:
    """Its size is bounded, whatever happens."""
    written = me.look(None, suspects=tuple(f"s{n}" for n in range(MOST_SUSPECTS + 1)))
    assert written is not None
    assert len(written.suspects) == MOST_SUSPECTS


@pytest.mark.parametrize("found", ["none", "another epoch", "another history"])
def test_an_epoch_that_ended_unwatched_is_suspected(me: Looking, watch: Watch, found: str) -> None:
    """Nobody knows who held a lease in it."""
    me.watching.follow(watch)
    now = Looking().look(None)
    assert me.lost(watch) is None
    if found == "another history":
        assert me.lost(watch, history=ANOTHER) == watch.term
    else:
        assert me.lost(now if found == "another epoch" else None) == watch.term


@pytest.mark.parametrize("record", [leased(NOW), tombstone(NOW)])
def test_an_epoch_on_record_is_the_business_of_the_watcher(
    me: Looking, watch: Watch, record: Record
) -> None:
    """Another process has noticed its end."""
    me.watching.follow(watch)
    assert me.lost(None, {watch.term: record}) is None


def test_an_epoch_that_ended_long_ago_is_not_suspected(me: Looking, watch: Watch) -> None:
    """A process that rested for an hour: whoever was on record then is given up."""
    me.watching.follow(watch)
    now = Looking().look(None)
    me.advance(LEASE_SECONDS + SUSPICION_SECONDS - 0.001)
    assert me.lost(now) == watch.term
    me.advance(0.001)
    assert me.lost(now) is None


def test_a_process_that_has_just_started_suspects_no_epoch(me: Looking) -> None:
    """It has met none."""
    assert me.lost(None) is None


def test_the_watcher_vouches_for_an_epoch_that_ended(me: Looking) -> None:
    """It remembers all of its leases; and it says so once."""
    mine = me.look(None)
    assert mine is not None
    assert me.vouched(mine) == {}
    assert me.lost(None) is None
    vouched = me.vouched(None)
    assert [record.standing for record in vouched.values()] == [Standing.LEFT]
    assert list(vouched) == [mine.term]
    assert me.vouched(None, vouched) == {}


def test_an_idle_watcher_vouches_for_nothing(me: Looking) -> None:
    """A lease may begin, and be lost with the registry, between two looks that lie far apart."""
    for seconds, vouches in ((WATCH_SECONDS, True), (WATCH_SECONDS + 0.001, False)):
        mine = me.look(None)
        me.watching.compare_clocks(server_now=me.server_now, asked_at=me.clock())
        me.advance(seconds)
        me.watching.compare_clocks(server_now=me.server_now, asked_at=me.clock())
        assert mine is not None
        assert bool(me.vouched(None)) is vouches
        assert me.lost(None) == (None if vouches else mine.term)


@pytest.mark.parametrize("pause", ["rest", "leave"])
def test_who_has_not_looked_all_the_time_vouches_for_nothing(me: Looking, pause: str) -> None:
    """A lease may have begun unseen."""
    me.look(None)
    getattr(me.watching, pause)()
    assert me.vouched(None) == {}
    assert not me.watching.watches
