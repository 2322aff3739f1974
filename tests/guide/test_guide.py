"""The guide followed line by line: our page as it stands, and the user's own snippets.

Each is run by uvicorn on a real Redis, and without one in every way that there is.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.documents import blocks
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.timing import in_time
from tests.support.waiting import wait_until
from tests.support.workers import Worker, Workers

# The snippets of the Redis integration guide, word for word but for the import path, and around
# them what they take for granted.
AS_WRITTEN = """
import json
from typing import List
from fastapi import APIRouter, FastAPI, HTTPException
from maxage import CacheMiddleware, CacheSettings
from maxage.fastapi import health_router
from redis import Redis

DATABASE = {
    "5": {"id": "5", "name": "Kettle", "description": "Boils water."},
    "6": {"id": "6", "name": "Toaster", "description": "Browns bread."},
}

def fetch_item_from_db(item_id):
    if item_id not in DATABASE:
        raise HTTPException(404)
    return DATABASE[item_id]

def update_item_in_db(item_id, item):
    DATABASE[item_id] = item.model_dump()

def store_item_in_db(item):
    DATABASE[item.id] = item.model_dump()
    return item

def process_item(item_id):
    DATABASE[item_id]["description"] += " Processed."

def get_processed_item(item_id):
    return Item(**DATABASE[item_id])

app = FastAPI()
app.add_middleware(CacheMiddleware)
direct = router = APIRouter()

# Direct Redis Access

from maxage.redis import get_redis
from fastapi import Depends

@router.get("/items/{item_id}")
async def get_item(item_id: str, redis: Redis = Depends(get_redis)):
    # Use Redis directly
    cached_item = redis.get(f"item:{item_id}")
    if cached_item:
        return json.loads(cached_item)

    # Fetch from database if not cached
    return fetch_item_from_db(item_id)

router = APIRouter()

# Model Caching

from maxage.redis import RedisCache
from pydantic import BaseModel

class Item(BaseModel):
    id: str
    name: str
    description: str

# Create a cache for Items
item_cache = RedisCache[Item](Item, prefix="item")

@router.get("/items/{item_id}", response_model=Item)
async def get_item(item_id: str):
    # Try to get from cache
    cached_item = item_cache.get(item_id)
    if cached_item:
        return cached_item

    # Fetch from database
    db_item = fetch_item_from_db(item_id)
    item = Item(**db_item)

    # Cache the result
    item_cache.set(item_id, item)

    return item

# Cache Invalidation

@router.put("/items/{item_id}")
async def update_item(item_id: str, item: Item):
    # Update in database
    update_item_in_db(item_id, item)

    # Invalidate cache
    item_cache.delete(item_id)

    return {"status": "success"}

# Batch Operations

redis_client = get_redis()

# Get multiple items at once
def get_multiple_items(item_ids: List[str]):
    # Create a pipeline for batched operations
    pipeline = redis_client.pipeline()

    # Add commands to the pipeline
    for item_id in item_ids:
        pipeline.get(f"item:{item_id}")

    # Execute all commands in a single round-trip
    results = pipeline.execute()

    return results

# Background Tasks

from fastapi import BackgroundTasks

@router.post("/items/")
async def create_item(item: Item, background_tasks: BackgroundTasks):
    # Store item in database
    db_item = store_item_in_db(item)

    # Schedule a background task
    background_tasks.add_task(process_item_async, db_item.id)

    return {"status": "success", "id": db_item.id}

def process_item_async(item_id: str):
    # Process the item in the background
    # This runs after the response is sent
    process_item(item_id)

    # Update cache after processing
    processed_item = get_processed_item(item_id)
    item_cache.set(item_id, processed_item)

# What shows it to a client

@router.get("/batch")
def batch(ids: str):
    return [found and json.loads(found) for found in get_multiple_items(ids.split(","))]

app.include_router(router)
app.include_router(direct, prefix="/raw")
health = health_router(CacheSettings(), message="MonitorPy API is running")
app.include_router(health, prefix="/api/v1")
"""
OUR_PAGE = "\n\n".join(block.text for block in blocks("docs/guide.md", "python"))
SOURCES = {"our page": OUR_PAGE, "as written": AS_WRITTEN}
DIRECT = {"our page": "/direct/", "as written": "/raw/items/"}
KETTLE = {"id": "5", "name": "Kettle", "description": "Boils water."}
TOASTER = {"id": "6", "name": "Toaster", "description": "Browns bread."}
TEAPOT = KETTLE | {"name": "Teapot"}

Start = Callable[..., httpx.Client]


@pytest.fixture(params=list(SOURCES))
def text(request: pytest.FixtureRequest) -> str:
    """Which of the two guides is run."""
    return str(request.param)


@pytest.fixture
def start(workers: Workers, text: str) -> Iterator[Start]:
    """Starts the guide's application with an environment and gives a client for it."""
    clients: list[httpx.Client] = []

    def started(**env: str) -> httpx.Client:
        worker: Worker = workers.start(SOURCES[text], env=env, args=["--no-date-header"])
        clients.append(httpx.Client(base_url=worker.url, timeout=10))
        return clients[-1]

    yield started
    for client in clients:
        client.close()


def status_of(answer: httpx.Response) -> str:
    assert answer.status_code < 300, answer.text
    return answer.headers.get("cache-status", "none").removeprefix("maxage; ")


def test_the_guide_on_redis(start: Start, own_redis: RedisServer, text: str) -> None:
    """Reads are cached as responses and as objects, and a PUT and a DELETE of the object count."""
    client = start(REDIS_URL=own_redis.url)
    # The response, and the object under the key of the guide, as plain JSON.
    assert "stored" in status_of(client.get("/items/5"))
    hit = client.get("/items/5")
    assert status_of(hit).startswith("hit")
    assert "age" in hit.headers
    assert hit.json() == KETTLE
    assert json.loads(own_redis.call("GET", "item:5")) == KETTLE
    assert 290 < own_redis.call("TTL", "item:5") <= 300
    client.get("/items/6")
    # Direct access reads the same key.
    assert client.get(f"{DIRECT[text]}5").json() == KETTLE
    # So does the batch, in one pipeline.
    assert client.get("/batch?ids=5,6,7").json() == [KETTLE, TOASTER, None]
    # A change is seen at once, and leaves its neighbour alone.
    assert client.put("/items/5", json=TEAPOT).json() == {"status": "success"}
    assert own_redis.call("GET", "item:5") is None
    fresh = client.get("/items/5")
    assert "uri-miss" in status_of(fresh)
    assert fresh.json() == TEAPOT
    assert json.loads(own_redis.call("GET", "item:5")) == TEAPOT
    assert status_of(client.get("/items/6")).startswith("hit")


def test_a_background_task_updates_the_cache_after_the_answer(
    start: Start, own_redis: RedisServer
) -> None:
    """What the task stored is what a later GET answers, from the typed cache."""
    client = start(REDIS_URL=own_redis.url)
    lamp = {"id": "9", "name": "Lamp", "description": "Shines."}
    processed = lamp | {"description": "Shines. Processed."}
    assert client.post("/items/", json=lamp).json() == {"status": "success", "id": "9"}
    wait_until(lambda: own_redis.call("GET", "item:9") is not None, "the task has run")
    assert json.loads(own_redis.call("GET", "item:9")) == processed
    wait_until(lambda: client.get("/items/9").json() == processed, "the new state is answered")


@pytest.mark.parametrize("mode", ["stopped", "hung", "disabled", "no URL", "refused at start"])
def test_the_guide_without_redis(
    start: Start, own_redis: RedisServer, text: str, mode: str
) -> None:
    """Everything answers, with the newest state, in the time that the budgets leave it."""
    env = {} if mode == "no URL" else {"REDIS_URL": own_redis.url}
    if mode == "disabled":
        env["USE_REDIS_CACHE"] = "false"
    if mode == "refused at start":
        own_redis.kill()
    client = start(**env)
    if mode == "stopped":
        client.get("/items/5")
        own_redis.kill()
    if mode == "hung":
        client.get("/items/5")
        own_redis.pause()
    began = time.monotonic()
    for _ in range(2):
        assert client.get("/items/5").json() == KETTLE
        assert client.get(f"{DIRECT[text]}5").json() == KETTLE
        assert client.get("/batch?ids=5,6").json() == [None, None]
    assert client.put("/items/5", json=TEAPOT).json() == {"status": "success"}
    assert client.get("/items/5").json() == TEAPOT
    lamp = {"id": "9", "name": "Lamp", "description": "Shines."}
    assert client.post("/items/", json=lamp).status_code == 200
    wait_until(
        lambda: client.get("/items/9").json()["description"] == "Shines. Processed.",
        "the task has run",
    )
    health = client.get("/api/v1/health")
    # Nine requests; a few of them wait for a budget, and health for its ping.
    in_time(time.monotonic() - began, 2.5)
    assert health.status_code == 200
    assert health.json()["redis_available"] is False
    assert health.json()["cache_enabled"] is (mode != "disabled")


def test_redis_comes_back(start: Start, own_redis: RedisServer) -> None:
    """Hits are back within a second after Redis is, and so is health."""
    client = start(REDIS_URL=own_redis.url)
    own_redis.kill()
    for _ in range(4):
        client.get("/items/6")
    assert client.put("/items/5", json=TEAPOT).status_code == 200
    own_redis.launch()
    began = time.monotonic()
    wait_until(lambda: status_of(client.get("/items/5")).startswith("hit"), "a hit")
    in_time(time.monotonic() - began, 1)
    assert client.get("/items/5").json() == TEAPOT
    assert client.get("/api/v1/health").json()["redis_available"] is True


def test_disabled_opens_no_connection(start: Start, fault_proxy: FaultProxy, text: str) -> None:
    """USE_REDIS_CACHE=false: the server hears nothing from us, and nothing is a hit."""
    client = start(REDIS_URL=fault_proxy.url, USE_REDIS_CACHE="false")
    for _ in range(2):
        assert status_of(client.get("/items/5")) == "none"
        client.get(f"{DIRECT[text]}5")
        client.get("/batch?ids=5")
        assert client.get("/api/v1/health").json()["redis_available"] is False
    client.put("/items/5", json=KETTLE)
    assert fault_proxy.connections == 0


def test_health_says_what_the_guide_shows(start: Start, redis_url: str) -> None:
    """Five fields of the guide's types and formats, never cached."""
    shown: dict[str, Any] = json.loads(blocks("docs/guide.md", "json")[0].text)
    client = start(REDIS_URL=redis_url)
    for _ in range(2):
        answer = client.get("/api/v1/health")
        assert answer.headers["cache-control"] == "no-store"
        assert "age" not in answer.headers
        told = answer.json()
        assert list(told) == list(shown)
        assert {name: type(value) for name, value in told.items()} == {
            name: type(value) for name, value in shown.items()
        }
        same = {"status", "message", "redis_available", "cache_enabled"}
        assert {name: told[name] for name in same} == {name: shown[name] for name in same}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", told["timestamp"])
        at = datetime.fromisoformat(told["timestamp"]).replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - at) < timedelta(seconds=5)
