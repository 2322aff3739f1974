"""The Cache-Control that clients get where the lifetime was only ours."""

from typing import Any

import pytest

from maxage import CacheSettings, SettingsError
from tests.support.asgi import CounterApp, HeaderInput, Receive, Recorded, Scope, Send, call, routed
from tests.support.caching import cache_of, piece, start
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

SETTING = {"cache_downstream_cache_control": "private, max-age=5"}


def control_of(answer: Recorded) -> list[bytes]:
    """The lines of Cache-Control."""
    return answer.headers_named("cache-control")


async def test_by_default_nothing_is_added() -> None:
    """Neither to a miss nor to a hit."""
    middleware = cache_of(CounterApp())
    for _ in range(2):
        assert control_of(await call(middleware)) == []


async def test_miss_hit_head_304_and_206_say_the_same() -> None:
    """A client cannot tell where its answer came from."""
    middleware = cache_of(CounterApp(), **SETTING)
    head_miss = await call(middleware, "HEAD")
    miss = await call(middleware)
    etag = miss.header("etag") or b""
    answers = [
        head_miss,
        miss,
        await call(middleware),
        await call(middleware, "HEAD"),
        await call(middleware, headers=[("if-none-match", etag)]),
        await call(middleware, headers={"range": "bytes=0-1"}),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 304, 206]
    for answer in answers:
        assert control_of(answer) == [b"private, max-age=5"]


async def test_a_304_on_a_miss_says_it_too() -> None:
    """It is made for a body that the client has."""
    app = CounterApp(body=b"same")
    etag = (await call(cache_of(app))).header("etag") or b""
    ours = await call(cache_of(app, **SETTING), headers=[("if-none-match", etag)])
    assert (ours.status, control_of(ours)) == (304, [b"private, max-age=5"])


@pytest.mark.parametrize("status", [206, 304])
async def test_the_application_s_own_206_and_304_say_what_its_200_would(status: int) -> None:
    """They pass, and a hit in their place would say it."""
    answer = await call(cache_of(CounterApp(status=status, content_length=False), **SETTING))
    assert (answer.status, control_of(answer)) == (status, [b"private, max-age=5"])


async def test_a_validated_response_says_it_once() -> None:
    """It is added on the way out and never stored, so that it does not become the lifetime."""
    clock = ManualClock()

    @routed
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        known = any(name == b"if-none-match" for name, _ in scope["headers"])
        await send(start((b"etag", b'"v"'), status=304 if known else 200))
        await send(piece(b"" if known else b"body"))

    middleware = cache_of(app, clock, **SETTING)
    await call(middleware)
    for _ in range(2):
        clock.advance(301)
        validated = await call(middleware)
        assert (validated.body, control_of(validated)) == (b"body", [b"private, max-age=5"])
        hit = await call(middleware)
        assert (hit.header("age"), control_of(hit)) == (b"0", [b"private, max-age=5"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"cache-control": "max-age=60"}, 200),
        ({"cache-control": "no-store"}, 200),
        ({"cache-control": "private"}, 200),
        ({"cache-control": "no-cache", "etag": '"v"'}, 200),
        ({"expires": "0", "etag": '"v"'}, 200),
        ({"set-cookie": "a=b"}, 200),
        ({}, 404),
        ({}, 500),
    ],
)
async def test_what_has_no_lifetime_of_ours_is_left_alone(
    headers: dict[str, str], status: int
) -> None:
    """It says itself how it may be kept, or we do not keep it."""
    middleware = cache_of(CounterApp(headers=headers, status=status), **SETTING)
    said = [headers["cache-control"].encode()] if "cache-control" in headers else []
    for method in ("GET", "GET", "HEAD"):
        assert control_of(await call(middleware, method)) == said


async def test_it_stands_beside_what_the_response_says_besides_freshness() -> None:
    """Lines of one field are one list."""
    headers: HeaderInput = {"cache-control": "no-transform"}
    middleware = cache_of(CounterApp(headers=headers), **SETTING)
    for _ in range(2):
        assert control_of(await call(middleware)) == [b"no-transform", b"private, max-age=5"]


async def test_requests_with_credentials_and_other_methods_get_nothing_of_ours() -> None:
    """Their answers have no lifetime of ours."""
    middleware = cache_of(CounterApp(), **SETTING)
    requests: list[dict[str, Any]] = [{"headers": {"authorization": "x"}}, {"method": "POST"}]
    for request in requests:
        assert control_of(await call(middleware, **request)) == []


async def test_a_416_says_nothing_that_lets_it_be_kept() -> None:
    """It is about one range of one request."""
    middleware = cache_of(CounterApp(), **SETTING)
    await call(middleware)
    answer = await call(middleware, headers={"range": "bytes=99-"})
    assert (answer.status, control_of(answer)) == (416, [])


@pytest.mark.parametrize("value", ["max-age=5\r\nx: y", "schön", "x" * 257])
def test_a_value_that_is_no_field_value_is_refused(value: str) -> None:
    """With a sentence that names the setting."""
    with pytest.raises(SettingsError, match="CACHE_DOWNSTREAM_CACHE_CONTROL"):
        CacheSettings(cache_downstream_cache_control=value)
