"""Effects: the changes of a handler in a database, in objects of its module, or in files."""

import ast
import re
from collections.abc import Iterable, Iterator, MutableMapping, MutableSequence, MutableSet
from typing import Final

from maxage.lint.code.function import is_of_own_class
from maxage.lint.code.places import Place, place
from maxage.lint.code.reached import name_of
from maxage.lint.code.scope import Scope
from maxage.lint.code.sql import is_statement
from maxage.lint.code.values import is_a, is_from

_DATABASES: Final = (
    "sqlalchemy", "sqlmodel", "databases", "sqlite3", "aiosqlite", "psycopg", "psycopg2", "asyncpg",
    "pymysql", "aiomysql", "MySQLdb", "duckdb", "peewee", "odmantic", "motor", "pymongo", "tinydb",
    "dataset", "tortoise", "beanie", "ormar", "piccolo", "mongoengine", "pony",
)  # fmt: skip
_SESSION: Final = re.compile(r"(?:^|_)(?:db|database|session|sess|conn|connection|cursor|cur)$")
"""Names that objects of unknown classes have, where they are a database's."""
_SESSION_WRITES: Final = frozenset({
    "add", "add_all", "bulk_insert_mappings", "bulk_save_objects", "bulk_update_mappings", "commit",
    "delete", "merge",
})  # fmt: skip
_TABLE_WRITES: Final = frozenset({
    "create", "insert", "insert_many", "insert_multiple", "remove", "save", "truncate", "update",
    "upsert",
})  # fmt: skip
"""Methods by which objects of these modules write."""
_EXECUTES: Final = frozenset({
    "exec", "exec_driver_sql", "execute", "executemany", "executescript", "fetch", "fetch_all",
    "fetch_one", "fetch_val", "fetchrow", "fetchval", "run", "scalar", "scalars",
})  # fmt: skip
_DOCUMENT_WRITES: Final = frozenset({
    "bulk_write", "delete_many", "delete_one", "find_one_and_delete", "find_one_and_replace",
    "find_one_and_update", "insert_many", "insert_one", "replace_one", "update_many", "update_one",
})  # fmt: skip
_REDIS_WRITES: Final = frozenset({
    "decr", "hincrby", "hset", "incr", "incrby", "lpush", "rpush", "sadd", "srem", "xadd", "zadd",
    "zincrby",
})  # fmt: skip
_MUTATES: Final = frozenset({
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
    "popleft", "remove", "update",
})  # fmt: skip
_FILE_WRITES: Final = frozenset({"rmdir", "rmtree", "unlink", "write_bytes", "write_text"})
_HARMLESS: Final = re.compile(r"(?i)cache|memo|lock|lru|temp|tmp")
"""Names of objects that are kept for speed or for a moment."""
_CONTAINERS: Final = (MutableMapping, MutableSequence, MutableSet)


def effects(scopes: Iterable[Scope]) -> Iterator[Place]:
    """Yield the changes that these functions make."""
    for scope in scopes:
        filled = _filled_once(scope)
        for node in scope.walk():
            if _changes(scope, node) or (node not in filled and _changes_object(scope, node)):
                yield place(scope.function, node)


def purges(scopes: Iterable[Scope]) -> bool:
    """Return whether one of these functions purges by hand, or sets a typed value."""
    return any(
        _purges(scope, node)
        for scope in scopes
        for node in scope.walk()
        if isinstance(node, ast.Call)
    )


def commits(scopes: Iterable[Scope]) -> bool:
    """Return whether one of these functions commits."""
    return any(
        isinstance(node, ast.Call) and name_of(node.func) == "commit"
        for scope in scopes
        for node in scope.walk()
    )


def _purges(scope: Scope, call: ast.Call) -> bool:
    if is_from(scope.value(call.func), "maxage.invalidation"):
        return True
    match call.func:
        case ast.Attribute(value=of, attr=name):
            typed = is_a(scope.value(of), "maxage.typed")
            return typed and name.removeprefix("a").startswith(("set", "delete"))
        case _:
            return False


def _changes(scope: Scope, node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=of, attr=name)):
            return _writes_to_database(scope, node, of, name) or _writes_file(scope, node, of, name)
        case ast.Call(func=ast.Name(id="insert" | "update" | "delete") as called):
            return is_from(scope.value(called), "sqlalchemy", "sqlmodel")
        case ast.Call(func=ast.Name(id="open")):
            return _opens_for_writing(scope, node)
        case _:
            return False


def _changes_object(scope: Scope, node: ast.AST) -> bool:
    """Return whether a part of a function changes an object that outlives the request."""
    match node:
        case ast.Call(func=ast.Attribute(value=of, attr=name)) if name in _MUTATES:
            return _is_shared_object(scope, of)
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return any(_is_shared_target(scope, target) for target in targets)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target, value=ast.expr()):
            return _is_shared_target(scope, target)
        case _:
            return False


def _writes_to_database(scope: Scope, call: ast.Call, of: ast.expr, name: str) -> bool:
    if name in {"delete", "update"} and _is_query(of):
        return True
    value = scope.value(of)
    if name in {"save", "asave"} and not call.args:
        # An image or a workbook is saved to some place.
        return value.kind != "object"
    if name in _SESSION_WRITES:
        is_text = bool(call.args) and _is_text(call.args[0])
        is_session = value.kind == "unknown" and _SESSION.search(name_of(of)) is not None
        return (is_session or is_a(value, *_DATABASES)) and not is_text
    if name in _REDIS_WRITES:
        return is_a(value, "redis") or "redis" in name_of(of).lower()
    if name in {"delete", "insert", "update"} and is_from(
        scope.value(call.func), "sqlalchemy", "sqlmodel"
    ):
        return True
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return (
        name in _DOCUMENT_WRITES
        or (name in _TABLE_WRITES and is_a(value, *_DATABASES))
        or (name in _EXECUTES and any(is_statement(scope, each) for each in arguments))
    )


def _is_query(of: ast.expr) -> bool:
    """Return whether an expression is `session.query(...)` or `Model.filter(...)`, with filters."""
    while isinstance(of, ast.Call) and isinstance(of.func, ast.Attribute):
        if of.func.attr in {"filter", "query"}:
            return True
        of = of.func.value
    return False


def _writes_file(scope: Scope, call: ast.Call, of: ast.expr, name: str) -> bool:
    if name == "open":
        return _opens_for_writing(scope, call)
    is_write = name in _FILE_WRITES or (name == "remove" and name_of(of) == "os")
    return is_write and not _sends_file(scope) and not _HARMLESS.search(ast.unparse(call))


def _sends_file(scope: Scope) -> bool:
    """Return whether a function makes a file for its answer."""
    return any(
        isinstance(node, ast.Call) and name_of(node.func) == "FileResponse" for node in scope.walk()
    )


def _opens_for_writing(scope: Scope, call: ast.Call) -> bool:
    modes = [*call.args[:2], *(key.value for key in call.keywords if key.arg == "mode")]
    writes = any(
        isinstance(mode, ast.Constant)
        and isinstance(mode.value, str)
        and re.fullmatch(r"(?=.*[wax+])[rwaxbt+]{1,3}", mode.value)
        for mode in modes
    )
    return writes and not _sends_file(scope) and not _HARMLESS.search(ast.unparse(call))


def _is_shared_target(scope: Scope, target: ast.expr) -> bool:
    match target:
        case ast.Subscript(value=of):
            return _is_shared_object(scope, of)
        case ast.Attribute(value=of, attr=name):
            kind, thing = scope.value(of)
            is_object = kind == "object" and is_of_own_class(thing)
            return (is_object and not _HARMLESS.search(name)) or _is_shared_object(scope, of)
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            return any(_is_shared_target(scope, each) for each in targets)
        case ast.Name(id=name):
            is_global = not scope.is_local(name) and name in scope.function.names
            return is_global and not _HARMLESS.search(name)
        case _:
            return False


def _filled_once(scope: Scope) -> set[ast.AST]:
    """Return the parts of a function that only run where something is missing as yet."""
    return {
        inner
        for node in scope.walk()
        if isinstance(node, ast.If) and _asks_for_missing(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }


def _asks_for_missing(test: ast.expr) -> bool:
    """Return whether a condition is `x is None`, `not x` or `x not in y`, or has such a part."""
    match test:
        case ast.Compare(ops=[ast.Is()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Compare(ops=[ast.NotIn()]) | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BoolOp(values=values):
            return any(map(_asks_for_missing, values))
        case _:
            return False


def _is_shared_object(scope: Scope, of: ast.expr) -> bool:
    """Return whether an expression is an object that outlives the request."""
    source = ast.unparse(of)
    if _HARMLESS.search(source):
        return False
    value = scope.value(of)
    is_container = value.kind == "object" and isinstance(value.thing, _CONTAINERS)
    return is_container or value.kind == "part" or ".app.state" in f".{source}"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
