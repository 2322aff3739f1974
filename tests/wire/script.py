"""What a scripted exchange is made of: what the origin answers, a client sends, and must see."""

from dataclasses import dataclass
from typing import Literal

Lines = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the application. `then` is how its call ends."""

    status: int = 200
    headers: Lines = ()
    chunks: tuple[bytes, ...] = (b"body",)
    then: Literal["end", "raise", "return", "wait"] = "end"
    """`end`: in good order; `raise` and `return`: without a last piece; `wait`: only when its
    client has hung up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Bytes that a client sends, and one response that it reads then."""

    sends: bytes = b""
    """Exact bytes; `HOST` in them becomes the server's address. Empty: the next pipelined one."""
    method: str = "GET"
    status: int = 200
    body: bytes | None = None
    has: tuple[tuple[str, str], ...] = ()
    """Header lines that must be there, once each; a value of `*` is any."""
    lacks: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    """Names, as they are spelled, in this order among others."""
    framing: Literal["length", "chunked", "close", "none"] | None = None
    interim: tuple[int, ...] = ()
    runs: int | None = None
    """How often the application has run by now."""
    closed: bool = False
    """Whether the server closes the connection after this response, or must keep it."""
    cut: bool = False
    """The response ends before it is whole."""
    hangs_up: bool = False
    """The client goes away when it has read the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A scripted exchange: its reason, what the application answers run by run, and the turns."""

    name: str
    """Also the path of its URL."""
    reason: str
    answers: tuple[Answer, ...] = (Answer(),)
    """One for each run; the last one is repeated."""
    turns: tuple[Turn, ...]
    dated: bool = False
    """Whether the server adds a Date of its own."""


def asks(method: str, path: str, *lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """A request as bytes, with the server's address as Host unless a line names another."""
    host = [] if any(line.lower().startswith("host:") for line in lines) else ["Host: HOST"]
    head = [f"{method} {path} HTTP/{version}", *host, *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
