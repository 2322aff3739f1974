"""nginx in front of the application: its own check of the file, and real requests through it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.files import DEPLOY, program, running_nginx
from tests.support.ports import free_port
from tests.support.workers import Workers

SITE = DEPLOY / "nginx" / "monitorpy.conf"
SOURCE = """
from fastapi import FastAPI, Request, Response
from maxage import CacheMiddleware, CacheSettings
from maxage.fastapi import health_router
app = FastAPI()
app.add_middleware(CacheMiddleware)
app.include_router(health_router(CacheSettings(), message="x"), prefix="/api/v1")
@app.get("/x")
def x(request: Request) -> str:
    return str(request.url)
@app.get("/dated")
def dated(response: Response) -> None:
    response.headers["date"] = "Tue, 15 Nov 1994 08:12:31 GMT"
"""


def configuration(folder: Path, site: Path) -> Path:
    """A whole configuration around the site, which writes into the folder alone."""
    temporary = "".join(
        f"{name}_temp_path {folder};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        f"events {{}} http {{ access_log off; {temporary} include {site}; }}\n"
    )
    return path


@pytest.fixture
def client(workers: Workers, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of nginx, which passes requests to a worker."""
    program("nginx")  # before a worker is started
    worker = workers.start(SOURCE)
    port = free_port()
    site = tmp_path / "site.conf"
    text = SITE.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{worker.port}")
    site.write_text(text.replace("listen 80;", f"listen 127.0.0.1:{port};"))
    with running_nginx(tmp_path, configuration(tmp_path, site), port, "/openapi.json") as found:
        yield found


def test_nginx_takes_it(tmp_path: Path) -> None:
    """No directive is misspelt or at the wrong place."""
    command = [program("nginx"), "-t", "-e", "stderr", "-c", str(configuration(tmp_path, SITE))]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


def test_a_hit_passes_as_it_is(client: httpx.Client) -> None:
    """Cache-Status and Age reach the client, and the host the application."""
    assert client.get("/x").json() == "http://127.0.0.1/x"
    hit = client.get("/x")
    assert hit.headers["cache-status"].startswith("maxage; hit")
    assert hit.headers["age"]


def test_the_date_of_a_response_passes(client: httpx.Client) -> None:
    """nginx would put the current one in its place."""
    dates = client.get("/dated").headers.get_list("date")
    assert dates == ["Tue, 15 Nov 1994 08:12:31 GMT"]


def test_no_header_of_a_client_makes_it_miss(client: httpx.Client) -> None:
    """What would be part of the key, or pass the cache by, does not get through."""
    client.get("/x")
    sent = {
        "Forwarded": "host=evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "X-Original-URL": "/evil",
        "X-Rewrite-URL": "/evil",
    }
    for name, value in sent.items():
        answer = client.get("/x", headers={name: value})
        assert "hit" in answer.headers["cache-status"], name


@pytest.mark.parametrize(
    "path", ["/metrics", "/api/v1/health/live", "/api/v1/health/ready", "/api/v1/health/cache"]
)
def test_what_is_for_the_inside_is_not_passed_on(client: httpx.Client, path: str) -> None:
    """The guide's health page is for all."""
    assert client.get(path).status_code == 404
    assert client.get("/api/v1/health").status_code == 200
