"""Collapsed forwarding across processes: one of them asks the application, the others wait.

Two middlewares with stores of their own over one Redis stand for two processes; they share nothing
else. Real ones are at the end.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response

from maxage import CacheMiddleware, CacheSettings, RedisStore
from maxage.store.base import CLAIM_SECONDS
from tests.catalogue.figures import BACK_WITHIN, GENEROUS
from tests.support.asgi import CounterApp, Exchange, call, http_scope
from tests.support.caching import status_of
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import NEVER, PATIENCE, wait_until
from tests.support.workers import Workers

pytestmark = pytest.mark.anyio


class Page:
    """One application behind two middlewares; its handler can be held."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = CacheSettings(
            redis_url=url,
            cache_namespace=f"t{uuid.uuid4().hex[:12]}",
            cache_read_budget=5.0,
            cache_write_budget=5.0,
            # A request that waits in vain is seen.
            **{"cache_collapse_wait": NEVER, **settings},
        )
        self.value = 0
        self.runs = 0
        self.headers: dict[str, str] = {}
        self.status = 200
        self.entered, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.app = app = FastAPI(openapi_url=None)

        @app.get("/page")
        async def page() -> Response:
            self.runs += 1
            shown = self.value
            self.entered.set()
            await self.gate.wait()
            if self.status == 0:
                raise RuntimeError("the handler failed")
            return Response(str(shown), status_code=self.status, headers=self.headers)

        @app.put("/page")
        async def change() -> None:
            self.value += 1

        self.one, self.two = self._process(), self._process()

    def _process(self) -> CacheMiddleware:
        store = RedisStore(self.settings.redis_url or "", self.settings)
        return CacheMiddleware(self.app, self.settings, store=store)

    def start(self, process: CacheMiddleware) -> Exchange:
        """Begin a GET."""
        return Exchange(process, http_scope(path="/page")).start()

    async def ran(self, times: int) -> None:
        """Wait until the handler has begun so many times."""
        async with asyncio.timeout(PATIENCE):
            while self.runs < times:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Let what runs come to its end."""
        for process in (self.one, self.two):
            await process.aclose()


@pytest.fixture
async def page(redis_url: str) -> AsyncIterator[Page]:
    """A page on the shared server."""
    made = Page(redis_url)
    yield made
    await made.close()


@asynccontextmanager
async def held(page: Page) -> AsyncGenerator[Exchange]:
    """A GET through the first process that is in its handler; it goes on afterwards."""
    page.gate.clear()
    page.entered.clear()
    leading = page.start(page.one)
    await asyncio.wait_for(page.entered.wait(), PATIENCE)
    yield leading
    page.gate.set()
    await leading.finish()


async def test_another_process_waits_for_the_response_and_takes_it(page: Page) -> None:
    """Its own handler does not run; Cache-Status says that it was collapsed."""
    async with held(page) as leading:
        waiting = page.start(page.two)
        await asyncio.sleep(CLAIM_SECONDS * 1.5)  # longer than a claim lives that is not renewed
        assert page.runs == 1
        page.gate.set()
        assert (await leading.finish()).body == (answer := await waiting.finish()).body == b"0"
    assert page.runs == 1
    assert b"collapsed" in status_of(answer)
    assert b"hit" in status_of(await call(page.two, path="/page"))


async def test_a_get_after_a_write_does_not_wait_for_a_fetch_before_it(page: Page) -> None:
    """Its tokens are others: what the other process fetches is outdated."""
    async with held(page):
        await call(page.two, "PUT", "/page")
        after = page.start(page.two)
        await page.ran(2)
        page.gate.set()
        assert (await after.finish()).body == b"1"
    assert (await call(page.one, path="/page")).body == b"1"


async def test_a_write_while_a_process_waits_frees_it(page: Page) -> None:
    """It does not wait for what could not be given to it any more."""
    async with held(page):
        waiting = page.start(page.two)
        await asyncio.sleep(0.1)
        assert page.runs == 1
        await call(page.one, "PUT", "/page")
        await page.ran(2)
        page.gate.set()
        assert (await waiting.finish()).body == b"1"


@pytest.mark.parametrize(
    ("status", "headers"), [(200, {"cache-control": "no-store"}), (200, {"set-cookie": "a=b"})]
)
async def test_what_cannot_be_shared_is_not_waited_for_again(
    page: Page, status: int, headers: dict[str, str]
) -> None:
    """The first one that waits is told so; from then on no request waits in any process."""
    page.headers, page.status = headers, status
    async with held(page):
        waiting = [page.start(page.two) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert page.runs == 1
    for one in waiting:
        await one.finish()
    async with held(page):
        ran = page.runs
        together = [page.start(page.two) for _ in range(3)]
        await page.ran(ran + 3)
    for one in together:
        await one.finish()


@pytest.mark.parametrize("how", ["exception", "error", "cancelled"])
async def test_a_fetch_that_came_to_nothing_frees_the_others_at_once(page: Page, how: str) -> None:
    """One of them asks the application itself."""
    async with held(page) as leading:
        waiting = page.start(page.two)
        await asyncio.sleep(0.1)
        page.status = {"exception": 0, "error": 503}.get(how, 200)
        if how == "cancelled":
            leading.cancel()
        began = time.monotonic()
    page.status = 200
    await waiting.finish()
    assert page.runs == 2
    in_time(time.monotonic() - began, 5)


async def test_no_request_waits_for_ever(redis_url: str) -> None:
    """CACHE_COLLAPSE_WAIT bounds it."""
    page = Page(redis_url, cache_collapse_wait=0.3)
    async with held(page):
        began = time.monotonic()
        waiting = page.start(page.two)
        await page.ran(2)
        assert time.monotonic() - began > 0.25
    await waiting.finish()
    await page.close()


async def test_a_middleware_around_another_one_is_not_waited_for(page: Page) -> None:
    """It has claimed the response, and waits for it itself."""
    url, settings = page.settings.redis_url or "", page.settings
    inner = CacheMiddleware(CounterApp(), settings, store=RedisStore(url, settings))
    outer = CacheMiddleware(inner, settings, store=RedisStore(url, settings))
    assert (await call(outer, path="/page")).body == b"run 1"
    for process in (outer, inner):
        await process.aclose()


async def test_without_collapsing_no_process_claims(
    redis_url: str, redis_server: RedisServer
) -> None:
    """CACHE_COLLAPSE_WAIT=0."""
    page = Page(redis_url, cache_collapse_wait=0)
    async with held(page):
        assert [key for key in redis_server.call("KEYS", "*") if b":f:" in key] == []
    await page.close()


async def test_a_process_that_died_keeps_the_others_waiting_for_a_second_at_most(
    page: Page, redis_server: RedisServer
) -> None:
    """Its claim is not renewed any more, and ends."""
    async with held(page) as leading:
        (key,) = [key for key in redis_server.call("KEYS", "*") if b":f:" in key]
        mine = redis_server.call("GET", key)
        page.gate.set()
        await leading.finish()
    await call(page.one, "PUT", "/page")
    # As if a process had claimed the new tokens and died: found by what the next one asks for.
    page.entered.clear()
    async with held(page) as dying:
        (key,) = [
            key
            for key in redis_server.call("KEYS", "*")
            if b":f:" in key and redis_server.call("GET", key) not in (b"+", None)
        ]
        assert redis_server.call("GET", key) != mine
        flight = page.one.cache.flights if page.one.cache else None
        assert flight is not None
        for one in flight._by_key.values():
            assert one.claim is not None
            assert one.claim._renewals is not None
            one.claim._renewals.claims.clear()
        began = time.monotonic()
        waiting = page.start(page.two)
        await page.ran(3)
        in_time(time.monotonic() - began, CLAIM_SECONDS + 1.0)
        page.gate.set()
        await waiting.finish()
        await dying.finish()


async def test_a_hit_claims_nothing_and_a_miss_once(fault_proxy: FaultProxy) -> None:
    """No round trip more on a hit, one on a miss, and one command with the write."""
    page = Page(fault_proxy.url)
    await call(page.one, path="/page")
    await call(page.one, "PUT", "/page")
    fault_proxy.forget()
    await call(page.one, path="/page")
    await asyncio.to_thread(
        fault_proxy.wait_seen, "SET", 3
    )  # the claim, the response, the end of the claim
    await asyncio.sleep(0.05)
    assert fault_proxy.seen["MGET"] == 1
    assert fault_proxy.seen["SET"] == 3
    assert fault_proxy.seen["UNLINK"] == 0
    fault_proxy.forget()
    assert b"hit" in status_of(await call(page.one, path="/page"))
    assert dict(fault_proxy.seen) == {"MGET": 1}
    await page.close()


async def test_only_one_process_refreshes_what_is_stale(page: Page) -> None:
    """The others go on serving it."""
    page.headers = {"cache-control": "max-age=0, stale-while-revalidate=60"}
    await call(page.one, path="/page")
    await asyncio.sleep(1.2)  # until nothing is left of the claim to the first one
    async with held_refresh(page):
        for _ in range(3):
            assert b"hit" in status_of(await call(page.two, path="/page"))
            await asyncio.sleep(0.05)
        assert page.runs == 2


@asynccontextmanager
async def held_refresh(page: Page) -> AsyncGenerator[None]:
    """A refresh of the first process that is in its handler."""
    page.gate.clear()
    page.entered.clear()
    assert b"hit" in status_of(await call(page.one, path="/page"))
    await asyncio.wait_for(page.entered.wait(), PATIENCE)
    yield
    page.gate.set()


# real processes

HOST = {"host": "example.org"}
"""The workers have ports of their own; what they serve is one site."""

SLOW = """
import asyncio, os, pathlib
from fastapi import FastAPI
from maxage import CacheMiddleware

app = FastAPI()
app.add_middleware(CacheMiddleware)
runs = pathlib.Path(os.environ["RUNS"])

@app.get("/slow/{name}")
async def slow(name: str) -> str:
    with runs.open("a") as file:
        file.write(name + "\\n")
    await asyncio.sleep(float(os.environ["SECONDS"]))
    return name

@app.get("/ready")
async def ready() -> str:
    return "ready"
"""


async def test_a_stampede_over_two_workers_runs_the_handler_once(
    workers: Workers, redis_url: str, tmp_path: Any
) -> None:
    """200 requests at once for a response that no process has."""
    runs = tmp_path / "runs"
    environment = {"REDIS_URL": redis_url, "RUNS": str(runs), "SECONDS": "0.5"}
    environment |= {
        "CACHE_READ_BUDGET": "5",
        "CACHE_WRITE_BUDGET": "5",
        "CACHE_COLLAPSE_WAIT": "60",
    }
    started = [workers.start(SLOW, env=environment) for _ in range(2)]
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(limits=limits, timeout=60, headers=HOST) as client:
        urls = [f"{started[n % 2].url}/slow/a" for n in range(200)]
        answers = await asyncio.gather(*map(client.get, urls))
    assert {answer.text for answer in answers} == {'"a"'}
    assert runs.read_text().split() == ["a"]


def test_a_worker_that_is_killed_while_it_fetches_is_not_waited_for(
    workers: Workers, redis_url: str, tmp_path: Any
) -> None:
    """The next answer comes within a second and the handler's own time."""
    runs = tmp_path / "runs"
    environment = {"REDIS_URL": redis_url, "RUNS": str(runs), "SECONDS": "30"}
    environment |= {
        "CACHE_READ_BUDGET": "5",
        "CACHE_WRITE_BUDGET": "5",
        "CACHE_COLLAPSE_WAIT": "60",
    }
    dying = workers.start(SLOW, env=environment)
    living = workers.start(SLOW, env=environment | {"SECONDS": "0"})
    httpx.get(living.url + "/ready", timeout=60)

    def lost() -> None:
        with pytest.raises(httpx.HTTPError):
            httpx.get(dying.url + "/slow/a", timeout=60, headers=HOST)

    leading = threading.Thread(target=lost)
    leading.start()
    wait_until(runs.exists, "the handler runs", timeout=30)
    time.sleep(0.6)  # the claim has been renewed since
    dying.kill()
    leading.join()
    began = time.monotonic()
    answer = httpx.get(living.url + "/slow/a", timeout=60, headers=HOST)
    in_time(time.monotonic() - began, BACK_WITHIN * GENEROUS + 0.5)
    assert answer.text == '"a"'
    assert time.monotonic() - began > 0.05, "it did wait for the claim of the dead"
