"""The entry format: what is written is read again, and nothing else ever is."""

import os
import random
import struct
import zlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from maxage import zstd
from maxage.rfc9111.content_coding import compressed, marked
from maxage.rfc9111.message import Headers, StoredResponse
from maxage.store.codec import Codec, tokens_at
from maxage.store.entry import Entry, VariantIndex

_lines = st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=12)
_seconds = st.floats(min_value=-1e12, max_value=1e12)
_selecting = st.lists(st.tuples(st.binary(), st.none() | st.binary()), max_size=4)
_stored = st.builds(
    lambda selecting, **fields: StoredResponse(
        vary_names=tuple(name for name, _ in selecting),
        selecting=tuple(value for _, value in selecting),
        **fields,
    ),
    selecting=_selecting,
    status=st.integers(100, 599),
    headers=_lines.map(Headers.copied),
    body=st.binary(max_size=5000),
    request_time=_seconds,
    response_time=_seconds,
    freshness_lifetime=_seconds,
    corrected_initial_age=_seconds,
    lifetime_is_ours=st.booleans(),
    always_validate=st.booleans(),
    no_cache_fields=st.lists(st.binary(), max_size=3).map(tuple),
    never_stale=st.booleans(),
    stale_while_revalidate=_seconds,
    stale_if_error=st.none() | _seconds,
    shareable=st.booleans(),
)
_entries = st.builds(
    Entry,
    key=st.binary(max_size=100),
    stored=_stored,
    tokens=st.lists(st.tuples(st.text(), st.binary()), max_size=6).map(tuple),
)
_indexes = st.builds(
    VariantIndex,
    key=st.binary(max_size=100),
    names=st.lists(st.binary(), max_size=6).map(tuple),
)
_codecs = st.sampled_from([Codec(), Codec(b""), Codec(b"secret")])
_edits = st.lists(
    st.tuples(
        st.integers(0, 2**16), st.integers(0, 40) | st.integers(0, 6000), st.binary(max_size=40)
    ),
    min_size=1,
    max_size=4,
)
"""Where, how much is cut out there, and what is put in its place."""
MUTATIONS = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 100
BOTH = pytest.mark.parametrize("codec", [Codec(), Codec(b"secret")], ids=["plain", "keyed"])

ENTRY = Entry(
    key=b"maxage:e::http://h/items?page=2:00",
    stored=StoredResponse(
        status=200,
        headers=Headers.copied([(b"Content-Type", b"text/plain"), (b"x", b"1"), (b"X", b"2")]),
        body=b"the one and only body" * 40,
        request_time=1.0,
        response_time=2.0,
        freshness_lifetime=300.0,
        corrected_initial_age=0.5,
    ),
    tokens=(("n", b"h-1"), ("p:/items", b"h-2")),
)
INDEX = VariantIndex(key=b"k", names=(b"accept",))
TEXT = b"A line that is worth compressing.\n" * 100


def packed(entry: Entry, body: bytes = TEXT) -> Entry:
    """The entry with a body that lies compressed."""
    stored = replace(entry.stored, headers=Headers(), status=200, body=body)
    return replace(entry, stored=compressed(marked(stored)))


KEEPING = {
    "plain": Codec(keeps_compressed=True),
    "keyed": Codec(b"secret", keeps_compressed=True),
}
EACH = pytest.mark.parametrize(
    "codec", [Codec(), Codec(b"secret"), *KEEPING.values()],
    ids=["plain", "keyed", "plain-keeping", "keyed-keeping"],
)  # fmt: skip


@given(_entries | _indexes, _codecs)
def test_what_is_encoded_is_decoded_the_same(value: Entry | VariantIndex, codec: Codec) -> None:
    """Every field survives, header lines in their order, case and number."""
    assert codec.decode(codec.encode(value), value.key) == value


@given(_entries | _indexes, st.binary(max_size=100))
def test_a_frame_is_nothing_under_another_key(value: Entry | VariantIndex, other: bytes) -> None:
    """The whole key is compared, so that a foreign value under our key is a miss."""
    found = Codec().decode(Codec().encode(value), other)
    assert found == (value if other == value.key else None)


def _flip(frame: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(frame) * 8)
    return _with(frame, place // 8, frame[place // 8] ^ 1 << place % 8)


def _with(frame: bytes, place: int, byte: int) -> bytes:
    return frame[:place] + bytes([byte]) + frame[place + 1 :]


def _scribble(frame: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(frame))
    length = chance.randint(1, 40)
    return frame[:start] + chance.randbytes(length) + frame[start + length :]


def _cut(frame: bytes, chance: random.Random) -> bytes:
    return frame[: chance.randrange(len(frame))]


def _extend(frame: bytes, chance: random.Random) -> bytes:
    return frame + chance.randbytes(chance.randint(1, 20))


def _drop(frame: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(frame))
    return frame[:start] + frame[start + chance.randint(1, 9) :]


def _swap(frame: bytes, chance: random.Random) -> bytes:
    a = chance.randrange(len(frame))
    b = chance.randrange(len(frame))
    return _with(_with(frame, a, frame[b]), b, frame[a])


def _repeat(frame: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(frame))
    end = chance.randint(start, min(len(frame), start + 50))
    return frame[:end] + frame[start:end] + frame[end:]


def _prefix(frame: bytes, chance: random.Random) -> bytes:
    return _with(frame, chance.randrange(25), chance.randrange(256))


_MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    _flip, _scribble, _cut, _extend, _drop, _swap, _repeat, _prefix,
]  # fmt: skip


@EACH
@pytest.mark.parametrize(
    "value", [ENTRY, INDEX, packed(ENTRY)], ids=["entry", "index", "compressed"]
)
def test_no_mutation_gives_a_wrong_value_or_raises(codec: Codec, value: Entry) -> None:
    """2,000 damaged frames: each is a miss, unless the damage left the frame as it was."""
    chance = random.Random(20261123)
    frame = codec.encode(value)
    damaged = 0
    while damaged < 2000:
        mutated = frame
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            mutated = chance.choice(_MUTATIONS)(mutated, chance) or b"\0"
        if mutated == frame:
            continue
        damaged += 1
        assert codec.decode(mutated, value.key) is None, mutated


@BOTH
@given(value=_entries | _indexes, edits=_edits)
@settings(max_examples=MUTATIONS)
def test_no_edit_of_any_value_gives_another_one_or_raises(
    codec: Codec, value: Entry | VariantIndex, edits: list[tuple[int, int, bytes]]
) -> None:
    """Whatever is stored, cut, overwritten or put in between: a miss, with CACHE_SECRET too."""
    frame = edited = codec.encode(value)
    for place, cut, put in edits:
        start = place % (len(edited) + 1)
        edited = edited[:start] + put + edited[start + cut :]
    assert codec.decode(edited, value.key) == (value if edited == frame else None)


@BOTH
@given(
    one=_entries,
    stored=_stored,
    places=st.tuples(st.integers(0, 2**16), st.integers(0, 2**16) | st.none()),
)
@settings(max_examples=MUTATIONS)
def test_two_values_of_one_key_do_not_mix(
    codec: Codec, one: Entry, stored: StoredResponse, places: tuple[int, int | None]
) -> None:
    """The beginning of one and the end of the other, as after a torn write, are neither."""
    frame, other = codec.encode(one), codec.encode(replace(one, stored=stored))
    start = places[0] % (len(frame) + 1)
    end = start if places[1] is None else places[1] % (len(other) + 1)
    mixed = frame[:start] + other[end:]
    found = codec.decode(mixed, one.key)
    assert found == {frame: one, other: replace(one, stored=stored)}.get(mixed)


@given(st.binary(max_size=400), _codecs)
def test_foreign_bytes_are_nothing(frame: bytes, codec: Codec) -> None:
    """Whatever another program left under the key is a miss."""
    assert codec.decode(frame, b"k") is None


@pytest.mark.parametrize("length", range(29))
def test_every_beginning_of_a_frame_is_nothing(length: int) -> None:
    """A value that was cut while it was written is a miss, at every length of the prefix."""
    assert Codec().decode(Codec().encode(INDEX)[:length], INDEX.key) is None


def _planted(kind: bytes, head: bytes, body: bytes = b"") -> bytes:
    """Return a frame with a right plain checksum, as anyone with the format can make it."""
    checksum = b"%016x" % zlib.crc32(body, zlib.crc32(head, zlib.crc32(kind)))
    return struct.pack(">4sc16sI", b"mxa1", kind, checksum, len(head)) + head + body


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xc0",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode({"key": b"k"}),
        msgspec.msgpack.encode([b"k", ["names"], []]),
        msgspec.msgpack.encode([b"k", [], []]) + b"\xc0",
        msgspec.msgpack.encode([b"k", [], []])[:-1],
        msgspec.msgpack.encode(["\ud7ff", [], []]),
        b"\x94\xc4\x01k\x90\x90" + b"\x91" * 100_000 + b"\xc0",
    ],
    ids=["empty", "nil", "short", "map", "type", "long", "cut", "text", "deep"],
)
@pytest.mark.parametrize("kind", [b"V", b"R", b"Z", b"X"])
def test_a_head_of_the_wrong_shape_is_nothing(head: bytes, kind: bytes) -> None:
    """A right checksum does not make a right entry, and nothing is raised for it."""
    assert Codec().decode(_planted(kind, head), b"k") is None


def test_a_frame_of_another_format_is_nothing() -> None:
    """The magic word carries the version: after an update old entries are misses."""
    frame = Codec().encode(INDEX)
    assert Codec().decode(b"mxa0" + frame[4:], INDEX.key) is None


def test_a_boundary_moved_between_head_and_body_is_nothing() -> None:
    """The length of the head cannot be changed, though the bytes after it stay the same."""
    frame = Codec().encode(ENTRY)
    length = int.from_bytes(frame[21:25], "big")
    for other in {*range(length + 60)} - {length}:
        moved = frame[:21] + other.to_bytes(4, "big") + frame[25:]
        assert Codec().decode(moved, ENTRY.key) is None


@pytest.mark.parametrize(
    ("writer", "reader"),
    [(None, b"a"), (b"a", None), (b"a", b"b"), (b"a", b""), (b"", None)],
)
def test_a_keyed_frame_needs_the_same_secret(writer: bytes | None, reader: bytes | None) -> None:
    """With CACHE_SECRET, no writer without it can plant a response or read one."""
    assert Codec(reader).decode(Codec(writer).encode(ENTRY), ENTRY.key) is None
    assert Codec(writer).decode(Codec(writer).encode(ENTRY), ENTRY.key) == ENTRY


def test_a_planted_frame_is_nothing_where_a_secret_is_set() -> None:
    """The checksum against accidents, which needs no secret, does not pass for a keyed one."""
    frame = _planted(b"V", msgspec.msgpack.encode([b"k", [], []]))
    assert Codec().decode(frame, b"k") == VariantIndex(key=b"k", names=())
    assert Codec(b"secret").decode(frame, b"k") is None


def test_the_secret_is_not_in_the_frame() -> None:
    """What lies in Redis tells nothing of the secret."""
    assert b"very-secret" not in Codec(b"very-secret").encode(ENTRY)


def test_an_empty_body_and_no_headers_are_kept() -> None:
    """The smallest response is a response."""
    empty = replace(ENTRY, stored=replace(ENTRY.stored, body=b"", headers=Headers()))
    assert Codec().decode(Codec().encode(empty), ENTRY.key) == empty


# --- Compressed bodies --------------------------------------------------------------------------


@given(_entries, st.binary(min_size=1, max_size=20), st.sampled_from([*KEEPING]))
def test_a_compressed_body_is_decoded_the_same(entry: Entry, text: bytes, kind: str) -> None:
    """It stays compressed for a worker with the setting, with every other field."""
    entry, codec = packed(entry, text * 2000), KEEPING[kind]
    assert entry.stored.is_compressed
    frame = codec.encode(entry)
    assert codec.decode(frame, entry.key) == entry
    assert codec.decode(frame, entry.key + b"x") is None
    assert tokens_at(frame) == entry.tokens


@given(_entries, st.binary(min_size=1, max_size=20))
def test_a_worker_without_the_setting_reads_the_plain_body(entry: Entry, text: bytes) -> None:
    """It does not look at Accept-Encoding, and answers as if nothing had been compressed."""
    entry = packed(entry, text * 2000)
    found = Codec().decode(KEEPING["plain"].encode(entry), entry.key)
    assert isinstance(found, Entry)
    plain = replace(entry.stored, body=text * 2000, plain_length=None)
    assert found == replace(entry, stored=plain)


@given(_entries, _codecs)
def test_a_plain_body_has_the_frame_of_before(entry: Entry, codec: Codec) -> None:
    """Whatever the setting: what is not compressed is read by earlier versions too."""
    frame = codec.encode(entry)
    stored = replace(entry.stored, plain_length=len(entry.stored.body))
    assert frame[4:5] == b"R"
    assert codec.encode(replace(entry, stored=stored)) == frame


def test_without_zstd_a_compressed_body_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of an earlier Python without the extra, beside one with it."""
    frame = KEEPING["plain"].encode(packed(ENTRY))
    assert Codec().decode(frame, ENTRY.key) is not None
    monkeypatch.setattr(zstd, "_library", lambda: None)
    assert Codec().decode(frame, ENTRY.key) is None


def _declaring(length: int, body: bytes) -> bytes:
    """A frame with a right checksum whose body says that it is so long before compression."""
    entry = packed(ENTRY)
    frame = KEEPING["plain"].encode(entry)
    end = 25 + int.from_bytes(frame[21:25], "big")
    before = msgspec.msgpack.encode(entry.stored.plain_length)
    assert frame[:end].endswith(before)
    return _planted(b"Z", frame[25 : end - len(before)] + msgspec.msgpack.encode(length), body)


@pytest.mark.parametrize(
    ("length", "body"),
    [
        (len(TEXT) - 1, zstd.compress(TEXT)),
        (len(TEXT) + 1, zstd.compress(TEXT)),
        (-1, zstd.compress(TEXT)),
        (0, b""),
        (len(zstd.compress(TEXT)), zstd.compress(TEXT)),
        (2048, zstd.compress(bytes(32 * 1024 * 1024))),
        (32 * 1024 * 1024, zstd.compress(bytes(32 * 1024 * 1024))),
        (2**62, zstd.compress(bytes(32 * 1024 * 1024))),
        (len(TEXT), b"not zstd"),
        (len(TEXT), zstd.compress(TEXT)[:-1]),
        (len(TEXT), zstd.compress(TEXT) + b"\0"),
        (2048, b"\x28\xb5\x2f\xfd"),
    ],
    ids=[
        "shorter", "longer", "negative", "empty", "no-shorter", "bomb", "large-bomb",
        "astronomic", "foreign", "cut", "more", "magic",
    ],
)  # fmt: skip
def test_a_planted_body_is_nothing(length: int, body: bytes) -> None:
    """Neither a bomb nor any other body that does not fit its declared length."""
    assert Codec().decode(_declaring(len(TEXT), zstd.compress(TEXT)), ENTRY.key) is not None
    assert Codec().decode(_declaring(length, body), ENTRY.key) is None


@pytest.mark.parametrize(("longest", "is_read"), [(len(TEXT), True), (len(TEXT) - 1, False)])
@pytest.mark.parametrize("keeps", [True, False])
def test_the_longest_body_bounds_what_is_declared(longest: int, is_read: bool, keeps: bool) -> None:
    """Also for a worker that decompresses only when a client asks for the plain body."""
    codec = Codec(keeps_compressed=keeps, longest=longest)
    found = codec.decode(codec.encode(packed(ENTRY)), ENTRY.key)
    assert (found is not None) is is_read
