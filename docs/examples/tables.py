"""Responses that follow tables instead of paths: FastAPI and SQLAlchemy with the hook.

uvicorn --app-dir docs/examples tables:app
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from maxage import CacheMiddleware, cached, invalidates_only
from maxage.sqlalchemy import instrument

engine = create_async_engine("sqlite+aiosqlite:///shop.db")
instrument(engine)  # each process that writes to these tables needs this line
sessions = async_sessionmaker(engine)


class Base(DeclarativeBase): ...


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Sale(Base):
    __tablename__ = "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    amount: Mapped[int]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(CacheMiddleware)


# It reads both tables: each commit below purges it.
@app.get("/dashboard")
@cached(isolated=True)
async def dashboard() -> dict[str, int]:
    amounts = select(Product.name, func.sum(Sale.amount)).join(Sale).group_by(Product.name)
    async with sessions() as session:
        return {row[0]: row[1] for row in await session.execute(amounts)}


# It reads one table: a new product purges it, a sale does not.
@app.get("/catalogue")
@cached(isolated=True)
async def catalogue() -> list[str]:
    async with sessions() as session:
        return list(await session.scalars(select(Product.name).order_by(Product.name)))


# `begin` commits when its block ends, in the handler: before the answer leaves.
@app.put("/products/{product_id}")
@invalidates_only()  # no path; the commit purges its tables
async def name_product(product_id: int, name: str) -> None:
    async with sessions.begin() as session:
        await session.merge(Product(id=product_id, name=name))


@app.post("/checkout", status_code=201)
@invalidates_only()
async def sell(product_id: int, amount: int) -> None:
    async with sessions.begin() as session:
        session.add(Sale(product_id=product_id, amount=amount))
