"""A commit purges the tables that it changed, by whatever means, and a rollback purges nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    column,
    delete,
    insert,
    literal,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from tests.sqlalchemy.shop import Clerk, Customer, Ledger, Line, Note, Order, Person, Shop

pytestmark = pytest.mark.anyio

ORDERS: Any = Order.__table__
WRITES: dict[str, Callable[[Session], Any]] = {
    "a new object": lambda s: s.add(Order(total=1)),
    "a changed object": lambda s: setattr(s.get(Order, 1), "total", 2),
    "a merged object": lambda s: s.merge(Order(id=1, total=2)),
    "a deleted object": lambda s: s.delete(s.get(Order, 1)),
    "INSERT": lambda s: s.execute(insert(Order).values(total=1)),
    "INSERT of many": lambda s: s.execute(insert(Order), [{"total": 1}, {"total": 2}]),
    "INSERT with RETURNING": lambda s: s.scalars(
        insert(Order).values(total=1).returning(Order)
    ).one(),
    "INSERT from SELECT": lambda s: s.execute(
        insert(Order).from_select(["total"], select(literal(1)))
    ),
    "an upsert": lambda s: s.execute(
        sqlite_insert(Order)
        .values(id=1, total=3)
        .on_conflict_do_update(index_elements=["id"], set_={"total": 3})
    ),
    "UPDATE": lambda s: s.execute(update(Order).values(total=1)),
    "UPDATE of many": lambda s: s.execute(update(Order), [{"id": 1, "total": 1}]),
    "DELETE": lambda s: s.execute(delete(Order)),
    "a query's update": lambda s: s.query(Order).update({"total": 5}),
    "a query's delete": lambda s: s.query(Order).delete(),
    "bulk_save_objects": lambda s: s.bulk_save_objects([Order(total=1)]),
    "bulk_insert_mappings": lambda s: s.bulk_insert_mappings(Order, [{"total": 1}]),
    "Core": lambda s: s.connection().execute(ORDERS.insert().values(total=1)),
    "a lightweight table": lambda s: s.execute(
        table("orders", column("total")).insert().values(total=1)
    ),
    "text": lambda s: s.execute(text("INSERT INTO orders (total) VALUES (1)")),
    "text after a comment": lambda s: s.execute(text("/* app */ UPDATE orders SET total = 1")),
    "text that reads first": lambda s: s.execute(
        text("WITH x AS (SELECT 1 AS a) UPDATE orders SET total = 1 WHERE id IN (SELECT a FROM x)")
    ),
    "SQL of the driver": lambda s: s.connection().exec_driver_sql("UPDATE orders SET total = 1"),
    "DDL as text": lambda s: s.execute(text("ALTER TABLE orders ADD COLUMN more INTEGER")),
}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop of the test's own."""
    return Shop(tmp_path)


async def stored_orders(shop: Shop) -> str:
    """Store a response that was read from the orders; return its path."""
    return await shop.stored(lambda s: s.scalars(select(Order.total)).all(), "/orders")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_commit_purges_its_table(shop: Shop, write: Callable[[Session], Any]) -> None:
    """All that a session can do reaches the responses once it is committed, and not before."""
    path = await stored_orders(shop)
    with Session(shop.engine) as session:
        write(session)
        session.flush()
        if write is not WRITES["DDL as text"]:
            assert await shop.is_hit(path)
        session.commit()
        assert not await shop.is_hit(path)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_rollback_purges_nothing(shop: Shop, write: Callable[[Session], Any]) -> None:
    """What was taken back changed nothing."""
    path = await stored_orders(shop)
    with Session(shop.engine) as session:
        write(session)
        session.flush()
        session.rollback()
    assert await shop.is_hit(path) is (write is not WRITES["DDL as text"])


async def test_a_session_that_is_closed_without_a_commit_purges_nothing(shop: Shop) -> None:
    """Its connection goes back to the pool, which rolls back; the next commit is another one's."""
    path = await stored_orders(shop)
    with Session(shop.engine) as session:
        session.execute(update(Order).values(total=9))
    shop.write(lambda s: s.execute(update(Customer).values(name="new")))
    assert await shop.is_hit(path)


async def test_a_commit_leaves_other_tables(shop: Shop) -> None:
    """A write purges no more than its own tables."""
    path = await stored_orders(shop)
    shop.write(lambda s: s.execute(update(Customer).values(name="new")))
    shop.write(lambda s: s.add(Ledger()))
    assert await shop.is_hit(path)


async def test_a_commit_of_reads_purges_nothing(shop: Shop) -> None:
    """Many applications commit after each request."""
    path = await stored_orders(shop)
    shop.write(lambda s: s.scalars(select(Order)).all())
    assert await shop.is_hit(path)


# foreign keys of the database


@pytest.mark.parametrize("model", [Customer, Order, Line, Note])
async def test_a_delete_purges_the_tables_that_its_foreign_keys_change(
    shop: Shop, model: type[Any]
) -> None:
    """ON DELETE CASCADE and SET NULL, through several tables."""
    path = await shop.stored(lambda s: s.scalars(select(model)).all())
    shop.write(lambda s: s.execute(delete(Customer)))
    assert not await shop.is_hit(path)


async def test_an_update_leaves_the_tables_that_a_delete_would_change(shop: Shop) -> None:
    """Only rows that go take others with them."""
    path = await stored_orders(shop)
    shop.write(lambda s: s.execute(update(Customer).values(name="new")))
    assert await shop.is_hit(path)


async def test_an_insert_that_replaces_rows_is_a_delete_too(shop: Shop) -> None:
    """INSERT OR REPLACE takes the row in the way, and what hangs on it."""
    path = await stored_orders(shop)
    shop.write(lambda s: s.execute(insert(Customer).prefix_with("OR REPLACE").values(id=1)))
    assert not await shop.is_hit(path)


@pytest.mark.parametrize("model", [Person, Clerk])
async def test_a_subclass_is_written_to_its_tables(shop: Shop, model: type[Person]) -> None:
    """Joined-table inheritance: a new clerk is a row in two tables."""
    path = await shop.stored(lambda s: s.scalars(select(model.__table__.c.id)).all())
    shop.write(lambda s: s.add(Clerk()))
    assert not await shop.is_hit(path)


# savepoints


async def test_a_savepoint_that_is_rolled_back_purges_nothing(shop: Shop) -> None:
    """The rest of its transaction is committed and purged."""
    path = await stored_orders(shop)
    other = await shop.stored(lambda s: s.scalars(select(Customer.name)).all(), "/customers")
    with Session(shop.engine) as session:
        session.execute(update(Customer).values(name="new"))
        with session.begin_nested() as savepoint:
            session.execute(update(Order).values(total=1))
            savepoint.rollback()
        session.commit()
    assert await shop.is_hit(path)
    assert not await shop.is_hit(other)


async def test_a_savepoint_that_is_released_is_committed_with_its_transaction(shop: Shop) -> None:
    """Savepoints inside others too; a release alone purges nothing."""
    path = await stored_orders(shop)
    with Session(shop.engine) as session:
        with session.begin_nested(), session.begin_nested():
            session.execute(update(Order).values(total=1))
        assert await shop.is_hit(path)
        session.commit()
    assert not await shop.is_hit(path)


async def test_a_released_savepoint_inside_one_that_is_rolled_back_purges_nothing(
    shop: Shop,
) -> None:
    """The inner one's changes go with the outer one."""
    path = await stored_orders(shop)
    with Session(shop.engine) as session:
        with session.begin_nested() as outer:
            with session.begin_nested():
                session.execute(update(Order).values(total=1))
            outer.rollback()
        session.commit()
    assert await shop.is_hit(path)


# statements that commit themselves


async def test_in_autocommit_a_statement_is_purged_at_once(shop: Shop) -> None:
    """Each statement is a transaction of its own."""
    path = await stored_orders(shop)
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(Order).values(total=1))
        assert not await shop.is_hit(path)


async def test_an_engine_with_options_is_the_engine_that_it_is_made_from(shop: Shop) -> None:
    """`execution_options` makes another engine on the same pool."""
    path = await stored_orders(shop)
    with shop.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(update(Order).values(total=1))
        assert not await shop.is_hit(path)


async def test_a_driver_that_commits_by_itself_is_known(shop: Shop) -> None:
    """The option is the driver's own, so that SQLAlchemy's commit does nothing."""
    path = await stored_orders(shop)
    engine = shop.connected(connect_args={"isolation_level": None})
    with engine.connect() as connection:
        connection.execute(update(Order).values(total=1))
        assert not await shop.is_hit(path)
    engine.dispose()


async def test_a_transaction_begun_by_text_is_purged_when_text_commits_it(shop: Shop) -> None:
    """BEGIN IMMEDIATE on a connection in autocommit, as SQLite needs it for a lock."""
    path = await stored_orders(shop)
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(update(Order).values(total=1))
        assert await shop.is_hit(path)
        connection.exec_driver_sql("COMMIT")
        assert not await shop.is_hit(path)


async def test_a_transaction_begun_by_text_and_rolled_back_purges_nothing(shop: Shop) -> None:
    """The same with ROLLBACK."""
    path = await stored_orders(shop)
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(update(Order).values(total=1))
        connection.exec_driver_sql("ROLLBACK")
    assert await shop.is_hit(path)


async def test_ddl_purges_all_that_was_read_from_the_database(shop: Shop) -> None:
    """A table or an index that is made or dropped may change what any statement shows."""
    path = await stored_orders(shop)
    Table("extra", MetaData(), Column("id", Integer)).create(shop.engine)
    assert not await shop.is_hit(path)


async def test_a_write_of_unknown_tables_purges_each_table(shop: Shop) -> None:
    """Text is not parsed."""
    path = await shop.stored(lambda s: s.scalars(select(Customer.name)).all())
    shop.write(lambda s: s.execute(text("UPDATE orders SET total = 1")))
    assert not await shop.is_hit(path)


async def test_a_connection_of_the_driver_purges_all_tables_when_it_is_returned(
    shop: Shop,
) -> None:
    """Its statements are not seen."""
    path = await stored_orders(shop)
    raw = shop.engine.raw_connection()
    raw.cursor().execute("UPDATE orders SET total = 1")
    raw.commit()
    raw.close()
    assert not await shop.is_hit(path)


async def test_a_connection_that_leaves_the_pool_keeps_its_transaction(shop: Shop) -> None:
    """The pool puts another connection into its place, whose commits are its own."""
    path = await stored_orders(shop)
    with shop.engine.connect() as connection:
        connection.execute(update(Order).values(total=1))
        connection.detach()
        with shop.engine.connect() as other:
            other.execute(select(Customer.id)).all()
            other.commit()
        assert await shop.is_hit(path)
        connection.commit()
    assert not await shop.is_hit(path)


async def test_a_commit_that_fails_purges_too(shop: Shop) -> None:
    """It may have reached the database before the connection broke."""
    path = await stored_orders(shop)
    with shop.engine.connect() as connection:
        connection.execute(update(Order).values(total=1))
        pooled: Any = connection.connection
        pooled.dbapi_connection = BreaksAtCommit(pooled.dbapi_connection)
        with pytest.raises(ConnectionError):
            connection.commit()
    assert not await shop.is_hit(path)


class BreaksAtCommit:
    """A connection that commits and breaks before it says so."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def commit(self) -> None:
        """Commit, and break."""
        self._connection.commit()
        raise ConnectionError("the answer was lost")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
