"""The machine, for hosts that name another machine in each container: localhost and its like."""

import hashlib
import re
import socket
from functools import lru_cache
from pathlib import Path
from typing import Final

_LOOPBACK: Final = re.compile(
    rb"(?i)(?:(?:.*\.)?localhost\.?|127(?:\.\d+){1,3}|0\.0\.0\.0|\[(?:0*:)*:?0*1?\]|\[::ffff:127\..*\])(?::\d*)?"
)


@lru_cache(maxsize=256)
def is_loopback(host: bytes) -> bool:
    """Return whether a Host names the machine that it is asked on."""
    return _LOOPBACK.fullmatch(host) is not None


def machine_name() -> str:
    """Return a name for this machine or container; processes with one loopback share it."""
    known = [socket.gethostname().encode()]
    try:
        known.append(Path("/proc/sys/kernel/random/boot_id").read_bytes())
        known.append(b"%d" % Path("/proc/self/ns/net").stat().st_ino)
    except OSError:
        # Not Linux: the name has to be enough.
        pass
    return hashlib.blake2b(b"\0".join(known), digest_size=6).hexdigest()
