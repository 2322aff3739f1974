"""Usage: whether a line does no more with what it reads than to log or count it.

The source is looked at, one statement at a time. A read that only a log sees changes no answer.
"""

import ast
import linecache
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import Final

from maxage.audit.place import Place

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
    tree = _tree(file)
    if tree is None:
        return _Use.OTHER
    around = [node for node in ast.walk(tree) if _spans(node, line)]
    statements = [node for node in around if isinstance(node, ast.stmt)]
    functions = [n for n in around if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not statements:
        return _Use.OTHER
    innermost = min(statements, key=_height)
    use = _use_of(innermost)
    name = _assigned(innermost)
    if name is None or not functions:
        return use
    return _use_of_name(min(functions, key=_height), name, innermost)


@lru_cache(maxsize=256)
def _tree(file: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return None


def _spans(node: ast.AST, line: int) -> bool:
    first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
    return first is not None and last is not None and first <= line <= last


def _height(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno


def _use_of(statement: ast.stmt) -> _Use:
    """Return what a statement does with all that it reads."""
    if isinstance(statement, ast.Return):
        return _Use.RETURNED
    if isinstance(statement, ast.Expr):
        value = statement.value
        called = value.value if isinstance(value, ast.Await) else value
        if isinstance(called, ast.Call) and _called(called) in _SINKS:
            return _Use.RECORDED
    return _Use.OTHER


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _assigned(statement: ast.stmt) -> str | None:
    """Return the one name that a statement assigns, if it does nothing else."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _use_of_name(function: ast.stmt, name: str, assigned: ast.stmt) -> _Use:
    """Return what a function does with a name."""
    uses = {_use_by(one, name) for one in _uses(function, name) if one is not assigned}
    if _Use.OTHER in uses or not uses:
        return _Use.OTHER
    return _Use.RETURNED if _Use.RETURNED in uses else _Use.RECORDED


def _use_by(statement: ast.stmt, name: str) -> _Use:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        # It puts something into the object, which is looked at by its other uses.
        only = ast.unparse(statement.targets[0].value) == name
        in_value = any(_is_load(node, name) for node in ast.walk(statement.value))
        return _Use.RECORDED if only and not in_value else _Use.OTHER
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == name and _called(call) in _FILLS:
            return _Use.RECORDED
    return _use_of(statement)


def _uses(function: ast.stmt, name: str) -> Iterator[ast.stmt]:
    """Yield the innermost statements of a function that read the name."""
    for statement in ast.walk(function):
        if isinstance(statement, ast.stmt) and statement is not function:
            nodes = _own_nodes(statement)
            if any(_is_load(node, name) for node in nodes):
                yield statement


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a statement without those of the statements in it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.stmt)]


def _is_load(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
