"""`maxage serve`: an application behind the cache, its code unchanged."""

import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.support.ports import free_port
from tests.support.processes import ended, spawn
from tests.support.raw_http import get, request
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
PLAIN = """
import itertools
from fastapi import FastAPI

app = FastAPI()
runs = itertools.count(1)

@app.get("/items")
async def items():
    return next(runs)

@app.put("/items")
async def put(): ...
"""


@contextmanager
def serving(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, source: str = PLAIN
) -> Iterator[tuple[int, Path]]:
    """`maxage serve` as a process; its port and its log."""
    (folder / "shop.py").write_text(source)
    port, log = free_port(), folder / "serve.log"
    command = [sys.executable, "-m", "maxage", "serve", "shop:app", "--port", str(port), *arguments]
    paths = f"{ROOT / 'middleware'}:{folder}"
    process = spawn(command, log=log, cwd=folder, env={"PYTHONPATH": paths, **(env or {})})
    try:
        wait_until(lambda: accepts(port) or process.poll() is not None, "it serves", timeout=30)
        assert process.poll() is None, log.read_text()
        yield port, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        ended(process)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_an_application_without_a_cache_gets_one_and_the_fast_lane(tmp_path: Path) -> None:
    """Hits, purges by its own writes; nothing of its code is changed."""
    with serving(tmp_path) as (port, log):
        answers = [get(port, "/items") for _ in range(3)]
        assert [answer.body for answer in answers] == [b"1"] * 3
        assert b"; hit" in (answers[-1].header("cache-status") or b"")
        assert request(port, "PUT", "/items").status == 200
        assert get(port, "/items").body == b"2"
        assert "The fast lane is off" not in log.read_text()


def test_with_redis_the_workers_share_it_and_the_lane_is_on(
    tmp_path: Path, redis: RedisServer
) -> None:
    """By the near cache in prompt mode, unless the settings say otherwise."""
    env = {"REDIS_URL": redis.url, "CACHE_NAMESPACE": "served"}
    with serving(tmp_path, "--workers", "2", env=env) as (port, log):
        for _ in range(20):
            answer = get(port, "/items")
        assert b"; hit" in (answer.header("cache-status") or b"")
        assert "The fast lane is off" not in log.read_text()
    exact = {**env, "CACHE_NEAR": "exact"}
    with serving(tmp_path, env=exact) as (port, log):
        assert get(port, "/items").status == 200


def test_the_settings_of_the_lane_are_given_where_no_others_are(tmp_path: Path) -> None:
    """An empty variable is an unset one, and `.env` counts as the environment does."""
    (tmp_path / ".env").write_text("CACHE_NEAR=exact\n")
    shown = """
from maxage import CacheSettings, uncached

@app.get("/settings")
@uncached
async def settings():
    found = CacheSettings()
    return [found.cache_near, found.cache_near_bytes]
"""
    with serving(tmp_path, env={"CACHE_NEAR_BYTES": ""}, source=PLAIN + shown) as (port, _):
        assert get(port, "/settings").body == b'["exact",67108864]'


def test_an_application_with_a_cache_keeps_its_own(tmp_path: Path) -> None:
    """Its settings hold, and there is one member of Cache-Status."""
    added = "\nfrom maxage import CacheMiddleware, CacheSettings\n"
    added += "app.add_middleware(CacheMiddleware, settings=CacheSettings(cache_expiration=7))\n"
    with serving(tmp_path, source=PLAIN + added) as (port, _):
        get(port, "/items")
        status = get(port, "/items").header("cache-status") or b""
        assert status.startswith(b"maxage; hit; ttl=")
        assert int(status.rpartition(b"=")[2]) <= 7


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'MODULE:APP'; "),
        (["nowhere:app"], "'nowhere:app' cannot be loaded: no module 'nowhere'."),
        (["app.main:app", "--workers", "2"], "several workers need a store that they share; set "),
        (["app.main:app", "--port", "99999"], "Invalid value for '--port'"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command("serve", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1


def test_a_port_in_use_is_exit_code_2(command: Command) -> None:
    """uvicorn's own line says which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = command("serve", "app.main:app", "--port", str(taken.getsockname()[1]))
    assert ran.code == 2
    assert "address already in use" in ran.err


def test_without_uvicorn_it_says_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence."""
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "uvicorn" else real(name)
    )
    ran = command("serve", "app.main:app")
    assert (ran.code, ran.err) == (2, "maxage: serving needs uvicorn: pip install uvicorn.\n")
