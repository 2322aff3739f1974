"""Responder of one request that may change something: forward it, and purge what it made stale."""

import asyncio
from collections.abc import Awaitable, Sequence
from threading import get_ident
from typing import Final, final

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.responder import Responder, send_in_loop
from maxage.asgi.types import Message, Scope
from maxage.background import runs_asyncio
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.observe.words import Outcome
from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import invalidates
from maxage.store.tokens import NAMESPACE_GROUP
from maxage.writes.answer_groups import answer_groups
from maxage.writes.delayed_response import DelayedResponse
from maxage.writes.held_response import HeldResponse
from maxage.writes.post_copy import PostCopy, post_copy_of
from maxage.writes.refusal import NOT_EXECUTED, refuse

_STATUS: Final = (b"cache-status", CacheStatus(fwd="method").header_value())


@final
class MutationResponder(Responder):
    """Forwards a request that may change something, and purges what it made stale."""

    _before: Scope | None = None
    """The scope as it arrived, where another router than the foreseen one may answer."""
    _first: "asyncio.Future[bool] | None" = None
    """The purge before the answer."""
    _post_copy: PostCopy | None = None
    _status: int | None = None

    async def run(self) -> None:
        """Forward; purge before the answer's first byte, and again when all has run."""
        settings, targets, scope = self.service.settings, self.service.targets, self.scope
        refuses = settings.cache_on_lost_purge == "refuse"
        async with self.cache.store.mutating() as may_be_confirmed:
            self._touched = touched = targets.touched(scope, self.headers)
            self._groups = touched.groups
            # What purges nothing, such as a login, may pass: no purge of it can be lost.
            if refuses and not may_be_confirmed and touched.groups:
                await refuse(self.service, self.send, NOT_EXECUTED, self.cache.clock)
                return
            touched.counts.forwards[Outcome.METHOD] += 1
            self._response: DelayedResponse | HeldResponse
            if refuses or settings.cache_strict_hold:
                # With `refuse` too: an application that commits after its answer would otherwise
                # have acknowledged before the purge could be confirmed.
                self._response = HeldResponse(
                    self.service, self.cache, self.send, self._purge, refuses=refuses
                )
            else:
                self._response = DelayedResponse(self.send, self._purge)
            # Layers of the application change the scope.
            self._router = scope.get("router")
            self._arrived = {
                "method": scope["method"],
                "path": scope["path"],
                "root_path": scope.get("root_path"),
            }
            if not touched.is_known or targets.routes.has_several_routers:
                self._before = dict(scope)
            if settings.cache_store_post:
                self._post_copy = await post_copy_of(self)
            await self._forward()

    async def _forward(self) -> None:
        # The fate of a write is unknown too where the application returns without an answer.
        self._purges = self.service.settings.cache_errors_purge
        self._noted = Dependencies.of(self.cache.store, self.scope, mutating=True)
        token = current_dependencies.set(self._noted)
        receive = self.receive if self._post_copy is None else self._post_copy.receive
        try:
            await self.service.app(self.scope, receive, self._send)
        except BaseException as error:
            # It is unknown what a handler changed that failed or was cancelled.
            if self._status is None or self._status >= 400:
                self._status, self._purges = 500, self.service.settings.cache_errors_purge
            self._response.abort(cancelled=not isinstance(error, Exception))
            if self._post_copy is not None:
                self._post_copy.forget()
            raise
        finally:
            current_dependencies.reset(token)
            # The answer may still wait for its first purge: then one write serves both purges.
            purged_again = self._purge_again()
            try:
                await self._response.finish(purged_again)
            finally:
                if purged_again.cancelled() and _is_cancelled():
                    # The wait for it was, not its write: an outer layer that answers waits too.
                    await self.cache.purger.purge_again(self._noted, self._stale_groups())
            # It knows this responder: the two would wait for the garbage collector.
            del self._response

    def _send(self, message: Message) -> Awaitable[None]:
        """Take a message of the application's answer."""
        if get_ident() != self.thread and not runs_asyncio():
            return send_in_loop(self._send, message)
        if message["type"] == "http.response.start":
            message = self._start(message)
            self._response.begin()
        elif self._post_copy is not None:
            self._post_copy.body(message)
        return self._response.send(message)

    def _start(self, message: Message) -> Message:
        """Note what the answer says of its purge; return the message as it leaves."""
        service, touched = self.service, self._touched
        settings, targets = service.settings, service.targets
        self._status = status = message["status"]
        self._purges = invalidates(status, errors_purge=settings.cache_errors_purge)
        is_new = targets.routes.learn(self.scope, self._router) and touched.is_known
        if self._before is not None:
            # The router that has answered counts above the foreseen one.
            router = self.scope.get("router")
            self._touched = touched = targets.touched(self._before, self.headers, router)
            self._groups = touched.groups
        if is_new:
            # Responses of its routes may have been stored by other processes.
            self._groups = (NAMESPACE_GROUP, *self._groups)
        headers = Headers(tuple(message.get("headers", ())))
        if named := answer_groups(self, headers, changes=bool(touched.groups)):
            self._groups = tuple(dict.fromkeys((*self._groups, *named)))
        if self._post_copy is not None and not targets.routes.has_several_routers:
            # Else it is unknown which route a GET would meet, and what that one checks.
            self._post_copy.start(message)
        lines = service.outgoing(headers, self.cache.clock)
        if settings.cache_status_header:
            lines.append(_STATUS)
        return {**message, "headers": lines}

    def _purge(self) -> "asyncio.Future[bool]":
        """Purge what is stale by now; return whether that is confirmed."""
        known = None if self._post_copy is None else self._post_copy.tokens
        self._first = self.cache.purger.purge(self._stale_groups(), known)
        return self._first

    def _stale_groups(self) -> Sequence[str]:
        """Return the groups that the request has made stale."""
        groups, noted = self._groups if self._purges else (), self._noted
        if self._purges and self.scope["path"] != self._arrived["path"]:
            # A layer inside has rewritten the path: the router has seen this one.
            seen = {**self.scope, **self._arrived, "path": self.scope["path"]}
            groups = (*groups, *self.service.targets.touched(seen, self.headers).groups)
        if not noted.changed():
            return groups
        # A value that was set may never have been committed if the request failed.
        failed = self._status is None or self._status >= 400
        values = noted.typed_writes if failed else ()
        return tuple(dict.fromkeys((*groups, *noted.purged, *values)))

    def _purge_again(self) -> "asyncio.Future[bool]":
        """Purge what is stale now that all has run; return whether that is confirmed.

        Dependencies with `yield` commit after the answer was sent, and background tasks run then.
        """
        purger, groups = self.cache.purger, self._stale_groups()
        if groups and self._touched.reads:
            self.cache.tally.count_write(self._touched.route, self._touched.reads)
        if self._post_copy is None:
            return purger.purge_again(self._noted, groups, None, self._first)
        purged = purger.purge_again(self._noted, groups, self._post_copy.tokens)
        return self.cache.background.shielded(self._post_copy.finish(purged, self._noted))


def _is_cancelled() -> bool:
    """Return whether the request itself is cancelled; if not, the cache is closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
