"""A response belongs to each table that its handler read, by whatever means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    column,
    exists,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
    union,
    update,
)
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from tests.sqlalchemy.shop import Clerk, Customer, Ledger, Line, Order, Person, Shop

pytestmark = pytest.mark.anyio

READS: dict[str, Callable[[Session], Any]] = {
    "an entity": lambda s: s.scalars(select(Order)).all(),
    "a column": lambda s: s.scalars(select(Order.id)).all(),
    "a count": lambda s: s.scalar(select(func.count()).select_from(Order)),
    "a get by the key": lambda s: s.get(Order, 1),
    "a get that finds nothing": lambda s: s.get(Order, 404),
    "a query": lambda s: s.query(Order).all(),
    "a lazy load of many": lambda s: s.get(Customer, 1).orders,
    "eager loading by a join": lambda s: (
        s.scalars(select(Customer).options(joinedload(Customer.orders))).unique().all()
    ),
    "eager loading by IN": lambda s: s.scalars(
        select(Customer).options(selectinload(Customer.orders))
    ).all(),
    "EXISTS": lambda s: s.scalars(
        select(Customer.id).where(exists().where(Order.customer_id == Customer.id))
    ).all(),
    "a scalar subquery": lambda s: s.scalar(select(select(func.max(Order.id)).scalar_subquery())),
    "a column property": lambda s: s.get(Ledger, 1).latest,
    "a CTE": lambda s: s.scalars(select(select(Order.id).cte().c.id)).all(),
    "a union": lambda s: s.scalars(union(select(Customer.id), select(Order.id))).all(),
    "an alias": lambda s: s.scalars(select(aliased(Order).id)).all(),
    "a join": lambda s: s.scalars(select(Customer.id).join(Customer.orders)).all(),
    "a lightweight table": lambda s: s.scalars(
        select(column("id")).select_from(table("orders"))
    ).all(),
    "a table in another spelling": lambda s: s.scalars(
        select(column("id")).select_from(table("ORDERS"))
    ).all(),
    "text": lambda s: s.scalars(text("SELECT id FROM orders")).all(),
    "text with columns": lambda s: s.scalars(
        text("SELECT id FROM orders").columns(column("id"))
    ).all(),
    "an entity from text": lambda s: s.scalars(
        select(Order).from_statement(text("SELECT * FROM orders"))
    ).all(),
    "text in a condition": lambda s: s.scalars(
        select(Customer.id).where(text("id IN (SELECT customer_id FROM orders)"))
    ).all(),
    "text as the source": lambda s: s.scalars(
        select(column("id")).select_from(text("orders"))
    ).all(),
    "a literal column": lambda s: s.scalar(select(literal_column("(SELECT max(id) FROM orders)"))),
    "SQL of the driver": lambda s: s.connection().exec_driver_sql("SELECT id FROM orders").all(),
}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop of the test's own."""
    return Shop(tmp_path)


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_commit_purges_what_was_read_from_its_table(
    shop: Shop, read: Callable[[Session], Any]
) -> None:
    """The response is stored, and a write to the table ends it."""
    path = await shop.stored(read)
    shop.write(lambda s: s.execute(insert(Order).values(total=1)))
    assert not await shop.is_hit(path)


@pytest.mark.parametrize(
    "read",
    [
        lambda s: s.scalars(select(Customer.id)).all(),
        lambda s: s.get(Customer, 1),
        lambda s: s.scalars(select(Customer.id).order_by(text("name DESC"))).all(),
        lambda s: s.scalar(text("SELECT 1")),
        lambda s: None,
    ],
    ids=["a column", "a get", "text without a table", "SELECT 1", "nothing"],
)
async def test_a_commit_leaves_what_was_read_from_other_tables(
    shop: Shop, read: Callable[[Session], Any]
) -> None:
    """A write to a table that the handler did not read leaves its response alone."""
    path = await shop.stored(read)
    shop.write(lambda s: s.execute(insert(Order).values(total=1)))
    assert await shop.is_hit(path)


@pytest.mark.parametrize("written", [Person, Clerk])
async def test_a_subclass_is_read_from_its_own_table_and_that_of_its_base(
    shop: Shop, written: type[Person]
) -> None:
    """Joined-table inheritance: one row lies in two tables."""
    path = await shop.stored(lambda s: s.scalars(select(Clerk)).all())
    shop.write(lambda s: s.execute(update(written).values(id=written.id)))
    assert not await shop.is_hit(path)


async def test_the_base_of_an_inheritance_is_read_with_the_columns_of_its_subclasses(
    shop: Shop,
) -> None:
    """The columns of a subclass are loaded when they are asked for."""
    path = await shop.stored(lambda s: s.scalars(select(Person)).one().desk)
    shop.write(lambda s: s.execute(update(Clerk).values(desk=2)))
    assert not await shop.is_hit(path)


async def test_a_row_that_the_session_has_already_counts_as_read(shop: Shop) -> None:
    """The identity map answers the second `get`, and the lazy load of a customer, without SQL."""

    def read(session: Session) -> Any:
        order, customer = session.get(Order, 1), session.get(Customer, 1)
        return session.get(Order, 1) is order and order.customer is customer

    path = await shop.stored(read)
    shop.write(lambda s: s.execute(update(Customer).values(name="new")))
    assert not await shop.is_hit(path)


async def test_the_first_response_of_a_route_is_stored(shop: Shop) -> None:
    """The token of a table that the lookup did not foresee is read before the table."""
    path = "/orders"
    shop.at(path, shop.in_session(lambda s: s.scalars(select(Order.id)).all()))
    assert "stored" in await shop.status(path)
    assert await shop.is_hit(path)
    shop.write(lambda s: s.execute(update(Order).values(total=5)))
    assert not await shop.is_hit(path)
    assert await shop.is_hit(path)


async def test_a_table_that_changes_while_it_is_read_for_the_first_time_leaves_nothing_stored(
    shop: Shop,
) -> None:
    """Its token is that of before the read."""
    path, is_late = "/orders", [True]

    def read(session: Session) -> Any:
        shown = session.scalars(select(Order.total)).all()
        session.rollback()
        if is_late[0]:
            shop.write(lambda s: s.execute(update(Order).values(total=7)))
        return shown

    shop.at(path, shop.in_session(read))
    await shop.status(path)
    is_late[0] = False
    assert not await shop.is_hit(path)
    assert await shop.is_hit(path)


async def test_a_new_table_of_a_transaction_that_may_show_the_past_waits_for_the_next_response(
    shop: Shop,
) -> None:
    """The second statement may show what was there when the first one ran."""

    def read(session: Session) -> Any:
        return [session.scalars(select(Order.id)).all(), session.scalars(select(Customer.id)).all()]

    shop.at("/both", shop.in_session(read))
    assert "detail=late-tag" in await shop.status("/both")
    assert "stored" in await shop.status("/both")
    assert await shop.is_hit("/both")


async def test_other_urls_of_the_route_are_stored_at_once(shop: Shop) -> None:
    """A route reads the same tables for each of its URLs."""
    await shop.stored(lambda s: s.get(Order, 1), "/orders/1")
    shop.at("/orders/2", shop.in_session(lambda s: s.get(Order, 2)))
    assert "stored" in await shop.status("/orders/2")


async def test_a_response_of_many_tables_belongs_to_the_whole_database(shop: Shop) -> None:
    """The number of tokens of a lookup is bounded; a write to any table ends such a response."""
    names = [f"t{number}" for number in range(40)]
    with shop.engine.begin() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE TABLE {name} (id INTEGER)")
    tables = [table(name, column("id")) for name in names]
    path = await shop.stored(lambda s: [s.execute(select(each)).all() for each in tables])
    (target,) = shop.middleware.service.targets._targets.values()
    assert 2 < len(target.late_groups) < 20
    shop.write(lambda s: s.execute(insert(Line).values(order_id=1)))
    assert not await shop.is_hit(path)


async def test_rows_of_a_transaction_that_is_older_than_the_request_are_not_stored(
    shop: Shop,
) -> None:
    """Such a transaction may show what was there before a write that the cache knows of."""
    session = Session(shop.engine)
    session.scalars(select(Order.id)).all()
    shop.at("/old", lambda: session.scalars(select(Order.id)).all())
    statuses = [await shop.status("/old") for _ in range(4)]
    assert not any("stored" in status.split("; ") for status in statuses)
    session.rollback()
    assert "stored" in await shop.status("/old")
    session.close()


async def test_rows_that_are_rolled_back_are_not_stored(shop: Shop) -> None:
    """A handler that shows its own changes and takes them back shows what never was."""

    def read(session: Session) -> Any:
        session.execute(update(Order).values(total=99))
        shown = session.scalars(select(Order.total)).all()
        session.rollback()
        return shown

    shop.at("/undone", shop.in_session(read))
    statuses = [await shop.status("/undone") for _ in range(4)]
    assert not any("stored" in status.split("; ") for status in statuses)
