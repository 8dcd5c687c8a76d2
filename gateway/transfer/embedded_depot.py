"""The files of an embedded store, read and written in bulk.

Either under the gateway's lock, so that none can start meanwhile, or as they are at one moment, beside a gateway that
runs.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeVar

from gateway.config.private_files import make_private_database
from gateway.errors import ConfigError, StoreUnavailable
from gateway.store.base import MOST_AUDIT_ENTRIES
from gateway.store.embedded import BUSY_SECONDS, FILE_NAME, locked
from gateway.transfer.entries import AT_A_TIME, Entry
from gateway.transfer.tables import SCHEMAS, TABLE_OF, TABLES, Table, without_lifetime

Access = Literal["beside", "alone", "make"]
_NO_TABLE = "no such table"
_Result = TypeVar("_Result")


class EmbeddedDepot:
    """A `Depot` in a directory.

    `access`: "beside" a gateway, to read only; "alone", under its lock; "make": alone, and made where it is not there.
    """

    def __init__(self, directory: Path, access: Access, *, epoch: Callable[[], float] = time.time) -> None:
        """Raise StoreUnavailable where there is none, or it is in use."""
        self._directory = directory
        self._epoch = epoch
        self._is_read_only = access == "beside"
        if access != "make" and not (directory / FILE_NAME).exists():
            raise StoreUnavailable(f"There is no embedded store in {directory}: it has no {FILE_NAME}.")
        with ExitStack() as opened, self._explained():
            if not self._is_read_only:
                opened.callback(os.close, _locked(directory))
            self._files = {name: opened.enter_context(closing(self._opened(name))) for name in SCHEMAS}
            self._open = opened.pop_all()

    @property
    def name(self) -> str:
        return f"the embedded store in {self._directory}"

    def _opened(self, name: str) -> sqlite3.Connection:
        file = self._directory / name
        if not self._is_read_only:
            make_private_database(file)
            database = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(SCHEMAS[name])
            return database
        if not file.exists():
            return sqlite3.connect(":memory:")
        database = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        database.execute("BEGIN")  # all that is read is of one moment
        database.execute("SELECT count(*) FROM sqlite_master")
        return database

    async def batches(self) -> AsyncIterator[list[Entry]]:
        now = self._epoch()
        for table in TABLES:
            after: str | None = None
            while batch := self._page(table, after, now):
                yield batch
                after = batch[-1].id

    def _page(self, table: Table, after: str | None, now: float) -> list[Entry]:
        return self._asked(table, lambda database: table.page(database, after, AT_A_TIME, now), [])

    async def get(self, entries: Sequence[Entry]) -> list[Entry | None]:
        found: dict[tuple[str, str], Entry] = {}
        for table, part in _by_table(entries):
            nothing: dict[str, Entry] = {}
            there = self._asked(table, partial(table.find, ids=[each.id for each in part], now=self._epoch()), nothing)
            found |= {(table.kind, each): entry for each, entry in there.items()}
        return [found.get((each.kind, each.id)) for each in entries]

    async def put(self, entries: Sequence[Entry]) -> None:
        for table, part in _by_table(entries):
            with self._writing(table.file) as database:
                table.write(database, part)

    async def delete(self, entries: Sequence[Entry]) -> None:
        for table, part in _by_table(entries):
            with self._writing(table.file) as database:
                table.delete(database, [each.id for each in part])

    async def count(self) -> int:
        return sum(self._asked(table, partial(table.total, now=self._epoch()), 0) for table in TABLES)

    def stored(self, entry: Entry) -> Entry:
        return without_lifetime(entry) if TABLE_OF[entry.kind].file == FILE_NAME else entry

    async def audit(self) -> list[bytes]:
        with self._explained():
            query = "SELECT entry FROM audit ORDER BY position DESC LIMIT ?"
            return [row[0] for row in self._files[FILE_NAME].execute(query, (MOST_AUDIT_ENTRIES,))]

    async def set_audit(self, entries: Sequence[bytes], instead_of: Sequence[bytes]) -> bool:
        with self._writing(FILE_NAME) as database:
            database.execute("DELETE FROM audit")
            database.executemany("INSERT INTO audit (entry) VALUES (?)", [(each,) for each in reversed(entries)])
        return True

    async def close(self) -> None:
        self._open.close()

    def _asked(self, table: Table, query: Callable[[sqlite3.Connection], _Result], nothing: _Result) -> _Result:
        """Ask the table; `nothing` where an older gateway has not made it."""
        with self._explained():
            try:
                return query(self._files[table.file])
            except sqlite3.OperationalError as error:
                if self._is_read_only and str(error).startswith(_NO_TABLE):
                    return nothing
                raise

    @contextmanager
    def _writing(self, file: str) -> Iterator[sqlite3.Connection]:
        database = self._files[file]
        with self._explained():
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.rollback()
                raise
            database.commit()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            hint = "" if os.access(self._directory, os.W_OK) else "; it belongs to the user that runs the gateway"
            raise StoreUnavailable(f"The embedded store in {self._directory} cannot be used: {reason}{hint}.") from None

    def __repr__(self) -> str:
        return f"<EmbeddedDepot in {self._directory}>"


def _locked(directory: Path) -> int:
    try:
        return locked(directory)
    except ConfigError as error:
        (reason,) = error.problems
        if "in use" not in reason:
            raise StoreUnavailable(f"{reason}.") from None
        raise StoreUnavailable(
            f"A gateway holds the embedded store in {directory}: stop it first, so that nothing changes on the way. "
            "(`gateway store export` reads beside a running gateway.)"
        ) from None


def _by_table(entries: Sequence[Entry]) -> Iterator[tuple[Table, list[Entry]]]:
    """Entries of a kind together; most batches are of one."""
    in_order = sorted(entries, key=lambda each: each.kind)
    for kind, part in groupby(in_order, key=lambda each: each.kind):
        yield TABLE_OF[kind], list(part)
