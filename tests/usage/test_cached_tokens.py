"""Cached tokens in sums that a gateway made which knew of none: recounted from the rows, while others write."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from typing import Any

import pytest
from ledgerkit import OpenLedger, engine_of, eventually, serve, stored
from sumskit import Store, check_sums
from test_sums import EVER, roll, some_rows, totals

from gateway.types import Secret
from gateway.usage import UsageQuery
from gateway.usage.sql.database import Database
from gateway.usage.sql.migrations.runner import migrate
from gateway.usage.sql.migrations.steps import STEPS
from gateway.usage.sql.reader import Reader
from gateway.usage.sql.sums import recounting

TABLES = ("ai_usage_daily", "ai_usage_hourly", "ai_usage_blocks")


def forget_cached(url: Secret) -> None:
    """The tables as they were before: no sum knows of cached tokens, and rows say that they are in such sums."""
    engine = engine_of(url)
    with engine.begin() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN cached_tokens")
        connection.exec_driver_sql("UPDATE ai_usage SET summed = 1")
        connection.exec_driver_sql("DELETE FROM ai_usage_steps WHERE step = 14")
    engine.dispose()


def as_before(url: Secret, rows: list[dict[str, Any]]) -> None:
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(rows)
        roll(store)
    forget_cached(url)


async def test_sums_of_before_are_recounted_while_others_write(url: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, each row once, beside rows that come with theirs; nothing else changes on the way."""
    monkeypatch.setattr(recounting, "LOOKED_AT_ONCE", 20)
    written = some_rows(200)
    as_before(url, written[:150])
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        store.insert(written[150:])
        pieces, known = 0, -1
        while store.recount_some():
            pieces += 1
            found = (await reader.report(UsageQuery(*EVER))).totals
            assert (found.requests, found.cost_nano) == (totals(written).requests, totals(written).cost_nano)
            assert found.cached_tokens >= known
            known = found.cached_tokens
        assert pieces == 10
        assert not store.recount_some()
        check_sums(url)
        roll(store)
        check_sums(url)
    await reader.close()
    assert {row["summed"] for row in stored(url) if row["cached_tokens"]} == {2}


async def test_sums_of_rows_that_are_gone_say_nothing_was_cached(url: Secret) -> None:
    """What rows still tell is counted; sums without rows keep what they had."""
    written = some_rows(120)
    as_before(url, written)
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM ai_usage WHERE time_ms < {written[50]['time_ms']}")
    engine.dispose()
    reader = Reader(url)
    with closing(Store(url)) as store:
        store.prepare()
        while store.recount_some():
            pass
        found = (await reader.report(UsageQuery(*EVER))).totals
        assert found.requests == totals(written).requests
        assert found.cached_tokens == totals(written[50:]).cached_tokens
    await reader.close()


async def test_a_gateway_recounts_when_it_starts(url: Secret, open_ledger: OpenLedger) -> None:
    """Nobody has to ask for it, and who only reads is answered meanwhile: of a database not brought up to date, too."""
    written = some_rows(40)
    as_before(url, written)
    reader = Reader(url)
    assert (await reader.report(UsageQuery(*EVER), "user")).totals == totals(written), "from the rows"
    await reader.close()
    ledger = await open_ledger(url)
    serve(ledger, 2)
    await ledger.flushed(20)
    await eventually(lambda: {row["summed"] for row in stored(url) if row["cached_tokens"]} == {2})
    at_the_start = await ledger.reader.report(UsageQuery(date(2027, 12, 31), date(2028, 1, 1)), "day")
    assert at_the_start.totals == totals(written)


def test_a_new_database_has_nothing_to_recount(url: Secret) -> None:
    database = Database(url, read_only=False, statement_seconds=15)
    migrate(database.begin, STEPS)
    database.close()
    with closing(Store(url)) as store:
        assert not store.recount_some()
