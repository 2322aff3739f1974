"""How long a stored response can be of use: every key has an expiry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.verdicts import MayStore
from tests.rfc9111.build import NOW, date, get, refusal, storing

DAY = 86_400
TAG = 'ETag: "a"'


def kept(*fields: str, policy: Policy | None = None, status: int = 200) -> float:
    answer = storing(*fields, policy=policy, status=status)
    assert isinstance(answer, MayStore), answer
    return answer.keep_for


@pytest.mark.parametrize(
    ("value", "fields", "seconds"),
    [
        ("max-age=60, must-revalidate", [], 60),
        ("max-age=60, must-revalidate", ["Age: 20"], 40),
        ("max-age=60, must-revalidate", ["Age: 70", TAG], 60),
        ("max-age=600, must-revalidate", [TAG], 1200),
        ("max-age=10, must-revalidate", [TAG], 70),
        ("max-age=0", [TAG], 60),
        ("no-cache", [TAG], 60),
        ("max-age=60", [], 120),
        ("max-age=600", [], 660),
        ("max-age=60, stale-while-revalidate=30", [], 120),
        ("max-age=60, stale-while-revalidate=300", [], 360),
        ("max-age=60, stale-while-revalidate=300, stale-if-error=500", [], 560),
        ("max-age=60, stale-if-error=500, must-revalidate", [], 60),
        ("max-age=600, stale-if-error=500", [TAG], 1200),
    ],
)
def test_it_is_kept_for_its_lifetime_and_the_longest_use_after_it(
    value: str, fields: list[str], seconds: float
) -> None:
    """Validation as long as the lifetime again, at least a minute; max-stale a minute."""
    assert kept(f"Cache-Control: {value}", *fields) == seconds


def test_the_configured_windows_count() -> None:
    """For responses that do not say."""
    policy = Policy(stale_if_error=500, stale_while_revalidate=300)
    assert kept("Cache-Control: max-age=60", policy=policy) == 560
    assert kept("Cache-Control: max-age=60, stale-if-error=0", policy=policy) == 360
    assert kept("Cache-Control: max-age=60, must-revalidate", policy=policy) == 60


def test_without_request_directives_no_client_can_ask_for_stale() -> None:
    """Then max-stale needs no window."""
    assert kept("Cache-Control: max-age=60", policy=Policy(obey_request_directives=False)) == 60


def test_an_error_page_has_no_window_for_validation() -> None:
    """Only a 200 is validated."""
    assert kept("Cache-Control: max-age=600, must-revalidate", TAG, status=404) == 600


# --- What is ours ends after a day ----------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "policy", "seconds"),
    [
        (["Cache-Control: max-age=80000", TAG], Policy(), DAY),
        (["Cache-Control: max-age=86400", TAG], Policy(), DAY),
        (["Cache-Control: max-age=86401", TAG], Policy(), DAY + 1),
        (["Cache-Control: max-age=31536000, immutable"], Policy(), 31536000),
        (["Cache-Control: max-age=60, stale-if-error=999999"], Policy(), 60 + 999999),
        (["Cache-Control: max-age=60"], Policy(stale_if_error=999999), DAY),
        (["X: 1"], Policy(default_lifetime=999999), DAY),
        (["X: 1"], Policy(default_lifetime=600, obey_request_directives=False), 600),
        ([f"Last-Modified: {date(-99999999)}"], Policy(heuristic_fraction=0.5), DAY),
        ([f"Expires: {date(999999)}"], Policy(), 999999),
    ],
)
def test_no_key_outlives_a_day_unless_its_response_says_so(
    fields: list[str], policy: Policy, seconds: float
) -> None:
    """Configured and heuristic lifetimes and our windows are capped, explicit ones are not."""
    assert kept(*fields, policy=policy) == seconds


# --- No use after it, within a day ----------------------------------------------------------

NUMBERS = st.integers(0, 5000)


def test_a_response_that_is_of_no_use_any_more_is_not_stored() -> None:
    """It arrived stale and may not be used stale; nothing is ever kept for no time."""
    answer = storing("Cache-Control: max-age=60, must-revalidate", "Age: 60")
    assert refusal(answer) == "lifetime-0"
    assert kept("Cache-Control: max-age=60, must-revalidate", "Age: 59") == 1


def test_a_stale_window_counts_from_the_lifetime_not_from_the_arrival() -> None:
    """What arrives 100 seconds stale has 400 of its 500 left."""
    value = "Cache-Control: max-age=60, stale-if-error=500"
    assert kept(value, "Age: 160", policy=Policy(obey_request_directives=False)) == 400


@given(
    lifetime=NUMBERS,
    age=NUMBERS,
    swr=NUMBERS,
    sie=NUMBERS,
    flags=st.sampled_from(["", ", must-revalidate", ", no-cache", ", public"]),
    tag=st.booleans(),
    later=st.floats(0.001, 5000),
)
def test_it_is_kept_for_as_long_as_it_may_be_used(
    lifetime: int, age: int, swr: int, sie: int, flags: str, tag: bool, later: float
) -> None:
    """Once it is gone from the store, it could neither have been served nor helped on an error."""
    value = f"max-age={lifetime}, stale-while-revalidate={swr}, stale-if-error={sie}{flags}"
    answer = storing(f"Cache-Control: {value}", f"Age: {age}", *([TAG] if tag else []))
    if isinstance(answer, MayStore):
        assert answer.keep_for > 0
        gone = NOW + answer.keep_for + later
        decision = decide(get(), answer.stored, now=gone, policy=Policy())
        assert isinstance(decision, Forward)
        assert not decision.stale_if_error
