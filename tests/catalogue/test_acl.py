"""The user that docs/security.md gives Redis may do what the cache does, and no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalogue.bench import PATIENT, SETUPS, Bench
from tests.catalogue.faults import wait_for_hits
from tests.support.documents import blocks
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.workers import UNCONFIRMED, Workers


def rule() -> list[str]:
    """The line of the page: `user cache on >password ...`."""
    (line,) = [
        one.text for one in blocks("docs/security.md", "text") if one.text.startswith("user ")
    ]
    return line.split()


@pytest.fixture(scope="module")
def as_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two nodes that log in as that user, and keep responses themselves too."""
    folder: Path = tmp_path_factory.mktemp("acl")
    (folder / "rows").mkdir()
    workers = Workers(folder)
    setup = SETUPS[-1]
    with RedisServer.start() as server, FaultProxy(server.port) as proxy:
        _, name, *rights = rule()
        server.call("ACL", "SETUSER", name, *rights)
        (password,) = [right[1:] for right in rights if right.startswith(">")]
        known = {"REDIS_URL": f"redis://{name}:{password}@127.0.0.1:{proxy.port}/0"}
        known |= {"ORIGIN_ROWS": str(folder / "rows"), **setup.settings, **PATIENT}
        try:
            nodes = workers.start_many(2, "tests.catalogue.origin:site", env=known)
            yield Bench(
                nodes=nodes,
                server=server,
                proxy=proxy,
                setup=setup.name,
                faults=folder / "faults",
                env=known,
                near=True,
            )
        finally:
            workers.close()


def test_the_user_may_do_all_that_the_cache_does(as_user: Bench) -> None:
    """Fills, hits, variants, typed values, purges, leases, and listening for purges."""
    bench = as_user.another_run()
    for value in ("1", "2"):
        assert bench.send(0, "PUT", f"/{{run}}/row?value={value}").status == 200
        wait_for_hits(bench, value)
    for _ in range(2):
        for lang in ("de", "en"):
            varied = bench.get("/{run}/varies/x-lang", {"x-lang": lang})
            assert varied.status == 200
        typed = bench.get("/{run}/item")
        assert b"item=7." in typed.body
        bench.settle()
    for answer in (varied, typed):
        assert b"; hit" in (answer.header("cache-status") or b""), answer
    denied = bench.server.call("ACL", "LOG")
    assert denied == []
    (password,) = [right[1:] for right in rule() if right.startswith(">")]
    for node in bench.nodes:
        assert password not in node.log()
        assert "Redis unavailable" not in node.log()
        assert UNCONFIRMED not in node.log()
        assert "hides its replication ID" not in node.log()


def test_the_user_may_do_no_more(as_user: Bench) -> None:
    """Neither other commands nor other keys."""
    _, name, *rights = rule()
    (password,) = [right[1:] for right in rights if right.startswith(">")]
    for words in (("KEYS", "*"), ("FLUSHALL",), ("EVAL", "return 1", "0"), ("CONFIG", "GET", "*")):
        with as_user.server.client() as client:
            client.call("AUTH", name, password)
            with pytest.raises(Exception, match="NOPERM"):
                client.call(*words)
    with as_user.server.client() as client:
        client.call("AUTH", name, password)
        with pytest.raises(Exception, match="NOPERM"):
            client.call("SET", "session:1", "x")
