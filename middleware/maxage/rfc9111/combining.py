"""Completing a stored part: its range request, and the combination (RFC 9111 section 3.4)."""

from maxage.rfc9111.freshening import merged
from maxage.rfc9111.message import HeaderList, Headers, Request, Response, StoredResponse
from maxage.rfc9111.partial import ABOUT_THE_PART, CONDITIONS, content_span
from maxage.rfc9111.ranges import is_strong_date
from maxage.rfc9111.validation import is_weak


def completing_fields(request: Request, stored: StoredResponse) -> HeaderList:
    """Return the fields of a request for the rest of a stored beginning, or none."""
    # RFC 9111 section 3.3: "A cache MAY complete a stored incomplete response by making a
    # subsequent range request (Section 14.2 of [HTTP]) and combining the successful response with
    # the stored response, as defined in Section 3.4."
    span = content_span(stored.headers)
    plain = b"range" not in request.headers and not any(n in request.headers for n in CONDITIONS)
    if span is None or span.first or not plain or request.method != "GET":
        return ()
    lines = ((b"range", b"bytes=%d-" % (span.last + 1)),)
    validator = _strong_validator(stored)
    return lines if validator is None else (*lines, (b"if-range", validator))


def completed_by(stored: StoredResponse, response: Response) -> Response | None:
    """Return the head of the 200 that a stored beginning and this 206 make together, or None."""
    begun, rest = content_span(stored.headers), content_span(response.headers)
    if response.status != 206 or begun is None or rest is None:
        return None
    fits = rest.first == begun.last + 1 and rest.last == rest.length - 1
    # Section 3.4: "A cache MAY combine these ranges into a single stored response, and reuse that
    # response to satisfy later requests, if they all share the same strong validator".
    if not fits or rest.length != begun.length or not _share_a_validator(stored, response.headers):
        return None
    # "When combining the new response with one or more stored responses, a cache MUST update the
    # stored response header fields using the header fields provided in the new response, as per
    # Section 3.2."
    headers = merged(stored.headers, response.headers).without(ABOUT_THE_PART)
    length = (b"content-length", b"%d" % begun.length)
    return Response(status=200, headers=Headers((*headers.raw, length)))


def _strong_validator(stored: StoredResponse) -> bytes | None:
    etag = stored.headers.first(b"etag")
    if etag:
        return None if is_weak(etag) else etag
    modified = stored.headers.first(b"last-modified")
    if modified is None:
        return None
    strong = is_strong_date(modified, stored.headers, now=stored.response_time)
    return modified if strong else None


def _share_a_validator(stored: StoredResponse, rest: Headers) -> bool:
    name = b"etag" if b"etag" in stored.headers or b"etag" in rest else b"last-modified"
    validator = _strong_validator(stored)
    return validator is not None and rest.get_all(name) == (validator,)
