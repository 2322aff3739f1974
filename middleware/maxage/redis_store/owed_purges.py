"""The purges that are owed to the store: bounded, and never forgotten."""

import threading
from collections.abc import Iterable
from typing import final

from maxage.store.tokens import NAMESPACE_GROUP


@final
class OwedPurges:
    """Groups whose purge was not confirmed. Overflow collapses into "everything"."""

    __slots__ = ("_limit", "_lock", "_owed", "_serial")

    def __init__(self, limit: int = 1000) -> None:
        """Hold at most `limit` groups by name."""
        self._limit = limit
        self._lock = threading.Lock()
        self._owed: dict[str, int] = {}
        self._serial = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is owed."""
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
                # The namespace token is part of every entry: its purge covers all the others.
                self._owed = {NAMESPACE_GROUP: self._serial}

    def snapshot(self) -> tuple[tuple[str, ...], int]:
        """Return what is owed now, with a mark that `strike` takes."""
        with self._lock:
            return tuple(self._owed), self._serial

    def strike(self, groups: Iterable[str], mark: int) -> None:
        """Strike out groups whose purge was confirmed, unless they were owed again since `mark`."""
        with self._lock:
            for group in groups:
                if self._owed.get(group, mark + 1) <= mark:
                    del self._owed[group]
