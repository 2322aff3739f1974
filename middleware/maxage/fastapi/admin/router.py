"""The routes of the page."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request, params
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import SecretStr

from maxage.errors import MaxageError, StoreUnavailableError
from maxage.explain import aexplain
from maxage.explain.request import header_lines
from maxage.fastapi.admin import chart
from maxage.fastapi.admin.look import Found, look
from maxage.fastapi.admin.pages import Pages
from maxage.fastapi.admin.session import NO_STORE, Session, refuse_other_sites
from maxage.fastapi.admin.state import read_state
from maxage.fastapi.guards import checked_guards
from maxage.invalidation.purge import apurge, apurge_all
from maxage.route_map import middleware_of
from maxage.routing.route_policy import invalidates_only, uncached
from maxage.settings import CacheSettings
from maxage.settings_in_force import settings_in_force
from maxage.store.memory import MemoryStore

LONGEST_FORM: Final = 65_536
"""Bytes of a form."""
Settings = Callable[[], CacheSettings]
"""Returns the settings of the cache that is shown."""
_SHOWN_ROUTES: Final = 100
_SHOWN_URLS: Final = 20


def admin_router(
    *,
    token: str | SecretStr | None = None,
    dependencies: Sequence[params.Depends] = (),
    settings: CacheSettings | None = None,
) -> APIRouter:
    """Return a router with the page; mount it under a prefix of your own.

    It shows hits and latency over time, routes, URLs and workers (with `CACHE_INSIGHT`), explains
    requests, shows what is stored, and purges. At least one guard is needed; with both, a request
    must pass both.

    Args:
        token: what a browser is asked for; scripts send it as `Authorization: Bearer ...`.
        dependencies: your own checks, such as `[Depends(require_admin)]`.
        settings: of the cache that is shown; by default those of this process.

    Raises:
        SettingsError: there is no guard, or one of them is wrong; or Jinja2 is not installed.
    """
    secret, checks = checked_guards("admin_router", "see and purge the cache", token, dependencies)
    session = Session(secret) if secret is not None else None
    pages = Pages(has_session=session is not None)
    router = APIRouter(include_in_schema=False, dependencies=checks)
    _add_style(router, pages)
    if session is not None:
        _add_login(router, pages, session)
    guards = [Depends(session.check)] if session is not None else []
    guarded = APIRouter(include_in_schema=False, dependencies=guards)
    for add in (_add_overview, _add_questions, _add_purge):
        add(guarded, pages, lambda: settings or settings_in_force())
    router.include_router(guarded)
    return router


def _add_style(router: APIRouter, pages: Pages) -> None:
    @router.get("/style.css")
    @uncached
    async def style() -> Response:
        return pages.style()


def _add_login(router: APIRouter, pages: Pages, session: Session) -> None:
    @router.get("/login")
    @uncached
    async def ask() -> HTMLResponse:
        return pages.page("login", wrong=False)

    @router.post("/login", dependencies=[Depends(refuse_other_sites)])
    @invalidates_only()
    async def enter(request: Request) -> Response:
        form = await _form(request)
        if not session.accepts(_value(form, "token")):
            return pages.page("login", status=401, wrong=True)
        response = RedirectResponse("./", 303, NO_STORE)
        session.begin(request, response)
        return response

    @router.post("/logout", dependencies=[Depends(refuse_other_sites)])
    @invalidates_only()
    async def leave(request: Request) -> Response:
        response = RedirectResponse("login", 303, NO_STORE)
        session.end(request, response)
        return response


def _add_overview(router: APIRouter, pages: Pages, settings: Settings) -> None:
    @router.get("/")
    @uncached
    def overview() -> HTMLResponse:
        now = settings()
        state = read_state(now)
        told = state.overview
        asked = {name: one for name, one in told.routes.items() if one.requests}
        routes = dict(list(asked.items())[:_SHOWN_ROUTES])
        return pages.page(
            "overview",
            state=state,
            told=told,
            settings=now,
            routes=routes,
            more_routes=len(told.routes) - len(routes),
            asked=told.asked[:_SHOWN_URLS],
            costly=told.costly[:_SHOWN_URLS],
            requests=chart.requests_chart(told.intervals),
            calls=chart.call_chart(told.intervals),
            added=chart.added_chart(told.intervals),
            minutes=chart.minutes(told.intervals),
        )


def _add_questions(router: APIRouter, pages: Pages, settings: Settings) -> None:
    @router.get("/explain")
    @uncached
    async def explain(
        http: Request,
        request: Annotated[str, Query(max_length=8192)] = "",
        headers: Annotated[str, Query(max_length=8192)] = "",
    ) -> HTMLResponse:
        known, mistake = None, ""
        if request.strip():
            lines = [line.strip() for line in headers.splitlines() if line.strip()]
            try:
                known = await aexplain(http.app, _with_host(http, request), header_lines(lines))
            except MaxageError as error:
                mistake = str(error)
        return pages.page("explain", request=request, headers=headers, known=known,
                          mistake=mistake, status=422 if mistake else 200)  # fmt: skip

    @router.get("/stored")
    @uncached
    def stored(http: Request, name: Annotated[str, Query(max_length=8192)] = "") -> HTMLResponse:
        found, mistake = None, ""
        if name.strip():
            found, mistake = _looked(settings(), http, [name.strip()])
        return pages.page("stored", name=name, found=found, mistake=mistake,
                          status=422 if mistake else 200)  # fmt: skip


def _add_purge(router: APIRouter, pages: Pages, settings: Settings) -> None:
    @router.get("/purge")
    @uncached
    async def ask(name: Annotated[str, Query(max_length=8192)] = "") -> HTMLResponse:
        return pages.page("purge", names=name, step="ask", mistake="")

    @router.post("/purge", dependencies=[Depends(refuse_other_sites)])
    @invalidates_only()
    async def purge(request: Request) -> HTMLResponse:
        form = await _form(request)
        text = _value(form, "names")
        names = [line.strip() for line in text.splitlines() if line.strip()]
        everything, soft = "everything" in form, "soft" in form
        shown: dict[str, Any] = {"names": text, "everything": everything, "soft": soft}
        mistake = _mistake(names, everything=everything)
        found, confirmed, now = None, False, settings()
        if not mistake and "confirmed" in form:
            try:
                confirmed = (
                    await apurge_all(soft=soft, settings=now)
                    if everything
                    else await apurge(*names, soft=soft, settings=now)
                )
            except MaxageError as error:
                mistake = str(error)
            else:
                return pages.page("purge", step="done", confirmed=confirmed, mistake="", **shown)
        elif not mistake:
            found, mistake = await asyncio.to_thread(_looked, now, request, names)
        if mistake:
            return pages.page("purge", step="ask", mistake=mistake, status=422, **shown)
        return pages.page("purge", step="confirm", found=found, mistake="", **shown)


def _with_host(http: Request, request: str) -> str:
    """Return a request for this application's own scheme and host, where it names none."""
    method, _, target = request.strip().rpartition(" ")
    own = f"{http.url.scheme}://{http.headers.get('host', '')}" if target.startswith("/") else ""
    return f"{method} {own}{target}".strip()


def _mistake(names: Sequence[str], *, everything: bool) -> str:
    if everything and names:
        return "Give either names or everything."
    if not everything and not names:
        return "Name at least one path or tag, or choose everything."
    return ""


def _looked(
    settings: CacheSettings, request: Request, names: Sequence[str]
) -> tuple[Found | None, str]:
    """Return what is stored under the names, or what is wrong with them.

    A store that does not answer tells nothing: None, and nothing is wrong.
    """
    try:
        return look(settings, _embedded(request.app), names), ""
    except StoreUnavailableError:
        return None, ""
    except MaxageError as error:
        return None, str(error)


def _embedded(app: Any) -> MemoryStore | None:
    """Return the embedded store of the application's cache, if it has one."""
    cache = middleware_of(app)[0].cache
    return cache.store if cache is not None and isinstance(cache.store, MemoryStore) else None


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form; what is longer than a form of ours is cut."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            break
    return parse_qs(body[:LONGEST_FORM].decode("latin-1"), keep_blank_values=True)


def _value(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]
