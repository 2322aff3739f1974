"""One client's connection through the fault proxy; lives in the proxy's event loop."""

import asyncio
import math
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from tests.support.resp import ProtocolError, command_end, command_words, frame_end
from tests.support.waiting import PATIENCE

Side = Literal["request", "reply"]
_CHUNK = 65536
_SUBSCRIBING = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR"}
_ANSWERED_BY_PUSHES = _SUBSCRIBING | {"UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
_MESSAGES = (b"message", b"pmessage", b"smessage")

PUSH = "PUSH"
"""The name under which holds and faults find messages that the server sends unasked."""


class Kind(StrEnum):
    """What a fault does."""

    HANG = "hang"
    DELAY = "delay"
    RESET = "reset"
    CUT = "cut"
    GARBAGE = "garbage"
    ERROR = "error"


@dataclass(eq=False, slots=True, kw_only=True)
class Fault:
    """One fault, and the commands that it strikes."""

    kind: Kind
    commands: frozenset[str] | None = None
    but: frozenset[str] = frozenset()
    times: float = math.inf
    seconds: float = 0.0
    direction: Literal["request", "reply", "both"] = "both"
    after: int | None = None
    make_reply: Callable[[], bytes] = bytes
    deliver: bool = False

    def matches(self, name: str) -> bool:
        """True when this command is struck."""
        return (self.commands is None or name in self.commands) and name not in self.but


class Hold:
    """Commands, or replies, that are held back until a test lets them go."""

    def __init__(
        self,
        run_in_loop: Callable[[Callable[[], None]], None],
        forget: "Callable[[Hold], None]",
        *,
        name: str,
        side: Side,
        match: bytes,
        times: float,
    ) -> None:
        self._run_in_loop = run_in_loop
        self._forget = forget
        self._name = name.upper()
        self._side = side
        self._match = match
        self._left = times
        self._open = asyncio.Event()
        self._dropped = False
        self._changed = threading.Condition()
        self._held: list[Command] = []
        self._answered = 0

    @property
    def held(self) -> list[tuple[bytes, ...]]:
        """The words of each command held back so far, released or not."""
        with self._changed:
            return [command.words for command in self._held]

    def wait_held(self, count: int = 1, *, timeout: float = PATIENCE) -> None:
        """Block until `count` commands are, or were, held back."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= count, timeout):
                raise TimeoutError(f"{len(self._held)} of {count} {self._name} held back")

    async def until_held(self, count: int = 1, *, within: float = PATIENCE) -> None:
        """Wait, without blocking the event loop, until `count` commands are held back."""
        await _poll(lambda: len(self._held) >= count, f"{count} {self._name} held back", within)

    def release(self) -> None:
        """Let go what is held, in its order, and hold nothing more."""
        self._run_in_loop(self._let_go)

    def drop(self) -> None:
        """Lose what is held for good, with its connections, and hold nothing more."""
        self._dropped = True
        self.release()

    def wait_delivered(self, *, timeout: float = PATIENCE) -> None:
        """Block until the server has answered every command that was held back."""
        with self._changed:
            if not self._changed.wait_for(self._all_answered, timeout):
                raise TimeoutError(f"{self._answered} of {len(self._held)} {self._name} answered")

    async def until_delivered(self, *, within: float = PATIENCE) -> None:
        """Wait, without blocking the event loop, until the server has answered them all."""
        await _poll(self._all_answered, f"{self._name} answered", within)

    def _let_go(self) -> None:
        self._open.set()
        self._forget(self)

    def _all_answered(self) -> bool:
        return self._answered >= len(self._held)

    async def stop(self, command: "Command", side: Side) -> bool:
        """Stop the command here if it is held; False when it was dropped meanwhile."""
        wanted = side == self._side and command.name == self._name
        if not wanted or self._open.is_set() or self._left < 1:
            return True
        if not any(self._match in word for word in command.words[1:] or command.words or (b"",)):
            return True
        self._left -= 1
        with self._changed:
            self._held.append(command)
            if side == "request":
                command.holds.append(self)
            else:
                self._answered += 1  # it is the answer that is held back
            self._changed.notify_all()
        await self._open.wait()
        return not self._dropped

    def answered(self) -> None:
        """Note that the server has answered one of the commands that were held."""
        with self._changed:
            self._answered += 1
            self._changed.notify_all()


@dataclass(eq=False, slots=True, kw_only=True)
class Command:
    """One command on its way to the server."""

    name: str
    words: tuple[bytes, ...]
    raw: bytes
    due: float
    holds: list[Hold] = field(default_factory=list[Hold])


@dataclass(eq=False, slots=True, kw_only=True)
class _Expected:
    """A reply that the client waits for; `local` is one that the server has no part in."""

    command: Command
    local: bytes | None = None
    fault: Fault | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class _Reply:
    """One reply, or message, on its way to the client."""

    raw: bytes
    due: float
    command: Command
    fault: Fault | None = None


class Rules(Protocol):
    """What a connection asks the proxy."""

    holds: list[Hold]

    @property
    def quiet(self) -> bool:
        """True while there is no fault and no hold."""
        ...

    def note(self, command: Command) -> None:
        """Count a command that arrived."""
        ...

    def delay_of(self, name: str, direction: Side) -> float:
        """The seconds by which such a command, or its reply, is late."""
        ...

    def strike(self, name: str) -> Fault | None:
        """The fault that strikes this command, delays excepted."""
        ...

    def mute(self, name: str) -> bool:
        """True while no reply to such a command may pass."""
        ...

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the server."""
        ...


class Connection:
    """The two halves of one connection, and what is under way between them."""

    def __init__(
        self, rules: Rules, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._rules = rules
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[Command | None] = asyncio.Queue()
        self._requests_waiting = 0
        self._replies_waiting = 0
        self._replies: asyncio.Queue[_Reply | None] = asyncio.Queue()
        self._expected: deque[_Expected] = deque()
        self._all_answered = asyncio.Event()
        self._redis_state: asyncio.StreamWriter | None = None
        self._upstream_task: asyncio.Task[None] | None = None
        self._passed: dict[Fault, int] = {}
        self._resp3 = False
        self._subscribed = False
        self._client_gone = False
        self._swallowing = False  # a command was kept from the server, and so are all after it
        self._silent = False  # a reply was kept from the client, and so are all after it
        writer.transport.set_write_buffer_limits(0)  # so that drain means sent

    @property
    def withheld(self) -> bool:
        """True when the client waits for a reply that will never come."""
        return self._swallowing or self._silent

    async def run(self) -> None:
        """Carry commands and replies until both sides have ended."""
        tasks = [
            self._loop.create_task(step())
            for step in (self._read_client, self._send_upstream, self._send_client)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            if self._upstream_task is not None:
                tasks.append(self._upstream_task)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.hang_up()
            self._abort_upstream()

    def hang_up(self, *, reset: bool = False) -> None:
        """End the client's side; what is held on its way to the server stays on its way."""
        self._client_gone = True
        if reset and not self._writer.is_closing():
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _read_client(self) -> None:
        buffer = bytearray()
        try:
            while chunk := await self._reader.read(_CHUNK):
                buffer += chunk
                while buffer and (end := command_end(buffer)) is not None:
                    command = self._command(bytes(buffer[:end]))
                    del buffer[:end]
                    if not self._forward_now(command):
                        self._requests_waiting += 1
                        self._requests.put_nowait(command)
        except (OSError, ProtocolError):
            self.hang_up(reset=True)
        finally:
            self._client_gone = True
            self._requests.put_nowait(None)

    def _forward_now(self, command: Command) -> bool:
        """The short way: nothing is waiting, nothing is to be done to the command."""
        redis_state = self._redis_state
        if (
            redis_state is None
            or redis_state.is_closing()
            or self._requests_waiting
            or self.withheld
        ):
            return False
        if not self._rules.quiet or redis_state.transport.get_write_buffer_size():
            return False
        self._expect_reply(command, None)
        redis_state.write(command.raw)
        return True

    def _command(self, raw: bytes) -> Command:
        words = command_words(raw)
        name = words[0].decode(errors="replace").upper() if words else ""
        due = self._loop.time() + self._rules.delay_of(name, "request")
        command = Command(name=name, words=words, raw=raw, due=due)
        self._rules.note(command)
        return command

    async def _send_upstream(self) -> None:
        try:
            while (command := await self._requests.get()) is not None:
                if not await self._pass_gates(command, command.due, "request"):
                    self.hang_up(reset=True)
                    self._abort_upstream()
                    return
                await self._handle(command)
                self._requests_waiting -= 1
            await self._end_upstream()
        except OSError:
            self._abort_upstream()  # the server is not there, or has gone
        finally:
            if self._redis_state is None:
                self._replies.put_nowait(None)

    async def _handle(self, command: Command) -> None:
        if self._swallowing:
            return
        fault = self._rules.strike(command.name)
        match fault.kind if fault else None:
            case Kind.HANG if fault and not fault.deliver:
                self._swallowing = True
            case Kind.GARBAGE | Kind.ERROR if fault:
                self._expect(_Expected(command=command, local=fault.make_reply()))
            case Kind.RESET | Kind.CUT if fault and (fault.after == 0 or self._subscribed):
                self.hang_up(reset=fault.kind == Kind.RESET)
            case _:
                await self._forward(command, fault)

    async def _forward(self, command: Command, fault: Fault | None) -> None:
        if self._redis_state is None:
            reader, self._redis_state = await self._rules.connect()
            self._upstream_task = self._loop.create_task(self._read_upstream(reader))
        self._expect_reply(command, fault)
        self._redis_state.write(command.raw)
        await self._redis_state.drain()

    def _expect_reply(self, command: Command, fault: Fault | None) -> None:
        if not command.words or (self._resp3 and command.name in _ANSWERED_BY_PUSHES):
            return  # no reply of its own will come
        self._expect(_Expected(command=command, fault=fault))

    async def _end_upstream(self) -> None:
        if self._redis_state is None or self._redis_state.is_closing():
            return
        if self._expected and not self._subscribed:
            # A server may drop what it has not read when it sees the end: let it answer first.
            self._all_answered.clear()
            async with asyncio.timeout(5.0):
                await self._all_answered.wait()
        if not self._redis_state.is_closing():
            self._redis_state.write_eof()

    def _abort_upstream(self) -> None:
        if self._redis_state is not None:
            self._redis_state.transport.abort()

    async def _read_upstream(self, reader: asyncio.StreamReader) -> None:
        buffer = bytearray()
        try:
            while chunk := await reader.read(_CHUNK):
                buffer += chunk
                while buffer and (end := frame_end(buffer)) is not None:
                    self._on_frame(bytes(buffer[:end]))
                    del buffer[:end]
        except (OSError, ProtocolError):
            pass
        finally:
            self._abort_upstream()
            self._all_answered.set()
            self._replies.put_nowait(None)

    def _expect(self, expected: _Expected) -> None:
        if self._subscribed and expected.local is None:
            return  # replies and messages cannot be told apart any more, nor need they be
        self._expected.append(expected)
        self._emit_local()

    def _emit_local(self) -> None:
        while self._expected and self._expected[0].local is not None:
            expected = self._expected.popleft()
            self._emit(expected.local or b"", expected.command, None)
        if not self._expected:
            self._all_answered.set()

    def _on_frame(self, frame: bytes) -> None:
        if frame.startswith(b">") or self._subscribed or not self._expected:
            unasked = Command(name=_message_name(frame), words=(frame,), raw=b"", due=0.0)
            self._emit(frame, unasked, None)
            return
        expected = self._expected.popleft()
        command = expected.command
        for hold in command.holds:
            hold.answered()
        if command.name == "HELLO" and not frame.startswith(b"-"):
            self._resp3 = frame.startswith(b"%")
        self._emit(frame, command, expected.fault)
        if command.name in _SUBSCRIBING and not frame.startswith(b"-"):
            self._subscribed = True
            self._expected = deque(e for e in self._expected if e.local is not None)
        self._emit_local()

    def _emit(self, raw: bytes, command: Command, fault: Fault | None) -> None:
        struck = fault is not None and fault.kind == Kind.HANG
        if self._silent or struck or self._rules.mute(command.name):
            self._silent = True
            return
        if fault is None and self._rules.quiet and self._may_answer_now():
            self._writer.write(raw)
            return
        self._replies_waiting += 1
        due = self._loop.time() + self._rules.delay_of(command.name, "reply")
        self._replies.put_nowait(_Reply(raw=raw, due=due, command=command, fault=fault))

    def _may_answer_now(self) -> bool:
        if self._replies_waiting or self._client_gone:
            return False
        return not self._writer.transport.get_write_buffer_size()

    async def _send_client(self) -> None:
        try:
            while (reply := await self._replies.get()) is not None:
                if not await self._pass_gates(reply.command, reply.due, "reply"):
                    self.hang_up(reset=True)
                if not self._client_gone or not self._writer.is_closing():
                    await self._answer(reply)
                self._replies_waiting -= 1
            self._writer.close()
        except OSError:
            self.hang_up()

    async def _answer(self, reply: _Reply) -> None:
        fault = reply.fault
        if fault is None or fault.kind not in {Kind.RESET, Kind.CUT}:
            self._writer.write(reply.raw)
            await self._writer.drain()
            return
        passed = self._passed.get(fault, 0)
        size = len(reply.raw) // 2 if fault.after is None else fault.after - passed
        self._passed[fault] = passed + len(reply.raw)
        self._writer.write(reply.raw[: max(0, size)])
        await self._writer.drain()
        if size <= len(reply.raw):
            self.hang_up(reset=fault.kind == Kind.RESET)

    async def _pass_gates(self, command: Command, due: float, side: Side) -> bool:
        late = due - self._loop.time()
        if late > 0:
            await asyncio.sleep(late)
        for hold in tuple(self._rules.holds):
            if not await hold.stop(command, side):
                return False
        return True


def _message_name(frame: bytes) -> str:
    words = frame.split(b"\r\n", 3)
    is_message = frame.startswith(b">") or (len(words) > 2 and words[2] in _MESSAGES)
    return PUSH if is_message else ""


async def _poll(condition: Callable[[], bool], what: str, within: float) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within:g} s")
        await asyncio.sleep(0.002)
