"""Capture: copy the application's answer while it passes, and store it when it is whole.

A body as long as its Content-Length is whole: it is stored before its last byte leaves, and dropped
again if the application call fails after that. A body without Content-Length may end in good order
though it was cut, as behind Starlette's `BaseHTTPMiddleware`, where the exception comes after the
last piece. So it is stored once the application call has returned.
"""

import asyncio
from typing import Final, final

from msgspec import Struct
from msgspec.structs import replace

from maxage.asgi.body_copy import BodyCopy, content_length
from maxage.asgi.identity import identity_slots, session_was_changed
from maxage.asgi.types import Message, Scope
from maxage.cache import storing
from maxage.cache.answerer import Answerer
from maxage.cache.cache import Cache
from maxage.cache.fill import Fill
from maxage.cache.flights import Flight
from maxage.cache.key import FRAGMENT_HEADERS
from maxage.cache.storing import Answer
from maxage.invalidation.dependencies import Dependencies
from maxage.observe.words import Reason
from maxage.reads.responder import ReadResponder
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.message import Response, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.vary import vary_names
from maxage.rfc9111.verdicts import MayNotStore
from maxage.store.entry import Entry

_OF_ONE_REQUEST: Final = frozenset({Reason.CONDITIONAL, Reason.PARTIAL, Reason.REQUEST_NO_STORE})
"""Reasons not to store a response that say nothing about another request's response."""
_SAID_ITSELF: Final = frozenset({Reason.NO_STORE, Reason.PRIVATE})
"""Reasons not to store a response that are its own Cache-Control."""
_OUTDATING: Final = frozenset({
    Reason.STATUS, Reason.NO_STORE, Reason.PRIVATE, Reason.VARY_STAR, Reason.SET_COOKIE,
    Reason.STREAM, Reason.CLIENT_ERROR, Reason.NO_LIFETIME, Reason.LIFETIME_0,
    Reason.UNKNOWN_ROUTE,
})  # fmt: skip
"""Reasons not to store an answer that show that the stored response is outdated."""
_OTHER: Final = Answerer.OTHER
_UNKNOWN: Final = Answerer.UNKNOWN
_STREAM_SECONDS: Final = 0.1
"""Seconds for which others wait for a body without Content-Length, once it has begun."""


def capture_of(
    reading: ReadResponder, flight: Flight[Entry] | None, dependencies: Dependencies
) -> "Capture":
    """Return the copy that is to be made of an answer, before the application is called.

    `flight` is the fill that other requests wait for; None: they do not.
    """
    scope = reading.scope
    before = (scope.get("endpoint"), scope.get("router"))
    return Capture(
        reading, reading.cache, flight, dependencies, scope, identity_slots(scope), before,
        "session" in scope and session_was_changed(scope["session"]), reading.target.rules,
    )  # fmt: skip


@final
class Capture(Struct, eq=False):
    """Copies one answer of the application, and ends the flight that others wait for."""

    _reading: ReadResponder
    """The request. Its target, request and lookup result are used, not its client."""
    _cache: Cache
    _flight: Flight[Entry] | None
    """The fill that other requests wait for; None: they do not."""
    _dependencies: Dependencies
    """Of the application call."""
    scope: Scope
    """The scope that the application got; its layers put the session and the user into it."""
    _slots: frozenset[str]
    """What it had of these before."""
    _before: tuple[object, object]
    """Endpoint and router of a router around this middleware."""
    _changed_before: bool
    """Whether a layer around this middleware had changed the session already."""
    rules: Policy
    """The rules of the target, or those for an answer whose route is unknown."""
    refusal: Reason | None = None
    """Why the answer is not stored; None: there is none yet, or it is stored as far as is known by
    now."""
    asked_at: float = 0.0
    """POSIX seconds at which the application was called."""
    entry: Entry | None = None
    """The stored response."""
    fill: Fill | None = None
    """What is copied while it passes; None: nothing is."""
    declared: int | None = None
    """The Content-Length of what is copied."""
    names_copied: bool = False
    """Whether the application has copied the names of all request fields, and may know a user or a
    tenant by any of them."""
    _answerer: Answerer = Answerer.FORESEEN
    _copy: BodyCopy | None = None
    """The pieces of the body so far; None: there are none."""
    _forbidden: Reason | None = None

    def begin(self, response: Response, start: Message, groups: tuple[str, ...] = ()) -> bool:
        """Decide whether an answer may be stored, by its start, and let others wait or not.

        `groups` are those of a stored beginning that the answer continues.

        Returns:
            Whether it is stored with its last piece, and may then get an ETag.
        """
        answer = self._answer(response)
        if (
            answer.arrival.request.method == "HEAD"
            and response.status == 200
            and self._answerer is not _OTHER
        ):
            storing.freshen_from_head(self._cache, answer)
        objection = self._objection(answer, start)
        if objection is None and "session" in self.scope and self._changes_session():
            objection = Reason.SESSION
        if objection is None:
            groups = (*groups, *self._dependencies.tags)
            verdict = storing.consider(self._cache, answer, groups)
        else:
            verdict = MayNotStore(reason=objection)
        if self.rules is not answer.target.rules and self._lacks_default(answer, verdict):
            self._reading.service.targets.routes.warn_of_unknown(
                answer.target.route, answer.target.path
            )
            if isinstance(verdict, MayNotStore):
                verdict = MayNotStore(reason=Reason.UNKNOWN_ROUTE)
        if not isinstance(verdict, Fill):
            self._decline(answer, verdict)
            return False
        self.fill = verdict
        if self.declared is not None:
            return b"etag" not in response.headers.outline().at
        if self._flight is not None:
            asyncio.get_running_loop().call_later(_STREAM_SECONDS, self._end_waiting)
        return False

    def _answer(self, response: Response) -> Answer:
        """Return a response of the application as the answer to the request."""
        reading = self._reading
        target, routes = reading.target, reading.service.targets.routes
        self._answerer = routes.answerer(target, self.scope, self._before)
        is_hidden = self._answerer is _UNKNOWN
        self.rules = target.terms.explicit_rules if is_hidden else target.rules
        slots, anonymous = identity_slots(self.scope), False
        if (slots or is_hidden or self.names_copied) and target.policy.vary_by is None:
            # Where the router is known but left no word, users may be in a copy of the scope too.
            may_be_hidden = self.names_copied or (is_hidden and target.route is not None)
            anonymous = self._identify(response, slots, may_be_hidden)
        arrival = Arrival(
            request=reading.request, response=response, request_time=self.asked_at,
            response_time=self._cache.clock(), policy=self.rules,
        )  # fmt: skip
        return Answer(target=target, found=reading.found, arrival=arrival, anonymous=anonymous)

    def _identify(self, response: Response, slots: frozenset[str], may_be_hidden: bool) -> bool:
        """Let the request carry credentials where the scope tells who asks, or may have told.

        Returns:
            Whether the application looked who asks, and knew no user.
        """
        reading, identification = self._reading, self._reading.service.identification
        if identification.is_in(self.scope) or (
            may_be_hidden
            and identification.may_be_in(
                reading.headers, self.rules, vary_names(response.headers) or ()
            )
        ):
            reading.request = replace(reading.request, carries_credentials=True)
        return may_be_hidden or identification.was_sought(self.scope, slots - self._slots)

    def _objection(self, answer: Answer, start: Message) -> Reason | None:
        """Return why an answer is not even considered, and note the length of its body."""
        if self._forbidden is not None or start.get("trailers"):
            return self._forbidden or Reason.TRAILERS
        if self._answerer is _OTHER:
            return Reason.OTHER_ROUTE
        response, stored = answer.arrival.response, answer.found.entry
        length = self.declared = content_length(response.headers)
        if length is None:
            if b"content-length" in response.headers:
                # Whether the body is whole could not be told.
                return Reason.CONTENT_LENGTH
        elif length > self._cache.most_body_bytes:
            return Reason.TOO_LARGE
        if response.status == 206 and stored is not None and stored.stored.status != 206:
            # A part does not replace a whole response.
            return Reason.PARTIAL
        return None

    def _changes_session(self) -> bool:
        """Return whether the application has changed the session, which is not to be stored.

        It has shown a message once, or made a token, and `vary_by` knows of neither. A layer
        outside of the cache sets the cookie, so that no Set-Cookie tells.
        """
        if self._changed_before or self.rules.store_set_cookie:
            return False
        return session_was_changed(self.scope["session"])

    def _lacks_default(self, answer: Answer, verdict: Fill | MayNotStore) -> bool:
        """Return whether the response has no lifetime only since its route is unknown."""
        if answer.arrival.response.status != 200 or not answer.target.rules.default_lifetime:
            # Without a word of the scope too, as from static files, it would have none.
            return False
        if isinstance(verdict, Fill):
            # It has a validator, and the application is asked each time.
            stored = verdict.verdict.stored
            return stored.freshness_lifetime == 0 and not stored.always_validate
        return verdict.reason == Reason.NO_LIFETIME

    def _decline(self, answer: Answer, verdict: MayNotStore) -> None:
        """Store nothing, and let the next requests profit from what the answer says."""
        self.refuse(verdict.reason)
        stored = answer.found.entry
        if stored is not None and _shows_outdated(verdict, answer):
            # The application would not answer with it any more, and its successor is not shareable.
            self._cache.drop(stored)
        if self._flight is not None:
            if verdict.reason not in _OF_ONE_REQUEST:
                self._remember_unstorable(answer, verdict)
            self.finish_flight()

    def _remember_unstorable(self, answer: Answer, verdict: MayNotStore) -> None:
        """Remember that the URL's responses are not stored, and whether they said so themselves."""
        nothing_stored = answer.found.entry is None and answer.found.index is None
        said = verdict.reason in _SAID_ITSELF and nothing_stored
        control = answer.arrival.response.headers.get_all(b"cache-control")
        if said:
            # A near copy may be there all the same: the store has evicted its entry.
            self._cache.forget_copies(answer.found.key)
        self._not_shareable(control if said else (), verdict.reason)

    def _not_shareable(
        self, control: tuple[bytes, ...] = (), reason: Reason = Reason.NO_STORE
    ) -> None:
        """Let no request wait for this response, nor for the next ones."""
        if self._flight is not None and self._flight.claim is not None:
            self._flight.claim.cannot_be_shared()
        self._reading.target.mark_unstorable(
            self._cache.monotonic(), self.rules, control=control, reason=reason,
            fragments=self._reading.headers.has_any(FRAGMENT_HEADERS),
        )  # fmt: skip

    def _end_waiting(self) -> None:
        """Let no request wait for a stream, which may go on for long."""
        if self._flight is not None and self._flight.under_way:
            self._not_shareable()
            self.finish_flight()

    def add(self, message: Message) -> None:
        """Copy a piece of the body; with the last one, store a response with Content-Length."""
        fill, is_last = self.fill, not message.get("more_body", False)
        if fill is None:
            return
        copy = self._copy
        if copy is None:
            body: bytes = message.get("body", b"")
            size = len(body)
            if is_last and size == self.declared and self._cache.pending_writes.has_room(size):
                # As most bodies come.
                self.store(fill, bytes(body))
                return
            copy = self._copy = BodyCopy(self._cache, self.declared)
        if not copy.add(message):
            self.refuse_for_all(Reason.TOO_LARGE if copy.is_too_large else Reason.NO_ROOM)
        elif is_last and not copy.is_whole:
            self.refuse(Reason.INCOMPLETE)
            self.finish_flight()
        elif is_last and self.declared is not None:
            self.store(fill, copy.body())
        elif is_last:
            # Background tasks may go on for long.
            copy.park()

    def store(self, fill: Fill, body: bytes) -> None:
        """Store a response, before its last byte leaves; the waiting requests get it."""
        flight = self._flight
        claim = None if flight is None else flight.claim
        stored = storing.store_response(self._cache, fill, body, self._dependencies, claim)
        if isinstance(stored, Entry):
            self.entry = stored
            self.drop()
        else:
            self.refuse(stored)
        if flight is not None:
            self.finish_flight(self.entry)

    def refuse(self, reason: Reason) -> None:
        """Store nothing for this reason, and count the first one; drop the copy."""
        if self.refusal is None:
            if reason == Reason.CREDENTIALS:
                reading = self._reading
                reason = reading.service.identification.kind_in(self.scope, reading.headers)
            self.refusal = reason
            self._reading.target.counts.not_stored[reason] += 1
        self.drop()

    def refuse_for_all(self, reason: Reason) -> None:
        """Store nothing for this reason, and let no request wait for this URL's next responses."""
        self.refuse(reason)
        self._not_shareable()
        self.finish_flight()

    def drop(self) -> None:
        """Drop the copy."""
        if self._copy is not None:
            self._copy.drop()
            self._copy = None
        self.fill = None

    def finish_flight(self, entry: Entry | None = None) -> None:
        """Give the waiting requests the response, or let them go on without one."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._cache.flights.finish(flight, entry)

    def stores(self) -> bool:
        """Return whether the answer is stored, or will be as far as is known by now."""
        return self.fill is not None or self.entry is not None

    def complete(self) -> None:
        """Store the response if its body is whole; the application call may have returned."""
        copy, fill = self._copy, self.fill
        if fill is None:
            return
        if copy is not None and copy.is_whole:
            self.store(fill, copy.body())
        else:
            self.refuse(Reason.INCOMPLETE)

    def revoke(self, error: BaseException) -> None:
        """Store nothing, and drop the response if it is stored: the application call failed."""
        if self.stores():
            is_whole = self.entry is not None or (self._copy is not None and self._copy.is_whole)
            if is_whole and isinstance(error, Exception):
                target = self._reading.target
                routes = self._reading.service.targets.routes
                routes.warn_of_failed(target.route, target.path, error)
            self.refuse(Reason.FAILED)
        if self.entry is not None:
            self._cache.drop(self.entry)
            self.entry = None

    def freshen(self, response: Response) -> StoredResponse | None:
        """Return the stored response that a 304 calls current, and store it; None: of no use."""
        stored, verdict = storing.freshen(self._cache, self._answer(response))
        if stored is not None:
            if isinstance(verdict, MayNotStore):
                self.refuse(verdict.reason)
            elif self._answerer is _OTHER:
                self.refuse(Reason.OTHER_ROUTE)
            else:
                self.store(verdict, stored.body)
            self.finish_flight()
        return stored

    def forbid(self, reason: Reason) -> None:
        """Store nothing: the answer may be incomplete, or depend on an unannounced body."""
        if self._copy is not None and self._copy.is_whole:
            return  # a server also tells of a disconnect when the last piece was sent
        self._forbidden = reason
        if self.fill is not None:
            self.refuse(reason)
        self.finish_flight()

    def end(self) -> None:
        """Drop what is left of the copy, and let the waiting requests go on without a response."""
        if self.fill is not None:
            self.drop()
        if self._flight is not None:
            self.finish_flight()


def _shows_outdated(verdict: MayNotStore, answer: Answer) -> bool:
    """Return whether an answer that is not stored shows that the stored response is outdated."""
    status = answer.arrival.response.status
    # The other 4xx are about the client: one that is refused takes nothing out of the store.
    about_the_resource = status < 400 or status in (404, 410)
    about_all = verdict.reason in _OUTDATING
    return about_the_resource and about_all and not answer.arrival.request.carries_credentials
