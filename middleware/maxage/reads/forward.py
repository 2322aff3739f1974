"""One exchange with the application on behalf of a GET: copies, validates, or just passes."""

import logging
from typing import Final, final

from msgspec.structs import replace

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.downstream import has_our_lifetime
from maxage.asgi.passthrough import call_noting
from maxage.asgi.responder import ReadResponder
from maxage.asgi.types import Message, Scope
from maxage.cache.claims import Claim
from maxage.cache.collapse import Flight
from maxage.cache.fill import Fill
from maxage.rfc9111.combining import completed_by
from maxage.rfc9111.decide import answer
from maxage.rfc9111.decisions import Forward
from maxage.rfc9111.message import HeaderList, Headers, Response
from maxage.rfc9111.validation import is_not_modified, not_modified_headers
from maxage.rfc9111.verdicts import MayNotStore, Reason
from maxage.store.entry import Entry

logger = logging.getLogger("maxage")

CONDITIONAL: Final = frozenset({
    b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range",
    b"range",
})  # fmt: skip
_OF_ONE_REQUEST: Final = frozenset({Reason.CONDITIONAL, Reason.PARTIAL, Reason.REQUEST_NO_STORE})
"""Why a response is not stored although another request's may be."""
_SAID_ITSELF: Final = frozenset({Reason.NO_STORE, Reason.PRIVATE})
"""Why a response is not stored, where its own Cache-Control says so."""
_ERRORS: Final = frozenset({500, 502, 503, 504})
"""RFC 5861 section 4: "In this context, an error is any situation that would result in a 500, 502,
503, or 504 HTTP response status code being returned." """
_ABOUT_OUR_RANGE: Final = frozenset({206, 304, 412, 416})
"""Statuses that answer a range we asked for, and mean nothing to who asked for the whole."""
_LONGEST_NUMBER: Final = 18
_WHOLE_BODY_EXTENSIONS: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


@final
class Exchange:
    """One exchange with the application on behalf of a GET: copies, validates, or just passes."""

    def __init__(
        self, reading: ReadResponder, decision: Forward, flight: Flight[Entry] | None
    ) -> None:
        self.reading = reading
        """Who gets the answer; nobody any more, once a stale response has answered."""
        self.cache: Final = reading.cache
        self.decision = decision
        self.flight: Final = flight
        self.dependencies: Final = reading.noting(mutating=False)
        self.asked_at = 0.0
        self.verdict: Fill | MayNotStore | None = None
        """Whether the answer may be stored; None: there was none, or a 304 of use."""
        self.body_read = False
        """Whether the application has received the request's body to its end."""
        self._status = CacheStatus()
        self._fill: Fill | None = None
        self._held: Message | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._declared: int | None = None
        self._earlier: tuple[str, ...] = ()
        """Groups of a stored beginning that the answer continues."""
        self._started = False
        self._answered = False
        """Whether we answered the client, so that the application's own answer is dropped."""
        self._stale_answer = decision.stale_if_error
        self._spoiled = False
        """Whether something came from the client that forbids storing."""
        self._again = False
        self._body_again = False
        """Whether the request's body is to be received once more."""

    async def run(self) -> None:
        """Call the application; once more without conditions if its 304 was of no use."""
        try:
            await self._call()
            if self._again:
                self._again, self._answered, self._started = False, False, False
                self._body_again = True
                self.decision = replace(self.decision, conditional=(), completing=())
                await self._call()
        finally:
            self.cache.finish(self.flight)

    @property
    def begun(self) -> bool:
        """Whether there is an answer, the application's or ours."""
        return self._started or self._answered

    async def _call(self) -> None:
        self.asked_at = self.cache.clock()
        try:
            await call_noting(
                self.reading.service,
                self.cache,
                self.dependencies,
                self._scope(),
                self._receive,
                self._send,
            )
        except Exception as error:
            if self._started or not self._stale_answer or self._answered:
                raise
            logger.exception("The application failed; a stale response answers instead.")
            await self._serve_stale(504 if isinstance(error, TimeoutError) else 500)
        finally:
            self._forget()
        if self._stale_answer and not (self.begun or self._again):
            # It returned without an answer, which a server makes a 500 of.
            await self._serve_stale(500)
        await self._let_go()

    def _scope(self) -> Scope:
        """Return the scope with our validators in place of the client's conditions."""
        reading = self.reading
        asked = self.decision.conditional or self.decision.completing
        if not asked:
            return reading.scope
        kept = [line for line in reading.headers.raw if line[0] not in CONDITIONAL]
        return {**reading.scope, "headers": [*kept, *asked]}

    async def _receive(self) -> Message:
        if self._body_again:
            self._body_again = False
            body = self.reading.content or b""
            return {"type": "http.request", "body": body, "more_body": False}
        reading = self.reading
        message: Message = await reading.receive()
        if reading is not self.reading and message["type"] == "http.disconnect":
            # Its client was answered meanwhile, which is all that this says.
            message = await self.reading.receive()
        self.body_read = self.body_read or not message.get("more_body", False)
        unannounced = message.get("body") and reading.content is None
        if message["type"] == "http.disconnect" or unannounced:
            # An application that learns that its client hung up may stop half way and end its
            # answer in good order; and a body that no header announced (HTTP/2 needs none) is part
            # of what it answers.
            self._spoiled = True
            self._forget()
            self.cache.finish(self.flight)
        return message

    async def _send(self, message: Message) -> None:
        if self._answered or self._again:
            return
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message)
        elif kind == "http.response.body":
            await self._body(message)
        else:
            if kind in _WHOLE_BODY_EXTENSIONS:
                self._forget()
            await self._let_go()
            await self.reading.send(message)

    async def _start(self, message: Message) -> None:
        raw: HeaderList = tuple([(bytes(n), bytes(v)) for n, v in message.get("headers", ())])
        response = Response(status=message["status"], headers=Headers.of(raw))
        if response.status == 304 and self.decision.conditional:
            await self._validated(response)
            return
        if response.status in _ERRORS and self._stale_answer:
            await self._serve_stale(response.status)
            return
        if self.decision.completing and response.status in _ABOUT_OUR_RANGE:
            await self._completed(response, message)
            return
        await self._begin(response, message, response.status)

    async def _completed(self, rest: Response, message: Message) -> None:
        """Send the stored beginning, and let the application's 206 follow it."""
        found = self.reading.found
        entry = found.entry
        whole = completed_by(entry.stored, rest) if entry is not None else None
        if entry is None or whole is None:
            # The two do not belong together, so that the part is of no more use.
            self.cache.drop(found)
            self._again = True
            return
        self._earlier = tuple(group for group, _ in entry.tokens)
        await self._begin(whole, {**message, "status": whole.status}, rest.status)
        await self._body(
            {"type": "http.response.body", "body": entry.stored.body, "more_body": True}
        )

    async def _begin(self, response: Response, message: Message, fwd_status: int) -> None:
        """Begin the answer to the client, and the copy where it may be stored."""
        self._started = True
        if self.reading.request.method == "HEAD" and response.status == 200:
            reading = self.reading
            self.cache.freshen_from_head(
                reading.target, reading.request, reading.found, response, self.asked_at
            )
        verdict = self.verdict = self._consider(response, message)
        if isinstance(verdict, MayNotStore) and self.flight is not None:
            if verdict.reason not in _OF_ONE_REQUEST:
                self._remember(verdict.reason, response)
            self.cache.finish(self.flight)
        ours = self.decision.conditional or self.decision.completing
        self._status = self.reading.forwarded(
            self.decision.reason,
            fwd_status=fwd_status if ours else None,
            stored=isinstance(verdict, Fill),
        )
        start = {**message, "headers": self._downstream(response)}
        if isinstance(verdict, Fill):
            self._fill = verdict
            if self._declared is not None and b"etag" not in response.headers:
                # Held until the first piece of the body: if that is all, it gets a validator.
                self._held = start
                return
        await self._send_start(start)

    def _remember(self, reason: str, response: Response) -> None:
        """Remember that the URL's responses are not stored, and whether they said so themselves."""
        self._cannot_be_shared()
        target, found = self.reading.target, self.reading.found
        nothing_stored = found.entry is None and found.index is None
        said = reason in _SAID_ITSELF and nothing_stored
        control = response.headers.get_all(b"cache-control")
        self.cache.not_storable(target, said=control if said else ())

    @property
    def _claim(self) -> Claim | None:
        return None if self.flight is None else self.flight.claim

    def _cannot_be_shared(self) -> None:
        if self._claim is not None:
            self._claim.cannot_be_shared()

    def _downstream(self, response: Response) -> list[tuple[bytes, bytes]]:
        """Return the headers of a response as they leave, but for Cache-Status."""
        reading = self.reading
        headers = reading.service.outgoing(response.headers.raw, now=self.cache.clock())
        added = reading.service.downstream
        if added and has_our_lifetime(
            reading.request, response, now=self.asked_at, policy=reading.target.rules
        ):
            headers += added
        return headers

    async def _send_start(self, start: Message) -> None:
        """Send the head with our member of Cache-Status, which says what is known by now."""
        start["headers"] = self.reading.with_status(start["headers"], self._status)
        await self.reading.send(start)

    def _consider(self, response: Response, message: Message) -> Fill | MayNotStore:
        reading = self.reading
        if self._spoiled or message.get("trailers"):
            return MayNotStore(reason="body" if self._spoiled else "trailers")
        length = self._declared = _length(response.headers)
        if length is None and b"content-length" in response.headers:
            # Whether the body is whole could not be told.
            return MayNotStore(reason="content-length")
        if (length or 0) > reading.service.settings.cache_max_body_bytes:
            return MayNotStore(reason="body too long")
        found = reading.found
        if response.status == 206 and found.entry is not None and found.entry.stored.status != 206:
            # A part takes no whole response's place.
            return MayNotStore(reason=Reason.PARTIAL)
        return self.cache.consider(
            reading.target,
            reading.request,
            found,
            response,
            self.asked_at,
            earlier=self._earlier,
            tags=self.dependencies.tags,
        )

    async def _body(self, message: Message) -> None:
        chunk: bytes = message.get("body", b"")
        last = not message.get("more_body", False)
        fill = self._fill
        if fill is None:
            await self._let_go()
            await self.reading.send(message)
            return
        self._copy(chunk)
        held, self._held = self._held, None
        if last:
            message = self._complete(fill, held, message)
        elif self._fill is None:
            self._status = replace(self._status, stored=False)
        if held is not None:
            await self._send_start(held)
        await self.reading.send(message)

    def _copy(self, chunk: bytes) -> None:
        """Keep a copy on the side, as long as it stays within the limits."""
        self._size += len(chunk)
        settings = self.reading.service.settings
        if self._size > settings.cache_max_body_bytes or not self.cache.pending_writes.take(
            len(chunk)
        ):
            self._forget()
            # Nobody needs to wait for what will not be shared.
            self._cannot_be_shared()
            self.cache.not_storable(self.reading.target)
            self.cache.finish(self.flight)
        else:
            self._chunks.append(bytes(chunk))

    def _complete(self, fill: Fill, held: Message | None, message: Message) -> Message:
        """Store the response that came through whole, before its last byte leaves."""
        body = b"".join(self._chunks)
        if self._fill is None or self._declared not in (None, self._size):
            # Too long, or not what its Content-Length promised.
            self._forget()
            self.cache.finish(self.flight)
            self._status = replace(self._status, stored=False)
            return message
        entry = self.cache.store_response(fill, body, self.dependencies, self._claim)
        self._forget()
        self.cache.finish(self.flight, entry)
        if entry is None:
            self._status = replace(self._status, stored=False)
        if entry is None or held is None:
            return message
        etag = entry.stored.headers.first(b"etag")
        if etag is not None and fill.verdict.stored.status == 200:
            held["headers"].append((b"etag", etag))
            # Only If-None-Match: the tag is ours, while dates are the application's business, and
            # it has just answered with the whole.
            if b"if-none-match" in self.reading.headers and is_not_modified(
                self.reading.request, entry.stored.headers, response_time=self.cache.clock()
            ):
                self._status = replace(self._status, fwd_status=held["status"])
                held["status"] = 304
                held["headers"] = list(not_modified_headers(Headers(held["headers"])))
                return {**message, "body": b""}
        return message

    async def _validated(self, answer_304: Response) -> None:
        """Serve the stored response that the application has just called current."""
        reading, found = self.reading, self.reading.found
        stored, verdict = self.cache.freshen(
            reading.target, reading.request, found, answer_304, self.asked_at
        )
        if stored is None:
            # The 304 is about another representation than the one we hold.
            self._again = True
            return
        entry: Entry | None = None
        if isinstance(verdict, Fill):
            entry = self.cache.store_response(verdict, stored.body, self.dependencies, self._claim)
        self.cache.finish(self.flight, entry)
        decision = answer(reading.request, stored, now=self.cache.clock(), validated=True)
        status = reading.forwarded(
            self.decision.reason, fwd_status=304, stored=entry is not None, ttl=decision.ttl
        )
        self._started = self._answered = True
        await reading.serve(decision, fwd=status)

    async def _serve_stale(self, error: int) -> None:
        self._started = self._answered = True
        await self.answer_stale(self.reading, error)

    async def answer_stale(self, reading: ReadResponder, error: int) -> None:
        """Answer with the stale response in place of an error status (RFC 5861 section 4)."""
        if reading.found.entry is not None:
            stale = answer(reading.request, reading.found.entry.stored, now=self.cache.clock())
            status = reading.forwarded(
                self.decision.reason, fwd_status=error, ttl=stale.ttl, detail="stale-if-error"
            )
            await reading.serve(stale, fwd=status)

    async def _let_go(self) -> None:
        """Send a start that is still held."""
        held, self._held = self._held, None
        if held is not None:
            if self._fill is None:
                self._status = replace(self._status, stored=False)
            await self._send_start(held)

    def _forget(self) -> None:
        if self._chunks:
            self.cache.pending_writes.give_back(sum(map(len, self._chunks)))
            self._chunks = []
        self._fill = None


def _length(headers: Headers) -> int | None:
    values = headers.get_all(b"content-length")
    valid = len(values) == 1 and values[0].isdigit() and len(values[0]) <= _LONGEST_NUMBER
    return int(values[0]) if valid else None
