"""The purges that this process owes to the store: bounded in number, never forgotten."""

from collections.abc import Iterable
from typing import final

from maxage.store.fork_safe import fork_safe_lock
from maxage.store.tokens import NAMESPACE_GROUP


@final
class OwedPurges:
    """Groups whose purge was not confirmed. Too many of them become a purge of everything."""

    __slots__ = ("_limit", "_lock", "_owed", "_serial")

    def __init__(self, limit: int = 1000) -> None:
        """Note at most `limit` groups by name."""
        self._limit = limit
        self._lock = fork_safe_lock()
        self._owed: dict[str, int] = {}
        self._serial = 0

    @property
    def empty(self) -> bool:
        """Whether no purge is owed."""
        return not self._owed

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, groups: Iterable[str]) -> None:
        """Owe a purge of each group."""
        with self._lock:
            self._serial += 1
            for group in groups:
                self._owed[group] = self._serial
            if len(self._owed) > self._limit:
                # Every entry carries the namespace token: its purge covers all others.
                self._owed = {NAMESPACE_GROUP: self._serial}

    def snapshot(self) -> tuple[tuple[str, ...], int]:
        """Return the groups owed now, and a mark for `paid`."""
        with self._lock:
            return tuple(self._owed), self._serial

    def paid(self, groups: Iterable[str], mark: int) -> None:
        """Remove groups whose purge was confirmed, unless they were owed again since the mark."""
        with self._lock:
            for group in groups:
                if self._owed.get(group, mark + 1) <= mark:
                    del self._owed[group]
