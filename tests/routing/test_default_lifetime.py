"""What the default lifetime does not apply to: probes, secrets, files, the API's own pages."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from maxage import CacheSettings, Rule, cached
from maxage.routing.default_lifetime import SecretNames, takes_default
from tests.support.asgi import CounterApp, call
from tests.support.caching import cache_of, status_of

pytestmark = pytest.mark.anyio
SECRETS = SecretNames(CacheSettings().cache_credential_query)


async def is_stored(app: Any, target: str, **options: Any) -> bool:
    """Whether the second of two requests is a hit."""
    middleware = cache_of(app, **options)
    await call(middleware, target=target.encode())
    return b"hit" in status_of(await call(middleware, target=target.encode()))


@pytest.mark.parametrize(
    "query",
    [
        b"token=a",
        b"page=1&token=a",
        b"TOKEN=a",
        b"to%6Ben=a",
        b"token=",
        b"access_token=a",
        b"accessToken=a",
        b"access-token=a",
        b"refresh_token=a",
        b"id_token=a",
        b"signature=a",
        b"sig=a",
        b"X-Amz-Signature=a",
        b"X-Goog-Signature=a",
        b"api_key=a",
        b"apiKey=a",
        b"api-key=a",
        b"apikey=a",
        b"x-api-key=a",
        b"client_secret=a",
        b"password=a",
        b"otp=a",
        b"ticket=a",
        b"code=a&state=b",
        b"state=b&page=1&code=a",
        b"invite_token=a",
        b"csrfmiddlewaretoken=a",
        b"_wpnonce=a",
        b"oauth_verifier=a",
        b"SAMLResponse=a",
        b"PHPSESSID=a",
        b"mfa_code=a",
        b"subscription-key=a",
        b"AWSAccessKeyId=a",
        b"Key-Pair-Id=a",
        b"token[]=a",
        b"user[token]=a",
        b"user%5Btoken%5D=a",
    ],
)
def test_a_query_with_a_secret_takes_no_default_lifetime(query: bytes) -> None:
    """Its URL is one client's own: a password reset, a signed link, a return from a login."""
    assert not takes_default("/x", query, SECRETS)


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"zip_code=1",
        b"keyword=a",
        b"tokenize=1",
        b"tokens=3",
        b"max_token=3",
        b"code=a",
        b"state=a",
        b"promo_code=a&state=b",
        b"code=a&states=b",
        b"q=token",
        b"q=token=",
        b"design=1",
        b"hotp=1",
        b"signature_size=1",
        b"key=a",
        b"token",
        b"page_token=a",
        b"nextPageToken=a",
        b"user[name]=a",
    ],
)
def test_only_whole_names_are_secrets(query: bytes) -> None:
    """What merely holds such a word goes on being cached."""
    assert takes_default("/x", query, SECRETS)


@pytest.mark.parametrize(
    "name", ["token", "reset_token", "accessToken", "otp:str", "signature:path"]
)
async def test_a_path_with_a_secret_takes_no_default_lifetime(name: str) -> None:
    """A link of a mail is good for one request: a hit would say the same once more."""
    runs = FastAPI()

    @runs.get(f"/links/{{{name}}}")
    @runs.get(f"/items/{{item_id}}/{{{name}}}/done")
    @runs.get("/items/{token_id}")
    async def answer() -> int:
        return 1

    assert not await is_stored(runs, "/links/a")
    assert not await is_stored(runs, "/items/1/a/done")
    assert await is_stored(runs, "/items/1")


async def test_a_decorated_path_with_a_secret_is_stored() -> None:
    app = FastAPI()
    app.get("/links/{token}")(cached(ttl=60)(lambda: 1))
    assert await is_stored(app, "/links/a")


@pytest.mark.parametrize(
    ("name", "query", "stored"),
    [
        ("hush", "hush=a", False),
        ("hush", "token=a", True),
        ("*_hush", "my_hush=a", False),
        ("*_hush", "myHush=a", False),
        ("*_hush", "hushed=a", True),
        ("hush*x", "hush.x=a", False),
        ("hush*x", "hush.y=a", True),
        ("", "code=a&state=b", False),
    ],
)
async def test_the_names_of_secrets_are_configurable(
    name: str, query: str, *, stored: bool
) -> None:
    """As the names of credentials among the headers are."""
    assert await is_stored(CounterApp(), f"/x?{query}", cache_credential_query=name) is stored


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("text/plain; version=0.0.4; charset=utf-8", False),
        ("text/plain; version=1.0.0; charset=utf-8; escaping=underscores", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", False),
        ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", False),
        ("text/plain; charset=utf-8", True),
        ("text/plain; version=2", True),
        ("application/vnd.google.protobuf", True),
    ],
)
async def test_metrics_are_known_by_their_media_type(kind: str, *, stored: bool) -> None:
    """Whatever their path is."""
    app = CounterApp(headers={"content-type": kind})
    assert await is_stored(app, "/figures") is stored
    app = CounterApp(headers={"content-type": kind})
    assert await is_stored(app, "/figures", rules=[Rule("/**", ttl=60)])


@pytest.mark.parametrize("front", ["", "/api/v1"])
@pytest.mark.parametrize(
    "word",
    [
        "health", "Health", "health/", "healthz", "health-check", "healthcheck", "livez",
        "liveness", "readyz", "readiness", "metrics", "ping", "health/live", "health/ready",
        "healthz/live", "_health", "-/ready", "health.json", "__heartbeat__",
        "readiness_check", "liveness-probe", "startupz",
    ],
)  # fmt: skip
def test_a_probe_takes_no_default_lifetime(front: str, word: str) -> None:
    """It asks for the state of this moment."""
    assert not takes_default(f"{front}/{word}", b"", SECRETS)


@pytest.mark.parametrize("path", ["/live", "/ready"])
def test_live_and_ready_are_probes_at_the_root_only(path: str) -> None:
    """Elsewhere they are ordinary words: the live streams of a channel."""
    assert not takes_default(path, b"", SECRETS)
    assert takes_default("/channels" + path, b"", SECRETS)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/health/articles", "/healthy", "/metrics/7", "/shipping", "/already", "/alive",
        "/x-metrics", "/mapping", "/wealth",
    ],
)  # fmt: skip
def test_other_paths_take_it(path: str) -> None:
    """Only a last segment that is such a word."""
    assert takes_default(path, b"", SECRETS)


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_long_paths_and_queries_cost_linear_time(size: int) -> None:
    """They come from strangers."""
    assert takes_default("/health" * size + "/x", b"code=&" * size, SECRETS)
    assert takes_default("/" * size + "x", b"access_" * size, SECRETS)


@pytest.mark.parametrize("target", ["/health", "/x?token=a", "/x?code=a&state=b"])
async def test_without_default_lifetime_a_stated_one_holds(target: str) -> None:
    """Of the response, or of a rule."""
    assert not await is_stored(CounterApp(), target)
    assert await is_stored(CounterApp(headers={"cache-control": "max-age=60"}), target)
    assert await is_stored(CounterApp(), target, rules=[Rule("/**", ttl=60)])


async def test_a_decorated_probe_is_stored() -> None:
    """As its decorator says."""
    app = FastAPI(openapi_url=None)
    app.get("/health")(cached(ttl=60)(lambda: "x"))
    assert await is_stored(app, "/health")
    assert await is_stored(app, "/health?token=a")


@pytest.mark.parametrize("mounted", ["", "/sub"])
@pytest.mark.parametrize("named", [False, True])
async def test_the_pages_of_an_api_about_itself_take_no_default_lifetime(
    mounted: str, *, named: bool
) -> None:
    """They change with its routes, which no write tells; and a page named like them is stored."""
    paths = ["/o.json", "/d", "/r"] if named else ["/openapi.json", "/docs", "/redoc"]
    options: Any = dict(zip(("openapi_url", "docs_url", "redoc_url"), paths, strict=True))
    app = FastAPI(**options)
    app.get("/docs/page")(lambda: "x")
    whole = Starlette(routes=[Mount(mounted, app=app)]) if mounted else app
    for path in paths:
        assert not await is_stored(whole, mounted + path), path
    assert await is_stored(whole, mounted + "/docs/page")


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_changed_static_file_is_shown_at_once(
    tmp_path: Path, framework: Any, caplog: pytest.LogCaptureFixture, *, wrapped: bool
) -> None:
    """The file system tells of no change; what is stored is validated."""
    file = tmp_path / "a.js"
    file.write_text("old")
    files: Any = StaticFiles(directory=tmp_path)
    app = framework(middleware=[Middleware(GZipMiddleware)])
    app.mount("/static", GZipMiddleware(files) if wrapped else files)
    middleware = cache_of(app)
    for text in ("old", "newer", "newest one"):
        file.write_text(text)
        for _ in range(2):
            assert (await call(middleware, path="/static/a.js")).body == text.encode()
    file.unlink()
    assert (await call(middleware, path="/static/a.js")).status == 404
    assert not caplog.records, "the route is known, and no layer hides it"


async def test_another_mounted_application_goes_on_being_cached() -> None:
    """Only files are known to change without a write."""
    inner = Starlette(routes=[Route("/a", lambda _: PlainTextResponse("x"))])
    assert await is_stored(Starlette(routes=[Mount("/m", app=inner)]), "/m/a")


async def test_static_files_alone_take_no_default_lifetime(tmp_path: Path) -> None:
    """They are the whole application, and change without a write."""
    (tmp_path / "x.txt").write_text("one")
    middleware = cache_of(StaticFiles(directory=tmp_path))
    await call(middleware, path="/x.txt")
    (tmp_path / "x.txt").write_text("another")
    assert (await call(middleware, path="/x.txt")).body == b"another"
