"""Where each part of a policy comes from: a decorator, a rule, or a setting."""

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from maxage.cache.terms import Restriction, Terms
from maxage.explain.explanation import Part, RouteShown
from maxage.routing.control import Control
from maxage.routing.route_policy import RoutePolicy, route_policy
from maxage.routing.route_table import RouteInfo
from maxage.settings import CacheSettings

_RESTRICTED: Final[dict[Restriction, str]] = {
    "path or query": "no default lifetime: a probe, operations (GraphQL), or a secret in the URL",
    "files": "no default lifetime: the route serves files, which change without a write",
    "documentation": "no default lifetime: the route shows the application's routes",
    "security": "no default lifetime: a hit would skip the route's check of credentials",
    "headers": "a header model of the route takes any header, or its class chooses by any",
    "deep": "the path has more than 32 segments",
}


def route_shown(route: RouteInfo | None) -> RouteShown | None:
    """Return a route for people; None: there is none."""
    if route is None:
        return None
    return RouteShown(
        template=route.host + route.template,
        methods=tuple(sorted(route.methods or ())),
        endpoint=_name(route.endpoint),
        source=place_of(route.endpoint),
    )


def policy_parts(terms: Terms, settings: CacheSettings) -> tuple[Part, ...]:
    """Return each part of a policy with its source; the first one is the lifetime."""
    parts = [_lifetime(terms, settings), *_prohibitions(terms)]
    for source, said in _speakers(terms):
        named = (
            ("tags", ", ".join(said.tags)),
            ("vary_by", _name(said.vary_by) if said.vary_by is not None else ""),
            ("invalidates", ", ".join(said.invalidates)),
            ("invalidates_only", "True" if said.only else ""),
            ("isolated", "True" if said.isolated else ""),
        )
        parts += [Part(name=name, value=value, source=source) for name, value in named if value]
    return tuple(parts)


def source_of(terms: Terms, name: str) -> str:
    """Return the decorator or rule by which mutating requests purge a path or tag."""
    return _first(terms, lambda policy: name in policy.invalidates) or "the response"


def _expiration(settings: CacheSettings) -> str:
    """Return the configured lifetime, and whether it is the default one."""
    default = "" if "cache_expiration" in settings.model_fields_set else " (default)"
    return f"CACHE_EXPIRATION={settings.cache_expiration:g}{default}"


def _lifetime(terms: Terms, settings: CacheSettings) -> Part:
    seconds = terms.rules.default_lifetime
    declared = _first(terms, lambda policy: policy.lifetime_is_declared)
    source = declared or _expiration(settings)
    if terms.restriction is not None and not seconds:
        source = _RESTRICTED[terms.restriction]
    return Part(name="lifetime", value=f"{seconds:g} s" if seconds else "none", source=source)


def _prohibitions(terms: Terms) -> Iterator[Part]:
    if terms.policy.cache:
        return
    sources = [source for source, said in _speakers(terms) if not said.cache]
    if not sources and terms.restriction is not None:
        sources = [_RESTRICTED[terms.restriction]]
    yield from (Part(name="cache", value="never", source=source) for source in sources)


def _first(terms: Terms, states: Callable[[RoutePolicy], bool]) -> str | None:
    """Return the first speaker with whom the policy states something."""
    control = terms.route.control if terms.route is not None else None
    count = len(terms.matching)
    if control is not None and states(_policy_of(terms, 0)):
        return _decorator(terms.route)
    for number in range(1, count + 1):
        if states(_policy_of(terms, number)):
            return repr_of_rule(terms.matching[number - 1].path)
    return None


def _policy_of(terms: Terms, rules: int) -> RoutePolicy:
    control = terms.route.control if terms.route is not None else None
    return route_policy(default_lifetime=0.0, rules=terms.matching[:rules], control=control)


def _speakers(terms: Terms) -> Iterator[tuple[str, Control]]:
    """Yield the decorator and the rules, in the order of their precedence."""
    if terms.route is not None and terms.route.control is not None:
        yield _decorator(terms.route), terms.route.control
    for rule in terms.matching:
        yield repr_of_rule(rule.path), rule.control


def repr_of_rule(path: str) -> str:
    """Return a rule by its pattern."""
    return f"Rule({path!r})"


def _decorator(route: RouteInfo | None) -> str:
    endpoint = None if route is None else route.endpoint
    place = place_of(endpoint)
    return f"decorator of {_name(endpoint)}" + (f" ({place})" if place else "")


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", "") or ("" if thing is None else type(thing).__name__)


def place_of(endpoint: Any) -> str:
    """Return file and line of a function or class, as seen from the current directory."""
    try:
        found = inspect.unwrap(endpoint)
        path = Path(inspect.getsourcefile(found) or "")
        _, line = inspect.getsourcelines(found)
    except (OSError, TypeError, ValueError):
        return ""
    return shown_place(path, line)


def shown_place(path: Path, line: int) -> str:
    """Return file and line, as seen from the current directory."""
    here = Path(os.path.realpath(Path.cwd()))
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}:{line}"
