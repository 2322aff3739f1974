"""The middleware: choose what answers each request, and open and close the store.

`maxage.reads` answers GET, HEAD and QUERY, `maxage.writes` all requests that may change something.
"""

import itertools
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Final, final
from weakref import WeakSet

from maxage import clock as clocks
from maxage import settings_in_force
from maxage.asgi.overrides import overrides_method
from maxage.asgi.passthrough import pass_on
from maxage.asgi.server_info import (
    adds_date,
    drop_date,
    take_over_date,
    warn_of_two_dates,
    worker_count,
)
from maxage.asgi.service import Service
from maxage.asgi.types import ASGIApp, Message, Receive, Scope, Send
from maxage.background import runs_asyncio
from maxage.cache.cache import Cache
from maxage.cache.targets import Targets
from maxage.errors import SettingsError
from maxage.observe import latency
from maxage.reads import trial
from maxage.reads.fast_path import FastPath
from maxage.reads.get import answer_get
from maxage.reads.query import answer_query
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.routing.route_policy import Rule
from maxage.routing.router import check_fastapi
from maxage.store.base import Store
from maxage.store_factory import given_settings, store_of_middleware, switch_off_beside
from maxage.writes.mutation import MutationResponder

logger = logging.getLogger("maxage")

_instances = itertools.count(1)
_modules: Final = sys.modules
_living: Final["WeakSet[CacheMiddleware]"] = WeakSet()


def living_middlewares() -> tuple["CacheMiddleware", ...]:
    """Return the middlewares of this process."""
    return tuple(_living)


@final
class CacheMiddleware:
    """Caches whole responses in front of an ASGI application.

    Works through `app.add_middleware(CacheMiddleware)` and as `app = CacheMiddleware(app)`.

    Args:
        app: the application behind it.
        settings: read from the environment by default. Given ones hold for the process: typed
            caches, `get_redis` and purges by hand without settings use them too, unless the
            environment names another server.
        store: keeps the responses; by default the one that the settings name.
        rules: lifetimes and other policies, by path pattern.

    Raises:
        SettingsError: at the first request, for an invalid setting. With a lifespan the server's
            start fails instead, with the same sentence.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: "settings_in_force.CacheSettings | None" = None,
        *,
        store: Store | None = None,
        rules: Iterable[Rule] = (),
    ) -> None:
        self._arguments: Final = (app, settings, store, tuple(rules))
        self._given: Final = given_settings(settings, store)
        self.begin()
        _living.add(self)
        if self.mistake is None:
            settings_in_force.register(self, self._given)

    def begin(self) -> None:
        """Read the settings and choose the store; tests have it begin anew (`maxage.testing`)."""
        app, settings, store, rules = self._arguments
        self.mistake: SettingsError | None = None
        """The invalid setting that its first request, or its lifespan, tells of."""
        self._warned = False
        self._at_arrival: Callable[[Receive], object] | None = self._learn_without_lifespan
        """Is called for each request: learns of the server while there was no lifespan, or drops
        its Date from each response."""
        self.cache: Cache | None = None
        """None: nothing is cached."""
        try:
            check_fastapi()
            settings = settings_in_force.settings_for(
                settings_in_force.read_settings() if settings is None else settings
            )
            targets = Targets(settings, rules, app, instance=next(_instances))
            if settings.use_redis_cache:
                chosen, tally = store_of_middleware(store, settings), targets.tally
                wall, monotonic = clocks.wall_clock, clocks.monotonic_clock
                self.cache = Cache(settings, chosen, tally=tally, clock=wall, monotonic=monotonic)
                app = _looked_at(app, self.cache, targets)
        except SettingsError as mistake:
            # Starlette builds middleware inside the server's first call, where an exception would
            # be taken for "no lifespan here". The lifespan reports it.
            self.mistake, settings = mistake, settings_in_force.settings_class().model_construct()
            targets = Targets(settings, (), app, instance=0)
        self.service = Service(app, settings, targets)
        """The parts that its responders share."""
        self.fast_path = FastPath(self.service, self.cache) if self.cache else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on a scope of another type."""
        if "trio" in _modules and not runs_asyncio():
            await self._pass_uncached(scope, receive, send)
            return
        kind = scope["type"]
        if kind != "http":
            await (self._lifespan if kind == "lifespan" else self._pass)(scope, receive, send)
            return
        if self._at_arrival is not None:
            self._at_arrival(receive)
        fast_path, method = self.fast_path, scope["method"]
        # A test's request without headers has no key of its own.
        if fast_path is None or ("headers" not in scope and not is_unsafe(method)):
            await self._pass(scope, receive, send)
            return
        reads = method in {"GET", "HEAD"}
        plain = fast_path.plain(scope) if reads else None
        if plain is None and (is_unsafe(method) or overrides_method(scope)):
            # An application may obey an override whatever else the request says.
            await MutationResponder(self.service, fast_path.cache, scope, receive, send).run()
        elif reads:
            if latency.timer is not None:
                send = latency.timer.arrived(send)
            await (trial.answer or answer_get)(fast_path, plain, scope, receive, send, None)
        elif method == "QUERY" and self.service.settings.cache_store_query:
            await answer_query(fast_path, scope, receive, send)
        else:
            await pass_on(self.service, fast_path.cache, scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer what is not cached."""
        if self.mistake is not None:
            raise self.mistake
        await self.service.app(scope, receive, send)

    async def _pass_uncached(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer under another event loop than asyncio's, such as trio's."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "No asyncio event loop is running: no response is cached, and no write purges."
            )
        await self.service.app(scope, receive, send)

    @property
    def targets(self) -> Targets:
        """The targets of the application's URLs."""
        return self.service.targets

    async def aclose(self) -> None:
        """Close the store, where no lifespan does it."""
        if self.cache is not None:
            await self.cache.close()

    # the life of the application

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.mistake is not None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(self.mistake)})
            # As Starlette's lifespan does: its test client would wait for the shutdown for ever.
            raise self.mistake
        self._learn_workers(receive)
        if self._wants_date:
            take_over_date(receive)
        self._learn_date(receive, unknown=True)
        self._at_arrival = None
        settings_in_force.register(self, self._given)
        self.service.lifespan_state = scope.get("state", {})

        async def send_with_store(message: Message) -> None:
            if self.cache is not None:
                if message["type"] == "lifespan.startup.complete":
                    self.targets.routes.watch(scope)
                    self.targets.routes.learn(scope)
                    await self.cache.open()
                elif message["type"].startswith("lifespan.shutdown."):
                    await self.cache.close()
            if message["type"].startswith("lifespan.shutdown."):
                settings_in_force.unregister(self)
            await send(message)

        await self.service.app(scope, receive, send_with_store)

    @property
    def _wants_date(self) -> bool:
        return self.cache is not None and self.service.settings.cache_send_date is not False

    def _learn_without_lifespan(self, receive: Receive) -> None:
        """Learn from the first request, where the application has no lifespan."""
        self._learn_workers(receive)
        drops_date = self._wants_date and drop_date(receive)
        self._learn_date(receive, unknown=False)
        self._at_arrival = drop_date if drops_date else None

    def _learn_date(self, receive: Receive, *, unknown: bool) -> None:
        server_adds_date = adds_date(receive, unknown=unknown)
        self.service.learn_of_server(adds_date=server_adds_date)
        if self._wants_date and server_adds_date:
            warn_of_two_dates()

    def _learn_workers(self, receive: Receive) -> None:
        cache = self.cache
        if cache is None or cache.store.shared:
            return
        if switch_off_beside(worker_count(receive), cache.store):
            self.cache = self.fast_path = None


def _looked_at(app: ASGIApp, cache: Cache, targets: Targets) -> ASGIApp:
    """Return the application, with what the settings ask to be looked at.

    Most processes ask for none of it, so that none of its modules is imported at the start.
    """
    settings = cache.settings
    if settings.cache_insight:
        from maxage.insight.watch import watched  # noqa: PLC0415 - see above

        app = watched(app, cache, targets)
    if settings.cache_shadow or settings.cache_verify:
        from maxage.shadow import shadowed  # noqa: PLC0415 - see above

        app = shadowed(app, cache, targets)
    if settings.cache_audit:
        from maxage.audit import audit_process  # noqa: PLC0415 - see above

        audit_process()
    return app
