"""Assertions about writes: does this write purge that read?

By the application's routes, where no handler runs:

    assert_invalidates(app, "PUT /items/5", "GET /items?page=2")

or on real requests, of TestClient or another client; an asynchronous one has to be awaited:

    assert_invalidates(client, "PUT", "/items/5", json={"name": "Kettle"}, reads=["/items"])
    await assert_invalidates(client, "DELETE", "/items/5", reads=["/items", "/items/5"])
"""

from collections.abc import Awaitable, Generator, Sequence
from inspect import isawaitable
from typing import Any, Final, Protocol, cast, overload
from urllib.parse import urlsplit

from maxage.testing.routes import (
    check_route_does_not_invalidate,
    check_route_invalidates,
    groups_told,
)
from maxage.testing.told import Answer, Told, told_by

_SHOWN: Final = 500
"""Characters of an answer's body that a message shows."""


class Client(Protocol):
    """Starlette's TestClient, `httpx.Client` and their like."""

    def request(self, method: str, url: str, /) -> Answer:
        """Return the response."""
        ...


class AsyncClient(Protocol):
    """`httpx.AsyncClient` and its like."""

    async def request(self, method: str, url: str, /) -> Answer:
        """Return the response."""
        ...


_Steps = Generator[tuple[str, str, dict[str, Any]], Answer, None]
"""Yields requests, and is sent their answers."""


@overload
def assert_invalidates(app: Any, write: str, read: str, /) -> None: ...
@overload
def assert_invalidates(
    client: AsyncClient, method: str, url: str, /, *, reads: Sequence[str], **options: Any
) -> Awaitable[None]: ...
@overload
def assert_invalidates(
    client: Client, method: str, url: str, /, *, reads: Sequence[str], **options: Any
) -> None: ...
def assert_invalidates(
    app: Any, write: str, read: str, /, *, reads: Sequence[str] | None = None, **options: Any
) -> Awaitable[None] | None:
    """Fail unless a mutating request purges stored responses.

    With `reads=` requests are made: each read twice, so that the cache answers it; the write; each
    read again, which the application has to answer. Without, the application's routes decide.

    Args:
        app: the application; with `reads=` a client of it.
        write: the mutating request, such as `PUT /items/5`; with `reads=` its method.
        read: the read, such as `GET /items?page=2`; with `reads=` the URL of the write.
        reads: URLs of reads.
        options: of the client, for the write: `json=`, `headers=` and so on.

    Returns:
        What has to be awaited, for an asynchronous client.

    Raises:
        AssertionError: a read is not purged, is not stored to begin with, or the write failed; or
            the application has no such route.
    """
    __tracebackhide__ = True
    if reads is None:
        check_route_invalidates(app, write, read)
        return None
    return _made(app, _steps(app, (write, read, options), reads, purges=True))


@overload
def assert_does_not_invalidate(app: Any, write: str, read: str, /) -> None: ...
@overload
def assert_does_not_invalidate(
    client: AsyncClient, method: str, url: str, /, *, reads: Sequence[str], **options: Any
) -> Awaitable[None]: ...
@overload
def assert_does_not_invalidate(
    client: Client, method: str, url: str, /, *, reads: Sequence[str], **options: Any
) -> None: ...
def assert_does_not_invalidate(
    app: Any, write: str, read: str, /, *, reads: Sequence[str] | None = None, **options: Any
) -> Awaitable[None] | None:
    """Fail if a mutating request purges stored responses; see `assert_invalidates`.

    Raises:
        AssertionError: a read is purged, is not stored to begin with, or the write failed; or the
            application has no such route.
    """
    __tracebackhide__ = True
    if reads is None:
        check_route_does_not_invalidate(app, write, read)
        return None
    return _made(app, _steps(app, (write, read, options), reads, purges=False))


def _steps(
    client: Any, write: tuple[str, str, dict[str, Any]], reads: Sequence[str], *, purges: bool
) -> _Steps:
    """Make the requests, and judge their answers."""
    __tracebackhide__ = True
    named = f"{write[0].upper()} {write[1]}"
    for read in reads:
        yield "GET", read, {}
        told = told_by((yield "GET", read, {}))
        if not told.is_hit:
            raise AssertionError(f"GET {read} is no hit even before {named}.\n{told.why()}")
    answer = yield write
    if answer.status_code >= 400:
        said = str(getattr(answer, "text", ""))[:_SHOWN]
        raise AssertionError(f"{named} answered {answer.status_code}: is nothing written?\n{said}")
    for read in reads:
        told = told_by((yield "GET", read, {}))
        if told.is_hit is purges:
            raise AssertionError(_judged(client, named, read, told, purges=purges))


def _judged(client: Any, write: str, read: str, told: Told, *, purges: bool) -> str:
    said = "does not invalidate" if purges else "invalidates"
    lines = [f"{write} {said} GET {read}.", told.why()]
    app = _application(client)
    if app is not None:
        paths = (f"{line.partition(' ')[0]} {_target(line)}" for line in (write, f"GET {read}"))
        lines += ["By the routes:", groups_told(app, *paths)]
    return "\n".join(lines)


def _application(client: Any) -> Any:
    """Return the application of TestClient, or of httpx's transport; None: another client."""
    found = getattr(client, "app", None)
    return found or getattr(getattr(client, "_transport", None), "app", None)


def _target(line: str) -> str:
    """Return path and query of a request's URL, which may be absolute."""
    parts = urlsplit(line.partition(" ")[2])
    return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"


def _made(client: Any, steps: _Steps) -> Awaitable[None] | None:
    """Make the requests with a client of either kind."""
    __tracebackhide__ = True
    method, url, options = next(steps)
    answer = client.request(method, url, **options)
    if isawaitable(answer):
        return _awaited(client, steps, cast("Awaitable[Answer]", answer))
    while True:
        try:
            method, url, options = steps.send(answer)
        except StopIteration:
            return None
        answer = client.request(method, url, **options)


async def _awaited(client: Any, steps: _Steps, answer: Awaitable[Answer]) -> None:
    __tracebackhide__ = True
    while True:
        try:
            method, url, options = steps.send(await answer)
        except StopIteration:
            return
        answer = client.request(method, url, **options)
