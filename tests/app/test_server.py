"""What the middleware can tell of its server, also from inside FastAPI."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from maxage.asgi.server_info import adds_date, worker_count
from tests.support.workers import Workers

SOURCE = """
from fastapi import FastAPI
from maxage import CacheMiddleware
app = FastAPI()
app.add_middleware(CacheMiddleware)
@app.get("/x")
def x() -> int:
    return 1
"""


class Lifespan:
    """What uvicorn gives: a bound method of an object with a configuration."""

    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(**config)

    async def receive(self) -> None:
        """Receive nothing."""


def wrapped(receive: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def inner() -> None:
        await receive()

    return inner


def test_the_configuration_is_seen_through_wrappers() -> None:
    """FastAPI's telemetry wraps what uvicorn gave."""
    receive = Lifespan(workers=3, date_header=False).receive
    for _ in range(3):
        assert worker_count(receive, []) == 3
        assert adds_date(receive) is False
        receive = wrapped(receive)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("/usr/bin/gunicorn -w 4 app:app", 4),
        ("/x/site-packages/uvicorn/__main__.py app:app --workers=2", 2),
        ("/x/bin/fastapi run --workers 3", 3),
        ("/srv/fastapi/manage.py --workers 3", 1),
        ("/usr/bin/gunicorn app:app", 1),
    ],
)
def test_the_command_line_tells_where_there_is_no_configuration(
    line: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that of a server."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    assert worker_count(None, line.split()) == count
    assert adds_date(None) is True


@pytest.mark.parametrize("count", [1, 2])
def test_the_embedded_store_is_off_with_several_workers(workers: Workers, count: int) -> None:
    """Their purges would not meet; alone it is used, and sends Date where uvicorn does not."""
    worker = workers.start(SOURCE, args=["--no-date-header"], workers=count)
    answer = httpx.get(f"{worker.url}/x")
    assert ("cache-status" in answer.headers) is (count == 1)
    assert ("date" in answer.headers) is (count == 1)
    assert worker.log().count("The cache is off: 2 workers") == (2 if count == 2 else 0)
