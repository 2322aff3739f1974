"""Unique names for processes, which tell whether a process of this machine has ended."""

import hashlib
import os
import secrets
from functools import cache
from pathlib import Path

_NOWHERE = "-"
"""The machine's name where the system does not tell whether a process lives."""
_STARTED = 19
"""The index of a process's start time in `_fields`."""


def process_identity() -> str:
    """Return a name that no other process has, and this process gets only once.

    It names the machine (and container) and the process, so that other processes there can tell
    that this one has ended.
    """
    pid = os.getpid()
    return f"{_machine()}.{pid}.{_started(pid) or 0}.{secrets.token_hex(6)}"


def process_name() -> str:
    """Return the name of this process for its figures: the same each time, until it forks."""
    return _named(os.getpid())


@cache
def _named(pid: int) -> str:
    del pid
    return process_identity()


def surely_ended(identity: str) -> bool:
    """Return whether the process lived on this machine and has ended.

    False where it is unknown: the process belongs to another machine, or the system does not tell.
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
    """Return a name for this machine and its namespace of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        numbers = Path("/proc/self/ns/pid").stat().st_ino
        mounted_for = Path("/proc/self").readlink()
    except OSError:
        return _NOWHERE
    if str(mounted_for) != str(os.getpid()):
        # /proc shows another namespace of process ids than ours.
        return _NOWHERE
    return hashlib.blake2b(b"%b %d" % (boot, numbers), digest_size=6).hexdigest()


def _has_ended(pid: int, started: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        # It exists, and belongs to another user.
        return False
    fields = _fields(pid)
    # A zombie has ended too. A process id may be reused, hence the start time.
    return bool(fields) and (fields[0] in {"Z", "X"} or int(fields[_STARTED]) != started)


def _started(pid: int) -> int | None:
    """Return the process's start time in ticks since boot; None where it is hidden."""
    fields = _fields(pid)
    return int(fields[_STARTED]) if fields else None


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third one on, the process's state."""
    try:
        # The name in the second field may have any characters, parentheses included.
        return Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return []
