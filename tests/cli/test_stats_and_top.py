"""`maxage stats`, `top` and `simulate`: the figures of all workers, and their last requests."""

import json
import time
from pathlib import Path

import msgspec
import pytest

from maxage import CacheSettings
from maxage.insight.overview import read_overview
from maxage.insight.publisher import insight_key
from maxage.insight.recent import read_requests
from maxage.insight.record import WorkerRecord
from tests.cli.conftest import Command
from tests.support.raw_http import get
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workers import Worker

SOURCE = """
import asyncio
import os
from fastapi import FastAPI
from maxage import CacheMiddleware

app = FastAPI(openapi_url=None)

@app.get("/items")
async def items():
    return [1]

@app.get("/slow")
async def slow():
    await asyncio.sleep(0.05)
    return 1

@app.get("/private")
async def private():
    from starlette.responses import JSONResponse
    return JSONResponse(os.getpid(), headers={"cache-control": "private"})

app.add_middleware(CacheMiddleware)
"""


def ask_both(port: int) -> int:
    """Ask for each URL at least ten times, until both workers have answered; return how often."""
    answered, times = set[bytes](), 0
    while times < 10 or len(answered) < 2:
        times += 1
        for path in ("/items?page=1", "/slow", "/private"):
            answer = get(port, path)
            assert answer.status == 200
        answered.add(answer.body)
    return times


def test_the_figures_of_two_workers_are_shown_together(
    command: Command, redis: RedisServer, tmp_path: Path
) -> None:
    """By outcome, by route and by URL, as text and as JSON."""
    namespace = CacheSettings().cache_namespace
    env = {"CACHE_INSIGHT": "true", "REDIS_URL": redis.url, "CACHE_NAMESPACE": namespace}
    asked = ("--redis-url", redis.url)
    with Worker.start(SOURCE, tmp_path=tmp_path, env=env, workers=2) as served:
        times = ask_both(served.port)
        made = 3 * times
        settings = CacheSettings(redis_url=redis.url)
        wait_until(lambda: read_overview(settings).totals.requests == made, "all is published")
        text = command("stats", *asked)
        told = json.loads(command("stats", *asked, "--json").out)
        top = command("top", *asked, "-n", "1")
        listed = json.loads(command("top", *asked, "--json").out)
        wait_until(lambda: len(read_requests(settings).requests) == made, "all is known")
        simulated = command("simulate", *asked)
        predicted = json.loads(command("simulate", *asked, "--json").out)
    assert (text.code, text.err) == (0, "")
    # Of three URLs, one is never stored; a worker may ask before the other one has stored another.
    fewest, most = 2 * times - 4, 2 * times - 2
    assert f"2 workers, {made} requests since they began" in text.out
    assert "/items" in text.out
    assert "private" in text.out
    assert "valkey" in text.out or "redis" in text.out
    assert told["totals"]["outcomes"]["hit"] >= fewest
    assert told["servers"][0]["keys"] > 0
    assert (top.code, top.err) == (0, "")
    assert "GET /slow" in top.out
    assert {one["url"] for one in listed["asked"]} == {
        "GET /items?page=1", "GET /slow", "GET /private",
    }  # fmt: skip
    assert listed["costly"][0]["url"] == "GET /slow"
    assert (simulated.code, simulated.err) == (0, "")
    assert f"{made} requests from 20" in simulated.out
    assert "Recorded by 2 workers; the cache answered " in simulated.out
    assert "Header fields of requests are not recorded" in simulated.out
    assert (predicted["workers"], predicted["requests"]) == (2, made)
    assert predicted["total"]["now"]["hit_rate"] == most / made
    assert fewest / made <= predicted["measured_hit_rate"] <= most / made
    assert predicted["begins"] > 1_700_000_000
    assert predicted["seconds"] > 0


@pytest.mark.parametrize("name", ["stats", "top", "simulate"])
def test_without_figures_it_says_how_to_get_them(
    name: str, command: Command, redis: RedisServer
) -> None:
    """Exit code 1; the server's own facts are shown all the same."""
    ran = command(name, "--redis-url", redis.url)
    assert ran.code == 1
    assert ran.err.startswith("maxage: no worker has published its figures within 20 s; set CACHE_")
    assert ("keys" in ran.out) == (name == "stats")
    if name != "simulate":
        assert json.loads(command(name, "--redis-url", redis.url, "--json").out) is not None


def test_workers_that_have_published_no_request_are_told_apart(
    command: Command, redis: RedisServer
) -> None:
    """Such as those of another version."""
    settings = CacheSettings(redis_url=redis.url)
    record = WorkerRecord(worker="w", machine="m", pid=1, started=0.0, at=time.time())
    key = insight_key(settings.cache_namespace)
    redis.call("HSET", key, "w", msgspec.json.encode(record))
    redis.call("HSET", key + b":w", 0, b"of another version")
    ran = command("simulate", "--redis-url", redis.url)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(
        "maxage: the workers have published no requests; they do so every 5 s"
    )


@pytest.mark.parametrize("name", ["stats", "top", "simulate"])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no server is named"),
        (["--redis-url", "redis://127.0.0.1:1"], "the server does not answer as it should: "),
        (["--app", "nowhere:app"], "'nowhere:app' cannot be loaded: no module 'nowhere'."),
    ],
)
def test_bad_input_gets_one_sentence(
    name: str, arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command(name, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1
