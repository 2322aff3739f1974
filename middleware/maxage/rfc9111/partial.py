"""Stored parts (206): which may be stored, and which requests they answer (RFC 9111, 3.3)."""

import re
from typing import Final, final

from msgspec import Struct

from maxage.rfc9111.field_list import OWS
from maxage.rfc9111.message import HeaderList, Headers, Request, Response, StoredResponse
from maxage.rfc9111.ranges import Partial, if_range_holds, parse_range, single_part

_CONTENT_RANGE: Final = re.compile(rb"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
ABOUT_THE_PART: Final = (b"content-length", b"content-range")
"""Fields that describe the part."""
CONDITIONS: Final = (b"if-none-match", b"if-modified-since")
"""Conditions of a request that a part does not evaluate."""


@final
class Span(Struct, frozen=True, kw_only=True):
    """Position of a part: its first and last byte, and the length of the whole."""

    first: int
    last: int
    length: int

    @property
    def size(self) -> int:
        """How many bytes the part has."""
        return self.last - self.first + 1


def content_span(headers: Headers) -> Span | None:
    """Return the position of the content of a 206; None when it is missing or contradictory."""
    lines = headers.get_all(b"content-range")
    found = _CONTENT_RANGE.fullmatch(lines[0].strip(OWS)) if len(lines) == 1 else None
    if found is None:
        return None
    span = Span(first=int(found[1]), last=int(found[2]), length=int(found[3]))
    # RFC 9110 section 14.4: "A Content-Range field value is invalid if it contains a range-resp
    # that has a last-pos value less than its first-pos value, or a complete-length value less than
    # or equal to its last-pos value. The recipient of an invalid Content-Range MUST NOT attempt to
    # recombine the received content with a stored representation."
    if not span.first <= span.last < span.length:
        return None
    declared = headers.first(b"content-length")
    return span if declared is None or declared.strip(OWS) == b"%d" % span.size else None


def may_keep_part(request: Request, response: Response) -> bool:
    """Return whether a 206 may be stored as an incomplete 200."""
    # RFC 9111 section 3.3: "a 206 (Partial Content) response MAY be stored as if it were an
    # incomplete 200 (OK) response. However, a cache MUST NOT store incomplete or partial-content
    # responses if it does not support the Range and Content-Range header fields or if it does not
    # understand the range units used in those fields."
    # RFC 9110 section 15.3.7: to a request with If-Range a server leaves out most fields, "because
    # the client already has a prior response containing those header fields".
    asked = b"range" in request.headers and b"if-range" not in request.headers
    return request.method == "GET" and asked and content_span(response.headers) is not None


def part_within(
    request: Request, stored: StoredResponse, headers: HeaderList, *, now: float
) -> Partial | None:
    """Return the answer from a stored part to this request, or None."""
    # RFC 9111 section 3.3: "A cache MUST NOT use an incomplete response to answer requests unless
    # the response has been made complete, or the request is partial and specifies a range wholly
    # within the incomplete response."
    span, asked = content_span(stored.headers), request.headers
    ranges = asked.get_all(b"range")
    conditional = any(name in asked for name in CONDITIONS)
    if span is None or len(ranges) != 1 or request.method != "GET" or conditional:
        return None
    parts = parse_range(ranges[0], span.length)
    if not parts or len(parts) != 1 or not if_range_holds(asked, stored.headers, now=now):
        return None
    part = parts[0]
    if part.first < span.first or part.last > span.last:
        return None
    # "A cache MUST NOT send a partial response to a client without explicitly marking it using the
    # 206 (Partial Content) status code."
    content = stored.body[part.first - span.first : part.last - span.first + 1]
    return single_part(Headers(headers), content, part, span.length)
