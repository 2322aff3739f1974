"""`maxage warm`: ask for URLs, so that their responses are stored."""

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker

SOURCE = '''
from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader
from starlette.responses import PlainTextResponse, Response
from maxage import CacheMiddleware

app = FastAPI()

@app.get("/items")
async def items(page: int = 1):
    return page

@app.get("/items/{n}")
async def item(n: int):
    return n

@app.get("/search")
async def search(q: str):
    return q

@app.get("/me", dependencies=[Security(APIKeyHeader(name="x-api-key"))])
async def me():
    return 1

@app.get("/private")
async def private():
    return PlainTextResponse("1", headers={"cache-control": "private"})

@app.get("/broken")
async def broken():
    return Response(status_code=500)

@app.get("/sitemap.xml", include_in_schema=False)
async def sitemap():
    return Response("""<?xml version="1.0"?><urlset xmlns="http://x">
      <url><loc> /items?page=1&amp;x=2 </loc></url><url><loc>/items/3</loc></url>
      <url><loc>http://elsewhere.example/a</loc></url></urlset>""", media_type="text/xml")

app.add_middleware(CacheMiddleware)
'''


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("warm")
    with Worker.start(SOURCE, tmp_path=folder) as worker:
        yield worker


def results(command: Command, *arguments: str) -> dict[str, int]:
    ran = command("warm", *arguments, "--json", "--rate", "1000")
    assert ran.code == 0, ran
    found: dict[str, int] = json.loads(ran.out)["results"]
    return found


def test_urls_of_a_file_are_stored(command: Command, served: Worker, tmp_path: Path) -> None:
    """Each once; what is stored already, or is never stored, is told."""
    listed = tmp_path / "urls.txt"
    listed.write_text(f"# the pages\n/items?page=1\n\n{served.url}/items/1\n/items/1\n/private\n")
    arguments = (served.url, "--file", str(listed))
    assert results(command, *arguments) == {"stored now": 2, "not stored: private": 1}
    again = results(command, *arguments)
    assert again["stored already"] == 2
    text = command("warm", *arguments)
    assert (text.code, text.err) == (0, "")
    assert "stored already" in text.out


def test_urls_of_a_sitemap_are_stored_and_other_servers_left_alone(
    command: Command, served: Worker, tmp_path: Path
) -> None:
    """A URL or a file, also compressed, also an index of sitemaps."""
    ran = command("warm", served.url, "--sitemap", "/sitemap.xml", "--json")
    told = json.loads(ran.out)
    assert told["other_servers"] == 1
    assert sum(told["results"].values()) == 2
    index = tmp_path / "index.xml.gz"
    location = f"<sitemap><loc>{served.url}/sitemap.xml</loc></sitemap>"
    index.write_bytes(gzip.compress(f"<sitemapindex>{location}</sitemapindex>".encode()))
    assert results(command, served.url, "--sitemap", str(index)) == {"stored already": 2}


def test_openapi_gives_the_paths_that_need_nothing(command: Command, served: Worker) -> None:
    """No path parameter, no required query, no credentials."""
    ran = command("warm", served.url, "--openapi", "/openapi.json", "--json")
    told = json.loads(ran.out)
    assert sum(told["results"].values()) == 3
    assert [(one["url"], one["status"]) for one in told["failed"]] == [
        (f"{served.url}/broken", 500)
    ]
    assert ran.code == 1


def test_the_most_asked_urls_are_those_that_the_workers_publish(
    command: Command, redis: RedisServer, served: Worker
) -> None:
    """Without any, it says how to get them."""
    ran = command("warm", served.url, "--top", "5", "--redis-url", redis.url)
    assert ran.code == 2
    assert ran.err == (
        "maxage: no worker has published its most asked URLs; set CACHE_INSIGHT=true.\n"
    )


def test_the_rate_is_bounded(command: Command, served: Worker, tmp_path: Path) -> None:
    """Whatever the number of connections."""
    listed = tmp_path / "urls.txt"
    listed.write_text("".join(f"/items/{n}\n" for n in range(100, 111)))
    began = time.monotonic()
    command("warm", served.url, "-f", str(listed), "--rate", "20", "--concurrency", "8")
    assert time.monotonic() - began >= 0.49


def test_a_server_that_is_away_is_told_with_exit_code_1(command: Command, tmp_path: Path) -> None:
    """A few of the URLs, and how many others."""
    listed = tmp_path / "urls.txt"
    listed.write_text("".join(f"/{n}\n" for n in range(8)))
    ran = command("warm", "http://127.0.0.1:1", "-f", str(listed), "--rate", "1000")
    assert ran.code == 1
    assert "not answered" in ran.out
    assert ran.err.count("ConnectionRefusedError") == 5
    assert "... and 3 more failed." in ran.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'BASE'; "),
        (["shop.example", "-f", "-"], "'shop.example' names no server; it takes a URL such as "),
        (["http://[::1", "-f", "-"], "'http://[::1' names no server; it takes a URL such as "),
        (["http://a"], "no URLs are named; give --file, --sitemap, --openapi or --top."),
        (["http://a", "-f", os.devnull], "nothing to ask for: what is given names no URLs."),
        (["http://a", "-f", "none.txt"], "'none.txt' cannot be read: No such file or directory."),
        (["http://a", "--openapi", "pyproject.toml"], "'pyproject.toml' is no OpenAPI document"),
        (["http://127.0.0.1:1", "--sitemap", "/s.xml"], "'http://127.0.0.1:1/s.xml' cannot be fe"),
        (["http://a", "--sitemap", "http://b/s"], "'http://b/s' belongs to another server than"),
        (["http://a", "--sitemap", "http://[b/s"], "'http://[b/s' belongs to another server than"),
        (["http://a", "-f", "-", "--rate", "0"], "Invalid value for '--rate'"),
        (["http://a", "--top", "3"], "no server is named"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command("warm", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "document",
    [[], {"paths": []}, {"paths": {"/a": {"get": None}}}, {"paths": {}, "servers": ["x"]},
     {"paths": {}, "servers": [{"url": "http://["}]}],
)  # fmt: skip
def test_json_that_is_no_openapi_document_gets_one_sentence(
    document: Any, command: Command, tmp_path: Path
) -> None:
    named = tmp_path / "openapi.json"
    named.write_text(json.dumps(document))
    ran = command("warm", "http://a", "--openapi", str(named))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"maxage: {str(named)!r} is no OpenAPI document in JSON.\n"
