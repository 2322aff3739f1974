"""The tables."""

import enum
from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class CheckKind(enum.StrEnum):
    """How a target is checked."""

    HTTP = "http"
    TCP = "tcp"
    DNS = "dns"
    PING = "ping"


class Environment(enum.StrEnum):
    """Whom an outage of the target concerns."""

    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: stored in UTC, and read with its offset, which SQLite forgets."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn any offset into UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the offset back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """The application's tables."""


class Item(Base):
    """One thing that is monitored."""

    __tablename__ = "items"
    # The id of a deleted item is never given to another one.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    # SQLite numbers rows by itself only where the type is exactly INTEGER.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    description: Mapped[str] = mapped_column(String(2000))
    kind: Mapped[str] = mapped_column(String(16), index=True)
    target: Mapped[str] = mapped_column(String(500))
    environment: Mapped[str] = mapped_column(String(16), index=True)
    interval_seconds: Mapped[int]
    timeout_seconds: Mapped[int]
    enabled: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Import(Base):
    """How far an import of items is."""

    __tablename__ = "imports"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    total: Mapped[int]
    done: Mapped[int]
    missing: Mapped[int]
