"""Range requests answered from a stored whole response (RFC 9110 section 14)."""

import hashlib
import re
from typing import Final, final

from msgspec import Struct

from maxage.rfc9111.dates import parse_http_date
from maxage.rfc9111.field_list import OWS
from maxage.rfc9111.freshness import last_modified
from maxage.rfc9111.message import HeaderList, Headers
from maxage.rfc9111.validation import matches_strongly

MAX_PARTS: Final = 16

_SPEC: Final = re.compile(rb"([0-9]*)-([0-9]*)")
_BEYOND: Final = 10**18
"""Stands for larger positions: no content is that long."""

_WHOLE_ONLY: Final = frozenset(
    {b"content-digest", b"content-length", b"content-md5", b"content-range", b"digest"}
)
"""Fields about the whole content."""

_OF_THE_200: Final = _WHOLE_ONLY | {
    b"accept-ranges", b"cache-control", b"content-disposition", b"content-encoding",
    b"content-language", b"content-location", b"content-type", b"etag", b"expires",
    b"last-modified", b"repr-digest",
}  # fmt: skip
"""Fields that a 416 does not get: they describe the representation, or let a 416 be stored."""


@final
class ByteRange(Struct, frozen=True, kw_only=True):
    """A satisfiable range: the positions of its first and last byte."""

    first: int
    last: int

    def content_range(self, length: int) -> bytes:
        """Return the value of Content-Range for this part of `length` bytes."""
        return b"bytes %d-%d/%d" % (self.first, self.last, length)

    def of(self, body: bytes) -> bytes:
        """Return this part of `body`."""
        return body[self.first : self.last + 1]


@final
class Partial(Struct, frozen=True, kw_only=True):
    """The answer to a Range: 206, or 416 when no range can be satisfied."""

    status: int
    headers: HeaderList
    body: bytes


def partial_response(
    request_headers: Headers, headers: HeaderList, body: bytes, *, now: float
) -> Partial | None:
    """Return the answer to a GET with Range from a whole 200; None: send the whole."""
    lines = request_headers.get_all(b"range")
    response = Headers(headers)
    if len(lines) != 1 or not if_range_holds(request_headers, response, now=now):
        return None
    ranges = parse_range(lines[0], len(body))
    if ranges is None:
        return None
    if not ranges:
        return _not_satisfiable(response, len(body))
    if len(ranges) == 1:
        return single_part(response, ranges[0].of(body), ranges[0], len(body))
    return _multipart(response, body, ranges)


def parse_range(value: bytes, length: int) -> tuple[ByteRange, ...] | None:
    """Return the satisfiable ranges of `length` bytes; None when the field is to be ignored."""
    # RFC 9110 section 14.2: "An origin server MUST ignore a Range header field that contains a
    # range unit it does not understand", "A server that supports range requests MAY ignore a Range
    # header field when the selected representation has no content".
    unit, _, range_set = value.partition(b"=")
    if unit.strip(OWS).lower() != b"bytes" or not length:
        return None
    ranges: list[ByteRange] = []
    for spec in filter(None, (member.strip(OWS) for member in range_set.split(b","))):
        match = _SPEC.fullmatch(spec)
        if match is None or not _is_valid(match[1], match[2]):
            return None
        found = _resolve(match[1], match[2], length)
        ranges.extend([] if found is None else [found])
        if len(ranges) > MAX_PARTS:
            return None
    return None if _is_abusive(ranges, length) or not range_set.strip(b", \t") else tuple(ranges)


def _is_valid(first: bytes, last: bytes) -> bool:
    # Section 14.1.1: "An int-range is invalid if the last-pos value is present and less than
    # first-pos." A bare "-" is neither an int-range nor a suffix-range.
    if not first or not last:
        return bool(first or last)
    return _position(first) <= _position(last)


def _resolve(first: bytes, last: bytes, length: int) -> ByteRange | None:
    """Return the range, or None when it is unsatisfiable."""
    # Section 14.1.2: "If the selected representation is shorter than the specified suffix-length,
    # the entire representation is used"; "for byte ranges, [it is satisfiable if] the first-pos is
    # less than the current length of the selected representation, or a suffix-range with a
    # non-zero suffix-length".
    if not first:
        suffix = min(_position(last), length)
        return ByteRange(first=length - suffix, last=length - 1) if suffix else None
    start = _position(first)
    if start >= length:
        return None
    # "If the last-pos value is absent, or if the value is greater than or equal to the current
    # length of the representation data, the byte range is interpreted as the remainder".
    end = min(_position(last), length - 1) if last else length - 1
    return ByteRange(first=start, last=end)


def _position(digits: bytes) -> int:
    # Section 14.1.2: "Recipients of byte-range positions SHOULD [...] anticipate potentially large
    # decimal numerals and prevent parsing errors due to integer conversion overflows."
    digits = digits.lstrip(b"0")
    return _BEYOND if len(digits) > 18 else int(digits or b"0")


def _is_abusive(ranges: list[ByteRange], length: int) -> bool:
    # Section 14.2: "A server that supports range requests MAY ignore or reject a Range header field
    # that contains an invalid ranges-specifier, a ranges-specifier with more than two overlapping
    # ranges, or a set of many small ranges that are not listed in ascending order, since these are
    # indications of either a broken client or a deliberate denial-of-service attack".
    return len(ranges) > 1 and sum(part.last - part.first + 1 for part in ranges) > length


def if_range_holds(request_headers: Headers, response: Headers, *, now: float) -> bool:
    """Return whether If-Range is absent or names the representation with these headers."""
    # Section 13.1.5: "When the validator is an entity tag: [...] the condition is true if the
    # entity tag exactly matches the ETag field value for the selected representation using the
    # strong comparison function".
    lines = request_headers.get_all(b"if-range")
    if not lines:
        return True
    value = lines[0].strip(OWS)
    if len(lines) > 1:
        return False
    if b'"' in value:
        return matches_strongly(value, response.first(b"etag") or b"")
    # "If the HTTP-date validator provided is not a strong validator in the sense defined by Section
    # 8.8.2.2, the condition is false. [...] exactly matches the Last-Modified field value".
    return parse_http_date(value, now=now) is not None and is_strong_date(value, response, now=now)


def is_strong_date(value: bytes, response: Headers, *, now: float) -> bool:
    """Return whether the date is the Last-Modified of these headers, and a strong validator."""
    # Section 8.8.2.2: "that cache entry includes a Date value which is at least one second after
    # the Last-Modified value".
    modified = last_modified(response, now=now)
    date = parse_http_date(response.first(b"date") or b"", now=now)
    if modified is None or date is None or date - modified < 1:
        return False
    return value == (response.first(b"last-modified") or b"").strip(OWS)


def single_part(response: Headers, content: bytes, part: ByteRange, length: int) -> Partial:
    """Return the 206 with this part of `length` bytes, cut from a response with these headers."""
    # Section 15.3.7.1: "If a single part is being transferred, the server generating the 206
    # response MUST generate a Content-Range header field".
    headers = (
        *response.without(_WHOLE_ONLY).raw,
        (b"content-range", part.content_range(length)),
        (b"content-length", b"%d" % len(content)),
    )
    return Partial(status=206, headers=headers, body=content)


def _multipart(response: Headers, body: bytes, ranges: tuple[ByteRange, ...]) -> Partial:
    # Section 15.3.7.2: "the server generating the 206 response MUST generate "multipart/byteranges"
    # content [...] and a Content-Type header field containing the "multipart/byteranges" media type
    # and its required boundary parameter. [...] a server MUST NOT generate a Content-Range header
    # field in the HTTP header section of a multiple part response".
    boundary = _boundary(body)
    kind = response.first(b"content-type")
    type_line = b"" if kind is None else b"Content-Type: " + kind + b"\r\n"
    content = b"".join(
        b"\r\n--%b\r\n%bContent-Range: %b\r\n\r\n%b"
        % (boundary, type_line, part.content_range(len(body)), part.of(body))
        for part in ranges
    )
    content += b"\r\n--%b--\r\n" % boundary
    headers = (
        *response.without(_WHOLE_ONLY | {b"content-type"}).raw,
        (b"content-type", b"multipart/byteranges; boundary=" + boundary),
        (b"content-length", b"%d" % len(content)),
    )
    return Partial(status=206, headers=headers, body=content)


def _boundary(body: bytes) -> bytes:
    """Return a boundary that does not occur in the body: the same one for the same body."""
    # RFC 2046 section 5.1.1: "boundary delimiters must not appear within the encapsulated
    # material". No body can be made that contains its own digest.
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode("ascii")


def _not_satisfiable(response: Headers, length: int) -> Partial:
    # Section 15.5.17: "A server that generates a 416 response to a byte-range request SHOULD
    # generate a Content-Range header field specifying the current length of the selected
    # representation".
    headers = (
        *response.without(_OF_THE_200).raw,
        (b"content-range", b"bytes */%d" % length),
        (b"content-length", b"0"),
    )
    return Partial(status=416, headers=headers, body=b"")
