"""Values in a store: a response with its tokens, and the index of a URL's variants."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from maxage.rfc9111.message import StoredResponse
from maxage.store.tokens import softened


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """A stored response with the key it was stored under and the tokens it depends on."""

    key: bytes
    """The whole key. Each read compares it, so that another key's value is never used."""
    stored: StoredResponse
    tokens: tuple[tuple[str, bytes], ...]
    """Each group with its token as captured before the handler ran."""

    def is_current(self, tokens: Mapping[str, bytes | None], needed: Iterable[str]) -> bool:
        """Return whether all its tokens are current, and all needed groups are among them."""
        carried = dict(self.tokens)
        return carried.items() <= tokens.items() and all(map(carried.__contains__, needed))

    def is_softened(self, tokens: Mapping[str, bytes | None], needed: Iterable[str]) -> bool:
        """Return whether only soft purges keep it from being current."""
        carried = dict(self.tokens)
        return all(softened(token, tokens.get(group)) for group, token in self.tokens) and all(
            group in carried for group in needed
        )


class VariantIndex(Struct, frozen=True, kw_only=True, gc=False):
    """The selecting fields of a URL whose responses vary; stored under the URL's key."""

    key: bytes
    names: tuple[bytes, ...]
    """The selecting header fields, lower case, sorted."""
