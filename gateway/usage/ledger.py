"""The ledger: journal, keeper, writer and reader in one.

Opened in each process after the last `fork`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.types import Id, Secret, id_text
from gateway.usage.journal.journal import MOST_FINISHED, Journal
from gateway.usage.journal.keeper import Keeper
from gateway.usage.journal.own_segments import SEGMENT_BYTES
from gateway.usage.sql.drivers import check_driver
from gateway.usage.sql.rows import id_of
from gateway.usage.writer import LedgerWriter

if TYPE_CHECKING:
    from gateway.usage.sql.reader import Reader
    from gateway.usage.sql.rows_store import Store

MAX_JOURNAL_BYTES = 1024 * 1024 * 1024
SYNC_SECONDS = 1.0
CLOSE_SECONDS = 5.0

WhenUnwritable = Literal["refuse", "serve"]


class LedgerStatus(msgspec.Struct, frozen=True):
    """The ledger's status, without secrets.

    For readiness, metrics and people.
    """

    journal_bytes: int
    journal_max_bytes: int
    journal_error: str | None  # why the last write failed; None where it did not
    waiting: int  # settled, not yet in the database
    open: int  # admitted, not yet settled
    in_memory: int  # settled while the disk refused: lost if the process dies now
    caught_up: bool  # whether the database has had what processes now dead left behind
    database_error: str | None  # why the last try failed; None where it did not
    lost: int  # records that neither the disk nor memory took
    refused: int  # rows that the database will never take
    damaged: int  # stretches of journals that the disk did not give back as they were written
    refusing: bool = False  # the journal takes no records, and no request is served without one

    @property
    def is_well(self) -> bool:
        return self.journal_error is None and self.database_error is None and not self.refusing


class Ledger:
    """The durable record of usage.

    `admit` and `settle` are for the event loop's thread and cost a write each.
    """

    def __init__(
        self,
        url: Secret,
        journal: Journal,
        keeper: Keeper,
        writer: LedgerWriter,
        *,
        refuses: bool,
        latest_url: Callable[[], Secret] | None = None,
    ) -> None:
        self.admit = journal.admit  # before the upstream is asked; raises JournalUnavailable: then it must not be
        self.settle = journal.settle  # before the answer's last byte goes out; while the disk refuses, memory keeps it
        self.defer, self.book = journal.defer, journal.book  # of work that goes on after its request
        self._url, self._latest_url = url, latest_url
        self._journal = journal
        self._keeper = keeper
        self._writer = writer
        self._refuses = refuses
        self._reader: Reader | None = None

    @classmethod
    def open(
        cls,
        url: Secret,
        journal_directory: Path,
        *,
        log: FilteringBoundLogger,
        retention_days: int | None = None,
        sums_retention_days: int | None = None,
        max_journal_bytes: int = MAX_JOURNAL_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        sync_seconds: float | None = SYNC_SECONDS,
        when_unwritable: WhenUnwritable = "refuse",
        most_in_memory: int = MOST_FINISHED,
        latest_url: Callable[[], Secret] | None = None,
    ) -> Ledger:
        """Open the journal and start the threads.

        The database is reached when it can be.

        `sync_seconds`: how often the disk is told to keep the journal, the most that a loss of power may cost; 0 tells
        it for each record, None leaves it to the system. `when_unwritable`: whether requests are refused or served
        while the journal cannot be written. `most_in_memory`: how many finished rows wait for the database in memory;
        more are read back from the journal. `latest_url`: the present one, whose login is taken. Raises LedgerUnusable
        and JournalUnavailable.
        """
        check_driver(url)
        journal = Journal(
            journal_directory,
            max_bytes=max_journal_bytes,
            segment_bytes=segment_bytes,
            most_finished=most_in_memory,
            sync_each=sync_seconds == 0,
            serves_on=when_unwritable == "serve",
        )
        writer = LedgerWriter(
            journal,
            _store_of(url, latest_url),
            log,
            retention_days=retention_days,
            sums_retention_days=sums_retention_days,
        )
        keeper = Keeper(journal, log, sync_seconds=sync_seconds)
        writer.start()
        keeper.start()
        return cls(url, journal, keeper, writer, refuses=when_unwritable == "refuse", latest_url=latest_url)

    async def flushed(self, seconds: float | None = None) -> None:
        """Wait until everything settled is in the database.

        Settled before, here or by processes now dead.

        Raises TimeoutError.
        """
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

        self._writer.after_next_round(notify)
        try:
            async with asyncio.timeout(seconds):
                await done.wait()
        finally:
            self._writer.forget(notify)

    @property
    def reader(self) -> Reader:
        """Return the reader of usage queries.

        Loads the database's libraries, if the writer has not done so yet.
        """
        if self._reader is None:
            from gateway.usage.sql.reader import Reader

            self._reader = Reader(self._url, latest=self._latest_url)
        return self._reader

    @property
    def is_migrating(self) -> bool:
        """Whether tables of an older release are brought up to date."""
        return self._writer.is_migrating

    def take_replayed(self) -> list[tuple[str | None, Id]]:
        """Return what rows of dead processes count in, since asked last.

        Their limiter's scope, and their key.
        """
        found, self._writer.replayed = self._writer.replayed, set()
        return [(None if scope is None else id_text(id_of(scope)), id_of(key)) for scope, key in found]

    def status(self) -> LedgerStatus:
        return LedgerStatus(
            journal_bytes=self._journal.segments.used_bytes,
            journal_max_bytes=self._journal.max_bytes,
            journal_error=self._journal.error,
            waiting=max(0, self._journal.settled_rows - self._writer.moved_rows - self._journal.lost_lines),
            open=len(self._journal.open),
            in_memory=self._journal.retained(),
            caught_up=self._writer.has_caught_up,
            database_error=self._writer.last_error,
            lost=self._journal.lost_lines,
            refused=self._writer.refused_rows,
            damaged=self._writer.damaged_records,
            refusing=self._refuses and not self._journal.admits,
        )

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Store what it can within the time.

        The rest stays in the journal, for the next process to replay.
        """
        if self._reader is not None:
            await self._reader.close()
        await asyncio.to_thread(self._close_threads, seconds)

    def _close_threads(self, seconds: float) -> None:
        self._keeper.stop()
        is_done = self._writer.stop(seconds)
        self._journal.segments.close(keep=not is_done)

    def __repr__(self) -> str:
        return f"<Ledger {self._journal!r}, {self._writer.moved_rows} rows stored>"


def _store_of(url: Secret, latest: Callable[[], Secret] | None) -> Callable[[], Store]:
    def open_store() -> Store:
        is_new = "sqlalchemy" not in sys.modules
        # SQLAlchemy takes a quarter of a second, the reader 40 ms: not the event loop's.
        from gateway.usage.sql.rows_store import Store

        import_module("gateway.usage.sql.reader")
        if is_new:
            gc.freeze()  # it stays: no look for garbage need pass over its 24,000 objects
        return Store(url, latest)

    return open_store
