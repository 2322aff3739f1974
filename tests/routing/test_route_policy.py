"""What may be cached and for how long: rules, decorators and their precedence."""

from typing import Any

import pytest
from starlette.requests import Request

from maxage.errors import SettingsError
from maxage.routing.control import Control
from maxage.routing.controls import control_of
from maxage.routing.route_policy import (
    RoutePolicy,
    Rule,
    cached,
    matching_rules,
    route_policy,
    uncached,
)


def user(request: Request) -> str:
    """A `vary_by` that is never called here."""
    return request.method


def tenant(request: Request) -> str:
    """Another one."""
    return request.method


def policy(
    *rules: Rule, path: str = "/items/5", control: Control | None = None, default: float = 300
) -> RoutePolicy:
    matching = matching_rules(rules, path)
    return route_policy(default_lifetime=default, rules=matching, control=control)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/items", "/items", True),
        ("/items", "/items/", False),
        ("/items", "/items/5", False),
        ("/items", "/itemsx", False),
        ("/items", "/x/items", False),
        ("/items/{id}", "/items/5", True),
        ("/items/{id}", "/items/5/reviews", False),
        ("/items/{id}", "/items", False),
        ("/items/{id}/reviews", "/items/5/reviews", True),
        ("/items/{id}/reviews", "/items/5/6/reviews", False),
        ("/items/{item_id:int}", "/items/5", True),
        ("/reports/*", "/reports/2024", True),
        ("/reports/*", "/reports/2024/may", False),
        ("/reports/*.csv", "/reports/may.csv", True),
        ("/reports/*.csv", "/reports/maycsv", False),
        ("/admin/**", "/admin/users/5", True),
        ("/admin/**", "/admin/", True),
        ("/admin/**", "/admin", False),
        ("/admin**", "/admin", True),
        ("**", "/anything/at/all", True),
        ("*", "/one", False),
        ("**/export", "/a/b/export", True),
        ("/a.b", "/a.b", True),
        ("/a.b", "/axb", False),
        ("/a+", "/aa", False),
        ("/(a)", "/(a)", True),
        ("/new\nline/**", "/new\nline/x\ny", True),
        ("/items/{id}", "/items/5\n", True),
        ("/items", "/items\n", False),
    ],
)
def test_a_pattern_is_about_the_whole_path(pattern: str, path: str, *, matches: bool) -> None:
    """`{name}` and `*` stand for one segment, `**` for any number, all else for itself."""
    assert Rule(pattern).matches(path) is matches


@pytest.mark.parametrize("path", ["", "items", "http://h/items", "{id}"])
def test_a_pattern_that_never_matches_a_path_is_refused(path: str) -> None:
    """One sentence names what was given and what is taken."""
    with pytest.raises(
        SettingsError, match=r"^Rule got the path .*; it takes a pattern that .*\.$"
    ):
        Rule(path)


_WRONG: list[Any] = [-1, -0.001, float("nan"), float("inf"), "60", True, False, [], b"1"]


@pytest.mark.parametrize("ttl", _WRONG)
def test_a_lifetime_that_cannot_be_right_is_refused(ttl: Any) -> None:
    """Where it stands, what it got and what it takes, in one sentence."""
    sentence = r" got ttl=.*; it takes a number of seconds from 0 up\.$"
    with pytest.raises(SettingsError, match="^Rule" + sentence):
        Rule("/x", ttl=ttl)
    with pytest.raises(SettingsError, match=r"^cached\(\)" + sentence):
        cached(ttl=ttl)


@pytest.mark.parametrize("ttl", [0, 0.0, 1, 0.5, 10**9])
def test_a_lifetime_from_0_up_is_taken(ttl: float) -> None:
    """0 means that only what responses say themselves counts."""
    assert Rule("/x", ttl=ttl).control.ttl == ttl
    assert policy(Rule("/**", ttl=ttl)).default_lifetime == ttl


def test_without_rules_the_settings_hold() -> None:
    """The weakest of all."""
    assert policy(default=42) == RoutePolicy(cache=True, default_lifetime=42)


def test_the_first_matching_rule_gives_the_lifetime() -> None:
    """Order decides, not how exact a pattern is; one that does not match says nothing."""
    rules = [Rule("/other", ttl=1), Rule("/items/**", ttl=2), Rule("/items/5", ttl=3)]
    assert policy(*rules).default_lifetime == 2


def test_a_rule_without_lifetime_leaves_it_to_the_next() -> None:
    """A rule that only adds a tag does not end the search."""
    assert policy(Rule("/**", tags=["t"]), Rule("/items/*", ttl=7)).default_lifetime == 7
    assert policy(Rule("/**", tags=["t"]), default=9).default_lifetime == 9


def test_the_decorator_is_stronger_than_a_rule() -> None:
    """Rule before settings, decorator before rule; also where it says 0."""
    assert policy(Rule("/**", ttl=5), control=Control(ttl=1)).default_lifetime == 1
    assert policy(Rule("/**", ttl=5), control=Control(ttl=0)).default_lifetime == 0
    assert policy(Rule("/**", ttl=5), control=Control()).default_lifetime == 5


@pytest.mark.parametrize(
    ("rules", "control"),
    [
        ([Rule("/**", cache=False)], None),
        ([Rule("/**", ttl=5), Rule("/items/*", cache=False)], None),
        ([Rule("/items/*", cache=False), Rule("/**", ttl=5)], None),
        ([Rule("/items/*", cache=False)], Control(ttl=60)),
        ([Rule("/**", ttl=5)], Control(cache=False)),
        ([], Control(cache=False)),
    ],
)
def test_a_prohibition_wins_wherever_it_stands(rules: list[Rule], control: Control | None) -> None:
    """Precedence chooses lifetimes, it never lifts a prohibition."""
    assert policy(*rules, control=control).cache is False


def test_a_prohibition_elsewhere_forbids_nothing_here() -> None:
    """The other side of the boundary."""
    assert policy(Rule("/admin/**", cache=False)).cache is True


def test_tags_add_up_without_repetition() -> None:
    """Decorator first, then the rules in their order."""
    found = policy(
        Rule("/items/*", tags=["b", "a"]), Rule("/**", tags=["c"]), control=Control(tags=("a",))
    )
    assert found.tags == ("a", "b", "c")


def test_the_strongest_vary_by_is_used() -> None:
    """A decorator's before a rule's; a rule's where the decorator has none."""
    rule = Rule("/**", vary_by=user)
    assert policy(rule, control=Control(vary_by=tenant)).vary_by is tenant
    assert policy(rule, control=Control(ttl=1)).vary_by is user
    assert policy().vary_by is None


def test_cached_marks_the_endpoint_and_returns_it() -> None:
    """The function itself stays what it was, so that FastAPI reads its signature."""

    def endpoint() -> None: ...

    assert cached(ttl=60, tags=["a"], vary_by=user)(endpoint) is endpoint
    assert control_of(endpoint) == Control(ttl=60.0, tags=("a",), vary_by=user)


def test_uncached_forbids() -> None:
    """The decorator without parentheses."""

    @uncached
    def endpoint() -> None: ...

    assert control_of(endpoint) == Control(cache=False)


@pytest.mark.parametrize("endpoint", [lambda: None, object(), None, Rule])
def test_an_endpoint_without_decorator_says_nothing(endpoint: object) -> None:
    """Whatever else an endpoint may be."""
    assert control_of(endpoint) is None


def test_a_foreign_attribute_of_the_same_name_says_nothing() -> None:
    """An attribute that is no Control, as a mock would have."""

    def endpoint() -> None: ...

    endpoint.__maxage_control__ = "yes"  # type: ignore[attr-defined]
    assert control_of(endpoint) is None


def test_a_rule_shows_its_pattern() -> None:
    """For programs that print the table."""
    assert repr(Rule("/items/{id}", ttl=5)).startswith("Rule('/items/{id}', Control(")
