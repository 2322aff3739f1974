"""Codes of findings; docs/lint.md has a section for each."""

from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """The kinds of findings. The first digit is their subject."""

    summary: str
    """The fault, in a few words."""

    def __new__(cls, value: str, summary: str) -> Self:
        """Make a code with its summary."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.summary = summary
        return code

    SECURITY = "MX101", "checks credentials, without vary_by"
    SESSION = "MX102", "reads session, user or cookies, without vary_by"
    INPUT = "MX103", "reads what is not in the key"
    GET_WRITES = "MX201", "a GET that writes"
    PURGES_NOTHING = "MX202", "a write that purges no read"
    LATE_COMMIT = "MX203", "commits after the answer"
    CORS_INSIDE = "MX301", "CORS inside of the cache"
    COMPRESSION = "MX302", "compression on the wrong side of the cache"
    SESSION_INSIDE = "MX303", "sessions inside of the cache"
    AUTHENTICATION_INSIDE = "MX304", "authentication inside of the cache"
    RATE_LIMIT_INSIDE = "MX305", "a rate limit inside of the cache"
    TWO_CACHES = "MX306", "a cache inside of a cache"
    UNREADABLE = "MX401", "routes that cannot be read"
    MODEL = "MX501", "a typed model that does not come back from JSON"
    ALIVE = "MX601", "a default lifetime on what changes by itself"

    @property
    def page(self) -> str:
        """Where it is described."""
        return f"docs/lint.md#{self.lower()}"
