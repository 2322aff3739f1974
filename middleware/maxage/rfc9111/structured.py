"""Dictionaries and lists of Structured Field Values (RFC 9651, which obsoletes RFC 8941)."""

import re
from typing import Final

from msgspec import Struct


class Token(Struct, frozen=True):
    """A token: a word without quotes."""

    text: str


class Opaque(Struct, frozen=True):
    """A valid value of another type: byte sequence, date, display string."""


class InnerList(Struct, frozen=True):
    """Items in parentheses, without their parameters."""

    items: tuple["Item", ...] = ()


Item = bool | int | float | str | Token | Opaque | InnerList

_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])")
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_STRING: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+)"')
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BYTES: Final = re.compile(r":[A-Za-z0-9+/=]*:")
_BOOLEAN: Final = re.compile(r"\?([01])")
_DATE: Final = re.compile(r"@-?[0-9]{1,15}(?![0-9.])")
_DISPLAY: Final = re.compile(r'%"(?:[\x20-\x21\x23-\x24\x26-\x7e]|%[0-9a-f]{2})*+"')
_SPACES: Final = re.compile(r" *")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")


class _ParseError(ValueError):
    """Parsing failed: ignore the field."""


class _Cursor(Struct):
    text: str
    at: int = 0

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def take_char(self, char: str) -> bool:
        found = self.text.startswith(char, self.at)
        self.at += found
        return found

    @property
    def done(self) -> bool:
        return self.at >= len(self.text)


def parse_dictionary(lines: tuple[bytes, ...]) -> dict[str, Item] | None:
    """Return the members of a dictionary field, or None when parsing fails. Never raises."""
    # RFC 9651 section 4.2: "If parsing fails [...] the entire field value MUST be ignored".
    try:
        text = b", ".join(lines).decode("ascii").strip(" ")
        return _dictionary(_Cursor(text))
    except ValueError:
        return None


def parse_strings(lines: tuple[bytes, ...]) -> tuple[str, ...]:
    """Return the strings of a list field, in order; empty when parsing fails. Never raises."""
    try:
        return tuple(_strings(_Cursor(b", ".join(lines).decode("ascii").strip(" "))))
    except ValueError:
        return ()


def _strings(cursor: _Cursor) -> list[str]:
    members: list[str] = []
    while not cursor.done:
        value = _inner_list(cursor) if cursor.take_char("(") else _bare_item(cursor)
        _parameters(cursor)
        # The fields of RFC 9875 are lists of strings; members of other types are ignored.
        if isinstance(value, str):
            members.append(value)
        if cursor.done:
            break
        if cursor.take(_COMMA) is None or cursor.done:
            raise _ParseError
    return members


def _dictionary(cursor: _Cursor) -> dict[str, Item]:
    members: dict[str, Item] = {}
    while not cursor.done:
        key = cursor.take(_KEY)
        if key is None:
            raise _ParseError
        # RFC 9651 section 4.2.2: "If dictionary already contains a key this_key [...], overwrite
        # its value".
        members[key.group()] = _member(cursor)
        if cursor.done:
            break
        # Section 4.2.2: "If input_string is empty, there is a trailing comma; fail parsing."
        if cursor.take(_COMMA) is None or cursor.done:
            raise _ParseError
    return members


def _member(cursor: _Cursor) -> Item:
    value: Item = True
    if cursor.take_char("="):
        value = _inner_list(cursor) if cursor.take_char("(") else _bare_item(cursor)
    _parameters(cursor)
    return value


def _inner_list(cursor: _Cursor) -> InnerList:
    items: list[Item] = []
    while True:
        cursor.take(_SPACES)
        if cursor.take_char(")"):
            return InnerList(tuple(items))
        items.append(_bare_item(cursor))
        _parameters(cursor)
        if not cursor.text.startswith((" ", ")"), cursor.at):
            raise _ParseError


def _parameters(cursor: _Cursor) -> None:
    while cursor.take_char(";"):
        cursor.take(_SPACES)
        if cursor.take(_KEY) is None:
            raise _ParseError
        if cursor.take_char("="):
            _bare_item(cursor)


def _bare_item(cursor: _Cursor) -> Item:
    if match := cursor.take(_INTEGER):
        return int(match.group())
    if match := cursor.take(_DECIMAL):
        return float(match.group())
    if match := cursor.take(_STRING):
        return re.sub(r"\\(.)", r"\1", match.group(1))
    if match := cursor.take(_BOOLEAN):
        return match.group(1) == "1"
    if cursor.take(_BYTES) or cursor.take(_DATE) or cursor.take(_DISPLAY):
        return Opaque()
    if match := cursor.take(_TOKEN):
        return Token(match.group())
    raise _ParseError
