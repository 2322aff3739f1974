"""The groups that one statement reads and changes."""

from typing import Any, Final, NamedTuple

from sqlalchemy.sql.compiler import DDLCompiler

from maxage.sqlalchemy.catalog import Catalog
from maxage.sqlalchemy.database_groups import DatabaseGroups
from maxage.sqlalchemy.sql_text import Effect, effect_of_text
from maxage.sqlalchemy.statement_row import RowPlace, row_keys, row_place
from maxage.sqlalchemy.statement_tables import RecordingCompiler, cascades


class Groups(NamedTuple):
    """The groups that one execution of a statement reads and changes."""

    read: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    commits: bool = False
    """Whether it may commit earlier changes."""
    rows: tuple[str, ...] = ()
    """The rows that it reads, where it reads nothing else; their tokens have to be read first."""
    around_rows: tuple[str, ...] = ()
    """The groups that it reads besides these rows."""


class _Plan(NamedTuple):
    """The facts that are the same for each execution of a compiled statement."""

    version: int
    """Of the catalog."""
    groups: Groups
    place: RowPlace | None = None
    changed_around: tuple[str, ...] = ()
    """The groups that it changes besides its rows, if it changes rows."""


_NOTHING: Final = Groups()
_PLAN: Final = "maxage_plan"


def groups_of(database: DatabaseGroups, catalog: Catalog, sql: str, context: Any) -> Groups:
    """Return the groups of one execution of a statement, given SQLAlchemy's context of it."""
    compiled = None if context is None else context.compiled
    if isinstance(compiled, RecordingCompiler):
        plan: _Plan | None = vars(compiled).get(_PLAN)
        if plan is None or plan.version != catalog.version:
            plan = vars(compiled)[_PLAN] = _plan(database, catalog, sql, compiled)
        return plan.groups if plan.place is None else _of_rows(database, plan, plan.place, context)
    if isinstance(compiled, DDLCompiler):
        return Groups(changed=(database.whole,), commits=True)
    return _of_text(database, sql)


def _plan(
    database: DatabaseGroups, catalog: Catalog, sql: str, compiled: RecordingCompiler
) -> _Plan:
    named = compiled.named_tables
    text = _of_text(database, sql) if named.has_text else _NOTHING
    own = {table for table, _ in named.changed}
    along = _changed_along(catalog, own, cascades(named.changed))
    others = (database.whole,) if along is None else database.changed(along)
    is_plain = all(map(catalog.is_plain, named.read))
    groups = Groups(
        read=_each_once(
            *database.read(named.read), *text.read, *(() if is_plain else database.unknown_read)
        ),
        changed=_each_once(*database.changed(own), *others, *text.changed),
        commits=text.commits,
    )
    version, place = catalog.version, row_place(compiled)
    if place is None or not is_plain:
        return _Plan(version, groups)
    if not named.changed:
        around = groups._replace(around_rows=database.read_around_rows(place.table))
        return _Plan(version, around, place)
    # Where the same table is changed along with its row, other rows of it may change.
    if place.table.name in {table.name for table in along or ()}:
        return _Plan(version, groups)
    changed = (*database.changed_around_rows(place.table), *others)
    return _Plan(version, groups, place, changed)


def _changed_along(catalog: Catalog, own: set[Any], cascaded: set[Any]) -> set[Any] | None:
    """Return the tables that the database changes along with these; None: any may be."""
    found = set(cascaded)
    for table in own | cascaded:
        triggered = catalog.changed_along(table)
        if triggered is None:
            return None
        found.update(triggered)
    return found


def _of_rows(database: DatabaseGroups, plan: _Plan, place: RowPlace, context: Any) -> Groups:
    keys = row_keys(place, context.compiled_parameters)
    if keys is None:
        return plan.groups._replace(around_rows=())
    rows = tuple(database.row(place.table, key) for key in keys)
    if plan.changed_around:
        return plan.groups._replace(changed=_each_once(*rows, *plan.changed_around))
    return plan.groups._replace(rows=rows)


def _each_once(*groups: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(groups))


def _of_text(database: DatabaseGroups, sql: str) -> Groups:
    effect = effect_of_text(sql)
    return Groups(
        read=database.unknown_read if Effect.READS in effect else (),
        changed=(database.whole,) if Effect.WRITES in effect else (),
        commits=Effect.COMMITS in effect,
    )
