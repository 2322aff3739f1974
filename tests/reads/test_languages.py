"""A variant that answers because it is in the language that the request prefers."""

import asyncio
from typing import Any

import pytest
import redis

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore
from tests.support.asgi import Receive, Scope, Send, call, read_body

pytestmark = pytest.mark.anyio


class Languages:
    """Knows `de` and `en`, and answers in the first of them that the request names."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await read_body(receive)
        self.runs += 1
        asked = dict(scope["headers"]).get(b"accept-language", b"")
        language = b"de" if b"de" in asked else b"en"
        headers = [
            (b"cache-control", b"max-age=60"),
            (b"vary", b"accept-language"),
            (b"content-language", language),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"%b %d" % (language, self.runs)})


async def ask(middleware: CacheMiddleware, languages: str) -> bytes:
    """The body of the answer."""
    return (await call(middleware, headers={"accept-language": languages})).body


def settings_of(**values: Any) -> CacheSettings:
    """Languages select; budgets are generous, since the machine may be busy."""
    budgets = {"cache_read_budget": 5.0, "cache_write_budget": 5.0}
    return CacheSettings(**({"cache_language_select": True} | budgets | values))


async def test_the_variant_in_the_preferred_language_answers() -> None:
    """Also before it is written; a request without a preference of its own asks."""
    middleware = CacheMiddleware(Languages(), settings_of(), store=MemoryStore())
    assert await ask(middleware, "de, en") == b"de 1"
    assert await ask(middleware, "fr;q=0.5, de;q=1.0") == b"de 1"
    assert await ask(middleware, "fr, it") == b"en 2"
    assert await ask(middleware, "de") == b"de 1"
    assert await ask(middleware, "en, fr;q=0.1") == b"en 2"


async def test_by_default_other_words_are_another_variant() -> None:
    """The application decides."""
    middleware = CacheMiddleware(
        Languages(), settings_of(cache_language_select=False), store=MemoryStore()
    )
    assert await ask(middleware, "de, en") == b"de 1"
    assert await ask(middleware, "fr;q=0.5, de;q=1.0") == b"de 2"


async def test_a_purge_reaches_it() -> None:
    """Whatever words it was stored for."""
    middleware = CacheMiddleware(Languages(), settings_of(), store=MemoryStore())
    assert await ask(middleware, "de, en") == b"de 1"
    await call(middleware, "PUT")
    assert await ask(middleware, "de") == b"de 3"


async def test_another_worker_finds_it_in_redis(redis_url: str) -> None:
    """By the index of the URL's variants."""
    settings = settings_of(redis_url=redis_url)
    one = CacheMiddleware(Languages(), settings, store=RedisStore(redis_url, settings))
    assert await ask(one, "de, en") == b"de 1"
    await one.aclose()
    app = Languages()
    other = CacheMiddleware(app, settings, store=RedisStore(redis_url, settings))
    assert await ask(other, "fr;q=0.5, de;q=1.0") == b"de 1"
    assert app.runs == 0
    await other.aclose()


async def test_a_url_of_which_nothing_is_stored_any_more_is_an_ordinary_miss(
    redis_url: str,
) -> None:
    """The process remembers by what it varied; Redis has forgotten its variants."""
    settings = settings_of(redis_url=redis_url)
    middleware = CacheMiddleware(Languages(), settings, store=RedisStore(redis_url, settings))
    assert await ask(middleware, "de, en") == b"de 1"
    assert middleware.cache is not None
    await asyncio.gather(*middleware.cache.background.tasks)
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    answer = await call(middleware, headers={"accept-language": "fr;q=0.5, de"})
    assert answer.body == b"de 2"
    assert b"stored" in (answer.header("cache-status") or b"")
    await middleware.aclose()
