"""Child processes that never outlive the tests."""

import atexit
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_children: set["subprocess.Popen[bytes]"] = set()


def spawn(
    command: Sequence[str | Path], *, log: Path, cwd: Path, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a process in a group of its own that adds its output to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            # A group of its own: an interrupt from the keyboard is for the tests alone, and a
            # signal to the group reaches its children too.
            start_new_session=True,
        )
    _children.add(process)
    return process


def signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send a signal to a process that `spawn` started and to all that it has started."""
    with suppress(ProcessLookupError, PermissionError):  # they have ended by themselves
        os.killpg(process.pid, number)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Note that this process has been waited for."""
    _children.discard(process)


@atexit.register
def _end_all() -> None:
    for process in list(_children):
        signal_group(process, signal.SIGKILL)
        process.wait()
