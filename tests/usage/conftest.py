"""A ledger on a database of its own, SQLite's, PostgreSQL's and MariaDB's alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.mariadb import PrivateMariaDB, private_mariadb
from kit.postgres import PrivatePostgres, private_postgres
from ledgerkit import OpenLedger, capturing_log, sqlite_url

from gateway.types import Secret
from gateway.usage import Ledger

PATIENCE_SECONDS = 100  # after 200 kills there is much to replay


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    with private_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[PrivateMariaDB]:
    with private_mariadb() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Secret:
    """`mysql://` is what a MariaDB server is called as well."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "usage.db")
    if request.param == "postgresql":
        postgres: PrivatePostgres = request.getfixturevalue("postgres")
        return postgres.new_database()
    mariadb: PrivateMariaDB = request.getfixturevalue("mariadb")
    return mariadb.new_database(request.param)


@pytest.fixture
def log_entries() -> list[Any]:
    return []


@pytest.fixture
async def open_ledger(tmp_path: Path, log_entries: list[Any]) -> AsyncIterator[OpenLedger]:
    """Opens ledgers on one journal directory; closes what the test has left open."""
    opened: list[Ledger] = []

    async def open_one(url: Secret, *, reached: bool = True, **settings: Any) -> Ledger:
        log, entries = capturing_log()
        ledger = Ledger.open(url, tmp_path / "journal", log=log, **settings)
        opened.append(ledger)
        if reached:
            await ledger.flushed(PATIENCE_SECONDS)
        log_entries.append(entries)
        return ledger

    yield open_one
    for ledger in opened:
        await ledger.close()
