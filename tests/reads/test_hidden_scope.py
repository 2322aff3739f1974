"""A layer that passes on a copy of the scope hides who asks and which route answers."""

import copy
import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Header
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from maxage import Rule, cached, uncached
from tests.support.asgi import ASGIApp, Receive, Scope, Send, call
from tests.support.caching import cache_of, status_of

pytestmark = pytest.mark.anyio
HIDDEN = b"maxage; fwd=uri-miss; detail=unknown-route"
Copy = Callable[[Scope], Scope]


def copying(app: ASGIApp, copied: Copy = dict) -> ASGIApp:
    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope if scope["type"] == "lifespan" else copied(scope), receive, send)

    return layer


class Layer:
    """Gives the application a scope of its own; its application is found by its name."""

    def __init__(self, app: Any, copied: Copy = dict) -> None:
        self.app = app
        self.copied = copied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(self.copied(scope), receive, send)


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        who = conn.headers.get("x-who")
        return (AuthCredentials(["authenticated"]), SimpleUser(who)) if who else None


class Site:
    """Answers with the user's name and the number of the run."""

    def __init__(self, **headers: str) -> None:
        self.runs = 0
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        routes = [Route("/me", self.page), Route("/cached", self.other)]
        self.app: Any = AuthenticationMiddleware(Starlette(routes=routes), backend=ByHeader())

    async def page(self, request: Request) -> Response:
        self.runs += 1
        name = getattr(request.user, "display_name", "") or "anonymous"
        return PlainTextResponse(f"{name} {self.runs}", headers=self.headers)

    @cached(ttl=60)
    async def other(self, request: Request) -> Response:
        return await self.page(request)


COPIES = pytest.mark.parametrize(
    "copied",
    [dict, copy.copy, lambda scope: {**scope}, lambda scope: scope | {"extra": 1}],
)
PATHS = pytest.mark.parametrize("path", ["/me", "/cached"])


async def ask(app: ASGIApp, path: str = "/me", **headers: str) -> str:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await call(app, path=path, headers=names)).body.decode()


@COPIES
@PATHS
@pytest.mark.parametrize("freshness", [{}, {"cache_control": "max-age=60"}])
@pytest.mark.parametrize("first", ["ann", ""])
async def test_no_user_gets_the_response_of_another(
    copied: Copy, path: str, freshness: dict[str, str], first: str
) -> None:
    app = cache_of(Layer(Site(**freshness).app, copied))
    for who in (first, "bob", "", "bob", first):
        headers = {"x_who": who} if who else {}
        assert (await ask(app, path, **headers)).split()[0] == (who or "anonymous")


@PATHS
async def test_a_response_that_says_public_is_shared_by_all(path: str) -> None:
    app = cache_of(Layer(Site(cache_control="public, max-age=60").app))
    assert {await ask(app, path, x_who=who) for who in ("ann", "bob")} == {"ann 1"}


@pytest.mark.parametrize(
    ("path", "freshness"), [("/me", {"cache_control": "max-age=60"}), ("/cached", {})]
)
async def test_a_stated_lifetime_is_one_for_requests_that_name_no_user(
    path: str, freshness: dict[str, str]
) -> None:
    app = cache_of(Layer(Site(**freshness).app))
    usual = {"user_agent": "x", "accept": "*/*", "x_request_id": "1"}
    assert {await ask(app, path, **usual) for _ in range(3)} == {"anonymous 1"}


async def test_a_header_that_the_response_varies_by_names_no_hidden_user() -> None:
    app = cache_of(Layer(Site(cache_control="max-age=60", vary="x-who").app))
    answers = [await ask(app, x_who=who) for who in ("ann", "bob", "ann", "bob")]
    assert answers == ["ann 1", "bob 2"] * 2


async def test_vary_by_caches_for_each_user() -> None:
    rule = Rule("/me", vary_by=lambda request: request.headers.get("x-who", ""))
    app = cache_of(Layer(Site().app), rules=[rule])
    answers = [await ask(app, x_who=who) for who in ("ann", "bob", "ann", "bob")]
    assert answers == ["ann 1", "bob 2"] * 2


async def test_a_hidden_response_without_a_stated_lifetime_is_not_stored_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = cache_of(Layer(Site().app))
    with caplog.at_level(logging.WARNING, "maxage"):
        assert [status_of(await call(app, path="/me")) for _ in range(3)] == [HIDDEN] * 3
    said = [one for one in caplog.messages if "copy" in one]
    assert len(said) == 1
    assert "/me" in said[0]
    assert "@cached or a Rule" in said[0]


@pytest.mark.parametrize("target", ["/never", "/localized"])
async def test_a_layer_that_rewrites_the_path_in_a_copy_stores_nothing_by_default(
    target: str,
) -> None:
    app, runs = FastAPI(openapi_url=None), iter(range(9))

    @app.get("/open")
    async def everywhere() -> int:  # pyright: ignore[reportUnusedFunction]
        return -1

    @app.get("/never")
    @uncached
    async def never() -> int:  # pyright: ignore[reportUnusedFunction]
        return next(runs)

    @app.get("/localized")
    async def localized(accept_language: Annotated[str, Header()] = "") -> str:  # pyright: ignore[reportUnusedFunction]
        return f"{accept_language} {next(runs)}"

    middleware = cache_of(Layer(app, lambda scope: {**scope, "path": target}))
    answers = [await ask(middleware, "/open", accept_language=one) for one in ("de", "fr", "de")]
    assert len(set(answers)) == 3


async def test_a_mounted_application_without_known_routes_is_as_hidden() -> None:
    app = cache_of(Starlette(routes=[Mount("/in", copying(Site().app))]))
    for who in ("ann", "bob"):
        assert (await ask(app, "/in/me", x_who=who)).split()[0] == who
    assert status_of(await call(app, path="/in/me")) == HIDDEN


async def test_a_layer_that_answers_itself_gives_no_default_lifetime() -> None:
    site, answers = Site(), iter(range(9))

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(f"closed {next(answers)}")(scope, receive, send)  # type: ignore[arg-type]

    layer.app = site.app  # type: ignore[attr-defined]
    app = cache_of(layer)
    assert [await ask(app) for _ in range(2)] == ["closed 0", "closed 1"]


@pytest.mark.parametrize(
    ("headers", "rules", "hits"),
    [
        ({}, [], False),
        ({"cache-control": "max-age=60"}, [], True),
        ({"expires": "Tue, 14 Nov 2099 22:13:20 GMT"}, [], True),
        ({}, [Rule("/x", ttl=60)], True),
    ],
)
async def test_an_application_without_known_routes_is_cached_by_explicit_freshness(
    headers: dict[str, str], rules: list[Rule], *, hits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal runs
        runs += 1
        await PlainTextResponse("x", headers=headers)(scope, receive, send)  # type: ignore[arg-type]

    with caplog.at_level(logging.WARNING, "maxage"):
        app = cache_of(application, rules=rules)
        answers = [status_of(await call(app)) for _ in range(3)]
    assert answers[-1].startswith(b"maxage; hit" if hits else HIDDEN)
    assert runs == (1 if hits else 3)
    warnings = [one for one in caplog.messages if "application" in one]
    assert len(warnings) == (0 if hits else 1)


@pytest.mark.parametrize("wrap", [Layer, copying])
async def test_a_response_with_a_validator_alone_is_validated_each_time(wrap: Any) -> None:
    site = Site(etag='"x"', last_modified="Tue, 14 Nov 2023 22:13:20 GMT")
    app = cache_of(wrap(site.app), cache_heuristic_fraction=0.1)
    for _ in range(3):
        await ask(app)
    assert site.runs == 3
