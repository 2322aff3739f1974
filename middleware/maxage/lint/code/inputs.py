"""Inputs: the reads of a handler from its request besides method, URL and declared parameters."""

import ast
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from maxage.lint.code.places import Place, is_logged, parents_of, place
from maxage.lint.code.scope import Scope

InputKind = Literal["header", "cookie", "client", "state", "identity"]
_KINDS: Final[dict[str, InputKind]] = {
    "headers": "header", "cookies": "cookie", "client": "client", "state": "state",
    "session": "identity", "user": "identity", "auth": "identity",
}  # fmt: skip


class Input(NamedTuple):
    """One read of a request."""

    kind: InputKind
    name: str
    """Of the header in lower case, of the cookie or attribute; empty: all, or not known."""
    place: Place


def inputs(scopes: Iterable[Scope]) -> Iterator[Input]:
    """Yield the reads of these functions from the request, except those for a log only."""
    for scope in scopes:
        function = scope.function
        if not function.parameters:
            continue
        parents = parents_of(function)
        for node in scope.walk():
            kind = _kind(scope, node)
            if kind is None or is_logged(node, parents):
                continue
            name, whole = _read(scope, node, parents, kind)
            name = name.lower() if kind == "header" else name
            if not (isinstance(whole, (ast.Attribute, ast.Subscript)) and _is_set(whole)):
                yield Input(kind, name, place(function, whole, ast.unparse(whole)))


def stored_state(scopes: Iterable[Scope]) -> set[str]:
    """Return the names that these functions set in `request.state`."""
    return {
        node.attr
        for scope in scopes
        for node in scope.walk()
        if isinstance(node, ast.Attribute) and _is_set(node)
        and isinstance(node.value, ast.Attribute) and node.value.attr == "state"
        and not (isinstance(node.value.value, ast.Attribute) and node.value.value.attr == "app")
    }  # fmt: skip


def _kind(scope: Scope, node: ast.AST) -> InputKind | None:
    """Return the part of the request that an expression is, such as `request.headers`, or None."""
    match node:
        case ast.Attribute(value=inner, attr=name) if name in _KINDS:
            return _KINDS[name] if scope.value(inner).kind == "request" else None
        case ast.Subscript(
            value=ast.Attribute(value=inner, attr="scope"), slice=ast.Constant(value=str(name))
        ) if name in _KINDS:
            return _KINDS[name] if scope.value(inner).kind == "request" else None
        case _:
            return None


def _read(
    scope: Scope, node: ast.AST, parents: dict[ast.AST, ast.AST], kind: InputKind
) -> tuple[str, ast.AST]:
    """Return the name that is read, and the whole expression that reads it."""
    above = parents.get(node)
    if kind in {"client", "identity"}:
        return getattr(node, "attr", ""), node
    match above:
        case ast.Attribute(attr=name) if kind == "state":
            return name, above
        case ast.Attribute(attr="get" | "getlist"):
            call = parents.get(above)
            if isinstance(call, ast.Call) and call.args:
                return _text(scope, call.args[0]), call
        case ast.Subscript(slice=key):
            return _text(scope, key), above
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()]):
            return _text(scope, left), above
        case _:
            pass
    return "", node


def _text(scope: Scope, node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    value = scope.value(node)
    return value.thing if isinstance(value.thing, str) else ""


def _is_set(node: ast.Attribute | ast.Subscript) -> bool:
    return not isinstance(node.ctx, ast.Load)
