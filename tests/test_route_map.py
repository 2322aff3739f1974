"""The map of an application, for people and for the tests of users."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Host, Mount, Route
from starlette.staticfiles import StaticFiles

from maxage import CacheMiddleware, CacheSettings, MemoryStore, Rule, cached, uncached
from maxage.cli import main
from maxage.testing import assert_does_not_invalidate, assert_invalidates, route_map

SOURCE = """
from fastapi import FastAPI
from maxage import CacheMiddleware

app = FastAPI(openapi_url=None)
app.add_middleware(CacheMiddleware)

@app.get("/items")
@app.get("/items/{item_id}")
@app.put("/items/{item_id}")
def endpoint(): ...
"""


def endpoint(item_id: int = 0) -> None: ...


@uncached
def never() -> None: ...


@cached(tags=["item:{item_id}"])
def tagged(item_id: int) -> None: ...


def application(*, wrapped: bool = False) -> Any:
    """A shop whose routes are of every kind that the map tells apart."""
    app = FastAPI(openapi_url=None)
    app.get("/items")(endpoint)
    app.get("/items/{item_id}")(endpoint)
    app.get("/items/{id}/history")(endpoint)
    app.get("/reports/{item_id}")(tagged)
    app.get("/never")(never)
    app.api_route("/items/{item_id}", methods=["PUT", "DELETE"])(endpoint)
    app.post("/import")(endpoint)
    rules = [Rule("/reports/**", tags=["reports"])]
    settings = CacheSettings()
    if wrapped:
        return CacheMiddleware(app, settings, store=MemoryStore(), rules=rules)
    app.add_middleware(CacheMiddleware, settings=settings, rules=rules)
    return app


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_map_shows_the_groups_of_reads_and_what_writes_purge(*, wrapped: bool) -> None:
    """However the middleware is put around the application; rules and decorators count."""
    of = route_map(application(wrapped=wrapped))
    assert {read.path: read.groups for read in of.reads} == {
        "/items": ("p:/items", "c:/items"),
        "/items/{item_id}": ("p:/items", "p:/items/{item_id}"),
        "/items/{id}/history": ("p:/items", "p:/items/{id}", "p:/items/{id}/history"),
        "/reports/{item_id}": (
            "p:/reports",
            "p:/reports/{item_id}",
            "g:item:{item_id}",
            "g:reports",
        ),
        "/never": ("p:/never",),
    }
    assert [read.path for read in of.reads if not read.cached] == ["/never"]
    put, post = of.writes
    assert (put.methods, put.path) == (("DELETE", "PUT"), "/items/{item_id}")
    assert put.reads == ("/items", "/items/{item_id}", "/items/{id}/history")
    assert put.shared == ("c:/items", "p:/items/{item_id}", "p:/items/{item_id}")
    assert put.groups == ("p:/items/{item_id}", "c:/items")
    assert post.reads == ()
    assert of.orphans == ()


def test_the_map_is_readable() -> None:
    """One line for a read, one for each read that a write purges."""
    text = str(route_map(application()))
    assert "  /items/{item_id}     p:/items  p:/items/{item_id}\n" in text
    assert "  /never               never cached\n" in text
    assert "  DELETE, PUT /items/{item_id}\n      /items               by c:/items\n" in text
    assert "      /items/{id}/history  by p:/items/{item_id}\n" in text
    assert "  POST /import\n      none; it purges p:/import\n" in text
    assert text.isascii()


def test_mounts_hosts_and_converters_are_in_the_map() -> None:
    """Each under the path that it has from outside."""
    inner = [Route("/a/{n:int}", endpoint, methods=["GET", "PUT"]), Route("/u/{u:uuid}", endpoint)]
    app = Starlette(
        routes=[
            Mount("/in", routes=inner),
            Host("{tenant}.example.org", app=Starlette(routes=[Route("/b", endpoint)])),
            Mount("/raw", app=endpoint),
        ]
    )
    of = route_map(app)
    assert [read.path for read in of.reads] == [
        "/in/a/{n}",
        "/in/u/{u}",
        "{tenant}.example.org/b",
        "/raw/{path}",
    ]
    assert of.reads[1].groups == ("p:/in", "p:/in/u", "p:/in/u/{u}")
    assert of.reads[3].groups == ("p:/", "p:/raw", "p:/raw/{path}", "c:/raw/{path}", "o")
    assert [write.methods for write in of.writes] == [("PUT",), ("any method",)]
    assert of.writes[0].groups == ("p:/in/a/{n}", "p:/in/u", "o")


def test_static_files_are_no_write(tmp_path: Path) -> None:
    """They answer GET and HEAD alone."""
    app = FastAPI(openapi_url=None)
    app.mount("/static", StaticFiles(directory=tmp_path))
    of = route_map(app)
    assert [read.path for read in of.reads] == ["/static/{path}"]
    assert not of.writes


def test_an_application_without_routes_has_an_empty_map() -> None:
    """A bare ASGI application."""

    async def bare(scope: Any, receive: Any, send: Any) -> None: ...

    assert route_map(bare).reads == ()
    assert_invalidates(bare, "PUT /a/b", "GET /a")
    assert_does_not_invalidate(bare, "PUT /a/b", "GET /a/c")


@pytest.mark.parametrize(
    ("write", "read", "does"),
    [
        ("PUT /items/5", "GET /items?page=2", True),
        ("PUT /items/5", "GET /items/5", True),
        ("PUT /items/05", "GET /items/5/history", True),
        ("delete /items/5", "get /items", True),
        ("PUT /items/5", "GET /items/6", False),
        ("POST /import", "GET /items", False),
    ],
)
def test_assertions_say_what_the_cache_would_do(write: str, read: str, *, does: bool) -> None:
    """Each has its negative twin."""
    app = application()
    right, wrong = assert_invalidates, assert_does_not_invalidate
    if not does:
        right, wrong = wrong, right
    right(app, write, read)
    with pytest.raises(AssertionError):
        wrong(app, write, read)


def test_a_failed_assertion_says_why() -> None:
    """Both routes, with their groups."""
    with pytest.raises(AssertionError) as failed:
        assert_invalidates(application(), "PUT /items/5", "GET /items/6")
    text = str(failed.value)
    assert "PUT /items/5 does not invalidate GET /items/6." in text
    assert "PUT /items/5 (route /items/{item_id}) purges p:/items/5, c:/items" in text
    assert "GET /items/6 (route /items/{item_id}) is in p:/items, p:/items/6" in text
    with pytest.raises(AssertionError, match="both have c:/items"):
        assert_does_not_invalidate(application(), "PUT /items/5", "GET /items")


@pytest.mark.parametrize(
    ("write", "read", "complaint"),
    [
        ("GET /items/5", "GET /items", "changes nothing"),
        ("PUT /items/5", "POST /items", "is no GET"),
        ("PUT /itmes/5", "GET /items", "PUT /itmes/5 has no route"),
        ("PUT /items/5", "GET /itmes", "GET /itmes has no route"),
        ("/items/5", "GET /items", "is no request"),
        ("PUT items/5", "GET /items", "is no request"),
        ("", "GET /items", "is no request"),
        ("PUT /items/5", "GET /never", "never cached"),
    ],
)
def test_a_slip_of_the_pen_fails_whatever_is_asserted(
    write: str, read: str, complaint: str
) -> None:
    """A typing error in a path must not make a negative assertion pass."""
    with pytest.raises(AssertionError, match=complaint):
        assert_invalidates(application(), write, read)
    if complaint != "never cached":
        with pytest.raises(AssertionError, match=complaint):
            assert_does_not_invalidate(application(), write, read)


def test_the_command_prints_the_map_of_an_application_in_the_current_directory(
    tmp_path: Path,
) -> None:
    """As for uvicorn."""
    (tmp_path / "shop.py").write_text(SOURCE)
    ran = command("routes", "shop:app", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "PUT /items/{item_id}\n      /items/{item_id}  by p:/items/{item_id}\n" in ran.stdout


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `maxage` as users do."""
    root = Path(__file__).resolve().parents[1] / "middleware"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "maxage", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ("shop", "'shop' names no application; it takes MODULE:APP, such as main:app."),
        (":app", "':app' names no application; it takes MODULE:APP, such as main:app."),
        ("nowhere:app", "'nowhere:app' cannot be loaded: no module 'nowhere'."),
        ("shop_x:nothing", "'shop_x' has no application 'nothing'."),
        ("shop_x:NAME", "'shop_x' has no application 'NAME'."),
        ("bad_x:app", "'bad_x:app' cannot be loaded: its import raised ZeroDivisionError: "),
    ],
)
def test_an_application_that_cannot_be_loaded_gets_one_sentence(
    named: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, and an exit code that scripts see."""
    (tmp_path / "shop_x.py").write_text(SOURCE + "\nNAME = 1\n")
    (tmp_path / "bad_x.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["routes", named]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"maxage: {complaint}")
    assert printed.err.count("\n") == 1


ORPHANS = """
from fastapi import FastAPI
from maxage import Rule, CacheMiddleware, cached

app, quiet = FastAPI(), FastAPI()

@app.get("/dashboard")
@app.get("/reports/{name}")
@app.put("/items/{item_id}")
@quiet.put("/items/{item_id}")
def endpoint(): ...

@quiet.get("/a")
@cached(isolated=True)
def isolated(): ...

@quiet.get("/b")
@cached(ttl=60)
def stated(): ...

quiet.get("/c/{name}")(endpoint)
quiet.add_middleware(CacheMiddleware, rules=[Rule("/c/*", tags=["c"])])
"""


def test_check_lists_the_orphans_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None is left where each states a lifetime, tags or isolation, on its route or by a rule."""
    (tmp_path / "orphaned.py").write_text(ORPHANS)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["routes", "orphaned:app", "--check"]) == 1
    assert capsys.readouterr().out == "/reports/{name}\n/dashboard\n"
    assert main(["routes", "orphaned:quiet", "--check"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["routes", "orphaned:app"]) == 0
    assert "      /dashboard             by o\n" in capsys.readouterr().out
