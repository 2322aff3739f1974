"""How often a process looks at the leases, over a clock."""

import pytest

from maxage.redis_store.leases.pace import BUSY_SECONDS, IDLE_LOOK_INTERVAL, REST_SECONDS, Pace


@pytest.fixture
def pace() -> Pace:
    """A process that is asked for something at 100."""
    made = Pace()
    made.asked = True
    assert made.beat(100.0, looked_at=None, must_look=False)
    return made


def test_a_process_that_is_asked_looks_at_every_heartbeat(pace: Pace) -> None:
    """However lately it has looked, and for some seconds after the last question."""
    ends = 100 + BUSY_SECONDS
    assert pace.beat(ends, looked_at=ends, must_look=False)
    assert not pace.rests
    assert not pace.beat(ends + 0.001, looked_at=ends, must_look=False)
    assert pace.rests


def test_an_idle_process_looks_seldom(pace: Pace) -> None:
    """Its trust has ended then; the next request waits for a look."""
    assert not pace.beat(110.0, looked_at=110 - IDLE_LOOK_INTERVAL + 0.001, must_look=False)
    assert pace.beat(110.0, looked_at=110 - IDLE_LOOK_INTERVAL, must_look=False)
    assert not pace.rests


def test_a_process_that_was_asked_for_nothing_for_long_sleeps_until_it_is(pace: Pace) -> None:
    """It makes no look at all."""
    ends = 100 + REST_SECONDS
    assert pace.beat(ends, looked_at=101.0, must_look=False)
    assert not pace.is_asleep(ends)
    assert not pace.beat(ends + 0.001, looked_at=101.0, must_look=False)
    assert pace.is_asleep(ends + 0.001)
    pace.asked = True
    assert pace.beat(ends + 1, looked_at=101.0, must_look=False)
    assert not pace.is_asleep(ends + 1)


def test_a_process_that_others_rely_on_does_not_sleep(pace: Pace) -> None:
    """It holds a lease, owes a purge, or a request waits."""
    assert pace.beat(1000.0, looked_at=999.9, must_look=True)
    assert not pace.rests
