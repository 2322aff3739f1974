"""Parts (206) on their way through: stored, cut, completed, never mixed."""

from dataclasses import dataclass, field

import pytest

from maxage.invalidation.dependencies import current_dependencies
from tests.support.asgi import Receive, Recorded, Scope, Send, call, read_body
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio

HEAD_OF_IT = {"range": "bytes=0-3"}


@dataclass(slots=True, kw_only=True)
class RangeApp:
    """Serves `content` whole or from one position to another, as asked."""

    content: bytes = b"0123456789"
    etag: bytes | None = b'"v1"'
    cut: int = 0
    """Bytes that the body lacks in the end."""
    declared: bool = True
    """Whether Content-Length is sent."""
    reads: str | None = None
    """A group that the handler reads through the typed cache, where it has a token."""
    token: bytes = b""
    asked: list[bytes | None] = field(default_factory=list[bytes | None])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; If-Range is compared like any application would."""
        await read_body(receive)
        noted = current_dependencies.get()
        if self.reads is not None and noted is not None:
            noted.depend(self.reads, self.token)
        lines = dict(scope["headers"])
        wanted, if_range = lines.get(b"range"), lines.get(b"if-range")
        self.asked.append(wanted)
        headers = [(b"cache-control", b"max-age=60")]
        if self.etag is not None:
            headers.append((b"etag", self.etag))
        status, body = 200, self.content
        if wanted is not None and if_range in (None, self.etag):
            first, _, last = wanted.removeprefix(b"bytes=").partition(b"-")
            start, end = int(first), int(last or len(body) - 1)
            status, body = 206, self.content[start : end + 1]
            place = b"bytes %d-%d/%d" % (start, end, len(self.content))
            headers.append((b"content-range", place))
        if self.declared:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body[: len(body) - self.cut]})


def seen(answer: Recorded) -> tuple[int, bytes]:
    """Status and body."""
    return answer.status, answer.body


async def test_by_default_each_part_comes_from_the_application() -> None:
    """Parts pass through untouched."""
    app = RangeApp()
    middleware = cache_of(app, cache_store_partial=False)
    for _ in range(2):
        assert seen(await call(middleware, headers=HEAD_OF_IT)) == (206, b"0123")
    assert len(app.asked) == 2


async def test_a_stored_part_answers_what_lies_within_it() -> None:
    """The handler runs for what it does not hold."""
    app = RangeApp()
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    within = await call(middleware, headers={"range": "bytes=1-2"})
    assert seen(within) == (206, b"12")
    assert within.header("content-range") == b"bytes 1-2/10"
    assert b"hit" in (within.header("cache-status") or b"")
    assert seen(await call(middleware, headers={"range": "bytes=2-5"})) == (206, b"2345")
    assert app.asked == [b"bytes=0-3", b"bytes=2-5"]


async def test_a_stored_beginning_is_completed_for_who_asks_for_the_whole() -> None:
    """Only the rest is asked for, the client gets all of it, and the next one a hit."""
    app = RangeApp()
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    whole = await call(middleware)
    assert seen(whole) == (200, b"0123456789")
    assert whole.header("content-length") == b"10"
    assert whole.header("content-range") is None
    assert b"fwd=partial; fwd-status=206; stored" in (whole.header("cache-status") or b"")
    hit = await call(middleware)
    assert seen(hit) == (200, b"0123456789")
    assert app.asked == [b"bytes=0-3", b"bytes=4-"]


async def test_another_version_of_the_rest_is_never_appended() -> None:
    """If-Range makes the application send the new version whole."""
    app = RangeApp()
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    app.content, app.etag = b"abcdefghij", b'"v2"'
    assert seen(await call(middleware)) == (200, b"abcdefghij")
    assert app.asked == [b"bytes=0-3", b"bytes=4-"]


async def test_without_a_validator_the_whole_is_asked_for_when_a_part_comes() -> None:
    """A beginning and a rest that nothing ties together are not combined."""
    app = RangeApp(etag=None)
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    app.content = b"abcdefghij"
    assert seen(await call(middleware)) == (200, b"abcdefghij")
    assert app.asked == [b"bytes=0-3", b"bytes=4-", None]
    assert seen(await call(middleware)) == (200, b"abcdefghij")
    assert len(app.asked) == 3


@pytest.mark.parametrize("declared", [True, False])
async def test_a_part_that_came_cut_answers_nothing(declared: bool) -> None:
    """Its Content-Length, or where there is none its Content-Range, promised more."""
    app = RangeApp(cut=1, declared=declared)
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    await call(middleware, headers={"range": "bytes=0-1"})
    assert app.asked == [b"bytes=0-3", b"bytes=0-1"]


async def test_a_rest_that_came_cut_makes_nothing_whole() -> None:
    """The client sees that bytes are missing, and no later client does."""
    app = RangeApp()
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    app.cut = 1
    assert seen(await call(middleware)) == (200, b"012345678")
    app.cut = 0
    assert seen(await call(middleware)) == (200, b"0123456789")
    assert app.asked == [b"bytes=0-3", b"bytes=4-", b"bytes=4-"]


async def test_a_purge_reaches_stored_parts() -> None:
    """As it reaches everything under that path."""
    app = RangeApp()
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware, headers=HEAD_OF_IT)
    await call(middleware, "PUT")
    await call(middleware, headers=HEAD_OF_IT)
    assert app.asked == [b"bytes=0-3", None, b"bytes=0-3"]


async def test_what_the_beginning_was_made_of_purges_the_whole() -> None:
    """Though the handler that sent the rest read nothing."""
    app = RangeApp(reads="g:item:5")
    middleware = cache_of(app, cache_store_partial=True)
    assert middleware.cache is not None
    (app.token,) = map(bytes, (await middleware.cache.store.read((), ["g:item:5"])).tokens)
    await call(middleware, headers=HEAD_OF_IT)
    app.reads = None
    await call(middleware)
    assert app.asked == [b"bytes=0-3", b"bytes=4-"]
    await middleware.cache.purger.purge(["g:item:5"])
    await call(middleware)
    assert app.asked == [b"bytes=0-3", b"bytes=4-", None]


async def test_a_part_takes_no_whole_response_out_of_the_store() -> None:
    """A client that insists on its own range changes nothing for the others."""
    app = RangeApp(etag=b'"v1"')
    middleware = cache_of(app, cache_store_partial=True)
    await call(middleware)
    await call(middleware, headers=HEAD_OF_IT | {"if-match": '"v1"'})
    assert seen(await call(middleware)) == (200, b"0123456789")
    assert app.asked == [None, b"bytes=0-3"]
