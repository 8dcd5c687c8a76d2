"""The index in a SQLite file, for one process."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.config.private_files import make_private_database, make_private_directory
from gateway.errors import ConfigError, StoreUnavailable
from gateway.objects.backend import Slice
from gateway.objects.changes import CONTENT_SECONDS, Begin, Drop, Operation, Put, PutContent
from gateway.objects.record import ObjectRecord, Place, Unsettled, kept_seconds, merged

FILE_NAME = "objects.db"
BUSY_SECONDS = 2.0
PURGE_SECONDS = 3_600
_PURGED_AT_ONCE = 5_000
_ASKED_AT_ONCE = 500  # variables in one statement

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS objects (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, created INTEGER NOT NULL, in_lists INTEGER NOT NULL,
    expires INTEGER NOT NULL, account TEXT NOT NULL, model TEXT, final INTEGER NOT NULL, about BLOB, body BLOB
);
CREATE INDEX IF NOT EXISTS objects_in_lists ON objects (owner, kind, created, id) WHERE in_lists;
CREATE INDEX IF NOT EXISTS objects_by_expiry ON objects (expires);
CREATE TABLE IF NOT EXISTS contents (
    hash TEXT PRIMARY KEY, owner TEXT NOT NULL, account TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS homes (owner TEXT PRIMARY KEY, account TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unsettled (id TEXT PRIMARY KEY, since INTEGER NOT NULL, work BLOB NOT NULL);
"""

_WITHOUT_BODY = "id, owner, kind, created, in_lists, account, model, final, about"
_LISTED = "owner = ? AND kind = ? AND in_lists AND expires > ?"

_Result = TypeVar("_Result")
_Work = Callable[[sqlite3.Connection], _Result]
_Row = tuple[str, str, str, int, int, str, str | None, int, bytes | None]

_encode = msgspec.json.Encoder().encode
_about = msgspec.json.Decoder(dict[str, str])
_work = msgspec.json.Decoder(Unsettled)


class SqliteObjects:
    """A `Backend` in `directory`/objects.db.

    No second process may open it: the embedded store's lock is held.

    Reads go to SQLite at once (tens of microseconds, never behind a writer); writes go through one thread, and are on
    the disk when they return.
    """

    is_shared = False
    patience_seconds = 5.0

    def __init__(
        self,
        directory: str | Path,
        log: FilteringBoundLogger,
        *,
        object_days: Callable[[], int],
        epoch: Callable[[], float] = time.time,
    ) -> None:
        """Raise ConfigError where the file cannot be used."""
        self._path = Path(directory) / FILE_NAME
        self._log = log
        self._object_days = object_days
        self._epoch = epoch
        self._purge_at = 0.0
        with ExitStack() as opened:
            try:
                make_private_directory(self._path.parent)
                make_private_database(self._path)
                self._reader = opened.enter_context(closing(self._connect()))
                self._writer = opened.enter_context(closing(self._connect()))
            except (sqlite3.Error, OSError) as error:
                raise ConfigError([f"store.path: {self._path}: {error}"]) from None
            self._files = opened.pop_all()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="objects")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @property
    def is_settling(self) -> bool:
        """There is no other worker."""
        return False

    def on_back(self, listener: Callable[[], None]) -> None:
        """It does not go away."""

    async def apply(self, operations: Sequence[Operation]) -> list[ObjectRecord]:
        return await self._in_thread(partial(self._apply, operations=operations))

    async def get(self, ids: Collection[str]) -> dict[str, ObjectRecord]:
        return self._guarded(partial(_records, ids=list(ids), now=self._now()), self._reader)

    async def touch(self, records: Sequence[ObjectRecord]) -> None:
        days, now = self._object_days(), self._now()
        ends = [(now + kept_seconds(record.kind, days), record.id) for record in records]

        def write(database: sqlite3.Connection) -> None:
            database.executemany("UPDATE objects SET expires = ? WHERE id = ?", ends)

        await self._in_thread(write)

    async def slice(self, owner: str, kind: str, start: str | None, *, descending: bool, count: int) -> Slice | None:
        work = partial(_slice, key=(owner, kind, self._now()), start=start, descending=descending, count=count)
        return self._guarded(work, self._reader)

    async def places(self, hashes: Collection[str]) -> dict[str, Place]:
        return self._guarded(partial(_places, hashes=list(hashes), now=self._now()), self._reader)

    async def home(self, owner: str) -> str | None:
        return self._guarded(partial(_home, owner=owner), self._reader)

    async def set_home(self, owner: str, account: str, instead_of: str | None) -> str:
        def write(database: sqlite3.Connection) -> str:
            held = _home(database, owner)
            if held is not None and held != instead_of:
                return held
            database.execute("INSERT OR REPLACE INTO homes VALUES (?, ?)", (owner, account))
            return account

        return await self._in_thread(write)

    async def unsettled(self) -> list[Unsettled]:
        query = "SELECT work FROM unsettled ORDER BY since, id"
        return self._guarded(lambda database: [_work.decode(row[0]) for row in database.execute(query)], self._reader)

    async def find_unsettled(self, object_id: str) -> Unsettled | None:
        query = "SELECT work FROM unsettled WHERE id = ?"
        row = self._guarded(lambda database: database.execute(query, (object_id,)).fetchone(), self._reader)
        return None if row is None else _work.decode(row[0])

    async def take_unsettled(self, object_id: str) -> bool:
        query = "DELETE FROM unsettled WHERE id = ?"
        return await self._in_thread(lambda database: database.execute(query, (object_id,)).rowcount > 0)

    async def claim(self, holder: str, seconds: float) -> bool:
        """There is no other worker."""
        return True

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        self._files.close()

    # -- in the thread

    def _apply(self, database: sqlite3.Connection, operations: Sequence[Operation]) -> list[ObjectRecord]:
        days, now = self._object_days(), self._now()
        taken = []
        for operation in operations:
            if isinstance(operation, Put):
                if not _put(database, operation, now, now + kept_seconds(operation.record.kind, days)):
                    taken.append(operation.record)
            elif isinstance(operation, Drop):
                database.execute("DELETE FROM objects WHERE id = ? AND owner = ?", (operation.id, operation.owner))
            elif isinstance(operation, PutContent):
                _put_content(database, operation)
            else:
                _begin(database, operation)
        self._purge_if_due(database, now)
        return taken

    def _purge_if_due(self, database: sqlite3.Connection, now: int) -> None:
        """Delete what has expired, so many at a time."""
        if now < self._purge_at:
            return
        few = f"(SELECT id FROM objects WHERE expires <= ? LIMIT {_PURGED_AT_ONCE})"  # noqa: S608 - a number of ours
        gone = database.execute(f"DELETE FROM objects WHERE id IN {few}", (now,)).rowcount  # noqa: S608
        database.execute("DELETE FROM contents WHERE expires <= ?", (now,))
        self._purge_at = now + (PURGE_SECONDS if gone < _PURGED_AT_ONCE else 1)

    async def _in_thread(self, work: _Work[_Result]) -> _Result:
        whole = partial(self._guarded, partial(_in_transaction, work), self._writer)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, whole)
        except RuntimeError:  # closed
            raise StoreUnavailable("The index of objects is closed.") from None
        return await asyncio.shield(future)  # a write goes on to its end, whoever leaves

    def _guarded(self, work: _Work[_Result], database: sqlite3.Connection) -> _Result:
        try:
            return work(database)
        except sqlite3.Error as error:
            self._log.error("index of objects cannot be used", file=str(self._path), because=str(error))
            raise StoreUnavailable("The index of objects cannot be used at the moment.") from error

    def _now(self) -> int:
        return int(self._epoch())

    def __repr__(self) -> str:
        return f"<SqliteObjects in {self._path}>"


def _record(row: _Row, body: bytes | None = None) -> ObjectRecord:
    object_id, owner, kind, created, in_lists, account, model, final, about = row
    return ObjectRecord(
        id=object_id,
        owner=owner,
        kind=kind,
        created=created,
        in_lists=bool(in_lists),
        account=account,
        model=model,
        final=bool(final),
        about=_about.decode(about) if about else {},
        body=body or None,
    )


def _records(database: sqlite3.Connection, *, ids: list[str], now: int) -> dict[str, ObjectRecord]:
    found: dict[str, ObjectRecord] = {}
    for part, marks in _in_parts(ids):
        query = f"SELECT {_WITHOUT_BODY} FROM objects WHERE id IN ({marks}) AND expires > ?"  # noqa: S608
        found |= {row[0]: _record(row) for row in database.execute(query, (*part, now))}
    return found


def _in_parts(texts: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield parts that fit a statement, each with its question marks."""
    for start in range(0, len(texts), _ASKED_AT_ONCE):
        part = texts[start : start + _ASKED_AT_ONCE]
        yield part, ", ".join("?" * len(part))


def _slice(
    database: sqlite3.Connection, *, key: tuple[str, str, int], start: str | None, descending: bool, count: int
) -> Slice | None:
    beyond: tuple[object, ...] = ()
    where, direction = _LISTED, "DESC" if descending else "ASC"
    if start is not None:
        query = f"SELECT created, id FROM objects WHERE {_LISTED} AND id = ?"  # noqa: S608 - fixed texts
        cursor = database.execute(query, (*key, start)).fetchone()
        if cursor is None:
            return None
        where, beyond = f"{_LISTED} AND (created, id) {'<' if descending else '>'} (?, ?)", cursor
    query = (
        f"SELECT {_WITHOUT_BODY}, body FROM objects WHERE {where} "  # noqa: S608 - fixed texts
        f"ORDER BY created {direction}, id {direction} LIMIT ?"
    )
    records = [_record(row[:-1], row[-1]) for row in database.execute(query, (*key, *beyond, count))]
    return Slice(records, records[-1].id if len(records) == count else None)


def _places(database: sqlite3.Connection, *, hashes: list[str], now: int) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for part, marks in _in_parts(hashes):
        query = f"SELECT hash, account, owner FROM contents WHERE hash IN ({marks}) AND expires > ?"  # noqa: S608
        found |= {each: Place(account, owner) for each, account, owner in database.execute(query, (*part, now))}
    return found


def _home(database: sqlite3.Connection, owner: str) -> str | None:
    row = database.execute("SELECT account FROM homes WHERE owner = ?", (owner,)).fetchone()
    return None if row is None else str(row[0])


def _put(database: sqlite3.Connection, operation: Put, now: int, expires: int) -> bool:
    """Whether the object is its owner's now; False where it is another's."""
    new = operation.record
    query = f"SELECT {_WITHOUT_BODY}, body FROM objects WHERE id = ? AND expires > ?"  # noqa: S608 - fixed texts
    row = database.execute(query, (new.id, now)).fetchone()
    before = None if row is None else _record(row[:-1], row[-1])
    if before is not None and before.owner != new.owner:
        return False
    record = merged(before, new)
    about = _encode(record.about) if record.about else None
    values = (
        record.id,
        record.owner,
        record.kind,
        record.created or operation.at,
        record.in_lists,
        expires,
        record.account,
        record.model,
        record.final,
        about,
        record.body,
    )
    database.execute(f"INSERT OR REPLACE INTO objects VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
    return True


def _put_content(database: sqlite3.Connection, operation: PutContent) -> None:
    place, expires = operation.place, operation.at + CONTENT_SECONDS
    rows = [(each, place.owner, place.account, expires) for each in operation.hashes]
    database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", rows)


def _begin(database: sqlite3.Connection, operation: Begin) -> None:
    work = operation.work
    with suppress(sqlite3.IntegrityError):  # begun already
        database.execute("INSERT INTO unsettled VALUES (?, ?, ?)", (work.id, work.since, _encode(work)))


def _in_transaction(work: _Work[_Result], database: sqlite3.Connection) -> _Result:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = work(database)
    except BaseException:
        database.rollback()
        raise
    database.commit()
    return result
