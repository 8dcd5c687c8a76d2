"""The steps from any release's tables to those of today.

An empty database takes all of them. A step is never changed once it was released; a new one goes to the end. Each
- may be cut off and come again (MariaDB commits every change of a table by itself), so that it looks before it makes;
- leaves tables that the release before writes to as ever: columns are added, with a default, and keep their names;
- ends at once, however many rows there are, or `can_wait`: those are taken one by one while we serve, once every row is
  in the sums, and meanwhile the indexes of before answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, Table, inspect, select, text, update

from gateway.usage.sql.sums.sum_tables import (
    CACHED,
    CACHED_BEFORE,
    CHANGES,
    MARKS,
    blocks,
    daily,
    hours,
    made,
    marks,
    ranks,
)
from gateway.usage.sql.table import (
    FURTHER_REQUESTS,
    TRANSACTION,
    ai_usage,
    described,
    insert_new,
    long_ids,
    prices,
    schema_version,
)
from gateway.usage.sql.walks import DAY_OF, MARIADBS_DAY

_OF_A_SCHEMA = "SELECT count(*) FROM information_schema.statistics WHERE table_schema = DATABASE()"
_INDEXES = {
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = :table AND name = :name",
    "postgresql": "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema()"
    " AND tablename = :table AND indexname = :name",
    "mysql": f"{_OF_A_SCHEMA} AND table_name = :table AND index_name = :name",
    "mariadb": f"{_OF_A_SCHEMA} AND table_name = :table AND index_name = :name",
}


class Step(NamedTuple):
    """Change the tables once.

    `version`: what a gateway must know to write here afterwards; higher only where an older one would do harm.
    """

    number: int
    name: str
    take: Callable[[Connection], None]
    version: int = 1
    can_wait: bool = False


def _make(connection: Connection, table: Table) -> None:
    described(table, connection.dialect.name).create(connection, checkfirst=True)
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for index in table.indexes:  # a table whose making was cut off has not all of them
        is_whole = there.issuperset(column.name for column in index.columns)  # a later step adds some
        if is_whole and not _has_index(connection, table.name, str(index.name)):
            index.create(connection)


def _first_release(connection: Connection) -> None:
    _make(connection, ai_usage)
    _make(connection, schema_version)


def _long_ids(connection: Connection) -> None:
    _make(connection, long_ids)


def _kinds_and_prices(connection: Connection) -> None:
    _make(connection, prices)
    _add_columns(connection, ai_usage, "details", "price_id", "failures")


def _sums(connection: Connection) -> None:
    """Make the sums; rows from before are added while we serve (`sums.keeping`).

    Those by day at last: who sees them reads sums, and on MariaDB sees each change at once.
    """
    _add_columns(connection, ai_usage, "summed")
    _make(connection, ai_usage)
    for table in (marks, made, blocks, hours):
        _make(connection, table)
    connection.execute(insert_new(marks, connection.dialect.name), [{"name": name, "value": 0} for name in MARKS])
    _make(connection, daily)


def _drop_index(name: str, connection: Connection) -> None:
    """Drop an index that no query needs any more.

    Each costs as much as the row.
    """
    if _has_index(connection, ai_usage.name, name):
        connection.exec_driver_sql(f"DROP INDEX {name}{_on_table(connection)}")


def _index_by_day(name: str, column: str, connection: Connection) -> None:
    """Make an index that begins with the day.

    What a second's rows go into lies together.
    """
    if _has_index(connection, ai_usage.name, name):
        return
    _day(connection)
    day = MARIADBS_DAY if connection.dialect.name in ("mysql", "mariadb") else f"({DAY_OF})"
    connection.exec_driver_sql(f"CREATE INDEX {name} ON {ai_usage.name} ({day}, {column}, time_ms)")


def _day(connection: Connection) -> None:
    """Have MariaDB compute each row's day, by which queries ask."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return
    if MARIADBS_DAY not in {each["name"] for each in inspect(connection).get_columns(ai_usage.name)}:
        made_of = DAY_OF.replace("/", "DIV")
        connection.exec_driver_sql(
            f"ALTER TABLE {ai_usage.name} ADD COLUMN {MARIADBS_DAY} BIGINT AS ({made_of}) VIRTUAL INVISIBLE"
        )


def _sums_by_owner(connection: Connection) -> None:
    """Replace sums that began with their owner.

    No release had them. Rows are added anew while we serve.
    """
    if inspect(connection).has_table("ai_usage_days"):
        _sums(connection)
        connection.execute(update(ai_usage).where(ai_usage.c.summed.is_not(None)).values(summed=None))
        for name in ("ai_usage_hours", "ai_usage_days"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


def _has_index(connection: Connection, table: str, name: str) -> bool:
    """Ask by name: SQLAlchemy warns of each index of an expression."""
    return bool(connection.scalar(text(_INDEXES[connection.dialect.name]), {"name": name, "table": table}))


def _on_table(connection: Connection) -> str:
    return f" ON {ai_usage.name}" if connection.dialect.name in ("mysql", "mariadb") else ""


def _further_requests(connection: Connection) -> None:
    _add_columns(connection, ai_usage, FURTHER_REQUESTS)
    _add_columns(connection, hours, FURTHER_REQUESTS, default=" DEFAULT 0 NOT NULL")


def _cached_tokens(connection: Connection) -> None:
    """Add cached tokens to every sum.

    Older rows are recounted while we serve. Those by day at last: who sees them so reads all of them so.
    """
    if connection.execute(select(made.c.block).limit(1)).first() is not None:
        connection.execute(insert_new(marks, connection.dialect.name), {"name": CACHED_BEFORE, "value": 2**62})
    for table in (blocks, hours, daily):
        _add_columns(connection, table, CACHED, default=" DEFAULT 0 NOT NULL")


def _ranks(connection: Connection) -> None:
    """Of days that have ended already they are made while we serve."""
    _make(connection, ranks)


def _changes(connection: Connection) -> None:
    connection.execute(insert_new(marks, connection.dialect.name), {"name": CHANGES, "value": 0})


def _transaction(connection: Connection) -> None:
    """Have PostgreSQL write each new row's transaction into it.

    The default after the column: together they would rewrite all rows.
    """
    if connection.dialect.name != "postgresql":
        return
    if TRANSACTION not in {each["name"] for each in inspect(connection).get_columns(ai_usage.name)}:
        connection.exec_driver_sql(f"ALTER TABLE {ai_usage.name} ADD COLUMN {TRANSACTION} BIGINT")
    connection.exec_driver_sql(f"ALTER TABLE {ai_usage.name} ALTER {TRANSACTION} SET DEFAULT txid_current()")


def _by_transaction(connection: Connection) -> None:
    name = "ai_usage_by_transaction"
    if connection.dialect.name == "postgresql" and not _has_index(connection, ai_usage.name, name):
        connection.exec_driver_sql(
            f"CREATE INDEX {name} ON {ai_usage.name} ({TRANSACTION}) WHERE {TRANSACTION} IS NOT NULL"
        )


def _add_columns(connection: Connection, table: Table, *names: str, default: str = "") -> None:
    """Add columns that may be NULL, or have a default.

    No database rewrites a row for them.
    """
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for name in names:
        if name not in there:
            kind = table.columns[name].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}{default}")


BY_TRANSACTION = 18  # from this step on new rows are found by it
_BY_SCOPE = "ai_usage_by_counted_on"
_BY_USER, _BY_GROUP = "ai_usage_by_day_user", "ai_usage_by_day_organisation"

STEPS = (
    Step(1, "the tables of the first release", _first_release),
    Step(2, "ids that are longer than their column are kept whole", _long_ids),
    Step(3, "tokens by kind, the price that was used, failed attempts", _kinds_and_prices),
    Step(4, "daily and hourly sums beside the rows", _sums),
    Step(5, "limits are rebuilt from sums, not from rows", partial(_drop_index, _BY_SCOPE), can_wait=True),
    Step(6, "a user's rows by day", partial(_index_by_day, _BY_USER, "user_id"), can_wait=True),
    Step(7, "an organisation's rows by day", partial(_index_by_day, _BY_GROUP, "organisation_id"), can_wait=True),
    Step(8, "a user's rows are found by day", partial(_drop_index, "ai_usage_by_user"), can_wait=True),
    Step(9, "an organisation's rows are found by day", partial(_drop_index, "ai_usage_by_organisation"), can_wait=True),
    Step(10, "a key's rows are those of its user", partial(_drop_index, "ai_usage_by_key"), can_wait=True),
    Step(11, "sums begin with their time", _sums_by_owner),
    Step(12, "a batch counts for each of its lines in limits", _further_requests),
    Step(13, "a row's day", _day),
    Step(14, "cached tokens in the sums", _cached_tokens),
    Step(15, "each day's users and keys of the most", _ranks),
    Step(16, "changes of days that had ended are counted", _changes),
    Step(17, "a row's transaction, on PostgreSQL", _transaction),
    Step(BY_TRANSACTION, "rows by their transaction, on PostgreSQL", _by_transaction, can_wait=True),
)
AT_ONCE = tuple(step for step in STEPS if not step.can_wait)  # before anything is written
