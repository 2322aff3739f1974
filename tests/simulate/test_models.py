"""The models of the store and of purges, and the shapes of paths."""

from collections.abc import Sequence

import pytest

from maxage.simulate.purges import Purges
from maxage.simulate.shapes import merged, shape
from maxage.simulate.store_model import Stay, StoreModel


def ask(
    model: StoreModel,
    key: bytes,
    now: float,
    stays: Sequence[Stay] | None,
    *,
    serial: int = 1,
    purged: int = -1,
) -> list[bool]:
    """Ask for a response of 100 bytes."""
    return model.ask(key, now=now, serial=serial, purged=purged, stays=stays, size=100)


def test_each_lifetime_has_answers_of_its_own() -> None:
    """Up to its end, and not at its end."""
    model, stays = StoreModel(None, 2), (Stay(10), Stay(60))
    assert ask(model, b"a", 0, stays) == [False, False]
    assert ask(model, b"a", 9.9, stays) == [True, True]
    assert ask(model, b"a", 10, stays) == [False, True]
    assert ask(model, b"a", 19.9, stays) == [True, True]
    assert ask(model, b"a", 60, stays) == [False, False]


def test_a_purged_response_answers_no_more() -> None:
    """One that was stored after the purge does."""
    model, stays = StoreModel(None, 1), (Stay(60),)
    ask(model, b"a", 0, stays, serial=1)
    assert ask(model, b"a", 1, stays, serial=3, purged=2) == [False]
    assert ask(model, b"a", 1, stays, serial=4, purged=2) == [True]


def test_what_is_not_stored_answers_nothing_and_replaces_nothing() -> None:
    """Such as the answer to a HEAD."""
    model, stays = StoreModel(None, 1), (Stay(60),)
    assert ask(model, b"a", 0, None) == [False]
    assert ask(model, b"a", 1, stays) == [False]
    assert ask(model, b"a", 2, None) == [True]
    assert ask(model, b"a", 3, stays) == [True]


def test_a_stale_response_answers_once_more_while_it_is_refreshed() -> None:
    """`stale-while-revalidate`: the refresh begins a new lifetime."""
    model, stays = StoreModel(None, 1), (Stay(10, stale=5),)
    ask(model, b"a", 0, stays)
    assert ask(model, b"a", 14.9, stays) == [True]
    assert ask(model, b"a", 24.8, stays) == [True]
    assert ask(model, b"a", 39.8, stays) == [False]


def test_the_least_recently_used_response_makes_room() -> None:
    """At exactly its size a store keeps all."""
    stays = (Stay(60),)
    model = StoreModel(300, 1, overhead=50)
    for key in (b"a", b"b"):
        ask(model, key, 0, stays)
    ask(model, b"a", 1, stays)
    assert ask(model, b"c", 2, stays) == [False]
    assert ask(model, b"a", 3, stays) == [True]
    assert ask(model, b"b", 4, stays) == [False]
    assert model.most_used == 450


def test_models_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log with any number of URLs takes no more memory; what is forgotten is counted."""
    monkeypatch.setattr("maxage.simulate.store_model._MOST_KEYS", 3)
    model = StoreModel(None, 1)
    for number in range(5):
        ask(model, b"%d" % number, 0, (Stay(60),))
    assert model.forgotten == 2
    assert ask(model, b"1", 1, None) == [False]
    assert ask(model, b"4", 1, None) == [True]


def test_a_forgotten_purge_costs_hits_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was stored before it counts as purged."""
    monkeypatch.setattr("maxage.simulate.purges._MOST_GROUPS", 2)
    purges = Purges()
    assert purges.last(["a", "b"]) == -1
    for serial, group in enumerate(["a", "b", "a", "c"], 1):
        purges.purge([group], serial)
    assert purges.last(["a", "c"]) == 4
    assert purges.last(["b"]) == purges.last(["unknown"]) == 2


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/items/5", "/items/{}"),
        ("/v1/items/5/", "/v1/items/{}/"),
        ("/files/3f2a9c1b", "/files/{}"),
        ("/users/0b2c7a58-3c1e-4f5a-9d7e-2f1b3c4d5e6f/orders", "/users/{}/orders"),
        ("/days/2026-09-21", "/days/{}"),
        ("/deadbeef/oauth2/added", "/deadbeef/oauth2/added"),
    ],
)
def test_a_segment_that_looks_like_a_value_is_one(path: str, shown: str) -> None:
    """Words are none, versions neither."""
    assert shape(path) == shown


def test_a_place_with_many_words_holds_values() -> None:
    """20 words are names of things, 21 are values."""
    names = [f"/users/{chr(97 + n)}x/orders" for n in range(21)]
    assert set(merged(names[:20]).values()) == set(names[:20])
    shown = merged([*names, "/users/list", "/about"])
    assert {shown[one] for one in names} == {"/users/{}/orders"}
    assert shown["/users/list"] == "/users/list"
