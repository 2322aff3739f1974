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

from maxage.cache.cache import Cache
from maxage.cache.key import FORWARDED_HEADERS, variant_key
from maxage.cache.lookup_result import LookupResult, suits
from maxage.cache.target import Target
from maxage.cache.targets import Scope
from maxage.invalidation.dependencies import current_dependencies
from maxage.responder import OVERRIDES, Send, Service, pair
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.freshness import current_age
from maxage.rfc9111.message import HeaderList, Headers, Request, StoredResponse
from maxage.rfc9111.vary import selecting_values
from maxage.store.base import Near
from maxage.store.entry import Entry
from maxage.store.near_copy import Copy

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
_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether there are other routes, whoever else looks besides."""
_ROUNDING: Final = 1e-6
"""Seconds by which what is prepared ends too early rather than too late."""

Line = tuple[bytes, bytes]
_Form = tuple[str, bytes | None]
"""Method and If-None-Match: what tells the answers from one stored response apart."""
_FORMS: Final[dict[str, _Form]] = {method: (method, None) for method in ("GET", "HEAD")}
_NO_KEYS: Final[dict[tuple[Line, ...], bytes]] = {}
"""Nothing is put into it: with names of selecting fields comes a dictionary of its own."""
_Identity = tuple[str, bytes, bytes | None, bytes, bytes | None]
"""Method, host, raw path, query and If-None-Match."""


@final
class Ready:
    """A response as it is sent, for as long as it stays the same."""

    __slots__ = ("body", "confirmed", "headers", "since", "status", "target", "until", "wire")

    def __init__(
        self,
        decision: Serve,
        headers: HeaderList,
        *,
        target: Target,
        confirmed: Callable[[], Awaitable[bool]] | None,
        since: float,
        until: float,
    ) -> None:
        self.status: Final = decision.status
        self.body: Final = decision.body
        self.target: Final = target
        self.headers: Final = headers
        self.confirmed: Final = confirmed
        """What has to be awaited, and to be True, before this may answer; None: nothing."""
        self.since: Final = since
        self.until: Final = until
        """From when until when (POSIX seconds) the rules give just this."""
        self.wire: object = None
        """For a server's own use: how it sends this."""

    def suits(self, target: Target, now: float) -> bool:
        """Return whether this answers for the target now."""
        return self.since <= now < self.until and self.target is target

    async def send(self, send: Send) -> None:
        """Send it; what lies outside of us may add to the headers."""
        headers = list(self.headers)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


async def _confirmed(near: Near, copy: Copy) -> bool:
    """Return whether a copy may answer: all that was purged before this call has been dropped."""
    return await near.confirm() and copy.kept


@final
class Known:
    """What the ordinary way found out about a request."""

    __slots__ = (
        "form", "key", "keys", "names", "path", "root_path", "scheme", "target",
        "variance",
    )  # fmt: skip

    def __init__(self, scope: Scope, target: Target, condition: bytes | None) -> None:
        self.target: Final = target
        self.key: Final = target.key(())
        """The primary key."""
        self.variance: Final = target.search.variance
        """What the key was made by."""
        method = scope["method"]
        self.form: Final[_Form] = _FORMS[method] if condition is None else (method, condition)
        self.path: Final[str] = scope["path"]
        self.scheme: Final[str] = scope.get("scheme", "http")
        self.root_path: Final[str] = scope.get("root_path", "")
        self.names: tuple[bytes, ...] = ()
        self.keys: dict[tuple[Line, ...], bytes] = _NO_KEYS


@final
class Shortcut:
    """Knows plain requests again, and answers them from copies; one for each middleware."""

    def __init__(self, service: Service, cache: Cache) -> None:
        settings = service.settings
        self._service: Final = service
        self._cache: Final = cache
        self.counters: Final = cache.counters
        """Whoever sends what `find` gave counts the hit."""
        self._weighty: Final = _WEIGHTY | {n.lower().encode() for n in settings.credential_headers}
        self._known: dict[_Identity, Known] = {}
        self._before: dict[_Identity, Known] = {}
        """The generation before; what is asked for again moves on into the new one."""
        self._look_at = -math.inf
        self._prepares: Final = not settings.early_refresh

    def __len__(self) -> int:
        """Return the number of requests that are known."""
        return len(self._known) + len(self._before)

    def find(self, scope: Scope) -> Known | Ready | None:
        """Return what answers the request, or what is known of it; None: nothing is."""
        known = self.known(scope)
        return None if known is None else self.ready(known, scope["headers"]) or known

    def known(self, scope: Scope) -> Known | None:
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

    def again(self, known: Known, scope: Scope) -> Ready | None:
        """Return what answers a request that was found before, and is the very same."""
        return self.ready(known, scope["headers"]) if self._holds(known, scope) else None

    def ready(self, known: Known, headers: list[Line]) -> Ready | None:
        """Return what a copy answers to a request that was just found to be known."""
        near, target = self._cache.store.near, known.target
        if near is None or target.unstorable or not self._is_alone():
            return None
        copy = near.find(self._variant(known, headers) if target.vary_names else known.key)
        if copy is None:
            return None
        now = self._cache.clock()
        ready: Ready | None = copy.ready.get(known.form)
        if ready is None or not ready.suits(target, now):
            confirmed = partial(_confirmed, near, copy) if near.exact else None
            ready = self._prepare(copy.entry, copy.ready, known, headers, now, confirmed)
        return ready

    async def look_up(self, known: Known, lines: list[Line]) -> Ready | LookupResult | None:
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
        ready: Ready | None = found.ready.get(known.form)
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
            self._remember(identity, Known(scope, target, condition))

    def _remember(self, identity: _Identity, known: Known) -> None:
        near = self._cache.store.near
        if len(self._known) >= _REMEMBERED + (len(near) if near is not None else 0):
            self._before, self._known = self._known, {}
        self._known[identity] = known

    def _recalled(self, identity: _Identity) -> Known | None:
        known = self._before.pop(identity, None)
        if known is not None:
            self._remember(identity, known)
        return known

    def _holds(self, known: Known, scope: Scope) -> bool:
        """Return whether its target and key are still those of the request."""
        targets, now = self._service.targets, self._cache.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
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

    def _variant(self, known: Known, headers: list[Line]) -> bytes:
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
        known: Known,
        lines: Iterable[Line],
        now: float,
        confirmed: Callable[[], Awaitable[bool]] | None,
    ) -> Ready | None:
        """Ask the rules, and keep their answer for as long as it stays the same."""
        target, headers = known.target, Headers.of(tuple(lines))
        if not suits(entry, target, selecting_values(target.vary_names, headers, target.rules)):
            return None
        request = Request(method=known.form[0], headers=headers)
        decision = decide(request, entry.stored, now=now, policy=target.rules)
        if not isinstance(decision, Serve) or decision.stale or decision.refresh:
            return None
        prepared = Ready(
            decision,
            tuple(self._service.hit_headers(decision, known.key)),
            target=target,
            confirmed=confirmed,
            since=now,
            until=_same_until(entry.stored, now),
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


def _same_until(stored: StoredResponse, now: float) -> float:
    """Return until when Age and the seconds of freshness that are left stay the same."""
    if now < stored.response_time:
        # The clock was set back: the age stands still.
        return now
    age = current_age(stored, now=now)
    left = stored.freshness_lifetime - age
    return now + min(math.floor(age) + 1 - age, left - math.floor(left)) - _ROUNDING
