"""Routes as most APIs have them, and which requests purge which paths."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI

from maxage.invalidation.groups import PurgeMode, RouteGroups
from maxage.routing.route_policy import route_policy
from maxage.routing.route_table import RouteTable
from maxage.routing.router import read_routes


def endpoint() -> None:
    """An endpoint without parameters."""


def items(prefix: str = "/items", **options: Any) -> APIRouter:
    """The routes of a collection: lists, members, an action and reviews of each member."""
    router = APIRouter(prefix=prefix, **options)
    router.get("")(endpoint)
    router.post("")(endpoint)
    router.get("/search")(endpoint)
    router.get("/{item_id}")(by_item)
    router.put("/{item_id}")(by_item)
    router.delete("/{item_id}")(by_item)
    router.post("/{item_id}/publish")(by_item)
    router.get("/{item_id}/reviews")(by_item)
    router.post("/{item_id}/reviews")(by_item)
    router.get("/{item_id}/reviews/{review_id}")(by_review)
    router.delete("/{item_id}/reviews/{review_id}")(by_review)
    return router


def by_item(item_id: int) -> None:
    """An endpoint of one item."""


def by_review(item_id: int, review_id: str) -> None:
    """An endpoint of one review of an item."""


def table_of(*routers: APIRouter) -> RouteTable:
    """The routes of an application that includes these routers."""
    app = FastAPI(openapi_url=None)
    for router in routers:
        app.include_router(router)
    return read_routes(app.routes)


def table_for(lines: Sequence[str]) -> RouteTable:
    """The routes of an application by their methods and templates, such as `GET /items/{id}`."""
    app = FastAPI(openapi_url=None)
    for line in lines:
        method, template = line.split()
        app.api_route(template, methods=[method])(endpoint)
    return read_routes(app.routes)


def groups_by(of: RouteTable, mode: PurgeMode = "matching") -> RouteGroups:
    """The groups of an application without rules."""
    return RouteGroups(
        of, mode, lambda r: route_policy(default_lifetime=60, rules=(), control=r.control)
    )


def groups(of: RouteTable, path: str, mode: PurgeMode = "matching") -> set[str]:
    """The groups of the stored response of a path."""
    found = of.match("GET", path)
    assert found is not None, path
    return set(groups_by(of, mode).groups_of(found))


def touched(of: RouteTable, request: str, mode: PurgeMode = "matching") -> set[str]:
    """The groups that a write purges."""
    method, path = request.split()
    found = of.match(method, path)
    assert found is not None, path
    return set(groups_by(of, mode).touched_by(found))


def purges(of: RouteTable, request: str, path: str, mode: PurgeMode = "matching") -> bool:
    """Whether such a request makes the stored response of the path a miss."""
    return bool(touched(of, request, mode) & groups(of, path, mode))


def orphans(lines: Sequence[str]) -> list[str]:
    """The templates of the reads that no write of these routes reaches."""
    return [route.template for route in groups_by(table_for(lines)).orphans]


async def unreadable(scope: Any, receive: Any, send: Any) -> None:
    """An application whose routes cannot be read."""
