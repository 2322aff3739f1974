"""What the middleware was given holds for the process; an embedded store beside workers is off."""

import gc
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from maxage import CacheMiddleware, CacheSettings, MemoryStore, RedisStore, apurge, purge
from maxage.redis import RedisCache, get_redis
from maxage.settings_in_force import has_middleware, register, settings_in_force
from maxage.store_factory import store_for
from maxage.worker_count import configured_workers
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.workers import Workers

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "REDIS_URL", "USE_REDIS_CACHE", "CACHE_NAMESPACE", "WEB_CONCURRENCY", "GRANIAN_WORKERS",
        "UVICORN_WORKERS", "GUNICORN_CMD_ARGS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """No application."""


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


SHOP = """
import os
from fastapi import FastAPI
from maxage import CacheMiddleware, CacheSettings, apurge
from maxage.redis import RedisCache, get_redis

items = RedisCache[int](int, prefix="item")
app = FastAPI()
app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url=os.environ["STORE"]))

@app.get("/items/{item_id}")
async def read(item_id: int) -> int:
    return await items.aget_or_set(item_id, lambda: int(get_redis().get("row") or 0))

@app.put("/items/{item_id}")
async def write(item_id: int, value: int) -> bool:
    get_redis().set("row", value)
    return await items.aset(item_id, value)

@app.post("/purge")
async def purge(item_id: int) -> bool:
    return await apurge(f"item:{item_id}")
"""


def test_no_worker_serves_an_old_object(workers: Workers, redis_url: str) -> None:
    """The server is named to the middleware alone; the typed cache and get_redis use it too."""
    worker = workers.start(SHOP, env={"STORE": redis_url}, args=["--workers", "2"])
    reads: list[int] = []
    for value in range(1, 21):
        with httpx.Client(base_url=worker.url) as client:
            assert client.put(f"/items/5?value={value}").json() is True
        for _ in range(3):
            with httpx.Client(base_url=worker.url) as client:
                reads.append(client.get("/items/5").json())
    assert reads == [value for value in range(1, 21) for _ in range(3)]


def test_settings_given_to_the_middleware_hold_for_the_process(
    redis_server: RedisServer, redis_url: str
) -> None:
    """For typed caches, get_redis and purges that are not told any."""
    items = RedisCache[int](int, prefix="item")
    given = CacheSettings(redis_url=redis_url, cache_namespace="mine")
    middleware = CacheMiddleware(app, given)
    assert settings_in_force() == given
    assert items.set(5, 1) is True
    assert redis_server.call("EXISTS", "item:5", "mine:s:item:5") == 2
    assert get_redis().get("item:5") == b"1"
    assert purge("item:5") is True
    assert items.get(5) is None
    del middleware


def test_a_store_given_to_the_middleware_holds_too(redis_url: str) -> None:
    """With its namespace."""
    store = RedisStore(redis_url, CacheSettings(cache_namespace="mine"))
    middleware = CacheMiddleware(app, store=store)
    assert settings_in_force().redis_url == redis_url
    assert settings_in_force().cache_namespace == "mine"
    del middleware


def test_another_server_in_the_environment_holds_and_the_start_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With no password in the line."""
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@env.example:6379/0")
    middleware = CacheMiddleware(app, CacheSettings(redis_url="redis://:s3cret@given.example/0"))
    (line,) = lines(caplog)
    assert "env.example" in line
    assert "given.example" in line
    assert "s3cret" not in line
    assert settings_in_force().redis_url == "redis://:s3cret@env.example:6379/0"
    del middleware


def test_the_same_server_in_the_environment_is_no_contradiction(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What else the middleware was given holds."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    middleware = CacheMiddleware(app, CacheSettings(cache_namespace="mine"))
    assert settings_in_force().cache_namespace == "mine"
    assert lines(caplog) == []
    del middleware


def test_of_two_middlewares_the_first_counts_and_a_warning_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As long as it is there; equal ones are no reason for a warning."""
    one, two = (CacheSettings(redis_url=f"redis://{name}.example/0") for name in ("one", "two"))
    first, same = CacheMiddleware(app, one), CacheMiddleware(app, one)
    assert lines(caplog) == []
    second = CacheMiddleware(app, two)
    (line,) = lines(caplog)
    assert "one.example" in line
    assert "two.example" in line
    assert settings_in_force() == one
    del first, same
    import gc

    gc.collect()
    assert settings_in_force() == two
    del second


async def test_the_settings_of_an_application_end_with_it() -> None:
    """Tests start one application after the other in one process."""
    given = CacheSettings(redis_url=None, cache_namespace="mine")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        assert settings_in_force() == given
        await send({"type": "lifespan.shutdown.complete"})

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        pass

    middleware = CacheMiddleware(inner, given)
    for _ in range(2):
        await middleware({"type": "lifespan"}, receive, send)
        assert settings_in_force().cache_namespace == "maxage"


def test_a_purge_that_reaches_nothing_says_so() -> None:
    """A script that is not told where the application's store is confirms nothing."""
    script = (
        "import asyncio, maxage\n"
        "print(asyncio.run(maxage.apurge('/items')), maxage.purge_all())\n"
        "middleware = maxage.CacheMiddleware(print)\n"
        "print(maxage.purge('/items'))\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    env["PYTHONPATH"] = "middleware:."
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "True"]
    assert "REDIS_URL" in done.stderr


# An embedded store beside other workers


def new_size() -> int:
    return 8_000_000 + free_port()


def test_an_embedded_store_beside_workers_is_off_wherever_it_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With one warning; nothing is stored, and no purge is confirmed."""
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    settings = CacheSettings(redis_url=None, cache_memory_bytes=new_size())
    items = RedisCache[int](int, prefix="item", settings=settings)
    assert items.set(5, 1) is False
    assert items.get(5) is None
    assert items.delete(5) is False
    assert items.get_or_set(5, lambda: 2) == 2
    assert items.get(5) is None
    assert purge("item:5", settings=settings) is False
    assert purge("item:5", soft=True, settings=settings) is False
    assert isinstance(store_for(settings), MemoryStore)
    (line,) = lines(caplog)
    assert "2 workers" in line
    assert "REDIS_URL" in line


def _workers_in_child(config: Any, answers: Any) -> None:
    answers.put(configured_workers(["python"]))


class Config:
    """What uvicorn gives each worker that it starts."""

    workers = 3


def test_a_worker_that_uvicorn_started_knows_of_the_others() -> None:
    """`uvicorn.run(workers=3)` has neither a command line nor a variable."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(
        target=_workers_in_child, kwargs={"config": Config(), "answers": answers}
    )
    child.start()
    assert answers.get(timeout=10) == 3
    child.join()
    assert configured_workers(["python"]) == 1


def test_a_typed_cache_without_middleware_is_off_beside_workers(workers: Workers) -> None:
    """The values of one worker would be old for the other."""
    source = (
        "from fastapi import FastAPI\n"
        "from maxage.redis import RedisCache\n"
        "items = RedisCache[int](int, prefix='item')\n"
        "app = FastAPI()\n"
        "@app.put('/{value}')\n"
        "def write(value: int) -> bool:\n"
        "    return items.set(5, value)\n"
    )
    worker = workers.start(source, args=["--workers", "2"])
    assert httpx.put(f"{worker.url}/3").json() is False


async def test_apurge_is_not_confirmed_by_a_store_that_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of its workers can be reached."""
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    settings = CacheSettings(redis_url=None, cache_memory_bytes=new_size())
    assert await apurge("/items", settings=settings) is False


# Where the number of workers is read


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("gunicorn app:app", 1), ("gunicorn -w 4 app:app", 4), ("gunicorn -w4 app:app", 4),
        ("gunicorn --workers=4 app:app", 4), ("gunicorn --workers 4 app:app", 4),
        ("uvicorn app:app --workers 3", 3), ("granian --workers 2 app:app", 2),
        ("hypercorn -w 2 app:app", 2), ("fastapi run --workers 5", 5),
        ("uvicorn app:app --workers four", 1), ("python -w 4", 1), ("uvicorn app:app -w", 1),
    ],
)  # fmt: skip
def test_a_command_line_says_how_many(command: str, count: int) -> None:
    """Each server's, in each spelling of the option."""
    assert configured_workers(command.split()) == count


@pytest.mark.parametrize("name", ["WEB_CONCURRENCY", "GRANIAN_WORKERS", "UVICORN_WORKERS"])
def test_a_variable_says_how_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one, and one that is no number, says nothing."""
    for value, count in (("3", 3), ("", 1), ("many", 1), ("0", 1)):
        monkeypatch.setenv(name, value)
        assert configured_workers(["python"]) == count


@pytest.mark.parametrize(
    ("arguments", "count"), [("--workers 4", 4), ("-w 4 --preload", 4), ("", 1), ("'", 1)]
)
def test_the_variable_of_gunicorn_counts_for_gunicorn(
    arguments: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)
    assert configured_workers(["gunicorn", "app:app"]) == count
    assert configured_workers(["python", "-m", "gunicorn"][1:]) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("workers = 4", 4), ("bind = ':80'\nworkers=1", 1), ("workers: int = 3", 3),
        ("import multiprocessing\nworkers = multiprocessing.cpu_count() * 2 + 1", 2),
        ("if True:\n    workers = 8", 8), ("workers = '4'", 4), ("", 1), ("workers = (", 1),
    ],
)  # fmt: skip
def test_the_file_of_gunicorn_counts_and_is_not_run(
    text: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that it computes counts as several."""
    (tmp_path / "gunicorn.conf.py").write_text(text)
    (tmp_path / "other.py").write_text("workers = 7\nraise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert configured_workers(["gunicorn", "app:app"]) == count
    for option in (["-c", "other.py"], ["--config=file:other.py"], ["-cother.py"]):
        assert configured_workers(["gunicorn", *option, "app:app"]) == 7
    assert configured_workers(["gunicorn", "-c", "missing.py"]) == 1
    assert configured_workers(["uvicorn", "app:app"]) == 1


def test_middlewares_that_are_collected_at_any_moment_hold_up_no_other() -> None:
    """Thousands of applications in one process: the collector runs while another one is built."""

    class Application:
        def __init__(self) -> None:
            self.itself = self

    threshold = gc.get_threshold()
    try:
        for number in range(2000):
            gc.set_threshold(1 + number % 100)
            register(Application(), None)
            settings_in_force()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert not has_middleware()
