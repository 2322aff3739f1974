"""The shipped middleware, tokens, journal and leases, driven step by step against a fake server.

One row, read by GET under two paths and changed by PUT under one of them, through several workers.
The other one shares data and no path with the PUT: it is an orphan. Each step of the machine is
one event: a request begins, its handler reads or commits, a worker looks at the leases, is cut off,
pays, leaves or dies, the server evicts, forgets, fails over or has its clock set, time passes. All
between two events runs to its end, in one event loop without real input or output. A worker takes a
lease as late as it may: when its purge is sent, not when its handler begins.

The invariant is the contract: no read is older than a write that was acknowledged before it began,
except by what `docs/limits.md` says of purges that were not confirmed. A write that a worker
acknowledges while it holds no lease and cannot take one is outside the bound.

How much the random search is worth, `poe search --examples 500 --seeds 2`: with a rule of the
protocol taken away, how many of two runs found the broken contract, and after how many examples
(median). Each step is independent of the last, so that what takes six of them in order is found
seldom; the traces of `test_model` find all of these, and those of the rules that are not listed.
Lines with a star are from before a lease was held only while writes are acknowledged.

    journal_before_trust                2 of 2   43.5
    unique_tokens                       2 of 2     10
    compared_tokens                     2 of 2     10
    orphans_in_one_group                2 of 2     11
    fresh_value_for_a_retry             0 of 2        *
    capture_before_the_handler          1 of 2    426 *
    equal_tokens_to_join                2 of 2     10
    tokens_of_one_history               1 of 2    148 *
    purge_after_a_late_commit           2 of 2    168
    leases                              2 of 2   13.5
    looks_that_are_new                  2 of 2  259.5 *
    empty_journal_to_renew              1 of 2    335 *
    suspicion_that_lasts                0 of 2        *
    remembered_peers                    0 of 2        *
    empty_journal_to_sign_off           1 of 2    426 *
    own_clock_for_what_does_not_change  0 of 2        *
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from starlette.routing import Route

from maxage import CacheMiddleware, CacheSettings
from maxage.redis_store.leases.lease import (
    LEASE_SECONDS,
    LOOK_INTERVAL,
    SUSPICION_SECONDS,
    Lease,
    Record,
    Standing,
)
from maxage.redis_store.leases.registry import fields_of, registry_key
from maxage.redis_store.leases.watch import Watching
from maxage.redis_store.shared_state import redis_state_for
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.store.base import StoreReply, StoreWrite
from tests.protocol.fake_server import FakeLink, FakeServer
from tests.support.asgi import Exchange, http_scope

BOUND = LEASE_SECONDS + LOOK_INTERVAL
NAMESPACE = "model"
WORKERS = 3
PATHS = ("/row", "/summary")
"""Both show the row; the second one is an orphan."""
FAULTS = ("cut", "mute", "delayed", "records delayed", "full")
"""What can be wrong with a way to the server; see `FakeLink`."""
HAPPENS = ("replicate", "replicate", "fail over", "evict", "deliver", "deliver", "set clock")
WORKER = st.integers(0, WORKERS - 1)
_TURNS = 40
"""Turns of the event loop after which nothing happens any more by itself."""
_SECONDS = 0.001
"""What a clock may be wrong by in whole milliseconds."""
_numbers = itertools.count()


class Awaited:
    """The synchronous half of the store, awaited."""

    shared, keeps_objects, near = True, False, None

    def __init__(self, store: SyncRedisStore) -> None:
        self.now = store
        self.authority = store.authority

    async def open(self) -> None:
        """Do nothing; the first request looks."""

    async def close(self) -> None:
        """Do nothing; the model signs off by itself."""

    async def read(
        self, keys: Sequence[bytes], groups: Sequence[str], wanted: object = None
    ) -> StoreReply:
        """As the asynchronous half does; it makes no claim."""
        del wanted
        return self.now.read_now(keys, groups)

    async def claim(self, key: bytes, value: bytes, *, keep_for: float) -> bytes | None:
        """Take none: a wait for another process uses a real clock."""
        return None

    async def write(self, values: Any, *, keep_for: float, tokens: Any) -> bool:
        """As the asynchronous half does."""
        return self.now.write_now(values, keep_for=keep_for, tokens=tokens)

    async def write_all(self, writings: Sequence[StoreWrite]) -> bool:
        """As the asynchronous half does."""
        return all([await self.write(v, keep_for=k, tokens=t) for v, k, t, _ in writings])

    async def delete(self, keys: Sequence[bytes]) -> bool:
        """As the asynchronous half does."""
        return self.now.delete_now(keys) if keys else False

    async def enlist(
        self, name: bytes, keys: Sequence[bytes], *, most: int, keep_for: float
    ) -> Sequence[bytes]:
        """Keep no list: nothing varies."""
        return ()

    async def enlisted(self, name: bytes) -> Sequence[bytes]:
        """Keep no list: nothing varies."""
        return ()

    @asynccontextmanager
    async def mutating(self) -> AsyncIterator[bool]:
        """As the asynchronous half does."""
        redis_state = self.now.redis_state
        redis_state.lease_manager.lease.begin_mutation()
        try:
            yield redis_state.trusted
        finally:
            redis_state.lease_manager.lease.end_mutation()

    async def renew(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """As the asynchronous half does: the look that takes the lease is over before the end."""
        lease_manager = self.now.redis_state.lease_manager
        if lease_manager.take() is not None:
            lease_manager._look()
        return self.now.renew_now(groups)


class Leaving(Protocol):
    """What `LeaseManager` does when its thread ends."""

    def _leave(self) -> None: ...


class Process:
    """One worker: its middleware over its store, with the model's clock and its link."""

    def __init__(self, world: "Model", settings: CacheSettings) -> None:
        self.link = FakeLink(world.server)
        store = SyncRedisStore.__new__(SyncRedisStore)
        url = f"redis://model-{next(_numbers)}"
        self.redis_state = redis_state_for(url, settings.cache_namespace)
        # The recovery is a step of the model, not a thread.
        self.redis_state.recovery.stop()
        cast("Any", self.redis_state.node).pool = self.link.pool
        self._fit_leasing(world)
        store.__init__(url, settings)  # type: ignore[misc]
        self.store = Awaited(store)
        self.middleware = CacheMiddleware(
            Application(world), settings, store=cast("Any", self.store)
        )
        cache = cast("Any", self.middleware.cache)
        cache.clock = cache.monotonic = world.clock

    def _fit_leasing(self, world: "Model") -> None:
        lease_manager = cast("Any", self.redis_state.lease_manager)
        lease_manager.lease = Lease(clock=world.clock)
        lease_manager.lease.identity = f"worker-{next(_numbers)}"
        lease_manager._clock = world.clock
        lease_manager._watching = Watching(clock=world.clock)
        lease_manager.heartbeat.start = self._join
        lease_manager.heartbeat.wake = self._wake
        self._first: Future[bool] | None = None
        self.server, self.met = world.server, (-1, -1)
        self.seen: set[str] = set()
        """Names whose leases it has seen in the registry."""

    def _join(self) -> Future[bool]:
        """Look for the first time as the keeper does; later looks are steps of the model."""
        if self._first is None:
            self._first = Future()
            self._first.set_result(self.look())
        return self._first

    def _wake(self) -> None:
        """Look if a request waits for it; a process that does not rest looks in steps."""
        if self.redis_state.lease_manager.pace.rests:
            self.redis_state.lease_manager.pace.rests = False
            self.look()

    def rest(self) -> None:
        """Make no look until a request asks for one."""
        self.redis_state.lease_manager._rest()
        self.redis_state.lease_manager.pace.rests = True

    def look(self) -> bool:
        """Look at the leases; remember the server and the leases if that succeeded."""
        succeeded = self.redis_state.lease_manager._look()
        if succeeded:
            self.met = (self.server.history, self.server.generation)
            for name, record in self.registry.items():
                is_left = record.standing == Standing.LEFT
                (self.seen.discard if is_left else self.seen.add)(name)
        return succeeded

    @property
    def registry(self) -> dict[str, Record]:
        """The records of all processes."""
        _, records = fields_of(self.server.run(("HGETALL", registry_key(NAMESPACE))))
        return records

    @property
    def can_take_a_lease(self) -> bool:
        """Whether it reaches the registry, over connections that it has, and knows that it does."""
        node = self.redis_state.node
        assert node is not None
        is_met = self.met == (self.server.history, self.server.generation)
        works = self.link.fault not in {"cut", "records delayed"}
        return is_met and works and not node.breaker.open


@dataclass(kw_only=True)
class Write:
    """A version that was acknowledged."""

    version: int
    at: float
    step: int
    by: Process
    bound: float
    """Seconds for which reads may miss it."""
    owed: bool
    """Whether its purge was still owed when it was last looked."""
    lost_until: float = float("-inf")
    """Until when reads may miss it, since a server took over that had not got its purge."""


@dataclass(kw_only=True)
class Request:
    """A request under way."""

    exchange: Exchange
    by: Process
    began: float
    step: int
    gate: asyncio.Event
    method: str
    version: int | None = None
    late: bool = False
    covered_until: float | None = None
    """Until when peers notice if its purge is lost, by what its process could do for that when the
    answer left; None: it has not left."""


class Application:
    """The model's application, with its routes."""

    def __init__(self, world: "Model") -> None:
        self._world = world
        self.routes = [
            Route("/row", _never, methods=["GET", "PUT"]),
            Route("/summary", _never, methods=["GET"]),
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._world.application(scope, receive, send)


async def _never(_request: Any) -> Any:
    raise AssertionError("the model answers by itself")


class Model(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1_700_000_000.0
        self.step = 0
        self.clock_steps = 0
        self.row = 0
        self.hits = 0
        self.server = FakeServer(self.clock)
        self.requests: list[Request] = []
        self.writes: list[Write] = []
        self.recorded: set[str] = set()
        """Names that were in the registry."""
        self.settings = CacheSettings(
            redis_url="redis://model",
            cache_namespace=NAMESPACE,
            cache_expiration=10_000,
            cache_collapse_wait=300,
            # The trace says what takes too long, and not the machine.
            cache_read_budget=10,
            cache_connect_budget=10,
            cache_write_budget=10,
        )
        self.workers: list[Process] = []

    def teardown(self) -> None:
        """End what is under way."""
        self.requests.clear()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self._settle()
        self.loop.close()

    def clock(self) -> float:
        """Every clock of the model but the server's."""
        return self.now

    @initialize()
    def start(self) -> None:
        """Start the workers; each has looked once."""
        self.workers = [Process(self, self.settings) for _ in range(WORKERS)]
        for worker in self.workers:
            worker.redis_state.lease_manager.join()

    # the application

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the row and wait before the answer, or change it, before or after the answer."""
        request: Request = scope["state"]["request"]
        if request.method == "GET":
            shown = self.row
            await request.gate.wait()
        elif request.late:
            shown = 0
        else:
            await request.gate.wait()
            shown = self._commit(request)
        body = b"%d" % shown
        headers = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"max-age=10000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if request.late:
            await request.gate.wait()
            self._commit(request)

    def _commit(self, request: Request) -> int:
        self.row += 1
        request.version = self.row
        return self.row

    # requests

    # Few rules, each of which does much: what breaks the contract takes five or six steps in order.

    @rule(
        worker=WORKER, write=st.booleans(), answer=st.booleans(), late=st.booleans(),
        path=st.sampled_from(PATHS),
    )  # fmt: skip
    def begin(self, worker: int, write: bool, answer: bool, late: bool, path: str) -> None:
        """Begin a request."""
        if write:
            self.begin_write(worker=worker, answer=answer, late=late)
        else:
            self.begin_read(worker=worker, answer=answer, path=path)

    def begin_read(self, worker: int, answer: bool, path: str = "/row") -> None:
        """Begin a GET, which may be held between its read of the row and its answer."""
        self._begin("GET", worker, answer=answer, path=path)

    def begin_write(self, worker: int, answer: bool, late: bool) -> None:
        """Begin a PUT, which may be held before it commits; `late`: it answers before that."""
        self._begin("PUT", worker, answer=answer, late=late)

    @rule()
    def all_workers_read(self) -> None:
        """Let each worker answer a GET: most of what goes wrong shows only then."""
        for worker in range(WORKERS):
            for path in PATHS:
                self.begin_read(worker=worker, answer=True, path=path)

    @rule(worker=WORKER, fault=st.sampled_from(FAULTS))
    def write_in_trouble(self, worker: int, fault: str) -> None:
        """Let a worker acknowledge what it cannot purge as it should."""
        self.break_link(worker=worker, fault=fault)
        self.begin_write(worker=worker, answer=True, late=False)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Let a request that is held go on."""
        self.let_go(data.draw(st.sampled_from(self.requests), "request"))

    def let_go(self, request: Request) -> None:
        """Open its gate."""
        self._next_step()
        request.gate.set()
        self._settle()

    def _begin(
        self, method: str, worker: int, *, answer: bool, late: bool = False, path: str = "/row"
    ) -> None:
        self._next_step()
        by, gate = self.workers[worker], asyncio.Event()
        scope = http_scope(method, path)
        exchange = Exchange(by.middleware, scope)
        request = Request(
            exchange=exchange, by=by, began=self.now, step=self.step, gate=gate, method=method,
            late=late,
        )  # fmt: skip
        scope["state"] = {"request": request}
        self.requests.append(request)
        if answer:
            gate.set()
        self.loop.call_soon(exchange.start)
        self._settle()

    # workers

    def look(self, worker: int) -> None:
        """Let a worker look at the leases, as its keeper does once a second."""
        self._next_step()
        self.workers[worker].look()
        self._settle()

    @rule(worker=WORKER, pays=st.booleans())
    def mend(self, worker: int, pays: bool) -> None:
        """Let a worker's way to the server be well again; it may pay at once."""
        self.break_link(worker=worker, fault="none")
        if pays:
            self.recover(worker=worker)

    def recover(self, worker: int) -> None:
        """Let a worker pay what it owes, as its recovery does."""
        self._next_step()
        self.workers[worker].redis_state.recovery.attempt()
        self._settle()

    def break_link(self, worker: int, fault: str) -> None:
        """Let a worker's way to the server fail in one way or another, or be well again."""
        self.workers[worker].link.fault = fault

    @rule(worker=WORKER)
    def rest(self, worker: int) -> None:
        """Let a worker make no look until a request asks for one, as if nothing was asked for."""
        self._next_step()
        self.workers[worker].rest()

    @rule(worker=WORKER, signs_off=st.booleans())
    def end(self, worker: int, signs_off: bool) -> None:
        """Let a worker die, or leave in good order, and another one start in its place."""
        self._next_step()
        process = self.workers[worker]
        if signs_off:
            cast("Leaving", process.redis_state.lease_manager)._leave()
        for request in [r for r in self.requests if r.by is process]:
            self.requests.remove(request)
            if request.exchange._task is not None:
                process.link.fault = "cut"
                request.exchange.cancel()
        self._settle()
        self.workers[worker] = Process(self, self.settings)
        self.workers[worker].redis_state.lease_manager.join()

    # the server

    @rule(data=st.data(), what=st.sampled_from(HAPPENS))
    def happen(self, data: st.DataObject, what: str) -> None:
        """Let something befall the server; one rule, for most of it ends what led up to it."""
        if what == "replicate":
            self.replicate()
        elif what == "fail over":
            self.fail_over(keep_connections=data.draw(st.booleans(), "keep connections"))
        elif what == "deliver":
            while self.server.delayed:
                self.deliver()
        elif what == "set clock":
            self.set_clock(seconds=data.draw(st.sampled_from((-30.0, -2.0, 2.0, 30.0)), "seconds"))
        elif self.server.values:
            names = sorted(self.server.values)
            name = data.draw(st.sampled_from((None, *names)), "key")
            self.flush() if name is None else self.evict(key=name)

    def replicate(self) -> None:
        """Let the replica catch up."""
        self.server.replicate()

    def fail_over(self, keep_connections: bool) -> None:
        """Let the replica take over with what it has: an old snapshot is the same."""
        self._next_step()
        self.server.fail_over(keep_connections=keep_connections)
        if keep_connections:
            # No new connection reads the history: it is the next look that finds another one.
            for write in self.writes:
                write.lost_until = self.now + BOUND

    def evict(self, key: bytes) -> None:
        """Lose one key: a token, a response or the registry."""
        del self.server.values[key]

    def flush(self) -> None:
        """Lose everything."""
        self.server.values.clear()

    def deliver(self) -> None:
        """Let commands arrive whose client gave up long ago."""
        for words in self.server.delayed.pop(0):
            self.server.run(words)

    def set_clock(self, seconds: float) -> None:
        """Set the server's clock forward or back."""
        self.server.offset += seconds
        self.clock_steps += 1

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(
        seconds=st.sampled_from((1, 6, 6, 7)),
        lookers=st.sampled_from(((), (0,), (1,), (0, 1), (1, 2), (0, 1, 2))),
        each=st.sampled_from((0.3, 1.0, 1.0)),
    )
    def wait(self, seconds: int, lookers: Collection[int], each: float = 1.0) -> None:
        """Let time pass, with a look of each of these workers every second, or more often."""
        for _ in range(seconds):
            self.pass_time(seconds=each)
            for worker in sorted(lookers):
                self.look(worker=worker)

    # the contract

    def _next_step(self) -> None:
        self.step += 1

    def _settle(self) -> None:
        """Run until nothing happens by itself, and check what was answered."""
        self.loop.run_until_complete(_turns())
        for request in list(self.requests):
            recorded = request.exchange.recorded
            if recorded.started and request.covered_until is None:
                request.covered_until = self._watched_until(request.by)
                if request.by.can_take_a_lease:
                    request.covered_until = self.now + SUSPICION_SECONDS - self._lost
            if recorded.exception is not None:
                raise recorded.exception
            if request.method == "GET" and recorded.complete:
                self.requests.remove(request)
                self.hits += b"hit" in (recorded.header("cache-status") or b"")
                self._check(request, int(recorded.body))
            elif request.method == "PUT" and request.exchange.done:
                self.requests.remove(request)
                self._acknowledge(request)
        for write in self.writes:
            if write.owed and write.by.redis_state.owed_purges.empty:
                # Paid: from now on no process may miss it.
                write.owed, write.bound = False, 0.0
                write.at, write.step = self.now, self.step
            elif write.owed and self._is_forgotten(write.by):
                write.bound = float("inf")
            elif (
                write.owed
                and write.bound == float("inf")
                and self._watched_until(write.by) > self.now
            ):
                write.bound, write.at, write.step = BOUND + _SECONDS, self.now, self.step

    def _acknowledge(self, request: Request) -> None:
        owed = not request.by.redis_state.owed_purges.empty
        assert request.version is not None
        assert request.covered_until is not None
        is_watched = self.now < max(request.covered_until, self._watched_until(request.by))
        bound = (BOUND + _SECONDS if is_watched else float("inf")) if owed else 0.0
        self.writes.append(
            Write(
                version=request.version,
                at=self.now,
                step=self.step,
                by=request.by,
                bound=bound,
                owed=owed,
            )
        )

    @property
    def _lost(self) -> float:
        """Seconds of a suspicion that the steps of the server's clock may have taken."""
        return LEASE_SECONDS * (self.clock_steps + 1)

    def _watched_until(self, process: Process) -> float:
        """Return until when the bound holds for what the process cannot purge."""
        lease = process.redis_state.lease_manager.lease
        return lease._valid_until + SUSPICION_SECONDS - self._lost

    def _is_forgotten(self, process: Process) -> bool:
        """Return whether the record of a process is lost, and a peer has never seen it."""
        name = process.redis_state.lease_manager.lease.identity
        self.recorded.update(process.registry)
        if name in process.registry or name not in self.recorded:
            return False
        return any(name not in worker.seen for worker in self.workers if worker is not process)

    def _check(self, request: Request, shown: int) -> None:
        for write in self.writes:
            if write.version <= shown or write.step >= request.step:
                continue
            if request.began <= write.lost_until:
                continue
            bound = 0.0 if write.by is request.by else write.bound
            age = request.began - write.at
            allowed = bound > 0 and age <= bound
            assert allowed, (
                f"a read that began {age:g} s after version {write.version} was acknowledged "
                f"shows {shown}; the bound is {bound:g} s"
            )


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
