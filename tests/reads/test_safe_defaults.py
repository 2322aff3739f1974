"""The defaults of docs/storing.md, row by row."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, APIKeyQuery, HTTPBearer
from pydantic import AliasChoices, BaseModel, Field

from maxage import cached
from tests.support.asgi import CounterApp, HeaderInput, call
from tests.support.caching import cache_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


async def is_stored(
    app: CounterApp, headers: HeaderInput = (), query: str = "", **settings: Any
) -> bool:
    """Whether the second of two equal requests is answered from the store."""
    middleware = cache_of(app, **settings)
    first = await call(middleware, query=query, headers=headers)
    second = await call(middleware, query=query, headers=headers)
    assert first.body == b"run 1"
    assert app.runs == (1 if second.body == first.body else 2)
    return second.body == first.body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache-control", "max-age=60"),
        ("cache-control", "s-maxage=60"),
        ("cache-control", "public, max-age=60"),
        ("cdn-cache-control", "max-age=60"),
        ("expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ],
)
async def test_explicit_freshness_is_obeyed(name: str, value: str) -> None:
    """What the response says of its lifetime holds, even when the default is not to store."""
    assert await is_stored(CounterApp(headers={name: value}), cache_expiration=0)


@pytest.mark.parametrize("clock_moves", [59.0, 60.0])
async def test_a_response_is_fresh_until_its_lifetime_ends(clock_moves: float) -> None:
    """Max-age=60 answers after 59 seconds and not after 60."""
    app, clock = CounterApp(headers={"cache-control": "max-age=60"}), ManualClock()
    middleware = cache_of(app)
    assert middleware.cache is not None
    middleware.cache.clock = clock
    await call(middleware)
    clock.advance(clock_moves)
    await call(middleware)
    assert app.runs == (1 if clock_moves < 60 else 2)


async def test_a_plain_200_is_stored_for_the_configured_time() -> None:
    """The lifetime shown is CACHE_EXPIRATION."""
    middleware = cache_of(CounterApp(), cache_expiration=120)
    await call(middleware)
    hit = await call(middleware)
    assert hit.header("cache-status") in {b"maxage; hit; ttl=120", b"maxage; hit; ttl=119"}


async def test_with_cache_expiration_0_a_plain_200_is_not_stored() -> None:
    """Without freshness information there is then no lifetime."""
    assert not await is_stored(CounterApp(), cache_expiration=0)


@pytest.mark.parametrize("status", [201, 203, 204, 301, 302, 307, 308, 404, 405, 410])
async def test_another_status_is_stored_only_with_explicit_freshness(status: int) -> None:
    """The configured lifetime is for 200 alone."""
    assert not await is_stored(CounterApp(status=status))
    explicit = CounterApp(status=status, headers={"cache-control": "max-age=60"})
    assert await is_stored(explicit)


@pytest.mark.parametrize("status", [400, 401, 403, 406, 431])
async def test_a_client_error_by_more_than_the_url_is_not_stored(status: int) -> None:
    """Else one header of one request could deny a URL to all clients; a setting allows it."""
    fresh = {"cache-control": "max-age=60"}
    assert not await is_stored(CounterApp(status=status, headers=fresh))
    if status != 431:
        app = CounterApp(status=status, headers=fresh)
        assert await is_stored(app, cache_store_client_errors=True)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_is_not_stored_even_with_explicit_freshness(status: int) -> None:
    """It would outlive its cause."""
    assert not await is_stored(CounterApp(status=status, headers={"cache-control": "max-age=60"}))


NEVER = [
    ({"cache-control": "no-store"}, 200, "no-store"),
    ({"cache-control": "no-store, max-age=60"}, 200, "no-store wins over a lifetime"),
    ({"cache-control": "private, max-age=60"}, 200, "for one user"),
    ({"cache-control": "max-age=60", "vary": "*"}, 200, "varies by something unknown"),
    ({"cache-control": "max-age=60", "set-cookie": "sid=1"}, 200, "gives one user a cookie"),
    ({"set-cookie": "sid=1"}, 200, "gives one user a cookie"),
    ({"cache-control": "max-age=60", "content-range": "bytes 0-4/10"}, 206, "a part"),
    ({"content-type": "text/event-stream"}, 200, "an event stream"),
    ({"cache-control": "max-age=60", "content-type": "text/event-stream;charset=utf-8"}, 200, "es"),
]


@pytest.mark.parametrize(("headers", "status", "reason"), NEVER, ids=[row[2] for row in NEVER])
async def test_what_is_never_stored(headers: dict[str, str], status: int, reason: str) -> None:
    """No lifetime makes these storable."""
    assert not await is_stored(CounterApp(status=status, headers=headers)), reason


@pytest.mark.parametrize("length", ["x", "-5", "5, 5", "", "9" * 5000])
async def test_a_response_with_an_invalid_content_length_is_not_stored(length: str) -> None:
    """Whether it is whole could not be told."""
    app = CounterApp(headers={"content-length": length}, content_length=False)
    assert not await is_stored(app)


async def test_a_response_with_two_content_lengths_is_not_stored() -> None:
    """Whether it is whole could not be told, even when they are equal."""
    app = CounterApp(headers=[("content-length", "5"), ("content-length", "6")])
    app.content_length = False
    assert not await is_stored(app)


CREDENTIALS = [
    {"authorization": "Bearer a"},
    {"cookie": "sid=1"},
    {"x-api-key": "k"},
    {"x-auth-token": "k"},
    {"X-API-Key": "k"},
    {"apikey": "k"},
    {"ssl-client-subject-dn": "CN=ann"},
    {"x-consumer-username": "ann"},
]


@pytest.mark.parametrize("headers", CREDENTIALS, ids=str)
async def test_a_request_with_credentials_is_not_stored(headers: dict[str, str]) -> None:
    """Its answer may be for one user."""
    assert not await is_stored(CounterApp(), headers)
    assert not await is_stored(CounterApp(headers={"cache-control": "max-age=60"}), headers)


@pytest.mark.parametrize("headers", CREDENTIALS, ids=str)
async def test_a_request_with_credentials_does_not_get_an_anonymous_response(
    headers: dict[str, str],
) -> None:
    """The stored anonymous response is not what the application would answer this user."""
    app = CounterApp(headers={"cache-control": "max-age=60"})
    middleware = cache_of(app)
    await call(middleware)
    answer = await call(middleware, headers=headers)
    assert answer.body == b"run 2"
    status = answer.header("cache-status")
    assert status is not None
    assert b"fwd=bypass" in status
    assert (await call(middleware)).body == b"run 1"


@pytest.mark.parametrize("said", ["public", "public, max-age=60", "s-maxage=60", "must-revalidate"])
@pytest.mark.parametrize("headers", CREDENTIALS[:3], ids=str)
async def test_a_response_that_allows_sharing_is_stored_despite_credentials(
    headers: dict[str, str], said: str
) -> None:
    """RFC 9111 section 3.5."""
    lifetime = "" if "=" in said else ", max-age=60"
    assert await is_stored(CounterApp(headers={"cache-control": said + lifetime}), headers)


@pytest.mark.parametrize(
    ("cookie", "stored"),
    [
        ("_ga=1", True),
        ("_ga=1; _gid=2", True),
        ("_ga=1; sid=2", False),
        ("sid=2", False),
        ("_GA=1", False),
        ("", True),
    ],
)
async def test_ignored_cookies_are_no_credentials(cookie: str, stored: bool) -> None:
    """A cookie that is not on the list still is one."""
    headers = {"cookie": cookie}
    assert await is_stored(CounterApp(), headers, cache_ignored_cookies=("_ga", "_gid")) is stored


@pytest.mark.parametrize(
    ("cookie", "stored"),
    [
        ("_ga=1; _ga_X1.Y=2; _gid=3", True),
        ("_ga_X1=2; sid=2", False),
        ("x_ga=1", False),
        ("_gidx=1", False),
        ("intercom-session-a=1", True),
        ("a-session=1", False),
    ],
)
async def test_ignored_cookies_may_be_patterns(cookie: str, stored: bool) -> None:
    """An asterisk stands for any characters, and the rest of the name for itself."""
    ignored = "_ga*, _gid, intercom-*-a, a.session"
    headers = {"cookie": cookie}
    assert await is_stored(CounterApp(), headers, cache_ignored_cookies=ignored) is stored


class Api:
    """A FastAPI application that counts how often its handlers run."""

    def __init__(self) -> None:
        self.runs = 0
        self.app = FastAPI()

    def run(self) -> int:
        """Count one more."""
        self.runs += 1
        return self.runs


def secured(scheme: Any, said: str = "") -> Api:
    """An application whose /x is behind a security scheme."""
    api = Api()

    def check(key: Annotated[Any, Security(scheme)]) -> str:
        if key is None:
            raise HTTPException(401)
        return str(key)

    @api.app.get("/x", dependencies=[Depends(check)])
    def read() -> dict[str, int]:
        return {"run": api.run()}

    if said:

        @api.app.middleware("http")
        async def say(request: Request, proceed: Any) -> Any:
            response = await proceed(request)
            response.headers["cache-control"] = said
            return response

    return api


SCHEMES: list[tuple[Callable[[], Any], dict[str, str], str]] = [
    (lambda: APIKeyHeader(name="X-Own-Key", auto_error=False), {"x-own-key": "k"}, ""),
    (lambda: APIKeyQuery(name="key", auto_error=False), {}, "key=k"),
    (lambda: HTTPBearer(auto_error=False), {"authorization": "Bearer t"}, ""),
]


@pytest.mark.parametrize(("scheme", "headers", "query"), SCHEMES, ids=["header", "query", "bearer"])
async def test_a_route_behind_a_security_scheme_is_never_cached_implicitly(
    scheme: Callable[[], Any], headers: dict[str, str], query: str
) -> None:
    """A hit would skip the check: with the key it runs again, without it is refused."""
    api = secured(scheme())
    middleware = cache_of(api.app)
    for run in (1, 2):
        answer = await call(middleware, query=query, headers=headers)
        assert answer.body == b'{"run":%d}' % run
    assert (await call(middleware)).status == 401


@pytest.mark.parametrize(("scheme", "headers", "query"), SCHEMES, ids=["header", "query", "bearer"])
async def test_a_secured_route_that_says_private_lifetimes_is_not_cached(
    scheme: Callable[[], Any], headers: dict[str, str], query: str
) -> None:
    """A max-age alone allows a shared cache nothing where credentials are read."""
    api = secured(scheme(), "max-age=60")
    middleware = cache_of(api.app)
    for _ in range(2):
        await call(middleware, query=query, headers=headers)
    assert api.runs == 2


def by_user() -> Api:
    """An application whose /me is cached for each user, who is known by a header."""
    api = Api()

    def user_of(request: Request) -> str:
        user = request.headers.get("authorization")
        if user is None:
            raise PermissionError
        return user

    def check(request: Request) -> str:
        user = request.headers.get("authorization")
        if user is None:
            raise HTTPException(401, "who are you?")
        return user

    @api.app.get("/me")
    @cached(ttl=60, vary_by=user_of)
    def me(user: Annotated[str, Depends(check)]) -> dict[str, Any]:
        return {"user": user, "run": api.run()}

    return api


async def test_vary_by_caches_for_each_user_apart() -> None:
    """Each user's second request is a hit, with the user's own answer."""
    api = by_user()
    middleware = cache_of(api.app)
    for _ in range(2):
        for number, user in enumerate(("ann", "bob"), 1):
            answer = await call(middleware, path="/me", headers={"authorization": user})
            assert answer.body == b'{"user":"%b","run":%d}' % (user.encode(), number)
    assert api.runs == 2


async def test_vary_by_that_raises_leaves_the_refusal_to_the_application() -> None:
    """The answer is the application's own 401, and nothing of it is stored."""
    api = by_user()
    middleware = cache_of(api.app)
    await call(middleware, path="/me", headers={"authorization": "ann"})
    for _ in range(2):
        answer = await call(middleware, path="/me")
        assert (answer.status, answer.body) == (401, b'{"detail":"who are you?"}')
    assert api.runs == 1


async def test_an_awaitable_vary_by_is_awaited() -> None:
    """It may ask a database."""
    api = Api()

    async def tenant(request: Request) -> str:
        return request.headers["x-tenant"]

    @api.app.get("/x")
    @cached(vary_by=tenant)
    def read() -> int:
        return api.run()

    middleware = cache_of(api.app)
    bodies = [(await call(middleware, headers={"x-tenant": t})).body for t in "abab"]
    assert bodies == [b"1", b"2", b"1", b"2"]


BYPASSED: list[tuple[HeaderInput, bytes]] = [
    ({"content-length": "2"}, b"{}"),
    ({"transfer-encoding": "chunked"}, b"{}"),
    ([("content-length", "0"), ("content-length", "0")], b""),
    ([("content-length", "0"), ("content-length", "2")], b""),
    ({"content-length": "abc"}, b""),
    ({"content-length": "-0"}, b""),
    ({"content-length": "+0"}, b""),
    ({"x-original-url": "/admin"}, b""),
    ({"x-rewrite-url": "/admin"}, b""),
    ([("host", "a"), ("host", "b")], b""),
]


@pytest.mark.parametrize("name", ["x-http-method-override", "x-method-override", "x-http-method"])
async def test_a_get_that_may_mean_another_method_purges_like_one(name: str) -> None:
    """The application may take it for a DELETE."""
    app = CounterApp(headers={"cache-control": "public, max-age=60"})
    middleware = cache_of(app)
    await call(middleware)
    overriding = await call(middleware, headers={name: "DELETE"})
    assert overriding.body == b"run 2"
    assert b"fwd=method" in (overriding.header("cache-status") or b"")
    assert (await call(middleware)).body == b"run 3"


@pytest.mark.parametrize(("headers", "body"), BYPASSED, ids=str)
async def test_a_request_that_may_mean_something_else_bypasses_the_cache(
    headers: HeaderInput, body: bytes
) -> None:
    """It neither gets a stored response nor leaves one."""
    app = CounterApp(headers={"cache-control": "public, max-age=60"})
    middleware = cache_of(app)
    first = await call(middleware, headers=headers, body=body)
    assert first.body == b"run 1"
    assert b"fwd=bypass" in (first.header("cache-status") or b"")
    assert (await call(middleware)).body == b"run 2"
    assert (await call(middleware, headers=headers, body=body)).body == b"run 3"


async def test_a_content_length_of_0_is_an_ordinary_get() -> None:
    """The other side of the boundary."""
    assert await is_stored(CounterApp(), {"content-length": "0"})


@pytest.mark.parametrize(("size", "stored"), [(64, True), (65, False)])
async def test_a_url_longer_than_the_limit_bypasses(size: int, stored: bool) -> None:
    """Path and query together count."""
    query = "q" * (size - len("/x"))
    assert await is_stored(CounterApp(), query=query, cache_max_key_bytes=64) is stored


REFUSED_BY_CLIENT = ["no-cache", "max-age=0", "min-fresh=301"]


@pytest.mark.parametrize("directive", REFUSED_BY_CLIENT)
async def test_request_directives_are_obeyed(directive: str) -> None:
    """The client gets a new response, and so does the store."""
    app = CounterApp()
    middleware = cache_of(app)
    await call(middleware)
    forced = await call(middleware, headers={"cache-control": directive})
    assert forced.body == b"run 2"
    assert b"fwd=request" in (forced.header("cache-status") or b"")
    assert (await call(middleware)).body == b"run 2"


@pytest.mark.parametrize("directive", [*REFUSED_BY_CLIENT, "no-store", "only-if-cached"])
async def test_request_directives_can_be_ignored(directive: str) -> None:
    """One setting, for deployments with untrusted clients."""
    headers = {"cache-control": directive}
    assert await is_stored(CounterApp(), headers, cache_obey_request_directives=False)


async def test_a_request_with_no_store_leaves_nothing() -> None:
    """RFC 9111 section 5.2.1.5."""
    assert not await is_stored(CounterApp(), {"cache-control": "no-store"})


async def test_a_request_with_no_store_is_answered_by_the_application() -> None:
    """And what is stored goes on answering the others."""
    middleware = cache_of(CounterApp())
    await call(middleware)
    forced = await call(middleware, headers={"cache-control": "no-store"})
    status = b"maxage; fwd=request; detail=request-no-store"
    assert (forced.body, forced.header("cache-status")) == (b"run 2", status)
    assert (await call(middleware)).body == b"run 1"


async def test_only_if_cached_is_answered_504_when_nothing_is_stored() -> None:
    """And from the store when something is."""
    app = CounterApp()
    middleware = cache_of(app)
    headers = {"cache-control": "only-if-cached"}
    assert (await call(middleware, headers=headers)).status == 504
    assert app.runs == 0
    await call(middleware)
    assert (await call(middleware, headers=headers)).body == b"run 1"


@pytest.mark.parametrize(
    ("waited", "directive", "hit"),
    [(310, "max-stale=10", True), (311, "max-stale=10", False), (350, "max-stale", True)],
)
async def test_max_stale_accepts_what_is_stale_by_so_much(
    waited: float, directive: str, hit: bool
) -> None:
    """RFC 9111 section 5.2.1.2."""
    app, clock = CounterApp(), ManualClock()
    middleware = cache_of(app, cache_expiration=300)
    assert middleware.cache is not None
    middleware.cache.clock = clock
    await call(middleware)
    clock.advance(waited)
    await call(middleware, headers={"cache-control": directive})
    assert app.runs == (1 if hit else 2)


async def test_declared_header_and_cookie_parameters_are_part_of_the_key() -> None:
    """A handler that reads them answers each value by itself, without saying Vary."""
    api = Api()

    @api.app.get("/x")
    def read(
        x_lang: Annotated[str, Header()] = "", theme: Annotated[str, Cookie()] = ""
    ) -> dict[str, Any]:
        return {"lang": x_lang, "theme": theme, "run": api.run()}

    middleware = cache_of(api.app, cache_ignored_cookies="theme")
    asked: list[dict[str, str]] = [
        {"x-lang": "de"},
        {"x-lang": "en"},
        {"x-lang": ""},
        {},
        {"cookie": "theme=dark"},
        {"cookie": "theme=light"},
    ]
    bodies = [[(await call(middleware, headers=h)).body for h in asked] for _ in range(2)]
    assert bodies[0] == bodies[1]
    assert len(set(bodies[0])) == len(asked)
    assert api.runs == len(asked)


async def test_an_undeclared_header_does_not_split_the_cache() -> None:
    """User-Agent and its like are not part of the key."""
    app = CounterApp()
    middleware = cache_of(app)
    for agent in ("a", "b"):
        assert (await call(middleware, headers={"user-agent": agent})).body == b"run 1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"query": "a=1"}, {"query": "a=2"}),
        ({"query": "a=1&b=2"}, {"query": "b=2&a=1"}),
        ({"query": ""}, {"query": "a"}),
        ({"path": "/x"}, {"path": "/X"}),
        ({"path": "/x"}, {"path": "/x/"}),
        ({"raw_path": b"/a%2Fb"}, {"raw_path": b"/a/b"}),
        ({"headers": {"host": "a"}}, {"headers": {"host": "b"}}),
        ({"headers": {"host": "a"}}, {"headers": {"host": "a:81"}}),
        ({"scheme": "http"}, {"scheme": "https"}),
        ({"root_path": ""}, {"root_path": "/api"}),
        ({}, {"headers": {"x-forwarded-host": "evil"}}),
        ({}, {"headers": {"x-forwarded-proto": "https"}}),
    ],
)
async def test_different_urls_never_share_a_response(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Nothing is normalised, and what an application builds URLs from is part of the key."""
    middleware = cache_of(CounterApp())
    assert (await call(middleware, **one)).body == b"run 1"
    assert (await call(middleware, **other)).body == b"run 2"
    assert (await call(middleware, **one)).body == b"run 1"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "QUERY", "get"])
async def test_other_methods_are_neither_stored_nor_answered_from_the_store(method: str) -> None:
    """GET and HEAD alone are; method names are case-sensitive."""
    app = CounterApp(headers={"cache-control": "public, max-age=60"})
    middleware = cache_of(app)
    await call(middleware)
    for run in (2, 3):
        assert (await call(middleware, method)).body == b"run %d" % run


async def test_a_body_that_no_header_announced_is_no_plain_get() -> None:
    """HTTP/2 needs neither Content-Length nor Transfer-Encoding."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b"results for " + (await receive()).get("body", b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    middleware = cache_of(app)
    sent = [{"type": "http.request", "body": b"EVIL", "more_body": False}]

    async def receive() -> Any:
        return sent.pop() if sent else {"type": "http.request", "body": b"", "more_body": False}

    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))

    scope = {
        "type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b"",
        "headers": [(b"host", b"a")], "scheme": "http", "http_version": "2",
    }  # fmt: skip
    await middleware(scope, receive, send)
    await middleware(dict(scope), receive, send)
    assert b"".join(bodies) == b"results for EVIL" + b"results for "


class Tenant(BaseModel):
    tenant: str = Field(validation_alias=AliasChoices("x-tenant", "tenant"))


async def plain(tenant: Annotated[str, Header(validation_alias="x-tenant")]) -> str:
    return tenant


async def model(tenant: Annotated[Tenant, Header()]) -> str:
    return tenant.tenant


async def optional_model(tenant: Annotated[Tenant | None, Header()] = None) -> str:
    return tenant.tenant if tenant else ""


@pytest.mark.parametrize("endpoint", [plain, model, optional_model])
async def test_a_header_parameter_joins_the_key_whatever_its_alias(endpoint: Any) -> None:
    """One tenant's answer never reaches another."""
    app = FastAPI(openapi_url=None)
    app.get("/a")(endpoint)
    middleware = cache_of(app)
    bodies = [
        (await call(middleware, path="/a", headers={"x-tenant": name})).body
        for name in ("acme", "evil")
    ]
    assert bodies[0] != bodies[1]


async def test_a_path_rewritten_by_an_outer_middleware_is_another_url() -> None:
    """Most of them leave the raw path alone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    middleware = cache_of(app)
    first = await call(middleware, path="/v1/items", raw_path=b"/items")
    second = await call(middleware, path="/v2/items", raw_path=b"/items")
    assert (first.body, second.body) == (b"/v1/items", b"/v2/items")
