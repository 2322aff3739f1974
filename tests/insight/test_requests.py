"""The last requests of workers: what is recorded, how much of it, and in which order."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Response

from maxage import CacheMiddleware, CacheSettings
from maxage.insight import publisher
from maxage.insight.publisher import Publisher, requests_key
from maxage.insight.recent import RecentRequests, read_requests, together
from maxage.insight.requests import Chunk, PendingRequests, RecordedRequest, pack, recorded_target
from maxage.insight.watch import Watch, watch_for
from maxage.observe import latency
from maxage.redis_store.leases.process_identity import process_name
from maxage.redis_store.observer import Observer
from maxage.route_map import middleware_of
from maxage.routing.default_lifetime import SecretNames
from tests.support.asgi import call, http_scope
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
SETTINGS: dict[str, Any] = {"cache_insight": True, "cache_namespace": "requests"}


@pytest.fixture(autouse=True)
def own_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch without a thread, which no other test has used."""
    monkeypatch.setattr(latency, "timer", None)
    monkeypatch.setattr("maxage.insight.watch._watches", {})
    monkeypatch.setattr(Publisher, "start", lambda _: None)


def application(url: str, **more: Any) -> tuple[FastAPI, CacheSettings]:
    app = FastAPI(openapi_url=None)

    @app.get("/items")
    async def items(response: Response, name: str = "") -> list[str]:
        if name == "private":
            response.headers["cache-control"] = "private"
            response.set_cookie("session", "hush")
        await asyncio.sleep(0.02)
        return [name]

    @app.put("/items")
    async def put() -> None:
        raise HTTPException(409)

    @app.delete("/items")
    async def delete() -> None: ...

    settings = CacheSettings(redis_url=url, **SETTINGS, **more)
    app.add_middleware(CacheMiddleware, settings=settings)
    return app, settings


async def published(watch: Watch, settings: CacheSettings) -> RecentRequests:
    """What others read after the watch has published."""

    def publish() -> RecentRequests:
        watch._publisher.publish(Observer(settings))
        return read_requests(settings)

    return await asyncio.to_thread(publish)


async def test_hits_calls_and_writes_are_recorded_in_their_order(redis_url: str) -> None:
    """Of an answer of the cache no more than the URL."""
    app, settings = application(redis_url)
    target = b"/items?name=a%20b&limit=5"
    for _ in range(2):
        await call(app, target=target)
    await call(app, "HEAD", target=target)
    await call(app, "PUT", target=b"/items", body=b"hush", headers={"content-length": "4"})
    await call(app, "DELETE", target=b"/items")
    await call(app, target=b"/items?name=private", headers={"authorization": "hush"})
    recent = await published(watch_for(settings), settings)
    assert recent.workers == 1
    assert [(one.method, one.target, one.status) for one in recent.requests] == [
        ("GET", "/items?name=a%20b&limit=5", 200),
        ("GET", "/items?name=a%20b&limit=5", 0),
        ("HEAD", "/items?name=a%20b&limit=5", 405),
        ("PUT", "/items", 409),
        ("DELETE", "/items", 200),
        ("GET", "/items?name=private", 200),
    ]
    assert recent.hit_rate == 1 / 4
    first, *_, last = recent.requests
    assert first.size == len(b'["a b"]')
    assert 0.02 <= first.seconds < 5
    assert {one.host for one in recent.requests} == {"testserver"}
    assert [one.has_user for one in recent.requests] == [False] * 5 + [True]
    assert first.said == ()
    assert last.said == ((b"cache-control", b"private"), (b"set-cookie", b""))
    assert b"hush" not in b"".join(pack(Chunk(0, 0.0, [one])) for one in recent.requests)
    await middleware_of(app)[0].aclose()


async def test_a_request_that_waited_for_another_one_is_one_that_the_cache_answered(
    redis_url: str,
) -> None:
    """It counts for its URL too."""
    app, settings = application(redis_url)
    await asyncio.gather(*(call(app, path="/items") for _ in range(3)))
    watch = watch_for(settings)
    assert watch.record(0.0).asked[0].weight == 3
    recent = await published(watch, settings)
    assert sorted(one.status for one in recent.requests) == [0, 0, 200]
    await middleware_of(app)[0].aclose()


async def test_a_call_for_which_no_client_waits_is_no_request(redis_url: str) -> None:
    """A background refresh is the cache's own."""
    stale = {"cache_expiration": 0.01, "cache_stale_while_revalidate": 60.0}
    app, settings = application(redis_url, **stale)
    await call(app, path="/items")
    await asyncio.sleep(0.02)
    answered = await call(app, path="/items")
    assert b"hit" in (answered.header("cache-status") or b"")
    middleware, _ = middleware_of(app)
    await middleware.aclose()
    watch = watch_for(settings)
    assert watch.record(0.0).asked[0].calls == 2
    recent = await published(watch, settings)
    assert [one.status for one in recent.requests] == [200, 0]


async def test_without_a_server_that_publishes_nothing_is_kept() -> None:
    """The requests of an embedded store would be read by no one."""
    app, settings = application("memory://")
    await call(app, path="/items")
    assert watch_for(settings).requests.chunk(0.0).requests == []


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/items?q=" + "x" * 300, True),
        ("/items?limit=5&token=hush", False),
        ("/items?x_user_id=hush", False),
        ("/" + "x" * 2000 + "hush", False),
    ],
)
def test_a_digest_stands_for_a_secret_and_for_the_rest_of_a_long_target(
    target: str, kept: bool
) -> None:
    """Equal ones have equal digests, and others have others."""
    names = SecretNames(("x-user-id", "token"))
    shown = recorded_target(http_scope(target=target.encode()), names)
    assert (shown == target) is kept
    assert "hush" not in shown
    assert len(shown) < 1100
    other = target.replace("hush", "rush") if "hush" in target else f"{target}y"
    assert recorded_target(http_scope(target=target.encode()), names) == shown
    assert recorded_target(http_scope(target=other.encode()), names) != shown


def one(time: float, target: str = "/a", status: int = 200) -> RecordedRequest:
    return RecordedRequest(time, "GET", "h", target, status)


def test_the_oldest_pending_requests_make_room() -> None:
    """Up to the bound in bytes; published ones are forgotten."""
    pending = PendingRequests(most_bytes=3 * 402)
    for second in range(3):
        pending.note(one(second))
    assert [request.time for request in pending.chunk(0.0).requests] == [0, 1, 2]
    pending.note(one(3))
    chunk = pending.chunk(0.0)
    assert (chunk.first, [request.time for request in chunk.requests]) == (1, [1, 2, 3])
    for second in (4, 5):
        pending.note(one(second))
    # 1 and 2 made room meanwhile.
    pending.published(chunk)
    left = pending.chunk(0.0)
    assert (left.first, [request.time for request in left.requests]) == (4, [4, 5])
    pending.published(left)
    assert pending.chunk(0.0) == Chunk(6, 0.0, [])


def test_workers_are_merged_by_the_time_of_the_server() -> None:
    """For as long as the requests of all of them are known: a gap ends what is before it."""
    whole = [Chunk(0, 10.0, [one(0), one(4)]), Chunk(2, 10.0, [one(8), one(7), one(20)])]
    assert [request.time for request in together([whole], 28.0).requests] == [10, 14, 17, 18]
    gap = [Chunk(0, 0.0, [one(1)]), Chunk(9, 0.0, [one(13.5), one(16)])]
    merged = together([whole, gap], 28.0)
    assert merged.workers == 2
    assert [request.time for request in merged.requests] == [13.5, 14, 16, 17, 18]
    assert together([], 28.0).hit_rate == 0


async def test_a_worker_publishes_no_more_than_its_bound(
    redis_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest chunk makes room; what is left is a whole end. All ends with the worker."""
    _, settings = application(redis_url)
    watch = watch_for(settings)
    size = len(pack(Chunk(0, 0.0, [one(0)])))
    monkeypatch.setattr(publisher, "REQUESTS_BYTES", 3 * (size + 20))
    for second in range(10):
        watch.requests.note(one(second))
        await published(watch, settings)
    recent = await published(watch, settings)
    key = requests_key("requests", process_name())
    assert sum(map(len, redis_server.call("HVALS", key))) <= publisher.REQUESTS_BYTES
    kept = [round(request.time) for request in recent.requests]
    assert 2 <= len(kept) <= 4
    assert kept == list(range(10 - len(kept), 10))
    assert 0 < redis_server.call("TTL", key) <= publisher.HASH_SECONDS


async def test_what_could_not_be_published_is_published_later(
    redis_url: str, redis_server: RedisServer
) -> None:
    """Once, also where the first attempt reached the server."""
    _, settings = application(redis_url)
    watch = watch_for(settings)
    watch.requests.note(one(0))
    redis_server.stop()
    with pytest.raises(Exception, match="refused"):
        await published(watch, settings)
    redis_server.ensure_running()
    watch.requests.note(one(1))
    assert len((await published(watch, settings)).requests) == 2
    chunk = Chunk(2, 0.0, [one(2)])
    redis_server.call("HSET", requests_key("requests", process_name()), 2, pack(chunk))
    for second in (2, 3):
        watch.requests.note(one(second))
    assert len((await published(watch, settings)).requests) == 4
