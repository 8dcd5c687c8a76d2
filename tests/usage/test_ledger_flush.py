"""From the journal to the database: everything arrives, once, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kit.postgres import PrivatePostgres
from ledgerkit import (
    OpenLedger,
    admission,
    capturing_log,
    engine_of,
    eventually,
    outcomes,
    program,
    segment_files,
    serve,
    settlement,
    sqlite_url,
    stored,
)
from sqlalchemy import text

from gateway.errors import JournalUnavailable, LedgerUnusable
from gateway.types import Secret
from gateway.usage import Ledger, UsageQuery
from gateway.usage.sql.rows import row_of
from gateway.usage.sql.rows_store import Store

DAY_SECONDS = 86_400


async def test_a_request_becomes_a_row(url: Secret, open_ledger: OpenLedger) -> None:
    """Each column holds what the contract says it holds."""
    ledger = await open_ledger(url)
    ledger.admit(admission("r1", client_request_id="theirs", time=1_700_000_000.25, user="42", streamed=True))
    ledger.settle(
        settlement(
            "r1",
            served_model="fallback",
            endpoint=7,
            status=499,
            outcome="cancelled",
            cached_tokens=2,
            reasoning_tokens=1,
            usage_source="estimated",
            first_byte_ms=12.5,
            duration_ms=99.75,
            attempts=3,
            answered=False,
        )
    )
    await ledger.flushed(20)
    (row,) = stored(url)
    assert {name: int(value) if isinstance(value, bool) else value for name, value in row.items()} == {
        "request_id": "r1",
        "client_request_id": "theirs",
        "time_ms": 1_700_000_000_250,
        "user_id": '"42"',
        "organisation_id": "10",
        "key_id": "laptop",
        "model": "fallback",
        "endpoint_id": "7",
        "route": "/v1/chat/completions",
        "streamed": 1,
        "status": 499,
        "outcome": "cancelled",
        "answered": 0,
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "cached_tokens": 2,
        "reasoning_tokens": 1,
        "total_tokens": 10,
        "usage_source": "estimated",
        "cost_nano": 1_000,
        "first_byte_ms": 12.5,
        "duration_ms": 99.75,
        "attempts": 3,
        "counted_on": "user:42",
        "details": None,
        "price_id": None,
        "failures": None,
        "summed": 2,
        "further_requests": None,
    }


async def test_the_same_client_id_a_hundred_times_is_a_hundred_rows(url: Secret, open_ledger: OpenLedger) -> None:
    """A client's id is its own affair: it must never make two requests one."""
    ledger = await open_ledger(url)
    serve(ledger, 100, client_request_id="always the same")
    await ledger.flushed(20)
    assert [row["client_request_id"] for row in stored(url)] == ["always the same"] * 100


def test_batches_of_any_size_are_stored_whole_and_once(url: Secret) -> None:
    """One statement takes many rows; where a batch does not fill one, nothing is missing and nothing twice."""
    store = Store(url)
    store.prepare()
    rows = [row_of(each, settlement(each.request_id)) for each in (admission() for _ in range(600))]
    taken = iter(rows)
    for size in (0, 1, 3, 4, 5, 19, 20, 24, 76, 100, 348):
        batch = list(itertools.islice(taken, size))
        assert len(batch) == size
        assert store.insert(batch) == []
        assert store.insert(batch) == [], "a batch may come twice"
    store.close()
    assert [row.request_id for row in rows] == sorted(row["request_id"] for row in stored(url))


async def test_a_clean_close_stores_everything_and_leaves_no_journal(url: Secret, open_ledger: OpenLedger) -> None:
    """A stop loses nothing, and the next start has nothing to replay."""
    ledger = await open_ledger(url)
    ids = serve(ledger, 1_200)
    await ledger.close()
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    assert ledger.status().waiting == 0


async def test_what_is_open_at_a_stop_is_interrupted_at_the_next_start(
    url: Secret, open_ledger: OpenLedger, tmp_path: Path
) -> None:
    """An admitted request without an end becomes a row all the same: no admitted request is lost."""
    ledger = await open_ledger(url)
    ledger.admit(admission("open", model="granted"))
    await ledger.close()
    assert segment_files(tmp_path / "journal") != []
    again = await open_ledger(url)
    (row,) = stored(url)
    assert (row["request_id"], row["outcome"], row["status"], row["model"]) == ("open", "interrupted", 503, "granted")
    assert (row["usage_source"], row["total_tokens"], row["endpoint_id"]) == ("none", 0, None)
    await again.close()
    assert segment_files(tmp_path / "journal") == []


async def test_old_segments_go_while_a_long_request_runs(url: Secret, open_ledger: OpenLedger, tmp_path: Path) -> None:
    """A stream of an hour must not hold back the journal of an hour; and its end still finds its beginning."""
    ledger = await open_ledger(url, segment_bytes=2_000, sync_seconds=0.01)
    ledger.admit(admission("long"))
    ledger.admit(admission("never ends"))
    for _ in range(5):
        before = segment_files(tmp_path / "journal")
        serve(ledger, 20)
        await eventually(lambda before=before: set(before).isdisjoint(segment_files(tmp_path / "journal")))  # type: ignore[misc]
    assert ledger.status().journal_bytes == sum(path.stat().st_size for path in segment_files(tmp_path / "journal"))
    ledger.settle(settlement("long"))
    await ledger.flushed(20)
    assert ledger.status().open == 1
    await ledger.close()
    await open_ledger(url)
    assert len(outcomes(url)) == 102
    assert outcomes(url)["long"] == "ok"
    assert outcomes(url)["never ends"] == "interrupted"


async def test_two_ledgers_share_directory_and_database(url: Secret, open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Workers keep journals of their own and never replay each other's while both live."""
    one, other = await open_ledger(url), await open_ledger(url)
    one.admit(admission("of one"))
    ids = serve(one, 10) + serve(other, 10)
    await asyncio.gather(one.flushed(20), other.flushed(20))
    third = await open_ledger(url)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    one.settle(settlement("of one"))
    await one.flushed(20)
    assert outcomes(url)["of one"] == "ok"
    assert len(segment_files(tmp_path / "journal")) == 3
    assert third.status().database_error is None


async def test_retention_deletes_what_is_older_and_nothing_else(url: Secret, open_ledger: OpenLedger) -> None:
    """Rows are kept for as many days as the operator says."""
    first = await open_ledger(url)
    old = serve(first, 700, time=time.time() - 31 * DAY_SECONDS)
    young = serve(first, 3, time=time.time() - 29 * DAY_SECONDS) + serve(first, 3)
    await first.close()
    assert len(stored(url)) == len(old) + len(young)
    await open_ledger(url, retention_days=30)
    await eventually(lambda: len(stored(url)) == len(young))
    assert set(outcomes(url)) == set(young)


async def test_a_row_that_the_database_never_takes_holds_up_no_other(
    url: Secret, open_ledger: OpenLedger, log_entries: list[Any]
) -> None:
    """One poisoned row would otherwise be tried for ever, with all usage waiting behind it."""
    ledger = await open_ledger(url)
    ledger.admit(admission("poison"))
    ledger.settle(settlement("poison", status=10**30))
    ids = serve(ledger, 5)
    await ledger.flushed(20)
    assert set(outcomes(url)) == set(ids)
    assert (ledger.status().refused, ledger.status().waiting) == (1, 0)
    (refusal,) = [entry for entry in log_entries[0] if entry["log_level"] == "error"]
    assert refusal["request_id"] == "poison"


async def test_nonsense_of_an_upstream_does_not_overflow_a_sum(url: Secret, open_ledger: OpenLedger) -> None:
    """Usage is what strangers report: a row of absurd or negative numbers is bounded, and reports go on working."""
    ledger = await open_ledger(url)
    for number in range(3):
        ledger.admit(admission(str(number), time=0))
        ledger.settle(settlement(str(number), total_tokens=2**63 - 1, prompt_tokens=-5, cost_nano=10**40))
    await ledger.flushed(20)
    day = datetime.fromtimestamp(0, UTC).date()
    totals = (await ledger.reader.report(UsageQuery(day, day))).totals
    assert (totals.tokens, totals.prompt_tokens, totals.cost) == (3 * 10**12, 0, 3_000_000)


# -- the database is not there


async def test_a_locked_sqlite_file_delays_and_loses_nothing(
    open_ledger: OpenLedger, log_entries: list[Any], tmp_path: Path
) -> None:
    """Another process holds the file for a while: requests are served, and everything arrives later."""
    url = sqlite_url(tmp_path / "usage.db")
    ledger = await open_ledger(url)
    with program("hold_lock.py", tmp_path / "usage.db") as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"locked\n"
        ids = serve(ledger, 300)
        await eventually(lambda: ledger.status().database_error)
        assert "locked" in str(ledger.status().database_error)
        assert ledger.status().waiting == 300
        ids += serve(ledger, 300)
        holder.stdin.close()
    await ledger.flushed(20)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    assert ledger.status().is_well
    events = [entry["event"] for entry in log_entries[0] if "database" in entry["event"]]
    assert events == [
        "the ledger's database does not take the usage; the journal keeps it",
        "the ledger's database is back",
    ]


async def test_postgresql_may_stop_and_start_under_load(postgres: PrivatePostgres, open_ledger: OpenLedger) -> None:
    """The database dies without a word while requests run: they go on, and each is in the table once, later."""
    url = postgres.new_database()
    ledger = await open_ledger(url)
    ids: list[str] = []
    load_over = asyncio.Event()

    async def load() -> None:
        while not load_over.is_set():
            ids.extend(serve(ledger, 5))
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load())
        await eventually(lambda: len(stored(url)) > 50)
        await asyncio.to_thread(postgres.stop)
        try:
            await eventually(lambda: ledger.status().database_error)
            served = len(ids)
            await eventually(lambda: len(ids) > served + 50)
        finally:
            await asyncio.to_thread(postgres.start)
        load_over.set()
    await ledger.flushed(20)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    assert ledger.status().is_well


async def test_a_database_that_is_away_at_the_start_is_waited_for(
    postgres: PrivatePostgres, open_ledger: OpenLedger
) -> None:
    """The gateway starts and serves without its database."""
    url = postgres.new_database()
    await asyncio.to_thread(postgres.stop)
    try:
        ledger = await open_ledger(url, reached=False)
        ids = serve(ledger, 10)
        await eventually(lambda: ledger.status().database_error)
        assert not ledger.status().caught_up
    finally:
        await asyncio.to_thread(postgres.start)
    await ledger.flushed(20)
    assert outcomes(url) == dict.fromkeys(ids, "ok")


async def test_a_close_without_the_database_keeps_the_journal(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """A stop does not wait for a database that is away; the next start brings what was left."""
    away = Secret("postgresql://gateway@127.0.0.1:1/usage")
    ledger = await open_ledger(away, reached=False)
    ids = serve(ledger, 10)
    await ledger.close()
    url = sqlite_url(tmp_path / "usage.db")
    await open_ledger(url)
    assert outcomes(url) == dict.fromkeys(ids, "ok")


async def test_memory_stays_bounded_while_the_database_is_away(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """The journal is what grows, up to its bound: then requests are refused, after warnings well before."""
    log, entries = capturing_log()
    ledger = Ledger.open(
        Secret("postgresql://gateway@127.0.0.1:1/usage"),
        tmp_path / "journal",
        log=log,
        max_journal_bytes=20_000,
        sync_seconds=0.01,
    )

    def warnings() -> list[int]:
        return [entry["percent"] for entry in entries if entry["log_level"] == "warning"]

    while ledger.status().journal_bytes < 11_000:
        serve(ledger)
    await eventually(lambda: len(warnings()) == 1)
    while ledger.status().journal_bytes < 17_000:
        serve(ledger)
    await eventually(lambda: len(warnings()) == 2)
    with pytest.raises(JournalUnavailable):
        serve(ledger, 1_000)
    assert 50 <= warnings()[0] < 80 <= warnings()[1]
    await ledger.close()


async def test_a_disk_that_fills_up_loses_no_usage() -> None:
    """Nothing more is admitted; what was under way is settled from memory once there is room again."""
    with program("full_disk_ledger.py") as child:
        answer, _ = await asyncio.to_thread(child.communicate, timeout=40)
    assert child.returncode == 0
    assert answer.decode().split("\n") == ["refused", "waiting 50", "in memory 0, well True", "{'ok': 50}", ""]


# -- what is configured


async def test_passwords_are_in_no_error_log_or_repr(open_ledger: OpenLedger, log_entries: list[Any]) -> None:
    """The database's URL holds a password: nothing that the ledger writes may."""
    ledger = await open_ledger(Secret("postgresql://gw:hunter2secret@127.0.0.1:1/usage"), reached=False)
    await eventually(lambda: ledger.status().database_error)
    written = f"{log_entries} {ledger!r} {ledger.status()}"
    assert "127.0.0.1" in written
    assert "hunter2secret" not in written


async def test_a_url_that_cannot_be_read_is_told_without_its_text(open_ledger: OpenLedger) -> None:
    """The library's own message would quote the URL."""
    ledger = await open_ledger(Secret("postgresql://gw:hunter2secret@127.0.0.1:port/usage"), reached=False)
    await eventually(lambda: ledger.status().database_error)
    assert ledger.status().database_error == "the URL of the ledger's database cannot be read"


async def test_a_driver_that_is_not_ours_is_refused_at_the_start(tmp_path: Path) -> None:
    """Deadlines reach under the driver: one that nobody has tried them with is none."""
    with pytest.raises(LedgerUnusable, match=r"reached by postgresql\+psycopg alone, not by postgresql\+asyncpg"):
        Ledger.open(Secret("postgresql+asyncpg://host/usage"), tmp_path / "journal", log=capturing_log()[0])


@pytest.mark.parametrize("url", ["oracle://host/usage", "nonsense"])
async def test_a_database_of_another_kind_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    """What cannot work must not look as if the database were merely away."""
    with pytest.raises(LedgerUnusable, match="must be one of sqlite, postgresql, mysql, mariadb"):
        Ledger.open(Secret(url), tmp_path / "journal", log=capturing_log()[0])


async def test_a_missing_driver_is_told_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default install has no driver for MariaDB; the message says which extra brings it."""
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(LedgerUnusable, match=r"pip install 'ecli-gateway\[mysql\]'"):
        Ledger.open(Secret("mariadb://host/usage"), tmp_path / "journal", log=capturing_log()[0])


async def test_a_table_of_a_newer_gateway_is_not_written_to(url: Secret, open_ledger: OpenLedger) -> None:
    """After a downgrade the journal waits, rather than rows being written that the newer one would misread."""
    first = await open_ledger(url)
    await first.close()
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("update ai_usage_schema set version = 99"))
    engine.dispose()
    ledger = await open_ledger(url, reached=False)
    serve(ledger, 3)
    await eventually(lambda: ledger.status().database_error)
    assert "of version 99" in str(ledger.status().database_error)
    assert stored(url) == []


async def test_it_has_caught_up_once_all_that_was_left_is_stored(open_ledger: OpenLedger, tmp_path: Path) -> None:
    """Not when the database has answered first: a report would lack what is still being replayed."""
    ledger = await open_ledger(Secret("postgresql://gateway@127.0.0.1:1/usage"), reached=False)
    ids = serve(ledger, 5_000)
    await ledger.close()
    url = sqlite_url(tmp_path / "usage.db")
    ledger = await open_ledger(url, reached=False)
    await eventually(lambda: ledger.status().caught_up)
    assert outcomes(url) == dict.fromkeys(ids, "ok")


async def test_a_database_too_slow_for_a_large_transaction_gets_smaller_ones(
    open_ledger: OpenLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until one is within its deadline; the same batch over and over would fill the journal."""
    url, insert, sizes = sqlite_url(tmp_path / "usage.db"), Store.insert, list[int]()

    def insert_few(store: Store, rows: Any, rest: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 300:
            raise TimeoutError("the database takes too long")
        return insert(store, rows, rest)

    monkeypatch.setattr(Store, "insert", insert_few)
    monkeypatch.setattr("gateway.usage.writer.MOST_BACK_OFF_SECONDS", 0.05)
    ledger = await open_ledger(url, reached=False)
    ids = serve(ledger, 1_000)
    await ledger.flushed(30)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    assert max(sizes) > 300
