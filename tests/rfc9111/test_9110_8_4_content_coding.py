"""RFC 9110, 8.4 and 12.5.3: a body that lies compressed, and what each client gets of it."""

import random
import tracemalloc
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage import zstd
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.content_coding import compressed, marked, plain_body, takes_zstd
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.freshening import freshen, freshen_from_head
from maxage.rfc9111.message import Request, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.verdicts import MayStore, NotFreshened
from tests.rfc9111.build import NOW, date, get, head, reply, stored, values

TEXT = b"A line that is worth compressing.\n" * 100
NOISE = random.Random(16).randbytes(2048)
ZSTD = "Accept-Encoding: gzip, deflate, br, zstd"


def kept(*texts: str, body: bytes = TEXT, status: int = 200) -> StoredResponse:
    """A stored response as it lies in a store with `CACHE_COMPRESS`."""
    length = f"Content-Length: {len(body)}"
    texts = ("Cache-Control: max-age=60", *texts)
    plain = marked(stored(*texts, length, body=body, status=status))
    return plain if plain.plain_length is None else compressed(plain)


def served(request: Request, response: StoredResponse) -> Serve:
    decision = decide(request, response, now=NOW, policy=Policy())
    assert isinstance(decision, Serve), decision
    return decision


def is_coded(served: Serve) -> bool:
    """Whether an answer says that it is compressed, and is."""
    said = values(served, "content-encoding") == ["zstd"]
    assert said or not values(served, "content-encoding")
    assert not served.body or values(served, "content-length") == [str(len(served.body))]
    if served.status == 200 and served.body:
        body = served.body if not said else import_module(zstd._MODULE).decompress(served.body)
        assert body == TEXT
    return said


# --- Which clients ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "zstd", "ZSTD", "gzip, deflate, br, zstd", "zstd;q=1.0, gzip", "gzip, zstd;q=0.001",
        "zstd, identity", "zstd;q=0.5, identity;q=0.5", "zstd, *;q=0", "zstd , identity;q=0",
        "zstd;q=0.2,\tidentity;q=0.1", ", zstd,", "gzip;q=1, identity;q=0.5, zstd;q=0.5",
    ],
)  # fmt: skip
def test_a_client_that_names_zstd_gets_it(line: str) -> None:
    """By any weight but 0, unless it prefers no coding."""
    assert is_coded(served(get(f"Accept-Encoding: {line}"), kept()))


@pytest.mark.parametrize(
    "line",
    [
        "", "gzip, deflate, br", "identity", "*", "*;q=1, identity;q=0", "zstd;q=0",
        "zstd;q=0.000, gzip", "zstd;q=0.4, identity", "zstd;q=0.4, identity;q=0.5",
        "zstd;q=2", "zstd;q=x", "zstd, zstd", "zstd;level=3", "xzstd", "zst", "x-zstd", "zstd-d",
        '"zstd"', "gzip zstd", "zstd;q=-1", "z" * 300, "zstd\0",
    ],
)  # fmt: skip
def test_every_other_client_gets_the_plain_body(line: str) -> None:
    """One that names it in a way that means nothing too: the plain body suits all."""
    answer = served(get(f"Accept-Encoding: {line}"), kept())
    assert not is_coded(answer)
    assert answer.body == TEXT


def test_a_client_without_accept_encoding_gets_the_plain_body() -> None:
    """It would have to take any coding, and most such clients know none."""
    assert not is_coded(served(get(), kept()))


def test_several_lines_are_one_field() -> None:
    """RFC 9110 section 5.3."""
    lines = ("Accept-Encoding: gzip", "Accept-Encoding: zstd;q=0.5")
    assert is_coded(served(get(*lines), kept()))
    assert not is_coded(served(get(*lines, "Accept-Encoding: zstd;q=0"), kept()))


@given(st.binary() | st.text("zstdgip,;q=01.* \t", max_size=300).map(str.encode))
def test_no_line_raises_and_long_ones_mean_the_same(line: bytes) -> None:
    """Accept-Encoding may hold anything."""
    padded = line + b"," * 250
    assert takes_zstd((line,)) == takes_zstd((padded,))


# --- Headers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "coded"),
    [('"a"', 'W/"a"'), ('W/"a"', 'W/"a"')],
)
def test_a_strong_tag_is_that_of_the_plain_body_alone(etag: str, coded: str) -> None:
    """Section 8.8.3.3: a strong tag of both would name two different bodies."""
    response = kept(f"ETag: {etag}")
    assert values(served(get(), response), "etag") == [etag]
    assert values(served(get(ZSTD), response), "etag") == [coded]


@pytest.mark.parametrize("request_line", [ZSTD, "Accept-Encoding: gzip"])
@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', '"b", W/"a"', "*"])
def test_either_tag_of_either_body_is_not_modified(request_line: str, tag: str) -> None:
    """A 304 carries the tag and the Vary of what a 200 would have carried, and no body."""
    answer = served(get(request_line, f"If-None-Match: {tag}"), kept('ETag: "a"'))
    assert (answer.status, answer.body) == (304, b"")
    assert values(answer, "etag") == ['W/"a"' if request_line == ZSTD else '"a"']
    assert values(answer, "vary") == ["Accept-Encoding"]
    assert values(answer, "content-encoding") == values(answer, "content-length") == []


@pytest.mark.parametrize("request_line", [ZSTD, "Accept-Encoding: gzip"])
def test_another_tag_is_modified(request_line: str) -> None:
    """The whole body follows, in the representation that the client takes."""
    answer = served(get(request_line, 'If-None-Match: "b"'), kept('ETag: "a"'))
    assert is_coded(answer) is (request_line == ZSTD)


@pytest.mark.parametrize("request_line", [ZSTD, "Accept-Encoding: gzip"])
def test_a_date_is_compared_as_before(request_line: str) -> None:
    """If-Modified-Since means the resource, whatever its coding."""
    response = kept(f"Last-Modified: {date(-100)}")
    assert served(get(request_line, f"If-Modified-Since: {date(-100)}"), response).status == 304
    assert served(get(request_line, f"If-Modified-Since: {date(-101)}"), response).status == 200


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ((), ["Accept-Encoding"]),
        (("Vary: accept-encoding",), ["accept-encoding"]),
        (("Vary: Origin, Accept-Encoding",), ["Origin, Accept-Encoding"]),
        (("Vary: Accept-Language",), ["Accept-Language", "Accept-Encoding"]),
        (("Vary: X-Accept-Encoding",), ["X-Accept-Encoding", "Accept-Encoding"]),
        (("Vary: Accept-Encoding-2, A",), ["Accept-Encoding-2, A", "Accept-Encoding"]),
    ],
)
def test_both_representations_vary(said: tuple[str, ...], sent: list[str]) -> None:
    """A cache behind this one keeps them apart."""
    for request in (get(ZSTD), get()):
        assert values(served(request, kept(*said)), "vary") == sent


def test_a_head_has_the_headers_of_the_get() -> None:
    """With the length of the body that a GET would bring, and no body."""
    for line in (ZSTD, "Accept-Encoding: gzip"):
        whole, short = served(get(line), kept('ETag: "a"')), served(head(line), kept('ETag: "a"'))
        assert short.headers == whole.headers
        assert short.body == b""


def test_all_other_headers_stay_in_their_order() -> None:
    """Only what is not true of the compressed body is replaced."""
    response = kept("X-One: 1", "Accept-Ranges: bytes", "Content-Type: text/plain", "x-one: 2")
    plain = [line for line in served(get(), response).headers if line[0].lower() != b"vary"]
    coded = served(get(ZSTD), response).headers
    replaced = {b"content-length", b"content-encoding", b"vary", b"accept-ranges"}
    assert [line for line in coded if line[0].lower() not in replaced] == [
        line for line in plain if line[0].lower() not in replaced
    ]
    assert not values(served(get(ZSTD), response), "accept-ranges")
    assert values(served(get(), response), "accept-ranges") == ["bytes"]


# --- Ranges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("request_line", [ZSTD, "Accept-Encoding: gzip"])
@pytest.mark.parametrize("if_range", [(), ('If-Range: "a"',)])
def test_a_part_is_one_of_the_plain_body(request_line: str, if_range: tuple[str, ...]) -> None:
    """It has the strong tag by which a client puts parts together."""
    answer = served(get(request_line, "Range: bytes=2-9", *if_range), kept('ETag: "a"'))
    assert (answer.status, answer.body) == (206, TEXT[2:10])
    assert values(answer, "content-range") == [f"bytes 2-9/{len(TEXT)}"]
    assert values(answer, "etag") == ['"a"']
    assert values(answer, "vary") == ["Accept-Encoding"]
    assert values(answer, "content-encoding") == []


def test_the_tag_of_the_compressed_body_brings_no_part() -> None:
    """If-Range compares strongly: a client with half of the compressed body starts anew."""
    answer = served(get(ZSTD, "Range: bytes=2-9", 'If-Range: W/"a"'), kept('ETag: "a"'))
    assert (answer.status, answer.body) == (200, TEXT)
    assert not is_coded(answer)


def test_a_range_beyond_the_plain_body_is_not_satisfiable() -> None:
    """416 names the length of the plain body."""
    answer = served(get(ZSTD, f"Range: bytes={len(TEXT)}-"), kept())
    assert (answer.status, answer.body) == (416, b"")
    assert values(answer, "content-range") == [f"bytes */{len(TEXT)}"]


# --- Which bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Content-Encoding: gzip", "Content-Encoding: identity", "Cache-Control: no-transform",
        "Cache-Control: public, No-Transform", "Content-Digest: sha-256=:AA==:",
        "Repr-Digest: sha-256=:AA==:", "Digest: sha-256=AA==", "Content-MD5: AA==",
        "Signature: a=:AA==:",
    ],
)  # fmt: skip
def test_what_must_stay_as_it_is_stays(line: str) -> None:
    """Encoded already, forbidden, or described by a digest of its bytes."""
    response = kept(line)
    assert response.body == TEXT
    assert response.plain_length is None
    answer = served(get(ZSTD), response)
    assert answer.body == TEXT
    assert values(answer, "vary") == []


@pytest.mark.parametrize(("length", "shrinks"), [(0, False), (1023, False), (1024, True)])
def test_a_short_body_stays_as_it_is(length: int, shrinks: bool) -> None:
    """From 1 KB on it pays."""
    response = kept(body=b"." * length)
    assert response.is_compressed is shrinks
    assert (response.plain_length is not None) is shrinks


def test_a_body_that_cannot_be_compressed_is_sent_plain_to_all() -> None:
    """It lies in the store as it is."""
    response = kept(body=NOISE)
    assert not response.is_compressed
    answer = served(get(ZSTD), response)
    assert answer.body == NOISE
    assert values(answer, "content-encoding") == []


@pytest.mark.parametrize(("padding", "shrinks"), [(500, False), (900, True)])
def test_a_body_that_hardly_shrinks_stays_as_it_is(padding: int, shrinks: bool) -> None:
    """At most three quarters may be left; the 2,048 bytes before the padding do not shrink."""
    assert kept(body=NOISE + b"." * padding).is_compressed is shrinks


@pytest.mark.parametrize("status", [404, 410, 301])
def test_other_statuses_are_compressed_too(status: int) -> None:
    """Their bodies cost as much."""
    response = kept(status=status)
    answer = served(get(ZSTD), response)
    assert (answer.status, values(answer, "content-encoding")) == (status, ["zstd"])


def test_a_client_may_forbid_it_too() -> None:
    """RFC 9111 section 5.2.1.6."""
    assert not is_coded(served(get(ZSTD, "Cache-Control: no-transform"), kept()))


# --- Validation -------------------------------------------------------------------------------


def arrival(request: Request, *texts: str, status: int) -> Arrival:
    return Arrival(
        request=request, response=reply(*texts, status=status),
        request_time=NOW, response_time=NOW, policy=Policy(),
    )  # fmt: skip


def freshened(response: StoredResponse, *texts: str) -> StoredResponse:
    verdict = freshen(response, arrival(get(), *texts, status=304))
    assert isinstance(verdict, MayStore), verdict
    return verdict.stored


def test_a_validated_response_stays_compressed() -> None:
    """A 304 changes headers, not the body."""
    response = kept('ETag: "a"')
    again = freshened(response, 'ETag: "a"', "Cache-Control: max-age=60", "X-New: 1")
    assert (again.body, again.plain_length) == (response.body, len(TEXT))
    assert is_coded(served(get(ZSTD), again))


def test_a_304_may_forbid_compression_from_then_on() -> None:
    """What lies in the store stays compressed, and is sent plain."""
    response = kept('ETag: "a"')
    again = freshened(response, 'ETag: "a"', "Cache-Control: max-age=60, no-transform")
    answer = served(get(ZSTD), again)
    assert answer.body == TEXT
    assert not is_coded(answer)
    assert values(answer, "vary") == []
    assert values(answer, "etag") == ['"a"']


@pytest.mark.parametrize(("length", "fits"), [(len(TEXT), True), (len(TEXT) - 1, False)])
def test_a_head_is_compared_with_the_plain_length(length: int, fits: bool) -> None:
    """The application knows no other one."""
    said = (f"Content-Length: {length}", 'ETag: "a"', "Cache-Control: max-age=60")
    verdict = freshen_from_head(kept('ETag: "a"'), arrival(head(), *said, status=200))
    assert (verdict is not NotFreshened.MISMATCH) is fits


# --- zstd itself ------------------------------------------------------------------------------


@given(st.binary(max_size=5000) | st.tuples(st.binary(max_size=9), st.integers(0, 9000)))
def test_what_was_compressed_comes_back(made: Any) -> None:
    """By our own function, and by the library's."""
    body = made if isinstance(made, bytes) else made[0] * made[1]
    packed = zstd.compress(body)
    assert zstd.decompress(packed, len(body)) == body
    assert import_module(zstd._MODULE).decompress(packed) == body


@given(st.binary(max_size=200), st.integers(0, 5000))
def test_foreign_bytes_are_damaged(body: bytes, length: int) -> None:
    """No other error is raised."""
    with suppress(zstd.DamagedBodyError):
        assert len(zstd.decompress(body, length)) == length


@pytest.mark.parametrize("length", [0, 1, len(TEXT) - 1, len(TEXT) + 1, 2**62])
def test_another_length_than_the_declared_one_is_damage(length: int) -> None:
    """Longer or shorter."""
    with pytest.raises(zstd.DamagedBodyError):
        zstd.decompress(zstd.compress(TEXT), length)


def test_bytes_behind_the_frame_are_damage() -> None:
    """Also a second frame, which clients would read as a part of the body."""
    packed = zstd.compress(TEXT)
    for more in (b"\0", packed):
        with pytest.raises(zstd.DamagedBodyError):
            zstd.decompress(packed + more, len(TEXT))


def test_a_bomb_takes_no_more_room_than_it_declares() -> None:
    """32 MB in 3 KB that are said to be 2 KB."""
    bomb = zstd.compress(bytes(32 * 1024 * 1024))
    assert len(bomb) < 8192
    tracemalloc.start()
    try:
        with pytest.raises(zstd.DamagedBodyError):
            zstd.decompress(bomb, 2048)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024


def test_a_window_larger_than_ours_is_refused() -> None:
    """Its memory would be taken before the first byte is known."""
    library: Any = import_module(zstd._MODULE)
    wide = {library.CompressionParameter.window_log: 25}
    compressor = library.ZstdCompressor(options=wide)
    frame = compressor.compress(TEXT) + compressor.flush()
    with pytest.raises(zstd.DamagedBodyError):
        zstd.decompress(frame, len(TEXT))


def test_a_plain_body_is_not_decompressed() -> None:
    """Without the mark, and with it before it was compressed."""
    response = stored("Cache-Control: max-age=60", body=TEXT)
    assert plain_body(response) is response.body
    assert plain_body(marked(response)) is response.body
