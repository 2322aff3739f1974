"""The circuit breaker of a server: after three failures in a row it is left alone."""

from typing import Final, final

from maxage.store.fork_safe import fork_safe_lock

FAILURES_TO_OPEN: Final = 3
PROBE_INTERVAL: Final = 0.2
"""Seconds between two attempts of the background probe to reach a server."""


@final
class CircuitBreaker:
    """Opens after three failures in a row; only the background probe closes it, never a request."""

    __slots__ = ("_failures", "_lock", "open")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._failures = 0
        self.open = False
        """Whether requests must not use the server."""

    @property
    def suspicious(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """Count an answer; an open breaker stays open until `close`."""
        self._failures = 0

    def failed(self) -> bool:
        """Count a failure; return whether the breaker is open now."""
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self.open = True
            return self.open

    def close(self) -> None:
        """Let requests through again."""
        with self._lock:
            self._failures = 0
            self.open = False
