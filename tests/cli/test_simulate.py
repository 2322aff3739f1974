"""`maxage simulate`: hit rates of a log, as a table, as JSON and as a plot."""

import gzip
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Command

SHOP = """
from fastapi import FastAPI
from maxage import CacheMiddleware, cached, uncached

app = FastAPI()
app.add_middleware(CacheMiddleware)

@app.get("/items")
async def many(): ...

@app.get("/items/{number:int}")
@cached(ttl=10)
async def one(number: int): ...

@app.put("/items/{number:int}")
async def change(number: int): ...

@app.get("/now")
@uncached
async def now(): ...
"""


def line(second: int, asked: str, status: int = 200, tail: str = "0.500") -> str:
    """A line of the combined format."""
    time = f"21/Sep/2026:14:{second // 60:02}:{second % 60:02} +0000"
    return f'192.0.2.7 - - [{time}] "{asked} HTTP/1.1" {status} 1000 "-" "x" {tail}'


LINES = [
    line(0, "GET /items"),
    line(1, "GET /items"),
    line(2, "PUT /items/5"),
    line(3, "GET /items"),
    line(4, "PUT /items/5", 422),
    line(5, "GET /items"),
    *(line(second, "GET /items/7") for second in (10, 19, 30, 45, 70)),
    *(line(second, "GET /now") for second in (80, 81)),
]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of a shop, whose module is in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "simulated_shop", raising=False)
    (tmp_path / "simulated_shop.py").write_text(SHOP)
    path = tmp_path / "access.log"
    path.write_text("\n".join(LINES))
    return path


def told(command: Command, *arguments: str) -> dict:
    """The JSON of a run that succeeds."""
    ran = command("simulate", *arguments, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_routes_lifetimes_and_purges_are_those_of_the_application(
    log: Path, command: Command
) -> None:
    """A refused write purges nothing; `now` are its own lifetimes."""
    said = told(command, str(log), "--app", "simulated_shop:app", "--ttl", "20", "--ttl", "60")
    routes = {one["route"]: one for one in said["routes"]}
    assert routes["/items"]["now"]["hit_rate"] == 2 / 4
    item = routes["/items/{number:int}"]
    assert item["now"]["hit_rate"] == 1 / 5
    assert [cell["hit_rate"] for cell in item["lifetimes"]] == [2 / 5, 3 / 5]
    assert item["now"]["saved_bytes"] == 1000
    assert item["now"]["saved_seconds"] == 0.5
    assert routes["/now"]["not_stored"] == {"uncached": 2}
    assert said["requests"] == 11
    assert said["writes"] == 2
    assert [one["rule"] for one in said["proposals"]] == ['Rule("/items/{number:int}", ttl=60)']


def test_without_an_application_paths_are_grouped_by_shape(log: Path, command: Command) -> None:
    """And purged by their segments."""
    said = told(command, str(log))
    routes = {one["route"]: one for one in said["routes"]}
    assert list(routes) == ["/items/{}", "/items", "/now"]
    assert routes["/items"]["now"]["hit_rate"] == 2 / 4
    assert not routes["/items/{}"]["purged"]


def test_gzipped_logs_stdin_and_several_files_are_one_log(
    log: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first."""
    packed = log.with_suffix(".gz")
    packed.write_bytes(gzip.compress("\n".join(LINES[:6]).encode()))
    log.write_text("\n".join(LINES[6:]))
    whole = told(command, str(packed), str(log))
    assert whole["total"]["requests"] == 11
    assert told(command, str(packed))["total"]["requests"] == 4


def test_lines_that_tell_of_no_request_are_counted_and_named(log: Path, command: Command) -> None:
    """Blank lines and comments are neither."""
    broken = ["garbage", "# comment", "", line(90, "\\x16\\x03", 400), "more garbage"]
    log.write_text("\n".join([*LINES, *broken]))
    ran = command("simulate", str(log), "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["malformed"] == {"not an access log line": 2, "no method": 1}
    count, out = len(LINES), "maxage: left out,"
    assert ran.err.splitlines() == [
        f"{out} not an access log line: 2 lines of {count + 5}, first {log}:{count + 1}.",
        f"{out} no method: 1 line of {count + 5}, first {log}:{count + 4}.",
    ]


def test_a_damaged_end_is_named_and_the_rest_counts(log: Path, command: Command) -> None:
    """A gzip file that is still being written."""
    packed = log.with_suffix(".gz")
    whole = gzip.compress("\n".join(LINES * 200).encode())
    packed.write_bytes(whole[: len(whole) // 2])
    ran = command("simulate", str(packed), "--json")
    assert ran.code == 0
    assert ran.err == f"maxage: {packed}: the end cannot be read; what comes before it counts.\n"
    assert json.loads(ran.out)["requests"] > 0


def test_the_table_has_hit_rates_and_what_to_paste(log: Path, command: Command) -> None:
    """One row for all routes, and one for each."""
    ran = command("simulate", str(log), "--app", "simulated_shop:app", "--ttl", "60")
    assert ran.code == 0
    lines = [one.split() for one in ran.out.splitlines()]
    assert ["all", "11", "27.3", "%", "45.5", "%", "3.0", "kB", "1.5", "s"] in lines
    assert '    Rule("/items/{number:int}", ttl=60),' in ran.out
    assert "Not stored on /now: uncached 2." in ran.out


def test_the_plot_is_an_svg_with_a_line_for_each_route(log: Path, command: Command) -> None:
    """And one for all; its description says the same in words."""
    plot = log.with_suffix(".svg")
    told(command, str(log), "--svg", str(plot))
    root = ElementTree.fromstring(plot.read_text())
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    drawn = [one for one in root.iter(f"{space}polyline") if one.get("points", "").count(",") > 2]
    assert len(drawn) == 1 + 3
    assert (root.findtext(f"{space}desc") or "").startswith("All routes: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no server is named, and an embedded store is seen by its own process alone; set"),
        (["/nowhere.log"], "the log '/nowhere.log' cannot be read: No such file or directory."),
        (["access.log", "--size", "big"], "--size got 'big'; it takes bytes, or a number with KB"),
        (["access.log", "--app", "simulated_shop"], "'simulated_shop' names no application"),
        (["access.log", "--svg", "/nowhere/a.svg"], "'/nowhere/a.svg' cannot be written"),
        (["empty.log"], "empty.log: no line tells of a request (no lines); it takes the common"),
    ],
)
def test_a_slip_of_the_pen_gets_one_sentence(
    arguments: list[str], complaint: str, log: Path, command: Command
) -> None:
    """And exit code 2."""
    log.with_name("empty.log").write_text("")
    ran = command("simulate", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1


def test_uvicorns_own_lines_are_refused_by_their_name(
    command: Command, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    """They have no time."""
    log.write_text('INFO:     127.0.0.1:5 - "GET /items HTTP/1.1" 200 OK\n' * 3)
    ran = command("simulate", str(log))
    assert ran.code == 2
    assert "no time (uvicorn's own format)" in ran.err
