"""Closes what the engines of a test have opened: Python 3.13 warns of open SQLite connections."""

import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool


@pytest.fixture(autouse=True)
def _no_connection_outlives_its_test() -> Iterator[None]:
    """Close each connection of SQLite's own driver, also one that its pool has lost."""
    opened: list[sqlite3.Connection] = []

    def note(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            opened.append(connection)

    event.listen(Pool, "connect", note)
    yield
    event.remove(Pool, "connect", note)
    for connection in opened:
        connection.close()
