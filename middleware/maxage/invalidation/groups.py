"""Which groups a path is in, and which ones a write to it purges."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, final

from maxage.invalidation.group_names import collection_group, path_group
from maxage.routing.route_table import RouteInfo, RouteMatch, RouteTable, is_for
from maxage.routing.template import (
    PARAMETER,
    fill,
    is_parameter,
    overlap,
    parent,
    prefixes,
    shape,
    spans_segments,
    split,
)

_MAX_DEPTH: Final = 32
"""Segments of a path without a route that have a group of their own."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_ROOT_GROUP: Final = path_group("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the groups of a route's paths have in common, and how the others are made."""

    above: tuple[str, ...]
    """The groups of the paths above that have no parameter, all but the root."""
    stem: str
    """What the groups of the paths beneath these begin with."""
    fixed_views: tuple[str, ...]
    """The groups of the collections that it is a view of, as far as these have no parameter."""
    filled_views: tuple[list[str], ...]
    """The templates of the other ones, by their segments."""
    is_tree: bool

    def views(self, found: RouteMatch) -> Sequence[str]:
        """Return the collections that the path shows a view of: itself, or a fixed name beneath."""
        if not self.filled_views:
            return self.fixed_views
        return [
            *self.fixed_views,
            *(collection_group(fill(v, found.params)) for v in self.filled_views),
        ]


def _planned(template: str, views: Sequence[list[str]]) -> _Plan:
    # Not the last segment: what a path ends with is its own.
    above = list(takewhile(lambda segment: not is_parameter(segment), split(template)[:-1]))
    fixed = [view for view in views if not any(map(is_parameter, view))]
    return _Plan(
        above=tuple(path_group(prefix) for prefix in prefixes("/".join(above))[1:]),
        stem=path_group("/".join(above)).rstrip("/"),
        fixed_views=tuple(collection_group("/".join(view)) for view in fixed),
        # A collection with a parameter stands behind all that have none.
        filled_views=tuple(views[len(fixed) :]),
        is_tree=spans_segments(template),
    )


@final
class RouteGroups:
    """The groups of an application's paths, by the templates of its routes."""

    def __init__(self, table: RouteTable) -> None:
        self._at_root: Final = tuple(r for r in table.routes if r.regex.match("/"))
        self._has_root: Final = any(route.host_regex is None for route in self._at_root)
        self._writing: Final = tuple(
            split(route.template)
            for route in table.routes
            if not route.opaque and not (route.methods is not None and route.methods <= _SAFE)
        )
        self._by_origin: Final[dict[int, list[RouteInfo]]] = {}
        for route in table.routes:
            if route.origin is not None:
                # By its identity: Starlette's routes are equal to others, and have no hash.
                self._by_origin.setdefault(id(route.origin), []).append(route)
        self._reads: Final = frozenset(shape(r.template) for r in table.routes if r.accepts("GET"))
        self._plans: Final[dict[RouteInfo, _Plan]] = {}

    def groups_of(self, found: RouteMatch, host: str = "") -> tuple[str, ...]:
        """Return the groups that a stored response of this path belongs to.

        Its own path, each path above it (a purge of that takes what lies beneath), and the
        collections that it is a view of.
        """
        if found.route.opaque:
            return fallback_groups(found.path)
        plan, segments = self._plan(found.route), split(found.path)
        # Every path lies beneath the root.
        groups = [_ROOT_GROUP] if not segments or self._allows_root(host) else []
        groups += plan.above
        group = plan.stem
        for segment in segments[len(plan.above) :]:
            group = f"{group}/{segment}"
            groups.append(group)
        if plan.is_tree:
            # It may list what lies beneath it, as a directory does.
            groups.append(collection_group(found.path))
        groups += plan.views(found)
        return tuple(dict.fromkeys(groups))

    def _allows_root(self, host: str) -> bool:
        """Return whether some route takes the path /."""
        return self._has_root or any(is_for(route, host) for route in self._at_root)

    def touched_by(self, found: RouteMatch) -> tuple[str, ...]:
        """Return the groups that a mutating request to this path purges.

        The path with all that lies beneath it and, by the kind of route: a member touches the views
        of its collection; an action (`POST /items/5/publish`, with no GET of its own) the member or
        collection it acts on. A router that is included under two prefixes shows one thing in two
        places, so that each place is touched.
        """
        places = (found, *self._elsewhere(found))
        return tuple(dict.fromkeys(group for place in places for group in self._touched(place)))

    def _touched(self, found: RouteMatch) -> Iterator[str]:
        if found.route.opaque:
            yield from fallback_touched(found.path)
            return
        yield path_group(found.path)
        segments = split(found.route.template)
        if segments and is_parameter(segments[-1]):
            yield collection_group(fill(segments[:-1], found.params))
            if spans_segments(found.route.template):
                yield collection_group(parent(found.path))
        elif not self._is_read(found.route.template):
            yield from self._acted_upon(found, segments)
        yield from self._plan(found.route).views(found)

    def _elsewhere(self, found: RouteMatch) -> Iterator[RouteMatch]:
        """Yield the other places of the same route whose path is known from this one's."""
        for route in self._by_origin.get(id(found.route.origin), ()):
            if route is found.route:
                continue
            segments = split(route.template)
            names = {name for segment in segments for name in PARAMETER.findall(segment)}
            if names <= found.params.keys():
                path = fill(segments, found.params)
                yield RouteMatch(route=route, path=path, params=found.params)

    def _acted_upon(self, found: RouteMatch, segments: Sequence[str]) -> Iterator[str]:
        """Yield the groups of the nearest member, or else of the nearest collection, above."""
        members = _members(found)
        for prefix in reversed(prefixes(found.path)[1:-1]):
            if prefix in members:
                yield path_group(prefix)
                yield collection_group(parent(prefix))
                return
        for length in range(len(segments) - 1, 0, -1):
            # By template: `/items/bulk` is no item, though `/items/{id}` happens to match it.
            if self._is_read("/".join(segments[:length])):
                yield path_group(fill(segments[:length], found.params))
                return

    def _plan(self, route: RouteInfo) -> _Plan:
        plan = self._plans.get(route)
        if plan is None:
            segments = split(route.template)
            plan = _planned(route.template, list(self._collections_of(segments)))
            self._plans[route] = plan
        return plan

    def _collections_of(self, segments: list[str]) -> Iterator[list[str]]:
        """Yield the collections that a template shows a view of, as the segments of each."""
        for length in range(len(segments) + 1):
            beneath = segments[length:]
            if not (beneath and is_parameter(beneath[0])) and self._is_collection(
                segments[:length]
            ):
                yield segments[:length]

    def _is_collection(self, segments: Sequence[str]) -> bool:
        """Return whether some mutating route is about a member directly beneath the template."""
        return any(
            len(writing) > len(segments)
            and is_parameter(writing[len(segments)])
            and all(map(overlap, writing, segments))
            for writing in self._writing
        )

    def _is_read(self, template: str) -> bool:
        """Return whether there is a GET of the same template; a catch-all route is none of it."""
        return shape(template) in self._reads


def fallback_groups(path: str) -> tuple[str, ...]:
    """Return the groups of a path without a known route: each path above it, and itself as list."""
    return (*(path_group(p) for p in prefixes(path)[-_MAX_DEPTH:]), collection_group(path))


def fallback_touched(path: str) -> tuple[str, ...]:
    """Return what a mutating request to a path without a known route purges."""
    return (path_group(path), collection_group(parent(path)), collection_group(path))


def _members(found: RouteMatch) -> frozenset[str]:
    """Return the paths, this one or above it, that end in a parameter."""
    segments = split(found.route.template)
    return frozenset(
        fill(segments[: i + 1], found.params) for i, s in enumerate(segments) if is_parameter(s)
    )
