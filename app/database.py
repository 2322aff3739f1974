"""The database: the engine, its sessions, and the first start."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

import aiosqlite
from fastapi import Depends, Request
from sqlalchemy import event, func, insert, inspect, select
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from app.models import Base, Item
from app.seed import seed_items
from maxage.sqlalchemy import instrument

# Any number that no other program uses for an advisory lock.
FIRST_START_LOCK = 6_297_729


async def _opened_sqlite(*args: Any, **more: Any) -> aiosqlite.Connection:
    """Open a file; if that fails, join its thread, which may otherwise outlive the loop."""
    connection = aiosqlite.connect(*args, **more)
    # As SQLAlchemy does it; before aiosqlite 0.22 the connection itself is the thread.
    thread: Any = getattr(connection, "_thread", connection)
    thread.daemon = True
    try:
        return await connection
    except sqlite3.Error:
        await asyncio.to_thread(thread.join)
        raise


class DatabaseUnavailableError(Exception):
    """The database cannot be opened; the message is one sentence, without a password."""


class Database:
    """The engine and its sessions; it connects at its first use."""

    def __init__(self, url: URL, *, purges: bool = True) -> None:
        self.url = url
        is_sqlite = url.drivername.startswith("sqlite")
        # SQLite has one writer at a time; the others wait this long for their turn.
        options = {"timeout": 15, "async_creator_fn": _opened_sqlite} if is_sqlite else {}
        self.engine = create_async_engine(url, connect_args=options, pool_pre_ping=not is_sqlite)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self.engine.sync_engine, "do_connect", self._connect)
        if purges:
            # A commit purges what was read from its tables, also a commit of a script.
            instrument(self.engine)

    def _connect(self, dialect: Dialect, _record: Any, positional: Any, named: Any) -> Any:
        """Connect; turn any error of the driver or the network into `DatabaseUnavailableError`."""
        try:
            return dialect.connect(*positional, **named)
        except Exception as error:
            raise self._unavailable(error) from error

    async def prepare(self) -> None:
        """Create the tables with example items at the first start.

        Raises:
            DatabaseUnavailableError: the database cannot be opened, or not be written.
        """
        try:
            async with self._alone() as connection:
                had_items = await connection.run_sync(lambda sync: inspect(sync).has_table("items"))
                await connection.run_sync(Base.metadata.create_all)
                # Only together with the table: an operator who deletes all items wants none.
                if not had_items:
                    await connection.execute(insert(Item), seed_items())
        except SQLAlchemyError as error:
            raise self._unavailable(error) from error

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction that only one of the starting workers holds at a time."""
        if self.engine.dialect.name == "sqlite":
            async with self.engine.connect() as connection:
                # The driver's own BEGIN would take the lock only at the first write, too late.
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    await connection.exec_driver_sql("ROLLBACK")
                    raise
                await connection.exec_driver_sql("COMMIT")
        else:
            async with self.engine.begin() as connection:
                await connection.execute(select(func.pg_advisory_xact_lock(FIRST_START_LOCK)))
                yield connection

    def _unavailable(self, error: Exception) -> DatabaseUnavailableError:
        cause = str(getattr(error, "orig", None) or error) or type(error).__name__
        url = self.url.render_as_string(hide_password=True)
        reason = " ".join(cause.split()).rstrip(".")
        return DatabaseUnavailableError(f"The database {url} cannot be opened: {reason}.")

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def get_database(request: Request) -> Database:
    """Return the application's database."""
    return cast("Database", request.app.state.database)


async def get_session(
    database: Annotated[Database, Depends(get_database)],
) -> AsyncGenerator[AsyncSession]:
    """Open a session for one request.

    It does not commit: handlers commit before they return. FastAPI runs the code behind the `yield`
    after the answer was sent, so that a commit here would come after the answer and the purge, and
    other requests could store the old row again in between.
    """
    async with database.sessions() as session:
        yield session


DatabaseDep = Annotated[Database, Depends(get_database)]
SessionDep = Annotated[AsyncSession, Depends(get_session)]
