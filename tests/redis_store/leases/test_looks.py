"""What looks at the leases cost on a real server: bytes beside many workers, commands when idle."""

import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from maxage.redis_store.leases.lease import LEASE_SECONDS, LOOK_INTERVAL, lapsed, leased
from maxage.redis_store.leases.pace import REST_SECONDS
from maxage.redis_store.leases.process_identity import process_identity
from maxage.redis_store.leases.registry import registry_key
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.shared_state import RedisState
from tests.support.clock import ManualClock
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

A_FEW_HUNDRED = 400
"""Bytes that a look may take in both directions, whatever the number of workers."""


class Process:
    """A process whose heart beats when the test says so, by a clock that is the server's too."""

    def __init__(self, url: str, namespace: str, clock: ManualClock) -> None:
        self.clock = clock
        self.state = RedisState(url, namespace)
        self.manager: Any = self.state.lease_manager
        for part in (self.manager, self.manager.lease, self.manager._watching):
            part._clock = clock
        self.manager.heartbeat.start = Future
        self._send = self.manager._send
        self.manager._registry._send = self._answers

    def _answers(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = self._send(commands)
        for place, command in enumerate(commands):
            if command[0] == "TIME":
                answers[place] = [b"%d" % int(self.clock()), b"0"]
        return answers

    def ask(self) -> bool:
        """Let a request want an answer; return whether it may be trusted."""
        return self.state.trustworthy

    def beat(self, seconds: float = LOOK_INTERVAL) -> bool:
        """Let time pass and the heart beat once."""
        self.clock.advance(seconds)
        succeeded: bool = self.manager._beat()
        return succeeded


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of all processes and of the server."""
    return ManualClock()


@pytest.fixture
def watcher(redis_url: str, namespace: str, clock: ManualClock) -> Iterator[Process]:
    """The process that looks at all leases."""
    yield from _started(redis_url, namespace, clock)


@pytest.fixture
def follower(
    watcher: Process, redis_url: str, namespace: str, clock: ManualClock
) -> Iterator[Process]:
    """A process that starts after it."""
    yield from _started(redis_url, namespace, clock)


def _started(url: str, namespace: str, clock: ManualClock) -> Iterator[Process]:
    process = Process(url, namespace, clock)
    process.ask()
    assert process.beat(0)
    yield process
    process.manager._leave()
    process.state.close()


def measured(server: RedisServer, process: Process) -> tuple[int, int]:
    """Return the bytes and the commands of one look."""

    def totals() -> tuple[int, int]:
        stats = server.info("stats")
        names = ("total_net_input_bytes", "total_net_output_bytes")
        return sum(int(stats[name]) for name in names), int(stats["total_commands_processed"])

    first = totals()
    second = totals()
    process.ask()
    assert process.beat(0)
    third = totals()
    return tuple(  # type: ignore[return-value]
        (c - b) - (b - a) for a, b, c in zip(first, second, third, strict=True)
    )


def hold_leases(server: RedisServer, namespace: str, clock: ManualClock, number: int) -> None:
    """Let so many other workers hold a lease."""
    record = leased(int(clock()) * 1000).encode()
    fields = [part for _ in range(number) for part in (process_identity(), record)]
    server.call("HSET", registry_key(namespace), *fields)


def test_a_look_costs_the_same_beside_ten_workers_and_a_thousand(
    watcher: Process, follower: Process, redis_server: RedisServer, namespace: str,
    clock: ManualClock,
) -> None:  # fmt: skip
    """A few hundred bytes, and two commands in one round trip."""
    costs = []
    for number in (10, 990):
        hold_leases(redis_server, namespace, clock, number)
        watcher.ask()
        assert watcher.beat(0)
        costs.append(measured(redis_server, follower))
    assert watcher.manager._watching.watches
    few, many = costs
    assert many[0] < few[0] + 20
    assert many[0] < A_FEW_HUNDRED
    assert many[1] == 2


def test_a_thousand_workers_are_looked_at_by_one(
    watcher: Process, follower: Process, redis_server: RedisServer, namespace: str,
    clock: ManualClock,
) -> None:  # fmt: skip
    """Its look is of all leases, and is the only one of its kind in the second."""
    hold_leases(redis_server, namespace, clock, 1000)
    clock.advance(LOOK_INTERVAL)
    size, commands = measured(redis_server, watcher)
    assert size > 60_000
    assert commands == 4
    assert measured(redis_server, follower)[0] < A_FEW_HUNDRED


def test_when_the_watcher_ends_another_one_takes_over_without_a_pause(
    watcher: Process, follower: Process
) -> None:
    """Hits are trusted all the time."""
    watcher.manager._leave()
    for _ in range(4):
        assert follower.ask()
        assert follower.beat()
    assert follower.manager._watching.watches


@pytest.mark.parametrize("role", ["watcher", "follower"])
def test_an_idle_process_makes_a_command_a_second_at_most_and_none_after_a_minute(
    role: str, request: pytest.FixtureRequest, redis_server: RedisServer
) -> None:
    """Some servers bill by the command."""
    watcher, follower = (request.getfixturevalue(name) for name in ("watcher", "follower"))
    process: Process = watcher if role == "watcher" else follower

    def commands(seconds: int) -> int:
        before = int(redis_server.info("stats")["total_commands_processed"])
        for _ in range(seconds):
            assert process.beat()
        return int(redis_server.info("stats")["total_commands_processed"]) - before - 1

    process.ask()
    commands(5)
    idle = int(REST_SECONDS) - 10
    assert 0 < commands(idle) <= idle
    commands(10)
    assert commands(120) == 0
    assert process.manager.pace.rests
    assert process.state.works
    assert not process.ask()


def test_a_process_that_wakes_looks_before_it_trusts_anything(
    watcher: Process, redis_server: RedisServer, namespace: str, clock: ManualClock
) -> None:
    """A worker vanished while it rested: everything is purged first."""
    for _ in range(int(REST_SECONDS) + 10):
        assert watcher.beat()
    hold_leases(redis_server, namespace, clock, 1)
    clock.advance(LEASE_SECONDS)
    assert not watcher.ask()
    purges = redis_server.call("GET", f"{namespace}:t:n")
    awaited = watcher.manager._next_look()
    assert watcher.beat()
    assert awaited.done()
    assert watcher.ask()
    assert redis_server.call("GET", f"{namespace}:t:n") != purges


def test_requests_are_patient_again_once_a_look_succeeds(
    fault_proxy: FaultProxy, namespace: str, clock: ManualClock
) -> None:
    """A look that failed leaves them a small part of their budgets, and one that does not, all."""
    for process in _started(fault_proxy.url, namespace, clock):
        whole = process.state.patience(1.0)
        fault_proxy.error("NOPERM", commands={"HGET", "HGETALL"})
        process.ask()
        assert not process.beat()
        assert process.state.patience(1.0) < whole / 10
        fault_proxy.pass_through()
        process.ask()
        assert process.beat()
        assert process.state.patience(1.0) == whole


def test_a_look_makes_no_good_what_a_request_met(
    fault_proxy: FaultProxy,
    namespace: str,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that is too slow for requests alone is left alone after three of them."""
    for process in _started(fault_proxy.url, namespace, clock):
        assert process.state.node is not None
        for _ in range(2):
            process.state.node.failed(TimeoutError())
            process.ask()
            assert process.beat()
        assert "Redis unavailable" not in caplog.text
        process.state.node.failed(TimeoutError())
        # The probe may have reached the server again by now.
        assert "Redis unavailable" in caplog.text
        caplog.clear()


def test_the_log_tells_of_a_register_that_was_lost_until_its_suspicion_ends(
    watcher: Process,
    follower: Process,
    redis_server: RedisServer,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the second line on it told of a worker that was killed, and none was."""
    for one in (watcher, follower):
        one.ask()
        assert one.beat()
    redis_server.call("DEL", registry_key(namespace))
    for _ in range(10):
        follower.ask()
        assert follower.beat()
    told = [line.partition(",")[0] for line in caplog.messages if "is emptied" in line]
    assert told == ["Redis lost the register of workers"] * len(told)
    assert len(told) > 1


def test_a_full_server_is_not_asked_without_a_pause_and_is_told_of_once(
    fault_proxy: FaultProxy,
    redis_server: RedisServer,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A peer's lease has lapsed, and the server refuses the purge: each look is a fifth of a second
    after the last one, and the log has one line."""
    record = lapsed(int(time.time() * 1000) - 60_000).encode()
    redis_server.call("HSET", registry_key(namespace), process_identity(), record)
    fault_proxy.error("OOM", commands={"SET"})
    state = RedisState(fault_proxy.url, namespace)
    state.lease_manager.join()
    wait_until(lambda: "the cache is emptied" in caplog.text, "the purge is tried")
    before = looks(redis_server)
    time.sleep(1)
    assert looks(redis_server) - before <= 15
    assert caplog.text.count("the cache is emptied") == 1
    fault_proxy.pass_through()
    wait_until(lambda: state.trustworthy, "the purge is made")
    state.close()


def looks(server: RedisServer) -> int:
    """How often the clock of the server was asked for, as each look does."""
    return int(server.info("commandstats").get("cmdstat_time", "calls=0").split(",")[0][6:])
