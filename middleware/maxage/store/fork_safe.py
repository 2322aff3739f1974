"""Locks that are free in a forked process.

A fork copies a lock in the state in which it is, but not the thread that would release it.
"""

import os
import threading
from typing import Any, Final, cast
from weakref import WeakSet

_locks: Final["WeakSet[threading.Lock]"] = WeakSet()


def fork_safe_lock() -> threading.Lock:
    """Return a new lock that a forked child finds free, whichever thread of its parent held it."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _free_all() -> None:
    for lock in tuple(_locks):
        # The standard library frees its own locks in the same way (`logging`, `threading`).
        cast("Any", lock)._at_fork_reinit()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
