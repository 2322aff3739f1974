"""The machine's clock is set forward or back while responses are stored.

Only a stored response's age is measured by it; leases, budgets, breakers, claims and what the
embedded store and the near cache keep go by clocks that cannot be set.
"""

import pytest

from maxage import MemoryStore
from maxage.rfc9111.storing import WINDOW
from tests.support.asgi import CounterApp, call
from tests.support.caching import cache_of, status_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

LIFETIME = 100


async def is_hit(middleware: object, path: str = "/x") -> bool:
    """Whether it is answered as fresh, with an age that is one."""
    answer = await call(middleware, path=path)
    assert answer.status == 200
    age = answer.header("age")
    assert age is None or 0 <= int(age) <= LIFETIME
    return b"; hit" in status_of(answer)


@pytest.mark.parametrize(("jump", "hit"), [(50, True), (99, True), (100, False), (86_400, False)])
async def test_a_clock_set_forward_ends_responses_early(jump: float, hit: bool) -> None:
    """By as much as it was set: earlier than promised is no wrong answer."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(), clock, cache_expiration=LIFETIME)
    await is_hit(middleware)
    clock.jump(jump)
    assert await is_hit(middleware) is hit
    # What is stored from now on has its whole lifetime.
    await is_hit(middleware, "/y")
    clock.advance(LIFETIME - 1)
    assert await is_hit(middleware, "/y")
    clock.advance(1)
    assert not await is_hit(middleware, "/y")


async def test_a_clock_set_back_extends_responses_by_no_more_than_that() -> None:
    """And those that are stored from then on by nothing."""
    clock = ManualClock()
    middleware = cache_of(CounterApp(), clock, cache_expiration=LIFETIME)
    await is_hit(middleware)
    clock.advance(10)
    clock.jump(-30)
    assert await is_hit(middleware)
    await is_hit(middleware, "/y")
    clock.advance(LIFETIME - 1)
    assert await is_hit(middleware)
    assert await is_hit(middleware, "/y")
    clock.advance(1)
    assert not await is_hit(middleware, "/y")
    clock.advance(LIFETIME - 10 + 30 - LIFETIME)
    assert not await is_hit(middleware)


async def test_however_far_the_clock_is_set_back_the_store_lets_go_in_time() -> None:
    """The embedded store by a clock of its own, Redis by that of its machine."""
    clock = ManualClock()
    store = MemoryStore(clock=clock.monotonic)
    middleware = cache_of(CounterApp(), clock, store=store, cache_expiration=LIFETIME)
    await is_hit(middleware)
    clock.jump(-86_400)
    clock.advance(LIFETIME + WINDOW - 1)
    assert await is_hit(middleware)
    clock.advance(1)
    assert not await is_hit(middleware)
