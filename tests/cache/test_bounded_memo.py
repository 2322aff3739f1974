"""What is remembered of URLs is bounded, whatever clients make up."""

import tracemalloc

import pytest

from maxage import CacheSettings
from maxage.cache.bounded_memo import BoundedMemo
from maxage.cache.target import Target
from maxage.cache.targets import Targets
from maxage.rfc9111.message import Headers
from tests.support.asgi import http_scope

MEBIBYTE = 1024 * 1024
HEADERS = Headers.copied([(b"host", b"shop.example")])


def targets() -> Targets:
    """Targets of an application that says nothing of its routes."""
    return Targets(CacheSettings(), (), None, instance=0)


def find(known: Targets, query: str, path: str = "/x") -> Target:
    """Ask for one URL."""
    return known.find(http_scope("GET", path, query=query), HEADERS)


@pytest.mark.parametrize("length", [40, 8000])
def test_urls_of_any_length_take_at_most_20_mebibytes(length: int) -> None:
    """A long one counts as several."""
    known = targets()
    for number in range(200):
        find(known, f"{number:0{length}}")
    tracemalloc.start()
    try:
        for number in range(6_000):
            find(known, f"{number}-{number:0{length}}")
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 20 * MEBIBYTE, grown


def test_urls_that_are_written_cost_no_more_memory_after_the_first_hundreds() -> None:
    """A process that sees few writes a second would grow for an hour otherwise."""
    known = targets()
    for number in range(600):
        known.touched(http_scope("PUT", f"/pages/{number}"), HEADERS)
    tracemalloc.start()
    try:
        for number in range(600, 2_600):
            known.touched(http_scope("PUT", f"/pages/{number}"), HEADERS)
        allocated, _ = tracemalloc.get_traced_memory()
        for number in range(2_600, 4_600):
            known.touched(http_scope("PUT", f"/pages/{number}"), HEADERS)
        later, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert later - allocated < MEBIBYTE / 8, later - allocated


def test_thousands_of_usual_urls_are_remembered() -> None:
    """The bound evicts entries that are not used again."""
    known = targets()
    first = find(known, "page=0")
    for number in range(1, 4_000):
        find(known, f"page={number}")
    assert find(known, "page=0") is first
    for number in range(200):
        find(known, f"more={number}")
    assert find(known, "page=0") is not first


def test_a_url_longer_than_the_bound_evicts_no_other() -> None:
    """It is found anew each time."""
    known = targets()
    find(known, "q" * 5_000_000)
    assert find(known, "page=1") is find(known, "page=1")


def test_clients_behind_a_proxy_share_what_is_remembered_of_a_url() -> None:
    """`for=` names the client; what applications build URLs from keeps requests apart."""
    known = targets()

    def asked(forwarded: bytes) -> Target:
        headers = Headers.copied([*HEADERS.raw, (b"forwarded", forwarded)])
        return known.find(http_scope("GET", "/x"), headers)

    assert asked(b"for=192.0.2.1;host=h") is asked(b"for=192.0.2.2;host=h")
    assert asked(b"for=192.0.2.1;host=h") is not asked(b"for=192.0.2.1;host=i")


@pytest.mark.parametrize("queries", [("", "a=1", "b=2"), ("a=1", "", "b=2"), ("a=1", "b=2", "")])
def test_all_queries_of_a_path_share_what_it_said_of_them(queries: tuple[str, ...]) -> None:
    """In whatever order they are asked for; another path knows nothing of it."""
    known = targets()
    first, second, third = (find(known, query) for query in queries)
    assert first.search is second.search is third.search
    assert find(known, "", path="/y").search is not first.search
    asked = known.find(http_scope("QUERY", "/x", query="a=1"), HEADERS)
    assert asked.search is not first.search


def test_a_key_that_is_remembered_again_takes_its_room_once() -> None:
    """Else the memo forgets more and more, until it holds nothing."""
    memo = BoundedMemo[int]()
    for n in range(10):
        assert memo.remember(("a",), n, most=3) == []
    assert memo.remember(("b",), 0, most=3) == []
    assert memo == {("a",): 9, ("b",): 0}
    memo.remember(("c",), 0, most=3)
    assert memo.remember(("d",), 0, most=3) == [(("a",), 9)]
