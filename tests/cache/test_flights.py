"""Collapsed forwarding: which request may take another's response, and how long it waits."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage import MemoryStore
from maxage.background import Background
from maxage.cache.flights import Flights
from maxage.store.claims import Claims, ClaimState
from tests.support.threads import run_side_by_side
from tests.support.timing import in_time
from tests.support.waiting import PATIENCE

TOKENS: dict[str, bytes | None] = {"n": b"1", "p:/x": b"2"}


@pytest.mark.parametrize(
    ("tokens", "may"),
    [
        ({"n": b"1", "p:/x": b"2"}, True),
        ({"p:/x": b"2", "n": b"1"}, True),
        ({"n": b"1", "p:/x": b"3"}, False),
        ({"n": b"9", "p:/x": b"2"}, False),
        ({"n": b"1", "p:/x": None}, False),
        ({"n": b"1"}, False),
        ({"n": b"1", "p:/x": b"2", "g:t": b"4"}, False),
        ({}, False),
    ],
)
async def test_only_equal_tokens_may_join(tokens: dict[str, bytes | None], *, may: bool) -> None:
    """Without that, a read which began after a write could be answered from before it."""
    assert Flights[str]().lead(b"k", TOKENS).may_be_joined(tokens) is may


async def test_a_fill_that_lacks_a_token_is_not_joined() -> None:
    """Two times nothing is not the same: missing equals nothing, not even missing."""
    flight = Flights[str]().lead(b"k", {"n": b"1", "p:/x": None})
    assert not flight.may_be_joined({"n": b"1", "p:/x": None})


_tokens = st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from([b"1", b"2"]))


@given(_tokens, _tokens)
def test_joining_needs_all_tokens_present_and_equal(
    captured: dict[str, bytes | None], read: dict[str, bytes | None]
) -> None:
    """The rule of the design, over all small cases."""

    async def joined() -> bool:
        return Flights[str]().lead(b"k", captured).may_be_joined(read)

    assert asyncio.run(joined()) == (captured == read and None not in captured.values())


async def test_changing_the_tokens_afterwards_does_not_change_the_rule() -> None:
    """The fill keeps what it captured."""
    tokens = dict(TOKENS)
    flight = Flights[str]().lead(b"k", tokens)
    tokens["p:/x"] = b"other"
    assert flight.may_be_joined(TOKENS)
    assert not flight.may_be_joined(tokens)


async def test_all_who_wait_get_the_response() -> None:
    """One request asks the application, the others wait for it."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    waiting = [asyncio.create_task(flight.wait(10)) for _ in range(20)]
    await asyncio.sleep(0)
    flights.finish(flight, "response")
    assert await asyncio.gather(*waiting) == ["response"] * 20


async def test_a_fill_that_came_to_nothing_releases_all_followers_at_once() -> None:
    """Not shareable, or failed: no request waits for the bound to pass."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    waiting = asyncio.create_task(flight.wait(60))
    await asyncio.sleep(0)
    flights.finish(flight)
    assert await asyncio.wait_for(waiting, PATIENCE) is None


async def test_who_waits_gives_up_after_the_bound() -> None:
    """A dead leader holds no request for ever; the others still get its response when it comes."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    patient = asyncio.create_task(flight.wait(30))
    began = time.monotonic()
    assert await flight.wait(0.02) is None
    in_time(time.monotonic() - began, 5)
    flights.finish(flight, "response")
    assert await patient == "response"


async def test_a_cancelled_follower_takes_nothing_from_the_others() -> None:
    """A client that hangs up."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    one, other = (asyncio.create_task(flight.wait(30)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    flights.finish(flight, "response")
    assert await other == "response"


async def test_a_finished_fill_is_neither_found_nor_joined() -> None:
    """The next request leads."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    assert flights.find(b"k") is flight
    flights.finish(flight, "response")
    assert flights.find(b"k") is None
    assert not flight.may_be_joined(TOKENS)


async def test_keys_do_not_meet() -> None:
    """Each key has its own fill."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    assert flights.find(b"other") is None
    other = flights.lead(b"other", TOKENS)
    flights.finish(flight, "response")
    assert flights.find(b"other") is other


async def test_the_end_of_an_older_fill_leaves_the_newer_one() -> None:
    """After a purge a second fill began; the first must not remove it."""
    flights = Flights[str]()
    older = flights.lead(b"k", TOKENS)
    newer = flights.lead(b"k", {"n": b"1", "p:/x": b"3"})
    assert flights.find(b"k") is newer
    flights.finish(older, "old")
    assert flights.find(b"k") is newer
    assert newer.may_be_joined({"n": b"1", "p:/x": b"3"})


async def test_finishing_twice_keeps_the_first_result() -> None:
    """A fill that landed and then fails while it cleans up."""
    flights = Flights[str]()
    flight = flights.lead(b"k", TOKENS)
    flights.finish(flight, "first")
    flights.finish(flight)
    assert await flight.wait(1) == "first"


async def test_a_fill_of_another_event_loop_is_not_joined() -> None:
    """Its future cannot be awaited there."""
    flight = Flights[str]().lead(b"k", TOKENS)

    def elsewhere() -> bool:
        async def joined() -> bool:
            return flight.may_be_joined(TOKENS)

        return asyncio.run(joined())

    assert await asyncio.to_thread(elsewhere) is False


def test_an_event_loop_that_ended_is_let_go_of_by_its_claims() -> None:
    """Though it ended before they were to be renewed: tests make a new one each time."""

    async def claim_and_end(claims: Claims) -> weakref.ref[asyncio.AbstractEventLoop]:
        claim = claims.to(b"claim")
        assert await claim.take() is ClaimState.OURS
        claim.end(written=True)
        return weakref.ref(asyncio.get_running_loop())

    claims = Claims(MemoryStore(), Background(), not_shareable_for=1.0)
    ended = asyncio.run(claim_and_end(claims))
    gc.collect()
    assert ended() is None


class _OwnerOfThread:
    """Stands for the event loop of each thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def owner(self) -> object:
        """The event loop of this thread."""
        if not hasattr(self._local, "owner"):
            self._local.owner = type("Loop", (), {})()
        owner: object = self._local.owner
        return owner

    def spawn(self, work: Any) -> None:
        """Do nothing."""

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Do nothing."""


def test_claims_taken_in_two_threads_are_renewed_each_in_its_own_event_loop() -> None:
    """The renewals that were used last are never taken for those of another event loop."""
    claims = Claims(MemoryStore(), _OwnerOfThread(), not_shareable_for=1.0)
    foreign: list[object] = []

    def ask() -> None:
        own = claims.renewals()
        foreign.extend(True for _ in range(40_000) if claims.renewals() is not own)

    run_side_by_side(ask, 2)
    assert foreign == []
