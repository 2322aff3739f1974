"""The page: what the cache does, why, what is stored, and purges; never without a guard."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from maxage import CacheMiddleware, CacheSettings, MemoryStore
from maxage.errors import SettingsError
from maxage.fastapi import admin_router
from maxage.fastapi.admin.chart import HEIGHT, KINDS, minutes, requests_chart
from maxage.fastapi.admin.session import SESSION_SECONDS, Session
from maxage.fastapi.admin.state import read_state
from maxage.insight.overview import read_overview
from maxage.insight.record import INTERVAL_SECONDS, Interval
from maxage.redis_store.shared_state import redis_state_for
from tests.support.asgi import Recorded, call, http_scope
from tests.support.fault_proxy import FaultProxy
from tests.support.raw_http import get
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workers import Worker

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-this-test"
BEARER = {"authorization": f"Bearer {TOKEN}"}
HTML = {"accept": "text/html,application/xhtml+xml"}
PAGES = ["/cache/", "/cache/explain", "/cache/stored", "/cache/purge"]


def admins(x_role: Annotated[str, Header()] = "") -> None:
    """Let administrators through."""
    if x_role != "admin":
        raise HTTPException(403, "for administrators")


def application(namespace: str = "page", **guards: Any) -> FastAPI:
    """Items, and the page under /cache."""
    settings = CacheSettings(cache_namespace=namespace, cache_insight=True)
    app = FastAPI()
    guards = guards or {"token": TOKEN}
    app.include_router(admin_router(settings=settings, **guards), prefix="/cache")

    @app.get("/items/{n}")
    async def item(n: int) -> int:
        return n

    @app.put("/items/{n}")
    async def put(n: int) -> int:
        return n

    app.add_middleware(CacheMiddleware, settings=settings, store=MemoryStore())
    return app


async def text_of(app: Any, path: str, headers: dict[str, str] = BEARER, **more: Any) -> str:
    """Return the text of a page, without its tags."""
    answer = await call(app, path=path, headers=headers, **more)
    assert answer.status in {200, 422}, answer.body
    return words(answer)


def words(answer: Recorded) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.body.decode())).split())


async def send(app: Any, path: str, fields: dict[str, str], **headers: str) -> Recorded:
    """Send a form."""
    sent = {"content-type": "application/x-www-form-urlencoded"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return await call(app, "POST", path, headers=sent, body=urlencode(fields).encode())


# guards


@pytest.mark.parametrize("guards", [{}, {"token": None}, {"dependencies": []}])
def test_without_a_guard_it_cannot_be_made(guards: dict[str, Any]) -> None:
    """The error says what every client could do, and how to add a guard."""
    with pytest.raises(SettingsError, match=r"admin_router.*see and purge.*give it token="):
        admin_router(**guards)


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_is_shown_without_the_token(path: str) -> None:
    """A browser is led to the form that asks for it, a script gets 401."""
    app = application()
    led = await call(app, path=path, headers=HTML)
    assert (led.status, led.header("location")) == (303, b"login")
    assert (await call(app, path=path)).status == 401
    wrong = await call(app, path=path, headers={"authorization": "Bearer another-token-of-a-test"})
    assert wrong.status == 401
    assert (await call(app, path=path, headers=BEARER)).status == 200


async def test_a_purge_needs_the_token_too() -> None:
    app = application()
    answer = await send(app, "/cache/purge", {"everything": "on", "confirmed": "on"}, **HTML)
    assert answer.status == 401


async def test_a_browser_gets_a_session_for_the_token() -> None:
    """Its cookie is for this site and this page alone, and no script can read it."""
    app = application()
    assert (await send(app, "/cache/login", {"token": "wrong"})).status == 401
    entered = await send(app, "/cache/login", {"token": TOKEN})
    assert (entered.status, entered.header("location")) == (303, b"./")
    cookie = (entered.header("set-cookie") or b"").decode()
    for part in ("HttpOnly", "SameSite=strict", "Path=/cache/", f"Max-Age={SESSION_SECONDS}"):
        assert part in cookie
    assert TOKEN not in cookie
    session = {"cookie": cookie.partition(";")[0]}
    assert (await call(app, path="/cache/", headers=session | HTML)).status == 200
    left = await call(app, "POST", "/cache/logout", headers=session)
    assert b'maxage_admin=""' in (left.header("set-cookie") or b"")


async def test_a_session_ends_and_cannot_be_made_without_the_token() -> None:
    now = 1_000_000.0
    session, response = Session(TOKEN.encode(), lambda: now), Response()
    session.begin(Request(http_scope(path="/cache/login")), response)
    name, _, value = response.headers["set-cookie"].partition(";")[0].partition("=")

    async def holds(value: str) -> bool:
        try:
            await session.check(Request(http_scope(headers={"cookie": f"{name}={value}"})))
        except HTTPException as refused:
            return refused.status_code != 401
        return True

    ends, _, signature = value.partition(".")
    assert await holds(value)
    for forged in ("", ".", f"{int(ends) + 1}.{signature}", f"{ends}.", f"{ends}.é", "x.y"):
        assert not await holds(forged)
    now += SESSION_SECONDS - 1
    assert await holds(value)
    now += 1
    assert not await holds(value)


async def test_checks_of_the_application_guard_all_of_it() -> None:
    """Its style sheet and the form for the token too, where there is one."""
    app = application(dependencies=[Depends(admins)])
    for path in [*PAGES, "/cache/style.css"]:
        assert (await call(app, path=path)).status == 403
        assert (await call(app, path=path, headers={"x-role": "admin"})).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec_fetch_site": "same-origin", "origin": "http://testserver"}, 200),
        ({"origin": "http://testserver"}, 200),
        ({}, 200),
    ],
)
async def test_the_page_of_another_site_cannot_purge(headers: dict[str, str], status: int) -> None:
    """Even where the application's own cookie would let it."""
    app = application()
    fields = {"names": "/items/1", "confirmed": "on"}
    assert (await send(app, "/cache/purge", fields, **BEARER, **headers)).status == status


# what a browser may do with it


@pytest.mark.parametrize("path", [*PAGES, "/cache/login", "/cache/style.css"])
async def test_pages_run_no_script_load_nothing_and_are_never_stored(path: str) -> None:
    app = application()
    answer = await call(app, path=path, headers=BEARER)
    policy = (answer.header("content-security-policy") or b"").decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.header("cache-control") == b"no-store"
    assert answer.header("cache-status") == b"maxage; fwd=bypass; detail=uncached"
    body = answer.body.decode()
    for forbidden in ("<script", "style=", "onclick", "http://", "https://", "//cdn"):
        assert forbidden not in body


async def test_what_clients_sent_is_shown_as_text() -> None:
    """No URL, header or name makes markup of a page."""
    app = application()
    bad = "<script>alert(1)</script>"
    await call(app, path="/items/1", query=f"q={bad}".encode())
    for path, query in (
        ("/cache/", {}),
        ("/cache/explain", {"request": f"GET /{bad}", "headers": f"X: {bad}"}),
        ("/cache/explain", {"request": bad}),
        ("/cache/stored", {"name": f"/{bad}"}),
        ("/cache/purge", {"name": bad}),
    ):
        answer = await call(app, path=path, query=urlencode(query).encode(), headers=BEARER)
        assert b"<script" not in answer.body


# what it shows


async def test_the_overview_shows_requests_by_route_and_url() -> None:
    app = application("page-figures")
    # All applications of a process are counted together: this route is of this test alone.
    app.add_api_route("/figures/{n}", lambda n: n, methods=["GET", "PUT"])
    for _ in range(3):
        await call(app, path="/figures/1")
    await call(app, "PUT", "/figures/1")
    told = await text_of(app, "/cache/")
    assert "/figures/{n} 4 50.0 %" in told
    assert "GET /figures/1 3 66.7 %" in told
    assert "All is well" in told


async def test_without_figures_it_says_how_to_get_them() -> None:
    settings = CacheSettings(cache_namespace="page-off")
    app = FastAPI()
    app.include_router(admin_router(settings=settings, token=TOKEN), prefix="/cache")
    assert "set CACHE_INSIGHT=true" in await text_of(app, "/cache/")


async def test_it_explains_a_request() -> None:
    """Of its own host, where none is named."""
    app = application("page-explain")
    await call(app, path="/items/1")
    told = await text_of(app, "/cache/explain", query=urlencode({"request": "/items/1"}).encode())
    assert " Hit " in told
    told = await text_of(
        app, "/cache/explain",
        query=urlencode({"request": "GET /items/1", "headers": "Cookie: a=b"}).encode(),
    )  # fmt: skip
    assert "cookie" in told


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"request": "nonsense"}, "it takes"),
        ({"request": "GET /x", "headers": "no colon"}, "has no colon"),
    ],
)
async def test_what_is_no_request_is_answered_by_a_sentence(
    query: dict[str, str], said: str
) -> None:
    app = application()
    answer = await call(app, path="/cache/explain", query=urlencode(query).encode(), headers=BEARER)
    assert answer.status == 422
    assert said in words(answer)


async def test_it_shows_what_is_stored_under_a_path() -> None:
    app = application("page-stored")
    for n in (1, 2):
        await call(app, path=f"/items/{n}")
    for name, count in (("/items", "2 stored responses"), ("/items/1", "1 stored response."),
                        ("/nothing", "Nothing is stored under /nothing"),
                        ("a-tag", "Nothing is stored under a-tag")):  # fmt: skip
        assert count in await text_of(
            app, "/cache/stored", query=urlencode({"name": name}).encode()
        )


# purges


async def test_a_purge_asks_before_it_is_made() -> None:
    """It says how many responses that are; then only what was named is purged."""
    app = application("page-purge")

    async def is_hit(n: int) -> bool:
        answer = await call(app, path=f"/items/{n}")
        return b"; hit" in (answer.header("cache-status") or b"")

    for n in (1, 2):
        await call(app, path=f"/items/{n}")
    asked = await send(app, "/cache/purge", {"names": "/items/1"}, **BEARER)
    assert "Purge /items/1? 1 stored response." in words(asked)
    assert await is_hit(1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"names": ""}, "Name at least one path or tag"),
        ({"names": "/a", "everything": "on"}, "either names or everything"),
    ],
)
async def test_a_purge_of_what_is_no_name_is_refused_with_a_sentence(
    fields: dict[str, str], said: str
) -> None:
    answer = await send(application(), "/cache/purge", fields, **BEARER)
    assert answer.status == 422
    assert said in words(answer)


# all workers together, on a real server

SOURCE = """
from fastapi import FastAPI
from maxage import CacheMiddleware
from maxage.fastapi import admin_router

app = FastAPI(openapi_url=None)

@app.get("/items/{n}")
async def item(n: int):
    return n

app.include_router(admin_router(token="a-token-of-this-test"), prefix="/cache")
app.add_middleware(CacheMiddleware)
"""


def test_the_page_shows_two_workers_and_redis_and_stays_when_redis_is_gone(
    tmp_path: Path,
) -> None:
    """It then names the trouble, and still takes a purge, which is owed."""
    with RedisServer.start() as redis:
        env = {"CACHE_INSIGHT": "true", "REDIS_URL": redis.url, "CACHE_NAMESPACE": "pages"}
        with Worker.start(SOURCE, tmp_path=tmp_path, env=env, workers=2) as served:
            for _ in range(20):
                assert get(served.port, "/items/1").status == 200
            settings = CacheSettings(redis_url=redis.url, cache_namespace="pages")

            def complete() -> bool:
                told = read_overview(settings)
                return len(told.workers) == 2 and told.totals.requests >= 20

            wait_until(complete, "both workers publish all requests")
            page = get(served.port, "/cache/", headers=BEARER).body.decode()
            assert "2 workers" in page
            assert "All is well" in page
            redis.stop()
            page = get(served.port, "/cache/", headers=BEARER)
            assert page.status == 200
            assert "Redis does not answer" in page.body.decode()
            stored = get(served.port, "/cache/stored?name=/items", headers=BEARER)
            assert "what is stored is not known now" in stored.body.decode()


def test_a_server_that_takes_no_writes_is_a_trouble(redis_server: RedisServer) -> None:
    """No worker can publish its figures there: the page must not say that all is well."""
    with RedisServer.start(
        args=("--replicaof", redis_server.host, str(redis_server.port))
    ) as replica:
        settings = CacheSettings(redis_url=replica.url, cache_namespace="pages-replica")
        wait_until(lambda: "role" in str(read_state(settings).troubles), "it is a replica")
        told = redis_state_for(replica.url, "pages-replica")
        told.owe(["p:/a"])
        troubles = " ".join(read_state(settings).troubles)
        told.close()
    assert "Name the primary in REDIS_URL" in troubles
    assert "Purges of 1 group are owed" in troubles


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (lambda proxy: proxy.error("MISCONF", commands={"SET"}), "Redis, permissions: MISCONF"),
        (lambda proxy: proxy.delay(0.1), "Redis, latency: 1"),
    ],
    ids=["refuses", "slow"],
)
def test_a_server_that_answers_and_serves_nothing_is_a_trouble(
    fault: Callable[[FaultProxy], None], trouble: str, fault_proxy: FaultProxy
) -> None:
    """All was said to be well, since a worker that owes cannot publish it there."""
    settings = CacheSettings(redis_url=fault_proxy.url, cache_insight=True)
    assert read_state(settings).troubles == ()
    fault(fault_proxy)
    troubles = " ".join(read_state(settings).troubles)
    assert trouble in troubles
    assert ".." not in troubles


def test_a_full_server_that_evicts_nothing_is_a_trouble() -> None:
    """A wrong password is told as such, too."""
    options = ("--maxmemory", "500kb", "--maxmemory-policy", "noeviction")
    with RedisServer.start(args=options) as redis:
        settings = CacheSettings(redis_url=redis.url, cache_namespace="pages-full")
        assert "it is full and refuses writes" in " ".join(read_state(settings).troubles)
        wrong = CacheSettings(redis_url=redis.url.replace("://", "://:wrong@"))
        assert "Correct the user name and the password" in " ".join(read_state(wrong).troubles)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium is installed")
def test_a_browser_shows_the_page_without_complaint(tmp_path: Path) -> None:
    """Its console stays empty: the policy forbids nothing that the page wants."""
    source = SOURCE.replace('token="a-token-of-this-test"', "dependencies=[Depends(lambda: None)]")
    source = source.replace("import FastAPI", "import Depends, FastAPI")
    with Worker.start(source, tmp_path=tmp_path, env={"CACHE_INSIGHT": "true"}) as served:
        get(served.port, "/items/1")
        for path in PAGES:
            ran = subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking", "--enable-logging=stderr",
                 f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
                 f"http://127.0.0.1:{served.port}{path}"],
                capture_output=True, timeout=60, check=True,
            )  # fmt: skip
            assert b"CONSOLE" not in ran.stderr
            assert b"<h1>" in ran.stdout


# charts


def test_a_chart_is_as_high_as_its_tallest_bar() -> None:
    """The pieces of a bar lie on each other, and the newest one is at the right."""
    intervals = [Interval(begins=0, hits=10), Interval(begins=5, hits=30, misses=20)]
    chart = requests_chart(intervals)
    assert chart.top * INTERVAL_SECONDS == 50
    older, hits, misses = chart.bars
    assert [older.kind, hits.kind, misses.kind] == [KINDS[0], KINDS[0], "misses"]
    assert older.x < hits.x == misses.x
    assert misses.y == 0
    assert misses.y + misses.height == hits.y
    assert hits.y + hits.height == HEIGHT


def test_a_chart_without_requests_is_empty() -> None:
    assert requests_chart([]).bars == ()
    assert requests_chart([Interval(begins=0)]).bars == ()
    assert minutes([]) == ()


def test_minutes_begin_with_the_newest() -> None:
    intervals = [Interval(begins=n * INTERVAL_SECONDS, hits=1) for n in range(13)]
    assert [(one.ago, one.requests) for one in minutes(intervals)] == [(0, 12), (1, 1)]
