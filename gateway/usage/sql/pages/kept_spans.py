"""Choose the spans whose totals are kept, and make them.

On a thread of its own, which begins once a page has taken long. What was asked of days up to today is made again when
its span has moved on with the date, until nobody asks for it any more: `ASKED_LATELY_SECONDS`. New rows are added by
whoever asks, in the snapshot that is asked, and by that thread now and then, so that there are few of them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from operator import is_
from typing import NamedTuple

from sqlalchemy import Connection

from gateway.usage.reports import Groups, UsageQuery
from gateway.usage.row_pages import WHOLE
from gateway.usage.sql.database import Database
from gateway.usage.sql.pages.kept_pages import marks_of
from gateway.usage.sql.pages.kept_totals import KeptTotals, NotKept, Seen, Span
from gateway.usage.sql.pages.new_rows import NewRows
from gateway.usage.sql.pages.page_queries import PageFinder
from gateway.usage.sql.pages.wishes import Wish
from gateway.usage.sql.sums.day_blocks import Made, number_of
from gateway.usage.sql.sums.sum_queries import days_between, listed_query

KEPT_FROM_SECONDS = 0.03  # what took less is found again
ASKED_LATELY_SECONDS = 3 * 86_400.0
LOOK_SECONDS = 5.0  # between looks for new rows, and whether the date has changed
PAUSE_SECONDS, MOST_PAUSE_SECONDS = 60.0, 3_600.0  # after failures; twice as long each time
MOST_SPANS, MOST_GROUPS = 24, 2_000_000  # of all together: some 200 MB of temporary files
MOST_NEW_ROWS = 100_000  # of more, the sums are read anew
_MOST_NEW_DAYS = 3  # that have begun since, and are not made yet
_REST_SECONDS, _MOST_REST_SECONDS = 0.001, 0.5  # between helpings, and between spans
_RESTS = 4  # times as long as it has worked: pages are found meanwhile
_WAIT_SECONDS = 1.0  # for a thread that adds rows


class _Kept(NamedTuple):
    wish: Wish  # that it was made for
    totals: KeptTotals


class KeptReport(NamedTuple):
    """One report's part of them, for a `PageFinder`."""

    spans: KeptSpans
    connection: Connection
    dialect: str
    groups: Groups
    listed: Made

    def held(self, usage: UsageQuery) -> AbstractContextManager[KeptTotals | None]:
        return self.spans.held(self.connection, self.dialect, usage, self.groups, self.listed)

    def asked(self, usage: UsageQuery, seconds: float) -> None:
        self.spans.asked(usage, self.groups, seconds)


class KeptSpans:
    """Those asked for last, for threads."""

    def __init__(self, database: Callable[[], Database], clock: Callable[[], float] | None = None) -> None:
        """`database`: called once, when there is something to make."""
        self._open = database
        self._database: Database | None = None
        self._clock = clock or time.time
        self._kept: list[_Kept] = []
        self._refused: dict[tuple[UsageQuery, Groups], Span] = {}  # what could not be kept, as it was
        self.wishes: dict[Wish, float] = {}  # when each was asked for
        self._put_off: dict[Wish, tuple[float, float]] = {}  # after a failure: until when, and how long the next time
        self._new: list[Wish] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = self._is_making = False

    @contextmanager
    def held(
        self,
        connection: Connection,
        dialect: str,
        usage: UsageQuery,
        groups: Groups,
        listed: Made,
        rest: Callable[[], None] = lambda: None,
    ) -> Iterator[KeptTotals | None]:
        """Hold a span's totals with every row of this snapshot.

        None: nothing is kept of it. `rest`: see `KeptTotals.fill`.
        """
        new = NewRows(connection, dialect)
        changes = marks_of(connection).changes if self._kept else None
        are_its = partial(_is_of, frozenset(days_between(usage, listed)), listed, changes)
        kept = self._best(usage, groups, are_its)
        if kept is None:
            yield None
            return
        with kept.totals.held(_WAIT_SECONDS) as is_ours:
            # Another may have added days meanwhile that are not asked for here.
            is_whole = is_ours and are_its(kept.totals.span) and self._catch_up(kept, usage, listed, new, rest)
            try:
                yield kept.totals if is_whole else None
            except sqlite3.Error:  # it may have to write before it can read, where there is no room
                self._drop(partial(is_, kept))

    def _best(self, usage: UsageQuery, groups: Groups, are_its: Callable[[Span], bool]) -> _Kept | None:
        with self._changed:
            found = [kept for kept in self._kept if kept.wish.is_of(usage, groups) and are_its(kept.totals.span)]
            return max(found, key=lambda kept: len(kept.totals.span.days), default=None)

    def _catch_up(self, kept: _Kept, usage: UsageQuery, listed: Made, new: NewRows, rest: Callable[[], None]) -> bool:
        """Add new rows.

        False: they cannot be distinguished from others, and the totals are dropped unless they hold for fewer days; or
        another thread saw more in a later snapshot, where the other part of the answer is of this one.
        """
        totals = kept.totals
        begun = {*days_between(usage, listed)} - totals.span.days
        days = totals.span.open_days | begun
        mark, rows = totals.seen
        count = new.count(totals.span.open_days)
        if count < rows:
            return not begun and not totals.is_by_time
        count += new.count(begun)
        if count == rows:
            return True
        # Rows of before may have been added to the sums, or renumbered.
        is_told = mark is not None and count - rows <= MOST_NEW_ROWS and rows + new.count_since(mark, days) == count
        if not is_told and begun:
            return False
        try:
            if not is_told:
                raise NotKept
            with closing(new.of_groups(usage, kept.wish.groups, mark, days)) as found:
                totals.add(found, Seen(new.mark(), count), days, rest)
        except BaseException as error:
            self._drop(partial(is_, kept))
            if isinstance(error, NotKept | sqlite3.Error | OverflowError):
                return False
            raise
        return True

    def asked(self, usage: UsageQuery, groups: Groups, seconds: float) -> None:
        """Make totals for the next one, where a page took long.

        And go on making them while they are asked for.
        """
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
                thread = threading.Thread(target=self._work, name="ledger-ahead", daemon=True)
                with suppress(RuntimeError):  # there may be no more of them
                    thread.start()
                    self._thread = thread

    def wait(self, seconds: float) -> bool:
        """Wait until what was asked for is made; False: it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._new and not self._is_making, seconds)

    def close(self, seconds: float) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds / 2)  # it ends by itself, unless the database is slow
        if self._database is not None:
            self._database.cut()
        if self._thread is not None:
            self._thread.join(seconds / 2)
        if self._database is not None:
            self._database.close()
        self._drop(lambda _: True)

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    # -- on its thread

    def _work(self) -> None:
        looks: list[Wish] = []
        while not self._is_closed:
            wish = self._next(looks)
            if wish is None:
                continue
            begun = time.monotonic()
            self.make(wish)
            rest = min(_RESTS * (time.monotonic() - begun), _MOST_REST_SECONDS)
            with self._changed:
                self._is_making = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_closed or self._new, rest)

    def _next(self, looks: list[Wish]) -> Wish | None:
        """Take what is new; else what is to be looked at now and then."""
        with self._changed:
            if not self._new and not looks and not self._is_closed:
                self._changed.wait(LOOK_SECONDS)
                looks += [wish for wish in self.wishes if wish.days is not None]
            self._is_making = bool(self._new)
            if self._new:
                return self._new.pop(0)
            return looks.pop(0) if looks else None

    def make(self, wish: Wish) -> None:
        """Make today's totals, unless they are there.

        Or were not asked for lately.
        """
        if self.wishes.get(wish, 0.0) < self._clock() - ASKED_LATELY_SECONDS:
            with self._changed:
                self.wishes.pop(wish, None)
            self._put_off.pop(wish, None)
            self._drop(lambda kept: kept.wish == wish)
            return
        again_at, pause = self._put_off.pop(wish, (0.0, PAUSE_SECONDS))
        if self._clock() < again_at:
            self._put_off[wish] = again_at, pause
            return
        try:
            with self._changed:
                if self._is_closed:
                    return
                database = self._database = self._database or self._open()
            with database.begin() as connection:
                self._make(connection, database.dialect, wish)
        except NotKept:  # too many groups, or ids of two types: `_refused` knows
            pass
        except Exception:  # a disk without room, a database that is away: pages are found without it, and we go on
            self._put_off[wish] = self._clock() + pause, min(2 * pause, MOST_PAUSE_SECONDS)

    def _make(self, connection: Connection, dialect: str, wish: Wish) -> None:
        self._rest()  # what begins after all was cut is cut here
        usage, groups = wish.usage_on(self._today()), wish.groups
        listed = Made.of(connection.scalars(listed_query(usage)))
        days = frozenset(days_between(usage, listed))
        new = NewRows(connection, dialect)
        changes = marks_of(connection).changes
        if changes is None or not days:
            return
        with self.held(connection, dialect, usage, groups, listed, self._rest) as there:
            if there is not None:
                return
        mark = new.mark() if new.are_known() else None
        span = Span(days, frozenset(day for day in days if _goes_on(day, listed)), changes)
        if (span.open_days and mark is None) or self._refused.get((usage, groups)) == span:
            return
        finder = PageFinder(groups, WHOLE, listed, connection, dialect)
        totals = KeptTotals(finder.of_times(), span, Seen(mark, new.count(span.open_days)))
        try:
            with finder.by_ids(usage) as found:
                totals.fill(found, self._rest)
        except BaseException as error:
            totals.close()
            if isinstance(error, NotKept):
                self._refused.pop((usage, groups), None)
                self._refused = {(usage, groups): span} | dict(list(self._refused.items())[: MOST_SPANS - 1])
            raise
        self._keep(_Kept(wish, totals))

    def _rest(self) -> None:
        if self._is_closed:
            raise TimeoutError("nobody asks any more")
        time.sleep(_REST_SECONDS)

    def _keep(self, new: _Kept) -> None:
        """Keep totals in place of older ones.

        And of those asked for longest ago: they are looked at no more until the next time, or each would take another's
        place again and again.
        """

        def is_older(kept: _Kept) -> bool:
            return kept.wish == new.wish or kept.totals.span.changes != new.totals.span.changes

        self._drop(is_older)
        with self._changed:
            self._kept.append(new)
        if _groups_of(self._kept) > MOST_GROUPS:
            for kept in self._kept.copy():
                kept.totals.count()
        with self._changed:
            kept_on = sorted(self._kept, key=lambda kept: self.wishes.get(kept.wish, 0.0))
            while (self._is_closed and kept_on) or len(kept_on) > MOST_SPANS or _groups_of(kept_on) > MOST_GROUPS:
                self.wishes.pop(kept_on.pop(0).wish, None)
        self._drop(lambda kept: kept not in kept_on)

    def _drop(self, is_dropped: Callable[[_Kept], bool]) -> None:
        with self._changed:
            dropped = [kept for kept in self._kept if is_dropped(kept)]
            self._kept = [kept for kept in self._kept if kept not in dropped]
        for kept in dropped:
            kept.totals.close()


def _groups_of(kept: Iterable[_Kept]) -> int:
    return sum(each.totals.groups for each in kept)


def _goes_on(day: int, listed: Made) -> bool:
    return number_of(day, 0) not in listed.blocks


def _is_of(days: frozenset[int], listed: Made, changes: Hashable, span: Span) -> bool:
    """Whether it is of these days, but for some begun since."""
    begun = days - span.days
    is_near = span.changes == changes and span.days <= days and len(begun) <= _MOST_NEW_DAYS
    return is_near and all(_goes_on(day, listed) for day in begun)
