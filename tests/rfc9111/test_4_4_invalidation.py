"""RFC 9111 section 4.4: invalidating stored responses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import invalidates, is_unsafe, same_origin_targets
from tests.rfc9111.build import lines


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_the_safe_methods_invalidate_nothing(method: str) -> None:
    """RFC 9110 section 9.2.1."""
    assert not is_unsafe(method)


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "M-SEARCH", "FOO", "get", ""]
)
def test_all_other_methods_are_unsafe(method: str) -> None:
    """Unknown ones included; methods are case-sensitive."""
    assert is_unsafe(method)


@pytest.mark.parametrize(
    ("status", "purges"),
    [
        (199, False),
        (200, True),
        (201, True),
        (299, True),
        (300, True),
        (399, True),
        (400, False),
        (404, False),
        (499, False),
        (500, True),
        (503, True),
        (599, True),
    ],
)
def test_success_redirection_and_server_errors_invalidate(status: int, purges: bool) -> None:
    """After a 5xx the change may have been made; a 4xx made none."""
    assert invalidates(status) == purges


@pytest.mark.parametrize(
    ("status", "purges"), [(200, True), (399, True), (404, False), (500, False)]
)
def test_server_errors_need_not_invalidate(status: int, purges: bool) -> None:
    """The RFC asks for non-error responses only."""
    assert invalidates(status, errors_purge=False) == purges


def targets(
    *fields: str, path: str = "/items/5", scheme: str = "http", host: str = "a.test"
) -> tuple[str, ...]:
    return same_origin_targets(lines(*fields), scheme=scheme, host=host, path=path)


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("/items/6", "/items/6"),
        ("6", "/items/6"),
        ("./6", "/items/6"),
        ("../users/7", "/users/7"),
        ("?page=2", "/items/5?page=2"),
        ("/a?b=c&d#e", "/a?b=c&d"),
        ("#e", "/items/5"),
        ("", "/items/5"),
        ("/", "/"),
        ("//a.test/x", "/x"),
        ("http://a.test/x", "/x"),
        ("http://A.Test:80/x?y", "/x?y"),
        ("HTTP://a.test", "/"),
        ("http://a.test?x", "/?x"),
        ("/a%20b", "/a%20b"),
        ("/a b", "/a%20b"),
        ("/\u00fc", "/%FC"),
        ("/a//b/../c", "/a//c"),
    ],
)
def test_a_reference_of_the_same_origin_names_a_target(reference: str, target: str) -> None:
    """Relative references are resolved against the request's path."""
    assert targets(f"Location: {reference}") == (target,)
    assert targets(f"Content-Location: {reference}") == (target,)


@pytest.mark.parametrize(
    "reference",
    [
        "http://b.test/x",
        "https://a.test/x",
        "http://a.test:8080/x",
        "//b.test/x",
        "http://a.test.evil/x",
        "http://a.test@evil/x",
        "mailto:a@a.test",
        "javascript:alert(1)",
        "http://[",
        "http://[::1",
        "http://a.test:99999/x",
        "http://a.test:port/x",
    ],
)
def test_a_reference_to_another_origin_or_to_nowhere_names_none(reference: str) -> None:
    """MUST NOT: it would let anyone purge anything."""
    assert targets(f"Location: {reference}") == ()


def test_the_default_port_is_the_origin_s() -> None:
    """Written or not."""
    assert targets("Location: https://a.test:443/x", scheme="https") == ("/x",)
    assert targets("Location: https://a.test/x", scheme="https", host="a.test:443") == ("/x",)
    assert targets("Location: http://a.test:8000/x", host="a.test:8000") == ("/x",)
    assert targets("Location: http://a.test/x", host="a.test:8000") == ()


def test_both_fields_and_all_lines_count_once() -> None:
    """In their order, without duplicates."""
    found = targets("Location: /a", "Content-Location: /b", "location: /c", "Content-Location: /a")
    assert found == ("/a", "/c", "/b")
    assert targets("X: /a") == ()


@given(
    st.lists(st.tuples(st.sampled_from([b"location", b"content-location"]), st.binary())),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_bytes_make_it_raise(fields: list[tuple[bytes, bytes]], host: str, path: str) -> None:
    """Whatever the bytes, in the response or in the request."""
    found = same_origin_targets(Headers.copied(fields), scheme="http", host=host, path=path)
    assert all(target.startswith("/") or not path.startswith("/") for target in found)
