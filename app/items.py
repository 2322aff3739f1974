"""The items: what is monitored, how and how often."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, HTTPException, Path, Query, Request, Response
from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database, DatabaseDep, SessionDep
from app.models import CheckKind, Environment, Item
from app.schemas import NO_NUL, ItemBatch, ItemChanges, ItemIn, ItemOut, ItemPage, ItemReplacement
from maxage.redis import RedisCache

LARGEST_ID = 2**63 - 1

ItemId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Ids = Annotated[
    str,
    Query(
        pattern=r"^[1-9][0-9]{0,17}(,[1-9][0-9]{0,17}){0,99}$",
        description="Up to 100 ids, separated by commas.",
        examples=["1,2,3"],
    ),
]

router = APIRouter(prefix="/items", tags=["items"])

# One item by its id, beside the cached responses: the key in Redis is `item:5`.
item_cache = RedisCache[ItemOut](ItemOut, prefix="item")


# The lower decorator is the first route: the one that metrics and `maxage routes` name.
@router.get("/", include_in_schema=False)
@router.get("")
async def list_items(
    session: SessionDep,
    *,
    q: Annotated[
        str | None,
        Query(max_length=200, pattern=NO_NUL, description="In name, description or target."),
    ] = None,
    kind: CheckKind | None = None,
    environment: Environment | None = None,
    enabled: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> ItemPage:
    """List the items that match all filters, ordered by id."""
    wanted: list[ColumnElement[bool]] = []
    if q:
        texts = (Item.name, Item.description, Item.target)
        wanted.append(or_(*(text.icontains(q, autoescape=True) for text in texts)))
    if kind is not None:
        wanted.append(Item.kind == kind)
    if environment is not None:
        wanted.append(Item.environment == environment)
    if enabled is not None:
        wanted.append(Item.enabled == enabled)
    total = await session.scalar(select(func.count()).select_from(Item).where(*wanted))
    rows = await session.scalars(
        select(Item).where(*wanted).order_by(Item.id).limit(limit).offset(offset)
    )
    items = [ItemOut.model_validate(row) for row in rows]
    return ItemPage(items=items, total=total or 0, limit=limit, offset=offset)


# Before `/{item_id}`, which would take "batch" for an id.
@router.get("/batch")
async def read_items(session: SessionDep, ids: Ids) -> ItemBatch:
    """Read several items at once: one round trip to the cache, one query for what it lacks."""
    wanted = list(dict.fromkeys(map(int, ids.split(","))))
    found: dict[int, ItemOut] = await item_cache.aget_many(wanted)
    if absent := [item_id for item_id in wanted if item_id not in found]:
        loaded = await load_items(session, absent)
        await item_cache.aset_many(loaded)
        found |= loaded
    return ItemBatch(
        items=[found[item_id] for item_id in wanted if item_id in found],
        missing=[item_id for item_id in wanted if item_id not in found],
    )


@router.get("/{item_id}")
async def read_item(session: SessionDep, item_id: ItemId) -> ItemOut:
    """Read one item, from the typed cache or the database."""

    async def load() -> ItemOut:
        return await load_item(session, item_id)

    return await item_cache.aget_or_set(item_id, load)


@router.post("/", status_code=201, include_in_schema=False)
@router.post("", status_code=201)
async def create_item(
    *,
    session: SessionDep,
    database: DatabaseDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    item: ItemIn,
) -> ItemOut:
    """Add an item. Its id is the database's choice."""
    now = datetime.now(UTC)
    row = await session.scalars(
        insert(Item)
        .values(item.model_dump() | {"created_at": now, "updated_at": now})
        .returning(Item)
    )
    created = ItemOut.model_validate(row.one())
    await session.commit()
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{created.id}"
    background.add_task(refresh_item, database, created.id)
    return created


@router.put("/{item_id}")
async def replace_item(session: SessionDep, item_id: ItemId, item: ItemReplacement) -> ItemOut:
    """Replace an item. Fields that are left out get their defaults."""
    if item.id not in {None, item_id}:
        raise HTTPException(422, f"The path names item {item_id}, the body item {item.id}.")
    return await change_item(session, item_id, item.model_dump(exclude={"id"}))


@router.patch("/{item_id}")
async def edit_item(session: SessionDep, item_id: ItemId, changes: ItemChanges) -> ItemOut:
    """Change some fields of an item."""
    return await change_item(session, item_id, dict(changes))


@router.delete("/{item_id}", status_code=204)
async def delete_item(session: SessionDep, item_id: ItemId) -> None:
    """Remove an item."""
    gone = await session.scalar(delete(Item).where(Item.id == item_id).returning(Item.id))
    if gone is None:
        raise no_such_item(item_id)
    await session.commit()
    await item_cache.adelete(item_id)


async def change_item(session: AsyncSession, item_id: int, values: dict[str, Any]) -> ItemOut:
    """Write some columns of an item, in one statement: concurrent changes cannot mix their reads.

    The commit comes before the typed cache: in the other order, another request could read the old
    row in between and put it back. Both come before the answer.
    """
    values["updated_at"] = datetime.now(UTC)
    rows = await session.scalars(
        update(Item).where(Item.id == item_id).values(values).returning(Item)
    )
    row = rows.one_or_none()
    if row is None:
        raise no_such_item(item_id)
    changed = ItemOut.model_validate(row)
    await session.commit()
    await item_cache.adelete(item_id)
    return changed


async def refresh_item(database: Database, item_id: int) -> None:
    """Put an item into the typed cache; runs after the answer was sent.

    Not with `aset`: a PUT may come between our read and our write, and the old value would stay.
    `aget_or_set` stores under the token that was valid before the read.
    """

    async def load() -> ItemOut:
        async with database.sessions() as session:
            return await load_item(session, item_id)

    try:
        await item_cache.aget_or_set(item_id, load)
    except HTTPException:  # already deleted
        return


async def load_item(session: AsyncSession, item_id: int) -> ItemOut:
    """Read an item from the database."""
    row = await session.get(Item, item_id)
    if row is None:
        raise no_such_item(item_id)
    return ItemOut.model_validate(row)


async def load_items(session: AsyncSession, item_ids: Sequence[int]) -> dict[int, ItemOut]:
    """Read several items from the database, by their ids."""
    rows = await session.scalars(select(Item).where(Item.id.in_(item_ids)))
    return {row.id: ItemOut.model_validate(row) for row in rows}


def no_such_item(item_id: int) -> HTTPException:
    """Return the answer for an id which no item has."""
    return HTTPException(404, f"There is no item {item_id}.")
