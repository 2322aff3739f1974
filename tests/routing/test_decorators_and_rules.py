"""What a developer says about single routes: rules, decorators, tags."""

from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import FastAPI, Response

from maxage import Rule, cached, uncached
from maxage.errors import SettingsError
from tests.support.asgi import CounterApp, Recorded, call, routed
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio


def ttl_of(answer: Recorded) -> int | None:
    """The lifetime that a hit shows; None for what is no hit."""
    value = answer.header("cache-status") or b""
    return int(value.rpartition(b"ttl=")[2]) if b"hit" in value else None


async def lifetime(app: Any, path: str = "/x", *, rules: Any = (), **settings: Any) -> int | None:
    """The whole seconds for which the path's response is stored; None: not at all."""
    middleware = cache_of(app, rules=rules, **settings)
    await call(middleware, path=path)
    ttl = ttl_of(await call(middleware, path=path))
    return None if ttl is None else round(ttl, -1) if ttl > 9 else ttl


def decorated(decorator: Any = None, said: str = "") -> FastAPI:
    """An application whose /x is decorated, and says `said` itself."""
    app = FastAPI()

    def read(response: Response) -> str:
        if said:
            response.headers["cache-control"] = said
        return "x"

    app.get("/x")(read if decorator is None else decorator(read))
    return app


@pytest.mark.parametrize(
    ("decorator", "said", "rule", "expected"),
    [
        (None, "", None, 300),
        (None, "", Rule("/x", ttl=100), 100),
        (cached(ttl=50), "", None, 50),
        (cached(ttl=50), "", Rule("/x", ttl=100), 50),
        (cached(), "", Rule("/x", ttl=100), 100),
        (cached(ttl=50), "max-age=20", Rule("/x", ttl=100), 20),
        (None, "max-age=20", Rule("/x", ttl=100), 20),
        (cached(ttl=0), "", Rule("/x", ttl=100), None),
    ],
)
async def test_lifetimes_come_from_response_decorator_rule_settings_in_this_order(
    decorator: Any, said: str, rule: Rule | None, expected: int | None
) -> None:
    """The strongest that speaks wins."""
    rules = [rule] if rule else []
    assert await lifetime(decorated(decorator, said), rules=rules) == expected


@pytest.mark.parametrize(
    ("decorator", "said", "rules"),
    [
        (uncached, "", []),
        (uncached, "public, max-age=60", []),
        (uncached, "", [Rule("/x", ttl=60)]),
        (cached(ttl=60), "no-store", []),
        (cached(ttl=60), "private", []),
        (cached(ttl=60), "", [Rule("/x", cache=False)]),
        (None, "max-age=60", [Rule("/x", cache=False)]),
        (None, "no-store", [Rule("/x", ttl=60)]),
        (None, "", [Rule("/x", ttl=60), Rule("/**", cache=False)]),
    ],
)
async def test_a_prohibition_at_any_level_wins(decorator: Any, said: str, rules: Any) -> None:
    """A prohibition at any level is obeyed, whatever the others say."""
    assert await lifetime(decorated(decorator, said), rules=rules) is None


async def test_the_first_matching_rule_gives_the_lifetime() -> None:
    """As in a table that is read from the top."""
    rules = [Rule("/a", ttl=100), Rule("/**", ttl=50)]
    assert await lifetime(CounterApp(), "/a", rules=rules) == 100
    assert await lifetime(CounterApp(), "/b", rules=rules) == 50


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/items/{id}", "/items/5", True),
        ("/items/{id}", "/items/5/parts", False),
        ("/items/{id}", "/items", False),
        ("/items/*", "/items/5", True),
        ("/items/*", "/items/5/parts", False),
        ("/items/**", "/items/5/parts", True),
        ("/items/**", "/itemsets", False),
        ("/a.b", "/axb", False),
        ("**", "/anything/at/all", True),
    ],
)
async def test_patterns(pattern: str, path: str, matches: bool) -> None:
    """`{name}` and `*` are one segment, `**` any number."""
    found = await lifetime(CounterApp(), path, rules=[Rule(pattern, ttl=50)])
    assert found == (50 if matches else 300)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "items"},
        {"path": "/x", "ttl": -1},
        {"path": "/x", "ttl": float("nan")},
        {"path": "/x", "invalidates_only": "news"},
        {"path": "/x", "invalidates_only": [""]},
    ],
)
def test_a_rule_that_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    """At the place where it is written."""
    with pytest.raises(SettingsError, match="it takes"):
        Rule(**wrong)


async def test_an_uncached_route_is_not_looked_up_either() -> None:
    """The request bypasses the cache and says so."""
    middleware = cache_of(decorated(uncached))
    answer = await call(middleware)
    assert answer.header("cache-status") == b"maxage; fwd=bypass; detail=uncached"


def tagged(headers: dict[str, str] | None = None, *tags: str) -> tuple[FastAPI, list[str]]:
    """An application with tagged reports, and what ran."""
    app, runs = FastAPI(), list[str]()

    @app.get("/reports/{name}")
    @cached(tags=tags)
    def report(name: str, response: Response) -> str:
        runs.append(name)
        response.headers.update(headers or {})
        return name

    return app, runs


async def test_tags_with_path_parameters_purge_what_they_name() -> None:
    """`report:{name}` of one report leaves the other a hit."""
    app, runs = tagged(None, "report:{name}", "reports")
    middleware = cache_of(app)
    assert middleware.cache is not None

    async def read() -> None:
        for name in ("a", "b"):
            await call(middleware, path=f"/reports/{name}")

    await read()
    await read()
    assert runs == ["a", "b"]
    await middleware.cache.purger.purge(["g:report:a"])
    await read()
    assert runs == ["a", "b", "a"]
    await middleware.cache.purger.purge(["g:reports"])
    await read()
    assert runs == ["a", "b", "a", "a", "b"]
    await middleware.cache.purger.purge(["g:report:{name}"])
    await read()
    assert len(runs) == 5


async def test_the_tags_of_a_rule_add_to_those_of_the_decorator() -> None:
    """A purge of either reaches the response."""
    app, runs = tagged(None, "mine")
    rules = [Rule("/reports/*", tags=["ruled"])]
    middleware = cache_of(app, rules=rules)
    assert middleware.cache is not None
    for group in ("g:mine", "g:ruled", "g:other"):
        await call(middleware, path="/reports/a")
        await middleware.cache.purger.purge([group])
    await call(middleware, path="/reports/a")
    assert len(runs) == 3


@pytest.mark.parametrize("header", ["cache-tag", "surrogate-key"])
async def test_a_tag_named_by_the_response_is_captured_before_it_is_stored(header: str) -> None:
    """Protocol section 2.1: the first response is not stored, the next one is, and is purged."""
    app, runs = tagged({header: "late"})
    middleware = cache_of(app)
    assert middleware.cache is not None
    first = await call(middleware, path="/reports/a")
    assert first.header("cache-status") == b"maxage; fwd=uri-miss; detail=late-tag"
    await call(middleware, path="/reports/a")
    assert ttl_of(await call(middleware, path="/reports/a")) is not None
    assert len(runs) == 2
    await middleware.cache.purger.purge(["g:late"])
    await call(middleware, path="/reports/a")
    assert len(runs) == 3


async def test_a_purge_of_a_late_tag_while_the_handler_runs_is_not_lost() -> None:
    """The tag's token was captured before the handler ran, so what it made is a miss."""
    runs = [0]

    @routed
    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs[0] += 1
        if runs[0] == 2:
            assert middleware.cache is not None
            await middleware.cache.purger.purge(["g:late"])
        headers = [(b"cache-tag", b"late, other")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"%d" % runs[0]})

    middleware = cache_of(app)
    assert [(await call(middleware)).body for _ in range(4)] == [b"1", b"2", b"3", b"3"]


@pytest.mark.parametrize(("count", "stored"), [(2, True), (3, False)])
async def test_a_response_with_too_many_tags_is_not_stored(count: int, stored: bool) -> None:
    """Each tag costs a token in every lookup."""
    app = CounterApp(headers={"cache-tag": ",".join(f"t{n}" for n in range(count))})
    middleware = cache_of(app, cache_max_tags=2)
    for _ in range(3):
        await call(middleware)
    assert app.runs == (2 if stored else 3)


async def test_a_prohibition_holds_beneath_a_root_path() -> None:
    """`uvicorn --root-path /api` sends the path with the root path in front."""
    runs: list[int] = []

    async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = cache_of(app, rules=[Rule("/admin/**", cache=False)])
    for _ in range(2):
        await call(middleware, path="/api/admin/x", root_path="/api")
    assert len(runs) == 2
