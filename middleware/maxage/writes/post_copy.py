"""Copy of an answer to POST that answers later GETs of the same URL (RFC 9110 section 9.3.3).

The POST itself purges its URL, so the copy is stored under the tokens that this purge wrote. No
other request may purge between the first read of the tokens and the last purge: each of our writes
tells which token it replaced, and that has to be the one that was known.
"""

from collections.abc import Awaitable
from typing import Final, final

from maxage.asgi.body_copy import BodyCopy, content_length
from maxage.asgi.looked_up import COPIED
from maxage.asgi.overrides import OVERRIDES
from maxage.asgi.responder import Responder
from maxage.asgi.types import Message
from maxage.cache.fill import Fill
from maxage.cache.key import FRAGMENT_HEADERS
from maxage.cache.storing import Answer, consider, store_response
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.purger import KnownTokens
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.message import Headers, Request, Response
from maxage.rfc9111.post import answers_get
from maxage.store.lookup_result import LookupResult


async def post_copy_of(responder: Responder) -> "PostCopy | None":
    """Return the copy of the answer to this request; None if it is not to be stored."""
    if responder.scope["method"] != "POST":
        return None
    target = responder.service.targets.find(responder.scope, responder.headers)
    if not _may_stand_for_get(responder, target):
        return None
    groups = target.all_groups
    try:
        reply = await responder.cache.store.read((), groups)
    except StoreUnavailableError:
        return None
    return PostCopy(responder, target, dict(zip(groups, reply.tokens, strict=True)))


def _may_stand_for_get(responder: Responder, target: Target) -> bool:
    headers, route = responder.headers, target.route
    # What a GET's answer depends on besides its URL is not read from a POST.
    keyed = route is not None and bool(route.header_names or route.cookie_names)
    keyed = keyed or headers.has_any(FRAGMENT_HEADERS | OVERRIDES)
    plain = target.policy.cache and target.policy.vary_by is None and not keyed
    return plain and len(headers.get_all(b"host")) == 1


@final
class PostCopy:
    """The copy of one answer to POST."""

    def __init__(self, responder: Responder, target: Target, tokens: KnownTokens) -> None:
        self._responder: Final = responder
        self._target: Final = target
        self.tokens: Final = tokens
        """The token of each group: as read before the handler ran, then as our purges wrote it."""
        self._asked_at: Final = responder.cache.clock()
        self._fill: Fill | None = None
        self._body = BodyCopy(responder.cache)
        self._client_left = False
        self._looked_up: Final[set[bytes]] = set()
        """Names of request fields that the application has looked up."""
        responder.service.note_lookups(responder.scope, self._looked_up)

    async def receive(self) -> Message:
        """Receive a message for the application."""
        message: Message = await self._responder.receive()
        if message["type"] == "http.disconnect" and not self._body.is_whole:
            # An application that learns this may stop half way and end its answer in good order.
            self._client_left = True
            self.forget()
        return message

    def start(self, message: Message) -> None:
        """Decide whether the answer may be stored."""
        headers = Headers.sent(message.get("headers", ()))
        response = Response(status=message["status"], headers=headers)
        length = content_length(headers)
        if length is None and b"content-length" in headers:
            # It cannot be told whether the body is whole.
            return
        if self._client_left or message.get("trailers") or not self._answers_get(response):
            return
        cache, target = self._responder.cache, self._target
        # The mapping itself: when the copy is stored, it holds the tokens of that moment.
        found = LookupResult(key=target.key(()), entry=None, tokens=self.tokens)
        arrival = Arrival(
            request=self._request(), response=response, request_time=self._asked_at,
            response_time=cache.clock(), policy=target.rules,
        )  # fmt: skip
        fill = consider(cache, Answer(target=target, found=found, arrival=arrival))
        if isinstance(fill, Fill):
            self._fill, self._body = fill, BodyCopy(cache, length)

    def body(self, message: Message) -> None:
        """Copy a piece of the body, as long as there is room for it."""
        if self._fill is not None and (
            # Other messages let the server send bytes that do not pass here.
            message["type"] != "http.response.body" or not self._body.add(message)
        ):
            self.forget()

    async def finish(self, purged: Awaitable[bool], noted: Dependencies) -> bool:
        """Store the copy if the request's last purge is confirmed; return whether it is."""
        try:
            if confirmed := await purged:
                self._store(noted)
        finally:
            self.forget()
        return confirmed

    def forget(self) -> None:
        """Drop the copy."""
        self._body.drop()
        self._fill = None

    def _store(self, noted: Dependencies) -> None:
        fill, whole, body = self._fill, self._body.is_whole, self._body.body()
        self._body.drop()  # its room is needed by the stored response
        # What the handler read or wrote through the typed cache changed with this very request.
        typed = noted.read or noted.purged or noted.typed_writes
        if fill is None or not whole or typed or noted.unprotected:
            return
        if self._depends_on_headers():
            return
        if all(self.tokens.get(group) is not None for group in fill.groups):
            store_response(self._responder.cache, fill, body, noted)

    def _depends_on_headers(self) -> bool:
        """Return whether headers were looked up: what a GET depends on is not read from a POST."""
        service = self._responder.service
        names = {name.lower() for name in self._looked_up} - service.unnoted
        if COPIED in names:
            names.remove(COPIED)
            headers, rules = self._responder.headers, self._target.rules
            return bool(names) or service.identification.may_be_in(headers, rules, ())
        return bool(names)

    def _request(self) -> Request:
        headers = self._responder.headers
        carries_credentials = self._responder.service.identification.has_credentials(
            self._responder.scope, headers, self._target
        )
        return Request(method="GET", headers=headers, carries_credentials=carries_credentials)

    def _answers_get(self, response: Response) -> bool:
        scope = self._responder.scope
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
        query: bytes = scope.get("query_string", b"")
        return answers_get(
            response,
            scheme=scope.get("scheme", "http"),
            host=(self._responder.headers.first(b"host") or b"").decode("latin-1"),
            target=(path + (b"?" + query if query else b"")).decode("latin-1"),
            response_time=self._responder.cache.clock(),
            policy=self._target.rules,
        )
