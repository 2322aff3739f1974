"""A Redis with some stored responses, for the commands that look at one."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from maxage import CacheMiddleware, CacheSettings
from maxage.cli import main
from tests.support.asgi import call
from tests.support.redis_server import RedisServer


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]
_namespaces = itertools.count(1)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `maxage` in this process, without a REDIS_URL of the environment."""
    monkeypatch.delenv("REDIS_URL", raising=False)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def redis(
    redis_process: RedisServer, generous_budgets: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisServer]:
    """A Redis that runs, with an unused namespace.

    It is not flushed: this process has a lease there, as a worker has.
    """
    redis_process.ensure_running()
    monkeypatch.setenv("CACHE_NAMESPACE", f"test{next(_namespaces)}")
    yield redis_process
    redis_process.ensure_running()


def shop(url: str, **settings: Any) -> FastAPI:
    """A small application with its cache on that server."""
    app = FastAPI(openapi_url=None)

    @app.get("/items")
    async def items(response: Response) -> list[int]:
        response.headers["cache-tag"] = "all"
        return [1, 2]

    @app.get("/items/{item_id}")
    async def item(item_id: int, request: Request, response: Response) -> str:
        response.headers["vary"] = "accept-language"
        return f"{item_id} {request.headers['accept-language']}"

    @app.put("/items/{item_id}")
    async def put(item_id: int) -> None: ...

    app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url=url, **settings))
    return app


def fill(url: str, *targets: str, language: str = "en", **settings: Any) -> None:
    """Let the shop store its responses to these requests."""

    async def ask() -> None:
        app = shop(url, **settings)
        headers = {"host": "shop.example", "accept-language": language}
        for target in targets:
            for _ in range(2):
                answer = await call(app, target=target.encode(), headers=headers)
                assert answer.status == 200
        layer: Any = app.middleware_stack
        while not isinstance(layer, CacheMiddleware):
            layer = layer.app
        await layer.aclose()

    asyncio.run(ask())
