"""Passes: records of a limited time, such as sessions and tickets.

By kind and id. Ids are hashes of secrets; the secrets themselves are stored nowhere.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from gateway.config.private_files import make_private_database, make_private_directory
from gateway.errors import StoreUnavailable

if TYPE_CHECKING:
    from gateway.redis.link import RedisLink  # only who uses it pays for loading redis-py

PassKind = Literal["session", "ticket", "jwks", "jwks-turn"]

FILE_NAME = "passes.db"
_BUSY_SECONDS = 2.0
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS passes (
    kind TEXT NOT NULL, id TEXT NOT NULL, document BLOB NOT NULL, ends REAL NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS passes_by_end ON passes (ends);
"""
_Result = TypeVar("_Result")


class Passes(Protocol):
    """A store of passes. Every method may raise StoreUnavailable."""

    async def put(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> None:
        """Keep a document for so long."""

    async def put_if_absent(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> bool:
        """Keep a document unless there is one; whether it was kept.

        Of all workers one wins.
        """

    async def renew(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> None:
        """Replace a document that is still there, for so long."""

    async def get(self, kind: PassKind, pass_id: str) -> bytes | None: ...

    async def take(self, kind: PassKind, pass_id: str) -> bytes | None:
        """Return a document and forget it, atomically for all workers."""

    async def close(self) -> None: ...


class EmbeddedPasses:
    """Passes of one process, in their own SQLite file.

    `epoch`: seconds since 1970.
    """

    def __init__(self, directory: str | Path, *, epoch: Callable[[], float] = time.time) -> None:
        self._file = Path(directory) / FILE_NAME
        self._epoch = epoch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passes")
        self._database: sqlite3.Connection | None = None  # opened by the thread, once it is needed

    async def put(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> None:
        def write(database: sqlite3.Connection) -> None:
            now = self._epoch()
            database.execute("DELETE FROM passes WHERE ends <= ?", (now,))
            database.execute(
                "INSERT OR REPLACE INTO passes VALUES (?, ?, ?, ?)", (kind, pass_id, document, now + seconds)
            )

        await self._do(write)

    async def put_if_absent(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> bool:
        def write(database: sqlite3.Connection) -> bool:
            now = self._epoch()
            database.execute("DELETE FROM passes WHERE ends <= ?", (now,))
            row = (kind, pass_id, document, now + seconds)
            return database.execute("INSERT OR IGNORE INTO passes VALUES (?, ?, ?, ?)", row).rowcount == 1

        return await self._do(write)

    async def renew(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> None:
        def write(database: sqlite3.Connection) -> None:
            now = self._epoch()
            query = "UPDATE passes SET document = ?, ends = ? WHERE kind = ? AND id = ? AND ends > ?"
            database.execute(query, (document, now + seconds, kind, pass_id, now))

        await self._do(write)

    async def get(self, kind: PassKind, pass_id: str) -> bytes | None:
        return await self._do(lambda database: self._found(database, kind, pass_id))

    async def take(self, kind: PassKind, pass_id: str) -> bytes | None:
        def take(database: sqlite3.Connection) -> bytes | None:
            found = self._found(database, kind, pass_id)
            database.execute("DELETE FROM passes WHERE kind = ? AND id = ?", (kind, pass_id))
            return found

        return await self._do(take)

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        if self._database is not None:
            self._database.close()

    def _found(self, database: sqlite3.Connection, kind: PassKind, pass_id: str) -> bytes | None:
        query = "SELECT document FROM passes WHERE kind = ? AND id = ? AND ends > ?"
        row: tuple[bytes] | None = database.execute(query, (kind, pass_id, self._epoch())).fetchone()
        return row[0] if row is not None else None

    async def _do(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            return work(self._opened())
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable("Sessions cannot be looked up at the moment; try again.") from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            make_private_directory(self._file.parent)
            make_private_database(self._file)
            database = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            database.executescript(_SCHEMA)
            self._database = database
        return self._database

    def __repr__(self) -> str:
        return f"<EmbeddedPasses in {self._file}>"


class RedisPasses:
    """Passes that workers and machines share."""

    def __init__(self, link: RedisLink, *, prefix: str = "gw:") -> None:
        self._link = link
        self._prefix = prefix

    async def put(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> None:
        await self._link.call("SET", self._key(kind, pass_id), document, "PX", max(1, round(seconds * 1000)))

    async def put_if_absent(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> bool:
        milliseconds = max(1, round(seconds * 1000))
        return bool(await self._link.call("SET", self._key(kind, pass_id), document, "NX", "PX", milliseconds))

    async def renew(self, kind: PassKind, pass_id: str, document: bytes, seconds: float) -> None:
        milliseconds = max(1, round(seconds * 1000))
        await self._link.call("SET", self._key(kind, pass_id), document, "XX", "PX", milliseconds)

    async def get(self, kind: PassKind, pass_id: str) -> bytes | None:
        found: bytes | None = await self._link.call("GET", self._key(kind, pass_id))
        return found

    async def take(self, kind: PassKind, pass_id: str) -> bytes | None:
        found: bytes | None = await self._link.call("GETDEL", self._key(kind, pass_id))
        return found

    async def close(self) -> None:
        """The link is its owner's."""

    def _key(self, kind: PassKind, pass_id: str) -> str:
        return f"{self._prefix}{kind}:{pass_id}"

    def __repr__(self) -> str:
        return "<RedisPasses>"
