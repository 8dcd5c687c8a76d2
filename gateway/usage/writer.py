"""The writer: a thread that brings settled rows to the database.

The event loop never waits for it, and never wakes it: it looks twice a second. It works in small helpings and rests
between them, because the interpreter runs one thread at a time, and the loop's requests go first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from gateway.errors import JournalUnavailable, LedgerUnusable
from gateway.usage.following import Following
from gateway.usage.handover import Handover
from gateway.usage.journal.journal import Journal, to_line
from gateway.usage.journal.pairing import carried
from gateway.usage.journal.records import Admission
from gateway.usage.journal.replay import Replayed, replay_abandoned
from gateway.usage.journal.segments import Segment
from gateway.usage.sql.rows import Row
from gateway.usage.upkeep import Upkeep

if TYPE_CHECKING:
    from gateway.usage.sql.rows_store import Store

FLUSH_SECONDS = 0.5
MOST_BACK_OFF_SECONDS = 5.0
REPLAY_SECONDS = 30  # between looks for journals of processes that have died meanwhile
_CUT_SECONDS = 1.0  # for a query that was cut to end
_REST_SECONDS = 0.0005
_HELPING_ROWS = 200  # a quarter of a millisecond of the interpreter's time
BATCH_ROWS = 5_000  # a transaction; each costs a page of every index for every user in it, and a sum of every key
_LEAST_BATCH_ROWS = 100  # where larger ones fail
_CARRIED_AT_ONCE = 100
_MOST_REPLAYED = 20_000  # counters


class LedgerWriter:
    """Write settled rows from a thread of its own.

    `open_store` is called on that thread, so that the event loop never waits for the database's libraries to load.
    """

    def __init__(
        self,
        journal: Journal,
        open_store: Callable[[], Store],
        log: FilteringBoundLogger,
        *,
        retention_days: int | None = None,
        sums_retention_days: int | None = None,
    ) -> None:
        self.moved_rows = 0
        self.refused_rows = 0
        self.damaged_records = 0
        self.last_error: str | None = None  # None while the database answers
        self.has_caught_up = False  # whether what processes now dead have left is stored, once
        self.replayed: set[tuple[str | None, str]] = set()  # what rows of dead processes count in, as stored
        self._journal = journal
        self._handover = Handover(journal)
        self._following = Following(journal, self._handover)
        self._open_store = open_store
        self._store: Store | None = None
        self._is_prepared = False
        self._log = log
        self._upkeep = Upkeep(retention_days, sums_retention_days)
        self._rows: list[Row] = []  # completed, not yet stored
        self._batch_rows = BATCH_ROWS
        self._replay_at = self._away_since = 0.0
        self._wake = threading.Event()
        self._stopping = self._is_given_up = False
        self._waiters_lock = threading.Lock()
        self._waiters: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_migrating(self) -> bool:
        """Whether tables are brought up to date."""
        return self._store is None or self._store.is_migrating

    def after_next_round(self, call: Callable[[], None]) -> None:
        """Call back once all that is settled is stored.

        On this thread; settled before.
        """
        with self._waiters_lock:
            self._waiters.append(call)
        self._wake.set()

    def forget(self, call: Callable[[], None]) -> None:
        """Forget a callback."""
        with self._waiters_lock, contextlib.suppress(ValueError):
            self._waiters.remove(call)

    def stop(self, seconds: float) -> bool:
        """Store what it can in time; True if nothing is left.

        Nothing more in the journal that is needed.
        """
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive() and self._store is not None:
            self._is_given_up = True
            self._store.cut()
            self._thread.join(_CUT_SECONDS)
        if self._thread.is_alive() or self.last_error is not None:
            return False
        return self._handover.is_empty and not self._following.found_damage

    # -- the thread

    def _run(self) -> None:
        back_off_seconds = FLUSH_SECONDS
        # A gateway that starts is about to listen: the database's libraries would take the interpreter from it.
        self._wake.wait(FLUSH_SECONDS)
        while True:
            stopping = self._stopping
            back_off_seconds = FLUSH_SECONDS if self._round() else min(back_off_seconds * 2, MOST_BACK_OFF_SECONDS)
            if stopping or self._is_given_up:
                break
            self._wake.wait(back_off_seconds)
            self._wake.clear()
        if self._store is not None:
            self._store.close()

    def _round(self) -> bool:
        """Store everything that is settled; False where it could not.

        Nothing is lost then.
        """
        with self._waiters_lock:
            waiters, self._waiters = self._waiters, []
        try:
            store = self._ready_store()
            self._move(store)
            self._replay(store)
            self.has_caught_up = True
            while waiters:
                waiters.pop()()
            if not self._stopping and self._upkeep.go_on(store, lambda: bool(self._waiters) or self._stopping):
                self._wake.set()
        except Exception as error:  # whatever it is, the rows must still arrive: told, and tried again
            self._failed(error)
            with self._waiters_lock:
                self._waiters = waiters + self._waiters
            return False
        self._succeeded()
        return True

    def _ready_store(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        if not self._is_prepared:
            self._store.prepare()
            self._is_prepared = True
        return self._store

    def _failed(self, error: Exception) -> None:
        reason = self._store.describe(error) if self._store is not None else _described(error)
        if self.last_error is None:
            self._away_since = time.monotonic()
        if reason != self.last_error:
            self._log.error("the ledger's database does not take the usage; the journal keeps it", error=reason)
        self.last_error = reason

    def _succeeded(self) -> None:
        if self.last_error is not None:
            away_seconds = round(time.monotonic() - self._away_since, 1)
            self._log.info("the ledger's database is back", away_seconds=away_seconds)
        self.last_error = None

    # -- our own rows

    def _move(self, store: Store) -> None:
        self._store_rows(store)  # those of a round that failed, before more are taken: memory stays bounded
        segments = self._journal.segments.all()
        gap = self._journal.gap  # before memory is emptied: nothing is added to it while there is one
        for _ in range(0, len(self._handover), _HELPING_ROWS):
            self._take(self._handover.take(_HELPING_ROWS), store)
        self._store_rows(store)
        if gap is not None:
            for rows in self._following.rows(gap):
                self._take(rows, store)
            self._store_rows(store)
        self._handover.drop_retained()
        for segment in segments[:-1]:
            self._retire(segment, current=segments[-1].number)

    def _take(self, rows: list[Row], store: Store) -> None:
        self._rows += rows
        if len(self._rows) >= self._batch_rows:
            self._store_rows(store)
        elif rows:
            _rest()

    def _store_rows(self, store: Store) -> None:
        """Store the rows in transactions, which a database that fails gets ever smaller.

        It may be too slow for one so large.
        """
        while self._rows:
            rows = self._rows[: self._batch_rows]
            try:
                refused = store.insert(rows, _rest)
            except Exception:
                self._batch_rows = max(_LEAST_BATCH_ROWS, self._batch_rows // 2)
                raise
            self._batch_rows = min(BATCH_ROWS, self._batch_rows * 2)
            self._log_refused(store, refused)
            self.moved_rows += len(rows)
            del self._rows[: len(rows)]
            self._upkeep.has_answered()
            _rest()

    def _log_refused(self, store: Store, refused: list[tuple[Row, Exception]]) -> None:
        self.refused_rows += len(refused)
        for row, error in refused:
            self._log.error(
                "the database refuses a row of the ledger", request_id=row.request_id, error=store.describe(error)
            )

    def _retire(self, segment: Segment, *, current: int) -> None:
        """Retire a complete segment, its open admissions carried over.

        Its ends are stored.
        """
        source = self._following if self._following.is_behind else self._handover
        held_back = source.held_back_by(segment.number)
        if held_back is None:
            return  # a row of it has come after the last were stored: the next round is early enough
        try:
            self._carry(held_back)
        except JournalUnavailable:
            return  # the disk is full: the segment stays for now
        source.moved_to(current, held_back)
        damaged = self._following.damage_in(segment)
        self.damaged_records += damaged
        self._journal.segments.forget(segment)
        if damaged:
            self._log_damage(damaged, str(segment.set_aside()))
        else:
            segment.delete()

    def _carry(self, admissions: list[Admission]) -> None:
        """Repeat admissions in the newest segment, and sync it.

        Before the older ones go.
        """
        for start in range(0, len(admissions), _CARRIED_AT_ONCE):
            some = admissions[start : start + _CARRIED_AT_ONCE]
            self._journal.carry(b"".join(to_line(carried(admission)) for admission in some))
        if admissions:
            self._journal.segments.sync()

    def _log_damage(self, damaged: int, kept: str) -> None:
        self._log.error("the disk did not give a journal back as it was written", damaged=damaged, kept_as=kept)

    # -- other things that need the database

    def _replay(self, store: Store) -> None:
        if time.monotonic() < self._replay_at or self._stopping:
            return

        self._replay_at = time.monotonic() + REPLAY_SECONDS

        def insert(rows: list[Row]) -> None:
            self._log_refused(store, store.insert(rows))
            if len(self.replayed) < _MOST_REPLAYED:
                self.replayed = self.replayed | {(row.kind.counted_on, row.kind.key_id) for row in rows}
            _rest()

        try:
            for replayed in replay_abandoned(self._journal.segments.directory, self._journal.segments.owner, insert):
                self._log_replayed(replayed)
        except OSError as error:  # a file that is not ours to read must not hold up our own usage
            self._log.error("a journal cannot be replayed", error=str(error))
        except Exception:
            self._replay_at = 0.0
            raise

    def _log_replayed(self, replayed: Replayed) -> None:
        self.damaged_records += replayed.damaged
        self._log.info(
            "replayed the journal of a process that ended",
            settled=replayed.settled,
            interrupted=replayed.interrupted,
            torn=replayed.torn,
        )
        for kept in replayed.set_aside:
            self._log_damage(replayed.damaged, str(kept))


def _rest() -> None:
    """Let the event loop have the interpreter for a moment."""
    time.sleep(_REST_SECONDS)


def _described(error: Exception) -> str:
    """Describe an error before the store can.

    Until it knows what is secret, only our own words are safe.
    """
    return str(error) if isinstance(error, LedgerUnusable) else type(error).__name__
