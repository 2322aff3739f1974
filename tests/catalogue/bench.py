"""Where a case is played: real workers, a real Redis, and the fault proxy between them."""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.support.fault_proxy import FaultProxy
from tests.support.raw_http import CutResponseError, HeaderInput, RawConnection, RawResponse
from tests.support.redis_server import RedisServer
from tests.support.workers import BUDGETS, Worker, Workers

_runs = itertools.count(1)


@dataclass(kw_only=True)
class Bench:
    """The nodes under attack, for one case."""

    nodes: list[Worker]
    server: RedisServer
    proxy: FaultProxy
    setup: str
    faults: Path
    """The file that says what fails within the nodes: see `origin`."""
    env: Mapping[str, str]
    """The environment of the nodes, for others like them."""
    near: bool = False
    """Whether the nodes keep responses in their own memory too."""
    run: str = field(default_factory=lambda: f"run{next(_runs):06d}")
    """The first segment of all the case's own paths."""

    _last: int = field(default=0, init=False)
    """The node that was asked last."""

    def another_run(self) -> "Bench":
        """Return the same nodes with paths that no case has used."""
        return replace(self, run=f"run{next(_runs):06d}")

    def node(self, number: int) -> Worker:
        """The node that this step goes to: each step goes to the next one."""
        return self.nodes[number % len(self.nodes)]

    def send(
        self,
        number: int,
        method: str,
        target: str,
        headers: HeaderInput = (),
        body: bytes = b"",
        *,
        raw: bytes | None = None,
    ) -> RawResponse:
        """Send one request and return its answer; a connection closed without one is status 0."""
        self._last = number % len(self.nodes)
        with RawConnection(self.node(number).port) as connection:
            try:
                if raw is not None:
                    connection.send(raw.replace(b"{run}", self.run.encode()))
                else:
                    # One host for all nodes, as behind a load balancer.
                    pairs = _pairs(headers)
                    if not any(name.lower() == "host" for name, _ in pairs):
                        pairs.insert(0, ("Host", "shop.example"))
                    path = target.replace("{run}", self.run)
                    body = body.replace(b"{run}", self.run.encode())
                    connection.send_request(method, path, pairs, body, host_header=False)
                return connection.read_response(method)
            except (CutResponseError, ConnectionError):
                return RawResponse(status=0)

    def get(self, target: str, headers: HeaderInput = (), *, node: int = 0) -> RawResponse:
        """Send a GET to this node."""
        return self.send(node, "GET", target, headers)

    def pause(self, seconds: float) -> None:
        """Let what is going on go on for a while."""
        time.sleep(seconds)

    def settle(self) -> None:
        """Wait until the node that was asked last has written what it had to write."""
        assert self.send(self._last, "GET", "/_written").status == 200

    @contextmanager
    def within(self, fault: str) -> Iterator[None]:
        """Let this fail within the nodes, in all of them."""
        self.faults.write_text(fault)
        try:
            yield
        finally:
            self.faults.unlink()

    def stored_keys(self, *, holding: str | None = None) -> list[bytes]:
        """The keys of stored responses of this run, each with the length of its readable part."""
        found: list[bytes] = self.server.call("KEYS", f"*:e:*{holding or self.run}*")
        return sorted(found)


def _pairs(headers: HeaderInput) -> list[tuple[str, str]]:
    lines = headers.items() if isinstance(headers, Mapping) else headers
    return [(_text(name), _text(value)) for name, value in lines]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How many nodes there are, and what they keep in their own memory."""

    name: str
    nodes: int
    near: Literal["exact", "prompt"] | None = None
    lane: bool = False
    """Whether uvicorn's fast lane answers what it can."""

    @property
    def settings(self) -> dict[str, str]:
        """The environment that it takes."""
        if self.near is None:
            return {}
        lane = {"UVICORN_HTTP": "maxage.uvicorn:FastLaneProtocol"} if self.lane else {}
        return {"CACHE_NEAR_BYTES": str(8 * 1024 * 1024), "CACHE_NEAR": self.near, **lane}


PATIENT = dict.fromkeys(BUDGETS, "5")
"""Where no fault is played, a slow machine is to be none either."""

SETUPS = (
    Setup(name="one node", nodes=1),
    Setup(name="two nodes", nodes=2),
    Setup(name="one node, near exact", nodes=1, near="exact"),
    Setup(name="two nodes, near prompt, fast lane", nodes=2, near="prompt", lane=True),
)


@contextmanager
def started(setup: Setup, folder: Path, *, patient: bool = True) -> Iterator[Bench]:
    """Start a Redis server, the fault proxy and the nodes; end them."""
    rows = folder / "rows"
    rows.mkdir()
    workers = Workers(folder)
    with RedisServer.start() as server, FaultProxy(server.port) as proxy:
        # By name, as in earnest: a resolver can fail too.
        url = f"redis://localhost:{proxy.port}"
        faults = folder / "faults"
        known = {"REDIS_URL": url, "ORIGIN_ROWS": str(rows), "ORIGIN_FAULTS": str(faults)}
        known |= setup.settings
        known |= PATIENT if patient else {}
        try:
            nodes = workers.start_many(setup.nodes, "tests.catalogue.origin:site", env=known)
            yield Bench(
                nodes=nodes,
                server=server,
                proxy=proxy,
                setup=setup.name,
                faults=faults,
                env=known,
                near=setup.near is not None,
            )
        finally:
            workers.close()
