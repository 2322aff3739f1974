"""Each reason comes up: in Cache-Status and in the counts."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers

from maxage import CacheMiddleware, CacheSettings, MemoryStore, Rule, cached, tag, uncached
from maxage.invalidation.dependencies import current_dependencies
from maxage.observe.counters import counters_of
from maxage.observe.words import Bypass, Outcome, PurgeCause, Reason, TypedRead
from tests.support.asgi import ASGIApp, CounterApp, Receive, Scope, Send, call, routed
from tests.support.caching import cache_of, piece, start, status_of

pytestmark = pytest.mark.anyio


def test_each_word_is_a_token_of_its_own() -> None:
    """It can stand in a structured field, in a label and in a query of either."""
    for words in (Outcome, Bypass, Reason, PurgeCause, TypedRead):
        assert all(re.fullmatch("[a-z][a-z0-9_-]*", word) for word in words)
    assert not set(Bypass) & set(Reason)


# applications that answer in a certain way


def sending(
    *headers: tuple[bytes, bytes],
    status: int = 200,
    chunks: Iterable[bytes] = (b"x",),
    ends: bool = True,
    error: BaseException | None = None,
    prepares: Callable[[], object] = lambda: None,
    more: dict[str, Any] | None = None,
) -> ASGIApp:
    """Answers every request like this; with several chunks they leave one by one."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        prepares()
        await send({**start(*headers, status=status), **(more or {})})
        pieces = list(chunks)
        for number, chunk in enumerate(pieces, 1):
            await send(piece(chunk, more=number < len(pieces) or not ends))
        if error is not None:
            raise error

    return app


def saying(control: str, **more: Any) -> ASGIApp:
    return sending((b"cache-control", control.encode()), **more)


def unprotected() -> None:
    dependencies = current_dependencies.get()
    assert dependencies is not None
    dependencies.unprotected = True


def purged_meanwhile() -> None:
    dependencies = current_dependencies.get()
    assert dependencies is not None
    dependencies.depend("n", b"another token")


class Listening:
    """Learns that its client left before it answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(start())
        await send(piece(b"x"))


async def unnamed(scope: Scope, receive: Receive, send: Send) -> None:
    """Leaves no word of a route in the scope."""
    await send(start())
    await send(piece(b"x"))


async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await receive()
    await send(start())
    await send(piece(b"x"))


@routed
async def sends_a_file(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send({"type": "http.response.pathsend", "path": "/x"})


@routed
async def looks_up_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    Headers(scope=scope).get("x-tenant")
    await send(piece(b"x"))


def guarded() -> ASGIApp:
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(HTTPBearer(auto_error=False))])(lambda: "x")
    return app


class OtherRoute:
    """Its router answers by another endpoint than the one that its routes tell of."""

    def __init__(self) -> None:
        self.app = FastAPI(openapi_url=None)
        self.routes = self.app.routes
        self.app.get("/x")(lambda: "x")
        self.router = self.app.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["router"] = self.router
        await sending()(scope, receive, send)


class Changing:
    """Forbids storing its first response alone."""

    def __init__(self) -> None:
        self.first = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        control, self.first = "no-store" if self.first else "max-age=9", False
        await saying(control)(scope, receive, send)


@dataclass(frozen=True, kw_only=True)
class Case:
    """An application and a request whose response is not stored."""

    app: Callable[[], ASGIApp]
    request: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    said: bool = True
    """Whether it is known when the headers leave."""
    rules: tuple[Rule, ...] = ()
    store: Callable[[], MemoryStore] = MemoryStore
    before: tuple[dict[str, Any], ...] = ()
    """Requests before it."""


def headers(**named: str) -> dict[str, Any]:
    return {"headers": {name.replace("_", "-"): value for name, value in named.items()}}


LENGTH = (b"content-length", b"1")
CASES: dict[Reason, Case] = {
    Reason.METHOD: Case(app=CounterApp, request={"method": "HEAD"}),
    Reason.REQUEST_NO_STORE: Case(app=CounterApp, request=headers(cache_control="no-store")),
    Reason.CREDENTIALS: Case(app=CounterApp, request=headers(authorization="Bearer a")),
    Reason.COOKIE: Case(app=CounterApp, request=headers(cookie="a=b")),
    Reason.SESSION: Case(app=CounterApp, request={"session": {"a": "b"}}),
    Reason.USER: Case(app=CounterApp, request={"user": object()}),
    Reason.SECURITY: Case(app=guarded),
    Reason.UNANNOUNCED_BODY: Case(app=Listening, request={"body": b"x"}),
    Reason.DISCONNECT: Case(app=lambda: leaves, request={"disconnect_after": 0}),
    Reason.STATUS: Case(app=lambda: saying("max-age=9", status=429)),
    Reason.PARTIAL: Case(app=lambda: saying("max-age=9", status=206)),
    Reason.CONDITIONAL: Case(app=lambda: saying("max-age=9", status=412)),
    Reason.NO_STORE: Case(app=lambda: saying("no-store")),
    Reason.PRIVATE: Case(app=lambda: saying("private")),
    Reason.VARY_STAR: Case(app=lambda: sending((b"vary", b"*"))),
    Reason.SET_COOKIE: Case(app=lambda: sending((b"set-cookie", b"a=b"))),
    Reason.STREAM: Case(app=lambda: sending((b"content-type", b"text/event-stream"))),
    Reason.SERVER_ERROR: Case(app=lambda: saying("max-age=9", status=500)),
    Reason.CLIENT_ERROR: Case(app=lambda: saying("max-age=9", status=400)),
    Reason.NO_LIFETIME: Case(app=CounterApp, settings={"cache_expiration": 0}),
    Reason.LIFETIME_0: Case(app=CounterApp, rules=(Rule("/x", ttl=0),)),
    Reason.TRAILERS: Case(app=lambda: sending(more={"trailers": True})),
    Reason.CONTENT_LENGTH: Case(app=lambda: sending((b"content-length", b"one"))),
    Reason.TOO_LARGE: Case(
        app=lambda: sending((b"content-length", b"11"), chunks=[b"x" * 11]),
        settings={"cache_max_body_bytes": 10},
    ),
    Reason.LONG_HEADERS: Case(
        app=lambda: sending((b"x-long", b"x" * 2000)), settings={"cache_max_header_bytes": 1024}
    ),
    Reason.TOO_MANY_TAGS: Case(
        app=lambda: sending((b"cache-tag", b"a,b")), settings={"cache_max_tags": 1}
    ),
    Reason.INCOMPLETE: Case(app=lambda: sending(LENGTH, chunks=[b"xx"])),
    Reason.SENDFILE: Case(app=lambda: sends_a_file, said=False),
    Reason.FAILED: Case(
        app=lambda: sending(ends=False, error=RuntimeError("failed")),
        request={"raises": False},
        said=False,
    ),
    Reason.OTHER_ROUTE: Case(app=OtherRoute),
    Reason.UNKNOWN_ROUTE: Case(app=lambda: unnamed),
    Reason.LATE_TAG: Case(app=lambda: sending(prepares=lambda: tag("late"))),
    Reason.LATE_HEADER: Case(app=lambda: looks_up_late, said=False),
    Reason.PURGED: Case(app=lambda: sending(LENGTH, prepares=purged_meanwhile)),
    Reason.OTHER_STORE: Case(app=lambda: sending(LENGTH, prepares=unprotected)),
    Reason.REPLICA_LAG: Case(
        app=CounterApp,
        store=lambda: MemoryStore(replica_lag=60),
        before=({}, {"method": "PUT"}),
    ),
    Reason.NO_ROOM: Case(
        app=lambda: sending(LENGTH), settings={"cache_pending_bytes": 0}
    ),
    Reason.RELEARNT: Case(app=Changing, before=({},)),
}  # fmt: skip


@pytest.mark.parametrize("reason", Reason)
async def test_each_reason_not_to_store_is_counted_and_said_where_it_is_known(
    reason: Reason,
) -> None:
    """Once for each response, by the same word."""
    case = CASES[reason]
    middleware = cache_of(case.app(), store=case.store(), rules=case.rules, **case.settings)
    for request in case.before:
        await call(middleware, **request)
    before = sum(counted(middleware).values())
    answer = await call(middleware, **case.request)
    assert counted(middleware)[reason] == 1
    assert sum(counted(middleware).values()) == before + 1
    if case.said and answer.messages:
        assert status_of(answer).endswith(f"; detail={reason}".encode())
        assert b"stored" not in status_of(answer)


def counted(middleware: CacheMiddleware) -> dict[str, int]:
    assert middleware.cache is not None
    return counters_of(middleware.cache.tally).not_stored


async def test_a_body_that_grows_too_large_is_counted_after_its_headers_have_left() -> None:
    """The client was told what was known then."""
    app = sending(chunks=[b"x" * 8, b"x" * 8])
    middleware = cache_of(app, cache_max_body_bytes=10)
    answer = await call(middleware)
    assert status_of(answer) == b"maxage; fwd=uri-miss; stored"
    assert counted(middleware) == {"too-large": 1}


async def refuse(_: object) -> str:
    raise RuntimeError("refused")


def passing() -> FastAPI:
    """Pages that are cached or not, each in its own way."""
    app = FastAPI(openapi_url=None)
    app.get("/uncached")(uncached(lambda: 1))
    app.get("/refused")(cached(vary_by=refuse)(lambda: 1))
    app.get("/x")(lambda: 1)
    return app


BYPASSES: dict[Bypass, dict[str, Any]] = {
    Bypass.UNCACHED: {"path": "/uncached"},
    Bypass.OVERRIDE: headers(x_original_url="/y"),
    Bypass.BODY: {"headers": {"content-length": "1"}, "body": b"x"},
    Bypass.HOST: {"headers": [("host", "a"), ("host", "b")]},
    Bypass.HEAD: {"method": "HEAD"},
    Bypass.LONG_URL: {"query": "x" * 9000},
    Bypass.LONG_CONTENT: {"method": "QUERY", "body": b"x" * 20},
    Bypass.VARY_BY: {"path": "/refused"},
    Bypass.STORE_AWAY: {},
}


@pytest.mark.parametrize("reason", Bypass)
async def test_each_reason_of_a_bypass_is_counted_and_said(reason: Bypass) -> None:
    """Once, by the same word, and as nothing else."""
    settings: dict[str, Any] = {"cache_store_query": True, "cache_max_query_bytes": 10}
    middleware = cache_of(passing(), **settings)
    if reason is Bypass.STORE_AWAY:
        url = "redis://127.0.0.1:1"
        middleware = CacheMiddleware(passing(), CacheSettings(redis_url=url, **settings))
    answer = await call(middleware, **BYPASSES[reason])
    assert status_of(answer) == f"maxage; fwd=bypass; detail={reason}".encode()
    assert middleware.cache is not None
    found = counters_of(middleware.cache.tally)
    assert {word: count for word, count in found.bypasses.items() if count} == {reason: 1}
    assert (found.hits, found.misses, found.not_stored) == (0, 0, {})
    await middleware.aclose()
