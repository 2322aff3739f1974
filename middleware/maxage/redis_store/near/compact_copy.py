"""A near copy in few bytes: what many copies have in common is kept once.

Responses of one route differ in their body, in a few header values, in three numbers, and in the
token of their own path. Those are a copy's own. All else is a `Kind`, which the copies share.
"""

from collections.abc import Iterable
from sys import getsizeof
from typing import Final, final

import msgspec
from msgspec.structs import replace

from maxage.rfc9111.dates import format_http_date
from maxage.rfc9111.decide import answers_plainly, plain_hit
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import Headers, StoredResponse
from maxage.store.entry import Entry
from maxage.store.prepared import Form, Owner, PreparedResponse

Tokens = tuple[tuple[str, bytes], ...]
"""Groups with their tokens."""

_OWN_FIELDS: Final = frozenset({
    b"content-length", b"content-location", b"date", b"etag", b"expires", b"last-modified",
    b"link", b"location", b"x-request-id",
})  # fmt: skip
"""Header fields whose value mostly differs from response to response."""
_JOINED: Final = 4096
"""Up to how many bytes a body lies in one piece with the own parts. It is copied when a response is
prepared, which takes less time than all else about it."""
_LENGTH_BYTES: Final = 4
"""Bytes of the length of the own parts."""
_COPY_BYTES: Final = 280
"""Bytes of a copy besides its body and its own parts: the objects, its key, and the places of both
in the table and in the queue."""
_PREPARED_BYTES: Final = 1300
"""Bytes of the prepared responses of a copy besides a body."""
_KIND_BYTES: Final = 1200
"""Bytes of a kind besides its header lines and tokens."""
_LINE_BYTES: Final = getsizeof((b"", b"")) + 2 * getsizeof(b"") + 16
"""Bytes of a header line besides its characters."""
_TOKEN_BYTES: Final = 400
"""Bytes of a token of a kind: its name, its value, and its place in the table."""


class _Own(msgspec.Struct, array_like=True, gc=False):
    """The parts that differ from copy to copy."""

    request_time: float
    response_time: float
    corrected_initial_age: float
    values: tuple[bytes | None, ...]
    """Of the fields that are its own; None: the value follows from the rest (`_usual`)."""
    tokens: Tokens
    """Without the history of the kind's tokens."""
    plain_length: int | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Own).decode


KindKey = tuple[StoredResponse, tuple[int, ...], Tokens]
"""What copies of one kind have in common; see `Kind`."""


def split(entry: Entry, own_tokens: Tokens, *, shares: bool) -> tuple[KindKey, bytes]:
    """Return the common and the own parts of a stored response.

    Args:
        entry: the stored response with its tokens.
        own_tokens: those of its tokens that few other copies have.
        shares: whether headers are common; False: the values of all of them are its own.
    """
    stored = entry.stored
    raw = stored.headers.raw
    places = tuple(
        [n for n, line in enumerate(raw) if not shares or line[0].lower() in _OWN_FIELDS]
    )
    lines = list(raw)
    for place in places:
        lines[place] = (raw[place][0], b"")
    common = replace(
        stored,
        headers=Headers(tuple(lines)),
        body=b"",
        request_time=0.0,
        response_time=0.0,
        corrected_initial_age=0.0,
        plain_length=None if stored.plain_length is None else 0,
    )
    tokens = tuple([token for token in entry.tokens if token not in own_tokens])
    history = _history(tokens)
    own = _Own(
        stored.request_time,
        stored.response_time,
        stored.corrected_initial_age,
        tuple([_own_value(*raw[place], stored) for place in places]),
        tuple([(group, _short(token, history)) for group, token in own_tokens]),
        stored.plain_length,
    )
    return (common, places, tokens), _encode(own)


def _history(tokens: Tokens) -> bytes:
    """Return the history of the first token; empty where there is none."""
    return tokens[0][1].partition(b"-")[0] if tokens else b""


def _own_value(name: bytes, value: bytes, stored: StoredResponse) -> bytes | None:
    """Return the value of a field as it is kept."""
    usual = _usual(name.lower(), stored.body, stored.response_time)
    return None if value == usual else value


def _usual(name: bytes, body: bytes, response_time: float) -> bytes | None:
    """Return the value that follows from the rest for a field (lower case); None: none does."""
    if name == b"content-length":
        return b"%d" % len(body)
    return format_http_date(response_time) if name == b"date" else None


def _short(token: bytes, history: bytes) -> bytes:
    """Return a token without this history, if it is of it: then it begins with `-`."""
    return token.removeprefix(history) if token.startswith(history + b"-") else token


@final
class Kind:
    """All that the copies of a kind have in common."""

    __slots__ = ("answers_plainly", "history", "kept", "places", "stored", "tokens", "users")

    def __init__(self, stored: StoredResponse, places: tuple[int, ...], tokens: Tokens) -> None:
        self.stored: Final = stored
        """The response without body, numbers, and the values of its own fields."""
        self.places: Final = places
        """The header lines whose values are a copy's own."""
        self.tokens: Final = tokens
        """The tokens that its copies share."""
        self.history: Final = _history(tokens)
        self.answers_plainly: Final = answers_plainly(stored)
        self.users = 0
        """The number of its copies."""
        self.kept = True
        """False after a purge of one of its tokens: no copy may be used any more."""

    @property
    def size(self) -> int:
        """The bytes that it takes, rather too many than too few."""
        lines = sum([len(n) + len(v) + _LINE_BYTES for n, v in self.stored.headers.raw])
        selecting = sum(map(getsizeof, (*self.stored.vary_names, *self.stored.selecting)))
        tokens = sum([2 * len(group) + len(token) + _TOKEN_BYTES for group, token in self.tokens])
        return _KIND_BYTES + lines + selecting + tokens


@final
class CompactCopy:
    """A copy of one stored response until its end (monotonic). Its counters change with use.

    `own` are its own parts, as `split` gives them.
    """

    __slots__ = (
        "_parts", "ends", "in_main", "is_current", "kind", "owner", "prepared", "uses",
    )  # fmt: skip

    def __init__(self, kind: Kind, own: bytes, body: bytes, *, ends: float) -> None:
        self.kind: Final = kind
        self._parts: Final = (
            (own, body)
            if len(body) > _JOINED
            else b"".join((len(own).to_bytes(_LENGTH_BYTES), own, body))
        )
        """The own parts and a large body, or the length of the own parts, these, and a body."""
        self.ends: Final = ends
        self.uses = 0
        self.in_main = False
        self.is_current = True
        """False after a purge of its own token, or an eviction."""
        self.prepared: dict[Form, PreparedResponse] | None = None
        self.owner: Owner | None = None
        """What may ask for it by its key alone; None: that is unknown."""

    @property
    def size(self) -> int:
        """The bytes that it takes, rather too many than too few."""
        parts = self._parts
        if isinstance(parts, bytes):
            return len(parts) + _COPY_BYTES
        return sum(map(getsizeof, parts)) + getsizeof(parts) + _COPY_BYTES

    @property
    def kept(self) -> bool:
        """False after a purge or an eviction: the copy must not be used any more."""
        return self.is_current and self.kind.kept

    @property
    def prepared_size(self) -> int:
        """The bytes that responses prepared from it take; a large body is not copied, unless it is
        decompressed."""
        size = _PREPARED_BYTES + (len(self._parts) if isinstance(self._parts, bytes) else 0)
        if self.kind.stored.plain_length is not None:
            size += _decode(self._split()[0]).plain_length or 0
        return size

    @property
    def own_groups(self) -> list[str]:
        """The groups of the tokens that it shares with few copies or none."""
        return [group for group, _ in _decode(self._split()[0]).tokens]

    def entry(self, key: bytes) -> Entry:
        """Return the stored response with its tokens; `key` is the one that it was found by."""
        kind = self.kind
        packed, body = self._split()
        own = _decode(packed)
        stored = replace(
            kind.stored,
            headers=Headers(tuple(_lines(kind, own, body))),
            body=body,
            request_time=own.request_time,
            response_time=own.response_time,
            corrected_initial_age=own.corrected_initial_age,
            plain_length=own.plain_length,
        )
        tokens = tuple([(group, _whole(token, kind.history)) for group, token in own.tokens])
        return Entry(key=key, stored=stored, tokens=kind.tokens + tokens)

    def plain_hit(self, now: float) -> Serve | None:
        """Return what `decide` gives a GET without conditions by its owner; None: ask the rules."""
        kind = self.kind
        if not kind.answers_plainly:
            return None
        packed, body = self._split()
        own = _decode(packed)
        return plain_hit(kind.stored, own, _lines(kind, own, body), body, now)

    def _split(self) -> tuple[memoryview | bytes, bytes]:
        """Return the own parts and the body."""
        parts = self._parts
        if isinstance(parts, tuple):
            return parts
        begins = _LENGTH_BYTES + int.from_bytes(parts[:_LENGTH_BYTES])
        return memoryview(parts)[_LENGTH_BYTES:begins], parts[begins:]


def _lines(kind: Kind, own: _Own, body: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Return the header lines of a response."""
    raw = kind.stored.headers.raw
    if not kind.places:
        return raw
    lines = list(raw)
    for place, value in zip(kind.places, own.values, strict=True):
        name = lines[place][0]
        if value is None:
            lines[place] = (name, _usual(name.lower(), body, own.response_time) or b"")
        else:
            lines[place] = (name, value)
    return lines


def _whole(token: bytes, history: bytes) -> bytes:
    """Return the token that `_short` was given."""
    return history + token if token.startswith(b"-") else token
