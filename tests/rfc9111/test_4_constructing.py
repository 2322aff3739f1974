"""RFC 9111 section 4: constructing responses from caches."""

import pytest
from msgspec.structs import replace

from maxage.rfc9111.decide import answer, answers_plainly, decide, plain_hit
from maxage.rfc9111.decisions import Forward, OnlyIfCached, Serve
from maxage.rfc9111.message import StoredResponse
from maxage.rfc9111.policy import Policy
from tests.rfc9111.build import BODY, NOW, date, get, head, lines, stored, values

FRESH = "Cache-Control: max-age=60"
POLICY = Policy()


def test_nothing_stored_is_forwarded() -> None:
    """A miss of the URL, or of its variants."""
    assert decide(get(), None, now=NOW, policy=POLICY) == Forward(reason="uri-miss")
    missed = decide(get(), None, now=NOW, policy=POLICY, vary_miss=True)
    assert missed == Forward(reason="vary-miss")


def test_a_hit_is_the_stored_response_with_its_age() -> None:
    """Every stored line in its order and case; Date as it was; the body untouched."""
    kept = stored("X-B: 2", FRESH, f"Date: {date()}", "x-a: 1", "X-B: 1")
    assert decide(get(), kept, now=NOW + 7.9, policy=POLICY) == Serve(
        status=200,
        headers=lines("X-B: 2", FRESH, f"Date: {date()}", "x-a: 1", "X-B: 1", "age: 7").raw,
        body=BODY,
        ttl=52,
    )


def test_age_replaces_the_one_that_was_received() -> None:
    """It goes on counting from it."""
    served = decide(get(), stored(FRESH, "Age: 30"), now=NOW + 3, policy=POLICY)
    assert isinstance(served, Serve)
    assert values(served, "age") == ["33"]
    assert served.ttl == 27


@pytest.mark.parametrize("status", [204, 301, 404])
def test_a_hit_has_the_stored_status(status: int) -> None:
    """Not only 200 is reused."""
    served = decide(get(), stored(FRESH, status=status), now=NOW, policy=POLICY)
    assert isinstance(served, Serve)
    assert served.status == status


def test_a_head_gets_the_headers_of_the_get_without_the_body() -> None:
    """Content-Length included (RFC 9110 section 9.3.2)."""
    kept = stored(FRESH, "Content-Length: 10")
    by_get = decide(get(), kept, now=NOW, policy=POLICY)
    by_head = decide(head(), kept, now=NOW, policy=POLICY)
    assert isinstance(by_get, Serve)
    assert by_head == replace(by_get, body=b"")
    assert values(by_get, "content-length") == ["10"]


@pytest.mark.parametrize("field", ["If-Match: *", f"If-Unmodified-Since: {date()}"])
@pytest.mark.parametrize("kept", [stored(FRESH, 'ETag: "a"'), stored("Expires: 0", 'ETag: "a"')])
def test_conditions_for_an_origin_server_are_left_to_it(field: str, kept: StoredResponse) -> None:
    """Fresh or stale, with the client's own conditions (section 4.3.2)."""
    assert decide(get(field), kept, now=NOW, policy=POLICY) == Forward(reason="request")


def test_conditions_for_an_origin_server_that_may_not_be_asked_are_a_504() -> None:
    """only-if-cached."""
    request = get("If-Match: *", "Cache-Control: only-if-cached")
    assert decide(request, stored(FRESH), now=NOW, policy=POLICY) == OnlyIfCached()


# --- no-cache in the response (section 5.2.2.4) ---------------------------------------------


def test_a_response_with_no_cache_is_validated_on_every_use() -> None:
    """However fresh it is otherwise."""
    kept = stored("Cache-Control: max-age=60, No-Cache", 'ETag: "a"')
    assert decide(get(), kept, now=NOW, policy=POLICY) == Forward(
        reason="stale", conditional=((b"if-none-match", b'"a"'),)
    )


@pytest.mark.parametrize(
    "value", ['no-cache=""', 'no-cache="a b"', 'no-cache, no-cache="a"', "no-cache ="]
)
def test_a_no_cache_that_names_no_fields_means_the_whole_response(value: str) -> None:
    """The stricter reading."""
    kept = stored(f"Cache-Control: max-age=60, {value}", 'ETag: "a"')
    assert isinstance(decide(get(), kept, now=NOW, policy=POLICY), Forward)


@pytest.mark.parametrize(
    "value", ['no-cache="A, b"', "no-cache=a, no-cache=b", 'no-cache="a", no-cache="B"']
)
def test_fields_that_no_cache_names_are_not_sent_without_validation(value: str) -> None:
    """The rest of the response is reused."""
    kept = stored(f"Cache-Control: max-age=60, {value}", "a: 1", "B: 2", "C: 3", "a: 4")
    served = decide(get(), kept, now=NOW, policy=POLICY)
    assert isinstance(served, Serve)
    assert [values(served, name) for name in ("a", "b", "c")] == [[], [], ["3"]]


# --- After validation, or on an error -------------------------------------------------------


def test_a_validated_response_is_sent_whole_and_without_age() -> None:
    """Age would say that the origin was not asked (section 5.1)."""
    kept = stored(
        'Cache-Control: no-cache="a", max-age=0', "a: 1", 'ETag: "x"', "Maxage-Cache-Control: x"
    )
    served = answer(get(), kept, now=NOW + 0.5, validated=True)
    assert values(served, "a") == ["1"]
    assert values(served, "age") == []
    assert values(served, "maxage-cache-control") == []
    assert not served.stale


def test_a_validation_that_another_cache_answered_keeps_its_age() -> None:
    """Then the origin was not asked."""
    served = answer(get(), stored(FRESH, "Age: 5"), now=NOW, validated=True)
    assert values(served, "age") == ["5"]


@pytest.mark.parametrize(("later", "stale"), [(59, False), (60, True), (61, True)])
def test_an_answer_for_an_error_says_whether_it_is_stale(later: float, stale: bool) -> None:
    """No question is asked whether it may be."""
    served = answer(get(), stored(FRESH), now=NOW + later)
    assert (served.stale, served.ttl) == (stale, 60 - later)
    assert values(served, "age") == [str(later)]


def test_an_answer_obeys_the_client_s_conditions() -> None:
    """Validated or not, a client that has it gets a 304."""
    request = get('If-None-Match: "a"')
    assert answer(request, stored(FRESH, 'ETag: "a"'), now=NOW, validated=True).status == 304


@pytest.mark.parametrize(
    "text",
    ["x-b: 2", "Age: 30", "Last-Modified: now", "Vary: accept", "Cache-Control: no-cache",
     'Cache-Control: no-cache="x-a"', "Cache-Control: must-revalidate",
     "Cache-Control: stale-while-revalidate=9"],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 204, 206, 301, 404])
@pytest.mark.parametrize("later", [-5.0, 0.0, 7.9, 29.5, 30.0, 59.999, 60.0, 61.0])
def test_a_plain_hit_is_what_the_rules_decide(text: str, status: int, later: float) -> None:
    """It answers where the stored response is fresh, and nothing else can be the answer."""
    kept = replace(stored(FRESH, 'ETag: "a"', "x-a: 1", text), status=status)
    decided = decide(get(), kept, now=NOW + later, policy=POLICY)
    if answers_plainly(kept):
        hit = plain_hit(kept, kept, kept.headers, kept.body, NOW + later)
        assert hit == (decided if isinstance(decided, Serve) and not decided.stale else None)
    else:
        assert status == 206 or "Vary" in text or "no-cache" in text


def test_what_asks_for_more_than_the_url_is_no_plain_hit() -> None:
    """A compressed body, and a response that only clients without an identity get."""
    kept = stored(FRESH)
    assert answers_plainly(kept)
    assert not answers_plainly(replace(kept, plain_length=100))
    assert not answers_plainly(replace(kept, anonymous=True))
