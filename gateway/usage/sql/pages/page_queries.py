"""Query one page of a report, ordered and cut by the database.

Rows that are not in the sums yet are few, and go with the whole report instead. Days and hours come first where no
amount is to: then as many days are looked at as the page has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Result,
    Select,
    Subquery,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    union_all,
)

from gateway.usage.reports import Groups, UsageQuery
from gateway.usage.row_pages import Paging
from gateway.usage.sql.long_ids import forms_in_columns
from gateway.usage.sql.pages.kept_pages import Kept, state_of
from gateway.usage.sql.pages.kept_totals import AT_ONCE, Keeping
from gateway.usage.sql.pages.page_ids import Key, behind, readings, time_of
from gateway.usage.sql.queries import start_of_day_ms
from gateway.usage.sql.rows import NONE, stored_forms
from gateway.usage.sql.sums.additions import DAY_MS, HOUR_MS
from gateway.usage.sql.sums.day_blocks import Made, number_of
from gateway.usage.sql.sums.ranks import AMOUNT_OF, BEHIND_QUOTE, Ranking, best_of, key_of, ranked_days, ranking_of
from gateway.usage.sql.sums.sum_queries import (
    AMOUNTS,
    PLACES,
    Part,
    days_between,
    part_of_rows,
    reads_rows,
    report_parts,
)

Query = Select[Any]

_OF_TIME = ("day", "hour")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_BY_CODE_POINT = "C"  # PostgreSQL's; the others compare so anyway


class PageFinder:
    """One page of a report.

    Long ids are as their columns have them.
    """

    def __init__(
        self,
        groups: Groups,
        wanted: Paging,
        listed: Made,
        connection: Connection,
        dialect: str,
        keeping: Keeping | None = None,
        kept_rows: Kept[list[Any]] | None = None,
    ) -> None:
        """`kept_rows`: of the days before one that goes on."""
        self._keeping, self._kept_rows = keeping, kept_rows
        self.totals: Sequence[int] | None = None  # of the whole report, where it is kept
        self._groups = groups
        self._wanted = wanted
        self._listed = listed
        self._connection = connection
        self._dialect = dialect
        self.places = PLACES[: len(groups)] + (PLACES[2:] if "endpoint" in groups else ())
        self._before: Any = None

    def rows(self, usage: UsageQuery) -> list[Any]:
        """Return the page's rows, and one more where there are more.

        In the order of `row_pages`; sums first, then what they are of. Raises ValueError where no row is
        `wanted.after`.
        """
        after = self._wanted.after
        most = None if self._wanted.limit is None else self._wanted.limit + 1
        day = None if after is None else self._begin_behind(after, usage)
        if most is None:
            return self._some(usage, None, self._listed)
        return self._first(usage, most, day)

    def _first(self, usage: UsageQuery, most: int, day: date | None) -> list[Any]:
        """Find the first rows, from this day on.

        None: of all.
        """
        found = list[Any]()
        ranking = ranking_of(self._groups, self._wanted.order)
        if ranking is not None and usage == UsageQuery(usage.from_day, usage.to_day):  # of everybody
            return self._ranked(usage, ranking, most)
        if not {*self._groups} & {*_OF_TIME}:
            return self._kept_or_found(usage, most)
        if self._wanted.order is not None:
            return self._most_of_time(usage, most)
        if reads_rows(usage, self._groups) and usage == UsageQuery(usage.from_day, usage.to_day):
            return self._first_hours(usage, most)
        for span in _growing(usage if day is None else replace(usage, from_day=day)):
            found += self._some(span, most - len(found), self._listed)
            if len(found) >= most:
                break
        return found

    def _most_of_time(self, usage: UsageQuery, most: int) -> list[Any]:
        """Merge the first rows of ended days and of the others."""
        ended, rest = self._parted(usage)
        if rest is None:
            return self._some(usage, most, self._listed)
        rows = self._kept_or_found(rest, most)
        if ended is not None:
            rows = sorted([*self._of_ended(ended, most), *rows], key=self._order)[:most]
        return rows

    def _parted(self, usage: UsageQuery) -> tuple[UsageQuery | None, UsageQuery | None]:
        """Split a span before its first day that goes on."""
        days = days_between(usage, self._listed)
        open_day = next((day for day in days if number_of(day, 0) not in self._listed.blocks), None)
        if open_day is None:
            return usage, None
        first = date.fromordinal(open_day + _EPOCH_DAY)
        ended = None if open_day == days[0] else replace(usage, to_day=first - timedelta(days=1))
        return ended, replace(usage, from_day=first)

    def _of_ended(self, ended: UsageQuery, most: int) -> list[Any]:
        behind_it = None if self._before is None else self._order(self._before)
        state = state_of(self._connection, ended, self._groups, self._listed)
        if self._kept_rows is None or state is None:
            return self._some(ended, most, self._listed)
        asked = (ended, self._groups, self._wanted.order, most, behind_it)
        rows = self._kept_rows.get(asked, state)
        if rows is None:
            begun = time.monotonic()
            rows = self._some(ended, most, self._listed)
            self._kept_rows.keep(asked, state, rows, rows=len(rows) - 1, seconds=time.monotonic() - begun)
        return rows

    def _order(self, row: Any) -> tuple[Any, ...]:
        """What a report's rows are ordered by, as `_keys` has it."""
        amounts = [-getattr(row, AMOUNT_OF[self._wanted.order])] if self._wanted.order else []
        times = [getattr(row, name) for name in self.places if not self._is_id(name)]
        ids = [getattr(row, name) for name in self.places if self._is_id(name)]
        return (*amounts, *times, -row.requests, *(part for text in ids for part in (text != NONE, text)))

    def _first_hours(self, usage: UsageQuery, most: int) -> list[Any]:
        """Look at everybody's first hours alone: a day has thousands of rows."""
        found = list[Any]()
        start, stop = start_of_day_ms(usage.from_day), start_of_day_ms(usage.to_day) + DAY_MS
        if self._before is not None:
            times = [int(getattr(self._before, name)) for name in self.places if not self._is_id(name)]
            start = max(times)  # of a day and an hour, the hour
        hours = 1
        while start < stop and len(found) < most:
            times_of = range(start, min(stop, start + hours * HOUR_MS))
            found += self._page_of([part_of_rows(usage, self._groups, times_of)], most - len(found))
            start, hours = times_of.stop, hours * 2
        return found

    def of_times(self) -> list[tuple[str, bool]]:
        """Name the columns that rows are of; which are times."""
        return [(name, not self._is_id(name)) for name in self.places]

    def by_ids(self, usage: UsageQuery) -> Result[Any]:
        """Query all rows in their ids' order, a few at a time."""
        parts = list(report_parts(usage, self._groups, self._listed))
        found = self._grouped(parts, are_quoted=False).subquery("found")
        columns = [found.c[name] for name in (*AMOUNTS, *self.places)]
        query = select(*columns).order_by(*(key.column for key in self._id_keys(found)))
        return self._connection.execute(query, execution_options={"yield_per": AT_ONCE})

    def _kept_or_found(self, usage: UsageQuery, most: int) -> list[Any]:
        """Return a page's rows, of totals that are kept where they are."""
        if self._keeping is None:
            return self._some(usage, most, self._listed)
        begun, rows = time.monotonic(), None
        with self._keeping.held(usage) as kept:
            if kept is not None:
                rows = kept.page(self._wanted.order, self._before, most)
                self.totals = None if kept.is_by_time else kept.totals
        if rows is not None:
            self._keeping.asked(usage, 0.0)
            return rows
        rows = self._some(usage, most, self._listed)
        self._keeping.asked(usage, time.monotonic() - begun)
        return rows

    def _ranked(self, usage: UsageQuery, ranking: Ranking, most: int) -> list[Any]:
        """Merge each day's own best.

        A day is read whole only where its list is not enough.
        """
        ended, rest = self._parted(usage)
        rows = [] if rest is None else self._kept_or_found(rest, most)
        days, unranked = ranked_days(self._listed, [] if ended is None else days_between(ended, self._listed))
        before = None if self._before is None else key_of(self._before, ranking)
        best = best_of(self._connection, ranking, days, before=before, most=most)
        whole = {*best.unread, *unranked}
        rows += [row for row in best.rows if getattr(row, ranking.day) // DAY_MS not in whole]
        if whole:
            rows += self._some(usage, most, self._listed.within(whole))
        return sorted(rows, key=lambda row: key_of(row, ranking))[:most]

    def _some(self, usage: UsageQuery, most: int | None, listed: Made) -> list[Any]:
        return self._page_of(list(report_parts(usage, self._groups, listed)), most)

    def _page_of(self, parts: Sequence[Part], most: int | None) -> list[Any]:
        if not parts:
            return []
        found = self._grouped(parts, are_quoted=self._are_quoted(parts)).subquery("found")
        keys = self._keys(found)
        columns = [found.c[name] for name in (*AMOUNTS, *self.places)]
        query = select(*columns).order_by(*(key.column.desc() if key.falls else key.column for key in keys))
        if self._before is not None:
            query = query.where(behind(keys))
        return list(self._connection.execute(query if most is None else query.limit(most)))

    def _begin_behind(self, after: str, usage: UsageQuery) -> date | None:
        """Look the row up; return its day, where it is of one."""
        for texts in readings(after, self._groups):
            of = dict(zip(self.places, texts, strict=True))
            times = [time_of(of[name]) for name in self.places if not self._is_id(name)]
            days = [date.min if time is None else time.date() for time in times]
            if all(usage.from_day <= day <= usage.to_day for day in days):
                asked = replace(usage, from_day=days[0], to_day=days[0]) if days else usage
                self._before = self._row(of, asked)
            if self._before is not None:
                return days[0] if days else None
        raise ValueError("`after` must be the `lastId` of a page of the same report.")

    def _row(self, of: dict[str, str | None], usage: UsageQuery) -> Any:
        parts = list(report_parts(usage, self._groups, self._listed))
        row = self._connection.execute(self._row_query(of, parts)).one() if parts else None
        return row if row is not None and row.found else None

    # -- as SQL

    def _grouped(self, parts: Sequence[Part], *, are_quoted: bool) -> Query:
        """Group the parts' sums.

        Parts of days have none in common; others are grouped once all are there. Where ids are quoted, those that
        differ only in their type come together.
        """
        if not are_quoted and (len(parts) == 1 or {*self._groups} & {*_OF_TIME}):
            grouped = [part.summed() for part in parts]
            return grouped[0] if len(grouped) == 1 else select(union_all(*grouped).subquery("parts"))
        at = _together(parts).c
        of = [at[name] for name in self.places]
        by = [self._unquoted(at[name]) if self._is_id(name) else at[name] for name in self.places] if are_quoted else of
        named = [func.max(at[name]).label(name) for name in self.places] if are_quoted else of  # numbers hold
        return select(*_sums(at), *named).group_by(*by)

    def _are_quoted(self, parts: Sequence[Part]) -> bool:
        for part in parts:
            ids = [self._by_code_point(column) for name, column in part.of.items() if self._is_id(name)]
            quoted = or_(false(), *(and_(column > NONE, column < BEHIND_QUOTE) for column in ids))
            if ids and self._connection.execute(part.found.add_columns(literal(1)).where(quoted).limit(1)).first():
                return True
        return False

    def _is_id(self, name: str) -> bool:
        place = PLACES.index(name)
        return place >= len(self._groups) or self._groups[place] not in _OF_TIME

    def _keys(self, found: Subquery) -> list[Key]:
        def key(name: str, *, falls: bool = False) -> Key:
            return Key(found.c[name], falls, getattr(self._before, name, None))

        keys = [key(AMOUNT_OF[self._wanted.order], falls=True)] if self._wanted.order else []
        keys += [key(name) for name in self.places if not self._is_id(name)]
        return [*keys, key("requests", falls=True), *self._id_keys(found)]

    def _id_keys(self, found: Subquery) -> list[Key]:
        keys = []
        for name in filter(self._is_id, self.places):
            of = Key(found.c[name], falls=False, value=getattr(self._before, name, None))
            keys.append(Key(case((of.column == NONE, 0), else_=1), falls=False, value=int(of.value != NONE)))
            keys.append(of._replace(column=self._by_code_point(of.column)))
        return keys

    def _row_query(self, of: dict[str, str | None], parts: Sequence[Part]) -> Query:
        """Query the sums of one row, by its groups as texts."""
        narrowed = []
        for part in parts:
            named = [column.in_(self._forms(name, of[name])) for name, column in part.of.items()]
            narrowed.append(part._replace(found=part.found.where(*named)))
        at = _together(narrowed).c
        return select(
            *_sums(at), *(func.max(at[name]).label(name) for name in self.places), func.count().label("found")
        )

    def _forms(self, name: str, text: str | None) -> Sequence[Any]:
        if self._is_id(name):
            return (NONE,) if text is None else forms_in_columns(stored_forms(text))
        time = time_of(text)
        return () if time is None else (round(time.timestamp() * 1000),)

    def _unquoted(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """An id's text.

        MariaDB compares texts as if they had no blanks at their end.
        """
        length = func.length if self._dialect == "sqlite" else func.char_length
        is_quoted = and_(func.substr(column, 1, 1) == NONE, length(column) > 1)
        text = case((is_quoted, func.substr(column, 2, length(column) - 2)), else_=column)
        return cast(text, LargeBinary) if self._dialect in ("mysql", "mariadb") else text

    def _by_code_point(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return column.collate(_BY_CODE_POINT) if self._dialect == "postgresql" else column


def _together(parts: Sequence[Part]) -> Subquery:
    plain = [part.plain() for part in parts]
    return (plain[0] if len(plain) == 1 else union_all(*plain)).subquery("parts")


def _sums(at: Any) -> list[Any]:
    return [func.coalesce(func.sum(at[name]), 0).label(name) for name in AMOUNTS]


def _growing(usage: UsageQuery) -> Iterator[UsageQuery]:
    """Yield its days, a few first."""
    first, length = usage.from_day, 1
    while first <= usage.to_day:
        last = first + timedelta(days=min(length - 1, (usage.to_day - first).days))
        yield replace(usage, from_day=first, to_day=last)
        if last == usage.to_day:
            return
        first, length = last + timedelta(days=1), length * 2
