"""The age of a response, and the Age header field (RFC 9111 sections 4.2.3 and 5.1)."""

import math
from typing import Protocol

from maxage.rfc9111.dates import date_value
from maxage.rfc9111.directives import OWN_TARGET, delta_seconds
from maxage.rfc9111.field_list import OWS
from maxage.rfc9111.message import HeaderList, Headers, StoredResponse


def age_value(headers: Headers) -> int:
    """Return the Age field in seconds, 0 when there is no valid one."""
    # RFC 9111 section 5.1: "a cache encountering a message with a list-based Age field value SHOULD
    # use the first member of the field value, discarding subsequent ones. If the field value (after
    # discarding additional members, as per above) is invalid (e.g., it contains something other
    # than a non-negative integer), a cache SHOULD ignore the field."
    line = headers.first(b"age")
    if line is None:
        return 0
    return delta_seconds(line.partition(b",")[0].strip(OWS)) or 0


def corrected_initial_age(headers: Headers, *, request_time: float, response_time: float) -> float:
    """Return the age that the response already had when it arrived."""
    # RFC 9111 section 4.2.3 defines "apparent_age = max(0, response_time - date_value);" and
    # "corrected_age_value = age_value + response_delay;". Date has whole seconds, so the arrival is
    # taken in whole seconds too.
    date = date_value(headers, response_time=response_time)
    apparent_age = max(0.0, math.floor(response_time) - date)
    response_delay = max(0.0, response_time - request_time)
    corrected_age_value = age_value(headers) + response_delay
    # The larger of the two is the conservative one.
    return max(apparent_age, corrected_age_value)


class Aged(Protocol):
    """What the age of a stored response follows from (`StoredResponse`)."""

    @property
    def response_time(self) -> float:
        """When it arrived."""
        ...

    @property
    def corrected_initial_age(self) -> float:
        """Its age by then."""
        ...


def current_age(stored: Aged, *, now: float) -> float:
    """Return the age of a stored response. A clock that is set back never makes it younger."""
    # RFC 9111 section 4.2.3: "resident_time = now - response_time;
    #  current_age = corrected_initial_age + resident_time;"
    resident_time = now - stored.response_time
    return stored.corrected_initial_age + (resident_time if resident_time > 0 else 0.0)


def headers_with_age(stored: StoredResponse, age: float, *, validated: bool) -> HeaderList:
    """Return the headers of a stored response as they are sent: with its Age."""
    lines = stored.headers.raw
    if stored.no_cache_fields:
        # RFC 9111 section 5.2.2.4: with the qualified no-cache "a cache MAY use the response to
        # satisfy a subsequent request, subject to any other restrictions on caching, if the listed
        # header fields are excluded from the subsequent response or the subsequent response has
        # been successfully revalidated with the origin server".
        withheld = (OWN_TARGET,) if validated else stored.no_cache_fields
        lines = stored.headers.without(withheld).raw
    if validated and age < 1:
        # Section 5.1: "The presence of an Age header field implies that the response was not
        # generated or validated by the origin server for this request."
        return lines
    # Section 4: "When a stored response is used to satisfy a request without validation, a cache
    # MUST generate an Age header field (Section 5.1), replacing any present in the response with a
    # value equal to the stored response's current_age". Stored headers have no Age.
    return (*lines, age_line(age))


def age_line(age: float) -> tuple[bytes, bytes]:
    """Return the Age field: whole seconds (RFC 9111 section 1.2.2)."""
    return (b"age", b"%d" % age)
