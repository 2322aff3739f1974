"""Writes by other processes, and by a process that dies or loses Redis between commit and purge."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.sqlalchemy.shop import Order, Shop
from tests.support.asgi import call
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
PATIENT = {"cache_read_budget": 5, "cache_write_budget": 5}
ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from sqlalchemy import create_engine, text
from maxage.sqlalchemy import instrument
from maxage.sqlalchemy import commit_purge

if sys.argv[2] == "dies":
    commit_purge.CommitPurge.__exit__ = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
engine = create_engine(sys.argv[1])
instrument(engine)
with engine.begin() as connection:
    connection.execute(text("UPDATE orders SET total = total + 1"))
"""


def run_script(shop: Shop, redis_url: str, how: str = "lives") -> int:
    """Write from a script; return its exit code."""
    roots = os.pathsep.join((str(ROOT / "middleware"), str(ROOT)))
    env = {**os.environ, "PYTHONPATH": roots, "REDIS_URL": redis_url, "CACHE_WRITE_BUDGET": "5"}
    command = [sys.executable, "-c", SCRIPT, shop.url, how]
    return subprocess.run(command, env=env, check=False, timeout=60).returncode


@pytest.fixture
async def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A shop with a response that was read from its orders, on Redis."""
    shop = Shop(tmp_path, redis_url=redis_url, **PATIENT)
    await shop.stored(lambda s: s.scalars(select(Order.total)).all(), "/orders")
    return shop


async def test_a_script_purges_by_the_settings_of_its_environment(
    shop: Shop, redis_url: str
) -> None:
    """It has another engine on the same file, and no middleware."""
    assert await asyncio.to_thread(run_script, shop, redis_url) == 0
    assert not await shop.is_hit("/orders")


async def test_a_process_that_dies_between_commit_and_purge_is_noticed(
    shop: Shop, redis_url: str
) -> None:
    """It held a lease: its peers purge everything."""
    assert await asyncio.to_thread(run_script, shop, redis_url, "dies") < 0
    for _ in range(200):
        if not await shop.is_hit("/orders"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("nothing was purged")


async def test_a_purge_is_owed_while_redis_is_away(tmp_path: Path, own_redis: RedisServer) -> None:
    """The commit succeeds; when Redis is back, nothing older than it is served."""
    shop = Shop(tmp_path, redis_url=own_redis.url, cache_write_budget=0.2)
    path = await shop.stored(lambda s: s.scalars(select(Order.total)).all())
    own_redis.pause()
    with Session(shop.engine) as session:
        await asyncio.to_thread(session.execute, update(Order).values(total=987))
        await asyncio.to_thread(session.commit)
    own_redis.resume()
    for _ in range(4):
        assert b"987" in (await call(shop.middleware, "GET", path)).body
