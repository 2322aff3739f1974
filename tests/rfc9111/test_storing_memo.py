"""A memoised verdict on a response is the same as a new one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.message import Headers, Request, Response
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.storing import may_store
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.verdicts import MayNotStore, MayStore
from tests.rfc9111.build import NOW, date, get, reply

LINES = [
    "Cache-Control: max-age=60", "cache-control: max-age=5, must-revalidate",
    "Cache-Control: no-store", "Cache-Control: private", 'Cache-Control: private="X-One"',
    'Cache-Control: no-cache="Set-Cookie", max-age=9', "Cache-Control: no-cache",
    "Cache-Control: public, s-maxage=30, stale-if-error=90", 'Cache-Control: max-age="7',
    "Maxage-Cache-Control: max-age=7", "CDN-Cache-Control: max-age=8", "CDN-Cache-Control: ?",
    "Vary: Accept-Encoding", "Vary: *", "Connection: X-One", "X-One: 1", "X-Two: 2", "x-two: 3",
    "Content-Length: 10", "Content-Length: 11", "ETag:", 'ETag: "a"', 'ETag: W/"b"',
    "Set-Cookie: a=b", "Pragma: no-cache", "Content-Type: text/event-stream",
    "Content-Type: text/html", "Access-Control-Allow-Origin: http://a", "Transfer-Encoding: x",
    f"Date: {date()}", f"Date: {date(-50)}", "Date: never", f"Expires: {date(70)}", "Expires: 0",
    f"Last-Modified: {date(-1000)}", "Age: 3",
]  # fmt: skip
REQUESTS = [
    get(), get("Accept-Encoding: gzip"), get("Cache-Control: no-store"), get(credentials=True),
    get("Cookie: a=b", credentials=True), get(method="QUERY"), get(method="HEAD"),
]  # fmt: skip
POLICIES = [
    Policy(), Policy(default_lifetime=300), Policy(stale_if_error=20, heuristic_fraction=0.1),
    Policy(append_date=False, store_set_cookie=True, exchange_fields=frozenset({b"x-two"})),
    Policy(cache_targets=(b"x-two",), default_lifetime=1, stale_while_revalidate=5),
]  # fmt: skip


def both(
    request: Request, response: Response, policy: Policy, delay: float
) -> tuple[MayStore | MayNotStore, MayStore | MayNotStore]:
    """Return the verdict of the memo, and the one without it."""
    arrival = Arrival(
        request=request, response=response, request_time=NOW - delay, response_time=NOW,
        policy=policy,
    )  # fmt: skip
    return memoised_may_store(arrival), may_store(arrival)


@given(
    st.sampled_from(REQUESTS),
    st.lists(st.sampled_from(LINES), max_size=6, unique=True),
    st.sampled_from([200, 200, 200, 204, 206, 301, 304, 404, 400, 500, 503]),
    st.sampled_from(POLICIES),
    st.sampled_from([0.0, 0.25, 6.0, 100.0]),
)
def test_the_verdict_is_that_on_the_response_alone(
    request: Request, texts: list[str], status: int, policy: Policy, delay: float
) -> None:
    said, alone = both(request, reply(*texts, status=status), policy, delay)
    if isinstance(alone, MayStore) and isinstance(said, MayStore):
        # What took longer than its lifetime may be kept for a little less than it could be.
        assert alone.keep_for - delay <= said.keep_for <= alone.keep_for
        said = replace(said, keep_for=alone.keep_for)
    assert said == alone or (alone_is_of_no_use(alone, delay) and isinstance(said, MayNotStore))


def alone_is_of_no_use(alone: MayStore | MayNotStore, delay: float) -> bool:
    """Return whether the response is of use for less time than it took to make it."""
    return isinstance(alone, MayStore) and alone.keep_for <= delay


@pytest.mark.parametrize("delay", [0.0, 0.25, 4.75])
def test_what_is_made_within_its_lifetime_is_kept_exactly_as_long_as_alone(delay: float) -> None:
    said, alone = both(get(), reply("Cache-Control: max-age=5"), Policy(), delay)
    assert said == alone
    assert isinstance(said, MayStore)


def test_what_differs_within_a_kind_is_kept_as_it_came() -> None:
    for value in (b"1", b"2"):
        raw = ((b"Content-Length", value), (b"etag", value), (b"X-Id", value))
        response = Response(status=200, headers=Headers(raw))
        said, _ = both(get(), response, Policy(default_lifetime=9), 0.0)
        assert isinstance(said, MayStore)
        assert said.stored.headers.raw[:3] == raw
