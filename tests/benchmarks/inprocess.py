"""Microseconds per request in the process, by calling the application directly.

`python -m tests.benchmarks.inprocess FACTORY [--concurrent N] [--path P] [--profile]`, with the
settings in the environment. `{}` in the path becomes another number at each request. The profile
looks again and again where the process is: unlike one that is told of each call, it makes no small
function look expensive.
"""

import argparse
import asyncio
import importlib
import itertools
import signal
import time
from collections import Counter
from types import FrameType
from typing import Any, Final, final

_numbers = itertools.count()
_ROWS = 90
HEADERS = [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*"), (b"user-agent", b"bench")]


def main() -> None:
    """Measure, or print a profile."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("factory")
    options.add_argument("--concurrent", type=int, default=32)
    options.add_argument("--path", default="/items")
    options.add_argument("--method", default="GET")
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--profile", action="store_true")
    asked = options.parse_args()
    app = getattr(importlib.import_module("tests.benchmarks.apps"), asked.factory)()
    run = _loop()
    run.run_until_complete(_measured(app, asked))


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _measured(app: Any, asked: argparse.Namespace) -> None:
    await _ask(app, asked, 64)
    # What the first requests stored is written in the background.
    await asyncio.sleep(0.2)
    await _ask(app, asked, 2_000)
    if asked.profile:
        profile = Profile()
        microseconds = await _timed(app, asked)
        profile.end()
        print(profile.table(microseconds))
        return
    best = min([await _timed(app, asked) for _ in range(5)])
    print(f"{best:.2f} us")


@final
class Profile:
    """Where the process is, with all that it calls from there."""

    def __init__(self) -> None:
        self._seen: Final[Counter[str]] = Counter()
        self._looks = 0
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)

    def _look(self, number: int, frame: FrameType | None) -> None:
        self._looks += 1
        places: set[str] = set()
        while frame is not None:
            code = frame.f_code
            place = "/".join(code.co_filename.rsplit("/", 2)[-2:])
            places.add(f"{place} {code.co_qualname}")
            frame = frame.f_back
        self._seen.update(places)

    def end(self) -> None:
        """Look no more."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def table(self, microseconds: float) -> str:
        """Return a table of where these microseconds of one request went."""
        rows = [
            f"| {microseconds * count / self._looks:.1f} us | `{place}` |"
            for place, count in self._seen.most_common(_ROWS)
        ]
        return "\n".join(["| each request | in, with what it calls |", "| ---: | --- |", *rows])


async def _timed(app: Any, asked: argparse.Namespace) -> float:
    began = time.process_time()
    await _ask(app, asked, asked.requests)
    return (time.process_time() - began) / asked.requests * 1e6


async def _ask(app: Any, asked: argparse.Namespace, requests: int) -> None:
    each = max(1, requests // asked.concurrent)
    await asyncio.gather(*(_client(app, asked, each) for _ in range(asked.concurrent)))


async def _client(app: Any, asked: argparse.Namespace, requests: int) -> None:
    for _ in range(requests):
        statuses: list[int] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any, statuses: list[int] = statuses) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        path = asked.path.format(next(_numbers))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "method": asked.method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": list(HEADERS), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        # A task for each request, as a server makes them.
        await asyncio.get_running_loop().create_task(app(scope, receive, send))
        assert statuses == [200], statuses


if __name__ == "__main__":
    main()
