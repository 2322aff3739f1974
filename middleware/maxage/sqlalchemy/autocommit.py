"""Whether each statement of a connection is a transaction of its own."""

from typing import Any

from sqlalchemy.engine import Connection


def is_autocommit(connection: Connection) -> bool:
    """Return whether the connection commits each statement by itself, as far as that is known.

    The option of SQLAlchemy counts, and the state of the driver.
    """
    chosen = connection.get_execution_options().get("isolation_level")
    dialect: Any = connection.dialect
    if chosen is None:
        chosen = getattr(dialect, "_on_connect_isolation_level", None)
    return (chosen == "AUTOCOMMIT" or _driver_commits(connection)) and not _is_open(connection)


def _driver_commits(connection: Connection) -> bool:
    # SQLAlchemy has it since 2.0.43, for most drivers.
    dialect: Any = connection.dialect
    detect = getattr(dialect, "detect_autocommit_setting", None)
    if detect is None:
        return False
    try:
        return bool(detect(connection.connection.dbapi_connection))
    except NotImplementedError:
        return False


def _is_open(connection: Connection) -> bool:
    """Return whether SQLite's driver knows of a transaction, begun by a BEGIN of the user's."""
    return getattr(connection.connection.driver_connection, "in_transaction", False) is True
