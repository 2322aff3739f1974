"""The clock of the cache in a test."""

import time
from collections.abc import Callable
from typing import final


@final
class CacheClock:
    """The time as the cache of a test sees it: it stands still, and moves when the test moves it.

    Responses and typed values age by it. The application's own time goes on.
    """

    def __init__(self) -> None:
        self._advanced = 0.0
        self._stopped: tuple[float, float] | None = None
        """The wall clock and the monotonic one at the moment when the time was stopped."""
        self.moved: Callable[[float], None] | None = None
        """Is called with the seconds of each move: a server has a clock of its own."""

    def __repr__(self) -> str:
        return f"CacheClock({self.time():.3f})"

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass.

        Raises:
            ValueError: the number is negative; time does not run backwards.
        """
        if not seconds >= 0:
            raise ValueError(f"cache_clock.advance() got {seconds!r}; it takes seconds from 0 up.")
        self._advanced += seconds
        if self.moved is not None:
            self.moved(seconds)

    def time(self) -> float:
        """Return the time in POSIX seconds."""
        return (self._stopped[0] if self._stopped else time.time()) + self._advanced

    def monotonic(self) -> float:
        """Return the time in seconds since an unspecified moment."""
        return (self._stopped[1] if self._stopped else time.monotonic()) + self._advanced

    def stop(self) -> None:
        """Let no time pass but by `advance`."""
        self._stopped = (time.time(), time.monotonic())

    def reset(self) -> None:
        """Show the real time, which runs."""
        self._advanced, self._stopped = 0.0, None
