"""RFC 9111 section 4.3.1: sending a validation request."""

import pytest

from maxage.rfc9111.validation import conditional_fields, has_validator
from tests.rfc9111.build import NOW, date, lines, stored

MODIFIED = date(-1000)


@pytest.mark.parametrize(
    ("fields", "conditional"),
    [
        (['ETag: "a"'], [(b"if-none-match", b'"a"')]),
        (['ETag: W/"a"'], [(b"if-none-match", b'W/"a"')]),
        (["ETag: unquoted"], [(b"if-none-match", b"unquoted")]),
        ([f"Last-Modified: {MODIFIED}"], [(b"if-modified-since", MODIFIED.encode())]),
        (
            [f"Last-Modified: {MODIFIED}", 'ETag: "a"'],
            [(b"if-none-match", b'"a"'), (b"if-modified-since", MODIFIED.encode())],
        ),
        ([], []),
        (["ETag: "], []),
    ],
)
def test_the_stored_validators_are_sent_as_they_came(
    fields: list[str], conditional: list[tuple[bytes, bytes]]
) -> None:
    """The entity tag MUST, the date SHOULD be sent."""
    assert list(conditional_fields(stored("Cache-Control: max-age=60", *fields))) == conditional


def test_only_a_stored_200_is_validated() -> None:
    """A 304 always stands for a 200."""
    assert conditional_fields(stored("Cache-Control: max-age=60", 'ETag: "a"', status=404)) == ()


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ('ETag: "a"', True),
        ("ETag: ", False),
        (f"Last-Modified: {MODIFIED}", True),
        ("Last-Modified: x", False),
        ("X: 1", False),
    ],
)
def test_what_counts_as_a_validator(field: str, found: bool) -> None:
    """Something that an application could confirm."""
    assert has_validator(lines(field), now=NOW) == found
