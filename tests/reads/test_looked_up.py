"""Fields that a handler looks up and does not declare: an answer is not for another value."""

import asyncio
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Final

import pytest
from fastapi import FastAPI, Header, Request, Response
from starlette.datastructures import Headers
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from maxage import CacheMiddleware, CacheSettings, MemoryStore, cached
from maxage.asgi.looked_up import noting_lines
from tests.support.asgi import Receive, Scope, Send, call, routed
from tests.support.caching import cache_of, piece, start, status_of

pytestmark = pytest.mark.anyio
_MANY: Final = 100_000
"""Names that a thread looks up."""


def starlette(scope: Scope, name: bytes) -> Any:
    """As `request.headers.get` does."""
    return Headers(scope=scope).get(name.decode(), "")


WAYS: dict[str, Callable[[Scope, bytes], Any]] = {
    "get": starlette,
    "getlist": lambda scope, name: Headers(scope=scope).getlist(name.decode()),
    "in": lambda scope, name: (
        name.decode() in Headers(scope=scope) and Headers(scope=scope)[name.decode()]
    ),
    "loop": lambda scope, name: [line for line in scope["headers"] if line[0] == name],
    "lower": lambda scope, name: [line for line in scope["headers"] if line[0].lower() == name],
    "reversed": lambda scope, name: [line for line in scope["headers"] if name == line[0]],
    "unequal": lambda scope, name: [line[0] != name or line[1] for line in scope["headers"][::-1]],
    "next": lambda scope, name: next((v for k, v in scope["headers"] if k == name), b""),
}


COPIES: dict[str, Callable[[Scope, bytes], Any]] = {
    "mapping": lambda scope, name: dict(scope["headers"]).get(name),
    "text": lambda scope, name: {k.decode(): v for k, v in scope["headers"]}.get(name.decode()),
    "lower": lambda scope, name: {k.lower(): v for k, v in scope["headers"]}.get(name),
    "items": lambda scope, name: dict(Headers(scope=scope).items()).get(name.decode()),
    "bytes": lambda scope, name: {bytes(k): v for k, v in scope["headers"]}.get(name),
    "title": lambda scope, name: {k.title(): v for k, v in scope["headers"]}.get(name.title()),
    "slice": lambda scope, name: [v for k, v in scope["headers"] if k[:] == name],
    "prefix": lambda scope, name: [v for k, v in scope["headers"] if k.startswith(name)],
    "within": lambda scope, name: [v for k, v in scope["headers"] if name[2:] in k],
    "sorted": lambda scope, name: [v for k, v in sorted(scope["headers"]) if k.strip() == name],
    "Starlette": lambda scope, name: dict(Headers(scope=scope)).get(name.decode()),
}


def looks_up(look: Any, name: bytes, *head: tuple[bytes, bytes]) -> Any:
    """An application whose answer shows a field."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = repr(look(scope, name)).encode()
        await send(start(*head))
        await send(piece(body))

    return app


@pytest.mark.parametrize("name", ["x-tenant", "accept-language", "accept", "cf-ipcountry"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("head", [(), ((b"cache-control", b"max-age=60"),)])
async def test_an_answer_is_for_the_value_that_was_looked_up(
    way: str, name: str, head: tuple[tuple[bytes, bytes], ...]
) -> None:
    """And for its absence; each value has hits."""
    middleware = cache_of(looks_up(WAYS[way], name.encode(), *head))
    asked: list[dict[str, str]] = [{}, {name: "de"}, {name: "en"}]
    for headers in (*asked, *reversed(asked)):
        alone = await call(looks_up(WAYS[way], name.encode()), headers=headers)
        answer = await call(middleware, headers=headers)
        assert answer.body == alone.body
    for headers in asked:
        hit = await call(middleware, headers=headers)
        assert b"; hit" in status_of(hit)
        assert hit.header(b"vary") == name.encode()


async def test_with_the_preset_of_the_standards_vary_is_the_application_s_own_word() -> None:
    """And only Authorization is a credential."""
    middleware = CacheMiddleware(
        looks_up(starlette, b"x-tenant"),
        CacheSettings.standards(cache_expiration=60),
        store=MemoryStore(),
    )
    for tenant in ("a", "b"):
        answer = await call(middleware, headers={"x-tenant": tenant})
    assert b"; hit" in status_of(answer)
    assert answer.header("vary") is None


@pytest.mark.parametrize("name", [bytearray(b"host"), memoryview(b"host"), "host"])
async def test_names_of_another_kind_than_bytes_reach_the_application(name: Any) -> None:
    """ASGI says bytes, and not each test client sends them."""
    scope: Any = {"headers": [(name, b"a"), (b"x-tenant", b"b")]}
    assert noting_lines(scope["headers"], frozenset(), set()) == scope["headers"]


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_has_begun_when_a_header_is_looked_up_is_not_stored(way: str) -> None:
    """As in a stream, whose Vary has left; what the response names itself does no harm."""

    def app(*head: tuple[bytes, bytes]) -> Any:
        @routed
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start(*head))
            for _ in range(2):
                await send(piece(repr(WAYS[way](scope, b"x-tenant")).encode(), more=True))
            await send(piece(b""))

        return answer

    for head, is_stored in [((), False), (((b"vary", b"X-Tenant"),), True)]:
        middleware = cache_of(app(*head))
        for tenant in ("a", "b", "a"):
            answer = await call(middleware, headers={"x-tenant": tenant})
            assert tenant.encode() in answer.body
        assert (b"; hit" in status_of(answer)) is is_stored


@pytest.mark.parametrize("name", ["user-agent", "x-request-id", "x-forwarded-for", "traceparent"])
async def test_what_a_log_looks_up_costs_no_hit(name: str) -> None:
    middleware = cache_of(looks_up(starlette, name.encode()))
    await call(middleware, headers={name: "a"})
    hit = await call(middleware, headers={name: "b"})
    assert b"; hit" in status_of(hit)
    assert hit.header(b"vary") is None


async def test_a_header_of_the_exchange_costs_no_hit() -> None:
    middleware = cache_of(looks_up(starlette, b"x-log-id"), cache_exchange_headers=("X-Log-Id",))
    await call(middleware, headers={"x-log-id": "a"})
    assert b"; hit" in status_of(await call(middleware, headers={"x-log-id": "b"}))


async def test_vary_names_each_field_once_and_no_declared_one() -> None:
    app = FastAPI()

    @app.get("/x")
    async def answer(request: Request, response: Response, x_tenant: str = Header("")) -> list[str]:
        response.headers["Vary"] = "X-Plan"
        names = ["x-plan", "x-tenant", "x-region", "x-brand"]
        return [request.headers.get(name, "") for name in names]

    middleware = CacheMiddleware(app, settings=CacheSettings(), store=MemoryStore())
    await call(middleware, headers={"x-tenant": "a"})
    got = await call(middleware, headers={"x-tenant": "a"})
    assert b"; hit" in status_of(got)
    assert got.headers.count((b"vary", b"x-brand, x-region")) == 1
    assert got.headers.count((b"vary", b"X-Plan")) == 1


async def test_a_layer_inside_that_chooses_by_a_header_is_noticed() -> None:
    """As one that puts a tenant or a language into a context variable."""
    app = FastAPI()

    @app.get("/x")
    def answer(request: Request) -> str:
        return str(request.state.language)

    async def choose(request: Request, call_next: RequestResponseEndpoint) -> Response:
        request.state.language = request.headers.get("accept-language", "en")[:2]
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=choose)
    middleware = CacheMiddleware(app, settings=CacheSettings(), store=MemoryStore())
    for is_stored in (False, True):
        for language in ("de", "en"):
            got = await call(middleware, headers={"accept-language": language})
            assert got.body == f'"{language}"'.encode()
            assert (b"; hit" in status_of(got)) == is_stored


async def test_vary_by_says_all_that_the_answer_depends_on() -> None:
    """It may return the first letters of a field that the handler looks up whole."""
    app = FastAPI()

    @app.get("/x")
    @cached(ttl=60, vary_by=lambda request: request.headers.get("accept-language", "")[:2])
    async def answer(request: Request) -> str:
        return request.headers.get("accept-language", "")[:2]

    middleware = CacheMiddleware(app, settings=CacheSettings(), store=MemoryStore())
    await call(middleware, headers={"accept-language": "de-AT"})
    got = await call(middleware, headers={"accept-language": "de-CH"})
    assert (got.body, b"; hit" in status_of(got)) == (b'"de"', True)


async def test_a_304_with_a_vary_of_its_own_leaves_the_name_that_was_looked_up() -> None:
    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tenant = Headers(scope=scope).get("x-tenant", "none")
        head = [(b"etag", f'"{tenant}"'.encode()), (b"vary", b"X-Plan")]
        known = Headers(scope=scope).get("if-none-match") == f'"{tenant}"'
        lines = [*head, (b"cache-control", b"no-cache")]
        await send({**start(*lines), "status": 304 if known else 200})
        await send(piece(b"" if known else tenant.encode()))

    store = MemoryStore()
    for middleware in [CacheMiddleware(app, CacheSettings(), store=store) for _ in range(2)]:
        for tenant in ("a", "b", "a", "b"):
            answer = await call(middleware, headers={"x-tenant": tenant})
            assert answer.body == tenant.encode()
            assert answer.headers_named("vary") == [b"X-Plan", b"x-tenant"]


async def test_an_answer_that_is_not_stored_gets_no_vary() -> None:
    """The application's headers stay as they are."""
    head = (b"cache-control", b"no-store")
    middleware = cache_of(looks_up(starlette, b"x-tenant", head))
    for _ in range(2):
        assert (await call(middleware)).header(b"vary") is None


@pytest.mark.parametrize(("name", "varies"), [("x-user", False), ("accept-language", True)])
async def test_what_is_public_is_for_all_users_and_in_one_language(
    name: str, *, varies: bool
) -> None:
    head = (b"cache-control", b"public, max-age=60")
    middleware = cache_of(looks_up(starlette, name.encode(), head))
    await call(middleware, headers={name: "a"})
    assert (b"; hit" in status_of(await call(middleware, headers={name: "b"}))) != varies


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("first", [{}, {"x-tenant": "a"}])
async def test_an_answer_made_from_a_copy_of_all_headers_is_for_one_tenant(
    way: str, first: dict[str, str]
) -> None:
    """And for the requests without a tenant; what all browsers send makes no difference."""
    middleware = cache_of(looks_up(COPIES[way], b"x-tenant"))
    asked: list[dict[str, str]] = [first, {}, {"x-tenant": "b"}, {"x-tenant": "a"}]
    for headers in (*asked, *reversed(asked)):
        alone = await call(looks_up(COPIES[way], b"x-tenant"), headers=headers)
        assert (await call(middleware, headers=headers)).body == alone.body
    browser = {"user-agent": "x", "accept": "text/html", "dnt": "1"}
    for headers, status in [({}, b"; hit"), ({"x-tenant": "a"}, b"fwd=bypass; detail=security")]:
        await call(middleware, headers=headers)
        assert status in status_of(await call(middleware, headers={**browser, **headers}))


@pytest.mark.parametrize("way", COPIES)
async def test_a_header_of_the_exchange_costs_no_hit_where_all_are_copied(way: str) -> None:
    app = looks_up(COPIES[way], b"x-tenant")
    middleware = cache_of(app, cache_exchange_headers=("X-App-Version",))
    await call(middleware, headers={"x-app-version": "1"})
    assert b"; hit" in status_of(await call(middleware, headers={"x-app-version": "2"}))


async def test_no_client_chooses_by_which_names_a_response_varies() -> None:
    """To copy a mapping looks up each name that the client has sent."""
    for head in [(), ((b"cache-control", b"max-age=60"),)]:
        middleware = cache_of(looks_up(COPIES["Starlette"], b"x-tenant", *head))
        await call(middleware)
        for number in range(3):
            answer = await call(middleware, headers={f"x-any-{number}": "a"})
            assert b"x-any" not in (answer.header("vary") or b"")


async def test_a_directive_that_is_no_lifetime_does_not_speak_for_a_copy_of_all_headers() -> None:
    head = (b"cache-control", b"no-transform")
    app = looks_up(COPIES["mapping"], b"x-tenant", head)
    middleware = cache_of(app)
    for headers in ({}, {"x-tenant": "a"}, {"x-tenant": "b"}):
        alone = await call(app, headers=headers)
        assert (await call(middleware, headers=headers)).body == alone.body


async def test_a_thread_may_look_up_headers_while_the_answer_begins() -> None:
    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name, ended = scope["headers"][0][0], Event()

        def look_up() -> None:
            for number in range(_MANY):
                if ended.is_set() or name == b"x-%d" % number:
                    break

        thread = Thread(target=look_up)
        thread.start()
        try:
            await asyncio.sleep(0.01)
            await send(start())
        finally:
            ended.set()
            thread.join()
        await send(piece(b"x"))

    middleware = cache_of(app)
    for _ in range(5):
        assert (await call(middleware, headers={"cache-control": "no-cache"})).body == b"x"


async def test_a_proxy_that_copies_all_headers_goes_by_what_its_origin_says() -> None:
    head = (b"cache-control", b"max-age=60")
    middleware = cache_of(looks_up(COPIES["mapping"], b"x-tenant", head))
    await call(middleware, headers={"x-any": "a"})
    assert b"; hit" in status_of(await call(middleware, headers={"x-any": "b"}))
