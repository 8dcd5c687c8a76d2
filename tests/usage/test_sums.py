"""Daily and hourly sums: equal to the rows, whoever wrote these, whatever happened meanwhile."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgerkit import OpenLedger, admission, engine_of, eventually, serve, settlement, sqlite_url, stored
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sumskit import Store, check_sums, numbers, row_of, used
from test_ledger_migrations import execute

from gateway.types import MADE_BY, Secret
from gateway.usage import Totals, UsageQuery, UsageReport
from gateway.usage.sql.reader import Reader
from gateway.usage.sql.sums import keeping
from gateway.usage.sql.table import ai_usage

EVER = (date(2000, 1, 1), date(2099, 1, 1))
NEW_YEAR = datetime(2027, 12, 31, 22, tzinfo=UTC)
LONG = "u" * 700

ids = st.sampled_from([1, "1", 2, "alice", "Alice", "a b ", '"', LONG])
rows = st.builds(
    lambda minutes, admitted, settled: row_of(
        admission(time=(NEW_YEAR + timedelta(minutes=minutes)).timestamp(), **admitted),
        settlement("", **settled),
    ),
    st.integers(0, 300),
    st.fixed_dictionaries(
        {
            "user": ids,
            "organisation": st.none() | ids,
            "key": ids,
            "model": ids,
            "route": st.sampled_from(["/v1/responses", "GET /v1/files"]),
            "counted_on": st.sampled_from([None, "user:1", "organisation:2"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "endpoint": st.none() | ids,
            "served_model": st.none() | ids,
            "answered": st.booleans(),
            "total_tokens": st.integers(0, 10**12),
            "prompt_tokens": st.integers(0, 10**12),
            "cached_tokens": st.integers(0, 10**12),
            "cost_nano": st.integers(0, 10**15),
            "requests": st.sampled_from([1, 1, 3, 50_000]),
        }
    ),
)


def totals(rows: list[dict[str, Any]]) -> Totals:
    together: dict[str, int] = dict.fromkeys(Totals.__struct_fields__, 0)
    for row in rows:
        for name, value in used(row).items():
            together[name] += value
    return Totals(**together)


def in_limits(rows: list[dict[str, Any]]) -> Totals:
    """Where a batch counts for each of its lines."""
    return totals(rows) + Totals(requests=sum(row["further_requests"] or 0 for row in rows))


def execute_sql(url: Secret, statement: str) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def write_as_before(url: Secret, rows: list[dict[str, Any]]) -> None:
    """As a release writes that knows of no sums."""
    there = {row["request_id"] for row in stored(url)}
    columns = [column.name for column in ai_usage.columns if column.name != "summed"]
    engine = engine_of(url)
    with engine.begin() as connection:
        for row in rows:
            if row["request_id"] not in there:
                connection.execute(ai_usage.insert().values({name: row[name] for name in columns}))
    engine.dispose()


def roll(store: Store, day: date = date(2030, 1, 1)) -> None:
    """Makes every block of days before this one."""
    while due := store.due_blocks(round(datetime(day.year, day.month, day.day, 2, tzinfo=UTC).timestamp() * 1000)):
        assert store.make_blocks(due) > 0


def add_all(store: Store) -> None:
    while store.add_some():
        pass


@given(st.lists(rows, min_size=1, max_size=60), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_sums_are_those_of_the_rows(tmp_path_factory: pytest.TempPathFactory, written: list[Any], data: Any) -> None:
    """Batches of any size, rows that come again within one and later, and some that a release without sums wrote."""
    url = sqlite_url(tmp_path_factory.mktemp("sums") / "usage.db")
    for number, row in enumerate(written):
        row["request_id"] = f"{number:05}"
    with closing(Store(url)) as store:
        store.prepare()
        for _ in range(3):
            batch = data.draw(st.lists(st.sampled_from(written), max_size=80))
            assert store.insert(batch) == []
            check_sums(url)
            if data.draw(st.booleans()):
                roll(store, data.draw(st.sampled_from([date(2028, 1, 1), date(2030, 1, 1)])))
                check_sums(url)
        others = data.draw(st.sets(st.sampled_from(range(len(written)))))
        write_as_before(url, [row for row in written if int(row["request_id"]) in others])
        check_sums(url)
        assert store.insert(written) == []
        check_sums(url)
        add_all(store)
        assert {row["summed"] for row in stored(url)} == {2}
        check_sums(url)
        roll(store)
        check_sums(url)
        store.undo_some(0)
        check_sums(url)
        add_all(store)
        roll(store)
        check_sums(url)


def some_rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Of a few users, models and endpoints, over two days, every fifth of a kind that runs no model."""
    return [
        row_of(
            admission(
                f"{number:06}",
                time=(NEW_YEAR + timedelta(seconds=97 * number)).timestamp(),
                user=number % 3,
                organisation=None if number % 4 == 0 else number % 2,
                key=("laptop", "laptop~made", "other")[number % 3],
                model="m" * (200 if number % 7 == 0 else 1),
                route="GET /v1/files" if number % 5 == 0 else "/v1/responses",
                counted_on=(None, "user:1", "o" * 200)[number % 3],
            ),
            settlement(
                f"{number:06}",
                served_model=None,
                endpoint=None if number % 6 == 0 else number % 2,
                answered=number % 8 > 0,
                cached_tokens=number % 6,
                cost_nano=10**12 + number,
                requests=1 + number % 3 * (number % 5 > 0),
            ),
        )
        for number in range(first, first + count)
    ]


async def test_no_total_is_wrong_while_old_rows_are_added(url: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report between any two pieces counts every row once, and so does the rebuilding of sums."""
    monkeypatch.setattr(keeping, "ADDED_AT_ONCE", 37)
    monkeypatch.setattr(keeping, "UNDONE_AT_ONCE", 60)
    written = some_rows(200)
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        write_as_before(url, written[:150])
        store.insert(written[150:])

        async def check() -> None:
            assert (await reader.report(UsageQuery(*EVER))).totals == totals(written)
            for user in range(3):
                of_user = await reader.report(UsageQuery(*EVER, user=user), "model")
                assert of_user.totals == totals([row for row in written if row["user_id"] == str(user)])
            counted = [row for row in written if row["answered"] and row["counted_on"] == "user:1"]
            assert await reader.counted_on("user:1", 0) == in_limits(counted)

        await check()
        while store.add_some():
            await check()
            check_sums(url)
        assert {row["summed"] for row in stored(url)} == {2}
        undone, until_ms = 0, 0
        while True:
            done = store.undo_some(until_ms)
            undone += done.rows
            await check()
            check_sums(url)
            assert store.add_some() > 0
            await check()
            if done.until_ms is None:
                break
            until_ms = done.until_ms
        add_all(store)
        assert undone == 200
        check_sums(url)
        await check()
    await reader.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_rows_without_sums_are_found_by_their_index(request: pytest.FixtureRequest, kind: str) -> None:
    """However many have been added, or wait for it: each piece would come by all of them, or sort them."""
    server = request.getfixturevalue("postgres" if kind == "postgresql" else "mariadb")
    url = server.new_database() if kind == "postgresql" else server.new_database("mariadb")
    with closing(Store(url)) as store:
        store.prepare()
        store.insert([row_of(admission(f"{n}", time=1_800_000_000 + n), settlement(f"{n}")) for n in range(4_000)])
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ai_usage SET summed = NULL WHERE request_id < '3'"))
    asked = keeping.newest_unsummed(engine.dialect.name)
    query = str(asked.compile(engine, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    with engine.connect() as connection:
        if kind == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # which so few rows are read by
            connection.execute(text("SET LOCAL enable_sort = off"))
        plan = "\n".join(map(str, connection.exec_driver_sql(f"EXPLAIN {query}")))
    engine.dispose()
    assert "ai_usage_unsummed" in plan, plan
    assert "ai_usage_by_time" not in plan, plan
    assert "filesort" not in plan, plan


async def test_a_database_of_the_first_release_is_summed_while_it_serves(url: Secret, open_ledger: OpenLedger) -> None:
    """Its rows are counted at once, and are in the sums soon; what it writes beside us is counted, too."""
    execute(url)
    ledger = await open_ledger(url)
    serve(ledger, 3)
    await ledger.flushed(20)
    assert (await ledger.reader.report(UsageQuery(*EVER))).totals.requests == 6
    await eventually(lambda: {row["summed"] for row in stored(url)} == {2})
    check_sums(url)
    write_as_before(url, some_rows(5))
    assert (await ledger.reader.report(UsageQuery(*EVER))).totals.requests == 10
    assert (await ledger.reader.report(UsageQuery(*EVER))).totals.calls == 1


GROUPS = [("model", "model"), ("endpoint", "endpoint_id"), ("key", "key_id"), ("user", "user_id")]
GROUPS += [("organisation", "organisation_id"), ("day", "time_ms"), ("hour", "time_ms")]
OF_TIME: dict[str, int] = {"day": 10, "hour": 13}


def group_of(row: dict[str, Any], group: str) -> str | None:
    value = row[dict(GROUPS)[group]]
    if group not in OF_TIME:
        return None if value is None else str(value)
    text = datetime.fromtimestamp(value // 1000, UTC).isoformat()[: OF_TIME[group]]
    return text if group == "day" else text + ":00:00Z"


WHOSE: list[dict[str, Any]] = [{}, {"user": 1}, {"organisation": 1}, {"key": "other"}, {"user": 2, "key": "other"}]
COLUMNS = {"user": "user_id", "organisation": "organisation_id", "key": "key_id", "model": "model"}


async def test_every_report_is_that_of_the_rows(url: Secret) -> None:
    """By none, one and each two of the groups, whosever and of whichever model, of some days of all."""
    written = some_rows(300)
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written[:150])
        roll(store)
        store.insert(written[150:200])  # too late for their days' blocks
        write_as_before(url, written[200:])
    day = date(2027, 12, 31)
    for asked in (*WHOSE, *(whose | {"model": "m"} for whose in WHOSE)):
        of_them = [row for row in written if all(str(row[COLUMNS[name]]) == str(asked[name]) for name in asked)]
        of_them = [row for row in of_them if group_of(row, "day") == day.isoformat()]
        names = [name for name, _ in GROUPS]
        for groups in [(), *((name,) for name in names), *permutations(names, 2)]:
            report = await reader.report(UsageQuery(day, day, **asked), *groups)
            assert report.totals == totals(of_them), (asked, groups)
            assert by_names(report, groups) == (grouped(of_them, groups) if groups else {}), (asked, groups)
    await reader.close()


async def test_any_span_of_a_year_is_that_of_the_rows(url: Secret) -> None:
    """Made up of blocks of any length, before and after rows that came late, and after old sums have gone."""
    first, written = datetime(2027, 1, 1, 12, tzinfo=UTC), some_rows(150)
    for number, row in enumerate(written):
        row["time_ms"] = round(
            (first + timedelta(days=number + number // 40)).timestamp() * 1000
        )  # some days have none
    chance, reader = random.Random(15), Reader(url)

    async def check(rows: list[dict[str, Any]], times: int) -> None:
        check_sums(url, rows)
        for _ in range(times):
            begin, end = sorted((first + timedelta(days=chance.randrange(-10, 165))).date() for _ in range(2))
            of_them = [row for row in rows if begin.isoformat() <= str(group_of(row, "day")) <= end.isoformat()]
            for groups in ((), ("model",), ("endpoint",), ("organisation",), ("user", "key"), ("day", "model")):
                report = await reader.report(UsageQuery(begin, end), *groups)
                assert report.totals == totals(of_them), (begin, end, groups)
                assert by_names(report, groups) == (grouped(of_them, groups) if groups else {}), (begin, end, groups)

    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written[::2])
        roll(store, date(2027, 4, 5))
        await check(written[::2], 8)
        store.insert(written[1::2])
        await check(written, 4)
        roll(store)
        assert len(numbers(url)) > 2.8 * 150
        await check(written, 8)
        kept = written[50:]
        store.expire_sums(kept[0]["time_ms"])
        await check(kept, 2)
        roll(store)
        await check(kept, 4)
    await reader.close()


def by_names(report: UsageReport, groups: tuple[str, ...]) -> dict[tuple[str | None, ...], Totals]:
    found = {}
    for row in report.rows:
        named = tuple(None if part is None else str(part) for part in (row.of, row.second)[: len(groups)])
        found[(*named, str(row.model)) if "endpoint" in groups else named] = row.totals
    return found


def grouped(rows: list[dict[str, Any]], groups: tuple[str, ...]) -> dict[tuple[str | None, ...], Totals]:
    found: dict[tuple[str | None, ...], list[dict[str, Any]]] = {}
    for row in rows:
        named = tuple(group_of(row, group) for group in groups)
        found.setdefault((*named, row["model"]) if "endpoint" in groups else named, []).append(row)
    return {named: totals(of_them) for named, of_them in found.items()}


@pytest.mark.parametrize("since", ["2027-12-31T22:00", "2027-12-31T23:17", "2028-01-01T00:00", "2028-01-01T01:59:59"])
async def test_limits_totals_are_those_of_the_rows(url: Secret, since: str) -> None:
    """From whole hours and from within one, of one scope and of all, of a key with those that it made."""
    written = some_rows(200)
    since_seconds = datetime.fromisoformat(since + "Z").timestamp()
    counted = [row for row in written if row["answered"] and row["time_ms"] >= since_seconds * 1000]
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written[:120])
        write_as_before(url, written[120:])
    for scope in ("user:1", "o" * 200):
        expected = in_limits([row for row in counted if row["counted_on"] == scope])
        assert await reader.counted_on(scope, since_seconds) == expected
    by_key = await reader.limit_totals("key", since_seconds)
    assert by_key == {key: in_limits([row for row in counted if row["key_id"] == key]) for key in by_key}
    await reader.close()


def test_a_key_counts_what_those_that_it_made_used(url: Secret) -> None:
    """However long its name is."""

    async def used_by(key: str) -> Totals:
        reader = Reader(url)
        try:
            return await reader.used_by_key(key, NEW_YEAR.timestamp())
        finally:
            await reader.close()

    with closing(Store(url)) as store:
        store.prepare()
        for number, key in enumerate(("k", "k" * 100)):
            made = [f"{key}{MADE_BY}one", f"{key}{MADE_BY}two", f"{key}x"]
            keyed = [
                row | {"key_id": of} for row, of in zip(some_rows(8, first=8 * number)[1:5], [key, *made], strict=True)
            ]
            store.insert(keyed)
            assert asyncio.run(used_by(key)) == in_limits(keyed[:3])


def test_two_writers_and_a_rebuild_at_once_leave_right_sums(url: Secret) -> None:
    """Rows in any order, some of them twice, while sums are made anew: nobody waits for ever, nothing is lost."""
    written = some_rows(600)
    faults: list[BaseException] = []
    with closing(Store(url)) as store:
        store.prepare()

    def work(rows: list[dict[str, Any]]) -> None:
        try:
            with closing(Store(url)) as store:
                store.prepare()
                for start in range(0, len(rows), 30):
                    until_done(lambda rows=rows[start : start + 30]: store.insert(rows))
        except BaseException as fault:
            faults.append(fault)

    def rebuild() -> None:
        try:
            with closing(Store(url)) as store:
                for _ in range(5):
                    until_done(lambda: store.undo_some(0))
                    until_done(store.add_some)
        except BaseException as fault:
            faults.append(fault)

    threads = [
        threading.Thread(target=work, args=(written[:400],)),
        threading.Thread(target=work, args=(written[:199:-1],)),
        threading.Thread(target=rebuild),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with closing(Store(url)) as store:
        add_all(store)
    assert len(stored(url)) == 600
    check_sums(url)


def until_done(work: Any) -> Any:
    """As the writer does: what the database refuses for now is tried again."""
    while True:
        try:
            return work()
        except OperationalError:
            continue


def test_rows_and_sums_expire_apart(url: Secret) -> None:
    """Rows that are gone stay in the sums, also when these are made anew; none goes before it is in them."""
    written = some_rows(2000)
    middle_ms = written[1000]["time_ms"]
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written[:900])
        write_as_before(url, written[900:])
        while store.expire(middle_ms):
            pass
        assert len(stored(url)) == 1100, "what nobody has added yet stays"
        add_all(store)
        while store.expire(middle_ms):
            pass
        assert len(stored(url)) == 1000
        store.undo_some(0)
        add_all(store)
        check_sums(url, written)
        day_ms = middle_ms - middle_ms % 86_400_000
        store.expire_sums(middle_ms)
        check_sums(url, [row for row in written if row["time_ms"] >= day_ms])


async def test_the_configured_days_of_rows_and_sums_hold(url: Secret, open_ledger: OpenLedger) -> None:
    """Reports still know of rows that have gone, until the sums go, too."""
    first = await open_ledger(url)
    for days_ago in (100, 40, 0):
        serve(first, 2, time=time.time() - days_ago * 86_400)
    await first.close()
    ledger = await open_ledger(url, retention_days=30, sums_retention_days=60)
    await eventually(lambda: len(stored(url)) == 2)
    async with asyncio.timeout(20):
        while (await ledger.reader.report(UsageQuery(*EVER))).totals.requests != 4:  # noqa: ASYNC110 - a thread's work
            await asyncio.sleep(0.05)
