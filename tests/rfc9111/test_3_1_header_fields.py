"""RFC 9111 section 3.1: storing header and trailer fields."""

import pytest

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import NOW, date, get, lines, stored, values

FRESH = "Cache-Control: max-age=60"


def test_unknown_fields_are_stored_in_their_order_and_case() -> None:
    """All received fields, unrecognised ones and duplicates included."""
    kept = stored("X-Odd: 1", FRESH, f"DATE: {date()}", "x-odd: 2", "X-ODD: 1")
    assert kept.headers == lines("X-Odd: 1", FRESH, f"DATE: {date()}", "x-odd: 2", "X-ODD: 1")


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authentication-Info",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "kEEP-aLIVE",
    ],
)
def test_fields_of_the_connection_and_of_proxies_are_not_stored(name: str) -> None:
    """They belong to one hop."""
    assert values(stored(FRESH, f"{name}: x"), name.lower()) == []


def test_fields_that_connection_names_are_not_stored() -> None:
    """On every line, in any case."""
    kept = stored(FRESH, "Connection: A, close", "connection: b", "a: 1", "B: 2", "C: 3")
    assert [values(kept, name) for name in ("a", "b", "c")] == [[], [], ["3"]]


@pytest.mark.parametrize(
    "name",
    [
        "Content-Encoding",
        "Content-Length",
        "Content-Range",
        "ETag",
        "WWW-Authenticate",
        "Clear-Site-Data",
    ],
)
def test_all_other_fields_are_stored(name: str) -> None:
    """The other side of the boundary."""
    assert values(stored(FRESH, f"{name}: x"), name.lower()) == ["x"]


def test_fields_that_private_names_are_not_stored() -> None:
    """Section 5.2.2.7: the remainder may be stored."""
    kept = stored(
        'Cache-Control: max-age=60, private="A, b", private=c', "a: 1", "B: 2", "C: 3", "D: 4"
    )
    assert [values(kept, name) for name in ("a", "b", "c", "d")] == [[], [], [], ["4"]]


def test_fields_of_the_exchange_are_not_stored() -> None:
    """The deployment names them, `x-request-id` for instance."""
    policy = Policy(exchange_fields=frozenset({b"x-request-id"}))
    assert values(stored(FRESH, "X-Request-ID: 7", policy=policy), "x-request-id") == []
    assert values(stored(FRESH, "X-Request-ID: 7"), "x-request-id") == ["7"]


def test_age_is_not_stored() -> None:
    """It is written anew on every use."""
    assert values(stored(FRESH, "Age: 5"), "age") == []


# --- Date -----------------------------------------------------------------------------------


def test_a_date_is_stored_as_it_came() -> None:
    """However it is spelled, if it is a date."""
    assert values(stored(FRESH, "Date: Friday, 15-Jan-27 07:59:59 GMT"), "date") == [
        "Friday, 15-Jan-27 07:59:59 GMT"
    ]


@pytest.mark.parametrize("field", ["X: 1", "Date: foo"])
def test_a_missing_or_invalid_date_becomes_the_time_of_arrival(field: str) -> None:
    """RFC 9110 section 6.6.1."""
    assert values(stored(FRESH, field), "date") == [date()]


def test_no_date_is_added_when_the_server_adds_its_own() -> None:
    """A setting, for servers that cannot be kept from it."""
    policy = Policy(append_date=False)
    assert values(stored(FRESH, policy=policy), "date") == []
    assert values(stored(FRESH, "Date: foo", policy=policy), "date") == ["foo"]


# --- Targeted fields (RFC 9213) -------------------------------------------------------------


def test_our_own_targeted_field_is_stored_and_never_sent() -> None:
    """It is addressed to us; it stays for a 304 that comes without it."""
    kept = stored("Maxage-Cache-Control: max-age=60", "X: 1")
    served = decide(get(), kept, now=NOW, policy=Policy())
    assert values(kept, "maxage-cache-control") == ["max-age=60"]
    assert isinstance(served, Serve)
    assert values(served, "maxage-cache-control") == []
    assert values(served, "x") == ["1"]


def test_cdn_cache_control_is_passed_on() -> None:
    """It is addressed to others too."""
    served = decide(get(), stored("CDN-Cache-Control: max-age=60"), now=NOW, policy=Policy())
    assert isinstance(served, Serve)
    assert values(served, "cdn-cache-control") == ["max-age=60"]
