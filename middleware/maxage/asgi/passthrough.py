"""Requests that the application answers without a lookup."""

from collections.abc import Awaitable
from typing import Final

from maxage.asgi.cache_status import CacheStatus
from maxage.asgi.service import Service
from maxage.asgi.types import Message, Receive, Scope, Send
from maxage.cache.cache import Cache
from maxage.cache.target import Target
from maxage.invalidation.dependencies import Dependencies, current_dependencies

_URI_MISS: Final = CacheStatus(fwd="uri-miss").header_value()


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
    try:
        await service.app(scope, receive, send)
    finally:
        current_dependencies.reset(token)
        if dependencies.changed:
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

    Args:
        service: of the middleware.
        cache: of the middleware.
        scope: of the request.
        receive: of the request.
        send: of the request.
        status: our member of Cache-Status.
        unstorable: the target, if its responses are known to forbid storing; it is looked up again
            when one does not.
    """

    def send_outgoing(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = service.outgoing(message.get("headers", ()), now=cache.clock())
            if unstorable is not None:
                unstorable.recheck_unstorable(headers)
            if status is not None and service.settings.cache_status_header:
                headers.append((b"cache-status", status))
            message = {**message, "headers": headers}
        return send(message)

    outer = current_dependencies.get()
    dependencies = Dependencies(mutating=False, store=cache.store, outer=outer)
    return call_noting(service, cache, dependencies, scope, receive, send_outgoing)


def pass_unstorable(  # noqa: PLR0917 - as ASGI calls an application, in whose place it is
    service: Service, cache: Cache, target: Target, scope: Scope, receive: Receive, send: Send
) -> Awaitable[None]:
    """Let the application answer a request whose response is known to be unstorable."""
    cache.counters.misses += 1
    return pass_on(service, cache, scope, receive, send, status=_URI_MISS, unstorable=target)
