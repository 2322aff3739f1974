"""What can be told about the server, and the careful answers where it cannot."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from granian.asgi import LifespanProtocol
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.config import Config as HypercornConfig
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from maxage.asgi.server_info import (
    adds_date,
    drop_date,
    take_over_date,
    warn_of_two_dates,
    worker_count,
)


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that servers read for their number of workers."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("GRANIAN_WORKERS", raising=False)


async def _app(scope: Any, receive: Any, send: Any) -> None: ...


async def unknown() -> None:
    """A receiver that tells nothing."""


def receiver(**options: Any) -> Any:
    """The receiver that uvicorn gives to the lifespan."""
    return LifespanOn(Config(_app, log_config=None, **options)).receive


def hypercorn_receiver(**options: Any) -> Any:
    """The receiver that Hypercorn gives to the lifespan."""
    config: Any = HypercornConfig.from_mapping(options)
    loop: Any = None
    return Lifespan(cast("Any", _app), config, loop, {}).asgi_receive


def wrapped(receive: Any) -> Callable[[], Any]:
    """A receiver as telemetry wraps it."""

    async def receive_span() -> Any:
        return await receive()

    return receive_span


@pytest.mark.parametrize("date", [True, False])
async def test_uvicorn_tells_whether_it_adds_date(*, date: bool) -> None:
    """`--no-date-header` leaves it to the middleware; also through wrappers."""
    assert adds_date(receiver(date_header=date)) is date
    assert adds_date(wrapped(wrapped(receiver(date_header=date)))) is date


def test_without_a_lifespan_the_receiver_of_a_request_tells_it() -> None:
    """It knows the headers that the server adds."""

    class Cycle:
        def __init__(self, *headers: tuple[bytes, bytes]) -> None:
            self.default_headers = list(headers)

        async def receive(self) -> None: ...

    assert adds_date(Cycle((b"server", b"uvicorn"), (b"Date", b"now")).receive) is True
    assert adds_date(Cycle((b"server", b"uvicorn")).receive) is False


@pytest.mark.parametrize("date", [True, False])
async def test_hypercorn_tells_whether_it_adds_date(*, date: bool) -> None:
    """A file of its configuration can switch it off; with it comes the number of workers."""
    receive = hypercorn_receiver(include_date_header=date, workers=3)
    assert adds_date(receive) is adds_date(wrapped(receive)) is date
    assert worker_count(receive, ["python"]) == 3


def test_granian_leaves_our_date_alone() -> None:
    """It adds one where there is none, so that a stored one survives."""
    receive = LifespanProtocol(_app).receive
    assert adds_date(receive) is adds_date(wrapped(receive)) is False


def test_a_server_that_runs_this_process_adds_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypercorn's receiver of a request tells nothing; a test client is no server."""
    assert adds_date(unknown, unknown=False) is False
    monkeypatch.setattr("sys.argv", ["/venv/bin/hypercorn", "app:app"])
    assert adds_date(unknown, unknown=False) is True


@pytest.mark.parametrize("receive", [unknown, None, SimpleNamespace(), wrapped(unknown), 5])
def test_an_unknown_server_is_taken_to_add_date(receive: Any) -> None:
    """Two Dates would be worse than one of the server."""
    assert adds_date(receive) is True


@pytest.mark.parametrize("workers", [1, 2, 8])
async def test_uvicorn_tells_how_many_workers_there_are(workers: int) -> None:
    """By its configuration, whatever the command line looks like."""
    assert worker_count(receiver(workers=workers), ["python", "-w", "9"]) == workers


@pytest.mark.parametrize(
    ("argv", "workers"),
    [
        (["gunicorn", "app:app"], 1),
        (["gunicorn", "-w", "4", "app:app"], 4),
        (["/usr/bin/gunicorn", "--workers", "4"], 4),
        (["gunicorn", "--workers=4"], 4),
        (["hypercorn", "-w", "2", "app:app"], 2),
        (["granian", "--workers", "3", "app:app"], 3),
        (["uvicorn", "--workers", "2", "app:app"], 2),
        (["/venv/lib/python3.11/site-packages/uvicorn/__main__.py", "--workers", "2"], 2),
        (["/venv/bin/fastapi", "run", "--workers", "2"], 2),
        (["gunicorn", "-w4", "app:app"], 4),
        (["gunicorn", "-wide", "app:app"], 1),
        (["gunicorn", "-w"], 1),
        (["gunicorn", "-w", "many"], 1),
        (["gunicorn", "-w", "-4"], 1),
        (["gunicorn", "-w", "0"], 1),
        (["my-script", "--workers", "4"], 1),
        (["/srv/gunicorn/pytest", "-w", "4"], 1),
        ([], 1),
        ([""], 1),
    ],
)
def test_other_servers_are_asked_by_their_command_line(argv: list[str], workers: int) -> None:
    """Only where the program is a server that is known."""
    assert worker_count(unknown, argv) == workers


@pytest.mark.parametrize(("value", "workers"), [("4", 4), ("1", 1), ("0", 1), ("x", 1), ("", 1)])
def test_web_concurrency_counts_too(
    monkeypatch: pytest.MonkeyPatch, value: str, workers: int
) -> None:
    """Several servers read it; what is not a number says nothing."""
    monkeypatch.setenv("WEB_CONCURRENCY", value)
    assert worker_count(unknown, ["gunicorn"]) == workers
    assert worker_count(unknown, ["gunicorn", "-w", "2"]) == max(2, workers)
    monkeypatch.setenv("GRANIAN_WORKERS", "3")
    assert worker_count(unknown, ["granian"]) == max(3, workers)


def test_under_the_test_runner_there_is_one_worker() -> None:
    """The command line of this process, by default."""
    assert worker_count(unknown) == 1


def test_a_configured_server_is_kept_from_adding_date() -> None:
    """uvicorn and Hypercorn, from their lifespan, also through wrappers."""
    for receive in (receiver(), wrapped(receiver()), hypercorn_receiver()):
        assert adds_date(receive) is True
        take_over_date(receive)
        assert adds_date(receive) is False
    take_over_date(unknown)
    take_over_date(None)


def test_the_date_of_one_response_is_dropped_without_a_lifespan() -> None:
    """Other responses share the list of headers, and keep theirs."""

    class Cycle:
        default_headers: ClassVar = [(b"Date", b"now"), (b"server", b"uvicorn")]

        async def receive(self) -> None: ...

    cycle, other = Cycle(), Cycle()
    assert drop_date(wrapped(cycle.receive)) is True
    assert cycle.default_headers == [(b"server", b"uvicorn")]
    assert len(other.default_headers) == 2
    assert drop_date(unknown) is False


@pytest.mark.parametrize(("program", "warns"), [("hypercorn", True), ("pytest", False)])
def test_a_server_that_cannot_be_kept_from_it_is_named(
    program: str, *, warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """State, consequence and mend; test clients are no servers."""
    monkeypatch.setattr("sys.argv", [f"/venv/bin/{program}", "app:app"])
    warn_of_two_dates()
    assert ("--no-date-header" in caplog.text) is warns
