"""Questions that do not wait for each other: threads of their own, bounds for each caller, an end for who leaves."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ledgerkit import OpenLedger, admission, serve, settlement, sqlite_url

from gateway.errors import QueryFailed, TooManyQueries
from gateway.types import Id, Secret
from gateway.usage import UsageQuery
from gateway.usage.sql import queries
from gateway.usage.sql.deadline import Deadline
from gateway.usage.sql.lanes import Lane
from gateway.usage.sql.reader import MOST_EXPORTS, MOST_EXPORTS_OF_ONE, Reader
from gateway.usage.sql.rows import row_of
from gateway.usage.sql.rows_store import Store
from gateway.usage.sql.sums.day_blocks import Made
from gateway.usage.sql.sums.sum_queries import report_queries

EVER = UsageQuery(date.min, date.max)


class Gate:
    """Work that goes on until it is opened, or its deadline is over."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.open = threading.Event()
        self.deadline: Deadline | None = None

    def __call__(self, deadline: Deadline, _: float) -> str:
        self.deadline = deadline
        self.began.set()
        while not self.open.wait(0.005):
            if deadline.is_over():
                raise QueryFailed("over")
        return "done"


@asynccontextmanager
async def lane(threads: int = 1, **bounds: int) -> AsyncIterator[Lane]:
    opened = Lane("tests", threads, **bounds)
    yield opened
    await asyncio.to_thread(opened.close, 5)


def run(on: Lane, work: Any, *, waiting: float = 20, seconds: float = 20, limit: float = 20) -> asyncio.Task[Any]:
    return asyncio.ensure_future(on.run(work, lambda: Deadline(limit), waiting_seconds=waiting, seconds=seconds))


async def began(gate: Gate) -> None:
    await asyncio.to_thread(gate.began.wait, 10)


async def test_who_waits_too_long_for_a_thread_is_told_so_and_never_begun() -> None:
    async with lane() as one:
        running, waiting = Gate(), Gate()
        first = run(one, running)
        await began(running)
        with pytest.raises(TooManyQueries):
            await run(one, waiting, waiting=0.05)
        running.open.set()
        assert await first == "done"
        after = Gate()
        after.open.set()
        assert await run(one, after) == "done"
        assert not waiting.began.is_set()


async def test_who_has_begun_is_not_refused_for_waiting() -> None:
    async with lane() as one:
        gate = Gate()
        task = run(one, gate, waiting=0.05)
        await began(gate)
        await asyncio.sleep(0.1)  # past the time that it might have waited
        gate.open.set()
        assert await task == "done"


async def test_who_leaves_ends_the_work_and_frees_the_thread() -> None:
    async with lane() as one:
        gate = Gate()
        task = run(one, gate, limit=300)
        await began(gate)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        after = Gate()
        after.open.set()
        assert await run(one, after) == "done"
        assert gate.deadline is not None
        assert gate.deadline.is_over()


async def test_work_that_does_not_keep_its_deadline_keeps_nobody() -> None:
    """A driver that hangs where nothing reaches it: the caller is told all the same, and so is a stop."""
    stuck = threading.Event()
    one = Lane("tests", 1)
    with pytest.raises(QueryFailed, match="no answer within"):
        await one.run(lambda *_: stuck.wait(30), lambda: Deadline(1), waiting_seconds=0.05, seconds=0.05)
    start = time.monotonic()
    await asyncio.to_thread(one.close, 0.05)
    assert time.monotonic() - start < 5
    stuck.set()
    with pytest.raises(QueryFailed, match="closed"):
        await run(one, Gate())


async def test_places_are_bounded_for_each_and_for_all_and_given_back() -> None:
    async with lane(most=3, most_of_one=2) as one:
        with ExitStack() as held:
            held.enter_context(one.place("a"))
            held.enter_context(one.place("a"))
            with pytest.raises(TooManyQueries), one.place("a"):
                pass
            held.enter_context(one.place("b"))
            with pytest.raises(TooManyQueries), one.place("c"):
                pass
        for _ in range(5):
            with one.place("a"), one.place("a"):
                pass


async def test_totals_do_not_wait_behind_reports_or_exports(url: Secret, open_ledger: OpenLedger) -> None:
    """Every thread for reports and exports is busy: what a limit waits for is there all the same."""
    ledger = await open_ledger(url)
    serve(ledger, 3)
    await ledger.flushed(20)
    reader = ledger.reader
    gates = [Gate() for _ in range(3)]
    tasks = [run(on, gate) for on, gate in zip((reader._reports, reader._reports, reader._exports), gates, strict=True)]
    for gate in gates:
        await began(gate)
    waiting = [asyncio.ensure_future(reader.report(EVER, whose=str(number))) for number in range(10)]
    async with asyncio.timeout(20):
        assert (await reader.counted_on("user:42", 0)).requests == 3
        assert (await reader.used_by_key("laptop", 0)).requests == 3
    for gate in gates:
        gate.open.set()
    assert {report.totals.requests for report in await asyncio.gather(*waiting)} == {3}
    await asyncio.gather(*tasks)


async def test_an_export_has_a_place_as_long_as_it_runs(tmp_path: Path) -> None:
    reader = Reader(sqlite_url(tmp_path / "usage.db"))
    with ExitStack() as held:
        for _ in range(MOST_EXPORTS_OF_ONE):
            held.enter_context(reader.exporting("a"))
        with pytest.raises(TooManyQueries), reader.exporting("a"):
            pass
        for number in range(MOST_EXPORTS - MOST_EXPORTS_OF_ONE):
            held.enter_context(reader.exporting(str(number)))
        with pytest.raises(TooManyQueries), reader.exporting("b"):
            pass
    await reader.close()


async def test_no_table_is_nothing_used_for_who_may_come_first(url: Secret, open_ledger: OpenLedger) -> None:
    """`gateway usage` before any gateway has run; in a running one a table that is gone is an error."""
    ledger = await open_ledger(url)
    await ledger.close()
    with closing(Store(url)) as store, store._database.begin() as connection:
        connection.exec_driver_sql("drop table ai_usage")
    fresh, running = Reader(url, may_be_fresh=True), Reader(url)
    assert (await fresh.report(EVER, "model")).totals.requests == 0
    with pytest.raises(QueryFailed, match="ai_usage"):
        await running.report(EVER)
    await fresh.close()
    await running.close()


@pytest.mark.parametrize("whose", [{"user": 42}, {"user": "bob"}, {"organisation": 10}, {"key": 7}, {}])
async def test_a_helping_of_an_export_costs_the_same_however_many_rows_there_are(
    whose: dict[str, Id], tmp_path: Path
) -> None:
    """Counted in steps of SQLite's machine: of a number's two forms, too, each is walked along an index."""
    path = tmp_path / "usage.db"
    with closing(Store(sqlite_url(path))) as store:
        store.prepare()
        few = [
            _helping_steps(store, path, rows, UsageQuery(date.min, date.max, **whose), whose)
            for rows in (2_000, 16_000)
        ]
    assert few[1] < 1.5 * few[0]


async def test_a_users_report_costs_the_same_however_many_users_there_are(tmp_path: Path) -> None:
    """The user's own sums are looked up day by day; nobody goes through whole days for them."""
    url, day = sqlite_url(tmp_path / "usage.db"), date(1970, 1, 1)
    with closing(Store(url)) as store:
        store.prepare()
        steps = []
        for first, last in ((0, 100), (100, 2_000)):
            admitted = [admission(user=number, organisation=number) for number in range(first, last)]
            store.insert([row_of(each, settlement(each.request_id))._replace(time_ms=1) for each in admitted])
            usage = UsageQuery(day, day, user=7)
            query = next(report_queries(usage, ("model",), Made([0], frozenset())))
            steps.append(_steps(store, tmp_path / "usage.db", query, 1))
    assert steps[1] <= steps[0] + 5


def _helping_steps(store: Store, path: Path, rows: int, usage: UsageQuery, whose: dict[str, Id]) -> int:
    names = {"user": "user", "organisation": "organisation", "key": "key"}
    admitted = [admission(time=n / 1_000, **{names[name]: value for name, value in whose.items()}) for n in range(rows)]
    store.insert([row_of(each, settlement(each.request_id)) for each in admitted])
    days = range(1) if whose.keys() & {"user", "organisation"} else None
    query = queries.export_query(usage, queries.Position(100, ""), 500, days)
    return _steps(store, path, query, 500)


def _steps(store: Store, path: Path, query: Any, rows: int) -> int:
    statement = str(query.compile(store._database.engine, compile_kwargs={"literal_binds": True}))
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(count, 10)
        assert len(connection.execute(statement).fetchall()) == rows
    return steps
