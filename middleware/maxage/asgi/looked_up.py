"""Request fields that the application looks up and does not declare: its answer varies by them.

A handler, or a layer inside of the cache, may ask for `X-Tenant` or `Accept-Language`, and few name
such a field in Vary. So the names of the header lines of a forwarded request note what they are
compared with, as a search for a name compares them. A hit costs nothing more.

Not noted are fields that are credentials, that the key holds anyway, and that describe a client or
one exchange: most lookups of those are a log's. A copy of all names is noted too: then the answer
varies by each field of the request that not all clients send, and serves no request with another.
"""

from collections.abc import Iterable
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


@final
class NotingName(bytes):
    """The name of a header line, which notes the names that it is compared with.

    A search for a name begins at the first line, so that this one notes absent fields too.
    """

    noted: set[bytes]
    is_first: bool

    def __eq__(self, other: object) -> bool:
        is_equal = bytes.__eq__(self, other)
        if is_equal is not NotImplemented and type(other) is bytes:
            self.noted.add(other)
        return is_equal

    def __ne__(self, other: object) -> bool:
        is_equal = self.__eq__(other)
        return is_equal if is_equal is NotImplemented else not is_equal

    def __hash__(self) -> int:
        # It becomes a key of a mapping, or is sought in a set.
        if self.is_first:
            self.noted.add(COPIED)
        return bytes.__hash__(self)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text, which notes nothing more."""
        if self.is_first:
            self.noted.add(COPIED)
        return bytes.decode(self, encoding, errors)

    def lower(self) -> "NotingName":
        """Return the name in lower case."""
        return _noting(bytes.lower(self), self.noted, is_first=self.is_first)


def noting_lines(
    lines: Iterable[tuple[bytes, bytes]], unnoted: frozenset[bytes], noted: set[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the header lines for the application; lookups of names are added to `noted`."""
    given, is_first = list[tuple[bytes, bytes]](), True
    for line in lines:
        if is_first or line[0] not in unnoted:
            given.append((_noting(line[0], noted, is_first=is_first), line[1]))
            is_first = False
        else:
            given.append(line)
    return given


def _noting(name: bytes, noted: set[bytes], *, is_first: bool) -> NotingName:
    made = NotingName(name)
    made.noted, made.is_first = noted, is_first
    return made
