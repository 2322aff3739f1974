"""What one request read, changed and tagged.

The middleware opens a `Dependencies` for each request. The typed cache notes in it what it read,
with the token that it saw before the read, and what it wrote; purges and tags by hand are noted
too. A context variable carries it into threads and background tasks.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar, final

from msgspec import Struct

from maxage.store.base import Store, TokenAuthority
from maxage.store.seal import SealedValue

Collected = TypeVar("Collected")


@final
class Dependencies(Struct, eq=False, kw_only=True, dict=True):
    """The groups that one response depends on, and those that its request changed.

    Where one middleware stands in another, the outer one's `Dependencies` learns what the inner
    one's does. Threads need no lock: each note is one step of a set or a dictionary.
    """

    mutating: bool
    store: Store
    """The store of the middleware; tokens of another authority prove nothing to it."""
    scope: Mapping[str, Any] = MappingProxyType({})
    """Of the request."""
    root_path: str = ""
    """Of the scope as the middleware got it."""
    outer: "Dependencies | None" = None
    foreseen: Mapping[str, bytes | None] = MappingProxyType({})
    """The groups whose tokens were read by the lookup, before the handler ran."""
    read: Mapping[str, bytes] = MappingProxyType({})
    """Each group that was read, with its token from before the read."""
    purged: set[str] | frozenset[str] = frozenset()
    """Groups that were purged; purged again when the application call has returned."""
    softened: set[str] | frozenset[str] = frozenset()
    """Groups that were purged softly; again when the application call has returned."""
    typed_writes: Mapping[str, SealedValue | None] = MappingProxyType({})
    """The group of each typed value that was set, with its seal; None: it was not stored."""
    missed: set[str] | frozenset[str] = frozenset()
    """Groups of typed values that the last look missed, and that were not stored since."""
    tags: set[str] | frozenset[str] = frozenset()
    """Groups that the handler put its response into."""
    unprotected: bool = False
    """Whether the response must not be stored: the token of something that was read is unknown."""

    @staticmethod
    def of(store: Store, scope: Mapping[str, Any], *, mutating: bool = False) -> "Dependencies":
        """Return the dependencies of a request that the application is about to get."""
        return Dependencies(
            mutating=mutating, store=store, scope=scope, root_path=scope.get("root_path", ""),
            outer=current_dependencies.get(),
        )  # fmt: skip

    def _collection(self, name: str, kind: Callable[[], Collected]) -> Collected:
        """Return the collection of this name; most requests never need one.

        It is made in one step, since several threads may be the first.
        """
        collected: Collected = vars(self).setdefault(name, kind())
        setattr(self, name, collected)
        return collected

    @property
    def authority(self) -> TokenAuthority:
        """The authority of the store."""
        return self.store.authority

    @property
    def mounted_at(self) -> str:
        """Where the application that answers now is mounted, as the middleware sees it."""
        # A mount adds its path to the root path in the scope.
        return str(self.scope.get("root_path", "")).removeprefix(self.root_path)

    def changed(self) -> bool:
        """Return whether the request changed anything that is to be purged again."""
        return bool(self.purged or self.typed_writes or self.softened)

    def depend(self, group: str, token: bytes | None) -> None:
        """Note that the response depends on the group, read under this token."""
        if token is None:
            self.unprotected = True
        elif self._collection("read", dict[str, bytes]).setdefault(group, token) != token:
            # Read twice with a purge in between: the response mixes both.
            self.unprotected = True
        if self.outer is not None:
            self.outer.depend_at(self.authority, group, token)

    def depend_at(self, authority: TokenAuthority, group: str, token: bytes | None) -> None:
        """Note that the response depends on a group of this authority, read under this token."""
        self.depend(group, token if authority is self.authority else None)

    def note_typed_write(self, group: str, value: SealedValue | None = None) -> None:
        """Note that the request set the typed value of the group, and how it is sealed."""
        self._collection("typed_writes", dict[str, SealedValue | None])[group] = value

    def note_missed(self, group: str, *, missed: bool) -> None:
        """Note whether the last look for a typed value missed it."""
        if missed:
            self._collection("missed", set[str]).add(group)
        elif isinstance(self.missed, set):
            self.missed.discard(group)

    def note_purge(self, group: str) -> None:
        """Note that the request purged the group."""
        self._collection("purged", set[str]).add(group)
        if self.outer is not None and self.outer.authority is self.authority:
            self.outer.note_purge(group)

    def note_soft_purge(self, group: str) -> None:
        """Note that the request purged the group softly."""
        self._collection("softened", set[str]).add(group)

    def note_tag(self, group: str) -> None:
        """Note that the response belongs to the group."""
        self._collection("tags", set[str]).add(group)
        if self.outer is not None:
            self.outer.note_tag(group)


current_dependencies: ContextVar[Dependencies | None] = ContextVar(
    "maxage_dependencies", default=None
)
