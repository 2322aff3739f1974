"""RFC 9111 sections 3.2, 4.3.4 and 4.3.5: freshening stored responses."""

import pytest
from msgspec.structs import replace

from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.decide import answer, decide
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.freshening import freshen, freshen_from_head
from maxage.rfc9111.message import Request, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.verdicts import MayNotStore, MayStore, NotFreshened
from tests.rfc9111.build import BODY, NOW, date, get, head, lines, refusal, reply, stored, values

LATER = NOW + 1000
POLICY = Policy()
MODIFIED = f"Last-Modified: {date(-5000)}"
OTHER = f"Last-Modified: {date(-4000)}"


def validate(
    kept: StoredResponse, *fields: str, request: Request | None = None, policy: Policy = POLICY
) -> MayStore | MayNotStore | NotFreshened:
    """The stored response was validated; the 304 with these fields took half a second."""
    arrival = Arrival(
        request=request or get(), response=reply(*fields, status=304),
        request_time=LATER - 0.5, response_time=LATER, policy=policy,
    )  # fmt: skip
    return freshen(kept, arrival)


def freshened(kept: StoredResponse, *fields: str) -> StoredResponse:
    verdict = validate(kept, *fields)
    assert isinstance(verdict, MayStore), verdict
    return verdict.stored


KEPT = stored("Cache-Control: max-age=60", 'ETag: "a"', "X: 1", "Y: 1", "Age: 50")


# --- 4.3.4: which stored response -----------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "received", "updates"),
    [
        (['ETag: "a"'], ['ETag: "a"'], True),
        (['ETag: "a"'], ['ETag: "b"'], False),
        (['ETag: W/"a"'], ['ETag: "a"'], False),
        (['ETag: "a"'], ['ETag: W/"a"'], True),
        (['ETag: W/"a"'], ['ETag: W/"a"'], True),
        (['ETag: W/"a"'], ['ETag: W/"b"'], False),
        (["ETag: a"], ["ETag: a"], True),
        ([MODIFIED], [MODIFIED], True),
        ([MODIFIED], [OTHER], False),
        (['ETag: "a"', MODIFIED], ['ETag: "a"', OTHER], True),
        (['ETag: "a"', MODIFIED], ['ETag: "b"', MODIFIED], False),
        (['ETag: "a"', MODIFIED], [MODIFIED], True),
        (['ETag: "a"', MODIFIED], [OTHER], False),
        ([MODIFIED], ['ETag: "a"'], False),
        (['ETag: "a"'], [MODIFIED], False),
        (['ETag: "a"'], [], True),
        ([MODIFIED], [], True),
        (['ETag: "a"'], ["ETag: "], True),
    ],
)
def test_a_304_updates_the_response_that_its_validators_name(
    held: list[str], received: list[str], updates: bool
) -> None:
    """A strong tag strongly, a weak one weakly; no validator at all is ours (a deviation)."""
    verdict = validate(stored("Cache-Control: max-age=60", *held), *received)
    if updates:
        assert isinstance(verdict, MayStore)
    else:
        assert verdict is NotFreshened.MISMATCH


# --- 3.2: updating header fields ------------------------------------------------------------


def test_received_fields_replace_their_namesakes_and_the_others_stay() -> None:
    """Replaced in their place, new ones appended, in the case of the 304."""
    kept = stored(
        "A: 1", "Cache-Control: max-age=60", "B: 1", "b: 2", 'ETag: "a"', "C: 1", f"Date: {date()}"
    )
    new = freshened(kept, "NEW: 1", "B: 3", f"Date: {date(999)}", "New: 2", "a: 2", "a: 3")
    assert new.headers == lines(
        "a: 2",
        "a: 3",
        "Cache-Control: max-age=60",
        "B: 3",
        'ETag: "a"',
        "C: 1",
        f"Date: {date(999)}",
        "NEW: 1",
        "New: 2",
    )


@pytest.mark.parametrize(
    "name",
    ["Content-Foo", "Content-Location", "Content-Security-Policy", "X-Content"],
)
def test_the_prefix_content_is_no_exception(name: str) -> None:
    """It is a convention, not a signal."""
    kept = stored("Cache-Control: max-age=60", 'ETag: "a"', f"{name}: old")
    assert values(freshened(kept, f"{name}: new"), name.lower()) == ["new"]


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("text/css", "text/css; charset=utf-8", "text/css; charset=utf-8"),
        ("text/CSS;a=b", "Text/css", "Text/css"),
        ("text/css", "text/plain", "text/css"),
        ("text/css", "", "text/css"),
        (None, "application/json", None),
    ],
)
def test_a_304_changes_the_parameters_of_the_media_type_and_not_the_type(
    old: str | None, new: str, kept: str | None
) -> None:
    """A framework gives an empty body its default type; a style sheet stays one."""
    lines = [f"Content-Type: {old}"] if old else []
    held = stored("Cache-Control: max-age=60", 'ETag: "a"', *lines)
    found = values(freshened(held, f"Content-Type: {new}"), "content-type")
    assert found == ([kept] if kept else [])


@pytest.mark.parametrize("name", ["Content-Length", "Content-Encoding", "Content-Range"])
def test_what_the_stored_body_depends_upon_is_not_updated(name: str) -> None:
    """The body is still the old one."""
    kept = stored("Cache-Control: max-age=60", 'ETag: "a"', f"{name}: 10")
    assert values(freshened(kept, f"{name}: 0"), name.lower()) == ["10"]
    assert values(freshened(KEPT, f"{name}: 0"), name.lower()) == []


@pytest.mark.parametrize(
    "name", ["Connection", "Keep-Alive", "TE", "Upgrade", "Proxy-Authenticate"]
)
def test_fields_excepted_from_storage_are_not_added(name: str) -> None:
    """Section 3.1 holds for updates too."""
    assert values(freshened(KEPT, f"{name}: x"), name.lower()) == []


def test_fields_that_the_304_s_connection_names_are_not_updated() -> None:
    """They belong to that connection; the stored ones stay."""
    new = freshened(KEPT, "Connection: X", "X: 2", "Y: 2")
    assert (values(new, "x"), values(new, "y")) == (["1"], ["2"])


def test_the_body_and_the_status_stay() -> None:
    """Only metadata is updated."""
    new = freshened(KEPT, "X: 2")
    assert (new.status, new.body) == (200, BODY)


# --- The numbers ----------------------------------------------------------------------------


def test_the_response_is_as_young_as_its_validation() -> None:
    """Neither the old Age nor the old Date counts any more."""
    kept = stored("Cache-Control: max-age=60", 'ETag: "a"', f"Date: {date(-10)}", "Age: 50")
    new = freshened(kept)
    assert new.corrected_initial_age == 0.5
    assert (new.request_time, new.response_time) == (LATER - 0.5, LATER)
    assert values(new, "date") == [date(1000)]
    assert isinstance(decide(get(), new, now=LATER + 59, policy=POLICY), Serve)


def test_the_age_and_date_of_the_304_count() -> None:
    """It may come from another cache."""
    assert freshened(KEPT, "Age: 20").corrected_initial_age == 20.5
    assert freshened(KEPT, f"Date: {date(970)}").corrected_initial_age == 30
    assert values(freshened(KEPT, "Age: 20"), "age") == []


@pytest.mark.parametrize(
    ("field", "lifetime"),
    [
        ("X: 2", 60),
        ("Cache-Control: max-age=5", 5),
        ("Cache-Control: s-maxage=7", 7),
        ("CDN-Cache-Control: max-age=9", 9),
        ("Maxage-Cache-Control: max-age=0", 0),
    ],
)
def test_the_lifetime_is_worked_out_anew(field: str, lifetime: float) -> None:
    """From the updated headers."""
    assert freshened(KEPT, field).freshness_lifetime == lifetime


def test_an_expires_that_is_not_updated_has_passed() -> None:
    """It is an instant, not a duration."""
    kept = stored(f"Expires: {date(60)}", 'ETag: "a"')
    assert freshened(kept).freshness_lifetime == 0
    assert freshened(kept, f"Expires: {date(1060)}").freshness_lifetime == 60


def test_our_own_targeted_field_survives_a_304_without_it() -> None:
    """Many applications send few fields with a 304."""
    kept = stored("Maxage-Cache-Control: max-age=1", "Cache-Control: max-age=3600", 'ETag: "a"')
    assert freshened(kept, "Cache-Control: max-age=3600").freshness_lifetime == 1


def test_the_flags_and_the_variant_are_worked_out_anew() -> None:
    """The 304 may change them all."""
    verdict = validate(
        KEPT, "Cache-Control: public, no-cache", "Vary: Accept", request=get("Accept: a")
    )
    assert isinstance(verdict, MayStore)
    new = verdict.stored
    assert new.always_validate
    assert new.shareable
    assert (new.vary_names, new.selecting) == ((b"accept",), (b"a",))


def test_the_configured_lifetime_starts_anew() -> None:
    """What had it before has it again."""
    policy = Policy(default_lifetime=60)
    verdict = validate(stored('ETag: "a"', policy=policy), policy=policy)
    assert isinstance(verdict, MayStore)
    assert verdict.stored.lifetime_is_ours


# --- A 304 that ends the storing ------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("Cache-Control: no-store", "no-store"),
        ("Cache-Control: private", "private"),
        ("Vary: *", "vary-star"),
        ("Set-Cookie: a=b", "set-cookie"),
    ],
)
def test_a_304_may_forbid_to_go_on_storing(field: str, reason: str) -> None:
    """The client who asked still gets the updated response, with the field in question."""
    verdict = validate(KEPT, field)
    assert isinstance(verdict, MayNotStore)
    assert verdict.reason == reason
    assert verdict.freshened is not None
    served = answer(get(), verdict.freshened, now=LATER, validated=True)
    assert served.body == BODY
    name, _, value = field.partition(": ")
    assert values(served, name.lower()) == [value]


def test_the_request_s_no_store_forbids_to_store_the_update() -> None:
    """Any response to it."""
    verdict = validate(KEPT, request=get("Cache-Control: no-store"))
    assert isinstance(verdict, MayNotStore)
    assert verdict.reason == "request-no-store"
    assert verdict.freshened is not None


def test_credentials_forbid_to_store_an_update_that_may_not_be_shared() -> None:
    """As for a new response."""
    verdict = validate(KEPT, request=get(credentials=True))
    assert isinstance(verdict, MayNotStore)
    assert verdict.reason == "credentials"


# --- 4.3.5: HEAD ----------------------------------------------------------------------------


def from_head(
    kept: StoredResponse, *fields: str, status: int = 200
) -> MayStore | MayNotStore | NotFreshened:
    """A HEAD was forwarded and answered with these fields."""
    arrival = Arrival(
        request=head(), response=reply(*fields, status=status),
        request_time=LATER, response_time=LATER, policy=POLICY,
    )  # fmt: skip
    return freshen_from_head(kept, arrival)


@pytest.mark.parametrize(
    "fields",
    [['ETag: "a"'], ['ETag: "a"', "Content-Length: 10"], [MODIFIED], ['ETag: "a"', MODIFIED]],
)
def test_a_head_with_the_same_validators_and_length_freshens(fields: list[str]) -> None:
    """Headers and numbers, as from a 304."""
    kept = stored("Cache-Control: max-age=60", 'ETag: "a"', MODIFIED, "X: 1", "Z: 1")
    verdict = from_head(kept, *fields, "Cache-Control: max-age=1000", "X: 2")
    assert isinstance(verdict, MayStore)
    assert verdict.stored.freshness_lifetime == 1000
    assert verdict.stored.body == BODY
    assert values(verdict, "x") == ["2"]
    assert values(verdict, "z") == ["1"]


@pytest.mark.parametrize(
    "fields",
    [
        ['ETag: "b"'],
        ['ETag: W/"a"'],
        [OTHER],
        ['ETag: "a"', OTHER],
        ['ETag: "b"', MODIFIED],
        ['ETag: "a"', "Content-Length: 11"],
        ['ETag: "a"', "Content-Length: x"],
        ["Content-Length: 9"],
    ],
)
def test_a_head_about_something_else_shows_that_the_stored_response_is_outdated(
    fields: list[str],
) -> None:
    """Any difference in any received field."""
    kept = stored("Cache-Control: max-age=60", 'ETag: "a"', MODIFIED)
    assert refusal(from_head(kept, *fields)) == "MISMATCH"


@pytest.mark.parametrize("fields", [[], ["Content-Length: 10"], ["Cache-Control: max-age=9"]])
def test_a_head_without_validators_shows_nothing(fields: list[str]) -> None:
    """A deviation: new content may have the old length."""
    assert refusal(from_head(KEPT, *fields)) == "NO_VALIDATOR"


@pytest.mark.parametrize("status", [204, 206, 304, 404, 410, 500])
def test_only_a_200_to_head_says_something_about_the_stored_response(status: int) -> None:
    """And only about a 200."""
    assert refusal(from_head(KEPT, 'ETag: "a"', status=status)) == "status"
    assert refusal(from_head(replace(KEPT, status=404), 'ETag: "a"')) == "status"
