"""Report: the findings of an audit."""

from collections.abc import Iterable

from msgspec import Struct


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
        return (
            f"{self.place}: {self.route} reads {self.input}, which is not in the key. {self.mend}"
        )


class Report:
    """What an audit has found so far. `str()` gives a text for people."""

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
        lines = [f"  {finding}" for finding in found]
        if not self.asked:
            lines.append(
                "  No GET reached a CacheMiddleware with caching on: USE_REDIS_CACHE=false, or the "
                "application has none."
            )
        count = f"{len(found)} finding{'' if len(found) == 1 else 's'}"
        return "\n".join(
            [f"{count} in {self.stored} stored answers of {self.asked} requests", *lines]
        )
