"""Usage as it is asked for: whose, of which days, grouped; exports of any length; totals that rebuild limits."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgerkit import OpenLedger, admission, serve, settlement, sqlite_url

from gateway.errors import QueryFailed
from gateway.types import Secret
from gateway.usage import Ledger, Totals, UsageQuery
from gateway.usage.sql.queries import DAY_MS, start_of_day_ms
from gateway.usage.sql.reader import Reader
from gateway.usage.sql.rows import row_of
from gateway.usage.sql.rows_store import Store

DAY = date(2028, 2, 29)
NOON = datetime(2028, 2, 29, 12, tzinfo=UTC)


def record(ledger: Ledger, at: datetime = NOON, *, ends: dict[str, Any] | None = None, **fields: Any) -> str:
    admitted = admission(time=at.timestamp(), **fields)
    ledger.admit(admitted)
    ledger.settle(settlement(admitted.request_id, **(ends or {})))
    return admitted.request_id


@asynccontextmanager
async def reading(url: Secret, **settings: Any) -> AsyncIterator[Reader]:
    reader = Reader(url, **settings)
    try:
        yield reader
    finally:
        await reader.close()


async def test_days_are_utc_and_both_ends_count(url: Secret, open_ledger: OpenLedger) -> None:
    """The last millisecond of a leap day belongs to it, the first of the next month does not."""
    ledger = await open_ledger(url)
    edges = [
        datetime(2028, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2028, 2, 29, tzinfo=UTC),
        datetime(2028, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2028, 3, 1, tzinfo=UTC),
        datetime(2028, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2029, 1, 1, tzinfo=UTC),
    ]
    for edge in edges:
        record(ledger, edge)
    await ledger.flushed(20)

    async def requests(first: date, last: date) -> int:
        return (await ledger.reader.report(UsageQuery(first, last))).totals.requests

    assert await requests(DAY, DAY) == 2
    assert await requests(date(2028, 2, 1), DAY) == 3
    assert await requests(DAY, date(2028, 3, 1)) == 3
    assert await requests(date(2028, 12, 1), date(2028, 12, 31)) == 1
    assert await requests(date.min, date.max) == 6
    assert await requests(date(2028, 3, 2), date(2028, 3, 1)) == 0
    report = await ledger.reader.report(UsageQuery(date(2028, 2, 1), date(2029, 1, 31)), "day")
    assert [(row.of, row.totals.requests) for row in report.rows] == [
        ("2028-02-28", 1),
        ("2028-02-29", 2),
        ("2028-03-01", 1),
        ("2028-12-31", 1),
        ("2029-01-01", 1),
    ]


async def test_totals_and_rows_add_up(url: Secret, open_ledger: OpenLedger) -> None:
    """Requests, tokens of each kind and cost, in all and for each group, the busiest first."""
    ledger = await open_ledger(url)
    for _ in range(3):
        record(ledger, ends={"endpoint": "b", "served_model": "small"})
    record(ledger, ends={"endpoint": "a", "total_tokens": 100, "prompt_tokens": 60, "completion_tokens": 40})
    record(ledger, ends={"endpoint": None, "served_model": None, "outcome": "upstream_error", "cost_nano": 0})
    await ledger.flushed(20)
    by_endpoint = await ledger.reader.report(UsageQuery(DAY, DAY), "endpoint")
    assert by_endpoint.totals == Totals(5, 140, 88, 52, 4_000)
    assert by_endpoint.totals.cost == 0.000_004
    assert [(row.of, row.totals.requests) for row in by_endpoint.rows] == [("b", 3), (None, 1), ("a", 1)]
    assert by_endpoint.rows[2].totals == Totals(1, 100, 60, 40, 1_000)
    by_model = await ledger.reader.report(UsageQuery(DAY, DAY), "model")
    assert [(row.of, row.totals.requests) for row in by_model.rows] == [("small", 3), ("gpt-4o", 2)]
    assert (await ledger.reader.report(UsageQuery(DAY, DAY))).totals == by_model.totals == by_endpoint.totals
    assert await ledger.reader.report(UsageQuery(DAY, DAY, user="nobody"), "day") == type(by_model)(Totals(), ())


async def test_ids_compare_as_strings_and_keep_their_type(url: Secret, open_ledger: OpenLedger) -> None:
    """42 and "42" are one user; what was a number comes out as a number."""
    ledger = await open_ledger(url)
    record(ledger, user=42, organisation=7, key=1, model=5, ends={"served_model": None, "endpoint": 3})
    record(ledger, user="42", organisation="7", key="1", model="5", ends={"served_model": None, "endpoint": "3"})
    record(ledger, user="42x", organisation=None)
    await ledger.flushed(20)
    for whose in ({"user": 42}, {"user": "42"}, {"organisation": "7"}, {"key": 1}, {"model": "5"}):
        assert (await ledger.reader.report(UsageQuery(DAY, DAY, **whose))).totals.requests == 2
    grouped = await ledger.reader.report(UsageQuery(DAY, DAY, user="42"), "endpoint")
    assert [(row.of, row.model, row.totals.requests) for row in grouped.rows] == [(3, 5, 2)]
    exported = [(each.user, each.endpoint) async for each in ledger.reader.export(UsageQuery(DAY, DAY))]
    assert sorted(exported, key=repr) == sorted([(42, 3), ("42", "3"), ("42x", "openai-a")], key=repr)
    assert await ledger.reader.used_by_key("1", 0) == Totals(2, 20, 14, 6, 2_000)


async def test_interrupted_requests_count_as_requests(url: Secret, open_ledger: OpenLedger) -> None:
    """They were admitted: usage shows them, without tokens."""
    ledger = await open_ledger(url)
    ledger.admit(admission("gone", time=NOON.timestamp()))
    await ledger.close()
    ledger = await open_ledger(url)
    assert (await ledger.reader.report(UsageQuery(DAY, DAY))).totals == Totals(requests=1)


async def test_totals_for_limits_are_what_the_limiter_would_have_counted(url: Secret, open_ledger: OpenLedger) -> None:
    """Since a moment, for each scope; what no upstream answered was given back, and is not counted."""
    ledger = await open_ledger(url)
    since = NOON.timestamp()
    record(ledger, NOON - timedelta(milliseconds=1))
    record(ledger, NOON)
    record(ledger, NOON + timedelta(hours=1), key="other", counted_on="org:1")
    record(ledger, NOON, ends={"answered": False, "outcome": "upstream_error"})
    record(ledger, NOON, counted_on=None, ends={"answered": True, "outcome": "upstream_error", "status": 400})
    await ledger.flushed(20)
    one = Totals(1, 10, 7, 3, 1_000)
    assert await ledger.reader.limit_totals("counted_on", since) == {"user:42": one, "org:1": one}
    assert await ledger.reader.limit_totals("key", since) == {"laptop": one + one, "other": one}
    assert await ledger.reader.counted_on("user:42", since) == one
    assert await ledger.reader.counted_on("nothing", since) == Totals()
    assert await ledger.reader.used_by_key("laptop", since) == one + one


async def test_an_export_gives_each_request_once_in_order_of_time(url: Secret, open_ledger: OpenLedger) -> None:
    """Helping by helping, where many requests share a millisecond and a helping ends among them."""
    ledger = await open_ledger(url)
    ids = {record(ledger, NOON + timedelta(milliseconds=n // 700)) for n in range(1_500)}
    record(ledger, NOON, user="someone else")
    await ledger.flushed(20)
    exported = [each async for each in ledger.reader.export(UsageQuery(DAY, DAY, user=42))]
    assert {each.request_id for each in exported} == ids
    assert len(exported) == len(ids)
    assert [each.time for each in exported] == sorted(each.time for each in exported)
    assert exported[0].time == NOON
    assert (exported[0].cost_nano, exported[0].streamed, exported[0].total_tokens) == (1_000, False, 10)


def fill(url: Secret, count: int) -> None:
    store = Store(url)
    store.prepare()
    for start in range(0, count, 5_000):
        admitted = [admission(time=NOON.timestamp() + n / 1_000) for n in range(start, start + 5_000)]
        store.insert([row_of(each, settlement(each.request_id)) for each in admitted])
    store.close()


async def test_a_long_export_takes_little_memory_and_a_long_query_little_time(tmp_path: Path) -> None:
    """50,000 rows pass through a few at once; a question that takes longer than it may is broken off and told."""
    url = sqlite_url(tmp_path / "usage.db")
    fill(url, 50_000)
    async with reading(url) as reader:
        await reader.report(UsageQuery(DAY, DAY))
        count = peak_bytes = 0
        tracemalloc.start()
        async for _ in reader.export(UsageQuery(DAY, DAY)):
            count += 1
            if count == 10_000:  # looking on is slow, and by then all that will ever be held has been held
                _, peak_bytes = tracemalloc.get_traced_memory()
                tracemalloc.stop()
    assert count == 50_000
    assert 0 < peak_bytes < 3_000_000
    async with reading(url, query_seconds=0.001) as impatient:
        with pytest.raises(QueryFailed, match=r"interrupted|given up before"):
            await impatient.report(UsageQuery(DAY, DAY), "hour", "model")


async def test_queries_go_on_while_the_file_is_written(tmp_path: Path, open_ledger: OpenLedger) -> None:
    """A writer that holds the lock does not keep readers out, and readers do not keep it waiting."""
    url = sqlite_url(tmp_path / "usage.db")
    ledger = await open_ledger(url)
    serve(ledger, 5, time=NOON.timestamp())
    await ledger.flushed(20)
    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as writer:
        writer.execute("begin immediate")
        writer.execute("delete from ai_usage")
        assert (await ledger.reader.report(UsageQuery(DAY, DAY))).totals.requests == 5
        writer.execute("rollback")


async def test_a_query_that_the_server_does_not_answer_is_broken_off(postgres: Any, open_ledger: OpenLedger) -> None:
    """Someone holds a lock on the table: the question ends within its time, with words."""
    url = postgres.new_database()
    ledger = await open_ledger(url)
    await ledger.close()
    async with reading(url, query_seconds=0.05) as reader:
        with psycopg.connect(url.reveal()) as other:
            other.execute("lock table ai_usage in access exclusive mode")
            with pytest.raises(QueryFailed, match="statement timeout"):
                await reader.report(UsageQuery(DAY, DAY))
        assert (await reader.report(UsageQuery(DAY, DAY))).totals.requests == 0


async def test_no_database_is_an_error_and_no_empty_answer(tmp_path: Path) -> None:
    """Nothing there yet is told as such; asking does not make an empty file; a password is not in the words."""
    async with reading(sqlite_url(tmp_path / "none.db")) as reader:
        with pytest.raises(QueryFailed, match="unable to open database file"):
            await reader.report(UsageQuery(DAY, DAY))
    assert not (tmp_path / "none.db").exists()
    async with reading(Secret("postgresql://gw:hunter2secret@127.0.0.1:1/usage")) as reader:
        with pytest.raises(QueryFailed) as failed:
            await reader.report(UsageQuery(DAY, DAY))
    assert "127.0.0.1" in str(failed.value)
    assert "hunter2secret" not in f"{failed.value!r} {failed.value.__cause__!r}"


@settings(max_examples=300, deadline=None)
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_every_moment_is_within_its_own_day(moment: datetime) -> None:
    """Day edges are plain arithmetic: held against the calendar for any date."""
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert start_of_day_ms(moment.date()) <= milliseconds < start_of_day_ms(moment.date()) + DAY_MS
