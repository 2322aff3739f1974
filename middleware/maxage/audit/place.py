"""Place: the line of the application's code that is running.

A read by a library counts at the line of the application that called it. A layer of a library that
is an ASGI application itself reads for its own purposes: there the search for a caller ends.
"""

import inspect
import os
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from msgspec import Struct

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)
_AUDIT: Final = str(Path(__file__).resolve().parent)
_PYTHON: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_NOT_OWN: Final = (*_PYTHON, "<frozen ", _PACKAGE + os.sep, _PACKAGE + "_pytest.py")
_HERE: Final = Path.cwd()
"""The directory from which files are named; tests may change it later."""
_INSTALLED: Final = ("/site-packages/", "/dist-packages/")
_FRAMEWORKS: Final = frozenset({"starlette", "fastapi", "maxage", "builtins", ""})
_ASGI: Final = frozenset({"scope", "receive", "send"})
_CALLERS: Final = frozenset({"fastapi.routing", "fastapi.dependencies.utils"})
"""Modules that call the application's functions, and read requests for their parameters."""
_COMPREHENSIONS: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
_DEEPEST: Final = 4
"""Callers of a line that are kept."""


class Place(Struct, frozen=True):
    """A line of the application's code."""

    file: str
    line: int
    code: CodeType
    """The function."""

    def __str__(self) -> str:
        path = Path(self.file)
        shown = path.relative_to(_HERE) if path.is_relative_to(_HERE) else path
        return f"{shown}:{self.line}"


def places(packages: Collection[str] = ()) -> tuple[Place, ...]:
    """Return the running line of the application, and the lines that called it, the inner first.

    Empty: no code of the application is reading.

    Args:
        packages: top-level packages of the application, where it is installed like a library.
    """
    found: list[Place] = []
    for frame in _frames():
        code = frame.f_code
        module: str = frame.f_globals.get("__name__", "")
        if is_own_file(code.co_filename) or module.partition(".")[0] in packages:
            if code.co_name in _COMPREHENSIONS and frame.f_back is not None:
                # Python 3.12 has no frames of their own for most of them.
                continue
            found.append(Place(code.co_filename, frame.f_lineno, code))
            if len(found) == _DEEPEST:
                break
        elif found or module in _CALLERS or is_layer(code):
            break
    return tuple(found)


def reads_itself(packages: Collection[str] = ()) -> bool:
    """Return whether the caller is code of the application, and not a library that it calls."""
    frame = next(_frames())
    module: str = frame.f_globals.get("__name__", "")
    return is_own_file(frame.f_code.co_filename) or module.partition(".")[0] in packages


def _frames() -> Iterator[FrameType]:
    """Yield the running frames outside of this package, the inner first."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_AUDIT):
            yield frame
        frame = frame.f_back


@lru_cache(maxsize=4096)
def is_own_file(file: str) -> bool:
    """Return whether a file is the application's own, and not that of a library or of Python."""
    path = file.replace("\\", "/")
    return not (any(part in path for part in _INSTALLED) or file.startswith(_NOT_OWN))


@lru_cache(maxsize=4096)
def is_layer(code: CodeType) -> bool:
    """Return whether a function of a library is an ASGI application, or sends for one."""
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return _ASGI.issubset(names) or "message" in names


def packages_of(parts: Iterable[object]) -> frozenset[str]:
    """Return the top-level packages of an application with these parts: itself, its endpoints."""
    modules = (str(getattr(part, "__module__", None) or "") for part in parts)
    return frozenset(module.partition(".")[0] for module in modules) - _FRAMEWORKS
