"""Declared headers and cookies: each value has its own response, and their number is bounded."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import pytest
from fastapi import Cookie, FastAPI, Header, Response

from maxage import CacheMiddleware, CacheSettings
from maxage.cache.key import list_key
from tests.support.asgi import HeaderInput, call
from tests.support.caching import background_done, cache_of, status_of
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio

MOST = 64
"""The default of CACHE_MAX_VARIANTS."""


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/shown")
    def _shown(x_lang: Annotated[str, Header()] = "") -> str:
        return x_lang

    @app.get("/said")
    def _said(response: Response, x_lang: Annotated[str, Header()] = "") -> str:
        response.headers["vary"] = "X-Lang"
        return x_lang

    @app.get("/coded")
    def _coded(response: Response, x_lang: Annotated[str, Header()] = "", x_other: str = "") -> str:
        response.headers["vary"] = "X-Lang, Accept-Encoding"
        return x_lang

    @app.get("/lines")
    def _lines(x_lang: Annotated[list[str] | None, Header()] = None) -> list[str]:
        return x_lang or []

    @app.get("/theme")
    def _theme(response: Response, theme: Annotated[str, Cookie()] = "") -> str:
        response.headers["cache-control"] = "public, max-age=60"
        response.headers["vary"] = "Cookie"
        return theme

    return app


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


Worker = Callable[..., CacheMiddleware]


@pytest.fixture
async def worker(redis_url: str, namespace: str) -> AsyncIterator[Worker]:
    """Makes workers that share a Redis."""
    made: list[CacheMiddleware] = []

    def make(most: int = MOST) -> CacheMiddleware:
        settings = CacheSettings(
            redis_url=redis_url, cache_namespace=namespace, cache_max_variants=most
        )
        made.append(CacheMiddleware(application(), settings))
        return made[-1]

    yield make
    for middleware in made:
        await middleware.aclose()


@pytest.fixture
def stored(redis_server: RedisServer, namespace: str) -> Callable[[str], int]:
    """Counts the keys of a kind."""

    def count(kind: str) -> int:
        return len(redis_server.call("KEYS", f"{namespace}:{kind}:*"))

    return count


async def ask(middleware: CacheMiddleware, path: str, **headers: str) -> tuple[bytes, bool]:
    """The body, and whether it was a hit."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await call(middleware, path=path, headers=names)
    return answer.body, b"hit" in status_of(answer)


@pytest.mark.parametrize("path", ["/shown", "/said"])
async def test_a_value_is_one_key_where_vary_names_only_what_the_key_holds(
    worker: Worker, stored: Callable[[str], int], path: str
) -> None:
    """No index and no variant besides it, whether or not the response says that it varies."""
    middleware = worker()
    for lang in ("de", "en"):
        for hit in (False, True):
            body = f'"{lang}"'.encode()
            assert await ask(middleware, path, x_lang=lang) == (body, hit)
            await background_done(middleware)
    assert stored("e") == 2
    assert stored("l") == 1


@pytest.mark.parametrize("path", ["/shown", "/said", "/coded"])
async def test_the_values_of_one_url_are_bounded_for_all_workers_together(
    worker: Worker, stored: Callable[[str], int], path: str
) -> None:
    """At once and one after the other; the values stored first make room."""
    workers = [worker() for _ in range(3)]
    for start in range(0, 300, 50):
        asked = [
            ask(workers[value % 3], path, x_lang=f"{value}") for value in range(start, start + 50)
        ]
        await asyncio.gather(*asked)
        for each in workers:
            await background_done(each)
    assert stored("e") <= MOST
    assert stored("l") == 1
    assert await ask(workers[0], path, x_lang="300") == (b'"300"', False)
    await background_done(workers[0])
    assert await ask(workers[0], path, x_lang="300") == (b'"300"', True)
    assert await ask(workers[0], path, x_lang="0") == (b'"0"', False)


async def test_as_many_values_as_the_bound_are_all_hits(worker: Worker) -> None:
    """None of them displaces another one, however often it is stored."""
    middleware = worker()
    for _ in range(2):
        for value in range(MOST):
            await ask(middleware, "/said", x_lang=f"{value}", cache_control="no-cache")
            await background_done(middleware)
    other = worker()
    assert all([(await ask(other, "/said", x_lang=f"{n}"))[1] for n in range(MOST)])


async def test_a_bound_of_one_keeps_the_one_variant_findable(worker: Worker) -> None:
    """Other workers find it by its index alone."""
    middleware = worker(most=1)
    assert await ask(middleware, "/coded", x_lang="de") == (b'"de"', False)
    await background_done(middleware)
    assert await ask(worker(most=1), "/coded", x_lang="de") == (b'"de"', True)


async def test_the_list_lives_as_long_as_the_longest_entry(
    worker: Worker, redis_server: RedisServer, namespace: str
) -> None:
    """Otherwise what it forgets would be counted no more; and it ends with them."""
    middleware = worker()
    await ask(middleware, "/said", x_lang="de")
    await background_done(middleware)
    (entry,), (listed,) = (redis_server.call("KEYS", f"{namespace}:{kind}:*") for kind in "el")
    assert listed == list_key(listed.replace(b":l:", b":e:"))
    lasting = redis_server.call("PTTL", entry)
    assert lasting - 100 <= redis_server.call("PTTL", listed) <= lasting + 1500


async def test_lines_that_a_handler_tells_apart_have_keys_of_their_own() -> None:
    """Two lines are another list than one line with a comma; absent is not empty."""
    middleware = cache_of(application())
    requests: tuple[tuple[HeaderInput, bytes], ...] = (
        ([("x-lang", "de"), ("x-lang", "en")], b'["de","en"]'),
        ([("x-lang", "de, en")], b'["de, en"]'),
        ([("x-lang", "")], b'[""]'),
        ([], b"[]"),
    )
    for hit in (False, True):
        for headers, body in requests:
            answer = await call(middleware, path="/lines", headers=headers)
            assert (answer.body, b"hit" in status_of(answer)) == (body, hit)


async def test_a_declared_cookie_is_one_entry_too() -> None:
    """Where the response may answer requests with cookies."""
    middleware = cache_of(application())
    assert middleware.cache is not None
    for theme in ("dark", "light", ""):
        for hit in (False, True):
            cookie = {"cookie": f"theme={theme}"} if theme else {}
            assert await ask(middleware, "/theme", **cookie) == (f'"{theme}"'.encode(), hit)
            await background_done(middleware)
    entries = [key for key in middleware.cache.store._values if b":e:" in key]  # type: ignore[attr-defined]
    assert len(entries) == 3
