"""The journal: what is owed is never forgotten, and never grows without bound."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maxage.redis_store.owed_purges import OwedPurges
from maxage.store.tokens import NAMESPACE_GROUP


def test_a_new_journal_owes_nothing() -> None:
    """There is nothing to pay and nothing to distrust."""
    owed_purges = OwedPurges()
    assert owed_purges.empty
    assert owed_purges.snapshot()[0] == ()
    assert len(owed_purges) == 0


def test_what_was_added_is_owed_until_it_is_struck() -> None:
    """The usual way."""
    owed_purges = OwedPurges()
    owed_purges.add(["p:/a", "p:/b"])
    groups, mark = owed_purges.snapshot()
    assert groups == ("p:/a", "p:/b")
    assert not owed_purges.empty
    owed_purges.paid(groups, mark)
    assert owed_purges.empty


def test_a_purge_owed_again_while_it_was_paid_stays_owed() -> None:
    """The second write came after the fresh token was sent; its own purge is still to come."""
    owed_purges = OwedPurges()
    owed_purges.add(["p:/a", "p:/b"])
    groups, mark = owed_purges.snapshot()
    owed_purges.add(["p:/a"])
    owed_purges.paid(groups, mark)
    assert owed_purges.snapshot()[0] == ("p:/a",)


def test_striking_some_leaves_the_others() -> None:
    """Also striking twice, or what was never owed, does no harm."""
    owed_purges = OwedPurges()
    owed_purges.add(["p:/a", "p:/b"])
    _, mark = owed_purges.snapshot()
    for _ in range(2):
        owed_purges.paid(["p:/a", "p:/never"], mark)
        assert owed_purges.snapshot()[0] == ("p:/b",)


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_as_many_as_the_limit_are_kept_by_name(limit: int) -> None:
    """One more collapses into everything, since the namespace token is part of every entry."""
    owed_purges = OwedPurges(limit)
    names = [f"p:/{number}" for number in range(limit)]
    owed_purges.add(names)
    assert owed_purges.snapshot()[0] == tuple(names)
    owed_purges.add(names)
    assert len(owed_purges) == limit
    owed_purges.add(["p:/one-more"])
    assert owed_purges.snapshot()[0] == (NAMESPACE_GROUP,)


def test_overflow_while_a_payment_is_under_way_is_not_struck_by_it() -> None:
    """The payment covered the names of before, not everything."""
    owed_purges = OwedPurges(2)
    owed_purges.add(["p:/a", NAMESPACE_GROUP])
    groups, mark = owed_purges.snapshot()
    owed_purges.add(["p:/b"])
    owed_purges.paid(groups, mark)
    assert owed_purges.snapshot()[0] == (NAMESPACE_GROUP,)


def test_adding_nothing_owes_nothing() -> None:
    """An empty purge."""
    owed_purges = OwedPurges()
    owed_purges.add([])
    assert owed_purges.empty


class Owing(RuleBasedStateMachine):
    """A journal against a plain record of which writes are not yet paid for."""

    def __init__(self) -> None:
        super().__init__()
        self.owed_purges = OwedPurges(3)
        self.unpaid: dict[str, int] = {}
        self.writes = 0
        self.payment: tuple[tuple[str, ...], int, int] | None = None

    @rule(groups=st.lists(st.sampled_from("abcdefn"), max_size=5))
    def owe(self, groups: list[str]) -> None:
        self.owed_purges.add(groups)
        self.writes += 1
        self.unpaid |= dict.fromkeys(groups, self.writes)

    @rule()
    def begin_payment(self) -> None:
        groups, mark = self.owed_purges.snapshot()
        self.payment = (groups, mark, self.writes)

    @precondition(lambda self: self.payment is not None)
    @rule()
    def confirm_payment(self) -> None:
        assert self.payment is not None
        groups, mark, writes = self.payment
        self.owed_purges.paid(groups, mark)
        for group, written in list(self.unpaid.items()):
            if written <= writes and (group in groups or NAMESPACE_GROUP in groups):
                del self.unpaid[group]
        self.payment = None

    @invariant()
    def nothing_is_forgotten(self) -> None:
        owed = set(self.owed_purges.snapshot()[0])
        assert NAMESPACE_GROUP in owed or set(self.unpaid) <= owed

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.owed_purges) <= 3

    @invariant()
    def empty_says_what_it_means(self) -> None:
        assert self.owed_purges.empty == (len(self.owed_purges) == 0)


TestOwing = Owing.TestCase


@given(st.lists(st.lists(st.text(max_size=3), max_size=6), max_size=6), st.integers(1, 8))
def test_the_bound_holds_whatever_is_added(purges: list[list[str]], limit: int) -> None:
    """And something is owed as soon as anything was added."""
    owed_purges = OwedPurges(limit)
    for groups in purges:
        owed_purges.add(groups)
        assert len(owed_purges) <= limit
    assert owed_purges.empty == (not any(purges))


def test_threads_lose_nothing() -> None:
    """The synchronous half adds while the background thread strikes."""
    owed_purges = OwedPurges(100_000)
    start = threading.Barrier(5)

    def add(name: int) -> None:
        start.wait()
        for number in range(2000):
            owed_purges.add([f"{name}:{number}"])

    threads = [threading.Thread(target=add, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    paid: set[str] = set()
    start.wait()
    while any(thread.is_alive() for thread in threads) or not owed_purges.empty:
        groups, mark = owed_purges.snapshot()
        owed_purges.paid(groups, mark)
        paid |= set(groups)
    assert len(paid) == 8000
