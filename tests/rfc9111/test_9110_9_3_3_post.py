"""RFC 9110 section 9.3.3: answers to POST that may answer a later GET."""

import pytest

from maxage.rfc9111.policy import Policy
from maxage.rfc9111.post import answers_get
from tests.rfc9111.build import NOW, reply

HERE = "Content-Location: /things?q=1"
FRESH = "Cache-Control: max-age=60"


def fits(*fields: str, status: int = 200, target: str = "/things?q=1") -> bool:
    """Whether the answer of a POST to that target may answer a GET."""
    return answers_get(
        reply(*fields, status=status),
        scheme="http",
        host="example.com",
        target=target,
        response_time=NOW,
        policy=Policy(default_lifetime=60, heuristic_fraction=0.1),
    )


@pytest.mark.parametrize(
    "location", ["/things?q=1", "http://example.com/things?q=1", "?q=1", "things?q=1"]
)
def test_it_must_be_about_the_url_that_was_posted_to(location: str) -> None:
    """However the reference is written."""
    assert fits(f"Content-Location: {location}", FRESH)


@pytest.mark.parametrize(
    "location",
    [
        "/things",
        "/things?q=2",
        "/things/1?q=1",
        "/Things?q=1",
        "//other.example/things?q=1",
        "https://example.com/things?q=1",
        "http://example.com:81/things?q=1",
        "http://[",
    ],
)
def test_an_answer_about_another_url_answers_no_get(location: str) -> None:
    """Another path, query, host, scheme or port, or nothing that can be read."""
    assert not fits(f"Content-Location: {location}", FRESH)


def test_without_content_location_or_with_two_it_answers_no_get() -> None:
    """It says nothing about what a GET would bring."""
    assert not fits(FRESH)
    assert not fits(FRESH, HERE, HERE)


@pytest.mark.parametrize(
    "freshness",
    ["X: none", "Cache-Control: public", "Cache-Control: max-age=0", "Expires: 0", "Age: 1"],
)
def test_freshness_must_be_explicit(freshness: str) -> None:
    """Neither heuristics nor the configured lifetime count."""
    assert not fits(HERE, freshness, "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT")


@pytest.mark.parametrize("status", [201, 204, 206, 303, 404, 500])
def test_only_a_200_stands_for_a_get(status: int) -> None:
    """Other statuses say what became of the POST."""
    assert not fits(HERE, FRESH, status=status)
    assert fits(HERE, FRESH)
