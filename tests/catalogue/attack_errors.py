"""Errors that stick, and answers that are not whole: the next client is not made to pay."""

import contextlib
import time

from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Play, Send, get, raw, script
from tests.support.raw_http import CutResponseError, RawConnection
from tests.support.timing import in_time

AREA = "Errors that stick"
CPDOS = "Nguyen et al., Your Cache Has Fallen: CPDoS (CCS 2019)"
REFUSED = (0, 400, 413, 414, 431)


def case(name: str, what: str, expected: str, reference: str, *steps: Send) -> Case:
    """A case that is nothing but requests."""
    return Case(
        id=name, area=AREA, what=what, expected=expected, reference=reference, play=script(*steps)
    )


def made_to_fail(status: int) -> Case:
    """A request that makes the application fail by a header field."""
    return case(
        f"fragile-{status}",
        f"a header that makes the application answer {status} with `max-age=60`",
        "the next client gets the whole",
        CPDOS,
        get("/{run}/fragile", {"x-make-status": str(status)}, status=status, stored=False),
        get("/{run}/fragile", shows="status=200"),
    )


def without_freshness(status: int) -> Case:
    """An error that says nothing of freshness."""
    return case(
        f"plain-{status}",
        f"an answer of {status} that says nothing of freshness",
        "not stored",
        "RFC 9111 section 4.2.2; [what is stored](storing.md)",
        get(f"/{{run}}/says?status={status}", status=status, stored=False),
        get(f"/{{run}}/says?status={status}", status=status, hit=False),
    )


def malformed(name: str, request: bytes) -> Case:
    """A request that the server or the application refuses."""
    return case(
        "malformed-" + name.replace(" ", "-").replace(",", ""),
        f"a malformed request: {name}",
        "the next client gets the whole",
        CPDOS,
        raw(request, status=None),
        get("/{run}/url", shows="/url"),
    )


def goes_wrong(how: str, what: str, reference: str = "RFC 9111 section 3.3") -> Case:
    """A response that is not what it seems."""

    def play(bench: Bench) -> None:
        with RawConnection(bench.node(0).port, timeout=5.0) as connection:
            connection.send_request("GET", f"/{bench.run}/broken/{how}")
            with contextlib.suppress(CutResponseError, ConnectionError, TimeoutError):
                connection.read_response()
        bench.settle()
        for number in range(len(bench.nodes)):
            # The other node breaks too, when it is asked for the first time.
            if number or how == "after":
                with contextlib.suppress(TimeoutError):
                    bench.get(f"/{{run}}/broken/{how}", node=number)
        if how != "after":  # the body was whole
            for number in range(2):
                answer = bench.get(f"/{{run}}/broken/{how}", node=number)
                assert answer.status == 200, answer
                assert b"whole" in answer.body, answer

    return Case(
        id=f"broken-{how}",
        area=AREA,
        what=f"a response {what}",
        expected="not stored: the next client gets the whole",
        reference=reference,
        play=play,
    )


def hangs_up(name: str, what: str, play: Play) -> Case:
    """A client that hangs up."""
    return Case(
        id=f"hang-up-{name}",
        area=AREA,
        what=f"a client that hangs up {what}",
        expected="the next client gets the whole, at once",
        reference="RFC 9111 section 3.3",
        play=play,
    )


def while_sending(bench: Bench) -> None:
    """Send half a request, and hang up; at every byte of it, nearly."""
    request = f"GET /{bench.run}/url HTTP/1.1\r\nHost: shop.example\r\nX-A: b\r\n\r\n".encode()
    for cut in range(0, len(request), 7):
        with RawConnection(bench.node(cut).port) as connection:
            connection.send(request[:cut])
            connection.abort()
    assert b"/url" in bench.get("/{run}/url").body


def in_the_stream(bench: Bench) -> None:
    """Hang up after so many bytes of a stream; then ask for the whole."""
    for number, wanted in enumerate((1, 400, 2000)):
        path = f"/{bench.run}/stream?pieces=10&cut={wanted}"
        with RawConnection(bench.node(number).port) as connection:
            connection.send_request("GET", path, [("Host", "shop.example")], host_header=False)
            connection.read_head()
            connection.read_exactly(wanted)
            connection.abort()
        for node in range(2):
            answer = bench.get(path, node=node)
            assert answer.body.count(b" of 10") == 10, answer


def before_the_answer(bench: Bench) -> None:
    """Ask for what takes a while and hang up; those who wait for the same are answered."""
    path = f"/{bench.run}/slow?seconds=0.3"
    with (
        RawConnection(bench.node(0).port) as connection,
        RawConnection(bench.node(0).port) as other,
    ):
        connection.send_request("GET", path)
        time.sleep(0.1)
        other.send_request("GET", path)
        connection.abort()
        began = time.monotonic()
        assert b"done" in other.read_response().body
        in_time(time.monotonic() - began, 3.0)


def politely(bench: Bench) -> None:
    """The application sees the hang-up and ends its answer early in good order."""
    path = f"/{bench.run}/polite"
    with RawConnection(bench.node(0).port) as connection:
        connection.send_request("GET", path, [("Host", "shop.example")], host_header=False)
        time.sleep(0.05)
        connection.abort()
    time.sleep(0.1)
    bench.settle()
    for number in range(2):
        assert b"20 of 20" in bench.get(path, node=number).body


def half_closed(bench: Bench) -> None:
    """Close the sending half after the request: a legal client, or one that is gone."""
    path = f"/{bench.run}/url"
    with RawConnection(bench.node(0).port) as connection:
        connection.send_request("GET", path, [("Host", "shop.example")], host_header=False)
        connection.finish_sending()
        with contextlib.suppress(CutResponseError, ConnectionError):
            connection.read_response()
    assert b"/url" in bench.get("/{run}/url").body


def pipelined(bench: Bench) -> None:
    """Several requests at once on one connection, hits and misses: answers in their order."""
    bench.get("/{run}/url/1")
    bench.settle()
    with RawConnection(bench.node(0).port) as connection:
        for number in (1, 2, 1, 3):
            path = f"/{bench.run}/url/{number}"
            connection.send_request("GET", path, [("Host", "shop.example")], host_header=False)
        for number in (1, 2, 1, 3):
            assert f"/url/{number}'".encode() in connection.read_response().body


def stream_is_not_held(bench: Bench) -> None:
    """The first piece of a stream is there long before its last."""
    with RawConnection(bench.node(0).port) as connection:
        connection.send_request("GET", f"/{bench.run}/stream?pieces=20&pause=0.1")
        began = time.monotonic()
        connection.read_head()
        connection.read_exactly(20)
        in_time(time.monotonic() - began, 1.0)  # the whole takes 2 s


CASES: list[Case] = [
    *(
        made_to_fail(s)
        for s in (400, 401, 403, 406, 408, 411, 413, 415, 417, 421, 429, 431, 500, 501, 503)
    ),
    *(without_freshness(s) for s in (302, 404, 410, 500, 503)),
    malformed(
        "control character in a field",
        b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\nX: a\x01b\r\n\r\n",
    ),
    malformed(
        "NUL in a field", b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\nX: a\x00b\r\n\r\n"
    ),
    malformed(
        "line folding", b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\nX: a\r\n b\r\n\r\n"
    ),
    malformed("no name", b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\n: a\r\n\r\n"),
    malformed("no version", b"GET /{run}/url\r\nHost: shop.example\r\n\r\n"),
    malformed("space before colon", b"GET /{run}/url HTTP/1.1\r\nHost : shop.example\r\n\r\n"),
    malformed(
        "bytes above 127", b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\nX: \xff\xfe\r\n\r\n"
    ),
    malformed(
        "20 kB field",
        b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ),
    malformed(
        "1,000 fields",
        b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
    ),
    malformed(
        "smuggled request",
        b"GET /{run}/url HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /{run}/me HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    ),
    case(
        "long-url",
        "a URL of 9,000 bytes",
        "passed on and not stored",
        "[limits of security](security.md#limits)",
        get("/{run}/url?" + "a" * 9000, status=(200, *REFUSED), stored=False),
        get("/{run}/url", shows="/url"),
    ),
    goes_wrong("before", "whose handler raises before it", "RFC 9110 section 15.6"),
    goes_wrong("started", "that raises after its headers"),
    goes_wrong("during", "that raises in its body"),
    goes_wrong("after", "that raises after its body"),
    goes_wrong("unfinished", "that ends without its last piece"),
    goes_wrong("long", "that is shorter than its Content-Length"),
    goes_wrong("short", "that is longer than its Content-Length"),
    goes_wrong("word", "whose Content-Length is no number", "RFC 9110 section 8.6"),
    goes_wrong("negative", "whose Content-Length is negative", "RFC 9110 section 8.6"),
    goes_wrong("twice", "with two different Content-Lengths", "RFC 9112 section 6.3"),
    hangs_up("sending", "while it sends its request", while_sending),
    hangs_up("waiting", "while the handler works", before_the_answer),
    hangs_up("stream", "after 1, 400 and 2,000 bytes of a stream", in_the_stream),
    hangs_up("polite", "while the application looks for that", politely),
    hangs_up("half", "with its sending half only", half_closed),
    Case(
        id="pipelined",
        area=AREA,
        what="four requests sent at once on one connection, hits and misses",
        expected="answers in their order",
        reference="RFC 9112 section 9.3.2",
        play=pipelined,
    ),
    Case(
        id="stream-not-held",
        area=AREA,
        what="a stream of two seconds",
        expected="its first byte is not held back",
        reference="[streams](howto/streaming.md)",
        play=stream_is_not_held,
    ),
]
