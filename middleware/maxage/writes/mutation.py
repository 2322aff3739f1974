"""The responder of one request that may change something; it purges what that made untrue."""

from collections.abc import Awaitable, Sequence
from typing import Final, final

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.responder import Responder
from maxage.asgi.types import Message
from maxage.invalidation.dependencies import current_dependencies
from maxage.invalidation.group_names import tag_group
from maxage.rfc9111.invalidation import invalidates, same_origin_targets
from maxage.rfc9111.message import Headers
from maxage.rfc9111.structured import parse_strings
from maxage.writes.delayed_response import DelayedResponse
from maxage.writes.held_response import HeldResponse
from maxage.writes.post_copy import post_copy_of

_NOT_EXECUTED: Final = (
    b"Not executed: the cache's store is away, and what the request changes could not be purged "
    b"from the cache.\n"
)
_UNKNOWN: Final = (
    b"The fate of the request is unknown: it was executed, but what it changes could not be purged "
    b"from the cache.\n"
)
_TOO_LONG: Final = (
    b"The fate of the request is unknown: it was executed, and its answer was too long to be held "
    b"back until that was known.\n"
)

_STATUS: Final = (b"cache-status", CacheStatus(fwd="method").header_value())

_NAMING: Final = frozenset({b"cache-group-invalidation", b"location", b"content-location"})

MAX_NAMED_GROUPS: Final = 128
"""Groups of one Cache-Group-Invalidation that are purged (RFC 9875 section 3 asks for 32)."""


@final
class MutationResponder(Responder):
    """Passes on a request that may change something, and purges what it made untrue."""

    async def run(self) -> None:
        """Forward; purge before the answer's first byte, and again when all has run."""
        settings = self.service.settings
        self._refuses = settings.on_lost_purge == "refuse"
        # With `refuse` the answer is held too: a dependency that commits after the response was
        # sent would otherwise have acknowledged before the purge could be confirmed.
        holds = settings.cache_strict_hold or self._refuses
        self._held = HeldResponse(self.cache) if holds else None
        self._waiting: DelayedResponse | None = None
        self._too_long = False
        async with self.cache.store.mutating() as may_be_confirmed:
            if self._refuses and not may_be_confirmed:
                await self._refuse(_NOT_EXECUTED)
                return
            self._groups = self.service.targets.touched(self.scope, self.headers)
            self._posted = await post_copy_of(self) if settings.store_post else None
            self._dependencies = self.noting(mutating=True)
            self._status: int | None = None
            try:
                await self._call()
            finally:
                held = [] if self._held is None else self._held.release()
            if holds:
                await self._let_go(held)

    async def _call(self) -> None:
        token = current_dependencies.set(self._dependencies)
        try:
            await self.service.app(self.scope, self.receive, self._send)
        except BaseException as error:
            # An exception or a cancellation after the handler began: nobody knows what it changed.
            if self._status is None or self._status >= 400:
                self._status = 500
            if self._waiting is not None and not isinstance(error, Exception):
                self._waiting.drop()
                self._waiting = None
            raise
        finally:
            current_dependencies.reset(token)
            # It is asked for before the answer leaves, so that one purge may do for both.
            again = self._purge_again()
            try:
                if self._waiting is not None:
                    await self._waiting.finish()
            finally:
                self._confirmed = again is None or await again
        if self._posted is not None:
            self._posted.store(self._dependencies)

    def _purge_again(self) -> Awaitable[bool] | None:
        """Purge what is untrue now that all has run; return whether that is confirmed.

        Dependencies with `yield` commit after the response was sent, and background tasks change
        things then.
        """
        purged = self._untrue()
        confirmed = self._purge(purged)
        if self._posted is None and not self._dependencies.changed:
            return confirmed
        # As one piece of work: who is cancelled is cancelled at each await that is left.
        return self.cache.in_full(self._purge_again_whole(purged, confirmed))

    async def _purge_again_whole(
        self, purged: Sequence[str], purge: Awaitable[bool] | None
    ) -> bool:
        confirmed = purge is None or await purge
        again = await self.cache.purge_again(self._dependencies, but=purged)
        if self._posted is not None and not (confirmed and again):
            self._posted.forget()
        return confirmed and again

    async def _let_go(self, held: list[Message]) -> None:
        """Send the answer that was held until the purge was confirmed, or 503 if it was not."""
        if self._too_long:
            await self._refuse(_TOO_LONG)
        elif self._refuses and not self._confirmed:
            await self._refuse(_UNKNOWN)
        else:
            for message in held:
                await self.send(message)

    async def _cannot_hold(self, held: HeldResponse, message: Message) -> None:
        """Let an answer go that is too long; one that may have to be refused is dropped."""
        messages = [*held.release(), message]
        self._held = None
        self._too_long = self._refuses
        if not self._too_long:
            if (purge := self._purge(self._untrue())) is not None:
                await purge
            for one in messages:
                await self.send(one)

    async def _refuse(self, body: bytes) -> None:
        lines = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"1"),
        ]
        headers = self.service.outgoing(lines, now=self.cache.clock())
        await self.send({"type": "http.response.start", "status": 503, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = await self._start(message)
        elif self._posted is not None and message["type"] == "http.response.body":
            self._posted.body(message)
        if self._held is not None:
            if not self._held.keep(message):
                await self._cannot_hold(self._held, message)
        elif self._waiting is not None:
            await self._waiting.send(message)
        elif not self._too_long:
            await self.send(message)

    async def _start(self, message: Message) -> Message:
        """Purge what the request has made untrue; return the message as it leaves."""
        self._status = message["status"]
        lines = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        if not _NAMING.isdisjoint([name.lower() for name, _ in lines]):
            named = self._named(Headers.of(tuple(lines)))
            self._groups = tuple(dict.fromkeys((*self._groups, *named)))
        groups = self._untrue() if self._held is None else ()
        if self._posted is not None:
            if groups:
                await self._posted.purge(groups)
            self._posted.start(message)
        elif groups and self._waiting is None:
            purge = self.cache.invalidate(groups)
            if not purge.done():
                self._waiting = DelayedResponse(purge, self.send)
        lines = self.service.outgoing(lines, now=self.cache.clock())
        if self.service.settings.cache_status_header:
            lines.append(_STATUS)
        return {**message, "headers": lines}

    def _named(self, headers: Headers) -> tuple[str, ...]:
        """Return the groups of what the answer names.

        That is Location and Content-Location (RFC 9111 section 4.4), and the groups of
        Cache-Group-Invalidation (RFC 9875 section 3).
        """
        declared = parse_strings(headers.get_all(b"cache-group-invalidation"))
        # Deviation: RFC 9875 keeps the groups of different origins apart; tags are one space here,
        # so that such a purge may reach more than it names, and never less.
        groups = tuple(tag_group(tag) for tag in declared[:MAX_NAMED_GROUPS])
        if b"location" not in headers and b"content-location" not in headers:
            return groups
        scope = self.scope
        named = same_origin_targets(
            headers,
            scheme=scope.get("scheme", "http"),
            host=(self.headers.first(b"host") or b"").decode("latin-1"),
            path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        )
        members = (group for path in named for group in self.service.targets.member(path, scope))
        return (*groups, *members)

    def _purge(self, groups: Sequence[str]) -> Awaitable[bool] | None:
        """Purge the groups; return whether that is confirmed. None: there are none."""
        if not groups:
            return None
        purge = self.cache.invalidate if self._posted is None else self._posted.purge
        return purge(groups)

    def _untrue(self) -> Sequence[str]:
        """Return the groups that the request has made untrue."""
        # An application that returned without an answer leaves its fate unknown too.
        status = 500 if self._status is None else self._status
        purges = invalidates(status, errors_purge=self.service.settings.errors_purge)
        groups = self._groups if purges else ()
        noted = self._dependencies
        if not noted.changed:
            return groups
        # What was set may never have been committed where the request failed.
        typed = noted.typed_writes if status >= 400 else ()
        return tuple(dict.fromkeys((*groups, *noted.touched, *typed)))
