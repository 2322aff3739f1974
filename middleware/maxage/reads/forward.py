"""Forwarding: call the application on behalf of a GET, and pass its answer on.

The answer is passed on as it comes, with a copy on the side (`maxage.reads.capture`). Instead of it
the client gets a stored response that the application validated with a 304, or a stale one in place
of an error. An answer of no use makes the application be called once more, without conditions.
"""

import logging
from collections.abc import Awaitable
from enum import Enum
from threading import get_ident
from typing import Final, final

from msgspec import Struct
from msgspec.structs import replace

from maxage.asgi.body_replay import replaying, whole_request
from maxage.asgi.downstream import has_our_lifetime
from maxage.asgi.looked_up import CHOOSING, COPIED
from maxage.asgi.passthrough import call_noting
from maxage.asgi.responder import send_both, send_in_loop, send_nothing
from maxage.asgi.types import Message, Receive, Scope
from maxage.background import runs_asyncio
from maxage.cache.cache import Cache
from maxage.cache.fill import Fill
from maxage.cache.flights import Flight
from maxage.invalidation.dependencies import Dependencies
from maxage.observe.words import Reason
from maxage.reads.capture import Capture, capture_of
from maxage.reads.collapsing import patience
from maxage.reads.responder import ReadResponder
from maxage.rfc9111.combining import completed_by
from maxage.rfc9111.content_coding import may_be_coded, varied
from maxage.rfc9111.decide import answer
from maxage.rfc9111.decisions import Forward
from maxage.rfc9111.directives import parse_cache_control
from maxage.rfc9111.field_list import is_token
from maxage.rfc9111.message import Headers, Response
from maxage.rfc9111.stored_response import is_shareable
from maxage.rfc9111.validation import is_not_modified, not_modified_headers
from maxage.rfc9111.vary import vary_names
from maxage.store.entry import Entry
from maxage.zstd import DamagedBodyError

logger = logging.getLogger("maxage")

CONDITIONAL: Final = frozenset({
    b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range",
    b"range",
})  # fmt: skip
_FRESHNESS: Final = frozenset({b"cache-control", b"expires", b"cdn-cache-control"})
_RANGE: Final = frozenset({b"range", b"if-range"})
_ERRORS: Final = frozenset({500, 502, 503, 504})
"""RFC 5861 section 4: "In this context, an error is any situation that would result in a 500, 502,
503, or 504 HTTP response status code being returned." """
_ABOUT_OUR_RANGE: Final = frozenset({206, 304, 412, 416})
"""Statuses that answer a range of ours, and mean nothing to a client that wants the whole."""
_WHOLE_BODY_EXTENSIONS: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class State(Enum):
    """Where an exchange stands."""

    WAITING = "the application has not answered"
    PASSING = "its answer is passed on"
    ANSWERED = "a stored response has answered; the application's answer is dropped"
    USELESS = "its answer is dropped, and it is called once more"


# To find a member of an enumeration by its class takes ten times as long.
_WAITING: Final = State.WAITING
_PASSING: Final = State.PASSING
_USELESS: Final = State.USELESS
_DROPPING: Final = (State.ANSWERED, _USELESS)


def exchange_of(
    reading: ReadResponder, decision: Forward, flight: Flight[Entry] | None
) -> "Exchange":
    """Return the exchange that is to begin; `flight` is what other requests wait for, if any."""
    dependencies = Dependencies.of(reading.cache.store, reading.scope)
    dependencies.foreseen = reading.found.tokens
    capture = capture_of(reading, flight, dependencies)
    return Exchange(reading, reading.cache, decision, dependencies, capture, set())


@final
class Exchange(Struct, eq=False):
    """One exchange with the application on behalf of a GET."""

    reading: ReadResponder
    """Sends the answer; a background responder, once a stale response has answered."""
    cache: Cache
    decision: Forward
    dependencies: Dependencies
    capture: Capture
    looked_up: set[bytes]
    """Names of request fields that the application has looked up."""
    body_read: bool = False
    """Whether the application has received the request's body to its end."""
    _state: State = State.WAITING
    _noted: int = 0
    """How many names had been looked up when the answer began."""
    _fwd_status: int | None = None
    """The application's status, for Cache-Status where it is not the status sent."""
    _held_start: Message | None = None
    """A start that waits for the first piece of the body, which may give it an ETag."""

    @property
    def has_begun(self) -> bool:
        """Whether an answer has begun, the application's or ours."""
        return self._state in (State.PASSING, State.ANSWERED)

    async def run(self, receive: Receive | None = None) -> None:
        """Call the application, and once more without conditions if its answer was of no use.

        `receive` is what the application gets; None: that of the request.
        """
        reading, capture, decision = self.reading, self.capture, self.decision
        if decision.conditional or decision.completing:
            capture.scope = self._scope([*decision.conditional, *decision.completing])
        if reading.target.policy.vary_by is None:
            reading.service.note_lookups(capture.scope, self.looked_up)
        capture.asked_at = self.cache.clock()
        try:
            try:
                await call_noting(
                    reading.service, self.cache, self.dependencies, capture.scope,
                    receive or self._receive, self._send,
                )  # fmt: skip
            except BaseException as error:
                capture.revoke(error)
                if (
                    self.has_begun
                    or not decision.stale_if_error
                    or not isinstance(error, Exception)
                ):
                    raise
                logger.exception("The application failed: a stale response answers instead.")
                await self._serve_stale(504 if isinstance(error, TimeoutError) else 500)
            if capture.fill is not None:
                capture.complete()
            if self._state is _WAITING and decision.stale_if_error:
                # It returned without an answer; a server makes a 500 of that.
                await self._serve_stale(500)
            elif self._state is _USELESS:
                self._state, capture.scope = State.WAITING, reading.scope
                self.decision = replace(decision, conditional=(), completing=())
                content = whole_request(reading.content or b"")
                await self.run(replaying([content], self._receive))
            if self._held_start is not None:
                await self.reading.send(self._released_start())
        finally:
            capture.end()

    def _scope(self, ours: list[tuple[bytes, bytes]]) -> Scope:
        """Return the scope with our validators in place of the client's conditions."""
        reading = self.reading
        # What the application sends anew is for this client: the range that it asks for stays. The
        # whole is for the store where a stale response answers for a slow application.
        whole = self.decision.completing or patience(reading, self.decision)
        dropped = CONDITIONAL if whole else CONDITIONAL - _RANGE
        others = [line for line in reading.headers.raw if line[0] not in dropped]
        return {**reading.scope, "headers": [*others, *ours]}

    async def _receive(self) -> Message:
        reading = self.reading
        message: Message = await reading.receive()
        if reading is not self.reading and message["type"] == "http.disconnect":
            # Its client was answered meanwhile, and the message says no more than that.
            message = await self.reading.receive()
        self.body_read = self.body_read or not message.get("more_body", False)
        unannounced = message.get("body") and reading.content is None
        if message["type"] == "http.disconnect" or unannounced:
            # An application that learns that its client hung up may stop half way and end its
            # answer in good order; and a body that no header announced (HTTP/2 needs none) is part
            # of the request that it answers.
            left = message["type"] == "http.disconnect"
            self.capture.forbid(Reason.DISCONNECT if left else Reason.UNANNOUNCED_BODY)
        return message

    # the application's answer

    def _send(self, message: Message) -> Awaitable[None]:
        """Take a message of the application, and return what the client gets for it.

        All is done here but the sending: an application may send messages and await them later.
        """
        if get_ident() != self.reading.thread and not runs_asyncio():
            return send_in_loop(self._send, message)
        kind = message["type"]
        if self._state in _DROPPING:
            return send_nothing()
        if kind == "http.response.start":
            return self._start(message)
        if kind == "http.response.body":
            return self._body(message)
        if kind in _WHOLE_BODY_EXTENSIONS:
            self.capture.refuse(Reason.SENDFILE)
        return self._send_on(message)

    def _start(self, message: Message) -> Awaitable[None]:
        headers = Headers.sent(message.get("headers", ()))
        response = Response(status=message["status"], headers=headers)
        decision, status = self.decision, response.status
        if status != 200:
            if status == 304 and decision.conditional:
                return self._validated(response)
            if status in _ERRORS and decision.stale_if_error:
                return self._serve_stale(status)
            if decision.completing and status in _ABOUT_OUR_RANGE:
                return self._completed(response, message)
        if self._begin(response, message, status):
            return send_nothing()
        return self.reading.send(self._released_start())

    def _begin(
        self, response: Response, message: Message, status: int, groups: tuple[str, ...] = ()
    ) -> bool:
        """Begin the copy of an answer where it may be stored, and hold its start.

        `status` is the application's, `groups` are those of a stored beginning.

        Returns:
            Whether the start waits for the body, which may give it an ETag.
        """
        self._state = _PASSING
        if self.decision.conditional or self.decision.completing:
            self._fwd_status = status
        varied = self._varied_by_lookups(response)
        may_get_etag = self.capture.begin(varied, message, groups)
        sent = response if self.capture.fill is None else varied
        self._held_start = {**message, "headers": self._downstream(sent)}
        return may_get_etag

    def _varied_by_lookups(self, response: Response) -> Response:
        """Return a response whose Vary names the fields that the application has looked up."""
        self._noted = len(self.looked_up)
        if self.reading.service.unnoted.issuperset(self.looked_up):
            return response
        names, self.capture.names_copied = self._unnamed(response)
        line = b", ".join(sorted(filter(is_token, names)))
        if not line:
            return response
        return Response(
            status=response.status, headers=Headers((*response.headers.raw, (b"vary", line)))
        )

    def _unnamed(self, response: Response) -> tuple[set[bytes], bool]:
        """Return the names of fields that were looked up, and that Vary does not name.

        Returns:
            The names, and whether the answer may depend on any other field of the request.
        """
        reading, headers = self.reading, response.headers
        # A thread of the application may look up more meanwhile: a set is copied at once.
        names = {name.lower() for name in self.looked_up.copy()} - reading.service.unnoted
        said = vary_names(headers)
        if not names or said is None:
            return set(), False  # it varies by nothing more, or by all
        if is_shareable(parse_cache_control(headers.get_all(b"cache-control"))):
            # It says that all users may have it, by whatever field they are known.
            names &= CHOOSING
        names.difference_update(reading.target.rules.keyed_fields, said)
        route = reading.target.route
        if route is not None and route.has_header_model:
            # FastAPI makes the copy; what the model takes of it is in the key.
            names.discard(COPIED)
        if COPIED not in names:
            return names, False
        # To copy a mapping looks up each name that the client has sent, and no client is to choose
        # by what a response varies.
        copied = {name.lower() for name, _ in reading.headers.raw}.intersection(names) - CHOOSING
        # A proxy copies the names to pass them on, and the answer that it gets says more.
        says_more = headers.has_any(_FRESHNESS) and not has_our_lifetime(
            reading.request, response, now=self.capture.asked_at, policy=self.capture.rules
        )
        return names - copied - {COPIED}, bool(copied) or not says_more

    def _downstream(self, response: Response) -> list[tuple[bytes, bytes]]:
        """Return the headers of a response as they leave, without our member of Cache-Status."""
        service, capture = self.reading.service, self.capture
        headers = service.outgoing(response.headers, self.cache.clock)
        if (
            self.cache.compresses
            and capture.fill is not None
            and may_be_coded(response.status, response.headers, capture.declared)
        ):
            # A client may get the stored response compressed.
            headers = list(varied(tuple(headers)))
        if service.downstream and has_our_lifetime(
            self.reading.request, response, now=capture.asked_at, policy=capture.rules
        ):
            headers += service.downstream
        return headers

    def _body(self, message: Message) -> Awaitable[None]:
        capture, start = self.capture, self._held_start
        if capture.fill is not None:
            is_last = not message.get("more_body", False)
            if is_last and len(self.looked_up) != self._noted and self._is_late(capture.fill):
                capture.refuse_for_all(Reason.LATE_HEADER)
            else:
                capture.add(message)
            if capture.entry is not None and start is not None:
                message = self._with_validator(start, capture.entry, message)
        return self._send_on(message)

    def _is_late(self, fill: Fill) -> bool:
        """Return whether a field was looked up that the Vary of the begun answer lacks."""
        begun = fill.verdict.stored
        names, is_copied = self._unnamed(Response(status=begun.status, headers=begun.headers))
        return bool(names) or (is_copied and not self.capture.names_copied)

    def _with_validator(self, start: Message, entry: Entry, message: Message) -> Message:
        """Give a start the ETag of its stored response; return the body, empty behind a 304."""
        # The one that we made is the last of the stored lines.
        line = entry.stored.headers.raw[-1] if entry.stored.status == 200 else None
        if line is None or line[0] != b"etag":
            return message
        start["headers"].append(line)
        # If-None-Match alone: the tag is ours, while dates are the application's, and it has just
        # answered with the whole.
        request = self.reading.request
        if (
            not request.is_bare
            and b"if-none-match" in request.headers
            and is_not_modified(request, entry.stored.headers, response_time=self.cache.clock())
        ):
            self._fwd_status = start["status"]
            start["status"] = 304
            start["headers"] = list(not_modified_headers(Headers.copied(start["headers"])))
            return {**message, "body": b""}
        return message

    def _send_on(self, message: Message) -> Awaitable[None]:
        """Send a message, behind the start where that is held."""
        if self._held_start is None:
            return self.reading.send(message)
        return send_both(self.reading.send, self._released_start(), message)

    def _released_start(self) -> Message:
        """Return the held start with our member of Cache-Status; it is held no more."""
        start, self._held_start = self._held_start or {}, None
        reading, capture = self.reading, self.capture
        status = reading.forwarded(
            self.decision.reason, fwd_status=self._fwd_status, stored=capture.stores(),
            detail=capture.refusal,
        )  # fmt: skip
        reading.with_status(start["headers"], status)
        return start

    # stored responses that answer

    def _completed(self, rest: Response, message: Message) -> Awaitable[None]:
        """Send the stored beginning, and let the application's 206 follow it."""
        entry = self.reading.found.entry
        whole = completed_by(entry.stored, rest) if entry is not None else None
        if entry is None or whole is None:
            # The two do not belong together, and the part is of no more use.
            if entry is not None:
                self.cache.drop(entry)
            self._state = State.USELESS
            return send_nothing()
        groups = tuple(group for group, _ in entry.tokens)
        self._begin(whole, {**message, "status": whole.status}, rest.status, groups)
        return self._body(
            {"type": "http.response.body", "body": entry.stored.body, "more_body": True}
        )

    def _validated(self, answer_304: Response) -> Awaitable[None]:
        """Serve the stored response that the application has just called current."""
        if b"vary" in answer_304.headers:
            # Its Vary replaces the stored one (RFC 9111 section 3.2).
            answer_304 = self._varied_by_lookups(answer_304)
        stored = self.capture.freshen(answer_304)
        if stored is None:
            # The 304 is about another representation than the stored one.
            self._state = State.USELESS
            return send_nothing()
        reading = self.reading
        try:
            decision = answer(reading.request, stored, now=self.cache.clock(), validated=True)
        except DamagedBodyError:
            self._state = State.USELESS
            return send_nothing()
        status = reading.forwarded(
            self.decision.reason,
            fwd_status=304,
            stored=self.capture.stores(),
            ttl=decision.ttl,
            detail=self.capture.refusal,
        )
        self._state = State.ANSWERED
        return reading.serve(decision, fwd=status)

    def _serve_stale(self, error: int) -> Awaitable[None]:
        self._state = State.ANSWERED
        return self.answer_stale(self.reading, error)

    async def answer_stale(self, reading: ReadResponder, error: int) -> None:
        """Answer with the stale response in place of an error status (RFC 5861 section 4)."""
        if reading.found.entry is not None:
            stale = answer(reading.request, reading.found.entry.stored, now=self.cache.clock())
            status = reading.forwarded(
                self.decision.reason, fwd_status=error, ttl=stale.ttl, detail="stale-if-error"
            )
            await reading.serve(stale, fwd=status)
