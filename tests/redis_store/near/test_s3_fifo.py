"""The memory of the near cache: bounded in bytes, robust against scans, and never outdated."""

import gc
import random
import tracemalloc
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from maxage.redis_store.near.compact_copy import CompactCopy
from maxage.redis_store.near.s3_fifo import Copies
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.message import HeaderList, Headers, StoredResponse
from maxage.store.codec import Codec
from maxage.store.entry import Entry
from maxage.store.prepared import Owner, PreparedResponse

HEADERS = tuple((f"x-header-{n}".encode(), f"value {n} of some length".encode()) for n in range(6))


NAMES = [b"name-%d" % n for n in range(20)]


def entry(
    key: bytes,
    body: bytes = b"x" * 1000,
    *,
    groups: Sequence[str] = ("n", "p:/items"),
    headers: HeaderList = HEADERS,
) -> Entry:
    stored = StoredResponse(
        status=200,
        headers=Headers(headers),
        body=body,
        request_time=1.0,
        response_time=1.0,
        freshness_lifetime=60.0,
        corrected_initial_age=0.0,
    )
    groups = (*groups, f"{groups[-1]}/{key.decode()}")
    return Entry(key=key, stored=stored, tokens=tuple((g, b"h-" + g.encode()) for g in groups))


def token_key(group: str) -> bytes:
    return b"t:" + group.encode()


def room(max_bytes: int) -> Copies:
    return Copies(max_bytes, token_key)


def put(
    copies: Copies,
    name: bytes,
    body: bytes = b"x" * 1000,
    *,
    since: int | None = None,
    groups: Sequence[str] = ("n", "p:/items"),
    headers: HeaderList = HEADERS,
) -> bool:
    made = entry(name, body, groups=groups, headers=headers)
    return copies.put(made, ends=1e12, since=copies.serial if since is None else since)


def prepared(kept: Entry) -> PreparedResponse:
    """A response as it is prepared for each hit: a second list of lines, two of them new."""
    age, status = (b"age", b"%d" % id(kept)), (b"cache-status", b"maxage; hit; ttl=%d" % id(kept))
    lines = (*kept.stored.headers.raw, age, status)
    serve = Serve(status=200, headers=lines, body=kept.stored.body, ttl=1)
    return PreparedResponse(serve, lines, owner=Owner(), confirm=None, since=0.0, until=1.0)


def found(copies: Copies, name: bytes) -> CompactCopy:
    copy = copies.find(name)
    assert copy is not None
    return copy


def test_what_was_put_is_found() -> None:
    """The very response, and nothing under another key."""
    copies = room(100_000)
    assert put(copies, b"a")
    assert found(copies, b"a").entry(b"a") == entry(b"a")
    assert copies.find(b"b") is None
    assert len(copies) == 1


@pytest.mark.parametrize("length", [b"1000", b"01000", b"999", b""])
@pytest.mark.parametrize(
    "date", [b"Thu, 01 Jan 1970 00:00:01 GMT", b"Thu, 01 Jan 1970 00:00:02 GMT"]
)
@pytest.mark.parametrize("token", [b"h-own", b"hh-own", b"other-own"])
def test_what_a_copy_leaves_out_comes_back(length: bytes, date: bytes, token: bytes) -> None:
    """A length and a date that follow from the rest, and the history of a token; no other ones."""
    copies = room(100_000)
    for number in range(5):
        # The tokens that they share become those of a kind.
        put(copies, b"%d" % number)
    lines = ((b"Content-Length", length), (b"Date", date), *HEADERS)
    made = entry(b"a", headers=lines)
    made = replace(made, tokens=(*made.tokens[:-1], ("p:/items/a", token)))
    assert copies.put(made, ends=1e12, since=copies.serial)
    assert found(copies, b"a").entry(b"a") == made


def test_a_second_copy_replaces_the_first() -> None:
    """One copy for a key, counted once."""
    copies = room(100_000)
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
    copies = room(100_000)
    put(copies, b"a")
    put(copies, b"b")
    copies.purge([b"t:p:/items/a", b"t:unknown"])
    assert copies.find(b"a") is None
    assert copies.find(b"b") is not None
    copies.purge([b"t:p:/items"])
    assert copies.find(b"b") is None
    assert len(copies) == 0


def test_a_purged_copy_says_so_to_who_holds_it() -> None:
    """An exact hit asks the server between finding and sending."""
    copies = room(100_000)
    for name in NAMES:
        put(copies, name)
    kept = [found(copies, name) for name in NAMES]
    copies.purge([b"t:n"])
    assert not any(copy.kept for copy in kept)


@pytest.mark.parametrize("event", ["token", "namespace", "clear", "newer"])
def test_what_was_looked_up_before_a_change_is_not_kept(event: str) -> None:
    """From the first byte of the lookup until it is put in, nothing may have happened."""
    copies = room(100_000)
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
    assert not put(copies, b"a", since=since)
    assert put(copies, b"a")


def test_a_change_of_something_else_does_not_matter() -> None:
    """Other groups come and go all the time."""
    copies = room(100_000)
    since = copies.serial
    copies.purge([b"t:p:/items/b"])
    assert put(copies, b"a", since=since)


def test_more_changes_than_are_remembered_void_what_is_under_way() -> None:
    """What is remembered of changes is bounded; forgetting errs on the safe side."""
    copies = room(100_000)
    since = copies.serial
    copies.purge([b"t:p:/items/a"])
    for n in range(2000):
        copies.purge([b"t:other-%d" % n])
    assert not put(copies, b"a", since=since)
    assert not put(copies, b"c", since=since)


def test_a_flood_of_one_time_keys_does_not_empty_it() -> None:
    """What is in use stays, however long the flood lasts and without uses meanwhile."""
    copies = room(1_000_000)
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
    copies = room(400_000)
    for wave in (b"old", b"new"):
        for _ in range(6):
            for n in range(60):
                key = b"%b-%d" % (wave, n)
                if copies.find(key) is None:
                    put(copies, key)
    assert sum(copies.find(b"new-%d" % n) is not None for n in range(60)) > 50


def test_what_left_too_early_comes_back_to_stay() -> None:
    """A key that is seen again soon after it left is no one-time key."""
    copies = room(500_000)
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
    copies = room(1_000_000)
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
        copies = room(limit)
        for n in range(8000 if size < 5000 else 800):
            # Through the codec, so that no two entries share their parts.
            made = entry(b"http://host/api/v1/items/%d" % n, chance.randbytes(size))
            kept = codec.decode(codec.encode(made), made.key)
            assert isinstance(kept, Entry)
            copies.put(kept, ends=1e12 + n, since=copies.serial)
            copy = copies.find(made.key)
            if copy is not None:
                copies.keep_prepared(copy, ("GET", None), prepared(copy.entry(made.key)))
        del made, kept, copy
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(copies) > 50
    assert taken <= limit
    assert copies.used_bytes <= limit
    assert taken > limit * 0.75, "far too much is counted"


def test_the_count_never_drifts() -> None:
    """After any sequence of changes, what is counted is what is there."""
    chance = random.Random(11)
    copies = room(60_000)
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
    assert len(copies) > 0
    copies.drop([b"%d" % n for n in range(80)])
    assert len(copies) == 0
    assert copies._bytes == copies._small_bytes == 0
    kinds = copies._kinds
    assert kinds.used_bytes == kinds.outdated == 0
    assert not kinds._kinds
    assert not kinds._by_token


def test_a_copy_counts_its_body() -> None:
    """The body is what is largest."""
    copies = room(100_000)
    put(copies, b"small", b"")
    put(copies, b"large", b"x" * 5000)
    assert 5000 <= found(copies, b"large").size - found(copies, b"small").size <= 5200


@pytest.mark.parametrize("count", [1, 4, 5, 100])
def test_a_purge_drops_all_copies_of_its_token_however_many(count: int) -> None:
    """Few copies are known by their keys, many by what they have in common."""
    copies = room(1_000_000)
    names = [b"%d" % n for n in range(count)]
    for name in names:
        put(copies, name)
    put(copies, b"other", groups=("n", "p:/others"))
    copies.purge([b"t:p:/items"])
    assert not any(map(copies.find, names))
    assert copies.find(b"other") is not None
    assert len(copies) == 1


def test_what_was_purged_can_be_kept_again() -> None:
    """With a new token, in the place of the purged copy."""
    copies = room(1_000_000)
    for _ in range(3):
        for name in NAMES:
            assert put(copies, name)
        assert all(map(copies.find, NAMES))
        assert len(copies) == len(NAMES)
        copies.purge([b"t:p:/items"])
        assert len(copies) == 0


def test_purged_copies_make_room_first() -> None:
    """However often they were used: nothing may use them any more."""
    copies = room(100_000)
    for name in NAMES:
        put(copies, name)
        for _ in range(5):
            copies.find(name)
    copies.purge([b"t:p:/items"])
    for n in range(200):
        put(copies, b"new-%d" % n, groups=("n", "p:/others"))
    assert copies.used_bytes <= 100_000
    assert copies._kinds.outdated == 0


def test_a_url_that_is_purged_again_and_again_takes_no_more_room() -> None:
    """Its key lies in a queue once for each purge, until there are too many of them."""
    copies = room(10_000_000)
    for _ in range(5000):
        put(copies, b"a")
        copies.purge([b"t:p:/items/a"])
    put(copies, b"a")
    assert copies.used_bytes < 100_000
    assert len(copies) == 1


def test_headers_that_differ_from_response_to_response_are_not_shared() -> None:
    """Each copy has its own, and there are few kinds."""
    copies = room(10_000_000)
    for n in range(2000):
        put(copies, b"%d" % n, headers=((b"x-trace", b"%d" % n), (b"etag", b"%d" % n)))
    for n in range(2000):
        copy = found(copies, b"%d" % n)
        assert copy.entry(b"").stored.headers.first(b"x-trace") == b"%d" % n
    assert len(copies._kinds._kinds) < 600
