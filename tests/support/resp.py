"""The Redis wire protocol, as far as the tests need it: frames, and one blocking client."""

import socket
from typing import Any

from tests.support.closing import Closing
from tests.support.waiting import PATIENCE

_CRLF = b"\r\n"
_ONE_LINE = b"+-:,#(_"  # simple strings, errors, numbers, doubles, booleans, big numbers, null
_BULK = b"$!="
_AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}

Word = str | bytes | int | float


class ProtocolError(Exception):
    """The bytes are not RESP."""


class ReplyError(Exception):
    """The server answered with an error; its text is the message."""


def encode(*words: Word) -> bytes:
    """A command as the array of bulk strings that clients send."""
    parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def frame_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """The index behind the frame that begins at `start`, or None while it is incomplete."""
    position = start
    missing = 1
    while missing:
        line_end = data.find(_CRLF, position)
        if line_end < 0:
            return None
        kind = data[position]
        if kind in _BULK:
            size = _number(data, position, line_end)
            position = line_end + 2 + (size + 2 if size >= 0 else 0)
            if position > len(data):
                return None
        elif kind in _AGGREGATES:
            missing += max(0, _number(data, position, line_end)) * _AGGREGATES[kind]
            missing += kind == ord("|")  # an attribute stands before the value it describes
            position = line_end + 2
        elif kind in _ONE_LINE:
            position = line_end + 2
        else:
            raise ProtocolError(f"no frame begins with {bytes(data[position:line_end])!r}")
        missing -= 1
    return position


def command_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """The index behind the command, array or inline, that begins at `start`, or None."""
    if start < len(data) and data[start] == ord("*"):
        return frame_end(data, start)
    line_end = data.find(b"\n", start)
    return None if line_end < 0 else line_end + 1


def command_words(raw: bytes) -> tuple[bytes, ...]:
    """The words of one complete command."""
    if not raw.startswith(b"*"):
        return tuple(raw.split())
    words: list[bytes] = []
    position = raw.index(_CRLF) + 2
    while position < len(raw):
        line_end = raw.index(_CRLF, position)
        size = _number(raw, position, line_end)
        words.append(raw[line_end + 2 : line_end + 2 + size])
        position = line_end + 2 + size + 2
    return tuple(words)


def decode(raw: bytes) -> Any:
    """The value of one complete RESP2 frame; errors come back as `ReplyError` values."""
    value, _ = _decode(raw, 0)
    return value


def _decode(raw: bytes, start: int) -> tuple[Any, int]:
    line_end = raw.index(_CRLF, start)
    kind, rest, after = raw[start : start + 1], raw[start + 1 : line_end], line_end + 2
    match kind:
        case b"+":
            return rest, after
        case b"-":
            return ReplyError(rest.decode(errors="replace")), after
        case b":":
            return int(rest), after
        case b"$":
            size = int(rest)
            return (None, after) if size < 0 else (raw[after : after + size], after + size + 2)
        case b"*":
            if int(rest) < 0:
                return None, after
            items: list[Any] = []
            for _ in range(int(rest)):
                item, after = _decode(raw, after)
                items.append(item)
            return items, after
        case _:
            raise ProtocolError(f"no RESP2 frame begins with {kind!r}")


def _number(data: bytes | bytearray, position: int, line_end: int) -> int:
    try:
        return int(data[position + 1 : line_end])
    except ValueError as error:
        raise ProtocolError(f"not a length: {bytes(data[position:line_end])!r}") from error


class RespClient(Closing):
    """One blocking connection that sends commands and reads replies, and does nothing else."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout: float = PATIENCE) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send exactly these bytes."""
        self._socket.sendall(raw)

    def read(self) -> Any:
        """Read one reply; an error comes back as a `ReplyError` value."""
        return decode(self.read_frame())

    def read_frame(self) -> bytes:
        """Read the bytes of one reply; `ConnectionError` when the connection ends before."""
        while True:
            end = frame_end(self._buffer) if self._buffer else None
            if end is not None:
                frame = bytes(self._buffer[:end])
                del self._buffer[:end]
                return frame
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError(f"the connection ended after {bytes(self._buffer)!r}")
            self._buffer += chunk

    def silent_for(self, seconds: float = 0.2) -> bool:
        """True when nothing at all arrives for so long, and the connection does not end."""
        if self._buffer:
            return False
        usual = self._socket.gettimeout()
        self._socket.settimeout(seconds)
        try:
            self._buffer += self._socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(usual)
        return False

    def read_bytes(self, size: int) -> bytes:
        """Read this many bytes, whatever they are."""
        while len(self._buffer) < size:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError(f"the connection ended after {bytes(self._buffer)!r}")
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def call(self, *words: Word) -> Any:
        """Send one command and return its reply, or raise it when it is an error."""
        self.send(encode(*words))
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send all commands at once and return all replies, errors as values."""
        self.send(b"".join(encode(*words) for words in commands))
        return [self.read() for _ in commands]
