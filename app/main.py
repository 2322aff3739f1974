"""The application. Serve it with `./run`, or `uvicorn app.main:app --no-date-header`."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import imports, items
from app.database import Database, DatabaseUnavailableError
from app.home import home_page
from app.settings import AppSettings
from maxage import CacheMiddleware, CacheSettings, SettingsError, __version__, cached
from maxage.fastapi import admin_router, document_cache, health_router, metrics_router

TITLE = "MonitorPy API"
PREFIX = "/api/v1"
LINKS = {
    "Documentation": f"{PREFIX}/docs",
    "Items": f"{PREFIX}/items?limit=5",
    "Health of the application": f"{PREFIX}/health",
    "Health of the cache": f"{PREFIX}/health/cache",
    "Metrics for Prometheus": "/metrics",
}

log = logging.getLogger(__name__)


def create_app(settings: AppSettings | None = None, cache: CacheSettings | None = None) -> FastAPI:
    """Build the application: the items, the health pages, and the cache in front of them."""
    settings = settings or AppSettings()
    cache = cache or CacheSettings()
    database = Database(settings.database)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await database.prepare()
        try:
            yield
        finally:
            await database.close()

    app = FastAPI(
        title=TITLE,
        version=__version__,
        description="What is monitored, how and how often, behind an HTTP response cache.",
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        lifespan=lifespan,
        exception_handlers={
            DatabaseUnavailableError: unreachable,
            OperationalError: unreachable,
            InterfaceError: unreachable,
            RequestValidationError: invalid,
        },
    )
    app.state.database = database
    app.include_router(items.router, prefix=PREFIX)
    app.include_router(imports.router, prefix=PREFIX)
    app.include_router(health_router(cache, message=f"{TITLE} is running"), prefix=PREFIX)
    app.include_router(metrics_router())
    links = LINKS
    if settings.admin_token is not None:
        app.include_router(admin_router(token=settings.admin_token), prefix="/cache")
        links = {**links, "Page of the cache": "/cache/"}
    app.add_api_route("/", home(links), include_in_schema=False)
    app.add_middleware(PlainStart)
    # The outermost one, so that the fast lane of `maxage.uvicorn` leads to it.
    app.add_middleware(CacheMiddleware, settings=cache)
    document_cache(app)
    return app


def home(links: Mapping[str, str]) -> Callable[[], Awaitable[HTMLResponse]]:
    """Return the handler of a page that leads to the documentation and the other pages."""

    @cached(isolated=True)
    async def page() -> HTMLResponse:
        return HTMLResponse(home_page(TITLE, links))

    return page


async def unreachable(_request: Request, error: Exception) -> JSONResponse:
    """Answer 503 when the database went away while we run; the health page goes on answering."""
    log.error("The database does not answer: %s", getattr(error, "orig", error))
    return JSONResponse({"detail": "The database cannot be reached."}, 503)


async def invalid(_request: Request, error: Exception) -> JSONResponse:
    """Answer 422 without what was sent: not all that can be sent to us can be sent back in JSON."""
    errors = cast("RequestValidationError", error).errors()
    details = [{name: one[name] for name in ("type", "loc", "msg")} for one in errors]
    return JSONResponse({"detail": details}, 422)


class PlainStart:
    """Say in one sentence that the database cannot be opened, where Starlette says a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; shorten the message of a start that failed."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        failed: list[Message] = []

        async def hold_back(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_back)
        except DatabaseUnavailableError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            for message in failed:
                await send(message)
            raise


try:
    app = create_app()
except SettingsError as error:
    raise SystemExit(str(error)) from None
