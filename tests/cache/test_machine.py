"""Loopback hosts name another machine in each container."""

import socket

import pytest

from maxage.cache.machine import is_loopback
from tests.support.asgi import CounterApp, call
from tests.support.caching import cache_of, status_of


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "app.localhost", "localhost.", "127.0.0.1", "127.1.2.3:80",
     "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "0.0.0.0:8000", "127.1"],
)  # fmt: skip
def test_these_are_loopback_hosts(host: str) -> None:
    assert is_loopback(host.encode())


@pytest.mark.parametrize(
    "host",
    ["example.com", "localhost.example.com", "mylocalhost", "127.0.0.1.example.com", "10.0.0.1",
     "[::2]", "[2001:db8::1]", "web:8000", "", "127"],
)  # fmt: skip
def test_these_are_none(host: str) -> None:
    assert not is_loopback(host.encode())


async def _keys(host: str, monkeypatch: pytest.MonkeyPatch, redis_url: str | None) -> list[bytes]:
    keys: list[bytes] = []
    for machine in ("one", "two", "one"):
        monkeypatch.setattr(socket, "gethostname", lambda machine=machine: machine)
        app = cache_of(CounterApp(), redis_url=redis_url, cache_status_key=True)
        answer = await call(app, headers={"host": host})
        keys.append(status_of(answer).rpartition(b'key="')[2])
    return keys


@pytest.mark.anyio
async def test_the_machine_belongs_to_the_key_of_a_loopback_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third = await _keys("localhost:8000", monkeypatch, "redis://localhost")
    assert first == third != second


@pytest.mark.anyio
async def test_machines_share_the_keys_of_all_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set(await _keys("example.com", monkeypatch, "redis://localhost"))) == 1
