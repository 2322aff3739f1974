"""Typical use of the public names, as the type checkers of an application see it."""

from typing import Annotated, assert_type

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

import maxage
from maxage import CacheMiddleware, CacheSettings, Counters, Rule, Store
from maxage.explain import Explanation, aexplain
from maxage.fastapi import admin_router, health_router, metrics_router, purge_router
from maxage.lint import Finding, lint
from maxage.metrics import metrics_app
from maxage.redis import AsyncRedis, Redis, RedisCache, get_async_redis, get_redis
from maxage.shadow import ShadowReport, report
from maxage.testing import assert_hit, assert_invalidates


class Item(BaseModel):
    id: int
    name: str


settings = CacheSettings(CACHE_EXPIRATION=60, CACHE_RULES=[Rule(path="/items", ttl=5)])
app = FastAPI()
app.add_middleware(CacheMiddleware, settings=settings)
assert_type(maxage.CacheSettings.standards(), CacheSettings)
app.include_router(health_router(settings, message="It runs."))
app.include_router(purge_router(dependencies=[Depends(get_redis)]))
app.mount("/metrics", metrics_app())
item_cache = RedisCache[Item](Item, prefix="item")


@app.get("/items/{item_id}")
@maxage.cached(ttl=30, tags=["item:{item_id}"])
async def read(item_id: int, client: Annotated[AsyncRedis, Depends(get_async_redis)]) -> Item:
    assert_type(get_async_redis(), AsyncRedis)
    assert_type(await item_cache.aget(item_id), Item | None)
    return await item_cache.aget_or_set(item_id, lambda: Item(id=item_id, name="Kettle"))


@app.put("/items/{item_id}")
@maxage.invalidates("/dashboard", "stats")
def write(item_id: int, item: Item, client: Annotated[Redis, Depends(get_redis)]) -> Item:
    assert_type(get_redis(), Redis)
    assert_type(item_cache.set(item_id, item, ttl=5.0), bool)
    assert_type(item_cache.get_many([1, 2]), dict[int, Item])
    # A value of another type is refused: mypy reports an ignore that is not needed.
    item_cache.set(item_id, "Kettle")  # type: ignore[arg-type]
    return item


@app.get("/now")
@maxage.uncached
def now() -> int:
    maxage.tag("now")
    # The package has no names but its own, though it loads one when it is asked for.
    print(maxage.nonsense)  # type: ignore[attr-defined]
    return 1


async def purges() -> None:
    assert_type(maxage.purge("/items/5", "item:5", soft=True), bool)
    assert_type(await maxage.apurge_tags("item:5", settings=settings), bool)
    assert_type(maxage.counters(), Counters)
    assert_type(maxage.store_from_url("memory://", settings), Store)


async def tools() -> None:
    assert_type(await aexplain(app, "/items/5"), Explanation)
    assert_type(lint(app), tuple[Finding, ...])
    assert_type(report(), ShadowReport)
    assert_type(admin_router(dependencies=[Depends(get_redis)]), APIRouter)
    assert_type(metrics_router(), APIRouter)
    # A decorator keeps the signature of its endpoint.
    assert_type(write(5, Item(id=5, name="Kettle"), get_redis()), Item)
    assert_type(await read(5, get_async_redis()), Item)


def checks() -> None:
    assert_invalidates(app, "PUT /items/5", "GET /items/5")


__all__ = ["assert_hit", "checks", "now", "purges", "tools"]
