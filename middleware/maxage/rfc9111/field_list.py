"""Comma-separated lists and tokens (RFC 9110 sections 5.6.1, 5.6.2 and 5.6.4)."""

import re
from collections.abc import Iterable
from typing import Final

OWS: Final = b" \t"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# One step of the scan: plain text, a comma, a quoted string, or an unclosed quote. Every repetition
# is possessive, so that no input makes the expression backtrack.
_PIECE = re.compile(rb'[^",]++|,|"(?:[^"\\]++|\\.)*+"|"', re.DOTALL)


def is_token(text: bytes) -> bool:
    """Return whether `text` is a token (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def split_members(line: bytes) -> tuple[list[bytes], bool]:
    """Split at the commas outside of quoted strings; also return whether every quote is closed.

    Members are stripped, and empty ones stay. Behind an unclosed quote every comma counts, so that
    the quote hides no prohibition.
    """
    if b'"' not in line:
        return [member.strip(OWS) for member in line.split(b",")], True
    members: list[bytes] = []
    start = 0
    for piece in _PIECE.finditer(line):
        if piece.group() == b",":
            members.append(line[start : piece.start()].strip(OWS))
            start = piece.end()
        elif piece.group() == b'"':
            rest = line[start:].split(b",")
            return members + [member.strip(OWS) for member in rest], False
    members.append(line[start:].strip(OWS))
    return members, True


def list_members(lines: Iterable[bytes]) -> list[bytes]:
    """Return the members of all lines in order, without the empty ones."""
    # RFC 9110 section 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty
    # list elements".
    return [member for line in lines for member in split_members(line)[0] if member]


def lower_names(lines: Iterable[bytes]) -> frozenset[bytes]:
    """Return the members of all lines as lower-case field names."""
    return frozenset(member.lower() for member in list_members(lines))
