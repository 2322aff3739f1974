"""A pipelined connection: all commands of one turn of the event loop leave in one write.

redis-py makes the connection, with all that its URL asks for (TLS, password, database, sentinels).
Then bytes pass directly between its transport and hiredis: redis-py's work around each command
costs more than the command. A server answers commands in their order, so a read sees every write
that was sent before it. Each answer goes to its own future. The answer to a cancelled request is
read and dropped.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# redis-py and hiredis leave part of their own signatures without types.

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast, final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from maxage.observe.counters import PROCESS
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.node import SERVER_IS_ELSEWHERE, connection_history
from maxage.redis_store.servers.packing import joined, packed
from maxage.redis_store.servers.per_loop import abandon
from maxage.redis_store.servers.timeouts import PendingCommands

FAILURES: Final = (RedisError, OSError, TimeoutError)
"""Raised when a server fails or sends an invalid reply."""
_INCOMPLETE: Final = object()
_VALUES: Final = frozenset({bytes, int, list, type(None)})
"""The types of answers that are no error."""
_KEPT_BUFFER: Final = 4 * 1024 * 1024
"""Bytes that hiredis keeps for the next answers. By default it frees all beyond 16 KB after each
answer, and allocating a megabyte anew takes as long as copying it several times."""
OnFailure = Callable[[Exception], None]
"""Called with the error when a server fails."""


@final
class PipelinedConnection(asyncio.Protocol):
    """One connection to a server, taken over from redis-py.

    Args:
        connection: a connection of redis-py; it is connected and idle.
        on_failure: is called when the server fails, once for all commands under way.
    """

    def __init__(self, connection: AbstractConnection, on_failure: OnFailure) -> None:
        self.history: Final = connection_history(connection)
        """The server history that the connection met when it was made."""
        self._loop: Final = asyncio.get_running_loop()
        self._on_failure: Final = on_failure
        self._reader: Final = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=cast("Any", connection)._parser.parse_error,  # noqa: SLF001 - its own errors
            notEnoughData=_INCOMPLETE,
        )
        self._reader.setmaxbuf(_KEPT_BUFFER)
        self._pending: deque[PendingCommands] = deque()
        self._given_up = 0
        """How many of the oldest of them have failed; their answers are dropped."""
        self._leaving: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        """Bytes that came since the last complete answer."""
        self._open = True
        self._retired = False
        self._writer: Final = _taken_from(connection)
        self._transport: Final = self._writer.transport
        self._former: Final = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether commands may be sent: it is open, and leads to a server that takes writes."""
        return self._open and not self._retired

    def send(
        self, commands: Sequence[Command], *, due: float, within: float
    ) -> "asyncio.Future[list[Any]]":
        """Send commands at the end of this turn; return a future of their answers.

        An error that the server answers stands in its place in the list. The future fails with one
        of `FAILURES`: then it is unknown which commands the server ran.

        Args:
            commands: the commands; an empty list is answered at once.
            due: when the answers must have arrived, by the event loop's clock.
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
        self._expect(PendingCommands(future, len(commands), due=due, within=within))
        return future

    def send_packed(self, commands: bytes, pending: PendingCommands) -> None:
        """Send commands, with those that are about to leave, if there are any, else at once.

        Args:
            commands: the bytes of the commands.
            pending: takes their answers.
        """
        if not self._open:
            pending.receiver.set_exception(RedisConnectionError("the connection is closed"))
            return
        self._leaving.append(commands)
        self._expect(pending)
        if len(self._leaving) == 1:
            self._flush()

    def _expect(self, pending: PendingCommands) -> None:
        self._pending.append(pending)
        if self._timer is None:
            self._timer = self._loop.call_at(pending.due, self._check_overdue)

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, []
        if not self._open:
            return
        try:
            for piece in joined(leaving):
                self._transport.write(piece)
        except RuntimeError as error:
            # uvloop raises it when the transport is closed.
            self._give_up(RedisConnectionError(str(error)))

    def retire(self) -> None:
        """Take no more commands, and close when the last answer has come."""
        self._retired = True
        if not self._pending:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self._end(RedisConnectionError("the connection was closed"))

    def abandon(self) -> None:
        """Close, now that the event loop has ended."""
        self._open = False
        abandon(self._transport)
        error = RedisConnectionError("the event loop has ended")
        for commands in self._pending:
            # A future has no loop any more that could call its callbacks.
            with suppress(RuntimeError):
                commands.fail(error)

    # called by the event loop

    def data_received(self, data: bytes) -> None:
        """Read the answers, and resolve the futures of complete ones."""
        self._received += len(data)
        answers: list[Any] = []
        try:
            try:
                self._reader.feed(data)
                answers.extend(iter(self._reader.gets, _INCOMPLETE))
            finally:
                # The complete ones before an invalid one count.
                self._take(answers)
        except RedisError as error:
            self._give_up(error)

    def _take(self, answers: list[Any]) -> None:
        """Hand the answers to the oldest commands: many at once, since a purge has many."""
        pending, first = self._pending, 0
        has_errors = not _VALUES.issuperset(map(type, answers))
        while first < len(answers):
            if not pending:
                raise InvalidResponse("an answer without a command")
            oldest = pending[0]
            end = first + oldest.count - len(oldest.answers)
            taken = answers[first:end]
            if has_errors:
                for answer in taken:
                    if isinstance(answer, Exception):
                        self._heed(answer)
            oldest.answers += taken
            if len(oldest.answers) == oldest.count:
                self._answered(pending.popleft())
            first = end

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all commands under way."""
        self._give_up(RedisConnectionError(f"the connection was lost ({exc})"))
        self._former.connection_lost(exc)

    def _answered(self, commands: PendingCommands) -> None:
        self._received = 0
        if self._given_up:
            self._given_up -= 1
        if not commands.receiver.done():
            commands.receiver.set_result(commands.answers)
        if self._retired:
            self.retire()

    def _heed(self, answer: Exception) -> None:
        if isinstance(answer, SERVER_IS_ELSEWHERE):
            self._retired = True
        if isinstance(answer, RedisConnectionError):
            # LOADING and the like: the server takes no commands now.
            raise answer

    def _check_overdue(self) -> None:
        """Fail all commands when the oldest one is overdue: the others wait behind it.

        The connection stays: a late answer is read and dropped, so that a server which was slow
        once needs no new connection.
        """
        self._timer = None
        if len(self._pending) == self._given_up or not self._open:
            return
        oldest, now = self._pending[self._given_up], self._loop.time()
        wait_until = oldest.wait_until(now, self._received)
        if wait_until is None:
            self._overdue(asked_too_much=oldest.asked_too_much(self._received))
            return
        self._timer = self._loop.call_at(wait_until, self._check_overdue)

    def _overdue(self, *, asked_too_much: bool) -> None:
        error = TimeoutError("no answer within the budget")
        if asked_too_much:
            # The next commands must not wait for the rest of the answer.
            PROCESS.budget_overruns += 1
            self._end(error)
            return
        self._fail(error)
        self._given_up = len(self._pending)
        self._on_failure(error)

    def _give_up(self, error: Exception) -> None:
        """End the connection; count one failure for all commands under way."""
        was_asked = self._open and len(self._pending) > self._given_up
        self._end(error)
        if was_asked:
            self._on_failure(error)

    def _end(self, error: Exception) -> None:
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._fail(error)
        self._pending.clear()
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        for commands in self._pending:
            commands.fail(error)


def _taken_from(connection: AbstractConnection) -> asyncio.StreamWriter:
    """Take the stream of a redis-py connection away from it, and return it."""
    made: Any = connection
    writer: asyncio.StreamWriter = made._writer  # noqa: SLF001 - redis-py has no public way to it
    made._reader = made._writer = None  # noqa: SLF001 - else it closes the stream when it is freed
    return writer
