"""A test that is too slow is played again; one that fails otherwise is not."""

import pytest

from tests.support.timing import TooSlowError, few_slow, in_time

_played: dict[str, int] = {}


def test_what_takes_longer_than_it_may_is_too_slow() -> None:
    """It names both durations."""
    with pytest.raises(TooSlowError, match=r"took 0\.2\d* s, and may take 0\.1 s"):
        in_time(0.2, 0.1)
    with pytest.raises(TooSlowError, match="4 were slow, and 3 may be"):
        few_slow(4, 3)
    in_time(0.1, 0.1)
    few_slow(3, 3)


@pytest.fixture
def played(request: pytest.FixtureRequest) -> int:
    """How often this test was begun."""
    name = request.node.name
    _played[name] = _played.get(name, 0) + 1
    return _played[name]


def test_a_test_that_was_too_slow_is_played_twice_more(played: int) -> None:
    """With new fixtures."""
    in_time(3 - played, 0)


@pytest.mark.xfail(raises=TooSlowError)
def test_a_test_that_is_always_too_slow_fails(played: int) -> None:
    """A requirement that is never met is not hidden."""
    in_time(played, 0)


@pytest.mark.xfail(raises=AssertionError)
def test_a_test_that_fails_otherwise_is_played_once(played: int) -> None:
    """What is wrong once is wrong."""
    assert played > 1
