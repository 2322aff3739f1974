"""RFC 9111 section 5.2: the syntax of Cache-Control."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.directives import Directives, parse_cache_control
from maxage.rfc9111.field_list import is_token, list_members, split_members
from tests.support.timing import in_time


def parse(*lines: str) -> Directives:
    return parse_cache_control(line.encode("latin-1") for line in lines)


@pytest.mark.parametrize(
    ("lines", "arguments"),
    [
        ([], {}),
        ([""], {}),
        ([" , ,, "], {}),
        (["no-store"], {"no-store": (None,)}),
        (["No-STORE ,\tPublic"], {"no-store": (None,), "public": (None,)}),
        (["max-age=60"], {"max-age": (b"60",)}),
        (['max-age="60"'], {"max-age": (b"60",)}),
        (["a=1, A=2", "a"], {"a": (b"1", b"2", None)}),
        (['x="a, b", y'], {"x": (b"a, b",), "y": (None,)}),
        (['x="a \\"b\\" \\\\", y'], {"x": (b'a "b" \\',), "y": (None,)}),
        (['x=""'], {"x": (b"",)}),
        (["x="], {"x": (b"",)}),
        (["x=a=b"], {"x": (b"a=b",)}),
        (['x="a"b'], {"x": (b'"a"b',)}),
        (["x =1"], {"x": (b" 1",)}),
        (["x= 1"], {"x": (b" 1",)}),
        (["=1"], {"": (b"1",)}),
    ],
)
def test_directives_are_read_with_their_arguments(
    lines: list[str], arguments: dict[str, tuple[bytes | None, ...]]
) -> None:
    """In any case, over several lines, quoted or not, empty members aside."""
    found = parse(*lines)
    assert dict(found.arguments) == arguments
    assert found.well_formed


@pytest.mark.parametrize(
    "line", ['x="a, no-store', '"no-store', 'x="a\\", no-store', 'a, x=", no-store, b', 'no-store"']
)
def test_an_unclosed_quote_hides_no_prohibition(line: str) -> None:
    """Every comma counts from there on, and the whole is known to be malformed."""
    found = parse(line)
    assert not found.well_formed
    assert any("no-store" in name for name in found.arguments)


def test_an_unclosed_quote_ends_with_its_line() -> None:
    """It cannot swallow what another line says."""
    found = parse('x="a', "no-store, y=1")
    assert "no-store" in found
    assert found.seconds("y") == 1


@pytest.mark.parametrize(
    ("line", "seconds", "is_number"),
    [
        ("a", None, False),
        ("x=5", 5, True),
        ('x="5"', 5, True),
        ("x", 0, False),
        ("x=", 0, False),
        ("x=-5", 0, False),
        ("x=5, x=7", 5, True),
        ("x=y, x=7", 0, False),
        ("x, x=7", 0, False),
        ("x=0", 0, True),
    ],
)
def test_a_number_of_seconds_is_the_first_one_or_zero(
    line: str, seconds: int | None, is_number: bool
) -> None:
    """Absent, valid, or garbage."""
    found = parse(line)
    assert (found.seconds("x"), found.is_number("x")) == (seconds, is_number)


@pytest.mark.parametrize(
    ("line", "names", "unqualified"),
    [
        ("a", (), False),
        ("x", (), True),
        ("x=Foo", (b"foo",), False),
        ('x="Foo, bar"', (b"foo", b"bar"), False),
        ('x="foo", x="bar, foo"', (b"foo", b"bar"), False),
        ('x="foo", x', (), True),
        ('x=""', (), True),
        ('x="foo,"', (), True),
        ('x="foo bar"', (), True),
        ('x= "foo"', (), True),
    ],
)
def test_field_names_limit_a_directive_if_they_are_field_names(
    line: str, names: tuple[bytes, ...], unqualified: bool
) -> None:
    """Anything else means the whole response."""
    found = parse(line)
    assert (found.field_names("x"), found.unqualified("x")) == (names, unqualified)


def test_directives_cannot_be_changed() -> None:
    """Values are frozen, their arguments too."""
    with pytest.raises(TypeError):
        parse("a").arguments["b"] = ()  # type: ignore[index]


# --- Lists and tokens (RFC 9110 section 5.6) ------------------------------------------------


@pytest.mark.parametrize(
    ("line", "members", "closed"),
    [
        (b"", [b""], True),
        (b"a,b", [b"a", b"b"], True),
        (b" a ,\tb ,", [b"a", b"b", b""], True),
        (b'"a,b",c', [b'"a,b"', b"c"], True),
        (b'x="a\\",b",c', [b'x="a\\",b"', b"c"], True),
        (b'a,"b,c', [b"a", b'"b', b"c"], False),
        (b'"a"b",c', [b'"a"b"', b"c"], False),
        (b'"\\', [b'"\\'], False),
    ],
)
def test_members_are_split_at_commas_outside_of_quotes(
    line: bytes, members: list[bytes], closed: bool
) -> None:
    """Escapes included."""
    assert split_members(line) == (members, closed)


def test_empty_members_of_a_list_are_ignored() -> None:
    """RFC 9110 section 5.6.1.2."""
    assert list_members([b", a,,", b"", b"b"]) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "token"),
    [(b"a-b", True), (b"*", True), (b"", False), (b"a b", False), (b"a\n", False), (b"a,", False)],
)
def test_tokens(text: bytes, token: bool) -> None:
    """RFC 9110 section 5.6.2."""
    assert is_token(text) == token


# --- Whatever the bytes ---------------------------------------------------------------------

NASTY = st.text('ab=," \\\t\x00\xff', max_size=60).map(lambda text: text.encode("latin-1"))


@given(st.lists(st.binary() | NASTY, max_size=4))
def test_no_bytes_make_the_parser_raise(lines: list[bytes]) -> None:
    """And every question has an answer."""
    found = parse_cache_control(lines)
    for name in found.arguments:
        assert (found.seconds(name) or 0) >= 0
        assert found.unqualified(name) == (not found.field_names(name))


@given(st.binary() | NASTY)
def test_a_split_loses_nothing_but_commas_and_spaces(line: bytes) -> None:
    """Every other byte is in one member, in order."""
    members, _ = split_members(line)
    kept = bytes(byte for byte in b"".join(members) if byte not in b", \t")
    assert kept == bytes(byte for byte in line if byte not in b", \t")


@pytest.mark.parametrize("unit", [b'"', b'\\"', b',"', b'"\\', b'="a",'])
def test_the_time_to_parse_grows_with_the_length_only(unit: bytes) -> None:
    """64 kB of the worst take a second, also on a busy machine."""
    began = time.thread_time()
    parse_cache_control([b'x="' + unit * (65_536 // len(unit))])
    in_time(time.thread_time() - began, 3)
