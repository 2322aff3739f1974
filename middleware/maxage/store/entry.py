"""Values in a store: a response with its tokens, and the index of a URL's variants."""

from msgspec import Struct

from maxage.rfc9111.message import StoredResponse


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """A stored response with the key it was stored under and the tokens it depends on."""

    key: bytes
    """The whole key. Each read compares it, so that another key's value is never used."""
    stored: StoredResponse
    tokens: tuple[tuple[str, bytes], ...]
    """Each group with its token as captured before the handler ran."""


class VariantIndex(Struct, frozen=True, kw_only=True, gc=False):
    """The selecting fields of a URL whose responses vary; stored under the URL's key."""

    key: bytes
    names: tuple[bytes, ...]
    """The selecting header fields, lower case, sorted."""
