"""A copy of a body stays within the limits, and knows whether it is whole."""

import pytest

from maxage import CacheSettings, MemoryStore
from maxage.asgi.body_copy import BodyCopy, content_length
from maxage.cache.cache import Cache
from maxage.rfc9111.message import Headers
from tests.support.caching import piece


def cache_of(longest: int = 100, together: int = 100) -> Cache:
    """A cache with these limits on one body and on all of them."""
    settings = CacheSettings(cache_max_body_bytes=longest, cache_pending_bytes=together)
    return Cache(settings, MemoryStore())


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], None), ([b"0"], 0), ([b"12"], 12), ([b"012"], 12), ([b"9" * 18], 10**18 - 1),
        ([b"9" * 19], None), ([b"+1"], None), ([b"-1"], None), ([b"1_0"], None), ([b" 1"], None),
        ([b""], None), ([b"1,1"], None), ([b"1", b"1"], None), ([b"\xb2"], None),
    ],
    ids=str,
)  # fmt: skip
def test_content_length_is_one_line_of_digits(lines: list[bytes], length: int | None) -> None:
    """RFC 9110 section 8.6: `Content-Length = 1*DIGIT`."""
    assert content_length(Headers.copied((b"Content-Length", line) for line in lines)) == length


def test_a_copy_is_whole_with_its_last_piece() -> None:
    """Without a declared length."""
    copy = BodyCopy(cache_of())
    assert copy.add(piece(b"ab", more=True))
    assert not copy.is_whole
    assert copy.add(piece(b"c"))
    assert copy.is_whole
    assert copy.body() == b"abc"


@pytest.mark.parametrize(("declared", "whole"), [(2, False), (3, True), (4, False)])
def test_a_copy_of_another_length_than_the_declared_one_is_not_whole(
    declared: int, whole: bool
) -> None:
    """It may have been cut short by the application, or mean another body."""
    copy = BodyCopy(cache_of(), declared)
    assert copy.add(piece(b"abc"))
    assert copy.is_whole is whole


@pytest.mark.parametrize(("longest", "together"), [(5, 100), (100, 5)])
def test_a_copy_over_a_limit_is_dropped(longest: int, together: int) -> None:
    """Its bytes are free for others at once."""
    cache = cache_of(longest, together)
    copy = BodyCopy(cache)
    assert copy.add(piece(b"12345", more=True))
    assert not copy.add(piece(b"6"))
    assert not copy.is_whole
    assert copy.body() == b""
    assert BodyCopy(cache).add(piece(b"12345"))


def test_dropped_bytes_are_freed_once() -> None:
    """The limit on all bodies stays right when a copy is dropped twice."""
    cache = cache_of(together=5)
    copies = BodyCopy(cache), BodyCopy(cache)
    assert copies[0].add(piece(b"12"))
    assert copies[1].add(piece(b"345"))
    copies[0].drop()
    copies[0].drop()
    assert BodyCopy(cache).add(piece(b"67"))
    assert not BodyCopy(cache).add(piece(b"8"))
