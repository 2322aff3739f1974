"""Hooks into one engine: they note the tables of each statement, and purge after commits.

All statements pass the engine's cursor events: those of sessions, lazy loads and flushes, of Core,
and text. The ends of transactions are methods of the dialect, since no event follows a commit.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Final, final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from maxage.errors import SettingsError
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.sqlalchemy.catalog import Catalog
from maxage.sqlalchemy.commit_purge import CommitPurge
from maxage.sqlalchemy.database_groups import DatabaseGroups, database_name
from maxage.sqlalchemy.isolation import is_autocommit, shows_latest
from maxage.sqlalchemy.reading import note_old_rows, note_read, note_rows, note_tables
from maxage.sqlalchemy.statement_groups import Groups, groups_of
from maxage.sqlalchemy.statement_tables import record_tables
from maxage.sqlalchemy.transaction import Transaction, transaction_of
from maxage.sqlalchemy.transaction_ends import wrap_ends

_KEY: Final = "_maxage"


def instrument(
    engine: Engine | AsyncEngine,
    *,
    name: str | None = None,
    triggers: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> None:
    """Let responses belong to the tables that they are read from, and commits purge those.

    Each process that writes to the database calls it once for each engine, scripts and workers
    too, with the settings of the application. A second call for an engine does nothing.

    Args:
        engine: of SQLAlchemy; all sessions and connections that are made from it are seen.
        name: tells databases apart, and must be the same in all processes; by default the name of
            the database, or of its file.
        triggers: the tables that the triggers of a table change, by its name. A write to a table
            with triggers that is not named here counts as one to each table.

    Raises:
        SettingsError: it is no engine, the name is empty, or the engine has another name already.
    """
    plain: Any = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    if not isinstance(plain, Engine):
        raise SettingsError(f"instrument() got {engine!r}; it takes an Engine or an AsyncEngine.")
    if name is not None and not name.strip():
        raise SettingsError("instrument() got an empty name; it takes one such as 'shop'.")
    # An engine with execution options shares dialect and pool with the one that it is made from.
    while isinstance(proxied := getattr(plain, "_proxied", None), Engine):
        plain = proxied
    hooks = vars(plain.dialect).get(_KEY)
    if not isinstance(hooks, _Hooks):
        groups = DatabaseGroups(name or database_name(plain.url), plain.dialect.name)
        vars(plain.dialect)[_KEY] = _Hooks(plain, groups, Catalog(plain.dialect.name, triggers))
    elif name not in {None, hooks.database.name}:
        raise SettingsError(
            f"instrument() got name={name!r} for an engine that has the name "
            f"{hooks.database.name!r}; it takes one name for each engine."
        )


@final
class _Hooks:
    """The hooks of one engine."""

    def __init__(self, engine: Engine, database: DatabaseGroups, catalog: Catalog) -> None:
        self.database: Final = database
        self._catalog: Final = catalog
        record_tables(engine.dialect)
        # Statements that were compiled before have no note of their tables.
        engine.clear_compiled_cache()
        event.listen(engine, "before_cursor_execute", self._begins)
        event.listen(engine, "after_cursor_execute", self._ended)
        event.listen(engine, "handle_error", self._failed)
        event.listen(engine, "engine_connect", _adopted)
        event.listen(engine.pool, "checkout", _checked_out)
        event.listen(engine.pool, "checkin", self._checked_in)
        event.listen(engine.pool, "invalidate", _invalidated)
        wrap_ends(engine.dialect, database)

    def _begins(self, connection: Connection, _cursor: Any, sql: str, *rest: Any) -> None:
        """Note the groups that a statement reads and changes, before it runs."""
        _parameters, context, _many = rest
        transaction = transaction_of(connection.info)
        if transaction.is_unseen:
            return
        transaction.close_purge()
        groups = groups_of(self.database, self._catalog, sql, context)
        if not self._catalog.is_read and (groups.read or groups.changed):
            # Not before a SET TRANSACTION, which has to come first.
            self._read_catalog(connection, transaction)
            groups = groups_of(self.database, self._catalog, sql, context)
        request = current_dependencies.get()
        if request is not None and (groups.read or groups.changed):
            self._note(request, connection, transaction, groups)
        if not groups.read and not groups.changed and "isolation" in sql.lower():
            transaction.has_own_isolation = True
        if groups.changed or not groups.commits or "snapshot" in sql.lower():
            # A BEGIN alone sees nothing yet.
            transaction.begin(request)
        if groups.changed:
            transaction.change(groups.changed)
        if groups.commits:
            if groups.changed:
                self._catalog.forget()
            transaction.open_purge(CommitPurge(transaction.changed))
        elif groups.changed and is_autocommit(connection):
            transaction.committed = tuple({*transaction.committed, *groups.changed})
            transaction.open_purge(CommitPurge(groups.changed))

    def _read_catalog(self, connection: Connection, transaction: Transaction) -> None:
        """Read the catalog by a statement of our own, before that of the user."""
        transaction.begin(current_dependencies.get())
        transaction.is_unseen = True
        try:
            self._catalog.read(connection)
        finally:
            transaction.is_unseen = False

    def _note(
        self,
        request: Dependencies,
        connection: Connection,
        transaction: Transaction,
        groups: Groups,
    ) -> None:
        """Let the response of a request belong to the groups that a statement reads."""
        # The answer to a write may be stored as that of a GET.
        read = (*groups.read, *groups.changed) if request.mutating else groups.read
        shows_committed = not transaction.is_begun or (
            shows_latest(connection) and not transaction.has_own_isolation
        )
        if shows_committed and not request.mutating:
            if groups.rows and note_rows(request, groups.rows):
                read = groups.around_rows
            noted = note_tables(request, read)
            transaction.captured |= noted
        else:
            # Its later statements show nothing older than its first.
            noted = transaction.captured.intersection(request.read)
        note_read(request, self.database, [table for table in read if table not in noted])
        if transaction.began_before(request) and not is_autocommit(connection):
            note_old_rows(request, transaction)

    def _ended(self, connection: Connection, *_: Any) -> None:
        """Purge at once where a statement is a transaction of its own, or commits one."""
        transaction_of(connection.info).close_purge()

    def _failed(self, context: ExceptionContext) -> None:
        """Purge at once where a statement failed of which a part may be committed."""
        connection = context.connection
        if connection is not None and not connection.closed and not connection.invalidated:
            transaction_of(connection.info).close_purge()

    # ends of connections, also of those without a Connection, whose statements are not seen

    def _checked_in(self, _dbapi_connection: Any, record: Any) -> None:
        """Let a connection of the driver count as one that has read and changed anything."""
        transaction = transaction_of(record.info)
        transaction.close_purge()
        if transaction.unseen_users:
            transaction.unseen_users -= 1
            request = current_dependencies.get()
            if request is not None:
                note_read(request, self.database, self.database.unknown_read)
            with CommitPurge((self.database.whole,)):
                pass


def _checked_out(_dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    info: MutableMapping[Any, Any] = record.info
    transaction_of(info).unseen_users += 1


def _invalidated(_dbapi_connection: Any, record: Any, *_: Any) -> None:
    transaction_of(record.info).close_purge()


def _adopted(connection: Connection, *_: Any) -> None:
    transaction_of(connection.info).unseen_users -= 1
