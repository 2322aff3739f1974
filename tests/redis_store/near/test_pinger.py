"""The PINGs of a listening connection: how many there are, and how long an answer may take."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

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


async def test_one_timer_is_enough_for_the_answers_of_many_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A timer for each turn would cost more than the rest of a hit."""
    loop, timers = asyncio.get_running_loop(), 0
    call_at = loop.call_at

    def counted(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return call_at(*args, **kwargs)

    pinger = Pinger(lambda error: None, ManualClock())
    pinger.begin(cast("asyncio.Transport", Transport()), PING, b"PING")
    pinger.answered(b"PONG")
    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(100):
        asked = pinger.ask(lambda: 30.0)
        assert asked is not None
        await asyncio.sleep(0)
        while pinger._pending:
            pinger.answered(b"PONG")
        assert await asked
    # And one for the next PING of its own.
    assert timers <= 3
    pinger.end()


async def test_each_answer_has_its_own_time() -> None:
    """One that is due sooner than an earlier one is not waited for any longer."""
    errors: list[Exception] = []
    pinger = Pinger(errors.append, ManualClock())
    pinger.begin(cast("asyncio.Transport", Transport()), PING, b"PING")
    asked: list[asyncio.Future[bool] | None] = []
    for seconds in (60.0, 0.02, 0.04):
        asked.append(pinger.ask(lambda seconds=seconds: seconds))
        await asyncio.sleep(0)
    patient, second, third = filter(None, asked)
    assert not await second
    assert not await third
    assert len(errors) == 2
    assert not patient.done()
    while pinger._pending:
        pinger.answered(b"PONG")
    assert await patient
    pinger.end()
