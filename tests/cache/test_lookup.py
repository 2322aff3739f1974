"""What was made of a value is made use of again as long as Redis gives the very same."""

import uuid
from collections.abc import AsyncIterator

import pytest

from maxage import CacheMiddleware, CacheSettings, apurge_tags
from maxage.cache.lookup import _LARGEST_RECENT, _MOST_RECENT
from maxage.store.codec import Codec
from maxage.store.entry import Entry, VariantIndex
from tests.support.asgi import Receive, Scope, Send, call
from tests.support.caching import background_done, piece, start

pytestmark = pytest.mark.anyio


class App:
    """Answers with its run; its responses below `/large` are too large to be remembered."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        await send(start((b"cache-control", b"max-age=60")))
        size = _LARGEST_RECENT if scope["path"].startswith("/large") else 1
        await send(piece(b"%d" % self.runs * size))


@pytest.fixture
async def middleware(redis_url: str) -> AsyncIterator[CacheMiddleware]:
    made = CacheMiddleware(
        App(),
        # A busy machine must not turn a lookup into a bypass.
        CacheSettings(redis_url=redis_url, cache_namespace=uuid.uuid4().hex, cache_read_budget=5),
    )
    yield made
    await made.aclose()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys whose values were decoded."""
    keys: list[bytes] = []
    decode = Codec.decode

    def noted(self: Codec, frame: bytes, key: bytes) -> Entry | VariantIndex | None:
        keys.append(key)
        return decode(self, frame, key)

    monkeypatch.setattr(Codec, "decode", noted)
    return keys


async def body_of(
    middleware: CacheMiddleware, path: str, method: str = "GET", *, query: str = ""
) -> bytes:
    answer = await call(middleware, method, path, query)
    await background_done(middleware)
    return answer.body


async def test_the_same_value_is_decoded_once(
    middleware: CacheMiddleware, decoded: list[bytes]
) -> None:
    """However often it is asked for."""
    assert [await body_of(middleware, "/a") for _ in range(5)] == [b"1"] * 5
    assert len(decoded) == 1


async def test_a_purge_and_another_value_are_seen_at_once(
    middleware: CacheMiddleware, decoded: list[bytes]
) -> None:
    """Other tokens make the same value untrue; what lies there then is another one."""
    await body_of(middleware, "/a")
    assert await body_of(middleware, "/a") == b"1"
    await body_of(middleware, "/a", "PUT")
    assert [await body_of(middleware, "/a") for _ in range(3)] == [b"3"] * 3
    assert await body_of(middleware, "/a", "HEAD") == b""


async def test_what_is_remembered_is_bounded(
    middleware: CacheMiddleware, decoded: list[bytes]
) -> None:
    """In number, and no large value is remembered."""
    for n in range(_MOST_RECENT + 1):
        for _ in range(2):
            await body_of(middleware, f"/{n}")
            # A response that waits to be written is not remembered.
            await background_done(middleware)
    before = len(decoded)
    await body_of(middleware, f"/{_MOST_RECENT}")
    assert len(decoded) == before
    await body_of(middleware, "/0")
    assert len(decoded) == before + 1
    for _ in range(3):
        await body_of(middleware, "/large")
    assert len(decoded) == before + 3


class Tagged(App):
    """All queries of its paths are one response, which says itself by what it is purged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        headers = ((b"cache-control", b"max-age=60"), (b"no-vary-search", b"params"))
        await send(start(*headers, (b"cache-tag", b"stock")))
        await send(piece(b"%d" % self.runs))


async def test_a_url_that_is_new_sees_the_purges_of_a_response_that_is_known(
    redis_url: str,
) -> None:
    """The tags of the response are not among what its first reading asks for."""
    settings = CacheSettings(redis_url=redis_url, cache_namespace=uuid.uuid4().hex)
    made = CacheMiddleware(Tagged(), settings)
    assert [await body_of(made, "/a", query="q=1") for _ in range(3)] == [b"1", b"2", b"2"]
    assert await body_of(made, "/a", query="q=2") == b"2"
    assert await apurge_tags("stock", settings=settings)
    assert await body_of(made, "/a", query="q=3") == b"3"
    await made.aclose()
