"""Cache Groups (RFC 9875): the lists of strings in Cache-Groups and Cache-Group-Invalidation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.structured import parse_strings


@pytest.mark.parametrize(
    ("lines", "strings"),
    [
        ((), ()),
        ((b'"a"',), ("a",)),
        ((b'"a", "b"', b'"c"'), ("a", "b", "c")),
        ((b'  "a" , "b" ',), ("a", "b")),
        ((b'"a";x=1, "b";y',), ("a", "b")),
        ((rb'"with \"quotes\" and, comma"',), ('with "quotes" and, comma',)),
        ((b'"A", "a"',), ("A", "a")),
    ],
)
def test_the_strings_of_a_list_are_read_in_order(
    lines: tuple[bytes, ...], strings: tuple[str, ...]
) -> None:
    """Over several lines, with parameters, in their own case."""
    assert parse_strings(lines) == strings


def test_members_of_other_types_are_left_out() -> None:
    """Tokens, numbers and inner lists name no group."""
    assert parse_strings((b'"a", token, 5, ("b"), "c"',)) == ("a", "c")


@pytest.mark.parametrize("line", [b'"a', b'"a",', b'"a" "b"', b'"a", \xff', b"'a'", b',"a"'])
def test_what_does_not_parse_names_no_group_at_all(line: bytes) -> None:
    """RFC 9651 section 4.2: the entire field value is ignored."""
    assert parse_strings((line,)) == ()


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_never_raises_whatever_the_bytes(lines: list[bytes]) -> None:
    """Garbage is no group, and no error."""
    assert all(isinstance(name, str) for name in parse_strings(tuple(lines)))
