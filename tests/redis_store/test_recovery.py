"""What the log tells of purges that Redis did not confirm."""

import pytest
from redis.exceptions import ResponseError

from maxage import CacheSettings
from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.shared_state import RedisState
from tests.support.fault_proxy import FaultProxy
from tests.support.waiting import wait_until

OWED = "A purge was not confirmed by Redis"
REFUSED = "Redis refuses a purge"
MADE = "Redis has confirmed all purges"
BACK = "Redis is available again"
AWAY = "Redis unavailable"


def test_the_log_tells_when_a_full_server_has_taken_all_purges(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once of both, whatever is owed in between."""
    fault_proxy.error("OOM", commands={"SET"})
    state = RedisState(fault_proxy.url, "recovery")
    for path in ("p:/a", "p:/b"):
        state.owe([path])
    assert not state.pay()
    assert MADE not in caplog.text
    fault_proxy.pass_through()
    wait_until(lambda: state.owed_purges.empty, "the purges are made")
    state.close()
    assert [caplog.text.count(line) for line in (OWED, MADE, BACK)] == [1, 1, 0]


def test_a_server_that_is_back_is_told_of_in_one_line(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of the outage is the end of the debt as well."""
    state = RedisState(fault_proxy.url, "recovery")
    assert state.node is not None
    fault_proxy.refuse()
    for _ in range(3):
        state.node.failed(ConnectionError("refused"))
    state.owe(["p:/a"])
    fault_proxy.pass_through()
    wait_until(lambda: BACK in caplog.text, "the server is back")
    state.close()
    assert [caplog.text.count(line) for line in (OWED, MADE, BACK)] == [1, 0, 1]


@pytest.mark.parametrize("command", ["HGETALL", "MGET", "TIME"])
@pytest.mark.parametrize("answer", ["NOPERM", "ERR unknown command"])
def test_a_server_that_refuses_reads_is_not_back(
    answer: str, command: str, fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A PING alone told that it was, five times a second for as long as a right was missing."""
    state = RedisState(fault_proxy.url, "recovery")
    assert state.node is not None
    fault_proxy.error(answer, commands={command})
    for _ in range(3):
        state.node.failed(ResponseError(answer))
    assert not state.recovery.attempt()
    assert state.node.breaker.open
    fault_proxy.pass_through()
    wait_until(lambda: BACK in caplog.text, "the user has the right")
    state.close()


def test_an_outage_ends_for_a_user_who_may_not_read(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A program may use `get_redis` alone, with fewer rights than the cache."""
    state = RedisState(fault_proxy.url, "recovery")
    assert state.node is not None
    fault_proxy.error("NOPERM", commands={"HGETALL", "MGET", "TIME"})
    for _ in range(3):
        state.node.failed(ConnectionError("refused"))
    wait_until(lambda: BACK in caplog.text, "the server is back")
    state.close()


def test_the_log_tells_each_reason_of_an_outage_once(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that was started anew with other rights looked as if nothing ran there."""
    state = RedisState(fault_proxy.url, "recovery")
    assert state.node is not None
    fault_proxy.error("NOPERM", commands={"PING"})
    for _ in range(3):
        state.node.failed(ConnectionError("refused"))
    for _ in range(2):
        assert not state.recovery.attempt()
    assert state.node.reason == "NoPermissionError"
    fault_proxy.pass_through()
    wait_until(lambda: BACK in caplog.text, "the user has the right")
    state.close()
    assert state.node.reason == ""
    told = [line.partition(":")[0] for line in caplog.messages if AWAY in line]
    assert told == [f"{AWAY} (ConnectionError", f"{AWAY} (NoPermissionError"]


def test_a_server_that_is_too_slow_for_requests_is_not_back(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """It told several times a second that it was, and each time three requests waited in vain."""
    store = RedisStore(fault_proxy.url, CacheSettings(cache_read_budget=0.05))
    state = store.redis_state
    assert state.node is not None
    fault_proxy.delay(0.15)
    for _ in range(3):
        state.node.failed(TimeoutError("no answer within the budget"))
    state.owed_purges.add(["p:/a"])
    assert not state.recovery.attempt()
    assert state.node.breaker.open
    assert state.owed_purges.empty, "what is owed is paid"
    fault_proxy.pass_through()
    wait_until(lambda: BACK in caplog.text, "it answers in time")
    state.close()
    assert caplog.text.count(BACK) == 1


@pytest.mark.parametrize("answer", ["CLUSTERDOWN Hash slot not served", "ASK 5 127.0.0.1:1"])
def test_a_node_is_back_whatever_the_slot_that_is_tried(
    answer: str, fault_proxy: FaultProxy
) -> None:
    """A node that serves its own slots says so where no other node serves the rest."""
    state = RedisState(fault_proxy.url, "recovery")
    assert state.node is not None
    fault_proxy.error(answer, commands={"HGETALL", "MGET"})
    for _ in range(3):
        state.node.failed(ResponseError("NOPERM"))
    assert state.recovery.attempt()
    assert not state.node.breaker.open
    state.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("OOM", "OutOfMemoryError"), ("READONLY", "ReadOnlyError"), ("MISCONF", "MISCONF")],
)
def test_the_log_tells_once_why_a_server_takes_no_purge(
    answer: str, reason: str, fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a purge that no request asked for, such as everything on behalf of a lost worker."""
    fault_proxy.error(answer, commands={"SET"})
    state = RedisState(fault_proxy.url, "recovery")
    state.owed_purges.add(["n"])
    for _ in range(2):
        assert not state.pay()
    assert caplog.text.count(REFUSED) == 1
    assert state.node is not None
    assert state.node.reason == reason
    fault_proxy.pass_through()
    assert state.pay()
    state.close()
    assert [caplog.text.count(line) for line in (REFUSED, MADE)] == [1, 1]


def test_a_slot_that_has_just_moved_is_no_refusal(
    fault_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The next attempt learns where it is."""
    fault_proxy.error("MOVED 5 127.0.0.1:1", commands={"SET"})
    state = RedisState(fault_proxy.url, "recovery")
    state.owed_purges.add(["n"])
    assert not state.pay()
    fault_proxy.pass_through()
    assert state.pay()
    state.close()
    assert REFUSED not in caplog.text
