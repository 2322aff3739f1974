"""`/health/live`, `/health/ready` and `/health/cache`, on a real Redis and without one."""

import asyncio
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from maxage import CacheSettings
from maxage.fastapi import CacheHealth, CacheState, health_router
from maxage.fastapi.readiness import CHECK_TIMEOUT
from tests.support.asgi import Recorded, call
from tests.support.caching import cache_of
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import wait_until
from tests.support.workers import Workers

pytestmark = pytest.mark.anyio

SOURCE = """
from fastapi import FastAPI
from maxage import CacheMiddleware, CacheSettings
from maxage.fastapi import CacheHealth, CacheState, health_router
app = FastAPI()
app.add_middleware(CacheMiddleware)
app.include_router(health_router(CacheSettings(), message="x"), prefix="/api/v1")
@app.get("/x")
def x() -> int:
    return 1
@app.put("/x")
def put() -> int:
    return 1
"""
ROOT = Path(__file__).resolve().parents[2]
PATHS = ("/health/live", "/health/ready", "/health/cache")


async def answer(path: str, *, settings: CacheSettings | None = None, **more: Any) -> Recorded:
    """The answer of a health router behind the cache."""
    app = FastAPI()
    app.include_router(health_router(settings or CacheSettings(), message="x", **more))
    return await call(cache_of(app), path=path)


def told(answer: Recorded) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    return found


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_never_cached(path: str) -> None:
    """No cache may keep it, ours and those behind it."""
    found = await answer(path)
    assert found.status == 200
    assert found.header("cache-control") == b"no-store"
    assert found.header("cache-status") == b"maxage; fwd=bypass; detail=uncached"


def test_the_documentation_explains_each_field() -> None:
    """docs/operations.md has one line for each field of /health/cache, and each word of status."""
    text = (ROOT / "docs" / "operations.md").read_text().partition("/health/cache` for itself")[2]
    text = text.partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(CacheHealth.model_fields)
    assert set(re.findall(r"`(\w+)`: ", text)) == {*CacheState}


class TestReady:
    async def test_without_checks_it_is_ready(self) -> None:
        """A process that answers may take requests."""
        assert told(await answer("/health/ready")) == {"status": "ready", "failed": []}

    async def test_a_failed_check_is_named(self) -> None:
        """A check fails that returns False or raises; the others are not named."""

        async def good() -> bool:
            return True

        async def bad() -> bool:
            return False

        async def broken() -> bool:
            raise RuntimeError("no queue")

        found = await answer("/health/ready", checks={"a": good, "b": bad, "c": broken})
        assert found.status == 503
        assert found.header("cache-control") == b"no-store"
        assert told(found) == {"status": "not ready", "failed": ["b", "c"]}

    async def test_a_check_that_hangs_fails(self) -> None:
        """All checks together take no longer than one may."""

        async def hangs() -> bool:
            await asyncio.Event().wait()
            return True

        began = time.monotonic()
        found = await answer("/health/ready", checks={"a": hangs, "b": hangs})
        in_time(time.monotonic() - began, CHECK_TIMEOUT * 1.9)
        assert told(found)["failed"] == ["a", "b"]


class TestCacheOfOneProcess:
    async def test_the_embedded_store_serves(self) -> None:
        """Without a REDIS_URL responses are in the process, and nothing of Redis is told."""
        found = told(await answer("/health/cache"))
        assert (found["status"], found["store"], found["pid"]) == ("ok", "memory", os.getpid())
        assert (found["servers"], found["lag"], found["lease"]) == (0, None, False)

    async def test_a_cache_that_is_disabled_is_off(self) -> None:
        """The sentence says how to switch it on."""
        settings = CacheSettings(use_redis_cache=False)
        found = told(await answer("/health/cache", settings=settings))
        assert (found["status"], found["store"]) == ("off", "none")
        assert "USE_REDIS_CACHE" in found["detail"]

    async def test_workers_without_a_store_in_common_are_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sentence says what to set."""
        monkeypatch.setenv("WEB_CONCURRENCY", "2")
        settings = CacheSettings(cache_memory_bytes=12_345)
        found = told(await answer("/health/cache", settings=settings))
        assert found["status"] == "off"
        assert "REDIS_URL" in found["detail"]


def test_the_cache_is_told_of_through_an_outage(workers: Workers, own_redis: RedisServer) -> None:
    """Up, hanging, with a purge owed, and up again: each answer is a quick 200 without a ping."""
    env = {"REDIS_URL": own_redis.url, "CACHE_NEAR_BYTES": "1000000"}
    worker = workers.start(SOURCE, env=env)
    with httpx.Client(base_url=worker.url, timeout=10) as client:

        def cache() -> dict[str, Any]:
            began = time.monotonic()
            answers = [client.get(f"/api/v1{path}") for path in PATHS]
            # Far below any time-out of Redis; the machine may be busy.
            in_time(time.monotonic() - began, 1.5)
            assert [one.status_code for one in answers] == [200] * 3
            found: dict[str, Any] = answers[-1].json()
            return found

        client.put("/x")
        wait_until(lambda: bool(client.get("/x")) and cache()["near_copies"] > 0, "a copy is kept")
        up = cache()
        assert (up["status"], up["store"], up["servers"]) == ("ok", "redis", 1)
        assert (up["breakers_open"], up["owed_purges"]) == (0, 0)
        assert up["lease"] is up["near"] is True
        assert 0 <= up["lag"] < 4
        own_redis.pause()
        try:
            client.put("/x")
            owing = cache()
            assert owing["status"] == "owing"
            assert owing["owed_purges"] > 0
            wait_until(lambda: cache()["breakers_open"] == 1, "the breaker is open")
            assert cache()["near"] is False
        finally:
            own_redis.resume()
        wait_until(lambda: cache()["status"] == "ok", "the purge is made")
        assert cache()["owed_purges"] == 0


def test_a_redis_that_never_answered_is_away(workers: Workers) -> None:
    """The lag is unknown, and the sentence names REDIS_URL and the error, but no host."""
    worker = workers.start(SOURCE, env={"REDIS_URL": "redis://127.0.0.1:1"})

    def cache() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{worker.url}/api/v1/health/cache").json()
        return found

    wait_until(lambda: "(ConnectionError)" in cache()["detail"], "the reason is told")
    found = cache()
    assert (found["status"], found["lag"], found["lease"]) == ("away", None, False)
    assert "REDIS_URL" in found["detail"]
    assert "127.0.0.1" not in found["detail"]
