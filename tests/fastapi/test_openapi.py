"""The OpenAPI schema says what the cache does at each operation, and stays valid."""

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31
from starlette.applications import Starlette

from app.main import create_app
from maxage import CacheMiddleware, CacheSettings, SettingsError, cached, invalidates, uncached
from maxage.fastapi import document_cache
from tests.support.asgi import call

MINE = {"description": "mine", "schema": {"type": "string"}}
VALIDATOR = Draft202012Validator(OPENAPI_31)


def shop(**settings: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    async def items() -> list[int]:
        return [1, 2]

    @app.get("/items/{item_id}", responses={200: {"headers": {"etag": MINE}}})
    @cached(ttl=60)
    async def item(item_id: int) -> int:
        return item_id

    @app.put("/items/{item_id}")
    @invalidates("stock", "item:{item_id}")
    async def put(item_id: int) -> None: ...

    @app.get("/files/{name:path}")
    async def file(name: str) -> str:
        return name

    @app.get("/now")
    @uncached
    async def now() -> str:
        return ""

    @app.get("/mine")
    async def mine(token: Annotated[Any, Depends(HTTPBearer())]) -> str:
        return ""

    @app.get("/made", status_code=201)
    async def made() -> str:
        return ""

    @app.get("/hidden", include_in_schema=False)
    async def hidden() -> str:
        return ""

    app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url="memory://", **settings))
    return app


def documented(app: FastAPI) -> Any:
    document_cache(app)
    schema = app.openapi()
    assert [error.message for error in VALIDATOR.iter_errors(schema)] == []
    return schema["paths"]


def test_a_cached_route_tells_its_lifetime_its_headers_and_304() -> None:
    """By the settings, by a decorator, and with a parameter that takes slashes."""
    paths = documented(shop())
    read = paths["/items"]["get"]
    assert read["x-cache"] == {"lifetime": 300}
    assert read["responses"]["200"]["headers"].keys() == {"ETag", "Age", "Cache-Status"}
    assert read["responses"]["304"]["headers"].keys() == {"ETag", "Age", "Cache-Status"}
    assert paths["/items/{item_id}"]["get"]["x-cache"] == {"lifetime": 60}
    assert paths["/files/{name}"]["get"]["x-cache"] == {"lifetime": 300}


@pytest.mark.parametrize("path", ["/now", "/mine", "/made"])
def test_a_route_that_is_not_cached_tells_nothing(path: str) -> None:
    """Uncached, behind a check of credentials, or with another status."""
    operation = documented(shop())[path]["get"]
    assert "x-cache" not in operation
    assert "304" not in operation["responses"]


def test_a_write_tells_the_reads_and_tags_that_it_purges() -> None:
    """Only reads that the schema shows."""
    write = documented(shop())["/items/{item_id}"]["put"]
    purges = ["/items", "/items/{item_id}", "/files/{name}", "/made"]
    assert write["x-cache"] == {"purges": purges, "tags": ["stock", "item:{item_id}"]}
    assert "304" not in write["responses"]


def test_what_the_schema_says_already_stays() -> None:
    """A header in another case of letters is the same one."""
    headers = documented(shop())["/items/{item_id}"]["get"]["responses"]["200"]["headers"]
    assert headers.keys() == {"etag", "Age", "Cache-Status"}
    assert headers["etag"] == MINE


def test_a_second_call_changes_nothing() -> None:
    app = shop()
    once = str(documented(app))
    opened = app.openapi
    assert str(documented(app)) == once
    assert app.openapi is opened


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_openapi_of_the_applications_own_is_asked(order: str) -> None:
    """Whether it makes a new schema each time or not; one that is set later replaces ours."""
    app = shop()
    original: Callable[[], Any] = app.openapi

    def own() -> Any:
        return {**original(), "info": {"title": "mine", "version": "1"}}

    if order == "before":
        app.openapi = own  # type: ignore[method-assign]
        document_cache(app)
    else:
        document_cache(app)
        original = app.openapi
        app.openapi = own  # type: ignore[method-assign]
    assert app.openapi()["info"]["title"] == "mine"
    assert app.openapi()["paths"]["/items"]["get"]["x-cache"] == {"lifetime": 300}


def test_settings_of_the_cache_count() -> None:
    """Its header, its lifetime, and whether it is on."""
    headers = documented(shop(cache_status_header=False))["/items"]["get"]["responses"]["304"]
    assert headers["headers"].keys() == {"ETag", "Age"}
    assert "x-cache" not in documented(shop(cache_expiration=0))["/items"]["get"]
    assert documented(shop(cache_expiration=0.5))["/items"]["get"]["x-cache"] == {"lifetime": 0.5}
    assert "x-cache" not in documented(shop(use_redis_cache=False))["/items/{item_id}"]["put"]


def test_a_cache_around_the_application_counts() -> None:
    app = FastAPI()
    app.add_api_route("/items", lambda: "")
    around = CacheMiddleware(app, CacheSettings(redis_url="memory://", cache_expiration=7))
    document_cache(around)
    assert app.openapi()["paths"]["/items"]["get"]["x-cache"] == {"lifetime": 7}


def test_the_served_schema_is_the_documented_one() -> None:
    app = create_app()
    answer = asyncio.run(call(app, target=b"/api/v1/openapi.json"))
    schema = json.loads(answer.body)
    assert [error.message for error in VALIDATOR.iter_errors(schema)] == []
    paths = schema["paths"]
    assert paths["/api/v1/items"]["get"]["x-cache"] == {"lifetime": 300}
    assert "x-cache" not in paths["/api/v1/health"]["get"]
    purged = paths["/api/v1/items/{item_id}"]["put"]["x-cache"]["purges"]
    assert purged == ["/api/v1/items", "/api/v1/items/batch", "/api/v1/items/{item_id}"]


@pytest.mark.parametrize("app", [Starlette(), CacheMiddleware(Starlette()), None])
def test_another_application_is_refused(app: Any) -> None:
    with pytest.raises(SettingsError, match=r"document_cache\(\) got \w+; it takes a FastAPI"):
        document_cache(app)
