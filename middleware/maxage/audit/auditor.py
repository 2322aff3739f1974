"""Auditor: an observer that notes the inputs of answers, and compares them with their keys."""

import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final, final

from maxage.asgi.types import Scope
from maxage.audit.inputs import Judge, mend_for
from maxage.audit.noted import NotedScope, note_cookies
from maxage.audit.notes import Chain, Notes
from maxage.audit.place import is_layer, packages_of
from maxage.audit.report import Finding, Report
from maxage.audit.usage import is_only_recorded
from maxage.observe.counters import UNKNOWN_ROUTE
from maxage.observe.words import Reason
from maxage.reads import trial
from maxage.reads.fast_path import FastPath
from maxage.reads.trial import Answered, Observation
from maxage.rfc9111.directives import parse_cache_control
from maxage.rfc9111.stored_response import is_shareable
from maxage.settings import CacheSettings

logger = logging.getLogger("maxage")

_MOST_LOGGED: Final = 100
"""Findings that a process logs."""
_STORED_NEXT: Final = frozenset({
    Reason.LATE_TAG, Reason.PURGED, Reason.REPLICA_LAG, Reason.NO_ROOM, Reason.DISCONNECT,
})  # fmt: skip
"""Reasons not to store that the next request may not have."""


@final
class Auditor:
    """Audits the applications of this process.

    Args:
        ignored: inputs that make no difference, besides those of the settings.
        by_setting: only applications whose `CACHE_AUDIT` is on, and findings are logged.
    """

    def __init__(self, ignored: Iterable[str] = (), *, by_setting: bool = False) -> None:
        self.report: Final = Report()
        self._ignored: Final = tuple(ignored)
        self._by_setting: Final = by_setting
        self._judges: Final[dict[CacheSettings, Judge]] = {}

    def begin(self, fast_path: FastPath, scope: Scope) -> "_Audited | None":
        """Return the observation of a request; None: it is not audited, or already is."""
        settings = fast_path.service.settings
        if isinstance(scope, NotedScope) or (self._by_setting and not settings.cache_audit):
            return None
        judge = self._judges.get(settings)
        if judge is None:
            ignored = (*settings.cache_audit_ignored, *self._ignored)
            judge = self._judges[settings] = Judge(settings, ignored)
        return _Audited(self, judge, fast_path, scope)

    def add(self, finding: Finding) -> None:
        """Add a finding, and log a new one."""
        is_new = self.report.add(finding)
        if is_new and self._by_setting and len(self.report.findings) <= _MOST_LOGGED:
            logger.warning("Audit: %s", finding)


@final
class _Audited(Observation):
    """One request, and its inputs that are read."""

    def __init__(self, auditor: Auditor, judge: Judge, fast_path: FastPath, scope: Scope) -> None:
        self._auditor: Final = auditor
        self._judge: Final = judge
        self._outer: Final = scope
        service = fast_path.service
        endpoints = [route.endpoint for route in service.targets.routes.table(scope).routes]
        self._notes: Final = Notes(packages_of((service.app, *endpoints)))
        self._noted: Final = NotedScope(scope, self._notes, service.lifespan_state)
        self.scope: Scope = self._noted

    def admitted(self) -> None:
        """Note that the application runs now."""
        self._notes.is_keying = False

    def sent(self) -> None:
        """Note nothing more: reads after the answer make no difference to it."""
        self._notes.is_silent = True

    async def answered(self, answered: Answered) -> None:
        """Add the findings of an answer that the cache stores."""
        capture = answered.capture
        if capture.entry is None and capture.refusal not in _STORED_NEXT:
            return
        self._auditor.report.stored += 1
        target, notes = answered.reading.target, self._notes
        if capture.entry is None:
            control = parse_cache_control(answered.headers.get_all(b"cache-control"))
            shareable = is_shareable(control)
        else:
            shareable = capture.entry.stored.shareable
        read = notes.read()
        unkeyed = self._judge.unkeyed(
            {name for name, _ in read}, notes.in_key, target, answered.headers, shareable=shareable
        )
        template = UNKNOWN_ROUTE if target.route is None else target.route.template
        route = f"{answered.reading.request.method} {template}"
        for name, chain in read:
            if name in unkeyed and not (
                is_only_recorded(chain) or _is_of_a_layer(name, chain, answered)
            ):
                place, mend = str(chain[0]), mend_for(name)
                self._auditor.add(Finding(route=route, input=name, place=place, mend=mend))

    def close(self) -> None:
        """Give the layers outside the entries that the application has set in the scope."""
        self._auditor.report.asked += 1
        self._notes.is_silent = True
        self._noted.give_back(self._outer)


def _is_of_a_layer(name: str, chain: Chain, answered: Answered) -> bool:
    """Return whether a layer looks at a field that chose nothing in this answer."""
    if not is_layer(chain[0].code):
        return False
    if name == "header:origin":
        # Requests with and without an Origin have different keys.
        return b"origin" not in answered.reading.headers
    # A client that accepts codings also accepts an answer without one.
    return name == "header:accept-encoding" and b"content-encoding" not in answered.headers


@contextmanager
def audit(ignored: Iterable[str] = ()) -> Generator[Report]:
    """Audit all requests of this process: note the inputs of each answer that are not in its key.

    The handlers answer every request meanwhile, and the cache is filled.

        with audit(ignored=["user-agent"]) as report:
            client.get("/items")
        assert not report.findings, report

    Args:
        ignored: inputs that make no difference, as findings name them; a bare name is a header's,
            `*` stands for any characters.

    Yields:
        The report, which grows with each request.
    """
    auditor = Auditor(ignored)
    begin(auditor)
    try:
        yield auditor.report
    finally:
        end(auditor)


_running: Final[list[Auditor]] = []


def begin(auditor: Auditor) -> None:
    """Let an auditor see the requests of this process."""
    _running.append(auditor)
    note_cookies(on=True)
    trial.observe(auditor)


def end(auditor: Auditor) -> None:
    """Let an auditor see no more requests."""
    trial.ignore(auditor)
    _running.remove(auditor)
    note_cookies(on=bool(_running))


_of_process: Final[list[Auditor]] = []


def audit_process() -> Report:
    """Audit the applications of this process whose `CACHE_AUDIT` is on; return the report."""
    if not _of_process:
        _of_process.append(Auditor(by_setting=True))
        begin(_of_process[0])
    return _of_process[0].report
