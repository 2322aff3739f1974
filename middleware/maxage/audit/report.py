"""Report: the findings of an audit."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from maxage.insight.units import counted

_ROUTES_SHOWN: Final = 3
"""Routes that one line names."""


class Finding(Struct, frozen=True, kw_only=True):
    """An input that the application read, and that does not choose the stored response."""

    route: str
    """Method and template of the route, such as `GET /items/{id}`."""
    input: str
    """`header:NAME`, `cookie:NAME`, `state:NAME`, `client`, `user`, `auth`, `session`; `headers`
    and `cookies` where all of them are read."""
    place: str
    """File and line of the application's code that read it."""
    mend: str

    def __str__(self) -> str:
        return told(self, [self.route])


def told(finding: Finding, routes: list[str]) -> str:
    """Return a finding of several routes in one line."""
    more = len(routes) - _ROUTES_SHOWN
    named = ", ".join(routes[:_ROUTES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    said = f"{named} read{'s' if len(routes) == 1 else ''} {finding.input}"
    return f"{finding.place}: {said}, which is not in the key. {finding.mend}"


class Report:
    """The findings of an audit so far. `str()` gives a text for people."""

    def __init__(self) -> None:
        self._findings: dict[tuple[str, str, str], Finding] = {}
        self.asked = 0
        """Requests that the application answered."""
        self.stored = 0
        """Answers among them that the cache stores: only these can be wrong for other requests."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, each once, by route."""
        return tuple(sorted(self._findings.values(), key=lambda one: (one.route, one.place)))

    def add(self, finding: Finding) -> bool:
        """Add a finding; return whether it is a new one."""
        key = finding.route, finding.input, finding.place
        is_new = key not in self._findings
        self._findings.setdefault(key, finding)
        return is_new

    def merge(self, findings: Iterable[Finding], *, asked: int, stored: int) -> None:
        """Add the findings of another process."""
        for finding in findings:
            self.add(finding)
        self.asked += asked
        self.stored += stored

    def __str__(self) -> str:
        found = self.findings
        at: dict[tuple[str, str], list[Finding]] = {}
        for finding in found:
            at.setdefault((finding.place, finding.input), []).append(finding)
        lines = [f"  {told(same[0], [one.route for one in same])}" for same in at.values()]
        if not self.asked:
            lines.append(
                "  No GET reached a CacheMiddleware with caching on: USE_REDIS_CACHE=false, or the "
                "application has none."
            )
        count = counted(len(found), "finding")
        return "\n".join(
            [f"{count} in {self.stored} stored answers of {self.asked} requests", *lines]
        )
