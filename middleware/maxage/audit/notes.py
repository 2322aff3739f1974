"""Notes: the inputs of one request that the application reads, each with the line that read it.

`maxage.audit.noted` has the values that note their reads.
"""

from collections.abc import Collection
from types import CodeType
from typing import Final, final

from maxage.audit.lookups import looked_up
from maxage.audit.place import Place, places, reads_itself
from maxage.observe.failures import tell_of_failure

HEADERS: Final = "headers"
"""The input of an application that reads all headers at once."""
COOKIES: Final = "cookies"
"""The same for cookies."""

Chain = tuple[Place, ...]
"""The line that read, and those that called it, the inner first."""
Read = tuple[str, Chain]
"""An input that was read."""


@final
class Notes:
    """The reads of the application while it answers one request.

    Args:
        packages: see `places`.
    """

    def __init__(self, packages: Collection[str]) -> None:
        self._packages: Final = packages
        self.in_key: Final[set[str]] = set()
        """Inputs that `vary_by` read."""
        self._read: Final[dict[tuple[str, str, int], Read]] = {}
        """By name, file and line."""
        self._whole: Final[dict[tuple[tuple[str, int], ...], Read]] = {}
        """Reads of all headers or cookies, by the line and its caller."""
        self._looped: Final[dict[CodeType, Read]] = {}
        """Functions that go through the header lines; one that compares names reads only these."""
        self.is_keying = True
        """Whether `vary_by` runs, and not the application yet."""
        self.is_silent = False

    def __deepcopy__(self, _: object) -> "Notes":
        """Return itself: a copy of a scope has the same notes."""
        return self

    def note(self, name: str) -> None:
        """Note the input if it is the application's code that reads it."""
        if (chain := self._chain(name)) is not None:
            self._read.setdefault((name, chain[0].file, chain[0].line), (name, chain))

    def note_whole(self, name: str) -> None:
        """Note that all headers or cookies are read."""
        if (chain := self._chain(name)) is not None:
            lines = tuple([(place.file, place.line) for place in chain[:2]])
            self._whole.setdefault(lines, (name, chain))

    def note_loop(self) -> None:
        """Note that header lines are gone through; a library that does so looks for one name."""
        if reads_itself(self._packages) and (chain := self._chain(HEADERS)) is not None:
            self._looped.setdefault(chain[0].code, (HEADERS, chain))

    def _chain(self, name: str) -> Chain | None:
        """Return the line that reads; None: no code of the application does, or it makes a key."""
        if self.is_silent:
            return None
        try:
            chain = places(self._packages)
        except Exception as error:  # noqa: BLE001 - the application only asked for a header
            tell_of_failure(error)
            return None
        if not chain:
            return None
        if self.is_keying:
            self.in_key.add(name)
            return None
        return chain

    def read(self) -> list[Read]:
        """Return each input that was read, with the line, once for each line."""
        whole = [one for read in self._whole.values() for one in _by_name(*read)]
        lines = {(chain[0].file, chain[0].line) for _, chain in whole}
        named = [read for (_, *line), read in self._read.items() if tuple(line) not in lines]
        compared = {chain[0].code for _, chain in (*named, *whole)}
        looped = (read for code, read in self._looped.items() if code not in compared)
        return [*named, *whole, *(one for read in looped for one in _by_name(*read))]


def _by_name(name: str, chain: Chain) -> list[Read]:
    """Return the reads of single names, where the source shows that there are no others."""
    names = looked_up(chain)
    kind = "header" if name == HEADERS else "cookie"
    return [(name, chain)] if names is None else [(f"{kind}:{one}", chain) for one in names]
