"""Source: the statement at a line, its function, and where a name is used in it."""

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Statement(Struct, frozen=True):
    """The innermost statement at a line."""

    node: ast.stmt
    function: Function | None
    """The function that it is in."""

    @property
    def assigned(self) -> str | None:
        """The one name that the statement assigns, if it does nothing else."""
        if isinstance(self.node, ast.Assign) and len(self.node.targets) == 1:
            target = self.node.targets[0]
        elif isinstance(self.node, ast.AnnAssign):
            target = self.node.target
        else:
            return None
        return target.id if isinstance(target, ast.Name) else None

    def uses(self, name: str) -> Iterator[ast.stmt]:
        """Yield the innermost statements of the function that read the name, but not this one."""
        for node in ast.walk(self.function) if self.function is not None else ():
            if isinstance(node, ast.stmt) and node not in (self.node, self.function):
                yield from (node,) if _reads(node, name) else ()


@lru_cache(maxsize=4096)
def statement_at(file: str, line: int) -> Statement | None:
    """Return the innermost statement at a line; None: there is no source."""
    tree = _tree(file)
    around = [] if tree is None else [node for node in ast.walk(tree) if _spans(node, line)]
    statements = [node for node in around if isinstance(node, ast.stmt)]
    functions = [node for node in around if isinstance(node, Function)]
    if not statements:
        return None
    function = min(functions, key=_height) if functions else None
    return Statement(min(statements, key=_height), function)


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


def own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a statement without those of the statements in it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.stmt)]


def _reads(statement: ast.stmt, name: str) -> bool:
    return any(is_load(node, name) for node in own_nodes(statement))


def is_load(node: ast.AST, name: str) -> bool:
    """Return whether the node reads the name."""
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def called(call: ast.Call) -> str:
    """Return the last part of the name of the function or method that is called."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
