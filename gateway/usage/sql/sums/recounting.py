"""Add the cached tokens that older sums lack.

From rows that are still there: a gateway that knew of no cached tokens marked those that lack. A few are done in a
short transaction, the newest first; whoever is killed goes on where it was. Of rows that have expired nobody knows:
their sums say 0.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, and_, delete, select, update

from gateway.usage.sql.rows import SUMMED, SUMMED_BEFORE
from gateway.usage.sql.sums.adding import Adder, count_change
from gateway.usage.sql.sums.additions import READ, Additions, additions_of
from gateway.usage.sql.sums.keeping import Overtaken
from gateway.usage.sql.sums.sum_tables import CACHED, CACHED_BEFORE, daily, hours, marks
from gateway.usage.sql.table import ai_usage

LOOKED_AT_ONCE = 2_000  # rows, and those of the same millisecond
_usage = ai_usage.c
_MARK = marks.c.name == CACHED_BEFORE


def recount_some(connection: Connection, adder: Adder) -> bool:
    """Do the next rows; return whether there may be more.

    Raises Overtaken where another process does them: then nothing may be kept of it.
    """
    adder.hold_gate(connection)
    before_ms = connection.scalar(select(marks.c.value).where(_MARK))
    if before_ms is None:
        return False
    earlier = select(_usage.time_ms).where(_usage.time_ms < before_ms).order_by(_usage.time_ms.desc())
    from_ms = connection.scalar(earlier.offset(LOOKED_AT_ONCE - 1).limit(1))
    mark = and_(_MARK, marks.c.value == before_ms)
    done = delete(marks).where(mark) if from_ms is None else update(marks).where(mark).values(value=from_ms)
    if connection.execute(done).rowcount != 1:
        raise Overtaken
    _recount(connection, adder, from_ms or 0, before_ms)
    return from_ms is not None


def _recount(connection: Connection, adder: Adder, from_ms: int, before_ms: int) -> None:
    near = and_(_usage.time_ms >= from_ms, _usage.time_ms < before_ms)
    lacks = and_(near, _usage.summed == SUMMED_BEFORE, _usage.cached_tokens > 0)
    rows = connection.execute(select(*(_usage[name] for name in READ)).where(lacks)).mappings().all()
    if not rows:
        return
    ids = sorted(row["request_id"] for row in rows)
    counted = update(ai_usage).where(lacks, _usage.request_id.in_(ids)).values(summed=SUMMED)
    if connection.execute(counted).rowcount != len(ids):
        raise Overtaken
    added = additions_of([dict(row) for row in rows])
    adder.add_sums(connection, Additions(_cached(added.daily, daily), _cached(added.hours, hours), added.days))
    count_change(connection)  # of days that go on, too: what is kept of them has counted these rows


def _cached(sums: list[Any], table: Table) -> list[Any]:
    """The same with cached tokens alone."""
    left = (*range(len(table.primary_key)), list(table.columns).index(table.columns[CACHED]))
    return [value if place % len(table.columns) in left else 0 for place, value in enumerate(sums)]
