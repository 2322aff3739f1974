"""Imports: many items at once, written in batches after the answer was sent.

The batch and the background pattern of the guide together. Each batch is one transaction, one purge
of the responses that show items, and one round trip to the typed cache.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, HTTPException, Path, Request, Response
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from app.database import Database, DatabaseDep, DatabaseUnavailableError, SessionDep
from app.items import LARGEST_ID, item_cache
from app.models import Import, Item
from app.schemas import ImportedItem, ImportIn, ImportOut

BATCH = 100
"""Items that one transaction writes."""

ImportId = Annotated[int, Path(ge=1, le=LARGEST_ID)]

router = APIRouter(prefix="/imports", tags=["imports"])
log = logging.getLogger(__name__)


@router.post("", status_code=202)
async def start_import(
    *,
    session: SessionDep,
    database: DatabaseDep,
    background: BackgroundTasks,
    request: Request,
    response: Response,
    given: ImportIn,
) -> ImportOut:
    """Begin to write the items. `Location` is where the import tells how far it is."""
    row = await session.scalars(
        insert(Import).values(total=len(given.items), done=0, missing=0).returning(Import)
    )
    begun = ImportOut.model_validate(row.one())
    await session.commit()
    response.headers["Location"] = f"{request.url.path}/{begun.id}"
    background.add_task(run_import, database, begun.id, given.items)
    return begun


@router.get("/{import_id}")
async def read_import(session: SessionDep, import_id: ImportId) -> ImportOut:
    """Tell how far an import is. All reads show the items that it calls done."""
    row = await session.get(Import, import_id)
    if row is None:
        raise HTTPException(404, f"There is no import {import_id}.")
    return ImportOut.model_validate(row)


async def run_import(database: Database, import_id: int, items: Sequence[ImportedItem]) -> None:
    """Write the items in batches; runs after the answer was sent.

    An import that cannot go on stops between two batches: its `done` says how many it has written.
    """
    try:
        for first in range(0, len(items), BATCH):
            batch = items[first : first + BATCH]
            found = await write_batch(database, batch)
            await count_batch(database, import_id, done=len(batch), missing=len(batch) - found)
    except (SQLAlchemyError, DatabaseUnavailableError) as error:
        reason = getattr(error, "orig", error)
        log.error("Import %d stopped: %s", import_id, reason)  # noqa: TRY400 - no traceback


async def write_batch(database: Database, batch: Sequence[ImportedItem]) -> int:
    """Write a batch, and return how many items it found or added.

    The commit purges, once for the batch, the responses that were read from the table: the hook of
    `Database` sees it, no line here names a path. After it, one call drops the typed objects.
    """
    now = datetime.now(UTC)
    new = [item.values() | {"created_at": now, "updated_at": now} for item in batch if not item.id]
    ids = [item.id for item in batch if item.id]
    async with database.sessions.begin() as session:
        there = set(await session.scalars(select(Item.id).where(Item.id.in_(ids))))
        known = [
            item.values() | {"updated_at": now, "item_id": item.id}
            for item in batch
            if item.id in there
        ]
        # One call of the driver each, for all rows.
        connection = await session.connection()
        if new:
            await connection.execute(insert(Item), new)
        if known:
            await connection.execute(update(Item).where(Item.id == bindparam("item_id")), known)
    await item_cache.adelete_many(there)
    return len(new) + len(known)


async def count_batch(database: Database, import_id: int, *, done: int, missing: int) -> None:
    """Note a batch, after all its purges: a client that reads `done` finds the items everywhere."""
    counted = {"done": Import.done + done, "missing": Import.missing + missing}
    async with database.sessions.begin() as session:
        await session.execute(update(Import).where(Import.id == import_id).values(counted))
