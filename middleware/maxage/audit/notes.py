"""Notes: the inputs of one request that the application reads, each with the line that read it.

`maxage.audit.noted` has the values that note what is asked of them.
"""

from collections.abc import Collection
from types import CodeType
from typing import Final, final

from maxage.audit.place import Place, function_of, places, reads_itself

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
    """What the application reads while it answers one request.

    Args:
        packages: see `places`.
    """

    def __init__(self, packages: Collection[str]) -> None:
        self._packages: Final = packages
        self.in_key: Final[set[str]] = set()
        """Inputs that `vary_by` read."""
        self._read: Final[dict[tuple[str, str, int], Read]] = {}
        """By name, file and line."""
        self._whole: Final[dict[CodeType, Read]] = {}
        """Functions that read all headers or cookies."""
        self._looped: Final[dict[CodeType, Read]] = {}
        """Functions that go through the header lines; one that compares names reads only these."""
        self.is_keying = True
        """Whether `vary_by` runs, and not the application yet."""
        self.is_silent = False

    def note(self, name: str) -> None:
        """Note the input if it is the application's code that reads it."""
        if (chain := self._chain(name)) is not None:
            self._read.setdefault((name, chain[0].file, chain[0].line), (name, chain))

    def note_whole(self, name: str) -> None:
        """Note that all headers or cookies are read."""
        if (chain := self._chain(name)) is not None:
            self._whole.setdefault(function_of(chain), (name, chain))

    def note_loop(self) -> None:
        """Note that header lines are gone through; a library that does so looks for one name."""
        if reads_itself(self._packages) and (chain := self._chain(HEADERS)) is not None:
            self._looped.setdefault(function_of(chain), (HEADERS, chain))

    def _chain(self, name: str) -> Chain | None:
        """Return the line that reads; None: no code of the application does, or it makes a key."""
        if self.is_silent or not (chain := places(self._packages)):
            return None
        if self.is_keying:
            self.in_key.add(name)
            return None
        return chain

    def read(self) -> list[Read]:
        """Return each input that was read, with the line, once for each line."""
        whole = [*self._whole.values()]
        lines = {(chain[0].file, chain[0].line) for _, chain in whole}
        named = [read for (_, *line), read in self._read.items() if tuple(line) not in lines]
        compared = {function_of(chain) for _, chain in named} | self._whole.keys()
        return [*named, *whole, *(r for code, r in self._looped.items() if code not in compared)]
