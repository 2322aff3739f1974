"""Groups of paths: the ones that a stored response is in, and the ones that a write purges."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, final

from msgspec import Struct

from maxage.invalidation.group_names import (
    ORPHAN_GROUP,
    bundle_group,
    collection_group,
    members_group,
    named_path,
    path_group,
)
from maxage.invalidation.purged_by_write import Reach
from maxage.routing.operations import takes_operations
from maxage.routing.route_policy import RoutePolicy
from maxage.routing.route_table import RouteInfo, RouteMatch, RouteTable, is_for
from maxage.routing.template import (
    PARAMETER,
    fill,
    is_parameter,
    overlap,
    prefixes,
    spans_segments,
    split,
)
from maxage.store.tokens import NAMESPACE_GROUP

PurgeMode = Literal["matching", "unproven", "everything"]
"""See `CacheSettings.cache_purge`."""

_MAX_DEPTH: Final = 32
"""Segments of a path without a route that have a group of their own."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_ROOT_GROUP: Final = path_group("/")
_STEM: Final = _ROOT_GROUP.removesuffix("/")
_NAMES: Final[dict[str, Callable[[str], str]]] = {
    "p": path_group, "c": collection_group, "m": members_group,
    "b": bundle_group,
}  # fmt: skip


class _Plan(Struct, frozen=True, kw_only=True):
    """The groups of one route, as far as they have no parameter, and the others by their kind."""

    fixed: tuple[str, ...]
    filled: tuple[tuple[Callable[[str], str], tuple[str, ...]], ...]

    def groups(self, match: RouteMatch) -> Sequence[str]:
        """Return the groups for this path."""
        if not self.filled:
            return self.fixed
        filled = [name(fill(segments, match.params)) for name, segments in self.filled]
        return [*self.fixed, *filled]


@final
class PathGroups(Struct, frozen=True, kw_only=True):
    """The groups of the stored responses of one route, for each of its paths."""

    plan: _Plan
    """Those besides the groups of paths."""
    orphans: tuple[str, ...]
    """The group of all orphans, if they are in it."""
    has_root: bool
    """Whether they are in the group of the root at each host."""
    roots: tuple[RouteInfo, ...]
    """The routes of the root that answer for some hosts alone."""
    is_opaque: bool
    is_simple: bool
    """Whether the last segment alone tells the groups of most of its paths."""
    beginning: str
    """How its paths begin, without a slash at its end."""
    above: tuple[str, ...]
    """The groups of the paths in that beginning, and of all above them."""
    stem: str
    """The group of the longest of these paths."""
    others: tuple[str, ...]
    """The groups without a parameter, besides those of paths."""

    def of(self, match: RouteMatch, host: str = "") -> tuple[str, ...]:
        """Return the groups of a path: that of everything, and those that `groups_of` tells of."""
        path = match.path
        beginning, _, last = path.rpartition("/")
        if last and beginning == self.beginning and self.is_simple:
            return (*self.above, f"{self.stem}/{last}", *self.others)
        if self.is_opaque:
            groups = [NAMESPACE_GROUP, *fallback_groups(path)]
        else:
            in_root = path == "/" or self.has_root or any(is_for(r, host) for r in self.roots)
            groups, group = [NAMESPACE_GROUP, *([_ROOT_GROUP] if in_root else ())], _STEM
            for segment in split(path):
                group = f"{group}/{segment}"
                groups.append(group)
        return (*groups, *self.plan.groups(match), *self.orphans)


def _plan(named: Iterable[tuple[str, tuple[str, ...]]]) -> _Plan:
    wanted = list(dict.fromkeys(named))
    fixed = [one for one in wanted if not any(map(PARAMETER.search, one[1]))]
    return _Plan(
        fixed=tuple(_NAMES[kind]("/".join(segments)) for kind, segments in fixed),
        filled=tuple((_NAMES[kind], segments) for kind, segments in wanted
                     if (kind, segments) not in fixed),
    )  # fmt: skip


_NO_PLAN: Final = _Plan(fixed=(), filled=())


@final
class RouteGroups:
    """The groups of an application's paths, by the templates of its routes.

    Args:
        table: all routes.
        mode: what a write purges.
        policies: what settings, rules and decorators say about each route.
    """

    def __init__(
        self,
        table: RouteTable,
        mode: PurgeMode = "matching",
        policies: Callable[[RouteInfo], RoutePolicy] | None = None,
    ) -> None:
        self.mode: Final = mode
        self._at_root: Final = tuple(r for r in table.routes if r.regex.match("/"))
        self._has_root: Final = any(route.host_regex is None for route in self._at_root)
        policy_of = policies or _default_policy
        policy = {route: policy_of(route) for route in table.routes}
        reads = [r for r in table.routes if is_read(r) and policy[r].cache]
        writes = [r for r in table.routes if is_write(r) or _is_mount_of_operations(r)]
        self.reach: Final = Reach(
            reads, writes,
            isolated=[read for read in reads if policy[read].isolated],
            everywhere=mode == "unproven",
        )  # fmt: skip
        self._places: Final[dict[int, list[RouteInfo]]] = {}
        for route in writes:
            # By its identity: Starlette's routes are equal to others, and have no hash.
            self._places.setdefault(id(route.origin), []).append(route)
        self._purging: Final[dict[RouteInfo, _Plan]] = {}
        """The plans of writes; also of reads by which a write came, with an overridden method."""
        plans = ((read, self._reading_plan(read)) for read in reads)
        self._reading: Final = {read: plan for read, plan in plans if plan.fixed or plan.filled}
        """The plans of reads that are in other groups than those of their paths."""
        self.orphans: Final = tuple(self._orphans(reads, policy)) if mode == "matching" else ()
        """The reads that no write purges and that are cached only by default."""
        self.operations: Final = tuple(
            write for write in writes
            if mode == "matching" and takes_operations(write.template) and not policy[write].only
        )  # fmt: skip
        """The writes that purge all reads, since their paths do not tell what they change."""
        self._all_reads: Final = len(reads)
        self._reached: Final = {
            write: len(self.reach.reached([write]).union(self.orphans)) for write in writes
        }

    def _reading_plan(self, read: RouteInfo) -> _Plan:
        named = self.reach.groups_of(read)
        if spans_segments(read.template) and not read.opaque:
            # It may list what lies beneath it, as a directory does; an opaque one has this anyway.
            named.append(("c", tuple(split(read.template))))
        return _plan(named)

    def _orphans(
        self, reads: Iterable[RouteInfo], policy: dict[RouteInfo, RoutePolicy]
    ) -> Iterator[RouteInfo]:
        # A mounted application of unknown routes may write, too.
        may_write = any(route.opaque and not route.serves_files for route in policy)
        writes = [write for write in self.reach.hits if not policy[write].only]
        reached = self.reach.surely_reached(writes)
        if not may_write:
            # What every write reaches anyway needs no group more; by a plural it may be a part.
            reached |= self.reach.reached_by_all(writes)
        named = [
            split(path)
            for write in self.reach.hits
            for name in policy[write].invalidates
            if (path := named_path(name)) is not None
        ]
        for read in reads:
            if not self.reach.hits and (read.opaque or not may_write):
                continue
            segments = split(read.template)
            is_named = any(_names(name, segments) for name in named)
            default_only = is_default_only(read, policy[read])
            is_reached = read in reached and not self.reach.shows_another(read, writes)
            if default_only and not is_reached and not is_named:
                yield read

    def groups_of(self, match: RouteMatch, host: str = "") -> tuple[str, ...]:
        """Return the groups that a stored response of this path belongs to.

        Everything, its own path, each path above it (a purge of that includes all beneath), and
        those of `Reach`; an orphan is in the group of all orphans.

        Args:
            match: the path and its route.
            host: the host of the request.
        """
        return self.path_groups(match.route).of(match, host)

    def path_groups(self, route: RouteInfo, policy: RoutePolicy | None = None) -> PathGroups:
        """Return the groups of the paths of a route.

        Settings, rules and decorators say nothing about the paths where `policy` is None.
        """
        plan = self._reading.get(route, _NO_PLAN)
        beginning = route.template.partition("{")[0].rpartition("/")[0]
        at_root = (_ROOT_GROUP,) if self._has_root else ()
        above = [path_group(path) for path in prefixes(beginning)[1:]]
        is_orphan = route in self.orphans and (policy is None or is_default_only(route, policy))
        orphans = (ORPHAN_GROUP,) if is_orphan else ()
        return PathGroups(
            plan=plan,
            orphans=orphans,
            has_root=self._has_root,
            roots=self._at_root,
            is_opaque=route.opaque,
            is_simple=not (route.opaque or plan.filled or (self._at_root and not self._has_root)),
            beginning=beginning,
            above=(NAMESPACE_GROUP, *at_root, *above),
            stem=above[-1] if above else _STEM,
            others=(*plan.fixed, *orphans),
        )

    def touched_by(self, match: RouteMatch | None, path: str = "/") -> tuple[str, ...]:
        """Return the groups that a mutating request purges.

        A router that is included under two prefixes shows one thing in two places, so that each
        place is purged.

        Args:
            match: the path and its route; None: the path has no known route.
            path: the path, where it has no known route.
        """
        if self.mode == "everything" or (self.mode == "unproven" and _is_unknown(match)):
            return (NAMESPACE_GROUP,)
        groups = self._touched(match) if match else fallback_touched(path)
        orphans = (ORPHAN_GROUP,) if self.orphans else ()
        return tuple(dict.fromkeys((*groups, *orphans)))

    def count_reads(self, match: RouteMatch | None) -> int:
        """Return how many read routes a mutating request reaches."""
        if self.mode == "everything" or (self.mode == "unproven" and _is_unknown(match)):
            return self._all_reads
        return (
            self._reached[match.route]
            if match and match.route in self._reached
            else len(self.orphans)
        )

    def _touched(self, match: RouteMatch) -> Iterator[str]:
        if match.route.opaque:
            yield from fallback_touched(match.path)
            if not _is_mount_of_operations(match.route):
                return
        for place in (match, *self._elsewhere(match)):
            yield path_group(place.path)
            yield from self._purging_plan(place.route).groups(place)
            if spans_segments(place.route.template):
                for folder in prefixes(place.path)[len(split(place.route.template)) - 1 : -1]:
                    yield collection_group(folder)

    def _purging_plan(self, route: RouteInfo) -> _Plan:
        plan = self._purging.get(route)
        if plan is None:
            plan = _plan((hit.kind, hit.segments) for hit in self.reach.hits_of(route))
            self._purging[route] = plan
        return plan

    def _elsewhere(self, match: RouteMatch) -> Iterator[RouteMatch]:
        """Yield the other places of the same route whose path is known from this one's."""
        for route in self._places.get(id(match.route.origin), ()):
            segments = split(route.template)
            names = {name for segment in segments for name in PARAMETER.findall(segment)}
            if route is not match.route and names <= match.params.keys():
                path = fill(segments, match.params)
                yield RouteMatch(route=route, path=path, params=match.params)


def is_default_only(read: RouteInfo, policy: RoutePolicy) -> bool:
    """Return whether responses of the read have no other lifetime than the configured one."""
    guarded = read.has_security and policy.vary_by is None
    return policy.cache and policy.default_lifetime > 0 and not policy.stated and not guarded


def _default_policy(_route: RouteInfo) -> RoutePolicy:
    return RoutePolicy(cache=True, default_lifetime=1.0)


def _is_unknown(match: RouteMatch | None) -> bool:
    return match is None or match.route.opaque


def _is_mount_of_operations(route: RouteInfo) -> bool:
    """Return whether it is a mounted application of unknown routes that takes operations."""
    return route.opaque and not route.serves_files and takes_operations(route.template)


def _names(name: Sequence[str], segments: Sequence[str]) -> bool:
    """Return whether a path that a write names is known to show in a read, by their segments.

    All reads lie beneath the root, and beneath a parameter in its place: these name no more than
    the reads that end there, or have a parameter there too.
    """
    if not name or not segments:
        return not name and not segments
    beneath = len(name) <= len(segments) and all(map(overlap, name, segments))
    return beneath and (is_parameter(segments[0]) or not is_parameter(name[0]))


def is_read(route: RouteInfo) -> bool:
    """Return whether responses of the route may be stored."""
    return (route.accepts("GET") or route.accepts("QUERY")) and not route.is_documentation


def is_write(route: RouteInfo) -> bool:
    """Return whether the route is known to accept a method that may change something."""
    return not route.opaque and not (route.methods is not None and route.methods <= _SAFE)


def fallback_groups(path: str) -> tuple[str, ...]:
    """Return the groups of a path without a known route: its own and those of the paths above."""
    return (*(path_group(p) for p in prefixes(path)[-_MAX_DEPTH:]), collection_group(path))


def fallback_touched(path: str) -> tuple[str, ...]:
    """Return the groups that a mutating request to a path without a known route purges.

    Besides what lies beneath it, that is each path above: `POST /notes/-/insert` shows in `/notes`.
    """
    return (path_group(path), *map(collection_group, prefixes(path)[-1 - _MAX_DEPTH : -1]))
