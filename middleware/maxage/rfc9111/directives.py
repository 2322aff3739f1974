"""Cache directives: `Cache-Control` (RFC 9111 section 5.2) and targeted fields (RFC 9213).

The two differ in syntax only: both are parsed to `Directives`. No parser raises, for any bytes.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, final

from msgspec import Struct, field

from maxage.rfc9111.field_list import OWS, is_token, split_members
from maxage.rfc9111.message import Headers
from maxage.rfc9111.structured import Item, Token, parse_dictionary

VERY_LONG: Final = 2**31
"""Stands for larger numbers of seconds."""

OWN_TARGET: Final = b"maxage-cache-control"
"""The targeted field that addresses this cache alone."""

_QUOTED: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)

_SECONDS: Final = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})
_FIELD_NAMES: Final = frozenset({"private", "no-cache"})
_FLAGS: Final = frozenset({
    "no-store", "no-transform", "must-revalidate", "must-understand", "proxy-revalidate", "public",
    "immutable",
})  # fmt: skip


def delta_seconds(text: bytes) -> int | None:
    """Return a number of seconds, or None when `text` is not one."""
    if not text.isdigit():
        return None
    digits = text.lstrip(b"0")
    # RFC 9111 section 1.2.2: "If a cache receives a delta-seconds value greater than the greatest
    # integer it can represent [...] the cache MUST consider the value to be 2147483648 (2^31) or
    # the greatest positive integer it can conveniently represent."
    if len(digits) > 10:
        return VERY_LONG
    return min(int(digits or b"0"), VERY_LONG)


@final
class Directives(Struct, frozen=True):
    """The directives of one message: lower-case names, each with the arguments it came with."""

    arguments: Mapping[str, tuple[bytes | None, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    well_formed: bool = True
    """False when a quoted string is not closed: no directive is reliable then."""

    def __contains__(self, name: object) -> bool:
        return name in self.arguments

    def seconds(self, name: str) -> int | None:
        """Return the first argument of `name` in seconds; 0 for garbage, None when absent."""
        # RFC 9111 section 4.2.1: "When there is more than one value present for a given directive
        # [...] either the first occurrence should be used or the response should be considered
        # stale", and "Caches are encouraged to consider responses that have invalid freshness
        # information (e.g., a max-age directive with non-integer content) to be stale."
        found = self.arguments.get(name)
        if found is None:
            return None
        return (delta_seconds(found[0]) if found[0] is not None else None) or 0

    def is_number(self, name: str) -> bool:
        """Return whether `name` is present with a number of seconds."""
        found = self.arguments.get(name)
        return found is not None and found[0] is not None and delta_seconds(found[0]) is not None

    def unqualified(self, name: str) -> bool:
        """Return whether `name` is present without field names: it means the whole response."""
        return name in self.arguments and not self.field_names(name)

    def field_names(self, name: str) -> tuple[bytes, ...]:
        """Return the field names that every occurrence of `name` is limited to, lower case."""
        if name not in self.arguments:
            return ()
        names: list[bytes] = []
        for argument in self.arguments[name]:
            members = [member.strip(OWS).lower() for member in (argument or b"").split(b",")]
            # An argument that is no list of names counts as the stricter, unqualified form.
            if not all(is_token(member) for member in members):
                return ()
            names.extend(members)
        return tuple(dict.fromkeys(names))


def parse_cache_control(lines: Iterable[bytes]) -> Directives:
    """Parse the lines of a `Cache-Control` field. Never raises."""
    arguments: dict[str, tuple[bytes | None, ...]] = {}
    well_formed = True
    for line in lines:
        members, closed = split_members(line)
        well_formed = well_formed and closed
        for member in filter(None, members):
            name, argument = _directive(member)
            arguments[name] = (*arguments.get(name, ()), argument)
    return Directives(MappingProxyType(arguments), well_formed)


def _directive(member: bytes) -> tuple[str, bytes | None]:
    name, equals, argument = member.partition(b"=")
    # RFC 9111 section 5.2: "Cache directives are identified by a token, to be compared
    # case-insensitively, and have an optional argument that can use both token and quoted-string
    # syntax." A space at the equals sign stays in the argument, which makes it invalid.
    lower = name.strip(OWS).lower().decode("latin-1")
    if not equals:
        return lower, None
    if name.endswith((b" ", b"\t")):
        return lower, b" " + argument
    quoted = _QUOTED.fullmatch(argument)
    return lower, argument if quoted is None else _ESCAPE.sub(rb"\1", quoted.group(1))


def parse_targeted(lines: tuple[bytes, ...]) -> Directives | None:
    """Parse a targeted field; None when empty, invalid or of the wrong types. Never raises."""
    # RFC 9213 section 2.1: "If a targeted field in a given response is empty, or a parsing error is
    # encountered, that field MUST be ignored by the cache".
    members = parse_dictionary(lines)
    if not members:
        return None
    arguments: dict[str, tuple[bytes | None, ...]] = {}
    for name, item in members.items():
        if not _has_right_type(name, item):
            return None
        if item is not False:
            arguments[name] = (_argument(item),)
    return Directives(MappingProxyType(arguments))


def _has_right_type(name: str, item: Item) -> bool:
    if name in _SECONDS:
        return isinstance(item, int) and not isinstance(item, bool)
    if name in _FLAGS:
        return isinstance(item, bool)
    if name in _FIELD_NAMES:
        return isinstance(item, bool | str | Token)
    return True


def _argument(item: Item) -> bytes | None:
    if isinstance(item, bool):
        return None
    if isinstance(item, int):
        return b"%d" % item
    text = item.text if isinstance(item, Token) else item
    return text.encode("ascii") if isinstance(text, str) else b""


@final
class Control(Struct, frozen=True, kw_only=True):
    """The directives that decide about a response, and their origin."""

    directives: Directives
    targeted: bool
    """Whether a targeted field decides: `Cache-Control` and `Expires` are ignored then."""


def governing(headers: Headers, targets: tuple[bytes, ...]) -> Control:
    """Return the directives of the first valid targeted field, else those of `Cache-Control`."""
    # RFC 9213 section 2.2: "the cache MUST select the first (in target list order) field with a
    # valid, non-empty value and use its value to determine the caching policy for the response, and
    # it MUST ignore the Cache-Control and Expires header fields in that response".
    for target in targets:
        lines = headers.get_all(target)
        targeted = parse_targeted(lines) if lines else None
        if targeted is not None:
            return Control(directives=targeted, targeted=True)
    return Control(
        directives=parse_cache_control(headers.get_all(b"cache-control")), targeted=False
    )
