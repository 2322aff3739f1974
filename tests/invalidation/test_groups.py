"""Groups: which ones a path is in, and which ones a write purges."""

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from maxage.invalidation.groups import PurgeMode, RouteGroups, fallback_groups, fallback_touched
from maxage.routing.route_policy import cached
from maxage.routing.router import read_routes
from tests.support.routes import (
    by_item,
    endpoint,
    items,
    orphans,
    purges,
    table_for,
    table_of,
    touched,
    unreadable,
)  # fmt: skip


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
    app.include_router(items(), prefix="/shop")
    app.include_router(items(), prefix="/depot")
    both = read_routes(app.routes)
    assert purges(both, "PUT /shop/items/5", "/shop/items")
    assert not purges(both, "PUT /shop/items/5", "/depot/items")
    assert not purges(both, "PUT /shop/items/5", "/depot/items/5")


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(("old", "new"), [("/v1", "/v2"), ("", "/v2"), ("/latest", "/2026-01")])
def test_two_versions_of_one_api_show_one_thing(prefix: str, old: str, new: str) -> None:
    """Each has routes of its own, and a member of one is that member of the other."""
    old, new = prefix + old, prefix + new
    both = table_for(
        [
            f"GET {old}/items",
            f"GET {old}/items/{{id}}",
            f"PUT {old}/items/{{id}}",
            f"GET {old}/orders",
            f"POST {old}/orders",
            f"GET {new}/items",
            f"POST {new}/items",
            f"GET {new}/items/{{item_id}}",
            f"PUT {new}/items/{{item_id}}",
            f"GET {new}/orders",
            f"POST {new}/orders",
        ]
    )
    for one, other in ((old, new), (new, old)):
        assert purges(both, f"PUT {one}/items/5", f"{other}/items/5")
        assert purges(both, f"PUT {one}/items/5", f"{other}/items")
        assert not purges(both, f"PUT {one}/items/5", f"{other}/items/6")
        assert not purges(both, f"PUT {one}/items/5", f"{other}/orders")


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_write_at_the_path_of_a_version_inside_of_another_one_purges_its_path(
    prefix: str,
) -> None:
    inner = f"/v2{prefix}/v1/items"
    both = table_for([f"GET {inner}", f"PUT {inner}", f"POST {prefix}/v1"])
    assert f"p:{prefix}/v1" in touched(both, f"POST {prefix}/v1")


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(("old", "new"), [("/v1", "/v2"), ("", "/v2"), ("/v1", "")])
def test_a_version_may_only_show_what_another_one_changes(prefix: str, old: str, new: str) -> None:
    """Nothing in it is read and written there; what it does write purges all of it."""
    old, new = prefix + old, prefix + new
    both = table_for(
        [
            f"GET {old}/items/{{id}}",
            f"PUT {old}/items/{{id}}",
            f"GET {new}/item/{{id}}",
            f"GET {new}/reports",
            f"POST {new}/refresh",
            f"POST {old}/item/{{id}}/publish",
            f"POST {old}/reports",
        ]
    )
    assert purges(both, f"PUT {old}/items/5", f"{new}/item/5")
    assert purges(both, f"POST {old}/item/5/publish", f"{new}/item/5")
    assert not purges(both, f"POST {old}/item/5/publish", f"{new}/item/6")
    assert not purges(both, f"POST {old}/reports", f"{new}/item/5")
    if new.endswith("v2"):
        assert purges(both, f"POST {new}/refresh", f"{new}/reports")


def test_a_parameter_beneath_a_version_belongs_to_the_trees_of_all() -> None:
    """As it does without a version."""
    both = table_for(
        ["GET /v1/pages", "PUT /v1/{slug}", "GET /pages", "POST /pages", "GET /v2/pages"]
    )
    for path in ("/v1/pages", "/pages", "/v2/pages"):
        assert purges(both, "PUT /v1/pages", path), path


def test_parameters_of_unlike_names_prove_nothing() -> None:
    """A slug may be another name of the member with that number; `{item_id}` is its `{id}`."""
    posts = table_for(
        ["GET /posts", "GET /posts/{slug}", "PUT /posts/{id}", "GET /posts/{post_id}/tags"]
    )
    assert purges(posts, "PUT /posts/5", "/posts/tea")
    assert purges(posts, "PUT /posts/5", "/posts/5/tags")
    assert not purges(posts, "PUT /posts/5", "/posts/6/tags")


def test_two_parameters_like_a_third_need_not_be_like_each_other() -> None:
    """Else a route of an `{id}` would be the proof that a thing's number is its owner's."""
    things = table_for(
        ["GET /things/{id}", "GET /things/{owner_id}/list", "PUT /things/{thing_id}"]
    )
    assert purges(things, "PUT /things/5", "/things/7/list")
    assert purges(things, "PUT /things/5", "/things/5")


def test_a_member_beneath_the_root_purges_the_list_at_the_root() -> None:
    """The resource is the root itself."""
    root = table_for(["GET /", "POST /", "GET /{id}", "DELETE /{id}"])
    assert purges(root, "DELETE /3", "/")
    assert purges(root, "DELETE /3", "/3")
    assert not purges(root, "DELETE /3", "/4")


def test_a_verb_behind_a_colon_belongs_to_the_word_in_front() -> None:
    """Google's custom methods."""
    books = table_for(
        [
            "GET /books",
            "GET /books/{id}",
            "PUT /books/{id}",
            "POST /books:batchDelete",
            "GET /books:search",
            "GET /booksellers",
            "POST /booksellers",
        ]
    )
    assert purges(books, "POST /books:batchDelete", "/books")
    assert purges(books, "POST /books:batchDelete", "/books/5")
    assert purges(books, "PUT /books/5", "/books:search")
    assert not purges(books, "POST /books:batchDelete", "/booksellers")


@pytest.mark.parametrize(("one", "many"), [("user", "users"), ("box", "boxes"), ("city", "cities")])
def test_a_word_and_its_plural_are_one_resource(one: str, many: str) -> None:
    """Each with a write of its own."""
    both = table_for([
        f"GET /{many}", f"POST /{many}", f"GET /{one}/{{id}}", f"PUT /{one}/{{id}}",
        f"GET /{many}hips", f"POST /{many}hips",
    ])  # fmt: skip
    assert purges(both, f"PUT /{one}/5", f"/{many}")
    assert purges(both, f"POST /{many}", f"/{one}/5")
    assert not purges(both, f"PUT /{one}/5", f"/{many}hips")
    assert not purges(both, f"PUT /{one}/5", f"/{one}/6")


def test_a_read_that_is_reached_by_its_plural_alone_stays_an_orphan() -> None:
    """`/total` may be the sum of `/rows`, and have nothing to do with `/totals`."""
    routes = ["GET /rows", "PUT /rows/{id}", "GET /total", "GET /totals", "PUT /totals/{id}"]
    assert orphans(routes) == ["/total"]
    assert purges(table_for(routes), "PUT /rows/5", "/total")
    assert purges(table_for(routes), "PUT /totals/5", "/total")


def test_a_read_that_all_writes_reach_by_its_plural_alone_stays_an_orphan() -> None:
    """They reach it for one tenant alone, and a write without a known route does not."""
    routes = ["GET /{tenant}/items", "GET /{tenant}/item", "POST /{tenant}/item"]
    assert orphans(routes) == ["/{tenant}/items"]
    assert purges(table_for(routes), "POST /a/item", "/b/items")


@pytest.mark.parametrize(
    "at_root", [["POST /"], ["POST /", "DELETE /{code}", "GET /{code}"], ["PUT /{tenant}/users"]]
)
def test_a_read_that_is_reached_from_the_root_alone_stays_an_orphan(at_root: list[str]) -> None:
    """All lies beneath the root, and may show what is written elsewhere."""
    routes = ["GET /", *at_root, "GET /robots.txt", "GET /shop/settings", "PATCH /shop/settings"]
    assert "/robots.txt" in orphans(routes)
    assert "/shop/settings" not in orphans(routes)
    assert purges(table_for(routes), "PATCH /shop/settings", "/robots.txt")


def test_a_write_at_the_root_is_known_for_what_is_shown_there() -> None:
    """The list, and its members."""
    assert orphans(["GET /", "POST /", "GET /{id}", "DELETE /{id}", "PUT /settings"]) == []
    assert orphans(["GET /", "POST /", "GET /settings", "PUT /settings"]) == []


def test_an_application_mounted_twice_is_one_thing_in_two_places() -> None:
    """As a router included twice; a parameter may stand for the word of the other place."""
    inner = FastAPI(openapi_url=None)
    inner.include_router(items())
    app = Starlette(routes=[Mount(at, app=inner) for at in ("/a", "/b", "/{tenant}")])
    mounted = read_routes(app.routes)
    assert purges(mounted, "DELETE /a/items/5", "/b/items")
    assert purges(mounted, "DELETE /x/items/5", "/b/items/5")
    assert purges(mounted, "DELETE /a/items/5", "/x/items/5")
    assert not purges(mounted, "DELETE /a/items/5", "/a/items/6")


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


def test_nested_resources_touch_all_that_is_not_about_another() -> None:
    """An order of one user: the user and the list of users, no other order and no other user."""
    app = FastAPI(openapi_url=None)
    for path in ("/users", "/users/{u}", "/users/{u}/orders", "/users/{u}/orders/{o}"):
        app.get(path)(endpoint)
    app.put("/users/{u}/orders/{o}")(endpoint)
    app.put("/users/{user}")(endpoint)
    of = read_routes(app.routes)
    for path in ("/users", "/users/1", "/users/1/orders", "/users/1/orders/2"):
        assert purges(of, "PUT /users/1/orders/2", path), path
        assert purges(of, "PUT /users/1", path), path
    for path in ("/users/2", "/users/2/orders", "/users/2/orders/2", "/users/1/orders/3"):
        assert not purges(of, "PUT /users/1/orders/2", path), path


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
    """Any method, any path beneath; a write touches the paths above too."""
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
    # A read without a write of its own may show what the mounted application writes.
    assert purges(mounted, "PUT /files/a/b", "/a")


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
            ["/items/5/reviews/a", "/items/5/reviews", "/items/5", "/items", "/items/search"],
            ["/items/5/reviews/b", "/items/6/reviews", "/items/6"],
        ),
    ],
)
def test_a_write_touches_what_it_changed_and_nothing_else(
    request_line: str, fresh: list[str], stale: list[str]
) -> None:
    """All of its resource except other members."""
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


def test_a_search_by_post_may_be_a_change() -> None:
    """Its route says if it is none: `invalidates_only()`."""
    router = items()
    router.post("/search")(endpoint)
    for path in ("/items/search", "/items", "/items/5"):
        assert purges(table_of(router), "POST /items/search", path)


# applications that follow no convention: one table each, and what its writes reach


VERBS = ["GET /users/list", "GET /users/get/{id}", "POST /users/create", "PATCH /users/update/{id}",
         "DELETE /users/delete/{id}", "POST /users/{id}/image", "GET /media/users/{id}/{name}",
         "GET /orders", "POST /orders"]  # fmt: skip
PROJECTS = ["GET /api/projects", "GET /api/projects/{project}", "GET /api/{project}/versions",
            "POST /api/{project}/{version}/hide", "GET /api/search", "GET /stats"]  # fmt: skip
PREFIXED = ["GET /api/v1/items", "GET /api/v1/items/{id}", "PUT /api/v1/items/{id}",
            "GET /api/v1/orders/{id}", "POST /api/v1/orders", "POST /api/v1/login",
            "GET /api/v1/summary", "GET /"]  # fmt: skip
TREES = ["GET /items", "GET /items/{id}", "GET /items/{item_id}/history", "PUT /items/{id}",
         "GET /orders", "POST /orders", "GET /dashboard", "PATCH /items/update/{id}"]  # fmt: skip


@pytest.mark.parametrize(
    ("routes", "request_line", "purged", "kept"),
    [
        (VERBS, "PATCH /users/update/1", ["/users/list", "/users/get/1", "/users/get/2"],
         ["/orders"]),
        (VERBS, "POST /users/create", ["/users/list", "/users/get/1"], ["/orders"]),
        (VERBS, "POST /users/1/image", ["/users/list", "/users/get/1", "/media/users/1/a"],
         ["/orders"]),
        (VERBS, "POST /orders", ["/orders", "/media/users/1/a"], ["/users/list"]),
        (PROJECTS, "POST /api/a/1/hide",
         ["/api/projects", "/api/projects/a", "/api/projects/b", "/api/a/versions", "/api/search"],
         ["/api/b/versions"]),
        (PREFIXED, "PUT /api/v1/items/5", ["/api/v1/items", "/api/v1/items/5", "/api/v1/summary"],
         ["/api/v1/items/6", "/api/v1/orders/5"]),
        (PREFIXED, "POST /api/v1/login", ["/api/v1/summary"],
         ["/api/v1/items", "/api/v1/orders/5"]),
        (TREES, "PUT /items/5", ["/items", "/items/5", "/items/5/history", "/dashboard"],
         ["/items/6", "/items/6/history", "/orders"]),
        (TREES, "PATCH /items/update/5", ["/items", "/items/5", "/items/6", "/items/6/history"],
         ["/orders"]),
    ],
)  # fmt: skip
def test_a_write_reaches_all_of_its_resource_and_all_orphans(
    routes: list[str], request_line: str, purged: list[str], kept: list[str]
) -> None:
    """Resources with writes of their own stay hits, and so do other members."""
    of = table_for(routes)
    assert [path for path in purged if not purges(of, request_line, path)] == []
    assert [path for path in kept if purges(of, request_line, path)] == []


@pytest.mark.parametrize(
    ("routes", "request_line", "purged", "kept"),
    [
        (VERBS, "POST /users/1/image", ["/users/get/1", "/media/users/1/a", "/orders"], []),
        (PREFIXED, "PUT /api/v1/items/5",
         ["/api/v1/items", "/api/v1/orders/5", "/api/v1/summary", "/"], ["/api/v1/items/6"]),
        (TREES, "PUT /items/5", ["/items", "/orders", "/dashboard"],
         ["/items/6", "/items/6/history"]),
        (TREES, "POST /orders", ["/orders", "/items", "/items/5/history", "/dashboard"], []),
    ],
)  # fmt: skip
def test_with_unproven_a_write_reaches_the_other_trees_too(
    routes: list[str], request_line: str, purged: list[str], kept: list[str]
) -> None:
    """Only a parameter with another value is a proof."""
    of = table_for(routes)
    assert [path for path in purged if not purges(of, request_line, path, "unproven")] == []
    assert [path for path in kept if purges(of, request_line, path, "unproven")] == []


def test_with_everything_a_write_reaches_all_reads() -> None:
    """Without any proof."""
    of = table_for(TREES)
    for path in ("/items/6", "/orders", "/dashboard"):
        assert purges(of, "PUT /items/5", path, "everything"), path


def test_orphans_are_the_reads_that_no_write_reaches() -> None:
    """A read with a lifetime, tags, isolation or a guard of its own is none."""
    assert orphans(VERBS) == ["/media/users/{id}/{name}"]
    assert orphans(PROJECTS) == ["/stats"]
    assert orphans(PREFIXED) == ["/api/v1/summary", "/"]
    assert orphans(TREES) == ["/dashboard"]
    assert orphans(["GET /a", "GET /b"]) == []


def test_the_documentation_of_fastapi_is_no_orphan() -> None:
    """It shows the routes, which no write changes."""
    app = FastAPI()
    app.put("/items")(endpoint)
    assert RouteGroups(read_routes(app.routes)).orphans == ()


def test_an_isolated_read_is_reached_by_its_own_tree_only() -> None:
    """In any mode; its neighbours that are not isolated are reached."""
    app = FastAPI(openapi_url=None)
    app.get("/media/public/{name}")(cached(isolated=True)(lambda: None))
    app.get("/media/private")(endpoint)
    app.put("/media/public/{name}")(endpoint)
    app.put("/items/{id}")(endpoint)
    of = read_routes(app.routes)
    modes: tuple[PurgeMode, ...] = ("matching", "unproven")
    for mode in modes:
        assert not purges(of, "PUT /items/5", "/media/public/a", mode)
        assert purges(of, "PUT /media/public/a", "/media/public/a", mode)
    assert purges(of, "PUT /items/5", "/media/private", "unproven")


def test_an_unknown_path_is_taken_by_its_segments() -> None:
    """Itself, what lies beneath, each path above; nothing beside it, whose writes are many."""
    touched = set(fallback_touched("/a/b/c"))
    for path in ("/a/b/c", "/a/b/c/d", "/a/b", "/a", "/"):
        assert touched & set(fallback_groups(path)), path
    for path in ("/a/b/d", "/a/x", "/a/b.json", "/b", "/b/c"):
        assert not touched & set(fallback_groups(path)), path


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
