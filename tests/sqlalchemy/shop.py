"""A shop on SQLite whose answers are cached: its tables, and reads and writes by any function."""

from collections.abc import Callable
from inspect import isawaitable
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
)

from maxage import CacheMiddleware, CacheSettings
from maxage.sqlalchemy import instrument
from tests.support.asgi import Receive, Scope, Send, call
from tests.support.caching import cache_of, status_of


class Base(DeclarativeBase):
    """The tables."""


class Customer(Base):
    """Has orders, which go with it."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", passive_deletes=True)


class Order(Base):
    """Belongs to a customer, and has lines."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)
    customer_id: Mapped[int | None] = mapped_column(
        ForeignKey(Customer.id, ondelete="CASCADE"), default=None
    )
    customer: Mapped[Customer | None] = relationship(back_populates="orders")


class Line(Base):
    """Goes with its order; its note stays when the line goes."""

    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id, ondelete="CASCADE"))


class Note(Base):
    """Loses its line when that is deleted."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int | None] = mapped_column(ForeignKey(Line.id, ondelete="SET NULL"))


class Person(Base):
    """The base of an inheritance with a table for each class."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_identity": "person", "polymorphic_on": "kind"}


class Clerk(Person):
    """A person with a column in a table of its own."""

    __tablename__ = "clerks"
    id: Mapped[int] = mapped_column(ForeignKey(Person.id), primary_key=True)
    desk: Mapped[int] = mapped_column(default=0)
    __mapper_args__: ClassVar = {"polymorphic_identity": "clerk"}


class Ledger(Base):
    """Shows another table in a column property."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(primary_key=True)


Ledger.latest = column_property(select(Order.id).limit(1).correlate(None).scalar_subquery())


class Node(Base):
    """Goes with its parent, which is in the same table."""

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"))


class Token(Base):
    """Has a UUID for its key."""

    __tablename__ = "tokens"
    id: Mapped[UUID] = mapped_column(primary_key=True)


class Shop:
    """The tables on SQLite, with one of each row, and an application whose answers are cached.

    Args:
        folder: for the database's file.
        options: of the engine.
        settings: of the cache.
    """

    def __init__(self, folder: Path, *, name: str | None = None, **settings: Any) -> None:
        self.url = f"sqlite:///{folder}/shop.db"
        self.engine = self.connected(name=name)
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as session:
            session.add(Customer(id=1, orders=[Order(id=1)]))
            session.flush()
            session.add_all([Line(id=1, order_id=1), Clerk(id=1), Ledger(id=1)])
            session.flush()
            session.add(Note(id=1, line_id=1))
            session.commit()
        if "redis_url" in settings:
            self.middleware = CacheMiddleware(self._answer, CacheSettings(**settings))
        else:
            self.middleware = cache_of(self._answer, **settings)
        self._handlers: dict[str, Callable[[], Any]] = {}

    def connected(
        self, *, name: str | None = None, triggers: Any = MappingProxyType({}), **options: Any
    ) -> Engine:
        """Return another instrumented engine on the file, with foreign keys."""
        engine = create_engine(self.url, **options)
        event.listen(engine, "connect", _with_foreign_keys)
        instrument(engine, name=name, triggers=triggers)
        return engine

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint"] = self
        handler = self._handlers[scope["path"]]
        answer = handler()
        if isawaitable(answer):
            answer = await answer
        body = repr(answer).encode()
        headers = [(b"cache-control", b"max-age=60"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # reads

    async def stored(self, read: Callable[[Session], Any], path: str = "/read") -> str:
        """Let a path answer what a function reads, until that is stored; return the path."""
        self.at(path, self.in_session(read))
        return await self.kept(path)

    async def kept(self, path: str) -> str:
        """Ask until the answer is stored; return the path."""
        for _ in range(4):
            if await self.is_hit(path):
                return path
        raise AssertionError(await self.status(path))

    def in_session(self, work: Callable[[Session], Any]) -> Callable[[], Any]:
        """Return a handler that does work in a session of its own, which ends with it."""

        def handle() -> Any:
            with Session(self.engine) as session:
                return work(session)

        return handle

    def at(self, path: str, handler: Callable[[], Any]) -> None:
        """Let a handler answer at a path."""
        self._handlers[path] = handler

    async def status(self, path: str, method: str = "GET") -> str:
        """Ask, and return the Cache-Status."""
        return status_of(await call(self.middleware, method, path)).decode()

    async def is_hit(self, path: str) -> bool:
        """Ask, and return whether a stored response answered."""
        return "hit" in (await self.status(path)).split("; ")

    # writes

    def write(self, work: Callable[[Session], Any]) -> None:
        """Do work in a session, as a script does, and commit."""
        with Session(self.engine) as session:
            work(session)
            session.commit()


def _with_foreign_keys(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=OFF")
