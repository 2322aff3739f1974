"""Applications of other kinds: wrapped, of Starlette, without routes, with a wrong setting."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from app.main import create_app
from maxage import CacheMiddleware, CacheSettings, Rule, SettingsError
from maxage.lint import lint

HITS: list[str] = []


class Visits(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        HITS.append(request.url.path)
        return PlainTextResponse("")


async def address(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.client))


def codes(app: Any) -> list[tuple[str, str]]:
    return [(str(one.code), one.route) for one in lint(app)]


def test_the_reference_application_is_clean() -> None:
    assert lint(create_app()) == ()


def test_starlettes_endpoints_are_read() -> None:
    """Functions and the methods of an HTTPEndpoint, also in a mounted application."""
    inner = Starlette(routes=[Route("/visits", Visits)])
    app = Starlette(routes=[Route("/address", address), Mount("/inner", inner)])
    assert codes(app) == [("MX103", "GET /address"), ("MX201", "GET /inner/visits")]


def test_a_wrapped_application_is_read_through_its_cache() -> None:
    app = Starlette(routes=[Route("/address", address)])
    assert codes(CacheMiddleware(app)) == [("MX103", "GET /address")]


@pytest.mark.parametrize(
    ("listed", "code"),
    [("Theme", "MX103"), ("Th*", "MX103"), ("theme", "MX102"), ("Them?", "MX102")],
)
def test_a_cookie_is_ignored_as_the_cache_ignores_it(listed: str, code: str) -> None:
    """Its case counts, and only a star stands for other characters."""

    async def themed(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.cookies.get("Theme", ""))

    app = Starlette(routes=[Route("/themed", themed)])
    settings = CacheSettings(cache_ignored_cookies=(listed,))
    assert codes(CacheMiddleware(app, settings)) == [(code, "GET /themed")]


def test_an_application_without_routes_is_one_finding() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert codes(app) == [("MX401", "*")]


@pytest.mark.parametrize("varies", [False, True])
def test_sessions_inside_are_a_note_where_no_route_has_vary_by(*, varies: bool) -> None:
    """A session with content keeps its answers out of the store; a vary_by is asked without it."""
    app = FastAPI()
    app.get("/a")(lambda: "")
    rules = [Rule("/a", vary_by=lambda request: "user")] if varies else []
    app.add_middleware(type("SessionMiddleware", (GZipMiddleware,), {"__module__": "starsessions"}))
    app.add_middleware(CacheMiddleware, rules=rules)
    [finding] = lint(app)
    assert (finding.code, finding.is_note) == ("MX303", not varies)


def test_routes_that_match_by_code_of_their_own_are_one_note_for_their_class() -> None:
    """Nothing is cached there, and the answers are right."""

    class Own(Route):
        def matches(self, scope: Any) -> Any:
            return super().matches(scope)

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Own("/a", page), Mount("/in", routes=[Own("/b", page)])])
    [finding] = lint(app)
    assert (finding.code, finding.route, finding.is_note) == ("MX401", "*", True)
    assert "class test_routes" in finding.reason


def test_without_a_default_lifetime_nothing_is_alive() -> None:
    """Both sides: the default lifetime, and none."""
    app = FastAPI()
    app.add_api_route("/now", lambda: "")
    assert codes(app) == [("MX601", "GET /now")]
    app = FastAPI()
    app.add_api_route("/now", lambda: "")
    app.add_middleware(CacheMiddleware, settings=CacheSettings(cache_expiration=0))
    assert codes(app) == []


def test_a_strict_hold_makes_late_commits_harmless() -> None:
    from tests.lint.planted import router

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(CacheMiddleware, settings=CacheSettings(cache_strict_hold=True))
    assert "MX203" not in {code for code, _ in codes(app)}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("is_outside", [False, True])
def test_compression_stands_inside_unless_the_cache_compresses(
    compress: bool, is_outside: bool
) -> None:
    app = FastAPI()
    settings = CacheSettings(cache_compress=compress)
    app.add_middleware(GZipMiddleware)
    app.add_middleware(CacheMiddleware, settings=settings)
    if is_outside:
        app.user_middleware.reverse()
    assert codes(app) == ([("MX302", "*")] if is_outside is not compress else [])


def test_two_caches_are_one_too_many() -> None:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    app.add_middleware(CacheMiddleware)
    assert codes(app) == [("MX306", "*")]


def test_an_application_mounted_in_itself_has_its_cache_twice() -> None:
    """One around it stands outside of both."""
    app = FastAPI()
    app.mount("/v1", app)
    assert codes(CacheMiddleware(app)) == []
    app.add_middleware(CacheMiddleware)
    assert codes(app) == [("MX306", "*")]


def test_a_wrong_setting_of_the_application_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_EXPIRATION", "soon")
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    with pytest.raises(SettingsError, match="CACHE_EXPIRATION got 'soon'"):
        lint(app)
