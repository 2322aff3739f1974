"""The result of one lookup."""

from collections.abc import Mapping

from msgspec import Struct

from maxage.store.entry import Entry, VariantIndex
from maxage.store.prepared import Confirm, Form, PreparedResponse

Tokens = Mapping[str, bytes | None]


class LookupResult(Struct, frozen=True, kw_only=True):
    """The stored response that fits a request, if any, and the tokens as they are now."""

    key: bytes
    """The primary key."""
    entry: Entry | None
    tokens: Tokens
    index: VariantIndex | None = None
    vary_miss: bool = False
    """The URL is stored, but no variant fits."""
    softened: bool = False
    """The entry was purged softly: it may answer once more, while it is refreshed."""
    confirm: Confirm | None = None
    """Must be awaited, and be True, before the entry answers; None: it may answer at once."""
    prepared: dict[Form, PreparedResponse] = {}
    """Responses prepared from the entry, shared by all requests that share this result."""

    def collapse_key(self) -> bytes:
        """Return the key under which requests wait for each other: the variant's, if known."""
        return self.key if self.entry is None else self.entry.key
