"""The examples of the pages, each started as a reader would: a real server, and a real Redis."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.files import program, running_nginx
from tests.support.documents import ROOT, blocks, page
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.workers import Workers

EXAMPLES = ROOT / "docs" / "examples"
PAGE = "docs/examples/index.md"
NGINX = EXAMPLES / "nginx.conf"


@pytest.fixture
def settings(redis_url: str) -> dict[str, str]:
    """The environment of an example; its database is in the folder of the test."""
    return {
        # A lookup that a busy machine delays is a miss, which is not what is tested here.
        "CACHE_READ_BUDGET": "5",
        "CACHE_WRITE_BUDGET": "5",
        "REDIS_URL": redis_url,
    }


def start(workers: Workers, name: str, settings: dict[str, str]) -> httpx.Client:
    """Start an example; a client for it, with a connection for each request."""
    worker = workers.start(f"{name}:app", env=settings, args=["--app-dir", str(EXAMPLES)])
    return httpx.Client(base_url=worker.url, timeout=30)


def said(answer: httpx.Response) -> str:
    """What the cache did: `hit`, `stored`, or why neither."""
    assert answer.is_success, answer.text
    words = answer.headers["cache-status"].removeprefix("maxage; ")
    if words.startswith("hit"):
        return "hit"
    return "stored" if words.endswith("stored") else words


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}-token"}


class TestStarlette:
    def test_a_write_purges_what_shows_it(self, workers: Workers, settings: dict[str, str]) -> None:
        """The list and the note itself, and no other note."""
        with start(workers, "notes", settings) as client:
            client.put("/notes/1", content="tea")
            client.put("/notes/2", content="coffee")
            paths = ["/notes", "/notes/1", "/notes/2"]
            assert [said(client.get(path)) for path in paths] == ["stored"] * 3
            assert [said(client.get(path)) for path in paths] == ["hit"] * 3
            client.put("/notes/1", content="green tea")
            assert [said(client.get(path)) for path in paths] == ["stored", "stored", "hit"]
            assert client.get("/notes").json()[0] == {"id": 1, "text": "green tea"}
            assert client.get("/notes/1").json() == {"id": 1, "text": "green tea"}
            assert client.get("/notes/3").status_code == 404

    def test_a_script_purges_by_path_and_tag(
        self, workers: Workers, settings: dict[str, str], tmp_path: Path
    ) -> None:
        """It writes outside of the web process, and no answer of before is served after it."""
        with start(workers, "notes", settings) as client:
            client.put("/notes/1", content="")
            assert client.get("/notes").json() == [{"id": 1, "text": ""}]
            assert client.get("/count").json() == {"notes": 1}
            assert said(client.get("/notes/1")) == "stored"
            for path in ("/notes", "/count", "/notes/1"):
                assert said(client.get(path)) == "hit"
            assert script(tmp_path, settings).returncode == 0
            assert client.get("/notes").json() == []
            assert client.get("/count").json() == {"notes": 0}
            assert client.get("/notes/1").status_code == 404

    def test_a_script_without_redis_says_so(self, settings: dict[str, str], tmp_path: Path) -> None:
        """Its exit code makes cron, or a person, run it again."""
        away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "CACHE_WRITE_BUDGET": "0.1"}
        done = script(tmp_path, settings | away)
        assert done.returncode == 1
        assert "run this again" in done.stderr


def script(folder: Path, settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the background writer to its end."""
    path = {"PYTHONPATH": str(ROOT / "middleware")}
    return subprocess.run(
        [sys.executable, EXAMPLES / "purge_notes.py"],
        cwd=folder,
        env={**os.environ, **path, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestUsersAndRoles:
    @pytest.fixture
    def client(self, workers: Workers, settings: dict[str, str]) -> Iterator[httpx.Client]:
        with start(workers, "users", settings) as client:
            yield client

    def test_each_user_gets_their_own(self, client: httpx.Client) -> None:
        """From the store too; without a valid token there is nothing."""
        own = {
            "ada": [["ada", "tea"]],
            "bob": [["bob", "coffee"]],
            "eve": [["ada", "tea"], ["bob", "coffee"]],
        }
        for expected in ("stored", "hit"):
            for name, orders in own.items():
                answer = client.get("/orders", headers=bearer(name))
                assert (said(answer), answer.json()) == (expected, orders)
        assert client.get("/orders").status_code == 401
        assert client.get("/orders", headers=bearer("nobody")).status_code == 401

    def test_a_write_of_one_user_reaches_the_lists_of_all(self, client: httpx.Client) -> None:
        """The admin sees it at once."""
        for name in ("ada", "eve"):
            client.get("/orders", headers=bearer(name))
        client.post("/orders", params={"thing": "milk"}, headers=bearer("ada"))
        for name in ("ada", "eve"):
            answer = client.get("/orders", headers=bearer(name))
            assert said(answer) == "stored"
            assert ["ada", "milk"] in answer.json()

    def test_an_admin_that_is_none_any_more_sees_no_list_of_before(
        self, client: httpx.Client
    ) -> None:
        """Though no write of the role purges the orders: the role is part of the key."""
        client.get("/orders", headers=bearer("eve"))
        answer = client.put("/roles/eve", params={"role": "customer"}, headers=bearer("eve"))
        assert answer.status_code == 200
        assert client.get("/orders", headers=bearer("eve")).json() == []

    def test_only_what_is_public_is_shared(self, client: httpx.Client) -> None:
        """Each request for what is personal reaches the handler."""
        for name in ("ada", "eve", "ada"):
            answer = client.get("/me", headers=bearer(name))
            assert answer.json()["name"] == name
            assert said(answer) == "fwd=uri-miss; detail=credentials"
        # What is public is shared with users, and with those who are not signed in.
        assert said(client.get("/things", headers=bearer("ada"))) == "stored"
        assert said(client.get("/things", headers=bearer("bob"))) == "hit"
        assert said(client.get("/things")) == "hit"


def test_responses_follow_their_tables(workers: Workers, settings: dict[str, str]) -> None:
    """A sale purges the dashboard and leaves the catalogue; a product purges both."""
    with start(workers, "tables", settings) as client:
        client.put("/products/1", params={"name": "tea"})
        wait_until(lambda: said(client.get("/dashboard")) == "hit", "its tables are known")
        wait_until(lambda: said(client.get("/catalogue")) == "hit", "its tables are known")
        client.post("/checkout", params={"product_id": 1, "amount": 3})
        assert client.get("/dashboard").json() == {"tea": 3}
        assert said(client.get("/dashboard")) == "hit"
        assert said(client.get("/catalogue")) == "hit"
        client.put("/products/1", params={"name": "green tea"})
        assert client.get("/dashboard").json() == {"green tea": 3}
        assert client.get("/catalogue").json() == ["green tea"]


def test_two_workers_behind_nginx_are_one(
    workers: Workers, settings: dict[str, str], tmp_path: Path
) -> None:
    """A write through one of them purges for the other; nginx asks them in turn."""
    program("nginx")  # before workers are started
    urls = [start(workers, "notes", settings).base_url for _ in range(2)]
    text = NGINX.read_text()
    for port, url in zip(("8001", "8002"), urls, strict=True):
        text = text.replace(f":{port};", f":{url.port};")
    port = free_port()
    own = tmp_path / "nginx.conf"
    own.write_text(text.replace(":8080;", f":{port};"))
    with running_nginx(tmp_path, own, port, "/count") as client:
        for text in ("tea", "coffee", "milk"):
            client.put("/notes/1", content=text)
            first = client.get("/notes", headers={"X-Forwarded-Host": "evil.example"})
            assert said(first) == "stored"
            again = [client.get("/notes") for _ in range(4)]
            # The response is written after the first answer: the other worker may wait for it.
            assert said(again[0]) == "hit" or said(again[0]).endswith("collapsed")
            assert [said(one) for one in again[1:]] == ["hit"] * 3
            assert all(one.json() == [{"id": 1, "text": text}] for one in [first, *again])
            assert all(one.headers["date"] == first.headers["date"] for one in again)


def test_the_file_of_nginx_is_what_the_page_starts() -> None:
    """Its braces match, each directive ends, and its ports are those of its own comment."""
    text = re.sub(r"#.*", "", NGINX.read_text())
    assert text.count("{") == text.count("}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert [line for line in lines if line[-1] not in "{};"] == []
    started = re.findall(r"--port (\d+)", NGINX.read_text())
    assert re.findall(r"^ *server 127.0.0.1:(\d+);", text, re.MULTILINE) == started


def test_each_file_is_short_and_on_the_page() -> None:
    """A reader finds it, and reads it in a minute."""
    files = [path for path in EXAMPLES.iterdir() if path.is_file() and path.suffix != ".md"]
    for path in files:
        assert len(path.read_text().splitlines()) < 80, path
        assert f"[{path.name}]({path.name})" in page(PAGE)


def test_the_page_shows_what_comes(
    workers: Workers, settings: dict[str, str], tmp_path: Path
) -> None:
    """Each `curl` of the page, against the server that it starts."""
    consoles = blocks(PAGE, "console")
    for block, name in zip(consoles, ("notes", "users"), strict=True):
        with start(workers, name, settings) as client:
            curl = program("curl")
            for line in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, shown = line.partition("\n")
                if "purge_notes.py" in command:
                    assert script(tmp_path, settings).returncode == 0
                    continue
                command = command.replace("http://127.0.0.1:8000", str(client.base_url))
                done = subprocess.run(
                    [curl, "--silent", *shlex.split(command)[1:]],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                got = next(one for one in done.stdout.splitlines() if "cache-status" in one)
                assert re.sub(r"ttl=\d+", "", got) == re.sub(r"ttl=\d+", "", shown.strip())
