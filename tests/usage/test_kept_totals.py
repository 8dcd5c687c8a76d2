"""Totals of groups that are kept: with the rows that came since, they are what the whole report says."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest
from kit.postgres import PrivatePostgres
from ledgerkit import engine_of, sqlite_url
from sqlalchemy import text
from sumskit import Store
from test_kept_pages import rows_at
from test_pages import FIRST, ODD, PLAIN, SPAN, rows_with, told
from test_sums import roll, write_as_before

from gateway.types import Secret
from gateway.usage import Group, Totals, UsageQuery
from gateway.usage.row_pages import Paging, page_of
from gateway.usage.sql.database import Database
from gateway.usage.sql.pages import kept_pages, kept_spans, kept_totals
from gateway.usage.sql.pages.kept_spans import KeptSpans
from gateway.usage.sql.pages.kept_totals import KeptTotals, Seen, Span
from gateway.usage.sql.pages.wishes import Wish
from gateway.usage.sql.reader import Reader

PATIENCE_SECONDS = 60.0
GROUPS: list[tuple[Group, ...]] = [("user", "model"), ("endpoint", "key"), ("organisation",), ("organisation", "user")]
HOURLY: list[tuple[Group, ...]] = [("hour", "user"), ("model", "hour"), ("day", "key")]
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
    page = KeptTotals.page

    def counted(*asked: Any) -> Any:
        found.append(page(*asked))
        return found[-1]

    monkeypatch.setattr(KeptTotals, "page", counted)
    return found


def tells_new_rows(url: Secret) -> bool:
    """MariaDB has neither rows' numbers nor snapshots that can be asked: its totals of days that go on are not kept."""
    return url.reveal().partition(":")[0] in ("sqlite", "postgresql")


async def check(
    reader: Reader,
    usage: UsageQuery = SPAN,
    groups: list[tuple[Group, ...]] = GROUPS,
    orders: list[Any] = ORDERS,
) -> None:
    """Every page in every order is that of the whole report, which reads the sums alone."""
    for each in groups:
        whole = await reader.report(usage, *each)
        for order in orders:
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


@contextmanager
def filled(url: Secret, rows: list[dict[str, Any]]) -> Iterator[Store]:
    """A ledger with these rows; its days before ENDED are summed up."""
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows)
        roll(store, ENDED)
        yield store


async def test_new_rows_are_added_exactly(url: Secret, used: list[Any]) -> None:
    """Of everybody and of one; of days that go on, of the next day, and of hours."""
    reader = Reader(url)
    with filled(url, rows_with(PLAIN, 150)) as store:
        for usage in (SPAN, UsageQuery(SPAN.from_day, SPAN.to_day, organisation=2)):
            await prepare(reader, usage)
            await check(reader, usage)
        for groups in HOURLY:
            await prepare(reader, groups=[groups])
        assert bool(used) == tells_new_rows(url)
        for number, day in enumerate((17, 17, 18, 19)):
            store.insert(rows_at(40, day, f"today{number}-"))
            used.clear()
            await check(reader)
            await check(reader, UsageQuery(SPAN.from_day, SPAN.to_day, organisation=2))
            await check(reader, groups=HOURLY, orders=["cost", "requests"])
            assert bool(used) == tells_new_rows(url)
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
        assert bool(used) == tells_new_rows(url)
    await reader.close()


async def test_whatever_changes_ended_days_is_seen_at_once(url: Secret, used: list[Any]) -> None:
    """A late row, a rebuild, sums that expire; what is found then is made anew, and holds as well."""
    reader = Reader(url)
    groups = GROUPS[:2]
    with filled(url, rows_with(PLAIN, 90)) as store:
        await prepare(reader, groups=groups)

        async def check_both() -> None:
            await check(reader, groups=groups)
            roll(store, ENDED)
            await check(reader, groups=groups)
            await prepare(reader, groups=groups)
            used.clear()
            await check(reader, groups=groups)
            assert bool(used) == tells_new_rows(url)

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
    """1 and "1" are one row: such totals are not kept, nor are rows added that have some. Odd ids stay apart."""
    reader = Reader(url := sqlite_url(tmp_path / "usage.db"))
    with filled(url, rows_with(ODD, 60)) as store:
        await prepare(reader, groups=[("user", "model")])
        await check_odd(reader)
        assert not used
    await reader.close()
    reader = Reader(url := sqlite_url(tmp_path / "other.db"))
    with filled(url, rows_with(["a", "b", "\0", "a\0", "\0a", "=", "=a"], 60)) as store:
        await prepare(reader, groups=[("user", "model")])
        await check(reader, groups=[("user", "model")])
        assert used
    await reader.close()
    reader = Reader(url := sqlite_url(tmp_path / "third.db"))
    with filled(url, rows_with(PLAIN, 60)) as store:
        await prepare(reader, groups=[("user", "model")])
        store.insert([row | {"user_id": '"1"'} for row in rows_at(3, 19, "today-")])
        used.clear()
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
    with filled(url, rows_with(PLAIN, 90)):
        pass
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
    for totals in closed:
        with totals.held(PATIENCE_SECONDS) as is_open:
            assert not is_open


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
        assert {*made} == {days(date(2027, 3, 1), date(2027, 3, 18)), days(date(2027, 3, 12), date(2027, 3, 18))}
        now[0] += 86_400
        roll(store, date(2027, 3, 19))
        wanted = {days(date(2027, 3, 1), date(2027, 3, 19)), days(date(2027, 3, 13), date(2027, 3, 19))}
        with grew:
            assert grew.wait_for(lambda: {*made} >= wanted, PATIENCE_SECONDS)
    now[0] += kept_spans.ASKED_LATELY_SECONDS + 86_400
    closed: list[KeptTotals] = []
    close = KeptTotals.close
    monkeypatch.setattr(KeptTotals, "close", lambda totals: closed.append(totals) or close(totals))
    for wish in wishes:
        spans.make(wish)
    assert not spans.wishes
    assert closed  # and their files are gone
    spans.close(PATIENCE_SECONDS)


@pytest.mark.parametrize("has_time", [False, True])
def test_a_page_is_that_of_all_rows_in_memory(has_time: bool) -> None:
    """Random totals with many ties, some added later, against a sort of everything."""
    chance = random.Random(7)
    seconds: list[Any] = [3_600_000, 7_200_000, 10_800_000] if has_time else ['"', " x", "m", "n"]
    for _ in range(300):
        groups = [(first, second) for first in ['"', "!", "a", "b", "ü", "1", "="] for second in seconds]
        whole = {each: amounts(chance) for each in groups[:: chance.choice([1, 2])]}
        totals = KeptTotals([("of", False), ("second", has_time)], Span(frozenset(), frozenset(), 0), Seen(0, 0))
        totals.fill([(*used, *each) for each, used in whole.items()], lambda: None)
        added = [(each, amounts(chance)) for each in chance.choices(groups, k=chance.randrange(12))]
        totals.add([(*used, *each) for each, used in added], Seen(1, 1), frozenset(), lambda: None)
        for each, used in added:
            whole[each] = tuple(map(sum, zip(whole.get(each, (0,) * 7), used, strict=True)))
        place = {"cost": 4, "tokens": 1, "requests": 0}[order := chance.choice(["cost", "tokens", "requests"])]

        def key(each: tuple[str, Any], place: int = place, whole: dict[Any, Any] = whole) -> tuple[Any, ...]:
            times = [of for of in each if isinstance(of, int)]
            ids = [(of != '"', of) for of in each if isinstance(of, str)]
            return -whole[each][place], times, -whole[each][0], ids

        expected = sorted(whole, key=key)
        start, most = chance.randrange(len(expected)), chance.randrange(1, 12)
        before = (*whole[expected[start]], *expected[start]) if chance.random() < 0.7 else None
        found = totals.page(order, before, most)  # type: ignore[arg-type]
        wanted = expected[0 if before is None else start + 1 :][:most]
        assert found == [(*whole[each], *each) for each in wanted]
        assert totals.totals == tuple(map(sum, zip(*whole.values(), strict=True)))
        totals.close()


def amounts(chance: random.Random) -> tuple[int, ...]:
    return tuple(chance.randrange(4) for _ in range(7))


async def test_too_many_new_rows_are_summed_anew(url: Secret, used: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(url)
    with filled(url, rows_with(PLAIN, 60)) as store:
        await prepare(reader)
        store.insert(rows_at(40, 19, "today-"))
        monkeypatch.setattr(kept_spans, "MOST_NEW_ROWS", 39)
        used.clear()
        await reader.page(SPAN, ("user", "model"), Paging("cost", 5))
        assert not used
        assert await reader.has_prepared(PATIENCE_SECONDS)
        await check(reader)
        assert bool(used) == tells_new_rows(url)
    await reader.close()


async def test_rows_of_an_older_release_are_summed_anew(url: Secret, used: list[Any]) -> None:
    """They were stored before the look, and added to the sums after it."""
    reader = Reader(url)
    groups = GROUPS[:1]
    with filled(url, rows_with(PLAIN, 90)) as store:
        await prepare(reader, groups=groups)
        write_as_before(url, rows_at(20, 19, "old-"))
        store.insert(rows_at(20, 19, "new-"))
        await check(reader, groups=groups)
        assert await reader.has_prepared(PATIENCE_SECONDS)  # new rows alone, of this look
        while store.add_some():
            pass
        await check(reader, groups=groups)
        await prepare(reader, groups=groups)
        used.clear()
        await check(reader, groups=groups)
        assert bool(used) == tells_new_rows(url)
    await reader.close()


async def test_rows_that_are_numbered_anew_are_summed_anew(tmp_path: Any, used: list[Any]) -> None:
    """As SQLite's VACUUM may: new rows then have numbers that others had before the look."""
    reader = Reader(url := sqlite_url(tmp_path / "usage.db"))
    groups = GROUPS[:1]
    with filled(url, rows_with(PLAIN, 90)) as store:
        await prepare(reader, groups=groups)
        assert store.expire(round((FIRST + timedelta(days=9)).timestamp() * 1000)) > 20
        execute(url, "UPDATE ai_usage SET rowid = rowid - 20")
        store.insert(rows_at(20, 19, "new-"))
        used.clear()
        await reader.page(SPAN, groups[0], Paging("cost", 5))
        assert not used
        await prepare(reader, groups=groups)
        await check(reader, groups=groups)
        assert used
    await reader.close()


def execute(url: Secret, statement: str) -> None:
    engine = engine_of(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


async def test_a_transaction_that_ends_late_is_seen(postgres: PrivatePostgres, used: list[Any]) -> None:
    """Others began after it and were looked at before its end: its rows are added once, as theirs are."""
    reader = Reader(url := postgres.new_database())
    groups = GROUPS[:2]
    with closing(Store(url)) as store, closing(Store(url)) as other:
        store.prepare()
        store.insert(rows_with(PLAIN, 90))
        roll(store, ENDED)
        await prepare(reader, groups=groups)
        for number in range(3):
            with slow_to_end(other, rows_at(20, 19, f"slow{number}-")):
                store.insert([row | {"model": "other"} for row in rows_at(20, 18, f"fast{number}-")])
                await check(reader, groups=groups)
            await check(reader, groups=groups)
        assert used
    await reader.close()


@contextmanager
def slow_to_end(store: Store, rows: list[dict[str, Any]]) -> Iterator[None]:
    """Rows that a thread has inserted, whose transaction goes on until the end of the block."""
    inserted, ends = threading.Event(), threading.Event()
    add = store._adder.add_sums

    def add_sums(*of: Any) -> None:
        inserted.set()
        assert ends.wait(PATIENCE_SECONDS)
        add(*of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._adder, "add_sums", add_sums)
        thread = threading.Thread(target=store.insert, args=[rows])
        thread.start()
        assert inserted.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            ends.set()
            thread.join(PATIENCE_SECONDS)


async def test_each_answer_is_of_one_moment(url: Secret) -> None:
    """Whoever else asks and whatever is written meanwhile: rows and totals of a page are the same requests."""
    reader = Reader(url)
    with filled(url, rows_with(PLAIN, 90)) as store:
        await prepare(reader)

        def write() -> None:
            for number in range(30):
                store.insert(rows_at(7, 19, f"more{number}-"))

        writing = asyncio.create_task(asyncio.to_thread(write))
        asked = 0
        while not writing.done():
            pages = [reader.page(SPAN, groups, Paging("cost", 10_000)) for groups in (*GROUPS[:2], *GROUPS[:2])]
            for page in await asyncio.gather(*pages):
                assert sum((row.totals for row in page.report.rows), Totals()) == page.report.totals
                asked += 1
        await writing
        await check(reader)
        assert asked
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
