"""RFC 9111 section 4.1, RFC 9110 section 12.5.4: a variant chosen by its language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.language import is_in_language, preferred_language
from maxage.rfc9111.message import Headers
from maxage.rfc9111.vary import selecting_values
from tests.rfc9111.build import Policy, get, lines, stored


@pytest.mark.parametrize(
    ("value", "language"),
    [
        ("de", b"de"),
        ("fr;q=0.5, de;q=1.0", b"de"),
        ("DE-at, de;q=0.9", b"de-at"),
        ("fr;q=0.1, *;q=0", b"fr"),
        ("fr;q=0.501, de;q=0.5", b"fr"),
        ("en, de", None),
        ("en;q=0.5, de;q=0.5", None),
        ("*", None),
        ("*, de;q=0.9", None),
        ("de;q=0", None),
        ("de;q=2", None),
        ("de, de;q=0.5", None),
        ("", None),
    ],
)
def test_the_language_that_is_preferred_to_all_others(value: str, language: bytes | None) -> None:
    """Only one; neither a tie, nor anything, nor what is refused, nor what does not parse."""
    assert preferred_language(lines(f"Accept-Language: {value}")) == language


def test_without_the_field_no_language_is_preferred() -> None:
    """Absent, it says nothing."""
    assert preferred_language(Headers()) is None


def fits(*fields: str, asked: tuple[str, ...] = (), language: bytes = b"de") -> bool:
    """Whether a variant stored for `Accept-Language: en, de` and `Foo: 1` fits."""
    request = get("Accept-Language: en, de", "Foo: 1")
    kept = stored("Cache-Control: max-age=60", *fields, request=request)
    headers = lines("Accept-Language: de", *asked)
    return is_in_language(kept, selecting_values(kept.vary_names, headers, Policy()), language)


LANGUAGE = "Vary: Accept-Language"
GERMAN = "Content-Language: de"


def test_a_variant_in_that_language_fits() -> None:
    """In whatever case the tag is written."""
    assert fits(LANGUAGE, GERMAN)
    assert fits(LANGUAGE, "Content-Language: DE")


@pytest.mark.parametrize(
    "fields",
    [
        (LANGUAGE, "Content-Language: en"),
        (LANGUAGE, "Content-Language: de-AT"),
        (LANGUAGE, "Content-Language: de, en"),
        (LANGUAGE,),
        (GERMAN,),
        ("Vary: Foo", GERMAN),
    ],
)
def test_a_variant_in_another_or_no_single_language_does_not(fields: tuple[str, ...]) -> None:
    """Nor one that was not chosen by language at all."""
    assert not fits(*fields)


def test_all_other_selecting_fields_must_match() -> None:
    """The language is one of several reasons why a variant is what it is."""
    both = "Vary: Accept-Language, Foo"
    assert fits(both, GERMAN, asked=("Foo: 1",))
    assert not fits(both, GERMAN, asked=("Foo: 2",))
    assert not fits(both, GERMAN)


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_reading_a_preference_never_raises(values: list[bytes]) -> None:
    """Whatever the bytes."""
    preferred_language(Headers.copied((b"accept-language", value) for value in values))
