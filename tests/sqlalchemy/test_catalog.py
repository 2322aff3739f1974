"""Views and triggers: the database says what the metadata does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, event, insert, select, table, text, update
from sqlalchemy.orm import Session

from maxage import MemoryStore
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from tests.sqlalchemy.shop import Customer, Ledger, Line, Order, Shop

pytestmark = pytest.mark.anyio

VIEW = "CREATE VIEW big_orders AS SELECT * FROM orders"
TRIGGER = """
CREATE TRIGGER counted AFTER UPDATE ON orders BEGIN UPDATE ledger SET id = id; END
"""
BIG_ORDERS = table("big_orders", column("id"))


def with_catalog(folder: Path, *statements: str, **options: Any) -> Shop:
    """Return a shop whose database has more than its metadata says."""
    first = Shop(folder)
    with first.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    shop = first
    shop.engine = first.connected(**options)
    return shop


async def stored_view(shop: Shop) -> str:
    """Store a response that was read from the view; return its path."""
    return await shop.stored(lambda s: s.scalars(select(BIG_ORDERS.c.id)).all())


async def test_what_was_read_from_a_view_ends_with_any_write(tmp_path: Path) -> None:
    """It is unknown which tables a view shows."""
    shop = with_catalog(tmp_path, VIEW)
    path = await stored_view(shop)
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=1)))
    assert not await shop.is_hit(path)


async def test_a_view_is_known_while_another_connection_reads_the_catalog(tmp_path: Path) -> None:
    """The second one does not go on without it."""
    shop = with_catalog(tmp_path, VIEW)
    nested: list[Any] = []
    read = select(BIG_ORDERS.c.id)

    @event.listens_for(shop.engine, "before_cursor_execute")
    def within(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if "sqlite_master" in sql and not nested:
            nested.append(None)
            groups = shop.in_session(lambda s: _groups_of(lambda: s.scalars(read)))
            nested.append(groups())

    await stored_view(shop)
    assert "g:sql:shop.db:*" in nested[1]


def _groups_of(read: Callable[[], Any]) -> set[str]:
    """Return the groups of what a request reads."""
    request = Dependencies(mutating=False, store=MemoryStore())
    token = current_dependencies.set(request)
    try:
        read()
    finally:
        current_dependencies.reset(token)
    return set(request.tags)


async def test_a_view_that_this_process_makes_is_known(tmp_path: Path) -> None:
    """The catalog is read again after DDL."""
    shop = Shop(tmp_path)
    shop.write(lambda s: s.execute(text(VIEW)))
    path = await stored_view(shop)
    shop.write(lambda s: s.execute(update(Order).values(total=1)))
    assert not await shop.is_hit(path)


async def test_a_write_to_a_table_with_a_trigger_is_one_to_each(tmp_path: Path) -> None:
    """Also if it names one row, and if it comes by a foreign key."""
    shop = with_catalog(tmp_path, TRIGGER)
    path = await shop.stored(lambda s: s.scalars(select(Ledger.id)).all())
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=1)))
    assert not await shop.is_hit(path)


async def test_a_write_to_other_tables_is_not(tmp_path: Path) -> None:
    """They have no trigger."""
    shop = with_catalog(tmp_path, TRIGGER)
    path = await shop.stored(lambda s: s.scalars(select(Ledger.id)).all())
    shop.write(lambda s: s.execute(update(Customer).values(name="new")))
    assert await shop.is_hit(path)


async def test_the_tables_that_a_trigger_changes_may_be_named(tmp_path: Path) -> None:
    """Then a write purges these, and no others."""
    shop = with_catalog(tmp_path, TRIGGER, triggers={"orders": ["ledger"]})
    ledger = await shop.stored(lambda s: s.scalars(select(Ledger.id)).all(), "/ledger")
    lines = await shop.stored(lambda s: s.scalars(select(Line.id)).all(), "/lines")
    row = await shop.stored(lambda s: s.get(Order, 7), "/orders/7")
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=1)))
    assert not await shop.is_hit(ledger)
    assert await shop.is_hit(lines)
    assert await shop.is_hit(row)


async def test_a_trigger_may_change_other_rows_of_its_table(tmp_path: Path) -> None:
    """Then a write of one row is one of all."""
    shop = with_catalog(tmp_path, TRIGGER, triggers={"orders": ["orders"]})
    row = await shop.stored(lambda s: s.get(Order, 7))
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=1)))
    assert not await shop.is_hit(row)


async def test_the_catalog_is_read_once(tmp_path: Path) -> None:
    """By the first statement of the engine that names a table."""
    shop = with_catalog(tmp_path)
    seen: list[str] = []
    event.listen(shop.engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    for _ in range(3):
        with Session(shop.engine) as session:
            session.scalars(select(Order.id)).all()
            session.execute(insert(Order).values(total=1))
            session.commit()
    assert sum("sqlite_master" in sql for sql in seen) == 1
    assert len(seen) == 7
