"""Totals of ended days that are kept: with the days that go on, they are what the whole report says."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, cast

import pytest
from ledgerkit import sqlite_url
from sumskit import Store
from test_kept_pages import rows_at
from test_pages import FIRST, ODD, PLAIN, SPAN, rows_with, told
from test_sums import roll

from gateway.types import Secret
from gateway.usage import Group, UsageQuery
from gateway.usage.row_pages import Paging, page_of
from gateway.usage.sql.database import Database
from gateway.usage.sql.pages import kept_pages, kept_spans, kept_totals, other_days
from gateway.usage.sql.pages.kept_spans import KeptSpans, Wish
from gateway.usage.sql.pages.kept_totals import KeptTotals
from gateway.usage.sql.reader import Reader

PATIENCE_SECONDS = 60.0
GROUPS: list[tuple[Group, ...]] = [("user", "model"), ("endpoint", "key"), ("organisation",), ("organisation", "user")]
ENDED = date(2027, 3, 18)  # days before it
ORDERS: list[Any] = [None, "cost", "tokens", "requests"]


@pytest.fixture(autouse=True)
def _keeps_whatever_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_spans, "KEPT_FROM_SECONDS", 0.0)
    monkeypatch.setattr(kept_pages, "KEPT_FROM_SECONDS", 1000.0)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was found by kept totals."""
    found: list[Any] = []
    best = KeptTotals.best

    def counted(*asked: Any) -> Any:
        found.append(best(*asked))
        return found[-1]

    monkeypatch.setattr(KeptTotals, "best", counted)
    return found


async def check(reader: Reader, usage: UsageQuery = SPAN, groups: list[tuple[Group, ...]] = GROUPS) -> None:
    """Every page in every order is that of the whole report, which reads the sums alone."""
    for each in groups:
        whole = await reader.report(usage, *each)
        for order in ORDERS:
            expected = page_of(whole, Paging(order)).report.rows
            wanted, seen = Paging(order, max(1, len(expected) // 3)), list[Any]()
            while True:
                page = await reader.page(usage, each, wanted)
                assert page.report.totals == whole.totals
                seen += page.report.rows
                if not page.has_more:
                    break
                wanted = wanted._replace(after=page.last)
            assert told(seen) == told(expected), (each, order)


async def prepare(reader: Reader, usage: UsageQuery = SPAN, groups: list[tuple[Group, ...]] = GROUPS) -> None:
    for each in groups:
        await reader.page(usage, each, Paging("cost", 5))
    assert await reader.has_prepared(PATIENCE_SECONDS)


@pytest.mark.parametrize("looked_up", [0, 3, 1_000])
async def test_other_days_are_added_exactly(
    url: Secret, used: list[Any], monkeypatch: pytest.MonkeyPatch, looked_up: int
) -> None:
    """Whether their groups are looked up or met on the way; of everybody and of one, with days of different size."""
    monkeypatch.setattr(kept_totals, "_LOOKED_UP", looked_up)
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 150))
        roll(store, ENDED)
        for usage in (SPAN, UsageQuery(SPAN.from_day, SPAN.to_day, organisation=2)):
            await prepare(reader, usage)
            await check(reader, usage)
        assert used
        store.insert(rows_at(40, 19, "today-"))
        used.clear()
        await check(reader)
        assert used
        assert None not in used
    await reader.close()


@pytest.mark.parametrize("skipped", [1, 3, 5, 8])
async def test_a_span_may_begin_and_days_may_end_within_a_block(url: Secret, used: list[Any], skipped: int) -> None:
    """Blocks have whole powers of two of days: no day of one is counted that is not asked for, nor twice."""
    reader = Reader(url)
    usage = UsageQuery(SPAN.from_day + timedelta(days=skipped), SPAN.to_day)
    groups: list[tuple[Group, ...]] = [("user", "model"), ("organisation",), ("user",), ("endpoint",)]
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 150))
        store.insert(rows_at(40, 18, "ends-"))
        roll(store, ENDED)
        await prepare(reader, usage, groups)
        await check(reader, usage, groups)
        roll(store, ENDED + timedelta(days=2))
        await check(reader, usage, groups)
        assert used
    await reader.close()


async def test_whatever_changes_ended_days_is_seen_at_once(url: Secret, used: list[Any]) -> None:
    """A late row, a rebuild, sums that expire; what is found then is made anew, and holds as well."""
    reader = Reader(url)
    groups = GROUPS[:2]
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 90))
        roll(store, ENDED)
        await prepare(reader, groups=groups)

        async def check_both() -> None:
            await check(reader, groups=groups)
            roll(store, ENDED)
            await check(reader, groups=groups)
            await prepare(reader, groups=groups)
            used.clear()
            await check(reader, groups=groups)
            assert used

        store.insert(rows_at(5, 3, "late-"))
        await check_both()
        store.undo_some(0)
        await check(reader, groups=groups)
        while store.add_some():
            await check(reader, groups=groups)
        await check_both()
        store.expire_sums(round((FIRST + timedelta(days=4)).timestamp() * 1000))
        await check_both()
    await reader.close()


async def test_ids_that_come_together_are_summed_anew(tmp_path: Any, used: list[Any]) -> None:
    """1 and "1" are one row: such totals are not kept. Nor are days added that have some, nor odd ids taken apart."""
    reader = Reader(url := sqlite_url(tmp_path / "usage.db"))
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(ODD, 60))
        roll(store, ENDED)
        await prepare(reader, groups=[("user", "model")])
        await check_odd(reader)
        assert not used
    await reader.close()
    reader = Reader(url := sqlite_url(tmp_path / "other.db"))
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(["a", "b", "\x1f", "a\x1f", "\x1fa", "c"], 60))
        roll(store, ENDED)
        await prepare(reader, groups=[("user", "model")])
        await check(reader, groups=[("user", "model")])
        assert not used
    await reader.close()
    reader = Reader(url := sqlite_url(tmp_path / "third.db"))
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 60))
        roll(store, ENDED)
        await prepare(reader, groups=[("user", "model")])
        store.insert([row | {"user_id": '"1"'} for row in rows_at(3, 19, "today-")])
        await check_odd(reader)
        assert not used
    await reader.close()


async def check_odd(reader: Reader) -> None:
    whole = await reader.report(SPAN, "user", "model")
    page = await reader.page(SPAN, ("user", "model"), Paging("cost", 1_000))
    assert sorted(told(page.report.rows), key=repr) == sorted(told(whole.rows), key=repr)


async def test_only_so_many_are_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of more groups than there may be; the rest give their files back, and threads end with the reader."""
    closed: list[Any] = []
    close = KeptTotals.close
    monkeypatch.setattr(KeptTotals, "close", lambda totals: closed.append(totals) or close(totals))
    monkeypatch.setattr(kept_spans, "MOST_SPANS", 2)
    reader = Reader(url := sqlite_url(tmp_path / "usage.db"))
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 90))
        roll(store, ENDED)
    await prepare(reader)
    await prepare(reader)
    assert len(closed) >= len(GROUPS) - 2
    monkeypatch.setattr(kept_totals, "MOST_GROUPS", 5)
    made = len(closed)
    for _ in range(2):  # it is not tried again as long as nothing changes
        await prepare(reader, UsageQuery(SPAN.from_day, date(2027, 3, 19)), [("user", "model")])
    assert len(closed) == made + 1
    await reader.close()
    assert "ledger-ahead" not in {thread.name for thread in threading.enumerate()}
    assert all(totals.best("cost", None, 1, kept_totals.Others({}, dict)) is None for totals in closed)  # type: ignore[arg-type]


async def test_spans_up_to_today_move_on_with_the_date(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the month and of the last days, without being asked again; until nobody has asked for days."""
    now = [datetime(2027, 3, 18, 12, tzinfo=UTC).timestamp()]
    url = sqlite_url(tmp_path / "usage.db")
    spans = KeptSpans(lambda: Database(url, read_only=True, statement_seconds=60), lambda: now[0])
    month, week = UsageQuery(date(2027, 3, 1), date(2027, 3, 18)), UsageQuery(date(2027, 3, 12), date(2027, 3, 18))
    wishes = [Wish.of(each, ("user", "model"), date(2027, 3, 18)) for each in (month, week)]
    assert [wish.usage_on(date(2027, 4, 2)) for wish in wishes] == [
        UsageQuery(date(2027, 4, 1), date(2027, 4, 2)),
        UsageQuery(date(2027, 3, 27), date(2027, 4, 2)),
    ]
    made: list[frozenset[int]] = []
    monkeypatch.setattr(kept_spans, "LOOK_SECONDS", 0.01)
    grew = threading.Condition()
    fill = KeptTotals.fill

    def filled(totals: KeptTotals, *rest: Any) -> None:
        fill(totals, *rest)
        with grew:
            made.append(totals.span.days)
            grew.notify_all()

    monkeypatch.setattr(KeptTotals, "fill", filled)

    def days(first: date, last: date) -> frozenset[int]:
        return frozenset(day - date(1970, 1, 1).toordinal() for day in range(first.toordinal(), last.toordinal() + 1))

    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 400))
        roll(store, date(2027, 3, 18))
        for usage in (month, week):
            spans.asked(usage, ("user", "model"), 1.0)
        with grew:
            assert grew.wait_for(lambda: len(made) == 2, PATIENCE_SECONDS)
        assert {*made} == {days(date(2027, 3, 1), date(2027, 3, 17)), days(date(2027, 3, 12), date(2027, 3, 17))}
        now[0] += 86_400
        roll(store, date(2027, 3, 19))
        wanted = {days(date(2027, 3, 1), date(2027, 3, 18)), days(date(2027, 3, 13), date(2027, 3, 18))}
        with grew:
            assert grew.wait_for(lambda: {*made} >= wanted, PATIENCE_SECONDS)
    now[0] += kept_spans.ASKED_LATELY_SECONDS + 86_400
    for wish in wishes:
        spans.make(wish)
    assert not spans.wishes
    spans.close(PATIENCE_SECONDS)


def test_a_page_is_that_of_all_rows_in_memory() -> None:
    """Random totals with many ties, against a sort of everything."""
    chance = random.Random(7)
    for _ in range(300):
        ids = [f"{a}\x1f{b}" for a in ['"', "!", "a", "b", "ü", "1"] for b in ['"', " x", "m", "n"]]
        kept = {each: amounts(chance) for each in ids[:: chance.choice([1, 2])]}
        others = {each: amounts(chance) for each in chance.sample(ids, chance.randrange(12))}
        totals = KeptTotals(("of", "second"), kept_totals.Span(frozenset(), 0))
        ordered = sorted(kept, key=key_of_ids)
        totals.fill(((*kept[each], *each.split("\x1f")) for each in ordered), lambda: None)
        place = {"cost": 4, "tokens": 1, "requests": 0}[order := chance.choice(["cost", "tokens", "requests"])]
        whole = {
            each: tuple(map(sum, zip(kept.get(each, (0,) * 7), others.get(each, (0,) * 7), strict=True)))
            for each in {*kept, *others}
        }
        expected = sorted(whole, key=lambda each: (-whole[each][place], -whole[each][0], key_of_ids(each)))
        start, most = chance.randrange(len(expected)), chance.randrange(1, 12)
        before = (*whole[expected[start]], *expected[start].split("\x1f")) if chance.random() < 0.7 else None
        rest = kept_totals.Others({each: used[place] for each, used in others.items()}, partial(some_of, others))
        found = totals.best(order, before, most, rest)  # type: ignore[arg-type]
        wanted = expected[0 if before is None else start + 1 :][:most]
        assert found == [(*whole[each], *each.split("\x1f")) for each in wanted]
        totals.close()
        assert totals.best(None, None, 1, rest) is None


def amounts(chance: random.Random) -> tuple[int, ...]:
    return tuple(chance.randrange(4) for _ in range(7))


def some_of(others: dict[str, Any], groups: Collection[str]) -> dict[str, Any]:
    return {each: others[each] for each in groups}


def key_of_ids(ids: str) -> tuple[Any, ...]:
    return tuple((text != '"', text) for text in ids.split("\x1f"))


async def test_days_with_too_many_groups_are_not_held_in_memory(
    url: Secret, used: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is summed anew then, and right."""
    monkeypatch.setattr(other_days, "MOST_GROUPS", 2)
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows_with(PLAIN, 60))
        roll(store, ENDED)
        await prepare(reader)
        store.insert(rows_at(40, 19, "today-"))
        used.clear()
        await check(reader, groups=[("user", "model")])
        assert not used
    await reader.close()


def test_what_fails_is_tried_less_and_less_often() -> None:
    """A disk without room stays so for a while; each try costs a scan of the span."""
    tried, now = list[float](), [1_000_000.0]

    class Full:
        dialect = "sqlite"

        def begin(self) -> Any:
            tried.append(now[0])
            raise OSError("no space left on device")

    spans = KeptSpans(lambda: cast(Database, Full()), lambda: now[0])
    wish = Wish(SPAN, ("user", "model"), None)
    spans.wishes[wish] = now[0]
    for _ in range(60):
        spans.make(wish)
        now[0] += 30
    assert [later - earlier for earlier, later in itertools.pairwise(tried)] == [60, 120, 240, 480]
