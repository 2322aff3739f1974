"""Noted values: a scope, and its entries, that note the application's reads.

Each is of the kind of the value that it replaces. A header's name notes each comparison:
so a header that is asked for and absent is known too. Starlette's way to the cookies of a request
is replaced while there is an audit.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final, final

from starlette.requests import HTTPConnection

from maxage.asgi.types import Scope
from maxage.audit.notes import COOKIES, HEADERS, Notes

SLOTS: Final = frozenset({"client", "user", "auth", "session"})
"""Entries of the scope that are inputs."""

_RESOURCES: Final = frozenset({
    "aioboto3", "aiohttp", "aiokafka", "aiosqlite", "anyio", "asyncio", "asyncpg", "boto3",
    "botocore", "databases", "elasticsearch", "fastapi", "httpx", "kafka", "logging", "loguru",
    "motor", "opentelemetry", "psycopg", "psycopg2", "pymongo", "redis", "sqlalchemy", "sqlmodel",
    "starlette", "structlog", "tortoise", "types",
})  # fmt: skip
"""Packages whose objects are tools, and no data of a request."""
_REPLACED: Final = frozenset({"headers", "client", "state"})


@final
class NotedName(bytes):
    """The name of a header line, which notes the names that it is compared with."""

    notes: Notes
    is_first: bool
    """Whether it is the name of the first line. A search for a name begins there, so that the
    others note their own names only."""

    @classmethod
    def of(cls, name: bytes, notes: Notes, *, is_first: bool) -> "NotedName":
        """Return the name with its notes."""
        made = cls(name)
        made.notes, made.is_first = notes, is_first
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, bytes):
            return NotImplemented
        is_equal = bytes.__eq__(self, other)
        if (self.is_first or is_equal) and not isinstance(other, NotedName):
            self.notes.note(f"header:{other.lower().decode('latin-1')}")
        return is_equal

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = bytes.__hash__

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text; the caller sees all names."""
        self.notes.note_whole(HEADERS)
        return bytes.decode(self, encoding, errors)

    def lower(self) -> "NotedName":
        """Return the name in lower case."""
        return NotedName.of(bytes.lower(self), self.notes, is_first=self.is_first)


@final
class NotedLines(list[tuple[bytes, bytes]]):
    """The header lines of a scope."""

    notes: Notes

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate; a caller that compares no names reads all of them."""
        self.notes.note_loop()
        return super().__iter__()


@final
class NotedState(dict[str, Any]):
    """The state of a scope, which notes reads of values that layers around the cache have set."""

    def __init__(self, state: dict[str, Any], notes: Notes, given: Collection[str]) -> None:
        super().__init__(state)
        self._notes = notes
        self._given = set(given)

    def __getitem__(self, key: str) -> Any:
        if key in self._given:
            self._notes.note(f"state:{key}")
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def __setitem__(self, key: str, value: Any) -> None:
        self._given.discard(key)
        super().__setitem__(key, value)


@final
class NotedClient(tuple[Any, ...]):  # noqa: SLOT001 - a tuple's subclass takes no slots
    """The client's address and port; copies of the scope share it."""

    notes: Notes

    def __iter__(self) -> Iterator[Any]:
        """Iterate over address and port."""
        self.notes.note("client")
        return super().__iter__()

    def __getitem__(self, key: Any) -> Any:
        self.notes.note("client")
        return super().__getitem__(key)


@final
class NotedCookies(dict[str, str]):
    """The cookies of a request."""

    notes: Notes

    def __getitem__(self, key: str) -> str:
        self.notes.note(f"cookie:{key}")
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.notes.note(f"cookie:{key}")
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a cookie, or the default."""
        self.notes.note(f"cookie:{key}")
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        self.notes.note_whole(COOKIES)
        return super().__iter__()

    def keys(self) -> Any:
        """Return all names."""
        self.notes.note_whole(COOKIES)
        return super().keys()

    def items(self) -> Any:
        """Return all cookies."""
        self.notes.note_whole(COOKIES)
        return super().items()

    def values(self) -> Any:
        """Return all values."""
        self.notes.note_whole(COOKIES)
        return super().values()


@final
class NotedScope(dict[str, Any]):
    """The scope of one request, which notes reads of its entries.

    Args:
        scope: as it arrived.
        notes: of the request.
        lifespan: the state that the lifespan made; it is the same for all requests.
    """

    def __init__(self, scope: Scope, notes: Notes, lifespan: Scope) -> None:
        super().__init__(scope)
        self.notes: Final = notes
        self["headers"] = [
            (NotedName.of(name, notes, is_first=number == 0), value)
            for number, (name, value) in enumerate(scope["headers"])
        ]
        if (client := scope.get("client")) is not None:
            noted = NotedClient(client)
            noted.notes = notes
            self["client"] = noted
        if (state := scope.get("state")) is not None:
            given = [key for key, value in state.items() if not _is_shared(key, value, lifespan)]
            self["state"] = NotedState(state, notes, given)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "headers":
            # Starlette puts a plain list in the place of each other one.
            value = NotedLines(value)
            value.notes = self.notes
        super().__setitem__(key, value)

    def peek(self, key: str) -> Any:
        """Return an entry, or None, and note nothing."""
        return super().get(key)

    def __getitem__(self, key: str) -> Any:
        if key in SLOTS:
            self.notes.note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return an entry, or the default."""
        if key in SLOTS:
            self.notes.note(key)
        return super().get(key, default)

    def give_back(self, scope: Scope) -> None:
        """Write the entries that the application has set into the scope of the layers outside."""
        for key, value in self.items():
            if key not in _REPLACED:
                scope[key] = value
        if isinstance(state := self.peek("state"), NotedState) and "state" in scope:
            scope["state"].update(state)


def _is_shared(key: str, value: object, lifespan: Scope) -> bool:
    """Return whether a value of the state is a tool, such as a session of a database."""
    package = type(value).__module__.partition(".")[0]
    return package in _RESOURCES or (key in lifespan and lifespan[key] is value)


def notes_in(scope: Scope) -> Notes | None:
    """Return the notes that a scope, or a copy of one, belongs to."""
    if isinstance(scope, NotedScope):
        return scope.notes
    lines = scope.get("headers", ())
    if isinstance(lines, NotedLines):
        return lines.notes
    return next((name.notes for name, _ in lines if isinstance(name, NotedName)), None)


_COOKIES: Final = "cookies"
_cookies: Final[Any] = HTTPConnection.cookies


def _noted_cookies(connection: HTTPConnection[Any]) -> dict[str, str]:
    """Return the cookies of a request, which note their reads."""
    notes = notes_in(connection.scope)
    if notes is None:
        plain: dict[str, str] = _cookies.fget(connection)
        return plain
    was_silent, notes.is_silent = notes.is_silent, True
    found: dict[str, str] = _cookies.fget(connection)
    notes.is_silent = was_silent
    if not isinstance(found, NotedCookies):
        # Starlette remembers them there.
        found = vars(connection)["_cookies"] = NotedCookies(found)
        found.notes = notes
    return found


def note_cookies(*, on: bool) -> None:
    """Replace Starlette's way to the cookies of a request, or put it back."""
    setattr(HTTPConnection, _COOKIES, property(_noted_cookies) if on else _cookies)
