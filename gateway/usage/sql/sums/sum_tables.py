"""The tables of sums, and the rows' mark of them.

A row of `ai_usage` with `summed` is in the sums, one without is not yet: a release that knows of no sums wrote it, or
they are being made anew. Every query adds such rows to what it finds in the sums, in one snapshot, so that no total is
ever wrong on the way. No column of a key is NULL: `NONE` stands for it.

Every key begins with its time: what a second's requests change lies together, however many users they are of, and a
batch costs a few pages instead of one for each row. Who asks names the days (or hours) one by one.

daily    each day's, by all that a report can tell apart but the hour
hours    `owner` is `*` (everybody), `k:ID` (a key) or `c:SCOPE` (what counts against a limit)
blocks   everybody's, of 1, 2, 4 … 512 days that have ended, by what the kind says (see `day_blocks`)
made     which blocks hold; and of which days there are sums at all
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, SmallInteger, String, Table

from gateway.usage.sql.long_ids import SUMS_ID_CHARACTERS
from gateway.usage.sql.table import EXACT_TEXT, FURTHER_REQUESTS, metadata

EVERYBODY = "*"
BY_USER = "ai_usage_daily_by_user"  # an index
VALUES = ("requests", "calls", "tokens", "prompt_tokens", "completion_tokens", "cost_nano")
HOURLY_VALUES = (*VALUES, FURTHER_REQUESTS)  # the last for limits' totals alone
GATE, ROWS_FROM = "gate", "rows_from_ms"  # held by who adds; rows before it may have expired
MARKS = (GATE, ROWS_FROM)


def _id(name: str, characters: int = SUMS_ID_CHARACTERS) -> Column[str]:
    # By code point, as the others compare: a part of the index is a range of texts.
    by_code_point = String(characters, collation="C")
    return Column(name, String(characters).with_variant(by_code_point, "postgresql"), primary_key=True)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _values() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in VALUES]


daily = Table(
    "ai_usage_daily",
    metadata,
    _number("day_ms"),
    _id("organisation_id"),
    _id("user_id"),
    _id("key_id"),
    _id("model"),
    _id("endpoint_id"),
    *_values(),
    Index(BY_USER, "day_ms", "user_id"),
    sqlite_with_rowid=False,
    mysql_collate=EXACT_TEXT,
    mariadb_collate=EXACT_TEXT,
)

hours = Table(
    "ai_usage_hourly",
    metadata,
    _number("hour_ms"),
    _id("owner", SUMS_ID_CHARACTERS + 2),
    Column("answered", SmallInteger, primary_key=True, autoincrement=False),
    *_values(),
    Column(FURTHER_REQUESTS, BigInteger, nullable=False, server_default="0"),  # releases before name no such column
    sqlite_with_rowid=False,
    mysql_collate=EXACT_TEXT,
    mariadb_collate=EXACT_TEXT,
)

blocks = Table(
    "ai_usage_blocks",
    metadata,
    _number("block"),
    Column("kind", String(1), primary_key=True),
    _id("a"),
    _id("b"),
    _id("c"),
    *_values(),
    sqlite_with_rowid=False,
    mysql_collate=EXACT_TEXT,
    mariadb_collate=EXACT_TEXT,
)

made = Table(
    "ai_usage_made",
    metadata,
    _number("block"),
    sqlite_with_rowid=False,
    mysql_collate=EXACT_TEXT,
    mariadb_collate=EXACT_TEXT,
)

marks = Table(
    "ai_usage_marks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
    mysql_collate=EXACT_TEXT,
    mariadb_collate=EXACT_TEXT,
)
