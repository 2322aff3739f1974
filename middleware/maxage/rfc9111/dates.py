"""HTTP dates (RFC 9110 section 5.6.7)."""

import re
from calendar import timegm
from datetime import MAXYEAR, UTC, date, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from maxage.rfc9111.message import Headers

_MONTHS: Final = tuple(b"jan feb mar apr may jun jul aug sep oct nov dec".split())
_DAY: Final = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH: Final = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME: Final = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

# RFC 9110 section 5.6.7: "A recipient that parses a timestamp value in an HTTP field MUST accept
# all three HTTP-date formats." RFC 9111 section 4.2: "Although all date formats are specified to be
# case-sensitive, a cache recipient SHOULD match the field value case-insensitively." Every other
# spelling is not a date.
_FORMATS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        _DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT",
        _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT",
        _DAY + rb" " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _TIME + rb" (?P<year>[0-9]{4})",
    )
)


def parse_http_date(text: bytes, *, now: float) -> float | None:
    """Return the instant of an HTTP date, or None when `text` is none.

    `now` only decides the century of a two-digit year.
    """
    text = text.strip(b" \t")
    for pattern in _FORMATS:
        match = pattern.fullmatch(text)
        if match is not None:
            return _instant(match, now=now)
    return None


def _instant(match: re.Match[bytes], *, now: float) -> float | None:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    month, day = _MONTHS.index(match["month"].lower()) + 1, int(match["day"])
    year = int(match["year"])
    # Section 5.6.7 allows the 60th second, for leap seconds.
    if hour > 23 or minute > 59 or second > 60:
        return None
    clock = (hour, minute, second)
    if len(match["year"]) == 2:
        return _two_digit_year(year, month, day, clock, now=now)
    return _seconds(year, month, day, clock)


def _two_digit_year(
    year: int, month: int, day: int, clock: tuple[int, int, int], *, now: float
) -> float | None:
    # Section 5.6.7: "MUST interpret a timestamp that appears to be more than 50 years in the future
    # as representing the most recent year in the past that had the same last two digits."
    today = datetime.fromtimestamp(now, tz=UTC)
    limit = (today.year + 50, today.month, today.day, today.hour, today.minute, today.second)
    full = today.year - today.year % 100 + 100 + year
    while (full, month, day, *clock) > limit:
        full -= 100
    return _seconds(full, month, day, clock)


def _seconds(year: int, month: int, day: int, clock: tuple[int, int, int]) -> float | None:
    if not 1 <= year <= MAXYEAR:
        return None
    try:
        date(year, month, day)
    except ValueError:  # the 30th of February
        return None
    return float(timegm((year, month, day, *clock)))


def format_http_date(instant: float) -> bytes:
    """Return `instant` in the preferred format, whole seconds."""
    return _formatted(int(instant))


# Many responses share one second.
@lru_cache(maxsize=16)
def _formatted(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode("ascii")


def date_value(headers: Headers, *, response_time: float) -> float:
    """Return the instant of the Date field, or of arrival when there is no valid one."""
    # RFC 9110 section 6.6.1: "A recipient with a clock that receives a response message without a
    # Date header field MUST record the time it was received".
    line = headers.first(b"date")
    parsed = None if line is None else parse_http_date(line, now=response_time)
    return response_time if parsed is None else parsed
