"""The short way: what was found out about a request is not found out again for the next like it.

What the ordinary way (`reading`) found out is remembered under the few parts of the request that
this depended on: its target and key, with which it can be looked up at once. Where a copy is near,
even the answer is ready: that of the same rules (`decide`), which differs within a second in
nothing. Whatever has more to say than a host and a validator, such as credentials, cookies,
overrides, a body, a range or directives of its own, goes the ordinary way.
"""

import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, final

from maxage.asgi.overrides import OVERRIDES
from maxage.asgi.responder import pair
from maxage.asgi.service import Service
from maxage.asgi.types import Scope
from maxage.cache.cache import Cache
from maxage.cache.key import FORWARDED_HEADERS, variant_key
from maxage.cache.lookup_result import LookupResult, suits
from maxage.cache.target import Target
from maxage.invalidation.dependencies import current_dependencies
from maxage.reads.prepared import (
    LOOK_SECONDS,
    KnownRequest,
    Line,
    PreparedResponse,
    is_confirmed,
    same_until,
)
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, Request
from maxage.rfc9111.vary import selecting_values
from maxage.store.entry import Entry

_WEIGHTY: Final = FORWARDED_HEADERS | OVERRIDES | {
    b"authorization", b"cookie", b"content-length", b"transfer-encoding", b"cache-control",
    b"pragma", b"if-match", b"if-unmodified-since", b"if-none-match", b"if-modified-since",
    b"if-range", b"range", b"host", b"expect", b"upgrade",
}  # fmt: skip
"""Headers on which it can depend whether a stored response answers, besides those of Vary."""
_MOST_PREPARED: Final = 4
"""Forms of one copy that are prepared at the same time: GET, HEAD and 304."""
_MOST_VARIANTS: Final = 16
"""Values of the selecting fields of one URL whose key is remembered."""
_REMEMBERED: Final = 2048
"""Requests that are remembered besides as many as there are copies, in each of two generations."""
_LONGEST: Final = 1024
"""Bytes of host, path, query and condition of a request that is remembered; and those of the values
by which it chooses a variant."""
_Identity = tuple[str, bytes, bytes | None, bytes, bytes | None]
"""Method, host, raw path, query and If-None-Match."""


@final
class FastPath:
    """Knows plain requests again, and answers them from copies; one for each middleware."""

    def __init__(self, service: Service, cache: Cache) -> None:
        settings = service.settings
        self._service: Final = service
        self._cache: Final = cache
        self.counters: Final = cache.counters
        """Whoever sends what `find` gave counts the hit."""
        self._weighty: Final = _WEIGHTY | {
            n.lower().encode() for n in settings.cache_credential_headers
        }
        self._known: dict[_Identity, KnownRequest] = {}
        self._before: dict[_Identity, KnownRequest] = {}
        """The generation before; what is asked for again moves on into the new one."""
        self._look_at = -math.inf
        self._prepares: Final = not settings.cache_early_refresh

    def __len__(self) -> int:
        """Return the number of requests that are known."""
        return len(self._known) + len(self._before)

    def find(self, scope: Scope) -> KnownRequest | PreparedResponse | None:
        """Return what answers the request, or what is known of it; None: nothing is."""
        known = self.known(scope)
        return None if known is None else self.ready(known, scope["headers"]) or known

    def known(self, scope: Scope) -> KnownRequest | None:
        """Return what was found out about such requests."""
        plain = self._plain(scope["headers"])
        if plain is None:
            return None
        host, condition = plain
        get = scope.get
        identity = (scope["method"], host, get("raw_path"), get("query_string", b""), condition)
        known = self._known.get(identity) or self._recalled(identity)
        if (
            known is None
            or known.path != scope["path"]
            or known.scheme != get("scheme", "http")
            or known.root_path != get("root_path", "")
            or not self._holds(known, scope)
        ):
            return None
        return known

    def again(self, known: KnownRequest, scope: Scope) -> PreparedResponse | None:
        """Return what answers a request that was found before, and is the very same."""
        return self.ready(known, scope["headers"]) if self._holds(known, scope) else None

    def ready(self, known: KnownRequest, headers: list[Line]) -> PreparedResponse | None:
        """Return what a copy answers to a request that was just found to be known."""
        near, target = self._cache.store.near, known.target
        if near is None or target.unstorable or not self._is_alone():
            return None
        copy = near.find(self._variant(known, headers) if target.vary_names else known.key)
        if copy is None:
            return None
        now = self._cache.clock()
        ready: PreparedResponse | None = copy.ready.get(known.form)
        if ready is None or not ready.suits(target, now):
            confirmed = partial(is_confirmed, near, copy) if near.exact else None
            ready = self._prepare(copy.entry, copy.ready, known, headers, now, confirmed)
        return ready

    async def look_up(
        self, known: KnownRequest, lines: list[Line]
    ) -> PreparedResponse | LookupResult | None:
        """Look a known request up; return what answers it, or what else was found.

        None: it is to be looked up as any other request.

        Raises:
            StoreUnavailableError: nothing that the store says may be relied upon now.
        """
        if not self._is_alone():
            return None
        headers = Headers.of(tuple(map(pair, lines)))
        found = await self._cache.lookup(known.target, known.key, headers)
        entry, now = found.entry, self._cache.clock()
        if entry is None or found.softened:
            return found
        # Prepared once for all who share what was found.
        ready: PreparedResponse | None = found.ready.get(known.form)
        if ready is None or not ready.suits(known.target, now):
            ready = self._prepare(entry, found.ready, known, headers.raw, now, None)
        return ready or found

    def _is_alone(self) -> bool:
        """Return whether an answer may be prepared.

        Not where a middleware around this one has to know what it depends on, and not where chance
        decides about each request anew whether it begins a refresh.
        """
        return self._prepares and current_dependencies.get() is None

    def learn(self, scope: Scope, target: Target) -> None:
        """Remember what the ordinary way found out about a request that may come again."""
        plain = self._plain(scope["headers"])
        raw_path: bytes | None = scope.get("raw_path")
        if plain is None or raw_path is None or not _is_plain(target):
            return
        (host, condition), query = plain, scope.get("query_string", b"")
        if len(host) + len(raw_path) + len(query) + len(condition or b"") <= _LONGEST:
            identity = (scope["method"], host, raw_path, query, condition)
            self._remember(identity, KnownRequest(scope, target, condition))

    def _remember(self, identity: _Identity, known: KnownRequest) -> None:
        near = self._cache.store.near
        if len(self._known) >= _REMEMBERED + (len(near) if near is not None else 0):
            self._before, self._known = self._known, {}
        self._known[identity] = known

    def _recalled(self, identity: _Identity) -> KnownRequest | None:
        known = self._before.pop(identity, None)
        if known is not None:
            self._remember(identity, known)
        return known

    def _holds(self, known: KnownRequest, scope: Scope) -> bool:
        """Return whether its target and key are still those of the request."""
        targets, now = self._service.targets, self._cache.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            targets.watch(scope)
        return (
            known.target.generation == targets.generation
            and known.variance == known.target.search.variance
        )

    def _plain(self, headers: list[Line]) -> tuple[bytes, bytes | None] | None:
        """Return host and If-None-Match of a request that has nothing else of weight to say."""
        host = condition = None
        for name, value in headers:
            lower = name.lower()
            if lower in self._weighty:
                if lower == b"host" and host is None:
                    host = value
                elif lower == b"if-none-match" and condition is None:
                    condition = value
                else:
                    return None
        return (host, condition) if host else None

    def _variant(self, known: KnownRequest, headers: list[Line]) -> bytes:
        """Return the key of the variant that the request chooses."""
        names, target = known.target.vary_names, known.target
        if names is not known.names:
            known.names, known.keys = names, {}
        # Pairs that are no tuples have no hash.
        lines = tuple(pair(line) for line in headers if line[0].lower() in names)
        key = known.keys.get(lines)
        if key is None:
            selecting = selecting_values(names, Headers.of(lines), target.rules)
            key = variant_key(known.key, names, selecting)
            if sum(len(value) for _, value in lines) <= _LONGEST:
                if len(known.keys) >= _MOST_VARIANTS:
                    known.keys.clear()
                known.keys[lines] = key
        return key

    def _prepare(  # noqa: PLR0917 - what is known of the request so far
        self,
        entry: Entry,
        ready: dict[Any, Any],
        known: KnownRequest,
        lines: Iterable[Line],
        now: float,
        confirmed: Callable[[], Awaitable[bool]] | None,
    ) -> PreparedResponse | None:
        """Ask the rules, and keep their answer for as long as it stays the same."""
        target, headers = known.target, Headers.of(tuple(lines))
        if not suits(entry, target, selecting_values(target.vary_names, headers, target.rules)):
            return None
        request = Request(method=known.form[0], headers=headers)
        decision = decide(request, entry.stored, now=now, policy=target.rules)
        if not isinstance(decision, Serve) or decision.stale or decision.refresh:
            return None
        prepared = PreparedResponse(
            decision,
            tuple(self._service.hit_headers(decision, known.key)),
            target=target,
            confirmed=confirmed,
            since=now,
            until=same_until(entry.stored, now),
        )
        if len(ready) >= _MOST_PREPARED:
            ready.clear()
        ready[known.form] = prepared
        return prepared


def _is_plain(target: Target) -> bool:
    """Return whether the answer depends on nothing but the URL and the selecting fields."""
    route = target.route
    if target.policy.vary_by is not None or route is None:
        return target.policy.vary_by is None
    return not (route.has_security or route.header_names)
