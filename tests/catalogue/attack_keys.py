"""Poisoning and keys: whatever a request says, another request's answer does not change by it."""

from concurrent.futures import ThreadPoolExecutor

from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Send, get, raw, script
from tests.support.raw_http import HeaderInput

AREA = "Poisoning and keys"
KETTLE = "Kettle, Practical Web Cache Poisoning (2018)"
ENTANGLED = "Kettle, Web Cache Entanglement (2020)"
KEYED = [
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "evil"),
    ("x-forwarded-port", "666"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-scheme", "evil"),
    ("x-forwarded-server", "evil.example"),
    ("x-forwarded-ssl", "evil"),
    ("x-forwarded-path", "/evil"),
    ("x-host", "evil.example"),
    ("x-scheme", "evil"),
    ("x-url-scheme", "evil"),
    ("front-end-https", "evil"),
    ("forwarded", "host=evil.example"),
    ("forwarded", 'for="a;host=evil.example"'),
]
OVERRIDES = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-forwarded-uri",
]
"""By these a request means another method or path than it says."""

URLS = [
    ("double-slash", "/{run}/url//a", "/{run}/url/a", "RFC 3986 section 6.2.3"),
    ("encoded-slash", "/{run}/url/a%2Fb", "/{run}/url/a/b", "RFC 3986 section 2.2"),
    ("encoded-slash-case", "/{run}/url/a%2fb", "/{run}/url/a%2Fb", "RFC 3986 section 6.2.2.1"),
    ("dot", "/{run}/url/./a", "/{run}/url/a", "RFC 3986 section 5.2.4"),
    ("dot-dot", "/{run}/url/b/../a", "/{run}/url/a", "RFC 3986 section 5.2.4"),
    ("encoded-dots", "/{run}/url/b/%2e%2e/a", "/{run}/url/a", "RFC 3986 section 6.2.2.2"),
    ("path-case", "/{run}/url/A", "/{run}/url/a", "RFC 9110 section 4.2.3"),
    ("trailing-slash", "/{run}/url/a/", "/{run}/url/a", "RFC 3986 section 6.2.3"),
    ("nul", "/{run}/url/a%00", "/{run}/url/a", ENTANGLED),
    ("line-break", "/{run}/url/a%0d%0aX:%20evil", "/{run}/url/a", "CWE-113"),
    ("path-parameter", "/{run}/url/a;x=1", "/{run}/url/a", "RFC 3986 section 3.3"),
    ("backslash", "/{run}/url/b%5ca", "/{run}/url/b/a", ENTANGLED),
    ("encoded-question", "/{run}/url/a%3Fx=1", "/{run}/url/a?x=1", ENTANGLED),
    ("encoded-hash", "/{run}/url/a%23x", "/{run}/url/a", ENTANGLED),
    ("encoded-letter", "/{run}/url/%61", "/{run}/url/a", "RFC 3986 section 6.2.2.2"),
    ("double-encoding", "/{run}/url/%2561", "/{run}/url/%61", "CWE-174"),
    ("overlong", "/{run}/url/%c0%af", "/{run}/url//", "CVE-2000-0884"),
    ("unicode-form", "/{run}/url/%C3%A9", "/{run}/url/e%CC%81", "UAX 15"),
    ("key-syntax", "/{run}/url/:e::v:0", "/{run}/url", "[what is stored](storing.md)"),
    ("empty-query", "/{run}/url?", "/{run}/url?a", "RFC 3986 section 6.2.3"),
    ("query-order", "/{run}/url?a=1&b=2", "/{run}/url?b=2&a=1", ENTANGLED),
    ("repeated-parameter", "/{run}/url?a=1&a=evil", "/{run}/url?a=1", ENTANGLED),
    ("parameter-cloaking", "/{run}/url?a=1;a=evil", "/{run}/url?a=1", "CVE-2021-23336"),
    ("cloaked-by-utm", "/{run}/url?utm_source=x;a=evil", "/{run}/url?utm_source=x", ENTANGLED),
    ("encoded-ampersand", "/{run}/url?a=1%26b=2", "/{run}/url?a=1&b=2", ENTANGLED),
    ("encoded-name", "/{run}/url?%61=evil", "/{run}/url?a=1", ENTANGLED),
    ("plus", "/{run}/url?a=1+2", "/{run}/url?a=1%202", "URL Standard, urlencoded parsing"),
    ("empty-segment-query", "/{run}/url?&a=1", "/{run}/url?a=1", ENTANGLED),
]
"""Spellings that some caches take for one: each must show itself, the second as well."""


def poisoned(number: int, name: str, value: str) -> Case:
    """A header from which applications build URLs."""
    target = f"/{{run}}/reads/{name}"
    return Case(
        id=f"{name}-{number}",
        area=AREA,
        what=f"`{name}: {value}` on a URL that others ask for",
        expected="no request without that header sees its value; the answer without it is cached",
        reference=KETTLE,
        play=script(
            get(target, [(name, value)], shows="evil" if "evil" in value else value),
            get(target, hides=value, hit=False),
            get(target, hides=value, hit=True),
        ),
    )


def overridden(name: str) -> Case:
    """A header that makes a GET something else."""
    return Case(
        id=name,
        area=AREA,
        what=f"`{name}` on a plain GET",
        expected="passed on; its answer is neither stored nor taken from the store",
        reference="Nguyen et al., CPDoS (CCS 2019); " + KETTLE,
        play=script(
            get(f"/{{run}}/reads/{name}", {name: "DELETE"}, shows="DELETE", stored=False),
            get(f"/{{run}}/reads/{name}", hides="DELETE", stored=True),
            get(f"/{{run}}/reads/{name}", {name: "DELETE"}, shows="DELETE", hit=False),
        ),
    )


def spelled(name: str, one: str, other: str, reference: str) -> Case:
    """Two spellings of a URL."""

    def play(bench: Bench) -> None:
        for _ in range(2):
            for number, url in enumerate((one, other, one)):
                raw_path, _, query = url.replace("{run}", bench.run).partition("?")
                answer = bench.get(url, node=number)
                if answer.status in {400, 404}:
                    continue  # refused by the server, or no route: nothing to be mixed up
                assert f"raw={raw_path.encode()!r}".encode() in answer.body, (url, answer)
                assert f"query={query.encode()!r}".encode() in answer.body, (url, answer)
                bench.settle()

    return Case(
        id=f"url-{name}",
        area=AREA,
        what=f"`{one.replace('/{run}', '')}` after `{other.replace('/{run}', '')}`",
        expected="two URLs: each answer is that of its own spelling",
        reference=reference,
        play=play,
    )


def case(name: str, what: str, expected: str, reference: str, *steps: Send) -> Case:
    """A case that is nothing but requests."""
    return Case(
        id=name, area=AREA, what=what, expected=expected, reference=reference, play=script(*steps)
    )


def hosts(*lines: str) -> HeaderInput:
    """Host lines."""
    return [("Host", line) for line in lines]


def explode_vary(bench: Bench) -> None:
    """Ask one node with 100 values at once, then the other."""
    for node in range(len(bench.nodes)):

        def ask(number: int, node: int = node) -> int:
            headers = {"x-lang": f"lang{node}-{number}"}
            return bench.get("/plain/{run}/varies/x-lang", headers, node=node).status

        with ThreadPoolExecutor(16) as threads:
            assert set(threads.map(ask, range(100))) == {200}
        bench.settle()
        variants = [key for key in bench.stored_keys() if b":v:" in key]
        assert 1 <= len(variants) <= 64, len(variants)


def many_ranges(bench: Bench) -> None:
    """Ask for 1,000 overlapping ranges of a stored response."""
    bench.get("/{run}/file")
    bench.settle()
    ranges = ",".join(f"{start}-" for start in range(1000))
    answer = bench.get("/{run}/file", {"range": f"bytes={ranges}"}, node=1)
    assert answer.status in {200, 206, 416}
    assert len(answer.body) <= 20_000, len(answer.body)


def swapped(bench: Bench) -> None:
    """Exchange the values of two stored responses in Redis."""
    for name in ("one", "two"):
        bench.get(f"/{{run}}/url/{name}")
    bench.settle()
    one, two = bench.stored_keys()
    values = [bench.server.call("GET", key) for key in (one, two)]
    for key, value in zip((two, one), values, strict=True):
        bench.server.call("SET", key, value, "PX", 60_000)
    for number, name in enumerate(("one", "two")):
        fresh = bench.get(f"/{{run}}/url/{name}?", node=number)
        assert f"/{name}'".encode() in fresh.body
        answer = bench.get(f"/{{run}}/url/{name}", node=number)
        assert f"/{name}'".encode() in answer.body, answer


CASES: list[Case] = [
    *(poisoned(number, *line) for number, line in enumerate(KEYED)),
    *(overridden(name) for name in OVERRIDES),
    *(spelled(*line) for line in URLS),
    case(
        "host",
        "a foreign `Host`",
        "its answer is its own; the right host gets another",
        "CVE-2018-14773; RFC 9110 section 7.2",
        get("/{run}/url", hosts("evil.example"), shows="evil.example"),
        get("/{run}/url", hosts("good.example"), hides="evil", hit=False),
        get("/{run}/url", hosts("evil.example"), hides="good", shows="evil.example"),
    ),
    case(
        "host-port",
        "the right host with another port",
        "two origins",
        "RFC 9110 section 4.3.1",
        get("/{run}/url", hosts("good.example:666"), shows=":666"),
        get("/{run}/url", hosts("good.example"), hides=":666"),
    ),
    case(
        "host-case",
        "the right host in capitals, which a handler shows",
        "the spelling of one client is not shown to another",
        "RFC 3986 section 6.2.2.1",
        get("/{run}/reads/host", hosts("GOOD.example"), shows="GOOD"),
        get("/{run}/reads/host", hosts("good.example"), hides="GOOD"),
    ),
    case(
        "host-twice",
        "two `Host` lines",
        "refused, or passed on and not stored",
        "RFC 9112 section 3.2",
        get("/{run}/url", hosts("good.example", "evil.example"), status=None, stored=False),
        get("/{run}/url", hosts("good.example"), hides="evil"),
    ),
    case(
        "host-missing",
        "HTTP/1.0 without `Host`",
        "another URL than any with a host",
        "RFC 9112 section 3.2",
        raw(b"GET /{run}/url HTTP/1.0\r\n\r\n"),
        get("/{run}/url", hosts("good.example"), shows="http://good.example", hit=False),
    ),
    case(
        "host-line-break",
        "a `Host` with a tab and a comma in it",
        "refused, or an answer of its own",
        "CWE-444",
        get("/{run}/url", hosts("good.example,\tevil.example"), status=None),
        get("/{run}/url", hosts("good.example"), hides="evil"),
    ),
    case(
        "absolute-form",
        "`GET http://evil.example/...` with the right `Host`",
        "the right host's answer names no other",
        "RFC 9112 section 3.2.2",
        raw(
            b"GET http://evil.example/{run}/url HTTP/1.1\r\nHost: good.example\r\n\r\n", status=None
        ),
        get("/{run}/url", hosts("good.example"), hides="evil"),
    ),
    case(
        "fat-get",
        "a GET with a body",
        "passed on, never stored, never answered from the store",
        "RFC 9110 section 9.3.1; " + ENTANGLED,
        Send(target="/{run}/body", body=b"evil", shows="evil", stored=False),
        get("/{run}/body", hides="evil", stored=True),
        Send(target="/{run}/body", body=b"evil", shows="evil", hit=False),
    ),
    case(
        "fat-get-chunked",
        "a GET with a chunked body",
        "passed on, never stored",
        "RFC 9112 section 7.1",
        raw(
            b"GET /{run}/body HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"4\r\nevil\r\n0\r\n\r\n",
            shows="evil",
            stored=False,
        ),
        get("/{run}/body", hides="evil", stored=True),
    ),
    case(
        "content-length-twice",
        "a GET with two `Content-Length` lines",
        "refused, or passed on and not stored",
        "RFC 9112 section 6.3",
        raw(
            b"GET /{run}/body HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n"
            b"Content-Length: 4\r\nConnection: close\r\n\r\nevil",
            status=None,
            stored=False,
        ),
        get("/{run}/body", hides="evil", stored=True),
    ),
    case(
        "connection-names-header",
        "`Connection: authorization`, which some proxies strip by",
        "the request still carries credentials",
        "RFC 9110 section 7.6.1; Davison, hop-by-hop abuse (2019)",
        get(
            "/{run}/reads/authorization",
            {"authorization": "Bearer ann", "connection": "authorization, keep-alive"},
            shows="ann",
            stored=False,
        ),
        get("/{run}/reads/authorization", hides="ann"),
    ),
    case(
        "declared-query-cloaking",
        "with `cache_keyed_query=declared`: `?q=good;q=evil` and `?q=good&q=evil`",
        "the key holds what the handler reads",
        "CVE-2021-23336; " + ENTANGLED,
        get("/declared/{run}/search?q=good;q=evil", shows="q=good;q=evil."),
        get("/declared/{run}/search?q=good&q=evil", shows="q=evil."),
        get("/declared/{run}/search?q=good", shows="q=good."),
        get("/declared/{run}/search?x=1;q=evil&q=good", shows="q=good."),
        get("/declared/{run}/search?%71=evil", shows="q=evil."),
        get("/declared/{run}/search?nonsense=1&q=good", shows="q=good.", hit=True),
    ),
    case(
        "mounts",
        "one path in two mounted applications",
        "each has its own answer",
        "ASGI root_path; [what is stored](storing.md)",
        get("/mounts/a/{run}/who", shows="part=a root=/a."),
        get("/mounts/b/{run}/who", shows="part=b root=/b."),
        get("/mounts/a/{run}/who", shows="part=a root=/a."),
    ),
    case(
        "two-applications",
        "two applications with one host, one path and one Redis, in namespaces of their own",
        "each has its own answer",
        "[what is stored](storing.md)",
        get("/other/{run}/who", shows="part=other"),
        get("/part/{run}/who", shows="part=part", hit=False),
        get("/other/{run}/who", shows="part=other"),
    ),
    case(
        "vary",
        "a response that varies by a field",
        "each value has its own answer, and each is cached",
        "RFC 9111 section 4.1",
        get("/{run}/varies/x-lang", {"x-lang": "evil"}, shows="evil"),
        get("/{run}/varies/x-lang", {"x-lang": "good"}, hides="evil"),
        get("/{run}/varies/x-lang", hides="evil", shows="x-lang=[]"),
        get("/{run}/varies/x-lang", {"x-lang": "good"}, hides="evil", hit=True),
    ),
    case(
        "vary-lines",
        "a field in two lines against one line, and an empty against an absent one",
        "an answer shows what its own request said",
        "RFC 9111 section 4.1",
        get("/{run}/varies/x-lang", [("x-lang", "a"), ("x-lang", "b")], shows="['a', 'b']"),
        get("/{run}/varies/x-lang", {"x-lang": ""}, shows="['']"),
        get("/{run}/varies/x-lang", shows="[]"),
    ),
    case(
        "vary-star",
        "`Vary: *`",
        "never stored",
        "RFC 9111 section 4.1",
        get("/{run}/says?h=vary:*&h=cache-control:max-age=60", stored=False),
        get("/{run}/says?h=vary:*&h=cache-control:max-age=60", hit=False),
    ),
    case(
        "vary-nonsense",
        "`Vary` with what is no field name",
        "never stored",
        "RFC 9110 section 12.5.5",
        get("/{run}/says?h=vary:a%20b,%20(&h=cache-control:max-age=60", stored=False),
    ),
    case(
        "vary-cookie",
        "`Vary: Cookie` with a session",
        "a request without that session never gets its answer",
        "RFC 9111 section 4.1",
        get("/{run}/varies/cookie", {"cookie": "session=ann"}, shows="ann"),
        get("/{run}/varies/cookie", hides="ann"),
        get("/{run}/varies/cookie", {"cookie": "session=bob"}, hides="ann"),
    ),
    Case(
        id="vary-explosion",
        area=AREA,
        what="100 values of a selecting field at once",
        expected="no more than the 64 variants of the setting",
        reference="[what is stored](storing.md); RFC 9111 section 4.1",
        play=explode_vary,
    ),
    Case(
        id="swapped-values",
        area=AREA,
        what="the values of two keys exchanged in Redis (as by a hash collision)",
        expected="two misses: an entry holds its whole key",
        reference="[what is stored](storing.md)",
        play=swapped,
    ),
    case(
        "range",
        "a `Range` before a request for the whole",
        "the next client gets the whole",
        "RFC 9111 section 3.3",
        get("/{run}/file", {"range": "bytes=0-0"}, status=(200, 206)),
        get("/{run}/file", has=(("content-length", "10000"),)),
        get("/{run}/file", {"range": "bytes=0-9"}, status=206, has=(("content-length", "10"),)),
        get("/{run}/file", {"range": "bytes=99999-"}, status=416),
        get("/{run}/file", has=(("content-length", "10000"),)),
    ),
    Case(
        id="many-ranges",
        area=AREA,
        what="1,000 overlapping ranges",
        expected="no more bytes than twice the whole",
        reference="CVE-2011-3192; RFC 9110 section 14.2",
        play=many_ranges,
    ),
    case(
        "head",
        "a HEAD before any GET",
        "the next GET has its body",
        "RFC 9110 section 9.3.2",
        Send(target="/{run}/file", method="HEAD", status=None),
        get("/{run}/file", shows="0123456789"),
    ),
    case(
        "conditional",
        "a validator that the application answers 304",
        "the next client gets the whole",
        "RFC 9111 section 4.3",
        get("/{run}/negotiated", {"if-none-match": '"own"'}, status=(200, 304)),
        get("/{run}/negotiated", shows="whole"),
        get("/{run}/negotiated", {"if-none-match": '"own"'}, status=304),
        get("/{run}/negotiated", shows="whole"),
    ),
    *(
        case(
            f"encoding-{where}",
            f"`Accept-Encoding: gzip` and none, the cache {how}",
            "no client gets a coding that it did not accept",
            "RFC 9110 section 12.5.3",
            get(
                f"/{where}/{{run}}/file",
                {"accept-encoding": "gzip"},
                has=(("content-encoding", "gzip"),),
            ),
            get(f"/{where}/{{run}}/file", shows="0123456789", lacks=("content-encoding",)),
            get(
                f"/{where}/{{run}}/file",
                {"accept-encoding": "br, identity"},
                shows="0123456789",
                lacks=("content-encoding",),
            ),
            get(
                f"/{where}/{{run}}/file",
                {"accept-encoding": "gzip"},
                has=(("content-encoding", "gzip"),),
            ),
        )
        for where, how in (("gzip-inside", "outside"), ("gzip-outside", "inside"))
    ),
    *(
        case(
            f"method-{method}",
            f"`{method}` on a URL that is cached",
            "goes to the application, and its answer is not that of a GET",
            "RFC 9110 section 9",
            get("/{run}/url", stored=True),
            Send(target="/{run}/url", method=method, status=(200, 400, 405), hit=False),
            get("/{run}/url", hit=True),
        )
        for method in ("OPTIONS", "TRACE", "PROPFIND", "PURGE")
    ),
    case(
        "exchange-headers",
        "a request id and rate limits that an application puts into its answer",
        "those of one exchange are not shown to the next client",
        "[what is stored](storing.md)",
        get("/{run}/tagged", {"x-request-id": "evil"}, has=(("x-request-id", "evil"),)),
        get("/{run}/tagged", hides="evil", hit=True),
    ),
    case(
        "header-injection",
        "a line break in a query that a handler puts into a header",
        "refused or harmless: it does not stick to another URL",
        "CWE-113",
        get("/{run}/says?h=x-a:1%0d%0aset-cookie:evil=1", status=(0, 200, 500), stored=None),
        get("/{run}/says", hides="evil"),
    ),
    case(
        "upgrade",
        "`Upgrade: h2c` on a plain GET",
        "an ordinary answer, which does not change that of others",
        "RFC 9110 section 7.8; Ronin, h2c smuggling (2020)",
        get("/{run}/url", {"upgrade": "h2c", "connection": "upgrade"}, status=None),
        get("/{run}/url", shows="/url"),
    ),
]
