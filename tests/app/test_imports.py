"""Imports: batches in the background, over two workers that share a real Redis."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from app.database import Database
from app.imports import BATCH, run_import
from app.schemas import ImportedItem
from tests.app.test_items import SEEDED, served
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[httpx.Client]:
    """A client whose requests both workers get: each has a connection of its own."""
    settings = {
        "REDIS_URL": redis_server.url,
        "WEB_CONCURRENCY": "2",
        # A lookup or purge that a busy machine delays is not what is tested here.
        "CACHE_READ_BUDGET": "5",
        "CACHE_WRITE_BUDGET": "5",
    }
    with served(tmp_path_factory.mktemp("imports"), **settings) as client:
        client.headers["connection"] = "close"
        yield client


def begin(client: httpx.Client, items: list[dict[str, Any]]) -> str:
    """Send an import, and return where it tells how far it is."""
    answer = client.post("/imports", json={"items": items})
    assert answer.status_code == 202, answer.text
    assert answer.json()["total"] == len(items)
    return answer.headers["location"].removeprefix("/api/v1")


def finished(client: httpx.Client, location: str) -> dict[str, Any]:
    wait_until(
        lambda: told(client, location)["done"] == told(client, location)["total"],
        "done",
        timeout=60,
    )
    return told(client, location)


def told(client: httpx.Client, location: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(location).json()
    return answer


def test_no_list_is_older_than_the_batches_that_are_done(client: httpx.Client) -> None:
    """While the import runs, through both workers; what it calls done is in every read."""
    before = client.get("/items?limit=1").json()["total"]
    location = begin(client, [{"name": f"new {n}"} for n in range(12 * BATCH)])
    seen = set()
    deadline = time.monotonic() + 60
    while max(seen, default=0) < 12 * BATCH:
        assert time.monotonic() < deadline, seen
        done = told(client, location)["done"]
        for _ in range(3):
            assert client.get("/items?limit=1").json()["total"] >= before + done
        seen.add(done)
    assert client.get("/items?q=new+1199").json()["total"] == 1
    wait_until(lambda: hit(client, "/items?limit=1"), "the list is stored again")


def hit(client: httpx.Client, path: str) -> bool:
    return "maxage; hit" in client.get(path).headers["cache-status"]


def test_an_item_is_replaced_wherever_it_is_stored(client: httpx.Client) -> None:
    """The response, the list and the typed object; what no item has is counted, and not added."""
    paths = ["/items/5", "/items/batch?ids=5", "/items?limit=10"]
    for path in paths:
        wait_until(lambda path=path: hit(client, path), f"{path} is stored")
    location = begin(client, [{"id": 5, "name": "imported"}, {"id": 2**40, "name": "none"}])
    assert finished(client, location) == {
        "id": int(location.rpartition("/")[2]), "total": 2, "done": 2, "missing": 1,
    }  # fmt: skip
    for path in paths * 2:
        answer = client.get(path).json()
        five = next(one for one in answer.get("items", [answer]) if one["id"] == 5)
        assert (five["name"], five["description"]) == ("imported", "")
    assert client.get(f"/items/{2**40}").status_code == 404


@pytest.mark.parametrize(
    "items", [[], [{"name": ""}], [{"id": 0, "name": "n"}], [{"name": "n"}] * 10_001]
)
def test_what_cannot_be_imported_is_refused(
    client: httpx.Client, items: list[dict[str, Any]]
) -> None:
    """Before anything is written."""
    assert client.post("/imports", json={"items": items}).status_code == 422


def test_an_unknown_import_is_404(client: httpx.Client) -> None:
    """It names the id."""
    answer = client.get("/imports/12345")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no import 12345.")


def test_each_batch_purges_once(tmp_path: Path) -> None:
    """Its commit and its typed objects; its count is a commit too. The table is made if need be."""
    with served(tmp_path) as client:
        client.delete("/items/1")
    with closing(sqlite3.connect(tmp_path / "monitorpy.db")) as connection:
        connection.execute("DROP TABLE imports")  # as a version without imports left it
    with served(tmp_path) as client:
        before = purges(client)
        items = [{"id": n + 2, "name": "imported"} for n in range(2 * BATCH + 1)]
        assert finished(client, begin(client, items))["missing"] == 0
        added = purges(client)
        assert added["typed"] - before.get("typed", 0) == 3
        assert added["commit"] - before["commit"] == 1 + 2 * 3
        assert client.get("/items?limit=1").json()["total"] == SEEDED - 1


def purges(client: httpx.Client) -> dict[str, float]:
    """How many purges there were, by their cause."""
    text = client.get(httpx.URL(client.base_url).copy_with(path="/metrics")).text
    found = re.findall(r'^maxage_purges_total{cause="(\w+)"} (\S+)$', text, re.MULTILINE)
    return {cause: float(number) for cause, number in found}


def test_an_import_that_fails_says_so_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And stops: the database went away behind the answer."""
    missing = Database(make_url(f"sqlite+aiosqlite:///{tmp_path}/none/x.db"))
    asyncio.run(run_import(missing, 7, [ImportedItem(name="n")]))
    (record,) = [one for one in caplog.records if one.name == "app.imports"]
    assert record.getMessage().startswith("Import 7 stopped: ")
    assert record.exc_info is None
