"""An audit finds each input of a stored answer that is not in its key, and the line that read."""

import copy
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection

from maxage import CacheMiddleware, CacheSettings, Rule, cached, uncached
from maxage.audit import Report, audit
from maxage.testing import audit as audit_of_testing
from tests.support.asgi import ASGIApp, Message, Receive, Scope, Send, call, lifespan
from tests.support.caching import cache_of, status_of

HERE = Path(__file__).read_text().splitlines()
logger = logging.getLogger("tests.audit")


async def audited(
    handler: Callable[..., Any],
    *,
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    inside: Callable[[FastAPI], None] = lambda app: None,
    ignored: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
    rules: tuple[Rule, ...] = (),
    **settings: Any,
) -> Report:
    """The report about one request to an application with this handler."""
    app = FastAPI()
    app.get("/x")(handler)
    inside(app)
    cache = around(cache_of(app, rules=rules, **settings))
    with audit(ignored) as report:
        answer = await call(cache, path="/x", headers=headers or {})
    assert answer.status == 200
    assert report.asked == 1
    return report


def inputs(report: Report) -> list[str]:
    return sorted({finding.input for finding in report.findings})


def by_name(request: Request) -> Any:
    return request.headers.get("x-beta")


def by_presence(request: Request) -> Any:
    return "x-beta" in request.headers


def by_loop(request: Request) -> Any:
    return [value for name, value in request.scope["headers"] if name == b"x-beta"]


def by_list(request: Request) -> Any:
    return request.headers.getlist("x-beta")


async def in_library(request: Request) -> Any:
    return await Header_of_a_library()(request)


class Header_of_a_library:  # noqa: N801
    """FastAPI's own class, which reads a header by itself."""

    async def __call__(self, request: Request) -> Any:
        from fastapi.security import APIKeyHeader

        return await APIKeyHeader(name="x-beta", auto_error=False)(request)


@pytest.mark.parametrize("handler", [by_name, by_presence, by_loop, by_list, in_library])
@pytest.mark.parametrize("headers", [{}, {"x-beta": "1"}], ids=["absent", "sent"])
async def test_a_header_is_found_by_its_name(
    handler: Callable[..., Any], headers: dict[str, str]
) -> None:
    """A header that was asked for and absent is an input too."""
    report = await audited(handler, headers=headers)
    assert inputs(report) == ["header:x-beta"]


async def test_a_name_stays_what_it_is() -> None:
    """Equal to bytes alone, in sets and dictionaries, and in a copy of the scope."""

    def handler(request: Request) -> Any:
        copied = copy.deepcopy(request.scope["headers"])
        names = [name for name, _ in copied]
        assert names[0] == b"host"
        assert names[0] != "host"
        assert names[-1] != "x-beta"
        assert names[-1] in {b"x-beta", b"x-gamma"}
        return {b"x-beta": 1}[names[-1]]

    report = await audited(handler, headers={"x-beta": "1"})
    assert inputs(report) == ["header:x-beta"]


async def test_a_finding_names_route_line_and_mend() -> None:
    """It tells where to go and what to do."""
    (finding,) = (await audited(by_name)).findings
    assert finding.route == "GET /x"
    assert "Vary: x-beta" in finding.mend
    assert "vary_by=" in finding.mend
    file, _, line = finding.place.rpartition(":")
    assert Path(file).name == "test_audit.py"
    assert "request.headers.get" in HERE[int(line) - 1]


@pytest.mark.parametrize(
    "handler",
    [
        lambda request: dict(request.headers),
        lambda request: list(request.headers.items()),
        lambda request: {n.decode(): v.decode() for n, v in request.scope["headers"]},
        lambda request: dict(request.scope["headers"]).get(b"x-beta", b"").decode(),
    ],
    ids=["dict", "items", "decoded", "raw"],
)
async def test_reading_all_headers_is_one_finding(handler: Callable[..., Any]) -> None:
    """Each of them may change the answer."""

    def endpoint(request: Request) -> Any:
        return handler(request)

    report = await audited(endpoint, headers={"accept": "text/plain"})
    assert inputs(report) == ["headers"]


async def test_what_chooses_the_stored_response_is_no_finding() -> None:
    """A declared header, Vary, `vary_by`, the host and the conditions are the cache's business."""

    @cached(vary_by=lambda request: request.headers.get("x-tenant", ""))
    def handler(
        request: Request,
        response: Response,
        x_beta: Annotated[str | None, Header()] = None,
        theme: Annotated[str | None, Cookie()] = None,
    ) -> Any:
        response.headers["Vary"] = "Accept-Language"
        told = [
            request.headers.get(name)
            for name in ("x-beta", "x-tenant", "accept-language", "if-none-match")
        ]
        return [
            *told,
            request.cookies.get("theme"),
            str(request.url),
            str(request.query_params),
            theme,
        ]

    report = await audited(handler)
    assert inputs(report) == []
    assert report.stored == 1


async def test_the_client_is_an_input() -> None:
    """Its address is in no key."""
    assert inputs(await audited(lambda_of("request.client.host"))) == ["client"]


def lambda_of(expression: str) -> Callable[..., Any]:
    source = compile(f"def read(request): return {expression}", __file__, "exec")
    names: dict[str, Any] = {}
    exec(source, names)
    names["read"].__annotations__["request"] = Request
    handler: Callable[..., Any] = names["read"]
    return handler


def with_tenant(app: ASGIApp) -> ASGIApp:
    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["tenant"] = "a"
        await app(scope, receive, send)

    return layer


async def test_state_of_an_outer_layer_is_an_input() -> None:
    """It is chosen by the request, and the cache does not know by what."""
    report = await audited(lambda_of("request.state.tenant"), around=with_tenant)
    assert inputs(report) == ["state:tenant"]


@pytest.mark.parametrize("value", [logger, "7f3a"], ids=["tool", "request_id"])
async def test_tools_and_ids_in_the_state_are_no_inputs(value: Any) -> None:
    """A logger or a session of a database is another object for each request, and says nothing."""

    def around(app: ASGIApp) -> ASGIApp:
        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {"request_id": value, "log": logger}}, receive, send)

        return layer

    read = lambda_of("[str(request.state.log), request.state.request_id == 1]")
    assert inputs(await audited(read, around=around)) == []


async def test_state_of_an_inner_layer_is_none() -> None:
    """The layer reads inputs itself, and these are noted."""

    def inside(app: FastAPI) -> None:
        app.add_middleware(with_tenant)  # type: ignore[arg-type]

    assert inputs(await audited(lambda_of("request.state.tenant"), inside=inside)) == []


async def test_state_of_the_lifespan_is_none() -> None:
    """All requests share it."""
    app = FastAPI(lifespan=None)
    app.get("/x")(lambda_of("request.state.pool"))
    cache = cache_of(app)
    pool = object.__repr__(app)
    async with lifespan(cache) as state:
        state["pool"] = pool
        with audit() as report:
            await call(cache, path="/x", state=dict(state))
    assert report.stored == 1
    assert inputs(report) == []


async def test_cookies_are_credentials() -> None:
    """A request with one gets no stored response, so that reading it is no fault."""
    assert inputs(await audited(lambda_of("request.cookies.get('theme')"))) == []


@pytest.mark.parametrize(
    ("more", "control"),
    [
        ({"rules": (Rule("/x", vary_by=lambda _: ""),)}, ""),
        ({"cache_ignored_cookies": ("theme",)}, ""),
        ({}, "public, max-age=60"),
    ],
    ids=["vary_by", "ignored", "public"],
)
async def test_a_cookie_is_found_where_it_is_no_credential(
    more: dict[str, Any], control: str
) -> None:
    """With `vary_by`, as an ignored cookie, and in a response that may be shared."""

    def handler(request: Request, response: Response) -> Any:
        response.headers["Cache-Control"] = control or "max-age=60"
        return request.cookies.get("theme")

    assert inputs(await audited(handler, **more)) == ["cookie:theme"]


@pytest.mark.parametrize("listed", ["Theme", "them?", "them[e]"])
async def test_only_a_star_stands_for_other_characters_of_an_ignored_cookie(listed: str) -> None:
    """As in the cache: for it the cookie is a credential still."""
    read = lambda_of("request.cookies.get('theme')")
    assert inputs(await audited(read, cache_ignored_cookies=(listed,))) == []
    assert inputs(await audited(read, cache_ignored_cookies=("th*",))) == ["cookie:theme"]


def with_session(app: ASGIApp) -> ASGIApp:
    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"] = {}
        await app(scope, receive, send)

    return layer


async def test_a_session_behind_vary_by_is_found() -> None:
    """`vary_by` that looks at nothing of it shares one user's answer with another."""

    def inside(app: FastAPI) -> None:
        app.add_middleware(with_session)  # type: ignore[arg-type]

    read = lambda_of("request.session.get('user')")
    by_nothing = Rule("/x", vary_by=lambda request: request.headers.get("x-tenant", ""))
    by_cookie = Rule("/x", vary_by=lambda request: request.cookies.get("session", ""))
    assert inputs(await audited(read, inside=inside)) == []
    assert inputs(await audited(read, inside=inside, rules=(by_cookie,))) == []
    assert inputs(await audited(read, inside=inside, rules=(by_nothing,))) == ["session"]


async def test_answers_that_are_not_stored_make_no_finding() -> None:
    """No other request gets them."""
    handler = uncached(lambda_of("request.headers.get('x-beta')"))
    report = await audited(handler)
    assert inputs(report) == []
    app = FastAPI()
    app.get("/x")(by_name)
    cache = cache_of(app)
    with audit() as report:
        await call(cache, path="/x", headers={"authorization": "Bearer 1"})
        await call(cache, path="/y")
    assert inputs(report) == []


@cached(ttl=60)
def reading_nothing(request: Request) -> Any:
    return {}


async def test_reads_of_frameworks_make_no_finding() -> None:
    """CORS and GZip read headers and say so in Vary; FastAPI looks for what is declared."""
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.middleware.gzip import GZipMiddleware

    def inside(app: FastAPI) -> None:
        app.add_middleware(CORSMiddleware, allow_origins=["*"])
        app.add_middleware(GZipMiddleware)
        app.add_middleware(Passing)

    assert inputs(await audited(reading_nothing, inside=inside)) == []


class Passing:
    """A layer of the application that reads nothing itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def passed(message: Message) -> None:
            await send(message)

        await self.app(dict(scope), receive, passed)


async def test_a_layer_of_the_application_is_its_code() -> None:
    """Also one that copies the scope; a read after the answer makes no difference to it."""
    seen: list[Any] = []

    class Reading(Passing):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(Request(dict(scope)).headers.get("x-before"))
            await super().__call__(scope, receive, send)
            seen.append(Request(scope).headers.get("x-after"))

    def inside(app: FastAPI) -> None:
        app.add_middleware(Reading)

    report = await audited(reading_nothing, inside=inside)
    assert inputs(report) == ["header:x-before"]


def logged(request: Request) -> Any:
    logger.debug("from %s", request.client.host if request.client else "?")
    agent = request.headers.get("user-agent")
    fields = {"agent": agent, "address": address(request)}
    fields["referer"] = request.headers.get("referer")
    logger.debug("request", extra=fields)
    return {}


def address(request: Request) -> str:
    return request.headers.get("x-forwarded-for") or "?"


def logged_and_used(request: Request) -> Any:
    agent = request.headers.get("user-agent")
    logger.debug(agent)
    return {"agent": agent}


async def test_what_only_a_log_gets_is_no_input_of_the_answer() -> None:
    """The source shows it, through names and functions that return it."""
    assert inputs(await audited(logged)) == ["header:referer", "header:user-agent"]
    assert inputs(await audited(logged_and_used)) == ["header:user-agent"]


async def test_inputs_that_make_no_difference_can_be_named() -> None:
    """As an argument and as a setting; tracing headers are known."""

    def handler(request: Request) -> Any:
        return [request.headers.get(n) for n in ("x-a", "x-b", "x-c", "traceparent")]

    report = await audited(handler, ignored=("X-A",), cache_audit_ignored=("header:x-b",))
    assert inputs(report) == ["header:x-c"]


async def test_a_dependency_counts_for_each_route() -> None:
    """Its line is the same, and each route has a finding."""

    def dependency(request: Request) -> Any:
        return request.headers.get("x-beta")

    app = FastAPI(dependencies=[Depends(dependency)])
    app.get("/a")(reading_nothing)
    app.get("/b/{item_id}")(lambda item_id: {})
    cache = cache_of(app)
    with audit() as report:
        for path in ("/a", "/b/1", "/b/2"):
            await call(cache, path=path)
    assert [finding.route for finding in report.findings] == ["GET /a", "GET /b/{item_id}"]


async def test_one_line_tells_of_all_routes_that_share_a_line() -> None:
    """A dependency or a layer would fill the report otherwise."""

    def dependency(request: Request) -> Any:
        return request.headers.get("x-beta")

    app = FastAPI(dependencies=[Depends(dependency)])
    for number in range(5):
        app.get(f"/{number}")(reading_nothing)
    cache = cache_of(app)
    with audit() as report:
        for number in range(5):
            await call(cache, path=f"/{number}")
    first, *others = str(report).splitlines()
    assert first == "5 findings in 5 stored answers of 5 requests"
    assert len(others) == 1
    assert "GET /0, GET /1, GET /2 and 2 more read header:x-beta" in others[0]


def from_a_copy(request: Request) -> Any:
    headers = dict(request.headers)
    return [headers.get("x-beta"), headers["host"], "X-Gamma" in headers]


def headers_of(request: Request) -> dict[str, str]:
    """A function of the kind that frameworks of one's own have."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in request.scope["headers"]
    }


def from_a_function(request: Request) -> Any:
    if "x-gamma" in headers_of(request):
        return 1
    return headers_of(request).get("x-beta")


def from_all_of_a_copy(request: Request) -> Any:
    headers = dict(request.headers)
    return [headers.get("x-beta"), sorted(headers)]


async def test_a_copy_that_is_asked_for_names_is_no_read_of_all() -> None:
    """The source tells the names, also of headers that are absent."""
    both = ["header:x-beta", "header:x-gamma"]
    assert inputs(await audited(from_a_copy)) == both
    assert inputs(await audited(from_a_function)) == both
    assert inputs(await audited(from_all_of_a_copy)) == ["headers"]


async def test_a_layer_that_looks_at_origin_or_codings_in_vain_makes_no_finding() -> None:
    """The key tells requests with an Origin apart, and a plain body suits every client."""
    names = ("origin", "accept-encoding")

    class Looking(Passing):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            for name in names:
                Request(scope).headers.get(name)
            await self.app(scope, receive, send)

    def inside(app: FastAPI) -> None:
        app.add_middleware(Looking)

    def handler(request: Request) -> Any:
        return [request.headers.get(name) for name in names]

    assert inputs(await audited(reading_nothing, inside=inside)) == []
    origin = {"origin": "https://a.example"}
    assert inputs(await audited(reading_nothing, inside=inside, headers=origin)) == [
        "header:origin"
    ]
    assert inputs(await audited(handler)) == ["header:accept-encoding", "header:origin"]


async def test_handlers_answer_every_request_and_the_cache_fills() -> None:
    """So an input that is read in one branch alone is found; afterwards the cache answers."""
    runs: list[str] = []

    def handler(request: Request) -> Any:
        runs.append(request.headers.get("x-beta", ""))
        return len(runs)

    app = FastAPI()
    app.get("/x")(handler)
    cache = cache_of(app)
    with audit():
        assert [(await call(cache, path="/x")).body for _ in range(2)] == [b"1", b"2"]
    answer = await call(cache, path="/x")
    assert answer.body == b"2"
    assert status_of(answer).startswith(b"maxage; hit")


async def test_layers_outside_see_what_the_application_set() -> None:
    """The route and the state, as without an audit."""
    scopes: list[Scope] = []

    def around(app: ASGIApp) -> ASGIApp:
        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append(scope)
            scope["state"] = {}
            await app(scope, receive, send)

        return layer

    def handler(request: Request) -> Any:
        request.state.seen = True

    await audited(handler, around=around)
    assert scopes[0]["route"].path == "/x"
    assert scopes[0]["state"] == {"seen": True}
    assert type(scopes[0]["headers"]) is list


async def test_nothing_is_left_of_an_audit() -> None:
    """Starlette's cookies, and the way of a GET."""
    from maxage.reads import trial

    before, observers = HTTPConnection.cookies, trial._observers
    with audit():
        assert HTTPConnection.cookies is not before
    assert HTTPConnection.cookies is before
    assert trial._observers == observers


async def test_the_setting_audits_its_application_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finding is logged once."""
    from maxage.audit import auditor, end

    monkeypatch.setattr(auditor, "_of_process", [])
    app = FastAPI()
    app.get("/x")(by_name)
    cache, other = cache_of(app, cache_audit=True), cache_of(app)
    try:
        for _ in range(2):
            await call(cache, path="/x")
        await call(other, path="/x")
        logged = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Audit:")]
        assert len(logged) == 1
        assert re.search(r"test_audit.py:\d+: GET /x reads header:x-beta", logged[0])
        assert auditor._of_process[0].report.asked == 2
    finally:
        end(auditor._of_process[0])


async def test_a_report_says_when_nothing_was_audited() -> None:
    """An empty report is no proof."""
    app = FastAPI()
    app.get("/x")(by_name)
    with audit() as report:
        await call(CacheMiddleware(app, CacheSettings(use_redis_cache=False)), path="/x")
    assert "No GET reached a CacheMiddleware" in str(report)


async def test_background_layers_read_too() -> None:
    """Starlette's BaseHTTPMiddleware runs what is inside in a task of its own."""

    async def dispatch(request: Request, call_next: Any) -> Any:
        request.state.beta = request.headers.get("x-beta")
        return await call_next(request)

    def inside(app: FastAPI) -> None:
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)

    report = await audited(lambda_of("request.state.beta"), inside=inside)
    assert inputs(report) == ["header:x-beta"]


def test_maxage_testing_has_it() -> None:
    """Beside the assertions."""
    assert audit_of_testing is audit
