"""Look into the store for the page: what is stored under a path, a URL or a tag."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, final

from maxage.cache.key import entry_prefix
from maxage.explain.stored import (
    Shelf,
    StoredEntry,
    shelf_of,
    stored_at,
    stored_in,
)
from maxage.invalidation.group_names import named_groups
from maxage.settings import CacheSettings
from maxage.store.memory import MemoryStore
from maxage.store.tokens import NAMESPACE_GROUP

MOST_ENTRIES: Final = 10
"""Responses that are shown with all that is known of them."""
MOST_KEYS: Final = 100
"""Responses that are shown by their key."""
LONGEST_LOOK: Final = 5.0
"""Seconds after which a look through the keys ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is stored under a name."""

    entries: tuple[StoredEntry, ...] = ()
    """Of a path or URL: its own responses."""
    keys: tuple[str, ...] = ()
    """Of all responses that a purge of the name reaches: their keys, without the prefix."""
    count: int = 0
    """How many there are."""
    is_whole: bool = True
    """False: the look took too long, and there may be more."""


def look(settings: CacheSettings, store: MemoryStore | None, names: Sequence[str]) -> Found:
    """Return what purges of the names would reach; no name stands for everything.

    Args:
        settings: of the application's cache.
        store: the embedded store, where there is no server.
        names: paths, which begin with `/`, URLs and tags.

    Raises:
        SettingsError: a name is none, or the store is another process's.
        StoreUnavailableError: the server did not answer.
    """
    shelf = _BoundedShelf(shelf_of(settings, store), LONGEST_LOOK)
    prefix = entry_prefix(settings.cache_namespace).decode()
    groups = [group for name in names for group in named_groups(name)]
    found = stored_in(shelf, settings, groups or [NAMESPACE_GROUP])
    keys = [key.removeprefix(prefix) for key in found]
    paths = [name for name in names if name.startswith(("/", "http://", "https://"))]
    entries = [one for path in paths for one in islice(stored_at(shelf, settings, path),
                                                       MOST_ENTRIES)]  # fmt: skip
    return Found(
        entries=tuple(entries[:MOST_ENTRIES]),
        keys=tuple(sorted(keys)[:MOST_KEYS]),
        count=len(keys),
        is_whole=not shelf.is_over,
    )


@final
class _BoundedShelf:
    """A shelf that shows no more keys after some seconds."""

    def __init__(self, shelf: Shelf, seconds: float) -> None:
        self._shelf: Final = shelf
        self._until: Final = time.monotonic() + seconds
        self.is_over = False
        self.values = shelf.values
        self.tokens = shelf.tokens
        self.current = shelf.current

    def keys(self, pattern: bytes, prefix: bytes) -> Iterator[Sequence[bytes]]:
        """Yield keys until the time is over."""
        for keys in self._shelf.keys(pattern, prefix):
            yield keys
            if time.monotonic() > self._until:
                self.is_over = True
                return
