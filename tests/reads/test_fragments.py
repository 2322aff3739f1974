"""Pages and fragments of one URL: htmx and its like ask by headers that handlers do not declare."""

from typing import Any

import pytest

from maxage.cache.key import FRAGMENT_HEADERS
from maxage.store.memory import MemoryStore
from tests.support.asgi import Receive, Scope, Send, call, http_scope, routed
from tests.support.caching import background_done, cache_of, piece, start, status_of

pytestmark = pytest.mark.anyio

NAMES = sorted(name.decode() for name in FRAGMENT_HEADERS)


def pages(*head: tuple[bytes, bytes]) -> Any:
    """An application whose answer shows the headers that ask for a fragment."""

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = [line for line in scope["headers"] if line[0].lower() in FRAGMENT_HEADERS]
        await send(start(*head))
        await send(piece(repr(asked).encode()))

    return app


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vary", [False, True])
async def test_a_fragment_is_never_taken_for_its_page(name: str, *, vary: bool) -> None:
    """Nor the page for it, nor one fragment for another, though no route declares the header."""
    middleware = cache_of(pages(*([(b"vary", name.encode())] if vary else [])))
    asked: list[dict[str, str]] = [{name: "true"}, {}, {name: "other"}, {name: ""}]
    bodies = [(await call(middleware, headers=headers)).body for headers in asked]
    assert len({*bodies}) == len(asked)
    for headers, body in zip(asked, bodies, strict=True):
        hit = await call(middleware, headers=headers)
        assert (hit.body, b"; hit" in status_of(hit)) == (body, True)


async def test_headers_in_capitals_ask_for_a_fragment_too() -> None:
    """A middleware around the cache may have written the name."""
    middleware = cache_of(pages())

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        lines = [*scope["headers"], (b"HX-Request", b"true")]
        await middleware({**scope, "headers": lines}, receive, send)

    for _ in range(2):
        assert (await call(middleware)).body != (await call(around)).body


async def test_a_write_purges_page_and_fragments() -> None:
    middleware = cache_of(pages())
    for headers in ({}, {"hx-request": "true"}):
        await call(middleware, headers=headers)
        assert b"; hit" in status_of(await call(middleware, headers=headers))
    await call(middleware, "POST")
    for headers in ({}, {"hx-request": "true"}):
        assert b"; hit" not in status_of(await call(middleware, headers=headers))


async def test_the_fragments_of_one_url_are_bounded() -> None:
    """Those that were stored first make room."""
    store = MemoryStore()
    middleware = cache_of(pages(), store=store, cache_max_variants=8)
    for number in range(40):
        await call(middleware, headers={"hx-trigger": f"row-{number}"})
        await background_done(middleware)
    assert 0 < sum(b":e:" in key for key in store.all_keys()) <= 8


async def test_a_page_is_known_and_a_fragment_is_not() -> None:
    """The fast path and uvicorn's fast lane answer the page alone."""
    middleware = cache_of(pages())
    assert middleware.fast_path is not None
    for _ in range(2):
        await call(middleware)
    assert middleware.fast_path.known(http_scope()) is not None
    for name in NAMES:
        assert middleware.fast_path.known(http_scope(headers={name: "1"})) is None


@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("unstored", ["page", "fragment"])
async def test_what_is_not_stored_costs_page_or_fragment_beside_it_no_hit(
    unstored: str, *, vary: bool
) -> None:
    """Its no-store says nothing of the other one, which has the same URL."""
    fragment = {"hx-request": "true"}

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kind = "fragment" if (b"hx-request", b"true") in scope["headers"] else "page"
        said = (b"cache-control", b"no-store" if kind == unstored else b"max-age=60")
        await send(start(said, *([(b"vary", b"HX-Request")] if vary else [])))
        await send(piece(b"x"))

    middleware = cache_of(app)
    headers, others = ({}, fragment) if unstored == "fragment" else (fragment, {})
    await call(middleware, headers=headers)
    for _ in range(3):
        await call(middleware, headers=others)
        assert b"; hit" in status_of(await call(middleware, headers=headers))
