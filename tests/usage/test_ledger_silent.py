"""A database that falls silent: it keeps its connections and says nothing, as one that is frozen or cut off does.

No driver gives up on such a server by itself, so every wait for it is bounded on our side.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import psycopg
import pytest
from kit.mariadb import PrivateMariaDB
from kit.postgres import PrivatePostgres
from ledgerkit import OpenLedger, eventually, outcomes, segment_files, serve

from gateway.errors import QueryFailed
from gateway.types import Secret
from gateway.usage import Ledger, UsageQuery
from gateway.usage.sql.reader import Reader
from gateway.usage.upkeep import PING_SECONDS

Server = PrivatePostgres | PrivateMariaDB

EVER = UsageQuery(date.min, date.max)
SECONDS = 9.0  # to find a connection dead and the server silent takes five, a query of its own eleven


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server = request.getfixturevalue(request.param)
    yield server
    server.thaw()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


async def test_reports_fail_within_seconds_and_come_back(server: Server, open_ledger: OpenLedger) -> None:
    """One after another and many at once, with connections of before and new ones; then all is as it was."""
    ledger = await open_ledger(server.new_database())
    serve(ledger, 3)
    await ledger.flushed(20)
    assert (await ledger.reader.report(EVER)).totals.requests == 3
    server.freeze()
    with within(SECONDS), pytest.raises(QueryFailed):
        await ledger.reader.report(EVER)
    with within(SECONDS), pytest.raises(QueryFailed):
        [record async for record in ledger.reader.export(EVER)]
    with within(SECONDS), pytest.raises(QueryFailed):
        await ledger.reader.counted_on("user:42", 0)
    with within(2 * SECONDS):
        crowd = [ledger.reader.report(EVER, whose=str(number)) for number in range(20)]
        assert {type(each) for each in await asyncio.gather(*crowd, return_exceptions=True)} == {QueryFailed}
    server.thaw()
    assert (await ledger.reader.report(EVER)).totals.requests == 3


async def test_what_is_settled_meanwhile_arrives_once(server: Server, open_ledger: OpenLedger) -> None:
    """The journal takes it at once; the writer does not wait for ever, and finds its way back by itself."""
    url = server.new_database()
    ledger = await open_ledger(url)
    ids = serve(ledger, 20)
    await ledger.flushed(20)
    server.freeze()
    with within(2.0):
        ids += serve(ledger, 200)
    await eventually(lambda: ledger.status().database_error)
    ids += serve(ledger, 20)
    server.thaw()
    await ledger.flushed(60)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    assert ledger.status().is_well


async def test_silence_is_noticed_while_nothing_is_stored(server: Server, open_ledger: OpenLedger) -> None:
    """An idle gateway would say that all is well until the first request after its database went."""
    ledger = await open_ledger(server.new_database())
    server.freeze()
    await eventually(lambda: ledger.status().database_error)
    server.thaw()
    await eventually(lambda: ledger.status().is_well)
    assert PING_SECONDS <= 5


async def test_a_stop_does_not_wait_for_it(server: Server, open_ledger: OpenLedger) -> None:
    """With a report and a flush under way: the process goes, and the next one brings in what it left."""
    url = server.new_database()
    ledger = await open_ledger(url)
    await ledger.flushed(20)
    await ledger.reader.report(EVER)
    server.freeze()
    ids = serve(ledger, 10)
    asked = asyncio.ensure_future(ledger.reader.report(EVER))
    await asyncio.sleep(0)
    with within(SECONDS):
        await ledger.close(seconds=1)
    with within(SECONDS), pytest.raises(QueryFailed):
        await asked
    server.thaw()
    after = await open_ledger(url)
    assert outcomes(url) == dict.fromkeys(ids, "ok")
    await after.close()
    assert segment_files(after._journal.segments.directory) == []


async def test_a_stop_ends_what_is_being_stored(postgres: PrivatePostgres, open_ledger: OpenLedger) -> None:
    """Somebody holds a lock for longer than the stop may take: no thread stays behind, and no row is lost."""
    url = postgres.new_database()
    ledger = await open_ledger(url)
    with psycopg.connect(url.reveal()) as other:
        other.execute("lock table ai_usage in access exclusive mode")
        ids = serve(ledger, 3)
        waiting = "select count(*) from pg_locks where not granted"
        await eventually(lambda: other.execute(waiting).fetchone() == (1,))
        await ledger.close(seconds=0.2)
        assert not ledger._writer._thread.is_alive()
    await open_ledger(url)
    assert outcomes(url) == dict.fromkeys(ids, "ok")


async def test_who_leaves_ends_the_query(server: Server, open_ledger: OpenLedger) -> None:
    """A thread that still worked for somebody who has gone would be missing to the others."""
    ledger = await open_ledger(server.new_database())
    await ledger.reader.report(EVER)
    server.freeze()
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ledger.reader.report(EVER), 0.05)
    server.thaw()
    with within(SECONDS):
        assert (await ledger.reader.report(EVER)).totals.requests == 0


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb", "mysql"])
async def test_a_greeting_that_never_comes(scheme: str) -> None:
    """Something listens, and it is no database: connecting has its bound, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = Reader(Secret(f"{scheme}://gw:hunter2secret@127.0.0.1:{listener.getsockname()[1]}/usage"))
        with within(SECONDS), pytest.raises(QueryFailed) as failed:
            await reader.report(EVER)
        assert "hunter2secret" not in str(failed.value)
        await reader.close()


async def test_a_wait_that_is_given_up_is_forgotten(server: Server, open_ledger: OpenLedger) -> None:
    """While a database is away for minutes each request under a limit asks for it; none may leave anything behind."""
    ledger: Ledger = await open_ledger(server.new_database())
    server.freeze()
    serve(ledger)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await ledger.flushed(0.05)
    assert ledger._writer._waiters == []
