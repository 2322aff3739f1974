"""The groups of a database, its tables and rows. They are tags, so that they can be purged by hand.

    sql:shop            all responses that read from the database
    sql:shop:*          responses that read from it, and it is unknown which tables
    sql:shop:orders     responses that read the table `orders`, whichever rows
    sql:shop:orders:*   responses that read single rows of it, by their keys
    row:shop:orders:7   responses that read this row

A write purges `sql:shop:*`, `sql:shop:orders`, and the rows that it changes, or `sql:shop:orders:*`
where it is unknown which these are. One whose tables are unknown purges `sql:shop`.
"""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final, final

from sqlalchemy.engine import URL

from maxage.invalidation.group_names import ROW_TAG, TABLE_TAG, tag_group

_SCHEMA_IS_DATABASE: Final = frozenset({"mysql", "mariadb"})


@final
class DatabaseGroups:
    """The groups of one database, by its name and the name of its dialect."""

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
            names = (*self._around(table), _group(self._database_of(table), table.name))
            found |= dict.fromkeys(names)
        return tuple(found)

    def read_around_rows(self, table: Any) -> tuple[str, ...]:
        """Return the groups of a response that read rows of a table, besides those of the rows."""
        return *self._around(table), _group(self._database_of(table), table.name, "*")

    def row(self, table: Any, key: str) -> str:
        """Return the group of a row."""
        return tag_group(f"{ROW_TAG}:{self._database_of(table)}:{table.name}:{key}".lower())

    def changed(self, tables: Iterable[Any]) -> tuple[str, ...]:
        """Return the groups that a change of these tables purges."""
        found: dict[str, None] = {}
        for table in tables:
            rows = _group(self._database_of(table), table.name, "*")
            found |= dict.fromkeys((*self.changed_around_rows(table), rows))
        return tuple(found)

    def changed_around_rows(self, table: Any) -> tuple[str, ...]:
        """Return the groups that a change of rows of a table purges, besides those of the rows."""
        database = self._database_of(table)
        # A text of this engine may have read a table of another schema.
        unknown = dict.fromkeys((_group(database, "*"), _group(self.name, "*")))
        return _group(database, table.name), *unknown

    def _around(self, table: Any) -> tuple[str, ...]:
        """Return the groups of the databases whose unknown writes may have changed a table."""
        # A text of this engine may write to a table of another schema.
        return tuple(dict.fromkeys((_group(self._database_of(table)), self.whole)))

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
