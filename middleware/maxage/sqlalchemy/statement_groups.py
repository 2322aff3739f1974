"""The groups of what one statement reads and changes."""

from typing import Any, Final

from sqlalchemy.sql.compiler import DDLCompiler

from maxage.sqlalchemy.database_groups import DatabaseGroups
from maxage.sqlalchemy.sql_text import Effect, effect_of_text
from maxage.sqlalchemy.statement_tables import Groups, NamedTables, RecordingCompiler, cascaded

_NOTHING: Final = Groups()


def groups_of(database: DatabaseGroups, sql: str, compiled: Any) -> Groups:
    """Return the groups of a statement.

    Args:
        database: the groups of its database.
        sql: its text.
        compiled: the compiled statement that SQLAlchemy made the text from; None: the text is the
            user's own.
    """
    if isinstance(compiled, RecordingCompiler):
        named = compiled.named_tables
        if named.groups is None:
            named.groups = _of_tables(database, sql, named)
        return named.groups
    if isinstance(compiled, DDLCompiler):
        return Groups(changed=(database.whole,), commits=True)
    return _of_text(database, sql)


def _of_tables(database: DatabaseGroups, sql: str, named: NamedTables) -> Groups:
    text = _of_text(database, sql) if named.has_text else _NOTHING
    read, changed = database.read(named.read), database.changed(cascaded(named.changed))
    return Groups(
        read=tuple(dict.fromkeys((*read, *text.read))),
        changed=tuple(dict.fromkeys((*changed, *text.changed))),
        commits=text.commits,
    )


def _of_text(database: DatabaseGroups, sql: str) -> Groups:
    effect = effect_of_text(sql)
    return Groups(
        read=database.unknown_read if Effect.READS in effect else (),
        changed=(database.whole,) if Effect.WRITES in effect else (),
        commits=Effect.COMMITS in effect,
    )
