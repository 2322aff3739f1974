"""Answers to writes that wait for their purge while the application goes on."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from tests.support.asgi import Exchange, Receive, Scope, Send, call, http_scope
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

START = {"type": "http.response.start", "status": 200, "headers": []}


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class SlowStore:
    """A store whose purges take until they are let go; it notes what happened before each."""

    shared, keeps_objects, near = True, True, None

    def __init__(self, happened: list[str]) -> None:
        store = MemoryStore()
        self.authority = store
        self.open, self.close, self.read = store.open, store.close, store.read
        self.write, self.delete, self.mutating = store.write, store.delete, store.mutating
        self.claim, self._renew = store.claim, store.renew
        self.happened = happened
        self.answering = asyncio.Event()

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        self.happened.append("purge")
        await self.answering.wait()
        return await self._renew(groups)


class Site:
    """An application behind the cache; it notes when it has answered and when it returns."""

    def __init__(
        self,
        *messages: dict[str, Any],
        then: Callable[[], Any] | None = None,
        settings: CacheSettings | None = None,
    ) -> None:
        self.happened: list[str] = []
        self.store = SlowStore(self.happened)
        self.middleware = CacheMiddleware(self.app, settings or CacheSettings(), store=self.store)  # type: ignore[arg-type]
        self._messages, self._then = messages, then

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        for message in self._messages:
            await send(message)
        self.happened.append("answered")
        if self._then is not None:
            await self._then()
        self.happened.append("returned")

    def put(self, **more: Any) -> Exchange:
        async def note(number: int, message: Any) -> None:
            self.happened.append("sent")

        return Exchange(
            self.middleware, http_scope("PUT", "/x"), **{"on_send": note, **more}
        ).start()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_application_that_returns_at_once_needs_one_purge() -> None:
    """It is sent after the return and before the answer, and counts for both."""
    site = Site(START, piece(b"done"))
    exchange = site.put()
    await turns()
    assert not exchange.recorded.started
    site.store.answering.set()
    assert (await exchange.finish()).body == b"done"
    assert site.happened == ["answered", "returned", "purge", "sent", "sent"]
    assert site.middleware.cache is not None
    assert site.middleware.cache.tally.purges == {"write": 2}


async def test_an_answer_does_not_wait_for_what_runs_after_it() -> None:
    """Such as a late commit, which is purged after."""
    commit = asyncio.Event()
    site = Site(START, piece(b"done"), then=commit.wait)
    exchange = site.put()
    await turns()
    assert not exchange.recorded.started
    site.store.answering.set()
    await exchange.wait_sent(2)
    assert exchange.recorded.body == b"done"
    assert site.happened == ["answered", "purge", "sent", "sent"]
    commit.set()
    await exchange.finish()
    assert site.happened[4:] == ["returned", "purge"]


async def test_the_purge_after_the_return_does_not_hold_the_answer() -> None:
    """Only the one that comes first does."""
    site = Site(START, piece(b"done"), then=turns)
    exchange = site.put()
    await turns(20)
    assert site.happened == ["answered", "purge", "returned", "purge"]
    site.store.answering.set()
    await exchange.finish()
    assert site.happened[4:] == ["sent", "sent"]


@pytest.mark.parametrize("strict", [False, True], ids=["as it is", "strict hold"])
async def test_an_outer_layer_does_not_answer_before_the_purge_is_done(strict: bool) -> None:
    """Such as one that bounds the time of a call: what the call committed is stale by then."""
    site = Site(START, piece(b"done"), settings=CacheSettings(cache_strict_hold=strict))

    async def impatient(*asgi: Any) -> None:
        try:
            await site.middleware(*asgi)
        finally:
            site.happened.append("answered by another")

    exchange = Exchange(impatient, http_scope("PUT", "/x")).start()
    await turns()
    assert site.happened == ["answered", "returned", "purge"]
    exchange.cancel()
    await turns()
    assert "answered by another" not in site.happened
    site.store.answering.set()
    await turns()
    assert site.happened[-1] == "answered by another"
    assert not exchange.recorded.started


async def test_a_write_ends_where_the_cache_is_closed_before_its_purge_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The purge is owed then, and not asked for again."""
    monkeypatch.setattr("maxage.background._CLOSE_SECONDS", 0.0)
    site = Site(START, piece(b"done"))
    exchange = site.put()
    await turns()
    assert site.middleware.cache is not None
    await site.middleware.cache.background.close()
    await exchange.finish()
    assert site.happened == ["answered", "returned", "purge"]
    assert not exchange.recorded.started


@pytest.mark.parametrize("count", range(8))
async def test_every_message_leaves_once(count: int) -> None:
    """Whether the application returns before the purge is done, after it or in the same turn."""
    site = Site(START, piece(b"done"), then=lambda: turns(count))
    site.store.answering.set()

    async def slowly(number: int, message: Any) -> None:
        await turns(3)

    answer = await site.put(on_send=slowly).finish()
    assert answer.messages == [{**START, "headers": answer.messages[0]["headers"]}, piece(b"done")]


@pytest.mark.parametrize("pieces", [3, 50])
async def test_longer_answers_wait_with_the_application(pieces: int) -> None:
    """Nothing but the start is held: a stream has its pace."""
    body = [piece(b"%d," % n, more=n < pieces - 1) for n in range(pieces)]
    site = Site(START, *body)
    exchange = site.put()
    await turns()
    assert site.happened == ["purge"]
    site.store.answering.set()
    answer = await exchange.finish()
    assert answer.body == b"".join(one["body"] for one in body)
    sent = ["sent"] * (pieces + 1)
    assert site.happened == ["purge", *sent, "answered", "returned", "purge"]


async def test_a_thread_of_the_application_may_answer() -> None:
    """It makes its messages outside of the event loop, which sends them behind the purge."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            for message in (START, piece(b"do", more=True), piece(b"ne")):
                sending: Any = send(message)
                asyncio.run_coroutine_threadsafe(sending, loop).result(PATIENCE)

        await asyncio.to_thread(work)

    middleware = CacheMiddleware(app, CacheSettings(), store=MemoryStore())
    assert (await call(middleware, "PUT")).body == b"done"
    assert middleware.cache is not None
    assert middleware.cache.tally.purges["write"] > 0


async def test_what_was_answered_before_an_error_is_sent() -> None:
    """And the error goes on to the server."""

    async def fail() -> None:
        raise RuntimeError("after the answer")

    site = Site(START, piece(b"done"), then=fail)
    site.store.answering.set()
    answer = await site.put().finish()
    assert answer.body == b"done"
    assert isinstance(answer.exception, RuntimeError)
    assert site.happened == ["answered", "purge", "sent", "sent"]


@pytest.mark.parametrize("goes_on", [True, False], ids=["running", "returned"])
async def test_who_is_cancelled_sends_nothing_and_has_purged(goes_on: bool) -> None:
    """Also where the application has returned meanwhile."""
    site = Site(START, piece(b"done"), then=asyncio.Event().wait if goes_on else None)
    exchange = site.put()
    await turns()
    exchange.cancel()
    await turns()
    site.store.answering.set()
    answer = await exchange.finish()
    assert isinstance(answer.exception, asyncio.CancelledError)
    assert not answer.started
    assert site.happened.count("purge") == 2
    assert site.middleware.cache is not None
    await site.middleware.cache.background.close()
    assert site.middleware.cache.tally.purges == {"write": 3 - goes_on}


@pytest.mark.parametrize("then", [None, turns], ids=["returned", "running"])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_client_that_has_gone_is_an_error_of_the_request(then: Any, pieces: int) -> None:
    """As with an application that is made to wait."""

    async def gone(number: int, message: Any) -> None:
        raise OSError("gone")

    site = Site(START, *[piece(b"x", more=n < pieces - 1) for n in range(pieces)], then=then)
    site.store.answering.set()
    answer = await site.put(on_send=gone).finish()
    assert isinstance(answer.exception, OSError)
    assert site.happened.count("purge") >= 1


async def test_who_gives_up_sending_goes_on_with_the_next_piece() -> None:
    """As with a time limit of the application's own: the request itself was not cancelled."""
    site = Site()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(piece(b"late", more=True)), 0.01)
        site.store.answering.set()
        await send(piece(b"done"))

    site.middleware = CacheMiddleware(app, CacheSettings(), store=site.store)  # type: ignore[arg-type]
    answer = await site.put().finish()
    assert answer.exception is None
    assert answer.body == b"done"


async def test_an_application_that_starts_twice_is_told_by_the_server() -> None:
    """Whatever waits: the first start is the one that leaves."""
    site = Site(START, START, piece(b"done"))
    site.store.answering.set()
    answer = await site.put().finish()
    assert isinstance(answer.exception, RuntimeError)
    assert answer.started
