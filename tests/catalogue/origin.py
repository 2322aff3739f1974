"""The applications under attack: one process serves them all, told apart by the first segment.

Their handlers show what they read of the request, so that whatever reached another client is seen.
"""

# ruff: noqa: E402 - the faults come before what would bind the clock

import asyncio
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Annotated, Any

FAULTS = Path(os.environ.get("ORIGIN_FAULTS", os.devnull))
"""Says what fails in this process: `resolver hangs`, `resolver knows nothing`."""
_getaddrinfo, _time = socket.getaddrinfo, time.time
_jump = 0.0


def failing() -> str:
    """What fails now."""
    try:
        return FAULTS.read_text()
    except FileNotFoundError:
        return ""


def getaddrinfo(host: Any, *args: Any, **more: Any) -> Any:
    """Look up a name, if the resolver answers."""
    if host == "localhost":
        while failing() == "resolver hangs":
            time.sleep(0.02)
        if failing() == "resolver knows nothing":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _getaddrinfo(host, *args, **more)


socket.getaddrinfo = getaddrinfo
time.time = lambda: _time() + _jump

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request, Security
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBearer,
    OAuth2PasswordBearer,
)
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from maxage import CacheMiddleware, CacheSettings, cached, counters, uncached
from maxage.fastapi import health_router, purge_router
from maxage.redis import RedisCache

ROWS = Path(os.environ["ORIGIN_ROWS"])
PURGE_TOKEN = "the-token-of-the-catalogue"
numbers = itertools.count(1)
seen: dict[str, int] = {}
app = FastAPI(openapi_url=None)


def shown(text: object, **more: Any) -> Response:
    """A plain answer with a number that no other answer of this process has."""
    return PlainTextResponse(f"{text}\nnumber={next(numbers)}", **more)


def times(request: Request) -> int:
    """How often this URL was asked before, in this process."""
    path = request.url.path
    seen[path] = seen.get(path, 0) + 1
    return seen[path] - 1


# What the request says


@app.get("/{run}/reads/{name}")
def reads(name: str, request: Request) -> Response:
    """Show one header field, which nothing has declared."""
    return shown(f"{name}={request.headers.getlist(name)}")


@app.get("/{run}/url")
@app.get("/{run}/url/{rest:path}")
def url(request: Request) -> Response:
    """Show the URL in every way in which an application can read it."""
    scope = request.scope
    return shown(
        f"url={request.url} base={request.base_url} raw={scope['raw_path']!r}"
        f" path={scope['path']!r} query={scope['query_string']!r} items="
        f"{request.query_params.multi_items()}"
    )


@app.get("/{run}/search")
def search(q: str = "") -> Response:
    """Show the one query parameter that is declared."""
    return shown(f"q={q}.")


@app.get("/{run}/body")
async def body(request: Request) -> Response:
    """Show the body of a GET."""
    return shown(f"body={(await request.body())!r}")


@app.get("/{run}/varies/{name}")
def varies(name: str, request: Request) -> Response:
    """Choose the answer by one field, and say so."""
    return shown(f"{name}={request.headers.getlist(name)}", headers={"vary": name})


@app.get("/{run}/says")
def says(request: Request) -> Response:
    """Answer with the fields and the status that the query lists: `h=Name:value`, `status=`."""
    status = int(request.query_params.get("status", "200"))
    answer = Response(f"said\nnumber={next(numbers)}", status_code=status)
    for line in request.query_params.getlist("h"):
        name, _, value = line.partition(":")
        answer.headers.append(name, value)
    return answer


@app.get("/{run}/fragile")
def fragile(request: Request) -> Response:
    """Fail as a header field says that nothing has declared, and call that fresh."""
    status = int(request.headers.get("x-make-status", "200"))
    return shown(f"status={status}", status_code=status, headers={"cache-control": "max-age=60"})


@app.get("/{run}/tagged")
def tagged(request: Request) -> Response:
    """Give the answer a request's id and rate limit, as many applications do."""
    mark = request.headers.get("x-request-id", "none")
    limits = {
        "x-request-id": mark,
        "x-ratelimit-remaining": mark,
        "server-timing": f"db;desc={mark}",
    }
    return shown("tagged", headers=limits)


@app.get("/{run}/origin")
def reflects_origin(request: Request) -> Response:
    """Reflect Origin without saying Vary, as a careless application does."""
    asked = request.headers.get("origin")
    return shown("data", headers={"access-control-allow-origin": asked} if asked else {})


@app.get("/{run}/file")
def file() -> Response:
    """A body of 10 kB."""
    return PlainTextResponse("0123456789" * 1000)


@app.get("/{run}/negotiated")
def negotiated(request: Request) -> Response:
    """Answer 304 to any validator, as an application with ETags of its own does."""
    if "if-none-match" in request.headers:
        return Response(status_code=304, headers={"etag": '"own"'})
    return shown("whole", headers={"etag": '"own"'})


# Who the request is


@app.get("/{run}/me")
@app.get("/{run}/me/{rest:path}")
def me(request: Request) -> Response:
    """Show the user of the session, whatever stands behind the path."""
    return shown(f"user={request.cookies.get('session', 'nobody')}.")


@app.get("/{run}/cookie")
def declared_cookie(theme: Annotated[str, Cookie()] = "light") -> Response:
    """Show a cookie that is declared."""
    return shown(f"theme={theme}.")


async def token_header(x_clearance: Annotated[str | None, Header()] = None) -> str:
    """FastAPI's tutorial authenticates like this."""
    if x_clearance is None:
        raise HTTPException(400, "X-Clearance header invalid")
    return x_clearance


def outer(token: Annotated[str, Depends(token_header)]) -> str:
    """A dependency of a dependency."""
    return token


@app.get("/{run}/cleared")
def cleared(token: Annotated[str, Depends(outer)]) -> Response:
    """Behind a header that a dependency of a dependency declares."""
    return shown(f"clearance={token}.")


SCHEMES = {
    "key-header": APIKeyHeader(name="X-Own-Key", auto_error=False),
    "key-query": APIKeyQuery(name="api_key", auto_error=False),
    "key-cookie": APIKeyCookie(name="own_key", auto_error=False),
    "bearer": HTTPBearer(auto_error=False),
    "basic": HTTPBasic(auto_error=False),
    "oauth2": OAuth2PasswordBearer("token", auto_error=False),
}


def behind(scheme: Any) -> Any:
    """A check of this scheme's credentials, which accepts whatever is there."""

    def check(credentials: Annotated[Any, Security(scheme)]) -> str:
        if credentials is None:
            raise HTTPException(401)
        return str(credentials)

    return check


for scheme_name, scheme in SCHEMES.items():

    @app.get(f"/{{run}}/behind/{scheme_name}")
    def secret(who: Annotated[str, Depends(behind(scheme))]) -> Response:
        """Show what only the holder of the credentials may see."""
        return shown(f"secret of {who}")


def member(request: Request) -> str:
    """Authenticate, for `vary_by`."""
    known = {"Bearer ann": "ann", "Bearer bob": "bob"}
    user = known.get(request.headers.get("authorization", ""))
    if user is None:
        raise HTTPException(403 if "authorization" in request.headers else 401)
    return user


@app.get("/{run}/profile")
@cached(ttl=60, vary_by=member)
def profile(user: Annotated[str, Depends(member)]) -> Response:
    """Cached for each user apart."""
    return shown(f"profile of {user}.")


# What breaks


class Broken(Response):
    """An answer that goes wrong in the way that its name says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        length = {"long": b"9", "short": b"3", "word": b"abc", "negative": b"-1"}.get(self.how)
        headers = [(b"content-type", b"text/plain"), (b"cache-control", b"max-age=60")]
        if length is not None:
            headers.append((b"content-length", length))
        if self.how == "twice":
            headers += [(b"content-length", b"6"), (b"content-length", b"7")]
        if self.how == "before":
            raise RuntimeError("before the start")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.how == "started":
            raise RuntimeError("after the start")
        await send({"type": "http.response.body", "body": b"BR", "more_body": True})
        if self.how == "during":
            raise RuntimeError("in the body")
        if self.how == "unfinished":
            return
        await send({"type": "http.response.body", "body": b"OKEN", "more_body": False})
        if self.how == "after":
            raise RuntimeError("after the body")


@app.get("/{run}/broken/{how}")
def broken(how: str, request: Request) -> Response:
    """Go wrong the first time, and be well afterwards."""
    return Broken(how) if times(request) == 0 else shown("whole")


@app.get("/{run}/stream")
async def stream(request: Request, pieces: int = 20, pause: float = 0.02) -> Response:
    """Send numbered pieces with a pause between them."""

    async def numbered() -> Any:
        for piece in range(pieces):
            yield f"piece {piece} of {pieces}\n" + "." * 500
            await asyncio.sleep(pause)

    return StreamingResponse(numbered(), media_type="text/plain")


@app.get("/{run}/polite")
async def polite(request: Request) -> Response:
    """Stop early, and in good order, when the client hangs up: Starlette's documented pattern."""
    for row in range(20):
        if await request.is_disconnected():
            return shown(f"{row} of 20 rows")
        await asyncio.sleep(0.01)
    return shown("20 of 20 rows")


@app.get("/{run}/thread")
@uncached
async def thread() -> Response:
    """Use the event loop's own pool of threads, as many libraries do."""
    return shown(await asyncio.to_thread(str, "a thread was free"))


@app.get("/{run}/slow")
async def slow(seconds: float = 0.3) -> Response:
    """Take a while."""
    await asyncio.sleep(seconds)
    return shown("done")


# What changes


def row_of(run: str) -> Path:
    """Where a row lies: all nodes see the same."""
    return ROWS / run


@app.get("/{run}/row")
def read_row(run: str) -> Response:
    """Read the row."""
    path = row_of(run)
    return shown(f"row={path.read_text() if path.exists() else 0}.")


@app.put("/{run}/row")
@app.post("/{run}/row")
@app.delete("/{run}/row")
def write_row(run: str, value: str = "0", status: int = 200) -> Response:
    """Set the row, or refuse."""
    if status < 400:
        row_of(run).write_text(value)
    return shown("written", status_code=status)


items = RedisCache[int](int, prefix="item")


@app.get("/{run}/item")
async def item(run: str) -> Response:
    """Read an object through the typed cache; 7 is what the database says."""
    found = await items.aget_or_set(run, lambda: 7)
    return shown(f"item={found}.")


app.include_router(health_router(CacheSettings(), message="MonitorPy"), prefix="/{run}")
app.include_router(purge_router(token=PURGE_TOKEN), prefix="/{run}/ops")

# The applications


def part(name: str) -> FastAPI:
    """An application that is mounted."""
    inner = FastAPI(openapi_url=None)

    @inner.get("/{run}/who")
    def who(request: Request) -> Response:
        return shown(f"part={name} root={request.scope.get('root_path')}.")

    return inner


mounts = FastAPI(openapi_url=None)
mounts.mount("/a", part("a"))
mounts.mount("/b", part("b"))
origins = {"allow_origins": ["https://a.example", "https://b.example"], "allow_credentials": True}
any_origin: dict[str, Any] = {"allow_origins": ["*"]}


def cache(inner: Any, **more: Any) -> CacheMiddleware:
    """The cache with the settings of the environment, and these."""
    made = CacheMiddleware(inner, CacheSettings(**more))
    caches.append(made)
    return made


caches: list[CacheMiddleware] = []
sites: dict[str, Any] = {
    "plain": cache(app, cache_ignored_cookies=("_ga", "_gid")),
    "other": cache(part("other"), cache_namespace="another"),
    "part": cache(part("part")),
    "mounts": cache(mounts),
    "declared": cache(app, cache_keyed_query="declared"),
    "deaf": cache(app, cache_obey_request_directives=False),
    "status-key": cache(app, cache_status_key=True),
    "secret": cache(app, cache_secret=os.environ.get("ORIGIN_SECRET", "x" * 32)),
    "gzip-inside": cache(GZipMiddleware(app, minimum_size=100)),
    "gzip-outside": GZipMiddleware(cache(app), minimum_size=100),
    "cors-inside": cache(CORSMiddleware(app, **origins)),
    "cors-outside": CORSMiddleware(cache(app), **origins),
    "any-cors-inside": cache(CORSMiddleware(app, **any_origin)),
    "bare": app,
}
plain = sites["plain"]


async def written(send: Any) -> None:
    """Answer when no write to the store is pending."""
    for made in caches:
        while made.cache is not None and len(made.cache.pending_writes):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.002)
    await done(send)


async def jump(seconds: float, send: Any) -> None:
    """Set the wall clock of this process: so far from the machine's."""
    global _jump  # noqa: PLW0603 - there is one clock
    _jump = seconds
    await done(send)


async def done(send: Any, said: bytes = b"") -> None:
    """Answer that it is done, and what came of it."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})


async def site(scope: Any, receive: Any, send: Any) -> None:
    """Hand over to the application that the first segment names."""
    if scope["type"] == "lifespan":
        await plain(scope, receive, send)
        return
    if scope["path"] == "/_written":
        await written(send)
        return
    if scope["path"] == "/_unreadable":
        await done(send, b"%d" % counters().unreadable)
        return
    if scope["path"] == "/_jump":
        await jump(float(scope["query_string"]), send)
        return
    name, _, _ = scope["path"].lstrip("/").partition("/")
    chosen = sites.get(name)
    if chosen is None:
        await plain(scope, receive, send)
        return
    raw_path: bytes = scope["raw_path"]
    cut = len(name) + 1
    await chosen({**scope, "path": scope["path"][cut:], "raw_path": raw_path[cut:]}, receive, send)
