"""Groups and tokens: unique, bound to a history, and never confused with one another."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maxage.invalidation.group_names import collection_group, path_group, tag_group
from maxage.store.tokens import (
    HIDDEN_HISTORY,
    NAMESPACE_GROUP,
    belongs,
    fresh_token,
    history_of,
    token_key,
)

_histories = st.text("0123456789abcdef", min_size=12, max_size=12).map(str.encode)


def test_no_two_tokens_are_equal() -> None:
    """A counter or a clock would repeat itself after an eviction or a failover."""
    assert len({fresh_token(b"h") for _ in range(10_000)}) == 10_000


@given(_histories, _histories)
def test_a_token_belongs_to_its_own_history_only(one: bytes, other: bytes) -> None:
    """Another history's token counts as missing."""
    assert belongs(fresh_token(one), one)
    assert belongs(fresh_token(one), other) == (one == other)


@pytest.mark.parametrize(
    ("token", "history", "yes"),
    [
        (b"abc-x", b"abc", True),
        (b"abc-", b"abc", True),
        (b"abc", b"abc", False),
        (b"abcd-x", b"abc", False),
        (b"ab-x", b"abc", False),
        (b"", b"abc", False),
        (None, b"abc", False),
        (b"-x", b"", True),
        (b"abc-x", b"", False),
    ],
)
def test_a_history_that_only_begins_the_same_is_another(
    token: bytes | None, history: bytes, *, yes: bool
) -> None:
    """The dash ends it."""
    assert belongs(token, history) is yes


_REPLID = b"0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "info",
    [
        b"# Replication\r\nrole:master\r\nmaster_replid:%b\r\nmaster_replid2:0000\r\n" % _REPLID,
        b"master_replid:%b" % _REPLID,
        b"master_replid2:ffff\nmaster_replid: %b \n" % _REPLID,
    ],
)
def test_the_history_is_the_start_of_the_replication_id(info: bytes) -> None:
    """`run_id` would not change when a deposed server comes back with its old data."""
    assert history_of(info) == _REPLID[:12]


@pytest.mark.parametrize(
    "info", [b"", b"# Replication\r\nrole:master\r\n", b"master_replid:\r\n", b"master_replid:?-\n"]
)
def test_a_server_that_does_not_tell_has_a_hidden_history(info: bytes) -> None:
    """Some hosts take INFO away."""
    assert history_of(info) == HIDDEN_HISTORY


@given(st.binary(max_size=200))
def test_any_answer_to_info_gives_a_history_without_delimiter(info: bytes) -> None:
    """So that `belongs` can find where it ends."""
    assert history_of(b"master_replid:" + info).isalnum()


@given(st.text(), st.text())
def test_different_groups_have_different_keys(one: str, other: str) -> None:
    """Short and long names, of any characters, surrogates too."""
    assert (token_key("m", one) == token_key("m", other)) == (one == other)


@given(st.text(max_size=20), st.integers(1, 300), st.integers(1, 300))
def test_long_names_are_told_apart(start: str, one: int, other: int) -> None:
    """Hashed beyond 200 bytes, on both sides of the boundary."""
    assume(one != other)
    assert token_key("m", start + "x" * one) != token_key("m", start + "x" * other)


@pytest.mark.parametrize(("length", "hashed"), [(200, False), (201, True), (100_000, True)])
def test_a_name_is_hashed_beyond_200_bytes(length: int, *, hashed: bool) -> None:
    """So that no key is longer than that, and short ones stay readable."""
    key = token_key("maxage", "p" * length)
    assert key.startswith(b"maxage:t:h:") is hashed
    assert len(key) <= 200 + len(b"maxage:t:")


def test_the_kinds_of_groups_are_told_apart() -> None:
    """A tag can never name a path, a collection or the namespace."""
    groups = {path_group("/x"), collection_group("/x"), tag_group("/x"), NAMESPACE_GROUP}
    assert len(groups) == 4
    assert tag_group("n") != NAMESPACE_GROUP
    assert not any(tag_group(name).startswith(("p:", "c:", "n", "h:")) for name in ("p:/x", "n"))


@pytest.mark.parametrize(
    ("one", "other"),
    [("/items", "/items/"), ("/", ""), ("/items", "items"), ("//items//", "/items")],
)
def test_a_slash_at_the_end_names_the_same_group(one: str, other: str) -> None:
    """A purge of one spelling reaches the other."""
    assert path_group(one) == path_group(other)
    assert collection_group(one) == collection_group(other)


@pytest.mark.parametrize(("one", "other"), [("/items", "/Items"), ("/a/b", "/a"), ("/a b", "/ab")])
def test_different_paths_are_different_groups(one: str, other: str) -> None:
    """Nothing else is normalised."""
    assert path_group(one) != path_group(other)


@pytest.mark.parametrize(("one", "other"), [("m", "n"), ("m", "m:t"), ("m", "m.")])
def test_namespaces_do_not_share_tokens(one: str, other: str) -> None:
    """Applications on one database purge their own only."""
    for group in (NAMESPACE_GROUP, path_group("/x")):
        assert token_key(one, group) != token_key(other, group)
