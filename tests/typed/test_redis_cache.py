"""The typed cache: values of every type under readable keys, and their part in responses."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel

from maxage import CacheMiddleware, CacheSettings, SettingsError
from maxage.redis import RedisCache
from tests.support.asgi import Recorded, call
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.workers import Workers

ROOT = Path(__file__).resolve().parents[2]


class Item(BaseModel):
    """What the guide caches."""

    id: int
    name: str


@dataclass
class Point:
    """No pydantic model."""

    x: int
    y: float


KETTLE = Item(id=5, name="Kettle")
TEAPOT = Item(id=5, name="Teapot")


@pytest.fixture
def on_redis(redis_url: str) -> CacheSettings:
    """Settings for the shared server."""
    return CacheSettings(redis_url=redis_url)


@pytest.fixture(params=["redis", "embedded"])
def settings(request: pytest.FixtureRequest) -> CacheSettings:
    """Settings for a Redis server, and for the embedded store of a size of its own."""
    if request.param == "embedded":
        # The size keeps the test's store apart from those of other tests.
        return CacheSettings(redis_url=None, cache_memory_bytes=2_000_000 + free_port())
    url = request.getfixturevalue("redis_url")
    # What is tested here are values, not budgets: a busy machine is no server that is away.
    return CacheSettings(redis_url=url, cache_read_budget=5, cache_write_budget=5)


@pytest.fixture
def items(settings: CacheSettings) -> RedisCache[Item]:
    """The guide's cache."""
    return RedisCache[Item](Item, prefix="item", settings=settings)


@pytest.fixture
def away() -> CacheSettings:
    """Settings for a server that is not there."""
    return CacheSettings(redis_url=f"redis://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Item, KETTLE),
        (list[Item], [KETTLE, TEAPOT]),
        (dict[str, int], {"a": 1, "b": 2}),
        (int, 0),
        (str, ""),
        (bool, False),
        (Point, Point(1, 2.5)),
        (datetime, datetime(2026, 11, 23, 12, tzinfo=UTC)),
        (int | None, 7),
        (list[int], []),
    ],
    ids=lambda part: str(getattr(part, "__name__", part)),
)
def test_any_type_comes_back_equal(settings: CacheSettings, model: Any, value: Any) -> None:
    """Whatever pydantic validates can be cached, what is false or empty included."""
    cache: RedisCache[Any] = RedisCache(model, prefix="thing", settings=settings)
    assert cache.get(1) is None
    assert cache.set(1, value) is True
    assert cache.get(1) == value
    assert type(cache.get(1)) is type(value)
    assert cache.delete(1) is True
    assert cache.get(1) is None


def test_the_value_is_plain_json_under_a_readable_key(
    redis_server: RedisServer, on_redis: CacheSettings
) -> None:
    """A reader with redis-cli understands it: `item:5`."""
    cache = RedisCache[Item](Item, prefix="item", settings=on_redis)
    cache.set(5, KETTLE)
    assert redis_server.call("GET", "item:5") == b'{"id":5,"name":"Kettle"}'
    cache.set("a b/ü", KETTLE)
    assert json.loads(redis_server.call("GET", "item:a b/ü".encode())) == {
        "id": 5,
        "name": "Kettle",
    }
    points: RedisCache[list[Point]] = RedisCache(list[Point], prefix="points", settings=on_redis)
    points.set("x", [Point(1, 2.0)])
    assert json.loads(redis_server.call("GET", "points:x")) == [{"x": 1, "y": 2.0}]


def test_an_id_is_the_same_as_number_and_as_text(items: RedisCache[Item]) -> None:
    """5 and "5" name one object."""
    items.set(5, KETTLE)
    assert items.get("5") == KETTLE
    items.delete("5")
    assert items.get(5) is None


async def test_the_twins_share_the_values(items: RedisCache[Item]) -> None:
    """What one of the two stores, the other one finds and removes."""
    assert await items.aset(5, KETTLE) is True
    assert items.get(5) == KETTLE
    assert items.delete(5) is True
    assert await items.aget(5) is None
    items.set(5, TEAPOT)
    assert await items.aget(5) == TEAPOT
    assert await items.adelete(5) is True
    assert items.get(5) is None


async def test_several_at_once(items: RedisCache[Item]) -> None:
    """The many-methods take what there is, and need not be given anything."""
    both = {5: KETTLE, 6: Item(id=6, name="Toaster")}
    assert items.set_many(both) is True
    assert items.get_many([6, 5, 7, 5]) == both
    assert items.delete_many([5, 7]) is True
    assert await items.aget_many([5, 6, 7]) == {6: both[6]}
    assert await items.aset_many(both) is True
    assert await items.aget_many([5, 6]) == both
    assert await items.adelete_many([5, 6]) is True
    assert items.get_many([5, 6]) == {}
    assert items.get_many([]) == {}
    assert items.set_many({}) is items.delete_many([]) is False


def test_get_or_set_loads_once(items: RedisCache[Item]) -> None:
    """The second call finds what the first one loaded; an error passes, None is not kept."""
    loaded: list[int] = []

    def load() -> Item:
        loaded.append(1)
        return KETTLE

    assert items.get_or_set(5, load) == items.get_or_set(5, load) == KETTLE
    assert loaded == [1]
    with pytest.raises(ZeroDivisionError):
        items.get_or_set(6, lambda: Item(id=1 // 0, name=""))
    assert items.get_or_set(6, lambda: TEAPOT) == TEAPOT
    nothing: Callable[[], Any] = lambda: None  # noqa: E731
    assert items.get_or_set(7, nothing) is None
    assert items.get_or_set(7, load) == KETTLE


async def test_aget_or_set_takes_both_kinds_of_functions(items: RedisCache[Item]) -> None:
    """`load` may be a function or a coroutine function."""

    async def load() -> Item:
        await asyncio.sleep(0)
        return KETTLE

    assert await items.aget_or_set(5, load) == KETTLE
    assert await items.aget_or_set(5, lambda: TEAPOT) == KETTLE
    assert await items.aget_or_set(6, lambda: TEAPOT) == TEAPOT


def test_lifetimes(redis_server: RedisServer, on_redis: CacheSettings) -> None:
    """Of the call before that of the cache before CACHE_EXPIRATION, in seconds."""
    cache = RedisCache[Item](Item, prefix="item", settings=on_redis)
    brief = RedisCache[Item](Item, prefix="brief", ttl=60, settings=on_redis)
    cache.set(1, KETTLE)
    brief.set(1, KETTLE)
    brief.set(2, KETTLE, ttl=10)
    ends = [redis_server.call("TTL", key) for key in ("item:1", "brief:1", "brief:2")]
    assert [end // 10 * 10 + 10 for end in (ends[0] - 1, ends[1] - 1, ends[2] - 1)] == [300, 60, 10]
    assert cache.set(3, KETTLE, ttl=0) is False
    assert cache.get(3) is None


def test_a_value_ends(items: RedisCache[Item]) -> None:
    """After its lifetime it is a miss."""
    items.set(5, KETTLE, ttl=0.05)
    time.sleep(0.1)
    assert items.get(5) is None


@pytest.mark.parametrize("ttl", [-1, float("inf"), float("nan"), "10"])
def test_a_lifetime_that_cannot_be_right_is_refused(ttl: Any) -> None:
    """At once, in one sentence."""
    with pytest.raises(SettingsError, match="ttl="):
        RedisCache[Item](Item, prefix="item", ttl=ttl)
    with pytest.raises(SettingsError, match="prefix"):
        RedisCache[Item](Item, prefix="")


@pytest.mark.parametrize(
    "foreign",
    [b'{"id":5,"name":"Mallory"}', b"", b"garbage", b'{"id":5', b"\x80\x04K\x05.", b"null"],
)
def test_a_foreign_value_is_a_miss(
    redis_server: RedisServer, on_redis: CacheSettings, foreign: bytes
) -> None:
    """What another program put or changed under the key is not served, and is overwritten."""
    cache = RedisCache[Item](Item, prefix="item", settings=on_redis)
    redis_server.call("SET", "item:5", foreign)
    assert cache.get(5) is None
    cache.set(5, KETTLE)
    redis_server.call("SET", "item:5", foreign)
    assert cache.get(5) is None
    assert cache.get_or_set(5, lambda: TEAPOT) == TEAPOT
    assert cache.get(5) == TEAPOT


def test_a_key_of_another_kind_is_a_miss(
    redis_server: RedisServer, on_redis: CacheSettings
) -> None:
    """A list under the key raises nothing."""
    cache = RedisCache[Item](Item, prefix="item", settings=on_redis)
    redis_server.call("RPUSH", "item:5", "a")
    assert cache.get(5) is None


def test_another_version_of_the_model_is_a_miss(settings: CacheSettings) -> None:
    """A deployment that adds a field finds nothing that lacks it."""

    class Newer(Item):
        price: int

    RedisCache[Item](Item, prefix="item", settings=settings).set(5, KETTLE)
    assert RedisCache[Newer](Newer, prefix="item", settings=settings).get(5) is None


def test_a_fill_that_raced_a_delete_is_not_found(items: RedisCache[Item]) -> None:
    """What was loaded before a delete does not survive it."""

    def load() -> Item:
        value = KETTLE
        items.delete(5)  # another caller, during the load
        return value

    assert items.get_or_set(5, load) == KETTLE
    assert items.get(5) is None


async def test_a_fill_that_raced_a_change_is_not_found(items: RedisCache[Item]) -> None:
    """What was loaded before a `set` does not replace it for good."""

    async def load() -> Item:
        value = KETTLE
        await asyncio.to_thread(items.set, 5, TEAPOT)
        return value

    assert await items.aget_or_set(5, load) == KETTLE
    assert await items.aget(5) != KETTLE


def test_from_many_threads(items: RedisCache[Item]) -> None:
    """Sixteen threads read, write and remove without a mistake."""
    mistakes: list[BaseException] = []

    def work(number: int) -> None:
        mine = Item(id=number, name=f"thread {number}")
        try:
            for _ in range(20):
                items.set(number, mine)
                assert items.get(number) == mine
                items.delete(number)
                assert items.get(number) is None
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            mistakes.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mistakes == []


# Redis away, and disabled


async def nothing_is_kept(cache: RedisCache[Item]) -> None:
    assert cache.get(5) is None
    assert cache.set(5, KETTLE) is False
    assert cache.delete(5) is False
    assert cache.get_many([5, 6]) == {}
    assert cache.set_many({5: KETTLE}) is False
    assert cache.delete_many([5]) is False
    assert cache.get_or_set(5, lambda: KETTLE) == KETTLE
    assert await cache.aget(5) is None
    assert await cache.aset(5, KETTLE) is False
    assert await cache.adelete(5) is False
    assert await cache.aget_or_set(5, lambda: KETTLE) == KETTLE


async def test_redis_away_raises_nothing(away: CacheSettings) -> None:
    """Reads answer None, writes False, and `get_or_set` what it loads."""
    began = time.monotonic()
    await nothing_is_kept(RedisCache[Item](Item, prefix="item", settings=away))
    in_time(time.monotonic() - began, 1.0)


async def test_redis_hung_costs_three_budgets(own_redis: RedisServer) -> None:
    """The plain methods block for at most the budget, three times, and then no more."""
    # A budget so long that a busy machine is no part of it that counts.
    settings = CacheSettings(redis_url=own_redis.url, cache_read_budget=1)
    cache = RedisCache[Item](Item, prefix="item", settings=settings)
    cache.set(5, KETTLE)
    own_redis.pause()
    took: list[float] = []
    for _ in range(6):
        began = time.monotonic()
        assert cache.get(5) is None
        took.append(time.monotonic() - began)
    assert max(took) < 1.5
    assert max(took[3:]) < 0.5
    await nothing_is_kept(cache)


async def test_disabled_keeps_nothing(redis_url: str) -> None:
    """USE_REDIS_CACHE=false: as if Redis were away."""
    settings = CacheSettings(redis_url=redis_url, use_redis_cache=False)
    await nothing_is_kept(RedisCache[Item](Item, prefix="item", settings=settings))


def test_a_delete_while_redis_is_away_is_made_up_for(own_redis: RedisServer) -> None:
    """The old value is not found when Redis is back."""
    cache = RedisCache[Item](Item, prefix="item", settings=CacheSettings(redis_url=own_redis.url))
    cache.set(5, KETTLE)
    own_redis.pause()
    assert cache.delete(5) is False
    own_redis.resume()
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        assert cache.get(5) is None
        time.sleep(0.05)


def test_it_works_from_the_environment_alone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    """Without settings, REDIS_URL is read when it is first needed."""
    cache = RedisCache[Item](Item, prefix="item")
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert cache.set(5, KETTLE) is True
    assert redis_server.call("EXISTS", "item:5") == 1
    monkeypatch.setenv("USE_REDIS_CACHE", "false")
    assert cache.get(5) is None


# Together with the response cache


class Shop:
    """An application that shows item 5 in several ways, and counts how often it is asked."""

    def __init__(self, settings: CacheSettings) -> None:
        self.database = {5: KETTLE, 6: Item(id=6, name="Toaster")}
        self.cache = RedisCache[Item](Item, prefix="item", settings=settings)
        self.runs = 0
        self.during: Callable[[], None] = lambda: None
        app = FastAPI()
        app.add_api_route("/async/{item_id}", self.read_async)
        app.add_api_route("/plain/{item_id}", self.read_plain)
        app.add_api_route("/guide/{item_id}", self.read_like_the_guide)
        app.add_api_route("/later", self.write_later, methods=["POST"])
        self.app = CacheMiddleware(app, settings)

    async def read_async(self, item_id: int) -> Item:
        self.runs += 1
        return await self.cache.aget_or_set(item_id, lambda: self.database[item_id])

    def read_plain(self, item_id: int) -> Item:
        self.runs += 1
        return self.cache.get_or_set(item_id, lambda: self.database[item_id])

    def read_like_the_guide(self, item_id: int) -> Item:
        self.runs += 1
        found = self.cache.get(item_id)
        if found:
            return found
        item = self.database[item_id]
        self.during()
        self.cache.set(item_id, item)
        return item

    def write_later(self, tasks: BackgroundTasks) -> None:
        def change() -> None:
            self.database[5] = TEAPOT
            self.cache.set(5, TEAPOT)

        tasks.add_task(change)

    async def get(self, path: str) -> Recorded:
        return await call(self.app, "GET", path)


@pytest.fixture
def shop(settings: CacheSettings) -> Shop:
    """The shop on either store."""
    return Shop(settings)


def is_hit(answer: Recorded) -> bool:
    return (answer.header("cache-status") or b"").startswith(b"maxage; hit")


@pytest.mark.parametrize("kind", ["async", "plain", "guide"])
@pytest.mark.parametrize("write", ["set", "delete", "aset", "adelete", "set_many", "delete_many"])
async def test_a_typed_write_purges_the_responses_made_from_the_object(
    shop: Shop, kind: str, write: str
) -> None:
    """With no tag written by hand, and nothing but them."""
    for path in (f"/{kind}/5", f"/{kind}/6"):
        await shop.get(path)
        assert is_hit(await shop.get(path))
    shop.database[5] = TEAPOT
    if write.startswith("a"):
        await (shop.cache.aset(5, TEAPOT) if write == "aset" else shop.cache.adelete(5))
    elif write.startswith("set"):
        shop.cache.set(5, TEAPOT) if write == "set" else shop.cache.set_many({5: TEAPOT})
    else:
        shop.cache.delete(5) if write == "delete" else shop.cache.delete_many([5])
    changed = await shop.get(f"/{kind}/5")
    assert not is_hit(changed)
    assert json.loads(changed.body) == TEAPOT.model_dump()
    assert is_hit(await shop.get(f"/{kind}/6"))


async def test_a_set_after_a_missed_get_purges_nothing(shop: Shop) -> None:
    """It is a fill: responses that others made from the object stay."""
    await shop.get("/async/5")
    assert is_hit(await shop.get("/async/5"))
    await shop.get("/guide/5")
    assert is_hit(await shop.get("/guide/5"))
    assert is_hit(await shop.get("/async/5"))


async def test_a_fill_of_the_guide_that_raced_a_delete_is_not_served(shop: Shop) -> None:
    """Neither as an object nor as a response: the GET read the database before the change."""

    def other_caller() -> None:
        # A thread of its own carries nothing of the request.
        def change() -> None:
            shop.database[5] = TEAPOT
            shop.cache.delete(5)

        thread = threading.Thread(target=change)
        thread.start()
        thread.join()

    shop.during = other_caller
    old = await shop.get("/guide/5")
    shop.during = lambda: None
    assert json.loads(old.body) == KETTLE.model_dump()
    assert shop.cache.get(5) is None
    new = await shop.get("/guide/5")
    assert not is_hit(new)
    assert json.loads(new.body) == TEAPOT.model_dump()


async def test_a_background_write_reaches_the_responses(shop: Shop) -> None:
    """A `set` after the answer was sent purges what it made untrue."""
    await shop.get("/async/5")
    assert is_hit(await shop.get("/async/5"))
    await call(shop.app, "POST", "/later")
    answer = await shop.get("/async/5")
    assert not is_hit(answer)
    assert json.loads(answer.body) == TEAPOT.model_dump()


class Sets:
    """An application whose GET handlers set objects, as a login route sets its OAuth state."""

    def __init__(self, settings: CacheSettings) -> None:
        self.states = RedisCache[str](str, prefix="state", settings=settings)
        self.handle: Callable[[], object] = lambda: None
        app = FastAPI()
        app.add_api_route("/login", self.login)
        app.add_api_route("/show", lambda: self.states.get("a") or "none")
        self.app = CacheMiddleware(app, settings)

    def login(self) -> str:
        return str(self.handle())

    async def login_with(self, handle: Callable[[], object]) -> str:
        self.handle = handle
        return json.loads((await call(self.app, "GET", "/login")).body)

    async def show(self) -> Recorded:
        return await call(self.app, "GET", "/show")


@pytest.fixture
def sets(settings: CacheSettings) -> Sets:
    """The application on either store."""
    return Sets(settings)


async def test_a_set_in_a_get_that_did_not_look_before_is_a_change(sets: Sets) -> None:
    """The state of a login is stored, and responses made without it are purged."""
    await sets.show()
    assert is_hit(await sets.show())
    assert await sets.login_with(lambda: sets.states.set("a", "new")) == "True"
    assert sets.states.get("a") == "new"
    shown = await sets.show()
    assert not is_hit(shown)
    assert json.loads(shown.body) == "new"
    # Nor is the response stored that made the change: the next login makes one of its own.
    assert await sets.login_with(lambda: sets.states.set("a", "newer")) == "True"
    assert sets.states.get("a") == "newer"


async def test_a_set_in_a_get_after_a_hit_is_a_change(sets: Sets) -> None:
    """The responses made from the object as it was are purged."""
    sets.states.set("a", "old")
    await sets.show()
    assert is_hit(await sets.show())

    def count() -> object:
        return sets.states.set("a", f"{sets.states.get('a')}er")

    assert await sets.login_with(count) == "True"
    shown = await sets.show()
    assert not is_hit(shown)
    assert json.loads(shown.body) == "older"
    assert await sets.login_with(count) == "True"
    assert sets.states.get("a") == "olderer"


@pytest.mark.parametrize("first", ["set", "get_or_set"])
async def test_a_second_set_in_a_get_is_a_change(sets: Sets, first: str) -> None:
    """Only the first one fills what a look before it missed."""
    inside: list[str | None] = []

    def handle() -> object:
        if first == "set":
            assert sets.states.get("a") is None
            assert sets.states.set("a", "first") is True
        else:
            sets.states.get_or_set("a", lambda: "first")
        inside.append(sets.states.get("a"))
        thread = threading.Thread(target=show_elsewhere)
        thread.start()
        thread.join()
        return sets.states.set("a", "second")

    def show_elsewhere() -> None:
        asyncio.run(call(sets.app, "GET", "/show"))

    assert await sets.login_with(handle) == "True"
    assert inside == ["first"]
    shown = await sets.show()
    assert not is_hit(shown)
    assert json.loads(shown.body) == "second"


async def test_a_get_after_which_the_store_was_away_is_no_change(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its value was made before a token was seen: it may be older than the change of another."""
    sets = Sets(CacheSettings(redis_url=own_redis.url))
    await sets.show()
    own_redis.pause()

    def handle() -> object:
        assert sets.states.get("a") is None
        own_redis.resume()
        deadline = time.monotonic() + 3
        stored = sets.states.set("a", "old")
        while not RedisCache[str](str, prefix="b", settings=CacheSettings(
            redis_url=own_redis.url
        )).set(1, "b") and time.monotonic() < deadline:  # fmt: skip
            time.sleep(0.02)
        return stored or sets.states.set("a", "old")

    assert await sets.login_with(handle) == "False"
    assert sets.states.get("a") is None


def test_a_script_without_http_purges(workers: Workers, redis_url: str) -> None:
    """A process with the same environment and no middleware reaches the workers' responses."""
    import httpx

    source = (
        "from fastapi import FastAPI\n"
        "from maxage import CacheMiddleware\n"
        "from maxage.redis import RedisCache\n"
        "items = RedisCache[int](int, prefix='item')\n"
        "app = FastAPI()\n"
        "app.add_middleware(CacheMiddleware)\n"
        "@app.get('/show/{item_id}')\n"
        "async def show(item_id: str) -> int:\n"
        "    return await items.aget_or_set(item_id, lambda: 1)\n"
    )
    worker = workers.start(source, env={"REDIS_URL": redis_url})
    with httpx.Client(base_url=worker.url) as client:
        assert [client.get("/show/5").text for _ in range(2)] == ["1", "1"]
        assert "hit" in client.get("/show/5").headers["cache-status"]
        script = (
            "from maxage.redis import RedisCache; RedisCache[int](int, prefix='item').set(5, 2)"
        )
        path = os.pathsep.join([str(ROOT / "middleware"), str(ROOT)])
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": path},
            check=True,
            timeout=30,
        )
        answer = client.get("/show/5")
        assert "uri-miss" in answer.headers["cache-status"]
        assert answer.text == "2"


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests say themselves where Redis is."""
    for name in ("REDIS_URL", "USE_REDIS_CACHE", "CACHE_EXPIRATION"):
        monkeypatch.delenv(name, raising=False)
