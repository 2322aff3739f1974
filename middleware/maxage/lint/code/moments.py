"""Moments: reads of the clock, of random numbers, of jobs and of the machine.

No write to the application makes an answer stale that depends on one of these.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

from maxage.lint.code.places import Place, is_logged, parents_of, place
from maxage.lint.code.reached import name_of
from maxage.lint.code.scope import Scope
from maxage.lint.code.values import is_a, is_from

_CLOCK: Final = frozenset({
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns",
    "timezone.now", "arrow.now", "arrow.utcnow", "pendulum.now",
})  # fmt: skip
_RANDOM: Final = frozenset({
    "choice", "choices", "gauss", "getrandbits", "randbelow", "randint", "random", "randrange",
    "sample", "shuffle", "token_bytes", "token_hex", "token_urlsafe", "uniform", "urandom", "uuid1",
    "uuid4", "uuid7",
})  # fmt: skip
_SOURCES: Final = frozenset({"random", "secrets", "uuid", "os", "numpy.random"})
_SENSORS: Final = ("arq", "celery", "dramatiq", "huey", "psutil", "rq")
"""Packages that return the state of jobs, or of the machine."""
_TIMING: Final = re.compile(r"(?i)start|begin|began|t0|elapsed|duration|request_?id|trace_?id")
"""Names that get a moment for measuring or for a log."""


def moments(scopes: Iterable[Scope]) -> Iterator[Place]:
    """Yield the places where these functions read a value of the moment, except for a log."""
    for scope in scopes:
        function = scope.function
        parents = parents_of(function)
        for node in scope.walk():
            if not isinstance(node, ast.Call) or not _is_moment(scope, node):
                continue
            if not is_logged(node, parents) and not _is_timing(node, parents):
                yield place(function, node)


def _is_moment(scope: Scope, call: ast.Call) -> bool:
    name = name_of(call.func)
    dotted = ".".join(ast.unparse(call.func).split(".")[-2:])
    if dotted in _CLOCK:
        return True
    value = scope.value(call.func)
    of = scope.value(call.func.value) if isinstance(call.func, ast.Attribute) else value
    if any(is_from(one, *_SENSORS) or is_a(one, *_SENSORS) for one in (value, of)):
        return True
    thing = value.thing
    if name in _RANDOM:
        module = (
            getattr(thing, "__module__", None) or type(getattr(thing, "__self__", None)).__module__
        )
        return module in _SOURCES or dotted.partition(".")[0] in _SOURCES
    return name == "time" and getattr(thing, "__module__", "") == "time"


def _is_timing(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Return whether a moment is subtracted from another one, or kept for that."""
    above = parents.get(node)
    while above is not None and not isinstance(above, ast.stmt):
        if isinstance(above, ast.BinOp) and isinstance(above.op, ast.Sub):
            return "timedelta" not in ast.unparse(above.right)
        above = parents.get(above)
    targets = getattr(above, "targets", [getattr(above, "target", None)])
    return any(isinstance(one, ast.expr) and _TIMING.search(ast.unparse(one)) for one in targets)
