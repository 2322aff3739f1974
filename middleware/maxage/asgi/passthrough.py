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
    service: Service,
    cache: Cache,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    status: bytes | None = None,
    unstorable: Target | None = None,
) -> Awaitable[None]:
    """Let the application answer a safe request; nothing is looked up, and nothing stored.

    Neither this function nor the `send` that it passes on is a coroutine: such requests cost almost
    nothing.

    `status` is our member of Cache-Status. It follows from `unstorable`, the target, if its
    responses are known to forbid storing. It is looked up again when one does not.
    """

    def send_outgoing(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = Headers(tuple(message.get("headers", ())))
            said = status if unstorable is None else _said_of(unstorable, headers)
            lines = service.outgoing(headers, cache.clock)
            if said is not None and service.sends_status:
                lines.append((b"cache-status", said))
            message = {**message, "headers": lines}
        return send(message)

    dependencies = Dependencies.of(cache.store, scope)
    return call_noting(service, cache, dependencies, scope, receive, send_outgoing)


def pass_unstorable(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service, cache: Cache, target: Target, scope: Scope, receive: Receive, send: Send
) -> Awaitable[None]:
    """Let the application answer a request whose response is known to be unstorable."""
    target.counts.forwards[Outcome.URI_MISS] += 1
    return pass_on(service, cache, scope, receive, send, unstorable=target)


def _said_of(target: Target, headers: Headers) -> bytes:
    """Count why a response is not stored; return our member of Cache-Status."""
    reason = target.recheck_unstorable(headers)
    target.counts.not_stored[reason] += 1
    return _UNSTORABLE[reason]


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
    return pass_on(service, cache, scope, receive, send, status=_PASSED_BY[reason])
