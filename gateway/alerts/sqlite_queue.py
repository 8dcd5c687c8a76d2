"""A queue of alerts in SQLite, for one process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.alerts.event import Event
from gateway.alerts.queue import EPISODE_SECONDS, LEASE_SECONDS, MOST_WAITING, Due, Episode
from gateway.config.private_files import make_private_database, make_private_directory
from gateway.errors import StoreUnavailable

FILE_NAME = "alerts.db"
_BUSY_SECONDS = 2.0
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS events (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL, made REAL NOT NULL, kept_until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_end ON events (kept_until);
CREATE TABLE IF NOT EXISTS due (
    receiver TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, tries INTEGER NOT NULL, PRIMARY KEY (receiver, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due_by_time ON due (receiver, at);
CREATE TABLE IF NOT EXISTS episodes (
    name TEXT PRIMARY KEY, began REAL NOT NULL, until REAL NOT NULL, worker TEXT NOT NULL, runs INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stopped (receiver TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
"""
_Result = TypeVar("_Result")


class SqliteQueue:
    """An `AlertQueue` in `directory`/alerts.db, made when it is first used."""

    def __init__(self, directory: str | Path) -> None:
        self._file = Path(directory) / FILE_NAME
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="alerts")
        self._database: sqlite3.Connection | None = None  # opened by the thread

    async def add(self, event: Event, receivers: Sequence[str], now: float) -> bool:
        return await self._do(lambda database: _added(database, event, receivers, now))

    async def begin(self, episode: Episode, event: Event, receivers: Sequence[str]) -> bool:
        def begin(database: sqlite3.Connection) -> bool:
            name, began, until, worker = episode
            found = database.execute("SELECT began, runs FROM episodes WHERE name = ?", (name,)).fetchone()
            if found is not None and found[1]:
                database.execute(
                    "UPDATE episodes SET until = max(until, ?), worker = ? WHERE name = ?", (until, worker, name)
                )
                return False
            if found is not None and 0 <= began - found[0] < EPISODE_SECONDS:
                return False
            database.execute("DELETE FROM episodes WHERE NOT runs AND began < ?", (began - EPISODE_SECONDS,))
            database.execute("INSERT OR REPLACE INTO episodes VALUES (?, ?, ?, ?, 1)", (name, began, until, worker))
            return _added(database, event, receivers, began)

        return await self._do(begin)

    async def end(self, name: str, began: float, event: Event, receivers: Sequence[str], now: float) -> bool:
        def end(database: sqlite3.Connection) -> bool:
            ended = database.execute(
                "UPDATE episodes SET runs = 0 WHERE name = ? AND began = ? AND runs", (name, began)
            ).rowcount
            return bool(ended) and _added(database, event, receivers, now)

        return await self._do(end)

    async def episodes(self) -> list[Episode]:
        query = "SELECT name, began, until, worker FROM episodes WHERE runs"
        return await self._do(lambda database: [Episode(*row) for row in database.execute(query)])

    async def claim(self, receiver: str, now: float, most: int) -> list[Due]:
        def claim(database: sqlite3.Connection) -> list[Due]:
            found = database.execute(
                "SELECT name, id, body, made, tries + 1 FROM due JOIN events USING (name)"
                " WHERE receiver = ? AND at <= ? ORDER BY at LIMIT ?",
                (receiver, now, most),
            ).fetchall()
            database.executemany(
                "UPDATE due SET at = ?, tries = tries + 1 WHERE receiver = ? AND name = ?",
                [(now + LEASE_SECONDS, receiver, row[0]) for row in found],
            )
            return [Due(*row) for row in found]

        return await self._do(claim)

    async def done(self, receiver: str, name: str) -> None:
        await self._run("DELETE FROM due WHERE receiver = ? AND name = ?", receiver, name)

    async def retry(self, receiver: str, name: str, now: float, seconds: float) -> None:
        await self._run("UPDATE due SET at = ? WHERE receiver = ? AND name = ?", now + seconds, receiver, name)

    async def hurry(self, receivers: Sequence[str], now: float) -> None:
        """What was under way ended with its process."""
        for receiver in receivers:
            await self._run("UPDATE due SET at = ? WHERE receiver = ? AND at > ?", now, receiver, now)

    async def waiting(self, receivers: Sequence[str]) -> int:
        query = f"SELECT count(*) FROM due WHERE receiver IN ({', '.join('?' * len(receivers))})"  # noqa: S608
        return await self._do(lambda database: int(database.execute(query, tuple(receivers)).fetchone()[0]))

    async def stop(self, receiver: str, fingerprint: str) -> None:
        def stop(database: sqlite3.Connection) -> None:
            database.execute("INSERT OR REPLACE INTO stopped VALUES (?, ?)", (receiver, fingerprint))
            database.execute("DELETE FROM due WHERE receiver = ?", (receiver,))

        await self._do(stop)

    async def stopped(self, receivers: Sequence[str]) -> dict[str, str]:
        found = await self._do(lambda database: dict(database.execute("SELECT receiver, fingerprint FROM stopped")))
        return {receiver: found[receiver] for receiver in receivers if receiver in found}

    async def resume(self, receiver: str) -> None:
        await self._run("DELETE FROM stopped WHERE receiver = ?", receiver)

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        if self._database is not None:
            self._database.close()

    async def _run(self, statement: str, *values: object) -> None:
        def run(database: sqlite3.Connection) -> None:
            database.execute(statement, values)

        await self._do(run)

    async def _do(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            database = self._opened()
            database.execute("BEGIN IMMEDIATE")
            try:
                result = work(database)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            return result
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable("Alerts cannot be stored at the moment.") from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            make_private_directory(self._file.parent)
            make_private_database(self._file)
            database = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                database.executescript(SCHEMA)
            except sqlite3.Error:
                database.close()
                raise
            self._database = database
        return self._database

    def __repr__(self) -> str:
        return f"<SqliteQueue in {self._file}>"


def _added(database: sqlite3.Connection, event: Event, receivers: Sequence[str], now: float) -> bool:
    database.execute("DELETE FROM due WHERE name IN (SELECT name FROM events WHERE kept_until < ?)", (now,))
    database.execute("DELETE FROM events WHERE kept_until < ?", (now,))
    fresh = database.execute(
        "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)",
        (event.name, event.id, event.body, now, event.kept_until),
    ).rowcount
    if not fresh:
        return False
    stopped = {receiver for (receiver,) in database.execute("SELECT receiver FROM stopped")}
    for receiver in receivers:
        if receiver in stopped:
            continue
        database.execute("INSERT INTO due VALUES (?, ?, ?, 0)", (receiver, event.name, now))
        database.execute(
            "DELETE FROM due WHERE receiver = ? AND name IN"
            " (SELECT name FROM due WHERE receiver = ? ORDER BY at DESC LIMIT -1 OFFSET ?)",
            (receiver, receiver, MOST_WAITING),
        )
    return True
