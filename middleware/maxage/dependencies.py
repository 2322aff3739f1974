"""What the handler of one request read and wrote through the typed cache (design section 6).

The middleware opens a `Dependencies` for each request; the typed cache notes in it what it read,
with the token it saw before it read, and what it wrote. The object travels in a context variable,
which follows the request into threads and background tasks.
"""

import threading
from contextvars import ContextVar
from typing import Final, final


@final
class Dependencies:
    """The groups that one response depends on, and those that its request touched."""

    __slots__ = (
        "_lock",
        "authority",
        "kept",
        "mutating",
        "read",
        "touched",
        "unconfirmed",
        "unprotected",
    )

    def __init__(self, *, mutating: bool, authority: object) -> None:
        self.authority: Final = authority
        """Where the middleware keeps its tokens; those of another place prove nothing to it."""
        self.mutating: Final = mutating
        self.read: Final[dict[str, bytes]] = {}
        """Each group read, with the token as it was before the read."""
        self.touched: Final[set[str]] = set()
        """Groups that typed writes purged; purged again when the application call has returned."""
        self.kept: Final[set[str]] = set()
        """Groups of typed values that were set; purged again only when the request failed."""
        self.unconfirmed = False
        """True when a purge of a typed write was not confirmed."""
        self.unprotected = False
        """True when something was read whose token was not to be had: nothing may be stored."""
        self._lock = threading.Lock()

    def depend(self, group: str, token: bytes | None) -> None:
        """Note that the response depends on the group, read under this token."""
        with self._lock:
            if token is None:
                self.unprotected = True
            elif self.read.setdefault(group, token) != token:
                # Read twice with a purge in between: the response mixes both.
                self.unprotected = True

    def keep(self, group: str) -> None:
        """Note that the request set what the group stands for."""
        with self._lock:
            self.kept.add(group)

    def touch(self, group: str) -> None:
        """Note that the request changed what the group stands for."""
        with self._lock:
            self.touched.add(group)


current_dependencies: ContextVar[Dependencies | None] = ContextVar(
    "maxage_dependencies", default=None
)
