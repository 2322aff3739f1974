"""The purges of a log: which write last purged a response."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, final

_MOST_GROUPS: Final = 200_000
"""Purged groups that are remembered."""


@final
class Purges:
    """The number of the last write that purged each group."""

    def __init__(self) -> None:
        self._last: Final[OrderedDict[str, int]] = OrderedDict()
        self._before = -1
        """The number of a write; responses that were stored before it count as purged."""

    def purge(self, groups: Iterable[str], serial: int) -> None:
        """Note that a write has purged groups."""
        for group in groups:
            self._last[group] = serial
            self._last.move_to_end(group)
        while len(self._last) > _MOST_GROUPS:
            # Too many are remembered: rather a miss too many than a hit.
            self._before = max(self._before, self._last.popitem(last=False)[1])

    def last(self, groups: Iterable[str]) -> int:
        """Return the number of the last write that purged one of the groups; -1: none did."""
        get, last = self._last.get, self._before
        for group in groups:
            number = get(group, -1)
            last = max(last, number)
        return last
