"""Commands pipelined on one connection: what costs is a client's work around each command.

redis-py makes the connection, with all that its URL asks for (TLS, password, database, sentinels);
then the bytes pass between its transport and hiredis with nothing in between. The commands of one
turn of the event loop leave together, and the server works them off in their order: what is read
sees what was written before. Answers come in that order too, each to its own future, so that
whoever is cancelled shifts nobody's answer: it is read and dropped.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# redis-py and hiredis leave part of their own signatures without types.

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast, final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.node import (
    SERVER_IS_ELSEWHERE,
    connection_history,
)

FAILURES: Final = (RedisError, OSError, TimeoutError)
"""What a server that does not answer as it should makes redis-py, and a link, raise."""
_NOTHING: Final = object()
_pack: Final[Callable[[Command], bytes]] = cast("Any", hiredis.pack_command)
"""hiredis' own signature takes tuples of one part."""
_GRACE: Final = 0.002
"""Seconds in which the event loop reads what lies there already when a budget is over."""
_PROGRESS: Final = 64 * 1024
"""Bytes that have to arrive within a budget where a large answer is to be waited for longer."""
_MOST_LOOKS: Final = 5
"""For how many budgets such an answer is waited for."""
_TOO_MUCH: Final = 8 * 1024 * 1024
"""Bytes after which a server that is still answering has been asked for too much at once."""
_LARGE: Final = 64 * 1024
"""Bytes from which on a value is not copied to stand in one piece with what is sent around it."""
_KEPT_BUFFER: Final = 4 * 1024 * 1024
"""Bytes that hiredis may keep for the next answers. By default it gives back what is beyond 16 KB
after each, and taking a megabyte anew costs as much time as all copies of it together."""
Told = Callable[[Exception], None]
"""Is told how a server failed."""


@final
class _Question:
    """Commands under way, and their answers as far as they have come."""

    __slots__ = ("answers", "arrived", "count", "due", "future", "looks", "within")

    def __init__(
        self, future: "asyncio.Future[list[Any]]", count: int, *, due: float, within: float
    ) -> None:
        self.future: Final = future
        self.count: Final = count
        self.due: Final = due
        self.within: Final = within
        self.answers: list[Any] = []
        self.looks = 0
        self.arrived = 0
        """How much of them had come when they were waited for longer."""


@final
class PipelinedConnection(asyncio.Protocol):
    """One connection of redis-py's, from now on ours.

    Args:
        connection: it is connected, and nothing is under way on it.
        failed: is told, once for all who wait, that the server does not answer.
    """

    def __init__(self, connection: AbstractConnection, failed: Told) -> None:
        self.history: Final = connection_history(connection)
        """The server history that was met when the connection was made."""
        self._loop: Final = asyncio.get_running_loop()
        self._failed: Final = failed
        self._reader: Final = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=cast("Any", connection)._parser.parse_error,  # noqa: SLF001 - its own errors
            notEnoughData=_NOTHING,
        )
        self._reader.setmaxbuf(_KEPT_BUFFER)
        self._questions: deque[_Question] = deque()
        self._given_up = 0
        """How many of the oldest of them nobody waits for any more."""
        self._leaving: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        """Bytes that came since the oldest question is the oldest."""
        self._open = True
        self._retired = False
        self._writer: Final = _taken_from(connection)
        self._transport: Final = self._writer.transport
        self._former: Final = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether something may be asked: it is open, and the server has not become another one."""
        return self._open and not self._retired

    def ask(
        self, commands: Sequence[Command], *, due: float, within: float
    ) -> "asyncio.Future[list[Any]]":
        """Send commands; return a future of the list of their answers.

        An error that the server answers stands in its place in the list. The future fails with one
        of `FAILURES`: then nothing is known of what was sent.

        Args:
            commands: what to send; nothing is answered at once.
            due: until when the answers have to be there, by the event loop's clock.
            within: the budget, in seconds, that ends then.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not commands:
            future.set_result([])
            return future
        if not self._open:
            future.set_exception(RedisConnectionError("the connection is closed"))
            return future
        if not self._leaving:
            self._loop.call_soon(self._flush)
        self._leaving += packed(commands)
        self._questions.append(_Question(future, len(commands), due=due, within=within))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        return future

    def retire(self) -> None:
        """Close as soon as nothing is under way."""
        self._retired = True
        if not self._questions:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self._end(RedisConnectionError("the connection was closed"))

    # what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take what has come, and give complete answers to who waits for them."""
        self._received += len(data)
        gets, questions = self._reader.gets, self._questions
        try:
            self._reader.feed(data)
            while (answer := gets()) is not _NOTHING:
                if not questions:
                    raise InvalidResponse("an answer that nobody has asked for")
                if isinstance(answer, Exception):
                    self._heed(answer)
                question = questions[0]
                question.answers.append(answer)
                if len(question.answers) == question.count:
                    self._answered(questions.popleft())
        except RedisError as error:
            self._give_up(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._give_up(RedisConnectionError(f"the connection was lost ({exc})"))
        self._former.connection_lost(exc)

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, []
        if not self._open:
            return
        if len(leaving) > 1 and max(map(len, leaving)) < _LARGE:
            leaving = [b"".join(leaving)]
        try:
            for piece in leaving:
                self._transport.write(piece)
        except RuntimeError as error:
            # uvloop's way to say that the transport is closed.
            self._give_up(RedisConnectionError(str(error)))

    def _answered(self, question: _Question) -> None:
        self._received = 0
        if self._given_up:
            self._given_up -= 1
        if not question.future.done():
            question.future.set_result(question.answers)
        if self._retired:
            self.retire()

    def _heed(self, answer: Exception) -> None:
        if isinstance(answer, SERVER_IS_ELSEWHERE):
            self._retired = True
        if isinstance(answer, RedisConnectionError):
            # LOADING and the like: the server is not one to be asked.
            raise answer

    def _look(self) -> None:
        """Give up what is under way when the oldest question is overdue: the others wait behind it.

        Its answer is read and dropped if it still comes, so that a server which was slow once needs
        no new connection. Before that, the event loop is let read what lies there: where it was
        busy elsewhere, an answer that came in time is no failure of the server. Nor is one which is
        on its way, and too large for one budget, or for all that it is waited for.
        """
        self._timer = None
        if len(self._questions) == self._given_up or not self._open:
            return
        oldest, now = self._questions[self._given_up], self._loop.time()
        wait_until = oldest.due
        if now >= oldest.due:
            oldest.looks += 1
            arriving = self._received - oldest.arrived >= _PROGRESS
            if oldest.looks == 1:
                wait_until = now + _GRACE
            elif arriving and oldest.looks <= _MOST_LOOKS:
                wait_until = now + oldest.within
                oldest.arrived = self._received
            else:
                self._overdue(asked_too_much=arriving and self._received >= _TOO_MUCH)
                return
        self._timer = self._loop.call_at(wait_until, self._look)

    def _overdue(self, *, asked_too_much: bool) -> None:
        error = TimeoutError("no answer within the budget")
        if asked_too_much:
            # Whoever asks next is not to wait for the rest of it.
            self._end(error)
            return
        self._tell(error)
        self._given_up = len(self._questions)
        self._failed(error)

    def _give_up(self, error: Exception) -> None:
        """End it; whoever waited for the server has seen it fail, once for all of them."""
        was_asked = self._open and len(self._questions) > self._given_up
        self._end(error)
        if was_asked:
            self._failed(error)

    def _end(self, error: Exception) -> None:
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._tell(error)
        self._questions.clear()
        self._transport.abort()

    def _tell(self, error: Exception) -> None:
        for question in self._questions:
            if not question.future.done():
                question.future.set_exception(error)


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return the bytes of commands; a large value, the third part of one, is as it is in them."""
    pieces: list[bytes] = []
    for command in commands:
        value = command[2] if len(command) > 2 else b""
        if not isinstance(value, bytes) or len(value) < _LARGE:
            pieces.append(_pack(command))
            continue
        first, rest = (_pack(part).partition(b"\r\n")[2] for part in (command[:2], command[3:]))
        head = b"*%d\r\n%b$%d\r\n" % (len(command), first, len(value))
        pieces += (head, value, b"\r\n" + rest)
    return pieces


def _taken_from(connection: AbstractConnection) -> asyncio.StreamWriter:
    """Return what a connection of redis-py's writes to; it lets go of it."""
    made: Any = connection
    writer: asyncio.StreamWriter = made._writer  # noqa: SLF001 - nothing public tells
    made._reader = made._writer = None  # noqa: SLF001 - else it would close it when it is dropped
    return writer
