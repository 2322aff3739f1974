"""Report: how often the cache would have answered otherwise than the handlers, and how."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct, field

from maxage.observe.counters import UNKNOWN_ROUTE, add_sums

_MOST: Final = 1000
"""Differences that are counted separately."""
_SUSPECTS_SHOWN: Final = 3
_NEARLY_ALL: Final = 0.9
_MORE_OFTEN: Final = 1.5
_ENOUGH: Final = 3
"""Comparisons from which on it counts what was there when the answers were the same."""
_AT_THE_ROUTE: Final = "state @invalidates there."
_WITHOUT_A_ROUTE: Final = "set CACHE_PURGE=unproven, or name what it purges by a Rule."


class Difference(Struct, kw_only=True):
    """One difference between answers of a route."""

    route: str
    """Template of the route."""
    what: str
    """`status 200 -> 404`, `header NAME`, `body`, or `body $.path.in.json`."""
    count: int = 0
    example: str = ""
    """Method, path and query of one such request, without secrets."""
    writes: dict[str, int] = field(default_factory=dict[str, int])
    """Writes that came since the response was stored and did not purge it: how often each was the
    last one."""
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    """Inputs outside of the key by which the requests differed from those that filled the cache."""
    known: int = 0
    """How often the inputs of both requests were known."""
    sole: int = 0
    """How often this was the only difference."""
    same: int = 0
    """Comparisons without this difference, since it came up first."""
    innocent: dict[str, int] = field(default_factory=dict[str, int])
    """How often each of these writes or inputs was there in those comparisons."""

    @property
    def suspects(self) -> tuple[str, ...]:
        """The probable causes: writes by their route, inputs by their name.

        What causes a difference is there nearly each time, and more often than when the answers
        are the same. None: the answer changes by itself.
        """
        found: list[str] = []
        if sum(self.writes.values()) >= _NEARLY_ALL * self.count:
            found += [name for name in _likeliest(self.writes) if self._tells(name, self.count)]
        found += [
            name
            for name in _likeliest(self.inputs)
            if self.inputs[name] >= _NEARLY_ALL * self.known and self._tells(name, self.known)
        ]
        return tuple(found)

    def _tells(self, name: str, count: int) -> bool:
        """Return whether a write or input is more frequent when the answers differ."""
        here = (self.writes.get(name, 0) + self.inputs.get(name, 0)) / count
        there = self.innocent.get(name, 0)
        return self.same < _ENOUGH or here > _MORE_OFTEN * there / self.same

    @property
    def cause(self) -> str:
        """The probable cause and its mend, in one or two sentences."""
        writes = [name for name in self.suspects if name in self.writes][:_SUSPECTS_SHOWN]
        inputs = [name for name in self.suspects if name in self.inputs][:_SUSPECTS_SHOWN]
        said: list[str] = []
        if writes:
            shown = [name.replace(f" {UNKNOWN_ROUTE}", " without a known route") for name in writes]
            is_known = any(name in writes for name in shown)
            mend = _AT_THE_ROUTE if is_known else _WITHOUT_A_ROUTE
            said.append(
                f"{' or '.join(shown)} came since it was stored and did not purge it: {mend}"
            )
        if inputs:
            said.append(
                f"The requests differ in {', '.join(inputs)}: declare it as a parameter, add Vary, "
                "or state vary_by=."
            )
        if not said:
            said.append(
                "No write and no other input explains it: it changes by time or chance, or from "
                "another source. State a shorter ttl, or use @uncached."
            )
        return " ".join(said)

    def add(self, other: "Difference") -> None:
        """Add the counts of another process."""
        add_sums(self, other, "route", "what", "example")
        self.example = self.example or other.example

    def see(self, seen: "Circumstances", *, differs: bool) -> None:
        """Count a comparison, with the suspects of a difference."""
        if not differs:
            self.same += 1
            for name in seen.names:
                self.innocent[name] = self.innocent.get(name, 0) + 1
            return
        self.count += 1
        self.example = self.example or seen.example
        self.known += seen.inputs is not None
        if seen.write is not None:
            self.writes[seen.write] = self.writes.get(seen.write, 0) + 1
        for name in seen.inputs or ():
            self.inputs[name] = self.inputs.get(name, 0) + 1

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"{self.route}: {self.what} differs, {times}, as in {self.example}. {self.cause}"


class Circumstances(Struct, frozen=True, kw_only=True):
    """The possible causes of one difference."""

    write: str | None
    """Route of the last write since the response was stored; None: there was none."""
    inputs: list[str] | None
    """Inputs in which the two requests differ; None: another worker's request was the first."""
    example: str

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*(() if self.write is None else (self.write,)), *(self.inputs or ()))


class RouteComparison(Struct, kw_only=True):
    """The comparisons of one route."""

    compared: int = 0
    """Times the cache would have answered, and the handler's answer was compared."""
    different: int = 0


class ShadowReport(Struct, kw_only=True):
    """The comparisons of a process, or of several. `str()` gives a text for people."""

    routes: dict[str, RouteComparison] = field(default_factory=dict[str, RouteComparison])
    """By template."""
    differences: list[Difference] = field(default_factory=list[Difference])
    misses: int = 0
    """Times the cache would have asked the handler."""
    overtaken: int = 0
    """Comparisons that do not count: a write was under way, or the handler failed."""

    @property
    def compared(self) -> int:
        """All comparisons."""
        return sum(route.compared for route in self.routes.values())

    @property
    def different(self) -> int:
        """Comparisons in which the answers differed."""
        return sum(route.different for route in self.routes.values())

    def count(self, route: str, found: Sequence[str], seen: Circumstances) -> list[Difference]:
        """Count a comparison; return the differences that were counted."""
        counts = self.routes.setdefault(route, RouteComparison())
        counts.compared += 1
        counts.different += bool(found)
        counted = [self.difference(route, what) for what in found]
        for difference in counted:
            difference.see(seen, differs=True)
            difference.sole += len(found) == 1
        for other in self.differences:
            if other.route == route and other.what not in found:
                other.see(seen, differs=False)
        return counted

    def withdraw(self, route: str, what: str) -> None:
        """Remove a difference that comes up between any two answers."""
        for known in [d for d in self.differences if (d.route, d.what) == (route, what)]:
            self.differences.remove(known)
            self.routes[route].different -= known.sole

    def difference(self, route: str, what: str) -> Difference:
        """Return the difference of this route; beyond a bound, one for all others."""
        for known in self.differences:
            if (known.route, known.what) == (route, what):
                return known
        if len(self.differences) >= _MOST:
            return Difference(route=route, what=what)
        made = Difference(route=route, what=what)
        self.differences.append(made)
        return made

    def add(self, other: "ShadowReport") -> None:
        """Add the comparisons of another process."""
        self.misses += other.misses
        self.overtaken += other.overtaken
        for name, counts in other.routes.items():
            add_sums(self.routes.setdefault(name, RouteComparison()), counts)
        for one in other.differences:
            self.difference(one.route, one.what).add(one)

    def __str__(self) -> str:
        counts = (
            f"{self.compared} answers compared, {self.different} differ; {self.misses} would have "
            f"been misses, {self.overtaken} do not count"
        )
        found = sorted(self.differences, key=lambda one: -one.count)
        return "\n".join([counts, *(f"  {one}" for one in found)])


def together(reports: Iterable[ShadowReport]) -> ShadowReport:
    """Return the sum of reports."""
    added = ShadowReport()
    for report in reports:
        added.add(report)
    return added


def _likeliest(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: -counts[name])
