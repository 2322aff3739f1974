"""What a lookup brought, and whether it may be used."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from maxage.cache.target import Target
from maxage.store.entry import Entry, VariantIndex
from maxage.store.tokens import softened

Tokens = Mapping[str, bytes | None]


class LookupResult(Struct, frozen=True, kw_only=True):
    """What a lookup brought: the valid stored response, if any, and the tokens as they are now."""

    key: bytes
    """The primary key."""
    entry: Entry | None
    tokens: Tokens
    index: VariantIndex | None = None
    vary_miss: bool = False
    """The URL is stored, but no variant fits."""
    softened: bool = False
    """The entry was purged softly: it may answer once more, while it is refreshed."""
    ready: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """What was prepared to be sent, for those who share this; see `maxage.reads.fast_path`."""

    @property
    def collapse_key(self) -> bytes:
        """The key under which requests wait for each other: the variant's, where it is known."""
        return self.key if self.entry is None else self.entry.key


def is_current(entry: Entry, tokens: Tokens, needed: Iterable[str]) -> bool:
    """Return whether every token of the entry is the current one, and none that is needed lacks."""
    carried = dict(entry.tokens)
    return carried.items() <= tokens.items() and all(map(carried.__contains__, needed))


def suits(entry: Entry, target: Target, selecting: tuple[bytes | None, ...]) -> bool:
    """Return whether an entry, its tokens apart, is the one that a lookup would choose."""
    if entry.stored.vary_names != target.vary_names or entry.stored.selecting != selecting:
        return False
    carried = {group for group, _ in entry.tokens}
    return carried.issuperset(target.groups)


def is_softened(entry: Entry, tokens: Tokens, needed: Iterable[str]) -> bool:
    """Return whether soft purges are all that keeps the entry from being current."""
    carried = dict(entry.tokens)
    return all(softened(token, tokens.get(group)) for group, token in entry.tokens) and all(
        group in carried for group in needed
    )


def is_of(entry: Entry, key: bytes) -> bool:
    """Return whether the entry is the response of this primary key, or a variant of it."""
    return entry.key == key or entry.key.startswith(key + b":v:")
