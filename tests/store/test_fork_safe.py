"""A fork while another thread holds a lock: the child does not wait for a thread it lacks."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from maxage import MemoryStore
from maxage.redis_store import shared_state
from maxage.redis_store.near.s3_fifo import Copies
from maxage.redis_store.owed_purges import OwedPurges
from maxage.redis_store.servers.circuit_breaker import CircuitBreaker
from maxage.redis_store.shared_state import redis_state_for
from tests.support.waiting import PATIENCE

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


def ends_in_a_child(use: Callable[[], object]) -> bool:
    """Fork; return whether the child has used it within some seconds."""
    child = os.fork()
    if child == 0:
        use()
        os._exit(0)
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def _memory() -> tuple[Any, Callable[[], object]]:
    store = MemoryStore()
    return store._lock, lambda: store.renew_now(("a",))


def _owed_purges() -> tuple[Any, Callable[[], object]]:
    owed = OwedPurges()
    return owed._lock, lambda: owed.add(["a"])


def _breaker() -> tuple[Any, Callable[[], object]]:
    breaker = CircuitBreaker()
    return breaker._lock, breaker.failed


def _copies() -> tuple[Any, Callable[[], object]]:
    copies = Copies(1000, str.encode)
    return copies._lock, lambda: copies.purge([b"a"])


def _states() -> tuple[Any, Callable[[], object]]:
    return shared_state._lock, lambda: redis_state_for("redis://127.0.0.1:1", "fork")


def _lease() -> tuple[Any, Callable[[], object]]:
    state = redis_state_for("redis://127.0.0.1:1", "fork")
    return state.lease_manager.lease._lock, state.lease_manager.lease.begin_mutation


def _recovery() -> tuple[Any, Callable[[], object]]:
    state = redis_state_for("redis://127.0.0.1:1", "fork")
    return state.recovery._lock, state.recover


def _masters() -> tuple[Any, Callable[[], object]]:
    state = redis_state_for("redis+cluster://127.0.0.1:1", "fork")
    return state.topology._learning, state.pay  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "make", [_memory, _owed_purges, _breaker, _copies, _states, _lease, _recovery, _masters]
)
def test_a_lock_that_a_thread_of_the_parent_held_is_free_in_the_child(
    make: Callable[[], tuple[Any, Callable[[], object]]],
) -> None:
    """Of each thing that several threads share."""
    lock, use = make()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(2 * PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert ends_in_a_child(use)
    finally:
        release.set()
        thread.join()
