"""The application that is linted: its routes as the cache reads them, and their functions."""

import sys
from collections.abc import Iterator
from functools import cached_property
from types import ModuleType
from typing import Any, Final, final

from starlette.routing import BaseRoute

from maxage.audit.place import packages_of
from maxage.cache.targets import Targets
from maxage.cache.terms import Terms
from maxage.explain.policy import place_of
from maxage.lint.code.answers import Answers, answers
from maxage.lint.code.effects import effects
from maxage.lint.code.function import Function, function_of, own_packages
from maxage.lint.code.places import Place
from maxage.lint.code.reached import reached
from maxage.lint.code.scope import Scope
from maxage.lint.code.values import known
from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.lint.ignored import ignored_codes
from maxage.lint.layers import Layer, layers_of, mounted_layers
from maxage.route_map import (
    RouteMap,
    map_of,
    middleware_of,
    sample_target,
    sample_terms,
    scope_of,
    title_of,
    unsafe_methods,
)
from maxage.routing.route_table import Dependency, RouteInfo
from maxage.routing.router import choosing_in, unreadable_in


@final
class Route:
    """One route of the application.

    Args:
        info: the route.
        method: the one that is looked at.
        terms: policy and rules of its URLs.
    """

    def __init__(self, info: RouteInfo, method: str, terms: Terms) -> None:
        self.info: Final = info
        self.terms: Final = terms
        self.method: Final = method
        self.template: Final = title_of(info)
        self.title: Final = f"{method} {self.template}"
        self.handlers: Final = tuple(_handlers(info, method))

    @property
    def is_stored(self) -> bool:
        """Whether responses that state no lifetime are stored."""
        plain = self.info.status_code in (None, 200)
        return self.terms.policy.cache and self.terms.rules.default_lifetime > 0 and plain

    @property
    def is_default_only(self) -> bool:
        """Whether their lifetime is the configured one, and no decorator or rule states it."""
        return self.is_stored and not self.terms.policy.lifetime_is_declared

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """Scopes of the endpoint, and of the functions that it calls."""
        return tuple(reached(self.handlers))

    @cached_property
    def dependencies(self) -> tuple[tuple[Dependency, Function], ...]:
        """The dependencies that are the application's own functions."""
        found = ((one, function_of(one.call)) for one in self.info.dependencies)
        return tuple((one, function) for one, function in found if function is not None)

    @cached_property
    def dependency_scopes(self) -> tuple[Scope, ...]:
        """Scopes of the dependencies, and of the functions that they call."""
        return tuple(reached(function for _, function in self.dependencies))

    @property
    def all_scopes(self) -> tuple[Scope, ...]:
        """Scopes of the endpoint, of its dependencies, and of the functions that they call."""
        return (*self.scopes, *self.dependency_scopes)

    @cached_property
    def answers(self) -> Answers:
        """The known facts about the responses of the endpoint."""
        found = answers(self.scopes, self.dependency_scopes)
        declared: Any = getattr(self.info.origin, "response_class", None)
        declared = getattr(declared, "value", declared)
        if getattr(declared, "media_type", None) == "text/event-stream":
            return found._replace(forbidden=True, streams=True)
        return found

    @cached_property
    def effects(self) -> tuple[Place, ...]:
        """The changes that the endpoint makes."""
        return tuple(effects(self.scopes))

    def report(
        self, code: Code, reason: str, mend: str, *functions: Function, is_note: bool = False
    ) -> Iterator[Finding]:
        """Yield a finding, unless a comment at the endpoint or at these functions silences it."""
        endpoint: Any = self.info.endpoint
        classes = [endpoint] if isinstance(endpoint, type) else []
        if code not in ignored_codes(*self.handlers, *classes, *functions):
            source = place_of(self.handlers[0].call if self.handlers else endpoint)
            yield Finding(
                code=code, route=self.title, reason=reason, mend=mend, source=source,
                is_note=is_note,
            )  # fmt: skip


@final
class Application:
    """An application with its cache, or with a default one where it has none.

    Raises:
        SettingsError: a setting of its cache is invalid.
    """

    def __init__(self, app: Any) -> None:
        self.app: Final = app
        self.cache, self.holder = middleware_of(app)
        if self.cache.mistake is not None:
            raise self.cache.mistake
        self.settings: Final = self.cache.service.settings
        self.map: Final[RouteMap] = map_of(self.cache.targets)
        targets = self.cache.targets
        routes = targets.routes.table(scope_of("GET", "/")).routes
        self.routes: Final = routes
        own_packages.set(packages_of(one.endpoint for one in routes))
        readable = [one for one in routes if not one.opaque and not one.is_documentation]
        self.reads: Final = list(_reads(targets, readable))
        self.writes: Final = [
            Route(one, method, sample_terms(targets, one, method))
            for one in readable
            if one.methods is not None
            for method in unsafe_methods(one)[:1]
        ]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Its middleware, the outermost first, and that of mounted applications."""
        return (*layers_of(self.app), *mounted_layers(self.app))

    @property
    def unreadable(self) -> Iterator[BaseRoute]:
        """Its routes of classes that are not known."""
        return unreadable_in(self.cache.service.app)

    @property
    def choosing(self) -> Iterator[BaseRoute]:
        """Its routes that find out by code of their own whether they answer."""
        return choosing_in(self.cache.service.app)

    def has_rule(self, route: RouteInfo) -> bool:
        """Return whether a `Rule` covers the paths of a route."""
        return bool(sample_terms(self.cache.targets, route, "GET").matching)

    @cached_property
    def modules(self) -> tuple[ModuleType, ...]:
        """The modules of its functions, and those in the same packages that these import."""
        routes = [*self.reads, *self.writes]
        functions = [one for route in routes for one in route.handlers]
        functions += [one for route in routes for _, one in route.dependencies]
        waiting = {str(function.call.__module__) for function in functions}
        tops = {name.partition(".")[0] for name in waiting}
        found: dict[str, ModuleType] = {}
        while waiting:
            name = waiting.pop()
            module = sys.modules.get(name)
            if module is not None and name not in found:
                found[name] = module
                waiting |= {one for one in _imported(module) if one.partition(".")[0] in tops}
        return tuple(found.values())


def _imported(module: ModuleType) -> Iterator[str]:
    """Yield the names of the modules that a module imports, or imports something of."""
    for value in [known(each).thing for each in list(vars(module).values())]:
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
        if isinstance(name, str):
            yield name


def _reads(targets: Targets, routes: list[RouteInfo]) -> Iterator[Route]:
    for one in routes:
        if one.accepts("GET"):
            target = sample_target(targets, one)
            # An earlier route may take all requests for this one.
            if target.route is one:
                yield Route(one, "GET", target.terms)


def _handlers(info: RouteInfo, method: str) -> Iterator[Function]:
    endpoint: Any = info.endpoint
    if isinstance(endpoint, type):
        handler = getattr(endpoint, method.lower(), None)
        found = function_of(handler)
        if found is not None:
            yield Function(found.call, found.node, found.first_line, found.lines, endpoint)
    elif (found := function_of(endpoint)) is not None:
        yield found
