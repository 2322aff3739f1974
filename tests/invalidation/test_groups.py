"""Groups: which ones a path is in, and which ones a write purges."""

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from maxage.invalidation.groups import fallback_groups, fallback_touched
from maxage.routing.router import read_routes
from tests.support.routes import by_item, endpoint, items, purges, table_of, unreadable


def test_the_same_router_under_two_prefixes_is_one_thing_in_two_places() -> None:
    """The same handlers answer in both, so that a write in one place is seen in the other."""
    router = items()
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    both = read_routes(app.routes)
    for place in ("/v1", "/v2"):
        for path in ("/items", "/items/5", "/items/5/reviews", "/items/search"):
            assert purges(both, "PUT /v1/items/5", place + path), place + path
            assert purges(both, "POST /v2/items/5/publish", place + path), place + path
        assert not purges(both, "PUT /v1/items/5", place + "/items/6")


def test_two_routers_with_the_same_templates_are_two_collections() -> None:
    """Only what is the same route is the same thing."""
    app = FastAPI(openapi_url=None)
    app.include_router(items(), prefix="/v1")
    app.include_router(items(), prefix="/v2")
    both = read_routes(app.routes)
    assert purges(both, "PUT /v1/items/5", "/v1/items")
    assert not purges(both, "PUT /v1/items/5", "/v2/items")
    assert not purges(both, "PUT /v1/items/5", "/v2/items/5")


def test_an_application_mounted_twice_is_one_thing_in_two_places() -> None:
    """As a router included twice; a place whose path cannot be told is left alone."""
    inner = FastAPI(openapi_url=None)
    inner.include_router(items())
    app = Starlette(routes=[Mount(at, app=inner) for at in ("/a", "/b", "/{tenant}")])
    mounted = read_routes(app.routes)
    assert purges(mounted, "DELETE /a/items/5", "/b/items")
    assert purges(mounted, "DELETE /x/items/5", "/b/items/5")
    assert not purges(mounted, "DELETE /a/items/5", "/x/items/5")


def test_a_collection_whose_members_know_only_actions_is_one_all_the_same() -> None:
    """`POST /items/5/publish` changes the lists also where no PUT does."""
    app = FastAPI(openapi_url=None)
    app.get("/items")(endpoint)
    app.get("/items/search")(endpoint)
    app.post("/items/{item_id}/publish")(by_item)
    app.get("/items/{item_id}/history")(by_item)
    of = read_routes(app.routes)
    for path in ("/items", "/items/search", "/items/5/history"):
        assert purges(of, "POST /items/5/publish", path), path
    assert not purges(of, "POST /items/5/publish", "/items/6/history")


def test_nested_resources_touch_their_own_collection() -> None:
    """Orders of one user: not those of another, and not the user."""
    app = FastAPI(openapi_url=None)
    for path in ("/users", "/users/{u}", "/users/{u}/orders", "/users/{u}/orders/{o}"):
        app.get(path)(endpoint)
    app.put("/users/{u}/orders/{o}")(endpoint)
    app.put("/users/{user}")(endpoint)
    of = read_routes(app.routes)
    for path in ("/users/1/orders", "/users/1/orders/2"):
        assert purges(of, "PUT /users/1/orders/2", path), path
        assert purges(of, "PUT /users/1", path), path
    for path in ("/users/2/orders", "/users/1/orders/3", "/users/1", "/users"):
        assert not purges(of, "PUT /users/1/orders/2", path), path
    assert purges(of, "PUT /users/1", "/users")


def test_a_parameter_that_takes_slashes_is_a_tree() -> None:
    """A file in a folder: the folder's listing shows it, its neighbours do not."""
    app = FastAPI(openapi_url=None)
    app.get("/files")(endpoint)
    app.get("/files/{path:path}")(endpoint)
    app.put("/files/{path:path}")(endpoint)
    of = read_routes(app.routes)
    for path in ("/files", "/files/a", "/files/a/b", "/files/a/b/c"):
        assert purges(of, "PUT /files/a/b", path), path
    assert not purges(of, "PUT /files/a/b", "/files/a/c")
    assert not purges(of, "PUT /files/a/b", "/files/d")


@pytest.mark.parametrize("path", ["/files/a//b", "/files//b", "/files///a/b", "/files/a//b//"])
def test_a_write_purges_its_own_path_however_many_slashes_it_has(path: str) -> None:
    """A parameter that takes slashes takes several in a row."""
    app = FastAPI(openapi_url=None)
    app.get("/files/{path:path}")(endpoint)
    app.put("/files/{path:path}")(endpoint)
    of = read_routes(app.routes)
    assert purges(of, f"PUT {path}", path)
    assert purges(of, f"PUT {path}", path + "/c")


def test_a_mount_with_a_parameter_keeps_its_members_apart() -> None:
    """One collection for each tenant."""
    app = FastAPI(openapi_url=None)
    tenant = FastAPI(openapi_url=None)
    tenant.include_router(items())
    app.mount("/{tenant}", tenant)
    mounted = read_routes(app.routes)
    assert purges(mounted, "PUT /a/items/5", "/a/items")
    assert not purges(mounted, "PUT /a/items/5", "/b/items")


def test_a_mounted_application_that_cannot_be_read_is_taken_by_its_segments() -> None:
    """Any method, any path beneath; a write touches the path above too."""
    app = Starlette(routes=[Route("/a", endpoint), Mount("/files", app=unreadable)])
    mounted = read_routes(app.routes)
    found = mounted.match("PATCH", "/files/a/b")
    assert found is not None
    assert found.route.opaque
    assert purges(mounted, "PUT /files/a/b", "/files/a/b")
    assert purges(mounted, "PUT /files/a/b", "/files/a")
    assert purges(mounted, "DELETE /files/a", "/files/a/b")
    assert not purges(mounted, "PUT /files/a/b", "/files/a/c")
    found = mounted.match("GET", "/a")
    assert found is not None
    assert not found.route.opaque


# what is purged


@pytest.mark.parametrize(
    ("request_line", "fresh", "stale"),
    [
        (
            "PUT /items/5",
            ["/items/5", "/items", "/items/search", "/items/5/reviews", "/items/5/reviews/a"],
            ["/items/6", "/items/6/reviews"],
        ),
        ("DELETE /items/5", ["/items/5", "/items", "/items/5/reviews/a"], ["/items/6"]),
        ("POST /items", ["/items", "/items/search"], []),
        ("POST /items/5/publish", ["/items/5", "/items", "/items/search"], ["/items/6"]),
        (
            "POST /items/5/reviews",
            ["/items/5/reviews", "/items/5/reviews/a"],
            ["/items/6", "/items/6/reviews"],
        ),
        (
            "DELETE /items/5/reviews/a",
            ["/items/5/reviews/a", "/items/5/reviews"],
            ["/items/5/reviews/b", "/items/6/reviews", "/items/6"],
        ),
    ],
)
def test_a_write_touches_what_it_changed_and_nothing_else(
    request_line: str, fresh: list[str], stale: list[str]
) -> None:
    """The target, what lies beneath it, and the views of its collection."""
    of = table_of(items())
    assert {path: purges(of, request_line, path) for path in (*fresh, *stale)} == (
        dict.fromkeys(fresh, True) | dict.fromkeys(stale, False)
    )


def test_collections_beside_each_other_are_left_alone() -> None:
    """Items and orders."""
    of = table_of(items("/items"), items("/orders"))
    assert not purges(of, "PUT /items/5", "/orders")
    assert not purges(of, "PUT /items/5", "/orders/5")


def test_a_write_to_a_trailing_slash_reaches_both_spellings() -> None:
    """And the other way round."""
    of = table_of(items())
    assert purges(of, "PUT /items/5/", "/items/5")
    assert purges(of, "PUT /items/5", "/items/")


@pytest.mark.parametrize("path", ["/import", "/bulk/import", "/5/very/deep/import"])
def test_an_action_on_a_collection_touches_all_of_it(path: str) -> None:
    """Also where `GET /items/{item_id}` would match the action's path or a part of it."""
    router = items()
    router.post(path)(endpoint)
    of = table_of(router)
    for touched_path in ("/items", "/items/search", "/items/5", "/items/6/reviews"):
        assert purges(of, f"POST /items{path}", touched_path)


def test_a_view_that_also_takes_post_is_no_action() -> None:
    """`POST /items/search`, with a GET of its own, touches the views and no member."""
    router = items()
    router.post("/search")(endpoint)
    of = table_of(router)
    assert purges(of, "POST /items/search", "/items/search")
    assert purges(of, "POST /items/search", "/items")
    assert not purges(of, "POST /items/search", "/items/5")


def test_an_unknown_path_is_taken_by_its_segments() -> None:
    """Itself, what lies beneath, its parent as a list; not its siblings."""
    assert set(fallback_touched("/a/b")) & set(fallback_groups("/a/b"))
    assert set(fallback_touched("/a/b")) & set(fallback_groups("/a/b/c"))
    assert set(fallback_touched("/a/b")) & set(fallback_groups("/a"))
    assert not set(fallback_touched("/a/b")) & set(fallback_groups("/a/c"))
    assert not set(fallback_touched("/a/b")) & set(fallback_groups("/"))


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 1000])
def test_a_deep_unknown_path_has_a_bounded_number_of_groups(depth: int) -> None:
    """A hostile path costs no more than 33 tokens."""
    path = "/a" * depth
    assert len(fallback_groups(path)) <= 33
    assert set(fallback_touched(path)) & set(fallback_groups(path))


def test_a_write_by_another_spelling_purges() -> None:
    """`PUT /items/05` changes `/items/5`."""
    assert purges(table_of(items()), "PUT /items/05", "/items/5")
    assert purges(table_of(items()), "PUT /items/5", "/items/0005/reviews")
