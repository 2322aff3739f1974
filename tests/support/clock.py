"""A clock that moves only when a test moves it."""


class ManualClock:
    """A wall clock and a monotonic clock, both standing still until moved; call it for the time."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._wall = start
        self._elapsed = 0.0

    def __call__(self) -> float:
        """The wall time in POSIX seconds."""
        return self._wall

    def time(self) -> float:
        """The wall time in POSIX seconds, like `time.time`."""
        return self._wall

    def monotonic(self) -> float:
        """The seconds advanced since the start, like `time.monotonic`."""
        return self._elapsed

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass on both clocks and return the new wall time."""
        if seconds < 0:
            raise ValueError("time does not run backwards: use jump for the wall clock")
        self._wall += seconds
        self._elapsed += seconds
        return self._wall

    def jump(self, seconds: float) -> float:
        """Move the wall clock alone, in either direction, as an operator or NTP would."""
        self._wall += seconds
        return self._wall
