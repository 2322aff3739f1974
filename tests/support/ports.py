"""Free TCP ports that the operating system does not hand out to outgoing connections."""

import os
import random
import socket

# Below the ephemeral ranges of Linux and macOS, so that a port stays free while its server is down,
# and low enough that port + 10000, the bus of a cluster node, is below them as well.
_FIRST, _LAST = 10_000, 21_999
# One for each parallel test process, so that two never choose the same port.
_STRIPES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

_random = random.SystemRandom()
_given: set[int] = set()


def free_port(*, with_bus: bool = False) -> int:
    """A free port, never given twice; `with_bus`: port + 10000 is free too."""
    stripe = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(2000):
        port = _random.randrange(_FIRST, _LAST, _STRIPES) + stripe
        wanted = (port, port + 10_000) if with_bus else (port,)
        if port not in _given and all(map(_is_free, wanted)):
            _given.add(port)
            return port
    raise RuntimeError("no free TCP port found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
