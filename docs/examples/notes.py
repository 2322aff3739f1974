"""Notes in a SQLite file, behind the cache: Starlette, without FastAPI.

uvicorn --app-dir docs/examples notes:app
"""

import sqlite3
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from maxage import CacheMiddleware, cached

FILE = "notes.db"  # where the program is started


def sql(statement: str, *values: Any) -> list[Any]:
    """Run one statement, commit, and return its rows."""
    database = sqlite3.connect(FILE, timeout=10)
    try:
        with database:  # it commits: before the answer, so that the purge comes after the commit
            return database.execute(statement, values).fetchall()
    finally:
        database.close()


sql("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")


# A plain `def` runs in a thread. The first GET runs it, the next ones are answered by the cache.
def list_notes(request: Request) -> JSONResponse:
    """Answer all notes."""
    return JSONResponse([{"id": n, "text": text} for n, text in sql("SELECT * FROM notes")])


def read_note(request: Request) -> JSONResponse:
    """Answer one note."""
    rows = sql("SELECT * FROM notes WHERE id = ?", request.path_params["note_id"])
    if not rows:
        raise HTTPException(404)
    return JSONResponse({"id": rows[0][0], "text": rows[0][1]})


# PUT /notes/5 purges /notes and /notes/5, and leaves /notes/6: the routes say so.
async def write_note(request: Request) -> JSONResponse:
    """Add or replace a note; the body is its text."""
    note_id, text = request.path_params["note_id"], (await request.body()).decode()
    await run_in_threadpool(sql, "INSERT OR REPLACE INTO notes VALUES (?, ?)", note_id, text)
    return JSONResponse({"id": note_id, "text": text})


# A read outside of /notes that shows notes: the tag is what the writer in purge_notes.py purges.
@cached(ttl=60, tags=["notes"])
def count(request: Request) -> JSONResponse:
    """Answer how many notes there are."""
    return JSONResponse({"notes": sql("SELECT count(*) FROM notes")[0][0]})


app = Starlette(
    routes=[
        Route("/notes", list_notes),
        Route("/notes/{note_id:int}", read_note),
        Route("/notes/{note_id:int}", write_note, methods=["PUT"]),
        Route("/count", count),
    ],
    middleware=[Middleware(CacheMiddleware)],
)
