"""Validation end to end (RFC 9111 section 4.3): what clients ask, what we ask, what HEAD shows."""

import asyncio

import pytest

from maxage.rfc9111.dates import format_http_date
from tests.support.asgi import CounterApp, Receive, Scope, Send, call, routed
from tests.support.caching import background_done, cache_of, piece, start, status_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


class Versioned:
    """Answers with a version and its ETag; 304 to a client that has it; HEAD without a body."""

    def __init__(self) -> None:
        self.version = b"1"
        self.extra: list[tuple[bytes, bytes]] = []
        self.asked: list[tuple[str, dict[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        self.asked.append((scope["method"], headers))
        etag = b'"%b"' % self.version
        body = b"version " + self.version
        same = headers.get(b"if-none-match") == etag
        length = [] if same else [(b"content-length", b"%d" % len(body))]
        own = [(b"etag", etag), (b"cache-control", b"max-age=60"), *self.extra, *length]
        await send(start(*own, status=304 if same else 200))
        await send(piece(b"" if same or scope["method"] == "HEAD" else body))


async def test_two_versions_of_one_second_are_never_taken_for_each_other() -> None:
    """A client with the Date of the first one is not told that the second one is the same."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(), clock, cache_send_date=True)
    first = await call(middleware)
    since = {"if-modified-since": (first.header("date") or b"").decode()}
    clock.advance(0.3)
    await call(middleware, "PUT")
    second = await call(middleware)
    assert second.header("date") == first.header("date")
    answer = await call(middleware, headers=since)
    assert (answer.status, answer.body) == (200, b"run 3")
    later = {"if-modified-since": format_http_date(clock() + 1).decode()}
    assert (await call(middleware, headers=later)).status == 304


@pytest.mark.parametrize("tags", ['"0", W/"1"', "*", '"1"'])
async def test_a_client_s_list_is_answered_from_the_store(tags: str) -> None:
    """Weakly compared, any member, or the star."""
    middleware = cache_of(Versioned(), ManualClock())
    await call(middleware)
    answer = await call(middleware, headers={"if-none-match": tags})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.header("age") == b"0"


async def test_the_client_s_conditions_give_way_to_ours_and_are_answered_by_us() -> None:
    """The application is asked about the stored version; the client gets its own answer."""
    app, clock = Versioned(), ManualClock()
    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    other = await call(middleware, headers={"if-none-match": '"other"'})
    assert app.asked[-1][1][b"if-none-match"] == b'"1"'
    assert (other.status, other.body) == (200, b"version 1")
    clock.advance(61)
    same = await call(middleware, headers={"if-none-match": '"1"'})
    assert (same.status, same.body) == (304, b"")


async def test_nothing_follows_our_answer_from_an_application_that_awaits_its_messages_late() -> (
    None
):
    """Its body is dropped with its 304, though it was sent before the 304 was awaited."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        same = b"if-none-match" in dict(scope["headers"])
        head = start(
            (b"etag", b'"1"'), (b"cache-control", b"no-cache"), status=304 if same else 200
        )
        await asyncio.gather(send(head), send(piece(b"dropped" if same else b"whole")))

    middleware = cache_of(app, ManualClock())
    await call(middleware)
    answer = await call(middleware)
    assert b"fwd-status=304" in status_of(answer)
    assert answer.body == b"whole"


async def test_a_full_response_to_our_validation_answers_and_replaces_what_was_stored() -> None:
    """RFC 9111 section 4.3.3: MUST use it; the newest response is the one that is reused."""
    app, clock = Versioned(), ManualClock()
    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    app.version = b"2"
    for status in (b"maxage; fwd=stale; fwd-status=200; stored", b"maxage; hit; ttl=60"):
        answer = await call(middleware)
        assert (answer.body, answer.header("etag"), status_of(answer)) == (
            b"version 2",
            b'"2"',
            status,
        )
    assert app.asked[1][1][b"if-none-match"] == b'"1"'


async def test_a_304_renews_all_headers_it_names_for_all_later_requests() -> None:
    """RFC 9111 section 3.2: replaced where they are present, added where they are not."""
    app, clock = Versioned(), ManualClock()
    app.extra = [(b"x-old", b"1"), (b"x-both", b"1")]
    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    app.extra = [(b"x-both", b"2"), (b"x-new", b"2")]
    for _ in range(2):
        answer = await call(middleware)
        assert answer.body == b"version 1"
        shown = [answer.header(name) for name in ("x-old", "x-both", "x-new")]
        assert shown == [b"1", b"2", b"2"]


async def test_a_head_freshens_the_stored_get() -> None:
    """RFC 9111 section 4.3.5: same validators and length."""
    app, clock = Versioned(), ManualClock()
    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    app.extra = [(b"x-new", b"1")]
    await call(middleware, "HEAD", headers={"cache-control": "no-cache"})
    await background_done(middleware)
    hit = await call(middleware)
    assert (hit.body, hit.header("x-new")) == (b"version 1", b"1")
    assert status_of(hit) == b"maxage; hit; ttl=60"
    assert [method for method, _ in app.asked] == ["GET", "HEAD"]


async def test_a_head_about_something_newer_ends_the_use_of_the_stored_get() -> None:
    """It is not what the application would send any more, fresh or not."""
    app = Versioned()
    middleware = cache_of(app, ManualClock())
    await call(middleware)
    app.version = b"2"
    await call(middleware, "HEAD", headers={"cache-control": "no-cache"})
    await background_done(middleware)
    assert (await call(middleware)).body == b"version 2"


async def test_an_application_that_answers_ranges_is_asked_for_the_range_with_our_validator() -> (
    None
):
    """It sends a 304, or the part; a download that it must validate each time stays resumable."""
    asked: list[dict[bytes, bytes]] = []
    etag = [b'"1"']

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        asked.append(headers)
        own = [(b"etag", etag[0]), (b"cache-control", b"no-cache")]
        if headers.get(b"if-none-match") == etag[0]:
            await send(start(*own, status=304))
            await send(piece(b""))
        elif b"range" in headers:
            await send(start(*own, (b"content-range", b"bytes 2-3/10"), status=206))
            await send(piece(b"cd"))
        else:
            await send(start(*own, (b"content-length", b"10")))
            await send(piece(b"abcdefghij"))

    middleware = cache_of(routed(app), ManualClock())
    await call(middleware)
    for validator in (b'"1"', b'"2"'):
        etag[0] = validator
        answer = await call(middleware, headers={"range": "bytes=2-3", "if-range": '"2"'})
        assert (asked[-1][b"range"], asked[-1][b"if-range"]) == (b"bytes=2-3", b'"2"')
        assert asked[-1][b"if-none-match"] == b'"1"'
        whole = validator == b'"1"'  # the client has parts of another version than the stored one
        assert (answer.status, answer.body) == ((200, b"abcdefghij") if whole else (206, b"cd"))
