"""Lookups: which names the application takes from a copy of all headers or cookies.

`dict(request.headers).get("x-beta")` reads every header and looks at one. The source shows it,
through a name that is assigned, and through a function or property that returns the copy.
"""

import ast
from typing import Final

from maxage.audit.place import Place
from maxage.audit.source import Statement, called, is_load, own_nodes, statement_at

_METHODS: Final = frozenset({"get", "getlist", "getall", "pop"})


def looked_up(chain: tuple[Place, ...]) -> frozenset[str] | None:
    """Return the names that are looked up, in lower case; None: it may be any of them.

    Args:
        chain: the line that copies, and the lines that called it, the inner first.
    """
    made_by: str | None = None
    for place in chain:
        statement = statement_at(place.file, place.line)
        if statement is None:
            return None
        copies = [node for node in own_nodes(statement.node) if _is_copy(node, made_by)]
        if not copies:
            return None
        if all(_is_returned(statement, copy) for copy in copies):
            made_by = place.code.co_name
            continue
        names = [_names_of(statement, copy) for copy in copies]
        return None if None in names else frozenset(name for found in names for name in found or ())
    return None


def _is_copy(node: ast.AST, made_by: str | None) -> bool:
    """Return whether a node is the copy: made here, or by the function that was called."""
    if made_by is None:
        is_made = isinstance(node, ast.Call) and called(node) == "dict"
        return is_made or isinstance(node, ast.DictComp)
    if isinstance(node, ast.Call):
        return called(node) == made_by
    return isinstance(node, ast.Attribute) and node.attr == made_by


def _is_returned(statement: Statement, copy: ast.AST) -> bool:
    node = statement.node
    if isinstance(node, ast.Return):
        return node.value is copy
    name = statement.assigned
    if name is None or getattr(node, "value", None) is not copy:
        return False
    uses = [*statement.uses(name)]
    return bool(uses) and all(
        isinstance(use, ast.Return) and use.value is not None and is_load(use.value, name)
        for use in uses
    )


def _names_of(statement: Statement, copy: ast.AST) -> frozenset[str] | None:
    """Return the names that are looked up in a copy; None: it is used in another way."""
    name = statement.assigned
    if name is None or getattr(statement.node, "value", None) is not copy:
        taken = _name_taken(statement.node, copy)
        return None if taken is None else frozenset({taken})
    names: set[str] = set()
    for use in statement.uses(name):
        for node in own_nodes(use):
            if is_load(node, name):
                taken = _name_taken(use, node)
                if taken is None:
                    return None
                names.add(taken)
    return frozenset(names)


def _name_taken(statement: ast.stmt, copy: ast.AST) -> str | None:
    """Return the name that the statement takes from a copy."""
    parents = {
        id(child): node for node in own_nodes(statement) for child in ast.iter_child_nodes(node)
    }
    parent = parents.get(id(copy))
    key: ast.AST | None = None
    if isinstance(parent, ast.Attribute) and parent.attr in _METHODS:
        call = parents.get(id(parent))
        if isinstance(call, ast.Call) and call.func is parent and call.args:
            key = call.args[0]
    elif isinstance(parent, ast.Subscript) and parent.value is copy:
        key = parent.slice
    elif isinstance(parent, ast.Compare) and parent.comparators == [copy]:
        key = parent.left if isinstance(parent.ops[0], ast.In | ast.NotIn) else None
    value = key.value if isinstance(key, ast.Constant) else None
    if isinstance(value, bytes):
        return value.decode("latin-1").lower()
    return value.lower() if isinstance(value, str) else None
