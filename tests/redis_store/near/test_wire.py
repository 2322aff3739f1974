"""The listening connection, fed by hand."""

import asyncio
import gc
from typing import Any

import pytest
from redis.exceptions import RedisError

from maxage.redis_store.near.wire import Wire

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("greeted", [False, True])
async def test_the_end_of_a_connection_that_was_refused_is_no_unhandled_error(
    *, greeted: bool
) -> None:
    """asyncio would log it, though the refusal was told already."""
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    try:
        begun: asyncio.Future[None] = loop.create_future()
        wire = Wire(lambda *_: None, lambda _: None, begun, loop.create_future())
        wire.data_received((b"%1\r\n+proto\r\n:3\r\n" if greeted else b"") + b"-NOPERM no\r\n")
        wire.connection_lost(None)
        with pytest.raises((RedisError, ConnectionError)):
            await begun
        del wire, begun
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert unhandled == []


async def test_the_end_of_a_listening_connection_is_told() -> None:
    """Its copies must not answer any more."""
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[None] = loop.create_future()
    lost: asyncio.Future[None] = loop.create_future()
    wire = Wire(lambda *_: None, lambda _: None, begun, lost)
    wire.data_received(b"%1\r\n+proto\r\n:3\r\n+OK\r\n")
    await begun
    assert not lost.done()
    wire.connection_lost(None)
    with pytest.raises(ConnectionError, match="lost"):
        await lost
