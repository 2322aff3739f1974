"""Learned invalidation: the tables that handlers read and change, noted by SQLAlchemy's hooks.

A response belongs to the group of each table that its handler read. A commit purges the groups of
the tables that it changed. See docs/sqlalchemy.md.
"""

from maxage.sqlalchemy.instrumentation import instrument

__all__ = ["instrument"]
