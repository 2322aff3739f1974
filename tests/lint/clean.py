"""The application of `planted`, with each fault mended."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.staticfiles import StaticFiles

from maxage import (
    CacheMiddleware,
    CacheSettings,
    Rule,
    apurge_tags,
    cached,
    invalidates,
    invalidates_only,
    uncached,
)
from maxage.redis import RedisCache
from tests.lint.app_layers import ServerSessionMiddleware, ask_key, limit_rate
from tests.lint.tables import Item

router = APIRouter()
bearer = HTTPBearer()
ITEMS: dict[int, dict[str, Any]] = {}
LOADED_CACHE: dict[int, Any] = {}
CLIENT: Any = None


class Plain(BaseModel):
    id: int
    name: str | None = None
    made: datetime


plain_cache = RedisCache[Plain](Plain, prefix="plain")


async def session_per_request() -> AsyncGenerator[AsyncSession]:
    async with AsyncSession() as session:
        yield session


@contextmanager
def rolled_back() -> Generator[Session]:
    session = Session()
    try:
        yield session
    finally:
        session.rollback()
        session.close()


def early_exit() -> Generator[Session]:
    with rolled_back() as session:
        yield session
        session.commit()


def late_exit() -> Generator[Session]:
    with rolled_back() as session:
        yield session
        session.commit()


def who(request: Request) -> str:
    return str(request.session.get("user") or request.headers.get("authorization"))


DbSession = Annotated[AsyncSession, Depends(session_per_request)]


@router.get("/secured")
@cached(vary_by=who)
async def secured(user: Annotated[Any, Depends(bearer)]) -> str:
    return str(user)


@router.get("/private")
@uncached
async def private(user: Annotated[Any, Depends(bearer)]) -> str:
    return str(user)


@router.get("/by-rule")
async def by_rule(user: Annotated[Any, Depends(bearer)]) -> str:
    return str(user)


@router.get("/visitor")
@cached(vary_by=who)
async def visitor(request: Request) -> str:
    return str(request.session.get("name"))


@router.get("/tenants")
async def tenants(x_tenant: Annotated[str, Header()]) -> str:
    return x_tenant


@router.get("/languages")
async def languages(request: Request, response: Response) -> str:
    response.headers["Vary"] = "Accept-Language"
    return request.headers.get("accept-language", "")


@router.get("/links")
async def links(request: Request) -> list[str]:
    return [str(request.url), str(request.base_url), request.method, request.query_params["q"]]


@router.get("/address")
async def address(request: Request, response: Response) -> str:
    response.headers["Cache-Control"] = "no-store"
    return request.client.host if request.client else ""


@router.get("/loaded/{item_id}")
async def loaded(item_id: int, session: DbSession) -> Any:
    global CLIENT  # noqa: PLW0603 - a global that is made once
    if CLIENT is None:
        CLIENT = object()
    if item_id not in LOADED_CACHE:
        LOADED_CACHE[item_id] = (await session.scalars(select(Item))).all()
    found: dict[str, Any] = {}
    found["item"] = dict(ITEMS[item_id])
    found["item"]["loaded"] = True
    return found


@router.get("/confirmed")
@uncached
async def confirmed(session: DbSession) -> str:
    session.add(Item(id=1))
    await session.commit()
    await apurge_tags("items")
    return ""


@router.get("/plain/{item_id}")
async def plain(item_id: int) -> Any:
    async def load() -> Plain:
        return Plain(id=item_id, made=datetime(2024, 1, 1, tzinfo=UTC))

    return await plain_cache.aget_or_set(item_id, load)


@router.put("/plain/{item_id}")
async def put_plain(item_id: int) -> None:
    await plain_cache.adelete(item_id)


@router.get("/items")
async def items() -> list[Any]:
    return list(ITEMS.values())


@router.get("/report")
@cached(ttl=60)
async def report() -> list[Any]:
    return list(ITEMS.values())


@router.post("/items")
async def add_item(session: Annotated[Session, Depends(early_exit, scope="function")]) -> None:
    session.add(Item(id=1))


@router.put("/items/{item_id}")
def put_item(item_id: int, session: Annotated[Session, Depends(late_exit)]) -> None:
    session.add(Item(id=item_id))
    session.commit()


@router.post("/orders")
@invalidates("/report")
async def order() -> None:
    ITEMS[1] = {}


@router.post("/login")
@invalidates_only()
async def log_in() -> str:
    return ""


@router.get("/now")
@cached(ttl=1)
async def now() -> str:
    return datetime.now(UTC).isoformat()


@router.get("/orders/{order_id}/status")
async def status(order_id: int) -> str:
    return ""


@router.put("/orders/{order_id}/status")
async def put_status(order_id: int) -> None:
    ITEMS[order_id] = {}


@router.get("/users/{user_id}/cart")
async def cart(user_id: int) -> str:
    return ""


@router.get("/time-zones")
async def zones() -> list[str]:
    started = datetime.now(UTC)
    print((datetime.now(UTC) - started).total_seconds())
    return ["UTC"]


@router.get("/old")
async def old(request: Request) -> RedirectResponse:
    return RedirectResponse(f"/new?{request.headers.get('user-agent')}")


async def add_name(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["x-served-by"] = "me"
    return response


def clean() -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    app.mount("/static", StaticFiles(directory="."))
    app.mount("/inner", FastAPI())
    app.middleware("http")(add_name)
    app.add_middleware(GZipMiddleware)
    app.add_middleware(
        CacheMiddleware,
        settings=CacheSettings(redis_url="memory://"),
        rules=[Rule("/by-rule", cache=False)],
    )
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"])
    app.add_middleware(ServerSessionMiddleware)
    app.middleware("http")(limit_rate)
    app.middleware("http")(ask_key)
    return app


app = clean()
