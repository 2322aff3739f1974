"""The isolation of a connection, and its effect on statements."""

from typing import Any

from sqlalchemy.engine import Connection


def is_autocommit(connection: Connection) -> bool:
    """Return whether the connection commits each statement by itself, as far as that is known.

    The option of SQLAlchemy counts, and the state of the driver.
    """
    commits = _chosen_level(connection) == "AUTOCOMMIT" or _driver_commits(connection)
    return commits and not _is_open(connection)


def shows_latest(connection: Connection) -> bool:
    """Return whether each statement shows the state that is committed when it begins."""
    level = _chosen_level(connection) or connection.default_isolation_level
    return level == "READ COMMITTED" or is_autocommit(connection)


def _chosen_level(connection: Connection) -> str | None:
    chosen = connection.get_execution_options().get("isolation_level")
    return chosen or getattr(connection.dialect, "_on_connect_isolation_level", None)


def _driver_commits(connection: Connection) -> bool:
    dialect: Any = connection.dialect
    try:
        return bool(dialect.detect_autocommit_setting(connection.connection.dbapi_connection))
    except NotImplementedError:
        return False


def _is_open(connection: Connection) -> bool:
    """Return whether SQLite's driver knows of a transaction, begun by a BEGIN of the user's."""
    return getattr(connection.connection.driver_connection, "in_transaction", False) is True
