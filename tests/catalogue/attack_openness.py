"""Openness: what a stranger can reach, and what his words can do."""

from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Send, get, script

AREA = "Openness"
COMMANDS = frozenset({
    "AUTH", "CLIENT", "EXPIRE", "GET", "HDEL", "HELLO", "HGETALL", "HSET", "INFO", "MGET", "PING",
    "PTTL", "SELECT", "SET", "SETRANGE", "TIME", "UNLINK", "WAIT",
})  # fmt: skip
"""All commands that the library sends; docs/security.md gives an ACL of exactly these."""
ONE_DAY = 86_400


def case(name: str, what: str, expected: str, reference: str, *steps: Send) -> Case:
    """A case that is nothing but requests."""
    return Case(
        id=name, area=AREA, what=what, expected=expected, reference=reference, play=script(*steps)
    )


def log_injection(bench: Bench) -> None:
    """Send line breaks in every place that could be logged, and make the cache log."""
    for number in range(len(bench.nodes)):
        for target in ("/{run}/url/%0aINJECTED%0d%0aINJECTED", "/{run}/url?a=%0aINJECTED"):
            bench.get(target, node=number)
            bench.get(target, {"authorization": "a INJECTED"}, node=number)
        bench.send(number, "PUT", "/{run}/row%0aINJECTED")
    bench.proxy.error("ERR \x1b[31mINJECTED", commands=["SET"], times=2)
    bench.get("/{run}/url/logged")
    bench.settle()
    bench.proxy.pass_through()
    for node in bench.nodes:
        lines = node.log().splitlines()
        assert not [line for line in lines if line.startswith("INJECTED")], node.log()
        assert "\x1b[31m" not in node.log()


def only_known_commands(bench: Bench) -> None:
    """Do all that the cache can do, and look at what Redis was sent."""
    bench.get("/{run}/url")
    bench.get("/{run}/varies/x-lang", {"x-lang": "a"})
    bench.get("/{run}/item")
    bench.send(0, "PUT", "/{run}/row?value=1")
    bench.settle()
    unknown = set(bench.proxy.seen) - COMMANDS
    assert not unknown, unknown


def nothing_lives_for_ever(bench: Bench) -> None:
    """Every key of ours has an end, within a day where the response does not say more."""
    bench.get("/{run}/url")
    bench.get("/{run}/varies/x-lang", {"x-lang": "a"})
    bench.get('/{run}/says?h=etag:"a"&h=last-modified:Mon,%2023%20Nov%202026%2011:05:17%20GMT')
    bench.get("/{run}/item")
    bench.settle()
    for key in bench.server.call("KEYS", f"*{bench.run}*"):
        left = bench.server.call("TTL", key)
        assert 0 < left <= ONE_DAY, (key, left)


CASES: list[Case] = [
    *(
        case(
            f"no-route-{number}",
            f"`{method} {target}` on an application that mounted nothing",
            "there is no such route, and nothing is purged",
            "design section 4; CWE-306",
            get("/{run}/url", stored=True),
            Send(target=target, method=method, status=(400, 404, 405)),
            get("/{run}/url", hit=True),
        )
        for number, (method, target) in enumerate(
            [
                ("GET", "/cache"),
                ("GET", "/admin"),
                ("POST", "/_cache/purge"),
                ("DELETE", "/cache"),
                ("POST", "/purge"),
                ("PURGE", "/{run}/url"),
                ("BAN", "/{run}/url"),
                ("DELETE", "/{run}/url"),
                ("POST", "/{run}/url"),
            ]
        )
    ),
    case(
        "reload-by-anybody",
        "`Cache-Control: no-cache` by anybody, with `obey_request_directives=false`",
        "has no effect",
        "RFC 9111 section 5.2.1.4",
        get("/deaf/{run}/url", stored=True),
        get("/deaf/{run}/url", {"cache-control": "no-cache, no-store, max-age=0"}, hit=True),
        get("/deaf/{run}/url", {"pragma": "no-cache"}, hit=True),
    ),
    case(
        "key-in-header",
        "quotes, backslashes and control characters in a URL whose key Cache-Status shows",
        "a well-formed header field",
        "RFC 8941 section 3.3.3; CWE-113",
        get('/status-key/{run}/url/%22\\"%0a', status=(200, 400)),
        get('/status-key/{run}/url/%22\\"%0a', status=(200, 400), hides="\n\n"),
    ),
    case(
        "health-tells-nothing",
        "the health endpoint",
        "names neither host nor password of Redis",
        "CWE-200",
        get("/{run}/health", status=(200, 404), hides="127.0.0.1"),
        get("/{run}/health", status=(200, 404), hides="redis://"),
    ),
    Case(
        id="log-injection",
        area=AREA,
        what="line breaks and terminal escapes in paths, queries and errors of Redis",
        expected="no log line begins with them",
        reference="CWE-117",
        play=log_injection,
    ),
    Case(
        id="known-commands",
        area=AREA,
        what="what is sent to Redis: reads, fills, variants, typed values, purges",
        expected="no KEYS, no SCAN, no script, nothing but the commands of the ACL",
        reference="docs/security.md; Redis, ACL",
        play=only_known_commands,
    ),
    Case(
        id="every-key-ends",
        area=AREA,
        what="keys that stay for ever",
        expected="each has an expiry of at most a day, unless its response says more",
        reference="design section 4",
        play=nothing_lives_for_ever,
    ),
]
