"""RFC 9111 section 3: storing responses."""

import pytest

from maxage.rfc9111.message import Request
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.verdicts import MayStore
from tests.rfc9111.build import BODY, NOW, date, get, lines, refusal, reply, stored, storing, values

MODIFIED = f"Last-Modified: {date(-1000)}"


def test_a_fresh_200_to_a_get_is_stored() -> None:
    """The plain case."""
    answer = storing("Cache-Control: max-age=60")
    assert isinstance(answer, MayStore)
    assert answer.stored.freshness_lifetime == 60
    assert answer.stored.body == b""
    assert answer.stored.request_time == answer.stored.response_time == NOW


@pytest.mark.parametrize(
    "method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO", "get"]
)
def test_only_responses_to_get_are_stored(method: str) -> None:
    """No other method is understood."""
    request = Request(method=method)
    assert refusal(storing("Cache-Control: max-age=60", request=request)) == "method"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (100, "status"),
        (101, "status"),
        (103, "status"),
        (199, "status"),
        (600, "status"),
        (999, "status"),
        (304, "conditional"),
        (412, "conditional"),
        (206, "partial"),
        (416, "partial"),
        (428, "status"),
        (429, "status"),
        (431, "status"),
        (511, "status"),
    ],
)
def test_statuses_that_answer_one_request_only_are_never_stored(status: int, reason: str) -> None:
    """Interim, conditional, partial and forbidden statuses are not stored, however fresh."""
    policy = Policy(store_server_errors=True)
    answer = storing("Cache-Control: public, max-age=60", status=status, policy=policy)
    assert refusal(answer) == reason


@pytest.mark.parametrize(
    "status", [200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 499]
)
@pytest.mark.parametrize("field", ["Cache-Control: max-age=60", f"Expires: {date(60)}"])
def test_any_final_status_is_stored_with_explicit_freshness(status: int, field: str) -> None:
    """Known or not, a status with a lifetime of its own may be stored."""
    assert stored(field, status=status).status == status


@pytest.mark.parametrize("status", [201, 204, 299, 301, 302, 404, 410])
def test_other_statuses_than_200_are_not_stored_without_a_lifetime(status: int) -> None:
    """The configured lifetime is for a plain 200 only."""
    policy = Policy(default_lifetime=60)
    assert refusal(storing(status=status, policy=policy)) == "no-lifetime"
    assert refusal(storing('ETag: "a"', status=status, policy=policy)) == "no-lifetime"


@pytest.mark.parametrize("status", [400, 401, 403, 406, 408, 411, 413, 418, 421, 426])
def test_client_errors_by_more_than_the_url_are_stored_only_by_setting(status: int) -> None:
    """A header field of one request may be their cause, and the next request lacks it."""
    fresh = "Cache-Control: max-age=60"
    allowed = Policy(store_client_errors=True, default_lifetime=60)
    assert refusal(storing(fresh, status=status)) == "client-error"
    assert refusal(storing(status=status, policy=allowed)) == "no-lifetime"
    assert stored(fresh, status=status, policy=allowed).status == status


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_server_errors_are_stored_only_by_setting_and_with_a_lifetime(status: int) -> None:
    """5xx never by default."""
    fresh = "Cache-Control: max-age=60"
    allowed = Policy(store_server_errors=True, default_lifetime=60)
    assert refusal(storing(fresh, status=status)) == "server-error"
    assert refusal(storing(status=status, policy=allowed)) == "no-lifetime"
    assert stored(fresh, status=status, policy=allowed).status == status


def test_a_499_is_no_server_error() -> None:
    """Nor one of the client errors that a request's header fields may cause."""
    assert stored("Cache-Control: max-age=60", status=499).status == 499


# --- The configured lifetime ----------------------------------------------------------------


def test_a_plain_200_gets_the_configured_lifetime() -> None:
    """Without any freshness information the lifetime is ours, and says so."""
    plain = stored("Content-Type: application/json", policy=Policy(default_lifetime=60))
    assert plain.freshness_lifetime == 60
    assert plain.lifetime_is_ours


def test_without_a_configured_lifetime_a_plain_200_is_not_stored() -> None:
    """0 switches implicit storing off."""
    assert refusal(storing("Content-Type: application/json")) == "no-lifetime"


@pytest.mark.parametrize(
    "field",
    [
        "Cache-Control: public",
        "Cache-Control: must-revalidate",
        "Cache-Control: immutable",
        "Cache-Control: unknown-extension",
        "Cache-Control: no-transform",
        'Cache-Control: no-cache="x-a"',
        "Cache-Control: ",
        "Pragma: something",
    ],
)
def test_directives_without_freshness_words_leave_the_configured_lifetime(field: str) -> None:
    """What says nothing about freshness is no freshness information."""
    assert stored(field, policy=Policy(default_lifetime=60)).lifetime_is_ours


@pytest.mark.parametrize(
    "field",
    [
        "Cache-Control: max-age=30",
        "Cache-Control: s-maxage=30",
        f"Expires: {date(30)}",
        "CDN-Cache-Control: max-age=30",
        "Maxage-Cache-Control: max-age=30",
    ],
)
def test_the_response_s_own_lifetime_goes_before_the_configured_one(field: str) -> None:
    """Explicit freshness is obeyed."""
    own = stored(field, policy=Policy(default_lifetime=60))
    assert own.freshness_lifetime == 30
    assert not own.lifetime_is_ours


@pytest.mark.parametrize(
    "field",
    [
        "Cache-Control: max-age=0",
        "Cache-Control: max-age=garbage",
        "Cache-Control: max-age",
        "Cache-Control: max-age =60",
        'Cache-Control: x="unclosed',
        f"Expires: {date(-1)}",
        "Expires: 0",
        "Expires: garbage",
        "CDN-Cache-Control: max-age=0",
        "CDN-Cache-Control: max-age=-1",
        "Cache-Control: no-cache",
    ],
)
def test_a_response_that_is_stale_from_the_start_never_gets_the_configured_lifetime(
    field: str,
) -> None:
    """A response that says "stale", or says it badly, gets no lifetime of our choice."""
    assert refusal(storing(field, policy=Policy(default_lifetime=60))) == (
        "lifetime-0" if "no-cache" not in field else "no-lifetime"
    )


def test_pragma_no_cache_in_a_response_refuses_the_configured_lifetime_only() -> None:
    """Pragma means nothing in a response, but not that its sender wants it stored."""
    policy = Policy(default_lifetime=60)
    assert refusal(storing("Pragma: no-cache", policy=policy)) == "no-lifetime"
    assert stored("Pragma: no-cache", "Cache-Control: max-age=9").freshness_lifetime == 9


ONCE = [
    "Content-Disposition: attachment",
    'Content-Disposition: ATTACHMENT ; filename="a.csv"',
    "Content-Type: application/x-ndjson",
    "Content-Type: application/NDJSON; charset=utf-8",
    "Content-Type: application/jsonl",
    "Content-Type: application/x-jsonlines",
    "Content-Type: application/json-seq",
    "Content-Type: application/geo+json-seq",
    "Content-Type: text/x-ndjson",
    "Content-Type: text/plain; version=0.0.4",
    "X-Accel-Buffering: no",
]


@pytest.mark.parametrize("field", ONCE)
def test_a_download_or_a_stream_gets_no_lifetime_that_holds_for_all_routes(field: str) -> None:
    """It is made for one client, or goes on growing."""
    assert refusal(storing(field, policy=Policy(default_lifetime=60))) == "no-lifetime"


@pytest.mark.parametrize("field", ONCE)
def test_a_download_or_a_stream_gets_the_lifetime_that_its_route_declares(field: str) -> None:
    """As it keeps one of its own."""
    declared = Policy(default_lifetime=60, lifetime_is_declared=True)
    assert stored(field, policy=declared).freshness_lifetime == 60
    assert stored(field, "Cache-Control: max-age=9").freshness_lifetime == 9


@pytest.mark.parametrize(
    "field",
    [
        "Content-Disposition: inline",
        'Content-Disposition: inline; filename="attachment"',
        "Content-Type: application/json",
        "X-Accel-Buffering: yes",
    ],
)
def test_what_is_shown_at_once_gets_the_configured_lifetime(field: str) -> None:
    """It is neither a download nor a stream."""
    assert stored(field, policy=Policy(default_lifetime=60)).lifetime_is_ours


def test_the_configured_lifetime_is_not_for_requests_with_credentials() -> None:
    """Even where the response may be shared, it must say for how long."""
    request = get("Authorization: x", credentials=True)
    policy = Policy(default_lifetime=60)
    assert (
        refusal(storing("Cache-Control: public", request=request, policy=policy)) == "no-lifetime"
    )


def test_a_targeted_field_without_a_lifetime_keeps_what_it_hides_from_being_ignored() -> None:
    """A prohibition beside an irrelevant targeted field still keeps our own lifetime away."""
    policy = Policy(default_lifetime=60)
    hidden = storing("CDN-Cache-Control: public", "Cache-Control: no-store", policy=policy)
    assert refusal(hidden) == "no-lifetime"
    expired = storing("CDN-Cache-Control: public", "Expires: 0", policy=policy)
    assert refusal(expired) == "no-lifetime"
    assert stored("CDN-Cache-Control: public", policy=policy).lifetime_is_ours


# --- Prohibitions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "no-store",
        "No-StOrE",
        "max-age=60, no-store",
        "no-store=x",
        'x="a, no-store',
        "no-store , a",
    ],
)
def test_no_store_forbids_storing(value: str) -> None:
    """In any case, in any company, even behind a quote that nothing closes."""
    assert refusal(storing(f"Cache-Control: {value}", MODIFIED)) == "no-store"


def test_a_no_store_inside_a_quoted_string_is_not_a_directive() -> None:
    """An extension's argument is no directive."""
    assert stored('Cache-Control: max-age=60, x="no-store, \\"private"').freshness_lifetime == 60


@pytest.mark.parametrize("value", ["private", "PRIVATE, max-age=60", 'private=""', 'private="a b"'])
def test_private_forbids_storing(value: str) -> None:
    """Unqualified, or qualified by what is no field name."""
    assert refusal(storing(f"Cache-Control: {value}, max-age=60")) == "private"


def test_private_with_and_without_field_names_forbids_storing() -> None:
    """The stricter of two occurrences wins."""
    assert refusal(storing('Cache-Control: private="a", max-age=60, private')) == "private"


@pytest.mark.parametrize("value", ["*", "*, *", ", *", "*, Foo", "Foo, *", "a b", '"foo"', "a;b"])
def test_vary_star_forbids_storing(value: str) -> None:
    """What can never match need not be stored; nor what is no list of field names."""
    assert refusal(storing("Cache-Control: max-age=60", f"Vary: {value}")) == "vary-star"


def test_vary_star_on_a_second_line_forbids_storing() -> None:
    """All lines count."""
    assert refusal(storing("Cache-Control: max-age=60", "Vary: ", "vary: *")) == "vary-star"


def test_a_cookie_forbids_storing() -> None:
    """However fresh the response says it is."""
    assert refusal(storing("Cache-Control: max-age=60", "Set-Cookie: a=b")) == "set-cookie"


def test_a_cookie_is_stored_only_by_setting_and_with_explicit_freshness() -> None:
    """Both sides of the setting."""
    policy = Policy(store_set_cookie=True, default_lifetime=60, heuristic_fraction=0.1)
    kept = stored("Cache-Control: max-age=60", "Set-Cookie: a=b", policy=policy)
    assert values(kept, "set-cookie") == ["a=b"]
    assert refusal(storing("Set-Cookie: a=b", policy=policy)) == "set-cookie"
    assert refusal(storing("Set-Cookie: a=b", MODIFIED, policy=policy)) == "set-cookie"


@pytest.mark.parametrize("directive", ['private="Set-Cookie"', 'no-cache="Set-Cookie"'])
def test_a_cookie_that_the_response_sets_apart_is_left_out_of_what_is_stored(
    directive: str,
) -> None:
    """The rest of the response may be stored."""
    kept = stored(f"Cache-Control: max-age=60, {directive}", "Set-Cookie: a=b", "X: 1")
    assert values(kept, "set-cookie") == []
    assert values(kept, "x") == ["1"]


@pytest.mark.parametrize(
    "kind",
    [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "multipart/x-mixed-replace; boundary=frame",
    ],
)
def test_event_streams_are_not_stored(kind: str) -> None:
    """They do not end."""
    assert refusal(storing("Cache-Control: max-age=60", f"Content-Type: {kind}")) == "stream"


def test_the_request_s_no_store_forbids_storing() -> None:
    """Section 5.2.1.5, unless request directives are ignored by setting."""
    request = get("Cache-Control: no-store")
    assert refusal(storing("Cache-Control: max-age=60", request=request)) == "request-no-store"
    deaf = Policy(obey_request_directives=False)
    assert stored("Cache-Control: max-age=60", request=request, policy=deaf).status == 200


@pytest.mark.parametrize("value", ["no-cache", "max-age=0", "no-transform", "only-if-cached"])
def test_the_request_s_other_directives_do_not_forbid_storing(value: str) -> None:
    """Only no-store is about storing."""
    kept = stored("Cache-Control: max-age=60", request=get(f"Cache-Control: {value}"))
    assert kept.freshness_lifetime == 60


# --- must-understand ------------------------------------------------------------------------


def test_must_understand_overrides_no_store_for_a_status_we_understand() -> None:
    """Section 5.2.2.3."""
    kept = stored("Cache-Control: max-age=60, no-store, must-understand")
    assert kept.freshness_lifetime == 60


@pytest.mark.parametrize(
    "value", ["max-age=60, must-understand", "max-age=60, no-store, must-understand"]
)
@pytest.mark.parametrize("status", [299, 418, 499, 599])
def test_must_understand_forbids_storing_a_status_we_do_not_understand(
    status: int, value: str
) -> None:
    """Section 5.2.2.3, the other side."""
    policy = Policy(store_server_errors=True)
    assert refusal(storing(f"Cache-Control: {value}", status=status, policy=policy)) == "status"


def test_must_understand_does_not_override_private() -> None:
    """Only no-store is overridden."""
    assert refusal(storing("Cache-Control: max-age=60, private, must-understand")) == "private"


# --- What is worth storing ------------------------------------------------------------------


@pytest.mark.parametrize("field", ['ETag: "a"', MODIFIED])
@pytest.mark.parametrize(
    "freshness", ["Cache-Control: max-age=0", "Expires: 0", "Cache-Control: no-cache"]
)
def test_a_stale_response_is_stored_when_it_can_be_validated(freshness: str, field: str) -> None:
    """A validator makes it useful."""
    assert stored(freshness, field).freshness_lifetime == 0


def test_a_200_with_a_validator_alone_is_stored_for_validation() -> None:
    """Heuristically cacheable, stale, and still useful."""
    kept = stored('ETag: "a"')
    assert kept.freshness_lifetime == 0
    assert not kept.lifetime_is_ours


@pytest.mark.parametrize("field", ["X: 1", "ETag: ", "Last-Modified: garbage"])
def test_a_stale_response_without_a_validator_is_not_stored(field: str) -> None:
    """Nothing could ever be done with it."""
    assert refusal(storing("Cache-Control: max-age=0", field)) == "lifetime-0"


def test_a_stale_error_page_is_not_stored_for_its_validator() -> None:
    """Only a 200 is confirmed by 304."""
    assert refusal(storing("Cache-Control: max-age=0", 'ETag: "a"', status=404)) == "lifetime-0"


@pytest.mark.parametrize("directive", ["stale-while-revalidate=9", "stale-if-error=9"])
def test_a_stale_response_is_stored_when_it_may_be_used_stale(directive: str) -> None:
    """Stale uses make it useful, unless they are forbidden in the same breath."""
    assert stored(f"Cache-Control: max-age=0, {directive}").freshness_lifetime == 0
    forbidden = storing(f"Cache-Control: max-age=0, {directive}, must-revalidate")
    assert refusal(forbidden) == "lifetime-0"
    assert refusal(storing(f"Cache-Control: no-cache, {directive}")) == "no-lifetime"


def test_a_response_that_arrives_stale_is_stored_for_max_stale() -> None:
    """Its lifetime was positive, so a client may still accept it."""
    old = stored("Cache-Control: max-age=1500", "Age: 2000")
    assert old.corrected_initial_age == 2000


# --- What is remembered ---------------------------------------------------------------------


def test_what_the_directives_mean_is_worked_out_once() -> None:
    """The numbers and flags of the stored response."""
    kept = stored(
        "Cache-Control: public, max-age=60, must-revalidate, stale-if-error=5",
        "Vary: B, a",
        request=get("A: 1"),
    )
    assert kept.shareable
    assert kept.never_stale
    assert kept.stale_if_error == 5
    assert kept.vary_names == (b"a", b"b")
    assert kept.selecting == (b"1", None)


@pytest.mark.parametrize(
    ("value", "never_stale", "shareable"),
    [
        ("max-age=60", False, False),
        ("max-age=60, public", False, True),
        ("max-age=60, must-revalidate", True, True),
        ("max-age=60, proxy-revalidate", True, False),
        ("s-maxage=60", True, True),
    ],
)
def test_what_may_be_shared_and_what_may_be_stale(
    value: str, never_stale: bool, shareable: bool
) -> None:
    """Sections 3.5, 5.2.2.2, 5.2.2.8, 5.2.2.9 and 5.2.2.10."""
    kept = stored(f"Cache-Control: {value}")
    assert (kept.never_stale, kept.shareable) == (never_stale, shareable)


def test_the_configured_stale_while_revalidate_is_for_responses_that_do_not_say() -> None:
    """The response's own word wins, 0 included; a prohibition beats the setting."""
    policy = Policy(stale_while_revalidate=30)

    def window(value: str) -> float:
        return stored(f"Cache-Control: {value}", policy=policy).stale_while_revalidate

    assert window("max-age=60") == 30
    assert window("max-age=60, stale-while-revalidate=5") == 5
    assert window("max-age=60, stale-while-revalidate=0") == 0
    assert window("max-age=60, stale-while-revalidate=x") == 0
    assert window("max-age=60, must-revalidate, stale-while-revalidate=5") == 0
    assert window("s-maxage=60") == 0


def test_the_answer_does_not_depend_on_the_body() -> None:
    """A stored response is complete once its body is put in."""
    assert stored("Cache-Control: max-age=60", body=BODY).body == BODY
    assert lines("A: b") == reply("A: b").headers
