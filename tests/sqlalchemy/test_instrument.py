"""How an engine is instrumented, and how databases are told apart."""

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from maxage import MemoryStore, SettingsError
from maxage.sqlalchemy import commit_purge, instrument
from maxage.sqlalchemy.database_groups import DatabaseGroups, database_name
from tests.sqlalchemy.shop import Order, Shop
from tests.support.asgi import call
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio


def test_a_second_call_does_nothing(tmp_path: Path) -> None:
    """Each statement is noted once, whichever engine of the same pool is named."""
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    instrument(engine)
    compiler = engine.dialect.statement_compiler
    instrument(engine)
    instrument(engine, name="a.db")
    instrument(engine.execution_options(isolation_level="AUTOCOMMIT"))
    assert engine.dialect.statement_compiler is compiler
    assert len(engine.dispatch.before_cursor_execute) == 1


def test_an_engine_on_asyncio_is_the_engine_inside(tmp_path: Path) -> None:
    """Naming either is the same."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")
    instrument(engine)
    instrument(engine.sync_engine)
    assert len(engine.sync_engine.dispatch.before_cursor_execute) == 1


@pytest.mark.parametrize(
    ("engine", "name", "said"),
    [
        (
            "sqlite://",
            None,
            "instrument\\(\\) got 'sqlite://'; it takes an Engine or an AsyncEngine",
        ),
        (create_engine("sqlite://"), "  ", "instrument\\(\\) got an empty name"),
    ],
)
def test_a_mistake_is_said_in_one_sentence(engine: Any, name: str | None, said: str) -> None:
    """It names what was given, and what is taken."""
    with pytest.raises(SettingsError, match=said):
        instrument(engine, name=name)


def test_an_engine_has_one_name() -> None:
    """Another one would make some commits miss some responses."""
    engine = create_engine("sqlite://")
    instrument(engine, name="one")
    with pytest.raises(SettingsError, match="got name='two' for an engine that has the name 'one'"):
        instrument(engine, name="two")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql+asyncpg://app:secret@db:5432/shop", "shop"),
        ("postgresql://other@replica/shop", "shop"),
        ("postgresql:///?dbname=shop&host=db", "shop"),
        ("postgresql://app@db", "app"),
        ("mysql+pymysql://app@db/shop", "shop"),
        ("sqlite:///shop.db", "shop.db"),
        ("sqlite+aiosqlite:////data/shop.db", "shop.db"),
        ("sqlite:///file:data/shop.db?uri=true", "shop.db"),
        ("sqlite://", ":memory:"),
        ("postgresql://", "database"),
    ],
)
def test_the_name_is_that_of_the_database(url: str, name: str) -> None:
    """Server, user, driver and folder are spelled differently by each process."""
    assert database_name(make_url(url)) == name


def test_in_mysql_a_schema_is_a_database() -> None:
    """A table of another one has the groups that this one has for it, and those of its engine: a
    text of the engine may read and change tables of any schema."""
    there = Table("orders", MetaData(), schema="shop")
    here = Table("orders", MetaData())
    mysql, shop = DatabaseGroups("other", "mysql"), DatabaseGroups("shop", "mysql")
    assert set(mysql.read([there])) == {*shop.read([here]), mysql.whole}
    assert set(mysql.read_around_rows(there)) == {*shop.read_around_rows(here), mysql.whole}
    assert set(mysql.changed([there])) >= set(shop.changed([here]))
    assert set(mysql.changed([there])) & set(mysql.unknown_read)
    assert not set(mysql.changed([here])) & set(shop.unknown_read)


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_elsewhere_the_schema_does_not_matter(dialect: str) -> None:
    """A name without a schema may mean any of them."""
    groups = DatabaseGroups("shop", dialect)
    assert groups.read([Table("Orders", MetaData(), schema="public")]) == groups.read(
        [Table("orders", MetaData())]
    )


async def test_databases_of_other_names_are_other_databases(tmp_path: Path) -> None:
    """A write to one leaves what was read from the other."""
    (tmp_path / "other").mkdir()
    here, there = Shop(tmp_path, name="here"), Shop(tmp_path / "other", name="there")
    path = await here.stored(lambda s: s.scalars(select(Order.total)).all())
    there.write(lambda s: s.execute(update(Order).values(total=1)))
    assert await here.is_hit(path)


async def test_databases_of_one_name_share_their_tables(tmp_path: Path) -> None:
    """A file may be the same one under another path: only more is purged."""
    (tmp_path / "other").mkdir()
    here, there = Shop(tmp_path), Shop(tmp_path / "other")
    path = await here.stored(lambda s: s.scalars(select(Order.total)).all())
    there.write(lambda s: s.execute(update(Order).values(total=1)))
    assert not await here.is_hit(path)


async def test_a_session_of_two_databases_purges_both(tmp_path: Path) -> None:
    """Each commit is one of its engine."""
    table = Table("extra", MetaData(), Column("id", Integer))
    shop = Shop(tmp_path)
    other = create_engine(f"sqlite:///{tmp_path}/other.db")
    instrument(other)
    table.create(other)
    orders = await shop.stored(lambda s: s.scalars(select(Order.total)).all(), "/orders")
    shop.at("/extra", lambda: other.connect().execute(select(table)).close())
    extra = await shop.kept("/extra")
    with Session(binds={Order: shop.engine, table: other}) as session:
        session.execute(insert(table).values(id=1))
        session.execute(update(Order).values(total=1))
        session.commit()
    assert not await shop.is_hit(orders)
    assert not await shop.is_hit(extra)


async def test_statements_that_were_compiled_before_are_seen(tmp_path: Path) -> None:
    """They are compiled again."""
    shop = Shop(tmp_path)
    engine = create_engine(shop.url)
    statement = select(Order.total)
    with engine.connect() as connection:
        connection.execute(statement).all()
    instrument(engine)
    shop.at("/orders", lambda: Session(engine).scalars(statement).all())
    path = await shop.kept("/orders")
    shop.write(lambda s: s.execute(update(Order).values(total=1)))
    assert not await shop.is_hit(path)


async def test_an_engine_goes_on_after_its_pool_is_disposed(tmp_path: Path) -> None:
    """`dispose` makes a new pool, as after a fork."""
    shop = Shop(tmp_path)
    shop.engine.dispose()
    path = await shop.stored(lambda s: s.scalars(select(Order.total)).all())
    raw = shop.engine.raw_connection()
    raw.cursor().execute("UPDATE orders SET total = 7")
    raw.commit()
    raw.close()
    assert not await shop.is_hit(path)


async def test_a_cache_around_another_is_purged_too(tmp_path: Path) -> None:
    """Each has a store of its own; the outer one stores nothing of what the inner one reads."""
    shop = Shop(tmp_path)
    outer = cache_of(shop.middleware, store=MemoryStore())
    shop.at("/orders", shop.in_session(lambda s: s.scalars(select(Order.total)).all()))
    bodies = set()
    for total in (1, 1, 1, 2, 3):
        shop.write(lambda s, total=total: s.execute(update(Order).values(total=total)))
        bodies.add((await call(outer, path="/orders")).body)
    assert len(bodies) == 3


async def test_a_process_whose_commits_reach_nothing_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script without REDIS_URL."""
    monkeypatch.setattr(commit_purge, "living_caches", tuple)
    monkeypatch.setattr(commit_purge, "reaches_anything", lambda _: False)
    monkeypatch.setattr(commit_purge, "_warned", set())
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
    instrument(engine)
    with caplog.at_level(logging.WARNING, "maxage"):
        for number in range(3):
            Table(f"t{number}", MetaData(), Column("id", Integer)).create(engine)
    assert [r.message for r in caplog.records if "A commit purges nothing" in r.message] == [
        caplog.records[0].message
    ]
