"""`get_redis` and `get_async_redis`: redis-py as it is, and an empty Redis while there is none."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
import redis
from fastapi import Depends, FastAPI

from maxage.errors import UnsupportedWhileAwayError
from maxage.redis import AsyncRedis, Redis, get_async_redis, get_redis
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time

BUDGET = 0.05
SLACK = 0.15
"""Seconds that a busy machine may add."""

AWAY = ["refused", "hung", "disabled", "no URL", "memory"]

ANSWERS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda r: r.get("k"), None),
    (lambda r: r.mget(["a", "b"]), [None, None]),
    (lambda r: r.hgetall("h"), {}),
    (lambda r: r.hmget("h", ["a", "b"]), [None, None]),
    (lambda r: r.lrange("l", 0, -1), []),
    (lambda r: r.smembers("s"), set()),
    (lambda r: r.exists("k"), 0),
    (lambda r: r.keys("*"), []),
    (lambda r: r.scan(), (0, [])),
    (lambda r: r.ping(), False),
    (lambda r: r.set("k", 1), False),
    (lambda r: r.delete("k"), 0),
    (lambda r: r.incr("n"), 0),
    (lambda r: r.expire("k", 1), False),
    (lambda r: r.hset("h", "a", 1), 0),
    (lambda r: r.sadd("s", 1), 0),
    (lambda r: r.publish("c", "m"), 0),
]
REFUSED: list[Callable[[Any], Any]] = [
    lambda r: r.lock("l", timeout=1).acquire(),
    lambda r: r.lock("l", timeout=1).acquire(blocking=False),
    lambda r: r.pubsub().subscribe("c"),
    lambda r: r.pipeline().watch("k"),
    lambda r: r.eval("return 1", 0),
    lambda r: r.evalsha("0" * 40, 0),
]


@pytest.fixture(params=AWAY)
def away(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way in which there is no Redis; the environment says it."""
    mode = str(request.param)
    for name in ("REDIS_URL", "USE_REDIS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if mode == "refused":
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    elif mode == "hung":
        server: RedisServer = request.getfixturevalue("own_redis")
        server.pause()
        monkeypatch.setenv("REDIS_URL", server.url)
    elif mode == "disabled":
        monkeypatch.setenv("REDIS_URL", request.getfixturevalue("redis_url"))
        monkeypatch.setenv("USE_REDIS_CACHE", "false")
    elif mode == "memory":
        monkeypatch.setenv("REDIS_URL", "memory://")
    return mode


@pytest.fixture
def here(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the shared server."""
    monkeypatch.delenv("USE_REDIS_CACHE", raising=False)
    monkeypatch.setenv("REDIS_URL", redis_url)


@pytest.mark.usefixtures("away")
def test_away_reads_are_empty_and_writes_say_no() -> None:
    """Nothing is raised, from the first command on, and all together take three budgets."""
    client = get_redis()
    began = time.monotonic()
    for ask, answer in ANSWERS:
        assert ask(client) == answer
    in_time(time.monotonic() - began, 3 * (BUDGET + SLACK))


@pytest.mark.usefixtures("away")
async def test_away_the_twin_answers_the_same() -> None:
    """The awaitable client gives the same answers."""
    client = get_async_redis()
    for ask, answer in ANSWERS:
        assert await ask(client) == answer
    await client.aclose()


@pytest.mark.usefixtures("away")
def test_away_a_pipeline_answers_none_for_each_command() -> None:
    """From the first one on, with and without a transaction."""
    for transaction in (True, False, True, False):
        pipeline = get_redis().pipeline(transaction=transaction)
        for key in ("item:5", "item:6", "item:7"):
            pipeline.get(key)
        assert pipeline.execute() == [None, None, None]
        assert pipeline.execute() == []


@pytest.mark.usefixtures("away")
async def test_away_the_pipeline_of_the_twin_does_too() -> None:
    """None for each command."""
    client = get_async_redis()
    for _ in range(4):
        pipeline = client.pipeline()
        pipeline.get("item:5")
        pipeline.set("item:6", 1)
        assert await pipeline.execute() == [None, None]
    await client.aclose()


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("ask", REFUSED)
def test_away_what_must_not_be_pretended_raises(ask: Callable[[Any], Any]) -> None:
    """Locks, subscriptions, WATCH and scripts raise within the budget, at every attempt."""
    client = get_redis()
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(UnsupportedWhileAwayError):
            ask(client)
        in_time(time.monotonic() - began, BUDGET + SLACK)


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("ask", REFUSED)
async def test_away_the_twin_raises_too(ask: Callable[[Any], Any]) -> None:
    """Within the budget, at every attempt."""
    client = get_async_redis()
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(UnsupportedWhileAwayError):
            await ask(client)
        in_time(time.monotonic() - began, BUDGET + SLACK)
    await client.aclose()


@pytest.mark.usefixtures("here")
def test_it_is_redis_py() -> None:
    """With a server, everything works as it does everywhere."""
    client = get_redis()
    assert isinstance(client, redis.Redis)
    assert isinstance(client, Redis)
    assert client.ping() is True
    assert client.set("k", "v") is True
    assert client.get("k") == b"v"
    assert client.get("other") is None
    assert client.delete("k") == 1
    with client.pipeline() as pipeline:
        pipeline.set("a", 1)
        pipeline.incr("a")
        assert pipeline.execute() == [True, 2]
    with client.pipeline() as pipeline:
        pipeline.watch("a")
        pipeline.multi()
        pipeline.incr("a")
        client.set("a", 10)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert client.eval("return 7", 0) == 7
    with client.lock("l", timeout=5) as lock:
        assert lock.owned()
        assert client.lock("l", timeout=5).acquire(blocking=False) is False
    assert client.exists("l") == 0
    with client.pubsub() as subscription:
        subscription.subscribe("c")
        assert subscription.get_message(timeout=1)["type"] == "subscribe"
        client.publish("c", "m")
        assert subscription.get_message(timeout=1)["data"] == b"m"


@pytest.mark.usefixtures("here")
async def test_the_twin_is_redis_py() -> None:
    """With a server, everything works as it does everywhere."""
    client = get_async_redis()
    assert isinstance(client, AsyncRedis)
    assert await client.set("k", "v") is True
    assert await client.get("k") == b"v"
    pipeline = client.pipeline()
    pipeline.incr("a")
    pipeline.incr("a")
    assert await pipeline.execute() == [1, 2]
    async with client.pipeline() as watched:
        await watched.watch("a")
        watched.multi()
        watched.incr("a")
        await client.set("a", 10)
        with pytest.raises(redis.WatchError):
            await watched.execute()
    async with client.lock("l", timeout=5) as lock:
        assert await lock.owned()
    async with client.pubsub() as subscription:
        await subscription.subscribe("c")
        assert (await subscription.get_message(timeout=1))["type"] == "subscribe"
    await client.aclose()


@pytest.mark.usefixtures("here")
def test_a_mistake_of_the_caller_is_raised(redis_server: RedisServer) -> None:
    """A refusal of one command says nothing about the server, and is not hidden."""
    client = get_redis()
    client.rpush("l", 1)
    for _ in range(4):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.get("l")
    assert client.away is False
    with pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCHCOMMAND")


@pytest.mark.usefixtures("here")
def test_a_command_that_waits_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLPOP longer than the budget runs into a timeout; the cache stays in use."""
    monkeypatch.setenv("CACHE_READ_BUDGET", "0.5")
    client = get_redis()
    for _ in range(4):
        with pytest.raises(redis.TimeoutError):
            client.blpop(["nothing"], timeout=1)
    assert client.away is False
    assert client.set("k", 1) is True


def test_a_watched_transaction_is_not_pretended(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Redis goes away between WATCH and EXEC, no caller is told that it ran."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    client = get_redis()
    with client.pipeline() as pipeline:
        pipeline.watch("a")
        pipeline.multi()
        pipeline.incr("a")
        own_redis.kill()
        with pytest.raises((UnsupportedWhileAwayError, redis.WatchError)):
            pipeline.execute()


def test_it_comes_back(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second after Redis is; the machine may be busy."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    client = get_redis()
    own_redis.kill()
    assert [client.get("k") for _ in range(5)] == [None] * 5
    assert client.away is True
    own_redis.launch()
    deadline = time.monotonic() + 3.0
    while client.set("k", "v") is False:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert client.get("k") == b"v"


def test_the_password_is_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the client nor of its pool."""
    monkeypatch.setenv("REDIS_URL", f"redis://ada:s3cret@127.0.0.1:{free_port()}")
    client = get_redis()
    client.get("k")
    assert "s3cret" not in repr(client)
    assert "s3cret" not in str(client.connection_pool)


async def test_the_twin_as_a_dependency_makes_one_connection(
    own_redis: RedisServer, generous_budgets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests share the connections of their event loop."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    app = FastAPI()

    @app.get("/")
    async def read(client: Annotated[Any, Depends(get_async_redis)]) -> int:
        return int(await client.incr("requests"))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        before = int(own_redis.info("stats")["total_connections_received"])
        for number in range(1, 21):
            assert (await client.get("/")).json() == number
        # One is the question for the number itself.
        after = int(own_redis.info("stats")["total_connections_received"])
        assert after - before <= 2


@pytest.mark.usefixtures("here")
def test_the_twin_serves_several_event_loops() -> None:
    """One after the other, and a client that was made before the loop runs."""
    client = get_async_redis()

    async def use() -> None:
        assert await client.set("k", "v") is True
        assert await asyncio.gather(*(get_async_redis().get("k") for _ in range(5))) == [b"v"] * 5
        async with get_async_redis() as other:
            assert await other.get("k") == b"v"
        assert await client.get("k") == b"v"

    for _ in range(3):
        asyncio.run(use())
