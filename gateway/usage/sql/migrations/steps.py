"""The steps from any release's tables to those of today.

An empty database takes all of them. A step is never changed once it was released; a new one goes to the end. Each
- may be cut off and come again (MariaDB commits every change of a table by itself), so that it looks before it makes;
- leaves tables that the release before writes to as ever: columns are added, with a default, and keep their names;
- ends within a statement's time (`rows_store.WRITE_SECONDS`): what takes longer goes in pieces of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, Table, inspect

from gateway.usage.sql.sums.sum_tables import MARKS, days, hours, marks
from gateway.usage.sql.table import ai_usage, insert_new, long_ids, prices, schema_version


class Step(NamedTuple):
    """Change the tables once.

    `version`: what a gateway must know to write here afterwards; higher only where an older one would do harm.
    """

    number: int
    name: str
    take: Callable[[Connection], None]
    version: int = 1


def _make(connection: Connection, table: Table) -> None:
    table.create(connection, checkfirst=True)
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for index in table.indexes:  # a table whose making was cut off has not all of them
        if there.issuperset(column.name for column in index.columns):  # a later step adds some
            index.create(connection, checkfirst=True)


def _first_release(connection: Connection) -> None:
    _make(connection, ai_usage)
    _make(connection, schema_version)


def _long_ids(connection: Connection) -> None:
    _make(connection, long_ids)


def _kinds_and_prices(connection: Connection) -> None:
    _make(connection, prices)
    _add_columns(connection, ai_usage, "details", "price_id", "failures")


def _sums(connection: Connection) -> None:
    """Make the sums; rows from before are added while we serve (`sums.keeping`)."""
    for table in (days, hours, marks):
        _make(connection, table)
    connection.execute(insert_new(marks, connection.dialect.name), [{"name": name, "value": 0} for name in MARKS])
    _add_columns(connection, ai_usage, "summed")
    _make(connection, ai_usage)


def _index_that_sums_replace(connection: Connection) -> None:
    """Drop an index that no query needs any more.

    Each costs as much as the row.
    """
    name = "ai_usage_by_counted_on"
    if name in {index["name"] for index in inspect(connection).get_indexes(ai_usage.name)}:
        on_table = f" ON {ai_usage.name}" if connection.dialect.name in ("mysql", "mariadb") else ""
        connection.exec_driver_sql(f"DROP INDEX {name}{on_table}")


def _add_columns(connection: Connection, table: Table, *names: str) -> None:
    """Add columns that may be NULL.

    No database rewrites a row for them.
    """
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for name in names:
        if name not in there:
            kind = table.columns[name].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}")


STEPS = (
    Step(1, "the tables of the first release", _first_release),
    Step(2, "ids that are longer than their column are kept whole", _long_ids),
    Step(3, "tokens by kind, the price that was used, failed attempts", _kinds_and_prices),
    Step(4, "daily and hourly sums beside the rows", _sums),
    Step(5, "limits are rebuilt from sums, not from rows", _index_that_sums_replace),
)
