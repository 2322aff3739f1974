"""Route policy: the decorators on routes, and rules, that say what is cached and for how long."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import asdict

from maxage.errors import SettingsError
from maxage.routing.control import Control, VaryBy, combined
from maxage.routing.controls import Endpoint, add_control


class RoutePolicy(Control, frozen=True, kw_only=True):
    """What the settings, the rules and the decorators together say about a route."""

    default_lifetime: float
    """Freshness lifetime in seconds of responses that do not state their own."""

    @property
    def lifetime_is_declared(self) -> bool:
        """Whether a decorator or a rule states `default_lifetime`."""
        return self.ttl is not None

    @property
    def stated(self) -> bool:
        """Whether a rule or decorator states a lifetime or dependencies."""
        return self.lifetime_is_declared or bool(self.tags) or self.isolated


class Rule:
    """One line of `rules=`: how responses under a path pattern are cached.

    Args:
        path: a pattern over the whole path. `{name}` and `*` stand for one segment, `**` for any
            number of them: `/items/{id}`, `/reports/*`, `/admin/**`.
        cache: False: responses are never cached here.
        ttl: freshness lifetime in seconds of responses without their own; None: as configured.
        tags: tags of the responses.
        vary_by: see `VaryBy`.
        invalidates: paths and tags that mutating requests purge too; see `invalidates`.
        invalidates_only: all that mutating requests purge; see `invalidates_only`.
        isolated: True: responses depend on nothing outside of their own tree; see `cached`.

    The first rule that matches gives the lifetime; a rule that forbids always wins.

    Raises:
        SettingsError: the pattern or the lifetime is wrong.
    """

    __slots__ = ("_regex", "control", "path")

    def __init__(
        self,
        path: str,
        *,
        cache: bool = True,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        vary_by: VaryBy | None = None,
        invalidates: Iterable[str] = (),
        invalidates_only: Iterable[str] | None = None,
        isolated: bool = False,
    ) -> None:
        if not path.startswith(("/", "*")):
            raise SettingsError(
                f"Rule got the path {path!r}; it takes a pattern that begins with /."
            )
        self.path = path
        self.control = Control(
            cache=cache,
            ttl=_checked(ttl, "Rule"),
            tags=_names(tags, "Rule", "tags"),
            vary_by=vary_by,
            invalidates=(
                *_names(invalidates, "Rule", "invalidates"),
                *_names(invalidates_only or (), "Rule", "invalidates_only"),
            ),
            only=invalidates_only is not None,
            isolated=isolated,
        )
        self._regex = _compile(path)

    def matches(self, path: str) -> bool:
        """Return whether the rule matches this decoded path."""
        return self._regex.fullmatch(path) is not None

    def __repr__(self) -> str:
        return f"Rule({self.path!r}, {self.control!r})"


def cached(
    *,
    ttl: float | None = None,
    tags: Iterable[str] = (),
    vary_by: VaryBy | None = None,
    isolated: bool = False,
) -> Callable[[Endpoint], Endpoint]:
    """Decorate an endpoint: state the lifetime and tags of its responses.

    Args:
        ttl: freshness lifetime in seconds of responses that do not state their own.
        tags: tags of the responses; `{name}` stands for a path parameter.
        vary_by: see `VaryBy`. A route with a security dependency is cached only with it.
        isolated: True: writes of other trees of routes do not purge the responses, unless they name
            their path or tags.

    Raises:
        SettingsError: the lifetime is negative or no number.
    """
    lifetime, names = _checked(ttl, "cached()"), _names(tags, "cached()", "tags")

    def decorate(endpoint: Endpoint) -> Endpoint:
        return add_control(endpoint, ttl=lifetime, tags=names, vary_by=vary_by, isolated=isolated)

    return decorate


def uncached(endpoint: Endpoint) -> Endpoint:
    """Decorate an endpoint: its responses are never cached, whatever they say themselves."""
    return add_control(endpoint, cache=False)


def invalidates(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Decorate the endpoint of a mutating route: it purges these paths and tags too.

    Args:
        names: a path if it begins with / (with its queries and all paths beneath it), else a tag;
            `{name}` stands for a path parameter: `/dashboard`, `stats:{item_id}`.

    Raises:
        SettingsError: a name is no string, or empty.
    """
    checked = _names(names, "invalidates()", "")

    def decorate(endpoint: Endpoint) -> Endpoint:
        return add_control(endpoint, invalidates=checked)

    return decorate


def invalidates_only(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Decorate the endpoint of a mutating route: it purges only these paths and tags.

    Without names it purges nothing: for a login, or a search by POST. Tags that its answer names,
    and changes through the typed cache, purge all the same.

    Args:
        names: as for `invalidates`.

    Raises:
        SettingsError: a name is no string, or empty.
    """
    checked = _names(names, "invalidates_only()", "")

    def decorate(endpoint: Endpoint) -> Endpoint:
        return add_control(endpoint, invalidates=checked, only=True)

    return decorate


def matching_rules(rules: Iterable[Rule], path: str, beneath: str = "") -> tuple[Rule, ...]:
    """Return the rules that match a path, in order."""
    # A rule may be written with the root path or without it.
    paths = (path, beneath or path)
    return tuple(rule for rule in rules if any(map(rule.matches, paths)))


def route_policy(
    *, default_lifetime: float, rules: Iterable[Rule], control: Control | None
) -> RoutePolicy:
    """Return the policy of a route.

    The decorator's lifetime comes before those of the rules and the settings. Tags add up, and a
    prohibition always wins.
    """
    said = combined(([control] if control is not None else []) + [rule.control for rule in rules])
    lifetime = default_lifetime if said.ttl is None else said.ttl
    return RoutePolicy(**asdict(said), default_lifetime=lifetime)


def _names(names: Any, where: str, which: str) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(n, str) and n for n in (*names,)):
        named = f"{which}=" if which else ""
        raise SettingsError(f"{where} got {named}{names!r}; it takes strings that are not empty.")
    return tuple(names)


def _checked(ttl: Any, where: str) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl < float("inf"):
        raise SettingsError(f"{where} got ttl={ttl!r}; it takes a number of seconds from 0 up.")
    return float(ttl)


_TOKEN = re.compile(r"\*\*|\*|\{[^{}/]*\}")


def _compile(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    last = 0
    for found in _TOKEN.finditer(pattern):
        parts += (re.escape(pattern[last : found.start()]), ".*" if found[0] == "**" else "[^/]*")
        last = found.end()
    return re.compile("".join(parts) + re.escape(pattern[last:]), re.DOTALL)
