"""The soak, for some seconds: `poe soak` plays for an hour."""

from pathlib import Path

import pytest

from tests.oracle.soak import Soak, Usage


async def test_through_restarts_of_workers_and_of_redis_no_read_is_stale_and_none_fails(
    tmp_path: Path,
) -> None:
    """And descriptors are given back."""
    soak = Soak(tmp_path, 5.0, workers=2, restarts=1)
    await soak.run()
    assert soak.seen.stale == []
    assert soak.seen.errors == []
    assert soak.seen.writes
    assert soak.seen.hits
    lasting = next(usage for usage in soak.usages.values() if usage.name.startswith("worker 0"))
    assert max(lasting.descriptors) < 100


@pytest.mark.parametrize(("rises", "grown"), [(0, 0.0), (1, 0.8)])
def test_growth_is_told_once_a_process_has_settled(rises: int, grown: float) -> None:
    """By medians, so that one second more or less is none; and not before."""
    usage = Usage(name="worker", began=0.0)
    for second in range(110):
        usage.seconds.append(float(second))
        usage.memory.append(100 + rises * max(0, second - 10))
        usage.descriptors.append(7)
    assert usage.growth(200.0) is None
    assert usage.growth(10.0) == (pytest.approx(grown, abs=0.08), 0.0)
