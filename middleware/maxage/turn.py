"""One turn of the event loop: its questions are gathered, and one call answers all of them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from functools import partial
from typing import Any, Final, Generic, TypeVar, final

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Asked = Sequence[tuple[Question, asyncio.Future[Answer]]]
"""The questions of one turn, each with the future of its answer."""


@final
class Turn(Generic[Question, Answer]):
    """Gathers the questions of one turn of the event loop, and answers them with one call.

    The call begins after all questions of its turn, and answers no later one. Each question has a
    future of its own, so a cancelled request never shifts an answer to another one. A `Turn`
    belongs to one event loop at a time, and is not for use from several threads. A later loop may
    go on with it.

    Args:
        answer: answers each question when its answer is there; a future that is done has been
            cancelled. If it fails, each future without an answer gets a copy of the error; if it is
            cancelled, they are cancelled.
    """

    def __init__(
        self, answer: Callable[[Asked[Question, Answer]], Coroutine[Any, Any, None]]
    ) -> None:
        self._answer: Final = answer
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: list[tuple[Question, asyncio.Future[Answer]]] | None = None

    def ask(self, question: Question) -> "asyncio.Future[Answer]":
        """Return a future of the answer; the call begins when this turn is over."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if self._asked is not None and self._loop is loop:
            self._asked.append((question, future))
            return future
        self._loop = loop
        asked = self._asked = [(question, future)]
        # Last: an eager task runs the call at once.
        task = loop.create_task(self._run(asked))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, asked))
        return future

    async def _run(self, asked: Asked[Question, Answer]) -> None:
        self._close(asked)
        try:
            await self._answer(asked)
        except Exception as error:  # noqa: BLE001 - raised where the answers are awaited
            for _, future in asked:
                if not future.done():
                    # Each copy is raised with a traceback of its own.
                    future.set_exception(copy(error))

    def _close(self, asked: Asked[Question, Answer]) -> None:
        """End the turn: later questions belong to the next one."""
        if self._asked is asked:
            self._asked = None

    def _ended(self, asked: Asked[Question, Answer], task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Perhaps before it began.
            self._close(asked)
            for _, future in asked:
                future.cancel()
