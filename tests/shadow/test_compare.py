"""In what a stored response differs from the answer of the handler."""

import gzip

import pytest

from maxage.rfc9111.message import Headers
from maxage.shadow.compare import differences

JSON = (b"content-type", b"application/json")


def between(
    before: bytes,
    after: bytes | None,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,),
    others: tuple[tuple[bytes, bytes], ...] | None = None,
    status: int = 200,
) -> tuple[str, ...]:
    fresh = Headers.copied(headers if others is None else others)
    return differences(
        (200, Headers.copied(headers), before), (status, fresh, after), frozenset({b"x-a"})
    )


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', ()),
        (b'{"a": {"b": 1}}', b'{"a": {"b": 2}}', ("body $.a.b",)),
        (b'{"a": 1}', b'{"a": 1.5}', ("body $.a",)),
        (b'{"a": 1}', b'{"a": true}', ("body $.a",)),
        (b'{"a": 1}', b'{"b": 1}', ("body $.a", "body $.b")),
        (b'[{"a": 1}, {"a": 2}]', b'[{"a": 3}, {"a": 4}]', ("body $[*].a",)),
        (b"[1]", b"[1, 2]", ("body $[*]",)),
        (b'{"7": 1}', b'{"7": 2}', ("body $.*",)),
        (b"{", b"[", ("body",)),
        (b"1", None, ("body",)),
    ],
)
def test_json_is_compared_by_path(before: bytes, after: bytes, told: tuple[str, ...]) -> None:
    """Its spelling does not count, and items of a list share one path."""
    assert between(before, after) == told


def test_another_status_is_all_that_is_told() -> None:
    """Headers and body follow from it."""
    assert between(b"1", b"2", status=404) == ("status 200 -> 404",)


def test_text_differs_as_a_whole() -> None:
    """There is no path in it."""
    text = ((b"content-type", b"text/html"),)
    assert between(b"a", b"b", headers=text) == ("body",)
    assert between(b"a", b"a", headers=text) == ()


@pytest.mark.parametrize(
    "name", [b"Date", b"age", b"x-a", b"x-request-id", b"X-Trace-Id", b"x-response-time", b"etag"]
)
def test_headers_of_one_answer_do_not_count(name: bytes) -> None:
    """Times, ids of requests, and those that the settings name."""
    before, after = (JSON, (name, b"1")), (JSON, (name, b"2"))
    assert between(b"1", b"1", headers=before, others=after) == ()


@pytest.mark.parametrize("others", [(JSON, (b"X-Tier", b"b")), (JSON,)], ids=["other", "absent"])
def test_other_headers_count(others: tuple[tuple[bytes, bytes], ...]) -> None:
    """By their lower-case name."""
    before = (JSON, (b"x-tier", b"a"))
    assert between(b"1", b"1", headers=before, others=others) == ("header x-tier",)


def test_compressed_bodies_are_compared_by_what_they_hold() -> None:
    """The header of gzip may hold the time."""
    zipped = (JSON, (b"content-encoding", b"gzip"))
    before, after = gzip.compress(b'{"a": 1}', mtime=1), gzip.compress(b'{"a": 1}', mtime=2)
    assert before != after
    assert between(before, after, headers=zipped) == ()
    other = gzip.compress(b'{"a": 2}')
    assert between(before, other, headers=zipped) == ("body $.a",)
