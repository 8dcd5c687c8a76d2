"""Read the ledger from the event loop, within deadlines.

On threads and connections of their own.

What a query finds is what has been moved to the database, in normal running everything that ended up to a second ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.errors import DatabaseAway, QueryFailed
from gateway.types import Id, Secret, id_text
from gateway.usage.receipts import ReceiptQuery, RequestRecord
from gateway.usage.reports import Group, Groups, LimitScope, Totals, UsageQuery, UsageReport
from gateway.usage.row_pages import Page, Paging, cut, page_of
from gateway.usage.sql import queries, receipt_queries, walks
from gateway.usage.sql.database import CONNECT_SECONDS, PING_SECONDS, Database
from gateway.usage.sql.deadline import Deadline
from gateway.usage.sql.lanes import Lane
from gateway.usage.sql.long_ids import hash_in
from gateway.usage.sql.pages.kept_pages import Kept, state_of
from gateway.usage.sql.pages.kept_spans import KeptReport, KeptSpans
from gateway.usage.sql.pages.page_queries import PageFinder
from gateway.usage.sql.rows import id_of
from gateway.usage.sql.sums import sum_queries as sums
from gateway.usage.sql.sums.day_blocks import Made
from gateway.usage.sql.sums.sum_tables import CACHED, daily
from gateway.usage.sql.table import ai_usage

QUERY_SECONDS = 10.0
MAKING_SECONDS = 120.0  # what is kept for later, on a busy machine
EXPORTED_AT_ONCE = 500
MOST_REPORTS, MOST_REPORTS_OF_ONE = 32, 4  # being made or waiting
MOST_EXPORTS, MOST_EXPORTS_OF_ONE = 16, 2
WAITING_SECONDS = 5.0  # for a thread
_CLOSE_SECONDS = 1.0

T = TypeVar("T")


class Reader:
    """Serve reports, exports and limits' totals.

    They never wait behind each other.

    Every method raises QueryFailed where the database gives no answer; those that say `whose` TooManyQueries where too
    many are asked for, by that caller or by all. `may_be_fresh`: no table means that nothing was used, as before a
    gateway has run; in a running gateway it is an error.
    """

    def __init__(
        self,
        url: Secret,
        *,
        query_seconds: float = QUERY_SECONDS,
        may_be_fresh: bool = False,
        latest: Callable[[], Secret] | None = None,
    ) -> None:
        """`latest`: see `Database`."""
        self._database = Database(url, read_only=True, statement_seconds=query_seconds, latest=latest)
        # What a query may take that has first to find its connection dead, and to make another.
        self._most_seconds = PING_SECONDS + 2 * CONNECT_SECONDS + query_seconds + 2
        self._totals = Lane("totals", 2)
        self._reports = Lane("reports", 2, most=MOST_REPORTS, most_of_one=MOST_REPORTS_OF_ONE)
        self._exports = Lane("exports", 1, most=MOST_EXPORTS, most_of_one=MOST_EXPORTS_OF_ONE)
        self._may_be_fresh = may_be_fresh
        self._away_at, self._away_why = 0.0, ""
        self._has_sums = False  # as far as is known
        self._kept = Kept[Page]()
        self._kept_rows = Kept[list[Any]]()
        self._spans = KeptSpans(lambda: Database(url, read_only=True, statement_seconds=MAKING_SECONDS, latest=latest))

    async def report(self, usage: UsageQuery, *groups: Group, whose: str = "") -> UsageReport:
        """Return totals, and rows by none, one or two groups."""
        with self._reports.place(whose):
            return await self._ask(
                self._reports, lambda connection: queries.report_of(self._summed(connection, usage, groups), groups)
            )

    async def page(self, usage: UsageQuery, groups: Groups, wanted: Paging, *, whose: str = "") -> Page:
        """Return totals, and a page of rows.

        By none, one or two groups. Raises ValueError where no row is `wanted.after`.
        """
        with self._reports.place(whose):
            return await self._ask(self._reports, lambda connection: self._paged(connection, usage, groups, wanted))

    async def request(self, request_id: str) -> RequestRecord | None:
        """Return one request; None where there is no such row."""
        query = receipt_queries.request_query(request_id)
        found = await self._ask(self._totals, lambda connection: self._requests(connection, [query], 1))
        return found[0] if found else None

    async def requests(self, asked: ReceiptQuery, *, whose: str = "") -> list[RequestRecord]:
        """Return a page of requests, newest first."""
        with self._reports.place(whose):
            return await self._ask(self._reports, lambda connection: self._page(connection, asked))

    def exporting(self, whose: str) -> AbstractContextManager[None]:
        """Hold a place among exports within the block."""
        return self._exports.place(whose)

    async def export(self, usage: UsageQuery) -> AsyncGenerator[RequestRecord, None]:
        """Yield every request in order of time.

        A bounded number of them in memory.
        """
        after: queries.Position | None = None
        while True:
            records, after = await self._ask(self._exports, partial(self._helping, usage, after))
            for record in records:
                yield record
            if len(records) < EXPORTED_AT_ONCE:
                return

    async def limit_totals(self, by: LimitScope, since: float) -> dict[str, Totals]:
        """Return every scope's limit totals since then.

        In seconds since 1970; keys by id as text.
        """
        return await self._limit_totals(by, since, None)

    async def counted_on(self, scope: str, since: float) -> Totals:
        """What counts against one limiter's scope since then (seconds since 1970)."""
        return sum((await self._limit_totals("counted_on", since, scope)).values(), Totals())

    async def used_by_key(self, key: Id, since: float) -> Totals:
        """What counts against a key's own limits since then (seconds since 1970)."""
        return sum((await self._limit_totals("key", since, id_text(key))).values(), Totals())

    async def last_used(self, user: Id) -> dict[str, datetime]:
        """Return when each of a user's keys was last used.

        By its id as text.
        """
        rows = await self._ask(self._reports, lambda connection: self._last_used(connection, user))
        return {id_text(id_of(row.of)): datetime.fromtimestamp(row.time_ms / 1000, UTC) for row in rows}

    async def has_prepared(self, seconds: float) -> bool:
        """Wait until totals that took long are kept.

        False: they are not yet.
        """
        return await asyncio.to_thread(self._spans.wait, seconds)

    async def close(self) -> None:
        """End the queries that run."""
        self._database.cut()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for lane in (self._totals, self._reports, self._exports):
            lane.close(_CLOSE_SECONDS)
        self._spans.close(_CLOSE_SECONDS)
        self._database.close()

    async def _limit_totals(self, by: LimitScope, since: float, scope: str | None) -> dict[str, Totals]:
        since_ms, now_ms = round(since * 1000), round(time.time() * 1000)

        def totals(connection: Connection) -> dict[str, Totals]:
            asked = sums.limit_totals_queries(by, since_ms, scope, now_ms) if self._knows_sums(connection) else None
            return queries.limit_totals_of(
                self._all(connection, asked or [queries.limit_totals_query(by, since_ms, scope)]), by
            )

        return await self._ask(self._totals, totals)

    async def _ask(self, lane: Lane, work: Callable[[Connection], T]) -> T:
        return await lane.run(
            lambda deadline, asked_at: self._answer(work, deadline, asked_at),
            self._database.deadline,
            waiting_seconds=WAITING_SECONDS,
            seconds=self._most_seconds,
        )

    # -- on the threads

    def _answer(self, work: Callable[[Connection], T], deadline: Deadline, asked_at: float) -> T:
        if asked_at < self._away_at:  # what was waiting while another found out need not find out itself
            raise QueryFailed(self._away_why)
        try:
            with self._database.begin(deadline) as connection:
                return work(connection)
        except DatabaseAway as away:
            self._away_why, self._away_at = str(away), time.monotonic()
            raise QueryFailed(self._away_why) from None
        except (SQLAlchemyError, TimeoutError) as error:
            raise QueryFailed(self._database.describe(error)) from None

    def _helping(
        self, usage: UsageQuery, after: queries.Position | None, connection: Connection
    ) -> tuple[list[RequestRecord], queries.Position | None]:
        most = EXPORTED_AT_ONCE
        days = queries.days_of(usage, after, self._edges(connection))
        if days is None:
            rows = self._rows(connection, queries.export_query(usage, after, most, None))
        else:
            pieces = walks.spans(days.start, days.stop - 1)
            asked = (queries.export_query(usage, after, most, piece) for piece in pieces)
            rows = self._all(connection, asked, most)
        return self._with_prices(connection, rows), queries.position_of(rows[-1]) if rows else None

    def _page(self, connection: Connection, asked: ReceiptQuery) -> list[RequestRecord]:
        if asked.user is None:
            return self._requests(connection, [receipt_queries.requests_query(asked, None)], asked.limit)
        oldest, newest = self._edges(connection)
        if asked.after is not None:
            newest = connection.scalar(receipt_queries.time_of_query(asked.after))
            oldest = None if newest is None else oldest
        days = receipt_queries.days_of(asked, (oldest, newest))
        pieces = walks.spans(days.start, days.stop - 1, newest_first=True)
        found = (receipt_queries.requests_query(asked, piece) for piece in pieces)
        return self._requests(connection, found, asked.limit)

    def _requests(self, connection: Connection, asked: Iterable[Any], most: int) -> list[RequestRecord]:
        return self._with_prices(connection, self._all(connection, asked, most))

    def _with_prices(self, connection: Connection, rows: Sequence[Any]) -> list[RequestRecord]:
        of_prices = receipt_queries.prices_query(rows)
        known = {} if of_prices is None else {row.id: row.price for row in connection.execute(of_prices)}
        return [receipt_queries.request_of(row, known) for row in rows]

    def _last_used(self, connection: Connection, user: Id) -> Sequence[Any]:
        """Query rows of each key's last day alone.

        All of them where there are no sums.
        """
        if not self._knows_sums(connection):
            return self._rows(connection, queries.last_used_query(user, None))
        days = self._rows(connection, sums.last_days_query(user, Made.of(connection.scalars(sums.all_listed_query()))))
        last = sorted({row.day_ms // queries.DAY_MS for row in days})
        found = [queries.last_used_query(user, None), *([queries.last_used_query(user, last)] if last else [])]
        return self._all(connection, found)

    def _summed(self, connection: Connection, usage: UsageQuery, groups: Groups) -> Sequence[Any]:
        """Query the sums, or the rows where there are none.

        A database that no gateway has migrated yet.
        """
        if not self._knows_sums(connection):
            return self._rows(connection, queries.report_query(usage, groups))
        listed = Made.of(connection.scalars(sums.listed_query(usage)))
        return self._all(connection, sums.report_queries(usage, groups, listed))

    def _paged(self, connection: Connection, usage: UsageQuery, groups: Groups, wanted: Paging) -> Page:
        """Have the database order and cut a page.

        The whole report where there is no group, or a row that is not in the sums yet.
        """
        can_order = bool(groups) and self._knows_sums(connection)
        if not can_order or connection.execute(sums.unsummed_query(usage)).first() is not None:
            return page_of(queries.report_of(self._summed(connection, usage, groups), groups), wanted)
        begun, asked = time.monotonic(), (usage, groups, wanted)
        listed = Made.of(connection.scalars(sums.listed_query(usage)))
        state = state_of(connection, usage, groups, listed)
        page = None if state is None else self._kept.get(asked, state)
        if page is None:
            page = self._found(connection, usage, groups, wanted, listed)
            if state is not None:
                seconds = time.monotonic() - begun
                self._kept.keep(asked, state, page, rows=len(page.report.rows), seconds=seconds)
        return page

    def _found(self, connection: Connection, usage: UsageQuery, groups: Groups, wanted: Paging, listed: Made) -> Page:
        dialect = self._database.dialect
        kept = KeptReport(self._spans, connection, dialect, groups, listed)
        finder = PageFinder(groups, wanted, listed, connection, dialect, kept, self._kept_rows)
        rows = queries.rows_of(self._whole(connection, finder.rows(usage)), groups)
        if finder.totals is not None:
            totals = Totals(*finder.totals)
        else:
            totals = queries.report_of(self._all(connection, sums.report_queries(usage, (), listed)), ()).totals
        return cut(UsageReport(totals, rows), wanted.limit)

    def _knows_sums(self, connection: Connection) -> bool:
        """Whether sums are there, as we read them.

        Asked of a database that no gateway of this version has migrated yet.
        """
        self._has_sums = self._has_sums or _has_column(connection, daily.c[CACHED])
        return self._has_sums

    def _edges(self, connection: Connection) -> tuple[int | None, int | None]:
        rows = self._rows(connection, walks.edges_query())
        return (rows[0].oldest, rows[0].newest) if rows else (None, None)

    def _all(self, connection: Connection, asked: Iterable[Any], most: int | None = None) -> Sequence[Any]:
        """Return the rows of one query after another, until there are enough."""
        rows: list[Any] = []
        for query in asked:
            rows += self._rows(connection, query)
            if most is not None and len(rows) >= most:
                return rows[:most]
        return rows

    def _rows(self, connection: Connection, query: Any) -> Sequence[Any]:
        try:
            rows = connection.execute(query).all()
        except DBAPIError as error:
            if self._may_be_fresh and not error.connection_invalidated and self._is_fresh():
                return []
            raise
        return self._whole(connection, rows)

    def _whole(self, connection: Connection, rows: Sequence[Any]) -> Sequence[Any]:
        hashes = queries.hashes_in(rows) if self._database.dialect != "sqlite" else []
        if not hashes:
            return rows
        whole = {row.hash: row.id for row in connection.execute(queries.long_ids_query(hashes))}
        return [_with_whole_ids(row, whole) for row in rows]

    def _is_fresh(self) -> bool:
        """Whether no gateway has made the table yet."""
        with contextlib.suppress(SQLAlchemyError, DatabaseAway), self._database.begin() as connection:
            return not inspect(connection).has_table(ai_usage.name)
        return False


def _has_column(connection: Connection, column: Column[Any]) -> bool:
    known = inspect(connection)
    table = column.table.name
    return known.has_table(table) and column.name in {each["name"] for each in known.get_columns(table)}


class _Whole(SimpleNamespace):
    """A row whose ids are whole, by columns' names or in order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(vars(self).values())


def _with_whole_ids(row: Any, whole: dict[str, str]) -> _Whole:
    return _Whole(**{name: whole.get(hash_in(value) or "", value) for name, value in row._asdict().items()})
