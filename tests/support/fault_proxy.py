"""A TCP proxy between a client and a Redis server that fails in the ways that networks fail."""

import asyncio
import concurrent.futures
import math
import random
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Literal, TypeVar

from tests.support.closing import Closing
from tests.support.ports import free_port
from tests.support.proxy_connection import PUSH, Command, Connection, Fault, Hold, Kind, Side
from tests.support.waiting import PATIENCE, wait_until

__all__ = ["ERRORS", "HANDSHAKE", "PUSH", "FaultProxy", "Hold"]

T = TypeVar("T")

HANDSHAKE = frozenset({"AUTH", "CLIENT", "HELLO", "SELECT"})
"""What client libraries send first on a connection."""

ERRORS = {
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to"
    " 'no'.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to"
    " persist to disk.",
    "MOVED": "MOVED 1 127.0.0.1:1",
    "NOAUTH": "NOAUTH Authentication required.",
    "NOPERM": "NOPERM this user has no permissions to run the command",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "WRONGTYPE": "WRONGTYPE Operation against a key holding the wrong kind of value",
}
"""The texts of real servers by their first word."""


class FaultProxy(Closing):
    """Passes everything on until it is told to fail; all methods may be called from any thread.

    Each mode replaces the one before, unless `also=True`; `pass_through` ends them all. A mode
    strikes all commands, or those in `commands`, never those in `but`; with `times=n` only the
    next n of them. Names are a command's first word, in any case.
    """

    def __init__(self, server_port: int, *, server_host: str = "127.0.0.1") -> None:
        self.holds: list[Hold] = []
        self._target = (server_host, server_port)
        self._faults: list[Fault] = []
        self._seen: Counter[str] = Counter()
        self._commands: deque[tuple[bytes, ...]] = deque(maxlen=10_000)
        self._accepted = 0
        self._connected = 0
        self._live: dict[Connection, asyncio.Task[None]] = {}
        self._errors: list[BaseException] = []
        self._server: asyncio.Server | None = None
        # Bound but not listening, for as long as the proxy lives: while it refuses, connections
        # are refused by the system, and no other process can take the port.
        self._reserved = socket.socket()
        self._port = self._reserve()
        self._loop = asyncio.SelectorEventLoop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()
        try:
            self._await(self._listen)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self._port

    @property
    def url(self) -> str:
        """The redis:// URL that clients connect to."""
        return f"redis://127.0.0.1:{self.port}"

    # Modes

    def pass_through(self) -> None:
        """End every fault; connections that wait for a withheld reply are reset."""
        self._await(self._pass_through)

    def refuse(self, *, drop: bool = True) -> None:
        """Refuse new connections; with `drop`, close those that exist."""
        self._call(lambda: self._refuse(drop=drop))

    def hang(
        self,
        *,
        commands: Collection[str] | None = None,
        but: Collection[str] = (),
        times: float = math.inf,
        deliver: bool = False,
        also: bool = False,
    ) -> None:
        """Read and answer nothing; with `deliver` the server gets the commands all the same."""
        fault = _fault(Kind.HANG, commands, but, times)
        fault.deliver = deliver
        self._set(fault, also=also)

    def delay(
        self,
        seconds: float,
        direction: Literal["request", "reply", "both"] = "reply",
        *,
        commands: Collection[str] | None = None,
        but: Collection[str] = (),
        also: bool = False,
    ) -> None:
        """Let requests, replies or both be late by `seconds` each, in their order."""
        fault = _fault(Kind.DELAY, commands, but, math.inf)
        fault.seconds, fault.direction = seconds, direction
        self._set(fault, also=also)

    def reset(
        self,
        *,
        after: int | None = None,
        commands: Collection[str] | None = None,
        but: Collection[str] = (),
        times: float = math.inf,
        also: bool = False,
    ) -> None:
        """Reset the connection (RST) after this many bytes of replies, or in mid reply.

        With `after=0` the server does not get the command.
        """
        fault = _fault(Kind.RESET, commands, but, times)
        fault.after = after
        self._set(fault, also=also)

    def cut(
        self,
        *,
        after: int | None = None,
        commands: Collection[str] | None = None,
        but: Collection[str] = (),
        times: float = math.inf,
        also: bool = False,
    ) -> None:
        """Close the connection after this many bytes of replies, or in mid reply.

        With `after=0` the server does not get the command.
        """
        fault = _fault(Kind.CUT, commands, but, times)
        fault.after = after
        self._set(fault, also=also)

    def garbage(
        self,
        size: int = 64,
        *,
        seed: int = 0,
        data: bytes | None = None,
        commands: Collection[str] | None = None,
        but: Collection[str] = (),
        times: float = math.inf,
        also: bool = False,
    ) -> None:
        """Answer with `size` random bytes, or with exactly `data`; the server gets nothing."""
        source = random.Random(seed)
        fault = _fault(Kind.GARBAGE, commands, but, times)
        fault.make_reply = lambda: source.randbytes(size) if data is None else data
        self._set(fault, also=also)

    def error(
        self,
        text: str,
        *,
        commands: Collection[str] | None = None,
        but: Collection[str] = (),
        times: float = math.inf,
        also: bool = False,
    ) -> None:
        """Answer with this error, or the real text of a word in ERRORS; the server gets nothing."""
        line = f"-{ERRORS.get(text, text).strip().removeprefix('-')}\r\n".encode()
        fault = _fault(Kind.ERROR, commands, but, times)
        fault.make_reply = lambda: line
        self._set(fault, also=also)

    # Single commands and connections

    def hold(
        self,
        name: str,
        *,
        side: Side = "request",
        match: bytes = b"",
        times: float = math.inf,
    ) -> Hold:
        """Hold back this command before the server gets it, or the reply before the client does.

        Later commands of the same connection wait behind it, as in a network. It stays on its
        way when its client gives up. `match` must occur in one of the command's arguments.
        `hold(PUSH, side="reply")` holds back messages that the server sends unasked.
        """
        return self._call(lambda: self._add_hold(name, side, match, times))

    def release(self) -> None:
        """Let go everything that is held."""
        for hold in self._call(lambda: list(self.holds)):
            hold.release()

    def drop_connections(self, *, reset: bool = False) -> None:
        """End all present connections on the client's side."""
        self._call(lambda: self._drop(reset=reset))

    def retarget(self, server_port: int, *, server_host: str = "127.0.0.1") -> None:
        """Connect to another server from now on; existing connections stay where they are."""

        def change() -> None:
            self._target = (server_host, server_port)

        self._call(change)

    # Counts

    @property
    def connections(self) -> int:
        """The connections accepted so far."""
        return self._accepted

    @property
    def open_connections(self) -> int:
        """The connections that live now."""
        return len(self._live)

    @property
    def server_connections(self) -> int:
        """The connections made to the server so far."""
        return self._connected

    @property
    def seen(self) -> Counter[str]:
        """How many commands have arrived, by name."""
        return self._call(lambda: Counter(self._seen))

    @property
    def commands(self) -> list[tuple[bytes, ...]]:
        """The words of the last 10,000 commands in the order of their arrival."""
        return self._call(lambda: list(self._commands))

    def forget(self) -> None:
        """Set all counts to zero."""

        def clear() -> None:
            self._seen.clear()
            self._commands.clear()
            self._accepted = self._connected = 0

        self._call(clear)

    def wait_seen(self, name: str, count: int = 1, *, timeout: float = PATIENCE) -> None:
        """Block until `count` commands of this name have arrived."""
        name = name.upper()
        wait_until(lambda: self.seen[name] >= count, f"{count} {name} arrive", timeout=timeout)

    def close(self) -> None:
        """End every connection, lose what is held, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._reserved.close()
        if self._errors:
            raise RuntimeError("the fault proxy itself has failed") from self._errors[0]

    # In the proxy's own thread

    @property
    def quiet(self) -> bool:
        """True while there is no fault and no hold."""
        return not self._faults and not self.holds

    def note(self, command: Command) -> None:
        """Count a command that arrived."""
        self._seen[command.name] += 1
        self._commands.append(command.words)

    def delay_of(self, name: str, direction: Side) -> float:
        """The seconds by which such a command, or its reply, is late."""
        return sum(
            fault.seconds
            for fault in self._faults
            if fault.kind == Kind.DELAY
            and fault.direction in {direction, "both"}
            and fault.matches(name)
        )

    def strike(self, name: str) -> Fault | None:
        """The fault that strikes this command, delays excepted."""
        for fault in self._faults:
            if fault.kind != Kind.DELAY and fault.times > 0 and fault.matches(name):
                fault.times -= 1
                return fault
        return None

    def mute(self, name: str) -> bool:
        """True while no reply to such a command may pass."""
        return any(
            fault.kind == Kind.HANG and fault.times == math.inf and fault.matches(name)
            for fault in self._faults
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the server."""
        streams = await asyncio.open_connection(*self._target)
        self._connected += 1
        return streams

    def _reserve(self) -> int:
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            port = free_port()
            try:
                self._reserved.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            asyncio.set_event_loop(None)

    async def _serve(self) -> None:
        await self._stopping.wait()
        self._stop_listening()
        tasks = list(self._live.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A connection accepted just before is made by a task, and then aborted and closed.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1)
        for _ in range(10):
            await asyncio.sleep(0)

    async def _listen(self) -> None:
        if self._server is None:
            # asyncio sends at once (TCP_NODELAY) only on what says by itself that it is TCP; else
            # two answers in a row wait 40 ms for each other.
            listener = socket.socket(proto=socket.IPPROTO_TCP)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", self._port))
                server: Any = await asyncio.start_server(self._accept, sock=listener, backlog=1024)
                # A server counts its connections. Where it is closed between the accept and the
                # count, Python 3.11 raises, and leaves the socket open. Nothing here waits for it.
                server._attach = server._detach = lambda *_: None
                self._server = server
            except BaseException:
                listener.close()
                raise

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()
            return
        self._accepted += 1
        connection = Connection(self, reader, writer)
        task = self._loop.create_task(connection.run())
        self._live[connection] = task
        task.add_done_callback(lambda task: self._ended(connection, task, writer))

    def _ended(
        self, connection: Connection, task: asyncio.Task[None], writer: asyncio.StreamWriter
    ) -> None:
        self._live.pop(connection, None)
        # A task that is cancelled before its first step closes nothing.
        writer.transport.abort()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)

    async def _pass_through(self) -> None:
        self._faults.clear()
        for connection in list(self._live):
            if connection.withheld:
                connection.hang_up(reset=True)
        await self._listen()

    def _refuse(self, *, drop: bool) -> None:
        self._faults.clear()
        self._stop_listening()
        if drop:
            self._drop(reset=False)

    def _drop(self, *, reset: bool) -> None:
        for connection in list(self._live):
            connection.hang_up(reset=reset)

    def _add_hold(self, name: str, side: Side, match: bytes, times: float) -> Hold:
        hold = Hold(self._call, self._remove_hold, name=name, side=side, match=match, times=times)
        self.holds.append(hold)
        return hold

    def _remove_hold(self, hold: Hold) -> None:
        if hold in self.holds:
            self.holds.remove(hold)

    # Between the threads

    def _set(self, fault: Fault, *, also: bool) -> None:
        async def change() -> None:
            if not also:
                await self._pass_through()
            self._faults.append(fault)

        self._await(change)

    def _call(self, function: Callable[[], T]) -> T:
        if not self._thread.is_alive():
            return function()  # closed: nothing else touches the state any more
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:  # noqa: BLE001  it is raised in the caller's thread
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result(PATIENCE)

    def _await(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(PATIENCE)


def _fault(
    kind: Kind, commands: Collection[str] | None, but: Collection[str], times: float
) -> Fault:
    return Fault(
        kind=kind,
        commands=None if commands is None else frozenset(name.upper() for name in commands),
        but=frozenset(name.upper() for name in but),
        times=times,
    )
