"""A shadow lets the handlers answer, and tells what the cache would have answered otherwise."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from maxage import (
    CacheMiddleware,
    CacheSettings,
    MemoryStore,
    cached,
    invalidates_only,
    uncached,
)
from maxage.errors import StoreUnavailableError
from maxage.observe import failures
from maxage.shadow import ShadowReport
from maxage.shadow.publisher import read_reports
from maxage.shadow.report import Difference
from maxage.shadow.shadow import Shadow, _shadows
from maxage.shadow.writes import Writes
from tests.support.asgi import Receive, Scope, Send, call, lifespan
from tests.support.caching import background_done, cache_of, piece, start, status_of
from tests.support.clock import ManualClock


class Shop:
    """An application with one fault of each kind, behind a cache."""

    def __init__(self) -> None:
        self.app = app = FastAPI(openapi_url=None)
        self.state = "new"
        self.runs = itertools.count(1)

        @app.get("/greeting")
        def greeting(request: Request) -> dict[str, Any]:
            return {"text": {"hello": request.headers.get("referer")}}

        @app.get("/clock")
        def clock() -> dict[str, int]:
            return {"now": next(self.runs)}

        @app.get("/clean")
        def clean(response: Response) -> list[int]:
            response.headers["x-request-id"] = str(next(self.runs))
            response.headers["x-node-run"] = str(next(self.runs))
            return [1]

        @app.get("/orders/{order_id}")
        def order(order_id: int) -> str:
            return self.state

        @app.get("/dashboard")
        @cached(ttl=60, isolated=True)
        def dashboard() -> dict[str, list[dict[str, str]]]:
            return {"orders": [{"state": self.state}]}

        @app.put("/orders/{order_id}")
        def put(order_id: int, state: str, status: int = 200) -> Response:
            self.state = state
            return Response(status_code=status)

        @app.put("/login")
        @invalidates_only()
        def login() -> None: ...

        @app.get("/tier")
        def tier(request: Request, response: Response) -> int:
            response.headers["x-tier"] = request.headers.get("referer", "none")
            return 1

        @app.get("/gone")
        @cached(ttl=60, isolated=True)
        def gone() -> Response:
            return Response(self.state, status_code=200 if self.state == "new" else 404)

        @app.get("/hidden")
        @cached(ttl=10, isolated=True)
        def hidden() -> Response:
            return Response(
                "1",
                status_code=200 if self.state == "new" else 503,
                headers={"cache-control": "max-age=10, stale-if-error=600"},
            )

        @app.get("/failing")
        @cached(ttl=60, isolated=True)
        def failing() -> Response:
            return Response("1", status_code=200 if self.state == "new" else 503)


def shadow_of(cache: CacheMiddleware) -> Shadow:
    return _shadows.by_cache[id(cache.cache)]


def told(report: ShadowReport) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By route: in what answers differed, and the suspects."""
    return {one.route: (one.what, one.suspects) for one in report.differences}


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def cache(shop: Shop) -> CacheMiddleware:
    return cache_of(shop.app, cache_shadow=True)


async def test_an_unkeyed_input_is_found(cache: CacheMiddleware) -> None:
    """Its name is told, and where in the JSON the answers differ."""
    for page in ("en", "en", "de"):
        answer = await call(cache, path="/greeting", headers={"referer": page})
        assert page.encode() in answer.body
    report = shadow_of(cache).report
    assert told(report) == {"/greeting": ("body $.text.hello", ("header:referer",))}
    assert (report.misses, report.compared, report.different) == (1, 2, 1)
    assert "vary_by=" in str(report)
    counts = cache.targets.tally.routes["/greeting"]
    assert (counts.compared, counts.different) == (2, 1)


async def test_a_missed_purge_is_found_with_its_write(cache: CacheMiddleware) -> None:
    """The route of the write is named, and one such request."""
    await call(cache, path="/dashboard")
    await call(cache, "PUT", "/orders/7", query=b"state=paid")
    answer = await call(cache, path="/dashboard", query=b"")
    assert b"paid" in answer.body
    report = shadow_of(cache).report
    assert told(report) == {"/dashboard": ("body $.orders[*].state", ("PUT /orders/{order_id}",))}
    assert report.differences[0].example == "GET /dashboard"
    assert "PUT /orders/{order_id} came since it was stored" in str(report)


def test_a_write_without_a_known_route_has_a_mend_that_needs_none() -> None:
    """There is no function that could be decorated."""
    found = Difference(route="unknown", what="body", count=1, writes={"POST unknown": 1})
    assert found.cause == (
        "POST without a known route came since it was stored and did not purge it: set "
        "CACHE_PURGE=unproven, or name what it purges by a Rule."
    )
    found.writes["PUT /items"] = 1
    assert "POST without a known route or PUT /items came since" in found.cause
    assert "state @invalidates there" in found.cause


async def test_a_write_that_changed_nothing_is_no_suspect(cache: CacheMiddleware) -> None:
    """A 4xx purges nothing, and needs to purge nothing."""
    await call(cache, path="/dashboard")
    await call(cache, "PUT", "/orders/7", query=b"state=paid&status=404")
    await call(cache, path="/dashboard")
    assert told(shadow_of(cache).report) == {"/dashboard": ("body $.orders[*].state", ())}


async def test_a_time_dependence_is_found(cache: CacheMiddleware) -> None:
    """There is neither a write nor another input."""
    for _ in range(3):
        await call(cache, path="/clock")
    report = shadow_of(cache).report
    assert told(report) == {"/clock": ("body $.now", ())}
    assert "by time or chance" in str(report)


async def test_a_purged_response_is_a_miss(cache: CacheMiddleware) -> None:
    """What a write purges as it should makes no difference."""
    await call(cache, path="/orders/7")
    await call(cache, "PUT", "/orders/7", query=b"state=paid")
    await call(cache, path="/orders/7")
    report = shadow_of(cache).report
    assert (report.misses, report.compared, report.differences) == (2, 0, [])


async def test_headers_and_status_count(cache: CacheMiddleware) -> None:
    """Each by its name."""
    for tier in ("gold", "none", "gold", "none"):
        await call(cache, path="/tier", headers={"referer": tier})
    await call(cache, path="/gone")
    await call(cache, "PUT", "/orders/7", query=b"state=old")
    await call(cache, path="/gone")
    found = {route: what for route, (what, _) in told(shadow_of(cache).report).items()}
    assert found == {"/tier": "header x-tier", "/gone": "status 200 -> 404"}


async def test_headers_that_always_differ_do_not_count(cache: CacheMiddleware) -> None:
    """Ids of requests by their name, others when each answer has had a new value."""
    for _ in range(5):
        await call(cache, path="/clean")
    report = shadow_of(cache).report
    assert report.differences == []
    assert (report.compared, report.different) == (4, 0)


async def test_a_failure_of_the_moment_does_not_count(shop: Shop, cache: CacheMiddleware) -> None:
    """A stored response would have helped."""
    await call(cache, path="/failing")
    shop.state = "broken"
    assert (await call(cache, path="/failing")).status == 503
    report = shadow_of(cache).report
    assert (report.compared, report.overtaken, report.differences) == (0, 1, [])


async def test_a_write_under_way_explains_a_difference(shop: Shop) -> None:
    """It purges before it is answered; until then the stored response was right to be served."""
    started, gate = asyncio.Event(), asyncio.Event()

    @shop.app.post("/orders/{order_id}")
    async def post(order_id: int) -> None:
        shop.state = "paid"
        started.set()
        await gate.wait()

    cache = cache_of(shop.app, cache_shadow=True)
    await call(cache, path="/orders/7")
    writing = asyncio.create_task(call(cache, "POST", "/orders/7"))
    await started.wait()
    reading = asyncio.create_task(call(cache, path="/orders/7"))
    await asyncio.sleep(0)
    gate.set()
    await writing
    assert b"paid" in (await reading).body
    report = shadow_of(cache).report
    assert (report.overtaken, report.differences) == (1, [])


async def test_an_input_that_made_no_difference_elsewhere_is_no_suspect(
    cache: CacheMiddleware,
) -> None:
    """The user agent differed when the answers were the same."""
    for page, agent in (("en", "a"), ("de", "b"), ("de", "c"), ("de", "d"), ("de", "e")):
        headers = {"referer": page, "user-agent": agent}
        await call(cache, path="/greeting", headers=headers)
    (difference,) = shadow_of(cache).report.differences
    assert difference.suspects == ("header:referer",)


async def test_what_is_there_now_and_then_is_no_suspect(cache: CacheMiddleware) -> None:
    """A cause is there nearly each time: a clock goes on without the write and the other client."""
    for number in range(12):
        await call(cache, path="/clock", headers={"user-agent": "ab"[number % 2]})
        await call(cache, path="/clock", headers={"user-agent": "ab"[number % 2]})
        if number % 3 == 0:
            await call(cache, "PUT", "/login")
    assert told(shadow_of(cache).report) == {"/clock": ("body $.now", ())}


async def test_answers_are_the_handlers_and_the_cache_fills(cache: CacheMiddleware) -> None:
    """Cache-Status says that the cache was bypassed."""
    answers = [await call(cache, path="/clock") for _ in range(2)]
    assert [one.body for one in answers] == [b'{"now":1}', b'{"now":2}']
    assert status_of(answers[1]).startswith(b"maxage; fwd=bypass")


async def test_a_failure_is_the_handlers_too(shop: Shop) -> None:
    """No stale response hides it, also where the response permits that."""
    clock = ManualClock()
    cache = cache_of(shop.app, clock, cache_shadow=True)
    await call(cache, path="/hidden")
    clock.advance(20)
    shop.state = "broken"
    answer = await call(cache, path="/hidden")
    assert answer.status == 503
    assert status_of(answer).startswith(b"maxage; fwd=stale")


async def test_a_comparison_that_fails_is_no_failure_of_the_request(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer was sent before it."""
    cache = cache_of(shop.app, cache_shadow=True)
    await call(cache, path="/clock")

    async def since(*_: object) -> None:
        raise StoreUnavailableError("the server is away")

    monkeypatch.setattr(Writes, "since", since)
    monkeypatch.setattr(failures, "_told_at", -1000.0)
    assert (await call(cache, path="/clock")).body == b'{"now":2}'
    told = [one.levelname for one in caplog.records if one.message.startswith("A tool that looks")]
    assert told == ["WARNING"]


async def test_conditions_of_clients_are_no_difference(cache: CacheMiddleware) -> None:
    """A 304 stands for the response that the client has; a HEAD has no body."""
    first = await call(cache, path="/clean")
    etag = first.header("etag")
    assert etag
    again = await call(cache, path="/clean", headers={"if-none-match": etag.decode()})
    assert again.status == 304
    await call(cache, "HEAD", "/clean")
    report = shadow_of(cache).report
    assert [one.what for one in report.differences if "x-node-run" not in one.what] == []


async def test_a_stale_response_is_not_compared(shop: Shop) -> None:
    """Its lifetime is over: the cache would have asked."""
    clock = ManualClock()
    cache = cache_of(shop.app, clock, cache_shadow=True)
    await call(cache, path="/clock")
    clock.advance(301)
    await call(cache, path="/clock")
    assert (shadow_of(cache).report.misses, shadow_of(cache).report.compared) == (2, 0)


@pytest.mark.parametrize(("drawn", "compared"), [(0.0009, 2), (0.001, 0)])
async def test_verify_compares_a_share(shop: Shop, drawn: float, compared: int) -> None:
    """The others are answered by the cache, as without it."""
    cache = cache_of(shop.app, cache_verify=0.001)
    assert cache.cache
    cache.cache.draw = lambda: drawn
    statuses = [status_of(await call(cache, path="/clock")) for _ in range(3)]
    assert shadow_of(cache).report.compared == compared
    word = b"maxage; fwd=bypass" if compared else b"maxage; hit"
    assert all(status.startswith(word) for status in statuses[1:])


async def test_verify_mends_what_it_finds(shop: Shop) -> None:
    """The handler's answer takes the place of the stored one."""
    cache = cache_of(shop.app, cache_verify=0.5)
    assert cache.cache
    draws = iter([0.9, 0.1, 0.9])
    cache.cache.draw = lambda: next(draws)
    bodies = []
    for state in ("new", "paid", "ignored"):
        shop.state = state
        bodies.append((await call(cache, path="/dashboard")).body)
    assert b"new" in bodies[0]
    assert b"paid" in bodies[1]
    assert b"paid" in bodies[2]


async def test_verify_knows_the_input_by_which_the_cache_was_filled(shop: Shop) -> None:
    """Also where the request that filled it was no sample."""
    cache = cache_of(shop.app, cache_verify=0.5)
    assert cache.cache
    draws = iter([0.9, 0.1])
    cache.cache.draw = lambda: next(draws)
    for page in ("en", "de"):
        await call(cache, path="/greeting", headers={"referer": page})
    suspects = ("header:referer",)
    assert told(shadow_of(cache).report) == {"/greeting": ("body $.text.hello", suspects)}


async def test_differences_are_logged_once(
    cache: CacheMiddleware, caplog: pytest.LogCaptureFixture
) -> None:
    """With route, path, example and cause."""
    caplog.set_level(logging.WARNING, "maxage")
    for _ in range(4):
        await call(cache, path="/clock")
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Shadow:")]
    assert len(lines) == 1
    assert lines[0].startswith("Shadow: /clock: body $.now differs, once, as in GET /clock.")


async def test_without_the_settings_nothing_is_compared(shop: Shop) -> None:
    """Nor is a middleware beside one that has them."""
    cache = cache_of(shop.app)
    shadowed = cache_of(Shop().app, cache_shadow=True)
    for _ in range(2):
        await call(cache, path="/clock")
    assert id(cache.cache) not in _shadows.by_cache
    assert shadow_of(shadowed).report.misses == 0


async def test_credentials_and_uncached_routes_are_passed_on(shop: Shop) -> None:
    """Nothing of them is stored, so that there is nothing to compare."""
    shop.app.get("/me")(uncached(lambda: next(shop.runs)))
    cache = cache_of(shop.app, cache_shadow=True)
    for _ in range(2):
        await call(cache, path="/me")
        await call(cache, path="/clock", headers={"authorization": "Bearer 1"})
    report = shadow_of(cache).report
    assert (report.compared, report.differences) == (0, [])


async def test_workers_know_each_others_writes_and_their_reports_are_added_up(
    redis_url: str,
) -> None:
    """The write came through another worker, as a deployment has them."""
    shop, settings = Shop(), CacheSettings(redis_url=redis_url, cache_shadow=True)
    one, other = CacheMiddleware(shop.app, settings), CacheMiddleware(shop.app, settings)
    async with lifespan(one), lifespan(other):
        await call(one, path="/dashboard")
        await background_done(one)
        await call(other, "PUT", "/orders/7", query=b"state=paid")
        await background_done(other)
        await call(one, path="/dashboard")
        assert told(shadow_of(one).report)["/dashboard"][1] == ("PUT /orders/{order_id}",)
        shadow_of(one)._publish()
        await background_done(one)
        report = await asyncio.to_thread(read_reports, settings)
    assert report is not None
    assert told(report) == told(shadow_of(one).report)


def test_the_command_shows_the_reports(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text and as JSON; exit code 1 where there are differences, and where there is nothing."""
    from maxage.cli import main

    monkeypatch.delenv("REDIS_URL", raising=False)
    assert main(["shadow", "--redis-url", redis_url]) == 1
    assert "CACHE_SHADOW=true" in capsys.readouterr().err

    async def compare(ask: Callable[[CacheMiddleware], Any]) -> None:
        settings = CacheSettings(redis_url=redis_url, cache_shadow=True)
        cache = CacheMiddleware(Shop().app, settings)
        async with lifespan(cache):
            await ask(cache)
            shadow_of(cache)._publish()

    async def clean(cache: CacheMiddleware) -> None:
        await call(cache, path="/dashboard")
        await call(cache, path="/dashboard")

    asyncio.run(compare(clean))
    assert main(["shadow", "--redis-url", redis_url]) == 0
    assert "1 answers compared, 0 differ" in capsys.readouterr().out

    async def wrong(cache: CacheMiddleware) -> None:
        await call(cache, path="/clock")
        await call(cache, path="/clock")

    asyncio.run(compare(wrong))
    assert main(["shadow", "--redis-url", redis_url, "--json"]) == 1
    assert '"what": "body $.now"' in capsys.readouterr().out


def test_the_embedded_store_needs_no_background() -> None:
    """Each request of a test client may have an event loop of its own."""
    shop = Shop()
    cache = CacheMiddleware(shop.app, CacheSettings(cache_shadow=True), store=MemoryStore())
    for _ in range(2):
        asyncio.run(call(cache, path="/clock"))
    assert shadow_of(cache).report.different == 1


@pytest.mark.parametrize("length", [None, b"2000"], ids=["stored", "too-short"])
async def test_compressed_responses_are_compared_by_what_they_mean(length: bytes | None) -> None:
    """Their plain bodies; and their headers, also where the handler's answer is not stored."""
    lengths = iter((None, length, length))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        declared = next(lengths)
        lines = [] if declared is None else [(b"content-length", declared)]
        await send(start((b"cache-control", b"max-age=60"), *lines))
        await send(piece(b"word " * 300))

    cache = cache_of(app, cache_shadow=True, cache_compress=True)
    for _ in range(3):
        await call(cache, path="/x", headers={"accept-encoding": "zstd"})
        await background_done(cache)
    report = shadow_of(cache).report
    assert (report.misses, report.compared, report.different) == (1, 2, 0)


async def test_near_copies_are_compared_too(redis_url: str) -> None:
    """As they would have answered: without a lookup in Redis."""
    settings = CacheSettings(
        redis_url=redis_url, cache_near_bytes=1 << 20, cache_near="prompt", cache_shadow=True
    )
    cache = CacheMiddleware(Shop().app, settings)
    async with lifespan(cache):
        for _ in range(4):
            await call(cache, path="/clock")
            await background_done(cache)
    assert shadow_of(cache).report.different == 3
