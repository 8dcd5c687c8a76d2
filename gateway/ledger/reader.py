"""Reading the ledger from the event loop: on threads and connections of their own, each query within its time.

What a query finds is what has been moved to the database, in normal running everything that ended up to a second ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger import queries
from gateway.ledger.database import Database
from gateway.ledger.faults import QueryFailed
from gateway.ledger.reports import Group, LimitScope, Totals, Usage, UsageRecord, UsageReport
from gateway.types import Id, Secret, id_text

QUERY_SECONDS = 10.0
EXPORTED_AT_ONCE = 500
_THREADS = 2

T = TypeVar("T")


class Reader:
    """Usage reports, exports and totals. Every method raises QueryFailed where the database gives no answer."""

    def __init__(self, url: Secret, *, query_seconds: float = QUERY_SECONDS) -> None:
        self._database = Database(url, read_only=True, statement_seconds=query_seconds)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ledger-reader")

    async def report(self, usage: Usage, group: Group | None = None) -> UsageReport:
        """The totals of what is asked for, and with `group` a row for each day, model or endpoint."""
        query = queries.report_query(usage, group)
        return await self._on_thread(lambda: queries.report_of(self._rows(query), group))

    async def export(self, usage: Usage) -> AsyncIterator[UsageRecord]:
        """Every request of what is asked for, in order of time, a bounded number of them in memory."""
        after: queries.Position | None = None
        while True:
            query = queries.export_query(usage, after, EXPORTED_AT_ONCE)
            records, after = await self._on_thread(lambda query=query: self._helping(query))  # type: ignore[misc]
            for record in records:
                yield record
            if len(records) < EXPORTED_AT_ONCE:
                return

    async def limit_totals(self, by: LimitScope, since: float) -> dict[str, Totals]:
        """What counts against limits since then (seconds since 1970), for every scope; keys by id as text."""
        return await self._limit_totals(by, since, None)

    async def counted_on(self, scope: str, since: float) -> Totals:
        """What counts against one limiter's scope since then (seconds since 1970)."""
        return sum((await self._limit_totals("counted_on", since, scope)).values(), Totals())

    async def used_by_key(self, key: Id, since: float) -> Totals:
        """What counts against a key's own limits since then (seconds since 1970)."""
        return sum((await self._limit_totals("key", since, id_text(key))).values(), Totals())

    async def close(self) -> None:
        """Waits for the queries that run; each ends within its time."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._database.close()

    async def _limit_totals(self, by: LimitScope, since: float, scope: str | None) -> dict[str, Totals]:
        query = queries.limit_totals_query(by, round(since * 1000), scope)
        return await self._on_thread(lambda: queries.limit_totals_of(self._rows(query), by))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # -- on the threads

    def _helping(self, query: Select[*tuple[Any, ...]]) -> tuple[list[UsageRecord], queries.Position | None]:
        rows = self._rows(query)
        return [queries.record_of(row) for row in rows], queries.position_of(rows[-1]) if rows else None

    def _rows(self, query: Select[*tuple[Any, ...]]) -> list[Row[*tuple[Any, ...]]]:
        try:
            with self._database.engine.connect() as connection:
                self._start_clock(connection)
                return list(connection.execute(query).all())
        except SQLAlchemyError as error:
            raise QueryFailed(self._database.describe(error)) from None

    def _start_clock(self, connection: Connection) -> None:
        self._database.start_clock(connection.connection.driver_connection)
