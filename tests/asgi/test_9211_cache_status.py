"""RFC 9211 section 2, sentence by sentence, on what the middleware really sends."""

import asyncio
import re
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from maxage import CacheMiddleware, CacheSettings, uncached
from maxage.invalidation.dependencies import current_dependencies
from tests.support.asgi import (
    CounterApp,
    Exchange,
    Receive,
    Recorded,
    Scope,
    Send,
    StreamingApp,
    call,
    http_scope,
    routed,
)
from tests.support.caching import background_done, cache_of, piece, start, status_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

Parameters = dict[str, bool | int | str]


def ours(answer: Recorded) -> Parameters:
    """The parameters of our member, which is the last one of the list."""
    name, *parameters = status_of(answer).decode().rsplit(", ", 1)[-1].split("; ")
    assert name == "maxage"
    found: Parameters = {}
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        assert key not in found
        if not equals or value in {"?0", "?1"}:
            found[key] = value != "?0"
        else:
            found[key] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return found


async def served(app: Any, *requests: dict[str, Any], **settings: Any) -> list[Parameters]:
    """Our parameters in the answers to these requests, one after the other."""
    middleware = cache_of(app, ManualClock(), **settings)
    return [ours(await call(middleware, **request)) for request in requests]


# --- Section 2: the field -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines", [["inner; hit"], ["a; fwd=miss, b; hit", "c"], ["not = valid ;;"]]
)
async def test_the_existing_field_value_is_preserved_and_ours_comes_last(lines: list[str]) -> None:
    """The last member is the cache closest to the user; nothing is parsed for that."""
    headers = [("cache-status", line) for line in lines]
    middleware = cache_of(CounterApp(headers=headers), ManualClock())
    for word in (b"maxage; fwd=uri-miss; stored", b"maxage; hit; ttl=300"):
        sent = (await call(middleware)).headers_named("cache-status")
        assert sent == [*(line.encode() for line in lines), word]


async def test_a_304_keeps_the_members_of_the_stored_response_or_takes_its_own() -> None:
    """It is a field of the response like any other (RFC 9111 section 3.2)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = dict(scope["headers"])
        validates = b"if-none-match" in asked
        inner = (b"cache-status", b"inner; hit" if validates else b"inner; fwd=uri-miss")
        control = (b"cache-control", b"max-age=60")
        await send(start((b"etag", b'"v"'), control, inner, status=304 if validates else 200))
        await send(piece(b"" if validates else b"body"))

    clock = ManualClock()
    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    validated = await call(middleware)
    assert status_of(validated).startswith(b"inner; hit, maxage; fwd=stale; fwd-status=304")


async def test_a_response_that_we_generate_has_no_member() -> None:
    """A cache SHOULD NOT append one to what it makes locally: the 504 of only-if-cached."""
    middleware = cache_of(CounterApp())
    answer = await call(middleware, headers={"cache-control": "only-if-cached"})
    assert (answer.status, status_of(answer)) == (504, b"")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"range": "bytes=0-1"}, 206), ({"if-none-match": "*"}, 304), ({"range": "bytes=99-"}, 416)],
)
async def test_what_is_made_of_a_stored_response_is_a_hit(
    headers: dict[str, str], status: int
) -> None:
    """A response that the cache modified is still a hit, as long as nothing went forward."""
    middleware = cache_of(CounterApp(), ManualClock())
    await call(middleware)
    answer = await call(middleware, headers=headers)
    assert (answer.status, ours(answer)) == (status, {"hit": True, "ttl": 300})


async def test_hit_and_fwd_exclude_each_other_in_every_answer() -> None:
    """As it says, "only one of them should appear on each list member"; one of them always does."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(headers={"vary": "accept"}), clock)
    requests: list[dict[str, Any]] = [
        {},
        {},
        {"headers": {"accept": "a"}},
        {"headers": {"cache-control": "no-cache"}},
        {"headers": {"cookie": "a=b"}},
        {"headers": {"content-length": "1"}, "body": b"x"},
        {"method": "POST"},
        {"method": "HEAD"},
    ]
    for request in requests:
        found = ours(await call(middleware, **request))
        assert ("hit" in found) is not ("fwd" in found), request


# --- 2.2: fwd -------------------------------------------------------------------------------------


async def test_bypass_is_what_the_cache_is_configured_not_to_handle() -> None:
    """With a word of ours that says which rule it was."""

    @uncached
    async def never(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/x", never)])
    assert await served(app, {}) == [{"fwd": "bypass", "detail": "uncached"}]
    for headers, detail in (
        ({"content-length": "1"}, "body"),
        ({"x-original-url": "/y"}, "override"),
    ):
        found = await served(CounterApp(), {"headers": headers})
        assert found == [{"fwd": "bypass", "detail": detail}]


async def test_method_is_for_methods_that_must_be_forwarded() -> None:
    """Also unknown ones."""
    for method in ("POST", "PUT", "DELETE", "PATCH", "PURGE"):
        assert await served(CounterApp(), {"method": method}) == [{"fwd": "method"}]


async def test_uri_miss_and_vary_miss_are_told_apart() -> None:
    """The most specific reason that is known."""
    app = CounterApp(headers={"vary": "accept"})
    first, second = await served(app, {}, {"headers": {"accept": "a"}})
    assert (first["fwd"], second["fwd"]) == ("uri-miss", "vary-miss")


@pytest.mark.parametrize("directive", ["no-cache", "max-age=0", "min-fresh=301"])
async def test_request_is_for_a_fresh_response_that_the_client_does_not_want(
    directive: str,
) -> None:
    """A stored response could have been selected."""
    asked = {"headers": {"cache-control": directive}}
    middleware = cache_of(CounterApp(), clock := ManualClock())
    await call(middleware)
    clock.advance(1)
    assert ours(await call(middleware, **asked))["fwd"] == "request"


async def test_stale_is_for_a_stored_response_that_is_stale() -> None:
    """Also when the request would not have taken a fresh one."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(headers={"etag": '"v"'}), clock)
    await call(middleware)
    for headers in ({}, {"cache-control": "no-cache"}):
        clock.advance(301)
        assert ours(await call(middleware, headers=headers))["fwd"] == "stale"


# --- 2.3: fwd-status ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 304, 404, 503])
async def test_fwd_status_is_what_the_application_answered_to_our_conditional_request(
    status: int,
) -> None:
    """So that a 304, or an error that a stale response stands for, can be seen."""
    clock, answers = ManualClock(), [200]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = ((b"etag", b'"v"'), (b"cache-control", b"max-age=60"))
        await send(start(*headers, status=answers[0]))
        await send(piece(b""))

    middleware = cache_of(app, clock)
    await call(middleware)
    answers[0] = status
    clock.advance(61)
    found = ours(await call(middleware))
    assert (found["fwd"], found["fwd-status"]) == ("stale", status)


async def test_fwd_status_is_there_when_we_answer_304_for_the_application_s_200() -> None:
    """Without it the 304 would be taken for the application's."""
    app = CounterApp(body=b"same")
    etag = (await call(cache_of(app))).header("etag") or b""
    found = await served(app, {"headers": [("if-none-match", etag)]})
    assert found == [{"fwd": "uri-miss", "fwd-status": 200, "stored": True}]


async def test_fwd_status_is_left_out_where_it_is_the_status_of_the_response() -> None:
    """As it says, "it defaults to the status code sent in the response"."""
    assert "fwd-status" not in (await served(CounterApp(), {}))[0]


# --- 2.4: ttl -------------------------------------------------------------------------------------


async def test_ttl_is_the_freshness_left_and_negative_when_stale() -> None:
    """In whole seconds, configured and heuristic lifetimes included."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(), clock)
    await call(middleware)
    for passed, ttl in ((0.0, 300), (0.5, 299), (298.5, 1), (0.5, 0), (0.5, 0), (1, -1)):
        clock.advance(passed)
        asked = {"cache-control": "max-stale"}
        assert ours(await call(middleware, headers=asked))["ttl"] == ttl


# --- 2.5: stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "detail"),
    [
        ("no-store", "no-store"),
        ("private", "private"),
        ("max-age=0", "lifetime-0"),
        ("no-cache", "no-lifetime"),
        ("s-maxage=0", "lifetime-0"),
    ],
)
async def test_stored_is_not_said_of_what_is_not_stored(control: str, detail: str) -> None:
    """Nor is the response found afterwards."""
    app = CounterApp(headers={"cache-control": control})
    assert await served(app, {}, {}) == [{"fwd": "uri-miss", "detail": detail}] * 2


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"cookie": "session=1"}, "cookie"),
        ({"authorization": "Bearer a"}, "credentials"),
        ({"x-api-key": "a", "cookie": "session=1"}, "credentials"),
    ],
)
async def test_the_credentials_that_forbid_storing_are_named(
    headers: dict[str, str], detail: str
) -> None:
    """Nothing in the response says why: most often it is a cookie that is forgotten."""
    without = {"fwd": "uri-miss", "detail": detail}
    assert await served(CounterApp(), {"headers": headers}, {"headers": headers}) == [without] * 2
    found = await served(CounterApp(), {}, {"headers": headers})
    assert found[1] == {"fwd": "bypass", "detail": detail}


async def test_a_route_that_checks_its_requests_is_named_too() -> None:
    """Its responses are not stored, whatever its requests carry."""
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(HTTPBearer(auto_error=False))])(lambda: "x")
    assert await served(app, {}) == [{"fwd": "uri-miss", "detail": "security"}]


async def test_a_set_cookie_that_forbids_storing_is_named() -> None:
    """A middleware may set it on every response."""
    app = CounterApp(headers={"set-cookie": "a=b"})
    assert await served(app, {}) == [{"fwd": "uri-miss", "detail": "set-cookie"}]
    allowed = CounterApp(headers={"set-cookie": "a=b", "cache-control": "max-age=9"})
    stored = [{"fwd": "uri-miss", "stored": True}]
    assert await served(allowed, {}, cache_store_set_cookie=True) == stored


async def test_stored_is_not_said_of_a_head() -> None:
    """Only responses to GET are stored."""
    found = await served(CounterApp(), {"method": "HEAD"})
    assert found == [{"fwd": "uri-miss", "detail": "method"}]


@pytest.mark.parametrize(
    ("chunks", "length", "said"),
    [
        ([b"12345"], 5, True),
        ([b"1234"], 5, False),
        ([b"123456"], 5, False),
        # The head leaves with the first piece: what happens later it cannot know.
        ([b"12", b"345"], 5, True),
        ([b"x" * 101], 101, False),
        ([b"x" * 101, b"x"], 99, False),
    ],
)
async def test_stored_is_true_as_far_as_is_known_when_the_head_leaves(
    chunks: list[bytes], length: int, said: bool
) -> None:
    """A body in one piece is known whole by then, also whether it is as long as declared."""
    app = StreamingApp(
        chunks=tuple(chunks), closing_message=False, headers={"content-length": str(length)}
    )
    found = (await served(app, {}, cache_max_body_bytes=100))[0]
    assert found.get("stored", False) is said


async def test_stored_is_not_said_when_the_application_ends_behind_its_head() -> None:
    """There is no body, and a head that waited for one leaves when the call has returned."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"content-length", b"1")))

    assert await served(app, {}) == [{"fwd": "uri-miss", "detail": "incomplete"}]


async def test_stored_is_not_said_when_the_handler_read_what_nothing_protects() -> None:
    """That is known when it has run, which is before the head of such a response leaves."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        dependencies = current_dependencies.get()
        assert dependencies is not None
        dependencies.unprotected = True
        await send(start((b"content-length", b"1")))
        await send(piece(b"x"))

    assert await served(app, {}) == [{"fwd": "uri-miss", "detail": "other-store"}]


# --- 2.6: collapsed -------------------------------------------------------------------------------


async def collapsed(app: CounterApp, count: int) -> list[Recorded]:
    """The answers to so many requests that begin together, while the application is held."""
    app.gate = asyncio.Event()
    middleware = cache_of(app, ManualClock())
    exchanges = [Exchange(middleware, http_scope()).start() for _ in range(count)]
    for _ in range(20):
        await asyncio.sleep(0)
    app.gate.set()
    answers = [await exchange.finish() for exchange in exchanges]
    await background_done(middleware)
    return answers


async def test_collapsed_stands_beside_fwd_where_the_response_could_be_used() -> None:
    """As it says, "only meaningful when fwd is present": the request would have gone forward."""
    answers = await collapsed(CounterApp(), 3)
    assert [ours(answer) for answer in answers] == [
        {"fwd": "uri-miss", "stored": True},
        *[{"fwd": "uri-miss", "ttl": 300, "collapsed": True}] * 2,
    ]


async def test_collapsed_is_false_where_a_new_request_had_to_be_made() -> None:
    """True: the response was successfully reused; false: it waited in vain."""
    answers = await collapsed(CounterApp(headers={"cache-control": "no-store"}), 2)
    assert [ours(answer) for answer in answers] == [
        {"fwd": "uri-miss", "detail": "no-store"},
        {"fwd": "uri-miss", "collapsed": False, "detail": "no-store"},
    ]


# --- 2.7: key -------------------------------------------------------------------------------------


async def test_the_key_is_told_only_by_setting_and_then_in_every_answer_that_has_one() -> None:
    """Off by default: a key in the open can help an attacker (section 6)."""
    middleware = cache_of(CounterApp(), ManualClock(), cache_status_key=True)
    miss, hit = await call(middleware), await call(middleware)
    asked = await call(middleware, headers={"cache-control": "no-cache"})
    keys = [ours(answer)["key"] for answer in (miss, hit, asked)]
    assert len(set(keys)) == 1
    assert str(keys[0]).startswith('"maxage')
    assert "key" not in (await served(CounterApp(), {}))[0]


# --- Switched off ---------------------------------------------------------------------------------


async def test_nothing_is_added_when_it_is_switched_off() -> None:
    """What others said stays."""
    app = CounterApp(headers={"cache-status": "inner; hit"})
    middleware = CacheMiddleware(app, CacheSettings(cache_status_header=False))
    for method in ("GET", "GET", "HEAD", "PUT"):
        assert status_of(await call(middleware, method)) == b"inner; hit"
