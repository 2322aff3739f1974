"""Round trips to Redis before the handler runs: each is a network delay for the user.

Each reply is late by so much that the time until the handler begins tells their number.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Response

from maxage import CacheMiddleware, CacheSettings, RedisStore
from tests.support.asgi import Recorded, call
from tests.support.caching import background_done, status_of
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time

pytestmark = pytest.mark.anyio

DELAY = 0.1
"""Seconds by which each reply is late."""


class Site:
    """An application behind two middlewares over one Redis, as in two processes."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.began: list[float] = []
        """When its handlers began."""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.settings = CacheSettings(
            redis_url=proxy.url,
            cache_namespace=f"t{uuid.uuid4().hex[:12]}",
            cache_read_budget=5.0,
            cache_write_budget=5.0,
        )
        self.app = app = FastAPI(openapi_url=None)

        @app.get("/items/{number}")
        async def item(number: int) -> Response:
            self.began.append(time.monotonic())
            return Response(str(number), self.status, self.headers)

        @app.put("/items/{number}")
        async def change(number: int) -> None:
            del number

        self.one, self.two = self._process(), self._process()

    def _process(self) -> CacheMiddleware:
        store = RedisStore(self.settings.redis_url or "", self.settings)
        return CacheMiddleware(self.app, self.settings, store=store)

    async def costs(self, trips: int, process: CacheMiddleware, path: str) -> None:
        """Ask for a path that is a miss, which takes so many round trips before its handler."""
        self.proxy.delay(DELAY)
        asked, runs = time.monotonic(), len(self.began)
        await call(process, path=path)
        self.proxy.pass_through()
        await background_done(process)
        assert len(self.began) == runs + 1
        took = self.began[-1] - asked
        assert took > (trips - 0.25) * DELAY
        in_time(took, (trips + 0.75) * DELAY)

    async def ask(self, process: CacheMiddleware, path: str, method: str = "GET") -> Recorded:
        """Ask without delays, and let what is stored be written."""
        answer = await call(process, method, path)
        await background_done(process)
        return answer


@pytest.fixture
async def site(fault_proxy: FaultProxy) -> AsyncIterator[Site]:
    """A site of which both processes have a connection, and nothing is stored."""
    made = Site(fault_proxy)
    for process in (made.one, made.two):
        await made.ask(process, "/items/0")
    yield made
    fault_proxy.pass_through()
    for process in (made.one, made.two):
        await process.aclose()


async def test_a_url_that_was_never_asked_for_costs_two_round_trips(site: Site) -> None:
    """The lookup; then the tokens that it lacks are created, together with the claim."""
    await site.costs(2, site.one, "/items/1")
    assert b"hit" in status_of(await site.ask(site.two, "/items/1"))


async def test_a_url_whose_tokens_exist_costs_two_round_trips(site: Site) -> None:
    """The lookup and the claim."""
    await site.ask(site.two, "/items/2", "PUT")
    await site.costs(2, site.one, "/items/2")


async def test_a_url_that_the_process_has_just_purged_costs_one_round_trip(site: Site) -> None:
    """It expects to find nothing under its own tokens, and claims with the lookup."""
    await site.ask(site.one, "/items/3")
    for _ in range(2):
        await site.ask(site.one, "/items/3", "PUT")
        await site.costs(1, site.one, "/items/3")
        assert b"hit" in status_of(await site.ask(site.two, "/items/3"))


async def test_a_url_whose_last_answer_was_not_stored_costs_one_round_trip(site: Site) -> None:
    """Neither does one that was never stored."""
    site.status = 500
    await site.ask(site.one, "/items/4")
    # Such an answer lets no request wait for a while.
    assert site.one.cache is not None
    await site.costs(1, site.one, "/items/4")


async def test_requests_at_the_same_time_wait_for_no_round_trip_of_others(site: Site) -> None:
    """A hit takes one round trip, though a miss beside it takes two."""
    await site.ask(site.two, "/items/5")
    runs = len(site.began)
    site.proxy.delay(DELAY)
    asked = time.monotonic()
    hit = asyncio.ensure_future(call(site.one, path="/items/5"))
    miss = asyncio.ensure_future(call(site.one, path="/items/6"))
    await hit
    assert len(site.began) == runs
    in_time(time.monotonic() - asked, 2 * DELAY)
    await miss
    assert len(site.began) == runs + 1


async def test_what_another_process_has_stored_is_found_against_all_expectation(
    site: Site, redis_server: RedisServer
) -> None:
    """The claim that left with the lookup is given up, so that no request waits for it."""
    await site.ask(site.one, "/items/7")
    await site.ask(site.one, "/items/7", "PUT")
    await site.ask(site.two, "/items/7")
    # Otherwise what is left of the other process's claim would be found.
    forget_claims(redis_server)
    site.proxy.forget()
    assert b"hit" in status_of(await site.ask(site.one, "/items/7"))
    claims = [words[1] for words in site.proxy.commands if words[0] == b"SET"]
    removed = [words[1] for words in site.proxy.commands if words[0] == b"UNLINK"]
    assert claims == removed
    site.proxy.forget()
    await site.ask(site.one, "/items/7")
    assert site.proxy.seen["SET"] == 0


async def test_what_another_process_has_stored_is_validated_under_that_claim(
    site: Site, redis_server: RedisServer
) -> None:
    """The request does not wait for its own claim."""
    await site.ask(site.one, "/items/9")
    await site.ask(site.one, "/items/9", "PUT")
    site.headers = {"cache-control": "no-cache", "etag": '"9"'}
    await site.ask(site.two, "/items/9")
    forget_claims(redis_server)
    await site.costs(1, site.one, "/items/9")


def forget_claims(redis_server: RedisServer) -> None:
    """Remove what is left of claims, as happens within a second."""
    for key in redis_server.call("KEYS", "*"):
        if b":f:" in key:
            redis_server.call("DEL", key)


async def test_a_token_that_another_process_creates_meanwhile_voids_the_claim(
    site: Site, fault_proxy: FaultProxy
) -> None:
    """The claim is made again, under the token that holds; the response is stored and found."""
    lacks = fault_proxy.hold("MGET", side="reply", times=1)
    first = asyncio.ensure_future(call(site.one, path="/items/8"))
    await lacks.until_held()
    second = asyncio.ensure_future(call(site.two, path="/items/8"))
    await second
    lacks.release()
    await first
    for process in (site.one, site.two):
        await background_done(process)
        assert b"hit" in status_of(await site.ask(process, "/items/8"))
