"""RFC 9111 section 4.1: calculating cache keys with the Vary header field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.message import Headers
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.vary import selecting_values, vary_names
from tests.rfc9111.build import lines

ANY_ORDER = Policy(language_order=True)


def key(name: str, *values: str, policy: Policy | None = None) -> bytes | None:
    """The selecting value of one field that came in these lines."""
    headers = lines(*(f"{name}: {value}" for value in values))
    return selecting_values((name.lower().encode(),), headers, policy or Policy())[0]


def test_a_response_without_vary_has_no_selecting_fields() -> None:
    """Nothing selects."""
    assert vary_names(lines("X: 1")) == ()
    assert selecting_values((), lines("X: 1"), Policy()) == ()


@pytest.mark.parametrize(
    "texts",
    [["Foo, Bar"], ["bar,foo"], ["Foo", "Bar"], [" FOO ,, Bar , foo", ""]],
)
def test_names_are_found_in_any_case_order_and_number_of_lines(texts: list[str]) -> None:
    """Sorted, lower case, without duplicates."""
    assert vary_names(lines(*(f"Vary: {text}" for text in texts))) == (b"bar", b"foo")


@pytest.mark.parametrize(
    ("allowed", "names"), [("*", ()), ("https://a.example", (b"origin",)), ("null", (b"origin",))]
)
def test_a_response_that_allows_one_origin_varies_by_it(
    allowed: str, names: tuple[bytes, ...]
) -> None:
    """Said or not: else the first client's origin would stand in every answer."""
    assert vary_names(lines(f"Access-Control-Allow-Origin: {allowed}")) == names


def test_an_absent_field_matches_only_an_absent_field() -> None:
    """An empty value is a value."""
    assert key("Foo") is None
    assert key("Foo", "") == b""


def test_values_align_with_names() -> None:
    """One value for each name, in the order of the names."""
    headers = lines("B: 2", "A: 1")
    assert selecting_values((b"a", b"b", b"c"), headers, Policy()) == (b"1", b"2", None)


@pytest.mark.parametrize("texts", [["1,2"], ["1, 2"], [" 1 ,\t2 "], ["1", "2"], ["1 ", " 2"]])
def test_lines_are_combined_and_spaces_at_commas_folded(texts: list[str]) -> None:
    """Both are allowed for every field."""
    assert key("Foo", *texts) == key("Foo", "1,2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,2", "2,1"),
        ("a", "A"),
        ("1 2", "1  2"),
        ("1,,2", "1,2"),
        ('"a, b"', '"a,b"'),
        ("1;2", "1; 2"),
    ],
)
def test_unknown_fields_are_normalised_no_further(one: str, other: str) -> None:
    """Order, case, inner spaces and quoted strings may mean something."""
    assert key("Foo", one) != key("Foo", other)


def test_lines_of_cookie_are_not_combined_by_a_comma() -> None:
    """A comma may be part of a cookie's value."""
    assert key("Cookie", "a=1", "b=2") == key("Cookie", "a=1; b=2")
    assert key("Cookie", "a=1", "b=2") != key("Cookie", "a=1,b=2")


# --- Accept-Encoding ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        ["gzip, deflate, br"],
        ["br,gzip,deflate"],
        ["GZIP", "Deflate", "br"],
        ["gzip;q=1.0, deflate;q=1, br;Q=1.000"],
        ["gzip ; q=0.5, deflate;q=0.5,br;q=0.50"],
    ],
)
def test_codings_of_one_weight_match_in_any_order_and_case(texts: list[str]) -> None:
    """Few values for many spellings."""
    assert key("Accept-Encoding", *texts) == key("Accept-Encoding", "gzip, deflate, br")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gzip", "br"),
        ("gzip", "gzip, br"),
        ("gzip", ""),
        ("gzip", "gzip;q=0"),
        ("", "gzip;q=0"),
        ("gzip, identity;q=0", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("gzip, br;q=0.5", "gzip;q=0.5, br"),
        ("gzip, br;q=0.5", "gzip, br"),
        ("gzip", "x-gzip"),
        ("gzip", "gzip, unknown"),
    ],
)
def test_codings_that_an_application_may_tell_apart_do_not_match(one: str, other: str) -> None:
    """Sets, refusals and preferences all count."""
    assert key("Accept-Encoding", one) != key("Accept-Encoding", other)


@pytest.mark.parametrize(
    "text",
    [
        "gzip;q=2",
        "gzip;q=x",
        "gzip;q=0.1234",
        "gzip;q=1.5",
        "gzip;x=1",
        "gzip;q",
        "g zip",
        "gzip, gzip",
    ],
)
def test_a_malformed_field_matches_only_itself(text: str) -> None:
    """It is unknown what an application makes of it."""
    assert key("Accept-Encoding", text) == b"?" + text.replace(", ", ",").encode()


def test_no_well_formed_field_matches_a_malformed_one() -> None:
    """The mark of a malformed value is in no well-formed value."""
    assert key("Accept-Encoding", "gzip,gzip") != key("Accept-Encoding", "gzip")
    assert not (key("Accept-Encoding", "gzip") or b"?").startswith(b"?")


# --- Accept-Language ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["en,de", "eN, De", " en ,   de", "en;q=0.9, de", "en; q=0.9 ,de"])
def test_languages_match_in_any_case_and_spacing(text: str) -> None:
    """Case and spaces have no meaning, weights have."""
    plain = "en;q=0.9,de" if "q=" in text else "en, de"
    assert key("Accept-Language", text) == key("Accept-Language", plain)


def test_the_order_of_languages_counts_by_default() -> None:
    """Some applications take it for the preference."""
    assert key("Accept-Language", "en, de") != key("Accept-Language", "de, en")
    assert key("Accept-Language", "en;q=0.5, de") != key("Accept-Language", "de, en;q=0.5")


def test_the_order_of_languages_can_be_switched_off() -> None:
    """Then the weights alone decide."""

    def free(text: str) -> bytes | None:
        return key("Accept-Language", text, policy=ANY_ORDER)

    assert free("en, de") == free("DE , en")
    assert free("en;q=0.5, de") == free("de, en;q=0.4")
    assert free("en;q=0.5, de") != free("en, de")
    assert free("en;q=0.5, de") != free("en, de;q=0.5")
    assert free("en") != free("en, de")


# --- Whatever the bytes ---------------------------------------------------------------------

HEADER = st.lists(
    st.tuples(
        st.sampled_from([b"Accept-Encoding", b"accept-language", b"Cookie", b"foo", b"Vary"]),
        st.binary() | st.text('gziprab,;q=01.*" \\', max_size=20).map(str.encode),
    )
).map(Headers.copied)
NAMES = (b"accept-encoding", b"accept-language", b"cookie", b"foo")


@given(HEADER)
def test_no_bytes_make_the_parsers_raise(headers: Headers) -> None:
    """There is a value exactly for each field that is there."""
    names = vary_names(headers)
    assert names is None or list(names) == sorted(set(names))
    for policy in (Policy(), ANY_ORDER):
        found = selecting_values(NAMES, headers, policy)
        assert [value is not None for value in found] == [name in headers for name in NAMES]


@given(st.permutations(["gzip", "br", "zstd", "deflate", "identity"]))
def test_every_order_of_codings_is_one_value(codings: list[str]) -> None:
    """Accept-Encoding has few values."""
    assert key("Accept-Encoding", ", ".join(codings)) == b"br,deflate,gzip,identity,zstd"
