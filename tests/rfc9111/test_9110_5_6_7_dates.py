"""RFC 9110 section 5.6.7: dates."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.dates import format_http_date, parse_http_date
from tests.rfc9111.build import NOW

EXAMPLE = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun Nov 06 08:49:37 1994",
    ],
)
def test_all_three_formats_are_understood(text: bytes) -> None:
    """IMF-fixdate, RFC 850 and asctime name the same instant."""
    assert parse_http_date(text, now=NOW) == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        b"SUN, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 NOV 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 gMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
def test_odd_case_and_outer_spaces_are_accepted(text: bytes) -> None:
    """Letters of the wrong case can mean nothing else."""
    assert parse_http_date(text, now=NOW) == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"foo",
        b"-1",
        b"1800000000",
        b"Thu, 18 Aug 2050 02:01:18 UTC",
        b"Thu, 18 Aug 2050 02:01:18 AEST",
        b"Thu, 18 Aug 2050 02:01:18 +0000",
        b"Thu, 18 Aug 2050 02:01:18",
        b"Thu, 18 Aug 50 02:01:18 GMT",
        b"Thu 18 Aug 2050 02:01:18 GMT",
        b"Thu, 18  Aug  2050 02:01:18 GMT",
        b"Thu, 18-Aug-2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 02.01.18 GMT",
        b"Thu, 18 Aug 2050 2:01:18 GMT",
        b"Thu, 8 Aug 2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 24:01:18 GMT",
        b"Thu, 18 Aug 2050 02:60:18 GMT",
        b"Thu, 18 Aug 2050 02:01:61 GMT",
        b"Thu, 31 Feb 2050 02:01:18 GMT",
        b"Thu, 00 Aug 2050 02:01:18 GMT",
        b"Thu, 18 Aug 0000 02:01:18 GMT",
        b"Thu, 18 Avg 2050 02:01:18 GMT",
        b"18 Aug 2050 02:01:18 GMT",
        b"2050-08-18T02:01:18Z",
        b"Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:1\uff18 GMT".encode(),
    ],
)
def test_every_other_spelling_is_no_date(text: bytes) -> None:
    """What the grammar does not allow is invalid, however readable."""
    assert parse_http_date(text, now=NOW) is None


def test_a_leap_second_is_allowed() -> None:
    """The grammar has a 60th second."""
    last = parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT", now=NOW)
    assert last == datetime(2017, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "year"),
    [
        (b"Thursday, 18-Aug-50 02:01:18 GMT", 2050),
        (b"Friday, 15-Jan-77 08:00:00 GMT", 2077),
        (b"Friday, 15-Jan-77 08:00:01 GMT", 1977),
        (b"Friday, 01-Jan-77 08:00:01 GMT", 2077),
        (b"Friday, 31-Dec-99 23:59:59 GMT", 1999),
        (b"Friday, 31-Dec-26 23:59:59 GMT", 2026),
        (b"Friday, 31-Dec-00 23:59:59 GMT", 2000),
    ],
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(text: bytes, year: int) -> None:
    """A date that appears to be more than 50 years ahead belongs to the past (NOW is in 2027)."""
    instant = parse_http_date(text, now=NOW)
    assert instant is not None
    assert datetime.fromtimestamp(instant, tz=UTC).year == year


def test_the_century_of_a_two_digit_year_follows_the_clock() -> None:
    """In the last century the same text was in the last century."""
    then = datetime(1999, 12, 31, tzinfo=UTC).timestamp()
    instant = parse_http_date(b"Thursday, 18-Aug-94 02:01:18 GMT", now=then)
    assert instant is not None
    assert datetime.fromtimestamp(instant, tz=UTC).year == 1994


@given(st.integers(min_value=0, max_value=250_000_000_000))
def test_what_we_write_is_what_we_read(instant: int) -> None:
    """Writing and reading a date are inverse to each other."""
    assert parse_http_date(format_http_date(instant), now=NOW) == instant


@given(
    st.binary() | st.from_regex(rb"\A[A-Za-z]{3}, [0-9]{2} [A-Za-z]{3} [0-9]{4} [0-9:]{8} GMT\Z")
)
def test_no_bytes_make_it_raise(text: bytes) -> None:
    """Whatever the bytes, the answer is an instant or None."""
    instant = parse_http_date(text, now=NOW)
    assert instant is None or isinstance(instant, float)
