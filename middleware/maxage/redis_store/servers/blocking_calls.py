"""Blocking calls in threads of their own: some, such as DNS lookups, cannot be interrupted.

A hanging resolver keeps its thread as long as the system lets it. In the thread pool of an event
loop or a framework, a few such threads stop all other work of the application. Here each call has
its own thread, and equal calls share one: a caller that comes later waits for the same result, for
as long as its own timeout allows.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeVar, final

P = ParamSpec("P")
T = TypeVar("T")


@final
class _BlockingCalls:
    """The blocking calls under way in this process."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew in a forked process: the threads are the parent's."""
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[Any]] = {}

    def start(self, key: Hashable, call: Callable[[], Any]) -> Future[Any]:
        """Return the future of the call with this key; start the call unless it is under way."""
        with self._lock:
            future = self._under_way.get(key)
            if future is None:
                future = Future[Any]()
                # From now on one caller's cancellation does not cancel it for the others.
                future.set_running_or_notify_cancel()
                self._start_thread(key, call, future)
                self._under_way[key] = future
            return future

    def _start_thread(self, *work: Any) -> None:
        try:
            thread = threading.Thread(
                target=self._run, args=work, name="maxage-blocking-call", daemon=True
            )
            thread.start()
        except RuntimeError as error:
            # There are too many threads, or the interpreter is shutting down.
            raise OSError("no thread can be started") from error

    def _run(self, key: Hashable, call: Callable[[], Any], future: Future[Any]) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised in the callers that wait
            self._forget(key)
            future.set_exception(error)
        else:
            self._forget(key)
            future.set_result(result)

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._under_way.pop(key, None)


_blocking_calls: Final = _BlockingCalls()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blocking_calls.after_fork)


def start_blocking(function: Callable[P, T], *args: P.args, **more: P.kwargs) -> Future[T]:
    """Call a function in a thread of its own, or join the same call that is under way.

    Args:
        function: the function; calls of equal functions with equal arguments are the same call.
        args: its arguments, hashable.
        more: its keyword arguments, hashable.

    Raises:
        OSError: no thread can be started.
    """
    key = (function, args, tuple(more.items()))
    return _blocking_calls.start(key, lambda: function(*args, **more))


async def run_blocking(function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Await `start_blocking`; a cancellation ends only the waiting."""
    return await asyncio.wrap_future(start_blocking(function, *args, **more))
