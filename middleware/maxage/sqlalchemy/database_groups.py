"""The groups of a database and of its tables. They are tags, so that they can be purged by hand.

    sql:shop:orders   the table `orders`: a response that read it is in the group
    sql:shop          all responses that read from the database
    sql:shop:*        responses that read from it, and it is unknown which tables

A write purges the groups of its tables and `sql:shop:*`. One whose tables are unknown purges
`sql:shop`.
"""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final, final

from sqlalchemy.engine import URL

from maxage.invalidation.group_names import TABLE_TAG, tag_group

_SCHEMA_IS_DATABASE: Final = frozenset({"mysql", "mariadb"})


@final
class DatabaseGroups:
    """The groups of one database.

    Args:
        name: of the database.
        dialect: the name of its dialect.
    """

    def __init__(self, name: str, dialect: str) -> None:
        self.name: Final = name
        self._schema_is_database: Final = dialect in _SCHEMA_IS_DATABASE
        self.whole: Final = _group(name)
        self.unknown_read: Final = (self.whole, _group(name, "*"))
        """The groups of a response that read tables which are unknown."""

    def read(self, tables: Iterable[Any]) -> tuple[str, ...]:
        """Return the groups of a response that read these tables."""
        found: dict[str, None] = {}
        for table in tables:
            database = self._database_of(table)
            found |= {_group(database): None, _group(database, table.name): None}
        return tuple(found)

    def changed(self, tables: Iterable[Any]) -> tuple[str, ...]:
        """Return the groups that a change of these tables purges."""
        found: dict[str, None] = {}
        for table in tables:
            database = self._database_of(table)
            found |= {_group(database, table.name): None, _group(database, "*"): None}
        return tuple(found)

    def _database_of(self, table: Any) -> str:
        schema = getattr(table, "schema", None)
        return str(schema) if self._schema_is_database and schema else self.name


def database_name(url: URL) -> str:
    """Return the name of a URL's database, without server, user and folder.

    Processes spell those differently. Two databases of one name share their groups, so that a write
    to one purges too much, and never too little.
    """
    if url.get_backend_name() == "sqlite":
        return PurePath((url.database or "").removeprefix("file:")).name or ":memory:"
    name = url.database or url.query.get("dbname") or url.username or "database"
    return name if isinstance(name, str) else name[0]


def _group(*names: str) -> str:
    # Two spellings of a name that differ in case may mean one table.
    return tag_group(":".join((TABLE_TAG, *names)).lower())
