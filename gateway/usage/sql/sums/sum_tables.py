"""The tables of sums, and the rows' mark of them.

A row of `ai_usage` with `summed` is in the sums, one without is not yet: a release that knows of no sums wrote it, or
they are being made anew. Every query adds such rows to what it finds in the sums, in one statement, so that no total is
ever wrong on the way. No column of a key is NULL: `NONE` stands for it.

`owner` says whose sum it is. Of days: `*` everybody's, by model and endpoint; `u:ID` a user's, `part` the key; `o:ID`
an organisation's, `part` the user; `*u`, `*o` and `*k` everybody's by user, organisation and key, without models. Of
hours: `*` everybody's, `k:ID` a key's, `c:SCOPE` what counts against a limit's scope.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, SmallInteger, String, Table

from gateway.usage.sql.long_ids import SUMS_ID_CHARACTERS
from gateway.usage.sql.table import EXACT_TEXT, metadata

NONE = '"'  # no id is stored so
EVERYBODY = "*"
VALUES = ("requests", "calls", "tokens", "prompt_tokens", "completion_tokens", "cost_nano")
GATE, ROWS_FROM = "gate", "rows_from_ms"  # held by who adds; rows before it may have expired
MARKS = (GATE, ROWS_FROM)
_OWNER_CHARACTERS = SUMS_ID_CHARACTERS + 2


def _id(name: str, characters: int = SUMS_ID_CHARACTERS) -> Column[str]:
    # By code point, as the others compare: a part of the index is a range of texts.
    by_code_point = String(characters, collation="C")
    return Column(name, String(characters).with_variant(by_code_point, "postgresql"), primary_key=True)


def _values() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in VALUES]


days = Table(
    "ai_usage_days",
    metadata,
    _id("owner", _OWNER_CHARACTERS),
    Column("day_ms", BigInteger, primary_key=True, autoincrement=False),
    _id("part"),
    _id("model"),
    _id("endpoint_id"),
    *_values(),
    sqlite_with_rowid=False,
    mysql_collate=EXACT_TEXT,
    mariadb_collate=EXACT_TEXT,
)

hours = Table(
    "ai_usage_hours",
    metadata,
    _id("owner", _OWNER_CHARACTERS),
    Column("hour_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("answered", SmallInteger, primary_key=True, autoincrement=False),
    *_values(),
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
