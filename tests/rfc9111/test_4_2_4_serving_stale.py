"""RFC 9111 section 4.2.4 and RFC 5861: serving stale responses."""

import pytest

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward, Serve
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import NOW, get, stored

POLICY = Policy()


def test_a_stale_response_is_not_served_without_leave() -> None:
    """Neither the client nor the response allowed it."""
    decision = decide(get(), stored("Cache-Control: max-age=60"), now=NOW + 61, policy=POLICY)
    assert decision == Forward(reason="stale")


# --- RFC 5861 section 3: stale-while-revalidate ---------------------------------------------


@pytest.mark.parametrize(
    ("later", "stale", "refresh"), [(59.9, False, False), (60, True, True), (90, True, True)]
)
def test_a_response_is_served_stale_while_it_is_refreshed(
    later: float, stale: bool, refresh: bool
) -> None:
    """Up to the indicated number of seconds."""
    kept = stored("Cache-Control: max-age=60, stale-while-revalidate=30")
    decision = decide(get(), kept, now=NOW + later, policy=POLICY)
    assert isinstance(decision, Serve)
    assert (decision.stale, decision.refresh) == (stale, refresh)


def test_after_the_window_the_application_is_asked() -> None:
    """The other side of the boundary."""
    kept = stored("Cache-Control: max-age=60, stale-while-revalidate=30", 'ETag: "a"')
    decision = decide(get(), kept, now=NOW + 90.1, policy=POLICY)
    assert decision == Forward(reason="stale", conditional=((b"if-none-match", b'"a"'),))


@pytest.mark.parametrize(
    "value", ["no-cache", "no-store", "max-age=3600", "min-fresh=1", "max-stale=0"]
)
def test_a_client_that_wants_better_is_not_served_stale(value: str) -> None:
    """Its own limits go before the response's leave."""
    kept = stored("Cache-Control: max-age=60, stale-while-revalidate=30")
    request = get(f"Cache-Control: {value}")
    assert isinstance(decide(request, kept, now=NOW + 61, policy=POLICY), Forward)


@pytest.mark.parametrize("value", ["only-if-cached", "no-transform", "max-stale", "max-stale=1"])
def test_a_client_with_other_wishes_is_served_stale(value: str) -> None:
    """And the refresh is asked for all the same."""
    kept = stored("Cache-Control: max-age=60, stale-while-revalidate=30")
    decision = decide(get(f"Cache-Control: {value}"), kept, now=NOW + 61, policy=POLICY)
    assert isinstance(decision, Serve)
    assert decision.refresh


@pytest.mark.parametrize(
    "value", ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"]
)
def test_no_leave_counts_where_the_response_forbids_stale_use(value: str) -> None:
    """In any combination: not for the client, not for a refresh, not for an error."""
    kept = stored(
        f"Cache-Control: max-age=60, stale-while-revalidate=30, stale-if-error=30, {value}",
        'ETag: "a"',
        policy=Policy(stale_if_error=30, stale_while_revalidate=30),
    )
    for request in (get(), get("Cache-Control: max-stale, stale-if-error=30")):
        decision = decide(request, kept, now=NOW + 61, policy=Policy(stale_if_error=30))
        assert isinstance(decision, Forward)
        assert not decision.stale_if_error


# --- RFC 5861 section 4: stale-if-error -----------------------------------------------------


def on_error(value: str, later: float, request: str = "", default: float = 0.0) -> bool:
    """Whether the stored response may answer for an error so much later."""
    kept = stored(f"Cache-Control: {value}", 'ETag: "a"')
    asked = get(f"Cache-Control: {request}") if request else get()
    decision = decide(asked, kept, now=NOW + later, policy=Policy(stale_if_error=default))
    assert isinstance(decision, Forward)
    return decision.stale_if_error


@pytest.mark.parametrize(
    ("value", "later", "allowed"),
    [
        ("max-age=60", 60, False),
        ("max-age=60, stale-if-error=30", 60, True),
        ("max-age=60, stale-if-error=30", 90, True),
        ("max-age=60, stale-if-error=30", 90.1, False),
        ("max-age=60, stale-if-error=0", 60, False),
        ("max-age=60, stale-if-error=x", 60, False),
        ("max-age=0, stale-if-error=30", 0, True),
    ],
)
def test_the_response_says_how_long_it_may_answer_for_an_error(
    value: str, later: float, allowed: bool
) -> None:
    """Both sides of the window."""
    assert on_error(value, later) == allowed


def test_the_setting_is_for_responses_that_do_not_say() -> None:
    """The response's own word wins, 0 included."""
    assert on_error("max-age=60", 80, default=20)
    assert not on_error("max-age=60", 80.1, default=20)
    assert not on_error("max-age=60, stale-if-error=0", 61, default=20)
    assert not on_error("max-age=60, stale-if-error=5", 70, default=20)


def test_the_request_may_allow_it_too() -> None:
    """The larger of the two windows counts."""
    assert on_error("max-age=60", 80, request="stale-if-error=20")
    assert not on_error("max-age=60", 80.1, request="stale-if-error=20")
    assert on_error("max-age=60, stale-if-error=20", 80, request="stale-if-error=5")


def test_a_request_with_no_cache_is_not_answered_stale_for_an_error() -> None:
    """The client asked for validation; one that asked for a young response gets the old one."""
    assert not on_error("max-age=60, stale-if-error=30", 1, request="no-cache")
    assert on_error("max-age=60, stale-if-error=30", 1, request="max-age=0")
