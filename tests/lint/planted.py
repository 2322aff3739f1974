"""An application in which every fault is planted once or more, and named by its route."""

import contextlib
import random
import sqlite3
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Cookie, Depends, FastAPI, Header, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field, PrivateAttr, field_serializer
from sqlalchemy import insert, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from maxage import CacheMiddleware, CacheSettings, cached
from maxage.redis import RedisCache
from tests.lint.app_layers import ServerSessionMiddleware, ask_key, limit_rate
from tests.lint.tables import Item, record_visit

router = APIRouter()
bearer = HTTPBearer()
VISITS: dict[str, int] = {}
ITEMS: dict[int, dict[str, Any]] = {}
COUNT = 0


class Secret(BaseModel):
    id: int
    token: str = Field(exclude=True)


class Dated(BaseModel):
    day: datetime

    @field_serializer("day")
    def shown(self, day: datetime) -> str:
        return f"{day:%d %B}"


class Noted(BaseModel):
    id: int
    _notes: list[str] = PrivateAttr(default_factory=list[str])


secret_cache = RedisCache[Secret](Secret, prefix="secret")
dated_cache = RedisCache[Dated](Dated, prefix="dated")
noted_cache = RedisCache[Noted](Noted, prefix="noted")


def late_session() -> Generator[Session]:
    with Session() as session:
        yield session
        session.commit()


async def late_block() -> AsyncGenerator[AsyncSession]:
    async with AsyncSession() as session, session.begin():
        yield session


@contextlib.contextmanager
def unit_of_work() -> Generator[Session]:
    session = Session()
    try:
        yield session
        session.commit()
    except Exception:
        session.rollback()
        raise
    finally:
        session.close()


def late_by_helper() -> Generator[Session]:
    with unit_of_work() as session:
        yield session


def late_by_driver() -> Generator[sqlite3.Connection]:
    with sqlite3.connect(":memory:") as connection:
        yield connection


LateSession = Annotated[Session, Depends(late_session)]


def tenant(request: Request) -> str:
    return request.headers.get("x-tenant", "")


# MX101


@router.get("/secured")
async def secured(user: Annotated[Any, Depends(bearer)]) -> str:
    return str(user)


@router.get("/secured-for-a-minute")
@cached(ttl=60)
async def secured_and_stated(user: Annotated[Any, Depends(bearer)]) -> str:
    return str(user)


@router.get("/by-hand")
async def by_hand(request: Request) -> str:
    return request.headers["Authorization"]


@router.get("/api-key")
async def api_key(x_api_key: Annotated[str, Header()]) -> str:
    return x_api_key


# MX102


@router.get("/visitor")
async def visitor(request: Request) -> str:
    return str(request.session.get("name"))


@router.get("/themed")
async def themed(request: Request) -> str:
    return request.cookies.get("theme", "light")


@router.get("/advertised")
async def advertised(ads: Annotated[str | None, Cookie()] = None) -> str:
    return str(ads)


# MX103


@router.get("/tenants")
async def tenants(name: Annotated[str, Depends(tenant)]) -> str:
    return name


@router.get("/address")
async def address(request: Request) -> str:
    return request.client.host if request.client else ""


@router.get("/agents")
async def agents(request: Request) -> str:
    return described(request)


def described(request: Request) -> str:
    return request.headers.get("user-agent", "")


@router.get("/state")
async def state(request: Request) -> str:
    return str(request.state.employee)


# MX201


@router.get("/visits")
async def visits() -> int:
    VISITS["all"] = VISITS.get("all", 0) + 1
    return VISITS["all"]


@router.get("/counted/{item_id}")
async def counted(item_id: int) -> Any:
    item = ITEMS[item_id]
    item["views"] += 1
    return item


@router.get("/global")
async def counted_globally() -> int:
    global COUNT  # noqa: PLW0603 - the fault
    COUNT += 1
    return COUNT


@router.get("/added")
async def added(session: Annotated[AsyncSession, Depends(AsyncSession)]) -> str:
    session.add(Item(id=1))
    await session.commit()
    return ""


@router.get("/updated")
async def updated(db: Annotated[Session, Depends(Session)]) -> str:
    db.execute(update(Item).values(name="x"))
    return ""


@router.get("/sql")
def by_sql(db: Annotated[Session, Depends(Session)]) -> str:
    db.execute(text("INSERT INTO items VALUES (1)"))
    return ""


@router.get("/helped")
async def helped(db: Annotated[Session, Depends(Session)]) -> str:
    record_visit(db, "helped")
    return ""


@router.get("/later")
async def later(background: BackgroundTasks) -> str:
    background.add_task(count_later)
    return ""


def count_later() -> None:
    VISITS["later"] = 1


@router.get("/saved")
async def saved() -> str:
    item = Item(id=1)
    await item.save()
    return ""


# MX202: nothing beneath /orders is read, and a report is


@router.get("/report")
@cached(ttl=60)
async def report() -> list[Any]:
    return list(ITEMS.values())


@router.post("/orders")
async def order() -> str:
    return ""


# MX203


@router.post("/late/session")
def write_late(session: LateSession) -> str:
    session.add(Item(id=1))
    return ""


@router.post("/late/block")
async def write_in_block(session: Annotated[AsyncSession, Depends(late_block)]) -> str:
    await session.execute(insert(Item))
    return ""


@router.put("/late/helper")
def write_by_helper(session: Annotated[Session, Depends(late_by_helper)]) -> str:
    session.add(Item(id=1))
    return ""


@router.delete("/late/driver")
def write_by_driver(connection: Annotated[sqlite3.Connection, Depends(late_by_driver)]) -> str:
    connection.execute("DELETE FROM items")
    return ""


@router.get("/late/{kind}")
def read_late(kind: str) -> str:
    return kind


# MX501


@router.get("/secrets/{item_id}")
async def secret(item_id: int) -> Any:
    return await secret_cache.aget(item_id)


@router.get("/dates/{item_id}")
async def dated(item_id: int) -> Any:
    return await dated_cache.aget(item_id)


# MX601


@router.get("/now")
async def now() -> str:
    return ""


@router.get("/servers/{server_id}/status")
async def server_status(server_id: int) -> str:
    return ""


@router.get("/users/me")
async def me() -> str:
    return ""


@router.get("/cart")
async def cart() -> str:
    return ""


@router.get("/news/feed")
async def feed() -> str:
    return ""


@router.get("/random-quote")
async def quote() -> str:
    return ""


@router.get("/lots")
async def lots() -> int:
    return random.randint(1, 6)


@router.get("/greeting")
async def greeting() -> str:
    return "morning" if datetime.now(UTC).hour < 12 else "evening"


async def hidden(scope: Any, receive: Any, send: Any) -> None:
    await Response("hidden")(scope, receive, send)


def planted() -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    app.mount("/legacy", hidden)
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"])
    app.add_middleware(ServerSessionMiddleware)
    app.middleware("http")(limit_rate)
    app.middleware("http")(ask_key)
    app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url="memory://"))
    app.add_middleware(GZipMiddleware)
    return app


app = planted()
