"""The scope of a function: the values of its names, and the parts of it that run."""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, final, get_args

from maxage.lint.code.function import Function
from maxage.lint.code.values import (
    PART,
    UNKNOWN,
    Value,
    attribute,
    instance_of,
    is_shared,
    known,
    plain_class,
    returned,
)

_BUILTINS: Final[Mapping[str, Any]] = vars(builtins)
_GIVES_PARTS: Final = frozenset({"get", "items", "values"})
"""Methods of containers that return their elements."""


@final
class Scope:
    """The names of one function with their values.

    `given` has the values of its parameters, where a caller is known.
    """

    def __init__(self, function: Function, given: Mapping[str, Value] | None = None) -> None:
        self.function: Final = function
        self._names: Final[dict[str, Value]] = {}
        for position, parameter in enumerate(function.parameters):
            known = (given or {}).get(parameter.arg, UNKNOWN)
            if known.kind == "unknown":
                known = self._declared(parameter.arg, first=position == 0)
            self._names[parameter.arg] = known
        outer = {
            name
            for node in function.walk()
            if isinstance(node, (ast.Global, ast.Nonlocal))
            for name in node.names
        }
        for name, value in _bindings(function):
            if name not in outer:
                known = self._bound(value)
                if known.kind != "unknown" or name not in self._names:
                    self._names[name] = known

    def walk(self) -> Iterator[ast.AST]:
        """Yield the parts of the function that run, as far as constant arguments decide it."""
        waiting: list[ast.AST] = list(reversed(self.function.node.body))
        while waiting:
            node = waiting.pop()
            yield node
            inner = list(ast.iter_child_nodes(node))
            if isinstance(node, ast.If) and (known := self._constant(node.test)) is not None:
                inner = list(node.body if known else node.orelse)
            waiting += reversed(inner)

    def _constant(self, test: ast.expr) -> bool | None:
        """Return whether a condition holds, where the caller says so; None: unknown."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            known = self._constant(test.operand)
            return None if known is None else not known
        is_argument = isinstance(test, ast.Name) and self.is_local(test.id)
        thing = self.value(test).thing if is_argument else None
        return thing if isinstance(thing, bool) else None

    def is_local(self, name: str) -> bool:
        """Return whether a name is a parameter, or bound in the function."""
        return name in self._names

    def value(self, node: ast.AST | None) -> Value:
        """Return the value of an expression."""
        value = UNKNOWN
        match node:
            case ast.Name(id=name):
                value = self._named(name)
            case ast.Attribute(value=inner, attr=name):
                value = attribute(self.value(inner), name)
            case ast.Subscript(value=inner):
                value = PART if is_shared(self.value(inner)) else UNKNOWN
            case ast.Call(func=called):
                value = self._returned(called)
            case ast.Constant(value=constant):
                value = Value("object", constant)
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                value = self.value(inner)
            case ast.BoolOp(values=[first, *_]):
                value = self.value(first)
            case _:
                pass
        return value

    def _named(self, name: str) -> Value:
        if name in self._names:
            return self._names[name]
        own: Mapping[str, Any] = self.function.names
        names = own if name in own else _BUILTINS
        return known(names[name]) if name in names else UNKNOWN

    def _returned(self, called: ast.expr) -> Value:
        if isinstance(called, ast.Attribute) and called.attr in _GIVES_PARTS:
            of = self.value(called.value)
            if is_shared(of):
                return PART
        return returned(self.value(called))

    def _bound(self, value: ast.expr | str | None) -> Value:
        if isinstance(value, str):
            return _imported(value)
        if isinstance(value, ast.Starred):
            # The elements of this container, one after the other.
            return PART if is_shared(self.value(value.value)) else UNKNOWN
        return self.value(value)

    def _declared(self, name: str, *, first: bool) -> Value:
        """Return the value of a parameter by its annotation or its default."""
        owner = self.function.owner
        if first and owner is not None:
            is_class = isinstance(owner, type)
            return Value("instance", owner) if is_class else Value("object", owner)
        annotated = self.function.annotation(name)
        kind = plain_class(annotated)
        declared = UNKNOWN if kind is None else instance_of(kind)
        for marker in (*get_args(annotated)[1:], _default(self.function, name)):
            given = returned(Value("object", getattr(marker, "dependency", None)))
            if given.kind == "object" or (given.kind == "instance" and kind is None):
                return given
        return declared


def _default(function: Function, name: str) -> Any:
    try:
        return inspect.signature(function.call).parameters[name].default
    except (KeyError, TypeError, ValueError):
        return None


def _imported(name: str) -> Value:
    """Return the values that an import inside a function binds, of modules loaded already."""
    module, _, inner = name.partition(":")
    found: Any = sys.modules.get(module)
    if found is None:
        return UNKNOWN
    return attribute(Value("object", found), inner) if inner else Value("object", found)


def _bindings(function: Function) -> Iterator[tuple[str, ast.expr | str | None]]:
    """Yield each name that a function binds, with its value.

    That is an expression, a starred one for the elements of a container, the text `module:name` of
    an import, or None: unknown.
    """
    for node in function.walk():
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
                | ast.withitem(context_expr=value, optional_vars=ast.Name(id=name))
            ):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=value, annotation=annotation):
                yield name, value
                # An annotation says more than a call of a function that is not known.
                yield name, ast.Call(annotation, [], [])
            case (
                ast.For(target=target, iter=values) | ast.comprehension(target=target, iter=values)
            ):
                yield from ((name, ast.Starred(values)) for name in _stored(target))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from ((name, None) for name in (node.name, *(a.arg for a in node.args.args)))
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield alias.asname or alias.name.partition(".")[0], alias.name
            case ast.ImportFrom(names=aliases, module=module, level=level):
                for alias in aliases:
                    yield alias.asname or alias.name, None if level else f"{module}:{alias.name}"
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, None
            case _:
                pass


def _stored(target: ast.expr) -> Iterator[str]:
    return (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
