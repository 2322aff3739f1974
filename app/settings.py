"""The application's own settings; those of the cache are `maxage.CacheSettings`."""

from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from maxage import SettingsError

TAKES = {
    "ADMIN_TOKEN": "16 or more characters",
    "DATABASE_URL": "sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME",
    "HOST": "an address to listen on, such as 127.0.0.1",
    "PORT": "a whole number from 1 to 65535",
    "WEB_CONCURRENCY": "a whole number of processes from 1 to 64",
}
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class AppSettings(BaseSettings):
    """Settings of the application: read from keywords, then the environment, then `.env`.

    Raises:
        SettingsError: a value is wrong; one sentence names the setting and the accepted values.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: str = Field(default="sqlite:///monitorpy.db", repr=False)
    """Where the items are kept: `sqlite:///PATH` or `postgresql://...`."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """The address that `./run` listens on."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The port that `./run` listens on."""
    web_concurrency: int = Field(default=1, ge=1, le=64)
    """How many processes `./run` serves with. More than one need a REDIS_URL in common."""

    admin_token: SecretStr | None = Field(default=None, repr=False)
    """The token of the page at /cache; without one there is no page, and `./run` makes one."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise refused(str(first["loc"][0]).upper(), str(first.get("input"))) from None

    @field_validator("database_url")
    @classmethod
    def _can_be_right(cls, value: str) -> str:
        database_url(value)
        return value

    @property
    def database(self) -> URL:
        """The database's URL with the asynchronous driver that the application brings."""
        return database_url(self.database_url)


def database_url(text: str) -> URL:
    """Parse a URL as hosting services spell it.

    Raises:
        ValueError: it cannot be parsed, or names a database that we have no driver for.
    """
    try:
        url = make_url(text.strip())
        drivername = DRIVERS[url.drivername]
    except (ArgumentError, KeyError) as error:
        raise ValueError("no database of ours") from error
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name, known to every hosting service but not to asyncpg
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername=drivername, query=query)


def refused(name: str, got: str) -> SettingsError:
    """Say in one sentence which setting cannot be right, what it got and what it takes."""
    return SettingsError(f"{name} got {masked(got)!r}; it takes {TAKES[name]}.")


def masked(url: str) -> str:
    """Return a URL without whatever may be a password, even where it cannot be parsed."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at else url
