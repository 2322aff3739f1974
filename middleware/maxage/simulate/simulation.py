"""Plays a log against models of the store: keys, groups and rules are those of the cache itself."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, final
from urllib.parse import unquote

from maxage.cache.target import Target
from maxage.cache.targets import Targets
from maxage.observe.words import Bypass
from maxage.rfc9111.message import Headers
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.route_map import middleware_of
from maxage.settings import CacheSettings
from maxage.simulate.figures import Figures
from maxage.simulate.logged import LoggedRequest
from maxage.simulate.outcome import Outcome, outcome_of
from maxage.simulate.purges import Purges
from maxage.simulate.shapes import merged, shape
from maxage.simulate.stays import stays_of
from maxage.simulate.store_model import IN_PROCESS, IN_REDIS, StoreModel

LIFETIMES: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 86_400.0)
"""Seconds."""
SIZES: Final = (10_000_000, 50_000_000, 250_000_000)
"""Bytes."""
_HOST: Final = b"log.invalid"
_OTHERS: Final = "(other paths)"
_NO_ROUTE: Final = "(no route)"
_MOST_NAMES: Final = 5000
"""Shapes of paths that are told apart."""


@final
class Simulation:
    """The run of one log.

    Args:
        app: the application; None: paths are grouped by their shape.
        lifetimes: seconds, besides those that are configured now.
        sizes: bytes of the store, in Redis and in a process; one without a limit is added.

    Raises:
        SettingsError: a setting of the application's cache is invalid.
    """

    def __init__(
        self,
        app: Any = None,
        *,
        lifetimes: Sequence[float] = LIFETIMES,
        sizes: Sequence[int] = SIZES,
    ) -> None:
        self._has_routes: Final = app is not None
        middleware, self._holder = middleware_of(_nothing if app is None else app)
        if middleware.mistake is not None:
            raise middleware.mistake
        self._targets: Final[Targets] = middleware.targets
        self._settings: Final[CacheSettings] = middleware.service.settings
        self._identification: Final = middleware.service.identification
        self._root_path: Final = str(getattr(self._holder, "root_path", "") or "")
        self._lifetimes: Final = tuple(lifetimes)
        count = 1 + len(self._lifetimes)
        self._stores: Final = [
            *(StoreModel(size, count, IN_REDIS) for size in sizes),
            *(StoreModel(size, count, IN_PROCESS) for size in sizes),
            StoreModel(None, count),
        ]
        self._purges: Final = Purges()
        self._figures: Final[dict[str, Figures]] = {}
        self.played = 0
        """The number of requests that were played."""
        self._first = self._now = 0.0
        self.writes = 0
        self.others = 0
        """Requests that are neither reads nor writes."""

    def run(self, requests: Iterable[LoggedRequest]) -> None:
        """Play the requests, in their order."""
        for logged in requests:
            self.played += 1
            if self.played == 1:
                self._first = self._now = logged.time
            # Lines are written when answers end, and several workers share a log.
            self._now = max(self._now, logged.time)
            if logged.method in {"GET", "HEAD"}:
                self._read(logged)
            elif is_unsafe(logged.method):
                self._write(logged)
            else:
                self.others += 1

    def outcome(self) -> Outcome:
        """Return the sums, by route."""
        figures = self._figures
        if not self._has_routes:
            figures = dict[str, Figures]()
            for name, shown in merged(self._figures).items():
                figures.setdefault(shown, self._new()).add(self._figures[name])
        total = self._new()
        for one in figures.values():
            total.add(one)
        return outcome_of(
            figures, total, self._stores, self._lifetimes, self._settings,
            writes=self.writes, others=self.others, begins=self._first,
            seconds=self._now - self._first,
            has_routes=self._has_routes,
        )  # fmt: skip

    def _read(self, logged: LoggedRequest) -> None:
        scope, headers = self._request(logged)
        target = self._targets.find(scope, headers)
        figures = self._figures_of(target, scope["path"])
        bypass = self._bypass(target, logged, scope, headers)
        carries = target.policy.vary_by is None and (
            logged.has_user or self._identification.has_credentials(scope, headers, target)
        )
        stays, reason = stays_of(
            target, logged, self._lifetimes, carries=carries, has_routes=self._has_routes
        )
        purged = self._purges.last(target.groups)
        figures.note(logged, reason=bypass or reason, purgeable=purged >= 0)
        figures.at_most |= not target.terms.is_plain
        if bypass or reason == "credentials":
            return
        # The end of a key is a digest of all of it.
        key = target.plain_key[-40:]
        for number, store in enumerate(self._stores):
            hits = store.ask(
                key, now=self._now, serial=self.played, purged=purged, stays=stays,
                size=logged.size,
            )  # fmt: skip
            figures.note_hits(number, hits, logged)

    def _bypass(
        self, target: Target, logged: LoggedRequest, scope: dict[str, Any], headers: Headers
    ) -> str:
        """Return why a request is not looked up, in the word of Cache-Status; empty: it is."""
        if not target.policy.cache:
            return Bypass.UNCACHED
        if logged.method == "HEAD" and (
            logged.status == 405 or not self._targets.answers_head(scope, headers, target)
        ):
            return Bypass.HEAD
        return ""

    def _write(self, logged: LoggedRequest) -> None:
        self.writes += 1
        failed = logged.status >= 500 and not self._settings.cache_errors_purge
        if 200 <= logged.status < 400 or (logged.status >= 500 and not failed):
            scope, headers = self._request(logged)
            self._purges.purge(self._targets.touched(scope, headers).groups, self.played)

    def _request(self, logged: LoggedRequest) -> tuple[dict[str, Any], Headers]:
        raw_path, _, query = logged.target.partition("?")
        lines = logged.request_headers
        if not any(name == b"host" for name, _ in lines):
            host = logged.host.encode("latin-1", "replace") or _HOST
            lines = ((b"host", host), *lines)
        scope = {
            "type": "http", "method": logged.method, "scheme": "http", "path": unquote(raw_path),
            "raw_path": raw_path.encode("utf-8", "replace"),
            "query_string": query.encode("utf-8", "replace"),
            "root_path": self._root_path, "headers": list(lines), "app": self._holder,
        }  # fmt: skip
        return scope, Headers(lines)

    def _figures_of(self, target: Target, path: str) -> Figures:
        if self._has_routes:
            route = target.route
            name = _NO_ROUTE if route is None else route.host + route.template
        else:
            name = shape(path)
        figures = self._figures.get(name)
        if figures is None:
            if len(self._figures) >= _MOST_NAMES:
                name = _OTHERS
            figures = self._figures.setdefault(name, self._new())
        return figures

    def _new(self) -> Figures:
        return Figures(len(self._stores), 1 + len(self._lifetimes))


async def _nothing(*_: Any) -> None:
    """Stand for an application whose routes are not known."""
