"""RFC 9110 section 14: range requests answered from a stored whole response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.ranges import MAX_PARTS, parse_range, partial_response
from tests.rfc9111.build import BODY, NOW, date, get, head, lines, stored, values

FRESH = "Cache-Control: max-age=6000"


def ask(request: Request, *fields: str, body: bytes = BODY, status: int = 200) -> Serve:
    """What a fresh stored response with these fields answers."""
    kept = stored(FRESH, *fields, body=body, status=status)
    decision = decide(request, kept, now=NOW + 5, policy=Policy())
    assert isinstance(decision, Serve)
    return decision


def whole(request: Request, *fields: str, body: bytes = BODY) -> bool:
    served = ask(request, *fields, body=body)
    return (served.status, served.body) == (200, body)


# --- One part -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "content", "content_range"),
    [
        ("0-1", b"01", "bytes 0-1/10"),
        ("0-0", b"0", "bytes 0-0/10"),
        ("9-9", b"9", "bytes 9-9/10"),
        ("1-", b"123456789", "bytes 1-9/10"),
        ("9-", b"9", "bytes 9-9/10"),
        ("0-", BODY, "bytes 0-9/10"),
        ("-1", b"9", "bytes 9-9/10"),
        ("-10", BODY, "bytes 0-9/10"),
        ("-11", BODY, "bytes 0-9/10"),
        ("8-10", b"89", "bytes 8-9/10"),
        ("8-99999999999999999999999999", b"89", "bytes 8-9/10"),
        ("00-01", b"01", "bytes 0-1/10"),
        (" 0-1 ,", b"01", "bytes 0-1/10"),
        ("0-1,10-12", b"01", "bytes 0-1/10"),
    ],
)
def test_a_range_of_the_stored_response_is_sent(
    spec: str, content: bytes, content_range: str
) -> None:
    """First and last position, open end, suffix; cut at the end of the representation."""
    served = ask(get(f"Range: bytes={spec}"), "Content-Length: 10", "Content-Type: text/plain")
    assert (served.status, served.body) == (206, content)
    assert values(served, "content-range") == [content_range]
    assert values(served, "content-length") == [str(len(content))]
    assert values(served, "content-type") == ["text/plain"]


@pytest.mark.parametrize("unit", ["bytes", "Bytes", " bytes "])
def test_the_unit_is_case_insensitive(unit: str) -> None:
    """RFC 9110 section 14.1."""
    assert ask(get(f"Range: {unit}=0-1")).status == 206


def test_a_206_has_the_headers_of_the_200() -> None:
    """Section 15.3.7, and the age of what comes from a cache."""
    fields = ['ETag: "a"', "Vary: Accept", "X: 1", f"Date: {date()}", "Content-Encoding: gzip"]
    served = ask(get("Range: bytes=0-1"), *fields)
    for field in (FRESH, *fields):
        name, _, value = field.partition(": ")
        assert values(served, name.lower()) == [value]
    assert values(served, "age") == ["5"]


def test_a_206_has_nothing_that_describes_the_whole_content() -> None:
    """A digest of the whole would not fit a part; the old Content-Range was meaningless."""
    served = ask(get("Range: bytes=0-1"), "Content-MD5: x", "Content-Digest: x", "Content-Range: x")
    assert values(served, "content-md5") == values(served, "content-digest") == []
    assert values(served, "content-range") == ["bytes 0-1/10"]


# --- Several parts --------------------------------------------------------------------------


def test_several_parts_are_sent_as_multipart_byteranges() -> None:
    """Section 15.3.7.2: each with its own Content-Range, in the order they were asked for."""
    served = ask(get("Range: bytes=8-9, 0-1,4-4"), "Content-Type: text/plain")
    (kind,) = values(served, "content-type")
    boundary = kind.removeprefix("multipart/byteranges; boundary=").encode()
    assert served.status == 206
    assert (
        served.body
        == b"".join(
            b"\r\n--%b\r\nContent-Type: text/plain\r\nContent-Range: bytes %b/10\r\n\r\n%b"
            % (boundary, at, content)
            for at, content in [(b"8-9", b"89"), (b"0-1", b"01"), (b"4-4", b"4")]
        )
        + b"\r\n--%b--\r\n" % boundary
    )
    assert values(served, "content-length") == [str(len(served.body))]
    assert values(served, "content-range") == []


def test_parts_of_a_response_without_a_type_have_none() -> None:
    """Nothing is made up."""
    served = ask(get("Range: bytes=0-1,3-4"))
    assert b"Content-Type" not in served.body


def test_the_boundary_is_not_in_the_body_and_always_the_same() -> None:
    """Two requests get the same bytes."""
    once = ask(get("Range: bytes=0-1,3-4"))
    boundary = values(once, "content-type")[0].partition("boundary=")[2].encode()
    assert boundary not in BODY
    assert ask(get("Range: bytes=0-1,3-4")) == once
    assert ask(get("Range: bytes=0-1,3-4"), body=BODY + boundary) != once


def test_the_number_of_parts_is_limited() -> None:
    """Beyond it the field is ignored."""
    body = bytes(1000)

    def parts(number: int) -> Serve:
        spec = ",".join(f"{at}-{at}" for at in range(number))
        return ask(get(f"Range: bytes={spec}"), body=body)

    assert parts(MAX_PARTS).status == 206
    assert parts(MAX_PARTS + 1).status == 200


@pytest.mark.parametrize(
    ("spec", "status"),
    [("0-5,4-9", 200), ("0-5,6-9", 206), ("0-9,0-9", 200), ("0-,-1", 200), ("0-1,0-1", 206)],
)
def test_parts_that_are_larger_together_than_the_whole_are_ignored(spec: str, status: int) -> None:
    """Overlapping ranges are a known way to make servers work."""
    assert ask(get(f"Range: bytes={spec}")).status == status


# --- Unsatisfiable --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["10-", "10-12", "99999999999999999999-", "-0", "10-,20-30", "-0,10-"]
)
def test_a_range_beyond_the_end_is_a_416(spec: str) -> None:
    """With the current length."""
    served = ask(get(f"Range: bytes={spec}"), "Content-Length: 10")
    assert (served.status, served.body) == (416, b"")
    assert values(served, "content-range") == ["bytes */10"]
    assert values(served, "content-length") == ["0"]


def test_a_416_can_be_neither_stored_nor_taken_for_the_representation() -> None:
    """It keeps what belongs to the exchange."""
    fields = ['ETag: "a"', f"Expires: {date(60)}", "Content-Type: a/b", "X: 1", "Vary: Accept"]
    served = ask(get("Range: bytes=10-"), *fields)
    for name in ("etag", "expires", "cache-control", "content-type"):
        assert values(served, name) == []
    assert (values(served, "x"), values(served, "vary")) == (["1"], ["Accept"])


# --- Ignored --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "items=0-1",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=0-1,x",
        "bytes=0 - 1",
        "bytes=0-1-2",
        "bytes=--1",
        "bytes=+0-1",
        "",
        "0-1",
        "=0-1",
        "bytes:0-1",
    ],
)
def test_a_range_that_is_not_understood_is_ignored(value: str) -> None:
    """The whole is sent."""
    assert whole(get(f"Range: {value}"))


def test_two_range_fields_are_ignored() -> None:
    """It is not a list."""
    assert whole(get("Range: bytes=0-1", "Range: bytes=2-3"))


def test_a_range_of_nothing_is_ignored() -> None:
    """An empty representation has no parts."""
    assert whole(get("Range: bytes=0-1"), body=b"")
    assert whole(get("Range: bytes=-1"), body=b"")


def test_a_head_with_a_range_is_answered_as_a_whole() -> None:
    """GET is the only method for which range handling is defined."""
    served = ask(head("Range: bytes=0-1"), "Content-Length: 10")
    assert served.status == 200
    assert values(served, "content-length") == ["10"]


@pytest.mark.parametrize("status", [203, 404])
def test_only_a_200_has_ranges(status: int) -> None:
    """Other statuses are sent as they are."""
    served = ask(get("Range: bytes=0-1"), status=status)
    assert (served.status, served.body) == (status, BODY)


# --- If-Range (section 13.1.5) --------------------------------------------------------------

MODIFIED = date(-1000)


@pytest.mark.parametrize(
    ("value", "fields", "holds"),
    [
        ('"a"', ['ETag: "a"'], True),
        ('"b"', ['ETag: "a"'], False),
        ('W/"a"', ['ETag: W/"a"'], False),
        ('"a"', ['ETag: W/"a"'], False),
        ('W/"a"', ['ETag: "a"'], False),
        ('"a"', [], False),
        (MODIFIED, [f"Last-Modified: {MODIFIED}"], True),
        (date(-999), [f"Last-Modified: {MODIFIED}"], False),
        (date(-1001), [f"Last-Modified: {MODIFIED}"], False),
        (MODIFIED, [], False),
        ("garbage", ["Last-Modified: garbage"], False),
        ("", ['ETag: "a"'], False),
        (MODIFIED, [f"Last-Modified: {MODIFIED}", f"Date: {date(-999)}"], True),
        (MODIFIED, [f"Last-Modified: {MODIFIED}", f"Date: {MODIFIED}"], False),
    ],
)
def test_if_range_holds_for_exactly_the_same_strong_validator(
    value: str, fields: list[str], holds: bool
) -> None:
    """Else the whole is sent; a date is strong a second after it."""
    served = ask(get("Range: bytes=0-1", f"If-Range: {value}"), *fields)
    assert served.status == (206 if holds else 200)


def test_a_false_if_range_hides_an_unsatisfiable_range() -> None:
    """The range is ignored altogether."""
    assert whole(get("Range: bytes=10-", 'If-Range: "b"'), 'ETag: "a"')


def test_two_if_range_fields_never_hold() -> None:
    """It is not a list."""
    asked = get("Range: bytes=0-1", 'If-Range: "a"', 'If-Range: "a"')
    assert whole(asked, 'ETag: "a"')


def test_if_range_without_range_means_nothing() -> None:
    """MUST NOT be generated, so it is ignored."""
    assert whole(get('If-Range: "a"'), 'ETag: "a"')


# --- Whatever the bytes ---------------------------------------------------------------------


@given(st.binary() | st.text("bytes=-, 0123456789").map(str.encode), st.integers(0, 50))
def test_no_bytes_make_the_parser_raise(value: bytes, length: int) -> None:
    """Every range that is found lies within the representation."""
    for text in (value, b"bytes=" + value):
        for part in parse_range(text, length) or ():
            assert 0 <= part.first <= part.last < length


@given(
    st.binary(min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5),
)
def test_what_is_sent_is_a_part_of_the_body(body: bytes, specs: list[tuple[int, int]]) -> None:
    """One range always holds the bytes it says."""
    value = ",".join(f"{first}-{last}" for first, last in specs)
    part = partial_response(lines(f"Range: bytes={value}"), (), body, now=NOW)
    if part is not None and part.status == 206:
        for text in Headers.copied(part.headers).get_all(b"content-range"):
            first, last = (int(number) for number in text[6:].split(b"/")[0].split(b"-"))
            assert part.body == body[first : last + 1]
        assert Headers.copied(part.headers).first(b"content-length") == b"%d" % len(part.body)
