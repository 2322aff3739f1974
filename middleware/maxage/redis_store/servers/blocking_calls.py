"""Blocking questions that nothing can cut short, such as one to a resolver, beside everything else.

A resolver that hangs keeps its thread for as long as the system likes. In the pool of an event loop
or of a framework a few of those stop whatever the application runs there. Here each question has a
thread of its own, and there is one of them at most: who asks the same meanwhile waits for that
answer, for as long as he has time.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeVar, final

P = ParamSpec("P")
T = TypeVar("T")


@final
class _BlockingCalls:
    """The questions that are under way in this process."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a process that was forked: the threads are the parent's."""
        self._lock = threading.Lock()
        self._under_way: dict[object, Future[Any]] = {}

    def ask(self, question: object, answer: Callable[[], Any]) -> Future[Any]:
        """Return the answer to come of a question, asked now unless it is under way."""
        with self._lock:
            future = self._under_way.get(question)
            if future is None:
                future = Future[Any]()
                # From now on nobody who is cancelled cancels it for the others.
                future.set_running_or_notify_cancel()
                self._start(question, answer, future)
                self._under_way[question] = future
            return future

    def _start(self, *work: Any) -> None:
        try:
            threading.Thread(target=self._run, args=work, name="maxage-aside", daemon=True).start()
        except RuntimeError as error:
            # There are too many threads, or the interpreter is about to end.
            raise OSError("no thread is to be had") from error

    def _run(self, question: object, answer: Callable[[], Any], future: Future[Any]) -> None:
        try:
            result = answer()
        except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
            self._forget(question)
            future.set_exception(error)
        else:
            self._forget(question)
            future.set_result(result)

    def _forget(self, question: object) -> None:
        with self._lock:
            self._under_way.pop(question, None)


_blocking_calls: Final = _BlockingCalls()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blocking_calls.after_fork)


def start_blocking(function: Callable[P, T], *args: P.args, **more: P.kwargs) -> Future[T]:
    """Call the function in a thread of its own, or wait for the same call that is under way.

    Args:
        function: what blocks; calls of equal functions with equal arguments are the same.
        args: its arguments, hashable.
        more: its keyword arguments, hashable.

    Raises:
        OSError: no thread is to be had.
    """
    question = (function, args, tuple(more.items()))
    return _blocking_calls.ask(question, lambda: function(*args, **more))


async def run_blocking(function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Await what `start_blocking` returns; to be cancelled ends only the waiting."""
    return await asyncio.wrap_future(start_blocking(function, *args, **more))
