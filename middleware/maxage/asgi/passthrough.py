"""Requests that the application answers without a lookup."""

from collections.abc import Awaitable
from typing import Final

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.service import Service
from maxage.asgi.types import Message, Receive, Scope, Send
from maxage.cache.cache import Cache
from maxage.cache.target import Target
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.observe import latency
from maxage.observe.counters import RouteCounts
from maxage.observe.words import Bypass, Outcome, Reason
from maxage.rfc9111.message import Headers

_PASSED_BY: Final = {
    reason: CacheStatus(fwd="bypass", detail=reason).header_value() for reason in Bypass
}
_UNSTORABLE: Final = {
    reason: CacheStatus(fwd="uri-miss", detail=reason).header_value()
    for reason in (Reason.NO_STORE, Reason.PRIVATE, Reason.RELEARNT)
}


async def call_noting(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service,
    cache: Cache,
    dependencies: Dependencies,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Call the application, and purge again, when the call has returned, the groups it purged."""
    token = current_dependencies.set(dependencies)
    app = service.app if latency.timer is None else latency.timer.around(service.app)
    try:
        await app(scope, receive, send)
    finally:
        current_dependencies.reset(token)
        if dependencies.changed():
            await cache.purger.purge_again(dependencies, dependencies.purged)


def pass_on(
    service: Service, cache: Cache, scope: Scope, receive: Receive, send: Send
) -> Awaitable[None]:
    """Let the application answer a request of which the cache has nothing to say.

    Its answer is passed on without a member of Cache-Status: such requests cost almost nothing.
    """
    send = _sending_outgoing(service, cache, send, None)
    return call_noting(service, cache, Dependencies.of(cache.store, scope), scope, receive, send)


def _sending_outgoing(service: Service, cache: Cache, send: Send, status: bytes | None) -> Send:
    """Return a `send` that gives a response the headers by which it leaves.

    `status` is our member of Cache-Status. The `send` is no coroutine, which would cost more.
    """

    def send_outgoing(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = Headers(tuple(message.get("headers", ())))
            lines = service.outgoing(headers, cache.clock)
            if status is not None and service.sends_status:
                lines.append((b"cache-status", status))
            message = {**message, "headers": lines}
        return send(message)

    return send_outgoing


def pass_unstorable(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service, cache: Cache, target: Target, scope: Scope, receive: Receive, send: Send
) -> Awaitable[None]:
    """Let the application answer a request whose response is known to be unstorable.

    The URL is looked up again when a response does not forbid storing.
    """

    def send_unstorable(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = Headers(tuple(message.get("headers", ())))
            reason = target.recheck_unstorable(headers)
            target.counts.not_stored[reason] += 1
            lines = service.outgoing(headers, cache.clock)
            if service.sends_status:
                lines.append((b"cache-status", _UNSTORABLE[reason]))
            message = {**message, "headers": lines}
        return send(message)

    target.counts.forwards[Outcome.URI_MISS] += 1
    dependencies = Dependencies.of(cache.store, scope)
    return call_noting(service, cache, dependencies, scope, receive, send_unstorable)


def pass_by(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service,
    cache: Cache,
    counts: RouteCounts,
    reason: Bypass,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Awaitable[None]:
    """Let the application answer a request that is not looked up, and say why."""
    counts.bypasses[reason] += 1
    send = _sending_outgoing(service, cache, send, _PASSED_BY[reason])
    return call_noting(service, cache, Dependencies.of(cache.store, scope), scope, receive, send)
