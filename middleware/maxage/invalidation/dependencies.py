"""What one request read and changed: through the typed cache, through purges, and as tags.

The middleware opens a `Dependencies` for each request; the typed cache notes in it what it read,
with the token it saw before it read, and what it wrote. The object travels in a context variable,
which follows the request into threads and background tasks.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TypeVar, final

from maxage.store.base import Store
from maxage.store.seal import SealedValue

Collected = TypeVar("Collected")


@final
class Dependencies:
    """The groups that one response depends on, and those that its request touched.

    Where one middleware stands in another, the outer one's is told what the inner one's learns.
    Threads need no lock: each note is one step of a set or a dictionary.
    """

    read: Mapping[str, bytes] = MappingProxyType({})
    """Each group read, with the token as it was before the read."""
    touched: set[str] | frozenset[str] = frozenset()
    """Groups that were purged; purged again when the application call has returned."""
    softened: set[str] | frozenset[str] = frozenset()
    """Groups that were purged softly; again when the application call has returned."""
    typed_writes: Mapping[str, SealedValue | None] = MappingProxyType({})
    """Groups of typed values that were set, with the sealed value; None: it was not stored."""
    tags: set[str] | frozenset[str] = frozenset()
    """Groups that the handler put its response into."""
    unprotected = False
    """True when something was read whose token was not to be had: nothing may be stored."""

    def __init__(
        self, *, mutating: bool, store: Store, outer: "Dependencies | None" = None
    ) -> None:
        self.store: Final = store
        """Where the middleware keeps its tokens; those of another place prove nothing to it."""
        self.mutating: Final = mutating
        self.outer: Final = outer

    def _noted(self, name: str, kind: Callable[[], Collected]) -> Collected:
        """Return what is collected under this name; most requests never need it.

        It is made in one step, since several threads may be the first.
        """
        collected: Collected = self.__dict__.setdefault(name, kind())
        return collected

    @property
    def authority(self) -> object:
        """What keeps the tokens."""
        return self.store.authority

    @property
    def changed(self) -> bool:
        """Whether the request changed anything that is to be purged again."""
        return bool(self.touched or self.typed_writes or self.softened)

    def depend(self, group: str, token: bytes | None) -> None:
        """Note that the response depends on the group, read under this token."""
        if token is None:
            self.unprotected = True
        elif self._noted("read", dict[str, bytes]).setdefault(group, token) != token:
            # Read twice with a purge in between: the response mixes both.
            self.unprotected = True
        if self.outer is not None:
            self.outer.depend_at(self.authority, group, token)

    def depend_at(self, authority: object, group: str, token: bytes | None) -> None:
        """Note that the response depends on a group whose token is kept there."""
        self.depend(group, token if authority is self.authority else None)

    def note_typed_write(self, group: str, sealed: SealedValue | None = None) -> None:
        """Note that the request set a typed value; `sealed` is the value if it is stored."""
        self._noted("typed_writes", dict[str, SealedValue | None])[group] = sealed

    def touch(self, group: str) -> None:
        """Note that the request changed what the group stands for."""
        self._noted("touched", set[str]).add(group)
        if self.outer is not None and self.outer.authority is self.authority:
            self.outer.touch(group)

    def soften(self, group: str) -> None:
        """Note that the request purged the group softly."""
        self._noted("softened", set[str]).add(group)

    def tag(self, group: str) -> None:
        """Note that the response belongs to the group."""
        self._noted("tags", set[str]).add(group)
        if self.outer is not None:
            self.outer.tag(group)


current_dependencies: ContextVar[Dependencies | None] = ContextVar(
    "maxage_dependencies", default=None
)
