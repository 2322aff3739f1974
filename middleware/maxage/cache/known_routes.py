"""Known routes: those of the application's routers, read again when they change."""

import logging
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any, Final, final

from maxage.cache.answerer import Answerer
from maxage.cache.target import Target
from maxage.routing.overrides import Overrides
from maxage.routing.route_table import RouteInfo, RouteTable
from maxage.routing.router import (
    hidden_router,
    needs_only_url,
    read_routes,
    router_of,
    routes_in,
    table_of,
)
from maxage.store.fork_safe import fork_safe_lock

logger = logging.getLogger("maxage")

_MOST_ROUTERS: Final = 16
"""Routers besides the first that are read, and hosts with a router of their own."""
_NO_ROUTES: Final = RouteTable(())
_MOST_SURPRISES: Final = 4096
"""Endpoints for which the routes are read again."""


@final
class KnownRoutes:
    """The routes of one application.

    Args:
        app: the application behind the middleware.
        on_change: is called with the new table, also when the routes are first read.
    """

    def __init__(self, app: Any, on_change: Callable[[RouteTable], None]) -> None:
        self._app: Final = app
        self._on_change: Final = on_change
        self._table: RouteTable | None = None
        self._tables: dict[int, RouteTable] = {}
        """Where several routers are known: their tables, by the identity of their routes."""
        self.generation: int = 0
        """Changes when other routes are there, or other overrides."""
        self.overrides = Overrides(RouteTable(()))
        """Those with which the routes were read."""
        self._router: Any = None
        """The object that has the routes, once it is known."""
        self._others: list[Any] = []
        """Other routers that have answered, as behind a function that chooses an application."""
        self._at_hosts: dict[str, Any] = {}
        """The router of each host at which another one's route was foreseen."""
        self._familiar: Any = None
        """The router that answered last, if its routes are among those that were read."""
        self._read: list[tuple[Any, Sequence[Any], int]] = []
        """Each router whose routes were read, with its list of them and the length of that then;
        none where they are to be read again."""
        self._reading: Final = fork_safe_lock()
        """Held while routes are read and put to use, which belong together."""
        self._surprises: list[object] = []
        """Endpoints that answered where the routes told of another one, or of none."""
        self._warned_of: set[bool] = set()
        """Whether routes were known when a warning of an unknown one was logged."""
        self._failed: set[RouteInfo | None] = set()
        """Routes of which a call that failed after its answer was logged."""

    def table(self, scope: Mapping[str, Any]) -> RouteTable:
        """Return the routes now, none of them where they cannot be read."""
        self.watch(scope)
        return self.last_table

    def watch(self, scope: Mapping[str, Any]) -> int:
        """Read the routes when they are first needed, and again when some were added.

        Returns:
            The generation.
        """
        generation = self.generation
        if self._router is None:
            self._look_for_router(scope)
        for router, routes, count in self._read:
            # Each request asks: the list's type was looked at when it was read.
            now = getattr(router, "routes", None) or ()
            if len(routes) != count or not (
                now is routes or _are_same(routes_in(router) or (), routes)
            ):
                break
        else:
            if self._read and self.overrides.hold():
                return self.generation
        self._read_anew(generation)
        return self.generation

    def _look_for_router(self, scope: Mapping[str, Any]) -> None:
        self._router = router_of(self._app) or router_of(scope.get("app"))
        if self._router is None and self._table is None:
            self._router = hidden_router(self._app)
        if self._router is not None:
            self._read = []

    def _read_anew(self, generation: int | None = None) -> None:
        """Read the routes, unless another thread has done so since this generation."""
        with self._reading:
            if generation not in {None, self.generation}:
                return
            routers = (self._router, *self._others)
            read = [(router, routes := routes_in(router) or (), len(routes)) for router in routers]
            self._table = self._table_of([routes for _, routes, _ in read])
            self.overrides = Overrides(self._table, self.overrides)
            self._read, self._familiar = read, None
            self.generation += 1
            self._on_change(self._table)

    def _table_of(self, lists: Sequence[Sequence[Any]]) -> RouteTable:
        """Return the table of all routers; at a host, those of its own router come first."""
        if not self._others:
            return table_of(self._app, lists[0])
        tables = {id(routes): read_routes(routes).of_router(id(routes)) for routes in lists}
        self._tables = tables
        at_hosts = [
            route
            for host, router in self._at_hosts.items()
            if (table := tables.get(id(routes_in(router)))) is not None
            for route in table.at_host(host)
        ]
        rest = [route for table in tables.values() for route in table.routes]
        return RouteTable([*at_hosts, *rest])

    @property
    def last_table(self) -> RouteTable:
        """The routes as the last look has found them."""
        return self._table or _NO_ROUTES

    def tables_of(self, router: Any) -> tuple[RouteTable, ...]:
        """Return the table of one of several routers; of each, where it is not known among them."""
        own = None if router is None else self._tables.get(id(routes_in(router)))
        return (own,) if own is not None else tuple(self._tables.values())

    @property
    def has_several_routers(self) -> bool:
        """Whether more than one router has answered, so that a URL does not tell which one will."""
        return bool(self._others)

    def answerer(
        self,
        target: Target,
        scope: Mapping[str, Any],
        before: tuple[object, object],
    ) -> Answerer:
        """Return whether the route that has answered is the one by which the key was made.

        What the router left in the scope counts above the routes that were read. Where the two
        differ, the routes are read again; the response fits no key, and is not stored.

        Args:
            target: has the route by which the key was made.
            scope: of the request, at its response.
            before: endpoint and router in the scope before the application was called.
        """
        route, endpoint = target.route, scope.get("endpoint")
        is_new = scope.get("router") is not self._familiar and self.learn(scope, before[1])
        if is_new or (self._others and endpoint is not None and _is_foreign(route, scope)):
            self._prefer(route, target.host, scope)
            return Answerer.OTHER
        if route is not None and route.endpoint is endpoint and endpoint is not None:
            # A mounted application without known routes may have passed a copy on.
            return Answerer.UNKNOWN if route.opaque else Answerer.FORESEEN
        if endpoint is None or endpoint is before[0]:
            return Answerer.UNKNOWN
        if (route is None or route.opaque) and needs_only_url(scope):
            return Answerer.FORESEEN
        self._read_again(scope, endpoint)
        return Answerer.OTHER

    def warn_of_unknown(self, route: RouteInfo | None, path: str) -> None:
        """Log once why responses get no default lifetime where the scope names no route."""
        known = route is not None
        if known in self._warned_of:
            return
        self._warned_of.add(known)
        if known:
            logger.warning(
                "%s of %s: the scope does not tell which route answered, since a layer inside the "
                "cache passes a copy of it on, or answers itself. Such responses are stored only "
                "with freshness of their own. Let the layer change the scope in place, move it "
                "outside of the cache, or state a lifetime by @cached or a Rule.",
                path, _name_of(self._app),
            )  # fmt: skip
        else:
            logger.warning(
                "No route of %s is known, and the scope names none: only responses with freshness "
                "of their own (Cache-Control, Expires) are stored. State lifetimes by a Rule.",
                _name_of(self._app),
            )

    def warn_of_failed(self, route: RouteInfo | None, path: str, error: Exception) -> None:
        """Log once for each route that its responses are not kept, since its calls fail later."""
        if route in self._failed:
            return
        self._failed.add(route)
        logger.warning(
            "%s: the call failed (%s) after its whole answer was sent, so that the response is not "
            "kept. While calls of this route fail, it has no hits. Mend what fails: a background "
            "task, or the exit code of a yield dependency.",
            path if route is None else route.template, type(error).__name__,
        )  # fmt: skip

    def learn(self, scope: Mapping[str, Any], before: object = None) -> bool:
        """Read the routes of the router that has answered, if they are not known yet.

        `before` is the router in the scope before the application was called.

        Returns:
            Whether there is such a router.
        """
        router = scope.get("router")
        if router is None or router is before:
            return False
        routes = routes_in(router) or ()
        if any(_are_same(routes, known) for _, known, _ in self._read):
            self._familiar = router
            return False
        if not routes:
            return False
        if self._router is None:
            self._router = router
        elif len(self._others) >= _MOST_ROUTERS or any(
            _are_same(routes, routes_in(known) or ()) for known in (self._router, *self._others)
        ):
            return False
        else:
            self._others.append(router)
        self._read_anew()
        return True

    def _prefer(self, route: RouteInfo | None, host: str, scope: Mapping[str, Any]) -> None:
        """Let the routes of the router that has answered come first at this host."""
        known = host in self._at_hosts or len(self._at_hosts) >= _MOST_ROUTERS
        if route is not None and self._others and not known:
            self._at_hosts[host] = scope.get("router")
            self._read_anew()

    def _read_again(self, scope: Mapping[str, Any], endpoint: object) -> None:
        """Read the routes again, once for each endpoint that was not foreseen."""
        if endpoint not in self._surprises and len(self._surprises) < _MOST_SURPRISES:
            self._surprises.append(endpoint)
            if self._router is None:
                self._look_for_router(scope)
            self._read_anew()


def _are_same(routes: Sequence[Any], others: Sequence[Any]) -> bool:
    """Return whether two lists hold the same routes: a property may make a list for each look.

    Routes that are equal may have other checks, so that they are compared by identity.
    """
    return routes is others or (len(routes) == len(others) and all(map(is_, routes, others)))


def _is_foreign(route: RouteInfo | None, scope: Mapping[str, Any]) -> bool:
    """Return whether another router than the route's has answered, where several are known.

    Two applications may have the same endpoint, with other checks.
    """
    if route is None or route.router is None:
        return False
    return route.router != id(routes_in(scope.get("router")))


def _name_of(app: Any) -> str:
    """Return the name by which an application is known to its author."""
    return f"{app.__module__}.{getattr(app, '__qualname__', app.__class__.__qualname__)}"
