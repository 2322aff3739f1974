"""Layers inside the cache that add `Access-Control-Allow-Origin` for requests with an Origin."""

import pytest

from tests.support.asgi import Receive, Scope, Send, call, routed
from tests.support.caching import background_done, cache_of, piece, start, status_of

pytestmark = pytest.mark.anyio

ALLOW = b"access-control-allow-origin"


@routed
async def allows_all(scope: Scope, receive: Receive, send: Send) -> None:
    """As CORSMiddleware for all origins: without an Origin it adds nothing, not even Vary."""
    asked = any(name == b"origin" for name, _ in scope["headers"])
    await send(start((b"content-length", b"1"), *([(ALLOW, b"*")] if asked else [])))
    await send(piece(b"x"))


@pytest.mark.parametrize("first", ["", "https://a.example"])
async def test_a_request_with_origin_gets_the_response_to_one_with_origin(first: str) -> None:
    """Else a browser refuses what was stored for a client that sends no Origin."""
    middleware = cache_of(allows_all)
    for origin in (first, "", "https://a.example", "https://b.example"):
        answer = await call(middleware, headers={"origin": origin} if origin else {})
        assert answer.header(ALLOW) == (b"*" if origin else None)
        await background_done(middleware)


@pytest.mark.parametrize("near_bytes", [0, 1 << 20])
async def test_requests_with_origin_are_hits_and_known(near_bytes: int) -> None:
    middleware = cache_of(allows_all, cache_near_bytes=near_bytes)
    for number in range(4):
        headers = {"origin": f"https://{number}.example"}
        for sent in (headers, {}):
            answer = await call(middleware, headers=sent)
            assert answer.header(ALLOW) == (b"*" if sent else None)
            assert (b"hit" in status_of(answer)) == (number > 0)
    assert middleware.fast_path is not None
    assert len(middleware.fast_path) == 2
