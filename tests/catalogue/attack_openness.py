"""Openness: what a stranger can reach, and what a stranger's words can do."""

import pytest

from maxage.errors import SettingsError
from maxage.fastapi import purge_router
from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Send, get, script
from tests.support.raw_http import HeaderInput

AREA = "Openness"
COMMANDS = frozenset({
    "AUTH", "CLIENT", "EXPIRE", "GET", "HDEL", "HELLO", "HGET", "HGETALL", "HSET", "INFO", "LRANGE",
    "LREM", "MGET", "PING", "PTTL", "RPUSH", "SELECT", "SET", "SETRANGE", "TIME", "UNLINK", "WAIT",
})  # fmt: skip
"""All commands that the library sends; docs/security.md gives an ACL of exactly these."""
ONE_DAY = 86_400
PURGE_TOKEN = "the-token-of-the-catalogue"
EVERYTHING = b'{"everything": true}'
JSON = {"content-type": "application/json"}


def case(name: str, what: str, expected: str, reference: str, *steps: Send) -> Case:
    """A case that is nothing but requests."""
    return Case(
        id=name, area=AREA, what=what, expected=expected, reference=reference, play=script(*steps)
    )


def forbidden(headers: HeaderInput, method: str = "POST", status: int = 401) -> list[Send]:
    """A purge that must come to nothing."""
    return [
        get("/{run}/url", stored=True),
        Send(target="/{run}/ops/purge", method=method, headers=headers, body=EVERYTHING,
             status=status),
        get("/{run}/url", hit=True),
    ]  # fmt: skip


def unguarded(bench: Bench) -> None:
    """Try to make the route without a guard."""
    for guards in ({}, {"token": ""}, {"token": "short"}, {"dependencies": []}):
        with pytest.raises(SettingsError, match=r"purge_router\(\) got"):
            purge_router(**guards)


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
            f"`{method} {target}` where no route was mounted",
            "there is no such route, and nothing is purged",
            "[openness](security.md#openness); CWE-306",
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
    Case(
        id="purge-unguarded",
        area=AREA,
        what="`purge_router()` without a token or a dependency, or with an empty or short token",
        expected="refused when the application starts; the error says how to add one",
        reference="[openness](security.md#openness); CWE-306",
        play=unguarded,
    ),
    case(
        "purge-no-token",
        "a purge without the token",
        "401, and nothing is purged",
        "RFC 6750 section 3; CWE-306",
        *forbidden(JSON),
    ),
    case(
        "purge-wrong-token",
        "a purge with another token",
        "401, and nothing is purged",
        "RFC 6750 section 3.1; CWE-287",
        *forbidden({**JSON, "authorization": "Bearer guessed"}),
    ),
    case(
        "purge-part-of-token",
        "a purge with the beginning of the token",
        "401, compared in constant time, and nothing is purged",
        "CWE-208",
        *forbidden({**JSON, "authorization": f"Bearer {PURGE_TOKEN[:-1]}"}),
    ),
    case(
        "purge-by-link",
        "a GET of the route, with the token",
        "405, and nothing is purged",
        "CWE-352",
        *forbidden({"authorization": f"Bearer {PURGE_TOKEN}"}, "GET", 405),
    ),
    case(
        "purge-by-form",
        "a POST of the route as a form of another site sends it",
        "401, and nothing is purged",
        "CWE-352",
        *forbidden({"content-type": "text/plain", "origin": "https://evil.example"}),
    ),
    case(
        "purge-with-token",
        "a purge with the token",
        "no client gets what was stored before",
        "[the protocol](architecture.md#the-protocol)",
        get("/{run}/url", stored=True),
        get("/{run}/url", hit=True),
        Send(
            target="/{run}/ops/purge",
            method="POST",
            body=b'{"names": ["/{run}/url"]}',
            headers={**JSON, "authorization": f"Bearer {PURGE_TOKEN}"},
            shows="true",
            has=(("cache-control", "no-store"),),
        ),
        get("/{run}/url", hit=False),
    ),
    case(
        "reload-by-any-client",
        "`Cache-Control: no-cache` by any client, with `cache_obey_request_directives=false`",
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
        reference="[what is stored](security.md#what-is-stored)",
        play=nothing_lives_for_ever,
    ),
]
