"""The circuit breaker: after three failures in a row the store is left alone."""

import threading
from typing import Final, final

FAILURES_TO_OPEN: Final = 3


@final
class Breaker:
    """Opens after three failures in a row; only a background probe closes it, never a request."""

    __slots__ = ("_failures", "_lock", "_open")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._open = False

    @property
    def open(self) -> bool:
        """Whether requests must not ask the store."""
        return self._open

    def succeeded(self) -> None:
        """Count an answer; an open breaker stays open until `close`."""
        self._failures = 0

    def failed(self) -> bool:
        """Count a failure; return whether the breaker is open now."""
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._open = True
            return self._open

    def close(self) -> None:
        """Let requests through again."""
        with self._lock:
            self._failures = 0
            self._open = False
