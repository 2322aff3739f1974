"""What FastAPI's `dependency_overrides` says counts, whenever it was said."""

import functools
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, Security
from fastapi.security import APIKeyHeader

from maxage import CacheMiddleware
from tests.support.asgi import call
from tests.support.caching import cache_of, status_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio
KEY = APIKeyHeader(name="X-Key")


def current() -> str:
    return "nobody"


def ann() -> str:
    return "ann"


def by_header(x_tenant: Annotated[str, Header()] = "") -> str:
    return x_tenant


def checked(key: Annotated[str, Security(KEY)]) -> str:
    return key


def recursive(inner: Annotated[str, Depends(current)]) -> str:
    return inner


def site() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/me")
    async def me(who: Annotated[str, Depends(current)]) -> str:
        return who

    return app


async def ask(app: CacheMiddleware, path: str = "/me", **headers: str) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await call(app, path=path, headers=names)).body


@pytest.mark.parametrize("override", [KEY, checked])
async def test_a_check_in_an_override_is_seen(override: Any) -> None:
    app = site()
    app.dependency_overrides[current] = override
    middleware = cache_of(app)
    assert await ask(middleware, x_key="k1") == b'"k1"'
    assert await ask(middleware, x_key="k2") == b'"k2"'
    assert (await call(middleware, path="/me")).status in {401, 403}


async def test_a_header_of_an_override_is_part_of_the_key() -> None:
    app = site()
    app.dependency_overrides[current] = by_header
    middleware = cache_of(app)
    for _ in range(2):
        assert await ask(middleware, x_tenant="a") == b'"a"'
        assert await ask(middleware, x_tenant="b") == b'"b"'


@pytest.mark.parametrize("reassigned", [True, False])
async def test_each_change_of_the_overrides_counts_at_once_also_for_hits(
    *, reassigned: bool
) -> None:
    app = site()
    middleware = cache_of(app)

    def override(**now: Any) -> None:
        made = dict.fromkeys([current] * len(now), now.get("call"))
        if reassigned:
            app.dependency_overrides = made
        else:
            app.dependency_overrides.clear()
            app.dependency_overrides |= made

    def named(name: str) -> Any:
        return lambda: name

    for who in ("nobody", "ann", "bob", "nobody"):
        override(**({} if who == "nobody" else {"call": named(who)}))
        assert [await ask(middleware) for _ in range(3)] == [f'"{who}"'.encode()] * 3


async def test_the_overrides_of_a_mounted_application_count() -> None:
    outer, inner = FastAPI(openapi_url=None), site()
    outer.mount("/inner", inner)
    middleware = cache_of(outer)
    assert await ask(middleware, "/inner/me") == b'"nobody"'
    inner.dependency_overrides[current] = ann
    assert await ask(middleware, "/inner/me") == b'"ann"'


async def test_overrides_that_stay_leave_hits() -> None:
    app = site()
    app.dependency_overrides[current] = ann
    middleware = cache_of(app)
    await ask(middleware)
    assert status_of(await call(middleware, path="/me")).startswith(b"maxage; hit")


async def test_two_processes_with_the_same_overrides_share_a_key() -> None:
    keys: list[bytes] = []
    for override in (ann, ann, by_header, None):
        app = site()
        if override is not None:
            app.dependency_overrides[current] = override
        middleware = cache_of(app, redis_url="redis://localhost", cache_status_key=True)
        keys.append(status_of(await call(middleware, path="/me")).rpartition(b'key="')[2])
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


async def test_an_override_that_depends_on_what_it_overrides_ends() -> None:
    app = site()
    app.dependency_overrides[current] = recursive
    cache_of(app).targets.routes.table({"type": "http"})


class Tenant:
    """Equal to each other one, as instances of a dataclass may be."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> str:
        return self.name

    def current(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tenant)

    def __hash__(self) -> int:
        return 1


def returning(name: str) -> Any:
    def override() -> str:
        return name

    return override


def renamed(name: str) -> Any:
    """A function that says it is another one, as a decorator with `wraps` makes it."""
    return functools.wraps(ann)(returning(name))


OBJECTS = pytest.mark.parametrize(
    "make",
    [
        Tenant,
        lambda name: Tenant(name).current,
        lambda name: functools.partial(by_header, name),
        lambda name: lambda: name,
        returning,
        renamed,
    ],
)


@OBJECTS
@pytest.mark.parametrize("wait", [True, False])
async def test_two_objects_of_one_name_share_no_response(make: Any, *, wait: bool) -> None:
    """One after the other in one process, hits included."""
    app, clock = site(), ManualClock()
    middleware = cache_of(app, clock)
    for who in ("a", "b", "a"):
        app.dependency_overrides[current] = make(who)
        for _ in range(3):
            assert await ask(middleware) == f'"{who}"'.encode()
            clock.advance(2 * wait)


@OBJECTS
async def test_an_object_of_a_process_names_no_key_of_another(make: Any) -> None:
    keys: set[bytes] = set()
    for who in ("a", "b"):
        app = site()
        app.dependency_overrides[current] = make(who)
        middleware = cache_of(app, redis_url="redis://localhost", cache_status_key=True)
        keys.add(status_of(await call(middleware, path="/me")).rpartition(b'key="')[2])
    assert len(keys) == 2


async def test_overrides_that_stay_keep_their_key_when_a_route_is_added() -> None:
    app = site()
    app.dependency_overrides[current] = Tenant("a")
    middleware = cache_of(app)
    await ask(middleware)
    app.get("/other")(ann)
    assert status_of(await call(middleware, path="/me")).startswith(b"maxage; hit")
