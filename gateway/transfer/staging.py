"""The entries of a file, while they are compared and written."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence

from gateway.transfer.entries import AT_A_TIME, KINDS, Entry

_SCHEMA = """
CREATE TABLE entries (
    place INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, expires REAL, line INTEGER,
    PRIMARY KEY (place, id)
) WITHOUT ROWID
"""


class Staging:
    """A `Depot` of a file's entries, in a temporary file.

    SQLite alone can open it, and deletes it; nothing is held in memory.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._audit: list[bytes] = []
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(_SCHEMA)
        self._database.execute("BEGIN")

    @property
    def name(self) -> str:
        return self._name

    def add(self, entry: Entry, line: int) -> int | None:
        """Add an entry; return the line of an earlier same one."""
        place = KINDS.index(entry.kind)
        try:
            self._database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", (place, *entry, line))
        except sqlite3.IntegrityError:
            query = "SELECT line FROM entries WHERE place = ? AND id = ?"
            return int(self._database.execute(query, (place, entry.id)).fetchone()[0])
        return None

    def add_audit(self, entry: bytes) -> None:
        """Add an audit entry; the newest comes first."""
        self._audit.append(entry)

    async def batches(self) -> AsyncIterator[list[Entry]]:
        query = "SELECT kind, id, value, expires FROM entries WHERE (place, id) > (?, ?) ORDER BY place, id LIMIT ?"
        place, after = -1, ""
        while rows := self._database.execute(query, (place, after, AT_A_TIME)).fetchall():
            yield [Entry(*row) for row in rows]
            place, after = KINDS.index(rows[-1][0]), rows[-1][1]

    async def get(self, entries: Sequence[Entry]) -> list[Entry | None]:
        query = "SELECT kind, id, value, expires FROM entries WHERE place = ? AND id = ?"
        found = []
        for each in entries:
            row = self._database.execute(query, (KINDS.index(each.kind), each.id)).fetchone()
            found.append(None if row is None else Entry(*row))
        return found

    async def put(self, entries: Sequence[Entry]) -> None:
        raise NotImplementedError

    async def delete(self, entries: Sequence[Entry]) -> None:
        raise NotImplementedError

    async def count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM entries").fetchone()[0])

    def stored(self, entry: Entry) -> Entry:
        return entry

    async def audit(self) -> list[bytes]:
        return self._audit

    async def set_audit(self, entries: Sequence[bytes], instead_of: Sequence[bytes]) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        self._database.close()

    def __repr__(self) -> str:
        return f"<Staging of {self._name}>"
