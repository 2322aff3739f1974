"""Targets: the groups of a URL, also while the routes are read."""

from threading import Barrier
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from maxage.cache import targets as module
from maxage.invalidation.groups import RouteGroups
from maxage.rfc9111.message import Headers
from tests.support.asgi import http_scope
from tests.support.caching import cache_of
from tests.support.threads import run_side_by_side


async def nothing(_request: object) -> None:
    """Never called."""


def routes() -> list[Route]:
    """A read that each write beneath another path reaches."""
    return [
        Route("/items/{id}/notes/{note}", nothing),
        Route("/items/{other}/notes", nothing, methods=["DELETE"]),
        Route("/{kind}/{id}/notes/new", nothing, methods=["POST"]),
    ]


@pytest.mark.parametrize("known_before", [False, True])
def test_a_request_while_the_routes_are_read(
    monkeypatch: pytest.MonkeyPatch, *, known_before: bool
) -> None:
    """Another thread's request may come then. What is found out for it holds for it alone."""
    app = Starlette(routes=routes())
    targets = cache_of(app).targets
    asked = [http_scope(path=f"/items/{number}/notes/1") for number in range(2)]

    def groups(number: int) -> tuple[str, ...]:
        return targets.find(asked[number], Headers()).groups

    class Reading(RouteGroups):
        def __init__(self, *arguments: Any) -> None:
            groups(0)
            super().__init__(*arguments)

    if known_before:
        groups(0)
        app.router.routes.append(Route("/more", nothing))
    monkeypatch.setattr(module, "RouteGroups", Reading)
    found = groups(1)
    monkeypatch.undo()
    fresh = cache_of(app).targets
    assert [groups(0), found] == [fresh.find(each, Headers()).groups for each in asked]


def test_routes_that_several_threads_ask_for_first() -> None:
    """They are read once: groups and routes of two readings would not belong together."""
    targets, asked = cache_of(Starlette(routes=routes())).targets, http_scope(path="/items/1")
    threads = 6
    barrier = Barrier(threads)

    def ask() -> None:
        barrier.wait()
        targets.find(asked, Headers())

    run_side_by_side(ask, threads)
    assert targets.routes.generation == 1
