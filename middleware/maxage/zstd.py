"""zstd (RFC 8878): the standard library's since Python 3.14, before it the backport."""

import sys
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple

_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_LEVEL: Final = 3
_WINDOW_LOG: Final = 21
"""Base 2 logarithm of the bytes of a window; RFC 9659 allows up to 23 in HTTP."""


class DamagedBodyError(Exception):
    """A compressed body is damaged, or has another length than it declares."""


class _Library(NamedTuple):
    compress: Any
    decompressor: Any
    error: type[Exception]


@cache
def _library() -> _Library | None:
    try:
        zstd: Any = import_module(_MODULE)
    except ImportError:
        return None
    wanted, limit = zstd.CompressionParameter, zstd.DecompressionParameter
    options = {wanted.compression_level: _LEVEL, wanted.window_log: _WINDOW_LOG}
    return _Library(
        partial(zstd.compress, options=options),
        partial(zstd.ZstdDecompressor, options={limit.window_log_max: _WINDOW_LOG}),
        zstd.ZstdError,
    )


def is_available() -> bool:
    """Return whether this Python has zstd: of its own, or by the extra `zstd`."""
    return _library() is not None


def compress(body: bytes) -> bytes:
    """Return a body compressed, or as it is where zstd is not available."""
    library = _library()
    compressed: bytes = body if library is None else library.compress(body)
    return compressed


def decompress(body: bytes, length: int) -> bytes:
    """Return a body that is `length` bytes long before compression; no more are ever made of it.

    Raises:
        DamagedBodyError: it is not, or zstd is not available.
    """
    library = _library()
    if library is None:
        raise DamagedBodyError
    decompressor = library.decompressor()
    try:
        plain: bytes = decompressor.decompress(body, length + 1)
    except library.error:
        raise DamagedBodyError from None
    if len(plain) != length or not decompressor.eof or decompressor.unused_data:
        raise DamagedBodyError
    return plain
