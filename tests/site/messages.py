"""Collects what the library says: its log lines, and the errors that its users see.

A part that is filled in is shown as `…`, so that a message is the same here and on the page.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.documents import ROOT

LIBRARY = ROOT / "middleware"
LEVELS = {"debug", "info", "warning", "error", "exception", "log"}
ERRORS = {
    "AssertionError",
    "ModuleNotFoundError",
    "SettingsError",
    "UnsupportedWhileAwayError",
    "UsageError",
    "_complain",
    "complain",
}
"""Those that reach users, and what the command line says itself."""


@dataclass(frozen=True)
class Message:
    """One log line or error, and where it is made."""

    text: str
    kind: str
    """The level of a log line, or the class of an error."""
    place: str


def messages() -> list[Message]:
    """All of them, in the order of the files."""
    found: list[Message] = []
    for path in sorted(LIBRARY.rglob("*.py")):
        module = ast.parse(path.read_text())
        texts = dict(_constants(module))
        for node in ast.walk(module):
            found += _of_call(node, path, texts) if isinstance(node, ast.Call) else ()
    return found


def _constants(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The values that names of a module are bound to, such as a message that is said twice."""
    for node in module.body:
        if isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0]), node.value


def _of_call(call: ast.Call, path: Path, texts: dict[str, ast.expr]) -> Iterator[Message]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    logs = name in LEVELS and "logger" in ast.unparse(call.func)
    kind = name if logs else call.func.id if isinstance(call.func, ast.Name) else ""
    if not logs and kind not in ERRORS:
        return
    arguments = call.args[1:] if kind == "log" else call.args
    text = _text(texts.get(ast.unparse(arguments[0]), arguments[0])) if arguments else ""
    if re.search("[a-z]{3}", text):
        place = f"{path.relative_to(ROOT)}:{call.lineno}"
        yield Message(" ".join(text.split()), kind, place)


def _text(node: ast.expr) -> str:
    """The text of a constant or an f-string; nothing of an expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sdr]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"
