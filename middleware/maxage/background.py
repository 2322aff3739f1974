"""Background tasks of the cache."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, final

Result = TypeVar("Result")

logger = logging.getLogger("maxage")

_CLOSE_SECONDS: Final = 2.0
"""Seconds that running tasks get when the cache is closed."""


def runs_asyncio() -> bool:
    """Return whether the thread runs an event loop of asyncio; if not, asking takes long."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@final
class Background:
    """Runs tasks: holds a reference to each, and logs its error."""

    def __init__(self) -> None:
        self.tasks: Final[set[asyncio.Future[Any]]] = set()
        """The tasks, and the futures of other work, that have not ended."""

    @property
    def owner(self) -> asyncio.AbstractEventLoop:
        """The running event loop, to which the work belongs."""
        return asyncio.get_running_loop()

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function after so many seconds, unless the event loop ends before."""
        asyncio.get_running_loop().call_later(seconds, call)

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run work in a task of the current event loop until the cache is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self.await_at_close(task)
        return task

    def await_at_close(self, work: "asyncio.Future[Any]") -> None:
        """Let `close` wait for the work, and cancel it if it takes too long; log its error."""
        self.tasks.add(work)
        work.add_done_callback(self._done)

    def shielded(self, work: Coroutine[Any, Any, Result]) -> asyncio.Future[Result]:
        """Run work to its end, even if the caller that awaits it is cancelled."""
        return asyncio.shield(self.spawn(work))

    def _done(self, task: "asyncio.Future[Any]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A background task of the cache failed.", exc_info=error)

    async def close(self) -> None:
        """Wait for the tasks of the current event loop; cancel those that take too long."""
        loop = asyncio.get_running_loop()
        mine = {task for task in self.tasks if task.get_loop() is loop}
        if mine:
            _, late = await asyncio.wait(mine, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
