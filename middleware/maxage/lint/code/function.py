"""The source of one function: its syntax tree, its lines, and the values of its names."""

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, final

from maxage.audit.place import is_own_file

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_MOST_DECORATORS: Final = 16


own_packages: Final[ContextVar[frozenset[str]]] = ContextVar("own_packages", default=frozenset())
"""Packages of its endpoints: they are the application's own though they are installed."""


@final
class Function:
    """One function of the application, as it stands in its file.

    Args:
        call: the function itself, without partials and methods around it.
        node: its syntax tree.
        first_line: the number of the line in its file on which its source begins.
        lines: its source, with its decorators.
        owner: the object whose method it is, or the class; None: neither.
    """

    def __init__(
        self, call: Any, node: FunctionNode, first_line: int, lines: list[str], owner: Any
    ) -> None:
        self.call: Final = call
        self.node: Final = node
        self.first_line: Final = first_line
        self.lines: Final = lines
        self.owner: Final = owner
        self.file: Final[str] = call.__code__.co_filename
        self.names: Final = _names_of(call)

    @property
    def parameters(self) -> list[ast.arg]:
        """Its parameters, in order, without `*` and `**`."""
        arguments = self.node.args
        return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]

    def annotation(self, name: str) -> Any:
        """Return the annotation of a parameter, or of `return`, evaluated; None: unknown."""
        found = getattr(self.call, "__annotations__", {}).get(name)
        if not isinstance(found, str):
            return found
        try:
            return eval(found, dict(self.names))  # noqa: S307 - as typing.get_type_hints does
        except Exception:  # noqa: BLE001 - names that exist for type checkers only
            return None

    def walk(self) -> Iterator[ast.AST]:
        """Yield all parts of its body, those of inner functions included."""
        for statement in self.node.body:
            yield from ast.walk(statement)

    def line_of(self, node: ast.AST) -> int:
        """Return the number of the line in the file."""
        return self.first_line + getattr(node, "lineno", 1) - 1


def function_of(call: Any) -> Function | None:
    """Return the function behind an endpoint or dependency; None: it has no source here."""
    owner: Any = None
    for _ in range(_MOST_DECORATORS):
        if isinstance(call, partial):
            call = call.func  # pyright: ignore[reportUnknownMemberType] -- a partial of anything
        elif inspect.ismethod(call):
            owner, call = call.__self__, call.__func__
        elif isinstance(call, type):
            owner, call = call, getattr(call, "__init__", None)
        elif inspect.isfunction(call):
            inner: Any = getattr(call, "__wrapped__", None)
            if inner is None:
                break
            call = inner
        else:
            owner, call = call, _own_call(call)
    return _read(call, owner) if inspect.isfunction(call) and is_own(call) else None


def _own_call(thing: Any) -> Any:
    """Return the `__call__` that the class of an object defines."""
    kind = type(thing)  # pyright: ignore[reportUnknownVariableType] -- of any class
    return inspect.getattr_static(kind, "__call__", None)  # pyright: ignore[reportUnknownArgumentType] -- as above


def is_own(call: Any) -> bool:
    """Return whether a function is the application's own, and not an installed package's."""
    if str(getattr(call, "__module__", "")).partition(".")[0] in own_packages.get():
        return True
    return _is_own_file(getattr(getattr(call, "__code__", None), "co_filename", None))


def is_of_own_class(thing: Any) -> bool:
    """Return whether an object is of a class of the application's own."""
    module = str(type(thing).__module__)
    if module.partition(".")[0] in own_packages.get():
        return True
    return _is_own_file(getattr(sys.modules.get(module), "__file__", None))


def _is_own_file(file: str | None) -> bool:
    return file is not None and Path(file).is_absolute() and is_own_file(file)


def _read(call: Any, owner: Any) -> Function | None:
    parsed = _parsed(call)
    return None if parsed is None else Function(call, *parsed, owner)


@lru_cache(maxsize=4096)
def _parsed(call: Any) -> tuple[FunctionNode, int, list[str]] | None:
    try:
        lines, first = inspect.getsourcelines(call)
        body = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    node = body[0] if body else None
    return (node, first, lines) if isinstance(node, FunctionNode) else None


def head_of(definition: "Function | type[Any]") -> list[str]:
    """Return the lines of a definition from the comments above it to the beginning of its body."""
    try:
        call = definition.call if isinstance(definition, Function) else definition
        lines, first = inspect.getsourcelines(call)
        before = linecache.getlines(inspect.getsourcefile(call) or "")[: first - 1]
        body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return []
    above: list[str] = []
    while before and before[-1].lstrip().startswith("#"):
        above.append(before.pop())
    inner = getattr(body, "body", [body])[0]
    return [*above, *lines[: max(inner.lineno - 1, 1)]]


def _names_of(call: Any) -> Mapping[str, Any]:
    """Return the values of the free names of a function: of its closure and of its module."""
    names: dict[str, Any] = dict(call.__globals__)
    for name, cell in zip(call.__code__.co_freevars, call.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            names.pop(name, None)
    return names
