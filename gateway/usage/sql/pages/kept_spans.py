"""Choose the spans whose totals are kept, and make them.

On a thread of its own, which begins once a page has taken long.

What was asked of days up to today is made again when another day has ended, or a span has moved on with the date, until
nobody asks for it any more: `ASKED_LATELY_SECONDS`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import DatabaseAway
from gateway.usage.reports import Groups, UsageQuery
from gateway.usage.row_pages import WHOLE
from gateway.usage.sql.database import Database
from gateway.usage.sql.pages.kept_totals import KeptTotals, NotKept, Span
from gateway.usage.sql.pages.page_queries import PageFinder
from gateway.usage.sql.sums.day_blocks import Made, number_of
from gateway.usage.sql.sums.sum_queries import days_between, listed_query
from gateway.usage.sql.sums.sum_tables import CHANGES, marks

KEPT_FROM_SECONDS = 0.2  # what took less is found again
ASKED_LATELY_SECONDS = 3 * 86_400.0
LOOK_SECONDS = 60.0  # between looks for days that have ended
MOST_PAUSE_SECONDS = 3_600.0  # after failures; twice as long each time
MOST_SPANS, MOST_GROUPS = 8, 2_000_000  # of all together: some 250 MB of temporary files
_MOST_OTHER_DAYS = 3  # today, and yesterday until its block is there; more are summed anew
_REST_SECONDS = 0.001
_OF_TIME = {"day", "hour"}
_CHANGES = select(marks.c.value).where(marks.c.name == CHANGES)
_FAILURES = (SQLAlchemyError, DatabaseAway, OSError, sqlite3.Error, OverflowError)


class Wish(NamedTuple):
    """A report, and how its span moves on with the date.

    `days`: so many up to today, 0: the month's up to today; None: these days, whatever the date is.
    """

    usage: UsageQuery
    groups: Groups
    days: int | None

    @classmethod
    def of(cls, usage: UsageQuery, groups: Groups, today: date) -> Wish:
        if usage.to_day != today:
            return cls(usage, groups, None)
        days = 0 if usage.from_day == today.replace(day=1) else (today - usage.from_day).days + 1
        return cls(replace(usage, from_day=date.min, to_day=date.min), groups, days)

    def usage_on(self, today: date) -> UsageQuery:
        if self.days is None:
            return self.usage
        first = today.replace(day=1) if self.days == 0 else today - timedelta(days=self.days - 1)
        return replace(self.usage, from_day=first, to_day=today)


class _Kept(NamedTuple):
    whose: UsageQuery  # whatever its days
    groups: Groups
    totals: KeptTotals


class KeptSpans:
    """Those asked for last, for threads."""

    def __init__(self, database: Callable[[], Database], clock: Callable[[], float] | None = None) -> None:
        """`database`: called once, when there is something to make."""
        self._open = database
        self._database: Database | None = None
        self._clock = clock or time.time
        self._kept: list[_Kept] = []  # used last at the end
        self._refused: dict[tuple[UsageQuery, Groups], Span] = {}  # what could not be kept, as it was
        self.wishes: dict[Wish, float] = {}  # when each was asked for
        self._put_off: dict[Wish, tuple[float, float]] = {}  # after a failure: until when, and how long the next time
        self._new: list[Wish] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = self._is_making = False

    def find(self, connection: Connection, usage: UsageQuery, groups: Groups, listed: Made) -> KeptTotals | None:
        """Return what is kept of nearly all of a span's days."""
        if {*groups} & _OF_TIME or not self._kept:
            return None
        return self._best(usage, groups, days_between(usage, listed), connection.scalar(_CHANGES))

    def _best(self, usage: UsageQuery, groups: Groups, days: Collection[int], changes: int | None) -> KeptTotals | None:
        whose, of_span = _whose(usage), {*days}
        with self._changed:
            found = [
                kept
                for kept in self._kept
                if (kept.whose, kept.groups, kept.totals.span.changes) == (whose, groups, changes)
                and kept.totals.span.days <= of_span
                and len(of_span) - len(kept.totals.span.days) <= _MOST_OTHER_DAYS
            ]
            if not found:
                return None
            best = max(found, key=lambda kept: len(kept.totals.span.days))
            self._kept.remove(best)
            self._kept.append(best)
            return best.totals

    def asked(self, usage: UsageQuery, groups: Groups, seconds: float) -> None:
        """Make totals for the next one, where a page took long.

        And go on making them while they are asked for.
        """
        if {*groups} & _OF_TIME:
            return
        wish = Wish.of(usage, groups, self._today())
        with self._changed:
            if seconds < KEPT_FROM_SECONDS:
                if wish in self.wishes:
                    self.wishes[wish] = self._clock()
                return
            if self._is_closed:
                return
            if wish not in self.wishes and len(self.wishes) >= MOST_SPANS:
                del self.wishes[min(self.wishes, key=self.wishes.__getitem__)]
            self.wishes[wish] = self._clock()
            if wish not in self._new:
                self._new.append(wish)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ledger-ahead", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until what was asked for is made; False: it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._new and not self._is_making, seconds)

    def close(self, seconds: float) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._database is not None:
            self._database.cut()
        if self._thread is not None:
            self._thread.join(seconds)
        if self._database is not None:
            self._database.close()
        for kept in self._kept:
            kept.totals.close()

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    # -- on its thread

    def _work(self) -> None:
        while not self._is_closed:
            with self._changed:
                self._is_making = False
                self._changed.notify_all()
                if not self._new and not self._is_closed:
                    self._changed.wait(LOOK_SECONDS)
                due = self._new or [wish for wish in self.wishes if wish.days is not None]
                self._new, self._is_making = [], True
            for wish in due:
                self.make(wish)

    def make(self, wish: Wish) -> None:
        """Make today's totals, unless they are there.

        Or were not asked for lately.
        """
        if self._is_closed:
            return
        if self.wishes.get(wish, 0.0) < self._clock() - ASKED_LATELY_SECONDS:
            with self._changed:
                self.wishes.pop(wish, None)
            self._put_off.pop(wish, None)
            return
        usage = wish.usage_on(self._today())
        again_at, pause = self._put_off.pop(wish, (0.0, LOOK_SECONDS))
        if self._clock() < again_at:
            self._put_off[wish] = again_at, pause
            return
        self._database = self._database or self._open()
        try:
            with self._database.begin() as connection:
                self._make(connection, self._database.dialect, usage, wish.groups)
        except NotKept:  # too many groups, or ids of two types: `_refused` knows
            pass
        except _FAILURES:  # a disk without room, a database that is away: pages are found without it
            self._put_off[wish] = self._clock() + pause, min(2 * pause, MOST_PAUSE_SECONDS)

    def _make(self, connection: Connection, dialect: str, usage: UsageQuery, groups: Groups) -> None:
        listed = Made.of(connection.scalars(listed_query(usage)))
        ended = [day for day in days_between(usage, listed) if number_of(day, 0) in listed.blocks]
        changes = connection.scalar(_CHANGES)
        if changes is None or not ended:
            return
        span = Span(frozenset(ended), changes)
        there = self._best(usage, groups, ended, changes)
        if (there is not None and there.span == span) or self._refused.get((usage, groups)) == span:
            return
        finder = PageFinder(groups, WHOLE, listed.within(ended), connection, dialect)
        totals = KeptTotals(finder.places, span)
        try:
            totals.fill(finder.by_ids(usage), self._rest)
        except BaseException as error:
            totals.close()
            if isinstance(error, NotKept):
                self._refused.pop((usage, groups), None)
                self._refused = {(usage, groups): span} | dict(list(self._refused.items())[: MOST_SPANS - 1])
            raise
        self._keep(_Kept(_whose(usage), groups, totals))

    def _rest(self) -> None:
        if self._is_closed:
            raise TimeoutError("nobody asks any more")
        time.sleep(_REST_SECONDS)

    def _keep(self, new: _Kept) -> None:
        """Keep totals in place of older ones.

        And of those used longest ago.
        """
        dropped = []
        with self._changed:
            for kept in list(self._kept):
                is_older = kept.totals.span.changes != new.totals.span.changes
                if is_older or (kept[:2] == new[:2] and kept.totals.span.days <= new.totals.span.days):
                    self._kept.remove(kept)
                    dropped.append(kept)
            self._kept.append(new)
            while len(self._kept) > MOST_SPANS or sum(kept.totals.groups for kept in self._kept) > MOST_GROUPS:
                dropped.append(self._kept.pop(0))
        for kept in dropped:
            kept.totals.close()


def _whose(usage: UsageQuery) -> UsageQuery:
    return replace(usage, from_day=date.min, to_day=date.min)
