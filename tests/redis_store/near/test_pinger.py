"""The PINGs of a listening connection: how many there are while no copy is used."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from maxage.redis_store.near.pinger import PING, Pinger
from tests.support.clock import ManualClock
from tests.support.waiting import eventually


class Transport:
    """Counts what is written."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += 1

    def abort(self) -> None:
        """Nothing to close."""


class Timer:
    """What the event loop would call later."""

    def cancel(self) -> None:
        """Nothing to cancel."""


async def test_an_unused_connection_is_pinged_seldom_and_after_a_minute_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some servers bill by the command; a use of a copy begins anew."""
    clock, transport = ManualClock(), Transport()
    due: list[tuple[float, Callable[[], None]]] = []

    def call_later(seconds: float, call: Callable[[], None]) -> Timer:
        due[:] = [(clock() + seconds, call)]
        return Timer()

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    pinger = Pinger(lambda error: None, clock)
    pinger.begin(cast("asyncio.Transport", transport), PING, b"PING")

    def pass_seconds(seconds: int) -> int:
        before = transport.written
        for _ in range(seconds):
            clock.advance(1.0)
            while due and due[0][0] <= clock():
                due.pop()[1]()
            while pinger._pending:
                pinger.answered(b"PONG")
        return transport.written - before

    pinger.answered(b"PONG")
    assert 0 < pass_seconds(40) <= 8
    pass_seconds(20)
    assert pass_seconds(120) == 0
    assert pinger.heard_at() < clock() - 60
    monkeypatch.undo()
    before = transport.written
    await eventually(lambda: transport.written > before)
    pinger.end()
