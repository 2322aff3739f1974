"""Names of groups: how a path may be spelled in a purge."""

import pytest
from fastapi import FastAPI

from maxage import apurge
from maxage.invalidation.group_names import named_groups, path_group
from maxage.store.tokens import NAMESPACE_GROUP
from tests.support.asgi import call
from tests.support.caching import cache_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("spelling", "path"),
    [
        ("/items/5", "/items/5"),
        ("/items/5/", "/items/5"),
        ("/items/5?page=2", "/items/5"),
        ("/items/5#reviews", "/items/5"),
        ("/items/5#a?b", "/items/5"),
        (" /items/5\n", "/items/5"),
        ("/items/*", "/items"),
        ("/items/**", "/items"),
        ("/items/*?a=b", "/items"),
        ("/items/*/reviews", "/items"),
        ("/a/b*/c", "/a/b*/c"),
        ("http://testserver/items/5", "/items/5"),
        ("HTTPS://example.org:8000/items/5?a=b#c", "/items/5"),
        ("/caf%C3%A9/1", "/café/1"),
        ("/café/1", "/café/1"),
        ("/100%/1", "/100%/1"),
    ],
)
def test_a_path_may_be_spelled_as_it_is_found(spelling: str, path: str) -> None:
    """As a URL, percent-encoded, with a query, a fragment, blanks, or `/*` for all beneath."""
    assert path_group(path) in named_groups(spelling)
    assert NAMESPACE_GROUP not in named_groups(spelling)


@pytest.mark.parametrize("spelling", ["/", "/*", "/**", "//", "http://testserver", "/?a=b"])
def test_the_root_is_everything(spelling: str) -> None:
    """All paths lie beneath it."""
    assert NAMESPACE_GROUP in named_groups(spelling)


@pytest.mark.parametrize("name", ["a%20b", "a#b", "a?b", "b ", "*"])
def test_a_path_is_also_taken_as_it_stands(name: str) -> None:
    """A value that `invalidates("/files/{name}")` fills in may hold any character."""
    assert path_group(f"/files/{name}") in named_groups(f"/files/{name}")


@pytest.mark.parametrize("name", ["item:5", "a/b", "#x", "%2Fitems", "*", "items/*"])
def test_any_other_name_is_a_tag_as_it_stands(name: str) -> None:
    """Only a path is spelled in several ways."""
    assert named_groups(name) == (f"g:{name}",)


@pytest.mark.parametrize("spelling", ["/items/*", "http://testserver/items/5", " /items/5#top"])
async def test_a_purge_by_such_a_spelling_ends_what_is_stored(spelling: str) -> None:
    """From the name to the next request."""
    app, runs = FastAPI(openapi_url=None), list[int]()

    @app.get("/items/{item_id}/count")
    async def count(item_id: int) -> int:
        runs.append(item_id)
        return len(runs)

    @app.get("/purge")
    async def do() -> None:
        await apurge(spelling)

    middleware = cache_of(app)
    for _ in range(2):
        await call(middleware, path="/items/5/count")
    await call(middleware, path="/purge")
    assert (await call(middleware, path="/items/5/count")).body == b"2"
