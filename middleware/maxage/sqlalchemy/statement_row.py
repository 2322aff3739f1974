"""The one row that a statement is about, where its primary key is in the condition.

A statement is about one row if it names one table, once, and if its condition is `key = value`, or
that and more. Other forms are about the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, Column, Delete, Integer, Select, Table, Update, Uuid
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList

from maxage.sqlalchemy.statement_tables import RecordingCompiler

MOST_ROWS: Final = 16
"""Rows of one statement, executed with many parameters, that are told apart."""


class RowPlace(NamedTuple):
    """Where a statement has the key of its row."""

    table: Table
    parameter: str
    """The name of the parameter."""
    kind: type[int] | type[UUID]
    """The type of its values. Other types have values that differ and name one row, as texts do."""


def row_place(compiled: RecordingCompiler) -> RowPlace | None:
    """Return where a compiled statement has the key of its row; None: it may be about others."""
    statement, named = compiled.statement, compiled.named_tables
    if not isinstance(statement, (Select, Update, Delete)) or named.places != 1 or named.has_text:
        return None
    (table,) = named.read
    if not isinstance(table, Table) or len(table.primary_key.columns) != 1:
        return None
    (key,) = table.primary_key.columns
    kind = _kind(key)
    if kind is None or (isinstance(statement, Update) and _sets(compiled, statement, key)):
        return None
    for condition in _conditions(statement.whereclause):
        parameter = _parameter(compiled, condition, key)
        if parameter is not None:
            return RowPlace(table, parameter, kind)
    return None


def row_keys(place: RowPlace, parameters: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return the keys of the rows of one execution; None: there are others, or too many."""
    values = [each.get(place.parameter) for each in parameters]
    if len(values) > MOST_ROWS or any(type(value) is not place.kind for value in values):
        return None
    return [str(value) for value in values]


def _kind(key: Column[Any]) -> type[int] | type[UUID] | None:
    if isinstance(key.type, Integer):
        return int
    return UUID if isinstance(key.type, Uuid) else None


def _sets(compiled: RecordingCompiler, statement: Update, key: Column[Any]) -> bool:
    """Return whether an UPDATE may give the row another key."""
    named = set(compiled.column_keys or ())
    values: Mapping[Any, Any] = getattr(statement, "_values", None) or {}
    named |= {getattr(column, "key", column) for column in values}
    return not named.isdisjoint((key.key, key.name))


def _conditions(condition: Any) -> Iterator[Any]:
    """Yield the conditions that all have to hold."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for part in condition.clauses:
            yield from _conditions(part)
    else:
        yield condition


def _parameter(compiled: RecordingCompiler, condition: Any, key: Column[Any]) -> str | None:
    """Return the parameter that a condition compares the key with."""
    if not isinstance(condition, BinaryExpression) or condition.operator is not operators.eq:
        return None
    column, value = condition.left, condition.right
    if not isinstance(column, Column) or not isinstance(value, BindParameter):
        return None
    is_key = column.table is key.table and column.name == key.name
    return compiled.bind_names.get(value) if is_key else None
