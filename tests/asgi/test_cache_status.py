"""The Cache-Status header (RFC 9211)."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.asgi.cache_status import CacheStatus, hit_value
from maxage.rfc9111.decisions import ForwardReason
from maxage.rfc9111.structured import parse_dictionary


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (CacheStatus(), b"maxage"),
        (CacheStatus(hit=True, ttl=30), b"maxage; hit; ttl=30"),
        (CacheStatus(hit=True, ttl=0), b"maxage; hit; ttl=0"),
        (CacheStatus(hit=True, ttl=-5), b"maxage; hit; ttl=-5"),
        (CacheStatus(fwd="uri-miss"), b"maxage; fwd=uri-miss"),
        (CacheStatus(fwd="uri-miss", stored=True), b"maxage; fwd=uri-miss; stored"),
        (
            CacheStatus(fwd="stale", fwd_status=304, ttl=60, stored=True),
            b"maxage; fwd=stale; fwd-status=304; ttl=60; stored",
        ),
        (CacheStatus(fwd="miss", collapsed=True), b"maxage; fwd=miss; collapsed"),
        (
            CacheStatus(fwd="bypass", detail="credentials"),
            b"maxage; fwd=bypass; detail=credentials",
        ),
        (CacheStatus(hit=True, key="a:b"), b'maxage; hit; key="a:b"'),
    ],
)
def test_how_a_request_was_handled_has_one_spelling(status: CacheStatus, value: bytes) -> None:
    """The name of the cache, then what RFC 9211 section 2 defines, in one order."""
    assert status.header_value() == value


@pytest.mark.parametrize("ttl", [0, 1, 300, -1, 2**31])
def test_the_fast_spelling_of_a_hit_is_the_ordinary_one(ttl: int) -> None:
    """Two ways, the same bytes."""
    assert hit_value(ttl) == CacheStatus(hit=True, ttl=ttl).header_value()


@pytest.mark.parametrize("reason", typing.get_args(ForwardReason))
def test_every_reason_is_a_word_of_the_rfc(reason: ForwardReason) -> None:
    """RFC 9211 section 2.2."""
    assert CacheStatus(fwd=reason).header_value() == b"maxage; fwd=" + reason.encode()


@given(st.text())
def test_a_key_of_any_characters_is_a_string_of_the_rfc(key: str) -> None:
    """Quotes, backslashes, line ends and what is not ASCII can end neither string nor header."""
    value = CacheStatus(hit=True, key=key).header_value()
    inner = value.removeprefix(b'maxage; hit; key="').removesuffix(b'"')
    assert len(inner) == len(key)
    assert all(0x20 <= byte <= 0x7E and byte not in b'"\\' for byte in inner)


@given(st.text(st.sampled_from('a";\\\r\n, é'), max_size=8), st.integers(-(10**9), 10**9))
def test_the_value_is_a_structured_field(key: str, ttl: int) -> None:
    """It parses as RFC 9651 says (section 3.1.2, one item with parameters)."""
    value = CacheStatus(hit=True, ttl=ttl, key=key).header_value()
    assert parse_dictionary((value,)) is not None
