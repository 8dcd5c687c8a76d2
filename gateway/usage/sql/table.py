"""The table `ai_usage`, one row for each admitted request.

And the statements that are not the same everywhere.

Times are milliseconds since 1970 in UTC, costs billionths of the currency's unit: whole numbers group and add up alike
on SQLite, PostgreSQL, MariaDB and MySQL. Ids are texts as `rows.stored_id` makes them; SQLite keeps any, the others
so many characters, and what is longer beside the table (`longids`). Tables of before have 255.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Insert,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import sqlite

from gateway.usage.sql.rows import (
    CLIENT_ID_CHARACTERS,
    ID_CHARACTERS,
    PRICE_ID_CHARACTERS,
    REQUEST_ID_CHARACTERS,
    ROUTE_CHARACTERS,
)

SCHEMA_VERSION = 1  # the newest that this gateway can write to; what was done to the tables is in `ai_usage_steps`
FURTHER_REQUESTS = "further_requests"
TRANSACTION = "transaction_id"  # PostgreSQL's alone, which writes it by itself
EXACT_TEXT = "utf8mb4_bin"  # their default takes "A" and "a" for one

UNSUMMED = text("summed IS NULL")

metadata = MetaData()

ai_usage = Table(
    "ai_usage",
    metadata,
    Column("request_id", String(REQUEST_ID_CHARACTERS), primary_key=True),
    Column("client_request_id", String(CLIENT_ID_CHARACTERS)),
    Column("time_ms", BigInteger, nullable=False),
    Column("user_id", String(ID_CHARACTERS), nullable=False),
    Column("organisation_id", String(ID_CHARACTERS)),
    Column("key_id", String(ID_CHARACTERS), nullable=False),
    Column("model", String(ID_CHARACTERS), nullable=False),
    Column("endpoint_id", String(ID_CHARACTERS)),
    Column("route", String(ROUTE_CHARACTERS), nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("answered", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("usage_source", String(20), nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("first_byte_ms", Double),
    Column("duration_ms", Double),
    Column("attempts", Integer, nullable=False),
    Column("counted_on", String(ID_CHARACTERS)),
    Column("details", Text),  # tokens of further kinds, calls and tier, as JSON; NULL for most
    Column("price_id", String(PRICE_ID_CHARACTERS)),  # of the price that was used; NULL: none
    Column("failures", Text),  # attempts that had no answer, as JSON; NULL for most
    Column("summed", SmallInteger),  # whether it is in the sums (`rows`); NULL: not yet, see `sums.sum_tables`
    Column(FURTHER_REQUESTS, BigInteger),  # that it counts for in limits' totals: a batch's lines but one; NULL: none
    Index("ai_usage_by_time", "time_ms"),
    # Those by user and organisation begin with the day, see `walks`.
    # Of hardly any rows, but on MariaDB, which has no such indexes.
    Index(
        "ai_usage_unsummed",
        "summed",
        "time_ms",
        sqlite_where=UNSUMMED,
    ),
)

long_ids = Table(
    "ai_usage_long_ids",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("id", Text, nullable=False),
)

prices = Table(
    "ai_usage_prices",
    metadata,
    Column("id", String(PRICE_ID_CHARACTERS), primary_key=True),
    Column("price", Text, nullable=False),  # JSON, as `pricing.rates` reads it
)

schema_version = Table(
    "ai_usage_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

schema_steps = Table(
    "ai_usage_steps",
    metadata,
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("name", String(200), nullable=False),
)


class SchemaTooNew(Exception):
    """A newer gateway changed the table; do not write."""


def described(table: Table, dialect: str) -> Table:
    """Add what only one kind of server understands of a table.

    Said beforehand, it would have SQLAlchemy load the dialects of all of them: 3 MB that SQLite has no use for.
    """
    if dialect in ("mysql", "mariadb") and table not in (schema_version, schema_steps):  # which hold no ids
        table.dialect_kwargs[f"{dialect}_collate"] = EXACT_TEXT
    if dialect == "postgresql":
        for index in table.indexes:
            if index.dialect_options["sqlite"]["where"] is not None:
                index.dialect_kwargs["postgresql_where"] = UNSUMMED
    return table


def insert_new(table: Table, dialect: str) -> Insert:
    """An insert that leaves rows alone whose primary key is there already."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    from sqlalchemy.dialects import mysql

    # INSERT IGNORE would wave through more than duplicates: values that do not fit, too.
    unchanged = {column.name: column for column in table.primary_key}
    return mysql.insert(table).on_duplicate_key_update(unchanged)
