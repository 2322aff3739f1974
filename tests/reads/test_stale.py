"""Stale responses end to end (RFC 5861), refreshing in the background, early refresh and jitter."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maxage import CacheMiddleware
from maxage.cache.early_refresh import is_due_early, shortened
from tests.rfc9111.build import NOW, stored
from tests.support.asgi import (
    CounterApp,
    Exchange,
    RaisingApp,
    Receive,
    Recorded,
    Scope,
    Send,
    call,
    http_scope,
    read_body,
)
from tests.support.caching import background_done, cache_of, piece, start, status_of
from tests.support.clock import ManualClock
from tests.support.waiting import NEVER

pytestmark = pytest.mark.anyio

LENIENT = "max-age=60, stale-while-revalidate=30, stale-if-error=600"


class Origin:
    """Answers with its run's number and what the test wants; it can be held, and can fail."""

    def __init__(self, cache_control: str = LENIENT, *headers: tuple[bytes, bytes]) -> None:
        self.headers = [(b"cache-control", cache_control.encode()), *headers]
        self.runs: list[Scope] = []
        self.gate: asyncio.Event | None = None
        self.status = 200
        self.error: Exception | None = None
        self.ends = 0
        self.on_run: Callable[[], Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        self.runs.append(scope)
        run = len(self.runs)
        await read_body(receive)
        if self.on_run is not None:
            await self.on_run()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        await send(start(*self.headers, status=self.status))
        await send(piece(b"run %d" % run))
        self.ends += 1


async def stale(origin: Origin, **settings: Any) -> tuple[CacheMiddleware, ManualClock]:
    """The middleware with a stored response that has been stale for a second."""
    clock = ManualClock()
    middleware = cache_of(origin, clock, **{"cache_collapse_wait": NEVER, **settings})
    await call(middleware)
    await background_done(middleware)
    clock.advance(61)
    return middleware, clock


async def all_at_once(middleware: CacheMiddleware, *asked: dict[str, Any]) -> list[Recorded]:
    """The answers to requests that begin together."""
    exchanges = [Exchange(middleware, http_scope(**one)).start() for one in asked]
    return [await exchange.finish() for exchange in exchanges]


# --- RFC 5861 section 3: stale-while-revalidate ---------------------------------------------------


async def test_a_stale_response_is_served_while_one_refresh_runs_in_the_background() -> None:
    """Fifty clients are answered before the handler has; afterwards the new response is a hit."""
    origin = Origin()
    middleware, _ = await stale(origin)
    origin.gate = asyncio.Event()
    answers = await all_at_once(middleware, *[{}] * 50)
    assert {answer.body for answer in answers} == {b"run 1"}
    assert {status_of(answer) for answer in answers} == {b"maxage; hit; ttl=-1"}
    assert len(origin.runs) == 2
    origin.gate.set()
    await background_done(middleware)
    assert (await call(middleware)).body == b"run 2"
    assert len(origin.runs) == 2


async def test_a_head_is_served_stale_too_and_refreshes_with_a_get() -> None:
    """A HEAD brings no body that could be stored."""
    origin = Origin()
    middleware, _ = await stale(origin)
    head = await call(middleware, "HEAD")
    assert (head.body, status_of(head)) == (b"", b"maxage; hit; ttl=-1")
    await background_done(middleware)
    assert [scope["method"] for scope in origin.runs] == ["GET", "GET"]
    assert (await call(middleware)).body == b"run 2"


async def test_a_refresh_is_our_own_request_and_for_all_clients() -> None:
    """Conditions, ranges and wishes of the client that met the stale response are not in it."""
    origin = Origin(LENIENT, (b"etag", b'"v"'))
    middleware, _ = await stale(origin)
    wishes = {
        "cache-control": "no-transform, max-stale",
        "pragma": "no-cache",
        "if-none-match": '"other"',
        "if-modified-since": "Tue, 14 Nov 2000 22:00:00 GMT",
        "range": "bytes=0-1",
        "if-range": '"v"',
        "user-agent": "kept",
    }
    part = await call(
        middleware,
        headers=wishes,
        extensions={"http.response.pathsend": {}, "tls": {"cipher_suite": 1}},
    )
    assert (part.status, part.body) == (206, b"ru")
    await background_done(middleware)
    assert origin.runs[1]["extensions"] == {"tls": {"cipher_suite": 1}}
    sent = {name: value for name, value in origin.runs[1]["headers"] if name != b"host"}
    assert sent == {b"user-agent": b"kept", b"if-none-match": b'"v"'}
    assert (await call(middleware)).body == b"run 2"


async def test_each_variant_has_a_refresh_of_its_own() -> None:
    """One that runs for the other variant neither stands in for it nor makes it wait."""
    origin = Origin(LENIENT, (b"vary", b"accept-language"))
    clock = ManualClock()
    middleware = cache_of(origin, clock)
    german, english = {"headers": {"accept-language": "de"}}, {"headers": {"accept-language": "en"}}
    for asked in (german, english):
        await call(middleware, **asked)
        await background_done(middleware)
    clock.advance(61)
    origin.gate = asyncio.Event()
    answers = await all_at_once(middleware, *[german, english] * 5)
    assert {answer.body for answer in answers} == {b"run 1", b"run 2"}
    assert len(origin.runs) == 4
    french = Exchange(middleware, http_scope(headers={"accept-language": "fr"})).start()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(origin.runs) == 5, "a miss does not wait for a refresh of another variant"
    origin.gate.set()
    assert (await french.finish()).body == b"run 5"
    await background_done(middleware)
    assert {(await call(middleware, **asked)).body for asked in (german, english)} == {
        b"run 3",
        b"run 4",
    }


async def test_a_request_after_the_window_waits_for_the_refresh_that_runs() -> None:
    """It is fetching what the request needs."""
    origin = Origin()
    middleware, clock = await stale(origin)
    origin.gate = asyncio.Event()
    await call(middleware)
    clock.advance(30)
    late = Exchange(middleware, http_scope()).start()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(origin.runs) == 2
    origin.gate.set()
    answer = await late.finish()
    assert answer.body == b"run 2"
    assert status_of(answer) == b"maxage; fwd=stale; ttl=30; collapsed"


@pytest.mark.parametrize("failure", [500, 502, 503, 504, RuntimeError("no"), TimeoutError()])
async def test_a_refresh_that_fails_leaves_the_stale_response_and_is_not_repeated_at_once(
    failure: Any,
) -> None:
    """Else every request would ask an application that is failing anyway."""
    origin = Origin()
    middleware, clock = await stale(origin)
    if isinstance(failure, int):
        origin.status = failure
    else:
        origin.error = failure
    for _ in range(5):
        assert (await call(middleware)).body == b"run 1"
        await background_done(middleware)
    assert len(origin.runs) == 2
    clock.advance(1)
    origin.status, origin.error = 200, None
    assert (await call(middleware)).body == b"run 1"
    await background_done(middleware)
    assert (await call(middleware)).body == b"run 3"


async def test_a_refresh_with_an_error_that_could_be_stored_does_not_replace_the_response() -> None:
    """While the stale response may answer, an error is no better answer."""
    origin = Origin()
    middleware, _ = await stale(origin, cache_store_server_errors=True)
    origin.status = 503
    await call(middleware)
    await background_done(middleware)
    assert (await call(middleware)).body == b"run 1"


OUTDATED = pytest.mark.parametrize(
    ("status", "cache_control", "kept"),
    [
        (404, "", False),
        (410, "", False),
        (200, "no-store", False),
        (200, "private", False),
        (302, "", False),
        (401, "", True),
        (403, "", True),
        (412, "", True),
        (429, "no-store", True),
    ],
)
"""Answers, and whether the stored response is kept after them."""


@OUTDATED
async def test_a_refresh_that_shows_the_response_outdated_ends_its_use(
    status: int, cache_control: str, kept: bool
) -> None:
    """What the application answers now is something else, which no client may be given."""
    origin = Origin()
    middleware, _ = await stale(origin)
    origin.status = status
    origin.headers = [(b"cache-control", cache_control.encode())]
    assert (await call(middleware)).body == b"run 1"
    await background_done(middleware)
    assert (await call(middleware)).body == (b"run 1" if kept else b"run 3")


@OUTDATED
@pytest.mark.parametrize("asked", ["no-cache", "max-age=0"])
async def test_a_reload_that_shows_the_response_outdated_ends_its_use(
    asked: str, status: int, cache_control: str, kept: bool
) -> None:
    """Neither another client nor `stale-if-error` brings back what was seen to be gone."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware = cache_of(origin)
    await call(middleware)
    origin.status, origin.headers = status, [(b"cache-control", cache_control.encode())]
    assert (await call(middleware, headers={"cache-control": asked})).status == status
    await background_done(middleware)
    assert (await call(middleware)).body == (b"run 1" if kept else b"run 3")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("status", "headers"),
    [(503, {}), (404, {"authorization": "Bearer x"}), (200, {"cookie": "session=x"})],
)
async def test_a_reload_that_shows_nothing_about_the_resource_keeps_it(
    method: str, status: int, headers: dict[str, str]
) -> None:
    """A server error, and an answer to one user or to a HEAD."""
    origin = Origin("max-age=60")
    middleware = cache_of(origin)
    await call(middleware)
    origin.status, origin.headers = status, [(b"cache-control", b"private")]
    await call(middleware, method, headers={"cache-control": "no-cache", **headers})
    await background_done(middleware)
    assert (await call(middleware)).body == b"run 1"


async def test_a_304_refreshes() -> None:
    """The stored response is young again, without a new body."""
    origin = Origin(LENIENT, (b"etag", b'"v"'))
    middleware, _ = await stale(origin)
    origin.status = 304
    await call(middleware)
    await background_done(middleware)
    hit = await call(middleware)
    assert (hit.body, status_of(hit)) == (b"run 1", b"maxage; hit; ttl=60")
    assert len(origin.runs) == 2


async def test_no_stale_response_is_served_after_a_purge() -> None:
    """Whatever leave it gives."""
    origin = Origin()
    middleware, _ = await stale(origin)
    await call(middleware, "PUT")
    assert (await call(middleware)).body == b"run 3"


async def test_a_purge_during_a_refresh_makes_what_it_brings_worthless() -> None:
    """Its tokens were read before its handler ran; the handler may have read the old state."""
    origin = Origin()
    middleware, _ = await stale(origin)
    origin.gate = asyncio.Event()
    assert (await call(middleware)).body == b"run 1"
    for _ in range(20):
        await asyncio.sleep(0)
    refreshing, origin.gate = origin.gate, None
    assert len(origin.runs) == 2
    await call(middleware, "PUT")
    refreshing.set()
    await background_done(middleware)
    after = await call(middleware)
    assert after.body == b"run 4"
    assert status_of(after).startswith(b"maxage; fwd=uri-miss")


async def test_a_purge_by_another_worker_during_a_refresh_counts_too() -> None:
    """It is the token in the store that counts, not who renewed it."""
    origin = Origin()
    middleware, _ = await stale(origin)
    cache = middleware.cache
    assert cache is not None
    origin.on_run = lambda: cache.store.renew(("p:/x",))
    assert (await call(middleware)).body == b"run 1"
    await background_done(middleware)
    origin.on_run = None
    assert (await call(middleware)).body == b"run 3"


# --- RFC 5861 section 4: stale-if-error -----------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (500, b"500"),
        (502, b"502"),
        (503, b"503"),
        (504, b"504"),
        (RuntimeError("no"), b"500"),
        (TimeoutError(), b"504"),
    ],
)
async def test_a_stale_response_answers_for_an_error(failure: Any, said: bytes) -> None:
    """Error statuses, exceptions and time-outs; Cache-Status says what it stands for."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, clock = await stale(origin)
    if isinstance(failure, int):
        origin.status = failure
    else:
        origin.error = failure
    answer = await call(middleware)
    assert (answer.status, answer.body) == (200, b"run 1")
    assert answer.header("age") == b"61"
    assert status_of(answer) == (
        b"maxage; fwd=stale; fwd-status=%b; ttl=-1; detail=stale-if-error" % said
    )
    clock.advance(599)
    assert (await call(middleware)).body == b"run 1"
    clock.advance(1)
    after = await call(middleware, raises=False)
    assert after.exception is not None or after.status == failure


async def test_a_stale_response_answers_for_an_application_that_does_not() -> None:
    """It returned without an answer, which a server makes a 500 of."""
    clock, silent = ManualClock(), [False]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not silent[0]:
            await send(start((b"cache-control", b"max-age=60, stale-if-error=600")))
            await send(piece(b"first"))

    middleware = cache_of(app, clock)
    await call(middleware)
    clock.advance(61)
    silent[0] = True
    answer = await call(middleware)
    assert answer.body == b"first"
    assert b"fwd=stale; fwd-status=500" in status_of(answer)


@pytest.mark.parametrize("status", [404, 501, 505, 507])
async def test_what_is_no_error_of_the_rfc_is_passed_on(status: int) -> None:
    """RFC 5861 names 500, 502, 503 and 504; the others say something about the request."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, _ = await stale(origin)
    origin.status = status
    assert (await call(middleware)).status == status


@pytest.mark.parametrize("at", ["start", "body"])
async def test_an_answer_that_has_begun_is_not_replaced(at: Any) -> None:
    """Its head has left."""
    clock = ManualClock()
    app: Any = Origin("max-age=60, stale-if-error=600")

    async def switch(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    middleware = cache_of(switch, clock)
    await call(middleware)
    clock.advance(61)
    app = RaisingApp(at=at)
    answer = await call(middleware, raises=False)
    assert isinstance(answer.exception, RuntimeError)
    assert b"run 1" not in answer.body


# --- An application that is slow ------------------------------------------------------------------

SLOW = {"cache_stale_if_slow": 0.05}


async def waited_for(origin: Origin, middleware: CacheMiddleware) -> Recorded:
    """The answer to a request that is not answered before the application is let go."""
    origin.gate = asyncio.Event()
    waiting = Exchange(middleware, http_scope()).start()
    await asyncio.sleep(0.1)
    assert not waiting.recorded.started
    origin.gate.set()
    return await waiting.finish()


async def test_by_default_a_stale_response_waits_as_long_as_the_application_takes() -> None:
    """Nothing is answered meanwhile."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, _ = await stale(origin)
    assert (await waited_for(origin, middleware)).body == b"run 2"


async def test_a_stale_response_answers_when_the_application_is_slow_and_the_call_goes_on() -> None:
    """What it brings in the end is stored; no request asks again until then."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, _ = await stale(origin, **SLOW)
    origin.gate = asyncio.Event()
    first = await call(middleware)
    assert first.body == b"run 1"
    assert status_of(first) == b"maxage; fwd=stale; fwd-status=504; ttl=-1; detail=stale-if-error"
    others = await all_at_once(middleware, *[{}] * 10)
    assert {status_of(other) for other in others} == {b"maxage; hit; ttl=-1"}
    assert len(origin.runs) == 2
    assert origin.ends == 1
    origin.gate.set()
    await background_done(middleware)
    assert origin.ends == 2
    assert (await call(middleware)).body == b"run 2"


async def test_a_slow_application_is_asked_for_the_whole_though_clients_want_parts() -> None:
    """Its answer is for the store: a part would leave all clients with the stale response."""
    clock, gate, runs = ManualClock(), asyncio.Event(), [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        if runs[0] > 1:
            await gate.wait()
        own = [(b"cache-control", b"max-age=60, stale-if-error=600"), (b"etag", b'"%d"' % runs[0])]
        if b"range" in dict(scope["headers"]):
            await send(start(*own, (b"content-range", b"bytes 4-4/5"), status=206))
            await send(piece(b"%d" % runs[0]))
        else:
            await send(start(*own))
            await send(piece(b"run %d" % runs[0]))

    middleware = cache_of(app, clock, **SLOW)
    await call(middleware)
    clock.advance(61)
    part = {"range": "bytes=4-4"}
    assert (await call(middleware, headers=part)).body == b"1"
    gate.set()
    await background_done(middleware)
    answer = await call(middleware, headers=part)
    assert (answer.body, answer.status, runs[0]) == (b"2", 206, 2)


async def test_an_application_in_time_is_not_replaced() -> None:
    """The other side; and its own answer comes through piece by piece."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, _ = await stale(origin, cache_stale_if_slow=60)
    assert (await call(middleware)).body == b"run 2"


async def test_without_leave_for_errors_a_slow_application_is_waited_for() -> None:
    """The same permission as for a 504."""
    origin = Origin("max-age=60")
    middleware, _ = await stale(origin, **SLOW)
    assert (await waited_for(origin, middleware)).body == b"run 2"


async def test_an_answer_that_began_in_time_may_take_as_long_as_it_likes() -> None:
    """Only the head counts."""
    gate, runs = asyncio.Event(), [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        await send(start((b"cache-control", b"max-age=60, stale-if-error=600")))
        await send(piece(b"%d " % runs[0], more=True))
        if runs[0] > 1:
            await gate.wait()
        await send(piece(b"end"))

    clock = ManualClock()
    middleware = cache_of(app, clock, cache_stale_if_slow=0.5)
    await call(middleware)
    clock.advance(61)
    waiting = Exchange(middleware, http_scope()).start()
    await asyncio.sleep(0.6)
    assert waiting.recorded.chunks == [b"2 "]
    gate.set()
    assert (await waiting.finish()).body == b"2 end"


async def test_a_slow_call_does_not_learn_that_its_client_was_answered() -> None:
    """A disconnect would make it stop half way; it is told of none that is only our answer."""
    clock, gate, seen = ManualClock(), asyncio.Event(), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        if seen:
            listener = asyncio.ensure_future(receive())
            await gate.wait()
            await asyncio.sleep(0)
            seen.append("told" if listener.done() else "untold")
            listener.cancel()
        seen.append("run")
        await send(start((b"cache-control", b"max-age=60, stale-if-error=600")))
        await send(piece(b"%d" % len(seen)))

    middleware = cache_of(app, clock, **SLOW)
    await call(middleware)
    clock.advance(61)
    assert (await call(middleware)).body == b"1"
    gate.set()
    await background_done(middleware)
    assert seen == ["run", "untold", "run"]
    assert (await call(middleware)).body == b"3"


async def test_a_slow_call_that_only_begins_an_answer_sends_nothing_more_to_its_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A start that waits for its body in vain is for nobody: the stale response has answered."""
    clock, gate, runs = ManualClock(), asyncio.Event(), [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        length = (b"content-length", b"1")
        await send(start((b"cache-control", b"max-age=60, stale-if-error=600"), length))
        if runs[0] == 1:
            await send(piece(b"1"))

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if runs[0]:
            await gate.wait()
        await app(scope, receive, send)

    middleware = cache_of(slow, clock, **SLOW)
    await call(middleware)
    clock.advance(61)
    assert (await call(middleware)).body == b"1"
    gate.set()
    await background_done(middleware)
    assert runs[0] == 2
    # A server refuses what is sent after the end.
    assert caplog.records == []


async def test_a_slow_call_that_reads_its_body_late_is_given_it() -> None:
    """Though its client is answered and gone."""
    clock, gate, runs = ManualClock(), asyncio.Event(), [0]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        runs[0] += 1
        if runs[0] > 1:
            await gate.wait()
        await read_body(receive)
        await send(start((b"cache-control", b"max-age=60, stale-if-error=600")))
        await send(piece(b"%d" % runs[0]))

    middleware = cache_of(app, clock, **SLOW)
    await call(middleware)
    clock.advance(61)
    assert (await call(middleware)).body == b"1"
    gate.set()
    await background_done(middleware)
    assert (await call(middleware)).body == b"2"


async def test_a_client_with_no_store_leaves_nothing_however_slow_the_application() -> None:
    """The call that goes on is still that client's request."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, _ = await stale(origin, **SLOW)
    origin.gate = asyncio.Event()
    assert (await call(middleware, headers={"cache-control": "no-store"})).body == b"run 1"
    origin.gate.set()
    await background_done(middleware)
    origin.gate = None
    assert (await call(middleware)).body == b"run 3"


async def test_a_server_that_cancels_the_request_cancels_the_call_too() -> None:
    """No request would wait for it, and the next request begins its own."""
    origin = Origin("max-age=60, stale-if-error=600")
    middleware, _ = await stale(origin, cache_stale_if_slow=60)
    origin.gate = asyncio.Event()
    exchange = Exchange(middleware, http_scope()).start()
    for _ in range(20):
        await asyncio.sleep(0)
    exchange.cancel()
    answer = await exchange.finish()
    assert isinstance(answer.exception, asyncio.CancelledError)
    assert origin.ends == 1
    origin.gate = None
    assert (await call(middleware)).body == b"run 3"


# --- Early refresh (XFetch) -----------------------------------------------------------------------


async def test_a_fresh_response_is_refreshed_early_when_the_draw_says_so() -> None:
    """It took 2 seconds to make; the draw moves its end forward by 2 * 1 * ln(1 / 0.05) = 6 s."""
    clock = ManualClock()
    origin = Origin("max-age=60")

    async def takes_two_seconds() -> None:
        clock.advance(2)

    origin.on_run = takes_two_seconds
    middleware = cache_of(origin, clock, cache_early_refresh=1)
    assert middleware.cache is not None
    middleware.cache.draw = lambda: 0.95
    await call(middleware)
    origin.gate = asyncio.Event()
    # The response delay counts as age, so that 58 of its 60 seconds are left.
    clock.advance(51)
    assert status_of(await call(middleware)) == b"maxage; hit; ttl=7"
    assert len(origin.runs) == 1
    clock.advance(2)
    answers = await all_at_once(middleware, *[{}] * 5)
    assert {status_of(answer) for answer in answers} == {b"maxage; hit; ttl=5"}
    assert len(origin.runs) == 2
    origin.gate.set()
    await background_done(middleware)
    middleware.cache.draw = lambda: 0.0
    assert (await call(middleware)).body == b"run 2"


async def test_early_refresh_is_off_by_default() -> None:
    """Whatever is drawn."""
    clock = ManualClock()
    origin = Origin("max-age=60")
    middleware = cache_of(origin, clock)
    assert middleware.cache is not None
    middleware.cache.draw = lambda: 0.999999
    await call(middleware)
    clock.advance(59)
    await call(middleware)
    await background_done(middleware)
    assert len(origin.runs) == 1


@given(
    delay=st.floats(0, 100),
    age=st.floats(0, 59.9),
    factor=st.floats(0.01, 10),
    draw=st.floats(0, 1, exclude_max=True),
)
@example(delay=4.0, age=0.0, factor=0.5, draw=0.9999999999999998)
def test_the_nearer_the_end_the_likelier_is_an_early_refresh(
    delay: float, age: float, factor: float, draw: float
) -> None:
    """Due once, it is due at every later moment and for every larger draw and factor."""
    kept = stored("Cache-Control: max-age=60", delay=delay)

    def due(**changed: float) -> bool:
        values = {"now": NOW + age, "factor": factor, "draw": draw} | changed
        return is_due_early(kept, **values)

    if due():
        assert due(now=NOW + age + 1)
        assert due(factor=factor * 2)
        assert due(draw=max(draw, min(draw + 0.001, 0.9999999)))
    if delay == 0:
        assert not due()


# --- Lifetime jitter ------------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "ttl"), [(0.0, 300), (0.5, 285), (0.999, 270)])
async def test_jitter_shortens_the_configured_lifetime_by_at_most_its_share(
    draw: float, ttl: int
) -> None:
    """A tenth of 300 seconds."""
    middleware = cache_of(CounterApp(), ManualClock(), cache_lifetime_jitter=0.1)
    assert middleware.cache is not None
    middleware.cache.draw = lambda: draw
    await call(middleware)
    assert status_of(await call(middleware)) == b"maxage; hit; ttl=%d" % ttl


async def test_each_response_draws_its_own() -> None:
    """Two that were stored together do not expire together; a validated one draws anew."""
    draws = iter([0.0, 0.5, 0.25])
    clock = ManualClock()
    middleware = cache_of(CounterApp(), clock, cache_lifetime_jitter=0.5)
    assert middleware.cache is not None
    middleware.cache.draw = lambda: next(draws)
    ttls: list[bytes] = []
    for path in ("/a", "/b"):
        await call(middleware, path=path)
        ttls.append(status_of(await call(middleware, path=path)))
    assert ttls == [b"maxage; hit; ttl=300", b"maxage; hit; ttl=225"]
    clock.advance(301)
    await call(middleware, path="/a")
    assert status_of(await call(middleware, path="/a")) == b"maxage; hit; ttl=262"


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": "max-age=100"},
        {"cache-control": "s-maxage=100"},
        {"cdn-cache-control": "max-age=100"},
        {"last-modified": "Tue, 14 Nov 2023 21:56:40 GMT"},
    ],
)
async def test_lifetimes_that_are_not_configured_are_left_alone(headers: dict[str, str]) -> None:
    """Explicit and heuristic ones are the response's own business."""
    middleware = cache_of(
        CounterApp(headers=headers),
        ManualClock(),
        cache_lifetime_jitter=0.9,
        cache_heuristic_fraction=0.1,
    )
    assert middleware.cache is not None
    middleware.cache.draw = lambda: 0.99
    await call(middleware)
    assert status_of(await call(middleware)) == b"maxage; hit; ttl=100"


@given(
    lifetime=st.floats(0, 1e9),
    share=st.floats(0, 1, exclude_max=True),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_jitter_never_lengthens(lifetime: float, share: float, draw: float) -> None:
    """And keeps what the share leaves."""
    assert lifetime * (1 - share) <= shortened(lifetime, share=share, draw=draw) * (1 + 1e-12)
    assert shortened(lifetime, share=share, draw=draw) <= lifetime
