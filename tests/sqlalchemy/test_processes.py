"""Writes by other processes, and by a process that dies or loses Redis between commit and purge."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, select, text, update
from sqlalchemy.orm import Session

from maxage.sqlalchemy import instrument
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


FAILURES: dict[str, tuple[str, ...]] = {
    "before it": ("before_cursor_execute", "handle_error"),
    "after it": ("after_cursor_execute", "handle_error"),
}
"""When a listener of the user's fails, and to which events it listens."""


@pytest.mark.parametrize("when", FAILURES)
@pytest.mark.parametrize("ends", ["close", "rollback", "invalidate", "execute"])
def test_a_statement_whose_end_is_not_told_holds_a_lease_no_longer_than_its_connection(
    when: str, ends: str, tmp_path: Path, redis_url: str
) -> None:
    """Listeners of the user's may be called before the cache's, and keep it from being called."""
    shop = Shop(tmp_path, redis_url=redis_url, **PATIENT)
    store = shop.middleware.cache.store
    lease, fails = store.redis_state.lease_manager.lease, False
    held: list[bool] = []
    engine = create_engine(shop.url, isolation_level="AUTOCOMMIT")

    def listener(*_: object) -> None:
        if fails:
            held.append(not lease.idle)
            raise ValueError(when)

    before, *others = FAILURES[when]
    for name in others if before == "before_cursor_execute" else FAILURES[when]:
        event.listen(engine, name, listener)
    instrument(engine)
    if before == "before_cursor_execute":
        event.listen(engine, before, listener)
    connection = engine.connect()
    connection.execute(text("UPDATE orders SET total = 6"))
    fails = True
    with pytest.raises(ValueError, match=when):
        connection.execute(text("UPDATE orders SET total = 7"))
    assert all(held)
    fails = False
    getattr(connection, ends)(*([text("SELECT 1")] if ends == "execute" else []))
    assert lease.idle
    connection.close()
    engine.dispose()
    assert lease.idle
