"""RFC 9213: targeted HTTP cache control."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.rfc9111.decide import decide
from maxage.rfc9111.decisions import Forward, Serve
from maxage.rfc9111.directives import governing, parse_targeted
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.verdicts import MayStore
from tests.rfc9111.build import NOW, date, get, lines, refusal, stored, storing, values

PLAIN = "Cache-Control: max-age=60"


@pytest.mark.parametrize(
    ("value", "lifetime"),
    [
        ("max-age=3600", 3600),
        ("max-age=2147483648", 2**31),
        ("max-age=99999999999", 2**31),
        ("foobar, max-age=3600", 3600),
        ("max-age=3600;param=1", 3600),
        ("max-age=1, max-age=3600", 3600),
        ("max-age=3600, no-store=?0", 3600),
        ("s-maxage=5, max-age=3600", 5),
    ],
)
def test_a_targeted_field_goes_before_cache_control_and_expires(
    value: str, lifetime: float
) -> None:
    """Longer or shorter, stored or not."""
    for field in (
        PLAIN,
        "Cache-Control: no-store, private",
        f"Expires: {date(-10000)}",
        "Expires: 0",
    ):
        assert stored(f"CDN-Cache-Control: {value}", field).freshness_lifetime == lifetime


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no-store", "no-store"),
        ("private", "private"),
        ("private, max-age=60", "private"),
        ("max-age=0", "lifetime-0"),
        ("max-age=-1", "lifetime-0"),
        ("no-cache", "no-lifetime"),
        ("foo", "no-lifetime"),
    ],
)
def test_it_forbids_what_cache_control_allows(value: str, reason: str) -> None:
    """Even with a long lifetime beside it, and a configured one."""
    answer = storing(
        f"CDN-Cache-Control: {value}",
        PLAIN,
        f"Expires: {date(10000)}",
        policy=Policy(default_lifetime=60),
    )
    assert refusal(answer) == reason


def test_its_no_cache_asks_for_validation() -> None:
    """All semantics are those of Cache-Control."""
    kept = stored("CDN-Cache-Control: no-cache", PLAIN, 'ETag: "a"')
    assert isinstance(decide(get(), kept, now=NOW, policy=Policy()), Forward)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "max-age =100",
        "max-age= 100",
        "MaX-aGe=100",
        "max-age=100, &&&&&",
        'max-age="100"',
        "max-age=100.5",
        "max-age=abc",
        "max-age",
        "max-age=?1",
        "max-age=(100)",
        "max-age=100, no-store=1",
        "max-age=100, private=1",
        "max-age=100, stale-if-error=x",
        "max-age=100,",
    ],
)
def test_a_field_that_is_empty_invalid_or_of_the_wrong_type_is_ignored(value: str) -> None:
    """The next mechanism decides."""
    assert stored(f"CDN-Cache-Control: {value}", PLAIN).freshness_lifetime == 60
    assert refusal(storing(f"CDN-Cache-Control: {value}", "Cache-Control: no-store")) == "no-store"


def test_our_own_field_goes_before_the_one_for_all_cdns() -> None:
    """The first valid one in the order of the target list."""
    own, cdn = "Maxage-Cache-Control: max-age=1", "CDN-Cache-Control: max-age=2"
    assert stored(cdn, own).freshness_lifetime == 1
    assert stored(cdn, "Maxage-Cache-Control: &").freshness_lifetime == 2
    assert stored(own, "CDN-Cache-Control: no-store").freshness_lifetime == 1


def test_targets_that_are_not_ours_change_nothing() -> None:
    """MUST NOT, and MUST be passed through."""
    kept = stored("Other-Cache-Control: no-store", PLAIN)
    served = decide(get(), kept, now=NOW, policy=Policy())
    assert isinstance(served, Serve)
    assert values(served, "other-cache-control") == ["no-store"]
    none = Policy(cache_targets=())
    assert stored("CDN-Cache-Control: no-store", PLAIN, policy=none).freshness_lifetime == 60


@pytest.mark.parametrize(
    ("value", "unqualified", "names"),
    [
        ("no-cache", True, ()),
        ('no-cache="A, b"', False, (b"a", b"b")),
        ("no-cache=a", False, (b"a",)),
        ('no-cache=""', True, ()),
        ("no-cache=?0, x", False, ()),
    ],
)
def test_no_cache_may_name_fields_in_a_string(
    value: str, unqualified: bool, names: tuple[bytes, ...]
) -> None:
    """RFC 9213 section 2.1: Boolean true or a string."""
    found = parse_targeted((value.encode(),))
    assert found is not None
    assert (found.unqualified("no-cache"), found.field_names("no-cache")) == (unqualified, names)


def test_all_lines_of_a_field_are_one_dictionary() -> None:
    """The last value counts here, unlike in Cache-Control."""
    fields = ["CDN-Cache-Control: max-age=1", "CDN-Cache-Control: max-age=2, public"]
    kept = stored(*fields)
    assert (kept.freshness_lifetime, kept.shareable) == (2, True)


def test_what_governs_says_where_it_comes_from() -> None:
    """A targeted field, or Cache-Control."""
    targets = (b"cdn-cache-control",)
    assert governing(lines("CDN-Cache-Control: a"), targets).targeted
    assert not governing(lines("CDN-Cache-Control: &", PLAIN), targets).targeted
    assert not governing(lines(PLAIN), targets).targeted


@given(st.text('max-age=s0159 ,;"?().%:@abc\u00fc', max_size=40))
def test_no_field_makes_a_forbidden_response_be_stored_without_a_lifetime(value: str) -> None:
    """Malformed input never makes something be reused that should not be."""
    answer = storing(
        f"CDN-Cache-Control: {value.encode().decode('latin-1')}",
        "Cache-Control: no-store",
        policy=Policy(default_lifetime=60),
    )
    assert not isinstance(answer, MayStore) or not answer.stored.lifetime_is_ours
