"""Waiting for a condition: with a deadline, and without sleeping longer than needed."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds after which what a test waits for hangs: none takes so long on a busy machine."""
NEVER = 10 * PATIENCE
"""Seconds for CACHE_COLLAPSE_WAIT: requests that wait in vain are seen to, by `PATIENCE`."""


def wait_until(
    condition: Callable[[], object], what: str, *, timeout: float = PATIENCE, interval: float = 0.01
) -> None:
    """Block until `condition` is true, or raise `TimeoutError` that names `what`."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


async def eventually(condition: Callable[[], object], *, within: float = PATIENCE) -> float:
    """Wait until `condition` is true and return the seconds that took."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - other threads set no event of this loop
            await asyncio.sleep(0.005)
    return time.monotonic() - began
