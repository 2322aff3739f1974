"""Purges by hand beneath a root path: with it and without it, the same is purged."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from typing import Any
from weakref import WeakSet

import httpx
import pytest
from fastapi import FastAPI

from maxage import CacheMiddleware, CacheSettings, Rule, apurge, invalidates
from maxage.fastapi import purge_router
from maxage.invalidation import root_paths
from maxage.invalidation.root_paths import inner_paths
from maxage.store.memory import MemoryStore
from tests.support.asgi import call
from tests.support.caching import cache_of, status_of
from tests.support.workers import Workers

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-this-test"


@pytest.fixture(autouse=True)
def _no_root_paths_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A middleware of another test may still be in memory."""
    monkeypatch.setattr(root_paths, "_all", WeakSet())


SPELLINGS = ["/items/5", "/api/items/5", "/api/items/*", "http://testserver/api/items", "/api"]


def shop(root_path: str = "") -> FastAPI:
    """Items; any name is purged by GET, and by the purge route."""
    app = FastAPI(openapi_url=None)
    app.root_path = root_path
    app.include_router(purge_router(token=TOKEN), prefix="/ops")

    @app.get("/items/{item_id}")
    async def read(item_id: int) -> int:
        return item_id

    @app.get("/other")
    async def other() -> int:
        return 1

    @app.get("/purge")
    async def do(name: str) -> bool:
        return await apurge(name)

    return app


async def hits(middleware: Any, path: str, **scope: Any) -> bool:
    return b"hit" in status_of(await call(middleware, path=path, **scope))


@pytest.mark.parametrize("name", SPELLINGS)
async def test_a_server_with_a_root_path(name: str) -> None:
    """The scope has it, and the path begins with it."""
    middleware = cache_of(shop())
    for expected in (False, True):
        assert await hits(middleware, "/api/items/5", root_path="/api") is expected
    answer = await call(middleware, path="/api/purge", query=f"name={name}", root_path="/api")
    assert answer.body == b"true"
    assert not await hits(middleware, "/api/items/5", root_path="/api")


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("front", ["", "/api"])
async def test_an_application_with_a_root_path_of_its_own(name: str, front: str) -> None:
    """Behind a proxy that strips it, and one that does not."""
    middleware = cache_of(shop("/api"))
    for expected in (False, True):
        assert await hits(middleware, front + "/items/5") is expected
    assert (await call(middleware, path=front + "/purge", query=f"name={name}")).body == b"true"
    assert not await hits(middleware, front + "/items/5")


async def test_what_a_purge_does_not_name_stays() -> None:
    """Where the root paths are known, nothing else is left out of a path."""
    middleware = cache_of(shop())
    for _ in range(2):
        await call(middleware, path="/other")
        await call(middleware, path="/items/5")
    await call(middleware, path="/purge", query="name=/api/other")
    await call(middleware, path="/purge", query="name=/x/items/5")
    assert await hits(middleware, "/other")
    assert await hits(middleware, "/items/5")


@pytest.mark.parametrize("name", ["/items/5", "/api/items/5"])
async def test_a_purge_over_http(name: str) -> None:
    """The purge route takes both."""
    middleware = cache_of(shop())
    for _ in range(2):
        await call(middleware, path="/api/items/5", root_path="/api")
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    answer = await call(
        middleware, "POST", "/api/ops/purge", root_path="/api", headers=headers,
        body=json.dumps({"names": [name]}).encode(),
    )  # fmt: skip
    assert answer.status == 200
    assert not await hits(middleware, "/api/items/5", root_path="/api")


@pytest.mark.parametrize("name", ["/items/5", "/sub/items/5"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("root_path", ["", "/api"])
async def test_a_mounted_application(name: str, inside: bool, root_path: str) -> None:
    """Whether the cache stands around the whole or around the mounted one."""
    sub, main = shop(), FastAPI(openapi_url=None)
    if inside:
        sub.add_middleware(CacheMiddleware, settings=CacheSettings(), store=MemoryStore())
    main.mount("/sub", sub)
    app: Any = main if inside else cache_of(main)
    for expected in (False, True):
        assert await hits(app, root_path + "/sub/items/5", root_path=root_path) is expected
    await call(app, path=root_path + "/sub/purge", query=f"name={name}", root_path=root_path)
    assert not await hits(app, root_path + "/sub/items/5", root_path=root_path)


@pytest.mark.parametrize("name", ["/items/5", "/sub/items/5", "/api/sub/items/5"])
@pytest.mark.parametrize("by_rule", [False, True])
async def test_what_a_write_says_that_it_purges(name: str, by_rule: bool) -> None:
    """As the client, the whole application, or the mounted one spells it."""
    sub, main = shop(), FastAPI(openapi_url=None)

    async def count() -> None: ...

    sub.post("/count")(count if by_rule else invalidates(name)(count))
    main.mount("/sub", sub)
    rules = [Rule("/sub/count", invalidates=[name])] if by_rule else []
    middleware = cache_of(main, rules=rules)
    for _ in range(2):
        await call(middleware, path="/api/sub/items/5", root_path="/api")
    await call(middleware, "POST", "/api/sub/count", root_path="/api")
    assert not await hits(middleware, "/api/sub/items/5", root_path="/api")


SITE = """
from tests.invalidation.test_root_paths import shop
from maxage import CacheMiddleware
app = shop()
app.add_middleware(CacheMiddleware)
"""


async def test_a_server_started_with_a_root_path_and_a_script(
    workers: Workers, redis_url: str
) -> None:
    """A script knows no root path, and purges both all the same."""
    env = {"REDIS_URL": redis_url, "CACHE_NAMESPACE": uuid.uuid4().hex}
    worker = workers.start(SITE, env=env, args=["--root-path", "/api"])
    async with httpx.AsyncClient(base_url=worker.url) as client:

        async def is_hit() -> bool:
            answer = await client.get("/items/5")
            assert answer.json() == 5
            return "hit" in answer.headers["cache-status"]

        for name in ("/items/5", "/api/items/5"):
            await is_hit()
            assert await is_hit()
            assert (await client.get("/purge", params={"name": name})).json() is True
            assert not await is_hit()
            code = f"from maxage import purge; assert purge({name!r})"
            await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", code], env=os.environ | env, check=True
            )
            assert not await is_hit()


def test_where_no_root_path_is_known_a_few_segments_may_be_one() -> None:
    """But never the whole path: that would be everything."""
    assert inner_paths("/items") == ()
    assert inner_paths("/api/items") == ("/items",)
    assert inner_paths("/a/b/c/d/e/") == ("/b/c/d/e", "/c/d/e", "/d/e")


async def test_of_more_root_paths_than_are_kept_none_is_missed() -> None:
    """As where each tenant has its own."""
    middleware = cache_of(shop())
    for number in range(20):
        await hits(middleware, f"/t{number}/items/5", root_path=f"/t{number}")
    assert await hits(middleware, "/t0/items/5", root_path="/t0")
    await call(middleware, path="/t9/purge", query="name=/t0/items/5", root_path="/t9")
    assert not await hits(middleware, "/t0/items/5", root_path="/t0")
