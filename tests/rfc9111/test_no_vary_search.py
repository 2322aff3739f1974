"""No-Vary-Search: how the field is read, and which queries are equivalent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.message import Headers
from maxage.rfc9111.no_vary_search import SearchVariance, search_variance, simplified
from tests.rfc9111.build import lines


def variance(value: str) -> SearchVariance | None:
    """What a field with this value says."""
    return search_variance(lines(f"No-Vary-Search: {value}"))


def same(value: str, one: str, other: str) -> bool:
    """Whether two queries are equivalent under this field."""
    said = variance(value)
    assert said is not None
    return simplified(one.encode(), said) == simplified(other.encode(), said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("params", SearchVariance(ignored=None)),
        ("params=?1", SearchVariance(ignored=None)),
        ('params=("a" "b")', SearchVariance(ignored=frozenset({b"a", b"b"}))),
        ('params=("a b" "%C3%A9+x")', SearchVariance(ignored=frozenset({b"a b", b"\xc3\xa9 x"}))),
        ('params, except=("x")', SearchVariance(ignored=None, kept=frozenset({b"x"}))),
        ("params, except=()", SearchVariance(ignored=None)),
        ("key-order", SearchVariance(ordered=False)),
        ("key-order, params", SearchVariance(ignored=None, ordered=False)),
        ('key-order, params=("a")', SearchVariance(ignored=frozenset({b"a"}), ordered=False)),
        ('key-order, unknown="x"', SearchVariance(ordered=False)),
        ('params=("a";q=1);r=2', SearchVariance(ignored=frozenset({b"a"}))),
    ],
)
def test_what_the_field_says(value: str, said: SearchVariance) -> None:
    """params, except and key-order; names are decoded like those of a query."""
    assert variance(value) == said


@pytest.mark.parametrize(
    "value",
    [
        "",
        "unknown-key",
        'key-order="not a boolean"',
        'params="not a boolean or inner list"',
        "params=(not-a-string)",
        'params=("a" 1)',
        'params=("a"), except=("x")',
        "params=(), except=()",
        'params=?0, except=("x")',
        "params, except=(not-a-string)",
        'params, except="not an inner list"',
        "params, except=?1",
        'except=("x")',
        "except=()",
        "params=?0",
        "params=()",
        "key-order=?0",
        'params=("a"',
        "params=(a,",
        "Params",
        "params,,key-order",
    ],
)
def test_what_is_not_understood_says_nothing(value: str) -> None:
    """Then every difference counts, as without the field."""
    assert variance(value) is None


def test_without_the_field_nothing_is_said() -> None:
    """And two lines are one dictionary."""
    assert search_variance(Headers()) is None
    two = search_variance(lines("No-Vary-Search: params", "No-Vary-Search: key-order"))
    assert two == SearchVariance(ignored=None, ordered=False)


@pytest.mark.parametrize(
    ("value", "one", "other"),
    [
        ("params", "", "a=1&b=2"),
        ('params=("utm")', "q=1&utm=x", "q=1"),
        ('params=("utm")', "utm=x&q=1&utm=y", "q=1"),
        ('params, except=("q")', "q=1&x=2", "y=3&q=1"),
        ("key-order", "a=1&b=2&a=3", "b=2&a=1&a=3"),
        ("key-order", "a=x", "%61=%78"),
        ("key-order", "a=%20", "a=+"),
        ("key-order", "a=", "a"),
        ("key-order", "a=x&&&&", "a=x"),
        ("key-order", "a=%25", "a=%"),
        ('params=("%C3%A9")', "%C3%A9=1&q=2", "q=2"),
        ('params=("a b")', "a+b=1&q=2", "a%20b=3&q=2"),
    ],
)
def test_queries_that_are_equivalent(value: str, one: str, other: str) -> None:
    """The examples of the draft among them."""
    assert same(value, one, other)


@pytest.mark.parametrize(
    ("value", "one", "other"),
    [
        ('params=("utm")', "q=1", "q=2"),
        ('params=("utm")', "q=1", "q=1&q=1"),
        ('params=("utm")', "a=1&b=2", "b=2&a=1"),
        ('params=("utm")', "UTM=1", ""),
        ('params, except=("q")', "q=1", ""),
        ("key-order", "a=1&a=2", "a=2&a=1"),
        ("key-order", "a=1&b=2", "a=1%26b=2"),
        ("key-order", "a=b%3Dc", "a%3Db=c"),
        ("key-order", "a=%f6", "a=%ef%bf%bd"),
    ],
)
def test_queries_that_are_not(value: str, one: str, other: str) -> None:
    """Also what decoding would confuse, and bytes that are no UTF-8."""
    assert not same(value, one, other)


PAIRS = st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3)), max_size=4)


def written(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A query of these pairs, everything escaped."""
    return b"&".join(
        b"".join(b"%%%02X" % byte for byte in name)
        + b"="
        + b"".join(b"%%%02X" % byte for byte in value)
        for name, value in pairs
    )


@given(PAIRS, PAIRS)
def test_different_pairs_never_become_the_same_query(
    one: list[tuple[bytes, bytes]], other: list[tuple[bytes, bytes]]
) -> None:
    """What is left of a query is injective in what counts."""
    said = SearchVariance(ignored=frozenset({b"\xff"}))
    left = [[p for p in pairs if p[0] != b"\xff"] for pairs in (one, other)]
    results = [simplified(written(pairs), said) for pairs in (one, other)]
    assert (results[0] == results[1]) == (left[0] == left[1])
    assert simplified(results[0], said) == results[0]


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_neither_reading_nor_simplifying_ever_raises(value: bytes, query: bytes) -> None:
    """Whatever the bytes."""
    said = search_variance(Headers.copied([(b"no-vary-search", value)]))
    if said is not None:
        simplified(query, said)


def test_every_variance_has_a_name_of_its_own() -> None:
    """Ignored and kept names, order, and names that contain what separates them."""
    values = ["params", "key-order", "key-order, params", 'params=("a")', 'params, except=("a")',
              'params=("a" "b")', 'params=("a%26b")', 'key-order, params=("a")']  # fmt: skip
    names = {said.name for said in map(variance, values) if said is not None}
    assert len(names) == len(values)
