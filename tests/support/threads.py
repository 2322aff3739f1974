"""Threads that take turns as often as the interpreter can, so that a race shows."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread


@contextmanager
def switching_often() -> Iterator[None]:
    """Let the interpreter go from thread to thread each microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def run_side_by_side(function: Callable[[], None], threads: int) -> None:
    """Call a function in so many threads at the same time, and wait for all of them."""
    running = [Thread(target=function) for _ in range(threads)]
    with switching_often():
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
