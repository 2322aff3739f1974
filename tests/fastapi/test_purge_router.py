"""A route that purges: only where it is mounted, and never without a guard."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import SecretStr

from maxage import CacheMiddleware, CacheSettings
from maxage.errors import SettingsError
from maxage.fastapi import purge_router
from tests.support.asgi import Recorded, call
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-this-test"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def admins(x_role: Annotated[str, Header()] = "") -> None:
    """Let administrators through."""
    if x_role != "admin":
        raise HTTPException(403, "for administrators")


def application(**guards: Any) -> CacheMiddleware:
    """Two pages, and the route."""
    app = FastAPI()
    app.include_router(purge_router(**guards), prefix="/ops")

    @app.get("/pages/{page}")
    def read(page: int) -> int:
        return page

    return cache_of(app)


async def ask(app: Any, headers: dict[str, str] = BEARER, **wanted: Any) -> Recorded:
    """Ask for a purge."""
    sent = {"content-type": "application/json", **headers}
    return await call(app, "POST", "/ops/purge", headers=sent, body=json.dumps(wanted).encode())


async def hits(app: Any) -> list[bool]:
    """Which of both pages is a hit."""
    answers = [await call(app, path=f"/pages/{page}") for page in (1, 2)]
    return [b"; hit" in (answer.header("cache-status") or b"") for answer in answers]


# How it is made


@pytest.mark.parametrize("guards", [{}, {"token": None}, {"dependencies": []}])
def test_without_a_guard_it_cannot_be_made(guards: dict[str, Any]) -> None:
    """The error says how to add one."""
    with pytest.raises(SettingsError, match=r"give it token=.*Depends\(your_check\)"):
        purge_router(**guards)


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 15, "x" * 15 + "é", "x" * 16 + " ", "x\n" * 9]
)
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    """And is not repeated."""
    for given in (token, SecretStr(token)):
        with pytest.raises(
            SettingsError, match=f"of {len(token)} characters; it takes 16"
        ) as error:
            purge_router(token=given)
        assert len(token) < 5 or token not in str(error.value)


@pytest.mark.parametrize("one", [admins, None, Depends()])
def test_what_checks_nothing_is_no_guard(one: Any) -> None:
    """A function without Depends, nothing, and Depends without a function."""
    with pytest.raises(SettingsError, match="Depends"):
        purge_router(dependencies=[one])


def test_the_shortest_token_and_a_secret_are_taken() -> None:
    """Sixteen characters."""
    purge_router(token="x" * 16)
    purge_router(token=SecretStr(TOKEN))


# Which callers it obeys


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, b"Bearer"),
        ({"authorization": f"Basic {TOKEN}"}, b"Bearer"),
        ({"authorization": "Bearer"}, b"Bearer"),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, b'Bearer error="invalid_token"'),
        ({"authorization": f"Bearer {TOKEN}x"}, b'Bearer error="invalid_token"'),
        ({"authorization": f"Bearer {TOKEN.upper()}"}, b'Bearer error="invalid_token"'),
        ({"authorization": "Bearer \xe9\xff"}, b'Bearer error="invalid_token"'),
    ],
)
async def test_without_the_token_nothing_is_purged(
    headers: dict[str, str], challenge: bytes
) -> None:
    """401 with a challenge, which no cache keeps."""
    app = application(token=TOKEN)
    await hits(app)
    answer = await ask(app, headers, everything=True)
    assert answer.status == 401
    assert answer.header("www-authenticate") == challenge
    assert answer.header("cache-control") == b"no-store"
    assert TOKEN.encode() not in answer.body
    assert await hits(app) == [True, True]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_it_takes_post_alone(method: str) -> None:
    """A link or an image purges nothing."""
    app = application(token=TOKEN)
    await hits(app)
    answer = await call(app, method, "/ops/purge", headers=BEARER)
    assert answer.status == 405
    assert await hits(app) == [True, True]


@pytest.mark.parametrize(
    ("guards", "headers", "status"),
    [
        ({"dependencies": [Depends(admins)]}, {}, 403),
        ({"dependencies": [Depends(admins)]}, {"x-role": "admin"}, 200),
        ({"dependencies": [Depends(admins)], "token": TOKEN}, {"x-role": "admin"}, 401),
        ({"dependencies": [Depends(admins)], "token": TOKEN}, BEARER, 403),
        ({"dependencies": [Depends(admins)], "token": TOKEN}, {**BEARER, "x-role": "admin"}, 200),
    ],
)
async def test_every_guard_has_to_let_it_through(
    guards: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    """One's own check, the token, or both."""
    app = application(**guards)
    await hits(app)
    assert (await ask(app, headers, everything=True)).status == status
    assert await hits(app) == [status != 200] * 2


# What it does


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ({"names": ["/pages/1"]}, [False, True]),
        ({"names": ["/pages/1", "/pages/2"]}, [False, False]),
        ({"names": ["/pages"]}, [False, False]),
        ({"names": ["a-tag"]}, [True, True]),
        ({"everything": True}, [False, False]),
        ({"names": ["/pages/1"], "everything": True}, [False, False]),
        ({"names": ["/pages/1"], "soft": True}, [True, True]),
    ],
)
async def test_it_purges_what_is_named(wanted: dict[str, Any], left: Sequence[bool]) -> None:
    """As `purge` does; a soft purge serves once more."""
    app = application(token=TOKEN)
    await hits(app)
    assert await hits(app) == [True, True]
    answer = await ask(app, **wanted)
    assert (answer.status, answer.body) == (200, b'{"confirmed":true}')
    assert answer.header("cache-control") == b"no-store"
    assert await hits(app) == left


@pytest.mark.parametrize(
    "wanted",
    [
        {}, {"names": []}, {"names": [""]}, {"names": "/pages/1"}, {"names": [1]},
        {"path": "/pages/1"}, {"names": ["/pages/1"], "everthing": True}, {"names": ["x"] * 1001},
    ],
)  # fmt: skip
async def test_what_says_nothing_is_refused(wanted: dict[str, Any]) -> None:
    """422, and nothing is purged."""
    app = application(token=TOKEN)
    await hits(app)
    assert (await ask(app, **wanted)).status == 422
    assert await hits(app) == [True, True]


async def test_what_is_not_confirmed_is_accepted() -> None:
    """202: it is owed, and made up for."""
    app = FastAPI()
    app.include_router(purge_router(token=TOKEN), prefix="/ops")
    settings = CacheSettings(redis_url="redis://127.0.0.1:1", cache_namespace="purge-route")
    middleware = CacheMiddleware(app, settings)
    answer = await ask(middleware, names=["/pages/1"])
    assert (answer.status, answer.body) == (202, b'{"confirmed":false}')
    await middleware.aclose()


async def test_the_description_says_what_it_takes() -> None:
    """OpenAPI names the token as its security scheme."""
    app = FastAPI()
    app.include_router(purge_router(token=TOKEN))
    described = app.openapi()
    assert described["paths"]["/purge"]["post"]["security"] == [{"PurgeToken": []}]
    assert TOKEN not in json.dumps(described)
