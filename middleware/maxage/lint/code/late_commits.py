"""Late commits: those in the exit code of a `yield` dependency, after the answer was sent."""

import ast
import inspect
from collections.abc import Iterator
from typing import Final

from maxage.lint.code.function import Function, function_of
from maxage.lint.code.places import Place, place
from maxage.lint.code.reached import name_of
from maxage.lint.code.scope import Scope
from maxage.lint.code.values import Value, is_a

_TRANSACTIONS: Final = frozenset({"atomic", "begin", "begin_nested", "transaction"})
_COMMIT_AT_EXIT: Final = ("psycopg", "psycopg2", "sqlite3")
"""Modules whose connections commit at the end of `with`."""
_DEEPEST: Final = 2


def late_commit(function: Function, *, depth: int = _DEEPEST) -> Place | None:
    """Return where a generator commits after its `yield`; None: it does not."""
    if not _is_generator(function):
        return None
    scope = Scope(function)
    yields = [node for node in function.walk() if isinstance(node, ast.Yield)]
    if not yields:
        return None
    first = min(node.lineno for node in yields)
    failing = {inner for node in function.walk() if isinstance(node, ast.ExceptHandler)
               for inner in ast.walk(node)}  # fmt: skip
    for node in function.walk():
        is_late = isinstance(node, ast.Call) and node.lineno > first and node not in failing
        if is_late and isinstance(node, ast.Call) and name_of(node.func) == "commit":
            return place(function, node)
    for item in _around(function, yields):
        found = _commits_at_exit(scope, item, depth)
        if found is not None:
            return found
    return None


def _is_generator(function: Function) -> bool:
    call = function.call
    return inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)


def _around(function: Function, yields: list[ast.Yield]) -> Iterator[ast.expr]:
    """Yield the context expressions of the `with` statements around a `yield`."""
    for node in function.walk():
        if isinstance(node, ast.With | ast.AsyncWith):
            inner = {each for statement in node.body for each in ast.walk(statement)}
            if not inner.isdisjoint(yields):
                yield from (item.context_expr for item in node.items)


def _commits_at_exit(scope: Scope, item: ast.expr, depth: int) -> Place | None:
    value = scope.value(item)
    if isinstance(item, ast.Call):
        if name_of(item.func) in _TRANSACTIONS:
            return place(scope.function, item)
        call = scope.value(item.func)
        if getattr(call.thing, "__name__", "") == "connect" and call.thing.__module__ in {
            "sqlite3", "_sqlite3", "psycopg", "psycopg.connection", "psycopg2",
        }:  # fmt: skip
            return place(scope.function, item)
        called = function_of(call.thing) if call.kind == "object" and depth else None
        if called is not None:
            return late_commit(called, depth=depth - 1)
    if is_a(value, *_COMMIT_AT_EXIT):
        return place(scope.function, item)
    return _committed_by(value)


def _committed_by(value: Value) -> Place | None:
    """Return where the application's own context manager commits at its end."""
    if value.kind != "instance":
        return None
    for name in ("__exit__", "__aexit__"):
        function = function_of(getattr(value.thing, name, None))
        for node in function.walk() if function is not None else ():
            if (
                function is not None
                and isinstance(node, ast.Call)
                and name_of(node.func) == "commit"
            ):
                return place(function, node)
    return None
