"""Statements that write: those of SQLAlchemy, of a table's methods, and SQL in a text."""

import ast
import re
from typing import Final

from maxage.lint.code.scope import Scope

_SQL: Final = re.compile(
    r"\s*(?:insert\s+(?:or\s+\w+\s+)?into|update\s+\S+\s+set|delete\s+from|replace\s+into|"
    r"merge\s+into|truncate|drop|alter|create)\b",
    re.IGNORECASE,
)


def is_statement(scope: Scope, node: ast.expr) -> bool:
    """Return whether an argument is a statement that writes."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr=name)):
            of_table = isinstance(inner, ast.Name | ast.Attribute)
            if name in {"insert", "update", "delete"} and of_table:
                return True
            return is_statement(scope, inner)
        case ast.Call(func=ast.Name(id="text"), args=[inner, *_]):
            return is_statement(scope, inner)
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            return _SQL.match(text) is not None
        case ast.Name() | ast.Constant() | ast.Attribute():
            text = scope.value(node).thing
            return isinstance(text, str) and _SQL.match(text) is not None
        case _:
            return False
