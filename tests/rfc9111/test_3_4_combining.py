"""RFC 9111 section 3.4: a stored beginning and the rest of it become one whole response."""

import pytest

from maxage.rfc9111.combining import completed_by, completing_fields
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward
from maxage.rfc9111.message import StoredResponse
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import NOW, date, get, head, reply, stored, values

PARTS = Policy(store_partial=True)
TAG = 'ETag: "a"'
RANGED = get("Range: bytes=0-4")
REST = "Content-Range: bytes 5-9/10"


def beginning(*fields: str, span: str = "0-4/10") -> StoredResponse:
    """A stored part."""
    fields = ("Cache-Control: max-age=60", f"Content-Range: bytes {span}", *fields)
    return stored(*fields, status=206, request=RANGED, policy=PARTS, body=b"01234")


def test_who_asks_for_the_whole_makes_us_ask_for_the_rest() -> None:
    """With the strong validator as its condition, so that another version comes whole."""
    fields = ((b"range", b"bytes=5-"), (b"if-range", b'"a"'))
    decision = decide(get(), beginning(TAG), now=NOW, policy=PARTS)
    assert decision == Forward(reason="partial", completing=fields)


def test_a_strong_date_is_a_condition_too() -> None:
    """Last-Modified at least one second before Date."""
    modified = f"Last-Modified: {date(-100)}"
    part = beginning(modified, f"Date: {date()}")
    assert completing_fields(get(), part)[1] == (b"if-range", date(-100).encode())


@pytest.mark.parametrize("weak", ['ETag: W/"a"', f"Last-Modified: {date()}", "X: none"])
def test_without_a_strong_validator_the_rest_is_asked_for_without_condition(weak: str) -> None:
    """If-Range takes strong validators only."""
    assert completing_fields(get(), beginning(weak, f"Date: {date()}")) == (
        (b"range", b"bytes=5-"),
    )


def test_only_a_beginning_is_completed() -> None:
    """Not a part from the middle, and not for a request that is itself partial or conditional."""
    part = beginning(TAG, span="5-9/10")
    assert completing_fields(get(), part) == ()
    for request in (head(), get("Range: bytes=0-9"), get('If-None-Match: "b"')):
        assert completing_fields(request, beginning(TAG)) == ()


def test_the_rest_makes_a_whole_200() -> None:
    """Fields of the new response replace the stored ones; the length is that of the whole."""
    kept = beginning(TAG, "X-One: old", "X-Two: old", "Content-Type: text/plain")
    whole = completed_by(kept, reply(REST, TAG, "X-One: new", "Content-Length: 5", status=206))
    assert whole is not None
    assert whole.status == 200
    assert values(whole.headers, "x-one") == ["new"]
    assert values(whole.headers, "x-two") == ["old"]
    assert values(whole.headers, "content-type") == ["text/plain"]
    assert values(whole.headers, "content-length") == ["10"]
    assert values(whole.headers, "content-range") == []


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (TAG, 'ETag: "b"'),
        (TAG, "X: none"),
        ("X: none", TAG),
        ("X: none", "X: none"),
        ('ETag: W/"a"', 'ETag: W/"a"'),
        (f"Last-Modified: {date()}", f"Last-Modified: {date()}"),
    ],
)
def test_parts_without_a_common_strong_validator_are_never_combined(mine: str, theirs: str) -> None:
    """Another tag, none, a weak one, a date too young."""
    kept = beginning(mine, f"Date: {date()}")
    assert completed_by(kept, reply(REST, theirs, status=206)) is None


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (200, REST),
        (206, "Content-Range: bytes 4-9/10"),
        (206, "Content-Range: bytes 6-9/10"),
        (206, "Content-Range: bytes 5-8/10"),
        (206, "Content-Range: bytes 5-10/11"),
        (206, "X: none"),
        (416, "Content-Range: bytes */5"),
    ],
)
def test_only_the_exact_rest_completes(status: int, content_range: str) -> None:
    """Nothing twice, no gap, not another length."""
    assert completed_by(beginning(TAG), reply(content_range, TAG, status=status)) is None
    assert completed_by(beginning(TAG), reply(REST, TAG, status=206)) is not None
