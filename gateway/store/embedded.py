"""Run-time records in a SQLite file, for one process."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from gateway.config.private_files import make_private_database, make_private_directory, open_private
from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.base import (
    COOLDOWN_RECORDS_KEPT_SECONDS,
    KINDS,
    MOST_AUDIT_ENTRIES,
    MOST_COOLDOWN_RECORDS,
    Change,
    ChangeListener,
    CooldownListener,
    Kind,
    SharedCooldown,
    StoreStatus,
    natural_order,
    storable,
)

FILE_NAME = "gateway.db"
LOCK_NAME = "gateway.lock"
BUSY_SECONDS = 2.0
_MOST_ASKED_AT_ONCE = 500  # variables in one statement

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, id TEXT NOT NULL, document BLOB NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identity (only INTEGER PRIMARY KEY CHECK (only = 1), text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS cooldowns (position INTEGER PRIMARY KEY, epoch REAL NOT NULL, record BLOB NOT NULL);
"""

_Ids = dict[str, set[str]]
_Result = TypeVar("_Result")
_Work = Callable[[sqlite3.Connection], _Result]


class EmbeddedStore:
    """A `RecordStore` in `directory`/gateway.db, which no second process may open.

    Reads go to SQLite at once (tens of microseconds, never waiting for a writer: it is in WAL mode); writes go through
    one thread, and are on the disk when they return. Which ids there are is held in memory, so that a record which only
    gateway.yaml has costs no look at the disk. `epoch` returns seconds since 1970.
    """

    def __init__(
        self, directory: str | Path, log: FilteringBoundLogger, *, epoch: Callable[[], float] = time.time
    ) -> None:
        """Open the directory; raise ConfigError where it cannot be used.

        Or where another process holds it.
        """
        self._directory = Path(directory)
        self._log = log
        self._epoch = epoch
        self._listeners: list[ChangeListener] = []
        self._pushed: deque[bytes] = deque(maxlen=MOST_COOLDOWN_RECORDS)
        self._push: asyncio.Task[None] | None = None
        self._fault: str | None = None
        with ExitStack() as opened:
            self._reader, self._writer, self._ids, self.identity = self._open(opened)
            self._files = opened.pop_all()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grants")
        self._is_open = True

    def _open(self, opened: ExitStack) -> tuple[sqlite3.Connection, sqlite3.Connection, _Ids, str]:
        opened.callback(os.close, locked(self._directory))
        try:
            make_private_database(self._directory / FILE_NAME)
            reader = opened.enter_context(closing(self._connect()))
            writer = opened.enter_context(closing(self._connect()))
            return reader, writer, _ids(reader), _identity(writer)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError([f"store.path: {self._directory / FILE_NAME}: {error}"]) from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._directory / FILE_NAME, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @property
    def available(self) -> bool:
        return self._is_open

    @property
    def receives_changes(self) -> bool:
        return True

    def on_identity(self, listener: Callable[[str], None]) -> None:
        """It stays what it is."""

    async def start(self) -> None:
        """Nothing to begin: the file is open."""

    async def close(self) -> None:
        if not self._is_open:
            return
        if self._push is not None:
            await self._push
        self._is_open = False
        await asyncio.to_thread(self._thread.shutdown)
        self._files.close()

    def surely_lacks(self, kind: Kind, record_id: str) -> bool:
        """No other process writes: what is in the file is known here."""
        return self._is_open and storable(record_id) not in self._ids[kind]

    async def get(self, kind: Kind, record_id: str) -> bytes | None:
        return self._read(lambda database: _document(database, kind, record_id))

    async def get_many(self, kind: Kind, record_ids: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes] = {}
        for start in range(0, len(record_ids), _MOST_ASKED_AT_ONCE):
            part = record_ids[start : start + _MOST_ASKED_AT_ONCE]
            found.update(self._read(partial(_documents, kind=kind, record_ids=part)))
        return [found.get(record_id) for record_id in record_ids]

    async def ids(self, kind: Kind) -> list[str]:
        def find(database: sqlite3.Connection) -> list[str]:
            rows = database.execute("SELECT id FROM records WHERE kind = ?", (kind,))
            return sorted((row[0] for row in rows), key=natural_order)

        return await self._in_thread(find)

    async def put(self, kind: Kind, record_id: str, document: bytes) -> bytes | None:
        before, _ = await self._change(kind, record_id, lambda _: document)
        return before

    async def delete(self, kind: Kind, record_id: str) -> bytes | None:
        before, _ = await self._change(kind, record_id, lambda _: None)
        return before

    async def update(self, kind: Kind, record_id: str, change: Change) -> bytes | None:
        _, after = await self._change(kind, record_id, change)
        return after

    async def _change(self, kind: Kind, record_id: str, change: Change) -> tuple[bytes | None, bytes | None]:
        """Apply a change, and notify listeners where the documents differ.

        Once it is known what there is.
        """

        def apply(database: sqlite3.Connection) -> tuple[bytes | None, bytes | None]:
            before = _document(database, kind, record_id)
            after = change(before)
            _write(database, kind, record_id, after)
            return before, after

        def notify(change: tuple[bytes | None, bytes | None]) -> None:
            ids = self._ids[kind]
            known = storable(record_id)
            ids.discard(known) if change[1] is None else ids.add(known)
            if change[0] != change[1]:
                for listener in self._listeners:
                    listener(kind, record_id)

        return await self._in_thread(partial(_in_transaction, apply), notify)

    async def append_audit(self, entry: bytes) -> None:
        await self._in_thread(partial(_in_transaction, partial(_append, entry=entry)))

    async def audit(self, most: int) -> list[bytes]:
        query = "SELECT entry FROM audit ORDER BY position DESC LIMIT ?"
        return self._read(lambda database: [row[0] for row in database.execute(query, (most,))])

    def push_cooldown(self, record: bytes) -> None:
        self._pushed.append(record)
        if self._is_open and (self._push is None or self._push.done()):
            self._push = asyncio.get_running_loop().create_task(self._write_pushed())

    async def _write_pushed(self) -> None:
        while self._pushed:
            records = [(self._epoch(), record) for record in self._pushed]
            self._pushed.clear()
            try:
                await self._in_thread(partial(_in_transaction, partial(_push, records=records)))
            except StoreUnavailable:
                return  # it has been logged; losing records that people look at is all that follows

    async def cooldowns(self, most: int) -> list[bytes]:
        if self._push is not None:
            await self._push
        since = self._epoch() - COOLDOWN_RECORDS_KEPT_SECONDS
        query = "SELECT record FROM cooldowns WHERE epoch > ? ORDER BY position DESC LIMIT ?"
        return self._read(lambda database: [row[0] for row in database.execute(query, (since, most))])

    def share_cooldown(self, cooldown: SharedCooldown) -> None:
        """There is no other worker."""

    def on_cooldown(self, listener: CooldownListener) -> None:
        """There is no other worker."""

    def on_change(self, listener: ChangeListener) -> None:
        self._listeners.append(listener)

    def status(self) -> StoreStatus:
        return StoreStatus("embedded", self._is_open and self._fault is None, True, self._fault)

    def _read(self, work: _Work[_Result]) -> _Result:
        return self._guarded(work, self._reader)

    async def _in_thread(self, work: _Work[_Result], then: Callable[[_Result], None] | None = None) -> _Result:
        """Run in the thread; pass the result to `then` first.

        Before anyone else sees it, and also where the caller has been cancelled.
        """
        if not self._is_open:
            raise StoreUnavailable("The store is closed.")
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work, self._writer)
        if then is not None:
            future.add_done_callback(lambda done: then(done.result()) if done.exception() is None else None)
        # A cancelled request must not leave it open whether its change was heard of: the write goes on to its end.
        return await asyncio.shield(future)

    def _guarded(self, work: _Work[_Result], database: sqlite3.Connection) -> _Result:
        try:
            result = work(database)
        except sqlite3.Error as error:
            self._fault = str(error)
            self._log.error("store cannot be used", file=str(self._directory / FILE_NAME), because=str(error))
            raise StoreUnavailable("The store of run-time records cannot be used at the moment.") from error
        self._fault = None
        return result

    def __repr__(self) -> str:
        return f"<EmbeddedStore in {self._directory}>"


def _ids(database: sqlite3.Connection) -> _Ids:
    found: _Ids = {kind: set() for kind in KINDS}
    for kind, record_id in database.execute("SELECT kind, id FROM records"):
        found.setdefault(kind, set()).add(record_id)
    return found


def _identity(database: sqlite3.Connection) -> str:
    """Return the file's identity, made by whichever process opens it first."""
    database.execute("INSERT OR IGNORE INTO identity VALUES (1, lower(hex(randomblob(16))))")
    (text,) = database.execute("SELECT text FROM identity").fetchone()
    return str(text)


def locked(directory: Path) -> int:
    """Lock the file; return the descriptor that holds the lock.

    Until it is closed, by the process's end at the latest.
    """
    try:
        make_private_directory(directory)
        lock = open_private(directory / LOCK_NAME, os.O_RDWR)
    except OSError as error:
        raise ConfigError([f"store.path: {directory}: {error.strerror}"]) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        reason = "is in use by another gateway process; several need `store.kind: redis`, or a directory each"
        raise ConfigError([f"store.path: {directory} {reason}"]) from None
    return lock


def _document(database: sqlite3.Connection, kind: Kind, record_id: str) -> bytes | None:
    query = "SELECT document FROM records WHERE kind = ? AND id = ?"
    row: tuple[bytes] | None = database.execute(query, (kind, storable(record_id))).fetchone()
    return row[0] if row is not None else None


def _documents(database: sqlite3.Connection, *, kind: Kind, record_ids: Sequence[str]) -> list[tuple[str, bytes]]:
    marks = ", ".join("?" * len(record_ids))
    query = f"SELECT id, document FROM records WHERE kind = ? AND id IN ({marks})"  # noqa: S608 - question marks only
    return database.execute(query, (kind, *map(storable, record_ids))).fetchall()


def _write(database: sqlite3.Connection, kind: Kind, record_id: str, document: bytes | None) -> None:
    if document is None:
        database.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, storable(record_id)))
    else:
        database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, storable(record_id), document))


def _append(database: sqlite3.Connection, *, entry: bytes) -> None:
    database.execute("INSERT INTO audit (entry) VALUES (?)", (entry,))
    query = "DELETE FROM audit WHERE position <= (SELECT max(position) FROM audit) - ?"
    database.execute(query, (MOST_AUDIT_ENTRIES,))


def _push(database: sqlite3.Connection, *, records: list[tuple[float, bytes]]) -> None:
    database.executemany("INSERT INTO cooldowns (epoch, record) VALUES (?, ?)", records)
    query = "DELETE FROM cooldowns WHERE position <= (SELECT max(position) FROM cooldowns) - ?"
    database.execute(query, (MOST_COOLDOWN_RECORDS,))


def _in_transaction(work: _Work[_Result], database: sqlite3.Connection) -> _Result:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = work(database)
    except BaseException:
        database.rollback()
        raise
    database.commit()
    return result
