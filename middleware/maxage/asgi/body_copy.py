"""A bounded copy of a body, and the declared length that it is compared with."""

from functools import lru_cache
from typing import Final, final

from maxage.asgi.types import Message
from maxage.cache.cache import Cache
from maxage.rfc9111.message import Headers

_MOST_DIGITS: Final = 18


def content_length(headers: Headers) -> int | None:
    """Return the declared length in bytes, or None where no valid one is declared.

    Only a single line of 1 to 18 ASCII digits is valid (RFC 9110 section 8.6).
    """
    return _length(headers.get_all(b"content-length"))


@lru_cache(maxsize=4096)
def _length(lines: tuple[bytes, ...]) -> int | None:
    valid = len(lines) == 1 and lines[0].isdigit() and len(lines[0]) <= _MOST_DIGITS
    return int(lines[0]) if valid else None


@final
class BodyCopy:
    """Copies a body piece by piece, within the limits of one body and of all bodies together.

    It counts its bytes against `cache_max_body_bytes`, and with all other copies against
    `cache_pending_bytes`. `drop` must follow, also after `body`: it frees the bytes.

    Args:
        cache: knows both limits.
        declared: the Content-Length in bytes; None: none is declared.
    """

    __slots__ = ("_cache", "_ended", "_pieces", "declared", "is_too_large", "size")

    def __init__(self, cache: Cache, declared: int | None = None) -> None:
        self._cache: Final = cache
        self._pieces: list[bytes] = []
        self._ended = False
        self.declared: Final = declared
        self.size = 0
        """Bytes copied."""
        self.is_too_large = False
        """Whether the body exceeded its own limit."""

    def add(self, message: Message) -> bool:
        """Copy the piece in a message of ASGI; False: it exceeds a limit, and the copy is empty."""
        piece: bytes = message.get("body", b"")
        size, cache = len(piece), self._cache
        fits = self.size + size <= cache.most_body_bytes
        if not (fits and cache.pending_writes.reserve(size)):
            self.is_too_large = not fits
            self.drop()
            return False
        if size:
            self._pieces.append(bytes(piece))
            self.size += size
        self._ended = not message.get("more_body", False)
        return True

    @property
    def is_whole(self) -> bool:
        """Whether the last piece has come, and the length is the declared one."""
        return self._ended and self.declared in (None, self.size)

    def park(self) -> None:
        """Let the copy make room for others while its application call goes on."""
        self._cache.pending_writes.park(self)

    def body(self) -> bytes:
        """Return the copied body."""
        return b"".join(self._pieces)

    def drop(self) -> None:
        """Empty the copy and free its bytes; a second call does nothing."""
        self._cache.pending_writes.release(self)
        self._pieces, self.size, self._ended = [], 0, False
