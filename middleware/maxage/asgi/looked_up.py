"""Request fields that the application looks up and does not declare: its answer varies by them.

A handler, or a layer inside of the cache, may ask for `X-Tenant` or `Accept-Language`, and few name
such a field in Vary. So the names of the header lines of a forwarded request note what they are
compared with, as a search for a name compares them. A hit costs nothing more.

Not noted are fields that are credentials, that the key holds anyway, and that describe a client or
one exchange: most lookups of those are a log's. A copy of all names is noted too: then the answer
is neither made for nor given to a request with a field that not all clients send.
"""

from collections.abc import Callable, Iterable
from typing import Final, final

from maxage.asgi.overrides import OVERRIDES
from maxage.cache.key import FORWARDED_HEADERS, FRAGMENT_HEADERS
from maxage.rfc9111.credentials import IMPERSONAL

CHOOSING: Final = frozenset(
    b"""
    accept accept-charset accept-language cf-ipcountry save-data sec-ch-prefers-color-scheme
    sec-ch-prefers-reduced-motion sec-ch-ua-mobile
    """.split()
)
"""Fields that name no user, and that applications look up to choose an answer."""
_UNNOTED: Final = (
    (IMPERSONAL - CHOOSING) | FORWARDED_HEADERS | FRAGMENT_HEADERS | OVERRIDES
    | {b"proxy-authorization"}
)  # fmt: skip

COPIED: Final = b""
"""Stands among the noted names for a copy of all of them. No field has this name."""


def unnoted_names(credentials: Iterable[bytes], exchange: Iterable[str]) -> frozenset[bytes]:
    """Return the names of fields (lower case) whose lookups make no difference.

    Args:
        credentials: the names of fields that are credentials.
        exchange: `CACHE_EXCHANGE_HEADERS`.
    """
    return _UNNOTED.union(credentials, (name.lower().encode() for name in exchange))


class _Name(bytes):
    """The name of a header line, which notes the names that it is compared with."""

    noted: set[bytes]

    def __eq__(self, other: object) -> bool:
        is_equal = bytes.__eq__(self, other)
        if is_equal is not NotImplemented and type(other) is bytes:
            self.noted.add(other)
        return is_equal

    def __ne__(self, other: object) -> bool:
        is_equal = self.__eq__(other)
        return is_equal if is_equal is NotImplemented else not is_equal

    __hash__ = bytes.__hash__

    def lower(self) -> bytes:
        """Return the name in lower case."""
        return _noting(type(self), bytes.lower(self), self.noted)


@final
class _FirstName(_Name):
    """The name of the first line. A search begins here, so that it notes absent fields too."""

    def __hash__(self) -> int:
        # It becomes a key of a mapping, or is sought in a set.
        self.noted.add(COPIED)
        return bytes.__hash__(self)


def _noting_copy(method: Callable[..., object]) -> Callable[..., object]:
    """Return the method of a name that notes a copy: what becomes of its bytes is not noted."""

    def copy(name: _FirstName, *given: object, **named: object) -> object:
        name.noted.add(COPIED)
        return method(name, *given, **named)

    return copy


for _name in (
    "__bytes__", "__contains__", "__getitem__", "__iter__", "__lt__", "__reduce_ex__", "__repr__",
    "__str__", "capitalize", "decode", "endswith", "find", "partition", "removeprefix", "replace",
    "rpartition", "split", "startswith", "strip", "title", "translate", "upper",
):  # fmt: skip
    setattr(_FirstName, _name, _noting_copy(getattr(bytes, _name)))


def noting_lines(
    lines: Iterable[tuple[bytes, bytes]], unnoted: frozenset[bytes], noted: set[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the header lines for the application; lookups of names are added to `noted`."""
    given = list(lines)
    try:
        for place, (name, value) in enumerate(given):
            if not place:
                given[place] = (_noting(_FirstName, name, noted), value)
            elif name not in unnoted:
                given[place] = (_noting(_Name, name, noted), value)
    except TypeError:
        # A name of another kind than bytes, such as `bytearray`, has no hash.
        return list(lines)
    return given


def _noting(kind: type[_Name], name: bytes, noted: set[bytes]) -> _Name:
    made = kind(name)
    made.noted = noted
    return made
