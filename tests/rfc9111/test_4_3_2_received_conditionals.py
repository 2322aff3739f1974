"""RFC 9111 section 4.3.2 and RFC 9110 section 13: the client's own conditionals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.validation import is_not_modified, matches_strongly, matches_weakly
from tests.rfc9111.build import BODY, NOW, date, get, head, lines, stored, values

FRESH = "Cache-Control: max-age=60"


def status(request: Request, *fields: str) -> int:
    """What a fresh stored response with these fields answers."""
    decision = decide(request, stored(FRESH, *fields), now=NOW, policy=Policy())
    assert isinstance(decision, Serve)
    assert (decision.body == BODY) == (decision.status == 200 and request.method == "GET")
    return decision.status


# --- If-None-Match --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ('"a"', '"a"'),
        ('W/"a"', 'W/"a"'),
        ('W/"a"', '"a"'),
        ('"a"', 'W/"a"'),
        ('"a", "b", "c"', '"a"'),
        ('"b", "a", "c"', '"a"'),
        ('"b","c" ,"a"', '"a"'),
        ('"b, c", "a"', '"b, c"'),
        ('"ü"', '"ü"'),
        ("a", "a"),
        ('""', '""'),
        ("*", '"a"'),
        (" * ", '"a"'),
    ],
)
def test_a_tag_that_matches_weakly_is_not_modified(asked: str, held: str) -> None:
    """In any place of the list."""
    assert status(get(f"If-None-Match: {asked}"), f"ETag: {held}") == 304


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ('"b"', '"a"'),
        ('"A"', '"a"'),
        ("a", '"a"'),
        ('"a"', "a"),
        ('w/"a"', '"a"'),
        ('"b, a"', '"a"'),
        ("", '"a"'),
        ("", ""),
        ('"*"', '"a"'),
    ],
)
def test_any_other_tag_gets_the_response(asked: str, held: str) -> None:
    """Case and quotes belong to the tag."""
    assert status(get(f"If-None-Match: {asked}"), f"ETag: {held}") == 200


def test_the_list_may_be_on_several_lines() -> None:
    """All are one list."""
    assert status(get('If-None-Match: "b"', 'if-none-match: "a"'), 'ETag: "a"') == 304


def test_a_star_matches_a_response_without_a_tag_and_a_tag_does_not() -> None:
    """A current representation is there; its tag is not known."""
    assert status(get("If-None-Match: *")) == 304
    assert status(get('If-None-Match: "a"')) == 200


# --- If-Modified-Since ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "expected"), [(-1001, 200), (-1000, 304), (-999, 304), (9999, 304)]
)
def test_a_response_changed_no_later_is_not_modified(offset: float, expected: int) -> None:
    """At the date itself it is not modified."""
    request = get(f"If-Modified-Since: {date(offset)}")
    assert status(request, f"Last-Modified: {date(-1000)}") == expected


def test_any_format_of_the_date_will_do() -> None:
    """The RFC 850 format names the same instant."""
    request = get("If-Modified-Since: Friday, 15-Jan-27 08:00:00 GMT")
    assert status(request, f"Last-Modified: {date()}") == 304
    assert status(request, f"Last-Modified: {date(1)}") == 200


@pytest.mark.parametrize(("offset", "expected"), [(-31, 200), (-30, 304), (0, 304)])
def test_without_last_modified_the_date_of_the_response_counts(
    offset: float, expected: int
) -> None:
    """It cannot have changed after it was sent."""
    request = get(f"If-Modified-Since: {date(offset)}")
    assert status(request, f"Date: {date(-30)}") == expected


@pytest.mark.parametrize(
    ("sent", "since", "expected"), [(-1, -1, True), (0, 0, False), (0, 1, True), (0, -1, False)]
)
def test_a_date_of_the_second_of_arrival_tells_no_two_responses_apart(
    sent: float, since: float, expected: bool
) -> None:
    """An earlier response of that second has the same Date, and may be what the client has."""
    request = get(f"If-Modified-Since: {date(since)}")
    held = lines(f"Date: {date(sent)}")
    assert is_not_modified(request, held, response_time=NOW + 0.9) is expected


@pytest.mark.parametrize(("offset", "expected"), [(-1, 200), (0, 200), (1, 304)])
def test_without_any_date_the_time_of_arrival_counts(offset: float, expected: int) -> None:
    """The last resort."""
    request = get(f"If-Modified-Since: {date(offset)}")
    assert is_not_modified(request, lines("X: 1"), response_time=NOW) == (expected == 304)


@pytest.mark.parametrize(
    "fields",
    [
        ["If-Modified-Since: garbage"],
        ["If-Modified-Since: "],
        [f"If-Modified-Since: {date()}", f"If-Modified-Since: {date()}"],
    ],
)
def test_what_is_not_one_date_is_ignored(fields: list[str]) -> None:
    """MUST ignore."""
    assert status(get(*fields), f"Last-Modified: {date(-1000)}") == 200


# --- Precedence -----------------------------------------------------------------------------


def test_if_none_match_goes_before_if_modified_since() -> None:
    """The date is not looked at, whatever it says."""
    held = ['ETag: "a"', f"Last-Modified: {date(-1000)}"]
    late, early = f"If-Modified-Since: {date()}", f"If-Modified-Since: {date(-5000)}"
    assert status(get('If-None-Match: "b"', late), *held) == 200
    assert status(get('If-None-Match: "a"', early), *held) == 304


def test_a_304_goes_before_a_range() -> None:
    """RFC 9110 section 13.2.2, step 5 after step 3."""
    assert status(get('If-None-Match: "a"', "Range: bytes=0-1"), 'ETag: "a"') == 304


def test_a_head_can_be_answered_by_304_too() -> None:
    """Both methods are conditional."""
    assert status(head('If-None-Match: "a"'), 'ETag: "a"') == 304


@pytest.mark.parametrize("held", [203, 204, 301, 404])
def test_only_a_200_becomes_a_304(held: int) -> None:
    """Other statuses are sent as they are."""
    kept = stored(FRESH, 'ETag: "a"', status=held)
    decision = decide(get('If-None-Match: "a"'), kept, now=NOW, policy=Policy())
    assert isinstance(decision, Serve)
    assert decision.status == held


# --- RFC 9110 section 15.4.5: 304 -----------------------------------------------------------


def not_modified(*fields: str) -> Serve:
    decision = decide(get("If-None-Match: *"), stored(FRESH, *fields), now=NOW + 5, policy=Policy())
    assert isinstance(decision, Serve)
    assert (decision.status, decision.body) == (304, b"")
    return decision


@pytest.mark.parametrize(
    "field",
    [
        "Cache-Control: public",
        "Content-Location: /x",
        f"Date: {date(-1)}",
        'ETag: "a"',
        f"Expires: {date(9)}",
        "Vary: Accept",
        f"Last-Modified: {date(-9)}",
        "Access-Control-Allow-Origin: *",
        "X-Custom: 1",
        "Link: </a>",
    ],
)
def test_a_304_has_what_guides_caches_and_what_describes_no_content(field: str) -> None:
    """MUST, and whatever is not representation metadata."""
    name, _, value = field.partition(": ")
    assert value in values(not_modified(field), name.lower())


@pytest.mark.parametrize(
    "field",
    [
        "Content-Length: 10",
        "Content-Type: text/plain",
        "Content-Encoding: gzip",
        "Content-Language: en",
        "Content-Range: bytes 0-1/2",
        "Content-MD5: x",
        "Content-Digest: x",
        "Repr-Digest: x",
    ],
)
def test_a_304_has_no_representation_metadata(field: str) -> None:
    """SHOULD NOT; some servers end the connection after a 304 with Content-Length."""
    assert values(not_modified(field), field.partition(":")[0].lower()) == []


def test_a_304_has_last_modified_only_without_an_etag() -> None:
    """It guides cache updates then."""
    assert values(not_modified('ETag: "a"', f"Last-Modified: {date(-9)}"), "last-modified") == []


def test_a_304_from_the_store_has_an_age() -> None:
    """Like everything that was not validated."""
    assert values(not_modified(), "age") == ["5"]
    assert not_modified().ttl == 55


# --- RFC 9110 section 8.8.3.2: comparison ---------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'"1"', True, True),
    ],
)
def test_the_comparison_table(one: bytes, other: bytes, strong: bool, weak: bool) -> None:
    """The four examples of the RFC, in both directions."""
    for pair in ((one, other), (other, one)):
        assert (matches_strongly(*pair), matches_weakly(*pair)) == (strong, weak)


NAMES = st.sampled_from(
    [b"if-none-match", b"if-modified-since", b"etag", b"last-modified", b"date"]
)
LINES = st.lists(st.tuples(NAMES, st.binary(max_size=40))).map(Headers.copied)


@given(LINES, LINES)
def test_no_bytes_make_it_raise(asked: Headers, held: Headers) -> None:
    """Whatever the bytes, the answer is yes or no."""
    request = Request(method="GET", headers=asked)
    assert is_not_modified(request, held, response_time=NOW) in (True, False)
