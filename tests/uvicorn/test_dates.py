"""Behind uvicorn every response has one Date, and a hit that of the moment when it was made."""

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.support.raw_http import RawConnection, RawResponse
from tests.support.waiting import wait_until
from tests.support.workers import Worker

SOURCE = """
from fastapi import FastAPI, Response

from maxage import CacheMiddleware

inner = FastAPI()

@inner.get("/item")
def item() -> dict[str, int]:
    return {"item": 1}

@inner.get("/dated")
def dated(response: Response) -> dict[str, int]:
    response.headers["date"] = "Mon, 23 Nov 2026 11:05:17 GMT"
    return {"item": 1}

@inner.get("/private")
def private(response: Response) -> dict[str, int]:
    response.headers["cache-control"] = "private"
    return {"item": 1}

@inner.post("/item")
def change() -> dict[str, int]:
    return {"item": 2}

outer = FastAPI()

@outer.get("/beside")
def beside() -> dict[str, int]:
    return {"beside": 1}

outer.mount("/mounted", inner)
inner.add_middleware(CacheMiddleware)
app = APP
"""


def served(tmp_path: Path, app: str, args: tuple[str, ...], **env: str) -> Iterator[Worker]:
    source = SOURCE.replace("APP", app)
    settings = {"CACHE_NEAR": "prompt"} | env
    with Worker.start(source, tmp_path=tmp_path, args=args, env=settings) as worker:
        yield worker


@pytest.fixture(
    params=[
        "--http httptools",
        "--http h11",
        "--http maxage.uvicorn:FastLaneProtocol",
        "--http httptools --lifespan off",
        "--http h11 --lifespan off",
        "--http maxage.uvicorn:FastLaneProtocol --lifespan off",
        "--http httptools --no-date-header",
    ]
)
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    """uvicorn with its own protocols and the fast lane, with a lifespan and without."""
    yield from served(tmp_path, "inner", tuple(request.param.split()))


def date_of(response: RawResponse) -> bytes:
    """The only Date of a response."""
    (date,) = response.headers_named("date")
    parsedate_to_datetime(date.decode())
    return date


def ask(worker: Worker, target: str, method: str = "GET", **headers: str) -> RawResponse:
    with RawConnection(worker.port) as connection:
        return connection.request(method, target, headers)


def later(worker: Worker, target: str, date: bytes) -> None:
    """Return when what is asked for has another date."""
    wait_until(lambda: date_of(ask(worker, target)) != date, "a second has passed")


def test_a_hit_has_the_date_at_which_it_was_made(worker: Worker) -> None:
    """The only one, also a 304, and a repeated one on the fast lane."""
    missed = ask(worker, "/item")
    made = date_of(missed)
    later(worker, "/private", made)
    etag = (missed.header("etag") or b"").decode()
    hits = [ask(worker, "/item") for _ in range(4)]
    hits += [ask(worker, "/item", **{"if-none-match": etag}) for _ in range(3)]
    assert [hit.status for hit in hits] == [200] * 4 + [304] * 3
    for hit in hits:
        assert b"; hit" in (hit.header("cache-status") or b"")
        assert date_of(hit) == made


def test_what_is_not_cached_has_one_date(worker: Worker) -> None:
    """A write, an error, what is not stored, a method that the cache does not know."""
    for method, target in (
        ("GET", "/private"), ("POST", "/item"), ("GET", "/nothing"), ("DELETE", "/item"),
        ("OPTIONS", "/item"), ("TRACE", "/item"),
    ):  # fmt: skip
        date_of(ask(worker, target, method))


def test_a_date_of_the_application_is_the_only_one(worker: Worker) -> None:
    """On a miss and on a hit."""
    for _ in range(2):
        assert date_of(ask(worker, "/dated")) == b"Mon, 23 Nov 2026 11:05:17 GMT"


@pytest.mark.parametrize("http", ["httptools", "h11", "maxage.uvicorn:FastLaneProtocol"])
def test_behind_a_mounted_cache_the_rest_keeps_the_date_of_the_server(
    tmp_path: Path, http: str
) -> None:
    """No lifespan reaches the mounted application."""
    for worker in served(tmp_path, "outer", ("--http", http)):
        made = date_of(ask(worker, "/mounted/item"))
        date_of(ask(worker, "/beside"))
        later(worker, "/beside", made)
        hit = ask(worker, "/mounted/item")
        assert b"; hit" in (hit.header("cache-status") or b"")
        assert date_of(hit) == made
        date_of(ask(worker, "/beside"))


@pytest.mark.parametrize("setting", ["CACHE_SEND_DATE", "USE_REDIS_CACHE"])
def test_the_server_keeps_its_date_where_the_settings_say_so(tmp_path: Path, setting: str) -> None:
    """Told to leave Date to the server, or switched off."""
    for worker in served(tmp_path, "inner", (), **{setting: "false"}):
        later(worker, "/item", date_of(ask(worker, "/item")))
