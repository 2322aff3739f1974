"""RFC 9651: dictionaries of structured fields."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.structured import InnerList, Item, Opaque, Token, parse_dictionary
from tests.support.timing import in_time


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {}),
        ("  ", {}),
        ("a", {"a": True}),
        ("a, b", {"a": True, "b": True}),
        ("a ,\tb", {"a": True, "b": True}),
        ("a=?1, b=?0", {"a": True, "b": False}),
        ("a=1", {"a": 1}),
        ("a=-1", {"a": -1}),
        ("a=007", {"a": 7}),
        ("a=999999999999999", {"a": 999999999999999}),
        ("a=1.5", {"a": 1.5}),
        ("a=-0.125", {"a": -0.125}),
        ("a=b", {"a": Token("b")}),
        ("a=*/:x", {"a": Token("*/:x")}),
        ('a="b, c"', {"a": "b, c"}),
        ('a="b \\"c\\" \\\\"', {"a": 'b "c" \\'}),
        ("a=:YWJj:", {"a": Opaque()}),
        ("a=@1800000000", {"a": Opaque()}),
        ('a=%"f%c3%bc"', {"a": Opaque()}),
        ("a=(b c)", {"a": InnerList((Token("b"), Token("c")))}),
        ("a=()", {"a": InnerList()}),
        ('a=( 1  "b";c=1 );d, e', {"a": InnerList((1, "b")), "e": True}),
        ("a;b;c=1;  d=?0", {"a": True}),
        ("a=1;b=2, c", {"a": 1, "c": True}),
        ("a=1, b, a=2", {"a": 2, "b": True}),
        ("*a-b_c.d*1=1", {"*a-b_c.d*1": 1}),
    ],
)
def test_valid_dictionaries(text: str, members: dict[str, Item]) -> None:
    """Every type, with parameters, the last of several values."""
    found = parse_dictionary((text.encode(),))
    assert found == members
    assert found is not None
    assert [type(item) for item in found.values()] == [type(item) for item in members.values()]


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "MaX-aGe=1",
        "1a",
        "a =1",
        "a= 1",
        "a=",
        "a,",
        "a,,b",
        ",a",
        "a b",
        "a;",
        "a;B",
        "a;b=",
        "a=1000000000000000",
        "a=1.",
        "a=1.2345",
        "a=1.2.3",
        "a=1234567890123.0",
        "a=--1",
        "a=-",
        'a="b',
        'a="b\\c"',
        'a="\x7f"',
        "a='b'",
        "a=?2",
        "a=?",
        "a=:YW!:",
        "a=:YWJj",
        "a=@1.5",
        "a=@x",
        'a=%"%C3"',
        'a=%"x',
        "a=(b",
        "a=(b,c)",
        "a=(b(c))",
        'a=("b""c")',
        "a=(b )c",
        "max-age=10000, &&&&&",
        "a\n",
        "\ta",
        "a=\u00fc",
    ],
)
def test_whatever_does_not_parse_is_ignored_as_a_whole(text: str) -> None:
    """One bad member spoils the field."""
    assert parse_dictionary((text.encode("utf-8"),)) is None


def test_lines_are_one_dictionary() -> None:
    """Combined by a comma; a line that is cut cannot be."""
    assert parse_dictionary((b"a=1", b"b", b"a=2")) == {"a": 2, "b": True}
    assert parse_dictionary((b"a=(b", b"c)")) is None
    assert parse_dictionary((b"a", b"")) is None


@given(st.lists(st.binary() | st.text('ab=;,()"?:@%1.- \\\t').map(str.encode), max_size=3))
def test_no_bytes_make_it_raise(lines: list[bytes]) -> None:
    """Whatever the bytes, the answer is a dictionary or None."""
    found = parse_dictionary(tuple(lines))
    assert found is None or all(isinstance(key, str) for key in found)


@pytest.mark.parametrize(
    "unit", ['a="b",', "a=(b ", "a;b", '"', '\\"', "a=1,a,", "(", "a" * 9 + "=?1, "]
)
def test_the_time_to_parse_grows_with_the_length_only(unit: str) -> None:
    """64 kB of the worst take no longer than a blink."""
    began = time.process_time()
    parse_dictionary(((f'x="{unit}' * (65_536 // len(unit))).encode(),))
    parse_dictionary(((unit * (65_536 // len(unit))).encode(),))
    in_time(time.process_time() - began, 2)
