"""Collects what the library says: log lines, what it raises, and sentences of the command line.

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
SAID = {"_complain", "complain"}
"""What prints a sentence of the command line."""
MADE = {"_complaints", "_unknown"}
"""Functions that return sentences; what raises or prints them has no words of its own."""
TOLD_ELSEWHERE = {
    "AttributeError",  # Python's own words
    "cast",  # an exception of the caller's own
    "MalformedLineError",  # said within "left out, …"
    "unsupported",  # said within "… needs Redis, which is away or disabled"
}
ANSWERS = LIBRARY / "maxage/writes/refusal.py"
"""The texts of 503 answers, which are constants."""


@dataclass(frozen=True)
class Message:
    """One log line or error, and where it is made."""

    text: str
    kind: str
    """The level of a log line, the class of an error, or what says it."""
    place: str


def messages() -> list[Message]:
    """All of them, in the order of the files."""
    found: list[Message] = []
    for path in sorted(LIBRARY.rglob("*.py")):
        module = ast.parse(path.read_text())
        texts = dict(_constants(module))
        for node in ast.walk(module):
            found += _of_node(node, path, texts)
        if path == ANSWERS:
            found += [_message(one, "503", path) for one in texts.values()]
    return [one for one in found if re.search("[a-z]{3}", one.text)]


def _constants(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The values that names of a module are bound to, such as a message that is said twice."""
    for node in module.body:
        if isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0]), node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), node.value


def _of_node(node: ast.AST, path: Path, texts: dict[str, ast.expr]) -> Iterator[Message]:
    if isinstance(node, ast.FunctionDef) and node.name in MADE:
        for part in ast.walk(node):
            if isinstance(part, ast.Return | ast.Yield) and part.value is not None:
                yield _message(part.value, node.name, path)
        return
    call = _said(node)
    if call is None:
        return
    # A level or a status comes before the words.
    words = call.args[1:] if _name(call) in {"log", "HTTPException"} else call.args
    if words:
        yield _message(texts.get(ast.unparse(words[0]), words[0]), _name(call), path)


def _said(node: ast.AST) -> ast.Call | None:
    """The call that logs, prints or makes an error, or None."""
    if isinstance(node, ast.Call):
        logs = _name(node) in LEVELS and "logger" in ast.unparse(node.func)
        return node if logs or _name(node) in SAID else None
    made = getattr(node, {ast.Raise: "exc", ast.Return: "value"}.get(type(node), ""), None)
    if not isinstance(made, ast.Call) or _name(made) in TOLD_ELSEWHERE:
        return None
    return made if isinstance(node, ast.Raise) or _name(made).endswith("Error") else None


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)


def _message(words: ast.expr, kind: str, path: Path) -> Message:
    text = " ".join(_text(words).split())
    # One mend for the answers to all commands.
    text = re.sub("^(the answer is not that to) .*", r"\1 …", text)
    return Message(text, kind, f"{path.relative_to(ROOT)}:{words.lineno}")


def _text(node: ast.expr) -> str:
    """The text of a constant or an f-string; nothing of an expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
        return node.value.decode()
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sdr]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"
