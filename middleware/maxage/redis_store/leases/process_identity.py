"""Names for processes, and whether one that lived on this machine has ended."""

import hashlib
import os
import secrets
from functools import cache
from pathlib import Path

_NOWHERE = "-"
"""The machine where it cannot be told whether a process lives."""
_STARTED = 19
"""Where the time of a process's start stands in `_fields`."""


def process_identity() -> str:
    """Return a name that no other process bears, nor this one at another time.

    It says which machine (and container) and which process of it, so that others there can tell
    that the process has ended.
    """
    pid = os.getpid()
    return f"{_machine()}.{pid}.{_started(pid) or 0}.{secrets.token_hex(6)}"


def surely_ended(identity: str) -> bool:
    """Return whether the process lived on this machine and is no more.

    False where that cannot be told: it belongs to another machine, or the system does not say.
    """
    try:
        machine, pid, started, _ = identity.split(".")
        if machine == _NOWHERE or machine != _machine():
            return False
        return _has_ended(int(pid), int(started))
    except ValueError:
        return False


@cache
def _machine() -> str:
    """Return what tells this machine and its namespace of process ids from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        numbers = Path("/proc/self/ns/pid").stat().st_ino
        mounted_for = Path("/proc/self").readlink()
    except OSError:
        return _NOWHERE
    if str(mounted_for) != str(os.getpid()):
        # /proc shows another namespace of processes than the one that we live in.
        return _NOWHERE
    return hashlib.blake2b(b"%b %d" % (boot, numbers), digest_size=6).hexdigest()


def _has_ended(pid: int, started: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        # It is there, and another user's.
        return False
    fields = _fields(pid)
    # One that waits to be collected answers nobody any more, and a number may be given again.
    return bool(fields) and (fields[0] in {"Z", "X"} or int(fields[_STARTED]) != started)


def _started(pid: int) -> int | None:
    """Return when the process started, in ticks since the machine did; None: not to be seen."""
    fields = _fields(pid)
    return int(fields[_STARTED]) if fields else None


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, the state of the process."""
    try:
        # The name in the second field may hold anything, parentheses included.
        return Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return []
