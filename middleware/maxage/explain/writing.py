"""Explain a request that may change something: the groups that it purges, and why."""

from typing import Any, Final

from maxage.asgi.overrides import overrides_method
from maxage.asgi.service import Service
from maxage.cache.targets import formatted
from maxage.explain.explanation import Explanation, Part
from maxage.explain.policy import policy_parts, route_shown, source_of
from maxage.explain.reading import request_line
from maxage.invalidation.group_names import ORPHAN_GROUP, named_groups
from maxage.rfc9111.message import Headers
from maxage.route_map import map_of, mapped_write
from maxage.routing.route_table import RouteInfo
from maxage.store.tokens import NAMESPACE_GROUP

_MEANINGS: Final = {
    "p": "the path and all paths beneath it",
    "c": "the path alone, with its queries",
    "m": "all values of the last segment",
    "g": "everything with this tag",
}
_ALSO_PURGED: Final = (
    "4xx answers purge nothing. Tags and paths that the answer or the handler names are purged "
    "too, and objects that are set through the typed cache."
)


def explain_write(service: Service, scope: dict[str, Any]) -> Explanation:
    """Explain the purges of a mutating request; no handler runs."""
    headers = Headers(tuple(scope["headers"]))
    targets = service.targets
    touched, terms = targets.touched(scope, headers), targets.terms_of(scope, headers)
    because = "A request that may change something is never answered from the store; what it made "
    because += "stale is purged before its answer leaves."
    if overrides_method(scope):
        because = "A header names another method, so that the request may change something."
    match = targets.match(scope, headers)
    named = {
        group: source_of(terms, name)
        for name in terms.policy.invalidates
        for group in named_groups(formatted(name, match))
    }
    changes = [_ALSO_PURGED]
    if not touched.groups:
        changes.insert(0, "Nothing is purged: the route says invalidates_only().")
    return Explanation(
        request=request_line(scope),
        outcome="write",
        reason="method",
        because=because,
        route=route_shown(terms.route),
        policy=policy_parts(terms, service.settings)[1:],
        purges=tuple(_purge(group, service, named) for group in touched.groups),
        purged_reads=_reads(service, terms.route, touched.route.partition(" ")[0]),
        changes=tuple(changes),
    )


def _purge(group: str, service: Service, named: dict[str, str]) -> Part:
    mode = service.settings.cache_purge
    if group == NAMESPACE_GROUP:
        return Part(name=group, value="everything", source=f"CACHE_PURGE={mode}")
    if group == ORPHAN_GROUP:
        source = "every write purges the reads that no write is known for"
        return Part(name=group, value="all orphans", source=source)
    kind = group.partition(":")[0]
    source = named.get(group, "the templates of the routes")
    return Part(name=group, value=_MEANINGS.get(kind, ""), source=source)


def _reads(service: Service, route: RouteInfo | None, method: str) -> tuple[str, ...]:
    if route is None:
        return ()
    mapped = mapped_write(map_of(service.targets), route, method)
    return mapped.reads if mapped is not None else ()
