"""The tokens of the embedded store."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final, final

from maxage.clock import Clock
from maxage.store.entry import Entry
from maxage.store.tokens import fresh_mark, mark_place, purged_token

OVERHEAD: Final = 200
"""Bytes of a value or a token besides itself and its key: objects and table slots, rounded up."""
_HISTORY: Final = b"embedded"
_numbers: Final = count(1)


@final
class MemoryTokens:
    """The token of each group, least recently used first. The store locks around each call.

    Args:
        replica_lag: seconds for which no response of a purged group is stored.
        clock: monotonic seconds.
    """

    def __init__(self, replica_lag: float, clock: Clock) -> None:
        self._replica_lag: Final = replica_lag
        self._clock: Final = clock
        self._tokens: Final[OrderedDict[str, bytes]] = OrderedDict()
        self._quarantined_until: Final[dict[str, float]] = {}
        """The end (monotonic) of each purged group's quarantine."""
        self.used_bytes = 0
        self.serial = 0
        """Changes whenever a token changes or is lost."""

    def __len__(self) -> int:
        return len(self._tokens)

    def present(self) -> Mapping[str, bytes]:
        """Return the tokens of all groups; missing ones are not created."""
        return self._tokens

    def of(self, groups: Sequence[str]) -> list[bytes | None]:
        """Return the tokens of groups; missing ones are created."""
        if self._quarantined_until:
            return [self.get(group) for group in groups]
        tokens = self._tokens
        found: list[bytes | None] = []
        for group in groups:
            token = tokens.get(group)
            if token is None:
                token = self._add_new(group)
            else:
                tokens.move_to_end(group)
            found.append(token)
        return found

    def get(self, group: str) -> bytes:
        """Return the token of a group; a missing one is created."""
        if self._quarantined_until:
            ends = self._quarantined_until.get(group)
            if ends is not None and ends <= self._clock():
                self._remove(group)
        token = self._tokens.get(group)
        if token is None:
            return self._add_new(group)
        self._tokens.move_to_end(group)
        return token

    def _remove(self, group: str) -> None:
        token = self._tokens.pop(group, None)
        self._quarantined_until.pop(group, None)
        if token is not None:
            self.serial += 1
            self.used_bytes -= len(group) + len(token) + OVERHEAD

    def _add_new(self, group: str) -> bytes:
        # A token never leaves the process, so that a number which is not used twice is as good as a
        # random one, and takes a sixth of the time.
        return self._add(group, b"%b-%016d" % (_HISTORY, next(_numbers)))

    def _add(self, group: str, token: bytes) -> bytes:
        self._tokens[group] = token
        self.used_bytes += len(group) + len(token) + OVERHEAD
        return token

    def are_current(self, entry: Entry) -> bool:
        """Return whether all tokens of an entry are the current ones."""
        for group, token in entry.tokens:
            if self._tokens.get(group) != token:
                return False
            self._tokens.move_to_end(group)
        return True

    def renew(self, group: str) -> bytes:
        """Give the group a fresh token."""
        token, before = purged_token(_HISTORY, self._replica_lag), self._tokens.get(group)
        if before is None or len(before) != len(token):
            self._remove(group)
            self._add(group, token)
        else:
            # It takes the same room.
            self.serial += 1
            self._tokens[group] = token
            self._tokens.move_to_end(group)
        if self._replica_lag:
            self._quarantined_until[group] = self._clock() + self._replica_lag
        return token

    def soften(self, group: str) -> None:
        """Put a fresh mark behind the group's token."""
        token, quarantined = self.get(group), self._quarantined_until.get(group)
        self._remove(group)
        self._add(group, token[: mark_place(_HISTORY)] + fresh_mark())
        if quarantined is not None:
            self._quarantined_until[group] = quarantined

    def evict(self) -> None:
        """Remove the least recently used token. A lost token costs a miss, never a wrong answer."""
        self._remove(next(iter(self._tokens)))

    def clear(self) -> None:
        """Remove all tokens."""
        self.serial += 1
        self._tokens.clear()
        self._quarantined_until.clear()
        self.used_bytes = 0
