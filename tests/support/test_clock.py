"""The clock that a test moves."""

import pytest

from tests.support.clock import ManualClock


class TestManualClock:
    """Time at the test's command."""

    def test_it_stands_still_until_moved(self) -> None:
        """Advancing moves both clocks, jumping the wall clock alone."""
        clock = ManualClock(100.0)
        assert (clock(), clock.time(), clock.monotonic()) == (100.0, 100.0, 0.0)
        assert clock.advance(5) == 105.0
        assert clock.jump(-50) == 55.0
        assert (clock(), clock.monotonic()) == (55.0, 5.0)
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)
