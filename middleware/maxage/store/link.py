"""Commands pipelined on one connection: what costs is a client's work around each command.

redis-py makes the connection, with all that its URL asks for (TLS, password, database); then
the bytes pass between its transport and hiredis with nothing in between. Answers come in the
order of the questions, each to its own future, so that whoever is cancelled shifts nobody's answer:
it is read and dropped.
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

from maxage.store.commands import Command
from maxage.store.guard import budget
from maxage.store.node import SERVER_IS_ELSEWHERE, Node, connection_history, note_history

_NOTHING: Final = object()
_LATE: Final = 0.05
"""The part of a budget by which the event loop may be late without being thought to have stood."""
_PROGRESS: Final = 64 * 1024
"""Bytes that have to arrive within a budget where a large answer is to be waited for longer."""
_MOST_LOOKS: Final = 5
"""How often a question is looked at before it is given up, however much arrives."""


@final
class _Question:
    """Commands under way, and their answers as far as they have come."""

    __slots__ = ("answers", "count", "due", "future", "looks", "seconds")

    def __init__(self, count: int, due: float, seconds: float) -> None:
        self.count: Final = count
        self.due = due
        self.seconds: Final = seconds
        self.future: Final[asyncio.Future[list[Any]]] = asyncio.get_running_loop().create_future()
        self.answers: list[Any] = []
        self.looks = 0


@final
class Link(asyncio.Protocol):
    """One connection of redis-py's, from now on ours.

    Args:
        connection: it is connected, and nothing is under way on it.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self.history: Final = connection_history(connection)
        """The server history that was met when the connection was made."""
        self._loop: Final = asyncio.get_running_loop()
        self._reader: Final = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=cast("Any", connection)._parser.parse_error,  # noqa: SLF001 - its own errors
            notEnoughData=_NOTHING,
        )
        self._questions: deque[_Question] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
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

    @property
    def under_way(self) -> int:
        """How many questions are not answered yet."""
        return len(self._questions)

    def ask(
        self, commands: Sequence[Command], *, due: float, seconds: float
    ) -> "asyncio.Future[list[Any]]":
        """Send commands; return a future of their answers, in which errors stand in their place.

        Args:
            commands: at least one.
            due: until when the answers have to be there, by the event loop's clock.
            seconds: the budget that ends then.

        The future fails with `TimeoutError` or `RedisError`, and then nothing is known of what was
        sent; nor is the connection used any more.
        """
        question = _Question(len(commands), due, seconds)
        if not self._open:
            question.future.set_exception(RedisConnectionError("the connection is closed"))
            return question.future
        if not self._questions:
            self._received = 0
        self._questions.append(question)
        try:
            self._transport.write(b"".join(map(hiredis.pack_command, commands)))
        except RuntimeError as error:
            # uvloop's way to say that the transport is closed.
            self._give_up(RedisConnectionError(str(error)))
            return question.future
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        return question.future

    def retire(self) -> None:
        """Close as soon as nothing is under way."""
        self._retired = True
        if not self._questions:
            self._give_up(RedisConnectionError("the connection was closed"))

    def close(self) -> None:
        """Close at once."""
        self._give_up(RedisConnectionError("the connection was closed"))

    # what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take what has come, and give complete answers to who waits for them."""
        self._received += len(data)
        reader = self._reader
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _NOTHING:
                self._answered(answer)
        except RedisError as error:
            self._give_up(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        error = RedisConnectionError("the server closed the connection")
        error.__cause__ = exc
        self._give_up(error)
        self._former.connection_lost(exc)

    def _answered(self, answer: Any) -> None:
        if not self._questions:
            raise InvalidResponse("an answer that nobody has asked for")
        if isinstance(answer, SERVER_IS_ELSEWHERE):
            self._retired = True
        if isinstance(answer, RedisConnectionError):
            # LOADING and the like: the server is not one to be asked.
            raise answer
        question = self._questions[0]
        question.answers.append(answer)
        if len(question.answers) == question.count:
            self._questions.popleft()
            self._received = 0
            if not question.future.done():
                question.future.set_result(question.answers)
            if self._questions:
                # It could not be answered before those in front of it.
                following = self._questions[0]
                following.due = max(following.due, self._loop.time() + following.seconds)
            elif self._retired:
                self.retire()

    def _look(self) -> None:
        """Give up when the oldest question is overdue.

        Not so where the event loop itself stood still, so that the answer may lie there unread, nor
        where a large answer is on its way.
        """
        self._timer = None
        if not self._questions or not self._open:
            return
        oldest, now = self._questions[0], self._loop.time()
        late, received = now - oldest.due, self._received
        if late >= 0:
            self._received = 0
            oldest.looks += 1
            if late > oldest.seconds * _LATE and oldest.looks == 1:
                oldest.due = now + late
            elif received >= _PROGRESS and oldest.looks < _MOST_LOOKS:
                oldest.due = now + oldest.seconds
            else:
                self._give_up(TimeoutError("no answer within the budget"))
                return
        self._timer = self._loop.call_at(oldest.due, self._look)

    def _give_up(self, error: Exception) -> None:
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._questions = self._questions, deque()
        for question in waiting:
            if not question.future.done():
                question.future.set_exception(error)
        self._transport.abort()


def _taken_from(connection: AbstractConnection) -> asyncio.StreamWriter:
    """Return what a connection of redis-py's writes to; it lets go of it."""
    made: Any = connection
    writer: asyncio.StreamWriter = made._writer  # noqa: SLF001 - nothing public tells
    made._reader = made._writer = None  # noqa: SLF001 - else it would close it when it is dropped
    return writer


@final
class Lane:
    """The links for one kind of questions; made when they are needed, and anew when they are lost.

    Args:
        node: the server.
        connect: returns a connection of redis-py's that is not made yet.
        seconds: what making it may take.
        most: links at most. As long as there are fewer, nobody waits behind somebody else's answer.
    """

    def __init__(
        self, node: Node, connect: Callable[[], AbstractConnection], *, seconds: float, most: int
    ) -> None:
        self._node: Final = node
        self._connect: Final = connect
        self._seconds: Final = seconds
        self._most: Final = most
        self._links: list[Link] = []
        self._making: set[asyncio.Task[Link]] = set()
        self._lost = b""
        """The history of a link that was lost, until another one has taken its place."""

    async def link(self, due: float) -> Link:
        """Return a link to the server of the history that was met last, by then.

        Raises:
            TimeoutError, RedisError, OSError: there is none.
        """
        chosen: Link | None = None
        for link in self._links:
            if not link.usable or link.history != self._node.history:
                return await self._without(link).link(due)
            if not link.under_way:
                return link
            if chosen is None or link.under_way < chosen.under_way:
                chosen = link
        if len(self._links) + len(self._making) < self._most:
            making = asyncio.get_running_loop().create_task(self._make())
            self._making.add(making)
            making.add_done_callback(self._made)
        elif chosen is not None:
            return chosen
        else:
            making = next(iter(self._making))
        async with budget(max(0.0, due - asyncio.get_running_loop().time())):
            # Others may wait for it too.
            return await asyncio.shield(making)

    async def close(self) -> None:
        """Close the links; others are made when they are needed."""
        making = tuple(self._making)
        for task in making:
            task.cancel()
        if making:
            await asyncio.wait(making)
        for link in self._links:
            link.close()
        self._links.clear()

    def _without(self, link: Link) -> "Lane":
        self._lost = link.history
        self._links.remove(link)
        link.retire()
        return self

    async def _make(self) -> Link:
        connection = self._connect()
        if self._lost:
            note_history(connection, self._lost)
            self._lost = b""
        try:
            async with budget(self._seconds):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        link = Link(connection)
        self._links.append(link)
        return link

    def _made(self, making: asyncio.Task[Link]) -> None:
        self._making.discard(making)
        if not making.cancelled():
            # Whoever waited for it was told; perhaps nobody waits any more.
            making.exception()
