"""The reads and changes of one pooled connection since its last commit or rollback."""

from collections.abc import Iterable, MutableMapping
from typing import Any, Final, final

from maxage.invalidation.dependencies import Dependencies
from maxage.sqlalchemy.commit_purge import CommitPurge

_KEY: Final = "maxage.transaction"


@final
class Transaction:
    """The transaction of one connection, with its savepoints."""

    __slots__ = (
        "_levels", "_purge", "_reader", "captured", "committed", "has_own_isolation",
        "is_begun", "is_unseen", "unseen_users",
    )  # fmt: skip

    def __init__(self) -> None:
        self._levels: list[tuple[str, dict[str, None]]] = [("", {})]
        """The groups that were changed since the beginning, and since each open savepoint."""
        self.is_begun = False
        """Whether a statement has run: the database may show the state of that moment."""
        self._reader: Dependencies | None = None
        """The request in which the first statement ran."""
        self.captured: frozenset[str] = frozenset()
        """The tables whose tokens its reader read before all that it can show of them."""
        self._purge: CommitPurge | None = None
        """The purge of the statement that runs, if that commits."""
        self.committed: tuple[str, ...] = ()
        """The groups that were changed by statements that are transactions of their own."""
        self.has_own_isolation = False
        """Whether SQL text has chosen the connection's isolation level."""
        self.is_unseen = False
        """Whether the statement that runs is our own."""
        self.unseen_users = 0
        """How many use the connection of the driver without a `Connection`."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The groups that it has changed."""
        return tuple(dict.fromkeys(group for _, groups in self._levels for group in groups))

    def change(self, groups: Iterable[str]) -> None:
        """Note groups that a statement changes."""
        self._levels[-1][1].update(dict.fromkeys(groups))

    def begin(self, reader: Dependencies | None) -> None:
        """Note a statement, and in which request the first one ran."""
        if not self.is_begun:
            self.is_begun, self._reader = True, reader

    def began_before(self, reader: Dependencies) -> bool:
        """Return whether it began before the request, so that it may show older rows."""
        return self.is_begun and self._reader is not reader

    def end(self) -> None:
        """Forget all: it was committed or rolled back."""
        self.close_purge()
        self._levels = [("", {})]
        self._reader, self.is_begun, self.committed = None, False, ()
        self.captured = frozenset()

    # statements that commit

    def open_purge(self, purge: CommitPurge) -> None:
        """Announce the purge of a statement that commits."""
        self._purge = purge
        purge.__enter__()

    def close_purge(self) -> None:
        """Make that purge, if there is one: the statement has run, or failed.

        A listener of the user's may keep the hooks from being told so. Then the next statement does
        it, or the end of the transaction or of the connection.
        """
        purge, self._purge = self._purge, None
        if purge is not None:
            purge.__exit__()

    # savepoints

    def save(self, name: str) -> None:
        """Begin a savepoint."""
        self._levels.append((name, {}))

    def release(self, name: str) -> None:
        """End a savepoint, with those inside; its changes belong to the one around it."""
        for group in self._cut(name):
            self._levels[-1][1][group] = None

    def roll_back_to(self, name: str) -> tuple[str, ...]:
        """Forget the changes since a savepoint; return their groups."""
        return tuple(self._cut(name))

    def _cut(self, name: str) -> dict[str, None]:
        names = [each for each, _ in self._levels]
        if name not in names[1:]:
            return {}
        place = len(names) - 1 - names[::-1].index(name)
        inner, self._levels = self._levels[place:], self._levels[:place]
        return {group: None for _, groups in inner for group in groups}


def transaction_of(info: MutableMapping[Any, Any]) -> Transaction:
    """Return the transaction of a connection, by the dictionary that SQLAlchemy keeps with it."""
    found = info.get(_KEY)
    if not isinstance(found, Transaction):
        found = info[_KEY] = Transaction()
    return found


def transaction_on(connection: Any) -> Transaction:
    """Return the transaction of a connection that a method of the dialect was given.

    At the first connection of an engine, SQLAlchemy gives one without that dictionary.
    """
    try:
        return transaction_of(connection.info)
    except (AttributeError, NotImplementedError):
        return Transaction()
