"""The tables of sums, and the rows' mark of them.

A row of `ai_usage` with `summed` is in the sums, one without is not yet: a release that knows of no sums wrote it, or
they are being made anew. Every query adds such rows to what it finds in the sums, in one snapshot, so that no total is
ever wrong on the way. No column of a key is NULL: `NONE` stands for it.

Every key begins with its time: what a second's requests change lies together, however many users they are of, and a
batch costs a few pages instead of one for each row. Who asks names the days (or hours) one by one.

daily    each day's, by all that a report can tell apart but the hour
hours    `owner` is `*` (everybody), `k:ID` (a key) or `c:SCOPE` (what counts against a limit)
blocks   everybody's, of 1, 2, 4 … 512 days that have ended, by what the kind says (see `day_blocks`)
ranks    of a day that has ended: who used the most, in order (see `ranks`)
made     which blocks and ranks hold; and of which days there are sums at all
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, SmallInteger, String, Table

from gateway.usage.sql.long_ids import SUMS_ID_CHARACTERS
from gateway.usage.sql.table import FURTHER_REQUESTS, metadata

EVERYBODY = "*"
BY_USER = "ai_usage_daily_by_user"  # an index
CACHED = "cached_tokens"
VALUES = ("requests", "calls", "tokens", "prompt_tokens", "completion_tokens", "cost_nano", CACHED)
HOURLY_VALUES = (*VALUES, FURTHER_REQUESTS)  # the last for limits' totals alone
GATE, ROWS_FROM = "gate", "rows_from_ms"  # held by who adds; rows before it may have expired
CHANGES = "changes"  # of days that had ended, so far: what was found in them may be kept until the next
MARKS = (GATE, ROWS_FROM)
CACHED_BEFORE = "cached_before_ms"  # cached tokens of rows before it may lack (`recounting`); no mark: none do


def _id(name: str, characters: int = SUMS_ID_CHARACTERS, *, is_key: bool = True) -> Column[str]:
    # By code point, as the others compare: a part of the index is a range of texts.
    by_code_point = String(characters, collation="C")
    return Column(
        name, String(characters).with_variant(by_code_point, "postgresql"), primary_key=is_key, nullable=False
    )


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _values() -> list[Column[int]]:
    return [_added_later(name) if name == CACHED else Column(name, BigInteger, nullable=False) for name in VALUES]


def _added_later(name: str) -> Column[int]:
    """A column that releases before name in none of their statements."""
    return Column(name, BigInteger, nullable=False, server_default="0")


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
)

hours = Table(
    "ai_usage_hourly",
    metadata,
    _number("hour_ms"),
    _id("owner", SUMS_ID_CHARACTERS + 2),
    Column("answered", SmallInteger, primary_key=True, autoincrement=False),
    *_values(),
    _added_later(FURTHER_REQUESTS),
    sqlite_with_rowid=False,
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
)

ranks = Table(
    "ai_usage_ranks",
    metadata,
    _number("day_ms"),
    Column("kind", String(10), primary_key=True),
    Column("measure", String(10), primary_key=True),
    Column("place", SmallInteger, primary_key=True, autoincrement=False),
    _id("id", is_key=False),
    *_values(),
    sqlite_with_rowid=False,
)

made = Table(
    "ai_usage_made",
    metadata,
    _number("block"),
    sqlite_with_rowid=False,
)

marks = Table(
    "ai_usage_marks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
