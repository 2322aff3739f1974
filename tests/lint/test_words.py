"""Words in paths that name what changes by itself, and words that only look so."""

import pytest

from maxage.lint.checks.alive import moment_word, personal_word


@pytest.mark.parametrize(
    "path",
    [
        "/now", "/api/v1/status", "/jobs/{id}/status", "/status/{job}", "/server-status",
        "/serverStatus", "/random", "/random_quote", "/current-weather", "/live/scores/{game}",
        "/feed.xml", "/health/db/status", "/build/progress",
    ],
)  # fmt: skip
def test_a_moment(path: str) -> None:
    assert moment_word(path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/items", "/{now}", "/time-zones", "/reading-time", "/orders/{id}/items",
        "/status/{id}/items/{name}", "/feeds", "/statuses", "/events", "/timeline/{id}/{file}",
        "/delivery", "/olive", "/knowledge", "/lively", "/items/stream",
    ],
)  # fmt: skip
def test_no_moment(path: str) -> None:
    assert moment_word(path) == ""


@pytest.mark.parametrize(
    "path", ["/me", "/users/me", "/me/{year}", "/cart", "/cart/items", "/current_user"]
)
def test_a_users_own(path: str) -> None:
    assert personal_word(path)


@pytest.mark.parametrize(
    "path", ["/users/{id}/cart", "/carts/{id}", "/{me}", "/media", "/cart/{id}", "/"]
)
def test_no_users_own(path: str) -> None:
    """A parameter in front names the owner, whose writes purge it."""
    assert personal_word(path) == ""
