"""The circuit breaker: three failures in a row open it, and only the probe closes it."""

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from maxage.redis_store.servers.circuit_breaker import FAILURES_TO_OPEN, CircuitBreaker


def test_three_failures_in_a_row_open_it_and_two_do_not() -> None:
    """The boundary of the design."""
    breaker = CircuitBreaker()
    assert FAILURES_TO_OPEN == 3
    assert not breaker.open
    assert breaker.failed() is False
    assert breaker.failed() is False
    assert not breaker.open
    assert breaker.failed() is True
    assert breaker.open


def test_an_answer_in_between_starts_the_count_anew() -> None:
    """Failures now and then do not open it."""
    breaker = CircuitBreaker()
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert not breaker.open


def test_an_answer_that_comes_late_does_not_close_it() -> None:
    """Of a request that was under way when it opened: only a probe closes it."""
    breaker = CircuitBreaker()
    for _ in range(3):
        breaker.failed()
    breaker.succeeded()
    assert breaker.open
    assert breaker.failed() is True


def test_the_probe_closes_it_and_the_count_starts_anew() -> None:
    """After `close` it takes three failures again."""
    breaker = CircuitBreaker()
    for _ in range(5):
        breaker.failed()
    breaker.close()
    assert not breaker.open
    assert [breaker.failed() for _ in range(3)] == [False, False, True]


@given(st.lists(st.sampled_from(["failed", "succeeded", "close"]), max_size=40))
def test_it_is_open_exactly_after_three_failures_in_a_row_since_it_was_closed(
    events: list[str],
) -> None:
    """Whatever comes in whatever order."""
    breaker = CircuitBreaker()
    row, is_open = 0, False
    for event in events:
        getattr(breaker, event)()
        row = row + 1 if event == "failed" else 0
        is_open = (is_open or row >= 3) and event != "close"
        assert breaker.open is is_open


def test_failures_of_several_threads_are_all_counted() -> None:
    """Two halves of the library share one breaker; exactly one failure finds it closed still."""
    for _ in range(50):
        breaker = CircuitBreaker()
        start = threading.Barrier(3)
        with ThreadPoolExecutor(3) as threads:
            said = [threads.submit(_fail, breaker, start) for _ in range(3)]
        assert sorted(future.result() for future in said) == [False, False, True]


def _fail(breaker: CircuitBreaker, start: threading.Barrier) -> bool:
    start.wait()
    return breaker.failed()
