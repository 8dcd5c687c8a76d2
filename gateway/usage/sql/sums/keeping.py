"""Add rows that lack, expire what is old, rebuild sums.

Each in pieces of one short transaction: a gateway serves meanwhile, and what is killed goes on where it was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, delete, select, update

from gateway.usage.sql.rows import SUMMED
from gateway.usage.sql.sums.adding import Adder, count_change
from gateway.usage.sql.sums.additions import DAY_MS, READ
from gateway.usage.sql.sums.day_blocks import DAY, LONGEST_DAYS, days_of, first_day, level_of, number_of
from gateway.usage.sql.sums.sum_tables import GATE, ROWS_FROM, blocks, daily, hours, made, marks, ranks
from gateway.usage.sql.table import ai_usage

ADDED_AT_ONCE = 2_000
_EXPIRED_AT_ONCE = 500
UNLISTED_AT_ONCE = 1_000
UNDONE_AT_ONCE = 50_000  # rows, or one day's
_usage = ai_usage.c
_UNSUMMED = _usage.summed.is_(None)


class Overtaken(Exception):
    """Another process has added some of these rows meanwhile."""


class Undone(NamedTuple):
    until_ms: int | None  # the days before it are done; None: all are
    rows: int


def add_some(connection: Connection, adder: Adder) -> int:
    """Add the newest first: limits and most reports are of these.

    Raises Overtaken: then nothing may be kept of it.
    """
    adder.hold_gate(connection)
    rows = connection.execute(newest_unsummed(connection.dialect.name)).mappings().all()
    if not rows:
        return 0
    ids = sorted(row["request_id"] for row in rows)
    # With their times, for SQLite would look for the ids among all rows that are not in the sums.
    near = _usage.time_ms.between(rows[-1]["time_ms"], rows[0]["time_ms"])
    marked = connection.execute(
        update(ai_usage).where(_UNSUMMED, near, _usage.request_id.in_(ids)).values(summed=SUMMED)
    )
    if marked.rowcount != len(ids):
        raise Overtaken
    adder.add(connection, [dict(row) for row in rows])
    return len(rows)


def newest_unsummed(dialect: str) -> Select[Any]:
    """Query a few rows, in the order of their index.

    By time alone, PostgreSQL would come by every row that was added before; by both, MariaDB would sort all others.
    """
    columns = (_usage[name] for name in READ)
    newest_first = [_usage.time_ms.desc()]
    if dialect not in ("mysql", "mariadb"):
        newest_first.insert(0, _usage.summed.desc())
    return select(*columns).where(_UNSUMMED).order_by(*newest_first).limit(ADDED_AT_ONCE)


def is_summed(connection: Connection) -> bool:
    return connection.scalar(select(_usage.request_id).where(_UNSUMMED).limit(1)) is None


def expire_rows(connection: Connection, before_ms: int) -> int:
    """Delete a few summed rows; mark that there may be gaps."""
    is_old = and_(_usage.time_ms < before_ms, _usage.summed.is_not(None))
    ids = list(connection.scalars(select(_usage.request_id).where(is_old).limit(_EXPIRED_AT_ONCE)))
    if ids:
        is_later = and_(marks.c.name == ROWS_FROM, marks.c.value < before_ms)
        connection.execute(update(marks).where(is_later).values(value=before_ms))
        connection.execute(delete(ai_usage).where(_usage.request_id.in_(ids), is_old))
    return len(ids)


def expire_sums(connection: Connection, before_ms: int) -> None:
    """Delete older days.

    Blocks that had any of them are made again from what is left.
    """
    before_ms -= before_ms % DAY_MS
    close_gate(connection)
    _forget(connection, 0, before_ms)
    connection.execute(delete(made).where(made.c.block < number_of(before_ms // DAY_MS, 0)))
    connection.execute(delete(blocks).where(blocks.c.block < number_of(before_ms // DAY_MS, 0)))
    connection.execute(delete(ranks).where(ranks.c.day_ms < before_ms))


def undo_some(connection: Connection, from_ms: int) -> Undone:
    """Take some days out of the sums, from this one on.

    Their rows are read themselves until they are added again. Days of which rows have expired are left as they are.
    """
    first_ms = max(from_ms, -(-close_gate(connection) // DAY_MS) * DAY_MS)
    later = select(_usage.time_ms).where(_usage.time_ms >= first_ms).order_by(_usage.time_ms)
    last_ms = connection.scalar(later.offset(UNDONE_AT_ONCE).limit(1))
    until_ms = None
    if last_ms is not None:
        oldest_ms = connection.scalar(later.limit(1)) or first_ms
        until_ms = max(_day(last_ms), _day(oldest_ms) + DAY_MS)
    _forget(connection, first_ms, until_ms)
    there = and_(_usage.time_ms >= first_ms, _usage.summed.is_not(None))
    if until_ms is not None:
        there = and_(there, _usage.time_ms < until_ms)
    undone = connection.execute(update(ai_usage).where(there).values(summed=None))
    return Undone(until_ms, undone.rowcount)


def close_gate(connection: Connection) -> int:
    """Close the gate, and return from when on all rows are there.

    Who adds holds the gate until its end: there is nobody whose row we see and whose sum we do not.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    closed = select(marks.c.name, marks.c.value).where(marks.c.name.in_((GATE, ROWS_FROM))).order_by(marks.c.name)
    found = connection.execute(closed.with_for_update()).all()
    return next((int(row.value) for row in found if row.name == ROWS_FROM), 0)


def _day(time_ms: int) -> int:
    return time_ms - time_ms % DAY_MS


def _forget(connection: Connection, from_ms: int, until_ms: int | None) -> None:
    for table, time_ms in ((daily, daily.c.day_ms), (hours, hours.c.hour_ms)):
        old = delete(table).where(time_ms >= from_ms)
        connection.execute(old if until_ms is None else old.where(time_ms < until_ms))
    _strike_out(connection, from_ms // DAY_MS, None if until_ms is None else until_ms // DAY_MS)


def _strike_out(connection: Connection, from_day: int, until_day: int | None) -> None:
    """Strike out every block that has one of these days."""
    near = made.c.block >= number_of(max(0, from_day - LONGEST_DAYS), 0)
    if until_day is not None:
        near = and_(near, made.c.block < number_of(until_day, 0))
    listed = connection.scalars(select(made.c.block).where(near))
    changed = [block for block in listed if level_of(block) != DAY and first_day(block) + days_of(block) > from_day]
    for start in range(0, len(changed), UNLISTED_AT_ONCE):
        some = changed[start : start + UNLISTED_AT_ONCE]
        connection.execute(delete(made).where(made.c.block.in_(some)))
    count_change(connection)
