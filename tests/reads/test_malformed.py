"""Whatever the bytes: no error of ours, and nothing is reused that must not be.

Requests and responses are drawn from what is valid, what is nearly valid and what is noise. The
oracle is naive on purpose: it knows nothing of the rules but a few prohibitions that hold whatever
else a message says. Hypothesis prints the seed of a failure; HYPOTHESIS_PROFILE=long looks longer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from tests.support.asgi import Receive, Recorded, Scope, Send, call
from tests.support.caching import background_done, piece
from tests.support.clock import ManualClock

Lines = list[tuple[bytes, bytes]]

NOISE = st.binary(max_size=12).map(lambda text: text.translate(None, b"\r\n\0"))
DIRECTIVES = st.sampled_from(
    [
        b"max-age=60", b"max-age=0", b"max-age", b"max-age=-1", b'max-age="60"', b"max-age=1.5",
        b"max-age = 60", b"max-age=99999999999999999999", b"MAX-AGE=60", b"s-maxage=60", b"public",
        b"private", b"no-store", b"No-Store", b"no-cache", b'private="x-a"', b'no-cache="x-a"',
        b'"', b'"no-store', b"no-store=1", b"must-revalidate", b"must-understand", b"immutable",
        b"stale-while-revalidate=60", b"stale-if-error=x", b"proxy-revalidate", b"=", b"=1", b";",
        b"only-if-cached", b"min-fresh=1", b"max-stale", b"max-stale=9", b"\xff=\xfe", b"\\",
    ]
)  # fmt: skip
CONTROL = st.lists(DIRECTIVES | NOISE, max_size=4).map(b" ,".join)
DATES = st.sampled_from(
    [
        b"Tue, 14 Nov 2023 22:13:20 GMT", b"Tuesday, 14-Nov-23 22:13:20 GMT", b"0", b"-1", b"",
        b"Tue Nov 14 22:13:20 2023", b"Fri, 31 Dec 9999 23:59:60 GMT", b"Tue, 99 Nov 2023",
    ]
)  # fmt: skip
TAGS = st.sampled_from([b'"a"', b'W/"a"', b"*", b"a", b'"', b'"a", "b"', b"W/", b'w/"a"'])
NUMBERS = st.sampled_from([b"0", b"5", b"-1", b"1 2", b"5, 5", b"x", b"9" * 30, b"+5", b"0x5", b""])
RANGES = st.sampled_from(
    [b"bytes=0-1", b"bytes=-", b"bytes=9-", b"bytes=1-0", b"bytes=0-,0-,0-", b"bytes", b"=0-1"]
)
NAMES = st.sampled_from([b"accept", b"*", b"Accept , *", b"", b"accept,,cookie", b"a b", b"\xff"])


def some(*fields: tuple[bytes, st.SearchStrategy[bytes]]) -> st.SearchStrategy[Lines]:
    """Lines of these fields in any order and number, each value from its strategy or noise."""
    line = st.one_of([st.tuples(st.just(name), values | NOISE) for name, values in fields])
    return st.just([]) | st.lists(line, max_size=2) | st.lists(line, max_size=6)


def joined(parts: tuple[Lines, ...]) -> Lines:
    """The lines of all parts."""
    return [line for part in parts for line in part]


REQUESTS = some(
    (b"cache-control", CONTROL), (b"pragma", CONTROL), (b"if-none-match", TAGS),
    (b"if-modified-since", DATES), (b"if-match", TAGS), (b"if-range", TAGS | DATES),
    (b"range", RANGES), (b"authorization", NOISE), (b"cookie", NOISE), (b"accept", NOISE),
    (b"accept-encoding", CONTROL), (b"accept-language", CONTROL), (b"content-length", NUMBERS),
    (b"transfer-encoding", NOISE), (b"host", NOISE), (b"x-forwarded-proto", NOISE),
)  # fmt: skip
RESPONSES = some(
    (b"cache-control", CONTROL), (b"Cache-Control", CONTROL), (b"cdn-cache-control", CONTROL),
    (b"maxage-cache-control", CONTROL), (b"expires", DATES), (b"date", DATES), (b"age", NUMBERS),
    (b"last-modified", DATES), (b"etag", TAGS), (b"vary", NAMES), (b"connection", NAMES),
    (b"content-length", NUMBERS), (b"content-type", NOISE), (b"content-range", RANGES),
    (b"set-cookie", NOISE), (b"cache-tag", CONTROL), (b"surrogate-key", CONTROL),
    (b"cache-groups", CONTROL), (b"cache-group-invalidation", CONTROL), (b"location", NOISE),
    (b"content-location", NOISE), (b"cache-status", NOISE), (b"pragma", CONTROL),
    (b"content-encoding", NOISE), (b"transfer-encoding", NOISE), (b"no-vary-search", CONTROL),
)  # fmt: skip


FRESH = st.sampled_from([[], [(b"cache-control", b"max-age=600")]])
"""What makes most of the responses storable, so that there is something to be reused wrongly."""

FORBIDDEN = st.sampled_from(
    [
        [],
        [(b"cache-control", b"No-Store")],
        [(b"cache-control", b",private ,")],
        [(b"set-cookie", b"a=b")],
        [(b"vary", b"accept, *")],
        [(b"vary", b"Accept")],
    ]
)
PERSONAL = st.sampled_from(
    [[], [], [], [(b"authorization", b"x")], [(b"cache-control", b"x, NO-STORE")]]
)


@dataclass(slots=True)
class Step:
    """One request, and what the application answers if it is asked."""

    method: str
    target: bytes
    asked: Lines
    status: int
    said: Lines
    chunks: list[bytes]
    ends: bool
    later: float
    sent: bool = field(default=False, init=False)


STEPS = st.builds(
    Step,
    method=st.sampled_from([*["GET"] * 12, "HEAD", "POST", "QUERY", "BREW", "OPTIONS"]),
    target=st.sampled_from([*[b"/a"] * 8, b"/a?x=1", b"/a/%2e%2e/\xff?%zz", b"*", b"/%00"]),
    asked=st.tuples(PERSONAL, REQUESTS).map(joined),
    status=st.sampled_from([*[200] * 12, 203, 204, 206, 301, 304, 404, 412, 416, 500, 503, 299]),
    said=st.tuples(FRESH, FORBIDDEN, RESPONSES).map(joined),
    chunks=st.lists(st.sampled_from([b"", b"abcde", b"\xff" * 9]), max_size=3),
    ends=st.sampled_from([*[True] * 7, False]),
    later=st.sampled_from([0.0, 0.0, 0.0, 1.0, 61.0, 1e6]),
)


class Played:
    """An application that answers each step as it says, each with a number of its own."""

    def __init__(self) -> None:
        self.step: Step | None = None
        self.number = 0
        self.made: dict[bytes, Step] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the step."""
        step = self.step
        assert step is not None
        self.number += 1
        mark = b"%d" % self.number
        self.made[mark] = step
        step.sent = True
        headers = [*step.said, (b"x-number", mark)]
        await send({"type": "http.response.start", "status": step.status, "headers": headers})
        for chunk in step.chunks:
            await send(piece(chunk, more=True))
        if step.ends:
            await send({"type": "http.response.body"})


def members(lines: Lines, name: bytes) -> set[bytes]:
    """What a naive reader sees in a list field without quotes; nothing where there are some."""
    text = b",".join(value for key, value in lines if key.lower() == name)
    return set() if b'"' in text else {part.strip(b" \t").lower() for part in text.split(b",")}


def has(lines: Lines, *names: bytes) -> bool:
    """Whether a line of one of these names is there."""
    return any(key.lower() in names for key, _ in lines)


def never_reused(step: Step) -> str | None:
    """Why the response of this step must not answer any other request, whatever else it says."""
    directives = members(step.said, b"cache-control")
    targeted = has(step.said, b"cdn-cache-control", b"maxage-cache-control")
    shared = directives & {b"public", b"must-revalidate"} or any(
        directive.startswith(b"s-maxage") for directive in directives
    )
    reasons: dict[str, Callable[[], object]] = {
        "method": lambda: step.method not in {"GET", "QUERY"},
        "status": lambda: step.status in {206, 304, 412, 416, 500, 503},
        "cut": lambda: not step.ends,
        "no-store": lambda: (
            not targeted and b"no-store" in directives and b"must-understand" not in directives
        ),
        "private": lambda: not targeted and b"private" in directives,
        "cookie": lambda: has(step.said, b"set-cookie"),
        "vary": lambda: b"*" in members(step.said, b"vary"),
        "request": lambda: b"no-store" in members(step.asked, b"cache-control"),
        "credentials": lambda: has(step.asked, b"authorization") and not targeted and not shared,
        # The content of a QUERY is a part of its key.
        "body": lambda: step.method != "QUERY" and has(step.asked, b"transfer-encoding"),
    }
    return next((name for name, holds in reasons.items() if holds()), None)


def check(app: Played, step: Step, answer: Recorded, allowed: frozenset[str]) -> None:
    """What holds of every answer; `allowed` are prohibitions that the settings lift."""
    assert answer.exception is None
    # What the application said now or before, and what a cache makes of a stored response.
    said = {made.status for made in app.made.values()}
    assert answer.status in said | {200, 206, 304, 416, 504}
    number = answer.header("x-number")
    if number is None:
        assert answer.status == 504
        return
    made = app.made[number]
    if made is step:
        return
    assert step.method in {"GET", "HEAD", "QUERY"}
    assert (step.method == "QUERY") is (made.method == "QUERY")
    assert made.target == step.target or has(made.said, b"no-vary-search")
    assert never_reused(made) in {None, *allowed}
    if b"accept" in members(made.said, b"vary"):
        assert members(made.asked, b"accept") == members(step.asked, b"accept")


async def play(
    steps: list[Step], settings: CacheSettings, allowed: frozenset[str] = frozenset()
) -> None:
    """Send the requests one after the other and check every answer."""
    app, clock = Played(), ManualClock()
    middleware = CacheMiddleware(app, settings, store=MemoryStore())
    assert middleware.cache is not None
    middleware.cache.clock, middleware.cache.monotonic = clock, clock.monotonic
    for step in steps:
        app.step = step
        answer = await call(
            middleware, step.method, headers=step.asked, target=step.target, raises=False
        )
        check(app, step, answer, allowed)
        await background_done(middleware)
        clock.advance(step.later)
    await middleware.aclose()


PLAYS = given(steps=st.lists(STEPS, min_size=2, max_size=6))

MORE = {
    "cache_heuristic_fraction": 0.1,
    "cache_stale_while_revalidate": 3600,
    "cache_stale_if_error": 3600,
    "cache_stale_if_slow": 1,
    "cache_early_refresh": 1,
    "cache_lifetime_jitter": 0.5,
    "cache_downstream_cache_control": "max-age=5",
    "cache_status_key": True,
    "cache_keyed_query": "declared",
}
LIFTED = frozenset({"cookie", "status", "method"})
"""What the preset stores: Set-Cookie, 206 and 5xx with explicit freshness, answers to POST."""


@PLAYS
def test_malformed_messages_make_no_error_and_no_wrong_reuse(steps: list[Step]) -> None:
    """With the defaults."""
    asyncio.run(play(steps, CacheSettings()))


@PLAYS
def test_the_same_with_every_way_to_serve_more(steps: list[Step]) -> None:
    """Stale responses, heuristics, early refresh, what goes downstream, and the key in the open."""
    asyncio.run(play(steps, CacheSettings(**MORE)))


@PLAYS
def test_the_same_with_all_that_the_standards_allow(steps: list[Step]) -> None:
    """Parts, answers to POST and QUERY, variants by language, cookies and errors."""
    preset = CacheSettings.standards(**(MORE | {"cache_expiration": 60}))
    asyncio.run(play(steps, preset, LIFTED))
