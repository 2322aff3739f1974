"""The journal: what is owed is never forgotten, and never grows without bound."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maxage.store.journal import Journal
from maxage.store.tokens import NAMESPACE_GROUP


def test_a_new_journal_owes_nothing() -> None:
    """There is nothing to pay and nothing to distrust."""
    journal = Journal()
    assert journal.empty
    assert journal.owed()[0] == ()
    assert len(journal) == 0


def test_what_was_added_is_owed_until_it_is_settled() -> None:
    """The usual way."""
    journal = Journal()
    journal.add(["p:/a", "p:/b"])
    groups, mark = journal.owed()
    assert groups == ("p:/a", "p:/b")
    assert not journal.empty
    journal.settle(groups, mark)
    assert journal.empty


def test_a_purge_owed_again_while_it_was_paid_stays_owed() -> None:
    """The second write came after the fresh token was sent; its own purge is still to come."""
    journal = Journal()
    journal.add(["p:/a", "p:/b"])
    groups, mark = journal.owed()
    journal.add(["p:/a"])
    journal.settle(groups, mark)
    assert journal.owed()[0] == ("p:/a",)


def test_settling_some_leaves_the_others() -> None:
    """Also settling twice, or what was never owed, does no harm."""
    journal = Journal()
    journal.add(["p:/a", "p:/b"])
    _, mark = journal.owed()
    for _ in range(2):
        journal.settle(["p:/a", "p:/never"], mark)
        assert journal.owed()[0] == ("p:/b",)


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_as_many_as_the_limit_are_kept_by_name(limit: int) -> None:
    """One more collapses into everything, since the namespace token is part of every entry."""
    journal = Journal(limit)
    names = [f"p:/{number}" for number in range(limit)]
    journal.add(names)
    assert journal.owed()[0] == tuple(names)
    journal.add(names)
    assert len(journal) == limit
    journal.add(["p:/one-more"])
    assert journal.owed()[0] == (NAMESPACE_GROUP,)


def test_overflow_while_a_payment_is_under_way_is_not_settled_by_it() -> None:
    """The payment covered the names of before, not everything."""
    journal = Journal(2)
    journal.add(["p:/a", NAMESPACE_GROUP])
    groups, mark = journal.owed()
    journal.add(["p:/b"])
    journal.settle(groups, mark)
    assert journal.owed()[0] == (NAMESPACE_GROUP,)


def test_adding_nothing_owes_nothing() -> None:
    """An empty purge."""
    journal = Journal()
    journal.add([])
    assert journal.empty


class Owing(RuleBasedStateMachine):
    """A journal against a plain record of which writes are not yet paid for."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal(3)
        self.unpaid: dict[str, int] = {}
        self.writes = 0
        self.payment: tuple[tuple[str, ...], int, int] | None = None

    @rule(groups=st.lists(st.sampled_from("abcdefn"), max_size=5))
    def owe(self, groups: list[str]) -> None:
        self.journal.add(groups)
        self.writes += 1
        self.unpaid |= dict.fromkeys(groups, self.writes)

    @rule()
    def begin_payment(self) -> None:
        groups, mark = self.journal.owed()
        self.payment = (groups, mark, self.writes)

    @precondition(lambda self: self.payment is not None)
    @rule()
    def confirm_payment(self) -> None:
        assert self.payment is not None
        groups, mark, writes = self.payment
        self.journal.settle(groups, mark)
        for group, written in list(self.unpaid.items()):
            if written <= writes and (group in groups or NAMESPACE_GROUP in groups):
                del self.unpaid[group]
        self.payment = None

    @invariant()
    def nothing_is_forgotten(self) -> None:
        owed = set(self.journal.owed()[0])
        assert NAMESPACE_GROUP in owed or set(self.unpaid) <= owed

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.journal) <= 3

    @invariant()
    def empty_says_what_it_means(self) -> None:
        assert self.journal.empty == (len(self.journal) == 0)


TestOwing = Owing.TestCase


@given(st.lists(st.lists(st.text(max_size=3), max_size=6), max_size=6), st.integers(1, 8))
def test_the_bound_holds_whatever_is_added(purges: list[list[str]], limit: int) -> None:
    """And something is owed as soon as anything was added."""
    journal = Journal(limit)
    for groups in purges:
        journal.add(groups)
        assert len(journal) <= limit
    assert journal.empty == (not any(purges))


def test_threads_lose_nothing() -> None:
    """The synchronous half adds while the background thread settles."""
    journal = Journal(100_000)
    start = threading.Barrier(5)

    def add(name: int) -> None:
        start.wait()
        for number in range(2000):
            journal.add([f"{name}:{number}"])

    threads = [threading.Thread(target=add, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    paid: set[str] = set()
    start.wait()
    while any(thread.is_alive() for thread in threads) or not journal.empty:
        groups, mark = journal.owed()
        journal.settle(groups, mark)
        paid |= set(groups)
    assert len(paid) == 8000
