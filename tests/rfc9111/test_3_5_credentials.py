"""RFC 9111 section 3.5: storing responses to authenticated requests."""

import pytest

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward, OnlyIfCached, Serve
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import NOW, date, get, refusal, stored, storing

SHARED = ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"]
CREDENTIALS = get("Authorization: x", credentials=True)


@pytest.mark.parametrize(
    "value", ["max-age=60", "max-age=60, proxy-revalidate", "max-age=60, s-maxage=x"]
)
def test_a_response_to_credentials_is_not_stored(value: str) -> None:
    """Explicit freshness alone allows nothing."""
    assert refusal(storing(f"Cache-Control: {value}", request=CREDENTIALS)) == "credentials"
    assert refusal(storing(f"Expires: {date(60)}", request=CREDENTIALS)) == "credentials"


@pytest.mark.parametrize("value", SHARED)
def test_a_response_that_may_be_shared_is_stored_in_spite_of_credentials(value: str) -> None:
    """public, must-revalidate and s-maxage allow it."""
    assert stored(f"Cache-Control: {value}", request=CREDENTIALS).shareable


def test_a_targeted_field_can_allow_it() -> None:
    """It has the same semantics as Cache-Control."""
    assert stored("CDN-Cache-Control: max-age=60, public", request=CREDENTIALS).shareable


def test_an_unclosed_quote_allows_nothing() -> None:
    """What may be a part of an argument is no permission."""
    assert (
        refusal(storing('Cache-Control: x="max-age=60, public', request=CREDENTIALS))
        == "credentials"
    )


def test_a_request_with_credentials_bypasses_what_may_not_be_shared() -> None:
    """Its answer may depend on who asks, even when the stored one is anonymous."""
    kept = stored("Cache-Control: max-age=60", 'ETag: "a"')
    decision = decide(CREDENTIALS, kept, now=NOW, policy=Policy(stale_if_error=60))
    assert decision == Forward(reason="bypass")


@pytest.mark.parametrize("value", SHARED)
def test_a_request_with_credentials_is_answered_by_what_may_be_shared(value: str) -> None:
    """The other side."""
    kept = stored(f"Cache-Control: {value}")
    assert isinstance(decide(CREDENTIALS, kept, now=NOW, policy=Policy()), Serve)


def test_a_bypass_that_may_not_reach_the_application_is_a_504() -> None:
    """only-if-cached."""
    request = get("Cache-Control: only-if-cached", credentials=True)
    kept = stored("Cache-Control: max-age=60")
    assert decide(request, kept, now=NOW, policy=Policy()) == OnlyIfCached()
