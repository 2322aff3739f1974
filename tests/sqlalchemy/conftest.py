"""Closes what the engines of a test have opened: Python 3.13 warns of open SQLite connections."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, event


@pytest.fixture(autouse=True)
def _no_connection_outlives_its_test() -> Iterator[None]:
    """Dispose of each engine that the test has used, but for those of an event loop."""
    used: set[Engine] = set()

    def note(connection: Connection) -> None:
        used.add(connection.engine)

    event.listen(Engine, "engine_connect", note)
    yield
    event.remove(Engine, "engine_connect", note)
    for engine in used:
        if not engine.dialect.is_async:
            engine.dispose()
