"""The frames of stored responses: checksummed bytes, never pickled.

A frame is `magic, kind, checksum, length of the head, head, body`. The head is MessagePack. A frame
that fails verification (another version, damaged bytes, a foreign key) is a miss.
"""

import hashlib
import hmac
import struct
import zlib
from typing import Any, final

import msgspec
from msgspec.structs import replace
from typing_extensions import Buffer

from maxage.rfc9111.content_coding import plain_body
from maxage.rfc9111.message import HeaderList, Headers, StoredResponse
from maxage.store.entry import Entry, VariantIndex
from maxage.zstd import DamagedBodyError

_MAGIC = b"mxa1"
_PREFIX = struct.Struct(">4sc16sI")
_RESPONSE = b"R"
_COMPRESSED = b"Z"
"""A response whose body is compressed; earlier versions take it for a miss."""
_VARIANTS = b"V"


class _EntryHead(msgspec.Struct, array_like=True):
    key: bytes
    status: int
    headers: HeaderList
    request_time: float
    response_time: float
    freshness_lifetime: float
    corrected_initial_age: float
    flags: int
    no_cache_fields: tuple[bytes, ...]
    stale_while_revalidate: float
    stale_if_error: float | None
    vary_names: tuple[bytes, ...]
    selecting: tuple[bytes | None, ...]
    tokens: tuple[tuple[str, bytes], ...]


class _CompressedHead(_EntryHead, array_like=True):
    plain_length: int


class _VariantsHead(msgspec.Struct, array_like=True):
    key: bytes
    names: tuple[bytes, ...]


_OURS, _VALIDATE, _NEVER_STALE, _SHAREABLE, _ANONYMOUS = 1, 2, 4, 8, 16
_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(_EntryHead).decode
_decode_compressed = msgspec.msgpack.Decoder(_CompressedHead).decode
_decode_variants = msgspec.msgpack.Decoder(_VariantsHead).decode


@final
class Codec:
    """Encodes and verifies frames; a secret makes the checksum a keyed one.

    Args:
        secret: of `CACHE_SECRET`; None: a plain checksum against accidents.
        keeps_compressed: whether compressed bodies stay so when they are decoded.
        longest: bytes of the longest body before compression that is decoded.
    """

    __slots__ = ("_keeps_compressed", "_longest", "_secret")

    def __init__(
        self,
        secret: bytes | None = None,
        *,
        keeps_compressed: bool = False,
        longest: int = 8 * 1024 * 1024,
    ) -> None:
        self._secret = None if secret is None else hashlib.blake2b(secret, digest_size=32).digest()
        self._keeps_compressed = keeps_compressed
        self._longest = longest

    def decode(self, frame: bytes, key: bytes) -> Entry | VariantIndex | None:
        """Return the value in the frame; None where it fails verification as the value of `key`."""
        if len(frame) < _PREFIX.size:
            return None
        magic, kind, checksum, length = _PREFIX.unpack_from(frame)
        start = _PREFIX.size + length
        if magic != _MAGIC or start > len(frame):
            return None
        view = memoryview(frame)
        head, body = view[_PREFIX.size : start], view[start:]
        if not hmac.compare_digest(self._checksum(kind, head, body), checksum):
            return None
        try:
            if kind == _COMPRESSED:
                return self._compressed_entry(_decode_compressed(head), body, key)
            return _read_head(kind, head, body, key)
        except (msgspec.MsgspecError, ValueError, RecursionError, DamagedBodyError):
            return None

    def _compressed_entry(
        self, head: _CompressedHead, body: memoryview, key: bytes
    ) -> Entry | None:
        if head.key != key or not len(body) < head.plain_length <= self._longest:
            return None
        entry = _entry(head, body, head.plain_length)
        if self._keeps_compressed:
            return entry
        # This worker does not look at Accept-Encoding.
        plain = replace(entry.stored, body=plain_body(entry.stored), plain_length=None)
        return replace(entry, stored=plain)

    def encode(self, value: Entry | VariantIndex) -> bytes:
        """Return the frame of an entry or of an index of variants."""
        if isinstance(value, VariantIndex):
            head = _encode(_VariantsHead(value.key, value.names))
            return self._frame(_VARIANTS, head, b"")
        fields, stored = self._head_of(value), value.stored
        if stored.plain_length is not None and stored.is_compressed:
            return self._frame(_COMPRESSED, _encode((*fields, stored.plain_length)), stored.body)
        return self._frame(_RESPONSE, _encode(fields), stored.body)

    @staticmethod
    def _head_of(entry: Entry) -> tuple[Any, ...]:
        """Return the fields of an `_EntryHead`; the encoder makes the same bytes of both."""
        stored = entry.stored
        flags = (
            _OURS * stored.lifetime_is_ours
            | _VALIDATE * stored.always_validate
            | _NEVER_STALE * stored.never_stale
            | _SHAREABLE * stored.shareable
            | _ANONYMOUS * stored.anonymous
        )
        return (
            entry.key,
            stored.status,
            stored.headers.raw,
            stored.request_time,
            stored.response_time,
            stored.freshness_lifetime,
            stored.corrected_initial_age,
            flags,
            stored.no_cache_fields,
            stored.stale_while_revalidate,
            stored.stale_if_error,
            stored.vary_names,
            stored.selecting,
            entry.tokens,
        )

    def _frame(self, kind: bytes, head: bytes, body: bytes) -> bytes:
        checksum = self._checksum(kind, head, body)
        return b"".join((_PREFIX.pack(_MAGIC, kind, checksum, len(head)), head, body))

    def _checksum(self, kind: bytes, head: Buffer, body: Buffer) -> bytes:
        if self._secret is None:
            return b"%016x" % zlib.crc32(body, zlib.crc32(head, zlib.crc32(kind)))
        digest = hashlib.blake2b(key=self._secret, digest_size=16)
        for part in (kind, len(memoryview(head)).to_bytes(8, "big"), head, body):
            digest.update(part)
        return digest.digest()


def tokens_at(frame: bytes) -> tuple[tuple[str, bytes], ...] | None:
    """Return the tokens of a response by the beginning of its frame, which is not verified.

    None: it is no response, or its head is not whole.
    """
    if len(frame) < _PREFIX.size:
        return None
    magic, kind, _, length = _PREFIX.unpack_from(frame)
    head = frame[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or kind not in {_RESPONSE, _COMPRESSED} or len(head) < length:
        return None
    try:
        return _decode_entry(head).tokens
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read_head(
    kind: bytes, head: memoryview, body: memoryview, key: bytes
) -> Entry | VariantIndex | None:
    if kind == _RESPONSE:
        entry = _decode_entry(head)
        return _entry(entry, body) if entry.key == key else None
    if kind == _VARIANTS:
        index = _decode_variants(head)
        if index.key == key:
            return VariantIndex(key=key, names=index.names)
    return None


def _entry(head: _EntryHead, body: memoryview, plain_length: int | None = None) -> Entry:
    stored = StoredResponse(
        status=head.status,
        headers=Headers(head.headers),
        body=bytes(body),
        request_time=head.request_time,
        response_time=head.response_time,
        freshness_lifetime=head.freshness_lifetime,
        corrected_initial_age=head.corrected_initial_age,
        lifetime_is_ours=bool(head.flags & _OURS),
        always_validate=bool(head.flags & _VALIDATE),
        no_cache_fields=head.no_cache_fields,
        never_stale=bool(head.flags & _NEVER_STALE),
        stale_while_revalidate=head.stale_while_revalidate,
        stale_if_error=head.stale_if_error,
        shareable=bool(head.flags & _SHAREABLE),
        anonymous=bool(head.flags & _ANONYMOUS),
        vary_names=head.vary_names,
        selecting=head.selecting,
        plain_length=plain_length,
    )
    return Entry(key=head.key, stored=stored, tokens=head.tokens)
