"""The scripts: what only shows on the wire, each with its reason."""

from tests.wire.script import Answer, Script, Turn, asks

HIT = ("cache-status", "maxage; hit; ttl=*")
MISS = ("cache-status", "maxage; fwd=uri-miss; stored")
SECOND = (b"cache-control", b"max-age=60")
ETAG = (b"etag", b'"v"')
LENGTH = (b"content-length", b"4")


def get(name: str, *lines: str) -> bytes:
    """A GET of a script's URL."""
    return asks("GET", f"/{name}", *lines)


SCRIPTS = (
    # --- Header fields ----------------------------------------------------------------------------
    Script(
        name="order",
        reason="a hit repeats the header section of the miss in order and number",
        answers=(
            Answer(
                headers=(
                    (b"X-Zebra", b"1"), (b"Link", b"</a>"), (b"x-apple", b"2"),
                    (b"LINK", b"</b>"), LENGTH, ETAG,
                )
            ),
        ),
        turns=(
            Turn(
                sends=get("order"),
                has=(MISS,),
                order=("x-zebra", "link", "x-apple", "link", "content-length", "etag"),
            ),
            Turn(
                sends=get("order"),
                has=(HIT, ("age", "*")),
                order=("x-zebra", "link", "x-apple", "link", "content-length", "etag"),
                runs=1,
            ),
        ),
    ),
    Script(
        name="one-date",
        reason="where the server adds no Date we send one, and a hit repeats it",
        answers=(Answer(headers=(LENGTH,)),),
        turns=tuple(Turn(sends=get("one-date"), has=(("date", "*"),)) for _ in range(2)),
    ),
    Script(
        name="own-date",
        reason="the application's Date is kept, and is the only one",
        answers=(Answer(headers=(LENGTH, (b"date", b"Tue, 14 Nov 2023 22:13:20 GMT"), SECOND)),),
        turns=tuple(
            Turn(sends=get("own-date"), has=(("date", "Tue, 14 Nov 2023 22:13:20 GMT"),))
            for _ in range(2)
        ),
    ),
    Script(
        name="server-date",
        reason="where the server adds a Date there is one, not two",
        dated=True,
        answers=(Answer(headers=(LENGTH,)),),
        turns=tuple(Turn(sends=get("server-date"), has=(("date", "*"),)) for _ in range(2)),
    ),
    Script(
        name="connection-header",
        reason="the application's Connection is about one connection, and not in what is stored",
        answers=(Answer(headers=(LENGTH, (b"connection", b"close, x-hop"), (b"x-hop", b"1"))),),
        turns=(
            Turn(sends=get("connection-header"), has=(("x-hop", "1"),), closed=True),
            Turn(sends=get("connection-header"), has=(HIT,), lacks=("connection", "x-hop")),
        ),
    ),
    Script(
        name="big-headers",
        reason="a header section of 60 kB is stored and repeated whole",
        answers=(Answer(headers=(LENGTH, (b"x-big", b"v" * 60_000))),),
        turns=(
            Turn(sends=get("big-headers"), has=(MISS, ("x-big", "v" * 60_000))),
            Turn(sends=get("big-headers"), has=(HIT, ("x-big", "v" * 60_000)), runs=1),
        ),
    ),
    Script(
        name="bigger-headers",
        reason="one beyond the limit passes and is not stored",
        answers=(Answer(headers=(LENGTH, (b"x-big", b"v" * 65_536))),),
        turns=tuple(
            Turn(sends=get("bigger-headers"), has=(("x-big", "v" * 65_536),), runs=run)
            for run in (1, 2)
        ),
    ),
    Script(
        name="big-request",
        reason="a long header of the client neither harms nor misses what is stored",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(sends=get("big-request")),
            Turn(sends=get("big-request", "X-Big: " + "v" * 40_000), has=(HIT,), runs=1),
        ),
    ),
    # --- Framing ----------------------------------------------------------------------------------
    Script(
        name="chunked-then-length",
        reason="a streamed miss is chunked as it comes; its hit knows its length",
        answers=(Answer(chunks=(b"one ", b"two")),),
        turns=(
            Turn(sends=get("chunked-then-length"), body=b"one two", framing="chunked"),
            Turn(sends=get("chunked-then-length"), body=b"one two", framing="length", runs=1),
        ),
    ),
    Script(
        name="own-transfer-encoding",
        reason="a Transfer-Encoding of the application is the server's business, never stored",
        answers=(Answer(headers=((b"transfer-encoding", b"chunked"),), chunks=(b"one ", b"two")),),
        turns=(
            Turn(sends=get("own-transfer-encoding"), body=b"one two", framing="chunked"),
            Turn(
                sends=get("own-transfer-encoding"),
                body=b"one two",
                framing="length",
                lacks=("transfer-encoding",),
                runs=1,
            ),
        ),
    ),
    Script(
        name="empty",
        reason="an empty body is whole",
        answers=(Answer(headers=((b"content-length", b"0"),), chunks=(b"", b"")),),
        turns=tuple(Turn(sends=get("empty"), body=b"", framing="length", runs=1) for _ in range(2)),
    ),
    Script(
        name="head",
        reason="HEAD has the header section of the GET, no content, and the connection goes on",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(sends=asks("HEAD", "/head"), method="HEAD", has=(("content-length", "4"),)),
            Turn(sends=get("head"), body=b"body"),
            Turn(
                sends=asks("HEAD", "/head"), method="HEAD", has=(HIT, ("content-length", "4")),
            ),
            Turn(sends=get("head"), body=b"body", has=(HIT,), runs=2),
        ),
    ),
    Script(
        name="not-modified",
        reason="a 304 has neither content nor Content-Length, and the connection goes on",
        answers=(Answer(headers=(LENGTH, ETAG)),),
        turns=(
            Turn(sends=get("not-modified")),
            Turn(
                sends=get("not-modified", 'If-None-Match: "v"'),
                status=304,
                has=(HIT, ("etag", '"v"')),
                lacks=("content-length", "transfer-encoding", "content-type"),
                framing="none",
            ),
            Turn(sends=get("not-modified"), body=b"body", runs=1),
        ),
    ),
    Script(
        name="not-modified-by-us",
        reason="so has the 304 that we make of a miss",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(
                sends=get("not-modified-by-us", "If-None-Match: *"),
                status=304,
                has=(("cache-status", "maxage; fwd=uri-miss; fwd-status=200; stored"),),
                lacks=("content-length", "transfer-encoding"),
                framing="none",
            ),
            Turn(sends=get("not-modified-by-us"), body=b"body", has=(HIT,), runs=1),
        ),
    ),
    Script(
        name="no-content",
        reason="a stored 204 has no content and gets no Content-Length",
        answers=(Answer(status=204, headers=(SECOND,), chunks=(b"",)),),
        turns=tuple(
            Turn(
                sends=get("no-content"),
                status=204,
                lacks=("content-length", "transfer-encoding"),
                framing="none",
                runs=1,
            )
            for _ in range(2)
        ),
    ),
    Script(
        name="ranges",
        reason="parts of a stored response are framed by their own length",
        answers=(Answer(headers=((b"content-length", b"10"), ETAG), chunks=(b"0123456789",)),),
        turns=(
            Turn(sends=get("ranges")),
            Turn(
                sends=get("ranges", "Range: bytes=2-4"),
                status=206,
                body=b"234",
                has=(("content-range", "bytes 2-4/10"), ("content-length", "3"), HIT),
            ),
            Turn(sends=get("ranges", "Range: bytes=0-1,-2"), status=206, framing="length"),
            Turn(
                sends=get("ranges", "Range: bytes=10-"),
                status=416,
                body=b"",
                has=(("content-range", "bytes */10"), ("content-length", "0")),
            ),
            Turn(sends=get("ranges"), body=b"0123456789", runs=1),
        ),
    ),
    Script(
        name="only-if-cached",
        reason="our own 504 is framed, and the connection goes on",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(
                sends=get("only-if-cached", "Cache-Control: only-if-cached"),
                status=504,
                body=b"",
                framing="length",
                lacks=("cache-status",),
                runs=0,
            ),
            Turn(sends=get("only-if-cached"), body=b"body"),
        ),
    ),
    # --- Bodies that are cut ----------------------------------------------------------------------
    Script(
        name="raises-half-way",
        reason="a chunked body that ends by an exception is cut for its client, and not stored",
        answers=(Answer(chunks=(b"half",), then="raise"), Answer(chunks=(b"whole",))),
        turns=(
            Turn(sends=get("raises-half-way"), cut=True, closed=True),
            Turn(sends=get("raises-half-way"), body=b"whole", has=(MISS,), runs=2),
            Turn(sends=get("raises-half-way"), body=b"whole", has=(HIT,)),
        ),
    ),
    Script(
        name="returns-half-way",
        reason="nor is one whose application just returns",
        answers=(Answer(chunks=(b"half",), then="return"), Answer(chunks=(b"whole",))),
        turns=(
            Turn(sends=get("returns-half-way"), cut=True, closed=True),
            Turn(sends=get("returns-half-way"), body=b"whole", has=(MISS,), runs=2),
        ),
    ),
    Script(
        name="shorter-than-declared",
        reason="nor is one that is shorter than its Content-Length",
        answers=(
            Answer(headers=((b"content-length", b"9"),), chunks=(b"half", b"")),
            Answer(chunks=(b"whole",)),
        ),
        turns=(
            Turn(sends=get("shorter-than-declared"), cut=True, closed=True),
            Turn(sends=get("shorter-than-declared"), body=b"whole", has=(MISS,), runs=2),
        ),
    ),
    Script(
        name="client-hangs-up",
        reason="an answer that ends because its client went away is no whole one",
        answers=(
            Answer(headers=(SECOND,), chunks=(b"half", b""), then="wait"),
            Answer(headers=(SECOND,), chunks=(b"whole",)),
        ),
        turns=(
            Turn(sends=get("client-hangs-up"), hangs_up=True),
            Turn(sends=get("client-hangs-up"), body=b"whole", runs=2),
        ),
    ),
    Script(
        name="stale-for-an-error",
        reason="a stale response that stands for an error is whole, and the connection goes on",
        answers=(
            Answer(headers=((b"content-length", b"5"), (b"cache-control", b"max-age=0"), ETAG),
                   chunks=(b"first",)),
            Answer(status=503, headers=(LENGTH,)),
            Answer(headers=(SECOND,), chunks=(b"third",)),
        ),
        turns=(
            Turn(sends=get("stale-for-an-error"), body=b"first"),
            Turn(
                sends=get("stale-for-an-error"),
                body=b"first",
                framing="length",
                has=(("cache-status", "maxage; fwd=stale; fwd-status=503; ttl=*"),),
            ),
            Turn(sends=get("stale-for-an-error"), body=b"third", runs=3),
        ),
    ),
    # --- Connections ------------------------------------------------------------------------------
    Script(
        name="pipelined",
        reason="answers to pipelined requests come in order, whether misses or hits",
        answers=(Answer(headers=((b"content-length", b"5"),), chunks=(b"run RUN",)),),
        turns=(
            Turn(
                sends=get("pipelined") * 2 + asks("HEAD", "/pipelined") + get("pipelined"),
                body=b"run 1",
                has=(MISS,),
            ),
            Turn(body=b"run 1", has=(HIT,)),
            Turn(method="HEAD", has=(HIT,)),
            Turn(body=b"run 1", has=(HIT,), runs=1),
        ),
    ),
    Script(
        name="pipelined-write",
        reason="a pipelined GET behind a PUT never gets what was stored before it",
        answers=(Answer(headers=((b"content-length", b"5"),), chunks=(b"run RUN",)),),
        turns=(
            Turn(
                sends=get("pipelined-write")
                + asks("PUT", "/pipelined-write", "Content-Length: 1", body=b"x")
                + get("pipelined-write"),
                body=b"run 1",
            ),
            Turn(body=b"run 2", has=(("cache-status", "maxage; fwd=method"),)),
            Turn(body=b"run 3", has=(MISS,), runs=3),
        ),
    ),
    Script(
        name="client-closes",
        reason="Connection: close of the client ends the connection after a hit too",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(sends=get("client-closes")),
            Turn(sends=get("client-closes", "Connection: close"), has=(HIT,), closed=True),
        ),
    ),
    Script(
        name="get-with-a-body",
        reason="a GET with a body reaches the application with it; the connection stays in step",
        answers=(Answer(chunks=(b"",)),),
        turns=(
            Turn(sends=get("get-with-a-body")),
            Turn(
                sends=asks("GET", "/get-with-a-body", "Content-Length: 5", body=b"hello")
                + get("get-with-a-body"),
                body=b"hello",
                has=(("cache-status", "maxage; fwd=bypass; detail=body"),),
            ),
            Turn(body=b"", has=(HIT,), runs=2),
        ),
    ),
    Script(
        name="expect-continue",
        reason="100 (Continue) comes from the server when the application reads, and only once",
        answers=(Answer(chunks=(b"",)),),
        turns=(
            Turn(sends=get("expect-continue")),
            Turn(
                sends=asks("POST", "/expect-continue", "Expect: 100-continue", "Content-Length: 2",
                           body=b"ok"),
                method="POST",
                body=b"ok",
                interim=(100,),
            ),
            Turn(sends=get("expect-continue"), has=(MISS,), runs=3),
        ),
    ),
    Script(
        name="two-lengths",
        reason="what may be smuggled is refused by the server and reaches neither us nor a store",
        turns=(
            Turn(
                sends=asks("GET", "/two-lengths", "Content-Length: 4",
                           "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
                status=400,
                closed=True,
                runs=0,
            ),
            Turn(sends=get("two-lengths"), has=(("cache-status", "maxage; fwd=uri-miss; stored"),)),
        ),
    ),
    Script(
        name="absolute-form",
        reason="the absolute form of a URL names what its origin form names",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(sends=get("absolute-form")),
            Turn(sends=asks("GET", "http://HOST/absolute-form"), has=(HIT,), runs=1),
        ),
    ),
    Script(
        name="two-hosts",
        reason="with two Host lines the request is ambiguous",
        answers=(Answer(headers=(LENGTH,)),),
        turns=tuple(
            Turn(
                sends=asks("GET", "/two-hosts", "Host: HOST", "Host: other"),
                has=(("cache-status", "maxage; fwd=bypass; detail=host"),),
                runs=run,
            )
            for run in (1, 2)
        ),
    ),
    # --- HTTP/1.0 ---------------------------------------------------------------------------------
    Script(
        name="http-1-0",
        reason="a client of HTTP/1.0 gets a hit with a length, and the connection ends",
        answers=(Answer(chunks=(b"one ", b"two")),),
        turns=(
            Turn(sends=get("http-1-0"), body=b"one two"),
            Turn(
                sends=asks("GET", "/http-1-0", version="1.0"),
                body=b"one two",
                framing="length",
                has=(HIT,),
                closed=True,
                runs=1,
            ),
        ),
    ),
    Script(
        name="http-1-0-without-host",
        reason="without a Host the server's address is what is asked for",
        answers=(Answer(headers=(LENGTH,)),),
        turns=(
            Turn(sends=b"GET /http-1-0-without-host HTTP/1.0\r\n\r\n", has=(MISS,), closed=True),
            Turn(sends=b"GET /http-1-0-without-host HTTP/1.0\r\n\r\n", has=(HIT,), closed=True),
            Turn(sends=get("http-1-0-without-host", "Host: elsewhere"), has=(MISS,), runs=2),
        ),
    ),
)  # fmt: skip
