"""Places in the source: file and line, and the call that a part of an expression stands in."""

import ast
from pathlib import Path
from typing import Final, NamedTuple

from maxage.explain.policy import shown_place
from maxage.lint.code.function import Function
from maxage.lint.code.reached import name_of

_LOGGED_BY: Final = frozenset({
    "critical", "debug", "error", "exception", "info", "log", "print", "trace", "warning",
})  # fmt: skip


class Place(NamedTuple):
    """A line of the application, with the expression of interest."""

    what: str
    """Such as `session.commit()`."""
    where: str
    """File and line, as seen from the current directory."""

    def __str__(self) -> str:
        return f"{self.what} ({self.where})"


def place(function: Function, node: ast.AST, what: str = "") -> Place:
    """Return the place of a part of a function."""
    where = shown_place(Path(function.file), function.line_of(node))
    return Place(what or short(node), where)


def short(node: ast.AST) -> str:
    """Return the source of a part of a function in a few characters."""
    if isinstance(node, ast.Call):
        return f"{short(node.func)}()"
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:37]}..."


def parents_of(function: Function) -> dict[ast.AST, ast.AST]:
    """Return the part that each part of a function stands in."""
    return {
        inner: outer for outer in ast.walk(function.node) for inner in ast.iter_child_nodes(outer)
    }


def is_logged(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Return whether an expression is an argument of a call that writes a log."""
    above = parents.get(node)
    while above is not None and not isinstance(above, ast.stmt):
        if isinstance(above, ast.Call) and name_of(above.func) in _LOGGED_BY:
            return True
        above = parents.get(above)
    return False
