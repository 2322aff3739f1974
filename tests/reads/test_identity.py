"""A session, a user or permissions in the scope are credentials, wherever they come from."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    SimpleUser,
    UnauthenticatedUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from maxage import CacheMiddleware, Rule
from tests.support.asgi import ASGIApp, Receive, Scope, Send, call
from tests.support.caching import cache_of, status_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        who = conn.headers.get("x-who")
        return (AuthCredentials(["authenticated"]), SimpleUser(who)) if who else None


def authenticated(app: ASGIApp) -> ASGIApp:
    return AuthenticationMiddleware(app, backend=ByHeader())  # type: ignore[arg-type, return-value]


class WithSession:
    """Puts the session of the user whom a header names into the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = dict(scope["headers"]).get(b"x-who")
        scope["session"] = {"user": who.decode()} if who else {}
        await self.app(scope, receive, send)


class ModifiedSession(dict[str, str]):
    """Knows, as Starlette's session does, that it was changed, though nothing is in it."""

    modified = False


class Site:
    """Answers with the user's name and the number of the run."""

    def __init__(self) -> None:
        self.runs = 0
        self.headers: dict[str, str] = {}
        self.changes: MutableMapping[str, Any] = {}
        self.app: Any = Starlette(routes=[Route("/me", self.page)])

    async def page(self, request: Request) -> PlainTextResponse:
        self.runs += 1
        request.scope.get("session", {}).update(self.changes)
        session = request.scope.get("session", {})
        user = getattr(request.scope.get("user"), "display_name", "") or session.get("user", "")
        return PlainTextResponse(f"{user or 'anonymous'} {self.runs}", headers=self.headers)


async def ask(app: ASGIApp, who: str = "", **entries: Any) -> str:
    headers = {"x-who": who} if who else {}
    return (await call(app, path="/me", headers=headers, **entries)).body.decode()


def placed(identify: Any, place: str, site: Site, **options: Any) -> ASGIApp:
    """The site with its cache, and the layer that identifies users outside or inside of it."""
    if place == "outside":
        layer: ASGIApp = identify(cache_of(site.app, **options))
        return layer
    return cache_of(identify(site.app), **options)


LAYERS = pytest.mark.parametrize("identify", [WithSession, authenticated])
PLACES = pytest.mark.parametrize("place", ["outside", "inside"])


@LAYERS
@PLACES
@pytest.mark.parametrize("first", ["ann", ""])
async def test_no_user_gets_the_response_of_another(identify: Any, place: str, first: str) -> None:
    app = placed(identify, place, Site())
    for who in (first, "bob", "", "bob", first):
        assert (await ask(app, who)).split()[0] == (who or "anonymous")


@LAYERS
@PLACES
async def test_anonymous_answers_stay_cached(identify: Any, place: str) -> None:
    app = placed(identify, place, Site())
    assert [await ask(app) for _ in range(4)] == ["anonymous 1"] * 4


@LAYERS
@PLACES
async def test_a_response_that_says_public_is_shared_by_all_users(
    identify: Any, place: str
) -> None:
    site = Site()
    site.headers = {"cache-control": "public, max-age=60"}
    app = placed(identify, place, site)
    assert [await ask(app, who) for who in ("ann", "bob", "")] == ["ann 1"] * 3


@LAYERS
@PLACES
async def test_vary_by_caches_for_each_user(identify: Any, place: str) -> None:
    rule = Rule("/me", vary_by=lambda request: request.headers.get("x-who", ""))
    app = placed(identify, place, Site(), rules=[rule])
    answers = [await ask(app, who) for who in ("ann", "bob", "", "ann", "bob", "")]
    assert answers == ["ann 1", "bob 2", "anonymous 3"] * 2


@PLACES
async def test_fields_that_clients_and_proxies_always_send_leave_a_request_anonymous(
    place: str,
) -> None:
    app = placed(authenticated, place, Site())
    usual = {"user-agent": "x", "accept": "*/*", "x-request-id": "1", "x-forwarded-for": "1.2.3.4"}
    await ask(app)
    answer = await call(app, path="/me", headers=usual)
    assert status_of(answer).startswith(b"maxage; hit")


async def test_a_cookie_of_starlettes_session_is_the_only_field_that_identifies() -> None:
    """Starlette's SessionMiddleware inside: other fields say nothing about the session."""
    kind = type("Session", (dict,), {"__module__": "starlette.middleware.sessions"})

    class StarlettesSession(WithSession):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["session"] = kind()
            await self.app(scope, receive, send)

    app = cache_of(StarlettesSession(Site().app))
    assert [await ask(app), await ask(app, "any")] == ["anonymous 1"] * 2


async def test_a_session_that_the_handler_fills_is_not_stored() -> None:
    site = Site()
    site.changes = {"csrf": "token"}
    app = placed(WithSession, "outside", site)
    assert [await ask(app) for _ in range(2)] == ["anonymous 1", "anonymous 2"]


async def test_a_session_that_is_empty_and_was_changed_is_not_stored() -> None:
    site = Site()
    app = cache_of(site.app)
    session = ModifiedSession()
    session.modified = True
    assert [await ask(app, session=session) for _ in range(2)] == ["anonymous 1", "anonymous 2"]


class ChangedSession(dict[str, str]):
    """Tells of a change, as Starlette's session does."""

    modified = False

    def update(self, *changes: Any, **named: Any) -> None:
        super().update(*changes, **named)
        self.modified = self.modified or any(changes)


@pytest.mark.parametrize("said", [{}, {"cache-control": "public, max-age=60"}])
async def test_a_handler_that_changes_the_session_is_not_stored_behind_vary_by(
    said: dict[str, str],
) -> None:
    """It has shown a message once, or made a token: as with a cookie that it sets itself."""
    site = Site()
    site.headers = said
    app = cache_of(site.app, rules=[Rule("/me", ttl=60, vary_by=lambda request: "ann")])

    async def asked() -> str:
        return await ask(app, session=ChangedSession(user="ann"))

    site.changes = {"csrf": "token"}
    assert [await asked(), await asked()] == ["ann 1", "ann 2"]
    site.changes = {}
    assert [await asked(), await asked()] == ["ann 3", "ann 3"]


async def test_a_session_that_a_layer_outside_changes_is_stored_behind_vary_by() -> None:
    """It changes it at hits too."""
    site, seen = Site(), ChangedSession(user="ann")
    seen.modified = True
    app = cache_of(site.app, rules=[Rule("/me", vary_by=lambda request: "ann")])
    assert [await ask(app, session=seen) for _ in range(2)] == ["ann 1", "ann 1"]


@pytest.mark.parametrize("modified", [lambda: False, 1764556800.0], ids=["a method", "a time"])
async def test_a_session_whose_modified_tells_of_no_change_is_stored_behind_vary_by(
    modified: Any,
) -> None:
    """Libraries call other things by this name; a layer inside adds such a session each time."""

    class OtherSession(dict[str, str]):
        pass

    OtherSession.modified = modified  # type: ignore[attr-defined]

    class Layer(WithSession):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["session"] = OtherSession(user="ann")
            await self.app(scope, receive, send)

    app = cache_of(Layer(Site().app), rules=[Rule("/me", ttl=60, vary_by=lambda request: "ann")])
    assert [await ask(app) for _ in range(2)] == ["ann 1", "ann 1"]


@LAYERS
@PLACES
async def test_cache_status_says_what_identifies(identify: Any, place: str) -> None:
    app = placed(identify, place, Site())
    answer = await call(app, path="/me", headers={"x-who": "ann"})
    said = b"session" if identify is WithSession else b"user"
    assert status_of(answer) == b"maxage; fwd=uri-miss; detail=" + said


class Unreadable:
    @property
    def is_authenticated(self) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize(
    "entries",
    [
        {"user": Unreadable()},
        {"user": "ann"},
        {"user": {"id": 1}},
        {"auth": AuthCredentials(["admin"])},
        {"auth": {"sub": "ann"}},
        {"auth": AuthCredentials(["authenticated"]), "user": UnauthenticatedUser()},
    ],
)
async def test_these_are_identities(entries: dict[str, Any]) -> None:
    app = cache_of(Site().app)
    await ask(app)
    assert (await ask(app, **entries)).endswith(" 2")
    assert await ask(app) == "anonymous 1"


@pytest.mark.parametrize(
    "entries",
    [
        {"user": None, "auth": None, "session": {}},
        {"user": UnauthenticatedUser(), "auth": AuthCredentials()},
        {"user": UnauthenticatedUser(), "auth": AuthCredentials(["guest"])},
    ],
)
async def test_these_are_anonymous(entries: dict[str, Any]) -> None:
    app = cache_of(Site().app)
    assert [await ask(app, **entries) for _ in range(3)] == ["anonymous 1"] * 3


async def test_with_authorization_only_an_identity_in_the_scope_is_none() -> None:
    app = cache_of(Site().app, cache_authorization_only=True)
    assert [await ask(app, session={"user": who}) for who in "ab"] == ["a 1"] * 2


async def test_a_user_does_not_take_the_response_that_an_anonymous_request_waits_for() -> None:
    site, gate = Site(), asyncio.Event()

    async def slow(request: Request) -> PlainTextResponse:
        answer = await site.page(request)
        await gate.wait()
        return answer

    app = cache_of(authenticated(Starlette(routes=[Route("/me", slow)])))  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask(app))
        await asyncio.sleep(0)
        others = [tasks.create_task(ask(app, who)) for who in ("bob", "", "eve")]
        await asyncio.sleep(0)
        gate.set()
    names = [one.result().split()[0] for one in (first, *others)]
    assert names == ["anonymous", "bob", "anonymous", "eve"]


async def test_a_background_refresh_for_an_identified_request_stores_nothing() -> None:
    site, clock = Site(), ManualClock()
    site.headers = {"cache-control": "max-age=1, stale-while-revalidate=60"}
    users = iter(["", "ann", "ann", "ann"])

    class OfOneAfterAnother(WithSession):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["session"] = {"user": user} if (user := next(users)) else {}
            await self.app(scope, receive, send)

    app: CacheMiddleware = cache_of(OfOneAfterAnother(site.app), clock)
    assert await ask(app) == "anonymous 1"
    clock.advance(2)
    assert await ask(app) == "anonymous 1"
    assert app.cache is not None
    while tasks := set(app.cache.background.tasks):
        await asyncio.wait(tasks)
    assert await ask(app) == "anonymous 1"


async def test_a_304_leaves_the_response_an_anonymous_one() -> None:
    site, clock = Site(), ManualClock()
    site.headers = {"cache-control": "max-age=1", "etag": '"a"'}

    async def page(request: Request) -> PlainTextResponse:
        answer = await site.page(request)
        if request.headers.get("if-none-match") == '"a"':
            return PlainTextResponse(status_code=304, headers=site.headers)
        return answer

    app = cache_of(authenticated(Starlette(routes=[Route("/me", page)])), clock)  # type: ignore[arg-type]
    assert await ask(app) == "anonymous 1"
    clock.advance(2)
    assert await ask(app) == "anonymous 1"
    assert site.runs == 2
    assert (await ask(app, "bob")).startswith("bob")
