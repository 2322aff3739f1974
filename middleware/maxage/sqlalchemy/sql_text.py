"""The effect of SQL text, as far as its words show it.

The text is not parsed. Where a word may mean a write, it counts as one: that only purges more.
"""

import re
from enum import Flag, auto
from functools import lru_cache
from typing import Final


class Effect(Flag):
    """The possible effect of a statement."""

    NOTHING = 0
    READS = auto()
    WRITES = auto()
    COMMITS = auto()
    """It commits earlier writes, as COMMIT does, or MySQL before an ALTER TABLE."""


_LONGEST_REMEMBERED: Final = 4096
"""Characters of a text whose effect is remembered."""

_OPAQUE: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|--[^\n]*|/\*(?!!).*?\*/""", re.DOTALL)
"""Literals, quoted names and comments: each may have the marks of another one in it."""
_UNCLEAR: Final = re.compile(r"\\|\$(?!\d)|#|--(?!\s)|/\*(?:(?!\*/).)*/\*", re.DOTALL)
"""Marks that end a literal or begin a comment in some dialects only."""
_LEADING: Final = re.compile(r"(?:\s+|\(|--[^\n]*(?:\n|$)|/\*(?!!).*?\*/)*", re.DOTALL)
_WORD: Final = re.compile(r"[a-z]+")
_PING: Final = re.compile(r"select\s+\d+\s*")
_LOCKING: Final = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b")
_WRITING: Final = re.compile(r"\b(?:insert|update|delete|merge|replace|truncate|into)\b(?!\s*\()")
_FOLLOWED: Final = re.compile(rf"{_WRITING.pattern}|\b(?:autocommit|call|commit|exec|execute)\b")
"""Words that may begin a second statement behind a harmless one: SQL Server needs no semicolons."""
_NAMING: Final = re.compile(
    r"\b(?:select|from|join|table|into|update|insert|delete|merge|with|using|call|exec)\b"
)

_READING: Final = frozenset({
    "select", "with", "values", "table", "show", "explain", "describe", "desc", "pragma", "declare",
    "fetch",
})  # fmt: skip
_CHANGING: Final = frozenset({"insert", "update", "delete", "merge", "replace"})
_HARMLESS: Final = frozenset({
    "set", "reset", "savepoint", "release", "rollback", "lock", "notify", "listen", "unlisten",
    "analyze", "vacuum", "discard", "prepare", "deallocate", "checkpoint", "close", "move", "xa",
})  # fmt: skip
_ENDING: Final = frozenset({"commit", "end", "begin", "start"})
"""MySQL commits before it begins another transaction."""


def effect_of_text(sql: str) -> Effect:
    """Return the possible effect of a text of one or more statements."""
    return _remembered(sql) if len(sql) <= _LONGEST_REMEMBERED else _effect(sql)


def may_name_tables(fragment: str) -> bool:
    """Return whether a fragment of SQL may name a table."""
    return _NAMING.search(fragment.lower()) is not None


@lru_cache(maxsize=1024)
def _remembered(sql: str) -> Effect:
    return _effect(sql)


def _effect(sql: str) -> Effect:
    text = sql.lower()
    if not _UNCLEAR.search(text):
        text = _OPAQUE.sub(_without_words, text)
    effect = Effect.NOTHING
    for statement in text.split(";"):
        effect |= _effect_of_one(statement)
    return effect


def _without_words(opaque: re.Match[str]) -> str:
    return "''" if opaque[0][0] in "'\"`" else " "


def _effect_of_one(statement: str) -> Effect:
    start = _LEADING.match(statement)
    rest = statement[start.end() :] if start else statement
    first = _WORD.match(rest)
    word = first[0] if first else ""
    if not rest or _PING.fullmatch(rest):
        return Effect.NOTHING
    if word in _READING:
        writes = _WRITING.search(_LOCKING.sub("", rest)) is not None
        return Effect.READS | Effect.WRITES if writes else Effect.READS
    if word in _CHANGING:
        return Effect.READS | Effect.WRITES
    if word in _HARMLESS and not _FOLLOWED.search(rest):
        return Effect.NOTHING
    if word in _ENDING and "prepared" not in rest:
        return Effect.COMMITS
    # It is DDL, the commit of another connection's changes, a procedure, or unknown.
    return Effect.READS | Effect.WRITES | Effect.COMMITS
