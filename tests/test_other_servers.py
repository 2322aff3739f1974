"""Granian and Hypercorn serve the middleware as uvicorn does, over HTTP/1.1 and HTTP/2."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.support.redis_server import RedisServer
from tests.support.workers import BUDGETS, GRANIAN, HYPERCORN, Program, Worker, Workers

SOURCE = """
import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from maxage import CacheMiddleware

made = 0

async def items(request: Request) -> Response:
    global made
    if request.method == "POST":
        return JSONResponse(await request.json())
    made += 1
    return JSONResponse({"made": made, "host": request.headers["host"]})

async def stream(request: Request) -> Response:
    async def parts() -> AsyncGenerator[bytes]:
        for number in range(3):
            yield b"part %d " % number
            await asyncio.sleep(0)
    return StreamingResponse(parts(), media_type="text/plain")

async def endless(request: Request) -> Response:
    async def parts() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            print("the client of the endless stream is gone", flush=True)
    return StreamingResponse(parts(), media_type="text/plain")

async def large(request: Request) -> Response:
    return PlainTextResponse("0123456789" * 100_000)

@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    print("the application has begun", flush=True)
    yield
    print("the application has ended", flush=True)

routes = [
    Route("/items", items, methods=["GET", "POST"]),
    Route("/stream", stream),
    Route("/endless", endless),
    Route("/large", large),
]
cached = CacheMiddleware(Starlette(routes=routes, lifespan=lifespan))
without_lifespan = CacheMiddleware(Starlette(routes=routes))

async def app(scope: Scope, receive: Receive, send: Send) -> None:
    apart = scope["type"] == "http" and scope["query_string"] == b"without-lifespan"
    await (without_lifespan if apart else cached)(scope, receive, send)
"""

SERVERS = {"granian": GRANIAN, "hypercorn": HYPERCORN}
HIT, MISS = "maxage; hit; ttl=", "maxage; fwd=uri-miss; stored"


@pytest.fixture(
    scope="module",
    params=["granian asyncio", "granian uvloop", "hypercorn asyncio", "hypercorn uvloop"],
)
def served(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    """A server whose cache lies on Redis; each test asks it for URLs of its own."""
    name, loop = request.param.split()
    folder = tmp_path_factory.mktemp("server")
    args = ("--loop" if name == "granian" else "--worker-class", loop)
    redis_server.ensure_running()
    env = {"REDIS_URL": redis_server.url, "CACHE_NAMESPACE": request.param.replace(" ", "-")}
    env |= dict.fromkeys(BUDGETS, "10")
    with Worker.start(SOURCE, tmp_path=folder, args=args, env=env, program=SERVERS[name]) as worker:
        yield worker
        assert worker.terminate() == 0
        assert worker.log().count("the application has begun") == 1
        assert worker.log().count("the application has ended") == 1
        assert "Traceback" not in worker.log()


@contextmanager
def client(worker: Worker, version: str) -> Iterator[httpx.Client]:
    two = version == "HTTP/2"
    with httpx.Client(base_url=worker.url, http1=not two, http2=two, timeout=15) as asking:
        yield asking


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def ask(request: pytest.FixtureRequest, served: Worker) -> Iterator[httpx.Client]:
    with client(served, request.param) as asking:
        assert asking.get("/items", params={"first": "1"}).http_version == request.param
        yield asking


def status(response: httpx.Response) -> str:
    """The member of Cache-Status, and that there is one Date."""
    assert len(response.headers.get_list("date")) == 1
    return response.headers.get("cache-status", "none")


def test_a_response_is_stored_served_and_purged(ask: httpx.Client) -> None:
    """Miss, hit, 304, HEAD, range, and a POST after which the handler is asked again."""
    url = f"/items?version={ask.get('/items').http_version}"
    first, second = ask.get(url), ask.get(url)
    assert status(first) == MISS
    assert status(second).startswith(HIT)
    assert second.content == first.content
    etag = second.headers["etag"]
    assert first.headers["etag"] == etag
    same = ask.get(url, headers={"if-none-match": etag})
    assert (same.status_code, same.content) == (304, b"")
    assert status(same).startswith(HIT)
    head = ask.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))
    assert status(head).startswith(HIT)
    part = ask.get(url, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, b"made")
    assert status(part).startswith(HIT)
    posted = ask.post("/items", json={"new": True})
    assert (posted.json(), status(posted)) == ({"new": True}, "maxage; fwd=method")
    third = ask.get(url)
    assert status(third) == MISS
    assert third.json()["made"] > first.json()["made"]


def test_the_host_is_the_one_that_the_client_names(ask: httpx.Client) -> None:
    """In HTTP/2 it is `:authority`; either way it is part of the key."""
    port = ask.base_url.port
    answers = [ask.get("/items?host", headers={"host": f"{name}:{port}"}) for name in ("a", "b")]
    assert [answer.json()["host"] for answer in answers] == [f"a:{port}", f"b:{port}"]


def test_a_stream_is_passed_on_and_stored(ask: httpx.Client) -> None:
    """Pieces come through whole, and the hit in one, with its length; large ones too."""
    for path, body in (("/stream", b"part 0 part 1 part 2 "), ("/large", b"0123456789" * 100_000)):
        url = f"{path}?version={ask.get('/items').http_version}"
        first, second = ask.get(url), ask.get(url)
        assert first.content == second.content == body
        assert status(first) == MISS
        assert status(second).startswith(HIT)
        assert second.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_a_client_that_hangs_up_ends_the_handler_and_leaves_nothing(
    served: Worker, version: str
) -> None:
    """What came through until then is no response."""
    gone = served.log().count("the endless stream is gone")
    with client(served, version) as asking, asking.stream("GET", "/endless") as response:
        assert next(response.iter_raw())
    served.wait_log("the endless stream is gone", count=gone + 1)
    with client(served, version) as asking, asking.stream("GET", "/endless") as response:
        assert status(response).startswith("maxage; fwd=")


def test_a_cache_that_no_lifespan_reaches_sends_one_date(served: Worker) -> None:
    """Such as that of an application which is mounted in another one."""
    with client(served, "HTTP/1.1") as asking:
        answers = [asking.get("/items?without-lifespan") for _ in range(2)]
    assert [status(answer)[:11] for answer in answers] == ["maxage; fwd", "maxage; hit"]


@pytest.mark.parametrize(
    ("program", "count", "env"),
    [(GRANIAN, 2, {}), (GRANIAN, 1, {"GRANIAN_WORKERS": "2"}), (HYPERCORN, 2, {})],
    ids=["granian", "granian, by its environment", "hypercorn"],
)
def test_the_embedded_store_is_off_with_several_workers(
    workers: Workers, program: Program, count: int, env: dict[str, str]
) -> None:
    """Their purges would not meet; each worker says so."""
    worker = workers.start(SOURCE, env=env, workers=count, program=program)
    assert status(httpx.get(f"{worker.url}/items")) == "none"
    worker.wait_log("The cache is off: 2 workers", count=2)


@pytest.mark.parametrize("program", SERVERS.values(), ids=SERVERS)
def test_the_reference_application_runs(workers: Workers, program: Program) -> None:
    """With the embedded store, and a FastAPI application around it."""
    worker = workers.start("app.main:app", program=program)
    items = f"{worker.url}/api/v1/items?limit=5"
    assert status(httpx.get(items)) == MISS
    assert status(httpx.get(items)).startswith(HIT)
    renamed = httpx.patch(f"{worker.url}/api/v1/items/1", json={"name": "Renamed"})
    assert (renamed.status_code, status(renamed)) == (200, "maxage; fwd=method")
    again = httpx.get(items)
    assert status(again) == MISS
    assert "Renamed" in again.text
    assert worker.terminate() == 0
