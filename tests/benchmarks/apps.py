"""The floors, and the FastAPI application with and without maxage in front of it."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from tests.benchmarks.content import ITEMS, ITEMS_BODY, LARGE, MODIFIED, item, page

REDIS_URL = os.environ.get("REDIS_URL", "")


class Item(BaseModel):
    """What the handlers return."""

    id: int
    name: str
    description: str
    price: float


HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"public, max-age=3600"),
    (b"last-modified", MODIFIED),
]
"""What the application sends; the floors answer the same."""

ADDED = [(b"etag", b'W/"0123456789abcdef01234567"'), (b"age", b"10"), (b"cache-status", b"x" * 22)]
"""As long as what a hit adds."""

# --- floors -------------------------------------------------------------------------------------


def raw(added: Sequence[tuple[bytes, bytes]] = ()) -> Any:
    """Answer a constant of the right size, without looking at anything but the path."""
    answers = {
        path: _messages(body, added) for path, body in (("/items", ITEMS_BODY), *LARGE.items())
    }
    not_modified = {"type": "http.response.start", "status": 304, "headers": [(b"etag", b'"1"')]}
    small, empty = answers["/items"], {"type": "http.response.body", "body": b""}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            await send(not_modified)
            await send(empty)
            return
        start, body = answers.get(scope["path"], small)
        await send(start)
        await send(body)

    return app


def raw_like_a_hit() -> Any:
    """Answer a constant with as many headers as a hit has."""
    return raw(ADDED)


def raw_added() -> FastAPI:
    """Answer a constant from a middleware that FastAPI adds, with its own layers around it."""
    constant = raw()

    def middleware(inner: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await (constant if scope["type"] == "http" else inner)(scope, receive, send)

        return answer

    app = bare()
    app.add_middleware(middleware)
    return app


def in_dictionary() -> Any:
    """Answer from a dictionary in the process, by method, path and query."""
    store = {
        ("GET", path, b""): (body, HEADERS)
        for path, body in (("/items", ITEMS_BODY), *LARGE.items())
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        body, headers = store[scope["method"], scope["path"], scope["query_string"]]
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})

    return app


def redis_get() -> Any:
    """Answer with what one GET of redis-py brings: the least that a cache on Redis does."""
    import redis
    from redis.asyncio import Redis

    with redis.Redis.from_url(REDIS_URL) as prepared:
        for path, body in (("/items", ITEMS_BODY), *LARGE.items()):
            prepared.set("bench:" + path, body)
    client = Redis.from_url(REDIS_URL)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        body = await client.get("bench:" + scope["path"])
        start, message = _messages(body)
        await send(start)
        await send(message)

    return app


def _messages(
    body: bytes, added: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    headers = [*HEADERS, (b"content-length", b"%d" % len(body)), *added]
    return (
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


# --- the application ----------------------------------------------------------------------------


def bare(*, modelled: bool = True) -> FastAPI:
    """Return the application as it is without a cache."""
    app = FastAPI()
    model: Any = list[Item] if modelled else None
    one: Any = Item if modelled else None
    calls = {"slow": 0}

    @app.get("/items", response_model=model)
    async def items(response: Response) -> Any:
        # Explicit freshness and a validator, so that proxies and peers store it too.
        response.headers["cache-control"] = "public, max-age=3600"
        response.headers["last-modified"] = MODIFIED.decode()
        return ITEMS

    @app.options("/items")
    async def options() -> Response:
        return Response(headers={"allow": "GET, POST, OPTIONS"})

    @app.post("/items", response_model=one)
    async def create(new: Item) -> Any:
        return new

    @app.get("/items/{number}", response_model=one)
    async def member(number: int, response: Response) -> Any:
        response.headers["cache-control"] = "public, max-age=3600"
        return item(number)

    @app.get("/no-store", response_model=model)
    async def no_store(response: Response) -> Any:
        response.headers["cache-control"] = "no-store"
        return ITEMS

    @app.get("/body/{name}")
    async def large(request: Request) -> Response:
        headers = {"cache-control": "public, max-age=3600"}
        return Response(LARGE[request.url.path], media_type="application/json", headers=headers)

    @app.get("/page/{number}")
    async def one_page(number: int) -> Response:
        headers = {"cache-control": "public, max-age=3600"}
        return Response(page(number), media_type="application/json", headers=headers)

    @app.get("/slow/{name}")
    async def slow(name: str, response: Response) -> dict[str, Any]:
        calls["slow"] += 1
        await asyncio.sleep(0.2)
        response.headers["cache-control"] = "public, max-age=3600"
        return {"pid": os.getpid(), "call": calls["slow"]}

    return app


def bare_plain() -> FastAPI:
    """Return the application without response models."""
    return bare(modelled=False)


def bare_trees(number: int = 50) -> FastAPI:
    """Return the application with further resources, each with routes and a table of its own."""
    app = bare()

    def add(name: str) -> None:
        @app.get(f"/{name}", response_model=list[Item])
        async def items() -> Any:
            return ITEMS

        @app.get(f"/{name}/{{number}}", response_model=Item)
        async def member(number: int) -> Any:
            return item(number)

        @app.post(f"/{name}", response_model=Item)
        async def create(new: Item) -> Any:
            return new

    for tree in range(number):
        add(f"tree{tree}")
    return app


def wrapped_trees() -> Any:
    """Put the middleware around the application with many resources."""
    from maxage import CacheMiddleware

    return CacheMiddleware(bare_trees())


def wrapped() -> Any:
    """Put the middleware around the application."""
    from maxage import CacheMiddleware

    return CacheMiddleware(bare())


def added() -> FastAPI:
    """Add the middleware as FastAPI does."""
    from maxage import CacheMiddleware

    app = bare()
    app.add_middleware(CacheMiddleware)
    return app
