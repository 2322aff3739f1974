"""Stored values from another writer: a miss, and replaced."""

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from maxage import zstd
from maxage.store.codec import Codec
from maxage.store.entry import Entry, VariantIndex
from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, get, script

AREA = "Stored values"
CODEC = (
    "[what is stored](security.md#what-is-stored): a value that does not verify is a miss, "
    "and overwritten"
)


def only_entry(bench: Bench) -> tuple[bytes, bytes]:
    """Fill one URL and return its key and value."""
    bench.get("/{run}/url")
    bench.settle()
    (key,) = bench.stored_keys()
    return key, bench.server.call("GET", key)


def assert_whole(bench: Bench, *, was: bytes) -> None:
    """The next answers are the application's own, and what was there is replaced."""
    key = bench.stored_keys()
    for number in range(2):
        answer = bench.get("/{run}/url", node=number)
        assert answer.status == 200, answer
        assert f"/{bench.run}/url'".encode() in answer.body, answer
        assert b"number=" in answer.body, answer
        if number == 0 and not bench.near:
            assert b"; hit" not in (answer.header("cache-status") or b""), answer
        bench.settle()
    if not bench.near:
        assert bench.server.call("GET", key[0]) != was


def counted(bench: Bench) -> int:
    """How many values the nodes could not read."""
    nodes = range(len(bench.nodes))
    return sum(int(bench.get("/_unreadable", node=number).body) for number in nodes)


def changed(name: str, what: str, change: Callable[[bytes, random.Random], list[bytes]]) -> Case:
    """A value that is put in the place of the right one."""

    def play(bench: Bench) -> None:
        key, frame = only_entry(bench)
        source = random.Random(name)
        for value in change(frame, source):
            before = counted(bench)
            bench.server.call("SET", key, value, "PX", 60_000)
            assert_whole(bench, was=value)
            assert bench.near or counted(bench) > before

    return Case(
        id=f"value-{name}", area=AREA, what=what, expected="a miss, counted, and replaced",
        reference=CODEC, play=play,
    )  # fmt: skip


def flipped(frame: bytes, source: random.Random) -> list[bytes]:
    """The value with one bit turned, at ten places."""
    values = []
    for _ in range(10):
        value = bytearray(frame)
        value[source.randrange(len(frame))] ^= 1 << source.randrange(8)
        values.append(bytes(value))
    return values


def cut(frame: bytes, source: random.Random) -> list[bytes]:
    """The value without its end."""
    return [frame[:length] for length in (1, 4, 20, 24, 25, len(frame) // 2, len(frame) - 1)]


def bombs(frame: bytes, source: random.Random) -> list[bytes]:
    """The value with a compressed body of 32 MB, that says so, and that says 8 KB."""
    end = 25 + int.from_bytes(frame[21:25], "big")
    key = msgspec.msgpack.decode(frame[25:end])[0]
    entry = Codec().decode(frame, key)
    assert isinstance(entry, Entry)
    body, codec = zstd.compress(bytes(32 * 1024 * 1024)), Codec(keeps_compressed=True)
    stored = [replace(entry.stored, body=body, plain_length=n) for n in (8192, 32 * 1024 * 1024)]
    return [codec.encode(replace(entry, stored=one)) for one in stored]


def of_type(kind: str, *words: str) -> Case:
    """A key of another type in the place of a value."""

    def play(bench: Bench) -> None:
        key, _ = only_entry(bench)
        bench.server.call("DEL", key)
        bench.server.call(words[0], key, *words[1:])
        for number in range(3):
            answer = bench.get("/{run}/url", node=number)
            assert answer.status == 200, answer
            bench.settle()
        assert bench.server.call("TYPE", key) in {b"string", "string"} or bench.near

    return Case(
        id=f"type-{kind}", area=AREA, what=f"a {kind} where a stored response was",
        expected="a miss, and replaced", reference="Redis, WRONGTYPE; " + CODEC, play=play,
    )  # fmt: skip


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def pickled(bench: Bench) -> None:
    """Put a pickle that runs code under an entry, a token and a typed value."""
    mark = bench.server.folder / "pickled"
    bench.get("/{run}/item")
    key, _ = only_entry_of(bench)
    value = pickle.dumps(Evil(mark))
    tokens = bench.server.call("KEYS", f"*:t:*{bench.run}*")
    for name in (key, *tokens, *bench.server.call("KEYS", f"*item:{bench.run}*")):
        bench.server.call("SET", name, value, "PX", 60_000)
    for number in range(3):
        answer = bench.get("/{run}/item", node=number)
        assert b"item=7." in answer.body, answer
        assert bench.get("/{run}/url", node=number).status == 200
        bench.settle()
    assert not mark.exists()


def only_entry_of(bench: Bench) -> tuple[bytes, bytes]:
    """Fill the URL beside others and return its key and value."""
    bench.get("/{run}/url")
    bench.settle()
    (key,) = bench.stored_keys(holding=f"{bench.run}/url")
    return key, bench.server.call("GET", key)


def foreign_entry(bench: Bench) -> None:
    """Put a whole, valid entry of another URL under this one's key."""
    bench.get("/{run}/url/evil")
    bench.settle()
    (evil,) = bench.stored_keys()
    frame = bench.server.call("GET", evil)
    bench.get("/{run}/reads/host")
    bench.settle()
    (key,) = [key for key in bench.stored_keys() if key != evil]
    bench.server.call("SET", key, frame, "PX", 60_000)
    for number in range(2):
        assert b"host=" in bench.get("/{run}/reads/host", node=number).body


def forged_index(bench: Bench) -> None:
    """An index of variants that names fields and keys of the attacker's choice."""
    for lang in ("de", "en"):
        bench.get("/{run}/varies/x-lang", {"x-lang": lang})
        bench.settle()
    (primary,) = [key for key in bench.stored_keys() if b":v:" not in key]
    for names in ((b"x-other",), (), (b"x-lang", b"x-other")):
        forged = VariantIndex(key=primary, names=names)
        bench.server.call("SET", primary, Codec().encode(forged), "PX", 60_000)
        for number, lang in enumerate(("en", "de", "fr")):
            answer = bench.get("/{run}/varies/x-lang", {"x-lang": lang}, node=number)
            assert f"['{lang}']".encode() in answer.body, answer
            bench.settle()


def token_of(what: str, value: Callable[[Bench, bytes], None]) -> Case:
    """A token that is none."""

    def play(bench: Bench) -> None:
        only_entry(bench)
        tokens = bench.server.call("KEYS", f"*:t:*{bench.run}*")
        assert tokens
        for token in tokens:
            value(bench, token)
        for number in range(3):
            answer = bench.get("/{run}/url", node=number)
            assert answer.status == 200, answer
            assert b"/url'" in answer.body
            assert bench.send(number, "PUT", "/{run}/row?value=1").status == 200
            bench.settle()

    return Case(
        id=f"token-{what.replace(' ', '-')}", area=AREA, what=f"{what} where a token was",
        expected="counts as missing: a miss",
        reference="[the protocol](architecture.md#the-protocol)", play=play,
    )  # fmt: skip


def random_token(bench: Bench, key: bytes) -> None:
    """Write random bytes."""
    bench.server.call("SET", key, random.Random(1).randbytes(40), "PX", 60_000)


def list_token(bench: Bench, key: bytes) -> None:
    """Write a list."""
    bench.server.call("DEL", key)
    bench.server.call("RPUSH", key, "x")


def typed_value(bench: Bench) -> None:
    """Write another value under a typed object's key, without its seal."""
    assert b"item=7." in bench.get("/{run}/item").body
    bench.settle()
    for key in bench.server.call("KEYS", f"*item:{bench.run}"):
        if b":t:" not in key:
            for value in (b"666", b"{", b"\xff", json.dumps({"a": 1}).encode()):
                bench.server.call("SET", key, value, "PX", 60_000)
                bench.send(0, "PUT", "/{run}/item?none")  # 405: purges nothing
                for number in range(2):
                    answer = bench.get(f"/{{run}}/item?fresh={value.hex()}", node=number)
                    assert b"item=7." in answer.body, (value, answer)


CASES: list[Case] = [
    changed(
        "random", "random bytes", lambda frame, source: [source.randbytes(n) for n in (1, 29, 4000)]
    ),
    changed("empty", "an empty value", lambda frame, source: [b""]),
    changed("cut", "a value that was cut, at seven places", cut),
    changed("flipped", "a value with one bit turned, at ten places", flipped),
    changed("longer", "a value with bytes behind it", lambda frame, source: [frame + b"x"]),
    changed("old-format", "a value of another format", lambda frame, source: [b"mxa0" + frame[4:]]),
    changed(
        "head-length",
        "a head that says it is 4 GB long",
        lambda frame, source: [frame[:21] + b"\xff\xff\xff\xff" + frame[25:]],
    ),
    changed(
        "body-only",
        "a body of the attacker's behind the right head",
        lambda frame, source: [frame[:-9] + b"evil evil"],
    ),
    changed(
        "json",
        "JSON, as other caches write it",
        lambda frame, source: [b'{"status": 200, "body": "evil"}'],
    ),
    changed("bomb", "a compressed body of 32 MB, which says so, or says 8 KB", bombs),
    of_type("list", "RPUSH", "x"),
    of_type("hash", "HSET", "a", "b"),
    of_type("set", "SADD", "x"),
    of_type("stream", "XADD", "*", "a", "b"),
    Case(
        id="value-foreign-entry",
        area=AREA,
        what="the whole, valid entry of another URL",
        expected="a miss: an entry holds its own key",
        reference=CODEC,
        play=foreign_entry,
    ),
    Case(
        id="value-pickle",
        area=AREA,
        what="pickles that run code, as entry, token and typed value",
        expected="never unpickled",
        reference="CWE-502; CVE-2021-33026",
        play=pickled,
    ),
    Case(
        id="value-index",
        area=AREA,
        what="an index of variants with names and keys of the attacker's choice",
        expected="each client gets the answer to what it sent",
        reference="RFC 9111 section 4.1",
        play=forged_index,
    ),
    token_of("random bytes", random_token),
    token_of("a list", list_token),
    Case(
        id="value-typed",
        area=AREA,
        what="another value under the key of a typed object",
        expected="a miss: its seal does not fit",
        reference="[the typed cache](typed-cache.md)",
        play=typed_value,
    ),
    Case(
        id="value-planted",
        area=AREA,
        what="with `CACHE_SECRET`: a valid entry made without the secret",
        expected="a miss",
        reference="[what is stored](security.md#what-is-stored); CWE-345",
        play=script(
            get("/plain/{run}/url", stored=True),
            get("/plain/{run}/url", hit=True),
            get("/secret/{run}/url", hit=False),
            get("/secret/{run}/url", hit=True),
        ),
    ),
]
