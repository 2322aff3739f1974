"""The latency that the cache adds, measured for some requests while something listens.

`timer` is None, and costs one look at a request, until `listen` is called. Then one request in
about 512 is timed, from its arrival in the middleware to the first message of its answer, without
the time that the application takes. A request that the application does not answer ends as "hit",
or as "collapsed" where it waited for the response of another one.
"""

import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from time import perf_counter
from typing import Any, Final, final

from maxage.observe.failures import tell_of_failure

Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Listener = Callable[[str, float], None]
"""Takes the kind of a request (hit, collapsed or forward) and its seconds."""

EVERY: Final = 512
"""One request in so many is timed, on average: a fixed distance could meet a client's rhythm."""


@final
class Timer:
    """Times some of the requests.

    Args:
        every: one request in so many, on average.
        clock: seconds, as exact as possible.
    """

    def __init__(self, every: int = EVERY, clock: Callable[[], float] = perf_counter) -> None:
        self.listeners: Final[list[Listener]] = []
        self.clock: Final = clock
        self._every: Final = every
        self._skips = 0

    def arrived(self, send: Send) -> Send:
        """Begin to time a request, if it is its turn; return the `send` for its answer."""
        if self._skips:
            self._skips -= 1
            return send
        self._skips = int(random.random() * (2 * self._every - 1))  # noqa: S311 - no secret
        timing = _Timing(self, send)
        _current.set(timing)
        return timing.send

    def around(self, app: App) -> App:
        """Return the application for the current request, timed where the request is."""
        timing = _current.get()
        return app if timing is None or timing.ended else partial(timing.call, app)


@final
class _Timing:
    """The timing of one request."""

    __slots__ = ("_app_seconds", "_began", "_calls", "_send", "_timer", "ended")

    def __init__(self, timer: Timer, send: Send) -> None:
        self._timer: Final = timer
        self._send: Final = send
        self._began: Final = timer.clock()
        self._app_seconds = 0.0
        self._calls = 0
        self.ended = False

    def send(self, message: Any) -> Awaitable[None]:
        """Send a message to the client; the first one ends the timing."""
        if not self.ended:
            self.ended = True
            seconds = self._timer.clock() - self._began - self._app_seconds
            kind = "forward" if self._calls else _kind_of(message)
            for listener in self._timer.listeners:
                try:
                    listener(kind, seconds)
                except Exception as error:  # noqa: BLE001 - the message is sent all the same
                    tell_of_failure(error)
        return self._send(message)

    async def call(self, app: App, scope: Any, receive: Any, send: Send) -> None:
        """Call the application; its time is that up to the message which the client gets first."""
        clock, before = self._timer.clock, self._app_seconds
        self._calls += 1
        began = clock()

        def passing(message: Any) -> Awaitable[None]:
            if not self.ended:
                self._app_seconds = before + clock() - began
            return send(message)

        await app(scope, receive, passing)


def _kind_of(start: Any) -> str:
    """Return the kind of an answer that no application call of this request gave."""
    for name, value in start.get("headers", ()):
        if name == b"cache-status" and b"; fwd=" in value and b"; collapsed" in value:
            return "collapsed"
    return "hit"


_current: ContextVar[_Timing | None] = ContextVar("maxage_timing", default=None)

timer: Timer | None = None
"""Times requests while something listens."""


def listen(listener: Listener, *, every: int = EVERY) -> None:
    """Time requests from now on, and tell the listener."""
    global timer  # noqa: PLW0603 - one attribute that each request looks at
    timer = timer or Timer(every)
    timer.listeners.append(listener)
