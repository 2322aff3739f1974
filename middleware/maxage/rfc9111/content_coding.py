"""Bodies that are kept compressed, and both representations that they give (RFC 9110, 8.4, 12.5.3).

The stored headers are those of the plain body, as the application sent them. A client that takes
zstd gets the body as it lies in the store, every other one gets it decompressed.
"""

from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from maxage.rfc9111.field_list import lower_names
from maxage.rfc9111.message import HeaderList, Headers, Request, StoredResponse
from maxage.rfc9111.validation import is_weak
from maxage.rfc9111.vary import preference_weights
from maxage.zstd import compress, decompress

LEAST: Final = 1024
"""Bytes of the shortest body that is compressed."""
_WORTHWHILE: Final = 0.75
"""Largest share of its length that a compressed body may have, to be worth its decompression."""
_LONGEST_MEMOISED: Final = 200
"""Bytes of the longest Accept-Encoding whose meaning is remembered."""
_ABOUT_THE_CONTENT: Final = frozenset({
    b"content-digest", b"content-encoding", b"content-md5", b"content-range", b"digest",
    b"repr-digest", b"signature",
})  # fmt: skip
"""Fields that would not be true of a compressed body, or that say that it is one."""
_OF_THE_PLAIN_BODY: Final = frozenset({b"accept-ranges", b"content-length", b"etag"})
"""Fields that the compressed body has with another value, or not at all."""
_CODED: Final = (b"content-encoding", b"zstd")
_VARIED: Final = (b"vary", b"Accept-Encoding")


# --- In the store -------------------------------------------------------------------------------


def may_be_coded(status: int, headers: Headers, length: int | None) -> bool:
    """Return whether a response with these headers may be sent compressed.

    They are as the application sent them; the length of the body may not be known yet (None).
    """
    if status == 206 or (length is not None and length < LEAST):
        return False
    if headers.has_any(_ABOUT_THE_CONTENT):
        return False
    # RFC 9110 section 7.7: "A proxy MUST NOT transform the content [...] of a response message that
    # contains a no-transform cache directive".
    return not _forbids_transforming(headers)


def marked(stored: StoredResponse) -> StoredResponse:
    """Return a response, marked where it is to be kept compressed."""
    length = len(stored.body)
    if stored.plain_length is None and may_be_coded(stored.status, stored.headers, length):
        return replace(stored, plain_length=length)
    return stored


def compressed(stored: StoredResponse) -> StoredResponse:
    """Return a marked response with its body compressed, or unmarked where that hardly pays."""
    body = compress(stored.body)
    if len(body) <= len(stored.body) * _WORTHWHILE:
        return replace(stored, body=body)
    return replace(stored, plain_length=None)


def still_coded(stored: StoredResponse) -> StoredResponse:
    """Return a response with new headers, its body decompressed if they forbid that it is coded.

    Raises:
        DamagedBodyError: the body cannot be decompressed.
    """
    length = stored.plain_length
    if length is None or may_be_coded(stored.status, stored.headers, length):
        return stored
    return replace(stored, body=plain_body(stored), plain_length=None)


def plain_body(stored: StoredResponse) -> bytes:
    """Return the body as the application sent it.

    Raises:
        DamagedBodyError: it cannot be decompressed.
    """
    length = stored.plain_length
    if length is None or not stored.is_compressed:
        return stored.body
    return decompress(stored.body, length)


def _forbids_transforming(headers: Headers) -> bool:
    lines = headers.get_all(b"cache-control")
    return bool(lines) and any(b"no-transform" in line.lower() for line in lines)


# --- On the wire --------------------------------------------------------------------------------


def represented(
    request: Request, stored: StoredResponse, lines: HeaderList, *, sends_body: bool
) -> tuple[HeaderList, bytes]:
    """Return headers and body of the representation that a client gets.

    Args:
        request: of the client.
        stored: a marked response.
        lines: its headers, as they are sent with the plain body.
        sends_body: whether the body is sent; else it need not be decompressed.

    Raises:
        DamagedBodyError: the body cannot be decompressed.
    """
    if stored.is_compressed and _takes_compressed(request):
        return _coded(lines, len(stored.body)), stored.body
    return varied(lines), plain_body(stored) if sends_body else b""


def _takes_compressed(request: Request) -> bool:
    """Return whether a client gets the compressed body."""
    headers = request.headers
    # A part is one of the plain body, which has the strong validator that If-Range needs. RFC 9111
    # section 5.2.1.6: no-transform asks "for intermediaries to avoid transforming the content".
    if b"range" in headers or _forbids_transforming(headers):
        return False
    return takes_zstd(headers.get_all(b"accept-encoding"))


def takes_zstd(lines: tuple[bytes, ...]) -> bool:
    """Return whether the lines of Accept-Encoding prefer zstd to no coding."""
    if not lines:
        return False
    is_usual = len(lines) == 1 and len(lines[0]) <= _LONGEST_MEMOISED
    return _memoised(lines) if is_usual else _takes_zstd(lines)


def _takes_zstd(lines: tuple[bytes, ...]) -> bool:
    # RFC 9110 section 12.5.3: "If the representation's content coding is one of the content codings
    # listed in the Accept-Encoding field value, then it is acceptable unless it is accompanied by a
    # qvalue of 0."
    # Deviation: "*" would allow every coding. Clients that send it need not know zstd, and it
    # allows the plain body too.
    weights = preference_weights(lines) or {}
    weight = weights.get(b"zstd", 0)
    return weight > 0 and weight >= weights.get(b"identity", 0)


_memoised: Final = lru_cache(maxsize=512)(_takes_zstd)


def _coded(lines: HeaderList, length: int) -> HeaderList:
    """Return the headers of the compressed representation, whose body is `length` bytes long."""
    result: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, value = line
        lower = name.lower()
        if lower not in _OF_THE_PLAIN_BODY:
            result.append(line)
        elif lower == b"content-length":
            result.append((name, b"%d" % length))
        elif lower == b"etag":
            # RFC 9110 section 8.8.3.3: "a strong entity tag for a content-encoded representation
            # has to be distinct from the entity tag of an unencoded representation". A weak one
            # need not be, and an application that is asked with it knows its own tag again.
            result.append((name, value if is_weak(value) else b"W/" + value))
    result.append(_CODED)
    return varied(tuple(result))


def varied(lines: HeaderList) -> HeaderList:
    """Return headers whose Vary names Accept-Encoding."""
    for name, value in lines:
        if len(name) == 4 and name.lower() == b"vary" and _names_coding(value):
            return lines
    return (*lines, _VARIED)


@lru_cache(maxsize=512)
def _names_coding(value: bytes) -> bool:
    """Return whether a line of Vary names Accept-Encoding; `X-Accept-Encoding` is another field."""
    return b"accept-encoding" in lower_names((value,))
