"""Usage: whether a line only logs or counts the value that it reads.

The source is looked at, one statement at a time. A read that only a log sees changes no answer.
"""

import ast
from enum import Enum
from functools import lru_cache
from typing import Final

from maxage.audit.place import Place
from maxage.audit.source import called, is_load, statement_at

_SINKS: Final = frozenset({
    # loggers
    "debug", "info", "warning", "warn", "error", "exception", "critical", "log", "trace", "success",
    "print", "bind", "bind_contextvars", "contextualize",
    # spans and error trackers
    "set_attribute", "set_attributes", "set_tag", "set_tags", "set_context", "set_user",
    "set_extra", "add_breadcrumb", "add_event", "capture_message", "record_exception",
    # metrics
    "inc", "incr", "increment", "observe", "timing", "histogram", "gauge",
})  # fmt: skip
"""Functions whose discarded result shows that their arguments are only recorded."""
_FILLS: Final = frozenset({"update", "setdefault", "append", "extend", "add"})
"""Methods that put something into the object that they belong to."""


class _Use(Enum):
    RECORDED = "a log, a span or a metric gets it"
    RETURNED = "the caller gets it"
    OTHER = "anything else"


def is_only_recorded(chain: tuple[Place, ...]) -> bool:
    """Return whether the value that is read ends in a log, a span or a metric.

    Args:
        chain: the line that reads, and the lines that called it, the inner first.
    """
    for place in chain:
        use = _use_at(place.file, place.line)
        if use is not _Use.RETURNED:
            return use is _Use.RECORDED
    return False


@lru_cache(maxsize=4096)
def _use_at(file: str, line: int) -> _Use:
    statement = statement_at(file, line)
    if statement is None:
        return _Use.OTHER
    name = statement.assigned
    if name is None or statement.function is None:
        return _use_of(statement.node)
    uses = {_use_by(one, name) for one in statement.uses(name)}
    if _Use.OTHER in uses or not uses:
        return _Use.OTHER
    return _Use.RETURNED if _Use.RETURNED in uses else _Use.RECORDED


def _use_of(statement: ast.stmt) -> _Use:
    """Return how a statement uses all that it reads."""
    if isinstance(statement, ast.Return):
        return _Use.RETURNED
    if isinstance(statement, ast.Expr):
        value = statement.value
        call = value.value if isinstance(value, ast.Await) else value
        if isinstance(call, ast.Call) and called(call) in _SINKS:
            return _Use.RECORDED
    return _Use.OTHER


def _use_by(statement: ast.stmt, name: str) -> _Use:
    """Return how a statement uses a name."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        # It puts something into the object, which is looked at by its other uses.
        only = ast.unparse(statement.targets[0].value) == name
        in_value = any(is_load(node, name) for node in ast.walk(statement.value))
        return _Use.RECORDED if only and not in_value else _Use.OTHER
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == name and called(call) in _FILLS:
            return _Use.RECORDED
    return _use_of(statement)
