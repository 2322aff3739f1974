"""Assertions on responses and on real requests, and what their failures say."""

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Response

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from maxage.testing import (
    assert_does_not_invalidate,
    assert_hit,
    assert_invalidates,
    assert_miss,
)

pytestmark = pytest.mark.anyio


def answer(*statuses: str) -> httpx.Response:
    """A response with these lines of Cache-Status."""
    headers = [("cache-status", status) for status in statuses]
    return httpx.Response(200, headers=headers, request=httpx.Request("GET", "http://shop.test/x"))


@pytest.mark.parametrize(
    "statuses",
    [
        ["maxage; hit; ttl=9"],
        ["maxage; fwd=uri-miss; collapsed"],
        ["origin-cache; fwd=uri-miss", "maxage; hit; ttl=0"],
        ['maxage; hit; ttl=9; key="a, b; fwd=miss"', 'cdn; fwd="miss"'],
    ],
)
def test_a_hit_is_what_the_application_did_not_answer(statuses: list[str]) -> None:
    """Caches of others in the same field do not count."""
    assert_hit(answer(*statuses))
    with pytest.raises(AssertionError, match=r"is no miss\.\nCache-Status: maxage; "):
        assert_miss(answer(*statuses))


@pytest.mark.parametrize(
    "statuses",
    [
        ["maxage; fwd=uri-miss; stored"],
        ["maxage; fwd=uri-miss; collapsed=?0"],
        ["maxage; fwd=bypass; detail=uncached"],
        ["other; hit, maxage; fwd=stale; fwd-status=304"],
    ],
)
def test_a_miss_is_what_the_application_answered(statuses: list[str]) -> None:
    """Whether it was stored or not."""
    assert_miss(answer(*statuses))
    with pytest.raises(AssertionError, match=r"^GET http://shop.test/x \(answered 200\) is no hit"):
        assert_hit(answer(*statuses))


@pytest.mark.parametrize(
    ("status", "sentences"),
    [
        (
            "maxage; fwd=uri-miss; stored",
            ["uri-miss: Nothing usable was stored", "The answer was stored: the next such request"],
        ),
        (
            "maxage; fwd=bypass; detail=uncached",
            ["uncached: The route is not cached"],
        ),
        (
            "maxage; fwd=uri-miss; detail=cookie",
            ["cookie: The same for a cookie", "CACHE_IGNORED_COOKIES"],
        ),
        (
            "maxage; fwd=uri-miss; detail=no-lifetime",
            ["no-lifetime: The response states no lifetime", "State a lifetime: @cached(ttl=...)"],
        ),
        ("maxage; fwd=request", ["request: The request asked for it", "CACHE_OBEY_REQUEST"]),
    ],
)
def test_a_failure_explains_each_word(status: str, sentences: list[str]) -> None:
    """And says what would change it."""
    with pytest.raises(AssertionError) as failed:
        assert_hit(answer(status))
    said = str(failed.value)
    assert [sentence for sentence in sentences if sentence not in said] == []


@pytest.mark.parametrize("check", [assert_hit, assert_miss])
@pytest.mark.parametrize("statuses", [[], ["cdn; hit"], ["maxage2; hit"]])
def test_a_response_that_no_cache_of_ours_saw_proves_nothing(
    check: object, statuses: list[str]
) -> None:
    """It is neither hit nor miss."""
    assert callable(check)
    with pytest.raises(AssertionError, match="no CacheMiddleware saw the request"):
        check(answer(*statuses))


def shop() -> CacheMiddleware:
    """Two trees of routes, a route that is not cached, and a write that may be refused."""
    app = FastAPI()

    @app.get("/items")
    @app.get("/items/{number}")
    @app.get("/about")
    async def read(number: int = 0) -> int:
        return number

    @app.get("/private")
    async def private(response: Response) -> None:
        response.headers["cache-control"] = "private"

    @app.put("/items/{number}")
    async def write(number: int, name: str) -> None:
        if name == "taken":
            raise HTTPException(409, "The name is taken.")

    @app.post("/about")
    async def about() -> None: ...

    settings = CacheSettings(redis_url="memory://")
    return CacheMiddleware(app, settings, store=MemoryStore())


def client() -> httpx.AsyncClient:
    """An asynchronous client of a shop."""
    transport = httpx.ASGITransport(shop())
    return httpx.AsyncClient(transport=transport, base_url="http://shop.test")


async def test_a_write_that_purges_every_read_passes() -> None:
    """Options go to the write; URLs may be absolute, and have queries."""
    async with client() as http:
        reads = ["/items", "/items?page=2", "http://shop.test/items/5"]
        await assert_invalidates(http, "put", "/items/5", params={"name": "new"}, reads=reads)
        await assert_does_not_invalidate(
            http, "PUT", "/items/5", params={"name": "new"}, reads=["/items/6", "/about"]
        )


async def test_a_read_that_is_not_purged_fails_with_the_groups_of_both() -> None:
    """And with the Cache-Status that shows it."""
    async with client() as http:
        with pytest.raises(AssertionError) as failed:
            await assert_invalidates(http, "POST", "/about", reads=["/about", "/items"])
    said = str(failed.value).splitlines()
    assert said[0] == "POST /about does not invalidate GET /items."
    assert said[1].startswith("Cache-Status: maxage; hit")
    assert said[3].startswith("  POST /about (route /about) purges p:/about")


async def test_a_read_that_is_purged_fails_the_opposite() -> None:
    """With the group that both have."""
    async with client() as http:
        with pytest.raises(
            AssertionError, match=r"PUT /items/5 invalidates GET /items\."
        ) as failed:
            await assert_does_not_invalidate(
                http, "PUT", "/items/5", params={"name": "new"}, reads=["/items"]
            )
    assert "GET /items (route /items) is in" in str(failed.value)


@pytest.mark.parametrize("check", [assert_invalidates, assert_does_not_invalidate])
async def test_a_read_that_is_not_cached_proves_nothing(check: object) -> None:
    """The failure says why it is not."""
    assert callable(check)
    async with client() as http:
        with pytest.raises(AssertionError) as failed:
            await check(http, "POST", "/about", reads=["/private"])
    said = str(failed.value)
    assert said.startswith("GET /private is no hit even before POST /about.\nCache-Status: maxage")
    assert "private: The response says `private`." in said


@pytest.mark.parametrize("check", [assert_invalidates, assert_does_not_invalidate])
async def test_a_write_that_is_refused_proves_nothing(check: object) -> None:
    """The failure shows its answer."""
    assert callable(check)
    async with client() as http:
        with pytest.raises(AssertionError, match=r"answered 409.*\n.*The name is taken"):
            await check(http, "PUT", "/items/5", params={"name": "taken"}, reads=["/items"])
