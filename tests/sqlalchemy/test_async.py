"""Engines on asyncio: the purge is awaited inside the commit, and the event loop goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from maxage.sqlalchemy import commit_purge, instrument
from tests.sqlalchemy.shop import Customer, Order, Shop

pytestmark = pytest.mark.anyio
PATIENT = {"cache_read_budget": 5, "cache_write_budget": 5}


@pytest.fixture(params=["embedded", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """A shop whose responses are stored in the process, or on Redis."""
    if request.param == "embedded":
        return Shop(tmp_path)
    return Shop(tmp_path, redis_url=request.getfixturevalue("redis_url"), **PATIENT)


@pytest.fixture
async def engine(shop: Shop) -> AsyncIterator[AsyncEngine]:
    """An engine on asyncio for the shop's file."""
    engine = create_async_engine(shop.url.replace("sqlite", "sqlite+aiosqlite"))
    instrument(engine)
    yield engine
    await engine.dispose()


async def stored(shop: Shop, engine: AsyncEngine) -> str:
    """Store a response that was read from the orders on the event loop; return its path."""

    async def read() -> Sequence[int]:
        async with AsyncSession(engine) as session:
            return (await session.scalars(select(Order.total))).all()

    shop.at("/orders", read)
    return await shop.kept("/orders")


async def test_a_commit_purges_before_it_returns(shop: Shop, engine: AsyncEngine) -> None:
    """Sessions; a commit of another table purges nothing of these orders."""
    path = await stored(shop, engine)
    async with AsyncSession(engine) as session:
        await session.execute(update(Customer).values(name="new"))
        await session.commit()
        assert await shop.is_hit(path)
        await session.execute(update(Order).values(total=3))
        assert await shop.is_hit(path)
        await session.commit()
        assert not await shop.is_hit(path)


async def test_a_rollback_purges_nothing(shop: Shop, engine: AsyncEngine) -> None:
    """By name, and by closing the session."""
    path = await stored(shop, engine)
    async with AsyncSession(engine) as session:
        await session.execute(update(Order).values(total=3))
        await session.rollback()
        await session.execute(update(Order).values(total=3))
    assert await shop.is_hit(path)


async def test_a_connection_purges_too(shop: Shop, engine: AsyncEngine) -> None:
    """Core without a session, in a transaction and in autocommit."""
    path = await stored(shop, engine)
    async with engine.begin() as connection:
        await connection.execute(update(Order).values(total=3))
    assert not await shop.is_hit(path)
    await shop.kept(path)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(update(Order).values(total=4))
        assert not await shop.is_hit(path)


async def test_a_row_is_told_apart(shop: Shop, engine: AsyncEngine) -> None:
    """The token of the row is awaited before the statement."""

    async def read() -> int:
        async with AsyncSession(engine) as session:
            return (await session.get_one(Order, 1)).total

    shop.at("/orders/1", read)
    await shop.kept("/orders/1")
    for row, kept in ((2, True), (1, False)):
        async with AsyncSession(engine) as session:
            await session.execute(update(Order).where(Order.id == row).values(total=3))
            await session.commit()
        assert await shop.is_hit("/orders/1") is kept


async def test_a_purge_goes_on_when_its_commit_is_cancelled(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is committed, whatever becomes of the one who asked for it."""
    shop = Shop(tmp_path, redis_url=redis_url, **PATIENT)
    engine = create_async_engine(shop.url.replace("sqlite", "sqlite+aiosqlite"))
    instrument(engine)
    path = await stored(shop, engine)
    assert shop.middleware.cache is not None
    store, reached, gate = shop.middleware.cache.store, asyncio.Event(), asyncio.Event()
    renew = type(store).renew

    async def held(self: object, groups: Sequence[str]) -> Sequence[bytes | None]:
        reached.set()
        await gate.wait()
        return await renew(store, groups)

    async def write() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(update(Order).values(total=3))
            await session.commit()

    monkeypatch.setattr(type(store), "renew", held)
    writing = asyncio.create_task(write())
    await reached.wait()
    writing.cancel()
    await asyncio.wait({writing})
    assert writing.cancelled()
    gate.set()
    await asyncio.wait(commit_purge._background.tasks)
    assert not await shop.is_hit(path)
    await engine.dispose()
