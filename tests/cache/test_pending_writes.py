"""Entries that wait to be written, where event loops of several threads share one cache."""

from typing import Any

import pytest

from maxage.cache.pending_writes import PendingWrites


def test_a_turn_ends_while_another_thread_ends_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the last turn there may be none any more."""
    turn: Any = []
    looks: list[Any] = [(object(), turn), None]
    seen = property(lambda _: looks.pop(0), lambda _, value: looks.append(value))
    monkeypatch.setattr(PendingWrites, "_turn", seen, raising=False)
    pending_writes: Any = PendingWrites.__new__(PendingWrites)
    pending_writes._close(turn)
    assert looks == [None, None]
