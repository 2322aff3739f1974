"""A request in an access log."""

from datetime import datetime
from functools import lru_cache
from math import isfinite
from typing import Final, final

from msgspec import Struct

from maxage.rfc9111.message import HeaderList

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


@final
class MalformedLineError(ValueError):
    """Raised for a line without a request; the message names the missing part."""


@final
class LoggedRequest(Struct, frozen=True, kw_only=True, gc=False):
    """One line of a log."""

    time: float
    """POSIX seconds."""
    method: str
    """In capitals."""
    target: str
    """Path and query, as the client sent them."""
    status: int
    size: int = 0
    """Bytes of the answer."""
    seconds: float | None = None
    """How long the answer took; None: the log does not have it."""
    host: str = ""
    """Empty: the log does not have it."""
    has_user: bool = False
    """Whether the log names a user, so that the request had credentials."""
    request_headers: HeaderList = ()
    """Those in the log; names in lower case."""
    response_headers: HeaderList = ()


def request_line(line: str) -> tuple[str, str]:
    """Return method and target of a request line such as `GET /items HTTP/1.1`.

    Raises:
        MalformedLineError: it is none; a client sent TLS to a plain port, for example.
    """
    method, _, rest = line.partition(" ")
    target = rest.rpartition(" ")[0] if rest.rpartition(" ")[2].startswith("HTTP/") else rest
    return checked_method(method), checked_target(target)


def checked_method(method: str) -> str:
    """Return a method in capitals.

    Raises:
        MalformedLineError: it is none.
    """
    if not (method.isascii() and method.replace("-", "").isalpha()):
        raise MalformedLineError("no method")
    return method.upper()


def checked_target(target: str) -> str:
    """Return path and query of a target, which may be a whole URL.

    Raises:
        MalformedLineError: it has no path.
    """
    if not target.startswith("/"):
        _, scheme, rest = target.partition("://")
        if target == "*":
            return target
        if not scheme:
            raise MalformedLineError("no path")
        target = "/" + rest.partition("/")[2]
    return target.partition("#")[0]


def checked_status(status: object) -> int:
    """Return a status.

    Raises:
        MalformedLineError: it is none.
    """
    text = str(status)
    if not (len(text) == 3 and text.isascii() and text.isdecimal() and text >= "100"):
        raise MalformedLineError("no status")
    return int(text)


def finite_number(value: object) -> float | None:
    """Return a number, also of its text; None where it is none or has no bound."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


@lru_cache(maxsize=64)
def clf_seconds(text: str) -> float:
    """Return the POSIX seconds of a time such as `10/Oct/2026:13:55:36 -0700`.

    Raises:
        MalformedLineError: it is none.
    """
    try:
        day, month, year = int(text[:2]), _MONTHS[text[3:6]], int(text[7:11])
        iso = f"{year:04}-{month:02}-{day:02}T{text[12:20]}{text[21:] or '+0000'}"
        return datetime.fromisoformat(iso).timestamp()
    except (KeyError, ValueError, OverflowError):
        raise MalformedLineError("no time") from None
