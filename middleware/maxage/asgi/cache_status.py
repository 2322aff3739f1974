"""The Cache-Status header (RFC 9211): one vocabulary for header, metric, log and test."""

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from maxage.rfc9111.decisions import ForwardReason

CACHE_NAME = b"maxage"
_PIECES: Final = re.compile(r'"[^"]*"|[^,;"]+|[,;]')

_NOT_IN_STRING = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class CacheStatus(Struct, frozen=True, kw_only=True, gc=False):
    """How one request was handled; `header_value` is its only spelling."""

    hit: bool = False
    ttl: int | None = None
    """Seconds of freshness left; negative when stale."""
    fwd: ForwardReason | None = None
    fwd_status: int | None = None
    stored: bool = False
    collapsed: bool | None = None
    """Whether another request's response could be used; None: the request waited for none."""
    key: str | None = None
    detail: str | None = None
    """A word of our own that says more, such as `store-away`."""

    def header_value(self) -> bytes:
        """Return the structured-field value, our cache's member of the list."""
        parts = [CACHE_NAME]
        if self.hit:
            parts.append(b"hit")
        if self.fwd is not None:
            parts.append(b"fwd=%b" % self.fwd.encode())
        if self.fwd_status is not None:
            parts.append(b"fwd-status=%d" % self.fwd_status)
        if self.ttl is not None:
            parts.append(b"ttl=%d" % self.ttl)
        if self.stored:
            parts.append(b"stored")
        if self.collapsed is not None:
            parts.append(b"collapsed" if self.collapsed else b"collapsed=?0")
        if self.key is not None:
            parts.append(b'key="%b"' % _NOT_IN_STRING.sub("?", self.key).encode())
        if self.detail is not None:
            parts.append(b"detail=%b" % self.detail.encode())
        return b"; ".join(parts)


@lru_cache(maxsize=256)
def forwarded_value(
    fwd: ForwardReason, fwd_status: int | None, detail: str | None, stored: bool,
    collapsed: bool | None,
) -> bytes:  # fmt: skip
    """Return the value of a request that went on to the application, without seconds and key.

    Many responses share it.
    """
    status = CacheStatus(
        fwd=fwd, fwd_status=fwd_status, stored=stored, collapsed=collapsed, detail=detail
    )
    return status.header_value()


def hit_value(ttl: int) -> bytes:
    """Return the value of a plain hit, the one spelled on the fast path."""
    return b"maxage; hit; ttl=%d" % ttl


def own_member(value: str) -> list[str]:
    """Return our member of a Cache-Status, its name and its parameters; empty: it has none."""
    members: list[list[str]] = [[""]]
    for piece in _PIECES.findall(value):
        if piece == ",":
            members.append([""])
        elif piece == ";":
            members[-1].append("")
        else:
            members[-1][-1] += piece
    stripped = ([part.strip() for part in member] for member in members)
    ours = [member for member in stripped if member[0] == CACHE_NAME.decode()]
    return ours[-1] if ours else []
