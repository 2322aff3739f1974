"""A response that read one row by its key belongs to the row, where that is sure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from tests.sqlalchemy.shop import Customer, Line, Node, Order, Shop, Token

pytestmark = pytest.mark.anyio

FIRST, OTHER = UUID(int=1), UUID(int=2)
READS: dict[str, Callable[[Session], Any]] = {
    "a get": lambda s: s.get(Order, 1),
    "a select by the key": lambda s: s.scalars(select(Order).where(Order.id == 1)).all(),
    "a select by the key and more": lambda s: s.scalars(
        select(Order.total).where(Order.id == 1, Order.total >= 0)
    ).all(),
    "a filter": lambda s: s.query(Order).filter(Order.id == 1).all(),
    "an aggregate of the row": lambda s: s.scalar(
        select(func.sum(Order.total)).where(Order.id == 1)
    ),
}
OTHERS: dict[str, Callable[[Session], Any]] = {
    "a flush": lambda s: setattr(s.get(Order, 2), "total", 5),
    "an update by the key": lambda s: s.execute(update(Order).where(Order.id == 2).values(total=5)),
    "an update that returns": lambda s: s.scalars(
        update(Order).where(Order.id == 2).values(total=5).returning(Order)
    ).one(),
    "updates by the keys": lambda s: s.execute(
        update(Order), [{"id": 2, "total": 1}, {"id": 3, "total": 1}]
    ),
    "a delete by the key": lambda s: s.execute(delete(Order).where(Order.id == 2)),
    "a deleted object": lambda s: s.delete(s.get(Order, 2)),
}
UNSURE: dict[str, Callable[[Session], Any]] = {
    "its row": lambda s: s.execute(update(Order).where(Order.id == 1).values(total=5)),
    "its row among others": lambda s: s.execute(
        update(Order), [{"id": 2, "total": 5}, {"id": 1, "total": 5}]
    ),
    "more rows than are told apart": lambda s: s.connection().execute(
        update(Order).where(Order.id == bindparam("key")),
        [{"key": number, "total": 1} for number in range(2, 40)],
    ),
    "a delete of its row": lambda s: s.execute(delete(Order).where(Order.id == 1)),
    "any row": lambda s: s.execute(update(Order).values(total=5)),
    "rows by another column": lambda s: s.execute(
        update(Order).where(Order.total == 0).values(total=5)
    ),
    "one row or another": lambda s: s.execute(
        update(Order).where(or_(Order.id == 2, Order.total == 0)).values(total=5)
    ),
    "all rows but one": lambda s: s.execute(update(Order).where(Order.id != 2).values(total=5)),
    "another row, which gets its key": lambda s: (
        s.execute(delete(Order).where(Order.id == 1)),
        s.execute(update(Order).where(Order.id == 2).values(id=1)),
    ),
    "the key, by SQL": lambda s: s.execute(
        update(Order).where(Order.id == 2).values(id=Order.id + 100)
    ),
    "a new row": lambda s: s.add(Order(total=1)),
    "its owner, with which it goes": lambda s: s.execute(delete(Customer).where(Customer.id == 1)),
    "text": lambda s: s.execute(text("UPDATE orders SET total = 5 WHERE id = 1")),
    "a condition in text": lambda s: s.execute(
        update(Order).where(Order.id == 2, text("1 = 1 OR id IN (SELECT 1)")).values(total=5)
    ),
}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop with three orders."""
    shop = Shop(tmp_path)
    shop.write(lambda s: s.add_all([Order(id=2), Order(id=3)]))
    return shop


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_write_of_another_row_leaves_it(shop: Shop, read: Callable[[Session], Any]) -> None:
    """Both statements name the key of their row; a write of the row itself ends the response."""
    path = await shop.stored(read)
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 2).values(total=5)))
    assert await shop.is_hit(path)
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=5)))
    assert not await shop.is_hit(path)


@pytest.mark.parametrize("write", OTHERS.values(), ids=OTHERS.keys())
async def test_a_write_by_the_key_is_about_its_row(
    shop: Shop, write: Callable[[Session], Any]
) -> None:
    """A response of another row stays, and one of the table goes."""
    path = await shop.stored(lambda s: s.get(Order, 1), "/orders/1")
    everything = await shop.stored(lambda s: s.scalars(select(Order)).all(), "/orders")
    shop.write(write)
    assert await shop.is_hit(path)
    assert not await shop.is_hit(everything)


@pytest.mark.parametrize("write", UNSURE.values(), ids=UNSURE.keys())
async def test_a_write_that_may_be_about_the_row_ends_it(
    shop: Shop, write: Callable[[Session], Any]
) -> None:
    """Where it is unknown which rows a statement changes, it counts as changing each."""
    path = await shop.stored(lambda s: s.get(Order, 1))
    shop.write(write)
    assert not await shop.is_hit(path)


async def test_a_row_that_is_not_there_ends_when_it_comes(shop: Shop) -> None:
    """The answer that there is none depends on the row, too."""
    path = await shop.stored(lambda s: s.get(Order, 9))
    shop.write(lambda s: s.execute(insert(Order).values(id=9)))
    assert not await shop.is_hit(path)


async def test_a_row_that_refers_to_its_own_table_is_no_row_alone(shop: Shop) -> None:
    """ON DELETE CASCADE within a table changes other rows than the one that is named."""
    shop.write(lambda s: s.add_all([Node(id=1), Node(id=2, parent_id=1)]))
    path = await shop.stored(lambda s: s.get(Node, 2))
    shop.write(lambda s: s.execute(delete(Node).where(Node.id == 1)))
    assert not await shop.is_hit(path)


async def test_keys_may_be_uuids(shop: Shop) -> None:
    """Their spelling does not matter: they are values."""
    shop.write(lambda s: s.add_all([Token(id=FIRST), Token(id=OTHER)]))
    path = await shop.stored(lambda s: s.get(Token, FIRST))
    shop.write(lambda s: s.execute(delete(Token).where(Token.id == OTHER)))
    assert await shop.is_hit(path)
    shop.write(lambda s: s.execute(delete(Token).where(Token.id == FIRST)))
    assert not await shop.is_hit(path)


async def test_two_tables_are_no_row(shop: Shop) -> None:
    """A lazy load in the same transaction reads its table."""
    path = await shop.stored(lambda s: s.get(Order, 1).customer)
    shop.write(lambda s: s.execute(update(Customer).where(Customer.id == 2).values(name="new")))
    assert not await shop.is_hit(path)


async def test_a_row_behind_another_statement_is_its_table(shop: Shop) -> None:
    """Then the transaction may show what was there before the row's token was read."""

    def read(session: Session) -> Any:
        session.scalars(select(Line)).all()
        return session.get(Order, 1)

    path = await shop.stored(read)
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 2).values(total=5)))
    assert not await shop.is_hit(path)


async def test_many_rows_are_their_table(shop: Shop) -> None:
    """The number of tokens of a response is bounded, and so are the round trips."""

    def read(session: Session) -> Any:
        found = []
        for number in range(1, 8):
            found.append(session.get(Order, number))
            session.commit()
        return found

    path = await shop.stored(read)
    shop.write(lambda s: s.execute(update(Order).where(Order.id == 50).values(total=5)))
    assert not await shop.is_hit(path)


async def test_a_row_that_is_changed_between_its_token_and_its_read_is_not_stored(
    shop: Shop,
) -> None:
    """The token is read first, so that the response is worthless."""
    path = "/read"
    late = [True]

    def read(session: Session) -> Any:
        if late[0]:
            shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=5)))
        shown = session.get(Order, 1).total
        if late[0]:
            shop.write(lambda s: s.execute(update(Order).where(Order.id == 1).values(total=6)))
        return shown

    shop.at(path, shop.in_session(read))
    await shop.status(path)
    late[0] = False
    assert not await shop.is_hit(path)
    assert await shop.is_hit(path)
