"""The ends of transactions and savepoints: methods of the dialect, wrapped.

SQLAlchemy has events before a commit, and none of its own after one. A session's `after_commit` is
not called for connections without a session.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy.engine import Dialect

from maxage.invalidation.dependencies import current_dependencies
from maxage.sqlalchemy.commit_purge import CommitPurge
from maxage.sqlalchemy.database_groups import DatabaseGroups
from maxage.sqlalchemy.reading import note_rollback
from maxage.sqlalchemy.transaction import Transaction, transaction_on

_Method = Callable[..., Any]


def wrap_ends(dialect: Dialect, database: DatabaseGroups) -> None:
    """Put functions that purge, or forget, around the methods of an engine's dialect."""
    wrappers: dict[str, Callable[[_Method], _Method]] = {
        "do_commit": _commit,
        "do_rollback": _rollback,
        "do_commit_twophase": partial(_commit_prepared, database.whole),
        "do_rollback_twophase": _rollback,
        "do_savepoint": _savepoint,
        "do_release_savepoint": _release,
        "do_rollback_to_savepoint": _roll_back_to,
    }
    for name, around in wrappers.items():
        setattr(dialect, name, around(getattr(dialect, name)))


def _commit(original: _Method) -> _Method:
    def do_commit(connection: Any) -> Any:
        transaction = transaction_on(connection)
        return _purging(transaction, transaction.changed, original, connection)

    return do_commit


def _commit_prepared(whole: str, original: _Method) -> _Method:
    def do_commit_twophase(connection: Any, xid: Any, *own: Any, **more: Any) -> Any:
        transaction = transaction_on(connection)
        # A transaction of this connection says whether it is prepared. It is unknown what was
        # changed by one that another connection has prepared.
        groups = transaction.changed if own else (*transaction.changed, whole)
        return _purging(transaction, groups, original, connection, xid, *own, **more)

    return do_commit_twophase


def _purging(
    transaction: Transaction,
    groups: tuple[str, ...],
    original: _Method,
    *arguments: Any,
    **more: Any,
) -> Any:
    """Commit, and purge the groups."""
    transaction.end()
    if not groups:
        return original(*arguments, **more)
    with CommitPurge(groups):
        return original(*arguments, **more)


def _rollback(original: _Method) -> _Method:
    def do_rollback(connection: Any, *rest: Any, **more: Any) -> Any:
        transaction = transaction_on(connection)
        changed, committed = transaction.changed, transaction.committed
        transaction.end()
        _note_rolled_back(changed)
        if not committed:
            return original(connection, *rest, **more)
        # SQLite commits a statement by itself with its last row, which is after its purge.
        with CommitPurge(committed):
            return original(connection, *rest, **more)

    return do_rollback


def _savepoint(original: _Method) -> _Method:
    def do_savepoint(connection: Any, name: str) -> Any:
        transaction_on(connection).save(name)
        return original(connection, name)

    return do_savepoint


def _release(original: _Method) -> _Method:
    def do_release_savepoint(connection: Any, name: str) -> Any:
        done = original(connection, name)
        transaction_on(connection).release(name)
        return done

    return do_release_savepoint


def _roll_back_to(original: _Method) -> _Method:
    def do_rollback_to_savepoint(connection: Any, name: str) -> Any:
        done = original(connection, name)
        _note_rolled_back(transaction_on(connection).roll_back_to(name))
        return done

    return do_rollback_to_savepoint


def _note_rolled_back(changed: tuple[str, ...]) -> None:
    request = current_dependencies.get()
    if changed and request is not None:
        note_rollback(request)
