"""No-Vary-Search: which query parameters make no difference (draft-ietf-httpbis-no-vary-search)."""

from typing import Final, final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from msgspec import Struct
from msgspec.structs import replace

from maxage.rfc9111.message import Headers
from maxage.rfc9111.structured import InnerList, Item, parse_dictionary

NO_VARY_SEARCH: Final = b"no-vary-search"


@final
class SearchVariance(Struct, frozen=True, kw_only=True):
    """The parameters of a query that make a difference; names are decoded."""

    ignored: frozenset[bytes] | None = frozenset()
    """Parameters that make no difference; None: all except `kept`."""
    kept: frozenset[bytes] = frozenset()
    ordered: bool = True
    """Whether the order of different parameters makes a difference."""

    @property
    def name(self) -> bytes:
        """Bytes that identify this variance."""
        names = self.kept if self.ignored is None else self.ignored
        listed = b"&".join(sorted(_quoted(name) for name in names))
        return b"%d%d:%b" % (self.ordered, self.ignored is None, listed)


_DEFAULT: Final = SearchVariance()


def search_variance(headers: Headers) -> SearchVariance | None:
    """Return the variance that the response states; None: every difference counts.

    A field that is not understood is ignored: fewer hits, never a wrong one.
    """
    lines = headers.get_all(NO_VARY_SEARCH)
    said = parse_dictionary(lines) if lines else None
    variance = None if said is None else _variance(said)
    return None if variance == _DEFAULT else variance


def _variance(said: dict[str, Item]) -> SearchVariance | None:
    # Section 5.1: 'If value["key-order"] is not a boolean, then return the default URL search
    # variance. Set result's vary on key order to the boolean negation of value["key-order"].'
    unordered, parameters = said.get("key-order", False), _parameters(said)
    if parameters is None or not isinstance(unordered, bool):
        return None
    return replace(parameters, ordered=not unordered)


def _parameters(said: dict[str, Item]) -> SearchVariance | None:
    params = said.get("params", False)
    if params is True:
        kept = _names(said.get("except", InnerList()))
        return None if kept is None else SearchVariance(ignored=None, kept=kept)
    # 'If value["except"] exists: If value["params"] is not true, then return the default'.
    ignored = None if "except" in said else _names(InnerList() if params is False else params)
    return None if ignored is None else SearchVariance(ignored=ignored)


def _names(value: Item) -> frozenset[bytes] | None:
    # The draft wants strings; with any other item "return the default URL search variance".
    if not isinstance(value, InnerList):
        return None
    texts = [item for item in value.items if isinstance(item, str)]
    if len(texts) != len(value.items):
        return None
    return frozenset(_decoded(text.encode("ascii")) for text in texts)


def simplified(query: bytes, variance: SearchVariance) -> bytes:
    """Return the query reduced to its differences: equivalent queries become equal.

    The result is a query too. Bytes that are no UTF-8 stay as they are; the draft would replace all
    of them by the same character.
    """
    # Section 6: both queries are parsed as application/x-www-form-urlencoded, pairs that make no
    # difference are left out, and "If searchVariance's vary on key order is false", the pairs are
    # sorted by key; pairs of one key stay in their order.
    pairs = [_pair(part) for part in query.split(b"&") if part]
    left = [pair for pair in pairs if _counts(pair[0], variance)]
    if not variance.ordered:
        left.sort(key=lambda pair: pair[0])
    return b"&".join(_quoted(name) + b"=" + _quoted(value) for name, value in left)


def _counts(name: bytes, variance: SearchVariance) -> bool:
    return name in variance.kept if variance.ignored is None else name not in variance.ignored


def _pair(part: bytes) -> tuple[bytes, bytes]:
    name, _, value = part.partition(b"=")
    return _decoded(name), _decoded(value)


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _quoted(text: bytes) -> bytes:
    return quote_from_bytes(text, safe="").encode("ascii")
