"""Keep the journal's files in order, on a thread.

Whatever the database does.
"""

from __future__ import annotations

import threading

from structlog.typing import FilteringBoundLogger

from gateway.errors import JournalUnavailable
from gateway.usage.journal.journal import Journal

_WARN_AT_PERCENT = (100, 80, 50)
LONGEST_ROUND_SECONDS = 1.0


class Keeper:
    """Sync the journal, rotate segments, append retained lines, warn.

    `sync_seconds`: how often the disk is told; None leaves it to the system (30 s or so on Linux).
    """

    def __init__(self, journal: Journal, log: FilteringBoundLogger, *, sync_seconds: float | None) -> None:
        self._journal = journal
        self._log = log
        self._syncs = bool(sync_seconds)  # at 0 each record is told by itself
        self._round_seconds = min(sync_seconds or LONGEST_ROUND_SECONDS, LONGEST_ROUND_SECONDS)
        self._logged_percent = 0
        self._logged_error: str | None = None
        self._logged_lost = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._round_seconds):
            self._round()
        self._round()

    def _round(self) -> None:
        error: str | None = None
        try:
            self._journal.retry_retained()
            self._journal.segments.rotate_if_due()
            if self._journal.error is not None:
                self._journal.probe()
            if self._syncs:
                self._journal.segments.sync()
        except JournalUnavailable as fault:
            error = str(fault)
        self._log_error(error or self._journal.error)
        self._warn_when_filling()
        self._log_lost()

    def _log_error(self, error: str | None) -> None:
        if error is not None and error != self._logged_error:
            self._log.error("the journal is in trouble", error=error)
        elif error is None and self._logged_error is not None:
            self._log.info("the journal is well again")
        self._logged_error = error

    def _warn_when_filling(self) -> None:
        percent = 100 * self._journal.segments.used_bytes // self._journal.max_bytes
        reached = next((mark for mark in _WARN_AT_PERCENT if percent >= mark), 0)
        if reached > self._logged_percent:
            self._log.warning(
                "the journal fills up because the database does not take the usage; at 100 % requests are refused",
                percent=percent,
                bytes=self._journal.segments.used_bytes,
            )
        self._logged_percent = reached

    def _log_lost(self) -> None:
        if self._journal.lost_lines > self._logged_lost:
            self._logged_lost = self._journal.lost_lines
            self._log.error("usage is lost: neither the disk nor memory took it", records=self._logged_lost)
