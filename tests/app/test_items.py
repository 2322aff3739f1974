"""The application as a client sees it: a real server on SQLite in a folder of its own."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import aiosqlite.core
import httpx
import pytest
import redis
import uvicorn
from sqlalchemy.engine import make_url

from app.__main__ import main
from app.database import Database, DatabaseUnavailableError
from maxage import CacheSettings
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workers import BUDGETS

ROOT = Path(__file__).resolve().parents[2]
SEEDED = 320
SETTINGS = {name.upper() for name in CacheSettings.model_fields} | {
    "ADMIN_TOKEN",
    "DATABASE_URL",
    "HOST",
    "PORT",
    "WEB_CONCURRENCY",
}


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a server: ours without settings that the shell exports."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    path = os.pathsep.join([str(ROOT), str(ROOT / "middleware")])
    return kept | {"PYTHONPATH": path} | settings


@contextmanager
def served(folder: Path, *arguments: str, **settings: str) -> Iterator[httpx.Client]:
    """Run the application in `folder` and give a client for it."""
    port = free_port()
    command = [part.replace("PORT", str(port)) for part in arguments or ("-m", "app")]
    log = folder / f"{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment(PORT=str(port), **settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10) as client:
            until(lambda: answers(client), process, log)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def until(holds: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with served(folder) as client:
        yield client


@pytest.fixture(scope="module")
def redis_of_cached() -> Iterator[RedisServer]:
    """A server of its own, which no test empties: its workers remember their leases."""
    with RedisServer.start() as server:
        yield server


@pytest.fixture(scope="module")
def cached(
    tmp_path_factory: pytest.TempPathFactory, redis_of_cached: RedisServer
) -> Iterator[httpx.Client]:
    settings = {"REDIS_URL": redis_of_cached.url, "WEB_CONCURRENCY": "2"}
    settings |= dict.fromkeys(BUDGETS, "10")
    with served(tmp_path_factory.mktemp("cached"), **settings) as client:
        # A new connection for each request, so that both workers get some.
        client.headers["connection"] = "close"
        yield client


@pytest.fixture
def item(client: httpx.Client) -> dict[str, Any]:
    """An item of the test's own."""
    answer = client.post("/items", json={"name": "ours", "description": "made by a test"})
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


class TestCreate:
    def test_answers_201_with_the_location_of_the_new_item(self, client: httpx.Client) -> None:
        """POST answers the item as it was stored, and where it is."""
        answer = client.post("/items", json={"name": "n", "description": "d", "kind": "tcp"})
        assert answer.status_code == 201
        made = answer.json()
        assert (made["name"], made["description"], made["kind"]) == ("n", "d", "tcp")
        assert answer.headers["location"] == f"/api/v1/items/{made['id']}"
        assert client.get(f"/items/{made['id']}").json() == made

    def test_takes_what_the_guide_sends(self, client: httpx.Client) -> None:
        """The guide posts to `/items/`, with an id: the id is the database's choice."""
        answer = client.post("/items/", json={"id": "x", "name": "n", "description": "d"})
        assert answer.status_code == 201
        assert isinstance(answer.json()["id"], int)
        assert answer.headers["location"] == f"/api/v1/items/{answer.json()['id']}"

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"name": ""},
            {"name": "n" * 121},
            {"name": "n\x00"},
            {"name": "n", "kind": "smoke-signal"},
            {"name": "n", "interval_seconds": 9},
            {"name": "n", "interval_seconds": None},
        ],
    )
    def test_refuses_what_no_item_can_be(self, client: httpx.Client, body: dict[str, Any]) -> None:
        """A body that cannot be right is answered with 422 and stores nothing."""
        before = client.get("/items", params={"limit": 1}).json()["total"]
        assert client.post("/items", json=body).status_code == 422
        assert client.get("/items", params={"limit": 1}).json()["total"] == before

    @pytest.mark.parametrize("body", [b'{"name": "\\ud800"}', b'{"interval_seconds": NaN}', b"{"])
    def test_refuses_what_json_cannot_send_back(self, client: httpx.Client, body: bytes) -> None:
        """The refusal does not fail on what it refuses."""
        answer = client.post("/items", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["detail"]


class TestRead:
    def test_one_item_has_what_the_guide_names(self, client: httpx.Client) -> None:
        """Each item has at least an id, a name and a description."""
        answer = client.get("/items/1")
        assert answer.status_code == 200
        assert answer.json()["id"] == 1
        assert answer.json()["name"]
        assert answer.json()["description"]

    @pytest.mark.parametrize("path", ["/items/999999", f"/items/{2**63 - 1}"])
    def test_an_unknown_id_is_404(self, client: httpx.Client, path: str) -> None:
        """An id that no item has is not found."""
        assert client.get(path).status_code == 404

    @pytest.mark.parametrize("path", ["/items/0", "/items/-1", "/items/x", f"/items/{2**63}"])
    def test_an_impossible_id_is_422(self, client: httpx.Client, path: str) -> None:
        """An id that no item can have is refused before the database is asked."""
        assert client.get(path).status_code == 422

    def test_several_at_once(self, client: httpx.Client) -> None:
        """A batch answers each item once, in the order asked for, and names what is missing."""
        answer = client.get("/items/batch", params={"ids": "3,1,999999,3"}).json()
        assert [item["id"] for item in answer["items"]] == [3, 1]
        assert answer["missing"] == [999999]
        assert answer["items"][1] == client.get("/items/1").json()

    @pytest.mark.parametrize("ids", ["", "a", "1,", "0", ",".join(["1"] * 101)])
    def test_a_batch_of_what_are_no_ids_is_422(self, client: httpx.Client, ids: str) -> None:
        """A batch takes 1 to 100 ids, separated by commas."""
        assert client.get("/items/batch", params={"ids": ids}).status_code == 422

    def test_the_routes_leave_caching_to_the_cache(self, client: httpx.Client) -> None:
        """No route sends a Cache-Control of its own."""
        for path in ("/items", "/items/1", "/items/batch?ids=1"):
            assert "cache-control" not in client.get(path).headers


class TestList:
    def test_answers_a_page_ordered_by_id(self, client: httpx.Client) -> None:
        """Without parameters: the first fifty, and how many there are."""
        page = client.get("/items").json()
        assert set(page) == {"items", "total", "limit", "offset"}
        assert (page["limit"], page["offset"]) == (50, 0)
        assert [item["id"] for item in page["items"]] == list(range(1, 51))
        assert page["total"] >= SEEDED

    def test_pages_join_without_gap_or_overlap(self, client: httpx.Client) -> None:
        """`limit` and `offset` walk through all items."""
        pages = [
            client.get("/items", params={"limit": 100, "offset": offset, "q": ".example"}).json()
            for offset in range(0, 400, 100)
        ]
        ids = [item["id"] for page in pages for item in page["items"]]
        assert ids == sorted(set(ids))
        assert len(ids) == pages[0]["total"] == SEEDED

    def test_past_the_end_is_an_empty_page(self, client: httpx.Client) -> None:
        """The last page is followed by an empty one, not by an error."""
        page = client.get("/items", params={"offset": 2**31 - 1}).json()
        assert page["items"] == []
        assert page["total"] >= SEEDED

    @pytest.mark.parametrize(
        "parameters",
        [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"kind": "x"}, {"enabled": "perhaps"}],
    )
    def test_refuses_what_is_out_of_bounds(
        self, client: httpx.Client, parameters: dict[str, Any]
    ) -> None:
        """`limit` is 1 to 100, `offset` not negative, filters know their values."""
        assert client.get("/items", params=parameters).status_code == 422

    def test_filters_narrow_together(self, client: httpx.Client) -> None:
        """An item is listed when it matches all filters."""
        wanted = {"kind": "tcp", "environment": "staging", "enabled": "true", "q": "ORDERS"}
        page = client.get("/items", params=wanted).json()
        assert page["total"] == len(page["items"]) == 3
        for item in page["items"]:
            assert (item["kind"], item["environment"], item["enabled"]) == ("tcp", "staging", True)
            assert "orders" in f"{item['name']} {item['description']}".lower()

    def test_a_percent_sign_is_searched_as_it_stands(self, client: httpx.Client) -> None:
        """Nothing that `q` holds is a pattern."""
        client.post("/items", json={"name": "100 % done", "description": ""})
        page = client.get("/items", params={"q": "%"}).json()
        assert {item["name"] for item in page["items"]} == {"100 % done"}

    def test_the_trailing_slash_is_the_same_list(self, client: httpx.Client) -> None:
        """`/items/` answers what `/items` answers."""
        assert client.get("/items/").json() == client.get("/items").json()


class TestChange:
    def test_put_takes_what_get_answered(self, client: httpx.Client, item: dict[str, Any]) -> None:
        """A client may read an item, change a field and send all of it back."""
        read = client.get(f"/items/{item['id']}").json()
        answer = client.put(f"/items/{item['id']}", json=read | {"name": "changed"})
        assert answer.status_code == 200
        assert answer.json()["name"] == "changed"
        assert client.get(f"/items/{item['id']}").json() == answer.json()
        same = {"id", "description", "kind", "target", "created_at"}
        assert {name: answer.json()[name] for name in same} == {name: read[name] for name in same}
        assert answer.json()["updated_at"] > read["updated_at"]

    def test_put_gives_defaults_to_what_is_left_out(
        self, client: httpx.Client, item: dict[str, Any]
    ) -> None:
        """PUT replaces; it does not merge."""
        client.patch(f"/items/{item['id']}", json={"kind": "dns", "interval_seconds": 3600})
        answer = client.put(f"/items/{item['id']}", json={"name": "bare"}).json()
        assert (answer["kind"], answer["interval_seconds"]) == ("http", 60)

    def test_put_refuses_the_id_of_another_item(
        self, client: httpx.Client, item: dict[str, Any]
    ) -> None:
        """A body that names another item than the path was sent by mistake."""
        answer = client.put(f"/items/{item['id']}", json=item | {"id": 1})
        assert answer.status_code == 422
        assert client.get(f"/items/{item['id']}").json() == item

    def test_patch_changes_only_what_it_names(
        self, client: httpx.Client, item: dict[str, Any]
    ) -> None:
        """Fields that PATCH leaves out stay as they were."""
        answer = client.patch(f"/items/{item['id']}", json={"enabled": False})
        assert answer.status_code == 200
        changed = {"enabled": False, "updated_at": answer.json()["updated_at"]}
        assert answer.json() == item | changed
        assert client.get(f"/items/{item['id']}").json() == answer.json()

    @pytest.mark.parametrize("body", [{"name": None}, {"name": ""}, {"timeout_seconds": 0}, []])
    def test_patch_refuses_what_no_item_can_be(
        self, client: httpx.Client, item: dict[str, Any], body: Any
    ) -> None:
        """PATCH keeps the bounds that POST keeps."""
        assert client.patch(f"/items/{item['id']}", json=body).status_code == 422
        assert client.get(f"/items/{item['id']}").json() == item

    def test_delete_removes(self, client: httpx.Client, item: dict[str, Any]) -> None:
        """A deleted item is gone, for the second DELETE too."""
        path = f"/items/{item['id']}"
        assert client.get(path).status_code == 200
        answer = client.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
        batch = client.get("/items/batch", params={"ids": item["id"]}).json()
        assert batch == {"items": [], "missing": [item["id"]]}

    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_an_unknown_id_is_404(self, client: httpx.Client, method: str) -> None:
        """What is not there cannot be changed."""
        body = {} if method == "delete" else {"json": {"name": "n"}}
        assert getattr(client, method)("/items/999999", **body).status_code == 404

    def test_the_answer_comes_after_the_commit(
        self, client: httpx.Client, folder: Path, item: dict[str, Any]
    ) -> None:
        """After the answer to a write, the database holds it."""
        for number in range(20):
            client.patch(f"/items/{item['id']}", json={"name": f"name {number}"})
            with sqlite3.connect(folder / "monitorpy.db") as database:
                query = "SELECT name FROM items WHERE id = ?"
                assert database.execute(query, [item["id"]]).fetchone() == (f"name {number}",)
            database.close()

    def test_a_change_is_seen_at_once_in_every_view(
        self, client: httpx.Client, item: dict[str, Any]
    ) -> None:
        """The item, the lists that hold it and the batches: none answers the old value."""
        views: dict[str, Callable[[Any], Any]] = {
            f"/items/{item['id']}": lambda answer: answer,
            f"/items/batch?ids={item['id']}": lambda answer: answer["items"][0],
            "/items?q=made by a test&limit=100": lambda answer: answer["items"][-1],
            "/items/?q=made by a test&limit=100": lambda answer: answer["items"][-1],
        }
        for number in range(10):
            for path in views:
                client.get(path)
            changed = client.patch(f"/items/{item['id']}", json={"name": f"name {number}"}).json()
            for path, pick in views.items():
                assert pick(client.get(path).json()) == changed, path


class TestCaching:
    """The main job, over two workers that share a real Redis."""

    def test_a_second_request_is_a_hit(self, cached: httpx.Client) -> None:
        """The same list again is a hit with an Age, and the same bytes."""
        first = eventually(cached, "/items?limit=50", "fwd=uri-miss; stored")
        second = eventually(cached, "/items?limit=50", "hit")
        assert "age" not in first.headers
        assert int(second.headers["age"]) >= 0
        assert second.content == first.content
        for answer in (first, second):
            assert len(answer.headers.get_list("date")) == 1

    def test_put_makes_the_item_and_every_list_fresh(self, cached: httpx.Client) -> None:
        """After PUT no worker serves the old value; other items stay hits."""
        views = ["/items/5", "/items/6", "/items?limit=50", "/items?offset=4", "/items/batch?ids=5"]
        for number in range(20):
            for path in views:
                eventually(cached, path, "hit")
            body = {"name": f"name {number}"}
            assert cached.put("/items/5", json=body).json()["name"] == body["name"]
            assert "maxage; hit" in cached.get("/items/6").headers["cache-status"], number
            for _ in range(2):
                for path in views:
                    answer = cached.get(path).json()
                    five = next((i for i in answer.get("items", [answer]) if i["id"] == 5), body)
                    assert five["name"] == body["name"]

    def test_objects_are_plain_json_under_the_key_of_the_guide(
        self, cached: httpx.Client, redis_of_cached: RedisServer
    ) -> None:
        """`item:7` holds what the guide's batch snippet reads."""
        item = cached.get("/items/7").json()
        with redis.Redis.from_url(redis_of_cached.url) as client:
            assert json.loads(cast("bytes", client.get("item:7"))) == item

    def test_a_new_item_is_in_the_typed_cache_soon_after_the_answer(
        self, cached: httpx.Client, redis_of_cached: RedisServer
    ) -> None:
        """The background task of POST refreshes the typed cache."""
        item = cached.post("/items", json={"name": "new"}).json()
        deadline = time.monotonic() + 5
        with redis.Redis.from_url(redis_of_cached.url) as client:
            while (kept := cast("bytes | None", client.get(f"item:{item['id']}"))) is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert json.loads(kept) == item

    @pytest.mark.parametrize(
        "settings",
        [{"USE_REDIS_CACHE": "false"}, {"WEB_CONCURRENCY": "2"}, {"REDIS_URL": "redis://[::1]:1"}],
        ids=["switched off", "workers without Redis", "Redis away"],
    )
    def test_without_a_store_it_answers_uncached(
        self, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        """Nothing is a hit, everything works, and an answer still has one Date."""
        with served(tmp_path, **settings) as client:
            for _ in range(3):
                answer = client.get("/items?limit=5")
                assert answer.status_code == 200
                assert "hit" not in answer.headers.get("cache-status", "")
                assert len(answer.headers.get_list("date")) == 1
            assert client.patch("/items/1", json={"name": "n"}).status_code == 200
            assert client.get("/items/1").json()["name"] == "n"
            assert client.get("/health").json()["redis_available"] is False
        assert "Traceback" not in next(tmp_path.glob("*.log")).read_text()


def eventually(client: httpx.Client, path: str, status: str) -> httpx.Response:
    """Ask until the cache says `status`; a worker may need a moment to find its Redis again."""
    deadline = time.monotonic() + 10
    while True:
        answer = client.get(path)
        assert answer.status_code == 200
        if status in answer.headers["cache-status"]:
            return answer
        assert time.monotonic() < deadline, answer.headers["cache-status"]
        time.sleep(0.02)


class TestPages:
    def test_health_answers_the_five_fields(self, client: httpx.Client) -> None:
        """The health page speaks for MonitorPy API."""
        health = client.get("/health").json()
        assert set(health) == {
            "status",
            "message",
            "timestamp",
            "redis_available",
            "cache_enabled",
        }
        assert health["message"] == "MonitorPy API is running"

    def test_the_documentation_is_under_the_prefix(self, client: httpx.Client) -> None:
        """/api/v1/docs shows what /api/v1/openapi.json describes."""
        assert "/api/v1/openapi.json" in client.get("/docs").text
        described = client.get("/openapi.json").json()
        assert described["info"]["title"] == "MonitorPy API"
        assert set(described["paths"]) == {
            "/api/v1/items",
            "/api/v1/items/batch",
            "/api/v1/items/{item_id}",
            "/api/v1/imports",
            "/api/v1/imports/{import_id}",
            "/api/v1/health",
            "/api/v1/health/live",
            "/api/v1/health/ready",
            "/api/v1/health/cache",
        }

    def test_the_root_leads_to_pages_that_are_there(self, client: httpx.Client) -> None:
        """Every link of `/` answers, and the first one is the documentation."""
        root = httpx.URL(client.base_url).copy_with(path="/")
        page = client.get(root)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        links = re.findall(r'href="([^"]+)"', page.text)
        assert links[0] == "/api/v1/docs"
        html = {"accept": "text/html"}
        answers = [client.get(root.join(link), headers=html) for link in links]
        assert {answer.status_code for answer in answers} <= {200, 303}
        # Only the page of the cache asks for a token first.
        assert [a.url.path for a in answers if a.status_code == 303] == ["/cache/"]

    def test_prometheus_finds_the_requests_by_route(self, client: httpx.Client) -> None:
        """/metrics, where deploy/prometheus/prometheus.yml looks, and never from the cache."""
        client.get("/items/1")
        client.get("/items?limit=99")
        answer = client.get(httpx.URL(client.base_url).copy_with(path="/metrics"))
        assert 'route="/api/v1/items"}' in answer.text
        assert (
            'maxage_requests_total{outcome="uri-miss",route="/api/v1/items/{item_id}"}'
            in answer.text
        )
        assert answer.headers["cache-control"] == "no-store"


class TestStart:
    def test_a_first_start_brings_items_and_a_second_one_no_more(self, tmp_path: Path) -> None:
        """The items of the first start are there once, and stay deleted."""
        with served(tmp_path) as client:
            assert client.get("/items").json()["total"] == SEEDED
            client.delete("/items/1")
        with served(tmp_path) as client:
            assert client.get("/items").json()["total"] == SEEDED - 1
            assert client.post("/items", json={"name": "n"}).json()["id"] == SEEDED + 1

    def test_a_first_start_without_redis_warns_of_nothing(self, tmp_path: Path) -> None:
        """Its items are written before there is a cache that they could purge."""
        with served(tmp_path):
            log = next(tmp_path.glob("*.log")).read_text()
        assert log.startswith("MonitorPy API")
        assert "purges nothing" not in log

    def test_workers_that_start_at_once_share_one_first_start(self, tmp_path: Path) -> None:
        """Several processes on an empty database: all come up, the items are there once."""
        workers = ("-m", "uvicorn", "app.main:app", "--port", "PORT", "--workers", "4")
        with served(tmp_path, *workers) as client:
            assert client.get("/items").json()["total"] == SEEDED
            log_file = next(tmp_path.glob("*.log"))
            wait_until(
                lambda: log_file.read_text().count("Application startup complete") == 4,
                "all workers have started",
                timeout=60,
            )
        log = log_file.read_text()
        assert "Traceback" not in log

    def test_it_says_what_it_runs_on_without_passwords(self, tmp_path: Path) -> None:
        """The first lines name the store, the database and what to try."""
        with served(tmp_path, REDIS_URL="redis://:secret@127.0.0.1:1/0"):
            log = next(tmp_path.glob("*.log")).read_text()
        assert "127.0.0.1:1/0" in log
        assert "monitorpy.db" in log
        assert log.count("curl ") == 2
        assert "secret" not in log

    def test_a_database_that_cannot_be_opened_leaves_no_thread(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would complain of the event loop that is no more, after the sentence."""
        debug = aiosqlite.core.LOG.debug

        def slow(message: str, *args: Any) -> None:
            if "close_and_stop" in repr(args):
                time.sleep(0.1)
            debug(message, *args)

        monkeypatch.setattr(aiosqlite.core.LOG, "debug", slow)
        before = set(threading.enumerate())
        database = Database(make_url("sqlite+aiosqlite:////nonexistent/x.db"))
        with pytest.raises(DatabaseUnavailableError, match="unable to open"):
            asyncio.run(database.prepare())
        assert set(threading.enumerate()) <= before

    @pytest.mark.parametrize(
        ("setting", "value", "said"),
        [
            ("DATABASE_URL", "sqlite:////nonexistent/x.db", "unable to open database file"),
            ("DATABASE_URL", "sqlite:///broken.db", "file is not a database"),
            ("DATABASE_URL", "postgres://u:secret@127.0.0.1:1/x", "127.0.0.1"),
            ("DATABASE_URL", "mysql://u:secret@db/x", "DATABASE_URL got 'mysql://***@db/x'"),
            ("DATABASE_URL", "items.db", "DATABASE_URL got 'items.db'"),
            ("PORT", "http", "PORT got 'http'"),
            ("CACHE_EXPIRATION", "abc", "CACHE_EXPIRATION got 'abc'"),
            ("CACHE_EXPIRATION", "-1", "CACHE_EXPIRATION got '-1'"),
            ("REDIS_URL", "http://u:secret@redis", "REDIS_URL got"),
        ],
    )
    def test_it_says_in_one_sentence_why_it_does_not_start(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        setting: str,
        value: str,
        said: str,
    ) -> None:
        """A setting that cannot be right, or a database that cannot be opened, ends the start."""
        (tmp_path / "broken.db").write_text("This is no database, " * 100)
        monkeypatch.chdir(tmp_path)
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(setting, value)
        monkeypatch.delattr(uvicorn, "run")  # a start that is not refused would not end
        assert main() == 2
        out, err = capsys.readouterr()
        assert said in err
        assert err.count("\n") == 1
        assert "secret" not in err
        assert out == ""

    def test_a_process_that_does_not_start_says_only_why(self, tmp_path: Path) -> None:
        """Its exit code is 2."""
        ended = subprocess.run(
            [sys.executable, "-m", "app"],
            cwd=tmp_path,
            env=environment(DATABASE_URL="items.db"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert ended.stderr.startswith("DATABASE_URL got 'items.db'")
        assert ended.stderr.count("\n") == 1
        assert ended.stdout == ""

    def test_a_line_of_the_log_has_time_and_process(self, tmp_path: Path) -> None:
        """Those of the cache too: of several workers, an operator sees which one, and when."""
        served_by = (
            "import logging, logging.config, uvicorn, app.__main__\n"
            "uvicorn.run = lambda *_, **said: logging.config.dictConfig(said['log_config'])\n"
            "app.__main__.main()\n"
            "logging.getLogger('maxage').warning('Redis unavailable')"
        )
        ended = subprocess.run(
            [sys.executable, "-c", served_by],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        line = r"\d{4}-\d\d-\d\d [\d:,]+ \d+ WARNING maxage: Redis unavailable\n"
        assert re.fullmatch(line, ended.stderr)

    @pytest.mark.parametrize(
        ("line", "variables", "word"),
        [
            ("false", {}, "False"),
            ("false", {"CACHE_INSIGHT": ""}, "False"),
            ("", {"CACHE_INSIGHT": ""}, "True"),
        ],
    )
    def test_figures_are_on_unless_a_setting_says_otherwise(
        self, tmp_path: Path, line: str, variables: dict[str, str], word: str
    ) -> None:
        """In `.env` too; an empty variable is an unset one."""
        (tmp_path / ".env").write_text(f"CACHE_INSIGHT={line}\n")
        served_by = (
            "import uvicorn, app.__main__, maxage\n"
            "uvicorn.run = lambda *_, **__: print(maxage.CacheSettings().cache_insight)\n"
            "app.__main__.main()"
        )
        ended = subprocess.run(
            [sys.executable, "-c", served_by],
            cwd=tmp_path,
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert ended.stdout.splitlines()[-1] == word

    def test_uvicorn_alone_says_it_too(self, tmp_path: Path) -> None:
        """Without `./run`, a database that cannot be opened is no traceback either."""
        ended = subprocess.run(
            [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(free_port())],
            cwd=tmp_path,
            env=environment(DATABASE_URL="sqlite:////nonexistent/x.db"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode != 0
        assert "cannot be opened: unable to open database file." in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_the_health_page_answers_without_the_database(self, tmp_path: Path) -> None:
        """A database that goes away later fails the items, not the health page."""
        (tmp_path / "data").mkdir()
        with served(tmp_path, DATABASE_URL="sqlite:///data/x.db") as client:
            (tmp_path / "data" / "x.db").write_bytes(b"")
            answer = client.get("/items")
            assert (answer.status_code, answer.json()) == (
                503,
                {"detail": "The database cannot be reached."},
            )
            assert client.get("/health").status_code == 200
        assert "Traceback" not in next(tmp_path.glob("*.log")).read_text()
