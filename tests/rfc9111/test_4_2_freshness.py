"""RFC 9111 section 4.2: freshness."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from maxage.rfc9111.age import age_value, corrected_initial_age, current_age
from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward, Serve
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import NOW, date, get, lines, refusal, stored, storing, values

TAG = 'ETag: "a"'
SECONDS = st.floats(min_value=0, max_value=2**31)


# --- 4.2: fresh or stale --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "fresh"), [(0.0, True), (59.0, True), (59.999, True), (60.0, False), (60.001, False)]
)
def test_a_response_is_fresh_while_its_lifetime_exceeds_its_age(age: float, fresh: bool) -> None:
    """At the lifetime itself it is stale."""
    decision = decide(get(), stored("Cache-Control: max-age=60"), now=NOW + age, policy=Policy())
    assert isinstance(decision, Serve) == fresh
    assert fresh or decision == Forward(reason="stale")


# --- 4.2.1: lifetime ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "lifetime"),
    [
        (["Cache-Control: max-age=3600"], 3600),
        (["Cache-Control: s-maxage=3600"], 3600),
        (["Cache-Control: max-age=3600, s-maxage=1"], 1),
        (["Cache-Control: s-maxage=1, max-age=3600"], 1),
        (["Cache-Control: max-age=3600", "Cache-Control: s-maxage=1"], 1),
        (["Cache-Control: max-age=1, s-maxage=3600"], 3600),
        (["Cache-Control: max-age=0, s-maxage=3600", f"Expires: {date(-10)}"], 3600),
        (["Cache-Control: max-age=3600", f"Expires: {date(-7200)}"], 3600),
        (["Cache-Control: max-age=3600", "Expires: 0"], 3600),
        (["Cache-Control: max-age=0", f"Expires: {date(3600)}"], 0),
        (["Cache-Control: foobar, max-age=3600"], 3600),
        (["Cache-Control: public", f"Expires: {date(30)}"], 30),
        (["Cache-Control: max-age=99999999999"], 2**31),
    ],
)
def test_the_most_specific_lifetime_is_used(fields: list[str], lifetime: float) -> None:
    """s-maxage, then max-age, then Expires."""
    assert stored(*fields, TAG).freshness_lifetime == lifetime


@pytest.mark.parametrize(
    ("value", "lifetime"),
    [
        ("max-age=1800, max-age=1", 1800),
        ("max-age=1, max-age=1800", 1),
        ("max-age=60, max-age=x", 60),
        ("max-age=x, max-age=60", 0),
        ('max-age="3600"', 3600),
        ("max-age='3600'", 0),
        ("max-age=-3600", 0),
        ("max-age=3600.0", 0),
        ("max-age=3600a", 0),
        ("max-age=a3600", 0),
        ("max-age =3600", 0),
        ("max-age= 3600", 0),
        ("max-age", 0),
        ("max-age=", 0),
        ('max-age="', 0),
        ("s-maxage=x, max-age=60", 0),
        ('extension="max-age=3600", max-age=1', 1),
        ('max-age=1, extension="max-age=3600"', 1),
        ('extension="\\", max-age=3600", max-age=1', 1),
        ('extension="unclosed, max-age=3600', 0),
    ],
)
def test_the_first_occurrence_counts_and_garbage_is_stale(value: str, lifetime: float) -> None:
    """Conflicting and invalid freshness information."""
    assert stored(f"Cache-Control: {value}", TAG).freshness_lifetime == lifetime


def test_the_first_of_several_lines_counts() -> None:
    """Lines are read in their order."""
    assert stored("Cache-Control: max-age=1", "cache-control: max-age=9").freshness_lifetime == 1


# --- 4.2.2: heuristic lifetime --------------------------------------------------------------

TENTH = Policy(heuristic_fraction=0.1, store_server_errors=True)
MODIFIED = f"Last-Modified: {date(-86_400)}"


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_heuristically_cacheable_statuses_get_a_share_of_the_time_since_they_changed(
    status: int,
) -> None:
    """A tenth of a day."""
    kept = stored(MODIFIED, f"Date: {date()}", status=status, policy=TENTH)
    assert kept.freshness_lifetime == 8640
    assert not kept.lifetime_is_ours


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 500, 502, 503, 504, 599])
def test_other_statuses_get_one_only_when_public(status: int) -> None:
    """`public` marks a response as explicitly cacheable."""
    assert refusal(storing(MODIFIED, status=status, policy=TENTH)) == "no-lifetime"
    public = stored(MODIFIED, "Cache-Control: public", status=status, policy=TENTH)
    assert public.freshness_lifetime == 8640


def test_no_heuristic_is_used_by_default() -> None:
    """The fraction is 0, so the response is stored for validation only."""
    assert stored(MODIFIED).freshness_lifetime == 0


@pytest.mark.parametrize(
    "field", ["Cache-Control: max-age=5", f"Expires: {date(5)}", "CDN-Cache-Control: max-age=5"]
)
def test_no_heuristic_replaces_an_explicit_lifetime(field: str) -> None:
    """MUST NOT."""
    assert stored(MODIFIED, field, policy=TENTH).freshness_lifetime == 5


@pytest.mark.parametrize(
    ("modified", "lifetime"),
    [
        (date(-10), 1),
        (date(0), 0),
        (date(100), 0),
        (date(-10_000_000), 86_400),
        (date(-864_000), 86_400),
    ],
)
def test_a_heuristic_lifetime_is_between_nothing_and_a_day(modified: str, lifetime: float) -> None:
    """A change in the future gives none; one long ago no more than a day."""
    assert stored(f"Last-Modified: {modified}", policy=TENTH).freshness_lifetime == lifetime


def test_an_invalid_last_modified_gives_no_heuristic_lifetime() -> None:
    """What is no date says nothing."""
    assert refusal(storing("Last-Modified: yesterday", policy=TENTH)) == "no-lifetime"


def test_the_heuristic_lifetime_goes_before_the_configured_one() -> None:
    """The response says more about itself than the setting."""
    kept = stored(MODIFIED, policy=replace(TENTH, default_lifetime=5))
    assert (kept.freshness_lifetime, kept.lifetime_is_ours) == (8640, False)


# --- 4.2.3: age -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "delay", "age"),
    [
        ([], 0, 0),
        ([f"Date: {date()}"], 0, 0),
        ([f"Date: {date(-30)}"], 0, 30),
        ([f"Date: {date(30)}"], 0, 0),
        (["Date: foo"], 0, 0),
        (["Age: 30"], 0, 30),
        (["Age: 30"], 5, 35),
        ([f"Date: {date(-20)}", "Age: 30"], 5, 35),
        ([f"Date: {date(-50)}", "Age: 30"], 5, 50),
        ([], 5, 5),
        ([f"Date: {date(-3)}"], 5, 5),
    ],
)
def test_the_age_on_arrival_is_the_more_conservative_estimate(
    fields: list[str], delay: float, age: float
) -> None:
    """By Date, or by Age and the time that the request took."""
    assert stored("Cache-Control: max-age=60", *fields, delay=delay).corrected_initial_age == age


def test_fractions_of_a_second_since_date_make_no_age() -> None:
    """Date has whole seconds."""
    headers = lines(f"Date: {date()}")
    assert corrected_initial_age(headers, request_time=NOW + 0.9, response_time=NOW + 0.9) == 0
    assert corrected_initial_age(headers, request_time=NOW + 1, response_time=NOW + 1) == 1


def test_a_clock_that_goes_back_makes_nothing_younger() -> None:
    """Neither between request and response nor after."""
    headers = lines("Age: 7")
    assert corrected_initial_age(headers, request_time=NOW + 9, response_time=NOW) == 7
    kept = stored("Cache-Control: max-age=60", "Age: 7")
    assert current_age(kept, now=NOW - 100) == 7


@pytest.mark.parametrize(
    "fields",
    [
        [f"Date: {date(-10)}", f"Expires: {date(10)}", "Age: 25"],
        [f"Date: {date(10)}", f"Expires: {date(20)}", "Age: 15"],
        ["Cache-Control: max-age=3600", "Age: 7200"],
        ["Cache-Control: max-age=3600", f"Date: {date(-7200)}"],
    ],
)
def test_a_response_can_arrive_stale(fields: list[str]) -> None:
    """Its age counts from the origin, not from us."""
    decision = decide(get(), stored(*fields), now=NOW, policy=Policy())
    assert decision == Forward(reason="stale")


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_age_never_falls_and_grows_with_the_clock(
    age: float, delay: float, early: float, later: float
) -> None:
    """Resident time is added, whatever the numbers."""
    kept = stored("Cache-Control: max-age=60", f"Age: {int(age)}", "Date: x", delay=delay)
    first = current_age(kept, now=NOW + early)
    second = current_age(kept, now=NOW + early + later)
    assert 0 <= int(age) <= first <= second
    assert math.isclose(second - first, later, abs_tol=1e-3)


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.floats(-1e6, 1e11))
def test_what_is_served_without_leave_is_never_older_than_its_lifetime(
    lifetime: int, age: int, later: float
) -> None:
    """The whole arithmetic, from header to decision."""
    kept = stored(f"Cache-Control: max-age={lifetime}", f"Age: {age}", TAG)
    decision = decide(get(), kept, now=NOW + later, policy=Policy())
    if isinstance(decision, Serve):
        assert int(values(decision, "age")[0]) < lifetime
        assert decision.ttl >= 0
    else:
        assert min(age, 2**31) + max(later, 0) >= min(lifetime, 2**31)


# --- 5.1: the Age field ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "age"),
    [
        ([], 0),
        (["Age: 7200"], 7200),
        (["Age: 0"], 0),
        (["Age: 007"], 7),
        (["Age: 2147483647"], 2**31 - 1),
        (["Age: 2147483648"], 2**31),
        (["Age: 99999999999999999999"], 2**31),
        (["Age: 7200, 0"], 7200),
        (["Age: 0, 7200"], 0),
        (["Age: 7200", "Age: 0"], 7200),
        (["Age: 0", "Age: 7200"], 0),
        (["Age: abc"], 0),
        (["Age: -7200"], 0),
        (["Age: 7200.0"], 0),
        (["Age: 7200;foo=bar"], 0),
        (["Age: "], 0),
        (["Age: ,7200"], 0),
    ],
)
def test_age_is_the_first_member_of_the_first_line_or_ignored(fields: list[str], age: int) -> None:
    """Digits only, saturating."""
    assert age_value(lines(*fields)) == age


# --- 5.3: the Expires field -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "lifetime"),
    [
        ([f"Expires: {date(60)}"], 60),
        ([f"Expires: {date(60)}", f"Date: {date()}"], 60),
        ([f"Expires: {date(60)}", f"Date: {date(-5)}"], 65),
        ([f"Expires: {date(60)}", "Date: foo"], 60),
        ([f"Expires: {date(1)}"], 1),
        ([f"Expires: {date(0)}", f"Date: {date()}"], 0),
        ([f"Expires: {date(-1)}"], 0),
        ([f"Expires: {date(300)}", f"Date: {date(400)}"], 0),
        (["Expires: 0"], 0),
        (["Expires: "], 0),
        (["Expires: Thu, 18 Aug 2050 02:01:18 UTC"], 0),
        (["Expires: garbage", f"Expires: {date(60)}"], 0),
        ([f"Expires: {date(60)}", "Expires: garbage"], 60),
    ],
)
def test_expires_minus_date_is_a_lifetime_and_garbage_is_expired(
    fields: list[str], lifetime: float
) -> None:
    """Both sides of now, with and without Date; the first line counts."""
    assert stored(*fields, TAG).freshness_lifetime == lifetime


@pytest.mark.parametrize(
    "text",
    [
        "Tue, 19 Jan 2038 14:14:08 GMT",
        "Sun, 21 Nov 2286 04:46:39 GMT",
        "Thursday, 18-Aug-50 02:01:18 GMT",
        "Thu Aug  8 02:01:18 2050",
        "THU, 18 Aug 2050 02:01:18 GMT",
    ],
)
def test_expires_may_be_far_away_and_in_any_format(text: str) -> None:
    """All of these lie decades ahead."""
    assert stored(f"Expires: {text}").freshness_lifetime > 300_000_000
