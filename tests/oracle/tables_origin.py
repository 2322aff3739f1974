"""The application that the oracle asks about tables: reads share tables with writes, and no paths.

Each read says that it is isolated, so that no write purges it by its path, nor as an orphan: only
commits do, by the tables and rows that they change. All lies in one SQLite file, in WAL mode.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import Engine, ForeignKey, create_engine, event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from maxage import CacheMiddleware, CacheSettings, cached
from maxage.sqlalchemy import instrument

FILE = os.environ["TABLES_FILE"]
ROWS = 8


class Base(DeclarativeBase):
    """The tables."""


class Account(Base):
    """Its version only grows."""

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)


class Card(Base):
    """Shows the version of its account, in another table."""

    __tablename__ = "cards"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id))
    account: Mapped[Account] = relationship()


def opened(engine: Engine) -> None:
    """Let an engine wait for its turn and not for the disk, and instrument it."""

    def connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", connected)
    if os.environ.get("TABLES_INSTRUMENTED", "1") == "1":
        instrument(engine)


def prepare() -> None:
    """Make the file with its rows; one process does so before the others start."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Account(id=number) for number in range(ROWS))
        session.flush()
        session.add_all(Card(id=number, account_id=number) for number in range(ROWS))
        session.commit()


def raised(session: Session, row: int, how: str) -> int:
    """Raise an account's version by one way to write or another, and return it."""
    if how == "text":
        session.execute(
            text("UPDATE accounts SET version = version + 1 WHERE id = :id"), {"id": row}
        )
    elif how == "flush":
        # The lock comes before the read, which would otherwise show an old snapshot.
        session.connection().exec_driver_sql("UPDATE cards SET id = id WHERE id = -1")
        session.get_one(Account, row).version += 1
        session.flush()
    else:
        session.execute(
            update(Account).where(Account.id == row).values(version=Account.version + 1)
        )
    return session.scalars(select(Account.version).where(Account.id == row)).one()


engine = create_engine(f"sqlite:///{FILE}")
async_engine = create_async_engine(f"sqlite+aiosqlite:///{FILE}")
opened(engine)
opened(async_engine.sync_engine)
chance = random.Random(os.getpid())
isolated = cached(ttl=300, isolated=True)
app = FastAPI()


def session() -> Iterator[Session]:
    """A session for one request, which its handler commits."""
    with Session(engine) as opened_session:
        yield opened_session


async def late_session() -> AsyncIterator[AsyncSession]:
    """A session that is committed after the answer was sent, as many applications do."""
    async with AsyncSession(async_engine) as opened_session:
        yield opened_session
        await asyncio.sleep(chance.random() * 0.01)
        await opened_session.commit()


Sync = Annotated[Session, Depends(session)]
Late = Annotated[AsyncSession, Depends(late_session)]


def shown(path: str, version: int) -> dict[str, int | str]:
    """The body of an answer."""
    return {"path": path, "version": version}


@app.get("/profile/{row}")
@isolated
def by_key(row: int, session: Sync) -> dict[str, int | str]:
    """Read one row by its key, in a thread."""
    return shown(f"/profile/{row}", session.get_one(Account, row).version)


@app.get("/wallet/{row}")
@isolated
async def by_join(row: int) -> dict[str, int | str]:
    """Read a row of another table, and take a while until its account is loaded."""
    async with AsyncSession(async_engine) as session:
        card = await session.get_one(Card, row)
        await asyncio.sleep(chance.choice((0, 0, 0.002, 0.01)))
        account = await session.run_sync(lambda _: card.account)
        return shown(f"/wallet/{row}", account.version)


@app.get("/statement/{row}")
@isolated
def by_text(row: int, session: Sync) -> dict[str, int | str]:
    """Read a row by SQL text."""
    found = session.execute(text("SELECT version FROM accounts WHERE id = :id"), {"id": row})
    return shown(f"/statement/{row}", found.scalar_one())


@app.get("/dashboard")
@isolated
async def in_sum() -> dict[str, int | str]:
    """Read the sum of all versions."""
    async with AsyncSession(async_engine) as session:
        total = await session.scalar(select(func.sum(Account.version)))
        await asyncio.sleep(chance.choice((0, 0.003)))
        return shown("/dashboard", total or 0)


@app.put("/pay/{row}/{how}")
def write(row: int, how: str, session: Sync) -> dict[str, int]:
    """Commit in a thread, then answer."""
    version = raised(session, row, how)
    session.commit()
    return {"version": version}


@app.put("/adjust/{row}/{how}")
async def write_async(row: int, how: str) -> dict[str, int]:
    """Commit on the event loop, then answer."""
    async with AsyncSession(async_engine) as session:
        version = await session.run_sync(raised, row, how)
        await session.commit()
        await asyncio.sleep(chance.choice((0, 0.004)))
    return {"version": version}


@app.put("/nested/{row}/{how}")
def write_nested(row: int, how: str, session: Sync) -> dict[str, int]:
    """Commit after a savepoint that is rolled back and one that is kept."""
    with session.begin_nested() as savepoint:
        raised(session, row, how)
        savepoint.rollback()
    with session.begin_nested():
        version = raised(session, row, how)
    session.commit()
    return {"version": version}


@app.patch("/late/{row}/{how}")
async def write_late(row: int, how: str, session: Late) -> dict[str, bool]:
    """Answer, then commit."""
    await session.run_sync(raised, row, how)
    return {"late": True}


@app.patch("/undone/{row}/{how}")
def write_nothing(row: int, how: str, session: Sync) -> dict[str, bool]:
    """Write, and take it back."""
    raised(session, row, how)
    session.rollback()
    return {"late": True}


app.add_middleware(CacheMiddleware, settings=CacheSettings())
