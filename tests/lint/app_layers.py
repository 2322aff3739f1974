"""Layers of an application: a session, a rate limit, and a check of a key."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response

CALLS: dict[str, int] = {}


class ServerSessionMiddleware:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


async def limit_rate(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return Response(status_code=429) if CALLS.get("limit") else await call_next(request)


async def ask_key(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    if request.headers.get("x-key") != "k":
        return Response(status_code=401)
    request.state.employee = request.headers["x-employee"]
    return await call_next(request)
