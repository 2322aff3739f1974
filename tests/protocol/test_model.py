"""The contract holds whatever happens in whatever order; and each rule is needed for it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import settings
from msgspec.structs import replace
from redis.exceptions import RedisError

from maxage.cache import storing
from maxage.cache.cache import Cache
from maxage.cache.fill import Fill
from maxage.cache.flights import Flight
from maxage.errors import StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.groups import RouteGroups
from maxage.invalidation.purger import Purger
from maxage.redis_store import shared_state as redis_state
from maxage.redis_store.leases import lease, lease_manager
from maxage.redis_store.leases.lease import LEASE_SECONDS, Findings, Lease, Record
from maxage.redis_store.leases.lease_manager import LeaseManager
from maxage.redis_store.leases.watch import Watch, Watching
from maxage.redis_store.owed_purges import OwedPurges
from maxage.redis_store.servers import commands, rounds
from maxage.redis_store.servers.node import Node
from maxage.redis_store.shared_state import RedisState
from maxage.store.entry import Entry
from tests.protocol.model import Model


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log nothing: every other step is an outage."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# The model has teeth: without one of these rules the trace that goes with it breaks the contract.


class Trace(Model):
    """The model, for traces written by hand: worker 0 writes and gets into trouble, 1 reads."""

    def __init__(self) -> None:
        super().__init__()
        self.start()

    def get(self, worker: int = 1, path: str = "/row") -> None:
        """Read, and check what is shown."""
        self.begin_read(worker=worker, answer=True, path=path)

    def put(self, worker: int = 0) -> None:
        """Write, and have it acknowledged."""
        self.begin_write(worker=worker, answer=True, late=False)


Mutant = Callable[[pytest.MonkeyPatch, Trace], None]


def journal_before_trust(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(RedisState, "trustworthy", property(lambda self: self.lease_manager.lease.trusts))


def _own_writes_unpaid(trace: Trace) -> None:
    trace.get(0)
    trace.break_link(worker=0, fault="full")
    trace.put()
    trace.break_link(worker=0, fault="none")
    trace.get(0)


def unique_tokens(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(commands, "fresh_tokens", lambda history, count: [history + b"-0"] * count)
    patch.setattr(redis_state, "purged_token", lambda history, settle: history + b"-0")


def compared_tokens(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Entry, "is_current", lambda entry, tokens, needed: True)


def _read_write_read(trace: Trace) -> None:
    trace.get()
    trace.put()
    trace.get()


def orphans_in_one_group(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(RouteGroups, "_orphans", lambda *args: ())


def _read_an_orphan_after_a_write(trace: Trace) -> None:
    trace.get(path="/summary")
    trace.put()
    trace.get(path="/summary")


def fresh_value_for_a_retry(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    def same_for_each_attempt(history: bytes, settle: float) -> bytes:
        return history + b"-%d" % trace.row

    patch.setattr(redis_state, "purged_token", same_for_each_attempt)


def _late_first_attempt(trace: Trace) -> None:
    trace.break_link(worker=0, fault="delayed")
    trace.put()
    trace.break_link(worker=0, fault="none")
    trace.recover(worker=0)
    trace.get()
    trace.put(1)
    while trace.server.delayed:
        trace.deliver()
    trace.get()


def capture_before_the_handler(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    original = storing.store_response

    def store(cache: Cache, fill: Fill, body: Any, dependencies: Dependencies, *more: Any) -> Any:
        try:
            now = cast("Any", cache.store).now.read_now((), list(fill.groups)).tokens
        except StoreUnavailableError:
            return None
        found = replace(fill.found, tokens=dict(zip(fill.groups, now, strict=True)))
        return original(cache, replace(fill, found=found), body, dependencies, *more)

    patch.setattr(storing, "store_response", store)


def _write_during_a_read(trace: Trace) -> None:
    trace.begin_read(worker=0, answer=False)
    trace.put(1)
    trace.let_go(trace.requests[0])
    trace.get()


def equal_tokens_to_join(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Flight, "may_be_joined", lambda self, tokens: self.under_way)
    patch.setattr(Entry, "is_current", lambda entry, tokens, needed: True)


def _read_after_a_write_during_a_read(trace: Trace) -> None:
    trace.begin_read(worker=0, answer=False)
    trace.put(1)
    trace.begin_read(worker=0, answer=False)
    trace.let_go(trace.requests[0])
    for request in list(trace.requests):
        trace.let_go(request)


def tokens_of_one_history(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(rounds, "belongs", lambda token, _: token is not None)
    patch.setattr(Node, "changed", _note_only)


def _note_only(self: Node, history: bytes) -> bool:
    self.history = history
    return False


def _failover_that_loses_the_purge(trace: Trace) -> None:
    trace.get()
    trace.server.replicate()
    trace.put()
    trace.fail_over(keep_connections=False)
    for _ in range(4):
        trace.get()


def purge_after_a_late_commit(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    def nothing(*_: Any) -> asyncio.Future[bool]:
        return asyncio.ensure_future(asyncio.sleep(0, result=True))

    patch.setattr(Purger, "purge_again", nothing)


def _read_before_a_late_commit(trace: Trace) -> None:
    trace.begin_write(worker=0, answer=False, late=True)
    trace.get()
    trace.let_go(trace.requests[0])
    trace.get()


def leases(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    nothing = Findings(purge=False, records={}, removed=())
    patch.setattr(Lease, "look", lambda self, *args, **rest: nothing)
    patch.setattr(Lease, "trusts", property(lambda self: True))


def looks_that_are_new(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Lease, "trusts", property(lambda self: True))


def _write_and_see(trace: Trace) -> None:
    trace.put()
    trace.look(worker=1)
    trace.get()


def _cut_off(trace: Trace, lookers: tuple[int, ...] = (1,)) -> None:
    _write_and_see(trace)
    trace.break_link(worker=0, fault="cut")
    trace.put()
    trace.wait(6, lookers)
    trace.get()


def _cut_off_without_a_look(trace: Trace) -> None:
    _cut_off(trace, lookers=())


def empty_journal_to_renew(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    original = LeaseManager._written

    def written(self: LeaseManager, *args: Any, **rest: Any) -> bool:
        owed, self._owed_purges = self._owed_purges, OwedPurges()  # type: ignore[misc]
        try:
            return original(self, *args, **rest)
        finally:
            self._owed_purges = owed  # type: ignore[misc]

    patch.setattr(LeaseManager, "_written", written)


def _one_shard_away(trace: Trace) -> None:
    trace.get()
    trace.break_link(worker=0, fault="full")
    trace.put()
    trace.wait(6, (0, 1))
    trace.get()


def suspicion_that_lasts(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Record, "purged", lambda self, server_now: lease.tombstone(server_now))


def _cut_off_and_writing_again(trace: Trace) -> None:
    _cut_off(trace)
    trace.put()
    trace.wait(6, (1,))
    trace.get()


def remembered_peers(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    original = Lease._remember

    def remember(self: Lease, registry: Any, server_now: int, asked_at: float) -> None:
        self._peers = {n: p for n, p in self._peers.items() if n in registry}
        original(self, registry, server_now, asked_at)

    patch.setattr(Lease, "_remember", remember)


def _records_lost(trace: Trace) -> None:
    _write_and_see(trace)
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.look(worker=1)
    trace.get()
    trace.put()
    trace.wait(6, (1,))
    trace.get()


def empty_journal_to_sign_off(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    def leave(self: LeaseManager) -> None:
        with suppress(RedisError):
            now = self._registry.read().server_now
            self._registry.write({self.lease.identity: lease.tombstone(now)})

    patch.setattr(LeaseManager, "_leave", leave)


def _end_with_a_purge_owed(trace: Trace) -> None:
    trace.get()
    trace.break_link(worker=0, fault="full")
    trace.put()
    trace.end(worker=0, signs_off=True)
    trace.wait(6, (0, 1))
    trace.get()


def own_clock_for_what_does_not_change(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    def remember(self: Lease, registry: Any, server_now: int, asked_at: float) -> None:
        for name, record in registry.items():
            if name != self.identity:
                due = asked_at + (record.due - server_now) / 1000
                self._peers[name] = lease._Peer(record, due)

    patch.setattr(Lease, "_remember", remember)


def _clock_set_back(trace: Trace) -> None:
    _write_and_see(trace)
    trace.break_link(worker=0, fault="cut")
    trace.set_clock(seconds=-30.0)
    trace.look(worker=1)
    trace.get()
    trace.put()
    trace.wait(6, (1,))
    trace.get()


def lease_before_the_answer(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(LeaseManager, "take", lambda self: None)


def _first_write_after_a_pause(trace: Trace) -> None:
    trace.put()
    trace.wait(7, (0, 1))
    trace.get()
    trace.break_link(worker=0, fault="full")
    trace.put()
    trace.wait(6, (1,))
    trace.get()


def lease_until_the_last_purge(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    recently = property(lambda self: self._clock() < self._wanted_until)
    patch.setattr(Lease, "wanted", recently)


def _late_commit_that_is_cut_off(trace: Trace) -> None:
    trace.begin_write(worker=0, answer=False, late=True)
    trace.wait(7, (0, 1))
    trace.get()
    trace.break_link(worker=0, fault="cut")
    trace.let_go(trace.requests[0])
    trace.wait(6, (1,))
    trace.get()


def another_name_after_a_doubtful_sign_off(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    def same_name(self: Lease) -> None:
        self.former.add(self.identity)
        self.is_on_record = False

    patch.setattr(Lease, "retire", same_name)


def _delayed_tombstone(trace: Trace) -> None:
    trace.put()
    trace.wait(6, ())
    trace.break_link(worker=0, fault="records delayed")
    trace.look(worker=0)
    trace.break_link(worker=0, fault="none")
    _write_and_see(trace)
    trace.break_link(worker=0, fault="cut")
    trace.deliver()
    trace.put()
    trace.wait(6, (1,))
    trace.get()


def lapsed_lease_for_what_is_owed(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(lease_manager, "lapsed", lease.tombstone)


def _cut_off_while_idle_and_back_at_the_registry(trace: Trace) -> None:
    trace.get()
    trace.break_link(worker=0, fault="cut")
    trace.put()
    trace.break_link(worker=0, fault="full")
    trace.look(worker=0)
    trace.wait(6, (1,))
    trace.get()


# The watch: 0 holds a lease, 1 reads, and 2, or 0 itself, looks for all.


def _let_watch(trace: Trace, worker: int) -> None:
    """Let a worker be the watcher: the others have not looked for some time."""
    trace.pass_time(seconds=3.0)
    trace.look(worker=worker)
    assert trace.workers[worker].redis_state.lease_manager._watching.watches


def end_of_the_watch(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    original = Lease.follow

    def follow(self: Lease, *, asked_at: float, seconds: float) -> None:
        original(self, asked_at=asked_at, seconds=LEASE_SECONDS)

    patch.setattr(Lease, "follow", follow)


def _watcher_that_dies(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.put()
    trace.look(worker=2)
    trace.look(worker=1)
    trace.get()
    trace.break_link(worker=0, fault="cut")
    trace.put()
    trace.pass_time(seconds=2.0)
    trace.look(worker=1)
    trace.pass_time(seconds=3.5)
    trace.get()


def empty_journal_to_watch(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    original = LeaseManager._written

    def written(self: LeaseManager, now: int, found: Any, asked_at: float, **rest: Any) -> bool:
        done = original(self, now, found, asked_at, **rest)
        if rest.get("watch") is not None:
            self._registry.write({}, watch=rest["watch"])
            self._watching.looked(None, rest["watch"])
        return done

    patch.setattr(LeaseManager, "_written", written)


def _watcher_that_owes(trace: Trace) -> None:
    _let_watch(trace, 0)
    trace.put()
    trace.look(worker=1)
    trace.get()
    trace.break_link(worker=0, fault="full")
    trace.put()
    trace.wait(6, (0, 1))
    trace.get()


def epochs_that_are_compared(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    original = Watching.accepts

    def accepts(self: Watching, *args: Any, **rest: Any) -> bool:
        self.epoch = self.term = None
        return original(self, *args, **rest)

    patch.setattr(Watching, "accepts", accepts)


def _registry_lost_and_begun_anew_by_a_new_process(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.put()
    trace.look(worker=2)
    trace.look(worker=1)
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.end(worker=2, signs_off=False)
    trace.look(worker=1)
    trace.get()
    trace.put()
    trace.wait(6, (2, 1))
    trace.get()


def suspicion_of_a_lost_registry(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Watching, "lost", lambda *args: None)


def _registry_lost_with_its_watcher(trace: Trace) -> None:
    _let_watch(trace, 0)
    trace.put()
    trace.look(worker=1)
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.look(worker=1)
    trace.get()
    trace.put()
    trace.wait(6, (1,))
    trace.get()


def vouching_by_memory_alone(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    def vouched(
        self: Watching, watch: Any, registry: Any, history: bytes, server_now: int
    ) -> dict[str, Record]:
        return {self.term: lease.tombstone(server_now)} if self.term else {}

    patch.setattr(Watching, "vouched", vouched)
    patch.setattr(Watching, "lost", lambda *args: None)


def memory_of_looks_that_lie_close(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Watching, "_note_pause", lambda self, seconds: None)


def _registry_lost_while_its_watcher_was_idle(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.pass_time(seconds=3.0)
    trace.put()
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.look(worker=2)
    trace.get(2)
    trace.put()
    trace.wait(6, (2,))
    trace.get(2)


def memory_without_a_pause(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(LeaseManager, "_rest", lambda self: None)
    memory_of_looks_that_lie_close(patch, trace)


def _registry_lost_while_its_watcher_rested(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.workers[2].rest()
    trace.pass_time(seconds=3.0)
    trace.put()
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.get(2)
    trace.put()
    trace.wait(6, (2,))
    trace.get(2)


def missing_leases_are_written_anew(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Lease, "missing", lambda self, *args, **rest: {})


def _watcher_that_vouches_and_steps_back(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.put()
    trace.look(worker=2)
    trace.look(worker=1)
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.look(worker=1)
    trace.get()
    trace.put()
    trace.look(worker=2)
    trace.look(worker=2)
    trace.wait(7, (1,))
    trace.get()


def vouching_for_the_own_watch_alone(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Watch, "term", property(lambda self: self.epoch))
    memory_of_looks_that_lie_close(patch, trace)


def _registry_lost_after_another_process_watched(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.break_link(worker=2, fault="cut")
    trace.pass_time(seconds=3.0)
    trace.put()
    trace.look(worker=1)
    trace.break_link(worker=0, fault="cut")
    trace.flush()
    trace.break_link(worker=2, fault="none")
    trace.recover(worker=2)
    trace.look(worker=2)
    trace.look(worker=1)
    trace.get()
    trace.put()
    trace.wait(6, (2, 1))
    trace.get()


def purge_when_the_clock_is_set_back(patch: pytest.MonkeyPatch, trace: Trace) -> None:
    patch.setattr(Watching, "compare_clocks", lambda self, **rest: None)


def _clock_set_back_and_the_watcher_dies(trace: Trace) -> None:
    _let_watch(trace, 2)
    trace.put()
    trace.look(worker=2)
    trace.look(worker=1)
    trace.get()
    trace.break_link(worker=0, fault="cut")
    trace.pass_time(seconds=0.5)
    trace.put()
    trace.set_clock(seconds=-2.0)
    for _ in range(5):
        trace.pass_time(seconds=0.9)
        trace.look(worker=1)
        trace.get()
    trace.pass_time(seconds=0.7)
    trace.get()


NEEDED: list[tuple[Mutant, Callable[[Trace], None]]] = [
    (journal_before_trust, _own_writes_unpaid),
    (unique_tokens, _read_write_read),
    (compared_tokens, _read_write_read),
    (orphans_in_one_group, _read_an_orphan_after_a_write),
    (fresh_value_for_a_retry, _late_first_attempt),
    (capture_before_the_handler, _write_during_a_read),
    (equal_tokens_to_join, _read_after_a_write_during_a_read),
    (tokens_of_one_history, _failover_that_loses_the_purge),
    (purge_after_a_late_commit, _read_before_a_late_commit),
    (leases, _cut_off),
    (looks_that_are_new, _cut_off_without_a_look),
    (empty_journal_to_renew, _one_shard_away),
    (suspicion_that_lasts, _cut_off_and_writing_again),
    (remembered_peers, _records_lost),
    (empty_journal_to_sign_off, _end_with_a_purge_owed),
    (own_clock_for_what_does_not_change, _clock_set_back),
    (lease_before_the_answer, _first_write_after_a_pause),
    (lease_until_the_last_purge, _late_commit_that_is_cut_off),
    (another_name_after_a_doubtful_sign_off, _delayed_tombstone),
    (lapsed_lease_for_what_is_owed, _cut_off_while_idle_and_back_at_the_registry),
    (end_of_the_watch, _watcher_that_dies),
    (empty_journal_to_watch, _watcher_that_owes),
    (epochs_that_are_compared, _registry_lost_and_begun_anew_by_a_new_process),
    (suspicion_of_a_lost_registry, _registry_lost_with_its_watcher),
    (vouching_by_memory_alone, _registry_lost_with_its_watcher),
    (memory_of_looks_that_lie_close, _registry_lost_while_its_watcher_was_idle),
    (memory_without_a_pause, _registry_lost_while_its_watcher_rested),
    (missing_leases_are_written_anew, _watcher_that_vouches_and_steps_back),
    (vouching_for_the_own_watch_alone, _registry_lost_after_another_process_watched),
    (purge_when_the_clock_is_set_back, _clock_set_back_and_the_watcher_dies),
]


@pytest.mark.parametrize(("removed", "play"), NEEDED, ids=lambda named: named.__name__.strip("_"))
def test_each_rule_is_needed(
    removed: Mutant, play: Callable[[Trace], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trace keeps the contract; with the rule removed it breaks it."""
    trace = Trace()
    play(trace)
    assert trace.writes
    trace.teardown()
    trace = Trace()
    removed(monkeypatch, trace)
    with pytest.raises(AssertionError, match="was acknowledged"):
        play(trace)
    trace.teardown()


def _freeze(trace: Trace) -> None:
    """Worker 0 has owed nothing for some seconds, and stands still from now on."""
    trace.put()
    trace.wait(6, (0, 1))


def _die(trace: Trace) -> None:
    """Worker 0 has only read, and dies without signing off."""
    trace.get(0)
    trace.end(worker=0, signs_off=False)


@pytest.mark.parametrize("begin", [_freeze, _die])
def test_a_worker_that_owes_nothing_and_is_gone_costs_no_hit(
    begin: Callable[[Trace], None],
) -> None:
    """It holds no lease that could lapse."""
    trace = Trace()
    begin(trace)
    trace.get()
    before = trace.hits
    for _ in range(20):
        trace.wait(1, (1,))
        trace.get()
    assert trace.hits == before + 20
    trace.teardown()


def test_a_second_read_is_a_hit() -> None:
    """Of one worker and of the other: a model in which nothing is stored would prove nothing."""
    trace = Trace()
    for worker in (0, 0, 1):
        trace.get(worker)
    assert trace.hits == 2
    trace.teardown()
