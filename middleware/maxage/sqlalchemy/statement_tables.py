"""The tables of a compiled statement: the compiler notes each one that it writes into the SQL.

The compiler sees tables that no walk over a statement finds: joins of inheritance and eager
loading, subqueries of column properties, and CTEs that change something.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# SQLAlchemy's compiler has few types.

from typing import Any, Final, Literal, cast, final

from sqlalchemy import ForeignKeyConstraint, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.sql.compiler import SQLCompiler

from maxage.sqlalchemy.sql_text import may_name_tables

Change = Literal["insert", "update", "delete"]

_MULTIPLE: Final = frozenset({"mysql", "mariadb"})
"""Dialects whose UPDATE may change each table that it names."""


@final
class NamedTables:
    """The tables that one compiled statement names."""

    def __init__(self) -> None:
        self.read: Final[dict[Any, None]] = {}
        """`Table`s, and the lightweight ones of `table()`."""
        self.changed: Final[set[tuple[Any, Change]]] = set()
        self.places = 0
        """How often the statement names a table that it reads."""
        self.has_text = False
        """Whether the statement has text of the user's that may name others."""


class RecordingCompiler(SQLCompiler):
    """Notes the tables of the statement in `named_tables`; mixed into a dialect's compiler."""

    named_tables: NamedTables

    def __init__(self, *args: Any, **more: Any) -> None:
        # The base compiles within its constructor.
        self.named_tables = NamedTables()
        super().__init__(*args, **more)

    def visit_table(self, table: Any, *args: Any, **more: Any) -> Any:
        """Note a table that the SQL names."""
        self.named_tables.read[table] = None
        self.named_tables.places += 1
        return _untyped(super()).visit_table(table, *args, **more)

    def visit_insert(self, insert_stmt: Any, *args: Any, **more: Any) -> Any:
        """Note the table that rows are inserted into."""
        # INSERT OR REPLACE, MySQL's REPLACE: a row that is in the way is deleted.
        replaces = bool(getattr(insert_stmt, "_prefixes", ()))
        self._change(insert_stmt.table, "delete" if replaces else "insert")
        if getattr(insert_stmt, "_post_values_clause", None) is not None:
            self._change(insert_stmt.table, "update")
        return _untyped(super()).visit_insert(insert_stmt, *args, **more)

    def visit_update(self, update_stmt: Any, *args: Any, **more: Any) -> Any:
        """Note the table that is updated."""
        self._change(update_stmt.table, "update")
        text = _untyped(super()).visit_update(update_stmt, *args, **more)
        if self.dialect.name in _MULTIPLE:
            for table in tuple(self.named_tables.read):
                self._change(table, "update")
        return text

    def visit_delete(self, delete_stmt: Any, *args: Any, **more: Any) -> Any:
        """Note the table that rows are deleted from."""
        self._change(delete_stmt.table, "delete")
        return _untyped(super()).visit_delete(delete_stmt, *args, **more)

    def visit_textclause(self, textclause: Any, *args: Any, **more: Any) -> Any:
        """Note text that may name tables."""
        self._text(str(textclause.text), is_source=bool(more.get("asfrom")))
        return _untyped(super()).visit_textclause(textclause, *args, **more)

    def visit_tstring(self, tstring: Any, *args: Any, **more: Any) -> Any:
        """Note a template string, which may name tables."""
        self.named_tables.has_text = True
        return _untyped(super()).visit_tstring(tstring, *args, **more)

    def visit_column(self, column: Any, *args: Any, **more: Any) -> Any:
        """Note a literal column, which may be a subquery."""
        if column.is_literal:
            self._text(str(column.name))
        return _untyped(super()).visit_column(column, *args, **more)

    def _text(self, text: str, *, is_source: bool = False) -> None:
        if is_source or not self.stack or may_name_tables(text):
            self.named_tables.has_text = True

    def _change(self, table: Any, change: Change) -> None:
        self.named_tables.changed.add((table, change))
        if not isinstance(table, Table):
            # A lightweight table has no foreign keys, so that its cascades are unknown.
            self.named_tables.has_text = True


def _untyped(compiler: Any) -> Any:
    """Return SQLAlchemy's part of the compiler, most of which has no types."""
    return compiler


def record_tables(dialect: Dialect) -> None:
    """Note the tables of all statements that the dialect compiles from now on."""
    own: Any = dialect
    base = cast("type[SQLCompiler]", own.statement_compiler)
    if not issubclass(base, RecordingCompiler):
        own.statement_compiler = type(f"Recording{base.__name__}", (RecordingCompiler, base), {})


def cascades(changed: set[tuple[Any, Change]]) -> set[Any]:
    """Return the tables that the database changes by foreign keys, where these are changed."""
    seen, found, waiting = set[tuple[Any, Change]](), set[Any](), list(changed)
    while waiting:
        table, change = waiting.pop()
        if (table, change) in seen or change == "insert" or not isinstance(table, Table):
            continue
        seen.add((table, change))
        referring = _referring(table, change)
        found.update(other for other, _ in referring)
        waiting += referring
    return found


def _referring(table: Table, change: Change) -> list[tuple[Any, Change]]:
    """Return the tables that the database changes with rows of this one, and how."""
    found: list[tuple[Any, Change]] = []
    for other in table.metadata.tables.values():
        for key in other.foreign_key_constraints:
            action = (key.ondelete if change == "delete" else key.onupdate) or ""
            if not action or not _refers_to(key, table):
                continue
            if action.upper() == "CASCADE":
                found.append((other, change))
            elif action.upper().startswith("SET"):
                found.append((other, "update"))
    return found


def _refers_to(key: ForeignKeyConstraint, table: Table) -> bool:
    try:
        return key.referred_table.key == table.key
    except NoReferenceError:
        # It refers to a table that the metadata does not have.
        return False
