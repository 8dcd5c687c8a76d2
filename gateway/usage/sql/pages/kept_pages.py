"""Keep pages of days that have ended, until these days change.

What has as many groups as there are sums (users and models of a month) takes seconds; asked again, of the same days, it
is there. A row that comes late, a rebuild, sums and rows that expire: each changes the state that a page was found in,
and it is found anew. Of a span that goes on, what is ordered by an amount and grouped by time is kept for the days
before: no row is of several days.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, select, text

from gateway.usage.reports import Groups, UsageQuery
from gateway.usage.sql.queries import start_of_day_ms
from gateway.usage.sql.sums.day_blocks import Made, number_of
from gateway.usage.sql.sums.sum_queries import days_between
from gateway.usage.sql.sums.sum_tables import CHANGES, ROWS_FROM, marks
from gateway.usage.sql.table import ai_usage

KEPT_FROM_SECONDS = 0.05  # what took less is found again
MOST_PAGES, MOST_ROWS = 16, 1_000  # a page of so many rows is half a megabyte
_MARKS = select(marks.c.name, marks.c.value).where(marks.c.name.in_((CHANGES, ROWS_FROM)))
# PostgreSQL's server, database and file of the table: restored from a backup, it counts changes once more.
_TABLE = text(
    "pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database()), "  # noqa: S608
    f"pg_relation_filenode('{ai_usage.name}')"
)

Asked = tuple[Hashable, ...]
T = TypeVar("T")


class Marks(NamedTuple):
    """What there was to be read, when.

    `changes`: another with each change of days that had ended, and where the table was restored; None: nobody counts
    them. `rows_from_ms`: rows before it may have expired.
    """

    changes: Hashable
    rows_from_ms: int


def marks_of(connection: Connection) -> Marks:
    query = _MARKS.add_columns(_TABLE) if connection.dialect.name == "postgresql" else _MARKS
    found: dict[str, Any] = {row.name: row for row in connection.execute(query)}
    changes, rows_from = found.get(CHANGES), found.get(ROWS_FROM)
    return Marks(None if changes is None else tuple(changes), 0 if rows_from is None else int(rows_from.value))


class State(NamedTuple):
    """What a page of ended days depends on."""

    changes: Hashable  # of days that had ended, see `Marks`
    days: int  # with sums; they become fewer by a change only


def state_of(connection: Connection, usage: UsageQuery, groups: Groups, listed: Made) -> State | None:
    """Return the state of the span's days.

    None: one of them goes on, or rows of them that are read may have expired.
    """
    days = days_between(usage, listed)
    if not all(number_of(day, 0) in listed.blocks for day in days):
        return None
    changes, rows_from_ms = marks_of(connection)
    is_read_from_rows = "hour" in groups
    if changes is None or (is_read_from_rows and start_of_day_ms(usage.from_day) < rows_from_ms):
        return None
    return State(changes, len(days))


class Kept(Generic[T]):
    """Those asked for last, for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: OrderedDict[Asked, tuple[State, T]] = OrderedDict()

    def get(self, asked: Asked, state: State) -> T | None:
        with self._lock:
            kept = self._pages.get(asked)
            if kept is None or kept[0] != state:
                return None
            self._pages.move_to_end(asked)
            return kept[1]

    def keep(self, asked: Asked, state: State, page: T, *, rows: int, seconds: float) -> None:
        """Keep a page.

        In place of the one that was asked for longest ago. `seconds`: that it took to find.
        """
        if seconds < KEPT_FROM_SECONDS or rows > MOST_ROWS:
            return
        with self._lock:
            self._pages[asked] = state, page
            self._pages.move_to_end(asked)
            if len(self._pages) > MOST_PAGES:
                self._pages.popitem(last=False)
