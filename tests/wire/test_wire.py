"""Scripted exchanges over real sockets: uvicorn with httptools, a raw client, a scripted origin."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support.raw_http import CutResponseError, RawConnection, RawResponse, get
from tests.support.workers import Worker
from tests.wire.script import Script, Turn
from tests.wire.scripts import SCRIPTS


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[int]:
    """The port of a worker with the scripted application behind the middleware."""
    args = ["--http", "httptools", *arguments]
    with Worker.start("tests.wire.origin:app", tmp_path=folder, args=args) as worker:
        yield worker.port


@pytest.fixture(scope="module")
def plain_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server that adds no Date."""
    with server(tmp_path_factory.mktemp("plain"), "--no-date-header") as port:
        yield port


@pytest.fixture(scope="module")
def dated_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server that adds a Date."""
    with server(tmp_path_factory.mktemp("dated")) as port:
        yield port


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script(script: Script, request: pytest.FixtureRequest) -> None:
    """Each script's reason is the requirement."""
    port = request.getfixturevalue("dated_port" if script.dated else "plain_port")
    with ExitStack() as connections:
        connection = connections.enter_context(RawConnection(port))
        for number, turn in enumerate(script.turns):
            at = f"{script.name}, turn {number + 1}"
            assert play(connection, turn, at) is turn.closed, f"{at}: closed"
            if turn.closed or turn.hangs_up:
                connection.close()
                connection = connections.enter_context(RawConnection(port))
            if turn.runs is not None:
                assert get(port, f"/runs/{script.name}").text == str(turn.runs), at


def test_every_script_has_a_name_of_its_own_and_a_reason() -> None:
    """The name is its URL."""
    assert len({script.name for script in SCRIPTS}) == len(SCRIPTS)
    assert all(script.reason and script.turns for script in SCRIPTS)


def play(connection: RawConnection, turn: Turn, at: str) -> bool:
    """Send, read one response, check it; return whether the server has closed."""
    if turn.sends:
        host = f"{connection.host}:{connection.port}".encode()
        connection.send(turn.sends.replace(b"HOST", host))
    if turn.hangs_up:
        connection.read_head()
        return False
    try:
        answer = connection.read_response(turn.method)
    except CutResponseError:
        assert turn.cut, at
        return True
    assert not turn.cut, f"{at}: a whole response {answer!r}"
    check(turn, answer, at)
    return connection.closed_by_server() if turn.closed else False


def check(turn: Turn, answer: RawResponse, at: str) -> None:
    """Compare a response with what the turn says of it."""
    assert answer.status == turn.status, f"{at}: {answer!r}"
    assert tuple(interim.status for interim in answer.interim) == turn.interim, at
    if turn.body is not None:
        assert answer.body == turn.body, at
    for name, pattern in turn.has:
        values = [value.decode("latin-1") for value in answer.headers_named(name)]
        assert len(values) == 1, f"{at}: {name} {values!r}"
        assert values[0] == pattern or fnmatchcase(values[0], pattern), f"{at}: {name} {values!r}"
    for name in turn.lacks:
        assert answer.headers_named(name) == [], f"{at}: {name}"
    wanted = [name.encode() for name in turn.order]
    assert [name for name, _ in answer.headers if name in wanted] == wanted, at
    if turn.framing is not None:
        assert framing_of(answer) == turn.framing, at


def framing_of(answer: RawResponse) -> str:
    """How the end of the content is told."""
    if answer.status in {204, 304}:
        return "none"
    if answer.headers_named("transfer-encoding"):
        return "chunked"
    return "length" if answer.headers_named("content-length") else "close"
