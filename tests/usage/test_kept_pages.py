"""Pages of ended days that are kept: found once, and never older than what the sums say."""

from __future__ import annotations

from contextlib import closing
from datetime import date, timedelta
from typing import Any

import pytest
from ledgerkit import sqlite_url
from sumskit import Store
from test_pages import FIRST, PLAIN, rows_with, told
from test_sums import roll

from gateway.types import Secret
from gateway.usage import Group, UsageQuery
from gateway.usage.row_pages import Page, Paging, page_of
from gateway.usage.sql.pages import kept_pages
from gateway.usage.sql.pages.page_queries import PageFinder
from gateway.usage.sql.reader import Reader

SPAN = UsageQuery(date(2027, 3, 1), date(2027, 4, 20))
ASKED: list[tuple[Group, ...]] = [("user", "model"), ("day",), ("hour", "user")]


@pytest.fixture(autouse=True)
def _keeps_whatever_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_pages, "KEPT_FROM_SECONDS", 0.0)


async def page(reader: Reader, groups: tuple[Group, ...]) -> Page:
    return await reader.page(SPAN, groups, Paging("cost", 50))


async def check(reader: Reader, url: Secret) -> None:
    """What is kept is what a reader finds that has kept nothing."""
    fresh = Reader(url)
    for groups in ASKED:
        found, kept = await page(fresh, groups), await page(reader, groups)
        assert kept.report.totals == found.report.totals, groups
        assert told(kept.report.rows) == told(found.report.rows), groups
    await fresh.close()


def rows_at(count: int, day: int, name: str) -> list[dict[str, Any]]:
    time_ms = round((FIRST + timedelta(days=day)).timestamp() * 1000)
    return [row | {"request_id": f"{name}{row['request_id']}", "time_ms": time_ms} for row in rows_with(PLAIN, count)]


async def test_a_page_is_found_once(url: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 60))
        roll(store)
    first = [await page(reader, groups) for groups in ASKED]

    def find_nothing(*_: object) -> list[Any]:
        raise AssertionError("it is kept")

    monkeypatch.setattr(PageFinder, "rows", find_nothing)
    assert [await page(reader, groups) for groups in ASKED] == first
    await reader.close()


async def test_whatever_changes_ended_days_is_seen_at_once(url: Secret) -> None:
    """Late rows, of days with some and of days without; a rebuild; sums and rows that expire; and days that go on."""
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 60))
        await check(reader, url)
        roll(store)
        await check(reader, url)
        for number, day in enumerate((3, 3, 25, 40)):
            store.insert(rows_at(5, day, f"late{number}-"))
            await check(reader, url)
            roll(store)
            await check(reader, url)
        store.undo_some(0)
        await check(reader, url)
        while store.add_some():
            await check(reader, url)
        roll(store)
        await check(reader, url)
        store.expire_sums(round((FIRST + timedelta(days=4)).timestamp() * 1000))
        await check(reader, url)
        roll(store)
        await check(reader, url)
        while store.expire(round((FIRST + timedelta(days=9)).timestamp() * 1000)):
            await check(reader, url)
        await check(reader, url)
    await reader.close()


async def test_only_so_many_are_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones; none of many rows, none that was found fast."""
    reader = Reader(url := sqlite_url(tmp_path / "usage.db"))
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 60))
        roll(store)
    found: list[object] = []
    rows = PageFinder.rows
    monkeypatch.setattr(PageFinder, "rows", lambda *asked: found.append(asked) or rows(*asked))
    span = [SPAN.from_day + timedelta(days=day) for day in range(kept_pages.MOST_PAGES + 1)]
    for _ in range(2):
        for day in span:  # each is gone when its turn comes again
            await reader.page(UsageQuery(day, SPAN.to_day), ("user",), Paging("cost", 5))
    assert len(found) == 2 * len(span)
    await reader.page(UsageQuery(span[-1], SPAN.to_day), ("user",), Paging("cost", 5))
    assert len(found) == 2 * len(span)
    monkeypatch.setattr(kept_pages, "MOST_ROWS", 4)
    for _ in range(2):
        await reader.page(SPAN, ("user",), Paging("cost", 5))
    assert len(found) == 2 * len(span) + 2
    monkeypatch.setattr(kept_pages, "KEPT_FROM_SECONDS", 1000.0)
    for _ in range(2):
        await reader.page(SPAN, ("model",), Paging("cost", 4))
    assert len(found) == 2 * len(span) + 4
    await reader.close()


async def test_hours_of_ended_days_are_kept_beside_those_of_a_day_that_goes_on(
    url: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dearest first, page by page, while rows come on the last day and late on others."""
    reader, groups = Reader(url), (("hour", "user"), ("model", "day"), ("hour",))
    kept: list[Any] = []
    monkeypatch.setattr(kept_pages, "MOST_PAGES", 100)
    get = kept_pages.Kept.get
    monkeypatch.setattr(kept_pages.Kept, "get", lambda *asked: kept.append(get(*asked)) or kept[-1])

    async def check_all() -> None:
        for each in groups:
            whole = await reader.report(SPAN, *each)  # type: ignore[arg-type]
            for order in ("cost", "requests"):
                expected = page_of(whole, Paging(order)).report.rows  # type: ignore[arg-type]
                wanted, seen = Paging(order, max(1, len(expected) // 3)), list[Any]()  # type: ignore[arg-type]
                while True:
                    found = await reader.page(SPAN, each, wanted)  # type: ignore[arg-type]
                    seen += found.report.rows
                    if not found.has_more:
                        break
                    wanted = wanted._replace(after=found.last)
                assert told(seen) == told(expected), (each, order)

    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 60))
        roll(store, date(2027, 3, 15))
        await check_all()
        kept.clear()
        await check_all()
        assert any(kept)
        store.insert(rows_at(7, 18, "today-"))
        await check_all()
        store.insert(rows_at(7, 3, "late-"))
        await check_all()
        roll(store, date(2027, 3, 15))
        await check_all()
    await reader.close()
