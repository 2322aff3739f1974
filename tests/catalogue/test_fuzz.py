"""Random requests: the cache answers what the application without a cache answers.

Hypothesis prints how to reproduce a failure; `HYPOTHESIS_PROFILE=long` plays more of them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.catalogue.bench import PATIENT, SETUPS, Bench, started
from tests.support import raw_http
from tests.support.raw_http import RawResponse
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker, Workers

ON_A_SERVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

paths = st.text(
    st.sampled_from("abAB01/.;:=?&#%+~_-!$'()*,@|\\\"<>^`{}[] \t\x7f\xe9\xff"), max_size=30
).map(lambda text: text.replace(" ", "%20").replace("#", "%23"))
"""What may follow a path, spelled as no browser would; a blank would end the request line."""
names = st.sampled_from([
    "accept", "accept-encoding", "accept-language", "authorization", "cache-control", "cookie",
    "content-length", "content-type", "expect", "forwarded", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "origin", "pragma",
    "range", "te", "transfer-encoding", "upgrade", "via", "x-api-key", "x-forwarded-host",
    "x-forwarded-proto", "x-http-method-override", "x-original-url", "x-rewrite-url",
])  # fmt: skip
values = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    st.sampled_from([
        "0", "-1", "4", "bytes=0-3", "bytes=-1", "bytes=5-1", "no-cache", "no-store", "*",
        "max-age=0", 'W/"a", "b"', "gzip", "chunked", "identity;q=0",
        "Thu, 01 Jan 1970 00:00:00 GMT", "only-if-cached", "min-fresh=1, max-stale", "a=b; c",
        "100-continue", "DELETE", "trailers",
    ]),
)  # fmt: skip
headers = st.lists(st.tuples(names, values), max_size=4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One node with the applications of the catalogue, with a cache and without."""
    with started(SETUPS[0], tmp_path_factory.mktemp("fuzz")) as made:
        yield made


def shown(answer: RawResponse) -> tuple[int, bytes]:
    """What must be the same: the number of the answer and the name of the site may differ."""
    return answer.status, answer.body.partition(b"\nnumber=")[0]


def promised(lines: list[tuple[str, bytes]]) -> bytes:
    """The body that the header lines announce: a server waits for it, with a cache or without."""
    if any(name == "transfer-encoding" and b"chunked" in value.lower() for name, value in lines):
        return b"0\r\n\r\n"
    lengths = [int(value) for name, value in lines if name == "content-length" and value.isdigit()]
    assume(max(lengths, default=0) <= 1_000_000)
    return b"x" * max(lengths, default=0)


@given(rest=paths, query=paths, lines=headers, page=st.sampled_from(["url/", "body?", "search?q="]))
@example(rest="", query="", lines=[("content-length", "1")], page="body?")
@example(rest="", query="", lines=[("transfer-encoding", "chunked")], page="body?")
@settings(max_examples=2_000 if LONG else 60, suppress_health_check=ON_A_SERVER)
def test_no_path_and_no_header_gets_another_answer_than_without_a_cache(
    bench: Bench, rest: str, query: str, lines: list[tuple[str, str]], page: str
) -> None:
    """Neither to the first client nor to the next."""
    if any(name == "cache-control" and "only-if-cached" in value for name, value in lines):
        return  # 504 is what it asks for
    target = f"/fuzz/{page}{rest}?{query}"
    wanted = [(name, value.encode("latin-1").strip()) for name, value in lines]
    body = promised(wanted)
    bare = bench.send(0, "GET", f"/bare{target}", wanted, body)
    for _ in range(2):
        answer = bench.send(0, "GET", f"/plain{target}", wanted, body)
        if answer.status in {206, 304, 412, 416} and bare.status == 200:
            continue  # the cache answers conditions and ranges, which this application ignores
        assert shown(answer) == shown(bare), (target, wanted, answer, bare)


# The reference application, by its own description

App = tuple[Worker, Worker]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application with a cache and without one, on one database."""
    folder: Path = tmp_path_factory.mktemp("served")
    workers = Workers(folder)
    with RedisServer.start() as server:
        common = {"DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'app.db'}", **PATIENT}
        common |= {"REDIS_URL": server.url}
        try:
            cached = workers.start("app.main:app", env=common, timeout=60.0)
            without = workers.start("app.main:app", env=common | {"USE_REDIS_CACHE": "false"})
            yield cached, without
        finally:
            workers.close()


@pytest.fixture(scope="module")
def described(served: App) -> Any:
    """The application's OpenAPI."""
    return schemathesis.openapi.from_url(f"{served[0].url}/api/v1/openapi.json")


def test_the_application_keeps_what_its_description_says(described: Any, served: App) -> None:
    """No server error on any request that its OpenAPI allows; a hit is what the database says."""
    cached, without = served
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) >= 5

    @given(case=st.one_of(operation.as_strategy() for operation in operations))
    @settings(max_examples=2_000 if LONG else 80, suppress_health_check=ON_A_SERVER)
    def play(case: schemathesis.Case) -> None:
        answer = case.call(base_url=cached.url)
        assert answer.status_code < 500, answer.text
        if case.method.upper() == "GET" and "health" not in case.path:
            again, fresh = case.call(base_url=cached.url), case.call(base_url=without.url)
            assert (again.status_code, again.content) == (fresh.status_code, fresh.content)

    play()


def test_the_fuzz_would_see_another_answer(bench: Bench) -> None:
    """The comparison above can fail."""
    one, other = (raw_http.get(bench.node(0).port, f"/plain/fuzz/url/{n}") for n in "ab")
    assert shown(one) != shown(other)
