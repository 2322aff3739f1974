"""What is left of tasks of which some were cancelled."""

import asyncio
from collections.abc import Sequence


async def answered_rightly(tasks: Sequence[asyncio.Future[bool]]) -> int:
    """How many tasks found that the answer was theirs; all others were cancelled."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result is True or isinstance(result, asyncio.CancelledError) for result in results)
    return sum(result is True for result in results)
