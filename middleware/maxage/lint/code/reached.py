"""Reached: the functions of a route, and those that they call."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from maxage.lint.code.function import Function
from maxage.lint.code.scope import Scope
from maxage.lint.code.values import Value, called_function

_DEEPEST: Final = 2
"""Calls that are followed from an endpoint or dependency."""
_RUNNERS: Final = frozenset({
    "add_task", "run_in_executor", "run_in_threadpool", "run_sync", "to_thread",
})  # fmt: skip
"""Functions that call one of their arguments."""


def reached(functions: Iterable[Function], *, depth: int = _DEEPEST) -> Iterator[Scope]:
    """Yield the scopes of functions, and of the application's own functions that they call.

    Args:
        functions: the endpoint, or dependencies.
        depth: calls that are followed from each of them.
    """
    seen = set[int]()
    for function in functions:
        yield from _reached(function, {}, depth, seen)


def _reached(
    function: Function, given: Mapping[str, Value], depth: int, seen: set[int]
) -> Iterator[Scope]:
    if id(function.call) in seen:
        return
    seen.add(id(function.call))
    scope = Scope(function, given)
    yield scope
    for node in scope.walk() if depth else ():
        if isinstance(node, ast.Call):
            for called, values in _called(scope, node):
                yield from _reached(called, values, depth - 1, seen)


def _called(scope: Scope, node: ast.Call) -> Iterator[tuple[Function, Mapping[str, Value]]]:
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    candidates: list[ast.expr] = [node.func]
    if name_of(node.func) in _RUNNERS:
        candidates += arguments
    for candidate in candidates:
        found = called_function(scope.value(candidate))
        if found is not None:
            function, known = found
            yield function, {**_given(scope, node, function, len(known)), **known}


def _given(scope: Scope, node: ast.Call, function: Function, skipped: int) -> dict[str, Value]:
    """Return the values of the arguments by the names of the parameters."""
    names = [parameter.arg for parameter in function.parameters[skipped:]]
    given = {name: scope.value(value) for name, value in zip(names, node.args, strict=False)}
    named = {key.arg: scope.value(key.value) for key in node.keywords if key.arg is not None}
    return given | named


def name_of(node: ast.expr) -> str:
    """Return the last name of an expression: `add` of `self.session.add`; empty: none."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
