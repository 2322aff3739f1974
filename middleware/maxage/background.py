"""What the cache does beside the requests."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, final

Result = TypeVar("Result")

logger = logging.getLogger("maxage")

_LAST_SECONDS: Final = 2.0
"""How long what is under way may take when the cache is closed."""


@final
class Background:
    """The work under way; it is kept from being collected, and its errors are logged."""

    def __init__(self) -> None:
        self.tasks: Final[set[asyncio.Task[Any]]] = set()

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run work in the background until the cache is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Work of the cache in the background failed.", exc_info=error)

    async def close(self) -> None:
        """Let what is under way in this event loop come to its end."""
        loop = asyncio.get_running_loop()
        mine = {task for task in self.tasks if task.get_loop() is loop}
        if mine:
            _, late = await asyncio.wait(mine, timeout=_LAST_SECONDS)
            for task in late:
                task.cancel()
