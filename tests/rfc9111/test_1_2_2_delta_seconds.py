"""RFC 9111 section 1.2.2: delta-seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.directives import VERY_LONG, delta_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"0", 0), (b"1", 1), (b"3600", 3600), (b"003600", 3600), (b"0" * 5000 + b"7", 7)],
)
def test_digits_are_seconds(text: bytes, seconds: int) -> None:
    """A number of seconds is digits only, leading zeros included."""
    assert delta_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [b"", b"-1", b"+1", b"1.0", b"1a", b"a1", b" 1", b"1 ", b"'1'", b"0x1", b"1e3", "٣".encode()],
)
def test_all_else_is_not_a_number_of_seconds(text: bytes) -> None:
    """Signs, fractions, letters, quotes and spaces make a value invalid."""
    assert delta_seconds(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"2147483647", 2**31 - 1),
        (b"2147483648", 2**31),
        (b"2147483649", 2**31),
        (b"99999999999", 2**31),
        (b"9" * 100_000, 2**31),
    ],
)
def test_a_number_that_is_too_large_becomes_the_largest(text: bytes, seconds: int) -> None:
    """Overflow means a very long time, never an error."""
    assert delta_seconds(text) == seconds


@given(st.integers(min_value=0))
def test_every_number_is_kept_up_to_the_limit(number: int) -> None:
    """What is written is what is read, up to 2^31."""
    assert delta_seconds(b"%d" % number) == min(number, VERY_LONG)


@given(st.binary())
def test_no_bytes_make_it_raise(text: bytes) -> None:
    """Whatever the bytes, the answer is a number in range or None."""
    seconds = delta_seconds(text)
    assert seconds is None or 0 <= seconds <= VERY_LONG
