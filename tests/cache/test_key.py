"""Keys: two requests that may be answered differently never share one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maxage.cache.key import (
    FORWARDED_HEADERS,
    Site,
    declared_query,
    forwarded_parts,
    join_injective,
    variant_key,
    without_client,
)
from maxage.settings import CacheSettings

SEED = 20261123
PAIRS = 100_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything that a primary key is made of."""

    namespace: str = "maxage"
    release: str = ""
    scheme: bytes = b"http"
    host: bytes = b"h"
    root_path: bytes = b""
    raw_path: bytes = b"/"
    query: bytes = b""
    forwarded: tuple[tuple[bytes, bytes], ...] = ()
    extra: tuple[bytes, ...] = ()

    def key(self) -> bytes:
        """The primary key."""
        site = Site(
            self.namespace, self.release, "GET", self.scheme, self.host, self.root_path,
            forwarded_parts(self.forwarded),
        )  # fmt: skip
        return site.key(self.raw_path, self.query, b"", self.extra)


# Characters that keys, URLs and lists are delimited with, and few others, so that parts which look
# like one another, or like two of the other, are generated all the time.
_BYTES = [b"", b"a", b"b", b"/", b"?", b"&", b"=", b":", b",", b"1:a,", b"0:,", b"%2F", b" ", b"_"]
_BYTES += [b"\xff", b"\xc3\xa9", b"\xe9", b":e:", b":v:", b"GET", b"1", b"#"]
_NAMES = sorted(FORWARDED_HEADERS - {b"forwarded"})


def _bytes(chance: random.Random) -> bytes:
    return b"".join(chance.choices(_BYTES, k=chance.randrange(4)))


def _asked(chance: random.Random) -> Asked:
    return Asked(
        namespace=chance.choice(("m", "m:e", "m:e:", "m:t", "m_", "m.a")),
        release=_bytes(chance).decode("latin-1"),
        scheme=chance.choice((b"http", b"https")),
        host=_bytes(chance),
        root_path=_bytes(chance),
        raw_path=b"/" + _bytes(chance),
        query=_bytes(chance),
        forwarded=tuple(
            (chance.choice(_NAMES[:3]), _bytes(chance)) for _ in range(chance.randrange(3))
        ),
        extra=tuple(_bytes(chance) for _ in range(chance.randrange(3))),
    )


def _neighbour(asked: Asked, chance: random.Random) -> Asked:
    """Return what differs from `asked` the way a collision would: one byte, one boundary."""
    fields = vars(asked)
    match chance.randrange(5):
        case 0:
            name = chance.choice(("host", "root_path", "raw_path", "query"))
            return replace(asked, **{name: fields[name] + chance.choice(_BYTES)})
        case 1:
            # The same bytes, divided elsewhere.
            names = ("host", "root_path", "raw_path", "query")
            first = chance.randrange(3)
            joined = fields[names[first]] + fields[names[first + 1]]
            at = chance.randint(0, len(joined))
            return replace(asked, **{names[first]: joined[:at], names[first + 1]: joined[at:]})
        case 2:
            return replace(asked, extra=(*asked.extra, _bytes(chance)))
        case 3:
            lines = [part for line in asked.forwarded for part in line]
            return replace(asked, forwarded=(), extra=(*lines, *asked.extra))
        case _:
            return replace(asked, release=asked.release + chance.choice((" ", "_", "é", ":")))


def test_no_two_of_100_000_pairs_of_different_requests_share_a_key(
    request: pytest.FixtureRequest,
) -> None:
    """Each pair differs in a byte or a boundary, and all 200,000 are compared with each other.

    A quick run compares a tenth.
    """
    chance = random.Random(SEED)
    wanted = PAIRS // 10 if request.config.getoption("quick") else PAIRS
    seen: dict[bytes, Asked] = {}
    pairs = 0
    while pairs < wanted:
        one = _asked(chance)
        other = _neighbour(one, chance)
        if one == other:
            continue
        pairs += 1
        for asked in (one, other):
            assert seen.setdefault(asked.key(), asked) == asked, f"seed {SEED}"
    assert len(seen) > wanted


_parts = st.lists(st.binary(max_size=12), max_size=6)
_requests = st.builds(
    Asked,
    namespace=st.from_regex(r"[a-zA-Z0-9_.:-]{1,8}", fullmatch=True),
    release=st.text(max_size=64),
    scheme=st.sampled_from([b"http", b"https"]),
    host=st.binary(max_size=12),
    root_path=st.binary(max_size=12),
    raw_path=st.binary(max_size=200),
    query=st.binary(max_size=200),
    forwarded=st.lists(st.tuples(st.sampled_from(_NAMES), st.binary(max_size=9)), max_size=3).map(
        tuple
    ),
    extra=_parts.map(tuple),
)


@given(_requests, _requests)
def test_different_requests_have_different_keys(one: Asked, other: Asked) -> None:
    """The same property over arbitrary bytes and text, shrinking to the smallest collision."""
    assert (one.key() == other.key()) == (one == other)


@given(_parts, _parts)
def test_joined_parts_can_be_told_apart(one: list[bytes], other: list[bytes]) -> None:
    """No two lists give the same bytes, whatever delimiters they hold."""
    assert (join_injective(one) == join_injective(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Asked(raw_path=b"/a?b"), Asked(raw_path=b"/a", query=b"b")),
        (Asked(raw_path=b"/a", root_path=b"/x"), Asked(raw_path=b"/x/a")),
        (Asked(host=b"h/a"), Asked(host=b"h", raw_path=b"/a/")),
        (Asked(raw_path=b"/a%2Fb"), Asked(raw_path=b"/a/b")),
        (Asked(raw_path=b"/%41"), Asked(raw_path=b"/A")),
        (Asked(raw_path=b"/%c3%a9"), Asked(raw_path="/é".encode())),
        (Asked(raw_path=b"//a"), Asked(raw_path=b"/a")),
        (Asked(raw_path=b"/a/"), Asked(raw_path=b"/a")),
        (Asked(raw_path=b"/a/../b"), Asked(raw_path=b"/b")),
        (Asked(query=b"a=1&b=2"), Asked(query=b"b=2&a=1")),
        (Asked(query=b"a=1"), Asked(query=b"a=1&")),
        (Asked(query=b"a+b"), Asked(query=b"a%20b")),
        (Asked(query=b"a=1;b=2"), Asked(query=b"a=1&b=2")),
        (Asked(host=b"h"), Asked(host=b"h:80")),
        (Asked(host=b"h"), Asked(host=b"H")),
        (Asked(scheme=b"http"), Asked(scheme=b"https")),
        (Asked(release="v 1"), Asked(release="v_1")),
        (Asked(release="é"), Asked(release="ü")),
        (Asked(release="x" * 64 + "1"), Asked(release="x" * 64 + "2")),
        (Asked(raw_path=b"/" + b"x" * 5000 + b"1"), Asked(raw_path=b"/" + b"x" * 5000 + b"2")),
        (Asked(forwarded=((b"x-forwarded-host", b"a"),)), Asked(extra=(b"x-forwarded-host", b"a"))),
        (Asked(forwarded=((b"x-host", b"a"),)), Asked(forwarded=((b"x-host", b"b"),))),
        (Asked(forwarded=((b"x-host", b""),)), Asked()),
        (Asked(forwarded=((b"X-Forwarded-Host", b"a"),)), Asked()),
        (
            Asked(forwarded=((b"x-host", b"a"), (b"x-scheme", b"b"))),
            Asked(forwarded=((b"x-scheme", b"b"), (b"x-host", b"a"))),
        ),
        (
            Asked(forwarded=((b"forwarded", b"for=1;host=a"),)),
            Asked(forwarded=((b"forwarded", b"for=1;host=b"),)),
        ),
        (Asked(extra=(b"",)), Asked()),
        (Asked(extra=(b"a", b"b")), Asked(extra=(b"ab",))),
        (Asked(extra=(b"1:a,",)), Asked(extra=(b"a",))),
        (Asked(extra=(b"2",)), Asked(forwarded=((b"2", b"0"),))),
        (Asked(forwarded=((b"0", b"y"),)), Asked(extra=(b"y", b"1"))),
    ],
)
def test_nothing_that_distinguishes_requests_is_lost(one: Asked, other: Asked) -> None:
    """Nothing is decoded or normalised, and no delimiter can be smuggled into another part."""
    assert one.key() != other.key()


@pytest.mark.parametrize("other", ["for=1.2.3.4", 'for="[::1]:80";by=10.0.0.1', "For=x , for=_y"])
def test_clients_behind_a_proxy_share_a_key(other: str) -> None:
    """`for` and `by` name the client and the proxy, not the host that URLs are built from."""
    assert b"host=h" in without_client(f"{other};host=h".encode())
    assert b"for" not in without_client(f"{other};host=h".encode()).lower()


def test_the_same_forwarded_host_gives_the_same_key_for_two_clients() -> None:
    """Without that, nothing would be shared behind a proxy."""
    one = Asked(forwarded=((b"forwarded", b"for=192.0.2.1;host=h;proto=https"),))
    other = Asked(forwarded=((b"forwarded", b'for="[2001:db8::1]:99";host=h;proto=https'),))
    assert one.key() == other.key()


@pytest.mark.parametrize(
    "value",
    [
        b'host="a;for=b"',
        b'for=";host=evil;";host=good',
        b'for="x, host=evil";host=good',
        b'host="a\\";for=b"',
        b'for="unterminated;host=evil',
        b"for=a b;host=h",
        b"xfor=a;host=h",
        b"host=for=a",
        b"before=1;host=h",
    ],
)
def test_a_forwarded_value_with_delimiters_in_quotes_stays_whole(value: bytes) -> None:
    """Whatever an application may read as a host there is part of the key."""
    assert without_client(value) == value


@pytest.mark.parametrize(
    "value",
    [b" " * 60_000 + b'"', b"a=" * 30_000 + b'"', b";" * 60_000 + b'"', b"for=;" * 12_000 + b'"'],
)
def test_a_hostile_forwarded_value_takes_no_more_than_linear_time(value: bytes) -> None:
    """A pattern that went back and forth over 60 kB would not end within this test run."""
    assert without_client(value) == value


_pairs = st.lists(st.sampled_from(["for=a", 'by="b"', "host=c", 'host="d"', "proto=https", ""]))


@given(_pairs, st.sampled_from([";", ",", " , ", "; "]))
def test_only_for_and_by_are_left_out(pairs: list[str], separator: str) -> None:
    """Every other pair stays, in its order."""
    kept = without_client(separator.join(pairs).encode()).decode()
    named = [p for p in pairs if p.startswith(("host", "proto"))]
    assert [p.strip() for p in kept.replace(",", ";").split(";") if p.strip()] == named


def test_a_key_is_readable_with_redis_cli() -> None:
    """Namespace, release and URL stand in front, without blanks or unprintable bytes."""
    key = Asked(release="v1", host=b"example.org", raw_path=b"/items", query=b"page=2").key()
    assert key.startswith(b"maxage:e:v1:http://example.org/items?page=2:")
    dirty = Asked(release="a b", host=b"\n\x00\xff", raw_path=b"/\r\n*2", query=b"\x1b[31m").key()
    assert all(0x21 <= byte <= 0x7E for byte in dirty)


@given(_requests)
def test_a_key_is_short_whatever_the_url(asked: Asked) -> None:
    """What is shown of a URL is bounded."""
    assert len(replace(asked, raw_path=asked.raw_path * 50).key()) < 450


@given(
    st.lists(st.tuples(st.binary(max_size=8), st.none() | st.binary(max_size=8)), max_size=4),
    st.lists(st.tuples(st.binary(max_size=8), st.none() | st.binary(max_size=8)), max_size=4),
)
def test_different_selecting_fields_choose_different_variants(
    one: Sequence[tuple[bytes, bytes | None]], other: Sequence[tuple[bytes, bytes | None]]
) -> None:
    """Names and values, present or absent, are told apart."""
    keys = {variant_key(b"k", [n for n, _ in f], [v for _, v in f]) for f in (one, other)}
    assert (len(keys) == 1) == (one == other)


@pytest.mark.parametrize("value", [b"", b"-", b"+", b"None"])
def test_an_absent_field_is_not_an_empty_one(value: bytes) -> None:
    """`Accept-Language:` with no value and none at all may be answered differently."""
    assert variant_key(b"k", [b"a"], [None]) != variant_key(b"k", [b"a"], [value])


def test_a_variant_lies_beside_its_url() -> None:
    """The variants of a URL begin with its key, and no primary key is one of them."""
    primary = Asked().key()
    assert variant_key(primary, [b"a"], [b"b"]).startswith(primary + b":v:")
    assert variant_key(primary, [], []) != primary


def test_values_without_names_are_a_mistake() -> None:
    """Names and values belong together."""
    with pytest.raises(ValueError, match="zip"):
        variant_key(b"k", [b"a"], [])


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"", b""),
        (b"page=2", b"page=2"),
        (b"page=2&utm_source=x", b"page=2"),
        (b"utm=1&page=2&x=3&size=5", b"page=2&size=5"),
        (b"size=5&page=2", b"size=5&page=2"),
        (b"page=1&page=2", b"page=1&page=2"),
        (b"p%61ge=2", b"p%61ge=2"),
        (b"page", b"page"),
        (b"page=", b"page="),
        (b"Page=2", b""),
        (b"page%3D2", b""),
        (b"x;page=2", b""),
        (b"a+b=1&a%20b=2", b"a+b=1&a%20b=2"),
        (b"caf\xc3\xa9=1", b""),
        (b"caf%C3%A9=1", b"caf%C3%A9=1"),
        (b"&&page=2&", b"page=2"),
    ],
)
def test_declared_parameters_stay_as_they_were_sent(query: bytes, kept: bytes) -> None:
    """Names are compared decoded, as the application decodes them; order and spelling are kept."""
    assert declared_query(query, frozenset({"page", "size", "a b", "café"})) == kept


@given(st.binary(max_size=60))
def test_with_nothing_declared_the_query_does_not_count(query: bytes) -> None:
    """A route without query parameters has one key for all queries."""
    assert declared_query(query, frozenset()) == b""


@given(st.text(st.sampled_from("ab&=%1;+"), max_size=20), st.text("ab1", min_size=1, max_size=2))
def test_what_the_application_reads_of_a_declared_parameter_is_in_the_key(
    query: str, name: str
) -> None:
    """The values that Starlette would read are the same before and after."""
    from starlette.datastructures import QueryParams

    assume(query)
    kept = declared_query(query.encode(), frozenset({name}))
    assert QueryParams(kept).getlist(name) == QueryParams(query.encode()).getlist(name)


def test_the_longest_settings_still_give_a_key() -> None:
    """Namespace and release at their longest."""
    settings = CacheSettings(cache_namespace="n" * 64, cache_release="é" * 64)
    key = Asked(namespace=settings.cache_namespace, release=settings.cache_release).key()
    assert key.startswith(b"n" * 64)
