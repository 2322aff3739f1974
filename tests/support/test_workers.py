"""The worker processes that the tests start."""

from pathlib import Path

import pytest

from tests.support import raw_http
from tests.support.raw_http import RawConnection
from tests.support.workers import Worker, WorkerError, Workers

APP = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            step = (await receive())["type"]
            print(step, flush=True)
            await send({"type": step + ".complete"})
            if step.endswith("shutdown"):
                return
    body = f"{os.getpid()} {os.environ.get('GREETING')} {os.environ.get('REDIS_URL')}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Case", b"a")]})
    await send({"type": "http.response.body", "body": body})
"""


class TestWorkers:
    """Real uvicorn processes."""

    def test_a_worker_from_source(self, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
        """It serves with the given environment only, and ends in good order."""
        monkeypatch.setenv("REDIS_URL", "redis://not-for-workers")
        worker = workers.start(APP, env={"GREETING": "hello"})
        assert raw_http.get(worker.port, "/").text == f"{worker.pid} hello None"
        assert "lifespan.startup" in worker.log()
        worker.terminate()
        assert "lifespan.shutdown" in worker.log()
        assert not worker.running
        with pytest.raises(ConnectionRefusedError):
            raw_http.get(worker.port, "/")

    def test_a_worker_from_a_module(self, workers: Workers) -> None:
        """A target in a module of the repository is found."""
        worker = workers.start("tests.support.asgi:CounterApp", args=["--factory"])
        assert raw_http.get(worker.port, "/").text == "run 1"
        assert raw_http.get(worker.port, "/").text == "run 2"

    def test_kill_and_launch_again(self, workers: Workers) -> None:
        """A killed worker comes back on its port as another process."""
        worker = workers.start(APP)
        first = worker.pid
        worker.kill()
        assert worker.returncode == -9
        worker.launch()
        assert worker.pid != first
        assert raw_http.get(worker.port, "/").text.startswith(str(worker.pid))

    def test_pause(self, workers: Workers) -> None:
        """A paused worker accepts and is silent."""
        worker = workers.start(APP)
        worker.pause()
        with (
            RawConnection(worker.port, timeout=0.2) as connection,
            pytest.raises(TimeoutError),
        ):
            connection.get("/")
        worker.resume()
        assert raw_http.get(worker.port, "/").status == 200

    def test_several_workers(self, workers: Workers) -> None:
        """Separate processes share an environment and have their own additions."""
        started = workers.start_many(
            2, APP, env={"GREETING": "all"}, envs=[{}, {"GREETING": "second"}]
        )
        said = [raw_http.get(worker.port, "/").text for worker in started]
        assert said == [f"{started[0].pid} all None", f"{started[1].pid} second None"]
        assert len({worker.port for worker in started}) == 2

    def test_several_workers_on_one_port(self, workers: Workers) -> None:
        """With `workers=2` both are ready at once, and a kill reaches all of them."""
        worker = workers.start(APP, workers=2)
        children = set(worker.child_pids())
        assert len(children) == 2
        answers = {int(raw_http.get(worker.port, "/").text.split()[0]) for _ in range(20)}
        assert answers <= children
        worker.kill()
        with pytest.raises(ConnectionRefusedError):
            raw_http.get(worker.port, "/")

    def test_a_worker_that_cannot_start(self, tmp_path: Path) -> None:
        """The error shows its log."""
        with pytest.raises(WorkerError, match="a clear reason"):
            Worker.start("\nraise RuntimeError('a clear reason')", tmp_path=tmp_path)

    def test_a_taken_port(self, workers: Workers, tmp_path: Path) -> None:
        """A port that is taken is an error when it was asked for."""
        worker = workers.start(APP)
        with pytest.raises(WorkerError, match=r"(?i)address already in use"):
            Worker.start(APP, tmp_path=tmp_path, port=worker.port)
