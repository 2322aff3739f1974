"""An answer to POST that is copied, to answer later GETs of the same URL (RFC 9110 section 9.3.3).

The POST itself purges what it touches, so that the copy is stored under the tokens that this purge
wrote. Between the first look at the tokens and the last of them nobody else may have purged: each
write of ours says which token it replaced, and it has to be the one that we knew.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, final

from maxage.asgi.overrides import OVERRIDES
from maxage.asgi.responder import Responder
from maxage.asgi.types import Message
from maxage.cache.fill import Fill
from maxage.cache.lookup_result import LookupResult
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies
from maxage.rfc9111.message import Headers, Request, Response
from maxage.rfc9111.posting import answers_get


async def post_copy_of(responder: Responder) -> "PostCopy | None":
    """Return what copies the answer to this request; None where it is not to be stored."""
    scope, service = responder.scope, responder.service
    if not service.settings.store_post or scope["method"] != "POST":
        return None
    target = service.targets.find(scope, responder.headers)
    if not _may_stand_for_get(responder, target):
        return None
    groups = target.all_groups
    try:
        reading = await responder.cache.store.read((), groups)
    except StoreUnavailableError:
        return None
    return PostCopy(responder, target, dict(zip(groups, reading.tokens, strict=True)))


def _may_stand_for_get(responder: Responder, target: Target) -> bool:
    headers, route = responder.headers, target.route
    # What a GET's answer depends on besides its URL is not read from a POST.
    keyed = route is not None and bool(route.header_names or route.cookie_names)
    plain = target.policy.cache and target.policy.vary_by is None and not keyed
    overridden = not OVERRIDES.isdisjoint(name for name, _ in headers.raw)
    return plain and not overridden and len(headers.get_all(b"host")) == 1


@final
class PostCopy:
    """The copy of one answer to POST."""

    def __init__(
        self, responder: Responder, target: Target, tokens: dict[str, bytes | None]
    ) -> None:
        self._responder: Final = responder
        self._target: Final = target
        self._tokens: Final = tokens
        """The token of each group, as we know it now."""
        self._asked_at: Final = responder.cache.clock()
        self._fill: Fill | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._declared: int | None = None
        self._whole = False

    async def purge(self, groups: Iterable[str]) -> bool:
        """Purge the groups, and see whether anybody else did since we looked at them."""
        names = tuple(groups)
        known = tuple(group for group in names if group in self._tokens)
        others = tuple(group for group in names if group not in self._tokens)
        cache = self._responder.cache
        (replaced, written), confirmed = await asyncio.gather(
            cache.swap(known), cache.invalidate(others)
        )
        for group, before, after in zip(known, replaced, written, strict=True):
            # A group without a token fits nothing: the copy is not stored.
            self._tokens[group] = after if self._tokens[group] == before else None
        return confirmed and None not in written

    def start(self, message: Message) -> None:
        """Decide whether the answer may be stored."""
        responder, scope = self._responder, self._responder.scope
        headers = Headers((bytes(n), bytes(v)) for n, v in message.get("headers", ()))
        response = Response(status=message["status"], headers=headers)
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
        query: bytes = scope.get("query_string", b"")
        cache = responder.cache
        fits = answers_get(
            response,
            scheme=scope.get("scheme", "http"),
            host=(responder.headers.first(b"host") or b"").decode("latin-1"),
            target=(path + (b"?" + query if query else b"")).decode("latin-1"),
            response_time=cache.clock(),
            policy=self._target.rules,
        )
        if fits and not message.get("trailers"):
            fill = cache.consider(
                self._target, self._request(), self._found(), response, self._asked_at
            )
            self._fill = fill if isinstance(fill, Fill) else None
            length = headers.first(b"content-length")
            self._declared = int(length) if length is not None and length.isdigit() else None

    def body(self, message: Message) -> None:
        """Keep a piece of the body, as long as there is room for it."""
        if self._fill is None:
            return
        chunk = bytes(message.get("body", b""))
        self._size += len(chunk)
        longest = self._responder.service.settings.cache_max_body_bytes
        if self._size > longest or not self._responder.cache.pending_writes.take(len(chunk)):
            self.forget()
            return
        self._chunks.append(chunk)
        self._whole = not message.get("more_body", False)

    def store(self, dependencies: Dependencies) -> None:
        """Store what came through whole, after the last purge of the request."""
        body, fill = b"".join(self._chunks), self._fill
        complete = self._whole and self._declared in (None, self._size)
        self.forget()
        # What the handler read or wrote through the typed cache changed with this very request.
        typed = dependencies.read or dependencies.touched or dependencies.typed_writes
        if fill is None or not complete or typed or dependencies.unprotected:
            return
        if all(self._tokens.get(group) is not None for group in fill.groups):
            self._responder.cache.store_response(fill, body, dependencies)

    def forget(self) -> None:
        """Let go of the copy."""
        self._responder.cache.pending_writes.give_back(sum(map(len, self._chunks)))
        self._chunks, self._fill = [], None

    def _request(self) -> Request:
        headers = self._responder.headers
        carries_credentials = self._responder.service.carries_credentials(self._target, headers)
        return Request(method="GET", headers=headers, carries_credentials=carries_credentials)

    def _found(self) -> LookupResult:
        # The mapping itself: it tells the tokens of the moment when the copy is stored.
        return LookupResult(key=self._target.key(()), entry=None, tokens=self._tokens)
