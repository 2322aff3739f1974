"""RFC 9111 section 3.3: parts (206) that are stored, and what they answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward, OnlyIfCached, Serve
from maxage.rfc9111.message import Headers
from maxage.rfc9111.partial import content_span
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.verdicts import MayStore
from tests.rfc9111.build import NOW, get, head, lines, refusal, stored, storing, values

PARTS = Policy(store_partial=True)
FRESH = "Cache-Control: max-age=60"
MIDDLE = "Content-Range: bytes 4-8/10"
RANGED = get("Range: bytes=4-8")


def part(*fields: str, body: bytes = b"45678") -> object:
    """What a stored part of "0123456789" answers; the first field that is a request's is asked."""
    request = get(*(f for f in fields if not f.startswith("Cache-Control")))
    kept = stored(FRESH, MIDDLE, status=206, request=RANGED, policy=PARTS, body=body)
    return decide(request, kept, now=NOW + 5, policy=PARTS)


def test_parts_are_stored_only_where_the_setting_says_so() -> None:
    """By default they pass through."""
    assert refusal(storing(FRESH, MIDDLE, status=206, request=RANGED)) == "partial"
    answer = storing(FRESH, MIDDLE, status=206, request=RANGED, policy=PARTS)
    assert isinstance(answer, MayStore)


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 4-8/*",
        "bytes */10",
        "bytes 8-4/10",
        "bytes 4-10/10",
        "bytes 4-8/8",
        "items 4-8/10",
        "bytes=4-8/10",
        "bytes 4-8",
        "bytes -4-8/10",
        "bytes 4-8/99999999999999999999",
        "",
    ],
)
def test_a_part_whose_place_is_not_known_is_not_stored(content_range: str) -> None:
    """Another unit, an unknown length, an invalid range."""
    fields = (FRESH, f"Content-Range: {content_range}")
    assert refusal(storing(*fields, status=206, request=RANGED, policy=PARTS)) == "partial"


def test_a_part_that_contradicts_its_length_is_not_stored() -> None:
    """Five bytes are promised by one field, six by the other."""
    fields = (FRESH, MIDDLE, "Content-Length: 6")
    assert refusal(storing(*fields, status=206, request=RANGED, policy=PARTS)) == "partial"
    fields = (FRESH, MIDDLE, "Content-Length: 5")
    assert isinstance(storing(*fields, status=206, request=RANGED, policy=PARTS), MayStore)


def test_two_content_ranges_are_none() -> None:
    """Which one holds could not be told."""
    assert content_span(lines(MIDDLE, MIDDLE)) is None


def test_several_parts_in_one_response_are_not_stored() -> None:
    """A multipart answer has no Content-Range of its own."""
    kind = "Content-Type: multipart/byteranges; boundary=x"
    assert refusal(storing(FRESH, kind, status=206, request=RANGED, policy=PARTS)) == "partial"


@pytest.mark.parametrize("fields", [(), ("Range: bytes=4-8", 'If-Range: "a"')])
def test_a_206_that_was_not_plainly_asked_for_is_not_stored(fields: tuple[str, ...]) -> None:
    """Without Range it is an error; with If-Range it lacks most header fields."""
    answer = storing(FRESH, MIDDLE, status=206, request=get(*fields), policy=PARTS)
    assert refusal(answer) == "partial"


def test_a_part_needs_freshness_information() -> None:
    """The configured lifetime is for whole responses."""
    policy = Policy(store_partial=True, default_lifetime=60)
    answer = storing(MIDDLE, status=206, request=RANGED, policy=policy)
    assert refusal(answer) == "no-lifetime"


@pytest.mark.parametrize(
    ("spec", "content", "content_range"),
    [
        ("4-8", b"45678", "bytes 4-8/10"),
        ("4-4", b"4", "bytes 4-4/10"),
        ("8-8", b"8", "bytes 8-8/10"),
        ("5-7", b"567", "bytes 5-7/10"),
    ],
)
def test_a_range_wholly_within_the_part_is_sent_as_206(
    spec: str, content: bytes, content_range: str
) -> None:
    """Cut anew, with its own Content-Range, Content-Length and Age."""
    served = part(f"Range: bytes={spec}")
    assert isinstance(served, Serve)
    assert (served.status, served.body, served.ttl) == (206, content, 55)
    assert values(served, "content-range") == [content_range]
    assert values(served, "content-length") == [str(len(content))]
    assert values(served, "age") == ["5"]


def test_a_smaller_part_has_no_digest_of_the_larger_one() -> None:
    """RFC 9530 section 2: Content-Digest is about the content of one message."""
    digest = "Content-Digest: sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"
    kept = stored(FRESH, MIDDLE, digest, status=206, request=RANGED, policy=PARTS, body=b"45678")
    served = decide(get("Range: bytes=5-7"), kept, now=NOW, policy=PARTS)
    assert isinstance(served, Serve)
    assert values(served, "content-digest") == []


@pytest.mark.parametrize("spec", ["3-8", "4-9", "4-", "-1", "0-0", "9-9", "4-5,7-8", "20-30", "x"])
def test_a_range_that_the_part_does_not_hold_is_forwarded(spec: str) -> None:
    """One byte before it, one after it, several ranges, nonsense: nothing is made up."""
    assert part(f"Range: bytes={spec}") == Forward(reason="partial")


def test_a_part_at_the_end_answers_a_suffix() -> None:
    """The length of the whole is known."""
    tail = "Content-Range: bytes 5-9/10"
    kept = stored(FRESH, tail, status=206, request=RANGED, policy=PARTS, body=b"56789")
    served = decide(get("Range: bytes=-2"), kept, now=NOW, policy=PARTS)
    assert isinstance(served, Serve)
    assert served.body == b"89"


def test_a_part_never_answers_who_asked_for_the_whole() -> None:
    """Neither GET nor HEAD."""
    assert part() == Forward(reason="partial")
    kept = stored(FRESH, MIDDLE, status=206, request=RANGED, policy=PARTS, body=b"45678")
    decision = decide(head("Range: bytes=4-8"), kept, now=NOW, policy=PARTS)
    assert decision == Forward(reason="partial")


@pytest.mark.parametrize(
    "condition", ['If-None-Match: "a"', "If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT"]
)
def test_conditions_are_left_to_the_application(condition: str) -> None:
    """A part evaluates none."""
    assert part("Range: bytes=4-8", condition) == Forward(reason="partial")


def test_if_range_is_evaluated_against_the_part() -> None:
    """The same strong tag holds, another one wants the whole."""
    kept = stored(
        FRESH, MIDDLE, 'ETag: "a"', status=206, request=RANGED, policy=PARTS, body=b"45678"
    )
    same = decide(get("Range: bytes=4-8", 'If-Range: "a"'), kept, now=NOW, policy=PARTS)
    assert isinstance(same, Serve)
    other = decide(get("Range: bytes=4-8", 'If-Range: "b"'), kept, now=NOW, policy=PARTS)
    assert other == Forward(reason="partial")


def test_a_stale_part_answers_nothing_and_is_not_validated() -> None:
    """At the end of its lifetime it is over, also where stale responses replace errors."""
    policy = Policy(store_partial=True, stale_if_error=600)
    kept = stored(
        FRESH, MIDDLE, 'ETag: "a"', status=206, request=RANGED, policy=policy, body=b"45678"
    )
    assert isinstance(decide(RANGED, kept, now=NOW + 59, policy=policy), Serve)
    assert decide(RANGED, kept, now=NOW + 60, policy=policy) == Forward(reason="stale")


def test_what_a_request_directs_holds_for_parts_too() -> None:
    """no-cache and only-if-cached."""
    kept = stored(FRESH, MIDDLE, status=206, request=RANGED, policy=PARTS, body=b"45678")
    asked = get("Range: bytes=4-8", "Cache-Control: no-cache")
    assert decide(asked, kept, now=NOW, policy=PARTS) == Forward(reason="request")
    asked = get("Range: bytes=0-1", "Cache-Control: only-if-cached")
    assert decide(asked, kept, now=NOW, policy=PARTS) == OnlyIfCached()


@given(st.binary(max_size=60))
def test_reading_a_content_range_never_raises(value: bytes) -> None:
    """Whatever the bytes."""
    span = content_span(Headers.copied([(b"content-range", value)]))
    assert span is None or 0 <= span.first <= span.last < span.length
