"""Traffic with a Zipf law and writes, and what the real cache made of it, with the log of it."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate

BEGIN = 1_790_000_000.0
"""The time of the first line of a log."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A request that is to be made: seconds after the one before, and what it asks."""

    pause: float
    method: str
    target: str
    content: dict[str, object] | None = None


@dataclass(slots=True)
class Measured:
    """The hits of the real cache, and the log."""

    lines: list[str] = field(default_factory=list)
    """In the combined format, with seconds at the end."""
    objects: list[str] = field(default_factory=list)
    """In JSON, with the fractions of seconds."""
    reads: int = 0
    hits: int = 0

    @property
    def hit_rate(self) -> float:
        """Of all GET and HEAD requests."""
        return self.hits / self.reads

    def note(
        self, planned: Planned, elapsed: float, *, status: int, size: int, told: bytes
    ) -> None:
        """Write the lines of a request, and count it; `told` is its Cache-Status."""
        now = BEGIN + elapsed
        stamp = datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S %z")
        asked = f"{planned.method} {planned.target} HTTP/1.1"
        self.lines.append(f'192.0.2.7 - - [{stamp}] "{asked}" {status} {size} "-" "curl/8" 0.004')
        line = {"ts": now, "request": {"method": planned.method, "uri": planned.target}}
        self.objects.append(json.dumps(line | {"status": status, "size": size}))
        if planned.method in {"GET", "HEAD"}:
            self.reads += 1
            self.hits += b"; hit" in told


def zipf(draw: random.Random, items: int) -> Iterator[int]:
    """Numbers from 1 up to `items`, by a Zipf law."""
    weights = list(accumulate(1 / rank**0.9 for rank in range(1, items + 1)))
    while True:
        yield from draw.choices(range(1, items + 1), cum_weights=weights, k=64)


def shop_traffic(count: int, *, span: float, items: int = 300, seed: int = 1) -> Iterator[Planned]:
    """Requests for items, lists of them, and what is never stored; 3 % write."""
    draw = random.Random(seed)
    for _, number in zip(range(count), zipf(draw, items), strict=False):
        kind = draw.random()
        method, target, content = "GET", f"/items/{number}", None
        if kind < 0.03:
            method, content = "PATCH", {"name": f"name {draw.randrange(9)}"}
        elif kind < 0.032:
            method = "DELETE"
        elif kind < 0.25:
            target = f"/items?limit={draw.choice((5, 10, 20))}&offset={20 * min(number, 9)}"
        elif kind < 0.28:
            target = f"/items/batch?ids={number},{number % items + 1}"
        elif kind < 0.31:
            target = draw.choice(("/health", "/items/0", "/nothing"))
        elif kind < 0.34:
            method = "HEAD"
        yield Planned(draw.expovariate(count / span), method, target, content)
