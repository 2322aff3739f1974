"""The time budget of work on the store."""

import asyncio
import time

import pytest

from maxage.redis_store.servers.node import describe
from maxage.redis_store.servers.timeouts import budget


async def test_work_within_the_budget_is_not_disturbed() -> None:
    """The usual case."""
    async with budget(0.5):
        await asyncio.sleep(0)


async def test_work_that_takes_longer_is_cut_off_at_the_budget() -> None:
    """A store that does not answer costs the budget, and not much more."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with budget(0.05):
            await asyncio.Event().wait()
    assert 0.04 < time.monotonic() - began < 0.5


async def test_an_answer_that_came_while_the_loop_stood_still_counts() -> None:
    """The loop was blocked beyond the budget, but the answer had come before."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def store_answers() -> str:
        # Two more turns of the loop, as the client's machinery takes them.
        await answer
        await asyncio.sleep(0)
        return "answer"

    def block_the_loop() -> None:
        time.sleep(0.2)
        answer.set_result("")

    asyncio.get_running_loop().call_soon(block_the_loop)
    async with budget(0.05):
        assert await store_answers() == "answer"


def test_an_error_without_words_is_told_by_its_name_alone() -> None:
    """As `Redis unavailable (TimeoutError)` is, in the log."""
    assert describe(TimeoutError()) == "TimeoutError"
    assert describe(TimeoutError("too slow")) == "TimeoutError: too slow"
