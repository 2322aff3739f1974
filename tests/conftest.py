"""What all tests share: the Redis server, the hypothesis profiles, one event loop backend."""

import gc
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings

from maxage.redis_store.shared_state import _redis_states
from maxage.settings import _dotenv_of
from maxage.settings_in_force import _middlewares
from tests.catalogue.report import CatalogueReport
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import NoRedisServerError, RedisServer, find_server
from tests.support.redis_topology import (
    RedisCluster,
    SentinelGroup,
    start_cluster,
    start_sentinel,
)
from tests.support.timing import TooSlowError
from tests.support.workers import BUDGETS, Workers

HERE = Path(__file__).parent
_namespaces = itertools.count(1)
ATTEMPTS = 3
"""How often a test is played that was only too slow: other work adds time, and takes none away."""
_too_slow = pytest.StashKey[bool]()
# What `--quick` collects: the rules, the routes, reads and writes; no outage, no tool, no extra.
QUICK = {
    "asgi",
    "cache",
    "invalidation",
    "observe",
    "reads",
    "rfc9111",
    "routing",
    "test_house.py",
    "test_redis_url.py",
    "test_route_map.py",
    "wire",
    "writes",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the quick run: `./test --quick`."""
    parser.addoption("--quick", action="store_true", help="only the tests of a minute")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out of a quick run what lies here and is not named above."""
    if not config.getoption("quick") or collection_path.parent != HERE:
        return None
    return collection_path.name not in QUICK or None


def pytest_configure(config: pytest.Config) -> None:
    """Choose the hypothesis profile, and clean up also when the run is terminated."""
    config.pluginmanager.register(CatalogueReport(), "catalogue")
    common = settings(
        derandomize=False,
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],  # busy cores are not the property's fault
    )
    settings.register_profile("maxage", common, max_examples=100)
    settings.register_profile("long", common, max_examples=5_000)
    settings.register_profile("quick", common, max_examples=20)
    usual = "quick" if config.getoption("quick") else "maxage"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or usual)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    pytest.exit("terminated", returncode=128 + number)


def pytest_sessionstart() -> None:
    """End the run at once when there is no Redis server to run it against."""
    try:
        find_server()
    except NoRedisServerError as error:
        pytest.exit(str(error), returncode=1)


def pytest_collection_finish() -> None:
    """Leave what collection made out of every later garbage collection.

    One took 0.2 s with all tests, which is four times the budget of a read.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note that a test was too slow, and failed by nothing else."""
    if call.excinfo is not None:
        item.stash[_too_slow] = call.excinfo.errisinstance(TooSlowError)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Play a test again that was only too slow, with fixtures of its own; tell of the last time."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    properties = list(item.user_properties)
    reports: list[pytest.TestReport] = []
    for _ in range(ATTEMPTS):
        item.stash[_too_slow], item.user_properties[:] = False, properties
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not item.stash[_too_slow]:
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_report_header() -> str:
    """Name the server that the tests run against."""
    try:
        return f"redis server: {find_server()}"
    except NoRedisServerError:
        return "redis server: none"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, which is what the library supports."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server that all tests of this process share; see `redis_url` for an empty one."""
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def own_namespace(monkeypatch: pytest.MonkeyPatch) -> str:
    """The prefix of all keys by default, which no other test has: here, and in started processes.

    A store or process that outlives its test remembers the leases that a flush removes. It would
    empty the cache of its namespace again and again, since a worker may owe purges.
    """
    namespace = f"test{next(_namespaces)}"
    monkeypatch.setenv("CACHE_NAMESPACE", namespace)
    return namespace


@pytest.fixture
def generous_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budgets by default, here and in started processes: a busy machine is no lost server."""
    for name in BUDGETS:
        monkeypatch.setenv(name, "10")


@pytest.fixture
def redis_url(redis_server: RedisServer, own_namespace: str, generous_budgets: None) -> str:
    """The URL of the shared server, running and empty; its keys begin with `own_namespace`."""
    redis_server.ensure_running()
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[RedisCluster]:
    """Three masters that all tests of this process share; see `cluster_url`."""
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster_url(shared_cluster: RedisCluster, own_namespace: str, generous_budgets: None) -> str:
    """The URL of the shared cluster, running and empty."""
    shared_cluster.flush()
    return shared_cluster.url


@pytest.fixture(scope="session")
def shared_sentinel() -> Iterator[SentinelGroup]:
    """A primary, a replica and a sentinel that all tests of this process share."""
    with start_sentinel() as group:
        yield group


@pytest.fixture
def sentinel_url(shared_sentinel: SentinelGroup, own_namespace: str, generous_budgets: None) -> str:
    """The URL of the shared sentinel, whose primary is empty."""
    shared_sentinel.primary.flush()
    return shared_sentinel.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server of the test's own, to be stopped, paused, killed and reconfigured."""
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def fault_proxy(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A proxy in front of the shared server, which is empty; it passes until told to fail.

    The budgets are the usual ones again, since such a test waits for what fails.
    """
    for name in BUDGETS:
        monkeypatch.delenv(name)
    with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Starts real uvicorn workers and ends them with the test, showing their logs if it fails."""
    started = Workers(tmp_path)
    yield started
    started.close()


@pytest.fixture(autouse=True)
def _no_settings_outlive_their_test() -> Iterator[None]:
    """End what a test said for its process: by middlewares, by `.env`, and by the environment.

    `maxage serve` writes settings into the environment of its process.
    """
    environment = dict(os.environ)
    yield
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)
    _middlewares.clear()
    _dotenv_of.clear()


@pytest.fixture(autouse=True)
def _no_lease_outlives_its_test() -> Iterator[None]:
    """End what the process knows of servers: their keepers would go on looking after peers."""
    yield
    for redis_state in tuple(_redis_states.values()):
        redis_state.close()
        for node in redis_state.nodes:
            # A test that restarted the shared server makes no other one purge.
            node.history = None
