"""Request fields that the application looks up and does not declare: its answer varies by them.

A handler, or a layer inside of the cache, may ask for `X-Tenant` or `Accept-Language`, and few name
such a field in Vary. So the names of the header lines of a forwarded request note what they are
compared with, as a search for a name compares them. A hit costs nothing more.

Not noted are fields that are credentials, that the key holds anyway, and that describe a client or
one exchange: most lookups of those are a log's. A copy of all headers is not noted as a lookup.
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
    | {b"b3", b"sentry-trace", b"x-queue-start", b"proxy-authorization"}
)  # fmt: skip


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

    def __eq__(self, other: object) -> bool:
        is_equal = bytes.__eq__(self, other)
        if is_equal is not NotImplemented and type(other) is bytes:
            self.noted.add(other)
        return is_equal

    def __ne__(self, other: object) -> bool:
        is_equal = self.__eq__(other)
        return is_equal if is_equal is NotImplemented else not is_equal

    __hash__ = bytes.__hash__

    def lower(self) -> "NotingName":
        """Return the name in lower case."""
        return _noting(bytes.lower(self), self.noted)


def noting_lines(
    lines: Iterable[tuple[bytes, bytes]], unnoted: frozenset[bytes], noted: set[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the header lines for the application; lookups of names are added to `noted`."""
    given, is_first = list[tuple[bytes, bytes]](), True
    for line in lines:
        if is_first or line[0] not in unnoted:
            is_first = False
            given.append((_noting(line[0], noted), line[1]))
        else:
            given.append(line)
    return given


def _noting(name: bytes, noted: set[bytes]) -> NotingName:
    made = NotingName(name)
    made.noted = noted
    return made
