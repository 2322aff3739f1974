"""Validators and conditional requests (RFC 9111 section 4.3, RFC 9110 section 13)."""

from typing import Final

from maxage.rfc9111.dates import date_value, parse_http_date
from maxage.rfc9111.field_list import list_members
from maxage.rfc9111.freshness import last_modified
from maxage.rfc9111.message import HeaderList, Headers, Request, StoredResponse

_REPRESENTATION_METADATA: Final = frozenset({
    b"content-digest", b"content-encoding", b"content-language", b"content-length",
    b"content-md5", b"content-range", b"content-type", b"digest", b"repr-digest",
    b"transfer-encoding",
})  # fmt: skip


def has_validator(headers: Headers, *, now: float) -> bool:
    """Return whether the application can answer 304 for a response with these headers."""
    return bool(headers.first(b"etag")) or last_modified(headers, now=now) is not None


def conditional_fields(stored: StoredResponse) -> HeaderList:
    """Return the conditional fields that validate `stored`; none without validators."""
    # Only a 200 is ever confirmed by 304: "the request would have resulted in a 200 (OK) response"
    # (RFC 9110 section 15.4.5).
    if stored.status != 200:
        return ()
    # RFC 9111 section 4.3.1: a cache "MUST send the relevant entity tags (using If-Match,
    # If-None-Match, or If-Range) if the entity tags were provided in the stored response(s) being
    # validated" and "SHOULD send the Last-Modified value (using If-Modified-Since)".
    etag = stored.headers.first(b"etag")
    modified = stored.headers.first(b"last-modified")
    lines: list[tuple[bytes, bytes]] = []
    if etag:
        lines.append((b"if-none-match", etag))
    if modified:
        lines.append((b"if-modified-since", modified))
    return tuple(lines)


def is_not_modified(request: Request, response_headers: Headers, *, response_time: float) -> bool:
    """Return whether the client's conditional fields turn a 200 with these headers into a 304."""
    headers = request.headers
    # RFC 9110 section 13.2.2: "When If-None-Match is present, evaluate the If-None-Match
    # precondition"; "When the method is GET or HEAD, If-None-Match is not present, and
    # If-Modified-Since is present, evaluate the If-Modified-Since precondition".
    if b"if-none-match" in headers:
        return _none_match(headers.get_all(b"if-none-match"), response_headers)
    if b"if-modified-since" in headers:
        since = headers.get_all(b"if-modified-since")
        return _unmodified_since(since, response_headers, response_time=response_time)
    return False


def _none_match(lines: tuple[bytes, ...], response_headers: Headers) -> bool:
    tags = list_members(lines)
    # RFC 9110 section 13.1.2: 'If the field value is "*", the condition is false if the origin
    # server has a current representation for the target resource.'
    if tags == [b"*"]:
        return True
    # "A recipient MUST use the weak comparison function when comparing entity tags for
    # If-None-Match".
    etag = response_headers.first(b"etag")
    return bool(etag) and any(matches_weakly(tag, etag or b"") for tag in tags)


def _unmodified_since(
    lines: tuple[bytes, ...], response_headers: Headers, *, response_time: float
) -> bool:
    # RFC 9110 section 13.1.3: "A recipient MUST ignore the If-Modified-Since header field if the
    # received field value is not a valid HTTP-date, the field value has more than one member".
    since = parse_http_date(lines[0], now=response_time) if len(lines) == 1 else None
    if since is None:
        return False
    # RFC 9111 section 4.3.2: "If a request contains an If-Modified-Since header field and the
    # Last-Modified header field is not present in a stored response, a cache SHOULD use the stored
    # response's Date field value (or, if no Date field is present, the time that the stored
    # response was received) to evaluate the conditional."
    modified = last_modified(response_headers, now=response_time)
    if modified is not None:
        return modified <= since
    # Deviation: section 4.3.2 compares with the Date alone. But a client with an earlier response
    # of the same second has the same Date. So a Date equal to the client's proves nothing unless
    # its second was over when this response arrived.
    date = date_value(response_headers, response_time=response_time)
    return date < since or (date == since and date + 1 <= response_time)


def not_modified_headers(headers: Headers) -> HeaderList:
    """Return the headers of the 304 that stands for a 200 with these headers."""
    # RFC 9110 section 15.4.5: the server "MUST generate any of the following header fields that
    # would have been sent in a 200 (OK) response to the same request: Content-Location, Date, ETag,
    # and Vary; Cache-Control and Expires", and "SHOULD NOT generate representation metadata other
    # than the above listed fields unless said metadata exists for the purpose of guiding cache
    # updates (e.g., Last-Modified might be useful if the response does not have an ETag field)."
    dropped = _REPRESENTATION_METADATA
    if b"etag" in headers:
        dropped |= {b"last-modified"}
    return headers.without(dropped).raw


def is_weak(etag: bytes) -> bool:
    """Return whether an entity tag is marked as weak."""
    return etag.startswith(b"W/")


def matches_weakly(one: bytes, other: bytes) -> bool:
    """Compare two entity tags by their opaque parts (RFC 9110 section 8.8.3.2)."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")


def matches_strongly(one: bytes, other: bytes) -> bool:
    """Compare two entity tags; a weak one never matches (RFC 9110 section 8.8.3.2)."""
    return one == other and not is_weak(one)


def is_about_another(stored: Headers, update: Headers) -> bool:
    """Return whether an update has validators, and they are not those of the stored response."""
    # RFC 9111 section 4.3.4: "If the new response contains one or more strong validators [...],
    # then each of those strong validators identifies a selected representation for update. [...] If
    # none of the initial set contains at least one of the same strong validators, then the cache
    # MUST NOT use the new response to update any stored responses."
    etag = update.first(b"etag")
    if etag:
        known = stored.first(b"etag") or b""
        same = matches_weakly(etag, known) if is_weak(etag) else matches_strongly(etag, known)
        return not same
    # "If the new response contains no strong validators but does contain one or more weak
    # validators, and those validators correspond to one of the initial set's stored responses, then
    # the most recent of those matching stored responses is identified for update."
    modified = update.first(b"last-modified")
    return bool(modified) and modified != stored.first(b"last-modified")
