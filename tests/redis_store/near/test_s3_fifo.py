"""The memory of the near cache: bounded in bytes, robust against scans, and never outdated."""

import gc
import random
import tracemalloc
from typing import Any, cast

import pytest
from msgspec.structs import replace

from maxage.redis_store.near.s3_fifo import Copies
from maxage.rfc9111.message import Headers, StoredResponse
from maxage.store.codec import Codec
from maxage.store.entry import Entry
from maxage.store.near_copy import Copy

HEADERS = tuple((f"x-header-{n}".encode(), f"value {n} of some length".encode()) for n in range(6))


def entry(key: bytes, body: bytes = b"x" * 1000) -> Entry:
    stored = StoredResponse(
        status=200,
        headers=Headers.of(HEADERS),
        body=body,
        request_time=1.0,
        response_time=1.0,
        freshness_lifetime=60.0,
        corrected_initial_age=0.0,
    )
    groups = ("n", "p:/items", "p:/items/" + key.decode())
    return Entry(key=key, stored=stored, tokens=tuple((g, b"h-" + g.encode()) for g in groups))


def copy(key: bytes, body: bytes = b"x" * 1000) -> Copy:
    made = entry(key, body)
    return Copy(made, ends=1e12, tokens=tuple(b"t:" + g.encode() for g, _ in made.tokens))


def put(copies: Copies, name: bytes, body: bytes = b"x" * 1000) -> bool:
    return copies.put(copy(name, body), since=copies.serial)


def test_what_was_put_is_found() -> None:
    """The very copy, and nothing under another key."""
    copies = Copies(100_000)
    kept = copy(b"a")
    assert copies.put(kept, since=copies.serial)
    assert copies.find(b"a") is kept
    assert copies.find(b"b") is None
    assert len(copies) == 1


def test_a_second_copy_replaces_the_first() -> None:
    """One copy for a key, counted once."""
    copies = Copies(100_000)
    put(copies, b"a")
    used = copies.used_bytes
    first = copies.find(b"a")
    put(copies, b"a")
    assert copies.used_bytes == used
    assert first is not None
    assert not first.kept
    assert copies.find(b"a") is not first


def test_a_purge_drops_what_depends_on_the_token_and_nothing_else() -> None:
    """One member goes, its neighbour stays; the collection takes both."""
    copies = Copies(100_000)
    put(copies, b"a")
    put(copies, b"b")
    copies.purge([b"t:p:/items/a", b"t:unknown"])
    assert copies.find(b"a") is None
    assert copies.find(b"b") is not None
    copies.purge([b"t:p:/items"])
    assert len(copies) == 0
    assert copies.used_bytes == 0


def test_a_purged_copy_says_so_to_who_holds_it() -> None:
    """An exact hit asks the server between finding and sending."""
    copies = Copies(100_000)
    kept = copy(b"a")
    copies.put(kept, since=0)
    copies.purge([b"t:n"])
    assert not kept.kept


@pytest.mark.parametrize("event", ["token", "namespace", "clear", "newer"])
def test_what_was_looked_up_before_a_change_is_not_kept(event: str) -> None:
    """From the first byte of the lookup until it is put in, nothing may have happened."""
    copies = Copies(100_000)
    since = copies.serial
    match event:
        case "token":
            copies.purge([b"t:p:/items/a"])
        case "namespace":
            copies.purge([b"t:n"])
        case "clear":
            copies.clear()
        case _:
            copies.drop([b"a"])
    assert not copies.put(copy(b"a"), since=since)
    assert copies.put(copy(b"a"), since=copies.serial)


def test_a_change_of_something_else_does_not_matter() -> None:
    """Other groups come and go all the time."""
    copies = Copies(100_000)
    since = copies.serial
    copies.purge([b"t:p:/items/b"])
    assert copies.put(copy(b"a"), since=since)


def test_more_changes_than_are_remembered_void_what_is_under_way() -> None:
    """What is remembered of changes is bounded; forgetting errs on the safe side."""
    copies = Copies(100_000)
    since = copies.serial
    copies.purge([b"t:p:/items/a"])
    for n in range(2000):
        copies.purge([b"t:other-%d" % n])
    assert not copies.put(copy(b"a"), since=since)
    assert not copies.put(copy(b"c"), since=since)


def test_a_flood_of_one_time_keys_does_not_empty_it() -> None:
    """What is in use stays, however long the flood lasts and without uses meanwhile."""
    copies = Copies(1_000_000)
    popular = [b"popular-%d" % n for n in range(50)]
    for key in popular:
        put(copies, key)
    for _ in range(3):
        for key in popular:
            copies.find(key)
    for n in range(20_000):
        put(copies, b"flood-%d" % n)
    assert all(copies.find(key) is not None for key in popular)
    assert copies.used_bytes <= 1_000_000


def test_what_was_used_and_is_used_no_more_leaves() -> None:
    """Another set of popular keys takes the room of the first."""
    copies = Copies(400_000)
    for wave in (b"old", b"new"):
        for _ in range(6):
            for n in range(60):
                key = b"%b-%d" % (wave, n)
                if copies.find(key) is None:
                    put(copies, key)
    assert sum(copies.find(b"new-%d" % n) is not None for n in range(60)) > 50


def test_what_left_too_early_comes_back_to_stay() -> None:
    """A key that is seen again soon after it left is no one-time key."""
    copies = Copies(500_000)
    put(copies, b"a")
    n = 0
    while copies.find(b"a") is not None and n < 5000:
        kept = copies.find(b"a")
        if kept is not None:
            kept.uses = 0
        n += 1
        put(copies, b"flood-%d" % n)
    put(copies, b"a")
    for m in range(5000):
        put(copies, b"more-%d" % m)
    assert copies.find(b"a") is not None


def test_one_copy_never_takes_it_all() -> None:
    """A body of more than a quarter of the room is not kept."""
    copies = Copies(1_000_000)
    assert not put(copies, b"huge", b"x" * 260_000)
    assert put(copies, b"large", b"x" * 240_000)


@pytest.mark.parametrize("size", [0, 1000, 20_000])
def test_the_bytes_are_counted_honestly(size: int) -> None:
    """What the interpreter has allocated is no more than the setting says."""
    limit = 4_000_000
    codec = Codec()
    chance = random.Random(7)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        copies = Copies(limit)
        for n in range(8000 if size < 5000 else 800):
            # Through the codec, so that no two entries share their parts.
            made = entry(b"http://host/api/v1/items/%d" % n, chance.randbytes(size))
            kept = codec.decode(codec.encode(made), made.key)
            assert isinstance(kept, Entry)
            tokens = tuple(b"t:" + group.encode() for group, _ in kept.tokens)
            one = Copy(kept, ends=1e12, tokens=tokens)
            cast("Any", one.prepared)["GET", None] = [
                list(kept.stored.headers.raw),
                b"age",
                dict.fromkeys("ab"),
            ]
            copies.put(one, since=copies.serial)
        del made, kept, one, tokens
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(copies) > 50
    assert taken <= limit
    assert copies.used_bytes <= limit
    assert taken > limit * 0.4, "far too much is counted"


def test_the_count_never_drifts() -> None:
    """After any sequence of changes, what is counted is what is there."""
    chance = random.Random(11)
    copies = Copies(60_000)
    for _ in range(5000):
        key = b"%d" % chance.randrange(80)
        dice = chance.random()
        if dice < 0.5:
            put(copies, key, b"x" * chance.randrange(3000))
        elif dice < 0.8:
            copies.find(key)
        elif dice < 0.9:
            copies.drop([key])
        else:
            copies.purge([b"t:p:/items/" + key])
    copies.purge([b"t:n"])
    assert len(copies) == 0
    assert copies._bytes == copies._small_bytes == 0
    assert not copies._by_token
    assert not copies._small
    assert not copies._main


def test_a_copy_of_an_entry_counts_its_body() -> None:
    """The body is what is largest."""
    small, large = copy(b"a", b""), copy(b"a", b"x" * 5000)
    assert 5000 <= large.size - small.size <= 5100
    assert replace(entry(b"a"), key=b"b").key == b"b"
