"""Volatile headers: those with another value in every answer, such as ids of requests."""

from collections.abc import Sequence
from typing import Final, final

from maxage.rfc9111.message import Headers

_ENOUGH: Final = 3
"""Different values in as many answers, after which a header is volatile."""
_MOST: Final = 1000


@final
class Volatile:
    """Learns which headers of a route differ in every answer."""

    def __init__(self) -> None:
        self._values: Final[dict[tuple[str, str], set[int]]] = {}
        """By route and header: hashes of the values that were seen, each a new one."""
        self._steady: Final[set[tuple[str, str]]] = set()
        """Headers that had the same value twice."""

    def without(
        self, route: str, found: Sequence[str], stored: Headers, fresh: Headers
    ) -> tuple[str, ...]:
        """Return the differences without those of volatile headers.

        Args:
            route: of the answers.
            found: the differences, as `compare.differences` names them.
            stored: the headers of the stored response.
            fresh: those of the handler's answer.
        """
        for known in [key for key in self._values if key[0] == route and key[1] not in found]:
            self._settle(known)
        for what in found:
            name = what.removeprefix("header ")
            if name != what:
                field = name.encode("latin-1")
                self._see((route, what), stored.get_all(field), fresh.get_all(field))
        return tuple(what for what in found if not self.is_volatile(route, what))

    def is_volatile(self, route: str, what: str) -> bool:
        """Return whether the header is known to differ in every answer of the route."""
        return len(self._values.get((route, what), ())) >= _ENOUGH

    def is_settled(self, route: str, what: str) -> bool:
        """Return whether it is no header's difference, or the header is known to be steady."""
        return not what.startswith("header ") or (route, what) in self._steady

    def _see(self, key: tuple[str, str], *seen: tuple[bytes, ...]) -> None:
        """Note the stored value of a header that differs, and the new one."""
        if key in self._steady or len(self._values) >= _MOST:
            return
        before, now = map(hash, seen)
        values = self._values.setdefault(key, {before})
        if now in values:
            self._settle(key)
        elif len(values) < _ENOUGH:
            values.add(now)

    def _settle(self, key: tuple[str, str]) -> None:
        del self._values[key]
        self._steady.add(key)
