"""The text of docs/settings.md, from the class of the settings, its annotations and docstrings."""

import ast
import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import maxage.settings
from maxage import CacheSettings

INTRODUCTION = """\
# Settings

<!-- written by `poe pages` from middleware/maxage/settings.py -->

Each setting is an environment variable, also read from `.env`, and a keyword of `CacheSettings`
in lower case: `CacheMiddleware(app, CacheSettings(cache_expiration=60))`. Keywords come first,
then the environment, then `.env`. A wrong value stops the start with one sentence. Lists are
separated by commas. An empty variable is an unset one; a comma alone is an empty list.

`CacheSettings.standards()` allows all that RFC 9111 allows ([standards](standards.md)).
[Redis servers](howto/redis-servers.md) has the options of `REDIS_URL`, TLS, Cluster and Sentinel.
"""
HEAD = "| variable | default | takes | meaning |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True)
class Setting:
    """One field of CacheSettings as its source shows it."""

    name: str
    group: str
    """The comment above its part of the class."""
    meaning: str

    @property
    def field(self) -> FieldInfo:
        """What pydantic knows of it."""
        return CacheSettings.model_fields[self.name]


def settings() -> Iterator[Setting]:
    """All settings in the order of the class."""
    source = inspect.getsource(maxage.settings)
    lines = source.splitlines()
    (body,) = [
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "CacheSettings"
    ]
    group = ""
    for node, following in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            for line in lines[: node.lineno]:
                if re.fullmatch(r"    # [A-Z].*\.", line):
                    group = line.strip(" #.")
            documented = isinstance(following, ast.Expr) and isinstance(
                following.value, ast.Constant
            )
            meaning = " ".join(str(following.value.value).split()) if documented else ""
            yield Setting(node.target.id, group, meaning)


def default(value: Any) -> str:
    """A default as the table writes it."""
    if value is None:
        return "unset"
    if value in ("", ()):
        return "empty"
    if isinstance(value, tuple):
        return f"{len(value)} names"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def takes(setting: Setting) -> str:
    """The values that it accepts."""
    kind = setting.field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = [part for part in get_args(kind) if part is not types.NoneType]
    if get_origin(kind) is Literal:
        choices = [f"`{choice}`" for choice in get_args(kind)]
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    if kind is bool:
        return "`true` or `false`"
    if kind in (int, float):
        return f"{_unit(setting)}{_bounds(setting.field)}"
    if get_origin(kind) is tuple:
        return "names"
    if kind in (str, SecretStr):
        return "URL" if setting.name.endswith("url") else "text"
    return "function, in code only"


def _unit(setting: Setting) -> str:
    if setting.name.endswith("_bytes"):
        return "bytes, "
    word = setting.meaning.partition(" ")[0].lower()
    return f"{word}, " if word in ("seconds", "share", "factor") else ""


def _bounds(field: FieldInfo) -> str:
    low, high = "", ""
    for constraint in field.metadata:
        for name, text in (("ge", "{:g} or more"), ("gt", "more than {:g}")):
            if hasattr(constraint, name):
                low = text.format(getattr(constraint, name))
        for name, text in (("le", ", at most {:.8g}"), ("lt", ", less than {:g}")):
            if hasattr(constraint, name):
                high = text.format(getattr(constraint, name))
    return low + high


def text() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    group = None
    for setting in settings():
        if setting.group != group:
            group = setting.group
            parts.append(f"\n## {group}\n\n{HEAD}")
        cells = f"`{setting.name.upper()}`", default(setting.field.default), takes(setting)
        parts.append(f"| {' | '.join(cells)} | {setting.meaning} |\n")
    parts.append("\n## Lists of names\n")
    for setting in settings():
        names = setting.field.default
        if isinstance(names, tuple) and names:
            listed = ", ".join(f"`{name}`" for name in names)
            parts.append(f"\n`{setting.name.upper()}`: {listed}.\n")
    return "".join(parts)
