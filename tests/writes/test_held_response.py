"""Answers that are held until the application call has returned: in full, or not at all."""

import asyncio
from typing import Any

import pytest

from maxage import CacheMiddleware, CacheSettings, MemoryStore, apurge_tags
from tests.support.asgi import Exchange, call, http_scope
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

LIMIT = 1000
"""Bytes of an answer that are held at most."""


class Writer:
    """Answers a PUT with pieces, then waits, then commits; a GET shows what is committed."""

    def __init__(self, *pieces: int, mode: str = "hold", error: bool = False) -> None:
        self.pieces = pieces
        self.error = error
        self.sent, self.commit = asyncio.Event(), asyncio.Event()
        self.committed = 0
        self.middleware = CacheMiddleware(
            self,
            CacheSettings(
                cache_strict_hold=mode == "hold",
                cache_on_lost_purge="refuse" if mode == "refuse" else "serve",
                cache_max_body_bytes=LIMIT,
            ),
            store=MemoryStore(),
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["method"] == "GET":
            await send({"type": "http.response.body", "body": b"%d" % self.committed})
            return
        for number, size in enumerate(self.pieces, 1):
            more = number < len(self.pieces)
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": more})
        self.sent.set()
        await self.commit.wait()
        if self.error:
            raise RuntimeError("the commit failed")
        self.committed += 1

    @property
    def room_taken(self) -> int:
        """Bytes that the middleware counts as held."""
        assert self.middleware.cache is not None
        return self.middleware.cache.pending_writes.reserved_bytes

    async def put(self) -> Exchange:
        """Begin a PUT; it has sent its whole answer."""
        exchange = Exchange(self.middleware, http_scope("PUT", "/x")).start()
        await asyncio.wait_for(self.sent.wait(), PATIENCE)
        return exchange


@pytest.mark.parametrize("mode", ["hold", "refuse"])
@pytest.mark.parametrize("pieces", [(0,), (LIMIT,), (LIMIT - 1, 1), (1, LIMIT - 1, 0)])
async def test_an_answer_within_the_bound_leaves_after_the_commit(
    mode: str, pieces: tuple[int, ...]
) -> None:
    """Not a byte before, and all of them then."""
    writer = Writer(*pieces, mode=mode)
    exchange = await writer.put()
    assert not exchange.recorded.started
    assert writer.room_taken == sum(pieces)
    writer.commit.set()
    answer = await exchange.finish()
    assert (answer.status, len(answer.body)) == (200, sum(pieces))
    assert writer.room_taken == 0


@pytest.mark.parametrize("pieces", [(LIMIT + 1,), (LIMIT, 1), (1, LIMIT, 5)])
async def test_a_longer_answer_is_let_go_after_the_purge_that_comes_first(
    pieces: tuple[int, ...],
) -> None:
    """As without the hold: purged before its first byte, and again at the end."""
    writer = Writer(*pieces)
    await call(writer.middleware)
    exchange = await writer.put()
    assert exchange.recorded.complete
    assert len(exchange.recorded.body) == sum(pieces)
    assert writer.room_taken == 0
    answer = await call(writer.middleware)
    assert b"hit" not in (answer.header("cache-status") or b"")
    assert answer.body == b"0"
    writer.commit.set()
    await exchange.finish()
    assert (await call(writer.middleware)).body == b"1"


@pytest.mark.parametrize("pieces", [(LIMIT + 1,), (LIMIT, 1), (1, LIMIT, 5)])
async def test_with_refuse_a_longer_answer_is_replaced_by_503(pieces: tuple[int, ...]) -> None:
    """What cannot be held cannot be refused any more either; it says that it was executed."""
    writer = Writer(*pieces, mode="refuse")
    exchange = await writer.put()
    assert not exchange.recorded.started
    assert writer.room_taken == 0
    writer.commit.set()
    answer = await exchange.finish()
    assert answer.status == 503
    assert b"it was executed, but its answer was too long" in answer.body
    assert (await call(writer.middleware)).body == b"1"


@pytest.mark.parametrize("how", ["exception", "cancelled"])
async def test_an_answer_that_never_leaves_gives_its_room_back(how: str) -> None:
    """Else after some failures nothing could be held any more."""
    writer = Writer(LIMIT, error=how == "exception")
    exchange = await writer.put()
    assert writer.room_taken == LIMIT
    if how == "cancelled":
        exchange.cancel()
    writer.commit.set()
    answer = await exchange.finish()
    assert answer.exception is not None
    assert not answer.started
    assert writer.room_taken == 0


async def test_a_purge_by_hand_is_made_again_though_the_request_was_cancelled() -> None:
    """Its change may have been committed all the same."""
    store = MemoryStore()
    purged, never = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apurge_tags("a")
        purged.set()
        await never.wait()

    middleware = CacheMiddleware(app, CacheSettings(), store=store)
    exchange = Exchange(middleware, http_scope()).start()
    await asyncio.wait_for(purged.wait(), PATIENCE)
    (between,) = (await store.read((), ("g:a",))).tokens
    exchange.cancel()
    await exchange.finish()
    assert (await store.read((), ("g:a",))).tokens != [between]
