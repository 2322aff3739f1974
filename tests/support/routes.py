"""Routes as most APIs have them, and which requests purge which paths."""

from typing import Any

from fastapi import APIRouter, FastAPI

from maxage.invalidation.groups import RouteGroups
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


def groups(of: RouteTable, path: str) -> set[str]:
    """The groups of the stored response of a path."""
    found = of.match("GET", path)
    assert found is not None, path
    return set(RouteGroups(of).groups_of(found))


def touched(of: RouteTable, method: str, path: str) -> set[str]:
    """The groups that a write purges."""
    found = of.match(method, path)
    assert found is not None, path
    return set(RouteGroups(of).touched_by(found))


def purges(of: RouteTable, request: str, path: str) -> bool:
    """Whether such a request makes the stored response of the path a miss."""
    method, target = request.split()
    return bool(touched(of, method, target) & groups(of, path))


async def unreadable(scope: Any, receive: Any, send: Any) -> None:
    """An application whose routes cannot be read."""
