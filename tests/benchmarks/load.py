"""Two drivers: wrk, and a client in Python for machines without it."""

import asyncio
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of asking for a while."""

    requests: int
    seconds: float


Driver = Callable[[int, Workload, Sequence[str], float], Load]

_SCRIPT = """
wrk.method = "%(method)s"
%(headers)s
%(body)s
local requests, at = {}, 0
init = function()
  for path in io.lines("%(paths)s") do requests[#requests + 1] = wrk.format(nil, path) end
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
done = function(summary)
  local e = summary.errors
  print(string.format('{"requests": %%d, "microseconds": %%d, "errors": %%d}', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def find_driver(name: str) -> Driver | str:
    """Return the driver, or one sentence about what is missing."""
    if name == "python":
        return with_python
    if shutil.which("wrk") is None:
        return (
            "The benchmark drives the servers with wrk and found none on PATH: install wrk, or use"
            " --driver python, whose CPU figures hold and whose requests per second do not."
        )
    return with_wrk


def with_wrk(port: int, workload: Workload, paths: Sequence[str], seconds: float) -> Load:
    """Ask for a while with wrk, on one thread.

    Raises:
        RuntimeError: some answers were errors, or had another status.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder) / "paths", Path(folder) / "script.lua"
        listed.write_text("".join(f"{path}\n" for path in paths))
        script.write_text(_script(workload, listed))
        said = subprocess.run(
            [
                *("wrk", "-t1", f"-c{workload.connections}", f"-d{max(1, round(seconds))}s"),
                *("-s", str(script), f"http://127.0.0.1:{port}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    result = json.loads(said.strip().splitlines()[-1])
    if result["errors"]:
        raise RuntimeError(f"{workload.name}: {result['errors']} of the answers were errors.")
    return Load(requests=result["requests"], seconds=result["microseconds"] / 1e6)


def _script(workload: Workload, paths: Path) -> str:
    headers = "\n".join(f'wrk.headers["{n}"] = [[{v}]]' for n, v in workload.headers.items())
    body = f"wrk.body = [[{workload.body.decode()}]]" if workload.body else ""
    return _SCRIPT % {"method": workload.method, "headers": headers, "body": body, "paths": paths}


def with_python(port: int, workload: Workload, paths: Sequence[str], seconds: float) -> Load:
    """Ask for a while from this process, and look at every answer's status."""
    return asyncio.run(_with_python(port, workload, paths, seconds))


def ask_each(port: int, workload: Workload, paths: Sequence[str]) -> None:
    """Ask for each path once."""
    asyncio.run(_with_python(port, workload, paths, None))


async def _with_python(
    port: int, workload: Workload, paths: Sequence[str], seconds: float | None
) -> Load:
    began = time.monotonic()
    # With a time the paths come again and again; without one, each once.
    rest = iter(paths) if seconds is None else itertools.cycle(paths)
    ends = None if seconds is None else began + seconds
    counts = await asyncio.gather(
        *(_connection(port, workload, rest, ends) for _ in range(workload.connections))
    )
    return Load(requests=sum(counts), seconds=time.monotonic() - began)


async def _connection(
    port: int, workload: Workload, paths: Iterator[str], ends: float | None
) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * 1024 * 1024)
    count = 0
    try:
        for path in paths:
            writer.write(_request(port, workload, path))
            head = await reader.readuntil(b"\r\n\r\n")
            if int(head[9:12]) != workload.status:
                raise RuntimeError(f"{workload.name}: {path} was answered with {head[:64]!r}.")
            await reader.readexactly(_length(head))
            count += 1
            if ends is not None and time.monotonic() >= ends:
                break
    finally:
        writer.close()
        await writer.wait_closed()
    return count


def _request(port: int, workload: Workload, path: str) -> bytes:
    headers = {"Host": f"127.0.0.1:{port}", **workload.headers}
    if workload.body:
        headers["content-length"] = str(len(workload.body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{workload.method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + workload.body


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0
