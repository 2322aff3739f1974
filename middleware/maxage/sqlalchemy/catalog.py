"""The database's catalog: which names are no plain tables, which tables have triggers.

A statement names a view, and the rows lie in other tables. A write to a table with a trigger may
change any other. The metadata of SQLAlchemy tells neither.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

from sqlalchemy import table
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger("maxage")

_SQLITE: Final = """
SELECT CASE type WHEN 'trigger' THEN 't' ELSE 'v' END, tbl_name FROM sqlite_master
WHERE type IN ('view', 'trigger') OR substr(upper(sql), 1, 14) = 'CREATE VIRTUAL'
"""
# Partitions and inheriting tables show rows of each other.
_POSTGRESQL: Final = """
SELECT 'v', relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
ON n.oid = c.relnamespace WHERE (relkind IN ('v', 'm', 'f', 'p') OR c.oid IN (
SELECT inhrelid FROM pg_catalog.pg_inherits UNION SELECT inhparent FROM pg_catalog.pg_inherits))
AND nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT 't', relname FROM pg_catalog.pg_trigger JOIN pg_catalog.pg_class c
ON c.oid = tgrelid WHERE NOT tgisinternal
UNION ALL SELECT 't', relname FROM pg_catalog.pg_rewrite JOIN pg_catalog.pg_class c
ON c.oid = ev_class WHERE rulename <> '_RETURN'
"""
_MYSQL: Final = """
SELECT 'v', table_name FROM information_schema.views
UNION ALL SELECT 't', event_object_table FROM information_schema.triggers
"""
_QUERIES: Final = {
    "sqlite": _SQLITE, "postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL,
}  # fmt: skip


@final
class Catalog:
    """The known relations of one database.

    Args:
        dialect: the name of its dialect. Of some, the catalog is not read.
        triggers: the tables that the triggers of a table change, by its name.
    """

    def __init__(self, dialect: str, triggers: Mapping[str, Iterable[str]]) -> None:
        self._query: Final = _QUERIES.get(dialect)
        self._told: Final = {
            name.lower(): tuple(map(table, others)) for name, others in triggers.items()
        }
        self._views: frozenset[str] = frozenset()
        self._triggered: frozenset[str] = frozenset()
        self.version = 0
        """Changes when the catalog has been read."""
        self._wanted, self._read = 0, -1
        """How often there was DDL, by now and when the catalog was read."""

    @property
    def is_read(self) -> bool:
        """Whether it need not be read; not after DDL."""
        return self._query is None or self._read == self._wanted

    def forget(self) -> None:
        """Read the catalog again before the next statement: there was DDL."""
        self._wanted += 1

    def read(self, connection: Connection) -> None:
        """Read the catalog; until that is done, other connections that need it read it too."""
        wanted = self._wanted
        found: dict[str, set[str]] = {"v": set(), "t": set()}
        try:
            rows = connection.exec_driver_sql(
                self._query or "", execution_options={"stream_results": False}
            )
            for kind, name in rows:
                found[str(kind)].add(str(name).lower())
        except SQLAlchemyError as error:
            logger.warning(
                "The catalog of the database cannot be read (%s): views count as tables, and "
                "triggers as none. Tag responses that are read from views.",
                type(error).__name__,
            )
        self._views, self._triggered = frozenset(found["v"]), frozenset(found["t"])
        self.version += 1
        self._read = wanted

    def is_plain(self, relation: Any) -> bool:
        """Return whether the rows of a relation are its own."""
        return str(relation.name).lower() not in self._views

    def changed_along(self, relation: Any) -> tuple[Any, ...] | None:
        """Return the tables that a write changes along with its own; None: any may be."""
        name = str(relation.name).lower()
        if name in self._told:
            return self._told[name]
        return None if name in self._triggered or name in self._views else ()
