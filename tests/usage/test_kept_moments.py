"""Kept totals at awkward moments: other days are asked for meanwhile, a disk is full, a server is another one."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from kit.postgres import PrivatePostgres
from ledgerkit import engine_of, sqlite_url
from sqlalchemy import text
from sumskit import Store
from test_kept_pages import rows_at
from test_kept_totals import execute
from test_pages import FIRST, PLAIN, SPAN, rows_with, told
from test_sums import roll

from gateway.types import Secret
from gateway.usage import Group, Totals, UsageQuery
from gateway.usage.row_pages import Page, Paging, page_of
from gateway.usage.sql.database import Database
from gateway.usage.sql.pages import kept_pages, kept_spans
from gateway.usage.sql.pages.kept_spans import KeptSpans
from gateway.usage.sql.pages.kept_totals import KeptTotals, NotKept, Seen, Span
from gateway.usage.sql.pages.new_rows import NewRows
from gateway.usage.sql.pages.wishes import Wish
from gateway.usage.sql.reader import Reader

PATIENCE_SECONDS = 60.0
PAIR: tuple[Group, ...] = ("user", "model")
ENDED = date(2027, 3, 18)  # days before it
UNTIL_18 = UsageQuery(SPAN.from_day, date(2027, 3, 19))  # that goes on
COST = Paging("cost", 10_000)


@pytest.fixture(autouse=True)
def _keeps_whatever_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_spans, "KEPT_FROM_SECONDS", 0.0)
    monkeypatch.setattr(kept_pages, "KEPT_FROM_SECONDS", 1000.0)


@pytest.fixture
def url(tmp_path: Any) -> Secret:
    return sqlite_url(tmp_path / "usage.db")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was found by kept totals."""
    found: list[Any] = []
    page = KeptTotals.page
    monkeypatch.setattr(KeptTotals, "page", lambda *asked: found.append(page(*asked)) or found[-1])
    return found


@pytest.fixture
async def reader(url: Secret) -> AsyncIterator[Reader]:
    reader = Reader(url)
    yield reader
    await reader.close()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[Any]]], None]:
    """Have something happen once, when a page's snapshot and totals are chosen, and before these are held."""

    def arrange(work: Callable[[], Awaitable[Any]]) -> None:
        left, held, loop = [work], KeptTotals.held, asyncio.get_running_loop()

        async def happen() -> None:
            await left.pop()()

        def interrupted(totals: KeptTotals, seconds: float) -> Any:
            if left and threading.current_thread().name != "ledger-ahead":
                happening = happen()
                asyncio.run_coroutine_threadsafe(happening, loop).result(PATIENCE_SECONDS)
            return held(totals, seconds)

        monkeypatch.setattr(KeptTotals, "held", interrupted)

    return arrange


async def prepare(reader: Reader, usage: UsageQuery, groups: tuple[Group, ...] = PAIR) -> None:
    await reader.page(usage, groups, COST)
    assert await reader.has_prepared(PATIENCE_SECONDS)


def filled(url: Secret) -> Store:
    store = Store(url)
    store.prepare()
    until_ms = round((FIRST + timedelta(days=18)).timestamp() * 1000)
    before = [row for row in rows_with(PLAIN, 90) if row["time_ms"] < until_ms]
    store.insert([*before, *rows_at(20, 18, "open-")])
    roll(store, ENDED)
    return store


async def check(reader: Reader, page: Page, usage: UsageQuery, groups: tuple[Group, ...] = PAIR) -> None:
    whole = await reader.report(usage, *groups)
    assert page.report.totals == whole.totals
    assert told(page.report.rows) == told(page_of(whole, COST).report.rows)


async def test_no_day_comes_in_that_another_asks_for_besides(url: Secret, reader: Reader, meanwhile: Any) -> None:
    """Totals up to the 18th take in the 19th for who asks for it: not for who had chosen them before."""
    with closing(filled(url)) as store:
        await prepare(reader, UNTIL_18)
        store.insert(rows_at(9, 19, "next-"))
        meanwhile(lambda: reader.page(SPAN, PAIR, COST))
        await check(reader, await reader.page(UNTIL_18, PAIR, COST), UNTIL_18)


async def test_a_day_that_began_is_not_passed_over_by_who_is_overtaken(
    url: Secret, reader: Reader, meanwhile: Any
) -> None:
    """As many rows came to a day after the look as there are of the next, which the totals have none of."""
    with closing(filled(url)) as store:
        await prepare(reader, UNTIL_18)
        store.insert([row | {"model": "other"} for row in rows_at(9, 19, "next-")])
        whole = await reader.report(SPAN, *PAIR)

        async def more() -> None:
            store.insert(rows_at(9, 18, "more-"))
            await reader.page(UNTIL_18, PAIR, COST)

        meanwhile(more)
        page = await reader.page(SPAN, PAIR, COST)
        assert page.report.totals == whole.totals
        assert told(page.report.rows) == told(page_of(whole, COST).report.rows)


@pytest.mark.parametrize("groups", [("user", "day"), ("day", "model"), ("hour", "user"), PAIR])
async def test_rows_and_totals_are_of_one_moment(
    groups: tuple[Group, ...], url: Secret, reader: Reader, meanwhile: Any, used: list[Any]
) -> None:
    """Where another has added rows meanwhile that came later, both have them, or neither has."""
    with closing(filled(url)) as store:
        await prepare(reader, SPAN, groups)

        async def more() -> None:
            store.insert(rows_at(9, 18, "more-"))
            await reader.page(SPAN, groups, COST)

        meanwhile(more)
        page = await reader.page(SPAN, groups, COST)
        assert used
        assert sum((row.totals for row in page.report.rows), Totals()) == page.report.totals


async def test_a_page_is_found_where_a_disk_is_full(
    url: Secret, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite may write pages that it has changed as late as it reads others."""

    def is_full(*_: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    with closing(filled(url)):
        await prepare(reader, SPAN)
        with monkeypatch.context() as patch:
            patch.setattr(KeptTotals, "page", is_full)
            await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)


def test_what_sqlite_cannot_count_is_not_kept() -> None:
    """Beyond 2^63 its sums would be inexact."""
    totals = KeptTotals([("of", False)], Span(frozenset(), frozenset(), 0), Seen(0, 0))
    most = (2**63 - 1,) * 7
    totals.fill([(*most, "a")], lambda: None)
    (row,) = totals.page("cost", None, 5)
    assert row[:7] == most
    with pytest.raises(NotKept):
        totals.add([(1, 0, 0, 0, 0, 0, 0, "a")], Seen(1, 1), frozenset(), lambda: None)
    totals.close()


async def test_costs_that_a_server_counts_further_are_right(postgres: PrivatePostgres) -> None:
    reader = Reader(url := postgres.new_database())
    with closing(filled(url)) as store:
        await prepare(reader, SPAN)
        for day in (18, 19):
            store.insert([row | {"cost_nano": 6 * 10**18 + 1} for row in rows_at(1, day, f"dear{day}-")])
            await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
    await reader.close()


async def test_a_day_is_one_row_however_many_there_are(url: Secret, reader: Reader) -> None:
    """Days that are not summed up yet, as after an upgrade: more of them than one statement names."""
    usage = UsageQuery(date(2026, 1, 1), date(2027, 12, 31))
    rows = rows_with(PLAIN, 1500)
    first_ms = rows[0]["time_ms"] - 400 * 86_400_000
    with closing(Store(url)) as store:
        store.prepare()
        store.insert([row | {"time_ms": first_ms + number * 6 * 3_600_000} for number, row in enumerate(rows)])
        whole = await reader.report(usage, "day")
        for order in (None, "cost", "requests"):
            page = await reader.page(usage, ("day",), Paging(order, 10_000))  # type: ignore[arg-type]
            assert told(page.report.rows) == told(page_of(whole, Paging(order)).report.rows)  # type: ignore[arg-type]
            assert page.report.totals == whole.totals


def test_the_thread_outlives_whatever_fails(url: Secret) -> None:
    """A clock that is set back makes a span begin before the first of all days."""
    today = date(2027, 3, 18)
    now = [datetime(2027, 3, 18, 12, tzinfo=UTC).timestamp()]
    spans = KeptSpans(lambda: Database(url, read_only=True, statement_seconds=60), lambda: now[0])
    with closing(filled(url)):
        ever = Wish.of(UsageQuery(date.min, today), PAIR, today)
        now[0] -= 86_400
        spans.wishes[ever] = now[0]
        spans.make(ever)
        spans.asked(SPAN, PAIR, 1.0)
        assert spans.wait(PATIENCE_SECONDS)
    spans.close(PATIENCE_SECONDS)


def test_what_is_made_when_all_is_closed_is_closed_as_well(url: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [datetime(2027, 3, 18, 12, tzinfo=UTC).timestamp()]
    spans = KeptSpans(lambda: Database(url, read_only=True, statement_seconds=60), lambda: now[0])
    made: list[KeptTotals] = []
    fill = KeptTotals.fill

    def filled_late(totals: KeptTotals, *rest: Any) -> None:
        fill(totals, *rest)
        made.append(totals)
        spans.close(0)

    monkeypatch.setattr(KeptTotals, "fill", filled_late)
    with closing(filled(url)):
        spans.wishes[wish := Wish(SPAN, PAIR, None)] = now[0]
        spans.make(wish)
    with made[0].held(PATIENCE_SECONDS) as is_open:
        assert not is_open


async def test_totals_of_fewer_days_hold_beside_those_of_more(url: Secret, reader: Reader, used: list[Any]) -> None:
    """Who asks for a longer span does not take away what is kept of a shorter one."""
    with closing(filled(url)):
        ended = UsageQuery(SPAN.from_day, ENDED - timedelta(days=3))
        for usage in (ended, SPAN):
            await prepare(reader, usage)
        used.clear()
        for usage in (ended, SPAN, ended):
            await check(reader, await reader.page(usage, PAIR, COST), usage)
        assert len(used) == 3


async def test_rows_that_another_server_numbered_are_no_new_ones(postgres: PrivatePostgres, used: list[Any]) -> None:
    """A dump brings rows with numbers that this server's transactions have yet to reach."""
    reader = Reader(url := postgres.new_database())
    with closing(filled(url)) as store:
        execute(url, "UPDATE ai_usage SET transaction_id = transaction_id + 1000000")
        await prepare(reader, SPAN)
        store.insert(rows_at(9, 18, "more-"))
        await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
        assert used
    await reader.close()


def backed_up(url: Secret) -> Callable[[], None]:
    """A copy of the database; what is returned puts it in its place."""
    name = url.reveal().partition("?")[0].rpartition("/")[2]
    elsewhere = Secret(url.reveal().replace(f"/{name}", "/postgres"))
    execute(elsewhere, f"CREATE DATABASE {name}_backup TEMPLATE {name}")

    def restore() -> None:
        execute(elsewhere, f"DROP DATABASE {name} WITH (FORCE)")
        execute(elsewhere, f"CREATE DATABASE {name} TEMPLATE {name}_backup")

    return restore


async def test_no_page_is_left_of_a_database_that_was_restored(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One late row was in the page, another comes after the restore: as many changes, and as many days."""
    monkeypatch.setattr(kept_pages, "KEPT_FROM_SECONDS", 0.0)
    ended = UsageQuery(SPAN.from_day, ENDED - timedelta(days=3))
    filled(url := postgres.new_database()).close()
    restore, reader = backed_up(url), Reader(url)
    for number, name in enumerate(("lost-", "again-")):
        with closing(Store(url)) as store:
            store.insert([row | {"cost_nano": number} for row in rows_at(1, 3, name)])
            roll(store, ENDED)
            for _ in range(2):
                await check(reader, await reader.page(ended, PAIR, COST), ended)
        if name == "lost-":
            restore()
    await reader.close()


async def test_nothing_is_left_of_a_database_that_was_restored(postgres: PrivatePostgres, used: list[Any]) -> None:
    """Rows that a backup has not are gone; as many others come, in transactions of the same numbers or others."""
    filled(url := postgres.new_database()).close()
    restore, reader = backed_up(url), Reader(url)
    with closing(Store(url)) as store:
        store.insert(rows_at(9, 18, "lost-"))
        await prepare(reader, SPAN)
    restore()
    with closing(Store(url)) as store:
        await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
        store.insert(rows_at(9, 18, "again-"))
        await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
        await prepare(reader, SPAN)
        used.clear()
        await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
        assert used
    await reader.close()


def test_a_transaction_that_goes_on_for_hours_costs_nothing(postgres: PrivatePostgres) -> None:
    """Only what is new is looked at, however long ago another began."""
    url = postgres.new_database()
    database, engine = Database(url, read_only=True, statement_seconds=60), engine_of(url)
    with closing(filled(url)) as store, closing(database), engine.begin() as connection:
        connection.execute(text("SELECT txid_current()"))
        for number in range(300):
            store.insert(rows_at(10, 18, f"later{number}-"))
        execute(url, "ANALYZE")
        with database.begin() as reading:
            mark = NewRows(reading, "postgresql").mark()
        store.insert(rows_at(9, 18, "more-"))
        with database.begin() as reading:
            day = round((FIRST + timedelta(days=18)).timestamp()) // 86_400
            assert NewRows(reading, "postgresql").count_since(mark, [day]) == 9
            looked_at = "SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class WHERE relname ^@ 'ai_usage'"
            assert reading.scalar(text(looked_at)) < 100
    engine.dispose()


async def test_groups_that_come_again_are_counted_once(
    url: Secret, reader: Reader, used: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many rows may come to the same groups: what is kept is not dropped for them."""
    with closing(filled(url)) as store:
        await prepare(reader, SPAN)
        monkeypatch.setattr(kept_spans, "MOST_GROUPS", 100)
        for number in range(20):
            store.insert(rows_at(20, 18, f"more{number}-"))
            await reader.page(SPAN, PAIR, COST)
        await prepare(reader, SPAN, ("organisation",))
        used.clear()
        await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
        assert used


def test_what_has_no_place_does_not_take_anothers_again_and_again(url: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three that are looked at each time, two have a place: those asked for last."""
    today = date(2027, 3, 19)
    now = [datetime(2027, 3, 19, 12, tzinfo=UTC).timestamp()]
    spans = KeptSpans(lambda: Database(url, read_only=True, statement_seconds=60), lambda: now[0])
    made: list[Any] = []
    fill = KeptTotals.fill
    monkeypatch.setattr(KeptTotals, "fill", lambda *asked: made.append(asked) or fill(*asked))
    monkeypatch.setattr(kept_spans, "MOST_GROUPS", 60)
    with closing(filled(url)):
        wishes = [Wish.of(UsageQuery(today - timedelta(days=days), today), PAIR, today) for days in (14, 13, 12)]
        for number, wish in enumerate(wishes):
            spans.wishes[wish] = now[0] + number
        for _ in range(3):
            for wish in [*spans.wishes]:
                spans.make(wish)
        assert len(made) == 3
        assert [*spans.wishes] == wishes[1:]
    spans.close(PATIENCE_SECONDS)


async def test_a_page_is_found_where_no_thread_can_be_had(
    url: Secret, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if thread.name == "ledger-ahead":
            raise RuntimeError("can't start new thread")
        start(thread)

    with closing(filled(url)):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuses)
            await check(reader, await reader.page(SPAN, PAIR, COST), SPAN)
        await prepare(reader, SPAN)
