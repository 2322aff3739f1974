"""RFC 9111 section 5.2.1: request directives, and section 5.4: Pragma."""

import pytest

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward, OnlyIfCached, Serve
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import NOW, get, stored

POLICY = Policy()
KEPT = stored("Cache-Control: max-age=60", 'ETag: "a"')
VALIDATE = Forward(reason="request", conditional=((b"if-none-match", b'"a"'),))


def ask(value: str, later: float = 0.0) -> object:
    """What a request with these directives gets so much later."""
    return decide(get(f"Cache-Control: {value}"), KEPT, now=NOW + later, policy=POLICY)


# --- 5.2.1.1: max-age -----------------------------------------------------------------------


@pytest.mark.parametrize(("later", "served"), [(0, True), (10, True), (10.5, False), (11, False)])
def test_max_age_limits_the_age(later: float, served: bool) -> None:
    """Less than or equal to the specified number of seconds."""
    assert isinstance(ask("max-age=10", later), Serve) == served
    assert served or ask("max-age=10", later) == VALIDATE


@pytest.mark.parametrize("value", ["max-age=x", "max-age", "max-age=-1", "MAX-AGE=0"])
def test_max_age_zero_or_garbage_asks_for_validation(value: str) -> None:
    """What cannot be read is taken for the strictest."""
    assert ask(value, 0.1) == VALIDATE


def test_a_max_age_larger_than_the_lifetime_makes_nothing_fresh() -> None:
    """It restricts, it does not allow."""
    assert isinstance(ask("max-age=3600", 61), Forward)


# --- 5.2.1.2: max-stale ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "later", "served"),
    [
        ("max-stale=10", 59, True),
        ("max-stale=10", 60, True),
        ("max-stale=10", 70, True),
        ("max-stale=10", 70.1, False),
        ("max-stale", 1_000_000, True),
        ("max-stale=x", 60, False),
        ("max-stale=", 60, False),
        ('max-stale="10"', 70, True),
        ("max-stale=10, max-age=65", 65, True),
        ("max-stale=10, max-age=65", 66, False),
        ("max-stale, min-fresh=1", 60, False),
    ],
)
def test_max_stale_accepts_a_stale_response(value: str, later: float, served: bool) -> None:
    """By no more than its value; any without a value; none with garbage."""
    decision = ask(value, later)
    assert isinstance(decision, Serve) == served
    if isinstance(decision, Serve):
        assert decision.stale == (later >= 60)
        assert not decision.refresh


# --- 5.2.1.3: min-fresh ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "later", "served"),
    [
        ("min-fresh=20", 0, True),
        ("min-fresh=20", 40, True),
        ("min-fresh=20", 40.1, False),
        ("min-fresh=60", 0, True),
        ("min-fresh=61", 0, False),
        ("min-fresh=0", 59, True),
        ("min-fresh=x", 59, True),
    ],
)
def test_min_fresh_asks_for_some_lifetime_left(value: str, later: float, served: bool) -> None:
    """No less than the current age plus the specified time."""
    assert isinstance(ask(value, later), Serve) == served
    assert served or ask(value, later) == VALIDATE


# --- 5.2.1.4: no-cache ----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["no-cache", "No-Cache", "max-stale, no-cache", "a, no-cache=x"])
def test_no_cache_asks_for_validation(value: str) -> None:
    """With the stored validators, fresh or not."""
    assert ask(value) == VALIDATE


def test_the_reason_of_a_stale_response_is_that_it_is_stale() -> None:
    """Whatever the client wishes besides."""
    decision = ask("no-cache", 61)
    assert isinstance(decision, Forward)
    assert decision.reason == "stale"


# --- 5.2.1.5: no-store, 5.2.1.6: no-transform -----------------------------------------------


@pytest.mark.parametrize("value", ["no-store", "max-stale, no-store", "NO-STORE=1"])
@pytest.mark.parametrize("age", [0, 61])
def test_no_store_asks_the_application(value: str, age: int) -> None:
    """Without conditions: a client that wants nothing stored gets an answer of its own."""
    assert ask(value, age) == Forward(reason="request")


def test_no_store_beside_only_if_cached_takes_the_stored_response() -> None:
    """To which no-store "does not apply" (section 5.2.1.5)."""
    assert isinstance(ask("no-store, only-if-cached"), Serve)


@pytest.mark.parametrize("value", ["no-transform", "unknown", ""])
def test_other_directives_do_not_keep_the_stored_response_away(value: str) -> None:
    """They ask for no other response."""
    assert isinstance(ask(value), Serve)


# --- 5.2.1.7: only-if-cached ----------------------------------------------------------------


def test_only_if_cached_is_answered_from_the_store_or_not_at_all() -> None:
    """A stored response consistent with the other constraints, or a 504."""
    assert isinstance(ask("only-if-cached"), Serve)
    assert ask("only-if-cached", 61) == OnlyIfCached()
    assert ask("only-if-cached, no-cache") == OnlyIfCached()
    assert ask("only-if-cached, max-age=5", 6) == OnlyIfCached()
    assert isinstance(ask("only-if-cached, max-stale", 61), Serve)
    nothing = decide(get("Cache-Control: only-if-cached"), None, now=NOW, policy=POLICY)
    assert nothing == OnlyIfCached()


# --- 5.4: Pragma ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["no-cache", "No-Cache", "a, no-cache"])
def test_pragma_no_cache_counts_when_there_is_no_cache_control(value: str) -> None:
    """As RFC 7234 asked, and old clients mean it."""
    assert decide(get(f"Pragma: {value}"), KEPT, now=NOW, policy=POLICY) == VALIDATE


@pytest.mark.parametrize(
    "fields", [["Pragma: other"], ["Pragma: "], ["Pragma: no-cache", "Cache-Control: max-age=60"]]
)
def test_pragma_means_nothing_else(fields: list[str]) -> None:
    """Nor anything beside Cache-Control."""
    assert isinstance(decide(get(*fields), KEPT, now=NOW, policy=POLICY), Serve)


# --- The setting ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "later", "served"),
    [
        ("Cache-Control: no-cache", 0, True),
        ("Cache-Control: max-age=0", 5, True),
        ("Cache-Control: min-fresh=100", 0, True),
        ("Pragma: no-cache", 0, True),
        ("Cache-Control: max-stale", 61, False),
    ],
)
def test_one_setting_ignores_them_all(field: str, later: float, served: bool) -> None:
    """For deployments with untrusted clients."""
    deaf = Policy(obey_request_directives=False)
    assert isinstance(decide(get(field), KEPT, now=NOW + later, policy=deaf), Serve) == served


def test_the_setting_ignores_only_if_cached_too() -> None:
    """Then a miss is a miss."""
    deaf = Policy(obey_request_directives=False)
    decision = decide(get("Cache-Control: only-if-cached"), None, now=NOW, policy=deaf)
    assert decision == Forward(reason="uri-miss")
