"""Reading: the groups that a statement adds to the response of the current request.

The tokens of a response's tables are those of its lookup, which is before its handler runs. The
tokens of tables that the lookup did not foresee, and of rows, are read before the statement, where
that shows what is committed by then. Where it may show what was there before, an unforeseen table
keeps the response from being stored; its route foresees it the next time. And rows of a transaction
that began before the lookup may be older than the tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from maxage.errors import SettingsError, StoreUnavailableError
from maxage.invalidation.dependencies import Dependencies
from maxage.invalidation.group_names import is_row_group, is_table_group
from maxage.sqlalchemy.database_groups import DatabaseGroups
from maxage.sqlalchemy.transaction import Transaction
from maxage.store_factory import sync_half

MOST_TABLES: Final = 16
"""Groups of tables of one response; with more it belongs to all tables of the database."""
MOST_ROWS: Final = 4
"""Rows of one response; with more it belongs to their tables."""


def note_read(request: Dependencies, database: DatabaseGroups, groups: Sequence[str]) -> None:
    """Let the response of a request belong to groups that its handler read."""
    new = [group for group in groups if group not in request.tags]
    if not new:
        return
    if len(new) + sum(map(is_table_group, request.tags)) > MOST_TABLES:
        new = list(database.unknown_read)
    for group in new:
        request.note_tag(group)
    for inner, outer in _nested(request):
        if outer.authority is not inner.authority:
            # A purge of the one store does not reach the other.
            outer.unprotected = True


def note_tables(request: Dependencies, tables: Sequence[str]) -> frozenset[str]:
    """Let the response of a request belong to tables that its lookup did not foresee.

    Their tokens are read now. The caller then runs the statement, which must not show what was
    there before.

    Returns:
        The tables whose tokens this request has read; the others are still to be noted.
    """
    new = [
        table
        for table in tables
        if not (table in request.foreseen or table in request.tags or table in request.read)
    ]
    known = sum(map(is_table_group, request.tags)) + sum(map(is_table_group, request.read))
    if len(new) + known <= MOST_TABLES and new:
        _note_with_tokens(request, new)
    return frozenset(request.read).intersection(tables)


def note_rows(request: Dependencies, rows: Sequence[str]) -> bool:
    """Let the response of a request belong to rows, whose tokens are read now; return whether so.

    The caller then runs the statement. It must not show what was there before.
    """
    new = [row for row in rows if row not in request.read]
    if len(new) + sum(map(is_row_group, request.read)) > MOST_ROWS:
        return False
    return _note_with_tokens(request, new)


def _note_with_tokens(request: Dependencies, new: Sequence[str]) -> bool:
    store = request.store
    try:
        if in_greenlet() and store.shared:
            tokens = await_only(store.read((), new)).tokens
        else:
            tokens = sync_half(store).read_now((), new).tokens
    except StoreUnavailableError:
        tokens = [None] * len(new)
    except SettingsError:
        # A store that can only be awaited.
        return False
    for group, token in zip(new, tokens, strict=True):
        request.depend(group, token)
    return True


def note_old_rows(request: Dependencies, transaction: Transaction) -> None:
    """Store no response of a request whose rows may be older than the tokens of its lookup."""
    request.unprotected = True
    for _, outer in _nested(request):
        if not transaction.began_before(outer):
            return
        outer.unprotected = True


def note_rollback(request: Dependencies) -> None:
    """Store no response of a request that may have read rows that are rolled back."""
    request.unprotected = True
    for _, outer in _nested(request):
        outer.unprotected = True


def _nested(request: Dependencies) -> Iterator[tuple[Dependencies, Dependencies]]:
    """Yield the request of each middleware with that of the middleware around it."""
    while request.outer is not None:
        yield request, request.outer
        request = request.outer
