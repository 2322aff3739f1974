"""Loads under way in this process: of several callers, in any thread or event loop, one loads.

A caller joins a load only if it read, after it began, the tokens that the load began with: they are
part of the key. So no caller gets a value from before an acknowledged write.
"""

import os
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final, NamedTuple, final

from maxage.typed.encoding import Encoded


class Loaded(NamedTuple):
    """The outcome of a load, for those who wait: a value as it is written; None: there is none."""

    encoded: Encoded | None


@final
class Flight:
    """One load under way."""

    __slots__ = ("future", "key")

    def __init__(self, key: bytes) -> None:
        self.key: Final = key
        self.future: Final[Future[Loaded | None]] = Future()
        """The outcome; None: there is nothing to share. It cannot be cancelled."""
        self.future.set_running_or_notify_cancel()

    def land(self, outcome: Loaded | None = None) -> None:
        """Tell those who wait; the first outcome counts."""
        if not self.future.done():
            _under_way.pop(self.key, None)
            self.future.set_result(outcome)


_under_way: Final[dict[bytes, Flight]] = {}
_led: Final[ContextVar[frozenset[bytes]]] = ContextVar("maxage_led_loads", default=frozenset())
"""The keys of the loads that the current context runs within: it must not wait for itself."""


def join(key: bytes) -> tuple[Flight | None, bool]:
    """Return the load of this key, and whether the caller leads it and must `land` it.

    None: the caller runs within that load.
    """
    if key in _led.get():
        return None, False
    mine = Flight(key)
    # One step: several threads may be the first.
    flight = _under_way.setdefault(key, mine)
    return flight, flight is mine


@contextmanager
def leading(flight: Flight) -> Generator[None]:
    """Enclose a load: what it calls does not wait for it, and it lands in any case."""
    token = _led.set(_led.get() | {flight.key})
    try:
        yield
    finally:
        flight.land()
        # A coroutine that is destroyed with its loop ends in another context.
        with suppress(ValueError):
            _led.reset(token)


if hasattr(os, "register_at_fork"):
    # The threads that lead loads do not exist in a forked process.
    os.register_at_fork(after_in_child=_under_way.clear)
