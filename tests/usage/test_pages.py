"""Pages that the database orders and cuts are those of the whole report."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import combinations, product
from pathlib import Path
from typing import Any, get_args

import pytest
from ledgerkit import admission, settlement, sqlite_url
from sumskit import Store, row_of

from gateway.types import Secret
from gateway.usage import Group, UsageQuery
from gateway.usage.row_pages import Page, Paging, page_of
from gateway.usage.sql.reader import Reader
from gateway.usage.sql.sums.ranks import LISTED

FIRST = datetime(2027, 3, 1, 7, tzinfo=UTC)
SPAN = UsageQuery(date(2027, 3, 1), date(2027, 3, 20))
GROUPS: tuple[Group, ...] = get_args(Group)
PLAIN: list[Any] = [1, 2, 10, "a", "b,c", "d e", "null", "ü"]
ODD: list[Any] = [1, "1", "x", "x ", '"', '"x"', "!", " y", "007", "-1", -1, "l" * 300, "l" * 299 + "m", "null"]


def rows_with(ids: list[Any], count: int) -> list[dict[str, Any]]:
    chance = random.Random(15)
    return [
        row_of(
            admission(
                f"{number:06}",
                time=(FIRST + timedelta(hours=number * 19 * 24 / count)).timestamp(),
                user=chance.choice(ids),
                organisation=chance.choice([None, *ids[:3]]),
                key=chance.choice(ids[:4]),
                model=chance.choice(ids[2:6]),
                route=chance.choice(["/v1/responses", "GET /v1/files"]),
            ),
            settlement(
                f"{number:06}",
                served_model=None,
                endpoint=chance.choice([None, *ids[:2]]),
                total_tokens=chance.randrange(3),
                cost_nano=chance.randrange(3) * 10**15,
            ),
        )
        for number in range(count)
    ]


async def test_each_page_is_that_of_the_whole_report(url: Secret) -> None:
    """By one and each two of the groups, in every order, from the first page to the last."""
    await check_pages(url, rows_with(PLAIN, 90), [{}, {"user": 1}, {"organisation": 2}])


async def test_ids_of_two_types_are_one_row_of_a_page(url: Secret) -> None:
    """So are those with quotes and blanks as they are, and long ones whole."""
    await check_pages(url, rows_with(ODD, 60), [{}], equals_in_any_order=True)


async def check_pages(
    url: Secret, written: list[dict[str, Any]], whose: list[dict[str, Any]], *, equals_in_any_order: bool = False
) -> None:
    chance, reader = random.Random(16), Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written)
        ended_ms = round((FIRST + timedelta(days=14)).timestamp() * 1000)
        while due := store.due_blocks(ended_ms):
            store.make_blocks(due)
    for narrowed in whose:
        asked = UsageQuery(SPAN.from_day, SPAN.to_day, **narrowed)
        pairs = [tuple(chance.sample(pair, 2)) for pair in chance.sample([*combinations(GROUPS, 2)], 5)]
        for groups in [*((group,) for group in GROUPS), *pairs]:
            whole = await reader.report(asked, *groups)
            for order in (None, chance.choice(["cost", "tokens", "requests"])):
                tell = told_in_any_order if equals_in_any_order else told
                limit = max(1, -(-len(whole.rows) // 3))
                wanted = Paging(order, limit)  # type: ignore[arg-type]
                expected = page_of(whole, wanted._replace(limit=None))
                seen: list[Any] = []
                while True:
                    page = await reader.page(asked, groups, wanted)
                    assert page.report.totals == whole.totals, (asked, groups)
                    seen += page.report.rows
                    if not page.has_more:
                        break
                    assert len(page.report.rows) == limit
                    wanted = wanted._replace(after=page.last)
                assert tell(seen) == tell(expected.report.rows), (asked, groups, order)
                at_once = await reader.page(asked, groups, Paging(order))  # type: ignore[arg-type]
                assert tell(at_once.report.rows) == tell(seen), (asked, groups, order)
                assert (at_once.report.totals, at_once.has_more) == (whole.totals, False)
    await reader.close()


async def test_the_dearest_of_many_days_are_found_by_each_days_ranks(url: Secret) -> None:
    """Where one day has more of them than are listed, where a day is not over, and where one has ids of two types."""
    chance, reader, users = random.Random(17), Reader(url), LISTED + 40
    written = [
        row_of(
            admission(time=(FIRST + timedelta(days=day)).timestamp(), user=user, key=f"of {int(user) % 290}"),
            settlement(
                "", total_tokens=chance.randrange(5), cost_nano=chance.randrange(10**9) * (10 if day == 2 else 1)
            ),
        )
        for day in range(6)
        for user in (*range(users), *(["1"] if day == 4 else []))
    ]
    for number, row in enumerate(written):
        row["request_id"] = f"{number:05}"
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written)
        while due := store.due_blocks(round((FIRST + timedelta(days=5)).timestamp() * 1000)):
            store.make_blocks(due)
    for groups, order in product((("day", "user"), ("key", "day")), ("cost", "tokens", "requests")):
        whole = await reader.report(SPAN, *groups)  # type: ignore[arg-type]
        wanted = Paging(order, 400)  # type: ignore[arg-type]
        expected = page_of(whole, wanted._replace(limit=None)).report.rows
        seen: list[Any] = []
        while len(seen) < len(expected):
            page = await reader.page(SPAN, groups, wanted)  # type: ignore[arg-type]
            assert page.report.totals == whole.totals
            seen += page.report.rows
            assert page.has_more == (len(seen) < len(expected))
            wanted = wanted._replace(after=page.last)
        assert told(seen) == told(expected), (groups, order)
    await reader.close()


def told(rows: Any) -> list[Any]:
    return [(repr(row.of), repr(row.second), repr(row.model), row.totals) for row in rows]


def told_in_any_order(rows: Any) -> list[Any]:
    return sorted(told(rows), key=repr)


async def test_a_page_of_all_the_days_that_there_are(tmp_path: Path) -> None:
    reader = Reader(url := sqlite_url(tmp_path / "usage.db"))
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 20))
    for groups in (("day",), ("hour", "model")):
        page = await reader.page(UsageQuery(date.min, date.max), groups, Paging(None, 1000))  # type: ignore[arg-type]
        assert sum(row.totals.requests + row.totals.calls for row in page.report.rows) == 20
        assert not page.has_more
    await reader.close()


@pytest.mark.parametrize("after", ["nobody", "", "1,2", "2027-03-02", "2027-02-28,1", "0001-01-01T00:00+14:00,1", "\0"])
async def test_no_row_is_behind_one_that_there_is_not(url: Secret, after: str) -> None:
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 20))
    for groups in (("user",), ("day", "organisation"), ("endpoint", "key")):
        with pytest.raises(ValueError, match="`after` must be the `lastId`"):
            await reader.page(SPAN, groups, Paging("cost", 5, after))  # type: ignore[arg-type]
    await reader.close()


async def test_a_page_counts_rows_that_are_in_no_sum_yet(url: Secret) -> None:
    """Such as a release without sums writes."""
    written = rows_with(PLAIN, 40)
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written)
        store.undo_some(0)
        page: Page = await reader.page(SPAN, ("user",), Paging("cost", 3))
        assert page.report.totals.requests + page.report.totals.calls == 40
        assert len(page.report.rows) == 3
        assert page.has_more
    await reader.close()
